//! The guest contract in real microVMs: every fact of `tests/e2e`, and a table with a line for each clause.

use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::{cargo, run, step};

/// How many facts are looked at at once, each with a VM or more of its own. Most of a VM's life is waiting.
const AT_ONCE: &str = "4";

/// Makes the lab and looks at the whole contract.
pub fn run_all() -> anyhow::Result<()> {
    setup::ensure()?;
    prove(&lab::ensure(lab::Show::Nothing)?)
}

/// Looks at the whole contract.
pub fn prove(lab: &Lab) -> anyhow::Result<()> {
    step("the guest contract, in microVMs");
    run(cargo()
        .args(["test", "--quiet", "--locked", "-p", "plfm-e2e", "--test", "e2e"])
        .args(["--", "--test-threads", AT_ONCE])
        .env("PLFM_COMPLIANCE", "1")
        .env("PLFM_LAB", &lab.dir)
        .env("PLFM_BIN", &lab.bin))
}
