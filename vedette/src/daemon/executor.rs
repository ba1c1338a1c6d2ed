//! Does the resource work of this node: drives the core's [`Machine`] and carries out what comes out of it.
//!
//! What is decided is decided there. Here are its operations ([`ResourceOps`]), the guard's socket, the log to which it reports,
//! the scripts that ask, and the clock. Outputs are carried out in the order in which they come, by one task;
//! what takes time is a task of its own, and the next input when it is over.
//!
//! Adapters are the node's and not a group's: standby adapters are looked after ([`standby`]), and
//! exchanged for one that failed ([`swap`]).

mod carry;
mod foreign;
mod own;
mod reporter;
mod resource_ops;
mod sightings;
mod standby;
mod swap;
mod units;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use vedette_core::group::Instance;
use vedette_core::holding::executor::{Desk, Executor as Machine, Input, Now, Op, Output, Seen};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;
use vedette_core::record::Code;
use vedette_core::state::ClusterState;
use vedette_core::time::Instant;
use vedette_core::view::View;
use vedette_node::guard::client::{LeaseWatch, Orders};
use vedette_node::guard::protocol::Holding;
use vedette_node::hold;

use super::local_log::{LocalLog, boot_time_us};
use super::proposer::Proposer;
use super::publisher::Publisher;

use reporter::Reporter;
pub(crate) use resource_ops::ResourceOps;
use vedette_core::holding::executor::GuardFacts;
pub(crate) use vedette_core::holding::executor::{Said, Stop, Verb};

/// How long stopping in order may take when the process has to end.
const IN_ORDER: Duration = Duration::from_secs(10);

/// What the executor needs.
pub(crate) struct ExecutorDeps {
    pub(crate) me: NodeNumber,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) ops: ResourceOps,
    pub(crate) local: LocalLog,
}

/// Somebody who waits for an answer.
struct Asking {
    lines: Option<mpsc::Sender<String>>,
    answer: oneshot::Sender<Result<Said, Stop>>,
}

/// What all tasks of the executor share.
struct Shared {
    me: NodeNumber,
    proposer: Proposer,
    publisher: Arc<Publisher>,
    ops: ResourceOps,
    local: LocalLog,
    orders: OnceLock<Orders>,
    /// What lets go if the guard cannot.
    watch: OnceLock<LeaseWatch>,
    machine: Mutex<Machine>,
    /// What is to be carried out.
    out: mpsc::UnboundedSender<Output>,
    /// The machine's deadline may be another one.
    bell: Notify,
    /// Counts whatever others may wait for.
    news: watch::Sender<u64>,
    /// Operations under way.
    under_way: Mutex<BTreeMap<u64, JoinHandle<()>>>,
    asking: Mutex<BTreeMap<u64, Asking>>,
    asked: AtomicU64,
    reporters: Mutex<BTreeMap<String, Reporter>>,
    /// The token of each group whose release was written down last.
    told: Mutex<BTreeMap<String, u64>>,
    /// The guard's last release as it told of it when this agent connected: the epoch that began with it,
    /// when the lease had ended and when everything was released.
    last_release: Mutex<Option<(u64, (u64, u64))>>,
    /// The event in which the adapters of a network were exchanged last.
    swapped: tokio::sync::Mutex<BTreeMap<NetworkNumber, u64>>,
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// An executor that does nothing until it has a guard ([`Executor::start`]).
    pub(crate) fn new(deps: ExecutorDeps) -> Self {
        let view = deps.publisher.views().borrow().clone();
        let (out, to_carry_out) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            me: deps.me,
            proposer: deps.proposer,
            publisher: deps.publisher,
            ops: deps.ops,
            local: deps.local,
            orders: OnceLock::new(),
            watch: OnceLock::new(),
            machine: Mutex::new(Machine::new(deps.me, seen(&view))),
            out,
            bell: Notify::new(),
            news: watch::Sender::new(0),
            under_way: Mutex::default(),
            asking: Mutex::default(),
            asked: AtomicU64::new(0),
            reporters: Mutex::default(),
            told: Mutex::default(),
            last_release: Mutex::default(),
            swapped: tokio::sync::Mutex::default(),
        });
        tokio::spawn(carry::out(shared.clone(), to_carry_out));
        Self(shared)
    }

    /// Starts its work, for which it speaks to the guard by `orders`.
    pub(crate) fn start(&self, orders: Orders, watch: LeaseWatch) {
        let _ = self.0.watch.set(watch.clone());
        let _ = self.0.ops.lease.set(watch.clone());
        if self.0.orders.set(orders).is_ok() {
            self.0.remember_stuck();
            tokio::spawn(keep_time(self.0.clone()));
            tokio::spawn(follow_watch(self.0.clone(), watch));
            tokio::spawn(resource_ops::prepare(self.0.clone()));
            tokio::spawn(units::follow(self.0.clone()));
            tokio::spawn(standby::watch(self.0.clone()));
            tokio::spawn(sightings::watch(self.0.clone()));
            tokio::spawn(foreign::watch(self.0.clone()));
            tokio::spawn(own::show(self.0.clone()));
        }
    }

    /// Takes a report of the guard.
    pub(crate) fn take_report(&self, report: &Report) {
        let (voters, timing) = (report.voters, report.timing);
        let (lease, released) = (report.lease, report.released);
        self.0.act(Input::Report { voters, timing, lease, released });
    }

    /// The guard let go of everything, and is in a new epoch; when the lease had ended and when it was
    /// done, on the clock that counts from the machine's start. Of those groups something is `left`.
    pub(crate) fn released_all(
        &self,
        epoch: u64,
        (ended_us, released_us): (u64, u64),
        reaper: bool,
        left: &[String],
    ) {
        self.0.local.lease_ended(ended_us);
        self.0.tell_released(epoch, (ended_us, released_us), reaper, left);
        self.0.act(Input::ReleasedAll { epoch, left: !left.is_empty() });
    }

    /// The guard says what it holds: an answer, or what an agent that connects finds.
    pub(crate) fn holding(&self, holding: &Holding) {
        let shared = &self.0;
        shared.local.condition(Code::ReaperLost, holding.reaper.clone());
        if let Some(release) = holding.last_release_us {
            *lock(&shared.last_release) = Some((holding.epoch, release));
            shared.local.lease_ended(release.0);
        }
        let release_max = millis(shared.state().settings.timing.release_max_ms);
        let taken = shared.watch.get().is_some_and(|watch| watch.hold(holding, release_max));
        let over = (!taken).then(|| "the lease of this node is over".to_owned());
        let facts = Box::new(GuardFacts::from(holding));
        let (sequence, refused) = (holding.sequence, holding.refused.clone().or(over));
        shared.act(Input::Holding { facts, sequence, refused });
    }

    /// What may be said of this node's guard now, if anything may.
    pub(crate) fn guard(&self) -> Option<GuardFacts> {
        self.0.desk(|desk| desk.presentable(now()))
    }

    /// Now, and whether this node's lease lasts.
    pub(crate) fn moment(&self) -> Now {
        self.0.moment()
    }

    /// When there is more to say of it at the latest, whatever happens.
    pub(crate) fn patience_ends(&self) -> Option<Instant> {
        self.0.desk(|desk| desk.patience_ends(now()))
    }

    /// Woken when what is held, what the guard says or the lease may have changed.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// Does what a script asks for; what happens meanwhile goes to `lines`.
    pub(crate) async fn perform(
        &self,
        verb: Verb,
        group: &str,
        lines: mpsc::Sender<String>,
    ) -> Result<Said, Stop> {
        if verb == Verb::Swap {
            return self.0.swap(group, &lines).await;
        }
        let (ask, mut answered) = self.0.ask(group, Op::Perform(verb), Some(lines.clone()));
        let answer = tokio::select! {
            answer = &mut answered => answer,
            () = lines.closed() => {
                self.0.act(Input::Forgotten { ask });
                answered.await
            }
        };
        answer.unwrap_or_else(|_| Err(Stop::failed("the agent is ending")))
    }

    /// Lets go of an instance that nobody gave leave for any more.
    pub(crate) async fn clean_up(&self, group: String, token: u64) {
        let _ = self.0.ask(&group, Op::CleanUp { token }, None).1.await;
    }

    /// Nothing that the lease covers may stay when this process ends: what is still held is stopped in
    /// order, for a while, and then taken away as the guard would. Who is not `patient` does not wait for what could
    /// not be stopped once.
    pub(crate) async fn let_go_of_all(&self, patient: bool) {
        let mut news = self.news();
        news.borrow_and_update();
        self.0.act(Input::End);
        let is_over = |desk: &mut Desk| {
            let given_up = |group: &String| !patient && desk.stuck().groups.contains_key(group);
            desk.is_ending() && desk.ends_with_the_lease().keys().all(given_up)
        };
        let over = async {
            // Looked at between two pieces of news: who looks has a turn, and may have news itself.
            while !self.0.desk(is_over) && news.changed().await.is_ok() {
                news.borrow_and_update();
            }
        };
        let ended = tokio::time::timeout(IN_ORDER, over).await.is_ok();
        let left = self.0.desk(|desk| desk.ends_with_the_lease());
        if !ended || !left.is_empty() {
            let all = self.0.ops.all(&self.0.state(), &left);
            let limit = millis(self.0.state().settings.timing.release_max_ms);
            let released =
                tokio::task::spawn_blocking(move || hold::release_all(&all, limit)).await;
            let failed = released.map(|released| released.failed).unwrap_or_default();
            tracing::error!(?failed, "what was held was taken away without order");
        }
    }
}

impl Shared {
    fn state(&self) -> Arc<ClusterState> {
        self.publisher.state()
    }

    /// Looks at what the machine knows, with the latest view.
    fn desk<T>(&self, look: impl FnOnce(&mut Desk) -> T) -> T {
        self.see();
        let machine = lock(&self.machine);
        let mut desk = machine.desk();
        look(&mut desk)
    }

    /// Has the machine see the latest view.
    fn see(&self) {
        self.drive(|machine, now, out| self.show(machine, now, out));
    }

    fn show(&self, machine: &mut Machine, now: Now, out: &mut Vec<Output>) {
        let seen = seen(&self.publisher.views().borrow());
        let known = machine.desk().has_seen(&seen);
        if !known {
            machine.handle(now, Input::Seen(seen), out);
        }
    }

    /// Tells the machine what happened. It goes by the latest view.
    fn act(&self, input: Input) {
        self.drive(|machine, now, out| {
            self.show(machine, now, out);
            machine.handle(now, input, out);
        });
    }

    fn moment(&self) -> Now {
        Now { at: now(), lease: self.watch.get().is_some_and(LeaseWatch::is_valid) }
    }

    fn drive(&self, turn: impl FnOnce(&mut Machine, Now, &mut Vec<Output>)) {
        let mut machine = lock(&self.machine);
        let (deadline, mut out) = (machine.deadline(), Vec::new());
        turn(&mut machine, self.moment(), &mut out);
        // In the order in which they came: nobody else has a turn meanwhile.
        for output in out {
            let _ = self.out.send(output);
        }
        let news = machine.desk().news();
        self.news.send_if_modified(|known| std::mem::replace(known, news) != news);
        if machine.deadline() != deadline {
            self.bell.notify_one();
        }
    }

    /// Asks the worker of a group.
    fn ask(
        &self,
        group: &str,
        op: Op,
        lines: Option<mpsc::Sender<String>>,
    ) -> (u64, oneshot::Receiver<Result<Said, Stop>>) {
        let ask = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        lock(&self.asking).insert(ask, Asking { lines, answer });
        self.act(Input::Ask { ask, group: group.to_owned(), op });
        (ask, answered)
    }

    /// Whether this node has a say, and its state on hand is of now.
    fn has_quorum(&self) -> bool {
        let view = self.publisher.views().borrow().clone();
        view.local.agent == AgentStatus::Running && view.local.quorate
    }

    /// The instance of a group on this node, as the state on hand has it.
    fn instance(&self, state: &ClusterState, group: &str) -> Option<Instance> {
        state.groups.get(group)?.instances.get(&self.me).cloned()
    }

    fn token_held(&self, group: &str) -> Option<u64> {
        self.desk(|desk| desk.token_held(group))
    }
}

/// The cluster, as the machine goes by it.
pub(crate) fn seen(view: &View) -> Seen {
    Seen {
        state: view.state.clone(),
        quorate: view.local.quorate,
        running: view.local.agent == AgentStatus::Running,
        lease: view.local.report.as_ref().map(|_| view.local.lease),
    }
}

/// Calls the machine when it wants to be called.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let deadline = lock(&shared.machine).deadline();
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.since(now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.drive(Machine::on_timeout),
            () = shared.bell.notified() => {}
        }
    }
}

/// Takes the lease for lost whenever the watch had to let go by itself.
async fn follow_watch(shared: Arc<Shared>, watch: LeaseWatch) {
    let mut releases = watch.releases();
    while releases.changed().await.is_ok() {
        shared.tell_let_go(u64::MAX, "its guard was silent, so its agent released it", None, &[]);
        shared.act(Input::LetGoWithoutGuard);
    }
}

/// The moment, on the clock that counts from the machine's start.
pub(crate) fn now() -> Instant {
    Instant::from_micros(boot_time_us())
}

/// A duration that a definition gives in milliseconds.
fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}
