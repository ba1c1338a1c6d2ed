//! How long a client is without the service address when its node loses power, in a planned move,
//! and when an agent dies; beside pacemaker and keepalived.
//!
//! All clusters run at the same time on the same machine and are struck in turn, another one first
//! in each round, so that what else the machine does hits all alike. A prober on each cluster's own
//! network asks two hundred times a second, the ordinary way (through its kernel's neighbour table),
//! who has the address. Zero is just before the blow; the end is the first answer of another node.
//! The prober also asks so that *every* holder answers, and counts questions that two answered.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::detection::spread_phase;
use super::figures::Section;
use super::machine::Noise;
use super::rivals::{self, Contestant};
use super::trials::{Blow, Ledger, Rival, Trial};
use super::{Progress, Stop};
use crate::lab::{Answers, LabError, Prober, Result};

/// How long an address may take to be answered again.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a cluster is watched after a blow that need not move the address.
const WATCH: Duration = Duration::from_secs(3);
/// And after one that nobody repairs: longer than it takes until another node takes over.
const LONG_WATCH: Duration = Duration::from_secs(6);
const LONGEST_WATCH: Duration = Duration::from_secs(13);

/// How long a cluster of ours that was given its profile counts leases by the longer timers that it
/// was formed with.
const OLD_TIMERS: Duration = Duration::from_secs(62);

/// Between two questions of the prober.
const ROUND_MS: f64 = 5.0;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which clusters.
    pub rivals: Vec<Rival>,
    /// What is done to them.
    pub blows: Vec<Blow>,
    /// Processes are killed in every so manieth round only: that takes long.
    pub kills_every: usize,
    /// Where each trial is written as soon as it is known.
    pub ledger: Option<PathBuf>,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            rivals: Rival::ALL.to_vec(),
            blows: Blow::ALL.to_vec(),
            kills_every: 3,
            ledger: None,
        }
    }
}

/// The tables of trials that were written to files.
///
/// # Errors
/// If a file cannot be read.
pub fn tables(files: &[PathBuf]) -> Result<Vec<Section>> {
    Ok(Ledger::read(files)?.sections(""))
}

/// A table for each kind of blow. The time given being over, or a cluster that does not heal, ends
/// the run (of that cluster) with what there is.
///
/// # Errors
/// If a cluster cannot be formed.
pub(super) fn measure(
    dir: &Path,
    trials: usize,
    choice: &Choice,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Vec<Section>> {
    let mut field = Vec::new();
    for rival in &choice.rivals {
        progress(&format!("failover: forming {}", rival.name()));
        let mut cluster = rivals::form(*rival, dir)?;
        cluster.wait_until_whole()?;
        field.push(Entrant { rival: *rival, cluster, out: false });
    }
    let is_ours = |rival: &Rival| matches!(rival, Rival::OursDefault | Rival::OursFast);
    if choice.rivals.iter().any(is_ours) {
        progress(
            "failover: waiting for a minute, for ours to forget the timers it was formed with",
        );
        std::thread::sleep(OLD_TIMERS);
    }
    let mut ledger = Ledger::new(choice.ledger.clone());
    let noise = Noise::now();
    'rounds: for trial in 0..trials {
        for turn in 0..field.len() {
            if stop.check().is_err() {
                progress("failover: the time given is over");
                break 'rounds;
            }
            let place = (turn + trial) % field.len();
            field[place].turn(trial, choice, &mut ledger, progress)?;
        }
        progress(&format!("failover: {} of {trials} rounds", trial + 1));
    }
    Ok(ledger.sections(&noise.since()))
}

/// A cluster in the field.
struct Entrant {
    rival: Rival,
    cluster: Box<dyn Contestant>,
    /// It did not heal and is struck no more.
    out: bool,
}

impl Entrant {
    /// Every blow that is due in this round.
    fn turn(
        &mut self,
        trial: usize,
        choice: &Choice,
        ledger: &mut Ledger,
        progress: Progress<'_>,
    ) -> Result<()> {
        for blow in choice.blows.iter().copied() {
            if !self.is_due(blow, trial, choice) {
                continue;
            }
            if self.out {
                return Ok(());
            }
            let done = self.strike(trial, blow);
            let outcome = done.error.clone().unwrap_or_else(|| outcome(&done));
            progress(&format!("{} {blow:?} {}: {outcome}", self.rival.slug(), trial + 1));
            ledger.push(done)?;
        }
        Ok(())
    }

    fn is_due(&self, blow: Blow, trial: usize, choice: &Choice) -> bool {
        let every = choice.kills_every.max(1);
        match blow {
            Blow::Power => true,
            Blow::Move => self.rival.moves(),
            Blow::Agent => trial.is_multiple_of(every),
            Blow::Engine => trial % every == every / 2,
        }
    }

    /// One blow; whatever goes wrong is written down with it.
    fn strike(&mut self, trial: usize, blow: Blow) -> Trial {
        let noise = Noise::now();
        let mut done = Trial {
            rival: self.rival,
            blow,
            trial,
            from: 0,
            to: None,
            after_ms: None,
            outage_ms: None,
            two_owners_ms: 0.0,
            whole_ms: None,
            noise: String::new(),
            zero_unix: 0.0,
            story: None,
            error: None,
        };
        if let Err(error) = self.try_strike(&mut done) {
            done.error = Some(error.0);
        }
        if let Err(error) = self.heal(&done) {
            self.out = true;
            let before = done.error.take().map(|error| error + "; ").unwrap_or_default();
            done.error = Some(format!("{before}not whole again, struck no more: {error}"));
        } else if blow != Blow::Move {
            done.whole_ms = Some((unix_now() - done.zero_unix) * 1e3);
        }
        done.noise = noise.since();
        done
    }

    fn try_strike(&mut self, done: &mut Trial) -> Result<()> {
        let prober = self.cluster.probe()?;
        done.from = owner(&prober)?;
        spread_phase(done.trial);
        let (zero, zero_unix) = (prober.now(), unix_now());
        done.zero_unix = zero_unix;
        self.deal(done)?;
        match done.blow {
            Blow::Power | Blow::Move => wait_for_other(&prober, done.from, zero)?,
            Blow::Agent => watch_until(&prober, zero + WATCH),
            Blow::Engine if self.rival == Rival::PacemakerDefault => {
                watch_until(&prober, zero + LONGEST_WATCH);
            }
            Blow::Engine => watch_until(&prober, zero + LONG_WATCH),
        }
        watch_until(&prober, prober.now() + Duration::from_millis(300));
        let answers = prober.stop()?;
        read_off(&answers, zero, done);
        if let (Blow::Power, Some(to)) = (done.blow, done.to) {
            done.story = self.cluster.story(to);
        }
        Ok(())
    }

    fn deal(&mut self, done: &Trial) -> Result<()> {
        match done.blow {
            Blow::Power => self.cluster.power_off(done.from),
            Blow::Move => self.cluster.move_to(done.from, done.from % 3 + 1),
            Blow::Agent | Blow::Engine => self.cluster.kill(done.from, done.blow),
        }
    }

    fn heal(&mut self, done: &Trial) -> Result<()> {
        match done.blow {
            _ if done.from == 0 => {}
            Blow::Power | Blow::Engine => self.cluster.revive(done.from)?,
            Blow::Move => self.cluster.after_move(done.from)?,
            Blow::Agent => {}
        }
        self.cluster.wait_until_whole()
    }
}

fn outcome(done: &Trial) -> String {
    let ms = |value: Option<f64>| value.map_or("–".into(), super::figures::number);
    let to = done.to.map_or("stayed".into(), |to| format!("to node {to}"));
    format!(
        "{to} after {} ms, without an answer for {} ms, two answered for {} ms",
        ms(done.after_ms),
        ms(done.outage_ms),
        super::figures::number(done.two_owners_ms)
    )
}

/// What a prober's book says about a blow at `zero`.
fn read_off(answers: &Answers, zero: Duration, done: &mut Trial) {
    let ordinary = || answers.answers.iter().filter(|answer| !answer.to_all);
    let other = ordinary().find(|answer| answer.at >= zero && answer.node != done.from);
    done.after_ms = other.map(|answer| ms(answer.at - zero));
    done.to = other.map(|answer| answer.node);
    let before = ordinary().map(|answer| answer.at).rfind(|at| *at < zero);
    let times: Vec<Duration> =
        before.into_iter().chain(ordinary().map(|a| a.at).filter(|at| *at >= zero)).collect();
    done.outage_ms = times.windows(2).map(|pair| ms(pair[1] - pair[0])).reduce(f64::max);
    let mut rounds: Vec<u32> = answers.doubly_owned().iter().map(|(round, ..)| *round).collect();
    rounds.dedup();
    done.two_owners_ms = rounds.len() as f64 * ROUND_MS;
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn unix_now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |time| time.as_secs_f64())
}

fn watch_until(prober: &Prober, end: Duration) {
    std::thread::sleep(end.saturating_sub(prober.now()));
}

/// Waits until a node other than `old` answers.
fn wait_for_other(prober: &Prober, old: u16, zero: Duration) -> Result<()> {
    wait_for(prober, zero + PATIENCE, |answers| {
        let mut late = answers.answers.iter().rev().take_while(|answer| answer.at >= zero);
        late.any(|answer| !answer.to_all && answer.node != old).then_some(())
    })
    .ok_or_else(|| LabError(format!("nobody but node {old} answered in {} s", PATIENCE.as_secs())))
}

/// The node that answers now.
fn owner(prober: &Prober) -> Result<u16> {
    let since = prober.now();
    wait_for(prober, since + PATIENCE, |answers| {
        let last = answers.answers.iter().rev().find(|answer| !answer.to_all && answer.at >= since);
        last.map(|answer| answer.node)
    })
    .ok_or_else(|| LabError("nobody answers for the service address".into()))
}

fn wait_for<T>(
    prober: &Prober,
    deadline: Duration,
    found: impl Fn(&Answers) -> Option<T>,
) -> Option<T> {
    while prober.now() < deadline {
        if let Some(found) = prober.look(&found) {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Answer;

    #[test]
    fn a_book_is_read_off() {
        let answer =
            |round, at, node, to_all| Answer { round, at: Duration::from_millis(at), node, to_all };
        let mut answers = Answers::default();
        answers.answers.extend([
            answer(1, 5, 1, false),
            answer(2, 10, 1, false),
            answer(3, 500, 2, true),
            answer(3, 501, 1, true),
            answer(3, 502, 2, false),
            answer(4, 505, 2, false),
        ]);
        let mut done: Trial = serde_json::from_value(serde_json::json!({
            "rival": "ours-fast", "blow": "power", "trial": 0, "from": 1, "two_owners_ms": 0.0,
            "noise": "", "zero_unix": 0.0,
        }))
        .expect("a trial");
        read_off(&answers, Duration::from_millis(12), &mut done);
        assert_eq!((done.to, done.two_owners_ms), (Some(2), 5.0));
        assert!(done.after_ms.is_some_and(|after| (after - 490.0).abs() < 1e-6));
        assert!(done.outage_ms.is_some_and(|gap| (gap - 492.0).abs() < 1e-6));
    }
}
