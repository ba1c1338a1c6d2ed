//! The guard's journal, and what the next guard makes of it.

use serde::{Deserialize, Serialize};

use super::{Held, JournalEntry, Released};
use crate::time::Instant;

/// Content of the journal, which names at least what is held: it is on disk before anything is acquired, and only
/// shrinks after something was released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The highest epoch of this node's guard so far.
    pub epoch: u64,
    /// Name of the kernel's tables that guard the service addresses, once there are any.
    pub gate: Option<String>,
    /// Everything that is held.
    pub held: Held,
    /// Release programs and data of earlier epochs that were not let go of yet.
    #[serde(default)]
    pub remaining: Held,
}

impl Kept {
    /// Writes an entry into it.
    pub fn write(&mut self, entry: JournalEntry) {
        match entry {
            JournalEntry::Epoch { epoch, remaining } => {
                *self = Self { epoch, held: Held::default(), remaining, gate: self.gate.take() };
            }
            JournalEntry::Remaining(remaining) => self.remaining = remaining,
            JournalEntry::Gate(name) => self.gate = Some(name),
            JournalEntry::Held(held) => self.held = held,
            JournalEntry::Ended => *self = Self { epoch: self.epoch, ..Self::default() },
        }
    }

    /// Names what is about to be held as well, before it is.
    pub fn expect(&mut self, held: &Held) {
        self.held.add(held);
    }

    /// Everything that is let go of before a guard says anything, by the first attempt of a new guard.
    pub fn pending(&self) -> Held {
        self.held.clone().without_the_slow()
    }
}

/// Start of a guard, as an earlier one left things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inheritance {
    /// Its first epoch.
    pub epoch: u64,
    /// Left behind by an earlier guard, and not let go of yet.
    pub pending: Held,
    /// Of earlier epochs, and not seen to be gone.
    pub remaining: Held,
    /// When what an earlier guard had left running was let go of, if anything was there.
    pub released: Option<Instant>,
}

impl Inheritance {
    /// Outcome for the journal after the first attempt to let go of [`Kept::pending`]. `found`: something of that
    /// was there; `wall_ms`: the wall clock, which makes the epoch grow even if the journal was lost.
    pub fn new(
        kept: &Kept,
        outcome: &Released,
        found: bool,
        (now, wall_ms): (Instant, u64),
    ) -> Self {
        let mut remaining = kept.remaining.clone();
        remaining.programs.extend(kept.held.programs.iter().cloned());
        remaining.data.extend(kept.held.data.iter().cloned());
        let complete = outcome.is_complete();
        let pending = if complete { Held::default() } else { kept.pending() };
        // A new epoch says that nothing of the one before is left, so it waits until that is true.
        let next = (kept.epoch + 1).max(wall_ms);
        let epoch = if pending.is_empty() { next } else { kept.epoch };
        let released = (found && complete).then_some(now);
        Self { epoch, pending, remaining, released }
    }

    /// The journal that says so. The gate's name stays as long as there may be something behind it.
    pub fn journal(&self, before: &Kept) -> Kept {
        let (held, remaining) = (self.pending.clone(), self.remaining.clone());
        Kept { epoch: self.epoch, gate: before.gate.clone(), held, remaining }
    }
}
