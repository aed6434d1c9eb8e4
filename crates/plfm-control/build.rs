//! Tells the tests whether there is a PostgreSQL to start. Those that need one are ignored without it, not passed.

use std::path::Path;

fn main() {
    let postgres = "/usr/lib/postgresql/15/bin/postgres";
    println!("cargo::rustc-check-cfg=cfg(postgres_installed)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={postgres}");
    if Path::new(postgres).exists() {
        println!("cargo::rustc-cfg=postgres_installed");
    }
}
