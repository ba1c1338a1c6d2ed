//! Our subagent beside one on net-snmp's own library, behind the same `snmpd`, at the same time.
//!
//! Both serve 4,000 rows of 8 columns (`vedetteLinkTable` and a copy of it in `bench/peer.c`); one
//! manager (`bench/client.c`) asks them by turns, so that whatever else the machine does hits both.
//! Printed are medians of the rounds:
//!
//! - `walk`: one column after the other with GETBULK, variables per second;
//! - `columns`: eight columns in each GETBULK, variables per second;
//! - `get`: single GETs of random cells, microseconds, median and 99th percentile;
//! - `lookup`: what a GetNext takes within the subagent at 100,000 variables.
//!
//! `cargo run --release -p vedette-mib --example agentx_bench [ROUNDS]`. Needs snmpd, a C compiler
//! and libsnmp-dev.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::fixture::World;
use common::programs::{Snmpd, folder, printed, run};
use common::until;
use vedette_core::time::Instant;
use vedette_core::view::Source;
use vedette_mib::answer::Answers;
use vedette_mib::oid::Oid;
use vedette_mib::pdu::SearchRange;
use vedette_mib::{FileCursor, Master, Subagent, SubagentConfig};

const ROWS: usize = 4_000;
const FIRST_COLUMN: usize = 3;
const COLUMNS: usize = 8;
const ROUNDS: usize = 5;
const GETS: usize = 5_000;

/// The entries of the two tables.
const OURS: &str = ".1.3.6.1.4.1.8072.9999.9999.7770.1.13.1";
const PEER: &str = ".1.3.6.1.4.1.8072.9999.9999.7771.1.13.1";

/// Two figures of each round.
type Samples = Vec<(f64, f64)>;

/// The peer, ended with its benchmark.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    world.links(ROWS);
    let source: Arc<World> = Arc::clone(&world);
    let cursor = Box::new(FileCursor::new(snmpd.dir.path().join("notified")));
    let config = SubagentConfig::new(Master::Unix(snmpd.socket()));
    let ours = Subagent::start(config, source, cursor).expect("our subagent starts");
    until("our subagent is there", || ours.connected().then_some(()));
    compile(snmpd.dir.path(), "client", "--libs");
    compile(snmpd.dir.path(), "peer", "--agent-libs");
    let _peer = start_peer(&snmpd);

    println!("{ROWS} rows x {COLUMNS} columns, medians of {rounds} rounds by turns");
    println!("{:<12} {:>14} {:>14} {:>8}", "", "ours", "C, net-snmp", "ratio");
    for (what, number) in [("walk", 25), ("columns", 25), ("get", GETS)] {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(measure(&snmpd, what, OURS, number));
            peer.push(measure(&snmpd, what, PEER, number));
        }
        print(what, &ours, &peer);
    }
    drop(ours);
    lookup();
}

fn print(what: &str, ours: &Samples, peer: &Samples) {
    let line = |name: &str, unit, ours: f64, peer: f64| {
        println!("{name:<12} {ours:>10.0} {unit:<3} {peer:>10.0} {unit:<3} {:>8.2}", ours / peer);
    };
    if what == "get" {
        let (p50, p99) = (|s: &(f64, f64)| s.0, |s: &(f64, f64)| s.1);
        line("get p50", "us", median(ours, p50), median(peer, p50));
        line("get p99", "us", median(ours, p99), median(peer, p99));
    } else {
        let speed = |sample: &(f64, f64)| sample.0 / sample.1;
        line(what, "/s", median(ours, speed), median(peer, speed));
    }
}

fn median(samples: &Samples, figure: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut figures: Vec<f64> = samples.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Runs the manager once; a walk must have found every cell.
fn measure(snmpd: &Snmpd, what: &str, entry: &str, number: usize) -> (f64, f64) {
    let address = format!("udp:127.0.0.1:{}", snmpd.port);
    let mut client = Command::new(snmpd.dir.path().join("client"));
    client.env("MIBS", "").args([&address, what, entry]);
    client.args([FIRST_COLUMN, COLUMNS, number].map(|number| number.to_string()));
    let text = printed(&mut client);
    let mut figures = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    let figures = (figures.next().expect("a figure"), figures.next().expect("a second one"));
    assert!(what == "get" || figures.0 as usize == ROWS * COLUMNS, "{what} of {entry}: {text}");
    figures
}

fn compile(dir: &Path, name: &str, libraries: &str) {
    let libraries = printed(Command::new("net-snmp-config").arg(libraries));
    let mut cc = Command::new("cc");
    cc.arg("-O2").arg(folder().join(format!("bench/{name}.c"))).arg("-o").arg(dir.join(name));
    let output = run(cc.args(libraries.split_whitespace()));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{complaint}\ninstall libsnmp-dev: apt-get install libsnmp-dev"
    );
}

fn start_peer(snmpd: &Snmpd) -> Peer {
    let mut command = Command::new(snmpd.dir.path().join("peer"));
    command.env("MIBS", "").arg(format!("unix:{}", snmpd.socket().display())).arg(ROWS.to_string());
    let child = command.stderr(Stdio::null()).spawn().expect("the peer starts");
    until("the peer answers", || snmpd.value(&format!("{PEER}.{FIRST_COLUMN}.1.2.1")));
    Peer(child)
}

/// A walk of 100,000 variables without sockets, step by step.
fn lookup() {
    let world = Arc::new(World::three_nodes());
    world.links(100_000 / COLUMNS);
    let source: Arc<dyn Source> = Arc::clone(&world) as Arc<dyn Source>;
    let mut answers = Answers::new(source);
    let start = std::time::Instant::now();
    let clock = || Instant::from(start.elapsed());
    let snapshot = answers.latest(clock(), clock);
    println!(
        "{:<12} {:>10.1} ms for {} variables",
        "snapshot",
        start.elapsed().as_secs_f64() * 1e3,
        snapshot.len()
    );
    let mut range = SearchRange { start: Oid::null(), include: false, end: Oid::null() };
    let mut taken = Vec::with_capacity(snapshot.len());
    loop {
        let began = std::time::Instant::now();
        let latest = answers.latest(clock(), clock);
        let found = answers.next(&latest, clock(), &range);
        taken.push(began.elapsed().as_secs_f64() * 1e6);
        let Some((name, _)) = found else { break };
        range.start = name;
    }
    taken.sort_by(f64::total_cmp);
    let (p50, p99) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    println!(
        "{:<12} p50 {p50:.2} us, p99 {p99:.2} us, max {:.0} us",
        "lookup",
        taken[taken.len() - 1]
    );
}
