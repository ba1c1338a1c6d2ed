//! `vedette alert edit`: a loop that loses nothing.
//!
//! The text in force goes into a private temporary file and an editor is started on it. What comes
//! back is checked; if it is not accepted, by the check or by the cluster, the operator edits again
//! or gives up, and then the text stays in its file, whose name is told.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;
use vedette_collector::alerts::{Finding, syntax_check};
use vedette_core::command::Command;

use super::alert::text_of;
use super::aside;
use super::ask;
use super::context::Context;
use super::fail::{Failure, REFUSED, Result};
use super::text::clean;

/// `vedette alert edit`
#[derive(Debug, Args)]
#[command(after_help = "Without --file the editor in $VISUAL or $EDITOR is started, or vi.\n\n\
    Examples:\n  \
    vedette alert edit\n  \
    EDITOR=nano vedette alert edit -m 'page the second shift, too'\n  \
    vedette alert edit --file alert.sh -m 'from the repository'\n  \
    generate-script | vedette alert edit --file -")]
pub(crate) struct EditArgs {
    /// Save this file instead of starting an editor; - is standard input
    #[arg(long)]
    file: Option<PathBuf>,
    /// Why, for the history
    #[arg(short = 'm', long, value_name = "WHY", default_value = "")]
    comment: String,
}

/// The command that takes a kept text.
const AGAIN: &str = "vedette alert edit --file";

/// Edits the alert script, or saves a file as such.
pub(crate) fn run(context: &Context, arguments: &EditArgs) -> Result<u8> {
    let script = context.state()?.script;
    let based_on = script.active;
    if let Some(file) = &arguments.file {
        let text = read(file)?;
        if text_of(&script, based_on) == Some(text.as_str()) {
            let what = format!("this text is in force already, as version {based_on}");
            return context.unchanged(what);
        }
        check(&text).map_err(|findings| refuse(&findings, "Correct the file."))?;
        return save(context, text, &arguments.comment, based_on);
    }
    needs_editor("Give the script with --file, or with --file - on standard input.")?;
    let before = text_of(&script, based_on).unwrap_or_default();
    let draft = Draft::new(before, "vedette-alert-", ".sh")?;
    loop {
        draft.edit()?;
        let text = draft.text()?;
        if text == before {
            return context.unchanged("the script was not changed");
        }
        let problem = match check(&text) {
            Ok(()) => match save(context, text, &arguments.comment, based_on) {
                Ok(exit) => return Ok(exit),
                // Somebody else was faster, or the cluster cannot be asked: the draft is kept.
                Err(failure) if failure.exit != REFUSED => return Err(draft.keep(failure, AGAIN)),
                Err(failure) => failure,
            },
            Err(findings) => refuse(&findings, "Edit it again, or give up and keep the text."),
        };
        aside::failure(&problem);
        if !edits_again() {
            return Err(draft.keep(Failure::refused("the script was not saved", ""), AGAIN));
        }
    }
}

/// Refuses where nobody could edit anything.
pub(super) fn needs_editor(advice: &str) -> Result<()> {
    // An editor that was named may well be one that needs no terminal.
    let named = ["VISUAL", "EDITOR"].iter().any(|name| std::env::var_os(name).is_some());
    if named || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::refused("there is no terminal for an editor", advice))
}

/// Whether the operator wants to go on; nobody there to answer does not.
pub(super) fn edits_again() -> bool {
    let answer = ask::line("Edit again [E] or give up [g]? ");
    answer.is_ok_and(|answer| matches!(answer.trim(), "" | "e" | "E"))
}

/// A text that is being edited, in a file that nobody else can read.
pub(super) struct Draft(NamedTempFile);

impl Draft {
    /// Writes the text into a file of that kind.
    pub(super) fn new(text: &str, prefix: &str, suffix: &str) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Failure::failed(
                format!("no temporary file can be written: {error}"),
                "Free some room, or name another directory in TMPDIR.",
            )
        };
        // Made with mode 0600: a script may hold a password of a mail gateway.
        let file =
            tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile().map_err(failed)?;
        std::fs::write(file.path(), text).map_err(failed)?;
        Ok(Self(file))
    }

    /// Starts the editor and waits for its end.
    pub(super) fn edit(&self) -> Result<()> {
        let editor = ["VISUAL", "EDITOR"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.trim().is_empty())
            .unwrap_or_else(|| "vi".into());
        // The value may hold options (`code --wait`), so a shell takes it apart.
        let status = std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{editor} \"$1\""))
            .arg("sh")
            .arg(self.0.path())
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::failed(
                format!("the editor {} ended with {status}, so nothing was saved", clean(&editor)),
                "Name another one in VISUAL or EDITOR.",
            )),
            Err(error) => Err(Failure::failed(
                format!("the editor {} cannot be started: {error}", clean(&editor)),
                "Name another one in VISUAL or EDITOR.",
            )),
        }
    }

    /// What is in the file now.
    pub(super) fn text(&self) -> Result<String> {
        // Read by name: an editor may have put another file in its place.
        read(self.0.path())
    }

    /// Keeps the text, and says in the failure where it is and by which command it is used again.
    pub(super) fn keep(self, failure: Failure, again: &str) -> Failure {
        let path = self.0.into_temp_path();
        let kept = match path.keep() {
            Ok(path) => format!("Your text is kept: {again} {}.", path.display()),
            Err(error) => format!("Your text could not be kept: {error}."),
        };
        let advice = format!("{} {kept}", failure.advice).trim().to_owned();
        Failure { advice, ..failure }
    }
}

/// The text of a file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<String> {
    read_at_most(file, u64::MAX)
}

/// The same, of a file whose first bytes will do to see that it is too long.
pub(super) fn read_at_most(file: &Path, most: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| {
        Failure::failed(
            format!("{} cannot be read: {error}", file.display()),
            "Name a text file in UTF-8.",
        )
    })?;
    in_utf8(bytes, file)
}

/// The text in UTF-8, or the place where it is none.
pub(super) fn in_utf8(bytes: Vec<u8>, file: &Path) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = bytes.get(at).copied().unwrap_or_default();
        Failure::failed(
            format!(
                "{} is no text in UTF-8: line {line}, byte {at} of the file, is 0x{byte:02x}",
                file.display()
            ),
            "Name a text file; one in another encoding can be converted: iconv -t UTF-8.",
        )
    })
}

/// Refuses a script with errors; `advice` says what to do about them.
pub(super) fn script_errors(text: &str, advice: &str) -> Result<()> {
    check(text).map_err(|findings| refuse(&findings, advice))
}

fn check(text: &str) -> std::result::Result<(), Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Without a runtime nothing can be asked; the cluster itself checks what it must.
    runtime.map_or(Ok(()), |runtime| runtime.block_on(syntax_check(text)))
}

fn refuse(findings: &[Finding], advice: &str) -> Failure {
    let lines: Vec<String> = findings.iter().map(|finding| clean(&finding.to_string())).collect();
    Failure::refused(format!("the script has errors:\n    {}", lines.join("\n    ")), advice)
}

fn save(context: &Context, text: String, comment: &str, based_on: u32) -> Result<u8> {
    let command = Command::SaveAlertScript { text, comment: comment.to_owned(), based_on };
    let done = context.order(&command)?;
    context.done(
        "The alert script is saved and in force on every member. Try it: vedette alert test.",
        &done,
    )
}
