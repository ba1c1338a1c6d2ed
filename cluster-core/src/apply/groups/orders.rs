//! What operators want of groups: moved, on, off, failures cleared. An order marks the group and
//! queues an event; what comes of it is up to placement.

use crate::apply::manager::orders::unknown_node;
use crate::event::{RecoverAction, Running, Stage};
use crate::group::{Group, GroupDef, GroupState, Instance, Policy, Until};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::placement;
use crate::record::{Code, Subject};
use crate::trigger::Trigger;

use super::{ClusterState, Entry, RecordDraft, Refusal};

impl ClusterState {
    /// The group of that name.
    pub(in crate::apply) fn check_group(&self, name: &str) -> Result<&Group, Refusal> {
        self.groups.get(name).ok_or_else(|| unknown_group(name))
    }

    /// Group and definition, if it can be given orders about where it runs.
    fn check_orders(&self, name: &str) -> Result<(&Group, &GroupDef), Refusal> {
        let group = self.check_group(name)?;
        let def = self.definition.group(name).ok_or_else(|| unknown_group(name))?;
        if let Some(blocked) = &group.blocked {
            return Err(Refusal::new(
                "group_blocked",
                format!("group {name} is blocked: {}", blocked.why),
                self.advice_sentence(name),
            ));
        }
        Ok((group, def))
    }

    /// An operator moves a group.
    pub(super) fn order_move(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        to: Option<NodeNumber>,
        until: Option<Until>,
    ) -> Result<bool, Refusal> {
        let (group, def) = self.check_orders(name)?;
        let refuse =
            |code: &str, what: String, advice: String| Err(Refusal::new(code, what, advice));
        if def.policy == Policy::Concurrent {
            return refuse(
                "concurrent_group",
                format!("group {name} is concurrent and runs on all of its nodes"),
                "Stop the manager of a node if the group shall leave it: vedette stop.".into(),
            );
        }
        if group.wanted_offline {
            return refuse(
                "group_is_off",
                format!("group {name} shall be off, so it cannot be moved"),
                format!("Switch it on: vedette group online {name}."),
            );
        }
        if group.maintenance || self.manager.maintenance {
            return refuse(
                "maintenance",
                format!("group {name} is in maintenance, and nothing is moved"),
                "End the maintenance first: vedette maintenance off.".into(),
            );
        }
        // Whoever has it and shall keep it, or keep it until another time than before, is told just that.
        let stays =
            to.filter(|node| group.owner() == Some(*node) && Self::is_news(group, *node, until));
        let target = match (stays, to) {
            (Some(node), _) => node,
            (None, Some(node)) => self.check_target(name, node)?,
            (None, None) => self.other_target(name)?,
        };
        self.check_until(entry, name, until)?;
        let place = self.node_name(target);
        if let Some(group) = self.groups.get_mut(name) {
            (group.preferred, group.preferred_until) = (Some(target), until);
            group.held_for = None;
        }
        let end = match until {
            None => String::new(),
            Some(Until::At(at)) => format!(", until {at}"),
            Some(Until::Home) => ", until its home is back".into(),
        };
        if stays.is_some() {
            self.ordered(entry, name, format!("group {name} is to stay on {place}{end}"));
        } else {
            self.ordered(entry, name, format!("group {name} is to move to {place}{end}"));
        }
        // A move that was ordered before and has not begun may have to be taken back.
        if stays.is_none() || self.is_moving(name) {
            self.queue_move(entry, name, &format!("an operator moves it to {place}"));
        }
        Ok(true)
    }

    /// Whether an order that keeps a group where it is says anything that was not ordered before.
    fn is_news(group: &Group, owner: NodeNumber, until: Option<Until>) -> bool {
        match group.preferred {
            Some(node) if node == owner => until.is_some() && until != group.preferred_until,
            Some(_) => true,
            None => until.is_some(),
        }
    }

    /// Whether an event that moves a group waits or is in progress.
    fn is_moving(&self, name: &str) -> bool {
        let moves =
            |trigger: &Trigger| matches!(trigger, Trigger::GroupMove { group } if group == name);
        self.manager.queue.iter().any(|event| moves(&event.trigger))
            || self.manager.begun().any(|running| moves(&running.event.trigger))
    }

    /// Whether an end can be one.
    fn check_until(
        &self,
        entry: &Entry<'_>,
        name: &str,
        until: Option<Until>,
    ) -> Result<(), Refusal> {
        let rotates = self.definition.group(name).is_some_and(|def| def.policy == Policy::Rotating);
        match until {
            Some(Until::At(at)) if at <= entry.proposal.at => Err(Refusal::new(
                "until_is_over",
                format!(
                    "{at} is over already, so group {name} would not stay where it is moved to"
                ),
                "Write a time that is to come, such as --until 2h.",
            )),
            Some(Until::Home) if rotates => Err(Refusal::new(
                "no_home",
                format!("group {name} is rotating and has no home that could come back"),
                "Write a time, such as --until 2h, or leave --until out.",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_target(&self, name: &str, node: NodeNumber) -> Result<NodeNumber, Refusal> {
        let (group, def) = self.check_orders(name)?;
        let Some(known) = self.nodes.get(&node) else { return Err(unknown_node(node)) };
        let place = &known.name;
        let (code, what, advice) = if !def.nodes.contains(&node) {
            let what = format!("{place} is not among the nodes of group {name}");
            ("not_a_node_of_it", what, "Add it to the group's nodes: vedette config edit.".into())
        } else if let Some(why) = placement::absence(self, node) {
            let what = format!("{place} {why}, so it cannot have group {name}");
            ("node_not_there", what, format!("See why: vedette node show {place}."))
        } else if self.manager.members.get(&node).is_some_and(|member| member.maintenance) {
            let what = format!("{place} is in maintenance, so it cannot have group {name}");
            let advice =
                format!("End the maintenance first: vedette maintenance off --node {place}.");
            ("maintenance", what, advice)
        } else if let Some(why) = self.unreleased_on(name, node) {
            let what = format!("{place} cannot have group {name}: it {why}");
            let advice = format!("Mend that on {place}, which tries again by itself.");
            ("node_not_released", what, advice)
        } else if group.avoid.contains(&node) {
            let what = format!("{place} could not run group {name} before and is avoided");
            ("node_avoided", what, format!("Repair that, then: vedette group clear {name}."))
        } else if group.owner() == Some(node) {
            let what = format!("group {name} is on {place} already");
            return Err(Refusal::met("nothing_to_do", what));
        } else {
            return Ok(node);
        };
        Err(Refusal::new(code, what, advice))
    }

    /// The best node for a group besides its owner.
    fn other_target(&self, name: &str) -> Result<NodeNumber, Refusal> {
        let (_, def) = self.check_orders(name)?;
        let fits = |node: &NodeNumber| self.check_target(name, *node).is_ok();
        def.nodes.iter().copied().find(fits).ok_or_else(|| {
            Refusal::new(
                "no_other_node",
                format!("no other node of group {name} can have it now"),
                "See why: vedette group plan.",
            )
        })
    }

    /// An operator wants a group on.
    pub(super) fn order_online(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
    ) -> Result<bool, Refusal> {
        let (group, _) = self.check_orders(name)?;
        if !group.wanted_offline && group.held_for.is_none() && group.state() != GroupState::Offline
        {
            let what = format!("group {name} shall be on already, and is {}", group.state());
            return Err(Refusal::met("nothing_to_do", what));
        }
        if let Some(group) = self.groups.get_mut(name) {
            (group.wanted_offline, group.held_for) = (false, None);
            group.stopped_for = None;
        }
        self.ordered(entry, name, format!("group {name} is to be on"));
        self.queue_move(entry, name, "an operator wants it on");
        Ok(true)
    }

    /// An operator wants a group off.
    pub(super) fn order_offline(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
    ) -> Result<bool, Refusal> {
        let (group, _) = self.check_orders(name)?;
        if group.is_wanted_off() {
            let what = format!("group {name} shall be off already, and is {}", group.state());
            return Err(Refusal::met("nothing_to_do", what));
        }
        let (active, wish) = (!group.instances.is_empty(), group.preferred.is_some());
        if wish {
            self.end_wish(entry, name, "an operator wants it off");
        }
        if let Some(group) = self.groups.get_mut(name) {
            (group.wanted_offline, group.preferred, group.held_for) = (true, None, None);
            group.stopped_for = None;
        }
        self.ordered(entry, name, format!("group {name} is to be off"));
        if active {
            self.queue_move(entry, name, "an operator wants it off");
        }
        Ok(true)
    }

    /// Its policy has it stopped: it is off until an operator wants it on, and no operator has wanted that.
    pub(super) fn stop_everywhere(&mut self, entry: &mut Entry<'_>, name: &str, cause: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.is_wanted_off() {
            return;
        }
        (group.wanted_offline, group.preferred, group.held_for) = (true, None, None);
        group.stopped_for = Some(cause.into());
        if !group.instances.is_empty() {
            self.queue_move(entry, name, cause);
        }
    }

    fn queue_move(&mut self, entry: &mut Entry<'_>, name: &str, cause: &str) {
        if self.manager.joined().next().is_some() {
            self.enqueue(entry, Trigger::GroupMove { group: name.into() }, cause, None);
        }
    }

    fn ordered(&mut self, entry: &mut Entry<'_>, name: &str, message: String) {
        let number = self.groups.get(name).map_or(0, |group| group.number);
        let subject = Subject::Group(number);
        let happening = RecordDraft::new(Code::GroupOrdered, Severity::Notice, subject, message);
        self.record(entry, happening);
    }

    /// An operator clears failures and what follows from them. What could not be released is
    /// released again.
    pub(super) fn clear(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: Option<NodeNumber>,
    ) -> Result<bool, Refusal> {
        let group = self.check_group(name)?;
        if let Some(node) = node.filter(|node| !self.nodes.contains_key(node)) {
            return Err(unknown_node(node));
        }
        let concerns = |other: NodeNumber| node.is_none_or(|node| node == other);
        let flaps = group.flapping.is_some() && node.is_none();
        let any = flaps
            || group.fails.iter().any(|fail| concerns(fail.node))
            || group.avoid.iter().any(|avoided| concerns(*avoided))
            || group.blocked.is_some()
            || group.instances.values().any(|i| i.state == GroupState::Error);
        if !any {
            let what = format!("group {name} has no failures to be cleared");
            return Err(Refusal::met("nothing_to_do", what));
        }
        // What blocks it is still there, and goes by itself with that.
        let runs = group.blocked.as_ref().and_then(|it| it.node).filter(|it| concerns(*it));
        if let Some(place) = runs.filter(|it| group.also.contains_key(it)) {
            let place = self.node_name(place);
            return Err(Refusal::new(
                "also_runs",
                format!("group {name} is blocked because it also runs on {place}"),
                format!("Stop it on {place} by hand; the block ends when it is seen to be off."),
            ));
        }
        // Nobody but the commands of its event releases it, so they are run again.
        let failed = self.failed_release(name, concerns);
        if let Some(event) = failed {
            self.check_recovery(event, RecoverAction::Retry)?;
        }
        let at = entry.proposal.at;
        if let Some(group) = self.groups.get_mut(name) {
            group.fails.retain(|fail| !concerns(fail.node));
            group.avoid.retain(|avoided| !concerns(*avoided));
            group.avoid_why.retain(|avoided, _| !concerns(*avoided));
            group.blocked.take_if(|blocked| blocked.node.is_none_or(concerns));
            for (owner, instance) in &mut group.instances {
                if instance.state == GroupState::Error && concerns(*owner) {
                    (instance.state, instance.since) = (GroupState::Releasing, at);
                }
            }
        }
        let place = node.map(|node| format!(" on {}", self.node_name(node))).unwrap_or_default();
        let number = self.groups.get(name).map_or(0, |group| group.number);
        let message = format!("failures of group {name}{place} were cleared");
        let subject = Subject::Group(number);
        let happening = RecordDraft::new(Code::FailuresCleared, Severity::Notice, subject, message);
        self.record(entry, happening);
        if flaps {
            self.steady_again(entry, name, "an operator cleared its failures".into());
        }
        if let Some(event) = failed {
            self.recover(entry, event, RecoverAction::Retry)?;
        }
        Ok(true)
    }

    /// The event that failed because a node that is meant could not release a group in it.
    fn failed_release(&self, name: &str, meant: impl Fn(NodeNumber) -> bool) -> Option<u64> {
        let group = self.groups.get(name)?;
        let stuck = |running: &&Running| {
            let of = |(node, instance): (&NodeNumber, &Instance)| {
                let here = instance.state == GroupState::Error && meant(*node);
                here && running.plans(name, *node) && running.failed.contains(node)
            };
            running.stage == Stage::Error && group.instances.iter().any(of)
        };
        self.manager.begun().find(stuck).map(|running| running.event.id)
    }
}

fn unknown_group(name: &str) -> Refusal {
    Refusal::new(
        "unknown_group",
        format!("there is no group {name}"),
        "List the groups: vedette group list.",
    )
}

#[cfg(test)]
mod tests {
    use crate::command::{Change, Command, GroupCommand, ManagerCommand, Scope};
    use crate::fixture::Fixture;
    use crate::group::Until;
    use crate::id::NodeNumber;
    use crate::model::AgentStatus;

    use super::super::super::testing::refused;

    const N2: NodeNumber = NodeNumber(2);
    const N3: NodeNumber = NodeNumber(3);

    fn moved(to: NodeNumber, until: Option<Until>) -> GroupCommand {
        GroupCommand::Move { group: "db".into(), to: Some(to), until }
    }

    /// A node that placement would leave out is no target: the group would stay where it is.
    #[test]
    fn where_a_group_would_not_go_it_is_not_moved() {
        let mut fixture = Fixture::with_groups();
        let (to, cause) = (AgentStatus::Initializing, "its disk is full".to_owned());
        fixture.apply(Command::Observe { changes: vec![Change::Agent { node: N3, to, cause }] });
        let told = refused(&mut fixture, Command::Group(moved(N3, None)));
        assert_eq!(told.code, "node_not_there");
        assert!(told.what.contains("n3 has an agent that is INITIALIZING"), "{}", told.what);

        let mut fixture = Fixture::with_groups();
        let scope = Scope::Node(N3);
        fixture.manage(ManagerCommand::Maintenance { scope, on: true });
        assert_eq!(refused(&mut fixture, Command::Group(moved(N3, None))).code, "maintenance");
    }

    /// O1: who orders what is so already has nothing to mend.
    #[test]
    fn what_is_so_already_is_met() {
        let mut fixture = Fixture::with_groups();
        for order in [
            moved(N2, None),
            GroupCommand::Online { group: "db".into() },
            GroupCommand::Clear { group: "db".into(), node: None },
        ] {
            let said = refused(&mut fixture, Command::Group(order));
            assert!(said.met, "{said}");
        }
        assert!(!refused(&mut fixture, Command::Group(moved(NodeNumber(9), None))).met);
    }

    /// A group that is where it is moved stays there for as long as is said, and an order that has not begun is
    /// taken back.
    #[test]
    fn an_order_to_stay_is_news_if_it_says_more() {
        let mut fixture = Fixture::with_groups();
        let later = Some(Until::At(fixture.clock.plus(std::time::Duration::from_secs(7_200))));
        fixture.group(moved(N2, later));
        let group = &fixture.state.groups["db"];
        assert_eq!((group.preferred, group.preferred_until), (Some(N2), later));
        assert!(fixture.state.manager.queue.is_empty(), "nothing is moved");
        assert!(refused(&mut fixture, Command::Group(moved(N2, later))).met, "the same again");
        fixture.group(moved(N3, None));
        fixture.group(moved(N2, None));
        fixture.run_events();
        assert_eq!(fixture.state.groups["db"].owner(), Some(N2), "it was taken back");
    }
}
