//! File systems of groups (finding R10), on nodes with mounts and processes of their own: somebody keeps one
//! mounted where its group cannot unmount it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use vedette_tests::lab::{Direction, Lab, Victim};

use crate::failover::{give, group, retry, wait_online, wait_online_on};
use crate::{PATIENCE, lab_with_systemd, look};

/// A disk that every node sees, with a file system; it is gone at the end.
struct Disk<'a> {
    lab: &'a Lab,
    device: String,
}

impl<'a> Disk<'a> {
    fn new(lab: &'a Lab) -> Self {
        let image = lab.dir().join("shared-disk");
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("room");
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-F", &image]);
        let device = run("losetup", &["--find", "--show", &image]).trim().to_owned();
        Self { lab, device }
    }

    /// Puts a group in force that has it, on these nodes.
    fn configure(&self, nodes: &str) {
        self.configure_beside(nodes, "");
    }

    /// The same with more groups.
    fn configure_beside(&self, nodes: &str, more: &str) {
        let text = format!(
            "[groups.data]\npolicy = \"rotating\"\nnodes = [{nodes}]\n\n[[groups.data.resources]]\n\
             name = \"disk\"\nkind = \"file_system\"\ndevice = \"{}\"\nmount_point = \"{}\"\n\
             fs_type = \"ext4\"\nstop_timeout = \"2s\"\n{more}",
            self.device,
            self.lab.dir().join("shared").display(),
        );
        give(self.lab, &text);
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            give(self.lab, "");
        }
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}. Install it: apt-get install mount e2fsprogs")
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process on a node with a mount namespace of its own, in which everything stays mounted.
struct Keeper {
    child: Child,
    /// As the node numbers it.
    words: String,
}

impl Keeper {
    fn start(lab: &Lab, node: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sleep", "1000"]);
        command.current_dir("/").stdout(Stdio::null());
        let child = lab.spawn(node, command).expect("it has power");
        let there = format!("/proc/{}", child.id());
        let words = lab.wait_for("the process to be there", PATIENCE, |_| {
            let status = std::fs::read_to_string(format!("{there}/status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let name = std::fs::read_to_string(Path::new(&there).join("comm")).ok()?;
            let number = numbers.split_ascii_whitespace().last()?;
            (name.trim() == "sleep").then(|| format!("in the mount namespace of sleep ({number})"))
        });
        Self { child, words: words.unwrap_or_else(|error| panic!("{error}")) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A group that is to move stays where its file system is kept, and says by whom; when that process has ended, the
/// move goes on.
#[test]
fn r10_a_mount_namespace_that_keeps_a_file_system_stops_a_move() {
    let lab = lab_with_systemd();
    let disk = Disk::new(&lab);
    disk.configure("\"n1\", \"n2\"");
    let owner = wait_online_on(&lab, "n1", "data", &["n1", "n2"]);
    let to = if owner == "n1" { "n2" } else { "n1" };
    let keeper = Keeper::start(&lab, &owner);
    lab.vedette("n3", &["group", "move", "data", "--to", to, "--yes", "--no-wait"]).expect("run");
    let blocked = lab.wait_for("the group to need an operator", PATIENCE, |lab| {
        let (nodes, state) = group(lab, "n3", "data")?;
        (state == "ERROR" && nodes == [owner.clone()]).then_some(())
    });
    blocked.unwrap_or_else(|error| panic!("{error}: {:?}", group(&lab, "n3", "data")));
    let shown = look::get(&lab, "n3", "/api/v1/groups/data").expect("an answer").json();
    let why = shown["blocked"]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains(&format!("is still mounted {}", keeper.words)), "{why}");
    assert!(why.contains("nsenter --target"), "{why}");

    drop(keeper);
    retry(&lab, "n3");
    wait_online(&lab, "n3", "data", to);
}

/// A node that lost its lease tells who keeps the file system for as long as that is so, and goes on by itself.
#[test]
fn r10_a_release_goes_on_when_the_mount_namespace_is_gone() {
    let lab = lab_with_systemd();
    let disk = Disk::new(&lab);
    disk.configure("\"n1\"");
    wait_online(&lab, "n2", "data", "n1");
    let keeper = Keeper::start(&lab, "n1");
    // The lab may have told of another story's.
    let before = told_by(&lab).iter().filter_map(|it| it["number"].as_u64()).max().unwrap_or(0);
    lab.cut("n1", None, None).expect("a cut");
    let told = lab.wait_for("its own word of it", PATIENCE, |lab| stuck(lab, before, true).pop());
    let told = told.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    assert!(told.contains(&keeper.words), "{told}");

    drop(keeper);
    let over = lab.wait_for("the end of it", PATIENCE, |lab| stuck(lab, before, false).pop());
    over.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    wait_online(&lab, "n2", "data", "n1");
}

/// A node that hears nobody, though all hear it, and whose file system is kept: nobody mounts it while it is there, and
/// everybody is told why. Its guard sees it go, and then it is taken over.
#[test]
fn r7_what_a_deaf_node_has_mounted_is_not_mounted_elsewhere() {
    let lab = lab_with_systemd();
    let disk = Disk::new(&lab);
    disk.configure("\"n1\", \"n2\"");
    let owner = wait_online_on(&lab, "n3", "data", &["n1", "n2"]);
    let keeper = Keeper::start(&lab, &owner);
    lab.cut(&owner, None, Some(Direction::In)).expect("a cut");
    let why = "it says that it has not let go of data yet";
    let waits = lab.wait_for("the reason", PATIENCE, |lab| {
        let shown = look::get(lab, "n3", "/api/v1/groups/data")?.json();
        // Without a director nothing is known for a moment.
        let on = shown["instances"][0]["node"].as_str()?;
        assert_eq!(on, owner, "{shown:#}");
        shown["waits_for"].as_str().is_some_and(|said| said.contains(why)).then_some(())
    });
    waits.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));

    drop(keeper);
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, "n3", "data")?;
        (state == "ONLINE" && nodes[0] != owner).then_some(())
    });
    moved.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
}

/// An agent that is restarted while its node is cut off takes away what is still mounted, with no quorum: its guard
/// names it.
#[test]
fn r7_an_agent_that_starts_without_a_quorum_unmounts() {
    let lab = lab_with_systemd();
    let disk = Disk::new(&lab);
    disk.configure("\"n1\", \"n2\"");
    let owner = wait_online_on(&lab, "n3", "data", &["n1", "n2"]);
    lab.pause(&owner, Victim::Agent).expect("it runs");
    lab.cut(&owner, None, Some(Direction::In)).expect("a cut");
    let lost = lab.wait_for("the end of the lease", PATIENCE, |lab| {
        (look::host(lab, "n3", &owner) != "UP").then_some(())
    });
    lost.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    lab.kill(&owner, Victim::Agent).expect("it was there");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, "n3", "data")?;
        (state == "ONLINE" && nodes[0] != owner).then_some(())
    });
    moved.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    lab.resume(&owner).expect("it goes on");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
}

/// A daemon that starts while its node still has the file system, which somebody keeps: its node joins, and every other
/// group is moved and brought home meanwhile. The file system is let go of when it can be, and then mounted elsewhere.
#[test]
fn r7_a_daemon_that_starts_beside_a_busy_file_system_holds_up_nobody() {
    let lab = lab_with_systemd();
    let disk = Disk::new(&lab);
    let more = "\n[groups.other]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.other.resources]]\nname = \"other-app\"\nkind = \"application\"\n\
         start = [\"/bin/sh\", \"-c\", \"sleep 10000 &\"]\nstop = [\"/bin/true\"]\n";
    disk.configure_beside("\"n1\", \"n2\"", more);
    let owner = wait_online_on(&lab, "n3", "data", &["n1", "n2"]);
    let free = if owner == "n1" { "n2" } else { "n1" };
    wait_online_on(&lab, "n3", "other", &["n1", "n2", "n3"]);
    let keeper = Keeper::start(&lab, &owner);
    lab.kill(&owner, Victim::Everything).expect("it was there");
    let gone = lab.wait_for("its end to be seen", PATIENCE, |lab| {
        (look::host(lab, "n3", &owner) == "DOWN").then_some(())
    });
    gone.unwrap_or_else(|error| panic!("{error}"));
    lab.restart(&owner).expect("started");
    crate::wait_healthy(&lab);
    for to in [free, "n3", free] {
        if group(&lab, "n3", "other").is_some_and(|(nodes, _)| nodes == [to]) {
            continue;
        }
        let moved =
            lab.vedette("n3", &["group", "move", "other", "--to", to, "--yes"]).expect("run");
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    }
    let (nodes, _) = group(&lab, "n3", "data").expect("an answer");
    assert!(nodes.iter().all(|node| *node == owner), "{nodes:?}: {}", look::status(&lab, "n3"));

    drop(keeper);
    wait_online_on(&lab, "n3", "data", &["n1", "n2"]);
}

/// What n1 tells by itself, oldest first.
fn told_by(lab: &Lab) -> Vec<Value> {
    let told = lab.json("n1", &["history", "local", "-o", "json"]).unwrap_or_default();
    told["records"].as_array().cloned().unwrap_or_default()
}

/// What n1 tells by itself after a record: of a release of the group that failed, or that one succeeded after all.
fn stuck(lab: &Lab, after: u64, failed: bool) -> Vec<String> {
    let wanted = if failed { "n1 could not release data" } else { "n1 released data" };
    let is = |record: &Value| {
        record["code"] == "RELEASE_FAILED"
            && record["number"].as_u64().is_some_and(|number| number > after)
            && record["message"].as_str().is_some_and(|it| it.starts_with(wanted))
    };
    told_by(lab).into_iter().filter(is).map(|it| it.to_string()).collect()
}
