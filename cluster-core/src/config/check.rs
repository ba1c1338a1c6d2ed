//! The second step: what holds.
//!
//! Every check adds its findings and then goes on with a default, so that one mistake hides no
//! other. The [`Config`] that comes out is only handed on if no finding was an error.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{Priority, Settings, Severity, Timing};
use crate::reach;

use super::raw::{
    At, Number, RawConfig, RawHttp, RawLog, RawNetwork, RawNode, RawSnmp, RawTiming, Text,
};
use super::{Address, AgentX, AlertConfig, Config, LogConfig, LogFormat, NetworkConfig, Notes};

/// The longest path a Unix socket can have (`sun_path` less its final NUL).
const LONGEST_SOCKET_PATH: usize = 107;

/// The longest time that may be written, ten minutes; also keeps sums far from overflowing.
const LONGEST_MS: i64 = 600_000;

/// Makes of what was written what holds.
pub(super) fn check(raw: RawConfig, host_name: &str, notes: &mut Notes<'_>) -> Config {
    let RawConfig { node, cluster, networks, timing, http, snmp, alert, log, guard, paths } = raw;
    let log = check_log(&log, notes);
    let defaults = Settings::default();
    let one_machine = cluster.one_machine.as_ref().is_some_and(|flag| flag.value);
    Config {
        name: node_name(&node, host_name, notes),
        number: node_number(&node.number, notes),
        cluster: cluster_name(cluster.name, notes),
        settings: Settings {
            timing: check_timing(&timing, notes),
            logging_level: log.level,
            seed_count: number(notes, "cluster.seed", &cluster.seed, 1, 999, defaults.seed_count),
            voters: voters(&cluster.voters, defaults.voters, notes),
            ..defaults
        },
        one_machine,
        networks: check_networks(&networks, one_machine, notes),
        http: check_http(&http, notes),
        snmp: check_snmp(&snmp, notes),
        alert: AlertConfig {
            user: word(notes, "alert.user", alert.user),
            mail_to: word(notes, "alert.mail_to", alert.mail_to),
        },
        log,
        watchdog: guard
            .watchdog
            .map(|written| path(notes, "guard.watchdog", Some(written), "/dev/watchdog")),
        state_dir: path(notes, "paths.state_dir", paths.state_dir, "/var/lib/vedette"),
        control: socket_path(notes, "paths.control", paths.control, "/run/vedette/control.sock"),
    }
}

/// The number of `written`, if it is in the range; else `default`.
fn number<T: TryFrom<i64>>(
    notes: &mut Notes<'_>,
    key: &str,
    written: &Number,
    least: i64,
    most: i64,
    default: T,
) -> T {
    let Some(At { value, line }) = written else { return default };
    match T::try_from(*value) {
        Ok(number) if (least..=most).contains(value) => number,
        _ => {
            let advice = format!("Write a number from {least} to {most}.");
            notes.error(Some(*line), key, format!("{value} is out of range"), &advice);
            default
        }
    }
}

/// The value of a word from a fixed list, or `default`.
fn choice<T: Copy>(
    notes: &mut Notes<'_>,
    key: &str,
    written: &Text,
    choices: &[(&str, T)],
    default: T,
) -> T {
    let Some(At { value, line }) = written else { return default };
    if let Some((_, chosen)) = choices.iter().find(|(name, _)| name == value) {
        return *chosen;
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let advice = match super::near::nearest(value, &names) {
        Some(known) => format!("Did you mean \"{known}\"? Possible: {}.", names.join(", ")),
        None => format!("Possible: {}.", names.join(", ")),
    };
    notes.error(Some(*line), key, format!("{value:?} is not possible here"), &advice);
    default
}

/// A name is what can stand in a table, a label and a file name.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.len())
        && text.chars().all(fits)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

pub(crate) const NAME_ADVICE: &str =
    "Write 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit.";

fn node_name(node: &RawNode, host_name: &str, notes: &mut Notes<'_>) -> String {
    match &node.name {
        Some(At { value, line }) => {
            if !is_name(value) {
                let what = format!("{value:?} cannot be a node's name");
                notes.error(Some(*line), "node.name", what, NAME_ADVICE);
            }
            value.clone()
        }
        None => {
            if !is_name(host_name) {
                let what = format!("the host's name {host_name:?} cannot be a node's name");
                notes.error(None, "node.name", what, "Give the node a name: [node] name = \"n1\".");
            }
            host_name.to_owned()
        }
    }
}

fn node_number(written: &Number, notes: &mut Notes<'_>) -> Option<NodeNumber> {
    written.as_ref()?;
    let most = i64::from(NodeNumber::MAX);
    NodeNumber::new(number(notes, "node.number", written, 1, most, 1))
}

fn cluster_name(written: Text, notes: &mut Notes<'_>) -> String {
    let Some(At { value, line }) = written else { return "cluster".into() };
    if !is_name(&value) {
        let what = format!("{value:?} cannot be a cluster's name");
        notes.error(Some(line), "cluster.name", what, NAME_ADVICE);
    }
    value
}

fn voters(written: &Number, default: u8, notes: &mut Notes<'_>) -> u8 {
    match written {
        None => default,
        Some(At { value: 3, .. }) => 3,
        Some(At { value: 5, .. }) => 5,
        Some(At { value, line }) => {
            let what = format!("a log with {value} voters is not possible");
            let advice = "Write 3 or 5; further nodes learn without voting.";
            notes.error(Some(*line), "cluster.voters", what, advice);
            default
        }
    }
}

fn check_networks(
    raw: &[RawNetwork],
    one_machine: bool,
    notes: &mut Notes<'_>,
) -> BTreeMap<NetworkNumber, NetworkConfig> {
    let most = usize::from(NetworkNumber::MAX);
    match raw {
        [] => notes.error(
            None,
            "network",
            "no network is configured, so no other node can be watched",
            "Add at least one, better two: [[network]] with name and address.",
        ),
        [only] => notes.warning(
            Some(only.line),
            "network",
            "there is only one network, so a broken cable and a dead node look alike",
            "Add a second [[network]] over other hardware.",
        ),
        [_, .., last] if raw.len() > most => {
            let what = format!("{} networks are too many", raw.len());
            let advice = format!("Keep at most {most}.");
            notes.error(Some(last.line), "network", what, &advice);
        }
        _ => {}
    }
    refuse_repeats(raw, "name", |network| &network.name, notes);
    refuse_repeats(raw, "address", |network| &network.address, notes);
    if raw.len() > 1 && raw.iter().all(is_low) {
        notes.warning(
            raw.first().map(|first| first.line),
            "network",
            "every network has low priority, so none carries beats at the full rate",
            "Give at least one network priority = \"high\".",
        );
    }
    (1..=NetworkNumber::MAX)
        .zip(raw)
        .map(|(number, network)| {
            (NetworkNumber(number), check_network(number, network, one_machine, notes))
        })
        .collect()
}

fn is_low(network: &RawNetwork) -> bool {
    network.priority.as_ref().is_some_and(|priority| priority.value == Priority::Low.name())
}

/// Refuses a value that an earlier network has already.
fn refuse_repeats(
    raw: &[RawNetwork],
    key: &str,
    value: impl Fn(&RawNetwork) -> &Text,
    notes: &mut Notes<'_>,
) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, network) in raw.iter().enumerate() {
        let Some(At { value, line }) = value(network) else { continue };
        if let Some(first) = seen.get(value.as_str()) {
            let what = format!("{value:?} stands in line {first} already");
            let full = format!("network[{}].{key}", place + 1);
            notes.error(Some(*line), &full, what, "Every network needs one of its own.");
        } else {
            seen.insert(value, *line);
        }
    }
}

fn check_network(
    place: u8,
    raw: &RawNetwork,
    one_machine: bool,
    notes: &mut Notes<'_>,
) -> NetworkConfig {
    let key = |name: &str| format!("network[{place}].{name}");
    let priorities: Vec<(&str, Priority)> =
        Priority::ALL.iter().map(|priority| (priority.name(), *priority)).collect();
    let address = network_address(&key("address"), raw, one_machine, notes);
    NetworkConfig {
        name: network_name(&key("name"), raw, notes),
        priority: choice(notes, &key("priority"), &raw.priority, &priorities, Priority::High),
        beat_port: number(notes, &key("beat_port"), &raw.beat_port, 1, 65_535, 7_770),
        peer_port: number(notes, &key("peer_port"), &raw.peer_port, 1, 65_535, 7_771),
        ping: ping(&key("ping"), raw, &address, notes),
        address,
    }
}

/// A network's name is also the name of its port, and `a` and `h` are ports already.
fn network_name(key: &str, raw: &RawNetwork, notes: &mut Notes<'_>) -> String {
    let Some(At { value, line }) = &raw.name else {
        let advice = "Give it the name it has on every node: name = \"neta\".";
        notes.error(Some(raw.line), key, "the network has no name", advice);
        return String::new();
    };
    if !is_name(value) {
        let what = format!("{value:?} cannot be a network's name");
        notes.error(Some(*line), key, what, NAME_ADVICE);
    } else if matches!(value.as_str(), "a" | "h") {
        let what = format!("{value:?} cannot be a network's name, because port {value} has it");
        notes.error(Some(*line), key, what, "Choose a longer name, such as \"neta\".");
    }
    value.clone()
}

fn network_address(
    key: &str,
    raw: &RawNetwork,
    one_machine: bool,
    notes: &mut Notes<'_>,
) -> Address {
    let Some(At { value, line }) = &raw.address else {
        let advice = "Write this node's address on it: address = \"10.0.1.1\".";
        notes.error(Some(raw.line), key, "this node has no address on the network", advice);
        return Address::Name(String::new());
    };
    let Ok(ip) = value.parse::<IpAddr>() else {
        // All digits and dots is an address with a mistake in it, not a name.
        let numeric = value.chars().all(|c| c.is_ascii_digit() || c == '.');
        if numeric || !is_name(value) {
            let what = format!("{value:?} is neither an IP address nor a host name");
            notes.error(Some(*line), key, what, "Write an address such as \"10.0.1.1\".");
        }
        return Address::Name(value.clone());
    };
    if let Some(why) = reach::unreachable(ip).filter(|_| !(one_machine && ip.is_loopback())) {
        let what = format!("other nodes cannot reach this one by {ip}, which {why}");
        notes.error(Some(*line), key, what, &reach::instead(ip));
    }
    Address::Ip(ip)
}

fn ping(key: &str, raw: &RawNetwork, own: &Address, notes: &mut Notes<'_>) -> Option<IpAddr> {
    let At { value, line } = raw.ping.as_ref()?;
    let Ok(target) = value.parse::<IpAddr>() else {
        let what = format!("{value:?} is not an IP address");
        notes.error(Some(*line), key, what, "Write the address of a router on the network.");
        return None;
    };
    if *own == Address::Ip(target) {
        let what = format!("{target} is this node itself, which always answers");
        notes.error(Some(*line), key, what, "Write the address of a router on the network.");
    }
    Some(target)
}

fn check_timing(raw: &RawTiming, notes: &mut Notes<'_>) -> Timing {
    let base = choice(notes, "timing.profile", &raw.profile, Timing::PROFILES, Timing::DEFAULT);
    let mut ms = |name: &str, written: &Number, default: u64| {
        number(notes, &format!("timing.{name}"), written, 1, LONGEST_MS, default)
    };
    let timing = Timing {
        interval_ms: ms("interval_ms", &raw.interval_ms, base.interval_ms),
        sensitivity: ms("sensitivity", &raw.sensitivity, base.sensitivity),
        raft_heartbeat_ms: ms("raft_heartbeat_ms", &raw.raft_heartbeat_ms, base.raft_heartbeat_ms),
        election_min_ms: ms("election_min_ms", &raw.election_min_ms, base.election_min_ms),
        election_max_ms: ms("election_max_ms", &raw.election_max_ms, base.election_max_ms),
        lease_ms: ms("lease_ms", &raw.lease_ms, base.lease_ms),
        release_max_ms: ms("release_max_ms", &raw.release_max_ms, base.release_max_ms),
    };
    if let Err(refusal) = timing.check() {
        notes.error(raw.line, "timing", refusal.what, &refusal.advice);
    }
    timing
}

fn check_http(raw: &RawHttp, notes: &mut Notes<'_>) -> Option<SocketAddr> {
    let local = SocketAddr::from(([127, 0, 0, 1], 7_780));
    let enabled = raw.enabled.as_ref().is_none_or(|flag| flag.value);
    let allow_remote = raw.allow_remote.as_ref().is_some_and(|flag| flag.value);
    let Some(At { value, line }) = &raw.listen else { return enabled.then_some(local) };
    let Ok(listen) = value.parse::<SocketAddr>() else {
        let what = format!("{value:?} is not an address with a port");
        notes.error(Some(*line), "http.listen", what, "Write for example \"127.0.0.1:7780\".");
        return None;
    };
    if !listen.ip().is_loopback() && !allow_remote {
        notes.error(
            Some(*line),
            "http.listen",
            format!("{listen} can be reached from other hosts, without encryption or password"),
            "Listen on 127.0.0.1, or add allow_remote = true if the network is trusted.",
        );
    }
    enabled.then_some(listen)
}

fn check_snmp(raw: &RawSnmp, notes: &mut Notes<'_>) -> Option<AgentX> {
    let enabled = raw.enabled.as_ref().is_none_or(|flag| flag.value);
    let agentx = match &raw.agentx {
        None => AgentX::Unix(PathBuf::from("/var/agentx/master")),
        Some(At { value, line }) => agentx(value).unwrap_or_else(|| {
            let what = format!("{value:?} is neither a Unix socket nor a TCP address");
            let advice = "Write \"/var/agentx/master\" or \"tcp:127.0.0.1:705\".";
            notes.error(Some(*line), "snmp.agentx", what, advice);
            AgentX::Unix(PathBuf::new())
        }),
    };
    enabled.then_some(agentx)
}

fn agentx(text: &str) -> Option<AgentX> {
    match text.strip_prefix("tcp:") {
        Some(address) => address.parse().ok().map(AgentX::Tcp),
        None => is_socket_path(text).then(|| AgentX::Unix(PathBuf::from(text))),
    }
}

fn check_log(raw: &RawLog, notes: &mut Notes<'_>) -> LogConfig {
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    let levels: Vec<(&str, Severity)> =
        Severity::ALL.iter().map(|severity| (severity.name(), *severity)).collect();
    LogConfig {
        format: choice(notes, "log.format", &raw.format, &formats, LogFormat::Human),
        level: choice(notes, "log.level", &raw.level, &levels, Severity::Notice),
    }
}

/// A user or a mail address: one word, which can never be taken for an option.
fn word(notes: &mut Notes<'_>, key: &str, written: Text) -> Option<String> {
    let At { value, line } = written?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if value.is_empty() || value.starts_with('-') || value.contains(odd) {
        let what = format!("{value:?} cannot stand here");
        notes.error(Some(line), key, what, "Write one word that does not begin with '-'.");
    }
    Some(value)
}

fn is_absolute(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0')
}

fn is_socket_path(text: &str) -> bool {
    is_absolute(text) && text.len() <= LONGEST_SOCKET_PATH
}

fn path(notes: &mut Notes<'_>, key: &str, written: Text, default: &str) -> PathBuf {
    let Some(At { value, line }) = written else { return PathBuf::from(default) };
    if !is_absolute(&value) {
        let what = format!("{value:?} is not an absolute path");
        notes.error(Some(line), key, what, &format!("Write for example {default:?}."));
    }
    PathBuf::from(value)
}

fn socket_path(notes: &mut Notes<'_>, key: &str, written: Text, default: &str) -> PathBuf {
    if let Some(At { value, line }) = &written
        && value.len() > LONGEST_SOCKET_PATH
    {
        let what = format!("a path of {} bytes cannot be a socket", value.len());
        let advice = format!("Choose one of at most {LONGEST_SOCKET_PATH} bytes.");
        notes.error(Some(*line), key, what, &advice);
    }
    path(notes, key, written, default)
}
