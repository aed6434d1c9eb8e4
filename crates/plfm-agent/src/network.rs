//! The host's end of an instance's network: a tap device, the gateway's address on it, and a route to the instance.
//!
//! ```text
//! guest eth0  <addr>/128, default via fe80::1   <-->   tap  fe80::1/64, <prefix>::1/128; route <addr>/128 dev tap
//! ```

use std::net::{IpAddr, Ipv6Addr};

use plfm_vmm::tap;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// The gateway that every guest has: it is on its own link, so all can have the same.
pub const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// MTU of the overlay network.
pub const MTU: u16 = 1420;

/// Why an instance's network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No tap device.
    #[error("cannot make the tap device {name}")]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: tap::TapError,
    },
    /// Netlink refused.
    #[error("cannot {what} of the tap device {name}")]
    Netlink {
        /// Its name.
        name: String,
        /// What was to be done.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
}

/// A tap device, removed when dropped: its addresses and routes go with it.
#[derive(Debug)]
pub struct InstanceNetwork {
    pub tap: String,
    pub address: Ipv6Addr,
}

impl Drop for InstanceNetwork {
    fn drop(&mut self) {
        if let Err(error) = tap::delete(&self.tap) {
            tracing::warn!(tap = self.tap, "cannot remove the tap device: {error}");
        }
    }
}

/// An instance's address under `prefix`, a /64, whose lower half is `suffix`.
pub fn instance_address(prefix: Ipv6Addr, suffix: [u8; 8]) -> Ipv6Addr {
    // 0 and 1 are the subnet and the host.
    with_lower_half(prefix, u64::from_be_bytes(suffix).max(2))
}

/// The host's address under `prefix`: what instances see it as.
pub fn host_address(prefix: Ipv6Addr) -> Ipv6Addr {
    with_lower_half(prefix, 1)
}

fn with_lower_half(prefix: Ipv6Addr, lower: u64) -> Ipv6Addr {
    let upper = prefix.to_bits() >> 64 << 64;
    Ipv6Addr::from_bits(upper | u128::from(lower))
}

/// Makes the tap device `name` and points it at the instance's `address`.
pub async fn create(
    name: &str,
    prefix: Ipv6Addr,
    address: Ipv6Addr,
) -> Result<InstanceNetwork, NetworkError> {
    let owned = name.to_owned();
    let source = tokio::task::spawn_blocking(move || tap::create(&owned)).await;
    if let Ok(Err(source)) = source {
        return Err(NetworkError::Tap {
            name: name.to_owned(),
            source,
        });
    }
    let network = InstanceNetwork {
        tap: name.to_owned(),
        address,
    };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
    let driver = tokio::spawn(connection);
    let configured = configure(&handle, name, prefix, address).await;
    driver.abort();
    configured.map(|()| network)
}

async fn configure(
    handle: &Handle,
    name: &str,
    prefix: Ipv6Addr,
    address: Ipv6Addr,
) -> Result<(), NetworkError> {
    let failed = |what| {
        move |source| NetworkError::Netlink {
            name: name.to_owned(),
            what,
            source: Box::new(source),
        }
    };
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap_or_default();
    let index: u32 = index
        .trim()
        .parse()
        .map_err(|_| failed("find the index")(rtnetlink::Error::RequestFailed))?;
    let up = LinkUnspec::new_with_index(index).up().mtu(u32::from(MTU)).build();
    handle
        .link()
        .change(up)
        .execute()
        .await
        .map_err(failed("bring up the link"))?;
    for (address, prefix_len) in [(GATEWAY, 64), (host_address(prefix), 128)] {
        let mut request = handle.address().add(index, IpAddr::V6(address), prefix_len);
        // Nobody else is on this link: do not wait to find out.
        request
            .message_mut()
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
        request.execute().await.map_err(failed("set the address"))?;
    }
    let route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(address, 128)
        .output_interface(index)
        .build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .map_err(failed("set the route"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_in_the_prefix_and_clear_of_the_hosts() {
        let prefix: Ipv6Addr = "fd70:6c66:6d00:7::".parse().unwrap();
        assert_eq!(
            instance_address(prefix, [0; 8]).to_string(),
            "fd70:6c66:6d00:7::2"
        );
        assert_eq!(
            instance_address(prefix, [0xff; 8]).to_string(),
            "fd70:6c66:6d00:7:ffff:ffff:ffff:ffff"
        );
    }
}
