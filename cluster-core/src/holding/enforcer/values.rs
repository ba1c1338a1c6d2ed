//! What comes into the [`Enforcer`](super::Enforcer) and what comes out, as values.

use std::net::IpAddr;
use std::time::Duration;

use crate::holding::{Held, Hold, Holding, Look, Released, ToLookAt};
use crate::model::Timing;
use crate::takeover::Word;
use crate::time::Instant;

/// The lease at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseNow {
    /// Its end; none before the first grant.
    pub until: Option<Instant>,
    /// How many times it had ended before it was granted again.
    pub lapses: u64,
}

/// Inputs of the [`Enforcer`](super::Enforcer).
#[derive(Clone, Debug)]
pub enum Input {
    /// The node's identity, as the name of its gate's tables, and its timers.
    Configure {
        /// Name of the tables.
        table: String,
        /// Timers.
        timing: Timing,
    },
    /// The lease, as the heartbeat knows it.
    Lease {
        /// The lease.
        lease: LeaseNow,
        /// A number that changes while the heartbeat turns.
        turns: u64,
    },
    /// An order, which the journal has already.
    Hold(Box<Hold>),
    /// An order that could not be written to the journal.
    Unwritten {
        /// Its sequence.
        sequence: u64,
        /// The reason, as a sentence.
        why: String,
    },
    /// An agent is there and listens, or it is gone.
    Agent(bool),
    /// Reason why there is no reaper, or that there is one.
    Reaper(Option<String>),
    /// Answer to [`Output::Post`].
    Posted(Result<(), String>),
    /// Answer to [`Output::Gate`], except to [`GateOrder::Close`] and [`GateOrder::Remove`].
    Gate(Result<(), String>),
    /// Answer to [`Output::Release`]; with the moment at which the reaper had let go of everything already, if it had.
    Released(Released, Option<Instant>),
    /// Answer to [`Output::LookAt`].
    Looked(Look),
    /// The guard ends: everything is let go of.
    End,
}

/// Orders about the kernel's gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateOrder {
    /// Find out whether a gate can be raised under such a name.
    Attempt(String),
    /// Stand, from now on, before `known` addresses, and let `live` ones through until then.
    Guard {
        /// Name of the tables.
        table: String,
        /// All service addresses of the cluster here.
        known: Vec<IpAddr>,
        /// Those that this node has.
        live: Vec<IpAddr>,
        /// End of the lease.
        until: Option<Instant>,
    },
    /// Let these addresses through until then, and no others.
    Open {
        /// Addresses that this node has.
        live: Vec<IpAddr>,
        /// End of the lease.
        until: Option<Instant>,
    },
    /// Let nothing through.
    Close,
    /// Go away: everything passes.
    Remove,
}

/// Entries of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEntry {
    /// An epoch began: nothing is held.
    Epoch {
        /// The epoch.
        epoch: u64,
        /// Whatever of those before was not seen to be gone.
        remaining: Held,
    },
    /// That changed.
    Remaining(Held),
    /// Name of the kernel's tables.
    Gate(String),
    /// The order that was handed in last is answered: this is held, and nothing else.
    Held(Held),
    /// Everything was let go of, and the gate is gone.
    Ended,
}

/// Announcements to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// An answer, or what an agent that connects finds.
    Holding(Box<Holding>),
    /// The lease was granted again. An agent that does not listen now need not hear it: there is another one soon.
    Lease {
        /// Its end.
        until: Instant,
    },
    /// The lease ended and everything was let go of, but for what is named.
    ReleasedAll {
        /// The new epoch.
        epoch: u64,
        /// When the lease had ended, in microseconds of the machine's clock; 0 if it was none.
        ended_us: u64,
        /// When the last of what was held was gone.
        released_us: u64,
        /// The reaper had done it, as the guard stood still.
        reaper: bool,
        /// Groups of which release programs or the agent still take something away.
        left: Vec<String>,
    },
    /// Something an operator should know, in two sentences.
    Warning {
        /// The sentences.
        text: String,
    },
}

/// Effects, to be carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write that down.
    Journal(JournalEntry),
    /// Let go of that; answered by [`Input::Released`].
    Release {
        /// Addresses and control groups.
        held: Held,
        /// Longest time for it.
        within: Duration,
    },
    /// Run and look at that; answered by [`Input::Looked`].
    LookAt(ToLookAt),
    /// Answered by [`Input::Gate`].
    Gate(GateOrder),
    /// Tell the reaper what there is to let go of; answered by [`Input::Posted`].
    Post(Held),
    /// Tell the reaper that the guard lets go of that now.
    Begin,
    /// Tell the reaper how long a release may take, in milliseconds.
    ReleaseMax(u64),
    /// Say in beats.
    Word(Word),
    /// Tell the agent.
    Tell(Announcement),
    /// Write a line to the local log.
    Log(String),
    /// Whether each grant of the lease is to be handed in.
    WantGrants(bool),
    /// Give the machine more time, by its watchdog.
    Pet,
    /// Let the heartbeat turn once, so that the watchdog sees that it can.
    Nudge,
    /// Stop the watchdog.
    CloseWatchdog,
    /// The end; whether everything was let go of.
    Ended(bool),
}

/// Mistakes that could be made here; each has to be found by the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The end of the lease is not looked at.
    LeaseIgnored,
    /// A lease that ended and was granted again goes on, and so does everything that was held.
    EpochIgnored,
    /// Beats name the next epoch before everything is let go of.
    EpochTooEarly,
    /// Beats do not name what remains of earlier epochs.
    RemainsUnsaid,
}
