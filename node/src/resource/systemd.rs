//! Services that systemd starts: `kind = "systemd"`, a unit as it is installed.
//!
//! Its processes live in the unit's own control group, which the guard ends with the lease ([`crate::hold`]),
//! whatever became of systemd and the agent. A [`drop_in`] sees to it that it stays down then, and that nothing
//! but the cluster starts it.
//!
//! systemd is spoken to by `systemctl` and not over D-Bus by a library: as root it speaks to the manager
//! directly and needs no message bus, it fits the systemd that is installed, and a hanging one is ended like any
//! program; a library would bring some thirty crates.
//!
//! Invariants:
//! - It is started only where its group's control group is: a start that comes after the end of the lease
//!   starts nothing.
//! - It is off only if systemd says inactive or failed *and* no process of it is alive.

mod drop_in;
mod properties;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use vedette_core::document::Finding;
use vedette_core::model::RunOutcome;

use super::{Common, Context, Detail, Failure, Health, Reach, Resource, error, warning};
use crate::cgroup::{ControlGroup, of_unit};
use crate::process::{self, Program};
use properties::{Activity, Properties, WANTED};

/// How long systemd may take to read its units again.
const RELOAD: Duration = Duration::from_secs(30);

/// How long killed processes may take to go, and systemd to notice.
const END: Duration = Duration::from_secs(5);

/// Between two looks at what was just ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One at a time writes drop-ins: whoever comes second finds them in force.
static WRITING: Mutex<()> = Mutex::const_new(());

/// See [`vedette_core::group::ResourceKind::Systemd`].
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) common: Common,
    pub(super) unit: String,
}

impl Unit {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        let place = self.place(context)?;
        let mut now = self.show().await?;
        if let Some((why, advice)) = now.unfit(&self.unit) {
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        }
        now = self.belongs_to(&place, now).await?;
        if now.activity() == Some(Activity::Active) {
            return self.is_held(&now).map(|()| "runs already".into());
        }
        if now.get("ActiveState") == "failed" {
            // How often it failed is counted by the cluster; systemd would refuse to start it at some time.
            systemctl(&["reset-failed", &self.unit], self.common.monitor).await;
        }
        let outcome = systemctl(&["start", &self.unit], self.common.start).await;
        if !outcome.succeeded() {
            return Err(self.failed("systemd could not start", &outcome));
        }
        let mut now = self.show().await?;
        if now.activity() == Some(Activity::Active) && self.is_held(&now).is_err() {
            // One that ends at once takes its control group with it between the two looks.
            now = self.show().await?;
        }
        match now.activity() {
            Some(Activity::Active) => self.is_held(&now).map(|()| Detail::new()),
            _ => Err(self.not_started(&place, &now)),
        }
    }

    /// The directory that has to be there for the unit to start.
    fn place(&self, context: &Context) -> Result<PathBuf, Failure> {
        let Some(group) = context.group_directory() else {
            let why = format!("without cgroup2 nothing would end {} with the lease", self.unit);
            return Err(Failure::new(why, "Mount cgroup2.").reaching(Reach::Node));
        };
        if group.directory().is_dir() {
            Ok(group.directory().to_owned())
        } else {
            Err(taken_away())
        }
    }

    /// Sees to it that the unit's drop-in is in force.
    async fn belongs_to(&self, place: &Path, now: Properties) -> Result<Properties, Failure> {
        let in_force = |now: &Properties| {
            let path = drop_in::path(&self.unit);
            now.get("DropInPaths").split(' ').any(|there| Path::new(there) == path)
        };
        let _one = WRITING.lock().await;
        let written = drop_in::write(&self.unit, place).map_err(|error| not_written(&error))?;
        if !written && in_force(&now) {
            return Ok(now);
        }
        reload().await?;
        let now = self.show().await?;
        if in_force(&now) {
            return Ok(now);
        }
        let path = drop_in::path(&self.unit);
        let why = format!("systemd does not read {}, which gives it the unit", path.display());
        let advice = format!("See which files it reads: systemctl cat {}.", self.unit);
        Err(Failure::new(why, advice).reaching(Reach::Node))
    }

    /// Its control group is one that the guard finds, if it has one.
    fn is_held(&self, now: &Properties) -> Result<(), Failure> {
        let reported = now.get("ControlGroup").trim_start_matches('/');
        let found = of_unit(&self.unit);
        if reported.is_empty() || found.iter().any(|group| group.directory().ends_with(reported)) {
            return Ok(());
        }
        let why = format!(
            "{} runs in the control group /{reported}, where the guard would not find it when the lease ends",
            self.unit
        );
        let advice = "Let it run in a slice of the system (Slice=), and systemd with cgroup2.";
        Err(Failure::new(why, advice).reaching(Reach::Node))
    }

    fn not_started(&self, place: &Path, now: &Properties) -> Failure {
        if !place.is_dir() {
            return taken_away();
        }
        let (unit, advice) = (&self.unit, format!("See why: systemctl status {}.", self.unit));
        if now.get("ConditionResult") == "no" {
            let why = format!("systemd started nothing: a condition of {unit} was not met");
            return Failure::new(why, advice).reaching(Reach::Node);
        }
        Failure::new(format!("{unit} ended at once: {}", now.words()), advice)
    }

    async fn take_down(&self) -> Result<Detail, Failure> {
        let outcome = systemctl(&["stop", &self.unit], self.common.stop).await;
        let said = match outcome.succeeded() {
            true => Ok(()),
            false => Err(self.failed("systemd could not stop", &outcome)),
        };
        // Where systemd hangs its processes can be ended all the same.
        let (until, mut killed) = (Instant::now() + END, false);
        loop {
            for group in self.alive() {
                killed = true;
                group.kill().map_err(|error| self.not_killed(&error))?;
            }
            let shown = self.show().await;
            let off = match &shown {
                Ok(now) => now.activity() == Some(Activity::Inactive),
                Err(_) => false,
            };
            if off && self.alive().is_empty() {
                return Ok(done(said, killed));
            }
            if Instant::now() >= until {
                return Err(self.still_there(said, shown));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn alive(&self) -> Vec<ControlGroup> {
        of_unit(&self.unit).into_iter().filter(ControlGroup::is_populated).collect()
    }

    fn not_killed(&self, error: &std::io::Error) -> Failure {
        let why = format!("processes of {} cannot be killed: {error}", self.unit);
        Failure::new(why, "The agent has to be root.").reaching(Reach::Node)
    }

    fn still_there(
        &self,
        said: Result<(), Failure>,
        shown: Result<Properties, Failure>,
    ) -> Failure {
        let what = said.err().map(|failure| format!("{}, and ", failure.why)).unwrap_or_default();
        let left: Vec<_> = self
            .alive()
            .iter()
            .flat_map(ControlGroup::processes)
            .map(|it| it.to_string())
            .collect();
        let advice = format!("Stop it by hand on this node. {}", self.look_at());
        let why = match shown {
            _ if !left.is_empty() => {
                format!(
                    "processes of {} do not end although they were killed: {}",
                    self.unit,
                    left.join(", ")
                )
            }
            Ok(now) => format!("{} is still {}", self.unit, now.words()),
            Err(silent) => format!("nobody can tell whether {} is off: {}", self.unit, silent.why),
        };
        Failure::new(format!("{what}{why}"), advice).reaching(Reach::Node)
    }

    async fn look(&self) -> Result<Health, Failure> {
        let now = self.show().await?;
        let alive = !self.alive().is_empty();
        match now.activity() {
            Some(Activity::Active) => Ok(Health::Running),
            Some(Activity::Inactive) if !alive => Ok(Health::NotRunning),
            _ => {
                let left = if alive { ", and processes of it are alive" } else { "" };
                let why = format!("{} is {}{left}", self.unit, now.words());
                Err(Failure::new(why, self.look_at()))
            }
        }
    }

    fn look_at(&self) -> String {
        format!("See what it says: journalctl --unit {}.", self.unit)
    }

    /// What systemd says of it.
    async fn show(&self) -> Result<Properties, Failure> {
        let outcome = systemctl(&["show", WANTED, &self.unit], self.common.monitor).await;
        let said = Properties::parse(&outcome.output);
        if outcome.succeeded() && said.activity().is_some() {
            return Ok(said);
        }
        let advice =
            "See whether systemd runs this machine and answers: systemctl is-system-running.";
        Err(Failure::of_run("systemd does not answer", &outcome, advice).reaching(Reach::Node))
    }

    /// The first line says why; the last one says where to look, which the advice does.
    fn failed(&self, what: &str, outcome: &RunOutcome) -> Failure {
        let first = outcome.output.lines().find(|line| !line.trim().is_empty());
        let said = first.map(|line| format!(" ({})", line.trim())).unwrap_or_default();
        let reach = if outcome.failure.is_some() { Reach::Node } else { Reach::Attempt };
        let why = format!("{what} {}: {}{said}", self.unit, outcome.summary());
        Failure::new(why, self.look_at()).with(outcome.output.clone()).reaching(reach)
    }

    async fn findings(&self, context: &Context) -> Vec<Finding> {
        let (name, unit) = (&self.common.name, &self.unit);
        let mut found = Vec::new();
        if context.cgroup.is_none() {
            let what = format!("without cgroup2 nothing would end {unit} with the lease");
            found.push(error(name, what, "Mount cgroup2."));
        }
        let now = match self.show().await {
            Ok(now) => now,
            Err(failure) => {
                found.push(error(name, failure.why, failure.advice));
                return found;
            }
        };
        if let Some((what, advice)) = now.unfit(unit) {
            found.push(error(name, what, advice));
            return found;
        }
        if now.get("UnitFileState").starts_with("enabled") {
            let what = format!(
                "{unit} is enabled: at boot systemd starts it before the cluster says where it runs"
            );
            found.push(warning(
                name,
                what,
                format!("Leave its start to the cluster: systemctl disable {unit}."),
            ));
        }
        let others = now.get("TriggeredBy");
        if !others.is_empty() {
            let what = format!(
                "{others} would start {unit}, and is there on nodes that do not have the group"
            );
            let advice = format!("Turn it off on every node: systemctl disable --now {others}.");
            found.push(warning(name, what, advice));
        }
        found
    }
}

fn taken_away() -> Failure {
    let why = "the group's place was taken away: this node's lease is over";
    Failure::new(why, "Nothing needs to be done.")
}

fn not_written(error: &std::io::Error) -> Failure {
    let why = format!("no unit can be given to its group in /run/systemd/system: {error}");
    let advice =
        "See that systemd runs this machine, that the agent is root, and that /run is writable.";
    Failure::new(why, advice).reaching(Reach::Node)
}

fn done(said: Result<(), Failure>, killed: bool) -> Detail {
    match (said, killed) {
        (Err(failure), true) => format!("its processes were killed, as {}", failure.why),
        (Err(failure), false) => format!("it does not run, although {}", failure.why),
        (Ok(()), true) => "what its stop left was killed".into(),
        (Ok(()), false) => Detail::new(),
    }
}

/// Gives units to their groups, each with its group's control group, and takes back those below `root` that are
/// no resources any more.
///
/// # Errors
/// A drop-in cannot be written, or systemd does not take it.
pub async fn keep(wanted: &BTreeMap<String, PathBuf>, root: &Path) -> Result<(), Failure> {
    let _one = WRITING.lock().await;
    let mut changed = drop_in::remove_others(wanted, root).map_err(|error| not_written(&error))?;
    for (unit, place) in wanted {
        changed |= drop_in::write(unit, place).map_err(|error| not_written(&error))?;
    }
    if changed { reload().await } else { Ok(()) }
}

async fn reload() -> Result<(), Failure> {
    let outcome = systemctl(&["daemon-reload"], RELOAD).await;
    if outcome.succeeded() {
        return Ok(());
    }
    let advice = "See whether systemd runs this machine and answers: systemctl is-system-running.";
    Err(Failure::of_run("systemd did not read its units again", &outcome, advice)
        .reaching(Reach::Node))
}

async fn systemctl(arguments: &[&str], time: Duration) -> RunOutcome {
    let argv = ["systemctl", "--no-pager", "--no-ask-password"].iter().chain(arguments);
    process::run(Program::new(argv.copied(), time).dies_with_us()).await
}

impl Resource for Unit {
    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.bring_up(context))
    }

    fn stop<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.take_down())
    }

    fn monitor<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        Box::pin(self.look())
    }

    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(self.findings(context))
    }
}
