//! The runner of programs (spec H20: what a script gets; A14: what it must not do to us).

use std::path::Path;
use std::time::Duration;

use vedette_core::model::RunOutcome;
use vedette_node::process::{Program, User, run};

use crate::support::{LONG, TestGroup, block_on, gone, on_a_thread, program, read_pid, wait_for};

fn sh(text: &str) -> Program {
    Program::new(["/bin/sh", "-c", text], LONG)
}

async fn output(program: Program) -> String {
    let outcome = run(program).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    outcome.output
}

async fn refused(program: Program) -> String {
    let outcome: RunOutcome = run(program).await;
    outcome.failure.unwrap_or_else(|| panic!("{} was expected not to start", outcome.output))
}

#[tokio::test]
async fn h20_a_program_gets_exactly_what_it_is_given() {
    let text = "pwd; echo \"$EVNAME|$1\"; cat; env; ls /proc/self/fd | wc -l";
    let program = Program::new(["/bin/sh", "-c", text, "x", "a b"], LONG)
        .environment([("EVNAME", "node_up")])
        .stdin("from standard input\n")
        .unwrap();
    let said = output(program).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["/", "node_up|a b", "from standard input"]);
    for line in lines.iter().filter(|line| line.contains('=')) {
        let name = line.split('=').next().unwrap();
        assert!(
            ["PATH", "LANG", "EVNAME", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name),
            "{line}"
        );
    }
    assert_eq!(lines.last(), Some(&"4"), "0, 1, 2 and the directory itself");
}

/// Whatever the agent is: real-time, nice, deaf to signals.
#[test]
fn a_program_runs_with_ordinary_priority_and_signals() {
    on_a_thread(|| {
        let parameter = libc::sched_param { sched_priority: 1 };
        // SAFETY: plain system calls about this thread, and one about the process that is undone.
        unsafe {
            assert_eq!(libc::setpriority(libc::PRIO_PROCESS, 0, 5), 0);
            assert_eq!(libc::sched_setscheduler(0, libc::SCHED_RR, &parameter), 0, "needs root");
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        }
        nix::sys::signal::SigSet::all().thread_block().unwrap();
        let text = "cut -d' ' -f19,41 /proc/self/stat; grep -E 'Sig(Blk|Ign)' /proc/self/status";
        let said = block_on(output(sh(text)));
        let (head, ignored) = said.trim_end().rsplit_once('\t').expect("what is ignored");
        assert_eq!(head, "0 0\nSigBlk:\t0000000000000000\nSigIgn:", "{said}");
        // Signals 32 and 33 are the C library's own: no program can change what it inherited.
        let ignored = u64::from_str_radix(ignored, 16).expect("a mask") & !(3 << 31);
        assert_eq!(ignored, 0, "{said}");
    });
}

#[tokio::test]
async fn what_runs_too_long_is_ended_with_everything_in_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let text = format!("trap '' TERM; sleep 1000 & echo $! > {}; echo begun; wait", path.display());
    let program = Program::new(["/bin/sh", "-c", &text], Duration::from_millis(300));
    let outcome = run(program).await;
    assert!(outcome.timed_out && !outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.output, "begun\n");
    let pid = read_pid(&path).await;
    wait_for("the end of the child", || gone(pid)).await;
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let mut running = Box::pin(run(sh(&format!("echo $$ > {}; sleep 1000", path.display()))));
    let pid = tokio::select! {
        outcome = &mut running => panic!("{outcome:?}"),
        pid = read_pid(&path) => pid,
    };
    drop(running);
    wait_for("its end", || gone(pid)).await;
}

/// The thread ends without a word, as an agent does that is killed.
#[test]
fn a_program_can_be_made_to_end_with_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let text = format!("echo $$ > {}; sleep 1000", path.display());
    let pid = on_a_thread(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut running = Box::pin(run(sh(&text).dies_with_us()));
        let pid = runtime.block_on(async {
            tokio::select! {
                outcome = &mut running => panic!("{outcome:?}"),
                pid = read_pid(&path) => pid,
            }
        });
        std::mem::forget(running);
        std::mem::forget(runtime);
        pid
    });
    block_on(wait_for("its end", || gone(pid)));
}

#[tokio::test]
async fn of_a_flood_the_beginning_is_kept_and_the_rest_counted() {
    let text = "head -c 300000 /dev/zero | tr '\\0' 'x'; echo err >&2";
    let outcome = run(sh(text).keep(1_000)).await;
    assert_eq!(outcome.output, "x".repeat(1_000));
    assert_eq!(outcome.output_dropped, 300_004 - 1_000);
}

#[tokio::test]
async fn lines_are_passed_on_as_they_come() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    // It waits for what is done when its first line is here.
    let text = format!(
        "echo one; until [ -e {0} ]; do sleep 0.01; done; echo two >&2; printf three",
        go.display()
    );
    let running = tokio::spawn(run(sh(&text).lines(sender)));
    assert_eq!(receiver.recv().await.as_deref(), Some("one"));
    std::fs::write(go, "").unwrap();
    assert_eq!(receiver.recv().await.as_deref(), Some("two"));
    assert_eq!(receiver.recv().await.as_deref(), Some("three"));
    assert!(running.await.unwrap().succeeded());
}

#[tokio::test]
async fn what_cannot_be_started_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let start = |path: &Path| Program::new([path.to_str().unwrap()], LONG);

    let missing = refused(start(&file("none"))).await;
    assert!(missing.ends_with("/none does not exist here"), "{missing}");
    std::fs::write(file("plain"), "#!/bin/sh\n").unwrap();
    let plain = refused(start(&file("plain"))).await;
    assert!(plain.ends_with("is not marked as executable (chmod +x)"), "{plain}");
    program(&file("text"), "hello\n");
    let text = refused(start(&file("text"))).await;
    assert!(text.contains("nor a script that begins with `#!`"), "{text}");
    program(&file("odd"), "#!/no/such/shell\n");
    let odd = refused(start(&file("odd"))).await;
    assert!(odd.ends_with("the interpreter /no/such/shell does not exist here"), "{odd}");
    let folder = refused(start(directory.path())).await;
    assert!(folder.ends_with("is a directory"), "{folder}");
    let unknown = refused(Program::new(["no-such-program"], LONG)).await;
    assert!(unknown.contains("there is no program `no-such-program` in"), "{unknown}");
    assert_eq!(refused(Program::new([""], LONG)).await, "no program is given");
}

#[tokio::test]
async fn a_program_begins_in_its_control_group_or_not_at_all() {
    let group = TestGroup::new("begin");
    let inside = |directory| sh("cat /proc/self/cgroup").cgroup(Some(directory));
    let said = output(inside(group.directory())).await;
    let name = group.directory();
    let name = name.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("0::/{name}\n")), "{said}");
    let gone = refused(inside(group.directory().join("gone"))).await;
    assert!(gone.contains("is gone, so this node may not start it now"), "{gone}");
}

#[tokio::test]
async fn a_program_becomes_the_user_with_all_its_groups() {
    let group = TestGroup::new("user");
    let user = User::named("daemon").unwrap();
    // Entering the control group is root's right, becoming the user comes after it.
    let program = sh("id -un; id -Gn").user(Some(user)).cgroup(Some(group.directory()));
    let mut groups = std::process::Command::new("id");
    let expected = groups.args(["-Gn", "daemon"]).output().unwrap().stdout;
    let expected = String::from_utf8(expected).unwrap();
    assert_eq!(output(program).await, format!("daemon\n{expected}"));
    let none = User::named("no-such-user").unwrap_err();
    assert_eq!(none, "there is no user `no-such-user` here to run it as");
}

/// A pipe would break with the agent, and what writes to it with the pipe.
#[tokio::test]
async fn what_is_left_behind_goes_on_writing_to_the_file() {
    let group = TestGroup::new("file");
    let directory = tempfile::tempdir().unwrap();
    let (log, go) = (directory.path().join("log"), directory.path().join("go"));
    std::fs::write(&log, "of an earlier run\n").unwrap();
    let text =
        format!("(until [ -e {} ]; do sleep 0.01; done; echo later) & echo begun", go.display());
    let program = sh(&text).output_to(log.clone()).cgroup(Some(group.directory()));
    assert_eq!(output(program).await, "begun\n");
    std::fs::write(go, "").unwrap();
    wait_for("its output", || {
        let said = std::fs::read_to_string(&log).unwrap();
        (said == "of an earlier run\nbegun\nlater\n").then_some(())
    })
    .await;
}
