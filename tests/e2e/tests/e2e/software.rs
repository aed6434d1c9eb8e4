//! Real software as customers bring it, in images of Debian's packages, spoken to by its own clients.

use serde_json::Value;

use crate::facts;
use crate::host::{Host, Ran, tool};
use crate::lab;

facts![
    nginx_serves_a_page_and_ends_by_its_own_signal,
    redis_keeps_its_data_on_a_volume_across_a_newer_release,
    postgresql_keeps_its_data_on_a_volume_across_a_newer_release,
];

fn image(name: &str) -> String {
    format!("oci:{}:latest", lab::software().unwrap().join(name).display())
}

/// A volume that a user of the image may write.
fn volume(host: &Host, user: u32) -> String {
    let disk = host.path("data.img");
    let owner = format!("root_owner={user}:{user}");
    let disk = disk.to_str().unwrap();
    tool("mke2fs", &["-q", "-t", "ext4", "-E", &owner, disk, "128M"]).ok();
    disk.to_owned()
}

fn start(host: &Host, options: &[&str], image: &str) -> (String, String) {
    let args = ["run", "--detach", "--network"].into_iter();
    let instance = host.json(args.chain(options.iter().copied()).chain([image]));
    let text = |key: &str| instance[key].as_str().unwrap().to_owned();
    (text("id"), text("address"))
}

/// Stops it, and it must have ended by itself.
#[track_caller]
fn stop_well(host: &Host, id: &str) {
    host.plfm(["stop", id]).ok();
    let exit = host.json(["ps", "--all"])["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == id)
        .unwrap()["exit"]
        .clone();
    assert_eq!(
        (&exit["exit_code"], &exit["reason"]),
        (&0.into(), &Value::Null),
        "{exit}"
    );
}

fn upgrade(host: &Host) {
    let release = lab::release_b();
    host.plfm(["release", "install", "--current", release.to_str().unwrap()])
        .ok();
}

fn nginx_serves_a_page_and_ends_by_its_own_signal() {
    let host = Host::ready();
    let (id, address) = start(&host, &[], &image("nginx"));
    let listens = "until busybox wget -qO /dev/null http://[::1]/; do :; done";
    host.plfm(["exec", &id, "--", "/usr/bin/busybox", "sh", "-c", listens])
        .ok();
    let page = tool(
        "curl",
        &[
            "-sS",
            "--max-time",
            "30",
            "-i",
            "-g",
            &format!("http://[{address}]/"),
        ],
    )
    .ok()
    .stdout;
    assert!(
        page.contains("Server: nginx/") && page.ends_with("a page of a real nginx\n"),
        "{page}"
    );
    stop_well(&host, &id);
}

fn redis_keeps_its_data_on_a_volume_across_a_newer_release() {
    let host = Host::ready();
    let data = format!("data={}:/data", volume(&host, 101));
    let mut releases = Vec::new();
    let redis = |address: &str, words: &[&str]| -> Ran {
        tool("redis-cli", &[&["-h", address, "-e"], words].concat()).ok()
    };
    for (command, answer) in [
        (&["SET", "kept", "over"][..], "OK\n"),
        (&["GET", "kept"], "over\n"),
    ] {
        let (id, address) = start(&host, &["--volume", &data], &image("redis"));
        host.output_until(&id, "Ready to accept connections");
        assert_eq!(redis(&address, command).stdout, answer);
        stop_well(&host, &id);
        releases.push(host.last_instance()["release"].clone());
        upgrade(&host);
    }
    assert_ne!(releases[0], releases[1]);
}

fn postgresql_keeps_its_data_on_a_volume_across_a_newer_release() {
    let host = Host::ready();
    let data = format!("data={}:/var/lib/postgresql/data", volume(&host, 102));
    let options = ["--memory", "256", "--stop-grace", "60", "--volume", &data];
    let mut releases = Vec::new();
    let table = "CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n";
    let sum = "SELECT sum(n) FROM kept";
    for (sql, answer) in [(table, "SELECT 1000\n"), (sum, "500500\n")] {
        let (id, address) = start(&host, &options, &image("postgresql"));
        host.output_until(&id, "database system is ready to accept connections");
        let psql = ["-X", "-A", "-t", "-h", &address, "-U", "postgres", "-c", sql];
        assert_eq!(tool("psql", &psql).ok().stdout, answer);
        stop_well(&host, &id);
        releases.push(host.last_instance()["release"].clone());
        upgrade(&host);
    }
    assert_ne!(releases[0], releases[1]);
}
