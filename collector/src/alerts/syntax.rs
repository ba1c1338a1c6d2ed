//! Checks a new alert script before it is put in force; nothing of it is executed.
//!
//! Shells are asked with `-n`, Python parses the text; of other languages only the interpreter's
//! presence is checked, because asking them (`perl -c`) may execute parts of the script.

use std::path::Path;
use std::time::Duration;

use vedette_core::model::RunOutcome;
use vedette_node::process::{self, Program, Shebang};

/// How long an interpreter may take to read a script.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of what the interpreter says is kept.
const KEEP: usize = 8_192;

/// The script is on standard input, and has this name as a file.
const AS_A_FILE: &str = "/proc/self/fd/0";

/// How many findings are reported.
const MOST: usize = 20;

/// Reads the file named by its first argument, and executes nothing of it.
const PARSE_PYTHON: &str = "import ast, sys
try:
    ast.parse(open(sys.argv[1], 'rb').read())
except SyntaxError as e:
    sys.exit(f'line {e.lineno or 1}: {e.msg}')
except ValueError as e:
    sys.exit(f'line 1: {e}')
";

/// Something that is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// In which line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would help.
    pub advice: String,
}

impl Finding {
    fn new(line: usize, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { line, what: what.into(), advice: advice.into() }
    }
}

/// `line 3: what. advice`
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}. {}", self.line, self.what, self.advice)
    }
}

/// Checks a script: its first line, its interpreter, and its syntax where that can be asked.
pub async fn syntax_check(text: &str) -> Result<(), Vec<Finding>> {
    let first = |what| vec![Finding::new(1, what, advice_for_first_line(text))];
    let program = Shebang::of(text).and_then(|shebang| shebang.program()).map_err(first)?;
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        let what = "the text contains a NUL byte";
        return Err(vec![Finding::new(line + 1, what, "Save it as plain text.")]);
    }
    let Some(arguments) = question(&program) else { return Ok(()) };
    let ended = ask(text, &program, &arguments).await;
    judge(&program, &ended)
}

fn advice_for_first_line(text: &str) -> &'static str {
    if text.lines().next().is_some() && text.split('\n').next().is_some_and(|l| l.ends_with('\r')) {
        "Save the text with Unix line ends (LF)."
    } else {
        "Begin the script with a line such as `#!/bin/sh`, with an interpreter that is installed \
         on every member."
    }
}

/// How to ask the interpreter, before the name of the script; `None` if it cannot be asked.
fn question(program: &Path) -> Option<Vec<&'static str>> {
    let name = program.file_name()?.to_str()?;
    match name {
        "sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh" => Some(vec!["-n"]),
        _ if name.starts_with("python") => Some(vec!["-I", "-S", "-c", PARSE_PYTHON]),
        _ => None,
    }
}

async fn ask(text: &str, program: &Path, arguments: &[&str]) -> RunOutcome {
    let program = program.to_string_lossy();
    let argv = std::iter::once(&*program).chain(arguments.iter().copied()).chain([AS_A_FILE]);
    let asked = Program::new(argv, TIMEOUT)
        .environment([("LC_ALL", "C")])
        .keep(KEEP)
        .bounded()
        .ends_all()
        .stdin(text);
    match asked {
        Ok(asked) => process::run(asked).await,
        Err(error) => process::not_started(error.to_string()),
    }
}

fn judge(program: &Path, ended: &RunOutcome) -> Result<(), Vec<Finding>> {
    let program = program.display();
    if let Some(why) = &ended.failure {
        let what = format!("{program} could not be asked about the syntax: {why}");
        return Err(vec![Finding::new(1, what, "Check the interpreter of the first line.")]);
    }
    if ended.timed_out {
        let what = format!("{program} took longer than {} s to read it", TIMEOUT.as_secs());
        return Err(vec![Finding::new(1, what, "Make the script shorter.")]);
    }
    if ended.succeeded() {
        return Ok(());
    }
    let said = &ended.output;
    let found: Vec<_> = said.lines().filter_map(finding).take(MOST).collect();
    if !found.is_empty() {
        return Err(found);
    }
    let what = format!("{program} does not accept it: {}", said.trim());
    Err(vec![Finding::new(1, what, "Correct it, and check again.")])
}

/// Reads `…: line 3: what` and `…: 3: what`; other lines repeat the text of the script.
fn finding(said: &str) -> Option<Finding> {
    let mut rest = said;
    loop {
        let (word, after) = rest.split_once(':').unwrap_or((rest, ""));
        let number = word.trim().strip_prefix("line ").unwrap_or(word.trim());
        if let Ok(line) = number.parse::<usize>() {
            let what = after.trim().trim_end_matches('.');
            return Some(Finding::new(line.max(1), what, "Correct this line or one before it."));
        }
        if after.is_empty() {
            return None;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shells_say_is_understood() {
        let dash = finding("/proc/self/fd/9: 3: Syntax error: \"fi\" unexpected").map(|f| f.line);
        let bash = finding("/proc/self/fd/9: line 12: syntax error near `fi'").map(|f| f.line);
        assert_eq!((dash, bash), (Some(3), Some(12)));
        assert_eq!(finding("`fi'"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_interpreter_says_never_panics(said in ".{0,80}") {
            let _ = finding(&said);
        }
    }
}
