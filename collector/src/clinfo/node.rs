//! One member: its statuses, since when, and why (spec A8, A9, A10), and its manager (H11).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::{AgentStatus, HostStatus, Node, Role};
use vedette_core::view::View;

use super::known::if_known;
use super::{InterfaceDoc, LastKnownNodeDoc, MemberDoc, StandbyDoc};

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeDoc {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Whether it is the answering node.
    pub local: bool,
    /// `UNKNOWN`, `UP`, `DOWN`, `DISCONNECTED` or `NETPAR`.
    #[schema(value_type = String, example = "UP")]
    pub host_status: HostStatus,
    /// Since when.
    pub host_since: String,
    /// Why.
    pub host_cause: String,
    /// `UNKNOWN`, `RUNNING`, `DOWN`, `INITIALIZING` or `INVALID`.
    #[schema(value_type = String, example = "RUNNING")]
    pub agent_status: AgentStatus,
    /// Since when.
    pub agent_since: String,
    /// What was known of it last, where its present statuses are not known.
    #[serde(default)]
    pub last_known: Option<LastKnownNodeDoc>,
    /// `voter` or `learner`.
    #[schema(value_type = String, example = "voter")]
    pub role: Role,
    /// Whether it is the director.
    pub director: bool,
    /// Version of the product it joined with.
    pub version: String,
    /// Whether only one of several interfaces is left to it (spec V13); `null` where that is not known.
    pub jeopardy: Option<bool>,
    /// The open incident that concerns it; `null` if none does, or where that is not known.
    pub incident: Option<u64>,
    /// When it was added.
    pub added_at: String,
    /// Its manager: whether it takes part in events, and how far it is.
    pub manager: MemberDoc,
    /// By how many milliseconds its clock is ahead of that of the answering node, as that one measures
    /// it now; `null` where it does not, and for the answering node itself.
    #[serde(default)]
    pub clock_offset_ms: Option<f64>,
    /// Index of the last log entry that it has applied, as the answering node hears it now; `null`
    /// where it does not.
    #[serde(default)]
    pub log_position: Option<u64>,
    /// Its interfaces, in the order of the networks.
    pub interfaces: Vec<InterfaceDoc>,
    /// Its standby adapters, in the order of the networks.
    pub standbys: Vec<StandbyDoc>,
}

impl NodeDoc {
    /// One member of a view.
    pub fn new(view: &View, node: &Node) -> Self {
        let report = view.local.report.as_deref();
        Self {
            number: node.number.0,
            name: node.name.clone(),
            local: node.number == view.local.node,
            host_status: node.host,
            host_since: node.host_since.to_string(),
            host_cause: node.host_cause.clone(),
            agent_status: node.agent,
            agent_since: node.agent_since.to_string(),
            last_known: LastKnownNodeDoc::of(view, node),
            role: node.role,
            director: view.local.knows() && view.state.director == Some(node.number),
            version: node.version.clone(),
            jeopardy: if_known(view, || view.state.in_jeopardy(node)),
            incident: node.incident.filter(|_| view.local.knows()),
            added_at: node.added_at.to_string(),
            manager: MemberDoc::new(view, node.number),
            clock_offset_ms: report.and_then(|r| r.clock_offset_of(node.number)).map(offset_ms),
            log_position: report.and_then(|report| report.position_of(node.number)),
            interfaces: InterfaceDoc::of_node(view, node),
            standbys: StandbyDoc::of_node(view, node),
        }
    }

    /// Every member, by number.
    pub fn all(view: &View) -> Vec<Self> {
        view.state.nodes.values().map(|node| Self::new(view, node)).collect()
    }

    /// The member with that number or name. A name of digits only is taken for a number first.
    pub fn find(view: &View, number_or_name: &str) -> Option<Self> {
        find_node(view, number_or_name).map(|node| Self::new(view, node))
    }
}

/// An offset of a clock in milliseconds.
pub(super) fn offset_ms(offset_us: i64) -> f64 {
    offset_us as f64 / 1_000.0
}

/// The member with that number or name.
pub(super) fn find_node<'a>(view: &'a View, number_or_name: &str) -> Option<&'a Node> {
    let by_number = number_or_name
        .parse()
        .ok()
        .and_then(|number| view.state.nodes.get(&vedette_core::id::NodeNumber(number)));
    by_number.or_else(|| view.state.node_named(number_or_name))
}

/// A token with which a node may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDoc {
    /// The token.
    pub token: String,
    /// The node that it is for.
    pub name: String,
    /// The number that the node will have.
    pub number: u16,
    /// Until when it can be used.
    pub expires_at: String,
}
