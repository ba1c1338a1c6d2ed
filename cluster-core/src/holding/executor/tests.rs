//! The executor in virtual time: a [`Bench`] answers it as its guard, its machine and the cluster would.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::command::GroupCommand;
use crate::fixture::Fixture;
use crate::group::ResourceState;
use crate::state::ClusterState;
use crate::takeover::{Backing, Unreleased};
use crate::trigger::StopMode;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);

/// An executor, what is known around it, and everything that came out of it.
struct Bench {
    executor: Executor,
    me: NodeNumber,
    state: ClusterState,
    epoch: u64,
    now: Instant,
    lease: bool,
    /// The guard answers orders at once.
    guard: bool,
    /// Operations that fail, by resource.
    failing: BTreeSet<(&'static str, Action)>,
    /// Operations that are not over.
    slow: BTreeSet<Action>,
    under_way: Vec<(u64, Action, String)>,
    orders: Vec<Orders>,
    done: Vec<String>,
    reports: Vec<GroupCommand>,
    answers: Vec<(u64, Result<Said, Stop>)>,
    lines: Vec<String>,
    cancelled: usize,
}

impl Bench {
    /// A node of a cluster in that state whose guard was heard; nothing was asked yet.
    fn new(me: NodeNumber, state: ClusterState) -> Self {
        let mut bench = Self::unheard(me, state);
        bench.hear();
        bench
    }

    fn unheard(me: NodeNumber, state: ClusterState) -> Self {
        let epoch = state.manager.members[&me].epoch;
        let seen = Seen { state: Arc::default(), quorate: false, running: false, lease: None };
        let now = Instant::from_micros(5_000_000);
        let mut bench = Self {
            executor: Executor::new(me, seen),
            me,
            state,
            epoch,
            now,
            lease: true,
            guard: true,
            failing: BTreeSet::new(),
            slow: BTreeSet::new(),
            under_way: Vec::new(),
            orders: Vec::new(),
            done: Vec::new(),
            reports: Vec::new(),
            answers: Vec::new(),
            lines: Vec::new(),
            cancelled: 0,
        };
        bench.see();
        bench
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = Now { at: self.now, lease: self.lease };
        self.executor.handle(now, input, &mut out);
        self.carry_out(out);
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.executor.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let mut out = Vec::new();
            let now = Now { at: self.now, lease: self.lease };
            self.executor.on_timeout(now, &mut out);
            self.carry_out(out);
        }
        self.now = end;
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Order(orders) => {
                    self.orders.push(*orders);
                    if self.guard {
                        self.obey(None);
                    }
                }
                Output::Do { id, action, resource, .. } => {
                    self.under_way.push((id, action, resource.name.clone()));
                    if !self.slow.contains(&action) {
                        self.finish();
                    }
                }
                Output::Cancel { id } => {
                    self.under_way.retain(|(known, ..)| *known != id);
                    self.cancelled += 1;
                }
                Output::LookOutside { id, .. } => {
                    self.give(Input::Outside { id, resources: BTreeSet::new() });
                }
                Output::Report { group, number, command } => {
                    self.reports.push(*command);
                    self.give(Input::Decided { group, number });
                }
                Output::Answer { ask, said } => self.answers.push((ask, said)),
                Output::Line { text, .. } => self.lines.push(text),
                _ => {}
            }
        }
    }

    /// The operation that was begun last is over; what was done with web is remembered.
    fn finish(&mut self) {
        let Some((id, action, name)) = self.under_way.pop() else { return };
        let failed = self.failing.iter().any(|it| (it.0, it.1) == (name.as_str(), action));
        let said = if failed { "exit status 1".to_owned() } else { String::new() };
        if action != Action::Monitor && ["web_address", "httpd"].contains(&name.as_str()) {
            self.done.push(format!("{action:?} {name}{}", if failed { " fails" } else { "" }));
        }
        self.give(Input::Done { id, done: Done { said, failed, ..Done::default() } });
    }

    /// The guard answers the latest order.
    fn obey(&mut self, refused: Option<&str>) {
        let sequence = self.orders.last().expect("there was an order").sequence;
        let facts = Box::new(self.facts());
        self.give(Input::Holding { facts, sequence, refused: refused.map(str::to_owned) });
    }

    fn facts(&self) -> GuardFacts {
        GuardFacts {
            backing: Backing::Kernel,
            watchdog: None,
            reaper: None,
            unreleased: Unreleased::default(),
            goes_on: false,
            epoch: self.epoch,
            voters: 0,
            timing: None,
        }
    }

    /// The guard is heard, and has a lease.
    fn hear(&mut self) {
        let facts = Box::new(self.facts());
        self.give(Input::Report { voters: 0, timing: None, lease: true, released: false });
        self.give(Input::Holding { facts, sequence: 0, refused: None });
    }

    /// The state as it is now is seen.
    fn see(&mut self) {
        let state = Arc::new(self.state.clone());
        let seen = Seen { state, quorate: self.lease, running: true, lease: Some(self.lease) };
        self.give(Input::Seen(seen));
    }

    /// The lease ends, and the guard lets go of everything.
    fn lose(&mut self) {
        (self.lease, self.epoch) = (false, self.epoch + 1);
        self.give(Input::ReleasedAll { epoch: self.epoch, left: false });
        self.see();
    }

    fn ask(&mut self, ask: u64, verb: Verb) {
        self.give(Input::Ask { ask, group: "web".into(), op: Op::Perform(verb) });
    }

    fn answer(&self, ask: u64) -> Option<&Result<Said, Stop>> {
        self.answers.iter().find(|(of, _)| *of == ask).map(|(_, said)| said)
    }

    fn covered(&self) -> Vec<&str> {
        let last = self.orders.last();
        last.map(|it| it.covered.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    fn web(&mut self) -> &mut Instance {
        let web = self.state.groups.get_mut("web").expect("there is web");
        web.instances.get_mut(&self.me).expect("it is here")
    }

    fn reported(&self, state: GroupState) -> bool {
        let is = |it: &GroupCommand| matches!(it, GroupCommand::Progress { state: Some(now), .. } if *now == state);
        self.reports.iter().any(is)
    }

    fn released(&self) -> Vec<(&str, bool)> {
        let released = self.reports.iter().filter_map(|it| match it {
            GroupCommand::Released { why, avoid, .. } => Some((why.as_str(), *avoid)),
            _ => None,
        });
        released.collect()
    }
}

/// On n2, to which web is being brought; its leave is there.
fn taking_over() -> Bench {
    Bench::new(N2, Fixture::failing_over().state)
}

/// On n1, where web has been since before this agent started.
fn owner() -> Bench {
    let mut bench = Bench::new(N1, Fixture::with_groups().state);
    assert_eq!(bench.take_done(), [""; 0], "what runs is left as it is");
    bench.orders.truncate(1);
    bench
}

/// H21: nothing is started before the guard has said that it holds it, and each step is told.
#[test]
fn a_group_is_acquired_when_the_guard_holds_it() {
    let mut bench = taking_over();
    bench.guard = false;
    bench.ask(7, Verb::Acquire);
    assert_eq!(bench.covered(), ["batch", "db", "web"]);
    assert_eq!(bench.take_done(), [""; 0], "the guard has not answered");
    bench.guard = true;
    bench.obey(None);
    assert_eq!(bench.take_done(), ["Start web_address", "Start httpd"]);
    assert!(bench.reported(GroupState::Online));
    assert_eq!(bench.answer(7), Some(&Ok("web is online".into())));
}

#[test]
fn what_the_guard_refuses_is_not_started_and_asked_for_again() {
    let mut bench = taking_over();
    bench.guard = false;
    bench.ask(7, Verb::Acquire);
    bench.obey(Some("it is in another epoch"));
    bench.obey(None);
    assert_eq!(bench.take_done(), [""; 0]);
    bench.guard = true;
    bench.pass(100);
    assert_eq!(bench.take_done(), ["Start web_address", "Start httpd"]);
    assert_eq!(bench.answer(7), Some(&Ok("web is online".into())));
}

/// Seed 2679 of the simulation: the disk of a guard refused its journal, and its node was asked for web until the
/// time of the command was over, though another one could have had it.
#[test]
fn what_the_guard_goes_on_refusing_another_node_can_have() {
    let mut bench = taking_over();
    bench.guard = false;
    bench.ask(7, Verb::Acquire);
    for _ in 0..40 {
        bench.obey(Some("it cannot be written"));
        bench.obey(None);
        bench.pass(100);
    }
    let started = bench.take_done().iter().any(|done| done.starts_with("Start"));
    assert!(!started, "nothing is started that the guard does not hold");
    let why = "web could not be acquired: it cannot be written";
    assert_eq!(bench.answer(7), Some(&Err(Stop::clean(why))));
    let gave_up = |it: &GroupCommand| matches!(it, GroupCommand::Released { avoid: true, .. });
    assert!(bench.reports.iter().any(gave_up), "{:?}", bench.reports);
}

#[test]
fn a_guard_that_does_not_answer_has_refused() {
    let mut bench = taking_over();
    bench.guard = false;
    bench.ask(7, Verb::Acquire);
    bench.pass(2_999);
    assert_eq!(bench.lines, [""; 0]);
    bench.pass(1);
    assert_eq!(bench.lines, ["web: waits: its guard did not answer within 3 s"]);
    assert_eq!(bench.take_done(), [""; 0]);
}

/// Seed 32 of the simulation: the leave was of one epoch, another order was in the way, and when its turn came the guard
/// was in the next one, with a lease and nothing held. It would have taken what another node had by then.
#[test]
fn what_was_given_in_one_epoch_is_not_held_in_the_next() {
    let mut bench = taking_over();
    bench.guard = false;
    bench.orders.clear();
    bench.give(Input::Tell);
    bench.ask(7, Verb::Acquire);
    assert_eq!(bench.orders.len(), 1, "one at a time");
    bench.epoch += 1;
    bench.give(Input::ReleasedAll { epoch: bench.epoch, left: false });
    bench.obey(Some("it is of an earlier epoch"));
    bench.guard = true;
    bench.obey(None);
    assert_eq!(bench.take_done(), [""; 0]);
    let waits = "web: waits: its guard has let go of everything meanwhile".to_owned();
    assert!(bench.lines.contains(&waits), "{:?}", bench.lines);
    assert_eq!(bench.executor.desk().token_held("web"), None);
}

/// The leave of the cluster is waited for as long as an event may bring it, and told.
#[test]
fn a_group_waits_for_its_turn_and_for_nothing_else() {
    let mut fixture = Fixture::failing_over();
    let web = fixture.state.groups.get_mut("web").expect("there is web");
    let instance = web.instances.remove(&N2).expect("it comes to n2");
    let mut bench = Bench::new(N2, fixture.state);
    bench.ask(7, Verb::Acquire);
    assert_eq!(bench.lines, ["web: waits: the cluster has not given it to this node yet"]);
    bench.see();
    assert_eq!(bench.lines.len(), 1, "once");
    bench.state.groups.get_mut("web").expect("it").instances.insert(N2, instance);
    bench.see();
    assert_eq!(bench.take_done(), ["Start web_address", "Start httpd"]);

    let mut bench = Bench::new(N2, Fixture::with_groups().state);
    bench.ask(8, Verb::Acquire);
    let Some(Err(stop)) = bench.answer(8) else { panic!("it is not for n2") };
    assert_eq!(stop.exit, 2, "{}", stop.what);
}

/// Seed 14278 of the simulation: nothing proved that n1 had let go of db, so n2 went on without it; another group of the
/// event did not start, and n1 let go meanwhile. Db was given to n2, and nobody began with it as long as that took.
#[test]
fn what_comes_late_in_its_event_is_started_as_well() {
    let mut fixture = Fixture::failing_over();
    let web = fixture.state.groups.get_mut("web").expect("there is web");
    let instance = web.instances.remove(&N2).expect("it comes to n2");
    let kept = Instance { state: GroupState::Unmanaged, ..instance.clone() };
    web.instances.insert(N1, kept);
    let mut bench = Bench::new(N2, fixture.state);
    bench.ask(7, Verb::Acquire);
    let Some(Err(stop)) = bench.answer(7) else { panic!("n1 keeps it: {:?}", bench.lines) };
    assert_eq!(*stop, Stop::clean("n1 keeps web: it was left running there"));
    bench.see();
    assert_eq!(bench.take_done(), [""; 0], "it is not here");
    let web = bench.state.groups.get_mut("web").expect("it");
    web.instances = [(N2, instance)].into();
    bench.see();
    assert_eq!(bench.take_done(), ["Start web_address", "Start httpd"]);
    assert!(bench.reported(GroupState::Online));
    bench.see();
    assert_eq!(bench.take_done(), [""; 0], "once");

    // What was never asked for in this event is the script's to ask for.
    let mut bench = taking_over();
    bench.see();
    assert_eq!(bench.take_done(), [""; 0]);
}

/// An address that has to move is asked to once; who waited for a leave meanwhile has seen to it.
#[test]
fn what_is_asked_while_a_leave_is_waited_for_is_done() {
    let mut fixture = Fixture::failing_over();
    fixture.state.groups.get_mut("web").expect("there is web").instances.clear();
    let mut bench = Bench::new(N2, fixture.state);
    bench.ask(7, Verb::Acquire);
    assert!(bench.executor.desk().begins_to_settle("web"));
    bench.give(Input::Ask { ask: 0, group: "web".into(), op: Op::Settle });
    assert!(bench.executor.desk().begins_to_settle("web"), "it can be asked again");
    assert_eq!(bench.answer(7), None, "the leave is waited for all the same");
}

#[test]
fn who_hangs_up_waits_no_longer() {
    let mut fixture = Fixture::failing_over();
    fixture.state.groups.get_mut("web").expect("there is web").instances.clear();
    let mut bench = Bench::new(N2, fixture.state);
    bench.ask(7, Verb::Acquire);
    bench.give(Input::Forgotten { ask: 7 });
    let hung_up = Stop::failed("nobody waits for it any more");
    assert_eq!(bench.answer(7), Some(&Err(hung_up)));
}

/// H21: the end of the lease interrupts a start, and takes back what was begun.
#[test]
fn a_lease_that_ends_interrupts_a_start() {
    let mut bench = taking_over();
    bench.slow.insert(Action::Start);
    bench.ask(7, Verb::Acquire);
    assert_eq!(bench.under_way.len(), 1);
    bench.lose();
    assert_eq!(bench.cancelled, 1);
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.answer(7), None, "another leave is waited for");
    assert_eq!(bench.executor.desk().held().len(), 0);
}

/// Between two steps the lease is looked at, whether anybody has said that it is over or not.
#[test]
fn no_step_is_taken_without_a_lease() {
    let mut bench = taking_over();
    bench.slow.insert(Action::Start);
    bench.ask(7, Verb::Acquire);
    bench.lease = false;
    bench.finish();
    assert!(!bench.done.contains(&"Start httpd".to_owned()), "{:?}", bench.done);
    assert_eq!(bench.under_way, []);
}

/// R1: what cannot be started is stopped again, and another node gets it.
#[test]
fn what_cannot_be_started_is_left_clean() {
    let mut bench = taking_over();
    bench.failing.insert(("httpd", Action::Start));
    bench.ask(7, Verb::Acquire);
    let all = ["Start web_address", "Start httpd fails", "Stop httpd", "Stop web_address"];
    assert_eq!(bench.take_done(), all);
    assert_eq!(bench.released(), [("httpd cannot be started: exit status 1", true)]);
    let Some(Err(stop)) = bench.answer(7) else { panic!("it is not online") };
    assert_eq!(stop.exit, 0, "the event goes on");
}

/// R1: released only when seen to be released; what cannot be stopped keeps what it stands on.
#[test]
fn a_stop_that_fails_is_no_release() {
    let mut bench = owner();
    bench.failing.insert(("httpd", Action::Stop));
    bench.ask(7, Verb::Release);
    assert_eq!(bench.take_done(), ["Stop httpd fails"]);
    assert!(bench.reported(GroupState::Error));
    assert_eq!(bench.released(), []);
    let Some(Err(stop)) = bench.answer(7) else { panic!("it is not released") };
    assert_eq!(stop.exit, 2);
    assert!(bench.covered().contains(&"web"), "its guard goes on holding it");
}

#[test]
fn a_group_is_released_in_reverse_and_told_last() {
    let mut bench = owner();
    bench.ask(7, Verb::Release);
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.released(), [("as planned", false)]);
    assert_eq!(bench.covered(), ["batch"]);
    assert_eq!(bench.answer(7), Some(&Ok("web is released".into())));
    bench.ask(8, Verb::Release);
    assert_eq!(bench.answer(8), Some(&Ok("nothing of web is on this node".into())));
}

/// A guard that is stopped is waited for once, and not by each group that is released.
#[test]
fn a_silent_guard_is_not_waited_for_by_each_group() {
    let mut bench = owner();
    bench.guard = false;
    for group in ["web", "batch"] {
        let op = Op::Perform(Verb::Release);
        bench.give(Input::Ask { ask: 7, group: group.into(), op });
    }
    assert_eq!(bench.released(), [], "the first one waits for its answer");
    bench.pass(3_000);
    assert_eq!(bench.released(), [("as planned", false), ("as planned", false)]);
    // When it goes on it is told what is left.
    bench.guard = true;
    bench.obey(None);
    bench.state.groups.values_mut().for_each(|group| group.instances.clear());
    bench.see();
    assert_eq!(bench.covered(), [""; 0]);
}

/// R7: what cannot be stopped at the end of a lease is named, tried again, and holds up nobody meanwhile.
#[test]
fn what_does_not_go_is_named_and_tried_again() {
    let mut bench = owner();
    bench.failing.insert(("httpd", Action::Stop));
    bench.lose();
    assert_eq!(bench.take_done(), ["Stop httpd fails"]);
    let now = bench.now;
    let facts = bench.executor.desk().presentable(now).expect("something can be said");
    let stuck = "httpd cannot be stopped: exit status 1".to_owned();
    assert_eq!(facts.unreleased.groups, BTreeMap::from([("web".to_owned(), stuck)]));
    bench.ask(7, Verb::Status);
    assert!(bench.answer(7).is_some(), "whoever asks is answered");
    bench.failing.clear();
    bench.pass(2_999);
    assert_eq!(bench.take_done(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.released(), [("its lease was over", false), ("its lease was over", false)]);
    assert!(bench.executor.desk().stuck().groups.is_empty());
}

/// R7: a start program hangs, and an operator wants the group off, or the node stopped: the program is ended, in its event
/// or in place.
#[test]
fn a_start_of_what_shall_be_off_is_ended() {
    for stops in [false, true] {
        let mut bench = taking_over();
        bench.slow.insert(Action::Start);
        bench.ask(1, Verb::Acquire);
        let member = bench.state.manager.members.get_mut(&N2).expect("a manager");
        member.stopped = stops.then_some(StopMode::Takeover);
        bench.state.groups.get_mut("web").expect("there is web").wanted_offline = !stops;
        bench.see();
        assert_eq!(bench.cancelled, 1);
        let why = if stops { "this node is being stopped" } else { "it shall be off" };
        assert_eq!(bench.released(), [(why, false)]);
        let said = bench.answer(1).expect("an answer").as_ref().expect_err("it is not online");
        assert_eq!(said.exit, 0, "its script has nothing to answer for");
    }

    let mut bench = owner();
    bench.slow.insert(Action::Start);
    bench.failing.insert(("httpd", Action::Monitor));
    bench.pass(10_000);
    assert_eq!(bench.under_way.len(), 1, "its restart hangs");
    bench.state.groups.get_mut("web").expect("there is web").wanted_offline = true;
    bench.see();
    assert_eq!(bench.cancelled, 1);
    bench.take_done();
    bench.ask(2, Verb::Release);
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert!(bench.answer(2).is_some_and(Result::is_ok));
}

/// R7: a start program hangs, and an operator ends its event: the program is ended, and what it began is stopped.
#[test]
fn a_start_that_nobody_waits_for_any_more_is_ended() {
    let mut bench = taking_over();
    bench.slow.insert(Action::Start);
    bench.ask(1, Verb::Acquire);
    assert_eq!(bench.under_way.len(), 1, "it hangs");
    bench.state.manager.current = None;
    bench.see();
    assert_eq!(bench.cancelled, 1);
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.released(), [("its event is over", false)]);
    let said = bench.answer(1).expect("an answer").as_ref().expect_err("it is not online");
    assert_eq!(said.exit, 0, "its script has nothing to answer for");
}

/// Seeds 3502 and 7272 of the simulation: a node still stopped what it had of a group when it was given it again, came
/// too late for it, and never gave that back.
#[test]
fn what_is_given_back_waits_for_what_is_still_being_stopped() {
    let mut bench = owner();
    bench.failing.insert(("httpd", Action::Stop));
    bench.lose();
    let since = bench.state.changed_at;
    *bench.web() = Instance {
        state: GroupState::Releasing,
        token: 99,
        since,
        resources: BTreeMap::new(),
        uncovered: None,
    };
    bench.lease = true;
    bench.see();
    bench.give(Input::Ask { ask: 0, group: "web".into(), op: Op::CleanUp { token: 99 } });
    let gives_back = |bench: &Bench| {
        let of = |it: &GroupCommand| matches!(it, GroupCommand::Released { token: 99, .. });
        bench.reports.iter().any(of)
    };
    assert!(!gives_back(&bench), "something of it still runs");
    bench.failing.clear();
    bench.pass(3_000);
    assert!(gives_back(&bench));
}

/// A node that still stops something says nothing of its guard for a moment, then that it goes on.
#[test]
fn nothing_is_presented_while_a_stop_may_be_over_in_a_moment() {
    let mut bench = owner();
    bench.slow.insert(Action::Stop);
    bench.lose();
    let presented = |bench: &Bench| bench.executor.desk().presentable(bench.now);
    assert_eq!(presented(&bench), None);
    bench.now = bench.now + Duration::from_secs(1);
    let facts = presented(&bench).expect("it takes longer than others wait");
    assert_eq!(facts.unreleased.groups["web"], "it is still being stopped");
}

/// R8: what maintenance leaves running is in no order, is not looked after, and is not let go of.
#[test]
fn what_is_left_running_is_left_running() {
    let mut bench = owner();
    bench.web().state = GroupState::Unmanaged;
    bench.see();
    assert_eq!(bench.covered(), ["batch"]);
    assert_eq!(bench.executor.desk().token_held("web"), None);
    bench.lose();
    assert_eq!(bench.take_done(), [""; 0]);
}

/// H25: a resource that fails is restarted with all that was started after it, and told once.
#[test]
fn a_resource_that_fails_is_restarted_in_place() {
    let mut bench = owner();
    bench.state.definition.groups[0].resources[0].restarts = 1;
    bench.failing.insert(("web_address", Action::Monitor));
    bench.see();
    bench.pass(1_000);
    let restart = ["Stop httpd", "Stop web_address", "Start web_address", "Start httpd"];
    let done = bench.take_done();
    let did = |step: &&str| done.iter().any(|it| it == *step);
    assert!(restart.iter().all(did), "{done:?}");
    let failed = bench.reports.iter().filter(|it| matches!(it, GroupCommand::Failed { .. }));
    let failed: Vec<&GroupCommand> = failed.collect();
    assert!(matches!(failed[..], [GroupCommand::Failed { restarted: true, .. }]), "{failed:?}");
}

/// What is announced or asked meanwhile begins no look anew, or nobody would ever look.
#[test]
fn a_flapping_neighbour_hides_no_failure() {
    let mut bench = owner();
    bench.failing.insert(("httpd", Action::Monitor));
    for ask in 1..=3 {
        bench.pass(400);
        bench.give(Input::Ask { ask: 0, group: "web".into(), op: Op::Announce });
        bench.ask(ask, Verb::Status);
    }
    let failed = |it: &GroupCommand| matches!(it, GroupCommand::Failed { .. });
    assert!(bench.reports.iter().any(failed), "{:?}", bench.reports);
}

/// Times of a new version hold for what runs already.
#[test]
fn a_changed_interval_holds_at_once() {
    let mut bench = owner();
    bench.state.definition.groups[0].resources[1].monitor_interval_ms = 6_000;
    bench.failing.insert(("httpd", Action::Monitor));
    bench.see();
    bench.pass(5_900);
    let failed = |it: &GroupCommand| matches!(it, GroupCommand::Failed { .. });
    assert!(!bench.reports.iter().any(failed));
    bench.pass(100);
    assert!(bench.reports.iter().any(failed));
}

/// In maintenance it is told, and nothing is done about it.
#[test]
fn in_maintenance_a_failure_is_told_and_left() {
    let mut bench = owner();
    bench.failing.insert(("httpd", Action::Monitor));
    bench.state.manager.maintenance = true;
    bench.see();
    bench.pass(3_000);
    assert_eq!(bench.take_done(), [""; 0]);
    let told = |it: &&GroupCommand| matches!(it, GroupCommand::Progress { resources, .. } if resources.iter().any(|(name, state, _)| name == "httpd" && *state == ResourceState::Failed));
    assert_eq!(bench.reports.iter().filter(told).count(), 1);
}

/// What the cluster has taken off this node goes, whoever has it now.
#[test]
fn what_is_not_this_nodes_any_more_is_let_go_of() {
    let mut bench = owner();
    bench.state.groups.get_mut("web").expect("there is web").instances.clear();
    bench.see();
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.covered(), ["batch"]);
}

/// A process that ends lets go of all that the lease covers, once the guard knows what it does not.
#[test]
fn a_process_that_ends_lets_go_of_everything() {
    let mut bench = owner();
    bench.guard = false;
    bench.give(Input::End);
    assert!(!bench.executor.desk().is_ending(), "the guard has not answered");
    bench.guard = true;
    bench.obey(None);
    assert!(bench.executor.desk().is_ending());
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert!(bench.executor.desk().ends_with_the_lease().is_empty());
}

/// An agent that was restarted finds what a lease ended while it was away, and stops what may be left of it.
#[test]
fn what_ended_while_no_agent_was_there_is_stopped() {
    let mut bench = Bench::unheard(N1, Fixture::with_groups().state);
    bench.epoch += 1;
    bench.hear();
    assert_eq!(bench.take_done(), ["Stop httpd", "Stop web_address"]);
    assert_eq!(bench.released().len(), 2);
}

/// Whoever drives it may be a thread of its own.
#[test]
fn an_executor_can_be_handed_over() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&taking_over().executor);
}
