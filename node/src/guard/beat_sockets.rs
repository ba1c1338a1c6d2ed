//! The sockets of the heartbeat: one for each network on which this node has an address.
//!
//! An address may vanish and come back while the guard runs. A socket whose address is gone cannot
//! send; that is an observation ([`OwnInterface::usable`]), and every second the socket is made
//! anew until sending works again.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::observation::OwnInterface;
use vedette_core::time::Instant;

use super::protocol::{Configure, OwnNetwork};

const RETRY: Duration = Duration::from_secs(1);

/// One network.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) own: OwnNetwork,
    pub(super) socket: Option<UdpSocket>,
    pub(super) probe: Option<bool>,
    usable: bool,
    retry_at: Instant,
}

/// All networks, and where peers are on them.
#[derive(Debug, Default)]
pub(super) struct BeatSockets {
    pub(super) sockets: Vec<Net>,
    /// In order, to be searched without allocation.
    peers: Vec<((NodeNumber, NetworkNumber), SocketAddr)>,
}

/// Opens the socket for a network; the error is a sentence for the operator (spec H7).
pub fn bind(network: &OwnNetwork) -> Result<UdpSocket, String> {
    let open = || {
        let socket = UdpSocket::bind((network.address, network.port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().map_err(|error: io::Error| {
        let OwnNetwork { number, address, port, .. } = network;
        let advice = match error.kind() {
            io::ErrorKind::AddrNotAvailable => format!(
                "The address is not on this host: give it to an interface \
                 (ip address add {address}/… dev …), or correct this node's addresses"
            ),
            io::ErrorKind::AddrInUse => format!(
                "Another program has the port (ss -lunp 'sport = {port}' names it): stop it, or \
                 choose another beat port"
            ),
            io::ErrorKind::PermissionDenied => {
                "Ports below 1024 need the capability CAP_NET_BIND_SERVICE".into()
            }
            _ => "Heartbeats over this network are tried again every second".into(),
        };
        format!("network {number}: no heartbeat from {address} port {port}/udp: {error}. {advice}")
    })
}

impl BeatSockets {
    /// Takes another configuration; sockets that stay the same stay open. Returns a sentence for
    /// each that cannot be opened.
    pub(super) fn configure(&mut self, now: Instant, configure: &Configure) -> Vec<String> {
        let mut old = std::mem::take(&mut self.sockets);
        let mut warnings = Vec::new();
        for own in &configure.networks {
            let same = |net: &Net| {
                (net.own.number, net.own.address, net.own.port)
                    == (own.number, own.address, own.port)
            };
            let net = match old.iter().position(same) {
                Some(at) => Net { own: own.clone(), ..old.swap_remove(at) },
                None => Net::open(now, own.clone(), &mut old, &mut warnings),
            };
            self.sockets.push(net);
        }
        self.peers = peers(configure);
        warnings
    }

    /// Sends to a peer. Returns the network's number if its usability changed.
    pub(super) fn send(
        &mut self,
        now: Instant,
        (peer, network): (NodeNumber, NetworkNumber),
        packet: &[u8],
    ) -> Option<NetworkNumber> {
        let address = self.address(peer, network)?;
        let net = self.sockets.iter_mut().find(|net| net.own.number == network)?;
        let usable = match net.socket.as_ref()?.send_to(packet, address) {
            Ok(_) => true,
            Err(error) => net.usable && !own_fault(&error),
        };
        net.set_usable(now, usable).then_some(network)
    }

    /// Sends to a peer what says nothing of this host if it does not go out: an adapter may be made for shorter frames.
    pub(super) fn try_send(&self, (peer, network): (NodeNumber, NetworkNumber), packet: &[u8]) {
        let net = self.sockets.iter().find(|net| net.own.number == network);
        let socket = net.and_then(|net| net.socket.as_ref());
        if let Some((socket, address)) = socket.zip(self.address(peer, network)) {
            let _ = socket.send_to(packet, address);
        }
    }

    fn address(&self, peer: NodeNumber, network: NetworkNumber) -> Option<SocketAddr> {
        let at = self.peers.binary_search_by_key(&(peer, network), |(key, _)| *key).ok()?;
        Some(self.peers[at].1)
    }

    /// Makes sockets anew that cannot be used.
    pub(super) fn retry(&mut self, now: Instant) {
        for net in self.sockets.iter_mut().filter(|net| !net.usable && now >= net.retry_at) {
            net.retry_at = now + RETRY;
            // The old socket has to be closed first, or it would be in the way.
            net.socket = None;
            net.socket = bind(&net.own).ok();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sockets.iter().filter(|net| !net.usable).map(|net| net.retry_at).min()
    }

    pub(super) fn interface(&self, network: NetworkNumber) -> Option<OwnInterface> {
        self.sockets.iter().find(|net| net.own.number == network).map(Net::interface)
    }
}

impl Net {
    fn open(now: Instant, own: OwnNetwork, old: &mut Vec<Net>, warnings: &mut Vec<String>) -> Self {
        // A changed address or port of the same network: the old socket goes first.
        old.retain(|net| net.own.number != own.number);
        let socket = bind(&own).map_err(|why| warnings.push(why)).ok();
        let usable = socket.is_some();
        Self { own, socket, probe: None, usable, retry_at: now + RETRY }
    }

    fn set_usable(&mut self, now: Instant, usable: bool) -> bool {
        if !usable && self.usable {
            self.retry_at = now + RETRY;
        }
        std::mem::replace(&mut self.usable, usable) != usable
    }

    pub(super) fn interface(&self) -> OwnInterface {
        let (network, usable, probe) = (self.own.number, self.usable, self.probe);
        OwnInterface { network, usable, probe }
    }
}

/// Whether sending failed because of this host and not because of the way or the peer.
fn own_fault(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENODEV
                | libc::EINVAL
                | libc::EBADF
        )
    )
}

fn peers(configure: &Configure) -> Vec<((NodeNumber, NetworkNumber), SocketAddr)> {
    let port = |number: &NetworkNumber| {
        configure.networks.iter().find(|net| net.number == *number).map(|net| net.port)
    };
    let mut peers = Vec::new();
    for peer in &configure.peers {
        for (network, address) in &peer.addresses {
            let key = (peer.number, *network);
            peers.extend(port(network).map(|port| (key, SocketAddr::new(*address, port))));
        }
    }
    peers.sort_unstable();
    peers
}

#[cfg(test)]
mod tests {
    use vedette_core::model::Priority;

    use super::*;

    fn network(address: [u8; 4], port: u16) -> OwnNetwork {
        let (number, priority) = (NetworkNumber(3), Priority::High);
        OwnNetwork { number, priority, address: address.into(), port, ping: None }
    }

    /// H7: an address that is not on this host is refused with the reason.
    #[test]
    fn a_foreign_address_is_refused_with_advice() {
        // 192.0.2.0/24 is reserved for documentation.
        let why = bind(&network([192, 0, 2, 7], 7770)).unwrap_err();
        assert!(why.contains("network 3") && why.contains("192.0.2.7 port 7770/udp"), "{why}");
        assert!(why.contains("not on this host"), "{why}");
    }

    /// H7: so is a port that somebody else has.
    #[test]
    fn a_port_in_use_is_refused_with_advice() {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let why = bind(&network([127, 0, 0, 1], port)).unwrap_err();
        assert!(why.contains("Another program has the port"), "{why}");
    }
}
