//! `vedette init`: a cluster of one (spec A2).
//!
//! Draws everything that is drawn once in the life of a cluster (id, authority, heartbeat key) and
//! leaves the first command of the log in the state directory; the daemon forms the log with it at
//! its first start, and removes it then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use vedette_core::command::{Command, NewNetwork, NewNode, Proposal};
use vedette_core::id::{ClusterId, CommandId, NetworkNumber, NodeNumber, RaftId, StorageId};
use vedette_core::model::Settings;
use vedette_core::refusal::Refusal;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;

use super::JoinError;
use crate::identity::{ClusterKey, FORM, Identity, Membership, StateDir, VERSION};
use crate::pki::{self, Authority, CertifiedNode};

/// The log of a cluster's first member. Every other one is the index of a later log entry.
const FIRST_RAFT_ID: RaftId = RaftId(1);

/// What a cluster is formed of.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// Where its first member keeps its state.
    pub state_dir: PathBuf,
    /// The cluster's name.
    pub cluster_name: String,
    /// The first member's name.
    pub node_name: String,
    /// The first member's number.
    pub number: NodeNumber,
    /// The first member's addresses, one a network.
    pub addresses: BTreeMap<NetworkNumber, IpAddr>,
    /// The networks.
    pub networks: BTreeMap<NetworkNumber, NewNetwork>,
    /// The settings.
    pub settings: Settings,
    /// The wall clock.
    pub now: WallTime,
    /// Who asks, such as `root@n1`.
    pub actor: String,
}

/// Makes this node the first member of a new cluster.
///
/// # Errors
/// The directory belongs to a cluster already, the request makes no sense, or the system refused;
/// nothing has changed then.
pub fn init(request: &InitRequest) -> Result<Identity, JoinError> {
    let dir = StateDir::new(&request.state_dir);
    dir.check_unused()?;
    check(request)?;
    let _lock = dir.lock()?;
    dir.check_unused()?;
    let identity = Identity {
        cluster: ClusterId(rand::random()),
        cluster_name: request.cluster_name.clone(),
        number: request.number,
        name: request.node_name.clone(),
        raft_id: FIRST_RAFT_ID,
        storage: StorageId(rand::random()),
        version: VERSION.into(),
    };
    let membership = make_keys(&identity, request.now)?;
    dir.store_document(FORM, &form(request, &identity))?;
    dir.store(&membership)?;
    Ok(identity)
}

fn make_keys(identity: &Identity, now: WallTime) -> Result<Membership, JoinError> {
    let authority = Authority::generate(identity.cluster, &identity.cluster_name, now)?;
    let node_key = pki::generate_key()?;
    let node = CertifiedNode {
        cluster: identity.cluster,
        number: identity.number,
        storage: identity.storage,
    };
    let node_cert = authority.certify(node, &identity.name, &pki::request(&node_key)?, now)?;
    Ok(Membership {
        identity: identity.clone(),
        cluster_key: ClusterKey::generate(),
        ca_cert: authority.cert_pem().into(),
        ca_key: authority.key_pem(),
        node_cert,
        node_key,
    })
}

fn form(request: &InitRequest, identity: &Identity) -> Proposal {
    Proposal {
        id: CommandId(rand::random()),
        at: request.now,
        origin: identity.number,
        actor: request.actor.clone(),
        tick: None,
        command: Command::Form {
            cluster: identity.cluster,
            name: identity.cluster_name.clone(),
            settings: request.settings.clone(),
            networks: request.networks.clone(),
            first: NewNode {
                number: identity.number,
                name: identity.name.clone(),
                storage: identity.storage,
                version: identity.version.clone(),
                addresses: request.addresses.clone(),
            },
            raft_id: identity.raft_id,
        },
    }
}

/// Refuses what the log would refuse at the first start, when it is too late.
fn check(request: &InitRequest) -> Result<(), Refusal> {
    check_name("cluster", &request.cluster_name)?;
    check_name("node", &request.node_name)?;
    if NodeNumber::new(request.number.0).is_none() {
        return Err(Refusal::new(
            "node_number",
            format!("{} is not a node number", request.number),
            format!("Give a number from 1 to {}.", NodeNumber::MAX),
        ));
    }
    check_networks(request)?;
    let trial = Identity {
        cluster: ClusterId([0; 16]),
        cluster_name: request.cluster_name.clone(),
        number: request.number,
        name: request.node_name.clone(),
        raft_id: FIRST_RAFT_ID,
        storage: StorageId([0; 16]),
        version: VERSION.into(),
    };
    match ClusterState::default().apply(1, &form(request, &trial)).outcome {
        Outcome::Refused(refusal) => Err(refusal),
        Outcome::Applied { .. } | Outcome::Repeated { .. } => Ok(()),
    }
}

fn check_networks(request: &InitRequest) -> Result<(), Refusal> {
    let count = request.networks.len();
    if count == 0 || count > usize::from(NetworkNumber::MAX) {
        return Err(Refusal::new(
            "networks",
            format!("a cluster with {count} networks cannot be formed"),
            format!(
                "Define 1 to {} networks in vedette.toml; 2 or more to survive a cut.",
                NetworkNumber::MAX
            ),
        ));
    }
    if request.addresses.keys().ne(request.networks.keys()) {
        let names: Vec<&str> = request.networks.values().map(|n| n.name.as_str()).collect();
        return Err(Refusal::new(
            "addresses",
            format!("{} needs one address on each of {}", request.node_name, names.join(", ")),
            "Correct the interfaces in its vedette.toml.",
        ));
    }
    Ok(())
}

/// Names stand in host names, file names, labels of metrics and log lines.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=63).contains(&name.len())
        && name.chars().all(letters)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Refusal::new(
        "bad_name",
        format!("{name:?} cannot be the name of a {what}"),
        "Use 1 to 63 of the characters a-z, A-Z, 0-9, '-', '_', '.', a letter or digit first.",
    ))
}
