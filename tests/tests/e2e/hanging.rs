//! Programs that hang: a script of a site's own event (finding T9), start and stop programs (R7), and what an agent was
//! running when it died. Nobody else waits for them, and nothing that they started is left.

mod looks;
mod membership;

use std::path::{Path, PathBuf};

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use crate::failover::{address, give, group, wait_online, wait_online_on};
use crate::transcripts::{run, script};
use crate::{PATIENCE, lab, look};

const RULE: &str = "UE_SITE_HANGS";

/// Processes that run that program, on any node.
fn pids(program: &Path) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let runs = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)
    };
    let runs = processes.filter(runs);
    runs.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Ends all of them.
fn end(program: &Path) {
    for pid in pids(program) {
        let killed = nix::sys::signal::Signal::SIGKILL;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), killed).expect("it can be ended");
    }
}

/// Their number.
fn running(program: &Path) -> usize {
    pids(program).len()
}

fn wait(lab: &Lab, what: &str, seen: impl Fn(&Lab) -> bool) {
    lab.wait_for(what, PATIENCE, |lab| seen(lab).then_some(()))
        .unwrap_or_else(|error| panic!("{error}:\n{}", run(lab, "n1", &["event", "show"])));
}

/// The records of that code about the rule.
fn told(lab: &Lab, seq: u64, code: &str) -> Vec<Value> {
    let ours = |record: &Value| {
        record["code"] == code && record["message"].as_str().is_some_and(|it| it.contains(RULE))
    };
    look::records_after(lab, "n1", seq).into_iter().filter(ours).collect()
}

/// T9: while the script of one event hangs, a group is moved, taken off and brought back, and another event of the
/// site comes to its end; the one that hangs is aborted at once, and nothing that it started is left.
#[test]
fn t9_a_script_that_hangs_holds_up_nobody() {
    let lab = lab();
    let folder = lab.dir().join("hanging");
    std::fs::create_dir_all(&folder).expect("made");
    let (hangs, apart) = (folder.join("hangs"), folder.join("apart"));
    for program in [&hangs, &apart] {
        std::fs::copy("/bin/sleep", program).expect("sleep can be copied");
    }
    let at = folder.display();
    let monitor = script(
        &folder.join("monitor"),
        &format!("cat {at}/values.$VEDETTE_NODE 2> /dev/null; exit 0"),
    );
    let act = script(
        &folder.join("act"),
        &format!(
            "echo \"$VEDETTE_EVENT_ID\" >> {at}/begun\n[ -e {at}/hung ] && exit 0\ntouch {at}/hung\n\
             env -i setsid {at}/apart 100000 > /dev/null 2>&1 < /dev/null &\nexec {at}/hangs 100000"
        ),
    );
    std::fs::write(folder.join("hangs.rp"), format!("event \"{act}\" 0 NULL\n")).expect("written");
    let rules = folder.join("rules");
    let rule = format!("{RULE}\n0\n/site/hangs.rp\n2\n0\nsite.hangs\nNodeNum=*\nX>0\nX==0\n");
    std::fs::write(&rules, rule).expect("written");
    give(
        &lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n3\"]\n\n\
             [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [monitors.\"site.hangs\"]\ncommand = [\"{monitor}\"]\ninterval = \"1s\"\n",
            address(&lab, 0)
        ),
    );
    let owner = wait_online_on(&lab, "n1", "web", &["n1", "n3"]);
    let other = if owner == "n1" { "n3" } else { "n1" };
    let before = look::seq(&lab, "n1");
    let (rules, folder_of) = (rules.display().to_string(), folder.display().to_string());
    run(&lab, "n1", &["rules", "load", &rules, "--programs", &folder_of, "--yes"]);
    std::fs::write(folder.join("values.n2"), "Disk=a 1\n").expect("written");
    wait(&lab, "the script to hang", |_| (running(&hangs), running(&apart)) == (1, 1));

    run(&lab, "n1", &["group", "move", "web", "--to", other, "--yes"]);
    run(&lab, "n1", &["group", "offline", "web", "--yes"]);
    run(&lab, "n1", &["group", "online", "web"]);
    std::fs::write(folder.join("values.n2"), "Disk=a 1\nDisk=b 1\n").expect("written");
    wait(&lab, "another event to end", |lab| !told(lab, before, "EVENT_ENDED").is_empty());
    assert_eq!(told(&lab, before, "EVENT_ENDED")[0]["current"], "completed");
    assert_eq!((running(&hangs), running(&apart)), (1, 1), "it hangs as before");

    let begun = std::fs::read_to_string(folder.join("begun")).expect("events began");
    let event = begun.lines().next().expect("the first").to_owned();
    run(&lab, "n1", &["event", "abort", &event, "--yes"]);
    wait(&lab, "all of it to be ended", |_| (running(&hangs), running(&apart)) == (0, 0));
    wait(&lab, "its end in the history", |lab| told(lab, before, "EVENT_ENDED").len() == 2);
    let ended = told(&lab, before, "EVENT_ENDED").pop().expect("a record");
    assert_eq!((ended["event"].to_string(), &ended["current"]), (event, &Value::from("aborted")));

    // As it was before.
    std::fs::remove_file(folder.join("values.n2")).expect("removed");
    run(&lab, "n1", &["rules", "rollback", "0", "--yes"]);
    give(&lab, "");
}

/// Copies of `sleep` by those names, so that their processes are told from all others.
fn sleepers<const N: usize>(folder: &Path, names: [&str; N]) -> [PathBuf; N] {
    std::fs::create_dir_all(folder).expect("made");
    names.map(|name| {
        let program = folder.join(name);
        std::fs::copy("/bin/sleep", &program).expect("sleep can be copied");
        program
    })
}

/// A group with one application and no monitor.
fn app(name: &str, nodes: &str, start: &str, stop: &str) -> String {
    format!(
        "[groups.{name}]\npolicy = \"cascading\"\nnodes = [{nodes}]\nfallback = false\n\n\
         [[groups.{name}.resources]]\nname = \"{name}-app\"\nkind = \"application\"\nstart = [\"{start}\"]\n\
         stop = [\"{stop}\"]\nstart_timeout = \"5m\"\nstop_timeout = \"5m\"\n\n"
    )
}

/// R7: the stop program of one group hangs for as long as it may, five minutes; a node dies meanwhile, and what it had
/// is taken over as if nothing hung. When the program ends the first group goes where it was to go.
#[test]
fn r7_a_stop_program_that_hangs_holds_up_no_failover() {
    let lab = lab();
    let folder = lab.dir().join("stop_hangs");
    let [service, hangs] = sleepers(&folder, ["service", "hangs"]);
    let at = folder.display();
    let start = script(&folder.join("start"), &format!("setsid {at}/service 100000 &"));
    let stop =
        script(&folder.join("stop"), &format!("[ -e {at}/well ] || {at}/hangs 100000\nexit 0"));
    std::fs::write(folder.join("well"), "").expect("written");
    let well = script(&folder.join("true"), "exit 0");
    give(
        &lab,
        &(app("slow", "\"n1\", \"n2\"", &start, &stop)
            + &app("web", "\"n3\", \"n2\"", &start, &well)),
    );
    wait_online(&lab, "n1", "slow", "n1");
    wait_online(&lab, "n1", "web", "n3");
    std::fs::remove_file(folder.join("well")).expect("removed");
    run(&lab, "n1", &["group", "move", "slow", "--to", "n2", "--yes", "--no-wait"]);
    wait(&lab, "the stop program to hang", |_| running(&hangs) == 1);

    lab.kill("n3", Victim::Power).expect("power off");
    let taken_over = |lab: &Lab| {
        group(lab, "n1", "web").is_some_and(|(on, state)| on == ["n2"] && state == "ONLINE")
    };
    wait(&lab, "web to be taken over", taken_over);
    assert_eq!(running(&hangs), 1, "it hangs as before");
    let slow = group(&lab, "n1", "slow");
    assert_eq!(slow, Some((vec!["n1".to_owned()], "RELEASING".to_owned())));
    let manager = look::get(&lab, "n1", "/api/v1/manager").expect("an answer").json();
    let begun = manager["set_aside"].as_array().into_iter().flatten();
    let mut begun = begun.chain([&manager["in_progress"]]);
    assert!(begun.any(|event| event["name"] == "group_move"), "it goes on: {manager}");

    std::fs::write(folder.join("well"), "").expect("written");
    end(&hangs);
    wait_online(&lab, "n1", "slow", "n2");
    assert_eq!(running(&service), 2, "one for each group");
    lab.restart("n3").expect("power on");
    crate::wait_healthy(&lab);
    give(&lab, "");
}

/// An agent dies while a start program runs: the next one takes it neither for the service nor starts another one beside
/// it. What was begun is ended, and begun anew.
#[test]
fn a_start_program_of_an_agent_that_died_is_ended() {
    let lab = lab();
    let folder = lab.dir().join("start_hangs");
    let [service, hangs] = sleepers(&folder, ["service", "hangs"]);
    let at = folder.display();
    let start = script(
        &folder.join("start"),
        &format!(
            "echo begun >> {at}/begun\nif ! [ -e {at}/hung ]; then touch {at}/hung; {at}/hangs 100000; fi\n\
             setsid {at}/service 100000 &"
        ),
    );
    let stop = script(&folder.join("stop"), "exit 0");
    let file = folder.join("groups.toml");
    std::fs::write(&file, app("slow", "\"n2\"", &start, &stop)).expect("written");
    run(&lab, "n1", &["config", "apply", &file.display().to_string(), "--yes"]);
    wait(&lab, "the start program to hang", |_| running(&hangs) == 1);
    lab.kill("n2", Victim::Agent).expect("an agent can be killed");
    wait_online(&lab, "n1", "slow", "n2");
    assert_eq!((running(&hangs), running(&service)), (0, 1), "the second one came to its end");
    let begun = std::fs::read_to_string(folder.join("begun")).expect("it was begun");
    assert_eq!(begun.lines().count(), 2);
    crate::wait_healthy(&lab);
    give(&lab, "");
    wait(&lab, "nothing of it to be left", |_| running(&service) == 0);
}

/// How often a service of that group was started on a node.
fn starts(folder: &Path, group: &str) -> usize {
    let log = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
    log.lines().filter(|line| line.starts_with(group)).count()
}

/// Events of that name that have ended since a record.
fn ended(lab: &Lab, seq: u64, name: &str) -> usize {
    let records = look::records_after(lab, "n1", seq);
    let is_it = |record: &&Value| {
        let what = record["message"].as_str().unwrap_or_default();
        record["code"] == "EVENT_ENDED" && what.contains(name)
    };
    records.iter().filter(is_it).count()
}

/// R7: two groups go back home, and the stop program of one hangs: the other one is there meanwhile, interrupted once.
/// Then it hangs, and the home dies again: that is one event, and what was released is in service again.
#[test]
fn r7_a_neighbour_that_stops_late_costs_nothing_more() {
    let lab = lab();
    let folder = lab.dir().join("stops_late");
    let [_, hangs] = sleepers(&folder, ["service", "hangs"]);
    let at = folder.display();
    let start = script(
        &folder.join("start"),
        &format!(
            "echo \"$VEDETTE_GROUP $VEDETTE_NODE\" >> {at}/starts\nsetsid {at}/service 100000 &"
        ),
    );
    let stop = script(&folder.join("stop"), "exit 0");
    let late =
        script(&folder.join("late"), &format!("[ -e {at}/hung ] && {at}/hangs 100000\nexit 0"));
    let home = "\"n2\", \"n3\"";
    let groups = app("quick", home, &start, &stop) + &app("late", home, &start, &late);
    give(&lab, &groups.replace("fallback = false", "fallback = true"));
    let both = |on: &str| {
        wait_online(&lab, "n1", "quick", on);
        wait_online(&lab, "n1", "late", on);
    };
    both("n2");
    lab.kill("n2", Victim::Power).expect("power off");
    both("n3");
    std::fs::write(folder.join("hung"), "").expect("written");
    let before = starts(&folder, "quick");
    lab.restart("n2").expect("power on");
    wait(&lab, "the stop program to hang", |_| running(&hangs) == 1);
    let is_on = |lab: &Lab, node: &str| {
        group(lab, "n1", "quick").is_some_and(|(on, state)| on == [node] && state == "ONLINE")
    };
    wait(&lab, "its neighbour to be home", |lab| is_on(lab, "n2"));
    // N2 is a member, though its join is not over: it is told what happens, and does its part.
    let offline = lab.vedette("n1", &["group", "offline", "quick", "--yes"]).expect("run");
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));
    let online = lab.vedette("n1", &["group", "online", "quick", "--yes"]).expect("run");
    assert!(online.status.success(), "{}", String::from_utf8_lossy(&online.stderr));
    assert!(is_on(&lab, "n2") && running(&hangs) == 1, "they waited for nobody");
    std::fs::remove_file(folder.join("hung")).expect("removed");
    end(&hangs);
    both("n2");
    assert_eq!(
        starts(&folder, "quick"),
        before + 2,
        "it went home at once, and was ordered online"
    );

    lab.kill("n2", Victim::Power).expect("power off");
    both("n3");
    std::fs::write(folder.join("hung"), "").expect("written");
    let seq = look::seq(&lab, "n1");
    lab.restart("n2").expect("power on");
    wait(&lab, "the stop program to hang", |_| running(&hangs) == 1);
    lab.kill("n2", Victim::Power).expect("power off");
    wait(&lab, "its failure to be processed", |lab| ended(lab, seq, "node_down n2") == 1);
    wait(&lab, "what was released to be served again", |lab| is_on(lab, "n3"));
    std::fs::remove_file(folder.join("hung")).expect("removed");
    end(&hangs);
    both("n3");
    assert_eq!(ended(&lab, seq, "node_down n2"), 1, "it was lost once");
    lab.restart("n2").expect("power on");
    crate::wait_healthy(&lab);
    give(&lab, "");
}
