//! The file in the state directory that says what this node may hold: `held.json`.
//!
//! It names at least what is held, never less: it is on disk before anything is acquired, and only
//! shrinks after something was released. With it are the [`Kept::epoch`], which must not be used
//! twice, and the name of the kernel's gate.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Kept;

/// Its name in the state directory.
const NAME: &str = "held.json";

/// The file, and what it says.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    kept: Kept,
}

impl File {
    /// Reads the file of a state directory; none means that nothing was ever held.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(NAME);
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, kept })
    }

    /// What it says.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Changes it. When this returns without an error it is on disk; after one, it says what it
    /// said before.
    pub fn update(&mut self, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
        let mut kept = self.kept.clone();
        change(&mut kept);
        if kept != self.kept {
            self.write(&kept)?;
            self.kept = kept;
        }
        Ok(())
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let next = self.path.with_extension("json.new");
        // Environments of release programs may have passwords in them.
        let mut options = fs::OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(&next)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        fs::File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::hold::{Held, HeldAddress};

    #[test]
    fn what_was_written_is_read_by_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::open(directory.path()).unwrap();
        assert_eq!(file.kept(), &Kept::default());
        let held = Held {
            addresses: BTreeSet::from([HeldAddress {
                address: [10, 0, 0, 9].into(),
                prefix: 24,
                device: "eth0".into(),
            }]),
            groups: BTreeSet::from(["/sys/fs/cgroup/vedette/web".into()]),
            units: BTreeSet::from(["web.service".into()]),
            engines: BTreeSet::from(["web.slice".into()]),
            ..Held::default()
        };
        file.update(|kept| (kept.epoch, kept.held) = (7, held.clone())).unwrap();
        let again = File::open(directory.path()).unwrap();
        assert_eq!((again.kept().epoch, &again.kept().held), (7, &held));
        let mode = fs::metadata(directory.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else reads it");
    }

    /// A disk that is full changes nothing, and says so.
    #[test]
    fn a_failed_write_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("held.json.new")).unwrap();
        assert!(file.update(|kept| kept.epoch = 1).is_err());
        assert_eq!(file.kept().epoch, 0);
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(NAME), &bytes).unwrap();
            prop_assert!(File::open(directory.path()).is_err());
        }
    }
}
