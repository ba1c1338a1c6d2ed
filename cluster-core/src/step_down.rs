//! When a director gives up the office by itself.
//!
//! What a director decides on is what its guard hears, and its beats tell the others that there is one. If
//! somebody stops that guard while its agent goes on, the log has a leader that a majority confirms, and yet nobody
//! is in touch with it, and nothing is taken over. So an agent that misses two reports of its guard lets
//! another node lead, and does not stand for election until it hears its guard again. Leases do not depend on it:
//! half the detection time is how long the others may know nothing of now.
//!
//! The same goes for a director whose guard nobody hears, so that it has no lease: it sees its own links, and
//! nobody hears that it is there. It lets another lead if there is one.
//!
//! Needlessly changed is little lost, so there is no proof to wait for. Only an agent that was held up
//! itself reads first what its guard said meanwhile.

use std::time::Duration;

use crate::time::Instant;

/// Effects of a [`StepDown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Stand for election from now on, or not any more.
    MayLead(bool),
    /// Let another node lead, if this one does and another can.
    HandOver,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepDown {
    /// Since when the next report is waited for, and for how long: by the timers that the guard has just shown to go by.
    /// There is nothing to miss before the first one.
    waits: Option<(Instant, Duration)>,
    silent: bool,
    /// Since when the guard has had no lease.
    unheard: Option<Instant>,
}

impl StepDown {
    /// When to call [`StepDown::on_timeout`], if no report comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.waits.map(|(since, patience)| since + patience)
    }

    /// A report of the guard, which has a lease or not.
    pub fn report(&mut self, now: Instant, lease: bool, detect: Duration, out: &mut Vec<Output>) {
        let since = self.waits.replace((now, detect / 2)).map_or(now, |(since, _)| since);
        if std::mem::take(&mut self.silent) {
            out.push(Output::MayLead(true));
            return;
        }
        self.unheard = if lease { None } else { self.unheard.or(Some(since)) };
        if self.unheard.is_some_and(|since| now.since(since) >= detect) {
            self.unheard = None;
            out.push(Output::HandOver);
        }
    }

    /// No report came for half the detection time.
    pub fn on_timeout(&mut self, now: Instant, detect: Duration, out: &mut Vec<Output>) {
        let due = |(since, patience): &(Instant, Duration)| now.since(*since) >= *patience;
        let Some((since, patience)) = self.waits.filter(due) else { return };
        self.waits = Some((now, detect / 2));
        // Who comes so late was held up itself.
        if now.since(since) > patience + patience / 4 {
            return;
        }
        if !std::mem::replace(&mut self.silent, true) {
            out.push(Output::MayLead(false));
        }
        out.push(Output::HandOver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETECT: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(7_000_000 + ms * 1_000)
    }

    fn report(machine: &mut StepDown, ms: u64, lease: bool) -> Vec<Output> {
        let mut out = Vec::new();
        machine.report(at(ms), lease, DETECT, &mut out);
        out
    }

    fn passes(machine: &mut StepDown, ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        machine.on_timeout(at(ms), DETECT, &mut out);
        out
    }

    #[test]
    fn a_director_whose_guard_is_silent_lets_another_lead_until_it_is_heard() {
        let mut machine = StepDown::default();
        assert_eq!(machine.deadline(), None, "nothing to miss yet");
        assert_eq!(report(&mut machine, 0, true), []);
        assert_eq!(machine.deadline(), Some(at(500)));
        assert_eq!(passes(&mut machine, 499), []);
        assert_eq!(passes(&mut machine, 500), [Output::MayLead(false), Output::HandOver]);
        assert_eq!(passes(&mut machine, 1_000), [Output::HandOver], "again, if it led again");
        assert_eq!(report(&mut machine, 1_100, true), [Output::MayLead(true)]);
        assert_eq!(report(&mut machine, 1_200, true), []);
    }

    /// An agent that stood still itself has missed nothing but its own time.
    #[test]
    fn who_was_held_up_reads_first_what_was_said_meanwhile() {
        let mut machine = StepDown::default();
        report(&mut machine, 0, true);
        assert_eq!(passes(&mut machine, 9_000), []);
        assert_eq!(machine.deadline(), Some(at(9_500)));
        assert_eq!(report(&mut machine, 9_001, true), []);
    }

    #[test]
    fn a_director_that_nobody_hears_lets_another_lead() {
        let mut machine = StepDown::default();
        report(&mut machine, 0, true);
        assert_eq!(report(&mut machine, 100, false), []);
        assert_eq!(report(&mut machine, 900, false), []);
        assert_eq!(
            report(&mut machine, 1_000, false),
            [Output::HandOver],
            "since the last good one"
        );
        assert_eq!(report(&mut machine, 1_100, true), []);
        assert_eq!(report(&mut machine, 2_000, false), []);
    }
}
