//! A full disk holds a member of the log up: it says so, goes on by itself when there is room, and loses
//! nothing that was acknowledged (invariant 7).
//!
//! The disk is a real one: a small tmpfs, mounted by one thread in a mount namespace of its own, so
//! that it is gone with the thread. Mounting needs root.

mod log_support;

use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};
use vedette_core::command::{Command, Proposal};
use vedette_core::state::Outcome;
use vedette_node::log::{Disk, Log};

use log_support::{Alone, PATIENCE, Witness, form, open, proposal, until};

/// Mounts a tmpfs of `kilobytes`, or changes the size of the one that is mounted.
fn tmpfs(at: &Path, kilobytes: u32, flags: libc::c_ulong) {
    let at = CString::new(at.to_str().expect("a plain path")).expect("no NUL");
    let options = CString::new(format!("size={kilobytes}k")).expect("no NUL");
    // SAFETY: all pointers are to NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            c"none".as_ptr(),
            at.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(result, 0, "mounting needs root: {}", std::io::Error::last_os_error());
}

/// Gives this thread, and all threads it starts, mounts that nobody else sees.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS)
        .expect("a mount namespace needs root: run the tests with sudo");
    // SAFETY: the path is a NUL-terminated literal, the other pointers may be null.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A command that needs 40 kB of disk.
fn big(n: u64) -> Proposal {
    let line = format!("# {n}\n");
    let text = format!("#!/bin/sh\n{}", line.repeat(40_000 / line.len()));
    proposal(n, Command::SaveAlertScript { text, comment: String::new(), based_on: n as u32 - 1 })
}

/// Proposes until the disk is full; answers how many were applied.
async fn fill(log: &Log) -> u64 {
    for n in 1..1_000 {
        match log.propose(big(n)).await {
            Ok(Outcome::Applied { .. }) => {}
            Ok(other) => panic!("unexpected outcome: {other:?}"),
            Err(_) => return n - 1,
        }
    }
    panic!("the disk never got full");
}

async fn fill_and_recover(dir: &Path) {
    let path = dir.join("cluster.db");
    let log = open(&path, 1, true, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it opens");
    log.form(form(1)).await.expect("formed");
    let applied = fill(&log).await;
    assert!(applied > 3, "{applied} commands fit");
    let refuses = told(&log, |disk| matches!(disk, Disk::Refuses(_))).await;
    assert!(format!("{refuses:?}").contains("cluster.db is full"), "{refuses:?}");

    tmpfs(dir, 8_192, libc::MS_REMOUNT);
    told(&log, |disk| *disk == Disk::Takes).await;
    let next = applied + 1;
    // The one that was not answered was held up, and is there now.
    until(&log, |now| now.last_applied >= now.committed).await;
    let outcome = log.propose(big(next)).await.expect("there is space again");
    assert!(matches!(outcome, Outcome::Repeated { .. }), "{outcome:?}");
    let outcome = log.propose(big(next + 1)).await.expect("and more of it");
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    log.shutdown().await;

    let witness = Arc::new(Witness::default());
    let log = open(&path, 1, false, Arc::new(Alone), witness.clone()).await.expect("it reopens");
    until(&log, |now| now.me && now.last_applied >= now.committed && now.last_applied > 0).await;
    let versions = witness.seen().state.script.versions.clone();
    for n in 1..=next + 1 {
        assert!(versions[&(n as u32)].text.contains(&format!("# {n}\n")), "version {n}");
    }
    shut_down_while_full(log, dir, next + 2).await;
}

/// Waits until the disk is said to be so.
async fn told(log: &Log, wanted: impl FnMut(&Disk) -> bool) -> Disk {
    let mut disk = log.disk();
    let told = tokio::time::timeout(PATIENCE, disk.wait_for(wanted)).await;
    told.expect("it is told in time").expect("the member runs").clone()
}

/// A member that a full disk holds up can be ended, and lacks at most what nobody was promised.
async fn shut_down_while_full(log: Log, dir: &Path, next: u64) {
    leave_no_room(dir);
    let unanswered = log.propose(big(next)).await;
    assert!(unanswered.is_err(), "{unanswered:?}");
    tokio::time::timeout(PATIENCE, log.shutdown()).await.expect("it ends");
}

/// Takes what room there is.
fn leave_no_room(dir: &Path) {
    let mut filler = std::fs::File::create(dir.join("filler")).expect("a file");
    while filler.write_all(&[0; 4_096]).is_ok() {}
}

/// A member that has nothing to write finds out by itself, and goes on by itself.
async fn fill_while_idle(dir: &Path) {
    let path = dir.join("cluster.db");
    let log = open(&path, 1, true, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it opens");
    log.form(form(1)).await.expect("formed");
    told(&log, |disk| *disk == Disk::Takes).await;
    leave_no_room(dir);
    told(&log, |disk| matches!(disk, Disk::Refuses(_))).await;
    std::fs::remove_file(dir.join("filler")).expect("removed");
    told(&log, |disk| *disk == Disk::Takes).await;
    log.shutdown().await;
}

/// Runs a story on a small disk of its own.
fn on_a_small_disk<Story: Future>(story: impl FnOnce(PathBuf) -> Story + Send + 'static) {
    let dir = tempfile::tempdir().expect("a directory");
    let there = dir.path().to_owned();
    std::thread::spawn(move || {
        own_mounts();
        tmpfs(&there, 1_024, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(story(there));
    })
    .join()
    .expect("the member behaves on a full disk");
}

#[test]
fn a_full_disk_holds_the_member_up_and_loses_nothing() {
    on_a_small_disk(|dir| async move { fill_and_recover(&dir).await });
}

#[test]
fn a_member_finds_its_disk_full_while_it_has_nothing_to_write() {
    on_a_small_disk(|dir| async move { fill_while_idle(&dir).await });
}
