//! Every table and group of scalars of the MIB, one file each.

pub(crate) mod cluster;
pub(crate) mod event;
pub(crate) mod group;
pub(crate) mod interface;
pub(crate) mod link;
pub(crate) mod local;
pub(crate) mod manager;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod port;
pub(crate) mod resource;
pub(crate) mod standby;
mod text_index;
pub(crate) mod watch;

use crate::table::Object;

/// Longest name of a node, a network, a port or a cluster.
pub(crate) const NAME: usize = 64;

/// Longest text of type `VedetteText`.
pub(crate) const TEXT: usize = 1_024;

/// The parts of the tree that hold instances, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Cluster,
    Local,
    History,
    Manager,
    Node,
    Network,
    Interface,
    Link,
    Port,
    Event,
    NodeManager,
    Group,
    GroupNode,
    Resource,
    Queue,
    Monitor,
    MonitorValue,
    WatchRule,
    Fired,
    Blind,
    Standby,
    LocalRecord,
    Condition,
    Begun,
}

impl Part {
    pub(crate) const ALL: [Self; 24] = [
        Self::Cluster,
        Self::Local,
        Self::History,
        Self::Manager,
        Self::Node,
        Self::Network,
        Self::Interface,
        Self::Link,
        Self::Port,
        Self::Event,
        Self::NodeManager,
        Self::Group,
        Self::GroupNode,
        Self::Resource,
        Self::Queue,
        Self::Monitor,
        Self::MonitorValue,
        Self::WatchRule,
        Self::Fired,
        Self::Blind,
        Self::Standby,
        Self::LocalRecord,
        Self::Condition,
        Self::Begun,
    ];
}

/// Every readable object, in the order of the names.
pub fn objects() -> Vec<Object> {
    use crate::table::objects;
    [
        objects(cluster::CLUSTER, cluster::CLUSTER_SCALARS),
        objects(cluster::LOCAL, cluster::LOCAL_SCALARS),
        objects(cluster::HISTORY, cluster::HISTORY_SCALARS),
        objects(manager::SCALARS_OF, manager::SCALARS),
        objects(node::ENTRY, node::COLUMNS),
        objects(network::ENTRY, network::COLUMNS),
        objects(interface::ENTRY, interface::COLUMNS),
        objects(link::ENTRY, link::COLUMNS),
        objects(port::ENTRY, port::COLUMNS),
        objects(event::ENTRY, event::COLUMNS),
        objects(manager::NODES, manager::NODE_COLUMNS),
        objects(group::ENTRY, group::COLUMNS),
        objects(group::ON_NODES, group::NODE_COLUMNS),
        objects(resource::ENTRY, resource::COLUMNS),
        objects(manager::QUEUE, manager::QUEUE_COLUMNS),
        objects(monitor::ENTRY, monitor::COLUMNS),
        objects(monitor::VALUES, monitor::VALUE_COLUMNS),
        objects(watch::RULES, watch::RULE_COLUMNS),
        objects(watch::FIRED, watch::FIRED_COLUMNS),
        objects(watch::BLIND, watch::BLIND_COLUMNS),
        objects(standby::ENTRY, standby::COLUMNS),
        objects(local::RECORDS, local::RECORD_COLUMNS),
        objects(local::CONDITIONS, local::CONDITION_COLUMNS),
        objects(manager::BEGUN, manager::BEGUN_COLUMNS),
    ]
    .concat()
}
