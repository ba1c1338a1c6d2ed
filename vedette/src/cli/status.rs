//! `vedette status`: the screen for 3 a.m.
//!
//! The verdict comes first, in one sentence that the daemon wrote; then what it rests on: nodes
//! with both their statuses (spec A10), networks, the last events. The exit status is the verdict.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use vedette_collector::clinfo::{
    EventDoc, LastKnownDoc, Level, LocalRecordDoc, MemberDoc, NetworkDoc, NodeDoc, RedundancyDoc,
    StandbyDoc, StatusDoc,
};
use vedette_core::clock::CLOCK_TOLERANCE_US;
use vedette_core::event::Stage;
use vedette_core::model::{InterfaceStatus, Severity};

use super::client::parse;
use super::context::Context;
use super::fail::{Result, UNKNOWN};
use super::group;
use super::text::{Cell, Style, Table, Tone, age, clean, clock, fit, now, wrap};

const PATH: &str = "/api/v1/status";

/// `vedette status`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 fine, 1 degraded, 2 the cluster does not serve, 3 this node does not know.\n\n\
    Examples:\n  \
    vedette status\n  \
    vedette status --watch\n  \
    vedette status -o json | jq -r .verdict"
)]
pub(crate) struct StatusArgs {
    /// Show it again and again, every second unless another number of seconds is given
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          require_equals = true, value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// Shows the status; the exit status is the verdict.
pub(crate) fn run(context: &Context, arguments: &StatusArgs) -> Result<u8> {
    match arguments.watch {
        Some(seconds) => watch(context, Duration::from_secs(seconds)),
        None => {
            let status = context.show(PATH, |status: &StatusDoc| screen(status, context.style))?;
            Ok(status.level.exit_status())
        }
    }
}

/// Shows the screen until somebody ends it. A daemon that goes away is shown, too, and waited for.
fn watch(context: &Context, every: Duration) -> Result<u8> {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let body = context.client().and_then(|client| client.at_once().get(PATH));
        let screen = match body {
            Ok(body) if context.json() => {
                format!("{}\n", String::from_utf8_lossy(&body).trim_end())
            }
            Ok(body) => match parse(PATH, &body) {
                Ok(status) => fit(&screen(&status, Style::of_stdout()), Style::of_stdout()),
                Err(failure) => format!("{failure}\n"),
            },
            Err(failure) => format!("{}\n{}\n", now(), failure.exiting(UNKNOWN)),
        };
        if terminal && !context.json() {
            // Home, the screen with the rest of every line cleared, and the rest below cleared.
            let lines = screen.replace('\n', "\x1b[K\n");
            context.print(&format!("\x1b[H{lines}\x1b[J"))?;
        } else {
            context.print(&format!("{screen}\n"))?;
        }
        std::thread::sleep(every);
    }
}

/// The whole screen.
pub(crate) fn screen(status: &StatusDoc, style: Style) -> String {
    let mut text = verdict(status, style);
    text.push_str(&maintenance(status, style));
    text.push_str(&facts(status, style));
    text.push('\n');
    text.push_str(&nodes(&status.nodes, &status.now, false).render(style, 0));
    text.push('\n');
    if !status.groups.is_empty() {
        text.push_str(&group::list_screen(&status.groups, &status.now, style));
        text.push('\n');
    }
    text.push_str(&networks(&status.networks, &status.now).render(style, 0));
    text.push('\n');
    text.push_str(&events(&status.events, &status.now).render(style, 0));
    if !status.known && !status.local_records.is_empty() {
        text.push('\n');
        text.push_str(&local_records(&status.local_records, &status.now).render(style, 0));
    }
    text
}

/// A status, and where it is not known what was known last.
pub(crate) fn known_or_last(status: impl ToString, last: Option<&LastKnownDoc>, now: &str) -> Cell {
    let status = status.to_string();
    match last {
        Some(last) if last.status != status => {
            let at = clock(&last.as_of, now);
            Cell::toned(format!("{status} ({} at {at})", last.status), Tone::Warn)
        }
        _ => Cell::status(status),
    }
}

/// A count, or a question mark where it is not known.
pub(crate) fn count_or_unknown(count: Option<usize>) -> String {
    count.map_or("?".into(), |count| count.to_string())
}

/// The sentence, and every problem beyond the first that it names.
fn verdict(status: &StatusDoc, style: Style) -> String {
    let (word, tone) = match status.level {
        Level::Fine => ("FINE", Tone::Good),
        Level::Degraded => ("DEGRADED", Tone::Warn),
        Level::Failed => ("FAILED", Tone::Bad),
        Level::Unknown => ("UNKNOWN", Tone::Warn),
    };
    let indent = word.len() + 2;
    let sentence =
        wrap(&status.verdict, style.width - indent, 0).replace('\n', &format!("\n{:indent$}", ""));
    let mut text =
        format!("{}  {}\n", style.paint(tone, word), style.paint(Tone::Strong, &sentence));
    if status.problems.len() > 1 {
        for problem in &status.problems {
            text.push_str(&format!(
                "  - {}\n",
                wrap(problem, style.width - 4, 0).replace('\n', "\n    ")
            ));
        }
    }
    text.push('\n');
    text
}

/// Nobody shall forget it: whoever began maintenance is not the one who looks at 3 a.m.
fn maintenance(status: &StatusDoc, style: Style) -> String {
    let everything = status.maintenance.as_deref().unwrap_or_default();
    if everything.is_empty() {
        return String::new();
    }
    let line = |what: &String| {
        let what = wrap(what, style.width - 13, 0).replace('\n', &format!("\n{:13}", ""));
        format!("{}\n", style.paint(Tone::Bad, &format!("MAINTENANCE  {what}")))
    };
    let mut text: String = everything.iter().map(line).collect();
    text.push('\n');
    text
}

/// What the cluster manager is doing, in a line.
fn manager(status: &StatusDoc) -> Option<String> {
    let manager = &status.manager;
    let queue = manager.queue.as_deref().unwrap_or_default();
    let mut waiting = match queue.len() {
        0 => String::new(),
        1 => "; one more event waits".into(),
        more => format!("; {more} more events wait"),
    };
    for (failed, what) in [(true, "failed and set aside"), (false, "runs on beside it")] {
        let aside = manager.set_aside.iter().flatten();
        let aside: Vec<String> = aside
            .filter(|it| (it.stage == Stage::Error) == failed)
            .map(|it| it.id.to_string())
            .collect();
        if !aside.is_empty() {
            waiting += &format!("; {what}: {}", aside.join(", "));
        }
    }
    match &manager.in_progress {
        Some(event) => Some(format!("{} {}: {}{waiting}", event.id, event.what, event.progress)),
        None => (!queue.is_empty()).then(|| format!("none{waiting}")),
    }
}

/// Cluster, votes, alerts, and who says so.
fn facts(status: &StatusDoc, style: Style) -> String {
    let cluster = &status.cluster;
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        let name = style.paint(Tone::Dim, &format!("{name:<9}"));
        text.push_str(&format!(
            "{name} {}\n",
            wrap(&value, style.width - 10, 0).replace('\n', "\n          ")
        ));
    };
    let nobody = if status.known { "none" } else { "not known" };
    let director = cluster.director.as_deref().unwrap_or(nobody);
    fact(
        "cluster",
        format!("{}: {}, {}; director {director}", cluster.name, cluster.status, cluster.substate),
    );
    let votes = &cluster.redundancy;
    if let Some(at) = &status.as_of {
        let (at, age) = (clock(at, &status.now), age(at, &status.now));
        fact("known", format!("nothing of others since {at}, for {age}: LAST KNOWN is of then"));
    }
    // What this node waits for says how many voters it sees itself: one answer, not two.
    if votes.voters_up.is_some() || status.waiting_for.is_empty() {
        fact("votes", votes_fact(votes));
    }
    let waiting = count_or_unknown(cluster.alerts_pending);
    let delivered = cluster.alerts_finished.saturating_sub(cluster.alerts_failed);
    let failed = match cluster.alerts_failed {
        0 => String::new(),
        many => format!(", {many} failed: vedette alert log"),
    };
    fact("alerts", format!("{waiting} waiting for the script, {delivered} delivered{failed}"));
    for raised in &status.local.conditions {
        let cause =
            if raised.cause.is_empty() { String::new() } else { format!(" ({})", raised.cause) };
        let since = clock(&raised.since, &status.now);
        fact("condition", format!("{} since {since}: {}{cause}", raised.code, raised.message));
    }
    if let Some(event) = manager(status) {
        fact("event", clean(&event));
    }
    for rule in status.fired.iter().flatten() {
        let since = clock(&rule.at, &status.now);
        fact(
            "fired",
            format!(
                "{} on {} since {since}: {} is {}",
                rule.rule, rule.node, rule.instance, rule.value
            ),
        );
    }
    for (incident, nodes) in incidents(&status.nodes) {
        fact("incident", format!("{incident} of {nodes}: vedette incident show {incident}"));
    }
    if !status.waiting_for.is_empty() {
        fact("waits for", clean(&status.waiting_for));
    }
    for note in status.notes.iter().flatten() {
        fact("note", clean(note));
    }
    if status.local.agentx == Some(false) {
        fact("snmp", "not connected to the master agent".into());
    }
    fact("told by", told_by(status));
    text
}

/// How many voters are there, and how many may still fail, as far as that is known.
fn votes_fact(votes: &RedundancyDoc) -> String {
    let (Some(up), Some(voters), Some(networks)) =
        (votes.voters_up, votes.quorum_remaining, votes.network_remaining)
    else {
        let (all, needed) = (votes.voters, votes.quorum);
        return format!("how many of {all} voters are there is not known, {needed} needed");
    };
    format!(
        "{up} of {} voters are there, {} needed; to spare: {}, {}",
        votes.voters,
        votes.quorum,
        count(voters, "voter"),
        count(networks, "network"),
    )
}

/// Incidents of nodes that are not over, each with its nodes.
fn incidents(nodes: &[NodeDoc]) -> BTreeMap<u64, String> {
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    for node in nodes {
        let Some(incident) = node.incident else { continue };
        let names = found.entry(incident).or_default();
        let comma = if names.is_empty() { "" } else { ", " };
        names.push_str(&format!("{comma}{}", node.name));
    }
    found
}

fn told_by(status: &StatusDoc) -> String {
    let local = &status.local;
    let quorum = match (local.quorate, local.knows) {
        (_, true) => "",
        (false, _) if local.lease => ", without a director",
        (false, _) => ", without a quorum",
        (true, false) => ", not up to date",
    };
    format!(
        "{} ({}) at {}, revision {}{quorum}",
        local.node,
        local.stage,
        clock(&status.now, ""),
        status.cluster.revision
    )
}

/// The state of a manager. One that was stopped is done with everything; what an operator looks for is
/// that it was stopped.
pub(crate) fn manager_cell(manager: &MemberDoc) -> Cell {
    match manager.stopped {
        Some(_) if manager.joined == Some(false) => Cell::toned("stopped", Tone::Warn),
        _ => Cell::status(manager.state),
    }
}

/// Every node: both its statuses, its manager, and its interface on every network.
/// With `clocks`, how far the clock of each is ahead, where that is known.
pub(crate) fn nodes(nodes: &[NodeDoc], now: &str, clocks: bool) -> Table {
    if nodes.iter().any(|node| node.last_known.is_some()) {
        return unknown_nodes(nodes, now);
    }
    let mut table = Table::new(&["", "NO", "NODE", "HOST", "AGENT", "MANAGER", "ROLE"]);
    for interface in nodes.first().map_or(&[][..], |node| &node.interfaces) {
        table.column(&clean(&interface.network));
    }
    // How long says enough here; with the time, too, a failure would not fit into 80 columns.
    table.column("FOR");
    let clocks = clocks && nodes.iter().any(|node| node.clock_offset_ms.is_some());
    if clocks {
        table.column("CLOCK");
    }
    for node in nodes {
        let role = if node.director { "director".to_owned() } else { node.role.to_string() };
        let mut row = vec![
            Cell::from(if node.local { "*" } else { "" }),
            node.number.into(),
            Cell::toned(
                &node.name,
                if node.jeopardy == Some(true) { Tone::Warn } else { Tone::Plain },
            ),
            Cell::status(node.host_status),
            Cell::status(node.agent_status),
            manager_cell(&node.manager),
            role.into(),
        ];
        row.extend(node.interfaces.iter().map(|interface| Cell::status(interface.status)));
        row.push(age(&node.host_since, now).into());
        if clocks {
            row.push(node.clock_offset_ms.map_or_else(|| "".into(), clock_offset));
        }
        table.row(row);
    }
    table
}

/// By how much a clock is ahead of that of the answering node.
pub(crate) fn clock_offset(ms: f64) -> Cell {
    let text = match ms.abs() {
        less if less < 1_000.0 => format!("{ms:+.1} ms"),
        _ => format!("{:+.1} s", ms / 1_000.0),
    };
    let most = CLOCK_TOLERANCE_US as f64 / 1_000.0;
    Cell::toned(text, if ms.abs() < most { Tone::Plain } else { Tone::Warn })
}

/// Nodes of which the present status is not known, with what was known last. The interfaces of others
/// are not known either, and there is no room for saying so.
fn unknown_nodes(nodes: &[NodeDoc], now: &str) -> Table {
    let mut table = Table::new(&["", "NO", "NODE", "HOST", "AGENT", "ROLE", "FOR", "LAST KNOWN"]);
    for node in nodes {
        let last = node.last_known.as_ref().map_or("-".into(), |last| {
            let at = clock(&last.as_of, now);
            format!("{}, {} at {at}", last.host_status, last.agent_status)
        });
        table.row(vec![
            Cell::from(if node.local { "*" } else { "" }),
            node.number.into(),
            (&node.name).into(),
            Cell::status(node.host_status),
            Cell::status(node.agent_status),
            node.role.into(),
            age(&node.host_since, now).into(),
            last.into(),
        ]);
    }
    table
}

/// Networks of which something is not known, with what was known last.
fn unknown_networks(networks: &[NetworkDoc], now: &str) -> Table {
    let mut table = Table::new(&["NO", "NETWORK", "STATUS", "PRIORITY", "NODES"]);
    for network in networks {
        table.row(vec![
            network.number.into(),
            (&network.name).into(),
            known_or_last(network.status, network.last_known.as_ref(), now),
            network.priority.into(),
            nodes_of(network).into(),
        ]);
    }
    table
}

/// How many nodes are in a network's group.
fn nodes_of(network: &NetworkDoc) -> String {
    format!("{} of {}", count_or_unknown(network.nodes_in_group), network.nodes_defined)
}

/// Records of this node's own journal, one a line.
pub(crate) fn local_records(records: &[LocalRecordDoc], now: &str) -> Table {
    let mut table = Table::new(&["TIME", "LOCAL", "SEVERITY", "WHAT"]);
    for record in records {
        let tone = severity_tone(record.severity);
        table.row(vec![
            clock(&record.at, now).into(),
            format!("L{}", record.number).into(),
            Cell::toned(record.severity, tone),
            local_sentence(record).into(),
        ]);
    }
    table
}

/// What a record of the journal says, and why.
pub(crate) fn local_sentence(record: &LocalRecordDoc) -> String {
    let phase = if record.phase == "cleared" { "over: " } else { "" };
    let cause =
        if record.cause.is_empty() { String::new() } else { format!(" ({})", record.cause) };
    format!("{phase}{}{cause}", record.message)
}

fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// Every network, in one line.
pub(crate) fn networks(networks: &[NetworkDoc], now: &str) -> Table {
    if networks.iter().any(|network| network.nodes_in_group.is_none()) {
        return unknown_networks(networks, now);
    }
    let mut heading =
        vec!["NO", "NETWORK", "STATUS", "PRIORITY", "GROUP", "NODES", "LEADER", "SINCE"];
    let standbys = networks.iter().any(|network| !network.standbys.is_empty());
    if standbys {
        heading.push("STANDBYS");
    }
    let mut table = Table::new(&heading);
    for network in networks {
        let mut row = vec![
            network.number.into(),
            (&network.name).into(),
            Cell::status(network.status),
            network.priority.into(),
            Cell::status(network.group_status),
            nodes_of(network).into(),
            network.leader.as_deref().unwrap_or("-").into(),
            clock(&network.since, now).into(),
        ];
        if standbys {
            row.push(standbys_cell(&network.standbys));
        }
        table.row(row);
    }
    table
}

/// How many standby adapters could take over, `1 of 2`.
fn standbys_cell(standbys: &[StandbyDoc]) -> Cell {
    let up = standbys.iter().filter(|standby| standby.status == InterfaceStatus::Up).count();
    let failed = standbys.iter().any(|standby| standby.status == InterfaceStatus::Down);
    let tone = if failed { Tone::Warn } else { Tone::Plain };
    Cell::toned(format!("{up} of {}", standbys.len()), tone)
}

/// Events, one a line.
pub(crate) fn events(events: &[EventDoc], now: &str) -> Table {
    let mut table = Table::new(&["TIME", "SEQ", "SEVERITY", "EVENT"]);
    for event in events {
        let tone = severity_tone(event.severity);
        let mut what = sentence(event);
        let mut at = clock(&event.at, now);
        if let Some(told) = &event.told {
            what += &format!(" [told at {at}]");
            at = clock(&told.happened_at, now);
        }
        table.row(vec![
            at.into(),
            event.seq.into(),
            Cell::toned(event.severity, tone),
            what.into(),
        ]);
    }
    table
}

/// What happened and why.
pub(crate) fn sentence(event: &EventDoc) -> String {
    let test = if event.test { " [test]" } else { "" };
    if event.cause.is_empty() {
        format!("{}{test}", event.message)
    } else {
        format!("{}{test} ({})", event.message, event.cause)
    }
}

/// `1 voter`, `2 voters`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
