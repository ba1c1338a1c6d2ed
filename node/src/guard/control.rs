//! The guard's Unix socket: one agent at a time, lines in, lines out.
//!
//! Reading and writing have a thread each, so that an agent that does not listen holds up neither
//! its own orders nor the heartbeat. When the connection ends, for whatever reason, the heartbeat
//! is told first: peers learn within a packet that the agent is down.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use super::enforcer::{EnforcerHandle, Task};
use super::heartbeat::{Command, Heartbeat};
use super::held_journal::{HeldJournal, JournalOrder};
use super::protocol::{LineError, Lines, Notice, Order, line};
use super::sys::{self, Waker};

/// Notices that wait for the agent; see [`super::client`].
const WAITING: usize = 64;

/// To whom orders go.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) heartbeat: Heartbeat,
    pub(super) enforcer: EnforcerHandle,
    pub(super) journal: HeldJournal,
}

/// What the supervisor wants to know of the conversation.
#[derive(Debug)]
pub(super) struct Presence {
    /// An agent is connected.
    pub(super) connected: AtomicBool,
    /// Orders so far.
    pub(super) orders: AtomicU64,
    /// The agent said that the node leaves.
    pub(super) leaving: AtomicBool,
    /// The agent said that the guard shall end.
    pub(super) shutdown: AtomicBool,
    /// Wakes the supervisor.
    pub(super) waker: Waker,
}

impl Presence {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            connected: AtomicBool::new(false),
            orders: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            waker: Waker::new()?,
        })
    }
}

/// Opens the socket; whatever an earlier run left there is removed (its lock is ours).
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // No other user may connect, not even between the two calls.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener
}

/// Serves agents, one after the other, for the life of the process.
pub(super) fn serve(
    listener: &UnixListener,
    inside: &Inside,
    presence: &Arc<Presence>,
    welcome: &Notice,
) {
    for stream in listener.incoming() {
        let result = stream.and_then(|stream| converse(stream, inside, presence, welcome));
        if let Err(error) = result {
            tracing::warn!(%error, "the conversation with the agent failed");
        }
    }
}

fn converse(
    mut stream: UnixStream,
    inside: &Inside,
    presence: &Presence,
    welcome: &Notice,
) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    writer.write_all(&line(welcome))?;
    let (sender, notices) = sync_channel(WAITING);
    let writing = std::thread::Builder::new().name("notices".into()).stack_size(256 << 10).spawn(
        move || {
            // The heartbeat has said already what it costs if this is not allowed.
            let _ = sys::nearly_real_time();
            write(&mut writer, &notices);
        },
    )?;
    inside.heartbeat.tell(Command::Listener(sender.clone()));
    inside.enforcer.tell(Task::Listener(sender));
    presence.connected.store(true, Ordering::Relaxed);
    let result = listen_to(&mut stream, inside, presence);
    presence.connected.store(false, Ordering::Relaxed);
    inside.heartbeat.tell(Command::Gone);
    inside.enforcer.tell(Task::Gone);
    // Ends a writer that waits for the agent to read.
    let _ = stream.shutdown(Shutdown::Both);
    let _ = writing.join();
    result
}

fn write(stream: &mut UnixStream, notices: &Receiver<Notice>) {
    for notice in notices {
        if stream.write_all(&line(&notice)).is_err() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn listen_to(stream: &mut UnixStream, inside: &Inside, presence: &Presence) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        lines.extend(&buffer[..length]);
        while let Some(order) = lines.next_message().map_err(refused)? {
            presence.orders.fetch_add(1, Ordering::Relaxed);
            obey(order, inside, presence);
        }
    }
}

fn refused(error: LineError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn obey(order: Order, inside: &Inside, presence: &Presence) {
    let heartbeat = &inside.heartbeat;
    match order {
        Order::Hold(hold) => inside.journal.tell(JournalOrder::Hold(hold)),
        Order::Configure(configure) => {
            inside.enforcer.configure(&configure);
            heartbeat.tell(Command::Configure(configure));
        }
        Order::Status { status, director, continuity, position, log_stalled } => {
            heartbeat.tell(Command::Status { status, director, continuity, position, log_stalled });
        }
        Order::Leave => {
            presence.leaving.store(true, Ordering::Relaxed);
            heartbeat.tell(Command::Leave);
        }
        Order::Shutdown => {
            presence.shutdown.store(true, Ordering::Relaxed);
            presence.waker.wake();
        }
    }
}
