//! Stories: what is done to a cluster, and what it makes of it, as text that a person can read.
//!
//! A story is a file of blocks: commands, one a line, then `----`, then what came of them. Lines
//! that begin with `#` say which rule the story shows. What came of a block is every record it
//! made, with the time since the block began, and the answers to what was asked. The same world and
//! the same core as in the simulation, without any randomness.
//!
//! A text that belongs to a command (a configuration, rules) follows it, each line behind a `|`.
//!
//! - here: how a story is played, and what of it is told;
//! - `machines`: what happens to machines, wires, scripts and resources;
//! - `orders`: what operators order;
//! - `views`: what is asked and answered;
//! - `texts`: groups in one line, and files.
//!
//! ```text
//! cluster 3 nodes 2 networks [seed count 3] [voters 5] [ping]      form a cluster; its machines are off
//! group web cascading on n1 n2 [with ip disk files app]      of that cluster, from its beginning
//! document                                           the same as a text
//! tell everything              tell statuses      (nothing of events and managers)
//! tell events [and managers, votes, phases, resources, links, networks, agents, scripts, cluster]
//! start [n1 ...]               power on; nothing is told but the end, when all is well
//! run 1500 ms
//!
//! power on all|n1 ...          power off n1 ...       leave n1 ...       kill agent n1 ...
//! stop guard|agent n1 ...      continue guard|agent n1 ...
//! cut n1 [neta] [in|out]       join n1 [neta]
//! cut network neta             join network neta
//! break adapter n1 neta        mend adapter n1 neta
//! break standby n1 neta        mend standby n1 neta
//! ping n1 neta answers|silent
//! scripts hang|end             scripts fail on n1 ...         (the alert script)
//! script node_up fails [2 times]|hangs|works on n1 ...        (an event script)
//! resource web-app fails on n1                                (it ends by itself)
//! resource web-app cannot start|cannot stop|works on n1
//! variable NAME [INSTANCE] = VALUE                            (what a monitor reads)
//! n2 finds WORDS               nothing backs n1       fence agents fail|work
//!
//! token n4 number 4 [for SECONDS]                     add n4 number 4    delete n4
//! timing 200 x 5 [election 300]     seed     test alert [on n1 ...]     again
//! stop graceful|takeover|forced all|n1 ...            managers start all|n1 ...
//! maintenance on|off of cluster|n1|web
//! group web moves [to n2]      group web online|offline       group web clear [on n1]
//! recover retry|skip|abort [event 4]                  confirm n1 off
//! program PATH [file NAME]     rules load [file NAME] [from 0]           rules back to 0
//! config apply [from 0]        config back to 1       config check       config examine
//!
//! status   interfaces   scripts   managers   groups   group web   events   event   rules
//! config show|diff|history     plan if n1 is down|up|stops
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use vedette_core::command::Proposal;
use vedette_core::group::GroupState;
use vedette_core::model::{AgentStatus, HostStatus, Settings, Severity};
use vedette_core::record::{Code, Record};
use vedette_core::watchers::Watchers;

use super::world::{MS, Setup, World, network_of};

mod machines;
mod orders;
mod texts;
mod views;

/// A cluster that a story is about.
struct Stage {
    world: World,
    setup: Setup,
    told: usize,
    runs_told: usize,
    last: Option<Proposal>,
    tell: Tell,
    /// Recovery programs that are loaded along with the next rules.
    programs: std::collections::BTreeMap<String, String>,
    watchers: Watchers,
}

/// What of the records is told.
#[derive(Clone, Debug, Default)]
enum Tell {
    #[default]
    Everything,
    /// All but events and managers.
    Statuses,
    /// Events, groups, nodes, alerts, orders; details of these kinds too.
    Events(BTreeSet<String>),
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
    for (line, text) in texts::commands(block) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"cluster") {
            *stage = Some(Stage::new(&words)?);
            begin = 0;
            continue;
        }
        let stage = stage.as_mut().ok_or("a story begins with `cluster`")?;
        let said = stage.command(&words, &text)?;
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

/// What is only told if it is asked for by one of these words.
fn kind_of(record: &Record) -> Option<&'static str> {
    let quiet = record.severity == Severity::Informational;
    match record.code {
        Code::Manager => Some("managers"),
        Code::EventPhase => Some("phases"),
        Code::EventCommand if quiet => Some("phases"),
        Code::EventVote if record.message.starts_with("vote on") => {
            (!record.message.contains("gives way")).then_some("votes")
        }
        Code::Resource => Some("resources"),
        Code::Link | Code::Interface => Some("links"),
        Code::Network => Some("networks"),
        Code::NodeAgent => Some("agents"),
        Code::AlertDelivered => Some("scripts"),
        Code::ClusterSubstate => Some("cluster"),
        _ => None,
    }
}

/// Whether it is about something else than events and managers.
fn is_status(record: &Record) -> bool {
    !(Code::Manager..=Code::EventEnded).contains(&record.code)
        && record.code != Code::ClusterSubstate
}

impl Stage {
    fn new(words: &[&str]) -> Result<Self, String> {
        let nodes = number(words.get(1))? as usize;
        let networks = number(words.get(3))? as usize;
        let seed_count = after(words, "count")?.unwrap_or(1) as u16;
        let voters = after(words, "voters")?.map_or(Settings::default().voters, |n| n as _);
        let setup = Setup {
            nodes,
            networks,
            low: None,
            seed: 1,
            delay: (500, 1),
            settings: Settings { seed_count, voters, ..Settings::default() },
            ping: words.contains(&"ping"),
            document: None,
            places: BTreeMap::new(),
            bug: None,
        };
        Ok(Self::of(setup))
    }

    fn of(setup: Setup) -> Self {
        let mut world = World::new(&setup);
        world.history = Some(Vec::new());
        world.conduct.in_detail = true;
        let watchers = Watchers::new(&world.reference.rules.rules());
        let (last, tell, programs) = (None, Tell::default(), Default::default());
        Self { world, setup, told: 0, runs_told: 0, last, tell, programs, watchers }
    }

    /// The cluster has this configuration from its beginning.
    fn configure(&mut self, text: &str) -> Result<String, String> {
        if self.world.now > 0 {
            return Err("groups are defined before anything happens".into());
        }
        let document = self.setup.document.take().unwrap_or_default() + text;
        let (setup, tell) = (self.setup.clone(), std::mem::take(&mut self.tell));
        *self = Self::of(Setup { document: Some(document.clone()), ..setup });
        self.tell = tell;
        let (_, findings) = vedette_core::document::read(&document, &self.world.reference);
        match findings.iter().find(|finding| finding.error) {
            Some(finding) => Err(finding.to_string()),
            None => Ok(String::new()),
        }
    }

    /// Writes what was recorded and not told yet.
    fn tell(&mut self, begin: u64, answer: &mut String) {
        let Some(history) = &self.world.history else { return };
        let told = |record: &&Record| match (&self.tell, kind_of(record)) {
            (Tell::Events(kinds), Some(kind)) => kinds.contains(kind),
            (Tell::Statuses, _) => is_status(record),
            _ => true,
        };
        for record in history[self.told..].iter().filter(told) {
            let since = record.at.0 - super::world::EPOCH - begin as i64;
            let tenths = (since.max(0) as f64 / 1e5).round() / 10.0;
            write!(answer, "{tenths:4.1} s  {:13}  {}", record.severity, record.message).ok();
            if !record.cause.is_empty() {
                let cause = record.cause.replace('\n', "\n                       ");
                write!(answer, ": {cause}").ok();
            }
            answer.push('\n');
        }
        self.told = history.len();
    }

    fn command(&mut self, words: &[&str], text: &str) -> Result<String, String> {
        match words {
            ["run", time, "ms"] => self.run(number(Some(time))?),
            ["run", time, "s"] => self.run(number(Some(time))? * 1_000),
            ["start", who @ ..] => self.start(who),
            ["document"] => self.configure(text),
            [
                "group",
                name,
                policy @ ("cascading" | "rotating" | "concurrent"),
                "on",
                rest @ ..,
            ] => {
                let document = texts::group(name, policy, rest, self.setup.document.as_deref());
                self.configure(&document)
            }
            ["tell", what, kinds @ ..] => {
                let kind = |word: &&str| word.trim_end_matches(',').to_owned();
                self.tell = match *what {
                    "everything" => Tell::Everything,
                    "statuses" => Tell::Statuses,
                    _ => Tell::Events(kinds.iter().map(kind).collect()),
                };
                Ok(String::new())
            }
            _ => match self.view(words, text) {
                Some(said) => said,
                None => self.act(words, text),
            },
        }
    }

    fn run(&mut self, ms: u64) -> Result<String, String> {
        let until = self.world.now + ms * MS;
        let violation = self.world.run_until(until).err();
        violation.map_or(Ok(String::new()), |v| Err(format!("at {} us: {}", v.at, v.what)))
    }

    /// Machines are switched on, and nothing is told until all is well.
    fn start(&mut self, who: &[&str]) -> Result<String, String> {
        let nodes = self.nodes(if who.is_empty() { &["all"] } else { who })?;
        for node in &nodes {
            self.world.trouble(&super::world::Trouble::PowerOn(*node));
        }
        for _ in 0..600 {
            self.run(100)?;
            if nodes.iter().all(|node| self.is_well(*node)) && self.is_quiet() {
                // Links are looked at a little later than nodes.
                self.run(500)?;
                self.told = self.world.history.as_ref().map_or(0, Vec::len);
                return Ok(self.summary());
            }
        }
        let ailment = self.world.ailment().unwrap_or_default();
        Err(format!("the cluster was not well after a minute: {ailment}"))
    }

    fn is_well(&self, node: usize) -> bool {
        let number = super::world::number_of(node);
        let state = &self.world.reference;
        let known = state.nodes.get(&number);
        known.is_some_and(|n| n.host == HostStatus::Up && n.agent == AgentStatus::Running)
            && state.manager.members.get(&number).is_some_and(|member| member.joined)
    }

    fn is_quiet(&self) -> bool {
        let state = &self.world.reference;
        let moving = |state| matches!(state, GroupState::Acquiring | GroupState::Releasing);
        let idle = state.manager.current.is_none() && state.manager.queue.is_empty();
        idle && state.alerts.is_empty() && !state.groups.values().any(|g| moving(g.state()))
    }

    fn act(&mut self, words: &[&str], text: &str) -> Result<String, String> {
        match words {
            ["scripts", ..] => self.alert_script(words),
            ["ping", node, network, how] => self.ping(node, network, *how == "answers"),
            ["break" | "mend", "adapter", node, network] => {
                self.adapter(node, network, words[0] == "break")
            }
            ["cut" | "join", ..] => self.wire(words),
            ["script" | "resource" | "nothing" | "fence", ..] | [_, "finds", ..] => {
                self.behaviour(words)
            }
            ["variable", ..] => self.variable(words),
            ["stop" | "continue", "guard" | "agent", ..] => self.machine(words),
            ["power" | "leave" | "kill", ..] => self.machine(words),
            _ => self.operator(words, text),
        }
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
}
