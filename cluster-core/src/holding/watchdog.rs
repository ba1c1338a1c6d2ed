//! The machine's watchdog, as far as decisions stand on it.
//!
//! Where the kernel's gate is up, the watchdog is a second line and only has to act some time. Where
//! it is the only one, it has to fire before the rest of the cluster takes over, that is before
//! `lease end + release_max`: then it is petted only if at least `timeout - release_max` is left of
//! the lease ([`WatchdogFacts::may_be_petted`]).

use std::time::Duration;

/// An open watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogFacts {
    /// Its path, for people.
    pub path: String,
    /// The time after which it resets the machine.
    pub timeout: Duration,
    /// Whether it is a device; anything else resets nothing.
    pub is_device: bool,
}

impl WatchdogFacts {
    /// Longest time between two times that it is petted.
    pub fn every(&self) -> Duration {
        self.timeout / 4
    }

    /// Whether it resets the machine soon enough to stand behind a release, and yet not if all is
    /// well: a fresh lease has to be longer than what has to be left, by a margin.
    pub fn is_firm(&self, lease: Duration, release_max: Duration, margin: Duration) -> bool {
        self.why_not_firm(lease, release_max, margin).is_none()
    }

    /// Reason why it does not stand behind a release, if it does not.
    pub fn why_not_firm(
        &self,
        lease: Duration,
        release_max: Duration,
        margin: Duration,
    ) -> Option<String> {
        let wanted = self.needed(release_max) + margin;
        if !self.is_device {
            return Some("is no watchdog device".into());
        }
        (wanted > lease).then(|| {
            format!(
                "cannot be set below {} s, and the lease is {} s; lengthen the lease to {} s or more, \
                 or make the kernel's nf_tables available",
                self.timeout.as_secs_f64(),
                lease.as_secs_f64(),
                wanted.as_secs_f64(),
            )
        })
    }

    /// Part of the lease that has to be left if nothing else stands behind the release.
    fn needed(&self, release_max: Duration) -> Duration {
        self.timeout.saturating_sub(release_max)
    }

    /// Whether it may be petted with that much left of the lease.
    pub fn may_be_petted(&self, left: Duration, release_max: Duration, alone: bool) -> bool {
        !left.is_zero() && (!alone || left >= self.needed(release_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn watchdog(is_device: bool) -> WatchdogFacts {
        WatchdogFacts { path: "/dev/watchdog".into(), timeout: MS * 1_000, is_device }
    }

    /// A pet at the last moment must not carry the machine past what the others wait for.
    #[test]
    fn alone_it_fires_before_the_takeover() {
        let (dog, release_max) = (watchdog(true), MS * 300);
        assert!(dog.may_be_petted(MS * 700, release_max, true), "700 + 300 = one second");
        assert!(!dog.may_be_petted(MS * 699, release_max, true));
        assert!(dog.may_be_petted(MS, release_max, false));
        assert!(!dog.may_be_petted(Duration::ZERO, release_max, false));
    }

    #[test]
    fn it_stands_behind_a_release_only_if_the_lease_is_long_enough() {
        let dog = watchdog(true);
        assert!(dog.is_firm(MS * 1_000, MS * 300, MS * 200));
        assert!(!dog.is_firm(MS * 800, MS * 300, MS * 200));
        assert!(!watchdog(false).is_firm(MS * 1_000, MS * 300, MS * 200));
    }

    /// J7: who configured it learns what it would take.
    #[test]
    fn why_it_does_not_is_said_with_what_would_help() {
        let why = |dog: WatchdogFacts, lease| dog.why_not_firm(MS * lease, MS * 300, MS * 200);
        assert_eq!(why(watchdog(true), 900), None);
        assert_eq!(
            why(watchdog(true), 800).unwrap(),
            "cannot be set below 1 s, and the lease is 0.8 s; lengthen the lease to 0.9 s or more, \
             or make the kernel's nf_tables available"
        );
        assert_eq!(why(watchdog(false), 1_000).unwrap(), "is no watchdog device");
    }
}
