//! Processes by program and user (spec H29, H31): `rwhod` of `root`, and how many.
//!
//! The value has three fields: how many there are, how many there were before that changed last, and
//! the process ids. So `X@0==0&&X@1!=0` stays true after the last one died, until one runs again,
//! however often anybody looks. The counts outlive the agent (in a file that is forgotten when the
//! machine restarts), so a process that dies while the agent is away is noticed all the same.
//!
//! A program's name is what the kernel calls the process (for a script, the script's name); where that
//! was cut at 15 letters, the name of the file that was started. Only processes of this node's own
//! process namespace count: those of containers are somebody else's, and so are the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use vedette_core::id::NodeNumber;
use vedette_core::variable::{Instance, Value};

use super::{Monitor, Sample, Taken, Wanted, read};

/// The variable.
const VARIABLE: &str = "program.count";

/// Programs of users that are remembered when none of them runs; more than that are forgotten.
const MOST_REMEMBERED: usize = 2_048;

/// Process ids that a value lists.
const MOST_IDS: usize = 200;

/// The kernel cuts names here.
const CUT: usize = 15;

/// The file in which counts are kept.
const FILE: &str = "programs.json";

/// What is remembered of a program of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    now: usize,
    before: usize,
}

/// A program and a user.
type Key = (String, String);

/// See the module.
pub(super) struct Programs {
    me: NodeNumber,
    proc: PathBuf,
    file: PathBuf,
    counts: BTreeMap<Key, Count>,
    users: BTreeMap<u32, String>,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Which start of the machine it belongs to.
    boot: String,
    counts: Vec<(String, String, Count)>,
}

impl Programs {
    pub(super) fn new(me: NodeNumber, proc: PathBuf, folder: &Path) -> Self {
        let file = folder.join(FILE);
        let counts = recall(&file, &boot(&proc));
        Self { me, proc, file, counts, users: BTreeMap::new() }
    }

    /// The processes that are meant, by program and user; their ids as their own namespace has them.
    fn scan(&mut self, wanted: &[Wanted]) -> Result<BTreeMap<Key, Vec<u32>>, String> {
        let own = std::fs::read_link(self.proc.join("self/ns/pid")).ok();
        let all = std::fs::read_dir(&self.proc)
            .map_err(|error| format!("{} cannot be read: {error}", self.proc.display()))?;
        let mut found: BTreeMap<Key, Vec<u32>> = BTreeMap::new();
        for entry in all.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
                continue;
            };
            // One that ended meanwhile is none.
            let Some(process) = self.process(pid) else { continue };
            let user = self.user(process.uid);
            if !is_wanted(wanted, self.me, &process.name, &user) {
                continue;
            }
            let space = std::fs::read_link(self.proc.join(pid).join("ns/pid")).ok();
            if space == own {
                found.entry((process.name, user)).or_default().push(process.id);
            }
        }
        Ok(found)
    }

    fn process(&self, pid: &str) -> Option<Process> {
        let mut process = parse(&read(&self.proc, &format!("{pid}/status")).ok()?)?;
        if process.name.len() >= CUT {
            let line = std::fs::read(self.proc.join(pid).join("cmdline")).unwrap_or_default();
            process.name = whole_name(&process.name, &line);
        }
        Some(process)
    }

    fn user(&mut self, uid: u32) -> String {
        let known = self.users.entry(uid).or_insert_with(|| {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map_or_else(|| uid.to_string(), |user| user.name)
        });
        known.clone()
    }

    /// Takes in what was found. Answers whether anything changed.
    fn count(&mut self, found: &BTreeMap<Key, Vec<u32>>, wanted: &[Wanted]) -> bool {
        let old = self.counts.clone();
        let named: BTreeSet<Key> = wanted.iter().flat_map(names).collect();
        for key in found.keys().chain(&named) {
            self.counts.entry(key.clone()).or_default();
        }
        for (key, count) in &mut self.counts {
            let now = found.get(key).map_or(0, Vec::len);
            if now != count.now {
                *count = Count { now, before: count.now };
            }
        }
        let me = self.me;
        self.counts.retain(|(name, user), _| is_wanted(wanted, me, name, user));
        if self.counts.len() > MOST_REMEMBERED {
            self.counts.retain(|key, count| count.now > 0 || named.contains(key));
        }
        self.counts != old
    }

    fn samples(&self, found: &BTreeMap<Key, Vec<u32>>) -> Vec<Sample> {
        let sample = |((name, user), count): (&Key, &Count)| {
            let ids = found.get(&(name.clone(), user.clone())).map_or(&[][..], Vec::as_slice);
            let ids: Vec<String> = ids.iter().take(MOST_IDS).map(u32::to_string).collect();
            let number = |count| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
            Sample {
                variable: VARIABLE.into(),
                instance: instance(self.me, name, user),
                value: Value::Fields(vec![
                    number(count.now),
                    number(count.before),
                    Value::Text(ids.join(" ")),
                ]),
            }
        };
        self.counts.iter().map(sample).collect()
    }

    /// Writes the counts down. That it cannot be done costs only what an agent's restart would miss.
    fn keep(&self) -> Result<(), String> {
        let counts = self.counts.iter();
        let counts = counts.map(|((name, user), count)| (name.clone(), user.clone(), *count));
        let kept = Kept { boot: boot(&self.proc), counts: counts.collect() };
        let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
        let new = self.file.with_extension("new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &self.file))
            .map_err(|error| format!("{} cannot be written: {error}", self.file.display()))
    }
}

impl Monitor for Programs {
    fn look(&mut self, wanted: &[Wanted]) -> Taken {
        let found = match self.scan(wanted) {
            Ok(found) => found,
            Err(why) => return Taken::failed(why),
        };
        let changed = self.count(&found, wanted);
        let kept = if changed { self.keep() } else { Ok(()) };
        Taken { samples: self.samples(&found), failure: kept.err(), ..Taken::default() }
    }
}

fn instance(me: NodeNumber, name: &str, user: &str) -> Instance {
    Instance::on(me, &[("ProgName", name), ("UserName", user)])
}

fn is_wanted(wanted: &[Wanted], me: NodeNumber, name: &str, user: &str) -> bool {
    wanted.iter().any(|one| one.matches(&instance(me, name, user)))
}

/// Programs of users that are wanted by name: they have a count even if it never was more than 0.
fn names(wanted: &Wanted) -> impl Iterator<Item = Key> {
    wanted.patterns.iter().filter_map(|pattern| {
        let name = |element: &str| pattern.wanted(element).map(str::to_owned);
        Some((name("ProgName")?, name("UserName")?))
    })
}

/// A process, as `/proc/…/status` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) id: u32,
}

/// A living process; nothing for a zombie, a thread of the kernel, or what is malformed.
pub(super) fn parse(status: &str) -> Option<Process> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let is_dead = field("State").is_none_or(|state| state.starts_with(['Z', 'X']));
    let is_kernel = field("Kthread") == Some("1") || field("PPid") == Some("2");
    if is_dead || is_kernel {
        return None;
    }
    // The ids in each namespace, the innermost last.
    let ids = field("NSpid").or_else(|| field("Pid"))?;
    Some(Process {
        name: field("Name").filter(|name| !name.is_empty())?.to_owned(),
        uid: field("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
        id: ids.split_whitespace().next_back()?.parse().ok()?,
    })
}

/// The whole name of a process whose name may have been cut: of the file that was started, or of the
/// script that an interpreter was given.
pub(super) fn whole_name(cut: &str, command_line: &[u8]) -> String {
    let words = command_line.split(|byte| *byte == 0).take(3);
    let mut names = words.map(|word| {
        let word = String::from_utf8_lossy(word);
        word.rsplit('/').next().unwrap_or_default().to_owned()
    });
    names.find(|name| name.starts_with(cut)).unwrap_or_else(|| cut.to_owned())
}

/// What tells one start of the machine from the next.
fn boot(proc: &Path) -> String {
    read(proc, "sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn recall(file: &Path, boot: &str) -> BTreeMap<Key, Count> {
    let kept = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let kept = kept.filter(|kept| kept.boot == boot && !boot.is_empty());
    let counts = kept.map(|kept| kept.counts).unwrap_or_default();
    counts.into_iter().map(|(name, user, count)| ((name, user), count)).collect()
}
