//! What holds for every command: it explains itself by examples that work as they stand, what an advice
//! names can be given, and one rule says which ones ask.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// Every command that can be given, by its words, with its help.
fn leaves() -> BTreeMap<String, clap::Command> {
    fn collect(command: &clap::Command, path: &str, found: &mut BTreeMap<String, clap::Command>) {
        for child in command.get_subcommands() {
            let path = format!("{path} {}", child.get_name());
            if child.has_subcommands() {
                collect(child, &path, found);
            } else {
                found.insert(path, child.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&Cli::command(), "vedette", &mut found);
    found
}

/// What can take a service away or cannot be taken back asks, and nothing else does.
#[test]
fn one_rule_says_what_asks() {
    let asks: Vec<String> = leaves()
        .into_iter()
        .filter(|(_, command)| {
            let mut flags = command.get_arguments();
            flags.any(|it| {
                matches!(it.get_id().as_str(), "yes" | "i_am_certain") && !it.is_hide_set()
            })
        })
        .map(|(path, _)| path.trim_start_matches("vedette ").to_owned())
        .collect();
    assert_eq!(
        asks,
        [
            // Another document or snapshot, other rules or timers.
            "config apply",
            "config edit",
            "config rollback",
            "config set heartbeat",
            // What it was to do is left undone.
            "event abort",
            // Taken away where it is.
            "group move",
            "group offline",
            // Not to be taken back.
            "init",
            "join",
            "leave",
            "node add",
            "node confirm-off",
            "node delete",
            "recover abort",
            "recover skip",
            "rules load",
            "rules rollback",
            "seed",
            "snapshot apply",
            "stop",
        ]
    );
}

/// The lines of examples in a help.
fn examples(help: &str) -> Vec<String> {
    let Some((_, after)) = help.split_once("Examples:\n") else { return Vec::new() };
    after
        .lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Every command can be asked for help, and the help shows how it is used: by examples of that command,
/// which the command line takes.
#[test]
fn every_example_is_one_of_its_command() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    examine(&mut Cli::command(), "vedette", &mut wrong, &mut seen);
    assert!(seen > 120 && wrong.is_empty(), "of {seen} examples: {wrong:#?}");
}

fn examine(command: &mut clap::Command, path: &str, wrong: &mut Vec<String>, seen: &mut usize) {
    let help = command.render_long_help().to_string();
    let examples = examples(&help);
    if examples.is_empty() && !command.is_hide_set() {
        wrong.push(format!("{path}: no example"));
    }
    for example in examples.iter().filter(|_| !command.is_hide_set()) {
        *seen += 1;
        let given = commands_in(example);
        let own = given
            .iter()
            .any(|words| format!("{} ", words.join(" ")).starts_with(&format!("{path} ")))
            || given.iter().any(|words| globals_left_out(words).starts_with(path));
        if !own {
            wrong.push(format!("{path}: shows another command: {example}"));
        }
        for words in given {
            if let Err(error) = Cli::try_parse_from(&words) {
                wrong.push(format!(
                    "{path}: {example}: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        let path = format!("{path} {}", child.get_name());
        examine(child, &path, wrong, seen);
    }
}

/// A command without the options before its first word.
fn globals_left_out(words: &[String]) -> String {
    match words {
        [program, option, _, rest @ ..] if option == "--config" => {
            format!("{program} {}", rest.join(" "))
        }
        _ => words.join(" "),
    }
}

/// The commands of ours in a line that a shell reads: what stands between pipes, in `$( )`, after variables.
fn commands_in(line: &str) -> Vec<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let (mut quote, mut blanks) = (None, 0);
    let mut all = Vec::new();
    let mut word = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let ends_word = |word: &mut String, words: &mut Vec<String>| {
            if !word.is_empty() {
                words.push(std::mem::take(word));
            }
        };
        blanks = if letter == ' ' && quote.is_none() { blanks + 1 } else { 0 };
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.push(letter),
            // After two blanks somebody explains what it does.
            (' ', None) if blanks == 2 => break,
            (' ', None) => ends_word(&mut word, &mut words),
            ('|' | ';' | '&' | '(' | ')' | '>', None) => {
                word = word.trim_end_matches('$').to_owned();
                // What `$( )` gives is a word of the command around it.
                if letter == '(' {
                    word.clear();
                    words.push("TOKEN".into());
                } else if letter == ')' {
                    ends_word(&mut word, &mut words);
                    all.push(std::mem::take(&mut words));
                    continue;
                }
                ends_word(&mut word, &mut words);
                if letter == '>' {
                    while letters.next_if(|it| *it == ' ').is_some() {}
                    while letters.next_if(|it| !" |;&)".contains(*it)).is_some() {}
                    continue;
                }
                all.push(std::mem::take(&mut words));
            }
            (letter, None) => word.push(letter),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    all.push(words);
    all.into_iter()
        .filter_map(|words| {
            let place = words.iter().position(|word| word == "vedette")?;
            // Not what systemctl is given.
            (!words.iter().any(|word| word == "systemctl")).then(|| words[place..].to_vec())
        })
        .collect()
}

#[test]
fn commands_are_found_in_what_a_shell_reads() {
    let found = |line: &str| -> Vec<String> {
        commands_in(line).iter().map(|words| words.join(" ")).collect()
    };
    assert_eq!(found("vedette status      what is wrong"), ["vedette status"]);
    assert_eq!(found("EDITOR=nano vedette config edit -m 'a b'"), ["vedette config edit -m a b"]);
    assert_eq!(found("vedette a > b && vedette c | jq -r '.[].d'"), ["vedette a", "vedette c"]);
    assert_eq!(found("x | vedette y -"), ["vedette y -"]);
    assert_eq!(
        found("ssh n2 vedette join $(vedette node add n2 | jq .t) --yes"),
        ["vedette join TOKEN", "vedette node add n2"]
    );
}

/// Every command that an advice gives can be given as it stands: with what it needs, in the order that it
/// needs. What a program fills in stands for itself.
#[test]
fn every_advice_works_as_written() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["cluster-core", "node", "collector", "mib", "exporter", "vedette"] {
        collect(&root.join(folder).join("src"), &mut files);
    }
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files.into_iter().filter(|file| file.extension().is_some_and(|it| it == "rs")) {
        let name = file.display().to_string();
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("/screens") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // What is filled in as a whole is no advice.
        let found = advices(&joined(&lines.join("\n")));
        for advice in found.into_iter().filter(|advice| advice != "vedette {}") {
            seen += 1;
            if !works(&advice) {
                wrong.push(format!("{name}: {advice}"));
            }
        }
    }
    assert!(seen > 100 && wrong.is_empty(), "of {seen}: {wrong:#?}");
}

/// Strings that go on in the next line of the source, in one.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.trim_start())
}

/// What follows a colon, a semicolon or a backtick and begins with our name, up to where it ends.
fn advices(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in text.match_indices("vedette ") {
        let advised = [": ", "; ", "`", "then "].iter().any(|it| text[..place].ends_with(it));
        if !advised {
            continue;
        }
        let rest = &text[place..];
        let quoted = text[..place].ends_with('`');
        let ends: &[&str] = if quoted {
            &["`"]
        } else {
            &[
                "\"", "\\n", ". ", ".\"", ".\\n", ", ", "; ", ")", " (", "  ", " or ", " and ",
                " here", " on ", " says", " tells", " shows", " prints", " names", " starts", ": ",
                "…", "`",
            ]
        };
        let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        found.push(rest[..end].trim().trim_end_matches(['.', ',']).to_owned());
    }
    found
}

fn works(advice: &str) -> bool {
    ["x", "1"].iter().any(|value| {
        let mut words = Vec::new();
        let mut braces = 0;
        let mut word = String::new();
        for letter in advice.chars() {
            match letter {
                '{' => braces += 1,
                '}' => {
                    braces -= 1;
                    word.push_str(value);
                }
                ' ' if braces == 0 => words.push(std::mem::take(&mut word)),
                _ if braces == 0 => word.push(letter),
                _ => {}
            }
        }
        words.push(word);
        let words = words.iter().map(|it| it.trim_matches('\'')).filter(|it| !it.is_empty());
        match Cli::try_parse_from(words) {
            Ok(_) => true,
            Err(error) => !error.use_stderr(),
        }
    })
}

/// Every command that an advice, a help text, a runbook or the README names can be given: whoever
/// reads it at 3 a.m. types it as it stands.
#[test]
fn every_command_that_is_named_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md"), root.join("contrib/cluster.toml")];
    for folder in [
        "cluster-core/src",
        "node/src",
        "node/events",
        "collector/src",
        "mib/src",
        "exporter/src",
        "vedette/src",
        "grafana/runbooks",
        "grafana/prometheus",
    ] {
        collect(&root.join(folder), &mut files);
    }
    let cli = Cli::command();
    let mut wrong = Vec::new();
    let mut named = 0;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for (place, _) in text.match_indices("vedette ") {
            named += 1;
            let advised = [": ", "; ", "`", "    "].iter().any(|it| text[..place].ends_with(it));
            if let Some(command) = unknown(&cli, &text[place + 8..], advised) {
                wrong.push(format!("{}: vedette {command}", file.display()));
            }
        }
    }
    assert!(named > 300 && wrong.is_empty(), "of {named}, there is no {wrong:#?}");
    assert_eq!(unknown(&cli, "manager status.", true).as_deref(), Some("manager"));
    assert_eq!(unknown(&cli, "group lst", false).as_deref(), Some("group lst"));
    assert_eq!(unknown(&cli, "watches a cluster", false), None, "a sentence about it");
}

fn collect(folder: &std::path::Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, files),
            path => files.push(path),
        }
    }
}

/// What does not exist of the command that `text` begins with. If that is no advice, its first word
/// may be one of a sentence.
fn unknown(cli: &clap::Command, text: &str, advised: bool) -> Option<String> {
    let mut words = text.split(' ').map(|word| {
        let end = word.find(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'));
        word.split_at(end.unwrap_or(word.len()))
    });
    let (noun, rest) = words.next().filter(|(it, _)| !it.is_empty() && !it.starts_with('-'))?;
    let Some(command) = cli.find_subcommand(noun) else {
        return advised.then(|| noun.to_owned());
    };
    let verb = words.next().filter(|_| rest.is_empty() && command.has_subcommands());
    let (verb, _) = verb.filter(|(verb, _)| !verb.is_empty() && !verb.starts_with('-'))?;
    command.find_subcommand(verb).is_none().then(|| format!("{noun} {verb}"))
}
