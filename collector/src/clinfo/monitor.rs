//! Resource monitors: what the answering node sees of its resources, and which rules have fired
//! anywhere (spec H29 to H33).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::local_view::MonitorView;
use vedette_core::rules::Rule;
use vedette_core::state::ClusterState;
use vedette_core::variable::{Reading, canonical};
use vedette_core::view::View;

use super::Seen;
use super::known::if_known;

/// What is watched: by the answering node itself, and by rules of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorsDoc {
    /// Name of the answering node; the monitors are its own.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// Its monitors, by name.
    pub monitors: Vec<MonitorDoc>,
    /// The rules in force that watch values.
    pub rules: Vec<WatchRuleDoc>,
    /// Rules that have fired on any node, and were not armed again since; `null` where that is not known.
    pub fired: Option<Vec<FiredDoc>>,
    /// What cannot be watched on any node; on the answering one only, where the others are not known.
    pub blind: Vec<BlindDoc>,
}

/// A resource monitor of the answering node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorDoc {
    /// Its name; of an executable, its variable.
    #[schema(example = "programs")]
    pub name: String,
    /// Time between two looks.
    pub interval_ms: u64,
    /// When it looked last; `null` if it did not yet.
    pub at: Option<String>,
    /// Why it does not see everything that is wanted; `null` if it does.
    pub failure: Option<String>,
    /// What it saw last.
    pub values: Vec<ValueDoc>,
}

/// The value of one instance of a resource variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValueDoc {
    /// The variable.
    #[schema(example = "program.count")]
    pub variable: String,
    /// The instance.
    #[schema(example = "NodeNum=5;ProgName=rwhod;UserName=root")]
    pub instance: String,
    /// The value: a number, a text in quotes, or fields with commas between.
    #[schema(example = "1,0,\"7218\"")]
    pub value: String,
}

/// A rule that watches values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WatchRuleDoc {
    /// Its name.
    pub rule: String,
    /// The variable, by our name.
    pub variable: String,
    /// The instances that are meant.
    pub vector: String,
    /// When it fires.
    pub predicate: String,
    /// When it may fire again; empty: when the predicate does not hold any more.
    pub rearm: String,
}

/// A rule that has fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FiredDoc {
    /// The rule.
    pub rule: String,
    /// Name of the node on which it did.
    pub node: String,
    /// For which instance.
    pub instance: String,
    /// The value that made its predicate true.
    pub value: String,
    /// When.
    pub at: String,
}

/// Something that cannot be watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BlindDoc {
    /// Name of the node on which it cannot.
    pub node: String,
    /// What: `monitor NAME`, `rule NAME`, or `rule NAME for INSTANCE`.
    pub what: String,
    /// Why.
    pub why: String,
}

impl MonitorsDoc {
    /// What a view knows of it.
    pub fn new(seen: Seen<'_>) -> Self {
        let (state, local) = (&seen.view.state, &seen.view.local);
        Self {
            node: state.node_name(local.node),
            number: local.node.0,
            monitors: local.monitors.iter().map(|(name, view)| monitor(name, view)).collect(),
            rules: watch_rules(state),
            fired: fired(seen.view),
            blind: blind(state),
        }
    }
}

fn monitor(name: &str, view: &MonitorView) -> MonitorDoc {
    MonitorDoc {
        name: name.to_owned(),
        interval_ms: super::local::millis(view.interval),
        at: view.at.map(|at| at.to_string()),
        failure: view.failure.clone(),
        values: view.readings.iter().map(value).collect(),
    }
}

fn value(reading: &Reading) -> ValueDoc {
    ValueDoc {
        variable: reading.variable.clone(),
        instance: reading.instance.to_string(),
        value: reading.value.to_string(),
    }
}

/// The rules in force that watch values.
pub fn watch_rules(state: &ClusterState) -> Vec<WatchRuleDoc> {
    let rule = |rule: Rule| WatchRuleDoc {
        variable: canonical(&rule.variable).to_owned(),
        rule: rule.name,
        vector: rule.vector,
        predicate: rule.predicate,
        rearm: rule.rearm,
    };
    state.rules.watching().into_iter().map(rule).collect()
}

/// Rules that have fired, on any node; `None` where that is not known.
pub(super) fn fired(view: &View) -> Option<Vec<FiredDoc>> {
    if_known(view, || every_firing(&view.state))
}

fn every_firing(state: &ClusterState) -> Vec<FiredDoc> {
    let of_rule = |rule: &String| {
        let rule = rule.clone();
        move |(instance, firing): (&String, &vedette_core::event::Firing)| FiredDoc {
            rule: rule.clone(),
            node: state.node_name(firing.node),
            instance: instance.clone(),
            value: firing.value.clone(),
            at: firing.at.to_string(),
        }
    };
    let all = state.manager.fired.iter();
    all.flat_map(|(rule, instances)| instances.iter().map(of_rule(rule))).collect()
}

fn blind(state: &ClusterState) -> Vec<BlindDoc> {
    let all = state.manager.blind.iter();
    all.flat_map(|(node, all)| {
        let node = state.node_name(*node);
        all.iter().map(move |(what, why)| BlindDoc {
            node: node.clone(),
            what: what.clone(),
            why: why.clone(),
        })
    })
    .collect()
}
