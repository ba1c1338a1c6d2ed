//! The work of one node, begun once and given up when the state no longer asks for it.
//!
//! [`tasks`] says what there is to do; nothing is handed to anybody, so a restarted agent finds the same tasks in the
//! state and does them again. One that was done stays begun until the state knows its answer, and is not done twice.
//!
//! Work is taken from a state of now only: while the log is being replayed, or without a majority,
//! what the state asks for may be long over. Clearing up is the exception, as letting go is always
//! safe. What was begun goes on for a while (the detection time) without a majority: when a director is
//! lost in the middle of a program, nobody's script is killed for that and started again.
//!
//! That its manager is there, and how its guard is, a node says by itself, and again whenever the state does not know
//! it as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::ManagerCommand;
use crate::holding::executor::{GuardFacts, Now, Seen};
use crate::id::{NodeNumber, Session};
use crate::model::LogTiming;
use crate::state::ClusterState;
use crate::time::Instant;
use crate::work::{Task, tasks};

/// How long what was accepted elsewhere may take to arrive here.
const ARRIVES: Duration = Duration::from_secs(2);

/// Effects of a [`Runner`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do that, and answer the state by the command that the task names.
    Begin {
        /// Number of the task.
        id: u64,
        /// The task.
        task: Task,
    },
    /// It is no longer to be done: whatever was begun for it ends.
    GiveUp {
        /// Number of the task.
        id: u64,
    },
    /// Say that until it is decided; then [`Runner::presented`].
    Present(Box<ManagerCommand>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Runner {
    me: NodeNumber,
    session: Session,
    log: LogTiming,
    begun: BTreeMap<Task, u64>,
    last: u64,
    /// Since when nothing is known of now.
    blind: Option<Instant>,
    presenting: Presenting,
    deadline: Option<Instant>,
}

/// What is said of this node's manager at present.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Presenting {
    Nothing,
    /// That is being decided.
    Said(Box<GuardFacts>),
    /// That was decided, and arrives here until then.
    Decided(Box<GuardFacts>, Instant),
}

impl Runner {
    /// A runner for the run `session` of the agent of `me`, whose log was opened with those timers.
    pub const fn new(me: NodeNumber, session: Session, log: LogTiming) -> Self {
        Self {
            me,
            session,
            log,
            begun: BTreeMap::new(),
            last: 0,
            blind: None,
            presenting: Presenting::Nothing,
            deadline: None,
        }
    }

    /// When to look again, though nothing changes.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Looks at the cluster as it is seen now, and at what may be said of the guard, if anything may.
    pub fn look(
        &mut self,
        now: Now,
        seen: &Seen,
        guard: Option<&GuardFacts>,
        out: &mut Vec<Output>,
    ) {
        self.deadline = None;
        self.look_for_work(now, seen, out);
        if let Some(facts) = guard.filter(|_| seen.running && seen.quorate) {
            self.present(now.at, &seen.state, facts, out);
        }
    }

    /// What was said of this node's manager was decided.
    pub fn presented(&mut self, now: Instant) {
        if let Presenting::Said(facts) = &self.presenting {
            self.presenting = Presenting::Decided(facts.clone(), now + ARRIVES);
        }
    }

    fn look_for_work(&mut self, now: Now, seen: &Seen, out: &mut Vec<Output>) {
        let (mut tasks, of_now) = self.asked(seen);
        // An agent that begins anew while its guard stands still leaves nobody who lets go of everything: the next one
        // hears nothing of what is held. Where nothing is held, nobody need know of a lease.
        let has_any = seen.state.groups.values().any(|it| it.instances.contains_key(&self.me));
        tasks.retain(|task| now.lease || !has_any || *task != Task::Renew);
        let now = now.at;
        self.blind = if of_now { None } else { self.blind.or(Some(now)) };
        let patience = seen.state.settings.timing.detect();
        let until = self.blind.map(|since| since + patience).filter(|until| now < *until);
        match until {
            Some(until) => self.wake(until),
            None => self.give_up(&tasks, out),
        }
        for task in tasks {
            if !self.begun.contains_key(&task) {
                self.last += 1;
                self.begun.insert(task.clone(), self.last);
                out.push(Output::Begin { id: self.last, task });
            }
        }
    }

    /// What is to be done here, as far as this can be trusted, and whether it is of now.
    fn asked(&self, seen: &Seen) -> (Vec<Task>, bool) {
        if !seen.running {
            return (Vec::new(), false);
        }
        let mut tasks = tasks(&seen.state, self.me);
        let of_now = seen.quorate && self.is_of_now(&seen.state);
        tasks.retain(|task| of_now || matches!(task, Task::CleanUp { .. }));
        (tasks, of_now)
    }

    /// Whether a state is from after this agent's start. What an earlier one has done may be missing
    /// in an older state, and must not be done twice.
    fn is_of_now(&self, state: &ClusterState) -> bool {
        let member = state.manager.members.get(&self.me);
        member.is_some_and(|member| member.session == self.session)
    }

    fn give_up(&mut self, asked: &[Task], out: &mut Vec<Output>) {
        self.begun.retain(|task, id| {
            let wanted = asked.contains(task);
            // Clearing up goes on to its end: half of it is no use to anybody.
            if !wanted && !matches!(task, Task::CleanUp { .. }) {
                out.push(Output::GiveUp { id: *id });
            }
            wanted
        });
    }

    fn present(
        &mut self,
        now: Instant,
        state: &ClusterState,
        facts: &GuardFacts,
        out: &mut Vec<Output>,
    ) {
        match &self.presenting {
            Presenting::Said(_) => return,
            // What is to be said by now may be something else, and is said as soon as this has arrived.
            Presenting::Decided(said, until) if !self.knows(state, said) && now < *until => {
                return self.wake(*until);
            }
            _ => self.presenting = Presenting::Nothing,
        }
        if self.knows(state, facts) {
            return;
        }
        self.presenting = Presenting::Said(Box::new(facts.clone()));
        let GuardFacts { backing, watchdog, reaper, unreleased, epoch, voters, timing, .. } =
            facts.clone();
        out.push(Output::Present(Box::new(ManagerCommand::Present {
            node: self.me,
            session: self.session,
            backing,
            watchdog,
            reaper,
            unreleased,
            epoch,
            voters,
            timing,
            log: self.log,
        })));
    }

    /// Whether the state knows this node's manager and guard as they are.
    fn knows(&self, state: &ClusterState, facts: &GuardFacts) -> bool {
        state.manager.members.get(&self.me).is_some_and(|known| {
            let said = (known.session, known.backing, known.epoch, known.voters, known.log);
            said == (self.session, facts.backing, facts.epoch, facts.voters, self.log)
                && known.timing == facts.timing
                && (&known.watchdog, &known.reaper) == (&facts.watchdog, &facts.reaper)
                && known.unreleased == facts.unreleased
        })
    }

    fn wake(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |known| known.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixture::Fixture;
    use crate::takeover::{Backing, Unreleased};

    const N2: NodeNumber = NodeNumber(2);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    fn seen(state: &ClusterState, quorate: bool) -> Seen {
        Seen { state: Arc::new(state.clone()), quorate, running: true, lease: Some(quorate) }
    }

    /// A runner of n2, which acquires web in that state.
    fn acquiring() -> (Runner, ClusterState) {
        let state = Fixture::failing_over().state;
        let member = &state.manager.members[&N2];
        (Runner::new(N2, member.session, member.log), state)
    }

    fn look(runner: &mut Runner, now: Instant, seen: &Seen) -> Vec<Output> {
        let mut out = Vec::new();
        runner.look(Now { at: now, lease: true }, seen, None, &mut out);
        out
    }

    fn facts(state: &ClusterState) -> GuardFacts {
        let member = &state.manager.members[&N2];
        GuardFacts {
            backing: member.backing,
            watchdog: member.watchdog.clone(),
            reaper: member.reaper.clone(),
            unreleased: member.unreleased.clone(),
            goes_on: false,
            epoch: member.epoch,
            voters: member.voters,
            timing: member.timing,
        }
    }

    #[test]
    fn a_task_is_begun_once_and_given_up_when_nobody_asks_for_it() {
        let (mut runner, mut state) = acquiring();
        let begun = look(&mut runner, at(0), &seen(&state, true));
        assert!(
            matches!(begun[..], [Output::Begin { id: 1, task: Task::Run { .. } }]),
            "{begun:?}"
        );
        assert_eq!(look(&mut runner, at(10), &seen(&state, true)), []);
        state.manager.current = None;
        let over = look(&mut runner, at(20), &seen(&state, true));
        assert!(over.contains(&Output::GiveUp { id: 1 }), "{over:?}");
    }

    /// A director that is lost in the middle of a program costs nobody a script.
    #[test]
    fn what_was_begun_goes_on_for_a_detection_time_without_a_quorum() {
        let (mut runner, state) = acquiring();
        look(&mut runner, at(0), &seen(&state, true));
        let detect = state.settings.timing.detect();
        assert_eq!(look(&mut runner, at(10), &seen(&state, false)), []);
        assert_eq!(runner.deadline(), Some(at(10) + detect));
        assert_eq!(
            look(&mut runner, at(10) + detect, &seen(&state, false)),
            [Output::GiveUp { id: 1 }]
        );
    }

    /// Seed 55382 of the simulation: a guard stood still, its agent began anew, and the next one knew of nothing that it
    /// was to let go of.
    #[test]
    fn an_agent_does_not_begin_anew_without_a_lease() {
        let mut state = Fixture::with_groups().state;
        for member in state.manager.members.values_mut() {
            member.log = state.settings.timing.log();
        }
        let member = state.manager.members.get_mut(&N2).expect("a member");
        member.log.election_min_ms += 1;
        let mut runner = Runner::new(N2, member.session, member.log);
        let mut begun = |lease| {
            let mut out = Vec::new();
            runner.look(Now { at: at(0), lease }, &seen(&state, true), None, &mut out);
            out
        };
        assert_eq!(begun(false), []);
        assert_eq!(begun(true), [Output::Begin { id: 1, task: Task::Renew }]);
        assert_eq!(begun(false), [Output::GiveUp { id: 1 }]);
        for group in state.groups.values_mut() {
            group.instances.remove(&N2);
        }
        let mut out = Vec::new();
        runner.look(Now { at: at(0), lease: false }, &seen(&state, true), None, &mut out);
        assert_eq!(out, [Output::Begin { id: 2, task: Task::Renew }], "it has nothing");
    }

    #[test]
    fn nothing_is_begun_in_a_state_of_before() {
        let (_, state) = acquiring();
        let log = state.settings.timing.log();
        let mut later = Runner::new(N2, Session(4_711), log);
        assert_eq!(look(&mut later, at(0), &seen(&state, true)), []);
        let (mut runner, _) = acquiring();
        assert_eq!(look(&mut runner, at(0), &seen(&state, false)), []);
    }

    /// It is said until the state knows it, and once at a time.
    #[test]
    fn how_its_guard_is_a_node_says_until_the_state_knows_it() {
        let (mut runner, state) = acquiring();
        let now = seen(&state, true);
        let known = facts(&state);
        let presents = |runner: &mut Runner, at, facts: &GuardFacts| {
            let mut out = Vec::new();
            runner.look(Now { at, lease: true }, &now, Some(facts), &mut out);
            out.into_iter().filter(|it| matches!(it, Output::Present(_))).count()
        };
        assert_eq!(presents(&mut runner, at(0), &known), 0);
        let groups = [("web".to_owned(), "it is busy".to_owned())].into();
        let unreleased = Unreleased { guard: None, groups };
        let other = GuardFacts { unreleased, backing: Backing::Watchdog, ..known };
        assert_eq!(presents(&mut runner, at(10), &other), 1);
        assert_eq!(presents(&mut runner, at(20), &other), 0, "it is being decided");
        runner.presented(at(30));
        assert_eq!(presents(&mut runner, at(40), &other), 0, "it is about to arrive");
        assert_eq!(
            presents(&mut runner, at(2_030), &other),
            1,
            "it was decided and something else came of it"
        );
    }

    /// A guard says first that nothing stands behind it, and a moment later that the kernel does: the second is said as
    /// soon as the first has arrived.
    #[test]
    fn what_changed_meanwhile_is_said_at_once() {
        let (mut runner, mut state) = acquiring();
        let kernel = facts(&state);
        let nothing = GuardFacts { backing: Backing::None, ..kernel.clone() };
        let said = |runner: &mut Runner, ms, state: &ClusterState, facts: &GuardFacts| {
            let mut out = Vec::new();
            let now = Now { at: at(ms), lease: true };
            runner.look(now, &seen(state, true), Some(facts), &mut out);
            out.iter().any(|it| matches!(it, Output::Present(_)))
        };
        assert!(said(&mut runner, 0, &state, &nothing));
        assert!(!said(&mut runner, 5, &state, &kernel));
        runner.presented(at(10));
        state.manager.members.get_mut(&N2).expect("n2").backing = Backing::None;
        assert!(said(&mut runner, 11, &state, &kernel));
    }
}
