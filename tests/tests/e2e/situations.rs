//! Situations × surfaces: what is told when things are worst, on real daemons.
//!
//! Each situation is made, one node is asked, and what each of its surfaces answers is compared with the
//! same expected facts. A surface may leave out what it cannot say, but nothing that it says may differ.
//! That the comparison can fail is shown in the same run: what each surface told while all was well is
//! what it would tell if it showed the last known state as the present one, and that must be found wrong.

mod clocks;
mod disk;
mod page;
mod surfaces;

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use self::surfaces::{SURFACES, Surface};
use crate::failover::{address, give, wait_online_on};
use crate::{PATIENCE, lab, lab_of_five, look};

/// What a node is expected to tell, or a surface tells: statuses by name, in capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// It knows the present state of the cluster.
    knows: Option<bool>,
    /// The director that it names: none, if it names nobody.
    director: Option<Option<String>>,
    hosts: BTreeMap<String, String>,
    groups: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    /// Conditions of its own.
    conditions: Option<Vec<String>>,
    /// By how many seconds clocks are ahead of that of the node that is asked.
    offsets: BTreeMap<String, i64>,
    /// The level of the verdict.
    level: Option<String>,
    /// The exit status of a command that shows it.
    exit: Option<i32>,
}

/// Commands that show groups, and nothing else.
const GROUPS_ALONE: &[&str] = &["group list"];

impl Facts {
    /// What `told` says otherwise than expected.
    fn contradictions(&self, told: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, wanted: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
            let (wanted, is) = (format!("{wanted:?}"), format!("{is:?}"));
            if wanted != is {
                found.push(format!("{what}: {is}, expected {wanted}"));
            }
        };
        if let (Some(wanted), Some(is)) = (self.knows, told.knows) {
            compare("knows", &wanted, &is);
        }
        if let (Some(wanted), Some(is)) = (&self.director, &told.director) {
            compare("director", wanted, is);
        }
        if let (Some(wanted), Some(is)) = (&self.level, &told.level) {
            compare("level", wanted, is);
        }
        for (name, wanted) in &self.offsets {
            if let Some(is) = told.offsets.get(name) {
                compare(&format!("offset of {name}'s clock"), wanted, is);
            }
        }
        if let (Some(wanted), Some(is)) = (self.exit, told.exit) {
            compare("exit status", &wanted, &is);
        }
        for (kind, wanted, is) in [
            ("host", &self.hosts, &told.hosts),
            ("group", &self.groups, &told.groups),
            ("network", &self.networks, &told.networks),
        ] {
            for (name, status) in wanted {
                if let Some(told) = is.get(name) {
                    compare(&format!("{kind} {name}"), status, told);
                }
            }
        }
        if let (Some(wanted), Some(is)) = (&self.conditions, &told.conditions) {
            for code in wanted.iter().filter(|code| !is.contains(code)) {
                found.push(format!("condition {code} is not told"));
            }
        }
        found
    }

    /// Everything but the node itself is unknown.
    fn unknown(lab: &Lab, asked: &str, own: &str) -> Self {
        let host = |name: &String| {
            let status = if name == asked { own } else { "UNKNOWN" };
            (name.clone(), status.to_owned())
        };
        Self {
            knows: Some(false),
            director: Some(None),
            hosts: lab.names().iter().map(host).collect(),
            groups: [("web".to_owned(), "UNKNOWN".to_owned())].into(),
            level: Some(if own == "DISCONNECTED" { "failed" } else { "unknown" }.to_owned()),
            exit: Some(3),
            ..Self::default()
        }
    }

    /// Everything is known and well, but for what is added.
    fn well(lab: &Lab) -> Self {
        let up = |name: &str| (name.to_owned(), "UP".to_owned());
        Self {
            knows: Some(true),
            hosts: lab.names().iter().map(|name| up(name)).collect(),
            groups: [("web".to_owned(), "ONLINE".to_owned())].into(),
            networks: [up("neta"), up("netb")].into(),
            ..Self::default()
        }
    }
}

/// What each surface of `asked` tells.
fn told(lab: &Lab, asked: &str) -> Vec<(&'static str, Facts)> {
    let read = |(name, read): &Surface| {
        let facts = read(lab, asked);
        (*name, facts.unwrap_or_else(|| panic!("{name} of {asked} does not answer")))
    };
    SURFACES.iter().map(read).collect()
}

/// Waits until each surface of `asked` tells the facts.
fn assert_told(lab: &Lab, asked: &str, situation: &str, expected: &Facts) {
    for (surface, read) in SURFACES {
        let wrong = |lab: &Lab| match read(lab, asked) {
            None => vec!["it does not answer".to_owned()],
            Some(facts) => expected.contradictions(&facts),
        };
        let what = format!("{surface} of {asked} tells the truth ({situation})");
        lab.wait_for(&what, PATIENCE, |lab| wrong(lab).is_empty().then_some(())).unwrap_or_else(
            |error| panic!("{error}:\n{}\n{}", wrong(lab).join("\n"), look::status(lab, asked)),
        );
    }
}

/// The last known state, told as the present one, is found wrong on every surface.
fn assert_can_fail(situation: &str, before: &[(&'static str, Facts)], expected: &Facts) {
    assert_can_fail_but(&[], situation, before, expected);
}

/// The same, but for surfaces that tell nothing of what the situation changes.
fn assert_can_fail_but(
    silent: &[&str],
    situation: &str,
    before: &[(&'static str, Facts)],
    expected: &Facts,
) {
    for (surface, facts) in before.iter().filter(|(surface, _)| !silent.contains(surface)) {
        let found = expected.contradictions(facts);
        assert!(
            !found.is_empty(),
            "{situation}: {surface} would show the last known state unnoticed: {facts:#?}"
        );
        // Nobody is named also by a surface that is asked for an object which it does not have.
        let names_nobody = expected.director == Some(None) && facts.director == Some(None);
        assert!(!names_nobody, "{situation}: {surface} named no director before either");
    }
}

/// A group `web` on any node; answers where it is.
fn web(lab: &Lab) -> String {
    give(lab, "");
    let names: Vec<String> = lab.names().iter().map(|name| format!("\"{name}\"")).collect();
    give(
        lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [{}]\n\n[[groups.web.resources]]\n\
             name = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
            names.join(", "),
            address(lab, 0)
        ),
    );
    let names = lab.names();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    wait_online_on(lab, "n1", "web", &all)
}

pub(crate) fn director(lab: &Lab) -> String {
    let named = |lab: &Lab| look::director(lab, "n1");
    lab.wait_for("a director", PATIENCE, named).unwrap_or_else(|error| panic!("{error}"))
}

/// A member that neither owns the group nor directs.
fn standby(lab: &Lab, owner: &str) -> String {
    let director = director(lab);
    let free = |name: &String| *name != owner && *name != director;
    lab.names().into_iter().find(free).expect("three nodes")
}

/// T2: of three nodes two lose power; the last one knows of itself, and of nothing else.
#[test]
fn all_alone() {
    let lab = lab();
    let owner = web(&lab);
    let asked = lab.names().into_iter().find(|name| *name != owner).expect("another node");
    let before = told(&lab, &asked);
    for name in lab.names().iter().filter(|name| **name != asked) {
        lab.kill(name, Victim::Power).expect("powered off");
    }
    let expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        networks: [("neta".into(), "UNKNOWN".into()), ("netb".into(), "UNKNOWN".into())].into(),
        ..Facts::unknown(&lab, &asked, "DISCONNECTED")
    };
    assert_told(&lab, &asked, "all alone", &expected);
    assert_can_fail("all alone", &before, &expected);
    let text = look::status(&lab, &asked);
    assert!(!text.contains("ONLINE  ") || text.contains("UNKNOWN"), "{text}");
}

/// T2: two of five hear each other and have no quorum: neither knows more than one alone.
#[test]
fn a_minority_of_two_of_five() {
    let lab = lab_of_five();
    web(&lab);
    let before = told(&lab, "n5");
    for name in ["n1", "n2", "n3"] {
        lab.kill(name, Victim::Power).expect("powered off");
    }
    let expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        networks: [("neta".into(), "UP".into())].into(),
        ..Facts::unknown(&lab, "n5", "UP")
    };
    assert_told(&lab, "n5", "a minority of two of five", &expected);
    assert_can_fail("a minority of two of five", &before, &expected);
}

/// A node that starts alone has a state on disk, and does not show it as the present one.
#[test]
fn no_director_yet() {
    let lab = lab();
    web(&lab);
    let before = told(&lab, "n2");
    for name in lab.names() {
        lab.kill(&name, Victim::Power).expect("powered off");
    }
    lab.restart("n2").expect("powered on");
    let expected = Facts::unknown(&lab, "n2", "DISCONNECTED");
    assert_told(&lab, "n2", "no director yet", &expected);
    assert_can_fail("no director yet", &before, &expected);
}

/// A director whose guard is stopped cannot know whether it has a lease, and claims nothing.
#[test]
fn a_director_without_its_guards_word() {
    let lab = lab();
    web(&lab);
    let asked = director(&lab);
    let before = told(&lab, &asked);
    lab.pause(&asked, Victim::Guard).expect("its guard is stopped");
    let mut expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        ..Facts::unknown(&lab, &asked, "not asked")
    };
    expected.hosts.remove(&asked);
    assert_told(&lab, &asked, "a director without its guard's word", &expected);
    assert_can_fail("a director without its guard's word", &before, &expected);
    lab.resume(&asked).expect("its guard goes on");
}

/// F1: a node that hears everybody's beats and has less than they say they have: its log is behind, so
/// what it has is not the present state.
#[test]
fn a_log_that_is_behind() {
    let lab = lab();
    let owner = web(&lab);
    let (director, asked) = (director(&lab), standby(&lab, &owner));
    let before = told(&lab, &asked);
    lab.cut_agents(&asked).expect("cut");
    // Something is committed of which it hears by beats alone.
    let issued =
        lab.vedette(&director, &["node", "add", "n8", "--number", "8", "--yes"]).expect("run");
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
    let expected = Facts {
        conditions: Some(vec!["log_behind".into()]),
        networks: [("neta".into(), "UP".into()), ("netb".into(), "UP".into())].into(),
        ..Facts::unknown(&lab, &asked, "UP")
    };
    assert_told(&lab, &asked, "its log is behind", &expected);
    assert_can_fail("its log is behind", &before, &expected);
    lab.heal().expect("agents hear each other");
    assert_told(&lab, &asked, "its log has caught up", &Facts::well(&lab));
}

/// One network of one node is cut: everything is known, and that network's interface is down.
#[test]
fn cut_from_one_network() {
    let lab = lab();
    let owner = web(&lab);
    lab.cut("n2", Some("neta"), None).expect("cut");
    let expected = Facts { level: Some("degraded".into()), ..Facts::well(&lab) };
    assert_told(&lab, "n2", "cut from one network", &expected);
    lab.wait_for("the interface that is down", PATIENCE, |lab| {
        let rows = look::get(lab, "n2", "/api/v1/interfaces")?.json();
        let down = |row: &&Value| row["node"] == "n2" && row["network"] == "neta";
        let row = rows.as_array()?.iter().find(down)?.clone();
        (row["status"] == "DOWN").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n2")));
    let node = look::nodes(&lab, "n2");
    let own = node.iter().find(|node| node["name"] == "n2").expect("n2");
    assert_eq!(own["jeopardy"], true, "one interface is left (owner of web: {owner})");
}

/// Everything on a node stands still for ten seconds. The others know; it says afterwards what it missed,
/// and everybody's history has that with its own time.
#[test]
fn frozen_for_ten_seconds() {
    let lab = lab();
    web(&lab);
    let before = look::seq(&lab, "n1");
    lab.pause("n3", Victim::Both).expect("stopped");
    let others = Facts {
        knows: Some(true),
        hosts: [("n3".to_owned(), "DOWN".to_owned())].into(),
        ..Facts::default()
    };
    assert_told(&lab, "n1", "n3 is frozen", &others);
    let _ = lab.wait_for("ten seconds", std::time::Duration::from_secs(10), |_| None::<()>);
    lab.resume("n3").expect("goes on");
    assert_told(&lab, "n3", "n3 goes on", &Facts::well(&lab));
    for asked in ["n1", "n2", "n3"] {
        for code in ["QUORUM_LOST", "QUORUM_REGAINED"] {
            let told = |lab: &Lab| {
                let records = look::records_after(lab, asked, before);
                records.into_iter().find(|it| it["code"] == code && it["subject"]["name"] == "n3")
            };
            let record = lab
                .wait_for(&format!("{code} of n3 in the history of {asked}"), PATIENCE, told)
                .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
            assert!(record["told"]["happened_at"].is_string(), "{record:#}");
        }
    }
}
