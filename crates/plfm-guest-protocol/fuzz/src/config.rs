//! A config: what is accepted obeys the contract and survives printing.

use plfm_guest_protocol::{
    CONFIG_VERSION, Config, FEATURES, GuestEvent, GuestSession, Hello, HostMessage, PROTOCOL, ProtocolError,
    is_reserved_mountpoint, signal_number,
};

/// Reads `bytes` as a config message or as a bare config, checks it, and takes it through the guest's end.
pub fn check(bytes: &[u8]) {
    let config = match serde_json::from_slice::<HostMessage>(bytes) {
        Ok(HostMessage::Config(config)) => *config,
        Ok(HostMessage::Reject { .. } | HostMessage::Stop { .. } | HostMessage::Signal { .. }) => return,
        Err(_) => match serde_json::from_slice::<Config>(bytes) {
            Ok(config) => config,
            Err(_) => return,
        },
    };
    let verdict = config.check(&config.instance_id);
    if let Err(error) = &verdict {
        assert!(!error.member.is_empty() && !error.problem.is_empty());
    } else {
        assert_contract(&config);
    }
    let printed = serde_json::to_string(&config).expect("a config has a JSON form");
    assert_eq!(
        serde_json::from_str::<Config>(&printed).as_ref().ok(),
        Some(&config)
    );
    assert_guest_agrees(&config, verdict.is_ok());
}

/// The guest's end takes exactly the configs that the check takes.
fn assert_guest_agrees(config: &Config, accepted: bool) {
    let (mut guest, _) = GuestSession::start(Hello {
        guest_init_version: "1.0.0".to_owned(),
        guest_init_protocol: PROTOCOL,
        instance_id: config.instance_id.clone(),
        boot_id: "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11".to_owned(),
    });
    let mut line = serde_json::to_vec(&HostMessage::Config(Box::new(config.clone()))).expect("JSON");
    line.push(b'\n');
    guest.push(&line);
    match guest.next_event() {
        Ok(Some(GuestEvent::Configure { config: got, ack })) => {
            assert!(accepted);
            assert_eq!(*got, *config);
            assert!(ack.ends_with(b"\n"));
        }
        Err(ProtocolError::Config(_)) => assert!(!accepted),
        Err(ProtocolError::Line(_)) => assert!(line.len() > 1024 * 1024),
        other => panic!("{other:?}"),
    }
}

fn assert_contract(config: &Config) {
    assert_eq!(config.config_version, CONFIG_VERSION);
    assert!(
        config
            .required_features
            .iter()
            .all(|name| FEATURES.contains(&name.as_str()))
    );
    let workload = &config.workload;
    assert!(workload.argv.first().is_some_and(|program| !program.is_empty()));
    assert!(workload.argv.iter().all(|argument| !argument.contains('\0')));
    assert!(
        workload
            .env
            .keys()
            .all(|key| !key.is_empty() && !key.contains(['=', '\0']))
    );
    assert!(workload.cwd.starts_with('/'));
    assert!(signal_number(&workload.stop_signal).is_some_and(|number| (1..=64).contains(&number)));
    assert!(workload.stop_grace_seconds <= 3_600);
    for mount in &config.mounts {
        let path = std::path::Path::new(&mount.mountpoint);
        assert!(path.is_absolute() && path.parent().is_some());
        for ancestor in path.ancestors() {
            let ancestor = ancestor.to_str().expect("UTF-8");
            assert!(
                !["/proc", "/sys", "/dev", "/run", "/tmp"].contains(&ancestor),
                "{ancestor}"
            );
        }
        assert!(!is_reserved_mountpoint(&mount.mountpoint));
        assert!(!mount.mountpoint.split('/').any(|part| part == ".."));
        assert_ne!(mount.device, "/dev/vda");
        assert_ne!(mount.device, "/dev/vdb");
    }
    if let Some(secrets) = &config.secrets {
        assert!(secrets.mode_bits().is_some_and(|mode| mode & 0o337 == 0));
        assert!(secrets.path.starts_with("/run/") && !secrets.path.contains("/../"));
    }
    if let Some(network) = &config.network {
        assert!((1_280..=9_000).contains(&network.mtu) && (1..=128).contains(&network.prefix_len));
        assert_ne!(network.overlay_ipv6, network.gateway_ipv6);
    }
}
