//! The network: static IPv6 on `eth0`, by netlink; then a look whether it came out as configured.
//!
//! Requests are built with netlink-packet-route; of the answers only the error number is read. The check reads
//! `/sys/class/net` and `/proc/net`, so what is checked is the kernel's state and not our own request.

use std::net::Ipv6Addr;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressHeader, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteScope, RouteType};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use plfm_guest_protocol::{Network, Reason};

use crate::failure::StageError;
use crate::fs::{Replace, create_dir, open_dir, replace_file};

const INTERFACE: &str = "eth0";
/// `RT_TABLE_MAIN` (rtnetlink(7)).
const MAIN_TABLE: u8 = 254;
/// Message types, attributes and a flag of rtnetlink(7).
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// `NLMSG_ERROR` (netlink(7)); an acknowledgement is an error of 0.
const NLMSG_ERROR: u16 = 2;

fn net_error(what: impl std::fmt::Display, error: impl Into<std::io::Error>) -> StageError {
    StageError::os(Reason::NetConfigFailed, what, error)
}

/// Sets up the network, or only `lo` and the host name where there is none.
pub fn configure(network: Option<&Network>, instance_id: &str) -> Result<(), StageError> {
    let mut netlink = Netlink::open().map_err(|error| net_error("cannot open netlink", error))?;
    netlink
        .set_link(index_of("lo")?, None)
        .map_err(|error| net_error("cannot bring lo up", error))?;
    // Without a network's name, the instance's id as a host name is usually written.
    let hostname = network.map_or_else(
        || instance_id.to_ascii_lowercase(),
        |network| network.hostname.clone(),
    );
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|error| net_error("cannot set the host name", error))?;
    write_names(network, &hostname)?;
    let Some(network) = network else { return Ok(()) };

    // Static only: no router advertisement, no address of its own making, no waiting for duplicates.
    for (key, value) in [
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
    ] {
        let path = format!("/proc/sys/net/ipv6/conf/{INTERFACE}/{key}");
        std::fs::write(&path, value)
            .map_err(|error| net_error(format_args!("cannot write {path}"), error))?;
    }
    let index = index_of(INTERFACE)?;
    netlink
        .set_link(index, Some(network.mtu))
        .map_err(|error| net_error("cannot bring eth0 up", error))?;
    netlink
        .set_address(index, network)
        .map_err(|error| net_error("cannot set the address of eth0", error))?;
    netlink
        .set_default_route(index, network)
        .map_err(|error| net_error("cannot set the default route", error))?;
    check(network, index)
}

fn index_of(interface: &str) -> Result<u32, StageError> {
    let path = format!("/sys/class/net/{interface}/ifindex");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| net_error(format_args!("there is no interface {interface}"), error))?;
    text.trim()
        .parse()
        .map_err(|_| StageError::new(Reason::NetConfigFailed, format!("{path} holds no number")))
}

/// A request: a header of rtnetlink's and attributes. The library's own messages can carry every attribute there is,
/// and PID 1 would carry their encoders.
struct Request<Header> {
    kind: u16,
    header: Header,
    attributes: Vec<DefaultNla>,
}

impl<Header: Emitable> NetlinkSerializable for Request<Header> {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.buffer_len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Some((start, rest)) = buffer.split_at_mut_checked(self.header.buffer_len()) {
            self.header.emit(start);
            self.attributes.as_slice().emit(rest);
        }
    }
}

struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> std::io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn set_link(&mut self, index: u32, mtu: Option<u32>) -> std::io::Result<()> {
        let mut header = LinkHeader::default();
        (header.index, header.flags, header.change_mask) = (index, LinkFlags::Up, LinkFlags::Up);
        let mtu = mtu.map(|mtu| DefaultNla::new(IFLA_MTU, mtu.to_ne_bytes().to_vec()));
        self.request(
            Request {
                kind: RTM_SETLINK,
                header,
                attributes: mtu.into_iter().collect(),
            },
            0,
        )
    }

    fn set_address(&mut self, index: u32, network: &Network) -> std::io::Result<()> {
        let mut header = AddressHeader::default();
        (header.family, header.prefix_len) = (AddressFamily::Inet6, network.prefix_len);
        (header.scope, header.index) = (AddressScope::Universe, index);
        let address = DefaultNla::new(IFA_ADDRESS, network.overlay_ipv6.octets().to_vec());
        let flags = DefaultNla::new(IFA_FLAGS, IFA_F_NODAD.to_ne_bytes().to_vec());
        let request = Request {
            kind: RTM_NEWADDR,
            header,
            attributes: vec![address, flags],
        };
        self.request(request, NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn set_default_route(&mut self, index: u32, network: &Network) -> std::io::Result<()> {
        let mut header = RouteHeader::default();
        (header.address_family, header.table) = (AddressFamily::Inet6, MAIN_TABLE);
        (header.protocol, header.scope) = (RouteProtocol::Static, RouteScope::Universe);
        header.kind = RouteType::Unicast;
        if !network.gateway_ipv6.is_unicast_link_local() {
            // A /128 has no neighbours: the gateway is reached on the link because we say so.
            header.flags = RouteFlags::Onlink;
        }
        let gateway = DefaultNla::new(RTA_GATEWAY, network.gateway_ipv6.octets().to_vec());
        let interface = DefaultNla::new(RTA_OIF, index.to_ne_bytes().to_vec());
        let request = Request {
            kind: RTM_NEWROUTE,
            header,
            attributes: vec![gateway, interface],
        };
        self.request(request, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sends a request and reads its acknowledgement, which the kernel queues before `send` returns.
    fn request<Header: Emitable>(&mut self, message: Request<Header>, flags: u16) -> std::io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        match parse_acknowledgement(&answer) {
            Some(0) => Ok(()),
            Some(code) => Err(std::io::Error::from_raw_os_error(code.saturating_neg())),
            None => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The error number in an `NLMSG_ERROR` (netlink(7)): header of 16 bytes with the type at 4, then the number.
fn parse_acknowledgement(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*answer.get(16..)?.first_chunk()?);
    (kind == NLMSG_ERROR).then_some(code)
}

/// Up, address present, route present, by the kernel's own account.
fn check(network: &Network, index: u32) -> Result<(), StageError> {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|error| net_error(format_args!("cannot read {path}"), error))
    };
    let fail = |what: &str| {
        Err(StageError::new(
            Reason::NetConfigFailed,
            format!("after configuration {what}"),
        ))
    };
    let flags = read("/sys/class/net/eth0/flags")?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    if flags & 1 == 0 {
        return fail("eth0 is not up");
    }
    if read("/sys/class/net/eth0/mtu")?.trim().parse() != Ok(network.mtu) {
        return fail("eth0 does not have the MTU");
    }
    if !has_address(
        &read("/proc/net/if_inet6")?,
        &network.overlay_ipv6,
        network.prefix_len,
        index,
    ) {
        return fail("eth0 does not have the address");
    }
    if !has_default_route(&read("/proc/net/ipv6_route")?, &network.gateway_ipv6) {
        return fail("there is no default route through the gateway");
    }
    Ok(())
}

fn hex(address: &Ipv6Addr) -> String {
    address
        .octets()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Lines of `/proc/net/if_inet6`: address, index, prefix length, scope, flags (hexadecimal), name.
fn has_address(table: &str, address: &Ipv6Addr, prefix_len: u8, index: u32) -> bool {
    let address = hex(address);
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let number = |text: Option<&str>| text.and_then(|text| u32::from_str_radix(text, 16).ok());
        fields.next() == Some(&address)
            && number(fields.next()) == Some(index)
            && number(fields.next()) == Some(u32::from(prefix_len))
    })
}

/// Lines of `/proc/net/ipv6_route`: destination, its length, source, its length, gateway, …, device.
fn has_default_route(table: &str, gateway: &Ipv6Addr) -> bool {
    let (any, gateway) = (hex(&Ipv6Addr::UNSPECIFIED), hex(gateway));
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        matches!(fields.as_slice(), [to, "00", _, "00", via, .., INTERFACE] if *to == any && *via == gateway)
    })
}

/// `/etc/hosts`, and `/etc/resolv.conf` if there are resolvers: in the overlay, in place of whatever is there.
fn write_names(network: Option<&Network>, hostname: &str) -> Result<(), StageError> {
    let in_etc = |error: std::io::Error| net_error("cannot write the names into /etc", error);
    let root = open_dir("/").map_err(|errno| in_etc(errno.into()))?;
    let etc = create_dir(root, "etc", Replace::Allowed).map_err(|errno| in_etc(errno.into()))?;
    let own = network.map_or("::1".to_owned(), |network| network.overlay_ipv6.to_string());
    let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own} {hostname}\n");
    replace_file(&etc, "hosts", hosts.as_bytes(), 0o644, None).map_err(in_etc)?;
    replace_file(&etc, "hostname", format!("{hostname}\n").as_bytes(), 0o644, None).map_err(in_etc)?;
    let dns = network.map(|network| network.dns.as_slice()).unwrap_or_default();
    if dns.is_empty() {
        return Ok(());
    }
    let resolvers: String = dns
        .iter()
        .map(|address| format!("nameserver {address}\n"))
        .collect();
    replace_file(&etc, "resolv.conf", resolvers.as_bytes(), 0o644, None).map_err(in_etc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_right() {
        let addresses = "fd000000000000000000000000000002 02 80 00 82     eth0\n\
                         00000000000000000000000000000001 01 80 10 80       lo\n";
        let address = "fd00::2".parse().unwrap();
        assert!(has_address(addresses, &address, 128, 2));
        assert!(!has_address(addresses, &address, 64, 2));
        assert!(!has_address(addresses, &address, 128, 1));

        let zero = "0".repeat(32);
        let via = "fe800000000000000000000000000001";
        let routes = format!("{zero} 00 {zero} 00 {via} 00000400 00000001 00000000 00000003     eth0\n");
        assert!(has_default_route(&routes, &"fe80::1".parse().unwrap()));
        assert!(!has_default_route(&routes, &"fe80::2".parse().unwrap()));
        assert!(!has_default_route(
            &routes.replace("eth0", "lo"),
            &"fe80::1".parse().unwrap()
        ));
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error() {
        let mut answer = vec![0; 36];
        answer[4] = 2;
        assert_eq!(parse_acknowledgement(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(parse_acknowledgement(&answer), Some(-17));
        assert_eq!(parse_acknowledgement(&answer[..18]), None);
    }
}
