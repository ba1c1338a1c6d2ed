//! The groups of this node as they are on this machine now, for those who look while the cluster cannot be
//! asked; and what the node lets go of by itself, told at once.

use std::sync::Arc;

use vedette_core::holding::executor::{Input, Started};
use vedette_core::id::NodeNumber;
use vedette_core::local::{Condition, Happened};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::takeover::Unreleased;
use vedette_core::time::Instant;

use super::{Shared, lock};

/// Has the machine see each view, and keeps the view's own groups up to date, and whether the state can be of now for
/// this node.
pub(super) async fn show(shared: Arc<Shared>) {
    let mut views = shared.publisher.views();
    let mut news = shared.news.subscribe();
    loop {
        views.borrow_and_update();
        news.borrow_and_update();
        let (groups, presented) = shared.desk(|desk| (desk.own_groups(), desk.epoch().is_some()));
        shared.publisher.update_local(|local| {
            local.presented = presented;
            if *local.groups != groups {
                local.groups = Arc::new(groups);
            }
        });
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = news.changed() => if changed.is_err() { return },
        }
    }
}

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
    /// Writes down each group that the guard let go of.
    pub(super) fn tell_released(
        &self,
        epoch: u64,
        release: (u64, u64),
        reaper: bool,
        left: &[String],
    ) {
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
        self.desk(|desk| desk.remember_dropped(group, token, epoch.saturating_sub(1)));
        let why = match release {
            (0, _) => {
                "guard, agent and reaper had ended without releasing it, so it ran without a lease; the next guard \
                 released it at its start"
            }
            _ => "its lease ended while its agent did not run, and its guard released it",
        };
        self.tell_let_go(epoch, why, Some(release), &[]);
    }

    /// Takes over what an earlier agent of this node could not stop: it is over when it is seen to be off.
    pub(super) fn remember_stuck(&self) {
        let told = self.local.standing(Code::ReleaseFailed);
        let told = told.into_iter().filter(|it| matches!(it.subject, Subject::Group(_)));
        self.desk(|desk| desk.remember_stuck(told.map(|it| (it.subject_name, it.cause))));
    }

    /// Whether a group could not be stopped here.
    pub(super) fn is_stuck(&self) -> bool {
        self.desk(|desk| !desk.stuck().groups.is_empty())
    }

    /// What is seen to be off was stopped by somebody, unless its worker is about to see to it.
    pub(super) async fn look_at_stuck(&self) {
        let state = self.state();
        for name in self.desk(|desk| desk.stuck_and_left()) {
            let resources = state.definition.group(&name).map(|def| def.resources.as_slice());
            let mut off = true;
            for def in resources.unwrap_or_default() {
                off = off && self.ops.is_off(&name, &state, def).await;
            }
            if off {
                self.act(Input::SeenOff { group: name });
            }
        }
    }

    /// Tells what cannot be let go of; what an earlier run told and is not so any more is over.
    pub(super) fn show_stuck(&self) {
        let stuck = self.desk(|desk| desk.all_stuck());
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
        let (known_here, mut gone) =
            self.desk(|desk| (desk.ends_with_the_lease(), desk.take_dropped()));
        let held = known_here.iter().map(|(name, held)| (name.clone(), (held.token, held.epoch)));
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
            let defined = defined.map(|resources| Started { token: *token, epoch: *of, resources });
            let left = known_here.get(name).or(defined.as_ref());
            let left = left.map(|held| self.ops.left_to_agent(name, &state, held));
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
