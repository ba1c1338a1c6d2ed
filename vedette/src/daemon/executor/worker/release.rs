//! Releasing: resources in reverse, then the guard, then the cluster's word that it is over.

use std::collections::BTreeSet;

use tokio::time::Instant;
use vedette_core::group::{GroupState, ResourceDef, ResourceState};

use super::super::Held;
use super::super::answer::{Said, Stop};
use super::super::hands::Context;
use super::acquire::seconds;
use super::{Letting, Lines, STOP_AGAIN, Worker};

impl Worker {
    /// Stops the group here, so that another node can have it.
    pub(super) async fn release(&mut self, lines: &Lines) -> Result<Said, Stop> {
        let Some(held) = self.on_hand() else {
            return Ok(format!("nothing of {} is on this node", self.group));
        };
        self.reporter.progress(held.token, Some(GroupState::Releasing), Vec::new());
        match self.stop(&held, &held.resources, lines).await {
            Ok(()) => {
                self.end(&held, "as planned").await;
                Ok(format!("{} is released", self.group))
            }
            Err(why) => {
                self.reporter.progress(held.token, Some(GroupState::Error), Vec::new());
                self.reported().await;
                Err(Stop::failed(format!("{} cannot be released: {why}", self.group)))
            }
        }
    }

    /// What is held; if an earlier agent held it, as it was started.
    pub(super) fn on_hand(&self) -> Option<Held> {
        if let Some(held) = &self.held {
            return Some(held.clone());
        }
        let instance = self.shared.instance(&self.shared.state(), &self.group)?;
        let token = instance.token;
        if self.shared.is_over(&self.group, token) {
            return None;
        }
        let epoch = self.shared.guard.borrow().as_ref().map_or(0, |facts| facts.epoch);
        Some(Held { token, epoch, resources: self.started_by().unwrap_or_default() })
    }

    /// Nothing of it is active any more.
    async fn end(&mut self, held: &Held, why: &str) {
        self.forget(held.token).await;
        self.reporter.released(held.token, why.to_owned(), false);
        self.reported().await;
    }

    /// An instance that nobody gives leave for any more, as of the state.
    pub(super) async fn clean_up(&mut self, token: u64) {
        if self.shared.is_over(&self.group, token) || self.lets_go_of(token) {
            return;
        }
        if self.on_hand().is_some_and(|held| held.token == token)
            && let Err(stop) = self.release(&Lines(None)).await
        {
            tracing::error!("{}", stop.what);
        }
    }

    /// The lease is over: nothing that it covers may stay.
    pub(super) async fn lose(&mut self, why: &str) {
        let held = self.held.clone().filter(|held| !self.lets_go_of(held.token));
        if let Some(held) = held.filter(|_| self.shared.may_end(&self.group)) {
            self.shared.set_dropped(&self.group, &held);
            self.let_go(held, why).await;
        }
    }

    /// It is another's, or may be: nothing of it may stay, held or not.
    pub(super) async fn give_up(&mut self, token: u64, why: &str) {
        let held = self.on_hand().filter(|held| held.token == token && !self.lets_go_of(token));
        if let Some(held) = held {
            self.let_go(held, why).await;
        }
    }

    /// Whether that is being stopped again and again.
    fn lets_go_of(&self, token: u64) -> bool {
        self.letting.as_ref().is_some_and(|letting| letting.held.token == token)
    }

    /// Stops everything: the guard has taken the addresses away and ended the processes, the rest (a mounted file
    /// system) is up to this. What cannot be stopped is stopped again later, and whoever asks for something else
    /// meanwhile is answered.
    async fn let_go(&mut self, held: Held, why: &str) {
        tracing::warn!(group = self.group, "letting go: {why}");
        self.try_to_let_go(held, why.to_owned()).await;
    }

    /// The next attempt.
    pub(super) async fn try_again(&mut self) {
        if let Some(Letting { held, why, .. }) = &self.letting {
            let (held, why) = (held.clone(), why.clone());
            self.try_to_let_go(held, why).await;
        }
    }

    async fn try_to_let_go(&mut self, held: Held, why: String) {
        if let Err(stuck) = self.stop(&held, &held.resources, &Lines(None)).await {
            self.shared.tell_stuck(|all| {
                // The first reason stays: what is told again with each attempt is news to nobody.
                all.groups.entry(self.group.clone()).or_insert(stuck);
            });
            self.reporter.progress(held.token, Some(GroupState::Error), Vec::new());
            self.letting = Some(Letting { held, why, at: Instant::now() + STOP_AGAIN });
            return;
        }
        self.forget(held.token).await;
        // Without a majority this waits, and nobody waits for it.
        self.reporter.released(held.token, why, false);
    }

    /// Stops what runs here of a group that this node does not have, in reverse.
    pub(super) async fn stop_extra(&self, names: &BTreeSet<String>) {
        let (state, group) = (self.shared.state(), self.group.clone());
        if self.held.is_some() || self.shared.instance(&state, &group).is_some() {
            return;
        }
        let context = Context { group: group.clone(), token: 0, state };
        let extra = self.defined().unwrap_or_default().into_iter().rev();
        let mut failed = Vec::new();
        for resource in extra.filter(|resource| names.contains(&resource.name)) {
            let name = &resource.name;
            tracing::warn!(group, resource = name, "it runs here and should not; it is stopped");
            if let Err(why) = self.shared.hands.stop(&context, &resource).await {
                failed.push(format!("{name} cannot be stopped: {why}"));
            }
        }
        self.shared.tell_stuck(|stuck| match failed.as_slice() {
            [] => drop(stuck.groups.remove(&group)),
            why => drop(stuck.groups.entry(group.clone()).or_insert_with(|| why.join("; "))),
        });
    }

    /// Stops resources in reverse; what cannot be stopped keeps what it stands on.
    pub(super) async fn stop(
        &self,
        held: &Held,
        resources: &[ResourceDef],
        lines: &Lines,
    ) -> Result<(), String> {
        let context = self.context(held);
        for resource in resources.iter().rev() {
            let name = &resource.name;
            // What failed goes on as failed until it is stopped: each attempt would be an alert.
            if !self.lets_go_of(held.token) {
                self.reporter.resource(held.token, name, ResourceState::Stopping, "");
            }
            let began = Instant::now();
            match self.shared.hands.stop(&context, resource).await {
                Ok(detail) => {
                    let took = seconds(began.elapsed());
                    lines.tell(format!("{name}: offline after {took}{}", after_colon(&detail)));
                    self.reporter.resource(held.token, name, ResourceState::Offline, "");
                }
                Err(why) => {
                    lines.tell(format!("{name}: cannot be stopped: {why}"));
                    self.reporter.resource(held.token, name, ResourceState::Failed, &why);
                    return Err(format!("{name} cannot be stopped: {why}"));
                }
            }
        }
        Ok(())
    }
}

fn after_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
