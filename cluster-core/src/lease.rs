//! The lease: this node was heard, lately, by a majority of the voters' guards.
//!
//! There is no message for it. Every beat is the request, and carries `t`, the asker's own clock
//! when it was sent. A voter's beat that echoes `t` of a beat *that it accepted* is its grant. The lease lasts
//! until `q + T_lease` *on the asker's clock*, where `q` is the newest `t` that a majority of the voters has echoed
//! ([`majority`]; the asker counts itself, if it votes). No agent, no log and no director takes part, so the loss of
//! any of them costs nobody a lease. As `t` lies before the answer, it does not matter how long a grant was on its
//! way; clocks need not agree, only run at about the same rate.
//!
//! The other half is [`crate::takeover`]: a lease is over when a majority of the same voters has accepted
//! nothing of the node for longer than a lease lasts, because two majorities share a voter. Which voters those are is
//! written in the log, set after set ([`VoterSet`]), and each node presents there which one its guard goes by before it
//! acquires anything.
//!
//! A director's word is another thing ([`Contact`]): what is known of the cluster is of now only while a director
//! that a majority confirms was heard lately. Nobody holds or lets go of anything for it.
//!
//! Invariants: a lease never ends later than `T_lease` after a request was sent that a majority accepted; a lease
//! is never shortened by a grant; a lease that ended and is granted anew is counted as a lapse, because in between
//! everything that stood on it may have been given to another node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{NodeNumber, StorageId};
use crate::model::Timing;
use crate::time::Instant;

/// Who votes, from one entry of the log to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterSet {
    /// Index of the entry that says so; 0 where none does.
    pub since: u64,
    /// The voters, each with the storage that it had: a number that was given away anew is another voter.
    pub members: Vec<(NodeNumber, StorageId)>,
}

impl VoterSet {
    /// The numbers of the voters.
    pub fn numbers(&self) -> impl Iterator<Item = NodeNumber> {
        self.members.iter().map(|(number, _)| *number)
    }

    /// Whether so many of them are a majority.
    pub const fn is_majority(&self, there: usize) -> bool {
        !self.members.is_empty() && there > self.members.len() / 2
    }
}

/// The newest moment that a majority has reached, of what is known of each of `all` voters. Those of which nothing
/// is known may be left out.
pub fn majority(reached: impl Iterator<Item = Instant> + Clone, all: usize) -> Option<Instant> {
    let candidates = reached.clone();
    let by_majority = |at: &Instant| reached.clone().filter(|it| it >= at).count() > all / 2;
    candidates.filter(by_majority).max()
}

/// The holder's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The newest request that a majority has accepted.
    asked: Option<Instant>,
    until: Option<Instant>,
    lapses: u64,
}

impl Lease {
    /// Takes a grant: a majority has accepted the request sent at `asked`, for `length`.
    pub fn grant(&mut self, now: Instant, asked: Instant, length: Duration) {
        // A request from the future was never sent by this run.
        if asked > now {
            return;
        }
        let until = asked + length;
        // A node that was paused for longer than its lease may hear of the next grant before it
        // notices that the last one ended.
        if until > now && self.until.is_some_and(|old| old <= now) {
            self.lapses += 1;
        }
        self.asked = self.asked.max(Some(asked));
        self.until = self.until.max(Some(until));
    }

    /// From now on it lasts for `length`: a grant for longer ends as others reckon who go by that.
    pub fn shorten(&mut self, length: Duration) {
        let bound = self.asked.map(|asked| asked + length);
        self.until = self.until.min(bound);
    }

    /// Whether the lease is held.
    pub fn held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// How many times it had ended before it was granted again.
    pub fn lapses(&self) -> u64 {
        self.lapses
    }

    /// When it ends, or ended, unless it is granted again.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Until when this node is in touch with a director whom a majority confirms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    until: Option<Instant>,
    term: u64,
}

impl Contact {
    /// The director of `term` answered what was sent at `asked`; that counts for `length`.
    pub fn hear(&mut self, now: Instant, term: u64, asked: Instant, length: Duration) {
        if term == 0 || term < self.term || asked > now {
            return;
        }
        self.term = term;
        self.until = self.until.max(Some(asked + length));
    }

    /// Whether there is one now.
    pub fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it ends unless the director is heard again.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Whether this node's agent is director, and since when that is unconfirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    confirmed: Option<Confirmation>,
}

/// A majority confirmed the office of this node's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The term of the office.
    pub term: u64,
    /// When the majority confirmed it, at the latest.
    pub at: Instant,
}

impl Tenure {
    /// How old a confirmation may be. A majority that confirmed a leader withholds its votes from
    /// others for the longest election timeout, so within this time there is no second director.
    pub const fn bound(timing: &Timing) -> Duration {
        Duration::from_millis(timing.election_max_ms)
    }

    /// What the agent says: confirmed, or not director (any more).
    pub fn set(&mut self, confirmed: Option<Confirmation>) {
        self.confirmed = confirmed;
    }

    /// The term to put into beats: 0 unless confirmed lately enough.
    pub fn term(&self, now: Instant, timing: &Timing) -> u64 {
        self.confirmed
            .filter(|c| c.at <= now && now.since(c.at) <= Self::bound(timing))
            .map_or(0, |c| c.term)
    }

    /// The director's own node needs no packet: it is in touch with itself.
    pub fn hear_self(&self, now: Instant, timing: &Timing, contact: &mut Contact) {
        if let Some(confirmed) = self.confirmed.filter(|_| self.term(now, timing) > 0) {
            let length = Duration::from_millis(timing.lease_ms);
            contact.hear(now, confirmed.term, confirmed.at, length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(800);
    const TIMING: Timing = Timing::DEFAULT;

    const fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn nothing_is_held_before_the_first_grant() {
        assert!(!Lease::default().held(Instant::ZERO));
    }

    #[test]
    fn the_lease_counts_from_the_request_not_from_the_grant() {
        let mut lease = Lease::default();
        lease.grant(at(1_500), at(1_000), LENGTH);
        assert!(lease.held(at(1_799)));
        assert!(!lease.held(at(1_800)));
    }

    #[test]
    fn a_grant_delayed_by_seconds_is_worth_nothing() {
        let mut lease = Lease::default();
        lease.grant(at(9_000), at(1_000), LENGTH);
        assert!(!lease.held(at(9_000)));
    }

    #[test]
    fn a_late_grant_does_not_shorten_a_newer_one() {
        let mut lease = Lease::default();
        lease.grant(at(2_001), at(2_000), LENGTH);
        lease.grant(at(2_100), at(1_500), LENGTH);
        assert_eq!(lease.until(), Some(at(2_800)));
    }

    /// Timers that become faster hold for what was granted before, too: others wait no longer for it.
    #[test]
    fn a_lease_of_slower_timers_ends_with_the_faster_ones() {
        let mut lease = Lease::default();
        lease.shorten(LENGTH);
        assert_eq!(lease.until(), None);
        lease.grant(at(1_001), at(1_000), LENGTH * 2);
        lease.shorten(LENGTH * 3);
        assert_eq!(lease.until(), Some(at(2_600)), "it is never made longer");
        lease.shorten(LENGTH);
        assert_eq!(lease.until(), Some(at(1_800)));
    }

    #[test]
    fn a_grant_for_a_request_never_sent_is_ignored() {
        let mut lease = Lease::default();
        lease.grant(at(1_000), at(5_000), LENGTH);
        assert_eq!(lease.until(), None);
    }

    /// A pause longer than the lease is noticed even if the next grant is what ends it.
    #[test]
    fn a_grant_after_the_end_is_a_lapse() {
        let mut lease = Lease::default();
        lease.grant(at(1_001), at(1_000), LENGTH);
        lease.grant(at(1_799), at(1_700), LENGTH);
        assert_eq!(lease.lapses(), 0);
        lease.grant(at(2_500), at(1_650), LENGTH);
        assert_eq!(lease.lapses(), 0, "over before it came: not granted again");
        lease.grant(at(2_500), at(2_450), LENGTH);
        assert_eq!(lease.lapses(), 1);
    }

    /// The second newest of three, the third newest of four or five; what nobody said counts for nobody.
    #[test]
    fn a_majority_has_reached_what_more_than_half_have() {
        let of = |reached: &[u64], all| majority(reached.iter().map(|it| at(*it)), all);
        assert_eq!(of(&[], 0), None);
        assert_eq!(of(&[], 1), None);
        assert_eq!(of(&[7], 1), Some(at(7)));
        assert_eq!(of(&[7], 2), None);
        assert_eq!(of(&[9, 5], 2), Some(at(5)));
        assert_eq!(of(&[9, 5, 7], 3), Some(at(7)));
        assert_eq!(of(&[9, 7], 3), Some(at(7)));
        assert_eq!(of(&[9], 3), None);
        assert_eq!(of(&[9, 5, 7, 8], 4), Some(at(7)));
        assert_eq!(of(&[9, 5, 7, 8, 6], 5), Some(at(7)));
        assert_eq!(of(&[9, 9, 9, 1, 1], 5), Some(at(9)));
    }

    #[test]
    fn half_of_a_set_is_no_majority() {
        let set = |size: u16| VoterSet {
            since: 1,
            members: (1..=size).map(|n| (NodeNumber(n), StorageId([0; 16]))).collect(),
        };
        assert!(!set(0).is_majority(0) && !set(4).is_majority(2) && !set(5).is_majority(2));
        assert!(set(1).is_majority(1) && set(4).is_majority(3) && set(5).is_majority(3));
    }

    #[test]
    fn a_director_of_an_older_term_has_nothing_to_say() {
        let mut contact = Contact::default();
        contact.hear(at(1_001), 7, at(1_000), LENGTH);
        contact.hear(at(2_001), 6, at(2_000), LENGTH);
        assert!(contact.lasts(at(1_799)) && !contact.lasts(at(2_002)));
        contact.hear(at(2_001), 8, at(2_000), LENGTH);
        assert!(contact.lasts(at(2_002)) && !contact.lasts(at(2_800)));
    }

    #[test]
    fn a_confirmation_that_is_too_old_is_none() {
        let mut tenure = Tenure::default();
        assert_eq!(tenure.term(at(100), &TIMING), 0);
        tenure.set(Some(Confirmation { term: 4, at: at(100) }));
        let over = 100 + TIMING.election_max_ms;
        assert_eq!(tenure.term(at(over), &TIMING), 4);
        assert_eq!(tenure.term(at(over + 1), &TIMING), 0);
        tenure.set(None);
        assert_eq!(tenure.term(at(101), &TIMING), 0);
    }

    /// A cluster of one node needs nobody else.
    #[test]
    fn a_director_is_in_touch_with_itself() {
        let (mut tenure, mut contact) = (Tenure::default(), Contact::default());
        tenure.hear_self(at(100), &TIMING, &mut contact);
        assert!(!contact.lasts(at(100)));
        tenure.set(Some(Confirmation { term: 1, at: at(100) }));
        tenure.hear_self(at(120), &TIMING, &mut contact);
        assert!(contact.lasts(at(899)));
        assert!(!contact.lasts(at(900)));
    }
}
