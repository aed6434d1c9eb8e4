//! A change of one part of the policy, which is replaced as a whole: read, change, write, if nobody else did meanwhile.

use plfm_api::control::{CurrentPolicy, KernelDetail, Policy, Receipt, SetPolicy};
use plfm_release::ReleaseId;
use reqwest::Method;

use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::admin::receipt::finish;
use crate::output::CliError;

/// How often a change is tried when somebody else was faster.
const TRIES_MAX: u32 = 5;
/// The code of a change that came too late.
const GENERATION_MOVED: &str = "generation_moved";

/// Changes the policy and prints the receipt. `change` is asked again of a policy that somebody else changed meanwhile: it
/// must say no if it has no meaning any more. `undo` is the command that brings back what was in the policy before.
pub async fn change_policy(
    control: &Control<'_>,
    client: &ControlClient,
    reason: Option<String>,
    change: impl Fn(&mut Policy) -> Result<(), CliError>,
    undo: impl Fn(&Policy) -> String,
) -> Result<(), CliError> {
    let mut tries = 1;
    loop {
        let current: CurrentPolicy = client.get(&["policy"], &[]).await?;
        let mut policy = current.policy.clone();
        change(&mut policy)?;
        let request = SetPolicy {
            policy,
            expected_generation: Some(current.generation),
            reason: reason.clone(),
        };
        match client.change::<Receipt>(Method::PUT, &["policy"], &request).await {
            Ok(mut receipt) => {
                receipt.undo = receipt.changed.then(|| undo(&current.policy));
                return finish(control, &receipt);
            }
            Err(error) if error.code == GENERATION_MOVED && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The release that a word means.
pub async fn find_release(client: &ControlClient, text: &str) -> Result<ReleaseId, CliError> {
    let detail: KernelDetail = client.get(&["kernels", text], &[]).await?;
    Ok(detail.kernel.release)
}

/// A word as a shell takes it.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-:/@%,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        assert_eq!(quote("web-1.a+b"), "web-1.a+b");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; $(x)"), r"'it'\''s; $(x)'");
        assert_eq!(quote(""), "''");
    }
}
