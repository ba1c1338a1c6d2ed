//! Stories: what is done to a cluster, and what it makes of it, as text that a person can read.
//!
//! A story is a file of blocks: commands, one a line, then `----`, then what came of them. Lines
//! that begin with `#` say which rule the story shows. What came of a block is every record it
//! made, with the time since the block began, and the answers to what was asked. The same world and
//! the same core as in the simulation, without any randomness.
//!
//! Commands:
//!
//! ```text
//! cluster 3 nodes 2 networks [seed count 3] [ping]   form a cluster; its machines are off
//! power on all|n1 ...          power off n1 ...       leave n1 ...       kill agent n1 ...
//! stop guard|agent n1 ...      continue guard|agent n1 ...
//! cut n1 [neta] [in|out]       join n1 [neta]
//! cut network neta             join network neta
//! break adapter n1 neta        mend adapter n1 neta
//! ping n1 neta answers|silent
//! token n4 number 4 [for SECONDS]                     add n4 number 4
//! timing 200 x 5 [election 300]     seed     test alert [on n1 ...]     again
//! scripts hang|end             scripts fail on n1 ...
//! run 1500 ms                  status     scripts
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use vedette_core::command::{Command, Proposal};
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::{Settings, Severity, Timing};
use vedette_core::state::Outcome;

use super::wires::Fault;
use super::world::{MS, Setup, Trouble, World, network_of, new_node};

/// A cluster that a story is about.
struct Stage {
    world: World,
    setup: Setup,
    told: usize,
    runs_told: usize,
    last: Option<Proposal>,
}

/// Plays a story and answers with its text as it should be.
///
/// # Errors
/// A line that is no command, with its number, or an invariant that did not hold.
pub fn play(text: &str) -> Result<String, String> {
    let mut stage = None;
    let mut out = String::new();
    let mut block: Vec<&str> = Vec::new();
    let mut in_answer = false;
    for (number, line) in text.lines().enumerate() {
        if in_answer {
            if line.trim().is_empty() {
                in_answer = false;
                out.push('\n');
            }
        } else if line == "----" {
            out.push_str("----\n");
            let answer = perform(&mut stage, &block)
                .map_err(|why| format!("before line {}: {why}", number + 1))?;
            out.push_str(&answer);
            block.clear();
            in_answer = true;
        } else {
            writeln!(out, "{line}").ok();
            if !line.starts_with('#') && !line.trim().is_empty() {
                block.push(line);
            }
        }
    }
    if block.is_empty() { Ok(out) } else { Err(format!("no `----` after {:?}", block[0])) }
}

fn perform(stage: &mut Option<Stage>, block: &[&str]) -> Result<String, String> {
    let mut answer = String::new();
    let mut begin = stage.as_ref().map_or(0, |stage| stage.world.now);
    for line in block {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"cluster") {
            *stage = Some(Stage::new(&words)?);
            begin = 0;
            continue;
        }
        let stage = stage.as_mut().ok_or("a story begins with `cluster`")?;
        let said = stage.command(&words)?;
        stage.tell(begin, &mut answer);
        answer.push_str(&said);
    }
    Ok(answer)
}

fn number(word: Option<&&str>) -> Result<u64, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| format!("no number: {word:?}"))
}

/// The number that follows a word, if the word is there.
fn after(words: &[&str], word: &str) -> Result<Option<u64>, String> {
    let place = words.iter().position(|w| *w == word);
    place.map(|place| number(words.get(place + 1))).transpose()
}

impl Stage {
    fn new(words: &[&str]) -> Result<Self, String> {
        let nodes = number(words.get(1))? as usize;
        let networks = number(words.get(3))? as usize;
        let seed_count = after(words, "count")?.unwrap_or(1) as u16;
        let setup = Setup {
            nodes,
            networks,
            low: None,
            seed: 1,
            delay: (500, 1),
            settings: Settings { seed_count, ..Settings::default() },
            ping: words.contains(&"ping"),
            document: None,
            bug: None,
        };
        let mut world = World::new(&setup);
        world.history = Some(Vec::new());
        Ok(Self { world, setup, told: 0, runs_told: 0, last: None })
    }

    /// Writes what was recorded and not told yet.
    fn tell(&mut self, begin: u64, answer: &mut String) {
        let Some(history) = &self.world.history else { return };
        for record in &history[self.told..] {
            let since = record.at.0 - super::world::EPOCH - begin as i64;
            let tenths = (since.max(0) as f64 / 1e5).round() / 10.0;
            write!(answer, "{tenths:4.1} s  {:13}  {}", record.severity, record.message).ok();
            if !record.cause.is_empty() {
                write!(answer, ": {}", record.cause).ok();
            }
            answer.push('\n');
        }
        self.told = history.len();
    }

    fn command(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["run", time, "ms"] => self.run(number(Some(time))?),
            ["run", time, "s"] => self.run(number(Some(time))? * 1_000),
            ["status"] => Ok(self.status()),
            ["scripts"] => Ok(self.scripts()),
            ["scripts", "hang"] => Ok(self.hang(true)),
            ["scripts", "end"] => Ok(self.hang(false)),
            ["scripts", "fail", "on", who @ ..] => {
                self.world.failing_scripts = self.nodes(who)?.into_iter().collect();
                Ok(String::new())
            }
            ["ping", node, network, how] => self.ping(node, network, *how == "answers"),
            [how @ ("break" | "mend"), "adapter", node, network] => {
                self.adapter(node, network, *how == "break")
            }
            ["cut" | "join", ..] => self.wire(words),
            ["token" | "add" | "timing" | "seed" | "test" | "again", ..] => self.operator(words),
            _ => self.machine(words),
        }
    }

    fn run(&mut self, ms: u64) -> Result<String, String> {
        let until = self.world.now + ms * MS;
        let violation = self.world.run_until(until).err();
        violation.map_or(Ok(String::new()), |v| Err(format!("at {} us: {}", v.at, v.what)))
    }

    fn machine(&mut self, words: &[&str]) -> Result<String, String> {
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

    fn nodes(&self, names: &[&str]) -> Result<Vec<usize>, String> {
        if names == ["all"] {
            return Ok((0..self.setup.nodes).collect());
        }
        names.iter().map(|name| self.node(name)).collect()
    }

    fn node(&self, name: &str) -> Result<usize, String> {
        let number: usize = name
            .strip_prefix('n')
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| format!("no node: {name}"))?;
        if number == 0 || number > self.setup.nodes {
            return Err(format!("no node: {name}"));
        }
        Ok(number - 1)
    }

    fn network(&self, name: &str) -> Result<usize, String> {
        let found = (0..self.setup.networks)
            .find(|index| self.world.reference.network_name(network_of(*index)) == name);
        found.ok_or_else(|| format!("no network: {name}"))
    }

    fn wire(&mut self, words: &[&str]) -> Result<String, String> {
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

    fn adapter(&mut self, node: &str, network: &str, broken: bool) -> Result<String, String> {
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

    fn ping(&mut self, node: &str, network: &str, answers: bool) -> Result<String, String> {
        let (node, network) = (self.node(node)?, network_of(self.network(network)?));
        self.world.machines[node].probes.insert(network, answers);
        self.world.tell_interfaces(node);
        Ok(String::new())
    }

    fn hang(&mut self, hang: bool) -> String {
        self.world.hanging_scripts = hang;
        String::new()
    }

    fn operator(&mut self, words: &[&str]) -> Result<String, String> {
        let proposal = match (words, &self.last) {
            (["again"], Some(last)) => last.clone(),
            _ => {
                let command = self.operator_command(words)?;
                self.world.proposal(0, "root@n1", command)
            }
        };
        self.last = Some(proposal.clone());
        let Some(outcome) = self.world.decide(proposal) else {
            return Ok("        nobody leads; nothing can be decided\n".into());
        };
        Ok(match outcome {
            Outcome::Applied { .. } => String::new(),
            Outcome::Repeated { .. } => "        repeated; it was done before\n".into(),
            Outcome::Refused(why) => format!("        refused ({}): {why}\n", why.code),
        })
    }

    fn operator_command(&self, words: &[&str]) -> Result<Command, String> {
        Ok(match words {
            ["token", name, "number", at, rest @ ..] => {
                let valid = Duration::from_secs(after(rest, "for")?.unwrap_or(600));
                let now = super::world::EPOCH + self.world.now as i64;
                Command::IssueToken {
                    hash: token_of(name),
                    name: (*name).into(),
                    number: NodeNumber(number(Some(at))? as u16),
                    expires_at: vedette_core::time::WallTime(now).plus(valid),
                }
            }
            ["add", name, "number", at] => {
                let at = number(Some(at))?;
                let mut node = new_node(at as usize - 1, self.setup.networks);
                node.name = (*name).into();
                Command::AddNode { node, token: token_of(name) }
            }
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
                let members = self.nodes(who)?.into_iter().map(super::world::number_of);
                let (members, severity) = (members.collect(), Severity::Error);
                Command::TestAlert { members, severity, message: "is anybody awake?".into() }
            }
            _ => return Err(format!("unknown command {:?}", words.join(" "))),
        })
    }

    /// The members with both statuses, and what the cluster waits for.
    fn status(&self) -> String {
        let state = &self.world.reference;
        let mut text = format!("        cluster is {}, {}\n", state.status, state.substate);
        for node in state.nodes.values() {
            let (name, host, agent) = (&node.name, node.host, node.agent);
            writeln!(text, "        {name} {host} {agent} ({})", node.host_cause).ok();
        }
        if !state.seeded {
            let missing: Vec<&str> =
                state.missing_nodes().iter().map(|node| node.name.as_str()).collect();
            writeln!(text, "        waits for {}", missing.join(", ")).ok();
        }
        text
    }

    /// Which node ran the script for what, since this was asked last.
    fn scripts(&mut self) -> String {
        let mut text = String::new();
        for (seq, node) in &self.world.script_runs[self.runs_told..] {
            let history = self.world.history.as_deref().unwrap_or_default();
            let message = history.iter().find(|record| record.seq == *seq).map(|r| &r.message);
            let message = message.map_or("?", String::as_str);
            writeln!(text, "        n{} ran the script: {message}", node + 1).ok();
        }
        self.runs_told = self.world.script_runs.len();
        if text.is_empty() { "        no script ran\n".into() } else { text }
    }
}

fn token_of(name: &str) -> Hash {
    Hash::of(name.as_bytes())
}
