//! Resource variables: what monitors yield, and when a value becomes an event (spec H29 to H33).
//!
//! A [`Reading`] is the value of one *instance* of a variable, such as the number of `rwhod`
//! processes of root on node 5. A rule names a variable and a [`Pattern`] of instances; a
//! [`Watcher`] applies its predicate to each reading, instance by instance:
//!
//! ```text
//!             predicate holds: an event
//!    armed ─────────────────────────────▶ fired
//!      ▲                                    │
//!      └────────────────────────────────────┘
//!        rearm predicate holds (without one: the predicate does not hold any more)
//! ```
//!
//! Nothing here knows where values come from. Each node watches the instances that are its own, so
//! one node puts an event to the vote; what has fired is part of the replicated state, so that an
//! edge is one event, whoever dies or is restarted in between.

mod instance;
mod names;
mod value;
mod watch;

pub use instance::{Instance, Pattern, VectorError};
pub use names::{BUILT_IN, Variable, advice, canonical, is_name, known};
pub use value::Value;
pub use watch::{Complaint, Edge, Fired, Observed, Reading, Rearmed, Watcher, Watchers};

#[cfg(test)]
mod tests;
