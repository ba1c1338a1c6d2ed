//! The lease: this node was heard, lately, by a director with a majority behind it.
//!
//! There is no message for it. Every beat is the request, and carries `t`, the asker's own clock
//! when it was sent. The director's beat that echoes `t` while its office is confirmed is the
//! grant, and the lease lasts until `t + T_lease` *on the asker's clock*. As `t` lies before the
//! answer, the asker's end is never later than the director's idea of it, however long the grant
//! was on its way; clocks need not agree, only run at about the same rate.
//!
//! Invariants: a grant never ends later than `T_lease` after its own request was sent; a grant of
//! an older term than one already seen changes nothing; a lease is never shortened by a grant; a
//! lease that ended and is granted anew is counted as a lapse, because in between everything that
//! stood on it may have been given to another node.

use std::time::Duration;

use crate::model::Timing;
use crate::time::Instant;

/// The holder's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    until: Option<Instant>,
    term: u64,
    lapses: u64,
}

impl Lease {
    /// Takes a grant: the director of `term` answered the request sent at `asked`, for `length`.
    pub fn grant(&mut self, now: Instant, term: u64, asked: Instant, length: Duration) {
        // A request from the future was never sent by this run.
        if term == 0 || term < self.term || asked > now {
            return;
        }
        self.term = term;
        let until = asked + length;
        // A node that was paused for longer than its lease may hear of the next grant before it
        // notices that the last one ended.
        if until > now && self.until.is_some_and(|old| old <= now) {
            self.lapses += 1;
        }
        self.until = self.until.max(Some(until));
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

/// The granter's side: whether this node's agent is director, and since when that is unconfirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granter {
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

impl Granter {
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

    /// The director's own node needs no packet: the majority that confirmed it is its grant.
    pub fn grant_self(&self, now: Instant, timing: &Timing, lease: &mut Lease) {
        if let Some(confirmed) = self.confirmed.filter(|_| self.term(now, timing) > 0) {
            let length = Duration::from_millis(timing.lease_ms);
            lease.grant(now, confirmed.term, confirmed.at, length);
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
        lease.grant(at(1_500), 1, at(1_000), LENGTH);
        assert!(lease.held(at(1_799)));
        assert!(!lease.held(at(1_800)));
    }

    #[test]
    fn a_grant_delayed_by_seconds_is_worth_nothing() {
        let mut lease = Lease::default();
        lease.grant(at(9_000), 1, at(1_000), LENGTH);
        assert!(!lease.held(at(9_000)));
    }

    #[test]
    fn a_late_grant_does_not_shorten_a_newer_one() {
        let mut lease = Lease::default();
        lease.grant(at(2_001), 1, at(2_000), LENGTH);
        lease.grant(at(2_100), 1, at(1_500), LENGTH);
        assert_eq!(lease.until(), Some(at(2_800)));
    }

    #[test]
    fn the_newer_term_wins() {
        let mut lease = Lease::default();
        lease.grant(at(1_001), 7, at(1_000), LENGTH);
        lease.grant(at(2_001), 6, at(2_000), LENGTH);
        assert!(!lease.held(at(2_002)), "a director of an older term grants nothing");
        lease.grant(at(2_001), 8, at(2_000), LENGTH);
        assert!(lease.held(at(2_002)));
    }

    #[test]
    fn a_grant_for_a_request_never_sent_is_ignored() {
        let mut lease = Lease::default();
        lease.grant(at(1_000), 1, at(5_000), LENGTH);
        assert_eq!(lease.until(), None);
    }

    /// A pause longer than the lease is noticed even if the next grant is what ends it.
    #[test]
    fn a_grant_after_the_end_is_a_lapse() {
        let mut lease = Lease::default();
        lease.grant(at(1_001), 1, at(1_000), LENGTH);
        lease.grant(at(1_799), 1, at(1_700), LENGTH);
        assert_eq!(lease.lapses(), 0);
        lease.grant(at(2_500), 1, at(1_650), LENGTH);
        assert_eq!(lease.lapses(), 0, "over before it came: not granted again");
        lease.grant(at(2_500), 1, at(2_450), LENGTH);
        assert_eq!(lease.lapses(), 1);
    }

    #[test]
    fn the_granter_stops_when_its_confirmation_is_too_old() {
        let mut granter = Granter::default();
        assert_eq!(granter.term(at(100), &TIMING), 0);
        granter.set(Some(Confirmation { term: 4, at: at(100) }));
        assert_eq!(granter.term(at(400), &TIMING), 4);
        assert_eq!(granter.term(at(401), &TIMING), 0);
        granter.set(None);
        assert_eq!(granter.term(at(101), &TIMING), 0);
    }

    /// A cluster of one node needs nobody else.
    #[test]
    fn the_director_grants_to_itself() {
        let (mut granter, mut lease) = (Granter::default(), Lease::default());
        granter.grant_self(at(100), &TIMING, &mut lease);
        assert!(!lease.held(at(100)));
        granter.set(Some(Confirmation { term: 1, at: at(100) }));
        granter.grant_self(at(120), &TIMING, &mut lease);
        assert!(lease.held(at(899)));
        assert!(!lease.held(at(900)));
    }
}
