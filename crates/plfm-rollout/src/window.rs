//! Whether a maintenance window is open.
//!
//! A window opens on given days of the week at a time of the clock on the wall, and stays open for a span of real time;
//! so it may cross midnight, the end of the week, and a change of the clocks. Where the clocks skip the time, it opens as
//! much later as they jump; where the time comes twice, it opens the first time. Windows that touch are one.
//!
//! The rules of time zones are compiled in: hosts of one version of the agent agree, whatever is in their `/usr/share`.

use std::fmt;

use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp};

/// Longest span of a window, in minutes: a week.
pub const DURATION_MINUTES_MAX: u32 = 10_080;
/// How many days back an opening may be that still counts: a week's span, and a day on either side for clocks that jump
/// (a whole day has been skipped before).
const DAYS_BACK: i64 = 9;
/// How many days ahead openings are looked for: the next one is at most a week and a day away, the rest tells how far
/// windows that touch go.
const DAYS_AHEAD: i64 = 17;

/// A window as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowText<'a> {
    /// On which days it opens.
    pub days: &'a [Weekday],
    /// When it opens: `02:30`.
    pub start: &'a str,
    /// How long it stays open, in minutes of real time.
    pub duration_minutes: u32,
    /// The time zone's IANA name.
    pub time_zone: &'a str,
}

/// What is wrong with a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowProblem {
    /// It opens on no day.
    NoDay,
    /// Its start is no time of the day.
    Start(String),
    /// Its duration is 0, or more than a week.
    Duration(u32),
    /// Its time zone is not known.
    TimeZone(String),
}

impl WindowProblem {
    /// The member that is wrong, as in JSON.
    pub fn member(&self) -> &'static str {
        match self {
            Self::NoDay => "days",
            Self::Start(_) => "start",
            Self::Duration(_) => "duration_minutes",
            Self::TimeZone(_) => "time_zone",
        }
    }
}

impl fmt::Display for WindowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(40).collect::<String>();
        match self {
            Self::NoDay => f.write_str("the window opens on no day"),
            Self::Start(text) => write!(f, "{:?} is not a time like 02:30", short(text)),
            Self::Duration(minutes) => {
                write!(f, "{minutes} minutes is not 1 to {DURATION_MINUTES_MAX}")
            }
            Self::TimeZone(name) => write!(
                f,
                "{:?} is not a time zone like Europe/Berlin or UTC",
                short(name)
            ),
        }
    }
}

/// A window that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    start: Time,
    duration: SignedDuration,
    time_zone: TimeZone,
}

/// What is wrong with a window; nothing, if it can be used.
pub fn check_window(text: WindowText<'_>) -> Vec<WindowProblem> {
    Window::parse(text).err().unwrap_or_default()
}

impl Window {
    /// Takes a window, or says all that is wrong with it.
    pub fn parse(text: WindowText<'_>) -> Result<Self, Vec<WindowProblem>> {
        let mut problems = Vec::new();
        if text.days.is_empty() {
            problems.push(WindowProblem::NoDay);
        }
        let start = parse_start(text.start);
        if start.is_none() {
            problems.push(WindowProblem::Start(text.start.to_owned()));
        }
        if !(1..=DURATION_MINUTES_MAX).contains(&text.duration_minutes) {
            problems.push(WindowProblem::Duration(text.duration_minutes));
        }
        let time_zone = find_time_zone(text.time_zone);
        if time_zone.is_none() {
            problems.push(WindowProblem::TimeZone(text.time_zone.to_owned()));
        }
        match (start, time_zone) {
            (Some(start), Some(time_zone)) if problems.is_empty() => Ok(Self {
                days: text.days.to_vec(),
                start,
                duration: SignedDuration::from_mins(i64::from(text.duration_minutes)),
                time_zone,
            }),
            _ => Err(problems),
        }
    }

    /// All that is open from [`DAYS_BACK`] before `now` to [`DAYS_AHEAD`] after it, in order; what touches is one.
    fn openings(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let today = self.time_zone.to_datetime(now).date();
        let dates = (-DAYS_BACK..=DAYS_AHEAD)
            .filter_map(|days| today.checked_add(Span::new().try_days(days).ok()?).ok());
        let mut openings: Vec<(Timestamp, Timestamp)> = dates
            .filter(|date| self.days.contains(&date.weekday()))
            .filter_map(|date| {
                // A time that is skipped is taken later, of two the first.
                let opens = self.time_zone.to_timestamp(date.to_datetime(self.start)).ok()?;
                Some((opens, opens.saturating_add(self.duration).ok()?))
            })
            .collect();
        openings.sort_unstable();
        openings.dedup_by(|next, last| {
            let touches = next.0 <= last.1;
            if touches {
                last.1 = last.1.max(next.1);
            }
            touches
        });
        openings
    }
}

/// `02:30`, exactly.
fn parse_start(text: &str) -> Option<Time> {
    let digits = |part: &str| -> Option<i8> {
        let right = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        right.then(|| part.parse().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':')?;
    Time::new(digits(hour)?, digits(minute)?, 0, 0).ok()
}

fn find_time_zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (!zone.is_unknown()).then_some(zone)
}

/// Whether a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// It is.
    Open {
        /// Until when, as far as the next two weeks tell.
        until: Timestamp,
    },
    /// It is not.
    Closed {
        /// When it opens next.
        opens_at: Timestamp,
    },
}

impl WindowState {
    /// Whether it is open.
    pub fn is_open(self) -> bool {
        match self {
            Self::Open { .. } => true,
            Self::Closed { .. } => false,
        }
    }
}

impl fmt::Display for WindowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { until } => write!(f, "open until {until}"),
            Self::Closed { opens_at } => write!(f, "closed until {opens_at}"),
        }
    }
}

/// Whether `window` is open at `now`. The end itself is outside.
pub fn window_at(window: &Window, now: Timestamp) -> WindowState {
    for (opens_at, until) in window.openings(now) {
        if now < opens_at {
            return WindowState::Closed { opens_at };
        }
        if now < until {
            return WindowState::Open { until };
        }
    }
    // At the end of time only: a window opens every week.
    WindowState::Closed {
        opens_at: Timestamp::MAX,
    }
}

#[cfg(test)]
mod tests;
