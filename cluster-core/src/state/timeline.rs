//! The cluster's own timeline: how much time passed between two entries of the log.
//!
//! Wall clocks are set, and those of two nodes differ; a length of time that is the difference of two of
//! them can be an hour wrong. So the leader puts its *monotonic* clock into every entry it appends
//! ([`Tick`]), and [`Timeline::advance`] adds up what passed: exactly, between entries of one leader; by
//! wall clocks, corrected by the offset that the new leader measured, where the leader changed. The
//! timeline never runs backwards, and what stands still on it for want of a leader is counted by the
//! next one.
//!
//! What ends by itself ([`ClusterState::next_due`](super::ClusterState::next_due)) is judged by it: every entry brings
//! the time along, so every node forgets the same in the same entry.

use serde::{Deserialize, Serialize};

use crate::command::Tick;
use crate::time::WallTime;

/// Where the timeline is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Microseconds since the cluster was formed.
    elapsed_us: u64,
    /// The same, before the last entry.
    #[serde(default)]
    before_us: u64,
    last: Option<Tick>,
    last_at: WallTime,
}

impl Timeline {
    /// Milliseconds since the cluster was formed, at least 1 once it runs.
    pub const fn elapsed_ms(&self) -> u64 {
        self.elapsed_us / 1_000
    }

    /// Milliseconds from when the cluster was formed to the entry before the last one.
    pub(crate) const fn before_ms(&self) -> u64 {
        self.before_us / 1_000
    }

    /// Wall clock of the last entry.
    pub const fn wall(&self) -> WallTime {
        self.last_at
    }

    /// Takes the next entry: its leader's clocks when it was appended.
    pub(crate) fn advance(&mut self, at: WallTime, tick: Option<Tick>) {
        let by_wall = |ahead_us: i64| {
            let passed = at.0.saturating_sub(self.last_at.0).saturating_sub(ahead_us);
            u64::try_from(passed).unwrap_or(0)
        };
        let first = self.last_at == WallTime::default();
        let passed = match (self.last, tick) {
            _ if first => 1_000,
            (Some(last), Some(now)) if last.run == now.run => now.us.saturating_sub(last.us),
            (_, Some(now)) => by_wall(now.ahead_us.unwrap_or(0)),
            (_, None) => by_wall(0),
        };
        self.before_us = self.elapsed_us;
        self.elapsed_us = self.elapsed_us.saturating_add(passed);
        (self.last, self.last_at) = (tick, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Session;

    const NOON: WallTime = WallTime(1_795_348_800_000_000);
    const HOUR: i64 = 3_600_000_000;

    fn tick(run: u64, ms: u64, ahead_us: Option<i64>) -> Option<Tick> {
        Some(Tick { run: Session(run), us: ms * 1_000, ahead_us })
    }

    fn at(ms: i64, ahead: i64) -> WallTime {
        WallTime(NOON.0 + ms * 1_000 + ahead)
    }

    /// F5: the director's clock is set by an hour between a failure and the repair.
    #[test]
    fn a_step_of_the_clock_is_no_time() {
        let mut line = Timeline::default();
        line.advance(at(0, 0), tick(1, 0, None));
        let begun = line.elapsed_ms();
        line.advance(at(1_300, HOUR), tick(1, 1_300, None));
        assert_eq!(line.elapsed_ms() - begun, 1_300);
        line.advance(at(1_500, -HOUR), tick(1, 1_500, None));
        assert_eq!(line.elapsed_ms() - begun, 1_500);
    }

    /// The next director's clock is an hour ahead, and it knows that.
    #[test]
    fn a_new_leader_goes_on_with_the_offset_that_it_measured() {
        let mut line = Timeline::default();
        line.advance(at(0, 0), tick(1, 70_000, None));
        let begun = line.elapsed_ms();
        line.advance(at(1_100, HOUR), tick(2, 5, Some(HOUR)));
        line.advance(at(1_200, HOUR), tick(2, 105, Some(HOUR)));
        assert_eq!(line.elapsed_ms() - begun, 1_200);
    }

    #[test]
    fn it_never_runs_backwards() {
        let mut line = Timeline::default();
        line.advance(at(0, 0), tick(1, 50, None));
        let begun = line.elapsed_ms();
        line.advance(at(0, -HOUR), tick(2, 0, None));
        line.advance(at(0, -2 * HOUR), None);
        assert_eq!(line.elapsed_ms(), begun);
    }
}
