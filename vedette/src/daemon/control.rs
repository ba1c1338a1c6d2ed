//! `/control/v1`: what only this machine's administrator may do, on the Unix socket alone.
//!
//! Whoever can open the socket (its mode lets the daemon's own user in, and root) may use it. Who
//! asked is recorded as the client says it, since whoever may use the socket may do everything.

mod resource;
mod transcripts;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{
    ComparedDoc, ComparedNodeDoc, EventDoc, HeadDoc, LocalDoc, Seen, TokenDoc, VerifiedDoc,
};
use vedette_collector::history::{Filter, Format, Page};
use vedette_core::command::{Command, ConfigCommand, GroupCommand, ManagerCommand};
use vedette_core::id::{CommandId, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::Code;
use vedette_core::refusal::Refusal;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_core::view::Source;
use vedette_exporter::query::{Asked, Value, unknown_name};
use vedette_exporter::{Problem, Sent};
use vedette_node::peers::{Peers, kinds};
use vedette_node::transcript::Transcripts;

use super::admit::Admission;
use super::director_task::fresh_id;
use super::executor::Executor;
use super::proposer::{Proposer, wall_time};
use super::publisher::Publisher;
use super::service::HeadMessage;

/// Most rows of one answer.
const MOST_ROWS: usize = 10_000;

/// How long another node may take to answer for its history.
const PEER_PATIENCE: Duration = Duration::from_secs(3);

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) me: NodeNumber,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) proposer: Proposer,
    pub(crate) peers: Peers,
    pub(crate) admission: Admission,
    pub(crate) executor: Executor,
    pub(crate) transcripts: Transcripts,
    /// Asks the daemon to leave the cluster in good order and end.
    pub(crate) leave: mpsc::Sender<Leave>,
}

/// How a daemon leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leave {
    /// At once: what runs here is not handed over first.
    #[serde(default)]
    pub(crate) now: bool,
}

pub(crate) use resource::{ResourceLine, ResourceRequest};

/// The routes.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/control/v1/propose", post(propose))
        .route("/control/v1/state", get(state))
        .route("/control/v1/local", get(local))
        .route("/control/v1/token", post(token))
        .route("/control/v1/history", get(history))
        .route("/control/v1/history/head", get(head))
        .route("/control/v1/history/verify", get(verify))
        .route("/control/v1/history/compare", get(compare))
        .route("/control/v1/history/export", get(export))
        .route("/control/v1/resource", post(resource::resource))
        .route("/control/v1/transcripts", get(transcripts::list))
        .route("/control/v1/transcripts/{number}", get(transcripts::show))
        .route("/control/v1/leave", post(leave))
        .method_not_allowed_fallback(vedette_exporter::wrong_method)
        .with_state(control)
}

type Answer<T> = Result<axum::Json<T>, Problem>;

#[derive(Deserialize)]
struct ProposeRequest {
    id: CommandId,
    command: Command,
    actor: String,
}

/// The answer to a proposal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proposed {
    pub(crate) outcome: Carried,
}

/// Outcome of a proposal that was not refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Carried {
    /// Applied at this index.
    Applied { index: u64 },
    /// Applied before, at this index.
    Repeated { index: u64 },
    /// Nothing was changed: everything is as it was wanted.
    Met { code: String, what: String, advice: String },
}

/// The answer to whoever proposed: a refusal is a problem, unless nothing had to be done.
fn carried(outcome: Outcome) -> Result<Carried, Problem> {
    match outcome {
        Outcome::Applied { index } => Ok(Carried::Applied { index }),
        Outcome::Repeated { index } => Ok(Carried::Repeated { index }),
        Outcome::Refused(Refusal { code, what, advice, met: true }) => {
            Ok(Carried::Met { code, what, advice })
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

async fn propose(
    State(control): State<Control>,
    Sent(request): Sent<ProposeRequest>,
) -> Answer<Proposed> {
    if !is_for_operators(&request.command) {
        return Err(Problem::new(
            Kind::NotForOperators,
            "this command is the daemon's own and cannot be given by an operator.",
            "See vedette --help for what can be done.",
        ));
    }
    let actor = actor(&request.actor);
    let proposal = control.proposer.proposal(request.id, &actor, request.command);
    let outcome = carried(control.proposer.propose(proposal).await?)?;
    Ok(axum::Json(Proposed { outcome }))
}

/// Commands of an operator; the others are made by directors, agents and joining nodes.
fn is_for_operators(command: &Command) -> bool {
    matches!(
        command,
        Command::RemoveNode { .. }
            | Command::SetTiming(_)
            | Command::SetLoggingLevel(_)
            | Command::SetSeedCount(_)
            | Command::Seed
            | Command::SaveAlertScript { .. }
            | Command::RollBackAlertScript { .. }
            | Command::TestAlert { .. }
            | Command::Manager(
                ManagerCommand::Recover { .. }
                    | ManagerCommand::Stop { .. }
                    | ManagerCommand::Start { .. }
                    | ManagerCommand::Maintenance { .. }
            )
            | Command::Group(
                GroupCommand::Move { .. }
                    | GroupCommand::Online { .. }
                    | GroupCommand::Offline { .. }
                    | GroupCommand::Clear { .. }
                    | GroupCommand::ConfirmOff { .. }
            )
            | Command::Config(
                ConfigCommand::Propose { .. }
                    | ConfigCommand::Restore { .. }
                    | ConfigCommand::Examine { .. }
                    | ConfigCommand::Withdraw { .. }
                    | ConfigCommand::RollBack { .. }
            )
            | Command::SaveRules { .. }
            | Command::RollBackRules { .. }
    )
}

/// The name under which an operator's command is recorded, in a bounded length and on one line.
fn actor(given: &str) -> String {
    let clean: String = given.chars().filter(|c| !c.is_control()).take(64).collect();
    if clean.is_empty() { "operator".into() } else { clean }
}

async fn state(State(control): State<Control>) -> axum::Json<ClusterState> {
    axum::Json((*control.publisher.state()).clone())
}

async fn local(State(control): State<Control>) -> axum::Json<LocalDoc> {
    let view = control.publisher.view();
    let seen = Seen { view: &view, now: wall_time(), stale: control.publisher.stale() };
    axum::Json(LocalDoc::new(seen))
}

#[derive(Deserialize)]
struct TokenRequest {
    name: String,
    number: Option<NodeNumber>,
    valid_s: u64,
    #[serde(default)]
    actor: String,
}

async fn token(
    State(control): State<Control>,
    Sent(request): Sent<TokenRequest>,
) -> Answer<TokenDoc> {
    let TokenRequest { name, number, valid_s, actor: given } = request;
    let state = control.publisher.state();
    // A second token for a node replaces its first, which may have been lost.
    let promised = || state.tokens.iter().find(|token| token.name == name);
    let number = number
        .or_else(|| promised().map(|token| token.number))
        .unwrap_or_else(|| state.free_number());
    let valid = Duration::from_secs(valid_s.clamp(30, 7 * 86_400));
    let expires_at = control.proposer.cluster_time().plus(valid);
    let (token, hash) = control.admission.make_token(&name, number, expires_at)?;
    let command = Command::IssueToken { hash, name: name.clone(), number, expires_at };
    let proposal = control.proposer.proposal(fresh_id(), &actor(&given), command);
    match control.proposer.propose(proposal).await? {
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Applied { .. } | Outcome::Repeated { .. } => {
            let expires_at = expires_at.to_string();
            Ok(axum::Json(TokenDoc { token, name, number: number.0, expires_at }))
        }
    }
}

vedette_exporter::query! {
    /// Selection from the history.
    struct HistoryQuery {
        /// Only those with a greater sequence number, oldest first
        after: u64,
        /// Only those with a smaller sequence number, latest first
        before: u64,
        /// At most so many
        limit: u64,
        /// Only those at least this bad
        severity: Severity,
        /// Only those of this kind
        code: Code,
        /// Only those about such a thing: node, network, group
        subject: String,
        /// Only those of this incident
        incident: u64,
        /// Not what was before
        since: WallTime,
        /// Not what was after
        until: WallTime,
    }
}

async fn history(
    State(control): State<Control>,
    Asked(query): Asked<HistoryQuery>,
) -> Answer<Vec<EventDoc>> {
    let HistoryQuery { after, before, limit, severity, code, subject, incident, since, until } =
        query;
    let filter = Filter { severity, code, kind: subject, since, until, incident };
    let page = match (after, before) {
        (Some(after), _) => Page::After(after),
        (None, before) => Page::Before(before.unwrap_or(u64::MAX)),
    };
    let most = at_most(limit, 100, MOST_ROWS);
    let history = control.publisher.history().clone();
    let rows = blocking(move || history.query(page, most, &filter)).await?;
    Ok(axum::Json(rows.iter().map(EventDoc::new).collect()))
}

async fn head(State(control): State<Control>) -> axum::Json<HeadDoc> {
    axum::Json(control.publisher.history().head().into())
}

async fn verify(State(control): State<Control>) -> Answer<VerifiedDoc> {
    let history = control.publisher.history().clone();
    let verdict = blocking(move || history.verify()).await?;
    Ok(axum::Json(VerifiedDoc::new(&verdict)))
}

/// Number of entries that are wanted, of which there may be `most`.
fn at_most(limit: Option<u64>, usual: usize, most: usize) -> usize {
    limit.map_or(usual, |limit| usize::try_from(limit).unwrap_or(most)).min(most)
}

/// Runs what reads the disk on a thread for it.
async fn blocking<T: Send + 'static, E: ToString + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem> {
    let result = tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?;
    result.map_err(Problem::internal)
}

/// Compares with every other node at the last record that this node has, or the last one of the
/// other where that has less.
async fn compare(State(control): State<Control>) -> axum::Json<ComparedDoc> {
    let head = control.publisher.history().head();
    let state = control.publisher.state();
    let mut nodes = Vec::new();
    for node in state.nodes.values() {
        let compared = if node.number == control.me {
            ComparedNodeDoc {
                equal: true,
                error: None,
                hash_at_common: Some(head.hash.to_string()),
                node: node.name.clone(),
                seq: Some(head.seq),
            }
        } else {
            compare_with(&control, node.number, &node.name, head.seq).await
        };
        nodes.push(compared);
    }
    axum::Json(ComparedDoc { hash: head.hash.to_string(), nodes, seq: head.seq })
}

async fn compare_with(
    control: &Control,
    number: NodeNumber,
    name: &str,
    seq: u64,
) -> ComparedNodeDoc {
    let failed = |error: String| ComparedNodeDoc {
        equal: false,
        error: Some(error),
        hash_at_common: None,
        node: name.into(),
        seq: None,
    };
    let theirs = match ask_head(control, number, seq).await {
        Ok(head) => head,
        Err(error) => return failed(error),
    };
    // At the last record that both have.
    let common = seq.min(theirs.seq);
    let their_hash = if theirs.seq <= seq { Some(theirs.hash) } else { theirs.hash_at };
    match control.publisher.history().hash_at(common) {
        Ok(ours) => ComparedNodeDoc {
            equal: common == 0 || (ours.is_some() && ours == their_hash),
            error: None,
            hash_at_common: their_hash.map(|hash| hash.to_string()),
            node: name.into(),
            seq: Some(theirs.seq),
        },
        Err(error) => failed(error.to_string()),
    }
}

async fn ask_head(control: &Control, node: NodeNumber, seq: u64) -> Result<HeadMessage, String> {
    let body = serde_json::to_vec(&Some(seq)).map_err(|error| error.to_string())?;
    let call = control.peers.call(node, kinds::HISTORY_HEAD, body, PEER_PATIENCE);
    let answer = call.await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

vedette_exporter::query! {
    /// Form of an export.
    struct ExportQuery {
        /// In which format: jsonl or csv
        format: ExportFormat,
    }
}

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExportFormat(Format);

impl Value for ExportFormat {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        match text {
            "" | "jsonl" => Ok(Self(Format::Jsonl)),
            "csv" => Ok(Self(Format::Csv)),
            _ => Err(unknown_name(name, text, ["jsonl", "csv"].into_iter())),
        }
    }
}

/// Streams the whole history; memory stays bounded however long it is.
async fn export(
    State(control): State<Control>,
    Asked(query): Asked<ExportQuery>,
) -> Result<Response, Problem> {
    let format = query.format.map_or(Format::Jsonl, |format| format.0);
    let kind = match format {
        Format::Jsonl => "application/x-ndjson",
        Format::Csv => "text/csv",
    };
    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(16);
    let history = control.publisher.history().clone();
    tokio::task::spawn_blocking(move || {
        let mut writer = std::io::BufWriter::with_capacity(64 * 1_024, Chunks(sender.clone()));
        if let Err(error) = history.export(0, &mut writer, format) {
            let _ = sender.blocking_send(Err(std::io::Error::other(error.to_string())));
        }
    });
    let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(chunks)).into_response())
}

/// Writes into a channel; a reader that went away ends the writing.
struct Chunks(mpsc::Sender<Result<Vec<u8>, std::io::Error>>);

impl std::io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .blocking_send(Ok(bytes.to_vec()))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn leave(State(control): State<Control>, Sent(how): Sent<Leave>) -> StatusCode {
    let _ = control.leave.send(how).await;
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_is_a_problem() {
        let carried = |outcome| carried(outcome).map(|it| serde_json::to_value(it).expect("JSON"));
        let index = |name: &str| serde_json::json!({ name: { "index": 7 } });
        assert_eq!(carried(Outcome::Applied { index: 7 }), Ok(index("applied")));
        assert_eq!(carried(Outcome::Repeated { index: 7 }), Ok(index("repeated")));
        let met = carried(Outcome::Refused(Refusal::met("already_stopped", "n1 is stopped")));
        assert_eq!(met.expect("no problem")["met"]["what"], "n1 is stopped");
        let refusal = Refusal::new("node_is_up", "n1 is UP", "Stop it first.");
        let problem = carried(Outcome::Refused(refusal)).expect_err("a refusal");
        assert!(problem.document().is(Kind::Refused), "{problem:?}");
        assert_eq!((&*problem.document().code, problem.document().status), ("node_is_up", 409));
    }

    #[test]
    fn an_answer_has_at_most_so_many() {
        assert_eq!([at_most(None, 100, 1_000), at_most(Some(0), 100, 1_000)], [100, 0]);
        assert_eq!([at_most(Some(7), 100, 1_000), at_most(Some(u64::MAX), 100, 1_000)], [7, 1_000]);
    }
}
