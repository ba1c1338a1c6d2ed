//! File systems (spec H25) on loop devices of the tests' own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_node::resource::{Context, Health, Reach, Resource, resource};

use crate::support::{self, in_mounts, run};

/// A disk with a file system; unmounted and removed at the end.
struct Disk {
    directory: tempfile::TempDir,
    device: String,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk");
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let image = image.to_str().unwrap();
        run(&format!("/sbin/mkfs.ext4 -q {image}"));
        let device = run(&format!("/sbin/losetup --find --show {image}")).trim().to_owned();
        Self { directory, device }
    }

    fn point(&self) -> PathBuf {
        self.directory.path().join("made/point")
    }

    fn context(&self) -> Context {
        support::context(self.directory.path())
    }

    fn resource(&self, point: &Path) -> Box<dyn Resource> {
        let kind = ResourceKind::FileSystem {
            device: self.device.clone(),
            mount_point: point.to_str().unwrap().into(),
            fs_type: "ext4".into(),
            options: "noatime".into(),
            check: true,
        };
        resource(&ResourceDef { stop_timeout_ms: 4_000, ..ResourceDef::new("disk", kind) })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for point in [self.point(), self.directory.path().join("other")] {
            let _ = Command::new("umount").arg(point).stderr(Stdio::null()).status();
        }
        let _ = Command::new("/sbin/losetup").args(["-d", &self.device]).status();
    }
}

#[test]
fn h25_a_file_system_comes_and_goes_and_may_be_asked_again() {
    in_mounts("file_system::h25_a_file_system_comes_and_goes_and_may_be_asked_again", || async {
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        assert!(resource.verify(&context).await.is_empty());
        assert_eq!(resource.monitor(&context).await, Ok(Health::NotRunning));
        for _ in 0..2 {
            resource.start(&context).await.unwrap();
            assert_eq!(resource.monitor(&context).await, Ok(Health::Running));
            assert!(disk.point().join("lost+found").exists());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = disk.point();
        let lines = mounts.lines().filter(|line| line.contains(point.to_str().unwrap()));
        assert_eq!(lines.map(|line| line.contains("noatime")).collect::<Vec<_>>(), [true]);
        resource.stop(&context).await.unwrap();
        assert_eq!(resource.stop(&context).await, Ok(String::new()));
        assert_eq!(resource.monitor(&context).await, Ok(Health::NotRunning));
    });
}

/// H35: what verify accepts starts: device, type and mount point are looked for.
#[tokio::test]
async fn h35_a_file_system_that_cannot_be_mounted_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let context = support::context(directory.path());
    let found = async |device: &str, point: &Path, fs_type: &str, context: &Context| {
        let kind = ResourceKind::FileSystem {
            device: device.into(),
            mount_point: point.to_str().unwrap().into(),
            fs_type: fs_type.into(),
            options: String::new(),
            check: false,
        };
        let found = resource(&ResourceDef::new("disk", kind)).verify(context).await;
        found.into_iter().map(|it| (it.error, it.what)).collect::<Vec<_>>()
    };
    let good = directory.path().join("made/point");
    assert_eq!(found("/dev/null", &good, "ext4", &context).await, []);
    let missing = "there is no device /dev/no-such-disk here".to_owned();
    assert_eq!(
        found("/dev/no-such-disk", &good, "ext4", &context).await,
        [(true, missing.clone())]
    );
    let comes = Context { devices_come: true, ..context.clone() };
    assert_eq!(found("/dev/no-such-disk", &good, "ext4", &comes).await, [(false, missing)]);
    let unknown = found("/dev/null", &good, "ext5", &context).await;
    assert!(unknown.len() == 1 && unknown[0].1.contains("of the type ext5"), "{unknown:?}");
    // Where there are no modules to be seen, a machine cannot say more than that.
    let kernel = nix::sys::utsname::uname().unwrap();
    let modules = Path::new("/lib/modules").join(kernel.release()).is_dir();
    assert_eq!(unknown[0].0, modules);
    let blocked = found("/dev/null", &file.join("point"), "ext4", &context).await;
    assert!(blocked.len() == 1 && blocked[0].0, "{blocked:?}");
    assert!(blocked[0].1.ends_with("file is no directory"), "{blocked:?}");
}

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// H25: whoever keeps it busy is asked to end, and ended if deaf.
#[test]
fn h25_a_busy_file_system_is_unmounted() {
    in_mounts("file_system::h25_a_busy_file_system_is_unmounted", || async {
        use std::io::BufRead;
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        let holder = |text: &str| {
            let mut command = Command::new("/bin/sh");
            let mut child = command
                .args(["-c", text])
                .current_dir(disk.point())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "here\n");
            Holder(child)
        };
        let mut kind = holder("echo here; exec sleep 1000");
        let mut deaf = holder("trap '' TERM; echo here; while :; do sleep 1; done");
        let said = resource.stop(&context).await.unwrap();
        assert!(said.contains(&format!("({})", kind.0.id())), "{said}");
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(kind.0.wait().unwrap().signal(), Some(15));
        assert_eq!(deaf.0.wait().unwrap().signal(), Some(9));
        assert_eq!(resource.monitor(&context).await, Ok(Health::NotRunning));
    });
}

#[test]
fn h25_what_is_mounted_elsewhere_or_not_there_is_refused() {
    in_mounts("file_system::h25_what_is_mounted_elsewhere_or_not_there_is_refused", || async {
        let disk = Disk::new();
        let context = disk.context();
        let other = disk.directory.path().join("other");
        std::fs::create_dir(&other).unwrap();
        run(&format!("mount {} {}", disk.device, other.display()));
        let refused = disk.resource(&disk.point()).start(&context).await.unwrap_err();
        assert!(
            refused.why.contains("is mounted at") && refused.why.ends_with("already"),
            "{refused}"
        );
        let second = Disk::new();
        let taken = second.resource(&other).start(&context).await.unwrap_err();
        assert!(taken.why.starts_with(&format!("{} is mounted at", disk.device)), "{taken}");
        run(&format!("umount {}", other.display()));
        let kind = ResourceKind::FileSystem {
            device: "/dev/no-such-disk".into(),
            mount_point: "/nonexistent".into(),
            fs_type: "ext4".into(),
            options: String::new(),
            check: false,
        };
        let missing = resource(&ResourceDef::new("disk", kind)).start(&context).await.unwrap_err();
        assert_eq!(missing.why, "there is no device /dev/no-such-disk here");
    });
}

/// A process that has a mount namespace of its own, with everything that was mounted when it was started.
fn in_namespace(words: &[&str], directory: &Path) -> Holder {
    use std::io::BufRead;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]).args(words);
    let mut child = command.current_dir(directory).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    Holder(child)
}

/// R10: a mount namespace keeps it: who uses nothing of it is not ended but named, by a release and by the start
/// that finds it, and it is off when that process has ended.
#[test]
fn r10_what_another_mount_namespace_keeps_is_not_released() {
    in_mounts("file_system::r10_what_another_mount_namespace_keeps_is_not_released", || async {
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        let mut keeper = in_namespace(&["echo here; exec sleep 1000"], Path::new("/"));
        for _ in 0..2 {
            let kept = resource.stop(&context).await.unwrap_err();
            let who = format!("in the mount namespace of sleep ({})", keeper.0.id());
            assert!(kept.why.ends_with(&format!("is still mounted {who}")), "{kept}");
            let by_hand = format!("nsenter --target {} --mount umount ", keeper.0.id());
            assert!(kept.advice.contains(&by_hand), "{kept}");
            let refused = resource.start(&context).await.unwrap_err();
            assert!(refused.why.ends_with(&format!("is mounted already {who}")), "{refused}");
            assert_eq!(refused.reach, Reach::Node, "{refused}");
        }
        assert_eq!(keeper.0.try_wait().unwrap(), None, "nobody ended it");
        keeper.0.kill().unwrap();
        keeper.0.wait().unwrap();
        assert_eq!(resource.stop(&context).await, Ok(String::new()));
        resource.start(&context).await.unwrap();
        resource.stop(&context).await.unwrap();
    });
}

/// R10: who uses it there is asked to end, as one who uses it here.
#[test]
fn r10_who_uses_it_in_another_mount_namespace_is_ended() {
    in_mounts("file_system::r10_who_uses_it_in_another_mount_namespace_is_ended", || async {
        use std::os::unix::process::ExitStatusExt;
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        let text = format!("cd {}; echo here; exec sleep 1000", disk.point().display());
        let mut user = in_namespace(&[&text], Path::new("/"));
        let said = resource.stop(&context).await.unwrap();
        assert_eq!(said, format!("sleep ({})", user.0.id()));
        assert_eq!(user.0.wait().unwrap().signal(), Some(15));
        resource.start(&context).await.unwrap();
        resource.stop(&context).await.unwrap();
    });
}

/// R10: what no process has, the device shows: here a namespace that a file keeps.
#[test]
fn r10_a_device_that_is_in_use_unseen_is_not_released() {
    in_mounts("file_system::r10_a_device_that_is_in_use_unseen_is_not_released", || async {
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        let keeper = in_namespace(&["echo here; exec sleep 1000"], Path::new("/"));
        let open = std::fs::File::open(format!("/proc/{}/ns/mnt", keeper.0.id())).unwrap();
        drop(keeper);
        let kept = resource.stop(&context).await.unwrap_err();
        assert!(kept.why.contains("is still in use, by nobody who is seen from here"), "{kept}");
        assert!(kept.advice.contains("kept by a file"), "{kept}");
        drop(open);
        assert_eq!(resource.stop(&context).await, Ok(String::new()));
    });
}

/// R10: mounted at a second place of this namespace it is not off, either.
#[test]
fn r10_a_second_mount_keeps_it() {
    in_mounts("file_system::r10_a_second_mount_keeps_it", || async {
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        let other = disk.directory.path().join("other");
        std::fs::create_dir(&other).unwrap();
        run(&format!("mount --bind {} {}", disk.point().display(), other.display()));
        let kept = resource.stop(&context).await.unwrap_err();
        assert!(kept.why.ends_with(&format!("is still mounted at {}", other.display())), "{kept}");
        run(&format!("umount {}", other.display()));
        assert_eq!(resource.stop(&context).await, Ok(String::new()));
    });
}

/// R10: that it could not be checked, as when the device is in use, is no damage.
#[test]
fn r10_a_device_that_cannot_be_checked_is_not_called_damaged() {
    in_mounts("file_system::r10_a_device_that_cannot_be_checked_is_not_called_damaged", || async {
        let disk = Disk::new();
        let mut options = std::fs::OpenOptions::new();
        let options =
            std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), libc::O_EXCL);
        let claimed = options.open(&disk.device).unwrap();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        let failed = resource.start(&context).await.unwrap_err();
        assert!(failed.why.contains("could not be checked: exit status 8"), "{failed}");
        assert_eq!(failed.reach, Reach::Node, "{failed}");
        drop(claimed);
        resource.start(&context).await.unwrap();
        resource.stop(&context).await.unwrap();
    });
}

/// What the kernel does after a disk error.
#[test]
fn h25_a_file_system_that_became_read_only_has_failed() {
    in_mounts("file_system::h25_a_file_system_that_became_read_only_has_failed", || async {
        let disk = Disk::new();
        let (resource, context) = (disk.resource(&disk.point()), disk.context());
        resource.start(&context).await.unwrap();
        run(&format!("mount -o remount,ro {}", disk.point().display()));
        let failed = resource.monitor(&context).await.unwrap_err();
        assert!(failed.why.contains("was made read-only"), "{failed}");
        resource.stop(&context).await.unwrap();
    });
}

/// A damaged file system is not mounted, here or anywhere.
#[test]
fn h25_damage_that_cannot_be_repaired_alone_is_a_failure() {
    in_mounts("file_system::h25_damage_that_cannot_be_repaired_alone_is_a_failure", || async {
        let disk = Disk::new();
        // The block group descriptors and the bitmaps, behind the superblock.
        let zeros = vec![0xff_u8; 64 * 1_024];
        let image = disk.directory.path().join("disk");
        let mut file = std::fs::OpenOptions::new().write(true).open(image).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(2_048)).unwrap();
        std::io::Write::write_all(&mut file, &zeros).unwrap();
        file.sync_all().unwrap();
        let damaged = disk.resource(&disk.point()).start(&disk.context()).await.unwrap_err();
        assert!(damaged.why.contains("is damaged: exit status 4"), "{damaged}");
        assert_eq!(damaged.reach, Reach::Cluster, "{damaged}");
        assert!(!damaged.output.is_empty());
    });
}
