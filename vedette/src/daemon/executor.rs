//! Does the resource work of this node: acquires, releases and watches groups.
//!
//! One worker a group, and one operation of it at a time. A worker touches nothing without an
//! *instance* in the state (the cluster's leave, with a token) and a lease; the guard is told what is
//! held before anything of it is started, so that it can let go of it without asking anybody. What a
//! worker holds it also watches; what fails is restarted in place, and reported when that is no use.
//!
//! The supervisor keeps workers and state together: what the state says is online here and nobody
//! holds is adopted (the agent was restarted), what is held and the state no longer knows is let go of,
//! and so is everything that the lease covers ([`cover`]) when it is lost.
//!
//! Adapters are the node's and not a group's: standby adapters are looked after ([`standby`]), and
//! exchanged for one that failed ([`swap`]).

mod answer;
mod cover;
mod foreign;
mod hands;
mod lease;
mod own;
mod reporter;
mod sightings;
mod standby;
mod swap;
mod units;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vedette_core::group::{GroupState, Instance, ResourceDef, ResourceKind};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{AgentStatus, HostStatus, NetworkStatus, Timing};
use vedette_core::observation::Report;
use vedette_core::record::Code;
use vedette_core::state::ClusterState;
use vedette_core::takeover::{Backing, Unreleased};
use vedette_core::time::WallTime;
use vedette_core::view::View;
use vedette_core::work;
use vedette_node::guard::client::{LeaseWatch, Orders};
use vedette_node::guard::protocol::{Hold, Holding, Order};
use vedette_node::hold;

use super::local_log::LocalLog;
use super::proposer::Proposer;
use super::publisher::Publisher;

pub(crate) use answer::{Said, Stop, Verb};
pub(crate) use hands::Hands;
use lease::Lease;
use worker::Worker;

/// Operations of one group that may wait; scripts ask for one at a time.
const QUEUE: usize = 16;

/// How long the guard may take to answer. It does so at once, unless it is stopped.
const GUARD_ANSWERS: Duration = Duration::from_secs(3);

/// How long stopping in order may take when the process has to end.
const IN_ORDER: Duration = Duration::from_secs(10);

/// What the executor needs.
pub(crate) struct Means {
    pub(crate) me: NodeNumber,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) hands: Hands,
    pub(crate) local: LocalLog,
}

/// What a worker can be asked for.
enum Op {
    /// From a script.
    Perform { verb: Verb, lines: mpsc::Sender<String>, answer: oneshot::Sender<Result<Said, Stop>> },
    /// The state asks for it: nothing of it may stay.
    CleanUp { token: u64, done: oneshot::Sender<()> },
    /// It was online here when this agent started, or was left running in a new epoch of the guard.
    Adopt { token: u64 },
    /// The cluster lost sight of it while it was left running: it is looked at and taken up as it is.
    TakeUp { token: u64 },
    /// Nobody looks after it any more, and it goes on.
    Leave { token: u64 },
    /// It is not this node's any more.
    Drop { token: u64, why: String },
    /// Some of it runs here although it is not this node's.
    StopExtra { resources: BTreeSet<String>, done: oneshot::Sender<()> },
    /// Neighbours may have forgotten whose its addresses are.
    Announce,
    /// An address of it is on an adapter without a link, and there is a better place.
    Settle,
}

/// What is held here: its token, the guard's epoch, and the resources as they were started.
#[derive(Clone, Debug)]
struct Held {
    token: u64,
    epoch: u64,
    resources: Vec<ResourceDef>,
}

impl Held {
    /// A resource and all that was started after it.
    fn from(&self, resource: &str) -> &[ResourceDef] {
        let place = self.resources.iter().position(|it| it.name == resource).unwrap_or(0);
        &self.resources[place..]
    }
}

/// What the guard says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuardFacts {
    /// What stands behind it.
    pub(crate) backing: Backing,
    /// Why the watchdog that is configured does not, if it does not.
    pub(crate) watchdog: Option<String>,
    /// Why there is no reaper, if there is none.
    pub(crate) reaper: Option<String>,
    /// What was not let go of when the lease ended.
    pub(crate) unreleased: Unreleased,
    /// Something of earlier epochs is still let go of, and may be gone in a moment.
    goes_on: bool,
    /// What is held is held in one epoch; with the next, everything before it was let go.
    pub(crate) epoch: u64,
    /// The set of voters that its lease stands on.
    pub(crate) voters: u64,
    /// The timers that it goes by.
    pub(crate) timing: Option<Timing>,
}

/// What all workers share.
struct Shared {
    me: NodeNumber,
    proposer: Proposer,
    publisher: Arc<Publisher>,
    hands: Hands,
    local: LocalLog,
    orders: OnceLock<Orders>,
    /// What lets go if the guard cannot.
    watch: OnceLock<LeaseWatch>,
    lease: watch::Sender<Lease>,
    guard: watch::Sender<Option<GuardFacts>>,
    workers: Mutex<BTreeMap<String, mpsc::Sender<Op>>>,
    held: Mutex<BTreeMap<String, Held>>,
    /// What of it is in the guard's orders.
    cover: Mutex<cover::Cover>,
    /// When the cluster lost sight of what was taken up as it is, so that it is done once each time.
    taken_up: Mutex<BTreeMap<String, (u64, WallTime)>>,
    /// What was let go of without a lease, by token and epoch, until that is written down.
    dropped: Mutex<BTreeMap<String, (u64, u64)>>,
    /// The token of each group whose release was written down last.
    told: Mutex<BTreeMap<String, u64>>,
    /// The guard's last release as it told of it when this agent connected: the epoch that began with it,
    /// when the lease had ended and when everything was released.
    last_release: Mutex<Option<(u64, (u64, u64))>>,
    /// The set of voters that the guard said it goes by, and its timers.
    goes_by: Mutex<(u64, Option<Timing>)>,
    /// What cannot be let go of.
    stuck: Mutex<Unreleased>,
    /// Groups of earlier epochs of which the guard sees something that does not go.
    seen_stuck: Mutex<BTreeMap<String, String>>,
    /// When the guard's present epoch began, as far as this agent knows.
    epoch_began: Mutex<Option<Instant>>,
    /// The newest token of each group that was let go of here.
    over: Mutex<BTreeMap<String, u64>>,
    /// Counts what was let go of.
    let_go: watch::Sender<u64>,
    /// Orders to the guard about what is held, counted, one at a time.
    telling: tokio::sync::Mutex<AtomicU64>,
    /// The last of them that the guard answered, and why it refused if it did.
    answered: watch::Sender<(u64, Option<String>)>,
    /// The event in which the adapters of a network were exchanged last.
    swapped: tokio::sync::Mutex<BTreeMap<NetworkNumber, u64>>,
    /// Groups that were asked to move addresses to a better adapter, and have not come to it.
    settling: Mutex<BTreeSet<String>>,
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// An executor that does nothing until it has a guard ([`Executor::start`]).
    pub(crate) fn new(means: Means) -> Self {
        Self(Arc::new(Shared {
            me: means.me,
            proposer: means.proposer,
            publisher: means.publisher,
            hands: means.hands,
            local: means.local,
            orders: OnceLock::new(),
            watch: OnceLock::new(),
            lease: watch::Sender::new(Lease::default()),
            guard: watch::Sender::new(None),
            workers: Mutex::default(),
            held: Mutex::default(),
            cover: Mutex::default(),
            taken_up: Mutex::default(),
            dropped: Mutex::default(),
            told: Mutex::default(),
            last_release: Mutex::default(),
            goes_by: Mutex::new((0, None)),
            stuck: Mutex::default(),
            seen_stuck: Mutex::default(),
            epoch_began: Mutex::default(),
            over: Mutex::default(),
            let_go: watch::Sender::new(0),
            telling: tokio::sync::Mutex::default(),
            answered: watch::Sender::default(),
            swapped: tokio::sync::Mutex::default(),
            settling: Mutex::default(),
        }))
    }

    /// Starts the supervisor, which speaks to the guard by `orders`.
    pub(crate) fn start(&self, orders: Orders, watch: LeaseWatch) {
        let _ = self.0.watch.set(watch.clone());
        let _ = self.0.hands.lease.set(watch.clone());
        if self.0.orders.set(orders).is_ok() {
            self.0.remember_stuck();
            tokio::spawn(supervise(self.clone()));
            tokio::spawn(cover::follow(self.0.clone()));
            tokio::spawn(units::follow(self.0.clone()));
            tokio::spawn(lease::follow(self.0.clone(), watch));
            tokio::spawn(standby::watch(self.clone()));
            tokio::spawn(sightings::watch(self.clone()));
            tokio::spawn(foreign::watch(self.clone()));
            tokio::spawn(own::show(self.0.clone()));
        }
    }

    /// Takes a report of the guard.
    pub(crate) fn take_report(&self, report: &Report) {
        self.0.guard.send_if_modified(|known| {
            let said = (report.voters, report.timing);
            let known = known.as_mut().filter(|known| (known.voters, known.timing) != said);
            known.map(|known| (known.voters, known.timing) = said).is_some()
        });
        *lock(&self.0.goes_by) = (report.voters, report.timing);
        self.0.lease.send_if_modified(|lease| lease.take(report.lease, report.released));
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
        lock(&self.0.cover).over();
        self.0.tell_released(epoch, (ended_us, released_us), reaper, left);
        *lock(&self.0.epoch_began) = Some(Instant::now());
        self.0.guard.send_modify(|facts| {
            if let Some(facts) = facts {
                (facts.epoch, facts.unreleased.guard) = (epoch, None);
                // What does not go is named after that.
                facts.goes_on = !left.is_empty();
            }
        });
        self.0.lease.send_modify(Lease::lose);
    }

    /// The guard says what it holds: an answer, or what an agent that connects finds.
    pub(crate) fn holding(&self, holding: &Holding) {
        let (voters, timing) = *lock(&self.0.goes_by);
        let facts = GuardFacts {
            backing: holding.backing,
            watchdog: holding.watchdog.clone(),
            reaper: holding.reaper.clone(),
            unreleased: Unreleased {
                guard: holding.unreleased.clone(),
                groups: holding.stuck.clone(),
            },
            goes_on: holding.goes_on,
            epoch: holding.epoch,
            voters,
            timing,
        };
        self.0.local.condition(Code::ReaperLost, facts.reaper.clone());
        if let Some(release) = holding.last_release_us {
            *lock(&self.0.last_release) = Some((holding.epoch, release));
            self.0.local.lease_ended(release.0);
        }
        self.0.tell_stuck(|stuck| stuck.guard.clone_from(&holding.unreleased));
        if std::mem::replace(&mut *lock(&self.0.seen_stuck), holding.stuck.clone()) != holding.stuck
        {
            self.0.show_stuck();
        }
        lock(&self.0.epoch_began).get_or_insert_with(Instant::now);
        self.0.guard.send_if_modified(|known| known.replace(facts.clone()) != Some(facts));
        let release_max = millis(self.0.state().settings.timing.release_max_ms);
        let taken = self.0.watch.get().is_some_and(|watch| watch.hold(holding, release_max));
        if holding.sequence > 0 {
            let over = (!taken).then(|| "the lease of this node is over".to_owned());
            self.0.answered.send_replace((holding.sequence, holding.refused.clone().or(over)));
        }
    }

    /// What may be said of this node's guard: nothing before it was heard, and nothing for a moment while
    /// something is held that it gave up, because a new epoch says that nothing is. What takes longer to stop,
    /// or does not, is named, and holds up nothing else.
    pub(crate) fn guard(&self) -> Option<GuardFacts> {
        let facts = self.0.guard.borrow().clone().filter(|facts| !facts.goes_on)?;
        let mut groups = self.0.unreleased(&self.0.state(), facts.epoch)?;
        for (group, why) in facts.unreleased.groups {
            groups.entry(group).or_insert(why);
        }
        let unreleased = Unreleased { groups, ..facts.unreleased };
        Some(GuardFacts { unreleased, ..facts })
    }

    /// When there is more to say of it at the latest, whatever happens.
    pub(crate) fn patience_ends(&self) -> Option<Instant> {
        let began = (*lock(&self.0.epoch_began))?;
        Some(began + own::PATIENCE).filter(|at| *at > Instant::now())
    }

    /// What the guard says, followed as it changes.
    pub(crate) fn guards(&self) -> watch::Receiver<Option<GuardFacts>> {
        self.0.guard.subscribe()
    }

    /// Woken when something was let go of.
    pub(crate) fn let_go(&self) -> watch::Receiver<u64> {
        self.0.let_go.subscribe()
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
        let (answer, answered) = oneshot::channel();
        self.send(group, Op::Perform { verb, lines, answer }).await;
        answered.await.unwrap_or_else(|_| Err(Stop::failed("the agent is ending")))
    }

    /// Lets go of an instance that nobody gave leave for any more.
    pub(crate) async fn clean_up(&self, group: String, token: u64) {
        let (done, over) = oneshot::channel();
        self.send(&group, Op::CleanUp { token, done }).await;
        let _ = over.await;
    }

    /// Nothing that the lease covers may stay when this process ends: what is still held is stopped in
    /// order, for a while, and then taken away as the guard would. Who is not `patient` does not wait for what could
    /// not be stopped once.
    pub(crate) async fn let_go_of_all(&self, patient: bool) {
        // What is left running since a moment ago may be in the guard's orders, and the guard ends too.
        if let Err(why) = self.0.tell().await {
            tracing::debug!(why, "the guard is not told what is left running");
        }
        for (group, held) in self.0.ends_with_the_lease() {
            let token = held.token;
            self.send(&group, Op::Drop { token, why: "its daemon ends".into() }).await;
        }
        let mut let_go = self.0.let_go.subscribe();
        let over = |group: &String| !patient && lock(&self.0.stuck).groups.contains_key(group);
        let empty = let_go.wait_for(|_| self.0.ends_with_the_lease().keys().all(over));
        let ended = tokio::time::timeout(IN_ORDER, empty).await.is_ok();
        let in_order = ended && self.0.ends_with_the_lease().is_empty();
        if !in_order {
            let all = self.0.hands.all(&self.0.state(), &self.0.ends_with_the_lease());
            let limit = millis(self.0.state().settings.timing.release_max_ms);
            let released =
                tokio::task::spawn_blocking(move || hold::release_all(&all, limit)).await;
            let failed = released.map(|released| released.failed).unwrap_or_default();
            tracing::error!(?failed, "what was held was taken away without order");
        }
    }

    async fn send(&self, group: &str, op: Op) {
        let sender = lock(&self.0.workers)
            .entry(group.to_owned())
            .or_insert_with(|| {
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::spawn(Worker::new(group.to_owned(), self.0.clone()).run(receiver));
                sender
            })
            .clone();
        let _ = sender.send(op).await;
    }
}

impl Shared {
    fn state(&self) -> Arc<ClusterState> {
        self.publisher.state()
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

    /// Keeps in mind what is held, and tells the guard: before anything is started, and after the
    /// last of it was stopped. Nothing may be started unless the guard agrees.
    async fn hold(&self, group: &str, held: Option<Held>) -> Result<(), String> {
        {
            let mut all = lock(&self.held);
            if let Some(held) = held {
                all.insert(group.to_owned(), held);
            } else {
                all.remove(group);
            }
        }
        self.let_go.send_modify(|times| *times += 1);
        self.tell().await
    }

    /// Tells the guard what it is to hold.
    async fn tell(&self) -> Result<(), String> {
        let one_at_a_time = self.telling.lock().await;
        let sequence = one_at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
        let Some(orders) = self.orders.get() else { return Err("its guard is not there".into()) };
        let (order, covered) = self.order(sequence);
        lock(&self.cover).tell(&covered);
        let order = Order::Hold(Box::new(order));
        orders.send(&order).await.map_err(|error| error.to_string())?;
        let mut answers = self.answered.subscribe();
        let answer = answers.wait_for(|answer| answer.0 >= sequence);
        match tokio::time::timeout(GUARD_ANSWERS, answer).await {
            Ok(Ok(answer)) => answer.1.clone().map_or(Ok(()), Err)?,
            _ => {
                return Err(format!(
                    "its guard did not answer within {} s",
                    GUARD_ANSWERS.as_secs()
                ));
            }
        }
        lock(&self.cover).accepted(covered);
        Ok(())
    }

    /// All that the lease is to cover, for the guard, and the names of those groups; also what stands in
    /// the state as this node's and was not adopted yet: the guard goes on watching over that. Addresses
    /// of what is left running are no business of the guard's.
    fn order(&self, sequence: u64) -> (Hold, BTreeSet<String>) {
        let state = self.state();
        let mut all = lock(&self.held).clone();
        let epoch = self.guard.borrow().as_ref().map_or(0, |facts| facts.epoch);
        for (name, group) in &state.groups {
            let Some(instance) = group.instances.get(&self.me) else { continue };
            let token = instance.token;
            let definition = group.retired.as_ref().or_else(|| state.definition.group(name));
            if !self.is_over(name, token)
                && let Some(definition) = definition
            {
                let resources = definition.resources.clone();
                all.entry(name.clone()).or_insert(Held { token, epoch, resources });
            }
        }
        let (covered, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(group, _)| self.covers(&state, group));
        let held = self.hands.all(&state, &covered);
        let mut known = self.hands.known(&state);
        for left in self.hands.all(&state, &left).addresses {
            known.remove(&left.address);
        }
        let mine = lock(&self.held).clone();
        let current = |group: &&String| mine.get(*group).is_some_and(|held| held.epoch == epoch);
        let anew =
            covered.keys().filter(current).filter_map(|it| Some(state.groups.get(it)?.number));
        let anew = anew.collect();
        (Hold { sequence, epoch, known, held, anew }, covered.into_keys().collect())
    }

    /// What is held and may be gone with the lease.
    fn ends_with_the_lease(&self) -> BTreeMap<String, Held> {
        let mut held = lock(&self.held).clone();
        held.retain(|group, _| self.may_end(group));
        held
    }

    /// Whether the state on hand is one from which this node may act: it knows of the guard's
    /// present epoch.
    fn epoch(&self, state: &ClusterState) -> Option<u64> {
        let epoch = self.guard.borrow().as_ref()?.epoch;
        let known = state.manager.members.get(&self.me)?.epoch;
        (known == epoch).then_some(epoch)
    }

    /// Whether the lease lasts; asked before each step of an acquisition.
    fn has_lease(&self) -> bool {
        self.watch.get().is_some_and(LeaseWatch::is_valid)
    }

    fn set_over(&self, group: &str, token: u64) {
        let mut over = lock(&self.over);
        let newest = over.entry(group.to_owned()).or_default();
        *newest = token.max(*newest);
    }

    fn is_over(&self, group: &str, token: u64) -> bool {
        lock(&self.over).get(group).is_some_and(|over| token <= *over)
    }

    /// Remembers that a group is let go of because a lease ended, until that is written down: this may be
    /// done before the guard says that it has released everything, and after a lease was granted again.
    fn set_dropped(&self, group: &str, held: &Held) {
        lock(&self.dropped).insert(group.to_owned(), (held.token, held.epoch));
    }

    fn token_held(&self, group: &str) -> Option<u64> {
        lock(&self.held).get(group).map(|held| held.token)
    }
}

/// Follows the state for all groups.
async fn supervise(executor: Executor) {
    let shared = executor.0.clone();
    let mut views = shared.publisher.views();
    let mut guard = shared.guard.subscribe();
    let mut reach = Reach::default();
    // Once each: a worker may be busy with it for long.
    let mut left = BTreeSet::new();
    loop {
        let view = views.borrow_and_update().clone();
        let facts = guard.borrow_and_update().clone();
        if let Some(facts) = &facts
            && view.local.agent == AgentStatus::Running
            && view.local.quorate
        {
            prepare(&shared, &view.state);
            for (group, op) in differences(&shared, &view.state, facts.epoch) {
                executor.send(&group, op).await;
            }
        } else if let Some(facts) =
            facts.as_ref().filter(|_| view.local.report.is_some() && !view.local.lease)
        {
            for (group, token) in left_behind(&shared, &view.state, facts) {
                if left.insert((group.clone(), token)) {
                    shared.tell_missed(facts.epoch, &group, token);
                    let why = "its lease was over".to_owned();
                    executor.send(&group, Op::Drop { token, why }).await;
                }
            }
        }
        if reach.grew(&view) {
            let groups: Vec<String> = lock(&shared.held).keys().cloned().collect();
            for group in groups {
                executor.send(&group, Op::Announce).await;
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = guard.changed() => if changed.is_err() { return },
        }
    }
}

/// Begins what takes time for groups that may come here, while their old owner has them or their turn has not
/// come.
fn prepare(shared: &Arc<Shared>, state: &Arc<ClusterState>) {
    let mut wanted = BTreeSet::new();
    for group in work::coming(state, shared.me) {
        let Some(def) = state.definition.group(group) else { continue };
        let held = shared.token_held(group).is_some();
        for resource in &def.resources {
            let ResourceKind::Address { address, .. } = resource.kind else { continue };
            // What is held already may still wait for its start.
            wanted.insert(address);
            if held {
                continue;
            }
            let (shared, state) = (shared.clone(), state.clone());
            let (group, resource) = (group.to_owned(), resource.clone());
            let work = async move { shared.hands.prepare(&group, &state, &resource).await };
            tokio::spawn(work);
        }
    }
    shared.hands.probes.keep(&wanted);
}

/// What an earlier agent of this node had and no lease ended, while there is none: it is stopped at once, and no quorum
/// is waited for. The guard names what it still sees, and the state what lives where no guard looks.
fn left_behind(shared: &Shared, state: &ClusterState, facts: &GuardFacts) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for (name, group) in &state.groups {
        let Some(instance) = group.instances.get(&shared.me) else { continue };
        let named = facts.unreleased.groups.contains_key(name);
        let left = named || group.outside.contains_key(&shared.me);
        let token = instance.token;
        let known = shared.token_held(name).is_some() || shared.is_over(name, token);
        if left && !known && instance.is_covered() && !instance.is_left() {
            all.push((name.clone(), token));
        }
    }
    all
}

/// Where what is held and what the state says differ.
fn differences(shared: &Shared, state: &ClusterState, epoch: u64) -> Vec<(String, Op)> {
    let mut ops = Vec::new();
    let current = shared.epoch(state) == Some(epoch);
    for (name, group) in &state.groups {
        let Some(instance) = group.instances.get(&shared.me) else { continue };
        let token = instance.token;
        if instance.is_left() {
            ops.extend(left(shared, state, (name, instance), current).map(|op| (name.clone(), op)));
            continue;
        }
        if shared.token_held(name).is_some() || shared.is_over(name, token) {
            continue;
        }
        if !current && instance.is_covered() {
            // The agent was away while its guard gave everything up; what a guard cannot let go of,
            // such as a mounted file system, may still be here.
            shared.tell_missed(epoch, name, token);
            let why = "its lease was over".to_owned();
            ops.push((name.clone(), Op::Drop { token, why }));
        } else if current && instance.state == GroupState::Online {
            ops.push((name.clone(), Op::Adopt { token }));
        }
    }
    for (name, held) in lock(&shared.held).iter() {
        let known = shared.instance(state, name);
        let why = if held.epoch != epoch && shared.may_end(name) {
            "its lease was over"
        } else if current && known.is_none_or(|instance| instance.token != held.token) {
            "the cluster has taken it off this node"
        } else {
            if current && held.epoch != epoch {
                ops.push((name.clone(), Op::Adopt { token: held.token }));
            }
            continue;
        };
        ops.push((name.clone(), Op::Drop { token: held.token, why: why.to_owned() }));
    }
    ops
}

/// What was left running here: nobody looks after it, or it is taken up again as it is. A manager that was
/// stopped takes it up in the event of its start.
fn left(
    shared: &Shared,
    state: &ClusterState,
    (name, instance): (&str, &Instance),
    current: bool,
) -> Option<Op> {
    let token = instance.token;
    if instance.state == GroupState::Unmanaged {
        return (shared.token_held(name) == Some(token)).then_some(Op::Leave { token });
    }
    let joined = state.manager.members.get(&shared.me).is_some_and(|member| member.joined);
    if !current || !joined {
        return None;
    }
    let spell = (token, instance.since);
    let known = lock(&shared.taken_up).insert(name.to_owned(), spell);
    (known != Some(spell)).then_some(Op::TakeUp { token })
}

/// Who could be reached so far: when that grows, addresses are announced again, because whoever was
/// cut off may have learnt of another owner.
#[derive(Default)]
struct Reach {
    hosts: BTreeMap<NodeNumber, HostStatus>,
    networks: BTreeMap<NetworkNumber, NetworkStatus>,
    quorate: bool,
}

impl Reach {
    fn grew(&mut self, view: &View) -> bool {
        let now = Self {
            hosts: view.state.nodes.iter().map(|(number, node)| (*number, node.host)).collect(),
            networks: view.state.networks.iter().map(|(n, known)| (*n, known.status)).collect(),
            quorate: view.local.quorate,
        };
        let back = |(node, host): (&NodeNumber, &HostStatus)| {
            *host == HostStatus::Up
                && self.hosts.get(node).is_some_and(|old| *old != HostStatus::Up)
        };
        let grew = now.hosts.iter().any(back)
            || now.networks.iter().any(|(network, status)| {
                let old = self.networks.get(network);
                *status == NetworkStatus::Up && old.is_some_and(|old| *old != NetworkStatus::Up)
            })
            || (now.quorate && !self.quorate);
        *self = now;
        grew
    }
}

/// A duration that a definition gives in milliseconds.
fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}
