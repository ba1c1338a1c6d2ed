//! `vedette stop`, `start`, `maintenance`, `recover`, `leave`: the cluster manager in an operator's
//! hands (spec H18, H21).

use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use vedette_collector::clinfo::told::DoneDoc;
use vedette_collector::clinfo::{ManagerDoc, RunningDoc};
use vedette_core::command::{Command, ManagerCommand, Scope};
use vedette_core::event::{RecoverAction, Running, Stage};
use vedette_core::group::GroupState;
use vedette_core::id::NodeNumber;
use vedette_core::model::HostStatus;
use vedette_core::state::ClusterState;
use vedette_core::trigger::StopMode;

use super::aside;
use super::ask::{self, AsksNothing, Confirm};
use super::complete;
use super::context::Context;
use super::event;
use super::fail::{FAILED, Failure, Result};
use super::follow::Await;
use super::follow::managers::Order;
use super::node::find;
use super::text::{clean, length};
use crate::daemon::control::Leave;

/// `vedette stop`
#[derive(Debug, Args)]
#[command(
    after_help = "The node stays a member of the cluster and keeps its vote; it runs no groups until \
    it is started again. To end the daemon itself: vedette leave.\n\n\
    Exit status: 0 it is stopped, and what it had is where it is to be; 1 it waits; 2 something could not be \
    released or taken over; 3 not done in time.\n\n\
    Examples:\n  \
    vedette stop\n  \
    vedette stop --node n2 --mode graceful\n  \
    vedette stop --all --mode forced --yes\n  \
    vedette stop --node n2 --timeout 10m\n  \
    vedette stop --node n2 --no-wait --yes"
)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    whom: Whom,
    /// What becomes of its groups
    #[arg(long, value_enum, default_value = "takeover")]
    mode: Mode,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette start`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 it takes part; 1 it waits, or is not there; 2 its join failed; 3 not done in \
    time.\n\n\
    Examples:\n  \
    vedette start\n  vedette start --node n2 --timeout 10m\n  vedette start --all --no-wait"
)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    wait: Wait,
}

/// Which nodes.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Whom {
    /// This node [default: the one whose daemon is asked]
    #[arg(long, value_name = "NODE", add = complete::nodes())]
    node: Option<String>,
    /// Every node
    #[arg(long)]
    all: bool,
}

/// How long.
#[derive(Debug, Args)]
struct Wait {
    #[command(flatten)]
    outcome: Await,
    /// What scripts wrote before it was the rule: wait, at most so long
    #[arg(long, hide = true, value_name = "TIME", num_args = 0..=1, default_missing_value = "2m",
          require_equals = true, value_parser = ask::duration, conflicts_with_all = ["no_wait", "timeout"])]
    wait: Option<Duration>,
}

impl Wait {
    fn asked(&self) -> Await {
        Await { timeout: self.wait.unwrap_or(self.outcome.timeout), ..self.outcome }
    }
}

/// How a node's manager is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Its groups are released, and wait for it
    Graceful,
    /// Its groups are released, and others take them
    Takeover,
    /// Its groups are left running, watched by nobody
    Forced,
}

impl From<Mode> for StopMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Graceful => Self::Graceful,
            Mode::Takeover => Self::Takeover,
            Mode::Forced => Self::Forced,
        }
    }
}

/// `vedette maintenance`
#[derive(Debug, Args)]
#[command(
    after_help = "In maintenance nothing is moved and nothing restarted; what fails is shown. What runs is \
        left running when its daemon stops, restarts or dies, and when the quorum is lost. So a node that \
        is lost meanwhile is taken over only once it was fenced, or somebody is certain that it is off.\n\n\
        Upgrade of a node without an interruption:\n  \
    vedette maintenance on; stop the daemon, install, start the daemon; vedette maintenance off\n\n\
    Examples:\n  \
    vedette maintenance on\n  \
    vedette maintenance on --node n2\n  \
    vedette maintenance off --group web"
)]
pub(crate) struct MaintenanceArgs {
    /// on or off
    #[arg(value_parser = ["on", "off"])]
    state: String,
    /// Only of this node
    #[arg(long, value_name = "NODE", conflicts_with = "group", add = complete::nodes())]
    node: Option<String>,
    /// Only of this group
    #[arg(long, value_name = "GROUP", add = complete::groups())]
    group: Option<String>,
}

/// `vedette leave`
#[derive(Debug, Args)]
#[command(
    after_help = "What runs here is handed over first, then the others are told, then the daemon \
    ends. The node stays a member: start its daemon again and it is back.\n\n\
    Examples:\n  vedette leave\n  vedette leave --yes\n  vedette leave --now --yes"
)]
pub(crate) struct LeaveArgs {
    /// Do not hand over what runs here first: it is stopped, and others take it when it is certain
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette recover`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette recover show\n  \
    vedette recover retry\n  \
    vedette recover skip --event 12")]
pub(crate) enum RecoverCommand {
    /// Show the event that failed: which command on which node printed what
    Show(RecoverShowArgs),
    /// Run the failed commands again
    #[command(after_help = "Examples:\n  \
        vedette recover retry\n  vedette recover retry --event 12")]
    Retry(RetryArgs),
    /// Go on as if the failed commands had succeeded
    #[command(after_help = "Do by hand first what they should have done.\n\nExamples:\n  \
        vedette recover skip\n  vedette recover skip --event 12 --yes")]
    Skip(RecoverArgs),
    /// End the event as failed
    #[command(after_help = "What was not done is left undone.\n\nExamples:\n  \
        vedette recover abort\n  vedette recover abort --event 12 --yes")]
    Abort(RecoverArgs),
}

/// `vedette recover show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette recover show\n  vedette recover show -o json")]
pub(crate) struct RecoverShowArgs {}

/// `vedette recover retry`
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The event; refused if it is not one that failed [default: the one that failed]
    #[arg(long, value_name = "ID")]
    event: Option<u64>,
    #[command(flatten)]
    _confirm: AsksNothing,
}

/// `vedette recover skip|abort`
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The event; refused if it is not one that failed, or to be aborted and user-defined or slow [default: the
    /// one that failed]
    #[arg(long, value_name = "ID")]
    event: Option<u64>,
    #[command(flatten)]
    confirm: Confirm,
}

const MANAGER: &str = "/api/v1/manager";

fn nodes(context: &Context, state: &ClusterState, whom: &Whom) -> Result<Vec<NodeNumber>> {
    match (&whom.node, whom.all) {
        (_, true) => Ok(Vec::new()),
        (Some(name), _) => Ok(vec![find(state, name)?.number]),
        (None, false) => {
            let local: vedette_collector::clinfo::LocalDoc =
                context.client()?.read("/control/v1/local")?;
            Ok(vec![NodeNumber(local.number)])
        }
    }
}

fn names(state: &ClusterState, nodes: &[NodeNumber]) -> String {
    if nodes.is_empty() {
        return "Every node".into();
    }
    let names: Vec<String> = nodes.iter().map(|node| state.node_name(*node)).collect();
    clean(&names.join(", "))
}

/// Stops managers.
pub(crate) fn stop(context: &Context, arguments: &StopArgs) -> Result<u8> {
    let state = context.state()?;
    let nodes = nodes(context, &state, &arguments.whom)?;
    let what = match arguments.mode {
        Mode::Graceful => "are released and wait for it",
        Mode::Takeover => "are released and taken over by others",
        Mode::Forced => "are left running as they are, watched by nobody",
    };
    let who = names(&state, &nodes);
    let here = groups_on(&state, &nodes);
    let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
    let left = match arguments.mode {
        Mode::Graceful | Mode::Takeover if left_alone(&state, &nodes) => {
            " What is in maintenance is left running as it is."
        }
        _ => "",
    };
    let how = arguments.mode.into();
    if !each(&state, &nodes, |member| member.stopped == Some(how)) {
        let plan = format!("{who} will be stopped. Its groups ({}) {what}.{left}", clean(&here));
        arguments.confirm.ask(&plan, "Stop?")?;
    }
    let order = Order::new(&state, &nodes, Some(how));
    let stop = ManagerCommand::Stop { nodes: nodes.clone(), how };
    let done = context.order(&Command::Manager(stop))?;
    let (wait, mode) = (arguments.wait.asked(), mode_word(arguments.mode));
    if wait.no_wait {
        return context.done(&format!("{who} stops, {mode}.{}", held_up(context)?), &done);
    }
    let now = order.outcome(context, done.index(), wait)?;
    let now = if now.is_empty() { now } else { format!(" Now {now}.") };
    let mode = match here.as_str() {
        "none" if arguments.mode == Mode::Forced => "by force; nothing ran there",
        _ => mode,
    };
    context.done(&format!("{who} is stopped, {mode}.{now}"), &done)
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Graceful => "gracefully",
        Mode::Takeover => "with takeover",
        Mode::Forced => "by force: what ran there is left running",
    }
}

/// Starts managers again.
pub(crate) fn start(context: &Context, arguments: &StartArgs) -> Result<u8> {
    let state = context.state()?;
    let nodes = nodes(context, &state, &arguments.whom)?;
    let who = names(&state, &nodes);
    let order = Order::new(&state, &nodes, None);
    let start = ManagerCommand::Start { nodes: nodes.clone() };
    let done = context.order(&Command::Manager(start))?;
    let wait = arguments.wait.asked();
    if wait.no_wait {
        return context.done(&format!("{who} starts.{}", held_up(context)?), &done);
    }
    order.outcome(context, done.index(), wait)?;
    context.done(&format!("{who} is started."), &done)
}

/// A sentence about the event that what was just ordered waits behind, if one has failed.
pub(crate) fn held_up(context: &Context) -> Result<String> {
    Ok(behind(&context.state()?))
}

fn behind(state: &ClusterState) -> String {
    let before = |failed: &&Running| {
        state.manager.queue.iter().any(|it| failed.event.trigger.comes_before(&it.trigger))
    };
    state.manager.failed().find(before).map_or_else(String::new, |running| {
        let what = clean(&state.trigger_label(&running.event.trigger));
        format!(
            " That waits until event {} {what}, which failed, is continued: vedette recover show.",
            running.event.id
        )
    })
}

/// Groups that have something on these nodes; on any if none is named.
pub(crate) fn groups_on(state: &ClusterState, nodes: &[NodeNumber]) -> Vec<String> {
    let on = |node: &NodeNumber| nodes.is_empty() || nodes.contains(node);
    let groups = state.groups.iter().filter(|(_, group)| group.instances.keys().any(on));
    groups.map(|(name, _)| name.clone()).collect()
}

/// Whether maintenance keeps something on those nodes.
fn left_alone(state: &ClusterState, nodes: &[NodeNumber]) -> bool {
    let on = |node: &NodeNumber| nodes.is_empty() || nodes.contains(node);
    state.groups.iter().any(|(name, group)| {
        group.instances.keys().any(|node| on(node) && state.is_left_alone(name, *node))
    })
}

fn each(
    state: &ClusterState,
    nodes: &[NodeNumber],
    is: impl Fn(&vedette_core::event::Member) -> bool,
) -> bool {
    let members = &state.manager.members;
    if nodes.is_empty() {
        return members.values().all(is);
    }
    nodes.iter().all(|node| members.get(node).is_none_or(&is))
}

/// Waits until the state is so.
pub(crate) fn wait_for(
    context: &Context,
    limit: Duration,
    is: impl Fn(&ClusterState) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let state = context.state()?;
        if is(&state) {
            return Ok(());
        }
        let stuck = state.manager.current.as_ref().filter(|it| it.is_stuck());
        if let Some(running) = stuck.filter(|_| state.manager.next().is_none()) {
            return Err(Failure::refused(
                format!("event {} failed and waits for an operator", running.event.id),
                "See what failed: vedette recover show.",
            ));
        }
        if Instant::now() >= deadline {
            return Err(Failure::refused(
                format!("it is not done after {}; it goes on", length(limit)),
                "See how far it is: vedette event show.",
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Begins or ends maintenance.
pub(crate) fn maintenance(context: &Context, arguments: &MaintenanceArgs) -> Result<u8> {
    let on = arguments.state == "on";
    let (scope, what) = match (&arguments.node, &arguments.group) {
        (Some(name), _) => (Scope::Node(find(&context.state()?, name)?.number), clean(name)),
        (_, Some(name)) => (Scope::Group(name.clone()), clean(name)),
        _ => (Scope::Cluster, "The whole cluster".to_owned()),
    };
    let command = ManagerCommand::Maintenance { scope, on };
    let done = context.order(&Command::Manager(command))?;
    let word = if on { "in maintenance" } else { "not in maintenance any more" };
    context.done(&format!("{what} is {word}."), &done)
}

/// Carries out a command on an event that does not go on by itself.
pub(crate) fn recover(context: &Context, command: RecoverCommand) -> Result<u8> {
    let (action, event, confirm) = match command {
        RecoverCommand::Show(_) => return show_failed(context),
        RecoverCommand::Retry(it) => (RecoverAction::Retry, it.event, None),
        RecoverCommand::Skip(it) => (RecoverAction::Skip, it.event, Some(it.confirm)),
        RecoverCommand::Abort(it) => (RecoverAction::Abort, it.event, Some(it.confirm)),
    };
    go_on(context, action, event, confirm)
}

/// Has an event retried, skipped or aborted; the one that failed if none is named.
pub(super) fn go_on(
    context: &Context,
    action: RecoverAction,
    event: Option<u64>,
    confirm: Option<Confirm>,
) -> Result<u8> {
    let state = context.state()?;
    let failed: Vec<u64> = state.manager.failed().map(|running| running.event.id).collect();
    let event = match (event, failed.as_slice()) {
        (Some(event), _) => event,
        (None, [only]) => *only,
        (None, [_, _, ..]) => {
            let ids: Vec<String> = failed.iter().map(u64::to_string).collect();
            return Err(Failure::refused(
                format!("several events have failed ({}), and none is named", ids.join(", ")),
                "Name one: --event ID; see them: vedette recover show.",
            ));
        }
        (None, []) => return context.unchanged("no event has failed"),
    };
    let plan = match action {
        RecoverAction::Retry => format!("The failed commands of event {event} will run again."),
        RecoverAction::Skip => format!(
            "Event {event} will go on as if the failed commands had succeeded. Do by hand first \
             what they should have done."
        ),
        RecoverAction::Abort if !failed.contains(&event) => format!(
            "Event {event} will end where it stands, with its commands: what was not done is left undone."
        ),
        RecoverAction::Abort => format!(
            "Event {event} will end as failed, where it stands: what was not done is left undone."
        ),
    };
    let takes_effect =
        failed.contains(&event) || (action == RecoverAction::Abort && state.may_be_aborted(event));
    if let Some(confirm) = confirm.filter(|_| takes_effect) {
        confirm.ask(&plan, "Do it?")?;
    }
    if takes_effect {
        wait_for_room(context, event)?;
    }
    let done = context.order(&Command::Manager(ManagerCommand::Recover { event, action }))?;
    context.done(&plan, &done)
}

/// How long an order about an event that stepped aside waits for the one in progress.
const LONGEST_OTHER: Duration = Duration::from_secs(60);

/// Waits until no other event is in progress, as when two that failed are retried one after the other; for so long,
/// then the order is refused with what is in its way.
fn wait_for_room(context: &Context, event: u64) -> Result<()> {
    let deadline = Instant::now() + LONGEST_OTHER;
    let mut told = false;
    loop {
        let state = context.state()?;
        let current = state.manager.current.as_ref().filter(|it| it.event.id != event);
        let Some(other) = current.filter(|_| !state.manager.is_open()) else { return Ok(()) };
        if Instant::now() > deadline {
            return Ok(());
        }
        if !std::mem::replace(&mut told, true) {
            let label = clean(&state.event_label(&other.event));
            aside::progress(&format!("waiting until {label} is over"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show_failed(context: &Context) -> Result<u8> {
    let besides = if context.json() { Vec::new() } else { stuck_besides(&context.state()?) };
    let manager = context.show(MANAGER, |manager: &ManagerDoc| {
        let besides: String = besides.iter().map(|it| format!("  {it}\n")).collect();
        let heading = if besides.is_empty() { "" } else { "\nWhat waits for you besides:\n" };
        format!("{}{heading}{besides}", failed_screen(manager, context))
    })?;
    Ok(if failed_events(&manager).next().is_some() && !context.json() { FAILED } else { 0 })
}

/// What an operator is needed for though no command of an event failed there.
fn stuck_besides(state: &ClusterState) -> Vec<String> {
    let blocked = state.groups.iter().filter_map(|(name, group)| {
        let why = &group.blocked.as_ref()?.why;
        Some(clean(&format!("group {name} is blocked: {why}; {}", state.advice(name))))
    });
    let unreleased = state.manager.members.iter().flat_map(|(node, member)| {
        let node = state.node_name(*node);
        let show = format!("see vedette node show {node}");
        let guard = member.unreleased.guard.iter().map({
            let (node, show) = (node.clone(), show.clone());
            move |why| clean(&format!("{node} could not release what it had: {why}; {show}"))
        });
        let one = move |(group, why): (&String, &String)| {
            clean(&format!("{node} has not let go of {group}: {why}; {show}"))
        };
        guard.chain(member.unreleased.groups.iter().map(one)).collect::<Vec<_>>()
    });
    let takeovers = state.manager.takeovers.iter().flat_map(|(node, waiting)| {
        let node = state.node_name(*node);
        let groups = waiting.groups.iter();
        groups.map(move |(group, why)| clean(&format!("takeover of {group} from {node}: {why}")))
    });
    let left = state.groups.iter().flat_map(|(name, group)| {
        let nodes = group.instances.iter().filter(|(node, it)| {
            let host = state.nodes.get(node).map(|known| known.host);
            it.state == GroupState::Unmanaged && host == Some(HostStatus::Down)
        });
        nodes.map(move |(node, _)| {
            let what = "was left running, and whether it runs is not known";
            let then = state.make_certain(*node);
            clean(&format!("group {name} {what}; {then}"))
        })
    });
    let besides = state.groups.iter().flat_map(|(name, group)| {
        group.also.iter().filter_map(move |(node, seen)| {
            let (doubt, place) = (state.doubt(*node, seen)?, state.node_name(*node));
            let then = state.make_certain(*node);
            Some(clean(&format!("group {name} may also run on {place}: {doubt}; {then}")))
        })
    });
    blocked.chain(unreleased).chain(takeovers).chain(left).chain(besides).collect()
}

fn failed_events(manager: &ManagerDoc) -> impl Iterator<Item = &RunningDoc> {
    let begun = manager.in_progress.iter().chain(manager.set_aside.iter().flatten());
    begun.filter(|it| it.stage == Stage::Error)
}

fn failed_screen(manager: &ManagerDoc, context: &Context) -> String {
    let each = |running: &RunningDoc| {
        format!("{}{}", event::running(running, &context.now(), context.style), advice(running))
    };
    let failed: Vec<String> = failed_events(manager).map(each).collect();
    match &manager.in_progress {
        _ if !failed.is_empty() => failed.join("\n"),
        Some(running) => format!("No event has failed. In progress: {}.\n", clean(&running.what)),
        None if !manager.known => "Whether an event has failed is not known.\n".into(),
        None => "No event has failed.\n".into(),
    }
}

fn advice(running: &RunningDoc) -> String {
    let id = running.id;
    format!(
        "\nvedette recover retry --event {id}   run the failed commands again\n\
         vedette recover skip --event {id}    go on as if they had succeeded\n\
         vedette recover abort --event {id}   end the event as failed\n"
    )
}

/// How long a daemon may take to end after what ran there was handed over.
const LONGEST_END: Duration = Duration::from_secs(90);

/// Ends the daemon of this node, and waits until it has ended.
pub(crate) fn leave(context: &Context, arguments: &LeaveArgs) -> Result<u8> {
    let client = context.client()?;
    if context.is_without_daemon()? {
        return context.unchanged("the daemon of this node does not run");
    }
    client.get("/control/v1/local")?;
    let first = if arguments.now {
        "What runs here is stopped at once; others take it when it is certain that it is off"
    } else {
        "What runs here is handed over first"
    };
    let plan = format!(
        "The daemon of this node will say goodbye to the others and end. {first}. The node stays a \
         member."
    );
    arguments.confirm.ask(&plan, "End it?")?;
    client.post("/control/v1/leave", &Leave { now: arguments.now })?;
    let deadline = Instant::now() + LONGEST_END;
    while client.is_listened_to() {
        if Instant::now() > deadline {
            return Err(Failure::failed(
                format!("the daemon did not end within {}", length(LONGEST_END)),
                "Its log says what it waits for.",
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let message = "The daemon has ended.".to_owned();
    let document = DoneDoc::<()> { changed: true, index: None, message, more: None };
    context.render(&document, |document| format!("{}\n", document.message))
}

#[cfg(test)]
mod tests {
    use vedette_core::command::GroupCommand;
    use vedette_core::fixture::Fixture;

    use super::*;

    /// What is about the same thing as a failed event begins when that is continued, and that is said.
    #[test]
    fn what_waits_behind_a_failed_event_is_told() {
        let mut fixture = Fixture::with_groups();
        fixture.group(GroupCommand::Move {
            group: "db".into(),
            to: Some(NodeNumber(3)),
            until: None,
        });
        fixture.work();
        fixture.work();
        assert_eq!(behind(&fixture.state), "", "it runs, and has not failed");
        let event = fixture.state.manager.current.as_ref().unwrap().event.id;
        let node = NodeNumber(2);
        fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node });
        assert_eq!(behind(&fixture.state), "", "nobody waits for it");
        fixture.group(GroupCommand::Offline { group: "db".into() });
        assert_eq!(
            behind(&fixture.state),
            " That waits until event 4 group_move db, which failed, is continued: vedette recover show."
        );
    }
}
