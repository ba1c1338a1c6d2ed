//! Transcripts: all that a run of a program printed, on the disk of the node that ran it.
//!
//! Intuition: records and events keep the first lines of what a script printed, because they are in every node's
//! memory. Why it failed often stands in the thousandth line. So each run of an event program, each resource
//! program or monitor that failed, each call of a fence agent, each release program and each run of the alert script has a file of its own below the
//! state directory, which root alone may read, and what is replicated names it: `n2/12` is the twelfth of n2.
//!
//! Invariants:
//!
//! - No run waits for the disk: pieces go to one thread through a bounded queue, and what finds it full is left
//!   out, and said to be.
//! - A file is at most [`LONGEST`] long, whatever was printed: its first and its last half are kept ([`file`]).
//! - All files together are at most some tens of MiB, and none is older than a month. Each [`Kind`] has a share of
//!   its own, so a monitor that fails each second pushes out no event.
//! - Nothing is written on a disk that is nearly full: the log needs the rest.
//! - A file whose agent was killed is as good as any other, but for its end, which is not on record.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use vedette_core::id::Hash;
use vedette_core::model::Transcript;

pub mod file;
mod writer;

pub use file::{LONGEST, Label};
pub use writer::keep_now;
use writer::{Message, Piece, WriterHandle};

/// The folder of transcripts, within the directory of the node's state.
const FOLDER: &str = "transcripts";

/// How long the end of a run waits to hear what became of its transcript.
const PATIENCE: Duration = Duration::from_millis(500);

/// The pause before a queue that was full is tried again, at the end of a run.
const AGAIN: Duration = Duration::from_millis(5);

/// How many bytes of a run may wait while the queue is full.
const WAITING: usize = 1 << 20;

/// Resources whose last failure is remembered.
const MOST_KNOWN: usize = 1_024;

/// What a transcript is of. Each has a share of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A command of an event's recovery program, with what the site put around it.
    Event,
    /// Starting or stopping a resource.
    Resource,
    /// A look at a resource, or of a monitor program of the site.
    Monitor,
    /// A call of a fence agent.
    Fence,
    /// A release program, run by the guard.
    Release,
    /// The alert script.
    Alert,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Event, Self::Resource, Self::Monitor, Self::Fence, Self::Release, Self::Alert];

    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Resource => "resource",
            Self::Monitor => "monitor",
            Self::Fence => "fence",
            Self::Release => "release",
            Self::Alert => "alert",
        }
    }

    /// The kind spelt so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How many bytes all of its files may have.
    const fn share(self) -> u64 {
        match self {
            Self::Event => 32 << 20,
            Self::Resource => 16 << 20,
            Self::Monitor | Self::Fence | Self::Release | Self::Alert => 8 << 20,
        }
    }
}

/// What was run, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// What kind of run.
    pub kind: Kind,
    /// The command line, or what was done.
    pub what: String,
    /// The event it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// The group it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The resource it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Heading {
    /// Of a run that belongs to nothing yet.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        let (event, incident, group, resource) = (None, None, None, None);
        Self { kind, what: what.into(), event, incident, group, resource }
    }

    /// Of a resource of a group.
    pub fn of(self, group: &str, resource: &str) -> Self {
        Self { group: Some(group.into()), resource: Some(resource.into()), ..self }
    }
}

/// What the last failure of a resource printed, and the name of its transcript.
type LastFailures = BTreeMap<(String, String), (Hash, Transcript)>;

/// The transcripts of this node. Copies share one thread.
#[derive(Clone)]
pub struct Transcripts {
    folder: PathBuf,
    node: String,
    writer: WriterHandle,
    known: Arc<Mutex<LastFailures>>,
}

impl fmt::Debug for Transcripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcripts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Transcripts {
    /// Those of the node with that name and state directory. Nothing is made, and no thread started, before there is
    /// something to keep.
    pub fn new(state: &Path, node: &str) -> Self {
        let folder = folder(state);
        let writer = WriterHandle::new(folder.clone(), node.into());
        Self { folder, node: node.into(), writer, known: Arc::default() }
    }

    /// The name of the node whose they are.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A transcript that is written while a program runs. The file is made with the first byte.
    pub fn tape(&self, heading: Heading) -> Tape {
        static TAPES: AtomicU64 = AtomicU64::new(0);
        let id = TAPES.fetch_add(1, Ordering::Relaxed);
        let inner = Inner {
            id,
            heading: Some(heading),
            writer: self.writer.clone(),
            waiting: Vec::new(),
            missed: 0,
            over: false,
        };
        Tape(Arc::new(Mutex::new(inner)))
    }

    /// Keeps what a run has printed that is over. One that failed like this the last time, word for word, is kept
    /// once: a resource that stays failed is looked at every second.
    pub async fn keep(&self, heading: Heading, how: &str, output: &str) -> Option<Transcript> {
        if output.trim().is_empty() {
            return None;
        }
        let key = (heading.resource.clone().unwrap_or_default(), heading.what.clone());
        let hash = Hash::of(output.as_bytes());
        let known = self.known().get(&key).filter(|(known, _)| *known == hash).cloned();
        if let Some((_, transcript)) = known {
            return Some(transcript);
        }
        let tape = self.tape(heading);
        tape.write(output.as_bytes());
        let kept = tape.end(how).await;
        if let Some(kept @ Transcript::Kept(_)) = &kept {
            let mut known = self.known();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, (hash, kept.clone()));
        }
        kept
    }

    fn known(&self) -> MutexGuard<'_, LastFailures> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of the transcripts of a node with that state directory.
pub fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

/// A transcript in the making. Copies are the same one, so several programs can be written into it.
#[derive(Clone, Debug)]
pub struct Tape(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    id: u64,
    /// Until the first piece is sent.
    heading: Option<Heading>,
    writer: WriterHandle,
    /// What found the queue full and goes with the next piece: a shell's trace comes in very small ones.
    waiting: Vec<u8>,
    /// Bytes that found no room there.
    missed: u64,
    over: bool,
}

impl Inner {
    fn add(&mut self, bytes: &[u8]) {
        let room = WAITING.saturating_sub(self.waiting.len()).min(bytes.len());
        self.waiting.extend_from_slice(&bytes[..room]);
        self.missed += (bytes.len() - room) as u64;
        self.send();
    }

    /// Answers whether nothing waits any more.
    fn send(&mut self) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        let bytes = std::mem::take(&mut self.waiting);
        let piece = match self.heading.take() {
            Some(heading) => Piece::First(Box::new(heading), bytes),
            None => Piece::More(bytes),
        };
        match self.writer.send(Message { tape: self.id, piece }) {
            Err(Piece::First(heading, bytes)) => {
                (self.heading, self.waiting) = (Some(*heading), bytes);
                false
            }
            Err(Piece::More(bytes)) => {
                self.waiting = bytes;
                false
            }
            Ok(()) | Err(Piece::End { .. }) => true,
        }
    }

    /// Says how the run ended; answers whether that was taken.
    fn send_end(&mut self, how: &str, answer: oneshot::Sender<Transcript>) -> bool {
        let piece = Piece::End { how: how.into(), missed: self.missed, answer: Some(answer) };
        self.send() && self.writer.send(Message { tape: self.id, piece }).is_ok()
    }
}

impl Tape {
    /// Adds what was printed. Never waits.
    pub fn write(&self, bytes: &[u8]) {
        self.inner().add(bytes);
    }

    /// Ends it, with how the run ended in words. None if nothing was printed.
    pub async fn end(&self, how: &str) -> Option<Transcript> {
        if self.is_empty() {
            return None;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let (answer, answered) = oneshot::channel();
            if self.inner().send_end(how, answer) {
                return Some(match timeout_at(until, answered).await {
                    Ok(Ok(transcript)) => transcript,
                    _ => Transcript::Lost("the disk does not answer".into()),
                });
            }
            if Instant::now() >= until {
                return Some(Transcript::Lost("the disk does not keep up".into()));
            }
            sleep(AGAIN).await;
        }
    }

    /// Whether nothing was printed; from now on it is over.
    fn is_empty(&self) -> bool {
        let mut inner = self.inner();
        inner.over = true;
        inner.heading.is_some() && inner.waiting.is_empty()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that was given up before its end.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.over && self.send() && self.heading.is_none() {
            let how = "given up".to_owned();
            let piece = Piece::End { how, missed: self.missed, answer: None };
            let _ = self.writer.send(Message { tape: self.id, piece });
        }
    }
}

#[cfg(test)]
mod tests;
