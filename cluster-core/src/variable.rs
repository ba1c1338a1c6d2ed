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
//! Nothing here knows where values come from. One node, the director, watches for all; one that
//! takes over begins armed, so what is wrong then is told once more rather than not at all.

mod instance;
mod names;
mod value;
mod watch;

pub use instance::{Instance, Pattern, VectorError};
pub use names::{BUILT_IN, Variable, advice, canonical, is_name, known};
pub use value::Value;
pub use watch::{Complaint, Fired, Observed, Reading, Watcher, Watchers};

#[cfg(test)]
mod tests;
