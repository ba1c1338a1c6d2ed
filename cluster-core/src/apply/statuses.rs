//! Statuses of nodes, networks, interfaces and links, and what follows from them for the cluster.

use crate::command::Change;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{
    AgentStatus, ClusterStatus, HostStatus, InterfaceStatus, Link, LinkStatus, NetworkStatus, Node,
    Port, Severity, Substate,
};
use crate::record::{Code, Subject};
use crate::state::Silence;
use crate::time::WallTime;

use super::{ClusterState, Entry, RecordDraft, Refusal};

impl ClusterState {
    /// A new director. Without continuity nothing known of the nodes holds any more: the cluster
    /// has just started, and waits for its nodes (spec V10).
    pub(super) fn take_office(
        &mut self,
        entry: &mut Entry<'_>,
        director: NodeNumber,
        term: u64,
        continuity: bool,
    ) -> Result<bool, Refusal> {
        if term < self.term {
            return Err(Refusal::new(
                "old_term",
                format!("term {term} is over; the cluster is in term {}", self.term),
                "Nothing needs to be done.",
            ));
        }
        let previous = self.director.map(|node| self.node_name(node)).unwrap_or_default();
        let name = self.node_name(director);
        self.director = Some(director);
        if term > self.term {
            self.begin_office();
        }
        self.term = term;
        self.record(
            entry,
            RecordDraft::new(
                Code::DirectorElected,
                Severity::Notice,
                Subject::Cluster,
                format!("{name} is director"),
            )
            .change(&previous, &name)
            .because(format!("elected in term {term}")),
        );
        if !continuity {
            self.forget_statuses(entry);
            self.forget_manager(entry);
        }
        Ok(true)
    }

    fn forget_statuses(&mut self, entry: &Entry<'_>) {
        let at = entry.proposal.at;
        self.seeded = false;
        self.links.clear();
        for network in self.networks.values_mut() {
            network.status = NetworkStatus::Unknown;
            network.since = at;
        }
        for node in self.nodes.values_mut() {
            node.host = HostStatus::Unknown;
            node.host_since = at;
            node.host_cause = "the cluster has just started".into();
            node.agent = AgentStatus::Unknown;
            node.agent_since = at;
            for interface in node.interfaces.values_mut() {
                interface.forget(at);
            }
        }
    }

    /// What the director found. A change that is none (the status is what it was, or the object is
    /// gone) is passed over, so that two directors in a row may propose the same.
    pub(super) fn observe(&mut self, entry: &mut Entry<'_>, changes: &[Change]) -> bool {
        let mut changed = false;
        for change in changes {
            changed |= match change {
                Change::Host { node, to, planned, cause, silent_ms } => {
                    self.observe_host(entry, *node, *to, (*planned, *silent_ms), cause)
                }
                Change::Agent { node, to, cause } => self.observe_agent(entry, *node, *to, cause),
                Change::Network { network, to, cause } => {
                    self.observe_network(entry, *network, *to, cause)
                }
                Change::Interface { node, network, to, cause } => {
                    self.observe_interface(entry, *node, *network, *to, cause)
                }
                Change::Link { low, high, network, to, cause } => {
                    self.observe_link(entry, (*low, *high, *network), *to, cause)
                }
            };
        }
        changed
    }

    /// A host that goes away begins an incident, its return ends it; what happens to the node in
    /// between belongs to it.
    fn observe_host(
        &mut self,
        entry: &mut Entry<'_>,
        number: NodeNumber,
        to: HostStatus,
        (planned, silent_ms): (bool, Option<u64>),
        cause: &str,
    ) -> bool {
        let at = entry.proposal.at;
        let Some(from) = self.nodes.get(&number).map(|node| node.host) else { return false };
        if from == to {
            return false;
        }
        let went_away = matches!(to, HostStatus::Down | HostStatus::Disconnected);
        let vanished = to == HostStatus::Down && !planned;
        let begun = self
            .incident_of_loss(number)
            .or_else(|| vanished.then(|| self.incident_of_silence(entry.index, silent_ms))?)
            .unwrap_or(entry.index);
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        let incident = if went_away { node.incident.or(Some(begun)) } else { node.incident };
        node.host = to;
        node.host_since = at;
        node.host_cause = cause.into();
        node.left = went_away && planned;
        node.incident = if to == HostStatus::Up { None } else { incident };
        let severity = match to {
            HostStatus::Down | HostStatus::Disconnected if !planned => Severity::Error,
            HostStatus::Netpar => Severity::Warning,
            _ => Severity::Notice,
        };
        let message = format!("node {} is {to}", node.name);
        let agent = node.agent;
        let alert = from != HostStatus::Unknown || to != HostStatus::Up;
        let happening = RecordDraft::new(Code::NodeHost, severity, Subject::Node(number), message)
            .change(from, to)
            .because(cause)
            .alerting(alert)
            .of_incident(incident);
        self.record(entry, RecordDraft { duration_ms: silent_ms, ..happening });
        if let Some(incident) = incident.filter(|_| vanished) {
            let noticed_ms = self.timeline.elapsed_ms();
            let since_ms = noticed_ms.saturating_sub(silent_ms.unwrap_or(0));
            self.silence = Some(Silence { incident, since_ms, noticed_ms });
        }
        if went_away {
            self.host_went_away(entry, number, agent, incident);
        }
        true
    }

    /// Nothing is known any more of what is on a host that is not there.
    fn host_went_away(
        &mut self,
        entry: &mut Entry<'_>,
        number: NodeNumber,
        agent: AgentStatus,
        incident: Option<u64>,
    ) {
        let at = entry.proposal.at;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.agent = AgentStatus::Unknown;
            if agent != AgentStatus::Unknown {
                node.agent_since = at;
            }
            for interface in node.interfaces.values_mut() {
                interface.forget(at);
            }
        }
        for link in &mut self.links {
            if link.low == number || link.high == number {
                link.status = LinkStatus::Unknown;
                link.since = at;
            }
        }
        if agent != AgentStatus::Unknown {
            let name = self.node_name(number);
            self.record(
                entry,
                RecordDraft::new(
                    Code::NodeAgent,
                    Severity::Informational,
                    Subject::Node(number),
                    format!("agent of {name} is {}", AgentStatus::Unknown),
                )
                .change(agent, AgentStatus::Unknown)
                .because("its host is not there")
                .of_incident(incident),
            );
        }
    }

    fn observe_agent(
        &mut self,
        entry: &mut Entry<'_>,
        number: NodeNumber,
        to: AgentStatus,
        cause: &str,
    ) -> bool {
        let at = entry.proposal.at;
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        let from = node.agent;
        if from == to {
            return false;
        }
        node.agent = to;
        node.agent_since = at;
        let severity = match to {
            AgentStatus::Down | AgentStatus::Invalid => Severity::Warning,
            AgentStatus::Running => Severity::Notice,
            _ => Severity::Informational,
        };
        let alert = matches!(to, AgentStatus::Down | AgentStatus::Invalid);
        let message = format!("agent of {} is {to}", node.name);
        let incident = node.incident;
        self.record(
            entry,
            RecordDraft::new(Code::NodeAgent, severity, Subject::Node(number), message)
                .change(from, to)
                .because(cause)
                .alerting(alert)
                .of_incident(incident),
        );
        true
    }

    fn observe_network(
        &mut self,
        entry: &mut Entry<'_>,
        number: NetworkNumber,
        to: NetworkStatus,
        cause: &str,
    ) -> bool {
        let at = entry.proposal.at;
        let Some(network) = self.networks.get_mut(&number) else { return false };
        let from = network.status;
        if from == to {
            return false;
        }
        network.status = to;
        network.since = at;
        let severity = if to == NetworkStatus::Down { Severity::Error } else { Severity::Notice };
        let message = format!("network {} is {to}", network.name);
        self.record(
            entry,
            RecordDraft::new(Code::Network, severity, Subject::Network(number), message)
                .change(from, to)
                .because(cause)
                .alerting(from != NetworkStatus::Unknown),
        );
        match to {
            NetworkStatus::Down => self.interfaces_follow(entry, number),
            _ => self.interfaces_return(number, at),
        }
        self.network_changed(entry, number, (from, to), cause);
        true
    }

    /// A network that carries nobody takes the interfaces on it along: redundancy that carries nothing
    /// is none. That is one fault, which the network's record tells.
    fn interfaces_follow(&mut self, entry: &mut Entry<'_>, network: NetworkNumber) {
        let known = |node: &Node| {
            let own = node.interfaces.get(&network)?;
            (own.status != InterfaceStatus::Down).then_some(node.number)
        };
        let nodes: Vec<NodeNumber> = self.nodes_up().filter_map(known).collect();
        let cause = self.unreached(network);
        for node in nodes {
            self.observe_interface(entry, node, network, InterfaceStatus::Down, &cause);
        }
    }

    /// Nothing is known yet of interfaces that were DOWN with their network, once it works again: most
    /// of them return with it, and one that does not has a fault of its own.
    fn interfaces_return(&mut self, network: NetworkNumber, at: WallTime) {
        let interfaces = self.nodes.values_mut().filter_map(|n| n.interfaces.get_mut(&network));
        for interface in interfaces.filter(|interface| interface.with_network) {
            interface.forget(at);
        }
    }

    fn observe_interface(
        &mut self,
        entry: &mut Entry<'_>,
        number: NodeNumber,
        network: NetworkNumber,
        to: InterfaceStatus,
        cause: &str,
    ) -> bool {
        let at = entry.proposal.at;
        let dead = self.networks.get(&network).map(|it| it.status) == Some(NetworkStatus::Down);
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        let incident = node.incident;
        let Some(interface) = node.interfaces.get_mut(&network) else { return false };
        let from = interface.status;
        if from == to {
            return false;
        }
        let follows = to == InterfaceStatus::Down && dead;
        let followed = std::mem::replace(&mut interface.with_network, follows);
        interface.status = to;
        interface.since = at;
        let fails = to == InterfaceStatus::Down && !follows;
        let severity = if fails { Severity::Warning } else { Severity::Informational };
        let subject = Subject::Interface(number, network);
        let message = format!("interface {} is {to}", self.subject_name(&subject));
        let alert = fails || (from == InterfaceStatus::Down && !followed);
        self.record(
            entry,
            RecordDraft::new(Code::Interface, severity, subject, message)
                .change(from, to)
                .because(cause)
                .alerting(alert)
                .of_incident(incident),
        );
        if fails {
            self.swap_if_needed(entry, number, network, cause);
        }
        if to == InterfaceStatus::Up {
            let why = format!("{} is UP", self.subject_name(&Subject::Interface(number, network)));
            self.end_needless_of((number, network), entry, &why);
        }
        true
    }

    fn observe_link(
        &mut self,
        entry: &mut Entry<'_>,
        key: (NodeNumber, NodeNumber, NetworkNumber),
        to: LinkStatus,
        cause: &str,
    ) -> bool {
        let (low, high, network) = key;
        let known = [low, high].iter().all(|node| self.nodes.contains_key(node));
        if low >= high || !known || !self.networks.contains_key(&network) {
            return false;
        }
        let at = entry.proposal.at;
        let place = match self.links.binary_search_by_key(&key, Link::key) {
            Ok(place) => place,
            Err(place) => {
                let status = LinkStatus::Unknown;
                self.links.insert(place, Link { low, high, network, status, since: at });
                place
            }
        };
        let link = &mut self.links[place];
        let from = link.status;
        if from == to {
            return false;
        }
        link.status = to;
        link.since = at;
        let severity = match to {
            LinkStatus::Down | LinkStatus::OneWay => Severity::Warning,
            _ => Severity::Informational,
        };
        let subject = Subject::Link(low, high, network);
        let message = format!("link {} is {to}", self.subject_name(&subject));
        self.record(
            entry,
            RecordDraft::new(Code::Link, severity, subject, message)
                .change(from, to)
                .because(cause),
        );
        true
    }

    /// The cluster is seeded as soon as enough nodes are there with their agents.
    pub(super) fn settle_seeding(&mut self, entry: &mut Entry<'_>) {
        if self.seeded {
            return;
        }
        let there = self.nodes.len() - self.missing_nodes().len();
        let wanted = usize::from(self.settings.seed_count).min(self.nodes.len()).max(1);
        if there < wanted {
            return;
        }
        self.seeded = true;
        self.record(
            entry,
            RecordDraft::new(
                Code::ClusterSeeded,
                Severity::Notice,
                Subject::Cluster,
                format!("cluster {} is seeded", self.name),
            )
            .because(seeded_words(there, wanted)),
        );
    }

    pub(super) fn settle_cluster_state(&mut self, entry: &mut Entry<'_>) {
        let status = if self.seeded { ClusterStatus::Up } else { ClusterStatus::Down };
        let starting = |agent| matches!(agent, AgentStatus::Running | AgentStatus::Invalid);
        let unsettled: Vec<&str> = self
            .nodes_up()
            .filter(|node| !starting(node.agent))
            .map(|node| node.name.as_str())
            .collect();
        let (substate, cause) = match (self.manager_substate(), unsettled.is_empty()) {
            _ if !self.seeded => (Substate::Unstable, "waiting for nodes".to_owned()),
            (Some(busy), _) => busy,
            (None, true) => (Substate::Stable, String::new()),
            (None, false) => {
                (Substate::Unstable, format!("agent not running on {}", unsettled.join(", ")))
            }
        };
        let at = entry.proposal.at;
        if status != self.status {
            let from = std::mem::replace(&mut self.status, status);
            self.status_since = at;
            // A cluster that has just been formed is not up yet; that is no failure.
            let failed = status != ClusterStatus::Up && from != ClusterStatus::NotConfigured;
            let severity = if failed { Severity::Error } else { Severity::Notice };
            let message = format!("cluster {} is {status}", self.name);
            self.record(
                entry,
                RecordDraft::new(Code::ClusterState, severity, Subject::Cluster, message)
                    .change(from, status)
                    .alerting(from != ClusterStatus::NotConfigured),
            );
        }
        if substate != self.substate {
            let from = std::mem::replace(&mut self.substate, substate);
            self.substate_since = at;
            let message = format!("cluster {} is {substate}", self.name);
            self.record(
                entry,
                RecordDraft::new(
                    Code::ClusterSubstate,
                    Severity::Informational,
                    Subject::Cluster,
                    message,
                )
                .change(from, substate)
                .because(cause),
            );
        }
    }

    /// Port memberships follow from the statuses; a generation is the revision of the last change
    /// (spec V7). Every port is a subset of port `a`.
    pub(super) fn settle_ports(&mut self, index: u64) {
        let cluster = self.cluster.map(|id| id.to_string()).unwrap_or_default();
        let up: Vec<NodeNumber> = self.nodes_up().map(|node| node.number).collect();
        let running: Vec<NodeNumber> = self
            .nodes_up()
            .filter(|node| node.agent == AgentStatus::Running)
            .map(|node| node.number)
            .collect();
        let mut memberships = vec![
            ("a".to_owned(), "communication".to_owned(), up),
            ("h".to_owned(), format!("clstrmgr_{cluster}"), running),
        ];
        for (number, network) in &self.networks {
            let members = self
                .nodes_up()
                .filter(|node| {
                    node.interfaces
                        .get(number)
                        .is_some_and(|interface| interface.status == InterfaceStatus::Up)
                })
                .map(|node| node.number)
                .collect();
            memberships.push((network.name.clone(), format!("adapters_{}", network.name), members));
        }
        for (name, group, members) in memberships {
            let port = self.ports.entry(name).or_insert_with(|| Port {
                group,
                generation: index,
                members: Vec::new(),
            });
            if port.members != members {
                port.members = members;
                port.generation = index;
            }
        }
    }
}

/// How many nodes were there when the cluster was seeded.
fn seeded_words(there: usize, wanted: usize) -> String {
    let there_are = if there == 1 { "node is" } else { "nodes are" };
    let were = if wanted == 1 { "was" } else { "were" };
    format!("{there} {there_are} there, {wanted} {were} waited for")
}
