//! What is physically alive on a machine, resource by resource, whatever anybody believes of it.
//!
//! A *life* is the processes (or the mount) of one resource on one machine. It begins when somebody starts the
//! resource, and ends only by something that ends processes:
//! - a stop program that works; one may also *lie* (status 0, and nothing is stopped) or *hang*;
//! - whoever empties its control group: guard, agent or reaper when the lease ends, the agent after a stop program.
//!   That reaches what lives *inside*, and nothing else;
//! - its release program, if it has one, which may fail for a while and is then run again every second;
//! - the loss of power.
//!
//! Monitors may be wrong for a while, where the design can survive that. **Assumed** is that a monitor that is asked
//! right after a stop does not call off what runs: nobody else could contradict a stop program that lies as well. It
//! may call on what is off, or hang, and in looks for what should not run it may also call off what runs.
//!
//! The three that end what a lease covers are guard, agent and reaper. The reaper is a process of its own that acts
//! when half of the time of a release has passed and the other two have not acted, and at once when the guard is gone.
//! It may be stopped as well; with all three stopped nothing ends before one of them goes on.

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::id::Session;
use vedette_core::takeover::Backing;

use super::Bug;
use super::world::{Event, MS, World};

/// How long a release program takes at most, if it works; [`super::chaos`] writes a second into the document.
pub(super) const PROGRAM_MS: u64 = 600;
/// When a release program that failed is run again.
const PROGRAM_AGAIN: u64 = 1_000 * MS;

/// Group and resource.
pub(super) type Key = (String, String);

/// Where the processes of a resource live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In a control group of their own, or in that of their unit.
    #[default]
    Inside,
    /// Elsewhere: a supervisor or container engine has them. Only a stop takes them away.
    Outside,
    /// It is a mount. Only a stop takes it away, and its guard sees when that is done.
    Data,
    /// Elsewhere, and a release program takes them away without the agent.
    Program,
}

/// How stop programs behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stop {
    #[default]
    Works,
    /// Status 0, and nothing was stopped.
    Lies,
    /// It does not end by itself.
    Hangs,
}

/// How monitors behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Monitor {
    #[default]
    Honest,
    /// It calls on what is off.
    SaysOn,
    /// In looks for what should not run, it calls off what runs.
    SaysOff,
    /// It does not answer.
    Hangs,
}

/// How the programs of a machine's resources behave at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mood {
    pub(super) stop: Stop,
    pub(super) monitor: Monitor,
    pub(super) program_fails: bool,
    /// Start programs do not end by themselves.
    pub(super) start_hangs: bool,
    /// Those of this group end well.
    pub(super) spares: Option<&'static str>,
    /// How long what hangs may take; 0 for a moment.
    pub(super) limit: u64,
    /// Commands of events of the site do not end.
    pub(super) site_hangs: bool,
}

impl Mood {
    /// Whether start programs of a group hang.
    pub(super) fn start_hangs(self, group: &str) -> bool {
        self.start_hangs && self.spares != Some(group)
    }

    /// Behaviour of stop programs of a group.
    pub(super) fn stop_of(self, group: &str) -> Stop {
        if self.stop == Stop::Hangs && self.spares == Some(group) { Stop::Works } else { self.stop }
    }
}

/// What around a guard refuses its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Broken {
    /// Its disk: nothing is written to the journal.
    pub(super) disk: bool,
    /// The kernel's gate: it can be neither raised nor opened.
    pub(super) gate: bool,
    /// Its own releases: nothing goes, and it is told so.
    pub(super) release: bool,
}

/// The processes of one resource on one machine.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// The instance for which it was started; 0 if it was started by hand.
    pub(super) token: u64,
    pub(super) place: Place,
    /// The lease ended, and nothing that acts then reaches it: when that was, and who is to run its stop program.
    pub(super) lapsed: Option<(u64, Option<Session>)>,
    /// A release program for it failed.
    pub(super) program_failed: bool,
    /// The cluster was told that it could not be stopped.
    pub(super) stuck: bool,
    /// The cluster believes it to be over.
    pub(super) ended: Option<super::twice::Ended>,
    /// Since when its node could have told that it runs where it should not, and has not.
    pub(super) untold: Option<u64>,
    /// Since when its stop program could have been run after the lease, and was not.
    pub(super) unstopped: Option<u64>,
}

/// What lives on a machine.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    pub(super) lives: BTreeMap<Key, Life>,
    /// What release programs have to take away, and since when.
    pub(super) releasing: BTreeMap<Key, u64>,
    /// A look at those programs is due.
    programs_due: bool,
    /// How often the control group of each group was emptied.
    emptied: BTreeMap<String, u64>,
    /// Groups that are in nobody's orders: maintenance or a forced stop left them running.
    pub(super) left: BTreeSet<String>,
    pub(super) mood: Mood,
    /// Since when it has been in that mood.
    pub(super) mood_since: u64,
    pub(super) broken: Broken,
    /// The reaper is stopped.
    pub(super) reaper_paused: bool,
    /// When a guard, an agent or a reaper that stood still went on last.
    pub(super) went_on: u64,
}

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) excused: u64,
    pub(super) reaped: u64,
    pub(super) stuck: u64,
    pub(super) sighted: u64,
}

impl Kernel {
    /// Whether something of a group is alive.
    pub(super) fn runs(&self, group: &str) -> bool {
        self.lives.keys().any(|(of, _)| of == group)
    }

    /// What was left of an earlier epoch is held in this one: nobody looks any more whether it goes.
    pub(super) fn held_anew(&mut self, group: &str) {
        self.releasing.retain(|(of, _), _| of != group);
        for (_, life) in self.lives.iter_mut().filter(|((of, _), _)| of == group) {
            (life.lapsed, life.program_failed) = (None, false);
        }
    }

    /// How often the control group of a group was emptied.
    pub(super) fn emptied(&self, group: &str) -> u64 {
        self.emptied.get(group).copied().unwrap_or_default()
    }

    /// No power: nothing is left.
    pub(super) fn die(&mut self) {
        self.lives.clear();
        self.releasing.clear();
        self.left.clear();
    }
}

impl World {
    /// Where a resource's processes live in this world.
    pub(super) fn place_of(&self, resource: &str) -> Place {
        self.places.get(resource).copied().unwrap_or_default()
    }

    /// Everything of a group is started. What ran already goes on where it lives.
    fn begin_lives(&mut self, node: usize, group: &str, token: u64) {
        for resource in self.resources_of(node, group) {
            self.begin_life(node, (group.to_owned(), resource), token);
        }
        self.check_twice();
    }

    pub(super) fn begin_life(&mut self, node: usize, key: Key, token: u64) {
        let by_hand = token == 0;
        let natural = self.place_of(&key.1);
        let kernel = &mut self.machines[node].kernel;
        let before = kernel.lives.get(&key).map(|life| life.place);
        // What is started from a shell is in no control group of ours.
        let place = before.unwrap_or(match natural {
            Place::Inside if by_hand => Place::Outside,
            natural => natural,
        });
        let life = Life {
            token,
            place,
            lapsed: None,
            program_failed: false,
            stuck: false,
            ended: None,
            untold: None,
            unstopped: None,
        };
        kernel.lives.insert(key, life);
    }

    /// Somebody starts a group on a node that does not have it, past the cluster.
    pub(super) fn start_by_hand(&mut self, node: usize, group: &str) {
        let number = self.machines[node].number;
        let there = self.reference.groups.get(group);
        let off = self.machines[node].gone_since != u64::MAX;
        let has = there.is_none_or(|it| it.instances.contains_key(&number));
        if off || has || self.machines[node].kernel.runs(group) {
            return;
        }
        self.begin_lives(node, group, 0);
    }

    /// Stops a resource as an agent does: its program, then its control group, then its monitor is asked.
    /// Answers whether it was seen to be off.
    pub(super) fn stop_life(&mut self, node: usize, key: &Key) -> bool {
        let believed = self.bug == Some(Bug::StopBelieved);
        let kernel = &mut self.machines[node].kernel;
        let (stop, monitor) = (kernel.mood.stop_of(&key.0), kernel.mood.monitor);
        let inside = kernel.lives.get(key).is_none_or(|life| life.place == Place::Inside);
        if stop == Stop::Works || inside {
            kernel.lives.remove(key);
        }
        if believed && stop != Stop::Hangs {
            return true;
        }
        match monitor {
            Monitor::SaysOn => false,
            Monitor::Hangs if !inside => false,
            _ => !kernel.lives.contains_key(key),
        }
    }

    /// Empties the control groups of these groups.
    pub(super) fn end_lives(&mut self, node: usize, groups: &BTreeSet<String>) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let session = machine.agent.as_ref().map(|agent| agent.session);
        let kernel = &mut machine.kernel;
        for group in groups {
            *kernel.emptied.entry(group.clone()).or_default() += 1;
        }
        kernel.lives.retain(|key, life| {
            if !groups.contains(&key.0) {
                return true;
            }
            match life.place {
                Place::Inside => return false,
                Place::Outside | Place::Data => life.lapsed = life.lapsed.or(Some((now, session))),
                Place::Program => {}
            }
            true
        });
    }

    pub(super) fn run_programs(&mut self, node: usize) {
        let kernel = &mut self.machines[node].kernel;
        if kernel.releasing.is_empty() || std::mem::replace(&mut kernel.programs_due, true) {
            return;
        }
        let takes = self.rng.range(20, PROGRAM_MS) * MS;
        self.schedule(takes, Event::Programs { node });
    }

    /// Release programs have ended: what they took away is gone, what they did not is tried again.
    pub(super) fn programs_end(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let kernel = &mut machine.kernel;
        kernel.programs_due = false;
        if kernel.releasing.is_empty() {
            return;
        }
        if kernel.mood.program_fails {
            for key in kernel.releasing.keys() {
                if let Some(life) = kernel.lives.get_mut(key) {
                    life.program_failed = true;
                }
            }
            kernel.programs_due = true;
            return self.schedule(PROGRAM_AGAIN, Event::Programs { node });
        }
        let done = std::mem::take(&mut kernel.releasing);
        kernel.lives.retain(|key, _| !done.contains_key(key));
        self.note(|| {
            format!("n{}: release programs took away what no control group holds", node + 1)
        });
        self.look_after_groups(node);
    }

    /// The reaper is stopped, or looks again.
    pub(super) fn pause_reaper(&mut self, node: usize, paused: bool) {
        let was = std::mem::replace(&mut self.machines[node].kernel.reaper_paused, paused);
        if was && !paused {
            self.reap(node);
        }
    }

    /// Whether nobody is awake, and able, to end what a lease covers. An agent acts by itself where the guard is silent;
    /// where the guard speaks, it runs the stop program first.
    pub(super) fn nobody_acts(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let kernel = &machine.kernel;
        let awake = machine.guard.as_ref().is_some_and(|guard| !guard.paused);
        let guard = awake && !kernel.broken.release;
        let agent = machine.serves() && (!awake || kernel.mood.stop != Stop::Hangs);
        !guard && !agent && kernel.reaper_paused
    }

    /// What stands behind the release of a node's guard.
    pub(super) fn backing_of(&self, node: usize) -> Backing {
        if self.conduct.unbacked.contains(&node) { Backing::None } else { Backing::Kernel }
    }

    /// The programs of a machine behave otherwise from now on.
    pub(super) fn set_mood(&mut self, node: usize, mood: Mood) {
        let now = self.now;
        let kernel = &mut self.machines[node].kernel;
        (kernel.mood, kernel.mood_since) = (mood, now);
        self.end_what_hung(node);
    }
}
