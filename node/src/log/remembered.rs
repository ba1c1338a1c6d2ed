//! Shared memory of what each member's log had, at the seam between consensus and network.
//!
//! Consensus knows nothing of it: [`Client`](super::Client) and [`Replica::serve`](super::Replica)
//! show it every message that goes out or comes in, and ask it before a ballot is put, answered or
//! counted. The decisions are those of [`LogMemory`]; here are the lock, the announcements and the
//! file.
//!
//! The file (`cluster.memory.json` beside `cluster.db`) is written when the memory grew, at most once
//! a second, by rename and without a sync: an old one is a lower bound, and none at all is what a new
//! member begins with.
//!
//! The word of a member about itself counts only if it cannot be late: an answer is compared with
//! what was remembered *before* the question was put.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use vedette_core::id::{ClusterId, RaftId};
use vedette_core::log_memory::{LogMemory, Loss, Position, Told};

use super::schema::Identity;
use super::types::LogId;
use super::wire::{Append, Appended, Ballot, Distrust};

/// Shortest time between two writes of the file.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Most members of which every message of the leader speaks; of more, only the voters.
const SPOKEN_OF: usize = 9;

/// Members whose log is behind what it once was, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// The loss of this node's own log.
    pub own: Option<Loss>,
    /// The losses of the others.
    pub behind: BTreeMap<RaftId, Loss>,
}

/// Memory of one node; clones share it.
#[derive(Clone)]
pub struct Remembered {
    shared: Arc<Shared>,
}

struct Shared {
    me: RaftId,
    memory: Mutex<LogMemory>,
    voters: Mutex<BTreeSet<RaftId>>,
    standings: watch::Sender<Standings>,
    /// Counts up whenever there is something to write down.
    grown: watch::Sender<u64>,
}

/// What is in the file. A file of another log says nothing about this one.
#[derive(Serialize, Deserialize)]
struct Kept {
    cluster: ClusterId,
    raft_id: RaftId,
    memory: LogMemory,
}

impl Remembered {
    /// A memory of `me` that begins with what was kept.
    pub fn new(me: RaftId, memory: LogMemory) -> Self {
        Self {
            shared: Arc::new(Shared {
                me,
                memory: Mutex::new(memory),
                voters: Mutex::default(),
                standings: watch::Sender::default(),
                grown: watch::Sender::default(),
            }),
        }
    }

    /// Reads what was kept; nothing, if there is no file or it cannot be used. Blocks on the disk.
    pub(super) fn read(path: &Path, identity: Identity) -> Self {
        let kept = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice::<Kept>(&text).map_err(|error| error.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self::new(identity.raft_id, LogMemory::default());
            }
            Err(error) => Err(error.to_string()),
        };
        let memory = match kept {
            Ok(kept) if (kept.cluster, kept.raft_id) == (identity.cluster, identity.raft_id) => {
                kept.memory
            }
            Ok(_) => LogMemory::default(),
            Err(why) => {
                tracing::warn!(
                    path = %path.display(),
                    "what other members had in their logs is forgotten: {why}. They tell it again; \
                     nothing needs to be done"
                );
                LogMemory::default()
            }
        };
        Self::new(identity.raft_id, memory)
    }

    /// Remembers that `member` has, or had, the committed entry `index`: for whoever hears of it in
    /// another way than by messages of the log, as from beats. Never for an entry that may still be
    /// dropped, and never under the name of another log: it would count as lost for ever.
    pub fn note(&self, member: RaftId, index: u64) {
        self.change(|memory| memory.note(member, index));
    }

    /// Who is behind, followed as it changes.
    pub fn standings(&self) -> watch::Receiver<Standings> {
        self.shared.standings.subscribe()
    }

    /// Everything that is remembered.
    pub fn memory(&self) -> LogMemory {
        self.lock().clone()
    }

    /// Takes note of who is a member, so that former ones are forgotten.
    pub(super) fn members(&self, voters: &BTreeSet<RaftId>, learners: &BTreeSet<RaftId>) {
        let mut known = self.shared.voters.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(voters);
        drop(known);
        let all: BTreeSet<RaftId> = voters | learners;
        if all.contains(&self.shared.me) {
            self.change(|memory| memory.keep(&all));
        }
    }

    /// Whether a log that ends at `last` would be less than what this node had.
    pub(super) fn own_is_less(&self, last: u64) -> bool {
        last < self.lock().had(self.shared.me)
    }

    /// Takes note of the end of this node's own log.
    pub(super) fn own_end(&self, last: u64) {
        let me = self.shared.me;
        if self.own_is_less(last) || self.shared.standings.borrow().own.is_some() {
            self.change(|memory| memory.heard(me, last));
        }
    }

    /// Takes note of what this node itself has applied.
    pub(super) fn own_applied(&self, index: u64) {
        self.note(self.shared.me, index);
    }

    /// The last committed entry that `member` is known to have had.
    pub(super) fn had(&self, member: RaftId) -> u64 {
        self.lock().had(member)
    }

    // The leader's side.

    /// Adds to a message what the leader knows of the members' logs.
    pub(super) fn tell(&self, to: RaftId, append: &mut Append) {
        let voters = self.shared.voters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (leading, committed) = (append.vote.leader_id.term, position(append.committed));
        self.change(|memory| {
            memory.committed(leading, committed);
            // Whoever leads has all that is committed.
            memory.note(self.shared.me, committed.index);
            let all = memory.known();
            let few = all.len() <= SPOKEN_OF;
            append.members = all
                .into_iter()
                .filter(|member| few || *member == to || voters.contains(member))
                .filter_map(|member| Some((member, memory.word(member)?)))
                .collect();
        });
    }

    /// Takes note of the answer to `sent` of a member that was known to have `had` when it was sent.
    pub(super) fn appended(&self, to: RaftId, had: u64, sent: &Sent, reply: &Appended) {
        let acknowledged = |index: u64| {
            self.change(|memory| memory.acknowledged(sent.term, to, index));
        };
        match reply {
            Appended::All => acknowledged(sent.last),
            Appended::UpTo(last) => acknowledged(position(*last).index),
            Appended::Conflict { last } => {
                let last = last.unwrap_or(0).min(sent.previous.saturating_sub(1));
                // It had acknowledged what it lacks now.
                if last < had {
                    self.change(|memory| memory.heard(to, last));
                }
            }
            Appended::NewerVote(_) => {}
        }
    }

    /// Takes note that a member installed the state at `last`.
    pub(super) fn installed(&self, to: RaftId, term: u64, last: u64) {
        self.change(|memory| memory.acknowledged(term, to, last));
    }

    // The follower's side.

    /// Takes the leader's word. Of this node's own log it tells what was there; what is there now,
    /// nobody knows better than this node.
    pub(super) fn told(&self, mut word: LeadersWord) {
        let own = word.members.remove(&self.shared.me);
        self.change(|memory| {
            memory.committed(0, word.committed);
            memory.told(&word.members);
            memory.note(self.shared.me, own.map_or(0, |own| own.had));
        });
    }

    // Elections.

    /// Why this node must not ask `voter` for its vote, with a log that ends at `last`. A member that
    /// is behind is asked only whether it would vote, because its answer tells what it has.
    pub(super) fn may_ask(
        &self,
        voter: RaftId,
        last: Option<LogId>,
        in_earnest: bool,
    ) -> Result<(), Distrust> {
        let last = position(last);
        // A ballot is put as soon as it is made, so its end of the log is the present one.
        self.own_end(last.index);
        let memory = self.lock();
        let had = memory.had(self.shared.me);
        if last.index < had {
            return Err(Distrust::AskerLost(Loss { had, has: last.index }));
        }
        if let Some(committed) = memory.lacks(last) {
            return Err(Distrust::AskerLacks { committed, has: last });
        }
        match memory.standing(voter).loss() {
            Some(loss) if in_earnest => Err(Distrust::AnswererLost(loss)),
            _ => Ok(()),
        }
    }

    /// Why this node takes no part in an election of the asker of `ballot`. While there is a leader,
    /// it alone says who is behind: a ballot may have been on its way for long.
    pub(super) fn may_answer(&self, ballot: &Ballot, led: bool) -> Result<(), Distrust> {
        let (me, asker) = (self.shared.me, RaftId(ballot.vote.leader_id.voted_for));
        let last = position(ballot.last);
        self.change(|memory| {
            if let Some(loss) = memory.standing(me).loss() {
                return Err(Distrust::AnswererLost(loss));
            }
            let had = memory.had(asker);
            if !led {
                memory.heard(asker, last.index);
            }
            if last.index < had {
                return Err(Distrust::AskerLost(Loss { had, has: last.index }));
            }
            match memory.lacks(last) {
                Some(committed) => Err(Distrust::AskerLacks { committed, has: last }),
                None => Ok(()),
            }
        })
    }

    /// Whether the vote of a member counts that was known to have `had` when it was asked, and whose
    /// log ends at `last`.
    pub(super) fn may_count(
        &self,
        voter: RaftId,
        had: u64,
        last: Option<LogId>,
    ) -> Result<(), Distrust> {
        let last = position(last).index;
        if last < had {
            self.change(|memory| memory.heard(voter, last));
            return Err(Distrust::AnswererLost(Loss { had, has: last }));
        }
        self.change(|memory| memory.has_at_least(voter, last));
        Ok(())
    }

    /// Takes note of why a member does not take part. What it says of this node is compared with the
    /// own log by whoever knows where that ends now.
    pub(super) fn distrusted(&self, by: RaftId, why: &Distrust) {
        let me = self.shared.me;
        self.change(|memory| match *why {
            Distrust::AskerLost(loss) => memory.note(me, loss.had),
            Distrust::AnswererLost(loss) => {
                memory.note(by, loss.had);
                memory.heard(by, loss.has);
            }
            Distrust::AskerLacks { committed, .. } => memory.committed(0, committed),
        });
    }

    /// Changes the memory, and says so if somebody is behind now or no longer.
    fn change<T>(&self, change: impl FnOnce(&mut LogMemory) -> T) -> T {
        let mut memory = self.lock();
        let before = memory.growth();
        let result = change(&mut memory);
        let grew = memory.growth() != before;
        let mut behind = memory.behind();
        let own = behind.remove(&self.shared.me);
        // Under the lock, so that announcements come in the order of the changes.
        self.announce(Standings { own, behind });
        drop(memory);
        if grew {
            self.shared.grown.send_modify(|times| *times += 1);
        }
        result
    }

    fn announce(&self, now: Standings) {
        self.shared.standings.send_if_modified(|old| {
            if *old == now {
                return false;
            }
            say(old, &now);
            *old = now;
            true
        });
    }

    fn lock(&self) -> MutexGuard<'_, LogMemory> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is something new in the memory, followed as it changes.
    pub(super) fn grown(&self) -> watch::Receiver<u64> {
        self.shared.grown.subscribe()
    }

    /// Writes the file whenever the memory grew, until the last clone is gone.
    pub(super) fn keep_written(
        &self,
        path: PathBuf,
        identity: Identity,
    ) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        let mut grown = self.grown();
        async move {
            while grown.changed().await.is_ok() {
                let Some(remembered) = shared.upgrade().map(|shared| Self { shared }) else {
                    return;
                };
                let Identity { cluster, raft_id, .. } = identity;
                let kept = Kept { cluster, raft_id, memory: remembered.memory() };
                drop(remembered);
                let target = path.clone();
                let written = tokio::task::spawn_blocking(move || write(&target, &kept)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(%error, path = %path.display(), "what members had is not kept");
                }
                tokio::time::sleep(WRITE_EVERY).await;
            }
        }
    }
}

/// What is remembered of a message until its answer comes.
pub(super) struct Sent {
    term: u64,
    previous: u64,
    last: u64,
}

impl Sent {
    /// Notes what an answer will be about.
    pub(super) fn of(append: &Append) -> Self {
        let previous = position(append.previous).index;
        let last = append.entries.last().map_or(previous, |entry| entry.log_id.index);
        Self { term: append.vote.leader_id.term, previous, last }
    }
}

/// Word of the leader, as one message carries it.
pub(super) struct LeadersWord {
    committed: Position,
    members: BTreeMap<RaftId, Told>,
}

impl LeadersWord {
    /// Takes it out of a message.
    pub(super) fn of(append: &mut Append) -> Self {
        Self { committed: position(append.committed), members: std::mem::take(&mut append.members) }
    }
}

/// Position in our words.
pub(super) fn position(id: Option<LogId>) -> Position {
    id.map_or_else(Position::default, |id| Position { term: id.leader_id.term, index: id.index })
}

fn write(path: &Path, kept: &Kept) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(kept)?)?;
    std::fs::rename(new, path)
}

/// Logs who is behind now, and who no longer.
fn say(old: &Standings, new: &Standings) {
    match (old.own, new.own) {
        (None, Some(Loss { had, has })) => tracing::error!(
            had,
            has,
            "this node's log ends at entry {has}, but it had {had}: its disk lost what was written, \
             or an older copy of the state directory was put back. It neither votes nor leads until \
             the leader has sent the rest. If no other member has it any more, remove \
             cluster.memory.json in the state directory of every node and start them again"
        ),
        (Some(loss), None) => {
            tracing::warn!(had = loss.had, "this node's log has again what it had lost");
        }
        _ => {}
    }
    for (member, Loss { had, has }) in &new.behind {
        if !old.behind.contains_key(member) {
            tracing::error!(
                %member, had, has,
                "the log of member {member} ends at entry {has}, but it had {had}: its disk lost \
                 what was written. It does not count until it is caught up"
            );
        }
    }
    for member in old.behind.keys().filter(|member| !new.behind.contains_key(member)) {
        tracing::warn!(%member, "the log of member {member} has again what it had lost");
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::id::StorageId;

    use super::*;

    fn identity(raft_id: u64) -> Identity {
        Identity {
            cluster: ClusterId([7; 16]),
            raft_id: RaftId(raft_id),
            storage: StorageId([1; 16]),
        }
    }

    fn keep(path: &Path, raft_id: u64) {
        let mut memory = LogMemory::default();
        memory.note(RaftId(3), 985);
        let kept = Kept { cluster: ClusterId([7; 16]), raft_id: RaftId(raft_id), memory };
        write(path, &kept).expect("written");
    }

    /// What was kept is there again; what is damaged or of another log is nothing.
    #[test]
    fn the_file_is_a_lower_bound_or_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cluster.memory.json");
        let had = || Remembered::read(&path, identity(1)).had(RaftId(3));
        assert_eq!(had(), 0, "no file");
        keep(&path, 1);
        assert_eq!(had(), 985);
        keep(&path, 2);
        assert_eq!(had(), 0, "the memory of another member");
        std::fs::write(&path, b"{\"cluster\":").expect("written");
        assert_eq!(had(), 0, "half a file");
    }

    /// F1: the loss of others and the own one are announced, and their end.
    #[test]
    fn losses_are_announced() {
        let remembered = Remembered::new(RaftId(1), LogMemory::default());
        let standings = remembered.standings();
        remembered.note(RaftId(1), 985);
        remembered.note(RaftId(3), 985);
        remembered.own_end(819);
        assert!(remembered.may_count(RaftId(3), 985, None).is_err());
        let loss = |has| Loss { had: 985, has };
        let expected = Standings { own: Some(loss(819)), behind: [(RaftId(3), loss(0))].into() };
        assert_eq!(*standings.borrow(), expected);
        remembered.own_end(985);
        remembered.installed(RaftId(3), 4, 985);
        assert_eq!(*standings.borrow(), Standings::default());
    }

    /// An answer that was on its way while more was acknowledged is no loss.
    #[test]
    fn a_late_answer_is_no_loss() {
        let remembered = Remembered::new(RaftId(1), LogMemory::default());
        remembered.note(RaftId(3), 800);
        let had = remembered.had(RaftId(3));
        remembered.note(RaftId(3), 985);
        let last = Some(LogId::new(super::super::types::Committed::new(4), 819));
        assert_eq!(remembered.may_count(RaftId(3), had, last), Ok(()));
        assert_eq!(remembered.standings().borrow().behind, BTreeMap::new());
    }
}
