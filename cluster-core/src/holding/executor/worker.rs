//! One group on this node: acquires, releases and watches it, one thing at a time.
//!
//! What is held is watched: every resource at its interval, all of them side by side. A look is given
//! up when something is to be done, and begun anew afterwards. A lease that is lost interrupts whatever
//! is going on; from then on there is one aim, which is to let go.

mod acquire;
mod left;
mod release;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::desk::Desk;
use super::sequence::Port;
use super::values::{Action, Done, Op, Output, Said, Started, Stop, Verb};
use crate::command::GroupCommand;
use crate::group::{GroupState, Instance, ResourceDef, ResourceState, ResourceStatus};
use crate::id::NodeNumber;
use crate::time::Instant;
use crate::tolerance::Looks;
use watch::{Look, Watching};

/// The pause before something that has to be stopped is stopped again.
const STOP_AGAIN: Duration = Duration::from_secs(3);

/// The worker of one group.
pub(super) struct Worker {
    group: String,
    port: Port,
    held: Option<Started>,
    /// Resources whose failure was reported and is not this node's to mend any more.
    given_up: BTreeSet<String>,
    /// Resources that were last seen failed.
    failing: BTreeSet<String>,
    /// The latest looks at each resource.
    looked: BTreeMap<String, Looks>,
    /// Losses of the lease that were dealt with.
    losses: u64,
    /// What is held and has to go, and could not be stopped so far.
    letting: Option<Letting>,
    /// An instance that is to be cleaned up as soon as what is held of an earlier one is gone.
    behind: Option<u64>,
}

/// Something that is stopped again and again, beside whatever else is asked.
struct Letting {
    held: Started,
    why: String,
    /// The next attempt.
    at: Instant,
}

/// Whatever a worker does next.
enum Next {
    Lost,
    Op(u64, Op),
    Look(Box<Look>),
    Again,
}

/// Where a worker tells what it does, for the output of a script. Nobody is waited for.
#[derive(Clone, Copy)]
struct Lines(u64);

/// Nobody reads them but the log.
const UNASKED: Lines = Lines(0);

impl Worker {
    pub(super) fn new(group: String, port: Port) -> Self {
        let losses = port.desk().lease.losses;
        Self {
            group,
            port,
            held: None,
            given_up: BTreeSet::new(),
            failing: BTreeSet::new(),
            looked: BTreeMap::new(),
            losses,
            letting: None,
            behind: None,
        }
    }

    /// Works for ever.
    pub(super) async fn run(mut self) {
        let mut looks = Watching::default();
        loop {
            match self.next(&mut looks).await {
                Next::Lost => {
                    looks.clear();
                    self.losses = self.port.desk().lease.losses;
                    self.lose("its lease was over").await;
                    looks = self.looks();
                }
                // What is watched is watched meanwhile: nothing of it changes.
                Next::Op(ask, op) if op.changes_nothing() => self.operate(ask, op).await,
                Next::Op(ask, op) => {
                    looks.clear();
                    self.operate(ask, op).await;
                    looks = self.looks();
                }
                Next::Look(look) => {
                    if self.seen(*look).await {
                        looks = self.looks();
                    }
                }
                Next::Again => self.try_again().await,
            }
            self.clean_up_behind().await;
        }
    }

    async fn next(&self, looks: &mut Watching) -> Next {
        let again = self.letting.as_ref().map(|letting| letting.at);
        let next = self.port.wait(|desk| {
            if desk.lease.losses != self.losses {
                return Some(Next::Lost);
            }
            if let Some((ask, op)) = desk.next_op(&self.group) {
                return Some(Next::Op(ask, op));
            }
            if again.is_some_and(|at| desk.is_past(at)) {
                return Some(Next::Again);
            }
            looks.next(&self.port, desk, &self.group).map(|look| Next::Look(Box::new(look)))
        });
        next.await
    }

    async fn operate(&mut self, ask: u64, op: Op) {
        let lines = Lines(ask);
        let said = match op {
            Op::Perform(Verb::Acquire) => self.acquire(lines).await,
            Op::Perform(Verb::Release) => self.release(lines).await,
            Op::Perform(Verb::Status | Verb::Swap) => Ok(self.status()),
            other => {
                self.follow(other).await;
                Ok(Said::new())
            }
        };
        self.answer(ask, said);
    }

    async fn follow(&mut self, op: Op) {
        match op {
            Op::CleanUp { token } => self.clean_up(token).await,
            Op::Adopt { token } => self.adopt(token).await,
            Op::TakeUp { token } => self.take_up(token).await,
            Op::Leave { token } => self.leave_running(token).await,
            Op::Drop { token, why } => self.give_up(token, &why).await,
            Op::StopExtra { resources } => self.stop_extra(&resources).await,
            Op::Announce => self.announce(),
            Op::Settle => self.settle().await,
            Op::Perform(_) => {}
        }
    }

    /// The group's resources, as they are configured now.
    fn defined(&self) -> Option<Vec<ResourceDef>> {
        let desk = self.port.desk();
        desk.state().definition.group(&self.group).map(|group| group.resources.clone())
    }

    /// The resources by which what runs here was started: those of before, if they were changed and it was not released
    /// since.
    fn started_by(&self) -> Option<Vec<ResourceDef>> {
        let state = self.port.desk().state();
        let retired = state.groups.get(&self.group).and_then(|group| group.retired.as_ref());
        let def = retired.or_else(|| state.definition.group(&self.group));
        def.map(|group| group.resources.clone())
    }

    /// The instance here, as of the state.
    fn instance(&self) -> Option<Instance> {
        self.port.desk().instance(&self.group).cloned()
    }

    fn status(&self) -> Said {
        let group = &self.group;
        let Some(instance) = self.instance() else {
            return format!("{group}: OFFLINE on this node");
        };
        let resource = |(name, status): (&String, &ResourceStatus)| {
            format!("\n{name}: {} {}", status.state, status.detail)
        };
        let resources: String = instance.resources.iter().map(resource).collect();
        format!("{group}: {} on this node, token {}{resources}", instance.state, instance.token)
    }

    /// Waits until the lease is lost.
    async fn lost(&self) {
        self.port.wait(|desk| (desk.lease.losses != self.losses).then_some(())).await;
    }

    /// Whether it was lost since it was last dealt with.
    fn is_lost(&self) -> bool {
        self.port.desk().lease.losses != self.losses
    }

    /// Whether the lease lasts; asked before each step of an acquisition.
    fn has_lease(&self) -> bool {
        self.port.desk().has_lease()
    }

    /// Waits until what was reported is decided; without a lease that may take long, and there is
    /// something else to do then.
    async fn reported(&self) {
        let last = self.port.desk().last_report(&self.group);
        let decided = |desk: &mut Desk| {
            let over = desk.is_decided(&self.group, last) || desk.lease.losses != self.losses;
            over.then_some(())
        };
        self.port.wait(decided).await;
    }

    /// What is held and may stay.
    fn kept(&self) -> Option<&Started> {
        self.held.as_ref().filter(|_| self.letting.is_none())
    }

    /// Announces the addresses again.
    fn announce(&self) {
        let resources = self.kept().into_iter().flat_map(|held| &held.resources);
        for resource in resources {
            self.port.put(Output::Announce(Box::new(resource.clone())));
        }
    }

    /// Moves addresses off an adapter without a link.
    async fn settle(&self) {
        self.port.desk().settling.remove(&self.group);
        let Some(held) = self.kept() else { return };
        for resource in &held.resources {
            if !self.has_lease() {
                return;
            }
            let name = &resource.name;
            let done = self.act(held, Action::Settle, resource).await;
            if done.failed {
                self.note(true, format!("the address {name} stays: {}", done.said));
            } else if !done.said.is_empty() {
                self.note(false, format!("the address {name} is {}", done.said));
                self.report_resource(held.token, name, ResourceState::Online, &done.said);
            }
        }
    }

    async fn act(&self, held: &Started, action: Action, resource: &ResourceDef) -> Done {
        let resource = self.port.desk().timed(&self.group, resource);
        self.port.act((&self.group, held.token), action, &resource).await
    }

    /// Keeps what is held, here and in the guard.
    async fn hold(&mut self, held: Option<Started>) -> Result<(), String> {
        self.given_up.clear();
        self.failing.clear();
        self.looked.clear();
        self.held.clone_from(&held);
        let group = self.group.clone();
        self.port.put(match held {
            Some(_) => Output::MakePlace(group),
            None => Output::RemovePlace(group),
        });
        self.port.hold(&self.group, held).await
    }

    /// Nothing of it is here any more.
    async fn forget(&mut self, token: u64) {
        self.port.desk().set_over(&self.group, token);
        if self.letting.take_if(|letting| letting.held.token == token).is_some() {
            self.port.change_stuck(|stuck| {
                stuck.remove(&self.group);
            });
        }
        // A guard that does not answer holds too much, which harms nobody.
        if let Err(why) = self.hold(None).await {
            self.note(false, format!("the guard does not know that it is released: {why}"));
        }
    }

    /// A line for the log.
    fn note(&self, error: bool, text: String) {
        self.port.put(Output::Note { group: self.group.clone(), text, error });
    }

    fn tell(&self, Lines(ask): Lines, text: String) {
        self.port.put(Output::Line { ask, text });
    }

    fn answer(&self, ask: u64, said: Result<Said, Stop>) {
        self.port.desk().asked.forgotten.remove(&ask);
        if ask > 0 {
            self.port.put(Output::Answer { ask, said });
        } else if let Err(stop) = said {
            self.note(true, stop.what);
        }
    }

    fn report(&self, command: impl FnOnce(String, NodeNumber) -> GroupCommand) {
        let (number, me) = {
            let mut desk = self.port.desk();
            (desk.next_report(&self.group), desk.me)
        };
        let group = self.group.clone();
        let command = Box::new(command(group.clone(), me));
        self.port.put(Output::Report { group, number, command });
    }

    /// The state of the instance changed.
    fn report_state(&self, token: u64, state: GroupState) {
        let (state, resources) = (Some(state), Vec::new());
        self.report(|group, node| GroupCommand::Progress { group, node, token, state, resources });
    }

    /// One resource changed its state.
    fn report_resource(&self, token: u64, name: &str, state: ResourceState, detail: &str) {
        let (resources, state) = (vec![(name.to_owned(), state, detail.to_owned())], None);
        self.report(|group, node| GroupCommand::Progress { group, node, token, state, resources });
    }

    /// Nothing of it is active here any more.
    fn report_released(&self, token: u64, why: String, avoid: bool) {
        self.report(|group, node| GroupCommand::Released { group, node, token, why, avoid });
    }
}

impl Port {
    /// Keeps in mind what is held, and tells the guard.
    async fn hold(&self, group: &str, held: Option<Started>) -> Result<(), String> {
        {
            let mut desk = self.desk();
            match held.clone() {
                Some(held) => drop(desk.held.insert(group.to_owned(), held)),
                None => drop(desk.held.remove(group)),
            }
            desk.news += 1;
        }
        match held {
            Some(held) => self.tell(Some(&held)).await,
            None => self.tell_less().await,
        }
    }

    /// Changes what cannot be let go of, and has it told while it is so.
    pub(super) fn change_stuck(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        {
            let mut desk = self.desk();
            let before = desk.stuck.groups.clone();
            change(&mut desk.stuck.groups);
            if desk.stuck.groups == before {
                return;
            }
            desk.news += 1;
        }
        self.put(Output::Stuck);
    }
}
