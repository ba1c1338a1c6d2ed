//! The helper program of the guard's tests: `examples/guard.rs`, next to the tests.
//!
//! `cargo test` of everything has built it; `cargo test --test guard` alone builds no examples, so it
//! is built here where it is missing or older than what it is made of.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Where it is.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this test");
        let target = test.ancestors().nth(2).expect("the target directory");
        let program = target.join("examples").join("guard");
        let built = std::fs::metadata(&program).and_then(|data| data.modified()).ok();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let parts = ["src", "examples", "../cluster-core/src"].map(|part| newest(&here.join(part)));
        if built.is_none_or(|built| parts.into_iter().flatten().any(|source| source > built)) {
            build(here);
        }
        program
    })
}

fn build(here: &Path) {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "guard"])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .current_dir(here)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cargo build --example guard");
}

/// When the youngest file below a directory was written.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    entries
        .filter_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => newest(&entry.path()),
            _ => entry.metadata().and_then(|data| data.modified()).ok(),
        })
        .max()
}
