//! The shell that runs the core on a machine: guard, links, replicated log, peers, agent.

pub mod guard;
pub mod identity;
pub mod join;
pub mod log;
pub mod peers;
pub mod pki;
