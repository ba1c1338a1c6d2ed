//! The files of a sandbox: each node's `vedette.toml`, the configurations of its private snmpd,
//! snmptrapd and Prometheus, and the `lab.json` / `demo.json` that tells others where all is.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Sandbox, SandboxNode};

/// `lab.json` and `demo.json`: where everything of a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFile {
    /// The cluster's name.
    pub cluster: String,
    /// The nodes.
    pub nodes: Vec<LabNode>,
    /// The SNMP agent of the first node; each node's own stands with the node.
    pub snmp: LabSnmp,
    /// URL of Prometheus, where one runs.
    pub prometheus: Option<String>,
    /// The file in which received notifications are written, where a receiver runs.
    pub traps: Option<PathBuf>,
    /// Names of the networks, in the order of each node's addresses.
    pub networks: Vec<String>,
}

/// A node in `lab.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabNode {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// Its addresses, one a network.
    pub addresses: Vec<String>,
    /// Process id of its guard; `null` while it does not run.
    pub guard_pid: Option<u32>,
    /// Process id of its agent; `null` while it does not run.
    pub agent_pid: Option<u32>,
    /// Its control socket.
    pub control: PathBuf,
    /// URL of its HTTP API.
    pub http: String,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its SNMP agent.
    pub snmp: LabSnmp,
    /// What its daemon logs.
    pub log: PathBuf,
}

/// Where an SNMP agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSnmp {
    /// `address:port`.
    pub address: String,
    /// Community for reading.
    pub community: String,
}

impl LabFile {
    /// The file of a sandbox before anything runs.
    pub fn of(sandbox: &Sandbox) -> Self {
        let nodes: Vec<LabNode> =
            sandbox.nodes.iter().map(|node| LabNode::of(sandbox, node)).collect();
        Self {
            cluster: sandbox.cluster.clone(),
            snmp: nodes[0].snmp.clone(),
            nodes,
            prometheus: None,
            traps: None,
            networks: sandbox.networks.iter().map(|network| network.name.clone()).collect(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is not such a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
    }

    /// Writes the file so that a reader sees the old or the new content, never half of one.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        let new = path.with_extension(format!("json.{}", std::process::id()));
        fs::write(&new, text + "\n")?;
        fs::rename(new, path)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&LabNode> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl LabNode {
    fn of(sandbox: &Sandbox, node: &SandboxNode) -> Self {
        Self {
            name: node.name.clone(),
            number: node.number,
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            guard_pid: None,
            agent_pid: None,
            control: node.control(),
            http: format!("http://{}", node.http),
            state_dir: node.state_dir(),
            snmp: LabSnmp { address: node.snmp.to_string(), community: sandbox.community.clone() },
            log: node.log(),
        }
    }
}

/// Writes `VEDETTE-MIB` and what it imports into a directory of its own, for `snmpwalk -M`.
///
/// # Errors
/// If the directory cannot be written.
pub fn write_mibs(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("VEDETTE-MIB.txt"), vedette_mib::MIB_TEXT)?;
    vedette_mib::BASE_MODULES.iter().try_for_each(|(name, text)| fs::write(dir.join(name), text))
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

impl Sandbox {
    /// Writes every file that the processes need.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write_files(&self) -> io::Result<()> {
        for node in &self.nodes {
            fs::create_dir_all(&node.dir)?;
            fs::set_permissions(&node.dir, fs::Permissions::from_mode(0o700))?;
            fs::write(node.config(), self.vedette_toml(node))?;
            fs::write(node.dir.join("snmpd.conf"), self.snmpd_conf(node))?;
            self.write_shorthand(node)?;
        }
        write_mibs(&self.mibs())?;
        fs::write(self.dir.join("snmptrapd.conf"), "disableAuthorization yes\n")?;
        let prometheus = self.dir.join("prometheus");
        fs::create_dir_all(&prometheus)?;
        fs::write(prometheus.join("prometheus.yml"), self.prometheus_yml())
    }

    /// A script that runs the program as this node, so that nobody has to type its configuration.
    fn write_shorthand(&self, node: &SandboxNode) -> io::Result<()> {
        let script = format!(
            "#!/bin/sh\nexec {} --config {} \"$@\"\n",
            quoted(&self.program),
            quoted(&node.config())
        );
        let path = node.shorthand();
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    }

    fn vedette_toml(&self, node: &SandboxNode) -> String {
        let local = node.addresses.iter().any(std::net::IpAddr::is_loopback);
        let one_machine = if local { "one_machine = true\n" } else { "" };
        let mut text = format!(
            "[node]\nname = \"{}\"\nnumber = {}\n\n[cluster]\nname = \"{}\"\n{one_machine}\n[timing]\nprofile = \"{}\"\n\n",
            node.name, node.number, self.cluster, self.profile
        );
        for (network, address) in self.networks.iter().zip(&node.addresses) {
            let _ = write!(
                text,
                "[[network]]\nname = \"{}\"\naddress = \"{address}\"\npriority = \"{}\"\n\n",
                network.name, network.priority
            );
        }
        let _ = write!(
            text,
            "[http]\nlisten = \"{}\"\nallow_remote = {}\n\n[snmp]\nagentx = \"{}\"\n\n[paths]\nstate_dir = \"{}\"\ncontrol = \"{}\"\n",
            node.http,
            self.allow_remote,
            node.agentx().display(),
            node.state_dir().display(),
            node.control().display()
        );
        text
    }

    fn snmpd_conf(&self, node: &SandboxNode) -> String {
        format!(
            "agentaddress udp:{}\nrocommunity {}\nmaster agentx\nagentXSocket unix:{}\ntrap2sink {} {}\nsysName {}\nsysLocation sandbox\n",
            node.snmp,
            self.community,
            node.agentx().display(),
            self.traps,
            self.community,
            node.name
        )
    }

    fn prometheus_yml(&self) -> String {
        let targets: Vec<String> =
            self.nodes.iter().map(|node| format!("'{}'", node.http)).collect();
        format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nscrape_configs:\n  - job_name: vedette\n    static_configs:\n      - targets: [{}]\n",
            targets.join(", ")
        )
    }
}
