//! Watchers: from readings to events, with rearming (spec H31, H33).
//!
//! A rule names a variable and a [`Pattern`] of instances; a [`Watcher`] applies its predicate to each
//! reading, instance by instance:
//!
//! ```text
//!             predicate holds: an event
//!    armed ─────────────────────────────▶ fired
//!      ▲                                    │
//!      └────────────────────────────────────┘
//!        rearm predicate holds (without one: the predicate does not hold any more)
//! ```
//!
//! Each node watches the instances that are its own, so one node puts an event to the vote; what has
//! fired is part of the replicated state, so that an edge is one event, whoever dies or is restarted in
//! between.
//!
//! Whether a rule has fired for an instance is not remembered here: that is replicated state
//! ([`crate::event::Manager::fired`]), so it outlives agents and is the same for everybody. What is
//! kept here is only what predicates need (the value before) and whether somebody complained.

use std::collections::BTreeMap;

use crate::id::NodeNumber;
use crate::predicate::{self, Predicate};
use crate::rules::Rule;
use crate::time::WallTime;
use crate::trigger::Trigger;
use crate::variable::{Instance, Pattern, Reading, Value, canonical};

/// How many instances one rule follows. The one that was not heard of for longest gives way.
const MOST_INSTANCES: usize = 4_096;

/// A predicate that came true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The rule.
    pub rule: String,
    /// On which node, as the instance says.
    pub node: NodeNumber,
    /// The instance.
    pub instance: String,
    /// The value, in words.
    pub value: String,
    /// When the value was taken.
    pub at: WallTime,
    /// Why, for the event: the variable, its value, and the predicate.
    pub cause: String,
}

impl Fired {
    /// The event that is to be queued.
    pub fn trigger(&self) -> Trigger {
        Trigger::User {
            rule: self.rule.clone(),
            node: self.node,
            instance: self.instance.clone(),
            value: self.value.clone(),
        }
    }
}

/// A rule that had fired, and may again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rearmed {
    /// The rule.
    pub rule: String,
    /// On which node, as the instance says.
    pub node: NodeNumber,
    /// The instance.
    pub instance: String,
    /// The value, in words.
    pub value: String,
}

/// What a reading means for a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The predicate came true.
    Fired(Fired),
    /// It may fire again.
    Rearmed(Rearmed),
}

/// A rule that cannot be applied to a value. Told once for an instance, until it can be again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule} cannot be applied to {instance}: {what}. {advice}")]
pub struct Complaint {
    /// The rule.
    pub rule: String,
    /// The instance.
    pub instance: String,
    /// One sentence without its full stop.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What came of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Events.
    pub fired: Vec<Fired>,
    /// Rules that may fire again.
    pub rearmed: Vec<Rearmed>,
    /// Rules that could not be applied.
    pub complaints: Vec<Complaint>,
    /// Rules that can be applied again, and the instances.
    pub settled: Vec<(String, String)>,
}

/// How far a rule is with one instance.
#[derive(Clone, Debug, Default)]
struct Watched {
    complained: bool,
    before: Option<Value>,
    /// When it was heard of, counted in readings.
    heard: u64,
}

/// One rule, and how far it is with each instance.
#[derive(Clone, Debug)]
pub struct Watcher {
    rule: Rule,
    pattern: Pattern,
    predicate: Predicate,
    rearm: Option<Predicate>,
    watched: BTreeMap<Instance, Watched>,
    readings: u64,
}

impl Watcher {
    /// The watcher of a rule; none if the rule is of a predefined event, or has errors.
    pub fn new(rule: &Rule) -> Option<Self> {
        if !rule.is_user_defined() || rule.state != Rule::STATE {
            return None;
        }
        let rearm = match rule.rearm.as_str() {
            "" => None,
            text => Some(Predicate::parse(text).ok()?),
        };
        Some(Self {
            rule: rule.clone(),
            pattern: Pattern::parse(&rule.vector).ok()?,
            predicate: Predicate::parse(&rule.predicate).ok()?,
            rearm,
            watched: BTreeMap::new(),
            readings: 0,
        })
    }

    /// The rule's name.
    pub fn name(&self) -> &str {
        &self.rule.name
    }

    /// Our name of the variable.
    pub fn variable(&self) -> &str {
        canonical(&self.rule.variable)
    }

    /// The instances that are meant.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Takes in a reading of an instance for which the rule has `fired`, or has not. Answers what
    /// it means, and whether the rule can be applied after it could not.
    ///
    /// # Errors
    /// If the rule cannot be applied to this value, the first time for its instance.
    pub fn observe(
        &mut self,
        reading: &Reading,
        fired: bool,
    ) -> Result<(Option<Edge>, bool), Complaint> {
        let meant = canonical(&reading.variable) == self.variable();
        if !meant || !self.pattern.matches(&reading.instance) {
            return Ok((None, false));
        }
        let Some(node) = reading.instance.node() else {
            return self.complain(reading, "its instance names no node", "Add NodeNum to it.");
        };
        match self.step(reading, fired) {
            Ok((false, settled)) => Ok((None, settled)),
            Ok((true, settled)) if fired => {
                Ok((Some(Edge::Rearmed(self.rearmed(reading, node))), settled))
            }
            Ok((true, settled)) => Ok((Some(Edge::Fired(self.fired(reading, node))), settled)),
            Err(error) => self.complain(reading, &told(&error), &error.advice),
        }
    }

    /// Whether the rule fires by this reading (if it had fired: whether it is armed again), and
    /// whether it was complained about until now.
    fn step(&mut self, reading: &Reading, fired: bool) -> Result<(bool, bool), predicate::Error> {
        self.make_room(&reading.instance);
        self.readings += 1;
        let watched = self.watched.entry(reading.instance.clone()).or_default();
        watched.heard = self.readings;
        let before = watched.before.replace(reading.value.clone());
        let holds = |predicate: &Predicate| predicate.holds(&reading.value, before.as_ref());
        let turns = match (fired, &self.rearm) {
            (false, _) => holds(&self.predicate)?,
            (true, Some(rearm)) => holds(rearm)?,
            (true, None) => !holds(&self.predicate)?,
        };
        Ok((turns, std::mem::take(&mut watched.complained)))
    }

    /// Forgets the instance that was not heard of for longest, if a new one has no room.
    fn make_room(&mut self, instance: &Instance) {
        if self.watched.len() < MOST_INSTANCES || self.watched.contains_key(instance) {
            return;
        }
        let oldest = self.watched.iter().min_by_key(|(_, watched)| watched.heard);
        if let Some(oldest) = oldest.map(|(instance, _)| instance.clone()) {
            self.watched.remove(&oldest);
        }
    }

    fn complain(
        &mut self,
        reading: &Reading,
        what: &str,
        advice: &str,
    ) -> Result<(Option<Edge>, bool), Complaint> {
        self.make_room(&reading.instance);
        let watched = self.watched.entry(reading.instance.clone()).or_default();
        if std::mem::replace(&mut watched.complained, true) {
            return Ok((None, false));
        }
        Err(Complaint {
            rule: self.rule.name.clone(),
            instance: reading.instance.to_string(),
            what: what.into(),
            advice: advice.into(),
        })
    }

    fn fired(&self, reading: &Reading, node: NodeNumber) -> Fired {
        let (value, instance) = (reading.value.to_string(), reading.instance.to_string());
        let cause = format!(
            "{} of {instance} is {value}, and {} holds",
            self.rule.variable, self.rule.predicate
        );
        Fired { rule: self.rule.name.clone(), node, instance, value, at: reading.at, cause }
    }

    fn rearmed(&self, reading: &Reading, node: NodeNumber) -> Rearmed {
        let (value, instance) = (reading.value.to_string(), reading.instance.to_string());
        Rearmed { rule: self.rule.name.clone(), node, instance, value }
    }
}

fn told(error: &predicate::Error) -> String {
    format!("{} (column {} of `{}`)", error.what, error.column(), error.text)
}

/// The watchers of all rules in force.
#[derive(Clone, Debug, Default)]
pub struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Watchers of these rules.
    pub fn new(rules: &[Rule]) -> Self {
        Self(rules.iter().filter_map(Watcher::new).collect())
    }

    /// Other rules are in force: those that did not change keep their state.
    pub fn reload(&mut self, rules: &[Rule]) {
        let mut old = std::mem::take(&mut self.0);
        self.0 = rules
            .iter()
            .filter_map(|rule| match old.iter().position(|watcher| watcher.rule == *rule) {
                Some(place) => Some(old.swap_remove(place)),
                None => Watcher::new(rule),
            })
            .collect();
    }

    /// Each watcher.
    pub fn iter(&self) -> impl Iterator<Item = &Watcher> {
        self.0.iter()
    }

    /// Whether nobody has to look at anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in a reading. `fired` tells whether the rule of that name has fired for its instance
    /// and was not armed again.
    pub fn observe(&mut self, reading: &Reading, fired: impl Fn(&str) -> bool) -> Observed {
        let mut observed = Observed::default();
        for watcher in &mut self.0 {
            let has_fired = fired(&watcher.rule.name);
            match watcher.observe(reading, has_fired) {
                Ok((edge, settled)) => {
                    match edge {
                        Some(Edge::Fired(fired)) => observed.fired.push(fired),
                        Some(Edge::Rearmed(rearmed)) => observed.rearmed.push(rearmed),
                        None => {}
                    }
                    if settled {
                        let instance = reading.instance.to_string();
                        observed.settled.push((watcher.rule.name.clone(), instance));
                    }
                }
                Err(complaint) => observed.complaints.push(complaint),
            }
        }
        observed
    }
}

#[cfg(test)]
mod tests;
