//! What operators of a story order.

use std::time::Duration;

use vedette_core::command::{
    Command, ConfigCommand, GroupCommand, ManagerCommand, Proposal, Scope,
};
use vedette_core::event::RecoverAction;
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::{Severity, Timing};
use vedette_core::state::Outcome;
use vedette_core::time::WallTime;
use vedette_core::trigger::{StopMode, Trigger};

use super::super::world::{EPOCH, network_of, new_node, number_of};
use super::{Stage, after, number, texts};

impl Stage {
    pub(super) fn operator(&mut self, words: &[&str], text: &str) -> Result<String, String> {
        if let ["program", path, file @ ..] = words {
            let text = texts::given(file, text)?;
            self.programs.insert((*path).into(), text);
            return Ok(String::new());
        }
        let proposal = match (words, &self.last) {
            (["again"], Some(last)) => last.clone(),
            _ => {
                let command = self.operator_command(words, text)?;
                self.world.proposal(0, "root@n1", command)
            }
        };
        self.last = Some(proposal.clone());
        Ok(self.decide(proposal))
    }

    pub(super) fn decide(&mut self, proposal: Proposal) -> String {
        let Some(outcome) = self.world.decide(proposal) else {
            return "        nobody leads; nothing can be decided\n".into();
        };
        match outcome {
            Outcome::Applied { .. } => String::new(),
            Outcome::Repeated { .. } => "        repeated; it was done before\n".into(),
            Outcome::Refused(why) => {
                let words = why.to_string().replace("\n", "\n        ");
                format!("        refused ({}): {words}\n", why.code)
            }
        }
    }

    fn operator_command(&mut self, words: &[&str], text: &str) -> Result<Command, String> {
        if let Some(command) = self.manager_command(words)? {
            return Ok(Command::Manager(command));
        }
        if let Some(command) = self.group_command(words)? {
            return Ok(Command::Group(command));
        }
        if let Some(command) = self.config_command(words, text)? {
            return Ok(Command::Config(command));
        }
        Ok(match words {
            ["token", name, "number", at, rest @ ..] => {
                let valid = Duration::from_secs(after(rest, "for")?.unwrap_or(600));
                let now = EPOCH + self.world.now as i64;
                Command::IssueToken {
                    hash: token_of(name),
                    name: (*name).into(),
                    number: NodeNumber(number(Some(at))? as u16),
                    expires_at: WallTime(now).plus(valid),
                }
            }
            ["add", name, "number", at] => {
                let at = number(Some(at))?;
                let mut node = new_node(at as usize - 1, self.setup.networks);
                node.name = (*name).into();
                Command::AddNode { node, token: token_of(name) }
            }
            ["delete", name] => Command::RemoveNode { node: self.number(name)? },
            ["timing", interval, "x", sensitivity, rest @ ..] => Command::SetTiming(Timing {
                interval_ms: number(Some(interval))?,
                sensitivity: number(Some(sensitivity))?,
                election_max_ms: after(rest, "election")?
                    .unwrap_or(Timing::DEFAULT.election_max_ms),
                ..Timing::DEFAULT
            }),
            ["seed"] => Command::Seed,
            ["test", "alert", rest @ ..] => {
                let who = rest.strip_prefix(&["on"]).unwrap_or(rest);
                let members = self.nodes(who)?.into_iter().map(number_of);
                let (members, severity) = (members.collect(), Severity::Error);
                Command::TestAlert { members, severity, message: "is anybody awake?".into() }
            }
            ["rules", "load", rest @ ..] => {
                let based_on = after(rest, "from")?.map_or(self.rules_version(), |n| n as u32);
                let text = texts::given(rest, text)?;
                let programs = std::mem::take(&mut self.programs);
                Command::SaveRules { text, programs, comment: String::new(), based_on }
            }
            ["rules", "back", "to", version] => {
                Command::RollBackRules { to: number(Some(version))? as u32 }
            }
            _ => return Err(format!("unknown command {:?}", words.join(" "))),
        })
    }

    fn rules_version(&self) -> u32 {
        self.world.reference.rules.active
    }

    fn number(&self, name: &str) -> Result<NodeNumber, String> {
        self.node(name).map(number_of)
    }

    fn numbers(&self, names: &[&str]) -> Result<Vec<NodeNumber>, String> {
        if names == ["all"] {
            return Ok(Vec::new());
        }
        names.iter().map(|name| self.number(name)).collect()
    }

    fn manager_command(&self, words: &[&str]) -> Result<Option<ManagerCommand>, String> {
        Ok(Some(match words {
            ["stop", how @ ("graceful" | "takeover" | "forced"), who @ ..] => {
                let how = match *how {
                    "graceful" => StopMode::Graceful,
                    "takeover" => StopMode::Takeover,
                    _ => StopMode::Forced,
                };
                ManagerCommand::Stop { nodes: self.numbers(who)?, how }
            }
            ["managers", "start", who @ ..] => ManagerCommand::Start { nodes: self.numbers(who)? },
            ["maintenance", on @ ("on" | "off"), "of", what] => {
                let scope = match (*what, self.number(what)) {
                    ("cluster", _) => Scope::Cluster,
                    (_, Ok(node)) => Scope::Node(node),
                    (group, _) => Scope::Group(group.into()),
                };
                ManagerCommand::Maintenance { scope, on: *on == "on" }
            }
            ["recover", how, rest @ ..] => {
                let running = self.world.reference.manager.current.as_ref();
                let running = running.map_or(0, |running| running.event.id);
                let event = after(rest, "event")?.unwrap_or(running);
                let action = match *how {
                    "retry" => RecoverAction::Retry,
                    "skip" => RecoverAction::Skip,
                    "abort" => RecoverAction::Abort,
                    _ => return Err(format!("recover how: {how}?")),
                };
                ManagerCommand::Recover { event, action }
            }
            ["break", "standby", node, network] => {
                let (node, network) = (self.number(node)?, network_of(self.network(network)?));
                let trigger = Trigger::FailStandby { node, network };
                ManagerCommand::Queue { trigger, cause: "its address is gone".into() }
            }
            ["mend", "standby", node, network] => {
                let (node, network) = (self.number(node)?, network_of(self.network(network)?));
                let trigger = Trigger::JoinStandby { node, network };
                ManagerCommand::Queue { trigger, cause: "its address can be used".into() }
            }
            _ => return Ok(None),
        }))
    }

    fn group_command(&self, words: &[&str]) -> Result<Option<GroupCommand>, String> {
        let group = |name: &str| name.to_owned();
        Ok(Some(match words {
            ["group", name, "moves"] => {
                GroupCommand::Move { group: group(name), to: None, until: None }
            }
            ["group", name, "moves", "to", node] => {
                GroupCommand::Move { group: group(name), to: Some(self.number(node)?), until: None }
            }
            ["group", name, "online"] => GroupCommand::Online { group: group(name) },
            ["group", name, "offline"] => GroupCommand::Offline { group: group(name) },
            ["group", name, "clear"] => GroupCommand::Clear { group: group(name), node: None },
            ["group", name, "clear", "on", node] => {
                GroupCommand::Clear { group: group(name), node: Some(self.number(node)?) }
            }
            ["confirm", node, "off"] => GroupCommand::ConfirmOff { node: self.number(node)? },
            _ => return Ok(None),
        }))
    }

    fn config_command(&self, words: &[&str], text: &str) -> Result<Option<ConfigCommand>, String> {
        let documents = &self.world.reference.documents;
        Ok(Some(match words {
            ["config", "apply", rest @ ..] => {
                let based_on = after(rest, "from")?.map_or(documents.active, |n| n as u32);
                let comment = rest.iter().skip_while(|word| **word != "because").skip(1).copied();
                let comment = comment.collect::<Vec<_>>().join(" ");
                ConfigCommand::Propose { text: text.into(), comment, based_on }
            }
            ["config", "examine"] => ConfigCommand::Examine { text: text.into() },
            ["config", "back", "to", version] => {
                ConfigCommand::RollBack { to: number(Some(version))? as u32 }
            }
            _ => return Ok(None),
        }))
    }
}

fn token_of(name: &str) -> Hash {
    Hash::of(name.as_bytes())
}
