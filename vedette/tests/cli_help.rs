//! The help of every command, asked of the real program: it renders, it fits a terminal, and it
//! shows by examples how the command is used.

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
