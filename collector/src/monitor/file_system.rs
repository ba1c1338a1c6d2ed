//! File systems: how full they are, as `df` counts it.
//!
//! Which there are is in `/proc/self/mountinfo`; what has no blocks (such as `/proc` itself) is none.
//! Only mount points that somebody wants are asked, because asking a file server that is gone blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nix::sys::statvfs::statvfs;
use vedette_core::id::NodeNumber;
use vedette_core::variable::{Instance, Value};

use super::{Monitor, Sample, Taken, Wanted, missing, percent, read};

/// Kinds that are always full, and nobody's concern.
const IMAGES: [&str; 3] = ["squashfs", "iso9660", "erofs"];

/// See the module.
pub(super) struct FileSystems {
    pub(super) me: NodeNumber,
    pub(super) proc: PathBuf,
}

impl Monitor for FileSystems {
    fn look(&mut self, wanted: &[Wanted]) -> Taken {
        let text = match read(&self.proc, "self/mountinfo") {
            Ok(text) => text,
            Err(why) => return Taken::failed(why),
        };
        self.ask(&parse(&text), wanted)
    }
}

impl FileSystems {
    fn ask(&self, mounts: &BTreeMap<String, String>, wanted: &[Wanted]) -> Taken {
        let mut taken = Taken::default();
        let mut troubles = BTreeSet::new();
        for (point, kind) in mounts {
            let instance = Instance::on(self.me, &[("MountPoint", point)]);
            let named = |wanted: &Wanted| names(wanted).any(|name| name == point);
            if !wanted.iter().any(|one| one.matches(&instance))
                || (IMAGES.contains(&kind.as_str()) && !wanted.iter().any(named))
            {
                continue;
            }
            match values(point) {
                Ok(values) => taken.samples.extend(samples(&instance, &values, wanted)),
                Err(error) if wanted.iter().any(named) => {
                    troubles.insert(format!("{point}: {error}"));
                }
                Err(_) => {}
            }
        }
        let absent = wanted.iter().flat_map(names).filter(|name| !mounts.contains_key(*name));
        troubles.extend(absent.map(|name| format!("{name} is not mounted")));
        taken.failure = missing(&troubles, "some file systems cannot be looked at");
        taken
    }
}

/// Mount points that are wanted by name.
fn names(wanted: &Wanted) -> impl Iterator<Item = &str> {
    wanted.patterns.iter().filter_map(|pattern| pattern.wanted("MountPoint"))
}

fn samples(instance: &Instance, values: &[(&str, Value)], wanted: &[Wanted]) -> Vec<Sample> {
    let is_wanted = |name: &str| wanted.iter().any(|w| w.variable == name && w.matches(instance));
    let values = values.iter().filter(|(name, _)| is_wanted(name));
    values
        .map(|(name, value)| Sample {
            variable: (*name).to_owned(),
            instance: instance.clone(),
            value: value.clone(),
        })
        .collect()
}

/// Blocks and inodes that are in use; nothing for what has none.
fn values(point: &str) -> Result<Vec<(&'static str, Value)>, std::io::Error> {
    let known = statvfs(point)?;
    let (blocks, free, available) = (known.blocks(), known.blocks_free(), known.blocks_available());
    let used = blocks.saturating_sub(free);
    let mut values = Vec::new();
    if blocks > 0 {
        // What only root may use counts as neither, like in `df`.
        values.push(("fs.used_percent", percent(used, used.saturating_add(available))));
    }
    let inodes = known.files();
    if inodes > 0 {
        let used = inodes.saturating_sub(known.files_free());
        values.push(("fs.inodes_used_percent", percent(used, inodes)));
    }
    Ok(values)
}

/// Mount points with their kinds; what is mounted over another hides it.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let Some((mount, rest)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4) else { continue };
        let kind = rest.split(' ').next().unwrap_or_default();
        mounts.insert(unescaped(point), kind.to_owned());
    }
    mounts
}

/// The kernel writes space, tab, line break and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let code = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if *first == b'\\' => {
                plain.push(code);
                bytes = &rest[3..];
            }
            _ => {
                plain.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
