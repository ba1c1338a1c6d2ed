//! How a command ends when it cannot do what was asked: one sentence of what and why, one of what
//! to do, and an exit status that a script or a Nagios check understands.
//!
//! 0 is fine, 1 degraded or refused, 2 failure, 3 unknown. The sentences go to standard error, so
//! that standard output only ever holds what was asked for.

use vedette_collector::clinfo::finding::FindingDoc;
use vedette_core::config::{Findings, Level};
use vedette_core::refusal::Refusal;

/// The cluster is degraded, or what was asked was refused.
pub(crate) const REFUSED: u8 = 1;
/// It was tried and failed.
pub(crate) const FAILED: u8 = 2;
/// Nobody knows.
pub(crate) const UNKNOWN: u8 = 3;

/// Why a command could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) exit: u8,
    /// One sentence without its full stop.
    pub(crate) what: String,
    /// One sentence.
    pub(crate) advice: String,
    /// Everything that was found, for programs; people are told it in `what`.
    pub(crate) findings: Vec<FindingDoc>,
}

/// What a command returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Something failed.
    pub(crate) fn failed(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit: FAILED, what: what.into(), advice: advice.into(), findings: Vec::new() }
    }

    /// Something was refused.
    pub(crate) fn refused(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit: REFUSED, ..Self::failed(what, advice) }
    }

    /// Nobody knows.
    pub(crate) fn unknown(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit: UNKNOWN, ..Self::failed(what, advice) }
    }

    /// A configuration with errors.
    pub(crate) fn findings(file: &str, findings: &Findings) -> Self {
        let errors = findings.0.iter().filter(|finding| finding.level == Level::Error).count();
        let noun = if errors == 1 { "error" } else { "errors" };
        Self::failed(
            format!("the configuration {file} has {errors} {noun}:\n{findings}"),
            "Correct it and check it: vedette config check.",
        )
        .with(FindingDoc::all(findings))
    }

    /// The same with what was found.
    pub(crate) fn with(self, findings: Vec<FindingDoc>) -> Self {
        Self { findings, ..self }
    }

    /// The same with another exit status.
    pub(crate) fn exiting(self, exit: u8) -> Self {
        Self { exit, ..self }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.what, refusal.advice)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stop =
            if self.what.ends_with(['.', '!', '?']) || self.what.contains('\n') { "" } else { "." };
        let end = if self.advice.is_empty() { "" } else { "\n" };
        write!(f, "vedette: {}{stop}{end}{}", self.what, self.advice)
    }
}
