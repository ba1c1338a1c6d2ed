//! Time as a value.
//!
//! [`Instant`] is the time since a node's process started and drives every deadline; [`WallTime`]
//! is the time people read and is put into a command by whoever proposes it. Neither has a `now()`:
//! the shell reads clocks, the core is told.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Monotonic time since the node's process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The start of the process.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The instant `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(Duration::from_micros(micros))
    }

    /// The instant `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0.as_micros() as u64
    }

    /// Time since `earlier`, or zero if `earlier` lies after `self`.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<Duration> for Instant {
    fn from(since_start: Duration) -> Self {
        Self(since_start)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// Microseconds since 1970-01-01T00:00:00Z, as the proposer's clock had it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Whole seconds since the epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Microseconds within the second.
    pub const fn micros_of_second(self) -> u32 {
        self.0.rem_euclid(1_000_000) as u32
    }

    /// `self` moved by `by`.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Year, month, day, hour, minute, second in UTC.
    pub const fn utc(self) -> (i64, u8, u8, u8, u8, u8) {
        let days = self.unix_seconds().div_euclid(86_400);
        let second_of_day = self.unix_seconds().rem_euclid(86_400);
        // Gregorian calendar in eras of 400 years that begin on 1 March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + (month <= 2) as i64;
        (
            year,
            month as u8,
            day as u8,
            (second_of_day / 3_600) as u8,
            (second_of_day / 60 % 60) as u8,
            (second_of_day % 60) as u8,
        )
    }
}

/// A part of each day, in UTC: from a minute up to another one, over midnight if that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayWindow {
    /// Minute of the day at which it opens.
    pub from: u16,
    /// Minute of the day at which it closes.
    pub to: u16,
}

impl DayWindow {
    const DAY: i64 = 86_400_000_000;
    const MINUTE: i64 = 60_000_000;

    /// Reads `22:00-04:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            let (h, m) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            (digits(hours) && digits(minutes) && h < 24 && m < 60).then_some(h * 60 + m)
        };
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minute(from)?, to: minute(to)? };
        (window.from != window.to).then_some(window)
    }

    /// The first moment in it that is not before `at`.
    pub fn next(self, at: WallTime) -> WallTime {
        let of_day = at.0.rem_euclid(Self::DAY);
        let (from, to) = (i64::from(self.from) * Self::MINUTE, i64::from(self.to) * Self::MINUTE);
        let open = match from < to {
            true => (from..to).contains(&of_day),
            false => of_day >= from || of_day < to,
        };
        let wait = if open { 0 } else { (from - of_day).rem_euclid(Self::DAY) };
        WallTime(at.0.saturating_add(wait))
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// RFC 3339 in UTC with milliseconds, as every surface shows it.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = self.utc();
        let millis = self.micros_of_second() / 1_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_the_day_may_go_over_midnight() {
        let hour = |h: i64| WallTime(h * 3_600_000_000);
        let (night, noon) = (DayWindow::parse("22:00-04:00"), DayWindow::parse("12:00-13:30"));
        let (night, noon) = (night.unwrap(), noon.unwrap());
        for (window, at, next) in [
            (night, 21, 22),
            (night, 23, 23),
            (night, 3, 3),
            (night, 4, 22),
            (noon, 14, 36),
            (noon, 13, 13),
        ] {
            assert_eq!(window.next(hour(at)), hour(next), "{window} from {at}:00");
        }
        assert_eq!(
            (night.to_string(), noon.to_string()),
            ("22:00-04:00".into(), "12:00-13:30".into())
        );
        for bad in
            ["", "22:00", "24:00-01:00", "1:00-02:00", "02:00-02:00", "02:60-03:00", "+1:00-02:00"]
        {
            assert_eq!(DayWindow::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn wall_time_prints_rfc_3339() {
        assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallTime(1_709_210_096_789_000).to_string(), "2024-02-29T12:34:56.789Z");
        assert_eq!(WallTime(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }
}
