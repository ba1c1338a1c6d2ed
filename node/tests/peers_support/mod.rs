//! Clusters for tests of peers and joins: real keys, real TLS, loopback addresses.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vedette_core::id::{ClusterId, NetworkNumber, NodeNumber, RaftId, StorageId};
use vedette_core::observation::LinkView;
use vedette_core::refusal::Refusal;
use vedette_core::time::WallTime;
use vedette_node::identity::{ClusterKey, Identity, Membership, VERSION};
use vedette_node::peers::{Limits, Peer, PeerIdentity, Peers, Server, Service, kinds};
use vedette_node::pki::{self, Authority, CertifiedNode, Tls};

pub const NETA: NetworkNumber = NetworkNumber(1);
pub const NETB: NetworkNumber = NetworkNumber(2);
pub const N1: NodeNumber = NodeNumber(1);
pub const N2: NodeNumber = NodeNumber(2);
/// Long enough for anything that is to happen at all.
pub const LONG: Duration = Duration::from_secs(20);

pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    WallTime(since.as_micros() as i64)
}

/// A cluster's authority, and members made with it.
pub struct Cluster {
    pub id: ClusterId,
    pub authority: Authority,
    pub key: ClusterKey,
}

impl Cluster {
    pub fn new(id: u8) -> Self {
        Self::named(id, "test")
    }

    pub fn named(id: u8, name: &str) -> Self {
        let id = ClusterId([id; 16]);
        let authority = Authority::generate(id, name, now()).expect("an authority");
        Self { id, authority, key: ClusterKey::generate() }
    }

    pub fn storage(number: NodeNumber) -> StorageId {
        StorageId([number.0 as u8; 16])
    }

    pub fn member(&self, number: NodeNumber) -> Membership {
        self.member_made(number, now())
    }

    /// A member whose certificate was made then, for a cluster that says it is `self`.
    pub fn member_made(&self, number: NodeNumber, made: WallTime) -> Membership {
        let storage = Self::storage(number);
        let node_key = pki::generate_key().expect("a key");
        let node = CertifiedNode { cluster: self.id, number, storage };
        let request = pki::request(&node_key).expect("a request");
        let name = format!("n{number}");
        let node_cert = self.authority.certify(node, &name, &request, made).expect("a certificate");
        let identity = Identity {
            cluster: self.id,
            cluster_name: "test".into(),
            number,
            name,
            raft_id: RaftId(u64::from(number.0)),
            storage,
            version: VERSION.into(),
        };
        Membership {
            identity,
            cluster_key: self.key.clone(),
            ca_cert: self.authority.cert_pem().into(),
            ca_key: self.authority.key_pem(),
            node_cert,
            node_key,
        }
    }

    pub fn tls(&self, number: NodeNumber) -> Tls {
        Tls::new(&self.member(number)).expect("usable keys")
    }
}

/// Answers RAFT with who asked and what, refuses PROPOSE, and never answers STATE.
pub struct Echo;

impl Service for Echo {
    fn call(
        &self,
        from: PeerIdentity,
        kind: u16,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, Refusal>> {
        Box::pin(async move {
            match kind {
                kinds::PROPOSE => Err(Refusal::new("no", "it was refused", "Ask another.")),
                kinds::STATE => std::future::pending().await,
                _ => {
                    let mut answer =
                        from.node.map_or(0, |node| node.0 as u8).to_be_bytes().to_vec();
                    answer.extend(body);
                    Ok(answer)
                }
            }
        })
    }
}

/// A node's address on a network, in a range of loopback addresses of its own.
pub fn ip(number: NodeNumber, network: NetworkNumber) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, network.0, number.0 as u8))
}

/// Its addresses on both networks, with any port.
pub fn any_port(number: NodeNumber) -> BTreeMap<NetworkNumber, SocketAddr> {
    [NETA, NETB].map(|network| (network, SocketAddr::new(ip(number, network), 0))).into()
}

/// Node 2, listening on both networks for node 1.
pub struct Listening {
    pub server: Server,
    pub addresses: BTreeMap<NetworkNumber, SocketAddr>,
    pub peers: Peers,
}

pub fn listen(tls: Tls, service: Arc<dyn Service>, limits: Limits) -> Listening {
    let peers = Peers::new(tls.clone());
    let any: Vec<SocketAddr> = any_port(N2).into_values().collect();
    let server = Server::start(&any, tls, peers.roster(), service, limits).expect("free ports");
    let addresses = [NETA, NETB].into_iter().zip(server.addresses()).collect();
    let listening = Listening { server, addresses, peers };
    listening.peers.roster().update(members(&listening.addresses));
    listening
}

/// Node 2 as it usually is.
pub fn echo(cluster: &Cluster) -> Listening {
    listen(cluster.tls(N2), Arc::new(Echo), Limits::default())
}

/// Nodes 1 and 2; only node 2 listens.
pub fn members(addresses: &BTreeMap<NetworkNumber, SocketAddr>) -> BTreeMap<NodeNumber, Peer> {
    let first = Peer { name: "n1".into(), storage: Cluster::storage(N1), addresses: any_port(N1) };
    let second =
        Peer { name: "n2".into(), storage: Cluster::storage(N2), addresses: addresses.clone() };
    [(N1, first), (N2, second)].into()
}

/// Node 1, which knows where node 2 listens.
pub fn caller(tls: Tls, addresses: &BTreeMap<NetworkNumber, SocketAddr>) -> Peers {
    let peers = Peers::new(tls);
    peers.update(members(addresses));
    peers
}

/// Waits until something holds, and says what was there instead if it never does.
pub async fn until<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        let seen = look();
        if holds(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Trouble that the lane to node 2 over a network has now.
pub fn trouble(peers: &Peers, network: NetworkNumber) -> Option<String> {
    let all = peers.lane_statuses().into_iter();
    all.filter(|lane| lane.network == network).find_map(|lane| lane.trouble)
}

/// Waits until the lane to node 2 over a network has (or has not) trouble with these words in it.
pub async fn lane(peers: &Peers, network: NetworkNumber, trouble: Option<&str>) {
    let what = format!("{trouble:?} on network {network}");
    until(
        &what,
        || self::trouble(peers, network),
        |seen| match (seen, trouble) {
            (None, None) => true,
            (Some(seen), Some(words)) => seen.contains(words),
            _ => false,
        },
    )
    .await;
}

/// A link to node 2 as a guard sees it.
pub fn link(network: NetworkNumber, alive: bool, rtt_us: u32) -> LinkView {
    LinkView {
        peer: N2,
        network,
        inbound: alive,
        outbound: alive,
        silent: Some(Duration::ZERO),
        rtt_us: Some(rtt_us),
        lost: 0,
        received: 1,
        narrow: false,
    }
}

/// A wire in front of an address that can be cut: bytes then vanish and nothing is closed.
pub struct Wire {
    pub address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(target.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (whole, watched) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                tokio::spawn(carry(inside, target, watched.clone()));
            }
        });
        Self { address, whole }
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

/// Carries one connection until the wire is cut; then holds it, silently, for good.
async fn carry(mut inside: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    if whole.wait_for(|whole| *whole).await.is_err() {
        return;
    }
    let Ok(mut outside) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut inside, &mut outside) => return,
        cut = whole.wait_for(|whole| !*whole) => drop(cut),
    }
    std::future::pending().await
}
