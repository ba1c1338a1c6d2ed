//! Local records: what a node lives through and cannot tell the log at that moment.
//!
//! Everything else that anybody is told comes out of `apply`, and without a quorum nothing is applied;
//! the worst moment of a cluster would be the one that nobody hears of. So each node writes down what
//! befalls it in a journal of its own, tells it at once where it happens, and accounts for it in
//! everybody's history when it is part of a quorum again ([`crate::command::Account`]).
//!
//! [`Watch`] is the machine that decides what is written: it is told what is the case
//! ([`Input`]) and answers with [`Draft`]s at the edges. Invariants:
//!
//! - Each [`Raised`](Phase::Raised) of a code and subject has exactly one [`Cleared`](Phase::Cleared),
//!   and never a second `Raised` before it.
//! - Whatever flaps, a code and subject makes at most [`Watch::BURST`] records in [`Watch::WINDOW`], a loss
//!   of quorum or a release [`Watch::BURST_OF_LOSSES`]; what is more is counted and told as one record when
//!   the window ends.
//! - The machine reads no clock and writes nothing: the driver stamps a draft and appends it.

mod watch;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Hash, Session};
use crate::model::Severity;
use crate::record::{Code, Subject};
use crate::time::WallTime;

pub use watch::{Condition, Happened, Input, Watch};

/// Which end of a condition a local record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A condition began.
    Raised,
    /// It ended.
    Cleared,
    /// Something happened that lasts no time.
    Happened,
}

impl Phase {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
            Self::Happened => "happened",
        }
    }

    /// Its number in the MIB.
    pub const fn code(self) -> u32 {
        match self {
            Self::Raised => 1,
            Self::Cleared => 2,
            Self::Happened => 3,
        }
    }

    /// The phase with that number.
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Raised, Self::Cleared, Self::Happened].into_iter().find(|it| it.code() == code)
    }
}

/// The content of a local record, before it is stamped and numbered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// What kind of thing.
    pub code: Code,
    /// Which end of it.
    pub phase: Phase,
    /// How bad.
    pub severity: Severity,
    /// About what.
    pub subject: Subject,
    /// The subject's name, as the node knows it.
    pub subject_name: String,
    /// One sentence for people.
    pub message: String,
    /// Why.
    pub cause: String,
    /// How long what it tells of had lasted: the time without a quorum, the time away, the release.
    pub duration_ms: Option<u64>,
    /// How many times it happened; more than 1 in a summary.
    pub times: u64,
    /// Whether the alert script is run for it on this node.
    pub alert: bool,
}

/// When and in which run something was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The node's wall clock.
    pub at: WallTime,
    /// Microseconds since the machine started, suspension included.
    pub uptime_us: u64,
    /// Which start of the machine that counts from.
    pub boot: Hash,
    /// The run of the agent.
    pub session: Session,
}

/// One entry of a node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRecord {
    /// Grows from 1 over the life of the journal; what is missing in between was told and is lost.
    pub number: u64,
    /// When.
    pub stamp: Stamp,
    /// What.
    pub content: Draft,
    /// SHA-256 over the hash of the entry before and this one's content.
    pub hash: Hash,
}

impl LocalRecord {
    /// The entry `number` that follows one with the hash `previous`.
    pub fn new(number: u64, stamp: Stamp, content: Draft, previous: Hash) -> Self {
        let mut record = Self { number, stamp, content, hash: Hash::default() };
        record.hash = record.chained(previous);
        record
    }

    /// The hash that this entry must carry if `previous` is that of the entry before.
    pub fn chained(&self, previous: Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(previous.0);
        let content = &self.content;
        let (first, second, network) = content.subject.numbers();
        for number in [
            self.number,
            self.stamp.at.0 as u64,
            self.stamp.uptime_us,
            self.stamp.session.0,
            u64::from(content.code.number()),
            u64::from(content.phase.code()),
            u64::from(content.severity.code()),
            u64::from(content.subject.kind_code()),
            u64::from(first),
            u64::from(second),
            u64::from(network),
            u64::from(content.duration_ms.is_some()),
            content.duration_ms.unwrap_or(0),
            content.times,
            u64::from(content.alert),
        ] {
            hasher.update(number.to_be_bytes());
        }
        hasher.update(self.stamp.boot.0);
        for text in [&content.subject_name, &content.message, &content.cause] {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        Hash(hasher.finalize().into())
    }
}

/// One line for a terminal: time, number, severity, message, cause.
impl fmt::Display for LocalRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = &self.content;
        write!(
            f,
            "{} {:>6} {:13} {}",
            self.stamp.at,
            format!("L{}", self.number),
            content.severity,
            content.message
        )?;
        if !content.cause.is_empty() {
            write!(f, " ({})", content.cause)?;
        }
        Ok(())
    }
}
