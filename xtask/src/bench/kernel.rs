//! What options of the kernel cost.
//!
//! ```text
//! kernel/x86_64.config ──────────────> kernel ──> instructions to PID 1, size
//!                      ──group out──>  kernel ──> the same; the difference is the group's cost
//!                      ──group in───>  kernel ──> the same, for what releases do not have
//! ```
//!
//! One source tree in the target directory; from one group to the next only what they change is compiled. The commands
//! are those that make a release's kernel, so the first one is that very kernel, byte for byte.

mod groups;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use plfm_build::{Event, Fragment, KERNEL_FRAGMENT_DEFAULT, KERNEL_SOURCE_DEFAULT, KernelInputs, KernelTree};
use plfm_release::Sha256Digest;
use serde_json::{Value, json};

use self::groups::{GROUPS, Group, Presence};
use super::icount::{Machine, count, pack_probe};
use super::millions;
use crate::shell::step;
use crate::{lab, setup};

/// Memory of the two machines that each kernel is counted on, in MiB: some costs grow with memory.
const MEMORY_MIB: [u32; 2] = [128, 1024];

/// An image is looked at in lines of this length.
const LINE_BYTES: usize = 64;

/// One kernel's figures.
struct Figures {
    sha256: Sha256Digest,
    /// Instructions to PID 1, in the order of [`MEMORY_MIB`], then the first machine with the entropy device.
    instructions: [u64; 3],
    /// The first machine, described by ACPI; `None` for a kernel that cannot read that.
    with_acpi: Option<u64>,
    /// Code and data: what [`filled_bytes`] counts.
    filled_bytes: u64,
    file_bytes: u64,
}

struct Workshop {
    tree: KernelTree,
    fragment: Fragment,
    directory: PathBuf,
    probe: PathBuf,
}

/// Measures the groups named, or all of them.
pub fn run(names: &[String], json_file: Option<&Path>) -> anyhow::Result<()> {
    let groups = select(names)?;
    setup::ensure()?;
    let work = tempfile::tempdir()?;
    let workshop = Workshop::open(work.path())?;
    let base = workshop.measure("the kernel of releases", &[])?;
    println!("kernel of releases, sha256 {}", base.sha256);
    println!(
        "| | instructions to PID 1, {} MiB | {} MiB | with an entropy device | described by ACPI | code and data, KiB | file, KiB |",
        MEMORY_MIB[0], MEMORY_MIB[1]
    );
    println!("|---|---|---|---|---|---|---|");
    println!("{}", render_kernel(&base));
    let mut costs = Vec::new();
    for group in groups {
        let other = workshop.measure(group.name, group.changes)?;
        println!("{}", render_cost(group, &base, &other));
        costs.push(cost_json(group, &base, &other));
        // After each group: the whole takes hours, and what was measured is not lost when it is stopped.
        if let Some(path) = json_file {
            let document = json!({ "kernel": kernel_json(&base), "groups": costs });
            std::fs::write(path, serde_json::to_vec_pretty(&document)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn select(names: &[String]) -> anyhow::Result<Vec<&'static Group>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| GROUPS.iter().all(|group| group.name != **name))
    {
        let known: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
        bail!(
            "no group of options is named {unknown}; there are {}",
            known.join(", ")
        );
    }
    let is_wanted = |group: &&Group| names.is_empty() || names.iter().any(|name| name == group.name);
    Ok(GROUPS.iter().filter(is_wanted).collect())
}

impl Workshop {
    fn open(work: &Path) -> anyhow::Result<Self> {
        let inputs = KernelInputs {
            source: KERNEL_SOURCE_DEFAULT.into(),
            fragment: KERNEL_FRAGMENT_DEFAULT.into(),
            needs: &[],
            cache: PathBuf::new(),
            jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let directory = lab::target_dir().join("kernel-bench");
        step("the kernel's source tree");
        Ok(Self {
            tree: KernelTree::open(&inputs, &directory, &mut |_: Event<'_>| ())?,
            fragment: Fragment::parse(KERNEL_FRAGMENT_DEFAULT.as_bytes())?,
            directory,
            probe: pack_probe(work)?,
        })
    }

    fn measure(&self, name: &str, changes: &[(&str, &str)]) -> anyhow::Result<Figures> {
        step(&format!("compiling {name}"));
        let named: Vec<_> = changes
            .iter()
            .map(|(option, value)| (format!("CONFIG_{option}"), *value))
            .collect();
        let changes: Vec<_> = named
            .iter()
            .map(|(option, value)| (option.as_str(), *value))
            .collect();
        let fragment = self.fragment.with(&changes);
        let kernel = self.tree.build(&fragment, &mut |_: Event<'_>| ())?;
        let image = self.directory.join("vmlinux");
        std::fs::write(&image, &kernel.image)?;
        let [small, large] = MEMORY_MIB.map(Machine::with_memory);
        let counted = |machine| count(&image, &self.probe, machine);
        let has_acpi = fragment.asks_for("CONFIG_ACPI", "y");
        Ok(Figures {
            sha256: Sha256Digest::of(&kernel.image),
            instructions: [
                counted(small)?,
                counted(large)?,
                counted(small.with_entropy_device())?,
            ],
            with_acpi: has_acpi.then(|| counted(small.with_acpi())).transpose()?,
            filled_bytes: filled_bytes(&kernel.image),
            file_bytes: kernel.image.len() as u64,
        })
    }
}

/// How much of an image is not padding: huge pages are aligned by megabytes of one byte, which hide what a group adds.
fn filled_bytes(image: &[u8]) -> u64 {
    let is_filled = |line: &&[u8]| line.iter().any(|byte| Some(byte) != line.first());
    (image.chunks(LINE_BYTES).filter(is_filled).count() * LINE_BYTES) as u64
}

fn render_kernel(base: &Figures) -> String {
    let [small, large, entropy] = base.instructions.map(millions);
    let acpi = base.with_acpi.map_or("-".to_owned(), millions);
    format!(
        "| all of it | {small} | {large} | {entropy} | {acpi} | {} | {} |",
        base.filled_bytes / 1024,
        base.file_bytes / 1024
    )
}

fn render_cost(group: &Group, base: &Figures, other: &Figures) -> String {
    let cost = Cost::of(group, base, other);
    let [small, large, entropy] = cost.instructions.map(signed_thousands);
    let acpi = cost.with_acpi.map_or("-".to_owned(), signed_thousands);
    let kib = |bytes: i64| format!("{:+}", bytes / 1024);
    format!(
        "| {}{} | {small} | {large} | {entropy} | {acpi} | {} | {} |",
        group.name,
        if group.presence == Presence::Out {
            " (not in it)"
        } else {
            ""
        },
        kib(cost.filled_bytes),
        kib(cost.file_bytes)
    )
}

/// What a group adds.
struct Cost {
    instructions: [i64; 3],
    with_acpi: Option<i64>,
    filled_bytes: i64,
    file_bytes: i64,
}

impl Cost {
    fn of(group: &Group, base: &Figures, other: &Figures) -> Self {
        let (with, without) = match group.presence {
            Presence::In => (base, other),
            Presence::Out => (other, base),
        };
        let less = |with: u64, without: u64| with.cast_signed() - without.cast_signed();
        let [a, b, c] = with.instructions;
        let [d, e, f] = without.instructions;
        Self {
            instructions: [less(a, d), less(b, e), less(c, f)],
            with_acpi: with.with_acpi.zip(without.with_acpi).map(|(a, b)| less(a, b)),
            filled_bytes: less(with.filled_bytes, without.filled_bytes),
            file_bytes: less(with.file_bytes, without.file_bytes),
        }
    }
}

fn signed_thousands(count: i64) -> String {
    format!("{:+} k", count / 1000)
}

fn kernel_json(figures: &Figures) -> Value {
    json!({
        "sha256": figures.sha256.to_string(),
        "instructions": figures.instructions,
        "memory_mib": MEMORY_MIB,
        "instructions_with_acpi": figures.with_acpi,
        "filled_bytes": figures.filled_bytes,
        "file_bytes": figures.file_bytes,
    })
}

fn cost_json(group: &Group, base: &Figures, other: &Figures) -> Value {
    let cost = Cost::of(group, base, other);
    json!({
        "group": group.name,
        "in_releases": group.presence == Presence::In,
        "instructions": cost.instructions,
        "instructions_with_acpi": cost.with_acpi,
        "filled_bytes": cost.filled_bytes,
        "file_bytes": cost.file_bytes,
        "kernel": kernel_json(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_any_byte_does_not_count() {
        let padding = [vec![0; 4096], vec![0xcc; 4096]].concat();
        assert_eq!(filled_bytes(&padding), 0);
        let image = [padding, vec![1, 2, 3]].concat();
        assert_eq!(filled_bytes(&image), LINE_BYTES as u64);
    }

    #[test]
    fn a_cost_is_what_the_kernel_with_the_group_has_more() {
        let figures = |instructions, bytes| Figures {
            sha256: Sha256Digest::of(b""),
            instructions: [instructions; 3],
            with_acpi: None,
            filled_bytes: bytes,
            file_bytes: bytes,
        };
        let (base, other) = (figures(50, 900), figures(40, 1000));
        for (presence, sign) in [(Presence::In, 1), (Presence::Out, -1)] {
            let group = Group {
                name: "",
                presence,
                changes: &[],
            };
            let cost = Cost::of(&group, &base, &other);
            assert_eq!(
                (cost.instructions, cost.file_bytes),
                ([10 * sign; 3], -100 * sign)
            );
        }
    }

    #[test]
    fn an_unknown_group_is_an_error_that_lists_the_known_ones() {
        let error = select(&["ext5".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("ext5") && error.contains("ext4"), "{error}");
        assert_eq!(select(&["ext4".to_owned()]).unwrap().len(), 1);
        assert_eq!(select(&[]).unwrap().len(), GROUPS.len());
    }
}
