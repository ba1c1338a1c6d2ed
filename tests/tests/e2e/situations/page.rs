//! The page as a person sees it, in a browser.

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_tests::lab::Lab;

use super::Facts;
use crate::browser;

/// Waits until the node's first word is shown, and takes what is on the screen.
const SCREEN: &str = r##"new Promise(done => {
  const texts = where => [...document.querySelectorAll(where)].map(it => it.textContent);
  // What was known last stands beside a state in an element of its own.
  const rows = id => [...document.querySelectorAll(`#${id} tbody tr`)].map(row =>
    [row.cells[0].textContent, row.cells[1].firstChild.textContent.slice(2)]);
  const look = until => {
    const sentence = document.getElementById("sentence");
    if (sentence && sentence.textContent !== "Asking this node…")
      done({ level: document.getElementById("level").textContent, current: !!document.getElementById("current"),
        facts: texts("#facts span"), problems: texts("#problems li"),
        nodes: rows("nodes"), groups: rows("groups"), networks: rows("networks") });
    else if (Date.now() > until) done(null);
    else setTimeout(look, 10, until);
  };
  look(Date.now() + 5000);
})"##;

/// Conditions, with the words in which the page tells them.
const CONDITIONS: &[(&str, &str)] = &[
    ("quorum_lost", "has no quorum"),
    ("log_behind", "is behind the cluster's log"),
    ("disk_full", "has a full disk"),
    ("clock_off", "the clock of"),
];

pub(super) fn read(lab: &Lab, asked: &str) -> Option<Facts> {
    let url = format!("http://{}/", lab.node(asked).ok()?.http);
    let screen = browser::read(lab, &url, SCREEN)?;
    let facts = texts(&screen["facts"]);
    let director = facts.iter().find_map(|fact| fact.strip_prefix("director "));
    let hosts = states(&screen["nodes"], " (this node)");
    let told = |words: &&str| facts.iter().any(|fact| fact.contains(words));
    let conditions = CONDITIONS.iter().filter(|(_, words)| told(words));
    Some(Facts {
        knows: screen["current"].as_bool(),
        level: screen["level"].as_str().map(str::to_owned),
        director: director.map(|name| (name != "not known").then(|| name.to_owned())),
        groups: states(&screen["groups"], " ("),
        networks: states(&screen["networks"], " ("),
        conditions: Some(conditions.map(|(code, _)| (*code).to_owned()).collect()),
        offsets: offsets(&texts(&screen["problems"]), &hosts),
        hosts,
        exit: None,
    })
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// Names, without what follows `end`, with their states.
fn states(rows: &Value, end: &str) -> BTreeMap<String, String> {
    let row = |row: &Value| {
        let name = row[0].as_str()?;
        let name = name.split_once(end).map_or(name, |(name, _)| name);
        Some((name.to_owned(), row[1].as_str()?.to_owned()))
    };
    rows.as_array().into_iter().flatten().filter_map(row).collect()
}

/// By how many seconds clocks are ahead; one of which the page says nothing is right.
fn offsets(problems: &[String], hosts: &BTreeMap<String, String>) -> BTreeMap<String, i64> {
    let told = |problem: &String| {
        let (name, rest) = problem.strip_prefix("the clock of ")?.split_once(" is ")?;
        let (seconds, rest) = rest.split_once(" s ")?;
        let side = if rest.starts_with("behind") { -1.0 } else { 1.0 };
        Some((name.to_owned(), (side * seconds.parse::<f64>().ok()?).round() as i64))
    };
    let mut all: BTreeMap<String, i64> = hosts.keys().map(|name| (name.clone(), 0)).collect();
    all.extend(problems.iter().filter_map(told));
    all
}
