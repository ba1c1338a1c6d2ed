//! The replicated state: what the cluster is, and questions about it.
//!
//! Data, and methods that read it. Everything that changes it, and the questions that only a change has, is in
//! [`crate::apply`], which stands above what plans, judges and shows: those know the state and no transition.
//!
//! `revision` is the index of the last entry that changed anything; readers that wait for a newer
//! revision are not woken for nothing.

mod documents;
mod events;
mod evidence;
mod groups;
mod members;
mod patience;
mod standbys;
mod timeline;
mod timely;
mod vacancies;

pub use standbys::StandbyStatus;
pub use timeline::Timeline;
pub(crate) use timely::wish_ends_at;
pub(crate) use vacancies::FRESH_MS;
pub use vacancies::{End, Ending, QuorumLoss, Silence, Vacancy};

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, DocumentStore};
use crate::event::Manager;
use crate::group::Group;
use crate::id::{ClusterId, CommandId, Hash, NetworkNumber, NodeNumber};
use crate::lease::VoterSet;
use crate::model::{
    AgentStatus, AlertScript, AlertTest, ClusterStatus, GroupStatus, HostStatus, InterfaceStatus,
    JoinToken, Link, Network, NetworkStatus, Node, Port, Role, Settings, Substate,
};
use crate::record::PendingAlert;
use crate::record::Subject;
use crate::refusal::Refusal;
use crate::rules::RuleStore;
use crate::time::WallTime;

/// Everything the nodes of a cluster agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The cluster; `None` before the first command.
    pub cluster: Option<ClusterId>,
    /// The cluster's name.
    pub name: String,
    /// When it was formed.
    pub formed_at: WallTime,
    /// Index of the last entry that changed anything.
    pub revision: u64,
    /// When that was.
    pub changed_at: WallTime,
    /// Cluster state.
    pub status: ClusterStatus,
    /// When it last changed.
    pub status_since: WallTime,
    /// Cluster substate.
    pub substate: Substate,
    /// When it last changed.
    pub substate_since: WallTime,
    /// Whether enough nodes came together since the cluster started (spec V10).
    pub seeded: bool,
    /// The director, as of its taking office.
    pub director: Option<NodeNumber>,
    /// The term of its election.
    pub term: u64,
    /// Settings.
    pub settings: Settings,
    /// Networks.
    pub networks: BTreeMap<NetworkNumber, Network>,
    /// Members.
    pub nodes: BTreeMap<NodeNumber, Node>,
    /// Links that were observed, ordered by [`Link::key`].
    pub links: Vec<Link>,
    /// Named memberships: `a`, `h`, and one a network.
    pub ports: BTreeMap<String, Port>,
    /// Join tokens that were not used yet.
    pub tokens: Vec<JoinToken>,
    /// The alert script.
    pub script: AlertScript,
    /// Alerts that the script was not run for yet, by sequence number of their record.
    pub alerts: BTreeMap<u64, PendingAlert>,
    /// Alerts handled so far, however the script's run ended.
    pub alerts_finished: u64,
    /// Those of them whose run failed: nobody may have been told.
    #[serde(default)]
    pub alerts_failed: u64,
    /// Tests of the alert script under way.
    pub tests: BTreeMap<u64, AlertTest>,
    /// The latest sets of voters, the present one last; empty only while the first one is what the roles say.
    #[serde(default)]
    pub voter_sets: VecDeque<VoterSet>,
    /// Events and managers.
    pub manager: Manager,
    /// The configuration document and its versions.
    pub documents: DocumentStore,
    /// What the document in force says.
    pub definition: Definition,
    /// Groups, by name; those of the definition, and those that are on their way out.
    pub groups: BTreeMap<String, Group>,
    /// The highest number that a group or resource ever had.
    pub last_group_number: u16,
    /// Rules and recovery programs.
    pub rules: RuleStore,
    /// How much time has passed, whatever wall clocks say.
    #[serde(default)]
    pub timeline: Timeline,
    /// The latest loss of quorum that nodes have accounted for.
    #[serde(default)]
    pub quorum_loss: Option<QuorumLoss>,
    /// The latest times in which there may have been no director, and what nodes have said of them.
    #[serde(default)]
    pub vacancies: VecDeque<Vacancy>,
    /// The node that was called DOWN last.
    #[serde(default)]
    pub silence: Option<Silence>,
    /// Sequence number of the last record.
    pub seq: u64,
    /// Hash of the last record.
    pub head: Hash,
    /// Commands lately applied, with the index of each.
    pub(crate) applied: VecDeque<(CommandId, u64)>,
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            cluster: None,
            name: String::new(),
            formed_at: WallTime::default(),
            revision: 0,
            changed_at: WallTime::default(),
            status: ClusterStatus::NotConfigured,
            status_since: WallTime::default(),
            substate: Substate::Unknown,
            substate_since: WallTime::default(),
            seeded: false,
            director: None,
            term: 0,
            settings: Settings::default(),
            networks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            links: Vec::new(),
            ports: BTreeMap::new(),
            tokens: Vec::new(),
            script: AlertScript::default(),
            alerts: BTreeMap::new(),
            alerts_finished: 0,
            alerts_failed: 0,
            tests: BTreeMap::new(),
            voter_sets: VecDeque::new(),
            manager: Manager::default(),
            documents: DocumentStore::default(),
            definition: Definition::default(),
            groups: BTreeMap::new(),
            last_group_number: 0,
            rules: RuleStore::default(),
            timeline: Timeline::default(),
            quorum_loss: None,
            vacancies: VecDeque::new(),
            silence: None,
            seq: 0,
            head: Hash::default(),
            applied: VecDeque::new(),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was applied at this index.
    Applied {
        /// The index.
        index: u64,
    },
    /// The same command (by id) was applied before, at this index; nothing happened now.
    Repeated {
        /// The index of the first time.
        index: u64,
    },
    /// It was refused and changed nothing.
    Refused(Refusal),
}

impl ClusterState {
    /// A node's name, or its number if it is no member.
    pub fn node_name(&self, number: NodeNumber) -> String {
        self.nodes.get(&number).map_or_else(|| format!("node {number}"), |node| node.name.clone())
    }

    /// A network's name, or its number if there is none.
    pub fn network_name(&self, number: NetworkNumber) -> String {
        self.networks
            .get(&number)
            .map_or_else(|| format!("network {number}"), |network| network.name.clone())
    }

    /// What a subject is called: `n2`, `neta`, `n2/neta`, `n1-n2/neta`.
    pub fn subject_name(&self, subject: &Subject) -> String {
        match *subject {
            Subject::Cluster => self.name.clone(),
            Subject::Node(node) => self.node_name(node),
            Subject::Network(network) => self.network_name(network),
            Subject::Interface(node, network) => {
                format!("{}/{}", self.node_name(node), self.network_name(network))
            }
            Subject::Link(low, high, network) => format!(
                "{}-{}/{}",
                self.node_name(low),
                self.node_name(high),
                self.network_name(network)
            ),
            Subject::AlertScript => "alert script".into(),
            Subject::Group(number) => self.group_name(number),
            Subject::Resource(group, resource) => self.resource_name(group, resource),
            Subject::Event => "event".into(),
            Subject::Rules => "rules".into(),
            Subject::Document => "configuration".into(),
        }
    }

    /// The member of that name.
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// Members whose host is up.
    pub fn nodes_up(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.host == HostStatus::Up)
    }

    /// Members that vote in the log, as the state has it.
    pub fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.role == Role::Voter)
    }

    /// Who grants leases and attests silence now.
    pub fn voter_set(&self) -> VoterSet {
        self.voter_sets.back().cloned().unwrap_or_else(|| VoterSet {
            since: 0,
            members: self.voters().map(|node| (node.number, node.storage)).collect(),
        })
    }

    /// Every set of voters that the guard of a node may go by, given the one that it presented last; `None` where
    /// that is too long ago to be known.
    pub fn voter_sets_since(&self, presented: u64) -> Option<Vec<VoterSet>> {
        if self.voter_sets.is_empty() {
            return Some(vec![self.voter_set()]);
        }
        let first = self.voter_sets.iter().rposition(|set| set.since <= presented)?;
        Some(self.voter_sets.range(first..).cloned().collect())
    }

    /// Members that a starting cluster still waits for (spec V10).
    pub fn missing_nodes(&self) -> Vec<&Node> {
        self.nodes
            .values()
            .filter(|node| {
                node.host != HostStatus::Up
                    || !matches!(node.agent, AgentStatus::Running | AgentStatus::Initializing)
            })
            .collect()
    }

    /// Whether a node has only one interface left of several (spec V13).
    pub fn in_jeopardy(&self, node: &Node) -> bool {
        node.host == HostStatus::Up
            && node.interfaces.len() > 1
            && node
                .interfaces
                .values()
                .filter(|interface| interface.status == InterfaceStatus::Up)
                .count()
                == 1
    }

    /// Status of a network's adapter group (spec H5), whose members are those of its port.
    pub fn group_status(&self, number: NetworkNumber) -> GroupStatus {
        let Some(network) = self.networks.get(&number) else { return GroupStatus::Unknown };
        let members = self.ports.get(&network.name).map_or(0, |port| port.members.len());
        match network.status {
            NetworkStatus::Unknown => GroupStatus::Unknown,
            NetworkStatus::Down => GroupStatus::Disabled,
            NetworkStatus::Up if members == 0 => GroupStatus::Disabled,
            NetworkStatus::Up if members == self.nodes_up().count() => GroupStatus::Stable,
            NetworkStatus::Up => GroupStatus::Unstable,
        }
    }
}
