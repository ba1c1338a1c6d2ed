//! Acquiring: leave first, then the guard, then the resources in order.

use std::time::Duration;

use tokio::time::Instant;
use vedette_core::group::{GroupState, ResourceDef, ResourceState};
use vedette_core::view::View;
use vedette_core::work;

use super::super::answer::{Said, Stop};
use super::super::{Held, millis};
use super::{Letting, Lines, Worker};

/// What stands between this node and a group.
enum Way {
    /// Nothing: this is its token, and the epoch of the guard.
    Open { token: u64, epoch: u64 },
    /// Something that may change.
    Wait(String),
    /// It is not for this node any more: the cluster brings it elsewhere, or leaves it where it is.
    Elsewhere(String),
    /// It is not for this node.
    Closed(String),
}

/// What became of an attempt.
enum Begun {
    /// Everything runs.
    Online,
    /// The guard does not hold it: it is in another epoch, or its lease is over.
    Refused(String),
    /// The lease ended meanwhile; what was started has to go.
    Lost,
    /// A resource cannot be started here.
    Failed(String),
    /// It was to be taken up as it is, and nothing of it works any more.
    Gone(String),
}

/// The pause before the guard is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Worker {
    /// Starts the group here, once the cluster lets it. A lease that is lost meanwhile takes back what
    /// was started, and the leave with it; then another one is waited for.
    pub(super) async fn acquire(&mut self, lines: &Lines) -> Result<Said, Stop> {
        let limit = self.shared.state().definition.manager.command_timeout_ms;
        // A little less than the script has, so that it is told why instead of being killed.
        let deadline = Instant::now() + millis(limit - limit / 10);
        self.undo(lines).await?;
        loop {
            if let Some(Letting { why, .. }) = &self.letting {
                let what = format!("{} is not let go of here yet: {why}", self.group);
                return Err(Stop::clean(what));
            }
            let (token, epoch) = self.leave(deadline, lines).await?;
            let Some(wanted) = self.defined() else {
                return Err(Stop::clean(format!("{} is not configured any more", self.group)));
            };
            if let Some(held) = self.held.clone().filter(|held| held.token == token) {
                return self.change(held, wanted, lines).await;
            }
            let held = Held { token, epoch, resources: wanted };
            // Nothing is held yet, so nothing was lost before.
            self.losses = self.shared.lease.borrow().losses;
            match self.begin(&held, lines).await {
                Begun::Online => {
                    self.reporter.progress(token, Some(GroupState::Online), Vec::new());
                    self.tell_outside(&held);
                    self.reported().await;
                    return Ok(format!("{} is online", self.group));
                }
                Begun::Failed(why) => return Err(self.could_not(held, why, lines).await),
                Begun::Gone(why) => {
                    self.is_gone(token, &why).await;
                    return Err(Stop::clean(format!("{}: {why}", self.group)));
                }
                Begun::Lost => {
                    lines.tell(format!("{}: the lease was lost", self.group));
                    self.losses = self.shared.lease.borrow().losses;
                    self.lose("its lease was over").await;
                }
                Begun::Refused(why) => {
                    lines.tell(format!("{}: waits: {why}", self.group));
                    self.hold(None).await.ok();
                    tokio::time::sleep(ASK_AGAIN).await;
                    if Instant::now() >= deadline {
                        return Err(Stop::failed(format!("{} is not acquired: {why}", self.group)));
                    }
                }
            }
        }
    }

    /// Tells the guard, and starts everything.
    async fn begin(&mut self, held: &Held, lines: &Lines) -> Begun {
        if let Err(why) = self.hold(Some(held.clone())).await {
            return Begun::Refused(why);
        }
        if self.is_left_as_it_is() {
            return self.look_over(held, lines).await.map_or_else(Begun::Gone, |()| Begun::Online);
        }
        let started = tokio::select! {
            started = self.start(held, &held.resources, lines) => started,
            () = self.lost() => return Begun::Lost,
        };
        match started {
            Ok(()) => Begun::Online,
            Err(_) if self.is_lost() || !self.shared.has_lease() => Begun::Lost,
            Err(why) => Begun::Failed(why),
        }
    }

    /// Waits for the cluster's leave: an instance here that may be acquired, in a state that knows
    /// of the guard's present epoch, with a lease.
    async fn leave(&self, deadline: Instant, lines: &Lines) -> Result<(u64, u64), Stop> {
        let mut views = self.shared.publisher.views();
        let mut guard = self.shared.guard.subscribe();
        let mut told = String::new();
        loop {
            let view = views.borrow_and_update().clone();
            guard.borrow_and_update();
            let why = match self.way(&view) {
                Way::Open { token, epoch } => return Ok((token, epoch)),
                Way::Elsewhere(why) => return Err(Stop::clean(why)),
                Way::Closed(why) => return Err(Stop::failed(why)),
                Way::Wait(why) => why,
            };
            if why != told {
                lines.tell(format!("{}: waits: {why}", self.group));
                told = why;
            }
            let changed = async {
                tokio::select! {
                    changed = views.changed() => changed.is_ok(),
                    changed = guard.changed() => changed.is_ok(),
                    // The script that asked is gone.
                    () = lines.closed() => false,
                }
            };
            match tokio::time::timeout_at(deadline, changed).await {
                Ok(true) => {}
                Ok(false) => return Err(Stop::failed("nobody waits for it any more")),
                Err(_) => {
                    return Err(Stop::failed(format!(
                        "{} has waited too long: {told}",
                        self.group
                    )));
                }
            }
        }
    }

    fn way(&self, view: &View) -> Way {
        let (state, group) = (&view.state, &self.group);
        if !view.local.quorate {
            let lacks = if view.local.lease { "hears no director" } else { "has no lease" };
            return Way::Wait(format!("this node {lacks}"));
        }
        let unreleased = self.shared.guard.borrow().as_ref().map(|it| it.unreleased.clone());
        // What was left running is not to be let go of.
        let unreleased = unreleased.filter(|_| !self.is_left_as_it_is());
        if let Some(why) = unreleased.and_then(|it| it.obstacle(group)) {
            return Way::Elsewhere(format!("this node {why}"));
        }
        let Some(epoch) = self.shared.epoch(state) else {
            return Way::Wait("the cluster does not know yet how this node's guard is".into());
        };
        match work::way(state, group, self.shared.me) {
            work::Way::Open { token } if self.shared.is_over(group, token) => {
                Way::Wait("it was just released".into())
            }
            work::Way::Open { token } => Way::Open { token, epoch },
            work::Way::Wait(why) => Way::Wait(why),
            work::Way::Elsewhere(why) => Way::Elsewhere(why),
            work::Way::Closed(why) => Way::Closed(why),
        }
    }

    /// Starts resources in order.
    pub(super) async fn start(
        &self,
        held: &Held,
        resources: &[ResourceDef],
        lines: &Lines,
    ) -> Result<(), String> {
        let context = self.context(held);
        for resource in resources {
            if !self.shared.has_lease() {
                return Err("the lease of this node is over".into());
            }
            let name = &resource.name;
            self.reporter.resource(held.token, name, ResourceState::Starting, "");
            let began = Instant::now();
            let started = self.shared.hands.start(&context, resource).await;
            if let Some(conflict) = self.shared.hands.conflict(resource) {
                self.reporter.conflict(held.token, name, conflict);
            }
            match started {
                Ok(detail) => {
                    let took = seconds(began.elapsed());
                    lines.tell(format!("{name}: online after {took}: {detail}"));
                    self.reporter.resource(held.token, name, ResourceState::Online, &detail);
                }
                Err(why) => {
                    lines.tell(format!("{name}: cannot be started: {why}"));
                    self.reporter.resource(held.token, name, ResourceState::Failed, &why);
                    return Err(format!("{name} cannot be started: {why}"));
                }
            }
        }
        Ok(())
    }

    /// What an attempt of before left here, and could not stop, is stopped first; then another node can have the group.
    async fn undo(&mut self, lines: &Lines) -> Result<(), Stop> {
        let (group, state) = (self.group.clone(), self.shared.state());
        let instance = self.shared.instance(&state, &group);
        let left = instance.filter(|it| {
            matches!(it.state, GroupState::Error | GroupState::Releasing)
                && !self.shared.is_over(&group, it.token)
        });
        let held = self.on_hand().filter(|held| left.is_some_and(|it| it.token == held.token));
        let Some(held) = held else { return Ok(()) };
        let why = "what was left of an attempt that failed".to_owned();
        lines.tell(format!("{group}: stops {why}"));
        Err(self.could_not(held, why, lines).await)
    }

    /// What was started is stopped again, so that another node can have the group.
    async fn could_not(&mut self, held: Held, why: String, lines: &Lines) -> Stop {
        let group = self.group.clone();
        match self.stop(&held, &held.resources, lines).await {
            Ok(()) => {
                self.forget(held.token).await;
                self.reporter.released(held.token, why.clone(), true);
                self.reported().await;
                Stop::clean(format!("{group} could not be acquired: {why}"))
            }
            Err(stuck) => {
                self.reporter.progress(held.token, Some(GroupState::Error), Vec::new());
                self.reported().await;
                Stop::failed(format!("{group} could not be acquired: {why}; then {stuck}"))
            }
        }
    }

    /// It is here already: what the configuration no longer has is stopped, what is new started,
    /// everything else is not touched.
    async fn change(
        &mut self,
        held: Held,
        wanted: Vec<ResourceDef>,
        lines: &Lines,
    ) -> Result<Said, Stop> {
        let group = self.group.clone();
        if held.resources == wanted {
            self.reporter.progress(held.token, Some(GroupState::Online), Vec::new());
            self.reported().await;
            return Ok(format!("{group} is online here already"));
        }
        let lacks = |all: &[ResourceDef], one: &ResourceDef| {
            !all.iter().any(|it| it.kind == one.kind && it.name == one.name)
        };
        let gone: Vec<_> = held.resources.iter().filter(|it| lacks(&wanted, it)).cloned().collect();
        let new: Vec<_> = wanted.iter().filter(|it| lacks(&held.resources, it)).cloned().collect();
        self.stop(&held, &gone, lines).await.map_err(Stop::failed)?;
        let changed = Held { resources: wanted, ..held };
        self.hold(Some(changed.clone())).await.map_err(Stop::failed)?;
        match self.start(&changed, &new, lines).await {
            Ok(()) => {
                self.reporter.progress(changed.token, Some(GroupState::Online), Vec::new());
                self.tell_outside(&changed);
                self.reported().await;
                Ok(format!("{group} is as it is configured now"))
            }
            Err(why) => Err(self.could_not(changed, why, lines).await),
        }
    }

    /// Tells what of it no lease ends, if that is news.
    pub(super) fn tell_outside(&self, held: &Held) {
        let (state, group) = (self.shared.state(), &self.group);
        let outside = self.shared.hands.outside(group, &state, held);
        let known = state.groups.get(group).and_then(|it| it.outside.get(&self.shared.me));
        if known.cloned().unwrap_or_default() != outside {
            self.reporter.outside(held.token, outside);
        }
    }

    /// An earlier agent of this node brought it online: it is watched from now on, and looked at
    /// first.
    pub(super) async fn adopt(&mut self, token: u64) {
        let state = self.shared.state();
        let instance = self.shared.instance(&state, &self.group);
        let is_it = instance.is_some_and(|instance| instance.token == token);
        let is_it = is_it && self.letting.is_none();
        let Some(epoch) = self.shared.epoch(&state).filter(|_| is_it) else { return };
        let Some(resources) = self.started_by() else { return };
        let resources = match self.held.take_if(|held| held.epoch != epoch) {
            Some(earlier) => earlier.resources,
            None if self.held.is_some() => return,
            None => {
                tracing::info!(group = self.group, "adopted from an earlier agent");
                resources
            }
        };
        if let Err(why) = self.hold(Some(Held { token, epoch, resources })).await {
            tracing::error!(group = self.group, "cannot be adopted: {why}");
        }
    }

    /// Keeps what is held, here and in the guard.
    pub(super) async fn hold(&mut self, held: Option<Held>) -> Result<(), String> {
        self.given_up.clear();
        self.failing.clear();
        self.looked.clear();
        self.held.clone_from(&held);
        let state = self.shared.state();
        match held {
            Some(_) => self.shared.hands.make_place(&self.group, &state),
            None => self.shared.hands.remove_place(&self.group, &state),
        }
        self.shared.hold(&self.group, held).await
    }

    /// Nothing of it is here any more.
    pub(super) async fn forget(&mut self, token: u64) {
        self.shared.set_over(&self.group, token);
        if self.letting.take_if(|letting| letting.held.token == token).is_some() {
            self.shared.tell_stuck(|stuck| {
                stuck.groups.remove(&self.group);
            });
        }
        // A guard that does not answer holds too much, which harms nobody.
        if let Err(why) = self.hold(None).await {
            tracing::warn!(
                group = self.group,
                "the guard does not know that it is released: {why}"
            );
        }
    }
}

/// A duration for people.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}.{:03} s", duration.as_secs(), duration.subsec_millis())
}
