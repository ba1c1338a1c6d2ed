//! Rules and recovery programs: versions, and which is in force.

use std::collections::BTreeMap;

use super::{ClusterState, Entry, Refusal};

impl ClusterState {
    /// A new version of rules and programs.
    pub(super) fn save_rules(
        &mut self,
        _entry: &mut Entry<'_>,
        _text: &str,
        _programs: &BTreeMap<String, String>,
        _comment: &str,
        _based_on: u32,
    ) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// An earlier version is put in force again.
    pub(super) fn roll_back_rules(
        &mut self,
        _entry: &mut Entry<'_>,
        _to: u32,
    ) -> Result<bool, Refusal> {
        Ok(false)
    }
}
