//! Memory of what each member of the log once had on its disk, and who has less than that now.
//!
//! Consensus stands on one promise: what a member acknowledged stays on its disk. A disk that loses
//! the tail of its log, and an operator who puts back an older copy of a state directory, break it,
//! and then two members of three can agree on a leader that lacks a committed entry. Nobody sees that
//! from the member alone, whose log is in good order. But *others* remember what it had: the leader
//! from its acknowledgements, everybody else from the leader's word and from the members' own.
//!
//! ```text
//!   acknowledged 985, committed 985 ──▶ had = 985        speaks of 819 ──▶ Lost { had 985, has 819 }
//!                                                          has 985 again ──▶ Whole
//! ```
//!
//! Invariants:
//!
//! - Only *committed* entries are remembered. A member may be told to drop entries that were never
//!   committed, and has then lost nothing. That is why an index is enough to compare.
//! - What is remembered only grows, so whatever is kept on disk, however old, is a lower bound: the
//!   memory may fail to recognise a loss, and never invents one.
//! - A member that has as much as it had is whole again; a new name ([`RaftId`]) has no past.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::RaftId;

/// Position in the log: ordered as logs are compared, by the term of the leader that made the entry
/// first. Term 0 stands for a term that is not known.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Term of the leader that made the entry.
    pub term: u64,
    /// Index of the entry; 0 if there is none.
    pub index: u64,
}

/// Extent of a loss: indexes of the last entry that a member had, and of the last one that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Loss {
    /// The last committed entry that it had acknowledged.
    pub had: u64,
    /// The last entry that it has now.
    pub has: u64,
}

/// Verdict on the log of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known to be missing from it.
    Whole,
    /// It has less than it once acknowledged: it may neither vote nor lead until it is caught up.
    Lost(Loss),
}

impl Standing {
    /// The loss, if there is one.
    pub fn loss(self) -> Option<Loss> {
        match self {
            Self::Whole => None,
            Self::Lost(loss) => Some(loss),
        }
    }
}

/// Word of a leader about a member, which its messages carry to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The last committed entry that the member had acknowledged.
    pub had: u64,
    /// The last entry that it has, if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<u64>,
}

/// Acknowledgements in one term of office of this node, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Office {
    term: u64,
    acknowledged: BTreeMap<RaftId, u64>,
}

/// The memory of one node. What is serialized is what it keeps over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMemory {
    /// The last committed entry that each member had.
    had: BTreeMap<RaftId, u64>,
    /// The last entry that is known to be committed.
    committed: Position,
    /// What members have that have less than they had.
    #[serde(skip)]
    lost: BTreeMap<RaftId, u64>,
    #[serde(skip)]
    office: Office,
    /// Counts changes of what is serialized.
    #[serde(skip)]
    growth: u64,
}

impl LogMemory {
    /// Remembers that `member` has, or had, the committed entry `index`.
    pub fn note(&mut self, member: RaftId, index: u64) {
        if index == 0 {
            return;
        }
        let had = self.had.entry(member).or_default();
        if index > *had {
            *had = index;
            self.growth += 1;
        }
        self.raise(Position { term: 0, index });
    }

    fn raise(&mut self, committed: Position) {
        let raised = Position {
            term: committed.term.max(self.committed.term),
            index: committed.index.max(self.committed.index),
        };
        if raised != self.committed {
            self.committed = raised;
            self.growth += 1;
        }
    }

    /// Remembers that `position` is committed. The leader of `leading` said so: this node if it is
    /// the one whose acknowledgements are known, and what was acknowledged to it is then committed
    /// as far as that.
    pub fn committed(&mut self, leading: u64, position: Position) {
        self.raise(position);
        if leading == self.office.term {
            let acknowledged = std::mem::take(&mut self.office.acknowledged);
            for (&member, &index) in &acknowledged {
                self.note(member, index.min(position.index));
            }
            self.office.acknowledged = acknowledged;
        }
    }

    /// Remembers that `member` acknowledged everything up to `index` to this node, which leads in
    /// `term`. Also tells that it is whole, if that is as much as it had.
    pub fn acknowledged(&mut self, term: u64, member: RaftId, index: u64) {
        if term < self.office.term {
            return;
        }
        if term > self.office.term {
            self.office = Office { term, acknowledged: BTreeMap::new() };
        }
        let known = self.office.acknowledged.entry(member).or_default();
        *known = index.max(*known);
        self.has_at_least(member, index);
    }

    /// Takes note that the log of `member` ends at `last`.
    pub fn heard(&mut self, member: RaftId, last: u64) -> Standing {
        if last < self.had(member) {
            self.lost.insert(member, last);
            self.office.acknowledged.remove(&member);
        } else {
            self.lost.remove(&member);
        }
        self.standing(member)
    }

    /// Takes note that `member` has the entry `index`, and perhaps more.
    pub fn has_at_least(&mut self, member: RaftId, index: u64) {
        let had = self.had(member);
        if let Some(has) = self.lost.get_mut(&member) {
            *has = index.max(*has);
            if *has >= had {
                self.lost.remove(&member);
            }
        }
    }

    /// Takes the word of the leader, who knows best: whom it does not call lost is not.
    pub fn told(&mut self, members: &BTreeMap<RaftId, Told>) {
        for (&member, told) in members {
            self.note(member, told.had);
            match told.has {
                Some(has) => {
                    self.heard(member, has);
                }
                None => {
                    self.lost.remove(&member);
                }
            }
        }
    }

    /// What this node would say of `member` if it led.
    pub fn word(&self, member: RaftId) -> Option<Told> {
        let had = *self.had.get(&member)?;
        Some(Told { had, has: self.lost.get(&member).copied() })
    }

    /// The last committed entry that `member` is known to have had.
    pub fn had(&self, member: RaftId) -> u64 {
        self.had.get(&member).copied().unwrap_or(0)
    }

    /// Whether `member` has less than it had.
    pub fn standing(&self, member: RaftId) -> Standing {
        match self.lost.get(&member) {
            Some(&has) if has < self.had(member) => {
                Standing::Lost(Loss { had: self.had(member), has })
            }
            _ => Standing::Whole,
        }
    }

    /// The members that have less than they had.
    pub fn behind(&self) -> BTreeMap<RaftId, Loss> {
        let loss = |&member: &RaftId| Some((member, self.standing(member).loss()?));
        self.lost.keys().filter_map(loss).collect()
    }

    /// The committed entry that a log which ends at `last` is certain to lack, if there is one. Such
    /// a log is no leader's.
    pub fn lacks(&self, last: Position) -> Option<Position> {
        let lacks = last.index < self.committed.index || last.term < self.committed.term;
        lacks.then_some(self.committed)
    }

    /// Forgets all but `members`; names of former members are never used again.
    pub fn keep(&mut self, members: &BTreeSet<RaftId>) {
        let before = self.had.len();
        self.had.retain(|member, _| members.contains(member));
        self.growth += u64::from(self.had.len() < before);
        self.lost.retain(|member, _| members.contains(member));
        self.office.acknowledged.retain(|member, _| members.contains(member));
    }

    /// The members of which anything is known.
    pub fn known(&self) -> Vec<RaftId> {
        self.had.keys().copied().collect()
    }

    /// Number of changes of what a restart would forget; equal numbers mean that nothing changed.
    pub fn growth(&self) -> u64 {
        self.growth
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const N2: RaftId = RaftId(2);
    const N3: RaftId = RaftId(3);

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    /// F1: a member that speaks of less than it acknowledged has lost it, until it has it again.
    #[test]
    fn a_log_that_became_shorter_is_recognised() {
        let mut memory = LogMemory::default();
        memory.acknowledged(7, N3, 985);
        memory.committed(7, at(7, 985));
        assert_eq!(memory.heard(N3, 985), Standing::Whole);
        assert_eq!(memory.heard(N3, 819), Standing::Lost(Loss { had: 985, has: 819 }));
        memory.acknowledged(7, N3, 900);
        assert_eq!(memory.standing(N3), Standing::Lost(Loss { had: 985, has: 900 }));
        memory.acknowledged(7, N3, 985);
        assert_eq!(memory.standing(N3), Standing::Whole);
    }

    /// What was acknowledged and never committed may be dropped at a later leader's word.
    #[test]
    fn an_entry_that_was_not_committed_is_no_loss() {
        let mut memory = LogMemory::default();
        memory.acknowledged(3, N3, 985);
        memory.committed(3, at(3, 979));
        assert_eq!(memory.heard(N3, 979), Standing::Whole);
        // A later leader's entries with the same numbers are other entries.
        memory.committed(4, at(4, 990));
        assert_eq!(memory.heard(N3, 980), Standing::Whole, "it was away, and lost nothing");
    }

    /// A new leader knows nothing of acknowledgements to an earlier one.
    #[test]
    fn acknowledgements_count_in_their_term_only() {
        let mut memory = LogMemory::default();
        memory.acknowledged(3, N3, 985);
        memory.acknowledged(5, N2, 990);
        memory.committed(5, at(5, 990));
        assert_eq!((memory.had(N2), memory.had(N3)), (990, 0));
        memory.acknowledged(3, N3, 985);
        memory.committed(5, at(5, 990));
        assert_eq!(memory.had(N3), 0, "an answer to the earlier leader came late");
    }

    /// After a loss, what the member had acknowledged counts for nothing that is committed later.
    #[test]
    fn a_loss_voids_acknowledgements() {
        let mut memory = LogMemory::default();
        memory.acknowledged(3, N3, 900);
        memory.committed(3, at(3, 900));
        memory.acknowledged(3, N3, 950);
        assert!(memory.heard(N3, 819).loss().is_some());
        memory.committed(3, at(3, 950));
        assert_eq!(memory.had(N3), 900);
    }

    /// Nobody leads without what is known to be committed, whoever had it.
    #[test]
    fn a_log_without_a_committed_entry_is_no_leaders() {
        let mut memory = LogMemory::default();
        assert_eq!(memory.lacks(Position::default()), None);
        memory.committed(4, at(4, 985));
        assert_eq!(memory.lacks(at(4, 984)), Some(at(4, 985)));
        assert_eq!(memory.lacks(at(3, 990)), Some(at(4, 985)), "a longer log of an earlier term");
        assert_eq!(memory.lacks(at(4, 985)), None);
        // A beat tells an index without its term.
        memory.note(N2, 986);
        assert_eq!(memory.lacks(at(5, 985)), Some(at(4, 986)));
        assert_eq!(memory.lacks(at(5, 986)), None);
    }

    /// The leader's word reaches who has not been told by the member itself, and is corrected by it.
    #[test]
    fn the_leaders_word_is_taken() {
        let (mut leader, mut follower) = (LogMemory::default(), LogMemory::default());
        leader.note(N3, 985);
        leader.heard(N3, 819);
        let word = |leader: &LogMemory| BTreeMap::from([(N3, leader.word(N3).expect("known"))]);
        follower.told(&word(&leader));
        assert_eq!(follower.behind(), [(N3, Loss { had: 985, has: 819 })].into());
        leader.has_at_least(N3, 985);
        follower.told(&word(&leader));
        assert_eq!(follower.behind(), BTreeMap::new());
    }

    /// What is kept is a lower bound, and who is lost is found out anew.
    #[test]
    fn a_restart_keeps_what_was_had() {
        let mut memory = LogMemory::default();
        memory.note(N3, 985);
        let growth = memory.growth();
        memory.heard(N3, 819);
        memory.note(N3, 900);
        assert_eq!(memory.growth(), growth, "there is nothing new to write down");
        let LogMemory { had, committed, .. } = memory.clone();
        let mut again = LogMemory { had, committed, ..LogMemory::default() };
        assert_eq!(again.standing(N3), Standing::Whole, "it has said nothing yet");
        assert_eq!(again.heard(N3, 819), Standing::Lost(Loss { had: 985, has: 819 }));
        again.keep(&[N2].into());
        assert_eq!(again.heard(N3, 1), Standing::Whole, "no member any more");
    }

    proptest! {
        /// A member is lost exactly if its last word is less than the most that it ever had.
        #[test]
        fn lost_is_less_than_had(words in prop::collection::vec((1_u64..4, 1_u64..1_000, any::<bool>()), 1..200)) {
            let mut memory = LogMemory::default();
            let mut had: BTreeMap<RaftId, u64> = BTreeMap::new();
            let mut has: BTreeMap<RaftId, u64> = BTreeMap::new();
            for (member, index, noted) in words {
                let member = RaftId(member);
                if noted {
                    memory.note(member, index);
                    let most = had.entry(member).or_default();
                    *most = index.max(*most);
                } else {
                    memory.heard(member, index);
                    has.insert(member, index);
                    let most = had.get(&member).copied().unwrap_or(0);
                    let expected = (index < most).then_some(Loss { had: most, has: index });
                    prop_assert_eq!(memory.standing(member).loss(), expected);
                }
            }
            for (member, loss) in memory.behind() {
                prop_assert_eq!(loss, Loss { had: had[&member], has: has[&member] });
                prop_assert!(loss.has < loss.had);
            }
        }

        /// What is remembered never shrinks, and is never more than what was committed.
        #[test]
        fn memory_only_grows_and_never_beyond_what_is_committed(
            acks in prop::collection::vec((1_u64..4, 1_u64..100, 1_u64..100), 1..100),
        ) {
            let mut memory = LogMemory::default();
            let (mut before, mut committed) = (0, 0);
            for (term, acknowledged, index) in acks {
                memory.acknowledged(term, N3, acknowledged);
                memory.committed(term, at(term, index));
                committed = index.max(committed);
                prop_assert!(memory.had(N3) >= before && memory.had(N3) <= committed);
                before = memory.had(N3);
            }
        }
    }
}
