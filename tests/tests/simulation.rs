//! Whole clusters under thousands of seeds.

use vedette_tests::sim;

#[test]
fn one_seed() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut trace = Some(Vec::new());
    let result = sim::run_traced(seed, None, &mut trace);
    println!("{}\n{result:?}", trace.unwrap_or_default().join("\n"));
}

#[test]
fn many() {
    let n: u64 = std::env::var("N").ok().and_then(|s| s.parse().ok()).unwrap_or(200);
    let t = std::time::Instant::now();
    let mut f = sim::Figures::default();
    let mut bad = 0;
    for seed in 1..=n {
        match sim::run(seed, None) {
            Ok(x) => f.add(&x),
            Err(v) => { bad += 1; if bad < 25 { println!("{seed}: {} {}", v.at, v.what) } }
        }
    }
    println!("{bad} bad; {f:?} in {:?}", t.elapsed());
}
