//! `vedette rules check`: what the core finds, what only this machine can tell, and the very lines.

use std::collections::BTreeSet;

use vedette_collector::clinfo::finding::{CheckedDoc, FindingDoc};
use vedette_core::config::{Finding, Findings, Level};
use vedette_core::definition::Definition;
use vedette_core::predicate::Predicate;
use vedette_core::rules::file::{self, without_monitor};
use vedette_core::rules::{Program, has_errors, program};
use vedette_node::events;

use super::super::fail::{Failure, Result};
use super::super::text::clean;
use super::files::Files;

/// Variables that monitors of the site yield, as far as that can be known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Monitors {
    /// Those of `[monitors]` of a document.
    Known(BTreeSet<String>),
    /// No document is given, and no daemon says what is in force.
    Unknown,
}

impl Monitors {
    /// Those of a definition.
    pub(super) fn of(definition: &Definition) -> Self {
        Self::Known(definition.monitors.iter().map(|it| it.variable.clone()).collect())
    }

    /// What is left of a finding about a variable that no built-in monitor yields.
    fn judge(&self, mut finding: Finding, variable: &str) -> Option<Finding> {
        match self {
            Self::Known(all) if all.contains(variable) => return None,
            Self::Known(_) => {
                finding.what =
                    format!("neither a built-in monitor nor [monitors] yields {variable}");
            }
            Self::Unknown => {
                finding.what = format!(
                    "no built-in monitor yields {variable}, and whether one of the cluster does cannot be known \
                     here: no daemon answers"
                );
                finding.advice =
                    format!("Name the cluster's document (--document FILE). {}", finding.advice);
            }
        }
        Some(finding)
    }
}

/// Everything that was found.
pub(super) fn findings(files: &Files, monitors: &Monitors) -> Findings {
    let mut findings = files.set.check(&files.name);
    let rules = file::parse("", &files.set.text).0;
    let variables: BTreeSet<&str> = rules.iter().map(|rule| rule.variable.as_str()).collect();
    let found = std::mem::take(&mut findings.0).into_iter();
    findings.0 = found
        .filter_map(|finding| {
            let about = variables.iter().find(|it| finding.what == without_monitor(it));
            match about {
                Some(variable) => monitors.judge(finding, variable),
                None => Some(finding),
            }
        })
        .collect();
    for finding in &mut findings.0 {
        if let Some(place) = files.places.get(&finding.file) {
            finding.file.clone_from(place);
        }
    }
    for path in &files.useless {
        findings.0.push(Finding {
            level: Level::Warning,
            file: path.display().to_string(),
            line: None,
            key: String::new(),
            what: "no rule names a recovery program of this file name, so it is not loaded".into(),
            advice: "Name it in the third line of a rule, or remove it.".into(),
        });
    }
    for (path, text) in &files.set.programs {
        let (program, _) = program::parse(path, text);
        let place = files.places.get(path).unwrap_or(path);
        findings.0.extend(missing_here(&program, place));
    }
    findings
}

/// Commands that this machine does not have; another one may.
fn missing_here(program: &Program, place: &str) -> Vec<Finding> {
    let commands = program.phases.iter().flatten();
    let missing = commands.filter_map(|line| events::missing(&line.command));
    missing
        .map(|why| Finding {
            level: Level::Warning,
            file: place.to_owned(),
            line: None,
            key: "this node".into(),
            what: why.what,
            advice: why.advice,
        })
        .collect()
}

/// What to print if the rules can be loaded, and why they cannot if not.
pub(super) fn verdict(files: &Files, findings: &Findings) -> Result<String> {
    let shown = shown(files, findings);
    if has_errors(findings) {
        let errors = findings.0.iter().filter(|finding| finding.level == Level::Error).count();
        let noun = if errors == 1 { "error" } else { "errors" };
        return Err(Failure::failed(
            format!("the rules in {} have {errors} {noun}:\n{}", files.name, shown.trim_end()),
            "Correct them and check them again: vedette rules check FILE.",
        ));
    }
    if findings.0.is_empty() {
        return Ok(format!("{} is fine.\n", files.name));
    }
    Ok(format!("{} can be loaded, but:\n{shown}", files.name))
}

/// Findings that are no errors, for somebody who is about to load the rules.
pub(super) fn warnings(findings: &Findings) -> String {
    findings.0.iter().map(|finding| format!("\n{finding}")).collect()
}

/// Every finding, and below it the line it is about, with a mark where there is a place.
fn shown(files: &Files, findings: &Findings) -> String {
    let mut text = String::new();
    for finding in &findings.0 {
        text.push_str(&format!("{finding}\n"));
        for line in source(files, finding) {
            text.push_str(&format!("      {line}\n"));
        }
    }
    text
}

fn source(files: &Files, finding: &Finding) -> Vec<String> {
    let path = files.places.iter().find(|(_, place)| **place == finding.file);
    let path = path.map_or(&finding.file, |(path, _)| path);
    let text = match files.set.programs.get(path) {
        Some(program) => program,
        None if finding.file == files.name => &files.set.text,
        None => return Vec::new(),
    };
    let line = finding.line.and_then(|number| text.lines().nth(number - 1)).unwrap_or_default();
    let line = line.trim();
    if finding.key.ends_with("predicate")
        && let Err(error) = Predicate::parse(line)
    {
        return error.caret().lines().map(clean).collect();
    }
    if line.is_empty() { Vec::new() } else { vec![clean(line)] }
}

/// The findings for programs.
pub(super) fn document(findings: &Findings) -> CheckedDoc {
    CheckedDoc { findings: FindingDoc::all(findings), ok: !has_errors(findings) }
}
