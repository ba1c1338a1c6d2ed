//! The wiring of the agent: each part with what it needs of this node and of other parts.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;
use vedette_collector::history::{History, SetAside};
use vedette_core::command::Proposal;
use vedette_core::id::Session;
use vedette_node::identity::FORM;
use vedette_node::log::{self, Log, LogConfig};
use vedette_node::peers::Peers;

use crate::logging::LevelHandle;

use super::local_log::{LocalLog, Past};
use super::proposer::Proposer;
use super::publisher::Publisher;
use super::{
    NodeContext, alerts, backfill, executor, for_operator, local_log, proposer, runner, surfaces,
    transport,
};

/// The history, in the state directory.
const HISTORY: &str = "history.db";

/// The log, in the state directory.
const CLUSTER_DB: &str = "cluster.db";

/// What resources keep over a restart of the machine, in the state directory.
const RESOURCES: &str = "resources";

/// What they need not keep.
const RUN: &str = "run";

/// Where the built-in alert script appends, in the state directory's own folder for it.
const ALERT_LOG: &str = "alert.log";

/// Opens the history. A damaged one is set aside if other members have its records.
pub(super) async fn open_history(context: &NodeContext) -> Result<(History, Option<SetAside>)> {
    let path = context.dir.path().join(HISTORY);
    if context.peer_set.members.len() < 2 {
        let opened = tokio::task::spawn_blocking(move || for_operator(History::open(path)));
        return Ok((opened.await??, None));
    }
    // What was notified was in the history: it is told nobody again.
    let told = surfaces::notified(&context.config);
    let (history, set_aside) = tokio::task::spawn_blocking(move || {
        for_operator(History::open_or_set_aside(path, proposer::wall_time(), told))
    })
    .await??;
    if let Some(set_aside) = &set_aside {
        surfaces::notify_after(&context.config, set_aside.last);
        tracing::error!("{set_aside}");
    }
    Ok((history, set_aside))
}

pub(super) async fn open_log(
    context: &NodeContext,
    peers: &Peers,
    publisher: &Arc<Publisher>,
) -> Result<Log> {
    let identity = &context.member.identity;
    let path = context.dir.path().join(CLUSTER_DB);
    // A log that was there once must be there: only a node that was just made may begin one.
    let made = context.dir.path().join("log.made");
    let create = !made.exists();
    let config = LogConfig {
        path,
        identity: log::Identity {
            cluster: identity.cluster,
            raft_id: identity.raft_id,
            storage: identity.storage,
        },
        timing: context.peer_set.settings.timing,
        create,
    };
    let transport =
        Arc::new(transport::OverPeers { peers: peers.clone(), publisher: publisher.clone() });
    let log = for_operator(Log::open(config, transport, publisher.clone()).await)?;
    if create {
        std::fs::write(&made, "").context("the state directory cannot be written")?;
    }
    Ok(log)
}

/// The first member forms the cluster when its daemon starts for the first time.
pub(super) async fn form_if_new(context: &NodeContext, log: &Log) -> Result<()> {
    let Some(form) = context.dir.document::<Proposal>(FORM)? else { return Ok(()) };
    match log.form(form).await {
        Ok(_) | Err(log::FormError::AlreadyFormed) => {}
        Err(error) => bail!("the cluster cannot be formed: {error}"),
    }
    Ok(())
}

/// Starts what tells of this node itself.
pub(super) fn start_local(
    context: &NodeContext,
    local: &LocalLog,
    proposer: &Proposer,
    start: (Option<Past>, Session),
) {
    let (past, guard) = start;
    local.started(past, guard);
    let disk = local_log::Disk { state_dir: context.dir.path().to_owned() };
    tokio::spawn(local_log::follow(local.clone(), disk));
    tokio::spawn(local_log::account(local.clone(), proposer.clone()));
    tokio::spawn(local_log::Runner(alert_script(context, local)).run(local.clone()));
}

pub(super) fn start_workers(
    context: &NodeContext,
    local: &LocalLog,
    (proposer, publisher): (&Proposer, &Arc<Publisher>),
    peers: &Peers,
    level: LevelHandle,
) {
    let me = context.member.identity.number;
    tokio::spawn(backfill::run(me, publisher.clone(), peers.clone()));
    tokio::spawn(follow_level(publisher.clone(), level));
    let script = alert_script(context, local);
    if let Err(error) = vedette_collector::alerts::prepare_log(&script.log, script.user.as_deref())
    {
        tracing::warn!(%error, "the log of the alert script cannot be prepared");
    }
    let runner = alerts::Runner {
        me,
        session: context.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        script,
    };
    tokio::spawn(runner.run());
}

/// Starts what does the work that the state gives this node.
pub(super) fn start_runner(
    context: &NodeContext,
    proposer: &Proposer,
    publisher: &Arc<Publisher>,
    executor: &executor::Executor,
    ops: executor::ResourceOps,
    renew: mpsc::Sender<()>,
) -> Result<()> {
    let events = vedette_node::events::materialise(context.dir.path())
        .context("the event scripts cannot be written")?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let place = runner::Place {
        program: program.display().to_string(),
        control: context.config.control.display().to_string(),
        events: events.display().to_string(),
    };
    let runner = runner::Runner {
        me: context.member.identity.number,
        session: context.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        executor: executor.clone(),
        ops,
        place,
        events,
        state_dir: context.dir.path().to_owned(),
        log_timing: context.peer_set.settings.timing.log(),
        renew,
    };
    tokio::spawn(runner.run());
    Ok(())
}

/// What resources of this node need to know of it.
pub(super) fn ops(context: &NodeContext) -> Result<executor::ResourceOps> {
    let identity = &context.member.identity;
    let (state, run) = (context.dir.path().join(RESOURCES), context.dir.path().join(RUN));
    for folder in [&state, &run] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let cgroup = vedette_node::cgroup::root(&identity.cluster.to_string(), identity.number.0);
    if cgroup.is_none() {
        tracing::warn!("there are no control groups here: applications cannot be kept together");
    }
    let (probes, lease) = Default::default();
    let transcripts = context.transcripts.clone();
    Ok(executor::ResourceOps {
        me: identity.number,
        cgroup,
        state,
        run,
        probes,
        lease,
        transcripts,
    })
}

fn alert_script(context: &NodeContext, local: &LocalLog) -> alerts::Script {
    alerts::Script {
        user: context.config.alert.user.clone(),
        mail_to: context.config.alert.mail_to.clone(),
        log: context.dir.path().join(ALERT_LOG),
        transcripts: context.transcripts.clone(),
        local: local.clone(),
    }
}

/// The cluster-wide logging level holds on this node too (spec A13).
async fn follow_level(publisher: Arc<Publisher>, level: LevelHandle) {
    let mut views = publisher.views();
    let mut current = None;
    loop {
        let state = views.borrow_and_update().state.clone();
        let wanted = state.cluster.map(|_| state.settings.logging_level);
        if wanted != current
            && let Some(wanted) = wanted
        {
            level.set(wanted);
            current = Some(wanted);
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}
