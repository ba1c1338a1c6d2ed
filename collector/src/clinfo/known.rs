//! What was known last, beside what is not known now.
//!
//! A node without a quorum shows UNKNOWN of everything that others would have to confirm
//! ([`vedette_core::knowledge`]). What it was told last is never put in its place; it stands beside it
//! in a field `last_known`, which is `null` wherever the present status is known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::group::{Group, GroupState};
use vedette_core::model::{AgentStatus, HostStatus, Node};
use vedette_core::record::Code;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;
use vedette_core::view::View;

/// A status that was known last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastKnownDoc {
    /// The status, spelt as the present one would be.
    #[schema(example = "UP")]
    pub status: String,
    /// Since when it had that status.
    pub since: String,
    /// When the answering node knew it last.
    pub as_of: String,
}

/// The statuses of a node that were known last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastKnownNodeDoc {
    /// `UNKNOWN`, `UP`, `DOWN`, `DISCONNECTED` or `NETPAR`.
    #[schema(value_type = String, example = "UP")]
    pub host_status: HostStatus,
    /// `UNKNOWN`, `RUNNING`, `DOWN`, `INITIALIZING` or `INVALID`.
    #[schema(value_type = String, example = "RUNNING")]
    pub agent_status: AgentStatus,
    /// Since when its host had that status.
    pub since: String,
    /// When the answering node knew it last.
    pub as_of: String,
}

/// Where a group was last known to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastKnownGroupDoc {
    /// `ONLINE`, `OFFLINE`, `ACQUIRING`, `RELEASING`, `ERROR` or `UNMANAGED`.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: GroupState,
    /// The node that had it; of a concurrent group the first.
    pub owner: Option<String>,
    /// Since when it was in that state.
    pub since: String,
    /// When the answering node knew it last.
    pub as_of: String,
}

/// What the state says, if it is the present one; `None` stands for not known.
pub(super) fn if_known<T>(view: &View, value: impl FnOnce() -> T) -> Option<T> {
    view.local.knows().then(value)
}

/// When the answering node knew the state of the cluster last; `None` while it does.
///
/// A node that has just started read the state from its disk: that was true when it last changed, unless an
/// earlier run of its agent saw when the quorum was lost.
pub(super) fn as_of(view: &View) -> Option<WallTime> {
    let known = view.known.as_deref()?;
    let started = view.local.stage != "running";
    let seen = view.local.conditions.iter().any(|it| it.code == Code::QuorumLost);
    let lost = view.local.unknown_since.filter(|_| !started || seen);
    Some(lost.unwrap_or(known.changed_at))
}

/// What `find` finds in the last known state, if the present status is `unknown`.
pub(super) fn last_status(
    view: &View,
    unknown: bool,
    find: impl FnOnce(&ClusterState) -> Option<(String, WallTime)>,
) -> Option<LastKnownDoc> {
    let known = view.known.as_deref().filter(|_| unknown)?;
    let (status, since) = find(known)?;
    Some(LastKnownDoc { status, since: since.to_string(), as_of: as_of(view)?.to_string() })
}

impl LastKnownNodeDoc {
    /// The statuses of a node whose present ones are not known.
    pub(super) fn of(view: &View, node: &Node) -> Option<Self> {
        let known = view.known.as_deref().filter(|_| node.host == HostStatus::Unknown)?;
        let last = known.nodes.get(&node.number)?;
        Some(Self {
            host_status: last.host,
            agent_status: last.agent,
            since: last.host_since.to_string(),
            as_of: as_of(view)?.to_string(),
        })
    }
}

impl LastKnownGroupDoc {
    /// The state of a group whose present one is not known.
    pub(super) fn of(view: &View, name: &str, group: &Group) -> Option<Self> {
        let known = view.known.as_deref().filter(|_| group.state() == GroupState::Unknown)?;
        let last = known.groups.get(name)?;
        Some(Self {
            state: last.state(),
            owner: last.owner().map(|node| known.node_name(node)),
            since: last.since.to_string(),
            as_of: as_of(view)?.to_string(),
        })
    }
}
