//! What runs where its group is not (findings R2, R3): a service that was started by hand, left behind by a
//! lost lease, or never stopped.
//!
//! A node looks for everything that it could own and tells what it sees; what is done about it is the
//! group's [`MultipleActive`]. The node itself stops what it saw, unless that says `block`.
//!
//! A group that was taken over though nothing proved that all of it had ended may run there, too, until that node has
//! looked, or is certainly off; and of a node that is not there nobody sees whether what it told is still so.

use std::collections::BTreeSet;

use crate::definition::Definition;
use crate::group::{MultipleActive, Sighting};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::{Code, Subject};

use super::{ClusterState, Entry, RecordDraft};

impl ClusterState {
    /// What runs of a group on a node that does not have it: one record when that begins and one when it
    /// is over, whatever is seen of it in between.
    pub(super) fn sighted(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: NodeNumber,
        resources: &BTreeSet<String>,
    ) -> bool {
        if !self.nodes.contains_key(&node) {
            return false;
        }
        let since = entry.proposal.at;
        let Some(group) = self.groups.get_mut(name) else { return false };
        if resources.is_empty() || group.instances.contains_key(&node) {
            return self.sighting_ends(entry, name, node, "");
        }
        if let Some(known) = group.also.get_mut(&node).filter(|known| !known.unproven) {
            return std::mem::replace(&mut known.resources, resources.clone()) != *resources;
        }
        let seen = Sighting { resources: resources.clone(), since, unproven: false };
        group.also.insert(node, seen);
        let words: Vec<&str> = resources.iter().map(String::as_str).collect();
        let policy = self.multiple_active(name);
        let cause = format!("{} was seen to run there; {}", words.join(", "), follows(policy));
        let place = self.node_name(node);
        let message = match self.groups.get(name).and_then(|group| group.owner()) {
            Some(owner) => {
                format!("group {name} also runs on {place}, besides {}", self.node_name(owner))
            }
            None => format!("group {name} runs on {place}, which does not have it"),
        };
        let wanted = self.groups.get(name).is_some_and(|group| !group.wanted_offline);
        if policy == MultipleActive::StopAll && wanted {
            entry.begins = Some(entry.index);
        }
        self.tell_sighting(entry, (name, node), Severity::Error, (&message, &cause));
        self.follow_sighting(entry, name, node);
        true
    }

    /// Does about what was seen to run what the group's policy says now.
    fn follow_sighting(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let place = self.node_name(node);
        match self.multiple_active(name) {
            MultipleActive::StopExtra => self.unblock(name, node),
            MultipleActive::Block => {
                let why = format!("it also runs on {place}");
                self.block(entry, name, Some(node), &why);
            }
            MultipleActive::StopAll => {
                self.unblock(name, node);
                let why = format!("it also ran on {place}, and multiple_active is stop_all");
                self.stop_everywhere(entry, name, &why);
            }
        }
    }

    /// What was seen and still is, where the definition says something else about it than the `old` one.
    pub(super) fn follow_sightings(&mut self, entry: &mut Entry<'_>, old: &Definition) {
        let mut changed = Vec::new();
        for (name, group) in &self.groups {
            let before = old.group(name).map(|group| group.multiple_active);
            let seen = group.also.iter().filter(|(_, seen)| !seen.unproven);
            if before.is_some_and(|before| before != self.multiple_active(name)) {
                changed.extend(seen.map(|(node, _)| (name.clone(), *node)));
            }
        }
        for (name, node) in changed {
            self.follow_sighting(entry, &name, node);
        }
    }

    /// A group is taken over from a node though nothing proves that these resources ended there, if there are any.
    pub(super) fn may_run(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: NodeNumber,
        resources: &[String],
    ) {
        let since = entry.proposal.at;
        let Some(group) = self.groups.get_mut(name).filter(|_| !resources.is_empty()) else {
            return;
        };
        if group.also.contains_key(&node) {
            return;
        }
        let all = resources.iter().cloned().collect();
        group.also.insert(node, Sighting { resources: all, since, unproven: true });
        let place = self.node_name(node);
        let message = format!("group {name} may also run on {place}");
        let cause = format!("nothing proves that {} ended there", resources.join(", "));
        self.tell_sighting(entry, (name, node), Severity::Error, (&message, &cause));
    }

    /// A node is certainly off: nothing runs there.
    pub(super) fn nothing_runs(&mut self, entry: &mut Entry<'_>, node: NodeNumber, why: &str) {
        for name in self.also_on(node) {
            self.sighting_ends(entry, &name, node, why);
        }
    }

    /// Nothing of it runs there any more that should not.
    pub(in crate::apply) fn sighting_ends(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: NodeNumber,
        why: &str,
    ) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let Some(was) = group.also.remove(&node) else { return false };
        let place = self.node_name(node);
        let message = match was.unproven {
            true => format!("group {name} does not run on {place} besides"),
            false => format!("group {name} runs on {place} no more"),
        };
        self.tell_sighting(entry, (name, node), Severity::Notice, (&message, why));
        // Whatever is done about it by now: what blocked it is over, but for what still runs elsewhere.
        self.unblock(name, node);
        let group = self.groups.get(name);
        let seen = group.into_iter().flat_map(|group| &group.also);
        let next = seen.filter(|(_, seen)| !seen.unproven).map(|(node, _)| *node).next();
        if let Some(next) = next.filter(|_| self.multiple_active(name) == MultipleActive::Block) {
            self.follow_sighting(entry, name, next);
        }
        true
    }

    /// Nothing is known of what a member that was deleted runs.
    pub(in crate::apply) fn forget_sightings(&mut self, node: NodeNumber) {
        for group in self.groups.values_mut() {
            group.also.remove(&node);
        }
    }

    fn tell_sighting(
        &mut self,
        entry: &mut Entry<'_>,
        (name, node): (&str, NodeNumber),
        severity: Severity,
        (message, cause): (&str, &str),
    ) {
        let number = self.groups.get(name).map_or(0, |group| group.number);
        let subject = Subject::Group(number);
        let happening =
            RecordDraft::new(Code::MultipleActive, severity, subject, message.to_owned());
        let happening = happening.because(cause).alerting(true);
        let happening = self.in_event(entry, happening, Some(node), None);
        self.record(entry, happening);
    }
}

/// What is done about it, in words.
const fn follows(policy: MultipleActive) -> &'static str {
    match policy {
        MultipleActive::StopExtra => "it is stopped there, as multiple_active says stop_extra",
        MultipleActive::Block => {
            "until that is over nothing is done with the group, as multiple_active says block"
        }
        MultipleActive::StopAll => {
            "the group is stopped everywhere, as multiple_active says stop_all"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, GroupCommand, ManagerCommand};
    use crate::fixture::Fixture;
    use crate::group::{GroupState, ResourceState};
    use crate::record::Record;
    use crate::trigger::Trigger;

    const N3: NodeNumber = NodeNumber(3);

    fn see(fixture: &mut Fixture, names: &[&str]) -> Vec<(Severity, String)> {
        let resources = names.iter().map(|name| (*name).to_owned()).collect();
        let group = "db".to_owned();
        let sighted = GroupCommand::Sighted { group, node: N3, resources };
        let applied = fixture.apply(Command::Group(sighted));
        let told = |record: &Record| (record.severity, record.message.clone());
        let of_sightings = |record: &&Record| record.code == Code::MultipleActive;
        applied.records.iter().filter(of_sightings).map(told).collect()
    }

    fn fixture(way: MultipleActive) -> Fixture {
        let mut fixture = Fixture::with_groups();
        fixture.state.definition.groups[1].multiple_active = way;
        fixture
    }

    /// Findings R3: an operator does not clear away what is still so.
    #[test]
    fn r3_what_also_runs_is_not_cleared() {
        let mut fixture = Fixture::with_groups();
        let def = fixture.state.definition.groups.iter_mut().find(|it| it.name == "db");
        def.expect("it").multiple_active = MultipleActive::Block;
        see(&mut fixture, &["db_data"]);
        let clear = GroupCommand::Clear { group: "db".into(), node: None };
        let refused = super::super::super::testing::refused(&mut fixture, Command::Group(clear));
        assert_eq!(refused.code, "also_runs");
        see(&mut fixture, &[]);
        assert!(fixture.state.groups["db"].blocked.is_none(), "it ends by itself");
    }

    #[test]
    fn a_sighting_is_told_when_it_begins_and_when_it_is_over() {
        let mut fixture = fixture(MultipleActive::StopExtra);
        let told = see(&mut fixture, &["db-server"]);
        let message = "group db also runs on n3, besides n2".to_owned();
        assert_eq!(told, [(Severity::Error, message)]);
        assert_eq!(see(&mut fixture, &["db-server"]), [], "it is known");
        assert_eq!(see(&mut fixture, &["db-ip", "db-server"]), [], "that there is more is shown");
        assert_eq!(fixture.state.groups["db"].also[&N3].resources.len(), 2);
        assert_eq!(fixture.state.groups["db"].state(), GroupState::Online, "its owner has it");
        let over = "group db runs on n3 no more".to_owned();
        assert_eq!(see(&mut fixture, &[]), [(Severity::Notice, over)]);
        assert_eq!(see(&mut fixture, &[]), []);
    }

    #[test]
    fn what_is_blocked_for_it_goes_on_once_it_is_over() {
        let mut fixture = fixture(MultipleActive::Block);
        see(&mut fixture, &["db-server"]);
        let blocked = fixture.state.groups["db"].blocked.as_ref().map(|it| it.why.clone());
        assert_eq!(blocked.as_deref(), Some("it also runs on n3"));
        see(&mut fixture, &[]);
        assert_eq!(fixture.state.groups["db"].blocked, None);
    }

    #[test]
    fn stop_all_leaves_a_group_off_until_an_operator_comes() {
        let mut fixture = fixture(MultipleActive::StopAll);
        see(&mut fixture, &["db-server"]);
        assert!(fixture.state.groups["db"].wanted_offline);
        let manager = &fixture.state.manager;
        let begun = manager.begun().map(|running| &running.event.trigger);
        let asked = Trigger::GroupMove { group: "db".into() };
        assert!(
            manager.queue.iter().map(|event| &event.trigger).chain(begun).any(|it| *it == asked)
        );
    }

    /// What is seen goes by the policy of now, not by that of when it was seen first.
    #[test]
    fn r3_a_policy_that_changes_meets_what_is_seen() {
        let mut fixture = fixture(MultipleActive::StopExtra);
        see(&mut fixture, &["db-server"]);
        let mut change = |to| {
            let mut new = fixture.state.definition.clone();
            new.groups[1].multiple_active = to;
            super::super::tests::redefine(&mut fixture, new);
            let db = &fixture.state.groups["db"];
            (db.blocked.is_some(), db.stopped_for.is_some())
        };
        assert_eq!(change(MultipleActive::Block), (true, false));
        assert_eq!(change(MultipleActive::StopExtra), (false, false));
        assert_eq!(change(MultipleActive::Block), (true, false));
        assert_eq!(change(MultipleActive::StopAll), (false, true));
    }

    /// What runs on two nodes besides is over when it is over on both.
    #[test]
    fn a_block_lasts_until_nothing_runs_besides() {
        let mut fixture = fixture(MultipleActive::Block);
        let mut see_on = |node, names: &[&str]| {
            let resources = names.iter().map(|name| (*name).to_owned()).collect();
            fixture.group(GroupCommand::Sighted { group: "db".into(), node, resources });
            fixture.state.groups["db"].blocked.as_ref().and_then(|it| it.node)
        };
        assert_eq!(see_on(N3, &["db-server"]), Some(N3));
        assert_eq!(see_on(NodeNumber(1), &["db-server"]), Some(N3));
        assert_eq!(see_on(N3, &[]), Some(NodeNumber(1)));
        assert_eq!(see_on(NodeNumber(1), &[]), None);
    }

    /// A block holds what serves; what has failed meanwhile does not serve.
    #[test]
    fn what_fails_while_it_is_blocked_does_not_serve() {
        let mut fixture = fixture(MultipleActive::Block);
        see(&mut fixture, &["db-server"]);
        let group = fixture.state.groups.get_mut("db").expect("it");
        let instance = group.instances.values_mut().next().expect("one");
        instance.resources.values_mut().next().expect("one").state = ResourceState::Failed;
        assert_eq!(db(&fixture).state(), GroupState::Error);
    }

    /// What blocks it was seen on a node that is gone since: nobody sees whether it is still so, an operator who makes
    /// sure that the node is off ends it, and that way out is shown.
    #[test]
    fn what_was_seen_on_a_node_that_is_gone_is_in_doubt() {
        let mut fixture = fixture(MultipleActive::Block);
        see(&mut fixture, &["db-server"]);
        let runs = |fixture: &Fixture| fixture.state.runs_besides(db(fixture), "db-server", N3);
        assert_eq!(runs(&fixture), Some(true));
        fixture.node_down(N3, "silent");
        fixture.lease_over(N3);
        assert_eq!(runs(&fixture), None);
        let advice = "make sure that n3 is off, then: vedette node confirm-off n3";
        assert_eq!(fixture.state.advice("db"), advice);
        fixture.group(GroupCommand::ConfirmOff { node: N3 });
        assert_eq!((runs(&fixture), &db(&fixture).blocked), (Some(false), &None));
    }

    /// R2: what runs on a node that does not have the group is not started elsewhere besides; that node may have it, and
    /// everybody once it is over.
    #[test]
    fn r2_what_runs_elsewhere_is_not_started_besides() {
        let mut fixture = Fixture::with_groups();
        let (group, node) = ("db".to_owned(), N3);
        fixture.group(GroupCommand::Offline { group: "db".into() });
        fixture.run_events();
        let sees = |fixture: &mut Fixture, what: &[&str]| {
            let resources = what.iter().map(|it| (*it).to_owned()).collect();
            fixture.group(GroupCommand::Sighted { group: group.clone(), node, resources });
        };
        sees(&mut fixture, &["db-server"]);
        let obstacle =
            |fixture: &Fixture, node| crate::placement::obstacle(&fixture.state, "db", node);
        let why = "does not get it while it runs on n3, which does not have it";
        assert_eq!(obstacle(&fixture, NodeNumber(2)).as_deref(), Some(why));
        assert_ne!(obstacle(&fixture, N3).as_deref(), Some(why));
        fixture.group(GroupCommand::Online { group: "db".into() });
        fixture.run_events();
        let owner = db(&fixture).owner();
        assert!(owner.is_none() || owner == Some(N3), "{owner:?}");
        sees(&mut fixture, &[]);
        fixture.run_events();
        assert!(db(&fixture).owner().is_some(), "{:?}", fixture.state.manager);
    }

    /// R2: a monitor gives no answer where the group is not: nobody knows, until it does.
    #[test]
    fn r2_what_cannot_be_looked_for_is_not_known() {
        let mut fixture = Fixture::with_groups();
        let runs = |fixture: &Fixture| fixture.state.runs_besides(db(fixture), "db-server", N3);
        assert_eq!(runs(&fixture), Some(false));
        for why in [Some("it hangs".to_owned()), None] {
            let (known, what) = (why.is_none(), ClusterState::look_for("db-server"));
            fixture.manage(ManagerCommand::Blind { node: N3, what, why });
            assert_eq!(runs(&fixture), known.then_some(false));
        }
    }

    fn db(fixture: &Fixture) -> &crate::group::Group {
        &fixture.state.groups["db"]
    }

    /// What stopped it is its policy, on every surface, until an operator says what shall be: on again, or off.
    #[test]
    fn stop_all_is_the_doing_of_the_policy() {
        let mut fixture = fixture(MultipleActive::StopAll);
        let told = fixture.records.len();
        see(&mut fixture, &["db-server"]);
        fixture.run_events();
        assert_eq!(
            (db(&fixture).state(), db(&fixture).is_wanted_off()),
            (GroupState::Offline, false)
        );
        let why = "it also ran on n3, and multiple_active is stop_all";
        assert_eq!(db(&fixture).stopped_for.as_deref(), Some(why));
        let records = &fixture.records[told..];
        let of = |code| records.iter().find(|it| it.code == code).expect("it is on record");
        let begun = of(Code::MultipleActive);
        assert!(begun.cause.ends_with("as multiple_active says stop_all"), "{}", begun.cause);
        let queued = of(Code::EventQueued);
        assert_eq!((queued.current.as_str(), queued.incident), ("failure", begun.incident));
        let off = records.iter().rfind(|it| it.code == Code::Group).unwrap();
        assert_eq!((off.severity, off.incident), (Severity::Error, begun.incident));
        assert_eq!(off.cause, format!("n2 let go of it: {why}"));
        for record in records {
            let blamed = record.cause.contains("operator") || record.message.contains("operator");
            assert!(!blamed, "{record}: {}", record.cause);
        }
        see(&mut fixture, &[]);
        fixture.run_events();
        assert_eq!(db(&fixture).state(), GroupState::Offline, "an operator is needed");
        let mut off = fixture.state.clone();
        std::mem::swap(&mut off, &mut fixture.state);
        fixture.group(GroupCommand::Offline { group: "db".into() });
        assert!(db(&fixture).is_wanted_off(), "an operator leaves it off");
        fixture.state = off;
        fixture.group(GroupCommand::Online { group: "db".into() });
        fixture.run_events();
        assert_eq!((db(&fixture).state(), &db(&fixture).stopped_for), (GroupState::Online, &None));
    }

    /// A group that is blocked because it runs elsewhere, too, serves as before; one that nobody has does not.
    #[test]
    fn what_is_blocked_for_it_serves_all_the_same() {
        let mut fixture = fixture(MultipleActive::Block);
        see(&mut fixture, &["db-server"]);
        assert!(db(&fixture).blocked.is_some());
        assert_eq!(db(&fixture).state(), GroupState::Online);
        assert!(!fixture.records.iter().any(|it| it.code == Code::Group && it.current == "ERROR"));
        fixture.node_down(NodeNumber(2), "silent");
        fixture.lease_over(NodeNumber(2));
        assert_eq!(db(&fixture).state(), GroupState::Error);
    }

    /// A node that got the group may run it; one that is deleted says nothing any more.
    #[test]
    fn owners_and_strangers_are_not_extra() {
        let mut fixture = fixture(MultipleActive::StopExtra);
        let resources: BTreeSet<String> = [String::from("db-server")].into();
        for (node, group) in [(NodeNumber(2), "db"), (NodeNumber(9), "db"), (N3, "nosuch")] {
            let (group, resources) = (group.to_owned(), resources.clone());
            fixture.group(GroupCommand::Sighted { group, node, resources });
        }
        assert!(fixture.state.groups["db"].also.is_empty());
    }
}
