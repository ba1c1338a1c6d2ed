//! Admitting nodes: makes tokens, answers those who ask to join.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use vedette_core::command::{Command, NewNode};
use vedette_core::id::{Hash, NodeNumber, RaftId};
use vedette_core::refusal::Refusal;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_node::identity::Membership;
use vedette_node::join::{Admitter, JoinDesk, Token};
use vedette_node::pki::PkiError;

use super::director_task::fresh_id;
use super::proposer::Proposer;
use super::publisher::Publisher;

/// See the module.
#[derive(Clone)]
pub(crate) struct Admission {
    member: Arc<Membership>,
    desk: Arc<JoinDesk>,
    publisher: Arc<Publisher>,
}

impl Admission {
    /// For the member `member`.
    ///
    /// # Errors
    /// Its keys cannot be used.
    pub(crate) fn new(
        member: Membership,
        publisher: Arc<Publisher>,
        proposer: Proposer,
    ) -> Result<Self, PkiError> {
        let admitter = Proposing { publisher: publisher.clone(), proposer };
        let desk = Arc::new(JoinDesk::new(member.clone(), Arc::new(admitter))?);
        Ok(Self { member: Arc::new(member), desk, publisher })
    }

    /// A token for a node, and the hash of its secret, which is all that the cluster keeps.
    pub(crate) fn make_token(
        &self,
        name: &str,
        number: NodeNumber,
        expires_at: WallTime,
    ) -> Result<(String, Hash), Refusal> {
        let token = Token::issue(
            &self.publisher.state(),
            self.member.identity.cluster,
            self.desk.fingerprint(),
            (name, number),
            expires_at,
        );
        let hash = token.hash();
        Ok((token.to_string(), hash))
    }

    /// Answers a node that asks to join.
    pub(crate) async fn answer(&self, body: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        self.desk.answer(&body).await
    }
}

/// Admits by proposing.
struct Proposing {
    publisher: Arc<Publisher>,
    proposer: Proposer,
}

impl Admitter for Proposing {
    fn state(&self) -> Arc<ClusterState> {
        self.publisher.state()
    }

    fn now(&self) -> WallTime {
        self.proposer.cluster_time()
    }

    fn admit_node(&self, node: NewNode, token: Hash) -> BoxFuture<'_, Result<RaftId, Refusal>> {
        Box::pin(async move {
            let actor = format!("{} with a token", node.name);
            let command = Command::AddNode { node, token };
            let proposal = self.proposer.proposal(fresh_id(), &actor, command);
            match self.proposer.propose(proposal).await? {
                // The log of the new node is named after the entry that admits it.
                Outcome::Applied { index } | Outcome::Repeated { index } => Ok(RaftId(index)),
                Outcome::Refused(refusal) => Err(refusal),
            }
        })
    }
}
