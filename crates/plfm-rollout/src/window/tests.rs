#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::civil::Weekday::{self, Thursday};
use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Tuesday, Wednesday};
use proptest::prelude::*;

use super::*;

const ALL: [Weekday; 7] = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday];

fn window(days: &[Weekday], start: &str, duration_minutes: u32, time_zone: &str) -> Window {
    Window::parse(WindowText {
        days,
        start,
        duration_minutes,
        time_zone,
    })
    .unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn open(until: &str) -> WindowState {
    WindowState::Open { until: at(until) }
}

fn closed(opens_at: &str) -> WindowState {
    WindowState::Closed {
        opens_at: at(opens_at),
    }
}

#[test]
fn it_opens_at_its_start_and_is_closed_at_its_end() {
    // 2026-01-05 is a Monday.
    let window = window(&[Monday], "02:30", 90, "UTC");
    let state = |text| window_at(&window, at(text));
    assert_eq!(state("2026-01-05T02:29:59Z"), closed("2026-01-05T02:30:00Z"));
    assert_eq!(state("2026-01-05T02:30:00Z"), open("2026-01-05T04:00:00Z"));
    assert_eq!(state("2026-01-05T03:59:59.999Z"), open("2026-01-05T04:00:00Z"));
    assert_eq!(state("2026-01-05T04:00:00Z"), closed("2026-01-12T02:30:00Z"));
}

#[test]
fn in_berlin_a_time_that_is_skipped_is_taken_an_hour_later() {
    // 2026-03-29, a Sunday: 02:00 becomes 03:00, so 02:30 is 03:30 summer time.
    let window = window(&[Sunday], "02:30", 60, "Europe/Berlin");
    let state = |text| window_at(&window, at(text));
    assert_eq!(state("2026-03-29T01:29:00Z"), closed("2026-03-29T01:30:00Z"));
    assert_eq!(state("2026-03-29T01:30:00Z"), open("2026-03-29T02:30:00Z"));
    assert_eq!(state("2026-03-29T02:30:00Z"), closed("2026-04-05T00:30:00Z"));
}

#[test]
fn in_berlin_of_a_time_that_comes_twice_the_first_counts() {
    // 2026-10-25, a Sunday: 03:00 becomes 02:00. Ninety minutes are ninety minutes.
    let window = window(&[Sunday], "02:30", 90, "Europe/Berlin");
    let state = |text| window_at(&window, at(text));
    assert_eq!(state("2026-10-25T00:29:00Z"), closed("2026-10-25T00:30:00Z"));
    assert_eq!(state("2026-10-25T00:30:00Z"), open("2026-10-25T02:00:00Z"));
    assert_eq!(state("2026-10-25T01:30:00Z"), open("2026-10-25T02:00:00Z"));
    assert_eq!(state("2026-10-25T02:00:00Z"), closed("2026-11-01T01:30:00Z"));
}

#[test]
fn on_lord_howe_the_clocks_jump_by_half_an_hour() {
    // 2026-10-04: 02:00 (+10:30) becomes 02:30 (+11). 02:15 is half an hour later: 02:45 (+11).
    let skipped = window(&[Sunday], "02:15", 10, "Australia/Lord_Howe");
    assert_eq!(
        window_at(&skipped, at("2026-10-03T15:45:00Z")),
        open("2026-10-03T15:55:00Z")
    );
    assert_eq!(
        window_at(&skipped, at("2026-10-03T15:44:59Z")),
        closed("2026-10-03T15:45:00Z")
    );
    // 2026-04-05: 02:00 (+11) becomes 01:30 (+10:30). Of the two 01:45, the first is (+11).
    let twice = window(&[Sunday], "01:45", 10, "Australia/Lord_Howe");
    assert_eq!(
        window_at(&twice, at("2026-04-04T14:45:00Z")),
        open("2026-04-04T14:55:00Z")
    );
    assert_eq!(
        window_at(&twice, at("2026-04-04T15:15:00Z")),
        closed("2026-04-11T15:15:00Z")
    );
}

#[test]
fn it_crosses_midnight_and_the_end_of_the_week() {
    let window = window(&[Sunday], "23:00", 180, "America/New_York");
    // Sunday 23:00 in New York is Monday 04:00 in UTC.
    let state = |text| window_at(&window, at(text));
    assert_eq!(state("2026-01-05T04:00:00Z"), open("2026-01-05T07:00:00Z"));
    assert_eq!(state("2026-01-05T06:59:00Z"), open("2026-01-05T07:00:00Z"));
    assert_eq!(state("2026-01-05T07:00:00Z"), closed("2026-01-12T04:00:00Z"));
}

#[test]
fn windows_that_touch_or_overlap_are_one() {
    let touching = window(&[Monday, Tuesday], "00:00", 1_440, "UTC");
    assert_eq!(
        window_at(&touching, at("2026-01-05T12:00:00Z")),
        open("2026-01-07T00:00:00Z")
    );
    let overlapping = window(&[Monday, Tuesday], "22:00", 2_000, "UTC");
    assert_eq!(
        window_at(&overlapping, at("2026-01-05T22:00:00Z")),
        open("2026-01-08T07:20:00Z")
    );
    let always = window(&ALL, "00:00", 1_440, "Etc/UTC");
    assert!(window_at(&always, at("2026-01-05T12:00:00Z")).is_open());
}

#[test]
fn a_week_long_window_leaves_the_hour_that_autumn_adds() {
    let week = window(&[Sunday], "00:00", DURATION_MINUTES_MAX, "Europe/Berlin");
    assert_eq!(
        window_at(&week, at("2026-10-31T22:30:00Z")),
        closed("2026-10-31T23:00:00Z")
    );
}

#[test]
fn a_day_that_a_country_skipped_is_taken_a_day_later() {
    // Samoa had no 2011-12-30, a Friday.
    let window = window(&[Friday], "12:00", 60, "Pacific/Apia");
    assert_eq!(
        window_at(&window, at("2011-12-30T00:00:00Z")),
        closed("2011-12-30T22:00:00Z")
    );
    assert!(window_at(&window, at("2011-12-30T22:30:00Z")).is_open());
}

#[test]
fn all_that_is_wrong_is_said() {
    let wrong = WindowText {
        days: &[],
        start: "2:30",
        duration_minutes: 0,
        time_zone: "Mars/Olympus",
    };
    let problems = check_window(wrong);
    let members: Vec<&str> = problems.iter().map(WindowProblem::member).collect();
    assert_eq!(members, ["days", "start", "duration_minutes", "time_zone"]);
    assert_eq!(
        problems.last().unwrap().to_string(),
        "\"Mars/Olympus\" is not a time zone like Europe/Berlin or UTC"
    );
    let right = WindowText {
        days: &[Monday],
        start: "23:59",
        duration_minutes: DURATION_MINUTES_MAX,
        time_zone: "UTC",
    };
    assert_eq!(check_window(right), []);
    for start in ["24:00", "12:60", "+1:00", "12:3", "12:30:00", "", "１２:30"] {
        assert_eq!(
            check_window(WindowText { start, ..right }),
            [WindowProblem::Start(start.to_owned())]
        );
    }
    for time_zone in ["", "Etc/Unknown", "../etc/passwd"] {
        assert_eq!(
            check_window(WindowText { time_zone, ..right }).len(),
            1,
            "{time_zone}"
        );
    }
}

#[test]
fn the_ends_of_time_are_no_panic() {
    let window = window(&[Monday], "02:30", DURATION_MINUTES_MAX, "Europe/Berlin");
    for now in [Timestamp::MIN, Timestamp::MAX] {
        let _ = window_at(&window, now);
    }
}

/// What a wall clock shows in a minute, and whether it shows it for the first time.
fn opens_in_minute(window: &Window, minute: Timestamp) -> bool {
    let wall = |at: Timestamp| window.time_zone.to_datetime(at);
    let shown = wall(minute);
    if !window.days.contains(&shown.weekday()) || shown.time() != window.start {
        return false;
    }
    // The same wall time within a day before: this is the second time.
    (1..=1_440).all(|back| wall(minute - SignedDuration::from_mins(back)) != shown)
}

/// Whether this minute is as much after a jump of the clocks as the start is after the first minute that they skip.
fn opens_after_a_gap(window: &Window, minute: Timestamp) -> bool {
    let offset = |at: Timestamp| window.time_zone.to_offset(at);
    [30, 60].into_iter().any(|jump| {
        let before = offset(minute - SignedDuration::from_mins(jump));
        let jumped = i64::from(offset(minute).seconds() - before.seconds()) == jump * 60;
        let skipped = before.to_datetime(minute);
        jumped && window.days.contains(&skipped.weekday()) && skipped.time() == window.start
    })
}

/// Minutes since 2025 within two days of a change of the clocks somewhere.
fn near_a_change() -> impl Strategy<Value = i64> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
    ];
    let minutes = changes.map(|change| (at(change).as_second() - 1_735_689_600) / 60);
    (prop::sample::select(minutes.to_vec()), -2_880..2_880_i64).prop_map(|(change, off)| change + off)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Minute by minute: open is what began at most `duration` ago.
    #[test]
    fn it_agrees_with_a_scan_of_all_minutes(
        days in prop::sample::subsequence(ALL.to_vec(), 1..=7),
        hour in 0..24_u8, minute in 0..60_u8,
        duration in prop_oneof![1..120_u32, 1_000..3_000_u32],
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
        // 2025 to 2027, so that every change of the clocks is in.
        minutes in prop_oneof![0..1_051_200_i64, near_a_change()],
    ) {
        let window = window(&days, &format!("{hour:02}:{minute:02}"), duration, zone);
        let now = Timestamp::from_second(1_735_689_600 + minutes * 60).unwrap();
        // From `duration` before now: whatever opened in (now - duration, now] is open.
        let scanned = (0..i64::from(duration))
            .map(|back| now - SignedDuration::from_mins(back))
            .any(|minute| opens_in_minute(&window, minute) || opens_after_a_gap(&window, minute));
        prop_assert_eq!(window_at(&window, now).is_open(), scanned);
        match window_at(&window, now) {
            WindowState::Open { until } => {
                prop_assert!(now < until);
                prop_assert!(window_at(&window, until - SignedDuration::from_secs(1)).is_open());
            }
            WindowState::Closed { opens_at } => {
                prop_assert!(now < opens_at);
                prop_assert!(window_at(&window, opens_at).is_open());
                prop_assert!(!window_at(&window, opens_at - SignedDuration::from_secs(1)).is_open());
            }
        }
    }
}
