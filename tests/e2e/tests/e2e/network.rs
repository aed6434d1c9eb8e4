//! A guest on the host's network.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::facts;
use crate::host::{Host, tool};
use crate::machine::{Machine, answer_config, config};

facts![
    a_page_is_fetched_from_a_web_server_in_the_guest,
    addresses_route_and_names_are_as_configured,
    the_interface_is_gone_with_the_instance,
    resolvers_are_written_where_there_are_any,
    a_gateway_outside_the_prefix_is_on_the_link,
];

fn a_page_is_fetched_from_a_web_server_in_the_guest() {
    let host = Host::ready();
    let script = "hostname > /srv/www/index.html; exec httpd -f -p '[::]:80' -h /srv/www";
    let instance = host.start_script(&["--network"], script);
    let address: Ipv6Addr = instance["address"].as_str().unwrap().parse().unwrap();
    let mut page = String::new();
    for _ in 0..200 {
        match TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(10)) {
            Ok(mut stream) => {
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                stream.read_to_string(&mut page).unwrap();
                break;
            }
            // Its program runs, and does not listen yet: ask it when it does.
            Err(_) => {
                host.plfm([
                    "exec",
                    instance["id"].as_str().unwrap(),
                    "--",
                    "sh",
                    "-c",
                    "until wget -qO /dev/null http://[::1]/; do :; done",
                ]);
            }
        }
    }
    let name = instance["id"].as_str().unwrap().to_ascii_lowercase();
    assert!(page.ends_with(&format!("\r\n\r\n{name}\n")), "{page}");
}

fn addresses_route_and_names_are_as_configured() {
    let host = Host::ready();
    let instance = host.start_script(&["--network"], "sleep 600");
    let inside = |script: &str| {
        host.plfm(["exec", instance["id"].as_str().unwrap(), "--", "sh", "-c", script])
            .ok()
            .stdout
    };
    let address = instance["address"].as_str().unwrap();
    let shown = inside("ip -6 addr show dev eth0");
    assert!(
        shown.contains(&format!("inet6 {address}/128")) && shown.contains("mtu 1420"),
        "{shown}"
    );
    assert!(!shown.contains("tentative"), "{shown}");
    let route = inside("ip -6 route show default");
    assert!(route.contains("via fe80::1 dev eth0"), "{route}");
    let conf = inside("cat /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv6/conf/eth0/autoconf");
    assert_eq!(conf, "0\n0\n");
    let name = instance["id"].as_str().unwrap().to_ascii_lowercase();
    assert_eq!(inside("hostname"), format!("{name}\n"));
    assert!(inside("cat /etc/hosts").contains(&format!("{address} {name}\n")));
}

fn the_interface_is_gone_with_the_instance() {
    let host = Host::ready();
    let instance = host.start_script(&["--network"], "sleep 600");
    let address = instance["address"].as_str().unwrap();
    let route = || tool("cat", &["/proc/net/ipv6_route"]).stdout;
    let hex: String = address
        .parse::<Ipv6Addr>()
        .unwrap()
        .octets()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(route().contains(&hex));
    host.plfm(["stop", instance["id"].as_str().unwrap()]).ok();
    assert!(!route().contains(&hex), "the route is left");
}

fn resolvers_are_written_where_there_are_any() {
    let host = Host::ready_with(&["--dns", "fd00::53,192.0.2.53"]);
    let shown = host.plfm([
        "run",
        "-q",
        "--network",
        "--rootdisk",
        crate::lab::root_disk().to_str().unwrap(),
        "--",
        "cat",
        "/etc/resolv.conf",
    ]);
    assert_eq!(shown.ok().stdout, "nameserver fd00::53\nnameserver 192.0.2.53\n");
    let (tree, disk) = (host.path("rootfs"), host.path("linked.erofs"));
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", tree.join("etc/resolv.conf")).unwrap();
    std::fs::copy(crate::lab::dir().join("rootfs/bin/busybox"), tree.join("busybox")).unwrap();
    let args = ["--quiet", disk.to_str().unwrap(), tree.to_str().unwrap()];
    tool("mkfs.erofs", &args).ok();
    let shown = host.plfm([
        "run",
        "-q",
        "--network",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
        "/busybox",
        "cat",
        "/etc/resolv.conf",
    ]);
    assert_eq!(
        shown.ok().stdout,
        "nameserver fd00::53\nnameserver 192.0.2.53\n",
        "a dangling link is in the way"
    );
    // An image's own file stays where the host has no resolver.
    let plain = Host::ready();
    let kept = plain.run_script("cat /etc/resolv.conf 2>/dev/null || echo none");
    assert_eq!(kept.stdout, "none\n");
}

fn a_gateway_outside_the_prefix_is_on_the_link() {
    let tap = format!("plfmt{}", std::process::id() % 1_000_000);
    tool("ip", &["tuntap", "add", "dev", &tap, "mode", "tap"]).ok();
    let story = std::panic::catch_unwind(|| {
        let mut config = config();
        config["network"] = json!({
            "overlay_ipv6": "fd00::2", "gateway_ipv6": "fd00:1::1", "prefix_len": 128, "mtu": 9000,
            "dns": [], "hostname": "edge",
        });
        let script = "ip -6 route show default; ip link show dev eth0; ip -6 addr show dev eth0; exit 11";
        config["workload"]["argv"] = json!(["/bin/sh", "-c", script]);
        Machine::new()
            .with_tap(&tap, 9000)
            .boot(Some(answer_config(&config)))
    });
    tool("ip", &["link", "del", "dev", &tap]).ok();
    let story = story.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    story.assert_on_console("default via fd00:1::1 dev eth0");
    story.assert_on_console("mtu 9000");
    story.assert_on_console("inet6 fd00::2/128");
    assert_eq!(story.said.last().unwrap()["exit_code"], 11);
}
