//! Triggers: what happened that the cluster manager reacts to, and on whose behalf.
//!
//! A [`Trigger`] is what an event is about. Its order in the queue and what it holds up are written here;
//! the life of the event is in [`crate::event`].

use serde::{Deserialize, Serialize};

use crate::id::{NetworkNumber, NodeNumber};
use crate::model::status;

/// What happened. The order of the variants says nothing; see [`Trigger::rank`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A node joins.
    NodeUp(NodeNumber),
    /// A node failed (`stop` is none), or is being stopped.
    NodeDown {
        /// Which.
        node: NodeNumber,
        /// How, if on purpose. A forced stop is no event.
        stop: Option<StopMode>,
    },
    /// A service adapter failed; its addresses go to a standby of the same node (H27).
    SwapAdapter {
        /// Whose.
        node: NodeNumber,
        /// On which network.
        network: NetworkNumber,
    },
    /// A standby adapter works (again).
    JoinStandby {
        /// Whose.
        node: NodeNumber,
        /// On which network.
        network: NetworkNumber,
    },
    /// A standby adapter failed.
    FailStandby {
        /// Whose.
        node: NodeNumber,
        /// On which network.
        network: NetworkNumber,
    },
    /// A network works (again).
    NetworkUp(NetworkNumber),
    /// A network failed.
    NetworkDown(NetworkNumber),
    /// Networks were changed by a new configuration.
    ReconfigTopology {
        /// The version of the configuration.
        version: u32,
    },
    /// Groups were changed by a new configuration.
    ReconfigResource {
        /// The version of the configuration.
        version: u32,
    },
    /// A group is not where it should be: an operator moved it, a resource failed too often, or its
    /// node could not acquire it.
    GroupMove {
        /// Which.
        group: String,
    },
    /// A rule's predicate became true (H29 to H33).
    User {
        /// The rule.
        rule: String,
        /// On which node.
        node: NodeNumber,
        /// The instance, such as `NodeNum=5;ProgName=rwhod;UserName=root`.
        instance: String,
        /// The value that made it true, in words.
        value: String,
    },
}

impl Trigger {
    /// Whether another event has to wait until this one is over, even if it failed: both are about the same node,
    /// group, adapter or network, or change the configuration. A death waits for nothing but an earlier death
    /// of the same node.
    pub fn comes_before(&self, other: &Self) -> bool {
        use Trigger as T;
        match (self, other) {
            (T::NodeDown { node: a, stop: None }, T::NodeDown { node: b, stop: None }) => a == b,
            (_, T::NodeDown { stop: None, .. }) => false,
            (
                T::NodeUp(a) | T::NodeDown { node: a, .. },
                T::NodeUp(b) | T::NodeDown { node: b, .. },
            ) => a == b,
            (T::NetworkUp(a) | T::NetworkDown(a), T::NetworkUp(b) | T::NetworkDown(b)) => a == b,
            (T::GroupMove { group: a }, T::GroupMove { group: b }) => a == b,
            // Another value of the same instance is the same trouble.
            (
                T::User { rule: a, node: m, instance: i, .. },
                T::User { rule: b, node: n, instance: j, .. },
            ) => (a, m, i) == (b, n, j),
            (
                T::ReconfigTopology { .. } | T::ReconfigResource { .. },
                T::ReconfigTopology { .. } | T::ReconfigResource { .. },
            ) => true,
            _ => self.adapter().zip(other.adapter()).map_or(self == other, |(a, b)| a == b),
        }
    }

    /// The adapter that it is about.
    pub fn adapter(&self) -> Option<(NodeNumber, NetworkNumber)> {
        match self {
            Self::SwapAdapter { node, network }
            | Self::JoinStandby { node, network }
            | Self::FailStandby { node, network } => Some((*node, *network)),
            _ => None,
        }
    }

    /// The event's name, as scripts, JSON and text have it (`EVNAME`).
    pub fn name(&self) -> &str {
        match self {
            Self::NodeUp(_) => "node_up",
            Self::NodeDown { .. } => "node_down",
            Self::SwapAdapter { .. } => "swap_adapter",
            Self::JoinStandby { .. } => "join_standby",
            Self::FailStandby { .. } => "fail_standby",
            Self::NetworkUp(_) => "network_up",
            Self::NetworkDown(_) => "network_down",
            Self::ReconfigTopology { .. } => "reconfig_topology",
            Self::ReconfigResource { .. } => "reconfig_resource",
            Self::GroupMove { .. } => "group_move",
            Self::User { rule, .. } => rule,
        }
    }

    /// The name of its rule in the rules file.
    pub fn rule(&self) -> &str {
        match self {
            Self::NodeUp(_) => "TE_JOIN_NODE",
            Self::NodeDown { .. } => "TE_FAIL_NODE",
            Self::SwapAdapter { .. } => "TE_SWAP_ADAPTER",
            Self::JoinStandby { .. } => "TE_JOIN_STANDBY",
            Self::FailStandby { .. } => "TE_FAIL_STANDBY",
            Self::NetworkUp(_) => "TE_JOIN_NETWORK",
            Self::NetworkDown(_) => "TE_FAIL_NETWORK",
            Self::ReconfigTopology { .. } => "TE_DARE_TOPOLOGY",
            Self::ReconfigResource { .. } => "TE_DARE_RESOURCE",
            Self::GroupMove { .. } => "TE_GROUP_MOVE",
            Self::User { rule, .. } => rule,
        }
    }

    /// The node on which it happened: node set `event` (`EVLOCATION`).
    pub const fn node(&self) -> Option<NodeNumber> {
        match self {
            Self::NodeUp(node)
            | Self::NodeDown { node, .. }
            | Self::SwapAdapter { node, .. }
            | Self::JoinStandby { node, .. }
            | Self::FailStandby { node, .. }
            | Self::User { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// Its place in the queue, least first (spec H14): the class, then numbers of node and network.
    pub fn rank(&self) -> (u8, u16, u8) {
        match self {
            Self::NodeUp(node) => (1, node.0, 0),
            Self::NodeDown { node, .. } => (2, node.0, 0),
            Self::SwapAdapter { node, network } => (3, node.0, network.0),
            Self::NetworkUp(network) => (4, 0, network.0),
            Self::NetworkDown(network) => (5, 0, network.0),
            Self::JoinStandby { node, network } => (6, node.0, network.0),
            Self::FailStandby { node, network } => (7, node.0, network.0),
            Self::ReconfigTopology { .. } => (8, 0, 0),
            Self::ReconfigResource { .. } => (9, 0, 0),
            Self::GroupMove { .. } => (10, 0, 0),
            Self::User { node, .. } => (11, node.0, 0),
        }
    }
}

status! {
    /// How a node's manager is stopped (spec H21).
    StopMode {
        /// Resources are released and nobody takes them.
        Graceful = 1 "graceful",
        /// Resources are released and others take them.
        Takeover = 2 "takeover",
        /// Resources are left running, watched by nobody.
        Forced = 3 "forced",
    }
}

status! {
    /// On whose behalf an event takes a group out of service: what tells failovers, moves and failbacks
    /// apart.
    Motive {
        /// Something failed.
        Failure = 1 "failure",
        /// An operator ordered it.
        Operator = 2 "operator",
        /// A better place for a group is there (again), and its policy takes it there.
        Return = 3 "return",
        /// The configuration was changed.
        Configuration = 4 "configuration",
        /// A rule about values fired.
        Rule = 5 "rule",
    }
}

impl Motive {
    /// Whether the interruption of service is planned.
    pub const fn is_planned(self) -> bool {
        !matches!(self, Self::Failure)
    }
}
