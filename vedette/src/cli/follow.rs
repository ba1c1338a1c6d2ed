//! Waiting for what becomes of an order about a group, or to managers (`managers`), and telling how far it is.
//!
//! An order is carried out by an event: it waits for its turn, its programs run, the group is released and
//! acquired. The exit status of the command is that of its outcome: 0 if the group is where it was wanted, 1
//! if it came to be elsewhere or waits for another event, 2 if it is nowhere or needs an operator, 3 if
//! nobody waited long enough to know. Whoever is not waited for goes on all the same.

pub(crate) mod managers;

use std::time::{Duration, Instant};

use clap::Args;
use vedette_core::event::{Running, Stage};
use vedette_core::group::{Group, GroupState, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;
use vedette_core::trigger::Trigger;

use super::aside::Progress;
use super::ask;
use super::context::{Context, LOOK};
use super::fail::{Failure, Result};
use super::text::{clean, length, upper};

/// `--no-wait`, `--timeout`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Await {
    /// Return as soon as the order is taken, whatever becomes of it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for the outcome; what was ordered goes on after that
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = ask::duration,
          conflicts_with = "no_wait")]
    pub(crate) timeout: Duration,
}

/// What was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It shall be online, on this node if one is named.
    On(Option<NodeNumber>),
    /// It shall be off.
    Off,
}

/// How long a group has to stand still without an event before that is the outcome: what goes wrong is often
/// followed by another event a moment later.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Waits until the order that was taken at `index` has led to something; answers what, in a sentence.
///
/// # Errors
/// If that is not what was ordered, or nobody knows yet.
pub(crate) fn outcome(
    context: &Context,
    name: &str,
    goal: Goal,
    index: u64,
    limit: Duration,
) -> Result<String> {
    // Where it shall be is what was wished when it was first seen.
    let mut wish = None;
    let late = || format!("{} {} after {}; it goes on", clean(name), short_of(goal), length(limit));
    let look = |state: &ClusterState| -> Result<Look> {
        let group = state.groups.get(name).ok_or_else(|| gone(name))?;
        let goal = if goal == Goal::On(None) {
            *wish.get_or_insert(Goal::On(group.preferred))
        } else {
            goal
        };
        Ok((step(state, name, group), verdict(state, name, group, goal)))
    };
    follow(context, index, limit, &late, look)
}

/// What a look at the state shows: the step at hand, and the outcome, if there is one.
type Look = (String, Option<Result<String>>);

/// Looks until there is an outcome of what was taken at `index`, and tells how far it is.
fn follow(
    context: &Context,
    index: u64,
    limit: Duration,
    late: &dyn Fn() -> String,
    mut look: impl FnMut(&ClusterState) -> Result<Look>,
) -> Result<String> {
    let deadline = Instant::now() + limit;
    let mut progress = Progress::default();
    let mut since: Option<(Failure, Instant)> = None;
    let mut seen = Instant::now();
    loop {
        // What was ordered is in the log, and so is the answer.
        let state = context.state_again(&mut seen)?;
        // This node may not have the order yet.
        if state.revision >= index {
            let (step, verdict) = look(&state)?;
            progress.at(&step);
            match verdict {
                Some(Ok(sentence)) => {
                    progress.end();
                    return Ok(sentence);
                }
                Some(Err(failure)) => {
                    let same = since.take().filter(|(before, _)| *before == failure);
                    let (failure, begun) = same.unwrap_or((failure, Instant::now()));
                    if begun.elapsed() >= SETTLED {
                        progress.end();
                        return Err(failure);
                    }
                    since = Some((failure, begun));
                }
                None => since = None,
            }
        }
        if Instant::now() >= deadline {
            progress.end();
            return Err(Failure::unknown(late(), "See how far it is: vedette event show."));
        }
        std::thread::sleep(LOOK);
    }
}

fn short_of(goal: Goal) -> &'static str {
    match goal {
        Goal::On(_) => "is not where it shall be",
        Goal::Off => "is not off",
    }
}

fn gone(name: &str) -> Failure {
    Failure::refused(
        format!("group {} was taken out of the configuration meanwhile", clean(name)),
        "See what changed: vedette config history.",
    )
}

/// Where a group is and what is being done with it.
fn step(state: &ClusterState, name: &str, group: &Group) -> String {
    let place = |(node, instance): (&NodeNumber, &vedette_core::group::Instance)| {
        let (all, on) = (instance.resources.len(), online(instance));
        let moving = matches!(instance.state, GroupState::Acquiring | GroupState::Releasing);
        let count = if moving && all > 0 {
            format!(" ({on} of {all} resources online)")
        } else {
            String::new()
        };
        format!("{} on {}{count}", instance.state, state.node_name(*node))
    };
    let places: Vec<String> = group.instances.iter().map(place).collect();
    let places = if places.is_empty() { group.state().to_string() } else { places.join(", ") };
    let why = match event_of(state, name) {
        Some((running, true)) if running.stage == Stage::Voting => {
            format!("; event {} is put to the vote", running.event.id)
        }
        Some((running, false)) => format!("; waits for event {}", label(state, running)),
        _ => String::new(),
    };
    clean(&format!("{name}: {places}{why}"))
}

fn online(instance: &vedette_core::group::Instance) -> usize {
    instance.resources.values().filter(|it| it.state == ResourceState::Online).count()
}

fn label(state: &ClusterState, running: &Running) -> String {
    format!("{} {}", running.event.id, state.trigger_label(&running.event.trigger))
}

/// The event that began and is about the group, or one that has to be over first.
fn event_of<'a>(state: &'a ClusterState, name: &str) -> Option<(&'a Running, bool)> {
    if let Some(own) = state.manager.begun().find(|running| is_about(running, name)) {
        return Some((own, true));
    }
    let manager = &state.manager;
    let queued = manager.queue.iter().find(|event| moves(&event.trigger, name))?;
    let current = manager.current.as_ref().filter(|_| !manager.is_open());
    let first = current.or_else(|| manager.begun().find(|it| it.holds_up(&queued.trigger)));
    first.map(|running| (running, false))
}

fn moves(trigger: &Trigger, name: &str) -> bool {
    matches!(trigger, Trigger::GroupMove { group } if group == name)
}

fn is_about(running: &Running, name: &str) -> bool {
    running.concerns(name) || moves(&running.event.trigger, name)
}

/// Whether an event about the group waits or is not over.
fn is_being_moved(state: &ClusterState, name: &str) -> bool {
    let manager = &state.manager;
    manager.begun().any(|running| is_about(running, name) && !running.is_stuck())
        || manager.queue.iter().any(|event| moves(&event.trigger, name))
}

/// What became of it, if that can be said: the sentence, or why it is not as it was ordered.
fn verdict(state: &ClusterState, name: &str, group: &Group, goal: Goal) -> Option<Result<String>> {
    let said = clean(name);
    if let Some(stuck) = state.manager.failed().find(|it| is_about(it, name) && it.is_stuck()) {
        return Some(Err(Failure::failed(
            format!("event {} failed and waits for an operator", label(state, stuck)),
            "See what failed: vedette recover show.",
        )));
    }
    let mut queued = state.manager.queue.iter().filter(|event| moves(&event.trigger, name));
    if let Some(waiting) = queued.next() {
        let before = |failed: &&Running| failed.event.trigger.comes_before(&waiting.trigger);
        let failed = state.manager.failed().find(before)?;
        return Some(Err(Failure::refused(
            format!(
                "{said} waits until event {}, which failed, is continued",
                label(state, failed)
            ),
            "See what failed: vedette recover show.",
        )));
    }
    if state.manager.begun().any(|running| is_about(running, name)) {
        return None;
    }
    let owners: Vec<String> = group.instances.keys().map(|node| state.node_name(*node)).collect();
    let at = if owners.is_empty() { String::new() } else { format!(" on {}", owners.join(", ")) };
    let now = clean(&format!("{name} is {}{at}", group.state()));
    match (group.state(), goal) {
        (GroupState::Online, Goal::On(None)) | (GroupState::Offline, Goal::Off) => Some(Ok(now)),
        (GroupState::Online, Goal::On(Some(node))) if group.instances.contains_key(&node) => {
            Some(Ok(now))
        }
        (GroupState::Online, Goal::On(Some(node))) => {
            let wanted = state.node_name(node);
            let why = group.avoid_why.get(&node).map(|why| format!(": {why}")).or_else(|| {
                let obstacle = vedette_core::placement::obstacle(state, name, node)?;
                Some(format!(", which {obstacle}"))
            });
            let why = why.unwrap_or_default();
            Some(Err(Failure::refused(
                clean(&format!("{now}, and not on {wanted}{why}")),
                format!("See why: vedette group show {said}."),
            )))
        }
        (GroupState::Acquiring | GroupState::Releasing, _) => None,
        (GroupState::Unknown, _) if waiting_takeover(state, name, group).is_some() => {
            let (node, why) = waiting_takeover(state, name, group)?;
            let what =
                format!("{now}, and the order waits for evidence that it is off there: {why}");
            let advice = format!("{}.", upper(&state.make_certain(node)));
            Some(Err(Failure::failed(clean(&what), clean(&advice))))
        }
        (is, _) => {
            let blocked = group.blocked.as_ref().map(|it| format!(": {}", it.why));
            let advice = match (&blocked, is) {
                (Some(_), _) => state.advice_sentence(name),
                (None, _) => format!("See why: vedette group show {said}."),
            };
            Some(Err(Failure::failed(
                clean(&format!("{now}{}", blocked.unwrap_or_default())),
                advice,
            )))
        }
    }
}

/// The node from which nobody takes a group yet, and why.
fn waiting_takeover<'a>(
    state: &'a ClusterState,
    name: &str,
    group: &Group,
) -> Option<(NodeNumber, &'a str)> {
    let mut nodes = group.instances.keys().copied();
    nodes.find_map(|node| Some((node, state.takeover_waits_for(name, node)?)))
}

#[cfg(test)]
mod tests {
    use vedette_core::command::{GroupCommand, ManagerCommand};
    use vedette_core::fixture::Fixture;

    use super::super::fail::{FAILED, REFUSED};
    use super::*;

    const N2: NodeNumber = NodeNumber(2);
    const N3: NodeNumber = NodeNumber(3);

    fn look(fixture: &Fixture, goal: Goal) -> Option<Result<String>> {
        verdict(&fixture.state, "db", &fixture.state.groups["db"], goal)
    }

    fn shown(fixture: &Fixture) -> String {
        step(&fixture.state, "db", &fixture.state.groups["db"])
    }

    fn moved(to: NodeNumber) -> GroupCommand {
        GroupCommand::Move { group: "db".into(), to: Some(to), until: None }
    }

    #[test]
    fn a_move_is_followed_to_its_end() {
        let mut fixture = Fixture::with_groups();
        assert_eq!(look(&fixture, Goal::On(Some(N2))), Some(Ok("db is ONLINE on n2".into())));
        fixture.group(moved(N3));
        assert_eq!(look(&fixture, Goal::On(Some(N3))), None);
        assert_eq!(shown(&fixture), "db: ONLINE on n2");
        fixture.work();
        assert_eq!(look(&fixture, Goal::On(Some(N3))), None);
        assert!(shown(&fixture).starts_with("db: "), "{}", shown(&fixture));
        fixture.run_events();
        assert_eq!(look(&fixture, Goal::On(Some(N3))), Some(Ok("db is ONLINE on n3".into())));
        let elsewhere = look(&fixture, Goal::On(Some(N2))).unwrap().unwrap_err();
        assert_eq!(elsewhere.exit, REFUSED);
        assert_eq!(elsewhere.what, "db is ONLINE on n3, and not on n2");
        let member = fixture.state.manager.members.get_mut(&N2).expect("a manager");
        member.maintenance = true;
        let elsewhere = look(&fixture, Goal::On(Some(N2))).unwrap().unwrap_err();
        assert_eq!(elsewhere.what, "db is ONLINE on n3, and not on n2, which is in maintenance");
        let on = look(&fixture, Goal::Off).unwrap().unwrap_err();
        assert_eq!((on.exit, on.what.as_str()), (FAILED, "db is ONLINE on n3"));
    }

    #[test]
    fn an_event_that_failed_is_the_outcome() {
        let mut fixture = Fixture::with_groups();
        fixture.group(moved(N3));
        fixture.work();
        fixture.work();
        let event = fixture.state.manager.current.as_ref().unwrap().event.id;
        for node in [1, 2, 3].map(NodeNumber) {
            fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node });
        }
        let failed = look(&fixture, Goal::On(Some(N3))).unwrap().unwrap_err();
        assert_eq!(failed.exit, FAILED);
        assert!(failed.what.ends_with("failed and waits for an operator"), "{failed}");
        fixture.group(GroupCommand::Offline { group: "db".into() });
        let waits = look(&fixture, Goal::Off).unwrap().unwrap_err();
        assert!(waits.advice.contains("vedette recover show"), "{waits}");
    }
}
