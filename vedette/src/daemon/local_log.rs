//! What this node lives through: the driver of [`vedette_core::local::Watch`].
//!
//! The parts of the daemon say what is the case ([`LocalLog::conditions`]) or what happened
//! ([`LocalLog::happened`]); the machine decides what of it is written down. A draft is stamped, put into
//! the journal, logged and shown, in this order and at once: neither a disk nor a quorum is waited for.
//! Afterwards `accounts` brings it into everybody's history, and `alerts` runs the alert script on this
//! node.

mod accounts;
mod alerts;
mod alive;
mod clocks;
mod follow;
mod paths;
#[cfg(test)]
mod testing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vedette_collector::history::{History, SetAside};
use vedette_core::id::{Hash, NodeNumber, Session};
use vedette_core::local::{Condition, Draft, Happened, Input, Stamp, Watch};
use vedette_core::local_view::RaisedCondition;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::time::{Instant, WallTime};

use super::proposer::wall_time;
use super::publisher::Publisher;

pub(crate) use accounts::run as account;
pub(crate) use alerts::Runner;
pub(crate) use alive::{Alive, Past};
pub(crate) use clocks::boot_time_us;
pub(crate) use follow::{Disk, run as follow};
pub(crate) use paths::{limit, lost_on};

/// The way in; clones share it.
#[derive(Clone)]
pub(crate) struct LocalLog(Arc<Shared>);

struct Shared {
    me: NodeNumber,
    name: String,
    session: Session,
    boot: Hash,
    publisher: Arc<Publisher>,
    watch: Mutex<Watch>,
    /// The last sign of life of the run before since this machine started, on its clock; without one the
    /// beginning of this run.
    past_us: AtomicU64,
    /// When the guard saw the lease end the last time, on the same clock.
    lease_ended_us: AtomicU64,
}

impl LocalLog {
    /// A log of the node `me`, called `name`, in this run of its agent.
    pub(crate) fn new(
        (me, name): (NodeNumber, String),
        session: Session,
        publisher: Arc<Publisher>,
    ) -> Self {
        let (watch, boot) = (Mutex::new(Watch::default()), clocks::boot());
        let log = Self(Arc::new(Shared {
            me,
            name,
            session,
            boot,
            publisher,
            watch,
            past_us: AtomicU64::new(boot_time_us()),
            lease_ended_us: AtomicU64::new(0),
        }));
        log.restore();
        if let Some(untold) = log.history().journal_broken() {
            log.journal_begins_anew(untold);
        }
        if let Some(lost) = log.history().journal_cut() {
            log.journal_is_cut(lost);
        }
        log.show();
        log
    }

    /// Goes on with what earlier runs told as raised: it may hold still, and its end is to be told.
    fn restore(&self) {
        let (now, wall, mut watch) = (now(), wall_time(), self.watch());
        for record in self.history().local_open() {
            let (content, at) = (&record.content, record.stamp.at);
            let own = own_condition(
                content.code,
                content.subject,
                &content.subject_name,
                content.cause.clone(),
            );
            let cleared = match content.subject {
                Subject::Group(_) => format!("{} released {}", self.0.name, content.subject_name),
                _ => own.cleared.clone(),
            };
            let condition = Condition {
                raised: content.message.clone(),
                cleared,
                severity: content.severity,
                alert: content.alert,
                ..own
            };
            // A clock that was set since counts for nothing in the same run of the machine.
            let lasted = if record.stamp.boot == self.0.boot {
                now.as_micros().saturating_sub(record.stamp.uptime_us)
            } else {
                u64::try_from(wall.0.saturating_sub(at.0)).unwrap_or(0)
            };
            watch.restore(now, condition, Duration::from_micros(lasted));
        }
    }

    /// The node itself as a subject, with its name.
    pub(crate) fn own(&self) -> (Subject, String) {
        (Subject::Node(self.0.me), self.0.name.clone())
    }

    /// All conditions of `code` that hold now.
    pub(crate) fn conditions(&self, code: Code, conditions: Vec<Condition>) {
        self.step(Some(Input::Conditions(code, conditions)));
    }

    /// Whether the one condition of `code` about this node holds: with its cause, or not.
    pub(crate) fn condition(&self, code: Code, cause: Option<String>) {
        let (subject, name) = self.own();
        let held = cause.map(|cause| own_condition(code, subject, &name, cause));
        self.conditions(code, held.into_iter().collect());
    }

    /// Something happened that lasts no time.
    pub(crate) fn happened(&self, happened: Happened) {
        self.step(Some(Input::Happened(happened)));
    }

    /// The journal of this node was changed or cut by somebody else, and another one begins.
    fn journal_begins_anew(&self, untold: u64) {
        let (subject, name) = self.own();
        self.happened(Happened {
            code: Code::Dropped,
            subject,
            message: format!("the journal of {name} was changed or cut, and another one begins"),
            subject_name: name,
            cause: match untold {
                0 => "everything in it is in everybody's history".into(),
                1 => "one local record in it is in nobody's history".into(),
                many => format!("{many} local records in it are in nobody's history"),
            },
            severity: Severity::Error,
            duration_ms: None,
            alert: true,
        });
    }

    /// The end of this node's journal is missing: what was told in it is known to nobody any more, and times
    /// that it had are not.
    fn journal_is_cut(&self, lost: u64) {
        let (subject, name) = self.own();
        let (records, are) = if lost == 1 { ("record", "is") } else { ("records", "are") };
        self.happened(Happened {
            code: Code::Dropped,
            subject,
            message: format!("{lost} local {records} of {name} that it had told {are} gone"),
            subject_name: name,
            cause: "the end of its journal is missing: the disk had no room for it, or lost it"
                .into(),
            severity: Severity::Error,
            duration_ms: None,
            alert: true,
        });
    }

    /// The guard saw the lease end at that time of the clock that counts from the machine's start.
    pub(crate) fn lease_ended(&self, ended_us: u64) {
        if self.0.lease_ended_us.fetch_max(ended_us, Ordering::Relaxed) < ended_us {
            // A node that stood still sees its loss when it goes on.
            let (subject, _) = self.own();
            self.watch().backdate(Code::QuorumLost, subject, Instant::from_micros(ended_us));
        }
    }

    /// Something happened a while ago, at a time of the clock that counts from the machine's start.
    pub(crate) fn happened_at(&self, at: Option<Instant>, happened: Happened) {
        let at = at.map_or_else(now, |at| at.min(now()));
        self.step_at(at, Some(Input::Happened(happened)));
    }

    /// Whether the journal has it already that something of that code happened about then: an earlier run of
    /// the agent told it.
    pub(crate) fn has_told(&self, code: Code, subject: Subject, at: Instant) -> bool {
        self.history().local_recent().iter().any(|record| {
            let (content, stamp) = (&record.content, &record.stamp);
            (content.code, content.subject, stamp.boot) == (code, subject, self.0.boot)
                && stamp.uptime_us.abs_diff(at.as_micros()) < SAME_US
        })
    }

    /// The damaged history of this node was set aside.
    pub(crate) fn history_set_aside(&self, found: &SetAside) {
        let (subject, name) = self.own();
        self.happened(Happened {
            code: Code::HistorySetAside,
            subject,
            message: format!("the history of {name} was damaged and is set aside"),
            subject_name: name,
            cause: found.to_string(),
            severity: Severity::Error,
            duration_ms: None,
            alert: true,
        });
    }

    /// Tells summaries that are due.
    fn pass_time(&self) {
        self.step(None);
    }

    fn deadline(&self) -> Option<Duration> {
        let deadline = self.watch().deadline()?;
        Some(deadline.since(now()))
    }

    fn step(&self, input: Option<Input>) {
        self.step_at(now(), input);
    }

    fn step_at(&self, at: Instant, input: Option<Input>) {
        let mut drafts = Vec::new();
        {
            let mut watch = self.watch();
            match input {
                Some(input) => watch.handle(at, input, &mut drafts),
                None => watch.on_timeout(at, &mut drafts),
            }
            // In the order of the machine's answers, whoever else steps it.
            for draft in drafts.drain(..) {
                self.write(at, draft);
            }
        }
        self.show();
    }

    fn write(&self, at: Instant, draft: Draft) {
        let shared = &self.0;
        let ago_us = i64::try_from(now().since(at).as_micros()).unwrap_or(0);
        let stamp = Stamp {
            at: WallTime(wall_time().0 - ago_us),
            uptime_us: at.as_micros(),
            boot: shared.boot,
            session: shared.session,
        };
        let record = shared.publisher.history().note(stamp, draft);
        let (number, cause, message) =
            (record.number, &record.content.cause, &record.content.message);
        match record.content.severity {
            Severity::Error => tracing::error!(local = number, %cause, "{message}"),
            Severity::Warning => tracing::warn!(local = number, %cause, "{message}"),
            Severity::Notice => tracing::info!(local = number, %cause, "{message}"),
            Severity::Informational => tracing::debug!(local = number, %cause, "{message}"),
        }
    }

    /// Puts conditions and journal into the view.
    fn show(&self) {
        let history = self.0.publisher.history();
        let conditions = self.raised();
        let (journal, health) = (history.local_recent(), history.journal_health());
        self.0.publisher.update_local(|local| {
            if *local.conditions != *conditions {
                local.conditions = conditions.into();
            }
            if local.journal_health != health {
                (local.journal, local.journal_health) = (journal, health);
            }
        });
    }

    fn raised(&self) -> Vec<RaisedCondition> {
        let (now, wall) = (now(), self.0.publisher.clock());
        let place = |code: Code| Code::CONDITIONS.iter().position(|known| *known == code);
        let watch = self.watch();
        let mut all: Vec<RaisedCondition> = watch
            .standing(now)
            .map(|(condition, lasted)| RaisedCondition {
                code: condition.code,
                subject: condition.subject,
                subject_name: condition.subject_name.clone(),
                severity: condition.severity,
                message: condition.raised.clone(),
                cause: condition.cause.clone(),
                since: known_since(self, condition, wall, lasted),
            })
            .collect();
        all.sort_by_key(|it| (place(it.code), it.subject));
        all
    }

    /// The conditions of `code` that stand, as they were said last.
    pub(crate) fn standing(&self, code: Code) -> Vec<Condition> {
        let (now, watch) = (now(), self.watch());
        let standing = watch.standing(now).map(|(condition, _)| condition);
        standing.filter(|condition| condition.code == code).cloned().collect()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> &Arc<History> {
        self.0.publisher.history()
    }

    fn state(&self) -> Arc<ClusterState> {
        self.0.publisher.state()
    }
}

/// What happened within that time of each other is the same, told by two runs of the agent.
const SAME_US: u64 = 1_000_000;

/// When a condition began, as it was shown first: a clock that is set later does not move it.
fn known_since(
    log: &LocalLog,
    condition: &Condition,
    wall: WallTime,
    lasted: Duration,
) -> WallTime {
    let view = log.0.publisher.views().borrow().clone();
    let same = |it: &&RaisedCondition| (it.code, it.subject) == (condition.code, condition.subject);
    view.local.conditions.iter().find(same).map_or_else(
        || WallTime(wall.0 - i64::try_from(lasted.as_micros()).unwrap_or(0)),
        |known| known.since,
    )
}

/// Monotonic, suspension included.
fn now() -> Instant {
    Instant::from_micros(boot_time_us())
}

/// The sentences of the conditions of a node as a whole.
fn own_condition(code: Code, subject: Subject, name: &str, cause: String) -> Condition {
    let (raised, cleared, severity, alert) = match code {
        Code::QuorumLost => ("has no quorum", "has a quorum again", Severity::Error, true),
        Code::NoDirector => ("hears no director", "hears a director again", Severity::Error, true),
        Code::ReleaseFailed => {
            ("could not release everything", "released everything", Severity::Error, true)
        }
        Code::ReaperLost => ("has no reaper", "has a reaper again", Severity::Warning, true),
        Code::LogStalled => ("can commit nothing", "can commit again", Severity::Error, true),
        Code::LogBehind => {
            ("is behind the cluster's log", "has caught up", Severity::Warning, true)
        }
        Code::LogLost => {
            ("has lost the tail of its log", "has its log again", Severity::Error, true)
        }
        Code::HistoryStalled => {
            ("cannot write its history", "can write its history again", Severity::Error, true)
        }
        Code::DiskFull => ("has a full disk", "has room on its disk again", Severity::Error, true),
        Code::NodeLate => ("was late itself", "is in time again", Severity::Warning, false),
        Code::ClockOff => {
            ("has a clock that is off", "has a clock that is right", Severity::Warning, true)
        }
        Code::RoundTrip => {
            ("is almost too far away", "is near enough again", Severity::Warning, true)
        }
        Code::FrameSize => {
            ("is behind a narrow path", "is behind a wide path again", Severity::Warning, true)
        }
        Code::SnmpAway => (
            "has no master SNMP agent",
            "has its master SNMP agent again",
            Severity::Warning,
            false,
        ),
        Code::AlertScriptFailing => (
            "has an alert script that fails",
            "has an alert script that works again",
            Severity::Error,
            false,
        ),
        _ => ("has a condition", "is over a condition", Severity::Warning, false),
    };
    Condition {
        code,
        subject,
        subject_name: name.to_owned(),
        raised: format!("{name} {raised}"),
        cleared: format!("{name} {cleared}"),
        cause,
        severity,
        alert,
    }
}
