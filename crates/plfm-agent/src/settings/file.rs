//! Settings from a file: below flags and environment, above what is usual.
//!
//! The file's members become the defaults of the flags that they are named as, so each is checked by the flag's own rules,
//! and a member that is no flag is refused.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Command, CommandFactory as _, FromArgMatches as _};
use toml::{Table, Value};

use super::{CONFIG_DEFAULT, Settings};

/// Members that have no meaning in a file.
const NOT_IN_A_FILE: [&str; 3] = ["config", "help", "version"];

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {} (--config names it)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{} is not TOML: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why, without the line it is about: that may have what is nobody's business.
        why: String,
    },
    /// A member is not named as a flag.
    #[error("{} has a member {member:?}, and no flag has that name; see `plfm-agent --help`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The member.
        member: String,
    },
    /// A member is neither text nor number nor true or false, nor a list of those.
    #[error("{}: {member} has a value of a kind that no flag takes: {kind}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The member.
        member: String,
        /// What it is.
        kind: &'static str,
    },
    /// A value that cannot be, or a request for help: clap's own words, on several lines.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
}

impl SettingsError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "config_unreadable",
            Self::Malformed { .. } => "config_malformed",
            Self::Unknown { .. } => "config_member_unknown",
            Self::Kind { .. } => "config_value_invalid",
            Self::Arguments(_) => "arguments_invalid",
        }
    }
}

/// Settings of these arguments, the environment and the file that they name. Blocking.
///
/// # Errors
/// What cannot be used, with where it is from.
pub fn load_settings(arguments: &[OsString]) -> Result<Settings, SettingsError> {
    let told = Settings::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments)?;
    let path = told
        .get_one::<PathBuf>("config")
        .cloned()
        .unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT));
    let is_named = told
        .value_source("config")
        .is_some_and(|source| source != ValueSource::DefaultValue);
    let members = match std::fs::read_to_string(&path) {
        Ok(text) => text.parse::<Table>().map_err(|error| SettingsError::Malformed {
            path: path.clone(),
            why: error.message().to_owned(),
        })?,
        Err(error) if !is_named && error.kind() == ErrorKind::NotFound => Table::new(),
        Err(source) => return Err(SettingsError::Read { path, source }),
    };
    let command = with_defaults(Settings::command(), &path, members)?;
    let matches = command.try_get_matches_from(arguments)?;
    Ok(Settings::from_arg_matches(&matches)?)
}

fn with_defaults(mut command: Command, path: &Path, members: Table) -> Result<Command, SettingsError> {
    for (member, value) in members {
        let is_flag = command
            .get_arguments()
            .any(|flag| flag.get_id() == member.as_str());
        if !is_flag || NOT_IN_A_FILE.contains(&member.as_str()) {
            return Err(SettingsError::Unknown {
                path: path.to_owned(),
                member,
            });
        }
        let values = texts(value).map_err(|kind| SettingsError::Kind {
            path: path.to_owned(),
            member: member.clone(),
            kind,
        })?;
        // clap keeps defaults for as long as the program runs, and these are read once in it.
        let values = values.into_iter().map(|text| &*text.leak());
        command = command.mut_arg(&member, |flag| flag.default_values(values));
    }
    Ok(command)
}

/// A value as its flag's values would be written; else what it is.
fn texts(value: Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::Array(values) => {
            let texts = values.into_iter().map(|value| text(&value));
            texts.collect()
        }
        value => Ok(vec![text(&value)?]),
    }
}

fn text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => Err(value.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of a file with this content and these arguments.
    fn settings(content: &str, arguments: &[&str]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, content).unwrap();
        let config = format!("--config={}", path.display());
        let all = ["plfm-agent", &config]
            .into_iter()
            .chain(arguments.iter().copied());
        let all: Vec<OsString> = all.map(OsString::from).collect();
        load_settings(&all).map_err(|error| {
            format!("{}: {error}", error.code()).replace(&path.display().to_string(), "FILE")
        })
    }

    const FILE: &str = r#"
        registry = ["https://one.example/", "https://two.example/"]
        channel = "staging"
        instances_max = 12
        memory_max_mib = 4096
        no_network = true
        dns = ["fd00::1"]
    "#;

    #[test]
    fn a_file_is_below_the_arguments_and_above_what_is_usual() {
        let told = settings(FILE, &[]).unwrap();
        assert_eq!((told.instances_max, told.memory_max_mib), (12, Some(4_096)));
        assert_eq!((told.registry.len(), told.dns.len()), (2, 1));
        assert!(told.no_network && !told.log_json);
        assert_eq!(told.registry_poll_seconds, 300);
        let told = settings(FILE, &["--instances-max=7", "--registry=https://three.example/"]).unwrap();
        assert_eq!((told.instances_max, told.registry.len()), (7, 1));
        assert_eq!(told.channel.to_string(), "staging");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let refused = |content| settings(content, &[]).unwrap_err();
        let unknown = refused("instance_max = 3");
        assert!(
            unknown.starts_with("config_member_unknown: FILE has a member \"instance_max\""),
            "{unknown}"
        );
        assert!(refused("config = \"x\"").starts_with("config_member_unknown"));
        assert!(refused("= 3").starts_with("config_malformed: FILE is not TOML"));
        assert!(refused("instances_max = 0").contains("--instances-max"));
        assert!(refused("dns = [\"nowhere\"]").contains("--dns"));
        assert_eq!(
            refused("memory_max_mib = 1.5"),
            "config_value_invalid: FILE: memory_max_mib has a value of a kind that no flag takes: float"
        );
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let named = ["plfm-agent", "--config=/nonexistent/agent.toml"].map(OsString::from);
        assert!(matches!(load_settings(&named), Err(SettingsError::Read { .. })));
    }
}
