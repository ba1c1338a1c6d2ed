//! Questions about events: what they are called, what waits or has begun, and what a site has said about its own.

use crate::definition::OnFailure;
use crate::event::{Event, Running, Stage};
use crate::id::NodeNumber;
use crate::model::Substate;
use crate::trigger::Trigger;

use super::ClusterState;

impl ClusterState {
    /// What an event is called, such as `event 4 node_down n1`.
    pub fn event_label(&self, event: &Event) -> String {
        format!("event {} {}", event.id, self.trigger_label(&event.trigger))
    }

    /// What happened, such as `node_down n1` or `swap_adapter n1/neta`.
    pub fn trigger_label(&self, trigger: &Trigger) -> String {
        let name = trigger.name();
        match trigger {
            Trigger::NodeUp(node) | Trigger::NodeDown { node, .. } | Trigger::User { node, .. } => {
                format!("{name} {}", self.node_name(*node))
            }
            Trigger::SwapAdapter { node, network }
            | Trigger::JoinStandby { node, network }
            | Trigger::FailStandby { node, network } => {
                format!("{name} {}/{}", self.node_name(*node), self.network_name(*network))
            }
            Trigger::NetworkUp(network) | Trigger::NetworkDown(network) => {
                format!("{name} {}", self.network_name(*network))
            }
            Trigger::ReconfigTopology { version } | Trigger::ReconfigResource { version } => {
                format!("{name} version {version}")
            }
            Trigger::GroupMove { group } => format!("{name} {group}"),
        }
    }

    pub(crate) fn names<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeNumber>) -> String {
        let names: Vec<String> = nodes.into_iter().map(|node| self.node_name(*node)).collect();
        if names.is_empty() { "nobody".into() } else { names.join(", ") }
    }

    /// What waiting and running events mean for the cluster's substate, and which one it is.
    pub(crate) fn manager_substate(&self) -> Option<(Substate, String)> {
        if let Some(failed) = self.manager.failed().next() {
            let what = self.event_label(&failed.event);
            return Some((Substate::Error, format!("{what} failed")));
        }
        let Some(running) = &self.manager.current else {
            let waiting = self.manager.queue.first()?;
            return Some((Substate::Unstable, format!("{} waits", self.event_label(waiting))));
        };
        let what = self.event_label(&running.event);
        let reconfig = matches!(
            running.event.trigger,
            Trigger::ReconfigResource { .. } | Trigger::ReconfigTopology { .. }
        );
        Some(match running.stage {
            Stage::Error => (Substate::Error, format!("{what} failed")),
            Stage::Running if reconfig => (Substate::Reconfig, format!("{what} runs")),
            Stage::Running => (Substate::Unstable, format!("{what} runs")),
            Stage::Voting => (Substate::Unstable, format!("{what} is voted on")),
        })
    }

    /// Whether an event that began is one that `wanted` knows, in any stage.
    pub(crate) fn has_begun(&self, wanted: impl Fn(&Trigger) -> bool) -> bool {
        self.manager.begun().any(|running| wanted(&running.event.trigger))
    }

    /// Whether an event waits that `wanted` knows.
    pub(crate) fn waits(&self, wanted: impl Fn(&Trigger) -> bool) -> bool {
        self.manager.queue.iter().any(|event| wanted(&event.trigger))
    }

    /// Whether no event waits or runs although there is somebody to process one. What only an operator goes on
    /// with does not count, nor what waits for that.
    pub(crate) fn is_idle(&self) -> bool {
        self.seeded
            && self.manager.is_open()
            && self.manager.next().is_none()
            && self.manager.joined().next().is_some()
    }

    /// Whether an event of that id can be ended before it is over: a user-defined one that waits or has begun, or one
    /// that goes on beside others.
    pub fn may_be_aborted(&self, id: u64) -> bool {
        let is_it = |event: &Event| event.id == id && matches!(event.trigger, Trigger::User { .. });
        let goes_on = |it: &Running| it.event.id == id && it.may_run_aside();
        self.manager.queue.iter().any(is_it)
            || self.manager.begun().any(|running| is_it(&running.event) || goes_on(running))
    }

    /// What becomes of an event of which a command failed.
    pub fn on_failure(&self, trigger: &Trigger) -> OnFailure {
        match trigger {
            Trigger::User { rule, .. } => {
                self.definition.hooks.get(rule).map(|hooks| hooks.on_failure).unwrap_or_default()
            }
            _ => OnFailure::Wait,
        }
    }

    /// How long an event may run altogether.
    pub fn time_limit_of(&self, trigger: &Trigger) -> Option<u64> {
        let Trigger::User { rule, .. } = trigger else { return None };
        self.definition.hooks.get(rule)?.time_limit_ms
    }
}
