//! The agent's own eye on the lease, for a guard that is stopped, or gone.
//!
//! The guard releases at the lease's end. If it cannot, because somebody stopped it or it died, the
//! agent does the same, on a thread of its own that needs neither the guard nor the agent's other
//! tasks. It begins a little after the guard would have, so that normally the guard is done before.
//!
//! An end of the lease that is noticed late may be no end: whoever was stopped itself (a debugger, a
//! frozen machine) has not heard the guard, which may have gone on all the time. A guard says that it
//! has let go before it says anything of a lease that was granted anew; so one word of a lease that
//! lasts is enough, and it is waited for as long as a release may take, not longer.
//!
//! How an agent uses it: send [`Order::Hold`](super::protocol::Order::Hold), await the
//! [`Notice::Holding`] with the order's sequence, and give it to [`LeaseWatch::hold`]; only if that
//! answers `true`, acquire. Look at [`LeaseWatch::is_valid`] before each further step.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::protocol::{Holding, Notice};
use super::sys::boot_time_us;
use crate::hold::{self, Held};

/// Between two attempts to let go of what does not go.
const AGAIN: Duration = Duration::from_millis(100);
/// Attempts when the guard is gone; the agent ends then, whatever is left.
const LAST_ATTEMPTS: usize = 10;
/// A thread that wakes so much later than it wanted did not run because nothing of its process did.
const LATE_US: u64 = 20_000;

/// Watches over what the agent holds. Clones are one.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something changed that the thread waits for.
    bell: Condvar,
    /// How many times everything was let go of here.
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    held: Held,
    until_us: u64,
    release_max: Duration,
    /// The guard is gone, and with it every lease.
    gone: bool,
    /// The thread runs.
    watched: bool,
    /// This process stood still when the lease ended: whether it did end, the guard has to say.
    stood_still: bool,
    /// How often the guard said something that a guard that is stopped does not say.
    words: u64,
}

/// A lease as it was at a moment. What is granted later does not make it longer: who stood still between a
/// look at something and the step that stands on it is told so, even if there is a new lease by now.
#[derive(Clone, Copy, Debug)]
pub struct Lasting(u64);

impl Lasting {
    /// Whether it has not ended. Asks the clock only, which goes on while the machine sleeps.
    pub fn lasts(self) -> bool {
        boot_time_us() < self.0
    }
}

impl Default for LeaseWatch {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        let (bell, releases) = (Condvar::new(), watch::Sender::new(0));
        Self { inner: Arc::new(Inner { state, bell, releases }) }
    }
}

impl LeaseWatch {
    /// What is held from now on: an answer of the guard. Answers whether it was accepted and the
    /// lease still lasts; if not, nothing may be acquired on that ground.
    pub fn hold(&self, holding: &Holding, release_max: Duration) -> bool {
        let mut state = self.state();
        if state.gone || holding.refused.is_some() {
            return false;
        }
        let more = !holding.held.is_within(&state.held);
        if more && boot_time_us() >= holding.lease_until_us.max(state.until_us) {
            return false;
        }
        if holding.lease_until_us > 0 {
            state.until_us = holding.lease_until_us;
        }
        (state.held, state.release_max) = (holding.held.clone(), release_max);
        let watched = state.held.is_empty() || self.start(&mut state);
        drop(state);
        self.inner.bell.notify_all();
        watched
    }

    /// Whether the lease lasts, as far as this node's agent knows: to be asked right before each
    /// step of an acquisition.
    pub fn is_valid(&self) -> bool {
        self.now().is_some()
    }

    /// The lease as it is now, if it lasts: for what must not be done a moment after its end.
    pub fn now(&self) -> Option<Lasting> {
        let state = self.state();
        (!state.gone && boot_time_us() < state.until_us).then_some(Lasting(state.until_us))
    }

    /// Goes up each time everything was let go of here, because the guard was silent past the lease
    /// or is gone.
    pub fn releases(&self) -> watch::Receiver<u64> {
        self.inner.releases.subscribe()
    }

    /// Takes what the guard says.
    pub(super) fn hear(&self, notice: &Notice) {
        let mut state = self.state();
        state.words += u64::from(match notice {
            Notice::Lease { until_us } => *until_us > boot_time_us(),
            Notice::Holding(holding) => {
                holding.lease_until_us > boot_time_us() || holding.unreleased.is_some()
            }
            Notice::ReleasedAll { .. } => true,
            _ => false,
        });
        match notice {
            // What ended stays ended, even if the thread was not fast enough to act on it.
            Notice::Lease { until_us }
                if state.held.is_empty()
                    || state.stood_still
                    || boot_time_us() < state.until_us =>
            {
                // The latest word counts: a lease may have become shorter.
                state.until_us = *until_us;
                if state.stood_still {
                    self.inner.bell.notify_all();
                }
            }
            Notice::ReleasedAll { .. } => state.held = Held::default(),
            _ => {}
        }
    }

    /// The guard is gone: lets go of everything, here and now, and for good.
    pub(super) fn guard_gone(&self) {
        let (mut held, release_max) = {
            let mut state = self.state();
            state.gone = true;
            (std::mem::take(&mut state.held), state.release_max)
        };
        self.inner.bell.notify_all();
        for _ in 0..LAST_ATTEMPTS {
            if held.is_empty() || self.let_go(&held, release_max, "the guard is gone") {
                held = Held::default();
                break;
            }
            std::thread::sleep(AGAIN);
        }
        if !held.is_empty() {
            tracing::error!("the agent ends, and not everything could be let go of");
        }
    }

    fn let_go(&self, held: &Held, within: Duration, why: &str) -> bool {
        tracing::error!("{why}: everything that this node holds is let go of");
        let outcome = hold::release_all(held, within);
        for failed in &outcome.failed {
            tracing::error!("{failed}");
        }
        if outcome.is_complete() {
            self.inner.releases.send_modify(|count| *count += 1);
        }
        outcome.is_complete()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread lives as long as the process; it waits without a timer while nothing is held.
    fn start(&self, state: &mut State) -> bool {
        if !state.watched {
            let watch = self.clone();
            let builder = std::thread::Builder::new().name("lease watch".into());
            let started = builder.stack_size(256 << 10).spawn(move || watch.run());
            state.watched = started.is_ok();
        }
        state.watched
    }

    fn run(&self) {
        loop {
            let (held, release_max, words) = self.wait_for_the_end();
            let why = "the guard is silent and the lease is over";
            while !self.let_go(&held, release_max, why) {
                std::thread::sleep(AGAIN);
                // The rest is the guard's then; and what is held by now may be held again by right.
                if self.state().words != words {
                    tracing::warn!(
                        "the guard speaks again, and sees to what could not be let go of"
                    );
                    break;
                }
            }
        }
    }

    /// Waits until something is held without a lease, and takes it.
    fn wait_for_the_end(&self) -> (Held, Duration, u64) {
        let mut state = self.state();
        loop {
            // The guard's own release comes first.
            let grace = state.release_max / 3;
            let due = state.until_us + grace.as_micros() as u64;
            let now = boot_time_us();
            state = if state.held.is_empty() {
                self.inner.bell.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if due > now {
                self.wait(state, Duration::from_micros(due - now))
            } else if now > due + LATE_US {
                let state = self.wait_for_a_word(state);
                if boot_time_us() >= state.until_us {
                    return Self::take(state);
                }
                state
            } else {
                return Self::take(state);
            };
        }
    }

    /// Whether the lease goes on is for the guard to say, within the time of a release.
    fn wait_for_a_word<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let end = boot_time_us() + state.release_max.as_micros() as u64;
        state.stood_still = true;
        loop {
            let now = boot_time_us();
            if state.held.is_empty() || state.gone || now < state.until_us || now >= end {
                state.stood_still = false;
                return state;
            }
            state = self.wait(state, Duration::from_micros(end - now));
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.inner.bell.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn take(mut state: MutexGuard<'_, State>) -> (Held, Duration, u64) {
        (std::mem::take(&mut state.held), state.release_max, state.words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vedette_core::takeover::Backing;

    use super::*;

    const RELEASE_MAX: Duration = Duration::from_millis(30);

    fn released_all(epoch: u64) -> Notice {
        Notice::ReleasedAll { epoch, ended_us: 0, released_us: 0, reaper: false, left: Vec::new() }
    }

    /// A directory that is no control group any more stands for something held: letting go of it
    /// succeeds.
    fn holding(lease: Duration) -> Holding {
        Holding {
            sequence: 1,
            refused: None,
            epoch: 1,
            held: Held {
                groups: BTreeSet::from(["/sys/fs/cgroup/vedette-test-never-made".into()]),
                ..Held::default()
            },
            backing: Backing::None,
            watchdog: None,
            reaper: None,
            stuck: Default::default(),
            goes_on: false,
            unreleased: None,
            lease_until_us: boot_time_us() + lease.as_micros() as u64,
            last_release_us: None,
        }
    }

    fn wait_for_release(releases: &watch::Receiver<u64>) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while *releases.borrow() == 0 {
            assert!(std::time::Instant::now() < end, "waited in vain for a release");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_silent_guard_means_letting_go_when_the_lease_is_over() {
        let watch = LeaseWatch::default();
        let releases = watch.releases();
        assert!(watch.hold(&holding(Duration::from_millis(50)), RELEASE_MAX));
        wait_for_release(&releases);
        assert!(!watch.is_valid());
        let late = Notice::Lease { until_us: boot_time_us() + 60_000_000 };
        watch.hear(&late);
        assert!(watch.is_valid(), "nothing is held: a new lease is a new beginning");
    }

    #[test]
    fn a_grant_after_the_end_does_not_undo_it() {
        let watch = LeaseWatch::default();
        let mut short = holding(Duration::from_micros(1));
        short.lease_until_us = boot_time_us() + 2_000;
        let accepted = watch.hold(&short, Duration::from_secs(3_600));
        while accepted && watch.is_valid() {
            std::thread::yield_now();
        }
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 60_000_000 });
        assert!(!accepted || !watch.is_valid());
    }

    /// Findings F7: between a look and a step the lease may have ended, and another one begun.
    #[test]
    fn a_later_lease_does_not_make_an_earlier_one_longer() {
        let watch = LeaseWatch::default();
        assert!(watch.now().is_none(), "there is no lease yet");
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 5_000 });
        let earlier = watch.now();
        while watch.is_valid() {
            std::thread::yield_now();
        }
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 3_600_000_000 });
        assert!(watch.now().is_some_and(Lasting::lasts));
        assert!(earlier.is_none_or(|earlier| !earlier.lasts()));
    }

    /// Timers that become faster shorten a lease that lasts, and the latest word counts.
    #[test]
    fn a_lease_that_was_shortened_ends_earlier() {
        let watch = LeaseWatch::default();
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 3_600_000_000 });
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 1 });
        while watch.is_valid() {
            std::thread::yield_now();
        }
    }

    /// As after SIGSTOP and SIGCONT: the guard's next word says that the lease went on all the time.
    #[test]
    fn who_stood_still_hears_the_guard_before_it_lets_go() {
        let watch = LeaseWatch::default();
        let late = holding(Duration::ZERO);
        {
            let mut state = watch.state();
            (state.held, state.release_max) = (late.held.clone(), Duration::from_secs(3_600));
        }
        let waiting = watch.clone();
        let thread =
            std::thread::spawn(move || waiting.wait_for_a_word(waiting.state()).held.is_empty());
        while !watch.state().stood_still {
            std::thread::yield_now();
        }
        assert!(!watch.is_valid(), "nothing is acquired meanwhile");
        watch.hear(&Notice::Lease { until_us: boot_time_us() + 3_600_000_000 });
        assert!(!thread.join().expect("no panic") && watch.is_valid());
        assert!(!watch.state().stood_still && *watch.releases().borrow() == 0);
    }

    /// A guard that let go while nobody listened, and one that says nothing.
    #[test]
    fn who_stood_still_does_not_keep_what_the_guard_let_go_of() {
        let watch = LeaseWatch::default();
        let hold = |watch: &LeaseWatch| {
            let mut state = watch.state();
            (state.held, state.release_max) = (holding(Duration::ZERO).held, RELEASE_MAX);
        };
        hold(&watch);
        watch.hear(&released_all(2));
        assert!(watch.wait_for_a_word(watch.state()).held.is_empty());
        hold(&watch);
        let state = watch.wait_for_a_word(watch.state());
        assert!(!state.held.is_empty() && boot_time_us() >= state.until_us);
    }

    /// What does not go is tried again until the guard is there: by then what has the same name may be held by right.
    #[test]
    fn a_guard_that_speaks_again_sees_to_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, script) = (folder.path().join("runs"), "echo x >> \"$0\"; exit 1");
        let program = crate::hold::HeldProgram {
            of: Default::default(),
            program: ["/bin/sh", "-c", script, &log.display().to_string()]
                .map(str::to_owned)
                .into(),
            environment: Default::default(),
            user: None,
            place: None,
            within_ms: 10_000,
            transcripts: None,
        };
        let mut held = holding(Duration::from_millis(20));
        held.held.programs.insert(program);
        let watch = LeaseWatch::default();
        assert!(watch.hold(&held, RELEASE_MAX));
        let runs = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while runs() < 2 {
            assert!(std::time::Instant::now() < end, "waited in vain for it to be tried again");
            std::thread::sleep(Duration::from_millis(2));
        }
        let unreleased = Some("it".into());
        watch.hear(&Notice::Holding(Box::new(Holding { unreleased, ..holding(Duration::ZERO) })));
        // Whoever still tried would never come to what is held next.
        let next = holding(Duration::from_millis(200));
        let releases = watch.releases();
        assert!(watch.hold(&next, RELEASE_MAX));
        wait_for_release(&releases);
    }

    #[test]
    fn a_guard_that_is_gone_means_letting_go_at_once_and_for_good() {
        let watch = LeaseWatch::default();
        let long = holding(Duration::from_secs(3_600));
        assert!(watch.hold(&long, RELEASE_MAX) && watch.is_valid());
        watch.guard_gone();
        assert_eq!(*watch.releases().borrow(), 1);
        assert!(!watch.is_valid() && !watch.hold(&long, RELEASE_MAX));
    }

    #[test]
    fn what_the_guard_refused_or_let_go_of_is_not_held() {
        let watch = LeaseWatch::default();
        let mut refused = holding(Duration::from_secs(3_600));
        refused.refused = Some("no lease".into());
        assert!(!watch.hold(&refused, RELEASE_MAX));
        assert!(!watch.hold(&holding(Duration::ZERO), RELEASE_MAX), "its lease is over already");
        assert!(watch.hold(&holding(Duration::from_secs(3_600)), RELEASE_MAX));
        watch.hear(&released_all(2));
        watch.guard_gone();
        assert_eq!(*watch.releases().borrow(), 0, "there was nothing left to let go of");
    }
}
