//! The command's own words: its help, and what it says to what it cannot do.

use serde_json::json;

use crate::host::Host;

#[test]
fn every_verbs_help() {
    let host = Host::new();
    let help = [
        "image",
        "image pull",
        "image list",
        "image show",
        "image gc",
        "run",
    ]
    .map(|verb| {
        let args: Vec<&str> = verb.split(' ').chain(["-h"]).collect();
        let told = host.plfm(&args).stdout;
        let own = told.split("\nGlobal options:").next().unwrap();
        format!("$ plfm {verb} -h\n{}\n\n", own.trim_end())
    });
    insta::assert_snapshot!(help.concat());
}

#[test]
fn what_cannot_be_done_is_said_with_a_hint() {
    let host = Host::new();
    host.layout("silent", "x", json!({}));
    std::fs::write(host.path("noise.tar"), [0x5a; 2048]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", host.path("endless.tar")).unwrap();
    let mut told = String::new();
    for args in [
        "image pull oci:nowhere",
        "image pull oci:silent:other",
        "image pull docker-archive:noise.tar",
        "image pull docker-archive:endless.tar",
        "image pull 127.0.0.1:1/app",
        "image pull NOT:AN:IMAGE",
        "image show nginx",
        "image show sha256:0123456789",
        "run oci:silent",
        "run --pull never oci:silent -- /x",
        "run",
        "run --rootdisk x",
        "run --rootdisk x oci:silent -- y",
        "run --rootdisk x --entrypoint y -- z",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        told += &host.plfm(&args).told(&args);
    }
    insta::assert_snapshot!(told);
}
