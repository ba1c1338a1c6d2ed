//! What this node holds, and how it lets go of all of it at once.
//!
//! A node may own service addresses and processes only while it has its lease
//! ([`vedette_core::lease`]). When the lease is over nobody asks the agent, its scripts or its
//! groups' order: [`release`] takes the addresses off and kills the control groups, those of systemd's
//! units and of engines as well, within a time
//! that the rest of the cluster waits for (`release_max`). The guard does it, and so does the agent
//! when its guard is gone or silent; twice is as good as once.
//!
//! Invariants:
//! - What is not there any more is no failure; what could not be removed is named.
//! - [`release`] answers in time, whatever the kernel does with its calls.
//! - Nothing is acquired before it is in the [`File`], so a guard that starts finds what an earlier
//!   one left behind, however that one ended.

mod addresses;
mod data;
mod file;
mod groups;
mod looks;
mod outside;
mod programs;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

pub use vedette_core::holding::{
    Data, Held, HeldAddress, HeldData, HeldProgram, Kept, Of, Place, Released,
};

pub use self::file::File;
pub use self::looks::Looks;
pub use self::programs::Programs;

/// What is left of one kind: a sentence for each, and where it is.
type Left = Vec<(String, Option<Place>)>;
type Answers = (&'static str, Left);

/// Lets go of everything in `held` but data, programs as well, and waits for all of it, for the programs as long as
/// each may take.
pub fn release_all(held: &Held, within: Duration) -> Released {
    let mut programs = Programs::default();
    programs.look(&held.programs);
    let mut released = release(held, within);
    released.failed.extend(programs.wait(&held.programs));
    released
}

/// Lets go of everything in `held` but what [`Looks`] are made at: addresses are removed and groups killed, side by side. To be
/// called again with the same if the answer says that something is left.
pub fn release(held: &Held, within: Duration) -> Released {
    let deadline = Instant::now() + within;
    let (sender, answers) = channel();
    let addresses: BTreeSet<IpAddr> = held.addresses.iter().map(|held| held.address).collect();
    let mut waiting = Vec::new();
    if !addresses.is_empty() {
        waiting.push("the service addresses");
        let unnamed = |failed: Vec<String>| failed.into_iter().map(|it| (it, None)).collect();
        let remove = move || unnamed(addresses::remove(&addresses));
        start(&sender, "the service addresses", remove);
    }
    let places = held.places();
    let kills = places.iter().map(|(_, place)| place.clone()).collect::<Vec<_>>();
    if !kills.is_empty() {
        waiting.push("the control groups");
        start(&sender, "the control groups", move || end(&kills, deadline));
    }
    let left = collect(&answers, waiting, deadline);
    let whose = |place: &Place| {
        let (name, _) = places.iter().find(|(_, it)| it == place)?;
        held.whose.get(name).cloned()
    };
    let known = left.iter().map(|(_, place)| {
        let place = place.clone()?;
        Some(HeldData { of: whose(&place)?, what: Data::Processes(place) })
    });
    Released {
        left: known.collect::<Option<_>>().unwrap_or_default(),
        failed: left.into_iter().map(|(why, _)| why).collect(),
    }
}

/// Ends control groups of ours and of others. A unit starts only where its group's directory is, so those of
/// others are looked at again when that is gone.
fn end(places: &[Place], deadline: Instant) -> Left {
    outside::kill(places);
    let mut left = groups::kill(places, deadline);
    left.extend(outside::end(places, deadline));
    left.into_iter().map(|(why, place)| (why, Some(place))).collect()
}

/// On a thread of its own; on this one if there can be no other.
fn start(
    sender: &Sender<Answers>,
    what: &'static str,
    work: impl FnOnce() -> Left + Send + Clone + 'static,
) {
    let (theirs, again) = (sender.clone(), work.clone());
    let builder = std::thread::Builder::new().name("release".into()).stack_size(128 << 10);
    if builder.spawn(move || drop(theirs.send((what, work())))).is_err() {
        let _ = sender.send((what, again()));
    }
}

fn collect(answers: &Receiver<Answers>, mut waiting: Vec<&'static str>, deadline: Instant) -> Left {
    let mut all = Left::new();
    while !waiting.is_empty() {
        // A little more, so that who works up to the deadline can still say what is left.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(10);
        let Ok((what, left)) = answers.recv_timeout(left) else { break };
        waiting.retain(|waited| *waited != what);
        all.extend(left);
    }
    let late = waiting.iter().map(|what| (format!("{what} were not let go of in time"), None));
    all.extend(late);
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn nothing_is_let_go_of_at_once() {
        assert!(release(&Held::default(), Duration::ZERO).is_complete());
    }

    /// What is gone already is no failure: the guard and the agent may both release.
    #[test]
    fn what_is_not_there_is_no_failure() {
        let held = Held {
            addresses: BTreeSet::from([HeldAddress {
                // 192.0.2.0/24 is reserved for documentation.
                address: IpAddr::from([192, 0, 2, 77]),
                prefix: 24,
                device: "nothing0".into(),
            }]),
            groups: BTreeSet::from([PathBuf::from("/sys/fs/cgroup/vedette-test-never-made")]),
            units: BTreeSet::from(["vedette-test-never-made.service".to_owned()]),
            engines: BTreeSet::from(["vedette-test-never-made.slice".to_owned()]),
            ..Held::default()
        };
        assert_eq!(release(&held, Duration::from_secs(30)), Released::default());
    }

    #[test]
    fn a_wider_hold_is_told_from_a_narrower_one() {
        let group =
            |name: &str| Held { groups: BTreeSet::from([PathBuf::from(name)]), ..Held::default() };
        let (one, two) = (group("/a"), group("/b"));
        let mut both = one.clone();
        both.add(&two);
        assert!(one.is_within(&both) && two.is_within(&both) && !both.is_within(&one));
        assert!(Held::default().is_empty() && !one.is_empty());
    }
}
