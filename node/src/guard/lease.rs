//! The lease as the heartbeat tells it to the keeper: two numbers and a bell, without a lock.
//!
//! The heartbeat writes the count of lapses before the new end, the keeper reads the end first: so
//! who sees a new end also sees that the old one had passed, if it had.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::reaper::Board;
use super::sys::Waker;

/// What the heartbeat writes and the keeper reads.
#[derive(Debug)]
pub(super) struct LeaseCell {
    until_us: AtomicU64,
    lapses: AtomicU64,
    /// Goes up with every turn of the heartbeat's loop.
    turns: AtomicU64,
    /// The keeper wants to know of every grant.
    wanted: AtomicBool,
    /// Wakes the keeper.
    pub(super) waker: Waker,
    /// The end of the lease, for the reaper.
    board: Arc<Board>,
}

/// The lease at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseNow {
    /// Its end, in microseconds of `CLOCK_BOOTTIME`; 0 before the first grant.
    pub(super) until_us: u64,
    /// How many times it had ended before it was granted again.
    pub(super) lapses: u64,
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
        self.board.set_lease(lease.until_us);
        let lapsed = self.lapses.swap(lease.lapses, Ordering::Release) != lease.lapses;
        let granted = self.until_us.swap(lease.until_us, Ordering::Release) != lease.until_us;
        if lapsed || (granted && self.wanted.load(Ordering::Relaxed)) {
            self.waker.wake();
        }
    }

    pub(super) fn get(&self) -> LeaseNow {
        let until_us = self.until_us.load(Ordering::Acquire);
        LeaseNow { until_us, lapses: self.lapses.load(Ordering::Acquire) }
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }
}
