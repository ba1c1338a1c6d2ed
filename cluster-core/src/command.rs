//! Commands: the only way in which cluster state changes.
//!
//! A [`Proposal`] is what the replicated log carries: a command with its id (so that a repeat is
//! harmless), the proposer's wall clock (`apply` reads none) and who asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::duplicate::Hardware;
use crate::event::{CommandOutcome, RecoverAction};
use crate::group::{GroupState, ResourceState, Until};
use crate::id::{
    ClusterId, CommandId, Hash, NetworkNumber, NodeNumber, RaftId, Session, StorageId,
};
use crate::local::LocalRecord;
use crate::model::{
    AgentStatus, HostStatus, InterfaceStatus, LinkStatus, LogTiming, NetworkStatus, Priority,
    RunOutcome, Settings, Severity, Timing,
};
use crate::takeover::{Backing, LetGo, Unreleased};
use crate::time::WallTime;
use crate::trigger::{StopMode, Trigger};

/// Name under which the agent of a node proposes what it says of that node.
pub const AGENT: &str = "agent";

/// A command on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Drawn by the proposer; applied at most once.
    pub id: CommandId,
    /// The proposer's wall clock; in the log, what the leader's showed, [corrected](crate::clock::Clocks::correction).
    pub at: WallTime,
    /// The node that proposed it.
    pub origin: NodeNumber,
    /// Who asked for it: `director`, `agent`, or an operator such as `root@n1`.
    pub actor: String,
    /// What shall be done.
    pub command: Command,
    /// The leader's monotonic clock when it appended this; see [`crate::state::Timeline`].
    #[serde(default)]
    pub tick: Option<Tick>,
}

/// A reading of one process's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The run of the process: readings of two runs say nothing of each other.
    pub run: Session,
    /// Microseconds on its clock.
    pub us: u64,
    /// How far the clock by which the leader dates entries is ahead of that of the leader before it, where it
    /// knows.
    #[serde(default)]
    pub ahead_us: Option<i64>,
}

/// Its id and its actor; what it says is for the records.
impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {}", self.id, self.actor)
    }
}

/// What can be done to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first command of a cluster: who it is, its networks, its first member (spec A2).
    Form {
        /// The cluster.
        cluster: ClusterId,
        /// Its name.
        name: String,
        /// Its settings.
        settings: Settings,
        /// Its networks.
        networks: BTreeMap<NetworkNumber, NewNetwork>,
        /// The first member.
        first: NewNode,
        /// The log of the first member.
        raft_id: RaftId,
    },
    /// A new leader of the log takes office as director (spec A11).
    Office {
        /// Who.
        director: NodeNumber,
        /// The term of its election.
        term: u64,
        /// Whether the cluster ran before this moment without everybody having been away. If it
        /// did not, nothing known of the nodes holds any more, and the cluster waits for its
        /// nodes again (spec V10).
        continuity: bool,
    },
    /// The director found that statuses changed, with its evidence in each cause.
    Observe {
        /// The changes, in the order in which they are to be recorded.
        changes: Vec<Change>,
    },
    /// Permission for a node to join.
    IssueToken {
        /// SHA-256 of the secret.
        hash: Hash,
        /// The node's name.
        name: String,
        /// The node's number.
        number: NodeNumber,
        /// When the permission ends.
        expires_at: WallTime,
    },
    /// A node joins with a token. Its Raft id is the index of this entry.
    AddNode {
        /// The node.
        node: NewNode,
        /// SHA-256 of the token's secret.
        token: Hash,
    },
    /// A member is deleted (spec A6, A7).
    RemoveNode {
        /// Who.
        node: NodeNumber,
    },
    /// The log's membership changed: these are the voters now, everybody else learns.
    Voters {
        /// The voters.
        voters: Vec<NodeNumber>,
    },
    /// Timers are changed (spec H3).
    SetTiming(Timing),
    /// The logging level is changed (spec A13).
    SetLoggingLevel(Severity),
    /// The number of nodes to wait for at a start is changed (spec V10).
    SetSeedCount(u16),
    /// The cluster shall start with the nodes that are there (spec V11).
    Seed,
    /// A new version of the alert script.
    SaveAlertScript {
        /// The text.
        text: String,
        /// Why.
        comment: String,
        /// The version it was made from; refused if that is no longer in force.
        based_on: u32,
    },
    /// An earlier version of the alert script is put in force again.
    RollBackAlertScript {
        /// Which; 0 is the built-in script.
        to: u32,
    },
    /// A node takes it upon itself to run the script for an alert.
    ClaimAlert {
        /// Sequence number of the record.
        seq: u64,
        /// Who runs it.
        runner: NodeNumber,
        /// In which run of its agent.
        session: Session,
    },
    /// The script ran for an alert.
    FinishAlert {
        /// Sequence number of the record.
        seq: u64,
        /// Who ran it.
        runner: NodeNumber,
        /// In which run of its agent.
        session: Session,
        /// How it ended.
        outcome: RunOutcome,
    },
    /// The script shall be run with a test alert on the chosen members (spec A15).
    TestAlert {
        /// On whom; all members if empty.
        members: Vec<NodeNumber>,
        /// With which severity.
        severity: Severity,
        /// What it says.
        message: String,
    },
    /// About events and the managers of nodes.
    Manager(ManagerCommand),
    /// About resource groups.
    Group(GroupCommand),
    /// About the configuration document.
    Config(ConfigCommand),
    /// A new version of rules and recovery programs (spec H16); refused if it has errors.
    SaveRules {
        /// The rules file.
        text: String,
        /// Recovery programs, by the path that the rules name.
        programs: BTreeMap<String, String>,
        /// Why.
        comment: String,
        /// The version it was made from; refused if that is no longer in force.
        based_on: u32,
    },
    /// An earlier version of the rules is put in force again.
    RollBackRules {
        /// Which; 0 are the built-in ones.
        to: u32,
    },
    /// A node accounts for what it lived through and could not tell then ([`crate::local`]).
    Account(Account),
    /// The script ran for a test.
    FinishAlertTest {
        /// Which test.
        id: u64,
        /// On whom.
        node: NodeNumber,
        /// How it ended.
        outcome: RunOutcome,
    },
}

/// Local records of a node that are not in the histories of the others yet, oldest first. Repeating
/// it is harmless: entries up to the number that is known already are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Which node.
    pub node: NodeNumber,
    /// The id of the journal: a node whose journal was lost, or lost its end, begins another one.
    pub journal: u64,
    /// The number after which this journal begins.
    #[serde(default)]
    pub begins_after: u64,
    /// The entries, at most [`Account::MOST`].
    pub entries: Vec<AccountEntry>,
    /// How far the node's wall clock is ahead of the one by which the director dates entries, where it was
    /// measured.
    pub clock_offset_ms: Option<i64>,
    /// The leader's clock when the entries had the ages that they say. How long the account was on its way
    /// from then on is seen by the leader's clock when it appends it, so nothing else need be quick.
    #[serde(default)]
    pub read: Option<Tick>,
}

impl Account {
    /// How many entries one account holds.
    pub const MOST: usize = 100;
}

/// A local record, and how long ago it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// The record.
    pub record: LocalRecord,
    /// Its age at [`Account::read`], by the node's monotonic clock; none if the machine was started again
    /// since, and only wall clocks can tell.
    pub age_ms: Option<u64>,
}

/// What can be done about events and managers. Those of agents say which node; an answer that does
/// not fit the state any more (another event, phase or attempt) changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagerCommand {
    /// A node's manager is there (its agent runs, in this session).
    ///
    /// The epoch closes a gap that no look at the state can close. A node that was cut off or
    /// stopped longer than its lease has let go of everything, while its own state may lag behind
    /// and still name it as an owner. Its guard therefore counts: each lapse of the lease while
    /// something was held, and each start of the guard, begins a new epoch. An epoch that is new to
    /// the state means "I hold nothing that you gave me before": `apply` ends every instance of the
    /// node. And the node acts on an instance only while the epoch in its state is the guard's
    /// present one, which it can only be if its state is from after the lapse; the guard refuses to
    /// hold anything for another epoch. So an old leave can never be used, however late.
    Present {
        /// Which node.
        node: NodeNumber,
        /// The run of its agent.
        session: Session,
        /// What stands behind its guard.
        backing: Backing,
        /// Why the watchdog that is configured for it stands behind nothing, if it does not.
        #[serde(default)]
        watchdog: Option<String>,
        /// Why nobody ends its processes if its guard and its agent are stopped, if nobody does.
        #[serde(default)]
        reaper: Option<String>,
        /// Rest of its last lease that it could not let go of: a group that is still being stopped goes on as an
        /// instance that is RELEASING, in the new epoch too.
        #[serde(default, skip_serializing_if = "Unreleased::is_empty")]
        unreleased: Unreleased,
        /// The epoch of its guard.
        epoch: u64,
        /// The set of voters that its guard goes by ([`crate::lease::VoterSet::since`]): nothing that it acquires in this
        /// epoch stands on an earlier one.
        #[serde(default)]
        voters: u64,
        /// The timers that its guard goes by: what it acquires in this epoch is not let go of later than those say.
        #[serde(default)]
        timing: Option<Timing>,
        /// The timers that its log was opened with.
        log: LogTiming,
    },
    /// Something happened that nobody but its proposer can see: a user-defined event, a standby
    /// adapter that failed. What follows from statuses is queued by `apply` itself.
    Queue {
        /// What happened.
        trigger: Trigger,
        /// How it was seen, in words.
        cause: String,
    },
    /// A rule that has fired for an instance may fire again: its rearm predicate holds.
    Rearm {
        /// The rule.
        rule: String,
        /// The instance.
        instance: String,
        /// The value by which it holds, in words.
        value: String,
    },
    /// Something cannot be watched on a node, or can be again.
    Blind {
        /// Which node.
        node: NodeNumber,
        /// What, such as `monitor fs.used_percent`.
        what: String,
        /// Why it cannot, a sentence; none: it can be again.
        why: Option<String>,
    },
    /// The queue has settled: vote on its first event. From the director.
    BeginVote {
        /// The event that the director saw first.
        event: u64,
    },
    /// A node approves the event that is voted on.
    Approve {
        /// The event.
        event: u64,
        /// Who.
        node: NodeNumber,
    },
    /// A node ran its commands of a phase: it has arrived at the barrier, or failed.
    Ran {
        /// The event.
        event: u64,
        /// The phase.
        phase: usize,
        /// The attempt.
        attempt: u32,
        /// Who.
        node: NodeNumber,
        /// How each command ended.
        outcomes: Vec<CommandOutcome>,
    },
    /// The agent of a node has not run for a while, or runs steadily again. From the director.
    Attend {
        /// Whose.
        node: NodeNumber,
        /// Whether it takes part in events from now on.
        attends: bool,
    },
    /// A participant gives no answer in time; it counts as failed. From the director.
    Expire {
        /// The event.
        event: u64,
        /// The phase.
        phase: usize,
        /// The attempt.
        attempt: u32,
        /// Who.
        node: NodeNumber,
    },
    /// An event runs too long (spec H19). From the director.
    TooLong {
        /// The event.
        event: u64,
    },
    /// An operator continues a failed event (spec H18).
    Recover {
        /// The event; refused if it is not the one that failed.
        event: u64,
        /// How.
        action: RecoverAction,
    },
    /// Managers are stopped (spec H21).
    Stop {
        /// On which nodes; on all if empty.
        nodes: Vec<NodeNumber>,
        /// How.
        how: StopMode,
    },
    /// Managers are started again.
    Start {
        /// On which nodes; on all if empty.
        nodes: Vec<NodeNumber>,
    },
    /// Maintenance begins or ends.
    Maintenance {
        /// Of what.
        scope: Scope,
        /// Begins.
        on: bool,
    },
}

/// What is in maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything.
    Cluster,
    /// A node.
    Node(NodeNumber),
    /// A group.
    Group(String),
}

/// What can be done about groups. Reports of nodes carry the token of the instance they are about;
/// with another token they change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupCommand {
    /// A node tells how an instance does.
    Progress {
        /// The group.
        group: String,
        /// Who.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// The instance's state, if it changed. ERROR: it cannot be released.
        state: Option<GroupState>,
        /// Resources whose state changed: name, state, detail.
        resources: Vec<(String, ResourceState, String)>,
    },
    /// A node has started resources of which nothing lives where the end of its lease ends it, and for which no
    /// release program is named: nothing but their stop programs ends them.
    Outside {
        /// The group.
        group: String,
        /// The node that has it.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// All of them that there are now.
        resources: BTreeSet<String>,
    },
    /// Nothing of the group is active any more on a node: the instance ends.
    Released {
        /// The group.
        group: String,
        /// Who.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// Why: the plan, a failed acquisition, a lost lease.
        why: String,
        /// The group could not be acquired there: the node is avoided until that is cleared.
        avoid: bool,
    },
    /// A monitor found a resource failed.
    Failed {
        /// The group.
        group: String,
        /// Where.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// The resource.
        resource: String,
        /// Reason, as the look at it gave it.
        why: String,
        /// It works again after a restart in place. If not, the group is to move.
        restarted: bool,
    },
    /// A monitor found a resource failed, which is tolerated; or works again after that. Changes what is
    /// shown of the resource, and nothing else.
    Tolerated {
        /// The group.
        group: String,
        /// Where.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// The resource.
        resource: String,
        /// Failures in a row; 0: it works again.
        count: u32,
        /// As many as make it failed.
        limit: u32,
        /// Reason, as the look at it gave it.
        why: String,
    },
    /// A machine outside the cluster answers for a service address that a node is about to take.
    Conflict {
        /// The group.
        group: String,
        /// The node.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// The resource.
        resource: String,
        /// Hardware address that answered.
        hardware: Hardware,
        /// Device on which it was heard.
        device: String,
    },
    /// A node's guard ends an instance with its lease again, after maintenance or a forced stop.
    Covered {
        /// The group.
        group: String,
        /// The node.
        node: NodeNumber,
        /// The instance's token.
        token: u64,
        /// The log index in [`crate::group::Instance::uncovered`] that is meant: a later one goes on.
        since: u64,
    },
    /// A node looked for what it could own, and saw this of a group that it does not have; nothing if it
    /// runs there no more.
    Sighted {
        /// The group.
        group: String,
        /// Where.
        node: NodeNumber,
        /// The resources that run there.
        resources: BTreeSet<String>,
    },
    /// All instances of a node end, because it is certain that it has let go. From the director.
    Evict {
        /// Which node.
        node: NodeNumber,
        /// Why that is certain.
        evidence: LetGo,
    },
    /// A node shall be fenced. From the director.
    Fence {
        /// Which node.
        node: NodeNumber,
        /// Who shall call the agent.
        by: NodeNumber,
    },
    /// A fence agent was called.
    Fenced {
        /// For which node.
        node: NodeNumber,
        /// Who called it.
        by: NodeNumber,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        outcome: RunOutcome,
    },
    /// The takeover of groups from a node has to wait, because nothing proves yet that it has let go. Makes
    /// one alerting record for each group and incident. From the director.
    Waits {
        /// Which node.
        node: NodeNumber,
        /// The groups that wait.
        groups: BTreeSet<String>,
        /// Why, and what would help, in a sentence without full stop.
        why: String,
    },
    /// An operator is certain that a node is off (a fact that no program can check).
    ConfirmOff {
        /// Which node.
        node: NodeNumber,
    },
    /// An operator moves a group.
    Move {
        /// Which.
        group: String,
        /// Where to; none: wherever placement says, without the present owner.
        to: Option<NodeNumber>,
        /// When it need not stay there any more; none: as soon as it is home.
        #[serde(default)]
        until: Option<Until>,
    },
    /// An operator wants a group on.
    Online {
        /// Which.
        group: String,
    },
    /// An operator wants a group off.
    Offline {
        /// Which.
        group: String,
    },
    /// Something ends by itself about now ([`crate::state::ClusterState::next_due`]). From the director, so
    /// that an entry brings the time along where no other one does.
    Due,
    /// An operator clears failures and what follows from them (avoided nodes, blocks).
    Clear {
        /// Of which group.
        group: String,
        /// On one node only.
        node: Option<NodeNumber>,
    },
}

/// Changes of the configuration document (spec H34, H35): proposed, verified on every node, in
/// force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigCommand {
    /// A new document. Its findings that need no machine are made by `apply`, which refuses it if
    /// there are errors.
    Propose {
        /// The text.
        text: String,
        /// Why.
        comment: String,
        /// The version it was made from; refused if that is no longer in force.
        based_on: u32,
    },
    /// A whole snapshot: a document like a new one, and with it rules and alert script. All of it takes
    /// effect in one entry, or nothing (spec H36).
    Restore {
        /// The text of the document; it may be the one in force.
        text: String,
        /// Why.
        comment: String,
        /// The version of the document it was made from.
        based_on: u32,
        /// What changes rules and alert script: each a command that saves them or rolls them back.
        parts: Vec<Command>,
    },
    /// A document is verified by every node like a new one, but never takes effect.
    Examine {
        /// The text.
        text: String,
    },
    /// What a node found.
    Verified {
        /// The proposal.
        proposal: u64,
        /// Who.
        node: NodeNumber,
        /// What speaks against it on that machine, a sentence each.
        findings: Vec<String>,
        /// Warnings, which stand in nobody's way.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// The proposal is withdrawn: by an operator, or by the director because a node gives no
    /// answer.
    Withdraw {
        /// The proposal.
        proposal: u64,
        /// Why.
        why: String,
    },
    /// An earlier version is proposed again.
    RollBack {
        /// Which.
        to: u32,
    },
}

/// A network that is being defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: Priority,
    /// UDP port of heartbeats.
    pub beat_port: u16,
    /// TCP port of peers.
    pub peer_port: u16,
    /// What to probe, if anything.
    pub ping: Option<IpAddr>,
}

/// A node that is being added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Its number.
    pub number: NodeNumber,
    /// Its name.
    pub name: String,
    /// Its storage.
    pub storage: StorageId,
    /// Version of the product.
    pub version: String,
    /// Its addresses.
    pub addresses: BTreeMap<NetworkNumber, IpAddr>,
}

/// One status that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A node's host.
    Host {
        /// Which node.
        node: NodeNumber,
        /// Its status from now on.
        to: HostStatus,
        /// The node said itself that it would go (spec A19).
        planned: bool,
        /// Why: who saw what, since when.
        cause: String,
        /// For how long nothing was heard of it, if that is why: how late this is.
        #[serde(default)]
        silent_ms: Option<u64>,
    },
    /// A node's agent.
    Agent {
        /// Which node.
        node: NodeNumber,
        /// Its status from now on.
        to: AgentStatus,
        /// Why.
        cause: String,
    },
    /// A network.
    Network {
        /// Which.
        network: NetworkNumber,
        /// Its status from now on.
        to: NetworkStatus,
        /// Why.
        cause: String,
    },
    /// A node's interface on a network.
    Interface {
        /// Whose.
        node: NodeNumber,
        /// On which network.
        network: NetworkNumber,
        /// Its status from now on.
        to: InterfaceStatus,
        /// Why.
        cause: String,
    },
    /// A link; `low < high`.
    Link {
        /// One end.
        low: NodeNumber,
        /// The other end.
        high: NodeNumber,
        /// Over which network.
        network: NetworkNumber,
        /// Its status from now on.
        to: LinkStatus,
        /// Why.
        cause: String,
    },
}
