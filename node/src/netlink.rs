//! Addresses, devices and routes of this machine, asked and changed in the kernel directly.
//!
//! One socket, one question at a time: send a request, read what comes until the kernel says that
//! this was all. The bytes are in [`message`]; here are the calls. They block, but only for as long
//! as the kernel takes, and never longer than [`PATIENCE`].
//!
//! A socket belongs to the network namespace of the thread that opened it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub mod message;

pub use message::{Address, Link, Message, Neighbour, Route};

/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a table is asked for that changes while it is told.
const ATTEMPTS: usize = 20;

/// More than the kernel puts into one datagram.
const BUFFER: usize = 64 * 1_024;

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let patience = nix::sys::time::TimeVal::new(PATIENCE.as_secs() as libc::time_t, 0);
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::ReceiveTimeout,
            &patience,
        )?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// All devices.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.dump(libc::RTM_GETLINK, libc::RTM_NEWLINK, &message::link_request())?;
        Ok(answers.iter().filter_map(|body| Link::parse(body)).collect())
    }

    /// All addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let request = message::address_request();
        let answers = self.dump(libc::RTM_GETADDR, libc::RTM_NEWADDR, &request)?;
        Ok(answers.iter().filter_map(|body| Address::parse(body)).collect())
    }

    /// Neighbours whose hardware addresses are known.
    pub fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let request = message::neighbour_request();
        let answers = self.dump(libc::RTM_GETNEIGH, libc::RTM_NEWNEIGH, &request)?;
        Ok(answers.iter().filter_map(|body| Neighbour::parse(body)).collect())
    }

    /// The routes that somebody made, on whichever device: not those that the kernel makes with
    /// each address, nor cached ones.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let request = message::route_request();
        let answers = self.dump(libc::RTM_GETROUTE, libc::RTM_NEWROUTE, &request)?;
        Ok(answers.iter().filter_map(|body| Route::parse(body)).collect())
    }

    /// Adds an address; that it is there already is no failure. An IPv6 address can be used at
    /// once: whether somebody else has it is not the kernel's question but the cluster's.
    pub fn add_address(&mut self, device: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let body = Address::new(device, address, prefix).body();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.change(libc::RTM_NEWADDR, flags, &body).or_else(unless(&[libc::EEXIST]))
    }

    /// Takes an address off a device; that it is not there is no failure.
    pub fn remove_address(&mut self, device: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let body = Address::new(device, address, prefix).body();
        let change = self.change(libc::RTM_DELADDR, 0, &body);
        change.or_else(unless(&[libc::EADDRNOTAVAIL, libc::ENODEV]))
    }

    /// Puts a route (back); that it is there already is no failure.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.change(libc::RTM_NEWROUTE, flags, route.body()).or_else(unless(&[libc::EEXIST]))
    }

    /// Removes a route; that it is not there is no failure.
    pub fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        self.change(libc::RTM_DELROUTE, 0, route.body()).or_else(unless(&[libc::ESRCH]))
    }

    fn change(&mut self, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
        let sequence = self.send(kind, flags | libc::NLM_F_ACK, body)?;
        loop {
            let read = self.receive()?;
            for answer in message::split(&self.buffer[..read]) {
                if let Message::Done { sequence: of, error } = answer
                    && of == sequence
                {
                    return outcome(error);
                }
            }
        }
    }

    /// Asks for a whole table; again if it changed in between.
    fn dump(&mut self, kind: u16, wanted: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.dump_once(kind, wanted, body)? {
                return Ok(found);
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "the tables change all the time"))
    }

    /// `None` if the table changed while it was told.
    fn dump_once(
        &mut self,
        kind: u16,
        wanted: u16,
        body: &[u8],
    ) -> io::Result<Option<Vec<Vec<u8>>>> {
        let sequence = self.send(kind, libc::NLM_F_DUMP, body)?;
        let (mut found, mut whole) = (Vec::new(), true);
        loop {
            let read = self.receive()?;
            whole &= !message::is_interrupted(&self.buffer[..read]);
            for answer in message::split(&self.buffer[..read]) {
                match answer {
                    Message::Done { sequence: of, error } if of == sequence => {
                        return outcome(error).map(|()| whole.then_some(found));
                    }
                    Message::Item { sequence: of, kind, body }
                        if (of, kind) == (sequence, wanted) =>
                    {
                        found.push(body.to_vec());
                    }
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: i32, body: &[u8]) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let packet = message::packet(kind, flags, self.sequence, body);
        // SAFETY: the buffer is as long as is said.
        let sent =
            unsafe { libc::send(self.socket.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(self.sequence) }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let (at, len) = (self.buffer.as_mut_ptr(), self.buffer.len());
        // SAFETY: the buffer is as long as is said.
        let read = unsafe { libc::recv(self.socket.as_raw_fd(), at.cast(), len, 0) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }
}

fn outcome(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn unless(harmless: &'static [i32]) -> impl Fn(io::Error) -> io::Result<()> {
    move |error| match error.raw_os_error() {
        Some(number) if harmless.contains(&number) => Ok(()),
        _ => Err(error),
    }
}
