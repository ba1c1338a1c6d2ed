//! The peer: corosync 3 of three nodes, each in namespaces of its own for network, processes,
//! mounts, IPC and host name, on two bridged networks, as the lab builds them for ours.
//!
//! Names of namespaces carry the process id of whoever made them, so that what a crash left behind
//! is recognised and removed. Power is the first process of a node, as in the lab.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette::sandbox::{children_of, find_program, is_alive};

use super::machine;
use super::quorum;
use super::wire::now_ms;
use crate::lab::namespaces::hardware_address;
use crate::lab::{LabError, Result};

/// Nodes of the cluster.
pub(super) const NODES: usize = 3;

/// Networks between them.
const NETWORKS: usize = 2;

/// What the namespaces' names begin with.
const PREFIX: &str = "vbc";

/// How corosync is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tuning {
    /// Nothing is set: a token of 3 s, and 650 ms for every node from the third.
    Default,
    /// A token of 400 ms whatever the number of nodes.
    Fast,
}

impl Tuning {
    const fn lines(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Fast => "  token: 400\n  token_coefficient: 0\n",
        }
    }

    /// How a table calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Default => "corosync 3, its defaults",
            Self::Fast => "corosync 3, token 400 ms",
        }
    }
}

/// A membership, as a node was told of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Membership {
    /// Which node was told: 1, 2, 3.
    pub(super) node: usize,
    /// When.
    pub(super) at_ms: f64,
    /// Whether they are a quorum.
    pub(super) quorate: bool,
    /// The members.
    pub(super) members: Vec<usize>,
}

impl Membership {
    fn parse(node: usize, line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let at_ms = words.next()?.parse().ok()?;
        let quorate = words.next()? == "1";
        let members = words.next()?.split(',').filter_map(|word| word.parse().ok()).collect();
        Some(Self { node, at_ms, quorate, members })
    }
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Corosync {
    owner: String,
    stack: Stack,
    dir: PathBuf,
    nodes: Vec<Option<Node>>,
    sender: Sender<Membership>,
    memberships: Receiver<Membership>,
}

/// A node that has power.
#[derive(Debug)]
struct Node {
    unshare: Child,
    first: u32,
}

impl Corosync {
    /// Builds the networks, starts the nodes and waits until they are a cluster.
    ///
    /// # Errors
    /// What failed; nothing stays behind but the logs.
    pub(super) fn up(dir: &Path, tuning: Tuning) -> Result<Self> {
        Self::up_with(dir, tuning, Stack::Corosync)
    }

    /// The same with more on top of it, or something else in its place.
    ///
    /// # Errors
    /// What failed; nothing stays behind but the logs.
    pub(super) fn up_with(dir: &Path, tuning: Tuning, stack: Stack) -> Result<Self> {
        stack.require()?;
        let (sender, memberships) = channel();
        // Several of these clusters may be up at a time.
        let owner = format!("{}{}", std::process::id(), letter(stack, tuning));
        let mut cluster =
            Self { owner, stack, dir: dir.to_owned(), nodes: Vec::new(), sender, memberships };
        cluster.nodes.resize_with(NODES, || None);
        create_networks(&cluster.owner)?;
        for node in 1..=NODES {
            let home = cluster.home(node);
            quorum::prepare(&home)?;
            fs::write(quorum::place(&home, "etc/corosync/corosync.conf"), configuration(tuning))?;
            fs::write(quorum::place(&home, quorum::STACK), stack.letter().to_string())?;
            fs::write(quorum::place(&home, quorum::KEEPALIVED), keepalived(node, tuning))?;
            cluster.power_on(node)?;
        }
        if stack != Stack::Keepalived {
            cluster.wait_until_whole(60_000.0)?;
        }
        Ok(cluster)
    }

    fn home(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node{node}"))
    }

    /// Gives a node power and plugs its cables in.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn power_on(&mut self, node: usize) -> Result<()> {
        ip_in(&namespace(&self.owner, node), &fresh_addresses(node))?;
        ip_in(&switch(&self.owner), &ports(node, "up"))?;
        let mut unshare = start_node(&self.owner, node, &self.home(node))?;
        let output = unshare.stdout.take();
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in output.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
                let told = line.ok().and_then(|line| Membership::parse(node, &line));
                if told.is_some_and(|told| sender.send(told).is_err()) {
                    return;
                }
            }
        });
        let first = first_process(&mut unshare, &self.home(node))?;
        self.nodes[node - 1] = Some(Node { unshare, first });
        Ok(())
    }

    /// Takes a node's power away; answers the moment just before.
    ///
    /// # Errors
    /// If it has none.
    pub(super) fn power_off(&mut self, node: usize) -> Result<f64> {
        let mut gone = self.nodes[node - 1]
            .take()
            .ok_or_else(|| LabError(format!("node{node} is off already")))?;
        let zero = now_ms();
        kill_now(gone.first);
        ip_in(&switch(&self.owner), &ports(node, "down"))?;
        let _ = gone.unshare.wait();
        Ok(zero)
    }

    /// Whether a node has power.
    pub(super) fn has_power(&self, node: usize) -> bool {
        self.nodes[node - 1].is_some()
    }

    /// Kills one program of a node: of those with that name the one at that place, parents first.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) fn kill_program(&self, node: usize, name: &str, place: usize) -> Result<()> {
        let first = self.nodes[node - 1].as_ref().map(|node| node.first);
        let tree = first.map(machine::tree).unwrap_or_default();
        let found = tree.into_iter().filter(|pid| machine::name(*pid) == name).nth(place);
        kill_now(found.ok_or_else(|| LabError(format!("{name} does not run on node{node}")))?);
        Ok(())
    }

    /// Forgets what was told so far.
    pub(super) fn forget(&self) {
        while self.memberships.try_recv().is_ok() {}
    }

    /// Waits until every survivor was told of a quorate membership of just the survivors; answers
    /// the moment at which the last of them was.
    ///
    /// # Errors
    /// If that does not happen in `patience_ms`.
    pub(super) fn wait_without(&self, gone: usize, patience_ms: f64) -> Result<f64> {
        let survivors: Vec<usize> = (1..=NODES).filter(|node| *node != gone).collect();
        self.wait_for(&survivors, patience_ms)
    }

    /// Waits until every node was told of a membership of all.
    ///
    /// # Errors
    /// If that does not happen in `patience_ms`.
    pub(super) fn wait_until_whole(&self, patience_ms: f64) -> Result<f64> {
        self.wait_for(&(1..=NODES).collect::<Vec<_>>(), patience_ms)
    }

    fn wait_for(&self, wanted: &[usize], patience_ms: f64) -> Result<f64> {
        let deadline = now_ms() + patience_ms;
        let mut told: [Option<f64>; NODES] = [None; NODES];
        while !wanted.iter().all(|node| told[node - 1].is_some()) {
            let left = Duration::from_secs_f64((deadline - now_ms()).max(0.0) / 1e3);
            let news = self.memberships.recv_timeout(left).map_err(|_| {
                LabError(format!(
                    "corosync was no cluster of {wanted:?} after {:.0} s; logs in {}",
                    patience_ms / 1e3,
                    self.dir.display()
                ))
            })?;
            let is_wanted = news.quorate && news.members == wanted;
            told[news.node - 1] = is_wanted.then_some(news.at_ms);
        }
        Ok(told.into_iter().flatten().fold(0.0, f64::max))
    }

    /// The corosync process of each node, with the node's first process.
    pub(super) fn daemons(&self) -> Vec<(u32, u32)> {
        let of = |node: &Node| {
            let daemon =
                machine::tree(node.first).into_iter().find(|pid| machine::name(*pid) == "corosync");
            Some((node.first, daemon?))
        };
        self.nodes.iter().flatten().filter_map(of).collect()
    }
}

impl Drop for Corosync {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            let mut unshare = node.unshare;
            kill_now(node.first);
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
        destroy_networks(&self.owner);
    }
}

/// Tells clusters of one process apart, in names of at most 15 characters: large if they are fast.
const fn letter(stack: Stack, tuning: Tuning) -> char {
    match tuning {
        Tuning::Default => stack.letter(),
        Tuning::Fast => stack.letter().to_ascii_uppercase(),
    }
}

/// What runs on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    /// Corosync alone.
    Corosync,
    /// Corosync with pacemaker.
    Pacemaker,
    /// Keepalived; no corosync.
    Keepalived,
}

impl Stack {
    /// A letter for the file that tells a node what to run.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Corosync => 'c',
            Self::Pacemaker => 'p',
            Self::Keepalived => 'k',
        }
    }

    fn require(self) -> Result<()> {
        let programs: &[&str] = match self {
            Self::Corosync => &["corosync"],
            Self::Pacemaker => &["corosync", "pacemakerd", "crm_resource"],
            Self::Keepalived => &["keepalived"],
        };
        for program in programs {
            if find_program(program).is_none() {
                return Err(LabError(format!(
                    "{program} is not installed. Install the peers: apt-get install corosync \
                     pacemaker pacemaker-cli-utils resource-agents keepalived."
                )));
            }
        }
        Ok(())
    }
}

/// VRRP as fast as it takes: three nodes that differ in priority, and no preemption.
fn keepalived(node: usize, tuning: Tuning) -> String {
    let advert = if tuning == Tuning::Fast { "0.1" } else { "1" };
    format!(
        "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance V {{\n state BACKUP\n interface eth0\n \
         virtual_router_id 51\n priority {}\n advert_int {advert}\n nopreempt\n \
         virtual_ipaddress {{\n  {SERVICE}/24 dev eth0\n }}\n}}\n",
        110 - 10 * node
    )
}

/// The service address of pacemaker and keepalived.
pub(super) const SERVICE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 90, 0, 100);

/// What pacemaker looks after: the address alone, which stays where it is.
const CIB: &str = r#"<primitive id="vip" class="ocf" provider="heartbeat" type="IPaddr2">
<instance_attributes id="vip-ia"><nvpair id="vip-ip" name="ip" value="10.90.0.100"/>
<nvpair id="vip-nic" name="nic" value="eth0"/><nvpair id="vip-nm" name="cidr_netmask" value="24"/>
</instance_attributes><operations><op id="vip-mon" name="monitor" interval="10s" timeout="20s"/>
</operations></primitive>"#;

impl Corosync {
    /// Runs a program on a node and takes what it prints.
    ///
    /// # Errors
    /// If the node is off or the program cannot be started.
    pub(super) fn inside(&self, node: usize, program: &str, arguments: &[&str]) -> Result<String> {
        let first = self.nodes[node - 1].as_ref().map(|node| node.first.to_string());
        let first = first.ok_or_else(|| LabError(format!("node{node} is off")))?;
        let output = Command::new("nsenter")
            .args(["-t", &first, "-m", "-i", "-u", "-n", "-p", program])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let (out, err) = (output.stdout, output.stderr);
        Ok(format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)))
    }

    /// Tells pacemaker what to look after.
    ///
    /// # Errors
    /// If it does not take that within a minute and a half.
    pub(super) fn configure(&self) -> Result<()> {
        let deadline = now_ms() + 90_000.0;
        while !self.inside(1, "crm_mon", &["-1"])?.contains("Online: [ node1 node2 node3 ]") {
            if now_ms() >= deadline {
                return Err(LabError(format!(
                    "pacemaker did not start; logs in {}",
                    self.dir.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        self.inside(1, "crm_attribute", &["-n", "stonith-enabled", "-v", "false"])?;
        // By default it slows down while the machine is busy, and this one is: builds run beside.
        self.inside(1, "crm_attribute", &["-n", "load-threshold", "-v", "1000%"])?;
        let stay = ["-t", "rsc_defaults", "-n", "resource-stickiness", "-v", "100"];
        self.inside(1, "crm_attribute", &stay)?;
        self.inside(1, "cibadmin", &["-C", "-o", "resources", "-X", CIB])?;
        Ok(())
    }

    /// What runs on its nodes.
    pub(super) const fn stack(&self) -> Stack {
        self.stack
    }

    /// Waits until pacemaker says that every node is there and nothing is under way.
    ///
    /// # Errors
    /// After that time.
    pub(super) fn wait_until_online(&self, patience: Duration) -> Result<()> {
        let deadline = now_ms() + patience.as_secs_f64() * 1e3;
        while now_ms() < deadline {
            if self.inside(1, "crm_mon", &["-1"])?.contains("Online: [ node1 node2 node3 ]") {
                self.inside(1, "crm_resource", &["--wait", "-T", "30"])?;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(LabError(format!("pacemaker is not whole; logs in {}", self.dir.display())))
    }

    /// Asks who answers for the service address.
    ///
    /// # Errors
    /// If the prober cannot be started.
    pub(super) fn probe(&self) -> Result<crate::lab::Prober> {
        let own = std::net::Ipv4Addr::new(10, 90, 0, 253);
        let switch = switch(&self.owner);
        ip_in(&switch, &[format!("addr replace {own}/24 dev br0")])?;
        crate::lab::Prober::start_at(&switch, "br0", own, SERVICE)
    }
}

/// What a machine has of its addresses after a reboot.
fn fresh_addresses(node: usize) -> Vec<String> {
    let each = |network: usize| {
        [
            format!("addr flush dev eth{network}"),
            format!("addr add {}/24 dev eth{network}", address(network, node)),
        ]
    };
    (0..NETWORKS).flat_map(each).collect()
}

fn configuration(tuning: Tuning) -> String {
    let node = |number: usize| {
        format!(
            "  node {{\n    name: node{number}\n    nodeid: {number}\n    ring0_addr: {}\n    ring1_addr: {}\n  }}\n",
            address(0, number),
            address(1, number)
        )
    };
    format!(
        "totem {{\n  version: 2\n  cluster_name: bench\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n{}}}\n\
         logging {{\n  to_stderr: no\n  to_syslog: no\n  to_logfile: yes\n  logfile: /var/log/corosync/corosync.log\n}}\n\
         quorum {{\n  provider: corosync_votequorum\n}}\n\
         nodelist {{\n{}}}\n",
        tuning.lines(),
        (1..=NODES).map(node).collect::<String>()
    )
}

/// Addresses that no route leads to from outside the namespaces.
fn address(network: usize, node: usize) -> String {
    format!("10.{}.0.{node}", 90 + network)
}

fn switch(owner: &str) -> String {
    format!("{PREFIX}{owner}sw")
}

fn namespace(owner: &str, node: usize) -> String {
    format!("{PREFIX}{owner}n{node}")
}

fn ports(node: usize, state: &str) -> Vec<String> {
    (0..NETWORKS).map(|network| format!("link set p{node}x{network} {state}")).collect()
}

fn create_networks(owner: &str) -> Result<()> {
    let switch = switch(owner);
    let mut names = vec![format!("netns add {switch}")];
    names.extend((1..=NODES).map(|node| format!("netns add {}", namespace(owner, node))));
    ip(&[], &names)?;
    let mut bridges = vec!["link set lo up".to_owned()];
    for network in 0..NETWORKS {
        bridges.push(format!("link add br{network} type bridge"));
        bridges.push(format!("link set br{network} up"));
    }
    ip_in(&switch, &bridges)?;
    for node in 1..=NODES {
        let (mut own, mut other) = (vec!["link set lo up".to_owned()], Vec::new());
        for network in 0..NETWORKS {
            let port = format!("p{node}x{network}");
            let hardware = hardware_address(network, node as u16);
            own.push(format!(
                "link add eth{network} address {hardware} type veth peer name {port} netns {switch}"
            ));
            own.push(format!("addr add {}/24 dev eth{network}", address(network, node)));
            own.push(format!("link set eth{network} up"));
            other.push(format!("link set {port} master br{network}"));
            other.push(format!("link set {port} up"));
        }
        ip_in(&namespace(owner, node), &own)?;
        ip_in(&switch, &other)?;
    }
    Ok(())
}

fn destroy_networks(owner: &str) {
    for name in (1..=NODES).map(|node| namespace(owner, node)).chain([switch(owner)]) {
        // Those that were never made are not there to be removed.
        let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
    }
}

/// Removes what benchmarks that are dead left behind: their nodes, then their namespaces.
pub(super) fn sweep() {
    let owner_of = |name: &str| {
        let rest = name.strip_prefix(PREFIX)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let letter = rest.chars().nth(digits.len())?;
        digits.parse::<u32>().ok().map(|pid| (pid, format!("{digits}{letter}")))
    };
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut owners: Vec<(u32, String)> = names.filter_map(|name| owner_of(&name)).collect();
    owners.sort_unstable();
    owners.dedup();
    for (_, owner) in owners.into_iter().filter(|(pid, _)| !is_alive(*pid)) {
        for node in 1..=NODES {
            residents(&namespace(&owner, node)).into_iter().for_each(kill_now);
        }
        destroy_networks(&owner);
    }
}

/// The processes that live in a network namespace.
fn residents(namespace: &str) -> Vec<u32> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn start_node(owner: &str, node: usize, home: &Path) -> Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &namespace(owner, node), "unshare"])
        .args(["--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program)
        .arg("corosync-node")
        .arg(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::options().create(true).append(true).open(home.join("node.err"))?)
        .process_group(0);
    Ok(command.spawn()?)
}

/// The first process of a node: the child of `unshare`.
fn first_process(unshare: &mut Child, home: &Path) -> Result<u32> {
    let deadline = now_ms() + 10_000.0;
    while now_ms() < deadline && unshare.try_wait()?.is_none() {
        if let Some(first) = children_of(unshare.id()).into_iter().next() {
            return Ok(first);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = unshare.kill();
    let why = fs::read_to_string(home.join("node.err")).unwrap_or_default();
    Err(LabError(format!("a corosync node did not start: {}", why.trim())))
}

fn kill_now(pid: u32) {
    if let Ok(raw) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(raw), Signal::SIGKILL);
    }
}

fn ip_in(namespace: &str, lines: &[String]) -> Result<()> {
    ip(&["-n", namespace], lines)
}

/// Runs `ip` once with many commands.
fn ip(options: &[&str], lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_read() {
        let told = Membership::parse(2, "12.500 1 1,3").expect("a membership");
        assert_eq!(told, Membership { node: 2, at_ms: 12.5, quorate: true, members: vec![1, 3] });
        assert_eq!(Membership::parse(1, ""), None);
        assert_eq!(Membership::parse(1, "x 1 1"), None);
    }
}
