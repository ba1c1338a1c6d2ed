//! Application servers (spec H25): programs of the site that start, stop and look.
//!
//! The start program ends when the application runs; what it leaves behind lives in a control group
//! of its own, whatever it does to its session and parents, so what the stop program forgot is ended. What
//! it has others run (systemd, a container engine) lives elsewhere: in a control group that the engine is told and
//! the document names, which the guard ends; or nobody knows where, and [`super::off`] asks the monitor.
//!
//! What the application prints goes to a file, because it outlives the agent, and a pipe would not.
//! The file is emptied when it has grown.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;
use vedette_core::model::RunOutcome;

use tokio::time::{Instant, sleep};

use super::off::{self, Started, Stopping};
use super::{Common, Context, Detail, Failure, Health, Reach, Resource, error, file_name, warning};
use crate::cgroup::{ControlGroup, of_engine};
use crate::process::{self, PATH, Program, User};

/// The longest that what the application printed may become.
const MOST_OUTPUT: u64 = 1 << 20;

/// How long an engine may take to have the first process where it was told to, after the start program ended.
const FILLED: Duration = Duration::from_secs(5);

/// Between two looks at it.
const AGAIN: Duration = Duration::from_millis(20);

/// What is to be said of a start that left nothing where the guard could end it.
pub(super) const OUTSIDE: &str =
    "none of its processes is in its control group: the end of the lease does not end it";

/// What is to be said of a start that left something there, and something elsewhere.
const PARTLY: &str =
    "some of its processes left its control group: the end of the lease does not end those";

/// See [`vedette_core::group::ResourceKind::Application`].
#[derive(Clone, Debug)]
pub(super) struct Application {
    pub(super) common: Common,
    pub(super) start: Vec<String>,
    pub(super) stop: Vec<String>,
    pub(super) monitor: Vec<String>,
    pub(super) user: Option<String>,
    /// The control group in which an engine runs what it is asked for, below cgroup2.
    pub(super) engine: Option<String>,
    /// Takes away what is outside, without the agent; may be none.
    pub(super) release: Vec<String>,
}

/// Whether a monitor came so far as to say something: with statuses 126 and 127 a shell says that it could not be run.
fn spoke(outcome: &RunOutcome) -> bool {
    outcome.exit.is_some_and(|status| status != 126 && status != 127)
}

impl Application {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        if self.look(context).await == Ok(Health::Running) {
            return Ok("runs already".into());
        }
        if let Some(group) = self.engines().iter().find(|group| group.has_this_process()) {
            return Err(off::of_ours(group));
        }
        let group = context.place(&self.common.name)?;
        let argv = self.start.iter().map(String::as_str);
        let place = group.as_ref().map(|group| group.directory().to_owned());
        let program = self.plain(context, argv, self.common.start)?.cgroup(place);
        let outcome = process::run(program.output_to(self.log(context)?)).await;
        if !outcome.succeeded() {
            let advice = "Try the start program by hand; it has to end with status 0.";
            return Err(Failure::of_run("the start program failed", &outcome, advice));
        }
        self.see_filled().await?;
        let lives = group.is_none_or(|group| group.is_populated()) || self.is_filled();
        if self.monitor.is_empty() && !lives {
            // What it began may run where nobody looks; its stop program knows where.
            let stopping = Stopping::begin(context, &self.common, self.engine.as_deref());
            let stopped = match self.run_stop_program(context, &stopping).await {
                Ok(()) => "it was stopped again",
                Err(_) => "its stop program failed as well",
            };
            let why = format!(
                "the start program ended well, but none of its processes is alive: {stopped}"
            );
            let advice = "See what it printed. What runs elsewhere, as a service of an engine does, needs a monitor.";
            return Err(Failure::new(why, advice).with(outcome.output));
        }
        Ok(match off::note_start(context, &self.common, self.engine.as_deref()) {
            Some(Started::Outside) if self.release.is_empty() => OUTSIDE.into(),
            Some(Started::Partly) if self.release.is_empty() => PARTLY.into(),
            _ => String::new(),
        })
    }

    /// The control groups that an engine fills for it.
    fn engines(&self) -> Vec<ControlGroup> {
        self.engine.as_deref().map(of_engine).unwrap_or_default()
    }

    fn is_filled(&self) -> bool {
        self.engines().iter().any(ControlGroup::is_populated)
    }

    /// Waits until the engine has put something where it was told to: elsewhere nothing would end it with the lease.
    async fn see_filled(&self) -> Result<(), Failure> {
        let Some(path) = &self.engine else { return Ok(()) };
        let until = Instant::now() + FILLED;
        while !self.is_filled() {
            if Instant::now() >= until {
                let why = format!(
                    "the start program ended well, but nothing is in the control group {path}, so the end of the \
                     lease would not end it"
                );
                let advice = format!(
                    "Have the engine run it there (docker run --cgroup-parent={path}), or correct control_group."
                );
                return Err(Failure::new(why, advice).reaching(Reach::Node));
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn take_down(&self, context: &Context) -> Result<Detail, Failure> {
        let stopping = Stopping::begin(context, &self.common, self.engine.as_deref());
        let said = self.run_stop(context, &stopping).await;
        let asked = !self.monitor.is_empty();
        stopping.see(said, asked.then_some(|| self.look(context))).await
    }

    /// What was never started has nothing to be stopped.
    async fn run_stop(&self, context: &Context, stopping: &Stopping<'_>) -> Result<(), Failure> {
        if stopping.is_empty() && self.monitor.is_empty() {
            return Ok(());
        }
        self.run_stop_program(context, stopping).await
    }

    async fn run_stop_program(
        &self,
        context: &Context,
        stopping: &Stopping<'_>,
    ) -> Result<(), Failure> {
        if self.stop.is_empty() {
            return Ok(());
        }
        let argv = self.stop.iter().map(String::as_str);
        let program = self.plain(context, argv, self.common.stop)?.cgroup(stopping.place()?);
        let outcome = process::run(program.output_to(self.log(context)?)).await;
        if outcome.succeeded() {
            return Ok(());
        }
        let advice = "Try the stop program by hand; it has to succeed too if nothing runs.";
        Err(Failure::of_run("the stop program failed", &outcome, advice))
    }

    async fn look(&self, context: &Context) -> Result<Health, Failure> {
        self.empty_log(context);
        let group = context.control_group(&self.common.name);
        let lives = group.is_some_and(|group| group.is_populated()) || self.is_filled();
        if self.monitor.is_empty() {
            return Ok(if lives { Health::Running } else { Health::NotRunning });
        }
        // Not in the application's group: it would be killed with it, and counted as part of it.
        let argv = self.monitor.iter().map(String::as_str);
        let program = self.plain(context, argv, self.common.monitor)?;
        let outcome = process::run(program.dies_with_us()).await;
        if outcome.succeeded() && context.cgroup.is_some() {
            off::note_place(context, &self.common, lives);
        }
        match (outcome.succeeded(), lives) {
            (true, _) => Ok(Health::Running),
            (false, false) if spoke(&outcome) => {
                context.printed.note(&outcome.output);
                Ok(Health::NotRunning)
            }
            _ => Err(self.unwell(&outcome, lives)),
        }
    }

    /// What a monitor means that did not say that it works. One that said nothing has not said otherwise either.
    fn unwell(&self, outcome: &RunOutcome, lives: bool) -> Failure {
        let there = match lives {
            true => "its processes are there",
            false => "none of its processes is in its control group",
        };
        let advice = format!("Whether it works is not known; {there}. Try the monitor by hand");
        if outcome.timed_out {
            let time = self.common.monitor.as_millis();
            let why = format!("the monitor did not answer within {time} ms and was ended");
            let advice = format!("{advice}, or give it more time (monitor_timeout).");
            return Failure::new(why, advice).with(outcome.output.clone()).late();
        }
        if !spoke(outcome) {
            let what = "the monitor said nothing";
            return Failure::of_run(what, outcome, format!("{advice}."));
        }
        let advice = "Its processes are there, but it does not work.";
        Failure::of_run("the monitor says that it does not work", outcome, advice)
    }

    fn plain<'a>(
        &self,
        context: &Context,
        argv: impl Iterator<Item = &'a str>,
        time: Duration,
    ) -> Result<Program, Failure> {
        let user = self.user()?;
        let its = user.as_ref().map(User::environment).into_iter().flatten();
        let program = Program::new(argv, time)
            .keep_both_ends()
            .environment(its)
            .environment(context.variables(&self.common.name));
        Ok(program.user(user))
    }

    fn user(&self) -> Result<Option<User>, Failure> {
        let advice = "Make the user on every node of the group.";
        let named = self.user.as_deref().map(User::named).transpose();
        named.map_err(|why| Failure::new(why, advice).reaching(Reach::Node))
    }

    fn log_path(&self, context: &Context) -> PathBuf {
        let name = format!("{}.{}.log", file_name(&context.group), file_name(&self.common.name));
        context.run.join(name)
    }

    fn log(&self, context: &Context) -> Result<PathBuf, Failure> {
        std::fs::create_dir_all(&context.run).map_err(|error| {
            let why = format!("{} cannot be made: {error}", context.run.display());
            Failure::new(why, "Look after that directory.").reaching(Reach::Node)
        })?;
        self.empty_log(context);
        Ok(self.log_path(context))
    }

    /// Whoever writes to it appends, so it may be emptied at any time.
    fn empty_log(&self, context: &Context) {
        let path = self.log_path(context);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > MOST_OUTPUT) {
            // If that fails it is tried again at the next look.
            let _ = std::fs::OpenOptions::new().write(true).truncate(true).open(path);
        }
    }

    /// What is to be said if what runs of it now, or ran after its last start, is not all in a control group of its own:
    /// by what its monitor says, and by what was seen then.
    async fn outside(&self, context: &Context) -> Option<&'static str> {
        let group = context.control_group(&self.common.name);
        let lives = group.as_ref().is_some_and(ControlGroup::is_populated) || self.is_filled();
        let noted = off::started(context, &self.common);
        if noted == Some(Started::Partly) || lives || group.is_none() {
            return (noted == Some(Started::Partly)).then_some(PARTLY);
        }
        let asked = !self.monitor.is_empty() && missing(&self.monitor[0]).is_none();
        let runs = asked && self.look(context).await == Ok(Health::Running);
        (runs || noted == Some(Started::Outside)).then_some(OUTSIDE)
    }

    async fn findings(&self, context: &Context) -> Vec<Finding> {
        let name = &self.common.name;
        let programs = [
            ("start", &self.start),
            ("stop", &self.stop),
            ("monitor", &self.monitor),
            ("release", &self.release),
        ];
        let mut found: Vec<_> = programs
            .into_iter()
            .filter(|(_, argv)| !argv.is_empty())
            .filter_map(|(what, argv)| missing(&argv[0]).map(|why| format!("{what}: {why}")))
            .map(|why| error(name, why, "Install it on every node of the group."))
            .collect();
        if self.start.is_empty() {
            found.push(error(name, "there is no start program", "Name one."));
        }
        if let Err(failure) = self.user() {
            found.push(error(name, failure.why, failure.advice));
        }
        if let Some(group) = self.engines().iter().find(|group| group.has_this_process()) {
            let failure = off::of_ours(group);
            found.push(error(name, failure.why, failure.advice));
        }
        if self.engine.is_some() && context.cgroup.is_none() {
            let what = "without cgroup2 nothing would end what the engine runs with the lease";
            found.push(error(name, what, "Mount cgroup2."));
        }
        let outside = if self.release.is_empty() { self.outside(context).await } else { None };
        if let Some(outside) = outside {
            let advice = "Have the start program run it itself; or name the control group in which the engine that \
                          it asks runs it (control_group), or a program that takes it away: \
                          release = [\"/path/prog\"].";
            found.push(warning(name, outside, advice));
        }
        if context.cgroup.is_none() {
            let what = "there are no control groups (cgroup2) here, so what the programs leave \
                        behind cannot be found";
            found.push(warning(name, what, "Mount cgroup2."));
        }
        found
    }
}

/// Why a program cannot be run, if it cannot.
pub(super) fn missing(program: &str) -> Option<String> {
    let found = if program.contains('/') {
        process::find_in("/", program)
    } else {
        process::find_in(PATH, program)
    };
    found.is_none().then(|| format!("{program} is not here, or is not executable"))
}

impl Resource for Application {
    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.bring_up(context))
    }

    fn stop<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.take_down(context))
    }

    fn monitor<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        Box::pin(self.look(context))
    }

    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(self.findings(context))
    }
}
