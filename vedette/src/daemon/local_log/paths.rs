//! Paths to peers that are hardly good enough, told before anything breaks: round trips that come near to what the
//! cluster's timers allow for, and frames that are lost because they are long (findings F4, F9).

use std::time::Duration;

use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::local::Condition;
use vedette_core::local_view::Local;
use vedette_core::model::Timing;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::wire::FRAME;

use super::{LocalLog, own_condition};

impl LocalLog {
    /// Peers to which the best network takes so long. What was found of a peer that is not measured now stands for as
    /// long as that is a member.
    pub(super) fn see_round_trips(&self, local: &Local, state: &ClusterState) {
        let Some(report) = local.report.as_deref() else { return };
        let what = "round trips were almost too long";
        let standing = self.standing_of_members(Code::RoundTrip, what, local, state);
        let timing = &state.settings.timing;
        let long = state.nodes.keys().filter(|peer| **peer != local.node).filter_map(|peer| {
            let before = standing.get(peer);
            let Some(measured) = report.round_trip_of(*peer) else { return before.cloned() };
            let measured = Duration::from_micros(measured.into());
            let is_long = timing.is_near_its_end(measured, before.is_some());
            is_long.then(|| self.long(state, *peer, timing))
        });
        self.conditions(Code::RoundTrip, long.collect());
    }

    /// Peers whose beats arrive and whose long frames do not, on some network.
    pub(super) fn see_frames(&self, local: &Local, state: &ClusterState) {
        let Some(report) = local.report.as_deref() else { return };
        let what = "long frames were lost";
        let standing = self.standing_of_members(Code::FrameSize, what, local, state);
        let narrow =
            state.nodes.keys().filter(|peer| **peer != local.node).filter_map(|peer| match report
                .widths(*peer)
            {
                (narrow, wide) if narrow.is_empty() && wide.is_empty() => {
                    standing.get(peer).cloned()
                }
                (narrow, _) if narrow.is_empty() => None,
                (narrow, _) => Some(self.narrow(state, *peer, &narrow)),
            });
        self.conditions(Code::FrameSize, narrow.collect());
    }

    fn narrow(
        &self,
        state: &ClusterState,
        peer: NodeNumber,
        networks: &[NetworkNumber],
    ) -> Condition {
        let (own, name) = (&self.0.name, state.node_name(peer));
        let cause = lost_on(state, networks);
        let condition = own_condition(Code::FrameSize, Subject::Node(peer), &name, cause);
        Condition {
            raised: format!("long frames of {name} do not reach {own}"),
            cleared: format!("long frames of {name} reach {own} again"),
            ..condition
        }
    }

    /// Without what was measured: a cause that changes would be told again and again.
    fn long(&self, state: &ClusterState, peer: NodeNumber, timing: &Timing) -> Condition {
        let (own, name) = (&self.0.name, state.node_name(peer));
        let cause = format!("{}; vedette link list shows them", limit(timing));
        let condition = own_condition(Code::RoundTrip, Subject::Node(peer), &name, cause);
        Condition {
            raised: format!("round trips between {own} and {name} are almost too long"),
            cleared: format!("round trips between {own} and {name} are short enough again"),
            ..condition
        }
    }
}

/// Up to which round trip timers are good.
pub(crate) fn limit(timing: &Timing) -> String {
    let most = timing.round_trip_max().as_millis();
    let profile = timing.profile().map(|name| format!(" (profile {name})")).unwrap_or_default();
    format!("the timers of this cluster{profile} are for less than {most} ms")
}

/// On which networks long frames are lost, and what to look at.
pub(crate) fn lost_on(state: &ClusterState, networks: &[NetworkNumber]) -> String {
    let names: Vec<String> = networks.iter().map(|network| state.network_name(*network)).collect();
    let names = names.join(" and ");
    format!(
        "frames of {FRAME} bytes are lost on {names}, and beats are not; see the MTU of what is between them"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vedette_core::fixture::Fixture;
    use vedette_core::observation::Report;

    use super::super::testing::{N1, Node};
    use super::*;

    /// What n1 knows while its beats to n3 take so long; `None`: they are not measured.
    fn local(ms: Option<u32>) -> Local {
        let mut local = Fixture::settled(3).view(N1).local;
        let mut report = Report::clone(local.report.as_deref().expect("a report"));
        for link in report.links.iter_mut().filter(|link| link.peer == NodeNumber(3)) {
            link.rtt_us = ms.map(|ms| ms * 1_000);
        }
        local.report = Some(Arc::new(report));
        local
    }

    /// F4: told at four fifths of the limit, over at two thirds, and a peer that is not heard is as it was.
    #[test]
    fn f4_round_trips_are_told_before_they_are_too_long() {
        let node = Node::new();
        let mut told = |ms| {
            node.log.see_round_trips(&local(ms), &node.state);
            node.conditions().len()
        };
        let seen = [Some(1), Some(60), Some(61), None, Some(55), Some(49), Some(55)].map(&mut told);
        assert_eq!(seen, [0, 0, 1, 1, 1, 0, 0]);
        node.log.see_round_trips(&local(Some(70)), &node.state);
        let cause = "the timers of this cluster (profile default) are for less than 75 ms; vedette link list \
                     shows them";
        assert_eq!(node.conditions(), [(Code::RoundTrip, cause.to_owned())]);
    }
    /// F9: told while beats still arrive; a peer that is not heard is as it was.
    #[test]
    fn f9_frames_that_are_lost_are_told() {
        let node = Node::new();
        let told = |narrow: bool, heard: bool| {
            let mut local = local(None);
            let mut report = Report::clone(local.report.as_deref().expect("a report"));
            for link in report.links.iter_mut().filter(|link| link.peer == NodeNumber(3)) {
                (link.narrow, link.inbound) = (narrow && link.network.0 == 1, heard);
            }
            local.report = Some(Arc::new(report));
            node.log.see_frames(&local, &node.state);
            node.conditions()
        };
        assert_eq!(told(false, true), []);
        let cause = "frames of 1400 bytes are lost on neta, and beats are not; see the MTU of what is between them";
        let lost = [(Code::FrameSize, cause.to_owned())];
        assert_eq!(told(true, true), lost);
        assert_eq!(told(false, false), lost);
        assert_eq!(told(false, true), []);
    }

    /// A peer that is deleted has not become better by that.
    #[test]
    fn what_was_found_of_a_peer_ends_with_its_membership() {
        let mut node = Node::new();
        node.log.see_round_trips(&local(Some(70)), &node.state);
        node.state.nodes.remove(&NodeNumber(3));
        node.log.see_round_trips(&local(None), &node.state);
        assert_eq!(node.conditions(), []);
        let told = node.told().pop().map(|(_, message)| message);
        let said = "n3, whose round trips were almost too long, is no member any more";
        assert_eq!(told.as_deref(), Some(said));
    }
}
