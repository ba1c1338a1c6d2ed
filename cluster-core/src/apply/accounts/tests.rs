//! Accounts: each entry once, gaps told, times and incidents of their own.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::command::{Change, Command, GroupCommand, ManagerCommand, Proposal, Tick};
use crate::fixture::Fixture;
use crate::id::{CommandId, Hash, Session};
use crate::local::{Draft, Stamp};
use crate::model::HostStatus;
use crate::record::Record;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

fn local(number: u64, code: Code, phase: Phase, duration_ms: Option<u64>) -> LocalRecord {
    let subject = match code {
        Code::GroupReleased => Subject::Group(1),
        _ => Subject::Node(N2),
    };
    let content = Draft {
        code,
        phase,
        severity: Severity::Error,
        subject,
        subject_name: "n2".into(),
        message: format!("{} of n2", code.name()),
        cause: "n1 and n3 are silent".into(),
        duration_ms,
        times: 1,
        alert: true,
    };
    let stamp = Stamp {
        at: crate::fixture::FORMED,
        uptime_us: number * 1_000_000,
        boot: Hash::default(),
        session: Session(9),
    };
    LocalRecord::new(number, stamp, content, Hash::default())
}

fn account(journal: u64, entries: Vec<(LocalRecord, u64)>) -> Command {
    let entries = entries
        .into_iter()
        .map(|(record, age_ms)| AccountEntry { record, age_ms: Some(age_ms) })
        .collect();
    let begins_after = 0;
    Command::Account(Account {
        node: N2,
        journal,
        begins_after,
        entries,
        clock_offset_ms: Some(40),
        read: None,
    })
}

fn by(node: NodeNumber, journal: u64, begins_after: u64, entries: Vec<AccountEntry>) -> Command {
    let (clock_offset_ms, read) = (None, None);
    Command::Account(Account { node, journal, begins_after, entries, clock_offset_ms, read })
}

fn told(records: &[Record]) -> Vec<u64> {
    records.iter().filter_map(|record| record.told).map(|told| told.number).collect()
}

fn quiet(number: u64) -> (LocalRecord, u64) {
    (local(number, Code::NodeLate, Phase::Raised, None), 0)
}

/// An account that comes twice, or whose beginning is known, makes each record once.
#[test]
fn each_entry_becomes_one_record() {
    let mut fixture = Fixture::settled(3);
    let first = fixture.apply(account(7, vec![quiet(1), quiet(2)]));
    assert_eq!(told(&first.records), [1, 2]);
    let again = fixture.apply(account(7, vec![quiet(1), quiet(2), quiet(3)]));
    assert_eq!(told(&again.records), [3]);
    assert!(fixture.apply(account(7, vec![quiet(3)])).records.is_empty());
}

/// What a journal gave up is counted, and a journal that was lost begins anew.
#[test]
fn gaps_are_told() {
    let mut fixture = Fixture::settled(3);
    fixture.apply(account(7, vec![quiet(1)]));
    let records = fixture.apply(account(7, vec![quiet(41)])).records;
    assert_eq!(records[0].code, Code::AccountIncomplete);
    assert!(records[0].message.starts_with("39 local records of n2"), "{}", records[0].message);
    assert_eq!(told(&records), [41]);
    let records = fixture.apply(account(8, vec![quiet(1)])).records;
    assert_eq!(told(&records), [1]);
}

/// A journal that lost its end goes on under another id, with numbers that may have been used before:
/// they are entries of their own, and no gap.
#[test]
fn a_journal_that_lost_its_end_goes_on_as_another() {
    let mut fixture = Fixture::settled(3);
    fixture.apply(account(7, (1..=9).map(quiet).collect()));
    let entry = |number| AccountEntry { record: quiet(number).0, age_ms: Some(0) };
    let records = fixture.apply(by(N2, 8, 5, vec![entry(6), entry(7)])).records;
    assert_eq!((told(&records), records.len()), (vec![6, 7], 2));
    assert!(fixture.apply(by(N2, 8, 5, vec![entry(6), entry(7)])).records.is_empty());
}

/// A node that was deleted meanwhile accounts for nothing, and that leaves no trace.
#[test]
fn a_deleted_node_is_refused() {
    let mut fixture = Fixture::settled(3);
    fixture.node_down(N2, "silent");
    fixture.apply(Command::RemoveNode { node: N2 });
    let refusal = crate::apply::testing::refused(&mut fixture, account(7, vec![quiet(1)]));
    assert_eq!(refusal.code, "unknown_node");
}

/// A record that is told afterwards stands where it happened on the cluster's timeline, and says when
/// that was by its node's clock and how far that was off.
#[test]
fn it_is_told_with_its_own_time() {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let mut lost = local(1, Code::QuorumLost, Phase::Raised, None);
    let mut back = local(2, Code::QuorumRegained, Phase::Cleared, Some(15_000));
    // The second was written by a clock that was an hour ahead, and is set right since.
    let ago = |ms: i64| WallTime(fixture.clock.0 - ms * 1_000);
    (lost.stamp.at, back.stamp.at) = (ago(15_010 - 40), ago(10 - 3_600_000));
    let written = lost.stamp.at;
    let records = fixture.apply(account(7, vec![(lost, 15_010), (back, 10)])).records;
    let now = fixture.state.timeline.elapsed_ms();
    let times: Vec<u64> = records.iter().map(|record| now - record.elapsed_ms).collect();
    assert_eq!(times, [15_010, 10]);
    let told = records[0].told.expect("told afterwards");
    assert_eq!((told.happened_at, told.clock_offset_ms), (written, Some(40)));
    let told = records[1].told.expect("told afterwards");
    assert_eq!(told.clock_offset_ms.map(|ms| (ms + 500) / 1_000), Some(3_600));
    assert_eq!((records[0].node, records[0].alert), (Some(N2), false));
    assert!(records[0].incident.is_some() && records[0].incident == records[1].incident);
}

/// The state after an account that read the clock of the leader `read` and was appended when the leader `now`
/// was to be read: each a run and milliseconds.
fn appended(read: (u64, u64), now: (u64, u64)) -> (Fixture, crate::apply::Applied) {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let tick = |(run, ms): (u64, u64)| Tick { run: Session(run), us: ms * 1_000, ahead_us: None };
    let lost = AccountEntry {
        record: local(1, Code::QuorumLost, Phase::Raised, None),
        age_ms: Some(2_000),
    };
    let Command::Account(account) = by(N2, 7, 0, vec![lost]) else { unreachable!("an account") };
    let proposal = Proposal {
        id: CommandId([200; 16]),
        at: fixture.clock,
        origin: N2,
        actor: "agent".into(),
        command: Command::Account(Account { read: Some(tick(read)), ..account }),
        tick: Some(tick(now)),
    };
    let applied = fixture.state.apply(1_000, &proposal);
    let again = fixture.state.apply(1_001, &proposal);
    assert!(again.records.is_empty(), "a repeat is harmless: {:?}", again.records);
    (fixture, applied)
}

/// An account that was on its way for seconds does not move what it tells of.
#[test]
fn an_account_may_be_late() {
    for late_ms in [0, 3_270] {
        let (fixture, applied) = appended((5, 70_000), (5, 70_000 + late_ms));
        let ago_ms = fixture.state.timeline.elapsed_ms() - applied.records[0].elapsed_ms;
        assert_eq!(ago_ms, 2_000 + late_ms);
    }
}

/// A leader cannot tell how late an account is that read the clock of another one: it is given anew.
#[test]
fn an_account_for_another_leader_is_given_anew() {
    let (fixture, applied) = appended((5, 70_000), (6, 20));
    let crate::state::Outcome::Refused(refusal) = applied.outcome else { panic!("{applied:?}") };
    assert_eq!(
        (refusal.code.as_str(), fixture.state.nodes[&N2].accounted.number),
        ("other_clock", 0)
    );
}

/// A node that was started anew never says that its loss is over; what happens later is of no such loss.
#[test]
fn a_loss_without_an_end_is_over() {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let lost = local(1, Code::QuorumLost, Phase::Raised, None);
    let first = fixture.apply(account(7, vec![(lost, 2_000)])).records[0].incident;
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let again = local(2, Code::QuorumLost, Phase::Raised, None);
    let second = fixture.apply(account(7, vec![(again, 500)])).records[0].incident;
    assert!(first.is_some() && second > first, "{first:?}, {second:?}");
}

/// The director was without a quorum until it took office: nobody had one, and that is said.
#[test]
fn the_time_in_which_the_cluster_was_nobodys() {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    fixture.apply(Command::Office { director: N2, term: 9, continuity: true });
    let lost = local(1, Code::QuorumLost, Phase::Raised, None);
    let back = local(2, Code::QuorumRegained, Phase::Cleared, Some(15_000));
    let records = fixture.apply(account(7, vec![(lost, 15_010), (back, 10)])).records;
    let last = records.last().expect("records");
    assert_eq!((last.code, last.duration_ms), (Code::QuorumAbsent, Some(15_000)));
    assert_eq!(last.message, "nobody had a quorum of prod for 15.0 s");
    fixture.apply(Command::Office { director: N1, term: 10, continuity: true });
    let member = vec![(local(3, Code::QuorumRegained, Phase::Cleared, Some(9)), 0)];
    let records = fixture.apply(account(7, member)).records;
    assert!(records.iter().all(|record| record.code != Code::QuorumAbsent));
}

/// A cluster of three whose first node just took office, after a time in which all of it may have been away.
fn after_a_vacancy() -> Fixture {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    fixture.apply(Command::Office { director: N1, term: 9, continuity: false });
    fixture
}

/// What a node accounts for that lost its quorum so many milliseconds before this.
fn lost(number: u64, age_ms: u64) -> AccountEntry {
    let record = local(number, Code::QuorumLost, Phase::Raised, None);
    AccountEntry { record, age_ms: Some(age_ms) }
}

/// What a node accounts for that was last alive so many milliseconds before this, and has just started.
fn started(number: u64, alive_ms: u64) -> AccountEntry {
    let record = local(number, Code::NodeStarted, Phase::Happened, Some(alive_ms - 100));
    AccountEntry { record, age_ms: Some(100) }
}

/// The records of vacancies: how long each lasted, and its incident.
fn vacancies(fixture: &Fixture) -> Vec<(Option<u64>, Option<u64>)> {
    let absent = fixture.records.iter().filter(|record| record.code == Code::QuorumAbsent);
    absent.map(|record| (record.duration_ms, record.incident)).collect()
}

/// Two of three are killed, the third tells that it lost its quorum and is killed, all are brought back:
/// nobody regained anything, and all the same it is said from when to when the cluster was nobody's.
#[test]
fn a_vacancy_that_nobody_lived_through() {
    let mut fixture = after_a_vacancy();
    let first = fixture.apply(by(N1, 3, 0, vec![lost(1, 20_010), started(2, 15_000)])).records;
    fixture.apply(by(N2, 4, 0, vec![started(1, 21_000)]));
    assert_eq!(vacancies(&fixture), [], "n3 may have had a quorum with another");
    let third = by(N3, 5, 0, vec![started(1, 21_000)]);
    let records = fixture.apply(third.clone()).records;
    let absent = records.last().expect("records");
    assert_eq!(vacancies(&fixture), [(Some(20_000), first[0].incident)]);
    assert_eq!(absent.message, "nobody had a quorum of prod for 20.0 s");
    assert!(absent.cause.starts_with("n1 lost its quorum last"), "{}", absent.cause);
    let office = fixture.records.iter().rfind(|it| it.code == Code::DirectorElected);
    assert_eq!(
        Some(absent.elapsed_ms),
        office.map(|it| it.elapsed_ms),
        "until there was a director"
    );
    fixture.apply(third);
    fixture.apply(by(N1, 3, 0, vec![lost(3, 1)]));
    assert_eq!(vacancies(&fixture).len(), 1, "it is said once");
}

/// All are killed at the same time: it began when the last of them was last alive. Whoever stays away is
/// waited for until that is known.
#[test]
fn a_vacancy_of_which_nobody_was_told() {
    let mut fixture = after_a_vacancy();
    fixture.apply(by(N1, 3, 0, vec![started(1, 15_010)]));
    fixture.apply(by(N2, 4, 0, vec![started(1, 14_020)]));
    assert_eq!(vacancies(&fixture), []);
    fixture.node_down(N3, "silent");
    let told = vacancies(&fixture);
    assert_eq!((told.len(), told[0].0), (1, Some(14_000)));
    assert!(told[0].1.is_some(), "it is an incident of its own, if it is of no other");
    fixture.apply(by(N3, 5, 0, vec![started(1, 13_000)]));
    assert_eq!(vacancies(&fixture), told);
}

/// What the node lost of its journal may be the record that it was without a quorum for longer.
#[test]
fn a_vacancy_of_which_records_are_lost_lasted_at_least_so_long() {
    for (number, least) in [(1, false), (4, true)] {
        let mut fixture = after_a_vacancy();
        fixture.apply(by(N1, 3, 0, vec![started(number, 9_000)]));
        fixture.apply(by(N2, 4, 0, vec![started(1, 14_020)]));
        fixture.apply(by(N3, 5, 0, vec![started(1, 14_020)]));
        let absent = fixture.records.iter().find(|it| it.code == Code::QuorumAbsent);
        let message = &absent.expect("a record").message;
        assert_eq!(message.contains("for at least "), least, "{message}");
    }
}

/// A node that starts and waits for the others tells a loss of its own that began in the middle.
#[test]
fn a_loss_in_the_middle_of_a_vacancy_does_not_begin_it() {
    let mut fixture = after_a_vacancy();
    let back = local(3, Code::QuorumRegained, Phase::Cleared, Some(5_000));
    let back = AccountEntry { record: back, age_ms: Some(0) };
    fixture.apply(by(N1, 3, 0, vec![started(1, 30_010), lost(2, 5_000), back]));
    fixture.apply(by(N2, 4, 0, vec![started(1, 31_000)]));
    fixture.apply(by(N3, 5, 0, vec![started(1, 32_000)]));
    assert_eq!(vacancies(&fixture).iter().map(|it| it.0).collect::<Vec<_>>(), [Some(30_000)]);
}

/// A cluster that was shut down has lost nothing, and an ordinary change of director is no vacancy.
#[test]
fn what_is_no_vacancy() {
    let mut fixture = after_a_vacancy();
    for node in [N1, N2, N3] {
        let mut left = started(1, 15_000);
        left.record.content.severity = Severity::Notice;
        fixture.apply(by(node, 3, 0, vec![left]));
    }
    assert_eq!(vacancies(&fixture), [], "it was stopped");
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    fixture.node_down(N3, "silent");
    fixture.apply(Command::Office { director: N1, term: 9, continuity: true });
    fixture.apply(by(N3, 3, 0, vec![started(1, 5_000)]));
    assert_eq!(vacancies(&fixture), [], "n1 and n2 went on");
}

/// A director that had none until it took office says so at once; what others add changes nothing.
#[test]
fn a_vacancy_is_told_by_the_first_that_knows() {
    let mut fixture = after_a_vacancy();
    let back = local(2, Code::QuorumRegained, Phase::Cleared, Some(9_000));
    let back = AccountEntry { record: back, age_ms: Some(0) };
    fixture.apply(by(N1, 3, 0, vec![lost(1, 9_000), back]));
    assert_eq!(vacancies(&fixture).len(), 1);
    fixture.apply(by(N2, 4, 0, vec![lost(1, 9_100)]));
    fixture.apply(by(N3, 5, 0, vec![lost(1, 9_200)]));
    assert_eq!(vacancies(&fixture).len(), 1);
}

/// A director that was cut off alone, and leads only since it is back, was no cluster's loss.
#[test]
fn a_director_that_was_away_before_its_office() {
    let mut fixture = Fixture::settled(3);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    fixture.apply(Command::Office { director: N2, term: 9, continuity: true });
    let back = local(2, Code::QuorumRegained, Phase::Cleared, Some(9_000));
    let back = AccountEntry { record: back, age_ms: Some(8_000) };
    fixture.apply(by(N2, 3, 0, vec![lost(1, 17_000), back]));
    assert_eq!(vacancies(&fixture), []);
}

/// A release that nobody has noticed is not of the move before it, however short ago that was.
#[test]
fn a_release_is_not_of_an_earlier_outage() {
    let mut fixture = Fixture::with_groups();
    let (name, owner) = first_group(&fixture);
    let other = [N1, N2].into_iter().find(|node| *node != owner).expect("another node");
    fixture.group(GroupCommand::Move { group: name.clone(), to: Some(other), until: None });
    fixture.run_events();
    let moved = fixture.state.groups[&name].outage.expect("it moved");
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(5));
    let let_go = AccountEntry {
        record: local(1, Code::GroupReleased, Phase::Happened, Some(30)),
        age_ms: Some(100),
    };
    let records = fixture.apply(by(other, 3, 0, vec![let_go])).records;
    assert!(records[0].incident.is_some_and(|incident| incident > moved), "{records:#?}");
    let incident = records[0].incident;
    fixture.release(&name, other);
    assert_eq!(last_of_group(&fixture).incident, incident);
}

/// The group that its node let go of, and what follows from it, are one incident.
#[test]
fn a_release_joins_the_incident_of_its_group() {
    let mut fixture = Fixture::with_groups();
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let (name, owner) = first_group(&fixture);
    let lost = local(1, Code::QuorumLost, Phase::Raised, None);
    let let_go = local(2, Code::GroupReleased, Phase::Happened, Some(30));
    let entries = vec![(lost, 2_000), (let_go, 1_900)]
        .into_iter()
        .map(|(record, age_ms)| AccountEntry { record, age_ms: Some(age_ms) })
        .collect();
    let records = fixture.apply(by(owner, 3, 0, entries)).records;
    let incident = records[1].incident;
    assert!(incident.is_some());
    assert_eq!(records[0].incident, incident);
    fixture.release(&name, owner);
    assert_eq!(last_of_group(&fixture).incident, incident);
}

/// A node that was away for so short a time that nobody called it DOWN took its groups with it: its own
/// account begins the incident, and what a node that was left alone says later is of the same.
#[test]
fn an_absence_that_nobody_noticed_is_an_incident() {
    let mut fixture = Fixture::with_groups();
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    let (name, owner) = first_group(&fixture);
    let other = if owner == N2 { N1 } else { N2 };
    let one = |node, record, age_ms| {
        let entries = vec![AccountEntry { record, age_ms: Some(age_ms) }];
        by(node, 3, 0, entries)
    };
    let started = local(1, Code::NodeStarted, Phase::Happened, Some(2_000));
    let records = fixture.apply(one(owner, started, 100)).records;
    let incident = records[0].incident;
    assert_eq!(incident, Some(records[0].index), "it begins here, not with the move before");
    let lost = local(1, Code::QuorumLost, Phase::Raised, None);
    assert_eq!(fixture.apply(one(other, lost, 1_500)).records[0].incident, incident);
    fixture.release(&name, owner);
    assert_eq!(last_of_group(&fixture).incident, incident);
}

/// Two of three die with the director, and are back before anybody could call them DOWN: what is found gone,
/// whoever stays away and what is accounted for afterwards are one incident, in whatever order they come.
#[test]
fn what_befell_nodes_before_the_director_took_office_is_one_incident() {
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]];
    for order in orders {
        let mut fixture = Fixture::with_groups();
        let begun = fixture.records.len();
        fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(20));
        fixture.apply(Command::Office { director: N2, term: 9, continuity: true });
        for what in order {
            fixture.clock = fixture.clock.plus(std::time::Duration::from_millis(300));
            match what {
                0 => drop(fixture.apply(by(N2, 3, 0, vec![lost(1, 18_000)]))),
                1 => speaks_anew(&mut fixture, N1),
                2 => speaks_anew(&mut fixture, N2),
                _ => vanish(&mut fixture, N3, 18_500),
            }
        }
        fixture.apply(by(N1, 4, 0, vec![started(1, 18_600)]));
        fixture.run_events();
        let of = fixture.records[begun..].iter();
        let incidents: BTreeSet<u64> = of.clone().filter_map(|record| record.incident).collect();
        let told: Vec<_> = of.map(|it| (it.index, it.incident, it.message.clone())).collect();
        assert_eq!(incidents.len(), 1, "{order:?}: {told:#?}");
    }
}

/// All orders of things of which each node says its first before its second.
fn interleaved(done: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    if done.len() == 6 {
        return all.push(done.clone());
    }
    for what in 0..6 {
        let ready = what < 3 || done.contains(&(what - 3));
        if ready && !done.contains(&what) {
            done.push(what);
            interleaved(done, all);
            done.pop();
        }
    }
}

/// Two of three die, the third loses its quorum with them, and the two are back before anybody has called them DOWN:
/// what each lets go of, and accounts for, is one incident, in whatever order they come, whether another director
/// takes office or the last one goes on.
#[test]
fn who_is_back_before_being_missed_makes_one_incident() {
    let mut all = Vec::new();
    interleaved(&mut Vec::new(), &mut all);
    assert_eq!(all.len(), 90);
    let offices = [Some((N1, true)), Some((N2, true)), Some((N1, false)), None];
    for (office, released) in offices.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        for order in &all {
            let mut fixture = Fixture::with_groups();
            let begun = fixture.records.len();
            fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(20));
            if let Some((director, continuity)) = office {
                fixture.apply(Command::Office { director, term: 9, continuity });
            }
            for what in order {
                fixture.clock = fixture.clock.plus(std::time::Duration::from_millis(300));
                let now = local(2, Code::QuorumRegained, Phase::Cleared, Some(17_000));
                let back = AccountEntry { record: now, age_ms: Some(1_000) };
                match what {
                    0 if released => says_each_release(&mut fixture, N1),
                    0 => speaks_anew(&mut fixture, N1),
                    1 => speaks_anew(&mut fixture, N2),
                    2 => speaks_anew(&mut fixture, N3),
                    3 => drop(fixture.apply(by(N1, 3, 0, vec![lost(1, 18_000), back]))),
                    4 => drop(fixture.apply(by(N2, 4, 0, vec![started(1, 18_400)]))),
                    _ => drop(fixture.apply(by(N3, 5, 0, vec![started(1, 18_600)]))),
                }
            }
            fixture.run_events();
            let of = fixture.records[begun..].iter();
            let incidents: BTreeSet<u64> =
                of.clone().filter_map(|record| record.incident).collect();
            let of = of.filter(|it| it.incident.is_some());
            let told: Vec<String> =
                of.map(|it| format!("{} {:?} {}", it.index, it.incident, it.message)).collect();
            assert_eq!(incidents.len(), 1, "{office:?} {released} {order:?}: {told:#?}");
        }
    }
}

/// A node says of each group that it had that it let go of it by itself, and then that it has another epoch.
fn says_each_release(fixture: &mut Fixture, node: NodeNumber) {
    let names: Vec<String> = fixture.state.groups.keys().cloned().collect();
    for group in names {
        let Some(token) = fixture.token(&group, node) else { continue };
        let why = "its lease was over".to_owned();
        fixture.group(GroupCommand::Released { group, node, token, why, avoid: false });
    }
    speaks_anew(fixture, node);
}

/// A node says that it holds nothing it was given before.
fn speaks_anew(fixture: &mut Fixture, node: NodeNumber) {
    let member = &fixture.state.manager.members[&node];
    let (session, epoch) = (Session(member.session.0 + 1), member.epoch + 1);
    let (backing, log, watchdog, reaper) = (member.backing, member.log, None, None);
    let voters = member.voters;
    fixture.manage(ManagerCommand::Present {
        node,
        session,
        backing,
        watchdog,
        reaper,
        unreleased: Default::default(),
        epoch,
        voters,
        timing: None,
        log,
    });
}

/// The director stays in office while it has no quorum: the office began with an earlier failure, which the
/// loss has nothing to do with, whoever tells of it first.
#[test]
fn a_loss_within_an_office_is_an_incident_of_its_own() {
    let orders = [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [1, 2, 0, 3], [2, 0, 1, 3]];
    for order in orders.into_iter().chain([[3, 1, 0, 2], [3, 2, 1, 0], [1, 3, 2, 0], [2, 3, 0, 1]])
    {
        let mut fixture = Fixture::with_groups();
        fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(20));
        fixture.apply(Command::Office { director: N2, term: 9, continuity: true });
        vanish(&mut fixture, N3, 2_000);
        let earlier = fixture.state.nodes[&N3].incident;
        fixture.run_events();
        let to = HostStatus::Up;
        let cause = "heard again".to_owned();
        let change = Change::Host { node: N3, to, planned: false, cause, silent_ms: None };
        fixture.apply(Command::Observe { changes: vec![change] });
        fixture.run_events();
        for node in [N1, N2] {
            let late = AccountEntry { record: quiet(1).0, age_ms: Some(0) };
            fixture.apply_of(node, by(node, 3, 0, vec![late]));
        }
        fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(20));
        let begun = fixture.records.len();
        for what in order {
            fixture.clock = fixture.clock.plus(std::time::Duration::from_millis(200));
            match what {
                0 => drop(fixture.apply(by(N2, 3, 0, vec![lost(2, 8_000)]))),
                1 => speaks_anew(&mut fixture, N1),
                2 => vanish(&mut fixture, N3, 8_500),
                _ => lets_go(&mut fixture, N2),
            }
        }
        let of = fixture.records[begun..].iter();
        let incidents: BTreeSet<u64> = of.clone().filter_map(|record| record.incident).collect();
        let told: Vec<_> = of.map(|it| (it.index, it.incident, it.message.clone())).collect();
        assert_eq!(incidents.len(), 1, "{order:?}: {told:#?}");
        assert!(!incidents.contains(&earlier.expect("an incident")), "{order:?}: {told:#?}");
    }
}

/// A node says of each group that is in service there that it let go of it by itself.
fn lets_go(fixture: &mut Fixture, node: NodeNumber) {
    let has = |group: &Group| group.owner() == Some(node) && group.state() == GroupState::Online;
    let groups = fixture.state.groups.iter().filter(|(_, group)| has(group));
    let names: Vec<String> = groups.map(|(name, _)| name.clone()).collect();
    assert!(!names.is_empty());
    for group in names {
        let token = fixture.token(&group, node).expect("it has it");
        let why = "its lease was over".to_owned();
        fixture.group(GroupCommand::Released { group, node, token, why, avoid: false });
    }
}

/// A node is called DOWN that was silent for so long.
fn vanish(fixture: &mut Fixture, node: NodeNumber, silent_ms: u64) {
    let (to, cause, silent_ms) = (HostStatus::Down, "silent".to_owned(), Some(silent_ms));
    let change = Change::Host { node, to, planned: false, cause, silent_ms };
    fixture.apply(Command::Observe { changes: vec![change] });
}

/// A machine that was away so briefly that nobody missed it is UP since it has started again.
#[test]
fn a_node_that_nobody_missed_is_up_since_its_start() {
    let mut fixture = Fixture::with_groups();
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(60));
    fixture.apply(by(N2, 3, 0, vec![started(1, 9_000)]));
    let node = &fixture.state.nodes[&N2];
    assert_eq!(fixture.clock.0 - node.host_since.0, 100_000);
    assert!(node.interfaces.values().all(|it| it.since == node.host_since));
    assert!(fixture.state.nodes[&N1].host_since < node.host_since);
}

/// The first group, and the node that has it.
fn first_group(fixture: &Fixture) -> (String, NodeNumber) {
    let first = fixture.state.groups.iter().find(|(_, group)| group.number == 1);
    let (name, group) = first.expect("group 1");
    (name.clone(), group.owner().expect("an owner"))
}

fn last_of_group(fixture: &Fixture) -> &Record {
    let mut newest = fixture.records.iter().rev();
    let last = newest.find(|it| it.code == Code::Group && it.subject == Subject::Group(1));
    last.expect("a record of the group")
}

proptest! {
    /// Accounts in any order, repeated, cut short, from one journal after the other: each entry makes
    /// at most one record, numbers only grow within a journal, and the chain holds.
    #[test]
    fn any_accounts(sent in prop::collection::vec((1..3_u64, 1..9_u64, 0..6_u64), 1..40)) {
        let mut fixture = Fixture::settled(3);
        let begun = fixture.records.len();
        for (journal, first, more) in sent {
            let entries = (first..=first + more).map(quiet).collect();
            fixture.apply(account(journal, entries));
        }
        let mut head = fixture.records[begun - 1].hash;
        let mut last = 0;
        for record in &fixture.records[begun..] {
            prop_assert_eq!(record.chained(head), record.hash);
            head = record.hash;
            if let Some(told) = record.told {
                prop_assert!(told.number > last || told.number <= 15);
                last = told.number;
            }
        }
    }
}
