//! The first step: what was written, with the line of every value.
//!
//! A [`Reader`] is one table while it is being read. It remembers which keys were asked for, so
//! the list of known keys is the reading itself and cannot go out of step with it; what is left
//! over at the end is unknown. A value of the wrong kind is a finding and counts as not written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Notes, near};

/// A value and the line it was written in.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// A text that may not have been written.
pub(super) type Text = Option<At<String>>;
/// A number that may not have been written.
pub(super) type Number = Option<At<i64>>;
/// A yes or no that may not have been written.
pub(super) type Flag = Option<At<bool>>;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    pub(super) node: RawNode,
    pub(super) cluster: RawCluster,
    pub(super) networks: Vec<RawNetwork>,
    pub(super) timing: RawTiming,
    pub(super) http: RawHttp,
    pub(super) snmp: RawSnmp,
    pub(super) alert: RawAlert,
    pub(super) log: RawLog,
    pub(super) guard: RawGuard,
    pub(super) paths: RawPaths,
}

/// `[node]`
#[derive(Debug, Default)]
pub(super) struct RawNode {
    pub(super) name: Text,
    pub(super) number: Number,
}

/// `[cluster]`
#[derive(Debug, Default)]
pub(super) struct RawCluster {
    pub(super) name: Text,
    pub(super) seed: Number,
    pub(super) voters: Number,
    pub(super) one_machine: Flag,
}

/// One `[[network]]`
#[derive(Debug, Default)]
pub(super) struct RawNetwork {
    pub(super) line: usize,
    pub(super) name: Text,
    pub(super) address: Text,
    pub(super) priority: Text,
    pub(super) beat_port: Number,
    pub(super) peer_port: Number,
    pub(super) ping: Text,
}

/// `[timing]`
#[derive(Debug, Default)]
pub(super) struct RawTiming {
    pub(super) line: Option<usize>,
    pub(super) profile: Text,
    pub(super) interval_ms: Number,
    pub(super) sensitivity: Number,
    pub(super) raft_heartbeat_ms: Number,
    pub(super) election_min_ms: Number,
    pub(super) election_max_ms: Number,
    pub(super) lease_ms: Number,
    pub(super) release_max_ms: Number,
}

/// `[http]`
#[derive(Debug, Default)]
pub(super) struct RawHttp {
    pub(super) enabled: Flag,
    pub(super) listen: Text,
    pub(super) allow_remote: Flag,
}

/// `[snmp]`
#[derive(Debug, Default)]
pub(super) struct RawSnmp {
    pub(super) enabled: Flag,
    pub(super) agentx: Text,
}

/// `[alert]`
#[derive(Debug, Default)]
pub(super) struct RawAlert {
    pub(super) user: Text,
    pub(super) mail_to: Text,
}

/// `[log]`
#[derive(Debug, Default)]
pub(super) struct RawLog {
    pub(super) format: Text,
    pub(super) level: Text,
}

/// `[guard]`
#[derive(Debug, Default)]
pub(super) struct RawGuard {
    pub(super) watchdog: Text,
}

/// `[paths]`
#[derive(Debug, Default)]
pub(super) struct RawPaths {
    pub(super) state_dir: Text,
    pub(super) control: Text,
}

/// Reads the text; `None` if it is not TOML at all, since then nothing else can be said of it.
pub(super) fn read(text: &str, notes: &mut Notes<'_>) -> Option<RawConfig> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map(|span| notes.line(span.start));
        let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        notes.error(line, "", what, "Correct the line; https://toml.io shows how TOML is written.");
    }
    if !errors.is_empty() {
        return None;
    }
    let mut top = Reader::new(document.get_ref(), String::new(), None);
    let raw = RawConfig {
        node: top.section(notes, "node", read_node),
        cluster: top.section(notes, "cluster", read_cluster),
        networks: top.networks(notes),
        timing: top.section(notes, "timing", read_timing),
        http: top.section(notes, "http", read_http),
        snmp: top.section(notes, "snmp", |r, n| RawSnmp {
            enabled: r.flag(n, "enabled"),
            agentx: r.text(n, "agentx"),
        }),
        alert: top.section(notes, "alert", |r, n| RawAlert {
            user: r.text(n, "user"),
            mail_to: r.text(n, "mail_to"),
        }),
        log: top.section(notes, "log", |r, n| RawLog {
            format: r.text(n, "format"),
            level: r.text(n, "level"),
        }),
        guard: top.section(notes, "guard", |r, n| RawGuard { watchdog: r.text(n, "watchdog") }),
        paths: top.section(notes, "paths", |r, n| RawPaths {
            state_dir: r.text(n, "state_dir"),
            control: r.text(n, "control"),
        }),
    };
    top.finish(notes);
    Some(raw)
}

fn read_node(r: &mut Reader<'_, '_>, n: &mut Notes<'_>) -> RawNode {
    RawNode { name: r.text(n, "name"), number: r.number(n, "number") }
}

fn read_cluster(r: &mut Reader<'_, '_>, n: &mut Notes<'_>) -> RawCluster {
    RawCluster {
        name: r.text(n, "name"),
        seed: r.number(n, "seed"),
        voters: r.number(n, "voters"),
        one_machine: r.flag(n, "one_machine"),
    }
}

fn read_http(r: &mut Reader<'_, '_>, n: &mut Notes<'_>) -> RawHttp {
    RawHttp {
        enabled: r.flag(n, "enabled"),
        listen: r.text(n, "listen"),
        allow_remote: r.flag(n, "allow_remote"),
    }
}

fn read_network(r: &mut Reader<'_, '_>, n: &mut Notes<'_>) -> RawNetwork {
    RawNetwork {
        line: r.line.unwrap_or(1),
        name: r.text(n, "name"),
        address: r.text(n, "address"),
        priority: r.text(n, "priority"),
        beat_port: r.number(n, "beat_port"),
        peer_port: r.number(n, "peer_port"),
        ping: r.text(n, "ping"),
    }
}

fn read_timing(r: &mut Reader<'_, '_>, n: &mut Notes<'_>) -> RawTiming {
    RawTiming {
        line: r.line,
        profile: r.text(n, "profile"),
        interval_ms: r.number(n, "interval_ms"),
        sensitivity: r.number(n, "sensitivity"),
        raft_heartbeat_ms: r.number(n, "raft_heartbeat_ms"),
        election_min_ms: r.number(n, "election_min_ms"),
        election_max_ms: r.number(n, "election_max_ms"),
        lease_ms: r.number(n, "lease_ms"),
        release_max_ms: r.number(n, "release_max_ms"),
    }
}

/// One table while it is being read.
struct Reader<'t, 'i> {
    table: &'t DeTable<'i>,
    /// How keys of this table are named in findings, such as `network[2].`.
    prefix: String,
    line: Option<usize>,
    asked: Vec<&'static str>,
}

impl<'t, 'i> Reader<'t, 'i> {
    fn new(table: &'t DeTable<'i>, prefix: String, line: Option<usize>) -> Self {
        Self { table, prefix, line, asked: Vec::new() }
    }

    /// The value of `key`, and the line of the key.
    fn take(
        &mut self,
        notes: &Notes<'_>,
        key: &'static str,
    ) -> Option<(&'t Spanned<DeValue<'i>>, usize)> {
        self.asked.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some((value, notes.line(name.span().start)))
    }

    /// Reads a value of one kind; another kind is a finding.
    fn read<T>(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        kind: &str,
        convert: impl Fn(&DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let (value, line) = self.take(notes, key)?;
        let converted = convert(value.get_ref());
        if converted.is_none() {
            let key = format!("{}{key}", self.prefix);
            let what = format!("{} cannot stand here", article(value.get_ref().type_str()));
            notes.error(Some(line), &key, what, &format!("Write {kind}."));
        }
        converted.map(|value| At { value, line })
    }

    fn text(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Text {
        self.read(notes, key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    fn flag(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Flag {
        self.read(notes, key, "true or false", DeValue::as_bool)
    }

    fn number(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Number {
        self.read(notes, key, "a whole number", |value| {
            let integer = value.as_integer()?;
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()
        })
    }

    /// Reads the table `key`, or nothing if it is not there.
    fn section<T: Default>(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        read: impl Fn(&mut Reader<'t, 'i>, &mut Notes<'_>) -> T,
    ) -> T {
        let Some((value, line)) = self.take(notes, key) else { return T::default() };
        let Some(table) = value.get_ref().as_table() else {
            let what = format!("{} cannot stand here", article(value.get_ref().type_str()));
            notes.error(Some(line), key, what, &format!("Write a table: [{key}]."));
            return T::default();
        };
        let mut reader = Reader::new(table, format!("{key}."), Some(line));
        let section = read(&mut reader, notes);
        reader.finish(notes);
        section
    }

    /// Reads every `[[network]]`.
    fn networks(&mut self, notes: &mut Notes<'_>) -> Vec<RawNetwork> {
        let Some((value, line)) = self.take(notes, "network") else { return Vec::new() };
        let Some(tables) = value.get_ref().as_array() else {
            notes.error(
                Some(line),
                "network",
                "networks are a list",
                "Write each network as a table of its own: [[network]].",
            );
            return Vec::new();
        };
        let mut networks = Vec::new();
        for (place, entry) in tables.iter().enumerate() {
            let line = notes.line(entry.span().start);
            let key = format!("network[{}]", place + 1);
            let Some(table) = entry.get_ref().as_table() else {
                let advice = "Write each network as a table of its own: [[network]].";
                notes.error(Some(line), &key, "a network is a table", advice);
                continue;
            };
            let mut reader = Reader::new(table, format!("{key}."), Some(line));
            networks.push(read_network(&mut reader, notes));
            reader.finish(notes);
        }
        networks
    }

    /// Refuses every key that nobody asked for.
    fn finish(self, notes: &mut Notes<'_>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let advice = match near::nearest(name, &self.asked) {
                Some(known) => format!("Did you mean {known}?"),
                None => format!("Known here: {}.", self.asked.join(", ")),
            };
            let line = notes.line(key.span().start);
            let full = format!("{}{name}", self.prefix);
            notes.error(Some(line), &full, "this key is not known", &advice);
        }
    }
}

/// `a string`, `an integer`.
fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}
