//! `vedette alert`: the error alert script (spec A14) and its test (A15).
//!
//! There is one script, the same on all members, and every version of it is kept. Editing it is in
//! [`super::edit`].

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use vedette_collector::alerts::DEFAULT_SCRIPT;
use vedette_collector::clinfo::{AlertTestDoc, AlertsDoc, EventDoc, ScriptDoc};
use vedette_core::command::Command;
use vedette_core::model::{AlertScript, Severity};

use super::ask::AsksNothing;
use super::complete;
use super::context::Context;
use super::edit::{self, EditArgs};
use super::event;
use super::fail::{Failure, REFUSED, Result, UNKNOWN};
use super::node::find;
use super::status;
use super::text::{Cell, Style, Table, Tone, block, clean, clock, millis};

const ALERTS: &str = "/api/v1/alerts";

/// `vedette alert`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette alert show\n  \
    vedette alert edit\n  \
    vedette alert test --node n2\n  \
    vedette alert rollback 3")]
pub(crate) enum AlertCommand {
    /// Show the script in force, and the alerts that wait for it
    Show(ShowArgs),
    /// Edit the script: checked before it is saved, in force on every member at once
    Edit(EditArgs),
    /// Run the very script with a test alert, on all members or on chosen ones
    Test(TestArgs),
    /// Show how the script ran for alerts and tests
    Log(LogArgs),
    /// List the versions of the script
    #[command(after_help = "Examples:\n  vedette alert versions\n  vedette alert versions -o json")]
    Versions,
    /// Put an earlier version in force again
    Rollback(RollbackArgs),
}

/// `vedette alert show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette alert show\n  \
    vedette alert show --version 3 > alert.sh\n  \
    vedette alert show -o json")]
pub(crate) struct ShowArgs {
    /// Print the text of this version only; 0 is the built-in script
    #[arg(long)]
    version: Option<u32>,
}

/// `vedette alert test`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1 if the script failed on a member, 3 if a member did not answer.\n\n\
    Examples:\n  \
    vedette alert test\n  \
    vedette alert test --node n2 --node n3 --severity error\n  \
    vedette alert test --message 'is the pager charged?'"
)]
pub(crate) struct TestArgs {
    /// On this member only; may be repeated
    #[arg(long, value_name = "NODE", add = complete::nodes())]
    node: Vec<String>,
    /// The severity of the test alert
    #[arg(long, default_value = "error", value_parser = event::severity)]
    severity: Severity,
    /// What the test alert says
    #[arg(long, default_value = "this is a test of the error alert script")]
    message: String,
}

/// `vedette alert log`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette alert log\n  vedette alert log --limit 100 -o json")]
pub(crate) struct LogArgs {
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
}

/// `vedette alert rollback`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette alert rollback 3\n  vedette alert rollback 0 -o json")]
pub(crate) struct RollbackArgs {
    /// The version; 0 is the built-in script
    version: u32,
    #[command(flatten)]
    _confirm: AsksNothing,
}

/// Carries out a command on the alert script.
pub(crate) fn run(context: &Context, command: AlertCommand) -> Result<u8> {
    match command {
        AlertCommand::Show(arguments) => show(context, arguments.version),
        AlertCommand::Edit(arguments) => edit::run(context, &arguments),
        AlertCommand::Test(arguments) => test(context, &arguments),
        AlertCommand::Log(arguments) => log(context, arguments.limit),
        AlertCommand::Versions => {
            let script = ScriptDoc::from(&context.state()?.script);
            context.render(&script, |script| versions_screen(script, &context.now(), context.style))
        }
        AlertCommand::Rollback(arguments) => roll_back(context, &arguments),
    }
}

/// The text of a version; 0 is the built-in script.
pub(crate) fn text_of(script: &AlertScript, version: u32) -> Option<&str> {
    match version {
        0 => Some(DEFAULT_SCRIPT),
        version => script.versions.get(&version).map(|version| version.text.as_str()),
    }
}

fn show(context: &Context, version: Option<u32>) -> Result<u8> {
    if let Some(version) = version {
        let script = context.state()?.script;
        let text = text_of(&script, version).ok_or_else(|| unknown_version(version))?;
        context.print(text)?;
        return Ok(0);
    }
    let script = ScriptDoc::from(&context.state()?.script);
    let alerts: AlertsDoc = context.client()?.read(ALERTS)?;
    context.render(&script, |script| show_screen(script, &alerts, &context.now(), context.style))
}

fn unknown_version(version: u32) -> Failure {
    Failure::refused(
        format!("there is no version {version} of the alert script"),
        "List the versions: vedette alert versions.",
    )
}

/// Which script is in force, what waits for it, and its text.
pub(crate) fn show_screen(
    script: &ScriptDoc,
    alerts: &AlertsDoc,
    now: &str,
    style: Style,
) -> String {
    let mut text = match script.versions.iter().find(|version| version.active) {
        Some(version) => format!(
            "Version {} is in force, saved by {} at {}: {}\n",
            version.version,
            clean(&version.author),
            clock(&version.at, now),
            clean(&version.comment)
        ),
        None => "The built-in script (version 0) is in force.\n".to_owned(),
    };
    let waiting = match alerts.pending.as_ref().map(Vec::len) {
        None => "How many alerts are waiting for it is not known".to_owned(),
        Some(1) => "1 alert is waiting for it".to_owned(),
        Some(many) => format!("{many} alerts are waiting for it"),
    };
    text.push_str(&format!("{waiting}, {}.\n", delivered(alerts)));
    let pending = alerts.pending.as_deref().unwrap_or_default();
    if !pending.is_empty() {
        let events: Vec<EventDoc> = pending.iter().map(|alert| alert.event.clone()).collect();
        text.push_str(&status::events(&events, now).render(style, 2));
    }
    text.push('\n');
    text.push_str(&block(script.text.as_deref().unwrap_or(DEFAULT_SCRIPT), 2));
    text
}

/// How many alerts were delivered, and for how many the script failed.
fn delivered(alerts: &AlertsDoc) -> String {
    let delivered = match alerts.finished.saturating_sub(alerts.failed) {
        1 => "1 was delivered".to_owned(),
        many => format!("{many} were delivered"),
    };
    match alerts.failed {
        0 => delivered,
        many => format!("{delivered}, {many} failed (see vedette alert log)"),
    }
}

/// Every version, the newest last.
pub(crate) fn versions_screen(script: &ScriptDoc, now: &str, style: Style) -> String {
    let mut table = Table::new(&["", "VERSION", "SAVED", "BY", "BYTES", "SHA-256", "COMMENT"]);
    let mark = |active: bool| Cell::from(if active { "*" } else { "" });
    table.row(vec![
        mark(script.active == 0),
        0.into(),
        "-".into(),
        "-".into(),
        DEFAULT_SCRIPT.len().into(),
        "-".into(),
        "built in".into(),
    ]);
    for version in &script.versions {
        table.row(vec![
            mark(version.active),
            version.version.into(),
            clock(&version.at, now).into(),
            (&version.author).into(),
            version.bytes.into(),
            version.sha256.chars().take(12).collect::<String>().into(),
            (&version.comment).into(),
        ]);
    }
    table.render(style, 0)
}

fn roll_back(context: &Context, arguments: &RollbackArgs) -> Result<u8> {
    let script = context.state()?.script;
    let to = arguments.version;
    text_of(&script, to).ok_or_else(|| unknown_version(to))?;
    if to == script.active {
        return context.unchanged(format!("version {to} of the alert script is in force already"));
    }
    let done = context.order(&Command::RollBackAlertScript { to })?;
    let before = script.active;
    let sentence = format!("Version {to} of the alert script is in force, in place of {before}.");
    context.done(&sentence, &done)
}

/// How the script ran, for alerts and for tests, in the order of the history.
fn log(context: &Context, limit: u64) -> Result<u8> {
    let client = context.client()?;
    let mut events: Vec<EventDoc> = Vec::new();
    for code in ["ALERT_DELIVERED", "ALERT_TESTED", "ALERTS_DROPPED"] {
        let path = format!("/control/v1/history?limit={limit}&code={code}");
        events.extend(client.read::<Vec<EventDoc>>(&path)?);
    }
    events.sort_by_key(|event| event.seq);
    let skipped = events.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    let events = &events[skipped..];
    context.render(events, |events| status::events(events, &context.now()).render(context.style, 0))
}

/// Asks for a test, and waits until every chosen member has run the script.
fn test(context: &Context, arguments: &TestArgs) -> Result<u8> {
    let state = context.state()?;
    let members = arguments
        .node
        .iter()
        .map(|name| find(&state, name).map(|node| node.number))
        .collect::<Result<Vec<_>>>()?;
    let command = Command::TestAlert {
        members,
        severity: arguments.severity,
        message: arguments.message.clone(),
    };
    let id = context.propose(&command)?;
    // The script's own limit, and some time for its outcome to travel.
    let patience = Duration::from_millis(state.settings.alert_timeout_ms) + Duration::from_secs(10);
    let outcome = wait(context, id, Instant::now() + patience)?;
    context.render(&outcome, |outcome| test_screen(outcome, context.style))?;
    Ok(match () {
        () if !outcome.finished => UNKNOWN,
        () if outcome.runs.iter().all(|run| run.succeeded) => 0,
        () => REFUSED,
    })
}

/// The test once it is over, or as it is at the deadline.
fn wait(context: &Context, id: u64, deadline: Instant) -> Result<AlertTestDoc> {
    let client = context.client()?;
    loop {
        let alerts: AlertsDoc = client.read(ALERTS)?;
        let test = alerts.tests.into_iter().find(|test| test.id == id);
        match test {
            Some(test) if test.finished || Instant::now() >= deadline => return Ok(test),
            None if Instant::now() >= deadline => {
                return Err(Failure::unknown(
                    format!("nothing was heard of test {id}"),
                    "See the history: vedette alert log.",
                ));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Exit status, duration and output of each member.
pub(crate) fn test_screen(test: &AlertTestDoc, style: Style) -> String {
    let mut table = Table::new(&["NODE", "RESULT", "EXIT", "DURATION", "VERSION"]);
    for run in &test.runs {
        let tone = match (run.finished, run.succeeded) {
            (true, true) => Tone::Good,
            (true, false) => Tone::Bad,
            (false, _) => Tone::Warn,
        };
        let number = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        table.row(vec![
            (&run.node).into(),
            Cell::toned(&run.summary, tone),
            number(run.exit.map(i64::from)).into(),
            run.duration_ms.map_or("-".into(), millis).into(),
            number(run.version.map(i64::from)).into(),
        ]);
    }
    let mut text = format!("Test {} of the alert script, severity {}.\n", test.id, test.severity);
    text.push_str(&table.render(style, 0));
    for run in test.runs.iter().filter(|run| !run.output.is_empty()) {
        text.push_str(&format!("\nOutput on {}:\n{}", clean(&run.node), block(&run.output, 2)));
        if run.output_dropped > 0 {
            text.push_str(&format!("  … and {} bytes more\n", run.output_dropped));
        }
        if let Some(name) = &run.transcript {
            text.push_str(&format!("  more of it: vedette transcript show {}\n", clean(name)));
        }
    }
    text
}
