//! The director: the node whose agent leads the log, and what it does in office (spec A11).
//!
//! It collects everybody's reports, has [`crate::diagnosis`] compare them, and proposes what shall
//! be a fact. It hands out alerts, one at a time, keeps the set of voters healthy, and does for the
//! cluster manager whatever needs a clock. It holds no
//! truth of its own: whatever it knows beyond the replicated state can be learned again by its
//! successor from the next reports, so nothing is handed over when the director changes.
//!
//! The machine is told, and answers with [`Output`]s; whoever runs it draws no conclusions.
//!
//! What always holds:
//!
//! - In office it proposes [`Command::Office`] first, and nothing else before that is applied.
//! - At most one observation, one claim, one change of voters, one eviction and one other proposal
//!   for the manager are under way at a time.
//! - A proposal that was lost is repeated with the same id, or judged anew from the evidence; its
//!   ids are drawn from cluster, term and a counter, so a repeat is harmless.
//! - A failure that may be over in a moment is held back ([`damper`]); the death of a node is not.

pub mod damper;
pub mod voters;

mod alerts;
mod evidence;
mod manager;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::command::Command;
use crate::diagnosis::{Evidence, Received, diagnose};
use crate::id::{CommandId, Hash, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus};
use crate::observation::Report;
use crate::state::{ClusterState, Outcome};
use crate::time::Instant;

use damper::Damper;
use evidence::{Presented, RecentTimers};
use manager::DutyTimers;

/// The name under which the director proposes.
pub const ACTOR: &str = "director";

/// How long a voter may be away before another node votes in its place.
pub const VOTER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a change of voters may take before it is asked for again.
const VOTERS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the director is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node leads the log now.
    Elected {
        /// The term of the election.
        term: u64,
        /// This node.
        me: NodeNumber,
        /// The run of this node's agent; alerts are claimed for it.
        session: Session,
        /// Whether this node's agent took part in the seeded cluster before this moment.
        own_continuity: bool,
    },
    /// This node does not lead the log any more.
    Deposed,
    /// A report arrived, be it a peer's or that of this node's own guard.
    Report(Arc<Report>),
    /// Entries were applied; this is the state now.
    State(Arc<ClusterState>),
    /// A proposal of [`Output::Propose`] was committed and applied, or refused.
    Proposed {
        /// Which.
        id: CommandId,
        /// What became of it.
        outcome: Outcome,
    },
    /// It is not known what became of a proposal; it may be in the log or not.
    Lost {
        /// Which.
        id: CommandId,
    },
    /// A node's agent runs, in this session (known from the connection over which it reports).
    AgentSession {
        /// Which node.
        node: NodeNumber,
        /// In which run.
        session: Session,
    },
    /// The voters according to the log itself, whenever they changed and once after the election.
    Voters(Vec<NodeNumber>),
    /// A change of [`Output::SetVoters`] failed.
    VotersFailed,
}

/// What the director wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
// A few a second, each used up at once: a box would only be in the way.
#[allow(clippy::large_enum_variant)]
pub enum Output {
    /// Propose this, as [`ACTOR`], with this very id, and answer with [`Input::Proposed`] or
    /// [`Input::Lost`]. It is for this node's own log in the term of the office: where this node
    /// leads no more it is lost, and it must never be forwarded to another leader, whose evidence
    /// is newer.
    Propose {
        /// The id that the proposal must carry.
        id: CommandId,
        /// What to propose.
        command: Command,
    },
    /// Make these the voters of the log, in one change (joint consensus, so that adding and removing
    /// are one step with a majority of both sets); everybody else learns. Answer with
    /// [`Input::Voters`] or [`Input::VotersFailed`].
    SetVoters(Vec<NodeNumber>),
}

/// Whether somebody has the office, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Another node is director, or nobody.
    Idle,
    /// Elected; waiting to learn whether the cluster ran before.
    Gathering,
    /// Office was proposed and is not applied yet.
    Entering { id: CommandId, continuity: bool },
    /// In office.
    Serving,
}

/// What the holder of the office is.
#[derive(Clone, Copy, Debug)]
struct Office {
    term: u64,
    me: NodeNumber,
    session: Session,
    since: Instant,
    continuity: bool,
}

/// What is under way, with the index at which it was applied once that is known: the state must
/// have come so far before the next one is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    id: CommandId,
    applied: Option<u64>,
    since: Instant,
}

/// The latest report of a node and when it came.
#[derive(Clone, Debug)]
struct ReceivedReport {
    report: Arc<Report>,
    at: Instant,
    /// When the first report of that run of the guard came.
    first: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Director {
    state: Arc<ClusterState>,
    phase: Phase,
    office: Option<Office>,
    arrivals: BTreeMap<NodeNumber, ReceivedReport>,
    sessions: BTreeMap<NodeNumber, Session>,
    /// Statuses of the state, and since when this director has known them.
    agents: BTreeMap<NodeNumber, (AgentStatus, Instant)>,
    unknown: BTreeMap<NodeNumber, Instant>,
    away: BTreeMap<NodeNumber, Instant>,
    damper: Damper,
    observing: Option<InFlight>,
    claiming: Option<InFlight>,
    recording_voters: Option<InFlight>,
    managing: Option<InFlight>,
    evicting: Option<InFlight>,
    watch: DutyTimers,
    recent_timers: RecentTimers,
    presented: Presented,
    voters: Option<Vec<NodeNumber>>,
    wanted_voters: Option<(Vec<NodeNumber>, Instant)>,
    changing_voters: Option<Instant>,
    proposals: u64,
    next_tick: Option<Instant>,
}

impl Director {
    /// A director that is not in office.
    pub fn new(state: Arc<ClusterState>) -> Self {
        let mut director = Self {
            state: Arc::clone(&state),
            phase: Phase::Idle,
            office: None,
            arrivals: BTreeMap::new(),
            sessions: BTreeMap::new(),
            agents: BTreeMap::new(),
            unknown: BTreeMap::new(),
            away: BTreeMap::new(),
            damper: Damper::default(),
            observing: None,
            claiming: None,
            recording_voters: None,
            managing: None,
            evicting: None,
            watch: DutyTimers::default(),
            recent_timers: RecentTimers::default(),
            presented: Presented::default(),
            voters: None,
            wanted_voters: None,
            changing_voters: None,
            proposals: 0,
            next_tick: None,
        };
        director.take_state(Instant::ZERO, state);
        director
    }

    /// Whether this node is director and its office is applied.
    pub fn serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// When [`Director::on_timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Takes note of `input`.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Elected { term, me, session, own_continuity } => {
                self.elected(
                    now,
                    Office { term, me, session, since: now, continuity: own_continuity },
                );
            }
            Input::Deposed => self.deposed(),
            Input::Report(report) => {
                if !self.take_report(now, report) {
                    return;
                }
            }
            Input::State(state) => {
                self.presented.take(now, &state);
                self.take_state(now, state);
            }
            Input::Proposed { id, outcome } => self.proposed(now, id, &outcome),
            Input::Lost { id } => self.lost(id, out),
            Input::AgentSession { node, session } => {
                self.sessions.insert(node, session);
            }
            Input::Voters(voters) => {
                self.voters = Some(voters);
                self.changing_voters = None;
            }
            // The same change is asked for again when its time-out has passed.
            Input::VotersFailed => {}
        }
        self.act(now, out);
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.next_tick.is_some_and(|at| at <= now) {
            self.act(now, out);
        }
    }

    fn elected(&mut self, now: Instant, office: Office) {
        self.deposed();
        self.sessions.insert(office.me, office.session);
        self.agents = self.agents.iter().map(|(node, (agent, _))| (*node, (*agent, now))).collect();
        self.unknown.values_mut().for_each(|since| *since = now);
        self.away.values_mut().for_each(|since| *since = now);
        self.watch.restart(now);
        self.office = Some(office);
        self.phase = Phase::Gathering;
    }

    fn deposed(&mut self) {
        self.phase = Phase::Idle;
        self.office = None;
        self.damper = Damper::default();
        self.observing = None;
        self.claiming = None;
        self.recording_voters = None;
        self.managing = None;
        self.evicting = None;
        self.voters = None;
        self.wanted_voters = None;
        self.changing_voters = None;
        self.next_tick = None;
    }

    /// Keeps the report unless it is older than what is there. Answers whether it says anything
    /// new: counters and round-trip times alone are not worth a diagnosis.
    fn take_report(&mut self, now: Instant, report: Arc<Report>) -> bool {
        let node = report.observer;
        let known = self.arrivals.get(&node);
        let same_run = known.filter(|known| known.report.session == report.session);
        if same_run.is_some_and(|known| known.report.sequence >= report.sequence) {
            return false;
        }
        let fresh_before = known.is_some_and(|known| now - known.at < self.timing().detect());
        // What ends a lease is told by times alone.
        let waits = !self.holders_away().is_empty();
        let news =
            waits || !fresh_before || same_run.is_none_or(|known| differs(&known.report, &report));
        let first = same_run.map_or(now, |known| known.first);
        self.arrivals.insert(node, ReceivedReport { report, at: now, first });
        news
    }

    fn take_state(&mut self, now: Instant, state: Arc<ClusterState>) {
        let since =
            |away: bool, known: Option<&Instant>| away.then(|| known.copied().unwrap_or(now));
        let (mut agents, mut unknown, mut gone) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for node in state.nodes.values() {
            let number = node.number;
            let known = self.agents.get(&number).filter(|(agent, _)| *agent == node.agent);
            agents.insert(number, (node.agent, known.map_or(now, |(_, at)| *at)));
            if let Some(at) = since(node.host == HostStatus::Unknown, self.unknown.get(&number)) {
                unknown.insert(number, at);
            }
            let away = node.host != HostStatus::Up || node.agent != AgentStatus::Running;
            if let Some(at) = since(away, self.away.get(&number)) {
                gone.insert(number, at);
            }
        }
        (self.agents, self.unknown, self.away) = (agents, unknown, gone);
        self.arrivals.retain(|node, _| state.nodes.contains_key(node));
        self.sessions.retain(|node, _| state.nodes.contains_key(node));
        self.watch.take_state(now, &state);
        self.recent_timers.timing(now, &self.state.settings.timing, &state.settings.timing);
        self.state = state;
    }

    fn proposed(&mut self, now: Instant, done: CommandId, outcome: &Outcome) {
        let index = match outcome {
            Outcome::Applied { index } | Outcome::Repeated { index } => *index,
            Outcome::Refused(_) => 0,
        };
        if let Phase::Entering { id, .. } = self.phase
            && id == done
        {
            // Refused means that a later term is known here already: the office is another's.
            let refused = matches!(outcome, Outcome::Refused(_));
            self.phase = if refused { Phase::Idle } else { Phase::Serving };
            // The first judgement waits for the state that the office made.
            self.observing = Some(InFlight { id, applied: Some(index), since: now });
        }
        for flight in self.flights() {
            if let Some(flight) = flight.as_mut().filter(|flight| flight.id == done) {
                flight.applied = Some(index);
            }
        }
    }

    /// Office is proposed again with the same id; everything else is decided anew.
    fn lost(&mut self, lost: CommandId, out: &mut Vec<Output>) {
        if let (Phase::Entering { id, continuity }, Some(office)) = (self.phase, self.office)
            && id == lost
        {
            out.push(office_command(id, office, continuity));
        }
        for flight in self.flights() {
            if flight.is_some_and(|flight| flight.id == lost) {
                *flight = None;
            }
        }
    }

    /// Everything that is under way.
    fn flights(&mut self) -> [&mut Option<InFlight>; 5] {
        [
            &mut self.observing,
            &mut self.claiming,
            &mut self.recording_voters,
            &mut self.managing,
            &mut self.evicting,
        ]
    }

    fn act(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(office) = self.office else { return };
        self.next_tick = Some(now + self.timing().interval() / 2);
        match self.phase {
            Phase::Idle => self.next_tick = None,
            Phase::Gathering => self.gather(now, office, out),
            Phase::Entering { .. } => {}
            Phase::Serving => self.serve(now, office, out),
        }
    }

    /// Proposes to take office as soon as it is known whether the cluster ran before: at once if
    /// anybody was there, else when everybody has answered or the detection time is over.
    fn gather(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        if self.state.cluster.is_none() {
            return;
        }
        let detect = self.timing().detect();
        let fresh = |at: Instant| now - at < detect;
        let reports = || self.arrivals.values().filter(|arrival| fresh(arrival.at));
        let continuity = office.continuity || reports().any(|a| a.report.continuity);
        let answered: BTreeSet<NodeNumber> =
            reports().map(|a| a.report.observer).chain([office.me]).collect();
        let everybody = self.state.nodes.keys().all(|node| answered.contains(node));
        if !(continuity || everybody || now - office.since >= detect) {
            return;
        }
        let id = self.draw(office);
        self.phase = Phase::Entering { id, continuity };
        out.push(office_command(id, office, continuity));
    }

    fn serve(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        self.land(now);
        self.observe(now, office, out);
        self.manage(now, office, out);
        self.hand_out_alerts(now, office, out);
        self.keep_voters(now, office, out);
    }

    /// Forgets what was under way once the state has come so far. A command that changed nothing
    /// leaves the revision where it is, therefore half a beat is waited at most.
    fn land(&mut self, now: Instant) {
        let patience = self.timing().interval() / 2;
        let revision = self.state.revision;
        for flight in self.flights() {
            let landed = flight.is_some_and(|flight| {
                let late = now - flight.since >= patience;
                flight.applied.is_some_and(|index| revision >= index || late)
            });
            if landed {
                *flight = None;
            }
        }
    }

    fn observe(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        if self.observing.is_some() {
            return;
        }
        let evidence = self.evidence(now, office);
        let wanted = diagnose(&self.state, &evidence, office.me);
        let changes = self.damper.ripe(now, &self.state.settings.timing, wanted);
        self.wake_at(self.damper.deadline(now));
        self.wake_at(self.next_expiry(now));
        if !changes.is_empty() {
            self.observing = Some(self.propose(now, office, Command::Observe { changes }, out));
        }
    }

    fn evidence(&self, now: Instant, office: Office) -> Evidence {
        let received = |arrival: &ReceivedReport| Received {
            report: Arc::clone(&arrival.report),
            age: now - arrival.at,
            observing: now - arrival.first,
        };
        Evidence {
            reports: self.arrivals.iter().map(|(node, a)| (*node, received(a))).collect(),
            in_office: now - office.since,
            agent_settled: self.agents.iter().map(|(n, (_, at))| (*n, now - *at)).collect(),
            unknown_for: self.unknown.iter().map(|(n, at)| (*n, now - *at)).collect(),
        }
    }

    /// When the next report ceases to be fresh: a death must not wait for a tick.
    fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let detect = self.timing().detect();
        self.arrivals.values().map(|arrival| arrival.at + detect).filter(|at| *at > now).min()
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        self.next_tick = self.next_tick.into_iter().chain(at).min();
    }

    fn propose(
        &mut self,
        now: Instant,
        office: Office,
        command: Command,
        out: &mut Vec<Output>,
    ) -> InFlight {
        let id = self.draw(office);
        out.push(Output::Propose { id, command });
        InFlight { id, applied: None, since: now }
    }

    /// The id of the next proposal: unique without randomness, as a node is elected at most once a
    /// term and counts its proposals.
    fn draw(&mut self, office: Office) -> CommandId {
        self.proposals += 1;
        let cluster = self.state.cluster.map(|id| id.0).unwrap_or_default();
        let mut bytes = cluster.to_vec();
        bytes.extend(office.term.to_be_bytes());
        bytes.extend(office.me.0.to_be_bytes());
        bytes.extend(office.session.0.to_be_bytes());
        bytes.extend(self.proposals.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&Hash::of(&bytes).0[..16]);
        CommandId(id)
    }

    fn timing(&self) -> &crate::model::Timing {
        &self.state.settings.timing
    }
}

fn office_command(id: CommandId, office: Office, continuity: bool) -> Output {
    let command = Command::Office { director: office.me, term: office.term, continuity };
    Output::Propose { id, command }
}

/// Whether two reports of one guard differ in anything that a diagnosis looks at.
fn differs(before: &Report, after: &Report) -> bool {
    let links_differ = || {
        before.links.len() != after.links.len()
            || before.links.iter().zip(&after.links).any(|(before, after)| {
                (before.peer, before.network, before.inbound, before.outbound)
                    != (after.peer, after.network, after.inbound, after.outbound)
            })
    };
    before.self_suspect != after.self_suspect
        || before.continuity != after.continuity
        || before.agent != after.agent
        || before.peers.len() != after.peers.len()
        || !before.peers.iter().zip(&after.peers).all(|(before, after)| before.says_the_same(after))
        || before.interfaces != after.interfaces
        || links_differ()
}

#[cfg(test)]
mod tests;
