//! `vedette event`: what happened, as the daemon of this node remembers it.
//!
//! The daemon keeps the last events in memory for this; `vedette history` reads all of them.

use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use vedette_collector::clinfo::EventDoc;
use vedette_core::model::Severity;
use vedette_core::record::Code;

use super::client::Client;
use super::context::Context;
use super::fail::{Failure, Result};
use super::status;
use super::text::now;

/// `vedette event`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  vedette event list\n  vedette event list --follow")]
pub(crate) enum EventCommand {
    /// List the last events, oldest first
    List(ListArgs),
}

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
    /// How many at most
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
          ["cluster", "node", "network", "interface", "link", "alert_script"])]
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
    let EventCommand::List(arguments) = command;
    show(context, &arguments.filter)?;
    if arguments.follow { follow(context, &arguments.filter) } else { Ok(0) }
}

/// Shows the events that fit.
pub(crate) fn show(context: &Context, filter: &Filter) -> Result<Vec<EventDoc>> {
    context.show(&filter.path(), |events: &Vec<EventDoc>| {
        // The history begins with the newest where no beginning was given.
        let mut events = events.clone();
        events.sort_by_key(|event| event.seq);
        status::events(&events, &now()).render(context.style, 0)
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
fn watch(client: &Client, mut each: impl FnMut(&str) -> Result<ControlFlow<()>>) -> Result<()> {
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
            limit: 5,
            severity: Some(Severity::Warning),
            code: Some("LINK".into()),
            subject: Some("link".into()),
            incident: None,
        };
        assert_eq!(
            filter.path(),
            "/control/v1/history?limit=5&after=3&severity=warning&code=LINK&subject=link"
        );
    }
}
