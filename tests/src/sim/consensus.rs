//! How proposals become entries, how entries reach the nodes, and who leads.

use vedette_core::apply::Applied;
use vedette_core::command::{Command, GroupCommand, Proposal, Tick};
use vedette_core::director;
use vedette_core::id::{CommandId, NodeNumber, Session};
use vedette_core::model::HostStatus;
use vedette_core::state::Outcome;
use vedette_core::takeover::LetGo;

use super::Bug;
use super::log::Log;
use super::world::{Event, MS, Trouble, World, index_of, number_of};

/// Between two looks at the leader.
pub(super) const BETWEEN_LOOKS: u64 = 50 * MS;

impl World {
    /// A node hands a proposal to whoever leads, as far as it knows.
    pub(super) fn submit(&mut self, node: usize, proposal: Proposal) {
        let delay = self.rng.range(2, 8) * MS;
        match self.log.leader {
            Some((by, term)) if self.wires.connected(node, by) => {
                let proposal = Box::new(proposal);
                self.schedule(delay, Event::Commit { by, term, proposal, tries: 0 });
            }
            _ => self.schedule(300 * MS, Event::Lost { node, id: proposal.id }),
        }
    }

    /// A director's proposal goes to the log of its own node and term, and nowhere else: one that was
    /// deposed without knowing must not have its judgement forwarded to its successor.
    pub(super) fn submit_in_office(&mut self, node: usize, proposal: Proposal) {
        let delay = self.rng.range(2, 8) * MS;
        let office = self.machines[node].agent.as_ref().and_then(|agent| agent.leads);
        match office {
            Some(term) => {
                let proposal = Box::new(proposal);
                self.schedule(delay, Event::Commit { by: node, term, proposal, tries: 0 });
            }
            None => self.schedule(300 * MS, Event::Lost { node, id: proposal.id }),
        }
    }

    /// Whether what a leader proposes is committed.
    pub(super) fn commits(&self, leader: usize) -> bool {
        self.has_majority(leader, &self.log.voters)
    }

    /// Whether a node reaches a majority of voters, itself included.
    fn has_majority(&self, node: usize, voters: &[usize]) -> bool {
        let reached = voters.iter().filter(|voter| {
            **voter == node
                || (self.machines[**voter].serves() && self.wires.connected(node, **voter))
        });
        Log::majority(voters, reached.count())
    }

    pub(super) fn commit(&mut self, by: usize, term: u64, proposal: Proposal, tries: u32) {
        let proposer = index_of(proposal.origin);
        if self.log.leader != Some((by, term)) || !self.machines[by].serves() {
            let id = proposal.id;
            // Some voter may have received it; then the next leader finds it in its log.
            if tries == 0 && self.rng.percent(33) {
                self.log.limbo.push_back(proposal);
            }
            self.schedule(300 * MS, Event::Lost { node: proposer, id });
            return;
        }
        let majority = self.has_majority(by, &self.log.voters);
        if !majority && self.bug != Some(Bug::MinorityCommits) {
            let proposal = Box::new(proposal);
            self.schedule(50 * MS, Event::Commit { by, term, proposal, tries: tries + 1 });
            return;
        }
        self.checks.commit(self.now, majority);
        self.see_to_it(&proposal);
        let id = proposal.id;
        let applied = self.append(proposal);
        self.spread(by);
        if proposer != by {
            self.said(proposer, id);
        } else {
            let outcome = applied.outcome;
            self.said(by, id);
            self.director_step(by, Some(director::Input::Proposed { id, outcome }));
        }
    }

    /// Adds an entry to the log, and to the reference. Its leader stamps it with its clocks.
    pub(super) fn append(&mut self, mut proposal: Proposal) -> Applied {
        if let Some((_, term)) = self.log.leader {
            let run = Session(term);
            proposal.tick = Some(Tick { run, us: self.now, ahead_us: None });
        }
        self.log.entries.push(proposal);
        let index = self.log.committed();
        let Some(entry) = self.read_entry(index) else {
            return Applied { outcome: Outcome::Applied { index: 0 }, records: Vec::new() };
        };
        let before = self.before(&entry);
        let applied = self.reference.apply(index as u64, &entry);
        self.note_ends(&entry, before);
        self.check_committed(&entry, &applied);
        self.note_records(&applied);
        if let Some(history) = &mut self.history {
            history.extend(applied.records.iter().cloned());
        }
        applied
    }

    fn note_records(&mut self, applied: &Applied) {
        for record in &applied.records {
            self.note(|| format!("{} ({})", record.message, record.cause));
        }
    }

    /// Sends the newest entry to everybody: voters that are reached store it, all apply it soon.
    fn spread(&mut self, by: usize) {
        let upto = self.log.committed();
        self.log.stored[by] = upto;
        for node in 0..self.machines.len() {
            if node == by || !self.machines[node].serves() || !self.wires.connected(by, node) {
                continue;
            }
            self.log.stored[node] = upto;
            let late = self.rng.percent(5);
            let delay = if late { self.rng.range(50, 400) } else { self.rng.range(1, 8) };
            self.schedule(delay * MS, Event::Apply { node, upto });
        }
        self.catch_up(by, upto);
        self.look_for_scripts(by);
        self.tell_director_state(by);
        self.take_away_too_soon(by);
    }

    /// What a director without patience, or without evidence, would propose.
    fn take_away_too_soon(&mut self, by: usize) {
        let wanted = |host: HostStatus| match self.bug {
            Some(Bug::TakeoverAtOnce | Bug::LeftTakenOver) => host == HostStatus::Down,
            Some(Bug::EvidenceForged) => host != HostStatus::Unknown,
            _ => false,
        };
        let state = &self.reference;
        let covered = self.bug != Some(Bug::LeftTakenOver);
        let holds = |node: &NodeNumber| {
            let mut held = state.groups.values().filter_map(|group| group.instances.get(node));
            held.any(|instance| covered || !instance.is_covered())
        };
        let node = state.nodes.values().find(|n| wanted(n.host) && holds(&n.number));
        let Some(node) = node.map(|node| node.number) else { return };
        if self.bug == Some(Bug::EvidenceForged) && !self.rng.percent(1) {
            return;
        }
        let evidence = LetGo::Confirmed;
        let command = Command::Group(GroupCommand::Evict { node, evidence });
        let proposal = self.proposal(by, director::ACTOR, command);
        self.submit_in_office(by, proposal);
    }

    fn tell_director_state(&mut self, node: usize) {
        let state = self.machines[node].shared_state();
        self.director_step(node, Some(director::Input::State(state)));
    }

    fn catch_up(&mut self, node: usize, upto: usize) {
        while self.machines[node].applied < upto.min(self.log.committed()) {
            if self.apply_next(node).is_none() {
                return;
            }
        }
    }

    pub(super) fn replicate(&mut self, node: usize, upto: usize) {
        let reached = self.log.leader.is_some_and(|(by, _)| self.wires.connected(by, node));
        if reached && self.machines[node].applied < upto {
            self.catch_up(node, upto);
            self.show(node);
            self.look_for_scripts(node);
        }
    }

    /// The term of the leader that a node hears, if it hears one.
    pub(super) fn led_in(&self, node: usize) -> Option<u64> {
        let (leader, term) = self.log.leader?;
        let agent = self.machines[leader].agent.as_ref()?;
        let speaks = !agent.paused && agent.leads == Some(term);
        (speaks && self.wires.connected(leader, node)).then_some(term)
    }

    pub(super) fn catch_up_from_leader(&mut self, node: usize) {
        if self.led_in(node).is_some() {
            let upto = self.log.committed();
            self.log.stored[node] = upto;
            self.replicate(node, upto);
            self.look_for_scripts(node);
        }
    }

    pub(super) fn proposal_lost(&mut self, node: usize, id: CommandId) {
        self.director_step(node, Some(director::Input::Lost { id }));
    }

    pub(super) fn told_deposed(&mut self, node: usize, term: u64) {
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.leads == Some(term) {
            agent.leads = None;
            self.director_step(node, Some(director::Input::Deposed));
            self.tell_guard(node);
        }
    }

    /// Looks at the leader, and holds an election where there is none.
    pub(super) fn elections(&mut self) {
        self.schedule(BETWEEN_LOOKS, Event::Elections);
        match self.log.leader {
            Some((leader, term)) => self.look_at_leader(leader, term),
            None if self.now >= self.log.election_at => self.elect(),
            None => {}
        }
        self.check_now();
        self.check_strays();
        self.check_delays();
    }

    fn look_at_leader(&mut self, leader: usize, term: u64) {
        let believes =
            self.machines[leader].agent.as_ref().is_some_and(|agent| agent.leads == Some(term));
        let serves = self.machines[leader].serves() && believes;
        let majority =
            self.has_majority(leader, &self.log.voters) || self.bug == Some(Bug::MinorityCommits);
        if serves && majority {
            self.log.confirmed = self.now;
            if self.reference.seeded && self.reference.term == term {
                self.log.seeded_until = self.now;
            }
            return;
        }
        let election = self.reference.settings.timing.election_max_ms * MS;
        // Nobody can take the office from a stopped leader whose vote is the only one.
        let alone = self.log.voters == [leader] && believes;
        if self.now - self.log.confirmed < election || alone {
            return;
        }
        self.log.leader = None;
        let timing = &self.reference.settings.timing;
        let (least, most) = (timing.election_min_ms * MS, timing.election_max_ms * MS);
        self.log.election_at = self.now + self.rng.range(least, most);
        let notice = self.rng.range(1, 20) * MS;
        self.schedule(notice, Event::Deposed { node: leader, term });
    }

    /// Voters that could lead.
    fn candidates(&self) -> Vec<usize> {
        let committed = self.log.committed();
        let can = |node: &usize| {
            let willing = self.machines[*node].agent.as_ref().is_some_and(|agent| agent.may_lead);
            willing
                && self.machines[*node].serves()
                && self.log.stored[*node] == committed
                && self.has_majority(*node, &self.log.voters)
        };
        self.log.voters.iter().copied().filter(can).collect()
    }

    /// A leader lets another one lead, if there is one that can.
    pub(super) fn hand_over(&mut self, node: usize) {
        let leads = self.log.leader.filter(|(leader, _)| *leader == node);
        let others = self.candidates().into_iter().any(|other| other != node);
        if let Some((_, term)) = leads.filter(|_| others) {
            self.log.leader = None;
            self.log.election_at = self.now;
            self.told_deposed(node, term);
        }
    }

    fn elect(&mut self) {
        let candidates = self.candidates();
        if candidates.is_empty() {
            self.log.election_at = self.now + self.rng.range(50, 150) * MS;
            return;
        }
        // A story is easier to follow when the lowest number leads.
        let chosen = if self.history.is_some() { 0 } else { self.rng.below(candidates.len()) };
        let winner = candidates[chosen];
        self.log.term += 1;
        let term = self.log.term;
        self.log.leader = Some((winner, term));
        self.log.leader_since = self.now;
        self.log.confirmed = self.now;
        *self.log.elections.entry(winner).or_default() += 1;
        self.take_over(winner, term);
    }

    /// The winner finds the whole log, and what was under way; then its director is told.
    fn take_over(&mut self, winner: usize, term: u64) {
        while let Some(proposal) = self.log.limbo.pop_front() {
            self.append(proposal);
        }
        let committed = self.log.committed();
        self.log.stored[winner] = committed;
        if let Some(agent) = self.machines[winner].agent.as_mut() {
            agent.leads = Some(term);
            agent.sessions.clear();
        }
        self.catch_up(winner, committed);
        self.look_for_scripts(winner);
        self.tell_director_state(winner);
        let voters = self.log.voters.iter().map(|node| number_of(*node)).collect();
        let machine = &self.machines[winner];
        let Some(session) = machine.agent.as_ref().map(|agent| agent.session) else { return };
        let own_continuity = machine.guard.as_ref().is_some_and(|guard| guard.continuity);
        let me = machine.number;
        let elected = director::Input::Elected { term, me, session, own_continuity };
        self.director_step(winner, Some(elected));
        self.director_step(winner, Some(director::Input::Voters(voters)));
        self.tell_guard(winner);
        for node in 0..self.machines.len() {
            let after = self.rng.range(5, 60) * MS;
            self.schedule(after, Event::Asked { node });
        }
    }

    pub(super) fn ask_for_voters(&mut self, by: usize, voters: Vec<NodeNumber>) {
        let Some(term) = self.machines[by].agent.as_ref().and_then(|agent| agent.leads) else {
            return;
        };
        self.schedule(50 * MS, Event::SetVoters { by, term, voters });
    }

    /// The leader makes other nodes voters, as an operator might who takes machines out of service: an odd number, three at least.
    pub(super) fn other_voters(&mut self, mask: u64) {
        let Some((by, _)) = self.log.leader else { return };
        let mut others: Vec<usize> = (0..self.machines.len()).filter(|node| *node != by).collect();
        others.sort_by_key(|node| mask >> node & 1 == 0);
        let chosen = others.iter().filter(|node| mask >> *node & 1 == 1).count();
        // A single voter whose disk is lost takes the log along.
        others.truncate((chosen / 2 * 2).max(2));
        let mut voters: Vec<NodeNumber> = others.into_iter().chain([by]).map(number_of).collect();
        voters.sort_unstable();
        self.ask_for_voters(by, voters);
    }

    /// Joint consensus: a majority of the old and of the new voters.
    pub(super) fn change_voters(&mut self, by: usize, term: u64, voters: &[NodeNumber]) {
        let wanted: Vec<usize> = voters.iter().map(|node| index_of(*node)).collect();
        let possible = self.log.leader == Some((by, term))
            && self.has_majority(by, &self.log.voters)
            && self.has_majority(by, &wanted);
        if !possible {
            self.director_step(by, Some(director::Input::VotersFailed));
            return;
        }
        self.log.voters = wanted;
        for node in self.log.voters.clone() {
            if self.wires.connected(by, node) && self.machines[node].serves() {
                self.log.stored[node] = self.log.committed();
            }
        }
        self.director_step(by, Some(director::Input::Voters(voters.to_vec())));
    }

    /// An operator's command goes to the leader, and is repeated until it is known to be done.
    pub(super) fn operator(&mut self, number: u64, proposal: Proposal) {
        if self.answers.contains_key(&number) {
            return;
        }
        if self.seen_to.insert(number) {
            self.see_to_it(&proposal);
        }
        let leader = self.log.leader.map(|(leader, _)| leader);
        let knocks = leader.filter(|leader| self.machines[*leader].serves());
        if let (Some(by), Some((_, term))) = (knocks, self.log.leader) {
            let copy = Box::new(proposal.clone());
            self.schedule(5 * MS, Event::Commit { by, term, proposal: copy, tries: 0 });
        }
        // The answer may be lost on its way, so the repeat may come after it was done.
        let retry = self.rng.range(100, 500) * MS;
        self.schedule(retry, Event::Operator { number, proposal: Box::new(proposal) });
    }

    /// An operator who confirms that a node is off has switched it off, at the latest when that is decided: it may have
    /// been UP, and his word refused, when he began.
    fn see_to_it(&mut self, proposal: &Proposal) {
        let Command::Group(GroupCommand::ConfirmOff { node }) = &proposal.command else { return };
        let up = self.reference.nodes.get(node).is_some_and(|it| it.host == HostStatus::Up);
        let index = index_of(*node);
        if !up && self.machines[index].gone_since == u64::MAX {
            self.power_off(index);
            self.schedule(3_000 * MS, Event::Trouble(Trouble::PowerOn(index)));
        }
    }

    /// What the leader decides on an operator's command at once, for stories.
    pub(super) fn decide(&mut self, proposal: Proposal) -> Option<Outcome> {
        let (by, _) = self.log.leader?;
        let applied = self.append(proposal);
        self.spread(by);
        Some(applied.outcome)
    }
}
