//! Placement as text: what is the case, what happens, and what the groups do about it and why
//! (spec H24, H26, chapter 8 of the redbook).
//!
//! Each file of `testdata/placement` holds cases (`== name`). Lines at the margin say what is the
//! case; `>` asks; what is indented is the answer. `UPDATE_EXPECT=1 cargo test -p vedette-core
//! --test placement` writes the answers anew: read the diff.
//!
//! ```text
//! nodes 3                      n1, n2, n3: up, running, joined
//! n2 down | unknown | disconnected | netpar | agent-down | joining | stopped | maintenance
//! n1 deaf                      its adapter on neta failed
//! n1 standby                   it has a standby adapter on neta
//! cluster maintenance
//! queue node_up n3             waits behind the event that is asked about
//! group NAME POLICY NODES : on=n1 state=UNMANAGED last=n1 preferred=n2 avoid=n1,n2 held=n1
//!                           net=neta app=2 no-fallback offline blocked maintenance
//! was NAME POLICY NODES : …    how the group was configured before, for `> redefine`
//! > node_up n1 | node_down n1 | stop n1 graceful | move NAME | redefine | network_down neta | …
//! > astray                     what is not where it should be
//! > what_if n1=down n2=up
//! > where                      who has what, and on whom
//! ```
//!
//! An event that was asked about is carried out before the next question, and what must always be
//! true of placement is checked each time.

#[path = "placement/always.rs"]
mod always;
#[path = "placement/story.rs"]
mod story;

use std::fs;
use std::path::Path;

use story::Story;

/// Answers every question of a file; answers what the file should say, and how many cases it has.
fn answer(text: &str, file: &str) -> (String, usize) {
    let (mut out, mut story, mut cases) = (String::new(), Story::new(1), 0);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("    ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line.starts_with("==") {
            cases += 1;
            story = Story::new(1);
        }
        let answers = story.line(line).unwrap_or_else(|why| {
            panic!("{file}:{}: {why}: {line}", number + 1);
        });
        for answer in answers {
            out.push_str(&format!("    {answer}\n"));
        }
    }
    (out, cases)
}

/// H24, H26 and chapter 8.
#[test]
fn the_stories_end_as_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/placement");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let (mut cases, mut wrong) = (0, Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).expect("a file");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let (answered, here) = answer(&text, &name);
        cases += here;
        if answered != text {
            if update {
                fs::write(&path, &answered).expect("a file");
            }
            let differs = |(now, then): &(&str, &str)| now != then;
            let first = answered.lines().zip(text.lines()).find(differs);
            wrong.push(format!("{name}: {first:?}"));
        }
    }
    assert!(cases >= 60, "only {cases} cases");
    assert!(wrong.is_empty() || update, "UPDATE_EXPECT=1 rewrites:\n{}", wrong.join("\n"));
}
