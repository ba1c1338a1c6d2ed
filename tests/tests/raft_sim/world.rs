//! The world of a simulated cluster: members, their disks, the network between them, and a judge
//! that looks at everything that is applied and at everybody who leads.
//!
//! A message takes its time, may be lost, and may arrive twice; it is delivered even if its sender
//! has stopped waiting. A member that crashed neither sends nor hears, and its old tasks cannot
//! touch its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::async_runtime::{Oneshot, OneshotSender};
use openraft::{AsyncRuntime, SnapshotPolicy};
use openraft_rt_sim::SimRuntime;
use vedette_core::id::RaftId;
use vedette_core::log_memory::LogMemory;
use vedette_core::model::Timing;
use vedette_core::record::Record;
use vedette_core::state::ClusterState;
use vedette_node::log::{
    Applied, Machine, Network, RaftReply, RaftRpc, Remembered, Replica, Standings, Transport,
    TransportError, raft_config,
};

use crate::dice::Dice;
use crate::disk::{Contents, Disk};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub(crate) type Member = Arc<Replica<SimRuntime>>;

#[derive(Default)]
struct Judge {
    /// The state after each index, as the first member to apply it had it.
    history: BTreeMap<u64, Arc<ClusterState>>,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// The first thing that must never happen.
    violation: Option<String>,
    /// How many members got the whole state instead of entries.
    installed: u64,
}

impl Judge {
    fn object(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    /// All members hold the same state at equal index.
    fn applied(&mut self, member: u64, index: u64, state: &Arc<ClusterState>) {
        let first = self.history.entry(index).or_insert_with(|| state.clone());
        if first.head != state.head {
            self.object(format!("member {member} has another chain at index {index}"));
        } else if first != state {
            self.object(format!("member {member} has another state at index {index}"));
        }
    }

    /// At most one leader in a term.
    fn leads(&mut self, member: u64, term: u64) {
        let first = *self.leaders.entry(term).or_insert(member);
        if first != member {
            self.object(format!("members {first} and {member} both lead in term {term}"));
        }
    }
}

struct State {
    dice: Dice,
    judge: Judge,
    disks: BTreeMap<u64, Disk>,
    running: BTreeMap<u64, Member>,
    /// Counts the runs of each member.
    runs: BTreeMap<u64, u64>,
    /// Pairs (from, to) that do not hear each other.
    cut: BTreeSet<(u64, u64)>,
    /// Members to whom nothing comes that carries entries or a state; heartbeats do.
    starved: BTreeSet<u64>,
    /// Everything that each member said of who is behind.
    said: BTreeMap<u64, Vec<Standings>>,
    /// Messages lost, of 100.
    loss: u64,
    lying_disks: bool,
    /// What each member remembers of the others' logs.
    remembered: BTreeMap<u64, Remembered>,
    /// What is kept of it over a crash. It is lost neither with power, as a file.
    memories: BTreeMap<u64, LogMemory>,
}

/// The world; clones share it.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    pub(crate) fn new(dice: Dice, lying_disks: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice,
            judge: Judge::default(),
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
            runs: BTreeMap::new(),
            cut: BTreeSet::new(),
            starved: BTreeSet::new(),
            said: BTreeMap::new(),
            loss: 0,
            lying_disks,
            remembered: BTreeMap::new(),
            memories: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state().judge.violation.clone()
    }

    pub(crate) fn object(&self, violation: String) {
        self.state().judge.object(violation);
    }

    /// Index of the last entry that anybody applied, and the end of the chain there.
    pub(crate) fn end(&self) -> (u64, String) {
        let state = self.state();
        state
            .judge
            .history
            .last_key_value()
            .map_or_else(Default::default, |(index, state)| (*index, state.head.to_string()))
    }

    /// Terms with a leader, and whole states sent, so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.judge.leaders.len() as u64, state.judge.installed)
    }

    pub(crate) fn members(&self) -> Vec<u64> {
        self.state().disks.keys().copied().collect()
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        self.state().running.keys().copied().collect()
    }

    pub(crate) fn member(&self, n: u64) -> Option<Member> {
        self.state().running.get(&n).cloned()
    }

    /// Starts a member on its disk, a new one if it has none.
    pub(crate) async fn start(&self, n: u64) -> Member {
        let (disk, run) = {
            let mut state = self.state();
            let (dice, lies) = (state.dice.split(), state.lying_disks);
            let disk = state.disks.entry(n).or_insert_with(|| Disk::new(dice, lies)).clone();
            let run = state.runs.entry(n).or_default();
            *run += 1;
            (disk, *run)
        };
        let store = disk.store();
        let seat = Seat { world: self.clone(), member: n, run };
        let witness = Arc::new(Witness { seat: seat.clone(), last: Mutex::new(None) });
        let machine = Machine::open(witness, Arc::new(store.clone())).await;
        let mut config = raft_config(&Timing::DEFAULT, "simulation").expect("a good timing");
        let settings = Arc::make_mut(&mut config);
        settings.snapshot_policy = SnapshotPolicy::LogsSinceLast(60);
        settings.max_in_snapshot_log_to_keep = 20;
        settings.purge_batch_size = 1;
        let memory = self.state().memories.get(&n).cloned().unwrap_or_default();
        let remembered = Remembered::new(RaftId(n), memory);
        let (id, wire) = (RaftId(n), Arc::new(seat.clone()));
        let network = Network::new(id, wire, remembered.clone(), &Timing::DEFAULT);
        let started = Replica::start(RaftId(n), config, network, store, machine).await;
        let member = Arc::new(started.expect("a member starts on what its disk kept"));
        let mut state = self.state();
        state.running.insert(n, member.clone());
        state.remembered.insert(n, remembered.clone());
        drop(state);
        drop(SimRuntime::spawn(listen(seat.clone(), remembered)));
        drop(SimRuntime::spawn(watch(seat, member.clone())));
        member
    }

    /// The member's machine loses power.
    pub(crate) fn crash(&self, n: u64) {
        let (disk, member) = {
            let mut state = self.state();
            let Some(member) = state.running.remove(&n) else { return };
            *state.runs.entry(n).or_default() += 1;
            let memory = state.remembered[&n].memory();
            state.memories.insert(n, memory);
            (state.disks[&n].clone(), member)
        };
        disk.fail();
        // The old tasks end; they reach neither disk nor network any more.
        drop(SimRuntime::spawn(async move { member.shutdown().await }));
    }

    /// What a member keeps: its log, and its memory of the others.
    pub(crate) fn copy(&self, n: u64) -> Copy {
        let state = self.state();
        Copy { disk: state.disks[&n].copy(), memory: state.remembered[&n].memory() }
    }

    /// A member loses power, and comes back with an earlier log; with the earlier memory as well, if
    /// somebody put back all of its files.
    pub(crate) async fn revert(&self, n: u64, copy: &Copy, with_memory: bool) -> Member {
        self.crash(n);
        {
            let mut state = self.state();
            state.disks[&n].put_back(copy.disk.clone());
            if with_memory {
                state.memories.insert(n, copy.memory.clone());
            }
        }
        self.start(n).await
    }

    /// Everything that a member said of who is behind, since the beginning.
    pub(crate) fn said(&self, n: u64) -> Vec<Standings> {
        self.state().said.get(&n).cloned().unwrap_or_default()
    }

    /// Members to whom no entries come from now on.
    pub(crate) fn starve(&self, members: &[u64]) {
        self.state().starved = members.iter().copied().collect();
    }

    /// Mends the cables between these.
    pub(crate) fn join(&self, members: &[u64]) {
        self.state().cut.retain(|(a, b)| !members.contains(a) || !members.contains(b));
    }

    /// No message passes from one side to the other, or in one direction only.
    pub(crate) fn part(&self, side: &[u64], one_way: bool) {
        let members = self.members();
        let mut state = self.state();
        for &a in side {
            for &b in members.iter().filter(|b| !side.contains(b)) {
                state.cut.insert((a, b));
                if !one_way {
                    state.cut.insert((b, a));
                }
            }
        }
    }

    /// All cables are mended.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.loss = 0;
    }

    pub(crate) fn lose(&self, percent: u64) {
        self.state().loss = percent;
    }

    /// Ends everything, so that nothing keeps this world alive.
    pub(crate) async fn end_all(&self) {
        let running = std::mem::take(&mut self.state().running);
        for member in running.into_values() {
            member.shutdown().await;
        }
    }
}

/// What was put aside of a member.
pub(crate) struct Copy {
    disk: Contents,
    memory: LogMemory,
}

/// Writes down what the member says of who is behind.
async fn listen(seat: Seat, remembered: Remembered) {
    let mut standings = remembered.standings();
    drop(remembered);
    loop {
        let now = standings.borrow_and_update().clone();
        if !seat.current() {
            return;
        }
        seat.world.state().said.entry(seat.member).or_default().push(now);
        if standings.changed().await.is_err() {
            return;
        }
    }
}

/// Reports the member's leadership and its unwanted end to the judge.
async fn watch(seat: Seat, member: Member) {
    let mut metrics = member.raft().metrics();
    drop(member);
    loop {
        let now = metrics.borrow_watched().clone();
        if !seat.current() {
            return;
        }
        if let Err(why) = now.running_state {
            if seat.world.member(seat.member).is_some() {
                seat.world.object(format!("member {} stopped: {why}", seat.member));
            }
            return;
        }
        if now.state.is_leader() {
            seat.world.state().judge.leads(seat.member, now.current_term);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// One run of one member.
#[derive(Clone)]
struct Seat {
    world: World,
    member: u64,
    run: u64,
}

impl Seat {
    fn current(&self) -> bool {
        self.world.state().runs.get(&self.member) == Some(&self.run)
    }

    /// How long a message takes to `to`, unless it is lost.
    fn travel(&self, from: u64, to: u64) -> Option<Duration> {
        let mut state = self.world.state();
        let loss = state.loss;
        if state.cut.contains(&(from, to)) || state.dice.below(100) < loss {
            return None;
        }
        // Mostly a fast network, now and then a queue in some switch.
        let most = if state.dice.one_in(50) { 80_000 } else { 600 };
        Some(Duration::from_micros(150 + state.dice.below(most)))
    }

    /// There and back.
    async fn deliver(self, to: u64, rpc: RaftRpc) -> Option<RaftReply> {
        SimRuntime::sleep(self.travel(self.member, to)?).await;
        let feeds = match &rpc {
            RaftRpc::Append(append) => !append.entries.is_empty(),
            RaftRpc::Install(_) => true,
            _ => false,
        };
        if feeds && self.world.state().starved.contains(&to) {
            return None;
        }
        let member = self.world.member(to)?;
        let reply = member.serve(rpc).await.ok()?;
        drop(member);
        SimRuntime::sleep(self.travel(to, self.member)?).await;
        Some(reply)
    }
}

impl Transport for Seat {
    fn call(
        &self,
        to: RaftId,
        rpc: RaftRpc,
        ttl: Duration,
    ) -> Boxed<'_, Result<RaftReply, TransportError>> {
        Box::pin(async move {
            if !self.current() || self.world.member(to.0).is_none() {
                return Err(TransportError::Unreachable);
            }
            if self.world.state().dice.one_in(50) {
                drop(SimRuntime::spawn(self.clone().deliver(to.0, rpc.clone())));
            }
            let (sender, receiver) = <SimRuntime as AsyncRuntime>::Oneshot::channel();
            let delivery = self.clone().deliver(to.0, rpc);
            drop(SimRuntime::spawn(async move {
                if let Some(reply) = delivery.await {
                    drop(sender.send(reply));
                } else {
                    // A lost message is silence, not an error.
                    SimRuntime::sleep(ttl).await;
                }
            }));
            receiver.await.map_err(|_| TransportError::Timeout)
        })
    }
}

/// Shows the judge what one run of a member applies.
struct Witness {
    seat: Seat,
    last: Mutex<Option<u64>>,
}

impl Applied for Witness {
    fn applied<'a>(
        &'a self,
        state: &'a Arc<ClusterState>,
        index: u64,
        records: Vec<Record>,
    ) -> Boxed<'a, ()> {
        Box::pin(async move {
            let member = self.seat.member;
            let last = self.last.lock().expect("no panic under the lock").replace(index);
            let mut world = self.seat.world.state();
            if last.is_some_and(|last| last + 1 != index) {
                world.judge.object(format!("member {member} applied {index} after {last:?}"));
            }
            if records.last().is_some_and(|record| record.seq != state.seq) {
                world.judge.object(format!("member {member} lost a record at index {index}"));
            }
            world.judge.applied(member, index, state);
        })
    }

    fn installed<'a>(&'a self, _state: &'a Arc<ClusterState>) -> Boxed<'a, ()> {
        Box::pin(async move {
            *self.last.lock().expect("no panic under the lock") = None;
            self.seat.world.state().judge.installed += 1;
        })
    }
}
