//! A change of one part of the policy, which is replaced as a whole: read, change, write, if nobody else did meanwhile.

use plfm_api::control::{CurrentPolicy, KernelDetail, Policy, Receipt, SetPolicy};
use plfm_release::ReleaseId;
use reqwest::Method;
use serde::Serialize;

use super::render::policy_fields;
use crate::admin::Control;
use crate::admin::client::ControlClient;
use crate::admin::receipt::render_receipt_of;
use crate::output::CliError;

/// How often a change is tried when somebody else was faster.
const TRIES_MAX: u32 = 5;
/// The code of a change that came too late.
const GENERATION_MOVED: &str = "generation_moved";

/// What a change of the policy prints.
#[derive(Debug, Serialize)]
pub struct PolicyReport {
    #[serde(flatten)]
    pub receipt: Receipt,
    /// All of it from now on.
    pub policy: Policy,
    /// All of it before; none where that is not known, because somebody else changed it meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_policy: Option<Policy>,
}

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
                return report(control, receipt, request.policy, &current);
            }
            Err(error) if error.code == GENERATION_MOVED && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Prints the receipt of a change from `before` to `policy`.
pub fn report(
    control: &Control<'_>,
    receipt: Receipt,
    policy: Policy,
    before: &CurrentPolicy,
) -> Result<(), CliError> {
    let is_known = before.generation == receipt.previous_generation;
    let report = PolicyReport {
        receipt,
        policy,
        previous_policy: is_known.then(|| before.policy.clone()),
    };
    control.out.result(&report, render)
}

/// What changed, part by part.
fn render(report: &PolicyReport) -> String {
    let mut changes = Vec::new();
    if let Some(previous) = &report.previous_policy {
        for ((label, now), (_, was)) in policy_fields(&report.policy)
            .into_iter()
            .zip(policy_fields(previous))
        {
            if now != was {
                changes.push((label, format!("{now}; was {was}")));
            }
        }
    }
    render_receipt_of(&report.receipt, changes)
}

/// The release that a word means.
pub async fn find_release(client: &ControlClient, text: &str) -> Result<ReleaseId, CliError> {
    let detail: KernelDetail = client.get(&["kernels", text], &[]).await?;
    Ok(detail.kernel.release)
}
