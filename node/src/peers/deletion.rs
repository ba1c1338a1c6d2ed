//! Recognition of this node's own deletion: the other members refuse it as no member.
//!
//! A node that was off, or cut off, while it was deleted never hears of that from its own log. What
//! it hears is a refusal at the handshake, and that can be trusted: the connection is one of mutual
//! TLS, and the refusing side has shown the certificate of the very member that is expected there.
//! A member whose own state is not of now says something else ([`Roster::outdated`]), so that a node
//! that has just joined is not told that it was deleted by one that has just started.
//!
//! As long as any member takes this node in, it is not deleted, whatever others say. And it is only
//! when they say so for [`CERTAIN_AFTER`]: a member may hear of a new node a moment later than the
//! node of the member.
//!
//! [`Roster::outdated`]: super::Roster::outdated

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;
use vedette_core::id::NodeNumber;
use vedette_core::refusal::Refusal;
use vedette_core::time::WallTime;

/// Code of a refusal by a member whose state is of now: the asking node is no member.
pub(crate) const NOT_A_MEMBER: &str = "not_a_member";

/// Code of a refusal by a member whose state may be of the past: it does not know the asking node.
pub(crate) const NOT_KNOWN_YET: &str = "not_known_yet";

/// Time for which nobody takes this node in and somebody refuses it, before it counts as deleted.
const CERTAIN_AFTER: Duration = Duration::from_secs(1);

/// Word of a member that this node is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The member that said so first.
    pub by: NodeNumber,
    /// When, by this node's clock.
    pub at: WallTime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// Connections to members that are open now.
    open: usize,
    /// Since when it is refused.
    since: Option<Instant>,
    deleted: Option<Deleted>,
}

/// What the lanes heard; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletion {
    heard: watch::Sender<Heard>,
    deleted: watch::Sender<Option<Deleted>>,
}

/// A connection that is open, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Deletion);

impl Deletion {
    /// Follows whether this node was deleted.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Deleted>> {
        self.deleted.subscribe()
    }

    /// A member took this node in.
    pub(crate) fn opened(&self) -> Open {
        self.change(|heard| {
            *heard = Heard { open: heard.open + 1, ..Heard::default() };
        });
        Open(self.clone())
    }

    /// The member `by` refused this node at `now`.
    pub(crate) fn refused(&self, now: Instant, by: NodeNumber, refusal: &Refusal) {
        if refusal.code != NOT_A_MEMBER {
            return;
        }
        self.change(|heard| {
            let since = *heard.since.get_or_insert(now);
            if heard.open > 0 {
                heard.since = None;
            } else if now.duration_since(since) >= CERTAIN_AFTER {
                heard.deleted.get_or_insert(Deleted { by, at: wall_time() });
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        let mut deleted = None;
        self.heard.send_modify(|heard| {
            change(heard);
            deleted = heard.deleted;
        });
        self.deleted.send_if_modified(|old| {
            if let (None, Some(Deleted { by, .. })) = (*old, deleted) {
                tracing::error!(
                    %by,
                    "this node was deleted from the cluster, as node {by} says, and is no member of \
                     it any more. To take it in again: end this daemon, move its state directory \
                     away, `vedette node add NODE` on a member, `vedette join TOKEN` here"
                );
            }
            std::mem::replace(old, deleted) != deleted
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|heard| heard.open = heard.open.saturating_sub(1));
    }
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const N2: NodeNumber = NodeNumber(2);
    const N3: NodeNumber = NodeNumber(3);

    fn refusal(code: &str) -> Refusal {
        Refusal::new(code, "node 1 is not a member", "Add it again.")
    }

    /// F15: the word of one member is enough, unless another one takes this node in.
    #[test]
    fn a_node_that_is_taken_in_anywhere_is_not_deleted() {
        let (deletion, start) = (Deletion::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let told = deletion.subscribe();
        deletion.refused(at(0), N2, &refusal(NOT_KNOWN_YET));
        deletion.refused(at(5_000), N2, &refusal(NOT_KNOWN_YET));
        assert_eq!(*told.borrow(), None, "that member does not know what is now");
        deletion.refused(at(6_000), N2, &refusal(NOT_A_MEMBER));
        deletion.refused(at(6_999), N3, &refusal(NOT_A_MEMBER));
        assert_eq!(*told.borrow(), None, "it may have been added a moment ago");
        deletion.refused(at(7_000), N3, &refusal(NOT_A_MEMBER));
        assert_eq!(told.borrow().map(|deleted| deleted.by), Some(N3));
        let open = deletion.opened();
        assert_eq!(*told.borrow(), None);
        deletion.refused(at(9_000), N2, &refusal(NOT_A_MEMBER));
        assert_eq!(*told.borrow(), None, "node 3 takes it in");
        drop(open);
        deletion.refused(at(9_100), N2, &refusal(NOT_A_MEMBER));
        assert_eq!(*told.borrow(), None);
        deletion.refused(at(10_100), N2, &refusal(NOT_A_MEMBER));
        assert!(told.borrow().is_some());
    }
}
