//! Cover by this node's lease: all that it has ends with it, but for what maintenance or a forced stop
//! leaves running (spec H21).
//!
//! What is left alone is not in the guard's orders, so neither guard nor agent takes it away when the lease
//! ends, when they end themselves or when they start, and the kernel's gate lets its addresses through. The
//! cluster counts the end of a lease as no evidence for it from the entry that begins the maintenance on, and
//! until this node says that its guard has it in its orders again ([`GroupCommand::Covered`]).
//!
//! Invariant: what the cluster holds for covered is in an order that the guard accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::command::{Command, GroupCommand};
use vedette_core::state::ClusterState;

use super::super::runner::insist;
use super::{Shared, lock};

/// The pause before a guard that refused, or did not answer, is told again.
const AGAIN: Duration = Duration::from_millis(500);

/// Groups in the guard's orders.
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// In one that it may have followed: with the lease they may be gone.
    told: BTreeSet<String>,
    /// In the last one, which it accepted.
    sure: BTreeSet<String>,
}

impl Cover {
    /// An order is about to be given.
    pub(super) fn tell(&mut self, groups: &BTreeSet<String>) {
        self.sure = self.sure.intersection(groups).cloned().collect();
        self.told.extend(groups.iter().cloned());
    }

    /// It was accepted.
    pub(super) fn accepted(&mut self, groups: BTreeSet<String>) {
        self.told.clone_from(&groups);
        self.sure = groups;
    }

    /// The guard is in a new epoch, and holds nothing.
    pub(super) fn over(&mut self) {
        self.sure.clear();
    }

    fn may_end(&self, group: &str) -> bool {
        self.told.contains(group)
    }
}

impl Shared {
    /// Whether a group of this node is to end with the lease.
    pub(super) fn covers(&self, state: &ClusterState, group: &str) -> bool {
        match self.instance(state, group) {
            None => true,
            Some(it) => !it.is_left() && !state.is_left_alone(group, self.me),
        }
    }

    /// Whether a group may have ended with the lease.
    pub(super) fn may_end(&self, group: &str) -> bool {
        lock(&self.cover).may_end(group)
    }

    /// Whether a group may have been let go of, though nobody has said so yet: this process may have stood still.
    pub(super) fn is_in_doubt(&self, group: &str) -> bool {
        self.may_end(group) && !self.has_lease()
    }

    /// Groups that this node has, by the state or by what is held.
    pub(super) fn mine(&self, state: &ClusterState) -> BTreeSet<String> {
        let here = state.groups.iter().filter(|(_, group)| group.instances.contains_key(&self.me));
        let here = here.map(|(name, _)| name.clone());
        here.chain(lock(&self.held).keys().cloned()).collect()
    }

    /// Those that are to be in the guard's orders.
    pub(super) fn to_cover(&self, state: &ClusterState) -> BTreeSet<String> {
        let mine = self.mine(state).into_iter();
        mine.filter(|group| !self.is_done(state, group) && self.covers(state, group)).collect()
    }

    /// Whether the state has something here that was let go of.
    fn is_done(&self, state: &ClusterState, group: &str) -> bool {
        let instance = self.instance(state, group);
        instance.is_some_and(|instance| self.is_over(group, instance.token))
    }
}

/// Keeps the guard's orders in line with what is to be covered, and says so when it is.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut views = shared.publisher.views();
    let mut guard = shared.guard.subscribe();
    let mut said = BTreeMap::new();
    loop {
        let view = views.borrow_and_update().clone();
        let epoch = guard.borrow_and_update().as_ref().map(|facts| facts.epoch);
        let state = &view.state;
        if epoch.is_some() && shared.epoch(state) == epoch && shared.has_quorum() {
            let wanted = shared.to_cover(state);
            let sure = lock(&shared.cover).sure.clone();
            if wanted != sure
                && let Err(why) = shared.tell().await
            {
                tracing::debug!(why, "the guard is told again what a lease covers");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            shared.say_covered(state, &mut said);
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = guard.changed() => if changed.is_err() { return },
        }
    }
}

impl Shared {
    /// Tells the cluster once what is covered again.
    fn say_covered(self: &Arc<Self>, state: &ClusterState, said: &mut BTreeMap<String, u64>) {
        let sure = lock(&self.cover).sure.clone();
        for group in sure {
            let Some(instance) = self.instance(state, &group) else { continue };
            let Some(since) = instance.uncovered else { continue };
            if !self.covers(state, &group) || said.insert(group.clone(), since) == Some(since) {
                continue;
            }
            let (node, token) = (self.me, instance.token);
            let covered = GroupCommand::Covered { group, node, token, since };
            let shared = self.clone();
            tokio::spawn(async move {
                insist(&shared.proposer, Command::Group(covered)).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Until the guard has answered, a group may be in its orders and nobody may rely on that.
    #[test]
    fn h21_an_order_without_an_answer_covers_nothing_for_sure() {
        let mut cover = Cover::default();
        cover.accepted(set(&["web", "db"]));
        cover.tell(&set(&["db", "mail"]));
        assert_eq!(cover.sure, set(&["db"]));
        assert!(cover.may_end("web") && cover.may_end("mail"));
        cover.accepted(set(&["db", "mail"]));
        assert!(!cover.may_end("web") && cover.sure.contains("mail"));
        cover.over();
        assert!(cover.sure.is_empty() && cover.may_end("db"));
    }
}
