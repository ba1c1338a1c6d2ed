//! What a node collects and keeps: the event history, the runs of the alert script, and the
//! documents that clinfo clients read.
//!
//! - [`history`]: every record of the cluster in SQLite, hash-chained, durable before announced.
//! - [`alerts`]: runs the error alert script with limits, and checks a new script's syntax.
//! - [`monitor`]: looks at this machine's resources, for user-defined events.
//! - [`clinfo`]: the documents that API clients and `--output json` show.

pub mod alerts;
pub mod clinfo;
pub mod history;
pub mod monitor;
