//! A systemd of the test's own, in which the test runs: `scripts/private-systemd`.
//!
//! A test that needs one begins anew in there, in a process of its own, because namespaces of processes and
//! mounts cannot be changed under a running one. Outside, it only sees to it that exactly that test passed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use vedette_node::cgroup::{self, ControlGroup};

use crate::support::LONG;

/// Set in there.
const INSIDE: &str = "VEDETTE_TEST_INSIDE_SYSTEMD";

/// Runs `body` where a systemd of its own runs; `test` is the whole name of the calling test.
pub(crate) fn in_systemd<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        return crate::support::block_on(body());
    }
    let systemd = Systemd::boot(&format!("vedette-test-systemd-{}", test.replace(':', "-")));
    let itself = std::env::current_exe().unwrap();
    let output = systemd
        .enter()
        .arg(itself)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .output()
        .expect("apt-get install util-linux");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, in a systemd of its own:\n{said}");
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

struct Systemd {
    child: Child,
    first: i32,
    group: ControlGroup,
}

impl Systemd {
    fn boot(name: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/private-systemd");
        let name = format!("{name}-{}", std::process::id());
        let group = cgroup::mount_point().expect("cgroup2 is mounted").join(&name);
        let mut command = Command::new(&script);
        command.arg(&name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("the script is there");
        let mut systemd = Self { child, first: 0, group: ControlGroup::at(group) };
        systemd.wait();
        systemd
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--all", "--"]);
        command
    }

    /// Until it has started all that it starts.
    fn wait(&mut self) {
        let until = Instant::now() + LONG;
        loop {
            if self.child.try_wait().unwrap().is_some() {
                let mut said = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("no systemd for tests: {said}");
            }
            if let Some(first) = first_process(&self.group) {
                self.first = first;
                let state = self.enter().args(["systemctl", "is-system-running"]).output();
                let state = state.expect("apt-get install util-linux").stdout;
                if state.starts_with(b"running") || state.starts_with(b"degraded") {
                    return;
                }
            }
            assert!(Instant::now() < until, "systemd did not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The first process of a systemd is the one in its `init.scope`.
fn first_process(group: &ControlGroup) -> Option<i32> {
    let scope: PathBuf = group.directory().join("init.scope");
    ControlGroup::at(scope).processes().first().copied()
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let until = Instant::now() + LONG;
        while self.group.directory().exists() && Instant::now() < until {
            let _ = self.group.kill();
            self.group.remove();
            std::thread::yield_now();
        }
    }
}
