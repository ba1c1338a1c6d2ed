//! Application servers (spec H25): programs of the site that start, stop and look.
//!
//! The start program ends when the application runs; what it leaves behind lives in a control group
//! of its own, whatever it does to its session and parents. So "is it off?" has an answer that no
//! program can get wrong, and what the stop program forgot is ended.
//!
//! What the application prints goes to a file, because it outlives the agent, and a pipe would not.
//! The file is emptied when it has grown.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;

use super::{Common, Context, Detail, Failure, Health, Reach, Resource, error, file_name, warning};
use crate::cgroup::ControlGroup;
use crate::process::{self, PATH, Program, User};

/// The longest that what the application printed may become.
const MOST_OUTPUT: u64 = 1 << 20;

/// How long killed processes may take to go. One that hangs in the kernel takes longer.
const END: Duration = Duration::from_secs(5);

/// See [`vedette_core::group::ResourceKind::Application`].
#[derive(Clone, Debug)]
pub(super) struct Application {
    pub(super) common: Common,
    pub(super) start: Vec<String>,
    pub(super) stop: Vec<String>,
    pub(super) monitor: Vec<String>,
    pub(super) user: Option<String>,
}

impl Application {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        if self.look(context).await == Ok(Health::Running) {
            return Ok("runs already".into());
        }
        let group = context.place(&self.common.name)?;
        let program = self.program(context, &self.start, self.common.start)?;
        let program = program.output_to(self.log(context)?);
        let outcome = process::run(program).await;
        if !outcome.succeeded() {
            let advice = "Try the start program by hand; it has to end with status 0.";
            return Err(Failure::of_run("the start program failed", &outcome, advice));
        }
        let lives = group.is_none_or(|group| group.is_populated());
        if self.monitor.is_empty() && !lives {
            let why = "the start program ended well, but none of its processes is alive";
            return Err(Failure::new(why, "See what it printed.").with(outcome.output));
        }
        Ok(String::new())
    }

    async fn take_down(&self, context: &Context) -> Result<Detail, Failure> {
        let said = self.run_stop(context).await;
        let Some(group) = context.control_group(&self.common.name) else {
            return said.map(|()| String::new());
        };
        let left = group.is_populated();
        match group.end(END).await {
            // Whatever the stop program said, nothing is left.
            Ok(true) => Ok(match (said, left) {
                (Err(failure), _) => format!("its processes were killed, as {}", failure.why),
                (Ok(()), true) => "what the stop program left was killed".into(),
                (Ok(()), false) => String::new(),
            }),
            Ok(false) => Err(not_ending(&group)),
            Err(error) => {
                let why = format!("what runs cannot be killed: {error}");
                Err(Failure::new(why, "The agent has to be root.").reaching(Reach::Node))
            }
        }
    }

    /// What was never started has nothing to be stopped.
    async fn run_stop(&self, context: &Context) -> Result<(), Failure> {
        let group = context.control_group(&self.common.name);
        let off = group.as_ref().is_some_and(|group| !group.is_populated());
        if self.stop.is_empty() || off && self.monitor.is_empty() {
            return Ok(());
        }
        if let Some(group) = &group {
            group.make().map_err(|error| no_group(group, &error))?;
        }
        let program = self.program(context, &self.stop, self.common.stop)?;
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
        let lives = group.is_some_and(|group| group.is_populated());
        if self.monitor.is_empty() {
            return Ok(if lives { Health::Running } else { Health::NotRunning });
        }
        // Not in the application's group: it would be killed with it, and counted as part of it.
        let argv = self.monitor.iter().map(String::as_str);
        let program = self.plain(context, argv, self.common.monitor)?;
        let outcome = process::run(program.dies_with_us()).await;
        match (outcome.succeeded(), lives) {
            (true, _) => Ok(Health::Running),
            (false, false) if outcome.exit.is_some() => Ok(Health::NotRunning),
            _ => {
                let advice = "Its processes are there, but it does not work.";
                Err(Failure::of_run("the monitor says that it does not work", &outcome, advice))
            }
        }
    }

    fn program(
        &self,
        context: &Context,
        argv: &[String],
        time: Duration,
    ) -> Result<Program, Failure> {
        let group = context.control_group(&self.common.name);
        let group = group.map(|group| group.directory().to_owned());
        Ok(self.plain(context, argv.iter().map(String::as_str), time)?.cgroup(group))
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

    fn findings(&self, context: &Context) -> Vec<Finding> {
        let name = &self.common.name;
        let programs = [("start", &self.start), ("stop", &self.stop), ("monitor", &self.monitor)];
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
        if context.cgroup.is_none() {
            let what = "there are no control groups (cgroup2) here, so what the programs leave \
                        behind cannot be found";
            found.push(warning(name, what, "Mount cgroup2."));
        }
        found
    }
}

/// Why a program cannot be run, if it cannot.
fn missing(program: &str) -> Option<String> {
    let found = if program.contains('/') {
        process::find_in("/", program)
    } else {
        process::find_in(PATH, program)
    };
    found.is_none().then(|| format!("{program} is not here, or is not executable"))
}

fn no_group(group: &ControlGroup, error: &std::io::Error) -> Failure {
    let why = format!("its control group {} cannot be made: {error}", group.directory().display());
    Failure::new(why, "The agent has to be root, and cgroup2 writable.").reaching(Reach::Node)
}

fn not_ending(group: &ControlGroup) -> Failure {
    let left: Vec<_> = group.processes().iter().map(i32::to_string).collect();
    let why = format!("processes do not end although they were killed: {}", left.join(", "));
    let advice = "They hang in the kernel, mostly at a disk that does not answer; repair it, or \
                  fence the node.";
    Failure::new(why, advice).reaching(Reach::Node)
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
        Box::pin(async move { self.findings(context) })
    }
}
