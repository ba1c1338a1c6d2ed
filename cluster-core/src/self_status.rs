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

use std::time::Duration;

use crate::id::NodeNumber;
use crate::local_view::Local;
use crate::model::{AgentStatus, HostStatus};
use crate::observation::Report;
use crate::state::ClusterState;

/// A guard that was silent for less may only have been read late, on a busy machine.
const GUARD_SILENT: Duration = Duration::from_secs(1);

/// Disks, as the log finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// Nothing was written in this run yet.
    #[default]
    Untried,
    /// It took the last change.
    Takes,
    /// It takes nothing now, for that reason.
    Refuses(String),
}

/// The log as this node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSeen {
    /// This node leads it.
    pub leads: bool,
    /// Somebody does.
    pub led: bool,
    /// The term.
    pub term: u64,
    /// Index of the last entry applied here; 0 if there is none.
    pub applied: u64,
    /// Index of the last entry known to be committed; 0 if there is none.
    pub committed: u64,
}

/// Everything that is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct SelfFacts<'a> {
    /// This node.
    pub me: NodeNumber,
    /// The state on hand.
    pub state: &'a ClusterState,
    /// Its log.
    pub log: LogSeen,
    /// The latest report of its guard, as far as that is believed ([`as_believed`]).
    pub report: Option<&'a Report>,
    /// Whether its disk takes entries of the log. Without them it can do nothing that it is told.
    pub disk: &'a Disk,
    /// Another node that says that this one was deleted, if nobody takes it in.
    pub deleted: Option<NodeNumber>,
}

/// Whether a report that is so old says nothing of the lease any more: a guard that has said nothing for as long as one
/// lasts may be stopped, and what it said then is not of now. What may be believed of it then.
pub fn as_believed(report: &Report, silent: Duration, lease: Duration) -> Option<Report> {
    let stale = report.lease && silent >= lease.max(GUARD_SILENT);
    stale.then(|| Report { lease: false, directed: false, ..report.clone() })
}

/// Knowledge of this run of the agent from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// It was adopted.
    pub running: bool,
    /// It took part in the running cluster.
    pub continuity: bool,
}

/// Consequences for what this node may say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfStatus {
    /// Its guard has a lease.
    pub lease: bool,
    /// It has one, and has heard a director with a majority behind it lately: it may claim to know the cluster.
    pub quorate: bool,
    /// It is the director.
    pub director: bool,
    /// Status of its host.
    pub host: HostStatus,
    /// Status of its agent.
    pub agent: AgentStatus,
    /// Stage of its start, in one word.
    pub stage: &'static str,
    /// Whom or what it waits for, in words; empty if for nothing.
    pub waiting_for: String,
    /// It took part in the running cluster.
    pub continuity: bool,
}

impl SelfStatus {
    /// Works it out.
    pub fn of(facts: &SelfFacts<'_>, past: Past) -> Self {
        let SelfFacts { me, state, log, report, disk, deleted } = facts;
        let lease = report.is_some_and(|report| report.lease);
        let quorate = lease && report.is_some_and(|report| report.directed);
        let director = log.leads && state.director == Some(*me);
        let in_office = log.led && state.term == log.term;
        let caught_up = log.applied > 0 && log.applied >= log.committed;
        let writes = **disk == Disk::Takes;
        let adopted = quorate && in_office && caught_up && writes;
        let running = (past.running && writes) || adopted;
        let stage = match (report, log.led, running) {
            _ if deleted.is_some() && !quorate => DELETED,
            _ if matches!(disk, Disk::Refuses(_)) => "disk",
            (None, ..) => "topology",
            (_, false, false) => "log",
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
    pub fn past(&self) -> Past {
        Past { running: self.agent == AgentStatus::Running, continuity: self.continuity }
    }

    /// Puts it into what is shown.
    pub fn apply(&self, local: &mut Local) {
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
fn waiting_for(facts: &SelfFacts<'_>, quorate: bool) -> String {
    let SelfFacts { me, state, report, .. } = facts;
    let Some(report) = report else { return "its own guard".into() };
    if let Some(deleted) = facts.deleted.filter(|_| !quorate) {
        return format!("nothing: it was deleted, as {} says", state.node_name(deleted));
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
    use super::*;
    use crate::fixture::Fixture;

    fn report(lease: bool, hears: &[u16]) -> Report {
        use crate::id::{NetworkNumber, Session};
        use crate::observation::{LinkView, PeerView};
        let link = |peer: &u16| LinkView {
            peer: NodeNumber(*peer),
            network: NetworkNumber(1),
            inbound: true,
            outbound: true,
            silent: None,
            rtt_us: None,
            lost: 0,
            received: 0,
            narrow: false,
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

    fn led(term: u64) -> LogSeen {
        LogSeen { leads: false, led: true, term, applied: 9, committed: 9 }
    }

    /// V10, A8: without a majority the node says whom it misses, and that it is cut off.
    #[test]
    fn a_node_alone_says_so() {
        let fixture = Fixture::settled(3);
        let report = report(false, &[]);
        let facts = SelfFacts {
            me: NodeNumber(1),
            state: &fixture.state,
            log: LogSeen::default(),
            report: Some(&report),
            disk: &Disk::Takes,
            deleted: None,
        };
        let own = SelfStatus::of(&facts, Past { running: true, continuity: true });
        assert_eq!(own.host, HostStatus::Disconnected);
        assert!(!own.quorate);
        assert_eq!(
            own.waiting_for,
            "a majority: 1 of 3 voters is there and 2 are needed; n2, n3 not"
        );
    }

    fn settled(lease: bool, term: u64, past: Past) -> SelfStatus {
        let fixture = Fixture::settled(3);
        let report = report(lease, &[2]);
        let facts = SelfFacts {
            me: NodeNumber(1),
            state: &fixture.state,
            log: led(fixture.state.term + term),
            report: Some(&report),
            disk: &Disk::Takes,
            deleted: None,
        };
        SelfStatus::of(&facts, past)
    }

    /// F15: a node that was deleted says so, and not that it is cut off, until it is taken in again.
    #[test]
    fn a_deleted_node_says_so() {
        let fixture = Fixture::settled(3);
        let stage = |report: Report| {
            let facts = SelfFacts {
                me: NodeNumber(1),
                state: &fixture.state,
                log: led(0),
                report: Some(&report),
                disk: &Disk::Takes,
                deleted: Some(NodeNumber(2)),
            };
            let own = SelfStatus::of(&facts, Past::default());
            (own.stage, own.waiting_for)
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
        let own = |disk: &Disk, running| {
            let facts = SelfFacts {
                me: NodeNumber(1),
                state: &fixture.state,
                log: led(fixture.state.term),
                report: Some(&report),
                disk,
                deleted: None,
            };
            SelfStatus::of(&facts, Past { running, continuity: true })
        };
        let full = own(&Disk::Refuses("the disk is full.".into()), true);
        assert_eq!((full.agent, full.stage), (AgentStatus::Initializing, "disk"));
        assert_eq!(full.waiting_for, "its disk: the disk is full.");
        assert!(full.quorate && full.continuity, "it holds what it has");
        for running in [false, true] {
            assert_eq!(own(&Disk::Untried, running).agent, AgentStatus::Initializing);
            assert_eq!(own(&Disk::Takes, running).agent, AgentStatus::Running);
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
