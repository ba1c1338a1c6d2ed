//! Resource monitors: where values of resource variables come from (spec H29).
//!
//! A [`Monitor`] looks at one kind of resource of this machine and yields [`Sample`]s; it knows
//! nothing of rules, events or the cluster. [`needs`] tells which monitors a node has to run, from the
//! rules in force and the configuration; what nobody asks for is not looked at.
//!
//! A monitor may block (a file server that is gone holds up `statvfs` for minutes), so whoever runs one
//! does that on a thread of its own, with a time limit. One that fails says why; it never panics,
//! whatever it reads.

mod executable;
mod file_system;
mod memory;
mod processor;
mod program;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_core::definition::MonitorDef;
use vedette_core::id::NodeNumber;
use vedette_core::rules::Rule;
use vedette_core::variable::{self, Instance, Pattern, Value};
use vedette_core::watchers::Watchers;

/// A value, as a monitor finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The variable, by our name.
    pub variable: String,
    /// Which copy.
    pub instance: Instance,
    /// The value.
    pub value: Value,
}

/// What one look yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Values.
    pub samples: Vec<Sample>,
    /// Why something that was wanted is not among them, a sentence without its full stop.
    pub failure: Option<String>,
    /// All that the program of a look that failed has printed, as far as a transcript takes it.
    pub printed: String,
}

impl Taken {
    /// Nothing was seen, for a reason.
    pub fn failed(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..Self::default() }
    }
}

/// Which instances of a variable somebody wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The variable, by our name.
    pub variable: String,
    /// Instances that one of these matches.
    pub patterns: Vec<Pattern>,
}

impl Wanted {
    fn matches(&self, instance: &Instance) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(instance))
    }
}

/// Something that looks at a resource of this machine.
pub trait Monitor: Send {
    /// Looks once. May block.
    fn look(&mut self, wanted: &[Wanted]) -> Taken;
}

/// Which monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// File systems.
    FileSystems,
    /// Memory and paging space.
    Memory,
    /// Processors.
    Processors,
    /// Processes by program and user.
    Programs,
    /// A program of the site.
    Executable(Vec<String>),
}

/// A monitor that has to run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is called, such as `file systems`, or the variable of an executable.
    pub name: String,
    /// Which one.
    pub kind: Kind,
    /// Time between two looks.
    pub interval: Duration,
    /// How long a look may take.
    pub limit: Duration,
    /// What it is wanted for.
    pub wanted: Vec<Wanted>,
}

/// What [`needs`] finds out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Monitors that have to run.
    pub monitors: Vec<Need>,
    /// Rules whose variable nobody yields, with that variable.
    pub orphans: Vec<(String, String)>,
}

/// How often processes are looked at unless configured: a dead one is news.
const PROGRAMS_EVERY: Duration = Duration::from_secs(1);

/// How often everything else is looked at.
const OTHERS_EVERY: Duration = Duration::from_secs(10);

/// How long a look of a built-in monitor may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The monitors that a node has to run.
pub fn needs(me: NodeNumber, rules: &[Rule], configured: &[MonitorDef]) -> Needs {
    let mut patterns: BTreeMap<String, Vec<Pattern>> = BTreeMap::new();
    let mut found = Needs::default();
    for watcher in Watchers::new(rules).iter() {
        let (variable, pattern) = (watcher.variable(), watcher.pattern());
        if pattern.wanted("NodeNum").is_some_and(|node| node != me.to_string()) {
            continue;
        }
        let site = configured.iter().any(|monitor| monitor.variable == variable);
        if !site && variable::known(variable).is_none() {
            found.orphans.push((watcher.name().to_owned(), variable.to_owned()));
            continue;
        }
        let all = patterns.entry(variable.to_owned()).or_default();
        if !all.contains(pattern) {
            all.push(pattern.clone());
        }
    }
    for monitor in configured {
        // What is configured runs without a rule, too; only programs have to be named by one.
        let name = variable::canonical(&monitor.variable);
        if !matches!(built_in(name), Some(Kind::Programs)) {
            patterns.entry(name.to_owned()).or_insert_with(|| vec![Pattern::default()]);
        }
    }
    for (variable, patterns) in patterns {
        add(&mut found.monitors, configured, Wanted { variable, patterns });
    }
    found
}

fn add(needs: &mut Vec<Need>, configured: &[MonitorDef], wanted: Wanted) {
    let own =
        configured.iter().find(|monitor| variable::canonical(&monitor.variable) == wanted.variable);
    let kind = built_in(&wanted.variable);
    let (name, kind) = match (kind, own) {
        (Some(kind), _) => (name(&kind).to_owned(), kind),
        (None, Some(own)) => (wanted.variable.clone(), Kind::Executable(own.command.clone())),
        (None, None) => return,
    };
    let usual = if kind == Kind::Programs { PROGRAMS_EVERY } else { OTHERS_EVERY };
    let interval = own.map_or(usual, |own| Duration::from_millis(own.interval_ms));
    let limit = own.map_or(LIMIT, |own| Duration::from_millis(own.timeout_ms));
    match needs.iter_mut().find(|need| need.kind == kind && need.name == name) {
        Some(need) => {
            need.interval = need.interval.min(interval);
            need.limit = need.limit.max(limit);
            need.wanted.push(wanted);
        }
        None => needs.push(Need { name, kind, interval, limit, wanted: vec![wanted] }),
    }
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::FileSystems => "file systems",
        Kind::Memory => "memory",
        Kind::Processors => "processors",
        Kind::Programs => "programs",
        Kind::Executable(_) => "executable",
    }
}

/// The built-in monitor that yields a variable.
fn built_in(variable: &str) -> Option<Kind> {
    let (family, _) = variable::known(variable)?.name.split_once('.')?;
    match family {
        "fs" => Some(Kind::FileSystems),
        "memory" | "paging" => Some(Kind::Memory),
        "cpu" => Some(Kind::Processors),
        "program" => Some(Kind::Programs),
        _ => None,
    }
}

/// Makes the monitor that is needed on a node. `folder` is where it may keep what it knows while the machine
/// runs.
pub fn make(need: &Need, (me, name): (NodeNumber, &str), folder: &Path) -> Box<dyn Monitor> {
    let proc = PathBuf::from("/proc");
    match &need.kind {
        Kind::FileSystems => Box::new(file_system::FileSystems { me, proc }),
        Kind::Memory => Box::new(memory::Memory { me, proc }),
        Kind::Processors => Box::new(processor::Processors::new(me, proc)),
        Kind::Programs => Box::new(program::Programs::new(me, proc, folder)),
        Kind::Executable(command) => Box::new(executable::Executable {
            me,
            name: name.into(),
            command: command.clone(),
            variable: need.name.clone(),
            limit: need.limit,
        }),
    }
}

/// Samples of variables that have one instance on a node; those that somebody wants.
fn of_node(me: NodeNumber, wanted: &[Wanted], values: &[(&str, Value)]) -> Vec<Sample> {
    let instance = Instance::on(me, &[]);
    let is_wanted = |name: &str| wanted.iter().any(|w| w.variable == name && w.matches(&instance));
    let samples = values.iter().filter(|(name, _)| is_wanted(name));
    samples
        .map(|(name, value)| Sample {
            variable: (*name).to_owned(),
            instance: instance.clone(),
            value: value.clone(),
        })
        .collect()
}

/// A part in percent, with one digit after the point.
fn percent(part: u64, whole: u64) -> Value {
    if whole == 0 {
        return Value::Float(0.0);
    }
    Value::Float((part.min(whole) as f64 * 1_000.0 / whole as f64).round() / 10.0)
}

/// A file of `/proc`, or a sentence.
fn read(proc: &Path, name: &str) -> Result<String, String> {
    let path = proc.join(name);
    let bytes = std::fs::read(&path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names that were wanted and not found.
fn missing(names: &BTreeSet<String>, what: &str) -> Option<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
}
