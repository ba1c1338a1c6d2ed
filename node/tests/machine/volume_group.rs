//! Volume groups (spec H25, H28). The kernel of a test machine may have no device mapper, so the
//! metadata is real (a volume group without volumes on a loop device), and activation is shown with
//! stand-ins for the commands of LVM2.

use std::path::Path;
use std::process::{Command, Stdio};

use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_node::resource::{Context, Health, Resource, resource};

use crate::support::{self, program, run};

fn volume_group(name: &str) -> Box<dyn Resource> {
    let kind = ResourceKind::VolumeGroup { name: name.into() };
    resource(&ResourceDef::new("data", kind))
}

struct Disk {
    directory: tempfile::TempDir,
    device: String,
    name: String,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk");
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let shown = run(&format!("/sbin/losetup --find --show {}", image.display()));
        let name = format!("vedettetest{}", std::process::id());
        let disk = Self { directory, device: shown.trim().to_owned(), name };
        run(&format!("/sbin/vgcreate -qq {} {}", disk.name, disk.device));
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut remove = Command::new("/sbin/vgremove");
        let _ = remove.args(["-f", &self.name]).stdout(Stdio::null()).status();
        let _ = Command::new("/sbin/losetup").args(["-d", &self.device]).status();
    }
}

/// H28: refreshed when its metadata changed, and only then.
#[tokio::test]
async fn h28_the_definition_is_refreshed_only_when_it_differs() {
    let disk = Disk::new();
    let (group, context) = (volume_group(&disk.name), support::context(disk.directory.path()));
    assert_eq!(group.monitor(&context).await, Ok(Health::NotRunning));
    let refreshed = "refreshed: its metadata changed";
    for expected in [refreshed, "unchanged", "unchanged"] {
        assert_eq!(group.start(&context).await.unwrap(), expected);
        assert_eq!(group.monitor(&context).await, Ok(Health::Running));
        group.stop(&context).await.unwrap();
        assert_eq!(group.monitor(&context).await, Ok(Health::NotRunning));
    }
    // As another node would, while it had the group.
    run(&format!("/sbin/vgchange -qq --addtag elsewhere {}", disk.name));
    assert_eq!(group.start(&context).await.unwrap(), refreshed);
    assert_eq!(group.start(&context).await.unwrap(), "unchanged");
    let found = group.verify(&context).await;
    assert!(found[0].what.contains("activated by whichever node boots"), "{found:?}");
    run(&format!("/sbin/vgchange -qq --setautoactivation n {}", disk.name));
    assert!(group.verify(&context).await.is_empty());
}

#[tokio::test]
async fn h25_a_volume_group_that_is_not_here_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let (group, context) = (volume_group("no-such-group"), support::context(directory.path()));
    let missing = group.start(&context).await.unwrap_err();
    assert!(missing.why.contains("no volume group no-such-group on the disks"), "{missing}");
    assert_eq!(group.stop(&context).await, Ok("is not here".into()));
    assert_eq!(group.monitor(&context).await, Ok(Health::NotRunning));
    let found = group.verify(&context).await;
    assert!(found.len() == 1 && found[0].error && found[0].what == missing.why, "{found:?}");
    let after_iscsi = Context { devices_come: true, ..context };
    let found = group.verify(&after_iscsi).await;
    assert!(found.len() == 1 && !found[0].error, "what comes before it may bring it: {found:?}");
}

/// Stand-ins that write down how they were called. Two volumes, active if a file is there.
fn stand_ins(directory: &Path) -> Context {
    let bin = directory.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let note = format!("echo \"${{0##*/}} $*\" >> {}/called\n", directory.display());
    let here = directory.display();
    let texts = [
        (
            "vgs",
            format!(
                "cat <<E\n  WARNING: of no interest\n{{\"report\":[{{\"vg\":[{{\"vg_name\":\"data\",\
                 \"vg_uuid\":\"u\",\"vg_seqno\":\"$(cat {here}/seqno)\",\"vg_attr\":\"$(cat {here}/attr)\"}}]}}]}}\nE\n"
            ),
        ),
        (
            "lvs",
            format!(
                "a=; if [ -e {here}/active ]; then a=active; fi\n\
                 echo '{{\"report\":[{{\"lv\":[{{\"lv_name\":\"one\",\"lv_active\":\"'$a'\"}},\
                 {{\"lv_name\":\"two\",\"lv_active\":\"'$a'\"}},\
                 {{\"lv_name\":\"kept_off\",\"lv_active\":\"\",\"lv_skip_activation\":\"skip activation\"}}]}}]}}'\n"
            ),
        ),
        (
            "vgchange",
            format!(
                "{note}if [ -e {here}/busy ]; then echo 'Logical volume data/one in use.' >&2; exit 5; fi\n\
                 case $1 in -ay) touch {here}/active ;; -an) rm -f {here}/active ;; esac\n"
            ),
        ),
        ("pvscan", note.clone()),
    ];
    for (name, text) in texts {
        program(&bin.join(name), &format!("#!/bin/sh\n{text}"));
    }
    std::fs::write(directory.join("seqno"), "7").unwrap();
    std::fs::write(directory.join("attr"), "wz--n-").unwrap();
    let mut context = support::context(directory);
    context.environment.insert("PATH".into(), format!("{}:/usr/bin:/bin", bin.display()));
    context
}

fn called(directory: &Path) -> Vec<String> {
    let path = directory.join("called");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

/// H25, H28: what is called, in which order.
#[tokio::test]
async fn h28_a_takeover_without_changes_costs_one_activation() {
    let directory = tempfile::tempdir().unwrap();
    let (group, context) = (volume_group("data"), stand_ins(directory.path()));
    group.start(&context).await.unwrap();
    let all = ["pvscan --cache", "vgchange -ay data", "vgchange --refresh data"];
    assert_eq!(called(directory.path()), all);
    assert_eq!(group.monitor(&context).await, Ok(Health::Running));
    group.stop(&context).await.unwrap();
    assert_eq!(called(directory.path()), ["vgchange -an data"]);
    assert_eq!(group.monitor(&context).await, Ok(Health::NotRunning));
    group.start(&context).await.unwrap();
    assert_eq!(called(directory.path()), ["vgchange -ay data"]);
    std::fs::write(directory.path().join("seqno"), "8").unwrap();
    group.start(&context).await.unwrap();
    assert_eq!(called(directory.path()), all);
}

#[tokio::test]
async fn h25_a_volume_in_use_or_a_disk_missing_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let (group, context) = (volume_group("data"), stand_ins(directory.path()));
    group.start(&context).await.unwrap();
    std::fs::write(directory.path().join("busy"), "").unwrap();
    let busy = group.stop(&context).await.unwrap_err();
    assert!(busy.why.contains("exit status 5 (Logical volume data/one in use.)"), "{busy}");
    std::fs::write(directory.path().join("attr"), "wz-pn-").unwrap();
    let partial = group.start(&context).await.unwrap_err();
    assert_eq!(partial.why, "volume group data misses some of its disks");
    std::fs::write(directory.path().join("attr"), "wzx-n-").unwrap();
    let exported = group.start(&context).await.unwrap_err();
    assert_eq!(exported.why, "volume group data is exported");
}
