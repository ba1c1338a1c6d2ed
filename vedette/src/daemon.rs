//! The daemon: puts the parts together.
//!
//! `vedette daemon` is the guard (`guard_main`); it starts `vedette agent` (`agent_main`), which is everything
//! else. A part that cannot start ends the agent with a sentence that says which and why.

mod admit;
mod agent_main;
mod alerts;
mod backfill;
pub(crate) mod control;
mod director_task;
pub(crate) mod executor;
mod guard_bridge;
mod guard_main;
mod leave;
mod local_log;
mod log_watch;
mod monitors;
mod peer_set;
mod program;
mod proposer;
mod publisher;
mod renew;
mod runner;
mod service;
mod step_down;
mod surfaces;
mod transport;
mod verify;
mod wiring;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use vedette_core::config::Config;
use vedette_core::id::{NetworkNumber, Session};
use vedette_node::identity::{Membership, StateDir};
use vedette_node::join::PeerSet;
use vedette_node::process::require_own_proc;
use vedette_node::transcript::Transcripts;

pub(crate) use agent_main::agent_main;
pub(crate) use guard_main::{guard_main, guard_runs};

/// Exit status of a daemon whose configuration or state must be corrected first; its guard does
/// not start it again.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Something that an operator has to put right before this node can start; trying again does not
/// help.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct NeedsOperator(anyhow::Error);

/// Marks a failure as one for the operator.
fn for_operator<T, E: Into<anyhow::Error>>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| NeedsOperator(error.into()).into())
}

/// What is on this node's disk and in its configuration.
struct NodeContext {
    config: Config,
    dir: StateDir,
    member: Membership,
    peer_set: PeerSet,
    session: Session,
    transcripts: Transcripts,
}

impl NodeContext {
    fn read(config: Config) -> Result<Self> {
        require_own_proc().map_err(anyhow::Error::msg)?;
        let dir = StateDir::new(&config.state_dir);
        let member = dir.load()?;
        member.identity.check(dir.path(), &config.name, None)?;
        let own = member.identity.number;
        if let Some(asked) = config.number.filter(|asked| *asked != own) {
            bail!(
                "{} belongs to node {own}, but the configuration says that this is number {asked}. \
                 Correct the number, or name the state directory of that node: --state-dir.",
                dir.path().display()
            );
        }
        let Some(mut peer_set) = peer_set::last_known(&dir)? else {
            bail!(
                "the state directory {} does not say who the other members are. Delete this node \
                 on a member and join again: vedette node delete NODE, vedette join TOKEN.",
                dir.path().display()
            );
        };
        for sentence in peer_set::corrected(&mut peer_set, own, &config) {
            tracing::warn!("{sentence}");
        }
        let transcripts = Transcripts::new(dir.path(), &member.identity.name);
        let session = Session(new_session());
        Ok(Self { config, dir, member, peer_set, session, transcripts })
    }

    /// This node's own address on each network.
    fn addresses(&self) -> BTreeMap<NetworkNumber, IpAddr> {
        let own = self.peer_set.members.get(&self.member.identity.number);
        let own = own.map(|peer| peer.addresses.clone()).unwrap_or_default();
        own.into_iter().map(|(network, address)| (network, address.ip())).collect()
    }

    fn peer_addresses(&self) -> Vec<SocketAddr> {
        peer_set::listens_at(&self.peer_set, self.member.identity.number)
    }
}

/// A number for this run that no other run has.
fn new_session() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
