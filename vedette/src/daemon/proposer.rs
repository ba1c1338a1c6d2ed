//! Proposing: from whichever node, to whoever leads the log.
//!
//! A proposal that gets no answer may or may not have been applied; it is proposed again with the
//! same id until an outcome is known or patience ends, which is harmless because `apply` knows the
//! ids it has seen.
//!
//! An attempt may wait for seconds, on a connection that a cut cable has stalled. So a command that says
//! how long ago something happened says that by the clock of who leads ([`Reading`]), and is made anew for
//! each attempt.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use vedette_core::command::{Command, Proposal, Tick};
use vedette_core::id::{CommandId, NodeNumber, Session};
use vedette_core::local_view::Local;
use vedette_core::local_view::lead;
use vedette_core::refusal::Refusal;
use vedette_core::state::Outcome;
use vedette_core::time::WallTime;
use vedette_core::view::View;
use vedette_node::log::{Log, ProposeError};
use vedette_node::peers::{Peers, kinds};

use super::local_log::boot_time_us;
use super::publisher::Publisher;

/// How long an operator's command may take before the answer is that nobody leads.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one attempt at another node may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long asking the leader for its clock may take: what is read is wrong by half of it at most.
const READING: Duration = Duration::from_millis(250);

/// The clock that people read.
pub(crate) fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What another node answers to a forwarded proposal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forwarded {
    /// It was applied, or refused.
    Done(Outcome),
    /// That node does not lead.
    NotLeader,
    /// The outcome is not known.
    Unknown,
}

/// Two clocks at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// That of the node that leads.
    pub(crate) leader: Tick,
    /// This node's own: microseconds since its machine started.
    pub(crate) own_us: u64,
}

/// How far this node's clock is ahead of the one by which the director dates entries, in microseconds, as
/// beats measured it.
pub(crate) fn ahead_of_entries(view: &View) -> Option<i64> {
    let clocks = view.local.clocks.now(own_clock_us());
    match view.state.director? {
        director if director == view.local.node => Some(-clocks.correction()),
        director => clocks.ahead_of_entries(director),
    }
}

/// What the clock shows now by which entries are dated, as far as a node knows that whose director is, or was
/// last, `director`: surfaces show it beside them.
pub(crate) fn cluster_time(local: &Local, director: Option<NodeNumber>) -> WallTime {
    WallTime(wall_time().0.saturating_sub(lead(local, director, Some(own_clock_us()))))
}

/// What this node's clock shows more than its monotonic one, in microseconds.
pub(crate) fn own_clock_us() -> i64 {
    wall_time().0.saturating_sub(i64::try_from(boot_time_us()).unwrap_or(i64::MAX))
}

/// Proposes for this node.
#[derive(Clone)]
pub(crate) struct Proposer {
    me: NodeNumber,
    session: Session,
    log: Log,
    peers: Peers,
    publisher: Arc<Publisher>,
}

impl Proposer {
    /// A proposer for the node `me`.
    pub(crate) fn new(
        (me, session): (NodeNumber, Session),
        log: Log,
        peers: Peers,
        publisher: Arc<Publisher>,
    ) -> Self {
        Self { me, session, log, peers, publisher }
    }

    /// A command as this node proposes it now.
    pub(crate) fn proposal(&self, id: CommandId, actor: &str, command: Command) -> Proposal {
        Proposal { id, at: wall_time(), origin: self.me, actor: actor.into(), command, tick: None }
    }

    /// Proposes until an outcome is known.
    ///
    /// # Errors
    /// A refusal that says that nobody leads, if that stays so.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<Outcome, Refusal> {
        self.until_known(|| self.attempt(&proposal)).await
    }

    /// Proposes a command that says how long ago something happened, made anew for each attempt by what
    /// the clock of the leader shows then.
    ///
    /// # Errors
    /// A refusal that says that nobody leads, if that stays so.
    pub(crate) async fn propose_aged(
        &self,
        id: CommandId,
        actor: &str,
        command: impl Fn(Reading) -> Command,
    ) -> Result<Outcome, Refusal> {
        let command = &command;
        self.until_known(|| async move {
            let reading = self.read_clock().await?;
            self.attempt(&self.proposal(id, actor, command(reading))).await
        })
        .await
    }

    async fn until_known<F>(&self, attempt: impl Fn() -> F) -> Result<Outcome, Refusal>
    where
        F: Future<Output = Option<Outcome>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let _waiting = self.log.waits();
        loop {
            if let Some(outcome) = attempt().await {
                return Ok(outcome);
            }
            if Instant::now() >= deadline {
                return Err(self.nobody_leads());
            }
            // Woken by news about who leads; a short pause otherwise.
            let mut leadership = self.log.leadership();
            let _ = tokio::time::timeout(Duration::from_millis(30), leadership.changed()).await;
        }
    }

    async fn attempt(&self, proposal: &Proposal) -> Option<Outcome> {
        match self.leader()? {
            node if node == self.me => self.log.propose(self.stamped(proposal)).await.ok(),
            node => match self.forward(node, proposal).await? {
                Forwarded::Done(outcome) => Some(outcome),
                Forwarded::NotLeader | Forwarded::Unknown => None,
            },
        }
    }

    /// With the clocks of this node, which leads: times in the log are what most clocks show, however far
    /// its own is off, and the monotonic one tells how much passed.
    pub(crate) fn stamped(&self, proposal: &Proposal) -> Proposal {
        let view = self.publisher.views().borrow().clone();
        let clocks = view.local.clocks.now(own_clock_us());
        let correction_us = clocks.correction();
        let before = view.state.director.filter(|director| *director != self.me);
        let ahead_us = before
            .and_then(|director| clocks.ahead_of_entries(director))
            .map(|ahead_us| ahead_us.saturating_add(correction_us));
        Proposal {
            at: WallTime(wall_time().0.saturating_add(correction_us)),
            tick: Some(Tick { ahead_us, ..self.clock() }),
            ..proposal.clone()
        }
    }

    /// The monotonic clock by which this node stamps entries while it leads.
    pub(crate) fn clock(&self) -> Tick {
        Tick { run: self.session, us: boot_time_us(), ahead_us: None }
    }

    /// The clock of the node that leads. It showed that somewhere between question and answer.
    async fn read_clock(&self) -> Option<Reading> {
        let asked_us = boot_time_us();
        let leader = match self.leader()? {
            node if node == self.me => self.clock(),
            node => {
                let answer = self.peers.call(node, kinds::CLOCK, Vec::new(), READING).await.ok()?;
                serde_json::from_slice(&answer).ok()?
            }
        };
        Some(Reading { leader, own_us: asked_us.midpoint(boot_time_us()) })
    }

    /// What the clock shows by which the director dates entries, as far as this node knows: times that the
    /// log is to judge are by that clock, however far this node's own is off.
    pub(crate) fn cluster_time(&self) -> WallTime {
        self.publisher.clock()
    }

    async fn forward(&self, node: NodeNumber, proposal: &Proposal) -> Option<Forwarded> {
        let body = serde_json::to_vec(proposal).ok()?;
        let answer = self.peers.call(node, kinds::PROPOSE, body, ATTEMPT).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }

    /// Answers a proposal that another node forwarded.
    pub(crate) async fn serve(&self, proposal: Proposal) -> Forwarded {
        match self.log.propose(self.stamped(&proposal)).await {
            Ok(outcome) => Forwarded::Done(outcome),
            Err(ProposeError::NotLeader { .. }) => Forwarded::NotLeader,
            Err(ProposeError::Unknown | ProposeError::Stopped(_)) => Forwarded::Unknown,
        }
    }

    /// The node that leads, as far as this one knows.
    fn leader(&self) -> Option<NodeNumber> {
        let raft_id = self.log.leadership().borrow().leader?;
        let state = self.publisher.state();
        state.nodes.values().find(|node| node.raft_id == raft_id).map(|node| node.number)
    }

    fn nobody_leads(&self) -> Refusal {
        Refusal::new(
            "no_quorum",
            format!(
                "no majority of the cluster answered within {} s, so nothing can be decided",
                PATIENCE.as_secs()
            ),
            "See which nodes are missing: vedette status. Repeating the command is harmless.",
        )
    }
}
