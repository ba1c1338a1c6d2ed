//! A cluster of one that nodes can join: real keys, real TLS, the real state; only the replicated
//! log is a mutex.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use vedette_core::command::{Command, NewNetwork, NewNode, Proposal};
use vedette_core::id::{CommandId, Hash, NetworkNumber, NodeNumber, RaftId};
use vedette_core::model::{Priority, Settings};
use vedette_core::refusal::Refusal;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_node::identity::{FORM, Membership, StateDir, VERSION};
use vedette_node::join::{
    Admitter, InitRequest, JoinDesk, JoinRequest, OfferedNetwork, Token, init,
};
use vedette_node::peers::{Limits, PeerIdentity, Peers, Server, Service, kinds, members};
use vedette_node::pki::Tls;

pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    WallTime(since.as_micros() as i64)
}

/// A node's address on a network, in a range of loopback addresses of its own.
pub fn ip(number: u16, network: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 78, network, (number % 250) as u8))
}

pub fn networks(peer_port: u16) -> BTreeMap<NetworkNumber, NewNetwork> {
    let network = |(number, name): (u8, &str)| {
        let network = NewNetwork {
            name: name.into(),
            priority: Priority::High,
            beat_port: 7770,
            peer_port,
            ping: None,
        };
        (NetworkNumber(number), network)
    };
    [(1, "neta"), (2, "netb")].map(network).into()
}

pub fn init_request(home: &Path, name: &str, number: u16) -> InitRequest {
    InitRequest {
        state_dir: home.join("state"),
        cluster_name: "demo".into(),
        node_name: name.into(),
        number: NodeNumber(number),
        addresses: [1, 2].map(|network| (NetworkNumber(network), ip(number, network))).into(),
        networks: networks(7771),
        settings: Settings::default(),
        now: now(),
        actor: "root@n1".into(),
    }
}

/// The log and the clock of the member that admits.
pub struct Log {
    state: Mutex<Arc<ClusterState>>,
    index: Mutex<u64>,
    /// The next answer to a join is lost after the node was added.
    pub lose_answer: AtomicBool,
    /// What this clock is ahead of the real one, in microseconds.
    pub clock_offset: i64,
}

impl Log {
    pub fn propose(&self, command: Command) -> Outcome {
        self.commit(&Proposal {
            id: CommandId(rand::random()),
            at: self.now(),
            origin: NodeNumber(1),
            actor: "root@n1".into(),
            command,
            tick: None,
        })
    }

    pub fn commit(&self, proposal: &Proposal) -> Outcome {
        let mut index = self.index.lock().expect("no panic");
        *index += 1;
        let mut state = self.state.lock().expect("no panic");
        Arc::make_mut(&mut state).apply(*index, proposal).outcome
    }
}

impl Admitter for Log {
    fn state(&self) -> Arc<ClusterState> {
        self.state.lock().expect("no panic").clone()
    }

    fn now(&self) -> WallTime {
        WallTime(now().0 + self.clock_offset)
    }

    fn admit_node(&self, node: NewNode, token: Hash) -> BoxFuture<'_, Result<RaftId, Refusal>> {
        Box::pin(async move {
            match self.propose(Command::AddNode { node, token }) {
                Outcome::Applied { index } | Outcome::Repeated { index } => Ok(RaftId(index)),
                Outcome::Refused(refusal) => Err(refusal),
            }
        })
    }
}

struct Door(Arc<JoinDesk>, Arc<Log>);

impl Service for Door {
    fn call(
        &self,
        _from: PeerIdentity,
        kind: u16,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, Refusal>> {
        Box::pin(async move {
            assert_eq!(kind, kinds::JOIN);
            let answer = self.0.answer(&body).await;
            if self.1.lose_answer.swap(false, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}

/// The first member, at its door.
pub struct First {
    pub home: tempfile::TempDir,
    pub member: Membership,
    pub log: Arc<Log>,
    pub desk: Arc<JoinDesk>,
    pub port: u16,
    server: Option<Server>,
}

impl First {
    /// A cluster of one whose clock is off by `clock_offset` microseconds.
    pub fn with_clock(clock_offset: i64) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        // The port is part of the replicated state, so it must be known before the server starts.
        let port = free_port();
        let mut request = init_request(home.path(), "n1", 1);
        request.networks = networks(port);
        init(&request).expect("a new cluster");
        let dir = StateDir::new(&request.state_dir);
        let member = dir.load().expect("a membership");
        let log = Arc::new(Log {
            state: Mutex::default(),
            index: Mutex::new(1),
            lose_answer: AtomicBool::new(false),
            clock_offset,
        });
        let form: Proposal = dir.document(FORM).expect("readable").expect("there");
        assert!(matches!(log.commit(&form), Outcome::Applied { .. }));
        let desk = Arc::new(JoinDesk::new(member.clone(), log.clone()).expect("an authority"));
        let mut first = Self { home, member, log, desk, port, server: None };
        first.open();
        first
    }

    pub fn new() -> Self {
        Self::with_clock(0)
    }

    /// Opens the door (again).
    pub fn open(&mut self) {
        self.server = None;
        let tls = Tls::new(&self.member).expect("keys");
        let peers = Peers::new(tls.clone());
        peers.update(members(&self.log.state()));
        let addresses = [1, 2].map(|network| SocketAddr::new(ip(1, network), self.port));
        let door = Arc::new(Door(self.desk.clone(), self.log.clone()));
        let server = Server::start(&addresses, tls, peers.roster(), door, Limits::default());
        self.server = Some(server.expect("free ports"));
    }

    pub fn close(&mut self) {
        self.server = None;
    }

    /// A token for a node, known to the cluster.
    pub fn token(&self, name: &str, number: u16, valid: Duration) -> Token {
        let expires_at = self.log.now().plus(valid);
        let cluster = self.member.identity.cluster;
        let number = NodeNumber(number);
        let state = self.log.state();
        let token =
            Token::issue(&state, cluster, self.desk.fingerprint(), (name, number), expires_at);
        let command =
            Command::IssueToken { hash: token.hash(), name: name.into(), number, expires_at };
        let outcome = self.log.propose(command);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        token
    }

    /// A node that wants to join with the token, as its configuration has it.
    pub fn joiner(&self, home: &Path, token: &Token) -> JoinRequest {
        JoinRequest {
            token: token.clone(),
            state_dir: home.join("state"),
            node_name: token.name.clone(),
            networks: offered(token.number.0, self.port),
            version: VERSION.into(),
            clock: now,
            dry_run: false,
        }
    }
}

pub fn offered(number: u16, peer_port: u16) -> BTreeMap<String, OfferedNetwork> {
    let network = |(network, name): (u8, &str)| {
        (
            name.to_owned(),
            OfferedNetwork { address: ip(number, network), beat_port: 7770, peer_port },
        )
    };
    [(1, "neta"), (2, "netb")].map(network).into()
}

/// A port that is free on both addresses of node 1, and that no other test gets.
fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    loop {
        let probe = std::net::TcpListener::bind(SocketAddr::new(ip(1, 1), 0)).expect("a port");
        let port = probe.local_addr().expect("an address").port();
        let mut taken = TAKEN.lock().expect("no panic");
        let other = std::net::TcpListener::bind(SocketAddr::new(ip(1, 2), port));
        if other.is_ok() && !taken.contains(&port) {
            taken.push(port);
            return port;
        }
    }
}

/// Everything below a directory that makes a membership.
pub fn membership_files(home: &Path) -> Vec<PathBuf> {
    ["identity.json", "cluster.key", "tls", "welcome.json", "form.json"]
        .map(|name| home.join("state").join(name))
        .into_iter()
        .filter(|path| path.exists())
        .collect()
}
