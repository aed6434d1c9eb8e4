//! The parts of a policy and of a target, in words.

use std::collections::{BTreeMap, BTreeSet};

use plfm_api::control::{Canary, MaintenanceWindow, Policy, Weekday};
use plfm_release::ReleaseId;

use crate::admin::span::Span;
use crate::admin::weight::Weight;
use crate::output::render_fields;

/// All of a policy.
pub fn render_policy(policy: &Policy) -> String {
    render_fields(&policy_fields(policy))
}

/// A policy's parts.
pub fn policy_fields(policy: &Policy) -> [(&'static str, String); 6] {
    [
        ("canary", render_canary(policy.canary.as_ref())),
        ("pins", render_pins(&policy.pins)),
        ("prefetch", render_releases(&policy.prefetch)),
        ("window", render_window(policy.window.as_ref())),
        ("fetches at once", render_fetches(policy.fetches_max)),
        ("lost after", render_span(u64::from(policy.lost_after_seconds))),
    ]
}

/// A release at a share.
pub fn render_canary(canary: Option<&Canary>) -> String {
    match canary {
        Some(canary) => format!("{} at {}", canary.release, Weight(canary.weight)),
        None => "none".to_owned(),
    }
}

/// Instances and their releases.
pub fn render_pins(pins: &BTreeMap<String, ReleaseId>) -> String {
    list(
        pins.iter()
            .map(|(instance, release)| format!("{instance} to {release}")),
    )
}

/// Some releases.
pub fn render_releases(releases: &BTreeSet<ReleaseId>) -> String {
    list(releases.iter().map(ToString::to_string))
}

/// When releases may be fetched.
pub fn render_window(window: Option<&MaintenanceWindow>) -> String {
    let Some(window) = window else {
        return "at any time".to_owned();
    };
    let days = match window.days.len() {
        7 => "every day".to_owned(),
        _ => list(window.days.iter().map(|day| day_name(*day).to_owned())),
    };
    format!(
        "{days} from {} for {}, {}",
        window.start,
        render_span(u64::from(window.duration_minutes) * 60),
        window.time_zone
    )
}

/// How many hosts fetch at once.
pub fn render_fetches(fetches_max: u32) -> String {
    match fetches_max {
        0 => "no bound".to_owned(),
        bound => bound.to_string(),
    }
}

/// A day as it is said on the command line.
pub fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

fn render_span(seconds: u64) -> String {
    Span::from_seconds(seconds).map_or_else(|| "0s".to_owned(), |span| span.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    }
}
