//! Health of the log: since when nothing commits although something waits.
//!
//! A log that is idle commits nothing, and that is well. It stands still when an entry was appended
//! or a proposal waits, and the position of the last committed entry does not move. Whoever drives it
//! says what time it is and looks again at the [`StandStill::deadline`]; while nothing waits there is
//! none.

use std::time::Duration;

use crate::time::Instant;

/// Time without a commit, while something waits, after which the log counts as standing still.
pub const STANDS_STILL_AFTER: Duration = Duration::from_secs(1);

/// A log that stood still is well again without a commit once nothing has waited for so long: whoever
/// proposed may have given up, and tries again.
pub const WELL_AFTER: Duration = Duration::from_secs(30);

/// Distance between two looks while something waits.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Progress of the log at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Index of the last entry in the log.
    pub last: u64,
    /// Index of the last entry that is known to be committed.
    pub committed: u64,
    /// Proposals that wait for an answer.
    pub proposals: usize,
}

impl Progress {
    /// Whether something waits for a commit.
    pub fn waits(&self) -> bool {
        self.last > self.committed || self.proposals > 0
    }
}

/// The watch over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandStill {
    committed: u64,
    /// Since when something waits and nothing was committed.
    since: Option<Instant>,
    /// When something waited last.
    waited: Instant,
    deadline: Option<Instant>,
}

impl StandStill {
    /// Takes note of the progress.
    pub fn handle(&mut self, now: Instant, progress: Progress) {
        let moved = progress.committed > self.committed;
        self.committed = progress.committed.max(self.committed);
        let stalled = !moved && self.stalled_for(now).is_some();
        let lately = stalled && now.since(self.waited) < WELL_AFTER;
        if !progress.waits() && !lately {
            *self = Self { committed: self.committed, ..Self::default() };
            return;
        }
        if progress.waits() {
            self.waited = now;
        }
        if moved || self.since.is_none() {
            self.since = Some(now);
        }
        self.deadline = Some(now + LOOK_EVERY);
    }

    /// For how long nothing was committed although something waits, from
    /// [`STANDS_STILL_AFTER`] on.
    pub fn stalled_for(&self, now: Instant) -> Option<Duration> {
        let waited = now.since(self.since?);
        (waited >= STANDS_STILL_AFTER).then_some(waited)
    }

    /// When to look again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// The watch over a log that follows: whether it reaches, within [`STANDS_STILL_AFTER`], what the others
/// had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// A position that another member had, and since when this node has not reached it.
    goal: Option<(u64, Instant)>,
}

impl Behind {
    /// Takes note of the own position and the greatest of the peers that are heard.
    pub fn handle(&mut self, now: Instant, own: u64, others: u64) {
        let reached = self.goal.is_none_or(|(goal, _)| own >= goal);
        if reached {
            self.goal = (others > own).then_some((others, now));
        }
    }

    /// The position that was not reached in time.
    pub fn of(&self, now: Instant) -> Option<u64> {
        self.goal.filter(|(_, since)| now.since(*since) >= STANDS_STILL_AFTER).map(|(goal, _)| goal)
    }

    /// When to look again, if nothing is heard until then.
    pub fn deadline(&self) -> Option<Instant> {
        self.goal.map(|(_, since)| since + STANDS_STILL_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A follower that goes on is not behind, however busy the others are; one that stands still is,
    /// after a second, until it has reached what they had.
    #[test]
    fn a_follower_that_stands_still_is_behind() {
        let mut watch = Behind::default();
        for step in 0..100 {
            watch.handle(at(step * 100), step, step + 3);
            assert_eq!(watch.of(at(step * 100)), None);
        }
        watch.handle(at(10_000), 100, 985);
        watch.handle(at(10_500), 100, 990);
        assert_eq!(watch.of(at(10_500)), None);
        assert!(watch.of(at(11_000)).is_some());
        watch.handle(at(11_500), 990, 990);
        assert_eq!((watch.of(at(20_000)), watch.deadline()), (None, None));
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn progress(last: u64, committed: u64, proposals: usize) -> Progress {
        Progress { last, committed, proposals }
    }

    /// An idle log is well for ever, and nobody has to look.
    #[test]
    fn idle_is_well() {
        let mut watch = StandStill::default();
        watch.handle(at(0), progress(9, 9, 0));
        assert_eq!((watch.stalled_for(at(1_000_000)), watch.deadline()), (None, None));
    }

    /// F1: an entry that is not committed within a second is a log that stands still.
    #[test]
    fn an_entry_that_waits_is_told_after_a_second() {
        let mut watch = StandStill::default();
        watch.handle(at(0), progress(9, 9, 0));
        watch.handle(at(5_000), progress(10, 9, 0));
        assert_eq!(watch.deadline(), Some(at(5_250)));
        watch.handle(at(5_999), progress(11, 9, 2));
        assert_eq!(watch.stalled_for(at(5_999)), None);
        assert_eq!(watch.stalled_for(at(6_000)), Some(Duration::from_secs(1)));
        watch.handle(at(45_000), progress(11, 9, 1));
        assert_eq!(watch.stalled_for(at(45_000)), Some(Duration::from_secs(40)));
    }

    /// A proposal that has no entry yet waits as well.
    #[test]
    fn a_proposal_without_a_leader_waits() {
        let mut watch = StandStill::default();
        watch.handle(at(0), progress(9, 9, 1));
        assert_eq!(watch.stalled_for(at(1_500)), Some(Duration::from_millis(1_500)));
    }

    /// Whoever proposed gives up after some seconds and tries again: that is not well, and not told as such.
    /// A commit is, and a time in which nobody wants anything.
    #[test]
    fn a_proposal_that_is_given_up_is_no_commit() {
        for committed in [true, false] {
            let mut watch = StandStill::default();
            watch.handle(at(0), progress(9, 9, 1));
            watch.handle(at(9_000), progress(9, 9, 0));
            assert_eq!(watch.stalled_for(at(9_500)), Some(Duration::from_millis(9_500)));
            watch.handle(at(10_000), progress(9, 9, 1));
            watch.handle(at(19_000), progress(9, 9, 0));
            assert!(watch.stalled_for(at(19_000)).is_some());
            let (end, commit) = if committed { (19_500, 10) } else { (49_000, 9) };
            assert!(watch.deadline().is_some_and(|deadline| deadline <= at(end)));
            watch.handle(at(end), progress(commit, commit, 0));
            assert_eq!((watch.stalled_for(at(end)), watch.deadline()), (None, None));
        }
    }

    /// A log that is busy and commits is no log that stands still, however much waits.
    #[test]
    fn commits_begin_the_time_anew() {
        let mut watch = StandStill::default();
        for second in 0..100 {
            watch.handle(at(second * 900), progress(10 + second, second, 3));
            assert_eq!(watch.stalled_for(at(second * 900 + 899)), None);
        }
    }

    /// A state machine that is told an earlier commit again (a restart of the metrics) does not move.
    #[test]
    fn an_earlier_commit_is_no_progress() {
        let mut watch = StandStill::default();
        watch.handle(at(0), progress(9, 8, 0));
        watch.handle(at(500), progress(9, 0, 0));
        watch.handle(at(900), progress(9, 8, 0));
        assert_eq!(watch.stalled_for(at(1_000)), Some(Duration::from_secs(1)));
    }
}
