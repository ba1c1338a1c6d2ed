//! The first process of a corosync node: it makes the places private that corosync insists on,
//! starts corosync, and prints a line for every membership that libquorum tells of.
//!
//! A notification is how a program learns of a membership, so that is where corosync's detection
//! is taken to be complete. libquorum is loaded when it is needed: without it everything else of
//! this program works, and neither headers nor a C compiler are wanted.

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::wire::now_ms;
use crate::lab::{LabError, Result};

/// Where corosync keeps things; each node has its own.
const PLACES: [&str; 3] = ["etc/corosync", "var/lib/corosync", "var/log/corosync"];

/// Where pacemaker does.
const PACEMAKER: [&str; 2] = ["var/lib/pacemaker", "var/log/pacemaker"];

/// The file that says what runs on a node: a letter of [`super::corosync::Stack`].
pub(super) const STACK: &str = "stack";

/// Keepalived's configuration.
pub(super) const KEEPALIVED: &str = "keepalived.conf";

/// The directory of a node in which `path` of that node is kept.
pub(super) fn place(dir: &Path, path: &str) -> std::path::PathBuf {
    dir.join(path)
}

/// Makes the directories that a node needs.
///
/// # Errors
/// If they cannot be made.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    for path in PLACES {
        fs::create_dir_all(place(dir, path))?;
    }
    fs::create_dir_all(place(dir, "etc/corosync/uidgid.d"))?;
    Ok(())
}

/// Runs the node in `dir` until it is killed. Only to be called in namespaces of its own.
///
/// # Errors
/// If corosync cannot be started or does not answer.
pub fn run_node(dir: &Path) -> Result<()> {
    if std::process::id() != 1 {
        return Err(LabError("a corosync node must be first in a process namespace".into()));
    }
    hide_places(dir)?;
    let stack = fs::read_to_string(place(dir, STACK))?;
    let log = fs::File::create(place(dir, "corosync.out"))?;
    if stack == "k" {
        return run_keepalived(dir, &log);
    }
    Command::new("corosync")
        .arg("-f")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    let quorum = Quorum::load()?;
    if stack == "p" {
        // Corosync must answer first.
        quorum.connect()?;
        start_pacemaker(dir, &log)?;
        let ended = quorum.follow();
        // A machine outlives its corosync.
        stay_on(&ended.map_or_else(|error| error.0, |()| "corosync ended".into()));
    }
    quorum.follow()
}

/// Keepalived in the foreground: it is the node's only program.
fn run_keepalived(dir: &Path, log: &fs::File) -> Result<()> {
    let status = Command::new("keepalived")
        .args(["-n", "-P", "-l", "-p", "/run/keepalived.pid", "-r", "/run/vrrp.pid", "-f"])
        .arg(place(dir, KEEPALIVED))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .status()?;
    stay_on(&format!("keepalived ended: {status}"))
}

/// What the first process does until the power goes: a machine outlives the programs that run on it.
fn stay_on(why: &str) -> ! {
    eprintln!("{why}");
    loop {
        std::thread::park();
    }
}

/// Pacemaker writes as a user of its own, so its places are copies of what its package made.
fn start_pacemaker(dir: &Path, log: &fs::File) -> Result<()> {
    let home = dir.to_string_lossy();
    let mut script = String::from("set -e; ");
    for path in PACEMAKER {
        script += &format!(
            "[ -e {home}/{path} ] || {{ mkdir -p {home}/{path}; cp -a /{path}/. {home}/{path}; chown --reference=/{path} {home}/{path}; }}; mount --bind {home}/{path} /{path}; "
        );
    }
    script += "mkdir -p /run/lock /run/crm /run/resource-agents; chown hacluster:haclient /run/crm; chmod 750 /run/crm";
    let made = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status()?;
    if !made.success() {
        return Err(LabError("pacemaker's places cannot be made private".into()));
    }
    Command::new("pacemakerd")
        .arg("-f")
        .env("PCMK_logfile", "/var/log/pacemaker/pacemaker.log")
        .env("PCMK_ipc_type", "shared-mem")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    Ok(())
}

fn hide_places(dir: &Path) -> Result<()> {
    mount(&["--make-rprivate", "/"])?;
    for path in ["/run", "/dev/shm"] {
        mount(&["-t", "tmpfs", "tmpfs", path])?;
    }
    for path in PLACES {
        mount(&["--bind", &place(dir, path).to_string_lossy(), &format!("/{path}")])?;
    }
    Ok(fs::create_dir_all("/run/corosync")?)
}

fn mount(arguments: &[&str]) -> Result<()> {
    let status = Command::new("mount").args(arguments).stdin(Stdio::null()).status()?;
    if status.success() {
        return Ok(());
    }
    Err(LabError(format!("corosync's places cannot be made private: mount {arguments:?} failed")))
}

/// `CS_OK`.
const OK: c_int = 1;
/// `CS_TRACK_CURRENT | CS_TRACK_CHANGES`.
const TRACK: u32 = 3;
/// `CS_DISPATCH_BLOCKING`.
const BLOCKING: c_int = 3;

type Notify = extern "C" fn(u64, u32, u64, u32, *const u32);

/// `quorum_callbacks_t`.
#[repr(C)]
struct Callbacks {
    notify: Notify,
}

type Initialize = unsafe extern "C" fn(*mut u64, *const Callbacks, *mut u32) -> c_int;
type TrackStart = unsafe extern "C" fn(u64, u32) -> c_int;
type Dispatch = unsafe extern "C" fn(u64, c_int) -> c_int;

/// The three functions of libquorum that are needed.
struct Quorum {
    initialize: Initialize,
    track_start: TrackStart,
    dispatch: Dispatch,
}

impl Quorum {
    fn load() -> Result<Self> {
        // SAFETY: the library's own constructors run; it is corosync's, and never unloaded.
        let library = unsafe { libc::dlopen(c"libquorum.so.5".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(LabError(
                "libquorum.so.5 is not installed. Install it: apt-get install corosync.".into(),
            ));
        }
        let (initialize, track_start, dispatch) = (
            symbol(library, c"quorum_initialize")?,
            symbol(library, c"quorum_trackstart")?,
            symbol(library, c"quorum_dispatch")?,
        );
        // SAFETY: the types are those of corosync/quorum.h, which this version of the library keeps.
        unsafe {
            Ok(Self {
                initialize: std::mem::transmute::<*mut c_void, Initialize>(initialize),
                track_start: std::mem::transmute::<*mut c_void, TrackStart>(track_start),
                dispatch: std::mem::transmute::<*mut c_void, Dispatch>(dispatch),
            })
        }
    }

    /// Prints every membership until corosync ends.
    fn follow(&self) -> Result<()> {
        let handle = self.connect()?;
        // SAFETY: the handle is live, and the callback takes what the library documents.
        let ended = unsafe {
            match (self.track_start)(handle, TRACK) {
                OK => (self.dispatch)(handle, BLOCKING),
                error => error,
            }
        };
        Err(LabError(format!("corosync's quorum service ended ({ended})")))
    }

    /// Corosync answers as soon as it has started.
    fn connect(&self) -> Result<u64> {
        let callbacks = Callbacks { notify: print_membership };
        let deadline = now_ms() + 20_000.0;
        while now_ms() < deadline {
            let (mut handle, mut kind) = (0, 0);
            // SAFETY: the pointers are to locals, which the library reads and writes in the call.
            if unsafe { (self.initialize)(&raw mut handle, &raw const callbacks, &raw mut kind) }
                == OK
            {
                return Ok(handle);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(LabError("corosync did not answer within 20 s of its start".into()))
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void> {
    // SAFETY: the library is loaded and the name ends with a zero.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return Err(LabError(format!("libquorum.so.5 has no {}", name.to_string_lossy())));
    }
    Ok(address)
}

/// `<milliseconds> <quorate> <member>,<member>…`, a line for each membership.
extern "C" fn print_membership(_: u64, quorate: u32, _: u64, count: u32, members: *const u32) {
    let at = now_ms();
    let members = match members.is_null() {
        true => &[],
        // SAFETY: the library passes a list of that length, valid during the call.
        false => unsafe { std::slice::from_raw_parts(members, count as usize) },
    };
    let numbers: Vec<String> = members.iter().map(ToString::to_string).collect();
    let mut out = std::io::stdout().lock();
    // If nobody reads any more, the node is about to be killed.
    let _ = writeln!(out, "{at:.3} {quorate} {}", numbers.join(","));
    let _ = out.flush();
}
