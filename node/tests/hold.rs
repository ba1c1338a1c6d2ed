//! H24 (one owner): what a node holds, with and without its lease. Real guards in network namespaces of their own,
//! real packets, real control groups. Needs root.

mod example;
mod hold_support;

use std::path::Path;

use hold_support::{
    Cable, Group, Guarded, Mounted, SERVICE, SERVICE6, held_address, is_running, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette_core::takeover::Backing;
use vedette_node::hold::{Data, Held, HeldData, HeldProgram, Of};

/// The lease is over and nobody can act: the guard, its agent and its reaper are stopped. The kernel does it,
/// while the address is still on the device; when the guard is back it lets go before anything else.
#[test]
fn a_stopped_guard_serves_no_longer_than_its_lease() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    guard.acquire(&[SERVICE, SERVICE6]);
    assert_eq!(guard.last_holding().backing, Backing::Kernel);
    let clients = [SERVICE, SERVICE6].map(|address| cable.client(address));
    wait_for("answers", || clients.iter().all(|c| c.answered()).then_some(()));
    guard.stop_all();
    wait_for("silence", || clients.iter().all(|c| !c.answered()).then_some(()));
    assert!(cable.has(SERVICE) && cable.has(SERVICE6), "nobody removed them: it was the kernel");
    // Nor is it answered who has them.
    cable.forget_neighbours();
    assert!(clients.iter().all(|c| !c.answered()));
    assert!(
        cable.client(hold_support::OWN).answered(),
        "the node's own address is nobody's matter"
    );
    guard.go_on();
    wait_for("a release", || guard.released_epoch());
    wait_for("no address", || (!cable.has(SERVICE) && !cable.has(SERVICE6)).then_some(()));
    assert!(cable.has(hold_support::OWN));
}

/// J5: what stands behind a node is known before it holds anything, and nothing is left behind by
/// finding out.
#[test]
fn a_guard_that_holds_nothing_knows_what_stands_behind_it() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    wait_for("a backing", || {
        let known = guard.notices_of_this_run().pop()?;
        (known.backing == Backing::Kernel).then_some(())
    });
    let last = guard.last_holding();
    assert!(last.held.is_empty() && last.watchdog.is_none(), "{last:?}");
    assert_eq!(cable.tables(), 0);
}

/// A cluster without a service address has nothing that a gate could keep out, and its guards stand as firm.
#[test]
fn a_guard_without_addresses_is_backed_as_any_other() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let group = Group::new();
    wait_for("a lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order_group_alone(group.directory(), 1);
    let answer = wait_for("an answer", || guard.answer(1));
    assert_eq!((answer.refused, answer.backing), (None, Backing::Kernel));
    assert_eq!(cable.tables(), 0);
}

/// The gate is refreshed five times a second, and no packet is lost by it.
#[test]
fn no_packet_is_lost_while_the_lease_is_held() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    guard.acquire(&[SERVICE]);
    let client = cable.client(SERVICE);
    wait_for("an answer", || client.answered().then_some(()));
    let before = guard.grants();
    let (mut sent, mut lost) = (0_u32, 0_u32);
    while guard.grants() < before + 20 {
        sent += 1;
        lost += u32::from(!client.answered());
    }
    assert!(sent > 100, "{sent}");
    assert_eq!(lost, 0, "of {sent}");
}

/// Without a lease the guard lets go of everything: the address, and a process that ignores what it
/// is sent, with its children; then it says so, and takes no order of the time before.
#[test]
fn the_end_of_the_lease_ends_everything() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let group = Group::new();
    let stubborn = group.run_stubborn();
    guard.acquire_with(&[SERVICE], &[group.directory()], 1);
    let epoch = guard.last_holding().epoch;
    guard.remove("granted");
    let next = wait_for("a release", || guard.released_epoch());
    assert!(next > epoch);
    assert!(!cable.has(SERVICE) && !group.directory().exists());
    wait_for("the end of its processes", || {
        (!stubborn.iter().any(|p| is_running(*p))).then_some(())
    });
    wait_for("a report of it", || guard.reports().last().is_some_and(|r| r.released).then_some(()));
    // The lease comes back; a leave of before does not.
    guard.add("granted");
    wait_for("a lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order(&[SERVICE], &[], 2, epoch);
    let refused = wait_for("an answer", || guard.answer(2)).refused.expect("a refusal");
    assert!(refused.contains("epoch"), "{refused}");
    assert!(guard.reports().last().is_some_and(|r| r.released));
    guard.order(&[SERVICE], &[], 3, 0);
    assert_eq!(wait_for("an answer", || guard.answer(3)).refused, None);
    wait_for("a report of it", || {
        guard.reports().last().is_some_and(|r| !r.released).then_some(())
    });
}

/// The group that holds something in these tests.
fn of(group: &str, number: u16) -> Of {
    Of { number, group: group.into() }
}

/// R2: what no control group holds is taken away by a program of the guard's. Until it succeeded its group is named
/// as not let go of, however often it fails; R7: another group waits for nothing.
#[test]
fn a_release_program_is_run_until_it_succeeds() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let (group, site) = (Group::new(), tempfile::tempdir().expect("a directory"));
    let file = |name: &str| site.path().join(name);
    let text = format!(
        "echo run >> {}; test -e {} || exit 3",
        file("runs").display(),
        file("able").display()
    );
    let program = HeldProgram {
        of: of("web", 7),
        program: ["/bin/sh", "-c", &text].map(str::to_owned).to_vec(),
        environment: [].into(),
        user: None,
        place: Some(group.directory().with_extension("release")),
        within_ms: 5_000,
        transcripts: None,
    };
    wait_for("a lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order_programs(std::slice::from_ref(&program), 1);
    assert_eq!(wait_for("an answer", || guard.answer(1)).refused, None);
    assert!(!file("runs").exists(), "it waits for the end of the lease");
    guard.remove("granted");
    let runs = || std::fs::read_to_string(file("runs")).unwrap_or_default().lines().count();
    wait_for("a second try", || (runs() > 1).then_some(()));
    wait_for("a new epoch for all others", || guard.released_epoch());
    let stuck = || guard.last_holding().stuck.get("web").cloned();
    let why = wait_for("its group to be named", stuck);
    assert!(why.contains("failed: exit status 3"), "{why}");
    guard.add("granted");
    wait_for("another lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order_holding(&[SERVICE], std::slice::from_ref(&program), 2);
    let answer = wait_for("an answer", || guard.answer(2));
    assert_eq!(answer.refused, None, "another group is held");
    assert_eq!((answer.held.addresses.len(), answer.held.programs.len()), (1, 0), "this one not");
    std::fs::write(file("able"), "").expect("written");
    wait_for("its release", || guard.last_holding().stuck.is_empty().then_some(()));
    let runs = runs();
    guard.order_holding(&[SERVICE], &[program], 3);
    assert_eq!(wait_for("an answer", || guard.answer(3)).held.programs.len(), 1);
    guard.remove("granted");
    wait_for("a run in the end", || (self::lines(&file("runs")) > runs).then_some(()));
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// R7, R10: a guard takes no data away, and says that it is there until it sees that it is not; nor does the next
/// guard forget it.
#[test]
fn data_is_named_until_it_is_seen_to_be_gone() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    let mount = Mounted::new();
    let what = Data::FileSystem { device: mount.device(), mount_point: mount.point() };
    let data = HeldData { of: of("web", 7), what };
    wait_for("a lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order_held(Held { data: [data].into(), ..Held::default() }, 1);
    assert_eq!(wait_for("an answer", || guard.answer(1)).refused, None);
    guard.remove("granted");
    wait_for("a new epoch", || guard.released_epoch());
    let why = || guard.last_holding().stuck.get("web").cloned();
    let seen = wait_for("its group to be named", why);
    assert!(seen.contains("still mounted at"), "{seen}");
    guard.kill_all();
    let guard = guard.start_again(&cable);
    let why = || guard.notices_of_this_run().pop()?.stuck.get("web").cloned();
    wait_for("its group to be named by the next guard", why);
    drop(mount);
    let gone = || {
        let now = guard.last_holding();
        (now.stuck.is_empty() && !now.goes_on).then_some(())
    };
    wait_for("it to be seen that it is gone", gone);
}

/// R7: processes that are killed and do not end, as those that wait for a disk, hold up their own group: a new epoch
/// begins for all others, and the guard names that group until it is seen to be off. What cannot be killed stands in
/// for them here: a directory that is no control group.
#[test]
fn what_cannot_be_killed_holds_up_its_own_group() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let (group, stuck) = (Group::new(), tempfile::tempdir().expect("a directory"));
    let processes = group.run_stubborn();
    let mut held = Held { groups: [stuck.path().to_owned()].into(), ..Held::default() };
    held.belongs_to(&of("web", 7));
    let mut other = Held { groups: [group.directory().to_owned()].into(), ..Held::default() };
    other.belongs_to(&of("db", 8));
    other.addresses.insert(held_address(&SERVICE));
    held.add(&other);
    wait_for("a lease", || guard.reports().last().is_some_and(|r| r.lease).then_some(()));
    guard.order_held(held, 1);
    assert_eq!(wait_for("an answer", || guard.answer(1)).refused, None);
    guard.remove("granted");
    wait_for("a new epoch for all others", || guard.released_epoch());
    wait_for("the end of db", || (!processes.iter().any(|it| is_running(*it))).then_some(()));
    let named = || guard.last_holding().stuck.get("web").cloned();
    let why = wait_for("its group to be named", named);
    assert!(why.contains("cannot be killed: it is no control group"), "{why}");
    let holding = guard.last_holding();
    assert_eq!((holding.unreleased, holding.stuck.len()), (None, 1));
    drop(stuck);
    let gone = || {
        let now = guard.last_holding();
        (now.stuck.is_empty() && !now.goes_on).then_some(())
    };
    wait_for("it to be seen that it is gone", gone);
}

/// The end of a lease begins an epoch though nothing was held: an agent that slept over it, with a
/// leave that the cluster has given to another node since, is refused.
#[test]
fn a_lease_that_ends_while_nothing_is_held_ends_its_epoch() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let leased = || guard.reports().last().is_some_and(|r| r.lease).then_some(());
    wait_for("a lease", leased);
    guard.order(&[], &[], 1, 0);
    let epoch = wait_for("an answer", || guard.answer(1)).epoch;
    guard.remove("granted");
    wait_for("the end of the lease", || {
        guard.reports().last().is_some_and(|r| !r.lease).then_some(())
    });
    guard.add("granted");
    wait_for("another lease", leased);
    guard.order(&[SERVICE], &[], 2, epoch);
    let answer = wait_for("an answer", || guard.answer(2));
    assert!(answer.refused.is_some_and(|why| why.contains("epoch")) && answer.epoch > epoch);
    assert!(!cable.has(SERVICE));
}

/// Nothing is held that was not granted.
#[test]
fn nothing_is_acquired_without_a_lease() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &[]);
    guard.order(&[SERVICE], &[], 1, 0);
    let refused = wait_for("an answer", || guard.answer(1)).refused.expect("a refusal");
    assert!(refused.contains("lease"), "{refused}");
}

/// A guard that was killed left everything behind, also on disk: the next one lets go of it before
/// it says a word.
#[test]
fn a_guard_lets_go_of_what_a_killed_one_held() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    let group = Group::new();
    let stubborn = group.run_stubborn();
    guard.acquire_with(&[SERVICE], &[group.directory()], 1);
    let epoch = guard.last_holding().epoch;
    // All at once, so that none can clear up after the others.
    guard.kill_all();
    assert!(cable.has(SERVICE) && stubborn.iter().all(|p| is_running(*p)));
    guard.remove("hold.json");
    let guard = guard.start_again(&cable);
    let holding = wait_for("a guard", || guard.notices_of_this_run().first().cloned());
    assert!(!cable.has(SERVICE) && !group.directory().exists(), "gone before the first word");
    assert!(holding.epoch > epoch && holding.held.is_empty());
    assert_eq!(cable.tables(), 0, "the gate of the first guard is gone as well");
    let found = holding.last_release_us.expect("it says that it found something");
    assert!(found.0 == 0 && found.1 > 0, "and that nobody saw the lease end: {found:?}");
}

/// F2: guard and agent are stopped together. What is held ends with the lease all the same, and a guard that goes on
/// begins anew.
#[test]
fn f2_a_stopped_pair_outlives_its_lease_and_its_processes_do_not() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted", "watch"]);
    guard.reaper();
    let group = Group::new();
    let stubborn = group.run_stubborn();
    guard.acquire_with(&[SERVICE], &[group.directory()], 1);
    guard.stop_both();
    wait_for("the end of what is held", || {
        let gone = !cable.has(SERVICE) && !group.directory().exists();
        (gone && stubborn.iter().all(|process| !is_running(*process))).then_some(())
    });
    assert_eq!(guard.released_epoch(), None, "the guard is stopped: it was not the guard");
    guard.go_on();
    wait_for("a new epoch", || guard.released_epoch());
}

/// F2: guard and agent are killed together, and nobody starts them again.
#[test]
fn f2_a_killed_pair_leaves_nothing_running() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    let reaper = guard.reaper();
    let group = Group::new();
    let stubborn = group.run_stubborn();
    guard.acquire_with(&[SERVICE], &[group.directory()], 1);
    guard.kill_both();
    wait_for("the end of what was held", || {
        let gone = !cable.has(SERVICE) && !group.directory().exists();
        (gone && stubborn.iter().all(|process| !is_running(*process))).then_some(())
    });
    wait_for("the end of the reaper", || (!is_running(reaper)).then_some(()));
}

/// A reaper that is stopped or killed is replaced, and the agent is told meanwhile.
#[test]
fn a_reaper_that_is_stopped_or_killed_is_replaced() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    let reasons = [
        (Signal::SIGSTOP, "it did not answer for 3 s, and is replaced"),
        (Signal::SIGKILL, "it ended (signal: 9 (SIGKILL))"),
    ];
    for (signal, reason) in reasons {
        let first = guard.reaper();
        let told = guard.notices_of_this_run().len();
        guard.signal_reaper(signal);
        wait_for("another reaper", || (guard.reaper() != first).then_some(()));
        assert!(!is_running(first));
        let since = || guard.notices_of_this_run().split_off(told);
        wait_for("a fault", || since().iter().any(|it| it.reaper.is_some()).then_some(()));
        wait_for("no fault", || since().last()?.reaper.is_none().then_some(()));
        let faults: Vec<String> = since().into_iter().filter_map(|it| it.reaper).collect();
        assert!(faults.iter().all(|fault| fault == reason), "{faults:?}");
    }
}

/// A reaper that was stopped when its guard died, and goes on when another guard holds the same: it lets go of
/// nothing.
#[test]
fn a_reaper_of_an_earlier_guard_does_no_harm() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    let late = guard.reaper();
    guard.acquire(&[SERVICE]);
    guard.signal_reaper(Signal::SIGSTOP);
    guard.kill_both();
    guard.remove("hold.json");
    let guard = guard.start_again(&cable);
    wait_for("a guard", || guard.notices_of_this_run().first().cloned());
    guard.acquire_with(&[SERVICE], &[], 2);
    kill(Pid::from_raw(late), Signal::SIGCONT).expect("a stopped reaper");
    wait_for("its end", || (!is_running(late)).then_some(()));
    assert!(cable.has(SERVICE));
}

/// The guard is stopped, the agent is not: it sees to the release itself.
#[test]
fn an_agent_whose_guard_is_stopped_lets_go() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted", "watch"]);
    guard.acquire(&[SERVICE]);
    guard.signal(Signal::SIGSTOP);
    wait_for("no address", || (!cable.has(SERVICE)).then_some(()));
    guard.signal(Signal::SIGCONT);
}

/// The guard is killed: the agent lets go before it ends.
#[test]
fn an_agent_whose_guard_is_gone_lets_go_and_ends() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted", "watch"]);
    guard.acquire(&[SERVICE]);
    let agent = guard.agent();
    guard.kill_guard();
    wait_for("the end of the agent", || (!is_running(agent)).then_some(()));
    // PDEATHSIG may be faster than the end of the socket; then the next guard does it.
    let guard = guard.start_again(&cable);
    wait_for("a guard", || guard.notices_of_this_run().first().cloned());
    assert!(!cable.has(SERVICE));
}

/// A clean end leaves nothing: no address, no table, nothing to clear up for the next one.
#[test]
fn a_guard_that_ends_lets_go_and_takes_its_gate_away() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    guard.acquire(&[SERVICE]);
    assert_eq!(cable.tables(), 2);
    guard.signal(Signal::SIGTERM);
    wait_for("the end of the guard", || guard.ended());
    assert!(!cable.has(SERVICE));
    assert_eq!(cable.tables(), 0);
}

/// H21, R8, R9: what is left running is not in the guard's orders any more. It stays and is reached whatever
/// becomes of lease and guard.
#[test]
fn h21_what_is_left_running_is_left_alone() {
    let cable = Cable::new();
    let mut guard = Guarded::start(&cable, &["granted"]);
    guard.acquire(&[SERVICE]);
    let client = cable.client(SERVICE);
    guard.order_left_running(2);
    assert_eq!(wait_for("an answer", || guard.answer(2)).refused, None);
    guard.remove("granted");
    wait_for("the end of the lease", || {
        guard.reports().last().is_some_and(|r| !r.lease).then_some(())
    });
    assert!(cable.has(SERVICE) && client.answered());
    guard.kill_all();
    guard.remove("hold.json");
    let mut guard = guard.start_again(&cable);
    wait_for("a guard", || guard.notices_of_this_run().first().cloned());
    assert!(cable.has(SERVICE) && client.answered());
    guard.signal(Signal::SIGTERM);
    wait_for("the end of the guard", || guard.ended());
    assert!(cable.has(SERVICE) && client.answered());
}

/// Whoever reloads a firewall must not open the gate.
#[test]
fn a_reloaded_firewall_leaves_the_gate() {
    let cable = Cable::new();
    let guard = Guarded::start(&cable, &["granted"]);
    guard.acquire(&[SERVICE]);
    let client = cable.client(SERVICE);
    cable.nft("flush ruleset");
    let before = guard.grants();
    wait_for("more grants", || (guard.grants() > before + 3).then_some(()));
    assert_eq!(cable.tables(), 2, "kept, or made anew");
    assert!(client.answered());
    guard.stop_all();
    wait_for("silence", || (!client.answered()).then_some(()));
}

/// The watchdog is petted while all is well, and not by a guard that cannot let go.
#[test]
fn the_watchdog_is_petted_while_all_is_well() {
    let cable = Cable::new();
    let guard = Guarded::prepare(&["granted"]);
    let dog = guard.watchdog();
    let guard = guard.begin(&cable);
    dog.forget();
    wait_for("pets", || (dog.pets() > 2).then_some(()));
    guard.acquire(&[SERVICE]);
    dog.forget();
    wait_for("pets", || (dog.pets() > 2).then_some(()));
    guard.signal(Signal::SIGTERM);
    wait_for("the magic close", || dog.closed().then_some(()));
}
