//! How long from asking for a change until each surface of *another* node shows it.
//!
//! The change is the logging level, given to the director's control socket, since it harms nothing.
//! Two zeros are shown: the asking (the whole way: proposal, two disks, commit, apply, show), and
//! the answer to it, which comes when the director has committed and applied. What another node
//! shows before the asker has its answer counts as below zero there.
//!
//! One surface is asked at a time, over a connection that stays open, as fast as it answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::{Section, Series, number};
use super::machine::Noise;
use super::ours::Ours;
use super::wire::{Http, REVISION, Snmp, Watch, now_ms};
use super::{Progress, Stop};
use crate::lab::{LabError, Result};

/// Longest time until a change must be shown.
const PATIENCE_MS: f64 = 10_000.0;

/// What is asked, in the order of the table.
const SURFACES: [&str; 5] = [
    "SSE client of `/api/v1/watch`",
    "`GET /api/v1/clusters`, waiting with `index=`",
    "`GET /api/v1/clusters`, asked again and again",
    "`GET /metrics`, asked again and again",
    "SNMP GET through snmpd, asked again and again",
];

/// When a change was asked for, answered and shown; milliseconds.
#[derive(Clone, Copy, Debug)]
struct Change {
    asked: f64,
    answered: f64,
    shown: f64,
}

/// The table of this measurement, on a cluster that runs.
///
/// # Errors
/// If a change is refused or never shown.
pub(super) fn measure(
    ours: &Ours,
    changes: usize,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Section> {
    let (director, others) = ours.director()?;
    let noise = Noise::now();
    let mut writer = Writer::new(ours, &director)?;
    let mut readers = Readers::new(ours, &others[0])?;
    let columns = [
        "surface of a node that is not the director",
        "from asking: p50 ms",
        "p99",
        "from the answer: p50 ms",
        "p99",
        "changes",
    ];
    let mut section = Section::table("A change → every surface of another node shows it", columns);
    let mut values = serde_json::Map::new();
    for (place, name) in SURFACES.into_iter().enumerate() {
        let (mut from_asking, mut from_answer) = (Series::default(), Series::default());
        for _ in 0..changes {
            stop.check()?;
            let change = readers.watch_change(place, &mut writer)?;
            from_asking.push(change.shown - change.asked);
            from_answer.push(change.shown - change.answered);
            std::thread::sleep(Duration::from_millis(20));
        }
        progress(&format!("{name}: {changes} changes"));
        section.row(row(name, &from_asking, &from_answer));
        values
            .insert(name.into(), json!({ "from_asking": from_asking, "from_answer": from_answer }));
    }
    writer.put_back()?;
    section.values = Value::Object(values);
    Ok(section
        .note("Zero is the request at the director's control socket, or its answer (committed and applied there).")
        .note(noise.since()))
}

fn row(name: &str, from_asking: &Series, from_answer: &Series) -> Vec<String> {
    let cell = |series: &Series, share| series.quantile(share).map_or("–".into(), number);
    vec![
        name.into(),
        cell(from_asking, 0.5),
        cell(from_asking, 0.99),
        cell(from_answer, 0.5),
        cell(from_answer, 0.99),
        from_asking.len().to_string(),
    ]
}

/// Changes the logging level to and fro.
struct Writer {
    control: Http,
    revision: u64,
    count: u64,
}

impl Writer {
    fn new(ours: &Ours, director: &str) -> Result<Self> {
        let mut control = Http::unix(&ours.lab.node(director)?.control())?;
        let revision = control.get("/api/v1/status")?.revision;
        Ok(Self { control, revision, count: 0 })
    }

    /// Asks for a change; when it was asked for and answered, and its revision.
    fn change(&mut self) -> Result<(f64, f64, u64)> {
        self.count += 1;
        let level = if self.count % 2 == 1 { "informational" } else { "notice" };
        let id = format!("{:016x}{:016x}", now_ms().to_bits(), self.count);
        let request =
            json!({ "id": id, "actor": "bench", "command": { "set_logging_level": level } });
        let asked = now_ms();
        let answer = self.control.post("/control/v1/propose", &request)?;
        let answered = now_ms();
        let body = answer.json();
        self.revision = body["outcome"]["applied"]["index"].as_u64().ok_or_else(|| {
            LabError(format!(
                "the director did not make the change (status {}): {body}",
                answer.status
            ))
        })?;
        Ok((asked, answered, self.revision))
    }

    /// Leaves the setting as it was.
    fn put_back(&mut self) -> Result<()> {
        while self.count % 2 == 1 {
            self.change()?;
        }
        Ok(())
    }
}

/// What is asked at the other node.
struct Readers {
    watch: Watch,
    api: Http,
    snmp: Snmp,
}

impl Readers {
    fn new(ours: &Ours, node: &str) -> Result<Self> {
        let address = ours.lab.node(node)?.snmp;
        Ok(Self {
            watch: ours.watch(&[node.to_owned()])?,
            api: Http::tcp(ours.http(node)?)?,
            snmp: Snmp::new(address, &ours.lab.sandbox().community)?,
        })
    }

    /// Makes a change and sees when that surface shows it.
    fn watch_change(&mut self, surface: usize, writer: &mut Writer) -> Result<Change> {
        while self.watch.events.try_recv().is_ok() {}
        let before = writer.revision;
        let (watch, api, snmp) = (&self.watch, &mut self.api, &self.snmp);
        if surface == 0 {
            let (asked, answered, revision) = writer.change()?;
            return Ok(Change { asked, answered, shown: wait_for_event(watch, revision)? });
        }
        let ready = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ready = &ready;
            let reader = scope.spawn(move || {
                wait_until_newer(before, ready, || match surface {
                    1 => Ok(api.get(&format!("/api/v1/clusters?index={before}&wait=5s"))?.revision),
                    2 => Ok(api.get("/api/v1/clusters")?.revision),
                    3 => Ok(metric_revision(&api.get("/metrics")?.body)),
                    _ => snmp.number(&REVISION),
                })
            });
            while !ready.load(Ordering::Acquire) && !reader.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(5));
            let change = writer.change();
            let shown = reader
                .join()
                .unwrap_or_else(|_| Err(LabError("the thread that reads panicked".into())));
            let ((asked, answered, _), shown) = (change?, shown?);
            Ok(Change { asked, answered, shown })
        })
    }
}

/// Asks until the revision is greater than `before`; the moment of the answer that showed it.
/// `ready` is set just before the first question.
fn wait_until_newer(
    before: u64,
    ready: &AtomicBool,
    mut ask: impl FnMut() -> std::io::Result<u64>,
) -> Result<f64> {
    let deadline = now_ms() + PATIENCE_MS;
    while now_ms() < deadline {
        ready.store(true, Ordering::Release);
        if ask()? > before {
            return Ok(now_ms());
        }
    }
    Err(LabError(format!("nothing newer than revision {before} was shown within 10 s")))
}

fn wait_for_event(watch: &Watch, revision: u64) -> Result<f64> {
    let deadline = now_ms() + PATIENCE_MS;
    while let Some(event) = watch.next(deadline) {
        if event.kind == "record" && event.data["revision"] == revision {
            return Ok(event.at_ms);
        }
    }
    Err(LabError(format!("the record of revision {revision} was not announced within 10 s")))
}

fn metric_revision(page: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(page);
    let line = text.lines().find(|line| line.starts_with("vedette_revision{"));
    let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    value.unwrap_or(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_read_off_the_metrics() {
        let page = b"# HELP vedette_revision x\nvedette_revision{cluster=\"a b\"} 123\n";
        assert_eq!(metric_revision(page), 123);
        assert_eq!(metric_revision(b""), 0);
    }
}
