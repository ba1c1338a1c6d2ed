//! What the view, the clocks and the disk say of this node, as conditions.
//!
//! Each condition is a pure function of what is seen; times that must pass before one counts are fields
//! here, so that a cluster that starts, or a master agent that is restarted, makes no noise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use vedette_collector::history::{Health, Stalled};
use vedette_core::id::NodeNumber;
use vedette_core::local::{Condition, Happened, Input};
use vedette_core::local_view::Local;
use vedette_core::model::{AgentStatus, Severity};
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::time::Instant;
use vedette_core::view::View;

use super::super::proposer::own_clock_us;
use super::{LocalLog, boot_time_us, own_condition};

/// How often clocks and disk are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A node that starts and finds no majority says so after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The guard may see the end of a lease so much later than the report of it was.
const SAME_END_US: u64 = 500_000;

/// A node that has had a quorum for less may still be bringing what waited into the log.
const SETTLES_US: u64 = 1_000_000;

/// How long a node with a quorum waits for a director before that is told.
const LEADERLESS: Duration = Duration::from_secs(2);
/// A master SNMP agent that is away for less is being restarted.
const SNMP_PATIENCE: Duration = Duration::from_secs(5);

/// A wall clock that moved by so much against the monotonic one was set.
const STEP_US: i64 = 100_000;

/// Room without which the log and the history cannot be written.
const ROOM: u64 = 8 << 20;

/// How the cause of a clock's condition ends while the clock is measured.
const MEASURED: &str = ", as beats measure it";

/// How it ends while it is not.
const NOT_MEASURED: &str = " when beats measured it last; it is not measured now";

/// Where this node writes.
pub(crate) struct Disk {
    pub(crate) state_dir: PathBuf,
}

/// What has to be remembered between two looks.
struct Memory {
    began_us: u64,
    /// It had a quorum in this run.
    had_quorum: bool,
    /// Since when it has one.
    quorate_us: Option<u64>,
    /// Ends of the lease up to this time are told, or were the business of the run before.
    told_us: u64,
    /// When it was seen to have none.
    noticed_us: Option<u64>,
    /// Wall clock minus monotonic clock.
    clock_us: i64,
    snmp_away_us: Option<u64>,
    /// Since when it has had a quorum and no director.
    undirected_us: Option<u64>,
    refused: u64,
}

/// Runs until the process ends.
pub(crate) async fn run(log: LocalLog, disk: Disk) {
    let mut views = log.0.publisher.views();
    let mut health = log.history().health();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut memory = Memory::after(log.0.past_us.load(Ordering::Relaxed), boot_time_us());
    log.see_history(&health.borrow_and_update().clone(), &mut memory);
    loop {
        let view = views.borrow_and_update().clone();
        log.see(&view, &mut memory);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = health.changed() => if changed.is_err() { return } else {
                let now = health.borrow_and_update().clone();
                log.see_history(&now, &mut memory);
            },
            _ = look.tick() => {
                log.see_clock(&mut memory);
                log.condition(Code::DiskFull, full(&disk));
                // Not in the call: whoever is called publishes, and would wait for this borrow.
                let now = views.borrow().clone();
                log.see(&now, &mut memory);
                if log.deadline() == Some(Duration::ZERO) {
                    log.pass_time();
                }
            }
        }
    }
}

impl Memory {
    /// That of a run that began at `began_us` and follows one that was last alive at `past_us`.
    fn after(past_us: u64, began_us: u64) -> Self {
        Self {
            began_us,
            had_quorum: false,
            quorate_us: None,
            told_us: past_us,
            noticed_us: None,
            clock_us: own_clock_us(),
            snmp_away_us: None,
            undirected_us: None,
            refused: 0,
        }
    }

    /// Since when a quorum was lost of which nobody here saw the loss, because the agent did not run: the guard
    /// saw the lease end at `ended_us`, and reported after it. A loss that is `known` is not told again, nor one
    /// that this run sees.
    fn missed(&mut self, quorate: bool, known: bool, ended_us: u64) -> Option<u64> {
        if !quorate && self.had_quorum {
            return None;
        }
        let seen = self.noticed_us.is_some_and(|at| ended_us <= at + SAME_END_US);
        let is_news = ended_us > self.told_us && !seen && !known;
        self.told_us = self.told_us.max(ended_us);
        is_news.then_some(ended_us)
    }
}

fn agree_again(peer: &str, own: &str) -> String {
    format!("the clocks of {peer} and {own} agree again")
}

/// Whether that node is known to be no member: a node that does not know the present state may not have
/// learnt of it yet.
fn deleted(peer: NodeNumber, local: &Local, state: &ClusterState) -> bool {
    local.knows() && !state.nodes.contains_key(&peer)
}

/// Why the file system of the state directory counts as full.
fn full(disk: &Disk) -> Option<String> {
    let place = disk.state_dir.display();
    let found = statvfs(&disk.state_dir).ok()?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    (free < ROOM).then(|| format!("{} MiB are left for {place}", free >> 20))
}

impl LocalLog {
    fn see(&self, view: &View, memory: &mut Memory) {
        let (local, state) = (&view.local, &view.state);
        memory.had_quorum |= local.lease && local.agent == AgentStatus::Running;
        let now_us = boot_time_us();
        let known = local.conditions.iter().any(|it| it.code == Code::QuorumLost);
        let ended_us = self.0.lease_ended_us.load(Ordering::Relaxed);
        // The guard tells the end at once, and its report of it comes after that.
        let knows = local.report.as_deref().is_some_and(|report| report.made_us >= ended_us);
        let missed = if knows { memory.missed(local.lease, known, ended_us) } else { None };
        // The run before had one, and died before it could tell that it was lost.
        memory.had_quorum |= missed.is_some();
        let lost = without_quorum(local, state, memory);
        if lost.is_some() {
            memory.noticed_us = Some(now_us);
        }
        if let Some(since_us) = missed {
            self.lost_unnoticed(Instant::from_micros(since_us));
        }
        self.condition(Code::QuorumLost, lost);
        self.condition(Code::NoDirector, without_director(local, state, memory, now_us));
        if local.report.is_none() {
            // What was the case in an earlier run is not over because nothing is seen yet.
            return;
        }
        let late = local.report.as_deref().is_some_and(|report| report.self_suspect);
        let why = "its guard was not run in time, so it doubts what it sees of others";
        self.condition(Code::NodeLate, late.then(|| why.into()));
        self.condition(Code::SnmpAway, snmp_away(local, memory));
        if local.log.behind.is_some() || caught_up(local) {
            self.condition(Code::LogBehind, local.log.behind.clone());
        }
        memory.quorate_us = if local.quorate { memory.quorate_us.or(Some(now_us)) } else { None };
        let settled = memory.quorate_us.is_some_and(|since| now_us - since >= SETTLES_US);
        self.see_log(local, state, settled);
        self.see_peers(local, state);
        self.see_round_trips(local, state);
        self.see_frames(local, state);
    }

    /// The quorum was lost and is back, and nobody was there to see it: the whole node stood still.
    fn lost_unnoticed(&self, since: Instant) {
        let (subject, name) = self.own();
        let cause = "its lease ended while its agent did not run".to_owned();
        let lost = vec![own_condition(Code::QuorumLost, subject, &name, cause)];
        self.step_at(since, Some(Input::Conditions(Code::QuorumLost, lost)));
    }

    /// The log stands still, or lost something, here or elsewhere.
    fn see_log(&self, local: &Local, state: &ClusterState, settled: bool) {
        // Without a quorum nothing can be committed: that is told already. Whoever has just got one may have
        // waited for it. Neither shows that a log which stood still goes on.
        if settled {
            let stalled = local.log.stalled_since.map(|since| {
                format!("something waits to be committed, and nothing was since {since}")
            });
            self.condition(Code::LogStalled, stalled);
        }
        if !local.quorate {
            return;
        }
        let lost = local.log.lost.iter().map(|(node, (had, has))| {
            let cause = format!("it had acknowledged entry {had} and has {has}");
            own_condition(Code::LogLost, Subject::Node(*node), &state.node_name(*node), cause)
        });
        self.conditions(Code::LogLost, lost.collect());
    }

    /// Clocks of peers that are off, by what beats measure. A peer that is not measured agrees with nobody: what
    /// was found of its clock stands, through a restart of this agent too, for as long as it is a member.
    fn see_peers(&self, local: &Local, state: &ClusterState) {
        let mut standing = self.standing_of_members(Code::ClockOff, "clock was off", local, state);
        let peers = local.report.iter().flat_map(|report| &report.peers);
        let measured: BTreeMap<NodeNumber, i64> = peers
            .filter(|peer| !deleted(peer.peer, local, state))
            .filter_map(|peer| Some((peer.peer, peer.clock_offset_us?)))
            .collect();
        let seen: BTreeSet<NodeNumber> = measured.keys().chain(standing.keys()).copied().collect();
        let off = seen.into_iter().filter_map(|peer| {
            let (offset_us, before) = (measured.get(&peer).copied(), standing.remove(&peer));
            let off = vedette_core::clock::is_off(offset_us, before.is_some());
            match (offset_us, before) {
                (Some(offset_us), _) => off.then(|| self.clock_off(state, peer, offset_us)),
                (None, before) => before.map(|before| self.clock_unseen(before)),
            }
        });
        self.conditions(Code::ClockOff, off.collect());
    }

    /// Conditions of that code about peers that are still members. What was found of a node that was deleted since is of no
    /// interest, and its end says so: whose `what`, such as its clock that was off.
    pub(super) fn standing_of_members(
        &self,
        code: Code,
        what: &str,
        local: &Local,
        state: &ClusterState,
    ) -> BTreeMap<NodeNumber, Condition> {
        let of_peer = |it: Condition| match it.subject {
            Subject::Node(peer) => Some((peer, it)),
            _ => None,
        };
        let mut standing: BTreeMap<NodeNumber, Condition> =
            self.standing(code).into_iter().filter_map(of_peer).collect();
        let gone = |peer: &NodeNumber| deleted(*peer, local, state);
        if !standing.keys().any(gone) {
            return standing;
        }
        for (_, condition) in standing.iter_mut().filter(|(peer, _)| gone(peer)) {
            let name = &condition.subject_name;
            condition.cleared = format!("{name}, whose {what}, is no member any more");
        }
        self.conditions(code, standing.values().cloned().collect());
        standing.retain(|peer, _| !gone(peer));
        self.conditions(code, standing.values().cloned().collect());
        standing
    }

    fn clock_off(&self, state: &ClusterState, peer: NodeNumber, offset_us: i64) -> Condition {
        let (own, name) = (&self.0.name, state.node_name(peer));
        let seconds = offset_us.abs() as f64 / 1e6;
        let side = if offset_us > 0 { "ahead of" } else { "behind" };
        let cause = format!("{seconds:.1} s {side} that of {own}{MEASURED}");
        let condition = own_condition(Code::ClockOff, Subject::Node(peer), &name, cause);
        Condition {
            raised: format!("the clock of {name} differs from that of {own}"),
            cleared: agree_again(&name, own),
            ..condition
        }
    }

    /// A condition whose clock is not measured now: its cause is of the past, and says so.
    fn clock_unseen(&self, before: Condition) -> Condition {
        let cause = match before.cause.strip_suffix(MEASURED) {
            Some(found) => format!("{found}{NOT_MEASURED}"),
            None => before.cause,
        };
        Condition { cause, cleared: agree_again(&before.subject_name, &self.0.name), ..before }
    }

    fn see_clock(&self, memory: &mut Memory) {
        let now = own_clock_us();
        let moved = now.saturating_sub(memory.clock_us);
        memory.clock_us = now;
        if moved.abs() < STEP_US {
            return;
        }
        let (subject, name) = self.own();
        let way = if moved > 0 { "forward" } else { "back" };
        self.happened(Happened {
            code: Code::ClockStepped,
            subject,
            message: format!(
                "the clock of {name} was set {way} by {:.1} s",
                moved.abs() as f64 / 1e6
            ),
            subject_name: name,
            cause: "its wall clock moved against its monotonic one".into(),
            severity: Severity::Warning,
            duration_ms: None,
            alert: moved.abs() >= 10 * STEP_US,
        });
    }

    fn see_history(&self, now: &Health, memory: &mut Memory) {
        let waits = |it: &Stalled| format!("{}; {} records wait", it.why, it.waiting);
        self.condition(Code::HistoryStalled, now.stalled.as_ref().map(waits));
        self.refused(memory, now.refused);
    }

    /// The history had no room for records: they are fetched from the others later.
    fn refused(&self, memory: &mut Memory, refused: u64) {
        let more = refused.saturating_sub(memory.refused);
        memory.refused = refused;
        if more == 0 {
            return;
        }
        let (subject, name) = self.own();
        self.happened(Happened {
            code: Code::Dropped,
            subject,
            message: format!("{name} had no room for {more} records of the history"),
            subject_name: name,
            cause: "its disk takes none; they are fetched from the other nodes afterwards".into(),
            severity: Severity::Warning,
            duration_ms: None,
            alert: false,
        });
    }
}

/// Why this node counts as one that lost its quorum: it had one, or has waited for one for long.
fn without_quorum(local: &Local, state: &ClusterState, memory: &Memory) -> Option<String> {
    let waited = boot_time_us().saturating_sub(memory.began_us) >= PATIENCE.as_micros() as u64;
    let told = local.conditions.iter().any(|it| it.code == Code::QuorumLost);
    let member = state.nodes.contains_key(&local.node);
    if local.lease || !member || !(memory.had_quorum || waited || told) {
        return None;
    }
    let waits = match local.waiting_for.as_str() {
        "" => String::new(),
        what => format!("it waits for {what}; "),
    };
    Some(format!("{waits}{}", silent(local, state)))
}

/// Why this node counts as one that has no director, though it has a quorum: it has waited for one for longer
/// than an election takes, even on a busy machine.
fn without_director(
    local: &Local,
    state: &ClusterState,
    memory: &mut Memory,
    now_us: u64,
) -> Option<String> {
    let member = state.nodes.contains_key(&local.node);
    if local.quorate || !local.lease || !member {
        memory.undirected_us = None;
        return None;
    }
    let since = *memory.undirected_us.get_or_insert(now_us);
    let told = local.conditions.iter().any(|it| it.code == Code::NoDirector);
    let patience = LEADERLESS.max(state.settings.timing.detect()).as_micros() as u64;
    (told || now_us.saturating_sub(since) >= patience)
        .then(|| "what runs goes on; nothing can be moved or taken over".into())
}

/// Who is silent for this node. Without a length of time: a cause that changes is told again and again.
fn silent(local: &Local, state: &ClusterState) -> String {
    let Some(report) = local.report.as_deref() else { return "its guard says nothing".into() };
    // A lease ends before the detection time: who has missed two beats by then is why.
    let patience = state.settings.timing.interval() * 5 / 2;
    let heard = |peer: NodeNumber| {
        let mut links = report.links.iter().filter(|link| link.peer == peer && link.inbound);
        links.any(|link| link.silent.is_some_and(|silent| silent < patience))
    };
    let silent: Vec<String> = report
        .peers
        .iter()
        .filter(|peer| !heard(peer.peer))
        .map(|peer| state.node_name(peer.peer))
        .collect();
    match silent.as_slice() {
        [] => "every peer is heard".into(),
        [one] => format!("{one} is silent"),
        several => format!("{} are silent", several.join(", ")),
    }
}

/// Whether the log of this node is seen to be as far as that of any peer that is heard.
fn caught_up(local: &Local) -> bool {
    let peers = local.report.as_deref().into_iter().flat_map(|report| &report.peers);
    let furthest = peers.map(|peer| peer.position).max().unwrap_or(0);
    furthest > 0 && local.log.applied >= furthest
}

fn snmp_away(local: &Local, memory: &mut Memory) -> Option<String> {
    let now = boot_time_us();
    if local.agentx != Some(false) {
        memory.snmp_away_us = None;
        return None;
    }
    let since = *memory.snmp_away_us.get_or_insert(now);
    let patience = SNMP_PATIENCE.as_micros() as u64;
    // What an earlier run told is not over because this one has not waited yet.
    let told = local.conditions.iter().any(|it| it.code == Code::SnmpAway);
    (told || now.saturating_sub(since) >= patience)
        .then(|| "its subagent is not registered: SNMP managers see nothing of it".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vedette_core::fixture::Fixture;
    use vedette_core::local::Phase;
    use vedette_core::observation::Report;

    use super::super::testing::{N1, Node};
    use super::*;

    const N3: NodeNumber = NodeNumber(3);
    const HOUR: Option<i64> = Some(3_600_000_000);
    const AGREE: Option<i64> = Some(-400);

    /// What n1 knows while its guard measures that of the clock of n3, and of n2 that it agrees.
    fn local(offset_us: Option<i64>) -> Local {
        let mut local = Fixture::settled(3).view(N1).local;
        let mut report = Report::clone(local.report.as_deref().expect("a report"));
        let n3 = report.peers.iter_mut().find(|peer| peer.peer == N3);
        n3.expect("n3 is a peer").clock_offset_us = offset_us;
        local.report = Some(Arc::new(report));
        local
    }

    /// A node that found the clock of n3 an hour ahead.
    fn with_a_clock_off() -> Node {
        let node = Node::new();
        node.log.see_peers(&local(HOUR), &node.state);
        let cause = "3600.0 s ahead of that of n1, as beats measure it".to_owned();
        assert_eq!(node.conditions(), [(Code::ClockOff, cause)]);
        node
    }

    /// All that the journal may hold once the clocks agree, whatever happened between.
    fn once() -> Vec<(Phase, String)> {
        vec![
            (Phase::Raised, "the clock of n3 differs from that of n1".into()),
            (Phase::Cleared, "the clocks of n3 and n1 agree again".into()),
        ]
    }

    /// An agent that starts has not heard yet how far the others are; that is no catching up.
    #[test]
    fn a_log_that_is_behind_is_so_until_it_is_seen_to_be_as_far_as_the_others() {
        let mut now = local(AGREE);
        let furthest = |now: &Local| now.report.as_ref().map(|it| it.peers[0].position);
        let goal = furthest(&now).expect("n2 is heard");
        assert!(goal > 1, "it says how far it is");
        now.log.applied = goal - 1;
        assert!(!caught_up(&now));
        now.log.applied = goal;
        assert!(caught_up(&now));
        let mut report = Report::clone(now.report.as_deref().expect("a report"));
        report.peers.iter_mut().for_each(|peer| peer.position = 0);
        now.report = Some(Arc::new(report));
        assert!(!caught_up(&now), "nobody said how far they are");
    }

    /// A peer that dies or is cut off is measured no more; that is no agreement.
    #[test]
    fn a_clock_that_is_not_measured_is_as_it_was() {
        let node = with_a_clock_off();
        node.log.see_peers(&local(None), &node.state);
        let cause =
            "3600.0 s ahead of that of n1 when beats measured it last; it is not measured now";
        assert_eq!(node.conditions(), [(Code::ClockOff, cause.to_owned())]);
        node.log.see_peers(&local(HOUR), &node.state);
        let cause = "3600.0 s ahead of that of n1, as beats measure it".to_owned();
        assert_eq!(node.conditions(), [(Code::ClockOff, cause)], "it is back");
        assert_eq!(node.told(), once()[..1], "once, and not again");
        node.log.see_peers(&local(AGREE), &node.state);
        assert_eq!((node.conditions(), node.told()), (vec![], once()));
    }

    /// A log that stood still when the quorum was lost did not go on by that.
    #[test]
    fn a_log_stands_still_until_it_is_seen_to_go_on() {
        let node = Node::new();
        let mut stalled = local(AGREE);
        stalled.log.stalled_since = Some(vedette_core::time::WallTime(0));
        node.log.see_log(&stalled, &node.state, true);
        let told = [(Phase::Raised, "n1 can commit nothing".to_owned())];
        assert_eq!(node.told(), told);
        let mut alone = local(None);
        alone.quorate = false;
        node.log.see_log(&alone, &node.state, false);
        assert_eq!(node.told(), told, "without a quorum that is not seen");
        node.log.see_log(&local(AGREE), &node.state, true);
        assert_eq!(node.told()[1..], [(Phase::Cleared, "n1 can commit again".to_owned())]);
    }

    /// The subagent of an agent that has just started is not connected, which is news only after a while.
    #[test]
    fn a_master_agent_that_was_away_is_not_back_because_the_agent_restarts() {
        let mut node = Node::new();
        node.log.condition(Code::SnmpAway, Some("its subagent is not registered".into()));
        node = node.restart();
        let mut starting = local(AGREE);
        starting.agentx = Some(false);
        assert_eq!(snmp_away(&starting, &mut memory()), None, "nobody told it yet");
        starting.conditions = node.log.raised().into();
        assert!(snmp_away(&starting, &mut memory()).is_some(), "it was told, and is not over");
        starting.agentx = Some(true);
        assert_eq!(snmp_away(&starting, &mut memory()), None);
    }

    /// An agent that has just started has measured nothing, and may not know the members yet.
    #[test]
    fn a_clock_stays_off_through_a_restart_until_it_is_measured() {
        let node = with_a_clock_off().restart();
        let mut starting = local(None);
        (starting.quorate, starting.stage) = (false, "topology");
        node.log.see_peers(&starting, &ClusterState::default());
        node.log.see_peers(&local(None), &node.state);
        assert_eq!(node.told(), once()[..1]);
        assert_eq!(node.conditions().len(), 1);
        node.log.see_peers(&local(AGREE), &node.state);
        assert_eq!((node.conditions(), node.told()), (vec![], once()));
    }

    #[test]
    fn a_node_that_was_deleted_takes_its_clock_along() {
        let mut node = with_a_clock_off();
        node.state.nodes.remove(&N3);
        let mut alone = local(None);
        alone.quorate = false;
        node.log.see_peers(&alone, &node.state);
        assert_eq!(node.conditions().len(), 1, "a node alone does not know who is a member");
        // Its last beats may still be there.
        node.log.see_peers(&local(HOUR), &node.state);
        let gone = "n3, whose clock was off, is no member any more".to_owned();
        assert_eq!(node.conditions(), []);
        assert_eq!(node.told()[1..], [(Phase::Cleared, gone)]);
    }

    /// A memory of a run that began at 2 s, after one that was last alive at 1 s.
    fn memory() -> Memory {
        Memory::after(1_000_000, 2_000_000)
    }

    #[test]
    fn a_loss_that_nobody_saw_is_told_once_and_with_the_guards_time() {
        let mut memory = memory();
        assert_eq!(memory.missed(true, false, 0), None, "the lease never ended");
        assert_eq!(memory.missed(true, false, 900_000), None, "the run before saw that");
        assert_eq!(memory.missed(false, false, 1_300_000), Some(1_300_000), "back or not");
        assert_eq!(memory.missed(true, false, 1_300_000), None, "it is told");
        memory.had_quorum = true;
        assert_eq!(memory.missed(false, false, 9_000_000), None, "this run sees that one itself");
        assert_eq!(memory.missed(true, false, 9_000_000), Some(9_000_000), "unless it stood still");
    }

    /// A look between the word that the lease ended and the report that shows it.
    #[test]
    fn a_report_from_before_the_end_of_the_lease_says_nothing_of_it() {
        let node = Node::new();
        let mut view = Fixture::settled(3).view(N1);
        let made_us = view.local.report.as_ref().expect("a report").made_us;
        node.log.lease_ended(made_us + 1);
        let mut memory = memory();
        node.log.see(&view, &mut memory);
        assert_eq!(node.told(), [], "it still says that there is a lease");
        let mut report = Report::clone(view.local.report.as_deref().expect("a report"));
        (report.made_us, report.lease) = (made_us + 2, false);
        (view.local.lease, view.local.quorate) = (false, false);
        view.local.report = Some(Arc::new(report));
        node.log.see(&view, &mut memory);
        assert_eq!(node.told(), [(Phase::Raised, "n1 has no quorum".to_owned())]);
        let [(Code::QuorumLost, cause)] = &node.conditions()[..] else { panic!("one condition") };
        assert!(!cause.contains("its agent did not run"), "{cause}");
    }

    #[test]
    fn a_loss_that_was_seen_is_not_told_again() {
        let mut memory = memory();
        memory.noticed_us = Some(5_000_000);
        assert_eq!(memory.missed(true, false, 5_000_000 + SAME_END_US), None);
        assert_eq!(memory.missed(true, false, 7_000_000), Some(7_000_000), "another one");
        assert_eq!(memory.missed(true, true, 9_000_000), None, "an earlier run raised it");
        assert_eq!(memory.missed(true, false, 9_000_000), None);
    }
}
