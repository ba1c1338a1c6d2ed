//! The lab's command line: a cluster in network namespaces, and faults to try on it.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use vedette_tests::lab::{Direction, Lab, LabError, Result, UpOptions, Victim};

#[derive(Parser)]
#[command(
    name = "vedette-lab",
    about = "A cluster of real daemons in network namespaces, and faults to try on it (root)",
    after_help = "Examples:\n  vedette-lab up --nodes 3 --networks 2\n  vedette-lab kill n3 --power\n  vedette-lab status\n  vedette-lab restart n3\n  vedette-lab cut n2 --network neta --one-way\n  vedette-lab delay 60 --jitter 10\n  vedette-lab heal\n  vedette-lab exec n1 -- vedette-lab --help\n  vedette-lab down"
)]
struct Cli {
    /// The lab's directory; `lab.json` is there.
    #[arg(long, global = true, default_value = "/tmp/vedette-lab")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the namespaces, start the daemons, form the cluster.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: u16,
        /// How many networks.
        #[arg(long, default_value_t = 2)]
        networks: usize,
        /// Timing profile: default, fast or wide.
        #[arg(long, default_value = "default")]
        profile: String,
        /// Run Prometheus too.
        #[arg(long)]
        prometheus: bool,
        /// Take the lab down when this process ends.
        #[arg(long)]
        owner: Option<u32>,
    },
    /// End everything and remove the namespaces.
    Down,
    /// Kill without warning.
    Kill {
        /// The node.
        node: String,
        #[command(flatten)]
        victim: VictimFlags,
    },
    /// Stop processes (SIGSTOP) until `resume` or `heal`.
    Pause {
        /// The node.
        node: String,
        #[command(flatten)]
        victim: VictimFlags,
    },
    /// Let paused processes go on.
    Resume {
        /// The node.
        node: String,
    },
    /// Give a node its power back, or restart its daemon.
    Restart {
        /// The node.
        node: String,
    },
    /// End a node's daemon with a request.
    Stop {
        /// The node.
        node: String,
    },
    /// Cut a node's cables.
    Cut {
        /// The node.
        node: String,
        /// Only this network.
        #[arg(long)]
        network: Option<String>,
        /// Only what the node sends is lost.
        #[arg(long)]
        one_way: bool,
        /// With --one-way: only what the node should hear is lost instead.
        #[arg(long, requires = "one_way")]
        inbound: bool,
    },
    /// Remove every fault but lost power and dead processes.
    Heal,
    /// Lose a share of all packets.
    Loss {
        /// Percentage.
        percent: f64,
        /// Only on this network.
        #[arg(long)]
        network: Option<String>,
    },
    /// Lose what is longer than so many bytes.
    Frames {
        /// Bytes of an IP packet; 0 loses nothing.
        most: u32,
        /// Only on this network.
        #[arg(long)]
        network: Option<String>,
    },
    /// Give every cable such a length that a round trip takes so many milliseconds; 0 takes that back.
    Delay {
        /// Milliseconds.
        round_trip: u64,
        /// How many more or fewer it may be.
        #[arg(long, default_value_t = 0)]
        jitter: u64,
    },
    /// Carry frames late between devices.
    #[command(hide = true)]
    Wires {
        /// Microseconds.
        time: u64,
        /// Microseconds.
        jitter: u64,
        /// Pairs of devices.
        pairs: Vec<String>,
    },
    /// Processes, and what the cluster says of itself.
    Status,
    /// Run a command in a node's namespaces.
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// The first process of a node.
    #[command(hide = true)]
    Hold,
    /// Keeps lab.json true and ends the lab with its owner.
    #[command(hide = true)]
    Janitor {
        /// Whose death ends the lab.
        #[arg(long)]
        owner: Option<u32>,
    },
}

#[derive(Args)]
#[group(multiple = false)]
struct VictimFlags {
    /// The agent.
    #[arg(long)]
    agent: bool,
    /// The guard.
    #[arg(long)]
    guard: bool,
    /// Guard and agent (the default).
    #[arg(long)]
    both: bool,
    /// The processes of resources.
    #[arg(long)]
    applications: bool,
    /// Guard, agent and the processes of resources.
    #[arg(long)]
    everything: bool,
    /// Everything, and the cables.
    #[arg(long)]
    power: bool,
}

impl VictimFlags {
    fn victim(&self) -> Victim {
        match (self.agent, self.guard, self.power) {
            (true, ..) => Victim::Agent,
            (_, true, _) => Victim::Guard,
            (.., true) => Victim::Power,
            _ if self.applications => Victim::Applications,
            _ if self.everything => Victim::Everything,
            _ => Victim::Both,
        }
    }
}

fn main() -> ExitCode {
    // `vedette-lab status | head` ends quietly.
    // SAFETY: nothing else runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vedette-lab: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let dir = std::path::absolute(&cli.dir)?;
    match cli.command {
        Verb::Hold => hold(),
        Verb::Janitor { owner } => Lab::keep(&dir, owner)?,
        Verb::Wires { time, jitter, pairs } => {
            vedette_tests::lab::carry(
                Duration::from_micros(time),
                Duration::from_micros(jitter),
                &pairs,
            )?;
        }
        Verb::Up { nodes, networks, profile, prometheus, owner } => {
            let options = UpOptions {
                dir,
                nodes,
                networks,
                profile,
                prometheus,
                owner,
                program: product()?,
                lab_program: std::env::current_exe()?,
                systemd: false,
            };
            let lab = Lab::up(&options, &mut |step| eprintln!("  {step}"))?;
            println!("{}", lab.file().display());
        }
        verb => return act(&Lab::open(&dir)?, verb),
    }
    Ok(ExitCode::SUCCESS)
}

fn act(lab: &Lab, verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Down => Lab::open(lab.dir())?.take_down(),
        Verb::Kill { node, victim } => lab.kill(&node, victim.victim())?,
        Verb::Pause { node, victim } => lab.pause(&node, victim.victim())?,
        Verb::Resume { node } => lab.resume(&node)?,
        Verb::Restart { node } => lab.restart(&node)?,
        Verb::Stop { node } => lab.stop(&node)?,
        Verb::Cut { node, network, one_way, inbound } => {
            let direction = one_way.then_some(if inbound { Direction::In } else { Direction::Out });
            lab.cut(&node, network.as_deref(), direction)?;
        }
        Verb::Heal => lab.heal()?,
        Verb::Loss { percent, network } => lab.loss(percent, network.as_deref())?,
        Verb::Frames { most, network } => {
            lab.frames((most > 0).then_some(most), network.as_deref())?;
        }
        Verb::Delay { round_trip, jitter } => {
            lab.delay(Duration::from_millis(round_trip), Duration::from_millis(jitter))?;
        }
        Verb::Status => status(lab)?,
        Verb::Exec { node, command } => {
            let status = lab.exec(&node, &command[0], &command[1..])?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2)));
        }
        Verb::Up { .. } | Verb::Hold | Verb::Wires { .. } | Verb::Janitor { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn status(lab: &Lab) -> Result<()> {
    let file = lab.refresh()?;
    let number = |pid: Option<u32>| pid.map_or("-".to_owned(), |pid| pid.to_string());
    println!("{:6} {:>8} {:>8}  ADDRESSES", "NODE", "GUARD", "AGENT");
    for node in &file.nodes {
        println!(
            "{:6} {:>8} {:>8}  {}",
            node.name,
            number(node.guard_pid),
            number(node.agent_pid),
            node.addresses.join(" ")
        );
    }
    let alive = file.nodes.iter().filter(|node| node.agent_pid.is_some());
    for node in alive {
        println!("\nas {} sees it:", node.name);
        let output = lab.vedette(&node.name, &["status"])?;
        println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    }
    Ok(())
}

/// The product, built beside this program.
fn product() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("vedette");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(LabError(format!("{} is not there. Build it: cargo build.", beside.display())))
}

/// Collects orphans, as the first process of a process namespace must.
fn hold() {
    loop {
        if nix::sys::wait::wait().is_err() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
