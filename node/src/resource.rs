//! Resources on this machine: what is taken over when a node takes a group over (spec H25).
//!
//! Six kinds behind one trait, so that the executor, which knows about order, tokens and reports,
//! knows nothing about addresses or volume groups.
//!
//! Invariants:
//!
//! - Everything may be asked again: starting what runs and stopping what is off succeed. A restarted
//!   agent repeats what it is not sure of.
//! - `start` and `stop` end when it is so, or fail; nothing is reported in hope.
//! - A failure is a sentence with its reason, another with what would help, and what was printed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;
use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::RunOutcome;

use crate::cgroup::{ControlGroup, of_engine};
use crate::guard::client::LeaseWatch;
use crate::hold::{Data, HeldData, HeldProgram, Of};

pub mod address;
pub mod announce;
mod application;
pub mod duplicate;
mod file_system;
pub mod interrupted;
pub mod ocf;
mod off;
pub mod systemd;
mod volume_group;
mod wire;

/// On whose behalf, and where.
#[derive(Clone, Debug)]
pub struct Context {
    /// Name of the group.
    pub group: String,
    /// The instance's token, for what can compare it; 0 if nothing is owned, as when verifying.
    pub token: u64,
    /// This node.
    pub node: NodeNumber,
    /// Its name.
    pub node_name: String,
    /// The addresses by which this node is a member of its networks: their devices are where
    /// service addresses go.
    pub interfaces: BTreeMap<NetworkNumber, IpAddr>,
    /// Addresses of its standby adapters.
    pub standbys: BTreeMap<NetworkNumber, IpAddr>,
    /// The other nodes' own addresses, which are nobody's service addresses.
    pub others: Vec<IpAddr>,
    /// [`crate::cgroup::root`]; without it processes are not kept together.
    pub cgroup: Option<PathBuf>,
    /// A directory that survives a restart of the machine.
    pub state: PathBuf,
    /// A directory that need not.
    pub run: PathBuf,
    /// Who else has service addresses of this node.
    pub probes: duplicate::Probes,
    /// The lease, without which nothing is announced; none where there is no guard.
    pub lease: Option<LeaseWatch>,
    /// What every program gets in its environment besides the resource's own variables.
    pub environment: BTreeMap<String, String>,
    /// What a look printed that found nothing running.
    pub printed: Printed,
    /// For verifying: what is started before it may bring devices that are not there now.
    pub devices_come: bool,
    /// The folder of transcripts, for programs that the guard runs.
    pub transcripts: Option<PathBuf>,
}

/// What a program printed, for whoever asked what it is about: an answer has no room for it.
#[derive(Clone, Debug, Default)]
pub struct Printed(Arc<Mutex<String>>);

impl Printed {
    fn note(&self, output: &str) {
        output.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was noted last, once.
    pub fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Context {
    /// The control group of the whole group.
    pub fn group_directory(&self) -> Option<ControlGroup> {
        Some(ControlGroup::at(self.cgroup.as_ref()?.join(file_name(&self.group))))
    }

    /// The control group of a resource, in that of its group.
    pub fn control_group(&self, resource: &str) -> Option<ControlGroup> {
        let group = self.group_directory()?;
        Some(ControlGroup::at(group.directory().join(file_name(resource))))
    }

    /// The control group of the programs that stop a resource: beside that of its group.
    fn stop_group(&self, resource: &str) -> Option<ControlGroup> {
        self.beside("stop", resource).map(ControlGroup::at)
    }

    /// Where programs of a resource live that must not go with its group.
    fn beside(&self, what: &str, resource: &str) -> Option<PathBuf> {
        let of_group = format!("{}.{what}", file_name(&self.group));
        Some(self.cgroup.as_ref()?.join(of_group).join(file_name(resource)))
    }

    /// Makes a place for the processes of a resource, if the group's is there.
    fn place(&self, resource: &str) -> Result<Option<ControlGroup>, Failure> {
        let Some(place) = self.control_group(resource) else { return Ok(None) };
        match place.make_inside() {
            Ok(()) => Ok(Some(place)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = "the group's place was taken away: this node's lease is over";
                Err(Failure::new(why, "Nothing needs to be done."))
            }
            Err(error) => {
                let place = place.directory().display();
                let why = format!("the control group {place} cannot be made: {error}");
                let advice = "The agent has to be root, and cgroup2 writable.";
                Err(Failure::new(why, advice).reaching(Reach::Node))
            }
        }
    }

    /// Environment of the programs of a resource.
    pub fn variables(&self, resource: &str) -> BTreeMap<String, String> {
        let mut variables = self.environment.clone();
        variables.insert("VEDETTE_GROUP".into(), self.group.clone());
        variables.insert("VEDETTE_RESOURCE".into(), resource.into());
        variables.insert("VEDETTE_TOKEN".into(), self.token.to_string());
        variables.insert("VEDETTE_NODE".into(), self.node_name.clone());
        variables.insert("VEDETTE_NODE_NUMBER".into(), self.node.to_string());
        variables
    }
}

/// A name of an operator as the name of a file: it cannot lead out of its directory.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

/// What is to be said about something that works, such as the device that has an address.
pub type Detail = String;

/// Whether something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Running,
    /// It does not, and nothing of it is left.
    NotRunning,
}

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Trying again may help.
    #[default]
    Attempt,
    /// It will fail on this node until an operator acts; another node may do.
    Node,
    /// It will fail everywhere: the configuration is wrong.
    Cluster,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}. {advice}")]
pub struct Failure {
    /// What happened and why, without full stop.
    pub why: String,
    /// What would help: a sentence.
    pub advice: String,
    /// What was printed, if anything was run.
    pub output: String,
    /// How far it reaches.
    pub reach: Reach,
    /// It is no answer, but that there was none in time.
    pub late: bool,
}

impl Failure {
    /// One that may not happen again.
    pub fn new(why: impl Into<String>, advice: impl Into<String>) -> Self {
        let (why, advice) = (why.into(), advice.into());
        Self { why, advice, output: String::new(), reach: Reach::Attempt, late: false }
    }

    /// One that concerns this node, or all.
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// That no answer came in time.
    pub fn late(self) -> Self {
        Self { late: true, ..self }
    }

    /// With what was printed.
    pub fn with(self, output: impl Into<String>) -> Self {
        Self { output: output.into(), ..self }
    }

    /// Of a program; `what` says whose.
    pub fn of_run(what: &str, outcome: &RunOutcome, advice: impl Into<String>) -> Self {
        // Many programs end with a word on their own usage, which is no reason.
        let hint = |line: &&str| line.contains("--help");
        let said = outcome.output.lines().filter(|line| !line.trim().is_empty());
        let last = said.clone().rfind(|line| !hint(line)).or_else(|| said.clone().next_back());
        let said = last.map(|line| format!(" ({})", line.trim())).unwrap_or_default();
        let reach = if outcome.failure.is_some() { Reach::Node } else { Reach::Attempt };
        let why = format!("{what}: {}{said}", outcome.summary());
        let late = outcome.timed_out;
        Self { why, advice: advice.into(), output: outcome.output.clone(), reach, late }
    }
}

/// Something that can be started, stopped and looked at on this machine.
pub trait Resource: Send + Sync {
    /// Begins what takes time and changes nothing, as soon as it is known that it will be started here.
    fn prepare<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// Makes it run here.
    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>>;

    /// Makes it stop here; nothing of it is left.
    fn stop<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>>;

    /// Looks at it.
    fn monitor<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>>;

    /// What stands in the way of running it here, without touching it.
    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>>;

    /// Tells neighbours where it is now: after a network healed, they may have missed it.
    fn announce<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

pub(crate) use self::file_system::kept as file_system_kept;
pub(crate) use self::volume_group::kept as volume_group_kept;

/// Data of a resource of that group, which the guard looks at when the lease has ended.
pub fn held_data(of: &Of, def: &ResourceDef) -> Option<HeldData> {
    let what = match &def.kind {
        ResourceKind::FileSystem { device, mount_point, .. } => {
            Data::FileSystem { device: device.clone(), mount_point: mount_point.into() }
        }
        ResourceKind::VolumeGroup { name } => Data::VolumeGroup { name: name.clone() },
        _ => return None,
    };
    Some(HeldData { of: of.clone(), what })
}

/// What the guard runs when the lease ends, if the resource says so.
pub fn release_program(context: &Context, of: &Of, def: &ResourceDef) -> Option<HeldProgram> {
    let release = def.kind.release()?;
    let (mut environment, mut user) = (context.variables(&def.name), None);
    match &def.kind {
        ResourceKind::Application { user: whose, .. } => user.clone_from(whose),
        // The program may be the agent itself, called to stop.
        ResourceKind::Ocf { .. } => {
            let within = Duration::from_millis(release.within_ms);
            environment.extend(ocf::variables(def, "stop", within));
        }
        _ => {}
    }
    Some(HeldProgram {
        of: of.clone(),
        program: release.program.clone(),
        environment,
        user,
        place: context.beside("release", &def.name),
        within_ms: release.within_ms,
        transcripts: context.transcripts.clone(),
    })
}

/// Whether it is seen on this machine without asking anybody: processes in the control group that its engine fills,
/// or the address on whatever device.
pub fn is_seen(def: &ResourceDef) -> bool {
    if let ResourceKind::Address { address, .. } = &def.kind {
        return address::is_here(*address);
    }
    let groups = def.kind.control_group().map(of_engine).unwrap_or_default();
    groups.iter().any(ControlGroup::is_populated)
}

/// Whether nothing but its agent takes a resource away here when a lease ends: data, and processes that no
/// control group holds and for which no release program is named.
pub fn is_left_to_agent(context: &Context, def: &ResourceDef) -> bool {
    match &def.kind {
        ResourceKind::FileSystem { .. } | ResourceKind::VolumeGroup { .. } => true,
        ResourceKind::Application { .. } | ResourceKind::Ocf { .. } => {
            let started = off::started(context, &Common::of(def));
            started.is_some_and(off::Started::is_outside) && def.kind.release().is_none()
        }
        ResourceKind::Address { .. } | ResourceKind::Systemd { .. } => false,
    }
}

/// The resource that a definition describes.
pub fn resource(def: &ResourceDef) -> Box<dyn Resource> {
    let common = Common::of(def);
    match def.kind.clone() {
        ResourceKind::Address { address, prefix, network, mode, on_conflict } => {
            let name = common.name;
            let place = (address, prefix, network);
            Box::new(address::ServiceAddress::new(name, place, mode, on_conflict))
        }
        ResourceKind::Application { start, stop, monitor, user, control_group, release } => {
            Box::new(application::Application {
                common,
                start,
                stop,
                monitor,
                user,
                engine: control_group,
                release: release.map(|release| release.program).unwrap_or_default(),
            })
        }
        ResourceKind::FileSystem { device, mount_point, fs_type, options, check } => {
            Box::new(file_system::FileSystem {
                common,
                device,
                mount_point: mount_point.into(),
                fs_type,
                options,
                check,
            })
        }
        ResourceKind::VolumeGroup { name } => Box::new(volume_group::VolumeGroup { common, name }),
        ResourceKind::Systemd { unit } => Box::new(systemd::Unit { common, unit }),
        ResourceKind::Ocf { provider, agent, parameters, release } => {
            let release = release.map(|release| release.program).unwrap_or_default();
            Box::new(ocf::Ocf { common, provider, agent, parameters, release })
        }
    }
}

/// What all kinds have.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) start: Duration,
    pub(crate) stop: Duration,
    pub(crate) monitor: Duration,
}

impl Common {
    fn of(def: &ResourceDef) -> Self {
        Self {
            name: def.name.clone(),
            start: Duration::from_millis(def.start_timeout_ms),
            stop: Duration::from_millis(def.stop_timeout_ms),
            monitor: Duration::from_millis(def.monitor_timeout_ms),
        }
    }
}

/// Something that stands in the way.
pub(crate) fn error(name: &str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
    let key = format!("resource {name}");
    Finding { line: None, key, what: what.into(), advice: advice.into(), error: true }
}

/// Something worth knowing.
pub(crate) fn warning(name: &str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { error: false, ..error(name, what, advice) }
}
