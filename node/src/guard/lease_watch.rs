//! The thread behind the agent's own eye on the lease ([`Machine`]), which needs neither the guard nor the agent's
//! other tasks.
//!
//! How an agent uses it: send [`Order::Hold`](super::protocol::Order::Hold), await the
//! [`Notice::Holding`] with the order's sequence, and give it to [`LeaseWatch::hold`]; only if that
//! answers `true`, acquire. Look at [`LeaseWatch::is_valid`] before each further step.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use vedette_core::holding::{Announcement, LeaseWatch as Machine, WatchOutput};
use vedette_core::time::Instant;

use super::protocol::{Holding, Notice};
use super::sys::{self, boot_time_us};
use crate::hold;

/// Watches over what the agent holds. Clones are one.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something changed that somebody waits for.
    bell: Condvar,
    /// How many times everything was let go of here.
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    machine: Machine,
    /// The thread runs.
    watched: bool,
    /// The guard is gone, and what could be let go of is.
    ended: bool,
}

/// A lease as it was at a moment. What is granted later does not make it longer: who stood still between a
/// look at something and the step that stands on it is told so, even if there is a new lease by now.
#[derive(Clone, Copy, Debug)]
pub struct Lasting(Instant);

impl Lasting {
    /// Whether it has not ended. Asks the clock only, which goes on while the machine sleeps.
    pub fn lasts(self) -> bool {
        now() < self.0
    }
}

fn now() -> Instant {
    Instant::from_micros(boot_time_us())
}

impl Default for LeaseWatch {
    fn default() -> Self {
        let state = Mutex::new(State::default());
        let (bell, releases) = (Condvar::new(), watch::Sender::new(0));
        Self { inner: Arc::new(Inner { state, bell, releases }) }
    }
}

impl LeaseWatch {
    /// Holds something from now on, by an answer of the guard. Answers whether it was accepted and the
    /// lease still lasts; if not, nothing may be acquired on that ground.
    pub fn hold(&self, holding: &Holding, release_max: Duration) -> bool {
        let mut state = self.state();
        let taken = state.machine.hold(now(), holding, release_max);
        let watched = !state.machine.holds() || self.start(&mut state);
        drop(state);
        self.inner.bell.notify_all();
        taken && watched
    }

    /// Whether the lease lasts, as far as this node's agent knows: to be asked right before each
    /// step of an acquisition.
    pub fn is_valid(&self) -> bool {
        self.now().is_some()
    }

    /// The lease as it is now, if it lasts: for what must not be done a moment after its end.
    pub fn now(&self) -> Option<Lasting> {
        self.state().machine.lasts_until(now()).map(Lasting)
    }

    /// Goes up each time everything was let go of here, because the guard was silent past the lease
    /// or is gone.
    pub fn releases(&self) -> watch::Receiver<u64> {
        self.inner.releases.subscribe()
    }

    /// Takes what the guard says.
    pub(super) fn hear(&self, notice: &Notice) {
        let said = match notice {
            Notice::Lease { until_us } => {
                Announcement::Lease { until: Instant::from_micros(*until_us) }
            }
            Notice::Holding(holding) => Announcement::Holding(holding.clone()),
            Notice::ReleasedAll { epoch, ended_us, released_us, reaper, left } => {
                let (epoch, ended_us, released_us) = (*epoch, *ended_us, *released_us);
                let (reaper, left) = (*reaper, left.clone());
                Announcement::ReleasedAll { epoch, ended_us, released_us, reaper, left }
            }
            _ => return,
        };
        self.state().machine.hear(now(), &said);
        self.inner.bell.notify_all();
    }

    /// The guard is gone: lets go of everything, here and now, and for good.
    pub(super) fn guard_gone(&self) {
        let mut out = Vec::new();
        self.state().machine.guard_gone(now(), &mut out);
        self.carry_out(out);
        while !self.state().ended {
            let mut out = Vec::new();
            let mut state = self.state();
            state.machine.on_timeout(now(), &mut out);
            if out.is_empty() && !state.ended {
                // A release of the thread may be under way.
                let deadline = state.machine.deadline();
                drop(self.wait(state, deadline));
                continue;
            }
            drop(state);
            self.carry_out(out);
        }
    }

    /// Lets go of what is to be let go of; only one thread has such an order at a time.
    fn carry_out(&self, mut out: Vec<WatchOutput>) {
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                match output {
                    WatchOutput::LetGo { held, within, why } => {
                        tracing::error!("{why}: everything that this node holds is let go of");
                        let outcome = hold::release_all(&held, within);
                        for failed in &outcome.failed {
                            tracing::error!("{failed}");
                        }
                        let complete = outcome.is_complete();
                        self.state().machine.released(now(), complete, &mut out);
                    }
                    WatchOutput::Released => self.inner.releases.send_modify(|count| *count += 1),
                    WatchOutput::LeftToGuard => tracing::warn!(
                        "the guard speaks again, and sees to what could not be let go of"
                    ),
                    WatchOutput::Ended(complete) => {
                        if !complete {
                            tracing::error!(
                                "the agent ends, and not everything could be let go of"
                            );
                        }
                        self.state().ended = true;
                    }
                }
            }
            self.inner.bell.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread lives as long as the process; it waits without a timer while nothing is held.
    fn start(&self, state: &mut State) -> bool {
        if !state.watched {
            let watch = self.clone();
            let builder = std::thread::Builder::new().name("lease watch".into());
            let started = builder.stack_size(256 << 10).spawn(move || {
                // Who listens to the guard has said already what it costs if this is not allowed.
                let _ = sys::nearly_real_time();
                watch.run();
            });
            state.watched = started.is_ok();
        }
        state.watched
    }

    fn run(&self) {
        loop {
            let mut out = Vec::new();
            let mut state = self.state();
            state.machine.on_timeout(now(), &mut out);
            if out.is_empty() {
                let deadline = state.machine.deadline();
                drop(self.wait(state, deadline));
                continue;
            }
            drop(state);
            self.carry_out(out);
        }
    }

    /// Waits until then, or until something changes.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let bell = &self.inner.bell;
        match until {
            None => bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let time = until.since(now()) + Duration::from_micros(1);
                bell.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vedette_core::takeover::Backing;

    use super::*;
    use crate::hold::Held;

    const RELEASE_MAX: Duration = Duration::from_millis(30);

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
}
