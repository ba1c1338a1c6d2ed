//! `vedette group`: resource groups, where they are, and what an operator can do about that (spec H24
//! to H28).

use std::time::Duration;

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vedette_collector::clinfo::plan::{PlanDoc, holders};
use vedette_collector::clinfo::told::GroupAfterDoc;
use vedette_collector::clinfo::{FailCountDoc, GroupDoc, InstanceDoc, ResourceStateDoc};
use vedette_core::command::{Command, GroupCommand, ManagerCommand, Scope};
use vedette_core::document::duration_text;
use vedette_core::group::{GroupState, Policy, ResourceState, Until};
use vedette_core::id::NodeNumber;
use vedette_core::placement::{WhatIf, what_if};
use vedette_core::plan::Plan;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;

use super::ask::{AsksNothing, Confirm, duration};
use super::complete;
use super::context::Context;
use super::fail::{Failure, REFUSED, Result};
use super::follow::{self, Await, Goal};
use super::manage;
use super::node::{find, segment};
use super::text::{Cell, Style, Table, age, clean, clock, wrap};

const PATH: &str = "/api/v1/groups";

/// `vedette group`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette group list\n  \
    vedette group show web\n  \
    vedette group plan --what-if n2=down\n  \
    vedette group move web --to n2")]
pub(crate) enum GroupCommandLine {
    /// List the groups and where they are
    List(ListArgs),
    /// Show one group with its resources and failures
    Show(ShowArgs),
    /// Say where every group would go, and why; changes nothing
    Plan(PlanArgs),
    /// Move a group to another node
    Move(MoveArgs),
    /// Bring a group online that was taken offline
    Online(OnlineArgs),
    /// Take a group offline until it is brought online again
    Offline(OfflineArgs),
    /// Clear failures, avoided nodes and blocks of a group
    Clear(ClearArgs),
    /// Begin or end maintenance of a group: nothing is moved and nothing restarted
    Maintenance(MaintenanceArgs),
}

/// `vedette group list`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1 if a group is neither ONLINE nor wanted OFFLINE, 3 if this node\n\
    does not know.\n\n\
    Examples:\n  vedette group list\n  vedette group list -o json | jq -r '.[].owner'"
)]
pub(crate) struct ListArgs {}

/// `vedette group show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vedette group show web\n  vedette group show web -o json")]
pub(crate) struct ShowArgs {
    /// Its name or number
    #[arg(add = complete::groups())]
    group: String,
}

/// `vedette group plan`
#[derive(Debug, Args)]
#[command(after_help = "Without --what-if it says what would be done as things are.\n\n\
    Examples:\n  \
    vedette group plan\n  \
    vedette group plan --what-if n2=down\n  \
    vedette group plan --what-if n2=down --what-if n3=up")]
pub(crate) struct PlanArgs {
    /// Suppose that a node is down, up, or stopped: n2=down, n2=up, n2=stop
    #[arg(long = "what-if", value_name = "NODE=STATE")]
    what_if: Vec<String>,
}

/// `vedette group move`
#[derive(Debug, Args)]
#[command(
    after_help = "It stays there as long as that node is there. A cascading group goes home again after\n\
    --until; without it, when it is moved home. The service is away meanwhile, so it asks.\n\n\
    Exit status: 0 it is there, 1 it is elsewhere or waits, 2 it is nowhere, 3 not done in time.\n\n\
    Examples:\n  \
    vedette group move web --to n2\n  \
    vedette group move web --to n2 --until 2h\n  \
    vedette group move web --yes --timeout 10m\n  \
    vedette group move web --yes --no-wait"
)]
pub(crate) struct MoveArgs {
    /// The group
    #[arg(add = complete::groups())]
    group: String,
    /// The node [default: the best one but the present]
    #[arg(long, value_name = "NODE", add = complete::nodes())]
    to: Option<String>,
    /// When it need not stay there any more: after a while such as 2h, at a time such as
    /// 2026-11-22T18:00:00Z, or "home": when its first node joins again [default: once it is home]
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<End>,
    #[command(flatten)]
    wait: Await,
    #[command(flatten)]
    confirm: Confirm,
}

/// An end, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Home,
    After(Duration),
    At(WallTime),
}

impl End {
    fn on(self, now: WallTime) -> Until {
        match self {
            Self::Home => Until::Home,
            Self::After(time) => Until::At(now.plus(time)),
            Self::At(at) => Until::At(at),
        }
    }
}

fn until(text: &str) -> std::result::Result<End, String> {
    if text == "home" {
        return Ok(End::Home);
    }
    if let Ok(time) = duration(text) {
        return Ok(End::After(time));
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        "write home, a time from now such as 2h, or a time such as 2026-11-22T18:00:00Z".to_owned()
    })?;
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).map_err(|_| "too far away")?;
    Ok(End::At(WallTime(micros)))
}

/// `vedette group online`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 it is online, 1 it waits, 2 it is not, 3 not done in time.\n\n\
    Examples:\n  vedette group online web\n  vedette group online web --no-wait"
)]
pub(crate) struct OnlineArgs {
    /// The group
    #[arg(add = complete::groups())]
    group: String,
    #[command(flatten)]
    wait: Await,
    #[command(flatten)]
    _confirm: AsksNothing,
}

/// `vedette group offline`
#[derive(Debug, Args)]
#[command(after_help = "The preference of an earlier move ends with it.\n\n\
    Exit status: 0 it is off, 1 it waits, 2 it could not be released, 3 not done in \
    time.\n\n\
    Examples:\n  vedette group offline web\n  vedette group offline web --yes")]
pub(crate) struct OfflineArgs {
    /// The group
    #[arg(add = complete::groups())]
    group: String,
    #[command(flatten)]
    wait: Await,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette group clear`
#[derive(Debug, Args)]
#[command(
    after_help = "Failures are forgotten, nodes that are avoided may have the group again, and its node \
    releases again what it could not release. Nothing is stopped by force: repair first what stands \
    in the way. In an event that failed, the release is done again by vedette recover retry.\n\n\
    Examples:\n  vedette group clear web\n  vedette group clear web --node n2"
)]
pub(crate) struct ClearArgs {
    /// The group
    #[arg(add = complete::groups())]
    group: String,
    /// Only on this node
    #[arg(long, value_name = "NODE", add = complete::nodes())]
    node: Option<String>,
}

/// `vedette group maintenance`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette group maintenance web on\n  \
    vedette group maintenance web off")]
pub(crate) struct MaintenanceArgs {
    /// The group
    #[arg(add = complete::groups())]
    group: String,
    /// on or off
    #[arg(value_parser = ["on", "off"])]
    state: String,
}

/// Carries out a command on groups.
pub(crate) fn run(context: &Context, command: GroupCommandLine) -> Result<u8> {
    use GroupCommandLine as Line;
    match command {
        Line::List(_) => list(context),
        Line::Show(arguments) => show(context, &arguments.group),
        Line::Plan(arguments) => plan(context, &arguments),
        Line::Move(arguments) => move_to(context, &arguments),
        Line::Online(OnlineArgs { group, wait, .. }) => {
            let command = GroupCommand::Online { group: group.clone() };
            order(context, (&group, "shall be online"), command, Goal::On(None), wait)
        }
        Line::Offline(arguments) => offline(context, &arguments),
        Line::Clear(arguments) => clear(context, &arguments),
        Line::Maintenance(arguments) => {
            let on = arguments.state == "on";
            let scope = Scope::Group(arguments.group.clone());
            let done =
                context.order(&Command::Manager(ManagerCommand::Maintenance { scope, on }))?;
            let word = if on { "in maintenance" } else { "not in maintenance any more" };
            context.done(&format!("{} is {word}.", clean(&arguments.group)), &done)
        }
    }
}

fn list(context: &Context) -> Result<u8> {
    let groups = context
        .show(PATH, |groups: &Vec<GroupDoc>| list_screen(groups, &context.now(), context.style))?;
    let fine = groups.iter().all(|group| {
        group.state == GroupState::Online
            || (group.wanted_offline == Some(true) && group.state == GroupState::Offline)
    });
    Ok(if fine || context.json() { 0 } else { REFUSED })
}

/// All groups, and what is to be known of them.
pub(crate) fn list_screen(groups: &[GroupDoc], now: &str, style: Style) -> String {
    if groups.is_empty() {
        return "No groups are configured. Write them down: vedette config edit.\n".into();
    }
    let mut text = table(groups, now).render(style, 0);
    for group in groups {
        for note in notes(group, now) {
            let note = wrap(&format!("{}: {note}", clean(&group.name)), style.width - 2, 2);
            text.push_str(&format!("! {note}\n"));
        }
    }
    text
}

/// One line a group.
pub(crate) fn table(groups: &[GroupDoc], now: &str) -> Table {
    if !groups.iter().all(is_known) {
        return unknown_table(groups, now);
    }
    let mut table = Table::new(&["GROUP", "STATE", "ON", "POLICY", "NODES", "SINCE", "FAILS"]);
    for group in groups {
        let owners = if group.owners.is_empty() { "-".into() } else { group.owners.join(" ") };
        let fails: u32 = group.fails.iter().flatten().map(|fail| fail.count).sum();
        table.row(vec![
            (&group.name).into(),
            Cell::status(group.state),
            owners.into(),
            group.policy.map_or("leaving".into(), |policy| policy.to_string()).into(),
            group.nodes.join(" ").into(),
            age(&group.since, now).into(),
            fails.into(),
        ]);
    }
    table
}

/// Whether what the cluster decided about a group is known: all of that is, or nothing.
fn is_known(group: &GroupDoc) -> bool {
    group.maintenance.is_some()
}

/// Groups of which the present state is not known, with what was known last.
fn unknown_table(groups: &[GroupDoc], now: &str) -> Table {
    let mut table = Table::new(&["GROUP", "STATE", "ON", "LAST KNOWN", "POLICY", "NODES"]);
    for group in groups {
        table.row(vec![
            (&group.name).into(),
            Cell::status(group.state),
            none_or(&group.owners.join(" ")).into(),
            last_known(group, now).unwrap_or("-".into()).into(),
            group.policy.map_or("leaving".into(), |policy| policy.to_string()).into(),
            group.nodes.join(" ").into(),
        ]);
    }
    table
}

/// `ONLINE on n2 at 13:00:01Z`.
fn last_known(group: &GroupDoc, now: &str) -> Option<String> {
    let last = group.last_known.as_ref()?;
    let owner = last.owner.as_ref().map(|owner| format!(" on {owner}")).unwrap_or_default();
    Some(format!("{}{owner} at {}", last.state, clock(&last.as_of, now)))
}

/// What an operator should not miss.
pub(crate) fn notes(group: &GroupDoc, now: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if group.maintenance == Some(true) {
        notes.push("MAINTENANCE: nothing is moved and nothing restarted".to_owned());
    }
    if group.state == GroupState::Unmanaged {
        notes.push(
            "UNMANAGED: it was left running without its manager, and nobody watches it".into(),
        );
    }
    for instance in
        group.instances.iter().filter(|it| !it.covered && group.state == GroupState::Unknown)
    {
        notes.push(format!(
            "LEFT RUNNING ON {}: its silence says nothing; if that is certainly off: vedette node confirm-off {} --i-am-certain",
            instance.node, instance.node
        ));
    }
    for also in group.also_on.iter().flatten() {
        let (resources, then) = (also.resources.join(", "), clean(&also.then));
        let what = match &also.doubt {
            Some(doubt) => format!("MAY ALSO RUN ON {} ({resources}): {}", also.node, clean(doubt)),
            None => format!("ALSO RUNS ON {} ({resources}), where it should not", also.node),
        };
        notes.push(format!("{what}; {then}"));
    }
    if let Some(since) = &group.flapping {
        let since = clock(since, now);
        notes.push(format!("FLAPPING since {since}: its failures alert nobody until it is steady"));
    }
    if let Some(back) = &group.goes_back {
        notes.push(format!("will move back to {} at {}", back.node, clock(&back.at, now)));
    }
    if let Some(blocked) = &group.blocked {
        let place = blocked.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        // Who found it may have said already what to do.
        let said = blocked.then.as_ref().is_some_and(|then| blocked.why.ends_with(then));
        let advice = if said { String::new() } else { format!("; {}", blocked.advice) };
        notes.push(format!("blocked{place}: {}{advice}", blocked.why));
    }
    for instance in &group.instances {
        for resource in &instance.resources {
            // Of a group that is ONLINE as a whole, what is not: it failed, or is started again in place.
            let works = matches!(resource.state, ResourceState::Online | ResourceState::Unknown);
            if !works && instance.state == GroupState::Online {
                let why = resource.detail.trim_end_matches('.');
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                let (name, state) = (&resource.name, resource.state);
                notes.push(format!("{name} is {state} on {}{why}", instance.node));
            }
            let Some(seen) = resource.tolerated.as_ref().filter(|seen| seen.count > 0) else {
                continue;
            };
            let (name, node, why) = (&resource.name, &instance.node, &seen.why);
            let so_far = format!("{} of {}", seen.count, seen.limit);
            notes.push(format!("{name} on {node} is in doubt, {so_far} failures in a row: {why}"));
        }
    }
    if let Some(what) = &group.waits_for {
        notes.push(format!("waits for {what}"));
    }
    if let Some(node) = &group.held_for {
        notes.push(format!("waits for {node}, which was stopped without takeover"));
    }
    if let Some(why) = &group.stopped_for {
        notes.push(format!(
            "stopped: {why}; once that is mended: vedette group online {}",
            group.name
        ));
    }
    if group.wanted_offline == Some(true) {
        notes.push(format!("an operator wants it offline; vedette group online {}", group.name));
    }
    let avoid = group.avoid.as_deref().unwrap_or_default();
    if !avoid.is_empty() {
        let with_reason = |node: &String| {
            let why = group.avoided.iter().flatten().find(|it| it.node == *node);
            why.map_or(node.clone(), |it| format!("{node} ({})", it.why))
        };
        let nodes: Vec<String> = avoid.iter().map(with_reason).collect();
        notes.push(format!("avoids {} until failures are cleared", nodes.join(", ")));
    }
    notes
}

fn show(context: &Context, group: &str) -> Result<u8> {
    let path = format!("{PATH}/{}", segment(group));
    context.show(&path, |group: &GroupDoc| screen(group, &context.now(), context.style))?;
    Ok(0)
}

/// One group.
pub(crate) fn screen(group: &GroupDoc, now: &str, style: Style) -> String {
    let mut facts = Table::new(&["GROUP", &clean(&group.name)]);
    let mut fact = |name: &str, value: Cell| facts.row(vec![name.into(), value]);
    fact("number", group.number.into());
    fact("state", Cell::status(group.state));
    fact("  since", format!("{}, {} ago", clock(&group.since, now), age(&group.since, now)).into());
    if let Some(last) = last_known(group, now) {
        fact("last known", last.into());
    }
    fact("on", none_or(&group.owners.join(" ")).into());
    let policy = group.policy.map_or("on its way out".into(), |policy| policy.to_string());
    let cascading = group.policy == Some(Policy::Cascading);
    let fallback = if cascading && group.fallback { goes_home(group) } else { String::new() };
    fact("policy", format!("{policy}{fallback}").into());
    fact("nodes", none_or(&group.nodes.join(" ")).into());
    let standbys = group.standbys.as_ref().map_or("not known".into(), |nodes| nodes.join(" "));
    fact("could take it", none_or(&standbys).into());
    let nobody = if is_known(group) { "-" } else { "not known" };
    fact("preferred", preferred(group, nobody, now).into());
    fact("failovers", group.failovers.into());
    let mut text = facts.render(style, 0);
    for note in notes(group, now) {
        text.push_str(&format!("! {}\n", wrap(&note, style.width - 2, 2)));
    }
    text.push('\n');
    text.push_str(&resources(group).render(style, 0));
    for instance in &group.instances {
        text.push('\n');
        text.push_str(&on_node(instance, now).render(style, 0));
    }
    let failed = group.fails.as_deref().unwrap_or_default();
    if !failed.is_empty() {
        text.push('\n');
        text.push_str(&fails(failed, now).render(style, 0));
    }
    text
}

/// When a group goes back home.
fn goes_home(group: &GroupDoc) -> String {
    let delay = match group.fallback_delay_ms {
        0 => String::new(),
        ms => format!(" {} after that is back", duration_text(ms)),
    };
    let window = group.fallback_window.as_ref();
    let window = window.map(|it| format!(" between {} UTC", it.replace('-', " and ")));
    format!(", goes back home{delay}{}", window.unwrap_or_default())
}

/// Where an operator moved a group, and until when it stays there.
fn preferred(group: &GroupDoc, nobody: &str, now: &str) -> String {
    let Some(node) = &group.preferred else { return nobody.into() };
    match group.preferred_until.as_deref() {
        None => node.clone(),
        Some("home") => format!("{node}, until its home is back"),
        Some(at) => format!("{node}, until {}", clock(at, now)),
    }
}

fn none_or(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn resources(group: &GroupDoc) -> Table {
    let mut table = Table::new(&["RESOURCE", "KIND", "WHAT"]);
    for resource in &group.resources {
        table.row(vec![(&resource.name).into(), (&resource.kind).into(), (&resource.what).into()]);
    }
    table
}

fn on_node(instance: &InstanceDoc, now: &str) -> Table {
    let heading = format!("ON {}", clean(&instance.node));
    let mut table = Table::new(&[&heading, "STATE", "SINCE", "DETAIL"]);
    for resource in &instance.resources {
        table.row(vec![
            (&resource.name).into(),
            Cell::status(resource.state),
            clock(&resource.since, now).into(),
            with_tolerated(resource).into(),
        ]);
    }
    table
}

/// What is to be said of a resource, with the failure that is tolerated now.
fn with_tolerated(resource: &ResourceStateDoc) -> String {
    match resource.tolerated.as_ref().filter(|seen| seen.count > 0) {
        Some(seen) => {
            format!("tolerated, {} of {} in a row: {}", seen.count, seen.limit, seen.why)
        }
        None => resource.detail.clone(),
    }
}

fn fails(fails: &[FailCountDoc], now: &str) -> Table {
    let heads = ["FAILED", "ON", "TIMES", "LEFT", "LAST", "FORGOTTEN", "WHY"];
    let mut table = Table::new(&heads).wrapping();
    for fail in fails {
        table.row(vec![
            (&fail.resource).into(),
            (&fail.node).into(),
            fail.count.into(),
            fail.restarts_left.into(),
            clock(&fail.last, now).into(),
            fail.ends.as_ref().map_or("when cleared".into(), |at| clock(at, now)).into(),
            (&fail.why).into(),
        ]);
    }
    table
}

fn plan(context: &Context, arguments: &PlanArgs) -> Result<u8> {
    let state = context.present_state()?;
    let supposed = supposed(&state, &arguments.what_if)?;
    let plan = what_if(&state, &supposed);
    let document = PlanDoc::new(&state, &plan, &arguments.what_if);
    context.render(&document, |_| plan_screen(&state, &plan, context.style))
}

/// `n2=down n3=up` as what is supposed.
fn supposed(state: &ClusterState, words: &[String]) -> Result<WhatIf> {
    let mut supposed = WhatIf::default();
    for word in words {
        let (name, what) = word.split_once('=').unwrap_or((word, ""));
        let node = find(state, name)?.number;
        match what {
            "down" => supposed.down.push(node),
            "up" => supposed.up.push(node),
            "stop" => supposed.stop.push((node, vedette_core::trigger::StopMode::Takeover)),
            _ => {
                return Err(Failure::refused(
                    format!("{} says nothing that can be supposed of a node", clean(word)),
                    "Write node=down, node=up or node=stop, such as --what-if n2=down.",
                ));
            }
        }
    }
    Ok(supposed)
}

/// What would be done, and why.
pub(crate) fn plan_screen(state: &ClusterState, plan: &Plan, style: Style) -> String {
    if plan.moves.is_empty() && plan.stays.is_empty() {
        return "Every group would stay where it is.\n".into();
    }
    let or_dash = |names: Vec<String>| none_or(&names.join(" ")).to_owned();
    let names =
        |nodes: &[NodeNumber]| or_dash(nodes.iter().map(|node| state.node_name(*node)).collect());
    let from = |group: &str| or_dash(holders(state, group));
    let mut table = Table::new(&["GROUP", "FROM", "TO", "BECAUSE"]).wrapping();
    for it in &plan.moves {
        let (from, to) = (from(&it.group), names(&it.acquire));
        table.row(vec![(&it.group).into(), from.into(), to.into(), (&it.reason).into()]);
    }
    for it in &plan.stays {
        let from = from(&it.group);
        table.row(vec![(&it.group).into(), from.into(), "stays".into(), (&it.reason).into()]);
    }
    let said = |name: &str| {
        plan.moves.iter().any(|it| it.group == name) || plan.stays.iter().any(|it| it.group == name)
    };
    for name in state.groups.keys().filter(|name| !said(name)) {
        table.row(vec![name.into(), from(name).into(), "stays".into(), "nothing changes".into()]);
    }
    table.render(style, 0)
}

fn move_to(context: &Context, arguments: &MoveArgs) -> Result<u8> {
    let state = context.state()?;
    let to = match &arguments.to {
        Some(name) => Some(find(&state, name)?.number),
        None => None,
    };
    let whereto = arguments.to.as_deref().map(|to| format!(" to {}", clean(to)));
    let until = arguments.until.map(|end| end.on(shown_now(context)));
    let end = match until {
        None => String::new(),
        Some(Until::Home) => " until its home is back".into(),
        Some(Until::At(at)) => format!(" until {}", clock(&at.to_string(), &context.now())),
    };
    let group = arguments.group.clone();
    let whereto = whereto.unwrap_or_default();
    if goes_away(&state, &group, to) {
        let plan = plan_of_move(&state, &group, &format!("{whereto}{end}"));
        arguments.confirm.ask(&plan, "Move it?")?;
    }
    let said = format!("moves{whereto}{end}");
    let command = GroupCommand::Move { group, to, until };
    order(context, (&arguments.group, &said), command, Goal::On(to), arguments.wait)
}

/// Whether a move takes a service away: not from a node where it is already, and nobody is asked then.
fn goes_away(state: &ClusterState, name: &str, to: Option<NodeNumber>) -> bool {
    let group = state.groups.get(name);
    group.is_some_and(|group| to.is_none() || group.owner() != to)
}

/// What a move does to those who use the group.
fn plan_of_move(state: &ClusterState, name: &str, whereto: &str) -> String {
    let from = holders(state, name);
    let from = if from.is_empty() { String::new() } else { format!(" on {}", from.join(", ")) };
    format!(
        "{} will be released{from} and moves{whereto}; meanwhile it is out of service.",
        clean(name)
    )
}

/// The time by which an end is counted: that of the node that answered, as all that an operator sees.
fn shown_now(context: &Context) -> WallTime {
    let shown = OffsetDateTime::parse(&context.now(), &Rfc3339);
    let now = shown.unwrap_or_else(|_| OffsetDateTime::now_utc());
    WallTime(i64::try_from(now.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
}

fn offline(context: &Context, arguments: &OfflineArgs) -> Result<u8> {
    let name = clean(&arguments.group);
    let state = context.state()?;
    if state.groups.get(&arguments.group).is_some_and(|group| !group.is_wanted_off()) {
        let plan = format!(
            "{name} will be released where it is, and stays off until somebody brings it online:\n\
             vedette group online {name}"
        );
        arguments.confirm.ask(&plan, "Take it offline?")?;
    }
    let command = GroupCommand::Offline { group: arguments.group.clone() };
    order(context, (&arguments.group, "shall be offline"), command, Goal::Off, arguments.wait)
}

fn clear(context: &Context, arguments: &ClearArgs) -> Result<u8> {
    let state = context.state()?;
    let node = match &arguments.node {
        Some(name) => Some(find(&state, name)?.number),
        None => None,
    };
    let said = format!(
        "Failures of {} are cleared{}.",
        clean(&arguments.group),
        what_follows(&state, &arguments.group)
    );
    let command = GroupCommand::Clear { group: arguments.group.clone(), node };
    context.done(&said, &context.order(&Command::Group(command))?)
}

/// What becomes of a group that could not be released once its failures are cleared.
fn what_follows(state: &ClusterState, name: &str) -> String {
    let Some(group) = state.groups.get(name) else { return String::new() };
    let stuck = group.instances.iter().find(|(_, it)| it.state == GroupState::Error);
    let Some((node, _)) = stuck else { return String::new() };
    match state.manager.begun().find(|running| running.plans(name, *node)) {
        Some(running) => format!(
            "; it is released again when event {} goes on: vedette recover retry",
            running.event.id
        ),
        None => format!(", and {} releases it again", clean(&state.node_name(*node))),
    }
}

/// Gives an order about where a group runs, and waits for what becomes of it.
fn order(
    context: &Context,
    (group, said): (&str, &str),
    command: GroupCommand,
    goal: Goal,
    wait: Await,
) -> Result<u8> {
    let done = context.order(&Command::Group(command))?;
    if wait.no_wait {
        let held_up = manage::held_up(context)?;
        return context.done(&format!("{} {said}.{held_up}", clean(group)), &done);
    }
    let sentence = follow::outcome(context, group, goal, done.index(), wait.timeout)?;
    let state = context.state()?;
    let is = state.groups.get(group).map(|group| group.state().to_string());
    let more = GroupAfterDoc { group: group.to_owned(), on: holders(&state, group), state: is };
    context.done_with(&format!("{sentence}."), &done, Some(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_while_a_time_or_home() {
        let noon = WallTime(1_795_348_800_000_000);
        let two_hours = Duration::from_secs(7_200);
        assert_eq!(until("home").map(|end| end.on(noon)), Ok(Until::Home));
        assert_eq!(until("2h").map(|end| end.on(noon)), Ok(Until::At(noon.plus(two_hours))));
        for at in ["2026-11-22T14:00:00Z", "2026-11-22T15:00:00+01:00"] {
            let end = Until::At(noon.plus(two_hours));
            assert_eq!(until(at).map(|end| end.on(noon)), Ok(end), "{at}");
        }
        for bad in ["", "2", "tomorrow", "2026-11-22", "-2h"] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }
}
