//! Leaves a group running without this worker, and takes it up again as it is.
//!
//! In maintenance nothing is started and nothing stopped, so what is taken up then is only looked at: what
//! works is online, what does not is shown as failed, and where nothing works any more the group is off.

use vedette_core::group::{GroupState, ResourceState};

use super::super::hands::Trouble;
use super::super::{Held, lock};
use super::{Lines, Worker};

impl Worker {
    /// Nobody looks after it any more.
    pub(super) async fn leave_running(&mut self, token: u64) {
        if self.letting.is_some() || self.held.take_if(|held| held.token == token).is_none() {
            return;
        }
        tracing::warn!(group = self.group, "left running; nobody looks after it");
        self.given_up.clear();
        self.failing.clear();
        self.looked.clear();
        if let Err(why) = self.shared.hold(&self.group, None).await {
            tracing::warn!(
                group = self.group,
                why,
                "the guard does not know that it is left running"
            );
        }
    }

    /// The cluster lost sight of it; nobody else had it meanwhile.
    pub(super) async fn take_up(&mut self, token: u64) {
        let state = self.shared.state();
        let instance = self.shared.instance(&state, &self.group);
        let is_it = instance.is_some_and(|it| it.token == token && it.is_left());
        let is_it = is_it && self.letting.is_none();
        let Some(epoch) = self.shared.epoch(&state).filter(|_| is_it) else { return };
        let Some(resources) = self.started_by() else { return };
        let held = Held { token, epoch, resources };
        if let Err(why) = self.hold(Some(held.clone())).await {
            tracing::error!(group = self.group, why, "what was left running cannot be taken up");
            // With the next view it is tried again.
            lock(&self.shared.taken_up).remove(&self.group);
            return;
        }
        match self.look_over(&held, &Lines(None)).await {
            Ok(()) => self.reporter.progress(token, Some(GroupState::Online), Vec::new()),
            Err(why) => self.is_gone(token, &why).await,
        }
    }

    /// Nothing of it is left; where it goes is decided when the maintenance is over.
    pub(super) async fn is_gone(&mut self, token: u64, why: &str) {
        self.forget(token).await;
        self.reporter.released(token, why.to_owned(), false);
        self.reported().await;
    }

    /// Whether it is to be taken up as it is.
    pub(super) fn is_left_as_it_is(&self) -> bool {
        let state = self.shared.state();
        let instance = self.shared.instance(&state, &self.group);
        state.is_left_alone(&self.group, self.shared.me)
            && instance.is_some_and(|instance| instance.is_taken_up())
    }

    /// Looks at every resource, and does nothing about what it sees. An error if nothing works any more.
    pub(super) async fn look_over(&self, held: &Held, lines: &Lines) -> Result<(), String> {
        let context = self.context(held);
        let mut works = held.resources.is_empty();
        for resource in &held.resources {
            let name = &resource.name;
            match self.shared.hands.monitor(&context, resource).await {
                Ok(detail) => {
                    works = true;
                    lines.tell(format!("{name}: runs, and is taken up as it is"));
                    self.reporter.resource(held.token, name, ResourceState::Online, &detail);
                }
                Err(Trouble { why, .. }) => {
                    lines.tell(format!("{name}: does not work, and is left so: {why}"));
                    self.reporter.resource(held.token, name, ResourceState::Failed, &why);
                }
            }
        }
        works
            .then_some(())
            .ok_or_else(|| "nothing of what was left running works any more".to_owned())
    }
}
