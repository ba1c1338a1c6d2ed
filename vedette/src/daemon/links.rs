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
use vedette_core::standing::{Facts, LogSeen, Past, Standing, as_believed};
use vedette_core::state::ClusterState;
use vedette_node::guard::client::{LeaseWatch, Notices, Orders, connect};
use vedette_node::guard::protocol::{
    Configure, Confirmed, Notice, Order, OwnNetwork, PeerNode, SOCKET_VARIABLE, Secret,
};
use vedette_node::identity::{ClusterKey, StateDir, WELCOME};
use vedette_node::join::Surroundings;
use vedette_node::log::{Leadership, Log};
use vedette_node::peers::{Peers, Server, kinds};

use super::executor::Executor;
use super::local_log::boot_time_us;
use super::office::Office;
use super::proposer::own_clock_us;
use super::publisher::Publisher;
use super::service::ReportMessage;
use super::surroundings;

/// How often a guard is told how its agent does; after five seconds of silence it would restart it.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// How often it is told of a position in the log that changes.
const POSITION_EVERY: Duration = Duration::from_millis(100);

/// How long a report may take to the director; the next one is on its way soon.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// What is known before anything is connected.
pub(crate) struct Known {
    pub(crate) me: NodeNumber,
    pub(crate) cluster: ClusterId,
    pub(crate) key: ClusterKey,
    pub(crate) session: Session,
    pub(crate) dir: StateDir,
    pub(crate) surroundings: Surroundings,
}

/// What the tasks need.
pub(crate) struct Means {
    pub(crate) ground: Known,
    pub(crate) log: Log,
    pub(crate) peers: Peers,
    pub(crate) server: Server,
    pub(crate) office: Office,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) continuity: Arc<AtomicBool>,
    pub(crate) executor: Executor,
}

/// The running tasks.
pub(crate) struct Links {
    orders: Orders,
    watch: LeaseWatch,
    gone: mpsc::Receiver<()>,
    guard: mpsc::UnboundedReceiver<Session>,
}

impl Links {
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
pub(crate) async fn start(means: Means) -> Result<Links> {
    let path = guard_socket()?;
    let (orders, notices) = connect(&path).await?;
    let watch = notices.lease_watch();
    let (gone_sender, gone) = mpsc::channel(1);
    let (reports, latest) = watch::channel(None);
    let means = Arc::new(means);
    let (welcome, guard) = mpsc::unbounded_channel();
    let executor = means.executor.clone();
    let heard = Arc::new(AtomicU64::new(0));
    tokio::spawn(listen(notices, (reports, welcome), gone_sender, executor, heard.clone()));
    let (log, publisher) = (means.log.clone(), means.publisher.clone());
    tokio::spawn(super::silence::watch_guard(log, publisher, latest.clone()));
    tokio::spawn(report(means.clone(), latest.clone()));
    tokio::spawn(tell(means, orders.clone(), latest, heard));
    Ok(Links { orders, watch, gone, guard })
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
}

/// Hands each report to the director. One is on its way at a time; what comes meanwhile replaces
/// what waits, since only the latest counts. One that is on its way to a director that is replaced is
/// given up: it is dead most likely, and its successor needs the next one to say so.
async fn report(means: Arc<Means>, mut latest: watch::Receiver<Option<Arc<Report>>>) {
    let mut leadership = means.log.leadership();
    loop {
        let report = latest.borrow_and_update().clone();
        let leader = leadership.borrow_and_update().leader;
        let mut leader_only = leadership.clone();
        let leader_changed = leader_only.wait_for(|new| new.leader != leader);
        tokio::pin!(leader_changed);
        if let (Some(report), Some(leader)) = (report, leader) {
            tokio::select! {
                () = send_report(&means, report, leader) => {}
                changed = &mut leader_changed => if changed.is_err() { return } else { continue },
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = leader_changed => if changed.is_err() { return },
        }
    }
}

async fn send_report(means: &Means, report: Arc<Report>, leader: RaftId) {
    let state = means.publisher.state();
    let Some(node) = state.nodes.values().find(|node| node.raft_id == leader) else { return };
    if node.number == means.ground.me {
        means.office.tell(Input::Report(report));
        return;
    }
    let message = ReportMessage { session: means.ground.session, report: (*report).clone() };
    let Ok(body) = serde_json::to_vec(&message) else { return };
    let sent = means.peers.call(node.number, kinds::REPORT, body, REPORT_PATIENCE).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "a report did not reach the director");
    }
}

/// Keeps the view's local part, the guard, the connections and the director's facts up to date.
async fn tell(
    means: Arc<Means>,
    orders: Orders,
    mut latest: watch::Receiver<Option<Arc<Report>>>,
    heard: Arc<AtomicU64>,
) {
    let mut views = means.publisher.views();
    let mut leadership = means.log.leadership();
    let (mut disk, mut deleted) = (means.log.disk(), means.peers.deleted());
    let mut told = Told::default();
    loop {
        let report = latest.borrow_and_update().clone();
        let report = report.map(|report| of_now(report, &heard, &means.publisher.state()));
        let state = views.borrow_and_update().state.clone();
        let leads = leadership.borrow_and_update().clone();
        disk.mark_unchanged();
        told.step(&means, &orders, &state, &leads, report).await;
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
    surroundings: Option<Surroundings>,
}

impl Told {
    async fn step(
        &mut self,
        means: &Means,
        orders: &Orders,
        state: &ClusterState,
        leads: &Leadership,
        report: Option<Arc<Report>>,
    ) {
        let facts = Facts {
            me: means.ground.me,
            state,
            log: LogSeen {
                leads: leads.me,
                led: leads.leader.is_some(),
                term: leads.term,
                applied: leads.last_applied,
                committed: leads.committed,
            },
            report: report.as_deref(),
            disk: &means.log.disk().borrow().clone(),
            deleted: means.peers.deleted().borrow().map(|deleted| deleted.by),
        };
        let standing = Standing::of(&facts, self.past);
        self.past = standing.past();
        means.continuity.store(standing.continuity, Ordering::SeqCst);
        if let Some(report) = &report {
            means.peers.set_links(&report.links);
        }
        self.surround(means, orders, state, leads).await;
        let log_stalled = means.publisher.views().borrow().local.log.stalled_since.is_some();
        self.status(orders, (&standing, log_stalled), leads, state).await;
        means.publisher.update_local(|local| {
            standing.apply(local);
            if let Some(report) = report.as_deref().filter(|_| local.report != report) {
                Arc::make_mut(&mut local.clocks).learn(report, own_clock_us());
            }
            local.report = report;
        });
    }

    /// Members, addresses, timers: to the guard, the connections and the disk.
    async fn surround(
        &mut self,
        means: &Means,
        orders: &Orders,
        state: &ClusterState,
        leads: &Leadership,
    ) {
        let ground = &means.ground;
        let now = surroundings::of_state(ground.me, state, leads);
        means.peers.roster().set_outdated(now.is_none());
        if let Some(now) = now
            && !self.surroundings.as_ref().is_some_and(|old| surroundings::same(old, &now))
        {
            means.peers.update(now.members.clone());
            for error in means.server.listen_on(&surroundings::listens_at(&now, ground.me)) {
                tracing::error!(%error, "other nodes cannot reach this one there");
            }
            if let Err(error) = ground.dir.store_document(WELCOME, &now) {
                tracing::error!(%error, "the members of the cluster cannot be kept on disk");
            }
            self.surroundings = Some(now);
        }
        let known = self.surroundings.as_ref().unwrap_or(&ground.surroundings);
        let configure = configure(ground, known, state);
        if self.configure.as_ref() != Some(&configure) {
            send(orders, &Order::Configure(Box::new(configure.clone()))).await;
            self.configure = Some(configure);
        }
    }

    /// How the agent does: at every change, and again and again as a sign of life.
    async fn status(
        &mut self,
        orders: &Orders,
        (standing, log_stalled): (&Standing, bool),
        leads: &Leadership,
        state: &ClusterState,
    ) {
        // A director is one from when everybody knows of its office.
        let in_office = leads.me && state.term == leads.term;
        let director = leads.confirmed_at().filter(|_| in_office).map(|at| Confirmed {
            term: leads.term,
            age_us: u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
        let news = (standing.agent, director.map(|confirmed| confirmed.term), standing.continuity);
        let every = status_every(leads, state, self.position);
        let due = self.status_at.is_none_or(|at| at.elapsed() >= every);
        if self.status == Some(news) && !due {
            return;
        }
        self.status = Some(news);
        self.position = leads.last_applied;
        self.status_at = Some(tokio::time::Instant::now());
        let order = Order::Status {
            status: standing.agent,
            director,
            continuity: standing.continuity,
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

fn configure(ground: &Known, known: &Surroundings, state: &ClusterState) -> Configure {
    let own = known.members.get(&ground.me);
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
        known.members.iter().filter(|(number, _)| **number != ground.me).map(|(number, peer)| {
            PeerNode {
                number: *number,
                storage: peer.storage,
                live: surroundings::is_live(state, *number),
                addresses: peer
                    .addresses
                    .iter()
                    .map(|(network, address)| (*network, address.ip()))
                    .collect(),
            }
        });
    let voters = state.voter_set();
    Configure {
        me: ground.me,
        storage: own.map_or(StorageId([0; 16]), |own| own.storage),
        cluster: ground.cluster,
        key: Secret::new(ground.key.0),
        timing: known.settings.timing,
        networks: networks.collect(),
        peers: peers.collect(),
        voters: voters.numbers().collect(),
        voters_since: voters.since,
    }
}
