//! What this node answers to the others.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vedette_core::director::Input;
use vedette_core::id::{Hash, Session};
use vedette_core::observation::Report;
use vedette_core::record::Record;
use vedette_core::refusal::Refusal;
use vedette_node::log::Log;
use vedette_node::peers::{PeerIdentity, Service, kinds};

use super::admit::Admission;
use super::director_task::DirectorHandle;
use super::proposer::Proposer;
use super::publisher::Publisher;

/// Most records in one answer; a request for more gets these and asks again.
pub(crate) const MOST_ROWS: usize = 2_000;

/// A report on its way to the director.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReportMessage {
    /// The run of the reporting node's agent.
    pub(crate) session: Session,
    /// What its guard sees.
    pub(crate) report: Report,
}

/// The end of a node's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadMessage {
    /// Sequence number of its last record.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: Hash,
    /// The hash of the record that was asked for, if it is there.
    pub(crate) hash_at: Option<Hash>,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct RowsRequest {
    /// Those after this sequence number.
    pub(crate) after: u64,
}

/// See the module.
pub(crate) struct Answers {
    pub(crate) log: Log,
    pub(crate) director: DirectorHandle,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) admission: Admission,
}

impl Answers {
    async fn answer(
        &self,
        from: PeerIdentity,
        kind: u16,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Refusal> {
        if kind == kinds::JOIN {
            return self.admission.answer(body).await;
        }
        let Some(node) = from.node else {
            return Err(Refusal::new(
                "not_a_member",
                "only members may ask this",
                "Join the cluster first: vedette join TOKEN.",
            ));
        };
        match kind {
            kinds::RAFT => {
                let reply = self.log.serve(read(&body)?).await;
                write(&reply.map_err(|error| Refusal::new("log", error.to_string(), RETRY))?)
            }
            kinds::REPORT => {
                let message: ReportMessage = read(&body)?;
                // Who reports is who the certificate says.
                if message.report.observer == node {
                    self.director.tell(Input::AgentSession { node, session: message.session });
                    self.director.tell(Input::Report(Arc::new(message.report)));
                }
                write(&self.log.leadership().borrow().me)
            }
            kinds::PROPOSE => write(&self.proposer.serve(read(&body)?).await),
            kinds::CLOCK => write(&self.proposer.clock()),
            kinds::HISTORY_HEAD => write(&self.head(read(&body)?)?),
            kinds::HISTORY_ROWS => write(&self.rows(read(&body)?)?),
            kinds::STATE => write(&*self.publisher.state()),
            other => Err(Refusal::new(
                "unknown_request",
                format!("this version does not know requests of kind {other}"),
                "Run the same version on every node.",
            )),
        }
    }

    fn head(&self, wanted: Option<u64>) -> Result<HeadMessage, Refusal> {
        let history = self.publisher.history();
        let head = history.head();
        let hash_at = match wanted {
            Some(seq) => history.hash_at(seq).map_err(unreadable)?,
            None => None,
        };
        Ok(HeadMessage { seq: head.seq, hash: head.hash, hash_at })
    }

    fn rows(&self, request: RowsRequest) -> Result<Vec<Record>, Refusal> {
        self.publisher.history().after(request.after, MOST_ROWS).map_err(unreadable)
    }
}

const RETRY: &str = "The asking node repeats it by itself.";

fn unreadable(error: impl ToString) -> Refusal {
    Refusal::new("history", error.to_string(), "See the log of that node.")
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            "malformed",
            format!("the request cannot be understood: {error}"),
            "Run the same version on every node.",
        )
    })
}

fn write<T: Serialize>(answer: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer)
        .map_err(|error| Refusal::new("malformed", error.to_string(), "See the log of that node."))
}

impl Service for Answers {
    fn call(
        &self,
        from: PeerIdentity,
        kind: u16,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, Refusal>> {
        Box::pin(self.answer(from, kind, body))
    }
}
