//! Evidence that a node has let go, as far as the state knows: of what the end of a lease or a later epoch is proof
//! ([`LetGo`]), and of what it is none.

use std::time::Duration;

use crate::group::ResourceDef;
use crate::id::NodeNumber;
use crate::takeover::{Backing, LetGo, Remains, programs_last};

use super::ClusterState;

impl ClusterState {
    /// Whether it still says what it said when it was proposed: meanwhile the node may have come back
    /// and taken something in a new epoch.
    pub(crate) fn is_evidence(&self, node: NodeNumber, evidence: &LetGo) -> bool {
        match evidence {
            LetGo::LeaseOver { .. } => !self.is_there(node),
            LetGo::Epoch { epoch, .. } => {
                self.manager.members.get(&node).is_some_and(|member| member.epoch < *epoch)
            }
            LetGo::Released | LetGo::Fenced { .. } | LetGo::Confirmed => true,
        }
    }

    pub(crate) fn is_proven(&self, name: &str, node: NodeNumber, evidence: &LetGo) -> bool {
        match evidence {
            LetGo::LeaseOver { backing, .. } => {
                self.left_to_processes(name, node, *backing).is_empty()
            }
            LetGo::Epoch { remains, .. } => self.epoch_proves(name, node, *remains),
            LetGo::Released | LetGo::Fenced { .. } | LetGo::Confirmed => true,
        }
    }

    /// Whether the release programs of a group had their time, where that counts.
    pub(crate) fn programs_ended(&self, name: &str, evidence: &LetGo) -> bool {
        let LetGo::LeaseOver { programs_ms, .. } = evidence else { return true };
        self.programs_of(name) <= Duration::from_millis(*programs_ms)
    }

    /// Processes and data of a group for which the end of a lease is no proof, where it is the evidence: nothing but
    /// processes of the node that may stand still ends them.
    pub(crate) fn not_covered(
        &self,
        node: NodeNumber,
        name: &str,
        evidence: &LetGo,
    ) -> (Vec<String>, Vec<String>) {
        let LetGo::LeaseOver { backing, .. } = evidence else { return Default::default() };
        let left = self.beyond_lease(name, node, *backing);
        let (data, processes): (Vec<_>, Vec<_>) = left.partition(|it| it.kind.is_data());
        let names = |all: Vec<&ResourceDef>| all.into_iter().map(|it| it.name.clone()).collect();
        (names(processes), names(data))
    }

    /// Whether the end of a node's lease, which is over after so long a silence, is evidence enough for a group there.
    pub(crate) fn lease_proves(&self, name: &str, node: NodeNumber) -> bool {
        let (options, backing) = (&self.definition.manager, self.backing(node));
        let backed = options.trust_guard || backing != Backing::None;
        !options.fence_always && backed && self.left_to_processes(name, node, backing).is_empty()
    }

    /// Whether a later epoch of a node is: its guard takes away or sees gone what is not named beside it, but for what
    /// lives where no guard looks.
    pub(crate) fn epoch_proves(&self, name: &str, node: NodeNumber, remains: Remains) -> bool {
        let stays = self.groups.get(name).is_none_or(|group| remains.has(group.number));
        let unseen = self.unseen_by_guard(name, node).next().is_some();
        !self.definition.manager.fence_always && !stays && !unseen
    }

    /// Resources of a group that its node found to run where its guard sees nothing of them, if that is asked for.
    pub(crate) fn unseen_by_guard(
        &self,
        name: &str,
        node: NodeNumber,
    ) -> impl Iterator<Item = &str> {
        let asked = self.definition.manager.strict;
        let group = self.groups.get(name).filter(|_| asked);
        let outside = group.and_then(|group| group.outside.get(&node));
        outside.into_iter().flatten().map(String::as_str)
    }

    /// What of a group may outlive the lease of a node whose processes are stopped, where that is asked for: always
    /// for data, which two nodes that write to it destroy, and for everything if the configuration is strict; never if
    /// the operator trusts guards.
    pub(crate) fn left_to_processes(
        &self,
        name: &str,
        node: NodeNumber,
        backing: Backing,
    ) -> Vec<&ResourceDef> {
        let options = &self.definition.manager;
        let asked =
            |it: &&ResourceDef| !options.trust_guard && (options.strict || it.kind.is_data());
        self.beyond_lease(name, node, backing).filter(asked).collect()
    }

    /// Resources of a group on a node that the end of its lease does not prove to be gone, with what stands behind the
    /// node's release.
    pub(crate) fn beyond_lease(
        &self,
        name: &str,
        node: NodeNumber,
        backing: Backing,
    ) -> impl Iterator<Item = &ResourceDef> {
        let reaper = self.manager.members.get(&node).is_some_and(|it| it.reaper.is_none());
        let group = self.groups.get(name);
        let outside = move |resource: &str| group.is_some_and(|it| it.is_outside(resource, node));
        let all = self.definition.group(name).into_iter().flat_map(|def| &def.resources);
        all.filter(move |it| !backing.covers(&it.kind, reaper) || outside(&it.name))
    }

    /// Time that release programs of a group may take, as it is defined and as it was when its node got it.
    pub(crate) fn programs_of(&self, name: &str) -> Duration {
        let retired = self.groups.get(name).and_then(|group| group.retired.as_ref());
        let defined = self.definition.group(name).into_iter().chain(retired);
        defined.map(programs_last).max().unwrap_or_default()
    }

    /// What stands behind the release of a node.
    pub(crate) fn backing(&self, node: NodeNumber) -> Backing {
        self.manager.members.get(&node).map_or(Backing::None, |member| member.backing)
    }

    /// Why nobody takes a group from a node yet, if that is so.
    pub fn takeover_waits_for(&self, name: &str, node: NodeNumber) -> Option<&str> {
        self.manager.takeovers.get(&node)?.groups.get(name).map(String::as_str)
    }
}
