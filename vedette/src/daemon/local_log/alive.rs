//! A sign of life on disk: when this node was last alive, should it end without a word.
//!
//! A thread writes the clocks into one small file ten times a second, without waiting for the disk: the
//! kernel keeps what was written when the process is killed. Every five seconds it is put on disk, which
//! bounds what a loss of power can take away.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vedette_core::id::{Hash, Session};
use vedette_core::local::Happened;
use vedette_core::model::Severity;
use vedette_core::record::Code;
use vedette_core::time::WallTime;

use super::super::proposer::wall_time;
use super::{LocalLog, boot_time_us, clocks};

/// Between two signs.
const EVERY: Duration = Duration::from_millis(100);

/// Signs until the file is put on disk.
const SYNC_AFTER: u32 = 50;

const MAGIC: [u8; 8] = *b"VDALIVE1";
const LEN: usize = 72;

/// One sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    at: WallTime,
    uptime_us: u64,
    boot: Hash,
    guard: Session,
    /// It ended in good order.
    left: bool,
}

impl Past {
    fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.at.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.uptime_us.to_be_bytes());
        bytes[24..56].copy_from_slice(&self.boot.0);
        bytes[56..64].copy_from_slice(&self.guard.0.to_be_bytes());
        bytes[64] = u8::from(self.left);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize| -> Option<u64> {
            Some(u64::from_be_bytes(bytes.get(from..from + 8)?.try_into().ok()?))
        };
        if bytes.len() != LEN || bytes[..8] != MAGIC {
            return None;
        }
        Some(Self {
            at: WallTime(number(8)? as i64),
            uptime_us: number(16)?,
            boot: Hash(bytes[24..56].try_into().ok()?),
            guard: Session(number(56)?),
            left: bytes[64] != 0,
        })
    }
}

/// The file.
pub(crate) struct Alive {
    file: Arc<File>,
    guard: Arc<AtomicU64>,
    /// The node leaves: whatever is written from now on says so.
    left: Arc<AtomicBool>,
}

impl Alive {
    /// Opens the file, and says what the run before left there.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Past>)> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let mut bytes = vec![0; LEN];
        let past = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| Past::read(&bytes));
        let (file, guard) = (Arc::new(file), Arc::new(AtomicU64::new(0)));
        Ok((Self { file, guard, left: Arc::default() }, past))
    }

    /// Starts the thread, now that the guard's run is known.
    pub(crate) fn start(&self, guard: Session) -> io::Result<()> {
        self.guard.store(guard.0, Ordering::Relaxed);
        let (file, left) = (self.file.clone(), self.left.clone());
        let sign = move |count: u32| {
            let past = now(guard, left.load(Ordering::Relaxed));
            // A disk that takes nothing is told of elsewhere.
            let _ = file.write_all_at(&past.bytes(), 0);
            if count.is_multiple_of(SYNC_AFTER) {
                let _ = file.sync_data();
            }
        };
        let thread = std::thread::Builder::new().name("alive".into());
        thread.stack_size(64 << 10).spawn(move || {
            for count in 1_u32.. {
                sign(count);
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(())
    }

    /// The node leaves in good order.
    pub(crate) fn leave(&self) {
        let guard = Session(self.guard.load(Ordering::Relaxed));
        self.left.store(true, Ordering::Relaxed);
        // The thread may be about to write that the node lives, once; it goes on until the process ends.
        std::thread::sleep(EVERY + EVERY / 2);
        let _ = self.file.write_all_at(&now(guard, true).bytes(), 0);
        let _ = self.file.sync_data();
    }
}

fn now(guard: Session, left: bool) -> Past {
    Past { at: wall_time(), uptime_us: boot_time_us(), boot: clocks::boot(), guard, left }
}

impl LocalLog {
    /// Says that this node or its agent started, and how long it had been away.
    pub(crate) fn started(&self, past: Option<Past>, guard: Session) {
        let Some(past) = past else { return };
        let (subject, name) = self.own();
        let same_boot = past.boot == self.0.boot;
        if same_boot {
            self.0.past_us.store(past.uptime_us, Ordering::Relaxed);
        }
        let away_us = if same_boot {
            boot_time_us().saturating_sub(past.uptime_us)
        } else {
            u64::try_from(wall_time().0.saturating_sub(past.at.0)).unwrap_or(0)
        };
        let (code, what, why) = match (same_boot && past.guard == guard, past.left, same_boot) {
            (true, false, _) => {
                (Code::AgentRestarted, "agent of {} was started again", "its agent had ended")
            }
            (true, true, _) => return,
            (false, true, _) => (Code::NodeStarted, "{} started", "it had left in good order"),
            (false, false, true) => {
                (Code::NodeStarted, "{} started again", "its daemon had ended without leaving")
            }
            (false, false, false) => {
                (Code::NodeStarted, "{} started again", "its machine had ended without leaving")
            }
        };
        let bad = code == Code::NodeStarted && !past.left;
        self.happened(Happened {
            code,
            subject,
            subject_name: name.clone(),
            message: what.replace("{}", &name),
            cause: format!("{why}; it was last alive at {}", past.at),
            severity: if bad { Severity::Warning } else { Severity::Notice },
            duration_ms: Some(away_us / 1_000),
            alert: bad,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_comes_back() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("alive");
        let (alive, past) = Alive::open(&path).expect("a file");
        assert_eq!(past, None);
        alive.guard.store(7, Ordering::Relaxed);
        alive.leave();
        let (_, past) = Alive::open(&path).expect("a file");
        let past = past.expect("a sign of life");
        assert_eq!((past.guard, past.left, past.boot), (Session(7), true, clocks::boot()));
        assert_eq!(Past::read(&past.bytes()), Some(past));
    }

    #[test]
    fn rubbish_is_no_sign_of_life() {
        let sign = now(Session(1), false).bytes();
        assert_eq!(Past::read(&sign[..LEN - 1]), None);
        assert_eq!(Past::read(&[0; LEN]), None);
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::write(folder.path().join("alive"), b"torn").expect("a file");
        let (_, past) = Alive::open(&folder.path().join("alive")).expect("a file");
        assert_eq!(past, None);
    }
}
