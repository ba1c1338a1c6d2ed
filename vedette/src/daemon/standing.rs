//! How this node stands: what it may say of itself, worked out from its guard's report, the log's
//! leadership and the state.
//!
//! Two questions need care. *May this node claim to know the cluster?* Only while its guard holds a
//! lease *and* has heard a director with a majority behind it lately. The lease alone, which a majority of guards
//! grants whether there is a director or not, is what its resources stand on. *Did this node take part in
//! the running cluster?* (`continuity`, which tells a new director that the cluster did not start
//! from nothing.) That is settled whenever it is adopted under the office of the present director: a
//! state read from disk may say "seeded" although everybody was away in between. It outlives a lost
//! lease (a switch that restarts does not make the cluster start anew) and, in the guard, the agent.

use vedette_core::id::NodeNumber;
use vedette_core::local_view::Local;
use vedette_core::model::{AgentStatus, HostStatus};
use vedette_core::observation::Report;
use vedette_core::state::ClusterState;
use vedette_node::log::{Disk, Leadership};
use vedette_node::peers::Deleted;

/// What is known at a moment.
pub(crate) struct Facts<'a> {
    pub(crate) me: NodeNumber,
    pub(crate) state: &'a ClusterState,
    pub(crate) leadership: &'a Leadership,
    pub(crate) report: Option<&'a Report>,
    /// Whether its disk takes entries of the log. Without them it can do nothing that it is told.
    pub(crate) disk: &'a Disk,
    /// Who says that this node was deleted, if anybody does and nobody takes it in.
    pub(crate) deleted: Option<Deleted>,
}

/// What this run of the agent knows from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// It was adopted.
    pub(crate) running: bool,
    /// It took part in the running cluster.
    pub(crate) continuity: bool,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) lease: bool,
    pub(crate) quorate: bool,
    pub(crate) director: bool,
    pub(crate) host: HostStatus,
    pub(crate) agent: AgentStatus,
    pub(crate) stage: &'static str,
    pub(crate) waiting_for: String,
    pub(crate) continuity: bool,
}

impl Standing {
    /// Works it out.
    pub(crate) fn of(facts: &Facts<'_>, past: Past) -> Self {
        let Facts { me, state, leadership, report, disk, deleted } = facts;
        let lease = report.is_some_and(|report| report.lease);
        let quorate = lease && report.is_some_and(|report| report.directed);
        let director = leadership.me && state.director == Some(*me);
        let in_office = leadership.leader.is_some() && state.term == leadership.term;
        let caught_up =
            leadership.last_applied > 0 && leadership.last_applied >= leadership.committed;
        let writes = **disk == Disk::Takes;
        let adopted = quorate && in_office && caught_up && writes;
        let running = (past.running && writes) || adopted;
        let stage = match (report, leadership.leader, running) {
            _ if deleted.is_some() && !quorate => DELETED,
            _ if matches!(disk, Disk::Refuses(_)) => "disk",
            (None, ..) => "topology",
            (_, None, false) => "log",
            (.., false) => "cluster",
            (.., true) => "running",
        };
        Self {
            lease,
            quorate,
            director: director && quorate,
            host: host(*report, lease),
            agent: if running { AgentStatus::Running } else { AgentStatus::Initializing },
            stage,
            waiting_for: waiting_for(facts, quorate),
            continuity: if adopted {
                state.seeded
            } else {
                past.continuity || report.is_some_and(|report| report.continuity)
            },
        }
    }

    /// What the next look has to know.
    pub(crate) fn past(&self) -> Past {
        Past { running: self.agent == AgentStatus::Running, continuity: self.continuity }
    }

    /// Puts it into what is shown.
    pub(crate) fn apply(&self, local: &mut Local) {
        (local.lease, local.quorate) = (self.lease, self.quorate);
        local.director = self.director;
        local.host = self.host;
        local.agent = self.agent;
        local.stage = self.stage;
        local.waiting_for.clone_from(&self.waiting_for);
    }
}

/// Stage of a node that was deleted, and is no member any more.
const DELETED: &str = "deleted";

/// A node that has peers and hears none of them is cut off (spec A8).
fn host(report: Option<&Report>, lease: bool) -> HostStatus {
    let Some(report) = report else { return HostStatus::Unknown };
    let alone = !report.peers.is_empty() && !report.links.iter().any(|link| link.inbound);
    if alone && !lease { HostStatus::Disconnected } else { HostStatus::Up }
}

/// For whom or what this node waits, in words (spec V10).
fn waiting_for(facts: &Facts<'_>, quorate: bool) -> String {
    let Facts { me, state, report, .. } = facts;
    let Some(report) = report else { return "its own guard".into() };
    if let Some(deleted) = facts.deleted.filter(|_| !quorate) {
        return format!("nothing: it was deleted, as {} says", state.node_name(deleted.by));
    }
    if let Disk::Refuses(why) = facts.disk {
        return format!("its disk: {why}");
    }
    if !quorate {
        let heard = |number: NodeNumber| {
            number == *me || report.links.iter().any(|link| link.peer == number && link.inbound)
        };
        let voters: Vec<_> = state.voters().collect();
        let silent: Vec<&str> = voters
            .iter()
            .filter(|node| !heard(node.number))
            .map(|node| node.name.as_str())
            .collect();
        let (all, needed) = (voters.len(), voters.len() / 2 + 1);
        let there = all - silent.len();
        let are = if there == 1 { "is" } else { "are" };
        let count = format!("{there} of {all} voters {are} there and {needed} are needed");
        return match (silent.is_empty(), there >= needed) {
            (true, _) => "a director".into(),
            (false, true) => format!("a director: {count}; {} not", silent.join(", ")),
            (false, false) => format!("a majority: {count}; {} not", silent.join(", ")),
        };
    }
    if !state.seeded {
        let missing: Vec<&str> =
            state.missing_nodes().iter().map(|node| node.name.as_str()).collect();
        let there = state.nodes.len() - missing.len();
        let wanted = usize::from(state.settings.seed_count).min(state.nodes.len());
        return format!("{} ({there} of {wanted} nodes are there)", missing.join(", "));
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::Fixture;
    use vedette_core::id::RaftId;

    use super::*;

    fn report(lease: bool, hears: &[u16]) -> Report {
        use vedette_core::id::{NetworkNumber, Session};
        use vedette_core::observation::{LinkView, PeerView};
        let link = |peer: &u16| LinkView {
            peer: NodeNumber(*peer),
            network: NetworkNumber(1),
            inbound: true,
            outbound: true,
            silent: None,
            rtt_us: None,
            lost: 0,
            received: 0,
        };
        let peer = |peer: u16| PeerView::unheard(NodeNumber(peer));
        Report {
            observer: NodeNumber(1),
            session: Session(1),
            sequence: 1,
            self_suspect: false,
            made_us: 0,
            lease,
            voters: 1,
            timing: None,
            directed: lease,
            epoch: 1,
            released: false,
            continuity: false,
            agent: AgentStatus::Running,
            position: 0,
            peers: vec![peer(2), peer(3)],
            links: hears.iter().map(link).collect(),
            interfaces: Vec::new(),
        }
    }

    fn leadership(term: u64) -> Leadership {
        Leadership {
            leader: Some(RaftId(1)),
            term,
            last_applied: 9,
            committed: 9,
            ..Leadership::default()
        }
    }

    /// V10, A8: without a majority the node says whom it misses, and that it is cut off.
    #[test]
    fn a_node_alone_says_so() {
        let fixture = Fixture::settled(3);
        let report = report(false, &[]);
        let facts = Facts {
            me: NodeNumber(1),
            state: &fixture.state,
            leadership: &Leadership::default(),
            report: Some(&report),
            disk: &Disk::Takes,
            deleted: None,
        };
        let standing = Standing::of(&facts, Past { running: true, continuity: true });
        assert_eq!(standing.host, HostStatus::Disconnected);
        assert!(!standing.quorate);
        assert_eq!(
            standing.waiting_for,
            "a majority: 1 of 3 voters is there and 2 are needed; n2, n3 not"
        );
    }

    fn settled(lease: bool, term: u64, past: Past) -> Standing {
        let fixture = Fixture::settled(3);
        let report = report(lease, &[2]);
        let facts = Facts {
            me: NodeNumber(1),
            state: &fixture.state,
            leadership: &leadership(fixture.state.term + term),
            report: Some(&report),
            disk: &Disk::Takes,
            deleted: None,
        };
        Standing::of(&facts, past)
    }

    /// F15: a node that was deleted says so, and not that it is cut off, until it is taken in again.
    #[test]
    fn a_deleted_node_says_so() {
        let fixture = Fixture::settled(3);
        let stage = |report: Report| {
            let by = Deleted { by: NodeNumber(2), at: Default::default() };
            let facts = Facts {
                me: NodeNumber(1),
                state: &fixture.state,
                leadership: &leadership(0),
                report: Some(&report),
                disk: &Disk::Takes,
                deleted: Some(by),
            };
            let standing = Standing::of(&facts, Past::default());
            (standing.stage, standing.waiting_for)
        };
        let (deleted, waits) = stage(report(false, &[]));
        assert_eq!((deleted, waits.as_str()), ("deleted", "nothing: it was deleted, as n2 says"));
        assert_ne!(stage(report(true, &[2])).0, "deleted");
    }

    /// F3: a node that cannot write what the cluster decides takes no part in it, though it has a lease.
    #[test]
    fn a_node_whose_disk_takes_nothing_takes_no_part() {
        let fixture = Fixture::settled(3);
        let report = report(true, &[2]);
        let standing = |disk: &Disk, running| {
            let facts = Facts {
                me: NodeNumber(1),
                state: &fixture.state,
                leadership: &leadership(fixture.state.term),
                report: Some(&report),
                disk,
                deleted: None,
            };
            Standing::of(&facts, Past { running, continuity: true })
        };
        let full = standing(&Disk::Refuses("the disk is full.".into()), true);
        assert_eq!((full.agent, full.stage), (AgentStatus::Initializing, "disk"));
        assert_eq!(full.waiting_for, "its disk: the disk is full.");
        assert!(full.quorate && full.continuity, "it holds what it has");
        for running in [false, true] {
            assert_eq!(standing(&Disk::Untried, running).agent, AgentStatus::Initializing);
            assert_eq!(standing(&Disk::Takes, running).agent, AgentStatus::Running);
        }
    }

    /// V10: a state from disk that says "seeded" does not make a cluster that has just started a
    /// running one: only an office of the present term does.
    #[test]
    fn continuity_needs_an_office_of_this_term() {
        let old = settled(true, 1, Past::default());
        assert!(!old.continuity && old.agent == AgentStatus::Initializing);
        assert_eq!(old.stage, "cluster");
        let present = settled(true, 0, Past::default());
        assert!(present.continuity && present.agent == AgentStatus::Running);
    }

    /// V10, A9: when the director's agent dies, and also when the whole network was away for a while,
    /// the others must be able to say that the cluster ran on.
    #[test]
    fn continuity_outlives_an_election_and_the_lease() {
        let before = settled(true, 0, Past::default()).past();
        let elected = settled(true, 1, before);
        assert!(elected.continuity);
        let without_lease = settled(false, 1, elected.past());
        assert!(without_lease.continuity && !without_lease.quorate);
        assert!(settled(true, 1, without_lease.past()).continuity);
    }
}
