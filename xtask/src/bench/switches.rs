//! What parts of the kernel cost at boot that its command line can switch off: control groups by controller, pressure
//! accounting, ACPI. The same kernel each time, so the code's size is not in it.

use super::icount::{Machine, count, pack_probe};
use super::millions;
use crate::shell::step;
use crate::{lab, setup};

/// The switches, by what they switch off.
const SWITCHES: [(&str, &str); 7] = [
    ("pressure accounting (PSI)", "psi=0"),
    ("controller cpu", "cgroup_disable=cpu"),
    ("controller cpuset", "cgroup_disable=cpuset"),
    ("controller io", "cgroup_disable=io"),
    ("controller memory", "cgroup_disable=memory"),
    ("controller pids", "cgroup_disable=pids"),
    ("all of these", "psi=0 cgroup_disable=cpu,cpuset,io,memory,pids"),
];

/// Boots with each part on and off.
pub fn run() -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Nothing)?;
    let work = tempfile::tempdir()?;
    let probe = pack_probe(work.path())?;
    let kernel = lab::artifact(&lab.release(), "vmlinuz-")?;
    let machine = Machine::with_memory(128);
    let whole = count(&kernel, &probe, machine)?;
    println!("| part | switched off by | costs, instructions up to PID 1 |");
    println!("|---|---|---|");
    println!("| all of it | | {} in all |", millions(whole));
    let row = |name: &str, switch: &str, on: u64, off: u64| {
        let sign = if on < off { "-" } else { "+" };
        println!("| {name} | `{switch}` | {sign}{} k |", on.abs_diff(off) / 1_000);
    };
    for (name, switch) in SWITCHES {
        step(name);
        row(
            name,
            switch,
            whole,
            count(&kernel, &probe, machine.with_words(switch))?,
        );
    }
    step("tables of ACPI");
    let described = count(&kernel, &probe, machine.with_acpi())?;
    row(
        "ACPI's tables read, the VM generation id's driver bound",
        "acpi=off",
        described,
        whole,
    );
    Ok(())
}
