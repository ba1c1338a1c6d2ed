//! What the nodes' watchers say (spec H29 to H33): which rules have fired, and what cannot be watched.
//!
//! An edge is one event: the instances for which a rule has fired stand in the state until they are
//! armed again, so a repeat from a restarted agent changes nothing. Nothing here looks at values;
//! that is each node's own business ([`crate::watchers`]).

use std::collections::BTreeMap;

use crate::command::ManagerCommand;
use crate::event::{Firing, Manager};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::{Code, Record, Subject};
use crate::rules::Rule;
use crate::trigger::Trigger;

use super::{ClusterState, Entry, RecordDraft, Refusal};

/// Instances that may have fired at a time, of all rules.
const MOST_FIRED: usize = 4_096;

/// The longest sentence about one of them, in characters.
const LONGEST: usize = 500;

impl ClusterState {
    /// Whether this very edge is known already.
    pub(super) fn has_fired(&self, trigger: &Trigger) -> bool {
        match trigger {
            Trigger::User { rule, instance, .. } => self.manager.has_fired(rule, instance),
            _ => false,
        }
    }

    /// Refuses what there is no room to remember: it would be told again and again.
    pub(super) fn check_room_to_fire(&self) -> Result<(), Refusal> {
        let fired: usize = self.manager.fired.values().map(BTreeMap::len).sum();
        if fired < MOST_FIRED {
            return Ok(());
        }
        Err(Refusal::new(
            "too_many_fired",
            format!("rules have fired for {fired} instances that were not armed again since"),
            "Let the rules select fewer instances, or correct their rearm predicates.",
        ))
    }

    /// Remembers that a rule fired, and tells it. The event that was just `queued` for it is named;
    /// there is none if the same one waits still from the time before.
    pub(super) fn mark_fired(&mut self, entry: &mut Entry<'_>, trigger: &Trigger, queued: bool) {
        let Trigger::User { rule, node, instance, value } = trigger else { return };
        let firing = Firing { node: *node, value: value.clone(), at: entry.proposal.at };
        let instances = self.manager.fired.entry(rule.clone()).or_default();
        instances.insert(instance.clone(), firing);
        let message = format!("{rule} {} has fired", self.node_name(*node));
        let (code, severity) = (Code::RuleFired, Severity::Informational);
        let mut happening = RecordDraft::new(code, severity, Subject::Node(*node), message)
            .change("", value)
            .because(format!("its predicate{}{instance}", Record::HOLDS_FOR));
        if queued {
            happening = happening
                .of_event(self.manager.last_event, None, None)
                .of_incident(Some(entry.index));
        }
        self.record(entry, happening);
    }

    /// A rule may fire again for an instance.
    pub(super) fn rearm(
        &mut self,
        entry: &mut Entry<'_>,
        (rule, instance): (&str, &str),
        value: &str,
    ) -> bool {
        let Some(instances) = self.manager.fired.get_mut(rule) else { return false };
        let Some(firing) = instances.remove(instance) else { return false };
        self.manager.fired.retain(|_, instances| !instances.is_empty());
        let node = firing.node;
        let message = format!("{rule} {} is armed again", self.node_name(node));
        self.record(
            entry,
            RecordDraft::new(
                Code::RuleRearmed,
                Severity::Informational,
                Subject::Node(node),
                message,
            )
            .change(firing.value, value)
            .because(format!("its rearm predicate{}{instance}", Record::HOLDS_FOR)),
        );
        true
    }

    /// The event of a rule that fired was given up before it was over: the rule may fire again, and that is told.
    pub(super) fn rearm_given_up(&mut self, entry: &mut Entry<'_>, trigger: &Trigger) {
        let Trigger::User { rule, instance, .. } = trigger else { return };
        let Some(firing) = self.manager.fired.get_mut(rule).and_then(|all| all.remove(instance))
        else {
            return;
        };
        self.manager.fired.retain(|_, instances| !instances.is_empty());
        let message = format!("{rule} {} is armed again", self.node_name(firing.node));
        let why = "the cluster was started anew before its event was over, so it may fire again";
        let (code, severity) = (Code::RuleRearmed, Severity::Notice);
        let happening = RecordDraft::new(code, severity, Subject::Node(firing.node), message);
        self.record(entry, happening.change(firing.value, "").because(why));
    }

    /// Something cannot be watched on a node, or can be again. Told once.
    pub(super) fn watch_trouble(
        &mut self,
        entry: &mut Entry<'_>,
        command: &ManagerCommand,
    ) -> bool {
        let ManagerCommand::Blind { node, what, why } = command else { return false };
        let known = self.manager.blind.get(node).is_some_and(|all| all.contains_key(what));
        if !self.nodes.contains_key(node) || known == why.is_some() {
            return false;
        }
        let all = self.manager.blind.entry(*node).or_default();
        let name = self.nodes.get(node).map(|node| node.name.clone()).unwrap_or_default();
        let happening = match why {
            Some(_) if all.len() >= Manager::MOST_BLIND => return false,
            Some(why) => {
                let why: String = why.chars().take(LONGEST).collect();
                all.insert(what.clone(), why.clone());
                let message = format!("{what}{}{name}", Record::CANNOT_BE_WATCHED);
                RecordDraft::new(Code::Monitor, Severity::Warning, Subject::Node(*node), message)
                    .change("works", "failed")
                    .because(why)
            }
            None => {
                let before = all.remove(what).unwrap_or_default();
                let message = format!("{what}{}{name} again", Record::IS_WATCHED);
                RecordDraft::new(Code::Monitor, Severity::Notice, Subject::Node(*node), message)
                    .change("failed", "works")
                    .because(format!("before: {before}"))
            }
        };
        self.manager.blind.retain(|_, all| !all.is_empty());
        self.record(entry, happening);
        true
    }

    /// Rules that are not in force any more, or read differently now, have not fired.
    pub(in crate::apply) fn rearm_changed(&mut self, before: &[Rule]) {
        if self.manager.fired.is_empty() {
            return;
        }
        let now = self.rules.rules();
        let same = |name: &String| {
            let rule = now.iter().find(|rule| rule.name == *name);
            rule.is_some() && rule == before.iter().find(|rule| rule.name == *name)
        };
        self.manager.fired.retain(|name, _| same(name));
    }

    /// Nothing of a node has fired or is blind any more: it was deleted.
    pub(super) fn forget_watching(&mut self, node: NodeNumber) {
        self.manager.blind.remove(&node);
        for instances in self.manager.fired.values_mut() {
            instances.retain(|_, firing| firing.node != node);
        }
        self.manager.fired.retain(|_, instances| !instances.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Proposal};
    use crate::fixture::Fixture;
    use crate::id::{CommandId, NodeNumber};
    use crate::state::Outcome;

    const RULE: &str = "UE_FULL\n0\n/site/full.rp\n2\n0\nfs.used_percent\nNodeNum=*\nX>90\nX<80\n";
    const INSTANCE: &str = "NodeNum=2;MountPoint=/";

    fn firing() -> ManagerCommand {
        let trigger = Trigger::User {
            rule: "UE_FULL".into(),
            node: NodeNumber(2),
            instance: INSTANCE.into(),
            value: "95".into(),
        };
        ManagerCommand::Queue { trigger, cause: "it is full".into() }
    }

    fn fire(fixture: &mut Fixture) {
        fixture.manage(firing());
    }

    fn load(fixture: &mut Fixture, text: &str) {
        let programs = BTreeMap::from([("/site/full.rp".to_owned(), "all \"a\" X NULL\n".into())]);
        let based_on = fixture.state.rules.active;
        let comment = String::new();
        fixture.apply(Command::SaveRules { text: text.into(), programs, comment, based_on });
    }

    fn rearm(fixture: &mut Fixture) {
        let (rule, instance) = ("UE_FULL".into(), INSTANCE.into());
        fixture.manage(ManagerCommand::Rearm { rule, instance, value: "70".into() });
    }

    fn count(fixture: &Fixture, code: Code) -> usize {
        fixture.records.iter().filter(|record| record.code == code).count()
    }

    /// H31, H33: an edge is one event, however often it is proposed, until the rule is armed again;
    /// a record tells of both.
    #[test]
    fn h31_an_edge_is_one_event() {
        let mut fixture = Fixture::settled(3);
        fixture.join_managers();
        load(&mut fixture, RULE);
        let before = fixture.state.manager.last_event;
        for _ in 0..3 {
            fire(&mut fixture);
            fixture.run_events();
        }
        assert_eq!(fixture.state.manager.last_event, before + 1);
        assert!(fixture.state.manager.has_fired("UE_FULL", INSTANCE));
        rearm(&mut fixture);
        rearm(&mut fixture);
        assert_eq!(count(&fixture, Code::RuleRearmed), 1);
        let record = fixture.records.last().unwrap();
        assert_eq!(record.message, "UE_FULL n2 is armed again");
        assert_eq!((record.previous.as_str(), record.current.as_str()), ("95", "70"));
        assert_eq!(record.watched(), Some(("UE_FULL", INSTANCE)));
        fire(&mut fixture);
        assert_eq!(fixture.state.manager.last_event, before + 2);
    }

    /// H31: that a rule fired is on record, with its event; and without one where the same event waits
    /// still, though it was armed in between.
    #[test]
    fn h31_a_rule_that_fires_is_told() {
        let mut fixture = Fixture::settled(3);
        fixture.join_managers();
        load(&mut fixture, RULE);
        fire(&mut fixture);
        let event = fixture.state.manager.last_event;
        rearm(&mut fixture);
        fire(&mut fixture);
        let told = fixture.records.iter().filter(|record| record.code == Code::RuleFired);
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].message, "UE_FULL n2 has fired");
        assert_eq!(told[0].current, "95");
        assert_eq!(told[0].watched(), Some(("UE_FULL", INSTANCE)));
        assert_eq!((told[0].event, told[0].incident), (Some(event), Some(told[0].index)));
        assert_eq!((told[1].event, told[1].incident), (None, None));
        assert_eq!(fixture.state.manager.last_event, event);
    }

    /// J9: what had fired and was dealt with survives a cold start, and is no event again; what nobody got to deal
    /// with may fire again, and that is on record.
    #[test]
    fn j9_what_has_fired_survives_a_cold_start() {
        let mut fixture = Fixture::settled(3);
        fixture.join_managers();
        load(&mut fixture, RULE);
        fire(&mut fixture);
        fixture.run_events();
        let mut later = firing();
        if let ManagerCommand::Queue { trigger: Trigger::User { instance, .. }, .. } = &mut later {
            *instance = "NodeNum=2;MountPoint=/var".into();
        }
        fixture.manage(later);
        let director = NodeNumber(1);
        fixture.apply(Command::Office { director, term: 9, continuity: false });
        assert!(fixture.state.manager.has_fired("UE_FULL", INSTANCE));
        assert!(!fixture.state.manager.has_fired("UE_FULL", "NodeNum=2;MountPoint=/var"));
        let told: Vec<_> =
            fixture.records.iter().filter(|record| record.code == Code::RuleRearmed).collect();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].cause.contains("started anew before its event was over"),
            "{}",
            told[0].cause
        );
    }

    /// H33: what cannot be queued has not fired, so its node proposes it again.
    #[test]
    fn h33_what_is_refused_has_not_fired() {
        let mut fixture = Fixture::settled(3);
        load(&mut fixture, RULE);
        let proposal = Proposal {
            id: CommandId([0xee; 16]),
            at: fixture.clock,
            origin: NodeNumber(2),
            actor: "agent".into(),
            command: Command::Manager(firing()),
            tick: None,
        };
        let index = fixture.state.revision + 1;
        let outcome = fixture.state.apply(index, &proposal).outcome;
        assert!(matches!(outcome, Outcome::Refused(_)), "nobody has joined: {outcome:?}");
        assert!(!fixture.state.manager.has_fired("UE_FULL", INSTANCE));
    }

    /// H16: other rules of the same file leave a rule as it is; if it changed itself, it is armed.
    #[test]
    fn h16_a_changed_rule_is_armed() {
        let mut fixture = Fixture::settled(3);
        fixture.join_managers();
        load(&mut fixture, RULE);
        fire(&mut fixture);
        load(&mut fixture, &format!("{RULE}{}", RULE.replace("UE_FULL", "UE_OTHER")));
        assert_eq!(fixture.state.rules.active, 2);
        assert!(fixture.state.manager.has_fired("UE_FULL", INSTANCE));
        load(&mut fixture, &RULE.replace("X>90", "X>94"));
        assert_eq!(fixture.state.rules.active, 3);
        assert!(fixture.state.manager.fired.is_empty());
    }

    /// H29: a monitor that fails is told once, and once that it works again.
    #[test]
    fn h29_a_monitor_that_fails_is_told_once() {
        let mut fixture = Fixture::settled(3);
        let mut say = |why: Option<&str>| {
            fixture.manage(ManagerCommand::Blind {
                node: NodeNumber(2),
                what: "monitor site.queue".into(),
                why: why.map(str::to_owned),
            });
            count(&fixture, Code::Monitor)
        };
        assert_eq!(say(None), 0);
        assert_eq!(say(Some("it is not there")), 1);
        assert_eq!(say(Some("it timed out")), 1);
        assert_eq!(say(None), 2);
        let told = fixture.records.iter().filter(|record| record.code == Code::Monitor);
        assert!(told.clone().all(|record| record.trouble() == Some("monitor site.queue")));
        let record = fixture.records.last().unwrap();
        assert_eq!(record.message, "monitor site.queue is watched on n2 again");
        assert!(fixture.state.manager.blind.is_empty());
    }
}
