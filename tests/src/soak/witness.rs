//! Looks all the time what is alive on which node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vedette_node::cgroup::ControlGroup;

use super::service::{ADDRESS, KINDS, address, places};
use crate::lab::{Lab, LabError, Prober, Result};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(1);

/// Something was alive on several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    /// What.
    pub(super) kind: &'static str,
    /// On which nodes.
    pub(super) nodes: Vec<String>,
    /// For how long.
    pub(super) length: Duration,
}

/// A kind was alive on these nodes from that moment on.
#[derive(Clone, Debug)]
struct Change {
    at: Duration,
    kind: &'static str,
    nodes: Vec<String>,
}

/// A thread that looks.
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Change>, Duration)>,
    prober: Prober,
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Seen {
    changes: Vec<Change>,
    end: Duration,
    doubly_owned: usize,
}

impl Witness {
    /// Begins to look.
    pub(super) fn start(lab: &Lab, owner: &str) -> Result<Self> {
        let mut watched: Vec<(&'static str, String, ControlGroup)> = Vec::new();
        for node in lab.names() {
            let of_node = places(lab, &node)?.into_iter();
            watched.extend(of_node.map(|(kind, group)| (kind, node.clone(), group)));
        }
        // A witness that looks at the wrong place would never see anything.
        let blind: Vec<String> = watched
            .iter()
            .filter(|(_, node, group)| node == owner && !group.is_populated())
            .map(|(kind, _, group)| format!("{kind} in {}", group.directory().display()))
            .collect();
        if !blind.is_empty() {
            return Err(LabError(format!("On {owner} nothing is seen of {}.", blind.join(", "))));
        }
        let prober = Prober::start(lab, 0, address(lab))?;
        let stop = Arc::new(AtomicBool::new(false));
        let halt = Arc::clone(&stop);
        let thread = std::thread::spawn(move || look(&watched, &halt));
        Ok(Self { stop, thread, prober })
    }

    /// Ends, and tells.
    ///
    /// # Errors
    /// If it could not look.
    pub(super) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let looked = self.thread.join();
        let (changes, end) = looked.map_err(|_| LabError("The witness failed.".into()))?;
        let doubly_owned = self.prober.stop()?.doubly_owned().len();
        Ok(Seen { changes, end, doubly_owned })
    }
}

fn look(
    watched: &[(&'static str, String, ControlGroup)],
    halt: &AtomicBool,
) -> (Vec<Change>, Duration) {
    let begun = Instant::now();
    let mut changes = Vec::new();
    let mut last: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    while !halt.load(Ordering::Relaxed) {
        for kind in KINDS {
            let of_kind = watched.iter().filter(|(it, ..)| *it == kind);
            let alive = of_kind.filter(|(_, _, group)| group.is_populated());
            let nodes: Vec<String> = alive.map(|(_, node, _)| node.clone()).collect();
            if last.get(kind) != Some(&nodes) {
                last.insert(kind, nodes.clone());
                changes.push(Change { at: begun.elapsed(), kind, nodes });
            }
        }
        std::thread::sleep(EVERY);
    }
    (changes, begun.elapsed())
}

impl Seen {
    /// Each stretch in which a kind was on a set of nodes, with its length.
    fn stretches(&self) -> impl Iterator<Item = (&Change, Duration)> {
        self.changes.iter().enumerate().map(|(place, change)| {
            let later = self.changes[place + 1..].iter().find(|it| it.kind == change.kind);
            (change, later.map_or(self.end, |later| later.at) - change.at)
        })
    }

    /// What was alive on several nodes.
    pub(super) fn overlaps(&self) -> Vec<Overlap> {
        let twice = self.stretches().filter(|(change, _)| change.nodes.len() > 1);
        let mut all: Vec<Overlap> = twice
            .map(|(change, length)| {
                let (kind, nodes) = (change.kind, change.nodes.clone());
                Overlap { kind, nodes, length }
            })
            .collect();
        if self.doubly_owned > 0 {
            let (kind, length) = (ADDRESS, Duration::ZERO);
            all.push(Overlap { kind, nodes: Vec::new(), length });
        }
        all
    }

    /// The longest time without any of one kind.
    pub(super) fn longest_gap(&self) -> Duration {
        let without = self
            .stretches()
            .filter(|(change, _)| change.nodes.is_empty() && change.kind != ADDRESS);
        without.map(|(_, length)| length).max().unwrap_or_default()
    }
}
