//! Release programs: what takes away, without the agent, what no control group holds.
//!
//! They are started when the lease ends, side by side and beside everything else that is let go of, each in a
//! control group of its own, which is emptied when its program ends or its time is over: what it forked ends
//! with it. Status 0 in time is the proof; one that failed is run again, and until it succeeds the guard has not
//! let go.
//!
//! The enforcer must not wait for them, because it pets the watchdog; it [looks](Programs::look) at them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::HeldProgram;
use crate::cgroup::ControlGroup;
use crate::process::{self, Ends, Program, User};
use crate::transcript::{self, Heading, Kind};

/// The pause before one that failed is run again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long what was killed may take to go.
const END: Duration = Duration::from_secs(1);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of them so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Some of them still run.
    pub running: bool,
    /// Those that failed last, one sentence each.
    pub failed: Vec<String>,
}

impl Looked {
    /// Whether all of them succeeded.
    pub fn is_complete(&self) -> bool {
        !self.running && self.failed.is_empty()
    }
}

#[derive(Debug)]
enum Run {
    /// With why it failed before, if it did.
    Running(Receiver<Result<(), String>>, Option<String>),
    Failed(String, Instant),
    Done,
}

/// Runs of release programs after one end of a lease.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<HeldProgram, Run>);

impl Programs {
    /// Starts those that do not run yet, and again those that failed a moment ago; says how they are.
    pub fn look(&mut self, wanted: &BTreeSet<HeldProgram>) -> Looked {
        let mut looked = Looked::default();
        for program in wanted {
            let run = self.0.entry(program.clone()).or_insert_with(|| start(program, None));
            if let Run::Running(answer, _) = run {
                match answer.try_recv() {
                    Ok(Ok(())) => *run = Run::Done,
                    Ok(Err(why)) => *run = Run::Failed(why, Instant::now()),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => {
                        *run = Run::Failed("its thread ended".into(), Instant::now());
                    }
                }
            }
            match run {
                Run::Running(..) => looked.running = true,
                Run::Done => {}
                Run::Failed(why, at) => {
                    looked.failed.push(sentence(program, why));
                    if at.elapsed() >= AGAIN {
                        *run = start(program, Some(why.clone()));
                    }
                }
            }
        }
        looked
    }

    /// Whether it succeeded.
    pub(super) fn is_done(&self, program: &HeldProgram) -> bool {
        matches!(self.0.get(program), Some(Run::Done))
    }

    /// What became of it before is of no interest: it is to run anew.
    pub(super) fn forget(&mut self, program: &HeldProgram) {
        self.0.remove(program);
    }

    /// Why it failed last, if it has not succeeded since.
    pub(super) fn why(&self, program: &HeldProgram) -> Option<String> {
        match self.0.get(program)? {
            Run::Running(_, why) => why.as_ref().map(|why| sentence(program, why)),
            Run::Failed(why, _) => Some(sentence(program, why)),
            Run::Done => None,
        }
    }

    /// Waits until each of them ended once; answers a sentence for each that failed.
    pub fn wait(&mut self, wanted: &BTreeSet<HeldProgram>) -> Vec<String> {
        loop {
            let looked = self.look(wanted);
            if !looked.running {
                return looked.failed;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn sentence(program: &HeldProgram, why: &str) -> String {
    let name = program.program.first().map(String::as_str).unwrap_or_default();
    format!("the release program {name} failed: {why}")
}

/// On a thread of its own.
fn start(program: &HeldProgram, before: Option<String>) -> Run {
    let (sender, answer) = channel();
    let program = program.clone();
    let builder = std::thread::Builder::new().name("release program".into()).stack_size(256 << 10);
    let work = move || {
        let mut printed = Ends::default();
        let said = run(&program, &mut printed);
        // Nobody waits for what a disk does with it.
        let how = said.clone().err().unwrap_or_else(|| "exit status 0".into());
        drop(sender.send(said));
        keep(&program, &how, printed);
    };
    match builder.spawn(work) {
        Ok(_) => Run::Running(answer, before),
        Err(error) => Run::Failed(format!("it cannot be started: {error}"), Instant::now()),
    }
}

/// Keeps what it printed.
fn keep(program: &HeldProgram, how: &str, printed: Ends) {
    let (Some(folder), false) = (&program.transcripts, printed.is_empty()) else { return };
    let text = |name: &str| program.environment.get(name).cloned().unwrap_or_default();
    let heading = Heading::new(Kind::Release, program.program.join(" "))
        .of(&text("VEDETTE_GROUP"), &text("VEDETTE_RESOURCE"));
    transcript::keep_now(folder, &text("VEDETTE_NODE"), heading, how, &printed.bytes());
}

fn run(program: &HeldProgram, printed: &mut Ends) -> Result<(), String> {
    let time = Duration::from_millis(program.within_ms);
    let user = program.user.as_deref().map(User::named).transpose()?;
    let its = user.as_ref().map(User::environment).into_iter().flatten();
    // The agent may run the same program at the same time, if this guard was silent.
    let place = program
        .place
        .as_ref()
        .map(|place| ControlGroup::at(place.join(std::process::id().to_string())));
    if let Some(place) = &place {
        place.make().map_err(|error| format!("its control group cannot be made: {error}"))?;
    }
    let directory = place.as_ref().map(|place| place.directory().to_owned());
    let run = Program::new(program.program.iter().cloned(), time)
        .environment(its)
        .environment(program.environment.clone())
        .user(user)
        .cgroup(directory);
    let said = process::run_blocking(&run, printed);
    let left = place.map_or(Ok(()), |place| emptied(&place));
    said.and(left)
}

/// Ends what the program left.
fn emptied(place: &ControlGroup) -> Result<(), String> {
    let until = Instant::now() + END;
    while place.is_populated() {
        if Instant::now() >= until {
            return Err("what it left does not end although it was killed".into());
        }
        place.kill().map_err(|error| format!("what it left cannot be killed: {error}"))?;
        std::thread::sleep(PAUSE);
    }
    place.remove();
    // Those above, unless another one is in them.
    for above in place.directory().ancestors().skip(1).take(2) {
        remove_empty(above);
    }
    Ok(())
}

fn remove_empty(directory: &Path) {
    // Not empty is as good.
    let _ = std::fs::remove_dir(directory);
}
