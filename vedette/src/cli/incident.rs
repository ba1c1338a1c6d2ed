//! `vedette incident`: what a failure was, what was done about it, and how long each step took.
//!
//! A waterfall in text: time runs from left to right over the whole incident, each step is a bar where
//! it was done. All of it comes from records of the history.

mod report;

use clap::{Args, Subcommand};
use serde::Deserialize;
use vedette_collector::clinfo::{IncidentDoc, IncidentStepDoc, IncidentSummaryDoc, OutageDoc};
use vedette_core::record::Code;

use super::context::Context;
use super::fail::Result;
use super::node::segment;
use super::text::{Cell, Style, Table, Tone, clock, millis, wrap};

/// `vedette incident`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette incident list\n  \
    vedette incident show\n  \
    vedette incident report --since 2026-11")]
pub(crate) enum IncidentCommand {
    /// List the latest incidents, the last first
    List(ListArgs),
    /// Show one incident as a waterfall: cause, decisions, each step with node and duration, outage
    Show(ShowArgs),
    /// Report the availability of each group by calendar month (UTC), planned and unplanned
    Report(report::ReportArgs),
}

pub(super) use report::moment;
#[cfg(test)]
pub(super) use report::screen as report_screen;

/// `vedette incident list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette incident list\n  vedette incident list -n 50")]
pub(crate) struct ListArgs {
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
}

/// `vedette incident show`
#[derive(Debug, Args)]
#[command(
    after_help = "The states of the managers between the steps are left out; the history has them \
    all: vedette event list --incident 412 -n 1000.\n\nExamples:\n  \
    vedette incident show\n  \
    vedette incident show 412 -o json"
)]
pub(crate) struct ShowArgs {
    /// Its number [default: the last one]
    id: Option<u64>,
}

/// A page of incidents.
#[derive(Debug, Deserialize)]
struct Page {
    incidents: Vec<IncidentSummaryDoc>,
}

/// Columns of the bars, at least and at most.
const BARS: (usize, usize) = (12, 30);

/// Columns of a waterfall beside its bars and what was done.
const BESIDE: usize = 26;

/// Carries out a command on incidents.
pub(crate) fn run(context: &Context, command: IncidentCommand) -> Result<u8> {
    match command {
        IncidentCommand::List(arguments) => {
            let path = format!("/api/v1/incidents?limit={}", arguments.limit);
            context.show(&path, |page: &Page| {
                list(&page.incidents, &context.now()).render(context.style, 0)
            })?;
        }
        IncidentCommand::Show(arguments) => {
            let id = arguments.id.map_or("last".to_owned(), |id| id.to_string());
            let path = format!("/api/v1/incidents/{}", segment(&id));
            context.show(&path, |incident: &IncidentDoc| {
                screen(incident, &context.now(), context.style)
            })?;
        }
        IncidentCommand::Report(arguments) => report::run(context, &arguments)?,
    }
    Ok(0)
}

/// Incidents, one a line.
pub(crate) fn list(incidents: &[IncidentSummaryDoc], now: &str) -> Table {
    let mut table = Table::new(&["INCIDENT", "STATE", "BEGAN", "RECOVERED", "OUTAGE", "WHAT"]);
    for incident in incidents {
        table.row(vec![
            incident.id.into(),
            Cell::status(incident.state.name()),
            clock(&incident.began, now).into(),
            incident
                .recovery_ms
                .map_or("not yet".into(), |took| format!("after {}", millis(took)))
                .into(),
            longest(&incident.outages).into(),
            (&incident.title).into(),
        ]);
    }
    table
}

/// The longest outage, in a word.
fn longest(outages: &[OutageDoc]) -> String {
    let lasts = |outage: &&OutageDoc| outage.outage_ms.is_none();
    let all = outages.iter().filter_map(|outage| outage.outage_ms).max();
    match (outages.iter().find(|it| lasts(it) && !it.on_purpose), all) {
        (Some(_), _) => "lasts".into(),
        (None, Some(longest)) => {
            let at_least = outages.iter().any(|it| it.at_least && it.outage_ms == Some(longest));
            format!("{}{}", if at_least { "≥ " } else { "" }, millis(longest))
        }
        (None, None) if outages.iter().any(|outage| outage.on_purpose) => "ordered".into(),
        (None, None) => "-".into(),
    }
}

/// One incident as a waterfall.
pub(crate) fn screen(incident: &IncidentDoc, now: &str, style: Style) -> String {
    let mut text = wrap(
        &format!("INCIDENT {}  {}: {}", incident.id, incident.state.name(), incident.title),
        style.width,
        10,
    );
    text.push('\n');
    let mut fact = |name: &str, value: String| {
        text.push_str(&format!(
            "{name:<10}{}\n",
            wrap(&value, style.width - 10, 0).replace('\n', &format!("\n{:10}", ""))
        ));
    };
    fact("cause", incident.cause.clone());
    let detection = incident.detection_ms.map(|ms| format!(", detected after {}", millis(ms)));
    let decision = incident.decision_ms.map(|ms| format!(", decided {} later", millis(ms)));
    let phases = detection.into_iter().chain(decision).collect::<String>();
    fact("began", format!("{}{phases}", clock(&incident.began, now)));
    for decision in &incident.decisions {
        fact("decided", decision.clone());
    }
    for outage in &incident.outages {
        let place = match (&outage.from, &outage.to) {
            (Some(from), Some(to)) => format!(", from {from} to {to}"),
            (Some(from), None) => format!(", was on {from}"),
            (None, Some(to)) => format!(", now on {to}"),
            (None, None) => String::new(),
        };
        fact(
            "outage",
            format!("{}: {}{place}, {}", outage.group, length(outage), what(outage, now)),
        );
    }
    let end = incident.recovery_ms.map_or("not yet".into(), |ms| format!("after {}", millis(ms)));
    fact("recovered", end);
    text.push('\n');
    text.push_str(&waterfall(incident, style).render(style, 0));
    text
}

fn length(outage: &OutageDoc) -> String {
    let open = if outage.on_purpose { "taken off on purpose" } else { "lasts" };
    let at_least = if outage.at_least { "at least " } else { "" };
    outage.outage_ms.map_or(open.to_owned(), |ms| format!("{at_least}{}", millis(ms)))
}

/// What kind of outage it was, and when it began if nobody knows exactly.
fn what(outage: &OutageDoc, now: &str) -> String {
    let planned = if outage.planned { "planned" } else { "unplanned" };
    let between = outage
        .between
        .as_ref()
        .map(|[from, to]| format!(", began between {} and {}", clock(from, now), clock(to, now)));
    format!("{planned} {}{}", outage.kind.name(), between.unwrap_or_default())
}

fn waterfall(incident: &IncidentDoc, style: Style) -> Table {
    let length = incident.length_ms().max(1);
    // What was done is worth more room than when.
    let columns = (style.width.saturating_sub(BESIDE) / 3).clamp(BARS.0, BARS.1);
    let scale = format!("0 {:>width$}", millis(length), width = columns - 2);
    let mut table = Table::new(&["AT", "NODE", "TOOK", &scale, "WHAT"]).wrapping();
    let narrow = style.width < 72;
    for step in in_order(&incident.steps) {
        let bar = if narrow { String::new() } else { bar(step, length, columns) };
        let what = if step.failed {
            Cell::toned(format!("FAILED: {}", step.what), Tone::Bad)
        } else {
            (&step.what).into()
        };
        table.row(vec![
            format!("+{}", millis(step.starts_ms)).into(),
            step.node.as_deref().unwrap_or("-").into(),
            took(step).into(),
            bar.into(),
            what,
        ]);
    }
    table
}

/// The steps as they began; the records are in the order in which steps ended. A manager's state says
/// nothing that the vote, the phases and the commands do not say.
fn in_order(steps: &[IncidentStepDoc]) -> Vec<&IncidentStepDoc> {
    let mut steps: Vec<_> = steps.iter().filter(|it| it.code != Code::Manager.name()).collect();
    // The end of an event is read where it ended.
    let ends = |it: &IncidentStepDoc| {
        if it.code == Code::EventEnded.name() { it.duration_ms.unwrap_or(0) } else { 0 }
    };
    steps.sort_by_key(|step| step.starts_ms + ends(step));
    steps
}

fn took(step: &IncidentStepDoc) -> String {
    match step.duration_ms {
        Some(0) => "-".into(),
        Some(took) => millis(took),
        None => "lasts".into(),
    }
}

/// A step as a bar from its beginning to its end; a dot for what has no length.
fn bar(step: &IncidentStepDoc, length: u64, columns: usize) -> String {
    let column = |at: u64| {
        let at = at.min(length) as usize;
        (at * (columns - 1)) / length as usize
    };
    let from = column(step.starts_ms);
    let (to, mark) = match step.duration_ms {
        Some(0) => (from, '·'),
        Some(took) => (column(step.starts_ms + took), '█'),
        None => (columns - 1, '▒'),
    };
    let mut bar = " ".repeat(from);
    bar.extend(std::iter::repeat_n(mark, to - from + 1));
    bar
}
