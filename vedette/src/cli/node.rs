//! `vedette node`: the members, and how they come and go (spec A2, A3, A6, A7, A10).

use clap::{Args, Subcommand};
use serde::Serialize;
use vedette_collector::clinfo::{EventDoc, NodeDoc, StandbyDoc, TokenDoc};
use vedette_core::command::{Command, GroupCommand, ManagerCommand};
use vedette_core::model::{AgentStatus, HostStatus, Node};
use vedette_core::record::Code;
use vedette_core::state::ClusterState;
use vedette_core::takeover::Backing;
use vedette_core::trigger::StopMode;

use super::ask::{self, Confirm};
use super::client::parse;
use super::complete;
use super::context::{Context, actor};
use super::fail::{Failure, REFUSED, Result};
use super::text::{Cell, Style, Table, Tone, age, clean, clock, length};
use super::{manage, status};

/// `vedette node`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette node list\n  \
    vedette node show n2\n  \
    vedette node add n2 --number 2\n  \
    vedette node delete n2")]
pub(crate) enum NodeCommand {
    /// List the members with host and agent status
    List(ListArgs),
    /// Show one member with its interfaces
    Show(ShowArgs),
    /// Admit a new member: issues the token it joins with
    Add(AddArgs),
    /// Delete a member; its groups are handed over first
    Delete(DeleteArgs),
    /// Say that a node is certainly off, so that others may take what it had
    ConfirmOff(ConfirmOffArgs),
}

/// `vedette node list`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1 if a node is not UP with its agent RUNNING, 3 if this node does not\n\
    know.\n\n\
    Examples:\n  vedette node list\n  vedette node list -o json"
)]
pub(crate) struct ListArgs {}

/// `vedette node show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette node show n2\n  vedette node show 2 -o json")]
pub(crate) struct ShowArgs {
    /// Its name or number
    #[arg(add = complete::nodes())]
    node: String,
}

/// `vedette node add`
#[derive(Debug, Args)]
#[command(
    after_help = "The token goes to the new node, where `vedette join TOKEN` uses it up. It is \
    shown once.\n\n\
    Examples:\n  \
    vedette node add n2\n  \
    vedette node add n2 --number 2 --valid 30m\n  \
    ssh n2 vedette join $(vedette node add n2 --yes -o json | jq -r .token) --yes"
)]
pub(crate) struct AddArgs {
    /// The name of the new node, as its own configuration has it
    name: String,
    /// Its number [default: the least that is free]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=999))]
    number: Option<u16>,
    /// How long the token can be used, such as 30m or 1h
    #[arg(long, default_value = "1h", value_parser = ask::duration)]
    valid: std::time::Duration,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette node delete`
#[derive(Debug, Args)]
#[command(after_help = "A deleted node can be added again at once.\n\n\
    Examples:\n  vedette node delete n2\n  vedette node delete 2 --yes")]
pub(crate) struct DeleteArgs {
    /// Its name or number
    #[arg(add = complete::nodes())]
    node: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette node confirm-off`
#[derive(Debug, Args)]
#[command(
    after_help = "Where nothing proves that a silent node has let go of its groups, nobody takes them: \
    two owners would destroy their data. Look at the machine, switch it off, and say so. A terminal asks;\n\
    without one it is refused without --i-am-certain, for which --yes does not stand.\n\n\
    Examples:\n  vedette node confirm-off n2\n  vedette node confirm-off n2 --i-am-certain"
)]
pub(crate) struct ConfirmOffArgs {
    /// Its name or number
    #[arg(add = complete::nodes())]
    node: String,
    /// You have seen that the machine is off
    #[arg(long)]
    i_am_certain: bool,
}

/// What is asked of the daemon.
#[derive(Debug, Serialize)]
struct TokenRequest<'a> {
    name: &'a str,
    number: Option<u16>,
    valid_s: u64,
    actor: String,
}

/// Carries out a command on nodes.
pub(crate) fn run(context: &Context, command: NodeCommand) -> Result<u8> {
    match command {
        NodeCommand::List(_) => list(context),
        NodeCommand::Show(arguments) => show(context, &arguments.node),
        NodeCommand::Add(arguments) => add(context, &arguments),
        NodeCommand::Delete(arguments) => delete(context, &arguments),
        NodeCommand::ConfirmOff(arguments) => confirm_off(context, &arguments),
    }
}

fn confirm_off(context: &Context, arguments: &ConfirmOffArgs) -> Result<u8> {
    let (state, name) = (context.state()?, clean(&arguments.node));
    let node = find(&state, &arguments.node)?.number;
    let held = manage::groups_on(&state, &[node]);
    if !held.is_empty() {
        let plan = format!(
            "Others will take what {name} had ({}). If it runs, two owners will destroy the data.",
            clean(&held.join(", "))
        );
        let question = format!("Have you seen that {name} is off?");
        ask::unless(arguments.i_am_certain, "--i-am-certain", &plan, &question)?;
    }
    let done = context.order(&Command::Group(GroupCommand::ConfirmOff { node }))?;
    context.done(&format!("{name} is off: others may take what it had."), &done)
}

fn list(context: &Context) -> Result<u8> {
    let nodes = context.show("/api/v1/nodes", |nodes: &Vec<NodeDoc>| {
        status::nodes(nodes, &context.now(), true).render(context.style, 0)
    })?;
    let fine = nodes.iter().all(is_fine);
    // For a program the document is the answer; for a person and a check, the exit status too.
    Ok(if fine || context.json() { 0 } else { REFUSED })
}

fn is_fine(node: &NodeDoc) -> bool {
    node.host_status == HostStatus::Up
        && node.agent_status == AgentStatus::Running
        && node.manager.stopped.is_none()
}

/// What a fact of the cluster is to a node that does not know the cluster.
const NOT_KNOWN: &str = "not known";

/// What stands behind the release of what a node holds, if its processes cannot act.
fn backing(backing: Option<Backing>) -> String {
    match backing {
        None => NOT_KNOWN.into(),
        Some(Backing::None) => "none: nothing but its guard ends what it holds".into(),
        Some(other) => format!("its {other} ends what it holds if its guard cannot"),
    }
}

fn show(context: &Context, node: &str) -> Result<u8> {
    let path = format!("/api/v1/nodes/{}", segment(node));
    context.show(&path, |node: &NodeDoc| screen(node, &context.now(), context.style))?;
    Ok(0)
}

/// `text` as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// One node.
pub(crate) fn screen(node: &NodeDoc, now: &str, style: Style) -> String {
    let mut facts = Table::new(&["NODE", &clean(&node.name)]);
    let mut fact = |name: &str, value: Cell| facts.row(vec![name.into(), value]);
    let since = |at: &str| format!("{}, {} ago", clock(at, now), age(at, now));
    fact("number", node.number.into());
    fact("host", Cell::status(node.host_status));
    fact("  since", since(&node.host_since).into());
    fact("  because", (&node.host_cause).into());
    if let Some(last) = &node.last_known {
        let at = clock(&last.as_of, now);
        let last = format!("{}, agent {}, at {at}", last.host_status, last.agent_status);
        fact("  last known", last.into());
    }
    fact("agent", Cell::status(node.agent_status));
    fact("  since", since(&node.agent_since).into());
    fact("manager", status::manager_cell(&node.manager));
    if let Some(at) = &node.manager.since {
        fact("  since", since(at).into());
    }
    if let Some(how) = node.manager.stopped {
        fact("  stopped", Cell::status(format!("{how}; vedette start --node {}", node.name)));
    }
    if node.manager.maintenance == Some(true) {
        let what = "MAINTENANCE: nothing is moved from or to it, nothing restarted on it";
        fact("  ", Cell::toned(what, Tone::Bad));
    }
    fact("  backing", backing(node.manager.backing).into());
    if let Some(why) = &node.manager.watchdog {
        fact("  watchdog", Cell::toned(format!("of no use: {}", clean(why)), Tone::Warn));
    }
    if let Some(why) = &node.manager.reaper {
        fact("  reaper", Cell::toned(format!("none: {}", clean(why)), Tone::Warn));
    }
    let unreleased = &node.manager.unreleased;
    if let Some(why) = &unreleased.guard {
        let what = format!("what it had is not let go of, so it gets no group: {}", clean(why));
        fact("  unreleased", Cell::toned(what, Tone::Bad));
    }
    for (group, why) in &unreleased.groups {
        let what = format!("{group}: {}", clean(why));
        fact("  unreleased", Cell::toned(what, Tone::Bad));
    }
    fact(
        "role",
        if node.director { format!("{}, director", node.role) } else { node.role.to_string() }
            .into(),
    );
    fact(
        "jeopardy",
        match node.jeopardy {
            Some(true) => Cell::status("only one interface is left"),
            Some(false) => "no".into(),
            None => NOT_KNOWN.into(),
        },
    );
    // Both are facts of the cluster, so both are known or neither is.
    let none = if node.jeopardy.is_some() { "none" } else { NOT_KNOWN };
    fact("incident", node.incident.map_or(none.to_owned(), |it| it.to_string()).into());
    if let Some(offset) = node.clock_offset_ms {
        fact("clock", status::clock_offset(offset));
    }
    if let Some(position) = node.log_position {
        fact("log", format!("applied up to {position}").into());
    }
    fact("version", (&node.version).into());
    fact("added", clock(&node.added_at, now).into());
    let mut interfaces = Table::new(&["NETWORK", "ADDRESS", "STATUS", "SINCE"]);
    for interface in &node.interfaces {
        interfaces.row(vec![
            (&interface.network).into(),
            (&interface.address).into(),
            status::known_or_last(interface.status, interface.last_known.as_ref(), now),
            clock(&interface.since, now).into(),
        ]);
    }
    let mut text = format!("{}\n{}", facts.render(style, 0), interfaces.render(style, 0));
    if !node.standbys.is_empty() {
        text.push_str(&format!("\n{}", standbys(&node.standbys, now).render(style, 0)));
    }
    text
}

/// Standby adapters, and why those that failed did.
fn standbys(standbys: &[StandbyDoc], now: &str) -> Table {
    let mut table = Table::new(&["STANDBY ON", "ADDRESS", "STATUS", "SINCE", "CAUSE"]);
    for standby in standbys {
        table.row(vec![
            (&standby.network).into(),
            (&standby.address).into(),
            Cell::status(standby.status),
            standby.since.as_ref().map_or("-".to_owned(), |at| clock(at, now)).into(),
            (&standby.cause).into(),
        ]);
    }
    table
}

fn add(context: &Context, arguments: &AddArgs) -> Result<u8> {
    if !arguments.confirm.yes {
        let state = context.state()?;
        arguments.confirm.ask(&plan_of_add(&state, arguments), "Issue the token?")?;
    }
    let request = TokenRequest {
        name: &arguments.name,
        number: arguments.number,
        valid_s: arguments.valid.as_secs(),
        actor: actor(),
    };
    let path = "/control/v1/token";
    let body = context.client()?.post(path, &request)?;
    if context.json() {
        context.print_document(&body)?;
        return Ok(0);
    }
    let answer: TokenDoc = parse(path, &body)?;
    context.print(&format!(
        "{} may join as number {} until {}. On {}:\n\n  vedette join {}\n\n\
         The token is shown this once and admits whoever has it: hand it over safely.\n",
        clean(&arguments.name),
        answer.number,
        clean(&answer.expires_at),
        clean(&arguments.name),
        clean(&answer.token)
    ))?;
    Ok(0)
}

/// The members, their interfaces, and what will happen (spec A3).
fn plan_of_add(state: &ClusterState, arguments: &AddArgs) -> String {
    let number = arguments
        .number
        .map_or("the least number that is free".into(), |number| format!("number {number}"));
    format!(
        "Members of {}:\n{}\n{} will be admitted as {number}, with an address on each of these \
         networks:\n{}\nIts token can be used once, within {}. Nothing changes until it joins.",
        clean(&state.name),
        members(state).render(Style::PLAIN, 2),
        clean(&arguments.name),
        networks(state).render(Style::PLAIN, 2),
        length(arguments.valid),
    )
}

/// Member, interface, monitored or not: the network table of the original's dialogue.
pub(crate) fn members(state: &ClusterState) -> Table {
    let mut table = Table::new(&["MEMBER", "NO", "NETWORK", "INTERFACE", "MONITORED", "STATUS"]);
    for node in state.nodes.values() {
        for (number, interface) in &node.interfaces {
            table.row(vec![
                (&node.name).into(),
                node.number.into(),
                state.network_name(*number).into(),
                interface.address.into(),
                "yes".into(),
                Cell::status(interface.status),
            ]);
        }
    }
    table
}

fn networks(state: &ClusterState) -> Table {
    let mut table = Table::new(&["NETWORK", "PRIORITY", "HEARTBEATS", "PEERS"]);
    for network in state.networks.values() {
        table.row(vec![
            (&network.name).into(),
            network.priority.into(),
            format!("udp {}", network.beat_port).into(),
            format!("tcp {}", network.peer_port).into(),
        ]);
    }
    table
}

/// The member of that name, or else of that number.
pub(crate) fn find<'a>(state: &'a ClusterState, wanted: &str) -> Result<&'a Node> {
    let by_number = || state.nodes.values().find(|node| node.number.to_string() == wanted);
    state.node_named(wanted).or_else(by_number).ok_or_else(|| {
        let names: Vec<&str> = state.nodes.values().map(|node| node.name.as_str()).collect();
        Failure::refused(
            format!("there is no node {}", clean(wanted)),
            format!("The members are {}.", clean(&names.join(", "))),
        )
    })
}

fn delete(context: &Context, arguments: &DeleteArgs) -> Result<u8> {
    let state = context.state()?;
    let node = match find(&state, &arguments.node) {
        Ok(node) => node,
        Err(_) if was_deleted(context, &arguments.node)? => {
            return context.unchanged(format!("{} was deleted before", arguments.node));
        }
        Err(failure) => return Err(failure),
    };
    let local: vedette_collector::clinfo::LocalDoc = context.client()?.read("/control/v1/local")?;
    // A6: whoever manages the cluster does not saw off the branch it sits on.
    if local.number == node.number.0 && state.nodes.len() > 1 {
        return Err(Failure::refused(
            format!("{} is this node and cannot be deleted from here", node.name),
            "Run the command on another member.",
        ));
    }
    refuse_in_error(&state, node)?;
    let plan = format!(
        "{} (number {}, host {}, agent {}) will be deleted from {}.\n\
         Its history ends here, its name and number become free, and it can be added again.",
        clean(&node.name),
        node.number,
        node.host,
        node.agent,
        clean(&state.name)
    );
    arguments.confirm.ask(&plan, "Delete it?")?;
    hand_over(context, &state, node)?;
    let done = context.order(&Command::RemoveNode { node: node.number })?;
    context.done(&format!("{} is deleted.", clean(&node.name)), &done)
}

/// Whether the history tells of the deletion of a node of that name: who deletes it again has not
/// misspelt it.
fn was_deleted(context: &Context, name: &str) -> Result<bool> {
    let path = format!("/control/v1/history?limit=1000&code={}", Code::NodeRemoved.name());
    let removed: Vec<EventDoc> = context.client()?.read(&path)?;
    Ok(removed.iter().any(|event| event.subject.name == name))
}

/// While an event waits for an operator nothing is handed over, and the node would be left half gone.
fn refuse_in_error(state: &ClusterState, node: &Node) -> Result<()> {
    let member = state.manager.members.get(&node.number);
    let takes_part = member.is_some_and(|member| member.joined)
        || !manage::groups_on(state, &[node.number]).is_empty();
    let failed = state.manager.failed().next();
    let Some(running) = failed.filter(|_| takes_part) else { return Ok(()) };
    Err(Failure::refused(
        format!(
            "{} cannot hand over its groups while event {} waits for an operator, so it is not deleted",
            clean(&node.name),
            running.event.id
        ),
        "Continue that event first: vedette recover show.",
    ))
}

/// How long a node that is deleted may take to hand over its groups.
const HAND_OVER: std::time::Duration = std::time::Duration::from_secs(120);

/// What runs on a node goes to others before it is deleted (spec A6).
fn hand_over(context: &Context, state: &ClusterState, node: &Node) -> Result<()> {
    let number = node.number;
    let joined = |state: &ClusterState| {
        state.manager.members.get(&number).is_some_and(|member| member.joined)
    };
    if joined(state) {
        let stop = ManagerCommand::Stop { nodes: vec![number], how: StopMode::Takeover };
        context.propose(&Command::Manager(stop))?;
    }
    manage::wait_for(context, HAND_OVER, |state| {
        !joined(state) && manage::groups_on(state, &[number]).is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("n1"), "n1");
        assert_eq!(segment("../a b?c#d/ä"), "..%2Fa%20b%3Fc%23d%2F%C3%A4");
    }
}
