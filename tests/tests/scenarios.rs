//! Every file in `scenarios/` is a story that a cluster of the core must play as it is written.
//!
//! `UPDATE_EXPECT=1 cargo test -p vedette-tests --test scenarios` writes down what happens now; the
//! difference is then for a person to read.

use std::path::{Path, PathBuf};

use vedette_tests::sim::story;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn scenarios_are_played_as_written() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of scenarios is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 60, "only {} scenarios were found", paths.len());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a scenario can be read");
        match story::play(&text) {
            Ok(played) if played == text => {}
            Ok(played) if update => std::fs::write(&path, played).expect("it can be written"),
            Ok(played) => wrong.push(format!("{name}:\n{}", difference(&text, &played))),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Lines that are only in one of the two, in order.
fn difference(written: &str, played: &str) -> String {
    let mut text = String::new();
    for line in written.lines().filter(|line| !played.lines().any(|other| other == *line)) {
        text.push_str(&format!("- {line}\n"));
    }
    for line in played.lines().filter(|line| !written.lines().any(|other| other == *line)) {
        text.push_str(&format!("+ {line}\n"));
    }
    text
}

#[test]
fn a_story_that_cannot_be_read_says_where() {
    let wrong = story::play("cluster 3 nodes 2 networks\nfly to the moon\n----\n");
    assert_eq!(wrong, Err("before line 3: unknown command \"fly to the moon\"".into()));
    let unfinished = story::play("cluster 3 nodes 2 networks\n");
    assert_eq!(unfinished, Err("no `----` after \"cluster 3 nodes 2 networks\"".into()));
}
