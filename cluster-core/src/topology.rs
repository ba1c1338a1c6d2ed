//! Topology: what this node hears of its peers, on which network, in which direction.
//!
//! Sans-IO: beats and time come in as values, beats to send and the wish to report go out. One
//! machine runs in every guard. It sends a beat over every link once an interval (half as often
//! over low-priority networks, spec V2, until every high-priority one to that peer has failed, V3),
//! and it believes a peer's beat only if that is *fresh*: the beat echoes the session which this
//! run drew at its start, and its sequence number advances. First contact is therefore a handshake
//! made of beats: who sees an unproven one answers at once, and the answer's echo is the proof.
//!
//! A link is *inbound* while fresh beats arrive within `interval × sensitivity`, and *outbound*
//! while the peer says that ours arrive there. Nothing here is a fact about the cluster: the
//! [`Report`] is one node's testimony.
//!
//! Invariants:
//! - A node that was late itself (paused, starved) says so, gives its peers back the time in which
//!   it did not listen, and testifies against nobody until it has been punctual for a while.
//! - Having heard nothing on a new link is no testimony before the time for detection has passed.
//! - A change of the own agent's status is in a beat to everybody at once; a change of a peer's is
//!   in a report at once.
//! - The wall clock and the positions in logs are passed on and never acted on; a report is due for
//!   them soon, not at once.
//! - In steady state nothing is allocated: the links are the allocation.

mod frames;
mod leases;
mod link;
mod offset;
mod peer_state;
mod reject;
pub mod ring;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::leases::Attesting;
use self::link::Link;
use self::peer_state::PeerState;
pub use self::reject::{Reject, Rejected};
use crate::id::{NetworkNumber, NodeNumber, Session, StorageId};
use crate::lease::{Confirmation, Contact, Lease, Tenure};
use crate::model::{AgentStatus, Priority, Timing};
use crate::observation::{OwnInterface, PeerView, Report};
use crate::takeover::{Word, telling_silence};
use crate::time::Instant;
use crate::wire::{Beat, Echo, Flags, WireError};

/// While positions in logs change, a report is wanted at least this often.
const MOVING_REPORT: Duration = Duration::from_millis(400);

/// What the machine has to know of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub me: NodeNumber,
    /// This run of this guard.
    pub session: Session,
    /// Timers.
    pub timing: Timing,
    /// The networks, each with its priority (spec V1).
    pub networks: Vec<(NetworkNumber, Priority)>,
    /// The other members.
    pub peers: Vec<Peer>,
    /// Who votes. A lease comes from the beats of a majority of them, and they attest silence; so voters and
    /// everybody else watch each other, whatever the ring says.
    pub voters: Vec<NodeNumber>,
    /// Which set of voters that is ([`crate::lease::VoterSet::since`]). An earlier one than is known already is not
    /// gone back to.
    pub voters_since: u64,
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub number: NodeNumber,
    /// Its storage: what was heard of another one is no word of this one.
    pub storage: StorageId,
    /// Its committed host status is UP.
    pub live: bool,
    /// The networks on which it has an address.
    pub networks: Vec<NetworkNumber>,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A beat arrived on a network; its seal was right.
    Beat(NetworkNumber, Beat),
    /// A long beat arrived, likewise.
    Long(NetworkNumber, Beat),
    /// Something arrived that is no beat of this cluster.
    Garbage(WireError),
    /// What the own agent says of itself.
    Agent {
        /// Its status.
        status: AgentStatus,
        /// Whether it is director, confirmed by a majority.
        director: Option<Confirmation>,
        /// Whether it took part in the seeded cluster before.
        continuity: bool,
        /// Index of the last log entry that it has applied; 0 if unknown.
        position: u64,
        /// Its log stands still.
        log_stalled: bool,
    },
    /// What the own wall clock shows now, in microseconds since 1970. It is taken to run on until
    /// it is said again; whoever drives the machine says it before it lets it do anything.
    Clock {
        /// 0 if unknown.
        wall_us: u64,
    },
    /// The state of an own interface.
    Interface(OwnInterface),
    /// What this guard says of what it holds.
    Holds(Word),
    /// This node is leaving on purpose; say so now (spec A19).
    Leave,
}

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this beat to its destination over its network.
    Send(Beat),
    /// Send this beat once more, long.
    SendLong(Beat),
    /// Something changed: make a report and hand it on.
    ReportNow,
}

/// What this node says of itself in every beat.
#[derive(Clone, Copy, Debug)]
struct Own {
    agent: AgentStatus,
    continuity: bool,
    leaving: bool,
    word: Word,
    position: u64,
    log_stalled: bool,
    /// What the wall clock showed, and when.
    wall: Option<(Instant, u64)>,
    tenure: Tenure,
}

impl Own {
    /// What the wall clock shows now; 0 if unknown.
    fn wall_us(&self, now: Instant) -> u64 {
        let (at, wall_us) = self.wall.unwrap_or_default();
        if wall_us == 0 { 0 } else { wall_us.saturating_add((now - at).as_micros() as u64) }
    }
}

/// This node's doubt in itself.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    suspect: bool,
    /// Punctual beats in a row since it was last late.
    punctual: u64,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Topology {
    config: Config,
    /// In order of number.
    known: Vec<PeerState>,
    /// In order of peer and network.
    links: Vec<Link>,
    interfaces: Vec<OwnInterface>,
    own: Own,
    doubt: Doubt,
    lease: Lease,
    contact: Contact,
    /// Lease and contact as they were told last.
    told: (bool, bool),
    next_beat: Instant,
    round: u64,
    next_report: Instant,
    /// When the last report was made or wished for.
    reported_at: Instant,
    /// When a peer that fell silent has been silent for so long that it tells something.
    telling: Option<Instant>,
    attesting: Option<Attesting>,
    reports: u64,
    rejected: Rejected,
    /// Something changed in this step.
    news: bool,
}

impl Topology {
    /// A machine that knows nothing yet; its first deadline is now.
    pub fn new(config: Config, now: Instant) -> Self {
        let own = Own {
            agent: AgentStatus::Down,
            continuity: false,
            leaving: false,
            word: Word::default(),
            position: 0,
            log_stalled: false,
            wall: None,
            tenure: Tenure::default(),
        };
        let mut topology = Self {
            config,
            known: Vec::new(),
            links: Vec::new(),
            interfaces: Vec::new(),
            own,
            doubt: Doubt::default(),
            lease: Lease::default(),
            contact: Contact::default(),
            told: (false, false),
            next_beat: now,
            round: 0,
            next_report: now,
            reported_at: now,
            telling: None,
            attesting: None,
            reports: 0,
            rejected: Rejected::default(),
            news: false,
        };
        topology.rebuild(now);
        topology
    }

    /// Goes on with another configuration: what is known of links that stay is kept.
    pub fn reconfigure(&mut self, now: Instant, mut config: Config, out: &mut Vec<Output>) {
        let same_run = (config.me, config.session) == (self.config.me, self.config.session);
        if same_run && config.voters_since < self.config.voters_since {
            // An agent that has just begun may not be as far yet as the one before it was.
            config.voters.clone_from(&self.config.voters);
            config.voters_since = self.config.voters_since;
        }
        if config == self.config {
            return;
        }
        if !same_run {
            self.links.clear();
            self.known.clear();
        }
        let changed_timing = config.timing != self.config.timing;
        self.config = config;
        self.rebuild(now);
        if changed_timing {
            self.lease.shorten(Duration::from_millis(self.config.timing.lease_ms));
            self.next_beat = self.next_beat.min(now + self.config.timing.interval());
        }
        self.news = true;
        self.beat_new_links(now, out);
        self.settle(now, out);
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        self.notice_lateness(now);
        match input {
            Input::Beat(network, beat) => {
                if let Err(why) = self.hear(now, network, &beat, out) {
                    self.rejected.count(why);
                }
            }
            Input::Long(network, beat) => {
                if let Err(why) = self.hear_long(now, network, &beat) {
                    self.rejected.count(why);
                }
            }
            Input::Garbage(why) => self.rejected.count(why.into()),
            Input::Agent { status, director, continuity, position, log_stalled } => {
                let log = (position, log_stalled);
                self.hear_agent(now, status, director, continuity, log, out);
            }
            Input::Clock { wall_us } => self.own.wall = Some((now, wall_us)),
            Input::Interface(interface) => self.set_interface(interface),
            Input::Holds(word) => {
                let before = std::mem::replace(&mut self.own.word, word);
                self.news |= (before.epoch, before.released) != (word.epoch, word.released);
                if (before.epoch, before.remains) != (word.epoch, word.remains) {
                    self.beat_all(now, out);
                }
            }
            Input::Leave => {
                self.own.leaving = true;
                self.beat_all(now, out);
            }
        }
        self.settle(now, out);
    }

    /// To be called when [`Topology::deadline`] has come.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.notice_lateness(now);
        self.expire(now, out);
        if now >= self.next_beat {
            self.beat_round(now, out);
        }
        if self.telling.take_if(|at| now >= *at).is_some() {
            self.attest(now, out);
        }
        self.news |= now >= self.next_report;
        self.settle(now, out);
    }

    /// When something is due, whatever arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let lease = self.lease.until().filter(|_| self.told.0);
        let contact = self.contact.until().filter(|_| self.told.1);
        let links = self.links.iter().filter_map(Link::deadline).min();
        let due =
            [Some(self.next_beat), Some(self.next_report), self.telling, lease, contact, links];
        due.into_iter().flatten().min()
    }

    /// When the lease ends unless it is granted again; `None` before the first grant.
    pub fn lease_until(&self) -> Option<Instant> {
        self.lease.until()
    }

    /// How many times it had ended before it was granted again ([`Lease::lapses`]).
    pub fn lease_lapses(&self) -> u64 {
        self.lease.lapses()
    }

    /// This node's testimony.
    pub fn report(&mut self, now: Instant) -> Report {
        self.reports += 1;
        self.report_later(now);
        let links: Vec<_> =
            self.links.iter().filter(|l| l.reported()).map(|l| l.view(now)).collect();
        let spoken_of = |known: &&PeerState| {
            known.session.is_some() || links.iter().any(|l| l.peer == known.peer.number)
        };
        Report {
            observer: self.config.me,
            session: self.config.session,
            sequence: self.reports,
            self_suspect: self.doubt.suspect,
            made_us: now.as_micros(),
            lease: self.lease.held(now),
            voters: self.config.voters_since,
            timing: Some(self.config.timing),
            directed: self.contact.lasts(now),
            epoch: self.own.word.epoch,
            released: self.own.word.released,
            continuity: self.own.continuity,
            agent: self.own.agent,
            position: self.own.position,
            peers: self.known.iter().filter(spoken_of).map(|k| self.peer_view(now, k)).collect(),
            interfaces: self.interfaces.clone(),
            links,
        }
    }

    /// A report is wanted at least this often: one that is older than the detection time is no
    /// testimony any more, and one or two may be late.
    fn report_every(&self) -> Duration {
        Duration::from_millis((self.config.timing.detect().as_millis() / 3) as u64)
    }

    /// One was made, or is about to be: the next one has time.
    fn report_later(&mut self, now: Instant) {
        self.next_report = now + self.report_every();
        self.reported_at = now;
    }

    /// Something moved that is not worth a report of its own.
    fn report_soon(&mut self) {
        self.next_report = self.next_report.min(self.reported_at + MOVING_REPORT);
    }

    /// How many packets did not count, by kind.
    pub fn rejected(&self) -> Rejected {
        self.rejected
    }

    /// Whether no link of that network is up while one is watched: worth a probe (spec H4).
    pub fn network_in_doubt(&self, network: NetworkNumber) -> bool {
        self.links.iter().any(|l| l.network == network && l.watched && !l.up())
    }

    fn peer_view(&self, now: Instant, known: &PeerState) -> PeerView {
        let peer = known.peer.number;
        // What was true when it was last heard is not said of the present.
        let heard = self.links.iter().any(|l| l.peer == peer && l.inbound);
        PeerView {
            peer,
            session: known.session,
            agent: if heard { known.agent } else { AgentStatus::Unknown },
            leaving: known.leaving,
            epoch: known.epoch,
            remains: known.remains,
            clock_offset_us: known.offset.get(now, self.own.wall_us(now)).filter(|_| heard),
            position: if heard { known.position } else { 0 },
            log_stalled: heard && known.log_stalled,
            position_max: known.position_max,
            silent_us: now.since(known.heard_at).as_micros() as u64,
            sent_us: known.said_us,
        }
    }
}

/// Who is watched.
impl Topology {
    /// Brings peers, links and interfaces in line with the configuration.
    fn rebuild(&mut self, now: Instant) {
        self.rebuild_peers(now);
        self.rebuild_links(now);
        self.rebuild_interfaces();
    }

    fn rebuild_peers(&mut self, now: Instant) {
        let mut peers = self.config.peers.clone();
        peers.retain(|peer| peer.number != self.config.me);
        peers.sort_by_key(|peer| peer.number);
        peers.dedup_by_key(|peer| peer.number);
        let old = std::mem::take(&mut self.known);
        self.known = peers
            .into_iter()
            .map(|peer| match old.binary_search_by_key(&peer.number, |k| k.peer.number) {
                Ok(at) => old[at].renewed(now, peer),
                Err(_) => PeerState::new(now, peer),
            })
            .collect();
    }

    fn rebuild_links(&mut self, now: Instant) {
        let detect = self.config.timing.detect();
        let mut networks = self.config.networks.clone();
        networks.sort_by_key(|(number, _)| *number);
        networks.dedup_by_key(|(number, _)| *number);
        let live = self.known.iter().map(|k| &k.peer).filter(|p| p.live);
        let live: Vec<_> = live.map(|p| p.number).collect();
        let ring = live.len() >= ring::MESH;
        let me = self.config.me;
        let votes = |node| self.config.voters.contains(&node);
        let old = std::mem::take(&mut self.links);
        for PeerState { peer, .. } in &self.known {
            let watched =
                votes(me) || votes(peer.number) || ring::watch_each_other(me, peer.number, &live);
            for (network, priority) in networks.iter().filter(|(n, _)| peer.networks.contains(n)) {
                let kept = old.binary_search_by_key(&(peer.number, *network), Link::key);
                let mut link =
                    kept.map_or_else(|_| Link::new(peer.number, *network), |at| old[at].clone());
                link.watch(now, watched, detect);
                (link.priority, link.sparse) = (*priority, ring && !peer.live);
                self.links.push(link);
            }
        }
    }

    fn rebuild_interfaces(&mut self) {
        let networks = &self.config.networks;
        self.interfaces.retain(|i| networks.iter().any(|(number, _)| *number == i.network));
        for (network, _) in networks {
            if !self.interfaces.iter().any(|i| i.network == *network) {
                let network = *network;
                self.interfaces.push(OwnInterface { network, usable: true, probe: None });
            }
        }
        self.interfaces.sort_by_key(|i| i.network);
    }
}

/// What comes in.
impl Topology {
    fn hear(
        &mut self,
        now: Instant,
        network: NetworkNumber,
        beat: &Beat,
        out: &mut Vec<Output>,
    ) -> Result<(), Reject> {
        if beat.source == self.config.me && beat.session != self.config.session {
            return Err(Reject::OwnNumber);
        }
        if beat.destination != self.config.me || beat.network != network {
            return Err(Reject::Misdirected);
        }
        let key = (beat.source, network);
        let at = self.links.binary_search_by_key(&key, Link::key).map_err(|_| Reject::Stranger)?;
        let who = self
            .known
            .binary_search_by_key(&beat.source, |k| k.peer.number)
            .map_err(|_| Reject::Stranger)?;
        self.prove(now, at, who, beat, out)?;
        self.believe(now, at, who, beat, out);
        Ok(())
    }

    /// Whether the beat is of this time, and newer than all before it.
    fn prove(
        &mut self,
        now: Instant,
        at: usize,
        who: usize,
        beat: &Beat,
        out: &mut Vec<Output>,
    ) -> Result<(), Reject> {
        let unproven = (beat.echo.session != self.config.session).then_some(Reject::Unproven);
        let doubt = unproven.or(self.too_old(now, &beat.echo).then_some(Reject::Stale));
        if let Some(why) = doubt {
            let pause = self.config.timing.interval() / 4;
            if self.links[at].challenge(now, beat, pause) {
                self.answer(now, at, out);
            }
            return Err(why);
        }
        let link = &self.links[at];
        let known = self.known[who].session;
        let current = known.is_none() || known == Some(beat.session);
        if (current && link.advances(beat)) || link.proves_new_session(beat) {
            Ok(())
        } else {
            Err(Reject::Replayed)
        }
    }

    /// How long the beat was on its way, as far as the echo tells: all but the time for which the
    /// peer held our own beat. Clocks may differ in rate by more than one percent.
    fn too_old(&self, now: Instant, echo: &Echo) -> bool {
        let since = now.as_micros().saturating_sub(echo.sent_us);
        let trip = since.saturating_sub(echo.held_us);
        let most = 2 * self.config.timing.detect().as_micros() as u64 + echo.held_us / 64;
        trip > most
    }

    fn believe(&mut self, now: Instant, at: usize, who: usize, beat: &Beat, out: &mut Vec<Output>) {
        let timing = self.config.timing;
        let window = if beat.flags.half_rate { timing.detect() * 2 } else { timing.detect() };
        let was_inbound = self.links[at].inbound;
        let changed = self.links[at].accept(now, beat, window, timing.interval());
        let heard = self.known[who].listen(now, beat);
        self.known[who].offset.measure(now, beat);
        self.news |= changed || heard.news;
        if heard.moved {
            self.report_soon();
        }
        if changed {
            self.repromote(now, who, out);
        }
        if !was_inbound && self.spoken_to(now, at) {
            // The peer learns at once that it is heard: two round trips make a link.
            self.send(now, at, out);
        }
        let asked = Instant::from_micros(beat.echo.sent_us);
        let length = Duration::from_millis(timing.lease_ms);
        self.contact.hear(now, beat.director_term, asked, length);
        self.news |= self.is_asked(now, beat);
        // A voter answers at once what a holder asks, so that a lease is as long as it can be when somebody
        // dies; and a director everybody, so that it is known to be there. Answers are not answered: two would
        // never stop.
        let grants = beat.flags.asks && self.votes(self.config.me);
        let directs = self.own.tenure.term(now, &timing) > 0 && beat.director_term == 0;
        if was_inbound && (grants || directs) && self.spoken_to(now, at) {
            let echo = self.links[at].echo(now);
            self.put(now, at, echo, false, out);
        }
    }

    fn hear_agent(
        &mut self,
        now: Instant,
        status: AgentStatus,
        director: Option<Confirmation>,
        continuity: bool,
        (position, log_stalled): (u64, bool),
        out: &mut Vec<Output>,
    ) {
        let before = (self.own.agent, self.own.continuity);
        if std::mem::replace(&mut self.own.position, position) != position {
            self.report_soon();
        }
        let stalled = std::mem::replace(&mut self.own.log_stalled, log_stalled) != log_stalled;
        let term = self.own.tenure.term(now, &self.config.timing);
        self.own.tenure.set(director);
        (self.own.agent, self.own.continuity) = (status, continuity);
        self.news |= stalled || before != (status, continuity);
        // A new director is known to be there at once.
        let elected = self.own.tenure.term(now, &self.config.timing) > term;
        if before.0 != status || stalled || elected {
            self.beat_all(now, out);
        }
    }

    fn set_interface(&mut self, interface: OwnInterface) {
        let own = self.interfaces.iter_mut().find(|i| i.network == interface.network);
        if let Some(own) = own.filter(|own| **own != interface) {
            *own = interface;
            self.news = true;
        }
    }
}

/// What time does.
impl Topology {
    /// Lifeguard: who was late to its own beat was not listening either.
    fn notice_lateness(&mut self, now: Instant) {
        let late = now.since(self.next_beat);
        if self.round == 0 || late <= self.config.timing.interval() {
            return;
        }
        self.news |= !self.doubt.suspect;
        self.doubt = Doubt { suspect: true, punctual: 0 };
        for link in &mut self.links {
            link.give_back(late);
        }
        // The beat itself is still due; it is only not late twice.
        self.next_beat = now;
    }

    fn grow_confident(&mut self) {
        self.doubt.punctual += 1;
        if self.doubt.suspect && self.doubt.punctual > self.config.timing.sensitivity {
            self.doubt.suspect = false;
            self.news = true;
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Output>) {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if link.deadline().is_none_or(|deadline| now < deadline) {
                continue;
            }
            self.news = true;
            let peer = link.peer;
            if !link.expire(now) {
                continue;
            }

            // The peer learns at once that it is not heard, if the other direction still works.
            if self.spoken_to(now, at) {
                self.send(now, at, out);
            }
            if let Ok(who) = self.known.binary_search_by_key(&peer, |k| k.peer.number) {
                self.repromote(now, who, out);
                if !self.links.iter().any(|link| link.peer == peer && link.inbound) {
                    let telling = self.known[who].heard_at + telling_silence(&self.config.timing);
                    self.telling = self.telling.max(Some(telling));
                }
            }
        }
    }

    /// Low-priority links carry the full rate while no high one is up (spec V3).
    fn repromote(&mut self, now: Instant, who: usize, out: &mut Vec<Output>) {
        let peer = self.known[who].peer.number;
        let mut links = self.links.iter().filter(|l| l.peer == peer);
        let promoted = !links.any(|l| l.priority == Priority::High && l.up());
        if promoted == std::mem::replace(&mut self.known[who].promoted, promoted) || !promoted {
            return;
        }
        let timing = self.config.timing;
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if link.peer == peer && link.priority == Priority::Low {
                link.promote(now, timing.interval(), timing.detect());
                if self.spoken_to(now, at) {
                    self.send(now, at, out);
                }
            }
        }
    }

    /// Ends a step: the lease, then one wish to report if anything changed.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        let timing = self.config.timing;
        self.own.tenure.hear_self(now, &timing, &mut self.contact);
        if let Some(accepted) = self.accepted_by_majority(now) {
            self.lease.grant(now, accepted, Duration::from_millis(timing.lease_ms));
        }
        let stands = (self.lease.held(now), self.contact.lasts(now));
        if std::mem::take(&mut self.news) | (stands != self.told) {
            self.told = stands;
            self.report_later(now);
            out.push(Output::ReportNow);
        }
    }
}

/// What goes out.
impl Topology {
    fn beat_round(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.grow_confident();
        for at in 0..self.links.len() {
            if self.due(now, at) {
                self.send(now, at, out);
                self.send_long(now, at, out);
            }
        }
        self.round += 1;
        self.next_beat = self.next_beat + self.config.timing.interval();
    }

    /// Whether the link takes part in this round.
    fn due(&self, now: Instant, at: usize) -> bool {
        let link = &self.links[at];
        let every = match (link.inbound, link.sparse) {
            (false, true) => 4,
            _ if self.half_rate(link) => 2,
            _ => 1,
        };
        self.spoken_to(now, at) && self.round.is_multiple_of(every)
    }

    fn spoken_to(&self, now: Instant, at: usize) -> bool {
        self.links[at].watched || now < self.links[at].drop_at
    }

    fn half_rate(&self, link: &Link) -> bool {
        let who = self.known.binary_search_by_key(&link.peer, |k| k.peer.number);
        link.priority == Priority::Low && who.is_ok_and(|who| !self.known[who].promoted)
    }

    fn beat_all(&mut self, now: Instant, out: &mut Vec<Output>) {
        for at in 0..self.links.len() {
            if self.spoken_to(now, at) {
                self.send(now, at, out);
            }
        }
    }

    /// A first beat over links that were added, without waiting for the round.
    fn beat_new_links(&mut self, now: Instant, out: &mut Vec<Output>) {
        for at in 0..self.links.len() {
            if self.links[at].watched && self.links[at].unused() {
                self.send(now, at, out);
            }
        }
    }

    fn send(&mut self, now: Instant, at: usize, out: &mut Vec<Output>) {
        let echo = self.links[at].echo(now);
        self.put(now, at, echo, self.own.word.holds, out);
    }

    /// Answers a packet that could not prove itself, so that the next one can.
    fn answer(&mut self, now: Instant, at: usize, out: &mut Vec<Output>) {
        let echo = self.links[at].echo_of_candidate(now);
        self.put(now, at, echo, false, out);
    }

    fn put(
        &mut self,
        now: Instant,
        at: usize,
        echo: (Echo, bool),
        asks: bool,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Send(self.beat(now, at, echo, asks)));
    }

    fn beat(&mut self, now: Instant, at: usize, (echo, grants): (Echo, bool), asks: bool) -> Beat {
        let half_rate = self.half_rate(&self.links[at]);
        let link = &mut self.links[at];
        Beat {
            source: self.config.me,
            destination: link.peer,
            network: link.network,
            agent: self.own.agent,
            flags: Flags {
                leaving: self.own.leaving,
                self_suspect: self.doubt.suspect,
                hears_you: link.inbound,
                half_rate,
                watching: link.watched,
                log_stalled: self.own.log_stalled,
                grants,
                asks,
            },
            session: self.config.session,
            seq: link.take_seq(),
            sent_us: now.as_micros(),
            director_term: self.own.tenure.term(now, &self.config.timing),
            epoch: self.own.word.epoch,
            remains: self.own.word.remains,
            wall_us: self.own.wall_us(now),
            position: self.own.position,
            echo,
        }
    }
}
