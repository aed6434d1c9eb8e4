//! `plfm admin policy window`.

use std::collections::BTreeSet;

use clap::Args;
use plfm_api::control::{MaintenanceWindow, Policy, Weekday};

use super::change::change_policy;
use super::render::day_name;
use crate::admin::Control;
use crate::admin::quote::quote;
use crate::admin::span::Span;
use crate::output::CliError;

/// All days, in order.
const WEEK: [(Weekday, &str); 7] = [
    (Weekday::Monday, "monday"),
    (Weekday::Tuesday, "tuesday"),
    (Weekday::Wednesday, "wednesday"),
    (Weekday::Thursday, "thursday"),
    (Weekday::Friday, "friday"),
    (Weekday::Saturday, "saturday"),
    (Weekday::Sunday, "sunday"),
];

/// Arguments of `plfm admin policy window`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["days", "none"])))]
pub struct WindowArgs {
    /// On which days it opens: mon,wed,sat or daily
    #[arg(long, value_parser = parse_days, requires_all = ["start", "duration", "time_zone"])]
    days: Option<Days>,
    /// When it opens, local time, such as 02:30
    #[arg(long, value_name = "HH:MM", value_parser = parse_start, conflicts_with = "none")]
    start: Option<String>,
    /// How long it stays open, such as 3h: whole minutes, a week at most
    #[arg(long, value_name = "SPAN", value_parser = parse_minutes, conflicts_with = "none")]
    duration: Option<u32>,
    /// The time zone's name, such as Europe/Berlin or UTC
    #[arg(long, value_name = "ZONE", value_parser = parse_time_zone, conflicts_with = "none")]
    time_zone: Option<String>,
    /// No window: releases are fetched at any time
    #[arg(long)]
    none: bool,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

/// Some days.
type Days = BTreeSet<Weekday>;

impl WindowArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let window = self.window();
        control.block_on(async |client| {
            let change = |policy: &mut Policy| {
                policy.window.clone_from(&window);
                Ok(())
            };
            change_policy(control, client, self.reason.clone(), change, undo).await
        })
    }

    /// All four or none: the command line's own rules see to it.
    fn window(&self) -> Option<MaintenanceWindow> {
        Some(MaintenanceWindow {
            days: self.days.clone()?,
            start: self.start.clone()?,
            duration_minutes: self.duration?,
            time_zone: self.time_zone.clone()?,
        })
    }
}

fn undo(before: &Policy) -> String {
    let Some(window) = &before.window else {
        return "plfm admin policy window --none".to_owned();
    };
    let days: Vec<&str> = window.days.iter().map(|day| day_name(*day)).collect();
    format!(
        "plfm admin policy window --days {} --start {} --duration {}m --time-zone {}",
        days.join(","),
        window.start,
        window.duration_minutes,
        quote(&window.time_zone)
    )
}

fn parse_days(text: &str) -> Result<Days, String> {
    if text == "daily" {
        return Ok(WEEK.map(|(day, _)| day).into());
    }
    let day = |word: &str| {
        let word = word.to_ascii_lowercase();
        let mut week = WEEK.into_iter();
        week.find(|(day, name)| word == *name || word == day_name(*day))
            .map(|(day, _)| day)
            .ok_or_else(|| "days are mon, tue, wed, thu, fri, sat, sun with commas, or daily".to_owned())
    };
    text.split(',').map(day).collect()
}

fn parse_start(text: &str) -> Result<String, String> {
    let parts = text.split_once(':').filter(|(hour, minute)| {
        let number = |part: &str, end: u8| {
            part.len() == 2
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && part.parse::<u8>().is_ok_and(|number| number < end)
        };
        number(hour, 24) && number(minute, 60)
    });
    match parts {
        Some(_) => Ok(text.to_owned()),
        None => Err("a time of day is 00:00 to 23:59".to_owned()),
    }
}

fn parse_minutes(text: &str) -> Result<u32, String> {
    let span: Span = text
        .parse()
        .map_err(|error: crate::admin::span::SpanError| error.to_string())?;
    let minutes = u32::try_from(span.seconds() / 60).unwrap_or(u32::MAX);
    match span.seconds().is_multiple_of(60) && (1..=10_080).contains(&minutes) {
        true => Ok(minutes),
        false => Err("a window is open for whole minutes, a week at most".to_owned()),
    }
}

/// A name that this machine's time zone database has; any, where there is none.
fn parse_time_zone(text: &str) -> Result<String, String> {
    let zones = jiff::tz::db();
    match zones.get(text).is_ok() || zones.available().next().is_none() {
        true => Ok(text.to_owned()),
        false => Err("it is not a time zone's name, such as Europe/Berlin or UTC".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_short_or_long() {
        let days = parse_days("Mon,sunday").unwrap();
        assert_eq!(days, [Weekday::Monday, Weekday::Sunday].into());
        assert_eq!(parse_days("daily").unwrap().len(), 7);
        for text in ["", "mo", "mon,", "mon tue", "daily,mon"] {
            assert!(parse_days(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_start_is_a_time_of_day() {
        assert!(
            ["00:00", "23:59", "02:30"]
                .into_iter()
                .all(|text| parse_start(text).is_ok())
        );
        for text in ["", "2:30", "24:00", "02:60", "02:30:00", "0230", "+2:30"] {
            assert!(parse_start(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_whole_minutes() {
        assert_eq!(parse_minutes("1h30m"), Ok(90));
        assert_eq!(parse_minutes("1w"), Ok(10_080));
        for text in ["30s", "61s", "8d", "90"] {
            assert!(parse_minutes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_zone_has_a_name() {
        assert!(
            ["UTC", "Europe/Berlin"]
                .into_iter()
                .all(|text| parse_time_zone(text).is_ok())
        );
        assert!(parse_time_zone("Mars").is_err());
    }

    #[test]
    fn the_undo_of_a_window_is_a_command_that_sets_it() {
        let window = MaintenanceWindow {
            days: parse_days("sat,sun").unwrap(),
            start: "02:30".to_owned(),
            duration_minutes: 90,
            time_zone: "Europe/Berlin".to_owned(),
        };
        let policy = Policy {
            window: Some(window),
            ..Policy::default()
        };
        assert_eq!(
            undo(&policy),
            "plfm admin policy window --days sat,sun --start 02:30 --duration 90m --time-zone Europe/Berlin"
        );
    }
}
