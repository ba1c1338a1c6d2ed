//! The replicated state: what the cluster is, and how a committed command changes it.
//!
//! [`ClusterState::apply`] is a pure function of the state and the log entry. It reads no clock (the
//! time is in the proposal) and cannot fail: a command that does not fit is *refused*, which is an
//! outcome like any other and changes nothing. Every node therefore holds the same state, the same
//! records and the same hash chain at equal index.
//!
//! `revision` is the index of the last entry that changed anything; readers that wait for a newer
//! revision are not woken for nothing.

mod accounts;
mod alerts;
mod documents;
mod groups;
mod manager;
mod members;
mod rules;
mod standbys;
mod statuses;
#[cfg(test)]
mod testing;
mod timeline;
mod vacancies;

pub use accounts::QuorumLoss;
pub use alerts::LONGEST_SCRIPT;
pub use standbys::StandbyStatus;
pub use timeline::Timeline;
pub use vacancies::{End, Ending, Silence, Vacancy};

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::command::{AGENT, Command, Proposal};
use crate::definition::{Definition, DocumentStore};
use crate::event::Manager;
use crate::group::{Group, GroupState};
use crate::id::{ClusterId, CommandId, Hash, NetworkNumber, NodeNumber};
use crate::lease::VoterSet;
use crate::model::{
    AgentStatus, AlertScript, AlertTest, ClusterStatus, GroupStatus, HostStatus, InterfaceStatus,
    JoinToken, Link, Network, NetworkStatus, Node, Port, Role, Settings, Severity, Substate,
};
use crate::record::PendingAlert;
use crate::record::{Code, Record, Subject, Told};
use crate::rules::RuleStore;
use crate::time::WallTime;

/// How many command ids are remembered to recognise a repeat.
const REMEMBERED_COMMANDS: usize = 1_024;

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
    applied: VecDeque<(CommandId, u64)>,
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

/// Why a command changed nothing: what was refused and why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}. {advice}")]
pub struct Refusal {
    /// A stable name, such as `duplicate_number`.
    pub code: String,
    /// One sentence without its full stop: what was refused and why.
    pub what: String,
    /// One sentence: what to do.
    pub advice: String,
    /// What was wanted is so already: who repeats an order has nothing to mend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub met: bool,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code: code.into(), what: what.into(), advice: advice.into(), met: false }
    }

    /// Nothing has to be done, because what was wanted is so already: an order that is repeated is no
    /// mistake, and whoever gave it is told that it is carried out.
    pub fn met(code: &str, what: impl Into<String>) -> Self {
        let advice = "Nothing has to be done.";
        Self { met: true, ..Self::new(code, what, advice) }
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

/// What a log entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the proposer is told.
    pub outcome: Outcome,
    /// What happened, in order.
    pub records: Vec<Record>,
}

/// An entry while it is being applied: where it stands in the log and what came of it so far.
struct Entry<'a> {
    index: u64,
    proposal: &'a Proposal,
    /// In whose name: who proposed it, or who proposed what takes effect in it.
    actor: String,
    records: Vec<Record>,
    /// What the state of each group was when it was last recorded, and why it changes.
    groups: BTreeMap<String, GroupState>,
    causes: BTreeMap<String, String>,
    /// The incident that this entry begins, if it begins one that is no node's.
    begins: Option<u64>,
}

impl<'a> Entry<'a> {
    fn new(index: u64, proposal: &'a Proposal) -> Self {
        Self {
            index,
            proposal,
            actor: proposal.actor.clone(),
            records: Vec::new(),
            groups: BTreeMap::new(),
            causes: BTreeMap::new(),
            begins: None,
        }
    }
}

/// The parts of a record that its maker decides; the rest is filled in by [`ClusterState::record`].
struct Happening {
    code: Code,
    severity: Severity,
    subject: Subject,
    previous: String,
    current: String,
    cause: String,
    message: String,
    alert: bool,
    test: bool,
    incident: Option<u64>,
    event: Option<u64>,
    node: Option<NodeNumber>,
    duration_ms: Option<u64>,
    /// When it happened on the timeline, where that is not now.
    elapsed_ms: Option<u64>,
    told: Option<Told>,
}

impl Happening {
    fn new(code: Code, severity: Severity, subject: Subject, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            subject,
            previous: String::new(),
            current: String::new(),
            cause: String::new(),
            message: message.into(),
            alert: false,
            test: false,
            incident: None,
            event: None,
            node: None,
            duration_ms: None,
            elapsed_ms: None,
            told: None,
        }
    }

    fn change(mut self, previous: impl ToString, current: impl ToString) -> Self {
        self.previous = previous.to_string();
        self.current = current.to_string();
        self
    }

    fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    fn alerting(mut self, alert: bool) -> Self {
        self.alert = alert;
        self
    }

    /// A step of an event: which event, on which node if on one, and how long it took.
    fn of_event(mut self, event: u64, node: Option<NodeNumber>, duration_ms: Option<u64>) -> Self {
        (self.event, self.node, self.duration_ms) = (Some(event), node, duration_ms);
        self
    }

    fn of_incident(mut self, incident: Option<u64>) -> Self {
        self.incident = incident;
        self
    }
}

impl ClusterState {
    /// Applies the log entry at `index`. Entries are applied in order, each once.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        if let Some(&(_, first)) = self.applied.iter().find(|(id, _)| *id == proposal.id) {
            return Applied { outcome: Outcome::Repeated { index: first }, records: Vec::new() };
        }
        let groups = self.groups.iter().map(|(name, group)| (name.clone(), group.state()));
        let mut entry = Entry { groups: groups.collect(), ..Entry::new(index, proposal) };
        let timeline = self.timeline;
        self.timeline.advance(proposal.at, proposal.tick);
        let changed = match self.execute(&mut entry) {
            Ok(changed) => changed,
            Err(refusal) => {
                self.timeline = timeline;
                return Applied { outcome: Outcome::Refused(refusal), records: Vec::new() };
            }
        };
        if proposal.actor == AGENT {
            self.heard_in_office(proposal.origin, index);
        }
        self.applied.push_back((proposal.id, index));
        if self.applied.len() > REMEMBERED_COMMANDS {
            self.applied.pop_front();
        }
        if changed || self.is_overdue() {
            self.settle(&mut entry);
            self.revision = index;
            self.changed_at = proposal.at;
        }
        Applied { outcome: Outcome::Applied { index }, records: entry.records }
    }

    /// Does what the command says. Checks everything before it changes anything, so that a refusal
    /// leaves no trace. Answers whether anything changed.
    fn execute(&mut self, entry: &mut Entry<'_>) -> Result<bool, Refusal> {
        if self.cluster.is_none() && !matches!(entry.proposal.command, Command::Form { .. }) {
            return Err(Refusal::new(
                "not_configured",
                "this cluster has not been formed yet",
                "Run `vedette init` on its first member.",
            ));
        }
        match &entry.proposal.command {
            Command::Form { .. } => self.form(entry),
            Command::Office { director, term, continuity } => {
                self.take_office(entry, *director, *term, *continuity)
            }
            Command::Observe { changes } => Ok(self.observe(entry, changes)),
            Command::IssueToken { hash, name, number, expires_at } => {
                self.issue_token(entry, *hash, name, *number, *expires_at)
            }
            Command::AddNode { node, token } => self.add_node(entry, node, *token),
            Command::RemoveNode { node } => self.remove_node(entry, *node),
            Command::Voters { voters } => Ok(self.set_voters(entry, voters)),
            Command::SetTiming(timing) => self.set_timing(entry, *timing),
            Command::SetLoggingLevel(level) => Ok(self.set_logging_level(entry, *level)),
            Command::SetSeedCount(count) => self.set_seed_count(entry, *count),
            Command::Seed => self.seed_by_hand(entry),
            Command::SaveAlertScript { text, comment, based_on } => {
                self.save_script(entry, text, comment, *based_on)
            }
            Command::RollBackAlertScript { to } => self.roll_back_script(entry, *to),
            Command::ClaimAlert { seq, runner, session } => {
                Ok(self.claim_alert(*seq, *runner, *session))
            }
            Command::FinishAlert { seq, runner, session, outcome } => {
                Ok(self.finish_alert(entry, *seq, *runner, *session, outcome))
            }
            Command::TestAlert { members, severity, message } => {
                self.test_alert(entry, members, *severity, message)
            }
            Command::FinishAlertTest { id, node, outcome } => {
                Ok(self.finish_alert_test(entry, *id, *node, outcome))
            }
            Command::Manager(command) => self.manage(entry, command),
            Command::Group(command) => self.change_group(entry, command),
            Command::Config(command) => self.change_document(entry, command),
            Command::SaveRules { text, programs, comment, based_on } => {
                self.save_rules(entry, text, programs, comment, *based_on)
            }
            Command::RollBackRules { to } => self.roll_back_rules(entry, *to),
            Command::Account(account) => self.take_account(entry, account),
        }
    }

    /// Brings everything that follows from the statuses up to date: seeding, cluster state and
    /// substate, port memberships.
    fn settle(&mut self, entry: &mut Entry<'_>) {
        self.settle_seeding(entry);
        self.settle_documents(entry);
        self.settle_times(entry);
        self.settle_manager(entry);
        self.plan_returns();
        self.settle_cluster_state(entry);
        self.settle_ports(entry.index);
        self.settle_vacancies(entry);
    }

    /// Adds a record, chained to the one before; an alerting one is also queued for the script.
    fn record(&mut self, entry: &mut Entry<'_>, happening: Happening) {
        let mut record = Record {
            seq: self.seq + 1,
            index: entry.index,
            at: entry.proposal.at,
            code: happening.code,
            severity: happening.severity,
            subject: happening.subject,
            subject_name: self.subject_name(&happening.subject),
            previous: happening.previous,
            current: happening.current,
            cause: happening.cause,
            message: happening.message,
            incident: happening.incident,
            origin: entry.proposal.origin,
            actor: entry.actor.clone(),
            alert: happening.alert,
            test: happening.test,
            event: happening.event,
            node: happening.node,
            duration_ms: happening.duration_ms,
            elapsed_ms: happening.elapsed_ms.unwrap_or(self.timeline.elapsed_ms()),
            told: happening.told,
            hash: Hash::default(),
        };
        record.hash = record.chained(self.head);
        self.seq = record.seq;
        self.head = record.hash;
        if record.alert {
            self.alerts.insert(
                record.seq,
                PendingAlert { record: record.clone(), claim: None, attempts: 0 },
            );
        }
        entry.records.push(record);
    }

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
