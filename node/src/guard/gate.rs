//! The kernel's gate: traffic of a service address passes only while this node's lease lasts.
//!
//! A guard that is stopped, starved or swapped out cannot remove an address when its lease ends.
//! The kernel can: a packet to or from a *known* service address passes only while the address is in
//! a set of *live* ones, whose elements the kernel itself forgets when their time is over. With each
//! grant the guard puts them in again, for as long as the lease lasts now. ARP answers and neighbour
//! advertisements are packets like the others, so the new owner is not contradicted. Only what comes from a
//! packet socket goes past it, as the agent's own announcements do: they ask the lease themselves
//! ([`crate::resource::announce`]).
//!
//! Everything is said to the kernel directly, over one netlink socket: no program is needed, and
//! nothing has to be started at a time when nothing can be started. What the tables look like is in
//! [`rules`]. Measured: one refresh takes about 0.1 ms of processor time.
//!
//! Invariants:
//! - An element's time is never longer than what is left of the lease, except by the time that one
//!   call takes; a call that took long is repeated with what is left then.
//! - Each change is one transaction: there is no moment in which a live address is not let through.
//! - A gate that is up was read back from the kernel.

mod batch;
mod rules;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use self::batch::{Batch, message_of, question};
use self::rules::{GET_CHAIN, GET_RULE, GET_TABLE, OWNED, SHAPE, Shape};
use crate::netlink::message::{Message, attributes, split};

/// The kernel answers within the call; this is for a kernel that does not.
const PATIENCE: Duration = Duration::from_millis(500);
/// More than the kernel puts into one datagram.
const BUFFER: usize = 32 << 10;
/// A socket's buffers must hold a whole transaction and its answers.
const SOCKET_BUFFER: usize = 1 << 20;

/// The tables of one node, and the connection that owns them.
#[derive(Debug)]
pub(super) struct Gate {
    socket: OwnedFd,
    table: String,
    sequence: u32,
    buffer: Vec<u8>,
    known: Vec<IpAddr>,
    up: bool,
}

/// The name of a node's tables: one for each node of each cluster, as several may share a machine.
pub(super) fn table_name(cluster: vedette_core::id::ClusterId, node: u16) -> String {
    let [a, b, c, d, ..] = cluster.0;
    format!("vedette_{a:02x}{b:02x}{c:02x}{d:02x}_{node}")
}

impl Gate {
    /// A gate that is not there yet, in the network namespace of the calling thread.
    pub(super) fn new(table: String) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        set_up(&socket)?;
        let buffer = vec![0; BUFFER];
        Ok(Self { socket, table, sequence: 0, buffer, known: Vec::new(), up: false })
    }

    /// Finds out whether a gate can be raised here: one is, under a name of its own and before an
    /// address that nobody has (RFC 5737), and is taken away again.
    pub(super) fn attempt(table: &str) -> io::Result<()> {
        let mut gate = Self::new(format!("{table}_try"))?;
        let raised = gate.guard(&[IpAddr::from([192, 0, 2, 1])]);
        let removed = gate.remove();
        raised.and(removed)
    }

    /// Its name.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Stands, from now on, before these addresses; what was live stays live. Without addresses
    /// there is no gate.
    pub(super) fn guard(&mut self, known: &[IpAddr]) -> io::Result<()> {
        if known.is_empty() {
            return self.remove();
        }
        if !self.up {
            return self.raise(known);
        }
        if self.known != known {
            self.known = known.to_vec();
            let replaced = self.transact(|batch, table| rules::replace_known(batch, table, known));
            if replaced.is_err() {
                return self.raise(known);
            }
        }
        // A look that failed may have met somebody's change; what stands anew is as it should be.
        self.check().or_else(|_| self.raise(known))
    }

    /// Lets these addresses through for that time, and no others.
    pub(super) fn open(&mut self, live: &[IpAddr], time: Duration) -> io::Result<()> {
        let open = |batch: &mut Batch, table: &str| rules::replace_live(batch, table, live, time);
        let opened = self.transact(open);
        self.up &= opened.is_ok();
        opened
    }

    /// Lets nothing through.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.open(&[], Duration::ZERO)
    }

    /// Takes it away: everything passes.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.up = false;
        self.known.clear();
        for (family, _) in SHAPE {
            if self.exists(family)? {
                self.transact(|batch, table| rules::remove(batch, family, table))?;
            }
        }
        Ok(())
    }

    /// Makes it anew, closed, in place of what there may be of that name, without a moment in
    /// between.
    fn raise(&mut self, known: &[IpAddr]) -> io::Result<()> {
        self.up = false;
        self.known = known.to_vec();
        let mut old = Vec::new();
        for (family, _) in SHAPE {
            if self.exists(family)? {
                old.push(family);
            }
        }
        let mut raise = |flags| {
            self.transact(|batch, table| {
                old.iter().for_each(|family| rules::remove(batch, *family, table));
                rules::create(batch, table, flags, known);
            })
        };
        match raise(OWNED).map_err(|error| (error.raw_os_error(), error)) {
            // Kernels before 6.9 do not know that a table can be owned and yet outlive its owner.
            Err((Some(libc::EOPNOTSUPP | libc::EINVAL), _)) => raise(0)?,
            Err((_, error)) => return Err(error),
            Ok(()) => {}
        }
        self.up = true;
        self.check()
    }

    /// Reads it back.
    pub(super) fn check(&mut self) -> io::Result<()> {
        for (family, shape) in SHAPE {
            let found = Shape {
                chains: self.count(GET_CHAIN, family)?,
                rules: self.count(GET_RULE, family)?,
            };
            if found != shape {
                self.up = false;
                let table = &self.table;
                let why = format!("the kernel has only a part of the table {table}: {found:?}");
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }

    fn exists(&mut self, family: u8) -> io::Result<bool> {
        Ok(self.count(GET_TABLE, family)? > 0)
    }

    /// How many of a kind (`GET_…`) the kernel has in this table. Answers have the number of
    /// `NEW_…`, which is one less.
    fn count(&mut self, get: u16, family: u8) -> io::Result<usize> {
        self.sequence = self.sequence.wrapping_add(1);
        let asked = self.sequence;
        self.send(&question(get, asked, family, &self.table))?;
        let mut found = 0;
        loop {
            let read = self.receive()?;
            for answer in split(&self.buffer[..read]) {
                match answer {
                    Message::Done { sequence, error } if sequence == asked => {
                        return outcome(error).map(|()| found);
                    }
                    Message::Item { sequence, kind, body } if sequence == asked => {
                        let is_it = message_of(kind) == Some(get - 1);
                        found += usize::from(is_it && table_of(body) == Some(&self.table));
                    }
                    _ => {}
                }
            }
        }
    }

    /// All or nothing.
    fn transact(&mut self, fill: impl FnOnce(&mut Batch, &str)) -> io::Result<()> {
        let mut batch = Batch::new(self.sequence.wrapping_add(1));
        fill(&mut batch, &self.table);
        let (bytes, first, last) = batch.finish();
        self.sequence = last.wrapping_add(1);
        self.send(&bytes)?;
        let mut failed = 0;
        loop {
            let read = self.receive()?;
            for answer in split(&self.buffer[..read]) {
                let Message::Done { sequence, error } = answer else { continue };
                let ours = sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                failed = if ours && failed == 0 { error } else { failed };
                // A transaction that is refused as a whole is answered at its begin.
                if ours && (sequence == last || (sequence == first && error != 0)) {
                    return outcome(failed);
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: the buffer is as long as is said.
        let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let (at, length) = (self.buffer.as_mut_ptr(), self.buffer.len());
        // SAFETY: the buffer is as long as is said.
        let read = unsafe { libc::recv(self.socket.as_raw_fd(), at.cast(), length, 0) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }
}

fn set_up(socket: &OwnedFd) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let patience = nix::sys::time::TimeVal::new(0, PATIENCE.as_micros() as libc::suseconds_t);
    setsockopt(socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER)?;
    // Where this is not allowed, a long transaction fails and the gate is not up.
    let _ = setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER);
    Ok(())
}

fn outcome(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The name of the table in an answer: the first attribute of tables, chains and rules alike.
fn table_of(body: &[u8]) -> Option<&str> {
    let all = attributes(body.get(4..)?);
    let (_, value) = all.into_iter().find(|(kind, _)| *kind == 1)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}
