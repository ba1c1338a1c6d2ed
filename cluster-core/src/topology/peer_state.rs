//! A peer, as this node knows it over all networks: what it last said of itself.
//!
//! Invariants: of two networks the later word counts; a word of another storage is no word of this one.

use super::Peer;
use super::offset::Offset;
use crate::id::Session;
use crate::model::AgentStatus;
use crate::takeover::Remains;
use crate::time::Instant;
use crate::wire::Beat;

/// A peer, as this node knows it over all networks.
#[derive(Clone, Debug)]
pub(super) struct PeerState {
    pub(super) peer: Peer,
    pub(super) session: Option<Session>,
    pub(super) agent: AgentStatus,
    pub(super) leaving: bool,
    pub(super) epoch: u64,
    pub(super) remains: Remains,
    pub(super) position: u64,
    pub(super) position_max: u64,
    pub(super) log_stalled: bool,
    pub(super) offset: Offset,
    /// The peer's clock when it said so; of two networks the later word counts.
    pub(super) said_us: u64,
    /// When a beat of it was accepted last; when it became known, if none was.
    pub(super) heard_at: Instant,
    /// The newest of our own beats that it said it accepted: when that was sent.
    pub(super) granted: Option<Instant>,
    /// The term of its office, if it is director.
    pub(super) term: u64,
    /// No high-priority link to it is up, so low ones beat at the full rate.
    pub(super) promoted: bool,
}

impl PeerState {
    pub(super) fn new(now: Instant, peer: Peer) -> Self {
        Self {
            peer,
            session: None,
            agent: AgentStatus::Unknown,
            leaving: false,
            epoch: 0,
            remains: Remains::default(),
            position: 0,
            position_max: 0,
            log_stalled: false,
            offset: Offset::default(),
            said_us: 0,
            heard_at: now,
            granted: None,
            term: 0,
            promoted: true,
        }
    }

    /// Goes on with what the configuration says of the peer now.
    pub(super) fn renewed(&self, now: Instant, peer: Peer) -> Self {
        let mut renewed = Self { peer, ..self.clone() };
        if renewed.peer.storage != self.peer.storage {
            (renewed.granted, renewed.heard_at, renewed.term) = (None, now, 0);
            renewed.said_us = 0;
            (renewed.position, renewed.position_max) = (0, 0);
            (renewed.log_stalled, renewed.offset) = (false, Offset::default());
        }
        renewed
    }

    /// Takes what a fresh beat says of its node.
    pub(super) fn listen(&mut self, now: Instant, beat: &Beat) -> Heard {
        self.heard_at = now;
        if beat.flags.grants {
            // What was accepted stays accepted, in whatever order it is heard of.
            self.granted = self.granted.max(Some(Instant::from_micros(beat.echo.sent_us)));
        }
        let new_run = self.session != Some(beat.session);
        if !new_run && beat.sent_us < self.said_us {
            return Heard::default();
        }
        let moved = self.position != beat.position;
        let before = self.said();
        (self.session, self.said_us) = (Some(beat.session), beat.sent_us);
        (self.agent, self.leaving) = (beat.agent, beat.flags.leaving);
        (self.epoch, self.remains) = (beat.epoch, beat.remains);
        self.log_stalled = beat.flags.log_stalled;
        self.term = beat.director_term;
        self.position = beat.position;
        self.position_max = self.position_max.max(beat.position);
        if new_run {
            self.offset = Offset::default();
        }
        Heard { news: before != self.said(), moved }
    }

    /// Everything of which a change is told at once.
    const fn said(&self) -> (Option<Session>, AgentStatus, bool, (u64, Remains), bool) {
        (self.session, self.agent, self.leaving, (self.epoch, self.remains), self.log_stalled)
    }
}

/// What a beat changed in what is known of its sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Something that is told at once.
    pub(super) news: bool,
    /// Its position in the log.
    pub(super) moved: bool,
}
