//! Whole clusters of the core under thousands of seeds (house style: a virtual world).
//!
//! `ten_thousand_seeds` must find nothing; `deliberate_mistakes_are_found` must find something for
//! each mistake that is put in, or the first test would mean little. A failure is repeated, with
//! everything that happened line by line, by the command it prints.

#![allow(clippy::print_stdout)] // figures and traces are what one runs it for

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vedette_tests::sim::{self, Bug, Figures};

/// Runs a test may take: `SEEDS=100000` for a night.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn repeat_with(seed: u64) -> String {
    format!("SEED={seed} cargo test -p vedette-tests --test simulation one_seed -- --nocapture")
}

/// Whole clusters of 3 to 8 nodes: start, storm, healing; no invariant is violated.
#[test]
fn ten_thousand_seeds() {
    let (begin, total) = (Instant::now(), seeds());
    let next = AtomicU64::new(1);
    let work = || {
        let mut figures = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > total {
                return figures;
            }
            match sim::run(seed, None) {
                Ok(run) => figures.add(&run),
                Err(violation) => panic!(
                    "seed {seed}, {:.3} s: {}\nRepeat it: {}",
                    violation.at as f64 / 1e6,
                    violation.what,
                    repeat_with(seed)
                ),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Figures::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in running {
            match worker.join() {
                Ok(figures) => sum.add(&figures),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    println!("{sum:#?}\n{:.0} seeds a second on {workers} cores", sum.runs as f64 / seconds);
    assert_eq!(sum.runs, total);
    assert!(sum.elections > total, "directors must have changed: {sum:?}");
    // Else the checks of what is alive had nothing to look at.
    let seen = [sum.excused, sum.reaped, sum.stuck, sum.sighted];
    assert!(total < 1_000 || seen.iter().all(|count| *count > total / 100), "{sum:?}");
}

/// Prints one run line by line: `SEED=17 cargo test … one_seed -- --nocapture`.
#[test]
fn one_seed() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut trace = Some(Vec::new());
    let result = sim::run_traced(seed, None, &mut trace);
    println!("{}", trace.unwrap_or_default().join("\n"));
    if let Err(violation) = result {
        panic!("{:.3} s: {}", violation.at as f64 / 1e6, violation.what);
    }
}

/// The same seed is the same run, to the last record.
#[test]
fn a_seed_repeats_itself() {
    let trace = |seed| {
        let mut trace = Some(Vec::new());
        let figures = sim::run_traced(seed, None, &mut trace);
        (figures, trace)
    };
    for seed in 1..20 {
        assert_eq!(trace(seed), trace(seed));
    }
    assert_ne!(trace(1), trace(2));
}

/// Every mistake that is put in on purpose is found.
#[test]
fn deliberate_mistakes_are_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match sim::search(bug, 3_000) {
            Some((seeds, violation)) => {
                println!("{bug:?}: after {seeds} seeds: {}", violation.what)
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
