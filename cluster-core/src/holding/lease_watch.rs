//! The agent's own eye on the lease, for a guard that is stopped, or gone.
//!
//! The guard releases at the lease's end. If it cannot, because somebody stopped it or it died, the
//! agent does the same. It begins a little after the guard would have, so that normally the guard is done before.
//!
//! An end of the lease that is noticed late may be no end: whoever was stopped itself (a debugger, a
//! frozen machine) has not heard the guard, which may have gone on all the time. A guard says that it
//! has let go before it says anything of a lease that was granted anew; so one word of a lease that
//! lasts is enough, and it is waited for as long as a release may take, not longer.
//!
//! Invariants: nothing is acquired on a lease that is over or on an answer that refused it; a grant after the end
//! does not undo the end of what was held; after the guard is gone nothing is held any more.

use std::time::Duration;

use super::{Announcement, Held, Holding};
use crate::time::Instant;

/// Between two attempts to let go of what does not go.
const AGAIN: Duration = Duration::from_millis(100);
/// Attempts when the guard is gone; the agent ends then, whatever is left.
const LAST_ATTEMPTS: usize = 10;
/// Whoever wakes so much later than it wanted did not run because nothing of its process did.
const LATE: Duration = Duration::from_millis(20);

/// Effects of a [`LeaseWatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchOutput {
    /// Let go of that, release programs as well; answered by [`LeaseWatch::released`].
    LetGo {
        /// Everything that is to go.
        held: Held,
        /// Longest time for it, but for its programs.
        within: Duration,
        /// The reason, for the log.
        why: &'static str,
    },
    /// Everything was let go of here.
    Released,
    /// The guard speaks again, and sees to what could not be let go of.
    LeftToGuard,
    /// The guard is gone, and what could be let go of is; whether that is everything.
    Ended(bool),
}

/// Something that is being let go of.
#[derive(Clone, Debug)]
struct Attempt {
    held: Held,
    /// What was held when it began has to go as well.
    more: Held,
    words: u64,
    under_way: bool,
    again: Instant,
    tries: usize,
}

/// Watch over what the agent holds.
#[derive(Clone, Debug, Default)]
pub struct LeaseWatch {
    held: Held,
    until: Instant,
    release_max: Duration,
    /// The guard is gone, and with it every lease.
    gone: bool,
    /// This process stood still when the lease ended: until when the guard may say that it did not end.
    stood_still: Option<Instant>,
    /// How often the guard said something that a guard that is stopped does not say.
    words: u64,
    attempt: Option<Attempt>,
}

impl LeaseWatch {
    /// Holds something from now on, by an answer of the guard. Answers whether the guard accepted it and the
    /// lease still lasts; if not, nothing may be acquired on that ground.
    pub fn hold(&mut self, now: Instant, holding: &Holding, release_max: Duration) -> bool {
        if self.gone || holding.refused.is_some() {
            return false;
        }
        let until = Instant::from_micros(holding.lease_until_us);
        let more = !holding.held.is_within(&self.held);
        if more && now >= until.max(self.until) {
            return false;
        }
        if holding.lease_until_us > 0 {
            self.until = until;
        }
        (self.held, self.release_max) = (holding.held.clone(), release_max);
        true
    }

    /// Takes what the guard says.
    pub fn hear(&mut self, now: Instant, said: &Announcement) {
        self.words += u64::from(match said {
            Announcement::Lease { until } => *until > now,
            Announcement::Holding(holding) => {
                Instant::from_micros(holding.lease_until_us) > now || holding.unreleased.is_some()
            }
            Announcement::ReleasedAll { .. } => true,
            Announcement::Warning { .. } => false,
        });
        match said {
            // What ended stays ended, even if nobody was fast enough to act on it. The latest word counts: a lease
            // may have become shorter.
            Announcement::Lease { until }
                if self.held.is_empty() || self.stood_still.is_some() || now < self.until =>
            {
                self.until = *until;
            }
            Announcement::ReleasedAll { .. } => self.held = Held::default(),
            _ => {}
        }
    }

    /// The guard is gone: lets go of everything, at once and for good.
    pub fn guard_gone(&mut self, now: Instant, out: &mut Vec<WatchOutput>) {
        self.gone = true;
        self.stood_still = None;
        if self.held.is_empty() && self.attempt.is_none() {
            return out.push(WatchOutput::Ended(true));
        }
        self.take(now, out);
    }

    /// Takes the outcome of [`WatchOutput::LetGo`].
    pub fn released(&mut self, now: Instant, complete: bool, out: &mut Vec<WatchOutput>) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.under_way = false;
        attempt.tries += 1;
        if complete {
            attempt.held = std::mem::take(&mut attempt.more);
            (attempt.again, attempt.tries) = (now, 0);
            if attempt.held.is_empty() {
                self.attempt = None;
                out.push(WatchOutput::Released);
                if self.gone {
                    out.push(WatchOutput::Ended(true));
                }
                return;
            }
        } else if self.gone && attempt.tries >= LAST_ATTEMPTS {
            self.attempt = None;
            return out.push(WatchOutput::Ended(false));
        } else {
            attempt.again = now + AGAIN;
        }
        self.on_timeout(now, out);
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<WatchOutput>) {
        self.try_again(now, out);
        if self.held.is_empty() || self.gone {
            self.stood_still = None;
        } else if let Some(end) = self.stood_still {
            if now < self.until {
                self.stood_still = None;
            } else if now >= end {
                self.stood_still = None;
                self.take(now, out);
            }
        } else if now > self.due() + LATE {
            // Whether the lease goes on is for the guard to say, within the time of a release.
            self.stood_still = Some(now + self.release_max);
        } else if now >= self.due() {
            self.take(now, out);
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().filter(|it| !it.under_way).map(|it| it.again);
        let watched = (!self.held.is_empty() && !self.gone)
            .then(|| self.stood_still.unwrap_or_else(|| self.due()));
        attempt.into_iter().chain(watched).min()
    }

    /// End of the lease, if it lasts: for what must not be done a moment after it. To be asked before each step of
    /// an acquisition.
    pub fn lasts_until(&self, now: Instant) -> Option<Instant> {
        (!self.gone && now < self.until).then_some(self.until)
    }

    /// Whether something is held that no lease has ended yet.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The guard's own release comes first.
    fn due(&self) -> Instant {
        self.until + self.release_max / 3
    }

    fn take(&mut self, now: Instant, out: &mut Vec<WatchOutput>) {
        let held = std::mem::take(&mut self.held);
        let words = self.words;
        match &mut self.attempt {
            Some(attempt) if attempt.under_way => attempt.more.add(&held),
            Some(attempt) => {
                attempt.held.add(&held);
                (attempt.again, attempt.words, attempt.tries) = (now, words, 0);
            }
            None => {
                let (more, under_way, again, tries) = (Held::default(), false, now, 0);
                self.attempt = Some(Attempt { held, more, words, under_way, again, tries });
            }
        }
        self.try_again(now, out);
    }

    fn try_again(&mut self, now: Instant, out: &mut Vec<WatchOutput>) {
        let (words, gone, within) = (self.words, self.gone, self.release_max);
        let due = self.attempt.as_mut().filter(|it| !it.under_way && now >= it.again);
        let Some(attempt) = due else { return };
        // The rest is the guard's then; and what is held by now may be held again by right.
        if attempt.tries > 0 && attempt.words != words && !gone {
            self.attempt = None;
            return out.push(WatchOutput::LeftToGuard);
        }
        attempt.under_way = true;
        let why = match gone {
            true => "the guard is gone",
            false => "the guard is silent and the lease is over",
        };
        out.push(WatchOutput::LetGo { held: attempt.held.clone(), within, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::takeover::Backing;

    const RELEASE_MAX: Duration = Duration::from_millis(30);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    fn holding(until_ms: u64) -> Holding {
        Holding {
            sequence: 1,
            refused: None,
            epoch: 1,
            held: Held { groups: ["/groups/web".into()].into(), ..Held::default() },
            backing: Backing::None,
            watchdog: None,
            reaper: None,
            stuck: Default::default(),
            goes_on: false,
            unreleased: None,
            lease_until_us: at(until_ms).as_micros(),
            last_release_us: None,
        }
    }

    fn lease(until_ms: u64) -> Announcement {
        Announcement::Lease { until: at(until_ms) }
    }

    fn released_all() -> Announcement {
        let (left, reaper) = (Vec::new(), false);
        Announcement::ReleasedAll { epoch: 2, ended_us: 0, released_us: 0, reaper, left }
    }

    fn wake(watch: &mut LeaseWatch, ms: u64) -> Vec<WatchOutput> {
        let mut out = Vec::new();
        watch.on_timeout(at(ms), &mut out);
        out
    }

    fn answer(watch: &mut LeaseWatch, ms: u64, complete: bool) -> Vec<WatchOutput> {
        let mut out = Vec::new();
        watch.released(at(ms), complete, &mut out);
        out
    }

    fn lets_go(out: &[WatchOutput]) -> bool {
        matches!(out, [WatchOutput::LetGo { held, .. }] if !held.is_empty())
    }

    #[test]
    fn a_silent_guard_means_letting_go_when_the_lease_is_over() {
        let mut watch = LeaseWatch::default();
        assert!(watch.hold(at(0), &holding(50), RELEASE_MAX));
        assert_eq!(watch.deadline(), Some(at(60)), "the guard's own release comes first");
        assert!(wake(&mut watch, 59).is_empty());
        assert!(watch.lasts_until(at(49)).is_some() && watch.lasts_until(at(50)).is_none());
        assert!(lets_go(&wake(&mut watch, 60)));
        assert_eq!(answer(&mut watch, 61, true), [WatchOutput::Released]);
        watch.hear(at(62), &lease(900));
        assert!(watch.lasts_until(at(62)).is_some(), "nothing is held: a new beginning");
    }

    #[test]
    fn a_grant_after_the_end_does_not_undo_it() {
        let mut watch = LeaseWatch::default();
        watch.hold(at(0), &holding(50), RELEASE_MAX);
        watch.hear(at(55), &lease(900));
        assert!(watch.lasts_until(at(55)).is_none());
        assert!(lets_go(&wake(&mut watch, 60)));
    }

    /// Timers that become faster shorten a lease that lasts, and the latest word counts.
    #[test]
    fn a_lease_that_was_shortened_ends_earlier() {
        let mut watch = LeaseWatch::default();
        watch.hear(at(0), &lease(3_600_000));
        watch.hear(at(1), &lease(40));
        assert_eq!(watch.lasts_until(at(2)), Some(at(40)));
    }

    /// As after SIGSTOP and SIGCONT: the guard's next word says that the lease went on all the time.
    #[test]
    fn who_stood_still_hears_the_guard_before_it_lets_go() {
        let mut watch = LeaseWatch::default();
        watch.hold(at(0), &holding(50), RELEASE_MAX);
        assert!(wake(&mut watch, 5_000).is_empty());
        assert_eq!(watch.deadline(), Some(at(5_030)));
        assert!(watch.lasts_until(at(5_000)).is_none(), "nothing is acquired meanwhile");
        watch.hear(at(5_010), &lease(9_000));
        assert!(wake(&mut watch, 5_030).is_empty());
        assert_eq!(watch.lasts_until(at(5_030)), Some(at(9_000)));
        assert_eq!(watch.deadline(), Some(at(9_010)));
    }

    /// A guard that let go while nobody listened, and one that says nothing.
    #[test]
    fn who_stood_still_does_not_keep_what_the_guard_let_go_of() {
        let stood_still = || {
            let mut watch = LeaseWatch::default();
            watch.hold(at(0), &holding(50), RELEASE_MAX);
            wake(&mut watch, 5_000);
            watch
        };
        let mut told = stood_still();
        told.hear(at(5_001), &released_all());
        assert!(wake(&mut told, 5_030).is_empty() && told.deadline().is_none());
        assert!(lets_go(&wake(&mut stood_still(), 5_030)));
    }

    /// What does not go is tried again until the guard is there: by then what has the same name may be held by right.
    #[test]
    fn a_guard_that_speaks_again_sees_to_the_rest() {
        let mut watch = LeaseWatch::default();
        watch.hold(at(0), &holding(50), RELEASE_MAX);
        wake(&mut watch, 60);
        assert!(answer(&mut watch, 65, false).is_empty());
        assert_eq!(watch.deadline(), Some(at(165)));
        assert!(lets_go(&wake(&mut watch, 165)));
        answer(&mut watch, 170, false);
        let unreleased = Some("it".into());
        let said = Holding { unreleased, ..holding(0) };
        watch.hear(at(200), &Announcement::Holding(Box::new(said)));
        assert!(watch.hold(at(201), &holding(900), RELEASE_MAX));
        assert_eq!(wake(&mut watch, 270), [WatchOutput::LeftToGuard]);
        assert!(lets_go(&wake(&mut watch, 910)), "what is held now is watched over");
    }

    #[test]
    fn a_guard_that_is_gone_means_letting_go_at_once_and_for_good() {
        let mut watch = LeaseWatch::default();
        watch.hold(at(0), &holding(9_000), RELEASE_MAX);
        let mut out = Vec::new();
        watch.guard_gone(at(10), &mut out);
        assert!(lets_go(&out) && watch.lasts_until(at(10)).is_none());
        assert!(!watch.hold(at(11), &holding(9_000), RELEASE_MAX));
        for tries in 1..10 {
            assert!(answer(&mut watch, 10 + tries * 100, false).is_empty());
            assert!(lets_go(&wake(&mut watch, 110 + tries * 100)));
        }
        assert_eq!(answer(&mut watch, 2_000, false), [WatchOutput::Ended(false)]);
    }

    /// The guard dies while something that its lease's end left is still being let go of.
    #[test]
    fn what_is_under_way_when_the_guard_ends_is_not_the_end() {
        let mut watch = LeaseWatch::default();
        watch.hold(at(0), &holding(50), RELEASE_MAX);
        wake(&mut watch, 60);
        watch.hear(at(61), &released_all());
        watch.hear(at(62), &lease(900));
        assert!(watch.hold(at(63), &holding(900), RELEASE_MAX));
        let mut out = Vec::new();
        watch.guard_gone(at(64), &mut out);
        assert!(out.is_empty(), "one at a time");
        assert!(lets_go(&answer(&mut watch, 65, true)));
        assert_eq!(answer(&mut watch, 66, true), [WatchOutput::Released, WatchOutput::Ended(true)]);
    }

    #[test]
    fn what_the_guard_refused_or_let_go_of_is_not_held() {
        let mut watch = LeaseWatch::default();
        let refused = Holding { refused: Some("no lease".into()), ..holding(900) };
        assert!(!watch.hold(at(0), &refused, RELEASE_MAX));
        assert!(!watch.hold(at(50), &holding(50), RELEASE_MAX), "its lease is over already");
        assert!(watch.hold(at(50), &holding(900), RELEASE_MAX));
        watch.hear(at(60), &released_all());
        let mut out = Vec::new();
        watch.guard_gone(at(61), &mut out);
        assert_eq!(out, [WatchOutput::Ended(true)], "there was nothing left to let go of");
    }
}
