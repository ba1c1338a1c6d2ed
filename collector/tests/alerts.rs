//! The error alert script (spec A14, A15), run for real: every test starts real processes.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{LONG, records, wait_for};
use vedette_collector::alerts::{
    AlertInput, DEFAULT_SCRIPT, Limits, Scope, prepare_log, run, syntax_check, test_record,
};
use vedette_core::id::NodeNumber;
use vedette_core::model::{AlertTest, RunOutcome, Severity};
use vedette_core::record::Record;
use vedette_core::time::WallTime;

fn record() -> Record {
    records(9).remove(8)
}

fn input(record: Record) -> AlertInput {
    AlertInput {
        scope: Scope::Cluster,
        record,
        node: "n2".into(),
        member: "n1".into(),
        cluster: "demo".into(),
        attempt: 1,
        version: 7,
        mail_to: None,
        log: None,
        tape: None,
    }
}

fn limits(timeout: Duration) -> Limits {
    Limits { timeout, ..Limits::default() }
}

async fn run_text(text: &str) -> RunOutcome {
    run(Some(text), &input(record()), &limits(LONG)).await
}

/// A directory in which the script's user may write.
fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    directory
}

fn read_pid(path: &Path) -> i32 {
    wait_for("a process number", || {
        std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.trim().parse().ok()
    })
}

/// Gone, or only a name that nobody has waited for.
fn gone(pid: i32) -> Option<()> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("X", |(_, rest)| &rest[..1]);
    matches!(state, "X" | "Z").then_some(())
}

#[tokio::test]
async fn a14_success_with_arguments_environment_and_json() {
    let outcome = run_text(
        "#!/bin/sh\necho \"$1|$2|$3|$4|$5\"; cat\n\
         echo \"$VEDETTE_ALERT_SEVERITY|$VEDETTE_ALERT_NODE|$VEDETTE_ALERT_MEMBER|$CRM_alert_desc\"",
    )
    .await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.version, 7);
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines[0], "9|node|n2|NODE_HOST|node n2 is DOWN (record 9)");
    let json: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(json["seq"], 9);
    assert_eq!(json["cluster"], "demo");
    assert_eq!(json["cause"], record().cause);
    assert_eq!(lines[2], "warning|n2|n1|lost");
}

#[tokio::test]
async fn a14_an_exit_status_and_a_signal_are_reported() {
    let failed = run_text("#!/bin/sh\necho no; echo why >&2; exit 3").await;
    assert_eq!((failed.exit, failed.output.as_str()), (Some(3), "no\nwhy\n"));
    assert!(!failed.succeeded());
    let killed = run_text("#!/bin/sh\nkill -9 $$").await;
    assert_eq!((killed.exit, killed.signal), (None, Some(9)));
}

#[tokio::test]
async fn a14_a_script_that_hangs_is_ended_with_everything_it_forked() {
    let directory = open_directory();
    let (inside, outside) = (directory.path().join("inside"), directory.path().join("outside"));
    let text = format!(
        "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $! >{}\n\
         setsid sh -c 'trap \"\" TERM; echo $$ >{}; while :; do sleep 1000; done' &\n\
         echo started\nwhile :; do sleep 1000; done\n",
        inside.display(),
        outside.display()
    );
    let short = limits(Duration::from_millis(700));
    let outcome = run(Some(&text), &input(record()), &short).await;
    assert!(outcome.timed_out && !outcome.succeeded(), "{outcome:?}");
    assert_eq!((outcome.signal, outcome.output.as_str()), (Some(9), "started\n"));
    for path in [inside, outside] {
        let pid = read_pid(&path);
        wait_for("the child ends", || gone(pid));
    }
}

#[tokio::test]
async fn a14_a_script_that_leaves_a_daemon_ends_at_once_and_the_daemon_at_the_time_limit() {
    let directory = open_directory();
    let path = directory.path().join("pid");
    // A double fork with a session of its own, and the output kept open.
    let text = format!(
        "#!/bin/sh\n(setsid sh -c 'echo $$ >{}; exec sleep 1000' &)\necho left\n",
        path.display()
    );
    let began = Instant::now();
    let outcome = run(Some(&text), &input(record()), &limits(Duration::from_secs(3))).await;
    assert_eq!((outcome.exit, outcome.timed_out), (Some(0), false), "{outcome:?}");
    assert_eq!(outcome.output, "left\n");
    let pid = read_pid(&path);
    while gone(pid).is_none() {
        assert!(began.elapsed() < LONG, "the daemon still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a14_a_run_that_is_given_up_leaves_nothing() {
    let directory = open_directory();
    let path = directory.path().join("pid");
    let text = format!("#!/bin/sh\necho $$ >{}\nsleep 1000\n", path.display());
    let run = tokio::spawn(async move { run_text(&text).await });
    let pid = tokio::task::spawn_blocking(move || read_pid(&path)).await.unwrap();
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    wait_for("the script ends", || gone(pid));
}

#[tokio::test]
async fn a14_a_flood_of_output_is_counted_and_not_kept() {
    let outcome = run_text("#!/bin/sh\nprintf first; head -c 100000000 /dev/zero\n").await;
    assert_eq!(outcome.exit, Some(0), "{outcome:?}");
    assert!(outcome.output.starts_with("first"));
    assert_eq!(outcome.output.len(), 8_192);
    assert_eq!(outcome.output_dropped, 100_000_005 - 8_192);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 80_000, "the peak of memory was {peak} kB");
}

#[tokio::test]
async fn a14_what_cannot_be_started_is_a_sentence() {
    use std::os::unix::fs::PermissionsExt;
    let directory = open_directory();
    let not_executable = directory.path().join("interpreter");
    std::fs::write(&not_executable, "x").unwrap();
    let no_program = directory.path().join("no-program");
    std::fs::write(&no_program, "\u{1}\u{2} neither a program nor a script").unwrap();
    std::fs::set_permissions(&no_program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        ("echo no interpreter\n".to_owned(), "does not begin with `#!`"),
        ("#!/no/such/interpreter\n".to_owned(), "does not exist"),
        ("#!/bin/sh\r\necho\r\n".to_owned(), "carriage return"),
        (format!("#!{}\n", not_executable.display()), "may not be executed"),
        (format!("#!{}\necho ran\n", no_program.display()), "not a program"),
    ];
    for (text, expected) in cases {
        let outcome = run_text(&text).await;
        let why = outcome.failure.clone().unwrap_or_else(|| panic!("{text}: {outcome:?}"));
        assert!(why.contains(expected), "{text}: {why}");
        assert!(!outcome.succeeded() && outcome.exit.is_none() && outcome.output.is_empty());
    }
}

#[tokio::test]
async fn a14_a_user_that_does_not_exist_is_a_sentence() {
    if !nix::unistd::Uid::effective().is_root() {
        // Nobody but root can change the user, so the setting has no effect.
        assert_eq!(run_text("#!/bin/sh\nid -u").await.output.trim(), current_uid());
        return;
    }
    let strange = Limits { user: Some("no-such-user".into()), ..Limits::default() };
    let outcome = run(Some("#!/bin/sh\n"), &input(record()), &strange).await;
    assert!(outcome.failure.unwrap().contains("no-such-user"));
    let unprivileged = run_text("#!/bin/sh\nid -un; id -G\n").await.output;
    let groups = unprivileged.lines().nth(1).unwrap().split(' ').count();
    assert!(unprivileged.starts_with("nobody\n") && groups == 1, "{unprivileged}");
}

fn current_uid() -> String {
    nix::unistd::Uid::effective().to_string()
}

#[tokio::test]
async fn a14_input_that_is_not_read_and_output_that_is_closed_disturb_nobody() {
    let mut big = record();
    big.message = "x".repeat(1 << 20);
    let ignored = run(Some("#!/bin/sh\nexit 0"), &input(big), &limits(LONG)).await;
    assert!(ignored.succeeded(), "{ignored:?}");
    let closed = run_text("#!/bin/sh\nexec <&- >&- 2>&-\nexit 4\n").await;
    assert_eq!((closed.exit, closed.output.as_str()), (Some(4), ""));
}

#[tokio::test]
async fn a14_nothing_of_our_environment_files_or_place_leaks_in() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is something to leak");
    let outcome = run_text("#!/bin/sh\npwd; umask; ls /proc/self/fd; env").await;
    let mut lines = outcome.output.lines();
    assert_eq!(lines.next(), Some("/"));
    assert_eq!(lines.next(), Some("0027"));
    let descriptors: Vec<&str> = lines.by_ref().take_while(|line| !line.contains('=')).collect();
    assert!(descriptors.len() <= 5, "0, 1, 2, the script, and that of ls: {descriptors:?}");
    for line in outcome.output.lines().filter(|line| line.contains('=')) {
        let name = line.split('=').next().unwrap();
        let expected = ["PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD", "VEDETTE_RUN"]
            .contains(&name)
            || name.starts_with("VEDETTE_ALERT_")
            || name.starts_with("CRM_alert_");
        assert!(expected || line.starts_with("and n3"), "{line} leaked");
    }
}

#[tokio::test]
async fn a14_a_message_is_never_read_by_a_shell_of_ours() {
    let mut evil = record();
    evil.message = "$(touch /tmp/evil) `id` \"quoted\" 'single' ; rm -rf / \\ \n second".into();
    let text = "#!/bin/sh\nprintf '%s' \"$VEDETTE_ALERT_MESSAGE\"; printf '%s' \"$5\"";
    let outcome = run(Some(text), &input(evil.clone()), &limits(LONG)).await;
    assert_eq!(outcome.output, format!("{0}{0}", evil.message));
}

#[tokio::test]
async fn a14_any_interpreter_will_do() {
    let text = "#!/usr/bin/env python3\nimport json, sys\nprint(json.load(sys.stdin)['code'])\n";
    let outcome = run_text(text).await;
    assert_eq!(outcome.output, "NODE_HOST\n", "install python3: apt-get install python3");
}

fn a_test() -> AlertTest {
    AlertTest {
        id: 321,
        at: WallTime(1_767_225_600_000_000),
        actor: "root@n1".into(),
        message: "is anybody there?".into(),
        severity: Severity::Notice,
        members: [(NodeNumber(1), None)].into(),
    }
}

#[tokio::test]
async fn a15_a_test_is_marked_everywhere() {
    let test = input(test_record(&a_test(), NodeNumber(1)));
    let text = "#!/bin/sh\necho \"$VEDETTE_ALERT_TEST $VEDETTE_ALERT_ID $VEDETTE_ALERT_SEVERITY\"\n\
                cat";
    let outcome = run(Some(text), &test, &limits(LONG)).await;
    let (first, json) = outcome.output.split_once('\n').unwrap();
    assert_eq!(first, "1 321 notice");
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((&json["test"], &json["message"]), (&true.into(), &"is anybody there?".into()));
    let real = run(Some(text), &input(record()), &limits(LONG)).await;
    assert!(real.output.starts_with("0 9 "), "{}", real.output);
}

#[tokio::test]
async fn a15_the_built_in_script_appends_to_the_log_and_says_so() {
    let directory = open_directory();
    let log = directory.path().join("alert.log");
    prepare_log(&log, Some("nobody")).unwrap();
    let mut test = input(test_record(&a_test(), NodeNumber(1)));
    test.log = Some(log.clone());
    let outcome = run(None, &test, &limits(LONG)).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("TEST [demo] notice: is anybody there?"), "{logged}");
    assert!(outcome.output.starts_with(&logged), "{}", outcome.output);
}

#[tokio::test]
async fn a14_the_built_in_script_mails_when_told_to_whom() {
    let directory = open_directory();
    let sent = directory.path().join("sent");
    let mail = format!("mail() {{ echo \"$@\" >{0}; cat >>{0}; }}\nhave mail", sent.display());
    // The script as it is, with a mail program that puts the letter into a file.
    let text = DEFAULT_SCRIPT.replacen("if have mail", &format!("{mail} || :\nif have mail"), 1);
    let mut alert = input(record());
    alert.mail_to = Some("ops@example.org".into());
    let outcome = run(Some(&text), &alert, &limits(LONG)).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    let letter = std::fs::read_to_string(&sent).unwrap();
    assert!(letter.starts_with("-s [demo] warning: node n2 is DOWN"), "{letter}");
    assert!(letter.contains("ops@example.org\n") && letter.contains("sent by   n1, attempt 1"));
}

#[test]
fn the_built_in_script_is_clean() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/alerts/default.sh");
    let output = std::process::Command::new("shellcheck").arg(path).output();
    let output = output.expect("shellcheck is missing: apt-get install shellcheck");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn a14_the_syntax_of_a_new_script_is_checked_and_nothing_of_it_runs() {
    let directory = open_directory();
    let touched = directory.path().join("touched");
    for text in [
        DEFAULT_SCRIPT.to_owned(),
        format!("#!/bin/bash\ntouch {}\n[[ a == a ]] && x=(1 2)\n", touched.display()),
        format!("#!/usr/bin/env python3\nopen({:?}, 'w')\n", touched.display()),
        "#!/bin/cat\nanything goes\n".to_owned(),
    ] {
        assert_eq!(syntax_check(&text).await, Ok(()), "{text}");
    }
    assert!(!touched.exists(), "the check executed the script");
}

#[tokio::test]
async fn a14_what_is_wrong_with_a_new_script_is_said_with_its_line() {
    for (text, line, words) in [
        ("", 1, "does not begin"),
        ("echo hello\n", 1, "does not begin"),
        ("#!sh\n", 1, "no interpreter by its full path"),
        ("#!/bin/sh\r\necho\r\n", 1, "carriage return"),
        ("#!/no/such/shell\n", 1, "does not exist"),
        ("#!/usr/bin/env no-such-program\n", 1, "in none of the directories"),
        ("#!/bin/sh\necho\nfi\n", 3, "unexpected"),
        ("#!/bin/bash\necho\nx=((\n", 3, "syntax error"),
        ("#!/usr/bin/env python3\nx = 1\ndef f(:\n", 3, "invalid syntax"),
        ("#!/bin/sh\necho a\0b\n", 2, "NUL"),
    ] {
        let findings = syntax_check(text).await.expect_err(text);
        let first = findings[0].to_string();
        assert!(findings[0].line == line && first.contains(words), "{text:?}: {first}");
    }
}
