//! Releasing: resources in reverse, then the guard, then the cluster's word that it is over.

use std::collections::BTreeSet;

use super::super::values::{Action, Mistake, Said, Started, Stop};
use super::{Letting, Lines, STOP_AGAIN, UNASKED, Worker};
use crate::group::{GroupState, ResourceDef, ResourceState};

impl Worker {
    /// Stops the group here, so that another node can have it.
    pub(super) async fn release(&mut self, lines: Lines) -> Result<Said, Stop> {
        let Some(held) = self.on_hand() else {
            return Ok(format!("nothing of {} is on this node", self.group));
        };
        self.report_state(held.token, GroupState::Releasing);
        match self.stop(&held, &held.resources, lines).await {
            Ok(()) => {
                self.end(&held, "as planned").await;
                Ok(format!("{} is released", self.group))
            }
            Err(why) => {
                self.report_state(held.token, GroupState::Error);
                self.reported().await;
                Err(Stop::failed(format!("{} cannot be released: {why}", self.group)))
            }
        }
    }

    /// What is held; if an earlier agent held it, as it was started.
    pub(super) fn on_hand(&self) -> Option<Started> {
        if let Some(held) = &self.held {
            return Some(held.clone());
        }
        let token = self.instance()?.token;
        let (over, epoch) = {
            let desk = self.port.desk();
            (desk.is_over(&self.group, token), desk.guards_epoch())
        };
        let resources = self.started_by().unwrap_or_default();
        (!over).then_some(Started { token, epoch, resources })
    }

    /// Nothing of it is active any more.
    async fn end(&mut self, held: &Started, why: &str) {
        self.forget(held.token).await;
        self.report_released(held.token, why.to_owned(), false);
        self.reported().await;
    }

    /// An instance that nobody gives leave for any more, as of the state.
    pub(super) async fn clean_up(&mut self, token: u64) {
        if self.port.desk().is_over(&self.group, token) || self.lets_go_of(token) {
            return;
        }
        match self.on_hand() {
            Some(held) if held.token == token => {
                if let Err(stop) = self.release(UNASKED).await {
                    self.note(true, stop.what);
                }
            }
            // Asked once: what runs of an earlier one has to be gone first.
            Some(_) => self.behind = Some(token),
            None => {}
        }
    }

    /// The same, once what was in its way is gone, if it is still wanted.
    pub(super) async fn clean_up_behind(&mut self) {
        if self.kept().is_some() || self.letting.is_some() {
            return;
        }
        let Some(token) = self.behind.take() else { return };
        let stray = {
            let desk = self.port.desk();
            desk.state().is_stray(&self.group, desk.me)
        };
        if stray {
            self.clean_up(token).await;
        }
    }

    /// The lease is over: nothing that it covers may stay.
    pub(super) async fn lose(&mut self, why: &str) {
        let held = self.held.clone().filter(|held| !self.lets_go_of(held.token));
        let ends = self.port.desk().may_end(&self.group);
        if let Some(held) = held.filter(|_| ends) {
            self.port.desk().set_dropped(&self.group, &held);
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
    async fn let_go(&mut self, held: Started, why: &str) {
        self.note(false, format!("letting go: {why}"));
        self.try_to_let_go(held, why.to_owned()).await;
    }

    /// The next attempt.
    pub(super) async fn try_again(&mut self) {
        if let Some(Letting { held, why, .. }) = &self.letting {
            let (held, why) = (held.clone(), why.clone());
            self.try_to_let_go(held, why).await;
        }
    }

    async fn try_to_let_go(&mut self, held: Started, why: String) {
        let mistaken = self.port.desk().makes(Mistake::StopNotRun);
        let stopped = match mistaken {
            true => Ok(()),
            false => self.stop(&held, &held.resources, UNASKED).await,
        };
        if let Err(stuck) = stopped {
            self.port.change_stuck(|all| {
                // The first reason stays: what is told again with each attempt is news to nobody.
                all.entry(self.group.clone()).or_insert(stuck);
            });
            self.report_state(held.token, GroupState::Error);
            let at = self.port.desk().now + STOP_AGAIN;
            self.letting = Some(Letting { held, why, at });
            return;
        }
        self.forget(held.token).await;
        // Without a majority this waits, and nobody waits for it.
        self.report_released(held.token, why, false);
    }

    /// Stops what runs here of a group that this node does not have, in reverse.
    pub(super) async fn stop_extra(&self, names: &BTreeSet<String>) {
        if self.held.is_some() || self.instance().is_some() {
            return;
        }
        let extra = self.defined().unwrap_or_default().into_iter().rev();
        let mut failed = Vec::new();
        for resource in extra.filter(|resource| names.contains(&resource.name)) {
            let name = &resource.name;
            self.note(false, format!("{name} runs here and should not; it is stopped"));
            let done = self.port.act((&self.group, 0), Action::Stop, &resource).await;
            if done.failed {
                failed.push(format!("{name} cannot be stopped: {}", done.said));
            }
        }
        self.port.change_stuck(|stuck| match failed.as_slice() {
            [] => drop(stuck.remove(&self.group)),
            why => drop(stuck.entry(self.group.clone()).or_insert_with(|| why.join("; "))),
        });
    }

    /// Stops resources in reverse; what cannot be stopped keeps what it stands on.
    pub(super) async fn stop(
        &self,
        held: &Started,
        resources: &[ResourceDef],
        lines: Lines,
    ) -> Result<(), String> {
        for resource in resources.iter().rev() {
            let name = &resource.name;
            // What failed goes on as failed until it is stopped: each attempt would be an alert.
            if !self.lets_go_of(held.token) {
                self.report_resource(held.token, name, ResourceState::Stopping, "");
            }
            let began = self.port.desk().now;
            let done = self.act(held, Action::Stop, resource).await;
            let said = done.said;
            if done.failed {
                self.tell(lines, format!("{name}: cannot be stopped: {said}"));
                self.report_resource(held.token, name, ResourceState::Failed, &said);
                return Err(format!("{name} cannot be stopped: {said}"));
            }
            let took = self.seconds_since(began);
            self.tell(lines, format!("{name}: offline after {took}{}", after_colon(&said)));
            self.report_resource(held.token, name, ResourceState::Offline, "");
        }
        Ok(())
    }
}

fn after_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
