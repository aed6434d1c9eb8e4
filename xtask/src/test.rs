//! All tests. Those in microVMs find the lab by `PLFM_LAB`.

use crate::shell::{self, cargo, is_installed, step};
use crate::{compliance, debian, lab, monitoring, packaging, s3, setup, software};

/// Runs them: those of the crates, then the guest contract. With `args`, which are the test runner's, only what they
/// choose among all.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    lab::ensure_faulty(&lab)?;
    let kernel = lab::artifact(&lab.release(), "vmlinuz-")?;
    let s3 = s3::Server::start()?;
    let s3_url = s3.as_ref().map(s3::Server::url);
    step("running the tests");
    let mut command = cargo();
    if is_installed("cargo-nextest") {
        command.args(["nextest", "run", "--workspace", "--locked"]);
    } else {
        command.args(["test", "--quiet", "--workspace", "--locked"]);
    }
    if args.is_empty() {
        command.args(["--exclude", "plfm-e2e"]);
    }
    command
        .args(args)
        .env("PLFM_LAB", &lab.dir)
        .env("PLFM_BIN", &lab.bin)
        .env("PLFM_LAB_KERNEL", kernel)
        .env("PLFM_NGINX", debian::NGINX.ensure()?)
        .env("PLFM_PROMTOOL", debian::PROMTOOL.ensure()?)
        .env("PLFM_DOCKER_REGISTRY", debian::DOCKER_REGISTRY.ensure()?)
        .env("PLFM_SOFTWARE", software::ensure()?)
        .envs(s3_url.map(|url| ("PLFM_TEST_S3", url)));
    shell::run(&mut command)?;
    if is_installed("cargo-nextest") {
        // Examples in documentation, which nextest does not run.
        shell::run(cargo().args(["test", "--quiet", "--doc", "--workspace", "--locked"]))?;
    }
    if args.is_empty() {
        monitoring::check()?;
        packaging::check()?;
        if let Some(s3) = &s3 {
            s3::test_registry(s3)?;
        }
        // That the documents name tests which exist.
        shell::run(cargo().args([
            "test",
            "--quiet",
            "--locked",
            "-p",
            "plfm-e2e",
            "--test",
            "documents",
        ]))?;
        compliance::prove(&lab, s3_url)?;
    }
    Ok(())
}
