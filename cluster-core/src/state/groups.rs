//! Groups: instances, their grants and their end, failures, and what operators want.

use crate::command::GroupCommand;

use super::{ClusterState, Entry, Refusal};

impl ClusterState {
    /// A command about groups.
    pub(super) fn change_group(
        &mut self,
        _entry: &mut Entry<'_>,
        _command: &GroupCommand,
    ) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// The name of the group with that number.
    pub fn group_name(&self, number: u16) -> String {
        let known = self.groups.iter().find(|(_, group)| group.number == number);
        known.map_or_else(|| format!("group {number}"), |(name, _)| name.clone())
    }

    /// The name of a resource, by the numbers of its group and itself.
    pub fn resource_name(&self, group: u16, resource: u16) -> String {
        let group = self.groups.values().find(|known| known.number == group);
        let name = group.and_then(|group| {
            group.resource_numbers.iter().find(|(_, number)| **number == resource)
        });
        name.map_or_else(|| format!("resource {resource}"), |(name, _)| name.clone())
    }
}
