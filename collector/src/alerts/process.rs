//! One run of a program that nobody trusts: start it apart, read what it prints, end it in time.
//!
//! Standard output and error are one pipe, so that lines stay in order. Standard input is a file
//! in memory, so a script that never reads it, or closes it, disturbs nobody.

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::c_string;
use super::left_behind::{LeftBehind, MARK};

/// Between asking the processes of a run to end and ending them.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// How long output is read after the script exited, if a child of it keeps the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(250);

/// How often to look whether the processes that were asked to end have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is to be run.
pub(super) struct Job {
    /// What the kernel executes.
    pub(super) program: CString,
    pub(super) argv: Vec<CString>,
    /// `NAME=value` each; nothing else is in the environment but the mark of the run.
    pub(super) environment: Vec<CString>,
    /// Stays open in the program, so that it can be read there.
    pub(super) script: OwnedFd,
    pub(super) stdin: OwnedFd,
    pub(super) user: Option<(Uid, Gid)>,
    pub(super) timeout: Duration,
    /// How much output is kept.
    pub(super) keep: usize,
    /// Turns a refusal to start into a sentence.
    pub(super) explain: Box<dyn Fn(&std::io::Error) -> String + Send + Sync>,
}

/// How a run ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) status: Option<ExitStatus>,
    pub(super) timed_out: bool,
    pub(super) failure: Option<String>,
    pub(super) output: Vec<u8>,
    pub(super) dropped: u64,
    pub(super) took: Duration,
}

impl Ended {
    pub(super) fn not_started(why: String) -> Self {
        Self { failure: Some(why), ..Self::default() }
    }
}

/// Runs the job to its end.
pub(super) async fn run(job: Job) -> Ended {
    let began = Instant::now();
    let deadline = began + job.timeout;
    let mark = new_mark();
    let (mut child, pipe) = match start(&job, &mark) {
        Ok(started) => started,
        Err(error) => return Ended::not_started((job.explain)(&error)),
    };
    let group = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut guard = Guard { group };
    let mut output = Output { pipe, open: true, kept: Vec::new(), dropped: 0, keep: job.keep };
    let mut left = LeftBehind { mark, group };
    let exited = output.until_exit(&mut child, deadline).await;
    let status = match exited {
        Some(status) => status,
        None => end(&mut child, &left, &mut output).await,
    };
    guard.group = None;
    left.group = None;
    output.rest().await;
    end_later(left, deadline).await;
    Ended {
        status,
        timed_out: exited.is_none(),
        failure: None,
        output: output.kept,
        dropped: output.dropped,
        took: began.elapsed(),
    }
}

/// Different for every run of every agent on this machine.
fn new_mark() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("{MARK}={}-{}-{run}", std::process::id(), now.as_nanos())
}

fn start(job: &Job, mark: &str) -> std::io::Result<(Child, Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new("script");
    command
        .current_dir("/")
        .stdin(Stdio::from(job.stdin.try_clone()?))
        .stdout(Stdio::from(writer.try_clone()?))
        .stderr(Stdio::from(writer))
        .kill_on_drop(true);
    if let Some((uid, gid)) = job.user {
        // The standard library also gives up all other groups.
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    let exec = Exec::new(job, mark)?;
    // SAFETY: `become_script` makes system calls only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || exec.become_script()) };
    let child = command.spawn()?;
    Ok((child, Receiver::from_owned_fd(reader.into())?))
}

/// All that the forked child needs, made before the fork, as nothing may be allocated after it.
///
/// The child executes the program itself instead of leaving that to the standard library, whose
/// way through `execvp` would hand a file of unknown format to `/bin/sh`.
struct Exec {
    program: CString,
    _texts: Vec<CString>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    script: RawFd,
    limits: Vec<(Resource, u64)>,
}

// SAFETY: the pointers lead into `_texts`, which lives as long and is never changed.
unsafe impl Send for Exec {}
// SAFETY: as above.
unsafe impl Sync for Exec {}

impl Exec {
    fn new(job: &Job, mark: &str) -> std::io::Result<Self> {
        let mut texts = job.argv.clone();
        texts.extend(job.environment.iter().cloned());
        texts.push(c_string(mark));
        let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        let (argv, environment) = pointers.split_at(job.argv.len());
        let with_end = |list: &[*const c_char]| [list, &[std::ptr::null()]].concat();
        Ok(Self {
            program: job.program.clone(),
            argv: with_end(argv),
            environment: with_end(environment),
            _texts: texts,
            script: job.script.as_raw_fd(),
            limits: limits(job.timeout)?,
        })
    }

    /// In the child. Returns only if the program could not be executed.
    fn become_script(&self) -> std::io::Result<()> {
        nix::unistd::setsid()?;
        for (resource, most) in &self.limits {
            setrlimit(*resource, *most, *most)?;
        }
        // SAFETY: the descriptor is open, the lists end with a null pointer, and the texts live.
        unsafe {
            libc::umask(0o027);
            // Whatever the agent itself was given open must not reach the script. On a kernel
            // before 5.11 this fails, and only descriptors of the agent's parent are concerned.
            let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
            libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC);
            if libc::fcntl(self.script, libc::F_SETFD, 0) == 0 {
                libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.environment.as_ptr());
            }
        }
        Err(std::io::Error::last_os_error())
    }
}

/// No core files, 256 files, processor time as long as the time limit, files of 1 GiB; less where
/// the agent itself may have less.
fn limits(timeout: Duration) -> std::io::Result<Vec<(Resource, u64)>> {
    let wanted = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, 256),
        (Resource::RLIMIT_CPU, timeout.as_secs() + 5),
        (Resource::RLIMIT_FSIZE, 1 << 30),
    ];
    let lower = |(resource, most): (Resource, u64)| {
        let (_, hard) = getrlimit(resource)?;
        Ok((resource, most.min(hard)))
    };
    wanted.into_iter().map(lower).collect()
}

/// What the program prints: the first part is kept, the rest is read and counted.
struct Output {
    pipe: Receiver,
    open: bool,
    kept: Vec<u8>,
    dropped: u64,
    keep: usize,
}

impl Output {
    /// Reads until the program exits; `None` if the deadline comes first. The inner value is
    /// `None` if the system could not say how it ended.
    async fn until_exit(
        &mut self,
        child: &mut Child,
        deadline: Instant,
    ) -> Option<Option<ExitStatus>> {
        loop {
            tokio::select! {
                status = child.wait() => return Some(status.ok()),
                () = sleep_until(deadline) => return None,
                () = self.read(), if self.open => {}
            }
        }
    }

    async fn read(&mut self) {
        let mut buffer = [0; 16 * 1_024];
        let read = self.pipe.read(&mut buffer).await.unwrap_or(0);
        self.open = read > 0;
        let room = self.keep.saturating_sub(self.kept.len()).min(read);
        self.kept.extend_from_slice(&buffer[..room]);
        self.dropped += (read - room) as u64;
    }

    /// Reads what is in the pipe still.
    async fn rest(&mut self) {
        let until = Instant::now() + LAST_OUTPUT;
        let all = async {
            while self.open {
                self.read().await;
            }
        };
        let _cut_off = timeout_at(until, all).await;
    }

    /// Reads and waits.
    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.read(), if self.open => {}
            }
        }
    }
}

/// Ends everything of the run, first kindly. The leader is not waited for before the last signal
/// was sent: until then the number of its group cannot be given to somebody else.
async fn end(child: &mut Child, left: &LeftBehind, output: &mut Output) -> Option<ExitStatus> {
    signal_all(left, libc::SIGTERM).await;
    let until = Instant::now() + KILL_AFTER;
    while Instant::now() < until && any(left).await {
        output.wait(LOOK_EVERY).await;
    }
    signal_all(left, libc::SIGKILL).await;
    // A process in an uninterruptible system call does not end even now.
    timeout(KILL_AFTER, child.wait()).await.ok()?.ok()
}

async fn any(left: &LeftBehind) -> bool {
    let left = left.clone();
    tokio::task::spawn_blocking(move || left.any()).await.unwrap_or(false)
}

async fn signal_all(left: &LeftBehind, signal: i32) {
    signal_group(left.group, signal);
    let left = left.clone();
    let _ended = tokio::task::spawn_blocking(move || left.signal(signal)).await;
}

fn signal_group(group: Option<i32>, signal: i32) {
    if let Some(group) = group {
        // SAFETY: the call takes two integers. That the group is gone already is no failure.
        unsafe { libc::killpg(group, signal) };
    }
}

/// Lets what the script started in the background go on to the time limit, and ends it then;
/// nobody waits for that.
async fn end_later(left: LeftBehind, deadline: Instant) {
    if !any(&left).await {
        return;
    }
    tokio::spawn(async move {
        sleep_until(deadline).await;
        signal_all(&left, libc::SIGTERM).await;
        sleep(KILL_AFTER).await;
        signal_all(&left, libc::SIGKILL).await;
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
