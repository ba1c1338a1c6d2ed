//! Why a program could not be started, as a sentence without full stop.

use std::io::{Error, Read};
use std::path::Path;

use super::exec::Step;
use super::shebang::Shebang;

/// As much of a file as its first line may need.
const FIRST_LINE: u64 = 4_096;

/// What went wrong at which step; `about_program` is asked if it was the program.
pub(super) fn in_sentence(
    error: &Error,
    group: Option<&Path>,
    about_program: impl Fn(&Error) -> String,
) -> String {
    let (step, error) = Step::of(error);
    match step {
        Step::Program => about_program(&error),
        Step::ControlGroup => {
            let group = group.unwrap_or(Path::new("?")).display();
            match error.raw_os_error() {
                Some(libc::ENODEV | libc::ENOENT) => {
                    format!("its control group {group} is gone, so this node may not start it now")
                }
                _ => format!("it could not enter its control group {group}: {error}"),
            }
        }
        Step::User => format!("the agent may not become its user: {error}"),
        Step::Preparation => format!("its process could not be prepared: {error}"),
    }
}

/// Why the kernel refused to execute a file.
pub(super) fn program(name: &str, error: &Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) if !Path::new(name).exists() => format!("{name} does not exist here"),
        Some(libc::ENOENT) => interpreter_of(name, error),
        Some(libc::EACCES) => not_allowed(name, error),
        Some(libc::ENOEXEC) => format!(
            "{name} is neither a program that this machine can run nor a script that begins with \
             `#!` and an interpreter"
        ),
        Some(libc::ENOTDIR) => format!("{name} does not exist here"),
        Some(libc::E2BIG) => format!("{name} was to be given too long arguments or environment"),
        _ => format!("{name} could not be started: {error}"),
    }
}

fn not_allowed(name: &str, error: &Error) -> String {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(name) {
        Ok(meta) if meta.is_dir() => format!("{name} is a directory"),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            format!("{name} is not marked as executable (chmod +x)")
        }
        _ => interpreter_of(name, error),
    }
}

fn interpreter_of(name: &str, error: &Error) -> String {
    let mut first = Vec::new();
    let read = std::fs::File::open(name).and_then(|f| f.take(FIRST_LINE).read_to_end(&mut first));
    let text = String::from_utf8_lossy(&first);
    match read.map(|_| text.starts_with("#!")) {
        Ok(true) => match Shebang::of(&text) {
            Ok(first_line) => format!("{name}: {}", first_line.explain(error)),
            Err(why) => format!("{name}: {why}"),
        },
        _ => format!("{name} could not be started: {error}"),
    }
}
