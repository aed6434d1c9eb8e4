//! The programs that a kernel is compiled with: whether they are there, and which ones they are.

use std::collections::BTreeMap;
use std::process::Command;

use crate::command::{self, RunError};
use crate::kernel::KernelError;
use crate::kernel::config::Fragment;

/// A program, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
    /// Whether its version can change the kernel's bytes.
    shapes_output: bool,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "gcc",
        package: "gcc",
        shapes_output: true,
    },
    Tool {
        program: "ld",
        package: "binutils",
        shapes_output: true,
    },
    Tool {
        program: "as",
        package: "binutils",
        shapes_output: true,
    },
    Tool {
        program: "strip",
        package: "binutils",
        shapes_output: true,
    },
    Tool {
        program: "make",
        package: "make",
        shapes_output: true,
    },
    Tool {
        program: "flex",
        package: "flex",
        shapes_output: true,
    },
    Tool {
        program: "bison",
        package: "bison",
        shapes_output: true,
    },
    Tool {
        program: "bc",
        package: "bc",
        shapes_output: true,
    },
    Tool {
        program: "tar",
        package: "tar",
        shapes_output: false,
    },
    Tool {
        program: "xz",
        package: "xz-utils",
        shapes_output: false,
    },
];
/// Only for a kernel with type information for BPF.
const PAHOLE: Tool = Tool {
    program: "pahole",
    package: "dwarves",
    shapes_output: true,
};
const PAHOLE_OPTION: &str = "CONFIG_DEBUG_INFO_BTF";
/// Headers that the kernel's own build tools include.
const HEADERS: &[(&str, &str)] = &[("gelf.h", "libelf-dev"), ("stdlib.h", "libc6-dev")];
/// Stands for a program that the build must not find: the kernel's configuration records which it finds.
const ABSENT: &str = "plfm-absent";

/// The programs that a kernel will be compiled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// Program to the first line of its `--version`, for those that shape the output.
    pub versions: BTreeMap<String, String>,
    pahole: bool,
}

/// What is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Missing {
    /// Programs and headers.
    pub things: Vec<&'static str>,
    /// The Debian packages that have them.
    pub packages: Vec<&'static str>,
}

impl Missing {
    fn add(&mut self, thing: &'static str, package: &'static str) {
        self.things.push(thing);
        if !self.packages.contains(&package) {
            self.packages.push(package);
        }
    }
}

impl Toolchain {
    /// Asks each program for its version. The inner error lists everything that is not there.
    fn find(fragment: &Fragment) -> Result<Result<Self, Missing>, RunError> {
        let pahole = fragment.asks_for(PAHOLE_OPTION, "y");
        let mut versions = BTreeMap::new();
        let mut missing = Missing::default();
        for tool in TOOLS.iter().chain(pahole.then_some(&PAHOLE)) {
            match version(tool.program)? {
                Some(version) if tool.shapes_output => {
                    versions.insert(tool.program.to_owned(), version);
                }
                Some(_) => {}
                None => missing.add(tool.program, tool.package),
            }
        }
        if versions.contains_key("gcc") {
            for (header, package) in HEADERS {
                if !has_header(header) {
                    missing.add(header, package);
                }
            }
        }
        Ok(if missing.things.is_empty() {
            Ok(Self { versions, pahole })
        } else {
            Err(missing)
        })
    }

    /// The same, where nothing can go on without all of them.
    pub fn require(fragment: &Fragment) -> Result<Self, KernelError> {
        match Self::find(fragment).map_err(KernelError::Toolchain)? {
            Ok(toolchain) => Ok(toolchain),
            Err(Missing { things, packages }) => Err(KernelError::MissingTools { things, packages }),
        }
    }

    /// The variables of `make` that keep it from looking for programs that are not in `versions`.
    pub fn make_variables(&self) -> Vec<String> {
        let mut variables = vec![format!("RUSTC={ABSENT}"), format!("BINDGEN={ABSENT}")];
        if !self.pahole {
            variables.push(format!("PAHOLE={ABSENT}"));
        }
        variables
    }
}

/// A command in an environment that says nothing about the machine but where its programs are.
pub(crate) fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    for name in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn version(program: &'static str) -> Result<Option<String>, RunError> {
    match command::output(clean_command(program).arg("--version")) {
        Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned())),
        Err(RunError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_header(header: &str) -> bool {
    let mut command = clean_command("gcc");
    command.args(["-E", "-x", "c", "-include", header, "/dev/null"]);
    command::output(&mut command).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(version("plfm-no-such-program").unwrap(), None);
    }

    #[test]
    fn a_package_is_listed_once() {
        let mut missing = Missing::default();
        missing.add("ld", "binutils");
        missing.add("as", "binutils");
        assert_eq!(
            (missing.things, missing.packages),
            (vec!["ld", "as"], vec!["binutils"])
        );
    }

    #[test]
    fn a_header_that_is_not_there_is_noticed() {
        assert!(!has_header("plfm-no-such-header.h"));
    }
}
