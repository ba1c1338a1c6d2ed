//! The configuration of one node, `/etc/vedette/vedette.toml`, from its text to values that hold.
//!
//! Two steps. [`raw`] reads the text into what was *written*: every value optional and with its
//! line, unknown keys refused together with the known key that is nearest. [`check`] makes of it
//! what *holds*: defaults filled in, ranges, duplicates and the timer contract checked. Neither
//! step stops at the first mistake; a person who corrects a file wants all of them at once.
//!
//! Nothing here looks at the host. Whether an address is on this machine, whether a name resolves
//! and whether a directory can be written is checked by whoever has the parsed [`Config`].

mod check;
pub(crate) mod near;
mod raw;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub(crate) use check::{NAME_ADVICE, is_name};

use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{Priority, Settings, Severity};

/// Where the configuration is unless `--config` says otherwise.
pub const FILE: &str = "/etc/vedette/vedette.toml";

/// What holds for this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's name (spec V14).
    pub name: String,
    /// The number it asks for, if the file has one.
    pub number: Option<NodeNumber>,
    /// The cluster's name, for `vedette init`.
    pub cluster: String,
    /// The cluster's settings, for `vedette init`: timers, seed count, voters, logging level.
    pub settings: Settings,
    /// Whether all nodes are on this machine, to try things: then loopback addresses will do.
    pub one_machine: bool,
    /// The networks, in the order of the file.
    pub networks: BTreeMap<NetworkNumber, NetworkConfig>,
    /// The HTTP surface; `None` where it is switched off.
    pub http: Option<SocketAddr>,
    /// Where the master SNMP agent listens; `None` where SNMP is switched off.
    pub snmp: Option<AgentX>,
    /// Who runs the alert script and who gets its mail.
    pub alert: AlertConfig,
    /// What this node's daemon logs until the cluster's own level is known.
    pub log: LogConfig,
    /// The machine's watchdog that the guard pets, if it is to have one.
    pub watchdog: Option<PathBuf>,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
}

/// One network, and this node's address on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its name, the same on every node.
    pub name: String,
    /// This node's address on it.
    pub address: Address,
    /// Its priority.
    pub priority: Priority,
    /// UDP port of heartbeats.
    pub beat_port: u16,
    /// TCP port of peers.
    pub peer_port: u16,
    /// What to probe when two nodes cannot tell whose fault it is (spec H4).
    pub ping: Option<IpAddr>,
}

/// An address as it was written: the name still has to be resolved by whoever can.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Name(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => fmt::Display::fmt(ip, f),
            Self::Name(name) => f.pad(name),
        }
    }
}

/// Where the master SNMP agent listens for subagents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentX {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl fmt::Display for AgentX {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// How alerts leave this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertConfig {
    /// The user that runs the alert script; the daemon's own if none is named.
    pub user: Option<String>,
    /// To whom the built-in script sends mail, if to anybody.
    pub mail_to: Option<String>,
}

/// How this node's daemon logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severity that is logged.
    pub level: Severity,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably should not.
    Warning,
}

impl Level {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong with a configuration, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The file.
    pub file: String,
    /// The line, counted from 1; `None` for something that is not there at all.
    pub line: Option<usize>,
    /// The key, such as `network[2].address`.
    pub key: String,
    /// One sentence without its full stop: what is wrong.
    pub what: String,
    /// One sentence: what to do.
    pub advice: String,
}

/// Two lines: where and what, then what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: ", self.level.name())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}.\n    {}", self.what, self.advice)
    }
}

/// Everything that was found in one file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, finding) in self.0.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// A configuration that can be used, and what should be thought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Findings that are no errors.
    pub warnings: Findings,
}

/// Reads `text`, the content of `file`. `host_name` is what `uname -n` says and is the node's name
/// where the file has none (spec V14).
///
/// # Errors
/// Every finding, warnings included, if at least one of them is an error.
pub fn parse(file: &str, text: &str, host_name: &str) -> Result<Checked, Findings> {
    let mut notes = Notes::new(file, text);
    let raw = raw::read(text, &mut notes);
    let config = raw.map(|raw| check::check(raw, host_name, &mut notes));
    let findings = notes.finish();
    match config {
        Some(config) if findings.0.iter().all(|finding| finding.level == Level::Warning) => {
            Ok(Checked { config, warnings: findings })
        }
        _ => Err(findings),
    }
}

/// Where findings are gathered; knows the lines of the text.
struct Notes<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Finding>,
}

impl<'a> Notes<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// The line, from 1, in which the byte at `offset` lies.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn error(&mut self, line: Option<usize>, key: &str, what: impl Into<String>, advice: &str) {
        self.add(Level::Error, line, key, what.into(), advice);
    }

    fn warning(&mut self, line: Option<usize>, key: &str, what: impl Into<String>, advice: &str) {
        self.add(Level::Warning, line, key, what.into(), advice);
    }

    fn add(&mut self, level: Level, line: Option<usize>, key: &str, what: String, advice: &str) {
        self.found.push(Finding {
            level,
            file: self.file.into(),
            line,
            key: key.into(),
            what,
            advice: advice.into(),
        });
    }

    /// In the order of the lines; what is missing altogether comes last.
    fn finish(mut self) -> Findings {
        self.found.sort_by_key(|finding| finding.line.unwrap_or(usize::MAX));
        Findings(self.found)
    }
}
