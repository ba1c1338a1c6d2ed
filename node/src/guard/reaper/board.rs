//! What the guard and its reaper both see: memory of the kernel's that each has mapped.
//!
//! The guard writes when its lease ends and what it holds; no message has to arrive, and a guard that is stopped
//! has said everything already. What is held is written into one of two places by turns, and then named as the
//! newest: who reads the other one meanwhile is not disturbed, and who was overtaken reads again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::guard::sys::Shared;
use crate::hold::Held;

/// A board of this build: another one would be read wrongly.
const LAYOUT: u64 = 0x7665_6465_7474_6501;

// Places of single words.
const MARK: usize = 0;
const LEASE: usize = 1;
const RELEASE_MAX: usize = 2;
const VERSION: usize = 3;
const BEGUN: usize = 4;
const LOOKED: usize = 5;
const REAPED: usize = 6;
const REAPED_AT: usize = 7;
const HEAD: usize = 8;

/// Words for one list; what is not used takes no memory.
const LIST: usize = 64 << 10;
const WORDS: usize = HEAD + 2 * (1 + LIST);

/// The memory.
#[derive(Debug)]
pub(in crate::guard) struct Board {
    shared: Shared,
    file: OwnedFd,
}

impl Board {
    /// A new one, with nothing on it.
    pub(in crate::guard) fn new() -> io::Result<Self> {
        let (shared, file) = Shared::new(WORDS)?;
        shared.words()[MARK].store(LAYOUT, Release);
        Ok(Self { shared, file })
    }

    /// The one that another process made.
    ///
    /// # Errors
    /// If it is none, or one of another build.
    pub(in crate::guard) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let file = file.try_clone_to_owned()?;
        let board = Self { shared: Shared::map(&file, WORDS)?, file };
        if board.word(MARK) != LAYOUT {
            return Err(io::Error::other("it is not the board of a guard of this build"));
        }
        Ok(board)
    }

    /// Its file, for another process.
    pub(in crate::guard) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn word(&self, place: usize) -> u64 {
        self.shared.words()[place].load(Acquire)
    }

    fn set(&self, place: usize, value: u64) {
        self.shared.words()[place].store(value, Release);
    }

    /// The lease ends then, in microseconds of `CLOCK_BOOTTIME`.
    pub(in crate::guard) fn set_lease(&self, until_us: u64) {
        self.set(LEASE, until_us);
    }

    /// When the lease ends.
    pub(super) fn lease(&self) -> u64 {
        self.word(LEASE)
    }

    /// So long a release may take.
    pub(in crate::guard) fn set_release_max(&self, time_ms: u64) {
        self.set(RELEASE_MAX, time_ms);
    }

    /// How long a release may take, in milliseconds.
    pub(super) fn release_max(&self) -> u64 {
        self.word(RELEASE_MAX)
    }

    /// The guard has begun to let go of this version of what is held.
    pub(in crate::guard) fn begin(&self) {
        self.set(BEGUN, self.version());
    }

    /// Whether the guard has begun to let go of a version.
    pub(super) fn is_begun(&self, version: u64) -> bool {
        self.word(BEGUN) == version
    }

    /// The reaper has let go of all of this version, at that moment.
    pub(super) fn reap(&self, version: u64, now_us: u64) {
        self.set(REAPED_AT, now_us);
        self.set(REAPED, version);
    }

    /// When the reaper let go of all that stands here now, if it did.
    pub(in crate::guard) fn reaped(&self) -> Option<u64> {
        (self.word(REAPED) == self.version()).then(|| self.word(REAPED_AT)).filter(|at| *at > 0)
    }

    /// The reaper has looked.
    pub(super) fn look(&self, now_us: u64) {
        self.set(LOOKED, now_us);
    }

    /// When the reaper looked last.
    pub(in crate::guard) fn looked(&self) -> u64 {
        self.word(LOOKED)
    }

    /// The number of the newest list.
    pub(super) fn version(&self) -> u64 {
        self.word(VERSION)
    }

    /// Writes down what is held. One process, one thread.
    ///
    /// # Errors
    /// If there is too much of it; what was written before stands then.
    pub(in crate::guard) fn post(&self, held: &Held) -> io::Result<()> {
        // It ends everything, whoever it belongs to.
        let nobodys = Held { whose: Default::default(), ..held.clone() };
        let text = serde_json::to_vec(&nobodys)?;
        if text.len() > LIST * 8 {
            let what = format!("what is held takes {} bytes, of {} at most", text.len(), LIST * 8);
            return Err(io::Error::other(what));
        }
        let next = self.version() + 1;
        let list = self.list(next);
        list[0].store(text.len() as u64, Relaxed);
        for (word, bytes) in list[1..].iter().zip(text.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Relaxed);
        }
        self.set(VERSION, next);
        Ok(())
    }

    fn list(&self, version: u64) -> &[std::sync::atomic::AtomicU64] {
        let begin = HEAD + (version % 2) as usize * (1 + LIST);
        &self.shared.words()[begin..=begin + LIST]
    }

    /// The newest list, and its number.
    ///
    /// # Errors
    /// If it cannot be understood.
    pub(super) fn read(&self) -> io::Result<(u64, Held)> {
        loop {
            let version = self.version();
            if version == 0 {
                return Ok((0, Held::default()));
            }
            let list = self.list(version);
            let length = (list[0].load(Acquire) as usize).min(LIST * 8);
            let words = list[1..].iter().take(length.div_ceil(8));
            let mut text: Vec<u8> =
                words.flat_map(|word| word.load(Acquire).to_ne_bytes()).collect();
            text.truncate(length);
            // Two newer ones may have been written meanwhile, the second into this place.
            if self.version() == version {
                return Ok((version, serde_json::from_slice(&text)?));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(names: usize) -> Held {
        let groups = (0..names).map(|it| format!("/sys/fs/cgroup/vedette/x-1/g{it}").into());
        Held { groups: groups.collect(), ..Held::default() }
    }

    #[test]
    fn what_one_posts_the_other_reads() {
        let guard = Board::new().unwrap();
        let reaper = Board::of(guard.file()).unwrap();
        assert_eq!(reaper.read().unwrap(), (0, Held::default()));
        guard.set_lease(17);
        for count in [3, 0, 900] {
            guard.post(&held(count)).unwrap();
            assert_eq!(reaper.read().unwrap().1, held(count));
        }
        assert_eq!((reaper.lease(), reaper.version()), (17, 3));
        assert!(!reaper.is_begun(3));
        guard.begin();
        assert!(reaper.is_begun(3));
        reaper.look(5);
        assert_eq!((guard.looked(), guard.reaped()), (5, None));
        reaper.reap(3, 9);
        assert_eq!(guard.reaped(), Some(9));
        guard.post(&held(1)).unwrap();
        assert_eq!(guard.reaped(), None, "of this list nothing was let go of");
    }

    #[test]
    fn too_much_changes_nothing() {
        let board = Board::new().unwrap();
        board.post(&held(2)).unwrap();
        assert!(board.post(&held(20_000)).is_err());
        assert_eq!(board.read().unwrap(), (1, held(2)));
    }

    #[test]
    fn another_file_is_no_board() {
        let short = tempfile::tempfile().unwrap();
        assert!(Board::of(short.as_fd()).is_err());
        short.set_len((WORDS * 8) as u64).unwrap();
        assert!(Board::of(short.as_fd()).unwrap_err().to_string().contains("not the board"));
    }

    /// Whoever reads while somebody writes reads one of what was written.
    #[test]
    fn a_list_is_read_as_a_whole() {
        let board = Board::new().unwrap();
        board.post(&held(1)).unwrap();
        let other = Board::of(board.file()).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..2_000 {
                    board.post(&held(1 + round % 40)).unwrap();
                }
            });
            while !writer.is_finished() {
                let (_, read) = other.read().expect("a whole list");
                assert_eq!(read, held(read.groups.len()));
            }
        });
    }
}
