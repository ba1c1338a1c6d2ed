//! The rules file (spec H15): nine lines a rule, comments between.
//!
//! The format has no marks: which line means what is a matter of counting, and one line too few or
//! too many shifts everything after it (the original hangs then). So the reader looks for what
//! stands out, the third line: an absolute path. From one such line to the next there are nine
//! lines, or the rule between is named as the one that has a wrong number of them, and reading goes
//! on at the next rule. Empty lines where a name has to stand mean nothing and are passed over.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::near::nearest;
use crate::config::{Finding, Findings, Level};
use crate::predicate::{self, Predicate};
use crate::variable;

use super::{Rule, built_in};

/// The longest file, in bytes; it is part of every snapshot.
pub const LONGEST: usize = 256 * 1_024;

/// What the nine lines are, as findings call them.
pub const FIELDS: [&str; 9] = [
    "name",
    "state",
    "recovery program",
    "recovery type",
    "recovery level",
    "resource variable",
    "instance vector",
    "predicate",
    "rearm predicate",
];

/// Reads a rules file. Without errors among the findings the rules are complete.
pub fn parse(name: &str, text: &str) -> (Vec<Rule>, Findings) {
    let (rules, findings) = read(name, text);
    (rules.into_iter().map(|placed| placed.rule).collect(), findings)
}

/// A rule and where it stands.
pub(super) struct Placed {
    /// The line of its program.
    pub(super) program_line: usize,
    /// The line of its instance vector.
    pub(super) vector_line: usize,
    /// The rule.
    pub(super) rule: Rule,
}

/// Reads a rules file; each rule comes with its place.
pub(super) fn read(name: &str, text: &str) -> (Vec<Placed>, Findings) {
    let mut reader = Reader {
        file: name,
        lines: significant(text),
        names: BTreeMap::new(),
        findings: Vec::new(),
    };
    if text.len() > LONGEST {
        let what = format!("the file has {} bytes, more than {LONGEST}", text.len());
        reader.add(Level::Error, None, "", what, "Remove rules that are not needed.");
        return (Vec::new(), Findings(reader.findings));
    }
    let rules = reader.rules();
    let mut findings = reader.findings;
    findings.sort_by_key(|finding| finding.line);
    (rules, Findings(findings))
}

/// A line that counts: its number and its text.
type Line<'a> = (usize, &'a str);

fn significant(text: &str) -> Vec<Line<'_>> {
    let numbered = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    numbered.filter(|(_, line)| !line.starts_with('#')).collect()
}

struct Reader<'a> {
    file: &'a str,
    lines: Vec<Line<'a>>,
    /// The line of each name so far.
    names: BTreeMap<String, usize>,
    findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    fn add(
        &mut self,
        level: Level,
        line: Option<usize>,
        key: impl Into<String>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding {
            level,
            file: self.file.into(),
            line,
            key: key.into(),
            what: what.into(),
            advice: advice.into(),
        });
    }

    fn text(&self, place: usize) -> &'a str {
        self.lines.get(place).map_or("", |(_, text)| text)
    }

    fn rules(&mut self) -> Vec<Placed> {
        let mut rules = Vec::new();
        let mut start = self.skip_empty(0);
        while start < self.lines.len() {
            let end = self.end_of_rule(start);
            if let Some(rule) = self.rule(start, end) {
                self.refuse_second(start, &rule.name);
                let (program_line, vector_line) =
                    (self.lines[start + 2].0, self.lines[start + 6].0);
                rules.push(Placed { program_line, vector_line, rule });
            }
            start = self.skip_empty(end);
        }
        if rules.is_empty() && self.findings.is_empty() {
            self.add(
                Level::Error,
                None,
                "",
                "the file has no rule",
                "Begin with the built-in rules: vedette rules show --version 0.",
            );
        }
        rules
    }

    fn skip_empty(&self, from: usize) -> usize {
        let rest = &self.lines[from.min(self.lines.len())..];
        from + rest.iter().take_while(|(_, text)| text.is_empty()).count()
    }

    /// The first path at or after `from`, as far as two rules reach.
    fn path_from(&self, from: usize) -> Option<usize> {
        let end = self.lines.len().min(from + 2 * FIELDS.len());
        (from..end).find(|at| self.text(*at).starts_with('/'))
    }

    /// Where the rule after the one at `start` begins, according to its path.
    fn end_of_rule(&self, start: usize) -> usize {
        let own = self.path_from(start).filter(|at| *at <= start + 2);
        let Some(next) = self.path_from(own.map_or(start + 3, |at| at + 1)) else {
            return self.last(start);
        };
        // The name stands two lines before the path, or one if the state is missing.
        let (two, one) = (next.saturating_sub(2), next - 1);
        let stateless = !is_name(self.text(two)) && is_name(self.text(one));
        let end = if stateless { one } else { two };
        // So far away that a whole rule without a proper path must be between.
        if end >= start + 18 { start + 9 } else { end.max(start + 1) }
    }

    /// Where the last rule ends: after nine lines if something like a rule follows.
    fn last(&self, start: usize) -> usize {
        let end = self.lines.len();
        if end >= start + 9 + 3 && is_name(self.text(start + 9)) { start + 9 } else { end }
    }

    /// The rule in those lines, if there are nine.
    fn rule(&mut self, start: usize, end: usize) -> Option<Rule> {
        let surplus = (start + 9).min(end);
        let first_surplus = (surplus..end).find(|at| !self.text(*at).is_empty());
        let name = self.text(start).to_owned();
        if end - start >= 9 && first_surplus.is_none() {
            return Some(self.fields(start));
        }
        let count = first_surplus.map_or(end - start, |_| {
            end - start - (start..end).rev().take_while(|at| self.text(*at).is_empty()).count()
        });
        let noun = if count == 1 { "line" } else { "lines" };
        let what = format!("this rule has {count} {noun}, and a rule has exactly nine");
        let advice = match first_surplus {
            Some(at) => format!(
                "Remove a line (line {} would be the tenth), or begin it with # if it is a comment.",
                self.lines[at].0
            ),
            None => format!(
                "Write one line for each of: {}. Leave it empty where there is nothing to say.",
                FIELDS.join(", ")
            ),
        };
        self.add(Level::Error, Some(self.lines[start].0), name, what, advice);
        None
    }

    fn fields(&mut self, start: usize) -> Rule {
        let field = |place: usize| self.text(start + place).to_owned();
        let rule = Rule {
            name: field(0),
            state: field(1),
            program: field(2),
            kind: field(3),
            level: field(4),
            variable: field(5),
            vector: field(6),
            predicate: field(7),
            rearm: field(8),
        };
        let mut found = Vec::new();
        check_fields(&rule, &mut |level, place, what, advice| {
            found.push((level, place, what, advice));
        });
        for (level, place, what, advice) in found {
            let key = format!("{}, {}", rule.name, FIELDS[place]);
            self.add(level, Some(self.lines[start + place].0), key, what, advice);
        }
        rule
    }

    fn refuse_second(&mut self, start: usize, name: &str) {
        let line = self.lines[start].0;
        let Some(first) = self.names.get(name) else {
            self.names.insert(name.into(), line);
            return;
        };
        let what = format!("there is a rule of that name already, at line {first}");
        self.add(Level::Error, Some(line), name, what, "Give each rule a name of its own.");
    }
}

/// What names look like.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// Where findings about a rule go: how bad, which line of the nine, what, advice.
type Tell<'t> = &'t mut dyn FnMut(Level, usize, String, String);

fn check_fields(rule: &Rule, tell: Tell<'_>) {
    check_head(rule, tell);
    let predefined = built_in::EVENTS.contains(&rule.name.as_str());
    if predefined {
        check_predefined(rule, tell);
    } else if !rule.is_user_defined() {
        refuse_without_variable(rule, tell);
    } else {
        check_user_defined(rule, tell);
    }
}

/// Lines 1 to 5.
fn check_head(rule: &Rule, tell: Tell<'_>) {
    if !is_name(&rule.name) {
        tell(
            Level::Error,
            0,
            format!("`{}` is no name of an event", rule.name),
            "Use letters, digits, dots, dashes and underscores, beginning with a letter.".into(),
        );
    }
    if rule.state.is_empty() {
        tell(Level::Error, 1, "the state is missing".into(), "Write 0.".into());
    } else if rule.state != Rule::STATE {
        tell(
            Level::Warning,
            1,
            format!("no event has the state `{}`, so this rule answers none", rule.state),
            "Write 0.".into(),
        );
    }
    if !rule.program.starts_with('/') || rule.program.contains(char::is_whitespace) {
        tell(
            Level::Error,
            2,
            format!("`{}` is no absolute path of a recovery program", rule.program),
            "Write a path such as /etc/vedette/rules/name.rp, without blanks.".into(),
        );
    }
    for (place, value) in [(3, &rule.kind), (4, &rule.level)] {
        if value.is_empty() {
            let what = format!("the {} is missing", FIELDS[place]);
            tell(Level::Error, place, what, "It is reserved; write a number, such as 0.".into());
        }
    }
}

fn check_predefined(rule: &Rule, tell: Tell<'_>) {
    for (place, value) in
        [(5, &rule.variable), (6, &rule.vector), (7, &rule.predicate), (8, &rule.rearm)]
    {
        if !value.is_empty() {
            tell(
                Level::Error,
                place,
                format!("a predefined event has no {}, but there is `{value}`", FIELDS[place]),
                "Leave the line empty, or count the lines of this rule.".into(),
            );
        }
    }
}

/// A rule that nothing can trigger: most likely a predefined event, misspelt.
fn refuse_without_variable(rule: &Rule, tell: Tell<'_>) {
    let meant = nearest(&rule.name, built_in::EVENTS);
    let advice = match meant {
        Some(meant) => format!("Did you mean {meant}? Else name a resource variable."),
        None => "Name a resource variable, or one of the predefined events.".into(),
    };
    tell(
        Level::Error,
        5,
        format!(
            "{} is no predefined event, and a rule of one's own needs a resource variable",
            rule.name
        ),
        advice,
    );
}

/// Lines 6 to 9 of a rule of one's own.
fn check_user_defined(rule: &Rule, tell: Tell<'_>) {
    if !variable::is_name(&rule.variable) {
        tell(
            Level::Error,
            5,
            format!("`{}` is no name of a resource variable", rule.variable),
            "Use letters, digits, and . _ - %.".into(),
        );
    } else if variable::known(&rule.variable).is_none() {
        tell(Level::Warning, 5, without_monitor(&rule.variable), variable::advice(&rule.variable));
    }
    match variable::Pattern::parse(&rule.vector) {
        Err(error) => tell(Level::Error, 6, error.what, error.advice),
        Ok(pattern) => check_vector(rule, &pattern, tell),
    }
    if rule.predicate.is_empty() {
        tell(
            Level::Error,
            7,
            "there is a resource variable, but no predicate about it".into(),
            "Write when the event happens, such as X>90.".into(),
        );
    } else if let Err(error) = check_predicate(rule, &rule.predicate) {
        tell(Level::Error, 7, in_words(&error), error.advice);
    }
    if rule.rearm.is_empty() {
        return;
    }
    if let Err(error) = check_predicate(rule, &rule.rearm) {
        tell(Level::Error, 8, in_words(&error), error.advice);
    }
}

/// What is said of a variable that no built-in monitor yields.
pub fn without_monitor(variable: &str) -> String {
    format!("no built-in monitor yields {variable}")
}

/// Elements that no instance of a built-in variable has, and nodes that nobody is.
fn check_vector(rule: &Rule, pattern: &variable::Pattern, tell: Tell<'_>) {
    if let Some(node) = pattern.wanted("NodeNum")
        && !node.parse::<u16>().is_ok_and(|number| number > 0)
    {
        let what = format!("NodeNum={node} is no number of a node");
        tell(Level::Error, 6, what, "Write a number that vedette node list shows, or *.".into());
    }
    let Some(variable) = variable::known(&rule.variable) else { return };
    for name in pattern.names().filter(|name| !variable.elements.contains(name)) {
        let what = format!("instances of {} have no {name}, so none would match", rule.variable);
        let own = variable.elements.join(", ");
        let advice = match nearest(name, variable.elements) {
            Some(meant) => format!("Did you mean {meant}? They have: {own}."),
            None => format!("They have: {own}."),
        };
        tell(Level::Error, 6, what, advice);
    }
}

/// Whether a predicate has a meaning and can become true and false, also for the values that a built-in monitor yields.
fn check_predicate(rule: &Rule, text: &str) -> Result<(), predicate::Error> {
    let predicate = Predicate::parse(text)?;
    let known = variable::known(&rule.variable);
    if let Some(variable) = known {
        predicate.fits(&variable::Value::parse(variable.sample))?;
    }
    predicate
        .can_change(known.map_or((f64::NEG_INFINITY, f64::INFINITY), variable::Variable::domain))
}

fn in_words(error: &predicate::Error) -> String {
    format!("column {}: {}", error.column(), error.what)
}

/// The rules as a file that is read back as the same.
pub fn print(rules: &[Rule]) -> String {
    rules.iter().map(|rule| format!("#\n# {}\n#\n{rule}", rule.name)).collect()
}

/// The nine lines.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            &self.name,
            &self.state,
            &self.program,
            &self.kind,
            &self.level,
            &self.variable,
            &self.vector,
            &self.predicate,
            &self.rearm,
        ];
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
