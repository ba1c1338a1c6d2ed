//! Problems: every answer that is no success, as RFC 9457 has it.
//!
//! The API and the control socket answer with this one document, and the command line reads it and nothing
//! else. Which kinds of problem there are is one table; `title` and HTTP status belong to the kind, `detail`
//! tells what happened this time, and `advice`, an extension of ours, what to do about it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::refusal::Refusal;

/// The beginning of every `type`; the name of the kind follows.
const NAMESPACE: &str = "urn:vedette:problem:";

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:literal $name:literal $title:literal,)+) => {
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[doc = $doc])+ $variant),+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// A stable name, such as `unknown_node`.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),+ } }

            /// A few words, the same for every problem of the kind.
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title),+ } }

            /// The HTTP status.
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status),+ } }
        }
    };
}

kinds! {
    /// A parameter of the query, a part of the path or a header has a value that is not accepted.
    BadParameter = 400 "bad_parameter" "A parameter is not accepted",
    /// The body is not JSON.
    MalformedBody = 400 "malformed_body" "The body is not JSON",
    /// A command that only the daemons give to each other.
    NotForOperators = 403 "not_for_operators" "No operator may give this command",
    /// Nothing is at that path.
    UnknownRoute = 404 "unknown_route" "Nothing is at this path",
    /// No node has that name, number or address.
    UnknownNode = 404 "unknown_node" "There is no such node",
    /// No network has that name or number.
    UnknownNetwork = 404 "unknown_network" "There is no such network",
    /// No group has that name or number.
    UnknownGroup = 404 "unknown_group" "There is no such resource group",
    /// Neither a node nor a group has that address.
    UnknownAddress = 404 "unknown_address" "The cluster does not have this address",
    /// The history has no such incident.
    UnknownIncident = 404 "unknown_incident" "There is no such incident",
    /// No such transcript is kept on this node.
    NoTranscript = 404 "no_transcript" "There is no such transcript here",
    /// No way leads to that node.
    NoRoute = 404 "no_route" "There is no route",
    /// The answering node knows of no director.
    NoPrimary = 404 "no_primary" "No director is known",
    /// The path is there, but not for this method.
    WrongMethod = 405 "wrong_method" "The method is not possible here",
    /// The cluster refused a command; `code` says more closely why.
    Refused = 409 "refused" "The cluster refused the command",
    /// The body is longer than what is read.
    TooLarge = 413 "too_large" "The body is too large",
    /// The body does not say that it is JSON.
    NotJson = 415 "not_json" "The body is not declared as JSON",
    /// The body is JSON, but not what is expected here.
    BadBody = 422 "bad_body" "The body is not of the expected form",
    /// A fault of the daemon or of what it stands on.
    Internal = 500 "internal" "The daemon failed",
    /// No majority of the cluster can be asked.
    NoQuorum = 503 "no_quorum" "No majority of the cluster answers",
    /// The answering node does not know whether there is a route.
    RouteNotKnown = 503 "route_not_known" "Whether there is a route is not known",
    /// The history cannot be read now.
    HistoryUnavailable = 503 "history_unavailable" "The history cannot be read now",
    /// As many clients watch as may.
    TooManyWatchers = 503 "too_many_watchers" "Too many clients watch",
    /// As many connections are open as may.
    TooManyConnections = 503 "too_many_connections" "Too many connections are open",
    /// The answering node does not serve.
    NotReady = 503 "not_ready" "The node does not serve",
    /// The group is not in service on the answering node.
    NotActive = 503 "not_active" "The group is not in service here",
    /// The answering node would not take the group.
    NotStandby = 503 "not_standby" "The node is no standby of the group",
    /// The group is in service nowhere.
    NotOnline = 503 "not_online" "The group is in service nowhere",
}

/// A problem: `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDoc {
    /// A name for this kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:vedette:problem:unknown_node")]
    pub kind: Box<str>,
    /// The kind in a few words, always the same ones.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and why.
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// What to do.
    #[schema(value_type = String)]
    pub advice: Box<str>,
    /// A stable name, such as `unknown_node`: that of the kind, or the reason of a refusal.
    #[schema(value_type = String)]
    pub code: Box<str>,
}

impl ProblemDoc {
    /// A problem: one sentence of what and why, and one of what to do.
    pub fn new(kind: Kind, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            kind: format!("{NAMESPACE}{}", kind.name()).into(),
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into().into(),
            advice: advice.into().into(),
            code: kind.name().into(),
        }
    }

    /// The document that came as `body` with the HTTP status `status`; none if it is not whole, or speaks of
    /// another status.
    pub fn read(status: u16, body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|problem: &Self| problem.status == status)
    }

    /// Whether it is of that kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind.strip_prefix(NAMESPACE) == Some(kind.name())
    }

    /// The detail as it stands within a sentence: without its full stop.
    pub fn what(&self) -> &str {
        match self.detail.contains('\n') {
            true => &self.detail,
            false => self.detail.trim_end_matches('.'),
        }
    }
}

impl From<Refusal> for ProblemDoc {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.code.as_str() {
            "no_quorum" => Kind::NoQuorum,
            _ => Kind::Refused,
        };
        let problem = Self::new(kind, sentence(refusal.what), refusal.advice);
        Self { code: refusal.code.into(), ..problem }
    }
}

/// `text` with its full stop. A list of findings needs none.
pub fn sentence(mut text: String) -> String {
    if !text.ends_with(['.', '!', '?']) && !text.contains('\n') {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Every kind can be told from the others by name and by title, and stands for a failure.
    #[test]
    fn kinds_are_apart() {
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let titles: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.title()).collect();
        assert_eq!((names.len(), titles.len()), (Kind::ALL.len(), Kind::ALL.len()));
        for kind in Kind::ALL {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
            let fits = |letter: char| letter.is_ascii_lowercase() || letter == '_';
            assert!(kind.name().chars().all(fits), "{kind:?}");
            assert!(!kind.title().ends_with('.'), "{kind:?}");
        }
    }

    /// A refusal keeps its sentences and its reason; only having nobody to ask is a kind of its own.
    #[test]
    fn refusals_become_problems() {
        let problem = ProblemDoc::from(Refusal::new("node_is_up", "n1 is UP", "Stop it first."));
        assert!(problem.is(Kind::Refused) && problem.status == 409);
        assert_eq!((&*problem.code, &*problem.detail), ("node_is_up", "n1 is UP."));
        assert_eq!((problem.what(), &*problem.advice), ("n1 is UP", "Stop it first."));
        let problem = ProblemDoc::from(Refusal::new("no_quorum", "nobody answers", "Wait."));
        assert!(problem.is(Kind::NoQuorum) && problem.status == 503);
        let found = "the document has 1 error:\n    line 3: no.";
        let problem = ProblemDoc::from(Refusal::new("bad_document", found, "Correct it."));
        assert_eq!((&*problem.detail, problem.what()), (found, found));
    }

    /// A member that is missing, or another status, makes it no problem document; more members do not.
    #[test]
    fn only_a_whole_document_is_read() {
        let problem = ProblemDoc::new(Kind::UnknownNode, "There is no node n9.", "List them.");
        let whole = serde_json::to_value(&problem).expect("JSON");
        let read =
            |status, it: &serde_json::Value| ProblemDoc::read(status, it.to_string().as_bytes());
        assert_eq!(read(404, &whole), Some(problem));
        assert_eq!(read(409, &whole), None);
        for name in ["type", "title", "status", "detail", "advice", "code"] {
            let mut less = whole.clone();
            less.as_object_mut().expect("an object").remove(name);
            assert_eq!(read(404, &less), None, "{name}");
        }
        let mut more = whole.clone();
        more["instance"] = "x".into();
        assert!(read(404, &more).is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in prop::sample::select(Kind::ALL),
            detail: String,
            advice: String,
        ) {
            let problem = ProblemDoc::new(kind, detail, advice);
            let body = serde_json::to_vec(&problem).expect("JSON");
            prop_assert!(problem.is(kind));
            prop_assert_eq!(ProblemDoc::read(kind.status(), &body), Some(problem));
        }

        /// No body breaks the reader, also none that is nearly one.
        #[test]
        fn no_body_breaks_it(body: Vec<u8>, status: u16, cut in 0_usize..200) {
            let _ = ProblemDoc::read(status, &body);
            let problem = ProblemDoc::new(Kind::Refused, "No.", "Wait.");
            let mut body = serde_json::to_vec(&problem).expect("JSON");
            body.truncate(cut);
            prop_assert_eq!(ProblemDoc::read(409, &body).is_some(), body.ends_with(b"}"));
        }
    }
}
