//! What the tests of this crate share: a cluster to show, a private `snmpd`, and the programs of
//! net-snmp.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

pub mod fixture;
pub mod programs;

use std::time::{Duration, Instant};

/// Waits until `check` gives something, and says what was waited for if it never does.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
