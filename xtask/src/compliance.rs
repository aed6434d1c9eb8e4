//! The guest contract in real microVMs: every fact of `tests/e2e`, and a table with a line for each clause.

use crate::lab::{self, Lab};
use crate::shell::{cargo, run, step};
use crate::{debian, setup};

/// How many facts are looked at at once, each with a VM or more of its own. Most of a VM's life is waiting.
const AT_ONCE: &str = "4";

/// Makes the lab and looks at the whole contract.
pub fn run_all() -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    lab::ensure_faulty(&lab)?;
    prove(&lab, None)
}

/// Looks at the whole contract, and at what goes by way of the S3 server, if there is one.
pub fn prove(lab: &Lab, s3_url: Option<&str>) -> anyhow::Result<()> {
    step("the guest contract, in microVMs");
    run(cargo()
        .args(["test", "--quiet", "--locked", "-p", "plfm-e2e", "--test", "e2e"])
        .args(["--", "--test-threads", AT_ONCE])
        .env("PLFM_COMPLIANCE", "1")
        .env("PLFM_LAB", &lab.dir)
        .env("PLFM_BIN", &lab.bin)
        .env("PLFM_NGINX", debian::NGINX.ensure()?)
        .env("PLFM_PROMTOOL", debian::PROMTOOL.ensure()?)
        .envs(s3_url.map(|url| ("PLFM_TEST_S3", url))))
}
