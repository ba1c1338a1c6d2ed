//! What a worker tells the cluster, in order, without being held up by it.
//!
//! Reports of one instance that wait are put together, so that a group of ten resources that starts
//! at once costs one entry of the log and not ten. None is lost: each is proposed until it is decided.

use std::sync::Arc;

use tokio::sync::mpsc;
use vedette_core::command::{Command, GroupCommand};
use vedette_core::holding::executor::{Input, merge};

use super::super::runner::insist;
use super::Shared;

/// A report, with its number.
type Item = (u64, GroupCommand);

/// Reports of one group on this node.
pub(super) struct Reporter(mpsc::UnboundedSender<Item>);

impl Reporter {
    /// Starts the task that proposes. What waits is bounded by what a worker does meanwhile: a few
    /// reports an operation, and every operation waits for its last.
    pub(super) fn start(group: String, shared: Arc<Shared>) -> Self {
        let (items, waiting) = mpsc::unbounded_channel();
        tokio::spawn(propose(group, shared, waiting));
        Self(items)
    }

    /// Takes the next one.
    pub(super) fn report(&self, number: u64, command: GroupCommand) {
        let _ = self.0.send((number, command));
    }
}

async fn propose(group: String, shared: Arc<Shared>, mut waiting: mpsc::UnboundedReceiver<Item>) {
    let mut next = None;
    loop {
        let item = match next.take() {
            Some(item) => Some(item),
            None => waiting.recv().await,
        };
        let Some((mut number, mut command)) = item else { return };
        while let Ok((later, more)) = waiting.try_recv() {
            if !merge(&mut command, &more) {
                next = Some((later, more));
                break;
            }
            number = later;
        }
        insist(&shared.proposer, Command::Group(command)).await;
        shared.act(Input::Decided { group: group.clone(), number });
    }
}
