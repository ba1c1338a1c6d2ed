//! Runs a program without the agent's runtime: for the guard, which has none.
//!
//! What it prints is read by whoever waits for it, and stays in memory: a disk that hangs must not hold up a
//! release. Whoever calls this ends what the program leaves in its control group.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::exec::Exec;
use super::{Program, signal_group};

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long one that was killed is waited for.
const REAP: Duration = Duration::from_secs(1);

/// How much of the beginning is kept, and of the end.
const HALF: usize = 500 * 1_024;

/// Both ends of what was printed.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    left_out: u64,
}

impl Ends {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = HALF.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(&bytes[room..]);
        // Not at every piece, as the rest is moved.
        if self.tail.len() > 2 * HALF {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let surplus = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
    }

    /// All of it; what is left out is said at its place.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.shorten();
        if self.left_out > 0 {
            let said = format!("\n[{} bytes are left out here]\n", self.left_out);
            self.head.extend(said.bytes());
        }
        self.head.extend(self.tail);
        self.head
    }
}

/// Runs it to its end, or to the end of its time. Anything but status 0 in time is an error, in words that
/// follow a colon.
pub(crate) fn run_blocking(program: &Program, printed: &mut Ends) -> Result<(), String> {
    let until = Instant::now() + program.timeout;
    let (mut child, mut output) = spawn(program)?;
    let result = match ended(&mut child, &mut output, printed, until)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(words(status)),
        None => {
            signal_group(i32::try_from(child.id()).ok(), libc::SIGKILL);
            let killed = Instant::now() + REAP;
            let _killed = ended(&mut child, &mut output, printed, killed);
            Err(format!("it did not end within {} ms", program.timeout.as_millis()))
        }
    };
    // What a child of it still prints is nobody's any more.
    read(&mut output, printed);
    result
}

fn spawn(program: &Program) -> Result<(Child, PipeReader), String> {
    let file = program.find()?;
    let exec = Exec::new(program, file, "").map_err(|error| program.explain(&error))?;
    let mut command = Command::new("program");
    let (output, end) = pipe().map_err(|error| program.explain(&error))?;
    let again = end.try_clone().map_err(|error| program.explain(&error))?;
    command.current_dir("/").stdin(Stdio::null()).stdout(end).stderr(again);
    // SAFETY: `become_program` makes system calls only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || exec.become_program()) };
    let child = command.spawn().map_err(|error| program.explain(&error))?;
    Ok((child, output))
}

/// A pipe whose reader never waits.
fn pipe() -> std::io::Result<(PipeReader, std::io::PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    // SAFETY: the descriptor is open, and the call takes two integers besides.
    let set = unsafe { libc::fcntl(reader.as_fd().as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if set < 0 { Err(std::io::Error::last_os_error()) } else { Ok((reader, writer)) }
}

/// What is there now, and no more than a program that never stops printing can be read in a moment.
fn read(output: &mut PipeReader, printed: &mut Ends) {
    let mut buffer = [0; 16 * 1_024];
    for _ in 0..64 {
        match output.read(&mut buffer) {
            Ok(read @ 1..) => printed.add(&buffer[..read]),
            Ok(0) | Err(_) => return,
        }
    }
}

fn ended(
    child: &mut Child,
    output: &mut PipeReader,
    printed: &mut Ends,
    until: Instant,
) -> Result<Option<ExitStatus>, String> {
    loop {
        read(output, printed);
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if Instant::now() >= until => return Ok(None),
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(format!("nobody knows how it ended: {error}")),
        }
    }
}

fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended without a status".into(),
    }
}
