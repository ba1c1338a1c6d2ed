//! The worst moment: no node has a quorum. Whoever sees it tells it at once, on every surface that it has,
//! and everybody's history has the account of it afterwards (findings T1 to T3, F5).

use std::time::Duration;

use serde_json::Value;
use vedette_tests::alone;
use vedette_tests::lab::{Answers, Lab, Prober, Victim};

use crate::failover::{address, give, wait_answer, wait_online_on};
use crate::{PATIENCE, lab, look, make_healthy};

/// How far an outage that is told may be from the one that a client saw: a beat, a sign of life, and a
/// round of the prober.
const EXACT: Duration = Duration::from_millis(300);

/// A group `web` with an address, online on that node; and one that can be on n1 alone.
fn web_on(lab: &Lab, node: &str) -> Prober {
    give(lab, "");
    give(
        lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
             [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [groups.own]\npolicy = \"cascading\"\nnodes = [\"n1\"]\n\n\
             [[groups.own.resources]]\nname = \"own-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
            address(lab, 0),
            address(lab, 1)
        ),
    );
    let owner = wait_online_on(lab, "n1", "web", &["n1", "n2", "n3"]);
    if owner != node {
        let moved = lab
            .vedette("n1", &["group", "move", "web", "--to", node, "--yes", "--no-wait"])
            .expect("run");
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    }
    wait_online_on(lab, "n1", "web", &[node]);
    wait_online_on(lab, "n1", "own", &["n1"]);
    let prober = Prober::start(lab, 0, address(lab, 0)).expect("a prober");
    wait_answer(&prober, node[1..].parse().expect("n and a number"));
    prober
}

/// The longest time in which no client had an answer.
fn longest_silence(answers: &Answers) -> Duration {
    let times: Vec<Duration> =
        answers.answers.iter().filter(|it| !it.to_all).map(|it| it.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("answers")
}

fn wait(lab: &Lab, what: &str, seen: impl Fn(&Lab) -> bool) {
    lab.wait_for(what, PATIENCE, |lab| seen(lab).then_some(())).unwrap_or_else(|error| {
        let names = lab.names();
        panic!("{error}:\n{}\n{}", look::status(lab, &names[0]), look::traps(lab))
    });
}

/// The record of that code about a node that was told afterwards, in the history of `asked`.
fn told(lab: &Lab, asked: &str, after: u64, (code, node): (&str, &str)) -> Option<Value> {
    let records = look::records_after(lab, asked, after);
    records.into_iter().find(|record| {
        record["code"] == code && record["subject"]["name"] == node && record["told"].is_object()
    })
}

/// Everybody's history has the account, the same row with the same hash.
fn assert_in_every_history(lab: &Lab, after: u64, wanted: (&str, &str)) -> Value {
    let mut rows = Vec::new();
    for asked in lab.names() {
        let what = format!("{wanted:?} in the history of {asked}");
        let row =
            lab.wait_for(&what, PATIENCE, |lab| told(lab, &asked, after, wanted)).unwrap_or_else(
                |error| panic!("{error}:\n{:#?}", look::records_after(lab, &asked, after)),
            );
        assert!(row["told"]["happened_at"].is_string(), "with its own time: {row:#}");
        rows.push(row);
    }
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{rows:#?}");
    rows.remove(0)
}

/// The outage of `web` in the last incidents is as long as the one that clients saw.
fn assert_outage_is_true(lab: &Lab, prober: Prober) {
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    let seen = longest_silence(&answers);
    let outages = |lab: &Lab| -> Vec<f64> {
        let Some(answer) = look::get(lab, "n1", "/api/v1/incidents") else { return Vec::new() };
        let body = answer.json();
        let list = body["incidents"].as_array().or(body.as_array()).cloned().unwrap_or_default();
        let of = |incident: &Value| incident["outages"].as_array().cloned().unwrap_or_default();
        let web = list.iter().flat_map(of).filter(|outage| outage["group"] == "web");
        web.filter_map(|outage| outage["outage_ms"].as_f64()).collect()
    };
    assert_each_in_one_incident(lab);
    let near = |ms: &f64| (ms / 1_000.0 - seen.as_secs_f64()).abs() <= EXACT.as_secs_f64();
    lab.wait_for("the outage that clients saw", PATIENCE, |lab| {
        outages(lab).iter().any(near).then_some(())
    })
    .unwrap_or_else(|error| {
        let told = lab.vedette("n1", &["history", "show", "--limit", "120"]);
        panic!(
            "{error}: {:.3} s; told are {:?} ms\n{}",
            seen.as_secs_f64(),
            outages(lab),
            String::from_utf8_lossy(&told.map(|output| output.stdout).unwrap_or_default())
        )
    });
}

/// No time in which a group was out of service unplanned is told by two incidents, or twice by one.
fn assert_each_in_one_incident(lab: &Lab) {
    let body = look::get(lab, "n1", "/api/v1/incidents").expect("an answer").json();
    let mut all: Vec<(String, String, String, u64)> = Vec::new();
    for incident in body["incidents"].as_array().expect("incidents") {
        let id = incident["id"].as_u64().expect("a number");
        let outages = incident["outages"].as_array().expect("outages");
        for outage in outages.iter().filter(|outage| outage["planned"] == false) {
            let text = |key: &str| outage[key].as_str().unwrap_or("for ever").to_owned();
            all.push((text("group"), text("began"), text("ended"), id));
        }
    }
    all.sort();
    for pair in all.windows(2) {
        let [one, other] = pair else { continue };
        assert!(one.0 != other.0 || one.2 <= other.1, "told twice: {one:?} {other:?}");
    }
}

/// The run of n1's agent, and since when it has no quorum, as it says itself.
fn without_quorum(lab: &Lab) -> Option<(String, f64)> {
    let local = look::get(lab, "n1", "/api/v1/local")?.json();
    let page = look::get(lab, "n1", "/metrics")?.body;
    let name = "vedette_without_quorum_since_timestamp_seconds";
    let line = page.lines().find(|line| line.starts_with(name))?;
    let since: f64 = line.split_whitespace().next_back()?.parse().ok()?;
    Some((local["session"].to_string(), since)).filter(|(_, since)| *since > 0.0)
}

/// T1, T2, T3: n3 is dead, then the owner of a group is killed: n1 alone tells it on its log, to a watching
/// client, by a notification, as metric, on the screen, and by the alert script, which runs there; and
/// afterwards everybody's history has loss, release and return with their own times.
#[test]
fn the_last_one_tells_it_at_once_and_all_know_it_afterwards() {
    let lab = lab();
    let prober = web_on(&lab, "n2");
    lab.kill("n3", Victim::Power).expect("powered off");
    wait(&lab, "n3 to be DOWN", |lab| look::host(lab, "n1", "n3") == "DOWN");
    let before = look::seq(&lab, "n1");
    let watcher = look::Watcher::start(&lab, "n1");
    wait(&lab, "the watcher's snapshot", |_| !watcher.seen().is_empty());
    lab.kill("n2", Victim::Power).expect("powered off");

    let says = alone::sentence("n1");
    wait(&lab, "SSE", |_| {
        let seen = watcher.seen();
        seen.contains("event: local") && seen.contains("QUORUM_LOST")
    });
    wait(&lab, "metrics", |lab| {
        let page = look::get(lab, "n1", "/metrics").map(|answer| answer.body).unwrap_or_default();
        alone::is_on_metrics(&page)
    });
    wait(&lab, "a notification", |lab| alone::is_among_notifications(&look::traps(lab), "n1"));
    wait(&lab, "the alert script on n1", |lab| {
        let log = lab.node("n1").map(|node| node.dir.join("state/alert.log"));
        let text = log.ok().and_then(|path| std::fs::read_to_string(path).ok());
        text.unwrap_or_default().contains(&says)
    });
    wait(&lab, "the screen", |lab| look::status(lab, "n1").contains("no quorum"));
    let listed = lab.vedette("n1", &["group", "list"]).expect("run");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.status.code(), Some(3), "{text}");
    let row = text.lines().find(|line| line.starts_with("web")).expect("a row for web");
    assert_eq!(row.split_whitespace().nth(1), Some("UNKNOWN"), "{text}");

    // An agent that is started anew meanwhile knows since when, and tells nothing twice.
    let (session, since) = without_quorum(&lab).expect("since when it has none");
    lab.kill("n1", Victim::Agent).expect("it runs");
    wait(&lab, "another agent that knows since when", |lab| {
        let now = without_quorum(lab).filter(|(again, _)| *again != session);
        now.is_some_and(|(_, again)| (again - since).abs() < 0.2)
    });

    make_healthy(&lab);
    wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
    let lost = assert_in_every_history(&lab, before, ("QUORUM_LOST", "n1"));
    assert!(lost["cause"].as_str().expect("a cause").contains("n2"), "{lost:#}");
    let back = assert_in_every_history(&lab, before, ("QUORUM_REGAINED", "n1"));
    let lasted = elapsed_ms(&back) - elapsed_ms(&lost);
    assert!(back["duration_ms"].as_u64().expect("lasted").abs_diff(lasted) <= 200, "{back:#}");
    assert_in_every_history(&lab, before, ("NODE_STARTED", "n2"));
    // An address alone is gone in milliseconds, before anybody could look what there was.
    let released = assert_in_every_history(&lab, before, ("GROUP_RELEASED", "own"));
    assert!(elapsed_ms(&released).abs_diff(elapsed_ms(&lost)) <= 200, "{released:#}");
    let releases = look::records_after(&lab, "n2", before);
    let of_own = |it: &&Value| it["code"] == "GROUP_RELEASED" && it["subject"]["name"] == "own";
    assert_eq!(releases.iter().filter(of_own).count(), 1, "told once: {releases:#?}");
    wait_answer(&prober, owner_number(&lab));
    assert_outage_is_true(&lab, prober);
    // Where an operator wanted the group is forgotten with it.
    give(&lab, "");
}

/// All three lose power at the same moment: nobody was there to tell it, and it is told truly afterwards.
#[test]
fn what_nobody_saw_is_told_truly_afterwards() {
    let lab = lab();
    let prober = web_on(&lab, "n2");
    let before = look::seq(&lab, "n1");
    for name in lab.names() {
        lab.kill(&name, Victim::Power).expect("powered off");
    }
    let _ = lab.wait_for("some seconds", Duration::from_secs(3), |_| None::<()>);
    make_healthy(&lab);
    wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
    for node in ["n1", "n2", "n3"] {
        let row = assert_in_every_history(&lab, before, ("NODE_STARTED", node));
        assert!(row["cause"].as_str().expect("a cause").contains("last alive"), "{row:#}");
    }
    wait_answer(&prober, owner_number(&lab));
    assert_outage_is_true(&lab, prober);
    // Where an operator wanted the group is forgotten with it.
    give(&lab, "");
}

/// When a record happened, on the cluster's timeline.
fn elapsed_ms(record: &Value) -> u64 {
    record["elapsed_ms"].as_u64().unwrap_or_else(|| panic!("no elapsed_ms: {record:#}"))
}

fn owner_number(lab: &Lab) -> u16 {
    let owner = wait_online_on(lab, "n1", "web", &["n1", "n2", "n3"]);
    owner[1..].parse().expect("n and a number")
}
