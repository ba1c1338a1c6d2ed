//! The cluster manager: which event runs, how far it is and on whom it waits; what waits behind it;
//! and the manager of every node (spec H11 to H18).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::event::{CommandOutcome, Ended, Event, ManagerState, Running, Stage};
use vedette_core::id::NodeNumber;
use vedette_core::rules::NodeSet;
use vedette_core::state::ClusterState;
use vedette_core::takeover::Backing;
use vedette_core::time::WallTime;
use vedette_core::trigger::StopMode;
use vedette_core::view::View;

use super::Seen;
use super::known::if_known;

/// The cluster manager as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManagerDoc {
    /// Whether the answering node knows the present state. If not, everything that may be another by now
    /// is `null`: no list of it is empty.
    #[serde(default)]
    pub known: bool,
    /// Whether nothing is moved and nothing restarted in the whole cluster; `null` where that is not
    /// known.
    pub maintenance: Option<bool>,
    /// The event in progress; `null` if there is none, or where that is not known.
    pub in_progress: Option<RunningDoc>,
    /// Events that stepped aside for others, oldest first: they failed and wait for an operator (`stage` is
    /// `error`), or run on meanwhile. `null` where that is not known.
    #[serde(default)]
    pub set_aside: Option<Vec<RunningDoc>>,
    /// Events that wait, in the order in which they will be taken; `null` where that is not known.
    pub queue: Option<Vec<QueuedDoc>>,
    /// Events that ended lately, oldest first.
    pub recent: Vec<EndedDoc>,
    /// How many ended over the life of the cluster.
    pub ended: u64,
    /// The managers of the nodes.
    pub members: Vec<MemberDoc>,
    /// Nodes that are being fenced; `null` where that is not known.
    pub fencing: Option<Vec<FencingDoc>>,
    /// The version of the rules in force; 0 are the built-in ones.
    pub rules_version: u32,
    /// The version of the configuration document in force; 0 if there never was one.
    pub configuration_version: u32,
    /// A configuration document that is being verified; `null` if there is none, or where that is not
    /// known.
    pub pending_configuration: Option<PendingDoc>,
}

/// The manager of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberDoc {
    /// The node.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// `unknown`, `init`, `joining`, `stable`, `unstable`, `voting`, `rp_running`, `barrier`,
    /// `cbarrier`, `done` or `error`.
    #[schema(value_type = String, example = "stable")]
    pub state: ManagerState,
    /// Since when; `null` if there never was one.
    pub since: Option<String>,
    /// Whether it takes part in events; `null` where that is not known.
    pub joined: Option<bool>,
    /// How it was stopped, if an operator did: `graceful`, `takeover` or `forced`; `null` if none did, or
    /// where that is not known.
    #[schema(value_type = Option<String>)]
    pub stopped: Option<StopMode>,
    /// Whether nothing is moved from or to it, and nothing restarted on it; `null` where that is not
    /// known.
    pub maintenance: Option<bool>,
    /// What ends its ownership if its processes cannot act: `none`, `kernel` or `watchdog`; `null` where
    /// that is not known.
    #[schema(value_type = Option<String>, example = "kernel")]
    pub backing: Option<Backing>,
    /// Why the watchdog that is configured for it stands behind nothing; `null` if it does, if none is
    /// configured, or where that is not known.
    pub watchdog: Option<String>,
    /// Why nobody ends its processes if its guard and its agent are stopped together; `null` if a third process
    /// does, or where that is not known.
    pub reaper: Option<String>,
    /// What it could not let go of when its lease ended; nothing of that is placed there meanwhile.
    pub unreleased: UnreleasedDoc,
}

/// What a node could not let go of when its lease ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnreleasedDoc {
    /// Why its guard could not take everything away: the node gets no group before it has; `null` if it
    /// could, or where that is not known.
    pub guard: Option<String>,
    /// Groups that it is still stopping, and what keeps them: it does not get these before they are off.
    pub groups: BTreeMap<String, String>,
}

/// The event in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningDoc {
    /// Its id.
    pub id: u64,
    /// Its name, such as `node_down`.
    pub name: String,
    /// Its name and what it is about, such as `node_down n3`.
    pub what: String,
    /// Why it was queued.
    pub cause: String,
    /// The node on which it happened.
    pub node: Option<String>,
    /// The incident it belongs to.
    pub incident: u64,
    /// When it was taken from the queue.
    pub began: String,
    /// How long ago that was.
    pub age_ms: u64,
    /// Whether it runs longer than it should.
    pub too_long: bool,
    /// `voting`, `running` or `error`.
    #[schema(value_type = String, example = "running")]
    pub stage: Stage,
    /// When that stage began.
    pub stage_since: String,
    /// How far it is, in one sentence.
    pub progress: String,
    /// Its recovery program; empty while it is voted on.
    pub program: String,
    /// The phase that runs, counted from 1; 0 while it is voted on.
    pub step: usize,
    /// How many phases there are.
    pub steps: usize,
    /// How many times the phase was tried again.
    pub attempt: u32,
    /// Who takes part, and how far each is.
    pub participants: Vec<ParticipantDoc>,
    /// Its phases.
    pub phases: Vec<PhaseDoc>,
    /// What the groups do in it.
    pub moves: Vec<MoveDoc>,
    /// Groups that stay as they are, and why.
    pub stays: Vec<StayDoc>,
    /// Commands that ended in earlier phases.
    pub done: Vec<DoneDoc>,
    /// What becomes of it if a command fails: `wait` for an operator; `skip` or `abort`, if the
    /// configuration says so of this event.
    #[serde(default)]
    pub on_failure: String,
    /// How long it may run altogether, if the configuration says so.
    #[serde(default)]
    pub time_limit_ms: Option<u64>,
}

/// A node that takes part in an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParticipantDoc {
    /// The node.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// How far it is.
    pub stands: Standing,
    /// How its commands of this phase ended.
    pub commands: Vec<CommandDoc>,
}

/// How far a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has not approved the event yet.
    Asked,
    /// It approved the event.
    Approved,
    /// Its commands run.
    Running,
    /// It waits at the barrier.
    Arrived,
    /// A command failed on it.
    Failed,
}

impl Standing {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Arrived => "arrived",
            Self::Failed => "failed",
        }
    }
}

/// A phase of a recovery program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseDoc {
    /// Counted from 1.
    pub step: usize,
    /// `done`, `running`, `failed` or `waiting`.
    #[schema(example = "running")]
    pub state: String,
    /// What runs in it, in parallel.
    pub commands: Vec<PhaseCommandDoc>,
}

/// A command of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseCommandDoc {
    /// On whom: `all`, `event` or `other`.
    #[schema(value_type = String, example = "all")]
    pub nodes: NodeSet,
    /// The command line.
    pub command: String,
    /// The status that means success; `null` if every status does.
    pub expected: Option<i32>,
}

/// How a command ended on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandDoc {
    /// The command line.
    pub command: String,
    /// Whether its status was the expected one.
    pub expected: bool,
    /// How many times it was run.
    pub runs: u32,
    /// How the last run ended, in a few words.
    pub result: String,
    /// The first part of what it printed.
    pub output: String,
    /// Bytes that it printed besides, which were not kept.
    pub output_dropped: u64,
    /// How long the last run took.
    pub duration_ms: u64,
    /// Where all that it printed is kept, on the node that ran it: `vedette transcript show`.
    #[serde(default)]
    pub transcript: Option<String>,
}

/// A group that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveDoc {
    /// The group.
    pub group: String,
    /// Nodes that release it.
    pub release: Vec<String>,
    /// Nodes that acquire it.
    pub acquire: Vec<String>,
    /// Why.
    pub reason: String,
}

/// A group that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StayDoc {
    /// The group.
    pub group: String,
    /// Why.
    pub reason: String,
}

/// A command that ended in an earlier phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoneDoc {
    /// The phase, counted from 1.
    pub step: usize,
    /// The node.
    pub node: String,
    /// The command line.
    pub command: String,
    /// How it ended.
    pub result: String,
    /// How long it ran.
    pub duration_ms: u64,
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedDoc {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its name and what it is about.
    pub what: String,
    /// Why it was queued.
    pub cause: String,
    /// The node on which it happened.
    pub node: Option<String>,
    /// The incident it belongs to.
    pub incident: u64,
    /// When it was queued.
    pub at: String,
}

/// An event that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedDoc {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its name and what it is about.
    pub what: String,
    /// The incident it belongs to.
    pub incident: u64,
    /// How it ended.
    #[schema(example = "completed")]
    pub how: String,
    /// When it was taken from the queue.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// The time between.
    pub duration_ms: u64,
}

/// A node that is being fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FencingDoc {
    /// The node.
    pub node: String,
    /// Who calls the agent.
    pub by: String,
    /// Counts the calls.
    pub attempt: u32,
    /// When it was asked for.
    pub since: String,
    /// How the last call failed, if one did.
    pub failure: Option<String>,
}

/// A configuration document that is being verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingDoc {
    /// Log index of the proposal.
    pub id: u64,
    /// Who gave it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Nodes that have not answered yet.
    pub waiting_for: Vec<String>,
    /// What speaks against it, `node: finding`.
    pub findings: Vec<String>,
}

impl ManagerDoc {
    /// The cluster manager of a view.
    pub fn new(seen: Seen<'_>) -> Self {
        let state = &*seen.view.state;
        let manager = &state.manager;
        let knows = seen.view.local.knows();
        let running = |running: &Running| RunningDoc::new(state, running, seen.now);
        Self {
            known: knows,
            maintenance: knows.then_some(manager.maintenance),
            in_progress: manager.current.as_ref().filter(|_| knows).map(running),
            set_aside: knows.then(|| manager.aside.iter().map(running).collect()),
            queue: knows
                .then(|| manager.queue.iter().map(|event| QueuedDoc::new(state, event)).collect()),
            recent: manager.recent.iter().map(|ended| EndedDoc::new(state, ended)).collect(),
            ended: manager.ended,
            members: MemberDoc::all(seen.view),
            fencing: knows.then(|| fencing(state)),
            rules_version: state.rules.active,
            configuration_version: state.documents.active,
            pending_configuration: pending(state).filter(|_| knows),
        }
    }
}

impl MemberDoc {
    /// The manager of a node; `unknown` where there never was one.
    pub fn new(view: &View, number: NodeNumber) -> Self {
        let member = view.state.manager.members.get(&number);
        let known = member.filter(|_| view.local.knows());
        Self {
            node: view.state.node_name(number),
            number: number.0,
            state: member.map_or(ManagerState::Unknown, |member| member.state),
            since: member.map(|member| member.since.to_string()),
            joined: if_known(view, || member.is_some_and(|member| member.joined)),
            stopped: known.and_then(|member| member.stopped),
            maintenance: if_known(view, || member.is_some_and(|member| member.maintenance)),
            backing: if_known(view, || member.map_or(Backing::None, |member| member.backing)),
            watchdog: known.and_then(|member| member.watchdog.clone()),
            reaper: known.and_then(|member| member.reaper.clone()),
            unreleased: known.map_or_else(UnreleasedDoc::default, |member| UnreleasedDoc {
                guard: member.unreleased.guard.clone(),
                groups: member.unreleased.groups.clone(),
            }),
        }
    }

    /// The managers of all members, by number.
    pub fn all(view: &View) -> Vec<Self> {
        view.state.nodes.keys().map(|number| Self::new(view, *number)).collect()
    }
}

impl RunningDoc {
    /// The event in progress.
    pub fn new(state: &ClusterState, running: &Running, now: WallTime) -> Self {
        let event = &running.event;
        Self {
            id: event.id,
            name: event.trigger.name().into(),
            what: state.trigger_label(&event.trigger),
            cause: event.cause.clone(),
            node: event.trigger.node().map(|node| state.node_name(node)),
            incident: event.incident,
            began: running.began.to_string(),
            age_ms: millis_between(running.began, now),
            too_long: running.too_long,
            stage: running.stage,
            stage_since: running.since.to_string(),
            progress: progress(state, running),
            program: running.program.path.clone(),
            step: if running.stage == Stage::Voting { 0 } else { running.phase + 1 },
            steps: running.program.phases.len(),
            attempt: running.attempt,
            participants: participants(state, running),
            phases: phases(running),
            moves: moves(state, running),
            stays: stays(running),
            done: done(state, running),
            on_failure: state.on_failure(&event.trigger).name().into(),
            time_limit_ms: running.time_limit_ms,
        }
    }
}

impl QueuedDoc {
    fn new(state: &ClusterState, event: &Event) -> Self {
        Self {
            id: event.id,
            name: event.trigger.name().into(),
            what: state.trigger_label(&event.trigger),
            cause: event.cause.clone(),
            node: event.trigger.node().map(|node| state.node_name(node)),
            incident: event.incident,
            at: event.at.to_string(),
        }
    }
}

impl EndedDoc {
    fn new(state: &ClusterState, over: &Ended) -> Self {
        Self {
            id: over.event.id,
            name: over.event.trigger.name().into(),
            what: state.trigger_label(&over.event.trigger),
            incident: over.event.incident,
            how: over.how.clone(),
            began: over.began.to_string(),
            ended: over.ended.to_string(),
            duration_ms: millis_between(over.began, over.ended),
        }
    }
}

impl CommandDoc {
    fn new(outcome: &CommandOutcome) -> Self {
        Self {
            command: outcome.command.clone(),
            expected: outcome.expected,
            runs: outcome.runs,
            result: outcome.result(),
            output_dropped: outcome.outcome.output_dropped,
            output: outcome.outcome.output.clone(),
            duration_ms: outcome.outcome.duration_ms,
            transcript: outcome
                .outcome
                .transcript
                .as_ref()
                .and_then(|it| it.name())
                .map(Into::into),
        }
    }
}

/// How far an event is, and on whom it waits.
fn progress(state: &ClusterState, running: &Running) -> String {
    let names = |nodes: Vec<NodeNumber>| {
        nodes.into_iter().map(|node| state.node_name(node)).collect::<Vec<_>>().join(", ")
    };
    let missing = |there: &std::collections::BTreeSet<NodeNumber>| {
        names(running.participants.difference(there).copied().collect())
    };
    let phase = format!("phase {} of {}", running.phase + 1, running.program.phases.len());
    match running.stage {
        Stage::Voting => format!("voted on; waits for {}", missing(&running.approvals)),
        Stage::Running => format!("{phase}; waits for {}", missing(&running.arrived)),
        Stage::Error => {
            let failed = names(running.failed.iter().copied().collect());
            format!("{phase} failed on {failed}; waits for an operator")
        }
    }
}

fn participants(state: &ClusterState, running: &Running) -> Vec<ParticipantDoc> {
    let standing = |node: &NodeNumber| match running.stage {
        Stage::Voting if running.approvals.contains(node) => Standing::Approved,
        Stage::Voting => Standing::Asked,
        _ if running.failed.contains(node) => Standing::Failed,
        _ if running.arrived.contains(node) => Standing::Arrived,
        _ => Standing::Running,
    };
    let doc = |node: &NodeNumber| ParticipantDoc {
        node: state.node_name(*node),
        number: node.0,
        stands: standing(node),
        commands: running.outcomes.get(node).into_iter().flatten().map(CommandDoc::new).collect(),
    };
    running.participants.iter().map(doc).collect()
}

fn phases(running: &Running) -> Vec<PhaseDoc> {
    let state = |place: usize| match running.stage {
        _ if place < running.phase => "done",
        Stage::Error if place == running.phase => "failed",
        Stage::Running if place == running.phase => "running",
        _ => "waiting",
    };
    let doc = |(place, lines): (usize, &Vec<vedette_core::rules::ProgramLine>)| PhaseDoc {
        step: place + 1,
        state: state(place).into(),
        commands: lines
            .iter()
            .map(|line| PhaseCommandDoc {
                nodes: line.nodes,
                command: line.command.clone(),
                expected: line.expected,
            })
            .collect(),
    };
    running.program.phases.iter().enumerate().map(doc).collect()
}

fn moves(state: &ClusterState, running: &Running) -> Vec<MoveDoc> {
    let names =
        |nodes: &[NodeNumber]| nodes.iter().map(|node| state.node_name(*node)).collect::<Vec<_>>();
    let doc = |planned: &vedette_core::plan::Move| MoveDoc {
        group: planned.group.clone(),
        release: names(&planned.release),
        acquire: names(&planned.acquire),
        reason: planned.reason.clone(),
    };
    running.plan.moves.iter().map(doc).collect()
}

fn stays(running: &Running) -> Vec<StayDoc> {
    let stays = running.plan.stays.iter();
    stays.map(|stay| StayDoc { group: stay.group.clone(), reason: stay.reason.clone() }).collect()
}

fn done(state: &ClusterState, running: &Running) -> Vec<DoneDoc> {
    let doc = |step: &vedette_core::event::Step| DoneDoc {
        step: step.phase + 1,
        node: state.node_name(step.node),
        command: step.command.clone(),
        result: step.result.clone(),
        duration_ms: step.duration_ms,
    };
    running.steps.iter().map(doc).collect()
}

fn fencing(state: &ClusterState) -> Vec<FencingDoc> {
    let doc = |(node, fencing): (&NodeNumber, &vedette_core::event::Fencing)| FencingDoc {
        node: state.node_name(*node),
        by: state.node_name(fencing.by),
        attempt: fencing.attempt,
        since: fencing.since.to_string(),
        failure: fencing.failure.clone(),
    };
    state.manager.fencing.iter().map(doc).collect()
}

fn pending(state: &ClusterState) -> Option<PendingDoc> {
    let pending = state.documents.pending.as_ref()?;
    let silent = pending.asked.iter().filter(|node| !pending.findings.contains_key(node));
    let findings = pending.findings.iter().flat_map(|(node, list)| {
        list.iter().map(|finding| format!("{}: {finding}", state.node_name(*node)))
    });
    Some(PendingDoc {
        id: pending.id,
        author: pending.version.author.clone(),
        comment: pending.version.comment.clone(),
        waiting_for: silent.map(|node| state.node_name(*node)).collect(),
        findings: findings.collect(),
    })
}

/// Everything that is in maintenance, a sentence each without full stop.
pub(super) fn maintenance(state: &ClusterState) -> Vec<String> {
    let cluster = state.manager.maintenance.then(|| format!("the cluster {}", state.name));
    let nodes = state.manager.members.iter().filter(|(_, member)| member.maintenance);
    let groups = state.groups.iter().filter(|(_, group)| group.maintenance);
    cluster
        .into_iter()
        .chain(nodes.map(|(node, _)| format!("node {}", state.node_name(*node))))
        .chain(groups.map(|(name, _)| format!("group {name}")))
        .map(|what| format!("{what} is in maintenance: nothing is moved or restarted there"))
        .collect()
}

/// Clocks of two nodes may differ: what ends before it began took no time.
fn millis_between(from: WallTime, to: WallTime) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0) / 1_000).unwrap_or(0)
}
