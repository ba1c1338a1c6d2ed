//! Runs the error alert script (spec A14, A15).
//!
//! Intuition: the script is an operator's own program, run by the agent, often as root's child,
//! at the worst moment of the year. It may hang, fork, print without end or not be there at all,
//! and none of that may hold up or harm the one who runs it. So each run gets: its own session
//! and process group, an unprivileged user, an empty environment with the contract's variables
//! ([`AlertInput`]), the record as JSON on standard input, a time limit on everything it forked,
//! and a bound on what is kept of its output.
//!
//! Invariants:
//!
//! - What runs is exactly the text that was given: it lies in sealed memory, is not written to any
//!   disk, and is executed by the interpreter of its first line. No shell of ours ever sees a
//!   message, so nothing in a message can be executed.
//! - [`run`] ends at most four seconds after the time limit, whatever the script does, and soon
//!   after the script itself exits, even if a child of it keeps the output open.
//! - What the script left behind is ended when the time limit is over: everything in its process
//!   group, and every process that carries the mark of the run in its environment, which also
//!   finds a daemon that made a session of its own. A process that clears its environment *and*
//!   leaves the group escapes; to end that too would need a cgroup of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::{AlertTest, RunOutcome};
use vedette_core::record::{Code, Record, Subject};
use vedette_node::process::{self, Program, Shebang, User, sealed};
use vedette_node::transcript::Tape;

mod environment;
mod syntax;

pub use syntax::{Finding, syntax_check};

/// The built-in script, version 0.
pub const DEFAULT_SCRIPT: &str = include_str!("alerts/default.sh");

/// What a run of the script is told.
///
/// | variable | value |
/// |---|---|
/// | `VEDETTE_ALERT_ID`, `_SEQ` | number of the record, or of the test |
/// | `VEDETTE_ALERT_CODE`, `_SEVERITY`, `_MESSAGE`, `_CAUSE` | as in the record |
/// | `VEDETTE_ALERT_SUBJECT`, `_SUBJECT_KIND` | what it is about |
/// | `VEDETTE_ALERT_PREVIOUS`, `_CURRENT` | the statuses before and after |
/// | `VEDETTE_ALERT_NODE` | name of the node it is about, or empty |
/// | `VEDETTE_ALERT_MEMBER` | name of the node where the script runs |
/// | `VEDETTE_ALERT_CLUSTER` | name of the cluster |
/// | `VEDETTE_ALERT_TIMESTAMP` | when it happened, RFC 3339 |
/// | `VEDETTE_ALERT_INCIDENT`, `_REVISION` | log indexes; the first may be empty |
/// | `VEDETTE_ALERT_SCOPE` | `cluster`; `node` where the node tells of itself, without the others |
/// | `VEDETTE_ALERT_TEST` | `1` for a test, else `0` |
/// | `VEDETTE_ALERT_ATTEMPT` | 1 for the first attempt |
/// | `VEDETTE_ALERT_MAILTO`, `_LOG` | for the built-in script; may be empty |
///
/// Beside them stand `CRM_alert_kind`, `_node`, `_nodeid`, `_desc`, `_timestamp`,
/// `_timestamp_epoch`, `_timestamp_usec`, `_version`, `_node_sequence`, `_recipient` and, unless
/// the kind is `node`, `_rsc`, `_task`, `_rc`, `_target_rc`, `_status`, so that an alert agent
/// written for Pacemaker runs unchanged. Arguments are: id, class (the subject's kind), name (the
/// subject's), type (the code), description (the message).
#[derive(Clone, Debug)]
pub struct AlertInput {
    /// Whose matter it is.
    pub scope: Scope,
    /// The record.
    pub record: Record,
    /// Name of the node that it is about; empty if it is about no single node.
    pub node: String,
    /// Name of the node where the script runs.
    pub member: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Counts from 1.
    pub attempt: u32,
    /// Version of the script, for the outcome.
    pub version: u32,
    /// To whom the built-in script sends mail.
    pub mail_to: Option<String>,
    /// The file to which the built-in script appends. See [`prepare_log`].
    pub log: Option<PathBuf>,
    /// Where all of its output goes, beside what is kept with the outcome.
    pub tape: Option<Tape>,
}

/// Whose matter an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A record of the cluster: the script runs on one node.
    Cluster,
    /// A local record: the script runs on the node that lived through it, which may have no quorum.
    Node,
}

impl Scope {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
        }
    }
}

/// Within which limits the script runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it and all it started may run.
    pub timeout: Duration,
    /// How much of its output is kept.
    pub output_bytes: usize,
    /// As whom it runs when the agent is root; `None` for root itself. Ignored unless root.
    pub user: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), output_bytes: 8_192, user: Some("nobody".into()) }
    }
}

/// Runs `script`, or the built-in one, and says how it ended. Dropping the future ends the run.
pub async fn run(script: Option<&str>, input: &AlertInput, limits: &Limits) -> RunOutcome {
    let text = script.unwrap_or(DEFAULT_SCRIPT);
    let outcome = match prepare(text, input, limits) {
        Ok(program) => process::run(program).await,
        Err(why) => process::not_started(why),
    };
    let transcript = match &input.tape {
        Some(tape) => tape.end(&outcome.summary()).await,
        None => None,
    };
    RunOutcome { version: input.version, transcript, ..outcome }
}

/// The record that a test of the script on `member` is given.
pub fn test_record(test: &AlertTest, member: NodeNumber) -> Record {
    Record {
        seq: test.id,
        index: test.id,
        at: test.at,
        code: Code::AlertTestRequested,
        severity: test.severity,
        subject: Subject::AlertScript,
        subject_name: "alert script".into(),
        previous: String::new(),
        current: String::new(),
        cause: format!("a test that {} asked for", test.actor),
        message: test.message.clone(),
        incident: None,
        origin: member,
        actor: test.actor.clone(),
        alert: true,
        test: true,
        event: None,
        node: None,
        duration_ms: None,
        elapsed_ms: 0,
        told: None,
        hash: Hash::default(),
    }
}

/// Makes the file for [`AlertInput::log`] so that the user of the script may append to it. The
/// user must also be able to reach it: a directory on the way with mode 0700 keeps it out.
pub fn prepare_log(path: &Path, user: Option<&str>) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if let Some(user) = identity(user).map_err(std::io::Error::other)? {
        let (uid, gid) = user.numbers();
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn prepare(text: &str, input: &AlertInput, limits: &Limits) -> Result<Program, String> {
    let first_line = Shebang::of(text)?;
    let user = identity(limits.user.as_deref())?;
    let script = sealed::memory("alert-script", text.as_bytes()).map_err(|e| e.to_string())?;
    let arguments = environment::arguments(input);
    Program::script(script, first_line, arguments, limits.timeout)
        .environment(environment::of(input))
        .user(user)
        .keep(limits.output_bytes)
        .tape(input.tape.clone())
        .bounded()
        .ends_all()
        .stdin(&environment::json(input))
        .map_err(|error| error.to_string())
}

/// As whom to run: nobody else than now, unless this is root and a user is named.
fn identity(user: Option<&str>) -> Result<Option<User>, String> {
    user.filter(|_| Uid::effective().is_root()).map(User::named).transpose()
}
