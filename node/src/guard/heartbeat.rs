//! The heartbeat thread: one loop around [`Topology`], with real-time priority.
//!
//! It waits for a packet, an order or a deadline, steps the machine and sends what comes out. It
//! takes no lock, writes no log line and allocates nothing while the cluster is as it was: a
//! report, once a second or at a change, is the exception. Nobody can hold it up: what it tells
//! the agent goes into a bounded queue, and if that is full, the next report replaces this one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use vedette_core::holding::LeaseNow;
use vedette_core::id::{NetworkNumber, NodeNumber, Session, StorageId};
use vedette_core::lease::Confirmation;
use vedette_core::model::AgentStatus;
use vedette_core::takeover::Word;
use vedette_core::time::Instant;
use vedette_core::topology::{Config, Input, Output, Peer, Reject, Rejected, Topology};
use vedette_core::wire::{Codec, Ends, LONG_LEN};

use super::beat_sockets::BeatSockets;
use super::lease::LeaseCell;
use super::probe::{Doubts, Target};
use super::protocol::{Configure, Confirmed, Notice};
use super::sys::{self, Waker};

/// More bytes than a beat has, so that an oversized packet is seen to be one.
const BUFFER: usize = 2_048;
/// Packets taken from one socket before the others and the clock get their turn.
const BURST: usize = 64;
/// How often it is looked whether packets were refused.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What the heartbeat thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Configure(Box<Configure>),
    Status {
        status: AgentStatus,
        director: Option<Confirmed>,
        continuity: bool,
        position: u64,
        log_stalled: bool,
    },
    Probed(NetworkNumber, Option<bool>),
    /// What the enforcer says of what is held.
    Holds(Word),
    /// An agent is there and listens.
    Listener(SyncSender<Notice>),
    /// The agent is gone.
    Gone,
    Leave,
    Stop,
}

/// How other threads speak to the heartbeat thread.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Heartbeat {
    pub(super) fn tell(&self, command: Command) {
        // If the thread is gone, so is the guard.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    /// Makes it turn once, whether there is something to do or not.
    pub(super) fn nudge(&self) {
        self.waker.wake();
    }
}

/// Starts the thread. `targets` is told what to probe.
pub(super) fn start(
    session: Session,
    targets: Sender<Vec<Target>>,
    doubts: Doubts,
    lease: Arc<LeaseCell>,
) -> io::Result<(Heartbeat, std::thread::JoinHandle<()>)> {
    let (sender, commands) = std::sync::mpsc::channel();
    let waker = Arc::new(Waker::new()?);
    let heartbeat = Heartbeat { commands: sender, waker: Arc::clone(&waker) };
    let thread = std::thread::Builder::new().name("heartbeat".into()).stack_size(256 << 10).spawn(
        move || HeartbeatLoop::new(session, commands, waker, targets, doubts, lease).run(),
    )?;
    Ok((heartbeat, thread))
}

/// What belongs to the thread.
struct HeartbeatLoop {
    lease: Arc<LeaseCell>,
    /// The enforcer's last word of what is held.
    word: Word,
    session: Session,
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    targets: Sender<Vec<Target>>,
    doubts: Doubts,
    cluster: Option<Cluster>,
    sockets: BeatSockets,
    own: Input,
    listener: Option<SyncSender<Notice>>,
    unsaid: Vec<Notice>,
    /// The agent took part in the running cluster, in this run of the guard.
    continuity: bool,
    report_due: bool,
    counted: Rejected,
    count_at: Instant,
    out: Vec<Output>,
}

struct Cluster {
    configure: Configure,
    codec: Codec,
    /// Of all members, in order of number, to be searched without allocation.
    storages: Vec<(NodeNumber, StorageId)>,
    topology: Topology,
}

impl Cluster {
    fn ends(&self, source: NodeNumber, destination: NodeNumber) -> Option<Ends> {
        let storage = |node: NodeNumber| {
            let at = self.storages.binary_search_by_key(&node, |(number, _)| *number).ok()?;
            Some(self.storages[at].1)
        };
        Some(Ends { source: storage(source)?, destination: storage(destination)? })
    }
}

fn storages(configure: &Configure) -> Vec<(NodeNumber, StorageId)> {
    let own = (configure.me, configure.storage);
    let mut all: Vec<_> = configure.peers.iter().map(|peer| (peer.number, peer.storage)).collect();
    all.retain(|(number, _)| *number != configure.me);
    all.push(own);
    all.sort_unstable_by_key(|(number, _)| *number);
    all
}

/// What is said of an agent that is not there. That it took part in the running cluster stays true.
const fn no_agent(continuity: bool) -> Input {
    Input::Agent {
        status: AgentStatus::Down,
        director: None,
        continuity,
        position: 0,
        log_stalled: false,
    }
}

impl HeartbeatLoop {
    fn new(
        session: Session,
        commands: Receiver<Command>,
        waker: Arc<Waker>,
        targets: Sender<Vec<Target>>,
        doubts: Doubts,
        lease: Arc<LeaseCell>,
    ) -> Self {
        Self {
            lease,
            word: Word::default(),
            session,
            commands,
            waker,
            targets,
            doubts,
            cluster: None,
            sockets: BeatSockets::default(),
            own: no_agent(false),
            continuity: false,
            listener: None,
            unsaid: Vec::new(),
            report_due: false,
            counted: Rejected::default(),
            count_at: Instant::ZERO,
            out: Vec::with_capacity(64),
        }
    }

    fn now(&self) -> Instant {
        now()
    }

    fn run(mut self) {
        if let Err(error) = sys::real_time() {
            tracing::warn!(
                %error,
                "heartbeats run without real-time priority: a busy machine may look dead. \
                 Give the service CAP_SYS_NICE or LimitRTPRIO=10"
            );
        }
        let mut fds = Vec::with_capacity(9);
        loop {
            fds.clear();
            fds.push(sys::readable(&*self.waker));
            fds.extend(
                self.sockets.sockets.iter().filter_map(|n| n.socket.as_ref()).map(sys::readable),
            );
            sys::wait(&mut fds, self.time_left());
            if fds[0].revents != 0 {
                self.waker.clear();
            }
            self.tell_clock();
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Stop) {
                    return;
                }
                self.obey(command);
            }
            self.pass_time();
            self.receive();
            self.tell();
            self.show_lease();
        }
    }

    /// For the enforcer.
    fn show_lease(&self) {
        let topology = self.cluster.as_ref().map(|cluster| &cluster.topology);
        self.lease.set(LeaseNow {
            until: topology.and_then(Topology::lease_until),
            lapses: topology.map_or(0, Topology::lease_lapses),
        });
    }

    /// Until something is due.
    fn time_left(&self) -> Option<Duration> {
        let beat = self.cluster.as_ref().and_then(|c| c.topology.deadline());
        let due = [beat, self.sockets.deadline()].into_iter().flatten().min()?;
        Some(due.since(self.now()))
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Configure(configure) => self.configure(now, *configure),
            Command::Status { status, director, continuity, position, log_stalled } => {
                let director = director.map(|confirmed| Confirmation {
                    term: confirmed.term,
                    at: before(now, Duration::from_micros(confirmed.age_us)),
                });
                // An agent that has just started does not know yet; one that runs does.
                self.continuity = continuity || (self.continuity && status != AgentStatus::Running);
                let continuity = self.continuity;
                let own = Input::Agent { status, director, continuity, position, log_stalled };
                self.set_own(now, own);
            }
            Command::Gone => {
                self.listener = None;
                self.set_own(now, no_agent(self.continuity));
            }
            Command::Listener(listener) => {
                self.listener = Some(listener);
                self.report_due = self.cluster.is_some();
                self.counted = Rejected::default();
            }
            Command::Probed(network, answer) => self.set_probe(now, network, answer),
            Command::Holds(word) => {
                self.word = word;
                self.step(now, Input::Holds(word));
            }
            Command::Leave => self.step(now, Input::Leave),
            Command::Stop => {}
        }
    }

    fn set_own(&mut self, now: Instant, own: Input) {
        self.own = own.clone();
        self.step(now, own);
    }

    /// Before anything else at each turn: what the turn sends and measures is dated by it.
    fn tell_clock(&mut self) {
        self.step(self.now(), Input::Clock { wall_us: sys::wall_time_us() });
    }

    fn step(&mut self, now: Instant, input: Input) {
        if let Some(cluster) = &mut self.cluster {
            cluster.topology.handle(now, input, &mut self.out);
            self.flush(now);
        }
    }

    fn configure(&mut self, now: Instant, configure: Configure) {
        for text in self.sockets.configure(now, &configure) {
            tracing::warn!("{text}");
            self.unsaid.push(Notice::Warning { text });
        }
        let config = topology_config(self.session, &configure);
        match self.cluster.take() {
            Some(mut old) if same_cluster(&old.configure, &configure) => {
                old.topology.reconfigure(now, config, &mut self.out);
                let storages = storages(&configure);
                self.cluster = Some(Cluster { configure, storages, ..old });
            }
            _ => {
                let codec = Codec::new(configure.cluster, configure.key.bytes());
                let topology = Topology::new(config, now);
                let storages = storages(&configure);
                self.cluster = Some(Cluster { configure, codec, storages, topology });
                self.tell_clock();
                self.step(now, self.own.clone());
                self.step(now, Input::Holds(self.word));
            }
        }
        for at in 0..self.sockets.sockets.len() {
            let interface = self.sockets.sockets[at].interface();
            self.step(now, Input::Interface(interface));
        }
        let targets = self.sockets.sockets.iter().filter_map(|net| Target::of(&net.own)).collect();
        // Without a prober there are no probes.
        let _ = self.targets.send(targets);
        self.flush(now);
    }

    fn set_probe(&mut self, now: Instant, network: NetworkNumber, answer: Option<bool>) {
        if let Some(net) = self.sockets.sockets.iter_mut().find(|net| net.own.number == network) {
            net.probe = answer;
            let interface = net.interface();
            self.step(now, Input::Interface(interface));
        }
    }

    fn pass_time(&mut self) {
        let now = self.now();
        self.sockets.retry(now);
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.topology.deadline().is_some_and(|due| now >= due) {
            cluster.topology.on_timeout(now, &mut self.out);
            self.doubts.set(|network| cluster.topology.network_in_doubt(network));
            self.flush(now);
        }
        if now >= self.count_at {
            self.count_at = now + COUNT_EVERY;
            self.count();
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; BUFFER];
        for at in 0..self.sockets.sockets.len() {
            for _ in 0..BURST {
                let net = &self.sockets.sockets[at];
                let Some(socket) = &net.socket else { break };
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
                let network = net.own.number;
                let Some(cluster) = &self.cluster else { break };
                let input = match cluster
                    .codec
                    .decode(&buffer[..length], |from, to| cluster.ends(from, to))
                {
                    Ok(beat) if length == LONG_LEN => Input::Long(network, beat),
                    Ok(beat) => Input::Beat(network, beat),
                    Err(why) => Input::Garbage(why),
                };
                self.step(self.now(), input);
            }
        }
    }

    /// Does what the machine wants.
    fn flush(&mut self, now: Instant) {
        let mut out = std::mem::take(&mut self.out);
        for output in out.drain(..) {
            match (output, &self.cluster) {
                (Output::Send(beat), Some(cluster)) => {
                    let Some(ends) = cluster.ends(beat.source, beat.destination) else { continue };
                    let packet = cluster.codec.encode(&beat, &ends);
                    let to = (beat.destination, beat.network);
                    if let Some(network) = self.sockets.send(now, to, &packet) {
                        self.interface_changed(now, network);
                    }
                }
                (Output::SendLong(beat), Some(cluster)) => {
                    let Some(ends) = cluster.ends(beat.source, beat.destination) else { continue };
                    let packet = cluster.codec.encode_long(&beat, &ends);
                    self.sockets.try_send((beat.destination, beat.network), &packet);
                }
                _ => self.report_due = true,
            }
        }
        self.out = out;
    }

    /// The machine answers this with a wish to report, nothing else.
    fn interface_changed(&mut self, now: Instant, network: NetworkNumber) {
        let interface = self.sockets.interface(network);
        if let (Some(cluster), Some(interface)) = (&mut self.cluster, interface) {
            cluster.topology.handle(now, Input::Interface(interface), &mut self.out);
            self.out.clear();
            self.report_due = true;
        }
    }

    fn count(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let rejected = cluster.topology.rejected();
        if rejected == self.counted {
            return;
        }
        if rejected.of(Reject::OwnNumber) > self.counted.of(Reject::OwnNumber) {
            let me = cluster.configure.me;
            let text = format!(
                "another machine sends heartbeats as node {me} of this cluster, which is this \
                 node's own number. Stop one of the two: a copied state directory does this"
            );
            self.unsaid.push(Notice::Warning { text });
        }
        self.counted = rejected;
        let kinds = rejected.iter().map(|(kind, number)| (kind.name().to_owned(), number));
        self.unsaid.push(Notice::Rejected(kinds.collect::<BTreeMap<_, _>>()));
    }

    /// Tells the agent what there is to tell; what does not fit is told later.
    fn tell(&mut self) {
        let Some(listener) = &self.listener else { return self.unsaid.truncate(16) };
        while !self.unsaid.is_empty() {
            let notice = self.unsaid.remove(0);
            if let Err(std::sync::mpsc::TrySendError::Full(notice)) = listener.try_send(notice) {
                return self.unsaid.insert(0, notice);
            }
        }
        if let Some(cluster) = self.cluster.as_mut().filter(|_| self.report_due) {
            let report = Notice::Report(cluster.topology.report(now()));
            self.report_due = listener.try_send(report).is_err();
        }
    }
}

/// On the clock that counts from the machine's start, also while it is suspended. The agent's director goes by the same.
fn now() -> Instant {
    Instant::from_micros(sys::boot_time_us())
}

fn before(now: Instant, age: Duration) -> Instant {
    Instant::from(now.since(Instant::ZERO).saturating_sub(age))
}

fn same_cluster(old: &Configure, new: &Configure) -> bool {
    (old.me, old.storage, old.cluster, old.key) == (new.me, new.storage, new.cluster, new.key)
}

fn topology_config(session: Session, configure: &Configure) -> Config {
    Config {
        me: configure.me,
        session,
        timing: configure.timing,
        networks: configure.networks.iter().map(|net| (net.number, net.priority)).collect(),
        peers: configure
            .peers
            .iter()
            .map(|peer| Peer {
                number: peer.number,
                storage: peer.storage,
                live: peer.live,
                networks: peer.addresses.keys().copied().collect(),
            })
            .collect(),
        voters: configure.voters.clone(),
        voters_since: configure.voters_since,
    }
}
