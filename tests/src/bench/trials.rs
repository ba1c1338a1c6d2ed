//! What a blow at a service address did: one line of JSON a trial, written when it is known, so that
//! a run that is stopped keeps what it has; and the tables that are made of such lines.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::figures::{SPREAD, Section, Series, times};
use crate::lab::{LabError, Result};

/// A cluster that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rival {
    /// Ours, profile `default`.
    OursDefault,
    /// Pacemaker on corosync as they come.
    PacemakerDefault,
    /// Keepalived with an advertisement a second.
    KeepalivedDefault,
    /// Ours, profile `fast`.
    OursFast,
    /// Pacemaker on corosync with a token of 400 ms.
    PacemakerFast,
    /// Keepalived with ten advertisements a second.
    KeepalivedFast,
}

impl Rival {
    /// Each of them, in the order in which they are struck first.
    pub const ALL: [Self; 6] = [
        Self::OursDefault,
        Self::PacemakerDefault,
        Self::KeepalivedDefault,
        Self::OursFast,
        Self::PacemakerFast,
        Self::KeepalivedFast,
    ];

    /// What tables call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OursDefault => "ours, profile `default`",
            Self::PacemakerDefault => "pacemaker, corosync's default token (3.65 s)",
            Self::KeepalivedDefault => "keepalived, advert_int 1",
            Self::OursFast => "ours, profile `fast`",
            Self::PacemakerFast => "pacemaker, corosync's token 0.4 s",
            Self::KeepalivedFast => "keepalived, advert_int 0.1",
        }
    }

    /// What the command line and files call it.
    pub(super) const fn slug(self) -> &'static str {
        match self {
            Self::OursDefault => "ours-default",
            Self::PacemakerDefault => "pacemaker-default",
            Self::KeepalivedDefault => "keepalived-default",
            Self::OursFast => "ours-fast",
            Self::PacemakerFast => "pacemaker-fast",
            Self::KeepalivedFast => "keepalived-fast",
        }
    }

    /// Whether it is tuned to be fast.
    pub(super) const fn is_fast(self) -> bool {
        matches!(self, Self::OursFast | Self::PacemakerFast | Self::KeepalivedFast)
    }

    /// Ours that it is to be compared with.
    const fn ours(self) -> Self {
        if self.is_fast() { Self::OursFast } else { Self::OursDefault }
    }

    /// Whether somebody can ask it to move the address: keepalived knows no such request.
    pub(super) const fn moves(self) -> bool {
        !matches!(self, Self::KeepalivedDefault | Self::KeepalivedFast)
    }
}

/// What is done to the node that has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Blow {
    /// Its power is taken away.
    Power,
    /// Somebody asks to move the address to another node.
    Move,
    /// What decides on the node is killed and started again by what runs above it: our agent,
    /// pacemaker's controller, keepalived's VRRP process.
    Agent,
    /// What runs below or above it is killed, and nobody starts it again: our guard, corosync,
    /// keepalived's parent process.
    Engine,
}

impl Blow {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Power, Self::Move, Self::Agent, Self::Engine];

    const fn title(self) -> &'static str {
        match self {
            Self::Power => "Power-off of the owner → another node answers for the service address",
            Self::Move => "Planned move → another node answers for the service address",
            Self::Agent => "The owner's agent killed → how long clients were without an answer",
            Self::Engine => "The owner's guard (corosync) killed, and not started again",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Power => {
                "Milliseconds from just before the first process of the node is killed (its cables \
                 are unplugged next) until a client has its first answer of another node."
            }
            Self::Move => {
                "Milliseconds from the start of `vedette group move` or `crm_resource --move` until \
                 a client has its first answer of the other node. Keepalived has no such request."
            }
            Self::Agent => {
                "The longest time that a client was without an answer. Killed are our agent, \
                 pacemaker's `pacemaker-controld`, keepalived's VRRP process; each is started again \
                 by its parent."
            }
            Self::Engine => {
                "The longest time that a client was without an answer. Killed are our guard, \
                 `corosync`, keepalived's parent process; nobody starts them again, as \
                 the peers' systemd units on Debian do not (ours does). The cluster is watched for 6 \
                 s (13 s where corosync has its default token), so two owners were seen for at most \
                 so long."
            }
        }
    }

    /// Whether what counts is the time until another node answers.
    const fn is_takeover(self) -> bool {
        matches!(self, Self::Power | Self::Move)
    }
}

/// One blow and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) rival: Rival,
    pub(super) blow: Blow,
    pub(super) trial: usize,
    /// Who had the address.
    pub(super) from: u16,
    /// Who had it in the end, if that is another node.
    pub(super) to: Option<u16>,
    /// From the blow until the first answer of another node.
    pub(super) after_ms: Option<f64>,
    /// The longest time without an answer from the last one before the blow on.
    pub(super) outage_ms: Option<f64>,
    /// For how long questions to everybody had answers of two nodes.
    pub(super) two_owners_ms: f64,
    /// From the blow until all was as before, the node's return included.
    pub(super) whole_ms: Option<f64>,
    /// The machine's load and how busy it was meanwhile.
    pub(super) noise: String,
    /// The blow on the clock of the records: seconds since 1970.
    pub(super) zero_unix: f64,
    /// What our cluster tells of it.
    pub(super) story: Option<Value>,
    /// What went wrong.
    pub(super) error: Option<String>,
}

impl Trial {
    fn value(&self) -> Option<f64> {
        if self.blow.is_takeover() { self.after_ms } else { self.outage_ms }
    }
}

/// Where trials are written.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    file: Option<PathBuf>,
    pub(super) trials: Vec<Trial>,
}

impl Ledger {
    /// One that appends to a file, or only remembers.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, trials: Vec::new() }
    }

    /// One more trial.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn push(&mut self, trial: Trial) -> Result<()> {
        if let Some(file) = &self.file {
            let line = serde_json::to_string(&trial).map_err(std::io::Error::other)?;
            let open = fs::File::options().create(true).append(true).open(file);
            open.and_then(|mut out| writeln!(out, "{line}"))
                .map_err(|e| LabError(format!("{} cannot be written: {e}", file.display())))?;
        }
        self.trials.push(trial);
        Ok(())
    }

    /// What was written to such files.
    ///
    /// # Errors
    /// If one cannot be read or a line is no trial.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self> {
        let mut ledger = Self::default();
        for file in files {
            ledger.trials.extend(read(file)?);
        }
        Ok(ledger)
    }

    /// The tables.
    pub(super) fn sections(&self, noise: &str) -> Vec<Section> {
        let mut sections: Vec<Section> = Blow::ALL
            .into_iter()
            .filter(|blow| self.trials.iter().any(|trial| trial.blow == *blow))
            .map(|blow| self.section(blow))
            .map(|section| if noise.is_empty() { section } else { section.note(noise) })
            .collect();
        sections.extend(self.phases());
        sections
    }

    fn of(&self, rival: Rival, blow: Blow) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(move |trial| trial.rival == rival && trial.blow == blow)
    }

    fn series(&self, rival: Rival, blow: Blow) -> Series {
        self.of(rival, blow).filter_map(Trial::value).collect()
    }

    fn section(&self, blow: Blow) -> Section {
        let last = match blow {
            Blow::Power | Blow::Move => "without an answer, p50",
            Blow::Agent | Blow::Engine => "moved to another node",
        };
        let more = ["p50 ÷ ours", last, "two answered, trials", "two answered, most ms", "failed"];
        let columns = [&["ms"][..], &SPREAD[..], &more[..]].concat();
        let mut section = Section::table(blow.title(), columns).note(blow.meaning());
        for rival in Rival::ALL {
            if self.of(rival, blow).next().is_some() {
                section.row(self.row(rival, blow));
            }
        }
        section.values = serde_json::json!(
            self.trials.iter().filter(|trial| trial.blow == blow).collect::<Vec<_>>()
        );
        section
    }

    fn row(&self, rival: Rival, blow: Blow) -> Vec<String> {
        let series = self.series(rival, blow);
        let gaps: Series = self.of(rival, blow).filter_map(|trial| trial.outage_ms).collect();
        let moved = self.of(rival, blow).filter(|trial| trial.to.is_some()).count();
        let twice: Vec<f64> =
            self.of(rival, blow).map(|t| t.two_owners_ms).filter(|ms| *ms > 0.0).collect();
        let failed = self.of(rival, blow).filter(|trial| trial.error.is_some()).count();
        let ratio = times(self.series(rival.ours(), blow).median(), series.median());
        let last = if blow.is_takeover() {
            gaps.median().map_or("–".into(), super::figures::number)
        } else {
            moved.to_string()
        };
        let mut row = vec![rival.name().to_owned()];
        row.extend(series.spread());
        let most = super::figures::number(twice.iter().copied().fold(0.0, f64::max));
        row.extend([ratio, last, twice.len().to_string(), most, failed.to_string()]);
        row
    }

    /// Where the time goes in ours, as its incidents tell.
    fn phases(&self) -> Option<Section> {
        let columns = [&["ms from the blow, p50 (most)"][..], &MARKS[..], &["trials"]].concat();
        let mut section = Section::table("Where the time goes after a power-off of ours", columns)
            .note(
                "The incident's own steps, on the clock of the node that was director; the blow and \
                 the client's answer on the clock of the same machine. Where the director was struck, \
                 its successor counts the lease from its own election on.",
            );
        for rival in [Rival::OursDefault, Rival::OursFast] {
            let all: Vec<Moments> = self.of(rival, Blow::Power).filter_map(moments).collect();
            let (director, member): (Vec<_>, Vec<_>) =
                all.into_iter().partition(Moments::is_of_the_director);
            for (what, moments) in [("a member", member), ("the director", director)] {
                section.rows.extend(moments_row(&format!("{}, {what}", rival.name()), &moments));
            }
        }
        (!section.rows.is_empty()).then_some(section)
    }
}

/// Moments of a takeover.
const MARKS: [&str; 6] = [
    "found to be DOWN",
    "vote over",
    "lease certainly over",
    "address being added",
    "address reported online",
    "client has an answer",
];

/// When those moments of a trial were, in milliseconds after the blow.
#[derive(Debug)]
struct Moments {
    at: [f64; MARKS.len()],
    /// From when on the director that decided counted the lease.
    counted_from: f64,
}

impl Moments {
    /// Whether it was the director that was struck: a lease is counted from the election of whoever
    /// decides, which is after the blow then; otherwise from the last beat, which is before it. Beats
    /// go on for the moment it takes to unplug the cables.
    fn is_of_the_director(&self) -> bool {
        self.counted_from > 60.0
    }
}

/// A row of the table of phases.
fn moments_row(name: &str, all: &[Moments]) -> Option<Vec<String>> {
    let cell = |place: usize| {
        let series: Series = all.iter().map(|moments| moments.at[place]).collect();
        let text = |value: Option<f64>| value.map_or("–".into(), super::figures::number);
        format!("{} ({})", text(series.median()), text(series.quantile(1.0)))
    };
    let mut row = vec![name.to_owned()];
    row.extend((0..MARKS.len()).map(cell));
    row.push(all.len().to_string());
    (!all.is_empty()).then_some(row)
}

/// Those of a trial; `None` if its story is another one.
fn moments(trial: &Trial) -> Option<Moments> {
    let story = trial.story.as_ref()?;
    let began = unix_seconds(story["began"].as_str()?)?;
    let offset = (began - trial.zero_unix) * 1e3;
    let steps = story["steps"].as_array()?;
    let find = |code: &str, words: &str, to_its_end: bool| {
        let step = steps.iter().find(|step| {
            step["code"] == code && step["what"].as_str().is_some_and(|what| what.contains(words))
        })?;
        let length = if to_its_end { step["duration_ms"].as_f64().unwrap_or(0.0) } else { 0.0 };
        Some(offset + step["starts_ms"].as_f64()? + length)
    };
    let evicted = find("LET_GO", "", false)?;
    let ground = steps.iter().find(|step| step["code"] == "LET_GO")?["cause"].as_str()?;
    let silent: f64 = ground.split("not heard for ").nth(1)?.split(' ').next()?.parse().ok()?;
    let at = [
        offset,
        find("EVENT_VOTE", "approved", true)?,
        evicted,
        find("RESOURCE", "STARTING", false)?,
        find("RESOURCE", "ONLINE", true)?,
        trial.after_ms?,
    ];
    Some(Moments { at, counted_from: evicted - silent })
}

/// Seconds since 1970 of an RFC 3339 time in UTC.
fn unix_seconds(text: &str) -> Option<f64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.split(':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 of a date, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) as f64 * 86_400.0 + hour * 3_600.0 + minute * 60.0 + second)
}

fn read(file: &Path) -> Result<Vec<Trial>> {
    let text = fs::read_to_string(file)
        .map_err(|error| LabError(format!("{} cannot be read: {error}", file.display())))?;
    let parse = |(place, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            LabError(format!("{} line {}: no trial: {error}", file.display(), place + 1))
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(unix_seconds("2026-11-23T01:27:42.725Z"), Some(1_795_397_262.725));
        assert_eq!(unix_seconds("2024-02-29T12:00:00Z"), Some(1_709_208_000.0));
        assert_eq!(unix_seconds("yesterday"), None);
    }

    #[test]
    fn a_story_tells_where_the_time_went() {
        let trial: Trial = serde_json::from_value(serde_json::json!({
            "rival": "ours-default", "blow": "power", "trial": 0, "from": 1, "to": 2,
            "after_ms": 45.0, "two_owners_ms": 0.0, "noise": "", "zero_unix": 10.0,
            "story": { "began": "1970-01-01T00:00:10.010Z", "steps": [
                { "code": "EVENT_VOTE", "what": "was approved", "starts_ms": 5, "duration_ms": 2 },
                { "code": "LET_GO", "what": "n1", "starts_ms": 20, "duration_ms": 0,
                  "cause": "its lease is over: not heard for 35 ms, release kept by its kernel" },
                { "code": "RESOURCE", "what": "is STARTING", "starts_ms": 25, "duration_ms": 0 },
                { "code": "RESOURCE", "what": "is ONLINE", "starts_ms": 26, "duration_ms": 10 },
            ]},
        }))
        .expect("a trial");
        let moments = moments(&trial).expect("all moments");
        assert_eq!(moments.at.map(f64::round), [10.0, 17.0, 30.0, 35.0, 46.0, 45.0]);
        assert!(!moments.is_of_the_director());
        let ledger = Ledger { file: None, trials: vec![trial] };
        let tables = ledger.sections("Quiet.");
        assert_eq!(tables.len(), 2);
        assert!(tables[0].markdown().contains("| ours, profile `default` | 45.0 |"));
    }

    #[test]
    fn what_was_written_is_read_again() {
        let file = std::env::temp_dir().join(format!("vedette-trials-{}", std::process::id()));
        let trial: Trial = serde_json::from_value(serde_json::json!({
            "rival": "keepalived-fast", "blow": "engine", "trial": 3, "from": 1,
            "two_owners_ms": 5.0, "noise": "", "zero_unix": 0.0,
        }))
        .expect("a trial");
        let mut ledger = Ledger::new(Some(file.clone()));
        ledger.push(trial.clone()).and_then(|()| ledger.push(trial)).expect("written");
        assert_eq!(Ledger::read(std::slice::from_ref(&file)).expect("read").trials.len(), 2);
        fs::write(&file, "{}\n").expect("written");
        let error = Ledger::read(std::slice::from_ref(&file)).expect_err("no trial").0;
        fs::remove_file(&file).expect("removed");
        assert!(error.contains("line 1"), "{error}");
    }
}
