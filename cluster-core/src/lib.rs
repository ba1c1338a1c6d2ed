//! The cluster manager as pure logic.
//!
//! Nothing here can reach the world: no sockets, files, threads, clocks, randomness or async
//! runtime. Time, packets and commands come in as values; packets, proposals and records go out as
//! values. That is why the same code runs in a daemon, in a simulator with thousands of seeds and
//! in a golden text file, and why every node that applies the same log holds the same state.
//!
//! By topic; a module uses those of its own line and of lines above it:
//!
//! | Topic | Modules |
//! |---|---|
//! | vocabulary | [`id`], [`time`], [`refusal`], [`model`], [`group`], [`plan`], [`trigger`], [`reach`], [`takeover`] |
//! | what is written down | [`record`], [`local`] |
//! | a node's file, monitors and rules | [`config`], [`variable`], [`predicate`], [`rules`], [`tolerance`] |
//! | what a node sees by itself | [`wire`], [`observation`], [`lease`], [`topology`], [`duplicate`], [`log_health`], [`log_memory`] |
//! | the replicated state: its data, and what changes it | [`event`], [`command`], [`definition`], [`state`] |
//! | judgement: pure functions of the state | [`clock`], [`diagnosis`], [`document`], [`placement`], [`work`] |
//! | transitions of the state | [`apply`] |
//! | machines of a node: inputs, deadlines, outputs | [`holding`], [`runner`], [`watchers`], [`director`], [`step_down`] |
//! | what is shown | [`local_view`], [`self_status`], [`knowledge`], [`view`] |
//!
//! What is local differs between nodes; what is replicated is identical at equal revision: [`apply`] turns a committed
//! [`command::Command`] into a new state and [`record::Record`]s, and [`director`] turns observations into commands.
//! [`fixture`] is the example cluster of all tests.
//!
//! Data is below, transitions are above: what plans, judges and shows depends on [`state`] and not on
//! [`apply`], and no modules use each other in a circle.

pub mod apply;
pub mod clock;
pub mod command;
pub mod config;
pub mod definition;
pub mod diagnosis;
pub mod director;
pub mod document;
pub mod duplicate;
pub mod event;
pub mod fixture;
pub mod group;
pub mod holding;
pub mod id;
pub mod knowledge;
pub mod lease;
pub mod local;
pub mod local_view;
pub mod log_health;
pub mod log_memory;
pub mod model;
pub mod observation;
pub mod placement;
pub mod plan;
pub mod predicate;
pub mod reach;
pub mod record;
pub mod refusal;
pub mod rules;
pub mod runner;
pub mod self_status;
pub mod state;
pub mod step_down;
pub mod takeover;
pub mod time;
pub mod tolerance;
pub mod topology;
pub mod trigger;
pub mod variable;
pub mod view;
pub mod watchers;
pub mod wire;
pub mod work;
