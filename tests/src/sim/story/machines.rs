//! What happens to machines, wires, scripts and resources of a story.

use vedette_core::command::{Command, ManagerCommand};
use vedette_core::time::WallTime;
use vedette_core::variable::{Instance, Reading, Value};

use super::super::conduct::Script;
use super::super::wires::Fault;
use super::super::world::{EPOCH, Trouble, network_of};
use super::{Stage, number};

impl Stage {
    pub(super) fn machine(&mut self, words: &[&str]) -> Result<String, String> {
        let (what, who): (fn(usize) -> Trouble, &[&str]) = match words {
            ["power", "on", who @ ..] => (Trouble::PowerOn, who),
            ["power", "off", who @ ..] => (Trouble::PowerOff, who),
            ["leave", who @ ..] => (Trouble::Leave, who),
            ["kill", "agent", who @ ..] => (Trouble::KillAgent, who),
            ["stop", "guard", who @ ..] => (|node| Trouble::PauseGuard(node, true), who),
            ["continue", "guard", who @ ..] => (|node| Trouble::PauseGuard(node, false), who),
            ["stop", "agent", who @ ..] => (|node| Trouble::PauseAgent(node, true), who),
            ["continue", "agent", who @ ..] => (|node| Trouble::PauseAgent(node, false), who),
            _ => return Err(format!("unknown command {:?}", words.join(" "))),
        };
        for node in self.nodes(who)? {
            self.world.trouble(&what(node));
        }
        Ok(String::new())
    }

    pub(super) fn wire(&mut self, words: &[&str]) -> Result<String, String> {
        let fault = Fault { cut: words[0] == "cut", ..Fault::default() };
        let trouble = match &words[1..] {
            ["network", name] => Trouble::Network { network: self.network(name)?, fault },
            [node, rest @ ..] => {
                let node = self.node(node)?;
                let (mut network, mut out, mut into) = (None, true, true);
                for word in rest {
                    match *word {
                        "in" => out = false,
                        "out" => into = false,
                        name => network = Some(self.network(name)?),
                    }
                }
                Trouble::Node { node, network, out, into, fault }
            }
            [] => return Err("cut what?".into()),
        };
        self.world.trouble(&trouble);
        Ok(String::new())
    }

    pub(super) fn adapter(
        &mut self,
        node: &str,
        network: &str,
        broken: bool,
    ) -> Result<String, String> {
        let (node, network) = (self.node(node)?, network_of(self.network(network)?));
        let unusable = &mut self.world.machines[node].unusable;
        if broken {
            unusable.insert(network)
        } else {
            unusable.remove(&network)
        };
        self.world.tell_interfaces(node);
        Ok(String::new())
    }

    pub(super) fn ping(
        &mut self,
        node: &str,
        network: &str,
        answers: bool,
    ) -> Result<String, String> {
        let (node, network) = (self.node(node)?, network_of(self.network(network)?));
        self.world.machines[node].probes.insert(network, answers);
        self.world.tell_interfaces(node);
        Ok(String::new())
    }

    /// How the alert script behaves.
    pub(super) fn alert_script(&mut self, words: &[&str]) -> Result<String, String> {
        match words[1..] {
            ["hang"] => self.world.hanging_scripts = true,
            ["end"] => self.world.hanging_scripts = false,
            ["fail", "on", ref who @ ..] => {
                self.world.failing_scripts = self.nodes(who)?.into_iter().collect();
            }
            _ => return Err(format!("unknown command {:?}", words.join(" "))),
        }
        Ok(String::new())
    }

    /// How event scripts, resources and fence agents behave.
    pub(super) fn behaviour(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["script", name, how @ .., "on", _] | ["script", name, how @ .., "on", _, _] => {
                let who = words.iter().skip_while(|word| **word != "on").skip(1).copied();
                self.event_script(name, how, &who.collect::<Vec<_>>())?;
            }
            ["resource", name, "fails", "on", node] => {
                let node = self.node(node)?;
                self.world.resource_ends(node, name)?;
            }
            ["resource", name, how @ .., "on", node] => {
                let key = (self.node(node)?, (*name).to_owned());
                let conduct = &mut self.world.conduct;
                match how {
                    ["cannot", "start"] => drop(conduct.no_start.insert(key)),
                    ["cannot", "stop"] => drop(conduct.no_stop.insert(key)),
                    _ => {
                        conduct.no_start.remove(&key);
                        conduct.no_stop.remove(&key);
                    }
                }
            }
            ["nothing", "backs", who @ ..] => {
                self.world.conduct.unbacked = self.nodes(who)?.into_iter().collect();
            }
            ["fence", "agents", how] => self.world.conduct.fences_fail = *how == "fail",
            [node, "finds", what @ ..] => {
                let (node, what) = (self.node(node)?, what.join(" "));
                let nothing = what == "nothing";
                let findings = if nothing { Vec::new() } else { vec![what] };
                self.world.conduct.findings.insert(node, findings);
            }
            _ => return Err(format!("unknown command {:?}", words.join(" "))),
        }
        Ok(String::new())
    }

    fn event_script(&mut self, name: &str, how: &[&str], who: &[&str]) -> Result<(), String> {
        for node in self.nodes(who)? {
            let script = match how {
                ["works"] => None,
                ["hangs"] => Some(Script::Hangs),
                ["fails"] => Some(Script::Fails(None)),
                ["fails", times, "times" | "time"] => {
                    Some(Script::Fails(Some(number(Some(times))? as u32)))
                }
                _ => return Err(format!("how does a script {}?", how.join(" "))),
            };
            let (key, scripts) = ((node, name.to_owned()), &mut self.world.conduct.scripts);
            match script {
                Some(script) => drop(scripts.insert(key, script)),
                None => drop(scripts.remove(&key)),
            }
        }
        Ok(())
    }

    /// What a monitor read, and what the director's watchers make of it.
    pub(super) fn variable(&mut self, words: &[&str]) -> Result<String, String> {
        let ["variable", variable, instance, "=", value @ ..] = words else {
            return Err("variable NAME [INSTANCE] = VALUE".into());
        };
        let instance = instance.trim_matches(['[', ']']);
        let instance = Instance::parse(instance).map_err(|error| error.to_string())?;
        let value = Value::parse(&value.join(" "));
        let at = WallTime(EPOCH + self.world.now as i64);
        let reading = Reading { variable: (*variable).into(), instance, value, at };
        self.watchers.reload(&self.world.reference.rules.rules());
        let whose = reading.instance.to_string();
        let manager = &self.world.reference.manager;
        let observed = self.watchers.observe(&reading, |rule| manager.has_fired(rule, &whose));
        let mut said = String::new();
        for complaint in observed.complaints {
            said += &format!("        {complaint}\n");
        }
        for fired in observed.fired {
            let queue = ManagerCommand::Queue { trigger: fired.trigger(), cause: fired.cause };
            said += &self.watched(queue);
        }
        for rearmed in observed.rearmed {
            let (rule, instance, value) = (rearmed.rule, rearmed.instance, rearmed.value);
            said += &self.watched(ManagerCommand::Rearm { rule, instance, value });
        }
        Ok(said)
    }

    fn watched(&mut self, command: ManagerCommand) -> String {
        let (by, actor) = (self.director(), vedette_core::director::ACTOR);
        let proposal = self.world.proposal(by, actor, Command::Manager(command));
        self.decide(proposal)
    }

    /// The index of the node whose agent leads.
    fn director(&self) -> usize {
        self.world.log.leader.map_or(0, |(node, _)| node)
    }
}
