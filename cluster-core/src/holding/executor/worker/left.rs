//! Leaves a group running without this worker, and takes it up again as it is.
//!
//! In maintenance nothing is started and nothing stopped, so what is taken up then is only looked at: what
//! works is online, what does not is shown as failed, and where nothing works any more the group is off.

use std::time::Duration;

use super::super::desk::Desk;
use super::super::values::{Action, Started};
use super::{Lines, UNASKED, Worker};
use crate::group::{GroupState, Instance, ResourceState};

/// The pause before what could not be taken up is taken up again.
const AGAIN: Duration = Duration::from_millis(500);

impl Worker {
    /// Nobody looks after it any more.
    pub(super) async fn leave_running(&mut self, token: u64) {
        if self.letting.is_some() || self.held.take_if(|held| held.token == token).is_none() {
            return;
        }
        self.note(false, "left running; nobody looks after it".into());
        self.given_up.clear();
        self.failing.clear();
        self.looked.clear();
        if let Err(why) = self.port.hold(&self.group, None).await {
            self.note(false, format!("the guard does not know that it is left running: {why}"));
        }
    }

    /// The cluster lost sight of it; nobody else had it meanwhile.
    pub(super) async fn take_up(&mut self, token: u64) {
        let is_it = self.instance().is_some_and(|it| it.token == token && it.is_left());
        let is_it = is_it && self.letting.is_none();
        let Some(epoch) = self.port.desk().epoch().filter(|_| is_it) else { return };
        let Some(resources) = self.started_by() else { return };
        let held = Started { token, epoch, resources };
        if let Err(why) = self.hold(Some(held.clone())).await {
            self.note(true, format!("what was left running cannot be taken up: {why}"));
            let again = self.port.desk().now + AGAIN;
            self.port.wait_until(again).await;
            let mut desk = self.port.desk();
            desk.taken_up.remove(&self.group);
            desk.news += 1;
            return;
        }
        match self.look_over(&held, UNASKED).await {
            Ok(()) => self.report_state(token, GroupState::Online),
            Err(why) => self.is_gone(token, &why).await,
        }
    }

    /// Nothing of it is left; where it goes is decided when the maintenance is over.
    pub(super) async fn is_gone(&mut self, token: u64, why: &str) {
        self.forget(token).await;
        self.report_released(token, why.to_owned(), false);
        self.reported().await;
    }

    /// Whether it is to be taken up as it is.
    pub(super) fn is_left_as_it_is(&self) -> bool {
        self.port.desk().is_left_as_it_is(&self.group)
    }

    /// Looks at every resource, and does nothing about what it sees. An error if nothing works any more.
    pub(super) async fn look_over(&self, held: &Started, lines: Lines) -> Result<(), String> {
        let mut works = held.resources.is_empty();
        for resource in &held.resources {
            let name = &resource.name;
            let done = self.act(held, Action::Monitor, resource).await;
            let said = done.said;
            if done.failed {
                self.tell(lines, format!("{name}: does not work, and is left so: {said}"));
                self.report_resource(held.token, name, ResourceState::Failed, &said);
            } else {
                works = true;
                self.tell(lines, format!("{name}: runs, and is taken up as it is"));
                self.report_resource(held.token, name, ResourceState::Online, &said);
            }
        }
        works
            .then_some(())
            .ok_or_else(|| "nothing of what was left running works any more".to_owned())
    }
}

impl Desk {
    /// Whether a group is to be taken up as it is.
    pub(super) fn is_left_as_it_is(&self, group: &str) -> bool {
        self.seen.state.is_left_alone(group, self.me)
            && self.instance(group).is_some_and(Instance::is_taken_up)
    }
}
