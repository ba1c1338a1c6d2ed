//! A node whose wall clock is an hour off, ahead or behind, whether it directs or not: nothing is decided by
//! a wall clock, so everything stays known and well; and every surface says how far the clock is off.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use super::{Facts, GROUPS_ALONE, assert_can_fail_but, assert_told, director, told, web};
use crate::{PATIENCE, lab, look, wait_healthy};

const HOUR: i64 = 3_600;

/// F12: a member starts with a clock that is an hour ahead, and then it is set to an hour behind.
#[test]
fn a_member_with_a_clock_an_hour_off() {
    let lab = lab();
    web(&lab);
    let leads = director(&lab);
    let off = other(&lab, &leads);
    let before: Vec<_> = [&leads, &off].map(|asked| (asked, told(&lab, asked))).into();
    let seq = look::seq(&lab, &leads);
    for (place, ahead) in [HOUR, -HOUR].into_iter().enumerate() {
        let alerted = alerts(&lab, &off);
        lab.set_clock(&off, ahead).expect("its clock is set");
        if place == 0 {
            lab.restart(&off).expect("its daemon can be started");
            wait_healthy(&lab);
        }
        for (asked, before) in &before {
            let expected = off_by(&lab, (&off, ahead), asked);
            let what = format!("the clock of {off} is {ahead} s ahead");
            assert_told(&lab, asked, &what, &expected);
            assert_can_fail_but(GROUPS_ALONE, &what, before, &expected);
        }
        assert_alerted(&lab, &off, alerted);
        assert_dated(&lab, &off);
    }
    assert_stepped(&lab, seq, &off);
    lab.set_clock(&off, 0).expect("its clock is set");
    assert_right(&lab);
}

/// S4: the same with the clock of the node that dates everything, which it does by that of most nodes.
#[test]
fn a_director_with_a_clock_an_hour_off() {
    let lab = lab();
    web(&lab);
    let off = director_with_a_clock(&lab);
    let asked = other(&lab, &off);
    let before = told(&lab, &asked);
    for ahead in [HOUR, -HOUR] {
        let alerted = alerts(&lab, &off);
        lab.set_clock(&off, ahead).expect("its clock is set");
        let expected = off_by(&lab, (&off, ahead), &asked);
        let what = format!("the clock of the director, {off}, is {ahead} s ahead");
        assert_told(&lab, &asked, &what, &expected);
        assert_can_fail_but(GROUPS_ALONE, &what, &before, &expected);
        assert_told(&lab, &off, &what, &off_by(&lab, (&off, ahead), &off));
        assert_dated(&lab, &asked);
        assert_alerted(&lab, &off, alerted);
    }
    assert_failure_dated(&lab, &off, &asked);
    lab.set_clock(&off, 0).expect("its clock is set");
    assert_right(&lab);
}

/// With two nodes left nobody can measure which clock is right; it is known from before that.
fn assert_failure_dated(lab: &Lab, off: &str, asked: &str) {
    let seq = look::seq(lab, asked);
    let names = lab.names();
    let third = names.iter().find(|name| *name != off && *name != asked).expect("a third");
    lab.kill(third, Victim::Power).expect("power off");
    let down = |lab: &Lab| {
        let records = look::records_after(lab, asked, seq);
        records.into_iter().find(|it| it["code"] == "NODE_HOST" && it["current"] == "DOWN")
    };
    let down = lab.wait_for(&format!("{third} to be DOWN"), PATIENCE, down);
    let down = down.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
    assert_about_now(&down["at"], 0, &format!("the record of its death: {down:#}"));
    lab.restart(third).expect("power on");
    wait_healthy(lab);
}

fn other(lab: &Lab, than: &str) -> String {
    lab.names().into_iter().find(|name| name != than).expect("another node")
}

/// Has nodes restarted with a clock of their own, which is right, until one of them is director.
fn director_with_a_clock(lab: &Lab) -> String {
    let mut settable = Vec::new();
    loop {
        let leads = director(lab);
        if settable.contains(&leads) {
            return leads;
        }
        lab.set_clock(&leads, 0).expect("its clock is its own");
        lab.restart(&leads).expect("its daemon can be started");
        wait_healthy(lab);
        settable.push(leads);
    }
}

/// All is well but one clock, as a node tells it that measures it, or the node itself.
fn off_by(lab: &Lab, (off, ahead): (&str, i64), asked: &str) -> Facts {
    let others = lab.names().into_iter().filter(|name| name != asked);
    let seen = |name: String| match (name == off, asked == off) {
        (true, _) => (name, ahead),
        (_, true) => (name, -ahead),
        _ => (name, 0),
    };
    Facts {
        offsets: others.map(seen).collect(),
        conditions: Some(vec!["clock_off".into()]),
        level: Some("degraded".into()),
        ..Facts::well(lab)
    }
}

/// Nobody tells of a clock any more.
fn assert_right(lab: &Lab) {
    for asked in lab.names() {
        let offsets = lab.names().into_iter().filter(|name| *name != asked).map(|name| (name, 0));
        let expected = Facts { offsets: offsets.collect(), ..Facts::well(lab) };
        assert_told(lab, &asked, "all clocks agree", &expected);
        let over = |lab: &Lab| {
            let local = look::get(lab, &asked, "/api/v1/local")?.json();
            local["conditions"].as_array()?.is_empty().then_some(())
        };
        lab.wait_for(&format!("no condition on {asked}"), PATIENCE, over)
            .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &asked)));
    }
}

/// How often the alert script of a node was told of a clock.
fn alerts(lab: &Lab, node: &str) -> usize {
    let log = lab.node(node).expect("a node").state_dir().join("alert.log");
    std::fs::read_to_string(log).unwrap_or_default().matches("the clock of").count()
}

/// The alert script runs on a node although its clock is off.
fn assert_alerted(lab: &Lab, off: &str, before: usize) {
    let ran = |lab: &Lab| (alerts(lab, off) > before).then_some(());
    lab.wait_for(&format!("the alert script on {off}"), PATIENCE, ran)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, off)));
}

/// What happens now is dated by the clock of most nodes, on every node; SNMP managers are told when it was by
/// the master agent's own time; and a token is good for as long as said.
fn assert_dated(lab: &Lab, asked: &str) {
    let (seq, uptimes) = (look::seq(lab, asked), uptimes(lab));
    let added = lab.json(
        asked,
        &["node", "add", "n8", "--number", "8", "--valid", "10m", "--yes", "-o", "json"],
    );
    let token = added.expect("a token");
    assert_about_now(&token["expires_at"], 600, "the token of n8");
    for node in lab.names() {
        let told = |lab: &Lab| {
            let records = look::records_after(lab, &node, seq);
            records.into_iter().find(|record| {
                record["message"].as_str().is_some_and(|it| it.starts_with("n8 may join"))
            })
        };
        let record = lab.wait_for(&format!("the record on {node}"), PATIENCE, told);
        let record =
            record.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &node)));
        assert_about_now(&record["at"], 0, &format!("the record on {node}: {record:#}"));
        assert_stamps(lab, &node, uptimes[&node]);
        assert_ages(lab, &node);
    }
}

/// For how long a lab may have been there.
const LAB_S: i64 = 900;

/// What a node shows as the time, and since when its conditions stand, is by one clock, however far its own is
/// off and whenever that was set: a length that is counted from them is right.
fn assert_ages(lab: &Lab, node: &str) {
    let status = look::get(lab, node, "/api/v1/status").expect("an answer").json();
    assert_about_now(&status["now"], 0, &format!("the time that {node} shows"));
    let groups = status["groups"].as_array().expect("groups");
    let conditions = status["local"]["conditions"].as_array().expect("conditions");
    assert!(!groups.is_empty());
    for told in groups.iter().chain(conditions) {
        let age = -seconds_from_now(&told["since"]);
        assert!((-1..LAB_S).contains(&age), "{node} shows what is {age} s old: {told:#}");
    }
    // A screen counts in minutes from a hundred seconds on, and this one has times of the lab only.
    let screen = lab.vedette(node, &["node", "list"]).expect("an answer");
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    let words: Vec<&str> = screen.split_whitespace().collect();
    let minutes = words.windows(2).filter(|pair| pair[1] == "min");
    let long: Vec<_> =
        minutes.filter(|pair| pair[0].parse().is_ok_and(|it: i64| it > 15)).collect();
    assert!(screen.contains(node) && long.is_empty(), "{node}: {screen}");
}

/// A time is what the machine's clock shows, and so many seconds.
fn assert_about_now(time: &Value, ahead: i64, what: &str) {
    let off = seconds_from_now(time) - ahead;
    let tolerance = i64::try_from(PATIENCE.as_secs()).expect("small");
    assert!(off.abs() <= tolerance, "{what}: {time} is {off} s off");
}

/// How many seconds lie between now and that time, by the machine's clock.
fn seconds_from_now(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    let output = Command::new("date").args(["-d", text, "+%s"]).output().expect("date");
    let time: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    time - i64::try_from(since).expect("not so late")
}

/// `sysUpTime` of each node's master agent, in hundredths of seconds.
fn uptimes(lab: &Lab) -> BTreeMap<String, u64> {
    let uptime = |name: String| {
        let ticks = ticks(lab, &name, ".1.3.6.1.2.1.1.3");
        (name, *ticks.values().next().expect("sysUpTime"))
    };
    lab.names().into_iter().map(uptime).collect()
}

/// No `TimeStamp` of a node lies after its `sysUpTime`, and that of the last change is of now: not of
/// before `earlier`, when something was changed.
fn assert_stamps(lab: &Lab, node: &str, earlier: u64) {
    let fresh = |lab: &Lab| {
        let stamps = ticks(lab, node, ".1.3.6.1.4.1.8072.9999.9999.7770");
        let last = *stamps.get("vedetteClusterLastChange.0")?;
        (last >= earlier).then_some(stamps)
    };
    let stamps = lab.wait_for(&format!("the last change at {node}"), PATIENCE, fresh);
    let mut stamps = stamps.unwrap_or_else(|error| panic!("{error}, after {earlier}"));
    stamps.retain(|name, _| name.contains("LastChange"));
    let now = uptimes(lab)[node];
    let late: Vec<_> = stamps.iter().filter(|(_, stamp)| **stamp > now).collect();
    assert!(stamps.len() > 10 && late.is_empty(), "{node}: sysUpTime is {now}, and {late:?}");
}

/// `TimeTicks` below an object, as numbers.
fn ticks(lab: &Lab, node: &str, below: &str) -> BTreeMap<String, u64> {
    let mibs = concat!(env!("CARGO_MANIFEST_DIR"), "/../mib");
    let output = Command::new("snmpwalk")
        .args(["-v2c", "-c", "public", "-t", "2", "-r", "1", "-Oqst"])
        .arg("-M")
        .arg(format!("{mibs}:{mibs}/base"))
        .args(["-m", "VEDETTE-MIB"])
        .arg(lab.node(node).expect("a node of the lab").snmp.to_string())
        .arg(below)
        .output()
        .expect("snmpwalk is needed: apt-get install snmp");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// Everybody's history has that the clock was set back by two hours.
fn assert_stepped(lab: &Lab, seq: u64, off: &str) {
    for asked in lab.names() {
        let told = |lab: &Lab| {
            let records = look::records_after(lab, &asked, seq);
            records
                .into_iter()
                .find(|it| it["code"] == "CLOCK_STEPPED" && it["subject"]["name"] == off)
        };
        let record = lab.wait_for(&format!("CLOCK_STEPPED on {asked}"), PATIENCE, told);
        let record =
            record.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &asked)));
        let message = record["message"].as_str().expect("a message");
        assert!(message.contains("back by 720"), "{record:#}");
    }
}
