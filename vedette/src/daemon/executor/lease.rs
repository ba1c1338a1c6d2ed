//! Whether this node may hold anything: as the guard says, and no longer than it goes on saying so.
//!
//! A lease that was lost is counted, so that whoever is in the middle of something notices it even if
//! the lease is back a moment later. A guard that is silent for longer than a lease lasts cannot be
//! relied on to let go (it may be stopped): [`LeaseWatch`] does it then, on a thread of its own, and
//! the workers are told.

use std::sync::Arc;

use vedette_node::guard::client::LeaseWatch;

use super::Shared;

/// The lease as of the last report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lease {
    /// It is held.
    pub(super) held: bool,
    /// The guard let go of everything, and took nothing since.
    pub(super) released: bool,
    /// How many times it was lost.
    pub(super) losses: u64,
}

impl Lease {
    /// What a report says; answers whether that is news.
    pub(super) fn take(&mut self, held: bool, released: bool) -> bool {
        let news = (self.held, self.released) != (held, released);
        if (self.held && !held) || (released && !self.released) {
            self.losses += 1;
        }
        (self.held, self.released) = (held, released);
        news
    }

    /// The guard let go, or can no longer be relied on.
    pub(super) fn lose(&mut self) {
        self.held = false;
        self.losses += 1;
    }
}

/// Takes the lease for lost whenever the watch had to let go by itself.
pub(super) async fn follow(shared: Arc<Shared>, watch: LeaseWatch) {
    let mut releases = watch.releases();
    while releases.changed().await.is_ok() {
        shared.tell_let_go(u64::MAX, "its guard was silent, so its agent released it", None, &[]);
        shared.lease.send_modify(Lease::lose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease that was lost for a moment is noticed by whoever looks later.
    #[test]
    fn losses_are_counted() {
        let mut lease = Lease::default();
        assert!(lease.take(true, false) && !lease.take(true, false));
        assert!(lease.take(false, false) && lease.take(false, true) && lease.take(true, true));
        assert_eq!((lease.losses, lease.held), (2, true));
        lease.lose();
        assert_eq!((lease.losses, lease.held), (3, false));
    }
}
