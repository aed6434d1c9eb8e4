//! All of a rollout on one page: where it is and why, its waves, what its boots say, what happened.

mod health;

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{Rollout, RolloutDetail, RolloutHosts, RolloutMoment, RolloutStage, RolloutWave};

use super::state::{is_over, render_state};
use crate::admin::weight::Weight;
use crate::output::render_fields;
use crate::table::render_table;
use crate::times::{render_age, render_time};

/// The whole page.
pub fn render(detail: &RolloutDetail, now: Timestamp) -> String {
    render_with(detail, now, usize::MAX)
}

/// The page with so many of the last things that happened.
pub fn render_with(detail: &RolloutDetail, now: Timestamp, moments_max: usize) -> String {
    let mut page = format!("rollout {}\n{}", detail.rollout.id, render_head(detail, now));
    let mut add = |part: String| {
        if !part.is_empty() {
            page += "\n";
            page += &part;
        }
    };
    add(render_waves(detail));
    if let Some(health) = &detail.health {
        add(health::render_samples(health));
        add(health::render_evidence(health, &detail.plan));
        add(health::render_hosts_apart(health));
    }
    add(render_history(&detail.history, moments_max));
    page
}

fn render_head(detail: &RolloutDetail, now: Timestamp) -> String {
    let rollout = &detail.rollout;
    let started = format!(
        "{} by {}, {} ago",
        render_time(rollout.started_at),
        rollout.started_by,
        render_age(now.duration_since(rollout.started_at))
    );
    let mut fields = vec![
        ("release", rollout.release.to_string()),
        ("before it", rollout.baseline.to_string()),
        ("state", render_state(rollout)),
        ("why", rollout.why.clone()),
    ];
    let warnings = rollout.warnings.iter().cloned();
    fields.extend(warnings.map(|warning| ("warning", warning)));
    if detail.health.as_ref().is_some_and(|health| health.incident) {
        let incident = "boots of the old release fail too, these minutes: not the new one's doing".to_owned();
        fields.push(("warning", incident));
    }
    fields.push(("started", started));
    fields.extend(render_end(rollout));
    fields.extend(render_waits(detail, now));
    fields.extend(detail.hosts.map(|hosts| ("hosts", render_hosts(hosts))));
    render_fields(&fields)
}

fn render_end(rollout: &Rollout) -> Option<(&'static str, String)> {
    let ended_at = rollout.ended_at?;
    let took = ended_at.duration_since(rollout.started_at);
    let text = format!("{}, after {}", render_time(ended_at), render_age(took));
    Some(("ended", text))
}

/// What it waits for, and until when at most.
fn render_waits(detail: &RolloutDetail, now: Timestamp) -> Vec<(&'static str, String)> {
    let rollout = &detail.rollout;
    if is_over(rollout.stage) {
        return Vec::new();
    }
    let since = format!(
        "{}, {} ago",
        render_time(rollout.since),
        render_age(now.duration_since(rollout.since))
    );
    let mut waits = vec![("there since", since)];
    waits.extend(
        detail
            .sample_needed
            .map(|needed| ("boots needed", needed.to_string())),
    );
    let ends = |at: Timestamp| match now < at {
        true => format!("{}, in {}", render_time(at), render_age(at.duration_since(now))),
        false => "over".to_owned(),
    };
    waits.extend(detail.soak_ends_at.map(|at| ("soak ends", ends(at))));
    waits.extend(detail.wait_ends_at.map(|at| ("longest wait", ends(at))));
    waits
}

fn render_hosts(hosts: RolloutHosts) -> String {
    let RolloutHosts {
        active,
        eligible,
        with_release,
        at_generation,
        heard,
    } = hosts;
    format!(
        "{active} active: {eligible} could run it, {with_release} have it, {at_generation} go by the newest target, \
         {heard} heard of lately"
    )
}

/// The waves: which are over, which is now.
fn render_waves(detail: &RolloutDetail) -> String {
    let Some(waves) = &detail.plan.waves else {
        return String::new();
    };
    let rows = waves.iter().zip(1u8..).map(|(wave, number)| {
        let RolloutWave {
            share,
            sample_min,
            soak_seconds,
            wait_seconds,
        } = *wave;
        [
            number.to_string(),
            Weight(share).to_string(),
            sample_min.to_string(),
            render_seconds(soak_seconds),
            render_seconds(wait_seconds),
            render_progress(&detail.rollout, number).to_owned(),
        ]
    });
    render_table(["WAVE", "SHARE", "BOOTS", "SOAK", "LONGEST", "PROGRESS"], rows)
}

fn render_seconds(seconds: u32) -> String {
    render_age(SignedDuration::from_secs(i64::from(seconds)))
}

/// How far the wave with this number is.
fn render_progress(rollout: &Rollout, number: u8) -> &'static str {
    // Of one that is over, or was not begun, there is no wave.
    let reached = rollout.wave.map_or(0, |position| position.wave);
    match rollout.stage {
        RolloutStage::Complete | RolloutStage::Promoting => "done",
        RolloutStage::Canary if number < reached => "done",
        RolloutStage::Canary if number == reached => match rollout.paused {
            Some(_) => "paused",
            None => "now",
        },
        RolloutStage::Canary
        | RolloutStage::Planned
        | RolloutStage::Distributing
        | RolloutStage::RollingBack
        | RolloutStage::RolledBack
        | RolloutStage::Aborted => "",
    }
}

/// What happened, oldest first; the beginning is left out if it is too much.
fn render_history(history: &[RolloutMoment], moments_max: usize) -> String {
    let left_out = history.len().saturating_sub(moments_max);
    let rows = history.iter().skip(left_out).map(|moment| {
        [
            render_time(moment.at),
            moment.kind.clone(),
            render_actor(moment),
            moment.generation.to_string(),
            moment.why.clone(),
        ]
    });
    match history.is_empty() {
        true => String::new(),
        false => render_table(["AT", "WHAT", "BY", "GENERATION", "WHY"], rows),
    }
}

/// Who: an operator's name, or nobody's.
pub fn render_actor(moment: &RolloutMoment) -> String {
    match moment.actor.kind.as_str() {
        "system" => "itself".to_owned(),
        kind => format!("{kind}:{}", moment.actor.name),
    }
}
