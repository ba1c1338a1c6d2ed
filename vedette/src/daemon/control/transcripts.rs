//! What programs printed on this node. On the socket alone: files that only root may read stay root's.

use std::collections::BTreeMap;

use axum::extract::State;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{TranscriptDoc, TranscriptText, TranscriptsDoc};
use vedette_exporter::query::{Asked, Value};
use vedette_exporter::{InPath, Problem};
use vedette_node::transcript::{Label, file};

use super::{Answer, Control, at_most, blocking};

/// Most transcripts of one answer.
const MOST: usize = 1_000;

vedette_exporter::query! {
    /// Selection of transcripts.
    pub(super) struct Which {
        /// Only those of this event
        event: u64,
        /// Only those of this incident
        incident: u64,
        /// Only those of this group
        group: String,
        /// Only those of this resource
        resource: String,
        /// Only those of programs of this kind
        kind: String,
        /// At most so many: the newest
        limit: u64,
    }
}

impl Which {
    fn fits(&self, label: &Label) -> bool {
        let heading = &label.heading;
        self.event.is_none_or(|event| heading.event == Some(event))
            && self.incident.is_none_or(|incident| heading.incident == Some(incident))
            && self.group.as_ref().is_none_or(|group| heading.group.as_ref() == Some(group))
            && self.resource.as_ref().is_none_or(|it| heading.resource.as_ref() == Some(it))
            && self.kind.as_ref().is_none_or(|kind| heading.kind.name() == kind)
    }
}

/// The newest that fit, oldest first.
pub(super) async fn list(
    State(control): State<Control>,
    Asked(which): Asked<Which>,
) -> Answer<TranscriptsDoc> {
    let folder = control.transcripts.folder().to_owned();
    let node = control.transcripts.node().to_owned();
    let labels = blocking(move || file::list(&folder)).await?;
    let mut transcripts: Vec<TranscriptDoc> =
        labels.iter().filter(|label| which.fits(label)).map(TranscriptDoc::from).collect();
    let surplus = transcripts.len().saturating_sub(at_most(which.limit, MOST, MOST));
    transcripts.drain(..surplus);
    Ok(axum::Json(TranscriptsDoc { node, transcripts, elsewhere: BTreeMap::new() }))
}

pub(super) async fn show(
    State(control): State<Control>,
    InPath(number): InPath,
) -> Answer<TranscriptText> {
    let number = u64::read("number", &number)?;
    let folder = control.transcripts.folder().to_owned();
    let found = blocking(move || Ok::<_, std::convert::Infallible>(file::read(&folder, number)));
    let (label, bytes) = found.await?.map_err(|error| {
        let (node, advice) =
            (control.transcripts.node(), "See which there are: vedette transcript list.");
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                let what = format!("{node} has no transcript {number}, or not any more.");
                Problem::new(Kind::NoTranscript, what, advice)
            }
            _ => Problem::internal(error),
        }
    })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(axum::Json(TranscriptText { about: TranscriptDoc::from(&label), text }))
}
