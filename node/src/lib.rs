//! The shell that runs the core on a machine: guard, links, replicated log, peers, agent.

pub mod cgroup;
pub mod events;
pub mod fence;
pub mod guard;
pub mod hold;
pub mod identity;
pub mod join;
pub mod log;
pub mod netlink;
pub mod peers;
pub mod pki;
pub mod process;
pub mod resource;
pub mod transcript;
