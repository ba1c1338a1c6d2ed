//! `vedette agent`: everything but the guard, from its start to its end.
//!
//! It starts its parts in an order that operators see as stages (spec H23): its guard (`topology`), its log
//! (`log`), the cluster around it (`cluster`), and then it is `running`. How it ends depends on who asked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use vedette_core::config::Config;
use vedette_core::state::ClusterState;
use vedette_node::log::Log;
use vedette_node::peers::{Limits, Peers, Server};
use vedette_node::pki::Tls;

use crate::logging::LevelHandle;

use super::local_log::{Alive, LocalLog};
use super::proposer::Proposer;
use super::publisher::Publisher;
use super::wiring::{
    form_if_new, open_history, open_log, ops, start_local, start_runner, start_workers,
};
use super::{
    NodeContext, admit, control, director_task, executor, for_operator, guard_bridge, leave,
    log_watch, monitors, renew, service, step_down, surfaces,
};

/// A sign of life, in the state directory.
const ALIVE: &str = "alive";

/// How long the agent of a guard that was killed may take to let go of what it has. Nobody else can have the
/// state directory, as a second guard is refused before it starts an agent.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// Runs the agent until it is told to end.
///
/// # Errors
/// What could not be started, with what to do.
pub(crate) fn agent_main(config: Config, level: LevelHandle) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the agent's threads cannot be started")?;
    let result = runtime.block_on(agent(config, level));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn agent(config: Config, level: LevelHandle) -> Result<()> {
    // Before anything is touched: an agent without a guard is of no use.
    for_operator(guard_bridge::guard_socket())?;
    let context =
        tokio::task::spawn_blocking(move || for_operator(NodeContext::read(config))).await??;
    // Nobody else may write here while this agent runs.
    let dir = context.dir.clone();
    let lock = move || for_operator(dir.lock_within(ORPHAN_PATIENCE));
    let _lock = tokio::task::spawn_blocking(lock).await??;
    let me = context.member.identity.number;
    let (history, set_aside) = open_history(&context).await?;
    let publisher =
        Arc::new(Publisher::new(me, context.session, ClusterState::default(), Arc::new(history))?);
    let tls = Tls::new(&context.member)?;
    let peers = Peers::new(tls.clone());
    // What was known last, until the log says what is now.
    peers.roster().set_outdated(true);
    peers.update(context.peer_set.members.clone());

    let log = open_log(&context, &peers, &publisher).await?;
    let identity = (me, context.session);
    let name = context.member.identity.name.clone();
    let proposer = Proposer::new(identity, log.clone(), peers.clone(), publisher.clone());
    let local = LocalLog::new((me, name), context.session, publisher.clone());
    if let Some(set_aside) = set_aside {
        local.history_set_aside(&set_aside);
    }
    let (alive, past) = for_operator(
        Alive::open(&context.dir.path().join(ALIVE))
            .context("the state directory cannot be written"),
    )?;
    let continuity = Arc::new(AtomicBool::new(false));
    let director = director_task::start(director_task::DirectorDeps {
        me,
        session: context.session,
        log: log.clone(),
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        continuity: continuity.clone(),
    });
    let admission =
        admit::Admission::new(context.member.clone(), publisher.clone(), proposer.clone())?;
    let answers = service::Answers {
        log: log.clone(),
        director: director.clone(),
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        admission: admission.clone(),
    };
    let server = Server::start(
        &context.peer_addresses(),
        tls.clone(),
        peers.roster(),
        Arc::new(answers),
        Limits::default(),
    )?;
    let (shutdown, over) = watch::channel(false);
    let (leave, mut leaving) = mpsc::channel(1);
    let (renew, mut renewing) = mpsc::channel(1);
    let ops = ops(&context)?;
    let executor = executor::Executor::new(executor::ExecutorDeps {
        me,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        ops: ops.clone(),
        local: local.clone(),
    });
    let control = control::Control {
        me,
        publisher: publisher.clone(),
        proposer: proposer.clone(),
        peers: peers.clone(),
        admission,
        executor: executor.clone(),
        transcripts: context.transcripts.clone(),
        leave,
    };
    surfaces::start_http(&context.config, &publisher, control, over).await?;
    let snmp = surfaces::start_snmp(&context.config, &publisher)?;
    form_if_new(&context, &log).await?;

    let mut bridge = guard_bridge::start(guard_bridge::BridgeDeps {
        context: guard_bridge::BridgeContext {
            me,
            cluster: context.member.identity.cluster,
            key: context.member.cluster_key.clone(),
            session: context.session,
            dir: context.dir.clone(),
            peer_set: context.peer_set.clone(),
        },
        log: log.clone(),
        peers: peers.clone(),
        server,
        director,
        publisher: publisher.clone(),
        continuity,
        executor: executor.clone(),
    })
    .await?;
    let guard = bridge.guard_session().await;
    alive.start(guard).context("a thread cannot be started")?;
    start_local(&context, &local, &proposer, (past, guard));
    tokio::spawn(log_watch::run(log.clone(), publisher.clone()));
    ops.end_interrupted().await;
    executor.start(bridge.orders(), bridge.lease_watch());
    tokio::spawn(renew::run(context.dir.clone(), context.member.clone(), tls));
    start_workers(&context, &local, (&proposer, &publisher), &peers, level);
    tokio::spawn(monitors::run(monitors::MonitorDeps {
        me,
        session: context.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        folder: ops.run.clone(),
        transcripts: ops.transcripts.clone(),
    }));
    start_runner(&context, &proposer, &publisher, &executor, ops, renew)?;
    let handing_over = leave::Leaving {
        me,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        state_dir: context.dir.path().to_owned(),
    };

    let mut signals = Signals::new()?;
    let mut reason = tokio::select! {
        () = signals.next() => signals.meaning().await,
        how = leaving.recv() => End::Leave(how.unwrap_or_default()),
        Some(()) = renewing.recv() => End::Renew,
        () = bridge.guard_gone() => End::Orphaned,
        why = log.fatal() => End::Failed(format!("the log of this node stopped: {why}")),
        why = step_down::cannot_lead(&log, &publisher) => End::Relieved(why),
    };
    if matches!(reason, End::Leave(control::Leave { now: false })) {
        tokio::select! {
            () = handing_over.hand_over() => {}
            () = signals.next() => {
                reason = signals.meaning().await;
                tracing::warn!("told to end twice, and ends at once");
            }
            _ = leaving.recv() => tracing::warn!("told to leave twice, and leaves at once"),
            () = bridge.guard_gone() => reason = End::Orphaned,
        }
    }
    // A guard that dies now takes the leases along as at any other time.
    if matches!(reason, End::Leave(_)) {
        tokio::select! {
            () = executor.let_go_of_all(true) => {}
            () = bridge.guard_gone() => reason = End::Orphaned,
        }
    }
    // Who is not heard leads nobody, however long it takes to let go.
    if matches!(reason, End::Orphaned) {
        tokio::join!(step_down::hand_over(&log, &publisher), executor.let_go_of_all(false));
    }
    if matches!(reason, End::Leave(_) | End::Renew) {
        alive.leave();
    }
    end(reason, &log, &mut bridge, &publisher, (shutdown, snmp)).await
}

/// How long the death of a guard that was killed takes.
const DEATH: Duration = Duration::from_millis(100);

/// How long the log may take to close.
const CLOSING: Duration = Duration::from_secs(3);

/// What asks the agent to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    guard: nix::unistd::Pid,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let guard = nix::unistd::getppid();
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())?, guard })
    }

    /// What the signal that came wants: the kernel sends one, too, when the guard is dying, and then
    /// nobody wants this node to leave. It does so before the guard's last thread has ended, hence
    /// the pause.
    async fn meaning(&self) -> End {
        tokio::time::sleep(DEATH).await;
        if nix::unistd::getppid() == self.guard {
            End::Leave(control::Leave::default())
        } else {
            End::Orphaned
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why the agent ends.
enum End {
    /// It was asked to; the cluster is told.
    Leave(control::Leave),
    /// Its guard is gone, and with it every lease.
    Orphaned,
    /// It is to begin anew, as with other timers of the log; what runs here is adopted then.
    Renew,
    /// It leads and cannot write what it decides; another node leads from now on.
    Relieved(String),
    /// It cannot go on; the guard starts it again, and what runs here is adopted then.
    Failed(String),
}

async fn end(
    reason: End,
    log: &Log,
    bridge: &mut guard_bridge::GuardBridge,
    publisher: &Publisher,
    surfaces: (watch::Sender<bool>, Option<surfaces::Snmp>),
) -> Result<()> {
    let (shutdown, snmp) = surfaces;
    if matches!(reason, End::Leave(_) | End::Renew | End::Relieved(_)) {
        step_down::hand_over(log, publisher).await;
    }
    if matches!(reason, End::Leave(_)) {
        bridge.leave().await;
    }
    shutdown.send_replace(true);
    drop(snmp);
    // A log that waits for room on its disk does not close.
    let patience = if matches!(reason, End::Relieved(_)) { Duration::ZERO } else { CLOSING };
    if tokio::time::timeout(patience, log.shutdown()).await.is_err() {
        tracing::warn!("the log did not close in time; it is safe all the same");
    }
    match reason {
        End::Leave(_) | End::Renew => Ok(()),
        End::Orphaned => bail!("its guard ended, and an agent without one must not go on."),
        End::Relieved(why) => bail!("this node was director and cannot write its log: {why}"),
        End::Failed(why) => bail!("{why}."),
    }
}
