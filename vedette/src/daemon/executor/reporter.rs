//! What a worker tells the cluster, in order, without being held up by it.
//!
//! Reports of one instance that wait are put together, so that a group of ten resources that starts
//! at once costs one entry of the log and not ten. None is lost: each is proposed until it is decided.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};
use vedette_core::command::{Command, GroupCommand};
use vedette_core::group::{GroupState, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_node::resource::duplicate::Conflict;

use super::super::proposer::Proposer;
use super::super::runner::insist;

enum Item {
    Report(GroupCommand),
    Flush(oneshot::Sender<()>),
}

/// Reports of one group on this node.
pub(super) struct Reporter {
    group: String,
    me: NodeNumber,
    items: mpsc::UnboundedSender<Item>,
}

impl Reporter {
    /// Starts the task that proposes. What waits is bounded by what a worker does meanwhile: a few
    /// reports an operation, and every operation waits for its last.
    pub(super) fn start(group: String, me: NodeNumber, proposer: Proposer) -> Self {
        let (items, waiting) = mpsc::unbounded_channel();
        tokio::spawn(propose(proposer, waiting));
        Self { group, me, items }
    }

    /// The state of the instance changed, or that of one of its resources.
    pub(super) fn progress(
        &self,
        token: u64,
        state: Option<GroupState>,
        resources: Vec<(String, ResourceState, String)>,
    ) {
        let (group, node) = (self.group.clone(), self.me);
        self.report(GroupCommand::Progress { group, node, token, state, resources });
    }

    /// One resource changed its state.
    pub(super) fn resource(&self, token: u64, name: &str, state: ResourceState, detail: &str) {
        self.progress(token, None, vec![(name.to_owned(), state, detail.to_owned())]);
    }

    /// Of these resources nothing lives where the end of the lease ends it.
    pub(super) fn outside(&self, token: u64, resources: BTreeSet<String>) {
        let (group, node) = (self.group.clone(), self.me);
        self.report(GroupCommand::Outside { group, node, token, resources });
    }

    /// Nothing of it is active here any more.
    pub(super) fn released(&self, token: u64, why: String, avoid: bool) {
        let (group, node) = (self.group.clone(), self.me);
        self.report(GroupCommand::Released { group, node, token, why, avoid });
    }

    /// A monitor found a resource failed.
    pub(super) fn failed(&self, token: u64, resource: &str, why: String, restarted: bool) {
        let (group, node, resource) = (self.group.clone(), self.me, resource.to_owned());
        self.report(GroupCommand::Failed { group, node, token, resource, why, restarted });
    }

    /// A monitor found a resource failed so many times in a row, of as many as count; or not any more.
    pub(super) fn tolerated(
        &self,
        token: u64,
        resource: &str,
        (count, limit): (u32, u32),
        why: String,
    ) {
        let (group, node, resource) = (self.group.clone(), self.me, resource.to_owned());
        self.report(GroupCommand::Tolerated { group, node, token, resource, count, limit, why });
    }

    /// Another machine has the address of a resource.
    pub(super) fn conflict(&self, token: u64, resource: &str, conflict: Conflict) {
        let (group, node, resource) = (self.group.clone(), self.me, resource.to_owned());
        let Conflict { hardware, device } = conflict;
        let told = GroupCommand::Conflict { group, node, token, resource, hardware, device };
        self.report(told);
    }

    fn report(&self, command: GroupCommand) {
        let _ = self.items.send(Item::Report(command));
    }

    /// Waits until all of it was decided.
    pub(super) async fn flush(&self) {
        let (done, over) = oneshot::channel();
        if self.items.send(Item::Flush(done)).is_ok() {
            let _ = over.await;
        }
    }
}

async fn propose(proposer: Proposer, mut waiting: mpsc::UnboundedReceiver<Item>) {
    let mut next = None;
    loop {
        let item = match next.take() {
            Some(item) => item,
            None => match waiting.recv().await {
                Some(item) => item,
                None => return,
            },
        };
        match item {
            Item::Flush(done) => {
                let _ = done.send(());
            }
            Item::Report(mut command) => {
                while let Ok(item) = waiting.try_recv() {
                    match item {
                        Item::Report(more) if merge(&mut command, &more) => {}
                        other => {
                            next = Some(other);
                            break;
                        }
                    }
                }
                insist(&proposer, Command::Group(command)).await;
            }
        }
    }
}

/// Puts a later progress of the same instance into an earlier one; answers whether that is possible.
fn merge(first: &mut GroupCommand, later: &GroupCommand) -> bool {
    let GroupCommand::Progress { group, token, state, resources, .. } = first else { return false };
    match later {
        GroupCommand::Progress { group: g, token: t, state: new, resources: more, .. }
            if (&*group, &*token) == (g, t) =>
        {
            *state = new.or(*state);
            for (name, state, detail) in more {
                resources.retain(|(known, ..)| known != name);
                resources.push((name.clone(), *state, detail.clone()));
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(state: Option<GroupState>, resources: &[(&str, ResourceState)]) -> GroupCommand {
        let resources =
            resources.iter().map(|(name, state)| ((*name).to_owned(), *state, String::new()));
        GroupCommand::Progress {
            group: "web".into(),
            node: NodeNumber(1),
            token: 4,
            state,
            resources: resources.collect(),
        }
    }

    /// What waits is told at once; the last word on each resource counts, and nothing overtakes the
    /// end of an instance.
    #[test]
    fn reports_are_put_together() {
        use ResourceState::{Online, Starting};
        let mut first = progress(Some(GroupState::Acquiring), &[("ip", Starting)]);
        assert!(merge(&mut first, &progress(None, &[("ip", Online), ("app", Starting)])));
        assert!(merge(&mut first, &progress(Some(GroupState::Online), &[("app", Online)])));
        assert_eq!(first, progress(Some(GroupState::Online), &[("ip", Online), ("app", Online)]));
        let released = GroupCommand::Released {
            group: "web".into(),
            node: NodeNumber(1),
            token: 4,
            why: String::new(),
            avoid: false,
        };
        assert!(!merge(&mut first, &released));
    }
}
