//! The state directory: who this node is, with the keys that prove it.
//!
//! A node is a member of a cluster because of what lies in one directory, and of nothing else:
//! copy it to another machine and that machine is the node. Hence two rules. Nobody but the owner
//! may read the keys; a directory that others can enter is refused, not repaired. And
//! `identity.json` is written last: until it is there the node is no member, whatever else an
//! interrupted `init` or `join` has left, and once it is there everything is.
//!
//! ```text
//! identity.json   cluster, node number and name, Raft id, storage id, version
//! cluster.key     32 bytes as hexadecimal digits: heartbeats are authenticated with it
//! tls/            ca.pem, ca.key, node.pem, node.key
//! form.json       first member, until its log holds the first command
//! welcome.json    joined member: whom to talk to until its log knows
//! joining.json    while it is not known whether the cluster took this node in
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vedette_core::id::{ClusterId, NodeNumber, RaftId, StorageId};

/// Version of the product, as nodes tell each other.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where a node keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/vedette";

const IDENTITY: &str = "identity.json";
const CLUSTER_KEY: &str = "cluster.key";
const TLS: &str = "tls";
const CA_CERTIFICATE: &str = "tls/ca.pem";
const CA_KEY: &str = "tls/ca.key";
const NODE_CERTIFICATE: &str = "tls/node.pem";
const NODE_KEY: &str = "tls/node.key";
const LOCK: &str = "lock";

/// Who a node is, for as long as it is a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub cluster_name: String,
    /// The node's number.
    pub number: NodeNumber,
    /// The node's name; need not be what `uname -n` says (spec V14).
    pub name: String,
    /// The node's log.
    pub raft_id: RaftId,
    /// The node's storage.
    pub storage: StorageId,
    /// The version it became a member with.
    pub version: String,
}

/// The key that authenticates heartbeats. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; 32]);

impl ClusterKey {
    /// A new key from the system's randomness.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// As it is written to a file: 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The key written as 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).ok()?;
        Some(Self(key))
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// What makes a node a member: who it is, and the keys that prove it.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who it is.
    pub identity: Identity,
    /// Key of heartbeats.
    pub cluster_key: ClusterKey,
    /// Certificate of the cluster's authority, PEM.
    pub ca_cert: String,
    /// Key of the cluster's authority, PEM: every member can admit a node.
    pub ca_key: String,
    /// Certificate of this node, PEM.
    pub node_cert: String,
    /// Key of this node, PEM.
    pub node_key: String,
}

/// Shows who it is and none of the keys.
impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why a state directory cannot be used: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// There is no identity in it.
    #[error(
        "{dir} holds no membership: this node belongs to no cluster yet. Run `vedette init` to \
         form a new cluster here, or `vedette join TOKEN` with a token from a member \
         (`vedette node add NAME`)."
    )]
    NotAMember {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to a cluster already.
    #[error(
        "{dir} already belongs to cluster {cluster}, as its node {number} ({name}). Use another \
         directory (--state-dir); or, if the node was deleted there (`vedette node delete {name}` \
         on another member), move this one away."
    )]
    AlreadyAMember {
        /// The directory.
        dir: PathBuf,
        /// The cluster it belongs to.
        cluster: String,
        /// As which node.
        number: NodeNumber,
        /// Under which name.
        name: String,
    },
    /// The configuration and the state directory disagree (spec V14).
    #[error(
        "{dir}/identity.json says that the {what} is {stored}, but the configuration says \
         {configured}. Correct the configuration, or give the state directory that belongs to it \
         (--state-dir)."
    )]
    Mismatch {
        /// The directory.
        dir: PathBuf,
        /// What differs, such as `name of this node`.
        what: &'static str,
        /// What the state directory says.
        stored: String,
        /// What the configuration says.
        configured: String,
    },
    /// Others could read the secrets, or somebody else owns them.
    #[error("{path} {why}, and it is for keys. Run: {command}")]
    Loose {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What puts it right.
        command: String,
    },
    /// A file is there but cannot be made sense of.
    #[error(
        "{path} is damaged: {why}. Restore it from a backup of this node; without one, delete the \
         node on another member (`vedette node delete NODE`), remove the directory and join again."
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process has it.
    #[error(
        "{dir} is in use by another vedette process. Stop that one first (`vedette leave`), or \
         give this one its own directory (--state-dir)."
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("{path} could not be {doing}: {source}. Check the path, its owner and the free space.")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, such as `read`.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

type Result<T, E = StateDirError> = std::result::Result<T, E>;

/// Holds a state directory for one process; let go when dropped.
#[derive(Debug)]
pub struct StateDirLock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// How often it is looked whether the state directory is free.
const LOOK: Duration = Duration::from_millis(20);

/// A node's state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The state directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory for this process, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, others may enter it, or another process has it.
    pub fn lock(&self) -> Result<StateDirLock> {
        self.create()?;
        let path = self.file(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error(&path, "opened"))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map(StateDirLock)
            .map_err(|_| StateDirError::InUse { dir: self.path.clone() })
    }

    /// The same, as soon as the process that has it has ended, which is waited for.
    ///
    /// # Errors
    /// As [`Self::lock`]; that another process has it only after `patience`.
    pub fn lock_within(&self, patience: Duration) -> Result<StateDirLock> {
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            match self.lock() {
                Err(StateDirError::InUse { dir }) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        let dir = dir.display();
                        tracing::info!(%dir, "the state directory is in use by a process that is to end");
                    }
                    std::thread::sleep(LOOK);
                }
                other => return other,
            }
        }
    }

    /// Who this node is, without its keys.
    ///
    /// # Errors
    /// It is no member, or the file cannot be trusted, read or understood.
    pub fn identity(&self) -> Result<Identity> {
        let not_a_member = || StateDirError::NotAMember { dir: self.path.clone() };
        if !self.file(IDENTITY).exists() {
            return Err(not_a_member());
        }
        check_private(&self.path)?;
        self.read_json(IDENTITY)?.ok_or_else(not_a_member)
    }

    /// Everything that makes this node a member.
    ///
    /// # Errors
    /// It is no member, or a file is missing, readable by others or damaged.
    pub fn load(&self) -> Result<Membership> {
        let identity = self.identity()?;
        check_private(&self.file(TLS))?;
        let key_text = self.read_secret(CLUSTER_KEY)?;
        let cluster_key =
            ClusterKey::from_hex(&key_text).ok_or_else(|| StateDirError::Damaged {
                path: self.file(CLUSTER_KEY),
                why: "it is not 64 hexadecimal digits".into(),
            })?;
        Ok(Membership {
            identity,
            cluster_key,
            ca_cert: self.read_secret(CA_CERTIFICATE)?,
            ca_key: self.read_secret(CA_KEY)?,
            node_cert: self.read_secret(NODE_CERTIFICATE)?,
            node_key: self.read_secret(NODE_KEY)?,
        })
    }

    /// Refuses a directory that belongs to a cluster already.
    ///
    /// # Errors
    /// To whom it belongs; or it cannot be read.
    pub fn check_unused(&self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        match self.identity() {
            Err(StateDirError::NotAMember { .. }) => Ok(()),
            Err(other) => Err(other),
            Ok(owner) => Err(StateDirError::AlreadyAMember {
                dir: self.path.clone(),
                cluster: owner.cluster_name,
                number: owner.number,
                name: owner.name,
            }),
        }
    }

    /// Makes this node a member: writes all files, the identity last. An interruption before that
    /// leaves a directory that belongs to nobody, and that can be used again.
    ///
    /// # Errors
    /// The system refused.
    pub fn store(&self, membership: &Membership) -> Result<()> {
        self.create()?;
        create_private(&self.file(TLS))?;
        for (name, content) in [
            (CA_CERTIFICATE, &membership.ca_cert),
            (CA_KEY, &membership.ca_key),
            (NODE_CERTIFICATE, &membership.node_cert),
            (NODE_KEY, &membership.node_key),
            (CLUSTER_KEY, &membership.cluster_key.to_hex()),
        ] {
            self.write(name, content.as_bytes())?;
        }
        self.write_json(IDENTITY, &membership.identity)
    }

    /// Puts a renewed certificate of this node in the place of the old one.
    ///
    /// # Errors
    /// The system refused.
    pub fn replace_certificate(&self, node_cert: &str) -> Result<()> {
        self.write(NODE_CERTIFICATE, node_cert.as_bytes())
    }

    /// A document that `init` or `join` left for the first start, such as [`FORM`].
    ///
    /// # Errors
    /// It cannot be trusted, read or understood.
    pub fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.read_json(name)
    }

    /// Leaves a document.
    ///
    /// # Errors
    /// The system refused.
    pub fn store_document<T: Serialize>(&self, name: &str, document: &T) -> Result<()> {
        self.create()?;
        self.write_json(name, document)
    }

    /// Removes a document that has served its purpose; fine if there is none.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove_document(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, "removed")(error))
            }
            _ => sync_directory(&self.path),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn create(&self) -> Result<()> {
        create_private(&self.path)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = self.read_secret(name)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| StateDirError::Damaged { path, why: error.to_string() })
    }

    fn read_secret(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        check_private(&path)?;
        fs::read_to_string(&path).map_err(io_error(&path, "read"))
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|error| io_error(&self.file(name), "written")(error.into()))?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Writes beside the file, then takes its place: a reader sees the old or the new, never half.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.file(name);
        let draft = path.with_extension("new");
        let written = (|| {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        })();
        written.map_err(io_error(&path, "written"))?;
        sync_directory(path.parent().unwrap_or(&self.path))
    }
}

impl Identity {
    /// Refuses a configuration that means another node or cluster (spec V14).
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, dir: &Path, node_name: &str, cluster_name: Option<&str>) -> Result<()> {
        let mismatch = |what, stored: &str, configured: &str| StateDirError::Mismatch {
            dir: dir.to_owned(),
            what,
            stored: stored.to_owned(),
            configured: configured.to_owned(),
        };
        if self.name != node_name {
            return Err(mismatch("name of this node", &self.name, node_name));
        }
        match cluster_name {
            Some(name) if name != self.cluster_name => {
                Err(mismatch("cluster", &self.cluster_name, name))
            }
            _ => Ok(()),
        }
    }
}

/// Name of the document that holds the first command of a cluster.
pub const FORM: &str = "form.json";
/// Name of the document that tells a new member whom to talk to.
pub const WELCOME: &str = "welcome.json";
/// Name of the document that is there while the outcome of a join is not known.
pub const JOINING: &str = "joining.json";

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StateDirError + use<> {
    let path = path.to_owned();
    move |source| StateDirError::Io { path, doing, source }
}

fn create_private(path: &Path) -> Result<()> {
    if !path.exists() {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
            .map_err(io_error(path, "made"))?;
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
    }
    check_private(path)
}

/// Refuses what others can get at, or what somebody else owns.
fn check_private(path: &Path) -> Result<()> {
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "it is missing".into();
            return Err(StateDirError::Damaged { path: path.to_owned(), why });
        }
        other => other.map_err(io_error(path, "read"))?,
    };
    let (mode, wanted) = (about.mode() & 0o777, if about.is_dir() { "700" } else { "600" });
    if mode & 0o077 != 0 {
        return Err(StateDirError::Loose {
            path: path.to_owned(),
            why: format!("is open to others (mode {mode:03o})"),
            command: format!("chmod {wanted} {}", path.display()),
        });
    }
    let me = nix::unistd::geteuid();
    if about.uid() != me.as_raw() {
        return Err(StateDirError::Loose {
            path: path.to_owned(),
            why: format!("belongs to user {}, not to user {me} who runs this", about.uid()),
            command: format!("chown {me} {}", path.display()),
        });
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<()> {
    // The parent of a relative path of one part is the empty path.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error(path, "made durable"))
}
