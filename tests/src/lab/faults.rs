//! What can happen to a node of the lab: power, processes, cables, packets.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette::sandbox;

use super::namespaces::{self, ip_batch_in, port, start_holder};
use super::systemd;
use super::{InNode, Lab, LabError, Result};

/// What is killed, paused or continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The agent; the guard starts it again.
    Agent,
    /// The guard; the agent ends with it.
    Guard,
    /// Both at once.
    Both,
    /// Every process of every resource: what is in control groups of the node's groups.
    Applications,
    /// Guard, agent, reaper and applications.
    Everything,
    /// Everything on the node, and its cables.
    Power,
}

/// Which direction a one-way cut stops, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nothing of what the node sends arrives.
    Out,
    /// Nothing arrives at the node.
    In,
}

impl Lab {
    /// Gives a node power: its first process, its snmpd; its cables are plugged in.
    pub(super) fn power_on(&self, index: usize) -> Result<()> {
        let node = &self.sandbox.nodes[index];
        let namespace = self.plan.namespace(&node.name);
        namespaces::reset(&self.plan, &node.name, node.number)?;
        let holder = if self.plan.systemd {
            systemd::start_holder(&self.plan, &node.name)?
        } else {
            start_holder(&namespace, &self.plan.lab_program)?
        };
        self.plan.set_holder(&node.name, holder)?;
        self.set_ports(&node.name, None, true)
    }

    /// Kills without warning.
    ///
    /// # Errors
    /// If there is nothing to kill.
    pub fn kill(&self, name: &str, victim: Victim) -> Result<()> {
        if victim == Victim::Power {
            let holder = self.plan.holder_of(name).ok_or_else(|| off(name))?;
            signal(holder, Signal::SIGKILL)?;
            self.set_ports(name, None, false)?;
            return self.wait_for("the node's processes to end", Duration::from_secs(10), |_| {
                (!sandbox::is_alive(holder)).then_some(())
            });
        }
        self.signal_victim(name, victim, Signal::SIGKILL)
    }

    /// Stops processes as a debugger or an overloaded machine would.
    ///
    /// # Errors
    /// If there is nothing to stop.
    pub fn pause(&self, name: &str, victim: Victim) -> Result<()> {
        self.signal_victim(name, victim, Signal::SIGSTOP)
    }

    /// Stops a node's reaper alone.
    ///
    /// # Errors
    /// If there is none.
    pub fn pause_reaper(&self, name: &str) -> Result<()> {
        self.node(name)?;
        let reaper = self.plan.guard_of(name).and_then(sandbox::reaper_of);
        let reaper = reaper.ok_or_else(|| LabError(format!("No reaper runs on {name}.")))?;
        signal(reaper, Signal::SIGSTOP)
    }

    /// Lets paused processes go on.
    ///
    /// # Errors
    /// If there is nothing to continue.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.signal_victim(name, Victim::Everything, Signal::SIGCONT)
    }

    fn signal_victim(&self, name: &str, victim: Victim, which: Signal) -> Result<()> {
        self.node(name)?;
        let guard = self
            .plan
            .guard_of(name)
            .ok_or_else(|| LabError(format!("No daemon runs on {name}.")))?;
        let agent = sandbox::agent_of(guard);
        // First, because it acts and ends when its guard is gone.
        if let Some(reaper) = sandbox::reaper_of(guard).filter(|_| victim == Victim::Everything) {
            signal(reaper, which)?;
        }
        if matches!(victim, Victim::Guard | Victim::Both | Victim::Everything | Victim::Power) {
            signal(guard, which)?;
        }
        let its =
            matches!(victim, Victim::Agent | Victim::Both | Victim::Everything | Victim::Power);
        if let Some(agent) = agent.filter(|_| its) {
            signal(agent, which)?;
        }
        if matches!(victim, Victim::Applications | Victim::Everything) {
            let applications = self.applications(name)?;
            if applications.is_empty() && victim == Victim::Applications {
                return Err(LabError(format!("No process of a resource runs on {name}.")));
            }
            for application in applications {
                // It may have ended meanwhile.
                let _ = signal(application, which);
            }
        }
        Ok(())
    }

    /// Processes of resources on a node: those of its process namespace that are in a control group
    /// of the product's.
    ///
    /// # Errors
    /// If the node has no power.
    pub fn applications(&self, name: &str) -> Result<Vec<u32>> {
        let holder = self.plan.holder_of(name).ok_or_else(|| off(name))?;
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(holder);
        let processes = fs::read_dir("/proc")?.flatten();
        let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(processes
            .filter(|pid| namespace(*pid) == own && own.is_some() && is_in_a_group(*pid))
            .collect())
    }

    /// Gives a node its power back, or restarts its daemon if it has power.
    ///
    /// # Errors
    /// If the daemon cannot be started.
    pub fn restart(&self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        let launcher = InNode { plan: self.plan.clone() };
        let node = self.sandbox.nodes[index].clone();
        if let Some(guard) = self.plan.guard_of(name) {
            sandbox::terminate(guard, Duration::from_secs(15));
        }
        if self.plan.holder_of(name).is_none() {
            self.power_on(index)?;
            sandbox::start_snmpd(&launcher, &node)?;
        }
        sandbox::start_daemon(&self.sandbox, &launcher, &node)?;
        self.refresh()?;
        Ok(())
    }

    /// Ends a node's daemon with a request, as an operator would.
    ///
    /// # Errors
    /// If there is none.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.node(name)?;
        let guard = self.plan.guard_of(name).ok_or_else(|| off(name))?;
        sandbox::terminate(guard, Duration::from_secs(15));
        Ok(())
    }

    /// Cuts a node's cable, on one network or on all; or only one direction of it.
    ///
    /// # Errors
    /// If there is no such node or network.
    pub fn cut(&self, name: &str, network: Option<&str>, one_way: Option<Direction>) -> Result<()> {
        let Some(direction) = one_way else { return self.set_ports(name, network, false) };
        self.node(name)?;
        let (chain, which) = match direction {
            Direction::Out => ("output", "oifname"),
            Direction::In => ("input", "iifname"),
        };
        let mut rules = TABLE.to_owned();
        for index in self.networks(network)? {
            rules += &format!(
                "add rule inet vedette_lab {chain} {which} \"{}\" drop\n",
                self.plan.device(index)
            );
        }
        self.nft(name, &rules)
    }

    /// Stops one network for every node at the same moment, as a switch does that hangs. Its ports keep their carriers:
    /// one kernel tells the loss of several carriers one after the other, up to a second apart, which several machines do
    /// not, and the first node would be the only one that is not reached, and rightly blamed.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn cut_everywhere(&self, network: &str) -> Result<()> {
        self.set_switches(Some(network), false)
    }

    /// The switch of one network, or of all, working or not.
    fn set_switches(&self, network: Option<&str>, up: bool) -> Result<()> {
        let word = if up { "up" } else { "down" };
        let line = |index| format!("link set br{index} {word}");
        let lines: Vec<String> = self.networks(network)?.into_iter().map(line).collect();
        ip_batch_in(&self.plan.switch(), &lines)
    }

    /// Lets nothing but beats through between a node and the others, on every network: what agents say to
    /// each other, and so the log, does not arrive.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn cut_agents(&self, name: &str) -> Result<()> {
        let mut rules = TABLE.to_owned();
        for index in self.networks(None)? {
            let device = self.plan.device(index);
            for (chain, which) in [("output", "oifname"), ("input", "iifname")] {
                rules += &format!(
                    "add rule inet vedette_lab {chain} {which} \"{device}\" meta l4proto tcp drop\n"
                );
            }
        }
        self.nft(name, &rules)
    }

    /// Drops what a node sends over UDP on every network: nobody hears its beats, everything else arrives.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn mute(&self, name: &str) -> Result<()> {
        let mut rules = TABLE.to_owned();
        for index in self.networks(None)? {
            let device = self.plan.device(index);
            rules += &format!(
                "add rule inet vedette_lab output oifname \"{device}\" meta l4proto udp drop\n"
            );
        }
        self.nft(name, &rules)
    }

    /// Gives a node another adapter on a network, with a cable of its own into the same switch, and
    /// answers its address.
    ///
    /// # Errors
    /// If there is no such node or network, or it has one already.
    pub fn add_standby(&self, name: &str, network: &str) -> Result<IpAddr> {
        let (number, index) = (self.node(name)?.number, self.networks(Some(network))?[0]);
        let (switch, port) = (self.plan.switch(), standby_port(number, index));
        let hardware = namespaces::standby_hardware_address(index, number);
        let address = self.plan.address(index, number + 100);
        let device = format!("{network}-sb");
        ip_batch_in(
            &self.plan.namespace(name),
            &[
                format!(
                    "link add {device} address {hardware} type veth peer name {port} netns {switch}"
                ),
                format!("addr add {address}/24 dev {device}"),
                format!("link set {device} up"),
            ],
        )?;
        ip_batch_in(
            &switch,
            &[format!("link set {port} master br{index}"), format!("link set {port} up")],
        )?;
        Ok(address)
    }

    /// Cuts the cable of that adapter, or plugs it in again.
    ///
    /// # Errors
    /// If there is none.
    pub fn set_standby(&self, name: &str, network: &str, up: bool) -> Result<()> {
        let (number, index) = (self.node(name)?.number, self.networks(Some(network))?[0]);
        let word = if up { "up" } else { "down" };
        let line = format!("link set {} {word}", standby_port(number, index));
        ip_batch_in(&self.plan.switch(), &[line])
    }

    /// Takes it out.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove_standby(&self, name: &str, network: &str) -> Result<()> {
        self.networks(Some(network))?;
        ip_batch_in(&self.plan.namespace(name), &[format!("link del {network}-sb")])
    }

    /// Loses a share of what arrives at every node, on one network or on all.
    ///
    /// # Errors
    /// If the share is no percentage or there is no such network.
    pub fn loss(&self, percent: f64, network: Option<&str>) -> Result<()> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(LabError(format!(
                "{percent} is no percentage. Give a number from 0 to 100."
            )));
        }
        for name in self.names() {
            let mut rules = TABLE.to_owned() + "flush chain inet vedette_lab loss\n";
            if percent > 0.0 {
                for index in self.networks(network)? {
                    rules += &format!(
                        "add rule inet vedette_lab loss iifname \"{}\" numgen random mod 1000 < {} drop\n",
                        self.plan.device(index),
                        (percent * 10.0).round()
                    );
                }
            }
            self.nft(&name, &rules)?;
        }
        Ok(())
    }

    /// Loses what arrives at every node in packets of more bytes than that, on one network or on all; `None`: nothing.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn frames(&self, most: Option<u32>, network: Option<&str>) -> Result<()> {
        for name in self.names() {
            let mut rules = TABLE.to_owned() + "flush chain inet vedette_lab narrow\n";
            if let Some(most) = most {
                for index in self.networks(network)? {
                    let device = self.plan.device(index);
                    rules += &format!(
                        "add rule inet vedette_lab narrow iifname \"{device}\" meta length > {most} drop\n"
                    );
                }
            }
            self.nft(&name, &rules)?;
        }
        Ok(())
    }

    /// Removes every fault but lost power and dead processes.
    ///
    /// # Errors
    /// If a cable cannot be plugged in.
    pub fn heal(&self) -> Result<()> {
        self.set_switches(None, true)?;
        self.delay(Duration::ZERO, Duration::ZERO)?;
        for name in self.names() {
            self.nft(&name, "add table inet vedette_lab\ndelete table inet vedette_lab\n")?;
            if self.plan.holder_of(&name).is_some() {
                self.set_ports(&name, None, true)?;
            }
            if self.plan.guard_of(&name).is_some() {
                self.resume(&name)?;
            }
        }
        self.right_clocks()?;
        self.right_disks()
    }

    /// The switch's ports of a node, up or down; the management network stays as it is, unless the
    /// node loses power.
    fn set_ports(&self, name: &str, network: Option<&str>, up: bool) -> Result<()> {
        ip_batch_in(&self.plan.switch(), &self.port_lines(name, network, up)?)
    }

    /// What `ip -batch` is told to set a node's ports up or down.
    fn port_lines(&self, name: &str, network: Option<&str>, up: bool) -> Result<Vec<String>> {
        let number = self.node(name)?.number;
        let word = if up { "up" } else { "down" };
        let line = |index| format!("link set {} {word}", port(number, index));
        Ok(self.networks(network)?.into_iter().map(line).collect())
    }

    /// The numbers of the named network, or of all.
    fn networks(&self, network: Option<&str>) -> Result<Vec<usize>> {
        let Some(wanted) = network else { return Ok((0..self.plan.networks).collect()) };
        let place = self.sandbox.networks.iter().position(|network| network.name == wanted);
        place.map(|index| vec![index]).ok_or_else(|| {
            let names: Vec<&str> =
                self.sandbox.networks.iter().map(|network| network.name.as_str()).collect();
            LabError(format!(
                "There is no network {wanted} in this lab. Its networks are {}.",
                names.join(", ")
            ))
        })
    }

    fn nft(&self, name: &str, rules: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.plan.namespace(name), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(LabError(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

/// The table that holds the lab's rules; adding it again changes nothing.
const TABLE: &str = "add table inet vedette_lab
add chain inet vedette_lab input { type filter hook input priority 0; policy accept; }
add chain inet vedette_lab output { type filter hook output priority 0; policy accept; }
add chain inet vedette_lab narrow { type filter hook input priority 2; policy accept; }
add chain inet vedette_lab loss { type filter hook input priority 1; policy accept; }
";

/// Whether a process is in a control group `vedette/NODE/GROUP/RESOURCE`.
fn is_in_a_group(pid: u32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.starts_with("0::/") && line.contains("/vedette/"))
}

/// The switch's port of a standby adapter.
fn standby_port(node: u16, network: usize) -> String {
    format!("s{node}x{network}")
}

fn off(name: &str) -> LabError {
    LabError(format!("{name} is powered off. Give it power: vedette-lab restart {name}."))
}

fn signal(pid: u32, which: Signal) -> Result<()> {
    let raw = i32::try_from(pid).unwrap_or(i32::MAX);
    kill(Pid::from_raw(raw), which)
        .map_err(|error| LabError(format!("process {pid} cannot be sent {which}: {error}")))
}
