//! The real program, where it must refuse: exit status, one sentence of what and why, one of what
//! to do; nothing on standard output, and never a panic.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn vedette(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vedette"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

/// Exit status and standard error; standard output must be empty.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = vedette(arguments);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert!(!error.contains("panicked"), "{error}");
    (output.status.code().expect("an exit status"), error)
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

/// A configuration that holds on every host: two loopback addresses.
fn good_config(dir: &Path) -> String {
    let state = dir.join("state");
    write(
        dir,
        "vedette.toml",
        &format!(
            "[node]\nname = \"n1\"\n[cluster]\none_machine = true\n\
             [[network]]\nname = \"neta\"\naddress = \"127.0.0.1\"\n[[network]]\nname = \"netb\"\naddress = \"127.0.0.2\"\n\
             [paths]\nstate_dir = {state:?}\ncontrol = {:?}\n",
            dir.join("control.sock")
        ),
    )
}

#[test]
fn without_a_daemon_every_command_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("none.sock").to_str().expect("UTF-8").to_owned();
    let commands: &[&[&str]] = &[
        &["node", "list"],
        &["node", "show", "n1"],
        &["node", "add", "n2", "--yes"],
        &["node", "delete", "n2", "--yes"],
        &["network", "list"],
        &["network", "show", "neta"],
        &["link", "list"],
        &["port", "list"],
        &["event", "list"],
        &["alert", "show"],
        &["alert", "edit"],
        &["alert", "test"],
        &["alert", "log"],
        &["alert", "versions"],
        &["alert", "rollback", "0", "--yes"],
        &["history", "show"],
        &["history", "verify"],
        &["history", "compare"],
        &["history", "export"],
        &["config", "set", "seed", "2"],
        &["config", "set", "logging-level", "notice"],
        &["config", "set", "heartbeat", "--interval", "200ms"],
        &["rules", "show"],
        &["rules", "diff"],
        &["rules", "history"],
        &["rules", "rollback", "0", "--yes"],
        &["seed", "--yes"],
        &["stop", "--yes"],
    ];
    for command in commands {
        let arguments = [&["--control", &socket], *command].concat();
        let (exit, error) = refused(&arguments);
        assert_eq!(exit, 2, "{command:?}: {error}");
        assert!(error.contains("the daemon of this node does not run"), "{command:?}: {error}");
        assert!(error.contains("systemctl start vedette"), "{command:?}: {error}");
    }
    // What is so already is no failure.
    let left = vedette(&["--control", &socket, "leave", "-o", "json"]);
    assert_eq!(left.status.code(), Some(0), "{}", String::from_utf8_lossy(&left.stderr));
    let left: serde_json::Value = serde_json::from_slice(&left.stdout).expect("JSON");
    assert_eq!(left["changed"], false, "{left:#}");
}

/// With `-o json` a program reads what is wrong as well: every line on standard error is a document.
#[test]
fn errors_are_documents_for_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("none.sock").to_str().expect("UTF-8").to_owned();
    let bad = write(dir.path(), "bad.toml", "[node]\nnmae = \"n1\"\n");
    let good = good_config(dir.path());
    let commands: &[(&[&str], i32)] = &[
        (&["--control", &socket, "-o", "json", "node", "list"], 2),
        (&["--control", &socket, "status", "-o", "json"], 3),
        (&["--config", &bad, "config", "check", "--output=json"], 2),
        (&["--config", &good, "init", "-o", "json"], 1),
        (&["group", "mvoe", "web", "-ojson"], 2),
        (&["group", "move", "-o", "json"], 2),
    ];
    for (arguments, expected) in commands {
        let (exit, error) = refused(arguments);
        assert_eq!(exit, *expected, "{arguments:?}: {error}");
        let lines: Vec<serde_json::Value> =
            error.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().expect("a line");
        assert_eq!(last["exit"], *expected, "{last:#}");
        assert!(last["error"].is_string() && last["advice"].is_string(), "{last:#}");
    }
    let (_, error) = refused(&["--config", &bad, "config", "check", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&error).expect("JSON");
    assert_eq!(
        (&error["findings"][0]["line"], &error["findings"][0]["key"]),
        (&2.into(), &"node.nmae".into())
    );
}

/// O5: an address that only this machine reaches is refused where it is written, and where a name stands for
/// it; a cluster on one machine has to say that it is one.
#[test]
fn addresses_that_nobody_else_reaches_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(good_config(dir.path())).expect("a file");
    let alone = text.replace("one_machine = true\n", "");
    let with = |address: &str| alone.replace("127.0.0.1", address).replace("127.0.0.2", "10.0.0.2");
    for (address, word) in [
        ("127.0.0.1", "loopback"),
        ("0.0.0.0", "every address"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "Write it as \"10.0.0.1\""),
    ] {
        let file = write(dir.path(), "wrong.toml", &with(address));
        for command in [&["config", "check"][..], &["init", "--yes"]] {
            let (exit, error) = refused(&[&["--config", &file], command].concat());
            assert_eq!(exit, 2, "{error}");
            assert!(
                error.contains("wrong.toml:") && error.contains("other nodes cannot reach"),
                "{error}"
            );
            assert!(error.contains(word), "{address}: {error}");
        }
    }
    let file = write(dir.path(), "named.toml", &with("localhost"));
    let (exit, error) = refused(&["--config", &file, "init", "--yes"]);
    assert_eq!(exit, 2);
    assert!(error.contains("network neta: the name localhost stands for"), "{error}");
    assert!(error.contains("loopback") && error.contains("write the address itself"), "{error}");
}

#[test]
fn without_a_daemon_the_status_is_unknown() {
    let (exit, error) = refused(&["--control", "/nonexistent/control.sock", "status"]);
    assert_eq!(exit, 3);
    assert!(error.contains("/nonexistent/control.sock"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "[node]\nname = \"n1\"\n\n[[network]]\nname = \"neta\"\nadress = \"127.0.0.1\"\n";
    let file = write(dir.path(), "bad.toml", text);
    for command in
        [&["config", "check"][..], &["daemon"], &["agent"], &["init", "--yes"], &["node", "list"]]
    {
        let (exit, error) = refused(&[&["--config", &file], command].concat());
        assert_eq!(exit, 2, "{command:?}: {error}");
        assert!(error.contains("bad.toml:6: error: network[1].adress"), "{command:?}: {error}");
        assert!(error.contains("Did you mean address?"), "{command:?}: {error}");
    }
}

/// H15: rules are checked without a daemon; a file one line short is refused with the rule, and
/// loading it asks nobody.
#[test]
fn rules_one_line_short_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = "TE_FAIL_NODE\n0\n/a/node_down.rp\n2\n0\n\n\n\n\n";
    let short = write(dir.path(), "short", good.replacen("2\n", "", 1).as_str());
    for command in ["check", "load"] {
        let (exit, error) =
            refused(&["--control", "/nonexistent/control.sock", "rules", command, &short]);
        assert_eq!(exit, 2, "{error}");
        assert!(error.contains("short:1: error: TE_FAIL_NODE: this rule has 8 lines"), "{error}");
    }
    let good = write(dir.path(), "good", good);
    let output = vedette(&["rules", "check", &good]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{good} is fine.\n"));
}

#[test]
fn an_empty_file_is_taken_for_neither_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    for text in ["", "\n\n", "# a comment\n  # another\n"] {
        let file = write(dir.path(), "empty.toml", text);
        let (exit, error) = refused(&["config", "check", &file]);
        assert_eq!(exit, 2, "{error}");
        assert!(error.contains("empty.toml is empty"), "{error}");
        assert!(error.contains("[[network]]") && error.contains("[groups.NAME]"), "{error}");
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let (exit, error) = refused(&["--config", "/nonexistent/v.toml", "config", "check"]);
    assert_eq!(exit, 2);
    assert!(error.contains("/nonexistent/v.toml cannot be read"), "{error}");
}

#[test]
fn a_good_configuration_is_accepted_and_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = good_config(dir.path());
    let checked = vedette(&["config", "check", &file]);
    assert_eq!(String::from_utf8_lossy(&checked.stdout), format!("{file} is fine.\n"));
    assert!(checked.status.success());
    let shown = vedette(&["--config", &file, "config", "show", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(document["node"]["name"], "n1");
    assert_eq!(document["node"]["networks"][1]["address"], "127.0.0.2");
    assert!(document["cluster"].is_null());
}

/// H7: an address that is not on this host is refused with the reason.
#[test]
fn an_address_that_is_elsewhere_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(good_config(dir.path())).expect("a file");
    let file = write(dir.path(), "elsewhere.toml", &text.replace("127.0.0.2", "192.0.2.1"));
    let (exit, error) = refused(&["--config", &file, "init", "--yes"]);
    assert_eq!(exit, 2);
    assert!(error.contains("network netb: the address 192.0.2.1 is not on this host"), "{error}");
}

#[test]
fn a_bad_token_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = good_config(dir.path());
    for token in ["nonsense", "", "vedette1-AAAA"] {
        let (exit, error) = refused(&["--config", &file, "join", token, "--yes"]);
        assert_eq!(exit, 1, "{error}");
        assert!(error.contains("join token"), "{error}");
    }
    assert!(!dir.path().join("state").exists(), "nothing was written");
}

/// A2: nothing is formed unless somebody says yes; then once, and not twice.
#[test]
fn a_cluster_is_formed_once_and_only_if_confirmed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = good_config(dir.path());
    let (exit, error) = refused(&["--config", &file, "init"]);
    assert_eq!(exit, 1);
    assert!(error.contains("127.0.0.2") && error.contains("Add --yes"), "{error}");
    assert!(!dir.path().join("state").exists(), "nothing was written");
    let formed = vedette(&["--config", &file, "init", "--yes", "-o", "json"]);
    assert!(formed.status.success(), "{}", String::from_utf8_lossy(&formed.stderr));
    let document: serde_json::Value = serde_json::from_slice(&formed.stdout).expect("JSON");
    assert_eq!((&document["node"], &document["number"]), (&"n1".into(), &1.into()));
    let again = vedette(&["--config", &file, "init"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let again = String::from_utf8_lossy(&again.stdout);
    assert!(again.starts_with("Nothing had to be done: n1 is number 1 of "), "{again}");
    // Another cluster in the same place is a mistake.
    let text = std::fs::read_to_string(&file).expect("a file");
    let other = text.replace("[cluster]\n", "[cluster]\nname = \"other\"\n");
    let other = write(dir.path(), "other.toml", &other);
    let (exit, error) = refused(&["--config", &other, "init", "--yes"]);
    assert!(exit != 0 && error.contains("already belongs to cluster"), "{error}");
    // The state directory of the command line wins over that of the file.
    let other = dir.path().join("other");
    let other = other.to_str().expect("UTF-8");
    assert!(vedette(&["--config", &file, "--state-dir", other, "init", "--yes"]).status.success());
}

#[test]
fn usage_errors_name_what_is_possible() {
    for (arguments, expected) in [
        (&["status", "--wacth"][..], "--watch"),
        (&["event", "list", "--severity", "info"], "informational"),
        (&["event", "list", "--code", "NODE"], "NODE_HOST"),
        (&["config", "set", "heartbeat", "--interval", "200"], "200ms"),
        (&["node", "add", "n2", "--number", "1000"], "999"),
        (&["nodes"], "node"),
    ] {
        let (exit, error) = refused(arguments);
        assert_eq!(exit, 2, "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn a_history_that_is_none_is_not_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(dir.path(), "history.db", "this is no database");
    for file in [file.as_str(), "/nonexistent/history.db"] {
        let (exit, error) = refused(&["history", "verify", "--file", file]);
        assert_eq!(exit, 2);
        assert!(error.contains(file), "{error}");
    }
}

/// `vedette … | head -1` ends by SIGPIPE or in time, without a word.
#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vedette"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut error).expect("UTF-8");
    let status = child.wait().expect("its end");
    assert_eq!(error, "");
    assert!(status.success() || status.signal() == Some(libc::SIGPIPE), "{status}");
}

#[test]
fn completions_are_scripts_that_the_shell_reads() {
    let script = vedette(&["completions", "bash"]);
    assert!(script.status.success());
    let mut shell = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash is needed: apt-get install bash");
    shell.stdin.take().expect("a pipe").write_all(&script.stdout).expect("bash reads");
    assert!(shell.wait().expect("its end").success());
}
