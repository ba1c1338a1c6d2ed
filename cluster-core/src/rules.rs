//! Rules and recovery programs (spec H15 to H17): which program answers which event.
//!
//! Both are texts in the formats that HACMP ES had, so that a site's own files can be loaded as they
//! are: nine lines a rule ([`file`]), a command a line with barriers between ([`program`]). They are
//! kept as they were given, versioned, in the replicated state; so every node has the same, and a
//! new version is in force at once, for the next event.
//!
//! What a loaded file leaves out is never simply missing: a predefined event without a rule, and a
//! rule whose program was not loaded, are answered by what is built in. A text with errors is never
//! put in force; [`check`] lists all of them.

pub mod built_in;
pub mod file;
pub mod program;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Finding, Findings, Level};
use crate::id::NodeNumber;
use crate::model::status;
use crate::time::WallTime;
use crate::trigger::Trigger;
use crate::variable::Pattern;

status! {
    /// On which participants a command runs (spec H17).
    NodeSet {
        /// On all.
        All = 1 "all",
        /// On the node on which the event happened.
        Event = 2 "event",
        /// On all but that one.
        Other = 3 "other",
    }
}

/// One event's nine lines (spec H15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// 1: the event's name.
    pub name: String,
    /// 2: the state (qualifier).
    pub state: String,
    /// 3: path of the recovery program.
    pub program: String,
    /// 4: recovery type; reserved.
    pub kind: String,
    /// 5: recovery level; reserved.
    pub level: String,
    /// 6: resource variable; empty for predefined events, as are the next three.
    pub variable: String,
    /// 7: instance vector.
    pub vector: String,
    /// 8: predicate.
    pub predicate: String,
    /// 9: rearm predicate.
    pub rearm: String,
}

/// A recovery program: phases with a barrier between each and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path in the rules.
    pub path: String,
    /// Its phases. What stands in one runs in parallel.
    pub phases: Vec<Vec<ProgramLine>>,
}

/// One command of a recovery program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramLine {
    /// On whom.
    pub nodes: NodeSet,
    /// What: a name in the folder of event scripts or a path, and arguments.
    pub command: String,
    /// The status that means success; none (`X`) if every status does.
    pub expected: Option<i32>,
}

/// One version of rules and programs; the same on every node (spec H16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    /// The rules file, as it was loaded.
    pub text: String,
    /// Recovery programs by the path that rules name, as they were loaded. What is missing here
    /// and bears the file name of a built-in program is that.
    pub programs: BTreeMap<String, String>,
    /// Who loaded it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When.
    pub at: WallTime,
}

impl RuleSet {
    /// What is built in: version 0.
    pub fn built_in() -> Self {
        Self {
            text: built_in::RULES.into(),
            author: "vedette".into(),
            comment: "built in".into(),
            ..Self::default()
        }
    }

    /// Its rules, then those built-in rules of predefined events that it leaves out.
    pub fn rules(&self) -> Vec<Rule> {
        let (mut rules, _) = file::parse("rules", &self.text);
        let (built_in, _) = file::parse("rules", built_in::RULES);
        let missing: Vec<Rule> = built_in
            .into_iter()
            .filter(|rule| !rules.iter().any(|own| own.answers(&rule.name)))
            .collect();
        rules.extend(missing);
        rules
    }

    /// The text of the program with that path; a built-in one if none was loaded.
    pub fn program_text(&self, path: &str) -> Option<&str> {
        let loaded = self.programs.get(path).map(String::as_str);
        loaded.or_else(|| built_in::program(path))
    }

    /// Everything that is wrong with it.
    pub fn check(&self, name: &str) -> Findings {
        check(name, &self.text, &self.programs)
    }
}

/// Rules in force, and every version that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStore {
    /// The version in force; 0 is built in.
    pub active: u32,
    /// The versions that were loaded; the oldest are given up when there are too many.
    pub versions: BTreeMap<u32, RuleSet>,
}

impl RuleStore {
    /// That version; 0 is built in.
    pub fn version(&self, number: u32) -> Option<RuleSet> {
        match number {
            0 => Some(RuleSet::built_in()),
            number => self.versions.get(&number).cloned(),
        }
    }

    /// What is in force.
    pub fn in_force(&self) -> RuleSet {
        self.version(self.active).unwrap_or_else(RuleSet::built_in)
    }

    /// The rules in force, with the built-in ones for predefined events that they leave out.
    pub fn rules(&self) -> Vec<Rule> {
        self.in_force().rules()
    }

    /// Those of them that watch values of a resource variable.
    pub fn watching(&self) -> Vec<Rule> {
        let mut rules = self.rules();
        rules.retain(Rule::is_user_defined);
        rules
    }

    /// The recovery program that answers an event, according to the rules in force; none if no rule
    /// is triggered by it (a user-defined event whose rule is gone).
    pub fn program(&self, trigger: &Trigger) -> Option<Program> {
        let set = self.in_force();
        let rule = set.rules().into_iter().find(|rule| rule.answers(trigger.rule()))?;
        let text = set.program_text(&rule.program)?;
        let (program, findings) = program::parse(&rule.program, text);
        (!has_errors(&findings)).then_some(program)
    }
}

impl Rule {
    /// The state that every event has.
    pub const STATE: &'static str = "0";

    /// Whether an event of that rule name triggers it: name and state are the trigger.
    pub fn answers(&self, name: &str) -> bool {
        self.name == name && self.state == Self::STATE
    }

    /// Whether it is about values of a resource variable.
    pub fn is_user_defined(&self) -> bool {
        !self.variable.is_empty()
    }
}

/// Whether any of them stands in the way.
pub fn has_errors(findings: &Findings) -> bool {
    findings.0.iter().any(|finding| finding.level == Level::Error)
}

/// Everything that is wrong with a rules file and the programs that are loaded along with it.
/// `programs` has them by the path that rules name.
pub fn check(name: &str, text: &str, programs: &BTreeMap<String, String>) -> Findings {
    let (rules, mut findings) = file::read(name, text);
    let missing = |placed: &&file::Placed| {
        let path = &placed.rule.program;
        path.starts_with('/') && !programs.contains_key(path) && built_in::program(path).is_none()
    };
    let missing = rules.iter().filter(missing);
    findings.0.extend(missing.map(|placed| missing_program(name, placed)));
    findings.0.sort_by_key(|finding| finding.line);
    for (path, text) in programs {
        findings.0.extend(program::parse(path, text).1.0);
        if !rules.iter().any(|placed| placed.rule.program == *path) {
            findings.0.push(useless_program(path));
        }
    }
    findings
}

/// Rules that name a node which is none of `nodes`, so that they never fire.
pub fn missing_nodes(name: &str, text: &str, nodes: &BTreeMap<NodeNumber, String>) -> Findings {
    let (rules, _) = file::read(name, text);
    let finding = |placed: &file::Placed| {
        let rule = &placed.rule;
        let pattern = Pattern::parse(&rule.vector).ok().filter(|_| rule.is_user_defined())?;
        let number: u16 = pattern.wanted("NodeNum")?.parse().ok()?;
        let known: Vec<String> =
            nodes.iter().map(|(number, name)| format!("{number} ({name})")).collect();
        (!nodes.contains_key(&NodeNumber(number))).then(|| Finding {
            level: Level::Error,
            file: name.into(),
            line: Some(placed.vector_line),
            key: format!("{}, instance vector", rule.name),
            what: format!("there is no node {number}, so this rule never fires"),
            advice: format!("There are: {}.", known.join(", ")),
        })
    };
    Findings(rules.iter().filter_map(finding).collect())
}

/// A rule names a program that nobody has.
fn missing_program(name: &str, placed: &file::Placed) -> Finding {
    let path = &placed.rule.program;
    let file = path.rsplit('/').next().unwrap_or_default();
    Finding {
        level: Level::Error,
        file: name.into(),
        line: Some(placed.program_line),
        key: format!("{}, recovery program", placed.rule.name),
        what: format!("the recovery program {path} is neither loaded nor built in"),
        advice: format!("Put {file} into the folder that is given with --programs."),
    }
}

/// A program that no rule names.
fn useless_program(path: &str) -> Finding {
    Finding {
        level: Level::Warning,
        file: path.into(),
        line: None,
        key: String::new(),
        what: "no rule names this recovery program, so it never runs".into(),
        advice: "Name its path in the third line of a rule, or leave it out.".into(),
    }
}

#[cfg(test)]
mod tests;
