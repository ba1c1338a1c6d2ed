//! Acquiring: leave first, then the guard, then the resources in order.

use std::time::Duration;

use super::super::desk::Desk;
use super::super::sequence::{Either, either};
use super::super::values::{Action, Op, Output, Said, Started, Stop};
use super::{Letting, Lines, Worker};
use crate::command::GroupCommand;
use crate::group::{GroupState, ResourceDef, ResourceState};
use crate::time::Instant;
use crate::work;

/// What stands between this node and a group.
enum Decision {
    /// Nothing: this is its token, and the epoch of the guard.
    Open { token: u64, epoch: u64 },
    /// Something that may change.
    Wait(String),
    /// It is not for this node any more: the cluster brings it elsewhere, or leaves it where it is.
    Elsewhere(String),
    /// It is not for this node.
    Closed(String),
}

/// What ends the wait for the cluster's leave.
enum Leave {
    /// It is there.
    Given { token: u64, epoch: u64 },
    /// Something else is to be done, for which the leave may wait: an earlier agent may have left something here.
    Meanwhile(u64, Op),
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
    /// The cluster has taken the leave back: nobody waits for it any more, for that reason.
    TakenBack(&'static str),
    /// It was to be taken up as it is, and nothing of it works any more.
    Gone(String),
}

/// The pause before the guard is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Worker {
    /// Starts the group here, once the cluster lets it. A lease that is lost meanwhile takes back what
    /// was started, and the leave with it; then another one is waited for. A guard that does not agree for the
    /// detection time, because its disk refuses its journal, say, will not: another node can have the group.
    pub(super) async fn acquire(&mut self, lines: Lines) -> Result<Said, Stop> {
        let deadline = {
            let mut desk = self.port.desk();
            desk.begins_to_acquire(&self.group);
            let limit = desk.state().definition.manager.command_timeout_ms;
            // A little less than the script has, so that it is told why instead of being killed.
            desk.now + Duration::from_millis(limit - limit / 10)
        };
        self.undo(lines).await?;
        let mut refused = None;
        loop {
            if let Some(Letting { why, .. }) = &self.letting {
                let what = format!("{} is not let go of here yet: {why}", self.group);
                return Err(Stop::clean(what));
            }
            let (token, epoch) = match self.leave(deadline, lines).await? {
                Leave::Given { token, epoch } => (token, epoch),
                Leave::Meanwhile(ask, op) => {
                    self.follow(op).await;
                    self.answer(ask, Ok(Said::new()));
                    continue;
                }
            };
            let Some(wanted) = self.defined() else {
                return Err(Stop::clean(format!("{} is not configured any more", self.group)));
            };
            if let Some(held) = self.held.clone().filter(|held| held.token == token) {
                return self.change(held, wanted, lines).await;
            }
            let held = Started { token, epoch, resources: wanted };
            // Nothing is held yet, so nothing was lost before.
            self.losses = self.port.desk().lease.losses;
            match self.begin(&held, lines).await {
                Begun::Online => {
                    self.report_state(token, GroupState::Online);
                    self.tell_outside(&held).await;
                    self.reported().await;
                    return Ok(format!("{} is online", self.group));
                }
                Begun::Failed(why) => return Err(self.could_not(held, (why, true), lines).await),
                Begun::TakenBack(why) => {
                    return Err(self.could_not(held, (why.to_owned(), false), lines).await);
                }
                Begun::Gone(why) => {
                    self.is_gone(token, &why).await;
                    return Err(Stop::clean(format!("{}: {why}", self.group)));
                }
                Begun::Lost => {
                    self.tell(lines, format!("{}: the lease was lost", self.group));
                    self.losses = self.port.desk().lease.losses;
                    self.lose("its lease was over").await;
                }
                Begun::Refused(why) => {
                    self.tell(lines, format!("{}: waits: {why}", self.group));
                    self.hold(None).await.ok();
                    let (now, patience) = {
                        let desk = self.port.desk();
                        (desk.now, desk.state().settings.timing.detect())
                    };
                    refused = refused.filter(|(of, _)| *of == token).or(Some((token, now)));
                    let long = refused.is_some_and(|(_, since)| now.since(since) >= patience);
                    if long && !self.is_left_as_it_is() {
                        return Err(self.could_not(held, (why, true), lines).await);
                    }
                    self.port.wait_until(now + ASK_AGAIN).await;
                    if now >= deadline {
                        return Err(Stop::failed(format!("{} is not acquired: {why}", self.group)));
                    }
                }
            }
        }
    }

    /// Tells the guard, and starts everything.
    async fn begin(&mut self, held: &Started, lines: Lines) -> Begun {
        if let Err(why) = self.hold(Some(held.clone())).await {
            return Begun::Refused(why);
        }
        if self.is_left_as_it_is() {
            return self.look_over(held, lines).await.map_or_else(Begun::Gone, |()| Begun::Online);
        }
        // First of all: whether it was lost since.
        let unwanted = self.unwanted(held.token);
        let started = either(unwanted, self.start(held, &held.resources, lines)).await;
        match started {
            Either::Second(Ok(())) => Begun::Online,
            Either::Second(Err(why)) if !self.is_lost() && self.has_lease() => Begun::Failed(why),
            Either::First(Some(why)) if !self.is_lost() && self.has_lease() => {
                Begun::TakenBack(why)
            }
            _ => Begun::Lost,
        }
    }

    /// Waits until the lease is lost, or nobody wants that instance here any more, and says why that is so.
    async fn unwanted(&self, token: u64) -> Option<&'static str> {
        let is_over = |desk: &mut Desk| {
            if desk.lease.losses != self.losses {
                return Some(None);
            }
            let is_it = desk.instance(&self.group).is_some_and(|it| it.token == token);
            if !is_it || !desk.seen.quorate {
                return None;
            }
            let stray = || desk.state().is_stray(&self.group, desk.me);
            desk.why_off(&self.group).or_else(|| stray().then_some("its event is over")).map(Some)
        };
        self.port.wait(is_over).await
    }

    /// Waits for the cluster's leave: an instance here that may be acquired, in a state that knows
    /// of the guard's present epoch, with a lease.
    async fn leave(&self, deadline: Instant, lines: Lines) -> Result<Leave, Stop> {
        let mut told = String::new();
        let Lines(ask) = lines;
        let leave = self.port.wait(|desk| {
            if let Some((ask, op)) = desk.next_chore(&self.group) {
                return Some(Ok(Leave::Meanwhile(ask, op)));
            }
            match self.way(desk) {
                Decision::Open { token, epoch } => return Some(Ok(Leave::Given { token, epoch })),
                Decision::Elsewhere(why) => {
                    desk.pass(&self.group);
                    return Some(Err(Stop::clean(why)));
                }
                Decision::Closed(why) => return Some(Err(Stop::failed(why))),
                Decision::Wait(why) if why != told => {
                    let text = format!("{}: waits: {why}", self.group);
                    self.port.put(Output::Line { ask, text });
                    told = why;
                }
                Decision::Wait(_) => {}
            }
            if desk.asked.forgotten.contains(&ask) {
                return Some(Err(Stop::failed("nobody waits for it any more")));
            }
            let late = || Stop::failed(format!("{} has waited too long: {told}", self.group));
            desk.is_past(deadline).then(|| Err(late()))
        });
        leave.await
    }

    fn way(&self, desk: &Desk) -> Decision {
        let (state, group) = (&desk.seen.state, &self.group);
        if !desk.seen.quorate {
            let lacks =
                if desk.seen.lease == Some(true) { "hears no director" } else { "has no lease" };
            return Decision::Wait(format!("this node {lacks}"));
        }
        let unreleased = desk.guard.as_ref().map(|it| &it.unreleased);
        // What was left running is not to be let go of.
        let unreleased = unreleased.filter(|_| !desk.is_left_as_it_is(group));
        if let Some(why) = unreleased.and_then(|it| it.obstacle(group)) {
            return Decision::Elsewhere(format!("this node {why}"));
        }
        let Some(epoch) = desk.epoch() else {
            return Decision::Wait("the cluster does not know yet how this node's guard is".into());
        };
        match work::admission(state, group, desk.me) {
            work::Admission::Open { token } if desk.is_over(group, token) => {
                Decision::Wait("it was just released".into())
            }
            work::Admission::Open { token } => Decision::Open { token, epoch },
            work::Admission::Wait(why) => Decision::Wait(why),
            work::Admission::Elsewhere(why) => Decision::Elsewhere(why),
            work::Admission::Closed(why) => Decision::Closed(why),
        }
    }

    /// Starts resources in order.
    pub(super) async fn start(
        &self,
        held: &Started,
        resources: &[ResourceDef],
        lines: Lines,
    ) -> Result<(), String> {
        for resource in resources {
            if !self.has_lease() {
                return Err("the lease of this node is over".into());
            }
            let name = &resource.name;
            self.report_resource(held.token, name, ResourceState::Starting, "");
            let began = self.port.desk().now;
            let done = self.act(held, Action::Start, resource).await;
            if let Some((hardware, device)) = done.conflict {
                let (token, resource) = (held.token, name.clone());
                self.report(|group, node| GroupCommand::Conflict {
                    group,
                    node,
                    token,
                    resource,
                    hardware,
                    device,
                });
            }
            let said = done.said;
            if done.failed {
                self.tell(lines, format!("{name}: cannot be started: {said}"));
                self.report_resource(held.token, name, ResourceState::Failed, &said);
                return Err(format!("{name} cannot be started: {said}"));
            }
            let took = self.seconds_since(began);
            self.tell(lines, format!("{name}: online after {took}: {said}"));
            self.report_resource(held.token, name, ResourceState::Online, &said);
        }
        Ok(())
    }

    /// What an attempt of before left here, and could not stop, is stopped first; then another node can have the group.
    async fn undo(&mut self, lines: Lines) -> Result<(), Stop> {
        let left = self.instance().filter(|it| {
            matches!(it.state, GroupState::Error | GroupState::Releasing)
                && !self.port.desk().is_over(&self.group, it.token)
        });
        let held = self.on_hand().filter(|held| left.is_some_and(|it| it.token == held.token));
        let Some(held) = held else { return Ok(()) };
        let why = "what was left of an attempt that failed".to_owned();
        self.tell(lines, format!("{}: stops {why}", self.group));
        Err(self.could_not(held, (why, true), lines).await)
    }

    /// Stops again what was started, so that another node can have the group; this one is avoided from now on, or not.
    async fn could_not(
        &mut self,
        held: Started,
        (why, avoid): (String, bool),
        lines: Lines,
    ) -> Stop {
        let group = self.group.clone();
        match self.stop(&held, &held.resources, lines).await {
            Ok(()) => {
                self.forget(held.token).await;
                self.report_released(held.token, why.clone(), avoid);
                self.reported().await;
                Stop::clean(format!("{group} could not be acquired: {why}"))
            }
            Err(stuck) => {
                self.report_state(held.token, GroupState::Error);
                self.reported().await;
                Stop::failed(format!("{group} could not be acquired: {why}; then {stuck}"))
            }
        }
    }

    /// It is here already: what the configuration no longer has is stopped, what is new started,
    /// everything else is not touched.
    async fn change(
        &mut self,
        held: Started,
        wanted: Vec<ResourceDef>,
        lines: Lines,
    ) -> Result<Said, Stop> {
        let group = self.group.clone();
        if held.resources == wanted {
            self.report_state(held.token, GroupState::Online);
            self.reported().await;
            return Ok(format!("{group} is online here already"));
        }
        let lacks = |all: &[ResourceDef], one: &ResourceDef| {
            !all.iter().any(|it| it.kind == one.kind && it.name == one.name)
        };
        let gone: Vec<_> = held.resources.iter().filter(|it| lacks(&wanted, it)).cloned().collect();
        let new: Vec<_> = wanted.iter().filter(|it| lacks(&held.resources, it)).cloned().collect();
        self.stop(&held, &gone, lines).await.map_err(Stop::failed)?;
        let changed = Started { resources: wanted, ..held };
        self.hold(Some(changed.clone())).await.map_err(Stop::failed)?;
        match self.start(&changed, &new, lines).await {
            Ok(()) => {
                self.report_state(changed.token, GroupState::Online);
                self.tell_outside(&changed).await;
                self.reported().await;
                Ok(format!("{group} is as it is configured now"))
            }
            Err(why) => Err(self.could_not(changed, (why, true), lines).await),
        }
    }

    /// Tells what of it no lease ends, if that is news.
    pub(super) async fn tell_outside(&self, held: &Started) {
        let id = self.port.desk().ask_outside();
        let (group, started) = (self.group.clone(), Box::new(held.clone()));
        self.port.put(Output::LookOutside { id, group, started });
        let outside = self.port.wait(|desk| desk.outside.remove(&id)).await;
        let known = {
            let desk = self.port.desk();
            let group = desk.seen.state.groups.get(&self.group);
            group.and_then(|it| it.outside.get(&desk.me)).cloned().unwrap_or_default()
        };
        if known != outside {
            let (token, resources) = (held.token, outside);
            self.report(|group, node| GroupCommand::Outside { group, node, token, resources });
        }
    }

    /// An earlier agent of this node brought it online: it is watched from now on, and looked at
    /// first.
    pub(super) async fn adopt(&mut self, token: u64) {
        let is_it = self.instance().is_some_and(|instance| instance.token == token);
        let is_it = is_it && self.letting.is_none();
        let Some(epoch) = self.port.desk().epoch().filter(|_| is_it) else { return };
        let Some(resources) = self.started_by() else { return };
        let resources = match self.held.take_if(|held| held.epoch != epoch) {
            Some(earlier) => earlier.resources,
            None if self.held.is_some() => return,
            None => {
                self.note(false, "adopted from an earlier agent".into());
                resources
            }
        };
        if let Err(why) = self.hold(Some(Started { token, epoch, resources })).await {
            self.note(true, format!("it cannot be adopted: {why}"));
        }
    }

    /// The time since then, for people.
    pub(super) fn seconds_since(&self, then: Instant) -> String {
        let took = self.port.desk().now.since(then);
        format!("{}.{:03} s", took.as_secs(), took.subsec_millis())
    }
}
