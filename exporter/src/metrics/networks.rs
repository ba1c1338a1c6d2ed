//! Networks, interfaces and links.
//!
//! All links of a large cluster are too many for a scrape (their number grows with the square of
//! the nodes); a node exports the links it is an end of, and Prometheus, which scrapes every node,
//! has them all.

use vedette_core::id::NetworkNumber;
use vedette_core::model::{
    GroupStatus, Interface, InterfaceStatus, LinkStatus, Network, NetworkStatus,
};
use vedette_core::state::ClusterState;

use super::cluster::known;
use super::{Family, Rows, Scrape};

pub(super) const NETWORK: Family = Family::gauge(
    "vedette_network_status",
    "Status of a network as a whole: 1 for the status that holds.",
    |scrape, rows| {
        each_network(scrape, rows, |rows, labels, _, network| {
            let all = NetworkStatus::ALL.iter().map(|state| state.name());
            rows.states(labels, all, network.status.name());
        });
    },
);

pub(super) const NETWORK_CODE: Family = Family::gauge(
    "vedette_network_status_code",
    "Status of a network as the MIB's integer: 1 unknown, 2 up, 3 down.",
    |scrape, rows| {
        each_network(scrape, rows, |rows, labels, _, network| {
            rows.add(labels, f64::from(network.status.code()));
        });
    },
);

pub(super) const GROUP: Family = Family::gauge(
    "vedette_network_group_status",
    "Status of a network's membership group: 1 for the status that holds.",
    |scrape, rows| {
        each_network(scrape, rows, |rows, labels, number, _| {
            let all = GroupStatus::ALL.iter().map(|state| state.name());
            rows.states(labels, all, scrape.view.state.group_status(number).name());
        });
    },
);

pub(super) const MEMBERS: Family = Family::gauge(
    "vedette_network_members",
    "Nodes in a network's membership group; NaN where that is not known.",
    |scrape, rows| {
        each_network(scrape, rows, |rows, labels, _, network| {
            let port = scrape.view.state.ports.get(&network.name);
            let members = port.map_or(0, |port| port.members.len());
            rows.count(labels, known(scrape, members));
        });
    },
);

pub(super) const INTERFACE: Family = Family::gauge(
    "vedette_interface_status",
    "Status of a node's interface on a network: 1 for the status that holds.",
    |scrape, rows| {
        each_interface(scrape, rows, |rows, labels, own| {
            let all = InterfaceStatus::ALL.iter().map(|state| state.name());
            rows.states(labels, all, own.status.name());
        });
    },
);

pub(super) const INTERFACE_CODE: Family = Family::gauge(
    "vedette_interface_status_code",
    "Status of a node's interface as the MIB's integer: 1 unknown, 2 up, 3 down.",
    |scrape, rows| {
        each_interface(scrape, rows, |rows, labels, own| {
            rows.add(labels, f64::from(own.status.code()));
        });
    },
);

pub(super) const STANDBY: Family = Family::gauge(
    "vedette_standby_adapter_up",
    "Whether a standby adapter could take over; absent while nobody looks after it.",
    |scrape, rows| {
        let state = &scrape.view.state;
        for standby in state.standbys().filter(|it| it.status != InterfaceStatus::Unknown) {
            let (node, network) =
                (state.node_name(standby.node), state.network_name(standby.network));
            let labels = [
                ("cluster", state.name.as_str()),
                ("node", &node),
                ("network", &network),
                ("address", &standby.address.to_string()),
            ];
            rows.flag(&labels, standby.status == InterfaceStatus::Up);
        }
    },
);

pub(super) const LINK: Family = Family::gauge(
    "vedette_link_status",
    "Status of a link of the answering node: 1 for the status that holds.",
    |scrape, rows| {
        each_link(scrape, rows, |rows, labels, status| {
            rows.states(labels, LinkStatus::ALL.iter().map(|state| state.name()), status.name());
        });
    },
);

pub(super) const LINK_CODE: Family = Family::gauge(
    "vedette_link_status_code",
    "Status of a link of the answering node as the MIB's integer: 1 unknown, 2 up, 3 down, \
     4 one_way.",
    |scrape, rows| {
        each_link(scrape, rows, |rows, labels, status| {
            rows.add(labels, f64::from(status.code()));
        });
    },
);

fn each_network(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], NetworkNumber, &Network),
) {
    let state = &scrape.view.state;
    for (number, network) in &state.networks {
        add(rows, &[("cluster", &state.name), ("network", &network.name)], *number, network);
    }
}

fn each_interface(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], &Interface),
) {
    let state = &scrape.view.state;
    for node in state.nodes.values() {
        for (number, own) in &node.interfaces {
            let network = name_of(state, *number);
            let labels =
                [("cluster", state.name.as_str()), ("node", &node.name), ("network", network)];
            add(rows, &labels, own);
        }
    }
}

fn each_link(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], LinkStatus),
) {
    let (state, own) = (&scrape.view.state, scrape.view.local.node);
    let node = state.node_name(own);
    for link in &state.links {
        let peer = match own {
            own if own == link.low => link.high,
            own if own == link.high => link.low,
            _ => continue,
        };
        let peer = state.node_name(peer);
        let labels = [
            ("cluster", state.name.as_str()),
            ("node", &node),
            ("peer", &peer),
            ("network", name_of(state, link.network)),
        ];
        add(rows, &labels, link.status);
    }
}

pub(super) fn name_of(state: &ClusterState, number: NetworkNumber) -> &str {
    state.networks.get(&number).map_or("unknown", |network| network.name.as_str())
}
