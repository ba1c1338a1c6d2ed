//! What of earlier epochs a node has not let go of yet, by groups: what release programs take away, data, which its
//! agent takes away, and processes that do not end ([`Remains`]).
//!
//! None of it holds up a new epoch: that would hold up all other groups of the node. Beats name the groups until they
//! are seen to be off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use vedette_core::takeover::Remains;

use super::data::Watched;
use super::{Data, Held, HeldData, HeldProgram, Of, Programs};

/// What is over within that is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What remains, and what is done and seen about it.
#[derive(Debug, Default)]
pub struct Remaining {
    programs: Programs,
    begun: BTreeMap<HeldProgram, Instant>,
    data: BTreeMap<HeldData, (Watched, Instant)>,
}

impl Remaining {
    /// Takes over what of `held` takes longer than to kill it, and begins to let go of it. At data it is looked when what
    /// could bring it back has ended.
    pub fn add(&mut self, held: &Held) {
        let now = Instant::now();
        for program in &held.programs {
            if !self.begun.contains_key(program) {
                self.programs.forget(program);
                self.begun.insert(program.clone(), now);
            }
        }
        for data in &held.data {
            let watched = || (Watched::new(&data.what), now);
            self.data.entry(data.clone()).or_insert_with(watched);
        }
        self.programs.look(&self.begun.keys().cloned().collect());
    }

    /// Processes that did not end when they were killed.
    pub fn add_left(&mut self, left: BTreeSet<HeldData>) {
        self.add(&Held { data: left, ..Held::default() });
    }

    /// Runs what is to be run and looks at what is to be looked at; what is gone is forgotten.
    pub fn look(&mut self) {
        let wanted = self.begun.keys().cloned().collect();
        self.programs.look(&wanted);
        let programs = &self.programs;
        self.begun.retain(|program, _| !programs.is_done(program));
        let of_processes = |data: &&HeldData| matches!(data.what, Data::Processes(_));
        let alive: BTreeSet<u16> =
            self.data.keys().filter(of_processes).map(|data| data.of.number).collect();
        self.data.retain(|data, (watched, _)| {
            let may_come = !of_processes(&data) && alive.contains(&data.of.number);
            may_come || !watched.look(&data.what)
        });
    }

    /// Whether nothing remains.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.data.is_empty()
    }

    /// As what is held, for whoever goes on with it.
    pub fn held(&self) -> Held {
        let (programs, data) = (self.begun.keys().cloned(), self.data.keys().cloned());
        Held { programs: programs.collect(), data: data.collect(), ..Held::default() }
    }

    /// What `held` has of groups of which something remains is not taken, but of those that are held `anew`.
    pub fn strip(&self, held: &mut Held, anew: &BTreeSet<u16>) {
        let remains = self.remains();
        let stays = |of: &Of| remains.has(of.number) && !anew.contains(&of.number);
        held.programs.retain(|program| !stays(&program.of));
        held.data.retain(|data| !stays(&data.of));
    }

    /// Groups that are held again as they are; answers whether anything of them remained.
    pub fn take_back(&mut self, anew: &BTreeSet<u16>) -> bool {
        let before = (self.begun.len(), self.data.len());
        self.begun.retain(|program, _| !anew.contains(&program.of.number));
        self.data.retain(|data, _| !anew.contains(&data.of.number));
        before != (self.begun.len(), self.data.len())
    }

    fn each(&self) -> impl Iterator<Item = (&Of, String, Instant, bool)> {
        let programs = self.begun.iter().map(|(program, since)| {
            let why = self.programs.why(program);
            let failed = why.is_some();
            let name = program.program.first().map(String::as_str).unwrap_or_default();
            let runs = || format!("its release program {name} still runs");
            (&program.of, why.unwrap_or_else(runs), *since, failed)
        });
        let data = self
            .data
            .iter()
            .map(|(data, (watched, since))| (&data.of, watched.why().to_owned(), *since, false));
        programs.chain(data)
    }

    /// The groups, for beats.
    pub fn remains(&self) -> Remains {
        self.each().fold(Remains::default(), |all, (of, ..)| all.with(of.number))
    }

    /// Groups that do not go, by what keeps them.
    pub fn stuck(&self) -> BTreeMap<String, String> {
        let mut stuck: BTreeMap<String, String> = BTreeMap::new();
        for (of, why, since, failed) in self.each() {
            if !failed && since.elapsed() < PATIENCE {
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
    pub fn goes_on(&self) -> bool {
        self.each().any(|(_, _, since, failed)| !failed && since.elapsed() < PATIENCE)
    }

    /// Groups of which something remains.
    pub fn groups(&self) -> Vec<String> {
        let mut all: Vec<String> = self.each().map(|(of, ..)| of.group.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether something remains for longer than others wait for it: data at once, programs after their time.
    pub fn is_overdue(&self) -> bool {
        let late = |(program, since): (&HeldProgram, &Instant)| {
            since.elapsed() > Duration::from_millis(program.within_ms)
        };
        !self.data.is_empty() || self.begun.iter().any(late)
    }

    /// Waits until nothing remains, for so long; answers what does.
    pub fn wait(&mut self, within: Duration) -> Vec<String> {
        let began = Instant::now();
        let longest = self.begun.keys().map(|it| Duration::from_millis(it.within_ms)).max();
        let within = within.max(longest.unwrap_or_default());
        loop {
            self.look();
            if self.is_empty() || began.elapsed() >= within {
                return self.each().map(|(of, why, ..)| format!("{}: {why}", of.group)).collect();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
