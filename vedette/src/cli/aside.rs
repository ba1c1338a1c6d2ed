//! What is said beside the answer of a command: on standard error, so that standard output holds only what
//! was asked for.
//!
//! With `-o json` a program reads both: then each line on standard error is a JSON document of its own,
//! `{"error": …, "advice": …, "exit": …}`, `{"note": …}` or `{"progress": …}`.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use vedette_collector::clinfo::told::{AsideDoc, FailureDoc};

use super::fail::Failure;

/// Whether a program reads it. There is one standard error in a process, so there is one answer.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on a program reads it.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

fn json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Something that whoever gave the command should know.
pub(crate) fn note(text: &str) {
    let text = text.trim_end();
    match json() {
        _ if text.is_empty() => {}
        true => line(&written(&AsideDoc::Note(text.to_owned()))),
        false => line(text),
    }
}

/// How far something is.
pub(crate) fn progress(text: &str) {
    let text = text.to_owned();
    line(&if json() { written(&AsideDoc::Progress(text)) } else { text });
}

/// Why the command could not do what was asked.
pub(crate) fn failure(failure: &Failure) {
    line(&if json() { written(&document(failure)) } else { failure.to_string() });
}

/// A failure as a program reads it.
pub(crate) fn document(failure: &Failure) -> FailureDoc {
    FailureDoc {
        advice: failure.advice.clone(),
        error: failure.what.clone(),
        exit: failure.exit,
        findings: failure.findings.clone(),
    }
}

fn written(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

fn line(text: &str) {
    // Where nobody can be told, nobody is: the exit status says it, too.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// How far something is: a line for each step, of which a terminal shows for how long it lasts.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    shown: Option<(String, std::time::Instant)>,
}

impl Progress {
    /// It is at this step now.
    pub(crate) fn at(&mut self, step: &str) {
        let live = !json() && std::io::stderr().is_terminal();
        let same = self.shown.as_ref().is_some_and(|(shown, _)| shown == step);
        if same && !live {
            return;
        }
        if !same {
            self.end();
            self.shown = Some((step.to_owned(), std::time::Instant::now()));
        }
        match &self.shown {
            Some((step, since)) if live => {
                let tenths = since.elapsed().as_millis() / 100;
                let text = format!("\r\x1b[K{step}  {}.{} s", tenths / 10, tenths % 10);
                let mut out = std::io::stderr().lock();
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            }
            _ => progress(step),
        }
    }

    /// Nothing more is said about the step at hand.
    pub(crate) fn end(&mut self) {
        let shown = self.shown.take().is_some();
        if shown && !json() && std::io::stderr().is_terminal() {
            line("");
        }
    }
}

#[cfg(test)]
mod tests {
    use vedette_collector::clinfo::finding::FindingDoc;

    use super::*;

    #[test]
    fn a_failure_is_a_document_with_its_findings() {
        let failure = Failure::refused("there is no node n9", "The members are n1.");
        assert_eq!(
            written(&document(&failure)),
            r#"{"advice":"The members are n1.","error":"there is no node n9","exit":1}"#
        );
        let found = Failure { findings: vec![FindingDoc::met(None, "no room")], ..failure };
        assert_eq!(document(&found).findings, found.findings);
    }
}
