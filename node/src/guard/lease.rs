//! The lease as the heartbeat tells it to the enforcer: two numbers and a bell, without a lock.
//!
//! The heartbeat writes the count of lapses before the new end, the enforcer reads the end first: so
//! who sees a new end also sees that the old one had passed, if it had.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vedette_core::holding::LeaseNow;
use vedette_core::time::Instant;

use super::reaper::Board;
use super::sys::Waker;

/// What the heartbeat writes and the enforcer reads.
#[derive(Debug)]
pub(super) struct LeaseCell {
    until_us: AtomicU64,
    lapses: AtomicU64,
    /// Goes up with every turn of the heartbeat's loop.
    turns: AtomicU64,
    /// The enforcer wants to know of every grant.
    wanted: AtomicBool,
    /// Wakes the enforcer.
    pub(super) waker: Waker,
    /// The end of the lease, for the reaper.
    board: Arc<Board>,
}

impl LeaseCell {
    pub(super) fn new(board: Arc<Board>) -> io::Result<Self> {
        Ok(Self {
            board,
            until_us: AtomicU64::new(0),
            lapses: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            waker: Waker::new()?,
        })
    }

    /// The heartbeat turned, and the lease is this.
    pub(super) fn set(&self, lease: LeaseNow) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let until_us = lease.until.map_or(0, Instant::as_micros);
        self.board.set_lease(until_us);
        let lapsed = self.lapses.swap(lease.lapses, Ordering::Release) != lease.lapses;
        let granted = self.until_us.swap(until_us, Ordering::Release) != until_us;
        if lapsed || (granted && self.wanted.load(Ordering::Relaxed)) {
            self.waker.wake();
        }
    }

    pub(super) fn get(&self) -> LeaseNow {
        let until_us = self.until_us.load(Ordering::Acquire);
        let until = (until_us > 0).then(|| Instant::from_micros(until_us));
        LeaseNow { until, lapses: self.lapses.load(Ordering::Acquire) }
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }
}
