//! What is kept of what programs print, and what is said where something is not.

use super::file::{list, read};
use super::*;

fn heading(kind: Kind) -> Heading {
    Heading { event: Some(7), ..Heading::new(kind, "node_up --all") }
}

fn place() -> (tempfile::TempDir, Transcripts) {
    let state = tempfile::tempdir().unwrap();
    let transcripts = Transcripts::new(state.path(), "n2");
    (state, transcripts)
}

fn text(transcripts: &Transcripts, number: u64) -> String {
    let (_, bytes) = read(transcripts.folder(), number).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// J10: all that was printed is there, piece by piece, under the name that is answered; root alone reads it.
#[tokio::test]
async fn j10_a_run_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let (_state, transcripts) = place();
    let tape = transcripts.tape(heading(Kind::Event));
    tape.write(b"one\n");
    tape.write(b"two\n");
    assert_eq!(tape.end("exit status 3").await, Some(Transcript::Kept("n2/1".into())));
    assert_eq!(text(&transcripts, 1), "one\ntwo\n");
    let labels = list(transcripts.folder()).unwrap();
    let label = &labels[0];
    assert_eq!((label.name().as_str(), label.printed, label.left_out()), ("n2/1", 8, 0));
    assert_eq!((label.how.as_deref(), label.heading.event), (Some("exit status 3"), Some(7)));
    assert!(label.ended.is_some() && label.missing.is_none());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(transcripts.folder()), 0o700);
    assert_eq!(mode(&transcripts.folder().join("0000000001-event")), 0o600);
}

/// J10: what printed nothing makes no file.
#[tokio::test]
async fn j10_silence_is_not_kept() {
    let (_state, transcripts) = place();
    let tape = transcripts.tape(heading(Kind::Event));
    tape.write(b"");
    assert_eq!(tape.end("exit status 0").await, None);
    assert_eq!(transcripts.keep(heading(Kind::Monitor), "failed", " \n").await, None);
    assert!(!transcripts.folder().exists());
}

/// J10: of a long one both ends are kept in 1 MiB, whatever the pieces.
#[tokio::test]
async fn j10_both_ends_of_a_long_one() {
    let (_state, transcripts) = place();
    for (number, lines) in [(1_u64, 20_000_u32), (2, 60_000), (3, 200_000)] {
        let tape = transcripts.tape(heading(Kind::Event));
        let all: String = (0..lines).map(|line| format!("this is line {line:09}\n")).collect();
        for piece in all.as_bytes().chunks(99_991) {
            tape.write(piece);
        }
        let kept = tape.end("exit status 0").await;
        assert_eq!(kept, Some(Transcript::Kept(format!("n2/{number}"))));
        let (label, _) = read(transcripts.folder(), number).unwrap();
        assert_eq!(label.printed, all.len() as u64);
        let found = text(&transcripts, number);
        if label.left_out() == 0 {
            assert!(found == all, "{lines} lines come back as they were");
            continue;
        }
        let (head, tail) = found.split_once("\n[").unwrap();
        let (said, tail) = tail.split_once("]\n").unwrap();
        assert_eq!(said, format!("{} bytes are left out here", label.left_out()));
        assert!(all.starts_with(head) && all.ends_with(tail));
        assert_eq!(head.len() + tail.len(), all.len() - usize::try_from(label.left_out()).unwrap());
        let path = transcripts.folder().join(format!("{number:010}-event"));
        assert!(std::fs::metadata(path).unwrap().len() <= LONGEST);
    }
}

/// J10: an agent that is killed leaves everything but the end; the next one counts on.
#[tokio::test]
async fn j10_a_killed_agent_leaves_what_was_printed() {
    let (state, transcripts) = place();
    let tape = transcripts.tape(heading(Kind::Event));
    tape.write(b"before the end\n");
    let other = transcripts.tape(heading(Kind::Resource));
    other.write(b"another\n");
    // The thread takes one after the other: when this one is over, the first was written.
    let second = other.end("exit status 0").await;
    std::mem::forget(tape);
    assert_eq!(second, Some(Transcript::Kept("n2/2".into())));
    let label = read(transcripts.folder(), 1).unwrap().0;
    assert_eq!((label.ended, label.printed), (None, 15));
    let next = Transcripts::new(state.path(), "n2");
    let tape = next.tape(heading(Kind::Event));
    tape.write(b"after it\n");
    assert_eq!(tape.end("").await, Some(Transcript::Kept("n2/3".into())));
    assert_eq!(text(&next, 1), "before the end\n");
}

/// J10: a run that is given up says so.
#[tokio::test]
async fn j10_a_run_that_is_given_up() {
    let (_state, transcripts) = place();
    let tape = transcripts.tape(heading(Kind::Event));
    tape.write(b"begun\n");
    drop(tape);
    let after = transcripts.tape(heading(Kind::Event));
    after.write(b"x");
    after.end("").await;
    assert_eq!(read(transcripts.folder(), 1).unwrap().0.how.as_deref(), Some("given up"));
}

/// J10: a resource that stays failed is kept once, until it says something else.
#[tokio::test]
async fn j10_the_same_failure_again_is_kept_once() {
    let (_state, transcripts) = place();
    let look = || heading(Kind::Monitor).of("web", "httpd");
    let first = transcripts.keep(look(), "failed", "no answer\n").await;
    let again = transcripts.keep(look(), "failed", "no answer\n").await;
    let other = transcripts.keep(look(), "failed", "no such file\n").await;
    assert_eq!(first, Some(Transcript::Kept("n2/1".into())));
    assert_eq!(again, first);
    assert_eq!(other, Some(Transcript::Kept("n2/2".into())));
}

/// J10: monitors have a share of their own, so no number of them pushes out an event.
#[test]
fn j10_the_oldest_of_a_kind_go() {
    let state = tempfile::tempdir().unwrap();
    let folder = folder(state.path());
    let long = vec![b'x'; 700 << 10];
    let keep = |kind, text: &[u8]| keep_now(&folder, "n1", heading(kind), "ended", text);
    assert_eq!(keep(Kind::Event, b"what matters\n"), Transcript::Kept("n1/1".into()));
    for _ in 0..20 {
        keep(Kind::Monitor, &long);
    }
    let labels = list(&folder).unwrap();
    let monitors: Vec<u64> = labels[1..].iter().map(|label| label.number).collect();
    assert_eq!(labels[0].heading.kind, Kind::Event);
    assert_eq!(monitors, (10..=21).collect::<Vec<u64>>());
}

/// J10: what cannot be kept is dropped, and that is said; the run goes on.
#[tokio::test]
async fn j10_no_room_is_said() {
    let state = tempfile::tempdir().unwrap();
    // A file where the folder has to be: nothing can be made in it, as on a disk without room.
    std::fs::write(folder(state.path()), "").unwrap();
    let transcripts = Transcripts::new(state.path(), "n2");
    let tape = transcripts.tape(heading(Kind::Event));
    tape.write(b"lost\n");
    let lost = tape.end("exit status 0").await;
    assert!(matches!(&lost, Some(Transcript::Lost(why)) if why.contains("exists")), "{lost:?}");
}

/// J10: what is no transcript is left out.
#[test]
fn j10_strangers_in_the_folder() {
    let state = tempfile::tempdir().unwrap();
    let folder = folder(state.path());
    keep_now(&folder, "n1", heading(Kind::Alert), "ended", b"x");
    for name in ["0000000002-alert", "notes", "0000000003-other"] {
        std::fs::write(folder.join(name), "{").unwrap();
    }
    assert_eq!(list(&folder).unwrap().len(), 1);
    let missing = read(&folder, 9).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}
