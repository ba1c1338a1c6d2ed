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
mod outside;
mod programs;
mod remaining;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::data::{Data, HeldData};
pub use self::file::{File, Kept};
pub use self::programs::{HeldProgram, Programs};
pub use self::remaining::Remaining;

/// A group of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Of {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub group: String,
}

/// A service address on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// The device that is to have it. It is removed from whichever has it.
    pub device: String,
}

/// What a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Service addresses.
    pub addresses: BTreeSet<HeldAddress>,
    /// Control groups of resource groups, as directories.
    pub groups: BTreeSet<PathBuf>,
    /// Units of systemd whose processes end, each in the control group that systemd made for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub units: BTreeSet<String>,
    /// Control groups that engines fill, as paths below cgroup2: what is in them ends, they themselves stay.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub engines: BTreeSet<String>,
    /// Programs that take away what is in no control group.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub programs: BTreeSet<HeldProgram>,
    /// File systems and volume groups, which the agent takes away, and processes that could not be killed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub data: BTreeSet<HeldData>,
    /// Whose each control group is, by its name in `groups`, `units` or `engines`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub whose: BTreeMap<String, Of>,
}

impl Held {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all of it is in `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        self.addresses.is_subset(&other.addresses)
            && self.groups.is_subset(&other.groups)
            && self.units.is_subset(&other.units)
            && self.engines.is_subset(&other.engines)
            && self.programs.is_subset(&other.programs)
            && self.data.is_subset(&other.data)
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        self.addresses.extend(other.addresses.iter().cloned());
        self.groups.extend(other.groups.iter().cloned());
        self.units.extend(other.units.iter().cloned());
        self.engines.extend(other.engines.iter().cloned());
        self.programs.extend(other.programs.iter().cloned());
        self.data.extend(other.data.iter().cloned());
        self.whose.extend(other.whose.iter().map(|(name, of)| (name.clone(), of.clone())));
    }

    /// All its control groups are those of one group of the cluster.
    pub fn belongs_to(&mut self, of: &Of) {
        self.whose = self.places().into_iter().map(|(name, _)| (name, of.clone())).collect();
    }

    /// The control groups, each with its name in `whose`.
    fn places(&self) -> Vec<(String, Place)> {
        let own = self.groups.iter().map(|it| (it.display().to_string(), Place::Own(it.clone())));
        let units = self.units.iter().map(|it| (it.clone(), Place::Unit(it.clone())));
        let engines = self.engines.iter().map(|it| (it.clone(), Place::Engine(it.clone())));
        own.chain(units).chain(engines).collect()
    }
}

/// Where processes live that are killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A control group of ours, as a directory, which goes with them.
    Own(PathBuf),
    /// That of a unit of systemd.
    Unit(String),
    /// One that an engine fills, as a path below cgroup2.
    Engine(String),
}

/// What became of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// What could not be let go of, one sentence each.
    pub failed: Vec<String>,
    /// Processes that were killed and have not ended, all of which are of groups that are known: the others need not
    /// wait for them.
    pub left: BTreeSet<HeldData>,
}

impl Released {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

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

/// Lets go of everything in `held` but what [`Remaining`] is about: addresses are removed and groups killed, side by side. To be
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
