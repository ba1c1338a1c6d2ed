//! Whole clusters in a virtual world: the real core, simulated wires, disks, processes and time.
//!
//! Every node runs the product's own [`Topology`](vedette_core::topology::Topology) (with its
//! lease), [`Director`](vedette_core::director::Director) and
//! [`ClusterState`](vedette_core::state::ClusterState). What surrounds them is simulated: datagrams
//! that are delayed, lost, reordered and replayed, connections that need a path both ways, a
//! replicated log that commits with a majority and changes its leader after two election times,
//! scripts that take a while, processes that are killed and stopped, disks that are wiped.
//!
//! Time jumps from event to event, and everything random comes from one seed, so a run of half a
//! minute takes some milliseconds and a failure is repeated by its seed alone. After every event
//! the invariants are checked ([`checks`]); after a phase of faults all of them are removed, and
//! the cluster must heal within a bound.
//!
//! What is alive on a machine is one thing and what is believed of it another: `kernel` has the processes of
//! each resource, with stop programs that lie and hang, processes that escape their control groups, services
//! that are started by hand; `twice` says that nothing runs on two nodes, and which exceptions there are;
//! `delay` says how long one stuck group may hold up another.
//!
//! Whether the harness would notice is shown by [`Bug`]: mistakes that one could make, put in on
//! purpose, each of which must be found.

mod active_groups;
mod agents;
mod chaos;
mod checks;
mod conduct;
mod consensus;
mod delay;
mod enforcers;
mod executors;
mod guards;
mod journals;
mod kernel;
mod log;
mod node;
mod rng;
mod sightings;
pub mod story;
mod tidy;
mod twice;
mod wires;
mod world;

pub use chaos::{Figures, run, run_traced, search};
pub use world::{Setup, Violation, World};

/// A mistake that is put in on purpose, to see whether the invariants find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A recorded beat of an earlier run is taken for a new one.
    ReplayAccepted,
    /// A link is held for working when only one direction does.
    OneDirectionSuffices,
    /// The word of a single observer that was stopped itself is taken for a fact.
    SuspectBelieved,
    /// An observer need not be asked again: a single missed beat is a death.
    NoDetectionTime,
    /// The director asks nobody but itself.
    OnlyOwnReport,
    /// An entry of the log is applied a second time.
    AppliedTwice,
    /// An entry of the log is passed over.
    EntrySkipped,
    /// A new director takes the cluster for one that has just started.
    ContinuityLost,
    /// A cluster that has just started is taken for one that ran.
    ContinuityInvented,
    /// The id of a command is not looked at.
    RepeatNotNoticed,
    /// Alerts are run by everybody, claimed or not.
    ClaimIgnored,
    /// An alert whose runner died is not claimed again.
    ClaimNeverRenewed,
    /// A leader commits without a majority.
    MinorityCommits,
    /// A silent node is never declared DOWN.
    SilenceIgnored,
    /// A node that comes back is not declared UP.
    ReturnIgnored,
    /// A node whose lease is over goes on as if it had one.
    LeaseIgnored,
    /// A node whose lease was over for a while goes on with what it had before.
    EpochIgnored,
    /// A guard says that it has let go before it has.
    EpochTooEarly,
    /// A guard does not say which groups are not let go of.
    RemainsUnsaid,
    /// A director takes a node's groups away as soon as it is DOWN.
    TakeoverAtOnce,
    /// A second node may have a group without anybody's evidence.
    EvidenceForged,
    /// Silence that the director's own guard attests is taken for the silence of all voters.
    SilenceOfOne,
    /// A node takes its own vote for that of a majority.
    OwnVoteSuffices,
    /// A stop is over when its program says so; nobody asks whether the resource is off.
    StopBelieved,
    /// Nobody looks for what runs where it should not.
    NoSightings,
    /// What outlives a lease is left to itself: no stop program is run.
    StopNotRun,
    /// A lease is evidence for everything, though the configuration is strict.
    StrictIgnored,
    /// What maintenance left running is taken over as if its lease were over.
    LeftTakenOver,
    /// There is no third process that acts when guard and agent are stopped.
    ReaperAbsent,
    /// An event that failed does not step aside for others.
    FailedNotAside,
    /// One whose programs run for long does not either.
    SlowNotAside,
    /// A node that is back waits until the event of its failure is over.
    JoinWaits,
}

impl Bug {
    /// Every one.
    pub const ALL: [Self; 32] = [
        Self::ReplayAccepted,
        Self::OneDirectionSuffices,
        Self::SuspectBelieved,
        Self::NoDetectionTime,
        Self::OnlyOwnReport,
        Self::AppliedTwice,
        Self::EntrySkipped,
        Self::ContinuityLost,
        Self::ContinuityInvented,
        Self::RepeatNotNoticed,
        Self::ClaimIgnored,
        Self::ClaimNeverRenewed,
        Self::MinorityCommits,
        Self::SilenceIgnored,
        Self::ReturnIgnored,
        Self::LeaseIgnored,
        Self::EpochIgnored,
        Self::EpochTooEarly,
        Self::RemainsUnsaid,
        Self::TakeoverAtOnce,
        Self::EvidenceForged,
        Self::SilenceOfOne,
        Self::OwnVoteSuffices,
        Self::StopBelieved,
        Self::NoSightings,
        Self::StopNotRun,
        Self::StrictIgnored,
        Self::LeftTakenOver,
        Self::ReaperAbsent,
        Self::FailedNotAside,
        Self::SlowNotAside,
        Self::JoinWaits,
    ];
}
