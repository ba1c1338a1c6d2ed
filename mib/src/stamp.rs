//! `TimeStamp` values: `sysUpTime` of the teller at the moment of a change (RFC 2579).
//!
//! The state says when a change was on the wall clock of the node that proposed it, and that clock may
//! be off by hours. So what counts is when this subagent *saw* the change, by its own monotonic clock:
//! each time of a change is remembered together with the moment at which a view first had it.
//!
//! A change that came while this node did not know the cluster (it started, it had no quorum) was not
//! witnessed. It is placed by wall clocks, between the last moment at which this node knew and now.
//!
//! Invariants: no stamp is later than `sysUpTime` now, and none moves as long as its change stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::local_view::lead;
use vedette_core::state::ClusterState;
use vedette_core::time::{Instant, WallTime};
use vedette_core::view::View;

use crate::value::Value;

/// How far apart two readings may be and still mean the same start, in microseconds; keeps
/// stamps from moving with every reading.
const TOLERANCE: u64 = 1_000_000;

/// Microseconds of [`TimeBase`]'s hundredths.
const HUNDREDTH: i64 = 10_000;

/// Moments are microseconds of the program's monotonic clock, negative before it started.
#[derive(Clone, Debug, Default)]
pub struct TimeBase {
    /// When the master agent started.
    started: Option<i64>,
    /// Whether the next reading may be of another master.
    in_doubt: bool,
    /// When each change of the present view was seen.
    seen: BTreeMap<WallTime, i64>,
    /// When this node last knew the cluster.
    knew: Option<i64>,
    /// Whether it did at the last look: what it sees next, it sees when it comes.
    knows: bool,
    looked: Option<Arc<View>>,
}

impl TimeBase {
    /// Takes in that `sysUpTime` was `uptime` a little before `now`. The reading of least delay is the
    /// best; one that says the master started later is believed only of another master.
    pub fn learn(&mut self, uptime: u32, now: Instant) {
        let started = moment(now) - i64::from(uptime) * HUNDREDTH;
        let believed = match self.started {
            None => true,
            Some(known) if known.abs_diff(started) <= TOLERANCE => false,
            Some(known) => self.in_doubt || started < known,
        };
        if believed {
            self.started = Some(started);
        }
        self.in_doubt = false;
    }

    /// The connection is another one, and the master may be.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Looks for changes in `view` at `now`, when the wall clock shows `wall`. That may be off; the view dates
    /// by the clock of most nodes.
    pub fn look(&mut self, view: &Arc<View>, now: Instant, wall: WallTime) {
        let now = moment(now);
        let same = self.looked.as_ref().is_some_and(|before| same_changes(before, view));
        if !same {
            let witness = self.knows && view.local.knows();
            let earliest = if witness { now } else { self.knew.unwrap_or(i64::MIN).min(now) };
            let director = view.known.as_ref().unwrap_or(&view.state).director;
            let lead_us = lead(&view.local, director, None);
            let place = |since: WallTime| {
                let ago = wall.0.saturating_sub(lead_us).saturating_sub(since.0);
                now.saturating_sub(ago).clamp(earliest, now)
            };
            let all = changes(view).into_iter();
            self.seen = all
                .map(|at| (at, self.seen.get(&at).copied().unwrap_or_else(|| place(at))))
                .collect();
            self.looked = Some(Arc::clone(view));
        }
        self.knows = view.local.knows();
        if self.knows {
            self.knew = Some(now);
        }
    }

    /// `sysUpTime` at the change that the view dates `since`; 0 for what was before the master started.
    pub(crate) fn stamp(&self, since: WallTime) -> Value {
        let (Some(started), Some(seen)) = (self.started, self.seen.get(&since)) else {
            return Value::TimeTicks(0);
        };
        Value::TimeTicks((seen.saturating_sub(started).max(0) / HUNDREDTH) as u32)
    }

    /// Time since the change that the view dates `since`, by the monotonic clock.
    pub(crate) fn age(&self, since: WallTime, now: Instant) -> Duration {
        let seen = self.seen.get(&since).copied().unwrap_or(moment(now));
        Duration::from_micros(u64::try_from(moment(now) - seen).unwrap_or(0))
    }

    /// What every stamp counts from.
    pub(crate) fn started(&self) -> Option<i64> {
        self.started
    }
}

fn moment(now: Instant) -> i64 {
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Whether two views have the same changes, seen without looking closely.
fn same_changes(old: &View, new: &View) -> bool {
    let known = match (&old.known, &new.known) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    let stalled = old.local.log.stalled_since == new.local.log.stalled_since;
    known && stalled && Arc::ptr_eq(&old.state, &new.state)
}

/// The times of all changes that have a stamp or an age. What was known last is among them: its
/// stamps are the same when it is known again.
fn changes(view: &View) -> BTreeSet<WallTime> {
    let mut all: BTreeSet<WallTime> = view.local.log.stalled_since.into_iter().collect();
    for state in std::iter::once(&view.state).chain(&view.known) {
        all.insert(state.changed_at);
        add_wiring(state, &mut all);
        add_groups(state, &mut all);
    }
    all
}

fn add_wiring(state: &ClusterState, all: &mut BTreeSet<WallTime>) {
    for node in state.nodes.values() {
        all.extend([node.host_since, node.agent_since]);
        all.extend(node.interfaces.values().map(|interface| interface.since));
    }
    all.extend(state.networks.values().map(|network| network.since));
    all.extend(state.links.iter().map(|link| link.since));
}

fn add_groups(state: &ClusterState, all: &mut BTreeSet<WallTime>) {
    for group in state.groups.values() {
        all.insert(group.since);
        for instance in group.instances.values() {
            all.insert(instance.since);
            all.extend(instance.resources.values().map(|status| status.since));
        }
    }
    all.extend(state.manager.members.values().map(|member| member.since));
    all.extend(state.manager.fired.values().flat_map(BTreeMap::values).map(|firing| firing.at));
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::{FORMED, Fixture};
    use vedette_core::id::NodeNumber;

    use super::*;

    const N1: NodeNumber = NodeNumber(1);
    const HOUR: i64 = 3_600_000_000;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    /// The wall clock of this node, which is right.
    fn wall(seconds: u64) -> WallTime {
        FORMED.plus(Duration::from_secs(1_000 + seconds))
    }

    /// A view in which something changed at `changed`, by the clock of whoever proposed it.
    fn changed(changed: WallTime) -> Arc<View> {
        let mut fixture = Fixture::settled(3);
        fixture.state.changed_at = changed;
        Arc::new(fixture.view(N1))
    }

    /// S4: a proposer whose clock is an hour ahead or behind: the stamp is that of what was seen.
    #[test]
    fn s4_a_clock_that_is_off_moves_no_stamp() {
        for off in [-HOUR, 0, HOUR] {
            let mut base = TimeBase::default();
            base.learn(300, at(1));
            base.look(&changed(FORMED), at(1), wall(1));
            let same = changed(FORMED);
            base.look(&same, at(100), wall(100));
            let since = WallTime(wall(100).0 + off);
            base.look(&changed(since), at(100), wall(100));
            let stamp = base.stamp(since);
            assert_eq!(stamp, Value::TimeTicks(10_200), "off by {off} µs");
            base.look(&changed(since), at(500), wall(500));
            assert_eq!(base.stamp(since), stamp, "it stands as long as its change");
        }
    }

    /// S4: a change is seen when it comes, however long nothing had changed before it.
    #[test]
    fn s4_a_change_after_a_quiet_time_is_stamped_when_it_is_seen() {
        for off in [-HOUR, 0, HOUR] {
            let mut base = TimeBase::default();
            base.learn(300, at(1));
            base.look(&changed(FORMED), at(1), wall(1));
            let since = WallTime(wall(100).0 + off);
            base.look(&changed(since), at(100), wall(100));
            assert_eq!(base.stamp(since), Value::TimeTicks(10_200), "off by {off} µs");
        }
    }

    /// What was there before we were is placed by wall clocks, and never in the future.
    #[test]
    fn what_nobody_here_saw_is_placed_by_wall_clocks() {
        let mut base = TimeBase::default();
        base.learn(50_000, at(10));
        let stamp = |base: &mut TimeBase, since: WallTime| {
            let mut fresh = base.clone();
            fresh.look(&changed(since), at(10), wall(10));
            fresh.stamp(since)
        };
        assert_eq!(stamp(&mut base, WallTime(wall(10).0 - 100_000_000)), Value::TimeTicks(40_000));
        assert_eq!(stamp(&mut base, WallTime(wall(10).0 - HOUR)), Value::TimeTicks(0));
        assert_eq!(stamp(&mut base, WallTime(wall(10).0 + HOUR)), Value::TimeTicks(50_000));
    }

    /// A node that had no quorum catches up: what happened meanwhile lies between then and now.
    #[test]
    fn what_happened_while_this_node_did_not_know_lies_in_that_time() {
        for (off, hundredths) in [(-HOUR, 2_000), (0, 5_000), (HOUR, 9_000)] {
            let mut base = TimeBase::default();
            base.learn(0, at(0));
            base.look(&changed(FORMED), at(20), wall(20));
            let mut alone = (*changed(FORMED)).clone();
            alone.local.quorate = false;
            base.look(&Arc::new(alone.shown()), at(30), wall(30));
            let since = WallTime(wall(50).0 + off);
            base.look(&changed(since), at(90), wall(90));
            assert_eq!(base.stamp(since), Value::TimeTicks(hundredths), "off by {off} µs");
        }
    }

    /// A late reading of the same master moves nothing; another master counts anew.
    #[test]
    fn stamps_count_from_the_masters_start() {
        let mut base = TimeBase::default();
        let since = WallTime(wall(100).0);
        base.look(&changed(FORMED), at(99), wall(99));
        base.look(&changed(since), at(100), wall(100));
        assert_eq!(base.stamp(since), Value::TimeTicks(0), "no master yet");
        base.learn(1_000, at(50));
        assert_eq!(base.stamp(since), Value::TimeTicks(6_000));
        base.learn(1_000, at(57));
        assert_eq!(base.stamp(since), Value::TimeTicks(6_000), "an answer that took 7 s");
        base.doubt();
        base.learn(0, at(90));
        assert_eq!(base.stamp(since), Value::TimeTicks(1_000));
        base.doubt();
        base.learn(0, at(200));
        assert_eq!(base.stamp(since), Value::TimeTicks(0), "it was before the master started");
    }
}
