//! Runs the core's director: feeds it, waits for its deadlines, and does what it says.
//!
//! One task owns the machine; everything that takes time (proposing, changing the log's members)
//! is done by tasks of its own that report back as inputs. The task decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use vedette_core::director::{ACTOR, Director, Input, Output};
use vedette_core::id::{CommandId, NodeNumber, RaftId, Session};
use vedette_core::state::ClusterState;
use vedette_core::time;
use vedette_node::log::{Leadership, Log, MembershipError};

use super::local_log::boot_time_us;
use super::proposer::Proposer;
use super::publisher::Publisher;

/// Inputs that may wait; reports of 128 nodes a few times over. A full queue drops reports, which
/// come again.
const QUEUE: usize = 1_024;

/// How long joining a node to the log, or taking it out, may take before it is tried again.
const MEMBERSHIP_PATIENCE: Duration = Duration::from_secs(20);

/// How long a change of voters is tried again; the director asks anew after ten seconds.
const VOTERS_PATIENCE: Duration = Duration::from_secs(8);

/// The pause before it is tried again.
const VOTERS_AGAIN: Duration = Duration::from_millis(50);

/// The way in.
#[derive(Clone)]
pub(crate) struct DirectorHandle(mpsc::Sender<Input>);

impl DirectorHandle {
    /// Tells the director something; what does not fit is dropped, and comes again.
    pub(crate) fn tell(&self, input: Input) {
        let _ = self.0.try_send(input);
    }
}

/// What the task needs.
pub(crate) struct DirectorDeps {
    pub(crate) me: NodeNumber,
    pub(crate) session: Session,
    pub(crate) log: Log,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    /// Whether this node's agent took part in the seeded cluster before.
    pub(crate) continuity: Arc<std::sync::atomic::AtomicBool>,
}

/// Starts the task.
pub(crate) fn start(deps: DirectorDeps) -> DirectorHandle {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let handle = DirectorHandle(sender);
    tokio::spawn(run(deps, handle.clone(), receiver));
    handle
}

async fn run(deps: DirectorDeps, handle: DirectorHandle, mut inputs: mpsc::Receiver<Input>) {
    // The clock of this node's guard: what reports say is compared with it.
    let now = || time::Instant::from_micros(boot_time_us());
    let mut director = Director::new(deps.publisher.state());
    let mut out = Vec::new();
    let mut views = deps.publisher.views();
    let mut leadership = deps.log.leadership();
    let mut seen = Leadership::default();
    let mut voters = Voters::default();
    let membership = Membership::start(&deps);
    loop {
        let deadline = director.deadline();
        tokio::select! {
            input = inputs.recv() => {
                let Some(input) = input else { return };
                director.handle(now(), input, &mut out);
            }
            changed = views.changed() => {
                if changed.is_err() { return }
                let state = views.borrow_and_update().state.clone();
                director.handle(now(), Input::State(state.clone()), &mut out);
                voters.tell(&mut director, &state, &seen, now(), &mut out);
                membership.look();
            }
            changed = leadership.changed() => {
                if changed.is_err() { return }
                let new = leadership.borrow_and_update().clone();
                follow(&deps, &mut director, (&seen, &new), now(), &mut out);
                seen = new;
                voters.tell(&mut director, &deps.publisher.state(), &seen, now(), &mut out);
                membership.look();
            }
            () = sleep_until(now(), deadline) => director.on_timeout(now(), &mut out),
        }
        for output in out.drain(..) {
            carry_out(&deps, &handle, output);
        }
    }
}

async fn sleep_until(now: time::Instant, deadline: Option<time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep(at - now).await,
        None => std::future::pending().await,
    }
}

/// Tells the director what changed about who leads and who votes.
fn follow(
    deps: &DirectorDeps,
    director: &mut Director,
    (old, new): (&Leadership, &Leadership),
    now: time::Instant,
    out: &mut Vec<Output>,
) {
    if new.me && (!old.me || old.term != new.term) {
        let continuity = deps.continuity.load(std::sync::atomic::Ordering::SeqCst);
        let elected = Input::Elected {
            term: new.term,
            me: deps.me,
            session: deps.session,
            own_continuity: continuity,
        };
        director.handle(now, elected, out);
    }
    if old.me && !new.me {
        director.handle(now, Input::Deposed, out);
    }
}

/// The voters that the director knows, by the numbers of their nodes.
#[derive(Default)]
struct Voters {
    told: Option<(u64, Vec<NodeNumber>)>,
}

impl Voters {
    /// Tells the director who votes, once in each term and when it changed. The log may know a member
    /// before the state knows its node: when a cluster is formed, its only voter is such a one.
    fn tell(
        &mut self,
        director: &mut Director,
        state: &ClusterState,
        log: &Leadership,
        now: time::Instant,
        out: &mut Vec<Output>,
    ) {
        if !log.me || log.joint {
            self.told = None;
            return;
        }
        let voters = (log.term, numbers(state, &log.voters));
        if self.told.as_ref() != Some(&voters) {
            director.handle(now, Input::Voters(voters.1.clone()), out);
            self.told = Some(voters);
        }
    }
}

fn numbers(state: &ClusterState, members: &BTreeSet<RaftId>) -> Vec<NodeNumber> {
    let votes = |node: &&vedette_core::model::Node| members.contains(&node.raft_id);
    state.nodes.values().filter(votes).map(|node| node.number).collect()
}

fn carry_out(deps: &DirectorDeps, handle: &DirectorHandle, output: Output) {
    match output {
        Output::Propose { id, command } => {
            let proposal = deps.proposer.proposal(id, ACTOR, command);
            let proposal = deps.proposer.stamped(&proposal);
            let (log, handle) = (deps.log.clone(), handle.clone());
            tokio::spawn(async move {
                let input = match log.propose(proposal).await {
                    Ok(outcome) => Input::Proposed { id, outcome },
                    Err(_) => Input::Lost { id },
                };
                // Must arrive: the director waits for it.
                let _ = handle.0.send(input).await;
            });
        }
        Output::SetVoters(voters) => {
            let state = deps.publisher.state();
            let ids: BTreeSet<RaftId> = voters
                .iter()
                .filter_map(|number| state.nodes.get(number))
                .map(|node| node.raft_id)
                .collect();
            let (log, handle) = (deps.log.clone(), handle.clone());
            tokio::spawn(async move {
                if let Err(error) = set_voters(&log, ids).await {
                    tracing::debug!(%error, "the voters were not changed");
                    let _ = handle.0.send(Input::VotersFailed).await;
                }
            });
        }
    }
}

/// Changes the voters. A node that is just joining the log cannot vote yet, and one change at a time
/// is made: both are over in a moment, so it is tried again for a while.
async fn set_voters(log: &Log, voters: BTreeSet<RaftId>) -> Result<(), MembershipError> {
    let deadline = Instant::now() + VOTERS_PATIENCE;
    loop {
        match log.set_voters(voters.clone()).await {
            Err(MembershipError::Busy | MembershipError::NotALearner { .. })
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(VOTERS_AGAIN).await;
            }
            result => return result,
        }
    }
}

/// Keeps the log's members what the state says: every node of the cluster follows the log, and
/// nobody else. Done by the leader, one change at a time.
struct Membership(Arc<tokio::sync::Notify>);

impl Membership {
    fn start(deps: &DirectorDeps) -> Self {
        let wake = Arc::new(tokio::sync::Notify::new());
        tokio::spawn(keep_members(deps.log.clone(), deps.publisher.clone(), wake.clone()));
        Self(wake)
    }

    /// Something changed that may need a change of members.
    fn look(&self) {
        self.0.notify_one();
    }
}

async fn keep_members(log: Log, publisher: Arc<Publisher>, wake: Arc<tokio::sync::Notify>) {
    loop {
        let _ = tokio::time::timeout(Duration::from_secs(1), wake.notified()).await;
        let leadership = log.leadership().borrow().clone();
        if !leadership.me {
            continue;
        }
        let state = publisher.state();
        if state.cluster.is_none() {
            continue;
        }
        let wanted: BTreeSet<RaftId> = state.nodes.values().map(|node| node.raft_id).collect();
        let present: BTreeSet<RaftId> =
            leadership.voters.union(&leadership.learners).copied().collect();
        if let Some(new) = wanted.difference(&present).next().copied() {
            let added = tokio::time::timeout(MEMBERSHIP_PATIENCE, log.add_learner(new)).await;
            tracing::debug!(member = %new, ?added, "a node joins the log");
        } else if let Some(old) = present.difference(&wanted).next().copied() {
            // A voter is made a learner by the director first; then it can go.
            if leadership.learners.contains(&old) || leadership.voters.len() > 1 {
                let removed = tokio::time::timeout(MEMBERSHIP_PATIENCE, log.remove(old)).await;
                tracing::debug!(member = %old, ?removed, "a node leaves the log");
            }
        }
    }
}

/// An id that nobody else draws.
pub(crate) fn fresh_id() -> CommandId {
    CommandId(uuid::Uuid::new_v4().into_bytes())
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::Fixture;

    use super::*;

    /// When a cluster is formed, the log knows its voter before the state knows the node.
    #[test]
    fn a_voter_is_told_when_its_node_is_known() {
        let settled = Fixture::settled(1).view(NodeNumber(1)).state.clone();
        let mut formed = (*settled).clone();
        formed.nodes.clear();
        let raft_id = settled.nodes[&NodeNumber(1)].raft_id;
        let log =
            Leadership { me: true, term: 1, voters: [raft_id].into(), ..Leadership::default() };
        let mut voters = Voters::default();
        let mut told = |state: &ClusterState, log: &Leadership| {
            let mut director = Director::new(settled.clone());
            voters.tell(&mut director, state, log, time::Instant::from_micros(0), &mut Vec::new());
            voters.told.clone().map(|(_, voters)| voters)
        };
        assert_eq!(told(&formed, &log), Some(vec![]));
        assert_eq!(told(&settled, &log), Some(vec![NodeNumber(1)]));
        // A change that began is over when the director is told again, whatever came of it.
        assert_eq!(told(&settled, &Leadership { joint: true, ..log.clone() }), None);
        assert_eq!(told(&settled, &log), Some(vec![NodeNumber(1)]));
        assert_eq!(told(&settled, &Leadership { me: false, ..log }), None);
    }
}
