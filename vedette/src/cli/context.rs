//! What every command is given: the global options, the daemon to talk to, and where to print.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use vedette_collector::clinfo::LocalDoc;
use vedette_collector::clinfo::told::DoneDoc;
use vedette_core::command::Command;
use vedette_core::config::{self, Checked, Config};
use vedette_core::state::ClusterState;

use super::aside;
use super::client::{BEGINS_ANEW, Client, Noted, parse};
use super::fail::{Failure, Result};
use super::text::{Style, clean, fit, now};
use super::{Global, Output};
use crate::daemon::control::{Carried, Proposed};

/// Time between two looks at a state that is followed.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    global: Global,
    /// What standard output can show.
    pub(crate) style: Style,
    /// Whether something was shown of which the present state is not known, and by which clock it is dated.
    noted: Arc<Noted>,
}

/// A proposal on its way to the daemon.
#[derive(Debug, Serialize)]
struct Propose<'a> {
    id: String,
    command: &'a Command,
    actor: String,
}

/// What became of an order that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was carried out at this index.
    Changed(u64),
    /// What was wanted is so already, as the sentence says; it has no full stop.
    Unchanged(String),
}

impl Done {
    /// The index from which on the state has what was ordered.
    pub(crate) const fn index(&self) -> u64 {
        match self {
            Self::Changed(index) => *index,
            Self::Unchanged(_) => 0,
        }
    }
}

impl Context {
    /// The time of what was shown: by the clock that dates it, which the own one may be far from; by the own one
    /// where no daemon has answered.
    pub(crate) fn now(&self) -> String {
        self.noted.time().unwrap_or_else(now)
    }

    /// The context of a command with these options.
    pub(crate) fn new(global: Global) -> Self {
        if global.output == Output::Json {
            aside::speak_json();
        }
        Self { global, style: Style::of_stdout(), noted: Arc::default() }
    }

    /// Whether the answer shall be JSON.
    pub(crate) fn json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// The configuration file.
    pub(crate) fn config_file(&self) -> &Path {
        self.global.config.as_deref().unwrap_or(Path::new(config::FILE))
    }

    /// The configuration of this node, with what the command line overrides. Warnings are printed.
    pub(crate) fn config(&self) -> Result<Config> {
        let Checked { config, warnings } = self.checked(self.config_file())?;
        if !warnings.0.is_empty() {
            aside::note(&warnings.to_string());
        }
        Ok(self.overridden(config))
    }

    /// The configuration in `file`, as it is written there.
    pub(crate) fn checked(&self, file: &Path) -> Result<Checked> {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).map_err(|error| {
            Failure::failed(
                format!("the configuration {name} cannot be read: {error}"),
                "Write it, or name another one with --config; vedette init --help shows one.",
            )
        })?;
        let text = super::edit::in_utf8(bytes, file)?;
        config::parse(&name, &text, &host_name())
            .map_err(|findings| Failure::findings(&name, &findings))
    }

    fn overridden(&self, mut config: Config) -> Config {
        if let Some(control) = &self.global.control {
            config.control.clone_from(control);
        }
        if let Some(state_dir) = &self.global.state_dir {
            config.state_dir.clone_from(state_dir);
        }
        config
    }

    /// The daemon of this node. Only its socket is needed, so a host without a configuration can
    /// still name one.
    pub(crate) fn client(&self) -> Result<Client> {
        let (socket, state_dir) = self.socket()?;
        Ok(Client::new(socket).noting(self.noted.clone()).guarded_in(state_dir))
    }

    /// Whether no daemon runs here, nor a guard that would start one.
    pub(crate) fn is_without_daemon(&self) -> Result<bool> {
        let (socket, state_dir) = self.socket()?;
        let guarded = state_dir.is_some_and(|dir| crate::daemon::guard_runs(&dir));
        Ok(!guarded && !Client::new(socket).is_listened_to())
    }

    /// Whether something was shown of which the daemon does not know the present state.
    pub(crate) fn showed_unknown(&self) -> bool {
        self.noted.unknown.load(Ordering::Relaxed)
    }

    /// The control socket, and the state directory if it is known whose.
    fn socket(&self) -> Result<(PathBuf, Option<PathBuf>)> {
        if let Some(control) = &self.global.control {
            return Ok((control.clone(), self.global.state_dir.clone()));
        }
        if self.global.config.is_none() && !self.config_file().exists() {
            let usual = PathBuf::from("/run/vedette/control.sock");
            return Ok((usual, self.global.state_dir.clone()));
        }
        let checked = self.checked(self.config_file()).map_err(|failure| Failure {
            advice: "Correct it, or name the control socket of a running daemon: --control.".into(),
            ..failure
        })?;
        let config = self.overridden(checked.config);
        Ok((config.control, Some(config.state_dir)))
    }

    /// The replicated state, as the daemon of this node has it.
    pub(crate) fn state(&self) -> Result<ClusterState> {
        self.client()?.read("/control/v1/state")
    }

    /// The replicated state, for whoever follows it: an agent that begins anew meanwhile is asked again, for as
    /// long as that may take since it answered last, which was at `seen`.
    pub(crate) fn state_again(&self, seen: &mut Instant) -> Result<ClusterState> {
        loop {
            match self.state() {
                Ok(state) => {
                    *seen = Instant::now();
                    return Ok(state);
                }
                Err(_) if seen.elapsed() < BEGINS_ANEW => std::thread::sleep(LOOK),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// What the daemon of this node says of itself.
    pub(crate) fn local(&self) -> Result<LocalDoc> {
        self.client()?.read("/control/v1/local")
    }

    /// The replicated state, if it is the present one.
    pub(crate) fn present_state(&self) -> Result<ClusterState> {
        let local = self.local()?;
        if local.knows {
            return self.state();
        }
        Err(Failure::unknown(
            format!("{} does not know the present state of the cluster", clean(&local.node)),
            "Ask another node, or wait; vedette status says what is missing.",
        ))
    }

    /// Shows the document at `path`: as it came, or what `render` makes of it. Answers the
    /// document.
    pub(crate) fn show<T: DeserializeOwned>(
        &self,
        path: &str,
        render: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let body = self.client()?.get(path)?;
        let document = parse(path, &body)?;
        if self.json() {
            self.print_document(&body)?;
        } else {
            self.print_screen(&render(&document))?;
        }
        Ok(document)
    }

    /// Shows a document that was put together here.
    pub(crate) fn render<T: Serialize + ?Sized>(
        &self,
        document: &T,
        render: impl FnOnce(&T) -> String,
    ) -> Result<u8> {
        if self.json() {
            let text = serde_json::to_vec(document).map_err(|error| {
                Failure::failed(format!("the answer cannot be written: {error}"), "Report this.")
            })?;
            self.print_document(&text)?;
        } else {
            self.print_screen(&render(document))?;
        }
        Ok(0)
    }

    /// Has a command carried out by the cluster. That it has been so already is an answer; any other
    /// refusal is a failure with the exit status 1.
    pub(crate) fn order(&self, command: &Command) -> Result<Done> {
        Ok(match self.proposed(command)? {
            Carried::Applied { index } | Carried::Repeated { index } => Done::Changed(index),
            Carried::Met { what, .. } => Done::Unchanged(what),
        })
    }

    /// Has a command carried out by the cluster, where anything but that is a failure. Answers the index at
    /// which it was applied.
    pub(crate) fn propose(&self, command: &Command) -> Result<u64> {
        match self.proposed(command)? {
            Carried::Applied { index } | Carried::Repeated { index } => Ok(index),
            Carried::Met { what, advice, .. } => Err(Failure::refused(what, advice)),
        }
    }

    fn proposed(&self, command: &Command) -> Result<Carried> {
        let request = Propose { id: random_id()?, command, actor: actor() };
        let path = "/control/v1/propose";
        let answer: Proposed = parse(path, &self.client()?.post(path, &request)?)?;
        Ok(answer.outcome)
    }

    /// Tells that something was done: a sentence, or with `-o json` a small document, which also says
    /// whether it changed anything: whoever repeats an order is told that it is carried out.
    pub(crate) fn done(&self, sentence: &str, done: &Done) -> Result<u8> {
        self.done_with::<()>(sentence, done, None)
    }

    /// The same, with what else a program may want to know.
    pub(crate) fn done_with<T: Serialize>(
        &self,
        sentence: &str,
        done: &Done,
        more: Option<T>,
    ) -> Result<u8> {
        // What was done is certain, whatever was read beside it.
        self.noted.unknown.store(false, Ordering::Relaxed);
        let (sentence, index) = match done {
            Done::Changed(index) => (sentence.to_owned(), Some(*index)),
            Done::Unchanged(what) => (format!("{NOTHING}: {}.", clean(what)), None),
        };
        if !self.json() {
            self.print(&format!("{sentence}\n"))?;
            return Ok(0);
        }
        let document = DoneDoc { changed: index.is_some(), index, message: sentence, more };
        // As a map: its keys are in order, wherever they come from.
        let document = serde_json::to_value(document).map_err(|error| {
            Failure::failed(format!("the answer cannot be written: {error}"), "Report this.")
        })?;
        self.print(&format!("{document}\n"))?;
        Ok(0)
    }

    /// Tells that what was wanted is so already.
    pub(crate) fn unchanged(&self, what: impl Into<String>) -> Result<u8> {
        self.done("", &Done::Unchanged(what.into()))
    }

    /// Prints a screen, in lines that fit.
    pub(crate) fn print_screen(&self, screen: &str) -> Result<()> {
        self.print(&fit(screen, self.style))
    }

    /// Prints `text` as it is.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Prints a document and ends its line.
    pub(crate) fn print_document(&self, document: &[u8]) -> Result<()> {
        self.print_bytes(document)?;
        if document.ends_with(b"\n") { Ok(()) } else { self.print("\n") }
    }

    /// Prints `bytes` as they are.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
            Failure::failed(
                format!("the answer cannot be written to standard output: {error}"),
                "Free some room where it is written to.",
            )
        })
    }
}

/// What is said to whoever orders what is so already.
const NOTHING: &str = "Nothing had to be done";

/// What `uname -n` says.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Who asks, as the history will have it: `root@n1`.
pub(crate) fn actor() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    format!("{name}@{}", host_name())
}

/// Sixteen random bytes in hexadecimal: the id of a command.
fn random_id() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).map_err(
        |error| {
            Failure::failed(
                format!("no random number can be drawn: {error}"),
                "Make /dev/urandom readable.",
            )
        },
    )?;
    Ok(vedette_core::id::CommandId(bytes).to_string())
}
