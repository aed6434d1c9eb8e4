//! `--env`: environment entries, whose values are never printed, not even when they are refused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::output::{Category, CliError};

/// `KEY=VALUE`, or `KEY` alone for the value that this command itself was given. Anything parses, because the
/// argument parser would print what does not; [`resolve`] refuses.
#[derive(Clone)]
pub struct EnvArg(String);

impl fmt::Debug for EnvArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl FromStr for EnvArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// The entries, those without a value looked up with `own`.
pub fn resolve(
    entries: Vec<EnvArg>,
    own: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, CliError> {
    let resolve_one = |(index, EnvArg(text)): (usize, EnvArg)| {
        let entry = match text.split_once('=') {
            Some((key, value)) => Some((key.to_owned(), value.to_owned())),
            None => own(&text).map(|value| (text, value)),
        };
        entry.filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            let message = format!(
                "--env number {} is neither KEY=VALUE nor the name of a variable that this command has",
                index + 1
            );
            CliError::new(Category::Usage, "env_invalid", message)
        })
    };
    entries.into_iter().enumerate().map(resolve_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(entries: &[&str]) -> Result<BTreeMap<String, String>, CliError> {
        let own = |key: &str| (key == "HELD").then(|| "hunter2".to_owned());
        resolve(entries.iter().map(|text| text.parse().unwrap()).collect(), own)
    }

    #[test]
    fn a_value_is_given_or_taken_from_the_environment() {
        let env = resolved(&["A=b=c", "HELD", "EMPTY="]).unwrap();
        let expected = [("A", "b=c"), ("EMPTY", ""), ("HELD", "hunter2")];
        assert_eq!(env, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn what_is_refused_is_not_repeated() {
        for bad in ["hunter3", "=hunter3", ""] {
            let error = resolved(&["A=b", bad]).unwrap_err();
            assert!(error.message.contains("number 2") && !error.message.contains("hunter3"));
        }
        let entry: EnvArg = "KEY=hunter2".parse().unwrap();
        assert_eq!(format!("{entry:?}"), "[redacted]");
    }
}
