//! Release programs (finding R2): run without the agent, in time, and nothing of them is left.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use vedette_node::hold::{Held, HeldProgram, release_all};
use vedette_node::transcript::file;

use crate::support::{LONG, TestGroup, gone, read_pid};

fn program(group: &TestGroup, text: &str, within_ms: u64) -> HeldProgram {
    HeldProgram {
        of: Default::default(),
        program: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        environment: [("WHAT".to_owned(), "web".to_owned())].into(),
        user: None,
        place: Some(group.directory().join("web.release").join("server")),
        within_ms,
        transcripts: None,
    }
}

/// What could not be let go of.
fn failed(programs: impl IntoIterator<Item = HeldProgram>) -> Vec<String> {
    let held = Held { programs: programs.into_iter().collect::<BTreeSet<_>>(), ..Held::default() };
    release_all(&held, Duration::from_millis(300)).failed
}

fn is_empty(group: &TestGroup) -> bool {
    let entries = std::fs::read_dir(group.directory()).unwrap().flatten();
    !entries.map(|entry| entry.path()).any(|path| Path::is_dir(&path))
}

#[test]
fn r2_a_release_program_is_proof_if_it_ends_with_0_in_time() {
    let (site, group) = (tempfile::tempdir().unwrap(), TestGroup::new("release"));
    let told = site.path().join("told");
    let text = format!("echo $WHAT > {}", told.display());
    assert_eq!(failed([program(&group, &text, 5_000)]), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(told).unwrap(), "web\n");
    let said = "the release program /bin/sh failed: exit status 3";
    assert_eq!(failed([program(&group, "exit 3", 5_000)]), [said]);
    let said = "the release program /bin/sh failed: it did not end within 300 ms";
    assert_eq!(failed([program(&group, "sleep 1000", 300)]), [said]);
    let nowhere =
        HeldProgram { program: vec!["/no/such/program".into()], ..program(&group, "", 5_000) };
    let said = failed([nowhere]);
    assert!(said[0].starts_with("the release program /no/such/program failed: "), "{said:?}");
    assert!(is_empty(&group), "their places are gone");
}

/// What it forks has neither its session nor its parents, and ends with it all the same.
#[tokio::test]
async fn r2_what_a_release_program_forked_ends_with_it() {
    let (site, group) = (tempfile::tempdir().unwrap(), TestGroup::new("release-forks"));
    for (name, last) in [("ends", "exit 0"), ("hangs", "sleep 1000")] {
        let file = site.path().join(name);
        let text = format!(
            "setsid sh -c 'trap \"\" TERM; echo $$ > {0}; while :; do sleep 1; done' &\n\
             while ! test -s {0}; do sleep 0.01; done; {last}",
            file.display()
        );
        let said = failed([program(&group, &text, 2_000)]);
        assert_eq!(said.is_empty(), name == "ends", "{said:?}");
        let forked = read_pid(&file).await;
        assert!(gone(forked).is_some(), "{name}");
    }
    assert!(is_empty(&group));
}

/// Three of them take as long as the longest.
#[test]
fn r2_release_programs_run_side_by_side() {
    let group = TestGroup::new("release-beside");
    let place = |number: u32| group.directory().join("web.release").join(number.to_string());
    let all = (0..3).map(|number| HeldProgram {
        place: Some(place(number)),
        ..program(&group, "sleep 1", 30_000)
    });
    let began = Instant::now();
    assert_eq!(failed(all), Vec::<String>::new());
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
}

/// J10: all that it printed is kept, and a release is over before anybody waits for the disk.
#[test]
fn j10_what_a_release_program_printed_is_kept() {
    let (site, group) = (tempfile::tempdir().unwrap(), TestGroup::new("release-transcript"));
    let folder = site.path().join("transcripts");
    let text = "echo begun; seq 1 200000; echo no such container >&2; exit 3";
    let environment =
        [("VEDETTE_NODE", "n1"), ("VEDETTE_GROUP", "web"), ("VEDETTE_RESOURCE", "app")];
    let said = failed([HeldProgram {
        environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
        transcripts: Some(folder.clone()),
        ..program(&group, text, 20_000)
    }]);
    assert_eq!(said, ["the release program /bin/sh failed: exit status 3"]);
    let until = Instant::now() + LONG;
    let (label, text) = loop {
        match file::read(&folder, 1) {
            Ok((label, text)) if label.ended.is_some() => break (label, text),
            _ => assert!(Instant::now() < until, "it is kept"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("begun\n1\n2\n") && text.ends_with("\nno such container\n"));
    assert!(text.contains(" bytes are left out here]\n"));
    assert_eq!(label.how.as_deref(), Some("exit status 3"));
    assert_eq!(label.heading.resource.as_deref(), Some("app"));
}
