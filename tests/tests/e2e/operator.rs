//! The impatient operator: repeats, waits, asks in the wrong moment, types from memory.

use std::process::Output;

use serde_json::Value;
use vedette_tests::lab::Lab;

use crate::administration::{document, run};
use crate::failover::{give, wait_online};
use crate::lab;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["-o", "json"]].concat();
    let output = lab.vedette("n1", &arguments).expect("run");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// O1: whoever orders what is so already is told that nothing had to be done, and it ends with 0.
#[test]
fn o1_to_repeat_an_order_is_harmless() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n1\", \"n2\"")]));
    wait_online(&lab, "n1", "web", "n1");
    let repeated = |arguments: &[&str]| {
        let answer = json(&lab, arguments);
        assert_eq!(answer["changed"], false, "{arguments:?}: {answer:#}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Nothing had to be done: "), "{arguments:?}: {answer:#}");
    };
    for order in [
        &["maintenance", "on"][..],
        &["maintenance", "off"],
        &["maintenance", "on", "--node", "n2"],
        &["maintenance", "off", "--node", "n2"],
        &["group", "maintenance", "web", "on"],
        &["group", "maintenance", "web", "off"],
        &["group", "offline", "web", "--yes"],
        &["group", "online", "web"],
        &["group", "move", "web", "--to", "n2", "--yes"],
        &["config", "set", "seed", "2"],
        &["config", "set", "logging-level", "informational"],
        &["stop", "--node", "n3", "--wait", "--yes"],
        &["start", "--node", "n3", "--wait"],
    ] {
        // What the lab is set to already is no less repeated.
        json(&lab, order);
        repeated(order);
    }
    for order in [
        &["group", "clear", "web"][..],
        &["recover", "retry"],
        &["seed"],
        &["rules", "rollback", "0"],
        &["alert", "rollback", "0"],
        &["node", "confirm-off", "nobody"],
    ] {
        if order[0] == "node" {
            let output = lab.vedette("n1", order).expect("run");
            assert_eq!(output.status.code(), Some(1), "a name that nobody had: {}", said(&output));
            continue;
        }
        repeated(order);
    }
    let file = lab.dir().join("again.toml");
    std::fs::write(&file, run(&lab, "n1", &["config", "show", "--document"])).expect("written");
    repeated(&["config", "apply", file.to_str().expect("UTF-8")]);
    let script = lab.dir().join("again.sh");
    std::fs::write(&script, "#!/bin/sh\ntrue\n").expect("written");
    let script = script.to_str().expect("UTF-8");
    json(&lab, &["alert", "edit", "--file", script]);
    repeated(&["alert", "edit", "--file", script]);
    run(&lab, "n1", &["alert", "rollback", "0"]);
    run(&lab, "n1", &["config", "set", "logging-level", "notice"]);
    run(&lab, "n1", &["group", "move", "web", "--to", "n1", "--yes"]);
    give(&lab, "");
}

/// O3: a move ends when the group is there, tells how far it is, and its exit status is the outcome; what
/// takes a service away is refused where nobody can be asked.
#[test]
fn o3_a_move_is_waited_for() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n1\", \"n2\"")]));
    wait_online(&lab, "n1", "web", "n1");
    let asked = lab.vedette("n1", &["group", "move", "web", "--to", "n2"]).expect("run");
    assert_eq!(asked.status.code(), Some(1), "{}", said(&asked));
    assert!(said(&asked).contains("web will be released on n1"), "{}", said(&asked));
    assert!(said(&asked).contains("Add --yes if it shall."), "{}", said(&asked));
    let moved = lab.vedette("n1", &["group", "move", "web", "--to", "n2", "--yes"]).expect("run");
    assert_eq!(String::from_utf8_lossy(&moved.stdout), "web is ONLINE on n2.\n");
    let steps = String::from_utf8_lossy(&moved.stderr).into_owned();
    assert!(steps.contains("web: ONLINE on n1") && steps.contains("web: ONLINE on n2"), "{steps}");
    let off = json(&lab, &["group", "offline", "web", "--yes"]);
    assert_eq!(
        (&off["changed"], &off["state"], &off["on"]),
        (&true.into(), &"OFFLINE".into(), &Value::Array(vec![]))
    );
    let on = json(&lab, &["group", "online", "web"]);
    assert_eq!(
        (&on["state"], on["on"].as_array().map(Vec::len)),
        (&"ONLINE".into(), Some(1)),
        "{on:#}"
    );
    // Nobody waits for what takes longer than somebody wants to wait; it goes on.
    let late =
        lab.vedette("n1", &["group", "offline", "web", "--yes", "--timeout", "1ms", "-o", "json"]);
    let late = late.expect("run");
    assert_eq!(late.status.code(), Some(3), "{}", said(&late));
    let lines = String::from_utf8_lossy(&late.stderr).into_owned();
    let documents: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = documents.last().expect("a line");
    assert!(
        last["error"].as_str().is_some_and(|it| it.contains("after 1 ms; it goes on")),
        "{last:#}"
    );
    assert_eq!(run(&lab, "n1", &["group", "online", "web", "--no-wait"]), "web shall be online.\n");
    run(&lab, "n1", &["group", "online", "web"]);
    give(&lab, "");
}

/// O3: a group that its target cannot run is elsewhere, which is not what was ordered.
#[test]
fn o3_the_exit_status_of_a_move_is_its_outcome() {
    let lab = lab();
    let flag = lab.dir().join("not-here");
    std::fs::write(&flag, "n2").expect("written");
    let text = format!(
        "[groups.web]\npolicy = \"cascading\"\nnodes = [\"n1\", \"n2\"]\n\n\
         [[groups.web.resources]]\nname = \"web-app\"\nkind = \"application\"\n\
         start = [\"/bin/sh\", \"-c\", \"test $VEDETTE_NODE != $(cat {}) || exit 1; sleep 100000 &\"]\n\
         stop = [\"/bin/true\"]\n",
        flag.display()
    );
    give(&lab, &text);
    wait_online(&lab, "n1", "web", "n1");
    let moved = lab.vedette("n1", &["group", "move", "web", "--to", "n2", "--yes"]).expect("run");
    assert_eq!(moved.status.code(), Some(1), "{}", said(&moved));
    assert!(said(&moved).contains("web is ONLINE on n1, and not on n2"), "{}", said(&moved));
    run(&lab, "n1", &["group", "clear", "web"]);
    give(&lab, "");
}

/// O7: a shell completes names of nodes and groups, which the daemon is asked for.
#[test]
fn o7_names_are_completed() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n1\", \"n2\""), ("wiki", "\"n2\", \"n1\"")]));
    let complete = |words: &[&str]| -> Vec<String> {
        let node = lab.node("n1").expect("n1");
        let config = node.config().display().to_string();
        let words = [&["vedette", "--config", &config], words].concat();
        let index = (words.len() - 1).to_string();
        let script = format!(
            "VEDETTE_COMPLETE=bash _CLAP_COMPLETE_INDEX={index} _CLAP_COMPLETE_COMP_TYPE=9 \
             _CLAP_COMPLETE_SPACE=true _CLAP_IFS=$'\\n' {} -- \"$@\"",
            lab.sandbox().program.display()
        );
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script, "sh"]).args(&words);
        let output = command.output().expect("bash is needed: apt-get install bash");
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(complete(&["group", "move", "web", "--to", ""]), ["n1", "n2", "n3"]);
    assert_eq!(complete(&["group", "show", "w"]), ["web", "wiki"]);
    assert_eq!(complete(&["node", "show", "n"]), ["n1", "n2", "n3"]);
    assert_eq!(complete(&["network", "show", "net"]), ["neta", "netb"]);
    give(&lab, "");
}

/// The examples of a help, of those that a shell can run as they stand.
fn examples(lab: &Lab, path: &[String], found: &mut Vec<String>) {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = run(lab, "n1", &arguments);
    let after = help.split_once("Examples:\n").map(|(_, after)| after).unwrap_or_default();
    let lines = after.lines().take_while(|line| line.starts_with("  "));
    found.extend(lines.map(|line| line.trim().to_owned()));
    let Some((_, commands)) = help.split_once("\nCommands:\n") else { return };
    let names = commands.lines().take_while(|line| !line.is_empty());
    let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|it| *it != "help") {
        examples(lab, &[path, &[name.to_owned()]].concat(), found);
    }
}

/// O7: every example that only shows something, run as it stands, shows something.
#[test]
fn o7_examples_that_show_something_do() {
    const SHOWS: [&str; 7] = ["list", "show", "plan", "status", "verify", "monitors", "history"];
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n1\", \"n2\"")]));
    wait_online(&lab, "n1", "web", "n1");
    let mut found = Vec::new();
    examples(&lab, &[], &mut found);
    let mut ran = 0;
    for example in &found {
        let words: Vec<&str> = example
            .split("  ")
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip_while(|word| *word != "vedette")
            .skip(1)
            .collect();
        let shows = words.iter().take(2).any(|word| SHOWS.contains(word));
        let plain = !example.contains(['|', '>', '$', ';', '#', '\'']);
        // What does not end by itself, and what names versions, files and incidents of somebody's cluster.
        let not_here = [
            "follow",
            "export",
            "--watch",
            "--version 3",
            "412",
            "snapshot",
            "--file",
            "--from",
            "n2/",
        ];
        if !shows || !plain || not_here.iter().any(|it| example.contains(it)) {
            continue;
        }
        ran += 1;
        let output = lab.vedette("n1", &words).expect("run");
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{example}: {code:?} {}", said(&output));
        // A history may tell of programs that said so.
        let complains = String::from_utf8_lossy(&output.stderr).contains("vedette: ");
        assert!(!complains, "{example}: {}", said(&output));
    }
    assert!(found.len() > 150 && ran > 40, "{ran} of {} examples", found.len());
    give(&lab, "");
}

/// O4: while an agent begins anew, whoever asks is told that and waits a moment, and is not told to start it.
#[test]
fn o4_an_agent_that_begins_anew_is_waited_for() {
    let lab = lab();
    lab.kill("n1", vedette_tests::lab::Victim::Agent).expect("it runs");
    let mut told = false;
    for _ in 0..20 {
        let output = lab.vedette("n1", &["node", "list"]).expect("run");
        let text = said(&output);
        assert!(!text.contains("systemctl start vedette"), "{text}");
        told |= text.contains("The daemon of this node begins anew; waiting for it.");
        if told {
            break;
        }
        lab.kill("n1", vedette_tests::lab::Victim::Agent).ok();
    }
    assert!(told, "nobody was told");
    crate::make_healthy(&lab);
}
