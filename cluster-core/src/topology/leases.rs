//! What this node's lease stands on, and its word about the silence of others.
//!
//! Invariants: only what a peer says it *accepted* counts; an attestation that a director waits for is made after that
//! director's own word.

use std::time::Duration;

use super::{Output, Topology};
use crate::id::NodeNumber;
use crate::lease::majority;
use crate::time::Instant;
use crate::wire::Beat;

/// For how long after a peer fell silent a voter reports at each word of a director.
const ATTESTING: Duration = Duration::from_secs(3);

/// A peer fell silent: this node's report must show that it was made late enough, so one is made whenever the
/// director is heard, until it has surely arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attesting {
    from: Instant,
    until: Instant,
}

impl Topology {
    /// When the newest beat was sent that a majority of the voters has accepted, this node included.
    pub(super) fn accepted_by_majority(&self, now: Instant) -> Option<Instant> {
        let voters = &self.config.voters;
        let own = self.votes(self.config.me).then_some(now);
        let peers = self.known.iter().filter(|it| voters.contains(&it.peer.number));
        majority(peers.filter_map(|it| it.granted).chain(own), voters.len())
    }

    /// A peer has been silent for so long that its lease is over if the others say so too. The director can count on
    /// that from its own last word on, so it is asked for one.
    pub(super) fn attest(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.news = true;
        if !self.votes(self.config.me) {
            return;
        }
        self.attesting = Some(Attesting { from: now, until: now + ATTESTING });
        for at in 0..self.links.len() {
            let peer = self.links[at].peer;
            let who = self.known.binary_search_by_key(&peer, |k| k.peer.number);
            if who.is_ok_and(|who| self.known[who].term > 0) && self.spoken_to(now, at) {
                self.send(now, at, out);
            }
        }
    }

    pub(super) fn votes(&self, node: NodeNumber) -> bool {
        self.config.voters.contains(&node)
    }

    /// Whether a beat is a director's word after a peer fell silent, to which a report is the answer.
    pub(super) fn is_asked(&mut self, now: Instant, beat: &Beat) -> bool {
        let _ = self.attesting.take_if(|it| now >= it.until);
        beat.director_term > 0 && self.attesting.is_some_and(|it| now >= it.from)
    }
}
