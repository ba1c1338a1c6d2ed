//! How far notifications were sent: one number that outlives the program.
//!
//! It is advanced after the master agent took a notification, never before. So a notification may
//! be sent twice after a crash, and none is left out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the sequence number of the last notified record is kept.
pub trait Cursor: Send {
    /// The number, or `None` before anything was ever kept.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&mut self) -> io::Result<Option<u64>>;

    /// Keeps the number; it is on disk on return.
    ///
    /// # Errors
    /// It cannot be kept.
    fn store(&mut self, seq: u64) -> io::Result<()>;
}

/// A cursor in a file of its own.
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

impl Cursor for FileCursor {
    /// A file that holds no number is as good as none: notifications then go on from the present.
    fn load(&mut self) -> io::Result<Option<u64>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Written beside the old one first, so that a crash leaves one of the two.
    fn store(&mut self, seq: u64) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{seq}")?;
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
        assert_eq!(FileCursor::new(&path).load().expect("load"), None);
        FileCursor::new(&path).store(7).expect("store");
        FileCursor::new(&path).store(8).expect("store");
        assert_eq!(FileCursor::new(&path).load().expect("load"), Some(8));
        fs::write(&path, "nonsense").expect("write");
        assert_eq!(FileCursor::new(&path).load().expect("load"), None);
    }
}
