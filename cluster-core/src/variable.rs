//! Resource variables: what monitors yield (spec H29 to H33).
//!
//! A [`Reading`] is the value of one *instance* of a variable, such as the number of `rwhod`
//! processes of root on node 5. A rule names a variable and a [`Pattern`] of instances;
//! [`watchers`](crate::watchers) say when a value becomes an event. Nothing here knows where values come
//! from.

mod instance;
mod names;
mod reading;
mod value;

pub use instance::{Instance, Pattern, VectorError};
pub use names::{BUILT_IN, Variable, advice, canonical, is_name, known};
pub use reading::Reading;
pub use value::Value;

#[cfg(test)]
mod tests;
