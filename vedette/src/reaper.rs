//! The guard's third process (`node::guard::reaper`): no command of anybody's, so no command line is parsed for it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use vedette_core::config::{LogConfig, LogFormat};
use vedette_core::model::Severity;
use vedette_node::guard;

/// The word that makes this program a reaper.
const WORD: &str = "reaper";
/// The word for a log in JSON.
const JSON: &str = "json";

/// What a guard asks of its reaper.
pub(crate) struct Asked {
    state_dir: PathBuf,
    log: LogConfig,
}

/// The words by which a guard with this state directory starts its reaper.
pub(crate) fn words(state_dir: PathBuf, log: LogConfig) -> Vec<OsString> {
    let format = match log.format {
        LogFormat::Human => "human",
        LogFormat::Json => JSON,
    };
    vec![WORD.into(), state_dir.into(), format.into()]
}

/// What this program was started for, if that is a reaper.
pub(crate) fn is_asked_for() -> Option<Asked> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != WORD {
        return None;
    }
    let state_dir = words.next()?.into();
    let format = if words.next()? == JSON { LogFormat::Json } else { LogFormat::Human };
    Some(Asked { state_dir, log: LogConfig { level: Severity::Notice, format } })
}

/// Runs it to its end.
pub(crate) fn main(asked: &Asked) -> ExitCode {
    let outcome = crate::logging::start(asked.log).map(|_| guard::reaper::run(&asked.state_dir));
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!(
        "vedette: the reaper cannot run: {why}.\n\
         It is started by the guard alone: vedette daemon."
    );
    ExitCode::FAILURE
}
