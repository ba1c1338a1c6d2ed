//! What comes into the [`Executor`](super::Executor) and what comes out, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::GroupCommand;
use crate::duplicate::Hardware;
use crate::group::ResourceDef;
use crate::holding::Holding;
use crate::model::Timing;
use crate::state::ClusterState;
use crate::takeover::{Backing, Unreleased};
use crate::time::Instant;

/// Requests of a script about a group on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Start its resources in order.
    Acquire,
    /// Stop them in reverse.
    Release,
    /// Bring its addresses to an adapter that works (spec H26).
    Swap,
    /// Say how it is.
    Status,
}

/// It was done; a sentence for the script's output.
pub type Said = String;

/// It was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// One sentence of what and why.
    pub what: String,
    /// The exit status for the script: 0 if the group was left clean, because then the event goes on
    /// and the cluster tries another node; 2 if an operator is needed.
    pub exit: u8,
}

impl Stop {
    /// Nothing of the group is active here.
    pub fn clean(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: 0 }
    }

    /// Something may still be active, or it is not known.
    pub fn failed(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: 2 }
    }
}

/// A moment, as whoever drives the machine sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// On the clock that counts from the machine's start.
    pub at: Instant,
    /// The lease lasts: the agent's own watch over it says so ([`super::super::LeaseWatch`]).
    pub lease: bool,
}

/// The cluster as this node sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its state.
    pub state: Arc<ClusterState>,
    /// The agent runs, and its log is led by somebody: what the state says is of now.
    pub quorate: bool,
    /// The agent is RUNNING.
    pub running: bool,
    /// The guard has a lease; none if it has said nothing yet.
    pub lease: Option<bool>,
}

/// Facts that the guard states of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardFacts {
    /// The line behind it.
    pub backing: Backing,
    /// Reason why the watchdog that is configured does not stand behind it, if it does not.
    pub watchdog: Option<String>,
    /// Reason why there is no reaper, if there is none.
    pub reaper: Option<String>,
    /// Everything that was not let go of when the lease ended.
    pub unreleased: Unreleased,
    /// Something of earlier epochs is still let go of, and may be gone in a moment.
    pub goes_on: bool,
    /// The present one: what is held is held in one epoch; with the next, everything before it was let go.
    pub epoch: u64,
    /// The set of voters that its lease stands on.
    pub voters: u64,
    /// The timers that it goes by.
    pub timing: Option<Timing>,
}

impl From<&Holding> for GuardFacts {
    /// As the guard states them; voters and timers come with its reports.
    fn from(holding: &Holding) -> Self {
        Self {
            backing: holding.backing,
            watchdog: holding.watchdog.clone(),
            reaper: holding.reaper.clone(),
            unreleased: Unreleased {
                guard: holding.unreleased.clone(),
                groups: holding.stuck.clone(),
            },
            goes_on: holding.goes_on,
            epoch: holding.epoch,
            voters: 0,
            timing: None,
        }
    }
}

/// A group as it was started on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The instance's token.
    pub token: u64,
    /// The guard's epoch in which it is held.
    pub epoch: u64,
    /// Its resources, as they were defined when they were started.
    pub resources: Vec<ResourceDef>,
}

impl Started {
    /// A resource and all that was started after it.
    pub(super) fn from(&self, resource: &str) -> &[ResourceDef] {
        let place = self.resources.iter().position(|it| it.name == resource).unwrap_or(0);
        &self.resources[place..]
    }
}

/// Requests to the worker of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// From a script.
    Perform(Verb),
    /// The state asks for it: nothing of it may stay.
    CleanUp {
        /// The instance's token.
        token: u64,
    },
    /// It was online here when this agent started, or was left running in a new epoch of the guard.
    Adopt {
        /// The instance's token.
        token: u64,
    },
    /// The cluster lost sight of it while it was left running: it is looked at and taken up as it is.
    TakeUp {
        /// The instance's token.
        token: u64,
    },
    /// Nobody looks after it any more, and it goes on.
    Leave {
        /// The instance's token.
        token: u64,
    },
    /// It is not this node's any more.
    Drop {
        /// The instance's token.
        token: u64,
        /// The reason, for people.
        why: String,
    },
    /// Some of it runs here although it is not this node's.
    StopExtra {
        /// Names of those resources.
        resources: BTreeSet<String>,
    },
    /// Neighbours may have forgotten whose its addresses are.
    Announce,
    /// An address of it is on an adapter without a link, and there is a better place.
    Settle,
}

impl Op {
    /// Whether what is held is the same afterwards.
    pub(super) const fn changes_nothing(&self) -> bool {
        matches!(self, Self::Settle | Self::Announce | Self::Perform(Verb::Status | Verb::Swap))
    }
}

/// Operations on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it; nothing of it is left.
    Stop,
    /// Look whether it works.
    Monitor,
    /// Move its address to an adapter with a link, if it is on one without.
    Settle,
}

/// Outcome of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Words about it: of a success, or why it is none. Of [`Action::Settle`] none if nothing was to be done.
    pub said: String,
    /// It failed.
    pub failed: bool,
    /// Nothing was seen in time.
    pub late: bool,
    /// Another machine has the address that was started, and where it was heard.
    pub conflict: Option<(Hardware, String)>,
}

/// Inputs of the [`Executor`](super::Executor).
#[derive(Clone, Debug)]
pub enum Input {
    /// The cluster, as it is seen now.
    Seen(Seen),
    /// A report of the guard.
    Report {
        /// The set of voters that its lease stands on.
        voters: u64,
        /// The timers that it goes by.
        timing: Option<Timing>,
        /// It has a lease.
        lease: bool,
        /// It let go of everything, and took nothing since.
        released: bool,
    },
    /// The guard says what it holds: an answer, or what an agent that connects finds. `sequence` is that of an
    /// order, or 0; `refused` is why it is not followed.
    Holding {
        /// Facts of the guard; voters and timers are those of its latest report.
        facts: Box<GuardFacts>,
        /// Sequence of the order that it answers.
        sequence: u64,
        /// Reason why it is not followed.
        refused: Option<String>,
    },
    /// The guard let go of everything, and is in a new epoch.
    ReleasedAll {
        /// The new epoch.
        epoch: u64,
        /// Of some groups something is left.
        left: bool,
    },
    /// The guard is silent, and this agent let go by itself.
    LetGoWithoutGuard,
    /// A request; answered by [`Output::Answer`] with the same number.
    Ask {
        /// Number of the request; 0 if nobody waits for an answer.
        ask: u64,
        /// About which group.
        group: String,
        /// The request.
        op: Op,
    },
    /// Nobody waits for that answer any more.
    Forgotten {
        /// Number of the request.
        ask: u64,
    },
    /// Answer to [`Output::Do`].
    Done {
        /// Its number.
        id: u64,
        /// Its outcome.
        done: Done,
    },
    /// Answer to [`Output::LookOutside`].
    Outside {
        /// Its number.
        id: u64,
        /// Names of those resources.
        resources: BTreeSet<String>,
    },
    /// An order could not be handed to the guard.
    NotOrdered {
        /// Its sequence.
        sequence: u64,
        /// The reason.
        why: String,
    },
    /// Reports of a group up to that number were decided.
    Decided {
        /// Which group.
        group: String,
        /// Number of the last of them.
        number: u64,
    },
    /// A group that could not be stopped, and is nobody's work any more, was seen to be off.
    SeenOff {
        /// Which group.
        group: String,
    },
    /// The guard is to be told again what is held.
    Tell,
    /// The process ends: nothing that the lease covers may stay.
    End,
}

/// Everything that the lease is to cover, and what is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Comes back in the answer.
    pub sequence: u64,
    /// The guard's epoch.
    pub epoch: u64,
    /// Groups that end with the lease.
    pub covered: BTreeMap<String, Started>,
    /// Groups that are left running: their addresses are no business of the guard's.
    pub left: BTreeMap<String, Started>,
    /// Numbers of groups that this node has in this epoch.
    pub anew: BTreeSet<u16>,
}

/// Outputs of the [`Executor`](super::Executor).
#[derive(Clone, Debug)]
pub enum Output {
    /// Tell the guard; answered by [`Input::Holding`] or [`Input::NotOrdered`].
    Order(Box<Orders>),
    /// Do that; answered by [`Input::Done`].
    Do {
        /// Comes back in the answer.
        id: u64,
        /// Which group.
        group: String,
        /// The instance's token.
        token: u64,
        /// The operation.
        action: Action,
        /// Its resource.
        resource: Box<ResourceDef>,
    },
    /// Nobody waits for it any more: end it.
    Cancel {
        /// Number of the operation.
        id: u64,
    },
    /// See which resources no end of the lease ends; answered by [`Input::Outside`].
    LookOutside {
        /// Comes back in the answer.
        id: u64,
        /// Which group.
        group: String,
        /// As it was started.
        started: Box<Started>,
    },
    /// Tell neighbours where the address of a resource is.
    Announce(Box<ResourceDef>),
    /// Make the place where everything that a group starts will live.
    MakePlace(String),
    /// Take it away, if it is empty.
    RemovePlace(String),
    /// Tell the cluster, in the order of these numbers; answered by [`Input::Decided`].
    Report {
        /// Which group.
        group: String,
        /// Counts the reports of that group.
        number: u64,
        /// The report.
        command: Box<GroupCommand>,
    },
    /// What the guard covers again; proposed until it is decided, and answered by nobody.
    Covered(Box<GroupCommand>),
    /// A line for whoever asked, and for the log.
    Line {
        /// Number of the request; 0 if nobody asked.
        ask: u64,
        /// The line.
        text: String,
    },
    /// A request was done, or not.
    Answer {
        /// Its number.
        ask: u64,
        /// How it ended.
        said: Result<Said, Stop>,
    },
    /// What an earlier agent of this node had is let go of, and nobody has written that down.
    Missed {
        /// The guard's present epoch.
        epoch: u64,
        /// Which group.
        group: String,
        /// The instance's token.
        token: u64,
    },
    /// What cannot be let go of changed ([`Desk::stuck`](super::Desk::stuck)).
    Stuck,
    /// Something for the log.
    Note {
        /// Which group.
        group: String,
        /// The sentence.
        text: String,
        /// It is a fault.
        error: bool,
    },
}

/// Mistakes that could be made here; each has to be found by the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// What a lease ended is taken for gone: no stop program is run.
    StopNotRun,
    /// A group is acquired though the cluster knows of an earlier epoch of the guard only.
    EpochIgnored,
}
