//! The executor's operations: resources as [`vedette_node::resource`] knows them, and what the guard is told.
//!
//! Nothing is decided here. What is needed of the state (addresses, standby adapters) is taken out of
//! it for each call, so that a change of the configuration holds from the next call on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::holding::executor::{Action, Done, Started};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::state::ClusterState;
use vedette_core::work;
use vedette_node::guard::client::LeaseWatch;
use vedette_node::hold;
use vedette_node::resource::duplicate::{Conflict, Probes};
use vedette_node::resource::interrupted::{Operation, UnderWay};
use vedette_node::resource::{self, Failure, Health, interrupted, resource};
use vedette_node::transcript::{Heading, Kind, Transcripts};

use super::super::runner::verbosity;
use super::{Shared, millis};

/// What an operation is about.
pub(super) struct Context {
    pub(super) group: String,
    pub(super) token: u64,
    pub(super) state: Arc<ClusterState>,
}

/// How long past its own limits an operation is waited for: resources end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// Does what is to be done on this machine.
#[derive(Clone, Debug)]
pub(crate) struct ResourceOps {
    pub(crate) me: NodeNumber,
    /// The directory of control groups of this node; none where the kernel has none.
    pub(crate) cgroup: Option<PathBuf>,
    /// A directory that survives a restart of the machine.
    pub(crate) state: PathBuf,
    /// A directory that need not.
    pub(crate) run: PathBuf,
    /// Who else has service addresses of this node.
    pub(crate) probes: Probes,
    /// The lease, as soon as there is a guard.
    pub(crate) lease: Arc<OnceLock<LeaseWatch>>,
    /// Where is kept what programs print.
    pub(crate) transcripts: Transcripts,
}

/// What a look at a resource showed on a node that does not have its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It runs.
    Runs,
    /// It does not, as far as can be seen.
    Off,
    /// Its monitor gave no answer, and why.
    Silent(String),
}

/// Why an operation was no success.
#[derive(Debug)]
struct Trouble {
    /// Reason, as the operation gave it.
    why: String,
    /// Nothing was seen in time.
    late: bool,
}

impl ResourceOps {
    /// Begins what takes time and changes nothing, for a resource that will be started here.
    async fn prepare(&self, group: &str, state: &ClusterState, def: &ResourceDef) {
        resource(def).prepare(&self.context(group, 0, state)).await;
    }

    /// Ends what an earlier agent of this node was doing when it died.
    pub(crate) async fn end_interrupted(&self) {
        for it in interrupted::end_all(&self.run, self.cgroup.as_deref()).await {
            match (it.ran, it.ended) {
                (_, false) => tracing::error!("{} of an earlier agent does not end", it.what),
                (true, true) => {
                    tracing::warn!("{} of an earlier agent still ran; it was ended", it.what)
                }
                (false, true) => {
                    tracing::warn!("an earlier agent did not see the end of {}", it.what)
                }
            }
        }
    }

    /// Does one thing with a resource.
    pub(super) async fn act(&self, of: &Context, action: Action, def: &ResourceDef) -> Done {
        let done = match action {
            Action::Start => self.start(of, def).await,
            Action::Stop => self.stop(of, def).await,
            Action::Monitor => self.monitor(of, def).await,
            Action::Settle => self.settle(&of.state, def).await,
        };
        let conflict = (action == Action::Start).then(|| self.conflict(def)).flatten();
        let conflict = conflict.map(|Conflict { hardware, device }| (hardware, device));
        match done {
            Ok(said) => Done { said, conflict, ..Done::default() },
            Err(Trouble { why, late }) => Done { said: why, failed: true, late, conflict },
        }
    }

    /// Who else was found to have the address of a resource when it was started last, once.
    fn conflict(&self, def: &ResourceDef) -> Option<Conflict> {
        let ResourceKind::Address { address, .. } = def.kind else { return None };
        self.probes.take_found(address)
    }

    /// Who else answers for the address of a resource that runs here.
    pub(super) async fn answered_besides(
        &self,
        group: &str,
        state: &ClusterState,
        def: &ResourceDef,
    ) -> Option<Conflict> {
        let ResourceKind::Address { address, .. } = def.kind else { return None };
        resource::address::answered_besides(&self.context(group, 0, state), address).await
    }

    /// Starts a resource; what is to be said about it.
    async fn start(&self, context: &Context, def: &ResourceDef) -> Result<String, Trouble> {
        let heading = self.heading(Kind::Resource, "start", context, def);
        let mut context = self.context(&context.group, context.token, &context.state);
        let (what, made) = (format!("starting {}", def.name), resource(def));
        let _mark = under_way(&mut context, def, Operation::Start)?;
        let work = self.kept(heading, made.start(&context));
        within(&what, def.start_timeout_ms, work).await
    }

    /// Stops a resource; nothing of it is left.
    async fn stop(&self, context: &Context, def: &ResourceDef) -> Result<String, Trouble> {
        let heading = self.heading(Kind::Resource, "stop", context, def);
        let mut context = self.context(&context.group, context.token, &context.state);
        let (what, made) = (format!("stopping {}", def.name), resource(def));
        let _mark = under_way(&mut context, def, Operation::Stop)?;
        // After its stop program it is looked at.
        let limit_ms = def.stop_timeout_ms.saturating_add(def.monitor_timeout_ms);
        let work = self.kept(heading, made.stop(&context));
        within(&what, limit_ms, work).await
    }

    /// Looks at a resource: whether it works.
    async fn monitor(&self, context: &Context, def: &ResourceDef) -> Result<String, Trouble> {
        let heading = self.heading(Kind::Monitor, "monitor", context, def);
        let context = self.context(&context.group, context.token, &context.state);
        let made = resource(def);
        let look = async {
            made.monitor(&context).await.and_then(|health| match health {
                Health::Running => Ok(String::new()),
                Health::NotRunning => {
                    Err(Failure::new("it does not run", "").with(context.printed.take()))
                }
            })
        };
        let look = self.kept(heading, look);
        within(&format!("looking at {}", def.name), def.monitor_timeout_ms, look).await
    }

    /// What a transcript of an operation says that it is of.
    fn heading(&self, kind: Kind, what: &str, context: &Context, def: &ResourceDef) -> Heading {
        let group = &context.group;
        let mut begun = context.state.manager.begun();
        let event = begun.find(|running| running.plans(group, self.me)).map(|it| &it.event);
        Heading {
            event: event.map(|event| event.id),
            incident: event.map(|event| event.incident),
            ..Heading::new(kind, what).of(group, &def.name)
        }
    }

    /// Keeps what a failure printed, and says where.
    async fn kept(
        &self,
        heading: Heading,
        work: impl Future<Output = Result<String, Failure>>,
    ) -> Result<String, Failure> {
        let failure = match work.await {
            Ok(detail) => return Ok(detail),
            Err(failure) => failure,
        };
        let how = failure.why.clone();
        let kept = self.transcripts.keep(heading, &how, &failure.output).await;
        let Some(words) = kept.map(|kept| kept.words()) else { return Err(failure) };
        Err(Failure { why: format!("{how}; {words}"), ..failure })
    }

    /// Whether a resource of a group runs here, whoever has the group: one that does not answer does not, unless
    /// the control group that its engine fills shows it.
    pub(super) async fn look(&self, group: &str, state: &ClusterState, def: &ResourceDef) -> Look {
        let answer = self.answer(group, state, def).await;
        match answer {
            _ if resource::is_seen(def) => Look::Runs,
            Some(Ok(Health::Running)) => Look::Runs,
            Some(Err(failure)) if failure.late => Look::Silent(failure.why),
            Some(_) => Look::Off,
            None => Look::Silent("its monitor does not end".into()),
        }
    }

    /// Whether a resource is seen not to run here: one that does not answer is not.
    pub(super) async fn is_off(
        &self,
        group: &str,
        state: &ClusterState,
        def: &ResourceDef,
    ) -> bool {
        self.health(group, state, def).await == Some(Health::NotRunning) && !resource::is_seen(def)
    }

    /// What the monitor of a resource says, if it says anything in time.
    async fn health(&self, group: &str, state: &ClusterState, def: &ResourceDef) -> Option<Health> {
        self.answer(group, state, def).await?.ok()
    }

    async fn answer(
        &self,
        group: &str,
        state: &ClusterState,
        def: &ResourceDef,
    ) -> Option<Result<Health, Failure>> {
        let (context, made) = (self.context(group, 0, state), resource(def));
        let limit = millis(def.monitor_timeout_ms) + GRACE;
        tokio::time::timeout(limit, made.monitor(&context)).await.ok()
    }

    /// Tells neighbours where an address is.
    pub(super) async fn announce(&self, state: &ClusterState, def: &ResourceDef) {
        let context = self.context("", 0, state);
        resource(def).announce(&context).await;
    }

    /// Which of these addresses are on an adapter without a link, where another one has a link; and whether a swap
    /// will take them along.
    pub(super) async fn adrift(
        &self,
        state: &ClusterState,
        addresses: Vec<ResourceDef>,
    ) -> Vec<(ResourceDef, bool)> {
        let context = self.context("", 0, state);
        // What cannot be seen is seen again in a moment.
        resource::address::adrift(&context, addresses).await.unwrap_or_default()
    }

    /// Moves an address to the adapter of its network that has a link; what is to be said about it if it moved.
    async fn settle(&self, state: &ClusterState, def: &ResourceDef) -> Result<String, Trouble> {
        let moved = resource::address::settle(&self.context("", 0, state), def).await;
        let moved = moved.map(Option::unwrap_or_default);
        moved.map_err(|failure| Trouble { why: failure.to_string(), late: false })
    }

    /// What stands in the way of running a resource here; `devices_come` if one that is started before it may
    /// bring devices that are not there now.
    pub(crate) async fn verify(
        &self,
        group: &str,
        state: &ClusterState,
        def: &ResourceDef,
        devices_come: bool,
    ) -> Vec<vedette_core::document::Finding> {
        let context = resource::Context { devices_come, ..self.context(group, 0, state) };
        resource(def).verify(&context).await
    }

    /// Exchanges the adapters of a network; the service addresses `held` on it move along.
    pub(super) async fn swap(
        &self,
        state: &ClusterState,
        network: NetworkNumber,
        held: Vec<IpAddr>,
    ) -> Result<String, String> {
        let context = self.context("", 0, state);
        let done = resource::address::swap(&context, network, held).await;
        done.map_err(|failure| failure.to_string())
    }

    /// All that is held, as the guard has to know it.
    pub(super) fn all(&self, state: &ClusterState, held: &BTreeMap<String, Started>) -> hold::Held {
        let mut all = hold::Held::default();
        for (group, held) in held {
            let context = self.context(group, held.token, state);
            let number = state.groups.get(group).map_or(0, |group| group.number);
            let of = hold::Of { number, group: group.clone() };
            let mut own = hold::Held::default();
            own.groups.extend(context.group_directory().map(|it| it.directory().to_owned()));
            for resource in &held.resources {
                own.addresses.extend(self.held_address(&context, &resource.kind));
                own.programs.extend(resource::release_program(&context, &of, resource));
                own.data.extend(resource::held_data(&of, resource));
                own.engines.extend(resource.kind.control_group().map(str::to_owned));
                if let ResourceKind::Systemd { unit } = &resource.kind {
                    own.units.insert(unit.clone());
                }
            }
            own.belongs_to(&of);
            all.add(&own);
        }
        all
    }

    /// What of a group here neither guard nor kernel take away when the lease ends.
    pub(super) fn left_to_agent(
        &self,
        group: &str,
        state: &ClusterState,
        held: &Started,
    ) -> Vec<String> {
        let context = self.context(group, held.token, state);
        let left = held.resources.iter().filter(|def| resource::is_left_to_agent(&context, def));
        left.map(|def| def.name.clone()).collect()
    }

    /// Processes of a group here that neither guard nor reaper end when the lease does.
    pub(super) fn outside(
        &self,
        group: &str,
        state: &ClusterState,
        held: &Started,
    ) -> BTreeSet<String> {
        let left = self.left_to_agent(group, state, held).into_iter();
        let is_data = |name: &String| {
            held.resources.iter().any(|def| def.name == *name && def.kind.is_data())
        };
        left.filter(|name| !is_data(name)).collect()
    }

    /// Makes the place where everything that the group starts here will live. Before the guard holds
    /// it, and never after: see [`vedette_node::cgroup`].
    pub(super) fn make_place(&self, group: &str, state: &ClusterState) {
        let place = self.context(group, 0, state).group_directory();
        if let Some((place, Err(error))) = place.map(|place| (place.clone(), place.make())) {
            // What needs it says so when it starts.
            tracing::warn!(%error, place = %place.directory().display(), "cannot be made");
        }
    }

    /// Takes the empty place away.
    pub(super) fn remove_place(&self, group: &str, state: &ClusterState) {
        if let Some(place) = self.context(group, 0, state).group_directory() {
            place.remove();
        }
    }

    /// Every service address of the cluster on a network of this node, whoever has it.
    pub(super) fn known(&self, state: &ClusterState) -> BTreeSet<IpAddr> {
        let resources = state.definition.groups.iter().flat_map(|group| &group.resources);
        let own = state.nodes.get(&self.me);
        resources
            .filter_map(|resource| match &resource.kind {
                ResourceKind::Address { address, network, .. } => Some((*address, network)),
                _ => None,
            })
            .filter(|(_, network)| own.is_some_and(|node| node.interfaces.contains_key(network)))
            .map(|(address, _)| address)
            .collect()
    }

    fn held_address(
        &self,
        context: &resource::Context,
        kind: &ResourceKind,
    ) -> Option<hold::HeldAddress> {
        let ResourceKind::Address { address, prefix, network, .. } = kind else { return None };
        let device = context.interfaces.get(network).and_then(device_of).unwrap_or_default();
        Some(hold::HeldAddress { address: *address, prefix: *prefix, device })
    }

    /// The context of a resource's operations.
    pub(crate) fn context(
        &self,
        group: &str,
        token: u64,
        state: &ClusterState,
    ) -> resource::Context {
        let own = state.nodes.get(&self.me);
        let others = state.nodes.values().filter(|node| node.number != self.me);
        resource::Context {
            group: group.to_owned(),
            token,
            node: self.me,
            node_name: state.node_name(self.me),
            interfaces: own
                .map(|node| node.interfaces.iter().map(|(n, it)| (*n, it.address)).collect())
                .unwrap_or_default(),
            standbys: self.standbys(state),
            others: others.flat_map(|node| node.interfaces.values().map(|it| it.address)).collect(),
            cgroup: self.cgroup.clone(),
            state: self.state.clone(),
            run: self.run.clone(),
            probes: self.probes.clone(),
            lease: self.lease.get().cloned(),
            environment: BTreeMap::from([
                ("VEDETTE_CLUSTER".to_owned(), state.name.clone()),
                ("VERBOSE_LOGGING".to_owned(), verbosity(state).to_owned()),
            ]),
            printed: resource::Printed::default(),
            devices_come: false,
            transcripts: Some(self.transcripts.folder().to_owned()),
        }
    }

    /// The addresses of this node's standby adapters.
    pub(super) fn standbys(&self, state: &ClusterState) -> BTreeMap<NetworkNumber, IpAddr> {
        let own = state.definition.standbys.iter().filter(|standby| standby.node == self.me);
        own.map(|standby| (standby.network, standby.address)).collect()
    }
}

/// Begins what takes time for groups that may come here, while their old owner has them or their turn has not
/// come.
pub(super) async fn prepare(shared: Arc<Shared>) {
    let mut views = shared.publisher.views();
    loop {
        let state = views.borrow_and_update().state.clone();
        if shared.has_quorum() {
            shared.prepare(&state);
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn prepare(self: &Arc<Self>, state: &Arc<ClusterState>) {
        let mut wanted = BTreeSet::new();
        for group in work::coming(state, self.me) {
            let Some(def) = state.definition.group(group) else { continue };
            let held = self.token_held(group).is_some();
            for resource in &def.resources {
                let ResourceKind::Address { address, .. } = resource.kind else { continue };
                // What is held already may still wait for its start.
                wanted.insert(address);
                if held {
                    continue;
                }
                let (shared, state) = (self.clone(), state.clone());
                let (group, resource) = (group.to_owned(), resource.clone());
                let work = async move { shared.ops.prepare(&group, &state, &resource).await };
                tokio::spawn(work);
            }
        }
        self.ops.probes.keep(&wanted);
    }
}

/// Marks an operation for the next agent, if it runs programs that outlive this one.
fn under_way(
    context: &mut resource::Context,
    def: &ResourceDef,
    operation: Operation,
) -> Result<Option<UnderWay>, Trouble> {
    let runs_programs =
        !matches!(def.kind, ResourceKind::Address { .. } | ResourceKind::Systemd { .. });
    let mark = runs_programs.then(|| UnderWay::begin(context, &def.name, operation)).transpose();
    mark.map_err(|failure| Trouble { why: failure.to_string(), late: false })
}

/// The device that has an address.
fn device_of(address: &IpAddr) -> Option<String> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let found = interfaces.into_iter().find(|interface| {
        let at = interface.address.as_ref();
        let v4 = at.and_then(|at| at.as_sockaddr_in()).map(|at| IpAddr::V4(at.ip()));
        let v6 = at.and_then(|at| at.as_sockaddr_in6()).map(|at| IpAddr::V6(at.ip()));
        v4.or(v6) == Some(*address)
    });
    found.map(|interface| interface.interface_name)
}

/// Waits for an operation a little longer than it may take. A failure is put into a sentence.
async fn within(
    what: &str,
    limit_ms: u64,
    work: impl Future<Output = Result<String, Failure>>,
) -> Result<String, Trouble> {
    let (why, late) = match tokio::time::timeout(millis(limit_ms) + GRACE, work).await {
        Ok(Ok(detail)) => return Ok(detail),
        Ok(Err(failure)) if failure.advice.is_empty() => (failure.why, failure.late),
        Ok(Err(failure)) => (failure.to_string().trim_end_matches('.').to_owned(), failure.late),
        Err(_) => {
            (format!("{what} has not ended {} s after its time limit", GRACE.as_secs()), true)
        }
    };
    Err(Trouble { why, late })
}
