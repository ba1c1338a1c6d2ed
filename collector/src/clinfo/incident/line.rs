//! When records happened: on one line, whatever clocks said.
//!
//! Records carry the cluster's own timeline ([`Record::elapsed_ms`]), whose differences are lengths of
//! time. Users want the time of day, so the line is laid over the wall clock *once*, where most of the
//! records have it: a clock that is set in the middle moves nothing. What was told afterwards has its
//! place where it happened. Records of versions without a timeline are where their wall clocks say, and
//! stay in the order of their numbers.

use vedette_core::record::Record;
use vedette_core::time::WallTime;

/// How far the clock of a record may be from that of most others and be called the same.
const SAME_CLOCK_US: i64 = 500_000;

/// A record in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    /// Microseconds since 1970, on the line.
    pub(crate) at: i64,
    /// What happened.
    pub(crate) record: &'a Record,
}

impl Placed<'_> {
    /// The moment `ms` before it.
    pub(crate) fn before(&self, ms: u64) -> i64 {
        self.at.saturating_sub(micros(ms))
    }
}

/// Puts records, given in the order of their numbers, in the order in which they happened.
pub(crate) fn place<'a>(records: &[&'a Record]) -> Vec<Placed<'a>> {
    let zero = zero_of(records);
    let mut latest = i64::MIN;
    let mut placed: Vec<(i64, Placed<'a>)> = records
        .iter()
        .map(|record| {
            let at = match (zero, record.elapsed_ms, record.told) {
                (Some(zero), 1.., _) => zero.saturating_add(micros(record.elapsed_ms)),
                (_, _, Some(told)) => {
                    let ahead_us = told.clock_offset_ms.unwrap_or(0).saturating_mul(1_000);
                    told.happened_at.0.saturating_sub(ahead_us)
                }
                _ => record.at.0,
            };
            // Only what was told afterwards leaves the order of the numbers.
            if record.told.is_none() {
                latest = latest.max(at);
            }
            let order = if record.told.is_some() { at } else { latest };
            (order, Placed { at, record })
        })
        .collect();
    placed.sort_by_key(|(order, _)| *order);
    placed.into_iter().map(|(_, placed)| placed).collect()
}

/// The time of day at which the timeline began: as the first of those records has it that agree with
/// most of them.
fn zero_of(records: &[&Record]) -> Option<i64> {
    let own = |record: &&&Record| record.told.is_none() && record.elapsed_ms > 0;
    let zeros = records.iter().filter(own).map(|record| record.at.0 - micros(record.elapsed_ms));
    let zeros: Vec<i64> = zeros.collect();
    let mut sorted = zeros.clone();
    sorted.sort_unstable();
    let most = *sorted.get(sorted.len() / 2)?;
    zeros.into_iter().find(|zero| zero.abs_diff(most) <= SAME_CLOCK_US.unsigned_abs())
}

/// The time of day of a moment, as documents write it.
pub(crate) fn text(at: i64) -> String {
    WallTime(at).to_string()
}

/// Milliseconds from one moment to another; what ends before it begins took no time.
pub(crate) fn millis(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from) / 1_000).unwrap_or(0)
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000)
}
