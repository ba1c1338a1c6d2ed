//! Membership and settings: forming the cluster, tokens, adding and deleting nodes.

use std::collections::BTreeMap;

use crate::command::{Command, NewNode};
use crate::group::Group;
use crate::id::{Hash, NetworkNumber, NodeNumber, RaftId, StorageId};
use crate::lease::VoterSet;
use crate::model::{
    Accounted, AgentStatus, HostStatus, Interface, InterfaceStatus, JoinToken, Network,
    NetworkStatus, Node, Role, Severity, Timing,
};
use crate::record::{Code, Subject};
use crate::time::WallTime;

use super::{ClusterState, Entry, RecordDraft, Refusal};

/// How many sets of voters are remembered. A node that goes by an earlier one is not taken over from by silence.
const VOTER_SETS: usize = 32;

impl ClusterState {
    /// The first command: a cluster of one (spec A2).
    pub(super) fn form(&mut self, entry: &mut Entry<'_>) -> Result<bool, Refusal> {
        let Command::Form { cluster, name, settings, networks, first, raft_id } =
            &entry.proposal.command
        else {
            return Ok(false);
        };
        if self.cluster.is_some() {
            return Err(Refusal::new(
                "already_configured",
                format!("this cluster has been formed already, as {}", self.name),
                "Use another state directory to form a new cluster.",
            ));
        }
        settings.timing.check()?;
        self.cluster = Some(*cluster);
        self.name.clone_from(name);
        self.formed_at = entry.proposal.at;
        self.settings = settings.clone();
        self.networks = networks
            .iter()
            .map(|(number, new)| {
                let network = Network {
                    name: new.name.clone(),
                    priority: new.priority,
                    beat_port: new.beat_port,
                    peer_port: new.peer_port,
                    ping: new.ping,
                    status: NetworkStatus::Unknown,
                    since: entry.proposal.at,
                };
                (*number, network)
            })
            .collect();
        let message = format!("cluster {name} was formed");
        self.record(
            entry,
            RecordDraft::new(Code::ClusterFormed, Severity::Notice, Subject::Cluster, message),
        );
        let first = first.clone();
        let raft_id = *raft_id;
        self.insert_node(entry, &first, raft_id, Role::Voter);
        Ok(true)
    }

    pub(super) fn issue_token(
        &mut self,
        entry: &mut Entry<'_>,
        hash: Hash,
        name: &str,
        number: NodeNumber,
        expires_at: WallTime,
    ) -> Result<bool, Refusal> {
        check_name(name)?;
        self.check_free(name, number)?;
        let at = entry.proposal.at;
        self.tokens.retain(|token| token.expires_at > at && token.number != number);
        if let Some(other) = self.tokens.first() {
            return Err(Refusal::new(
                "join_in_progress",
                format!(
                    "{} is being added by {} (number {}), and nodes are added one at a time",
                    other.name, other.actor, other.number
                ),
                format!(
                    "Wait until it has joined, or until its token expires at {}; a new token for \
                     number {} replaces it: vedette node add NAME --number {}.",
                    other.expires_at, other.number, other.number
                ),
            ));
        }
        self.tokens.push(JoinToken {
            hash,
            number,
            name: name.into(),
            expires_at,
            actor: entry.actor.clone(),
        });
        let message = format!("{name} may join as node {number} until {expires_at}");
        self.record(
            entry,
            RecordDraft::new(Code::TokenIssued, Severity::Informational, Subject::Cluster, message),
        );
        Ok(true)
    }

    pub(super) fn add_node(
        &mut self,
        entry: &mut Entry<'_>,
        node: &NewNode,
        token: Hash,
    ) -> Result<bool, Refusal> {
        let place = self.check_token(node, token, entry.proposal.at)?;
        self.check_free(&node.name, node.number)?;
        self.check_addresses(node)?;
        self.tokens.remove(place);
        let raft_id = RaftId(entry.index);
        self.insert_node(entry, node, raft_id, Role::Learner);
        Ok(true)
    }

    fn insert_node(&mut self, entry: &mut Entry<'_>, new: &NewNode, raft_id: RaftId, role: Role) {
        let at = entry.proposal.at;
        let interfaces: BTreeMap<NetworkNumber, Interface> = new
            .addresses
            .iter()
            .map(|(number, address)| {
                let status = InterfaceStatus::Unknown;
                let address = *address;
                (*number, Interface { address, status, since: at, with_network: false })
            })
            .collect();
        self.nodes.insert(
            new.number,
            Node {
                number: new.number,
                name: new.name.clone(),
                raft_id,
                storage: new.storage,
                version: new.version.clone(),
                interfaces,
                host: HostStatus::Unknown,
                host_since: at,
                host_cause: "it was just added".into(),
                agent: AgentStatus::Unknown,
                agent_since: at,
                role,
                added_at: at,
                incident: None,
                left: false,
                accounted: Accounted::default(),
            },
        );
        let message = format!("{} was added as node {}", new.name, new.number);
        self.record(
            entry,
            RecordDraft::new(Code::NodeAdded, Severity::Notice, Subject::Node(new.number), message),
        );
    }

    pub(super) fn remove_node(
        &mut self,
        entry: &mut Entry<'_>,
        number: NodeNumber,
    ) -> Result<bool, Refusal> {
        let Some(node) = self.nodes.get(&number) else {
            return Err(Refusal::new(
                "unknown_node",
                format!("there is no node {number}"),
                "List the nodes: vedette node list.",
            ));
        };
        if self.nodes.len() == 1 {
            return Err(Refusal::new(
                "last_node",
                format!("{} is the last member and cannot be deleted", node.name),
                "Stop it instead: vedette stop.",
            ));
        }
        self.check_majority_without(node)?;
        self.check_holds_nothing(node)?;
        self.check_is_needed_by_nobody(node)?;
        let name = node.name.clone();
        self.record(
            entry,
            RecordDraft::new(
                Code::NodeRemoved,
                Severity::Notice,
                Subject::Node(number),
                format!("{name} (node {number}) was deleted"),
            ),
        );
        self.nodes.remove(&number);
        self.forget_member(entry, number, &name);
        self.forget_in_definition(entry, number, &name);
        self.forget_sightings(number);
        self.links.retain(|link| link.low != number && link.high != number);
        for test in self.tests.values_mut() {
            test.members.remove(&number);
        }
        self.tests.retain(|_, test| test.members.values().any(Option::is_none));
        Ok(true)
    }

    /// A node's groups go elsewhere before it does (spec A6): nobody would ever know again whether it
    /// has let go of them.
    fn check_holds_nothing(&self, node: &Node) -> Result<(), Refusal> {
        let holds = |group: &Group| group.instances.contains_key(&node.number);
        let held: Vec<&str> = self
            .groups
            .iter()
            .filter(|(_, group)| holds(group))
            .map(|(name, _)| name.as_str())
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        let name = &node.name;
        let advice = if node.host == HostStatus::Up {
            format!("Stop its manager first, so that others take them: vedette stop --node {name}.")
        } else {
            format!("If it is certainly off, say so first: vedette node confirm-off {name}.")
        };
        Err(Refusal::new(
            "node_holds_groups",
            format!("{name} cannot be deleted while it holds {}", held.join(", ")),
            advice,
        ))
    }

    /// A group that nobody else can have would be left without any node.
    fn check_is_needed_by_nobody(&self, node: &Node) -> Result<(), Refusal> {
        let alone = self.definition.groups.iter().filter(|def| def.nodes == [node.number]);
        let alone: Vec<&str> = alone.map(|def| def.name.as_str()).collect();
        if alone.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(
            "only_node_of_groups",
            format!("{} is the only node of {}", node.name, alone.join(", ")),
            "Give each another node, or take it out of the document: vedette config edit.",
        ))
    }

    /// What the configuration says of a node goes with it: what is in force is about members only, so that it
    /// can be checked, saved and applied as it is.
    fn forget_in_definition(&mut self, entry: &mut Entry<'_>, number: NodeNumber, name: &str) {
        let mut gone = Vec::new();
        for def in &mut self.definition.groups {
            let before = def.nodes.len();
            def.nodes.retain(|node| *node != number);
            if def.nodes.len() < before {
                gone.push(format!("the nodes of {}", def.name));
            }
        }
        let before = self.definition.standbys.len();
        self.definition.standbys.retain(|standby| standby.node != number);
        if self.definition.standbys.len() < before {
            gone.push("the standby adapters".into());
        }
        if self.definition.fencing.remove(&number).is_some() {
            gone.push("fencing".into());
        }
        if !gone.is_empty() {
            let message = format!("{name} was taken out of {}", gone.join(", "));
            self.setting_gone(entry, message);
        }
        let members = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        if members < self.settings.seed_count {
            let message = format!("seed_count is {members}, it was {}", self.settings.seed_count);
            self.settings.seed_count = members;
            self.setting_gone(entry, message);
        }
    }

    fn setting_gone(&mut self, entry: &mut Entry<'_>, message: String) {
        let (code, severity) = (Code::SettingChanged, Severity::Notice);
        let happening = RecordDraft::new(code, severity, Subject::Cluster, message);
        self.record(entry, happening.because("a node was deleted"));
    }

    /// A voter may go only if the others that vote, and are there, are a majority without it:
    /// nothing could ever be decided again otherwise, not even who votes instead.
    fn check_majority_without(&self, node: &Node) -> Result<(), Refusal> {
        if node.role != Role::Voter {
            return Ok(());
        }
        let voters = || self.voters();
        let there = |other: &&Node| {
            other.number != node.number
                && other.host == HostStatus::Up
                && other.agent == AgentStatus::Running
        };
        let (count, left) = (voters().count(), voters().filter(there).count());
        if left * 2 > count {
            return Ok(());
        }
        let (what, advice) = if count == 1 {
            (
                format!("{} is the only voter and cannot be deleted", node.name),
                if self.nodes.len() < 3 {
                    "Add a third node first: with three voters any one of them can be deleted."
                } else {
                    "Wait until the others vote too; vedette status shows who does."
                },
            )
        } else {
            (
                format!(
                    "{} cannot be deleted now: {left} of {count} voters would be left, which is \
                     no majority",
                    node.name
                ),
                "Start the other voters first; vedette status shows who is missing.",
            )
        };
        Err(Refusal::new("needed_voter", what, advice))
    }

    pub(super) fn set_voters(&mut self, entry: &mut Entry<'_>, voters: &[NodeNumber]) -> bool {
        let before = self.voter_set();
        let members: Vec<(NodeNumber, StorageId)> = voters
            .iter()
            .filter_map(|number| Some((*number, self.nodes.get(number)?.storage)))
            .collect();
        let mut changed = before.members != members;
        if changed {
            if self.voter_sets.is_empty() {
                self.voter_sets.push_back(before);
            }
            self.voter_sets.push_back(VoterSet { since: entry.index, members });
            let surplus = self.voter_sets.len().saturating_sub(VOTER_SETS);
            self.voter_sets.drain(..surplus);
        }
        for node in self.nodes.values_mut() {
            let role = if voters.contains(&node.number) { Role::Voter } else { Role::Learner };
            changed |= node.role != role;
            node.role = role;
        }
        if changed {
            let names: Vec<String> = voters.iter().map(|node| self.node_name(*node)).collect();
            let message = format!("voters are {}", names.join(", "));
            self.record(
                entry,
                RecordDraft::new(Code::VotersChanged, Severity::Notice, Subject::Cluster, message),
            );
        }
        changed
    }

    pub(super) fn set_timing(
        &mut self,
        entry: &mut Entry<'_>,
        timing: Timing,
    ) -> Result<bool, Refusal> {
        timing.check()?;
        let from = self.settings.timing;
        if from == timing {
            return Ok(false);
        }
        self.settings.timing = timing;
        let (before, after) = from.differences(&timing);
        self.setting_changed(entry, "heartbeat", before, after);
        Ok(true)
    }

    pub(super) fn set_logging_level(&mut self, entry: &mut Entry<'_>, level: Severity) -> bool {
        let from = self.settings.logging_level;
        if from == level {
            return false;
        }
        self.settings.logging_level = level;
        self.setting_changed(entry, "logging level", from, level);
        true
    }

    pub(super) fn set_seed_count(
        &mut self,
        entry: &mut Entry<'_>,
        count: u16,
    ) -> Result<bool, Refusal> {
        if count == 0 || count > NodeNumber::MAX {
            return Err(Refusal::new(
                "seed_count",
                format!("a cluster cannot wait for {count} nodes"),
                format!("Give a number from 1 to {}.", NodeNumber::MAX),
            ));
        }
        let from = self.settings.seed_count;
        if from == count {
            return Ok(false);
        }
        self.settings.seed_count = count;
        self.setting_changed(entry, "seed count", from, count);
        Ok(true)
    }

    fn setting_changed(
        &mut self,
        entry: &mut Entry<'_>,
        what: &str,
        from: impl ToString,
        to: impl ToString,
    ) {
        let (from, to) = (from.to_string(), to.to_string());
        let message = format!("{what} was changed from {from} to {to}");
        self.record(
            entry,
            RecordDraft::new(Code::SettingChanged, Severity::Notice, Subject::Cluster, message)
                .change(from, to),
        );
    }

    pub(super) fn seed_by_hand(&mut self, entry: &mut Entry<'_>) -> Result<bool, Refusal> {
        if self.seeded {
            return Err(self.seeded_already());
        }
        self.seeded = true;
        let missing: Vec<String> =
            self.missing_nodes().iter().map(|node| node.name.clone()).collect();
        self.record(
            entry,
            RecordDraft::new(
                Code::ClusterSeeded,
                Severity::Warning,
                Subject::Cluster,
                format!("cluster {} was seeded by hand", self.name),
            )
            .because(format!("missing: {}", missing.join(", "))),
        );
        Ok(true)
    }
}

/// A name is checked before a token promises it: a node of that name could never be configured.
fn check_name(name: &str) -> Result<(), Refusal> {
    if crate::config::is_name(name) {
        return Ok(());
    }
    Err(Refusal::new(
        "bad_name",
        format!("{name:?} cannot be a node's name"),
        crate::config::NAME_ADVICE,
    ))
}

impl Timing {
    /// What differs from another, in words: of this one, and of that.
    fn differences(&self, other: &Self) -> (String, String) {
        let parts = |timing: &Self| {
            [
                format!("{} ms x {}", timing.interval_ms, timing.sensitivity),
                timing.log().to_string(),
                format!("a lease of {} ms", timing.lease_ms),
                format!("a release of at most {} ms", timing.release_max_ms),
            ]
        };
        let both = parts(self).into_iter().zip(parts(other));
        let (before, after): (Vec<_>, Vec<_>) = both.filter(|(one, two)| one != two).unzip();
        (before.join(", "), after.join(", "))
    }
}
