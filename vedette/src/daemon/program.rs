//! One run of a program of the site or of ours, as the runner needs it.
//!
//! Kept thin on purpose: what it takes to start a program apart, to bound what it prints and how long
//! it runs, and to end all that it forked, is [`vedette_node::process`]'s; which file a command line
//! means is [`vedette_node::events`]'s.

use std::path::PathBuf;
use std::time::Duration;

use vedette_core::model::RunOutcome;
use vedette_node::process::{self, Program};
use vedette_node::transcript::Tape;

/// What is to be run, and within which limits.
pub(crate) struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) limit: Duration,
    /// How much of its output is kept.
    pub(crate) keep: usize,
    /// Where all of it goes.
    pub(crate) tape: Option<Tape>,
    /// Lines of a trace are for the transcript alone.
    pub(crate) traces: bool,
    /// The control group (its directory) in which it starts.
    pub(crate) cgroup: Option<PathBuf>,
}

/// Runs it to its end; ends it if the future is dropped.
pub(crate) async fn run(job: Job) -> RunOutcome {
    let Job { argv, environment, limit, keep, tape, traces, cgroup } = job;
    let program = Program::new(argv, limit).environment(environment).keep(keep).tape(tape);
    let program = program.cgroup(cgroup);
    process::run(program.leave_out(traces.then_some(is_trace))).await
}

/// Whether a line is of a shell's trace (`set -x`): it begins with the last letter of `PS4`, doubled for what
/// runs within something else.
fn is_trace(line: &[u8]) -> bool {
    let rest = line.iter().position(|byte| *byte != b'+').unwrap_or(line.len());
    rest > 0 && line.get(rest) == Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_trace() {
        assert!(is_trace(b"+ say acquire web\n") && is_trace(b"+++ date\n"));
        assert!(!is_trace(b"+1 more\n") && !is_trace(b"node_up\n") && !is_trace(b"++"));
    }
}
