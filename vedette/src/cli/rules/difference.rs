//! What differs between two versions of rules and programs, line by line.
//!
//! Rules are compared as they are in force and not as their files are written: a predefined event that
//! a file leaves out keeps its built-in rule, and nobody shall believe that it goes.

use std::collections::BTreeSet;

use vedette_collector::clinfo::versions::{LineDoc, RuleChangeDoc, RuleChangesDoc};
use vedette_core::rules::{Rule, RuleSet};

use super::super::text::{Style, Tone, clean};

/// How many unchanged lines are shown around a change.
const AROUND: usize = 2;

/// Most cells of the table that finds common lines; beyond it, all lines count as changed.
const MOST_CELLS: usize = 4_000_000;

/// One text that differs.
pub(super) struct Change {
    /// The rules, or the path of a program.
    pub(super) name: String,
    /// Its lines.
    pub(super) lines: Vec<Line>,
}

/// A line of two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// In both.
    Same(String),
    /// In the old one only.
    Removed(String),
    /// In the new one only.
    Added(String),
}

/// Everything that differs.
pub(super) fn between(old: &RuleSet, new: &RuleSet) -> Vec<Change> {
    let paths: BTreeSet<&String> = old.programs.keys().chain(new.programs.keys()).collect();
    let program = |set: &RuleSet, path: &str| set.program_text(path).unwrap_or_default().to_owned();
    let programs = paths
        .into_iter()
        .map(|path| (format!("recovery program {path}"), program(old, path), program(new, path)));
    let mut changes: Vec<Change> = rules(old, new)
        .into_iter()
        .chain(programs)
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| Change { name, lines: lines(&old, &new) })
        .collect();
    // What says the same may be written in other words, and is another text for whoever reads it.
    if changes.is_empty() && old.text != new.text {
        changes.push(Change { name: "text".into(), lines: lines(&old.text, &new.text) });
    }
    changes
}

/// The nine lines of every rule that one of the two has in force; empty where one has it not.
fn rules(old: &RuleSet, new: &RuleSet) -> Vec<(String, String, String)> {
    let (old, new) = (old.rules(), new.rules());
    let named = |rules: &[Rule], name: &str| {
        let rule = rules.iter().find(|rule| rule.name == name);
        rule.map(ToString::to_string).unwrap_or_default()
    };
    let gone = old.iter().filter(|rule| !new.iter().any(|other| other.name == rule.name));
    let names = new.iter().chain(gone).map(|rule| &rule.name);
    names.map(|name| (format!("rule {name}"), named(&old, name), named(&new, name))).collect()
}

/// The lines of both texts, in order.
pub(super) fn lines(old: &str, new: &str) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let equal = |(one, other): &(&&str, &&str)| one == other;
    let head = old.iter().zip(&new).take_while(equal).count();
    let (rest_old, rest_new) = (&old[head..], &new[head..]);
    let tail = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(equal).count();
    let (middle_old, middle_new) =
        (&rest_old[..rest_old.len() - tail], &rest_new[..rest_new.len() - tail]);
    let same = |line: &&str| Line::Same((*line).to_owned());
    let mut lines: Vec<Line> = old[..head].iter().map(same).collect();
    lines.extend(middle(middle_old, middle_new));
    lines.extend(old[old.len() - tail..].iter().map(same));
    lines
}

/// The same for what begins and ends with a change: by the longest common subsequence.
fn middle(old: &[&str], new: &[&str]) -> Vec<Line> {
    let removed = |line: &&str| Line::Removed((*line).to_owned());
    let added = |line: &&str| Line::Added((*line).to_owned());
    if old.len().saturating_mul(new.len()) > MOST_CELLS {
        return old.iter().map(removed).chain(new.iter().map(added)).collect();
    }
    let common = common(old, new);
    let (mut at, mut to, mut lines) = (0, 0, Vec::new());
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            lines.push(Line::Same(old[at].to_owned()));
            (at, to) = (at + 1, to + 1);
        } else if to == new.len() || (at < old.len() && common[at + 1][to] >= common[at][to + 1]) {
            lines.push(removed(&old[at]));
            at += 1;
        } else {
            lines.push(added(&new[to]));
            to += 1;
        }
    }
    lines
}

/// How many lines what follows two places has in common.
fn common(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            table[at][to] = if old[at] == new[to] {
                table[at + 1][to + 1] + 1
            } else {
                table[at + 1][to].max(table[at][to + 1])
            };
        }
    }
    table
}

/// The changes with some lines around each.
pub(super) fn screen(changes: &[Change], style: Style) -> String {
    let mut text = String::new();
    for change in changes {
        text.push_str(&format!("{}\n", clean(&change.name)));
        text.push_str(&hunks(&change.lines, style));
    }
    text
}

fn hunks(lines: &[Line], style: Style) -> String {
    let changed = |line: &Line| !matches!(line, Line::Same(_));
    let near = |place: usize| {
        let from = place.saturating_sub(AROUND);
        lines[from..lines.len().min(place + AROUND + 1)].iter().any(changed)
    };
    let (mut text, mut skipped) = (String::new(), false);
    for (place, line) in lines.iter().enumerate() {
        if !near(place) {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) {
            text.push_str("  …\n");
        }
        let (mark, tone, line) = match line {
            Line::Same(line) => (' ', None, line),
            Line::Removed(line) => ('-', Some(Tone::Bad), line),
            Line::Added(line) => ('+', Some(Tone::Good), line),
        };
        let shown = format!("{mark} {}", clean(line));
        let shown = shown.trim_end();
        let shown = tone.map_or_else(|| shown.to_owned(), |tone| style.paint(tone, shown));
        text.push_str(&format!("  {}\n", shown).replace("   \n", "\n"));
    }
    text
}

/// The changes for programs.
pub(super) fn document(changes: &[Change]) -> RuleChangesDoc {
    let change = |change: &Change| {
        let lines = change.lines.iter().map(LineDoc::from).collect();
        RuleChangeDoc { lines, name: change.name.clone() }
    };
    RuleChangesDoc { changes: changes.iter().map(change).collect() }
}

impl From<&Line> for LineDoc {
    fn from(line: &Line) -> Self {
        match line.clone() {
            Line::Same(line) => Self::Same(line),
            Line::Removed(line) => Self::Removed(line),
            Line::Added(line) => Self::Added(line),
        }
    }
}
