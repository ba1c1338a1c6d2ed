//! Is the host there? UP, DOWN or DISCONNECTED, or nothing that can be said (spec A8).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Change;
use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus, Node};

use super::words::{seconds, verb};
use super::{NEVER_HEARD_GRACE, Picture};

/// A status with its reason.
struct HostDiagnosis {
    to: HostStatus,
    planned: bool,
    cause: String,
    silent: Option<Duration>,
}

impl HostDiagnosis {
    fn new(to: HostStatus, cause: String) -> Option<Self> {
        Some(Self { to, planned: false, cause, silent: None })
    }
}

impl Picture<'_> {
    pub(super) fn host_changes(&self) -> Vec<Change> {
        self.state
            .nodes
            .values()
            .filter_map(|node| {
                let HostDiagnosis { to, planned, cause, silent } = self.host_diagnosis(node)?;
                let silent_ms = silent.and_then(|silent| u64::try_from(silent.as_millis()).ok());
                let changed = node.host != to;
                changed.then_some(Change::Host { node: node.number, to, planned, cause, silent_ms })
            })
            .collect()
    }

    fn host_diagnosis(&self, node: &Node) -> Option<HostDiagnosis> {
        let number = node.number;
        if number == self.me {
            return HostDiagnosis::new(HostStatus::Up, "it is the director".into());
        }
        if let Some(cause) = self.leaving(number) {
            let (to, silent) = (HostStatus::Down, None);
            return Some(HostDiagnosis { to, planned: true, cause, silent });
        }
        if let Some(cause) = self.reached(number) {
            return HostDiagnosis::new(HostStatus::Up, cause);
        }
        let heard_by = self.heard_by(number);
        match (self.fresh(number).is_some(), heard_by.is_empty()) {
            (true, false) => {
                let who = self.names(heard_by.iter().copied());
                let hear = verb(heard_by.len(), "hears", "hear");
                HostDiagnosis::new(
                    HostStatus::Up,
                    format!("its reports arrive, and {who} {hear} it"),
                )
            }
            // Its beats do not arrive, its reports do. While it holds its lease, that is a contradiction that
            // resolves itself; without, nothing can run there (finding X13).
            (true, true) => self.unheard(node),
            (false, false) => HostDiagnosis::new(
                HostStatus::Disconnected,
                format!(
                    "{} {} it, but nothing reaches it on any network",
                    self.names(heard_by.iter().copied()),
                    verb(heard_by.len(), "hears", "hear")
                ),
            ),
            (false, true) => self.silent(node),
        }
    }

    /// A node that was there and whose reports say that it has no lease, because nobody has heard its beats for as long
    /// as detection takes.
    fn unheard(&self, node: &Node) -> Option<HostDiagnosis> {
        let silent = |sight: &super::Sight| sight.silence().is_some_and(|it| it >= self.detect);
        let lost = node.host == HostStatus::Up
            && self.fresh(node.number).is_some_and(|own| !own.report.lease)
            && self.sights_of(node.number).iter().all(silent);
        let why =
            "its reports arrive, but nobody hears its beats on any network, so it has no lease";
        HostDiagnosis::new(HostStatus::Disconnected, why.into()).filter(|_| lost)
    }

    /// Who heard the node say that it leaves, unless it is there again in another run.
    fn leaving(&self, node: NodeNumber) -> Option<String> {
        let claims: Vec<(NodeNumber, Option<Session>)> = self
            .peer_views_of(node)
            .iter()
            .filter(|(_, _, view)| view.leaving)
            .map(|(observer, _, view)| (*observer, view.session))
            .collect();
        let (_, session) = *claims.first()?;
        let returned = self
            .peer_views_of(node)
            .iter()
            .any(|(_, _, view)| !view.leaving && view.session.is_some_and(|s| Some(s) != session));
        let reports = self.fresh(node).is_some_and(|own| Some(own.report.session) != session);
        if returned || reports {
            return None;
        }
        let who = self.names(claims.into_iter().map(|(observer, _)| observer));
        Some(format!("it told {who} that it leaves"))
    }

    /// Whether this observer takes the node for one that is on its way out.
    fn says_leaving(&self, observer: NodeNumber, node: NodeNumber) -> bool {
        self.peer_views_of(node).iter().any(|(who, _, view)| *who == observer && view.leaving)
    }

    /// Who reaches the node in both directions, and how.
    fn reached(&self, node: NodeNumber) -> Option<String> {
        let mut by: BTreeMap<NodeNumber, BTreeSet<NetworkNumber>> = BTreeMap::new();
        for sight in self.sights_of(node).iter().filter(|sight| sight.both_ways()) {
            if !self.says_leaving(sight.observer, node) {
                by.entry(sight.observer).or_default().insert(sight.view.network);
            }
        }
        if by.is_empty() {
            return None;
        }
        let networks: BTreeSet<NetworkNumber> = by.values().flatten().copied().collect();
        let reach = verb(by.len(), "reaches", "reach");
        Some(format!(
            "{} {reach} it over {}",
            self.names(by.into_keys()),
            self.network_names(networks)
        ))
    }

    fn heard_by(&self, node: NodeNumber) -> BTreeSet<NodeNumber> {
        self.sights_of(node)
            .iter()
            .filter(|sight| sight.view.inbound && !self.says_leaving(sight.observer, node))
            .map(|sight| sight.observer)
            .collect()
    }

    /// Why the node counts as silent: every healthy observer that watches it has heard nothing on
    /// any network for the detection time, and enough of them say so.
    fn silent(&self, node: &Node) -> Option<HostDiagnosis> {
        let sights = self.sights_of(node.number);
        let mut shortest: Option<Duration> = None;
        for sight in sights {
            let silence = sight.silence()?;
            shortest = Some(shortest.map_or(silence, |known| known.min(silence)));
        }
        let silence = shortest.filter(|silence| *silence >= self.detect)?;
        let never_heard = !sights.iter().any(super::Sight::ever_heard);
        if never_heard && node.host == HostStatus::Unknown {
            let witnesses = sights.iter().map(|sight| sight.observer).collect();
            let cause = self.never_came(node, witnesses)?;
            return HostDiagnosis::new(HostStatus::Down, cause);
        }
        let witnesses: BTreeSet<NodeNumber> = sights.iter().map(|sight| sight.observer).collect();
        if !self.enough(node.number, &witnesses, silence) {
            return None;
        }
        let networks: BTreeSet<NetworkNumber> =
            sights.iter().map(|sight| sight.view.network).collect();
        let see = verb(witnesses.len(), "sees", "see");
        let cause = format!(
            "silent on {} for {}, as {} {see} it",
            self.network_names(networks),
            seconds(silence),
            self.names(witnesses)
        );
        Some(HostDiagnosis { to: HostStatus::Down, planned: false, cause, silent: Some(silence) })
    }

    /// A member of which nothing was ever heard stays UNKNOWN for a while: it was just added, or
    /// the whole cluster is starting.
    fn never_came(&self, node: &Node, witnesses: BTreeSet<NodeNumber>) -> Option<String> {
        let unknown_for = self.evidence.unknown_for.get(&node.number).copied().unwrap_or_default();
        (unknown_for >= NEVER_HEARD_GRACE).then(|| {
            format!("{} never heard it in {}", self.names(witnesses), seconds(unknown_for))
        })
    }

    /// Whether the witnesses suffice: two, or as many as are left to ask. One alone suffices also
    /// when the others doubt themselves or cannot report, after twice the detection time.
    fn enough(
        &self,
        subject: NodeNumber,
        witnesses: &BTreeSet<NodeNumber>,
        silence: Duration,
    ) -> bool {
        let others: Vec<&Node> = self
            .state
            .nodes
            .values()
            .filter(|other| other.number != subject && self.can_be_asked(other))
            .collect();
        let needed = others.len().min(2);
        if self.evidence.in_office < self.detect
            && others.iter().any(|other| self.still_expected(other))
        {
            return false;
        }
        let patient = silence >= self.detect * 2;
        !witnesses.is_empty() && (witnesses.len() >= needed || patient)
    }

    /// Whether there is anybody there who could be a second witness.
    fn can_be_asked(&self, node: &Node) -> bool {
        let heard = || self.sights_of(node.number).iter().any(|sight| sight.view.inbound);
        let watched = !self.sights_of(node.number).is_empty();
        node.number == self.me
            || self.fresh(node.number).is_some()
            || (node.host == HostStatus::Up && (heard() || !watched))
    }

    /// A member that will report to a new director in a moment.
    fn still_expected(&self, node: &Node) -> bool {
        node.agent == AgentStatus::Running && self.fresh(node.number).is_none()
    }
}
