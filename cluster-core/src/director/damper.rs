//! Holding back what may be over in a moment.
//!
//! [`crate::diagnosis`] has no memory; the damper is its memory. A change is let through once it
//! has been wanted without a break for its *hold*: none for the death of a node and for agents
//! (the evidence has its own time in it), two beats for a host that comes back and for wiring that
//! fails, the detection time for DISCONNECTED.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Change;
use crate::id::NodeNumber;
use crate::model::{HostStatus, InterfaceStatus, LinkStatus, NetworkStatus, Timing};
use crate::time::Instant;

/// What a change is about and what it makes of it: kind, numbers, status.
type Key = (u8, u16, u16, u8, u32);

/// Since when each change has been wanted.
#[derive(Clone, Debug, Default)]
pub struct Damper {
    wanted: BTreeMap<Key, (Instant, Duration)>,
}

impl Damper {
    /// The changes among `wanted` whose time has come.
    pub fn ripe(&mut self, now: Instant, timing: &Timing, wanted: Vec<Change>) -> Vec<Change> {
        let keys: BTreeSet<Key> = wanted.iter().map(key).collect();
        self.wanted.retain(|key, _| keys.contains(key));
        let mut ripe = Vec::new();
        let mut held_hosts = BTreeSet::new();
        for change in wanted {
            let hold = hold(&change, timing);
            let (since, _) = *self.wanted.entry(key(&change)).or_insert((now, hold));
            let held = now - since < hold;
            if let (Change::Host { node, .. }, true) = (&change, held) {
                held_hosts.insert(*node);
            }
            if !held && !concerned(&change).iter().flatten().any(|n| held_hosts.contains(n)) {
                ripe.push(change);
            }
        }
        ripe
    }

    /// When the next change becomes ripe, if it is still wanted then.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.wanted.values().map(|(at, hold)| *at + *hold).filter(|at| *at > now).min()
    }
}

/// How long a change must have been wanted.
fn hold(change: &Change, timing: &Timing) -> Duration {
    let beat = timing.interval();
    match change {
        Change::Host { to: HostStatus::Up, .. } => beat * 2,
        Change::Host { to: HostStatus::Disconnected, .. } => timing.detect(),
        Change::Network { to: NetworkStatus::Down, .. }
        | Change::Interface { to: InterfaceStatus::Down, .. }
        | Change::Link { to: LinkStatus::Down | LinkStatus::OneWay, .. } => beat * 2,
        Change::Network { .. } | Change::Interface { .. } | Change::Link { .. } => beat,
        Change::Host { .. } | Change::Agent { .. } => Duration::ZERO,
    }
}

/// The nodes whose host status must be settled before a change can be believed.
fn concerned(change: &Change) -> [Option<NodeNumber>; 2] {
    match change {
        Change::Agent { node, .. } | Change::Interface { node, .. } => [Some(*node), None],
        Change::Link { low, high, .. } => [Some(*low), Some(*high)],
        Change::Host { .. } | Change::Network { .. } => [None, None],
    }
}

fn key(change: &Change) -> Key {
    match change {
        Change::Host { node, to, .. } => (0, node.0, 0, 0, to.code()),
        Change::Agent { node, to, .. } => (1, node.0, 0, 0, to.code()),
        Change::Network { network, to, .. } => (2, 0, 0, network.0, to.code()),
        Change::Interface { node, network, to, .. } => (3, node.0, 0, network.0, to.code()),
        Change::Link { low, high, network, to, .. } => (4, low.0, high.0, network.0, to.code()),
    }
}
