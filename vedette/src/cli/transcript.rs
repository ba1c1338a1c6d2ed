//! `vedette transcript`: all that programs printed on this node, where a record has only the first lines.
//!
//! Each node keeps what it ran itself. Of other nodes it is said which transcripts they have, as far as the
//! records of the event or incident name them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use vedette_collector::clinfo::{EventDoc, TranscriptDoc, TranscriptText, TranscriptsDoc};

use super::client::Client;
use super::context::Context;
use super::fail::{Failure, Result};
use super::node::segment;
use super::text::{Cell, Style, Table, block, clean, clock};

/// What stands in a record before the name of a transcript.
const NAMED: &str = "vedette transcript show ";

/// `vedette transcript`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette transcript list --event 21\n  \
    vedette transcript show n2/12")]
pub(crate) enum TranscriptCommand {
    /// List what programs printed on this node: scripts of events, failed resources and monitors, fence agents, alerts
    List(ListArgs),
    /// Show all that one run printed; of more than 1 MiB the beginning and the end
    Show(ShowArgs),
}

/// `vedette transcript list`
#[derive(Debug, Args)]
#[command(
    after_help = "Each kind has a share of the disk, and none is kept for more than 30 days.\n\n\
    Examples:\n  \
    vedette transcript list --event 21\n  \
    vedette transcript list --resource web-server -n 5\n  \
    vedette transcript list --incident 412 -o json"
)]
pub(crate) struct ListArgs {
    /// Only of this event
    #[arg(long)]
    event: Option<u64>,
    /// Only of the incident that began with this revision
    #[arg(long, value_name = "REVISION")]
    incident: Option<u64>,
    /// Only of resources of this group
    #[arg(long)]
    group: Option<String>,
    /// Only of this resource
    #[arg(long)]
    resource: Option<String>,
    /// Only of this kind
    #[arg(long, value_parser = ["event", "resource", "monitor", "fence", "release", "alert"])]
    kind: Option<String>,
    /// How many at most: the last ones
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
}

/// `vedette transcript show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette transcript show n2/12\n  \
    vedette transcript show 12 -o json")]
pub(crate) struct ShowArgs {
    /// Its name, as records have it, such as n2/12
    name: String,
}

/// Carries out a command about transcripts.
pub(crate) fn run(context: &Context, command: TranscriptCommand) -> Result<u8> {
    match command {
        TranscriptCommand::List(arguments) => list(context, &arguments),
        TranscriptCommand::Show(arguments) => show(context, &arguments.name),
    }
}

fn list(context: &Context, arguments: &ListArgs) -> Result<u8> {
    let client = context.client()?;
    let mut doc: TranscriptsDoc = client.read(&arguments.path())?;
    doc.elsewhere = elsewhere(&client, arguments, &doc.node)?;
    context.render(&doc, |doc| screen(doc, &context.now(), context.style))
}

impl ListArgs {
    fn path(&self) -> String {
        let mut path = format!("/control/v1/transcripts?limit={}", self.limit);
        let numbers = [("event", self.event), ("incident", self.incident)];
        let texts = [("group", &self.group), ("resource", &self.resource), ("kind", &self.kind)];
        let given = numbers.into_iter().filter_map(|(name, it)| Some((name, it?.to_string())));
        let words = texts.into_iter().filter_map(|(name, it)| Some((name, it.clone()?)));
        for (name, value) in given.chain(words) {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
        path
    }
}

/// What the records of an event or incident name of other nodes.
fn elsewhere(
    client: &Client,
    arguments: &ListArgs,
    own: &str,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let asked = match (arguments.incident, arguments.event) {
        (Some(incident), _) => format!("/control/v1/history?limit=10000&incident={incident}"),
        (None, Some(_)) => "/control/v1/history?limit=10000".to_owned(),
        (None, None) => return Ok(found),
    };
    let records: Vec<EventDoc> = client.read(&asked)?;
    let fits = |record: &&EventDoc| arguments.event.is_none_or(|event| record.event == Some(event));
    for record in records.iter().filter(fits) {
        for name in named(&record.cause) {
            let node = name.split('/').next().unwrap_or_default();
            let names = found.entry(node.to_owned()).or_default();
            if node != own && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    found.retain(|_, names| !names.is_empty());
    Ok(found)
}

/// Names of transcripts in a text of a record.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(NAMED).skip(1).map(|rest| {
        let end = rest.find(|letter: char| letter.is_whitespace() || ";,)".contains(letter));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
    })
}

fn show(context: &Context, name: &str) -> Result<u8> {
    let (node, number) = match name.rsplit_once('/') {
        Some((node, number)) => (Some(node), number),
        None => (None, name),
    };
    let number: u64 = number.parse().map_err(|_| {
        Failure::failed(
            format!("{} is no name of a transcript", clean(name)),
            "Names look like n2/12: vedette transcript list.",
        )
    })?;
    if let Some(node) = node {
        let own: TranscriptsDoc = context.client()?.read("/control/v1/transcripts?limit=0")?;
        if own.node != node {
            return Err(Failure::refused(
                format!(
                    "transcript {} is not kept here: this is {}",
                    clean(name),
                    clean(&own.node)
                ),
                format!("Ask on {}: vedette transcript show {}.", clean(node), clean(name)),
            ));
        }
    }
    let path = format!("/control/v1/transcripts/{number}");
    context.show(&path, |doc: &TranscriptText| text(doc, &context.now(), context.style))?;
    Ok(0)
}

/// The list for people.
pub(crate) fn screen(doc: &TranscriptsDoc, now: &str, style: Style) -> String {
    let mut text = if doc.transcripts.is_empty() {
        format!("{} keeps no such transcript.\n", clean(&doc.node))
    } else {
        let mut table = Table::new(&["NAME", "KIND", "BEGAN", "EVENT", "BYTES", "ENDED", "OF"]);
        for it in &doc.transcripts {
            let event = it.event.map_or_else(|| Cell::from("-"), Cell::from);
            table.row(vec![
                (&it.name).into(),
                (&it.kind).into(),
                clock(&it.began, now).into(),
                event,
                it.printed_bytes.into(),
                ended(it).into(),
                of(it).into(),
            ]);
        }
        table.render(style, 0)
    };
    for (node, names) in &doc.elsewhere {
        text.push_str(&format!("On {}: {}.\n", clean(node), clean(&names.join(", "))));
    }
    text
}

fn ended(doc: &TranscriptDoc) -> String {
    doc.how.clone().unwrap_or_else(|| "runs, or was cut off".into())
}

fn of(doc: &TranscriptDoc) -> String {
    match &doc.resource {
        Some(resource) => format!("{resource}: {}", doc.what),
        None => doc.what.clone(),
    }
}

/// One transcript for people.
pub(crate) fn text(doc: &TranscriptText, now: &str, style: Style) -> String {
    let about = &doc.about;
    let mut facts = Table::new(&["TRANSCRIPT", &clean(&about.name)]).wrapping();
    let mut fact = |name: &str, value: String| facts.row(vec![name.into(), value.into()]);
    fact("of", of(about));
    if let Some(event) = about.event {
        fact("event", event.to_string());
    }
    if let Some(incident) = about.incident {
        fact("incident", incident.to_string());
    }
    fact("began", clock(&about.began, now));
    fact("ended", ended(about));
    fact("printed", format!("{} bytes", about.printed_bytes));
    if let Some(missing) = &about.missing {
        fact("missing", format!("some of it: {missing}"));
    }
    format!("{}\n{}", facts.render(style, 0), block(&doc.text, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc() -> TranscriptDoc {
        TranscriptDoc {
            name: "n2/12".into(),
            kind: "event".into(),
            what: "/opt/site/tell --all".into(),
            event: Some(21),
            incident: Some(412),
            group: None,
            resource: None,
            began: "2026-05-04T09:05:10.330Z".into(),
            ended: Some("2026-05-04T09:05:12.330Z".into()),
            how: Some("exit status 5".into()),
            printed_bytes: 2_097_152,
            left_out_bytes: 1_052_672,
            missing: Some("No space left on device (os error 28)".into()),
        }
    }

    /// J10: what a node keeps, and what it knows that others keep.
    #[test]
    fn j10_the_list_and_where_the_others_are() {
        let elsewhere = BTreeMap::from([("n3".to_owned(), vec!["n3/4".to_owned(), "n3/5".into()])]);
        let mut list = TranscriptsDoc { node: "n2".into(), transcripts: vec![doc()], elsewhere };
        let now = "2026-05-04T09:06:00.000Z";
        let shown = screen(&list, now, Style::PLAIN);
        for wanted in ["n2/12", "exit status 5", "/opt/site/tell --all", "On n3: n3/4, n3/5.\n"] {
            assert!(shown.contains(wanted), "{wanted}:\n{shown}");
        }
        list.transcripts.clear();
        assert!(screen(&list, now, Style::PLAIN).starts_with("n2 keeps no such transcript.\n"));
    }

    /// Findings J10, X10: the text of a stranger is shown without its control characters.
    #[test]
    fn j10_a_transcript_is_shown() {
        let doc = TranscriptText { about: doc(), text: "one\n\x1b[2Jtwo\n".into() };
        let shown = text(&doc, "2026-05-04T09:06:00.000Z", Style::PLAIN);
        assert!(shown.contains("\none\n?[2Jtwo\n"), "{shown}");
        assert!(shown.contains("some of it: No space left on device"), "{shown}");
    }

    /// J10: a record names transcripts in the words of the core.
    #[test]
    fn j10_names_in_records() {
        let kept = |name: &str| vedette_core::model::Transcript::Kept(name.into()).words();
        let cause = format!("no disk; {}; then {}. Ask.", kept("n2/12"), kept("n3/4"));
        assert_eq!(named(&cause).collect::<Vec<_>>(), ["n2/12", "n3/4"]);
        assert_eq!(named("nothing").count(), 0);
    }
}
