//! How long after the loss of a quorum each surface of the node that is left shows it.
//!
//! Of three nodes `n3` is dead and called DOWN; then `n2` loses its power. `n1` cannot know of that
//! before its lease is over, so two zeros are shown: just before the first process of `n2` is killed,
//! and the moment at which `n1` wrote `QUORUM_LOST` into its own journal, which is the end of its lease
//! as its agent was told of it. That moment is the record's own, on the machine's clock.
//!
//! All surfaces are looked at in the same trial, each by a thread of its own. One that does not say
//! before the blow that all is well fails the measurement: it would not measure anything. One that
//! does not show the loss in time is counted.
//!
//! A journal holds back what flaps ([`Watch::BURST`]), and so do the surfaces that tell records. Losses
//! are therefore at such distances that each is told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::json;
use vedette_core::local::Watch;
use vedette_core::model::ClusterStatus;

use super::detection::spread_phase;
use super::figures::{Section, Series, number};
use super::machine::Noise;
use super::ours::Ours;
use super::wire::{CLUSTER_STATE, Http, Snmp, now_ms};
use super::{Progress, Stop};
use crate::alone;
use crate::lab::{LabError, Result, Victim};

/// The node that is left.
const SURVIVOR: &str = "n1";

/// The node whose death takes the quorum along.
const VICTIM: &str = "n2";

/// The node that was dead before.
const DEAD: &str = "n3";

/// Profiles that are measured.
const PROFILES: [&str; 2] = ["default", "fast"];

/// Longest time until a surface must show it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time between an answer of a polled surface and the next question.
const POLL: Duration = Duration::from_millis(2);

/// A question to a surface: whether it shows the loss.
type Look = Box<dyn FnMut() -> io::Result<bool> + Send>;

/// A surface of the survivor.
struct Surface {
    name: &'static str,
    /// Time between an answer and the next question; none where the question itself waits.
    pause: Duration,
    open: fn(&Ours) -> Result<Look>,
}

/// What is looked at, in the order of the table.
const SURFACES: [Surface; 8] = [
    Surface { name: "log file", pause: POLL, open: log },
    Surface { name: "SSE client, `event: local`", pause: Duration::ZERO, open: stream },
    Surface { name: "`GET /api/v1/clusters`, waiting", pause: Duration::ZERO, open: waiting },
    Surface { name: "`GET /api/v1/local`, polled", pause: POLL, open: local },
    Surface { name: "`GET /metrics`, polled", pause: POLL, open: metrics },
    Surface { name: "`vedetteClusterState.0`, polled through snmpd", pause: POLL, open: scalar },
    Surface { name: "notification, written down by snmptrapd", pause: POLL, open: notification },
    Surface { name: "alert script's own log on the node", pause: POLL, open: alert },
];

/// Adds a table for each profile. What was found before something failed is worth its table, too.
///
/// # Errors
/// If a cluster cannot be formed, is not whole again, or shows a loss that did not happen; if the time
/// is over.
pub(super) fn measure(
    dir: &Path,
    trials: usize,
    stop: &Stop,
    progress: Progress<'_>,
    sections: &mut Vec<Section>,
) -> Result<()> {
    for profile in PROFILES {
        stop.check()?;
        progress(&format!("quorum loss: forming ours ({profile})"));
        let ours = Ours::up(&dir.join(format!("quorum-loss-{profile}")), profile)?;
        let noise = Noise::now();
        let mut found = Vec::new();
        let done: Result<()> = (0..trials).try_for_each(|trial| {
            stop.check()?;
            found.push(strike(&ours, trial)?);
            progress(&format!("quorum loss, {profile}: {} of {trials}", trial + 1));
            Ok(())
        });
        if !found.is_empty() {
            sections.push(section(profile, &found).note(noise.since()));
        }
        done?;
    }
    Ok(())
}

/// One loss, in milliseconds after the power-off.
#[derive(Serialize)]
struct Trial {
    /// Whether the survivor was the director.
    was_director: bool,
    /// When it wrote its own record, if it did.
    recorded: Option<f64>,
    /// When each surface showed it, if it did.
    shown: Shown,
}

/// A moment for each surface.
type Shown = [Option<f64>; SURFACES.len()];

/// Takes the quorum away, looks at every surface, and heals.
fn strike(ours: &Ours, trial: usize) -> Result<Trial> {
    wait_until_told_again(ours)?;
    ours.power_off(DEAD)?;
    wait_until_quiet(ours)?;
    spread_phase(trial);
    let was_director = ours.director()?.0 == SURVIVOR;
    let journal = ours.get(SURVIVOR, "/api/v1/local")["journal"]["last"].as_u64().unwrap_or(0);
    let (zero, shown) = watch_the_loss(ours)?;
    let recorded = losses_ms(ours, journal).first().map(|at| at - zero);
    for name in [VICTIM, DEAD] {
        ours.lab.restart(name)?;
    }
    ours.wait_until_healthy()?;
    wait_until_quiet(ours)?;
    Ok(Trial { was_director, recorded, shown: shown.map(|at| Some(at? - zero)) })
}

/// Waits until one more loss is not held back as one that flaps: each makes two records.
fn wait_until_told_again(ours: &Ours) -> Result<()> {
    let patience = Watch::WINDOW + PATIENCE;
    ours.lab.wait_for("earlier losses of the quorum to be long over", patience, |_| {
        let begin = now_ms() - Watch::WINDOW.as_secs_f64() * 1e3;
        let lately = losses_ms(ours, 0).into_iter().filter(|at| *at >= begin).count();
        (lately * 2 + 2 <= Watch::BURST as usize).then_some(())
    })
}

/// Waits until nothing is on its way any more that a surface would show: no alert waits, and what the
/// survivor lived through before is accounted for.
fn wait_until_quiet(ours: &Ours) -> Result<()> {
    ours.lab.wait_for("all alerts and accounts to be done", PATIENCE, |_| {
        let cluster = &ours.get(SURVIVOR, "/api/v1/clusters")[0];
        let journal = &ours.get(SURVIVOR, "/api/v1/local")["journal"];
        let is_quiet = cluster["known"] == true
            && cluster["alerts_pending"] == 0
            && journal["last"] == journal["accounted"];
        is_quiet.then_some(())
    })
}

/// Powers the victim off while every surface is looked at: when that was, and when each showed it.
fn watch_the_loss(ours: &Ours) -> Result<(f64, Shown)> {
    let looks: Vec<Look> =
        SURFACES.iter().map(|surface| (surface.open)(ours)).collect::<Result<_>>()?;
    let begun = Barrier::new(SURFACES.len() + 1);
    std::thread::scope(|scope| {
        let begun = &begun;
        let threads: Vec<_> = SURFACES
            .iter()
            .zip(looks)
            .map(|(surface, look)| scope.spawn(move || follow(surface, look, begun)))
            .collect();
        begun.wait();
        let zero = now_ms();
        let killed = ours.lab.kill(VICTIM, Victim::Power);
        let mut shown = [None; SURFACES.len()];
        for (shown, thread) in shown.iter_mut().zip(threads) {
            let panicked = |_| Err(LabError("a thread that looks panicked".into()));
            *shown = thread.join().unwrap_or_else(panicked)?;
        }
        killed.map(|()| (zero, shown))
    })
}

/// Looks once, which is before the blow, and then until the surface shows it; that moment.
fn follow(surface: &Surface, mut look: Look, begun: &Barrier) -> Result<Option<f64>> {
    let at_first = look();
    begun.wait();
    let failed = |error: io::Error| LabError(format!("{}: {error}", surface.name));
    if at_first.map_err(failed)? {
        return Err(LabError(format!("{} shows the loss before it happened", surface.name)));
    }
    let deadline = now_ms() + PATIENCE.as_secs_f64() * 1e3;
    while now_ms() < deadline {
        if look().map_err(failed)? {
            return Ok(Some(now_ms()));
        }
        std::thread::sleep(surface.pause);
    }
    Ok(None)
}

/// When the survivor wrote each `QUORUM_LOST` behind that entry of its journal, on the monotonic clock.
fn losses_ms(ours: &Ours, after: u64) -> Vec<f64> {
    let page = ours.get(SURVIVOR, &format!("/api/v1/local/records?after={after}&limit=1000"));
    let suspended = suspended_ms();
    let records = page["records"].as_array().cloned().unwrap_or_default();
    records
        .iter()
        .filter(|record| record["code"] == "QUORUM_LOST" && record["phase"] == "raised")
        .filter_map(|record| Some(record["uptime_us"].as_f64()? / 1e3 - suspended))
        .collect()
}

/// For how long the machine was suspended: a record counts that, the monotonic clock does not.
fn suspended_ms() -> f64 {
    let since_start = clock_gettime(ClockId::CLOCK_BOOTTIME);
    let since_start =
        since_start.map_or(0.0, |now| now.tv_sec() as f64 * 1e3 + now.tv_nsec() as f64 / 1e6);
    since_start - now_ms()
}

fn log(ours: &Ours) -> Result<Look> {
    says_in(ours.lab.node(SURVIVOR)?.log(), |text| text.contains(&alone::sentence(SURVIVOR)))
}

fn alert(ours: &Ours) -> Result<Look> {
    let file = ours.lab.node(SURVIVOR)?.state_dir().join("alert.log");
    says_in(file, |text| text.contains(&alone::sentence(SURVIVOR)))
}

fn notification(ours: &Ours) -> Result<Look> {
    let file = ours.lab.dir().join("traps.log");
    says_in(file, |text| alone::is_among_notifications(text, SURVIVOR))
}

/// Whether what is appended to a file from now on says so. The file is read when it has grown.
fn says_in(file: PathBuf, says: fn(&str) -> bool) -> Result<Look> {
    let length = move |file: &Path| fs::metadata(file).map_or(0, |it| it.len() as usize);
    let begin = length(&file);
    let mut seen = begin;
    Ok(Box::new(move || {
        let now = length(&file);
        if now == seen {
            return Ok(false);
        }
        seen = now;
        let bytes = fs::read(&file)?;
        Ok(says(&String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default())))
    }))
}

fn stream(ours: &Ours) -> Result<Look> {
    let watch = ours.watch(&[SURVIVOR.to_owned()])?;
    let mut begun = false;
    Ok(Box::new(move || {
        // The first question is before the blow: whatever has come already is looked at.
        let patience = if begun { PATIENCE.as_secs_f64() * 1e3 } else { 0.0 };
        begun = true;
        let until = now_ms() + patience;
        while let Some(event) = watch.next(until) {
            if event.kind == "local"
                && event.data["code"] == "QUORUM_LOST"
                && event.data["phase"] == "raised"
            {
                return Ok(true);
            }
        }
        Ok(false)
    }))
}

fn waiting(ours: &Ours) -> Result<Look> {
    let mut api = Http::tcp(ours.http(SURVIVOR)?)?;
    let mut path = "/api/v1/clusters".to_owned();
    Ok(Box::new(move || {
        let answer = api.get(&path)?;
        path = format!(
            "/api/v1/clusters?index={}&viewpoint={}&wait=5s",
            answer.revision, answer.viewpoint
        );
        Ok(answer.json()[0]["known"] == false)
    }))
}

fn local(ours: &Ours) -> Result<Look> {
    let mut api = Http::tcp(ours.http(SURVIVOR)?)?;
    Ok(Box::new(move || Ok(api.get("/api/v1/local")?.json()["knows"] == false)))
}

fn metrics(ours: &Ours) -> Result<Look> {
    let mut api = Http::tcp(ours.http(SURVIVOR)?)?;
    Ok(Box::new(move || {
        let page = api.get("/metrics")?.body;
        Ok(alone::is_on_metrics(&String::from_utf8_lossy(&page)))
    }))
}

fn scalar(ours: &Ours) -> Result<Look> {
    let snmp = Snmp::new(ours.lab.node(SURVIVOR)?.snmp, &ours.lab.sandbox().community)?;
    Ok(Box::new(move || {
        Ok(snmp.number(&CLUSTER_STATE)? == u64::from(ClusterStatus::Unknown.code()))
    }))
}

fn section(profile: &str, trials: &[Trial]) -> Section {
    let columns = [
        "surface of the node that is left",
        "from the power-off: p50 ms",
        "p99",
        "from its own record: p50 ms",
        "p99",
        "trials",
        "not shown within 20 s",
    ];
    let title =
        format!("Quorum lost → every surface of the survivor shows it, profile `{profile}`");
    let mut section = Section::table(&title, columns).note(meaning(trials));
    section.row(row("(its own record of the loss)", trials, |trial| trial.recorded));
    for (place, surface) in SURFACES.iter().enumerate() {
        section.row(row(surface.name, trials, |trial| trial.shown[place]));
    }
    section.row(row("(the last of them)", trials, |trial| {
        trial.shown.into_iter().try_fold(f64::NEG_INFINITY, |last, at| Some(last.max(at?)))
    }));
    let names: Vec<&str> = SURFACES.iter().map(|surface| surface.name).collect();
    section.values = json!({ "surfaces": names, "trials": trials });
    section
}

fn meaning(trials: &[Trial]) -> String {
    let directors = trials.iter().filter(|trial| trial.was_director).count();
    format!(
        "Of three nodes one is DOWN; zero is the power-off of a second one, or the moment at which the \
         survivor wrote its record of the loss, at the end of its lease. Less than zero was shown \
         before. All surfaces are looked at in the same trial; what is polled is asked again {} ms \
         after its answer. The survivor was the director in {directors} of {} trials.",
        POLL.as_millis(),
        trials.len()
    )
}

fn row(name: &str, trials: &[Trial], at: impl Fn(&Trial) -> Option<f64>) -> Vec<String> {
    let from_blow: Series = trials.iter().filter_map(&at).collect();
    let from_record: Series =
        trials.iter().filter_map(|trial| Some(at(trial)? - trial.recorded?)).collect();
    let cell = |series: &Series, share| series.quantile(share).map_or("–".into(), number);
    vec![
        name.into(),
        cell(&from_blow, 0.5),
        cell(&from_blow, 0.99),
        cell(&from_record, 0.5),
        cell(&from_record, 0.99),
        trials.len().to_string(),
        (trials.len() - from_blow.len()).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surface_is_timed_from_the_blow_and_from_the_record() {
        let mut shown = [Some(105.0); SURFACES.len()];
        shown[1] = Some(140.0);
        let whole = Trial { was_director: true, recorded: Some(100.0), shown };
        shown[1] = None;
        let silent = Trial { was_director: false, recorded: None, shown };
        let table = section("fast", &[whole, silent]);
        let rows: Vec<&[String]> = table.rows.iter().map(|row| &row[1..]).collect();
        assert_eq!(rows[0], ["100", "100", "0", "0", "2", "1"], "the record");
        assert_eq!(rows[1], ["105", "105", "5.00", "5.00", "2", "0"]);
        assert_eq!(rows[2], ["140", "140", "40.0", "40.0", "2", "1"], "not shown once");
        assert_eq!(rows[SURFACES.len() + 1], ["140", "140", "40.0", "40.0", "2", "1"], "the last");
        assert!(table.notes[0].contains("in 1 of 2 trials"), "{}", table.notes[0]);
    }

    #[test]
    fn only_what_is_appended_to_a_file_counts() {
        let file = std::env::temp_dir().join(format!("vedette-says-{}", std::process::id()));
        let old = alone::sentence(SURVIVOR) + "\n";
        fs::write(&file, &old).expect("written");
        let mut look = says_in(file.clone(), |text| text.contains(&alone::sentence(SURVIVOR)))
            .expect("opened");
        assert!(!look().expect("read"));
        fs::write(&file, old.clone() + "and more\n").expect("written");
        assert!(!look().expect("read"));
        fs::write(&file, old.clone() + "and more\n" + &old).expect("written");
        assert!(look().expect("read"));
        fs::remove_file(&file).expect("removed");
    }
}
