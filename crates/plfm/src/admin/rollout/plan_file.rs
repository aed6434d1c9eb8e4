//! A plan in a file: TOML or JSON, with the members that the API has, or a rollout as it was shown.

use std::fs::File;
use std::io::{self, Read};

use plfm_api::control::RolloutPlan;

use crate::output::{Category, CliError};

/// Largest file read: twenty waves take a hundredth of it.
const BYTES_MAX: u64 = 256 * 1024;
/// What a file of JSON begins with, and no TOML.
const JSON_BEGINS: char = '{';
/// The member of a shown rollout that its plan is in.
const PLAN: &str = "plan";

/// Reads it.
pub fn load(file: &str) -> Result<RolloutPlan, CliError> {
    let mut text = String::new();
    let read = match file {
        "-" => io::stdin().lock().take(BYTES_MAX).read_to_string(&mut text),
        path => File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)),
    };
    read.map_err(|error| {
        let message = format!("cannot read the plan {file}: {error}");
        let category = match error.kind() {
            io::ErrorKind::NotFound => Category::NotFound,
            _ => Category::Failure,
        };
        CliError::new(category, "plan_unreadable", message)
    })?;
    parse(&text).map_err(|why| {
        let message = format!("{file} is not a plan: {why}");
        CliError::new(Category::Usage, "plan_malformed", message).with_hint(Some(
            "its members are those of `plan` in `plfm admin rollout show --output json`; shares are hundredths of a percent"
                .to_owned(),
        ))
    })
}

fn parse(text: &str) -> Result<RolloutPlan, String> {
    if !text.trim_start().starts_with(JSON_BEGINS) {
        // Where it is wrong is said with a picture of several lines; the first one has the place.
        return toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text.get(..span.start).unwrap_or_default());
            let line = line.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
            line.unwrap_or_default() + error.message()
        });
    }
    let mut document: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let plan = match document.get_mut(PLAN) {
        Some(plan) => plan.take(),
        None => document,
    };
    // An array would be taken for the members in their order.
    if !plan.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    serde_json::from_value(plan).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use plfm_api::control::PlanBase;

    use super::*;

    #[test]
    fn a_plan_comes_as_toml_as_json_or_as_a_rollout_that_was_shown() {
        let toml = "base = 'emergency'\nthreshold = 2000\n[[waves]]\nshare = 10000\nsample_min = 5\nsoak_seconds = 1\nwait_seconds = 60\n";
        let plan = parse(toml).unwrap();
        assert_eq!(plan.base, PlanBase::Emergency);
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(parse(&json).unwrap(), plan);
        let shown = format!("{{\"id\": \"01J\", \"plan\": {json}}}");
        assert_eq!(parse(&shown).unwrap(), plan);
        assert_eq!(parse("").unwrap(), RolloutPlan::default());
    }

    #[test]
    fn what_is_no_plan_is_refused_by_name_and_place() {
        for (text, words) in [
            ("thresold = 5", "thresold"),
            ("threshold = 5\nslow = 'stop'", "line 2"),
            ("{\"thresold\": 5}", "thresold"),
            ("{\"plan\": []}", "object"),
            ("{", "EOF"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
            assert!(!why.contains('\n'), "{why}");
        }
    }
}
