//! `vedetteWatchRuleTable`, `vedetteFiredTable` and `vedetteBlindTable`: rules that watch values,
//! what has fired, and what cannot be watched (spec H30, H31, H33). All of it is replicated state, so
//! every node shows the same.

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::event::Firing;
use vedette_core::id::NodeNumber;
use vedette_core::rules::Rule;
use vedette_core::state::ClusterState;
use vedette_core::variable::canonical;

use super::text_index::{number, numbered};
use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const RULES: &[u32] = &[1, 24, 1];
pub(crate) const FIRED: &[u32] = &[1, 25, 1];
pub(crate) const BLIND: &[u32] = &[1, 26, 1];

/// Columns that notifications carry.
pub(crate) const FIRED_RULE: u32 = 2;
pub(crate) const FIRED_INSTANCE: u32 = 5;
pub(crate) const WHAT: u32 = 3;

pub(crate) struct WatchRules;

/// A rule, and for how many instances it has fired.
impl Table for WatchRules {
    type Row<'a> = (&'a Rule, usize);
}

pub(crate) const RULE_COLUMNS: &[Column<WatchRules>] = &[
    column(2, "vedetteWatchRuleName", "VedetteText", |_, (r, _)| Value::text(&r.name, TEXT)),
    column(3, "vedetteWatchRuleVariable", "VedetteText", |_, (r, _)| {
        Value::text(canonical(&r.variable), TEXT)
    }),
    column(4, "vedetteWatchRuleVector", "VedetteText", |_, (r, _)| Value::text(&r.vector, TEXT)),
    column(5, "vedetteWatchRulePredicate", "VedetteText", |_, (r, _)| {
        Value::text(&r.predicate, TEXT)
    }),
    column(6, "vedetteWatchRuleRearm", "VedetteText", |_, (r, _)| Value::text(&r.rearm, TEXT)),
    column(7, "vedetteWatchRuleFired", "Gauge32", |f, (_, fired)| f.known(|| Value::gauge(*fired))),
];

pub(crate) fn build_rules(facts: &Facts<'_>) -> Block {
    let state = &facts.view.state;
    let rules = state.rules.watching();
    let row = |(index, name): (u32, String)| {
        let rule = rules.iter().find(|rule| rule.name == name)?;
        let fired = state.manager.fired.get(&name).map_or(0, BTreeMap::len);
        Some((vec![index], (rule, fired)))
    };
    let rows: Vec<(Vec<u32>, <WatchRules as Table>::Row<'_>)> =
        rule_indexes(state).into_iter().filter_map(row).collect();
    Block::build(facts, RULES, RULE_COLUMNS, &rows)
}

pub(crate) struct Fired;

/// The rule, the instance, and how it fired.
impl Table for Fired {
    type Row<'a> = (&'a str, &'a str, &'a Firing);
}

pub(crate) const FIRED_COLUMNS: &[Column<Fired>] = &[
    column(FIRED_RULE, "vedetteFiredRule", "VedetteText", |_, (rule, ..)| Value::text(rule, TEXT)),
    column(3, "vedetteFiredNodeNumber", "VedetteNumberOrZero", |_, (.., firing)| {
        Value::Gauge32(u32::from(firing.node.0))
    }),
    column(4, "vedetteFiredNodeName", "SnmpAdminString", |f, (.., firing)| {
        Value::text(&f.view.state.node_name(firing.node), NAME)
    }),
    column(FIRED_INSTANCE, "vedetteFiredInstance", "VedetteText", |_, (_, instance, _)| {
        Value::text(instance, TEXT)
    }),
    column(6, "vedetteFiredValue", "VedetteText", |_, (.., firing)| {
        Value::text(&firing.value, TEXT)
    }),
    column(7, "vedetteFiredSince", "DateAndTime", |_, (.., firing)| Value::date(firing.at)),
    column(8, "vedetteFiredLastChange", "TimeStamp", |f, (.., firing)| f.base.stamp(firing.at)),
];

pub(crate) fn build_fired(facts: &Facts<'_>) -> Block {
    Block::build(facts, FIRED, FIRED_COLUMNS, &fired_in_order(&facts.view.state))
}

/// What has fired, by the index of the rule and that of the instance.
fn fired_in_order(state: &ClusterState) -> Vec<(Vec<u32>, <Fired as Table>::Row<'_>)> {
    let mut rows = Vec::new();
    for (index, rule) in rule_indexes(state) {
        let Some((rule, instances)) = state.manager.fired.get_key_value(&rule) else { continue };
        let instances = instances.iter().map(|(instance, firing)| {
            (instance.clone(), (rule.as_str(), instance.as_str(), firing))
        });
        let instances = numbered(instances.collect()).into_iter();
        rows.extend(instances.map(|(instance, row)| (vec![index, instance], row)));
    }
    rows
}

/// The names of rules by their indexes: of those in force and, should there be another one, of any
/// that has fired.
fn rule_indexes(state: &ClusterState) -> BTreeMap<u32, String> {
    let in_force = state.rules.watching().into_iter().map(|rule| rule.name);
    let names: BTreeSet<String> = in_force.chain(state.manager.fired.keys().cloned()).collect();
    numbered(names.into_iter().map(|name| (name.clone(), name)).collect())
}

/// The row of a rule that has fired for an instance; where that is over, the one it had.
pub(crate) fn fired_index(state: &ClusterState, rule: &str, instance: &str) -> Vec<u32> {
    let is_it = |row: &<Fired as Table>::Row<'_>| (row.0, row.1) == (rule, instance);
    let known = fired_in_order(state).into_iter().find(|(_, row)| is_it(row));
    known.map_or_else(|| vec![number(rule), number(instance)], |(index, _)| index)
}

pub(crate) struct Blind;

/// On which node what cannot be watched, and why.
impl Table for Blind {
    type Row<'a> = (NodeNumber, &'a str, &'a str);
}

pub(crate) const BLIND_COLUMNS: &[Column<Blind>] = &[
    column(2, "vedetteBlindNodeName", "SnmpAdminString", |f, (node, ..)| {
        Value::text(&f.view.state.node_name(*node), NAME)
    }),
    column(WHAT, "vedetteBlindWhat", "VedetteText", |_, (_, what, _)| Value::text(what, TEXT)),
    column(4, "vedetteBlindWhy", "VedetteText", |_, (.., why)| Value::text(why, TEXT)),
];

pub(crate) fn build_blind(facts: &Facts<'_>) -> Block {
    Block::build(facts, BLIND, BLIND_COLUMNS, &blind_in_order(&facts.view.state))
}

/// What cannot be watched, by node and the index of what it is.
fn blind_in_order(state: &ClusterState) -> Vec<(Vec<u32>, <Blind as Table>::Row<'_>)> {
    let mut rows = Vec::new();
    for (node, all) in &state.manager.blind {
        let all =
            all.iter().map(|(what, why)| (what.clone(), (*node, what.as_str(), why.as_str())));
        let all = numbered(all.collect()).into_iter();
        rows.extend(all.map(|(index, row)| (vec![u32::from(node.0), index], row)));
    }
    rows
}

/// The row of what cannot be watched on a node; where that is over, the one it had.
pub(crate) fn blind_index(state: &ClusterState, node: NodeNumber, what: &str) -> Vec<u32> {
    let is_it = |row: &<Blind as Table>::Row<'_>| (row.0, row.1) == (node, what);
    let known = blind_in_order(state).into_iter().find(|(_, row)| is_it(row));
    known.map_or_else(|| vec![u32::from(node.0), number(what)], |(index, _)| index)
}
