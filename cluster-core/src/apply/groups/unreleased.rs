//! What a node could not let go of when its lease ended, as it says itself ([`Unreleased`]).
//!
//! A lease that is over ends what guard and kernel hold. What the node's agent has to stop may take longer, or
//! fail: such a group goes on as RELEASING there, in the new epoch too, and its node is no place for it. Where
//! the guard itself could not take something away the node holds nothing else, so it is no place for any group
//! ([`crate::placement`]). One stuck group is one stuck group: everything else of that node is over with the
//! epoch, and is placed at once.

use std::collections::BTreeSet;

use crate::group::GroupState;
use crate::id::NodeNumber;
use crate::takeover::Unreleased;

use super::reports::Which;
use super::{ClusterState, Entry};

impl ClusterState {
    /// A node has lost its lease and is still stopping what it had of these groups: that does not end with the
    /// epoch, and holds up nothing else there.
    pub(in crate::apply) fn goes_on_releasing(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        unreleased: &Unreleased,
    ) {
        let since = entry.proposal.at;
        for (name, why) in &unreleased.groups {
            let Some(group) = self.groups.get_mut(name) else { continue };
            let Some(instance) = group.instances.get_mut(&node) else { continue };
            if !instance.is_covered() {
                continue;
            }
            group.unreleased.insert(node);
            if !matches!(instance.state, GroupState::Releasing | GroupState::Error) {
                (instance.state, instance.since) = (GroupState::Releasing, since);
                let why = format!("{} has lost its lease: {why}", self.node_name(node));
                entry.causes.insert(name.clone(), why);
            }
        }
    }

    /// A node says which of its resources no lease ends.
    pub(super) fn lives_outside(
        &mut self,
        (name, node, token): Which<'_>,
        resources: &BTreeSet<String>,
    ) -> bool {
        if self.instance_mut((name, node, token)).is_none() {
            return false;
        }
        let Some(group) = self.groups.get_mut(name) else { return false };
        let before = match resources.is_empty() {
            true => group.outside.remove(&node),
            false => group.outside.insert(node, resources.clone()),
        };
        before.unwrap_or_default() != *resources
    }

    /// Nothing failed there: what a node did not come to while it had to let go of something else.
    pub(in crate::apply) fn may_be_tried_again(&mut self, node: NodeNumber) {
        for group in self.groups.values_mut().filter(|group| group.passed_over.contains(&node)) {
            group.passed_over.remove(&node);
            group.avoid.remove(&node);
            group.avoid_why.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::GroupCommand;
    use crate::fixture::Fixture;
    use crate::group::ResourceState;

    const N1: NodeNumber = NodeNumber(1);

    fn of_group(group: &str) -> Unreleased {
        let groups = [(group.to_owned(), "it is still being stopped".to_owned())].into();
        Unreleased { guard: None, groups }
    }

    fn of_guard() -> Unreleased {
        Unreleased { guard: Some("umount: exit status 1".into()), ..Default::default() }
    }

    fn state(fixture: &Fixture, group: &str) -> (Option<NodeNumber>, GroupState) {
        let group = &fixture.state.groups[group];
        (group.owner(), group.state())
    }

    /// A node that is back while it still stops something joins all the same: no event waits for that.
    #[test]
    fn r7_a_node_that_still_stops_something_joins() {
        let mut fixture = Fixture::with_groups();
        fixture.present_with(N1, 2, of_group("web"));
        fixture.node_down(N1, "it is silent");
        fixture.lease_over(N1);
        let plan =
            crate::placement::for_event(&fixture.state, &crate::trigger::Trigger::NodeUp(N1));
        assert!(plan.moves.iter().all(|it| it.group != "web"), "{:?}", plan.moves);
        let stays = plan.stays.iter().find(|it| it.group == "web").expect("it is said why");
        assert_eq!(stays.reason, "n1 has not let go of it yet: it is still being stopped");
    }

    /// What is still being stopped goes on; everything else of the node is over and comes back at once.
    #[test]
    fn r7_one_group_that_does_not_stop_holds_up_no_other() {
        let mut fixture = Fixture::with_groups();
        let web = fixture.token("web", N1);
        fixture.present_with(N1, 2, of_group("web"));
        assert_eq!(state(&fixture, "web"), (Some(N1), GroupState::Releasing));
        assert_eq!(fixture.token("web", N1), web);
        assert!(!fixture.state.groups["batch"].instances.contains_key(&N1), "that is over");
        fixture.node_down(N1, "it is silent");
        fixture.lease_over(N1);
        assert_eq!(fixture.state.groups["web"].owner(), Some(N1), "no lease ends what it did not");
    }

    /// The node says so when it is off, and may have it again then.
    #[test]
    fn r7_what_is_stopped_at_last_is_placed_again() {
        let mut fixture = Fixture::with_groups();
        let token = fixture.token("web", N1).expect("it has it");
        fixture.present_with(N1, 2, of_group("web"));
        let failed = ("web-server".to_owned(), ResourceState::Failed, "it runs on".to_owned());
        let resources = vec![failed];
        fixture.group(GroupCommand::Progress {
            group: "web".into(),
            node: N1,
            token,
            state: Some(GroupState::Error),
            resources,
        });
        let blocked = fixture.state.groups["web"].blocked.as_ref().and_then(|it| it.node);
        assert_eq!(blocked, Some(N1), "an operator is needed, and knows where");
        let (group, why) = ("web".to_owned(), "its lease was over".to_owned());
        fixture.group(GroupCommand::Released { group, node: N1, token, why, avoid: false });
        fixture.run_events();
        let elsewhere = state(&fixture, "web");
        assert!(elsewhere.0.is_some_and(|node| node != N1), "{elsewhere:?}");
        assert_eq!(elsewhere.1, GroupState::Online);
        fixture.present_with(N1, 2, Unreleased::default());
        fixture.run_events();
        assert_eq!(state(&fixture, "web"), (Some(N1), GroupState::Online), "its home");
    }

    /// A node whose guard could not let go is no place for anything, and is one again when it could.
    #[test]
    fn r7_a_node_that_could_not_release_gets_no_group() {
        let mut fixture = Fixture::with_groups();
        fixture.present_with(N1, 1, of_guard());
        let token = fixture.token("web", N1).expect("it has it");
        let (group, why) = ("web".to_owned(), "its lease was over".to_owned());
        fixture.group(GroupCommand::Released { group, node: N1, token, why, avoid: false });
        fixture.run_events();
        let (owner, now) = state(&fixture, "web");
        assert!(owner.is_some_and(|node| node != N1), "{owner:?}");
        assert_eq!(now, GroupState::Online);
        let refused = fixture.state.check_target("web", N1).map_err(|refusal| refusal.code);
        assert_eq!(refused, Err("node_not_released".into()));
        fixture.present_with(N1, 2, Unreleased::default());
        fixture.run_events();
        assert_eq!(state(&fixture, "web"), (Some(N1), GroupState::Online), "its home");
    }

    /// What it did not come to meanwhile is not held against it.
    #[test]
    fn r7_what_was_passed_over_meanwhile_is_tried_again() {
        let mut fixture = Fixture::with_groups();
        fixture.present_with(N1, 1, of_guard());
        let group = fixture.state.groups.get_mut("web").expect("it");
        (group.passed_over, group.avoid) = ([N1].into(), [N1].into());
        fixture.present_with(N1, 2, Unreleased::default());
        let group = &fixture.state.groups["web"];
        assert!(group.passed_over.is_empty() && group.avoid.is_empty());
    }
}
