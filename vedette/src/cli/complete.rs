//! Completion in a shell: names of nodes, groups and networks are asked of the daemon while somebody types.
//!
//! The script that `vedette completions` prints runs this program, so what is possible is said by the command
//! line itself, and a new option needs no new script. Where no daemon answers, no names are offered.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use serde::Deserialize;

use super::client::Client;
use super::context::Context;
use super::fail::{Failure, Result};
use super::{Cli, Global, Output};

/// The variable by which the script in a shell says that it wants to know what may follow.
const VARIABLE: &str = "VEDETTE_COMPLETE";

/// Answers a shell that asks what may follow; otherwise nothing.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script by which a shell asks.
pub(crate) fn script(shell: &str) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(|| {
        Failure::refused(
            format!("there are no completions for {shell}"),
            "The shells are bash, elvish, fish, powershell and zsh.",
        )
    })?;
    let (name, program) = ("vedette", "vedette");
    completer.write_registration(VARIABLE, name, program, program, &mut script).map_err(
        |error| Failure::failed(format!("the script cannot be written: {error}"), "Report this."),
    )?;
    Ok(script)
}

/// What is to be known of a thing to name it.
#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Names of nodes.
pub(super) fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names("/api/v1/nodes"))
}

/// Names of groups.
pub(super) fn groups() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names("/api/v1/groups"))
}

/// Names of networks.
pub(super) fn networks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names("/api/v1/networks"))
}

fn names(path: &str) -> Vec<CompletionCandidate> {
    let words: Vec<_> = std::env::args_os().collect();
    let option = |name: &str| value_of(&words, name).map(PathBuf::from);
    let global = Global {
        control: option("--control"),
        config: option("--config"),
        state_dir: None,
        output: Output::Table,
    };
    let client = Context::new(global).client().map(Client::at_once);
    let named: Vec<Named> = client.and_then(|client| client.read(path)).unwrap_or_default();
    named.into_iter().map(|it| CompletionCandidate::new(it.name)).collect()
}

/// The value of an option, as far as the line is typed.
fn value_of<'a>(words: &'a [impl AsRef<OsStr>], name: &str) -> Option<&'a OsStr> {
    let mut words = words.iter().map(AsRef::as_ref);
    while let Some(word) = words.next() {
        if word == name {
            return words.next();
        }
        let text = word.to_str().and_then(|text| text.strip_prefix(name)?.strip_prefix('='));
        if let Some(text) = text {
            return Some(OsStr::new(text));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_as_they_are_written() {
        let words = ["vedette", "--control=/a", "group", "move", "--config", "/b", "--to"];
        assert_eq!(value_of(&words, "--control"), Some(OsStr::new("/a")));
        assert_eq!(value_of(&words, "--config"), Some(OsStr::new("/b")));
        assert_eq!(value_of(&words, "--to"), None);
    }
}
