//! The second campaign: the director is struck, again and again. Does a group of a healthy node move or pause?
//!
//! A lease stands on a majority of guards and on no director, so nothing of a node that was not struck has a reason to
//! stop. Each node is the home of a group with an address, and a prober asks for it two hundred times a second from
//! before the blow until everything is well again, the struck node included. Questions that stay without an answer
//! are a pause, an answer of another node is a move.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;
use crate::lab::{Lab, LabError, Prober, Result, Victim};

/// Busy loops beside the lab in the last quarter of the tries.
const BUSY: usize = 8;

/// Silences shorter than that are the prober's and the kernel's: a group that is let go of and taken up again is away
/// for longer.
const PAUSE: Duration = Duration::from_millis(100);

/// Each with its home first.
const GROUPS: [(&str, [&str; 3]); 3] =
    [("one", ["n1", "n2", "n3"]), ("two", ["n2", "n3", "n1"]), ("three", ["n3", "n1", "n2"])];

/// What is done to the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strike {
    /// Its guard and its agent are killed.
    Killed,
    /// It is deleted from the cluster, and joins it anew.
    Deleted,
    /// Its guard stands still for so long that it lets another one lead.
    SteppedDown,
    /// Its daemon is ended as an operator does, and started.
    Restarted,
    /// The agents of all nodes are killed, so that there is none.
    NoAgents,
}

impl Strike {
    const ALL: [Self; 5] =
        [Self::Killed, Self::Deleted, Self::SteppedDown, Self::Restarted, Self::NoAgents];

    /// Whether what the director has itself may have to move.
    const fn hits_the_director(self) -> bool {
        !matches!(self, Self::NoAgents)
    }

    /// Strikes, and ends what it did.
    fn deal(self, lab: &Lab, director: &str) -> Result<()> {
        match self {
            Self::Killed => {
                lab.kill(director, Victim::Both)?;
                succeeded(lab, director)?;
                missed(lab, director)
            }
            Self::Deleted => deleted(lab, director),
            Self::SteppedDown => {
                lab.pause(director, Victim::Guard)?;
                let outcome = succeeded(lab, director);
                lab.resume(director)?;
                outcome
            }
            Self::Restarted => lab.restart(director),
            Self::NoAgents => lab.names().iter().try_for_each(|name| lab.kill(name, Victim::Agent)),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Killed => "guard and agent killed",
            Self::Deleted => "deleted, joins anew",
            Self::SteppedDown => "steps down (guard stands still)",
            Self::Restarted => "daemon restarted",
            Self::NoAgents => "all agents killed at once",
        })
    }
}

/// A group of another node: who else answered for it, and for how long nobody did.
type Found = (&'static str, BTreeSet<u16>, Duration);

/// What was seen of one kind of blow.
#[derive(Debug, Default)]
struct Tally {
    tries: usize,
    /// Groups that were looked at.
    groups: usize,
    moved: usize,
    paused: usize,
    silences: Vec<Duration>,
}

/// Strikes so many times. Answers the table, and whether nothing moved or paused.
pub(super) fn tries(
    lab: &Lab,
    (tries, always): (usize, bool),
    progress: &mut dyn FnMut(String),
) -> Result<(String, bool)> {
    apply(lab)?;
    let mut seen: BTreeMap<(Strike, bool), Tally> = BTreeMap::new();
    for count in 0..tries {
        let strike = Strike::ALL[count % Strike::ALL.len()];
        let busy = always || count >= tries - tries / 4;
        let director = settle(lab)?;
        let load = if busy { Load::start()? } else { Load::default() };
        let found = one(lab, &director, strike).map_err(|error| {
            let status = lab.vedette("n1", &["status"]).map(|it| it.stdout).unwrap_or_default();
            let status = String::from_utf8_lossy(&status).into_owned();
            LabError(format!("try {}, {director} {strike}: {error}\n{status}", count + 1))
        })?;
        drop(load);
        let tally = seen.entry((strike, busy)).or_default();
        tally.tries += 1;
        for (group, others, silence) in found {
            tally.groups += 1;
            tally.moved += usize::from(!others.is_empty());
            tally.paused += usize::from(silence >= PAUSE);
            tally.silences.push(silence);
            let what =
                if others.is_empty() { "stayed".into() } else { format!("moved to {others:?}") };
            progress(format!(
                "try {}: {director} {strike}{}: {group} {what}, silent for {} ms",
                count + 1,
                if busy { ", busy" } else { "" },
                silence.as_millis()
            ));
        }
    }
    let fine = seen.values().all(|tally| tally.moved + tally.paused == 0);
    Ok((table(&seen), fine))
}

/// One blow: which groups of other nodes moved, and how long each was silent.
fn one(lab: &Lab, director: &str, strike: Strike) -> Result<Vec<Found>> {
    let mut asked = Vec::new();
    for (group, [home, ..]) in GROUPS {
        if strike.hits_the_director() && home == director {
            continue;
        }
        let prober = Prober::start(lab, 0, address(lab, group))?;
        let number = lab.node(home)?.number;
        lab.wait_for(&format!("{home} to answer for {group}"), PATIENCE, |_| {
            prober.so_far().answered_by(number, Duration::ZERO)
        })?;
        asked.push((group, number, prober));
    }
    strike.deal(lab, director)?;
    settle(lab)?;
    let mut found = Vec::new();
    for (group, number, prober) in asked {
        let answers = prober.stop()?;
        let others = answers.answers.iter().filter(|answer| answer.node != number);
        let others: BTreeSet<u16> = others.map(|answer| answer.node).collect();
        found.push((group, others, answers.longest_silence()));
    }
    Ok(found)
}

/// Waits until another node is the director.
fn succeeded(lab: &Lab, before: &str) -> Result<()> {
    let asked = other(lab, before)?;
    lab.wait_for("another director", PATIENCE, |lab| {
        let director = director(&lab.json(&asked, &["status", "-o", "json"]).ok()?)?;
        (director != before).then_some(())
    })
}

/// Waits until the others have seen that a node is dead: until then all would look well.
fn missed(lab: &Lab, node: &str) -> Result<()> {
    let asked = other(lab, node)?;
    lab.wait_for("its death to be seen", PATIENCE, |lab| {
        let status = lab.json(&asked, &["status", "-o", "json"]).ok()?;
        let dead = status["nodes"].as_array()?.iter().find(|it| it["name"] == node)?;
        (dead["host_status"] != "UP").then_some(())
    })
}

fn deleted(lab: &Lab, director: &str) -> Result<()> {
    let asked = other(lab, director)?;
    run(lab, &asked, &["node", "delete", director, "--yes"])?;
    let number = lab.node(director)?.number.to_string();
    let add = ["node", "add", director, "--number", &number, "--yes", "-o", "json"];
    let token = lab.json(&asked, &add)?;
    let token = token["token"].as_str().ok_or_else(|| LabError(format!("no token: {token}")))?;
    lab.stop(director)?;
    let state = lab.node(director)?.state_dir();
    std::fs::remove_dir_all(&state)?;
    run(lab, director, &["join", token, "--yes"])?;
    lab.restart(director)?;
    well(lab)?;
    // What the configuration said of it went with it.
    run(lab, &asked, &["config", "set", "seed", "3"])?;
    apply(lab)
}

fn other(lab: &Lab, than: &str) -> Result<String> {
    let mut names = lab.names().into_iter().filter(|name| name != than);
    names.next().ok_or_else(|| LabError("There is only one node.".into()))
}

fn run(lab: &Lab, node: &str, arguments: &[&str]) -> Result<()> {
    let done = lab.vedette(node, arguments)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(LabError(String::from_utf8_lossy(&done.stderr).into_owned())),
    }
}

/// Gives the groups.
fn apply(lab: &Lab) -> Result<()> {
    let mut text = String::new();
    for (group, nodes) in GROUPS {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[groups.{group}]\npolicy = \"cascading\"\nfallback = true\nnodes = {nodes:?}\n\n\
             [[groups.{group}.resources]]\nname = \"{group}-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n",
            address(lab, group)
        );
    }
    let file = lab.dir().join("director.toml");
    std::fs::write(&file, text)?;
    run(lab, "n1", &["config", "apply", &file.display().to_string(), "--yes"])
}

fn address(lab: &Lab, group: &str) -> std::net::Ipv4Addr {
    let place = GROUPS.iter().position(|(name, _)| *name == group).unwrap_or_default();
    lab.service_address(0, place as u8 + 1)
}

/// Waits until every node is well.
fn well(lab: &Lab) -> Result<()> {
    let file = lab.refresh()?;
    // An agent is started again by its guard.
    for node in file.nodes.iter().filter(|it| it.guard_pid.is_none()) {
        lab.restart(&node.name)?;
    }
    lab.wait_for("all nodes to be well", PATIENCE, |lab| {
        let status = lab.json("n1", &["status", "-o", "json"]).ok()?;
        let nodes = status["nodes"].as_array()?;
        let works = |node: &Value| {
            node["host_status"] == "UP"
                && node["agent_status"] == "RUNNING"
                && node["manager"]["joined"] == true
                && node["role"] == "voter"
        };
        let idle = status["manager"]["in_progress"].is_null();
        (nodes.len() == lab.names().len() && nodes.iter().all(works) && idle).then_some(())
    })
}

/// Waits until every node is well and every group is at home; answers the director.
fn settle(lab: &Lab) -> Result<String> {
    well(lab)?;
    lab.wait_for("all groups to be at home", PATIENCE, |lab| {
        let status = lab.json("n1", &["status", "-o", "json"]).ok()?;
        let groups = status["groups"].as_array()?;
        let at_home = |(name, [home, ..]): &(&str, [&str; 3])| {
            let known = groups.iter().find(|it| it["name"] == *name);
            known.is_some_and(|it| it["state"] == "ONLINE" && it["owner"] == *home)
        };
        GROUPS.iter().all(at_home).then(|| director(&status))?
    })
}

fn director(status: &Value) -> Option<String> {
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|node| node["director"] == true)?["name"].as_str().map(str::to_owned)
}

/// Busy loops, which end with it.
#[derive(Default)]
struct Load(Vec<Child>);

impl Load {
    fn start() -> Result<Self> {
        let mut load = Self::default();
        for _ in 0..BUSY {
            load.0.push(Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn()?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // What has ended already is ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn table(seen: &BTreeMap<(Strike, bool), Tally>) -> String {
    let mut text = String::from(
        "the director                           tries  groups  moved  paused  silent (median, longest)\n",
    );
    for ((strike, busy), tally) in seen {
        let mut silences = tally.silences.clone();
        silences.sort_unstable();
        let ms = |it: Option<&Duration>| it.map_or(0, Duration::as_millis);
        let (median, longest) = (ms(silences.get(silences.len() / 2)), ms(silences.last()));
        let Tally { tries, groups, moved, paused, .. } = tally;
        let name = format!("{strike}{}", if *busy { ", busy" } else { "" });
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:<38} {tries:>5} {groups:>7} {moved:>6} {paused:>7} {median:>8} ms {longest:>6} ms"
        );
    }
    text
}
