//! Our side of a comparison: a lab, and questions to its nodes over connections that stay open.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::wire::{Event, Http, Watch, now_ms};
use crate::lab::{Lab, LabError, Result, UpOptions, Victim};

/// How long the cluster may take to be healthy again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Our cluster.
#[derive(Debug)]
pub(super) struct Ours {
    /// The lab it runs in.
    pub(super) lab: Lab,
}

/// How long after the blow the nodes told, and what else they told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// For each node that watched, until it told; `None` if it never did.
    told: Vec<Option<f64>>,
    /// Codes of the other records that came meanwhile, with their new status.
    others: Vec<(String, String)>,
}

impl Taken {
    /// Until the last node told; `None` if one never did.
    pub(super) fn all_ms(&self) -> Option<f64> {
        self.told.iter().copied().try_fold(0.0, |most, told| Some(f64::max(most, told?)))
    }

    /// Until the first node told.
    pub(super) fn first_ms(&self) -> Option<f64> {
        self.told.iter().flatten().copied().min_by(f64::total_cmp)
    }

    /// Whether the cluster was said to be anything but up.
    pub(super) fn cluster_was_down(&self) -> bool {
        self.others.iter().any(|(code, current)| code == "CLUSTER_STATE" && current != "up")
    }

    /// Whether anything was said of hosts, networks or the cluster.
    pub(super) fn was_more_than_an_agent(&self) -> bool {
        let more = ["NODE_HOST", "NETWORK", "INTERFACE", "LINK", "CLUSTER_STATE"];
        self.others.iter().any(|(code, _)| more.contains(&code.as_str()))
    }
}

impl Ours {
    /// Three nodes on two networks, with that timing profile.
    ///
    /// # Errors
    /// What failed.
    pub(super) fn up(dir: &Path, profile: &str) -> Result<Self> {
        let options = UpOptions {
            dir: dir.to_owned(),
            nodes: 3,
            networks: 2,
            profile: profile.into(),
            prometheus: false,
            owner: Some(std::process::id()),
            program: beside("vedette")?,
            lab_program: beside("vedette-lab")?,
            systemd: false,
        };
        let ours = Self { lab: Lab::up(&options, &mut |_| ())? };
        ours.wait_until_healthy()?;
        Ok(ours)
    }

    /// Where the API of a node is.
    ///
    /// # Errors
    /// If there is no such node.
    pub(super) fn http(&self, name: &str) -> Result<SocketAddr> {
        Ok(self.lab.node(name)?.http)
    }

    /// The document at `path` of a node; null if it does not answer.
    pub(super) fn get(&self, name: &str, path: &str) -> Value {
        let ask = || Http::tcp(self.http(name).ok()?).ok()?.get(path).ok();
        ask().map_or(Value::Null, |answer| answer.json())
    }

    /// The director and the others, as the first node that answers knows them.
    ///
    /// # Errors
    /// If no director is known within a minute.
    pub(super) fn director(&self) -> Result<(String, Vec<String>)> {
        let director = self.lab.wait_for("a director", PATIENCE, |lab| {
            lab.names().into_iter().find_map(|name| {
                self.get(&name, "/api/v1/primary")["name"].as_str().map(str::to_owned)
            })
        })?;
        let others = self.lab.names().into_iter().filter(|name| *name != director).collect();
        Ok((director, others))
    }

    /// Waits until every node says that all are up, run, vote, and that the networks are whole.
    ///
    /// # Errors
    /// If that takes longer than a minute.
    pub(super) fn wait_until_healthy(&self) -> Result<()> {
        for name in self.lab.names() {
            self.lab.wait_for(&format!("a healthy cluster as {name} sees it"), PATIENCE, |_| {
                self.is_healthy(&name).then_some(())
            })?;
        }
        Ok(())
    }

    fn is_healthy(&self, name: &str) -> bool {
        let nodes = self.get(name, "/api/v1/nodes");
        let networks = self.get(name, "/api/v1/networks");
        let all = |list: &Value, good: &dyn Fn(&Value) -> bool| {
            list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(good))
        };
        let local = self.get(name, "/api/v1/local");
        all(&nodes, &|node| {
            node["host_status"] == "UP"
                && node["agent_status"] == "RUNNING"
                && node["role"] == "voter"
        }) && all(&networks, &|network| {
            network["status"] == "UP" && network["nodes_in_group"] == network["nodes_defined"]
        }) && local["quorate"] == true
            && local["agentx"] == true
    }

    /// Takes a node's power away and waits until every survivor shows it as DOWN, each told by its
    /// own stream of events: committed, applied and durable there.
    ///
    /// # Errors
    /// If a survivor does not show it within half a minute.
    pub(super) fn power_off(&self, victim: &str) -> Result<Taken> {
        let taken = self.strike(victim, Victim::Power, ("NODE_HOST", "DOWN"), 30_000.0)?;
        match taken.all_ms() {
            Some(_) => Ok(taken),
            None => {
                Err(LabError(format!("{victim} was not DOWN everywhere after 30 s: {taken:?}")))
            }
        }
    }

    /// Kills a node's agent and waits until the others show the agent that was started in its place
    /// as RUNNING, for at most five seconds.
    ///
    /// # Errors
    /// If there is no such agent.
    pub(super) fn kill_agent(&self, victim: &str) -> Result<Taken> {
        self.strike(victim, Victim::Agent, ("NODE_AGENT", "RUNNING"), 5_000.0)
    }

    fn strike(
        &self,
        name: &str,
        victim: Victim,
        awaited: (&str, &str),
        patience: f64,
    ) -> Result<Taken> {
        let others: Vec<String> = self.lab.names().into_iter().filter(|n| n != name).collect();
        let watch = self.watch(&others)?;
        let mut taken = Taken { told: vec![None; others.len()], others: Vec::new() };
        let zero = now_ms();
        self.lab.kill(name, victim)?;
        while taken.all_ms().is_none() {
            let Some(event) = watch.next(zero + patience) else { break };
            if event.kind == "record" {
                taken.note(zero, &event, name, awaited);
            }
        }
        Ok(taken)
    }

    /// Streams of events of those nodes, each begun.
    ///
    /// # Errors
    /// If one does not begin.
    pub(super) fn watch(&self, names: &[String]) -> Result<Watch> {
        let addresses: Result<Vec<SocketAddr>> = names.iter().map(|name| self.http(name)).collect();
        Watch::start(&addresses?)
    }

    /// Guard and agent of each node.
    ///
    /// # Errors
    /// If one does not run.
    pub(super) fn processes(&self) -> Result<Vec<(u32, u32)>> {
        let file = self.lab.refresh()?;
        let both = |node: &vedette::sandbox::LabNode| Some((node.guard_pid?, node.agent_pid?));
        file.nodes
            .iter()
            .map(|node| both(node).ok_or_else(|| LabError(format!("{} does not run", node.name))))
            .collect()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.lab.take_down();
    }
}

impl Taken {
    /// Takes note of a record: the one that is waited for, or another.
    fn note(&mut self, zero: f64, event: &Event, subject: &str, (code, current): (&str, &str)) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = (text(&event.data["code"]), text(&event.data["current"]));
        let is_it =
            event.data["subject"]["name"] == subject && found.0 == code && found.1 == current;
        match self.told.get_mut(event.stream) {
            Some(told) if is_it => *told = told.or(Some(event.at_ms - zero)),
            _ => self.others.push(found),
        }
    }
}

/// A program built beside this one.
pub(super) fn beside(name: &str) -> Result<std::path::PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(LabError(format!("{} is not there. Build it: scripts/bench does.", program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: usize, at_ms: f64, code: &str, subject: &str, current: &str) -> Event {
        let data =
            serde_json::json!({ "code": code, "subject": { "name": subject }, "current": current });
        Event { stream, at_ms, kind: "record".into(), data }
    }

    #[test]
    fn what_is_waited_for_is_told_from_the_rest() {
        let mut taken = Taken { told: vec![None; 2], others: Vec::new() };
        let wanted = ("NODE_HOST", "DOWN");
        taken.note(10.0, &record(0, 15.0, "NODE_HOST", "n3", "DOWN"), "n3", wanted);
        taken.note(10.0, &record(1, 16.0, "NODE_HOST", "n2", "DOWN"), "n3", wanted);
        assert_eq!((taken.all_ms(), taken.first_ms()), (None, Some(5.0)));
        assert!(!taken.cluster_was_down());
        taken.note(10.0, &record(1, 17.0, "CLUSTER_STATE", "lab", "down"), "n3", wanted);
        taken.note(10.0, &record(1, 19.0, "NODE_HOST", "n3", "DOWN"), "n3", wanted);
        assert_eq!((taken.all_ms(), taken.first_ms()), (Some(9.0), Some(5.0)));
        assert!(taken.cluster_was_down() && taken.was_more_than_an_agent());
    }
}
