//! `vedette resource`: how an event script has the agent do the resource work (hidden; scripts of a
//! site use it, too).
//!
//! What the agent does is printed as it happens and is kept with the event; the exit status is 0 if it
//! was done, or if the group could not be started and was left clean: then the event goes on, and the
//! cluster tries another node. It is 2 if an operator is needed.

use std::ops::ControlFlow;

use clap::{Args, ValueEnum};

use super::aside;
use super::context::Context;
use super::fail::{FAILED, Failure, Result};
use super::text::clean;
use crate::daemon::control::{ResourceLine, ResourceRequest};
use crate::daemon::executor::Verb;

/// `vedette resource`
#[derive(Debug, Args)]
pub(crate) struct ResourceArgs {
    /// What to do
    #[arg(value_enum)]
    verb: Word,
    /// The groups, one after the other; for swap, a network will do
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Start its resources in order, once the cluster lets this node
    Acquire,
    /// Stop them in reverse
    Release,
    /// Exchange the adapters of its networks
    Swap,
    /// Say how it is on this node
    Status,
}

impl From<Word> for Verb {
    fn from(word: Word) -> Self {
        match word {
            Word::Acquire => Self::Acquire,
            Word::Release => Self::Release,
            Word::Swap => Self::Swap,
            Word::Status => Self::Status,
        }
    }
}

/// Has it done; the worst exit status counts.
pub(crate) fn run(context: &Context, arguments: &ResourceArgs) -> Result<u8> {
    let mut worst = 0;
    for group in &arguments.groups {
        worst = worst.max(one(context, arguments.verb.into(), group)?);
    }
    Ok(worst)
}

fn one(context: &Context, verb: Verb, group: &str) -> Result<u8> {
    let request = ResourceRequest { verb, group: group.to_owned() };
    let mut text = Vec::new();
    let mut ended = None;
    context.client()?.stream_post("/control/v1/resource", &request, |bytes| {
        text.extend_from_slice(bytes);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(ResourceLine::Line { line }) => context.print(&format!("{}\n", clean(&line)))?,
                Ok(ResourceLine::End { exit, message }) => ended = Some((exit, message)),
                Err(_) => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match ended {
        Some((0, message)) => {
            let lines: Vec<String> = message.lines().map(clean).collect();
            context.print(&format!("{}\n", lines.join("\n")))?;
            Ok(0)
        }
        Some((exit, message)) => {
            aside::failure(&Failure::failed(clean(&message), "").exiting(exit));
            Ok(exit)
        }
        None => Err(Failure::failed(
            format!("the agent ended before {} was done with", clean(group)),
            "It does it again by itself when it is back.",
        )
        .exiting(FAILED)),
    }
}
