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
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use vedette_core::group::{ResourceDef, ResourceState};
use vedette_core::tolerance::Looks;

use super::answer::{Said, Stop, Verb};
use super::reporter::Reporter;
use super::{Held, Op, Shared};
use watch::Watching;

/// The pause before something that has to be stopped is stopped again.
const STOP_AGAIN: Duration = Duration::from_secs(3);

/// The worker of one group.
pub(super) struct Worker {
    group: String,
    shared: Arc<Shared>,
    reporter: Reporter,
    held: Option<Held>,
    /// Resources whose failure was reported and is not this node's to mend any more.
    given_up: BTreeSet<String>,
    /// Resources that were last seen failed.
    failing: BTreeSet<String>,
    /// The latest looks at each resource.
    looked: BTreeMap<String, Looks>,
    /// The resource that was looked at last.
    seen_last: Option<String>,
    /// Losses of the lease that were dealt with.
    losses: u64,
    /// What is held and has to go, and could not be stopped so far.
    letting: Option<Letting>,
}

/// Something that is stopped again and again, beside whatever else is asked.
struct Letting {
    held: Held,
    why: String,
    /// The next attempt.
    at: Instant,
}

/// Where a worker tells what it does, for the output of a script. Nobody is waited for.
#[derive(Clone)]
pub(super) struct Lines(Option<mpsc::Sender<String>>);

impl Lines {
    fn tell(&self, line: String) {
        tracing::info!("{line}");
        if let Some(lines) = &self.0 {
            let _ = lines.try_send(line);
        }
    }

    /// Ends when nobody reads them any more.
    async fn closed(&self) {
        match &self.0 {
            Some(lines) => lines.closed().await,
            None => std::future::pending().await,
        }
    }
}

/// Until a moment; without one for ever.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Worker {
    pub(super) fn new(group: String, shared: Arc<Shared>) -> Self {
        let reporter = Reporter::start(group.clone(), shared.me, shared.proposer.clone());
        let losses = shared.lease.borrow().losses;
        let (given_up, failing) = (BTreeSet::new(), BTreeSet::new());
        let (looked, seen_last) = (BTreeMap::new(), None);
        let (held, letting) = (None, None);
        Self {
            group,
            shared,
            reporter,
            held,
            given_up,
            failing,
            looked,
            seen_last,
            losses,
            letting,
        }
    }

    /// Works until nobody asks any more.
    pub(super) async fn run(mut self, mut ops: mpsc::Receiver<Op>) {
        let mut lease = self.shared.lease.subscribe();
        let mut looks = Watching::new();
        loop {
            let again = self.letting.as_ref().map(|letting| letting.at);
            let losses = lease.borrow_and_update().losses;
            if losses != self.losses {
                looks.clear();
                self.losses = losses;
                self.lose("its lease was over").await;
            }
            tokio::select! {
                op = ops.recv() => {
                    let Some(op) = op else { return };
                    if let Op::Settle = op {
                        self.settle().await;
                        continue;
                    }
                    looks.clear();
                    self.operate(op).await;
                    looks = self.looks();
                }
                Some(look) = looks.next(), if !looks.is_empty() => {
                    if self.seen(look).await {
                        looks = self.looks();
                    } else {
                        looks.extend(self.look_again());
                    }
                }
                () = sleep_until(again), if again.is_some() => self.try_again().await,
                changed = lease.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn operate(&mut self, op: Op) {
        match op {
            Op::Perform { verb, lines, answer } => {
                let said = self.perform(verb, &Lines(Some(lines))).await;
                let _ = answer.send(said);
            }
            Op::CleanUp { token, done } => {
                self.clean_up(token).await;
                let _ = done.send(());
            }
            Op::Adopt { token } => self.adopt(token).await,
            Op::TakeUp { token } => self.take_up(token).await,
            Op::Leave { token } => self.leave_running(token).await,
            Op::Drop { token, why } => self.give_up(token, &why).await,
            Op::StopExtra { resources, done } => {
                self.stop_extra(&resources).await;
                let _ = done.send(());
            }
            Op::Announce => self.announce().await,
            Op::Settle => {}
        }
    }

    async fn perform(&mut self, verb: Verb, lines: &Lines) -> Result<Said, Stop> {
        match verb {
            Verb::Acquire => self.acquire(lines).await,
            Verb::Release => self.release(lines).await,
            Verb::Status | Verb::Swap => Ok(self.status()),
        }
    }

    /// The group's resources, as they are configured now.
    fn defined(&self) -> Option<Vec<ResourceDef>> {
        let state = self.shared.state();
        state.definition.group(&self.group).map(|group| group.resources.clone())
    }

    /// The resources by which what runs here was started: those of before, if they were changed and it was not released
    /// since.
    fn started_by(&self) -> Option<Vec<ResourceDef>> {
        let state = self.shared.state();
        let retired = state.groups.get(&self.group).and_then(|group| group.retired.as_ref());
        let def = retired.or_else(|| state.definition.group(&self.group));
        def.map(|group| group.resources.clone())
    }

    fn status(&self) -> Said {
        let (state, group) = (self.shared.state(), &self.group);
        let Some(instance) = self.shared.instance(&state, group) else {
            return format!("{group}: OFFLINE on this node");
        };
        let resource = |(name, status): (&String, &vedette_core::group::ResourceStatus)| {
            format!("\n{name}: {} {}", status.state, status.detail)
        };
        let resources: String = instance.resources.iter().map(resource).collect();
        format!("{group}: {} on this node, token {}{resources}", instance.state, instance.token)
    }

    /// Waits until the lease is lost.
    async fn lost(&self) {
        let mut lease = self.shared.lease.subscribe();
        let _ = lease.wait_for(|lease| lease.losses != self.losses).await;
    }

    /// Whether it was lost since it was last dealt with.
    fn is_lost(&self) -> bool {
        self.shared.lease.borrow().losses != self.losses
    }

    /// Waits until what was reported is decided; without a lease that may take long, and there is
    /// something else to do then.
    async fn reported(&self) {
        tokio::select! {
            () = self.reporter.flush() => {}
            () = self.lost() => {}
        }
    }

    /// What is held and may stay.
    fn kept(&self) -> Option<&Held> {
        self.held.as_ref().filter(|_| self.letting.is_none())
    }

    /// Announces the addresses again.
    async fn announce(&self) {
        let Some(held) = self.kept() else { return };
        for resource in &held.resources {
            self.shared.hands.announce(&self.shared.state(), resource).await;
        }
    }

    /// Moves addresses off an adapter without a link. What is watched is watched meanwhile.
    async fn settle(&self) {
        super::lock(&self.shared.settling).remove(&self.group);
        let Some(held) = self.kept() else { return };
        let state = self.shared.state();
        for resource in held.resources.iter().filter(|_| self.shared.has_lease()) {
            let (group, name) = (&self.group, &resource.name);
            match self.shared.hands.settle(&state, resource).await {
                Ok(None) => {}
                Ok(Some(detail)) => {
                    tracing::warn!(group, resource = name, "its address is {detail}");
                    self.reporter.resource(held.token, name, ResourceState::Online, &detail);
                }
                Err(why) => tracing::error!(group, resource = name, "its address stays: {why}"),
            }
        }
    }

    fn context(&self, held: &Held) -> super::hands::Context {
        super::hands::Context {
            group: self.group.clone(),
            token: held.token,
            state: self.shared.state(),
        }
    }
}
