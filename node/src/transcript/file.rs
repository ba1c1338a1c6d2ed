//! One transcript's file: a label of fixed size, the first half, the last half.
//!
//! ```text
//!   0        4096                     4096 + HALF                    1 MiB
//!   │ label  │ what was printed first │ what was printed last, in a ring │
//! ```
//!
//! The label says how much was printed, which is where the ring goes on; it is written over after each piece. So
//! a file is whole at any time, and an agent that is killed loses nothing but how its run ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vedette_core::time::WallTime;

use super::{Heading, Kind};

/// The longest file.
pub const LONGEST: u64 = 1 << 20;

/// The label's place.
const LABEL: u64 = 4_096;

/// How much of the beginning is kept, and of the end.
const HALF: u64 = (LONGEST - LABEL) / 2;

/// The longest command line in a label, in bytes: it has to fit with everything else.
const LONGEST_WHAT: usize = 1_024;

/// The longest of the other texts.
const LONGEST_TEXT: usize = 256;

/// What is known of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Counts the transcripts of its node.
    pub number: u64,
    /// Name of the node.
    pub node: String,
    /// What was run, and what for.
    #[serde(flatten)]
    pub heading: Heading,
    /// When its first output came.
    pub began: WallTime,
    /// When it ended; none while it runs, or if its agent was killed meanwhile.
    pub ended: Option<WallTime>,
    /// How it ended, in words.
    pub how: Option<String>,
    /// How many bytes were printed, as far as they came here.
    pub printed: u64,
    /// Why some of them are missing besides those in the middle, if some are.
    pub missing: Option<String>,
}

impl Label {
    /// Its name, by which records mean it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.node, self.number)
    }

    /// How many bytes in the middle are left out, as the whole was too long.
    pub fn left_out(&self) -> u64 {
        self.printed.saturating_sub(2 * HALF)
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    file: File,
    pub(super) label: Label,
}

impl Writing {
    /// Makes the next file in a folder, which is made as well.
    pub(super) fn create(
        folder: &Path,
        node: &str,
        mut heading: Heading,
        began: WallTime,
    ) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        clip(&mut heading.what, LONGEST_WHAT);
        let mut number = numbers(folder)?.last().map_or(0, |(number, _)| *number);
        // Guard and agent write into the same folder.
        let file = loop {
            number += 1;
            let path = folder.join(file_name(number, heading.kind));
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made?,
            }
        };
        let label = Label {
            number,
            node: node.into(),
            heading,
            began,
            ended: None,
            how: None,
            printed: 0,
            missing: None,
        };
        let writing = Self { file, label };
        writing.write_label()?;
        Ok(writing)
    }

    /// Adds a piece.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (at, room) = place(self.label.printed);
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.file.write_all_at(&bytes[..fits], at)?;
            self.label.printed += fits as u64;
            bytes = &bytes[fits..];
        }
        self.write_label()
    }

    /// Says how it ended.
    pub(super) fn end(&mut self, how: &str, at: WallTime) -> io::Result<()> {
        let mut how = how.to_owned();
        clip(&mut how, LONGEST_TEXT);
        (self.label.how, self.label.ended) = (Some(how), Some(at));
        self.write_label()
    }

    /// Remembers why something is missing; the first reason counts.
    pub(super) fn is_missing(&mut self, why: &str) {
        if self.label.missing.is_none() {
            let mut why = why.to_owned();
            clip(&mut why, LONGEST_TEXT);
            self.label.missing = Some(why);
        }
    }

    /// In the place of the one before, which needs no room on the disk.
    fn write_label(&self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.label)?;
        text.resize(usize::try_from(LABEL).unwrap_or(text.len()), b' ');
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
        self.file.write_all_at(&text, 0)
    }
}

/// Where in the file the byte after so many goes, and how many fit there in one piece.
const fn place(printed: u64) -> (u64, u64) {
    if printed < HALF {
        return (LABEL + printed, HALF - printed);
    }
    let at = (printed - HALF) % HALF;
    (LABEL + HALF + at, HALF - at)
}

fn clip(text: &mut String, longest: usize) {
    text.truncate(text.floor_char_boundary(longest));
}

fn file_name(number: u64, kind: Kind) -> String {
    format!("{number:010}-{kind}")
}

/// The numbers and names of the files in a folder, in order.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let numbered = |entry: io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let (number, kind) = name.split_once('-')?;
        Kind::from_name(kind)?;
        Some((number.parse().ok()?, name))
    };
    let mut found: Vec<(u64, String)> = entries.filter_map(numbered).collect();
    found.sort();
    Ok(found)
}

/// What is known of every transcript in a folder, oldest first. Files that are none are left out.
///
/// # Errors
/// If the folder cannot be read; that there is none is none.
pub fn list(folder: &Path) -> io::Result<Vec<Label>> {
    let labels = numbers(folder)?.into_iter().filter_map(|(number, name)| {
        let mut file = File::open(folder.join(name)).ok()?;
        read_label(&mut file, number).ok()
    });
    Ok(labels.collect())
}

/// A transcript; what was left out in the middle is said at its place.
///
/// # Errors
/// If there is no such transcript, or it cannot be read.
pub fn read(folder: &Path, number: u64) -> io::Result<(Label, Vec<u8>)> {
    let mut file = File::open(find(folder, number)?)?;
    let label = read_label(&mut file, number)?;
    let mut bytes = part(&file, LABEL, label.printed.min(HALF))?;
    let last = label.printed.saturating_sub(HALF);
    if last <= HALF {
        bytes.extend(part(&file, LABEL + HALF, last)?);
        return Ok((label, bytes));
    }
    let ring = part(&file, LABEL + HALF, HALF)?;
    let at = usize::try_from(last % HALF).unwrap_or(0).min(ring.len());
    bytes.extend(format!("\n[{} bytes are left out here]\n", label.left_out()).as_bytes());
    bytes.extend(&ring[at..]);
    bytes.extend(&ring[..at]);
    Ok((label, bytes))
}

fn find(folder: &Path, number: u64) -> io::Result<PathBuf> {
    let found = numbers(folder)?.into_iter().find(|(known, _)| *known == number);
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such transcript");
    found.map(|(_, name)| folder.join(name)).ok_or_else(missing)
}

fn read_label(file: &mut File, number: u64) -> io::Result<Label> {
    let mut text = Vec::new();
    file.by_ref().take(LABEL).read_to_end(&mut text)?;
    let label: Label = serde_json::from_slice(&text)?;
    Ok(Label { number, ..label })
}

/// A part of the file; where it is too short, what there is.
fn part(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
