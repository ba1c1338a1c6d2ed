//! Who writes transcripts: one thread, which a full disk or a slow one may hold up and nobody else.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use vedette_core::model::Transcript;
use vedette_core::time::WallTime;

use super::file::{Writing, numbers};
use super::{Heading, Kind};

/// Pieces that may wait: some 16 KiB each, of all programs that run.
const WAITING: usize = 128;

/// Room that stays free on the disk: the log, the history and what the guard holds need it more.
const FREE: u64 = 64 << 20;

/// How old a transcript becomes.
const OLDEST: Duration = Duration::from_secs(30 * 86_400);

/// Files of one kind, whatever their size.
const MOST_FILES: usize = 1_000;

/// What a file takes of the disk at least.
const LEAST: u64 = 8 << 10;

/// Something for the thread.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) tape: u64,
    pub(super) piece: Piece,
}

#[derive(Debug)]
pub(super) enum Piece {
    First(Box<Heading>, Vec<u8>),
    More(Vec<u8>),
    End { how: String, missed: u64, answer: Option<oneshot::Sender<Transcript>> },
}

/// The way to the thread, which begins with the first piece and ends with the last copy of this: a guard, which has
/// none, keeps its signals to itself.
#[derive(Clone)]
pub(super) struct WriterHandle(Arc<Way>);

struct Way {
    folder: PathBuf,
    node: String,
    sender: OnceLock<SyncSender<Message>>,
}

impl fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriterHandle")
    }
}

impl WriterHandle {
    pub(super) fn new(folder: PathBuf, node: String) -> Self {
        Self(Arc::new(Way { folder, node, sender: OnceLock::new() }))
    }

    /// Gives a piece back if it cannot be taken now.
    pub(super) fn send(&self, message: Message) -> Result<(), Piece> {
        let sender = self.0.sender.get_or_init(|| self.0.start());
        sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message.piece,
        })
    }
}

impl Way {
    fn start(&self) -> SyncSender<Message> {
        let (sender, messages) = sync_channel(WAITING);
        let builder = std::thread::Builder::new().name("transcripts".into());
        let (folder, node) = (self.folder.clone(), self.node.clone());
        let clerk = Clerk { folder, node, open: BTreeMap::new() };
        // Without a thread every piece is refused, and that is said of each run.
        if let Err(error) = builder.spawn(move || clerk.run(&messages)) {
            tracing::warn!(%error, "no thread for transcripts");
        }
        sender
    }
}

/// A file, or why there is none.
type Open = Result<Writing, String>;

struct Clerk {
    folder: PathBuf,
    node: String,
    open: BTreeMap<u64, Open>,
}

impl Clerk {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(Message { tape, piece }) = messages.recv() {
            match piece {
                Piece::First(heading, bytes) => {
                    let mut open = begin(&self.folder, &self.node, *heading);
                    write(&mut open, &bytes);
                    self.open.insert(tape, open);
                }
                Piece::More(bytes) => {
                    if let Some(open) = self.open.get_mut(&tape) {
                        write(open, &bytes);
                    }
                }
                Piece::End { how, missed, answer } => {
                    let Some(open) = self.open.remove(&tape) else { continue };
                    let transcript = end(open, &how, missed);
                    if let Some(answer) = answer {
                        let _ = answer.send(transcript);
                    }
                }
            }
        }
    }
}

/// Keeps what a run has printed, on the caller's own thread: for the guard, which has no runtime and lets nobody
/// wait for this.
pub fn keep_now(
    folder: &Path,
    node: &str,
    heading: Heading,
    how: &str,
    output: &[u8],
) -> Transcript {
    let mut open = begin(folder, node, heading);
    write(&mut open, output);
    end(open, how, 0)
}

fn begin(folder: &Path, node: &str, heading: Heading) -> Open {
    if free(folder).is_some_and(|free| free < FREE) {
        return Err(format!("less than {} MiB are free on its disk", FREE >> 20));
    }
    let kind = heading.kind;
    let made = Writing::create(folder, node, heading, now());
    make_room(folder, kind);
    made.map_err(|error| error.to_string())
}

fn write(open: &mut Open, bytes: &[u8]) {
    let Ok(writing) = open else { return };
    if writing.label.missing.is_some() {
        return;
    }
    if let Err(error) = writing.write(bytes) {
        writing.is_missing(&error.to_string());
    }
}

fn end(open: Open, how: &str, missed: u64) -> Transcript {
    let mut writing = match open {
        Ok(writing) => writing,
        Err(why) => {
            tracing::warn!("the output of a program is not kept: {why}");
            return Transcript::Lost(why);
        }
    };
    if missed > 0 {
        writing.is_missing(&format!("{missed} bytes came faster than the disk took them"));
    }
    let ended = writing.end(how, now());
    let name = writing.label.name();
    match (writing.label.missing, ended) {
        (None, Ok(())) => Transcript::Kept(name),
        (Some(why), _) => Transcript::Partly(name, why),
        (None, Err(error)) => Transcript::Partly(name, error.to_string()),
    }
}

/// Removes the oldest of a kind that are too many, too large or too old. The newest of all stays, as its number is
/// where counting goes on.
fn make_room(folder: &Path, kind: Kind) {
    if let Err(error) = remove_surplus(folder, kind) {
        tracing::warn!(%error, "old transcripts cannot be removed");
    }
}

fn remove_surplus(folder: &Path, kind: Kind) -> io::Result<()> {
    let files = numbers(folder)?;
    let newest = files.last().map_or(0, |(number, _)| *number);
    let (mut count, mut bytes) = (0, 0);
    let of_kind = format!("-{kind}");
    for (number, name) in files.iter().rev().filter(|(_, name)| name.ends_with(&of_kind)) {
        let path = folder.join(name);
        let Ok(data) = std::fs::metadata(&path) else { continue };
        let age = data.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        count += 1;
        bytes += data.len().max(LEAST);
        let surplus = count > MOST_FILES || bytes > kind.share() || age > OLDEST;
        if surplus && *number < newest {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Bytes that are free for anybody but root on the disk of a folder; it, or one above it, exists.
fn free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let disk = nix::sys::statvfs::statvfs(there).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
