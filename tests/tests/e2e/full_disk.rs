//! A node whose disk takes nothing (finding F3): it holds up nobody, says so itself, keeps what it serves, and
//! goes on by itself when there is room.

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober, Victim};

use crate::administration::{document, run, unanswered};
use crate::failover::{address, give, wait_answer, wait_online};
use crate::situations::director;
use crate::{PATIENCE, lab, look, make_healthy, wait_healthy};

/// Room on the node's disk beside what it needs.
const ROOM: u64 = 24 << 20;

/// Three nodes by what they are to the story.
struct Cast {
    /// The director.
    leads: String,
    /// Neither director nor sick, if the sick one is not the director.
    well: String,
    /// The node whose disk has little room.
    sick: String,
}

/// Gives the director, or another node, a small disk, and the group `web` to nodes in their order.
fn cast(lab: &Lab, director_is_sick: bool, owners: impl Fn(&Cast) -> Vec<String>) -> Cast {
    let first = director(lab);
    let others = lab.names().into_iter().filter(|name| *name != first);
    let mut small: Vec<String> =
        if director_is_sick { Vec::new() } else { others.take(1).collect() };
    small.iter().for_each(|name| give_small_disk(lab, name));
    let mut leads = director(lab);
    // Whoever gets a disk is started anew, so another one leads, until that has one too.
    while director_is_sick && !small.contains(&leads) {
        give_small_disk(lab, &leads);
        small.push(leads);
        leads = director(lab);
    }
    let sick = if director_is_sick { leads.clone() } else { small.remove(0) };
    let names = lab.names();
    let well = names.into_iter().find(|name| *name != sick && *name != leads).expect("a third");
    let cast = Cast { leads, well, sick };
    let owners = owners(&cast);
    let quoted: Vec<String> = owners.iter().map(|owner| format!("{owner:?}")).collect();
    give(lab, "");
    give(lab, &document(lab, &[("web", &quoted.join(", "))]));
    wait_online(lab, &cast.well, "web", &owners[0]);
    cast
}

fn give_small_disk(lab: &Lab, name: &str) {
    lab.give_small_disk(name, ROOM).expect("a disk of its own");
    wait_healthy(lab);
}

/// Process of the agent of the sick node.
fn agent(lab: &Lab, cast: &Cast) -> Option<u32> {
    let file = lab.refresh().expect("lab.json can be written");
    file.nodes.iter().find(|node| node.name == cast.sick).expect("it is there").agent_pid
}

fn probe(lab: &Lab) -> Prober {
    Prober::start(lab, 0, address(lab, 0)).expect("a prober")
}

fn number(lab: &Lab, name: &str) -> u16 {
    lab.node(name).expect("a node").number
}

fn local(lab: &Lab, node: &str) -> Option<Value> {
    Some(look::get(lab, node, "/api/v1/local")?.json())
}

/// Has an entry written to every log: a test of the alert script, which the sick node may not answer.
fn write_something(lab: &Lab, asked: &str) {
    let told = lab.vedette(asked, &["alert", "test"]).expect("it can be run");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.starts_with("Test "), "{text}");
}

/// The sick node says on its own surfaces that it takes no part, and why; the others know.
fn assert_told(lab: &Lab, cast: &Cast) {
    let told = |lab: &Lab| {
        let local = local(lab, &cast.sick)?;
        let why = local["waiting_for"].as_str()?.contains("is full");
        (why && local["agent_status"] == "INITIALIZING").then_some(())
    };
    lab.wait_for("the sick node to say so", PATIENCE, told)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &cast.sick)));
    let status = look::status(lab, &cast.sick);
    assert!(status.contains("is full") && !status.starts_with("FINE"), "{status}");
    let groups = run_for_status(lab, &cast.sick, &["group", "list"]);
    assert_eq!(groups, Some(3), "what it cannot know, it does not show as known");
    wait_known(lab, cast);
}

/// The others learn that the sick node takes no part.
fn wait_known(lab: &Lab, cast: &Cast) {
    let known = |lab: &Lab| {
        let is = look::node_field(lab, &cast.well, &cast.sick, "agent_status");
        (is == "INITIALIZING").then_some(())
    };
    lab.wait_for("the others to know", PATIENCE, known)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &cast.well)));
}

fn run_for_status(lab: &Lab, node: &str, arguments: &[&str]) -> Option<i32> {
    lab.vedette(node, arguments).expect("it can be run").status.code()
}

/// How often the agent of the sick node came and went, as a record tells.
fn changes(lab: &Lab, cast: &Cast, since: u64) -> Vec<String> {
    let records = look::records_after(lab, &cast.well, since);
    let about =
        |it: &&Value| it["code"] == "NODE_AGENT" && it["subject"]["name"] == cast.sick.as_str();
    records.iter().filter(about).map(|it| it["message"].to_string()).collect()
}

/// F3: a standby's disk fills while nothing happens, so it is chosen for nothing, and a group moves between the two
/// others.
#[test]
fn f3_a_standby_whose_disk_is_full_holds_nobody_up() {
    let lab = lab();
    let cast =
        cast(&lab, false, |cast| vec![cast.leads.clone(), cast.sick.clone(), cast.well.clone()]);
    let prober = probe(&lab);
    wait_answer(&prober, number(&lab, &cast.leads));
    let (before, pid) = (look::seq(&lab, &cast.well), agent(&lab, &cast));
    let status = look::status(&lab, &cast.well);
    assert!(
        !status.contains("control_group"),
        "what runs in its place is said to be elsewhere: {status}"
    );
    lab.fill_disk(&cast.sick, 0).expect("filled");
    wait_known(&lab, &cast);
    // The sick one is the next of the list, and the director chooses.
    run(&lab, &cast.leads, &["group", "move", "web", "--yes"]);
    wait_online(&lab, &cast.leads, "web", &cast.well);
    for to in [&cast.leads, &cast.well] {
        run(&lab, &cast.leads, &["group", "move", "web", "--to", to, "--yes", "--no-wait"]);
        wait_online(&lab, &cast.leads, "web", to);
        wait_answer(&prober, number(&lab, to));
    }
    assert_told(&lab, &cast);
    lab.free_disk(&cast.sick).expect("freed");
    wait_healthy(&lab);
    let changes = changes(&lab, &cast, before);
    assert_eq!(changes.len(), 2, "it went once and came once: {changes:#?}");
    assert_eq!(agent(&lab, &cast), pid, "its agent is the one that it was");
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
    make_healthy(&lab);
    give(&lab, "");
}

/// F3: the owner's disk is full; it serves on, and is taken over from when it dies.
#[test]
fn f3_an_owner_whose_disk_is_full_serves_on_and_is_taken_over_from() {
    let lab = lab();
    let cast = cast(&lab, false, |cast| vec![cast.sick.clone(), cast.well.clone()]);
    let prober = probe(&lab);
    wait_answer(&prober, number(&lab, &cast.sick));
    lab.fill_disk(&cast.sick, 0).expect("filled");
    write_something(&lab, &cast.leads);
    assert_told(&lab, &cast);
    wait_answer(&prober, number(&lab, &cast.sick));
    let missed = unanswered(&prober);
    assert!(missed.is_empty(), "{} questions were not answered: {missed:?}", missed.len());
    lab.kill(&cast.sick, Victim::Power).expect("power off");
    wait_answer(&prober, number(&lab, &cast.well));
    wait_online(&lab, &cast.leads, "web", &cast.well);
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
    make_healthy(&lab);
    give(&lab, "");
}

/// F3: the director's disk is full; another node directs, and what it served is served on.
#[test]
fn f3_a_director_whose_disk_is_full_is_director_no_more() {
    let lab = lab();
    let cast = cast(&lab, true, |cast| vec![cast.sick.clone(), cast.well.clone()]);
    let prober = probe(&lab);
    wait_answer(&prober, number(&lab, &cast.sick));
    lab.fill_disk(&cast.sick, 0).expect("filled");
    write_something(&lab, &cast.well);
    let other = |lab: &Lab| {
        let nodes = look::nodes(lab, &cast.well);
        let leads = nodes.iter().find(|node| node["director"] == true)?;
        (leads["name"] != cast.sick.as_str()).then_some(())
    };
    lab.wait_for("another director", PATIENCE, other)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, &cast.well)));
    assert_told(&lab, &cast);
    wait_answer(&prober, number(&lab, &cast.sick));
    let missed = unanswered(&prober);
    assert!(missed.is_empty(), "{} questions were not answered: {missed:?}", missed.len());
    lab.free_disk(&cast.sick).expect("freed");
    wait_healthy(&lab);
    assert_eq!(prober.so_far().owners(), [number(&lab, &cast.sick)]);
    make_healthy(&lab);
    give(&lab, "");
}
