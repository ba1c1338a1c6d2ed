//! Whether another machine has a service address: probes on the wire, as [`vedette_core::duplicate`] counts
//! them.
//!
//! IPv4 is asked for by ARP probes (RFC 5227: the sender's address is 0.0.0.0, so nobody's table changes),
//! IPv6 by neighbour solicitations from `::` (RFC 4862). The kernel's own detection is not used for IPv6: it
//! begins when the address is added, which is too late to be in parallel with anything, takes a second, and
//! says only *that* somebody has it; so both families are asked by the same rounds.
//!
//! Probing begins when it is known that the address will come here ([`Probes::begin`]), and is over when
//! somebody wanted to know the answer ([`Probes::answer`]) or nobody did for a minute. An answer is never older
//! than its three rounds.
//!
//! Where nobody can be asked (a device that is not Ethernet, no permission for packet sockets) the address
//! is taken as before: a node that cannot ask is not to be one that cannot serve.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use vedette_core::duplicate::{Hardware, Occupancy, Rounds};

use super::wire;
use crate::netlink::{Link, Netlink};

/// A round: on a network of one site an answer takes less than a millisecond.
const ROUND: Duration = Duration::from_millis(50);
/// Rounds without a pause, which is five seconds. After that each has one until the leave, so that a long wait
/// is no noise; it costs three rounds after the leave.
const QUICK: u32 = 100;
/// Between two later rounds.
const PAUSE: Duration = Duration::from_millis(450);
/// Nobody wanted to know for so long.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Longest wait for an answer: more than three silent rounds and two others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Another machine that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its hardware address.
    pub hardware: Hardware,
    /// The device on which it was heard.
    pub device: String,
}

/// What is being asked for on this node. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    asked: Arc<Mutex<BTreeMap<IpAddr, Probing>>>,
    found: Arc<Mutex<BTreeMap<IpAddr, Conflict>>>,
}

/// One address that is asked for.
#[derive(Clone, Debug)]
struct Probing {
    device: u32,
    rounds: Arc<watch::Sender<Rounds>>,
}

impl Probes {
    /// Begins to ask for an address on a device, unless that goes on already. `members` are the nodes' own
    /// addresses. Needs a tokio runtime.
    pub fn begin(&self, link: &Link, address: IpAddr, members: &[IpAddr]) {
        let _ = self.probing(link, address, members);
    }

    /// Goes on asking for these only: what may come later is asked for anew then. An answer that is being
    /// waited for comes all the same.
    pub fn keep(&self, wanted: &BTreeSet<IpAddr>) {
        self.locked().retain(|address, _| wanted.contains(address));
    }

    /// Whether it is asked for.
    pub(super) fn is_asked(&self, address: IpAddr) -> bool {
        self.locked().get(&address).is_some_and(Probing::goes_on)
    }

    /// Who else has the address, now that this node has the cluster's leave to take it. Answers at once if
    /// nobody answered for three rounds.
    pub async fn answer(
        &self,
        link: &Link,
        address: IpAddr,
        members: &[IpAddr],
    ) -> Option<Conflict> {
        lock(&self.found).remove(&address);
        let rounds = self.probing(link, address, members)?;
        let mut seen = rounds.subscribe();
        rounds.send_modify(Rounds::leave);
        let certain = seen.wait_for(|rounds| rounds.occupancy().is_some());
        let occupancy = tokio::time::timeout(PATIENCE, certain).await.ok()?.ok()?.occupancy();
        self.locked().remove(&address);
        let Some(Occupancy::Taken(hardware)) = occupancy else { return None };
        let conflict = Conflict { hardware, device: link.name.clone() };
        lock(&self.found).insert(address, conflict.clone());
        Some(conflict)
    }

    /// What the last answer for an address was, once.
    pub fn take_found(&self, address: IpAddr) -> Option<Conflict> {
        lock(&self.found).remove(&address)
    }

    fn probing(
        &self,
        link: &Link,
        address: IpAddr,
        members: &[IpAddr],
    ) -> Option<Arc<watch::Sender<Rounds>>> {
        let mut asked = self.locked();
        let going = asked.get(&address).filter(|it| it.device == link.index && it.goes_on());
        if let Some(going) = going {
            return Some(going.rounds.clone());
        }
        let hardware = link.ethernet()?;
        let socket = open(link, address)
            .inspect_err(|error| {
                tracing::warn!(%address, device = link.name, %error, "nobody can be asked for it");
            })
            .ok()?;
        let rounds = Arc::new(watch::Sender::new(Rounds::default()));
        let asking = Asking {
            socket,
            device: link.index,
            hardware,
            address,
            members: members.to_vec(),
            // The task ends when nobody holds the other end.
            rounds: Arc::downgrade(&rounds),
        };
        tokio::spawn(asking.run());
        asked.insert(address, Probing { device: link.index, rounds: rounds.clone() });
        Some(rounds)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, Probing>> {
        lock(&self.asked)
    }
}

impl Probing {
    /// Whether its task lives, which has the only weak reference.
    fn goes_on(&self) -> bool {
        Arc::weak_count(&self.rounds) > 0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of one address.
struct Asking {
    socket: AsyncFd<OwnedFd>,
    device: u32,
    hardware: [u8; 6],
    address: IpAddr,
    members: Vec<IpAddr>,
    rounds: std::sync::Weak<watch::Sender<Rounds>>,
}

impl Asking {
    async fn run(self) {
        let probe = wire::probe(self.hardware, self.address);
        let forgotten = Instant::now() + FORGOTTEN;
        for round in 0.. {
            let Some(rounds) = self.rounds.upgrade() else { return };
            rounds.send_modify(Rounds::next);
            if rounds.borrow().occupancy().is_some() || Instant::now() >= forgotten {
                return;
            }
            let mut leave = rounds.subscribe();
            drop(rounds);
            if let Err(error) = wire::send(self.device, &probe) {
                tracing::debug!(address = %self.address, %error, "a probe was not sent");
            }
            self.listen(Instant::now() + ROUND).await;
            if round >= QUICK && !leave.borrow().has_leave() {
                self.change(Rounds::pause);
                tokio::select! {
                    () = self.listen(Instant::now() + PAUSE) => {}
                    _ = leave.wait_for(Rounds::has_leave) => {}
                }
            }
        }
    }

    /// Hears who has the address, until then.
    async fn listen(&self, end: Instant) {
        let mut buffer = [0; 128];
        while let Ok(Ok(mut ready)) = timeout_at(end, self.socket.readable()).await {
            let read = ready.try_io(|socket| receive(socket.get_ref(), &mut buffer));
            let Ok(Ok(length)) = read else { continue };
            let Some(frame) = buffer.get(..length) else { continue };
            let Some(who) = wire::claims(frame, self.address, self.hardware) else { continue };
            let is_member = is_member(who, &self.members);
            self.change(|rounds| rounds.heard(Hardware(who), is_member));
        }
    }

    fn change(&self, how: impl FnOnce(&mut Rounds)) {
        if let Some(rounds) = self.rounds.upgrade() {
            rounds.send_modify(how);
        }
    }
}

/// Whether the kernel knows a hardware address as that of a member's own address. Members are spoken to many
/// times a second, so it knows them.
fn is_member(hardware: [u8; 6], members: &[IpAddr]) -> bool {
    let known = Netlink::open().and_then(|mut netlink| netlink.neighbours()).unwrap_or_default();
    known.iter().any(|it| it.hardware == hardware && members.contains(&it.address))
}

fn open(link: &Link, address: IpAddr) -> io::Result<AsyncFd<OwnedFd>> {
    let ear = wire::ear(link.index, address)?;
    // SAFETY: an owned descriptor stays open, and the same, as long as its owner lives.
    Ok(unsafe { AsyncFd::register(ear) }?)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as is said.
    let read = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}
