//! Probes (spec H4): where a link is down, does a third party on that network answer?
//!
//! A thread of its own, without priority: one ICMP echo a second to the network's target, from the
//! node's own address there, and only while the heartbeat doubts the network. Where the system
//! allows no ICMP, there is no answer, which is not the same as *no*.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use vedette_core::id::NetworkNumber;

use super::heartbeat::{Command, Heartbeat};
use super::protocol::OwnNetwork;

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(400);

/// The networks in doubt, one bit each.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts(Arc<AtomicU16>);

impl Doubts {
    pub(super) fn set(&self, doubted: impl Fn(NetworkNumber) -> bool) {
        let numbers = (1..=NetworkNumber::MAX).filter(|n| doubted(NetworkNumber(*n)));
        self.0.store(numbers.fold(0, |bits, n| bits | 1 << n), Ordering::Relaxed);
    }

    fn has(&self, network: NetworkNumber) -> bool {
        network.0 <= NetworkNumber::MAX && self.0.load(Ordering::Relaxed) & (1 << network.0) != 0
    }
}

/// What to probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    network: NetworkNumber,
    from: IpAddr,
    to: IpAddr,
}

impl Target {
    pub(super) fn of(own: &OwnNetwork) -> Option<Self> {
        own.ping.map(|to| Self { network: own.number, from: own.address, to })
    }
}

/// Probes until the heartbeat is gone.
pub(super) fn run(targets: &Receiver<Vec<Target>>, doubts: &Doubts, heartbeat: &Heartbeat) {
    let mut current = Vec::new();
    let mut sequence = 0;
    loop {
        match targets.recv_timeout(EVERY) {
            Ok(new) => current = new,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        sequence += 1;
        for target in &current {
            let doubted = doubts.has(target.network);
            let answer = doubted.then(|| echo(target.from, target.to, sequence)).flatten();
            heartbeat.tell(Command::Probed(target.network, answer));
        }
    }
}

/// Sends one echo request. `None`: the system did not let us.
fn echo(from: IpAddr, to: IpAddr, sequence: u16) -> Option<bool> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let open = |kind| Socket::new(domain, kind, Some(protocol));
    let mut socket = open(Type::DGRAM).or_else(|_| open(Type::RAW)).ok()?;
    // An address that is not here cannot reach anything.
    if socket.bind(&SocketAddr::new(from, 0).into()).is_err() {
        return Some(false);
    }
    let request = request(to.is_ipv6(), std::process::id() as u16, sequence);
    if socket.send_to(&request, &SocketAddr::new(to, 0).into()).is_err() {
        return Some(false);
    }
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 256];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(false);
        }
        socket.set_read_timeout(Some(left)).ok()?;
        if let Ok(length) = socket.read(&mut buffer)
            && is_reply(&buffer[..length], sequence)
        {
            return Some(true);
        }
    }
}

/// Type, code, checksum, identifier, sequence number, and eight bytes by which we know our own.
fn request(v6: bool, identifier: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = if v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..].copy_from_slice(MARK);
    // The kernel computes the checksum of ICMPv6.
    if !v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

const MARK: &[u8; 8] = b"vedette?";

fn checksum(packet: &[u8; 16]) -> u16 {
    let words =
        packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// A raw IPv4 socket delivers the IP header too, so the message is looked for from the end.
fn is_reply(packet: &[u8], sequence: u16) -> bool {
    let Some(message) = packet.len().checked_sub(16).and_then(|at| packet.get(at..)) else {
        return false;
    };
    matches!(message[0], 0 | 129)
        && message[6..8] == sequence.to_be_bytes()
        && message[8..] == MARK[..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H4: this host answers itself; whether it may ask depends on the system, so a refusal to
    /// open the socket is told from an answer.
    #[test]
    fn loopback_answers_if_it_may_be_asked() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_ne!(echo(loopback, loopback, 1), Some(false));
    }

    #[test]
    fn an_address_that_is_not_here_is_no_way_out() {
        // 192.0.2.0/24 is reserved for documentation.
        let foreign = IpAddr::from([192, 0, 2, 1]);
        assert_ne!(echo(foreign, IpAddr::from([127, 0, 0, 1]), 1), Some(true));
    }

    #[test]
    fn only_the_reply_to_our_own_request_counts() {
        let mut reply = request(false, 7, 42);
        assert!(!is_reply(&reply, 42), "the request itself, as loopback shows it to raw sockets");
        reply[0] = 0;
        assert!(is_reply(&reply, 42));
        assert!(is_reply(&[&[0x45; 20][..], &reply[..]].concat(), 42), "behind an IP header");
        assert!(!is_reply(&reply, 43));
        assert!(!is_reply(&reply[..15], 42));
    }

    /// The checksum over a packet that contains its checksum is zero.
    #[test]
    fn the_checksum_is_right() {
        assert_eq!(checksum(&request(false, 0x1234, 0xfffe)), 0);
    }
}
