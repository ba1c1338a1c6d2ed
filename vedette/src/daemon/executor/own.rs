//! The groups of this node as they are on this machine now, for those who look while the cluster cannot be
//! asked; and what the node lets go of by itself, told at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::group::GroupState;
use vedette_core::id::NodeNumber;
use vedette_core::local::{Condition, Happened};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::takeover::Unreleased;
use vedette_core::time::Instant;

use super::{Held, Shared, lock};

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

/// How long a stop at the end of a lease may take before the cluster is told that it goes on; most are over
/// by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What should be off and is not, as conditions of this node.
fn conditions(
    stuck: &Unreleased,
    me: NodeNumber,
    node: &str,
    state: &ClusterState,
) -> Vec<Condition> {
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
    let guard = stuck.guard.iter();
    let guard = guard.map(|cause| condition(Subject::Node(me), node, "everything", cause));
    let groups = stuck.groups.iter().filter_map(|(name, cause)| {
        let number = state.groups.get(name)?.number;
        Some(condition(Subject::Group(number), name, name, cause))
    });
    guard.chain(groups).collect()
}

impl Shared {
    /// State of each group that this node has, or that the state on hand gives it. What was held in an
    /// earlier epoch of the guard is gone, whatever the state says.
    fn own_groups(&self, state: &ClusterState) -> BTreeMap<String, GroupState> {
        let epoch = self.guard.borrow().as_ref().map(|facts| facts.epoch);
        let (held, stuck) = (lock(&self.held).clone(), lock(&self.stuck).groups.clone());
        let mine = state.groups.iter().filter_map(|(name, group)| {
            let instance = group.instances.get(&self.me)?;
            let here = held.get(name).map(|held| Some(held.epoch) == epoch);
            let now = match instance.state {
                GroupState::Unmanaged => GroupState::Unmanaged,
                GroupState::Unknown if self.is_left_running(name, &held) => GroupState::Online,
                known if self.is_left_running(name, &held) => known,
                known => match here {
                    Some(true) => known,
                    Some(false) if stuck.contains_key(name) => GroupState::Error,
                    Some(false) => GroupState::Releasing,
                    None => GroupState::Offline,
                },
            };
            Some((name.clone(), now))
        });
        mine.collect()
    }

    fn is_left_running(&self, group: &str, held: &BTreeMap<String, Held>) -> bool {
        held.contains_key(group) && !self.may_end(group)
    }

    /// Writes down each group that the guard let go of.
    pub(super) fn tell_released(
        &self,
        epoch: u64,
        release: (u64, u64),
        reaper: bool,
        left: &[String],
    ) {
        self.tell_stuck(|stuck| stuck.guard = None);
        let why = if reaper {
            "its lease ended while guard and agent stood still, and its reaper released it"
        } else {
            "its lease ended, and its guard released it"
        };
        self.tell_let_go(epoch, why, Some(release), left);
    }

    /// Writes down a group of this node that the guard let go of before this agent was there.
    pub(super) fn tell_missed(&self, epoch: u64, group: &str, token: u64) {
        let known = *lock(&self.last_release);
        let Some((_, release)) = known.filter(|(of, _)| *of == epoch) else { return };
        lock(&self.dropped).insert(group.to_owned(), (token, epoch.saturating_sub(1)));
        let why = match release {
            (0, _) => {
                "guard, agent and reaper had ended without releasing it, so it ran without a lease; the next guard \
                 released it at its start"
            }
            _ => "its lease ended while its agent did not run, and its guard released it",
        };
        self.tell_let_go(epoch, why, Some(release), &[]);
    }

    /// Changes what cannot be let go of, and tells it while it is so.
    pub(super) fn tell_stuck(&self, change: impl FnOnce(&mut Unreleased)) {
        {
            let mut stuck = lock(&self.stuck);
            let before = stuck.clone();
            change(&mut stuck);
            if *stuck == before {
                return;
            }
        }
        self.show_stuck();
        self.let_go.send_modify(|times| *times += 1);
    }

    /// Groups that the lease does not cover any more and that are not seen to be off, with what keeps them;
    /// none while that may be over in a moment.
    pub(super) fn unreleased(
        &self,
        state: &ClusterState,
        epoch: u64,
    ) -> Option<BTreeMap<String, String>> {
        let mut groups = lock(&self.stuck).groups.clone();
        let held = lock(&self.held).clone();
        let earlier = held.iter().filter(|(name, it)| it.epoch != epoch && self.may_end(name));
        let current = self.epoch(state).is_some();
        // What an earlier agent of this node had when its guard gave it up.
        let left = state.groups.iter().filter(|(name, group)| {
            let instance = group.instances.get(&self.me).filter(|_| !current);
            instance.is_some_and(|it| it.is_covered() && !self.is_over(name, it.token))
                && !held.contains_key(*name)
        });
        let stopping: Vec<&String> =
            earlier.map(|(name, _)| name).chain(left.map(|(name, _)| name)).collect();
        let patient = lock(&self.epoch_began).is_none_or(|began| began.elapsed() < PATIENCE);
        if patient && stopping.iter().any(|name| !groups.contains_key(*name)) {
            return None;
        }
        for name in stopping {
            groups.entry(name.clone()).or_insert_with(|| "it is still being stopped".into());
        }
        Some(groups)
    }

    /// Takes over what an earlier agent of this node could not stop: it is over when it is seen to be off.
    pub(super) fn remember_stuck(&self) {
        let told = self.local.standing(Code::ReleaseFailed);
        let told = told.into_iter().filter(|it| matches!(it.subject, Subject::Group(_)));
        lock(&self.stuck).groups.extend(told.map(|it| (it.subject_name, it.cause)));
    }

    /// Whether a group could not be stopped here.
    pub(super) fn is_stuck(&self) -> bool {
        !lock(&self.stuck).groups.is_empty()
    }

    /// What is seen to be off was stopped by somebody, unless its worker is about to see to it.
    pub(super) async fn look_at_stuck(&self) {
        let state = self.state();
        let stuck: Vec<String> = lock(&self.stuck).groups.keys().cloned().collect();
        for name in stuck {
            if self.token_held(&name).is_some() || self.instance(&state, &name).is_some() {
                continue;
            }
            let resources = state.definition.group(&name).map(|def| def.resources.as_slice());
            let mut off = true;
            for def in resources.unwrap_or_default() {
                off = off && self.hands.is_off(&name, &state, def).await;
            }
            if off {
                self.tell_stuck(|stuck| drop(stuck.groups.remove(&name)));
            }
        }
    }

    /// Tells what cannot be let go of; what an earlier run told and is not so any more is over.
    pub(super) fn show_stuck(&self) {
        let mut stuck = lock(&self.stuck).clone();
        for (group, why) in lock(&self.seen_stuck).clone() {
            stuck.groups.entry(group).or_insert(why);
        }
        let node = self.state().node_name(self.me);
        self.local
            .conditions(Code::ReleaseFailed, conditions(&stuck, self.me, &node, &self.state()));
    }

    /// Writes down groups of earlier epochs than that one that this node let go of by itself: those that it
    /// is about to stop, and those with which it was done already. Each instance is told once. `release`: when
    /// the lease had ended and when all was released, where the guard knows it. Of those groups something is `rest`.
    pub(super) fn tell_let_go(
        &self,
        epoch: u64,
        why: &str,
        release: Option<(u64, u64)>,
        rest: &[String],
    ) {
        let at = release.map(|(_, released_us)| Instant::from_micros(released_us));
        let took = |(ended, released): (u64, u64)| released.saturating_sub(ended) / 1_000;
        let duration_ms = release.filter(|(ended_us, _)| *ended_us > 0).map(took);
        // Others wait for no longer than that.
        let limit = self.state().settings.timing.release_max_ms;
        let late = duration_ms.filter(|took| *took > limit).map(|took| {
            format!("{why}; it took {took} ms, so it may have run on two nodes meanwhile")
        });
        let why = late.as_deref().unwrap_or(why);
        let known_here = self.ends_with_the_lease();
        let held = known_here.iter().map(|(name, held)| (name.clone(), (held.token, held.epoch)));
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
            // What an earlier agent held is known by its definition.
            let defined = state.definition.group(name).map(|def| def.resources.clone());
            let defined = defined.map(|resources| Held { token: *token, epoch: *of, resources });
            let left = known_here.get(name).or(defined.as_ref());
            let left = left.map(|held| self.hands.left_to_agent(name, &state, held));
            let (message, cause) = match left.filter(|left| !left.is_empty()) {
                None if rest.contains(name) => {
                    let rest = format!("{why}; not all of it has ended yet");
                    (format!("{node} lets go of {name}"), rest)
                }
                None => (format!("{node} released {name}"), why.to_owned()),
                Some(left) => {
                    let rest = format!("{why}; {} is stopped by its agent now", left.join(", "));
                    (format!("{node} lets go of {name}"), rest)
                }
            };
            let happened = Happened {
                code: Code::GroupReleased,
                subject,
                subject_name: name.clone(),
                message,
                cause,
                severity: Severity::Error,
                duration_ms,
                alert: true,
            };
            self.local.happened_at(at, happened);
        }
    }
}
