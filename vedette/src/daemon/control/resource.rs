//! `POST /control/v1/resource`: what an event script asks of the executor.
//!
//! The answer is a stream of lines: what is being done, as it is done, and last how it ended, as JSON
//! (`{"exit": 0, "message": "web is online"}`). Whoever hangs up gives up waiting for the cluster's
//! leave; what was begun goes on to its end.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use vedette_collector::clinfo::problem::Kind;
use vedette_core::work;
use vedette_exporter::{Problem, Sent};

use super::Control;
use crate::daemon::executor::{Stop, Verb};

/// Lines that wait for a reader; more are left out here and are in the log.
const LINES: usize = 256;

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ResourceRequest {
    pub(crate) verb: Verb,
    pub(crate) group: String,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ResourceLine {
    /// How it ended.
    End {
        /// The exit status for a script.
        exit: u8,
        /// One sentence.
        message: String,
    },
    /// What is being done.
    Line {
        /// In words.
        line: String,
    },
}

/// Does it, and tells about it.
pub(super) async fn resource(
    State(control): State<Control>,
    Sent(request): Sent<ResourceRequest>,
) -> Result<Response, Problem> {
    let state = control.publisher.state();
    let ResourceRequest { verb, group } = request;
    let network = verb == Verb::Swap && state.networks.values().any(|it| it.name == group);
    // One that the configuration lost while an event brings it here is for the executor to tell.
    let meant = state.groups.contains_key(&group)
        || state.definition.group(&group).is_some()
        || work::plans(&state, &group, control.me).is_some();
    if !network && !meant {
        let known: Vec<&str> = state.groups.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let what = format!("there is no group {group}.");
        return Err(Problem::new(Kind::UnknownGroup, what, format!("The groups are: {known}.")));
    }
    let (lines, told) = mpsc::channel(LINES);
    let (body, chunks) = mpsc::channel::<Result<String, std::io::Error>>(LINES);
    let executor = control.executor.clone();
    tokio::spawn(forward(told, body.clone()));
    tokio::spawn(async move {
        let done = executor.perform(verb, &group, lines).await;
        let (exit, message) = match done {
            Ok(said) => (0, said),
            Err(Stop { what, exit }) => (exit, what),
        };
        let _ = body.send(Ok(written(&ResourceLine::End { exit, message }))).await;
    });
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (chunk, chunks))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// Passes lines on as long as somebody reads them.
async fn forward(
    mut told: mpsc::Receiver<String>,
    body: mpsc::Sender<Result<String, std::io::Error>>,
) {
    loop {
        let line = tokio::select! {
            line = told.recv() => line,
            () = body.closed() => None,
        };
        let Some(line) = line else { return };
        if body.send(Ok(written(&ResourceLine::Line { line }))).await.is_err() {
            return;
        }
    }
}

fn written(line: &ResourceLine) -> String {
    format!("{}\n", serde_json::to_string(line).unwrap_or_default())
}
