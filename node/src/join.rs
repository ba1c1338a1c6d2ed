//! Becoming a member: `vedette init` forms a cluster of one, `vedette join TOKEN` adds this node to
//! one that is there.
//!
//! How a join goes: the node connects to the members in the token, one after the other, and
//! accepts only one whose authority has the token's fingerprint. It sends its hello with the
//! token's secret and its own clock. The member checks everything before anything changes
//! ([`admit`]), adds the node through the log, signs its certificate and answers with all that a
//! member needs. The node looks at that as sceptically as the member did, and writes its state
//! directory when everything is there.
//!
//! If the answer is lost, nobody knows on the node's side whether it was added. The node keeps its
//! storage id in `joining.json` until it knows; with it, a repeated `vedette join` with the same
//! token is recognised and answered again.

mod init;
mod member;
mod messages;
mod token;

pub use init::{InitRequest, init};
pub use member::{Admission, Admitter, JoinDesk, LARGEST_OFFSET, REMEMBERED, admit};
pub use messages::{JoinAnswer, JoinHello, JoinWelcome, OfferedNetwork, PeerSet};
pub use token::{Token, TokenError};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use vedette_core::id::{Hash, StorageId};
use vedette_core::refusal::Refusal;
use vedette_core::time::WallTime;

use crate::identity::{
    ClusterKey, Identity, JOINING, Membership, StateDir, StateDirError, VERSION, WELCOME,
};
use crate::peers::connection::{Connection, Ended};
use crate::peers::dial::{Dial, DialError};
use crate::peers::hello::{Hello, PROTOCOL};
use crate::peers::kinds;
use crate::pki::{self, Authority, PkiError, Tls};

/// Longest time for connecting to one address of a member.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest time for an answer; adding a node waits for a majority.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why this node did not become a member: what happened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is for another node (spec V14).
    #[error(
        "the token is for {token}, but this node's configuration says {configured}. Use it on \
         {token}, or set `name = \"{token}\"` in this node's vedette.toml."
    )]
    WrongNode {
        /// The name in the token.
        token: String,
        /// The name in the configuration.
        configured: String,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The cluster (or `init` itself) refuses.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No member could be reached.
    #[error(
        "no member could be reached: {}. Check that vedette runs there and that no firewall is \
         between (TCP), then run the same command again.",
        tried.join("; ")
    )]
    Unreachable {
        /// Each address, with the reason.
        tried: Vec<String>,
    },
    /// The request went out and the answer did not come back.
    #[error(
        "the answer was lost ({why}), so it is not known whether this node was added. Run the same \
         command again within {} minutes: it is safe.",
        REMEMBERED.as_secs() / 60
    )]
    AnswerLost {
        /// What happened.
        why: String,
    },
    /// The answer makes no sense.
    #[error(
        "the member {member} answered with something else than a membership: {why}. Compare the \
         versions, and see that member's log."
    )]
    BadAnswer {
        /// Which member.
        member: SocketAddr,
        /// What is wrong.
        why: String,
    },
}

/// What this node joins with.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The permission.
    pub token: Token,
    /// Where the node keeps its state.
    pub state_dir: PathBuf,
    /// The node's name, as configured.
    pub node_name: String,
    /// The node's networks by name, as configured.
    pub networks: BTreeMap<String, OfferedNetwork>,
    /// Version of the product; [`VERSION`].
    pub version: String,
    /// Reads the wall clock.
    pub clock: fn() -> WallTime,
    /// Only check whether the node would be taken in; change nothing, here or there.
    pub dry_run: bool,
}

/// What a join came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// This node is a member now.
    Member(Identity),
    /// It would be taken in (dry run).
    WouldJoin,
}

/// The storage id of a join whose outcome is not known.
#[derive(Serialize, Deserialize)]
struct Attempt {
    token: Hash,
    storage: StorageId,
}

/// Makes this node a member of the token's cluster.
///
/// # Errors
/// Why it is none; see [`JoinError`]. The state directory then holds no membership.
pub async fn join(request: &JoinRequest) -> Result<Joined, JoinError> {
    let dir = StateDir::new(&request.state_dir);
    dir.check_unused()?;
    if request.token.name != request.node_name {
        return Err(JoinError::WrongNode {
            token: request.token.name.clone(),
            configured: request.node_name.clone(),
        });
    }
    if request.dry_run {
        let asking = Asking::new(request, StorageId(rand::random()))?;
        return asking.ask_members().await.and_then(|(member, answer)| match answer {
            JoinAnswer::WouldJoin => Ok(Joined::WouldJoin),
            JoinAnswer::Welcome(_) => Err(bad(member, "a membership, though none was asked for")),
        });
    }
    let _lock = dir.lock()?;
    dir.check_unused()?;
    let (storage, first_attempt) = attempt(&dir, request.token.hash())?;
    let asking = Asking::new(request, storage)?;
    let answered = asking.ask_members().await;
    if first_attempt
        && matches!(answered, Err(JoinError::Refused(_) | JoinError::Unreachable { .. }))
    {
        dir.remove_document(JOINING)?;
    }
    let (member, answer) = answered?;
    let JoinAnswer::Welcome(welcome) = answer else {
        return Err(bad(member, "the result of a dry run, though none was asked for"));
    };
    let membership = asking.accept(member, &welcome)?;
    dir.store_document(WELCOME, &welcome.peer_set)?;
    dir.store(&membership)?;
    dir.remove_document(JOINING)?;
    Ok(Joined::Member(membership.identity))
}

/// The storage id to join with, and whether it is a new one: an earlier attempt with the same token
/// whose outcome is not known may have made a node with its storage, so it is kept then.
fn attempt(dir: &StateDir, token: Hash) -> Result<(StorageId, bool), StateDirError> {
    match dir.document::<Attempt>(JOINING)? {
        Some(earlier) if earlier.token == token => Ok((earlier.storage, false)),
        _ => {
            let attempt = Attempt { token, storage: StorageId(rand::random()) };
            dir.store_document(JOINING, &attempt)?;
            Ok((attempt.storage, true))
        }
    }
}

fn bad(member: SocketAddr, why: impl Into<String>) -> JoinError {
    JoinError::BadAnswer { member, why: why.into() }
}

/// A node that asks members to be taken in.
struct Asking<'a> {
    request: &'a JoinRequest,
    storage: StorageId,
    key: String,
    csr: String,
}

impl<'a> Asking<'a> {
    fn new(request: &'a JoinRequest, storage: StorageId) -> Result<Self, PkiError> {
        let key = pki::generate_key()?;
        let csr = pki::request(&key)?;
        Ok(Self { request, storage, key, csr })
    }

    /// Asks one member after the other, until one answers or refuses.
    async fn ask_members(&self) -> Result<(SocketAddr, JoinAnswer), JoinError> {
        let mut tried = Vec::new();
        for member in &self.request.token.members {
            match self.open(*member).await {
                Ok(connection) => return self.ask(*member, connection).await,
                Err(DialError::Refused(refusal, _)) => return Err(JoinError::Refused(refusal)),
                Err(DialError::Failed(why)) => tried.push(format!("{member}: {why}")),
            }
        }
        if tried.is_empty() {
            tried.push("the token names none".into());
        }
        Err(JoinError::Unreachable { tried })
    }

    async fn open(&self, member: SocketAddr) -> Result<Connecting, DialError> {
        let failed = |why: PkiError| DialError::Failed(why.to_string());
        let Token { cluster, fingerprint, number, .. } = self.request.token;
        let dial = Dial {
            // The routing table decides: which network that is, is not known before the join.
            from: None,
            to: member,
            tls: Arc::new(pki::joining_client(fingerprint).map_err(failed)?),
            name: pki::server_name(cluster, number).map_err(failed)?,
            hello: Hello { version: self.request.version.clone(), ..Hello::ours(cluster) },
        };
        let opened = timeout(CONNECT_WITHIN, dial.open()).await.map_err(|_| {
            DialError::Failed(format!("no connection within {} s", CONNECT_WITHIN.as_secs()))
        })?;
        let (stream, certified) = opened?;
        if certified.cluster != cluster {
            return Err(DialError::Failed("it is a member of another cluster".into()));
        }
        Ok(Box::new(stream))
    }

    async fn ask(
        &self,
        member: SocketAddr,
        stream: Connecting,
    ) -> Result<(SocketAddr, JoinAnswer), JoinError> {
        let (connection, driver) = Connection::new(stream);
        let body = serde_json::to_vec(&self.hello()).map_err(|why| bad(member, why.to_string()))?;
        let answer = tokio::select! {
            answer = timeout(ANSWER_WITHIN, connection.request(kinds::JOIN, Arc::new(body))) => answer,
            why = driver.run() => return Err(JoinError::AnswerLost { why }),
        };
        let lost = |why: String| Err(JoinError::AnswerLost { why });
        match answer {
            Ok(Ok(body)) => serde_json::from_slice(&body)
                .map(|answer| (member, answer))
                .map_err(|why| bad(member, why.to_string())),
            Ok(Err(Ended::Refused(refusal))) => Err(JoinError::Refused(refusal)),
            Ok(Err(Ended::Lost(why))) => lost(why),
            Err(_) => lost(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        }
    }

    fn hello(&self) -> JoinHello {
        let JoinRequest { token, node_name, networks, version, clock, dry_run, .. } = self.request;
        JoinHello {
            protocol: PROTOCOL,
            version: version.clone(),
            cluster: token.cluster,
            name: node_name.clone(),
            number: token.number,
            storage: self.storage,
            networks: networks.clone(),
            wall_clock: clock(),
            csr: self.csr.clone(),
            secret: hex::encode(token.secret),
            dry_run: *dry_run,
        }
    }

    /// Looks at a welcome as sceptically as the member looked at the hello.
    fn accept(&self, member: SocketAddr, welcome: &JoinWelcome) -> Result<Membership, JoinError> {
        let token = &self.request.token;
        let authority = Authority::from_pem(&welcome.ca_cert, &welcome.ca_key)?;
        if authority.fingerprint() != token.fingerprint || welcome.cluster != token.cluster {
            return Err(bad(member, "it is of another cluster than the token"));
        }
        let identity = Identity {
            cluster: welcome.cluster,
            cluster_name: welcome.cluster_name.clone(),
            number: token.number,
            name: token.name.clone(),
            raft_id: welcome.raft_id,
            storage: self.storage,
            version: VERSION.into(),
        };
        let cluster_key = ClusterKey::from_hex(&welcome.cluster_key)
            .ok_or_else(|| bad(member, "its heartbeat key is no key"))?;
        let membership = Membership {
            identity,
            cluster_key,
            ca_cert: welcome.ca_cert.clone(),
            ca_key: welcome.ca_key.clone(),
            node_cert: welcome.node_cert.clone(),
            node_key: self.key.clone(),
        };
        // Certificate, key and identity must belong together, or the node could never speak.
        Tls::new(&membership)?;
        Ok(membership)
    }
}

type Connecting = Box<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;
