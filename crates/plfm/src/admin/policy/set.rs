//! `plfm admin policy set`.

use std::fs::File;
use std::io::{self, Read};

use clap::Args;
use plfm_api::control::{CurrentPolicy, Generation, Policy, Receipt, SetPolicy};
use reqwest::Method;

use super::change::report;
use crate::admin::Control;
use crate::output::{Category, CliError};

/// Largest file read: thousands of pins.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Arguments of `plfm admin policy set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// File with a policy in JSON, or what `policy show --output json` printed, which is taken only if nothing changed
    /// since; - for standard input
    file: String,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Only if the fleet is still at this generation, whatever the file says
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
}

/// What is in the file.
enum Document {
    Current(CurrentPolicy),
    Policy(Policy),
}

impl SetArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let (policy, generation) = match parse(&self.file, &read(&self.file)?)? {
            Document::Current(current) => (current.policy, Some(current.generation)),
            Document::Policy(policy) => (policy, None),
        };
        let request = SetPolicy {
            policy,
            expected_generation: self.expect_generation.map(Generation).or(generation),
            reason: self.reason,
        };
        control.block_on(async |client| {
            let before: CurrentPolicy = client.get(&["policy"], &[]).await?;
            let receipt: Receipt = client.change(Method::PUT, &["policy"], &request).await?;
            report(control, receipt, request.policy, &before)
        })
    }
}

fn read(file: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match file {
        "-" => io::stdin().lock().take(BYTES_MAX).read_to_string(&mut text),
        path => File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)),
    };
    read.map(|_| text).map_err(|error| {
        let message = format!("cannot read the policy {file}: {error}");
        CliError::new(Category::Failure, "policy_unreadable", message)
    })
}

/// Which of both it is, first: then the error is about that one.
fn parse(file: &str, text: &str) -> Result<Document, CliError> {
    let malformed = |why: String| {
        let message = format!("{file} is not a policy: {why}");
        CliError::new(Category::Usage, "policy_malformed", message).with_hint(Some(
            "begin with what `plfm admin policy show --output json` prints".to_owned(),
        ))
    };
    let because = |error: serde_json::Error| malformed(error.to_string());
    let value: serde_json::Value = serde_json::from_str(text).map_err(because)?;
    // An array would be taken for the members in their order.
    let members = value
        .as_object()
        .ok_or_else(|| malformed("it is not a JSON object".to_owned()))?;
    match members.contains_key("policy") {
        true => serde_json::from_value(value)
            .map(Document::Current)
            .map_err(because),
        false => serde_json::from_value(value)
            .map(Document::Policy)
            .map_err(because),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_alone_or_as_it_was_shown() {
        let parsed = parse("f", r#"{"fetches_max": 7}"#).unwrap();
        assert!(matches!(parsed, Document::Policy(policy) if policy.fetches_max == 7));
        let shown = r#"{"policy": {"fetches_max": 7, "lost_after_seconds": 60}, "generation": 3}"#;
        let parsed = parse("f", shown).unwrap();
        assert!(matches!(parsed, Document::Current(current) if current.generation == Generation(3)));
    }

    #[test]
    fn what_is_no_policy_is_refused_by_name() {
        for (text, word) in [
            ("", "EOF"),
            ("[]", "object"),
            (r#"{"fetch_max": 7}"#, "fetch_max"),
            (r#"{"policy": {"fetch_max": 7}, "generation": 3}"#, "fetch_max"),
        ] {
            let error = parse("f", text).err().unwrap();
            assert_eq!(error.code, "policy_malformed");
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
}
