//! `vedette incident`: what a failure was, what was done about it, and how long each step took.
//!
//! A waterfall in text: time runs from left to right over the whole incident, each step is a bar where
//! it was done. All of it comes from records of the history.

use clap::{Args, Subcommand};
use serde::Deserialize;
use vedette_collector::clinfo::{IncidentDoc, IncidentStepDoc, IncidentSummaryDoc};

use super::context::Context;
use super::fail::Result;
use super::node::segment;
use super::text::{Cell, Style, Table, clean, clock, now, wrap};

/// `vedette incident`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  vedette incident list\n  vedette incident show")]
pub(crate) enum IncidentCommand {
    /// List the latest incidents, the last first
    List(ListArgs),
    /// Show one incident as a waterfall: cause, decisions, each step with node and duration, outage
    Show(ShowArgs),
}

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
#[command(after_help = "Examples:\n  vedette incident show\n  vedette incident show 412 -o json")]
pub(crate) struct ShowArgs {
    /// Its number [default: the last one]
    id: Option<u64>,
}

/// A page of incidents.
#[derive(Debug, Deserialize)]
struct Page {
    incidents: Vec<IncidentSummaryDoc>,
}

/// Columns of the bars.
const BAR: usize = 30;

/// Carries out a command on incidents.
pub(crate) fn run(context: &Context, command: IncidentCommand) -> Result<u8> {
    match command {
        IncidentCommand::List(arguments) => {
            let path = format!("/api/v1/incidents?limit={}", arguments.limit);
            context.show(&path, |page: &Page| {
                list(&page.incidents, &now()).render(context.style, 0)
            })?;
        }
        IncidentCommand::Show(arguments) => {
            let id = arguments.id.map_or("last".to_owned(), |id| id.to_string());
            let path = format!("/api/v1/incidents/{}", segment(&id));
            context
                .show(&path, |incident: &IncidentDoc| screen(incident, &now(), context.style))?;
        }
    }
    Ok(0)
}

/// Incidents, one a line.
pub(crate) fn list(incidents: &[IncidentSummaryDoc], now: &str) -> Table {
    let mut table = Table::new(&["INCIDENT", "STATE", "BEGAN", "RECOVERED", "OUTAGE", "WHAT"]);
    for incident in incidents {
        let outages = incident.outages.iter().map(|outage| outage.outage_ms);
        let outage = match outages.clone().collect::<Option<Vec<u64>>>() {
            Some(all) => all.into_iter().max().map_or("-".into(), millis),
            None => "lasts".into(),
        };
        table.row(vec![
            incident.id.into(),
            Cell::status(incident.state.name()),
            clock(&incident.began, now).into(),
            incident
                .recovery_ms
                .map_or("not yet".into(), |took| format!("after {}", millis(took)))
                .into(),
            outage.into(),
            (&incident.title).into(),
        ]);
    }
    table
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
    fact("began", format!("{}{}", clock(&incident.began, now), detection.unwrap_or_default()));
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
        let length = outage.outage_ms.map_or("lasts".to_owned(), millis);
        fact("outage", format!("{}: {length}{place}", outage.group));
    }
    let end = incident.recovery_ms.map_or("not yet".into(), |ms| format!("after {}", millis(ms)));
    fact("recovered", end);
    text.push('\n');
    text.push_str(&waterfall(incident, style).render(style, 0));
    text
}

fn waterfall(incident: &IncidentDoc, style: Style) -> Table {
    let length = incident.length_ms().max(1);
    let scale = format!("0 {:>width$}", millis(length), width = BAR - 2);
    let mut table = Table::new(&["AT", "NODE", "TOOK", &scale, "WHAT"]);
    let narrow = style.width < 72;
    for step in &incident.steps {
        let bar = if narrow { String::new() } else { bar(step, length) };
        let what = if step.failed { format!("FAILED: {}", step.what) } else { step.what.clone() };
        table.row(vec![
            format!("+{}", millis(step.starts_ms)).into(),
            step.node.as_deref().unwrap_or("-").into(),
            took(step).into(),
            bar.into(),
            clean(&what).into(),
        ]);
    }
    table
}

fn took(step: &IncidentStepDoc) -> String {
    match step.duration_ms {
        Some(0) => "-".into(),
        Some(took) => millis(took),
        None => "lasts".into(),
    }
}

/// A step as a bar from its beginning to its end; a dot for what has no length.
fn bar(step: &IncidentStepDoc, length: u64) -> String {
    let column = |at: u64| {
        let at = at.min(length) as usize;
        (at * (BAR - 1)) / length as usize
    };
    let from = column(step.starts_ms);
    let (to, mark) = match step.duration_ms {
        Some(0) => (from, '·'),
        Some(took) => (column(step.starts_ms + took), '█'),
        None => (BAR - 1, '▒'),
    };
    let mut bar = " ".repeat(from);
    bar.extend(std::iter::repeat_n(mark, to - from + 1));
    bar
}

/// A duration for people.
fn millis(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}
