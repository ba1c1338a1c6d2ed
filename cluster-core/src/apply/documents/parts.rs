//! What takes effect together with a document, when a whole snapshot is restored (spec H36).
//!
//! Rules and alert script have commands of their own that may refuse. They are tried on a copy of the
//! state, when the snapshot is proposed and again when every node has verified its document; only if
//! none refuses is anything done.

use crate::command::Command;

use super::super::{ClusterState, Entry, Refusal};

impl ClusterState {
    /// Whether these would change anything.
    ///
    /// # Errors
    /// What the first that cannot be done says.
    pub(super) fn try_parts(&self, entry: &Entry<'_>, parts: &[Command]) -> Result<bool, Refusal> {
        if parts.is_empty() {
            return Ok(false);
        }
        self.clone().do_parts(&mut Entry::new(entry.index, entry.proposal), parts)
    }

    /// Does what was tried before, on the same state, in the name of whoever proposed it.
    pub(super) fn carry_out_parts(
        &mut self,
        entry: &mut Entry<'_>,
        parts: &[Command],
        author: &str,
    ) {
        let answered = std::mem::replace(&mut entry.actor, author.to_owned());
        let done = self.do_parts(entry, parts);
        entry.actor = answered;
        debug_assert!(done.is_ok(), "it was tried: {done:?}");
    }

    fn do_parts(&mut self, entry: &mut Entry<'_>, parts: &[Command]) -> Result<bool, Refusal> {
        let mut changed = false;
        for part in parts {
            changed |= match part {
                Command::SaveRules { text, programs, comment, based_on } => {
                    self.save_rules(entry, text, programs, comment, *based_on)?
                }
                Command::RollBackRules { to } => self.roll_back_rules(entry, *to)?,
                Command::SaveAlertScript { text, comment, based_on } => {
                    self.save_script(entry, text, comment, *based_on)?
                }
                Command::RollBackAlertScript { to } => self.roll_back_script(entry, *to)?,
                _ => {
                    return Err(Refusal::new(
                        "bad_snapshot",
                        "a snapshot changes the document, rules and alert script, and nothing else",
                        "Give other commands by themselves.",
                    ));
                }
            };
        }
        Ok(changed)
    }
}
