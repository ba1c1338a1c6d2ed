//! Lease enforcement in the guard: nothing is held without a lease.
//!
//! The enforcer is told of the lease and of what the agent wants to hold. At the lease's end it lets go of everything,
//! without asking anybody. With each grant it opens the kernel's gate for as long as the lease lasts now, so that the
//! kernel does what the guard cannot do while it is stopped; behind both may stand a watchdog.
//!
//! The *epoch* counts the ends of the lease. What the agent knows of before such an end may have
//! been given to another node since, so an order of an earlier epoch is refused.
//!
//! The driver hands in every answer in the order in which it was asked for. What it answers at once, before anything
//! else is handed in, are [`Output::Post`], [`Output::Gate`] and [`Output::LookAt`]; [`Output::Release`] may take its time.
//!
//! Invariants:
//! - Something is held only from an [`Announcement::Holding`] that accepts it to the end of that lease; a
//!   grant that comes after the end does not undo it.
//! - A new epoch begins when addresses of the one before are gone and its control groups killed, not earlier. Release
//!   programs, data, and processes that did not end within `release_max` take longer, and are named beside it until
//!   they are seen to be gone ([`Remaining`]): they hold up their own group alone.
//! - An order is answered after the journal names all of it: the driver writes before it hands the order in.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Held, Hold, Holding, Inheritance, Look, Released, Remaining, WatchdogFacts};
use crate::model::Timing;
use crate::takeover::{Backing, Remains, Word};
use crate::time::Instant;

pub use values::{Announcement, GateOrder, Input, JournalEntry, LeaseNow, Mistake, Output};

/// Between two attempts to let go of what does not go.
const AGAIN: Duration = Duration::from_millis(100);
/// Between two looks at what remains of earlier epochs.
const LOOK: Duration = Duration::from_millis(10);
/// The shortest time that a guard that ends takes for it: nobody waits for a node that leaves.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The purpose of an order to the gate whose answer is awaited.
#[derive(Clone, Debug)]
enum GatePurpose {
    Configure,
    Refresh,
    Open,
    /// Raise it anew after it could not be opened for that reason; what stood behind a release before.
    Raise(String, Backing),
}

/// The kernel's gate as the last answer left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    None,
    Up,
    Broken,
}

#[derive(Clone, Debug)]
struct Dog {
    facts: WatchdogFacts,
    due: Instant,
    turns: u64,
}

/// The last word to the agent about what remains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    remains: Remains,
    stuck: BTreeMap<String, String>,
    goes_on: bool,
}

#[derive(Clone, Debug)]
struct Ending {
    /// Set when the release was answered: for how long remaining things are waited for.
    until: Option<Instant>,
    failed: Vec<String>,
}

/// Lease enforcement of one guard.
#[derive(Clone, Debug)]
pub struct Enforcer {
    timing: Timing,
    table: Option<String>,
    gate: Gate,
    gate_asked: Option<GatePurpose>,
    /// The gate could be raised when that was tried last: at the latest when the guard learns whom it
    /// serves, so that what stands behind a node is known before it holds anything.
    gate_available: bool,
    /// The operator was told that it could not.
    warned: bool,
    dog: Option<Dog>,
    /// Reason why the watchdog that is configured could not be opened.
    no_dog: Option<String>,
    no_reaper: Option<String>,
    /// The last word to the agent about what stands behind a release.
    said: (Backing, Option<String>, Option<String>),
    known: Vec<IpAddr>,
    held: Held,
    /// An order whose answer waits for reaper or gate, and whether it holds more than before.
    asked: Option<(Box<Hold>, bool)>,
    /// Everything that has to be let go of before anything else.
    pending: Held,
    again_at: Instant,
    /// A release is under way.
    releasing: bool,
    remaining: Remaining,
    told: Told,
    look_at: Instant,
    /// Reason why not everything could be let go of at the first attempt; the agent was told.
    unreleased: Option<String>,
    ended: Option<Instant>,
    /// When the lease had ended, and when everything was released, the last time.
    last_release_us: Option<(u64, u64)>,
    lease: LeaseNow,
    turns: u64,
    /// How many ends of the lease there were.
    ends: u64,
    leased: bool,
    epoch: u64,
    released: bool,
    /// The end of the lease that the gate and the agent know.
    spread: Option<Instant>,
    ending: Option<Ending>,
    #[cfg(feature = "mistakes")]
    mistake: Option<Mistake>,
}

impl Enforcer {
    /// The enforcer of a guard that starts; with its watchdog, or the reason why the one that is configured cannot be
    /// used.
    pub fn new(
        inherited: Inheritance,
        watchdog: Option<Result<WatchdogFacts, String>>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Self {
        let (dog, no_dog) = match watchdog {
            None => (None, None),
            Some(Ok(facts)) => (Some(Dog { facts, due: now, turns: 0 }), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let mut enforcer = Self {
            timing: Timing::DEFAULT,
            table: None,
            gate: Gate::None,
            gate_asked: None,
            gate_available: false,
            warned: false,
            dog,
            no_dog,
            no_reaper: None,
            said: (Backing::None, None, None),
            known: Vec::new(),
            held: Held::default(),
            asked: None,
            pending: inherited.pending,
            again_at: now,
            releasing: false,
            remaining: Remaining::default(),
            told: Told::default(),
            look_at: now,
            unreleased: None,
            ended: None,
            // When the lease had ended nobody knows: no guard was there.
            last_release_us: inherited.released.map(|released| (0, released.as_micros())),
            lease: LeaseNow::default(),
            turns: 0,
            ends: 0,
            leased: false,
            epoch: inherited.epoch,
            released: false,
            spread: None,
            ending: None,
            #[cfg(feature = "mistakes")]
            mistake: None,
        };
        enforcer.remaining.add(now, &inherited.remaining);
        enforcer.say_word(false, out);
        out.push(Output::Post(enforcer.all()));
        enforcer
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Configure { table, timing } => self.configure(table, timing, out),
            Input::Lease { lease, turns } => {
                (self.lease, self.turns) = (self.as_taken(lease), turns);
                self.on_timeout(now, out);
            }
            Input::Hold(order) => {
                // Before each order: what it stands on may have ended meanwhile.
                self.on_timeout(now, out);
                self.hold(order, out);
            }
            Input::Unwritten { sequence, why } => self.answer(sequence, Some(why), out),
            Input::Agent(there) => {
                if there {
                    self.answer(0, None, out);
                }
            }
            Input::Reaper(fault) => {
                self.no_reaper = fault;
                self.answer(0, None, out);
            }
            Input::Posted(result) => self.posted(now, result, out),
            Input::Gate(result) => self.gate_answered(result, out),
            Input::Released(outcome, reaped) => self.let_go_of(now, outcome, reaped, out),
            Input::Looked(look) => self.looked(now, &look, out),
            Input::End => self.end(now, out),
        }
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.ending.is_some() {
            return self.wait_for_the_end(now, out);
        }
        let valid = self.lease.until.is_some_and(|until| now < until);
        let ends = self.lease.lapses + u64::from(self.lease.until.is_some() && !valid);
        let again = valid && self.makes(Mistake::EpochIgnored);
        let lost = (ends != self.ends && !again) || (self.leased && self.lease.until.is_none());
        (self.ends, self.leased) = (ends, valid);
        if lost {
            self.lease_ended(now, out);
        } else if !self.pending.is_empty() && !self.releasing && now >= self.again_at {
            self.let_go(out);
        } else if !self.remaining.is_empty() && now >= self.look_at {
            self.look_at = now + LOOK;
            out.push(Output::LookAt(self.remaining.to_look_at()));
        }
        if valid && !self.held.is_empty() {
            self.spread(now, out);
        }
        self.pet(now, out);
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let lease = self.lease.until.filter(|_| !self.held.is_empty());
        let again = (!self.pending.is_empty() && !self.releasing).then_some(self.again_at);
        let look = (!self.remaining.is_empty()).then_some(self.look_at);
        let dog = self.dog.as_ref().map(|dog| dog.due);
        let ending = self.ending.as_ref().and_then(|ending| ending.until);
        [lease, again, look, dog, ending].into_iter().flatten().min()
    }

    /// The present epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything that is held by the lease.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Whether nothing waits to be let go of.
    pub fn has_let_go(&self) -> bool {
        self.pending.is_empty()
    }

    /// Makes a mistake from now on.
    #[cfg(feature = "mistakes")]
    pub fn make(&mut self, mistake: Option<Mistake>) {
        self.mistake = mistake;
    }

    #[cfg(feature = "mistakes")]
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    #[cfg(not(feature = "mistakes"))]
    #[expect(clippy::unused_self, reason = "no release makes mistakes")]
    const fn makes(&self, _: Mistake) -> bool {
        false
    }

    fn all(&self) -> Held {
        let mut all = self.held.clone();
        all.add(&self.pending);
        all
    }

    fn as_taken(&self, lease: LeaseNow) -> LeaseNow {
        if self.makes(Mistake::LeaseIgnored) && lease.until.is_some() {
            let ages = Duration::from_secs(1 << 40);
            return LeaseNow { until: Some(Instant::from(ages)), lapses: 0 };
        }
        lease
    }

    fn lease_ended(&mut self, now: Instant, out: &mut Vec<Output>) {
        // A lease that was granted again meanwhile ends later; this one ended before now.
        self.ended = Some(self.lease.until.map_or(now, |until| until.min(now)));
        if let Some((order, _)) = self.asked.take() {
            let why = "the lease of this node is over".to_owned();
            self.answer(order.sequence, Some(why), out);
            self.strike_out(out);
        }
        if self.gate == Gate::Up {
            // The kernel closed it by itself, unless this lease was granted again already.
            out.push(Output::Gate(GateOrder::Close));
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            out.push(Output::Log(format!(
                "the lease is over: everything that this node holds is let go of ({} addresses, {} control groups)",
                held.addresses.len(),
                held.places().len()
            )));
        }
        self.remaining.add(now, &held);
        self.pending.add(&held.without_the_slow());
        out.push(Output::Begin);
        out.push(Output::WantGrants(false));
        self.say_word(self.released, out);
        let programs = self.remaining.to_start();
        if !programs.programs.is_empty() {
            out.push(Output::LookAt(programs));
        }
        if !self.releasing {
            self.let_go(out);
        }
    }

    /// Tries to let go of what is pending; a new epoch begins if nothing of that is left.
    fn let_go(&mut self, out: &mut Vec<Output>) {
        self.releasing = true;
        let within = Duration::from_millis(self.timing.release_max_ms);
        out.push(Output::Release { held: self.pending.clone(), within });
    }

    fn let_go_of(
        &mut self,
        now: Instant,
        outcome: Released,
        reaped: Option<Instant>,
        out: &mut Vec<Output>,
    ) {
        self.releasing = false;
        if self.ending.is_some() {
            return self.ended_in(now, outcome, out);
        }
        // Processes that cannot be killed hold up their own group, and no other one.
        if !outcome.is_complete() && outcome.left.is_empty() {
            if self.unreleased.is_none() {
                let left = outcome.failed.join("; ");
                let text = format!(
                    "not everything could be let go of: {left}. It is tried again and again; no group \
                     is acquired before it succeeds"
                );
                out.push(Output::Tell(Announcement::Warning { text }));
                self.unreleased = Some(left);
                self.answer(0, None, out);
            }
            self.again_at = now + AGAIN;
            return;
        }
        self.remaining.add_left(now, &outcome.left);
        self.pending = Held::default();
        out.push(Output::Post(self.all()));
        self.unreleased = None;
        self.epoch += 1;
        // What was being mounted ended with its control group.
        self.look_at = now + LOOK;
        out.push(Output::LookAt(self.remaining.to_look_at()));
        let (epoch, remaining) = (self.epoch, self.remaining.held());
        out.push(Output::Journal(JournalEntry::Epoch { epoch, remaining }));
        // If this process stood still, the reaper did it earlier.
        let ended_us = self.ended.map_or(0, Instant::as_micros);
        let released_us = reaped.unwrap_or(now).as_micros().max(ended_us);
        if ended_us > 0 {
            self.last_release_us = Some((ended_us, released_us));
        }
        let (reaper, left) = (reaped.is_some(), self.remaining.groups());
        let told = Announcement::ReleasedAll { epoch, ended_us, released_us, reaper, left };
        out.push(Output::Tell(told));
        self.say_word(true, out);
        self.tell_the_rest(now, out);
    }

    fn looked(&mut self, now: Instant, look: &Look, out: &mut Vec<Output>) {
        let before = self.remaining.held();
        self.remaining.see(look);
        let left = self.remaining.held();
        // What is pending is in the journal as what is held.
        if left != before && self.pending.is_empty() {
            out.push(Output::Journal(JournalEntry::Remaining(left)));
        }
        self.tell_the_rest(now, out);
        if self.ending.is_some() {
            self.wait_for_the_end(now, out);
        }
    }

    /// Tells others and the agent what remains, if that is news.
    fn tell_the_rest(&mut self, now: Instant, out: &mut Vec<Output>) {
        let told = Told {
            remains: self.remaining.remains(),
            stuck: self.remaining.stuck(now),
            goes_on: self.remaining.goes_on(now),
        };
        let before = std::mem::replace(&mut self.told, told);
        if before.remains != self.told.remains {
            self.say_word(self.released, out);
        }
        if (&before.stuck, before.goes_on) != (&self.told.stuck, self.told.goes_on) {
            for (group, why) in &self.told.stuck {
                if !before.stuck.contains_key(group) {
                    out.push(Output::Log(format!("{group} is not let go of yet: {why}")));
                }
            }
            self.answer(0, None, out);
        }
    }

    fn say_word(&mut self, released: bool, out: &mut Vec<Output>) {
        self.released = released;
        let unsaid = self.makes(Mistake::RemainsUnsaid);
        let remains = if unsaid { Remains::default() } else { self.remaining.remains() };
        let early = self.makes(Mistake::EpochTooEarly) && !self.all().is_empty();
        let (epoch, holds) = (self.epoch + u64::from(early), !self.held.is_empty());
        out.push(Output::Word(Word { epoch, remains, released, holds }));
    }

    fn configure(&mut self, table: String, timing: Timing, out: &mut Vec<Output>) {
        self.timing = timing;
        out.push(Output::ReleaseMax(timing.release_max_ms));
        if self.table.as_ref() == Some(&table) {
            return self.tell_backing(out);
        }
        self.remove_gate(out);
        out.push(Output::Journal(JournalEntry::Gate(table.clone())));
        self.ask_gate(GatePurpose::Configure, GateOrder::Attempt(table.clone()), out);
        self.table = Some(table);
    }

    fn tell_backing(&mut self, out: &mut Vec<Output>) {
        if self.said != (self.backing(), self.watchdog_fault(), self.no_reaper.clone()) {
            self.answer(0, None, out);
        }
    }

    fn hold(&mut self, mut order: Box<Hold>, out: &mut Vec<Output>) {
        self.remaining.strip(&mut order.held, &order.anew);
        if let Some(why) = self.why_not(&order) {
            self.answer(order.sequence, Some(why), out);
            return self.strike_out(out);
        }
        let more = !order.held.is_within(&self.held);
        out.push(Output::Post(order.held.clone()));
        self.asked = Some((order, more));
    }

    /// Reason why an order cannot be followed, if it cannot.
    fn why_not(&self, order: &Hold) -> Option<String> {
        if order.epoch != self.epoch && !self.makes(Mistake::EpochIgnored) {
            return Some(format!(
                "it is of epoch {}, and this is epoch {}: everything was let go of in between",
                order.epoch, self.epoch
            ));
        }
        if self.releasing || !self.pending.is_empty() {
            return Some("what was held before is not let go of yet".into());
        }
        let more = !order.held.is_within(&self.held);
        (more && !self.leased).then(|| "this node has no lease".into())
    }

    fn posted(&mut self, now: Instant, result: Result<(), String>, out: &mut Vec<Output>) {
        let Some((order, _)) = &mut self.asked else {
            if let Err(why) = result {
                out.push(Output::Log(format!(
                    "the reaper does not know what this node holds: {why}"
                )));
            }
            return;
        };
        if let Err(why) = result {
            let sequence = order.sequence;
            self.asked = None;
            self.answer(sequence, Some(why), out);
            return self.strike_out(out);
        }
        let held = std::mem::take(&mut order.held);
        let addresses = held.addresses.iter().map(|held| held.address);
        let known: BTreeSet<_> = order.known.iter().copied().chain(addresses).collect();
        let anew = std::mem::take(&mut order.anew);
        (self.known, self.held) = (known.into_iter().collect(), held);
        if self.remaining.take_back(&anew) && self.pending.is_empty() {
            out.push(Output::Journal(JournalEntry::Remaining(self.remaining.held())));
            self.tell_the_rest(now, out);
        }
        self.refresh_gate(out);
    }

    /// The order that waited is followed.
    fn follow(&mut self, out: &mut Vec<Output>) {
        let Some((order, more)) = self.asked.take() else { return };
        out.push(Output::WantGrants(!self.held.is_empty()));
        self.say_word(self.released && !more, out);
        self.answer(order.sequence, None, out);
        self.strike_out(out);
    }

    fn strike_out(&self, out: &mut Vec<Output>) {
        out.push(Output::Journal(JournalEntry::Held(self.all())));
    }

    fn live(&self) -> Vec<IpAddr> {
        self.held.addresses.iter().map(|held| held.address).collect()
    }

    fn ask_gate(&mut self, purpose: GatePurpose, order: GateOrder, out: &mut Vec<Output>) {
        self.gate_asked = Some(purpose);
        out.push(Output::Gate(order));
    }

    /// Brings the gate in line with what is known and held.
    fn refresh_gate(&mut self, out: &mut Vec<Output>) {
        // Without a service address in the cluster there is nothing to keep out.
        let wanted = !self.known.is_empty();
        if !wanted && self.gate_available {
            self.remove_gate(out);
            return self.follow(out);
        }
        match self.table.clone() {
            None => {
                self.gate_failed("not configured yet", out);
                self.follow(out);
            }
            Some(table) if wanted => self.raise(GatePurpose::Refresh, table, out),
            Some(table) => self.ask_gate(GatePurpose::Refresh, GateOrder::Attempt(table), out),
        }
    }

    fn raise(&mut self, purpose: GatePurpose, table: String, out: &mut Vec<Output>) {
        let (known, live, until) = (self.known.clone(), self.live(), self.lease.until);
        self.ask_gate(purpose, GateOrder::Guard { table, known, live, until }, out);
    }

    fn gate_answered(&mut self, result: Result<(), String>, out: &mut Vec<Output>) {
        match self.gate_asked.take() {
            None => {}
            Some(GatePurpose::Configure) => {
                self.gate_available = result.is_ok();
                self.tell_backing(out);
            }
            Some(GatePurpose::Refresh) => {
                self.refreshed(&result, out);
                self.follow(out);
            }
            Some(GatePurpose::Open) => {
                let (Err(why), Some(table)) = (result, self.table.clone()) else { return };
                let was = self.backing();
                self.gate = Gate::Broken;
                self.raise(GatePurpose::Raise(why, was), table, out);
            }
            Some(GatePurpose::Raise(first, was)) => {
                self.raised(&result, out);
                if result.is_ok() {
                    let text = format!("the kernel's gate was made anew: {first}");
                    out.push(Output::Log(text));
                    self.spread = self.lease.until;
                }
                if self.backing() != was {
                    self.answer(0, None, out);
                }
            }
        }
    }

    fn refreshed(&mut self, result: &Result<(), String>, out: &mut Vec<Output>) {
        if !self.known.is_empty() {
            return self.raised(result, out);
        }
        match result {
            Ok(()) => (self.gate_available, self.warned) = (true, false),
            Err(why) => self.gate_failed(why, out),
        }
        self.remove_gate(out);
    }

    fn raised(&mut self, result: &Result<(), String>, out: &mut Vec<Output>) {
        match result {
            Ok(()) => {
                (self.gate, self.spread) = (Gate::Up, None);
                (self.gate_available, self.warned) = (true, false);
            }
            Err(why) => {
                self.gate = Gate::Broken;
                self.gate_failed(why, out);
            }
        }
    }

    fn gate_failed(&mut self, why: &str, out: &mut Vec<Output>) {
        self.gate_available = false;
        if !std::mem::replace(&mut self.warned, true) {
            let text = format!(
                "the kernel does not watch over the service addresses: {why}. It takes nf_tables \
                 (modules nf_tables, nf_tables_inet, nf_tables_arp) and CAP_NET_ADMIN; without, \
                 configure a watchdog or fencing"
            );
            out.push(Output::Tell(Announcement::Warning { text }));
        }
    }

    fn remove_gate(&mut self, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.gate, Gate::None) != Gate::None {
            out.push(Output::Gate(GateOrder::Remove));
        }
    }

    /// Makes the gate and the agent know the present end of the lease; often enough, not always.
    fn spread(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(until) = self.lease.until else { return };
        let step = Duration::from_millis(self.timing.lease_ms) / 8;
        // Timers that became faster have shortened it: kernel and agent must not go by the longer one.
        let shortened = self.spread.is_some_and(|spread| until < spread);
        if !shortened && self.spread.is_some_and(|spread| until < spread + step) {
            return;
        }
        debug_assert!(now < until, "only a lease that lasts is spread");
        if self.gate == Gate::Up && self.gate_asked.is_none() {
            let live = self.live();
            self.ask_gate(GatePurpose::Open, GateOrder::Open { live, until: Some(until) }, out);
        }
        self.spread = Some(until);
        out.push(Output::Tell(Announcement::Lease { until }));
    }

    fn backing(&self) -> Backing {
        let (lease, release_max, margin) = self.times();
        // A watchdog ends data as well, which the kernel's gate does not.
        match &self.dog {
            Some(dog) if dog.facts.is_firm(lease, release_max, margin) => Backing::Watchdog,
            _ if self.gate_stands() => Backing::Kernel,
            _ => Backing::None,
        }
    }

    fn times(&self) -> (Duration, Duration, Duration) {
        let timing = &self.timing;
        let lease = Duration::from_millis(timing.lease_ms);
        (lease, Duration::from_millis(timing.release_max_ms), timing.interval())
    }

    /// Reason why the watchdog that is configured stands behind nothing, if it does not. Where the gate
    /// stands, one that is slow is a second line all the same.
    fn watchdog_fault(&self) -> Option<String> {
        let Some(dog) = &self.dog else { return self.no_dog.clone() };
        if self.table.is_none() || self.backing() != Backing::None {
            return None;
        }
        let (lease, release_max, margin) = self.times();
        let why = dog.facts.why_not_firm(lease, release_max, margin)?;
        Some(format!("{} {why}", dog.facts.path))
    }

    /// Whether the gate is up, or would be if there were anything to guard.
    fn gate_stands(&self) -> bool {
        match self.gate {
            Gate::None => self.gate_available,
            up => up == Gate::Up,
        }
    }

    fn pet(&mut self, now: Instant, out: &mut Vec<Output>) {
        let alone = self.backing() == Backing::Watchdog;
        let fresh = alone && !self.held.is_empty();
        let release_max = Duration::from_millis(self.timing.release_max_ms);
        let left = self.lease.until.map_or(Duration::ZERO, |until| until.since(now));
        // The first line has to hold, whatever remains.
        let gone = self.pending.is_empty() && !(alone && self.remaining.is_overdue(now));
        let Some(dog) = &mut self.dog else { return };
        if now < dog.due && !fresh {
            return;
        }
        let every = dog.facts.every();
        dog.due = now + every / 2;
        let beats = std::mem::replace(&mut dog.turns, self.turns) != self.turns;
        let leased = dog.facts.may_be_petted(left, release_max, alone);
        if beats && gone && (self.held.is_empty() || leased) {
            dog.due = now + every;
            out.push(Output::Pet);
        }
        // A heartbeat that has nothing to do turns once for this.
        out.push(Output::Nudge);
    }

    fn end(&mut self, now: Instant, out: &mut Vec<Output>) {
        let held = self.all();
        (self.held, self.pending) = (Held::default(), held.clone().without_the_slow());
        self.remaining.add(now, &held);
        self.ending = Some(Ending { until: None, failed: Vec::new() });
        let programs = self.remaining.to_start();
        if !programs.programs.is_empty() {
            out.push(Output::LookAt(programs));
        }
        if !self.releasing {
            self.releasing = true;
            out.push(Output::Release { held: self.pending.clone(), within: self.end_within() });
        }
    }

    fn end_within(&self) -> Duration {
        Duration::from_millis(self.timing.release_max_ms).max(END_WITHIN)
    }

    fn ended_in(&mut self, now: Instant, outcome: Released, out: &mut Vec<Output>) {
        let until = now + self.end_within().max(self.remaining.longest());
        if let Some(ending) = &mut self.ending {
            (ending.until, ending.failed) = (Some(until), outcome.failed);
        }
        out.push(Output::LookAt(self.remaining.to_look_at()));
    }

    /// Programs and data are waited for, for a while.
    fn wait_for_the_end(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(Ending { until: Some(until), failed }) = &self.ending else { return };
        if !self.remaining.is_empty() && now < *until {
            if now >= self.look_at {
                self.look_at = now + LOOK;
                out.push(Output::LookAt(self.remaining.to_look_at()));
            }
            return;
        }
        let mut failed = failed.clone();
        failed.extend(self.remaining.sentences());
        self.ending = None;
        if !failed.is_empty() {
            let left = failed.join("; ");
            out.push(Output::Log(format!(
                "the guard ends, and not everything could be let go of: {left}"
            )));
            if self.gate == Gate::Up {
                out.push(Output::Gate(GateOrder::Close));
            }
            // The watchdog is not closed: it ends what the guard could not.
            return out.push(Output::Ended(false));
        }
        self.pending = Held::default();
        out.push(Output::Post(Held::default()));
        self.remove_gate(out);
        out.push(Output::Journal(JournalEntry::Ended));
        out.push(Output::CloseWatchdog);
        out.push(Output::Ended(true));
    }

    fn answer(&mut self, sequence: u64, refused: Option<String>, out: &mut Vec<Output>) {
        let (backing, watchdog) = (self.backing(), self.watchdog_fault());
        let reaper = self.no_reaper.clone();
        let said = (backing, watchdog.clone(), reaper.clone());
        let before = std::mem::replace(&mut self.said, said);
        if let Some(why) = watchdog.as_ref().filter(|why| before.1.as_ref() != Some(why)) {
            let text = format!("the watchdog stands behind nothing: {why}");
            out.push(Output::Tell(Announcement::Warning { text }));
        }
        let until = self.lease.until.filter(|_| self.leased);
        let holding = Holding {
            sequence,
            refused,
            epoch: self.epoch,
            held: self.held.clone(),
            backing,
            watchdog,
            reaper,
            unreleased: self.unreleased.clone(),
            stuck: self.told.stuck.clone(),
            goes_on: self.told.goes_on,
            lease_until_us: until.map_or(0, Instant::as_micros),
            last_release_us: self.last_release_us,
        };
        out.push(Output::Tell(Announcement::Holding(Box::new(holding))));
    }
}
