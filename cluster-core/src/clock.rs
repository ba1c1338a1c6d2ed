//! The clocks of the nodes: which of them are too far apart to be believed.
//!
//! Nothing in the cluster is decided by a wall clock, but everything that people read is dated by
//! one: histories of several nodes, and an account given afterwards, can be put in order only if the
//! clocks agree. An offset is one node's measurement of a peer that it hears now; what it amounts to
//! is said here, for every surface alike.

use std::collections::BTreeMap;

use crate::id::NodeNumber;
use crate::observation::Report;
use crate::state::ClusterState;

/// From this offset on, in microseconds, the clocks of two nodes do not agree.
pub const CLOCK_TOLERANCE_US: i64 = 100_000;

/// Below this offset they agree again: an offset about the tolerance is one finding, not many.
pub const CLOCK_AGREED_US: i64 = CLOCK_TOLERANCE_US / 2;

/// The members whose clocks do not agree with the observer's, in order of number, each with the
/// offset of its clock in microseconds: positive if it is ahead.
pub fn clock_trouble(report: &Report, state: &ClusterState) -> Vec<(NodeNumber, i64)> {
    let members = report.peers.iter().filter(|peer| state.nodes.contains_key(&peer.peer));
    let mut trouble: Vec<_> = members
        .filter_map(|peer| Some((peer.peer, peer.clock_offset_us?)))
        .filter(|(_, offset_us)| disagree(*offset_us, false))
        .collect();
    trouble.sort_unstable();
    trouble
}

/// Whether clocks that are so far apart do not agree, where it is known whether they did `before`.
pub const fn disagree(offset_us: i64, before: bool) -> bool {
    let least = if before { CLOCK_AGREED_US } else { CLOCK_TOLERANCE_US };
    offset_us.unsigned_abs() >= least.unsigned_abs()
}

/// Whether a clock counts as off, where it is known whether it did `before`: an offset that is not measured
/// now says nothing, so nothing changes.
pub const fn is_off(offset_us: Option<i64>, before: bool) -> bool {
    match offset_us {
        Some(offset_us) => disagree(offset_us, before),
        None => before,
    }
}

/// Latest readings of the wall clocks of this node and its peers, each against its own monotonic clock.
///
/// A peer that is dead or cut off is measured no more, but its clock is known for as long as nobody sets it: so a
/// node whose own clock is off knows that still when it is left alone, and directs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The own wall clock minus the monotonic one, in microseconds.
    own_us: i64,
    /// The same of the wall clocks of peers.
    peers_us: BTreeMap<NodeNumber, i64>,
}

impl Clocks {
    /// Takes what a report measured, and forgets who is in it no more; the own clock shows `own_us` more than
    /// the monotonic one.
    pub fn learn(&mut self, report: &Report, own_us: i64) {
        self.own_us = own_us;
        self.peers_us.retain(|peer, _| report.peer(*peer).is_some());
        let measured = report.peers.iter().filter_map(|it| Some((it.peer, it.clock_offset_us?)));
        self.peers_us.extend(measured.map(|(peer, offset)| (peer, own_us.saturating_add(offset))));
    }

    /// The same, while the own clock shows `own_us` more than the monotonic one.
    #[must_use]
    pub fn now(&self, own_us: i64) -> Self {
        Self { own_us, peers_us: self.peers_us.clone() }
    }

    /// Offset of the clock of most nodes from the own one, in microseconds: the middle of all that were
    /// measured and the own. With fewer than three clocks nobody knows which is right.
    pub fn offset_of_most(&self) -> Option<i64> {
        let mut all: Vec<i64> = self.peers_us.values().copied().chain([self.own_us]).collect();
        all.sort_unstable();
        if all.len() < 3 { None } else { Some(all[all.len() / 2].saturating_sub(self.own_us)) }
    }

    /// Microseconds that a director adds to its own clock to date an entry: that of most nodes counts where
    /// its own is [off](disagree).
    pub fn correction(&self) -> i64 {
        corrected(self.offset_of_most())
    }

    /// Lead of the own clock over the one by which `director`, another node, dates entries, in microseconds,
    /// where it was measured: the director corrects its own as it sees the others, which is seen from here too.
    pub fn ahead_of_entries(&self, director: NodeNumber) -> Option<i64> {
        let ahead_us = self.own_us.saturating_sub(*self.peers_us.get(&director)?);
        let most = self.offset_of_most().map(|most| most.saturating_add(ahead_us));
        Some(ahead_us.saturating_sub(corrected(most)))
    }
}

fn corrected(most_us: Option<i64>) -> i64 {
    most_us.filter(|most_us| disagree(*most_us, false)).unwrap_or(0)
}

/// The offset with the greatest absolute value among those that were measured.
pub fn greatest_offset(report: &Report) -> Option<i64> {
    let offsets = report.peers.iter().filter_map(|peer| peer.clock_offset_us);
    offsets.max_by_key(|offset_us| offset_us.unsigned_abs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture;

    const HOUR: i64 = 3_600_000_000;

    fn seen(offsets: &[(u16, Option<i64>)]) -> (Report, ClusterState) {
        let view = fixture::one_down();
        let mut report = Report::clone(view.local.report.as_deref().expect("a report"));
        for (number, offset_us) in offsets {
            let peer = report.peers.iter_mut().find(|peer| peer.peer == NodeNumber(*number));
            peer.expect("a peer").clock_offset_us = *offset_us;
        }
        (report, ClusterState::clone(&view.state))
    }

    #[test]
    fn clocks_that_are_a_tenth_of_a_second_apart_do_not_agree() {
        let (report, state) = seen(&[(2, Some(99_999)), (3, Some(-100_000))]);
        assert_eq!(clock_trouble(&report, &state), [(NodeNumber(3), -100_000)]);
        assert_eq!(greatest_offset(&report), Some(-100_000));
    }

    #[test]
    fn what_is_not_measured_and_who_is_no_member_is_no_trouble() {
        let (mut report, mut state) = seen(&[(2, Some(i64::MIN)), (3, None)]);
        assert_eq!(clock_trouble(&report, &state), [(NodeNumber(2), i64::MIN)]);
        state.nodes.remove(&NodeNumber(2));
        assert_eq!(clock_trouble(&report, &state), []);
        report.peers.clear();
        assert_eq!(greatest_offset(&report), None);
    }

    pub(crate) fn clocks(second: Option<i64>, third: Option<i64>) -> Clocks {
        let mut clocks = Clocks::default();
        clocks.learn(&seen(&[(2, second), (3, third)]).0, 7 * HOUR);
        clocks
    }

    /// The own clock may be the one that is off; of two nobody knows which.
    #[test]
    fn most_clocks_are_right() {
        let most = |second, third| clocks(second, third).offset_of_most();
        assert_eq!(most(Some(-HOUR - 400), Some(-HOUR - 100)), Some(-HOUR - 100));
        assert_eq!(most(Some(200), Some(HOUR)), Some(200), "a peer's is off");
        assert_eq!(most(Some(-200), Some(-HOUR)), Some(-200));
        assert_eq!(most(Some(HOUR), None), None);
        assert_eq!(most(None, None), None);
    }

    /// Entries are dated by the clock of most nodes, whoever leads; n1 is the observer.
    #[test]
    fn entries_are_dated_by_what_most_clocks_show() {
        let dates = |second, third| {
            let clocks = clocks(second, third);
            let ahead = |director| clocks.ahead_of_entries(NodeNumber(director));
            (clocks.correction(), ahead(2), ahead(3))
        };
        // The observer's clock is an hour ahead.
        let (off, near) = (Some(-HOUR), Some(-HOUR - 30));
        assert_eq!(dates(off, off), (-HOUR, Some(HOUR), Some(HOUR)));
        assert_eq!(dates(off, near), (-HOUR, Some(HOUR), Some(HOUR + 30)));
        // That of n2 is; it knows as director.
        assert_eq!(dates(Some(HOUR), Some(500)), (0, Some(-500), Some(-500)));
        // What differs by less than people notice is left as it is.
        assert_eq!(dates(Some(-400), Some(-800)), (0, Some(400), Some(800)));
        // Of two nobody knows which is right: each director dates by its own.
        assert_eq!(dates(Some(HOUR), None), (0, Some(-HOUR), None));
    }

    /// Who dies takes nothing along that was known of the clocks; who is deleted does, and who sets its own clock
    /// sees that at once.
    #[test]
    fn what_was_measured_last_is_known_while_nobody_is_heard() {
        let mut clocks = clocks(Some(-HOUR), Some(-HOUR));
        let (mut alone, _) = seen(&[(2, None), (3, None)]);
        clocks.learn(&alone, 7 * HOUR);
        assert_eq!(
            (clocks.correction(), clocks.ahead_of_entries(NodeNumber(3))),
            (-HOUR, Some(HOUR))
        );
        assert_eq!(clocks.now(6 * HOUR).correction(), 0, "the own clock was set right");
        alone.peers.retain(|peer| peer.peer != NodeNumber(3));
        clocks.learn(&alone, 7 * HOUR);
        assert_eq!(clocks.correction(), 0, "two are left, and n3 is no member");
    }

    #[test]
    fn an_offset_about_the_tolerance_is_one_finding() {
        let mut found = false;
        let mut edges = 0;
        for offset_us in [90_000, 101_000, 99_000, -100_500, 60_000, 100_000, 49_000, 70_000] {
            let now = disagree(offset_us, found);
            edges += u32::from(now != found);
            found = now;
        }
        assert_eq!((edges, found), (2, false));
    }
}
