//! A guard with the smallest possible agent, as the tests of the guard run it.
//!
//! `guard DIR` runs a guard with its state in `DIR`. The agent, which is this program again, reads
//! its orders from `DIR/configure.json`, says RUNNING twice a second, and appends what it is told
//! to `DIR/notices.jsonl` and its process id to `DIR/agents`. The reaper, the same program, is `guard reaper DIR`
//! and writes its own to `DIR/reapers`. `DIR/exit` holds the status with
//! which it shall exit at once; `DIR/hang` makes it say nothing after its first order.
//!
//! With `DIR/granted` it is director and only voter of a cluster of one, which grants itself the lease; without, another node votes.
//! What is in `DIR/hold.json` it orders to be held, in the epoch that the guard said last; with
//! `DIR/watch` it has an eye on the lease itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use vedette_core::id::NodeNumber;
use vedette_core::model::AgentStatus;
use vedette_node::guard::protocol::{
    Configure, Confirmed, Hold, Holding, Notice, Order, SOCKET_VARIABLE,
};
use vedette_node::guard::{self, EXIT_CONFIGURATION, ExitReason, GuardConfig, client};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let directory = PathBuf::from(arguments.last().cloned().unwrap_or_default());
    let result = match std::env::var_os(SOCKET_VARIABLE) {
        _ if arguments.len() == 2 => reaper(&directory),
        Some(socket) => agent(&directory, Path::new(&socket)),
        None => guard(&directory),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn reaper(directory: &Path) -> Result<ExitCode, Failure> {
    append(directory.join("reapers"), &std::process::id().to_string())?;
    guard::reaper::run(directory)?;
    Ok(ExitCode::SUCCESS)
}

fn guard(directory: &Path) -> Result<ExitCode, Failure> {
    let me = std::env::current_exe()?;
    let reason = guard::run(GuardConfig {
        state_dir: directory.into(),
        socket: directory.join("guard.sock"),
        agent: vec![me.into(), directory.into()],
        reaper: vec!["reaper".into(), directory.into()],
        version: env!("CARGO_PKG_VERSION").into(),
        watchdog: directory.join("watchdog").exists().then(|| directory.join("watchdog")),
    })?;
    Ok(match reason {
        ExitReason::Left => ExitCode::SUCCESS,
        ExitReason::Configuration => ExitCode::from(EXIT_CONFIGURATION as u8),
    })
}

fn append(path: PathBuf, line: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(format!("{line}\n").as_bytes())?)
}

fn agent(directory: &Path, socket: &Path) -> Result<ExitCode, Failure> {
    append(directory.join("agents"), &std::process::id().to_string())?;
    if let Ok(status) = std::fs::read_to_string(directory.join("exit")) {
        return Ok(ExitCode::from(status.trim().parse::<u8>()?));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(talk(directory, socket))?;
    Ok(ExitCode::SUCCESS)
}

async fn talk(directory: &Path, socket: &Path) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (orders, mut notices) = client::connect(socket).await?;
    let text = std::fs::read(directory.join("configure.json"))?;
    let configure: Configure = serde_json::from_slice(&text)?;
    let release_max = Duration::from_millis(configure.timing.release_max_ms);
    orders.send(&Order::Configure(Box::new(configure.clone()))).await?;
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let ordered = Vec::new();
    let mut agent = Agent { directory, configure, granted: None, release_max, epoch: 0, ordered };
    let watch = notices.lease_watch();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for order in agent.orders()? {
                    orders.send(&order).await?;
                }
            }
            notice = notices.next() => match notice {
                Some(notice) => agent.hear(&notice, &watch)?,
                None => return Ok(()),
            },
            _ = asked_to_end.recv() => {
                orders.send(&Order::Leave).await?;
                return Ok(orders.send(&Order::Shutdown).await?);
            }
        }
    }
}

struct Agent<'a> {
    directory: &'a Path,
    configure: Configure,
    /// Whether the guard was told that this node alone votes, so that it has a lease; else nobody who votes is there.
    granted: Option<bool>,
    release_max: Duration,
    epoch: u64,
    /// The text of the last order to hold.
    ordered: Vec<u8>,
}

impl Agent<'_> {
    fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    /// What is to be ordered now.
    fn orders(&mut self) -> Result<Vec<Order>, Failure> {
        if self.has("hang") {
            return Ok(Vec::new());
        }
        let granted = self.has("granted");
        let mut orders = Vec::new();
        if self.configure.peers.is_empty() && self.granted.replace(granted) != Some(granted) {
            let me = self.configure.me;
            self.configure.voters = vec![if granted { me } else { NodeNumber(me.0 + 1) }];
            self.configure.voters_since += 1;
            orders.push(Order::Configure(Box::new(self.configure.clone())));
        }
        let director = granted.then_some(Confirmed { term: 1, age_us: 0 });
        orders.push(Order::Status {
            status: AgentStatus::Running,
            director,
            continuity: false,
            position: 0,
            log_stalled: false,
        });
        let wanted = std::fs::read(self.directory.join("hold.json")).unwrap_or_default();
        if self.epoch != 0 && wanted != self.ordered {
            let mut hold: Hold = serde_json::from_slice(&wanted)?;
            if hold.epoch == 0 {
                hold.epoch = self.epoch;
            }
            orders.push(Order::Hold(Box::new(hold)));
            self.ordered = wanted;
        }
        Ok(orders)
    }

    fn hear(&mut self, notice: &Notice, watch: &client::LeaseWatch) -> Result<(), Failure> {
        match notice {
            Notice::Holding(holding) => {
                self.epoch = holding.epoch;
                self.watch(holding, watch);
            }
            Notice::ReleasedAll { epoch, .. } => self.epoch = *epoch,
            _ => {}
        }
        append(self.directory.join("notices.jsonl"), &serde_json::to_string(notice)?)
    }

    fn watch(&self, holding: &Holding, watch: &client::LeaseWatch) {
        if self.has("watch") {
            watch.hold(holding, self.release_max);
        }
    }
}
