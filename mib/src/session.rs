//! One AgentX session as a machine without sockets: octets come in, octets go out.
//!
//! The steps are Open, Register of the whole module, then requests are answered as they come, in
//! any number at once. What net-snmp's master really does (and RFC 2741 does not say) shapes it:
//! one session per connection, one region, no flag but the byte order in a response, as many
//! variables in a response as in the request.
//!
//! The master is never waited for: requests of ours are only remembered, with the time by which
//! their answer is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::time::{Instant, WallTime};

use crate::answer::Answers;
use crate::codec::{self, DecodeError, HEADER, Header, LONGEST_PAYLOAD, Writer};
use crate::oid::{Oid, ROOT};
use crate::pdu::{Body, Close, Pdu, Region, SearchRange, VarBind, error};
use crate::snapshot::Snapshot;
use crate::value::Value;

/// A master that says nothing for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(10);

/// A master that says nothing for so long is given up. Longer than net-snmp is held up by the
/// notifications in flight when an SNMPv3 receiver of informs is gone: six seconds for each.
const SILENCE: Duration = Duration::from_secs(60);

/// After so long without an answer the session no longer counts as connected.
const DOUBT: Duration = Duration::from_secs(5);

/// How long to wait before a region that somebody has is asked for again.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);

/// Octets that may wait to be written before the master is taken to be gone.
const MOST_UNSENT: usize = 8 * 1_024 * 1_024;

/// The most repetitions of a GetBulk that are answered; a master may ask again.
const MOST_VARIABLES: usize = 2_000;

/// Why a session is over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The octets of the master make no sense, and where the next PDU begins is not known.
    #[error("the master agent sent something that is no PDU: {0}")]
    Decode(#[from] DecodeError),
    /// The master closed the session.
    #[error("the master agent closed the session, reason {0}")]
    Closed(u8),
    /// The master refuses the session or the module.
    #[error("the master agent refused to {what}, error {error}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// Its error.
        error: u16,
    },
    /// The master is silent.
    #[error("the master agent has been silent for {} s", SILENCE.as_secs())]
    Silent,
    /// The master does not read.
    #[error("the master agent does not read what it asked for")]
    Unread,
}

/// What a notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// That we are there.
    SubagentUp,
    /// The record of the cluster's history with that sequence number.
    Record(u64),
    /// The record of this node's own journal with that number.
    Local(u64),
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The module is registered; requests come from now on.
    Up,
    /// Another subagent has registered it; it is asked for again until that one is gone.
    Taken,
    /// The master took a notification (or refused it, with its error).
    Notified {
        /// What the caller gave to [`Session::notify`].
        tag: Told,
        /// The master's error, 0 for none.
        error: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Registering,
    /// Somebody else has the module; it is asked for again at this time.
    Waiting(Instant),
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Open,
    Register,
    Ping,
    Notify(Told),
}

/// Counts of what a session did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Requests answered.
    pub requests: u64,
    /// Variables in them.
    pub variables: u64,
    /// PDUs that could not be read.
    pub malformed: u64,
}

/// A session.
pub struct Session {
    phase: Phase,
    id: u32,
    next_packet: u32,
    awaiting: BTreeMap<u32, (Purpose, Instant)>,
    heard: Instant,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// How much of `unsent` was written already.
    written: usize,
    counts: SessionCounts,
}

/// Clocks as the caller reads them: one for deadlines, one for dates.
pub trait Clock {
    /// Time since the program started.
    fn now(&self) -> Instant;
    /// The wall clock.
    fn wall(&self) -> WallTime;
}

impl Session {
    /// A session on a connection that has just been made; its Open is ready to be sent.
    pub fn open(now: Instant, description: &str) -> Self {
        let mut session = Self {
            phase: Phase::Opening,
            id: 0,
            next_packet: 1,
            awaiting: BTreeMap::new(),
            heard: now,
            received: Vec::new(),
            unsent: Vec::new(),
            written: 0,
            counts: SessionCounts::default(),
        };
        let description = description.as_bytes().to_vec();
        let open = Body::Open { timeout: 0, id: Oid::in_module(&[]), description };
        session.ask(now, Purpose::Open, open);
        session
    }

    /// Octets to be written.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent[self.written..]
    }

    /// That many of them were written.
    pub fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.unsent.len() {
            self.unsent.clear();
            self.written = 0;
        }
    }

    /// Whether the module is registered and the master answers.
    pub fn is_up(&self, now: Instant) -> bool {
        let overdue = |asked: &Instant| now.since(*asked) > DOUBT;
        self.phase == Phase::Up
            && (now.since(self.heard) < DOUBT
                || !self.awaiting.values().any(|(_, asked)| overdue(asked)))
    }

    /// How many notifications the master has not taken yet.
    pub fn in_flight(&self) -> usize {
        self.awaiting.values().filter(|(purpose, _)| matches!(purpose, Purpose::Notify(_))).count()
    }

    /// What it did so far.
    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// When [`Self::on_timeout`] wants to be called.
    pub fn deadline(&self) -> Instant {
        let silence = match self.awaiting.is_empty() {
            true => self.heard + PING_AFTER,
            false => self.heard + SILENCE,
        };
        match self.phase {
            Phase::Waiting(again) => again.min(silence),
            _ => silence,
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The master is gone.
    pub fn on_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if let Phase::Waiting(again) = self.phase
            && now >= again
        {
            self.register(now);
        }
        if !self.awaiting.is_empty() && now.since(self.heard) >= SILENCE {
            return Err(SessionError::Silent);
        }
        if self.awaiting.is_empty() && now.since(self.heard) >= PING_AFTER {
            self.ask(now, Purpose::Ping, Body::Ping);
        }
        Ok(())
    }

    /// Sends a notification; [`Event::Notified`] will carry the tag.
    pub fn notify(&mut self, now: Instant, tag: Told, varbinds: Vec<VarBind>) {
        self.ask(now, Purpose::Notify(tag), Body::Notify(varbinds));
    }

    /// Says good-bye.
    pub fn close(&mut self, reason: Close) {
        if self.phase == Phase::Up {
            self.send(Body::Unregister { region: module() });
        }
        self.send(Body::Close { reason: reason as u8 });
    }

    /// Takes in what was read and does whatever it asks for.
    ///
    /// # Errors
    /// The session is over.
    pub fn receive(
        &mut self,
        octets: &[u8],
        clock: &dyn Clock,
        answers: &mut Answers,
    ) -> Result<Vec<Event>, SessionError> {
        self.heard = clock.now();
        self.received.extend_from_slice(octets);
        let received = std::mem::take(&mut self.received);
        let mut rest = received.as_slice();
        let mut events = Vec::new();
        while let Some(header) = Header::decode(rest)? {
            let Some(payload) = rest.get(HEADER..HEADER + header.payload) else { break };
            rest = &rest[HEADER + header.payload..];
            self.handle(&header, payload, clock, answers, &mut events)?;
            if self.unsent.len() - self.written > MOST_UNSENT {
                return Err(SessionError::Unread);
            }
        }
        self.received = rest.to_vec();
        Ok(events)
    }

    fn handle(
        &mut self,
        header: &Header,
        payload: &[u8],
        clock: &dyn Clock,
        answers: &mut Answers,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        let body = match header.decode_payload(payload) {
            Ok(pdu) => pdu.body,
            Err(why) => {
                self.counts.malformed += 1;
                tracing::debug!(%why, kind = header.kind, "a PDU of the master agent was not understood");
                if !header.is_response() {
                    self.fail(header, error::PARSE_ERROR, 0);
                }
                return Ok(());
            }
        };
        match body {
            Body::Response { uptime, error, .. } => {
                answers.learn_uptime(uptime, clock.now());
                self.answered(header, error, clock.now(), events)
            }
            Body::Close { reason } => Err(SessionError::Closed(reason)),
            _ if self.phase == Phase::Opening || header.session != self.id => {
                self.fail(header, error::NOT_OPEN, 0);
                Ok(())
            }
            request => {
                self.counts.requests += 1;
                self.serve(header, request, clock, answers);
                Ok(())
            }
        }
    }

    /// The master answered one of our requests.
    fn answered(
        &mut self,
        header: &Header,
        error: u16,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        let Some((purpose, _)) = self.awaiting.remove(&header.packet) else { return Ok(()) };
        match (purpose, error) {
            (Purpose::Notify(tag), error) => events.push(Event::Notified { tag, error }),
            (Purpose::Open, error::NO_ERROR) => {
                self.id = header.session;
                self.register(now);
            }
            (Purpose::Register, error::NO_ERROR) => {
                self.phase = Phase::Up;
                events.push(Event::Up);
            }
            (Purpose::Register, error::DUPLICATE_REGISTRATION) => {
                self.phase = Phase::Waiting(now + REGISTER_AGAIN);
                events.push(Event::Taken);
            }
            (Purpose::Ping, error::NO_ERROR) => {}
            (Purpose::Open, error) => {
                return Err(SessionError::Refused { what: "open a session", error });
            }
            (Purpose::Register, error) => {
                return Err(SessionError::Refused { what: "register the module", error });
            }
            (Purpose::Ping, error) => {
                return Err(SessionError::Refused { what: "go on with the session", error });
            }
        }
        Ok(())
    }

    fn register(&mut self, now: Instant) {
        self.phase = Phase::Registering;
        let body = Body::Register { region: module(), instance: false };
        self.ask(now, Purpose::Register, body);
    }

    fn ask(&mut self, now: Instant, purpose: Purpose, body: Body) {
        let packet = self.send(body);
        self.awaiting.insert(packet, (purpose, now));
    }

    fn send(&mut self, body: Body) -> u32 {
        let packet = self.next_packet;
        self.next_packet = self.next_packet.wrapping_add(1);
        let (session, transaction) = (self.id, packet);
        let pdu = Pdu { network_order: true, session, transaction, packet, context: None, body };
        pdu.encode(&mut self.unsent);
        packet
    }

    /// Answers a request. What a manager wants to change is refused: everything is read-only.
    fn serve(&mut self, header: &Header, request: Body, clock: &dyn Clock, answers: &mut Answers) {
        match request {
            Body::Get(ranges) => {
                let latest = answers.latest(clock.now(), || clock.now());
                self.answer(header, &ranges, |range| {
                    (range.start.clone(), answers.get(&latest, &range.start))
                });
            }
            Body::GetNext(ranges) => {
                let now = clock.now();
                let latest = answers.latest(now, || clock.now());
                self.answer(header, &ranges, |range| next(answers, &latest, now, range));
            }
            Body::GetBulk { non_repeaters, max_repetitions, ranges } => {
                let now = clock.now();
                let latest = answers.latest(now, || clock.now());
                self.answer_bulk(header, non_repeaters, max_repetitions, ranges, |range| {
                    next(answers, &latest, now, range)
                });
            }
            Body::TestSet(_) => self.fail(header, error::NOT_WRITABLE, 1),
            Body::CommitSet => self.fail(header, error::COMMIT_FAILED, 0),
            Body::UndoSet => self.fail(header, error::UNDO_FAILED, 0),
            Body::CleanupSet => {}
            Body::Ping => self.fail(header, error::NO_ERROR, 0),
            _ => self.fail(header, error::PROCESSING_ERROR, 0),
        }
    }

    /// A response without variables.
    fn fail(&mut self, request: &Header, error: u16, index: u16) {
        Writer::response(&mut self.unsent, request, 0, error, index).end();
    }

    /// One variable for each range. If they are too many octets for one PDU, an error names the
    /// first that does not fit.
    fn answer(
        &mut self,
        header: &Header,
        ranges: &[SearchRange],
        mut find: impl FnMut(&SearchRange) -> (Oid, Value),
    ) {
        let mut writer = Writer::response(&mut self.unsent, header, 0, error::NO_ERROR, 0);
        for (place, range) in ranges.iter().enumerate() {
            let (name, value) = find(range);
            writer.varbind(&name, &value);
            if writer.payload() > LONGEST_PAYLOAD {
                writer.abandon();
                self.fail(header, error::GEN_ERR, place as u16 + 1);
                return;
            }
        }
        writer.end();
        self.counts.variables += ranges.len() as u64;
    }

    /// Answers a GetBulk (RFC 2741, 7.2.3.3), with as many repetitions as fit.
    fn answer_bulk(
        &mut self,
        header: &Header,
        non_repeaters: u16,
        max_repetitions: u16,
        mut ranges: Vec<SearchRange>,
        mut find: impl FnMut(&SearchRange) -> (Oid, Value),
    ) {
        let mut found = Vec::new();
        let once = usize::from(non_repeaters).min(ranges.len());
        found.extend(ranges.drain(..once).map(|range| find(&range)));
        let mut repetitions = 0;
        while !ranges.is_empty() && repetitions < max_repetitions && found.len() < MOST_VARIABLES {
            let mut ended = true;
            for range in &mut ranges {
                let (name, value) = find(range);
                ended &= value == Value::EndOfMibView;
                range.start = name.clone();
                range.include = false;
                found.push((name, value));
            }
            repetitions += 1;
            if ended {
                break;
            }
        }
        let mut writer = Writer::response(&mut self.unsent, header, 0, error::NO_ERROR, 0);
        let mut variables = 0;
        for (name, value) in &found {
            if writer.payload() + codec::longest_varbind(name, value) > LONGEST_PAYLOAD {
                break;
            }
            writer.varbind(name, value);
            variables += 1;
        }
        writer.end();
        self.counts.variables += variables;
    }
}

/// The variable that follows, or the end of the view under the name that was asked for.
fn next(
    answers: &mut Answers,
    latest: &Arc<Snapshot>,
    now: Instant,
    range: &SearchRange,
) -> (Oid, Value) {
    let found = answers.next(latest, now, range);
    found.unwrap_or_else(|| (range.start.clone(), Value::EndOfMibView))
}

/// The one region: the whole module.
fn module() -> Region {
    let subtree = Oid::new(ROOT).unwrap_or_default();
    Region { timeout: 0, priority: 127, subtree, range: None }
}
