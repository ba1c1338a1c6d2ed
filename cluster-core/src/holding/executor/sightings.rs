//! Looks for what runs here although this node does not have its group: started by hand, left behind by a
//! lease that was lost, never stopped (findings R2, R3; the field calls it a probe, and what it finds
//! "multiple active").
//!
//! Every resource of every group that this node could own is asked with its monitor: when the node takes
//! part again, which is at its start and after each loss of its lease, and at an interval. What two looks in
//! a row show is told into the log, and stopped unless the group's `multiple_active` says `block` or
//! somebody works on it (maintenance).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::group::{MultipleActive, ResourceDef};
use crate::id::NodeNumber;
use crate::state::ClusterState;
use crate::time::Instant;

/// The next look after one that found something, or expected to.
const AGAIN: Duration = Duration::from_secs(2);

/// Resources that run, by their groups.
pub type Found = BTreeMap<String, BTreeSet<String>>;

/// Looks so far.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// The last one, if this node has taken part since.
    looked: Option<Instant>,
    /// Something is open since.
    open: bool,
    before: Found,
}

/// Outcome of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighted {
    /// For the cluster to be told; nothing runs any more of groups without resources.
    pub news: Found,
    /// To be stopped here.
    pub to_stop: Found,
}

impl Sightings {
    /// Whether it is time to look; `takes_part`: whether this node is one that could own something and knows what it
    /// owns.
    pub fn is_due(&mut self, now: Instant, takes_part: bool, interval: Duration) -> bool {
        if !takes_part || interval.is_zero() {
            *self = Self::default();
            return false;
        }
        // An interval that was changed holds at once.
        let pause = if self.open { AGAIN } else { interval };
        self.looked.is_none_or(|looked| now.since(looked) >= pause)
    }

    /// Whether the next look is the first since this node takes part.
    pub const fn is_first(&self) -> bool {
        self.looked.is_none()
    }

    /// What the last look showed.
    pub const fn before(&self) -> &Found {
        &self.before
    }

    /// Takes what a look showed; `stuck`: something that could not be stopped is open as well.
    pub fn take(
        &mut self,
        now: Instant,
        found: Found,
        (me, state): (NodeNumber, &ClusterState),
        stuck: bool,
    ) -> Sighted {
        let sighted = Sighted {
            news: news(&self.before, &found, (me, state)),
            to_stop: to_stop(&self.before, &found, (me, state)),
        };
        let known = state.groups.values().any(|group| group.also.contains_key(&me));
        self.open = !found.is_empty() || known || stuck;
        (self.looked, self.before) = (Some(now), found);
        sighted
    }
}

/// Groups that this node could own and does not have.
pub fn strange(
    state: &ClusterState,
    me: NodeNumber,
) -> impl Iterator<Item = (&String, &[ResourceDef])> {
    let able = state.definition.groups.iter().filter(move |group| group.nodes.contains(&me));
    able.filter(move |def| {
        let group = state.groups.get(&def.name);
        group.is_some_and(|group| !group.instances.contains_key(&me))
    })
    .map(|def| (&def.name, def.resources.as_slice()))
}

/// What two looks showed alike, resource by resource: one that comes and goes hides no other.
fn confirmed(before: &Found, found: &Found) -> impl Iterator<Item = (String, BTreeSet<String>)> {
    let both = |(group, now): (&String, &BTreeSet<String>)| {
        let alike: BTreeSet<String> = now.intersection(before.get(group)?).cloned().collect();
        (!alike.is_empty()).then(|| (group.clone(), alike))
    };
    found.iter().filter_map(both)
}

/// What the cluster does not know yet, and what it knows that is over.
fn news(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let known = |group: &str| state.groups.get(group).and_then(|it| it.also.get(&me));
    let new = confirmed(before, found)
        .filter(|(group, now)| known(group).is_none_or(|it| it.unproven || it.resources != *now));
    let over = state
        .groups
        .iter()
        .filter(|(name, group)| group.also.contains_key(&me) && !found.contains_key(*name));
    new.chain(over.map(|(name, _)| (name.clone(), BTreeSet::new()))).collect()
}

/// What is to be stopped here.
fn to_stop(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let manager = &state.manager;
    let of_node = manager.members.get(&me).is_none_or(|member| member.maintenance);
    if manager.maintenance || of_node {
        return Found::new();
    }
    let free = |group: &str| {
        let known = state.groups.get(group);
        known.is_some_and(|it| !it.maintenance && !it.instances.contains_key(&me))
            && state.multiple_active(group) != MultipleActive::Block
    };
    confirmed(before, found).filter(|(group, _)| free(group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::group::Sighting;
    use crate::time::WallTime;

    const N3: NodeNumber = NodeNumber(3);

    fn found(group: &str) -> Found {
        Found::from([(group.to_owned(), BTreeSet::from(["db-server".to_owned()]))])
    }

    fn state() -> ClusterState {
        Fixture::with_groups().state
    }

    #[test]
    fn only_what_two_looks_show_is_told_and_stopped() {
        let (state, nothing, db) = (state(), Found::new(), found("db"));
        assert_eq!(news(&nothing, &db, (N3, &state)), nothing);
        assert_eq!(to_stop(&nothing, &db, (N3, &state)), nothing);
        assert_eq!(news(&db, &db, (N3, &state)), db);
        assert_eq!(to_stop(&db, &db, (N3, &state)), db);
        assert_eq!(news(&db, &nothing, (N3, &state)), nothing, "it was never told");
    }

    /// Its neighbour is started and ends again and again.
    #[test]
    fn what_comes_and_goes_hides_nothing_that_stays() {
        let (state, stays) = (state(), found("db"));
        let mut both = stays.clone();
        both.entry("db".to_owned()).or_default().insert("db-flaps".to_owned());
        for (before, now) in [(&stays, &both), (&both, &stays)] {
            assert_eq!(news(before, now, (N3, &state)), stays);
            assert_eq!(to_stop(before, now, (N3, &state)), stays);
        }
    }

    #[test]
    fn what_is_known_is_told_again_only_when_it_is_over() {
        let (mut state, nothing, db) = (state(), Found::new(), found("db"));
        let (resources, since) = (db["db"].clone(), WallTime::default());
        let group = state.groups.get_mut("db").expect("a group");
        group.also.insert(N3, Sighting { resources, since, unproven: false });
        assert_eq!(news(&db, &db, (N3, &state)), nothing);
        assert_eq!(to_stop(&db, &db, (N3, &state)), db, "it still runs");
        let over = Found::from([("db".to_owned(), BTreeSet::new())]);
        assert_eq!(news(&db, &nothing, (N3, &state)), over);
    }

    #[test]
    fn nothing_is_stopped_in_maintenance_or_where_an_operator_decides() {
        let (nothing, db) = (Found::new(), found("db"));
        let changes: [fn(&mut ClusterState); 4] = [
            |state| state.manager.maintenance = true,
            |state| state.manager.members.get_mut(&N3).expect("it").maintenance = true,
            |state| state.groups.get_mut("db").expect("it").maintenance = true,
            |state| state.definition.groups[1].multiple_active = MultipleActive::Block,
        ];
        for change in changes {
            let mut state = state();
            change(&mut state);
            assert_eq!(to_stop(&db, &db, (N3, &state)), nothing);
            assert_eq!(news(&db, &db, (N3, &state)), db, "it is told all the same");
        }
    }

    #[test]
    fn strange_is_what_a_node_could_own_and_does_not_have() {
        let state = state();
        let of = |node| strange(&state, node).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(of(NodeNumber(2)), ["web"], "it has db and batch");
        assert_eq!(of(NodeNumber(9)), [""; 0]);
    }
}
