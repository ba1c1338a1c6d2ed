//! The daemon: puts the parts together.
//!
//! `vedette daemon` is the guard; it starts `vedette agent`, which is everything else. The agent
//! starts its parts in an order that operators see as stages (spec H23): its guard (`topology`),
//! its log (`log`), the cluster around it (`cluster`), and then it is `running`. A part that cannot
//! start ends the agent with a sentence that says which and why.

mod admit;
mod alerts;
mod backfill;
pub(crate) mod control;
pub(crate) mod executor;
mod leave;
mod links;
mod local_log;
mod log_watch;
mod monitors;
mod office;
mod program;
mod proposer;
mod publisher;
mod renew;
mod runner;
mod service;
mod silence;
mod standing;
mod surfaces;
mod surroundings;
mod transport;
mod verify;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use vedette_collector::history::{History, SetAside};
use vedette_core::command::Proposal;
use vedette_core::config::Config;
use vedette_core::id::{NetworkNumber, Session};
use vedette_core::state::ClusterState;
use vedette_node::guard;
use vedette_node::guard::protocol::OwnNetwork;
use vedette_node::identity::{FORM, Membership, StateDir, VERSION};
use vedette_node::join::Surroundings;
use vedette_node::log::{self, Log, LogConfig};
use vedette_node::peers::{Limits, Peers, Server};
use vedette_node::pki::Tls;
use vedette_node::transcript::Transcripts;

use crate::logging::LevelHandle;
use local_log::{Alive, LocalLog, Past};
use proposer::Proposer;
use publisher::Publisher;

/// Exit status of a daemon whose configuration or state must be corrected first; its guard does
/// not start it again.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// The history, in the state directory.
const HISTORY: &str = "history.db";

/// Where guard and agent meet, in the state directory.
const GUARD_SOCKET: &str = "guard.sock";

/// The log, in the state directory.
const CLUSTER_DB: &str = "cluster.db";

/// A sign of life, in the state directory.
const ALIVE: &str = "alive";

/// What resources keep over a restart of the machine, in the state directory.
const RESOURCES: &str = "resources";

/// What they need not keep.
const RUN: &str = "run";

/// Where the built-in alert script appends, in the state directory's own folder for it.
const ALERT_LOG: &str = "alert.log";

/// Something that an operator has to put right before this node can start; trying again does not
/// help.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct NeedsOperator(anyhow::Error);

/// Marks a failure as one for the operator.
fn for_operator<T, E: Into<anyhow::Error>>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| NeedsOperator(error.into()).into())
}

/// Runs the guard, which starts the agent, until the node leaves.
///
/// # Errors
/// What could not be started, with what to do.
pub(crate) fn guard_main(config: Config, arguments: Vec<OsString>) -> Result<()> {
    let ground = for_operator(Ground::read(config))?;
    let socket = ground.dir.path().join(GUARD_SOCKET);
    if !guard_runs(ground.dir.path()) {
        for_operator(check_addresses(&ground))?;
    }
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let agent = std::iter::once(program.into_os_string()).chain(arguments).collect();
    let guard = guard::GuardConfig {
        state_dir: ground.dir.path().to_owned(),
        socket,
        agent,
        reaper: crate::reaper::words(ground.dir.path().to_owned(), ground.config.log),
        version: VERSION.into(),
        watchdog: ground.config.watchdog.clone(),
    };
    match guard::run(guard)? {
        guard::ExitReason::Left => Ok(()),
        guard::ExitReason::Configuration => {
            Err(NeedsOperator(anyhow::anyhow!("its agent refuses to start")).into())
        }
    }
}

/// Whether a guard has this state directory; another one is refused with that reason then.
pub(crate) fn guard_runs(state_dir: &std::path::Path) -> bool {
    use nix::fcntl::{Flock, FlockArg};
    let Ok(file) = std::fs::File::open(state_dir.join("guard.lock")) else { return false };
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}

/// A port in use is refused at start (spec H7), and so are addresses none of which is on this host. With one that
/// is, the node starts and hears of the others whether the rest was corrected; it is tried again every second.
fn check_addresses(ground: &Ground) -> Result<()> {
    let networks = &ground.surroundings.networks;
    let mut findings = Vec::new();
    let mut elsewhere = Vec::new();
    let mut here = false;
    for (number, address) in ground.addresses() {
        let Some(network) = networks.get(&number) else { continue };
        let own = OwnNetwork {
            number,
            priority: network.priority,
            address,
            port: network.beat_port,
            ping: network.ping,
        };
        if let Err(why) = guard::bind(&own) {
            // A person knows the network by its name.
            let name = format!("network {}", network.name);
            let why = why.replacen(&format!("network {number}"), &name, 1);
            if surroundings::is_here(address) { findings.push(why) } else { elsewhere.push(why) }
        }
        here |= surroundings::is_here(address);
    }
    let deadline = std::time::Instant::now() + PORT_PATIENCE;
    let peers = ground.peer_addresses().into_iter();
    let peers = peers.map(|at| (at, "other nodes", "another peer_port for the network"));
    let http = ground.config.http.map(|at| (at, "HTTP", "another [http] listen"));
    for (address, whom, other) in peers.chain(http) {
        if is_taken(address, deadline) {
            let port = address.port();
            findings.push(format!(
                "no port for {whom}: {address}/tcp is in use. Another program has it (ss -ltnp \
                 'sport = {port}' names it): stop it, or set {other}"
            ));
        }
    }
    if here && findings.is_empty() {
        for why in elsewhere {
            tracing::error!("{why}. The node starts without it, and tries it again every second");
        }
        return Ok(());
    }
    findings.extend(elsewhere);
    if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
}

/// How long a port may still be held by the agent of a guard that has just died.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Whether another program has a port until the deadline. Anything else that is wrong with it is
/// told by whoever needs it.
fn is_taken(address: SocketAddr, deadline: std::time::Instant) -> bool {
    loop {
        let taken = std::net::TcpListener::bind(address)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
        if !taken || std::time::Instant::now() >= deadline {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

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

/// What is on this node's disk and in its configuration.
struct Ground {
    config: Config,
    dir: StateDir,
    member: Membership,
    surroundings: Surroundings,
    session: Session,
    transcripts: Transcripts,
}

impl Ground {
    fn read(config: Config) -> Result<Self> {
        let dir = StateDir::new(&config.state_dir);
        let member = dir.load()?;
        member.identity.check(dir.path(), &config.name, None)?;
        let own = member.identity.number;
        if let Some(asked) = config.number.filter(|asked| *asked != own) {
            bail!(
                "{} belongs to node {own}, but the configuration says that this is number {asked}. \
                 Correct the number, or name the state directory of that node: --state-dir.",
                dir.path().display()
            );
        }
        let Some(mut surroundings) = surroundings::last_known(&dir)? else {
            bail!(
                "the state directory {} does not say who the other members are. Delete this node \
                 on a member and join again: vedette node delete NODE, vedette join TOKEN.",
                dir.path().display()
            );
        };
        for sentence in surroundings::corrected(&mut surroundings, own, &config) {
            tracing::warn!("{sentence}");
        }
        let transcripts = Transcripts::new(dir.path(), &member.identity.name);
        let session = Session(new_session());
        Ok(Self { config, dir, member, surroundings, session, transcripts })
    }

    /// This node's own address on each network.
    fn addresses(&self) -> BTreeMap<NetworkNumber, IpAddr> {
        let own = self.surroundings.members.get(&self.member.identity.number);
        let own = own.map(|peer| peer.addresses.clone()).unwrap_or_default();
        own.into_iter().map(|(network, address)| (network, address.ip())).collect()
    }

    fn peer_addresses(&self) -> Vec<SocketAddr> {
        surroundings::listens_at(&self.surroundings, self.member.identity.number)
    }
}

/// How long the agent of a guard that was killed may take to let go of what it has. Nobody else can have the
/// state directory, as a second guard is refused before it starts an agent.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// A number for this run that no other run has.
fn new_session() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}

async fn agent(config: Config, level: LevelHandle) -> Result<()> {
    // Before anything is touched: an agent without a guard is of no use.
    for_operator(links::guard_socket())?;
    let ground = tokio::task::spawn_blocking(move || for_operator(Ground::read(config))).await??;
    // Nobody else may write here while this agent runs.
    let dir = ground.dir.clone();
    let lock = move || for_operator(dir.lock_within(ORPHAN_PATIENCE));
    let _lock = tokio::task::spawn_blocking(lock).await??;
    let me = ground.member.identity.number;
    let (history, set_aside) = open_history(&ground).await?;
    let publisher =
        Arc::new(Publisher::new(me, ground.session, ClusterState::default(), Arc::new(history))?);
    let tls = Tls::new(&ground.member)?;
    let peers = Peers::new(tls.clone());
    // What was known last, until the log says what is now.
    peers.roster().set_outdated(true);
    peers.update(ground.surroundings.members.clone());

    let log = open_log(&ground, &peers, &publisher).await?;
    let identity = (me, ground.session);
    let name = ground.member.identity.name.clone();
    let proposer = Proposer::new(identity, log.clone(), peers.clone(), publisher.clone());
    let local = LocalLog::new((me, name), ground.session, publisher.clone());
    if let Some(set_aside) = set_aside {
        local.history_set_aside(&set_aside);
    }
    let (alive, past) = for_operator(
        Alive::open(&ground.dir.path().join(ALIVE))
            .context("the state directory cannot be written"),
    )?;
    let continuity = Arc::new(AtomicBool::new(false));
    let office = office::start(office::Means {
        me,
        session: ground.session,
        log: log.clone(),
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        continuity: continuity.clone(),
    });
    let admission =
        admit::Admission::new(ground.member.clone(), publisher.clone(), proposer.clone())?;
    let answers = service::Answers {
        log: log.clone(),
        office: office.clone(),
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        admission: admission.clone(),
    };
    let server = Server::start(
        &ground.peer_addresses(),
        tls.clone(),
        peers.roster(),
        Arc::new(answers),
        Limits::default(),
    )?;
    let (shutdown, over) = watch::channel(false);
    let (leave, mut leaving) = mpsc::channel(1);
    let (renew, mut renewing) = mpsc::channel(1);
    let hands = hands(&ground)?;
    let executor = executor::Executor::new(executor::Means {
        me,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        hands: hands.clone(),
        local: local.clone(),
    });
    let control = control::Control {
        me,
        publisher: publisher.clone(),
        proposer: proposer.clone(),
        peers: peers.clone(),
        admission,
        executor: executor.clone(),
        transcripts: ground.transcripts.clone(),
        leave,
    };
    surfaces::start_http(&ground.config, &publisher, control, over).await?;
    let snmp = surfaces::start_snmp(&ground.config, &publisher)?;
    form_if_new(&ground, &log).await?;

    let mut links = links::start(links::Means {
        ground: links::Known {
            me,
            cluster: ground.member.identity.cluster,
            key: ground.member.cluster_key.clone(),
            session: ground.session,
            dir: ground.dir.clone(),
            surroundings: ground.surroundings.clone(),
        },
        log: log.clone(),
        peers: peers.clone(),
        server,
        office,
        publisher: publisher.clone(),
        continuity,
        executor: executor.clone(),
    })
    .await?;
    let guard = links.guard_session().await;
    alive.start(guard).context("a thread cannot be started")?;
    start_local(&ground, &local, &proposer, (past, guard));
    tokio::spawn(log_watch::run(log.clone(), publisher.clone()));
    executor.start(links.orders(), links.lease_watch());
    tokio::spawn(renew::run(ground.dir.clone(), ground.member.clone(), tls));
    start_workers(&ground, &local, (&proposer, &publisher), &peers, level);
    tokio::spawn(monitors::run(monitors::Means {
        me,
        session: ground.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        folder: hands.run.clone(),
        transcripts: hands.transcripts.clone(),
    }));
    start_runner(&ground, &proposer, &publisher, &executor, hands, renew)?;
    let handing_over = leave::Leaving {
        me,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        state_dir: ground.dir.path().to_owned(),
    };

    let mut signals = Signals::new()?;
    let mut reason = tokio::select! {
        () = signals.next() => signals.meaning().await,
        how = leaving.recv() => End::Leave(how.unwrap_or_default()),
        Some(()) = renewing.recv() => End::Renew,
        () = links.guard_gone() => End::Orphaned,
        why = log.fatal() => End::Failed(format!("the log of this node stopped: {why}")),
        why = silence::cannot_lead(&log, &publisher) => End::Relieved(why),
    };
    if matches!(reason, End::Leave(control::Leave { now: false })) {
        tokio::select! {
            () = handing_over.hand_over() => {}
            () = signals.next() => tracing::warn!("told to end twice, and ends at once"),
            _ = leaving.recv() => tracing::warn!("told to leave twice, and leaves at once"),
            () = links.guard_gone() => reason = End::Orphaned,
        }
    }
    match reason {
        End::Leave(_) => executor.let_go_of_all(true).await,
        // Who is not heard leads nobody, however long it takes to let go.
        End::Orphaned => {
            tokio::join!(silence::hand_over(&log, &publisher), executor.let_go_of_all(false));
        }
        End::Renew | End::Relieved(_) | End::Failed(_) => {}
    }
    if matches!(reason, End::Leave(_) | End::Renew) {
        alive.leave();
    }
    end(reason, &log, &mut links, &publisher, (shutdown, snmp)).await
}

/// Starts what tells of this node itself.
fn start_local(
    ground: &Ground,
    local: &LocalLog,
    proposer: &Proposer,
    start: (Option<Past>, Session),
) {
    let (past, guard) = start;
    local.started(past, guard);
    let disk = local_log::Disk { state_dir: ground.dir.path().to_owned() };
    tokio::spawn(local_log::follow(local.clone(), disk));
    tokio::spawn(local_log::account(local.clone(), proposer.clone()));
    tokio::spawn(local_log::Runner(alert_script(ground, local)).run(local.clone()));
}

fn alert_script(ground: &Ground, local: &LocalLog) -> alerts::Script {
    alerts::Script {
        user: ground.config.alert.user.clone(),
        mail_to: ground.config.alert.mail_to.clone(),
        log: ground.dir.path().join(ALERT_LOG),
        transcripts: ground.transcripts.clone(),
        local: local.clone(),
    }
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

/// What resources of this node need to know of it.
fn hands(ground: &Ground) -> Result<executor::Hands> {
    let identity = &ground.member.identity;
    let (state, run) = (ground.dir.path().join(RESOURCES), ground.dir.path().join(RUN));
    for folder in [&state, &run] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let cgroup = vedette_node::cgroup::root(&identity.cluster.to_string(), identity.number.0);
    if cgroup.is_none() {
        tracing::warn!("there are no control groups here: applications cannot be kept together");
    }
    let (probes, lease) = Default::default();
    let transcripts = ground.transcripts.clone();
    Ok(executor::Hands { me: identity.number, cgroup, state, run, probes, lease, transcripts })
}

/// Starts what does the work that the state gives this node.
fn start_runner(
    ground: &Ground,
    proposer: &Proposer,
    publisher: &Arc<Publisher>,
    executor: &executor::Executor,
    hands: executor::Hands,
    renew: mpsc::Sender<()>,
) -> Result<()> {
    let events = vedette_node::events::materialise(ground.dir.path())
        .context("the event scripts cannot be written")?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let place = runner::Place {
        program: program.display().to_string(),
        control: ground.config.control.display().to_string(),
        events: events.display().to_string(),
    };
    let runner = runner::Runner {
        me: ground.member.identity.number,
        session: ground.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        executor: executor.clone(),
        hands,
        place,
        events,
        state_dir: ground.dir.path().to_owned(),
        log_timing: ground.surroundings.settings.timing.log(),
        renew,
    };
    tokio::spawn(runner.run());
    Ok(())
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
    links: &mut links::Links,
    publisher: &Publisher,
    surfaces: (watch::Sender<bool>, Option<surfaces::Snmp>),
) -> Result<()> {
    let (shutdown, snmp) = surfaces;
    if matches!(reason, End::Leave(_) | End::Renew | End::Relieved(_)) {
        silence::hand_over(log, publisher).await;
    }
    if matches!(reason, End::Leave(_)) {
        links.leave().await;
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

async fn open_log(ground: &Ground, peers: &Peers, publisher: &Arc<Publisher>) -> Result<Log> {
    let identity = &ground.member.identity;
    let path = ground.dir.path().join(CLUSTER_DB);
    // A log that was there once must be there: only a node that was just made may begin one.
    let made = ground.dir.path().join("log.made");
    let create = !made.exists();
    let config = LogConfig {
        path,
        identity: log::Identity {
            cluster: identity.cluster,
            raft_id: identity.raft_id,
            storage: identity.storage,
        },
        timing: ground.surroundings.settings.timing,
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

/// Opens the history. A damaged one is set aside if other members have its records.
async fn open_history(ground: &Ground) -> Result<(History, Option<SetAside>)> {
    let path = ground.dir.path().join(HISTORY);
    if ground.surroundings.members.len() < 2 {
        let opened = tokio::task::spawn_blocking(move || for_operator(History::open(path)));
        return Ok((opened.await??, None));
    }
    // What was notified was in the history: it is told nobody again.
    let told = surfaces::notified(&ground.config);
    let (history, set_aside) = tokio::task::spawn_blocking(move || {
        for_operator(History::open_or_set_aside(path, proposer::wall_time(), told))
    })
    .await??;
    if let Some(set_aside) = &set_aside {
        surfaces::notify_after(&ground.config, set_aside.last);
        tracing::error!("{set_aside}");
    }
    Ok((history, set_aside))
}

/// The first member forms the cluster when its daemon starts for the first time.
async fn form_if_new(ground: &Ground, log: &Log) -> Result<()> {
    let Some(form) = ground.dir.document::<Proposal>(FORM)? else { return Ok(()) };
    match log.form(form).await {
        Ok(_) | Err(log::FormError::AlreadyFormed) => {}
        Err(error) => bail!("the cluster cannot be formed: {error}"),
    }
    Ok(())
}

fn start_workers(
    ground: &Ground,
    local: &LocalLog,
    (proposer, publisher): (&Proposer, &Arc<Publisher>),
    peers: &Peers,
    level: LevelHandle,
) {
    let me = ground.member.identity.number;
    tokio::spawn(backfill::run(me, publisher.clone(), peers.clone()));
    tokio::spawn(follow_level(publisher.clone(), level));
    let script = alert_script(ground, local);
    if let Err(error) = vedette_collector::alerts::prepare_log(&script.log, script.user.as_deref())
    {
        tracing::warn!(%error, "the log of the alert script cannot be prepared");
    }
    let runner = alerts::Runner {
        me,
        session: ground.session,
        proposer: proposer.clone(),
        publisher: publisher.clone(),
        script,
    };
    tokio::spawn(runner.run());
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
