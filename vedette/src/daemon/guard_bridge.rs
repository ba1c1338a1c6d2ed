//! The agent's side of its guard, and of everything the guard's reports are for.
//!
//! A report is shown (in the view), used to choose the paths of connections, and sent to the
//! director, wherever that is. In the other direction the guard is told who the peers are and how
//! its agent does; an agent that falls silent is restarted by its guard.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use vedette_core::director::Input;
use vedette_core::id::{ClusterId, NodeNumber, RaftId, Session, StorageId};
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;
use vedette_core::self_status::{LogSeen, Past, SelfFacts, SelfStatus, as_believed};
use vedette_core::state::ClusterState;
use vedette_node::guard::client::{LeaseWatch, Notices, Orders, connect};
use vedette_node::guard::protocol::{
    Configure, Confirmed, Notice, Order, OwnNetwork, PeerNode, SOCKET_VARIABLE, Secret,
};
use vedette_node::identity::{ClusterKey, StateDir, WELCOME};
use vedette_node::join::PeerSet;
use vedette_node::log::{Leadership, Log};
use vedette_node::peers::{Peers, Server, kinds};

use super::director_task::DirectorHandle;
use super::executor::Executor;
use super::local_log::boot_time_us;
use super::peer_set;
use super::proposer::own_clock_us;
use super::publisher::Publisher;
use super::service::ReportMessage;

/// How often a guard is told how its agent does; after five seconds of silence it would restart it.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// How often it is told of a position in the log that changes.
const POSITION_EVERY: Duration = Duration::from_millis(100);

/// How long a report may take to the director; the next one is on its way soon.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// What is known before anything is connected.
pub(crate) struct BridgeContext {
    pub(crate) me: NodeNumber,
    pub(crate) cluster: ClusterId,
    pub(crate) key: ClusterKey,
    pub(crate) session: Session,
    pub(crate) dir: StateDir,
    pub(crate) peer_set: PeerSet,
}

/// What the tasks need.
pub(crate) struct BridgeDeps {
    pub(crate) context: BridgeContext,
    pub(crate) log: Log,
    pub(crate) peers: Peers,
    pub(crate) server: Server,
    pub(crate) director: DirectorHandle,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) continuity: Arc<AtomicBool>,
    pub(crate) executor: Executor,
}

/// The running tasks.
pub(crate) struct GuardBridge {
    orders: Orders,
    watch: LeaseWatch,
    gone: mpsc::Receiver<()>,
    guard: mpsc::UnboundedReceiver<Session>,
}

impl GuardBridge {
    /// The run of the guard, which it says first.
    pub(crate) async fn guard_session(&mut self) -> Session {
        self.guard.recv().await.unwrap_or_default()
    }

    /// The way to the guard.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// The watch over the lease.
    pub(crate) fn lease_watch(&self) -> LeaseWatch {
        self.watch.clone()
    }

    /// Waits until the guard is gone.
    pub(crate) async fn guard_gone(&mut self) {
        let _ = self.gone.recv().await;
    }

    /// Tells everybody that this node leaves on purpose, and the guard to end after the agent.
    pub(crate) async fn leave(&self) {
        for order in [Order::Leave, Order::Shutdown] {
            if let Err(error) = self.orders.send(&order).await {
                tracing::warn!(%error, "the guard could not be told that this node leaves");
            }
        }
    }
}

/// Where the guard that started this agent listens.
pub(crate) fn guard_socket() -> Result<PathBuf> {
    std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from).with_context(|| {
        format!("{SOCKET_VARIABLE} is not set. Start the agent through `vedette daemon`.")
    })
}

/// Connects to the guard and starts the tasks.
pub(crate) async fn start(deps: BridgeDeps) -> Result<GuardBridge> {
    let path = guard_socket()?;
    let (orders, notices) = connect(&path).await?;
    let watch = notices.lease_watch();
    let (gone_sender, gone) = mpsc::channel(1);
    let (reports, latest) = watch::channel(None);
    let deps = Arc::new(deps);
    let (welcome, guard) = mpsc::unbounded_channel();
    let executor = deps.executor.clone();
    let heard = Arc::new(AtomicU64::new(0));
    tokio::spawn(listen(notices, (reports, welcome), gone_sender, executor, heard.clone()));
    let (log, publisher) = (deps.log.clone(), deps.publisher.clone());
    tokio::spawn(super::step_down::watch_guard(log, publisher, latest.clone()));
    tokio::spawn(report(deps.clone(), latest.clone()));
    tokio::spawn(tell(deps, orders.clone(), latest, heard));
    Ok(GuardBridge { orders, watch, gone, guard })
}

/// Takes the guard's notices until it is gone.
async fn listen(
    mut notices: Notices,
    (reports, welcome): (watch::Sender<Option<Arc<Report>>>, mpsc::UnboundedSender<Session>),
    gone: mpsc::Sender<()>,
    executor: Executor,
    heard: Arc<AtomicU64>,
) {
    while let Some(notice) = notices.next().await {
        match notice {
            Notice::Report(report) => {
                heard.store(boot_time_us(), Ordering::SeqCst);
                executor.take_report(&report);
                reports.send_replace(Some(Arc::new(report)));
            }
            Notice::Holding(holding) => executor.holding(&holding),
            Notice::ReleasedAll { epoch, ended_us, released_us, reaper, left } => {
                executor.released_all(epoch, (ended_us, released_us), reaper, &left);
            }
            // What it grants is told with every report.
            Notice::Lease { .. } => {}
            Notice::Warning { text } => tracing::warn!("guard: {text}"),
            Notice::Rejected(kinds) => tracing::debug!(?kinds, "packets that did not count"),
            Notice::Welcome { session, version } => {
                tracing::debug!(session = session.0, %version, "connected to the guard");
                let _ = welcome.send(session);
            }
        }
    }
    let _ = gone.send(()).await;
    // Its last report grows old like that of any guard that is silent: who looks at it goes on looking.
    reports.closed().await;
}

/// Hands each report to the director. One is on its way at a time; what comes meanwhile replaces
/// what waits, since only the latest counts. One that is on its way to a director that is replaced is
/// given up: it is dead most likely, and its successor needs the next one to say so.
async fn report(deps: Arc<BridgeDeps>, mut latest: watch::Receiver<Option<Arc<Report>>>) {
    let mut leadership = deps.log.leadership();
    loop {
        let report = latest.borrow_and_update().clone();
        let leader = leadership.borrow_and_update().leader;
        let mut leader_only = leadership.clone();
        let leader_changed = leader_only.wait_for(|new| new.leader != leader);
        tokio::pin!(leader_changed);
        if let (Some(report), Some(leader)) = (report, leader) {
            tokio::select! {
                () = send_report(&deps, report, leader) => {}
                changed = &mut leader_changed => if changed.is_err() { return } else { continue },
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = leader_changed => if changed.is_err() { return },
        }
    }
}

async fn send_report(deps: &BridgeDeps, report: Arc<Report>, leader: RaftId) {
    let state = deps.publisher.state();
    let Some(node) = state.nodes.values().find(|node| node.raft_id == leader) else { return };
    if node.number == deps.context.me {
        deps.director.tell(Input::Report(report));
        return;
    }
    let message = ReportMessage { session: deps.context.session, report: (*report).clone() };
    let Ok(body) = serde_json::to_vec(&message) else { return };
    let sent = deps.peers.call(node.number, kinds::REPORT, body, REPORT_PATIENCE).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "a report did not reach the director");
    }
}

/// Keeps the view's local part, the guard, the connections and the director's facts up to date.
async fn tell(
    deps: Arc<BridgeDeps>,
    orders: Orders,
    mut latest: watch::Receiver<Option<Arc<Report>>>,
    heard: Arc<AtomicU64>,
) {
    let mut views = deps.publisher.views();
    let mut leadership = deps.log.leadership();
    let (mut disk, mut deleted) = (deps.log.disk(), deps.peers.deleted());
    let mut told = Told::default();
    loop {
        let report = latest.borrow_and_update().clone();
        let report = report.map(|report| of_now(report, &heard, &deps.publisher.state()));
        let state = views.borrow_and_update().state.clone();
        let leads = leadership.borrow_and_update().clone();
        disk.mark_unchanged();
        told.step(&deps, &orders, &state, &leads, report).await;
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = views.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
            changed = disk.changed() => if changed.is_err() { return },
            changed = deleted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(status_every(&leads, &state, told.position)) => {}
        }
    }
}

/// A report as it may be believed now.
fn of_now(report: Arc<Report>, heard: &AtomicU64, state: &ClusterState) -> Arc<Report> {
    let silent = Duration::from_micros(boot_time_us().saturating_sub(heard.load(Ordering::SeqCst)));
    let lease = Duration::from_millis(state.settings.timing.lease_ms);
    as_believed(&report, silent, lease).map_or(report, Arc::new)
}

/// What the guard and the disk were told last.
#[derive(Default)]
struct Told {
    past: Past,
    configure: Option<Configure>,
    status: Option<(AgentStatus, Option<u64>, bool)>,
    position: u64,
    status_at: Option<tokio::time::Instant>,
    peer_set: Option<PeerSet>,
}

impl Told {
    async fn step(
        &mut self,
        deps: &BridgeDeps,
        orders: &Orders,
        state: &ClusterState,
        leads: &Leadership,
        report: Option<Arc<Report>>,
    ) {
        let facts = SelfFacts {
            me: deps.context.me,
            state,
            log: LogSeen {
                leads: leads.me,
                led: leads.leader.is_some(),
                term: leads.term,
                applied: leads.last_applied,
                committed: leads.committed,
            },
            report: report.as_deref(),
            disk: &deps.log.disk().borrow().clone(),
            deleted: deps.peers.deleted().borrow().map(|deleted| deleted.by),
        };
        let own = SelfStatus::of(&facts, self.past);
        self.past = own.past();
        deps.continuity.store(own.continuity, Ordering::SeqCst);
        if let Some(report) = &report {
            deps.peers.set_links(&report.links);
        }
        self.surround(deps, orders, state, leads).await;
        let log_stalled = deps.publisher.views().borrow().local.log.stalled_since.is_some();
        self.status(orders, (&own, log_stalled), leads, state).await;
        deps.publisher.update_local(|local| {
            own.apply(local);
            if let Some(report) = report.as_deref().filter(|_| local.report != report) {
                Arc::make_mut(&mut local.clocks).learn(report, own_clock_us());
            }
            local.report = report;
        });
    }

    /// Members, addresses, timers: to the guard, the connections and the disk.
    async fn surround(
        &mut self,
        deps: &BridgeDeps,
        orders: &Orders,
        state: &ClusterState,
        leads: &Leadership,
    ) {
        let context = &deps.context;
        let now = peer_set::of_state(context.me, state, leads);
        deps.peers.roster().set_outdated(now.is_none());
        if let Some(now) = now
            && !self.peer_set.as_ref().is_some_and(|old| peer_set::same(old, &now))
        {
            deps.peers.update(now.members.clone());
            for error in deps.server.listen_on(&peer_set::listens_at(&now, context.me)) {
                tracing::error!(%error, "other nodes cannot reach this one there");
            }
            if let Err(error) = context.dir.store_document(WELCOME, &now) {
                tracing::error!(%error, "the members of the cluster cannot be kept on disk");
            }
            self.peer_set = Some(now);
        }
        let known = self.peer_set.as_ref().unwrap_or(&context.peer_set);
        let configure = configure(context, known, state);
        if self.configure.as_ref() != Some(&configure) {
            send(orders, &Order::Configure(Box::new(configure.clone()))).await;
            self.configure = Some(configure);
        }
    }

    /// How the agent does: at every change, and again and again as a sign of life.
    async fn status(
        &mut self,
        orders: &Orders,
        (own, log_stalled): (&SelfStatus, bool),
        leads: &Leadership,
        state: &ClusterState,
    ) {
        // A director is one from when everybody knows of its office.
        let in_office = leads.me && state.term == leads.term;
        let director = leads.confirmed_at().filter(|_| in_office).map(|at| Confirmed {
            term: leads.term,
            age_us: u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
        let news = (own.agent, director.map(|confirmed| confirmed.term), own.continuity);
        let every = status_every(leads, state, self.position);
        let due = self.status_at.is_none_or(|at| at.elapsed() >= every);
        if self.status == Some(news) && !due {
            return;
        }
        self.status = Some(news);
        self.position = leads.last_applied;
        self.status_at = Some(tokio::time::Instant::now());
        let order = Order::Status {
            status: own.agent,
            director,
            continuity: own.continuity,
            position: self.position,
            log_stalled,
        };
        send(orders, &order).await;
    }
}

/// A director's beats say that it is one only as long as its guard knows that it was confirmed within the
/// greatest election timeout, so it says so several times in that. A log that goes on is told of, but
/// not entry by entry.
fn status_every(leads: &Leadership, state: &ClusterState, told: u64) -> Duration {
    let every = if leads.last_applied == told { STATUS_EVERY } else { POSITION_EVERY };
    if !leads.me {
        return every;
    }
    every.min(Duration::from_millis(state.settings.timing.election_max_ms) / 4)
}

async fn send(orders: &Orders, order: &Order) {
    // A guard that is gone is noticed by whoever listens to it.
    if let Err(error) = orders.send(order).await {
        tracing::debug!(%error, "an order did not reach the guard");
    }
}

fn configure(context: &BridgeContext, known: &PeerSet, state: &ClusterState) -> Configure {
    let own = known.members.get(&context.me);
    let networks = known.networks.iter().filter_map(|(number, network)| {
        Some(OwnNetwork {
            number: *number,
            priority: network.priority,
            address: own?.addresses.get(number)?.ip(),
            port: network.beat_port,
            ping: network.ping,
        })
    });
    let peers =
        known.members.iter().filter(|(number, _)| **number != context.me).map(|(number, peer)| {
            PeerNode {
                number: *number,
                storage: peer.storage,
                live: peer_set::is_live(state, *number),
                addresses: peer
                    .addresses
                    .iter()
                    .map(|(network, address)| (*network, address.ip()))
                    .collect(),
            }
        });
    let voters = state.voter_set();
    Configure {
        me: context.me,
        storage: own.map_or(StorageId([0; 16]), |own| own.storage),
        cluster: context.cluster,
        key: Secret::new(context.key.0),
        timing: known.settings.timing,
        networks: networks.collect(),
        peers: peers.collect(),
        voters: voters.numbers().collect(),
        voters_since: voters.since,
    }
}
