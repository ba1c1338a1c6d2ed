//! The history under violence, each in a real process of its own: killed while it writes, and on
//! a disk that takes no more (architecture, invariant 7: nothing acknowledged is lost).
//!
//! The child is this test program again, told by a variable to play the child's part.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{records, records_from, wait_for};
use vedette_collector::history::{History, verify_offline};

const PART: &str = "VEDETTE_TEST_CHILD_HISTORY";

fn child_of(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(PART, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn said(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.trim().parse().ok()
}

/// Appends for ever and says what was announced as durable.
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn append_for_ever(path: &Path) -> ! {
    let history = History::open(path).unwrap();
    let mut head = history.head();
    loop {
        let batch = records_from(head.seq, head.hash, 37);
        head = vedette_collector::history::Head::of(&batch[36]);
        history.append(batch).unwrap();
        wait_for("durable", || (history.head().seq + 200 >= head.seq).then_some(()));
        println!("durable {}", history.head().seq);
    }
}

#[test]
fn kill_nine_loses_nothing_that_was_announced() {
    if let Some(path) = std::env::var_os(PART) {
        append_for_ever(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut announced = 0;
    for round in 1..=5 {
        let mut child = child_of("kill_nine_loses_nothing_that_was_announced", &path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let new = lines.map_while(Result::ok).filter_map(|line| said(&line, "durable "));
        announced = new.take(10 * round).last().unwrap().max(announced);
        child.kill().unwrap();
        child.wait().unwrap();
        let verdict = verify_offline(&path).unwrap();
        assert!(verdict.intact(), "{:?}", verdict.fault);
        assert!(verdict.head.seq >= announced, "{} < {announced}", verdict.head.seq);
    }
    assert!(announced > 37);
}

/// Limits the size of files, so that the database cannot grow; then lifts the limit.
fn fill_the_disk(path: &Path) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let history = History::open(path).unwrap();
    let all = records(10_000);
    history.append(all[..100].to_vec()).unwrap();
    wait_for("the first records", || (history.head().seq == 100).then_some(()));
    setrlimit(Resource::RLIMIT_FSIZE, 256 << 10, hard).unwrap();
    history.append(all[100..].to_vec()).unwrap();
    let health = history.health();
    let stalled = wait_for("a stall", || health.borrow().stalled.clone());
    assert!(!stalled.why.is_empty() && stalled.waiting > 0);
    let safe = history.head().seq;
    assert!(safe < 10_000);
    assert_eq!(history.after(0, 20_000).unwrap(), all[..safe as usize]);
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    wait_for("all records", || (history.head().seq == 10_000).then_some(()));
    wait_for("good health", || health.borrow().good().then_some(()));
    assert!(history.verify().unwrap().intact());
}

#[test]
fn a_full_disk_delays_records_and_loses_none() {
    if let Some(path) = std::env::var_os(PART) {
        return fill_the_disk(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let child = child_of("a_full_disk_delays_records_and_loses_none", &path);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let verdict = verify_offline(&path).unwrap();
    assert!(verdict.intact() && verdict.checked == 10_000, "{verdict:?}");
}
