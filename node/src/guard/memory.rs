//! Locking of the memory that a process uses, and of no more of a large program than that.
//!
//! The reaper is this whole program and uses little of it. What it was started with (the loader, the command line)
//! goes out of its memory first, then it rehearses what it is there for, and what is there after that is locked: so
//! the way to a release needs no disk, and the rest of the program takes no memory that nobody can have back.
//! Data, heap and stacks are locked as they are used.

use std::io;
use std::os::unix::fs::FileExt;

use super::sys;

/// Pages that nobody uses, between two that somebody does, that are not worth an area of their own.
const GAP: u64 = 64;

/// In an entry of the kernel's map of pages: it is there.
const PRESENT: u64 = 1 << 63;

/// One area of this process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    /// It is the unchanged content of a file, which can be read again.
    clean: bool,
}

/// Locks what `rehearse` and everything after it uses.
///
/// # Errors
/// If the kernel does not say what is there, or refuses to lock it.
pub(super) fn lock_what_is_used(rehearse: impl FnOnce()) -> io::Result<()> {
    for area in areas()?.iter().filter(|area| area.clean) {
        sys::forget(area.start, area.end)?;
    }
    rehearse();
    let page = sys::page_size();
    let pages = std::fs::File::open("/proc/self/pagemap")?;
    for area in areas()? {
        if !area.clean {
            sys::lock_on_fault(area.start, area.end)?;
            continue;
        }
        let count = (area.end - area.start) / page;
        let mut entries = vec![0; count as usize * 8];
        pages.read_exact_at(&mut entries, area.start / page * 8)?;
        for (from, to) in runs(&entries) {
            sys::lock_on_fault(area.start + from * page, area.start + to * page)?;
        }
    }
    sys::lock_future()
}

/// Areas that can be locked, by the kernel's description.
fn areas() -> io::Result<Vec<Area>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/smaps")?))
}

fn parse(smaps: &str) -> Vec<Area> {
    let mut found: Vec<Area> = Vec::new();
    for line in smaps.lines() {
        if let Some((area, lockable)) = head(line) {
            found.push(area);
            if !lockable {
                // Its lines are of no interest.
                found.pop();
                found.push(Area::default());
            }
        } else if line.starts_with("Anonymous:")
            && !line.ends_with(" 0 kB")
            && let Some(area) = found.last_mut()
        {
            // Relocated, though it may not be written any more.
            area.clean = false;
        }
    }
    found.retain(|area| area.end > area.start);
    found
}

/// `5581-5582 r-xp 00000000 fe:00 4635451  /usr/bin/x`, and whether it can be locked.
fn head(line: &str) -> Option<(Area, bool)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, rights) = (number(start)?, number(end)?, words.next()?);
    let name = words.nth(3).unwrap_or_default();
    let clean = name.starts_with('/') && !rights.contains('w') && rights.contains('p');
    let kernels = name.starts_with("[v");
    Some((Area { start, end, clean }, rights.starts_with('r') && !kernels))
}

/// First page and end of each run of pages that are there, gaps of at most [`GAP`] included.
fn runs(entries: &[u8]) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (page, entry) in (0..).zip(entries.chunks_exact(8)) {
        let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
        if entry & PRESENT == 0 {
            continue;
        }
        match found.last_mut() {
            Some(run) if page - run.1 <= GAP => run.1 = page + 1,
            _ => found.push((page, page + 1)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_told_by_what_can_be_read_again() {
        let text = "1000-3000 r-xp 00000000 fe:00 46  /usr/bin/x\nAnonymous:             0 kB\n\
                    3000-4000 r--p 00000000 fe:00 46  /usr/bin/x\nAnonymous:             4 kB\n\
                    4000-5000 rw-p 00000000 00:00 0   [heap]\nAnonymous:             0 kB\n\
                    5000-6000 ---p 00000000 00:00 0\nAnonymous:             0 kB\n\
                    6000-7000 r--p 00000000 00:00 0   [vvar]\nAnonymous:             0 kB\n\
                    7000-8000 rw-s 00000000 00:01 40  /memfd:vedette (deleted)\nAnonymous: 0 kB\n";
        let area = |start, end, clean| Area { start, end, clean };
        assert_eq!(
            parse(text),
            [
                area(0x1000, 0x3000, true),
                area(0x3000, 0x4000, false),
                area(0x4000, 0x5000, false),
                area(0x7000, 0x8000, false),
            ]
        );
    }

    #[test]
    fn pages_that_are_there_make_runs() {
        let mut entries = vec![0_u8; 200 * 8];
        for page in [3_usize, 4, 60, 199] {
            entries[page * 8..page * 8 + 8].copy_from_slice(&PRESENT.to_ne_bytes());
        }
        assert_eq!(runs(&entries), [(3, 61), (199, 200)]);
        assert_eq!(runs(&[]), []);
    }
}
