//! Recovery programs (spec H17): a command a line, barriers between phases.
//!
//! ```text
//! # node set   command                  expected status
//! other        "node_up"                0   NULL
//! barrier
//! event        "/opt/site/start --all"  X   NULL
//! ```
//!
//! What stands between two barriers runs in parallel, on a node and across nodes. `X` expects
//! nothing. The last word is reserved, and must be there. A phase without commands is left out: its
//! barrier would hold up nobody.

use std::fmt;

use crate::config::near::nearest;
use crate::config::{Finding, Findings, Level};

use super::{NodeSet, Program, ProgramLine};

/// The longest program, in bytes; it is part of every snapshot.
pub const LONGEST: usize = 64 * 1_024;

const FORM: &str = "Write: all|event|other \"command\" status NULL.";

/// Reads a program. Without errors among the findings it is complete.
pub fn parse(path: &str, text: &str) -> (Program, Findings) {
    let mut reader = Reader { path, findings: Vec::new() };
    let phases = reader.phases(text);
    if phases.is_empty() && reader.findings.is_empty() {
        reader.add(Level::Error, None, "the program has no command", FORM);
    }
    (Program { path: path.into(), phases }, Findings(reader.findings))
}

struct Reader<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn add(&mut self, level: Level, line: Option<usize>, what: impl Into<String>, advice: &str) {
        self.findings.push(Finding {
            level,
            file: self.path.into(),
            line,
            key: String::new(),
            what: what.into(),
            advice: advice.into(),
        });
    }

    fn phases(&mut self, text: &str) -> Vec<Vec<ProgramLine>> {
        if text.len() > LONGEST {
            let what = format!("the program has {} bytes, more than {LONGEST}", text.len());
            self.add(Level::Error, None, what, "Move what is long into a script.");
            return Vec::new();
        }
        let mut phases = vec![Vec::new()];
        for (number, line) in text.lines().enumerate().map(|(place, line)| (place + 1, line.trim()))
        {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match read(line) {
                Ok(None) => phases.push(Vec::new()),
                Ok(Some(command)) => {
                    phases.last_mut().into_iter().for_each(|p| p.push(command.clone()))
                }
                Err((what, advice)) => self.add(Level::Error, Some(number), what, &advice),
            }
        }
        phases.retain(|phase| !phase.is_empty());
        phases
    }
}

type Parsed<T> = Result<T, (String, String)>;

fn wrong<T>(what: impl Into<String>, advice: impl Into<String>) -> Parsed<T> {
    Err((what.into(), advice.into()))
}

/// One line: a command, or none for a barrier.
fn read(line: &str) -> Parsed<Option<ProgramLine>> {
    if line.eq_ignore_ascii_case("barrier") {
        return Ok(None);
    }
    let Some((before, rest)) = line.split_once('"') else { return unquoted(line) };
    command(before, rest).map(Some)
}

/// A line without quotes that is no barrier.
fn unquoted<T>(line: &str) -> Parsed<T> {
    let word = line.split_whitespace().next().unwrap_or_default();
    if word.eq_ignore_ascii_case("barrier") {
        return wrong(
            "there is something after the word barrier",
            "Leave barrier alone on its line.",
        );
    }
    if nearest(&word.to_ascii_lowercase(), &["barrier"]).is_some() {
        return wrong(format!("`{word}` is unknown"), "Did you mean barrier?");
    }
    node_set(word)?;
    wrong("the command does not stand in quotes", FORM)
}

/// One command: what stands before its first quote, and after that.
fn command(before: &str, rest: &str) -> Parsed<ProgramLine> {
    let nodes = node_set(before.trim())?;
    let Some((command, after)) = rest.split_once('"') else {
        return wrong("the quote before the command is not closed", "Close it on the same line.");
    };
    let command = checked_command(command)?;
    let words: Vec<&str> = after.split_whitespace().collect();
    let expected = match words.as_slice() {
        [] => return wrong("the expected status and the word NULL are missing", FORM),
        [word] if word.eq_ignore_ascii_case("null") => {
            return wrong("the expected status is missing", "Write a number from 0 to 255, or X.");
        }
        [_] => return wrong("the word NULL is missing at the end", "Write NULL after the status."),
        [word, null] if null.eq_ignore_ascii_case("null") => status(word)?,
        [_, other] => {
            return wrong(format!("`{other}` stands where NULL has to"), "End the line with NULL.");
        }
        [_, _, third, ..] => {
            return wrong(format!("`{third}` is one word too many"), "End the line after NULL.");
        }
    };
    Ok(ProgramLine { nodes, command, expected })
}

fn node_set(word: &str) -> Parsed<NodeSet> {
    if word.is_empty() {
        return wrong("the line names no node set", FORM);
    }
    let lower = word.to_ascii_lowercase();
    if let Some(set) = NodeSet::from_name(&lower) {
        return Ok(set);
    }
    let known = ["all", "event", "other"];
    let advice = match nearest(&lower, &known) {
        Some(meant) => format!("Did you mean {meant}? There are all, event and other."),
        None => "Use all, event or other.".into(),
    };
    wrong(format!("`{word}` is no node set"), advice)
}

/// A script by its name, or a program by its path: nothing is looked for in between.
fn checked_command(command: &str) -> Parsed<String> {
    let command = command.trim();
    let Some(program) = command.split_whitespace().next() else {
        return wrong("the command is empty", "Name an event script or the path of a program.");
    };
    if command.chars().any(|c| c.is_control() && c != '\t') {
        return wrong("the command has a control character", "Remove it.");
    }
    if program.contains('/') && !program.starts_with('/') {
        return wrong(
            format!("`{program}` is neither the name of an event script nor a whole path"),
            "Begin the path with /.",
        );
    }
    Ok(command.into())
}

fn status(word: &str) -> Parsed<Option<i32>> {
    if word.eq_ignore_ascii_case("x") {
        return Ok(None);
    }
    match word.parse::<u8>() {
        Ok(status) => Ok(Some(i32::from(status))),
        Err(_) => wrong(
            format!("`{word}` is no exit status"),
            "Write a number from 0 to 255, or X if every status will do.",
        ),
    }
}

/// The program as a text that is read back as the same.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, phase) in self.phases.iter().enumerate() {
            if place > 0 {
                writeln!(f, "barrier")?;
            }
            for line in phase {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ProgramLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.expected.map_or_else(|| "X".into(), |status| status.to_string());
        write!(f, "{:5} \"{}\" {status} NULL", self.nodes, self.command)
    }
}
