//! The lab: a cluster of real daemons, each node in a network namespace and a process namespace of
//! its own, on one machine.
//!
//! A node's *power* is the first process of its process namespace: killing it ends everything on the
//! node at the same instant, as pulling the plug would. Its cables are veth pairs into bridges of a
//! switch namespace; cutting one takes the switch's port down. One more network, for management,
//! leads to the machine itself, so that HTTP and SNMP of every node can be asked from outside
//! whatever happens to the cluster's own networks.
//!
//! Tests, benchmarks and people use the same lab. It is taken down when its owner dies, and what a
//! crash left behind is swept away by the next `up` or `down`.

mod clock;
mod disk;
mod faults;
pub(crate) mod namespaces;
mod plan;
mod prober;
mod strays;
mod systemd;
mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use vedette::sandbox::{self, LabFile, Sandbox, SandboxNode};

pub use faults::{Direction, Victim};
pub use plan::{Plan, UpOptions};
pub use prober::{Answer, Answers, Handover, Prober};
pub use strays::Stray;
pub use wire::carry;

/// A file in the directory of a lab whose logs somebody will want to read.
const TRACES: &str = "keep";

/// Why the lab could not do what it was asked for.
#[derive(Debug)]
pub struct LabError(pub String);

impl std::fmt::Display for LabError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LabError {}

impl From<io::Error> for LabError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<sandbox::FormError> for LabError {
    fn from(error: sandbox::FormError) -> Self {
        Self(error.0)
    }
}

/// What the lab's operations give.
pub type Result<T> = std::result::Result<T, LabError>;

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    sandbox: Sandbox,
}

impl Lab {
    /// Builds the networks, starts the daemons and forms the cluster. If any of it fails, nothing
    /// stays behind but the logs.
    ///
    /// # Errors
    /// What failed.
    pub fn up(options: &UpOptions, progress: &mut dyn FnMut(String)) -> Result<Self> {
        namespaces::require_tools()?;
        plan::sweep();
        let plan = Plan::claim(options)?;
        let mut lab = Self { sandbox: plan.sandbox(), plan };
        match lab.build(options, progress) {
            Ok(()) => Ok(lab),
            Err(error) => {
                lab.take_down();
                Err(error)
            }
        }
    }

    fn build(&mut self, options: &UpOptions, progress: &mut dyn FnMut(String)) -> Result<()> {
        progress("namespaces, bridges and cables".into());
        namespaces::create(&self.plan)?;
        self.set_aside()?;
        self.sandbox.write_files()?;
        for index in 0..self.sandbox.nodes.len() {
            self.power_on(index)?;
        }
        self.start_receivers(options)?;
        let launcher = InNode { plan: self.plan.clone() };
        let sandbox = self.sandbox.clone();
        sandbox::form(&sandbox, &launcher, progress)?;
        self.refresh()?;
        self.start_janitor(options)?;
        Ok(())
    }

    /// What an earlier lab left of its nodes in this directory is set aside: a new cluster begins with empty
    /// disks, and what happened before can still be read.
    fn set_aside(&self) -> Result<()> {
        for node in self.sandbox.nodes.iter().filter(|node| node.config().exists()) {
            let before = node.dir.with_extension("before");
            if before.exists() {
                std::fs::remove_dir_all(&before)?;
            }
            std::fs::rename(&node.dir, &before)?;
        }
        Ok(())
    }

    /// The lab whose files are in `dir`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let plan = Plan::read(dir)?;
        Ok(Self { sandbox: plan.sandbox(), plan })
    }

    /// Ends every process and removes every namespace of the lab; its files stay.
    pub fn take_down(&mut self) {
        self.plan.tear_down();
    }

    /// The directory of the lab.
    pub fn dir(&self) -> &Path {
        &self.plan.dir
    }

    /// The path of `lab.json`.
    pub fn file(&self) -> PathBuf {
        self.plan.dir.join("lab.json")
    }

    /// The plan of the sandbox: every path and address.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Names of the nodes.
    pub fn names(&self) -> Vec<String> {
        self.sandbox.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The node of that name.
    ///
    /// # Errors
    /// If there is none, with the names that exist.
    pub fn node(&self, name: &str) -> Result<&SandboxNode> {
        self.sandbox.node(name).ok_or_else(|| {
            LabError(format!(
                "There is no node {name} in this lab. Its nodes are {}.",
                self.names().join(", ")
            ))
        })
    }

    fn index(&self, name: &str) -> Result<usize> {
        self.node(name)?;
        Ok(self.sandbox.nodes.iter().position(|node| node.name == name).unwrap_or_default())
    }

    /// Brings `lab.json` up to date with the processes that run, and answers its content.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn refresh(&self) -> Result<LabFile> {
        let mut file = LabFile::of(&self.sandbox);
        for node in &mut file.nodes {
            node.guard_pid = self.plan.guard_of(&node.name);
            node.agent_pid = node.guard_pid.and_then(sandbox::agent_of);
        }
        if self.plan.has_helper("prometheus") {
            file.prometheus = Some(format!("http://{}", self.sandbox.prometheus));
        }
        if self.plan.has_helper("snmptrapd") {
            file.traps = Some(self.plan.dir.join("traps.log"));
        }
        if LabFile::read(&self.file()).ok().as_ref() != Some(&file) {
            file.write(&self.file())?;
        }
        Ok(file)
    }

    /// Starts a process in a node's namespaces.
    ///
    /// # Errors
    /// If the node is powered off or the program cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Child> {
        let node = self.node(name)?;
        let launcher = InNode { plan: self.plan.clone() };
        Ok(sandbox::Launcher::spawn(&launcher, node, command)?)
    }

    /// Runs a command in a node's namespaces with this process's terminal.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn exec(&self, name: &str, program: &str, arguments: &[String]) -> Result<ExitStatus> {
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(self.spawn(name, command)?.wait()?)
    }

    /// Runs the product's program for a node and takes what it prints.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn vedette(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        let node = self.node(name)?;
        let mut command = Command::new(&self.sandbox.program);
        command.arg("--config").arg(node.config()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(self.spawn(name, command)?.wait_with_output()?)
    }

    /// Runs the product's program for a node and reads the JSON it prints.
    ///
    /// # Errors
    /// If it cannot be started or prints no JSON.
    pub fn json(&self, name: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        let output = self.vedette(name, arguments)?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            LabError(format!(
                "`vedette {}` on {name} printed no JSON ({error}): {}{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ))
        })
    }

    fn start_receivers(&mut self, options: &UpOptions) -> Result<()> {
        if let Some(snmptrapd) = sandbox::find_program("snmptrapd") {
            let mut command = Command::new(snmptrapd);
            command
                .args(["-f", "-n", "-C", "-c"])
                .arg(self.plan.dir.join("snmptrapd.conf"))
                .arg("-Lf")
                .arg(self.plan.dir.join("traps.log"))
                .arg(format!("udp:{}", self.sandbox.traps))
                .env("SNMP_PERSISTENT_DIR", self.plan.dir.join("snmptrapd"));
            self.plan.start_helper("snmptrapd", command)?;
        }
        if options.prometheus {
            let program = sandbox::find_program("prometheus").ok_or_else(|| {
                LabError(
                    "prometheus is not installed. Install it: apt-get install prometheus.".into(),
                )
            })?;
            let dir = self.plan.dir.join("prometheus");
            let mut command = Command::new(program);
            command
                .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address={}", self.sandbox.prometheus));
            self.plan.start_helper("prometheus", command)?;
        }
        Ok(())
    }

    /// A process that keeps `lab.json` true and takes the lab down when its owner dies.
    fn start_janitor(&mut self, options: &UpOptions) -> Result<()> {
        let mut command = Command::new(&options.lab_program);
        command.arg("--dir").arg(&self.plan.dir).arg("janitor");
        if let Some(owner) = options.owner {
            command.arg("--owner").arg(owner.to_string());
        }
        self.plan.start_helper("janitor", command)
    }

    /// Has its directory kept when its owner ends, for its logs.
    pub fn keep_traces(&self) {
        let _ = std::fs::write(self.plan.dir.join(TRACES), "");
    }

    /// What the janitor does until the lab is down. Of a lab whose owner ended nothing is left, unless
    /// there is something to be read in it.
    ///
    /// # Errors
    /// If the lab's files are gone.
    pub fn keep(dir: &Path, owner: Option<u32>) -> Result<()> {
        loop {
            let Ok(mut lab) = Self::open(dir) else { return Ok(()) };
            if owner.is_some_and(|pid| !sandbox::is_alive(pid)) {
                lab.plan.forget_helper("janitor");
                lab.take_down();
                if !dir.join(TRACES).exists() {
                    let _ = std::fs::remove_dir_all(dir);
                }
                return Ok(());
            }
            let _ = lab.refresh();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until `condition` gives a value; asks every 20 ms.
    ///
    /// # Errors
    /// After `patience`, with `what` was waited for.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(value) = condition(self) {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                return Err(LabError(format!("waited {} s for {what}", patience.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts processes inside a node's network and process namespaces.
#[derive(Clone)]
struct InNode {
    plan: Plan,
}

impl sandbox::Launcher for InNode {
    fn spawn(&self, node: &SandboxNode, mut command: Command) -> io::Result<Child> {
        let holder = self.holder(node)?;
        clock::give(&node.dir, &mut command);
        namespaces::spawn_in(&self.plan.namespace(&node.name), holder, command)
    }

    fn start(&self, node: &SandboxNode, mut command: Command) -> io::Result<()> {
        let holder = self.holder(node)?;
        clock::give(&node.dir, &mut command);
        let is_daemon = command.get_args().any(|argument| argument == "daemon");
        namespaces::start_in(&self.plan.namespace(&node.name), holder, command)?;
        if is_daemon {
            let guard = namespaces::child_that_runs(holder, "daemon")?;
            fs::write(self.plan.guard_file(&node.name), guard.to_string())?;
        }
        Ok(())
    }
}

impl InNode {
    fn holder(&self, node: &SandboxNode) -> io::Result<u32> {
        self.plan.holder_of(&node.name).ok_or_else(|| {
            io::Error::other(format!("{} is powered off; `vedette-lab restart` it", node.name))
        })
    }
}
