//! From the fork to the program: what a child does to itself before it becomes somebody else.
//!
//! Everything it needs is made before the fork, as nothing may be allocated after it. The child
//! executes the program itself instead of leaving that to the standard library, whose way through
//! `execvp` would hand a file of unknown format to `/bin/sh`.
//!
//! The only thing that a failed child can tell its parent is one number, so [`Step`] is packed into
//! it beside the system's error number.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::user::User;
use super::{Program, c_text};

/// Above every error number of the system.
const STEP: i32 = 1 << 16;

/// The highest signal number of Linux.
const LAST_SIGNAL: i32 = 64;

/// Where a child came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Before the child was there, or at the program itself.
    Program,
    /// Entering the control group.
    ControlGroup,
    /// Becoming the user.
    User,
    /// Anything else.
    Preparation,
}

impl Step {
    fn failed(self) -> std::io::Error {
        let number = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        std::io::Error::from_raw_os_error(self as i32 * STEP + number)
    }

    fn unless(self, failed: bool) -> std::io::Result<()> {
        if failed { Err(self.failed()) } else { Ok(()) }
    }

    /// Takes an error apart.
    pub(super) fn of(error: &std::io::Error) -> (Self, std::io::Error) {
        let Some(number) = error.raw_os_error() else {
            return (Self::Program, std::io::Error::other(error.to_string()));
        };
        let step = match number / STEP {
            0 => Self::Program,
            1 => Self::ControlGroup,
            2 => Self::User,
            _ => Self::Preparation,
        };
        (step, std::io::Error::from_raw_os_error(number % STEP))
    }
}

/// All that the forked child needs.
pub(super) struct Exec {
    file: CString,
    _texts: Vec<CString>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    script: Option<RawFd>,
    limits: Vec<(Resource, u64)>,
    cgroup: Option<File>,
    user: Option<User>,
    umask: libc::mode_t,
    dies_with: Option<libc::pid_t>,
}

// SAFETY: the pointers lead into `_texts`, which lives as long and is never changed.
unsafe impl Send for Exec {}
// SAFETY: as above.
unsafe impl Sync for Exec {}

impl Exec {
    pub(super) fn new(program: &Program, file: CString, mark: &str) -> std::io::Result<Self> {
        let mut texts: Vec<CString> = program.argv.iter().map(|text| c_text(text)).collect();
        let line = |(name, value): (&String, &String)| c_text(&format!("{name}={value}"));
        texts.extend(program.environment.iter().map(line));
        if program.ends_all {
            texts.push(c_text(mark));
        }
        let pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        let (argv, environment) = pointers.split_at(program.argv.len());
        let with_end = |list: &[*const c_char]| [list, &[std::ptr::null()]].concat();
        Ok(Self {
            file,
            argv: with_end(argv),
            environment: with_end(environment),
            _texts: texts,
            script: program.script.as_ref().map(|(text, _)| text.as_raw_fd()),
            limits: if program.bounded { limits(program.timeout)? } else { Vec::new() },
            cgroup: open_group(program)?,
            user: program.user.clone(),
            umask: program.umask,
            dies_with: program.dies_with_us.then(|| nix::unistd::getpid().as_raw()),
        })
    }

    /// In the child. Returns only if the program could not be executed.
    pub(super) fn become_program(&self) -> std::io::Result<()> {
        self.enter_group()?;
        // SAFETY: system calls on numbers and on lists that were made before the fork.
        unsafe {
            libc::setsid();
            ordinary();
            libc::umask(self.umask);
        }
        for (resource, most) in &self.limits {
            let set = setrlimit(*resource, *most, *most);
            Step::Preparation.unless(set.is_err())?;
        }
        self.become_user()?;
        self.die_with_parent()?;
        self.execute()
    }

    fn enter_group(&self) -> std::io::Result<()> {
        let Some(group) = &self.cgroup else { return Ok(()) };
        // SAFETY: the descriptor is open and the text is one byte long.
        let written = unsafe { libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        Step::ControlGroup.unless(written != 1)
    }

    fn become_user(&self) -> std::io::Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let (groups, count) = (user.groups.as_ptr(), user.groups.len());
        // SAFETY: the list is as long as is said. There is one thread, so the bare calls will do.
        let failed = unsafe {
            libc::syscall(libc::SYS_setgroups, count, groups) != 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) != 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0
        };
        Step::User.unless(failed)
    }

    /// After the user was changed, which resets it.
    fn die_with_parent(&self) -> std::io::Result<()> {
        let Some(parent) = self.dies_with else { return Ok(()) };
        // SAFETY: takes no pointers. The parent may have died before the first call.
        let failed = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() != parent
        };
        Step::Preparation.unless(failed)
    }

    fn execute(&self) -> std::io::Result<()> {
        // SAFETY: the lists end with a null pointer, and the texts live.
        unsafe {
            // Whatever the agent itself was given open must not reach the program. On a kernel
            // before 5.11 this fails, and only descriptors of the agent's parent are concerned.
            let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
            libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC);
            if let Some(script) = self.script {
                libc::fcntl(script, libc::F_SETFD, 0);
            }
            libc::execve(self.file.as_ptr(), self.argv.as_ptr(), self.environment.as_ptr());
        }
        Err(Step::Program.failed())
    }
}

/// Neither the real-time priority nor the signal settings of whoever started the agent.
///
/// # Safety
///
/// Only for the child between fork and exec.
unsafe fn ordinary() {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointers are to locals. What is refused stays as it was, and that may be: only
    // root can give up a nice value, and some signals cannot be set.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameter);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        for signal in 1..=LAST_SIGNAL {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Opened here, because what decides is who opened it, and the child may be nobody.
fn open_group(program: &Program) -> std::io::Result<Option<File>> {
    let Some(directory) = &program.cgroup else { return Ok(None) };
    let opened = File::options().write(true).open(directory.join("cgroup.procs"));
    opened.map(Some).map_err(|error| {
        let number = error.raw_os_error().unwrap_or(libc::ENOENT);
        std::io::Error::from_raw_os_error(Step::ControlGroup as i32 * STEP + number)
    })
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
