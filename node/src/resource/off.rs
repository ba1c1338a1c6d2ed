//! Whether what programs of the site stop is off: the rule for every kind that is stopped by a program.
//!
//! A stop program that ends well has said something, not shown it, and an empty control group is no proof
//! of what never had a process in it: a service that systemd or a container engine started lives
//! elsewhere. So the resource itself is asked after its stop, and the control group counts where its
//! processes were seen to live there. What nobody can tell is not off: the group stays where it is, in
//! ERROR, until an operator comes (spec H25; invariant "released means seen to be released").
//!
//! Stop programs run in a control group of their own, beside that of their group: the guard takes that one
//! away when the lease ends, which is when stopping matters most.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::interrupted::has_strays;
use super::{Common, Context, Detail, Failure, Health, Reach, file_name};
use crate::cgroup::{ControlGroup, of_engine};

/// How long killed processes may take to go. One that hangs in the kernel takes longer.
const END: Duration = Duration::from_secs(5);

/// Between two looks at what was just told to stop.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A resource that is being stopped.
pub(super) struct Stopping<'a> {
    context: &'a Context,
    common: &'a Common,
    until: Instant,
    /// Its control group, where there are any.
    group: Option<ControlGroup>,
    /// Those that an engine fills for it.
    engine: Vec<ControlGroup>,
    /// Its processes live, or lived at its last start, in its control group.
    inside: bool,
}

impl<'a> Stopping<'a> {
    /// Looks at where its processes are, before anything is stopped.
    pub(super) fn begin(context: &'a Context, common: &'a Common, engine: Option<&str>) -> Self {
        let group = context.control_group(&common.name);
        let engine = engine.map(of_engine).unwrap_or_default();
        let lives = group.iter().chain(&engine).any(ControlGroup::is_populated);
        let noted = started(context, common);
        let inside = (lives && noted != Some(Started::Partly)) || noted == Some(Started::Inside);
        Self { context, common, until: Instant::now() + common.stop, group, engine, inside }
    }

    /// Whether none of its processes is in its control groups, where there are control groups.
    pub(super) fn is_empty(&self) -> bool {
        self.group.is_some()
            && !self.group.iter().chain(&self.engine).any(ControlGroup::is_populated)
    }

    /// The place for the stop program.
    ///
    /// # Errors
    /// It cannot be made: the agent is not root, or the control groups are read-only.
    pub(super) fn place(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(place) = self.context.stop_group(&self.common.name) else { return Ok(None) };
        place.make().map_err(|error| {
            let shown = place.directory().display();
            let why = format!("the control group {shown} cannot be made: {error}");
            let advice = "The agent has to be root, and cgroup2 writable.";
            Failure::new(why, advice).reaching(Reach::Node)
        })?;
        Ok(Some(place.directory().to_owned()))
    }

    /// Ends what is left, and sees whether it is off: `said` is what became of the stop program, and `ask`
    /// looks at the resource, if there is a way to.
    pub(super) async fn see<Ask, Asking>(
        self,
        said: Result<(), Failure>,
        ask: Option<Ask>,
    ) -> Result<Detail, Failure>
    where
        Ask: Fn() -> Asking,
        Asking: Future<Output = Result<Health, Failure>>,
    {
        if let Some(place) = self.context.stop_group(&self.common.name) {
            ended(&place).await?;
            // The one above it goes too, unless another stop program is in it.
            place.directory().parent().map(ControlGroup::at).iter().for_each(ControlGroup::remove);
        }
        let mut killed = match &self.group {
            Some(group) => ended(group).await?,
            None => false,
        };
        killed |= emptied(&self.engine).await?;
        let shown = match ask {
            Some(ask) => Some(self.ask(ask).await),
            None => None,
        };
        let done = conclude(said, killed, self.inside, shown);
        if done.is_ok() {
            forget(self.context, self.common);
        }
        done
    }

    /// Asks until it is off, as long as a stop may take: it was told a moment ago.
    async fn ask<Asking>(&self, ask: impl Fn() -> Asking) -> Result<Health, Failure>
    where
        Asking: Future<Output = Result<Health, Failure>>,
    {
        loop {
            let shown = ask().await;
            if shown == Ok(Health::NotRunning) || Instant::now() + ASK_AGAIN >= self.until {
                return shown;
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

/// The rule itself: `killed` if something was left in the control group, `inside` if all that runs of it
/// lived there, `shown` is what the resource says, if it can be asked.
fn conclude(
    said: Result<(), Failure>,
    killed: bool,
    inside: bool,
    shown: Option<Result<Health, Failure>>,
) -> Result<Detail, Failure> {
    match shown {
        Some(Ok(Health::Running)) => return Err(still_runs(said)),
        Some(Err(silent)) if !inside => return Err(nobody_knows(said, &silent)),
        Some(_) => {}
        // Nobody but the stop program can tell, and it says that it failed.
        None if !inside => said.clone()?,
        None => {}
    }
    Ok(match (said, killed) {
        (Err(failure), true) => format!("its processes were killed, as {}", failure.why),
        (Err(failure), false) => format!("it does not run, although {}", failure.why),
        (Ok(()), true) => "what the stop program left was killed".into(),
        (Ok(()), false) => String::new(),
    })
}

fn still_runs(said: Result<(), Failure>) -> Failure {
    let (what, output) = match said {
        Ok(()) => ("it was stopped without a failure".to_owned(), String::new()),
        Err(failure) => (failure.why, failure.output),
    };
    let why = format!("{what}, but the monitor says that it still runs");
    let advice = "Stop it by hand on this node.";
    Failure::new(why, advice).with(output).reaching(Reach::Node)
}

fn nobody_knows(said: Result<(), Failure>, silent: &Failure) -> Failure {
    let what = said.err().map(|failure| format!("{}, and ", failure.why)).unwrap_or_default();
    let why = format!(
        "{what}nobody can tell whether it still runs: nothing of it is in its control group, and {}",
        silent.why
    );
    let advice = "See on this node that it is off, and mend its monitor.";
    Failure::new(why, advice).with(silent.output.clone()).reaching(Reach::Node)
}

/// Kills what is in a control group of ours, which goes with it, and says whether anything was.
async fn ended(group: &ControlGroup) -> Result<bool, Failure> {
    let left = group.is_populated();
    seen_empty(group, left, group.end(END).await)
}

/// Kills what an engine runs until that stays away, and says whether anything was there.
async fn emptied(groups: &[ControlGroup]) -> Result<bool, Failure> {
    if let Some(group) = groups.iter().find(|group| group.has_this_process()) {
        return Err(of_ours(group));
    }
    let (mut left, until) = (false, Instant::now() + END);
    while !groups.is_empty() {
        for group in groups {
            let (there, first) = (group.is_populated(), group.processes());
            match group.empty(END).await {
                // All of them ended, and others are there: an engine that is faster than each look.
                Ok(false) if group.processes().iter().all(|it| !first.contains(it)) => {
                    return Err(comes_back(group));
                }
                said => left |= seen_empty(group, there, said)?,
            }
        }
        sleep(ASK_AGAIN).await;
        match groups.iter().find(|group| group.is_populated()) {
            None => break,
            Some(group) if Instant::now() >= until => return Err(comes_back(group)),
            Some(_) => {}
        }
    }
    Ok(left)
}

fn comes_back(group: &ControlGroup) -> Failure {
    let why = format!(
        "what runs in the control group {} comes back as often as it is killed",
        group.directory().display()
    );
    let advice = "Tell the engine not to restart it (docker update --restart=no NAME): the cluster does that.";
    Failure::new(why, advice).reaching(Reach::Node)
}

/// A control group in which the daemon itself lives.
pub(super) fn of_ours(group: &ControlGroup) -> Failure {
    let why = format!(
        "{} cannot be ended: this node's own daemon lives in it",
        group.directory().display()
    );
    let advice = "Give the resource a control group of its own (control_group).";
    Failure::new(why, advice).reaching(Reach::Cluster)
}

fn seen_empty(
    group: &ControlGroup,
    left: bool,
    ended: std::io::Result<bool>,
) -> Result<bool, Failure> {
    match ended {
        Ok(true) => Ok(left),
        Ok(false) => {
            let left: Vec<_> = group.processes().iter().map(i32::to_string).collect();
            let left = left.join(", ");
            let why = format!("processes do not end although they were killed: {left}");
            let advice = "They hang in the kernel, mostly at a disk that does not answer; repair it, \
                          or fence the node.";
            Err(Failure::new(why, advice).reaching(Reach::Node))
        }
        Err(error) => {
            let why = format!("what runs cannot be killed: {error}");
            Err(Failure::new(why, "The agent has to be root.").reaching(Reach::Node))
        }
    }
}

/// Where the processes of a resource were after its last start here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// In its control group: the end of the lease ends them.
    Inside,
    /// Somewhere else: nothing but its stop program ends them.
    Outside,
    /// Some of them there, and some somewhere else.
    Partly,
}

impl Started {
    /// Whether the end of the lease does not end all of it.
    pub(super) const fn is_outside(self) -> bool {
        matches!(self, Self::Outside | Self::Partly)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Inside => "inside\n",
            Self::Outside => "outside\n",
            Self::Partly => "partly\n",
        }
    }
}

fn note(context: &Context, common: &Common) -> PathBuf {
    let name = format!("{}.{}.started", file_name(&context.group), file_name(&common.name));
    context.run.join(name)
}

/// Where it was started, if that was noted and is not over.
pub(super) fn started(context: &Context, common: &Common) -> Option<Started> {
    let noted = std::fs::read_to_string(note(context, common)).ok()?;
    let all = [Started::Inside, Started::Outside, Started::Partly];
    all.into_iter().find(|it| it.word() == noted)
}

/// Notes where its processes are now that it was started.
pub(super) fn note_start(
    context: &Context,
    common: &Common,
    engine: Option<&str>,
) -> Option<Started> {
    let mut groups = engine.map(of_engine).unwrap_or_default();
    groups.push(context.control_group(&common.name)?);
    let lives = groups.iter().any(ControlGroup::is_populated);
    let started = match lives {
        false => Started::Outside,
        true if has_strays(context, &groups) => Started::Partly,
        true => Started::Inside,
    };
    // Without the note a stop asks for more evidence, never for less.
    if let Err(error) = std::fs::write(note(context, common), started.word()) {
        tracing::warn!(%error, resource = common.name, "where it runs cannot be noted");
    }
    Some(started)
}

/// Notes it again where that has changed: what was started may leave its control group later.
pub(super) fn note_place(context: &Context, common: &Common, lives: bool) {
    let found = match started(context, common) {
        // Where the others are nobody looks again.
        Some(Started::Partly) if lives => return,
        _ if lives => Started::Inside,
        _ => Started::Outside,
    };
    if started(context, common).is_some_and(|noted| noted != found) {
        if !lives {
            tracing::warn!(
                resource = common.name,
                "none of its processes is in its control group any more"
            );
        }
        let _ = std::fs::write(note(context, common), found.word());
    }
}

fn forget(context: &Context, common: &Common) {
    // Not there is as good.
    let _ = std::fs::remove_file(note(context, common));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(why: &str) -> Failure {
        Failure::new(why, "")
    }

    fn stop_failed() -> Result<(), Failure> {
        Err(failed("the stop program failed: exit status 1"))
    }

    /// Whatever else is known: the resource's own word that it runs is the last.
    #[test]
    fn what_says_that_it_runs_is_not_off() {
        for said in [Ok(()), stop_failed()] {
            for killed in [false, true] {
                for inside in [false, true] {
                    let running = Some(Ok(Health::Running));
                    let failure = conclude(said.clone(), killed, inside, running).unwrap_err();
                    assert!(failure.why.ends_with("says that it still runs"), "{failure}");
                }
            }
        }
    }

    #[test]
    fn silence_is_an_answer_only_of_what_lived_in_its_control_group() {
        let silent = || Some(Err(failed("the monitor did not end within 10 s")));
        let failure = conclude(Ok(()), false, false, silent()).unwrap_err();
        assert!(failure.why.starts_with("nobody can tell whether it still runs"), "{failure}");
        let failure = conclude(stop_failed(), false, false, silent()).unwrap_err();
        assert!(failure.why.starts_with("the stop program failed: exit status 1, and nobody"));
        assert_eq!(conclude(Ok(()), false, true, silent()), Ok(String::new()));
        assert!(conclude(stop_failed(), true, true, silent()).is_ok());
    }

    #[test]
    fn a_stop_program_that_fails_is_believed_where_nobody_else_can_tell() {
        assert!(conclude(stop_failed(), false, false, None).is_err());
        let killed = conclude(stop_failed(), true, true, None).unwrap();
        assert_eq!(killed, "its processes were killed, as the stop program failed: exit status 1");
        let off = conclude(stop_failed(), false, false, Some(Ok(Health::NotRunning)));
        assert_eq!(
            off.unwrap(),
            "it does not run, although the stop program failed: exit status 1"
        );
    }
}
