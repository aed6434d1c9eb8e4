//! A change's receipt: what changed, from what, how to watch it and how to undo it.

use plfm_api::control::Receipt;

use super::Control;
use crate::output::{CliError, render_fields};

/// Prints a change's receipt.
pub fn finish(control: &Control, receipt: &Receipt) -> Result<(), CliError> {
    control.out.result(receipt, render_receipt)
}

/// The receipt for people.
pub fn render_receipt(receipt: &Receipt) -> String {
    render_receipt_of(receipt, Vec::new())
}

/// The receipt for people, with more about what changed.
pub fn render_receipt_of(receipt: &Receipt, changes: Vec<(&'static str, String)>) -> String {
    let mut fields = changes;
    let mut put = |label, value: Option<String>| fields.extend(value.map(|value| (label, value)));
    put("release", receipt.release.as_ref().map(ToString::to_string));
    put("was", receipt.previous_release.as_ref().map(ToString::to_string));
    put("why", receipt.why.clone());
    put("generation", Some(render_generation(receipt)));
    put("event", receipt.event.map(|position| position.to_string()));
    for warning in &receipt.warnings {
        put("warning", Some(warning.clone()));
    }
    put("watch", receipt.watch.clone());
    put("undo", receipt.undo.clone());
    put("request", Some(receipt.request_id.clone()));
    let unchanged = if receipt.changed { "" } else { " (nothing changed)" };
    format!("{}{unchanged}\n{}", receipt.summary, render_fields(&fields))
}

fn render_generation(receipt: &Receipt) -> String {
    match receipt.generation == receipt.previous_generation {
        true => receipt.generation.to_string(),
        false => format!("{}, was {}", receipt.generation, receipt.previous_generation),
    }
}

#[cfg(test)]
mod tests {
    use plfm_api::control::Generation;

    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            summary: "default set".to_owned(),
            changed: true,
            generation: Generation(5),
            previous_generation: Generation(4),
            event: Some(12),
            release: None,
            rollout: None,
            previous_release: None,
            why: None,
            warnings: vec!["1 host does not have it".to_owned(), "\u{1b}[2J".to_owned()],
            undo: Some("plfm admin kernels set-default x".to_owned()),
            watch: Some("plfm admin fleet".to_owned()),
            request_id: "01J".to_owned(),
        }
    }

    #[test]
    fn a_receipt_says_from_what_to_what_and_how_to_undo_it() {
        insta::assert_snapshot!(render_receipt(&receipt()), @r"
        default set
          generation  5, was 4
          event       12
          warning     1 host does not have it
          warning     \u{1b}[2J
          watch       plfm admin fleet
          undo        plfm admin kernels set-default x
          request     01J
        ");
    }

    #[test]
    fn a_receipt_of_nothing_says_so() {
        let receipt = Receipt {
            changed: false,
            generation: Generation(4),
            event: None,
            warnings: Vec::new(),
            undo: None,
            watch: None,
            ..receipt()
        };
        insta::assert_snapshot!(render_receipt(&receipt), @r"
        default set (nothing changed)
          generation  4
          request     01J
        ");
    }
}
