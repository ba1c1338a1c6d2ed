//! The configuration document: proposed, verified by every node, in force; and rolled back.

use crate::command::ConfigCommand;

use super::{ClusterState, Entry, Refusal};

impl ClusterState {
    /// A command about the configuration document.
    pub(super) fn change_document(
        &mut self,
        _entry: &mut Entry<'_>,
        _command: &ConfigCommand,
    ) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// A document that everybody who is there has verified takes effect.
    pub(super) fn settle_documents(&mut self, _entry: &mut Entry<'_>) {}
}
