//! What the kernel counts: processor time and memory of processes, packets of a node's cables, and
//! what else the machine was doing meanwhile.

use std::fs;

use serde::Serialize;
use vedette::sandbox::children_of;

/// Nanoseconds of processor time that a process and its threads used so far. Exact, where the
/// usual counters move in steps of 10 ms.
pub(super) fn cpu_ns(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let time = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(tasks.filter_map(|task| time(task.ok()?)).sum())
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// All that is resident.
    pub(super) rss: u64,
    /// The same, with what is shared divided among those who share it.
    pub(super) pss: u64,
}

/// Memory of a process.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(Memory { rss: kib(&text, "Rss:")?, pss: kib(&text, "Pss:")? })
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Packets and bytes that left a network device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sent {
    /// Packets.
    pub(super) packets: u64,
    /// Bytes.
    pub(super) bytes: u64,
}

/// What left the devices of the network namespace in which `pid` lives, apart from those in
/// `except` and the loopback.
pub(super) fn sent(pid: u32, except: &[&str]) -> Sent {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    sent_in(&text, except)
}

fn sent_in(text: &str, except: &[&str]) -> Sent {
    let mut sum = Sent::default();
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" || except.contains(&name.trim()) {
            continue;
        }
        let field =
            |place| counters.split_whitespace().nth(place).and_then(|word| word.parse().ok());
        sum.packets += field(9).unwrap_or(0u64);
        sum.bytes += field(8).unwrap_or(0u64);
    }
    sum
}

/// Every process below `pid`, itself included.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut place = 0;
    while let Some(parent) = all.get(place) {
        all.extend(children_of(*parent));
        place += 1;
    }
    all
}

/// The name of a process.
pub(super) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Counters of the whole machine: to tell how noisy it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Noise {
    /// The counters now.
    pub(super) fn now() -> Self {
        Self::of(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn of(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        let fields: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or(0);
        let all = fields.iter().sum();
        Self { busy: all - field(3) - field(4), stolen: field(7), all }
    }

    /// One sentence about the time since then.
    pub(super) fn since(self) -> String {
        let now = Self::now();
        let all = (now.all - self.all).max(1) as f64;
        let percent = |part: u64| part as f64 / all * 100.0;
        format!(
            "Meanwhile the machine was {:.0} % busy, of which {:.1} % was taken by its hypervisor; load {}.",
            percent(now.busy - self.busy),
            percent(now.stolen - self.stolen),
            fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .split_whitespace()
                .next()
                .unwrap_or("unknown")
        )
    }
}

/// What the machine is, in one line.
pub(super) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = kib(&memory, "MemTotal:").unwrap_or(0) / (1 << 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} × {model}, {memory} GiB, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_cables_are_counted() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
                    neta: 1 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n  mgmt: 1 2 0 0 0 0 0 0 50 6 0 0 0 0 0 0\n";
        assert_eq!(sent_in(text, &["mgmt"]), Sent { packets: 4, bytes: 30 });
        assert_eq!(sent_in("", &[]), Sent::default());
    }

    #[test]
    fn this_process_has_time_and_memory() {
        let me = std::process::id();
        assert!(memory(me).is_some_and(|memory| memory.rss >= memory.pss && memory.pss > 0));
        assert!(cpu_ns(me).is_some());
        assert!(tree(me).contains(&me));
        assert_eq!(memory(0), None);
    }

    #[test]
    fn noise_is_what_is_not_idle() {
        let noise = Noise::of("cpu  10 0 5 80 5 0 0 20 0 0\ncpu0 1\n");
        assert_eq!((noise.busy, noise.stolen, noise.all), (35, 20, 120));
    }
}
