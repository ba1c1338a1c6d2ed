//! Questions about the configuration document.

use crate::refusal::Refusal;

use super::ClusterState;

impl ClusterState {
    /// Whether a document that was made from that version may take effect.
    ///
    /// # Errors
    /// If another version is in force by now.
    pub fn check_base(&self, based_on: u32) -> Result<(), Refusal> {
        let active = self.documents.active;
        if based_on == active {
            return Ok(());
        }
        Err(Refusal::new(
            "stale_document",
            format!(
                "the document was made from version {based_on}, but version {active} is in force now"
            ),
            "See what changed meanwhile (vedette config diff FILE), then apply it again.",
        ))
    }
}
