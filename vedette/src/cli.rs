//! The command line: what can be asked, and by which words.
//!
//! Nouns take verbs (`vedette node add n2`). Every command that shows something does so as a table
//! for people or, with `-o json`, as the very document the daemon gave. What can take a service away or
//! cannot be taken back says first what will happen and asks ([`ask`]). What is so already is no failure:
//! to repeat an order is harmless, ends with 0 and says that nothing had to be done.
//!
//! The exit status is 0 if all is fine, 1 if something is degraded or was refused, 2 for a failure
//! and 3 if nobody knows, so that every command can serve as a Nagios check.

mod alert;
mod aside;
mod ask;
mod client;
mod complete;
mod config;
mod context;
mod document;
mod edit;
mod event;
mod fail;
mod follow;
mod form;
mod group;
mod history;
mod host;
mod incident;
mod manage;
mod network;
mod node;
mod resource;
mod rules;
#[cfg(test)]
mod screens;
mod snapshot;
mod status;
mod text;
mod transcript;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use nix::sys::signal::{SigHandler, Signal, signal};

use context::Context;
use fail::{Failure, Result, UNKNOWN};

/// Watches a high-availability cluster from inside.
#[derive(Debug, Parser)]
#[command(
    name = "vedette",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 fine, 1 degraded or refused, 2 failure, 3 unknown.\n\n\
        Examples:\n  \
        vedette status                 what is wrong, at 3 a.m.\n  \
        vedette status --watch         the same, live\n  \
        vedette group list             what runs where\n  \
        vedette incident show          the last failure, step by step\n  \
        vedette node add n2            admit a second node\n  \
        vedette event list -o json     for a program to read\n  \
        vedette demo                   a whole cluster on this machine, to try things"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The control socket of the daemon to talk to [default: as configured]
    #[arg(long, global = true, value_name = "SOCKET", help_heading = "Global options")]
    control: Option<PathBuf>,
    /// The configuration of this node [default: /etc/vedette/vedette.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// The directory of this node's state [default: as configured]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    state_dir: Option<PathBuf>,
    /// How to show the answer
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM",
        help_heading = "Global options"
    )]
    output: Output,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// The document, as the daemon gave it.
    Json,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is wrong, and what it rests on
    Status(status::StatusArgs),
    /// List, show, add and delete nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Show networks and their membership groups
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Show links: every node on every network, every path between two nodes
    #[command(subcommand)]
    Link(network::LinkCommand),
    /// Show ports: named memberships with a generation
    #[command(subcommand)]
    Port(network::PortCommand),
    /// List, show, move, take offline resource groups; say where they would go
    #[command(subcommand)]
    Group(group::GroupCommandLine),
    /// Show what happened, and what the cluster manager is doing about it
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Show failures with everything that was done about them
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// List and show all that programs printed on this node
    #[command(subcommand)]
    Transcript(transcript::TranscriptCommand),
    /// Continue an event in which a command failed
    #[command(subcommand)]
    Recover(manage::RecoverCommand),
    /// Show, edit and test the error alert script
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// Check, show, load and roll back rules: which recovery program answers which event
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Read, compare and verify the history
    #[command(subcommand)]
    History(history::HistoryCommand),
    /// Check, show and change the configuration: this node's file, settings, the cluster's document
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Save the whole configuration as one text, compare it, put it in force again
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Verify the configuration on every node, and list single points of failure
    Verify(verify::VerifyArgs),
    /// Form a new cluster with this node as its first member
    Init(form::InitArgs),
    /// Join a cluster with a token that one of its members issued
    Join(form::JoinArgs),
    /// Start a waiting cluster with the nodes that are there
    Seed(form::SeedArgs),
    /// Stop the cluster manager of a node: its groups leave it, its daemon goes on
    Stop(manage::StopArgs),
    /// Start the cluster manager of a node again
    Start(manage::StartArgs),
    /// Begin or end maintenance: nothing is moved and nothing restarted
    Maintenance(manage::MaintenanceArgs),
    /// End the daemon of this node, after handing over what runs here
    Leave(manage::LeaveArgs),
    /// What event scripts have the agent do
    #[command(hide = true)]
    Resource(resource::ResourceArgs),
    /// Run the daemon of this node
    Daemon(DaemonArgs),
    /// The part of the daemon that the guard starts
    #[command(hide = true)]
    Agent(DaemonArgs),
    /// Start a whole cluster on this machine, to try things
    Demo(crate::demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// `vedette daemon`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette daemon\n  \
    vedette --config ./n1.toml daemon")]
struct DaemonArgs {}

/// `vedette completions`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette completions bash > /etc/bash_completion.d/vedette\n  \
    vedette completions zsh > ~/.zfunc/_vedette")]
struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// What is said beside an answer that has something UNKNOWN in it.
const NOT_KNOWN: &str = "vedette: this node does not know the present state of the cluster; beside what is \
    UNKNOWN stands what it knew last.\n\
    Ask another node, or see what is missing: vedette status.";

/// Runs the command that the program was started with.
pub(crate) fn main() -> ExitCode {
    complete::answer_shell();
    let Cli { global, command } = parse(std::env::args_os());
    let status = matches!(command, Command::Status(_));
    let context = Context::new(global);
    match run(&context, command) {
        // Whatever was shown, some of it was UNKNOWN.
        Ok(_) if context.showed_unknown() => {
            if !status {
                aside::note(NOT_KNOWN);
            }
            ExitCode::from(UNKNOWN)
        }
        Ok(exit) => ExitCode::from(exit),
        Err(failure) => {
            // Whoever asks how things are and gets no answer does not know, which is no failure.
            let failure = if status { failure.exiting(UNKNOWN) } else { failure };
            aside::failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Cli {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).unwrap_or_else(|error| {
        // What does not parse was not taken apart, so its words are looked at.
        if error.use_stderr() && asks_for_json(&arguments) {
            aside::speak_json();
            aside::failure(&misused(&error));
            std::process::exit(error.exit_code());
        }
        error.exit()
    })
}

/// Whether the words ask for JSON.
fn asks_for_json(words: &[OsString]) -> bool {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let apart = words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]));
    apart || words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
}

/// A command that cannot be understood: what is wrong, then what helps.
fn misused(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let what = what.trim().trim_start_matches("error: ");
    let advice: Vec<&str> = rest.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    Failure::failed(what, advice.join(" "))
}

/// Carries out one command; answers its exit status.
fn run(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Daemon(_) => {
            return daemon(context);
        }
        Command::Agent(_) => return agent(context),
        Command::Demo(arguments) => {
            return crate::demo::run(&arguments).map(|()| 0).map_err(demo_failed);
        }
        _ => die_with_the_pipe(),
    }
    match command {
        Command::Status(arguments) => status::run(context, &arguments),
        Command::Node(command) => node::run(context, command),
        Command::Network(command) => network::run_network(context, command),
        Command::Link(command) => network::run_link(context, command),
        Command::Port(command) => network::run_port(context, command),
        Command::Event(command) => event::run(context, command),
        Command::Alert(command) => alert::run(context, command),
        Command::Rules(command) => rules::run(context, command),
        Command::History(command) => history::run(context, command),
        Command::Config(command) => config::run(context, command),
        Command::Snapshot(command) => snapshot::run(context, command),
        Command::Verify(arguments) => verify::run(context, &arguments),
        Command::Init(arguments) => form::init(context, &arguments),
        Command::Join(arguments) => form::join(context, &arguments),
        Command::Seed(arguments) => form::seed(context, &arguments),
        Command::Group(command) => group::run(context, command),
        Command::Incident(command) => incident::run(context, command),
        Command::Transcript(command) => transcript::run(context, command),
        Command::Recover(command) => manage::recover(context, command),
        Command::Stop(arguments) => manage::stop(context, &arguments),
        Command::Start(arguments) => manage::start(context, &arguments),
        Command::Maintenance(arguments) => manage::maintenance(context, &arguments),
        Command::Leave(arguments) => manage::leave(context, &arguments),
        Command::Resource(arguments) => resource::run(context, &arguments),
        Command::Completions(arguments) => completions(context, arguments.shell),
        Command::Daemon(_) | Command::Agent(_) | Command::Demo(_) => Ok(0),
    }
}

/// Starts logging, then the agent, which may change the level later.
fn daemon(context: &Context) -> Result<u8> {
    let config = context.config()?;
    crate::logging::start(config.log).map_err(daemon_failed)?;
    // The agent is started with the same options under its own name.
    let arguments = std::env::args_os()
        .skip(1)
        .map(|argument| if argument == "daemon" { "agent".into() } else { argument })
        .collect();
    crate::daemon::guard_main(config, arguments).map(|()| 0).map_err(daemon_failed)
}

fn agent(context: &Context) -> Result<u8> {
    let config = context.config()?;
    let level = crate::logging::start(config.log).map_err(daemon_failed)?;
    crate::daemon::agent_main(config, level).map(|()| 0).map_err(daemon_failed)
}

fn daemon_failed(error: anyhow::Error) -> Failure {
    let needs_operator = error.is::<crate::daemon::NeedsOperator>();
    let text = format!("{error:#}");
    // The sentences come from where the reason was found: what and why, then what to do.
    let (what, advice) = text.split_once(". ").unwrap_or((&text, "Its log says more."));
    let failure = Failure::failed(format!("the daemon ended: {what}"), advice);
    if needs_operator { failure.exiting(crate::daemon::EXIT_CONFIG) } else { failure }
}

fn demo_failed(error: anyhow::Error) -> Failure {
    Failure::failed(
        format!("the demo ended: {error:#}"),
        "vedette demo --help shows what it takes.",
    )
}

fn completions(context: &Context, shell: Shell) -> Result<u8> {
    context.print_bytes(&complete::script(&shell.to_string())?)?;
    Ok(0)
}

/// `vedette … | head` ends quietly when head has seen enough, as every other filter does.
fn die_with_the_pipe() {
    // SAFETY: the default action replaces no handler that anybody relies on.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.ok();
}

#[cfg(test)]
mod tests;
