//! The host that a word means: an id, or a name that only one host has.

use plfm_api::control::{FleetHost, HostId, HostState};

use crate::admin::client::ControlClient;
use crate::output::{Category, CliError};

/// The host's id. A revoked host gives way to another one of its name: that is what enrolling anew leaves.
pub async fn find_host(client: &ControlClient, text: &str) -> Result<HostId, CliError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mut hosts: Vec<FleetHost> = client.list(&["hosts"], &[]).await?;
    hosts.retain(|host| host.name == text);
    choose(hosts, text)
}

fn choose(hosts: Vec<FleetHost>, text: &str) -> Result<HostId, CliError> {
    let is_revoked = |host: &FleetHost| host.state == HostState::Revoked;
    let has_other = hosts.iter().any(|host| !is_revoked(host));
    let mut meant = hosts.into_iter().filter(|host| !(has_other && is_revoked(host)));
    match (meant.next(), meant.next()) {
        (Some(host), None) => Ok(host.id),
        (Some(one), Some(other)) => {
            let message = format!("{text:?} may mean {} or {}", one.id, other.id);
            Err(CliError::new(Category::Usage, "host_ambiguous", message)
                .with_hint(Some("give the id".to_owned())))
        }
        (None, _) => {
            let message = format!("there is no host {text:?}");
            Err(CliError::new(Category::NotFound, "host_unknown", message)
                .with_hint(Some("see `plfm admin hosts list`".to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: char, state: HostState) -> FleetHost {
        FleetHost {
            id: format!("0000000000000000000000000{last}").parse().unwrap(),
            name: "a".to_owned(),
            state,
            agent_version: semver::Version::new(1, 0, 0),
            generation: Default::default(),
            enrolled_at: Default::default(),
            seen_at: None,
            certificate_not_after: Default::default(),
            status: None,
        }
    }

    #[test]
    fn a_name_means_the_one_host_that_is_not_revoked() {
        use HostState::{Active, Revoked};
        let chosen = |hosts: Vec<FleetHost>| choose(hosts, "a").map_err(|error| error.code);
        assert_eq!(chosen(vec![]), Err("host_unknown".to_owned()));
        let id = host('1', Active).id;
        assert_eq!(chosen(vec![host('0', Revoked), host('1', Active)]), Ok(id));
        let id = host('0', Revoked).id;
        assert_eq!(chosen(vec![host('0', Revoked)]), Ok(id));
        let two = vec![host('0', Active), host('1', Active)];
        assert_eq!(chosen(two), Err("host_ambiguous".to_owned()));
    }
}
