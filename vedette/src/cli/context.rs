//! What every command is given: the global options, the daemon to talk to, and where to print.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vedette_collector::clinfo::LocalDoc;
use vedette_core::command::Command;
use vedette_core::config::{self, Checked, Config};
use vedette_core::state::{ClusterState, Outcome};

use super::client::{Client, Noted, parse};
use super::fail::{Failure, Result};
use super::text::{Style, clean, now};
use super::{Global, Output};

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

/// What the daemon answers to a proposal.
#[derive(Debug, serde::Deserialize)]
struct Proposed {
    outcome: Outcome,
}

impl Context {
    /// The time of what was shown: by the clock that dates it, which the own one may be far from; by the own one
    /// where no daemon has answered.
    pub(crate) fn now(&self) -> String {
        self.noted.time().unwrap_or_else(now)
    }

    /// The context of a command with these options.
    pub(crate) fn new(global: Global) -> Self {
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
            eprintln!("{warnings}");
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
        Ok(Client::new(self.socket()?).noting(self.noted.clone()))
    }

    /// Whether something was shown of which the daemon does not know the present state.
    pub(crate) fn showed_unknown(&self) -> bool {
        self.noted.unknown.load(Ordering::Relaxed)
    }

    fn socket(&self) -> Result<PathBuf> {
        if let Some(control) = &self.global.control {
            return Ok(control.clone());
        }
        if self.global.config.is_none() && !self.config_file().exists() {
            return Ok(PathBuf::from("/run/vedette/control.sock"));
        }
        let checked = self.checked(self.config_file()).map_err(|failure| Failure {
            advice: "Correct it, or name the control socket of a running daemon: --control.".into(),
            ..failure
        })?;
        Ok(checked.config.control)
    }

    /// The replicated state, as the daemon of this node has it.
    pub(crate) fn state(&self) -> Result<ClusterState> {
        self.client()?.read("/control/v1/state")
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
            self.print(&render(&document))?;
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
            self.print(&render(document))?;
        }
        Ok(0)
    }

    /// Has a command carried out by the cluster; a refusal is a failure with the exit status 1.
    /// Answers the index at which it was applied.
    pub(crate) fn propose(&self, command: &Command) -> Result<u64> {
        let request = Propose { id: random_id()?, command, actor: actor() };
        let path = "/control/v1/propose";
        let answer: Proposed = parse(path, &self.client()?.post(path, &request)?)?;
        match answer.outcome {
            Outcome::Applied { index } | Outcome::Repeated { index } => Ok(index),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Tells that something was done: a sentence, or with `-o json` a small document.
    pub(crate) fn done(&self, sentence: &str, index: u64) -> Result<u8> {
        // What was done is certain, whatever was read beside it.
        self.noted.unknown.store(false, Ordering::Relaxed);
        if self.json() {
            self.print(&format!(
                "{}\n",
                serde_json::json!({ "message": sentence, "index": index })
            ))?;
        } else {
            self.print(&format!("{sentence}\n"))?;
        }
        Ok(0)
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
