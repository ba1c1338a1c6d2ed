//! Records that continue each other, and waiting with a deadline.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::{Duration, Instant};

use vedette_core::id::{Hash, NetworkNumber, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;

/// Much longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// `count` records that follow the one with number `seq` and hash `link`.
pub(crate) fn records_from(mut seq: u64, mut link: Hash, count: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..count {
        seq += 1;
        let mut record = record(seq);
        record.hash = record.chained(link);
        link = record.hash;
        records.push(record);
    }
    records
}

/// The first `count` records of the test's cluster; always the same.
pub(crate) fn records(count: u64) -> Vec<Record> {
    records_from(0, Hash::default(), count)
}

fn record(seq: u64) -> Record {
    let node = NodeNumber((seq % 4 + 1) as u16);
    let (code, subject) = match seq % 3 {
        0 => (Code::NodeHost, Subject::Node(node)),
        1 => (Code::Link, Subject::Link(NodeNumber(1), node, NetworkNumber(2))),
        _ => (Code::ClusterSubstate, Subject::Cluster),
    };
    Record {
        seq,
        index: seq * 2,
        at: WallTime(1_767_225_600_000_000 + seq as i64 * 1_000),
        code,
        severity: Severity::ALL[(seq % 4) as usize],
        subject,
        subject_name: format!("n{}", node.0),
        previous: "UP".into(),
        current: "DOWN".into(),
        cause: "no beat for 1,000 ms on neta, netb; seen by n1, \"n2\"\nand n3".into(),
        message: format!("node n{} is DOWN (record {seq})", node.0),
        incident: seq.is_multiple_of(5).then_some(seq),
        origin: NodeNumber(1),
        actor: "director".into(),
        alert: seq.is_multiple_of(4),
        test: false,
        event: seq.is_multiple_of(6).then_some(seq / 6),
        node: seq.is_multiple_of(12).then_some(node),
        duration_ms: seq.is_multiple_of(18).then_some(seq * 3),
        elapsed_ms: 0,
        told: None,
        hash: Hash::default(),
    }
}

/// Waits until `condition` gives a value.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
