//! Lease enforcement in virtual time: a [`Bench`] answers the enforcer as its kernel, disk and reaper would.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::model::Timing;
use crate::takeover::{Backing, Word};
use crate::time::Instant;

const MS: u64 = 1_000;

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * MS)
}

fn of(number: u16) -> Of {
    Of { number, group: format!("g{number}") }
}

/// A service address and a control group of one group.
fn group(number: u16) -> Held {
    let address = [10, 0, 0, number as u8].into();
    let device = "eth0".to_owned();
    let mut held = Held {
        addresses: BTreeSet::from([HeldAddress { address, prefix: 24, device }]),
        groups: BTreeSet::from([format!("/groups/g{number}").into()]),
        ..Held::default()
    };
    held.belongs_to(&of(number));
    held
}

fn program(number: u16) -> HeldProgram {
    HeldProgram {
        of: of(number),
        program: vec!["/bin/take-away".into(), "it".into()],
        environment: Default::default(),
        user: None,
        place: None,
        within_ms: 3_000,
        transcripts: None,
    }
}

fn disk(number: u16) -> HeldData {
    let (device, mount_point) = ("/dev/sdb1".to_owned(), "/srv".into());
    HeldData { of: of(number), what: Data::FileSystem { device, mount_point } }
}

/// An enforcer and a machine that answers it as the fields say.
struct Bench {
    enforcer: Enforcer,
    now: Instant,
    release: Released,
    /// A release is answered by hand.
    slow: bool,
    gate: Result<(), String>,
    open: Result<(), String>,
    post: Result<(), String>,
    look: Look,
    journal: Kept,
    word: Word,
    told: Vec<Announcement>,
    orders: Vec<GateOrder>,
    releases: Vec<Held>,
    looks: Vec<ToLookAt>,
    pets: usize,
    ended: Option<bool>,
}

impl Bench {
    fn new(inherited: Inheritance, watchdog: Option<WatchdogFacts>) -> Self {
        let mut out = Vec::new();
        let enforcer = Enforcer::new(inherited, watchdog.map(Ok), at(0), &mut out);
        let mut bench = Self {
            enforcer,
            now: at(0),
            release: Released::default(),
            slow: false,
            gate: Ok(()),
            open: Ok(()),
            post: Ok(()),
            look: Look::default(),
            journal: Kept::default(),
            word: Word::default(),
            told: Vec::new(),
            orders: Vec::new(),
            releases: Vec::new(),
            looks: Vec::new(),
            pets: 0,
            ended: None,
        };
        bench.carry_out(out);
        bench.give(Input::Configure { table: "vedette_1".into(), timing: Timing::DEFAULT });
        bench.give(Input::Agent(true));
        bench
    }

    /// In epoch 7, with a lease that lasts.
    fn leased() -> Self {
        let mut bench = Self::new(Inheritance { epoch: 7, ..Inheritance::default() }, None);
        bench.lease(900, 0);
        bench
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.enforcer.handle(self.now, input, &mut out);
        self.carry_out(out);
    }

    fn lease(&mut self, until_ms: u64, lapses: u64) {
        let lease = LeaseNow { until: Some(at(until_ms)), lapses };
        self.give(Input::Lease { lease, turns: self.now.as_micros() });
    }

    fn pass(&mut self, to_ms: u64) {
        self.now = at(to_ms);
        let mut out = Vec::new();
        self.enforcer.on_timeout(self.now, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        let mut outputs: std::collections::VecDeque<Output> = out.into();
        while let Some(output) = outputs.pop_front() {
            let answer = match output {
                Output::Journal(entry) => {
                    self.journal.write(entry);
                    continue;
                }
                Output::Release { held, .. } => {
                    self.releases.push(held);
                    if self.slow {
                        continue;
                    }
                    Input::Released(self.release.clone(), None)
                }
                Output::LookAt(what) => {
                    self.looks.push(what);
                    Input::Looked(self.look.clone())
                }
                Output::Gate(order) => {
                    self.orders.push(order.clone());
                    match order {
                        GateOrder::Close | GateOrder::Remove => continue,
                        GateOrder::Open { .. } => Input::Gate(self.open.clone()),
                        _ => Input::Gate(self.gate.clone()),
                    }
                }
                Output::Post(_) => Input::Posted(self.post.clone()),
                Output::Word(word) => {
                    self.word = word;
                    continue;
                }
                Output::Tell(announcement) => {
                    self.told.push(announcement);
                    continue;
                }
                Output::Pet => {
                    self.pets += 1;
                    continue;
                }
                Output::Ended(complete) => {
                    self.ended = Some(complete);
                    continue;
                }
                _ => continue,
            };
            let mut more = Vec::new();
            self.enforcer.handle(self.now, answer, &mut more);
            outputs.extend(more);
        }
    }

    /// Orders that to be held, as a driver does: written down first. Answers why it was refused, if it was.
    fn hold(&mut self, held: Held) -> Option<String> {
        let epoch = self.enforcer.epoch();
        self.hold_in(epoch, held, &[])
    }

    fn hold_in(&mut self, epoch: u64, held: Held, anew: &[u16]) -> Option<String> {
        self.journal.expect(&held);
        let known = held.addresses.iter().map(|held| held.address).collect();
        let anew = anew.iter().copied().collect();
        self.give(Input::Hold(Box::new(Hold { sequence: 5, epoch, known, held, anew })));
        let answered = self.told.iter().rev().find_map(|told| match told {
            Announcement::Holding(holding) if holding.sequence == 5 => Some(holding.clone()),
            _ => None,
        });
        assert_eq!(self.journal.held, self.all(), "the journal names what is held, and no more");
        answered.expect("each order is answered").refused
    }

    fn all(&self) -> Held {
        let mut all = self.enforcer.held().clone();
        if !self.enforcer.has_let_go() {
            all.add(self.releases.last().expect("it is let go of"));
        }
        all
    }

    fn releases_told(&self) -> Vec<&Announcement> {
        let released = |told: &&Announcement| matches!(told, Announcement::ReleasedAll { .. });
        self.told.iter().filter(released).collect()
    }

    fn holding(&self) -> &Holding {
        let holding = self.told.iter().rev().find_map(|told| match told {
            Announcement::Holding(holding) => Some(holding),
            _ => None,
        });
        holding.expect("it says what it holds")
    }
}

#[test]
fn nothing_is_held_without_a_lease() {
    let mut bench = Bench::new(Inheritance { epoch: 7, ..Inheritance::default() }, None);
    assert_eq!(bench.hold(group(1)).as_deref(), Some("this node has no lease"));
    bench.lease(900, 0);
    assert_eq!(bench.hold(group(1)), None);
    assert_eq!((bench.word.epoch, bench.word.holds), (7, true));
    bench.now = at(900);
    assert!(bench.hold(group(2)).is_some(), "its lease is over now");
    assert!(bench.enforcer.held().is_empty());
}

#[test]
fn the_end_of_the_lease_ends_everything_and_begins_an_epoch() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    assert_eq!(bench.enforcer.deadline(), Some(at(900)));
    bench.pass(899);
    assert!(bench.releases.is_empty());
    bench.pass(900);
    assert_eq!(bench.releases, [group(1)]);
    assert_eq!(
        bench.word,
        Word { epoch: 8, remains: Default::default(), released: true, holds: false }
    );
    let [Announcement::ReleasedAll { epoch, ended_us, left, .. }] = bench.releases_told()[..]
    else {
        panic!("told once: {:?}", bench.told);
    };
    assert_eq!((*epoch, *ended_us, left.len()), (8, at(900).as_micros(), 0));
    assert_eq!((bench.journal.epoch, bench.journal.held.is_empty()), (8, true));
    assert!(bench.hold_in(7, group(1), &[]).is_some_and(|why| why.contains("of epoch 7")));
}

/// Who stood still hears of the next grant before it sees that the lease had ended.
#[test]
fn a_grant_after_the_end_does_not_undo_it() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    bench.now = at(2_000);
    bench.lease(2_800, 1);
    assert_eq!((bench.releases.len(), bench.enforcer.epoch()), (1, 8));
    assert_eq!(bench.hold(group(1)), None, "a new epoch under a new lease");
}

#[test]
fn an_order_waits_until_everything_is_let_go_of() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    bench.slow = true;
    bench.now = at(950);
    bench.lease(1_800, 1);
    let refused = bench.hold(group(2));
    assert_eq!(refused.as_deref(), Some("what was held before is not let go of yet"));
    assert_eq!((bench.word.epoch, bench.word.released), (7, false));
    bench.give(Input::Released(Released::default(), None));
    assert_eq!(bench.word.epoch, 8);
    assert_eq!(bench.hold(group(2)), None);
}

/// An epoch that began between two orders, though nothing was held in it.
#[test]
fn an_order_is_refused_while_an_empty_release_is_under_way() {
    let mut bench = Bench::leased();
    bench.slow = true;
    bench.now = at(950);
    bench.lease(1_800, 1);
    assert!(bench.hold(group(1)).is_some(), "it was given leave in the epoch before");
    bench.give(Input::Released(Released::default(), None));
    assert!(bench.enforcer.held().is_empty() && bench.enforcer.epoch() == 8);
}

#[test]
fn a_release_that_fails_is_tried_again_and_holds_up_the_epoch() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    bench.release.failed = vec!["10.0.0.1 cannot be removed".into()];
    bench.pass(900);
    assert_eq!(bench.holding().unreleased.as_deref(), Some("10.0.0.1 cannot be removed"));
    assert_eq!((bench.enforcer.epoch(), bench.enforcer.deadline()), (7, Some(at(1_000))));
    bench.lease(1_800, 1);
    assert!(bench.hold(group(2)).is_some(), "nothing is held before that is gone");
    bench.release.failed.clear();
    bench.pass(1_000);
    assert_eq!((bench.enforcer.epoch(), bench.releases_told().len()), (8, 1));
    bench.give(Input::Agent(true));
    assert_eq!(bench.holding().unreleased, None);
}

/// Findings R7: what does not end holds up its own group and no other one.
#[test]
fn processes_that_do_not_end_hold_up_their_own_group() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    let what = Data::Processes(Place::Own("/groups/g1".into()));
    let stuck = HeldData { of: of(1), what };
    bench.release.failed = vec!["processes in /groups/g1 do not end".into()];
    bench.release.left = BTreeSet::from([stuck.clone()]);
    bench.look.data.insert(stuck.clone(), Some("they do not end".into()));
    bench.now = at(950);
    bench.lease(4_000, 1);
    assert_eq!(bench.word.epoch, 8);
    assert!(bench.word.remains.has(1) && !bench.word.remains.has(2));
    assert_eq!(bench.hold(group(2)), None);
    assert!(bench.holding().stuck.is_empty(), "it may be over in a moment");
    bench.pass(1_960);
    assert_eq!(bench.holding().stuck.get("g1").map(String::as_str), Some("they do not end"));
    bench.look.data.insert(stuck, None);
    bench.pass(2_000);
    assert!(bench.word.remains.is_none() && bench.holding().stuck.is_empty());
    assert!(bench.journal.remaining.is_empty());
}

#[test]
fn programs_begin_before_anything_else_is_let_go_of_and_data_is_looked_at_after() {
    let mut bench = Bench::leased();
    let mut held = group(1);
    held.programs.insert(program(1));
    held.data.insert(disk(1));
    bench.hold(held);
    bench.slow = true;
    bench.look.programs.insert(program(1), Progress::Runs(None));
    bench.pass(900);
    let [first] = &bench.looks[..] else { panic!("{:?}", bench.looks) };
    assert!(first.anew.contains(&program(1)) && first.data.is_empty());
    assert!(bench.releases[0].programs.is_empty() && bench.releases[0].data.is_empty());
    bench.give(Input::Released(Released::default(), None));
    let last = bench.looks.last().expect("it looks");
    assert!(last.fresh.contains(&disk(1)) && last.anew.is_empty());
    let Announcement::ReleasedAll { left, .. } = bench.releases_told()[0] else { unreachable!() };
    assert_eq!(left, &["g1"]);
    assert!(bench.journal.remaining.programs.contains(&program(1)), "for a guard that comes next");
    bench.look.programs.insert(program(1), Progress::Done);
    bench.look.data.insert(disk(1), None);
    bench.pass(920);
    assert!(bench.word.remains.is_none() && bench.journal.remaining.is_empty());
}

/// What was left running is held again as it is; anything else of its group is not, while something remains.
#[test]
fn only_what_is_held_anew_is_not_looked_at_any_more() {
    let remaining = Held { data: BTreeSet::from([disk(1)]), ..Held::default() };
    let mut bench = Bench::new(Inheritance { epoch: 7, remaining, ..Inheritance::default() }, None);
    bench.look.data.insert(disk(1), Some("it is still mounted".into()));
    bench.lease(900, 0);
    let mut held = group(1);
    held.data.insert(disk(1));
    let epoch = bench.enforcer.epoch();
    bench.journal.expect(&held);
    bench.hold_in(epoch, held.clone(), &[]);
    assert!(bench.enforcer.held().data.is_empty() && bench.word.remains.has(1));
    bench.hold_in(epoch, held, &[1]);
    assert!(bench.enforcer.held().data.contains(&disk(1)) && bench.word.remains.is_none());
}

#[test]
fn the_gate_lasts_as_long_as_the_lease_that_is_known() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    let until = |order: &GateOrder| match order {
        GateOrder::Guard { until, .. } | GateOrder::Open { until, .. } => *until,
        _ => None,
    };
    assert_eq!(bench.orders.last().and_then(until), Some(at(900)));
    bench.now = at(200);
    bench.lease(1_100, 0);
    assert_eq!(bench.orders.last().and_then(until), Some(at(1_100)));
    // Timers became faster: neither kernel nor agent may go by the longer lease.
    bench.lease(700, 0);
    assert_eq!(bench.orders.last().and_then(until), Some(at(700)));
    assert!(bench.told.contains(&Announcement::Lease { until: at(700) }));
    bench.pass(700);
    assert!(bench.orders.contains(&GateOrder::Close));
}

#[test]
fn a_gate_that_cannot_be_opened_is_made_anew_or_stands_behind_nothing() {
    let mut bench = Bench::leased();
    bench.hold(group(1));
    assert_eq!(bench.holding().backing, Backing::Kernel);
    bench.open = Err("somebody removed it".into());
    bench.now = at(300);
    bench.lease(1_200, 0);
    assert!(matches!(bench.orders.last(), Some(GateOrder::Guard { .. })), "{:?}", bench.orders);
    assert_eq!(bench.holding().backing, Backing::Kernel);
    bench.gate = Err("not permitted".into());
    bench.now = at(600);
    bench.lease(1_500, 0);
    assert_eq!(bench.holding().backing, Backing::None);
    let warnings = bench.told.iter().filter(|told| match told {
        Announcement::Warning { text } => text.contains("not permitted"),
        _ => false,
    });
    assert_eq!(warnings.count(), 1);
}

#[test]
fn a_reaper_that_cannot_be_told_refuses_the_order() {
    let mut bench = Bench::leased();
    bench.post = Err("too much".into());
    assert_eq!(bench.hold(group(1)).as_deref(), Some("too much"));
    assert!(bench.enforcer.held().is_empty());
}

#[test]
fn a_guard_that_ends_waits_for_what_takes_longer() {
    let mut bench = Bench::leased();
    let mut held = group(1);
    held.programs.insert(program(1));
    bench.hold(held);
    bench.look.programs.insert(program(1), Progress::Runs(None));
    bench.give(Input::End);
    assert_eq!(bench.ended, None);
    bench.look.programs.insert(program(1), Progress::Done);
    bench.pass(20);
    assert_eq!(bench.ended, Some(true));
    assert!(bench.journal.held.is_empty() && bench.journal.remaining.is_empty());
    assert_eq!(bench.orders.last(), Some(&GateOrder::Remove));

    let mut bench = Bench::leased();
    bench.hold(group(1));
    bench.release.failed = vec!["10.0.0.1 cannot be removed".into()];
    bench.give(Input::End);
    assert_eq!(bench.ended, Some(false));
    assert!(!bench.journal.held.is_empty(), "the next guard finds it");
    assert_eq!(bench.orders.last(), Some(&GateOrder::Close));
}

/// The watchdog is petted while the heartbeat turns and nothing is held without a lease.
#[test]
fn the_watchdog_is_petted_while_all_is_well() {
    let facts = WatchdogFacts {
        path: "/dev/watchdog".into(),
        timeout: Duration::from_secs(1),
        is_device: true,
    };
    let mut bench = Bench::new(Inheritance { epoch: 7, ..Inheritance::default() }, Some(facts));
    bench.lease(900, 0);
    bench.hold(group(1));
    let before = bench.pets;
    bench.now = at(400);
    bench.lease(1_300, 0);
    assert!(bench.pets > before);
    let before = bench.pets;
    bench.pass(900);
    assert_eq!(bench.pets, before, "the heartbeat stands still");
    bench.release.failed = vec!["it does not go".into()];
    bench.now = at(1_400);
    bench.lease(2_200, 1);
    assert_eq!(bench.pets, before, "something is held without a lease");
}

#[test]
fn a_guard_begins_where_an_earlier_one_ended() {
    let mut kept = Kept { epoch: 7, gate: Some("t".into()), ..Kept::default() };
    kept.expect(&group(1));
    kept.held.programs.insert(program(1));
    let done = Released::default();
    let new = Inheritance::new(&kept, &done, true, (at(0), 3));
    assert_eq!((new.epoch, new.pending.is_empty(), new.released), (8, true, Some(at(0))));
    assert!(new.remaining.programs.contains(&program(1)));
    assert_eq!(Inheritance::new(&kept, &done, false, (at(0), 90)).epoch, 90, "by the wall clock");
    let failed = Released { failed: vec!["no".into()], ..Released::default() };
    let new = Inheritance::new(&kept, &failed, true, (at(0), 90));
    assert_eq!((new.epoch, new.released), (7, None), "nothing says that all is gone");
    assert_eq!(new.pending, group(1));
    let journal = new.journal(&kept);
    assert_eq!((journal.gate.as_deref(), journal.held), (Some("t"), group(1)));
    let mut bench = Bench::new(new, None);
    bench.pass(0);
    assert_eq!((bench.releases.len(), bench.enforcer.epoch()), (1, 8));
}
