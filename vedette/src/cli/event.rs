//! `vedette event`: what happened (`list`, the records of the history), and what the cluster manager is
//! doing about it (`show`, its events with their steps; spec H11 to H18). What user-defined events come
//! from is `monitors` (H29 to H33).

mod monitors;

use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use vedette_collector::clinfo::{EventDoc, ManagerDoc, MonitorsDoc, RunningDoc};
use vedette_core::event::{RecoverAction, Stage};
use vedette_core::model::Severity;
use vedette_core::record::Code;
use vedette_core::time::WallTime;

use super::ask::Confirm;
use super::client::Client;
use super::context::Context;
use super::fail::{Failure, Result};
use super::manage;
use super::status;
use super::text::{Cell, Style, Table, Tone, age, block, clean, clock, millis, wrap};

/// `vedette event`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette event list\n  vedette event list --follow\n  vedette event show\n  \
    vedette event abort 12\n  vedette event monitors")]
pub(crate) enum EventCommand {
    /// List the last events, oldest first
    List(ListArgs),
    /// Show what the cluster manager does: the event in progress, those that wait, the last ones
    Show(ShowArgs),
    /// End a user-defined event, with its commands, or one that failed or is slow
    Abort(AbortArgs),
    /// Show what this node's resource monitors see, and which rules have fired on any node
    Monitors(MonitorsArgs),
}

/// `vedette event monitors`
#[derive(Debug, Args)]
#[command(
    after_help = "A monitor runs on a node when a rule in force, or the configuration, needs \
    it.\n\nExamples:\n  vedette event monitors\n  vedette event monitors -o json"
)]
pub(crate) struct MonitorsArgs {}

/// `vedette event abort`
#[derive(Debug, Args)]
#[command(
    after_help = "A user-defined event is ended wherever it is: it waits, it is voted on, its commands run or have \
    failed. What of its commands runs is ended, whatever they started; what was not done is left undone. An event of \
    the cluster itself is ended after it failed, as by: vedette recover abort; or while it goes on beside others, because \
    a program of it takes long: what it was starting is stopped again, and what it was stopping goes on stopping.\n\n\
    Examples:\n  vedette event abort 12\n  vedette event abort 12 --yes"
)]
pub(crate) struct AbortArgs {
    /// The event; its id is in: vedette event show
    #[arg(value_name = "ID")]
    event: u64,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette event show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette event show\n  vedette event show -o json")]
pub(crate) struct ShowArgs {}

/// `vedette event list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette event list\n  \
    vedette event list --severity warning --limit 50\n  \
    vedette event list --follow -o json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// Go on with what happens from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
}

/// Which events are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct Filter {
    /// Only events after this sequence number
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    /// Only events before this sequence number
    #[arg(long, value_name = "SEQ")]
    pub(crate) before: Option<u64>,
    /// Not what was before: 2026-11, 2026-11-01, 2026-11-01T12:00Z, or how long ago (36h, 30d)
    #[arg(long, value_name = "TIME", value_parser = super::incident::moment)]
    pub(crate) since: Option<WallTime>,
    /// Not what was after
    #[arg(long, value_name = "TIME", value_parser = super::incident::moment)]
    pub(crate) until: Option<WallTime>,
    /// How many at most: the last ones
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) limit: u64,
    /// Only this severity or worse: error, warning, notice, informational
    #[arg(long, value_parser = severity)]
    pub(crate) severity: Option<Severity>,
    /// Only events with this code, such as NODE_HOST
    #[arg(long, value_parser = code)]
    pub(crate) code: Option<String>,
    /// Only events about this kind of thing
    #[arg(long, value_name = "KIND", value_parser =
          ["cluster", "node", "network", "interface", "link", "alert_script", "group", "resource",
           "event", "rules", "configuration"])]
    pub(crate) subject: Option<String>,
    /// Only events of the incident that began with this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) incident: Option<u64>,
}

/// A severity by its name.
pub(crate) fn severity(text: &str) -> std::result::Result<Severity, String> {
    Severity::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Severity::ALL.iter().map(|severity| severity.name()).collect();
        format!("possible: {}", names.join(", "))
    })
}

fn code(text: &str) -> std::result::Result<String, String> {
    let wanted = text.to_ascii_uppercase();
    if Code::from_name(&wanted).is_some() {
        return Ok(wanted);
    }
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    Err(format!("possible: {}", names.join(", ")))
}

impl Filter {
    /// The path that asks the history for these events.
    pub(crate) fn path(&self) -> String {
        let mut path = format!("/control/v1/history?limit={}", self.limit);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", super::node::segment(&value)));
            }
        };
        add("after", self.after.map(|seq| seq.to_string()));
        add("before", self.before.map(|seq| seq.to_string()));
        add("since", self.since.map(|at| at.to_string()));
        add("until", self.until.map(|at| at.to_string()));
        add("severity", self.severity.map(|severity| severity.name().to_owned()));
        add("code", self.code.clone());
        add("subject", self.subject.clone());
        add("incident", self.incident.map(|incident| incident.to_string()));
        path
    }

    /// Whether an event that just happened is one of these.
    fn fits(&self, event: &EventDoc) -> bool {
        self.severity.is_none_or(|least| event.severity <= least)
            && self.code.as_ref().is_none_or(|code| *code == event.code)
            && self.subject.as_ref().is_none_or(|subject| *subject == event.subject.kind)
            && self.incident.is_none_or(|incident| event.incident == Some(incident))
    }
}

/// Carries out a command on events.
pub(crate) fn run(context: &Context, command: EventCommand) -> Result<u8> {
    let arguments = match command {
        EventCommand::List(arguments) => arguments,
        EventCommand::Show(_) => {
            context.show("/api/v1/manager", |manager: &ManagerDoc| {
                screen(manager, &context.now(), context.style)
            })?;
            return Ok(0);
        }
        EventCommand::Abort(it) => {
            return manage::go_on(context, RecoverAction::Abort, Some(it.event), Some(it.confirm));
        }
        EventCommand::Monitors(_) => {
            context.show("/api/v1/monitors", |doc: &MonitorsDoc| {
                monitors::screen(doc, &context.now(), context.style)
            })?;
            return Ok(0);
        }
    };
    show(context, &arguments.filter)?;
    if arguments.follow { follow(context, &arguments.filter) } else { Ok(0) }
}

/// Shows the events that fit.
pub(crate) fn show(context: &Context, filter: &Filter) -> Result<Vec<EventDoc>> {
    context.show(&filter.path(), |events: &Vec<EventDoc>| {
        // The history begins with the newest where no beginning was given.
        let mut events = events.clone();
        events.sort_by_key(|event| event.seq);
        status::events(&events, &context.now()).render(context.style, 0)
    })
}

/// Shows what happens from now on, until interrupted.
pub(crate) fn follow(context: &Context, filter: &Filter) -> Result<u8> {
    watch(&context.client()?, |data| {
        let Ok(event) = serde_json::from_str::<EventDoc>(data) else {
            return Ok(ControlFlow::Continue(()));
        };
        if filter.fits(&event) {
            let line =
                if context.json() { format!("{data}\n") } else { format!("{}\n", line(&event)) };
            context.print(&line)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Err(Failure::failed(
        "the daemon ended the stream of events",
        "Ask again: vedette event list --follow.",
    ))
}

/// The cluster manager: the event in progress, those that wait, those that ended lately.
pub(crate) fn screen(manager: &ManagerDoc, now: &str, style: Style) -> String {
    let mut text = match &manager.in_progress {
        Some(event) => running(event, now, style),
        None if !manager.known => {
            "Whether an event is in progress, and what waits, is not known.\n".into()
        }
        None => "No event is in progress.\n".into(),
    };
    for event in manager.set_aside.iter().flatten() {
        let how = match event.stage {
            Stage::Error => "failed and stepped aside: vedette recover show".to_owned(),
            _ => format!("runs on aside; to end it: vedette event abort {}", event.id),
        };
        text.push_str(&format!("Event {} {} {how}.\n", event.id, clean(&event.what)));
    }
    let queue = manager.queue.as_deref().unwrap_or_default();
    if !queue.is_empty() {
        let mut table = Table::new(&["WAITING", "EVENT", "SINCE", "BECAUSE"]).wrapping();
        for event in queue {
            let since = clock(&event.at, now);
            table.row(vec![
                event.id.into(),
                (&event.what).into(),
                since.into(),
                (&event.cause).into(),
            ]);
        }
        text.push_str(&format!("\n{}", table.render(style, 0)));
    }
    if !manager.recent.is_empty() {
        let mut table = Table::new(&["ENDED", "EVENT", "HOW", "AT", "TOOK", "INCIDENT"]);
        for event in manager.recent.iter().rev().take(10) {
            table.row(vec![
                event.id.into(),
                (&event.what).into(),
                (&event.how).into(),
                clock(&event.ended, now).into(),
                millis(event.duration_ms).into(),
                event.incident.into(),
            ]);
        }
        text.push_str(&format!("\n{}", table.render(style, 0)));
    }
    text
}

/// An event in progress, with its step.
pub(crate) fn running(event: &RunningDoc, now: &str, style: Style) -> String {
    let mut facts = Table::new(&["EVENT", &format!("{} {}", event.id, clean(&event.what))]);
    let mut fact = |name: &str, value: Cell| facts.row(vec![name.into(), value]);
    fact("because", (&event.cause).into());
    fact("began", format!("{}, {} ago", clock(&event.began, now), age(&event.began, now)).into());
    fact("stage", (&event.progress).into());
    if !event.program.is_empty() {
        fact("program", (&event.program).into());
    }
    fact("incident", event.incident.into());
    if !matches!(event.on_failure.as_str(), "" | "wait") {
        fact("on failure", (&event.on_failure).into());
    }
    if let Some(limit) = event.time_limit_ms {
        fact("time limit", millis(limit).into());
    }
    let mut text = facts.render(style, 0);
    if event.too_long {
        text.push_str(&format!("! {}\n", style.paint(Tone::Bad, "it runs too long")));
    }
    let mut table = Table::new(&["NODE", "STANDS", "COMMAND", "RESULT"]).wrapping();
    for node in &event.participants {
        let (name, stands) = (Cell::from(&node.node), Cell::status(node.stands.name()));
        if node.commands.is_empty() {
            table.row(vec![name.clone(), stands.clone(), "".into(), "".into()]);
        }
        for command in &node.commands {
            table.row(vec![
                name.clone(),
                stands.clone(),
                (&command.command).into(),
                (&command.result).into(),
            ]);
        }
    }
    text.push_str(&format!("\n{}", table.render(style, 0)));
    for node in &event.participants {
        for command in node.commands.iter().filter(|it| !it.expected && !it.output.is_empty()) {
            let heading = format!("{} on {} printed:", clean(&command.command), clean(&node.node));
            text.push_str(&format!("\n{heading}\n{}", block(&command.output, 2)));
            if command.output_dropped > 0 {
                let more = command.output_dropped;
                text.push_str(&format!("  ({more} more bytes do not stand here)\n"));
            }
            if let Some(name) = &command.transcript {
                text.push_str(&format!("  more of it: vedette transcript show {}\n", clean(name)));
            }
        }
    }
    if !event.moves.is_empty() {
        text.push('\n');
    }
    for it in &event.moves {
        let names = |nodes: &[String]| if nodes.is_empty() { "-".into() } else { nodes.join(" ") };
        let (from, to) = (names(&it.release), names(&it.acquire));
        let line = format!("{}: {from} -> {to}, because {}", it.group, it.reason);
        text.push_str(&format!("{}\n", wrap(&line, style.width, 2)));
    }
    text
}

/// One event as a line that stands alone.
fn line(event: &EventDoc) -> String {
    super::text::clean(&format!(
        "{} {:>6} {:13} {}",
        event.at,
        event.seq,
        event.severity,
        status::sentence(event)
    ))
}

/// Gives the data of every message of the event stream to `each`.
pub(crate) fn watch(
    client: &Client,
    mut each: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut stream = Sse::default();
    client.stream("/api/v1/watch", |bytes| {
        for data in stream.feed(bytes) {
            if each(&data)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// A stream of server-sent events while it arrives: bytes in, the data of whole messages out.
#[derive(Debug, Default)]
struct Sse {
    line: Vec<u8>,
    data: Vec<String>,
}

impl Sse {
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut messages = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let line = line.trim_end_matches('\r');
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            } else if line.is_empty() && !self.data.is_empty() {
                messages.push(std::mem::take(&mut self.data).join("\n"));
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_put_together_however_they_arrive() {
        let stream =
            b": hello\n\nid: 7\nevent: event\ndata: {\"a\":1}\n\ndata: x\r\ndata: y\r\n\r\n";
        for size in 1..stream.len() {
            let mut sse = Sse::default();
            let found: Vec<String> =
                stream.chunks(size).flat_map(|piece| sse.feed(piece)).collect();
            assert_eq!(found, ["{\"a\":1}", "x\ny"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_filter_becomes_a_query() {
        let filter = Filter {
            after: Some(3),
            before: None,
            since: Some(WallTime(0)),
            until: None,
            limit: 5,
            severity: Some(Severity::Warning),
            code: Some("LINK".into()),
            subject: Some("link".into()),
            incident: None,
        };
        assert_eq!(
            filter.path(),
            "/control/v1/history?limit=5&after=3&since=1970-01-01T00%3A00%3A00.000Z&severity=warning&code=LINK&subject=link"
        );
    }
}
