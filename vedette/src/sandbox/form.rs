//! Forming a sandbox's cluster, step by step as an operator would.

use std::io;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::processes::{find_program, log_to};
use super::{Launcher, Sandbox, SandboxNode};

/// How long one step may take before the sandbox is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many nodes vote in a cluster that was not told otherwise and has so many.
const VOTERS: usize = 3;

/// Why a sandbox could not be formed.
#[derive(Debug)]
pub struct FormError(pub String);

impl std::fmt::Display for FormError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormError {}

impl From<io::Error> for FormError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Forms the cluster: first member, then one node after the other. `progress` is told of every step.
///
/// # Errors
/// The first step that failed, with what the program said.
pub fn form(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    progress: &mut dyn FnMut(String),
) -> Result<(), FormError> {
    for node in &sandbox.nodes {
        start_snmpd(launcher, node)?;
    }
    let first = &sandbox.nodes[0];
    progress(format!("{}: vedette init", first.name));
    run(sandbox, launcher, first, &["init", "--yes"])?;
    start_daemon(sandbox, launcher, first)?;
    wait_for_status(sandbox, launcher, first, &first.name, "RUNNING")?;
    for node in &sandbox.nodes[1..] {
        progress(format!("{}: node add, join, daemon", node.name));
        add_node(sandbox, launcher, first, node)?;
        start_daemon(sandbox, launcher, node)?;
        wait_for_status(sandbox, launcher, first, &node.name, "RUNNING")?;
    }
    let count = sandbox.nodes.len().to_string();
    run(sandbox, launcher, first, &["config", "set", "seed", &count])?;
    wait_for_voters(sandbox, launcher)
}

/// Waits until so many nodes vote that one may fail, where there are enough of them.
fn wait_for_voters(sandbox: &Sandbox, launcher: &dyn Launcher) -> Result<(), FormError> {
    if sandbox.nodes.len() < VOTERS {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let output = ask_for_nodes(sandbox, launcher, &sandbox.nodes[0])?;
        if voters(&output.stdout) >= VOTERS {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = PATIENCE.as_secs();
    Err(FormError(format!("the cluster did not have {VOTERS} voters after {seconds} s")))
}

fn ask_for_nodes(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    asked: &SandboxNode,
) -> io::Result<Output> {
    let mut command = Command::new(&sandbox.program);
    command.arg("--config").arg(asked.config()).args(["node", "list", "-o", "json"]);
    launcher.output(asked, command)
}

/// How many nodes vote, in the answer of `node list -o json`.
fn voters(json: &[u8]) -> usize {
    let answer: Option<Value> = serde_json::from_slice(json).ok();
    let nodes = answer.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    nodes.iter().filter(|node| node["role"] == "voter").count()
}

/// Lets `member` admit `node`, and `node` join.
///
/// # Errors
/// If either refuses.
pub fn add_node(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    member: &SandboxNode,
    node: &SandboxNode,
) -> Result<(), FormError> {
    let number = node.number.to_string();
    let arguments = ["node", "add", &node.name, "--number", &number, "--yes", "-o", "json"];
    let output = run(sandbox, launcher, member, &arguments)?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| FormError(format!("its token is no JSON: {error}")))?;
    let token = answer["token"]
        .as_str()
        .ok_or_else(|| FormError("there is no token in the answer".into()))?;
    run(sandbox, launcher, node, &["join", token, "--yes"])?;
    Ok(())
}

/// Starts the daemon of a node.
///
/// # Errors
/// If it cannot be started.
pub fn start_daemon(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    node: &SandboxNode,
) -> Result<(), FormError> {
    let mut command = Command::new(&sandbox.program);
    command.arg("--config").arg(node.config()).arg("daemon");
    log_to(&mut command, &node.log())?;
    Ok(launcher.start(node, command)?)
}

/// Starts the private snmpd of a node, where snmpd is installed.
///
/// # Errors
/// If it cannot be started.
pub fn start_snmpd(launcher: &dyn Launcher, node: &SandboxNode) -> Result<(), FormError> {
    let Some(snmpd) = find_program("snmpd") else { return Ok(()) };
    let mut command = Command::new(snmpd);
    command
        .args(["-f", "-Le", "-C", "-I", "-smux", "-c"])
        .arg(node.dir.join("snmpd.conf"))
        .env("SNMP_PERSISTENT_DIR", node.dir.join("snmp"))
        .env("MIBS", "");
    log_to(&mut command, &node.dir.join("snmpd.log"))?;
    Ok(launcher.start(node, command)?)
}

/// Runs a command of the program for a node; a failure carries what it said.
fn run(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    node: &SandboxNode,
    arguments: &[&str],
) -> Result<Output, FormError> {
    let mut command = Command::new(&sandbox.program);
    command.arg("--config").arg(node.config()).args(arguments);
    let output = launcher.output(node, command)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(FormError(format!(
        "`vedette {}` on {} failed ({}): {}",
        arguments.join(" "),
        node.name,
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Waits until `asked` says that the agent of `name` has that status.
///
/// # Errors
/// After half a minute, with what was said last.
pub fn wait_for_status(
    sandbox: &Sandbox,
    launcher: &dyn Launcher,
    asked: &SandboxNode,
    name: &str,
    agent: &str,
) -> Result<(), FormError> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        let output = ask_for_nodes(sandbox, launcher, asked)?;
        if agent_status(&output.stdout, name).as_deref() == Some(agent) {
            return Ok(());
        }
        last = String::from_utf8_lossy(if output.stdout.is_empty() {
            &output.stderr
        } else {
            &output.stdout
        })
        .into_owned();
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(FormError(format!(
        "the agent of {name} was not {agent} after {} s; {} said: {}\nIts log is {}.",
        PATIENCE.as_secs(),
        asked.name,
        last.trim(),
        asked.log().display()
    )))
}

/// The agent status of a node in the answer of `node list -o json`.
fn agent_status(json: &[u8], name: &str) -> Option<String> {
    let answer: Value = serde_json::from_slice(json).ok()?;
    let nodes = answer.as_array().or_else(|| answer["nodes"].as_array())?;
    let node = nodes.iter().find(|node| node["name"] == name)?;
    Some(node["agent_status"].as_str()?.to_owned())
}
