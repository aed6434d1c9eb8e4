//! Generated configs: the good ones survive printing, and every check finds its own kind of damage in any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plfm_guest_protocol::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::corpus::fuzz;

const PLANTED: &str = "planted-value";

fn workload() -> impl Strategy<Value = Workload> {
    let who = (
        (any::<u32>(), any::<u32>()),
        option::of("[a-z0-9]{1,8}(:[a-z0-9]{1,8})?"),
        vec("[a-z0-9]{1,8}", 0..4),
    );
    let signal = prop_oneof![
        "(SIG)?(TERM|INT|USR1|RTMIN\\+3)",
        prop_oneof![1i32..=31, 34i32..=64].prop_map(|n| n.to_string())
    ];
    let rlimits = btree_set(
        prop::sample::select(vec!["nofile", "nproc", "core", "stack"]),
        0..4,
    )
    .prop_flat_map(|names| {
        let limit = |name: &'static str| {
            (0u64..1_000, 0u64..1_000, any::<bool>()).prop_map(move |(soft, more, bounded)| Rlimit {
                name: name.to_owned(),
                soft: Some(soft),
                hard: bounded.then_some(soft + more),
            })
        };
        names.into_iter().map(limit).collect::<Vec<_>>()
    });
    (
        vec("[^\0]{1,12}", 1..5),
        "(/[a-z.]{1,8}){1,3}",
        btree_map("[A-Za-z_.-]{1,10}", "[^\0]{0,12}".prop_map(Sensitive::new), 0..5),
        who,
        (any::<bool>(), any::<bool>()),
        (signal, 0u32..=3_600),
        (rlimits, prop::option::of(1u32..)),
    )
        .prop_map(
            |(
                argv,
                cwd,
                env,
                ((uid, gid), user, groups),
                (stdin, tty),
                (stop_signal, grace),
                (rlimits, pids_max),
            )| {
                Workload {
                    argv,
                    cwd,
                    env,
                    uid,
                    gid,
                    user,
                    groups,
                    stdin,
                    tty,
                    stop_signal,
                    stop_grace_seconds: grace,
                    rlimits,
                    pids_max,
                }
            },
        )
}

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<u64>().prop_map(|low| Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(low) | 1 << 64))
}

fn network() -> impl Strategy<Value = Network> {
    let resolver = prop_oneof![
        (1u8..=223, any::<u8>()).prop_map(|(a, d)| IpAddr::from(Ipv4Addr::new(a, 0, 0, d))),
        unicast().prop_map(IpAddr::from),
    ];
    (
        unicast(),
        1u64..,
        1u8..=128,
        1_280u32..=9_000,
        vec(resolver, 0..=8),
        "[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?(\\.[a-z]{1,9})?",
    )
        .prop_map(|(overlay_ipv6, low, prefix_len, mtu, dns, hostname)| Network {
            overlay_ipv6,
            gateway_ipv6: Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(low)),
            prefix_len,
            mtu,
            dns,
            hostname,
        })
}

fn mounts() -> impl Strategy<Value = Vec<VolumeMount>> {
    let places: BTreeSet<char> = ('c'..='z').collect();
    btree_map(
        prop::sample::select(places.into_iter().collect::<Vec<_>>()),
        ("[a-z0-9 -]{1,20}", any::<bool>()),
        1..=24,
    )
    .prop_map(|volumes| {
        let mount = |(letter, (name, ro)): (char, (String, bool))| VolumeMount {
            kind: "volume".to_owned(),
            name,
            device: format!("/dev/vd{letter}"),
            mountpoint: format!("/srv/{letter}"),
            fs_type: "ext4".to_owned(),
            mode: if ro { MountMode::Ro } else { MountMode::Rw },
        };
        volumes.into_iter().map(mount).collect()
    })
}

fn secrets() -> impl Strategy<Value = Secrets> {
    let data = option::of(Just(Sensitive::new(format!("# TRC_SECRETS_V1\nA={PLANTED}\n"))));
    (
        any::<bool>(),
        "/run(/[a-o]{1,9}){1,3}",
        "0?4[04]0",
        any::<(u32, u32)>(),
        option::of("[a-z]{1,9}"),
        data,
    )
        .prop_map(
            |(required, path, mode, (owner_uid, owner_gid), format, data)| Secrets {
                required,
                path,
                mode,
                owner_uid,
                owner_gid,
                bundle_version_id: format.clone(),
                format,
                data,
            },
        )
}

/// A good config with every part in it.
fn full_config() -> impl Strategy<Value = Config> {
    let features = prop::sample::subsequence(FEATURES.to_vec(), 0..=FEATURES.len());
    let ports = (1u32..5_000, any::<bool>(), 5_163u32..u32::MAX);
    (
        "[A-Za-z0-9_-]{1,64}",
        any::<u64>(),
        features,
        workload(),
        network(),
        mounts(),
        secrets(),
        ports,
    )
        .prop_map(
            |(
                instance_id,
                generation,
                features,
                workload,
                network,
                mounts,
                secrets,
                (exec, enabled, output),
            )| Config {
                config_version: CONFIG_VERSION.to_owned(),
                instance_id,
                generation,
                required_features: features.into_iter().map(str::to_owned).collect(),
                workload,
                network: Some(network),
                mounts,
                secrets: Some(secrets),
                exec: ExecService {
                    vsock_port: exec,
                    enabled,
                },
                output: Some(OutputStream { vsock_port: output }),
            },
        )
}

/// A good config with some parts in it.
fn any_config() -> impl Strategy<Value = Config> {
    (full_config(), any::<[bool; 4]>()).prop_map(|(mut config, [network, mounts, secrets, output])| {
        config.network = config.network.filter(|_| network);
        config.mounts.retain(|_| mounts);
        config.secrets = config.secrets.filter(|_| secrets);
        config.output = config.output.filter(|_| output);
        config
    })
}

type Damage = (&'static str, &'static str, fn(&mut Config));

fn limit(name: &str, soft: Option<u64>, hard: Option<u64>) -> Rlimit {
    Rlimit {
        name: name.to_owned(),
        soft,
        hard,
    }
}

fn put(env: &mut BTreeMap<String, Sensitive>, key: &str, value: &str) {
    env.insert(key.to_owned(), Sensitive::new(value));
}

fn net(config: &mut Config) -> &mut Network {
    config.network.as_mut().unwrap()
}

fn sec(config: &mut Config) -> &mut Secrets {
    config.secrets.as_mut().unwrap()
}

/// One for each way in which a check can fail: the member that is named, a part of what is said of it, the damage.
const DAMAGES: &[Damage] = &[
    ("config_version", "is not", |c| c.config_version = "v2".into()),
    ("instance_id", "is not that", |c| c.instance_id.push('x')),
    ("required_features", "\"teleport\"", |c| {
        c.required_features.push("teleport".into())
    }),
    ("workload.argv", "no program", |c| c.workload.argv.clear()),
    ("workload.argv", "no program", |c| c.workload.argv[0].clear()),
    ("workload.argv", "NUL", |c| c.workload.argv.push("a\0".into())),
    ("workload", "more than 4096", |c| {
        c.workload.argv.resize(4_097, "a".into())
    }),
    ("workload", "more than 4096", |c| {
        (0..4_097).for_each(|n| put(&mut c.workload.env, &format!("K{n}"), ""))
    }),
    ("workload.cwd", "absolute", |c| c.workload.cwd = "a".into()),
    ("workload.cwd", "absolute", |c| c.workload.cwd.push('\0')),
    ("workload.cwd", "absolute", |c| {
        c.workload.cwd = format!("/{}", "a".repeat(4_095))
    }),
    ("workload.user", "128 bytes", |c| {
        c.workload.user = Some("u".repeat(129))
    }),
    ("workload.user", "128 bytes", |c| {
        c.workload.user = Some("a\nb".into())
    }),
    ("workload.groups", "64 groups", |c| {
        c.workload.groups = vec!["g".into(); 65]
    }),
    ("workload.groups", "128 bytes", |c| {
        c.workload.groups.push("g\0".into())
    }),
    ("workload.env", "empty key", |c| {
        put(&mut c.workload.env, "", PLANTED)
    }),
    ("workload.env", "`=`", |c| {
        put(&mut c.workload.env, "A=B", PLANTED)
    }),
    ("workload.env", "NUL", |c| {
        put(&mut c.workload.env, "A\0", PLANTED)
    }),
    ("workload.env", "NUL", |c| {
        put(&mut c.workload.env, "A", "planted-value\0")
    }),
    ("workload.stop_signal", "not a signal", |c| {
        c.workload.stop_signal = "SIGNOPE".into()
    }),
    ("workload.stop_grace_seconds", "3600", |c| {
        c.workload.stop_grace_seconds = 3_601
    }),
    ("workload.rlimits", "does not have", |c| {
        c.workload.rlimits.push(limit("x", None, None))
    }),
    ("workload.rlimits", "twice", |c| {
        c.workload.rlimits = vec![limit("cpu", None, None), limit("cpu", Some(1), None)]
    }),
    ("workload.rlimits", "above", |c| {
        c.workload.rlimits.push(limit("cpu", Some(2), Some(1)))
    }),
    ("workload.rlimits", "above", |c| {
        c.workload.rlimits.push(limit("cpu", None, Some(1)))
    }),
    ("network.mtu", "1280 to 9000", |c| net(c).mtu = 1_279),
    ("network.mtu", "1280 to 9000", |c| net(c).mtu = 9_001),
    ("network.prefix_len", "1 to 128", |c| net(c).prefix_len = 0),
    ("network.prefix_len", "1 to 128", |c| net(c).prefix_len = 129),
    ("network.overlay_ipv6", "unicast", |c| {
        net(c).overlay_ipv6 = Ipv6Addr::UNSPECIFIED
    }),
    ("network.overlay_ipv6", "unicast", |c| {
        net(c).overlay_ipv6 = Ipv6Addr::LOCALHOST
    }),
    ("network.overlay_ipv6", "unicast", |c| {
        net(c).overlay_ipv6 = "ff02::1".parse().unwrap()
    }),
    ("network.overlay_ipv6", "unicast", |c| {
        net(c).overlay_ipv6 = "::ffff:192.0.2.1".parse().unwrap()
    }),
    ("network.gateway_ipv6", "unicast", |c| {
        net(c).gateway_ipv6 = Ipv6Addr::UNSPECIFIED
    }),
    ("network.gateway_ipv6", "another", |c| {
        net(c).gateway_ipv6 = net(c).overlay_ipv6
    }),
    ("network.dns", "more than 8", |c| {
        net(c).dns = vec!["fd00::53".parse().unwrap(); 9]
    }),
    ("network.dns", "no resolver", |c| {
        net(c).dns = vec!["0.0.0.0".parse().unwrap()]
    }),
    ("network.dns", "no resolver", |c| {
        net(c).dns = vec!["ff02::fb".parse().unwrap()]
    }),
    ("network.hostname", "host name", |c| net(c).hostname.clear()),
    ("network.hostname", "host name", |c| net(c).hostname = "-a".into()),
    ("network.hostname", "host name", |c| {
        net(c).hostname = "a..b".into()
    }),
    ("network.hostname", "host name", |c| {
        net(c).hostname = "a b".into()
    }),
    ("network.hostname", "host name", |c| {
        net(c).hostname = format!("{}.a", "a".repeat(63))
    }),
    ("mounts", "more than 24", |c| {
        c.mounts = vec![c.mounts[0].clone(); 25]
    }),
    ("mounts[0].kind", "volume", |c| c.mounts[0].kind = "bind".into()),
    ("mounts[0].fs_type", "ext4", |c| {
        c.mounts[0].fs_type = "xfs".into()
    }),
    ("mounts[0].name", "128 bytes", |c| c.mounts[0].name.clear()),
    ("mounts[0].name", "128 bytes", |c| {
        c.mounts[0].name = "n".repeat(129)
    }),
    ("mounts[0].name", "control", |c| {
        c.mounts[0].name = "a\x1b[2J".into()
    }),
    ("mounts[0].device", "/dev/vdc", |c| {
        c.mounts[0].device = "/dev/vda".into()
    }),
    ("mounts[0].device", "/dev/vdc", |c| {
        c.mounts[0].device = "/dev/vdb".into()
    }),
    ("mounts[0].device", "/dev/vdc", |c| {
        c.mounts[0].device = "/dev/vdc1".into()
    }),
    ("mounts[0].mountpoint", "absolute", |c| {
        c.mounts[0].mountpoint = "/".into()
    }),
    ("mounts[0].mountpoint", "absolute", |c| {
        c.mounts[0].mountpoint.push_str("/../x")
    }),
    ("mounts[0].mountpoint", "absolute", |c| {
        c.mounts[0].mountpoint.push('/')
    }),
    ("mounts[0].mountpoint", "absolute", |c| {
        c.mounts[0].mountpoint = format!("/{}", "a".repeat(256))
    }),
    ("mounts[0].mountpoint", "absolute", |c| {
        c.mounts[0].mountpoint = "/ab".repeat(1_366)
    }),
    ("mounts[0].mountpoint", "under /proc", |c| {
        c.mounts[0].mountpoint.insert_str(0, "/run")
    }),
    ("mounts[0].mountpoint", "under /proc", |c| {
        c.mounts[0].mountpoint = "/tmp".into()
    }),
    ("secrets.mode", "0400", |c| sec(c).mode = "0444".into()),
    ("secrets.mode", "0400", |c| sec(c).mode = "0600".into()),
    ("secrets.path", "under /run", |c| sec(c).path = "/etc/x".into()),
    ("secrets.path", "under /run", |c| sec(c).path = "/run".into()),
    ("secrets.path", "under /run", |c| {
        sec(c).path.push_str("/../../etc/x")
    }),
    ("secrets.path", "/run/platform", |c| {
        sec(c).path = "/run/platform".into()
    }),
    ("secrets.path", "/run/platform", |c| {
        sec(c).path = "/run/platform/guest-init.log".into()
    }),
    ("exec.vsock_port", "not a port", |c| c.exec.vsock_port = 0),
    ("exec.vsock_port", "not a port", |c| c.exec.vsock_port = u32::MAX),
    ("output.vsock_port", "not a port", |c| {
        c.output = Some(OutputStream { vsock_port: u32::MAX })
    }),
    ("output.vsock_port", "control", |c| {
        c.output = Some(OutputStream {
            vsock_port: CONTROL_PORT,
        })
    }),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_good_config_is_taken_and_survives_printing(config in any_config()) {
        config.check(&config.instance_id).unwrap();
        let printed = serde_json::to_vec(&config).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Config>(&printed).unwrap(), &config);
        fuzz::config::check(&printed);
    }

    #[test]
    fn every_check_finds_its_damage_and_quotes_no_value(config in full_config()) {
        for (member, part, damage) in DAMAGES {
            let mut damaged = config.clone();
            damage(&mut damaged);
            let error = damaged.check(&config.instance_id).expect_err(member);
            prop_assert_eq!(&error.member, member, "{}", error);
            prop_assert!(error.problem.contains(part), "{}", error);
            prop_assert!(!error.to_string().contains(PLANTED));
        }
    }

    #[test]
    fn a_doubled_device_or_mount_point_is_named_where_it_comes_again(config in full_config()) {
        let again = VolumeMount { mountpoint: "/again".to_owned(), ..config.mounts[0].clone() };
        let mut damaged = config.clone();
        damaged.mounts.truncate(23);
        let index = damaged.mounts.len();
        damaged.mounts.push(again);
        prop_assert_eq!(damaged.check(&config.instance_id).unwrap_err().member, format!("mounts[{index}].device"));
        if config.mounts.len() > 1 {
            let mut damaged = config.clone();
            damaged.mounts[1].mountpoint = damaged.mounts[0].mountpoint.clone();
            prop_assert_eq!(damaged.check(&config.instance_id).unwrap_err().member, "mounts[1].mountpoint");
        }
    }
}
