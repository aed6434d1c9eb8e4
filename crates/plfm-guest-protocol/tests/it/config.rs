use plfm_guest_protocol::*;

pub fn config() -> Config {
    serde_json::from_value(serde_json::json!({
        "config_version": "v1",
        "instance_id": "i-1",
        "generation": 3,
        "required_features": ["exec"],
        "workload": {"argv": ["/bin/app", "x"], "env": {"PATH": "/bin", "K": "planted-value"}, "user": "app:1000"},
        "network": {"overlay_ipv6": "fd00::2", "gateway_ipv6": "fe80::1", "hostname": "i-1"},
        "mounts": [{"kind": "volume", "name": "data", "device": "/dev/vdc", "mountpoint": "/data", "mode": "rw"}],
        "secrets": {"required": true, "data": "# TRC_SECRETS_V1\nA=planted-value\n"},
        "exec": {"vsock_port": 5162, "enabled": true},
        "output": {"vsock_port": 5163}
    }))
    .unwrap()
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Config), member: &str) {
    let mut config = config();
    change(&mut config);
    let error = config.check("i-1").expect_err("the config was taken");
    assert_eq!(error.member, member, "{error}");
    assert!(!error.to_string().contains("planted-value"));
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = config();
    config.check("i-1").unwrap();
    let network = config.network.unwrap();
    assert_eq!((network.mtu, network.prefix_len), (1420, 128));
    assert_eq!(config.mounts[0].fs_type, "ext4");
    let secrets = config.secrets.unwrap();
    assert_eq!(
        (secrets.path.as_str(), secrets.mode_bits()),
        ("/run/secrets/platform.env", Some(0o400))
    );
    assert_eq!(config.workload.cwd, "/");
    assert_eq!(
        (
            config.workload.stop_signal.as_str(),
            config.workload.stop_grace_seconds
        ),
        ("SIGTERM", 10)
    );
}

#[test]
fn reserved_and_abnormal_mount_points_are_refused() {
    for bad in [
        "/", "", "data", "/a/../b", "/a//b", "/a/", "/./a", "/proc", "/sys/x", "/dev/shm", "/run/a", "/tmp",
        "/a\0",
    ] {
        refused(|c| c.mounts[0].mountpoint = bad.into(), "mounts[0].mountpoint");
    }
    for good in ["/data", "/process", "/srv/tmp", "/running"] {
        let mut config = config();
        config.mounts[0].mountpoint = good.into();
        config.check("i-1").unwrap();
    }
}

#[test]
fn signals_are_read_as_images_write_them() {
    for (text, number) in [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("sigquit", 3),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGRTMAX-30", 34),
        ("SIGSYS", 31),
        ("64", 64),
    ] {
        assert_eq!(signal_number(text), Some(number), "{text}");
    }
    for text in [
        "",
        "SIG",
        "0",
        "32",
        "33",
        "65",
        "-1",
        "SIGRTMIN+31",
        "SIGRTMIN+-3",
        "RTMAX-31",
        "RTMAX-40",
        "RTMAX-64",
        "SIGRTMIN3",
    ] {
        assert_eq!(signal_number(text), None, "{text}");
    }
}

#[test]
fn debug_output_shows_no_environment_value_and_no_secret() {
    assert!(!format!("{:?}", config()).contains("planted-value"));
}
