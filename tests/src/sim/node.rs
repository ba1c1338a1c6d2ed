//! One simulated machine: a guard, an agent, a disk, two clocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use vedette_core::command::Proposal;
use vedette_core::director::Director;
use vedette_core::holding::executor::Sightings;
use vedette_core::holding::{Enforcer, Held, Hold, Kept, LeaseNow};
use vedette_core::id::{CommandId, NetworkNumber, NodeNumber, Session};
use vedette_core::model::{AgentStatus, HostStatus, Priority};
use vedette_core::runner::Runner;
use vedette_core::self_status::Past;
use vedette_core::state::ClusterState;
use vedette_core::step_down::StepDown;
use vedette_core::takeover::Word;
use vedette_core::time::Instant;
use vedette_core::topology::{self, Topology};
use vedette_core::wire::Beat;

use super::active_groups::{ActiveGroups, TaskList};
use super::enforcers::{Board, Gate, Heard};
use super::executors::Hand;
use super::journals::Journal;
use super::kernel::Kernel;
use super::world::Event;

/// The process of a guard.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) topology: Topology,
    pub(super) session: Session,
    pub(super) paused: bool,
    /// What arrived while it was stopped.
    pub(super) inbox: Vec<(NetworkNumber, Beat)>,
    /// When its next timer is due.
    pub(super) wake: u64,
    /// Since when it has run without interruption.
    pub(super) steady_since: u64,
    /// When it was started.
    pub(super) started: u64,
    /// What its beats say of what it holds.
    pub(super) word: Word,
    /// Enforces the lease.
    pub(super) enforcer: Enforcer,
    /// The lease that its enforcer knows, and whether that was over then.
    pub(super) lease: LeaseNow,
    pub(super) lease_over: bool,
    /// A release that is under way.
    pub(super) releasing: Option<Held>,
    /// Orders that came while it was stopped.
    pub(super) orders: Vec<Hold>,
    /// Something that came out of its enforcer is being carried out.
    pub(super) carrying: bool,
    /// Whether its agent took part in the seeded cluster; outlives the agent.
    pub(super) continuity: bool,
}

/// The process of an agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) session: Session,
    pub(super) paused: bool,
    pub(super) inbox: VecDeque<Event>,
    pub(super) status: AgentStatus,
    /// It may claim to know the cluster.
    pub(super) quorate: bool,
    /// Whether it gives up the office, and whether it would take it.
    pub(super) step_down: StepDown,
    pub(super) may_lead: bool,
    /// What it knows of before.
    pub(super) past: Past,
    pub(super) director: Director,
    pub(super) wake: u64,
    /// Sessions of other agents that the director was told of.
    pub(super) sessions: BTreeMap<usize, Session>,
    /// The term in which it believes to lead.
    pub(super) leads: Option<u64>,
    /// Since when it has been RUNNING without interruption; `u64::MAX` before.
    pub(super) steady_since: u64,
    /// Scripts that were started and not finished: alerts, then tests.
    pub(super) running: BTreeSet<(bool, u64)>,
    /// Outcomes that are not in the log yet, with the time of the next attempt.
    pub(super) unsaid: BTreeMap<CommandId, (u64, Proposal)>,
    /// What it does for the cluster manager.
    pub(super) desk: TaskList,
    /// Its work for the cluster manager, begun and given up.
    pub(super) runner: Runner,
    /// Looks for what should not run.
    pub(super) sightings: Sightings,
    /// What it does with resources.
    pub(super) hand: Hand,
    /// What its guard told it, and its own eye on the lease.
    pub(super) heard: Heard,
}

/// One machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) number: NodeNumber,
    pub(super) guard: Option<Guard>,
    pub(super) agent: Option<Agent>,
    /// On disk: the state as far as it was applied.
    pub(super) state: ClusterState,
    pub(super) applied: usize,
    /// The state as it was shown last, and up to where it was applied then.
    pub(super) shown: Option<(usize, Arc<ClusterState>)>,
    /// Offset of its monotonic clock, in microseconds.
    pub(super) offset: u64,
    /// How much faster its monotonic clock runs, in parts per million.
    pub(super) drift: i64,
    /// Groups that are active here.
    pub(super) works: ActiveGroups,
    /// What is alive here.
    pub(super) kernel: Kernel,
    /// The kernel's gate, memory that guard and reaper share, and on disk what the guard held.
    pub(super) gate: Gate,
    pub(super) board: Board,
    pub(super) kept: Kept,
    /// On disk: what it wrote down of itself.
    pub(super) journal: Journal,
    /// Offset of its wall clock, in microseconds.
    pub(super) wall: i64,
    /// What its guard was last told of the cluster; kept beside the disk's state.
    pub(super) config: topology::Config,
    /// Since when the machine has been gone; `u64::MAX` while it runs.
    pub(super) gone_since: u64,
    /// Since when it was away before it came the last time.
    pub(super) was_gone: u64,
    /// Networks whose address cannot be used, and answers of ping targets.
    pub(super) unusable: BTreeSet<NetworkNumber>,
    pub(super) probes: BTreeMap<NetworkNumber, bool>,
}

impl Machine {
    pub(super) fn clock(&self, now: u64) -> Instant {
        let gained = now as i64 * self.drift / 1_000_000;
        Instant::from_micros((now + self.offset).saturating_add_signed(gained))
    }

    /// When in the world its clock shows `at`, or a moment later.
    pub(super) fn world_time(&self, at: Instant) -> u64 {
        let local = at.as_micros().saturating_sub(self.offset) as i128;
        (local * 1_000_000 / (1_000_000 + i128::from(self.drift))) as u64 + 1
    }

    /// Whether the agent can do anything.
    pub(super) fn serves(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| !agent.paused)
    }

    /// Since when the agent has been able to testify.
    pub(super) fn testifies_since(&self) -> u64 {
        let guard = self.guard.as_ref().filter(|guard| !guard.paused);
        let agent = self.agent.as_ref().filter(|agent| !agent.paused);
        match (guard, agent) {
            (Some(guard), Some(agent)) => guard.steady_since.max(agent.steady_since),
            _ => u64::MAX,
        }
    }

    /// What the guard has to know, according to the state on disk.
    pub(super) fn wanted_config(&self, session: Session) -> topology::Config {
        let state = &self.state;
        let voters = state.voter_set();
        let networks: Vec<(NetworkNumber, Priority)> =
            state.networks.iter().map(|(number, n)| (*number, n.priority)).collect();
        let peers = state.nodes.values().filter(|node| node.number != self.number);
        topology::Config {
            me: self.number,
            session,
            timing: state.settings.timing,
            networks,
            peers: peers
                .map(|node| topology::Peer {
                    number: node.number,
                    storage: node.storage,
                    live: node.host == HostStatus::Up,
                    networks: node.interfaces.keys().copied().collect(),
                })
                .collect(),
            voters: voters.numbers().collect(),
            voters_since: voters.since,
        }
    }

    /// The state on disk, for whoever keeps it.
    pub(super) fn shown_state(&mut self) -> Arc<ClusterState> {
        match &self.shown {
            Some((applied, state)) if *applied == self.applied => state.clone(),
            _ => {
                let state = Arc::new(self.state.clone());
                self.shown = Some((self.applied, state.clone()));
                state
            }
        }
    }

    pub(super) fn shared_state(&self) -> Arc<ClusterState> {
        Arc::new(self.state.clone())
    }
}
