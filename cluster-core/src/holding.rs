//! Self-fencing: what a node holds by its lease, and how all of it is let go of when the lease ends.
//!
//! A node may own service addresses, processes and data only while it has its lease ([`crate::lease`]). Everything
//! that decides about that is here, as machines without clocks, files or threads: the guard's [`Enforcer`], the
//! agent's [`LeaseWatch`] and its [`executor`], which acquires and releases, and what they go by and speak in. Drivers (threads of guard and agent, the simulator) carry
//! out what comes out.
//!
//! - [`Held`]: the things themselves, as values.
//! - [`Kept`]: the file that names them before they are acquired; [`Inheritance`]: what a guard that starts makes of it.
//! - [`Remaining`]: what of earlier epochs takes longer to go than others wait for.
//! - [`Hold`] and [`Holding`]: what an agent orders, and the answer.

mod enforcer;
pub mod executor;
mod held;
mod inheritance;
mod lease_watch;
mod remaining;
mod watchdog;

#[cfg(test)]
mod tests;

pub use enforcer::{
    Announcement, Enforcer, GateOrder, Input, JournalEntry, LeaseNow, Mistake, Output,
};
pub use held::{
    Data, Held, HeldAddress, HeldData, HeldProgram, Hold, Holding, Of, Place, Released,
};
pub use inheritance::{Inheritance, Kept};
pub use lease_watch::{LeaseWatch, WatchOutput};
pub use remaining::{Look, Progress, Remaining, ToLookAt};
pub use watchdog::WatchdogFacts;
