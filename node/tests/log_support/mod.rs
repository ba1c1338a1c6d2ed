//! What the tests of the log share: names, proposals, a witness of what was applied, and a network
//! in memory that connects the members of one test.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use vedette_core::command::{Command, NewNode, Proposal};
use vedette_core::id::{ClusterId, CommandId, NodeNumber, RaftId, StorageId};
use vedette_core::model::{Settings, Severity, Timing};
use vedette_core::record::Record;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;
use vedette_node::log::{
    Applied, Identity, Leadership, Log, LogConfig, LogError, RaftReply, RaftRpc, Transport,
    TransportError,
};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Timers that survive a busy test machine.
pub const TIMING: Timing =
    Timing { raft_heartbeat_ms: 50, election_min_ms: 300, election_max_ms: 600, ..Timing::DEFAULT };

/// Member `n` of the one test cluster.
pub fn identity(n: u64) -> Identity {
    Identity { cluster: ClusterId([7; 16]), raft_id: RaftId(n), storage: StorageId([n as u8; 16]) }
}

/// The `n`th command of a test.
pub fn proposal(n: u64, command: Command) -> Proposal {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Proposal {
        id: CommandId(id),
        at: WallTime(1_000_000 * n as i64),
        origin: NodeNumber(1),
        actor: "root@n1".into(),
        command,
        tick: None,
    }
}

/// The command that forms a cluster with member `n` of the log.
pub fn form(n: u64) -> Proposal {
    proposal(
        0,
        Command::Form {
            cluster: ClusterId([7; 16]),
            name: "test".into(),
            settings: Settings::default(),
            networks: BTreeMap::new(),
            first: first_node(),
            raft_id: RaftId(n),
        },
    )
}

fn first_node() -> NewNode {
    NewNode {
        number: NodeNumber(1),
        name: "n1".into(),
        storage: StorageId([1; 16]),
        version: "0.1.0".into(),
        addresses: BTreeMap::new(),
    }
}

/// A small command whose every repetition makes a record.
pub fn chatter(n: u64) -> Proposal {
    let level = if n.is_multiple_of(2) { Severity::Error } else { Severity::Warning };
    proposal(n, Command::SetLoggingLevel(level))
}

/// Remembers everything that was applied.
#[derive(Default)]
pub struct Witness {
    seen: Mutex<Seen>,
}

/// What a [`Witness`] saw.
#[derive(Clone, Default)]
pub struct Seen {
    /// Indexes applied, in the order of their application.
    pub indexes: Vec<u64>,
    /// Sequence numbers of records.
    pub records: Vec<u64>,
    /// Sequence number of each state that was installed.
    pub installed: Vec<u64>,
    /// The last state.
    pub state: Arc<ClusterState>,
}

impl Witness {
    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic under the lock").clone()
    }
}

impl Applied for Witness {
    fn applied<'a>(
        &'a self,
        state: &'a Arc<ClusterState>,
        index: u64,
        records: Vec<Record>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut seen = self.seen.lock().expect("no panic under the lock");
            seen.indexes.push(index);
            seen.records.extend(records.iter().map(|record| record.seq));
            seen.state = state.clone();
        })
    }

    fn installed<'a>(&'a self, state: &'a Arc<ClusterState>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut seen = self.seen.lock().expect("no panic under the lock");
            seen.installed.push(state.seq);
            seen.state = state.clone();
        })
    }
}

/// Which members can be reached; everything passes through JSON, as on a real network.
#[derive(Default)]
pub struct Switch {
    members: Mutex<BTreeMap<RaftId, Log>>,
    cut: Mutex<BTreeSet<RaftId>>,
}

impl Switch {
    fn connect(&self, member: RaftId, log: Log) {
        self.members.lock().expect("no panic under the lock").insert(member, log);
    }

    fn disconnect(&self, member: RaftId) {
        self.members.lock().expect("no panic under the lock").remove(&member);
    }

    /// Cuts a member off from all others, or lets it in again.
    pub fn cut(&self, member: RaftId, cut: bool) {
        let mut all = self.cut.lock().expect("no panic under the lock");
        if cut {
            all.insert(member)
        } else {
            all.remove(&member)
        };
    }

    fn is_cut(&self, member: RaftId) -> bool {
        self.cut.lock().expect("no panic under the lock").contains(&member)
    }

    fn find(&self, from: RaftId, to: RaftId) -> Option<Log> {
        if self.is_cut(from) || self.is_cut(to) {
            return None;
        }
        self.members.lock().expect("no panic under the lock").get(&to).cloned()
    }
}

/// One member's plug in the switch.
pub struct Plug {
    from: RaftId,
    switch: Arc<Switch>,
}

impl Transport for Plug {
    fn call(
        &self,
        to: RaftId,
        rpc: RaftRpc,
        _ttl: Duration,
    ) -> BoxFuture<'_, Result<RaftReply, TransportError>> {
        Box::pin(async move {
            let log = self.switch.find(self.from, to).ok_or(TransportError::Unreachable)?;
            let rpc = serde_json::to_vec(&rpc).expect("a question is JSON");
            let rpc = serde_json::from_slice(&rpc).expect("JSON is a question");
            let reply = log.serve(rpc).await;
            let reply = reply.map_err(|error| TransportError::Refused(error.to_string()))?;
            // An answer does not come back over a link that was cut meanwhile.
            self.switch.find(self.from, to).ok_or(TransportError::Timeout)?;
            let reply = serde_json::to_vec(&reply).expect("an answer is JSON");
            Ok(serde_json::from_slice(&reply).expect("JSON is an answer"))
        })
    }
}

/// The members of one test.
pub struct Cluster {
    dir: TempDir,
    pub switch: Arc<Switch>,
    running: BTreeMap<u64, (Log, Arc<Witness>)>,
}

impl Cluster {
    /// No member yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the databases");
        Self { dir, switch: Arc::default(), running: BTreeMap::new() }
    }

    /// Where the database of a member is.
    pub fn path(&self, n: u64) -> PathBuf {
        self.dir.path().join(format!("{n}.db"))
    }

    /// Starts a member that was never started before, or again.
    pub async fn start(&mut self, n: u64, create: bool) -> Log {
        let witness = Arc::new(Witness::default());
        let plug = Plug { from: RaftId(n), switch: self.switch.clone() };
        let log = open(&self.path(n), n, create, Arc::new(plug), witness.clone())
            .await
            .expect("the log opens");
        self.switch.connect(RaftId(n), log.clone());
        self.running.insert(n, (log.clone(), witness));
        log
    }

    /// Members `1..=n`, all voters, with a formed cluster.
    pub async fn of(n: u64) -> Self {
        let mut cluster = Self::new();
        let first = cluster.start(1, true).await;
        first.form(form(1)).await.expect("the cluster forms");
        for member in 2..=n {
            cluster.start(member, true).await;
            first.add_learner(RaftId(member)).await.expect("it learns");
        }
        first.set_voters((1..=n).map(RaftId).collect()).await.expect("all vote");
        cluster
    }

    /// A running member.
    pub fn log(&self, n: u64) -> &Log {
        &self.running[&n].0
    }

    /// What a running member saw.
    pub fn seen(&self, n: u64) -> Seen {
        self.running[&n].1.seen()
    }

    /// Ends a member; nobody reaches it from now on.
    pub async fn stop(&mut self, n: u64) {
        self.switch.disconnect(RaftId(n));
        if let Some((log, _)) = self.running.remove(&n) {
            log.shutdown().await;
        }
    }

    /// The member that the running ones follow, once all of them follow the same.
    pub async fn leader(&self) -> u64 {
        let mut leader = 0;
        for (log, _) in self.running.values() {
            let now = until(log, |now| {
                now.leader.is_some_and(|leader| self.running.contains_key(&leader.0))
            })
            .await;
            leader = now.leader.expect("just seen").0;
        }
        leader
    }

    /// The one of `members` that they all follow.
    pub async fn leader_of(&self, members: &[u64]) -> u64 {
        let mut leader = 0;
        for member in members {
            let fits = |now: &Leadership| now.leader.is_some_and(|it| members.contains(&it.0));
            leader = until(self.log(*member), fits).await.leader.expect("just seen").0;
        }
        leader
    }

    /// Proposes wherever the leader is, as long as it takes.
    pub async fn propose(&self, proposal: Proposal) -> vedette_core::state::Outcome {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let leader = self.leader().await;
                match self.log(leader).propose(proposal.clone()).await {
                    Ok(outcome) => return outcome,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
        .expect("the proposal is applied in time")
    }

    /// Waits until a member has applied what `index` names.
    pub async fn applied(&self, n: u64, index: u64) {
        until(self.log(n), |now| now.last_applied >= index).await;
    }
}

/// Opens one log.
pub async fn open(
    path: &Path,
    n: u64,
    create: bool,
    transport: Arc<dyn Transport>,
    witness: Arc<Witness>,
) -> Result<Log, LogError> {
    let config = LogConfig { path: path.into(), identity: identity(n), timing: TIMING, create };
    Log::open(config, transport, witness).await
}

/// Waits until a member's view of the leadership fits.
pub async fn until(log: &Log, fits: impl Fn(&Leadership) -> bool) -> Leadership {
    let mut leadership = log.leadership();
    let found = tokio::time::timeout(PATIENCE, leadership.wait_for(|now| fits(now)))
        .await
        .unwrap_or_else(|_| panic!("not in time; last seen: {:?}", log.leadership().borrow()))
        .expect("the member runs");
    found.clone()
}

/// A transport that reaches nobody.
pub struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        _to: RaftId,
        _rpc: RaftRpc,
        _ttl: Duration,
    ) -> BoxFuture<'_, Result<RaftReply, TransportError>> {
        Box::pin(async { Err(TransportError::Unreachable) })
    }
}
