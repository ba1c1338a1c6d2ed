//! `vedette demo`: a three-node cluster of real daemons on this machine, with a tour.
//!
//! Loopback addresses, high ports and a temporary directory: no rights are needed, and nothing is
//! left behind. The demo is the same sandbox that the lab uses, only without namespaces.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use vedette::sandbox::{self, LabFile, Launcher, Sandbox, SandboxNode};

/// What `vedette demo` takes.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vedette demo\n  vedette demo --nodes 5 --dir /tmp/mycluster\n  vedette demo --profile fast"
)]
pub(crate) struct DemoArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many networks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    networks: u8,
    /// Where everything is kept; a new directory below /tmp unless given. It must not exist or be
    /// empty, and is removed at the end unless --keep is given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Timing profile: default or fast.
    #[arg(long, default_value = "default")]
    profile: String,
    /// Keep the directory at the end.
    #[arg(long)]
    keep: bool,
    /// Seconds until the demo ends by itself; 0 is never.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// Set by Ctrl-C.
static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_signal: libc::c_int) {
    ENDED.store(true, Ordering::SeqCst);
}

impl Launcher for Processes {
    fn spawn(&self, _: &SandboxNode, mut command: Command) -> io::Result<Child> {
        command.spawn()
    }

    fn start(&self, node: &SandboxNode, mut command: Command) -> io::Result<()> {
        let child = command.spawn()?;
        if let Ok(mut daemons) = self.daemons.lock() {
            daemons.push((node.name.clone(), child));
        }
        Ok(())
    }
}

/// Every process that was started; whatever happens, they are ended.
#[derive(Default)]
struct Processes {
    daemons: Mutex<Vec<(String, Child)>>,
    helpers: Mutex<Vec<Child>>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        let daemons = self.daemons.get_mut().map(std::mem::take).unwrap_or_default();
        let helpers = self.helpers.get_mut().map(std::mem::take).unwrap_or_default();
        let pids: Vec<u32> = daemons
            .iter()
            .map(|(_, child)| child.id())
            .chain(helpers.iter().map(Child::id))
            .collect();
        let enders: Vec<_> = pids
            .into_iter()
            .map(|pid| {
                std::thread::spawn(move || {
                    let agents = sandbox::children_of(pid);
                    sandbox::terminate(pid, Duration::from_secs(3));
                    for agent in agents {
                        sandbox::terminate(agent, Duration::ZERO);
                    }
                })
            })
            .collect();
        for ender in enders {
            let _ = ender.join();
        }
    }
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// If the cluster cannot be formed; everything that was started is ended first.
pub(crate) fn run(arguments: &DemoArgs) -> Result<()> {
    let dir = directory(arguments)?;
    let result = run_in(arguments, &dir);
    if arguments.keep {
        println!("Everything is kept in {}.", dir.display());
    } else if result.is_ok() {
        let _ = std::fs::remove_dir_all(&dir);
    } else {
        eprintln!("The logs are kept in {}.", dir.display());
    }
    result
}

fn run_in(arguments: &DemoArgs, dir: &Path) -> Result<()> {
    // SAFETY: the handler only stores into an atomic.
    unsafe {
        libc::signal(libc::SIGINT, end as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t);
    }
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let base = free_base_port(arguments)?;
    let sandbox = {
        let networks = usize::from(arguments.networks);
        let mut sandbox = Sandbox::on_loopback(dir, &program, arguments.nodes, networks, base);
        sandbox.profile.clone_from(&arguments.profile);
        sandbox
    };
    sandbox.write_files()?;
    let processes = Processes::default();
    println!("Forming a cluster of {} nodes in {} …", arguments.nodes, dir.display());
    start_receivers(&sandbox, &processes)?;
    sandbox::form(&sandbox, &processes, &mut |step| println!("  {step}"))?;
    let file = write_file(&sandbox, &processes)?;
    tour(&sandbox, &file)?;
    watch(arguments, &sandbox, &processes)
}

fn directory(arguments: &DemoArgs) -> Result<PathBuf> {
    let dir = match &arguments.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::temp_dir().join(format!("vedette-demo-{}", std::process::id())),
    };
    let occupied = std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        bail!("{} is not empty. Give the demo a directory of its own: --dir DIR.", dir.display());
    }
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} cannot be made. Choose another: --dir DIR.", dir.display()))?;
    Ok(dir)
}

/// A range of ports in which the ones needed are free, so that two demos can run at once. The
/// addresses of the networks are shared by all demos, so the heartbeat port is tried too.
fn free_base_port(arguments: &DemoArgs) -> Result<u16> {
    if UdpSocket::bind("127.77.1.1:7770").is_err() {
        bail!(
            "Port 7770/udp of 127.77.1.1 is in use, probably by another demo. End that one first."
        );
    }
    for base in (17_800..19_800).step_by(400) {
        let tcp_free = (0..=arguments.nodes)
            .chain([201])
            .all(|offset| std::net::TcpListener::bind(("127.0.0.1", base + offset)).is_ok());
        let udp_free = (100..=100 + arguments.nodes)
            .chain([200])
            .all(|offset| UdpSocket::bind(("127.0.0.1", base + offset)).is_ok());
        if tcp_free && udp_free {
            return Ok(base);
        }
    }
    bail!("No free range of ports was found between 17800 and 19800. End what uses them.")
}

fn start_receivers(sandbox: &Sandbox, processes: &Processes) -> Result<()> {
    let mut commands = Vec::new();
    if let Some(snmptrapd) = sandbox::find_program("snmptrapd") {
        let mut command = Command::new(snmptrapd);
        command
            .args(["-f", "-n", "-C", "-c"])
            .arg(sandbox.dir.join("snmptrapd.conf"))
            .arg("-Lf")
            .arg(sandbox.dir.join("traps.log"))
            .arg(format!("udp:{}", sandbox.traps))
            .env("SNMP_PERSISTENT_DIR", sandbox.dir.join("snmptrapd"));
        commands.push(("snmptrapd", command));
    }
    if let Some(prometheus) = sandbox::find_program("prometheus") {
        let dir = sandbox.dir.join("prometheus");
        let mut command = Command::new(prometheus);
        command
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", sandbox.prometheus));
        commands.push(("prometheus", command));
    }
    for (name, mut command) in commands {
        sandbox::log_to(&mut command, &sandbox.dir.join(format!("{name}.log")))?;
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        if let Ok(mut helpers) = processes.helpers.lock() {
            helpers.push(child);
        }
    }
    Ok(())
}

/// Writes `demo.json` and answers its content.
fn write_file(sandbox: &Sandbox, processes: &Processes) -> Result<LabFile> {
    let mut file = LabFile::of(sandbox);
    if let Ok(daemons) = processes.daemons.lock() {
        for node in &mut file.nodes {
            // The daemon is the process of a node that has the agent as its child.
            let own = daemons.iter().filter(|(name, _)| *name == node.name);
            for (_, child) in own {
                if let Some(agent) = sandbox::children_of(child.id()).first() {
                    node.guard_pid = Some(child.id());
                    node.agent_pid = Some(*agent);
                }
            }
        }
    }
    if sandbox::find_program("prometheus").is_some() {
        file.prometheus = Some(format!("http://{}", sandbox.prometheus));
    }
    if sandbox::find_program("snmptrapd").is_some() {
        file.traps = Some(sandbox.dir.join("traps.log"));
    }
    let path = sandbox.dir.join("demo.json");
    if LabFile::read(&path).ok().as_ref() != Some(&file) {
        file.write(&path)?;
    }
    Ok(file)
}

/// Keeps `demo.json` true until Ctrl-C, and collects daemons that ended.
fn watch(arguments: &DemoArgs, sandbox: &Sandbox, processes: &Processes) -> Result<()> {
    let started = std::time::Instant::now();
    while !ENDED.load(Ordering::SeqCst) {
        let over = arguments.seconds > 0 && started.elapsed().as_secs() >= arguments.seconds;
        if over {
            break;
        }
        if let Ok(mut daemons) = processes.daemons.lock() {
            daemons.retain_mut(|(_, child)| !matches!(child.try_wait(), Ok(Some(_))));
        }
        write_file(sandbox, processes)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("\nEnding the demo …");
    Ok(())
}

/// Where to look, and what to try.
fn tour(sandbox: &Sandbox, file: &LabFile) -> Result<()> {
    let first = &file.nodes[0];
    let last = &file.nodes[file.nodes.len() - 1];
    let program = sandbox.program.display();
    let ask = format!("{program} --control {}", first.control.display());
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nThe cluster is up. Where to look (any node will do, this is {}):",
        first.name
    )?;
    writeln!(out, "  terminal    {ask} status")?;
    writeln!(out, "  browser     {}/", first.http)?;
    writeln!(out, "  API         curl {}/api/v1/nodes", first.http)?;
    writeln!(out, "  live        curl -N {}/api/v1/watch", first.http)?;
    writeln!(out, "  metrics     curl {}/metrics", first.http)?;
    if sandbox::find_program("snmpd").is_some() {
        writeln!(
            out,
            "  SNMP        snmpwalk -v2c -c {} {} 1.3.6.1.4.1.8072.9999.9999.7770",
            first.snmp.community, first.snmp.address
        )?;
    } else {
        writeln!(out, "  SNMP        needs snmpd: apt-get install snmpd snmp snmptrapd")?;
    }
    match &file.traps {
        Some(traps) => writeln!(out, "  traps       tail -f {}", traps.display())?,
        None => writeln!(out, "  traps       need snmptrapd: apt-get install snmptrapd")?,
    }
    match &file.prometheus {
        Some(url) => writeln!(out, "  Prometheus  {url}/graph?g0.expr=vedette_node_host_status")?,
        None => writeln!(out, "  Prometheus  is not installed: apt-get install prometheus")?,
    }
    writeln!(out, "  history     {ask} history show")?;
    writeln!(out, "  alerts      {ask} alert log")?;
    writeln!(out, "  files       {}/demo.json", sandbox.dir.display())?;
    writeln!(out, "\nTry it, in another terminal:")?;
    if let (Some(guard), Some(agent)) = (last.guard_pid, last.agent_pid) {
        writeln!(out, "  1. kill -9 {guard} {agent}     # {} loses power", last.name)?;
        writeln!(
            out,
            "     {ask} status         # a second later: {} is DOWN, and why",
            last.name
        )?;
        writeln!(out, "  2. {program} --config {} daemon &    # and it returns", config_of(last))?;
    }
    if let Some(agent) = first.agent_pid {
        writeln!(
            out,
            "  3. kill -9 {agent}             # only an agent: host UP, agent DOWN, back at once"
        )?;
    }
    writeln!(out, "  4. {ask} alert test        # runs the alert script on every node")?;
    writeln!(out, "  5. {ask} history compare   # every node holds the same history")?;
    writeln!(out, "\nCtrl-C ends the demo and removes everything.")?;
    Ok(out.flush()?)
}

fn config_of(node: &sandbox::LabNode) -> String {
    node.state_dir.with_file_name("vedette.toml").display().to_string()
}
