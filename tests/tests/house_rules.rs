//! House rules that a machine can keep: who may use whom, what the core may not touch, how long a
//! file may be, and that the specification and those who cite it are true.

#[path = "house_rules/layers.rs"]
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file that git knows, with that ending.
fn tracked(ending: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there: apt-get install git");
    String::from_utf8_lossy(&output.stdout)
        .split('\0')
        .filter(|name| name.ends_with(ending))
        .map(|name| root().join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// The table "The folders" of `ARCHITECTURE.md`: crate → what it may use.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let rows = text.lines().filter(|line| line.starts_with("| `") && line.contains("`vedette"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells[2].trim_matches('`').to_owned();
        let all = ["core", "node", "collector", "mib", "exporter"];
        let allowed = match cells[4] {
            "all" => all.iter().map(|short| format!("vedette-{short}")).collect(),
            words => all
                .iter()
                .filter(|short| words.split(", ").any(|word| word == **short))
                .map(|short| format!("vedette-{short}"))
                .collect(),
        };
        (name, allowed)
    })
    .collect()
}

/// Dependencies point one way: they are what the architecture's table says.
#[test]
fn crates_use_only_what_the_architecture_allows() {
    let table = table();
    assert_eq!(table.len(), 7, "the table lists every crate: {table:?}");
    for manifest in tracked("Cargo.toml") {
        let text = read(&manifest);
        let Some(name) = text.lines().find_map(|line| line.strip_prefix("name = ")) else {
            continue;
        };
        let name = name.trim_matches('"').to_owned();
        let mut used: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.split_once(".workspace = true"))
            .map(|(dependency, _)| dependency.to_owned())
            .filter(|dependency| dependency.starts_with("vedette"))
            .collect();
        // The lab starts the same sandbox as the demo.
        if name == "vedette-tests" {
            used.remove("vedette");
        }
        let allowed = &table[&name];
        let forbidden: Vec<_> = used.difference(allowed).collect();
        assert!(forbidden.is_empty(), "{name} may not use {forbidden:?}");
    }
}

/// The core cannot reach the world: no sockets, files, threads, clocks, or unordered collections.
#[test]
fn the_core_reaches_nothing() {
    let forbidden = [
        "std::net::Udp",
        "std::net::Tcp",
        "std::fs",
        "std::thread",
        "std::process",
        "SystemTime",
        "Instant::now",
        "HashMap",
        "HashSet",
        "tokio",
        "rand::",
        "std::env",
    ];
    let core = root().join("cluster-core/src");
    for file in tracked(".rs").into_iter().filter(|file| file.starts_with(&core)) {
        for (number, line) in read(&file).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                assert!(!code.contains(word), "{}:{}: {word}", file.display(), number + 1);
            }
        }
    }
}

/// Past 800 lines a file has a second topic.
#[test]
fn files_are_short() {
    let long: Vec<String> = tracked(".rs")
        .into_iter()
        .map(|file| (read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > 800)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Every file of the code opens with what it is.
#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = tracked(".rs")
        .into_iter()
        .filter(|file| {
            let text = read(file);
            let first = text.lines().find(|line| !line.starts_with("#!") && !line.is_empty());
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Nothing is switched off, and nothing is left unfinished.
#[test]
fn nothing_is_unfinished() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    for file in tracked(".rs") {
        let text = read(&file);
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", file.display());
        }
    }
}

/// Rows that the cluster manager shows.
const MANAGER: [&str; 33] = [
    "H9", "H11", "H12", "H13", "H14", "H15", "H16", "H17", "H18", "H19", "H20", "H21", "H22",
    "H24", "H25", "H26", "H27", "H28", "H29", "H30", "H31", "H32", "H33", "H34", "H35", "H36",
    "H46", "A6", "A7", "A17", "A19", "V11", "V12",
];

/// Rows of the manager that no story can show, because the core does not do them: what a script finds
/// in its environment, and how LVM is refreshed.
const OUTSIDE: [&str; 2] = ["H20", "H28"];

/// Those of the rows that none of the texts names.
fn unnamed<'r>(rows: impl IntoIterator<Item = &'r str>, texts: &[String]) -> Vec<&'r str> {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
    let names = |text: &String, row: &str| {
        text.match_indices(row).any(|(place, _)| {
            let before = text[..place].chars().next_back();
            edge(before) && edge(text[place + row.len()..].chars().next())
        })
    };
    rows.into_iter().filter(|row| !texts.iter().any(|text| names(text, row))).collect()
}

/// The spec rows that this release shows are named in tests, so that each can be found.
#[test]
fn every_row_of_this_release_is_named_in_a_test() {
    let rows = [
        "H1", "H2", "H3", "H4", "H5", "H7", "H8", "H23", "A2", "A5", "A8", "A9", "A10", "A11",
        "A13", "A14", "A15", "V1", "V2", "V7", "V9", "V10", "V14",
    ];
    let texts: Vec<String> = tracked(".rs")
        .into_iter()
        .chain(tracked(".txt"))
        .filter(|file| !file.ends_with("house_rules.rs"))
        .map(|file| read(&file))
        .filter(|text| {
            text.contains("#[test]") || text.contains("tokio::test") || text.contains("----")
        })
        .collect();
    let missing = unnamed(rows.into_iter().chain(MANAGER), &texts);
    assert!(missing.is_empty(), "no test names {missing:?}");
}

/// Each row of the cluster manager is told as a story that a person can read, and whose first line
/// names it.
#[test]
fn every_row_of_the_cluster_manager_has_a_story() {
    let folder = root().join("tests/scenarios");
    let titles: Vec<String> = tracked(".txt")
        .into_iter()
        .filter(|file| file.starts_with(&folder))
        .map(|file| read(&file).lines().next().unwrap_or_default().to_owned())
        .collect();
    let told = MANAGER.into_iter().filter(|row| !OUTSIDE.contains(row));
    let missing = unnamed(told, &titles);
    assert!(missing.is_empty(), "no story's first line names {missing:?}");
}

/// A row of `docs/spec.md`.
struct Row {
    name: String,
    /// Paths of the code that does it.
    code: Vec<String>,
    /// A test, or a story.
    shown: Vec<String>,
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn specification() -> Vec<Row> {
    let text = read(&root().join("docs/spec.md"));
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [name, _, code, shown] = cells.as_slice() else { return None };
        let is_row = name.starts_with(['A', 'H', 'M', 'V', 'X']) && name[1..].parse::<u8>().is_ok();
        is_row.then(|| Row { name: (*name).into(), code: quoted(code), shown: quoted(shown) })
    });
    rows.collect()
}

/// The specification has every row once and in order, what it says to do and to show one is there, and a row that
/// nothing does shows nothing.
#[test]
fn the_specification_is_true() {
    let rows = specification();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let all = [('A', 21), ('H', 59), ('V', 15), ('X', 16), ('M', 16)];
    let expected: Vec<String> =
        all.iter().flat_map(|(of, last)| (1..=*last).map(move |n| format!("{of}{n}"))).collect();
    assert_eq!(names, expected);
    let sources: String = tracked(".rs").iter().map(|file| read(file)).collect();
    for row in &rows {
        assert_eq!(row.code.is_empty(), row.shown.is_empty(), "{}", row.name);
        for path in &row.code {
            assert!(root().join(path).exists(), "{}: there is no {path}", row.name);
        }
        for shown in &row.shown {
            let there = match shown.contains('/') {
                true => root().join(shown).is_file(),
                false => sources.contains(&format!("fn {shown}()")),
            };
            assert!(there, "{}: there is no {shown}", row.name);
        }
    }
}

/// A row that the code cites is one of the specification.
#[test]
fn citations_are_of_rows_that_exist() {
    let rows: BTreeSet<String> = specification().into_iter().map(|row| row.name).collect();
    let mut wrong = Vec::new();
    for file in tracked(".rs").into_iter().filter(|file| !file.ends_with("house_rules.rs")) {
        for (number, line) in read(&file).lines().enumerate() {
            let Some((_, cited)) = line.split_once("(spec ") else { continue };
            // Rows alone; what follows, such as a finding, has numbers of its own.
            let cited = cited.split([')', ';']).next().unwrap_or_default();
            let words = cited.split(|c: char| !c.is_ascii_alphanumeric());
            let is_row = |word: &&str| {
                word.len() > 1
                    && word.starts_with(|c: char| c.is_ascii_uppercase())
                    && word[1..].chars().all(|c| c.is_ascii_digit())
            };
            let strange = words.filter(is_row).filter(|word| !rows.contains(*word));
            wrong.extend(strange.map(|word| format!("{}:{}: {word}", file.display(), number + 1)));
        }
    }
    assert!(wrong.is_empty(), "docs/spec.md has no row {}", wrong.join("\n"));
}

/// Deliberate mistakes are for the simulation: `cargo tree`, asked for what a release is built of, knows of none.
#[test]
fn no_release_makes_mistakes() {
    let features = |package: &str| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let tree = Command::new(cargo)
            .args([
                "tree",
                "--locked",
                "--offline",
                "--edges",
                "normal,features",
                "--prefix",
                "none",
            ])
            .args(["--package", package, "--format", "{p} {f}"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        String::from_utf8_lossy(&tree.stdout).into_owned()
    };
    let makes = |tree: &str| {
        tree.lines().any(|line| line.starts_with("vedette-core") && line.contains("mistakes"))
    };
    assert!(!makes(&features("vedette")), "a release can be told to make mistakes");
    assert!(makes(&features("vedette-tests")), "the simulation cannot make them any more");
}
