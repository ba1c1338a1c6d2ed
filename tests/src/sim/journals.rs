//! Journals of the nodes: what each lives through without the others, and its account of that.
//!
//! The machine that decides what is written is the product's own ([`Watch`]), and so is what takes the
//! account ([`Command::Account`]); simulated is the disk that keeps the journal, and its loss. What must
//! hold: each entry becomes a record of everybody's history at most once and in order, and once the
//! cluster has healed, every entry of a journal that is still there has become one.

use std::collections::BTreeMap;

use vedette_core::apply::Applied;
use vedette_core::command::{Account, AccountEntry, Command, Proposal};
use vedette_core::id::{Hash, NodeNumber, Session};
use vedette_core::local::{Condition, Draft, Input, LocalRecord, Stamp, Watch};
use vedette_core::model::{AgentStatus, Severity};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;

use super::node::Machine;
use super::world::{EPOCH, MS, World};

/// The journal of one machine.
#[derive(Debug, Default)]
pub(super) struct Journal {
    id: u64,
    begins_after: u64,
    entries: Vec<LocalRecord>,
    /// The run of the agent that opened it, the last number that it had then, and whether it was compared
    /// with what the cluster has taken.
    opened: Option<(Session, u64, bool)>,
    watch: Watch,
    /// It had a lease in this run of its agent.
    held: Option<Session>,
    /// When its account may be given again.
    again: u64,
}

/// What is known of entries that became records: by node and journal, the last number.
pub(super) type Accounts = BTreeMap<(NodeNumber, u64), u64>;

impl Journal {
    fn last(&self) -> u64 {
        self.entries.last().map_or(self.begins_after, |entry| entry.number)
    }

    /// The disk forgot the end of what it had promised.
    pub(super) fn tear(&mut self, entries: usize) {
        self.entries.truncate(self.entries.len().saturating_sub(entries));
        self.watch = Watch::default();
    }

    fn append(&mut self, stamp: Stamp, content: Draft) {
        let previous = self.entries.last().map_or(Hash::default(), |entry| entry.hash);
        let number = self.last() + 1;
        self.entries.push(LocalRecord::new(number, stamp, content, previous));
    }
}

impl Machine {
    pub(super) fn has_lease(&self, now: u64) -> bool {
        let clock = self.clock(now);
        let until = self.guard.as_ref().and_then(|guard| guard.topology.lease_until());
        until.is_some_and(|until| clock < until)
    }

    /// Entries that the state on hand does not know.
    fn unaccounted(&self) -> &[LocalRecord] {
        let known = self.state.nodes.get(&self.number).map(|node| node.accounted);
        let known = known.filter(|known| known.journal == self.journal.id);
        let done = known.map_or(0, |known| known.number);
        let first = self.journal.entries.partition_point(|entry| entry.number <= done);
        &self.journal.entries[first..]
    }
}

impl World {
    /// The disk was lost, and the journal with it; another one begins.
    pub(super) fn lose_journal(&mut self, node: usize) {
        self.drawn += 1;
        self.machines[node].journal = Journal { id: self.drawn, ..Journal::default() };
    }

    /// What an agent writes down, and accounts for, in its round.
    pub(super) fn keep_journal(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let Some(agent) = machine.agent.as_ref() else { return };
        let (session, running) = (agent.session, agent.status == AgentStatus::Running);
        let lease = machine.has_lease(now);
        if machine.journal.opened.is_none_or(|(by, ..)| by != session) {
            machine.journal.opened = Some((session, machine.journal.last(), false));
        }
        if lease && running {
            machine.journal.held = Some(session);
        }
        let lost = machine.journal.held == Some(session) && !lease;
        let (clock, number) = (machine.clock(now), machine.number);
        let mut drafts = Vec::new();
        let conditions = if lost { vec![without_quorum(number)] } else { Vec::new() };
        let journal = &mut machine.journal;
        journal.watch.on_timeout(clock, &mut drafts);
        journal.watch.handle(clock, Input::Conditions(Code::QuorumLost, conditions), &mut drafts);
        let stamp = Stamp {
            at: WallTime(EPOCH + now as i64 + machine.wall),
            uptime_us: clock.as_micros(),
            boot: Hash::default(),
            session,
        };
        for draft in drafts {
            machine.journal.append(stamp, draft);
        }
        if lease && running && machine.journal.again <= now {
            self.compare_journal(node);
            self.give_account(node);
        }
    }

    /// Before its first account, a run compares its journal with what the cluster has taken of it: if the
    /// disk had not that much, what this run wrote goes on under another id.
    fn compare_journal(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some((by, opened, false)) = machine.journal.opened else { return };
        machine.journal.opened = Some((by, opened, true));
        let known = machine.state.nodes.get(&machine.number).map(|node| node.accounted);
        let known = known.filter(|known| known.journal == machine.journal.id);
        if known.is_some_and(|known| known.number > opened) {
            self.drawn += 1;
            let journal = &mut machine.journal;
            (journal.id, journal.begins_after) = (self.drawn, opened);
            journal.entries.retain(|entry| entry.number > opened);
        }
    }

    fn give_account(&mut self, node: usize) {
        let machine = &self.machines[node];
        let clock = machine.clock(self.now).as_micros();
        let entry = |record: &LocalRecord| AccountEntry {
            age_ms: Some(clock.saturating_sub(record.stamp.uptime_us) / 1_000),
            record: record.clone(),
        };
        let entries: Vec<AccountEntry> =
            machine.unaccounted().iter().take(Account::MOST).map(entry).collect();
        if entries.is_empty() {
            return;
        }
        let account = Account {
            read: None,
            node: machine.number,
            journal: machine.journal.id,
            begins_after: machine.journal.begins_after,
            entries,
            clock_offset_ms: None,
        };
        self.machines[node].journal.again = self.now + 300 * MS;
        let proposal = self.proposal(node, "agent", Command::Account(account));
        self.submit(node, proposal);
    }

    /// Each entry is told at most once, in order.
    pub(super) fn check_account(&mut self, entry: &Proposal, applied: &Applied) {
        let Command::Account(account) = &entry.command else { return };
        let told = |record: &Record| record.told.map(|told| told.number);
        for number in applied.records.iter().filter_map(told) {
            let accounts = &mut self.checks.accounts;
            let last =
                accounts.entry((account.node, account.journal)).or_insert(account.begins_after);
            if number <= *last {
                let (node, last) = (account.node, *last);
                let what = format!("entry {number} of n{node}'s journal was told after {last}");
                self.checks.fail(self.now, what);
                return;
            }
            if number != *last + 1 {
                let what = format!("entry {number} of n{}'s journal follows {last}", account.node);
                self.checks.fail(self.now, what);
                return;
            }
            *last = number;
        }
    }

    /// A journal of which something is not in everybody's history.
    pub(super) fn untold(&self) -> Option<String> {
        let untold = |machine: &&Machine| !machine.unaccounted().is_empty();
        let machine = self.machines.iter().find(untold)?;
        let count = machine.unaccounted().len();
        Some(format!("{count} entries of n{}'s journal are not told", machine.number))
    }

    /// How many local records became records, for figures.
    pub fn accounted(&self) -> u64 {
        self.checks.accounts.values().sum()
    }
}

fn without_quorum(node: NodeNumber) -> Condition {
    Condition {
        code: Code::QuorumLost,
        subject: Subject::Node(node),
        subject_name: format!("n{node}"),
        raised: format!("n{node} has no quorum"),
        cleared: format!("n{node} has a quorum again"),
        cause: "its lease is over".into(),
        severity: Severity::Error,
        alert: true,
    }
}
