//! The one way in which Vedette runs a program of somebody else: start it apart, read what it
//! prints, end it in time.
//!
//! Intuition: event scripts, application servers, agents, `mount`, alert scripts are all strangers.
//! They may hang, fork, print without end or not be there at all, and none of that may hold up or
//! harm the agent. So every run gets a session and process group of its own, exactly the
//! environment it was given, ordinary scheduling and signals, no open file of ours, a time limit,
//! and a bound on what is kept of its output.
//!
//! Invariants:
//!
//! - No shell of ours reads anything: a list of arguments is what the program gets.
//! - [`run`] ends at most four seconds after the time limit, and soon after the program itself
//!   exits, even if a child of it keeps the output open.
//! - A program that was given a control group is in it before its first instruction; if the group
//!   is gone (the guard removed it), it does not start.
//!
//! Standard output and error are one pipe, so that lines stay in order, or one file, for programs
//! whose children outlive the agent. Standard input is a file in memory, so a program that never
//! reads it, or closes it, disturbs nobody.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vedette_core::model::RunOutcome;

mod blocking;
mod exec;
mod explain;
pub(crate) mod left_behind;
mod output;
pub mod sealed;
mod shebang;
mod user;

pub(crate) use blocking::{Ends, run_blocking};
use exec::Exec;
use left_behind::{LeftBehind, MARK};
use output::Output;
pub use shebang::Shebang;
pub use user::User;

use crate::transcript::Tape;

/// Makes sure that `/proc` numbers processes as the kernel numbers them for this one. Where it is that of another process
/// namespace, as in a container that was given its host's, what runs here would not be found, and other processes would
/// be taken for it.
///
/// # Errors
/// The sentence that says what is there instead, and what to do.
pub fn require_own_proc() -> Result<(), String> {
    let own = std::process::id().to_string();
    let found = match std::fs::read_link("/proc/self") {
        Ok(number) if number == Path::new(&own) => return Ok(()),
        Ok(number) => format!("lists this process, which is number {own}, as {}", number.display()),
        Err(error) => format!("does not list this process: {error}"),
    };
    Err(format!(
        "/proc {found}, so what runs on this node cannot be told. Give the daemon the list of its own process \
         namespace: mount -t proc proc /proc."
    ))
}

/// Where programs are looked for, unless the environment of the run says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between asking the processes of a run to end and ending them.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// How often to look whether the processes that were asked to end have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much output is kept unless a run says otherwise.
const KEEP: usize = 16 * 1_024;

/// How much is kept of what may become a transcript; a little less than one takes.
const WHOLE: usize = 1_000 * 1_024;

/// What is to be run, and within which limits.
#[derive(Debug)]
pub struct Program {
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
    stdin: Option<OwnedFd>,
    script: Option<(OwnedFd, Shebang)>,
    user: Option<User>,
    cgroup: Option<PathBuf>,
    timeout: Duration,
    keep: usize,
    both_ends: bool,
    file: Option<PathBuf>,
    lines: Option<mpsc::Sender<String>>,
    tape: Option<Tape>,
    leave_out: Option<fn(&[u8]) -> bool>,
    umask: libc::mode_t,
    bounded: bool,
    ends_all: bool,
    dies_with_us: bool,
}

impl Program {
    /// A program and its arguments. Without `/` in its name it is looked for in the `PATH` of the
    /// run's environment.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(argv: I, timeout: Duration) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: BTreeMap::from([
                ("PATH".into(), PATH.into()),
                ("LANG".into(), "C.UTF-8".into()),
            ]),
            stdin: None,
            script: None,
            user: None,
            cgroup: None,
            timeout,
            keep: KEEP,
            both_ends: false,
            file: None,
            lines: None,
            tape: None,
            leave_out: None,
            umask: 0o022,
            bounded: false,
            ends_all: false,
            dies_with_us: false,
        }
    }

    /// A script whose text lies in sealed memory ([`sealed::memory`]); its first line names the
    /// interpreter.
    pub fn script<I, S>(text: OwnedFd, first_line: Shebang, rest: I, timeout: Duration) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let path = sealed::path_of(&text).to_string_lossy().into_owned();
        let argv = std::iter::once(path).chain(rest.into_iter().map(Into::into));
        Self { script: Some((text, first_line)), ..Self::new(argv, timeout) }
    }

    /// Adds to the environment; `PATH` and `LANG` are there, nothing else.
    pub fn environment<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment.extend(variables);
        self
    }

    /// What it reads on standard input; nothing, if this is not called.
    pub fn stdin(mut self, text: &str) -> std::io::Result<Self> {
        self.stdin = Some(sealed::memory("standard-input", text.as_bytes())?);
        Ok(self)
    }

    /// As whom it runs; as the agent's user if `None`.
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// The control group (its directory) in which it starts.
    pub fn cgroup(mut self, directory: Option<PathBuf>) -> Self {
        self.cgroup = directory;
        self
    }

    /// How many bytes of output are kept: the first ones.
    pub fn keep(mut self, bytes: usize) -> Self {
        self.keep = bytes;
        self
    }

    /// As much output is kept as a transcript takes: the beginning, and the end.
    pub fn keep_both_ends(mut self) -> Self {
        (self.keep, self.both_ends) = (WHOLE, true);
        self
    }

    /// Output is appended to a file instead of a pipe. For programs that leave processes behind:
    /// a pipe would break, and they with it, when the agent ends.
    pub fn output_to(mut self, file: PathBuf) -> Self {
        self.file = Some(file);
        self
    }

    /// Lines of output, as they come. A line that finds the channel full is left out, here only.
    pub fn lines(mut self, to: mpsc::Sender<String>) -> Self {
        self.lines = Some(to);
        self
    }

    /// All of its output goes into a transcript, too, which whoever made it ends.
    pub fn tape(mut self, tape: Option<Tape>) -> Self {
        self.tape = tape;
        self
    }

    /// Lines that are not kept with the outcome, such as those of a trace; a transcript has them.
    pub fn leave_out(mut self, which: Option<fn(&[u8]) -> bool>) -> Self {
        self.leave_out = which;
        self
    }

    /// For a program that nobody vouches for: bounds on processor time, files and memory dumps,
    /// and what it creates is nobody else's to read.
    pub fn bounded(mut self) -> Self {
        self.bounded = true;
        self.umask = 0o027;
        self
    }

    /// What it leaves behind is ended when the time limit is over, even what made a session of its
    /// own. Without this only a run that is over time is ended, with its process group.
    pub fn ends_all(mut self) -> Self {
        self.ends_all = true;
        self
    }

    /// It gets SIGKILL when the agent ends (precisely: the thread that called [`run`], so not for
    /// use on a thread that ends earlier).
    pub fn dies_with_us(mut self) -> Self {
        self.dies_with_us = true;
        self
    }

    /// The file that the kernel is asked to execute, or a sentence.
    fn find(&self) -> Result<CString, String> {
        let name = self.argv.first().map(String::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err("no program is given".into());
        }
        if name.contains('/') {
            return Ok(c_text(name));
        }
        let path = self.environment.get("PATH").map_or(PATH, String::as_str);
        let found = find_in(path, name)
            .ok_or_else(|| format!("there is no program `{name}` in the directories {path}"))?;
        Ok(c_text(&found.to_string_lossy()))
    }

    fn explain(&self, error: &std::io::Error) -> String {
        let group = self.cgroup.as_deref();
        let name = self.argv.first().map(String::as_str).unwrap_or_default();
        match &self.script {
            Some((_, first_line)) => explain::in_sentence(error, group, |e| first_line.explain(e)),
            None => explain::in_sentence(error, group, |e| explain::program(name, e)),
        }
    }
}

/// The first executable file of that name in a list of directories like `PATH`.
pub fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    let can = |file: &PathBuf| {
        file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
    };
    path.split(':').map(|directory| Path::new(directory).join(name)).find(can)
}

/// Runs a program to its end. Dropping the future ends the run. `version` of the outcome is 0.
pub async fn run(program: Program) -> RunOutcome {
    let began = Instant::now();
    match start(&program) {
        Ok(started) => finish(program, started, began).await,
        Err(why) => not_started(why),
    }
}

/// An outcome that says that nothing ran.
pub fn not_started(why: impl Into<String>) -> RunOutcome {
    RunOutcome {
        exit: None,
        signal: None,
        timed_out: false,
        failure: Some(why.into()),
        output: String::new(),
        output_dropped: 0,
        duration_ms: 0,
        version: 0,
        transcript: None,
    }
}

struct Started {
    child: Child,
    output: Output,
    left: LeftBehind,
}

fn start(program: &Program) -> Result<Started, String> {
    let file = program.find()?;
    let mark = new_mark();
    let spawned = spawn(program, file, &mark).map_err(|error| program.explain(&error))?;
    let (child, output) = spawned;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok());
    Ok(Started { child, output, left: LeftBehind { mark, group } })
}

fn spawn(program: &Program, file: CString, mark: &str) -> std::io::Result<(Child, Output)> {
    let mut command = Command::new("program");
    command.current_dir("/").kill_on_drop(true).stdin(match &program.stdin {
        Some(text) => Stdio::from(text.try_clone()?),
        None => Stdio::null(),
    });
    let output = match &program.file {
        Some(path) => into_file(&mut command, path, program)?,
        None => into_pipe(&mut command, program)?,
    };
    let exec = Exec::new(program, file, mark)?;
    // SAFETY: `become_program` makes system calls only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || exec.become_program()) };
    Ok((command.spawn()?, output))
}

fn into_pipe(command: &mut Command, program: &Program) -> std::io::Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
    let pipe = Receiver::from_owned_fd(reader.into())?;
    Ok(Output::of_pipe(pipe, program))
}

fn into_file(command: &mut Command, path: &Path, program: &Program) -> std::io::Result<Output> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    let from = file.metadata()?.len();
    command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file));
    Ok(Output::of_file(path.to_owned(), from, program))
}

async fn finish(program: Program, started: Started, began: Instant) -> RunOutcome {
    let Started { mut child, mut output, mut left } = started;
    let deadline = began + program.timeout;
    let mut guard = Guard { group: left.group };
    let exited = output.until_exit(&mut child, deadline).await;
    let status = match exited {
        Some(status) => status,
        None => end(&mut child, &left, &mut output, program.ends_all).await,
    };
    guard.group = None;
    left.group = None;
    output.rest().await;
    if program.ends_all {
        end_later(left, deadline).await;
    }
    outcome(status, exited.is_none(), output, began.elapsed())
}

fn outcome(
    status: Option<ExitStatus>,
    timed_out: bool,
    output: Output,
    took: Duration,
) -> RunOutcome {
    use std::os::unix::process::ExitStatusExt;
    let (output, output_dropped) = output.text();
    RunOutcome {
        exit: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        timed_out,
        failure: None,
        output,
        output_dropped,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        version: 0,
        transcript: None,
    }
}

/// Different for every run of every agent on this machine.
fn new_mark() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("{MARK}={}-{}-{run}", std::process::id(), now.as_nanos())
}

/// A C string cannot hold NUL; the replacement character takes its place.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Ends everything of the run, first kindly. The leader is not waited for before the last signal
/// was sent: until then the number of its group cannot be given to somebody else.
async fn end(
    child: &mut Child,
    left: &LeftBehind,
    output: &mut Output,
    all: bool,
) -> Option<ExitStatus> {
    signal_all(left, libc::SIGTERM, all).await;
    let until = Instant::now() + KILL_AFTER;
    while Instant::now() < until && any(left, all).await {
        output.wait(LOOK_EVERY).await;
    }
    signal_all(left, libc::SIGKILL, all).await;
    // A process in an uninterruptible system call does not end even now.
    timeout(KILL_AFTER, child.wait()).await.ok()?.ok()
}

async fn any(left: &LeftBehind, all: bool) -> bool {
    let left = left.clone();
    tokio::task::spawn_blocking(move || left.any(all)).await.unwrap_or(false)
}

async fn signal_all(left: &LeftBehind, signal: i32, all: bool) {
    signal_group(left.group, signal);
    if all {
        let left = left.clone();
        let _ended = tokio::task::spawn_blocking(move || left.signal(signal)).await;
    }
}

fn signal_group(group: Option<i32>, signal: i32) {
    if let Some(group) = group {
        // SAFETY: the call takes two integers. That the group is gone already is no failure.
        unsafe { libc::killpg(group, signal) };
    }
}

/// Lets what the program started in the background go on to the time limit, and ends it then;
/// nobody waits for that.
async fn end_later(left: LeftBehind, deadline: Instant) {
    if !any(&left, true).await {
        return;
    }
    tokio::spawn(async move {
        sleep_until(deadline).await;
        signal_all(&left, libc::SIGTERM, true).await;
        sleep(KILL_AFTER).await;
        signal_all(&left, libc::SIGKILL, true).await;
    });
}

/// Ends the group if the run is given up before its end.
struct Guard {
    group: Option<i32>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        signal_group(self.group, libc::SIGKILL);
    }
}
