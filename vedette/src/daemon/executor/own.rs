//! The groups of this node as they are on this machine now, for those who look while the cluster cannot be
//! asked; and what the node lets go of by itself, told at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use vedette_core::group::GroupState;
use vedette_core::id::NodeNumber;
use vedette_core::local::{Condition, Happened};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::time::Instant;

use super::{Shared, lock};

/// Keeps the view's own groups up to date, and whether the state can be of now for this node.
pub(super) async fn show(shared: Arc<Shared>) {
    let mut views = shared.publisher.views();
    let mut let_go = shared.let_go.subscribe();
    let mut lease = shared.lease.subscribe();
    let mut guard = shared.guard.subscribe();
    loop {
        let state = views.borrow_and_update().state.clone();
        let groups = shared.own_groups(&state);
        let presented = shared.epoch(&state).is_some();
        shared.publisher.update_local(|local| {
            local.presented = presented;
            if *local.groups != groups {
                local.groups = Arc::new(groups);
            }
        });
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = let_go.changed() => if changed.is_err() { return },
            changed = lease.changed() => if changed.is_err() { return },
            changed = guard.changed() => if changed.is_err() { return },
        }
    }
}

/// What should be off and is not, with the reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stuck {
    /// What the guard could not take away when the lease ended.
    pub(super) guard: Option<String>,
    /// Groups of which a resource does not stop.
    pub(super) groups: BTreeMap<String, String>,
}

impl Stuck {
    fn conditions(&self, me: NodeNumber, node: &str, state: &ClusterState) -> Vec<Condition> {
        let condition = |subject, name: &str, what: &str, cause: &String| Condition {
            code: Code::ReleaseFailed,
            subject,
            subject_name: name.to_owned(),
            raised: format!("{node} could not release {what}"),
            cleared: format!("{node} released {what}"),
            cause: cause.clone(),
            severity: Severity::Error,
            alert: true,
        };
        let guard =
            self.guard.iter().map(|cause| condition(Subject::Node(me), node, "everything", cause));
        let groups = self.groups.iter().filter_map(|(name, cause)| {
            let number = state.groups.get(name)?.number;
            Some(condition(Subject::Group(number), name, name, cause))
        });
        guard.chain(groups).collect()
    }
}

impl Shared {
    /// State of each group that this node has, or that the state on hand gives it. What was held in an
    /// earlier epoch of the guard is gone, whatever the state says.
    fn own_groups(&self, state: &ClusterState) -> BTreeMap<String, GroupState> {
        let epoch = self.guard.borrow().as_ref().map(|facts| facts.epoch);
        let held = lock(&self.held).clone();
        let mine = state.groups.iter().filter_map(|(name, group)| {
            let instance = group.instances.get(&self.me)?;
            let here = held.get(name).is_some_and(|held| Some(held.epoch) == epoch);
            let now = match instance.state {
                GroupState::Unmanaged => GroupState::Unmanaged,
                GroupState::Unknown if self.is_left_running(name, &held) => GroupState::Online,
                known if self.is_left_running(name, &held) => known,
                _ if !here => GroupState::Offline,
                known => known,
            };
            Some((name.clone(), now))
        });
        mine.collect()
    }

    fn is_left_running(&self, group: &str, held: &BTreeMap<String, super::Held>) -> bool {
        held.contains_key(group) && !self.may_end(group)
    }

    /// Writes down each group that the guard let go of.
    pub(super) fn tell_released(&self, epoch: u64, release: (u64, u64), reaper: bool) {
        self.tell_stuck(|stuck| stuck.guard = None);
        let why = if reaper {
            "its lease ended while guard and agent stood still, and its reaper released it"
        } else {
            "its lease ended, and its guard released it"
        };
        self.tell_let_go(epoch, why, Some(release));
    }

    /// Writes down a group of this node that the guard let go of before this agent was there.
    pub(super) fn tell_missed(&self, epoch: u64, group: &str, token: u64) {
        let known = *lock(&self.last_release);
        let Some((_, release)) = known.filter(|(of, _)| *of == epoch) else { return };
        lock(&self.dropped).insert(group.to_owned(), (token, epoch.saturating_sub(1)));
        let why = "its lease ended while its agent did not run, and its guard released it";
        self.tell_let_go(epoch, why, Some(release));
    }

    /// Changes what cannot be let go of, and tells it while it is so.
    pub(super) fn tell_stuck(&self, change: impl FnOnce(&mut Stuck)) {
        {
            let mut stuck = lock(&self.stuck);
            let before = stuck.clone();
            change(&mut stuck);
            if *stuck == before {
                return;
            }
        }
        self.show_stuck();
    }

    /// Tells what cannot be let go of; what an earlier run told and is not so any more is over.
    pub(super) fn show_stuck(&self) {
        let stuck = lock(&self.stuck).clone();
        let node = self.state().node_name(self.me);
        self.local.conditions(Code::ReleaseFailed, stuck.conditions(self.me, &node, &self.state()));
    }

    /// Writes down groups of earlier epochs than that one that this node let go of by itself: those that it
    /// is about to stop, and those with which it was done already. Each instance is told once. `release`: when
    /// the lease had ended and when all was released, where the guard knows it.
    pub(super) fn tell_let_go(&self, epoch: u64, why: &str, release: Option<(u64, u64)>) {
        let at = release.map(|(_, released_us)| Instant::from_micros(released_us));
        let took = |(ended, released): (u64, u64)| released.saturating_sub(ended) / 1_000;
        let duration_ms = release.map(took);
        let held = self.ends_with_the_lease().into_iter();
        let held = held.map(|(name, held)| (name, (held.token, held.epoch)));
        let mut gone = std::mem::take(&mut *lock(&self.dropped));
        gone.extend(held);
        let state = self.state();
        let node = state.node_name(self.me);
        for (name, (token, of)) in &gone {
            let known = state.groups.get(name).filter(|_| *of < epoch);
            let Some(group) = known else { continue };
            let subject = Subject::Group(group.number);
            if at.is_some_and(|at| self.local.has_told(Code::GroupReleased, subject, at)) {
                lock(&self.told).insert(name.clone(), *token);
                continue;
            }
            if lock(&self.told).insert(name.clone(), *token) == Some(*token) {
                continue;
            }
            let happened = Happened {
                code: Code::GroupReleased,
                subject,
                subject_name: name.clone(),
                message: format!("{node} released {name}"),
                cause: why.to_owned(),
                severity: Severity::Error,
                duration_ms,
                alert: true,
            };
            self.local.happened_at(at, happened);
        }
    }
}
