//! Starts and stops that an agent had begun when it died: the next one ends them before it looks at anything.
//!
//! A start program that still runs is not the service, though it is in the service's control group; and beside it
//! another one would be started as soon as the monitor says that nothing runs. What came of one that nobody saw the end of
//! nobody knows. So each operation leaves a mark while it lasts: a file with its number, which its programs
//! have in their environment. A mark that an agent finds when it starts is that of an earlier one: whatever has its
//! number is killed, and whatever is in its control group, and then the operation is done anew, if it is still wanted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::{Context, Failure, Reach, file_name};
use crate::cgroup::ControlGroup;

/// What tells the programs of an operation, in their environment.
const VARIABLE: &str = "VEDETTE_OPERATION";

/// The end of the names of marks, which are otherwise made of group and resource.
const MARK: &str = "under_way";

/// How long what was killed may take to be gone.
const END: Duration = Duration::from_secs(5);

/// Between two looks at it.
const AGAIN: Duration = Duration::from_millis(20);

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It starts a resource.
    Start,
    /// It stops one.
    Stop,
}

impl Operation {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// An operation that is under way, as long as it is not dropped. It has no mark if that could not be written.
#[derive(Debug)]
pub struct UnderWay(Option<PathBuf>);

impl UnderWay {
    /// Marks one, and has its programs carry its number.
    ///
    /// # Errors
    /// One of an earlier agent has not ended although it was killed, or the mark of a start cannot be written. A stop goes
    /// on without one: that nobody would know of it later is less bad than what is not stopped now.
    pub fn begin(
        context: &mut Context,
        resource: &str,
        operation: Operation,
    ) -> Result<Self, Failure> {
        let path = path(&context.run, &context.group, resource);
        if Mark::read(path.clone()).is_some_and(|mark| mark.operation.is_some()) {
            let why =
                "a program that an earlier agent had begun does not end although it was killed";
            let advice = "It hangs in the kernel; repair what it waits for, then restart vedette on this node.";
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        }
        let number = number();
        let content = format!("{}\n{number}\n", operation.word());
        if let Err(error) = std::fs::write(&path, content) {
            // A full disk has room for a name.
            let _ = std::fs::remove_file(&path);
            let why = format!("{} cannot be written: {error}", path.display());
            if operation == Operation::Start {
                let advice = "Look after that directory.";
                return Err(Failure::new(why, advice).reaching(Reach::Node));
            }
            tracing::warn!("a stop goes on without its mark: {why}");
            return Ok(Self(None));
        }
        context.environment.insert(VARIABLE.into(), number);
        Ok(Self(Some(path)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Left there, it would be taken for one that did not end.
        let Some(path) = &self.0 else { return };
        if let Err(error) = std::fs::remove_file(path) {
            tracing::error!(%error, mark = %path.display(), "cannot be removed");
        }
    }
}

/// What became of an operation of an earlier agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// What it was, such as `start of web.httpd`.
    pub what: String,
    /// Whether something of it still ran.
    pub ran: bool,
    /// Whether nothing of it does any more.
    pub ended: bool,
}

/// Ends all that earlier agents of this node had begun, side by side; `cgroup` as in [`Context`].
pub async fn end_all(run: &Path, cgroup: Option<&Path>) -> Vec<Interrupted> {
    let found = std::fs::read_dir(run).into_iter().flatten().flatten();
    let marks = found.map(|entry| entry.path()).filter_map(Mark::read);
    futures_util::future::join_all(marks.map(|mark| mark.end(cgroup))).await
}

/// One that no other operation of this machine has, whoever began it.
fn number() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let own = u128::from(LAST.fetch_add(1, Ordering::Relaxed));
    format!("{}-{}", std::process::id(), now.wrapping_add(own))
}

/// The mark of an operation on a resource. Their names are told apart by dots, which they have none of.
fn path(run: &Path, group: &str, resource: &str) -> PathBuf {
    run.join(format!("{}.{}.{MARK}", file_name(group), file_name(resource)))
}

/// What a mark says.
#[derive(Debug)]
struct Mark {
    path: PathBuf,
    group: String,
    resource: String,
    /// None if it cannot be read: the agent died while it wrote.
    operation: Option<(Operation, String)>,
}

impl Mark {
    fn read(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(MARK)?.strip_suffix('.')?;
        let (group, resource) = name.split_once('.')?;
        let (group, resource) = (group.to_owned(), resource.to_owned());
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let operation = lines.next().and_then(|word| {
            [Operation::Start, Operation::Stop].into_iter().find(|it| it.word() == word)
        });
        let number = lines.next().filter(|number| number.split('-').count() == 2);
        let operation = operation.zip(number.map(str::to_owned));
        Some(Self { path, group, resource, operation })
    }

    async fn end(self, cgroup: Option<&Path>) -> Interrupted {
        let Some((operation, number)) = &self.operation else {
            // Programs are started after it was written, so there are none.
            let ended = std::fs::remove_file(&self.path).is_ok();
            let what = format!("operation on {}.{}", self.group, self.resource);
            return Interrupted { what, ran: false, ended };
        };
        let place = cgroup.map(|root| {
            let of_group = match operation {
                Operation::Start => self.group.clone(),
                Operation::Stop => format!("{}.stop", self.group),
            };
            ControlGroup::at(root.join(of_group).join(&self.resource))
        });
        let what = format!("{} of {}.{}", operation.word(), self.group, self.resource);
        let (mut ran, until) = (false, Instant::now() + END);
        loop {
            let inside = place.as_ref().is_some_and(ControlGroup::is_populated);
            let carriers = carriers(number);
            if !inside && carriers.is_empty() {
                let ended = std::fs::remove_file(&self.path).is_ok();
                return Interrupted { what, ran, ended };
            }
            ran = true;
            if Instant::now() >= until {
                return Interrupted { what, ran, ended: false };
            }
            if let Some(Err(error)) = place.as_ref().filter(|_| inside).map(ControlGroup::kill) {
                tracing::error!(%error, what, "cannot be killed");
            }
            for pid in carriers {
                // It may have ended meanwhile.
                let _ = kill(pid, Signal::SIGKILL);
            }
            sleep(AGAIN).await;
        }
    }
}

/// Whether something that this operation started lives elsewhere than in those control groups. Control groups are read
/// after the processes, so that what is forked meanwhile in one of them is no stray; what moves within them while they are
/// read is found by the second look.
pub(super) fn has_strays(context: &Context, groups: &[ControlGroup]) -> bool {
    let Some(number) = context.environment.get(VARIABLE) else { return false };
    let look = || -> BTreeSet<Pid> {
        let mut found: BTreeSet<Pid> = carriers(number).into_iter().collect();
        let inside = groups.iter().flat_map(ControlGroup::processes);
        inside.for_each(|pid| _ = found.remove(&Pid::from_raw(pid)));
        found
    };
    let first = look();
    !first.is_empty() && !first.is_disjoint(&look())
}

/// Processes that have the number of an operation in their environment.
fn carriers(number: &str) -> Vec<Pid> {
    let mark = format!("{VARIABLE}={number}");
    let has_it = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has_it).map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    fn context(run: &Path) -> Context {
        Context {
            group: "web".into(),
            token: 1,
            node: vedette_core::id::NodeNumber(1),
            node_name: "n1".into(),
            interfaces: Default::default(),
            standbys: Default::default(),
            others: Vec::new(),
            cgroup: None,
            state: run.to_owned(),
            run: run.to_owned(),
            probes: Default::default(),
            lease: None,
            environment: Default::default(),
            printed: Default::default(),
            devices_come: false,
            transcripts: None,
        }
    }

    /// A program of that operation, as it would be started.
    fn program(context: &Context) -> Child {
        let mut command = Command::new("/bin/sleep");
        let child = command.arg("600").env_clear().envs(context.variables("app")).spawn().unwrap();
        // The kernel shows its environment a moment after it was started.
        while std::fs::read(format!("/proc/{}/environ", child.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        child
    }

    /// R3: what an agent had begun when it died is ended by the next one, and nothing else is.
    #[tokio::test]
    async fn what_was_begun_is_ended_before_anybody_looks() {
        let folder = tempfile::tempdir().unwrap();
        let mut context = context(folder.path());
        let done = UnderWay::begin(&mut context, "app", Operation::Start).unwrap();
        let mut service = program(&context);
        drop(done);
        assert_eq!(end_all(folder.path(), None).await, [], "it was over");
        let begun = UnderWay::begin(&mut context, "app", Operation::Start).unwrap();
        let mut start = program(&context);
        // The agent dies.
        std::mem::forget(begun);
        let again = UnderWay::begin(&mut context, "app", Operation::Start);
        assert!(again.is_err(), "two at a time are what no program expects");
        let ended = end_all(folder.path(), None).await;
        let what = "start of web.app".to_owned();
        assert_eq!(ended, [Interrupted { what, ran: true, ended: true }]);
        assert_eq!(start.wait().unwrap().signal(), Some(9));
        assert!(service.try_wait().unwrap().is_none(), "what was started before runs on");
        service.kill().unwrap();
        service.wait().unwrap();
        assert!(UnderWay::begin(&mut context, "app", Operation::Stop).is_ok());
    }

    /// What an agent that had no room could not write stands in nobody's way (a mark of which the name alone was written
    /// is none), and a stop needs none.
    #[tokio::test]
    async fn a_mark_that_cannot_be_written_is_no_reason_not_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let mut context = context(folder.path());
        let mark = path(folder.path(), "web", "app");
        std::fs::write(&mark, "").unwrap();
        drop(UnderWay::begin(&mut context, "app", Operation::Start).unwrap());
        assert!(!mark.exists());
        // A folder of that name is what cannot be written, for root as well.
        std::fs::create_dir(&mark).unwrap();
        assert!(UnderWay::begin(&mut context, "app", Operation::Start).is_err());
        drop(UnderWay::begin(&mut context, "app", Operation::Stop).unwrap());
    }

    /// An agent that dies while it writes has begun nothing.
    #[tokio::test]
    async fn a_mark_without_words_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "sta", "start\n", "start\nno number\n", "\u{0}\n\n"] {
            std::fs::write(path(folder.path(), "web", "app"), text).unwrap();
            let ended = end_all(folder.path(), None).await;
            assert!(matches!(&ended[..], [it] if it.ended && !it.ran), "{text:?}: {ended:?}");
            assert!(!path(folder.path(), "web", "app").exists());
        }
        std::fs::write(folder.path().join("web.app.started"), "inside\n").unwrap();
        assert_eq!(end_all(folder.path(), None).await, [], "that is another file");
    }
}
