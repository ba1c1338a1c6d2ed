//! The machine's watchdog: resets it unless it is petted in time.
//!
//! It is petted only while the heartbeat turns and nothing is held without a lease. So if the guard
//! can neither release nor say so, the machine ends, and with it whatever it still had. When that is, and whether it
//! stands behind a release, is for [`WatchdogFacts`] to say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use vedette_core::holding::WatchdogFacts;

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
    /// is petted all the same, and never [firm](WatchdogFacts::is_firm).
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

    /// What decisions about it stand on.
    pub(super) fn facts(&self, path: String) -> WatchdogFacts {
        WatchdogFacts { path, timeout: self.timeout, is_device: self.is_device }
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
}
