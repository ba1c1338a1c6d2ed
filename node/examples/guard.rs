//! A guard with the smallest possible agent, as the tests of the guard run it.
//!
//! `guard DIR` runs a guard with its state in `DIR`. The agent, which is this program again, reads
//! its orders from `DIR/configure.json`, says RUNNING twice a second, and appends what it is told
//! to `DIR/notices.jsonl` and its process id to `DIR/agents`. `DIR/exit` holds the status with
//! which it shall exit at once; `DIR/hang` makes it say nothing after its first order.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use vedette_core::model::AgentStatus;
use vedette_node::guard::protocol::{Configure, Order, SOCKET_VARIABLE};
use vedette_node::guard::{self, EXIT_CONFIGURATION, ExitReason, GuardConfig, client};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_default());
    let result = match std::env::var_os(SOCKET_VARIABLE) {
        Some(socket) => agent(&directory, Path::new(&socket)),
        None => guard(&directory),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn guard(directory: &Path) -> Result<ExitCode, Failure> {
    let me = std::env::current_exe()?;
    let reason = guard::run(GuardConfig {
        state_dir: directory.into(),
        socket: directory.join("guard.sock"),
        agent: vec![me.into(), directory.into()],
        version: env!("CARGO_PKG_VERSION").into(),
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
    orders.send(&Order::Configure(Box::new(configure))).await?;
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let (status, director, continuity) = (AgentStatus::Running, None, false);
                if !directory.join("hang").exists() {
                    orders.send(&Order::Status { status, director, continuity }).await?;
                }
            }
            notice = notices.next() => match notice {
                Some(notice) => {
                    append(directory.join("notices.jsonl"), &serde_json::to_string(&notice)?)?;
                }
                None => return Ok(()),
            },
            _ = asked_to_end.recv() => {
                orders.send(&Order::Leave).await?;
                return Ok(orders.send(&Order::Shutdown).await?);
            }
        }
    }
}
