//! Who watches whom: everybody where there are few, a ring with chords where there are many.
//!
//! Up to [`MESH`] nodes watch each other in a full mesh. Beyond, nodes stand in a ring in the order
//! of their numbers (spec H2) and each is watched by three: the next lower, the next higher and one
//! across the ring, so that cost per node stays constant as the cluster grows and two neighbours
//! that fail together are still seen.
//!
//! Voters of the log stand outside of this: they and everybody watch each other, because a
//! majority of them grants leases by beats and attests silence ([`super::Config::voters`]). They are few.
//!
//! Invariants, over the same set of live nodes: watching is symmetric; nobody has more than three
//! watchers in a ring; everybody is watched. A node that is not live is watched from the places
//! where it would stand, so that its return is noticed.

use crate::id::NodeNumber;

/// The largest number of nodes that all watch each other.
pub const MESH: usize = 8;

/// Whether `a` and `b` watch each other, where `others` are the other live nodes (neither `a` nor
/// `b` needs to be among them; both count as standing in the ring). `others` is in order.
pub fn watch_each_other(a: NodeNumber, b: NodeNumber, others: &[NodeNumber]) -> bool {
    if a == b {
        return false;
    }
    let rest = || others.iter().copied().filter(|n| *n != a && *n != b);
    let place = |who: NodeNumber, other: NodeNumber| {
        rest().filter(|n| *n < who).count() + usize::from(other < who)
    };
    let size = rest().count() + 2;
    size <= MESH || neighbours(place(a, b), place(b, a), size)
}

/// Whether two places in a ring of `size` are next to each other or across.
fn neighbours(one: usize, two: usize, size: usize) -> bool {
    let (low, high) = (one.min(two), one.max(two));
    let distance = high - low;
    // Across: the first half of the ring is paired with the second; in a ring of odd size the last
    // place has nobody across.
    let across = distance == size / 2 && low < size / 2;
    distance == 1 || distance == size - 1 || across
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn watched_by(who: NodeNumber, live: &[NodeNumber]) -> Vec<NodeNumber> {
        live.iter().copied().filter(|other| watch_each_other(who, *other, live)).collect()
    }

    fn nodes(numbers: impl IntoIterator<Item = u16>) -> Vec<NodeNumber> {
        numbers.into_iter().map(NodeNumber).collect()
    }

    #[test]
    fn eight_nodes_all_watch_each_other() {
        let live = nodes(1..=8);
        assert!(live.iter().all(|who| watched_by(*who, &live).len() == 7));
    }

    /// H2: the next lower, the next higher, the lowest and the highest meet; one more across.
    #[test]
    fn ten_nodes_stand_in_a_ring_with_chords() {
        let live = nodes((1..=10).map(|n| n * 10));
        assert_eq!(watched_by(NodeNumber(10), &live), nodes([20, 60, 100]));
        assert_eq!(watched_by(NodeNumber(50), &live), nodes([40, 60, 100]));
    }

    #[test]
    fn a_node_that_is_not_live_is_watched_from_where_it_would_stand() {
        let live = nodes((1..=12).filter(|n| *n != 5));
        let watchers = watched_by(NodeNumber(5), &live);
        assert_eq!(watchers, nodes([4, 6, 11]));
    }

    proptest! {
        /// H2: symmetric, at most three watchers in a ring, everybody watched by at least two.
        #[test]
        fn every_live_node_is_watched(live in proptest::collection::btree_set(1u16..=999, 2..140)) {
            let live = nodes(live);
            let ring = live.len() > MESH;
            for who in &live {
                let watchers = watched_by(*who, &live);
                let right = if ring { 2..=3 } else { live.len() - 1..=live.len() - 1 };
                prop_assert!(right.contains(&watchers.len()));
                for other in watchers {
                    prop_assert!(watch_each_other(other, *who, &live));
                }
            }
        }

        /// Two nodes that fail together are still watched by somebody who lives.
        #[test]
        fn two_dead_neighbours_are_seen(live in proptest::collection::btree_set(1u16..=999, 10..140), at in any::<usize>()) {
            let live = nodes(live);
            let dead: BTreeSet<_> = (0..2).map(|k| live[(at % live.len() + k) % live.len()]).collect();
            for who in &dead {
                prop_assert!(watched_by(*who, &live).iter().any(|w| !dead.contains(w)));
            }
        }
    }
}
