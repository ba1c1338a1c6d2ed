//! What must hold after every event, whatever was done to the cluster.
//!
//! Safety, looked at whenever something is applied, committed, proposed or started:
//! equal state at equal index; records without a gap whose chain verifies; the revision only grows;
//! a command takes effect at most once; nobody is declared DOWN or DISCONNECTED whom a healthy node
//! that the director hears has heard all the time; no commit without a majority; a script runs only
//! for a claim and once for each; an alert is delivered once and never lost; a new director does not
//! take a running cluster for a new one; nobody who is cut off keeps its lease; an entry of a node's own
//! journal is told at most once and in order ([`super::journals`]).
//!
//! Progress, looked at twenty times a second: who has been well for some seconds is UP, who has
//! been gone for some seconds is not, who hears nobody but is heard is DISCONNECTED.

use std::collections::BTreeSet;

use vedette_core::apply::Applied;
use vedette_core::command::{Change, Command, Proposal};
use vedette_core::id::{CommandId, Hash, NodeNumber, Session};
use vedette_core::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus};
use vedette_core::observation::Report;
use vedette_core::record::Code;
use vedette_core::state::Outcome;

use super::agents::links_up;
use super::chaos::LONGEST_LEASE_MS;
use super::consensus::BETWEEN_LOOKS;
use super::journals::Accounts;
use super::world::{MS, Violation, World, index_of, number_of};

/// For how long a connection must have been without any fault to count as evidence of life.
const SURE: u64 = 2_500 * MS;
/// After how long the state must agree with what is plain.
const PLAIN: u64 = 3_500 * MS;

/// What is remembered for the checks.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) violation: Option<Violation>,
    /// Head, sequence number and revision after each index.
    after: Vec<(Hash, u64, u64)>,
    head: Hash,
    seq: u64,
    effective: BTreeSet<CommandId>,
    /// What operators' tests said, to see one that takes effect twice.
    said: BTreeSet<String>,
    operators: std::collections::BTreeMap<CommandId, u64>,
    raised: u64,
    delivered: BTreeSet<u64>,
    started: BTreeSet<(u64, Session)>,
    pub(super) accounts: Accounts,
    /// Since when each host's status has been wrong; for figures.
    nodes: usize,
}

impl Checks {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            violation: None,
            after: Vec::new(),
            head: Hash::default(),
            seq: 0,
            effective: BTreeSet::new(),
            said: BTreeSet::new(),
            operators: std::collections::BTreeMap::new(),
            raised: 0,
            delivered: BTreeSet::new(),
            started: BTreeSet::new(),
            accounts: Accounts::new(),
            nodes,
        }
    }

    pub(super) fn fail(&mut self, at: u64, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, what: what.into() });
        }
    }

    pub(super) fn commit(&mut self, now: u64, majority: bool) {
        if !majority {
            self.fail(now, "a leader committed without a majority");
        }
    }

    pub(super) fn expect_operator(&mut self, id: CommandId, number: u64) {
        self.operators.insert(id, number);
    }
}

impl World {
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.checks.fail(self.now, what);
    }

    /// After an entry was added to the log and applied to the reference.
    pub(super) fn check_committed(&mut self, entry: &Proposal, applied: &Applied) {
        self.check_records(applied);
        self.check_account(entry, applied);
        self.checks.after.push((self.reference.head, self.reference.seq, self.reference.revision));
        let written = self.log.entries.last().map_or(entry.id, |proposal| proposal.id);
        let took_effect = matches!(applied.outcome, Outcome::Applied { .. });
        if took_effect && !self.checks.effective.insert(written) {
            self.fail(format!("command {written} took effect twice"));
        }
        if let (true, Command::TestAlert { message, .. }) = (took_effect, &entry.command)
            && !self.checks.said.insert(message.clone())
        {
            self.fail(format!("the test \"{message}\" was asked for once and is there twice"));
        }
        if let Command::FinishAlert { seq, .. } = entry.command {
            self.check_delivery(seq, applied);
        }
        if let Command::Office { director, continuity: false, .. } = entry.command
            && took_effect
        {
            self.check_continuity(director);
        }
        // The word of an earlier director, committed by a later one, was true when it was given; the
        // later one's own follows.
        if let (true, Command::Office { term, continuity: true, .. }) =
            (took_effect, &entry.command)
            && self.log.leader.is_some_and(|(_, led)| led == *term)
        {
            self.check_blackout();
        }
        self.note_that_it_runs();
        self.answer_operator(written, &applied.outcome);
        self.check_alerts();
    }

    /// An entry that is committed in the term of the present office shows that the cluster runs.
    fn note_that_it_runs(&mut self) {
        let in_office = self.log.leader.is_some_and(|(_, term)| self.reference.term == term);
        if in_office && self.reference.seeded {
            self.log.seeded_until = self.now;
        }
    }

    fn check_records(&mut self, applied: &Applied) {
        for record in &applied.records {
            if record.seq != self.checks.seq + 1 {
                self.fail(format!("record {} follows {}", record.seq, self.checks.seq));
            }
            if record.chained(self.checks.head) != record.hash {
                self.fail(format!("record {} does not fit into the chain", record.seq));
            }
            self.checks.seq = record.seq;
            self.checks.head = record.hash;
            self.checks.raised += u64::from(record.alert);
        }
    }

    fn check_delivery(&mut self, seq: u64, applied: &Applied) {
        let delivered = applied.records.iter().any(|r| r.code == Code::AlertDelivered);
        if delivered && !self.checks.delivered.insert(seq) {
            self.fail(format!("alert {seq} was delivered twice"));
        }
    }

    fn check_alerts(&mut self) {
        let pending = self.reference.alerts.len() as u64;
        let delivered = self.checks.delivered.len() as u64;
        if self.checks.raised != pending + delivered {
            let raised = self.checks.raised;
            self.fail(format!(
                "{raised} alerts were raised, {delivered} delivered, {pending} wait"
            ));
        }
    }

    /// A cluster of which somebody was there all the time has not just started.
    fn check_continuity(&mut self, director: NodeNumber) {
        let director = index_of(director);
        let witness = (0..self.checks.nodes).find(|node| {
            let remembers = self
                .machines
                .get(*node)
                .and_then(|m| m.guard.as_ref())
                .is_some_and(|g| g.continuity);
            remembers
                && self.long_ago(self.machines[*node].testifies_since(), SURE)
                && (*node == director
                    || self.long_ago(self.wires.clean_since(*node, director), SURE))
        });
        if let Some(node) = witness {
            self.fail(format!(
                "the cluster was taken for a new one, though n{} knows better",
                node + 1
            ));
        }
    }

    /// A cluster whose nodes were all away has just started.
    fn check_blackout(&mut self) {
        // It was looked at now and then: who came before the next look may have met a director.
        let until = self.log.seeded_until + BETWEEN_LOOKS;
        let remembers = |machine: &super::node::Machine| {
            let there = machine.guard.as_ref().is_some_and(|guard| guard.started <= until);
            // Who was there a moment ago may have said so before it went, and be back by now.
            let gone = machine.guard.as_ref().map_or(machine.gone_since, |_| machine.was_gone);
            there || (gone > 0 && !self.long_ago(gone, SURE))
        };
        if !self.machines.is_empty() && !self.machines.iter().any(remembers) {
            self.fail("the cluster was taken for a running one, though everybody was away");
        }
    }

    fn answer_operator(&mut self, id: CommandId, outcome: &Outcome) {
        let arrives = self.rng.percent(70);
        if let (Some(number), true) = (self.checks.operators.get(&id), arrives) {
            self.answers.insert(*number, outcome.clone());
        }
    }

    /// After a node applied the entry at `index`.
    pub(super) fn check_applied(&mut self, node: usize, index: usize, before: u64) {
        let state = &self.machines[node].state;
        let seen = (state.head, state.seq, state.revision);
        let revision = state.revision;
        if self.checks.after.get(index - 1) != Some(&seen) {
            self.fail(format!("n{} holds another history after index {index}", node + 1));
        }
        if revision < before {
            self.fail(format!("the revision of n{} went back to {revision}", node + 1));
        }
        if index == self.log.committed() && self.machines[node].state != self.reference {
            self.fail(format!("n{} holds another state at index {index}", node + 1));
        }
    }

    /// Whether an instant lies at least so far back.
    fn long_ago(&self, since: u64, span: u64) -> bool {
        since.checked_add(span).is_some_and(|until| until <= self.now)
    }

    /// Who can vouch, to this director, that a node was there and reachable all the time.
    fn voucher(&self, node: usize, director: usize, span: u64) -> Option<usize> {
        let guard = self.machines[node].guard.as_ref().filter(|guard| !guard.paused)?;
        if self.machines[node].config.peers.is_empty()
            || !self.long_ago(guard.steady_since, span)
            || !self.long_ago(self.machines[director].testifies_since(), span)
        {
            return None;
        }
        (0..self.machines.len()).filter(|other| *other != node).find(|other| {
            self.long_ago(self.machines[*other].testifies_since(), span)
                && self.long_ago(self.wires.clean_since(*other, node), span)
                && (*other == director
                    || self.long_ago(self.wires.clean_since(*other, director), span))
        })
    }

    /// Before a director proposes what it found.
    pub(super) fn check_observation(&mut self, director: usize, changes: &[Change]) {
        for change in changes {
            let Change::Host { node, to, planned: false, cause, .. } = change else { continue };
            if !matches!(to, HostStatus::Down | HostStatus::Disconnected) {
                continue;
            }
            if let Some(voucher) = self.voucher(index_of(*node), director, SURE) {
                let voucher = number_of(voucher);
                self.fail(format!(
                    "n{director} declares n{node} {to} ({cause}), though n{voucher} has reached it all the time",
                    director = director + 1,
                ));
            }
        }
    }

    pub(super) fn check_script_start(&mut self, node: usize, seq: u64) {
        let machine = &self.machines[node];
        let Some(session) = machine.agent.as_ref().map(|agent| agent.session) else { return };
        let claim = machine.state.alerts.get(&seq).and_then(|alert| alert.claim);
        if claim != Some((machine.number, session)) {
            self.fail(format!("n{} runs the script for alert {seq} without a claim", node + 1));
        }
        if !self.checks.started.insert((seq, session)) {
            self.fail(format!("n{} runs the script for alert {seq} twice for one claim", node + 1));
        }
    }

    /// A node that hears nobody cannot be told that it still belongs.
    pub(super) fn check_lease(&mut self, node: usize, report: &Report) {
        // It may not have heard of shorter timers.
        let bound = (LONGEST_LEASE_MS + 100) * MS;
        let deaf = self.wires.deaf_since(node);
        let alone = self.machines[node].config.voters.len() == 1;
        if report.lease && !alone && self.long_ago(deaf, bound) {
            self.fail(format!("n{} keeps its lease though it hears nobody", node + 1));
        }
    }

    /// Whether the state agrees with what has been plain for long.
    pub(super) fn check_now(&mut self) {
        let Some((director, _)) = self.log.leader else { return };
        if !self.long_ago(self.log.leader_since, PLAIN)
            || !self.long_ago(self.machines[director].testifies_since(), PLAIN)
        {
            return;
        }
        for node in (0..self.machines.len()).filter(|node| *node != director) {
            if let Some(what) = self.disagreement(node, director) {
                self.fail(what);
            }
        }
    }

    fn disagreement(&self, node: usize, director: usize) -> Option<String> {
        let number = number_of(node);
        let host = self.reference.nodes.get(&number)?.host;
        if let Some(voucher) = self.voucher(node, director, PLAIN) {
            let voucher = number_of(voucher);
            return (host != HostStatus::Up)
                .then(|| format!("n{number} is {host}, though n{voucher} has long reached it"));
        }
        let stopped = self.machines[node].guard.as_ref().filter(|guard| guard.paused);
        let gone = stopped.map_or(self.machines[node].gone_since, |guard| guard.steady_since);
        if self.long_ago(gone, PLAIN) {
            return (host == HostStatus::Up)
                .then(|| format!("n{number} is UP, though it is long gone"));
        }
        let guard = self.machines[node].guard.as_ref().filter(|guard| !guard.paused)?;
        // Who restarted while it hears nobody cannot prove that its beats are new.
        let deaf = self.wires.deaf_since(node);
        let known = guard.steady_since.max(self.machines[director].testifies_since()) < deaf;
        let heard = self.long_ago(self.wires.clean_one_way_since(node, director), PLAIN);
        (known && heard && self.long_ago(deaf, PLAIN) && host != HostStatus::Disconnected)
            .then(|| format!("n{number} is {host}, though it is heard and long hears nobody"))
    }

    /// What is not well yet, if anything: the bound of the healing phase is on this.
    pub fn ailment(&self) -> Option<String> {
        if self.log.leader.is_none() {
            return Some("nobody leads".into());
        }
        let state = &self.reference;
        for node in state.nodes.values() {
            if node.host != HostStatus::Up || node.agent != AgentStatus::Running {
                return Some(format!("{} is {} and {}", node.name, node.host, node.agent));
            }
            let down = |i: &&vedette_core::model::Interface| i.status != InterfaceStatus::Up;
            if let Some(interface) = node.interfaces.values().find(down) {
                return Some(format!("interface {} of {}", interface.address, node.name));
            }
        }
        if let Some(network) = state.networks.values().find(|n| n.status != NetworkStatus::Up) {
            return Some(format!("network {} is {}", network.name, network.status));
        }
        if !links_up(state) {
            return Some("a link is not up".into());
        }
        if !state.seeded || !state.alerts.is_empty() || !state.tests_done() {
            return Some(format!("{} alerts wait", state.alerts.len()));
        }
        if let Some(ailment) = self.group_ailment().or_else(|| self.untold()) {
            return Some(ailment);
        }
        let behind = self.machines.iter().find(|machine| machine.applied < self.log.committed());
        behind.map(|machine| format!("n{} lags behind", machine.number))
    }
}

/// What the healing phase asks of a state beyond its statuses.
trait Settled {
    fn tests_done(&self) -> bool;
}

impl Settled for vedette_core::state::ClusterState {
    fn tests_done(&self) -> bool {
        self.tests.values().all(|test| test.members.values().all(Option::is_some))
    }
}
