//! One peer on one network: what arrived, whether it was fresh, and until when that holds.

use std::time::Duration;

use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::Priority;
use crate::observation::LinkView;
use crate::time::Instant;
use crate::wire::{Beat, Echo};

/// Between two long beats.
const LONG_EVERY: Duration = Duration::from_secs(1);

/// A peer that is heard, and none of whose long beats came for so many times that, is behind something that loses them.
/// A bad network loses one in three, and so many in a row once in a thousand times.
const LONG_PATIENCE: u32 = 6;

/// Sequence numbers by which a long beat may be behind the newest beat.
const LONG_BEHIND: u64 = 16;

/// A packet whose echo is to be sent back.
#[derive(Clone, Copy, Debug)]
struct Got {
    echo: Echo,
    at: Instant,
}

/// Where a link stands. Every time is a deadline that the machine looks at; none is a callback.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) peer: NodeNumber,
    pub(super) network: NetworkNumber,
    pub(super) priority: Priority,
    /// In the set of links that this node watches; others live while the peer wants them.
    pub(super) watched: bool,
    /// The peer is not a live member and the ring is large: beats are rarer until it is heard.
    pub(super) sparse: bool,
    /// When to stop sending, for a link that is not watched.
    pub(super) drop_at: Instant,
    /// Until then, having heard nothing is no testimony.
    pub(super) grace_until: Instant,
    /// The end of that time was noticed, or the peer was heard before.
    pub(super) grace_over: bool,
    pub(super) inbound: bool,
    pub(super) outbound: bool,
    /// The peer has just come back and could not say yet whether it hears us: until then the link
    /// is spoken of as before.
    pub(super) settles_at: Option<Instant>,
    /// When `inbound` ends unless another packet arrives.
    pub(super) expires_at: Instant,
    heard_at: Option<Instant>,
    /// The peer's session on this link, once a packet proved itself fresh.
    pub(super) session: Option<Session>,
    last_seq: u64,
    /// The highest of our own sequence numbers that the peer echoed.
    proven_seq: u64,
    /// The peer's last accepted packet.
    accepted: Option<Got>,
    /// The peer's last packet that could not prove itself yet.
    candidate: Option<Got>,
    /// No answer to unproven packets before then.
    answer_at: Instant,
    next_seq: u64,
    rtt_us: Option<u32>,
    lost: u64,
    received: u64,
    /// When the next long beat is due.
    long_at: Instant,
    /// When the peer's last long beat came, or could have come first.
    heard_long_at: Instant,
    /// Its long beats do not arrive.
    narrow: bool,
}

impl Link {
    pub(super) fn new(peer: NodeNumber, network: NetworkNumber) -> Self {
        Self {
            peer,
            network,
            priority: Priority::High,
            watched: false,
            sparse: false,
            drop_at: Instant::ZERO,
            grace_until: Instant::ZERO,
            grace_over: true,
            inbound: false,
            outbound: false,
            settles_at: None,
            expires_at: Instant::ZERO,
            heard_at: None,
            session: None,
            last_seq: 0,
            proven_seq: 0,
            accepted: None,
            candidate: None,
            answer_at: Instant::ZERO,
            next_seq: 1,
            rtt_us: None,
            lost: 0,
            received: 0,
            long_at: Instant::ZERO,
            heard_long_at: Instant::ZERO,
            narrow: false,
        }
    }

    pub(super) fn key(&self) -> (NodeNumber, NetworkNumber) {
        (self.peer, self.network)
    }

    pub(super) fn up(&self) -> bool {
        self.inbound && self.outbound
    }

    /// Whether the report speaks of it: silence counts only where a peer was expected to speak.
    pub(super) fn reported(&self) -> bool {
        (self.inbound && self.settles_at.is_none()) || (self.watched && self.grace_over)
    }

    /// No beat was ever sent over it.
    pub(super) fn unused(&self) -> bool {
        self.next_seq == 1
    }

    /// Begins or ends watching. What is not watched any more is spoken to for a while yet, as the
    /// other end learns of the change a little earlier or later.
    pub(super) fn watch(&mut self, now: Instant, watched: bool, detect: Duration) {
        if watched && !self.watched {
            self.grace_until = now + detect;
            self.grace_over = self.inbound;
        } else if self.watched && !watched {
            self.drop_at = now + detect * 2;
        }
        self.watched = watched;
    }

    /// When time alone changes something here.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expires = self.inbound.then_some(self.expires_at);
        let grace = (self.watched && !self.grace_over).then_some(self.grace_until);
        let narrow = (self.inbound && !self.narrow).then(|| self.narrow_at());
        [self.settles_at, expires, grace, narrow].into_iter().flatten().min()
    }

    /// Time has come to something here. Returns whether the peer was lost.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        if self.settles_at.is_some_and(|at| now >= at) {
            (self.settles_at, self.grace_over) = (None, true);
        }
        self.grace_over |= self.watched && now >= self.grace_until;
        let lost = self.inbound && now >= self.expires_at;
        if lost {
            (self.inbound, self.outbound, self.settles_at) = (false, false, None);
        }
        self.narrow = self.inbound && now >= self.narrow_at();
        lost
    }

    /// When long beats are missed, unless one comes.
    fn narrow_at(&self) -> Instant {
        self.heard_long_at + LONG_EVERY * LONG_PATIENCE
    }

    /// Whether a beat that is sent now is to be followed by a long one.
    pub(super) fn sends_long(&mut self, now: Instant) -> bool {
        let due = self.inbound && now >= self.long_at;
        if due {
            self.long_at = now + LONG_EVERY;
        }
        due
    }

    /// Takes a long beat, if it is of now: the same as a beat that came, or comes next. Returns whether the link changed.
    pub(super) fn accept_long(&mut self, now: Instant, beat: &Beat) -> Option<bool> {
        let newest = self.last_seq.saturating_add(1);
        let fresh = beat.seq <= newest && newest - beat.seq < LONG_BEHIND;
        if self.session != Some(beat.session) || !fresh {
            return None;
        }
        self.heard_long_at = now;
        Some(std::mem::take(&mut self.narrow))
    }

    /// Whether a packet advances the session that is already proven here.
    pub(super) fn advances(&self, beat: &Beat) -> bool {
        self.session == Some(beat.session) && beat.seq > self.last_seq
    }

    /// Whether a packet of another session than the one known here proves that it is the newer
    /// one: it echoes a beat of ours that nobody had echoed yet.
    pub(super) fn proves_new_session(&self, beat: &Beat) -> bool {
        self.session != Some(beat.session) && beat.echo.seq > self.proven_seq
    }

    /// Takes an authentic, fresh packet. Returns whether the link changed.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        beat: &Beat,
        window: Duration,
        interval: Duration,
    ) -> bool {
        if self.session == Some(beat.session) {
            self.lost += beat.seq - self.last_seq - 1;
        }
        self.session = Some(beat.session);
        self.last_seq = beat.seq;
        self.received += 1;
        self.measure(now, beat);
        self.proven_seq = self.proven_seq.max(beat.echo.seq);
        self.accepted = Some(Got::new(now, beat));
        self.candidate = None;
        self.heard_at = Some(now);
        self.expires_at = now + window;
        if beat.flags.watching {
            self.drop_at = self.drop_at.max(self.expires_at);
        }
        let before = (self.inbound, self.outbound);
        if !before.0 {
            self.heard_long_at = now;
        }
        (self.inbound, self.outbound) = (true, beat.flags.hears_you);
        if self.up() {
            (self.settles_at, self.grace_over) = (None, true);
        } else if !before.0 {
            self.settles_at = Some(now + interval);
        }
        before != (self.inbound, self.outbound)
    }

    /// Smooths the round trip as TCP does; a repeated echo says nothing new.
    fn measure(&mut self, now: Instant, beat: &Beat) {
        if beat.echo.seq <= self.proven_seq {
            return;
        }
        let trip = now.as_micros().saturating_sub(beat.echo.sent_us);
        let sample = u32::try_from(trip.saturating_sub(beat.echo.held_us)).unwrap_or(u32::MAX);
        self.rtt_us = Some(
            self.rtt_us.map_or(sample, |old| ((u64::from(old) * 7 + u64::from(sample)) / 8) as u32),
        );
    }

    /// Remembers a packet that could not prove itself. Returns whether to answer it at once.
    pub(super) fn challenge(&mut self, now: Instant, beat: &Beat, pause: Duration) -> bool {
        self.candidate = Some(Got::new(now, beat));
        let answer = now >= self.answer_at;
        if answer {
            self.answer_at = now + pause;
        }
        answer
    }

    /// All high networks to the peer failed: from now on it beats here at the full rate, and at
    /// least one beat must come within `interval`.
    pub(super) fn promote(&mut self, now: Instant, interval: Duration, detect: Duration) {
        if let Some(heard) = self.heard_at.filter(|_| self.inbound) {
            let due = (heard + detect).max(now + interval);
            self.expires_at = self.expires_at.min(due);
        }
    }

    /// Gives the peer back the time in which this node did not listen.
    pub(super) fn give_back(&mut self, lost: Duration) {
        self.expires_at = self.expires_at + lost;
        self.grace_until = self.grace_until + lost;
        self.drop_at = self.drop_at + lost;
        self.heard_long_at = self.heard_long_at + lost;
    }

    /// The sequence number of the next beat.
    pub(super) fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The echo of a regular beat: of what is proven, else of what might be; and whether it is of what is proven.
    pub(super) fn echo(&self, now: Instant) -> (Echo, bool) {
        let echo = self.accepted.or(self.candidate).map_or(Echo::default(), |got| got.held(now));
        (echo, self.accepted.is_some())
    }

    /// The echo of an answer: of the packet that must prove itself.
    pub(super) fn echo_of_candidate(&self, now: Instant) -> (Echo, bool) {
        let echo = self.candidate.or(self.accepted).map_or(Echo::default(), |got| got.held(now));
        (echo, self.candidate.is_none() && self.accepted.is_some())
    }

    pub(super) fn view(&self, now: Instant) -> LinkView {
        LinkView {
            peer: self.peer,
            network: self.network,
            inbound: self.inbound && self.settles_at.is_none(),
            outbound: self.outbound,
            silent: self.heard_at.map(|at| now.since(at)),
            rtt_us: self.rtt_us,
            lost: self.lost,
            received: self.received,
            narrow: self.narrow,
        }
    }
}

impl Got {
    fn new(at: Instant, beat: &Beat) -> Self {
        let (session, seq, sent_us) = (beat.session, beat.seq, beat.sent_us);
        Self { echo: Echo { session, seq, sent_us, held_us: 0 }, at }
    }

    fn held(self, now: Instant) -> Echo {
        Echo { held_us: now.since(self.at).as_micros() as u64, ..self.echo }
    }
}
