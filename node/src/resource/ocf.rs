//! OCF agents: the hundreds of resources for which others wrote a script already.
//!
//! The convention: one argument, the action; parameters in the environment as `OCF_RESKEY_…`; the
//! outcome is the exit status, a sentence for people is on a line with a prefix. Supported are plain
//! agents (start, stop, monitor); promotable ones run unpromoted.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;
use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::model::RunOutcome;

use super::off::{self, Started, Stopping};
use super::{
    Common, Context, Detail, Failure, Health, Reach, Resource, application, error, warning,
};
use crate::process::{self, Program};

pub mod metadata;

use metadata::MetaData;

/// Where agents are installed.
const ROOT: &str = "/usr/lib/ocf";

/// Where agents keep their state; nobody else makes it when the machine boots without Pacemaker.
const STATE: &str = "/run/resource-agents";

/// What stands before the sentence for people.
const REASON: &str = "ocf-exit-reason:";

/// How long an agent may describe itself.
const DESCRIBE: Duration = Duration::from_secs(10);

/// Exit statuses of the convention.
mod status {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const GENERIC: i32 = 1;
    pub(super) const ARGUMENTS: i32 = 2;
    pub(super) const UNIMPLEMENTED: i32 = 3;
    pub(super) const INSTALLED: i32 = 5;
    pub(super) const CONFIGURED: i32 = 6;
    pub(super) const NOT_RUNNING: i32 = 7;
    pub(super) const PROMOTED: i32 = 8;
    pub(super) const DEGRADED: i32 = 190;
    pub(super) const DEGRADED_PROMOTED: i32 = 191;
}

/// See [`vedette_core::group::ResourceKind::Ocf`].
#[derive(Clone, Debug)]
pub(super) struct Ocf {
    pub(super) common: Common,
    pub(super) provider: String,
    pub(super) agent: String,
    pub(super) parameters: BTreeMap<String, String>,
    /// Takes away what is outside, without the agent; may be none.
    pub(super) release: Vec<String>,
}

/// What an agent is given in its environment for an action; nothing for another kind.
pub(super) fn variables(
    def: &ResourceDef,
    action: &str,
    time: Duration,
) -> BTreeMap<String, String> {
    let ResourceKind::Ocf { provider, agent, parameters, .. } = def.kind.clone() else {
        return BTreeMap::new();
    };
    let common = Common::of(def);
    Ocf { common, provider, agent, parameters, release: Vec::new() }.environment(action, time)
}

impl Ocf {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        make_state_directory();
        let place = context.place(&self.common.name)?;
        let place = place.map(|place| place.directory().to_owned());
        let outcome = self.act_in(place, context, "start", self.common.start).await;
        if !outcome.succeeded() {
            return Err(self.failed("start", &outcome));
        }
        off::note_start(context, &self.common, None);
        Ok(String::new())
    }

    async fn take_down(&self, context: &Context) -> Result<Detail, Failure> {
        make_state_directory();
        let stopping = Stopping::begin(context, &self.common, None);
        let outcome = self.act_in(stopping.place()?, context, "stop", self.common.stop).await;
        if !outcome.succeeded() {
            return Err(self.failed("stop", &outcome));
        }
        // By the convention a stop that succeeds is the proof; only a monitor that says the contrary counts.
        let ask = || async { Ok(self.look(context).await.unwrap_or(Health::NotRunning)) };
        stopping.see(Ok(()), Some(ask)).await
    }

    async fn look(&self, context: &Context) -> Result<Health, Failure> {
        let outcome = self.act(context, "monitor", self.common.monitor).await;
        match outcome.exit.filter(|_| !outcome.timed_out) {
            Some(
                status::SUCCESS | status::PROMOTED | status::DEGRADED | status::DEGRADED_PROMOTED,
            ) => {
                if let Some(group) = context.control_group(&self.common.name) {
                    off::note_place(context, &self.common, group.is_populated());
                }
                Ok(Health::Running)
            }
            Some(status::NOT_RUNNING) => {
                context.printed.note(&outcome.output);
                Ok(Health::NotRunning)
            }
            _ => Err(self.failed("monitor", &outcome)),
        }
    }

    /// An action that starts and ends nothing.
    async fn act(&self, context: &Context, action: &str, time: Duration) -> RunOutcome {
        self.act_in(None, context, action, time).await
    }

    /// An action, in a control group if it starts or ends something.
    async fn act_in(
        &self,
        place: Option<PathBuf>,
        context: &Context,
        action: &str,
        time: Duration,
    ) -> RunOutcome {
        let program =
            Program::new([self.path().to_string_lossy().into_owned(), action.into()], time)
                .keep_both_ends()
                .environment(context.variables(&self.common.name))
                .environment(self.environment(action, time))
                .cgroup(place)
                .dies_with_us();
        process::run(program).await
    }

    fn environment(&self, action: &str, time: Duration) -> BTreeMap<String, String> {
        let fixed = [
            ("LC_ALL", "C"),
            ("OCF_ROOT", ROOT),
            ("OCF_RA_VERSION_MAJOR", "1"),
            ("OCF_RA_VERSION_MINOR", "1"),
            ("OCF_EXIT_REASON_PREFIX", REASON),
            ("OCF_RESOURCE_INSTANCE", &self.common.name),
            ("OCF_RESOURCE_TYPE", &self.agent),
            ("OCF_RESOURCE_PROVIDER", &self.provider),
        ];
        let mut all: BTreeMap<String, String> =
            fixed.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        all.insert("OCF_RESKEY_CRM_meta_timeout".into(), time.as_millis().to_string());
        all.insert("OCF_RESKEY_CRM_meta_name".into(), action.into());
        for (name, value) in &self.parameters {
            // The depth of a check is the one parameter without the prefix.
            let bare = name == "OCF_CHECK_LEVEL";
            all.insert(
                if bare { name.clone() } else { format!("OCF_RESKEY_{name}") },
                value.clone(),
            );
        }
        all
    }

    fn path(&self) -> PathBuf {
        Path::new(ROOT).join("resource.d").join(&self.provider).join(&self.agent)
    }

    fn title(&self) -> String {
        format!("ocf:{}:{}", self.provider, self.agent)
    }

    fn failed(&self, action: &str, outcome: &RunOutcome) -> Failure {
        let title = self.title();
        if outcome.failure.is_some() || outcome.timed_out {
            return Failure::of_run(&format!("{action} of {title}"), outcome, self.install());
        }
        let (meaning, advice, reach) = meaning(outcome.exit);
        let reason = reason(&outcome.output).map(|why| format!(": {why}")).unwrap_or_default();
        let why = format!("{action} of {title}: {}, {meaning}{reason}", outcome.summary());
        Failure::new(why, advice).reaching(reach).with(&outcome.output)
    }

    fn install(&self) -> String {
        match self.path().exists() {
            true => "Try the agent by hand, or allow it more time.".into(),
            false => {
                "Install it on every node of the group: apt-get install resource-agents.".into()
            }
        }
    }

    async fn findings(&self, context: &Context) -> Vec<Finding> {
        let (name, title) = (&self.common.name, self.title());
        let plain = |text: &str| !text.is_empty() && text != ".." && !text.contains('/');
        if !plain(&self.provider) || !plain(&self.agent) {
            return vec![error(name, format!("{title} is no agent"), "Write ocf:provider:type.")];
        }
        let mut found = self.outside(context);
        if !self.path().exists() {
            let what = format!("the agent {title} is not installed here");
            found.push(error(name, what, self.install()));
            return found;
        }
        let outcome = self.act(context, "meta-data", DESCRIBE).await;
        if !outcome.succeeded() {
            let what = format!("the agent {title} does not describe itself: {}", outcome.summary());
            found.push(error(name, what, "Try its action meta-data by hand."));
            return found;
        }
        let described = MetaData::parse(&outcome.output);
        found.extend(self.parameters_against(&described));
        if described.actions.contains("promote") {
            let what =
                format!("{title} can be promoted, which is not supported: it runs unpromoted");
            found.push(warning(name, what, "Make sure that this is what you want."));
        }
        if described.actions.contains("validate-all") {
            found.extend(self.validated(context).await);
        }
        found
    }

    /// About what takes away what lives in no control group.
    fn outside(&self, context: &Context) -> Vec<Finding> {
        let name = &self.common.name;
        let missing = self.release.first().and_then(|program| application::missing(program));
        let mut found: Vec<_> = missing
            .map(|why| format!("release: {why}"))
            .map(|why| error(name, why, "Install it on every node of the group."))
            .into_iter()
            .collect();
        let started = off::started(context, &self.common);
        if self.release.is_empty() && started.is_some_and(Started::is_outside) {
            let advice = format!(
                "Name a program that takes it away, such as the agent itself: release = [\"{}\", \"stop\"].",
                self.path().display()
            );
            found.push(warning(name, application::OUTSIDE, advice));
        }
        found
    }

    fn parameters_against(&self, described: &MetaData) -> Vec<Finding> {
        let (name, title) = (&self.common.name, self.title());
        let known = |given: &&String| {
            described.parameters.contains_key(*given) || *given == "OCF_CHECK_LEVEL"
        };
        let unknown = self.parameters.keys().filter(|given| !known(given)).map(|given| {
            let what = format!("{title} has no parameter {given}");
            warning(name, what, format!("It has: {}.", described.words()))
        });
        let required = described.parameters.iter().filter(|(_, required)| **required);
        let missing = required.filter(|(given, _)| !self.parameters.contains_key(*given));
        let missing = missing.map(|(parameter, _)| {
            let what = format!("{title} needs the parameter {parameter}");
            error(name, what, format!("Give it under the resource's parameters: {parameter} = …"))
        });
        unknown.chain(missing).collect()
    }

    /// What the agent itself has against it. On a node that has not got the disk now, that may be
    /// more than matters; so only what is sure is an error.
    async fn validated(&self, context: &Context) -> Option<Finding> {
        let outcome = self.act(context, "validate-all", DESCRIBE).await;
        if outcome.succeeded() || outcome.exit == Some(status::UNIMPLEMENTED) {
            return None;
        }
        let failure = self.failed("validate-all", &outcome);
        let found = match failure.reach {
            Reach::Attempt => warning,
            Reach::Node | Reach::Cluster => error,
        };
        Some(found(&self.common.name, failure.why, failure.advice))
    }
}

/// What an exit status says: in words, what would help, how far it reaches.
fn meaning(exit: Option<i32>) -> (&'static str, &'static str, Reach) {
    match exit {
        Some(status::ARGUMENTS) => {
            ("the agent was called wrongly", "Check its parameters.", Reach::Node)
        }
        Some(status::UNIMPLEMENTED) => {
            ("the agent cannot do that", "Choose another agent.", Reach::Node)
        }
        Some(4) => ("it is not allowed", "Check permissions on this node.", Reach::Node),
        Some(status::INSTALLED) => (
            "something that it needs is not installed",
            "Install it on every node of the group.",
            Reach::Node,
        ),
        Some(status::CONFIGURED) => {
            ("its parameters are wrong", "Correct the resource's parameters.", Reach::Cluster)
        }
        Some(status::NOT_RUNNING) => ("it does not run", "See what it printed.", Reach::Attempt),
        Some(9) => ("it failed while promoted", "See what it printed.", Reach::Attempt),
        Some(status::GENERIC) => ("it failed", "See what it printed.", Reach::Attempt),
        _ => ("which the convention does not know", "See what it printed.", Reach::Attempt),
    }
}

/// The sentence for people, if the agent gave one; the last counts.
fn reason(output: &str) -> Option<&str> {
    let sentences = output.lines().filter_map(|line| line.trim().strip_prefix(REASON));
    sentences.map(str::trim).rfind(|sentence| !sentence.is_empty())
}

/// As the package's `tmpfiles.d` has it. That it fails shows in what the agent says.
fn make_state_directory() {
    if Path::new(STATE).is_dir() {
        return;
    }
    if std::fs::DirBuilder::new().mode(0o1755).create(STATE).is_ok() {
        // The mask of the agent may have taken something from the mode.
        let _ = std::fs::set_permissions(STATE, std::fs::Permissions::from_mode(0o1755));
    }
}

impl Resource for Ocf {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hard: not again on this node. Fatal: nowhere.
    #[test]
    fn exit_statuses_reach_as_far_as_the_convention_says() {
        let reach = |status| meaning(Some(status)).2;
        assert_eq!([1, 7, 9, 42].map(reach), [Reach::Attempt; 4]);
        assert_eq!([2, 3, 4, 5].map(reach), [Reach::Node; 4]);
        assert_eq!(reach(6), Reach::Cluster);
    }

    #[test]
    fn the_last_reason_counts() {
        let output = "x\nocf-exit-reason:first\nocf-exit-reason: disk is full \nERROR: y\n";
        assert_eq!(reason(output), Some("disk is full"));
        assert_eq!(reason("ocf-exit-reason:\n"), None);
    }
}
