//! The machine's watchdog: resets it unless it is petted in time.
//!
//! It is petted only while the heartbeat turns and nothing is held without a lease. So if the guard
//! can neither release nor say so, the machine ends, and with it whatever it still had.
//!
//! Where the kernel's gate is up, the watchdog is a second line and only has to act some time. Where
//! it is the only one, it has to fire before the rest of the cluster takes over, that is before
//! `lease end + release_max`: then it is petted only if at least `timeout - release_max` is left of
//! the lease ([`Watchdog::may_be_petted`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// The shortest time that devices know.
const TIMEOUT_S: libc::c_int = 1;
/// Said before closing, so that the device stops.
const MAGIC_CLOSE: &[u8] = b"V";

/// `WDIOC_SETTIMEOUT`
const SET_TIMEOUT: libc::Ioctl = libc::_IOWR::<libc::c_int>(b'W' as u32, 6);

/// An open watchdog; it counts from the moment it was opened.
#[derive(Debug)]
pub(super) struct Watchdog {
    file: File,
    timeout: Duration,
    is_device: bool,
}

impl Watchdog {
    /// Opens it, with the shortest timeout that it has. What is no device (a pipe, as tests use it)
    /// is petted all the same, and never [`firm`](Self::is_firm).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Both, so that opening a pipe does not wait for its reader.
        let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let is_device = file.metadata()?.file_type().is_char_device();
        let mut seconds = TIMEOUT_S;
        if is_device {
            // SAFETY: the pointer is valid for the call.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), SET_TIMEOUT, &raw mut seconds) };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let timeout = Duration::from_secs(seconds.max(1).unsigned_abs().into());
        Ok(Self { file, timeout, is_device })
    }

    /// Gives the machine more time.
    pub(super) fn pet(&mut self) -> io::Result<()> {
        self.file.write_all(b"\0")
    }

    /// How often it is to be petted.
    pub(super) fn every(&self) -> Duration {
        self.timeout / 4
    }

    /// Whether it resets the machine soon enough to stand behind a release, and yet not if all is
    /// well: a fresh lease has to be longer than what has to be left, by a margin.
    pub(super) fn is_firm(&self, lease: Duration, release_max: Duration, margin: Duration) -> bool {
        self.why_not_firm(lease, release_max, margin).is_none()
    }

    /// Why it does not stand behind a release, if it does not.
    pub(super) fn why_not_firm(
        &self,
        lease: Duration,
        release_max: Duration,
        margin: Duration,
    ) -> Option<String> {
        let wanted = self.needed(release_max) + margin;
        if !self.is_device {
            return Some("is no watchdog device".into());
        }
        (wanted > lease).then(|| {
            format!(
                "cannot be set below {} s, and the lease is {} s; lengthen the lease to {} s or more, \
                 or make the kernel's nf_tables available",
                self.timeout.as_secs_f64(),
                lease.as_secs_f64(),
                wanted.as_secs_f64(),
            )
        })
    }

    /// What has to be left of the lease if nothing else stands behind the release.
    fn needed(&self, release_max: Duration) -> Duration {
        self.timeout.saturating_sub(release_max)
    }

    /// Whether it may be petted with that much left of the lease.
    pub(super) fn may_be_petted(&self, left: Duration, release_max: Duration, alone: bool) -> bool {
        !left.is_zero() && (!alone || left >= self.needed(release_max))
    }

    /// Stops it: the machine goes on without.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.file.write_all(MAGIC_CLOSE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn watchdog(is_device: bool) -> Watchdog {
        Watchdog { file: tempfile::tempfile().unwrap(), timeout: MS * 1_000, is_device }
    }

    #[test]
    fn it_is_petted_and_closed_with_the_magic_letter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("watchdog");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut open = Watchdog::open(&path).unwrap();
        let mut reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        open.pet().unwrap();
        open.close().unwrap();
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"\0V");
    }

    #[test]
    fn one_that_is_not_there_is_an_error() {
        assert!(Watchdog::open(Path::new("/dev/vedette-no-watchdog")).is_err());
    }

    /// A pet at the last moment must not carry the machine past what the others wait for.
    #[test]
    fn alone_it_fires_before_the_takeover() {
        let (dog, release_max) = (watchdog(true), MS * 300);
        assert!(dog.may_be_petted(MS * 700, release_max, true), "700 + 300 = one second");
        assert!(!dog.may_be_petted(MS * 699, release_max, true));
        assert!(dog.may_be_petted(MS, release_max, false));
        assert!(!dog.may_be_petted(Duration::ZERO, release_max, false));
    }

    #[test]
    fn it_stands_behind_a_release_only_if_the_lease_is_long_enough() {
        let dog = watchdog(true);
        assert!(dog.is_firm(MS * 1_000, MS * 300, MS * 200));
        assert!(!dog.is_firm(MS * 800, MS * 300, MS * 200));
        assert!(!watchdog(false).is_firm(MS * 1_000, MS * 300, MS * 200));
    }

    /// J7: who configured it learns what it would take.
    #[test]
    fn why_it_does_not_is_said_with_what_would_help() {
        let why = |dog: Watchdog, lease| dog.why_not_firm(MS * lease, MS * 300, MS * 200);
        assert_eq!(why(watchdog(true), 900), None);
        assert_eq!(
            why(watchdog(true), 800).unwrap(),
            "cannot be set below 1 s, and the lease is 0.8 s; lengthen the lease to 0.9 s or more, \
             or make the kernel's nf_tables available"
        );
        assert_eq!(why(watchdog(false), 1_000).unwrap(), "is no watchdog device");
    }
}
