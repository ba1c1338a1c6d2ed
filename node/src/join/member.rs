//! The member's side of a join: the check, and the answer.
//!
//! [`admit`] checks everything there is to check before anything changes (spec A4): version,
//! cluster, clock, name and number, token, networks, addresses. Only then the node is proposed to
//! the log, which checks again what may have changed meanwhile, and only then a certificate is
//! signed.
//!
//! An answer can be lost after the node was added. So a member remembers for [`REMEMBERED`] with
//! which token each node was added (it sees every such command applied, also those of other
//! members), and gives the answer again to the same storage with the same token.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::command::{Command, NewNode, Proposal};
use vedette_core::id::{Hash, NetworkNumber, RaftId, StorageId};
use vedette_core::refusal::Refusal;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;

use super::init::check_name;
use super::messages::{JoinAnswer, JoinHello, JoinWelcome, PeerSet};
use crate::identity::{Membership, VERSION};
use crate::peers::hello::{PROTOCOL, check_version};
use crate::peers::{Peer, members};
use crate::pki::{Authority, CertifiedNode, PkiError};

/// How long the answer to a join is given again.
pub const REMEMBERED: Duration = Duration::from_secs(600);
/// How far the clocks of two members may be apart when one joins (in the spirit of M11).
pub const LARGEST_OFFSET: Duration = Duration::from_secs(2);

/// What the member's agent does for a join.
pub trait Admitter: Send + Sync + 'static {
    /// The replicated state, as this member knows it.
    fn state(&self) -> Arc<ClusterState>;

    /// What the director's clock shows, as far as this member knows: entries are dated by it.
    fn now(&self) -> WallTime;

    /// Proposes the node to the log ([`Command::AddNode`]) and waits until it is applied: the
    /// index of the entry, which is the node's Raft id.
    fn admit_node(&self, node: NewNode, token: Hash) -> BoxFuture<'_, Result<RaftId, Refusal>>;
}

/// What the check of a joining node found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be added.
    New(NewNode),
    /// It is a member already, by its storage; its answer may have been lost.
    Repeat(RaftId),
}

/// Checks a joining node against the state, and changes nothing (spec A4, V4).
///
/// # Errors
/// The first thing that does not fit, with both sides of it.
pub fn admit(hello: &JoinHello, state: &ClusterState, now: WallTime) -> Result<Admission, Refusal> {
    check_version((PROTOCOL, VERSION), (hello.protocol, &hello.version))?;
    if state.cluster != Some(hello.cluster) {
        return Err(Refusal::new(
            "other_cluster",
            format!("this is not cluster {}, but {}", hello.cluster, state.name),
            "Use a token of this cluster, or the addresses of the other one.",
        ));
    }
    check_clock(hello, now)?;
    check_name("node", &hello.name)?;
    if let Some(member) = state.nodes.get(&hello.number)
        && member.name == hello.name
    {
        return if member.storage == hello.storage {
            Ok(Admission::Repeat(member.raft_id))
        } else {
            Err(used_up(hello))
        };
    }
    state.check_free(&hello.name, hello.number)?;
    let node = NewNode {
        number: hello.number,
        name: hello.name.clone(),
        storage: hello.storage,
        version: hello.version.clone(),
        addresses: match_networks(hello, state)?,
    };
    state.check_token(&node, secret_hash(hello)?, now)?;
    state.check_addresses(&node)?;
    Ok(Admission::New(node))
}

fn used_up(hello: &JoinHello) -> Refusal {
    let JoinHello { name, number, .. } = hello;
    Refusal::new(
        "token_used",
        format!(
            "{name} (node {number}) is a member already, with other storage: this token was used \
             before"
        ),
        format!(
            "If that node is lost, delete it and add it again on a member: vedette node delete \
             {name}, vedette node add {name}."
        ),
    )
}

fn check_clock(hello: &JoinHello, now: WallTime) -> Result<(), Refusal> {
    let offset = hello.wall_clock.0.saturating_sub(now.0);
    if offset.unsigned_abs() <= LARGEST_OFFSET.as_micros() as u64 {
        return Ok(());
    }
    let (by, direction) =
        (offset.unsigned_abs() as f64 / 1e6, if offset > 0 { "ahead of" } else { "behind" });
    Err(Refusal::new(
        "clock_offset",
        format!("the clock of {} is {by:.1} s {direction} that of the cluster", hello.name),
        format!(
            "Set both clocks from the same source (chrony or ntpd); at most {} s are allowed.",
            LARGEST_OFFSET.as_secs()
        ),
    ))
}

fn secret_hash(hello: &JoinHello) -> Result<Hash, Refusal> {
    let secret = hex::decode(&hello.secret).map_err(|why| {
        Refusal::new(
            "bad_secret",
            format!("the token's secret is no secret: {why}"),
            "Copy it again.",
        )
    })?;
    Ok(Hash::of(&secret))
}

/// The node's addresses by network number; names and ports must be those of the cluster.
fn match_networks(
    hello: &JoinHello,
    state: &ClusterState,
) -> Result<BTreeMap<NetworkNumber, std::net::IpAddr>, Refusal> {
    let refuse = |code: &str, what: String| {
        Err(Refusal::new(code, what, format!("Correct the vedette.toml of {}.", hello.name)))
    };
    let mut addresses = BTreeMap::new();
    for (name, offered) in &hello.networks {
        let Some((number, network)) = state.networks.iter().find(|(_, n)| n.name == *name) else {
            let names: Vec<&str> = state.networks.values().map(|n| n.name.as_str()).collect();
            return refuse(
                "unknown_network",
                format!(
                    "{} has network {name}, which this cluster does not have: it has {}",
                    hello.name,
                    names.join(", ")
                ),
            );
        };
        for (port, ours, theirs) in [
            ("beat_port", network.beat_port, offered.beat_port),
            ("peer_port", network.peer_port, offered.peer_port),
        ] {
            if ours != theirs {
                return refuse(
                    "port_mismatch",
                    format!(
                        "{port} of network {name} is {ours} in this cluster, but {theirs} on {}",
                        hello.name
                    ),
                );
            }
        }
        addresses.insert(*number, offered.address);
    }
    Ok(addresses)
}

/// Answers nodes that ask to join.
pub struct JoinDesk {
    member: Membership,
    authority: Authority,
    admitter: Arc<dyn Admitter>,
    /// The token each node was added with, and when that will be forgotten.
    remembered: Mutex<BTreeMap<StorageId, (Hash, WallTime)>>,
}

impl JoinDesk {
    /// For a member.
    ///
    /// # Errors
    /// The keys of the cluster's authority cannot be used.
    pub fn new(member: Membership, admitter: Arc<dyn Admitter>) -> Result<Self, PkiError> {
        let authority = Authority::from_pem(&member.ca_cert, &member.ca_key)?;
        Ok(Self { member, authority, admitter, remembered: Mutex::default() })
    }

    /// SHA-256 of the authority's certificate, for tokens.
    pub fn fingerprint(&self) -> Hash {
        self.authority.fingerprint()
    }

    /// To be told of every command that is applied: remembers who was added with which token, so
    /// that any member can give a lost answer again.
    pub fn applied(&self, proposal: &Proposal) {
        if let Command::AddNode { node, token } = &proposal.command {
            self.remember(node.storage, *token, proposal.at);
        }
    }

    fn remember(&self, storage: StorageId, token: Hash, at: WallTime) {
        let mut remembered = self.remembered();
        remembered.retain(|_, (_, until)| *until > at);
        remembered.insert(storage, (token, at.plus(REMEMBERED)));
    }

    /// Answers one request of kind [`crate::peers::kinds::JOIN`].
    ///
    /// # Errors
    /// Why the node may not join.
    pub async fn answer(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let hello: JoinHello = serde_json::from_slice(body).map_err(|why| {
            Refusal::new(
                "unreadable_join",
                format!("the request to join cannot be read: {why}"),
                "Install the release that the members run.",
            )
        })?;
        let answer = self.decide(&hello).await?;
        serde_json::to_vec(&answer).map_err(|why| internal(&why))
    }

    async fn decide(&self, hello: &JoinHello) -> Result<JoinAnswer, Refusal> {
        let now = self.admitter.now();
        let admission = admit(hello, &self.admitter.state(), now)?;
        let token = secret_hash(hello)?;
        if hello.dry_run {
            return Ok(JoinAnswer::WouldJoin);
        }
        let raft_id = match admission {
            Admission::New(node) => {
                let storage = node.storage;
                let raft_id = self.admitter.admit_node(node, token).await?;
                self.remember(storage, token, now);
                raft_id
            }
            Admission::Repeat(raft_id) => {
                self.check_repeat(hello, token, now)?;
                raft_id
            }
        };
        self.welcome(hello, raft_id, now).map(|welcome| JoinAnswer::Welcome(Box::new(welcome)))
    }

    fn check_repeat(&self, hello: &JoinHello, token: Hash, now: WallTime) -> Result<(), Refusal> {
        match self.remembered().get(&hello.storage) {
            Some((known, until)) if *known == token && *until > now => Ok(()),
            _ => Err(Refusal::new(
                "join_over",
                format!(
                    "{} was added, but the answer can be given again only with the same token and \
                     within {} minutes",
                    hello.name,
                    REMEMBERED.as_secs() / 60
                ),
                format!(
                    "Delete it and add it again on a member: vedette node delete {}, vedette node \
                     add {}.",
                    hello.name, hello.name
                ),
            )),
        }
    }

    fn welcome(
        &self,
        hello: &JoinHello,
        raft_id: RaftId,
        now: WallTime,
    ) -> Result<JoinWelcome, Refusal> {
        let (cluster, state) = (hello.cluster, self.admitter.state());
        let node = CertifiedNode { cluster, number: hello.number, storage: hello.storage };
        let node_cert = self
            .authority
            .certify(node, &hello.name, &hello.csr, now)
            .map_err(|why| internal(&why))?;
        Ok(JoinWelcome {
            cluster,
            cluster_name: state.name.clone(),
            raft_id,
            ca_cert: self.member.ca_cert.clone(),
            ca_key: self.member.ca_key.clone(),
            node_cert,
            cluster_key: self.member.cluster_key.to_hex(),
            peer_set: peer_set(&state, hello)?,
        })
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<StorageId, (Hash, WallTime)>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster with the new node, which this member's state may not show yet.
fn peer_set(state: &ClusterState, hello: &JoinHello) -> Result<PeerSet, Refusal> {
    let mut members = members(state);
    let port = |network: &NetworkNumber| state.networks.get(network).map_or(0, |n| n.peer_port);
    let addresses = match_networks(hello, state)?
        .into_iter()
        .map(|(network, ip)| (network, std::net::SocketAddr::new(ip, port(&network))))
        .collect();
    let new = Peer { name: hello.name.clone(), storage: hello.storage, addresses };
    members.entry(hello.number).or_insert(new);
    let (networks, settings) = (state.networks.clone(), state.settings.clone());
    Ok(PeerSet { networks, members, settings })
}

fn internal(why: &dyn std::error::Error) -> Refusal {
    Refusal::new(
        "join_failed",
        format!("the answer to the join could not be made: {why}"),
        "Run `vedette join TOKEN` again with the same token; see the member's log.",
    )
}
