//! `vedette snapshot`: the whole configuration as one readable text, and back (spec H36).
//!
//! What is in it is told in [`text`]. Applying is one command: all of it is verified, the document by
//! every node, and if nothing speaks against any part, document, rules and alert script take effect at
//! once. What is in force already is left alone.

mod text;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use vedette_collector::alerts::DEFAULT_SCRIPT;
use vedette_collector::clinfo::told::{SavedDoc, SnapshotChangesDoc, SnapshotDoc};
use vedette_collector::clinfo::versions::DifferenceDoc;
use vedette_core::command::{Command, ConfigCommand};
use vedette_core::document::{self, Difference, Document};
use vedette_core::rules::RuleSet;
use vedette_core::state::ClusterState;

use super::ask::Confirm;
use super::context::{Context, Done, actor};
use super::document::{Patience, checked, difference_screen, verify};
use super::edit::{read, script_errors};
use super::fail::{Failure, Result};
use super::text::Style;

pub(crate) use text::Snapshot;

/// `vedette snapshot`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    vedette snapshot save prod.snapshot\n  \
    vedette snapshot diff prod.snapshot\n  \
    vedette snapshot apply prod.snapshot")]
pub(crate) enum SnapshotCommand {
    /// Save document, settings, rules, recovery programs and alert script as one readable text
    Save(SaveArgs),
    /// Show what is in a snapshot
    #[command(after_help = "A configuration document alone is taken as well.\n\nExamples:\n  \
        vedette snapshot show prod.snapshot\n  vedette snapshot show prod.snapshot -o json")]
    Show(FileArgs),
    /// Show what applying a snapshot would change
    #[command(after_help = "A configuration document alone is taken as well.\n\nExamples:\n  \
        vedette snapshot diff prod.snapshot\n  vedette snapshot diff prod.snapshot -o json")]
    Diff(FileArgs),
    /// Put a snapshot in force; refused if any part of it does not verify
    Apply(ApplyArgs),
}

/// `vedette snapshot save`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vedette snapshot save prod.snapshot\n  \
    vedette snapshot save - | ssh backup 'cat > prod.snapshot'")]
pub(crate) struct SaveArgs {
    /// Where to; - is standard output
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// A snapshot that is read.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file; - is standard input
    file: PathBuf,
}

/// `vedette snapshot apply`
#[derive(Debug, Args)]
#[command(
    after_help = "Members are not part of it: they come and go by vedette node add and delete.\n\n\
    Examples:\n  \
    vedette snapshot apply prod.snapshot\n  \
    vedette snapshot apply prod.snapshot --yes -m 'as of last month'"
)]
pub(crate) struct ApplyArgs {
    /// The file; - is standard input
    file: PathBuf,
    /// Why, for the history
    #[arg(short = 'm', long, value_name = "WHY", default_value = "from a snapshot")]
    comment: String,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    confirm: Confirm,
}

/// Carries out a command on snapshots.
pub(crate) fn run(context: &Context, command: SnapshotCommand) -> Result<u8> {
    match command {
        SnapshotCommand::Save(arguments) => save(context, &arguments),
        SnapshotCommand::Show(arguments) => show(context, &arguments.file),
        SnapshotCommand::Diff(arguments) => diff(context, &arguments.file),
        SnapshotCommand::Apply(arguments) => apply(context, &arguments),
    }
}

/// What is in force, as a snapshot.
pub(crate) fn of(state: &ClusterState, taken: &str, by: &str) -> Snapshot {
    let rules = state.rules.in_force();
    let script = state.script.versions.get(&state.script.active);
    Snapshot {
        about: format!("cluster {}, taken {taken} by {by}", state.name),
        // Printed, not as it was given: what its author left out has to be in here, too.
        document: document::print(state),
        rules: (state.rules.active != 0).then_some((rules.text, rules.programs)),
        script: script.map(|script| script.text.clone()),
        whole: true,
    }
}

fn save(context: &Context, arguments: &SaveArgs) -> Result<u8> {
    let snapshot = of(&context.state()?, &context.now(), &actor());
    let text = snapshot.print();
    if arguments.file == Path::new("-") {
        context.print(&text)?;
        return Ok(0);
    }
    let name = arguments.file.display();
    if arguments.file.exists() && !arguments.force {
        return Err(Failure::refused(
            format!("{name} is there already"),
            "Choose another name, or add --force to replace it.",
        ));
    }
    std::fs::write(&arguments.file, &text).map_err(|error| {
        Failure::failed(format!("{name} cannot be written: {error}"), "Choose another place.")
    })?;
    let document = SavedDoc { bytes: text.len(), file: name.to_string() };
    context.render(&document, |_| format!("Saved as {name}; it is plain text and may be edited.\n"))
}

/// Reads a snapshot, and tells what is wrong with it.
fn snapshot(file: &Path) -> Result<Snapshot> {
    let name = file.display().to_string();
    Snapshot::read(&read(file)?).map_err(|(line, what)| {
        Failure::failed(
            format!("{name} is no snapshot: line {line}: {what}"),
            "Use what vedette snapshot save wrote, or a configuration document.",
        )
    })
}

fn show(context: &Context, file: &Path) -> Result<u8> {
    let snapshot = snapshot(file)?;
    let rules = snapshot.rules.as_ref();
    let document = SnapshotDoc {
        about: snapshot.about.clone(),
        alert_script: snapshot.script.clone(),
        document: snapshot.document.clone(),
        programs: rules.map(|(_, programs)| programs.keys().cloned().collect()),
        rules: rules.map(|(text, _)| text.clone()),
    };
    context.render(&document, |_| snapshot.print())
}

/// What a snapshot would change.
pub(crate) struct Changes {
    pub(crate) document: Difference,
    /// New rules, if they differ: none for the built-in ones.
    pub(crate) rules: Option<Option<RuleSet>>,
    /// A new script, if it differs: none for the built-in one.
    pub(crate) script: Option<Option<String>>,
}

impl Changes {
    /// What differs; a document alone says nothing of rules and script.
    pub(crate) fn of(snapshot: &Snapshot, new: &Document, state: &ClusterState) -> Self {
        let document = document::diff(&Document::of(state), new, state);
        let force = state.rules.in_force();
        let set = snapshot.rules.clone().map(|(text, programs)| RuleSet {
            text,
            programs,
            ..RuleSet::default()
        });
        let same_rules = match &set {
            None => state.rules.active == 0,
            Some(set) => {
                lines(&set.text) == lines(&force.text)
                    && set.programs.keys().eq(force.programs.keys())
                    && set.programs.iter().all(|(path, text)| {
                        force.programs.get(path).is_some_and(|other| lines(other) == lines(text))
                    })
            }
        };
        let present = state.script.versions.get(&state.script.active);
        let present = present.map_or(DEFAULT_SCRIPT, |version| version.text.as_str());
        let wanted = snapshot.script.as_deref().unwrap_or(DEFAULT_SCRIPT);
        let same_script = lines(present) == lines(wanted);
        Self {
            document,
            rules: (snapshot.whole && !same_rules).then_some(set),
            script: (snapshot.whole && !same_script).then(|| snapshot.script.clone()),
        }
    }

    fn is_empty(&self) -> bool {
        self.document.is_empty() && self.rules.is_none() && self.script.is_none()
    }

    pub(crate) fn screen(&self, style: Style) -> String {
        let mut text = difference_screen(&self.document, style);
        match &self.rules {
            None => {}
            Some(None) => text.push_str("~ rules: the built-in ones again\n"),
            Some(Some(set)) => {
                let (rules, programs) = (set.rules().len(), set.programs.len());
                text.push_str(&format!("~ rules: {rules} rules, {programs} recovery programs\n"));
            }
        }
        match &self.script {
            None => {}
            Some(None) => text.push_str("~ alert script: the built-in one again\n"),
            Some(Some(script)) => {
                let count = script.lines().count();
                text.push_str(&format!("~ alert script: {count} lines\n"));
            }
        }
        text
    }
}

/// A text without what an editor adds at its end.
fn lines(text: &str) -> &str {
    text.trim_end_matches('\n')
}

fn diff(context: &Context, file: &Path) -> Result<u8> {
    let (snapshot, state) = (snapshot(file)?, context.state()?);
    let (new, _) = checked(&snapshot.document, &file.display().to_string(), &state)?;
    let changes = Changes::of(&snapshot, &new, &state);
    let document = SnapshotChangesDoc {
        alert_script: changes.script.is_some(),
        document: DifferenceDoc::from(&changes.document),
        rules: changes.rules.is_some(),
        same: changes.is_empty(),
    };
    context.render(&document, |_| changes.screen(context.style))
}

fn apply(context: &Context, arguments: &ApplyArgs) -> Result<u8> {
    let (snapshot, state) = (snapshot(&arguments.file)?, context.state()?);
    let name = arguments.file.display().to_string();
    let (new, warnings) = checked(&snapshot.document, &name, &state)?;
    let changes = Changes::of(&snapshot, &new, &state);
    if changes.is_empty() {
        return context.unchanged("everything in the snapshot is in force already");
    }
    check_parts(&name, &changes)?;
    arguments.confirm.ask(&changes.screen(context.style), "Put the snapshot in force?")?;
    let command = restore(snapshot, changes, arguments, &state);
    let ending = verify(context, command, arguments.patience.timeout)?;
    ending.accepted()?;
    let sentence = "The snapshot is in force on every node.";
    context.done_with(sentence, &Done::Changed(ending.id), Some(ending.more(&warnings)))
}

/// What puts it in force, all of it or nothing.
fn restore(
    snapshot: Snapshot,
    changes: Changes,
    arguments: &ApplyArgs,
    state: &ClusterState,
) -> ConfigCommand {
    let comment = arguments.comment.clone();
    let rules = changes.rules.map(|rules| rules_command(rules, &comment, state.rules.active));
    let script =
        changes.script.map(|script| script_command(script, comment.clone(), state.script.active));
    ConfigCommand::Restore {
        text: snapshot.document,
        comment,
        based_on: state.documents.active,
        parts: rules.into_iter().chain(script).collect(),
    }
}

/// Rules and script are checked before the first part takes effect.
fn check_parts(name: &str, changes: &Changes) -> Result<()> {
    if let Some(Some(set)) = &changes.rules {
        let findings = set.check("rules");
        if vedette_core::rules::has_errors(&findings) {
            return Err(Failure::failed(
                format!("the rules in {name} have errors:\n{findings}"),
                "Correct them; nothing was changed.",
            ));
        }
    }
    match &changes.script {
        Some(Some(script)) => {
            script_errors(script, "Correct it in the snapshot; nothing was changed.")
        }
        _ => Ok(()),
    }
}

fn rules_command(set: Option<RuleSet>, comment: &str, based_on: u32) -> Command {
    match set {
        None => Command::RollBackRules { to: 0 },
        Some(RuleSet { text, programs, .. }) => {
            Command::SaveRules { text, programs, comment: comment.to_owned(), based_on }
        }
    }
}

fn script_command(script: Option<String>, comment: String, based_on: u32) -> Command {
    match script {
        None => Command::RollBackAlertScript { to: 0 },
        Some(text) => Command::SaveAlertScript { text, comment, based_on },
    }
}
