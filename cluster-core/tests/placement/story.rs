//! A story: a state that is told line by line, and questions about it.

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::definition::{Definition, Standby};
use vedette_core::event::{Event, ManagerState, Member};
use vedette_core::fixture::Fixture;
use vedette_core::group::{
    AddressMode, Blocked, GroupDef, GroupState, Instance, MultipleActive, OnConflict, Policy,
    ResourceDef, ResourceKind,
};
use vedette_core::id::{NetworkNumber, NodeNumber, Session};
use vedette_core::model::{AgentStatus, HostStatus, InterfaceStatus, Timing};
use vedette_core::placement::{WhatIf, astray, carry_out, for_definition, for_event, what_if};
use vedette_core::plan::Plan;
use vedette_core::state::ClusterState;
use vedette_core::takeover::Backing;
use vedette_core::time::WallTime;
use vedette_core::trigger::{StopMode, Trigger};

use crate::always;

/// Why a line is not understood.
type Puzzle = String;

/// See the module.
pub(crate) struct Story {
    pub(crate) state: ClusterState,
    before: Definition,
}

impl Story {
    pub(crate) fn new(size: u16) -> Self {
        let mut state = Fixture::settled(size).state;
        state.manager = Default::default();
        state.definition = Definition::default();
        state.groups.clear();
        let members = state.nodes.keys().map(|node| (*node, member()));
        state.manager.members = members.collect();
        Self { state, before: Definition::default() }
    }

    /// Takes a line in; answers what it asks.
    pub(crate) fn line(&mut self, line: &str) -> Result<Vec<String>, Puzzle> {
        if let Some(question) = line.strip_prefix('>') {
            return self.ask(&words(question));
        }
        let line = words(line);
        match line.as_slice() {
            [] => {}
            [mark, ..] if mark.starts_with('#') || *mark == "==" => {}
            ["nodes", size] => *self = Self::new(size.parse().map_err(|_| "how many?")?),
            ["cluster", "maintenance"] => self.state.manager.maintenance = true,
            ["queue", trigger @ ..] => self.queue(trigger)?,
            ["group", name, rest @ ..] => self.group(name, rest)?,
            ["was", name, rest @ ..] => {
                let (def, _) = definition(name, rest)?;
                self.before.groups.push(def);
            }
            [node, how] => self.node(number(node)?, how)?,
            _ => return Err("not understood".into()),
        }
        Ok(Vec::new())
    }

    fn queue(&mut self, trigger: &[&str]) -> Result<(), Puzzle> {
        let (trigger, at) = (self.trigger(trigger)?, WallTime::default());
        let id = self.state.manager.last_event + 1;
        self.state.manager.last_event = id;
        let event = Event { id, trigger, at, cause: String::new(), incident: id, motive: None };
        self.state.manager.queue.push(event);
        self.state.manager.queue.sort_by_key(|event| event.trigger.rank());
        Ok(())
    }

    fn node(&mut self, number: NodeNumber, how: &str) -> Result<(), Puzzle> {
        let node = self.state.nodes.get_mut(&number).ok_or("no such node")?;
        let member = self.state.manager.members.get_mut(&number).ok_or("no such member")?;
        match how {
            "agent-down" => node.agent = AgentStatus::Down,
            "joining" => member.joined = false,
            "deaf" => {
                let neta = node.interfaces.get_mut(&NetworkNumber(1)).ok_or("no such adapter")?;
                neta.status = InterfaceStatus::Down;
            }
            "standby" => {
                let address = [10, 91, 1, 100].into();
                let standby = Standby { node: number, network: NetworkNumber(1), address };
                self.state.definition.standbys.push(standby);
            }
            "maintenance" => member.maintenance = true,
            "stopped" => (member.joined, member.stopped) = (false, Some(StopMode::Graceful)),
            host => {
                let host = HostStatus::from_name(&host.to_uppercase()).ok_or("no such status")?;
                (node.host, node.agent) = (host, AgentStatus::Unknown);
                member.joined = host == HostStatus::Netpar;
            }
        }
        Ok(())
    }

    fn group(&mut self, name: &str, rest: &[&str]) -> Result<(), Puzzle> {
        let (def, options) = definition(name, rest)?;
        let run = self.state.groups.entry(name.to_owned()).or_default();
        let state = options.iter().find_map(|o| o.strip_prefix("state="));
        let state = state.map_or(Some(GroupState::Online), GroupState::from_name);
        let state = state.ok_or("no such state")?;
        for option in &options {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "on" => {
                    for node in numbers(value)? {
                        run.instances.insert(node, instance(state));
                        run.last = Some(node);
                    }
                }
                "last" => run.last = Some(number(value)?),
                "preferred" => run.preferred = Some(number(value)?),
                "held" => run.held_for = Some(number(value)?),
                "avoid" => run.avoid = numbers(value)?,
                "offline" => run.wanted_offline = true,
                "maintenance" => run.maintenance = true,
                "blocked" => {
                    let (node, since) = (None, WallTime::default());
                    run.blocked = Some(Blocked { node, why: "it does not stop".into(), since });
                }
                "gone" | "state" | "net" | "app" | "no-fallback" => {}
                _ => return Err(format!("no such option: {option}")),
            }
        }
        if !options.contains(&"gone") {
            self.state.definition.groups.push(def);
        }
        Ok(())
    }

    fn ask(&mut self, question: &[&str]) -> Result<Vec<String>, Puzzle> {
        match question {
            ["astray"] => Ok(vec![match astray(&self.state).into_iter().next() {
                None => "nothing is astray".into(),
                Some((group, why)) => format!("{group} is astray: {why}"),
            }]),
            ["where"] => Ok(self.layout()),
            ["what_if", supposed @ ..] => {
                let plan = what_if(&self.state, &suppose(supposed)?);
                Ok(self.told(&plan))
            }
            ["redefine"] => {
                let plan = for_definition(&self.state, &self.before);
                let trigger = Trigger::ReconfigResource { version: 1 };
                let told = self.told(&plan);
                carry_out(&mut self.state, &trigger, &plan);
                Ok(told)
            }
            trigger => {
                let trigger = self.trigger(trigger)?;
                Ok(self.happens(&trigger))
            }
        }
    }

    /// An event: what the statuses are by then, the plan, and what becomes of it.
    pub(crate) fn happens(&mut self, trigger: &Trigger) -> Vec<String> {
        self.statuses(trigger);
        let plan = for_event(&self.state, trigger);
        always::check(&self.state, trigger, &plan);
        let told = self.told(&plan);
        carry_out(&mut self.state, trigger, &plan);
        self.state.manager.queue.retain(|event| event.trigger != *trigger);
        told
    }

    fn statuses(&mut self, trigger: &Trigger) {
        let Some(number) = trigger.node() else { return };
        let Some(node) = self.state.nodes.get_mut(&number) else { return };
        let Some(member) = self.state.manager.members.get_mut(&number) else { return };
        match trigger {
            Trigger::NodeUp(_) => {
                if node.host != HostStatus::Up {
                    (node.host, node.agent) = (HostStatus::Up, AgentStatus::Running);
                }
                (member.joined, member.stopped) = (false, None);
            }
            Trigger::NodeDown { stop: None, .. } => {
                (node.host, node.agent) = (HostStatus::Down, AgentStatus::Unknown);
            }
            _ => {}
        }
    }

    fn trigger(&self, words: &[&str]) -> Result<Trigger, Puzzle> {
        let network = NetworkNumber(1);
        Ok(match words {
            ["node_up", node] => Trigger::NodeUp(number(node)?),
            ["node_down", node] => Trigger::NodeDown { node: number(node)?, stop: None },
            ["stop", node, how] => {
                let stop = StopMode::from_name(how).ok_or("no such way to stop")?;
                Trigger::NodeDown { node: number(node)?, stop: Some(stop) }
            }
            ["move", group] => Trigger::GroupMove { group: (*group).into() },
            ["network_up"] => Trigger::NetworkUp(network),
            ["network_down"] => Trigger::NetworkDown(network),
            ["swap_adapter", node] => Trigger::SwapAdapter { node: number(node)?, network },
            ["join_standby", node] => Trigger::JoinStandby { node: number(node)?, network },
            ["fail_standby", node] => Trigger::FailStandby { node: number(node)?, network },
            ["reconfig_topology"] => Trigger::ReconfigTopology { version: 1 },
            ["user", node] => Trigger::User {
                rule: "UE_PGMRWHO_DOWN".into(),
                node: number(node)?,
                instance: "ProgName=rwhod".into(),
                value: "0".into(),
            },
            _ => return Err("no such event".into()),
        })
    }

    fn told(&self, plan: &Plan) -> Vec<String> {
        let names = |nodes: &[NodeNumber]| {
            nodes.iter().map(|n| self.state.node_name(*n)).collect::<Vec<_>>().join(", ")
        };
        let what = |verb: &str, nodes: &[NodeNumber]| {
            (!nodes.is_empty()).then(|| format!("{verb} {}", names(nodes)))
        };
        let mut told: Vec<String> = Vec::new();
        for m in &plan.moves {
            let parts = [what("release", &m.release), what("acquire", &m.acquire)];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            told.push(format!("{}: {} ({})", m.group, parts.join(", "), m.reason));
        }
        told.extend(
            plan.stays.iter().map(|stay| format!("{} stays ({})", stay.group, stay.reason)),
        );
        if told.is_empty() { vec!["nothing".into()] } else { told }
    }

    fn layout(&self) -> Vec<String> {
        let on = |name: &str| {
            let nodes = self.state.groups.get(name).into_iter().flat_map(|g| g.instances.keys());
            let names: Vec<String> = nodes.map(|n| self.state.node_name(*n)).collect();
            if names.is_empty() { "nowhere".into() } else { format!("on {}", names.join(", ")) }
        };
        self.state.groups.keys().map(|name| format!("{name} {}", on(name))).collect()
    }
}

fn member() -> Member {
    Member {
        state: ManagerState::Stable,
        since: WallTime::default(),
        joined: true,
        joined_at: Default::default(),
        joined_ms: 0,
        stopped: None,
        maintenance: false,
        absent: false,
        backing: Backing::Kernel,
        watchdog: None,
        reaper: None,
        unreleased: Default::default(),
        session: Session(1),
        epoch: 1,
        voters: 0,
        timing: None,
        log: Timing::DEFAULT.log(),
    }
}

fn instance(state: GroupState) -> Instance {
    Instance {
        state,
        token: 1,
        since: WallTime::default(),
        resources: BTreeMap::new(),
        uncovered: None,
    }
}

/// A group as it is configured, and what else the line says of it.
fn definition<'a>(name: &str, rest: &[&'a str]) -> Result<(GroupDef, Vec<&'a str>), Puzzle> {
    let (policy, rest) = rest.split_first().ok_or("which policy?")?;
    let policy = Policy::from_name(policy).ok_or("no such policy")?;
    let end = rest.iter().position(|word| *word == ":").unwrap_or(rest.len());
    let nodes: Result<Vec<NodeNumber>, Puzzle> = rest[..end].iter().map(|n| number(n)).collect();
    let options = rest.get(end + 1..).unwrap_or_default().to_vec();
    let value = |key: &str| options.iter().find_map(|option| option.strip_prefix(key));
    let mut resources = Vec::new();
    if let Some(network) = value("net=") {
        let network = NetworkNumber(if network == "neta" { 1 } else { 2 });
        let address = std::net::IpAddr::from([10, 1, 1, 1]);
        let (mode, on_conflict) = (AddressMode::Alias, OnConflict::Fail);
        let kind = ResourceKind::Address { address, prefix: 24, network, mode, on_conflict };
        resources.push(ResourceDef::new(format!("{name}-ip"), kind));
    }
    let start = vec![format!("/opt/{name}"), value("app=").unwrap_or("1").to_owned()];
    let (stop, monitor) = (vec!["/bin/true".to_owned()], Vec::new());
    let (user, control_group, release) = (None, None, None);
    let kind = ResourceKind::Application { start, stop, monitor, user, control_group, release };
    resources.push(ResourceDef::new(format!("{name}-app"), kind));
    let fallback = !options.contains(&"no-fallback");
    Ok((
        GroupDef {
            name: name.into(),
            policy,
            nodes: nodes?,
            fallback,
            fallback_delay_ms: 0,
            fallback_window: None,
            multiple_active: MultipleActive::StopExtra,
            resources,
        },
        options,
    ))
}

fn suppose(words: &[&str]) -> Result<WhatIf, Puzzle> {
    let mut supposed = WhatIf::default();
    for word in words {
        let (node, what) = word.split_once('=').ok_or("what of it?")?;
        let node = number(node)?;
        match what {
            "down" => supposed.down.push(node),
            "up" => supposed.up.push(node),
            how => {
                let how = StopMode::from_name(how).ok_or("what of it?")?;
                supposed.stop.push((node, how));
            }
        }
    }
    Ok(supposed)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn number(name: &str) -> Result<NodeNumber, Puzzle> {
    let digits = name.strip_prefix('n').and_then(|digits| digits.parse().ok());
    digits.map(NodeNumber).ok_or_else(|| format!("no such node: {name}"))
}

fn numbers(names: &str) -> Result<BTreeSet<NodeNumber>, Puzzle> {
    names.split(',').map(number).collect()
}
