//! A snapshot: every variable of the module at one moment, immutable and in order.
//!
//! It is made of one [`Block`] per table. When a new view comes, only the tables whose part of the
//! view is another one are made anew; a report of the guard that changed nothing but round trips
//! does not cost a rebuild of the events.

use std::sync::Arc;

use vedette_core::view::View;

use crate::oid::{Oid, ROOT};
use crate::stamp::TimeBase;
use crate::table::{Block, Facts};
use crate::tables::{
    Part, cluster, event, group, interface, link, local, manager, monitor, network, node, port,
    resource, standby, watch,
};
use crate::value::Value;

/// Every variable at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: Arc<View>,
    /// When the master started, from which stamps count.
    started: Option<i64>,
    /// In the order of [`Part::ALL`], which is the order of their names.
    blocks: Vec<Arc<Block>>,
}

/// Where a name lies, seen from the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Before,
    Inside(&'a [u32]),
    Behind,
}

pub(crate) fn place(name: &Oid) -> Place<'_> {
    match name.numbers().strip_prefix(ROOT) {
        Some(suffix) => Place::Inside(suffix),
        None if name.numbers() < ROOT => Place::Before,
        None => Place::Behind,
    }
}

impl Snapshot {
    /// Everything that `view` shows; tables that are as in `previous` are taken from there.
    pub fn build(view: Arc<View>, base: &TimeBase, previous: Option<&Self>) -> Self {
        let facts = Facts { view: &view, base };
        let started = base.started();
        let block = |(place, part): (usize, Part)| match previous {
            Some(previous)
                if previous.started == started && unchanged(part, &previous.view, &view) =>
            {
                Arc::clone(&previous.blocks[place])
            }
            _ => Arc::new(build(part, &facts)),
        };
        let blocks = Part::ALL.into_iter().enumerate().map(block).collect();
        Self { view, started, blocks }
    }

    /// The view it was made from.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// When the master started, as it was made with.
    pub(crate) fn started(&self) -> Option<i64> {
        self.started
    }

    /// How many variables there are.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }

    /// Whether there are none; there always are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The variable of that name, without [`ROOT`].
    pub fn get(&self, suffix: &[u32]) -> Option<&Value> {
        self.blocks.iter().find_map(|block| block.get(suffix))
    }

    /// The first variable behind that name (or of it, if `include`), without [`ROOT`].
    pub fn next(&self, suffix: &[u32], include: bool) -> Option<(&[u32], &Value)> {
        self.blocks.iter().find_map(|block| block.next(suffix, include))
    }
}

/// Whether a part would come out the same from both views, seen without looking closely.
fn unchanged(part: Part, old: &View, new: &View) -> bool {
    let known = old.local.knows() == new.local.knows()
        && old.local.node == new.local.node
        && Arc::ptr_eq(old.last_known(), new.last_known());
    let state = known && Arc::ptr_eq(&old.state, &new.state);
    let report = match (&old.local.report, &new.local.report) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    match part {
        Part::Cluster | Part::Local | Part::History => false,
        Part::Manager
        | Part::Network
        | Part::Interface
        | Part::Port
        | Part::NodeManager
        | Part::Group
        | Part::GroupNode
        | Part::Resource
        | Part::Queue
        | Part::Begun
        | Part::WatchRule
        | Part::Fired
        | Part::Blind
        | Part::Standby => state,
        Part::Node | Part::Link => state && report,
        Part::Monitor | Part::MonitorValue => Arc::ptr_eq(&old.local.monitors, &new.local.monitors),
        Part::Event => Arc::ptr_eq(&old.recent, &new.recent),
        Part::LocalRecord => Arc::ptr_eq(&old.local.journal, &new.local.journal),
        Part::Condition => Arc::ptr_eq(&old.local.conditions, &new.local.conditions),
    }
}

fn build(part: Part, facts: &Facts<'_>) -> Block {
    match part {
        Part::Cluster => cluster::build(facts, cluster::CLUSTER, cluster::CLUSTER_SCALARS),
        Part::Local => cluster::build(facts, cluster::LOCAL, cluster::LOCAL_SCALARS),
        Part::History => cluster::build(facts, cluster::HISTORY, cluster::HISTORY_SCALARS),
        Part::Node => node::build(facts),
        Part::Network => network::build(facts),
        Part::Interface => interface::build(facts),
        Part::Link => link::build(facts),
        Part::Port => port::build(facts),
        Part::Event => event::build(facts),
        Part::Manager => manager::build_scalars(facts),
        Part::NodeManager => manager::build_nodes(facts),
        Part::Group => group::build(facts),
        Part::GroupNode => group::build_on_nodes(facts),
        Part::Resource => resource::build(facts),
        Part::Queue => manager::build_queue(facts),
        Part::Monitor => monitor::build(facts),
        Part::MonitorValue => monitor::build_values(facts),
        Part::WatchRule => watch::build_rules(facts),
        Part::Fired => watch::build_fired(facts),
        Part::Blind => watch::build_blind(facts),
        Part::Standby => standby::build(facts),
        Part::LocalRecord => local::build_records(facts),
        Part::Condition => local::build_conditions(facts),
        Part::Begun => manager::build_begun(facts),
    }
}
