//! Evidence in words: lists of names and durations, as a person would write them.

use std::time::Duration;

/// `a`, `a and b`, `a, b and c`; `nobody` where there is nothing to list.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".into(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// A duration in seconds with one decimal.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `singular` for one thing, `plural` otherwise.
pub(super) fn verb(count: usize, singular: &'static str, plural: &'static str) -> &'static str {
    if count == 1 { singular } else { plural }
}
