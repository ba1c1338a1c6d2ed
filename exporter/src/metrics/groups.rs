//! Resource groups, their owners, resources and failures.
//!
//! The largest family is `vedette_resource_state`: six series for each resource on each node of its
//! group. Forty groups of four resources on three nodes are 2,880 series on each node's page; a
//! resource's name comes from the configuration, so nothing grows by itself.

use vedette_core::group::{Group, GroupDef, GroupState, ResourceKind, ResourceState, Tolerated};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;

use vedette_collector::clinfo::{standbys, waits_for_evidence};

use super::cluster::known;
use super::{Family, Rows, Scrape};

pub(super) const STATE: Family = Family::gauge(
    "vedette_group_state",
    "State of a resource group: 1 for the state that holds.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            let all = GroupState::ALL.iter().map(|state| state.name());
            rows.states(labels, all, group.state().name());
        });
    },
);

pub(super) const STATE_CODE: Family = Family::gauge(
    "vedette_group_state_code",
    "State of a resource group as the MIB's integer: 1 unknown, 2 online, 3 offline, \
     4 acquiring, 5 releasing, 6 error, 7 unmanaged.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            rows.add(labels, f64::from(group.state().code()));
        });
    },
);

pub(super) const OWNER: Family = Family::gauge(
    "vedette_group_owner",
    "Whether a node has something of a resource group; while the answering node does not know the \
     cluster, 1 where it has something itself and 0 everywhere else.",
    |scrape, rows| {
        each_node(scrape, rows, |rows, labels, group, node| {
            rows.flag(labels, group.instances.contains_key(&node));
        });
    },
);

pub(super) const STANDBYS: Family = Family::gauge(
    "vedette_group_standby_nodes",
    "Nodes that would take a resource group now and do not have it; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, name, group| {
            rows.count(labels, standbys(scrape.view, name, group).map(|nodes| nodes.len()));
        });
    },
);

pub(super) const MULTIPLE_ACTIVE: Family = Family::gauge(
    "vedette_group_multiple_active",
    "Whether something of a resource group was seen to run on a node that does not have the group; NaN \
     where that is not known, as of a node that is not there, on which a monitor gives no answer, or from \
     which it was taken over without proof that all of it had ended.",
    |scrape, rows| {
        each_node(scrape, rows, |rows, labels, group, node| {
            let seen = group.also.get(&node);
            let doubtful = seen.is_some_and(|it| scrape.view.state.doubt(node, it).is_some());
            let state = &scrape.view.state;
            let unseen = |resource: &String| state.is_unseen(group, resource, node);
            let doubtful =
                doubtful || (seen.is_none() && group.resource_numbers.keys().any(unseen));
            let runs = known(scrape, seen.is_some()).filter(|_| !doubtful);
            rows.flag_if_known(labels, runs);
        });
    },
);

pub(super) const BLOCKED: Family = Family::gauge(
    "vedette_group_blocked",
    "Whether nothing is done about a resource group until an operator says so; NaN where that is not \
     known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            rows.flag_if_known(labels, known(scrape, group.blocked.is_some()));
        });
    },
);

pub(super) const WAITS_FOR_EVIDENCE: Family = Family::gauge(
    "vedette_group_waits_for_evidence",
    "Whether nobody takes over a resource group yet, as nothing proves that a node that is not there has let go \
     of it; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, name, group| {
            let waits = waits_for_evidence(&scrape.view.state, name, group).is_some();
            rows.flag_if_known(labels, known(scrape, waits));
        });
    },
);

pub(super) const MAINTENANCE: Family = Family::gauge(
    "vedette_group_maintenance",
    "Whether a resource group is in maintenance: nothing is moved and nothing restarted; NaN where \
     that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            rows.flag_if_known(labels, known(scrape, group.maintenance));
        });
    },
);

pub(super) const WANTED_OFFLINE: Family = Family::gauge(
    "vedette_group_wanted_offline",
    "Whether an operator wants a resource group to be off; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            rows.flag_if_known(labels, known(scrape, group.is_wanted_off()));
        });
    },
);

pub(super) const FAILOVERS: Family = Family::counter(
    "vedette_group_failovers_total",
    "How many times a resource group was brought online on a node other than the last after a \
     failure.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| rows.add(labels, group.failovers as f64));
    },
);

pub(super) const CHANGES_OF_NODE: Family = Family::counter(
    "vedette_group_node_changes_total",
    "How many times a resource group was brought online on a node other than the last, by the \
     reason for which it had left that.",
    |scrape, rows| {
        let cluster = scrape.view.state.name.as_str();
        for (name, group) in &scrape.view.state.groups {
            let reasons = [
                ("failover", group.failovers),
                ("move", group.moves),
                ("failback", group.failbacks),
            ];
            for (reason, count) in reasons {
                let labels = [("cluster", cluster), ("group", name), ("reason", reason)];
                rows.add(&labels, count as f64);
            }
        }
    },
);

pub(super) const RESOURCE: Family = Family::gauge(
    "vedette_resource_state",
    "State of a resource on a node: 1 for the state that holds.",
    |scrape, rows| {
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            let all = ResourceState::ALL.iter().map(|state| state.name());
            rows.states(labels, all, state_of(scrape, group, resource, node).name());
        });
    },
);

pub(super) const RESOURCE_CODE: Family = Family::gauge(
    "vedette_resource_state_code",
    "State of a resource on a node as the MIB's integer: 1 unknown, 2 online, 3 offline, \
     4 starting, 5 stopping, 6 failed.",
    |scrape, rows| {
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            rows.add(labels, f64::from(state_of(scrape, group, resource, node).code()));
        });
    },
);

pub(super) const FAILS: Family = Family::gauge(
    "vedette_resource_failures",
    "Failures of a resource on a node since they ended or were cleared; NaN where that is not known.",
    |scrape, rows| {
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            let of = |fail: &&vedette_core::group::FailCount| {
                fail.node == node && fail.resource == resource
            };
            let count = group.fails.iter().filter(of).map(|fail| fail.count as usize).sum();
            rows.count(labels, known(scrape, count));
        });
    },
);

pub(super) const RESTARTS_LEFT: Family = Family::gauge(
    "vedette_resource_restarts_left",
    "How many times a resource would still be restarted in place on a node before its group moves; NaN \
     where that is not known.",
    |scrape, rows| {
        let state = &scrape.view.state;
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            let failed =
                group.fails.iter().find(|fail| fail.node == node && fail.resource == resource);
            let (_, name) = labels[1];
            let def = state.definition.group(name);
            let def = def.and_then(|def| def.resources.iter().find(|def| def.name == resource));
            let all = def.map_or(0, |def| def.restarts);
            let left = failed.map_or(all, |fail| state.restarts_left(name, fail));
            rows.count(labels, known(scrape, left as usize));
        });
    },
);

pub(super) const TOLERATED: Family = Family::gauge(
    "vedette_resource_tolerated_failures",
    "Failures in a row of a resource's monitor on a node that are tolerated now; NaN where that is not \
     known.",
    |scrape, rows| {
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            let now = seen_there(group, resource, node).map_or(0, |it| it.count as usize);
            rows.count(labels, known(scrape, now));
        });
    },
);

pub(super) const TOLERATED_TOTAL: Family = Family::counter(
    "vedette_resource_tolerated_failures_total",
    "Failures of a resource's monitor on a node that were tolerated since its group was acquired there; \
     absent where that is not known.",
    |scrape, rows| {
        each_resource(scrape, rows, |rows, labels, group, resource, node| {
            let total = seen_there(group, resource, node).map_or(0, |it| it.total);
            if let Some(total) = known(scrape, total) {
                rows.add(labels, total as f64);
            }
        });
    },
);

pub(super) const FLAPPING: Family = Family::gauge(
    "vedette_group_flapping",
    "Whether a resource group fails over again and again, so that its failures alert nobody; NaN where \
     that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            rows.flag_if_known(labels, known(scrape, group.flapping.is_some()));
        });
    },
);

pub(super) const CONFLICTS: Family = Family::counter(
    "vedette_address_conflicts_total",
    "How many times the answering process announced that a machine outside the cluster answers for a service \
     address, by the address's resource.",
    |scrape, rows| {
        let state = &scrape.view.state;
        for group in &state.definition.groups {
            for resource in &group.resources {
                if let ResourceKind::Address { .. } = resource.kind {
                    let (cluster, name) = (state.name.as_str(), resource.name.as_str());
                    let labels =
                        [("cluster", cluster), ("group", group.name.as_str()), ("resource", name)];
                    rows.add(&labels, scrape.surface.counters.conflicts(name) as f64);
                }
            }
        }
    },
);

pub(super) const GOES_BACK: Family = Family::gauge(
    "vedette_group_goes_back_timestamp_seconds",
    "When a resource group goes back to its home node at the earliest; absent if that is not planned, or \
     not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, _, group| {
            if let Some(planned) = group.goes_back.and_then(|planned| known(scrape, planned)) {
                rows.add(labels, planned.at.0 as f64 / 1e6);
            }
        });
    },
);

fn seen_there<'a>(group: &'a Group, resource: &str, node: NodeNumber) -> Option<&'a Tolerated> {
    group.instances.get(&node)?.resources.get(resource)?.tolerated.as_ref()
}

/// What is nowhere active is OFFLINE; what is active and not reported yet is UNKNOWN, and so is what is
/// on another node while the answering one does not know the cluster.
fn state_of(scrape: &Scrape<'_>, group: &Group, resource: &str, node: NodeNumber) -> ResourceState {
    match group.instances.get(&node) {
        None if group.out_of_sight && node != scrape.view.local.node => ResourceState::Unknown,
        None => match scrape.view.state.runs_besides(group, resource, node) {
            Some(true) => ResourceState::Online,
            Some(false) => ResourceState::Offline,
            None => ResourceState::Unknown,
        },
        Some(instance) => {
            instance.resources.get(resource).map_or(ResourceState::Unknown, |own| own.state)
        }
    }
}

fn each(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], &str, &Group),
) {
    let state = &scrape.view.state;
    for (name, group) in &state.groups {
        add(rows, &[("cluster", &state.name), ("group", name)], name, group);
    }
}

/// Every group on every node of its list, and wherever it is besides.
fn each_node(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], &Group, NodeNumber),
) {
    let state = &scrape.view.state;
    for (name, group) in &state.groups {
        for number in nodes_of(state.definition.group(name), group) {
            let node = state.node_name(number);
            let labels = [("cluster", state.name.as_str()), ("group", name), ("node", &node)];
            add(rows, &labels, group, number);
        }
    }
}

fn each_resource(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], &Group, &str, NodeNumber),
) {
    let state: &ClusterState = &scrape.view.state;
    for (name, group) in &state.groups {
        for number in nodes_of(state.definition.group(name), group) {
            let node = state.node_name(number);
            for resource in group.resource_numbers.keys() {
                let labels = [
                    ("cluster", state.name.as_str()),
                    ("group", name),
                    ("resource", resource),
                    ("node", &node),
                ];
                add(rows, &labels, group, resource, number);
            }
        }
    }
}

fn nodes_of(def: Option<&GroupDef>, group: &Group) -> Vec<NodeNumber> {
    let mut nodes: Vec<NodeNumber> = def.map_or_else(Vec::new, |def| def.nodes.clone());
    nodes.extend(group.instances.keys());
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
