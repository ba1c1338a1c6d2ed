//! The kernel's list of mounts, `/proc/self/mountinfo`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use crate::cgroup::unescaped;

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// What was given to `mount`.
    pub(super) source: String,
    /// Major and minor number of what its files are on.
    pub(super) device: (u32, u32),
    options: String,
    system_options: String,
}

/// All of them, in the order in which they were mounted.
pub(super) fn all() -> std::io::Result<Vec<Mount>> {
    Ok(in_list(&std::fs::read("/proc/self/mountinfo")?))
}

/// Those of a list, whatever bytes the names of the others have.
pub(super) fn in_list(list: &[u8]) -> Vec<Mount> {
    String::from_utf8_lossy(list).lines().filter_map(Mount::parse).collect()
}

/// Whether a type can be mounted, as far as that can be told.
pub(super) fn knows(fs_type: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let in_kernel = known.lines().any(|line| line.split('\t').next_back() == Some(fs_type));
    let helper = format!("mount.{fs_type}");
    in_kernel
        || fs_type == "auto"
        || crate::process::find_in(crate::process::PATH, &helper).is_some()
        || has_module(fs_type)
}

/// Whether there are no modules to be seen here for the kernel that runs, so that nobody can tell.
pub(super) fn modules_unknown() -> bool {
    !modules().is_some_and(|folder| folder.is_dir())
}

fn modules() -> Option<PathBuf> {
    let kernel = nix::sys::utsname::uname().ok()?;
    Some(PathBuf::from("/lib/modules").join(kernel.release()))
}

/// Whether the kernel would load a module when such a file system is mounted: by its name, or by an alias.
fn has_module(fs_type: &str) -> bool {
    let Some(folder) = modules() else { return false };
    let lines = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let (named, alias) = (format!("/{fs_type}.ko"), format!("alias fs-{fs_type} "));
    let is_of = |line: &str| line.split(':').next().is_some_and(|path| path.contains(&named));
    ["modules.dep", "modules.builtin"].iter().any(|file| lines(file).lines().any(is_of))
        || lines("modules.alias").lines().any(|line| line.starts_with(&alias))
}

impl Mount {
    /// `36 35 98:0 /root /point options shared:1 - type source options`
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (major, minor) = mount.next()?.split_once(':')?;
        let point = unescaped(mount.nth(1)?);
        let options = mount.next()?.to_owned();
        let mut system = system.split(' ').skip(1);
        Some(Self {
            point: point.into(),
            source: unescaped(system.next()?),
            device: (major.parse().ok()?, minor.parse().ok()?),
            options,
            system_options: system.next()?.to_owned(),
        })
    }

    /// Whether it is of what was given to `mount`.
    pub(super) fn is_of(&self, device: &str) -> bool {
        self.source == device || self.is_of_block(device)
    }

    /// Whether it is of that block device, whatever it was called.
    pub(super) fn is_of_block(&self, device: &str) -> bool {
        block(device).is_some_and(|numbers| numbers == self.device)
    }

    pub(super) fn is_read_only(&self) -> bool {
        let has = |options: &str| options.split(',').any(|option| option == "ro");
        has(&self.options) || has(&self.system_options)
    }
}

/// The path of a device that is named so, or by `UUID=…` and the like.
pub(super) fn path_of(device: &str) -> Option<PathBuf> {
    match device.split_once('=') {
        Some((kind, value)) => {
            Some(PathBuf::from(format!("/dev/disk/by-{}/{value}", kind.to_ascii_lowercase())))
        }
        None => Some(PathBuf::from(device)).filter(|path| path.is_absolute()),
    }
}

/// The numbers of a block device.
pub(super) fn block(device: &str) -> Option<(u32, u32)> {
    let found = std::fs::metadata(path_of(device)?).ok()?;
    let number = found.rdev();
    found.file_type().is_block_device().then(|| (libc::major(number), libc::minor(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood() {
        let line = "36 35 7:0 / /my\\040disk rw,noatime shared:1 master:2 - ext4 /dev/loop0 ro";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point.to_str(), mount.device), (Some("/my disk"), (7, 0)));
        assert_eq!(mount.source, "/dev/loop0");
        assert!(mount.is_read_only() && mount.is_of("/dev/loop0") && !mount.is_of("/dev/null"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_line_holds_never_panics(line in "\\PC{0,80}( - \\PC{0,30})?") {
            let _ = Mount::parse(&line);
        }
    }
}
