//! Something for the demo's cluster to look after: two groups whose application is a small script.
//!
//! The application is a process that watches a file of its own and ends when that is gone, so it ends
//! with the demo's directory, however the demo ended.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vedette::sandbox::Sandbox;

/// How long the groups may take to start.
const START: Duration = Duration::from_secs(20);

/// The application server, run by the agent of whichever node has its group.
const APPLICATION: &str = r#"#!/bin/sh
# The demo's application: app start|stop|status NAME. It runs as long as its file names it.
set -eu
file="$(dirname "$0")/$2.$VEDETTE_NODE.pid"
case "$1" in
start)
    setsid "$0" run "$2" </dev/null >/dev/null 2>&1 &
    until [ -s "$file" ]; do [ -e "$0" ] || exit 1; sleep 0.02; done
    ;;
run)
    echo $$ >"$file"
    while [ "$(cat "$file" 2>/dev/null)" = $$ ]; do sleep 0.5; done
    ;;
stop)
    pid="$(cat "$file" 2>/dev/null || true)"
    rm -f "$file"
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
    ;;
status)
    [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null
    ;;
esac
"#;

/// Gives the cluster its groups.
pub(super) fn give(sandbox: &Sandbox) -> Result<()> {
    let program = sandbox.dir.join("app");
    std::fs::write(&program, APPLICATION)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let path = sandbox.dir.join("cluster.toml");
    let mut names: Vec<&str> = sandbox.nodes.iter().map(|node| node.name.as_str()).collect();
    let rotating = group("batch", "rotating", &names, &program);
    // At home on the last node, which is the one that loses power in the tour.
    names.reverse();
    let text = format!("{HEAD}{}\n{rotating}", group("web", "cascading", &names, &program));
    std::fs::write(&path, text)?;
    let path = path.display().to_string();
    let applied = ask(sandbox, &["config", "apply", "--yes", &path])?;
    if !applied.status.success() {
        bail!("the groups are not accepted: {}", String::from_utf8_lossy(&applied.stderr).trim());
    }
    until_well(sandbox)
}

/// Waits until the first node says that all is well. What is not well after a while shall be seen.
fn until_well(sandbox: &Sandbox) -> Result<()> {
    let end = Instant::now() + START;
    while !super::ended() && Instant::now() < end && !ask(sandbox, &["status"])?.status.success() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Asks the first node.
fn ask(sandbox: &Sandbox, arguments: &[&str]) -> Result<Output> {
    let first = sandbox.nodes.first().context("a demo has a node")?;
    let mut command = Command::new(&sandbox.program);
    command.arg("--config").arg(first.config()).args(arguments);
    command.output().context("the program cannot be started again")
}

/// No kernel and no watchdog stands behind the release here, because the demo needs no rights.
const HEAD: &str = "# What the demo's cluster runs. Change it and: vedette config apply cluster.toml\n\n\
                    [manager]\ntrust_guard = true\n\n";

fn group(name: &str, policy: &str, nodes: &[&str], program: &Path) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
    let program = program.display();
    let action = |what: &str| format!("[\"{program}\", \"{what}\", \"{name}\"]");
    format!(
        "[groups.{name}]\npolicy = \"{policy}\"\nnodes = [{}]\n\n\
         [[groups.{name}.resources]]\nname = \"{name}-server\"\nkind = \"application\"\n\
         start = {}\nstop = {}\nmonitor = {}\nmonitor_interval = \"2s\"\nrestarts = 2\n",
        nodes.join(", "),
        action("start"),
        action("stop"),
        action("status"),
    )
}
