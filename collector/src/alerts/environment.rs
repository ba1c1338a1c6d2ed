//! What the script is told: arguments, environment, standard input. A contract, described at
//! [`AlertInput`](super::AlertInput).

use serde_json::{Value, json};
use vedette_core::id::Hash;
use vedette_core::model::HostStatus;
use vedette_core::record::{Code, Subject};

use super::AlertInput;
use crate::history::Line;

/// The longest value; the system allows 128 KiB for one variable, and an alert needs far less.
const LONGEST: usize = 16 * 1_024;

/// Arguments after the name of the script: id, class, name, type, description.
pub(super) fn arguments(input: &AlertInput) -> [String; 5] {
    let record = &input.record;
    [
        record.seq.to_string(),
        record.subject.kind().into(),
        clipped(&record.subject_name).into(),
        record.code.name().into(),
        clipped(&record.message).into(),
    ]
}

/// The whole environment, besides `PATH` and `LANG`.
pub(super) fn of(input: &AlertInput) -> Vec<(String, String)> {
    let ours = ours(input).map(|(name, value)| (format!("VEDETTE_ALERT_{name}"), value));
    let theirs = pacemaker(input).into_iter().chain(pacemaker_resource(input));
    let theirs = theirs.map(|(name, value)| (format!("CRM_alert_{name}"), value));
    ours.chain(theirs).map(|(name, value)| (name, clipped(&value).to_owned())).collect()
}

fn ours(input: &AlertInput) -> impl Iterator<Item = (&'static str, String)> {
    let record = &input.record;
    let log = input.log.as_ref().map(|path| path.display().to_string());
    [
        ("ID", record.seq.to_string()),
        ("SEQ", record.seq.to_string()),
        ("CODE", record.code.name().into()),
        ("SEVERITY", record.severity.name().into()),
        ("MESSAGE", record.message.clone()),
        ("SUBJECT", record.subject_name.clone()),
        ("SUBJECT_KIND", record.subject.kind().into()),
        ("NODE", input.node.clone()),
        ("MEMBER", input.member.clone()),
        ("CLUSTER", input.cluster.clone()),
        ("PREVIOUS", record.previous.clone()),
        ("CURRENT", record.current.clone()),
        ("CAUSE", record.cause.clone()),
        ("TIMESTAMP", record.at.to_string()),
        ("INCIDENT", record.incident.map(|index| index.to_string()).unwrap_or_default()),
        ("REVISION", record.index.to_string()),
        ("SCOPE", input.scope.name().into()),
        ("TEST", u8::from(record.test).to_string()),
        ("ATTEMPT", input.attempt.to_string()),
        ("MAILTO", input.mail_to.clone().unwrap_or_default()),
        ("LOG", log.unwrap_or_default()),
    ]
    .into_iter()
}

fn is_node(input: &AlertInput) -> bool {
    matches!(input.record.subject, Subject::Node(_))
}

fn pacemaker(input: &AlertInput) -> Vec<(&'static str, String)> {
    let record = &input.record;
    vec![
        ("kind", if is_node(input) { "node" } else { "resource" }.into()),
        ("node", input.node.clone()),
        ("nodeid", record.subject.numbers().0.to_string()),
        ("desc", description(input)),
        ("timestamp", record.at.to_string()),
        ("timestamp_epoch", record.at.unix_seconds().to_string()),
        ("timestamp_usec", record.at.micros_of_second().to_string()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("node_sequence", record.seq.to_string()),
        ("recipient", input.mail_to.clone().unwrap_or_default()),
    ]
}

/// Pacemaker's agents know two words for a node; everything else is free text.
fn description(input: &AlertInput) -> String {
    let record = &input.record;
    if record.code != Code::NodeHost {
        return record.message.clone();
    }
    if record.current == HostStatus::Up.name() { "member".into() } else { "lost".into() }
}

/// The return codes differ if something is bad, as an agent expects of a failed operation.
fn pacemaker_resource(input: &AlertInput) -> Vec<(&'static str, String)> {
    let record = &input.record;
    if is_node(input) {
        return Vec::new();
    }
    let bad = record.severity <= vedette_core::model::Severity::Warning;
    vec![
        ("rsc", record.subject_name.clone()),
        ("task", record.code.name().into()),
        ("rc", u8::from(bad).to_string()),
        ("target_rc", "0".into()),
        ("status", "0".into()),
    ]
}

/// The record as one JSON object: the fields of an exported line without the link, and where and
/// for whom the script runs.
pub(super) fn json(input: &AlertInput) -> String {
    let line = Line::new(&input.record, Hash::default());
    let mut object = match serde_json::to_value(line) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(),
    };
    object.remove("previous_hash");
    object.insert("scope".into(), json!(input.scope.name()));
    object.insert("cluster".into(), json!(input.cluster));
    object.insert("member".into(), json!(input.member));
    object.insert("node".into(), json!(input.node));
    object.insert("attempt".into(), json!(input.attempt));
    format!("{}\n", Value::Object(object))
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}
