//! One command of a recovery program, with what a site put around it (spec H18, H19, H46).
//!
//! notify → pre → script → (failed: recovery, script again, up to `retries`) → post → notify. What each
//! of them prints goes into one output of a bounded length, in order, each part with a heading as soon
//! as there is more than one. A failing `notify` or `post` changes nothing; a failing `pre` keeps the
//! script from running.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use vedette_core::definition::Hooks;
use vedette_core::event::CommandOutcome;
use vedette_core::model::RunOutcome;
use vedette_node::transcript::Tape;
use vedette_node::{events, process};

use super::super::program::{self, Job};
use super::enclosure::Enclosure;
use super::environment::Variables;

/// How much output of a command is kept with its event.
const KEPT: usize = 8 * 1_024;

/// A command, and everything that its run depends on.
pub(super) struct Step {
    /// Its place in the phase.
    pub(super) index: usize,
    /// The command line, as the recovery program has it.
    pub(super) line: String,
    /// The status that means success; none if every status does.
    pub(super) expected: Option<i32>,
    pub(super) environment: Variables,
    pub(super) hooks: Option<Hooks>,
    /// How long each program may run.
    pub(super) limit: Duration,
    /// The folder of the event scripts.
    pub(super) scripts: PathBuf,
    /// Where its programs run, if they are to end together.
    pub(super) enclosure: Enclosure,
    /// Where everything goes that its programs print.
    pub(super) tape: Option<Tape>,
    /// Its programs trace what they do.
    pub(super) traces: bool,
}

/// What was run so far.
#[derive(Default)]
struct Told {
    output: String,
    dropped: u64,
    parts: usize,
}

impl Told {
    /// Adds what a part printed.
    fn add(&mut self, part: &str, outcome: &RunOutcome) {
        let heading = (part != "script" || self.parts > 0).then(|| format!("[{part}] "));
        self.parts += 1;
        let mut text = heading.unwrap_or_default();
        text.push_str(&outcome.output);
        if part != "script" && !outcome.succeeded() {
            text.push_str(&format!("[{part}] {}\n", outcome.summary()));
        }
        if text.trim_end() == format!("[{part}]") {
            return;
        }
        let room = KEPT.saturating_sub(self.output.len());
        let cut = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let (kept, rest) = text.split_at(cut.unwrap_or(0));
        self.output.push_str(kept);
        self.dropped += outcome.output_dropped + rest.len() as u64;
    }
}

impl Step {
    /// Runs it to its end.
    pub(super) async fn run(self) -> CommandOutcome {
        let began = Instant::now();
        let hooks = self.hooks.clone().unwrap_or_default();
        let mut told = Told::default();
        self.hook("notify", &hooks.notify, "start", &mut told).await;
        let (mut outcome, runs) = match self.hook("pre", &hooks.pre, "start", &mut told).await {
            Some(refused) if !refused.succeeded() => (refused, 0),
            _ => self.tries(&hooks, &mut told).await,
        };
        let expected = self.is_expected(&outcome, runs);
        let status = outcome.exit.unwrap_or(-1).to_string();
        self.hook("post", &hooks.post, &status, &mut told).await;
        self.hook("notify", &hooks.notify, &status, &mut told).await;
        outcome.transcript = match &self.tape {
            Some(tape) => tape.end(&outcome.summary()).await,
            None => None,
        };
        outcome.output = told.output;
        outcome.output_dropped = told.dropped;
        outcome.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.enclosure.leave();
        CommandOutcome { index: self.index, command: self.line, expected, runs, outcome }
    }

    /// The script, and again after the recovery command as long as it fails and may.
    async fn tries(&self, hooks: &Hooks, told: &mut Told) -> (RunOutcome, u32) {
        let mut runs = 0;
        loop {
            runs += 1;
            let outcome = self.script(told).await;
            if self.is_expected(&outcome, runs) || runs > hooks.retries {
                return (outcome, runs);
            }
            let status = outcome.exit.unwrap_or(-1).to_string();
            self.hook("recovery", &hooks.recovery, &status, told).await;
        }
    }

    /// A script that did not run, or was ended, is never what was expected, `X` or not.
    fn is_expected(&self, outcome: &RunOutcome, runs: u32) -> bool {
        let ran = runs > 0 && outcome.failure.is_none() && !outcome.timed_out;
        ran && outcome.exit.is_some()
            && self.expected.is_none_or(|wanted| outcome.exit == Some(wanted))
    }

    async fn script(&self, told: &mut Told) -> RunOutcome {
        let outcome = match events::resolve(&self.scripts, &self.line) {
            Ok(argv) => self.program("script", argv, self.environment.clone()).await,
            Err(why) => process::not_started(why.to_string()),
        };
        told.add("script", &outcome);
        outcome
    }

    /// A program around the script, if there is one.
    async fn hook(
        &self,
        part: &str,
        argv: &[String],
        status: &str,
        told: &mut Told,
    ) -> Option<RunOutcome> {
        if argv.is_empty() {
            return None;
        }
        let mut environment = self.environment.clone();
        environment.push(("VEDETTE_EVENT_STATUS".into(), status.to_owned()));
        let outcome = self.program(part, argv.to_vec(), environment).await;
        told.add(part, &outcome);
        Some(outcome)
    }

    async fn program(&self, part: &str, argv: Vec<String>, environment: Variables) -> RunOutcome {
        // With programs around it, a transcript has to say which of them printed what.
        let tape = self.tape.clone();
        if let Some(tape) = tape.as_ref().filter(|_| self.hooks.is_some()) {
            tape.write(format!("[{part}: {}]\n", argv.join(" ")).as_bytes());
        }
        let (limit, traces, cgroup) = (self.limit, self.traces, self.enclosure.place());
        let job = Job { argv, environment, limit, keep: KEPT, tape, traces, cgroup };
        let outcome = program::run(job).await;
        if outcome.timed_out {
            self.enclosure.empty().await;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use vedette_node::transcript::{Heading, Kind, Transcripts};

    use super::*;

    fn step(script: &str, expected: Option<i32>, hooks: Hooks) -> (tempfile::TempDir, Step) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("try");
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display()))
            .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let step = Step {
            index: 3,
            line: format!("{} one 'two'", path.display()),
            expected,
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            hooks: Some(hooks),
            limit: Duration::from_secs(20),
            scripts: folder.path().to_owned(),
            enclosure: Enclosure::new(None, (1, 0, 0, 3)),
            tape: None,
            traces: false,
        };
        (folder, step)
    }

    fn sh(script: &str) -> Vec<String> {
        vec!["/bin/sh".into(), "-c".into(), script.into()]
    }

    /// H18: a status other than the expected one is a failure; with X every status will do.
    #[tokio::test]
    async fn h18_expected_statuses() {
        for (exit, expected, fine) in
            [(0, Some(0), true), (3, Some(0), false), (3, Some(3), true), (3, None, true)]
        {
            let (_folder, step) = step(&format!("exit {exit}"), expected, Hooks::default());
            let outcome = step.run().await;
            assert_eq!((outcome.expected, outcome.outcome.exit), (fine, Some(exit)), "{outcome:?}");
            assert_eq!((outcome.index, outcome.runs), (3, 1));
        }
    }

    /// H18: what was ended has no status, so not even X takes it for success.
    #[tokio::test]
    async fn h18_a_script_that_hangs_or_is_killed_failed() {
        let (_folder, mut step) = step("sleep 600", None, Hooks::default());
        step.limit = Duration::from_millis(50);
        let outcome = step.run().await;
        assert!(outcome.outcome.timed_out && !outcome.expected, "{outcome:?}");
        let (_folder, step) = self::step("kill -9 $$", None, Hooks::default());
        let outcome = step.run().await;
        assert_eq!((outcome.outcome.signal, outcome.expected), (Some(9), false), "{outcome:?}");
    }

    /// H18: a script that is missing is a sentence, kept with the event.
    #[tokio::test]
    async fn h18_a_missing_script_says_so() {
        let (_folder, mut step) = step("", None, Hooks::default());
        step.line = "/nowhere/at/all".into();
        let outcome = step.run().await;
        assert!(!outcome.expected, "{outcome:?}");
        assert_eq!(outcome.ended(), "could not be started");
        assert!(outcome.told().starts_with("/nowhere/at/all does not exist"), "{outcome:?}");
    }

    /// H19, H46: told before and after, recovered and tried again, in this order.
    #[tokio::test]
    async fn h19_programs_around_a_script() {
        let (folder, mut step) =
            step("echo try; test -e mended", Some(0), Hooks { retries: 2, ..Hooks::default() });
        let mend =
            format!("echo status $VEDETTE_EVENT_STATUS; touch {}/mended", folder.path().display());
        step.hooks = Some(Hooks {
            notify: sh("echo $VEDETTE_EVENT_STATUS"),
            pre: sh("echo ready"),
            recovery: sh(&mend),
            retries: 2,
            post: sh("exit 9"),
            ..Hooks::default()
        });
        let outcome = step.run().await;
        assert!(outcome.expected && outcome.runs == 2, "{outcome:?}");
        let lines: Vec<&str> = outcome.outcome.output.lines().collect();
        assert_eq!(
            lines,
            [
                "[notify] start",
                "[pre] ready",
                "[script] try",
                "[recovery] status 1",
                "[script] try",
                "[post] [post] exit status 9",
                "[notify] 0"
            ]
        );
    }

    /// H19: what must not begin does not.
    #[tokio::test]
    async fn h19_a_failing_pre_keeps_the_script_from_running() {
        let hooks = Hooks { pre: sh("echo no; exit 1"), retries: 3, ..Hooks::default() };
        let (folder, step) = step("touch ran", None, hooks);
        let outcome = step.run().await;
        assert!(!outcome.expected && outcome.runs == 0, "{outcome:?}");
        assert!(!folder.path().join("ran").exists());
        assert!(outcome.outcome.output.contains("no"));
    }

    /// J10: all of it is in the transcript, a trace too, which does not push out what is on record.
    #[tokio::test]
    async fn j10_a_trace_is_for_the_transcript() {
        let script =
            "i=0; set -x; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo 'no disk'; exit 5";
        let hooks = Hooks { pre: sh("echo ready"), ..Hooks::default() };
        let (folder, mut step) = step(script, Some(0), hooks);
        let transcripts = Transcripts::new(folder.path(), "n2");
        step.tape = Some(transcripts.tape(Heading::new(Kind::Event, step.line.clone())));
        step.traces = true;
        let outcome = step.run().await;
        assert_eq!(outcome.told(), "[pre] ready / [script] no disk", "{outcome:?}");
        let told = outcome.told_with_transcript();
        assert!(told.ends_with("; its whole output: vedette transcript show n2/1"), "{told}");
        let (label, text) = vedette_node::transcript::file::read(transcripts.folder(), 1).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(label.how.as_deref(), Some("exit status 5"));
        assert!(text.starts_with("[pre: /bin/sh -c echo ready]\nready\n[script: "), "{text}");
        assert!(text.contains("+ i=2000\n") && text.contains("\nno disk\n"));
    }

    /// H20: a gigabyte is counted and not kept.
    #[tokio::test]
    async fn h20_output_is_bounded() {
        let (_folder, step) = step("yes | head -c 3000000", Some(0), Hooks::default());
        let outcome = step.run().await;
        assert!(outcome.expected, "{outcome:?}");
        assert_eq!(outcome.outcome.output.len(), KEPT);
        assert_eq!(outcome.outcome.output_dropped, 3_000_000 - KEPT as u64);
    }
}
