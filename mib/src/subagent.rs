//! The subagent: a thread of its own that keeps one session with the master agent.
//!
//! Nothing waits for this thread, and it waits for nobody: sockets are non-blocking, and one
//! `poll` waits for octets, for a poke of the daemon, or for the next deadline. A master that
//! is hung, killed or restarted costs the rest of the program nothing; as soon as it is back, so
//! are we.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use vedette_core::time::{Instant, WallTime};
use vedette_core::view::Source;

use crate::answer::Answers;
use crate::cursor::Cursor;
use crate::notify::subagent_up;
use crate::outbox::Outbox;
use crate::pdu::Close;
use crate::session::{Clock, Event, Session, SessionError, Told};

/// Where the master agent listens unless it is told otherwise.
pub const DEFAULT_MASTER: &str = "unix:/var/agentx/master";

/// The first pause after a failed attempt to connect; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, so that a master that returns is found within a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How often it is looked whether there is anything new without a poke: local records that raise no
/// condition do not poke, and are to be told at once.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a good-bye may take.
const GOOD_BYE: Duration = Duration::from_millis(200);

/// Octets that are read at once, and how often before something else gets its turn.
const CHUNK: usize = 65_536;
const CHUNKS: usize = 16;

/// Where the master agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Master {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port. AgentX has no authentication, so it should be one of this machine.
    Tcp(SocketAddr),
}

impl FromStr for Master {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("tcp:") {
            return address.parse().map(Self::Tcp).map_err(|_| {
                format!("{text} is no address of a master agent. Write tcp:ADDRESS:PORT, such as tcp:127.0.0.1:705.")
            });
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if !path.starts_with('/') {
            return Err(format!(
                "{text} is no address of a master agent. Write unix:/PATH, such as {DEFAULT_MASTER}."
            ));
        }
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// How the subagent works.
#[derive(Clone, Debug)]
pub struct SubagentConfig {
    /// Where the master agent is.
    pub master: Master,
    /// How the subagent describes itself to it.
    pub description: String,
}

impl SubagentConfig {
    /// The usual way, with this master.
    pub fn new(master: Master) -> Self {
        Self { master, description: "Vedette: state of the cluster".into() }
    }
}

/// What the subagent did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions that came up.
    pub connects: u64,
    /// Requests answered.
    pub requests: u64,
    /// Variables in them.
    pub variables: u64,
    /// PDUs of the master that could not be read.
    pub malformed: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Notifications the master took.
    pub notified: u64,
    /// Notifications the master refused.
    pub refused: u64,
    /// Sequence number up to which all records are notified.
    pub cursor: u64,
    /// Number up to which all local records are notified.
    pub local_cursor: u64,
}

/// What thread and handle share.
#[derive(Default)]
struct Shared {
    connected: AtomicBool,
    stop: AtomicBool,
    connects: AtomicU64,
    counters: Mutex<Counters>,
    trouble: Mutex<Option<String>>,
}

/// Starts subagents.
pub struct Subagent;

impl Subagent {
    /// Starts the thread. It shows what `source` has and notifies from where `cursor` stands.
    ///
    /// # Errors
    /// The thread or its pipe cannot be made.
    pub fn start(
        config: SubagentConfig,
        source: Arc<dyn Source>,
        cursor: Box<dyn Cursor>,
    ) -> io::Result<Handle> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            config,
            source: Arc::clone(&source),
            woken,
            shared: Arc::clone(&shared),
            clocks: Clocks { start: std::time::Instant::now() },
            answers: Answers::new(Arc::clone(&source)),
            outbox: Outbox::new(cursor, source.as_ref()),
            link: Link::Down { again: Instant::ZERO },
            pause: Duration::ZERO,
            trouble: None,
            past: Counters::default(),
        };
        let thread = std::thread::Builder::new().name("agentx".into()).spawn(move || work.run())?;
        Ok(Handle { shared, poker: Poker { wake: Arc::new(wake) }, thread: Some(thread) })
    }
}

/// Wakes a subagent. Cheap, never blocks, may be called from anywhere.
#[derive(Clone, Debug)]
pub struct Poker {
    wake: Arc<UnixStream>,
}

impl Poker {
    /// There is a new view, or there are new records.
    pub fn poke(&self) {
        // A full pipe means that it is being woken already.
        let _ = (&*self.wake).write(&[1]);
    }
}

/// A running subagent; dropping it stops it.
pub struct Handle {
    shared: Arc<Shared>,
    poker: Poker,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Whether the module is registered with a master that answers.
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// There is a new view, or there are new records.
    pub fn poke(&self) {
        self.poker.poke();
    }

    /// Something that can poke and be cloned.
    pub fn poker(&self) -> Poker {
        self.poker.clone()
    }

    /// Why it is not connected: what and why, and what to do; `None` while it is, and before the first
    /// attempt has ended.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        let counters = *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner);
        Counters { connects: self.shared.connects.load(Ordering::Relaxed), ..counters }
    }

    /// Says good-bye to the master and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.poker.poke();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the SNMP subagent had ended with a panic");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// The one place of this crate where clocks are read.
#[derive(Clone, Copy)]
struct Clocks {
    start: std::time::Instant,
}

impl Clock for Clocks {
    fn now(&self) -> Instant {
        self.start.elapsed().into()
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The way to the master.
enum Link {
    Down { again: Instant },
    Connecting { socket: Socket, until: Instant },
    Connected { socket: Socket, session: Box<Session> },
}

/// Why the module is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// No session with the master.
    Away,
    /// Another subagent has the module.
    Taken,
}

/// What the thread owns.
struct Work {
    config: SubagentConfig,
    source: Arc<dyn Source>,
    woken: UnixStream,
    shared: Arc<Shared>,
    clocks: Clocks,
    answers: Answers,
    outbox: Outbox,
    link: Link,
    pause: Duration,
    /// The present trouble, reported once.
    trouble: Option<Trouble>,
    /// What earlier sessions counted.
    past: Counters,
}

impl Work {
    fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.connect_if_due();
            let (poked, ready) = self.wait();
            self.answers.look(self.clocks.now(), self.clocks.wall());
            self.transfer(ready);
            self.on_deadlines();
            self.look(poked);
            self.publish();
        }
        self.good_bye();
    }

    fn connect_if_due(&mut self) {
        let now = self.clocks.now();
        let Link::Down { again } = self.link else { return };
        if now < again {
            return;
        }
        match connect(&self.config.master) {
            Ok((socket, true)) => self.connected(socket),
            Ok((socket, false)) => {
                self.link = Link::Connecting { socket, until: now + Duration::from_secs(5) };
            }
            Err(why) => self.lost(&why),
        }
    }

    fn connected(&mut self, socket: Socket) {
        self.answers.doubt_uptime();
        let session = Box::new(Session::open(self.clocks.now(), &self.config.description));
        self.link = Link::Connected { socket, session };
        self.flush();
    }

    /// Waits until there is something to do. Answers whether it was poked and what the socket is
    /// ready for.
    fn wait(&mut self) -> (bool, PollFlags) {
        let timeout = self.timeout();
        let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        match &self.link {
            Link::Down { .. } => {}
            Link::Connecting { socket, .. } => {
                fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLOUT));
            }
            Link::Connected { socket, session } => {
                let mut wanted = PollFlags::POLLIN;
                wanted.set(PollFlags::POLLOUT, !session.unsent().is_empty());
                fds.push(PollFd::new(socket.as_fd(), wanted));
            }
        }
        if poll(&mut fds, timeout).is_err() {
            return (false, PollFlags::empty());
        }
        let flags =
            |place: usize| fds.get(place).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (poked, ready) = (!flags(0).is_empty(), flags(1));
        if poked {
            let mut bin = [0; 256];
            while matches!((&self.woken).read(&mut bin), Ok(256)) {}
        }
        (poked, ready)
    }

    fn timeout(&self) -> PollTimeout {
        let now = self.clocks.now();
        let link = match &self.link {
            Link::Down { again } => *again,
            Link::Connecting { until, .. } => *until,
            Link::Connected { session, .. } => session.deadline(),
        };
        let deadlines = [Some(link), self.outbox.deadline(), Some(now + LOOK_EVERY)];
        let next = deadlines.into_iter().flatten().min().unwrap_or(now);
        let millis = next.since(now).as_micros().div_ceil(1_000);
        PollTimeout::try_from(millis as u64).unwrap_or(PollTimeout::MAX)
    }

    fn transfer(&mut self, ready: PollFlags) {
        if ready.is_empty() {
            return;
        }
        if matches!(self.link, Link::Connecting { .. }) {
            self.finish_connecting();
        } else {
            self.read();
            self.flush();
        }
    }

    fn finish_connecting(&mut self) {
        let again = Link::Down { again: self.clocks.now() };
        let Link::Connecting { socket, until } = std::mem::replace(&mut self.link, again) else {
            return;
        };
        match socket.take_error() {
            Ok(None) if socket.peer_addr().is_ok() => self.connected(socket),
            Ok(None) => self.link = Link::Connecting { socket, until },
            Ok(Some(why)) | Err(why) => self.lost(&why),
        }
    }

    /// Reads what is there and does what it asks for.
    fn read(&mut self) {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..CHUNKS {
            let Link::Connected { socket, session } = &mut self.link else { return };
            let count = match (&*socket).read(&mut chunk) {
                Ok(0) => return self.lost(&"the master agent closed the connection"),
                Ok(count) => count,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => return self.lost(&why),
            };
            match session.receive(&chunk[..count], &self.clocks, &mut self.answers) {
                Ok(events) => events.into_iter().for_each(|event| self.on_event(event)),
                Err(why) => return self.give_up(&why),
            }
            if count < CHUNK {
                return;
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.clocks.now();
        let Link::Connected { session, .. } = &mut self.link else { return };
        match event {
            Event::Up => {
                tracing::info!(master = %self.config.master, "SNMP subagent is registered");
                self.shared.connects.fetch_add(1, Ordering::Relaxed);
                self.pause = Duration::ZERO;
                session.notify(now, Told::SubagentUp, subagent_up(&self.source.view()));
                self.outbox.fill(now, &self.source, session);
                self.mend();
            }
            Event::Taken => self.suffer(Trouble::Taken, format!(
                "another subagent has registered this module with the SNMP master agent {}, so this one is not asked. End the other one, such as a second daemon on this machine, or give each a master of its own",
                self.config.master
            )),
            Event::Notified { tag: Told::SubagentUp, .. } => {}
            Event::Notified { tag, error } => {
                self.outbox.answered(tag, error);
                self.outbox.fill(now, &self.source, session);
            }
        }
    }

    /// Writes as much as the master takes.
    fn flush(&mut self) {
        let Link::Connected { socket, session } = &mut self.link else { return };
        while !session.unsent().is_empty() {
            match (&*socket).write(session.unsent()) {
                Ok(0) => return,
                Ok(count) => session.wrote(count),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return self.lost(&why),
            }
        }
    }

    fn on_deadlines(&mut self) {
        let now = self.clocks.now();
        self.outbox.store_if_due(now);
        self.answers.forget_walks(now);
        match &mut self.link {
            Link::Down { .. } => {}
            Link::Connecting { until, .. } if now < *until => {}
            Link::Connecting { .. } => self.lost(&"the master agent does not accept connections"),
            Link::Connected { session, .. } => {
                if let Err(why) = session.on_timeout(now) {
                    return self.give_up(&why);
                }
                self.flush();
            }
        }
    }

    /// Makes the snapshot before anybody asks for it, and sends what there is to notify.
    fn look(&mut self, poked: bool) {
        let now = self.clocks.now();
        let Link::Connected { session, .. } = &mut self.link else { return };
        if !session.is_up(now) {
            return;
        }
        let news = self.outbox.has_news(&self.source.view());
        if poked {
            let clocks = self.clocks;
            self.answers.latest(now, || clocks.now());
        }
        if poked || news {
            self.outbox.fill(now, &self.source, session);
            self.flush();
        }
    }

    /// The session is over for a reason that the master shall know.
    fn give_up(&mut self, why: &SessionError) {
        if let Link::Connected { session, .. } = &mut self.link {
            match why {
                SessionError::Closed(_) => {}
                SessionError::Decode(_) => session.close(Close::ParseError),
                SessionError::Refused { .. } => session.close(Close::Other),
                SessionError::Silent | SessionError::Unread => session.close(Close::Timeouts),
            }
            self.flush();
        }
        self.lost(why);
    }

    /// There is no connection any more, or still none. The first attempt follows at once, then
    /// after longer and longer pauses.
    fn lost(&mut self, why: &dyn fmt::Display) {
        if let Link::Connected { session, .. } = &self.link {
            let counts = session.counts();
            self.past.requests += counts.requests;
            self.past.variables += counts.variables;
            self.past.malformed += counts.malformed;
        }
        self.suffer(Trouble::Away, format!(
            "no connection to the SNMP master agent {}: {why}; trying again until it is there. Check that snmpd runs with `master agentx`",
            self.config.master
        ));
        self.link = Link::Down { again: self.clocks.now() + self.pause };
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.outbox.rewind();
    }

    /// Shows a trouble, and logs it unless it was the trouble before.
    fn suffer(&mut self, trouble: Trouble, said: String) {
        if self.trouble != Some(trouble) {
            tracing::warn!("{said}");
            self.trouble = Some(trouble);
        }
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// All is well.
    fn mend(&mut self) {
        self.trouble = None;
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn publish(&self) {
        let mut counters = self.past;
        let mut connected = false;
        if let Link::Connected { session, .. } = &self.link {
            let counts = session.counts();
            connected = session.is_up(self.clocks.now());
            counters.requests += counts.requests;
            counters.variables += counts.variables;
            counters.malformed += counts.malformed;
        }
        counters.snapshots = self.answers.builds();
        counters.notified = self.outbox.sent;
        counters.refused = self.outbox.refused;
        let done = self.outbox.done();
        (counters.cursor, counters.local_cursor) = (done.seq, done.local.unwrap_or(0));
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        self.shared.connected.store(connected, Ordering::Relaxed);
    }

    /// Unregister and Close, so that the master frees the region at once.
    fn good_bye(&mut self) {
        self.shared.connected.store(false, Ordering::Relaxed);
        self.outbox.store();
        let until = self.clocks.now() + GOOD_BYE;
        if let Link::Connected { session, .. } = &mut self.link {
            session.close(Close::Shutdown);
        }
        self.flush();
        while self.clocks.now() < until {
            let Link::Connected { socket, session } = &self.link else { return };
            if session.unsent().is_empty() {
                return;
            }
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(50_u8)).is_err() {
                return;
            }
            self.flush();
        }
    }
}

/// Begins a connection; answers whether it is there already.
fn connect(master: &Master) -> io::Result<(Socket, bool)> {
    let (domain, address) = match master {
        Master::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Master::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(&address) {
        Ok(()) => Ok((socket, true)),
        Err(why) if why.raw_os_error() == Some(nix::libc::EINPROGRESS) => Ok((socket, false)),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_named_by_path_or_port() {
        let unix = Ok(Master::Unix("/var/agentx/master".into()));
        assert_eq!(DEFAULT_MASTER.parse(), unix);
        assert_eq!("/var/agentx/master".parse(), unix);
        let tcp = "tcp:127.0.0.1:705".parse::<Master>();
        assert_eq!(tcp.map(|master| master.to_string()), Ok("tcp:127.0.0.1:705".into()));
        for wrong in ["", "localhost", "tcp:nowhere", "unix:relative"] {
            let why = wrong.parse::<Master>().expect_err(wrong);
            assert!(why.contains("is no address of a master agent. Write "), "{why}");
        }
    }
}
