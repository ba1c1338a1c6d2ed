//! Agents: they apply the log, run the director when they lead, and run scripts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::apply::Applied;
use vedette_core::command::{Change, Command, ManagerCommand, Proposal};
use vedette_core::director::{self, Director};
use vedette_core::event::Running;
use vedette_core::holding::Input;
use vedette_core::id::{CommandId, NodeNumber, Session};
use vedette_core::model::{AgentStatus, HostStatus, LinkStatus, RunOutcome};
use vedette_core::observation::Report;
use vedette_core::record::Code;
use vedette_core::runner::Runner;
use vedette_core::self_status::{Disk, LogSeen, Past, SelfFacts, SelfStatus, as_believed};
use vedette_core::state::ClusterState;
use vedette_core::step_down;
use vedette_core::trigger::Trigger;

use super::Bug;
use super::active_groups::TaskList;
use super::node::Agent;
use super::world::{Event, MS, World, number_of};

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        self.drawn += 1;
        let session = self.drawn;
        let machine = &mut self.machines[node];
        let Some(guard) = machine.guard.as_ref().filter(|_| machine.agent.is_none()) else {
            return;
        };
        if guard.paused {
            self.schedule(100 * MS, Event::AgentStart { node });
            return;
        }
        let hand = self.new_hand(node);
        let machine = &mut self.machines[node];
        let log = machine.state.settings.timing.log();
        machine.agent = Some(Agent {
            session: Session(session),
            paused: false,
            inbox: VecDeque::new(),
            status: AgentStatus::Initializing,
            quorate: false,
            past: Past::default(),
            step_down: Default::default(),
            may_lead: true,
            director: Director::new(machine.shared_state()),
            wake: u64::MAX,
            sessions: BTreeMap::new(),
            leads: None,
            steady_since: u64::MAX,
            running: BTreeSet::new(),
            unsaid: BTreeMap::new(),
            desk: TaskList::default(),
            hand,
            sightings: Default::default(),
            runner: Runner::new(machine.number, Session(session), log),
            heard: Default::default(),
        });
        self.tell_guard(node);
        self.enforce(node, Input::Agent(true));
        self.schedule(20 * MS, Event::AgentRound { node, session });
    }

    /// The agent dies, its guard sees it and starts another.
    pub(super) fn kill_agent(&mut self, node: usize) {
        if self.machines[node].agent.is_none() {
            return;
        }
        self.drop_agent(node);
        self.tell_guard(node);
        let start = self.rng.range(50, 300) * MS;
        self.schedule(start, Event::AgentStart { node });
    }

    pub(super) fn drop_agent(&mut self, node: usize) {
        self.leave_under_way(node);
        self.machines[node].agent = None;
    }

    pub(super) fn pause_agent(&mut self, node: usize, paused: bool) {
        let now = self.now;
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.paused == paused {
            return;
        }
        agent.paused = paused;
        if agent.steady_since != u64::MAX {
            agent.steady_since = now;
        }
        if paused {
            return;
        }
        let inbox = std::mem::take(&mut agent.inbox);
        for event in inbox {
            self.schedule(0, event);
        }
        self.go_on_watching(node);
    }

    /// The disk is lost with everything on it; the machine comes back without it.
    pub(super) fn wipe(&mut self, node: usize) {
        let safe = self
            .log
            .voters
            .iter()
            .filter(|v| **v != node)
            .all(|v| self.log.stored[*v] == self.log.committed());
        // A log keeps what a minority of disks loses, and no more; the world keeps to that.
        if !safe {
            return;
        }
        self.power_off(node);
        let machine = &mut self.machines[node];
        machine.state = ClusterState::default();
        machine.applied = 0;
        self.log.stored[node] = 0;
        self.lose_journal(node);
    }

    pub(super) fn director_step(&mut self, node: usize, input: Option<director::Input>) {
        let clock = self.machines[node].clock(self.now);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let mut out = Vec::new();
        match input {
            Some(input) => agent.director.handle(clock, input, &mut out),
            None => agent.director.on_timeout(clock, &mut out),
        }
        for output in out {
            match output {
                director::Output::Propose { id, command } => {
                    self.director_proposes(node, id, command)
                }
                director::Output::SetVoters(voters) => self.ask_for_voters(node, voters),
            }
        }
        self.wake_director(node);
    }

    fn wake_director(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let deadline = machine.agent.as_ref().and_then(|agent| agent.director.deadline());
        let Some(at) = deadline.map(|deadline| machine.world_time(deadline)) else { return };
        let Some(agent) = machine.agent.as_mut() else { return };
        // Rounded up: a process that wakes too early finds nothing to do.
        let at = at.max(now);
        if at < agent.wake {
            agent.wake = at;
            self.schedule(at - now, Event::DirectorTimer { node });
        }
    }

    pub(super) fn director_timer(&mut self, node: usize) {
        let now = self.now;
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        // A later timer was replaced by an earlier one, or its event waited while it was stopped.
        if agent.wake > now {
            return;
        }
        agent.wake = u64::MAX;
        self.director_step(node, None);
    }

    fn director_proposes(&mut self, node: usize, id: CommandId, command: Command) {
        let Some(command) = self.spoil(command) else {
            self.schedule(5 * MS, Event::Lost { node, id });
            return;
        };
        if let Command::Observe { changes } = &command {
            self.check_observation(node, changes);
        }
        let mut proposal = self.proposal(node, director::ACTOR, command);
        proposal.id = id;
        self.submit_in_office(node, proposal);
    }

    /// What a director with a mistake in it would propose instead.
    fn spoil(&self, command: Command) -> Option<Command> {
        match (self.bug, command) {
            (Some(Bug::ContinuityLost), Command::Office { director, term, .. }) => {
                Some(Command::Office { director, term, continuity: false })
            }
            (Some(Bug::ContinuityInvented), Command::Office { director, term, .. }) => {
                Some(Command::Office { director, term, continuity: true })
            }
            (Some(Bug::ClaimNeverRenewed), Command::ClaimAlert { seq, .. })
                if self.reference.alerts.get(&seq).is_some_and(|alert| alert.claim.is_some()) =>
            {
                None
            }
            (Some(Bug::FailedNotAside), Command::Manager(ManagerCommand::BeginVote { .. }))
                if self.reference.manager.current.as_ref().is_some_and(Running::is_stuck) =>
            {
                None
            }
            (Some(Bug::SlowNotAside), Command::Manager(ManagerCommand::BeginVote { .. }))
                if self.reference.manager.current.as_ref().is_some_and(Running::is_at_work) =>
            {
                None
            }
            (Some(Bug::JoinWaits), Command::Manager(ManagerCommand::BeginVote { event }))
                if self.joins_meanwhile(event) =>
            {
                None
            }
            (Some(Bug::SilenceIgnored), Command::Observe { mut changes }) => {
                changes.retain(|c| !matches!(c, Change::Host { to: HostStatus::Down, .. }));
                Some(Command::Observe { changes })
            }
            (Some(Bug::ReturnIgnored), Command::Observe { mut changes }) => {
                let was = |n: &NodeNumber| self.reference.nodes.get(n).map(|node| node.host);
                changes.retain(|c| {
                    !matches!(c, Change::Host { to: HostStatus::Up, node, .. }
                        if was(node) == Some(HostStatus::Down))
                });
                Some(Command::Observe { changes })
            }
            (_, command) => Some(command),
        }
    }

    /// Whether an event brings back a node whose failure is still being recovered from.
    fn joins_meanwhile(&self, event: u64) -> bool {
        let manager = &self.reference.manager;
        let joins =
            manager.queue.iter().find(|it| it.id == event).and_then(|it| match it.trigger {
                Trigger::NodeUp(node) => Some(node),
                _ => None,
            });
        let failed = |node| Trigger::NodeDown { node, stop: None };
        joins.is_some_and(|node| manager.begun().any(|it| it.event.trigger == failed(node)))
    }

    pub(super) fn report_arrives(&mut self, to: usize, from: usize, report: Arc<Report>) {
        let session = self.machines[from].agent.as_ref().map(|agent| agent.session);
        let Some(agent) = self.machines[to].agent.as_mut() else { return };
        if let Some(session) = session.filter(|s| agent.sessions.get(&from) != Some(s)) {
            agent.sessions.insert(from, session);
            let node = number_of(from);
            self.director_step(to, Some(director::Input::AgentSession { node, session }));
        }
        let Some(report) = self.misread(to, from, report) else { return };
        self.director_step(to, Some(director::Input::Report(report)));
    }

    /// What a director with a mistake in it would make of a report.
    fn misread(&mut self, to: usize, from: usize, report: Arc<Report>) -> Option<Arc<Report>> {
        match self.bug {
            Some(Bug::OnlyOwnReport) => (from == to).then_some(report),
            Some(Bug::SuspectBelieved) if report.self_suspect && from != to => {
                self.believe_suspect(to, &report);
                Some(report)
            }
            Some(Bug::NoDetectionTime) => Some(Arc::new(impatient(&report))),
            Some(Bug::SilenceOfOne) if from != to => {
                let mut report = Report::clone(&report);
                let now = self.machines[to].clock(self.now).as_micros();
                for view in &mut report.peers {
                    (view.silent_us, view.sent_us) = (now, now);
                }
                Some(Arc::new(report))
            }
            _ => Some(report),
        }
    }

    /// An observer that was stopped heard nobody; a careless one would say that they are all dead,
    /// and a careless director would believe it.
    fn believe_suspect(&mut self, node: usize, report: &Report) {
        let changes: Vec<Change> = report
            .peers
            .iter()
            .filter(|peer| self.reference.nodes[&peer.peer].host == HostStatus::Up)
            .map(|peer| Change::Host {
                node: peer.peer,
                to: HostStatus::Down,
                planned: false,
                cause: "an observer that was stopped says so".into(),
                silent_ms: None,
            })
            .collect();
        if !changes.is_empty() {
            self.check_observation(node, &changes);
            let proposal = self.proposal(node, director::ACTOR, Command::Observe { changes });
            self.submit_in_office(node, proposal);
        }
    }

    /// What an agent does ten times a second.
    pub(super) fn agent_round(&mut self, node: usize, session: u64) {
        let Some(agent) = self.machines[node].agent.as_ref() else { return };
        if agent.session != Session(session) {
            return;
        }
        self.schedule(100 * MS, Event::AgentRound { node, session });
        self.catch_up_from_leader(node);
        self.say_unsaid(node);
        self.miss_reports(node);
        self.show(node);
        self.look_after_groups(node);
        self.keep_journal(node);
        if self.log.leads(node) {
            self.tell_guard(node);
        }
    }

    /// How the node stands, by its guard's report, its log and its state.
    pub(super) fn stand(&mut self, node: usize) {
        let (now, led, committed) = (self.now, self.led_in(node), self.log.committed());
        let machine = &mut self.machines[node];
        let clock = machine.clock(now);
        let lease = Duration::from_millis(machine.state.settings.timing.lease_ms);
        let Some(agent) = machine.agent.as_mut() else { return };
        let report = agent.heard.report.as_ref().map(|(at, report)| {
            as_believed(report, clock.since(*at), lease).map_or_else(|| report.clone(), Arc::new)
        });
        let log = LogSeen {
            leads: agent.leads.is_some(),
            led: led.is_some(),
            term: led.unwrap_or_default(),
            applied: machine.applied as u64,
            committed: committed as u64,
        };
        let facts = SelfFacts {
            me: machine.number,
            state: &machine.state,
            log,
            report: report.as_deref(),
            disk: &Disk::Takes,
            deleted: None,
        };
        let own = SelfStatus::of(&facts, agent.past);
        agent.past = own.past();
        let became = own.agent == AgentStatus::Running && agent.status != own.agent;
        (agent.status, agent.quorate) = (own.agent, own.quorate);
        if became {
            agent.steady_since = now;
        }
        let guard = machine.guard.as_mut();
        let news = guard.is_some_and(|guard| {
            std::mem::replace(&mut guard.continuity, own.continuity) != own.continuity
        });
        if became || news {
            self.tell_guard(node);
        }
    }

    /// Reports of its guard may be missing.
    fn miss_reports(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let (clock, detect) = (machine.clock(self.now), machine.state.settings.timing.detect());
        let Some(agent) = machine.agent.as_mut() else { return };
        let mut out = Vec::new();
        if agent.step_down.deadline().is_some_and(|at| at <= clock) {
            agent.step_down.on_timeout(clock, detect, &mut out);
        }
        self.step_down(node, out);
    }

    /// A director gives up the office by itself, if another node can have it.
    pub(super) fn step_down(&mut self, node: usize, out: Vec<step_down::Output>) {
        for output in out {
            match output {
                step_down::Output::MayLead(may) => {
                    if let Some(agent) = self.machines[node].agent.as_mut() {
                        agent.may_lead = may;
                    }
                }
                step_down::Output::HandOver => self.hand_over(node),
            }
        }
    }

    /// Outcomes of scripts are said until they are in the log.
    pub(super) fn say_unsaid(&mut self, node: usize) {
        let now = self.now;
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let due: Vec<CommandId> =
            agent.unsaid.iter().filter(|(_, (at, _))| *at <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(agent) = self.machines[node].agent.as_mut() else { return };
            let Some((at, proposal)) = agent.unsaid.get_mut(&id) else { continue };
            *at = now + 500 * MS;
            let proposal = proposal.clone();
            self.submit(node, proposal);
        }
    }

    /// Applies the next entry on a node.
    pub(super) fn apply_next(&mut self, node: usize) -> Option<Applied> {
        let mut index = self.machines[node].applied + 1;
        if self.bug == Some(Bug::EntrySkipped)
            && index < self.log.committed()
            && self.rng.percent(2)
        {
            index += 1;
        }
        let proposal = self.read_entry(index)?;
        let machine = &mut self.machines[node];
        let before = machine.state.revision;
        let applied = machine.state.apply(index as u64, &proposal);
        machine.applied = index;
        if self.bug == Some(Bug::AppliedTwice) && self.rng.percent(2) {
            let again = Proposal { id: CommandId([0xbb; 16]), ..proposal };
            self.machines[node].state.apply(index as u64, &again);
        }
        self.check_applied(node, index, before);
        let moved = applied.records.iter().any(|record| {
            matches!(
                record.code,
                Code::NodeHost
                    | Code::NodeAdded
                    | Code::NodeRemoved
                    | Code::SettingChanged
                    | Code::VotersChanged
            ) || record.code == Code::DirectorElected
        });
        if moved {
            self.reconfigure_guard(node);
        }
        Some(applied)
    }

    /// What the log holds at an index; a node that does not look at ids sees a new one each time.
    pub(super) fn read_entry(&mut self, index: usize) -> Option<Proposal> {
        let mut proposal = self.log.entries.get(index - 1)?.clone();
        if self.bug == Some(Bug::RepeatNotNoticed) {
            proposal.id.0[..8].copy_from_slice(&(index as u64).to_be_bytes());
        }
        Some(proposal)
    }

    /// Looks for scripts that are this node's to run, and for the cluster manager's work.
    pub(super) fn look_for_scripts(&mut self, node: usize) {
        self.look_for_work(node);
        let machine = &self.machines[node];
        let Some(agent) = machine.agent.as_ref() else { return };
        let me = (machine.number, agent.session);
        let mine = |claim| claim == Some(me) || self.bug == Some(Bug::ClaimIgnored);
        let alerts = machine.state.alerts.iter().filter(|(_, alert)| mine(alert.claim));
        let mut work: Vec<(bool, u64)> = alerts.map(|(seq, _)| (false, *seq)).collect();
        let asked = |test: &vedette_core::model::AlertTest| {
            test.members.get(&machine.number).is_some_and(Option::is_none)
        };
        work.extend(machine.state.tests.values().filter(|t| asked(t)).map(|t| (true, t.id)));
        work.retain(|job| !agent.running.contains(job));
        for (test, id) in work {
            self.run_script(node, test, id);
        }
    }

    fn run_script(&mut self, node: usize, test: bool, id: u64) {
        let takes = self.rng.range(20, 150) * MS;
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        agent.running.insert((test, id));
        let session = agent.session.0;
        if !test {
            self.script_runs.push((id, node));
            self.check_script_start(node, id);
        }
        if !self.hanging_scripts {
            self.schedule(takes, Event::ScriptEnds { node, session, test, id });
        }
    }

    pub(super) fn script_ends(&mut self, node: usize, session: u64, test: bool, id: u64) {
        let machine = &self.machines[node];
        let Some(agent) = machine.agent.as_ref() else { return };
        if agent.session != Session(session) {
            return;
        }
        let (runner, session) = (machine.number, agent.session);
        let outcome = self.script_outcome(node);
        let command = if test {
            Command::FinishAlertTest { id, node: runner, outcome }
        } else if self.bug == Some(Bug::ClaimIgnored) {
            let claim = self.reference.alerts.get(&id).and_then(|alert| alert.claim);
            let (runner, session) = claim.unwrap_or((runner, session));
            Command::FinishAlert { seq: id, runner, session, outcome }
        } else {
            Command::FinishAlert { seq: id, runner, session, outcome }
        };
        let proposal = self.proposal(node, "agent", command);
        if let Some(agent) = self.machines[node].agent.as_mut() {
            agent.unsaid.insert(proposal.id, (self.now, proposal));
        }
        self.say_unsaid(node);
    }

    fn script_outcome(&self, node: usize) -> RunOutcome {
        let fails = self.failing_scripts.contains(&node);
        RunOutcome {
            exit: Some(i32::from(fails)),
            signal: None,
            timed_out: false,
            failure: None,
            output: if fails { "no mailer" } else { "sent" }.into(),
            output_dropped: 0,
            duration_ms: 40,
            version: self.reference.script.active,
            transcript: None,
        }
    }

    /// Forgets outcomes that have arrived in the log.
    pub(super) fn said(&mut self, node: usize, id: CommandId) {
        if let Some(agent) = self.machines[node].agent.as_mut() {
            agent.unsaid.remove(&id);
        }
        self.presented(node, id);
        self.reported(node, id);
    }
}

/// A report as an observer without patience would make it: what was not heard in this very moment
/// is dead.
fn impatient(report: &Report) -> Report {
    let mut report = report.clone();
    for link in &mut report.links {
        if link.silent.is_some_and(|silent| silent > Duration::from_millis(150)) {
            link.inbound = false;
            link.outbound = false;
            link.silent = Some(Duration::from_secs(1));
        }
    }
    report
}

/// Whether every link that is known works.
pub(super) fn links_up(state: &ClusterState) -> bool {
    state.links.iter().all(|link| link.status == LinkStatus::Up)
}
