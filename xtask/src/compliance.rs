//! The guest contract in real microVMs: every fact of `tests/e2e`, and a table with a line for each clause.

use std::process::Command;

use crate::lab::{self, Lab};
use crate::shell::{cargo, run, step};
use crate::{debian, setup, software};

/// How many facts are looked at at once, each with a VM or more of its own. Most of a VM's life is waiting.
const AT_ONCE: &str = "4";

/// Makes the lab and looks at the whole contract.
pub fn run_all() -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    lab::ensure_faulty(&lab)?;
    prove(&lab, None)
}

/// Rolls bad releases out in real microVMs, one after the other: they take minutes, and a busy machine is an incident to them.
pub fn roll_out() -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    lab::ensure_faulty(&lab)?;
    step("rollouts of bad releases, in microVMs");
    run(facts(&lab)?
        .args(["--", "--test-threads", "1", "rollouts::"])
        .env("PLFM_ROLLOUTS", "1"))
}

/// Looks at the whole contract, and at what goes by way of the S3 server, if there is one.
pub fn prove(lab: &Lab, s3_url: Option<&str>) -> anyhow::Result<()> {
    step("the guest contract, in microVMs");
    run(facts(lab)?
        .args(["--", "--test-threads", AT_ONCE])
        .env("PLFM_COMPLIANCE", "1")
        .envs(s3_url.map(|url| ("PLFM_TEST_S3", url))))
}

/// The facts' test program, with all that they may need.
fn facts(lab: &Lab) -> anyhow::Result<Command> {
    let mut command = cargo();
    command
        .args(["test", "--quiet", "--locked", "-p", "plfm-e2e", "--test", "e2e"])
        .env("PLFM_LAB", &lab.dir)
        .env("PLFM_BIN", &lab.bin)
        .env("PLFM_NGINX", debian::NGINX.ensure()?)
        .env("PLFM_PROMTOOL", debian::PROMTOOL.ensure()?)
        .env("PLFM_DOCKER_REGISTRY", debian::DOCKER_REGISTRY.ensure()?)
        .env("PLFM_SOFTWARE", software::ensure()?);
    Ok(command)
}
