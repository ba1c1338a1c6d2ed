//! `vedette demo`: a three-node cluster of real daemons on this machine, with a tour.
//!
//! Loopback addresses, high ports and a temporary directory: no rights are needed, and nothing is
//! left behind. The demo is the same sandbox that the lab uses, only without namespaces.

#![allow(clippy::print_stdout, reason = "a demo talks to whoever started it")]

mod children;
mod tour;
mod work;

use std::io;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::socket::{getsockopt, sockopt};
use vedette::sandbox::{self, LabFile, Sandbox};

use children::{Children, Janitor};

/// Where heartbeats go unless a configuration says otherwise.
const BEAT_PORT: u16 = 7770;
/// Where peers meet unless a configuration says otherwise.
const PEER_PORT: u16 = 7771;
/// One line a notification: when it came, and what it says.
const TRAP_LINE: &str = "%#04y-%#02m-%#02l %#02h:%#02j:%#02k %v\\n";
/// Room for `/n1/state/guard.sock` within the 107 bytes of a socket's name.
const LONGEST_DIR: usize = 85;

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
    /// Timing profile: default, fast or wide.
    #[arg(long, default_value = "default")]
    profile: String,
    /// Keep the directory at the end.
    #[arg(long)]
    keep: bool,
    /// Seconds until the demo ends by itself; 0 is never.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Wait for the end of a demo in --dir, and clear up if it was killed.
    #[arg(long, hide = true, requires = "dir")]
    janitor: bool,
}

/// Set by Ctrl-C, SIGTERM and the end of the terminal.
static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_signal: libc::c_int) {
    ENDED.store(true, Ordering::SeqCst);
}

fn ended() -> bool {
    ENDED.load(Ordering::SeqCst)
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// If the cluster cannot be formed; everything that was started is ended first.
pub(crate) fn run(arguments: &DemoArgs) -> Result<()> {
    if let (true, Some(dir)) = (arguments.janitor, &arguments.dir) {
        return Ok(children::clear_up_after(dir)?);
    }
    // SAFETY: the handler only stores into an atomic.
    unsafe {
        libc::signal(libc::SIGINT, end as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t);
        libc::signal(libc::SIGHUP, end as *const () as libc::sighandler_t);
    }
    let _only = only_one()?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let base = free_base_port(arguments)?;
    let dir = directory(arguments)?;
    let networks = usize::from(arguments.networks);
    let mut sandbox = Sandbox::on_loopback(&dir, &program, arguments.nodes, networks, base);
    sandbox.profile.clone_from(&arguments.profile);
    ports_are_free(&sandbox)?;
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} cannot be made. Choose another: --dir DIR.", dir.display()))?;
    let janitor = Janitor::start(&sandbox).context("the program cannot be started again")?;
    let children = Children::default();
    let result = run_in(arguments, &sandbox, &children);
    println!("\nEnding the demo …");
    children.end(&sandbox);
    let result = tidy(arguments, &dir, result);
    janitor.dismiss();
    result
}

/// Removes the directory, unless somebody will want to look into it.
fn tidy(arguments: &DemoArgs, dir: &Path, result: Result<()>) -> Result<()> {
    // Whoever pressed Ctrl-C while the cluster was formed has seen no failure.
    let result = if ended() { Ok(()) } else { result };
    if arguments.keep {
        println!("Everything is kept in {}.", dir.display());
    } else if result.is_err() {
        eprintln!("The logs are kept in {}.", dir.display());
    } else {
        std::fs::remove_dir_all(dir)
            .with_context(|| format!("{} cannot be removed. Remove it", dir.display()))?;
    }
    result
}

fn run_in(arguments: &DemoArgs, sandbox: &Sandbox, children: &Children) -> Result<()> {
    sandbox.write_files()?;
    println!("Forming a cluster of {} nodes in {} …", arguments.nodes, sandbox.dir.display());
    start_receivers(sandbox, children)?;
    sandbox::form(sandbox, children, &mut |step| println!("  {step}"))?;
    println!("  gives it two groups to look after");
    work::give(sandbox)?;
    let mut file = file(sandbox);
    let path = sandbox.dir.join("demo.json");
    children::fill_pids(&mut file);
    file.write(&path)?;
    tour::print(sandbox, &file)?;
    watch(arguments, children, &mut file, &path)
}

/// Where everything will be.
fn directory(arguments: &DemoArgs) -> Result<PathBuf> {
    let dir = match &arguments.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::temp_dir().join(format!("vedette-demo-{}", std::process::id())),
    };
    if dir.exists() && !dir.is_dir() {
        bail!("{} is not a directory. Give the demo one of its own: --dir DIR.", dir.display());
    }
    let occupied = std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        bail!("{} is not empty. Give the demo a directory of its own: --dir DIR.", dir.display());
    }
    // The sockets lie below, and the kernel takes no longer names.
    if dir.as_os_str().len() > LONGEST_DIR {
        bail!(
            "{} is longer than {LONGEST_DIR} bytes, too long for the names of sockets. \
             Give the demo a shorter one: --dir DIR.",
            dir.display()
        );
    }
    Ok(dir)
}

/// The networks of all demos have the same addresses, so there is one demo at a time. Whoever holds
/// this socket is it; it has no file, and ends with the process however that ends.
fn only_one() -> Result<UnixListener> {
    let name = SocketAddr::from_abstract_name("vedette-demo")?;
    match UnixListener::bind_addr(&name) {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let who = UnixStream::connect_addr(&name)
                .ok()
                .and_then(|there| getsockopt(&there, sockopt::PeerCredentials).ok())
                .map_or_else(String::new, |who| format!(" (process {})", who.pid()));
            bail!("another demo runs on this machine{who}. End that one first, with Ctrl-C.")
        }
        Err(error) => Err(error).context("a socket cannot be made"),
    }
}

/// A range of ports in which the ones needed on 127.0.0.1 are free.
fn free_base_port(arguments: &DemoArgs) -> Result<u16> {
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
    bail!("no free range of ports was found between 17800 and 19800. End what uses them.")
}

/// The ports of the nodes' own networks must be free too, for example of a daemon that was started
/// by hand in an earlier demo.
fn ports_are_free(sandbox: &Sandbox) -> Result<()> {
    for address in sandbox.nodes.iter().flat_map(|node| &node.addresses) {
        let beat = UdpSocket::bind((*address, BEAT_PORT)).map(drop);
        let peer = std::net::TcpListener::bind((*address, PEER_PORT)).map(drop);
        for (port, result) in [(BEAT_PORT, beat), (PEER_PORT, peer)] {
            if let Err(error) = result {
                bail!(
                    "port {port} of {address} cannot be used: {error}. Is it a daemon of an earlier \
                     demo? See who: ss -anp | grep {address}:{port}"
                );
            }
        }
    }
    Ok(())
}

/// Starts a receiver of notifications and a Prometheus, where they are installed.
fn start_receivers(sandbox: &Sandbox, children: &Children) -> Result<()> {
    let mut commands = Vec::new();
    if let Some(snmptrapd) = sandbox::find_program("snmptrapd") {
        let mut command = Command::new(snmptrapd);
        command
            .args(["-f", "-n", "-C", "-c"])
            .arg(sandbox.dir.join("snmptrapd.conf"))
            .arg("-M")
            .arg(sandbox.mibs())
            .args(["-m", "SNMPv2-MIB:VEDETTE-MIB", "-O", "Qs", "-F", TRAP_LINE, "-Lf"])
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
        children.start_helper(command).with_context(|| format!("{name} cannot be started"))?;
    }
    Ok(())
}

/// What `demo.json` says, before the processes are known.
fn file(sandbox: &Sandbox) -> LabFile {
    let mut file = LabFile::of(sandbox);
    if sandbox::find_program("prometheus").is_some() {
        file.prometheus = Some(format!("http://{}", sandbox.prometheus));
    }
    if sandbox::find_program("snmptrapd").is_some() {
        file.traps = Some(sandbox.dir.join("traps.log"));
    }
    file
}

/// Keeps `demo.json` true until Ctrl-C, and collects daemons that ended.
fn watch(arguments: &DemoArgs, children: &Children, file: &mut LabFile, path: &Path) -> Result<()> {
    let started = std::time::Instant::now();
    while !ended() {
        if arguments.seconds > 0 && started.elapsed().as_secs() >= arguments.seconds {
            break;
        }
        children.collect();
        let before = file.clone();
        children::fill_pids(file);
        if *file != before {
            file.write(path)?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
