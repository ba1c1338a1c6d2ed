//! What the agent does to a machine, done to this one: processes, addresses, mounts, volume groups,
//! agents of others. Needs root. Networks are namespaces that end with the thread that made them.

mod address;
mod application;
mod fence;
mod file_system;
mod ocf;
mod process;
mod release;
mod support;
mod systemd;
mod systemd_private;
mod volume_group;
