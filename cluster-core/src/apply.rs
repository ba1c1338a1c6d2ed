//! Transitions: how a committed command changes the state.
//!
//! [`ClusterState::apply`] is a pure function of the state and the log entry. It reads no clock (the
//! time is in the proposal) and cannot fail: a command that does not fit is *refused*, which is an
//! outcome like any other and changes nothing. Every node therefore holds the same state, the same
//! records and the same hash chain at equal index.
//!
//! Nothing else changes the state; what is planned, judged or shown is known by reading it.

mod accounts;
mod alerts;
mod documents;
mod groups;
mod manager;
mod members;
mod rules;
mod statuses;
#[cfg(test)]
mod testing;
mod vacancies;

use std::collections::BTreeMap;

use crate::command::{AGENT, Command, Proposal};
use crate::group::GroupState;
use crate::id::{Hash, NodeNumber};
use crate::model::Severity;
use crate::record::{Code, PendingAlert, Record, Subject, Told};
use crate::refusal::Refusal;
use crate::state::{ClusterState, Outcome};

/// Number of command ids that are remembered to recognise a repeat.
const REMEMBERED_COMMANDS: usize = 1_024;

/// Effect of a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Answer to the proposer.
    pub outcome: Outcome,
    /// Records of everything that happened, in order.
    pub records: Vec<Record>,
}

/// An entry while it is being applied: where it stands in the log and what came of it so far.
struct Entry<'a> {
    index: u64,
    proposal: &'a Proposal,
    /// In whose name: who proposed it, or who proposed what takes effect in it.
    actor: String,
    records: Vec<Record>,
    /// State of each group when it was last recorded, and why it changes.
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
struct RecordDraft {
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

impl RecordDraft {
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
    fn record(&mut self, entry: &mut Entry<'_>, happening: RecordDraft) {
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
}
