//! How far notifications were sent: a position that outlives the program.
//!
//! It is advanced after the master agent took a notification, never before. So a notification may
//! be sent twice after a crash, and none is left out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How far notifications were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the last record of the cluster's history.
    pub seq: u64,
    /// Number of the last record of this node's own journal; `None` before any was kept.
    pub local: Option<u64>,
}

/// Where the position is kept.
pub trait Cursor: Send {
    /// The position, or `None` before anything was ever kept.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&mut self) -> io::Result<Option<Position>>;

    /// Keeps the position; it is on disk on return.
    ///
    /// # Errors
    /// It cannot be kept.
    fn store(&mut self, position: Position) -> io::Result<()>;
}

/// A cursor in a file of its own: the two numbers in one line. Files of versions that had no journal
/// hold the first alone.
#[derive(Debug)]
pub struct FileCursor {
    path: PathBuf,
}

impl FileCursor {
    /// A cursor in the file `path`, which need not exist yet; its directory has to.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }
}

fn parsed(text: &str) -> Option<Position> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let seq = numbers.next()?.ok()?;
    let local = numbers.next().transpose().ok()?;
    Some(Position { seq, local })
}

impl Cursor for FileCursor {
    /// A file that holds no number is as good as none: notifications then go on from the present.
    fn load(&mut self) -> io::Result<Option<Position>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(parsed(&text)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Written beside the old one first, so that a crash leaves one of the two.
    fn store(&mut self, position: Position) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        match position.local {
            Some(local) => writeln!(file, "{} {local}", position.seq)?,
            None => writeln!(file, "{}", position.seq)?,
        }
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_outlives_its_program() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("notified");
        let load = || FileCursor::new(&path).load().expect("load");
        assert_eq!(load(), None);
        for position in [Position { seq: 7, local: None }, Position { seq: 8, local: Some(3) }] {
            FileCursor::new(&path).store(position).expect("store");
            assert_eq!(load(), Some(position));
        }
        for nonsense in ["nonsense", "", "8 nonsense"] {
            fs::write(&path, nonsense).expect("write");
            assert_eq!(load(), None, "{nonsense}");
        }
    }

    /// The file of a version that had no journal.
    #[test]
    fn an_older_file_is_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("notified");
        fs::write(&path, "12\n").expect("write");
        let read = FileCursor::new(&path).load().expect("load");
        assert_eq!(read, Some(Position { seq: 12, local: None }));
    }
}
