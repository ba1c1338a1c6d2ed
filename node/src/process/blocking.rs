//! Runs a program without the agent's runtime: for the guard, which has none.
//!
//! What it prints is not kept. Whoever calls this ends what the program leaves in its control group.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::exec::Exec;
use super::{Program, signal_group};

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long one that was killed is waited for.
const REAP: Duration = Duration::from_secs(1);

/// Runs it to its end, or to the end of its time. Anything but status 0 in time is an error, in words that
/// follow a colon.
pub(crate) fn run_blocking(program: &Program) -> Result<(), String> {
    let until = Instant::now() + program.timeout;
    let mut child = spawn(program)?;
    if let Some(status) = ended(&mut child, until)? {
        return if status.success() { Ok(()) } else { Err(words(status)) };
    }
    signal_group(i32::try_from(child.id()).ok(), libc::SIGKILL);
    let _killed = ended(&mut child, Instant::now() + REAP);
    Err(format!("it did not end within {} ms", program.timeout.as_millis()))
}

fn spawn(program: &Program) -> Result<Child, String> {
    let file = program.find()?;
    let exec = Exec::new(program, file, "").map_err(|error| program.explain(&error))?;
    let mut command = Command::new("program");
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: `become_program` makes system calls only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || exec.become_program()) };
    command.spawn().map_err(|error| program.explain(&error))
}

fn ended(child: &mut Child, until: Instant) -> Result<Option<ExitStatus>, String> {
    loop {
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
