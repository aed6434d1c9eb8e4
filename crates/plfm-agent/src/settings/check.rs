//! What is wrong with settings, as far as it can be told without starting anything: all of it at once, before a restart.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Settings;
use crate::problem::chain;

/// A socket's path has at most 107 bytes (`sockaddr_un`), and in an instance's directory the longest name is
/// `/xxxxxxxxxx/v.sock_5161`.
const RUN_DIR_BYTES_MAX: usize = 107 - 23;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl std::fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.flag, self.detail)
    }
}

/// What is wrong with these settings; nothing, if an agent could start with them as far as can be told. Reads the files
/// that they name, and changes nothing. Blocking.
pub fn check_settings(settings: &Settings) -> Vec<SettingsProblem> {
    let checks: [fn(&Settings) -> Vec<SettingsProblem>; 5] = [
        check_control,
        check_registry,
        check_directories,
        check_network,
        check_limits,
    ];
    checks.iter().flat_map(|check| check(settings)).collect()
}

fn problem(flag: &'static str, detail: impl Into<String>) -> SettingsProblem {
    SettingsProblem {
        flag,
        detail: detail.into(),
    }
}

fn unreadable(flag: &'static str, path: &Path) -> Option<SettingsProblem> {
    let error = std::fs::File::open(path).err()?;
    Some(problem(flag, format!("cannot read {}: {error}", path.display())))
}

fn check_control(settings: &Settings) -> Vec<SettingsProblem> {
    let Some(url) = &settings.control else {
        let needless = [
            ("--control-ca", settings.control_ca.is_some()),
            ("--enroll-token-file", settings.enroll_token_file.is_some()),
        ];
        let needless = needless.into_iter().filter(|(_, given)| *given);
        return needless
            .map(|(flag, _)| problem(flag, "is of no use without --control"))
            .collect();
    };
    let mut problems = Vec::new();
    if url.scheme() != "https" || url.host().is_none() {
        problems.push(problem("--control", format!("{url} is not an https:// address")));
    }
    match &settings.control_ca {
        None => problems.push(problem(
            "--control-ca",
            "is missing: what the control plane's certificate is trusted by",
        )),
        Some(path) => problems.extend(check_authority(path)),
    }
    // The token may be gone once the host has enrolled, so its file is not looked for.
    problems
}

fn check_authority(path: &Path) -> Option<SettingsProblem> {
    let flag = "--control-ca";
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            return Some(problem(flag, format!("cannot read {}: {error}", path.display())));
        }
    };
    match reqwest::Certificate::from_pem_bundle(&text) {
        Ok(certificates) if certificates.is_empty() => Some(problem(
            flag,
            format!("{} has no certificate in it", path.display()),
        )),
        Ok(_) => None,
        Err(error) => Some(problem(flag, format!("{}: {}", path.display(), chain(&error)))),
    }
}

fn check_registry(settings: &Settings) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    if settings.registry.is_empty() {
        // Without a registry the keyring is all that anything is trusted by.
        problems.extend(unreadable("--keyring", &settings.keyring));
    } else {
        problems.extend(unreadable("--registry-root", &settings.registry_root));
        if settings.registry_poll_seconds == 0 {
            problems.push(problem("--registry-poll-seconds", "is at least 1"));
        }
    }
    problems
}

fn check_directories(settings: &Settings) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    for (flag, path) in [
        ("--state-dir", &settings.state_dir),
        ("--run-dir", &settings.run_dir),
    ] {
        if !path.is_absolute() {
            problems.push(problem(
                flag,
                format!("{} is not an absolute path", path.display()),
            ));
        } else if path.exists() && !path.is_dir() {
            problems.push(problem(flag, format!("{} is not a directory", path.display())));
        }
    }
    let bytes = settings.run_dir.as_os_str().as_bytes().len();
    if bytes > RUN_DIR_BYTES_MAX {
        problems.push(problem(
            "--run-dir",
            format!(
                "{} has {bytes} bytes; with more than {RUN_DIR_BYTES_MAX} the sockets in it have no room for their names",
                settings.run_dir.display()
            ),
        ));
    }
    problems
}

fn check_network(settings: &Settings) -> Vec<SettingsProblem> {
    let host_part = settings.instance_prefix.to_bits() & u128::from(u64::MAX);
    let wrong = (host_part != 0).then(|| {
        problem(
            "--instance-prefix",
            format!(
                "{} is not a /64: its last 64 bits are not zero",
                settings.instance_prefix
            ),
        )
    });
    wrong.into_iter().collect()
}

fn check_limits(settings: &Settings) -> Vec<SettingsProblem> {
    let limits = [
        ("--memory-max-mib", settings.memory_max_mib),
        ("--scratch-max-mib", settings.scratch_max_mib),
    ];
    let zero = limits.into_iter().filter(|(_, limit)| *limit == Some(0));
    zero.map(|(flag, _)| problem(flag, "is 0: nothing could run"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn flags(arguments: &[&str]) -> Vec<&'static str> {
        let all = ["plfm-agent"].into_iter().chain(arguments.iter().copied());
        let problems = check_settings(&Settings::parse_from(all));
        problems.iter().map(|problem| problem.flag).collect()
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let long = format!("--run-dir=/run/{}", "x".repeat(90));
        let wrong = flags(&[
            "--control=http://control.example/",
            "--registry=https://one.example/",
            "--registry-root=/nonexistent/root.json",
            "--registry-poll-seconds=0",
            "--state-dir=state",
            &long,
            "--instance-prefix=fd00::1",
            "--memory-max-mib=0",
        ]);
        assert_eq!(
            wrong,
            [
                "--control",
                "--control-ca",
                "--registry-root",
                "--registry-poll-seconds",
                "--state-dir",
                "--run-dir",
                "--instance-prefix",
                "--memory-max-mib"
            ]
        );
    }

    #[test]
    fn a_host_without_a_registry_needs_its_keyring_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = format!("--keyring={}", dir.path().join("keyring.json").display());
        assert_eq!(flags(&[&keyring]), ["--keyring"]);
        std::fs::write(dir.path().join("keyring.json"), "{}").unwrap();
        assert_eq!(flags(&[&keyring]), [""; 0]);
        assert_eq!(flags(&[&keyring, "--control-ca=/x"]), ["--control-ca"]);
    }

    #[test]
    fn an_authority_that_is_no_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        assert_eq!(check_authority(&path).unwrap().flag, "--control-ca");
    }
}
