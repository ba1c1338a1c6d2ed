//! `vedette config show|check|diff|apply|edit|history|rollback`: the cluster's configuration document
//! (spec H34 to H36), one text for networks, settings and groups.
//!
//! A document is checked here first, then by `apply`, then by every node on its own machine; only
//! then does it take effect, everywhere at once. Each of these steps lists everything it finds.

mod progress;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use vedette_collector::clinfo::finding::{CheckedDoc, FindingDoc};
use vedette_collector::clinfo::told::{InForceDoc, TextDoc};
use vedette_collector::clinfo::versions::{DifferenceDoc, DocumentHistoryDoc, DryRunDoc};
use vedette_core::command::ConfigCommand;
use vedette_core::definition::DocumentStore;
use vedette_core::document::{self, Difference, Document, Finding};
use vedette_core::state::ClusterState;
use vedette_core::trigger::Trigger;

use super::aside;
use super::ask::{self, Confirm};
use super::context::{Context, Done};
use super::edit::{Draft, edits_again, needs_editor, read};
use super::fail::{FAILED, Failure, REFUSED, Result};
use super::text::{Cell, Style, Table, Tone, clean, clock, wrap};

pub(crate) use progress::{Ending, verify};

/// `vedette config apply`
#[derive(Debug, Args)]
#[command(
    after_help = "Every node that is there verifies the document on its own machine; if one has \
    something against it, nothing changes and every finding is shown. Groups that the document does \
    not change are not disturbed.\n\n\
    Examples:\n  \
    vedette config apply cluster.toml\n  \
    vedette config apply cluster.toml --dry-run\n  \
    vedette config apply cluster.toml -m 'db gets its own address' --yes\n  \
    vedette config show --document | sed s/old/new/ | vedette config apply - --yes"
)]
pub(crate) struct ApplyArgs {
    /// The document; - is standard input
    file: PathBuf,
    /// Why, for the history
    #[arg(short = 'm', long, value_name = "WHY", default_value = "")]
    comment: String,
    /// Have every node verify it, show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The version from which it was made; refused if another one is in force now
    #[arg(long, value_name = "VERSION")]
    based_on: Option<u32>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    confirm: Confirm,
}

/// `--timeout`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Patience {
    /// How long to wait for the nodes
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = ask::duration)]
    pub(crate) timeout: Duration,
}

/// `vedette config edit`
#[derive(Debug, Args)]
#[command(
    after_help = "The editor in $VISUAL or $EDITOR is started on what is in force, or vi.\n\n\
    Examples:\n  vedette config edit\n  EDITOR=nano vedette config edit -m 'a third node for web'"
)]
pub(crate) struct EditArgs {
    /// Why, for the history
    #[arg(short = 'm', long, value_name = "WHY", default_value = "")]
    comment: String,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette config diff`
#[derive(Debug, Args)]
#[command(
    after_help = "+ comes, - goes, ~ changes, ! is disturbed. Without a file, versions are compared.\n\n\
    Examples:\n  \
    vedette config diff cluster.toml\n  \
    vedette config diff --from 3\n  \
    vedette config diff --from 3 --to 4 -o json"
)]
#[command(arg_required_else_help = true)]
pub(crate) struct DiffArgs {
    /// A document that might be applied; - is standard input
    file: Option<PathBuf>,
    /// Compare from this version
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    from: Option<u32>,
    /// Compare to this version [default: what is in force]
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    to: Option<u32>,
}

/// `vedette config rollback`
#[derive(Debug, Args)]
#[command(after_help = "The earlier text becomes a new version, verified like any other.\n\n\
    Examples:\n  vedette config rollback 3\n  vedette config rollback 0 --yes   no groups at all")]
pub(crate) struct RollbackArgs {
    /// The version; 0 has no groups
    version: u32,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    confirm: Confirm,
}

/// Whether a text is a cluster's document rather than a node's own file: the two share no section
/// but `[cluster]`.
pub(crate) fn is_document(text: &str) -> bool {
    const OURS: [&str; 8] =
        ["networks", "nodes", "standby", "groups", "events", "fencing", "monitors", "manager"];
    const THEIRS: [&str; 7] = ["node", "network", "timing", "http", "snmp", "alert", "paths"];
    let sections: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('['))
        .map(|line| line.trim_start_matches('['))
        .map(|line| line.split(['.', ']', ' ']).next().unwrap_or_default())
        .collect();
    let has = |names: &[&str]| sections.iter().any(|section| names.contains(section));
    !has(&THEIRS) && (has(&OURS) || text.contains("[cluster.timing]"))
}

/// Findings: where and what, then what to do.
pub(crate) fn findings_text(findings: &[Finding], style: Style) -> String {
    let width = if style.cut { style.width } else { usize::MAX };
    let mut text = String::new();
    for finding in findings {
        let line = finding.line.map_or_else(String::new, |line| format!("line {line}: "));
        let level = if finding.error { "error" } else { "warning" };
        let key = if finding.key.is_empty() { String::new() } else { format!("{}: ", finding.key) };
        let what = format!("{line}{level}: {key}{}.", finding.what);
        let advice = wrap(&finding.advice, width.saturating_sub(4), 4);
        text.push_str(&format!("{}\n    {advice}\n", wrap(&what, width, 4)));
    }
    text
}

/// What a document says, if it has no errors; warnings are told.
pub(crate) fn checked(
    text: &str,
    name: &str,
    state: &ClusterState,
) -> Result<(Document, Vec<Finding>)> {
    let style = Style { colour: false, width: 100, cut: true };
    let (document, findings) = document::read(text, state);
    let errors = findings.iter().filter(|finding| finding.error).count();
    if errors > 0 {
        let noun = if errors == 1 { "error" } else { "errors" };
        return Err(Failure::failed(
            format!(
                "the document {name} has {errors} {noun}:\n{}",
                findings_text(&findings, style).trim_end()
            ),
            "Correct it; nothing was changed.",
        )
        .with(FindingDoc::of_document(&findings)));
    }
    if !findings.is_empty() {
        aside::note(&findings_text(&findings, style));
    }
    Ok((document, findings))
}

/// `vedette config check FILE`, of a document.
pub(crate) fn check(context: &Context, name: &str, text: &str) -> Result<u8> {
    let state = context.state()?;
    let (document, mut findings) = document::read(text, &state);
    let ok = findings.iter().all(|finding| !finding.error);
    if ok {
        findings.extend(document::single_points(&document, &state));
    }
    let exit = if ok { 0 } else { FAILED };
    if context.json() {
        let answer = CheckedDoc { findings: FindingDoc::of_document(&findings), ok };
        context.render(&answer, |_| String::new())?;
    } else {
        context.print_screen(&check_screen(name, &findings, context.style))?;
    }
    Ok(exit)
}

/// The verdict first, then every finding.
pub(crate) fn check_screen(name: &str, findings: &[Finding], style: Style) -> String {
    let errors = findings.iter().filter(|finding| finding.error).count();
    let verdict = match (errors, findings.len()) {
        (0, 0) => format!("{name} is fine.\n"),
        (0, _) => format!("{name} can be applied, but:\n\n"),
        (1, _) => format!("{name} cannot be applied, because of one error:\n\n"),
        (errors, _) => format!("{name} cannot be applied, because of {errors} errors:\n\n"),
    };
    verdict + &findings_text(findings, style)
}

/// `vedette config show --document` or `--version N`: the text alone.
pub(crate) fn show_text(context: &Context, version: Option<u32>) -> Result<u8> {
    let state = context.state()?;
    let text = match version {
        None => document::in_force(&state),
        Some(version) => text_of(&state.documents, version)?,
    };
    if context.json() {
        let version = version.unwrap_or(state.documents.active);
        return context.render(&TextDoc { text, version }, |_| String::new());
    }
    context.print(&text)?;
    Ok(0)
}

/// The text of a version, as it was given.
fn text_of(store: &DocumentStore, version: u32) -> Result<String> {
    if version == 0 {
        return Ok(String::new());
    }
    store.versions.get(&version).map(|known| known.text.clone()).ok_or_else(|| {
        Failure::refused(
            format!("there is no version {version} of the configuration"),
            "List the versions: vedette config history.",
        )
    })
}

/// `vedette config history`
pub(crate) fn history(context: &Context) -> Result<u8> {
    let store = context.state()?.documents;
    context.render(&DocumentHistoryDoc::from(&store), |_| {
        history_screen(&store, &context.now(), context.style)
    })
}

/// Every kept version, the newest last; the one in force is marked.
pub(crate) fn history_screen(store: &DocumentStore, now: &str, style: Style) -> String {
    let mut table = Table::new(&["", "VERSION", "IN FORCE FROM", "BY", "COMMENT"]);
    for (number, version) in &store.versions {
        let active = *number == store.active;
        let tone = if active { Tone::Strong } else { Tone::Plain };
        table.row(vec![
            if active { "*" } else { "" }.into(),
            Cell::toned(number, tone),
            clock(&version.at.to_string(), now).into(),
            (&version.author).into(),
            (&version.comment).into(),
        ]);
    }
    let mut text = if store.versions.is_empty() {
        "No document was applied yet; vedette config show --document prints what holds.\n".into()
    } else {
        table.render(style, 0)
    };
    if let Some(pending) = &store.pending {
        let author = clean(&pending.version.author);
        text.push_str(&format!("\nA document of {author} is being verified at this moment.\n"));
    }
    text
}

/// `vedette config diff`
pub(crate) fn diff(context: &Context, arguments: &DiffArgs) -> Result<u8> {
    let state = context.state()?;
    let (old, new) = match (&arguments.file, arguments.from) {
        (Some(file), _) => {
            (Document::of(&state), checked(&read(file)?, &file.display().to_string(), &state)?.0)
        }
        (None, from) => {
            let side = |version: Option<u32>| -> Result<Document> {
                let Some(version) = version else { return Ok(Document::of(&state)) };
                Ok(document::read(&text_of(&state.documents, version)?, &state).0)
            };
            (side(from)?, side(arguments.to)?)
        }
    };
    let difference = document::diff(&old, &new, &state);
    context.render(&DifferenceDoc::from(&difference), |_| {
        difference_screen(&difference, context.style)
    })
}

/// What changes, a line each.
pub(crate) fn difference_screen(difference: &Difference, style: Style) -> String {
    if difference.is_empty() {
        return "Nothing changes.\n".into();
    }
    let mut text = String::new();
    for line in difference.lines() {
        let tone = match line.chars().next() {
            Some('+') => Tone::Good,
            Some('-' | '!') => Tone::Bad,
            _ => Tone::Warn,
        };
        text.push_str(&style.paint(tone, &clean(&line)));
        text.push('\n');
    }
    if difference.disturbed.is_empty() {
        text.push_str("No group that runs is disturbed.\n");
    }
    text
}

/// `vedette config apply`
pub(crate) fn apply(context: &Context, arguments: &ApplyArgs) -> Result<u8> {
    let text = read(&arguments.file)?;
    let name = arguments.file.display().to_string();
    let state = context.state()?;
    let based_on = arguments.based_on.unwrap_or(state.documents.active);
    state.check_base(based_on)?;
    if arguments.dry_run {
        let (new, found) = checked(&text, &name, &state)?;
        let difference = document::diff(&Document::of(&state), &new, &state);
        let ending = verify(context, ConfigCommand::Examine { text }, arguments.patience.timeout)?;
        ending.accepted()?;
        let document = DryRunDoc {
            changes: DifferenceDoc::from(&difference),
            dry_run: true,
            findings: FindingDoc::of_document(&found),
            nodes: ending.nodes,
            warnings: ending.warnings,
        };
        return context.render(&document, |_| {
            let changes = difference_screen(&difference, context.style);
            format!("{changes}Every node has verified it; nothing was changed.\n")
        });
    }
    let how = (arguments.patience, arguments.confirm);
    put_in_force(context, &name, (text, based_on), &arguments.comment, how)
}

/// Shows what a text changes that was made from a version, asks, and has it verified and put in force.
pub(crate) fn put_in_force(
    context: &Context,
    name: &str,
    (text, based_on): (String, u32),
    comment: &str,
    (patience, confirm): (Patience, Confirm),
) -> Result<u8> {
    let state = context.state()?;
    let (new, found) = checked(&text, name, &state)?;
    if is_in_force(&state, &text, &new) {
        let active = state.documents.active;
        return context
            .unchanged(format!("version {active} says the same and is in force already"));
    }
    let difference = document::diff(&Document::of(&state), &new, &state);
    let plan = difference_screen(&difference, context.style);
    confirm.ask(&plan, "Verify it on every node and put it in force?")?;
    let command = ConfigCommand::Propose { text, comment: comment.to_owned(), based_on };
    let ending = verify(context, command, patience.timeout)?;
    finished(context, &ending, &found)
}

/// Whether a text is in force, word by word: its author may want another one that says the same.
fn is_in_force(state: &ClusterState, text: &str, read: &Document) -> bool {
    let present = state.documents.versions.get(&state.documents.active);
    present.is_none_or(|present| present.text == text) && *read == Document::of(state)
}

/// The event that brings groups into line with what is in force, if it is not over.
fn changes(state: &ClusterState, version: u32) -> Option<String> {
    let waiting = state.manager.queue.iter();
    let mut events = state.manager.begun().map(|running| &running.event).chain(waiting);
    let event = events.find(|it| it.trigger == Trigger::ReconfigResource { version })?;
    Some(state.event_label(event))
}

fn finished(context: &Context, ending: &Ending, found: &[Finding]) -> Result<u8> {
    ending.accepted()?;
    let version = ending.version.unwrap_or_default();
    let sentence = format!(
        "Version {version} is in force: {} verified it.",
        ending.nodes.keys().cloned().collect::<Vec<_>>().join(", ")
    );
    let follows = changes(&context.state()?, version);
    let sentence = follows.map_or(sentence.clone(), |event| {
        format!("{sentence} What runs is changed by {event}: vedette event show.")
    });
    let more = InForceDoc { version: Some(version), ..ending.more(found) };
    context.done_with(&sentence, &Done::Changed(ending.id), Some(more))
}

/// `vedette config edit`: as with the alert script, nothing that was written is lost.
pub(crate) fn edit(context: &Context, arguments: &EditArgs) -> Result<u8> {
    const AGAIN: &str = "vedette config apply";
    needs_editor("Give the document as a file: vedette config apply FILE.")?;
    let state = context.state()?;
    let (before, based_on) = (document::in_force(&state), state.documents.active);
    let draft = Draft::new(&before, "vedette-cluster-", ".toml")?;
    loop {
        draft.edit()?;
        let text = draft.text()?;
        if text == before {
            return context.unchanged("the document was not changed");
        }
        // Whoever was faster is not undone by a text that knows nothing of it.
        if let Err(refusal) = context.state()?.check_base(based_on) {
            return Err(draft.keep(refusal.into(), AGAIN));
        }
        let how = (arguments.patience, arguments.confirm);
        let text = (text, based_on);
        let failure = match put_in_force(context, "as edited", text, &arguments.comment, how) {
            Ok(exit) => return Ok(exit),
            Err(failure) if failure.exit != REFUSED && failure.exit != FAILED => {
                return Err(draft.keep(failure, AGAIN));
            }
            Err(failure) => failure,
        };
        aside::failure(&failure);
        if !edits_again() {
            return Err(draft.keep(Failure::refused("the document was not applied", ""), AGAIN));
        }
    }
}

/// `vedette config rollback`
pub(crate) fn roll_back(context: &Context, arguments: &RollbackArgs) -> Result<u8> {
    let state = context.state()?;
    let text = text_of(&state.documents, arguments.version)?;
    let (new, found) = checked(&text, &format!("version {}", arguments.version), &state)?;
    if is_in_force(&state, &text, &new) {
        let version = arguments.version;
        return context.unchanged(format!("what version {version} says is in force already"));
    }
    let difference = document::diff(&Document::of(&state), &new, &state);
    let plan = difference_screen(&difference, context.style);
    arguments.confirm.ask(&plan, "Verify it on every node and put it in force?")?;
    let command = ConfigCommand::RollBack { to: arguments.version };
    finished(context, &verify(context, command, arguments.patience.timeout)?, &found)
}

/// The file of `config check`, if it is a cluster's document.
pub(crate) fn document_in(file: &Path) -> Option<String> {
    if file == Path::new("-") {
        return None;
    }
    std::fs::read_to_string(file).ok().filter(|text| is_document(text))
}
