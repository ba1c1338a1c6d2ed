//! The help of every command, asked of the real program: it renders, it fits a terminal, and it
//! shows by examples how the command is used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_vedette"))
        .args(path)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The subcommands that a help lists.
fn children(help: &str) -> Vec<String> {
    let Some((_, commands)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let entries = commands.lines().take_while(|line| !line.is_empty());
    entries
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn visit(path: &mut Vec<String>, seen: &mut usize) {
    let text = help(path);
    *seen += 1;
    assert!(text.contains("Usage: vedette"), "{path:?}\n{text}");
    assert!(text.contains("Examples:\n"), "{path:?} shows no example\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{path:?} is too wide: {line}");
    }
    for child in children(&text) {
        path.push(child);
        visit(path, seen);
        path.pop();
    }
}

#[test]
fn every_command_explains_itself() {
    let mut seen = 0;
    visit(&mut Vec::new(), &mut seen);
    assert!(seen >= 35, "only {seen} commands were found");
}

/// Commands as the help shows them, `config set seed` and the like, and those that it hides.
fn commands(path: &mut Vec<String>, found: &mut BTreeSet<String>) {
    for child in children(&help(path)) {
        path.push(child);
        found.insert(path.join(" "));
        commands(path, found);
        path.pop();
    }
}

/// What follows `vedette ` in a text, as far as it looks like a command.
fn mentioned(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split("vedette ").skip(1).map(|rest| {
        let mut words = Vec::new();
        for whole in rest.split(' ').take(2) {
            // A word at the end of a sentence is still one, and the last.
            let word = whole.trim_end_matches(['.', ',', ';', ':', ')', '`', '"']);
            let is_one = word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_one {
                words.push(word);
            }
            if !is_one || word.len() < whole.len() {
                break;
            }
        }
        words
    })
}

/// Files with texts that people read, below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "md" || kind == "yml")
        {
            found.push(path);
        }
    }
}

/// What an operator is told to run can be run: every command that a text of the product names is one.
#[test]
fn commands_that_are_advised_exist() {
    let mut known = BTreeSet::from(["agent", "resource", "help"].map(str::to_owned));
    commands(&mut Vec::new(), &mut known);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in [
        "cluster-core/src",
        "node/src",
        "collector/src",
        "mib/src",
        "exporter/src",
        "vedette/src",
        "grafana/runbooks",
        "grafana/prometheus",
    ] {
        sources(&root.join(folder), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            for words in mentioned(line) {
                // `vedette runs there` is no command, and no advice either.
                let Some(first) = words.first().filter(|word| !PROSE.contains(word)) else {
                    continue;
                };
                let parent = known.contains(*first);
                let group = known.iter().any(|command| command.starts_with(&format!("{first} ")));
                let child =
                    words.get(1).is_none_or(|second| known.contains(&format!("{first} {second}")));
                if !parent || (group && !child) {
                    wrong.push(format!("{}: {}", file.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such command:\n{}", wrong.join("\n"));
}

/// Words after the product's name that go on with a sentence.
const PROSE: [&str; 3] = ["runs", "process", "daemon"];
