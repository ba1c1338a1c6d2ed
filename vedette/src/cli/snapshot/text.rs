//! The text of a snapshot: sections, each below a line `=== name ===`, so that every part stands
//! there just as its author wrote it and can be read, compared and edited.
//!
//! ```text
//! # vedette snapshot, format 1
//! # cluster prod, taken 2026-11-22T12:00:00Z by root@n1
//!
//! === configuration ===
//! [cluster]
//! …
//! === alert script ===
//! #!/bin/sh
//! ```
//!
//! A line of a part that looks like such a heading gets a backslash in front. A section that is not
//! there means the built-in one. Before a heading there is an empty line that is no part of anything;
//! others are kept, as the last of the rules may end with some. A text without any heading is a
//! configuration document alone, the format before the first.

use std::collections::BTreeMap;

use vedette_core::document;

/// The format that is written; every earlier one is read.
const FORMAT: u32 = 1;
const FIRST_LINE: &str = "# vedette snapshot, format ";
const DOCUMENT: &str = "configuration";
const RULES: &str = "rules";
const PROGRAM: &str = "recovery program ";
const SCRIPT: &str = "alert script";

/// Everything that an operator configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Of which cluster, when and by whom; for people.
    pub(crate) about: String,
    /// The configuration document.
    pub(crate) document: String,
    /// Rules and recovery programs by path; none for the built-in ones.
    pub(crate) rules: Option<(String, BTreeMap<String, String>)>,
    /// The alert script; none for the built-in one.
    pub(crate) script: Option<String>,
    /// Whether it says anything of rules and script.
    pub(crate) whole: bool,
}

impl Snapshot {
    /// The text.
    pub(crate) fn print(&self) -> String {
        let mut text = format!("{FIRST_LINE}{FORMAT}\n# {}\n", self.about.replace('\n', " "));
        section(&mut text, DOCUMENT, &self.document);
        if let Some((rules, programs)) = &self.rules {
            section(&mut text, RULES, rules);
            for (path, program) in programs {
                section(&mut text, &format!("{PROGRAM}{path}"), program);
            }
        }
        if let Some(script) = &self.script {
            section(&mut text, SCRIPT, script);
        }
        text
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The line, and what is wrong there.
    pub(crate) fn read(text: &str) -> Result<Self, (usize, String)> {
        let format = match text.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE)) {
            None if text.starts_with(document::SNAPSHOT) => {
                return Err((1, "its first line names no format".into()));
            }
            None if text.lines().all(|line| heading(line).is_none()) => 0,
            None => return Err((1, format!("it does not begin with {FIRST_LINE:?}"))),
            Some(number) => number
                .trim()
                .parse()
                .map_err(|_| (1, format!("{:?} is no number of a format", number.trim())))?,
        };
        match format {
            0 => Ok(Self {
                document: text.into(),
                about: "a document alone".into(),
                ..Self::default()
            }),
            FORMAT => read_sections(text),
            later => Err((
                1,
                format!(
                    "format {later} is of a later version; this one knows {FORMAT}; use the vedette that wrote it"
                ),
            )),
        }
    }
}

fn section(text: &mut String, name: &str, part: &str) {
    text.push_str(&format!("\n=== {name} ===\n"));
    for line in part.strip_suffix('\n').unwrap_or(part).split('\n') {
        if heading(line.trim_start_matches('\\')).is_some() {
            text.push('\\');
        }
        text.push_str(line);
        text.push('\n');
    }
}

/// The name in a heading.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("=== ")?.strip_suffix(" ===")
}

fn read_sections(text: &str) -> Result<Snapshot, (usize, String)> {
    let mut parts: Vec<(usize, &str, String)> = Vec::new();
    let mut about = String::new();
    for (place, line) in text.split('\n').enumerate() {
        if let Some(name) = heading(line) {
            if parts.iter().any(|(_, known, _)| *known == name) {
                return Err((place + 1, format!("the section {name:?} is there twice")));
            }
            parts.push((place + 1, name, String::new()));
        } else if let Some((_, _, part)) = parts.last_mut() {
            let escaped =
                line.starts_with('\\') && heading(line.trim_start_matches('\\')).is_some();
            part.push_str(if escaped { &line[1..] } else { line });
            part.push('\n');
        } else if place == 1 {
            about = line.trim_start_matches(['#', ' ']).to_owned();
        } else if place > 0 && !line.is_empty() && !line.starts_with('#') {
            return Err((place + 1, format!("{line:?} stands before the first section")));
        }
    }
    sorted(parts, about)
}

/// Puts each section in its place.
fn sorted(parts: Vec<(usize, &str, String)>, about: String) -> Result<Snapshot, (usize, String)> {
    let mut snapshot = Snapshot { about, whole: true, ..Snapshot::default() };
    let (mut programs, mut rules, mut document) = (BTreeMap::new(), None, None);
    let mut first_program = None;
    for (line, name, part) in parts {
        let part = match part.strip_suffix('\n') {
            Some(lines) if lines.ends_with('\n') => lines.to_owned(),
            _ => part,
        };
        match name {
            DOCUMENT => document = Some(part),
            RULES => rules = Some(part),
            SCRIPT => snapshot.script = Some(part),
            other => match other.strip_prefix(PROGRAM) {
                Some(path) => {
                    first_program.get_or_insert(line);
                    programs.insert(path.to_owned(), part);
                }
                None => return Err((line, format!("there is no section {other:?}"))),
            },
        }
    }
    snapshot.document = document.ok_or((1, format!("the section {DOCUMENT:?} is missing")))?;
    snapshot.rules = match (rules, first_program) {
        (None, Some(line)) => return Err((line, format!("without {RULES:?} no program is used"))),
        (rules, _) => rules.map(|text| (text, programs)),
    };
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Snapshot {
        Snapshot {
            about: "cluster prod, taken now by root@n1".into(),
            document: "[groups.web]\nnodes = [\"n1\"]\n".into(),
            rules: Some((
                "TE_JOIN_NODE\n\n/x.rp\n".into(),
                BTreeMap::from([("/x.rp".into(), "all \"y\" 0 NULL\n".into())]),
            )),
            script: Some("#!/bin/sh\necho\n=== alert script ===\n\\=== x ===\n\necho\n".into()),
            whole: true,
        }
    }

    /// H36: saved and read again it is the same, whatever its parts look like.
    #[test]
    fn h36_a_snapshot_is_read_as_it_was_written() {
        let snapshot = whole();
        assert_eq!(Snapshot::read(&snapshot.print()), Ok(snapshot.clone()));
        // Every rule of a predefined event ends with four empty lines.
        let rule = "TE_JOIN_NODE\n0\n/x.rp\n2\n0\n\n\n\n\n".to_owned();
        let ending = Snapshot { rules: Some((rule, BTreeMap::new())), ..snapshot.clone() };
        assert_eq!(Snapshot::read(&ending.print()), Ok(ending.clone()));
        let last = Snapshot { script: None, ..ending };
        assert_eq!(Snapshot::read(&last.print()), Ok(last.clone()));
        let bare = Snapshot { rules: None, script: None, ..snapshot };
        assert_eq!(Snapshot::read(&bare.print()), Ok(bare.clone()));
    }

    /// H36: an older version is converted; the one before the first was a document alone.
    #[test]
    fn h36_a_document_alone_is_an_older_format() {
        let read = Snapshot::read("[groups.web]\nnodes = [\"n1\"]\n").unwrap();
        assert_eq!((read.whole, read.script), (false, None));
        assert!(read.document.starts_with("[groups.web]"));
    }

    #[test]
    fn h36_what_is_no_snapshot_is_refused_with_its_line() {
        let bad = |text: &str| Snapshot::read(text).unwrap_err();
        assert_eq!(
            bad("# vedette snapshot, format 9\n").1,
            "format 9 is of a later version; this one knows 1; use the vedette that wrote it"
        );
        assert_eq!(bad("# vedette snapshot, format x\n").0, 1);
        assert_eq!(bad("x\n=== rules ===\n").0, 1);
        let twice = "# vedette snapshot, format 1\n=== rules ===\n=== rules ===\n";
        assert_eq!(bad(twice), (3, "the section \"rules\" is there twice".into()));
        let strange = "# vedette snapshot, format 1\n=== configuration ===\n=== x ===\n";
        assert_eq!(bad(strange), (3, "there is no section \"x\"".into()));
        assert_eq!(
            bad("# vedette snapshot, format 1\n").1,
            "the section \"configuration\" is missing"
        );
        let program =
            "# vedette snapshot, format 1\n=== configuration ===\n=== recovery program /x ===\n";
        assert_eq!(bad(program).0, 3);
    }
}
