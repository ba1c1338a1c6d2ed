//! `vedette daemon`: the guard, which starts the agent.
//!
//! What is wrong with addresses and ports is said here, before anything of the cluster is told of this node.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vedette_core::config::Config;
use vedette_node::guard;
use vedette_node::guard::protocol::OwnNetwork;
use vedette_node::identity::VERSION;

use super::{NeedsOperator, NodeContext, for_operator, peer_set};

/// Where guard and agent meet, in the state directory.
const GUARD_SOCKET: &str = "guard.sock";

/// Runs the guard, which starts the agent, until the node leaves.
///
/// # Errors
/// What could not be started, with what to do.
pub(crate) fn guard_main(config: Config, arguments: Vec<OsString>) -> Result<()> {
    let context = for_operator(NodeContext::read(config))?;
    let socket = context.dir.path().join(GUARD_SOCKET);
    if !guard_runs(context.dir.path()) {
        for_operator(check_addresses(&context))?;
    }
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let agent = std::iter::once(program.into_os_string()).chain(arguments).collect();
    let guard = guard::GuardConfig {
        state_dir: context.dir.path().to_owned(),
        socket,
        agent,
        reaper: crate::reaper::words(context.dir.path().to_owned(), context.config.log),
        version: VERSION.into(),
        watchdog: context.config.watchdog.clone(),
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
fn check_addresses(context: &NodeContext) -> Result<()> {
    let networks = &context.peer_set.networks;
    let mut findings = Vec::new();
    let mut elsewhere = Vec::new();
    let mut here = false;
    for (number, address) in context.addresses() {
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
            if peer_set::is_here(address) { findings.push(why) } else { elsewhere.push(why) }
        }
        here |= peer_set::is_here(address);
    }
    let deadline = std::time::Instant::now() + PORT_PATIENCE;
    let peers = context.peer_addresses().into_iter();
    let peers = peers.map(|at| (at, "other nodes", "another peer_port for the network"));
    let http = context.config.http.map(|at| (at, "HTTP", "another [http] listen"));
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
