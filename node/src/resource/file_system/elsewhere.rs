//! Whether a file system that was unmounted is free on the whole machine.
//!
//! A mount belongs to a mount namespace. Whoever made one while it was mounted (`unshare -m`, a container) has a
//! mount of their own, which stays when ours goes, and with it the kernel keeps the file system open and writes to
//! the disk. So every namespace of the machine is looked at, by what the kernel lists for a process in it; and the
//! device is asked for itself, which also shows what no process shows: a namespace that is only pinned, a mount
//! that was detached, a process that is not seen from here.
//!
//! A namespace that cannot be looked at, because its last process ended or may not be read, is no reason: the
//! device says what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::holders::name_of;
use super::mounts::{Mount, block, in_list, path_of};
use crate::process::left_behind::processes;

/// Processes that are named, of those of one namespace.
const NAMED: usize = 6;

/// Devices that were asked and have not answered yet.
static ASKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn asked() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of the kernel's lists is a mount of the file system.
#[derive(Clone, Debug)]
pub(super) struct Sought {
    path: PathBuf,
    /// Of the block device.
    block: (u32, u32),
    /// Of the mounts where it was seen: those of some types differ.
    mounted: Vec<(u32, u32)>,
}

impl Sought {
    /// The file system on that block device. What else can be mounted (another machine's export, memory) is no
    /// node's alone.
    pub(super) fn on(device: &str) -> Option<Self> {
        Some(Self { path: path_of(device)?, block: block(device)?, mounted: Vec::new() })
    }

    /// It was mounted so.
    pub(super) fn seen(&mut self, mount: &Mount) {
        if !self.mounted.contains(&mount.device) {
            self.mounted.push(mount.device);
        }
    }

    /// The device numbers that its files have.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let all = self.mounted.iter().chain([&self.block]);
        all.map(|(major, minor)| libc::makedev(*major, *minor)).collect()
    }

    /// Some types (btrfs) have numbers of their own, with 0 before them, and only name the device.
    fn is(&self, mount: &Mount) -> bool {
        mount.device == self.block
            || self.mounted.contains(&mount.device)
            || mount.device.0 == 0
                && mount.source.starts_with("/dev/")
                && block(&mount.source) == Some(self.block)
    }
}

/// A mount namespace that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    /// Where it is mounted there.
    point: PathBuf,
    /// The processes that live in it.
    processes: BTreeMap<i32, String>,
}

/// What keeps a file system that is not mounted where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is mounted at another place of this namespace, too.
    Here(PathBuf),
    /// Other namespaces have it.
    In(Vec<Namespace>),
    /// The device is in use, and by nobody's mount that is seen; the processes that have it open.
    Device(BTreeMap<i32, String>),
    /// The device did not say in time.
    Silent,
}

/// What keeps it; nothing if the device is free.
pub(super) async fn keeps(sought: &Sought, within: Duration) -> Option<Kept> {
    let sought = sought.clone();
    // A disk that hangs may keep whoever opens it; others do not join.
    if !asked().insert(sought.path.clone()) {
        return Some(Kept::Silent);
    }
    let look = tokio::task::spawn_blocking(move || {
        let kept = look(&sought);
        asked().remove(&sought.path);
        kept
    });
    match timeout(within, look).await {
        Ok(kept) => kept.unwrap_or(None),
        Err(_) => Some(Kept::Silent),
    }
}

/// The other mount namespaces that have it, with nobody asking the device.
pub(super) async fn others(sought: &Sought) -> Vec<Namespace> {
    let sought = sought.clone();
    tokio::task::spawn_blocking(move || namespaces(&sought)).await.unwrap_or_default()
}

/// Looks at all namespaces and at the device, and waits for it.
pub(super) fn look(sought: &Sought) -> Option<Kept> {
    let here = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    if let Some(mount) = in_list(&here).into_iter().rfind(|mount| sought.is(mount)) {
        return Some(Kept::Here(mount.point));
    }
    let others = namespaces(sought);
    if !others.is_empty() {
        return Some(Kept::In(others));
    }
    is_in_use(&sought.path, sought.block).then(|| Kept::Device(openers(sought.block)))
}

fn namespaces(sought: &Sought) -> Vec<Namespace> {
    let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = std::fs::read_link("/proc/self/ns/mnt").ok();
    let mut found: BTreeMap<PathBuf, BTreeMap<i32, String>> = BTreeMap::new();
    for pid in processes() {
        if let Some(namespace) = of(pid).filter(|namespace| Some(namespace) != own.as_ref()) {
            found.entry(namespace).or_default().insert(pid, name_of(pid));
        }
    }
    let has = |processes: BTreeMap<i32, String>| {
        // Whoever changed its root is shown less than others; one that ended is shown nothing.
        let mut roots = Vec::new();
        let point = processes.keys().find_map(|pid| {
            let root = std::fs::read_link(format!("/proc/{pid}/root")).ok()?;
            if roots.contains(&root) {
                return None;
            }
            let list = std::fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
            roots.push(root);
            in_list(&list).into_iter().rfind(|mount| sought.is(mount)).map(|mount| mount.point)
        });
        point.map(|point| Namespace { point, processes })
    };
    found.into_values().filter_map(has).collect()
}

/// Whether the kernel has the block device in use for itself. One that cannot be opened for another reason is
/// not, unless a file system is listed on it.
fn is_in_use(path: &Path, numbers: (u32, u32)) -> bool {
    let mut options = std::fs::OpenOptions::new();
    match options.read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(path) {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => true,
        Err(_) => is_listed(numbers),
    }
}

/// Whether a type of file systems lists the device as one that it works on.
fn is_listed((major, minor): (u32, u32)) -> bool {
    let Ok(link) = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")) else {
        return false;
    };
    let name = link.file_name().unwrap_or_default();
    ["ext4", "xfs", "f2fs"].iter().any(|kind| Path::new("/sys/fs").join(kind).join(name).exists())
}

/// Processes that have the block device itself open.
fn openers((major, minor): (u32, u32)) -> BTreeMap<i32, String> {
    let number = libc::makedev(major, minor);
    let is = |path: PathBuf| {
        let found = std::fs::metadata(path);
        found.is_ok_and(|it| it.file_type().is_block_device() && it.rdev() == number)
    };
    let opens = |pid: &i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.map(|entry| entry.path()).any(is)
    };
    processes().filter(opens).map(|pid| (pid, name_of(pid))).collect()
}

/// `sleep (17), sh (18) and 4 more`
fn named(processes: &BTreeMap<i32, String>) -> String {
    let one = |(pid, name): (&i32, &String)| format!("{name} ({pid})");
    let shown: Vec<_> = processes.iter().take(NAMED).map(one).collect();
    match processes.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `in the mount namespace of sleep (17)`
pub(super) fn words(namespaces: &[Namespace]) -> String {
    let one = |namespace: &Namespace| {
        format!("in the mount namespace of {}", named(&namespace.processes))
    };
    namespaces.iter().map(one).collect::<Vec<_>>().join(", and ")
}

/// How somebody takes it away there.
pub(super) fn advice(namespaces: &[Namespace]) -> String {
    let one = |namespace: &Namespace| {
        let process = namespace.processes.keys().next()?;
        let point = namespace.point.display();
        Some(format!("nsenter --target {process} --mount umount {point}"))
    };
    let by_hand: Vec<_> = namespaces.iter().filter_map(one).collect();
    format!(
        "End these processes, such as the container that they are, or unmount it there ({}).",
        by_hand.join("; ")
    )
}

impl Kept {
    /// What keeps it, as the end of a sentence that begins with the device.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Here(point) => format!("is still mounted at {}", point.display()),
            Self::In(namespaces) => format!("is still mounted {}", words(namespaces)),
            Self::Device(openers) if openers.is_empty() => {
                "is still in use, by nobody who is seen from here".into()
            }
            Self::Device(openers) => format!("is still in use; {} has it open", named(openers)),
            Self::Silent => "does not answer, so nobody can tell whether it is still in use".into(),
        }
    }

    /// What would help.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Here(point) => format!("Unmount it there as well (umount {}).", point.display()),
            Self::In(namespaces) => advice(namespaces),
            Self::Device(_) => {
                "Look for a container, for a mount namespace that is kept by a file (findmnt -t nsfs), for swap \
                 (swapon), and for what is built on the device (lsblk)."
                    .into()
            }
            Self::Silent => "Look after the disk and the way to it, or fence the node.".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sought(block: (u32, u32)) -> Sought {
        Sought { path: "/dev/no-such-disk".into(), block, mounted: Vec::new() }
    }

    #[test]
    fn a_mount_is_known_by_its_numbers() {
        let mount = |line: &str| Mount::parse(line).unwrap();
        let three = mount("36 35 7:3 / /a rw - ext4 /dev/loop3 rw");
        assert!(sought((7, 3)).is(&three) && !sought((7, 4)).is(&three));
        let own = mount("36 35 0:31 / /b rw - btrfs /dev/no-such-disk rw");
        let mut noted = sought((7, 3));
        assert!(!noted.is(&own));
        noted.seen(&own);
        noted.seen(&own);
        assert_eq!(noted.mounted, [(0, 31)]);
        assert!(noted.is(&own) && noted.is(&three));
        assert_eq!(noted.numbers().len(), 2);
    }

    #[test]
    fn many_processes_are_counted() {
        let all = |count: i32| (1..=count).map(|pid| (pid, "sh".to_owned())).collect();
        assert_eq!(named(&all(2)), "sh (1), sh (2)");
        assert!(named(&all(9)).ends_with("sh (6) and 3 more"));
    }

    #[test]
    fn who_keeps_it_and_how_to_end_that_is_said() {
        let namespace = |pid: i32, name: &str| Namespace {
            point: "/srv/data".into(),
            processes: BTreeMap::from([(pid, name.to_owned())]),
        };
        let kept = Kept::In(vec![namespace(17, "sleep"), namespace(18, "postgres")]);
        let words = kept.words();
        assert_eq!(
            words,
            "is still mounted in the mount namespace of sleep (17), and in the mount namespace of postgres (18)"
        );
        assert!(kept.advice().contains("nsenter --target 18 --mount umount /srv/data"));
    }

    /// What is not there is clear, and so is what is no block device.
    #[test]
    fn what_cannot_be_asked_is_not_in_use() {
        for device in ["/dev/no-such-disk", "/dev/null", "server:/export", "tmpfs", "UUID=none", ""]
        {
            assert!(Sought::on(device).is_none(), "{device}");
        }
        let none = (4_000, 4_000);
        assert!(!is_in_use(Path::new("/dev/no-such-disk"), none));
        assert!(openers(none).is_empty() && namespaces(&sought(none)).is_empty());
    }

    proptest::proptest! {
        /// Names of mounts are anybody's bytes.
        #[test]
        fn whatever_the_list_holds_never_panics(
            list in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            lines in "([0-9]{1,3} [0-9]{1,3} [0-9]{0,4}:[0-9]{0,12} / /\\PC{0,9} rw( - [a-z0-9]{0,4} \\PC{0,9} rw)?\n){0,4}",
        ) {
            let sought = sought((7, 3));
            for list in [list.as_slice(), lines.as_bytes()] {
                let found = in_list(list);
                proptest::prop_assert!(found.len() <= list.split(|byte| *byte == b'\n').count());
                let _ = found.iter().filter(|mount| sought.is(mount)).count();
            }
        }
    }
}
