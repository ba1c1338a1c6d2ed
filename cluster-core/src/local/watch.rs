//! The machine that turns what is the case on a node into local records.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Severity;
use crate::record::{Code, Subject};
use crate::time::Instant;

use super::{Draft, Phase};

/// One condition of this node, as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its code, one of [`Code::CONDITIONS`].
    pub code: Code,
    /// About what.
    pub subject: Subject,
    /// The subject's name.
    pub subject_name: String,
    /// What is the case, in one sentence without full stop, when it is raised.
    pub raised: String,
    /// What is said when it is over.
    pub cleared: String,
    /// Why.
    pub cause: String,
    /// How bad.
    pub severity: Severity,
    /// Whether the alert script runs for both ends.
    pub alert: bool,
}

/// Something that lasts no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Its code.
    pub code: Code,
    /// About what.
    pub subject: Subject,
    /// The subject's name.
    pub subject_name: String,
    /// One sentence without full stop.
    pub message: String,
    /// Why.
    pub cause: String,
    /// How bad.
    pub severity: Severity,
    /// How long it took or lasted.
    pub duration_ms: Option<u64>,
    /// Whether the alert script runs for it.
    pub alert: bool,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// All conditions of `code` that hold now; those that are not named hold no more.
    Conditions(Code, Vec<Condition>),
    /// Something happened.
    Happened(Happened),
}

type Key = (Code, Subject);

/// A condition that was raised.
#[derive(Clone, Debug)]
struct Standing {
    condition: Condition,
    since: Instant,
    /// Length of it before `since`, in earlier runs.
    before: Duration,
}

impl Standing {
    fn lasted(&self, now: Instant) -> Duration {
        now.since(self.since) + self.before
    }
}

/// How often one code and subject was told lately.
#[derive(Clone, Debug, Default)]
struct Rate {
    begun: Instant,
    told: u32,
    /// What was not told, to be summarised when the window ends.
    held_back: u64,
    last: Option<Draft>,
    held_at: Instant,
    /// Raised was told, cleared not yet: the pair must be closed.
    open: bool,
    /// Conditions that lasted and were told in spite of the rate.
    lasting: u32,
}

impl Rate {
    /// The end of the time for which a condition that was held back has to hold to be told in spite of the
    /// rate: ever longer, so that what flaps slowly is bounded as well.
    fn lasts_until(&self, holds: bool) -> Option<Instant> {
        let untold = holds && self.held_back > 0 && !self.open;
        untold.then(|| self.held_at + Watch::SETTLES * (1 << self.lasting.min(5)))
    }
}

/// See [`crate::local`].
#[derive(Clone, Debug, Default)]
pub struct Watch {
    standing: BTreeMap<Key, Standing>,
    rates: BTreeMap<Key, Rate>,
}

impl Watch {
    /// How many records one code and subject makes in one [`Self::WINDOW`].
    pub const BURST: u32 = 6;

    /// The same of what service depends on: each loss of quorum, and each release, is told when it happens. A
    /// lease takes its time to end, which bounds them besides.
    pub const BURST_OF_LOSSES: u32 = 60;

    /// The time after which what was held back is told as one record.
    pub const WINDOW: Duration = Duration::from_secs(60);

    /// A condition that was held back and holds for so long is told: it may be the one that stays.
    pub const SETTLES: Duration = Duration::from_secs(2);

    /// Goes on with a condition that an earlier run told and that has lasted for some time: whether it still
    /// holds is seen later, and then its end is told, once.
    pub fn restore(&mut self, now: Instant, condition: Condition, lasted: Duration) {
        let key = (condition.code, condition.subject);
        let rate = Rate { begun: now, held_at: now, open: true, told: 1, ..Rate::default() };
        self.rates.insert(key, rate);
        self.standing.insert(key, Standing { condition, since: now, before: lasted });
    }

    /// A condition that stands began earlier than it was seen. What an earlier run told of it is not counted
    /// twice.
    pub fn backdate(&mut self, code: Code, subject: Subject, since: Instant) {
        if let Some(standing) = self.standing.get_mut(&(code, subject))
            && since < standing.since
        {
            standing.before = standing.before.saturating_sub(standing.since.since(since));
            standing.since = since;
        }
    }

    /// Takes what is the case now.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Draft>) {
        match input {
            Input::Conditions(code, conditions) => self.compare(now, code, conditions, out),
            Input::Happened(happened) => {
                let key = (happened.code, happened.subject);
                self.tell(now, key, once(happened), out);
            }
        }
    }

    /// Tells summaries that are due.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Draft>) {
        let over: Vec<Key> = self
            .rates
            .iter()
            .filter(|(_, rate)| now.since(rate.begun) >= Self::WINDOW)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            let Some(rate) = self.rates.remove(&key) else { continue };
            self.summarise(now, key, rate, out);
        }
        let lasting = self.rates.iter_mut().filter(|(key, rate)| {
            let due = rate.lasts_until(self.standing.contains_key(key));
            due.is_some_and(|due| now >= due)
        });
        for (_, rate) in lasting {
            let Some(last) = rate.last.take() else { continue };
            let seconds = now.since(rate.begun).as_secs();
            let message =
                format!("{}: {} more like it in {seconds} s", last.message, rate.held_back);
            out.push(Draft { phase: Phase::Raised, message, times: rate.held_back, ..last });
            (rate.held_back, rate.open, rate.lasting) = (0, true, rate.lasting + 1);
        }
    }

    /// When something that was held back is due.
    pub fn deadline(&self) -> Option<Instant> {
        let held_back = self.rates.iter().filter(|(_, rate)| rate.held_back > 0);
        let due = |(key, rate): (&Key, &Rate)| {
            let settled = rate.lasts_until(self.standing.contains_key(key));
            settled.into_iter().chain([rate.begun + Self::WINDOW]).min()
        };
        held_back.filter_map(due).min()
    }

    /// Conditions that hold, with the time for which they have held.
    pub fn standing(&self, now: Instant) -> impl Iterator<Item = (&Condition, Duration)> {
        self.standing.values().map(move |it| (&it.condition, it.lasted(now)))
    }

    fn compare(
        &mut self,
        now: Instant,
        code: Code,
        conditions: Vec<Condition>,
        out: &mut Vec<Draft>,
    ) {
        let named = |key: &Key| conditions.iter().any(|it| it.subject == key.1);
        let over: Vec<Key> =
            self.standing.keys().filter(|key| key.0 == code && !named(key)).copied().collect();
        for key in over {
            let Some(was) = self.standing.remove(&key) else { continue };
            self.tell(now, key, cleared(&was, now), out);
        }
        for condition in conditions {
            let key = (code, condition.subject);
            if let Some(known) = self.standing.get_mut(&key) {
                known.condition = condition;
                continue;
            }
            let draft = raised(&condition);
            self.standing.insert(key, Standing { condition, since: now, before: Duration::ZERO });
            self.tell(now, key, draft, out);
        }
    }

    /// Tells a draft, or holds it back where this code and subject was told too often.
    fn tell(&mut self, now: Instant, key: Key, draft: Draft, out: &mut Vec<Draft>) {
        let known = self.rates.get(&key).is_some_and(|it| now.since(it.begun) >= Self::WINDOW);
        if known && let Some(rate) = self.rates.remove(&key) {
            self.summarise(now, key, rate, out);
        }
        let begun = || Rate { begun: now, held_at: now, ..Rate::default() };
        let rate = self.rates.entry(key).or_insert_with(begun);
        // What was told as raised is told as cleared as well, whatever the rate.
        let closes = draft.phase == Phase::Cleared && rate.open;
        let burst = match key.0 {
            Code::QuorumLost | Code::GroupReleased => Self::BURST_OF_LOSSES,
            _ => Self::BURST,
        };
        let room = rate.told < burst && draft.phase != Phase::Cleared;
        if closes || room {
            rate.told += 1;
            rate.open = draft.phase == Phase::Raised;
            out.push(draft);
        } else {
            rate.held_back += 1;
            (rate.last, rate.held_at) = (Some(draft), now);
        }
    }

    /// Tells what was held back as one record, and how things stand now.
    fn summarise(&mut self, now: Instant, key: Key, rate: Rate, out: &mut Vec<Draft>) {
        let Some(last) = rate.last.filter(|_| rate.held_back > 0) else {
            if rate.open {
                // The pair is still to be closed: the rate begins anew, and remembers that.
                self.rates.insert(key, Rate { begun: now, open: true, ..Rate::default() });
            }
            return;
        };
        let stands = self.standing.get(&key);
        let phase = match (stands.is_some(), rate.open) {
            (true, false) => Phase::Raised,
            (false, true) => Phase::Cleared,
            _ => Phase::Happened,
        };
        let seconds = Self::WINDOW.as_secs();
        let message = format!("{}: {} more like it in {seconds} s", last.message, rate.held_back);
        out.push(Draft { phase, message, times: rate.held_back, ..last });
        if stands.is_some() {
            self.rates.insert(key, Rate { begun: now, open: true, told: 1, ..Rate::default() });
        }
    }
}

fn once(happened: Happened) -> Draft {
    Draft {
        code: happened.code,
        phase: Phase::Happened,
        severity: happened.severity,
        subject: happened.subject,
        subject_name: happened.subject_name,
        message: happened.message,
        cause: happened.cause,
        duration_ms: happened.duration_ms,
        times: 1,
        alert: happened.alert,
    }
}

fn raised(condition: &Condition) -> Draft {
    Draft {
        code: condition.code,
        phase: Phase::Raised,
        severity: condition.severity,
        subject: condition.subject,
        subject_name: condition.subject_name.clone(),
        message: condition.raised.clone(),
        cause: condition.cause.clone(),
        duration_ms: None,
        times: 1,
        alert: condition.alert,
    }
}

/// The end of a quorum's absence has a code of its own, as its beginning has.
fn cleared(was: &Standing, now: Instant) -> Draft {
    let condition = &was.condition;
    let code = match condition.code {
        Code::QuorumLost => Code::QuorumRegained,
        other => other,
    };
    let lasted = was.lasted(now);
    Draft {
        code,
        phase: Phase::Cleared,
        severity: Severity::Notice,
        message: condition.cleared.clone(),
        cause: format!("after {:.1} s", lasted.as_secs_f64()),
        duration_ms: Some(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
        ..raised(condition)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::NodeNumber;

    const N1: Subject = Subject::Node(NodeNumber(1));

    fn late() -> Condition {
        Condition {
            code: Code::NodeLate,
            subject: N1,
            subject_name: "n1".into(),
            raised: "n1 was late itself".into(),
            cleared: "n1 is in time again".into(),
            cause: "its guard was not run for 700 ms".into(),
            severity: Severity::Warning,
            alert: false,
        }
    }

    fn step(watch: &mut Watch, ms: u64, holds: bool) -> Vec<Draft> {
        let mut out = Vec::new();
        let now = Instant::from_millis(ms);
        watch.on_timeout(now, &mut out);
        let all = if holds { vec![late()] } else { Vec::new() };
        watch.handle(now, Input::Conditions(Code::NodeLate, all), &mut out);
        out
    }

    fn phases(drafts: Vec<Draft>) -> Vec<Phase> {
        drafts.iter().map(|draft| draft.phase).collect()
    }

    #[test]
    fn a_condition_is_told_at_both_ends_and_once() {
        let mut watch = Watch::default();
        assert_eq!(phases(step(&mut watch, 0, true)), [Phase::Raised]);
        assert_eq!(phases(step(&mut watch, 10, true)), []);
        let end = step(&mut watch, 1_500, false);
        assert_eq!((end[0].phase, end[0].duration_ms), (Phase::Cleared, Some(1_500)));
        assert_eq!(phases(step(&mut watch, 1_600, false)), []);
    }

    /// Ten thousand edges of a flapping condition are a handful of records and one count.
    #[test]
    fn what_flaps_is_counted_and_summarised() {
        let mut watch = Watch::default();
        let mut all = Vec::new();
        for edge in 0..10_000_u64 {
            all.extend(step(&mut watch, edge, edge % 2 == 0));
        }
        assert!(all.len() <= Watch::BURST as usize + 1, "{}", all.len());
        assert_eq!(watch.deadline(), Some(Instant::from_millis(60_000)));
        let mut summary = Vec::new();
        watch.on_timeout(Instant::from_millis(60_000), &mut summary);
        assert_eq!(summary.len(), 1);
        let counted: u64 = all.iter().chain(&summary).map(|it| it.times).sum();
        assert_eq!(counted, 10_000, "nothing is lost but what is counted");
        assert_eq!(watch.deadline(), None);
    }

    /// A condition that flapped and then stays is told within seconds, however often it was told before.
    #[test]
    fn what_lasts_is_told_in_spite_of_the_rate() {
        let mut watch = Watch::default();
        for flap in 0..20_u64 {
            step(&mut watch, flap * 100, flap % 2 == 0);
        }
        assert_eq!(phases(step(&mut watch, 3_000, true)), []);
        let due = watch.deadline().expect("it waits");
        assert_eq!(due, Instant::from_millis(3_000) + Watch::SETTLES);
        let mut told = Vec::new();
        watch.on_timeout(due, &mut told);
        assert!(told[0].times > 1, "with what was held back: {told:?}");
        assert_eq!(phases(told), [Phase::Raised]);
        assert_eq!(phases(step(&mut watch, 20_000, false)), [Phase::Cleared]);
    }

    /// What an earlier run told is told as over by this one, with the length of all of it.
    #[test]
    fn a_condition_outlives_its_run() {
        let mut watch = Watch::default();
        watch.restore(Instant::from_millis(100), late(), Duration::from_secs(60));
        assert_eq!(phases(step(&mut watch, 200, true)), [], "it was told");
        watch.backdate(Code::NodeLate, N1, Instant::from_millis(900));
        let lasted: Vec<_> = watch.standing(Instant::from_millis(1_100)).map(|it| it.1).collect();
        assert_eq!(lasted, [Duration::from_secs(61)]);
        let end = step(&mut watch, 2_100, false);
        assert_eq!((end[0].phase, end[0].duration_ms), (Phase::Cleared, Some(62_000)));
        assert_eq!(phases(step(&mut watch, 2_200, true)), [Phase::Raised], "and another one");
    }

    /// An agent that was started anew during a loss hears from its guard when that began: what the run before
    /// told is the same time, and counts once.
    #[test]
    fn what_an_earlier_run_told_is_not_counted_twice() {
        let mut watch = Watch::default();
        watch.restore(Instant::from_millis(10_000), late(), Duration::from_secs(6));
        watch.backdate(Code::NodeLate, N1, Instant::from_millis(3_900));
        let lasted = |watch: &Watch, now| -> Vec<Duration> {
            watch.standing(Instant::from_millis(now)).map(|it| it.1).collect()
        };
        assert_eq!(lasted(&watch, 13_800), [Duration::from_millis(9_900)]);
        watch.backdate(Code::NodeLate, N1, Instant::from_millis(5_000));
        assert_eq!(lasted(&watch, 13_800), [Duration::from_millis(9_900)], "it began before that");
    }

    /// Quorum lost has its clear, under its own code.
    #[test]
    fn quorum_regained_clears_quorum_lost() {
        let mut watch = Watch::default();
        let lost = Condition { code: Code::QuorumLost, ..late() };
        let mut out = Vec::new();
        let now = Instant::from_millis;
        watch.handle(now(0), Input::Conditions(Code::QuorumLost, vec![lost]), &mut out);
        watch.handle(now(800), Input::Conditions(Code::QuorumLost, vec![]), &mut out);
        let codes: Vec<Code> = out.iter().map(|it| it.code).collect();
        assert_eq!(codes, [Code::QuorumLost, Code::QuorumRegained]);
    }

    /// Losses that follow each other quickly are told each, when it begins and when it is over.
    #[test]
    fn no_loss_of_quorum_waits_for_a_summary() {
        let mut watch = Watch::default();
        let lost = || Condition { code: Code::QuorumLost, ..late() };
        for round in 0..20 {
            for (at, lost) in [(0, vec![lost()]), (1_000, vec![])] {
                let at = Instant::from_millis(round * 2_500 + at);
                let mut out = Vec::new();
                watch.handle(at, Input::Conditions(Code::QuorumLost, lost), &mut out);
                assert_eq!((out.len(), out[0].times), (1, 1), "round {round}: {out:?}");
            }
        }
    }

    proptest! {
        /// Raised and cleared alternate, whatever the edges and pauses; each edge is counted once.
        #[test]
        fn ends_alternate(edges in prop::collection::vec((any::<bool>(), 1..40_000_u64), 1..200)) {
            let (mut watch, mut at, mut was) = (Watch::default(), 0, false);
            let (mut open, mut counted, mut made) = (false, 0, 0);
            let mut check = |drafts: Vec<Draft>| -> Result<(), TestCaseError> {
                for draft in drafts {
                    counted += draft.times;
                    match draft.phase {
                        Phase::Raised => { prop_assert!(!open); open = true; }
                        Phase::Cleared => { prop_assert!(open); open = false; }
                        Phase::Happened => prop_assert!(draft.times > 1 || draft.message.contains("more")),
                    }
                }
                Ok(())
            };
            for (holds, pause) in edges {
                at += pause;
                made += u64::from(holds != was);
                was = holds;
                check(step(&mut watch, at, holds))?;
            }
            let mut rest = Vec::new();
            watch.on_timeout(Instant::from_millis(at + 60_000), &mut rest);
            check(rest)?;
            prop_assert_eq!(counted, made);
            prop_assert_eq!(open, was);
        }
    }
}
