//! `vedette rules`: which recovery program answers which event (spec H15 to H17).
//!
//! Rules and programs are files that people write; they are checked here, before anybody is asked,
//! and again by the cluster, which keeps every version and has one of them in force on every node.

mod check;
mod difference;
mod files;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vedette_collector::clinfo::versions::{RuleHistoryDoc, RulesDoc, program_from};
use vedette_core::command::Command;
use vedette_core::document;
use vedette_core::rules::{Rule, RuleStore, built_in, missing_nodes};
use vedette_core::state::ClusterState;
use vedette_core::variable;

use super::aside;
use super::ask::Confirm;
use super::context::Context;
use super::fail::{Failure, Result};
use super::text::{Cell, Style, Table, clean, clock};
use check::Monitors;
use files::Files;

/// The longest document that is read.
const MOST_DOCUMENT: u64 = 1 << 20;

/// `vedette rules`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette rules show\n  \
    vedette rules check ./rules --programs ./programs\n  \
    vedette rules load ./rules --programs ./programs --comment 'restart rwhod'\n  \
    vedette rules rollback 3")]
pub(crate) enum RulesCommand {
    /// Check a rules file and its recovery programs: every finding at once
    Check(CheckArgs),
    /// Show the rules in force, or the text of a version or program
    Show(ShowArgs),
    /// Put rules and recovery programs in force on every node, while the cluster runs
    Load(LoadArgs),
    /// Show what differs between the rules in force and others
    Diff(DiffArgs),
    /// List the versions of the rules
    #[command(after_help = "Examples:\n  vedette rules history\n  vedette rules history -o json")]
    History,
    /// Put an earlier version in force again
    Rollback(RollbackArgs),
}

/// A rules file, and where its programs are.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The rules file; - is standard input
    file: PathBuf,
    /// The folder of the recovery programs (*.rp) that are loaded along with it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// `vedette rules check`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 0 if the rules can be loaded, even with warnings, and 2 if not.\n\n\
    Examples:\n  \
    vedette rules check ./rules\n  \
    vedette rules check ./rules --programs ./programs\n  \
    vedette rules check ./rules --document ./cluster.toml"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    files: FileArgs,
    /// The cluster's document whose [monitors] count [default: the one in force]
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// `vedette rules show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette rules show\n  \
    vedette rules show --version 0 > rules\n  \
    vedette rules show --program /usr/share/vedette/events/node_up.rp")]
pub(crate) struct ShowArgs {
    /// Print the rules file of this version only; 0 is built in
    #[arg(long)]
    version: Option<u32>,
    /// Print this recovery program only
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
}

/// `vedette rules load`
#[derive(Debug, Args)]
#[command(
    after_help = "A predefined event that the file leaves out keeps its built-in rule. Rules with \
    errors are refused, and those in force stay in force.\n\n\
    Examples:\n  \
    vedette rules load ./rules\n  \
    vedette rules load ./rules --programs ./programs --comment 'restart rwhod' --yes"
)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Why, for the history
    #[arg(short = 'm', long, value_name = "WHY", default_value = "")]
    comment: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette rules diff`
#[derive(Debug, Args)]
#[command(after_help = "Without a name, the built-in rules are compared.\n\n\
    Examples:\n  \
    vedette rules diff\n  \
    vedette rules diff 3\n  \
    vedette rules diff ./rules --programs ./programs")]
pub(crate) struct DiffArgs {
    /// A version, or a rules file that might be loaded
    #[arg(value_name = "FILE|VERSION")]
    other: Option<String>,
    /// The folder of the recovery programs (*.rp) that go with the file
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// `vedette rules rollback`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette rules rollback 3\n  vedette rules rollback 0 --yes")]
pub(crate) struct RollbackArgs {
    /// The version; 0 is built in
    version: u32,
    #[command(flatten)]
    confirm: Confirm,
}

/// Carries out a command on the rules.
pub(crate) fn run(context: &Context, command: RulesCommand) -> Result<u8> {
    match command {
        RulesCommand::Check(arguments) => check(context, &arguments),
        RulesCommand::Show(arguments) => show(context, &arguments),
        RulesCommand::Load(arguments) => load(context, &arguments),
        RulesCommand::Diff(arguments) => diff(context, &arguments),
        RulesCommand::History => {
            let store = context.state()?.rules;
            context.render(&RuleHistoryDoc::from(&store), |_| {
                history_screen(&store, &context.now(), context.style)
            })
        }
        RulesCommand::Rollback(arguments) => roll_back(context, &arguments),
    }
}

fn check(context: &Context, arguments: &CheckArgs) -> Result<u8> {
    let FileArgs { file, programs } = &arguments.files;
    let files = Files::read(file, programs.as_deref())?;
    let state = context.state().ok();
    let monitors = match (&arguments.document, &state) {
        (Some(document), state) => {
            let text = super::edit::read_at_most(document, MOST_DOCUMENT)?;
            let unknown = ClusterState::default();
            // Nodes that it names may not be known here; what it says of monitors is read all the same.
            let (document, _) = document::read(&text, state.as_ref().unwrap_or(&unknown));
            Monitors::of(&document.definition)
        }
        (None, Some(state)) => Monitors::of(&state.definition),
        (None, None) => Monitors::Unknown,
    };
    let mut findings = check::findings(&files, &monitors);
    // Who the nodes are is known where a daemon runs; loading asks the cluster anyway.
    if let Some(state) = state {
        let missing = missing_nodes(&files.name, &files.set.text, &state.node_names());
        findings.0.extend(missing.0);
    }
    let verdict = check::verdict(&files, &findings);
    if context.json() {
        context.render(&check::document(&findings), |_| String::new())?;
        return Ok(verdict.map_or_else(|failure| failure.exit, |_| 0));
    }
    context.print(&verdict?)?;
    Ok(0)
}

fn unknown_version(version: u32) -> Failure {
    Failure::refused(
        format!("there is no version {version} of the rules"),
        "List the versions: vedette rules history.",
    )
}

fn show(context: &Context, arguments: &ShowArgs) -> Result<u8> {
    let store = context.state()?.rules;
    let version = arguments.version.unwrap_or(store.active);
    let set = store.version(version).ok_or_else(|| unknown_version(version))?;
    if let Some(path) = &arguments.program {
        let text = set.program_text(path).ok_or_else(|| unknown_program(path, version))?;
        context.print(text)?;
    } else if arguments.version.is_some() {
        context.print(&set.text)?;
    } else {
        let document = RulesDoc::new(&store, &set);
        context.render(&document, |_| show_screen(&store, &context.now(), context.style))?;
    }
    Ok(0)
}

fn unknown_program(path: &str, version: u32) -> Failure {
    Failure::refused(
        format!("version {version} of the rules has no recovery program {path}"),
        "See what there is: vedette rules show.",
    )
}

/// Which version is in force, its rules, and what those of one's own wait for.
pub(crate) fn show_screen(store: &RuleStore, now: &str, style: Style) -> String {
    let set = store.in_force();
    let mut text = match store.active {
        0 => "The built-in rules (version 0) are in force.\n\n".to_owned(),
        version => format!(
            "Version {version} is in force, loaded by {} at {}: {}\n\n",
            clean(&set.author),
            clock(&set.at.to_string(), now),
            clean(&set.comment)
        ),
    };
    let rules = set.rules();
    let mut table = Table::new(&["RULE", "RECOVERY PROGRAM", "FROM"]);
    for rule in &rules {
        table.row(vec![
            (&rule.name).into(),
            (&rule.program).into(),
            program_from(&set, rule).into(),
        ]);
    }
    text.push_str(&table.render(style, 0));
    for rule in rules.iter().filter(|rule| rule.is_user_defined()) {
        text.push_str(&format!("\n{}", condition(rule).render(style, 0)));
    }
    text
}

/// What a rule of one's own waits for.
fn condition(rule: &Rule) -> Table {
    let ours = variable::canonical(&rule.variable);
    let known = if ours == rule.variable { String::new() } else { format!(" ({ours})") };
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    let mut table = Table::new(&[&rule.name, ""]);
    for (name, value) in [
        ("variable", format!("{}{known}", rule.variable)),
        ("instances", or(&rule.vector, "all")),
        ("happens when", rule.predicate.clone()),
        ("again after", or(&rule.rearm, "it did not hold")),
    ] {
        table.row(vec![name.into(), value.into()]);
    }
    table
}

fn load(context: &Context, arguments: &LoadArgs) -> Result<u8> {
    let files = Files::read(&arguments.files.file, arguments.files.programs.as_deref())?;
    // What is wrong with the file itself is said without a daemon, too.
    check::verdict(&files, &check::findings(&files, &Monitors::Unknown))?;
    let state = context.state()?;
    let findings = check::findings(&files, &Monitors::of(&state.definition));
    let store = state.rules;
    let changes = difference::between(&store.in_force(), &files.set);
    if changes.is_empty() {
        let active = store.active;
        return context.unchanged(format!("these rules are in force already, as version {active}"));
    }
    let plan = format!(
        "{}{}\nThese rules will be in force on every node, in place of version {}.",
        difference::screen(&changes, context.style),
        check::warnings(&findings),
        store.active
    );
    if arguments.confirm.yes {
        aside::note(check::warnings(&findings).trim_start());
    }
    arguments.confirm.ask(&plan, "Put them in force?")?;
    let done = context.order(&Command::SaveRules {
        text: files.set.text,
        programs: files.set.programs,
        comment: arguments.comment.clone(),
        based_on: store.active,
    })?;
    context.done("The rules are in force on every node.", &done)
}

fn diff(context: &Context, arguments: &DiffArgs) -> Result<u8> {
    let store = context.state()?.rules;
    let other = arguments.other.as_deref().unwrap_or("0");
    let force = store.in_force();
    // A file is what might come, a version what was: older first.
    let changes = match other.parse::<u32>() {
        Ok(number) => {
            let old = store.version(number).ok_or_else(|| unknown_version(number))?;
            difference::between(&old, &force)
        }
        Err(_) => {
            let files = Files::read(other.as_ref(), arguments.programs.as_deref())?;
            difference::between(&force, &files.set)
        }
    };
    context.render(&difference::document(&changes), |_| {
        if changes.is_empty() {
            return format!("Nothing differs from version {}.\n", store.active);
        }
        difference::screen(&changes, context.style)
    })
}

/// Every version, the newest last.
pub(crate) fn history_screen(store: &RuleStore, now: &str, style: Style) -> String {
    let mut table = Table::new(&["", "VERSION", "LOADED", "BY", "RULES", "PROGRAMS", "COMMENT"]);
    let mark = |active: bool| Cell::from(if active { "*" } else { "" });
    table.row(vec![
        mark(store.active == 0),
        0.into(),
        "-".into(),
        "-".into(),
        built_in::EVENTS.len().into(),
        built_in::PROGRAMS.len().into(),
        "built in".into(),
    ]);
    for (number, set) in &store.versions {
        let (rules, _) = vedette_core::rules::file::parse("rules", &set.text);
        table.row(vec![
            mark(*number == store.active),
            (*number).into(),
            clock(&set.at.to_string(), now).into(),
            (&set.author).into(),
            rules.len().into(),
            set.programs.len().into(),
            (&set.comment).into(),
        ]);
    }
    table.render(style, 0)
}

fn roll_back(context: &Context, arguments: &RollbackArgs) -> Result<u8> {
    let store = context.state()?.rules;
    let to = arguments.version;
    let wanted = store.version(to).ok_or_else(|| unknown_version(to))?;
    if to == store.active {
        return context.unchanged(format!("version {to} of the rules is in force already"));
    }
    let changes = difference::between(&store.in_force(), &wanted);
    let plan = format!(
        "{}\nVersion {} of the rules is in force; version {to} will be, on every node.",
        difference::screen(&changes, context.style),
        store.active
    );
    arguments.confirm.ask(&plan, "Put it in force?")?;
    let done = context.order(&Command::RollBackRules { to })?;
    context.done(&format!("Version {to} of the rules is in force."), &done)
}

#[cfg(test)]
mod tests;
