//! Events: the queue, the vote, phases and barriers, and what follows for the managers of nodes.

use crate::command::ManagerCommand;

use super::{ClusterState, Entry, Refusal};

impl ClusterState {
    /// A command about events or managers.
    pub(super) fn manage(
        &mut self,
        _entry: &mut Entry<'_>,
        _command: &ManagerCommand,
    ) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// What follows from statuses for events: joins and failures are queued, the event in progress
    /// goes on where nobody has to be waited for any more.
    pub(super) fn settle_manager(&mut self, _entry: &mut Entry<'_>) {}
}
