//! Members: host and agent status, and what each is to the cluster.

use vedette_core::model::{AgentStatus, HostStatus, Node, Role};

use super::cluster::known;
use super::{Family, Rows, Scrape};

pub(super) const HOST: Family = Family::gauge(
    "vedette_node_host_status",
    "Status of a node's host: 1 for the status that holds.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, node| {
            rows.states(labels, HostStatus::ALL.iter().map(|state| state.name()), node.host.name());
        });
    },
);

pub(super) const HOST_CODE: Family = Family::gauge(
    "vedette_node_host_status_code",
    "Status of a node's host as the MIB's integer: 1 unknown, 2 up, 3 down, 4 disconnected, \
     5 netpar.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, node| rows.add(labels, f64::from(node.host.code())));
    },
);

pub(super) const AGENT: Family = Family::gauge(
    "vedette_node_agent_status",
    "Status of a node's agent: 1 for the status that holds.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, node| {
            let all = AgentStatus::ALL.iter().map(|state| state.name());
            rows.states(labels, all, node.agent.name());
        });
    },
);

pub(super) const AGENT_CODE: Family = Family::gauge(
    "vedette_node_agent_status_code",
    "Status of a node's agent as the MIB's integer: 1 unknown, 2 running, 3 down, \
     4 initializing, 5 invalid.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, node| rows.add(labels, f64::from(node.agent.code())));
    },
);

pub(super) const DIRECTOR: Family = Family::gauge(
    "vedette_director",
    "Whether a node is the director; 0 everywhere while the answering node does not know the cluster.",
    |scrape, rows| {
        let director = known(scrape, scrape.view.state.director).flatten();
        each(scrape, rows, |rows, labels, node| {
            rows.flag(labels, director == Some(node.number));
        });
    },
);

pub(super) const JEOPARDY: Family = Family::gauge(
    "vedette_node_in_jeopardy",
    "Whether only one of several interfaces is left to a node; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, node| {
            rows.flag_if_known(labels, known(scrape, scrape.view.state.in_jeopardy(node)));
        });
    },
);

pub(super) const VOTER: Family =
    Family::gauge("vedette_node_voter", "Whether a node votes.", |scrape, rows| {
        each(scrape, rows, |rows, labels, node| rows.flag(labels, node.role == Role::Voter));
    });

pub(super) const REAPER: Family = Family::gauge(
    "vedette_node_reaper_up",
    "Whether the guard of a node has its reaper, the third process that lets go when guard and agent \
     cannot; NaN where that is not known.",
    |scrape, rows| {
        let state = &scrape.view.state;
        each(scrape, rows, |rows, labels, node| {
            let member = state.manager.members.get(&node.number);
            let member = member.filter(|_| node.host == HostStatus::Up);
            let up = member.map(|member| member.reaper.is_none());
            rows.flag_if_known(labels, known(scrape, up).flatten());
        });
    },
);

/// Every node with its labels.
fn each(scrape: &Scrape<'_>, rows: &mut Rows, add: impl Fn(&mut Rows, &[(&str, &str)], &Node)) {
    let state = &scrape.view.state;
    for node in state.nodes.values() {
        add(rows, &[("cluster", &state.name), ("node", &node.name)], node);
    }
}
