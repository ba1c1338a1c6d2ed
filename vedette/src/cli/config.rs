//! `vedette config`: this node's file, and the settings that the cluster shares (spec H3, A13, V10).
//! What concerns the cluster's configuration document is in [`super::document`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use vedette_collector::clinfo::finding::{CheckedDoc, FindingDoc};
use vedette_collector::clinfo::settings::{ConfigDoc, NodeConfigDoc, SettingsDoc};
use vedette_collector::clinfo::versions::DocumentHistoryDoc;
use vedette_core::command::Command;
use vedette_core::config::{Checked, Config};
use vedette_core::model::{Settings, Severity, Timing};

use super::ask::{self, Confirm};
use super::context::Context;
use super::document;
use super::event::severity;
use super::fail::{Failure, Result};
use super::text::{Style, Table, length, upper};

/// `vedette config`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette config check\n  \
    vedette config show\n  \
    vedette config apply cluster.toml\n  \
    vedette config set logging-level informational\n  \
    vedette config set heartbeat --interval 200ms --sensitivity 5")]
pub(crate) enum ConfigCommand {
    /// Check this node's file or a cluster's document: every finding at once, with line and advice
    Check(CheckArgs),
    /// Show what holds: this node's file with its defaults, the cluster's settings and document
    Show(ShowArgs),
    /// Show what a document would change, or what differs between two versions
    Diff(document::DiffArgs),
    /// Have a document verified by every node and put it in force while the cluster runs
    Apply(document::ApplyArgs),
    /// Edit the document in force
    Edit(document::EditArgs),
    /// List the versions of the document
    #[command(after_help = "Examples:\n  vedette config history\n  vedette config history -o json")]
    History,
    /// Put an earlier version of the document in force again
    Rollback(document::RollbackArgs),
    /// Change a setting of the whole cluster, while it runs
    #[command(subcommand)]
    Set(SetCommand),
}

/// `vedette config show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette config show\n  \
    vedette config show --document > cluster.toml\n  \
    vedette config show --version 3\n  \
    vedette config show -o json")]
pub(crate) struct ShowArgs {
    /// Print the cluster's document in force and nothing else
    #[arg(long, conflicts_with = "version")]
    document: bool,
    /// Print this version of the document, as it was given
    #[arg(long)]
    version: Option<u32>,
}

/// `vedette config check`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 0 if the file can be used, even with warnings, and 2 if not. Which of \
    the two kinds it is, is seen from its sections.\n\n\
    Examples:\n  vedette config check\n  vedette config check ./vedette.toml\n  \
    vedette config check ./cluster.toml"
)]
pub(crate) struct CheckArgs {
    /// The file [default: the one of --config]
    file: Option<PathBuf>,
}

/// `vedette config set`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette config set logging-level notice\n  \
    vedette config set heartbeat --interval 200ms --sensitivity 5\n  \
    vedette config set seed 3")]
pub(crate) enum SetCommand {
    /// What every daemon logs: error, warning, notice or informational
    LoggingLevel(LevelArgs),
    /// How often nodes beat, and how many missed beats count as silence
    Heartbeat(HeartbeatArgs),
    /// How many nodes a starting cluster waits for
    Seed(SeedArgs),
}

/// `vedette config set logging-level`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette config set logging-level informational")]
pub(crate) struct LevelArgs {
    /// error, warning, notice or informational
    #[arg(value_parser = severity)]
    level: Severity,
}

/// `vedette config set heartbeat`
#[derive(Debug, Args)]
#[command(
    after_help = "A silent node is declared down after interval x sensitivity. What does not fit \
    the other timers is refused.\n\n\
    Examples:\n  \
    vedette config set heartbeat --interval 200ms --sensitivity 5\n  \
    vedette config set heartbeat --profile fast --yes"
)]
#[command(arg_required_else_help = true)]
pub(crate) struct HeartbeatArgs {
    /// Time between two beats, such as 200ms
    #[arg(long, value_parser = ask::duration)]
    interval: Option<Duration>,
    /// Missed beats until a link is down
    #[arg(long)]
    sensitivity: Option<u64>,
    /// Set all timers to those of a profile first
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    #[command(flatten)]
    confirm: Confirm,
}

/// Timers that fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// A silent node is declared down after one second; for round trips of up to 60 ms.
    Default,
    /// A silent node is declared down after 0.2 s; for round trips of up to 8 ms.
    Fast,
    /// A silent node is declared down after four seconds; for round trips of up to 250 ms.
    Wide,
}

/// `vedette config set seed`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette config set seed 3")]
pub(crate) struct SeedArgs {
    /// How many nodes
    #[arg(value_parser = clap::value_parser!(u16).range(1..=999))]
    nodes: u16,
}

/// Carries out a command on the configuration.
pub(crate) fn run(context: &Context, command: ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Check(arguments) => check(context, &arguments),
        ConfigCommand::Show(ShowArgs { document: false, version: None }) => show(context),
        ConfigCommand::Show(arguments) => document::show_text(context, arguments.version),
        ConfigCommand::Diff(arguments) => document::diff(context, &arguments),
        ConfigCommand::Apply(arguments) => document::apply(context, &arguments),
        ConfigCommand::Edit(arguments) => document::edit(context, &arguments),
        ConfigCommand::History => document::history(context),
        ConfigCommand::Rollback(arguments) => document::roll_back(context, &arguments),
        ConfigCommand::Set(command) => set(context, &command),
    }
}

/// Which of the two kinds a file is that says nothing, nobody can tell.
fn refuse_empty(file: &Path) -> Result<()> {
    let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let text = std::fs::read_to_string(file);
    if text.is_err() || text.is_ok_and(|text| text.trim_start_matches('\u{feff}').lines().any(says))
    {
        return Ok(());
    }
    Err(Failure::failed(
        format!("{} is empty: there is nothing in it but blank lines and comments", file.display()),
        "A node's own file holds [cluster], [node] and a [[network]] for each network \
         (vedette init --help shows one); a cluster's document holds sections such as \
         [groups.NAME] (vedette config show --document prints the one in force).",
    ))
}

fn check(context: &Context, arguments: &CheckArgs) -> Result<u8> {
    let file = arguments.file.as_deref().unwrap_or(context.config_file());
    if let Some(text) = document::document_in(file) {
        return document::check(context, &file.display().to_string(), &text);
    }
    refuse_empty(file)?;
    let Checked { warnings, .. } = context.checked(file)?;
    if context.json() {
        let document = CheckedDoc { findings: FindingDoc::all(&warnings), ok: true };
        context.render(&document, |_| String::new())?;
    } else if warnings.0.is_empty() {
        context.print(&format!("{} is fine.\n", file.display()))?;
    } else {
        context.print(&format!("{} can be used, but:\n{warnings}\n", file.display()))?;
    }
    Ok(0)
}

fn show(context: &Context) -> Result<u8> {
    let Checked { config, .. } = context.checked(context.config_file())?;
    // Without a daemon the file is still worth seeing.
    let state = context.state().ok();
    let shared = state.as_ref().map(|state| &state.settings);
    let store = state.as_ref().map(|state| &state.documents);
    if context.json() {
        let document = ConfigDoc {
            cluster: shared.map(SettingsDoc::from),
            document: store.map(DocumentHistoryDoc::from),
            node: NodeConfigDoc::from(&config),
        };
        context.render(&document, |_| String::new())?;
    } else {
        context.print_screen(&screen(&config, shared, context.style))?;
        if let Some(active) = store.map(|store| store.active) {
            context.print(&format!("\n{}", document_line(active)))?;
        }
    }
    Ok(0)
}

/// Which document is in force, and how it is shown.
fn document_line(active: u32) -> String {
    match active {
        0 => "No document was applied yet; vedette config show --document prints what holds.\n"
            .into(),
        version => {
            format!("Document: version {version}; vedette config show --document prints it.\n")
        }
    }
}

/// Settings of the node in the order in which people are told them.
const OF_NODE: &[&str] = &[
    "name",
    "number",
    "cluster",
    "http",
    "agentx",
    "alert_user",
    "alert_mail_to",
    "log_level",
    "state_dir",
    "control",
];

/// Settings of the cluster in the order in which people are told them.
const OF_CLUSTER: &[&str] = &[
    "logging_level",
    "seed_count",
    "voters",
    "alert_timeout_ms",
    "interval_ms",
    "sensitivity",
    "raft_heartbeat_ms",
    "election_min_ms",
    "election_max_ms",
    "lease_ms",
    "release_max_ms",
];

/// What holds, for people.
pub(crate) fn screen(config: &Config, shared: Option<&Settings>, style: Style) -> String {
    let mut text = facts("THIS NODE", OF_NODE, &NodeConfigDoc::from(config)).render(style, 0);
    text.push('\n');
    let mut networks =
        Table::new(&["NO", "NETWORK", "ADDRESS", "PRIORITY", "BEATS", "PEERS", "PING"]);
    for (number, network) in &config.networks {
        networks.row(vec![
            (*number).into(),
            (&network.name).into(),
            (&network.address).into(),
            network.priority.into(),
            format!("udp {}", network.beat_port).into(),
            format!("tcp {}", network.peer_port).into(),
            network.ping.map_or("-".into(), |ping| ping.to_string()).into(),
        ]);
    }
    text.push_str(&networks.render(style, 0));
    text.push('\n');
    match shared {
        Some(settings) => {
            let settings = SettingsDoc::from(settings);
            text.push_str(&facts("CLUSTER", OF_CLUSTER, &settings).render(style, 0));
        }
        None => text.push_str("The cluster's settings are not known: no daemon answers.\n"),
    }
    text
}

/// The named facts of a document, one a line.
fn facts(title: &str, names: &[&str], document: &impl Serialize) -> Table {
    let document = serde_json::to_value(document).unwrap_or_default();
    let mut table = Table::new(&[title, ""]);
    for name in names {
        let value = match &document[*name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row(vec![(*name).into(), value.into()]);
    }
    table
}

fn set(context: &Context, command: &SetCommand) -> Result<u8> {
    let present = context.state()?.settings;
    let (command, sentence, same) = match command {
        SetCommand::LoggingLevel(arguments) => (
            Command::SetLoggingLevel(arguments.level),
            format!("every daemon logs from {} on", arguments.level),
            arguments.level == present.logging_level,
        ),
        SetCommand::Seed(arguments) => (
            Command::SetSeedCount(arguments.nodes),
            format!("a starting cluster waits for {} nodes", arguments.nodes),
            arguments.nodes == present.seed_count,
        ),
        SetCommand::Heartbeat(arguments) => {
            let timing = timing(arguments, present.timing)?;
            let beats = Duration::from_millis(timing.interval_ms);
            let (every, after) = (length(beats), length(timing.detect()));
            let same = timing == present.timing;
            if !same {
                let plan = format!(
                    "Nodes will beat every {every}, and a node is declared down after {after} of silence."
                );
                arguments.confirm.ask(&plan, "Set it?")?;
            }
            let sentence = format!("nodes beat every {every}; a node is silent after {after}");
            (Command::SetTiming(timing), sentence, same)
        }
    };
    if same {
        return context.unchanged(sentence);
    }
    let done = context.order(&command)?;
    context.done(&format!("{}.", upper(&sentence)), &done)
}

/// The timers after the change, or why it cannot be.
fn timing(arguments: &HeartbeatArgs, present: Timing) -> Result<Timing> {
    let base = match arguments.profile {
        None => present,
        Some(Profile::Default) => Timing::DEFAULT,
        Some(Profile::Fast) => Timing::FAST,
        Some(Profile::Wide) => Timing::WIDE,
    };
    let interval = arguments.interval.unwrap_or(Duration::from_millis(base.interval_ms));
    let sensitivity = arguments.sensitivity.unwrap_or(base.sensitivity);
    let milliseconds = u64::try_from(interval.as_millis());
    // The cluster refuses it as well, but of what was written this host knows how it was written.
    let interval_ms =
        milliseconds.ok().filter(|ms| (5..=60_000).contains(ms)).ok_or_else(|| {
            Failure::refused(
                format!("a beat every {} is out of range", length(interval)),
                "Use an interval of 5 ms to 60 s.",
            )
        })?;
    let timing = Timing { interval_ms, sensitivity: sensitivity.min(1_000_000), ..base };
    timing.check()?;
    Ok(timing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H3: interval and sensitivity; the timer contract refuses before anybody is asked.
    #[test]
    fn heartbeats_are_changed_within_the_timer_contract() {
        let arguments = |interval, sensitivity, profile| HeartbeatArgs {
            interval: Some(Duration::from_millis(interval)),
            sensitivity: Some(sensitivity),
            profile,
            confirm: Confirm { yes: true },
        };
        let slower = timing(&arguments(500, 4, None), Timing::DEFAULT).unwrap();
        assert_eq!((slower.interval_ms, slower.sensitivity, slower.lease_ms), (500, 4, 800));
        let refused = timing(&arguments(20, 5, None), Timing::DEFAULT).unwrap_err();
        assert_eq!(refused.exit, crate::cli::fail::REFUSED);
        assert!(refused.what.contains("election"), "{refused}");
        assert!(timing(&arguments(25, 9, Some(Profile::Fast)), Timing::DEFAULT).is_ok());
        assert!(timing(&arguments(u64::MAX, u64::MAX, None), Timing::DEFAULT).is_err());
        let slow = timing(&arguments(3_600_000, 5, None), Timing::DEFAULT).unwrap_err();
        assert_eq!(slow.what, "a beat every 1 h is out of range");
    }
}
