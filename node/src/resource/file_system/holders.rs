//! Who keeps a file system busy: found by what their descriptors, directories, programs and memory
//! are of, which no name or link can hide.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process::left_behind::{open, processes, send};

/// Processes with their names.
#[derive(Debug, Default)]
pub(super) struct Holders {
    found: BTreeMap<i32, String>,
    /// What each was sent last.
    sent: BTreeMap<i32, i32>,
}

impl Holders {
    /// Sends a signal to those who did not get that one yet.
    pub(super) fn signal_new(&mut self, holders: &Self, signal: i32) {
        let own = std::process::id() as i32;
        for (pid, name) in holders.found.iter().filter(|(pid, _)| ![own, 1].contains(*pid)) {
            if self.sent.insert(*pid, signal) != Some(signal)
                && let Some(process) = open(*pid)
            {
                tracing::warn!(pid, name, signal, "a process keeps a file system busy");
                send(&process, signal);
            }
            self.found.insert(*pid, name.clone());
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `vi (17), less (18)`, or nothing.
    pub(super) fn words(&self) -> String {
        let one = |(pid, name): (&i32, &String)| format!("{name} ({pid})");
        self.found.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Who uses what is mounted there.
pub(super) async fn of(point: &Path) -> Holders {
    let point = point.to_owned();
    tokio::task::spawn_blocking(move || find(&point)).await.unwrap_or_default()
}

/// Who uses files with one of these device numbers, wherever they are mounted.
pub(super) async fn of_devices(devices: Vec<u64>) -> Holders {
    tokio::task::spawn_blocking(move || find_all(&devices)).await.unwrap_or_default()
}

fn find(point: &Path) -> Holders {
    let Ok(device) = std::fs::metadata(point).map(|meta| meta.dev()) else {
        return Holders::default();
    };
    find_all(&[device])
}

fn find_all(devices: &[u64]) -> Holders {
    let uses = |pid: &i32| devices.iter().any(|device| uses(*pid, *device));
    let found = processes().filter(uses).map(|pid| (pid, name_of(pid)));
    Holders { found: found.collect(), sent: BTreeMap::new() }
}

fn uses(pid: i32, device: u64) -> bool {
    let on = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.dev() == device);
    let place = |name: &str| format!("/proc/{pid}/{name}");
    ["cwd", "root", "exe"].iter().any(|name| on(Path::new(&place(name))))
        || std::fs::read_dir(place("fd")).into_iter().flatten().flatten().any(|e| on(&e.path()))
        || maps(&place("maps"), device)
}

/// `7f00-7f01 r-xp 00000000 07:00 131 /mnt/lib.so`
fn maps(path: &str, device: u64) -> bool {
    let numbers = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| line.split(' ').nth(3) == Some(&numbers))
}

/// What a process calls itself.
pub(super) fn name_of(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}
