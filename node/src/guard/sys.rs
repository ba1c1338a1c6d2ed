//! The system calls that the guard needs and safe Rust does not have. All unsafe code is here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::signal::Signal;

/// Low among the real-time priorities: above all normal work, below the kernel's own threads.
const PRIORITY: i32 = 10;
/// Of what must not wait for normal work either, but for the heartbeat.
const LOWER_PRIORITY: i32 = 5;

/// Microseconds since the machine started, those in which it was suspended included: a lease does
/// not wait for a machine that sleeps.
pub(super) fn boot_time_us() -> u64 {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    // It fails for clocks that do not exist; this one does since Linux 2.6.39.
    let now = clock.now().unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1_000
}

/// Microseconds since 1970 on the wall clock; 0 if it stands before that.
pub(super) fn wall_time_us() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Lets the calling thread run before all normal work. Children do not inherit it.
pub(super) fn real_time() -> io::Result<()> {
    schedule(PRIORITY)
}

/// The same, but after the heartbeat.
pub(super) fn nearly_real_time() -> io::Result<()> {
    schedule(LOWER_PRIORITY)
}

fn schedule(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` is valid for the call; 0 names the calling thread.
    checked(unsafe { libc::sched_setscheduler(0, policy, &parameter) }).map(drop)
}

/// Keeps what is in memory in memory. On fault only: pages that were never used cost nothing.
pub(super) fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes no pointers.
    checked(unsafe { libc::mlockall(flags) }).map(drop)
}

/// The same for what comes from now on.
pub(super) fn lock_future() -> io::Result<()> {
    // SAFETY: takes no pointers.
    checked(unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) }).map(drop)
}

/// The same for an area: what is there and what comes.
pub(super) fn lock_on_fault(start: u64, end: u64) -> io::Result<()> {
    let length = end.saturating_sub(start) as usize;
    // SAFETY: an area that is not there is refused; locking changes no content.
    let result = unsafe {
        libc::mlock2(
            start as usize as *const libc::c_void,
            length,
            libc::MLOCK_ONFAULT as libc::c_uint,
        )
    };
    checked(result).map(drop)
}

/// Takes an area out of memory, which is the unchanged content of a file, read again when it is used.
pub(super) fn forget(start: u64, end: u64) -> io::Result<()> {
    let length = end.saturating_sub(start) as usize;
    let at = start as usize as *mut libc::c_void;
    // SAFETY: the caller names areas of files that nobody changed or may change: what comes back is the same.
    checked(unsafe { libc::madvise(at, length, libc::MADV_DONTNEED) }).map(drop)
}

/// The size of a page of memory.
pub(super) fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4_096)
}

/// Wakes a thread that waits in [`wait`].
#[derive(Debug)]
pub(super) struct Waker(File);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let raw = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(raw) })))
    }

    pub(super) fn wake(&self) {
        // It fails only if it would overflow, and then it is awake.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    pub(super) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor to wait for.
pub(super) fn readable(fd: &impl AsRawFd) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits until one of the descriptors is readable or the time is over.
pub(super) fn wait(fds: &mut [libc::pollfd], time: Option<Duration>) {
    let limit = time.map(|time| libc::timespec {
        tv_sec: time.as_secs().min(3_600) as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `fds` and `limit` are valid for the call; no signal mask is given. An interruption
    // is as good as a timeout: the caller looks at everything again.
    let result = unsafe {
        libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, limit, std::ptr::null())
    };
    if result < 0 {
        fds.iter_mut().for_each(|fd| fd.revents = 0);
    }
}

/// The child ends, by SIGTERM, when the thread that started it ends. It can be sent signals: those
/// that the guard blocks, because it reads them from a descriptor, would stay blocked in the child
/// and in everything that it starts.
pub(super) fn end_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have died before the call.
        if nix::unistd::getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: `prepare` makes three system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// The child is nobody's: it goes on when its parent ends, and no key at a terminal reaches it.
pub(super) fn outlive_parent(command: &mut Command) {
    let prepare = || {
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        nix::unistd::setsid()?;
        Ok(())
    };
    // SAFETY: `prepare` makes two system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Memory that several processes see: words that are read and written as a whole.
#[derive(Debug)]
pub(super) struct Shared {
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: it is memory of words that any thread may read and write; nothing in it belongs to a thread.
unsafe impl Send for Shared {}
// SAFETY: as above; all access is by atomic words.
unsafe impl Sync for Shared {}

impl Shared {
    /// New memory, all zero, and the file by which others map it.
    pub(super) fn new(count: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(c"vedette", flags)?;
        nix::unistd::ftruncate(&file, (count * size_of::<AtomicU64>()) as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((Self::map(&file, count)?, file))
    }

    /// Maps what another process made.
    ///
    /// # Errors
    /// If there is less of it.
    pub(super) fn map(file: &impl AsFd, count: usize) -> io::Result<Self> {
        let bytes = count * size_of::<AtomicU64>();
        if nix::sys::stat::fstat(file)?.st_size < bytes as i64 {
            return Err(io::Error::other("it is shorter than a board"));
        }
        let length = bytes.try_into().map_err(io::Error::other)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; the file is long enough.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0)? };
        Ok(Self { words: start.cast(), count })
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, begins at a page, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `map`, and nothing borrowed from `self` is left.
        let _ = unsafe { munmap(self.words.cast(), self.count * size_of::<AtomicU64>()) };
    }
}
