//! Incidents: one failure and everything that was done about it, made of the history's records.
//!
//! A record says which incident it belongs to by the log index of the record that began it. So an
//! incident is nothing that anybody keeps: it is what the history holds under one number, put into
//! order here by a pure function. What is not over has no end; nothing is guessed.
//!
//! - `line`: when each record happened, whatever clocks said;
//! - `outages`: when groups served nobody, and why; the report about availability is made of the same;
//! - `story`: beginning, decisions, events, end;
//! - `steps`: what was done, with lengths, for a waterfall;
//! - `documents`: what users see.

mod documents;
pub(crate) mod line;
pub(crate) mod outages;
mod steps;
mod story;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use documents::{
    IncidentDoc, IncidentEventDoc, IncidentState, IncidentStepDoc, IncidentSummaryDoc, OutageDoc,
    OutageKind, StepKind,
};
