//! How far the journal was, beside the file that holds it.
//!
//! A journal whose end is missing looks whole: a disk forgot what it had promised, a file was cut, or the
//! agent died while the disk was full, with entries that were told and never written. So the number of the
//! last entry stands in a small file of its own as well, written before the entries are and in place, which
//! needs no room on a full disk once it was written. It is no promise (nothing waits for it to reach the disk);
//! where it says more than the journal has, entries that were told are gone, and that is counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the file is called beside `history.db`.
const SUFFIX: &str = "tail";

/// The file.
#[derive(Debug)]
pub(super) struct Tail(Option<File>);

impl Tail {
    /// The file beside a history; one that cannot be opened is none, and says so once.
    pub(super) fn beside(history: &Path) -> Self {
        let path = path_of(history);
        let opened =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        Self(opened.inspect_err(|error| tell(&path, error)).ok())
    }

    /// What was written last: the journal and its last number.
    pub(super) fn read(history: &Path) -> Option<(u64, u64)> {
        let mut text = String::new();
        File::open(path_of(history)).ok()?.take(64).read_to_string(&mut text).ok()?;
        let (journal, number) = text.trim_end().split_once(' ')?;
        Some((u64::from_str_radix(journal, 16).ok()?, number.trim().parse().ok()?))
    }

    /// Notes that a journal goes up to a number.
    pub(super) fn write(&self, journal: u64, number: u64) {
        let Some(file) = &self.0 else { return };
        if let Err(error) =
            file.write_all_at(format!("{journal:016x} {number:020}\n").as_bytes(), 0)
        {
            tracing::debug!(%error, "the end of the journal is not noted");
        }
    }
}

fn path_of(history: &Path) -> PathBuf {
    history.with_extension(SUFFIX)
}

fn tell(path: &Path, error: &io::Error) {
    tracing::warn!(%error, "{} cannot be written", path.display());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_last_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let history = directory.path().join("history.db");
        assert_eq!(Tail::read(&history), None);
        let tail = Tail::beside(&history);
        assert_eq!(Tail::read(&history), None, "nothing was written yet");
        tail.write(u64::MAX >> 1, 7);
        tail.write(3, 12);
        assert_eq!(Tail::read(&history), Some((3, 12)));
    }

    proptest! {
        #[test]
        fn random_bytes_are_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let directory = tempfile::tempdir().unwrap();
            let history = directory.path().join("history.db");
            std::fs::write(path_of(&history), &bytes).unwrap();
            let _ = Tail::read(&history);
        }
    }
}
