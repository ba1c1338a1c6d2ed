//! Clusters with one service address that can be struck: ours, pacemaker's and keepalived's, each
//! behind the same few verbs, so that every one of them gets the same blow in the same way.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::corosync::{Corosync, NODES, Stack, Tuning};
use super::ours::Ours;
use super::trials::{Blow, Rival};
use crate::lab::{LabError, Prober, Result, Victim};

/// How long a cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long keepalived's address has to be answered by one node alone: it tells nobody how it does.
const CALM: Duration = Duration::from_millis(2_500);

/// A cluster of three nodes that has a service address.
pub(super) trait Contestant {
    /// Starts to ask who has the address.
    fn probe(&self) -> Result<Prober>;
    /// Takes a node's power and cables away.
    fn power_off(&mut self, node: u16) -> Result<()>;
    /// Makes a node as good as new, whatever was done to it.
    fn revive(&mut self, node: u16) -> Result<()>;
    /// Asks, on the node that has the address, to move it to another one.
    fn move_to(&mut self, from: u16, to: u16) -> Result<()>;
    /// Takes back what a request to move left behind.
    fn after_move(&mut self, _from: u16) -> Result<()> {
        Ok(())
    }
    /// Kills what [`Blow::Agent`] or [`Blow::Engine`] means on that node.
    fn kill(&mut self, node: u16, blow: Blow) -> Result<()>;
    /// Waits until all nodes are there, the address is answered and nothing is under way.
    fn wait_until_whole(&mut self) -> Result<()>;
    /// The cluster's own story of the last failure, if it writes one, from a node that has power.
    fn story(&self, _asked: u16) -> Option<Value> {
        None
    }
}

/// Forms that cluster.
///
/// # Errors
/// If it does not form.
pub(super) fn form(rival: Rival, dir: &Path) -> Result<Box<dyn Contestant>> {
    let dir = dir.join(rival.slug());
    let tuning = if rival.is_fast() { Tuning::Fast } else { Tuning::Default };
    match rival {
        Rival::OursDefault => Ok(Box::new(OurService::up(&dir, "default")?)),
        Rival::OursFast => Ok(Box::new(OurService::up(&dir, "fast")?)),
        Rival::PacemakerDefault | Rival::PacemakerFast => {
            let cluster = Corosync::up_with(&dir, tuning, Stack::Pacemaker)?;
            cluster.configure()?;
            Ok(Box::new(Theirs { cluster }))
        }
        Rival::KeepalivedDefault | Rival::KeepalivedFast => {
            Ok(Box::new(Theirs { cluster: Corosync::up_with(&dir, tuning, Stack::Keepalived)? }))
        }
    }
}

/// Our cluster with a group that has one address.
struct OurService {
    ours: Ours,
    address: Ipv4Addr,
}

impl OurService {
    fn up(dir: &Path, profile: &str) -> Result<Self> {
        let ours = Ours::up(dir, profile)?;
        let address = ours.lab.service_address(0, 1);
        let document = dir.join("cluster-document.toml");
        fs::write(&document, group_document(address))?;
        let path = document.display().to_string();
        let output = ours.lab.vedette("n1", &["config", "apply", &path, "--yes"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && !said.contains("in force") {
            return Err(LabError(format!("the group was not accepted: {said}")));
        }
        Ok(Self { ours, address })
    }

    fn is_idle(&self, asked: &str) -> bool {
        let group = self.ours.get(asked, "/api/v1/groups/web");
        let manager = self.ours.get(asked, "/api/v1/manager");
        let queue_is_empty = manager["queue"].as_array().is_some_and(Vec::is_empty);
        let all_joined = manager["members"].as_array().is_some_and(|members| {
            members.len() == NODES && members.iter().all(|member| member["state"] == "stable")
        });
        let nothing_runs = manager["in_progress"].is_null() && queue_is_empty;
        group["state"] == "ONLINE" && nothing_runs && all_joined
    }
}

impl Contestant for OurService {
    fn probe(&self) -> Result<Prober> {
        Prober::start(&self.ours.lab, 0, self.address)
    }

    fn power_off(&mut self, node: u16) -> Result<()> {
        self.ours.lab.kill(&format!("n{node}"), Victim::Power)
    }

    fn revive(&mut self, node: u16) -> Result<()> {
        self.ours.lab.restart(&format!("n{node}"))
    }

    fn move_to(&mut self, from: u16, to: u16) -> Result<()> {
        let target = format!("n{to}");
        let arguments = ["group", "move", "web", "--to", &target, "--yes", "--no-wait"];
        let output = self.ours.lab.vedette(&format!("n{from}"), &arguments)?;
        if output.status.success() {
            return Ok(());
        }
        Err(LabError(format!("the move was refused: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn kill(&mut self, node: u16, blow: Blow) -> Result<()> {
        let victim = if blow == Blow::Agent { Victim::Agent } else { Victim::Guard };
        self.ours.lab.kill(&format!("n{node}"), victim)
    }

    fn wait_until_whole(&mut self) -> Result<()> {
        self.ours.wait_until_healthy()?;
        self.ours.lab.wait_for("the group to be online and nothing in progress", PATIENCE, |lab| {
            lab.names().iter().all(|name| self.is_idle(name)).then_some(())
        })
    }

    fn story(&self, asked: u16) -> Option<Value> {
        let story = self.ours.get(&format!("n{asked}"), "/api/v1/incidents/last");
        story.is_object().then_some(story)
    }
}

fn group_document(address: Ipv4Addr) -> String {
    format!(
        "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{address}/24\"\n"
    )
}

/// A peer's cluster.
struct Theirs {
    cluster: Corosync,
}

impl Theirs {
    fn is_pacemaker(&self) -> bool {
        self.cluster.stack() == Stack::Pacemaker
    }

    /// Keepalived's address must be answered, and by one node alone for a while.
    fn wait_until_calm(&self) -> Result<()> {
        let prober = self.cluster.probe()?;
        let mut since = Duration::ZERO;
        while prober.now() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            let owners = prober.look(|answers| {
                let late = answers.answers.iter().filter(|answer| answer.at >= since);
                let mut nodes: Vec<u16> = late.map(|answer| answer.node).collect();
                nodes.sort_unstable();
                nodes.dedup();
                nodes.len()
            });
            if owners != 1 {
                since = prober.now();
            } else if prober.now() >= since + CALM {
                return Ok(());
            }
        }
        Err(LabError("keepalived's address was not answered by one node alone".into()))
    }
}

impl Contestant for Theirs {
    fn probe(&self) -> Result<Prober> {
        self.cluster.probe()
    }

    fn power_off(&mut self, node: u16) -> Result<()> {
        self.cluster.power_off(usize::from(node)).map(|_| ())
    }

    fn revive(&mut self, node: u16) -> Result<()> {
        let node = usize::from(node);
        if self.cluster.has_power(node) {
            self.cluster.power_off(node)?;
        }
        self.cluster.power_on(node)
    }

    fn move_to(&mut self, from: u16, to: u16) -> Result<()> {
        let target = format!("node{to}");
        let arguments = ["--move", "-r", "vip", "-N", &target];
        self.cluster.inside(usize::from(from), "crm_resource", &arguments).map(|_| ())
    }

    fn after_move(&mut self, from: u16) -> Result<()> {
        let arguments = ["--clear", "-r", "vip"];
        self.cluster.inside(usize::from(from), "crm_resource", &arguments).map(|_| ())
    }

    fn kill(&mut self, node: u16, blow: Blow) -> Result<()> {
        let (name, which) = match (self.is_pacemaker(), blow) {
            // Names are cut after fifteen characters.
            (true, Blow::Agent) => ("pacemaker-contr", 0),
            (true, _) => ("corosync", 0),
            // The parent comes first; its child speaks VRRP.
            (false, Blow::Agent) => ("keepalived", 1),
            (false, _) => ("keepalived", 0),
        };
        self.cluster.kill_program(usize::from(node), name, which)
    }

    fn wait_until_whole(&mut self) -> Result<()> {
        if self.is_pacemaker() {
            return self.cluster.wait_until_online(PATIENCE);
        }
        self.wait_until_calm()
    }
}

const _: () = assert!(NODES == 3, "the peers' configurations are written for three nodes");
