//! What the daemon logs, and how: lines for people or JSON, on standard error, from a level on
//! that can be changed while it runs (spec A13).
//!
//! The severities of the vocabulary are the levels: `error`, `warning`, `notice` (tracing's INFO)
//! and `informational` (DEBUG). Foreign crates are heard from `error` on only, and from `warning` on
//! at the level `informational`: what a library finds noteworthy about itself (a peer that does not
//! answer, say) is no news about the cluster.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use vedette_core::config::{LogConfig, LogFormat};
use vedette_core::model::Severity;

/// The crates of the product, as tracing's targets name them.
const OURS: [&str; 6] = [
    "vedette",
    "vedette_core",
    "vedette_node",
    "vedette_collector",
    "vedette_mib",
    "vedette_exporter",
];

/// Changes the level of a running daemon.
#[derive(Clone, Debug)]
pub(crate) struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// Logs from `level` on from now on.
    pub(crate) fn set(&self, level: Severity) {
        // The only error is that the subscriber is gone, at the end of the process.
        self.0.reload(targets(level)).ok();
    }
}

/// Starts logging.
///
/// # Errors
/// If logging was started already in this process.
pub(crate) fn start(config: LogConfig) -> anyhow::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(targets(config.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Human => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(LevelHandle(handle))
}

fn targets(level: Severity) -> Targets {
    let ours = filter(level);
    let theirs = ours.min(match level {
        Severity::Informational => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    });
    OURS.iter()
        .fold(Targets::new().with_default(theirs), |targets, name| targets.with_target(*name, ours))
}

fn filter(level: Severity) -> LevelFilter {
    match level {
        Severity::Error => LevelFilter::ERROR,
        Severity::Warning => LevelFilter::WARN,
        Severity::Notice => LevelFilter::INFO,
        Severity::Informational => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    /// A13: each level lets its own severity through and the next one not.
    #[test]
    fn levels_follow_the_severities() {
        let passes = |severity, target, level| targets(severity).would_enable(target, &level);
        assert!(passes(Severity::Error, "vedette_node::guard", Level::ERROR));
        assert!(!passes(Severity::Error, "vedette_node::guard", Level::WARN));
        assert!(passes(Severity::Notice, "vedette", Level::INFO));
        assert!(!passes(Severity::Notice, "vedette", Level::DEBUG));
        assert!(passes(Severity::Informational, "vedette", Level::DEBUG));
        assert!(!passes(Severity::Informational, "openraft", Level::INFO));
        assert!(passes(Severity::Informational, "openraft", Level::WARN));
        assert!(!passes(Severity::Notice, "openraft", Level::WARN));
        assert!(passes(Severity::Notice, "openraft", Level::ERROR));
    }
}
