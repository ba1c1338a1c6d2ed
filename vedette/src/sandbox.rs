//! A whole cluster on one machine, made of real daemons: what `vedette demo` starts on loopback and
//! the lab starts in network namespaces.
//!
//! A [`Sandbox`] is a plan: a directory, nodes with addresses, ports and paths. [`form`] carries it
//! out exactly as an operator would, with the commands of the program itself (`init`, `daemon`,
//! `node add`, `join`), through a [`Launcher`] that decides *where* a process runs. Nothing is
//! faked: what the sandbox shows is what an installation shows.

mod files;
mod form;
mod processes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use files::{LabFile, LabNode, LabSnmp, write_mibs};
pub use form::{FormError, add_node, form, start_daemon, start_snmpd, wait_for_status};
pub use processes::{
    Launcher, agent_of, children_of, find_program, guard_of, is_alive, log_to, reaper_of,
    terminate, wait_for_end,
};

/// A network of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxNetwork {
    /// Its name: `neta`, `netb`, …
    pub name: String,
    /// `high` or `low`.
    pub priority: &'static str,
}

/// A node of a sandbox: who it is and where its things are.
#[derive(Clone, Debug)]
pub struct SandboxNode {
    /// Its name: `n1`, `n2`, …
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Its address on each network, in the order of the networks.
    pub addresses: Vec<IpAddr>,
    /// Where its HTTP API listens.
    pub http: SocketAddr,
    /// Where its private snmpd listens.
    pub snmp: SocketAddr,
    /// Its directory; everything of the node lies below.
    pub dir: PathBuf,
}

impl SandboxNode {
    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("vedette.toml")
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The socket of the master SNMP agent.
    pub fn agentx(&self) -> PathBuf {
        self.dir.join("agentx")
    }

    /// A script that runs the program as this node: `n1/vedette status`.
    pub fn shorthand(&self) -> PathBuf {
        self.dir.join("vedette")
    }

    /// What the daemon logs.
    pub fn log(&self) -> PathBuf {
        self.dir.join("vedette.log")
    }
}

/// A cluster on one machine.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The directory of everything.
    pub dir: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// `default`, `fast` or `wide`.
    pub profile: String,
    /// The program to run.
    pub program: PathBuf,
    /// Its networks.
    pub networks: Vec<SandboxNetwork>,
    /// Its nodes.
    pub nodes: Vec<SandboxNode>,
    /// Where notifications are sent, and read by a private snmptrapd.
    pub traps: SocketAddr,
    /// Where a private Prometheus listens.
    pub prometheus: SocketAddr,
    /// Community for reading.
    pub community: String,
    /// Whether HTTP listens beyond loopback (only inside namespaces of our own).
    pub allow_remote: bool,
}

/// The letter of a network: 0 is `a`.
pub fn network_name(index: usize) -> String {
    let letter = char::from(b'a'.saturating_add(u8::try_from(index).unwrap_or(25).min(25)));
    format!("net{letter}")
}

/// The networks `neta`, `netb`, …
pub fn networks(count: usize) -> Vec<SandboxNetwork> {
    (0..count).map(|index| SandboxNetwork { name: network_name(index), priority: "high" }).collect()
}

impl Sandbox {
    /// A plan on loopback addresses, for which no rights are needed: node *i* has `127.77.k.i` on
    /// network *k*. Ports start at `base_port`, four a node at most.
    pub fn on_loopback(
        dir: &Path,
        program: &Path,
        nodes: u16,
        network_count: usize,
        base_port: u16,
    ) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let plan = |number: u16| {
            let name = format!("n{number}");
            SandboxNode {
                dir: dir.join(&name),
                name,
                number,
                addresses: (1..=network_count)
                    .map(|k| {
                        let host = u8::try_from(number).unwrap_or(254);
                        IpAddr::from([127, 77, u8::try_from(k).unwrap_or(8), host])
                    })
                    .collect(),
                http: loopback(base_port + number),
                snmp: loopback(base_port + 100 + number),
            }
        };
        Self {
            dir: dir.to_owned(),
            cluster: "demo".into(),
            profile: "default".into(),
            program: program.to_owned(),
            networks: networks(network_count),
            nodes: (1..=nodes).map(plan).collect(),
            traps: loopback(base_port + 200),
            prometheus: loopback(base_port + 201),
            community: "public".into(),
            allow_remote: false,
        }
    }

    /// The MIB and what it imports, for `snmpwalk -M`.
    pub fn mibs(&self) -> PathBuf {
        self.dir.join("mibs")
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&SandboxNode> {
        self.nodes.iter().find(|node| node.name == name)
    }
}
