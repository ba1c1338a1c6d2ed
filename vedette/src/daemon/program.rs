//! One run of a program of the site or of ours, as the runner needs it.
//!
//! Kept thin on purpose: what it takes to start a program apart, to bound what it prints and how long
//! it runs, and to end all that it forked, is [`vedette_node::process`]'s; which file a command line
//! means is [`vedette_node::events`]'s.

use std::time::Duration;

use vedette_core::model::RunOutcome;
use vedette_node::process::{self, Program};

/// What is to be run, and within which limits.
pub(crate) struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) limit: Duration,
    /// How much of its output is kept.
    pub(crate) keep: usize,
}

/// Runs it to its end; ends it if the future is dropped.
pub(crate) async fn run(job: Job) -> RunOutcome {
    let Job { argv, environment, limit, keep } = job;
    process::run(Program::new(argv, limit).environment(environment).keep(keep)).await
}
