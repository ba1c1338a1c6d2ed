//! What of earlier epochs a node has not let go of yet, by groups: what release programs take away, data, which its
//! agent takes away, and processes that do not end ([`Remains`]).
//!
//! None of it holds up a new epoch: that would hold up all other groups of the node. Beats name the groups until they
//! are seen to be off. Programs are run and data is looked at by the driver; this is what is made of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Data, Held, HeldData, HeldProgram, Of};
use crate::takeover::Remains;
use crate::time::Instant;

/// Nothing that is over within that is worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// State of a release program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It runs, or is to run again; with a sentence about its last failure, if it failed before.
    Runs(Option<String>),
    /// It succeeded.
    Done,
}

/// Things to run and to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToLookAt {
    /// Programs that are to run until they succeed.
    pub programs: BTreeSet<HeldProgram>,
    /// Those of them that are to run anew, whatever became of an earlier run.
    pub anew: BTreeSet<HeldProgram>,
    /// Data and processes.
    pub data: BTreeSet<HeldData>,
    /// Those of them that no earlier look counts for.
    pub fresh: BTreeSet<HeldData>,
}

/// Findings of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Programs.
    pub programs: BTreeMap<HeldProgram, Progress>,
    /// Data and processes, with the clause that says why they are there still; none if they are gone.
    pub data: BTreeMap<HeldData, Option<String>>,
}

#[derive(Clone, Debug)]
struct Spell {
    since: Instant,
    why: Option<String>,
}

/// Things that remain, with what was seen of them.
#[derive(Clone, Debug, Default)]
pub struct Remaining {
    programs: BTreeMap<HeldProgram, Spell>,
    anew: BTreeSet<HeldProgram>,
    data: BTreeMap<HeldData, Spell>,
    fresh: BTreeSet<HeldData>,
}

impl Remaining {
    /// Takes over what of `held` takes longer than to kill it.
    pub fn add(&mut self, now: Instant, held: &Held) {
        for program in &held.programs {
            if !self.programs.contains_key(program) {
                self.programs.insert(program.clone(), Spell { since: now, why: None });
                self.anew.insert(program.clone());
            }
        }
        self.add_left(now, &held.data);
    }

    /// Takes over processes that did not end when they were killed, or data.
    pub fn add_left(&mut self, now: Instant, left: &BTreeSet<HeldData>) {
        for data in left {
            let why = Some(format!("{} was not looked at yet", data.what.name()));
            if !self.data.contains_key(data) {
                self.data.insert(data.clone(), Spell { since: now, why });
                self.fresh.insert(data.clone());
            }
        }
    }

    /// The programs alone, so that they begin before anything else is let go of.
    pub fn to_start(&mut self) -> ToLookAt {
        ToLookAt {
            programs: self.programs.keys().cloned().collect(),
            anew: std::mem::take(&mut self.anew),
            ..ToLookAt::default()
        }
    }

    /// Everything that is to be run and looked at now. Data is looked at when what could bring it back has ended.
    pub fn to_look_at(&mut self) -> ToLookAt {
        let of_processes = |data: &&HeldData| matches!(data.what, Data::Processes(_));
        let alive: BTreeSet<u16> =
            self.data.keys().filter(of_processes).map(|data| data.of.number).collect();
        let due = |data: &&HeldData| of_processes(data) || !alive.contains(&data.of.number);
        let data: BTreeSet<HeldData> = self.data.keys().filter(due).cloned().collect();
        let fresh = self.fresh.intersection(&data).cloned().collect();
        self.fresh.retain(|it| !data.contains(it));
        ToLookAt { data, fresh, ..self.to_start() }
    }

    /// Takes what a look found; what is gone is forgotten.
    pub fn see(&mut self, look: &Look) {
        self.programs.retain(|program, spell| match look.programs.get(program) {
            Some(Progress::Done) => false,
            Some(Progress::Runs(why)) => {
                spell.why.clone_from(why);
                true
            }
            None => true,
        });
        self.data.retain(|data, spell| match look.data.get(data) {
            Some(None) => false,
            Some(why) => {
                spell.why.clone_from(why);
                true
            }
            None => true,
        });
    }

    /// Whether nothing remains.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.data.is_empty()
    }

    /// As what is held, for whoever goes on with it.
    pub fn held(&self) -> Held {
        let (programs, data) = (self.programs.keys().cloned(), self.data.keys().cloned());
        Held { programs: programs.collect(), data: data.collect(), ..Held::default() }
    }

    /// Removes from `held` what it has of groups of which something remains, but of those that are held `anew`.
    pub fn strip(&self, held: &mut Held, anew: &BTreeSet<u16>) {
        let remains = self.remains();
        let stays = |of: &Of| remains.has(of.number) && !anew.contains(&of.number);
        held.programs.retain(|program| !stays(&program.of));
        held.data.retain(|data| !stays(&data.of));
    }

    /// Forgets groups that are held again as they are; answers whether anything of them remained.
    pub fn take_back(&mut self, anew: &BTreeSet<u16>) -> bool {
        let before = (self.programs.len(), self.data.len());
        self.programs.retain(|program, _| !anew.contains(&program.of.number));
        self.data.retain(|data, _| !anew.contains(&data.of.number));
        self.fresh.retain(|data| !anew.contains(&data.of.number));
        self.anew.retain(|program| !anew.contains(&program.of.number));
        before != (self.programs.len(), self.data.len())
    }

    /// Each with its group, a clause, since when, and whether it has failed.
    fn each(&self) -> impl Iterator<Item = (&Of, String, Instant, bool)> {
        let programs = self.programs.iter().map(|(program, spell)| {
            let runs = || format!("its release program {} still runs", program.name());
            let failed = spell.why.is_some();
            (&program.of, spell.why.clone().unwrap_or_else(runs), spell.since, failed)
        });
        let data = self.data.iter().map(|(data, spell)| {
            (&data.of, spell.why.clone().unwrap_or_default(), spell.since, false)
        });
        programs.chain(data)
    }

    /// The groups, for beats.
    pub fn remains(&self) -> Remains {
        self.each().fold(Remains::default(), |all, (of, ..)| all.with(of.number))
    }

    /// Groups that do not go, by what keeps them.
    pub fn stuck(&self, now: Instant) -> BTreeMap<String, String> {
        let mut stuck: BTreeMap<String, String> = BTreeMap::new();
        for (of, why, since, failed) in self.each() {
            if !failed && now.since(since) < PATIENCE {
                continue;
            }
            let whys = stuck.entry(of.group.clone()).or_default();
            if !whys.is_empty() {
                whys.push_str("; ");
            }
            whys.push_str(&why);
        }
        stuck
    }

    /// Whether something remains that may be over in a moment.
    pub fn goes_on(&self, now: Instant) -> bool {
        self.each().any(|(_, _, since, failed)| !failed && now.since(since) < PATIENCE)
    }

    /// Groups of which something remains.
    pub fn groups(&self) -> Vec<String> {
        let mut all: Vec<String> = self.each().map(|(of, ..)| of.group.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether something remains for longer than others wait for it: data at once, programs after their time.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let late = |(program, spell): (&HeldProgram, &Spell)| {
            now.since(spell.since) > Duration::from_millis(program.within_ms)
        };
        !self.data.is_empty() || self.programs.iter().any(late)
    }

    /// The longest time that a program of it may take.
    pub fn longest(&self) -> Duration {
        let longest = self.programs.keys().map(|it| Duration::from_millis(it.within_ms)).max();
        longest.unwrap_or_default()
    }

    /// A sentence for each thing that remains.
    pub fn sentences(&self) -> Vec<String> {
        self.each().map(|(of, why, ..)| format!("{}: {why}", of.group)).collect()
    }
}
