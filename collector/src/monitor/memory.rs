//! Memory and paging space, from `/proc/meminfo`.
//!
//! *Free* memory is what programs can still have (`MemAvailable`): what the kernel keeps of files
//! counts as free, because it is given up when it is needed. A machine without any paging space has
//! all of it free and none used, so that rules about it never fire there.

use std::path::PathBuf;

use vedette_core::id::NodeNumber;
use vedette_core::variable::Value;

use super::{Monitor, Taken, Wanted, of_node, percent, read};

/// See the module.
pub(super) struct Memory {
    pub(super) me: NodeNumber,
    pub(super) proc: PathBuf,
}

impl Monitor for Memory {
    fn look(&mut self, wanted: &[Wanted]) -> Taken {
        let text = match read(&self.proc, "meminfo") {
            Ok(text) => text,
            Err(why) => return Taken::failed(why),
        };
        match parse(&text) {
            Some(values) => {
                Taken { samples: of_node(self.me, wanted, &values), ..Taken::default() }
            }
            None => Taken::failed("/proc/meminfo does not say how much memory there is"),
        }
    }
}

/// The values, by variable.
pub(super) fn parse(text: &str) -> Option<[(&'static str, Value); 3]> {
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    let total = kib("MemTotal").filter(|total| *total > 0)?;
    let free = kib("MemAvailable").or_else(|| kib("MemFree"))?;
    let swap = kib("SwapTotal").unwrap_or(0);
    let used = swap.saturating_sub(kib("SwapFree").unwrap_or(swap));
    let (swap_free, swap) = if swap == 0 { (1, 1) } else { (swap - used, swap) };
    Some([
        ("memory.free_percent", percent(free, total)),
        ("paging.free_percent", percent(swap_free, swap)),
        ("paging.used_percent", percent(used, swap)),
    ])
}
