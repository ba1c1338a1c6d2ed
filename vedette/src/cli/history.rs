//! `vedette history`: the audit. Every event since the cluster was formed, each chained to the one
//! before by its hash, so that a changed or missing one is found and nodes can be compared.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use vedette_collector::clinfo::{ComparedDoc, LocalRecordDoc, LocalRecordsDoc, VerifiedDoc};

use super::client::parse;
use super::context::Context;
use super::event::{self, Filter};
use super::fail::{FAILED, Failure, REFUSED, Result};
use super::status;
use super::text::{Cell, Style, Table, Tone, clean};

/// `vedette history`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette history show --severity warning\n  \
    vedette history verify\n  \
    vedette history compare\n  \
    vedette history export --format csv --to events.csv")]
pub(crate) enum HistoryCommand {
    /// Show events, oldest first
    Show(ShowArgs),
    /// Show events as they happen
    Follow(FollowArgs),
    /// Show what this node lived through by itself, also without a quorum: its own journal
    Local(LocalArgs),
    /// Check that no event is missing and none was changed
    Verify(VerifyArgs),
    /// Compare the histories of all nodes
    #[command(
        after_help = "Exit status 1 if a node holds another history, or cannot be asked.\n\n\
        Examples:\n  vedette history compare\n  vedette history compare -o json"
    )]
    Compare,
    /// Write all events as JSON lines or CSV
    Export(ExportArgs),
}

/// `vedette history show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette history show\n  \
    vedette history show --code NODE_HOST --subject node --limit 100\n  \
    vedette history show --after 1000 --before 2000 --limit 1000 -o json")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    filter: Filter,
}

/// `vedette history follow`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  vedette history follow\n  vedette history follow --severity error -o json"
)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    filter: Filter,
}

/// `vedette history local`
#[derive(Debug, Args)]
#[command(
    after_help = "What a node writes here becomes part of everybody's history when it is part of a \
    quorum again.\n\nExamples:\n  \
    vedette history local\n  \
    vedette history local -n 100 -o json\n  \
    vedette history local --follow"
)]
pub(crate) struct LocalArgs {
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
    /// Go on with what is written from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
}

/// `vedette history verify`
#[derive(Debug, Args)]
#[command(after_help = "Exit status 2 if the chain is broken.\n\n\
    Examples:\n  \
    vedette history verify\n  \
    vedette history verify --file /mnt/backup/history.sqlite   # no daemon needed")]
pub(crate) struct VerifyArgs {
    /// Check this history file instead of asking the daemon
    #[arg(long)]
    file: Option<PathBuf>,
}

/// `vedette history export`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette history export | jq -r .message\n  \
    vedette history export --format csv --to events.csv")]
pub(crate) struct ExportArgs {
    /// The form
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON document a line.
    Jsonl,
    /// Comma-separated values with a heading.
    Csv,
}

/// Carries out a command on the history.
pub(crate) fn run(context: &Context, command: HistoryCommand) -> Result<u8> {
    match command {
        HistoryCommand::Show(arguments) => event::show(context, &arguments.filter).map(|_| 0),
        HistoryCommand::Follow(arguments) => event::follow(context, &arguments.filter),
        HistoryCommand::Local(arguments) => local(context, &arguments),
        HistoryCommand::Verify(arguments) => verify(context, &arguments),
        HistoryCommand::Compare => compare(context),
        HistoryCommand::Export(arguments) => export(context, &arguments),
    }
}

fn local(context: &Context, arguments: &LocalArgs) -> Result<u8> {
    let path = format!("/api/v1/local/records?limit={}", arguments.limit);
    context
        .show(&path, |page: &LocalRecordsDoc| local_screen(page, &context.now(), context.style))?;
    if !arguments.follow {
        return Ok(0);
    }
    event::watch(&context.client()?, |data| {
        // Nothing else that the stream carries looks like a record of the journal.
        if let Ok(record) = serde_json::from_str::<LocalRecordDoc>(data) {
            let line = if context.json() { data.to_owned() } else { local_line(&record) };
            context.print(&format!("{line}\n"))?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Err(Failure::failed(
        "the daemon ended the stream of its records",
        "Ask again: vedette history local --follow.",
    ))
}

/// The journal of this node, or that there is nothing in it.
pub(crate) fn local_screen(page: &LocalRecordsDoc, now: &str, style: Style) -> String {
    if page.records.is_empty() {
        return format!("{} has written nothing into its journal yet.\n", clean(&page.node));
    }
    status::local_records(&page.records, now).render(style, 0)
}

/// One record of the journal as a line that stands alone.
fn local_line(record: &LocalRecordDoc) -> String {
    let number = format!("L{}", record.number);
    let sentence = status::local_sentence(record);
    clean(&format!("{} {number:>6} {:13} {sentence}", record.at, record.severity))
}

fn verify(context: &Context, arguments: &VerifyArgs) -> Result<u8> {
    let path = "/control/v1/history/verify";
    let (verified, source) = match &arguments.file {
        Some(file) => (verify_file(file)?, file.display().to_string()),
        None => (context.client()?.get(path)?, "the history of this node".to_owned()),
    };
    if context.json() {
        context.print_document(&verified)?;
    }
    let verified: VerifiedDoc = parse(path, &verified)?;
    if !context.json() {
        context.print(&verify_screen(&verified, &source, context.style))?;
    }
    Ok(if verified.ok { 0 } else { FAILED })
}

/// The result of a check in words.
pub(crate) fn verify_screen(verified: &VerifiedDoc, source: &str, style: Style) -> String {
    let Some(bad) = &verified.first_bad else {
        let word = style.paint(Tone::Good, "OK");
        return format!(
            "{word}  {source} is complete: {} events, none missing, none changed.\nIts last event is {}, with the hash {}.\n",
            verified.rows,
            verified.head.seq,
            clean(&verified.head.hash)
        );
    };
    format!(
        "{}  {source} is broken at event {}: {}.\n\
         Compare it with the other nodes: vedette history compare.\n",
        style.paint(Tone::Bad, "BROKEN"),
        bad.seq,
        clean(bad.what.trim_end_matches('.'))
    )
}

/// Checks a file without a daemon; the same document that the daemon would give.
fn verify_file(file: &Path) -> Result<Vec<u8>> {
    let verdict = vedette_collector::history::verify_offline(file).map_err(|error| {
        Failure::failed(
            format!("{} cannot be checked: {error}", file.display()),
            "Name a history file, such as a copy of the one in the state directory.",
        )
    })?;
    serde_json::to_vec(&VerifiedDoc::of_file(&verdict)).map_err(|error| {
        Failure::failed(format!("the answer cannot be written: {error}"), "Report this.")
    })
}

fn compare(context: &Context) -> Result<u8> {
    let compared = context.show("/control/v1/history/compare", |compared: &ComparedDoc| {
        compare_screen(compared, context.style)
    })?;
    let equal = compared.nodes.iter().all(|node| node.equal);
    Ok(if equal { 0 } else { REFUSED })
}

/// The comparison as a table.
pub(crate) fn compare_screen(compared: &ComparedDoc, style: Style) -> String {
    let mut table = Table::new(&["NODE", "LAST", "SAME", "HASH", "ERROR"]);
    for node in &compared.nodes {
        let same = match node.equal {
            true => Cell::toned("yes", Tone::Good),
            false => Cell::toned("NO", Tone::Bad),
        };
        let hash: String =
            node.hash_at_common.iter().flat_map(|hash| hash.chars().take(16)).collect();
        table.row(vec![
            (&node.node).into(),
            node.seq.map_or("-".into(), |seq| seq.to_string()).into(),
            same,
            hash.into(),
            node.error.as_deref().unwrap_or("").into(),
        ]);
    }
    format!("Compared at event {}.\n{}", compared.seq, table.render(style, 0))
}

fn export(context: &Context, arguments: &ExportArgs) -> Result<u8> {
    let format = if arguments.format == Format::Csv { "csv" } else { "jsonl" };
    let path = format!("/control/v1/history/export?format={format}");
    let client = context.client()?;
    let Some(to) = &arguments.to else {
        client.stream(&path, |bytes| context.print_bytes(bytes).map(ControlFlow::Continue))?;
        return Ok(0);
    };
    let failed = |error: std::io::Error| {
        Failure::failed(
            format!("{} cannot be written: {error}", to.display()),
            "Name another file with --to.",
        )
    };
    let mut file = std::fs::File::create_new(to).map_err(failed)?;
    client
        .stream(&path, |bytes| file.write_all(bytes).map(ControlFlow::Continue).map_err(failed))?;
    file.sync_all().map_err(failed)?;
    Ok(0)
}
