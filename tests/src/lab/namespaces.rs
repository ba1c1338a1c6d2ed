//! Namespaces, bridges and cables, made with `ip`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use vedette::sandbox::{children_of, find_program};

use super::{LabError, Plan, Result};

/// The lab needs root and a few programs; says which are missing and how to get them.
pub(super) fn require_tools() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError(
            "The lab makes network namespaces, which takes root. Run it as root (sudo).".into(),
        ));
    }
    for (program, package) in [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("snmpd", "snmpd"),
        ("snmptrapd", "snmptrapd"),
    ] {
        if find_program(program).is_none() {
            return Err(LabError(format!(
                "The lab needs {program}, which is not installed. Install it: apt-get install {package}."
            )));
        }
    }
    Ok(())
}

/// Runs `ip` once with many commands; the first that fails is told.
pub(super) fn ip_batch(lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all((lines.join("\n") + "\n").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// `ip` commands inside one namespace.
pub(super) fn ip_batch_in(namespace: &str, lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all((lines.join("\n") + "\n").as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError(format!("ip in {namespace}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// The switch's port for a node (1, 2, …) on a network (0, 1, …, or the management network).
pub(super) fn port(node: u16, network: usize) -> String {
    format!("p{node}x{network}")
}

/// The hardware address of a node's device: says which node it is.
pub(crate) fn hardware_address(network: usize, node: u16) -> String {
    let [high, low] = node.to_be_bytes();
    format!("02:76:{high:02x}:{low:02x}:00:{network:02x}")
}

/// That of a second device of a node on the same network: the same node, another address.
pub(super) fn standby_hardware_address(network: usize, node: u16) -> String {
    let [high, low] = node.to_be_bytes();
    format!("02:76:{high:02x}:{low:02x}:01:{network:02x}")
}

/// What a machine has forgotten when its power returns: addresses that were added while it ran,
/// rules of packet filters, routes.
pub(super) fn reset(plan: &Plan, name: &str, number: u16) -> Result<()> {
    let namespace = plan.namespace(name);
    let lines = (0..=plan.networks).flat_map(|network| {
        let (device, own) = (plan.device(network), plan.address(network, number));
        // Bringing a device down removes its routes; its own come back with it.
        [
            format!("link set {device} down"),
            format!("addr flush dev {device}"),
            format!("addr add {own}/24 dev {device}"),
            format!("link set {device} up"),
        ]
    });
    ip_batch_in(&namespace, &lines.collect::<Vec<_>>())?;
    let flushed = Command::new("ip")
        .args(["netns", "exec", &namespace, "nft", "flush", "ruleset"])
        .stderr(Stdio::null())
        .status()?;
    if flushed.success() {
        return Ok(());
    }
    Err(LabError(format!("The packet filter of {name} cannot be emptied.")))
}

/// Everything the lab's traffic flows through.
pub(super) fn create(plan: &Plan) -> Result<()> {
    let switch = plan.switch();
    let mut names = vec![format!("netns add {switch}")];
    names.extend(plan.nodes().map(|(name, _)| format!("netns add {}", plan.namespace(&name))));
    ip_batch(&names)?;
    let management = plan.networks;
    let mut lines = vec!["link set lo up".to_owned()];
    for network in 0..=management {
        lines.push(format!("link add br{network} type bridge"));
        lines.push(format!("link set br{network} up"));
    }
    ip_batch_in(&switch, &lines)?;
    for (name, number) in plan.nodes() {
        connect(plan, &name, number)?;
    }
    let host = plan.host_cable();
    ip_batch(&[
        format!("link add {host} type veth peer name host netns {switch}"),
        format!("addr add {}/24 dev {host}", plan.host_address()),
        format!("link set {host} up"),
    ])?;
    ip_batch_in(
        &switch,
        &[format!("link set host master br{management}"), "link set host up".into()],
    )
}

fn connect(plan: &Plan, name: &str, number: u16) -> Result<()> {
    let (namespace, switch) = (plan.namespace(name), plan.switch());
    let mut node_side = vec!["link set lo up".to_owned()];
    let mut switch_side = Vec::new();
    for network in 0..=plan.networks {
        let (device, port) = (plan.device(network), port(number, network));
        let hardware = hardware_address(network, number);
        node_side.push(format!(
            "link add {device} address {hardware} type veth peer name {port} netns {switch}"
        ));
        node_side.push(format!("addr add {}/24 dev {device}", plan.address(network, number)));
        node_side.push(format!("link set {device} up"));
        switch_side.push(format!("link set {port} master br{network}"));
        switch_side.push(format!("link set {port} up"));
    }
    ip_batch_in(&namespace, &node_side)?;
    ip_batch_in(&switch, &switch_side)
}

/// Removes the namespaces and the host's cable, as far as they exist.
pub(super) fn destroy(plan: &Plan) {
    let quietly = |arguments: &[&str]| {
        let _ = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    };
    quietly(&["link", "del", &plan.host_cable()]);
    for (name, _) in plan.nodes() {
        quietly(&["netns", "del", &plan.namespace(&name)]);
    }
    quietly(&["netns", "del", &plan.switch()]);
}

/// Starts the first process of a node: while it lives, the node has power. Answers its process id.
///
/// A node has its own list of processes, `/proc`: whoever looks for processes on a node, to end them, finds those of the
/// node, by the numbers that they have there. What the machine mounts it sees; what it mounts nobody else does.
///
/// The process that made the namespace ends at once, so that nobody but the machine's own first
/// process is left to collect what becomes of it.
pub(super) fn start_holder(namespace: &str, lab_program: &Path) -> io::Result<u32> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["unshare", "--pid", "--fork", "--mount-proc", "--propagation", "slave"])
        .arg(lab_program)
        .arg("hold")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut maker = command.spawn()?;
    let holder = child_that_runs(maker.id(), "hold");
    // It waits for the holder; whoever runs the lab need not.
    std::thread::spawn(move || maker.wait());
    holder
}

/// A child of `parent` that was started with that argument; waits a moment until it is there.
pub(super) fn child_that_runs(parent: u32, argument: &str) -> io::Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let mut children = children_of(parent).into_iter();
        if let Some(pid) = children.find(|pid| runs(*pid, argument)) {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::other(format!("process {parent} has no child that runs `{argument}`")))
}

/// Whether a process was started with that argument.
fn runs(pid: u32, argument: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

/// Starts a process in a network namespace and in the namespaces of `holder`: its processes, its mounts, and its control
/// groups if it has its own; to be waited for. The working directory stays what it is. The namespaces of a thread can be
/// changed without touching the rest of this process.
pub(super) fn spawn_in(namespace: &str, holder: u32, mut command: Command) -> io::Result<Child> {
    let network = File::open(format!("/run/netns/{namespace}"))?;
    let of_holder = |kind: &str| File::open(format!("/proc/{holder}/ns/{kind}"));
    let (processes, groups, mounts) = (of_holder("pid")?, of_holder("cgroup")?, of_holder("mnt")?);
    if command.get_current_dir().is_none() {
        command.current_dir(std::env::current_dir()?);
    }
    // SAFETY: the closure does nothing; its presence makes the child be made by `fork`, which is
    // what enters the process namespace chosen below.
    unsafe { command.pre_exec(|| Ok(())) };
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                setns(&network, CloneFlags::CLONE_NEWNET)?;
                setns(&processes, CloneFlags::CLONE_NEWPID)?;
                setns(&groups, CloneFlags::CLONE_NEWCGROUP)?;
                // Mounts are of the thread alone only if its working directory is.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&mounts, CloneFlags::CLONE_NEWNS)?;
                command.spawn()
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts processes panicked")))
    })
}

/// Starts a process like [`spawn_in`], as a child of the node's first process: that one collects it
/// when it ends. (A child of ours that nobody waits for would keep the process namespace alive
/// after its power was cut.)
pub(super) fn start_in(namespace: &str, holder: u32, mut command: Command) -> io::Result<()> {
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(|| match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            _ => libc::_exit(0),
        });
    }
    spawn_in(namespace, holder, command)?.wait()?;
    Ok(())
}
