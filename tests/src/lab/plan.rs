//! The lab's own memory: its names, addresses and processes, in `plan.json` beside `lab.json`.
//!
//! Everything can be derived from a *slot*, a small number that no two labs share at a time; a file
//! per slot says which directory has it, so that what a crash left behind can be found and removed.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vedette::sandbox::{self, Sandbox, SandboxNode};

use super::{LabError, Result, disk, namespaces, systemd};

/// Where slots are claimed.
const SLOTS: &str = "/run/vedette-lab";

/// How many labs fit on a machine: each has a 10.x network.
const MOST_SLOTS: u8 = 50;

/// What a lab shall be.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Its directory.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: u16,
    /// How many networks.
    pub networks: usize,
    /// Timing profile.
    pub profile: String,
    /// Whether Prometheus runs.
    pub prometheus: bool,
    /// The process whose death ends the lab.
    pub owner: Option<u32>,
    /// The product.
    pub program: PathBuf,
    /// The lab's own program.
    pub lab_program: PathBuf,
    /// Each node's first process is a systemd of its own.
    pub systemd: bool,
}

/// A lab's names, addresses and processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its directory.
    pub dir: PathBuf,
    /// Its slot.
    pub slot: u8,
    /// How many nodes.
    pub node_count: u16,
    /// How many networks (the management network is one more).
    pub networks: usize,
    /// Timing profile.
    pub profile: String,
    /// The product.
    pub program: PathBuf,
    /// The lab's own program.
    pub lab_program: PathBuf,
    /// Each node's first process is a systemd of its own.
    #[serde(default)]
    pub systemd: bool,
    /// The process that makes the lab; until it is done, its death ends the lab.
    pub maker: u32,
}

impl Plan {
    /// Takes a free slot and writes the plan.
    pub(super) fn claim(options: &UpOptions) -> Result<Self> {
        if options.nodes == 0
            || options.nodes > 200
            || options.networks == 0
            || options.networks > 8
        {
            return Err(LabError(format!(
                "A lab of {} nodes and {} networks cannot be made. Ask for 1 to 200 nodes and 1 to 8 networks.",
                options.nodes, options.networks
            )));
        }
        let dir = options.dir.clone();
        if Self::read(&dir).is_ok() {
            return Err(LabError(format!(
                "There is a lab in {} already. Take it down first: vedette-lab --dir {} down.",
                dir.display(),
                dir.display()
            )));
        }
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(SLOTS)?;
        let slot = (0..MOST_SLOTS)
            .find(|slot| {
                let claim = fs::File::create_new(slot_file(*slot));
                claim
                    .and_then(|_| fs::write(slot_file(*slot), dir.as_os_str().as_encoded_bytes()))
                    .is_ok()
            })
            .ok_or_else(|| LabError(format!("{MOST_SLOTS} labs are up already.")))?;
        let plan = Self {
            dir,
            slot,
            node_count: options.nodes,
            networks: options.networks,
            profile: options.profile.clone(),
            program: options.program.clone(),
            lab_program: options.lab_program.clone(),
            systemd: options.systemd,
            maker: std::process::id(),
        };
        let text = serde_json::to_vec_pretty(&plan).map_err(io::Error::other)?;
        fs::create_dir_all(plan.pids())?;
        fs::write(plan.file(), text)?;
        Ok(plan)
    }

    /// The plan of the lab in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let text = fs::read(dir.join("plan.json")).map_err(|_| {
            LabError(format!(
                "There is no lab in {}. Make one: vedette-lab --dir {} up.",
                dir.display(),
                dir.display()
            ))
        })?;
        Ok(serde_json::from_slice(&text).map_err(io::Error::other)?)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("plan.json")
    }

    fn pids(&self) -> PathBuf {
        self.dir.join("pids")
    }

    /// Names and numbers of the nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (String, u16)> + use<> {
        (1..=self.node_count).map(|number| (format!("n{number}"), number))
    }

    /// The namespace of the bridges.
    pub(super) fn switch(&self) -> String {
        format!("vl{}sw", self.slot)
    }

    /// The namespace of a node.
    pub(super) fn namespace(&self, node: &str) -> String {
        format!("vl{}{node}", self.slot)
    }

    /// The machine's end of the management network.
    pub(super) fn host_cable(&self) -> String {
        format!("vl{}h", self.slot)
    }

    /// The device of a network in a node; the one past the last is management.
    pub(super) fn device(&self, network: usize) -> String {
        if network == self.networks { "mgmt".into() } else { sandbox::network_name(network) }
    }

    /// A node's address on a network.
    pub(super) fn address(&self, network: usize, node: u16) -> IpAddr {
        let third =
            if network == self.networks { 200 } else { u8::try_from(network + 1).unwrap_or(199) };
        IpAddr::from([10, 100 + self.slot, third, u8::try_from(node).unwrap_or(253)])
    }

    /// The machine's address on the management network.
    pub(super) fn host_address(&self) -> IpAddr {
        self.address(self.networks, 254)
    }

    /// The sandbox that this plan describes.
    pub(super) fn sandbox(&self) -> Sandbox {
        let node = |(name, number): (String, u16)| SandboxNode {
            dir: self.dir.join(&name),
            number,
            addresses: (0..self.networks).map(|network| self.address(network, number)).collect(),
            http: SocketAddr::new(self.address(self.networks, number), 7780),
            snmp: SocketAddr::new(self.address(self.networks, number), 1161),
            name,
        };
        Sandbox {
            dir: self.dir.clone(),
            cluster: "lab".into(),
            profile: self.profile.clone(),
            program: self.program.clone(),
            networks: sandbox::networks(self.networks),
            nodes: self.nodes().map(node).collect(),
            traps: SocketAddr::new(self.host_address(), 1162),
            prometheus: SocketAddr::new(self.host_address(), 9090),
            community: "public".into(),
            allow_remote: true,
        }
    }

    /// The file that holds the process id of a node's guard.
    pub(super) fn guard_file(&self, node: &str) -> PathBuf {
        self.pids().join(format!("{node}.guard"))
    }

    /// The guard of a node, if it runs.
    pub(super) fn guard_of(&self, node: &str) -> Option<u32> {
        read_pid(&self.guard_file(node))
    }

    /// The first process of a node, if it has power.
    pub(super) fn holder_of(&self, node: &str) -> Option<u32> {
        read_pid(&self.pids().join(format!("{node}.holder")))
    }

    /// Remembers the first process of a node.
    pub(super) fn set_holder(&self, node: &str, pid: u32) -> Result<()> {
        Ok(fs::write(self.pids().join(format!("{node}.holder")), pid.to_string())?)
    }

    /// Starts a process that belongs to the lab and not to a node.
    pub(super) fn start_helper(&self, name: &str, mut command: Command) -> Result<()> {
        use std::os::unix::process::CommandExt;
        let log = fs::File::create(self.dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn()?;
        Ok(fs::write(self.helper_file(name), child.id().to_string())?)
    }

    fn helper_file(&self, name: &str) -> PathBuf {
        self.pids().join(format!("{name}.helper"))
    }

    /// Whether such a helper runs.
    pub(super) fn has_helper(&self, name: &str) -> bool {
        read_pid(&self.helper_file(name)).is_some()
    }

    /// Ends a helper; whether it ran.
    pub(super) fn end_helper(&self, name: &str) -> bool {
        let pid = read_pid(&self.helper_file(name));
        if let Some(pid) = pid {
            sandbox::terminate(pid, Duration::from_millis(500));
        }
        self.forget_helper(name);
        pid.is_some()
    }

    /// Forgets a helper, so that it is not ended with the lab.
    pub(super) fn forget_helper(&self, name: &str) {
        let _ = fs::remove_file(self.helper_file(name));
    }

    /// Ends every process, removes every namespace, gives the slot back.
    pub(super) fn tear_down(&self) {
        for (name, _) in self.nodes() {
            if let Some(pid) = self.holder_of(&name) {
                sandbox::terminate(pid, Duration::ZERO);
            }
        }
        for helper in ["janitor", "snmptrapd", "prometheus", "wires"] {
            self.end_helper(helper);
        }
        for node in &self.sandbox().nodes {
            disk::unmount(node);
        }
        systemd::remove(self);
        namespaces::destroy(self);
        let _ = fs::remove_dir_all(self.pids());
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_file(self.dir.join("lab.json"));
        let _ = fs::remove_file(slot_file(self.slot));
    }

    /// Whether nobody looks after this lab any more.
    fn is_abandoned(&self) -> bool {
        !self.has_helper("janitor") && !sandbox::is_alive(self.maker)
    }
}

fn slot_file(slot: u8) -> PathBuf {
    Path::new(SLOTS).join(format!("slot-{slot}"))
}

/// The process id in a file, if that process lives.
fn read_pid(file: &Path) -> Option<u32> {
    let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    sandbox::is_alive(pid).then_some(pid)
}

/// Takes down every lab that nobody looks after any more.
pub(super) fn sweep() {
    for slot in 0..MOST_SLOTS {
        let Ok(dir) = fs::read_to_string(slot_file(slot)) else { continue };
        match Plan::read(Path::new(dir.trim())) {
            Ok(plan) if plan.slot == slot => {
                if plan.is_abandoned() {
                    plan.tear_down();
                }
            }
            // The directory was removed by hand, or belongs to a younger lab.
            _ => sweep_slot(slot),
        }
    }
}

/// Removes what carries a slot's name when its plan is lost.
fn sweep_slot(slot: u8) {
    let age = fs::metadata(slot_file(slot)).and_then(|data| data.modified()).ok();
    let young = age.and_then(|at| at.elapsed().ok()).is_some_and(|age| age.as_secs() < 10);
    if young {
        return;
    }
    let quietly = |arguments: &[&str]| {
        let _ = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    };
    quietly(&["link", "del", &format!("vl{slot}h")]);
    quietly(&["netns", "del", &format!("vl{slot}sw")]);
    for number in 1..=200 {
        let name = format!("vl{slot}n{number}");
        if Path::new("/run/netns").join(&name).exists() {
            quietly(&["netns", "del", &name]);
        }
    }
    let _ = fs::remove_file(slot_file(slot));
}
