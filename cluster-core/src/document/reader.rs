//! Reading tables of TOML with the line of everything: what a section's reader is made of.
//!
//! A [`Table`] remembers which keys were asked for, so the list of known keys is the reading itself;
//! whatever nobody asked for is refused in [`Table::finish`], with the nearest key that is known. A
//! value of the wrong kind is a finding and counts as not written. [`Notes`] keeps the line of every
//! key that was read, so that checks which come later, and know keys only, can be shown their line.
//!
//! Tables by name keep the order of the text (the parser sorts them), because groups are placed and
//! resources are acquired in the order in which they are written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::near;

use super::Finding;

/// The longest time that may be written: a week.
const LONGEST_MS: u64 = 7 * 86_400_000;

/// Findings, and the lines of keys.
pub(super) struct Notes<'a> {
    text: &'a str,
    lines: BTreeMap<String, usize>,
    pub(super) found: Vec<Finding>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, lines: BTreeMap::new(), found: Vec::new() }
    }

    /// The line, from 1, in which the byte at `offset` lies.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// Remembers where a key stands.
    pub(super) fn at(&mut self, key: &str, line: usize) {
        self.lines.entry(key.into()).or_insert(line);
    }

    /// The line of a key, or of what it is in.
    fn line_of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    pub(super) fn error(&mut self, key: &str, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Finding::error(key, what, advice));
    }

    /// Adds a finding, with the line of its key if it has none.
    pub(super) fn add(&mut self, mut finding: Finding) {
        finding.line = finding.line.or_else(|| self.line_of(&finding.key));
        self.found.push(finding);
    }

    /// In the order of the lines; what is missing altogether comes last.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|finding| finding.line.unwrap_or(usize::MAX));
        self.found.dedup();
        self.found
    }
}

/// One table while it is being read.
pub(super) struct Table<'t, 'i> {
    table: &'t DeTable<'i>,
    /// How it is named in findings, such as `groups.web`; empty for the whole document.
    pub(super) path: String,
    asked: Vec<&'static str>,
}

/// How an operator may write a command: words, or one line without quotes.
const COMMAND: &str = "a list of words such as [\"/usr/bin/prog\", \"start\"]";

impl<'t, 'i> Table<'t, 'i> {
    pub(super) fn new(table: &'t DeTable<'i>, path: String) -> Self {
        Self { table, path, asked: Vec::new() }
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`; its line is remembered.
    fn take(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<&'t Spanned<DeValue<'i>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (name, value) = self.table.get_key_value(key)?;
        let line = notes.line(name.span().start);
        notes.at(&self.key(key), line);
        Some(value)
    }

    /// Reads a value of one kind; another kind is a finding.
    fn read<T>(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        kind: &str,
        convert: impl Fn(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(notes, key)?;
        let converted = convert(value.get_ref());
        if converted.is_none() {
            let what = format!("{} cannot stand here", shown(value.get_ref()));
            notes.error(&self.key(key), what, format!("Write {kind}."));
        }
        converted
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    pub(super) fn text(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Option<String> {
        self.read(notes, key, "a text in quotes", text)
    }

    /// A text that has to be there; what it is for stands in `advice`.
    pub(super) fn need(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        advice: &str,
    ) -> Option<String> {
        if !self.has(key) {
            self.asked.push(key);
            let what = format!("{key} is missing");
            notes.error(&self.key(key), what, advice);
            return None;
        }
        self.text(notes, key)
    }

    pub(super) fn flag(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Option<bool> {
        self.read(notes, key, "true or false", DeValue::as_bool)
    }

    /// A whole number in a range.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let number = self.read(notes, key, "a whole number", integer)?;
        let fits = range.contains(&number).then(|| T::try_from(number).ok()).flatten();
        if fits.is_none() {
            let advice = format!("Write a number from {} to {}.", range.start(), range.end());
            notes.error(&self.key(key), format!("{number} is out of range"), advice);
        }
        fits
    }

    /// A time with its unit, in milliseconds.
    pub(super) fn duration(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Option<u64> {
        const KIND: &str = "a time with its unit in quotes, such as \"500ms\", \"10s\" or \"5m\"";
        let text = self.read(notes, key, KIND, text)?;
        match duration(&text) {
            Ok(ms) => Some(ms),
            Err(wrong) => {
                let (what, advice) = wrong.words(&text, KIND);
                notes.error(&self.key(key), what, advice);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let word = self.text(notes, key)?;
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*chosen);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let what = format!("{word:?} is not possible here");
        notes.error(&self.key(key), what, suggestion(&word, &names, "Possible"));
        None
    }

    /// A program with its arguments. Nothing is read by a shell, so a text is only split at blanks.
    pub(super) fn command(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Vec<String>> {
        self.read(notes, key, COMMAND, |value| match value.as_str() {
            Some(line) if line.contains(['"', '\'', '\\', '$', '|', '>', '<', ';', '&', '`']) => {
                None
            }
            Some(line) => Some(line.split_whitespace().map(str::to_owned).collect()),
            None => texts(value),
        })
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Option<Vec<String>> {
        self.read(notes, key, "a list of texts, such as [\"n1\", \"n2\"]", texts)
    }

    /// Names and values, such as the parameters of an agent; numbers and flags are taken as texts.
    pub(super) fn values(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> BTreeMap<String, String> {
        let Some(table) = self.table(notes, key) else { return BTreeMap::new() };
        let mut values = BTreeMap::new();
        for (name, value) in table.in_order() {
            let line = notes.line(name.span().start);
            let full = table.key(name.get_ref());
            notes.at(&full, line);
            match scalar(value.get_ref()) {
                Some(text) => drop(values.insert(name.get_ref().to_string(), text)),
                None => {
                    let what = format!("{} cannot stand here", shown(value.get_ref()));
                    notes.error(&full, what, "Write a text in quotes.");
                }
            }
        }
        values
    }

    /// The table `key`, if it is there.
    pub(super) fn table(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Option<Self> {
        let full = self.key(key);
        let kind = format!("a table: [{full}]");
        let value = self.take(notes, key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Self::new(table, full)),
            None => {
                let what = format!("{} cannot stand here", shown(value.get_ref()));
                notes.error(&full, what, format!("Write {kind}."));
                None
            }
        }
    }

    /// The tables inside the table `key`, by name, in the order of the text.
    pub(super) fn named(
        &mut self,
        notes: &mut Notes<'_>,
        key: &'static str,
    ) -> Vec<(String, Self)> {
        let Some(outer) = self.table(notes, key) else { return Vec::new() };
        let mut tables = Vec::new();
        for (name, value) in outer.in_order() {
            let full = outer.key(name.get_ref());
            notes.at(&full, notes.line(name.span().start));
            match value.get_ref().as_table() {
                Some(table) => tables.push((name.get_ref().to_string(), Self::new(table, full))),
                None => {
                    let what = format!("{} cannot stand here", shown(value.get_ref()));
                    notes.error(&full, what, format!("Write a table: [{full}]."));
                }
            }
        }
        tables
    }

    /// The tables of the list `key`: `[[key]]`.
    pub(super) fn listed(&mut self, notes: &mut Notes<'_>, key: &'static str) -> Vec<Self> {
        let full = self.key(key);
        let advice = format!("Write each as a table of its own: [[{full}]].");
        let Some(value) = self.take(notes, key) else { return Vec::new() };
        let Some(entries) = value.get_ref().as_array() else {
            notes.error(&full, format!("{} cannot stand here", shown(value.get_ref())), advice);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let path = format!("{full}[{}]", place + 1);
            notes.at(&path, notes.line(entry.span().start));
            match entry.get_ref().as_table() {
                Some(table) => tables.push(Self::new(table, path)),
                None => notes.error(&path, "this is no table", advice.as_str()),
            }
        }
        tables
    }

    /// Whether `key` is a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().as_array().is_some())
    }

    /// Names this table anew, such as by the name that stands inside it.
    pub(super) fn rename(&mut self, notes: &mut Notes<'_>, path: String) {
        if let Some(line) = notes.line_of(&self.path) {
            notes.at(&path, line);
        }
        self.path = path;
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(self, notes: &mut Notes<'_>) {
        for (key, _) in self.in_order() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let full = self.key(name);
            notes.at(&full, notes.line(key.span().start));
            let advice = suggestion(name, &self.asked, "Known here");
            notes.error(&full, "this key is not known", advice);
        }
    }

    /// Keys and values in the order of the text.
    fn in_order(&self) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }
}

/// `Did you mean x?`, or what is known at all.
pub(super) fn suggestion(word: &str, known: &[&str], otherwise: &str) -> String {
    match near::nearest(word, known) {
        Some(near) => format!("Did you mean {near}?"),
        None if known.is_empty() => format!("{otherwise}: nothing."),
        None => format!("{otherwise}: {}.", known.join(", ")),
    }
}

/// What was written, as far as it can be shown in a few words.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 40 => format!("{text:?}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(_) => integer(value).map_or("this number".into(), |n| n.to_string()),
        other => {
            let kind = other.type_str();
            let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
            format!("{article} {kind}")
        }
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|entry| text(entry.get_ref())).collect()
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    let flag = || value.as_bool().map(|flag| flag.to_string());
    text(value).or_else(flag).or_else(|| integer(value).map(|number| number.to_string()))
}

/// A time with its unit, in milliseconds; `0` needs none.
fn duration(text: &str) -> Result<u64, NoTime> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(NoTime::Number);
    }
    let is_zero = number.bytes().all(|digit| digit == b'0');
    let factor = match unit.trim() {
        "" if is_zero => 1,
        "" => return Err(NoTime::NoUnit),
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        unit if unit.starts_with(['.', ',']) => return Err(NoTime::Number),
        unit => return Err(NoTime::Unit(unit.to_owned())),
    };
    let ms = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    ms.filter(|ms| *ms <= LONGEST_MS).ok_or(NoTime::TooLong)
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoTime {
    /// It begins with no whole number.
    Number,
    /// The number has no unit.
    NoUnit,
    /// The unit is none.
    Unit(String),
    /// It is longer than any time may be.
    TooLong,
}

impl NoTime {
    /// What is wrong with it, and what to do.
    fn words(&self, text: &str, kind: &str) -> (String, String) {
        const UNITS: &str = "ms, s, m (or min) and h";
        let write = format!("Write {kind}.");
        match self {
            Self::Number => (format!("{text:?} does not begin with a whole number"), write),
            Self::NoUnit => (format!("{text:?} has no unit; units are {UNITS}"), write),
            Self::Unit(unit) => {
                (format!("{unit:?} in {text:?} is no unit of time; units are {UNITS}"), write)
            }
            Self::TooLong => {
                let longest = LONGEST_MS / 3_600_000;
                let what = format!("{text:?} is too long: no time is longer than {longest}h");
                (what, format!("Write a time of at most \"{longest}h\"."))
            }
        }
    }
}

/// A time as [`duration`] reads it, in the largest unit that is exact.
pub fn written(ms: u64) -> String {
    match ms {
        0 => "0s".into(),
        ms if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("0", 0),
            ("2 s", 2_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(ms), "{text}");
        }
        for (bad, why) in [
            ("", NoTime::Number),
            ("s", NoTime::Number),
            ("-1s", NoTime::Number),
            ("1.5s", NoTime::Number),
            ("10", NoTime::NoUnit),
            ("1d", NoTime::Unit("d".into())),
            ("500h", NoTime::TooLong),
            ("99999999h", NoTime::TooLong),
            ("99999999999999999999s", NoTime::TooLong),
        ] {
            assert_eq!(duration(bad), Err(why), "{bad}");
        }
        let words = |text| duration(text).unwrap_err().words(text, "a time").0;
        assert_eq!(words("500h"), "\"500h\" is too long: no time is longer than 168h");
        assert_eq!(
            words("1d"),
            "\"d\" in \"1d\" is no unit of time; units are ms, s, m (or min) and h"
        );
        for ms in [0, 1, 999, 1_000, 61_000, 60_000, 300_000, 3_600_000] {
            assert_eq!(duration(&written(ms)), Ok(ms));
        }
    }
}
