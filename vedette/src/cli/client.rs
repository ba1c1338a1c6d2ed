//! HTTP over the control socket: how the command line talks to the daemon of this node.
//!
//! One connection a request; the socket is on this host, and a command makes only a few. Answers
//! that are no success carry a problem document (RFC 9457), the same one from the API and from the control
//! routes; its `detail` and `advice` become the two sentences of a [`Failure`].

use std::future::Future;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::Kind;

use super::aside;
use super::fail::{FAILED, Failure, REFUSED, Result, UNKNOWN};
use super::text::length;

/// How long an answer may take. A proposal may have to wait for an election, twice.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an agent is waited for that its guard starts anew.
pub(crate) const BEGINS_ANEW: Duration = Duration::from_secs(5);

/// The largest answer that is read as a whole.
const LARGEST: usize = 64 << 20;

/// A client of one control socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    noted: Arc<Noted>,
    /// The state directory, if it is known: its guard says whether an agent comes back by itself.
    state_dir: Option<PathBuf>,
}

/// What answers say beside their documents.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// Set when an answer comes from a node that does not know the present state.
    pub(crate) unknown: AtomicBool,
    time: Mutex<Option<String>>,
}

impl Noted {
    /// The time when the daemon answered last, by the clock that dates what it said.
    pub(crate) fn time(&self) -> Option<String> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, path: &str, response: &Response<Incoming>) {
        let time = response.headers().get("x-vedette-time").and_then(|it| it.to_str().ok());
        if let Some(time) = time {
            *self.time.lock().unwrap_or_else(PoisonError::into_inner) = Some(time.to_owned());
        }
        if tells_less(path, response) {
            self.unknown.store(true, Ordering::Relaxed);
        }
    }
}

impl Client {
    /// A client of the daemon that listens on `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, noted: Arc::default(), state_dir: None }
    }

    /// The same, which waits a moment for an agent that the guard of that state directory starts anew.
    pub(crate) fn guarded_in(self, state_dir: Option<PathBuf>) -> Self {
        Self { state_dir, ..self }
    }

    /// The same, which waits for nobody.
    pub(crate) fn at_once(self) -> Self {
        self.guarded_in(None)
    }

    /// The same, which takes down what answers say beside their documents.
    pub(crate) fn noting(self, noted: Arc<Noted>) -> Self {
        Self { noted, ..self }
    }

    /// The document at `path`, as it came.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.whole(Method::GET, path, Bytes::new())
    }

    /// The document at `path`.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        parse(path, &self.get(path)?)
    }

    /// Posts `body` to `path`; the answer as it came.
    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>> {
        self.whole(Method::POST, path, written(body)?.into())
    }

    /// Gives every piece of the answer at `path` to `each`, until it breaks or the answer ends.
    pub(crate) fn stream(
        &self,
        path: &str,
        each: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.pieces(Method::GET, path, Bytes::new(), each)
    }

    /// Posts `body` to `path` and gives every piece of the answer to `each`.
    pub(crate) fn stream_post(
        &self,
        path: &str,
        body: &impl Serialize,
        each: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.pieces(Method::POST, path, written(body)?.into(), each)
    }

    fn pieces(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        run(async {
            let mut body = within(self.send(method, path, body)).await?.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.lost(&error))?;
                if let Some(data) = frame.data_ref()
                    && each(data)?.is_break()
                {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Whether a daemon listens.
    pub(crate) fn is_listened_to(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_ok()
    }

    fn whole(&self, method: Method, path: &str, body: Bytes) -> Result<Vec<u8>> {
        run(within(async {
            let response = self.send(method, path, body).await?;
            self.noted.take(path, &response);
            self.collect(response.into_body()).await
        }))
    }

    /// Connects. An agent begins anew when timers change, and after a crash; its guard starts it again.
    async fn connect(&self) -> Result<UnixStream> {
        let deadline = Instant::now() + BEGINS_ANEW;
        let mut told = false;
        loop {
            let error = match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let nobody = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
            if !nobody || !self.is_guarded() {
                return Err(self.refused(&error));
            }
            if Instant::now() >= deadline {
                return Err(self.keeps_away());
            }
            if !std::mem::replace(&mut told, true) {
                aside::note("The daemon of this node begins anew; waiting for it.");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether a guard runs that starts the agent again.
    fn is_guarded(&self) -> bool {
        self.state_dir.as_ref().is_some_and(|dir| crate::daemon::guard_runs(dir))
    }

    fn keeps_away(&self) -> Failure {
        Failure::unknown(
            format!(
                "the daemon of this node begins anew: its guard runs, but for {} nobody listened on {}",
                length(BEGINS_ANEW),
                self.socket.display()
            ),
            "Ask again in a moment; its log says why if that goes on.",
        )
    }

    /// Sends a request; only a success comes back as a response.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.lost(&error))?;
        // The connection ends with the request; why it ended is told by the request itself.
        tokio::spawn(async move { connection.await.ok() });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| {
                Failure::failed(format!("{path} cannot be asked for: {error}"), "Report this.")
            })?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(problem(path, status, &body))
    }

    async fn collect(&self, body: Incoming) -> Result<Vec<u8>> {
        let limited = http_body_util::Limited::new(body, LARGEST);
        let collected = limited.collect().await.map_err(|error| {
            Failure::failed(
                format!("the answer of the daemon broke off: {error}"),
                "Ask again; the daemon's log says why if it ended.",
            )
        })?;
        Ok(collected.to_bytes().to_vec())
    }

    /// Why there is no connection.
    fn refused(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::failed(
                format!("the daemon of this node does not run: nobody listens on {socket}"),
                "Start it: systemctl start vedette, or vedette daemon.",
            ),
            ErrorKind::PermissionDenied => Failure::failed(
                format!("the control socket {socket} may not be used by this user"),
                "Run the command as root: sudo vedette …",
            ),
            _ => Failure::failed(
                format!("the control socket {socket} cannot be used: {error}"),
                "Name another one with --control, or start the daemon: vedette daemon.",
            ),
        }
    }

    fn lost(&self, error: &hyper::Error) -> Failure {
        Failure::failed(
            format!("the daemon behind {} broke off: {error}", self.socket.display()),
            "Ask again; the daemon's log says why if it ended.",
        )
    }
}

/// Whether a document shows UNKNOWN of what its node would know with a quorum. What happened, and what
/// the node says of itself, is as true without one.
fn tells_less(path: &str, response: &Response<Incoming>) -> bool {
    let quorate = response.headers().get("x-vedette-quorate").map(|value| value.as_bytes());
    let stays_true = ["/api/v1/events", "/api/v1/local"];
    quorate == Some(b"false")
        && path.starts_with("/api/v1/")
        && !stays_true.iter().any(|it| path.starts_with(it))
}

fn written(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| {
        Failure::failed(format!("the request cannot be written: {error}"), "Report this.")
    })
}

/// Reads a document of an expected form.
pub(crate) fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::failed(
            format!("the daemon's answer to {path} is not understood: {error}"),
            "Use the program and the daemon of one version: vedette --version.",
        )
    })
}

/// What an answer means that is no success.
fn problem(path: &str, status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => UNKNOWN,
        status if status.is_client_error() => REFUSED,
        _ => FAILED,
    };
    let Some(problem) = ProblemDoc::read(status.as_u16(), body) else {
        return Failure::failed(
            format!("the daemon answered {path} with {status}, and did not say why"),
            "Use the program and the daemon of one version: vedette --version.",
        )
        .exiting(exit);
    };
    // The advice of the API is for who asks the API.
    let failure = match in_commands(&problem).filter(|_| path.starts_with("/api/v1/")) {
        Some(advice) => Failure::failed(in_lower_case(problem.what()), advice),
        None => Failure::failed(problem.what(), &*problem.advice),
    };
    failure.exiting(exit)
}

/// The advice of a problem of the API, for the command line.
fn in_commands(problem: &ProblemDoc) -> Option<&'static str> {
    let lists = [
        (Kind::UnknownNode, "List the nodes: vedette node list."),
        (Kind::UnknownNetwork, "List the networks: vedette network list."),
        (Kind::UnknownGroup, "List the groups: vedette group list."),
        (Kind::UnknownIncident, "List the incidents: vedette incident list."),
    ];
    lists.into_iter().find(|(kind, _)| problem.is(*kind)).map(|(_, advice)| advice)
}

/// `sentence` as it goes on after a colon.
fn in_lower_case(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Runs one request to its end.
fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::failed(format!("no request can be made: {error}"), "Free some resources.")
        })?
        .block_on(work)
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        Err(Failure::unknown(
            format!("the daemon did not answer within {}", length(PATIENCE)),
            "Its log says what it does; vedette status shows whether it has a quorum.",
        ))
    })
}

#[cfg(test)]
mod tests {
    use vedette_core::refusal::Refusal;

    use super::*;

    /// The words and the exit status that a problem at `path` becomes.
    fn said(path: &str, problem: &ProblemDoc) -> (String, u8) {
        let status = StatusCode::from_u16(problem.status).expect("a status");
        let body = serde_json::to_vec(problem).expect("JSON");
        let failure = super::problem(path, status, &body);
        (failure.to_string(), failure.exit)
    }

    #[test]
    fn a_problem_becomes_two_sentences() {
        let problem = ProblemDoc::new(Kind::NoTranscript, "n1 has no transcript 9.", "List them.");
        let told = "vedette: n1 has no transcript 9.\nList them.".to_owned();
        assert_eq!(said("/control/v1/transcripts/9", &problem), (told, REFUSED));
        let refusal = Refusal::new("no_quorum", "nobody answers", "Wait for them.");
        let told = "vedette: nobody answers.\nWait for them.".to_owned();
        assert_eq!(said("/control/v1/propose", &refusal.into()), (told, UNKNOWN));
    }

    /// Refusals of the cluster are told as if no HTTP had been between.
    #[test]
    fn a_refusal_comes_through_as_it_is() {
        let refusals = [
            Refusal::new("node_is_up", "n1 is UP", "Stop it first."),
            Refusal::new("bad_document", "there is 1 error:\n    line 3: no.", "Correct it."),
            Refusal::new("unknown_group", "there is no group web", "The groups are: db."),
        ];
        for refusal in refusals {
            let direct = Failure::from(refusal.clone());
            let told = said("/control/v1/propose", &refusal.into());
            assert_eq!(told, (direct.to_string(), direct.exit));
        }
    }

    /// Every kind of problem ends a command with a sentence and an advice, and none with success.
    #[test]
    fn every_kind_of_problem_is_understood() {
        for kind in Kind::ALL {
            let problem = ProblemDoc::new(*kind, "web is not there.", "Wait for it.");
            let exit = match kind.status() {
                503 => UNKNOWN,
                400..500 => REFUSED,
                _ => FAILED,
            };
            let told = "vedette: web is not there.\nWait for it.".to_owned();
            assert_eq!(said("/control/v1/x", &problem), (told, exit), "{kind:?}");
        }
    }

    /// Whoever asked with a command is told a command.
    #[test]
    fn advice_names_a_command() {
        let detail = "There is no resource group \"x\".";
        let advice = "GET /api/v1/groups lists the groups.";
        let problem = ProblemDoc::new(Kind::UnknownGroup, detail, advice);
        assert_eq!(
            said("/api/v1/groups/x", &problem).0,
            "vedette: there is no resource group \"x\".\nList the groups: vedette group list."
        );
    }

    /// Nothing is guessed: what is no whole problem document is told as such.
    #[test]
    fn an_answer_without_a_problem_is_explained_too() {
        let bodies: [&[u8]; 4] = [b"", b"<html>", b"{}", br#"{"title":"No","detail":"no."}"#];
        for body in bodies {
            let failure = problem("/x", StatusCode::SERVICE_UNAVAILABLE, body);
            assert_eq!(failure.exit, UNKNOWN);
            assert!(failure.what.contains("503"), "{failure}");
            assert_eq!(problem("/x", StatusCode::INTERNAL_SERVER_ERROR, body).exit, FAILED);
        }
    }
}
