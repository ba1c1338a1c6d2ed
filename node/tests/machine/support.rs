//! Waiting with a deadline, namespaces, directories that clean up after themselves.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_node::cgroup::{self, ControlGroup};
use vedette_node::resource::Context;

/// Much longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Waits for something, with a deadline.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Gone, or only a name that nobody has waited for.
pub(crate) fn gone(pid: i32) -> Option<()> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("X", |(_, rest)| &rest[..1]);
    matches!(state, "X" | "Z").then_some(())
}

pub(crate) async fn read_pid(path: &Path) -> i32 {
    wait_for("a process number", || {
        std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.trim().parse().ok()
    })
    .await
}

/// Runs a test on a thread of its own.
pub(crate) fn on_a_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    match std::thread::spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Runs a test in a network of its own, which is gone when the test is over, however it ends.
pub(crate) fn in_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    on_a_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the tests need root");
        run("ip link set lo up");
        block_on(test());
    });
}

/// Set in there.
const INSIDE_MOUNTS: &str = "VEDETTE_TEST_INSIDE_MOUNTS";

/// Runs a test with mounts of its own, which no process of another test has: it begins anew in there, as a process
/// of its own. `test` is its whole name.
pub(crate) fn in_mounts<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE_MOUNTS).is_some() {
        return block_on(body());
    }
    let itself = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(itself)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE_MOUNTS, "yes")
        .output()
        .expect("apt-get install util-linux");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, in mounts of its own:\n{said}");
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

/// Runs a command line (split at blanks) and wants success.
pub(crate) fn run(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| {
        panic!("{}: {error}; apt-get install iproute2 e2fsprogs mount lvm2", words[0])
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program of the test's own.
pub(crate) fn program(path: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A control group of the test's own, emptied and removed at its end.
pub(crate) struct TestGroup(pub(crate) ControlGroup);

impl TestGroup {
    pub(crate) fn new(name: &str) -> Self {
        let root = cgroup::mount_point().expect("cgroup2 is mounted");
        let name = format!("vedette-test-{}-{name}", std::process::id());
        let group = ControlGroup::at(root.join(name));
        group.make().expect("the tests need root");
        Self(group)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.0.directory().to_owned()
    }

    /// The context with a place for its group in here.
    pub(crate) fn place(&self, context: Context) -> Context {
        let context = Context { cgroup: Some(self.directory()), ..context };
        context.group_directory().expect("a place").make().expect("the tests need root");
        context
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let until = Instant::now() + LONG;
        while self.0.directory().exists() && Instant::now() < until {
            let _ = self.0.kill();
            self.0.remove();
            std::thread::yield_now();
        }
    }
}

/// A context whose directories are the test's.
pub(crate) fn context(directory: &Path) -> Context {
    Context {
        group: "web".into(),
        token: 42,
        node: NodeNumber(1),
        node_name: "n1".into(),
        interfaces: BTreeMap::new(),
        standbys: BTreeMap::new(),
        others: Vec::new(),
        cgroup: None,
        state: directory.join("state"),
        run: directory.join("run"),
        probes: Default::default(),
        lease: None,
        environment: BTreeMap::new(),
        printed: Default::default(),
        devices_come: false,
        transcripts: None,
    }
}

/// The first network.
pub(crate) const NETWORK: NetworkNumber = NetworkNumber(1);
