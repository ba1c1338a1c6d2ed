//! `vedette incident report`: how much of each month groups were in service, for those who have
//! promised something.

use clap::Args;
use vedette_collector::clinfo::{AvailabilityReportDoc, OutageCountsDoc, PeriodDoc, availability};
use vedette_core::time::WallTime;

use super::super::ask::duration;
use super::super::context::Context;
use super::super::fail::Result;
use super::super::node::segment;
use super::super::text::{Cell, Style, Table, Tone, clock, millis, now};

/// `vedette incident report`
#[derive(Debug, Args)]
#[command(
    after_help = "Months are those of UTC. An outage counts in the month in which it began. \
    What nobody knows (records are missing, the group was left running unwatched) counts neither as \
    service nor as outage.\n\n\
    TIME is 2026-11, 2026-11-01, 2026-11-01T12:00Z, or how long ago: 36h, 30d.\n\n\
    Examples:\n  \
    vedette incident report\n  \
    vedette incident report --since 2026-01 --until 2026-04   # the first quarter\n  \
    vedette incident report --since 30d --group web -o json"
)]
pub(crate) struct ReportArgs {
    /// Not what was before [default: all there is]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<WallTime>,
    /// Not what was after [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<WallTime>,
    /// Only this group
    #[arg(long)]
    group: Option<String>,
}

/// A moment, or how long ago it was.
pub(crate) fn moment(text: &str) -> std::result::Result<WallTime, String> {
    let ago = || {
        let ago = i64::try_from(duration(text).ok()?.as_micros()).ok()?;
        availability::moment(&now().get(..19).map(|it| format!("{it}Z"))?)
            .map(|now| WallTime(now.0.saturating_sub(ago)))
    };
    availability::moment(text)
        .or_else(ago)
        .ok_or_else(|| "write 2026-11, 2026-11-01, 2026-11-01T12:00Z or 30d".to_owned())
}

/// Shows the report.
pub(super) fn run(context: &Context, arguments: &ReportArgs) -> Result<()> {
    let parameters = [
        ("since", arguments.since.map(|at| at.to_string())),
        ("until", arguments.until.map(|at| at.to_string())),
        ("group", arguments.group.clone()),
    ];
    let given = parameters.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("{name}={}", segment(value)))
    });
    let path = format!("/api/v1/incidents/report?{}", given.collect::<Vec<_>>().join("&"));
    context.show(&path, |report: &AvailabilityReportDoc| {
        screen(report, &context.now(), context.style)
    })?;
    Ok(())
}

/// The report, a line for each group and month.
pub(crate) fn screen(report: &AvailabilityReportDoc, now: &str, style: Style) -> String {
    let mut text =
        format!("From {} to {}\n\n", clock(&report.since, now), clock(&report.until, now));
    let mut table = Table::new(&[
        "GROUP",
        "MONTH",
        "SERVICE %",
        "UNPLANNED",
        "PLANNED",
        "UNKNOWN",
        "LONGEST",
        "OUTAGES",
    ]);
    for group in &report.groups {
        let gone = if group.configured { "" } else { " (gone)" };
        for period in group.months.iter().chain([&group.total]) {
            table.row(row(&format!("{}{gone}", group.group), period));
        }
    }
    text.push_str(&table.render(style, 0));
    if report.groups.iter().any(|group| group.total.at_least) {
        text.push_str(
            "\n≥  at least: when an outage began is not known; see vedette incident show.\n",
        );
    }
    text
}

fn row(group: &str, period: &PeriodDoc) -> Vec<Cell> {
    let length = |ms: u64| if ms == 0 { "-".to_owned() } else { millis(ms) };
    let at_least = if period.at_least { "≥ " } else { "" };
    let service = match period.availability_percent {
        // Rounded down: an outage is never rounded away.
        Some(percent) => format!("{:.4}", (percent * 10_000.0).floor() / 10_000.0),
        None => "unknown".into(),
    };
    let tone = if period.unplanned_ms > 0 { Tone::Bad } else { Tone::Good };
    vec![
        group.into(),
        period.month.as_deref().unwrap_or("in all").into(),
        Cell::toned(service, tone),
        format!(
            "{}{}",
            if period.unplanned_ms > 0 { at_least } else { "" },
            length(period.unplanned_ms)
        )
        .into(),
        length(period.planned_ms).into(),
        length(period.unknown_ms).into(),
        period.longest_unplanned_ms.map_or("-".into(), millis).into(),
        counts(&period.outages).into(),
    ]
}

/// How many of each kind, in words.
fn counts(outages: &OutageCountsDoc) -> String {
    let kinds = [
        (outages.failovers, "failover"),
        (outages.restarts, "restart"),
        (outages.moves, "move"),
        (outages.failbacks, "failback"),
        (outages.stops, "stop"),
        (outages.unknown, "other"),
    ];
    let word = |(count, kind): (u64, &str)| {
        let many = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {kind}{many}"))
    };
    let words: Vec<String> = kinds.into_iter().filter_map(word).collect();
    if words.is_empty() { "-".into() } else { words.join(", ") }
}
