//! The PDUs of AgentX (RFC 2741) as values. How they look on the wire is [`crate::codec`]'s matter.

use crate::oid::Oid;
use crate::value::Value;

/// A message between master agent and subagent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// Numbers in network byte order; the flag `NETWORK_BYTE_ORDER`.
    pub network_order: bool,
    /// The session; 0 before it is open.
    pub session: u32,
    /// Ties the PDUs of one SNMP request together.
    pub transaction: u32,
    /// Ties a response to its request.
    pub packet: u32,
    /// The context if it is not the default one, in PDUs that may have one.
    pub context: Option<Vec<u8>>,
    /// What it says.
    pub body: Body,
}

/// What a PDU says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Opens a session.
    Open {
        /// Seconds until the master shall give up a request; 0 leaves it to the master.
        timeout: u8,
        /// Names the subagent.
        id: Oid,
        /// Describes the subagent.
        description: Vec<u8>,
    },
    /// Ends a session.
    Close {
        /// Why, see [`Close`].
        reason: u8,
    },
    /// Takes over a region of the tree.
    Register {
        /// What.
        region: Region,
        /// The region is one full instance.
        instance: bool,
    },
    /// Gives a region back.
    Unregister {
        /// What.
        region: Region,
    },
    /// Asks for variables by name.
    Get(Vec<SearchRange>),
    /// Asks for the variables that follow.
    GetNext(Vec<SearchRange>),
    /// Asks for many variables that follow.
    GetBulk {
        /// The first so many ranges are asked once.
        non_repeaters: u16,
        /// How often the others are.
        max_repetitions: u16,
        /// The ranges.
        ranges: Vec<SearchRange>,
    },
    /// First step of a change: would it work?
    TestSet(Vec<VarBind>),
    /// Second step: do it.
    CommitSet,
    /// Instead of the third step: take it back.
    UndoSet,
    /// Third step: it is over. There is no response to it.
    CleanupSet,
    /// Tells of something.
    Notify(Vec<VarBind>),
    /// Is anybody there?
    Ping,
    /// Reserves index values.
    IndexAllocate {
        /// Which.
        varbinds: Vec<VarBind>,
        /// Any value that was never used.
        new_index: bool,
        /// Any value that is not in use.
        any_index: bool,
    },
    /// Gives index values back.
    IndexDeallocate(Vec<VarBind>),
    /// Adds a row to the master's `sysORTable`.
    AddAgentCaps {
        /// Names the capabilities.
        id: Oid,
        /// Describes them.
        description: Vec<u8>,
    },
    /// Removes that row.
    RemoveAgentCaps {
        /// Names the capabilities.
        id: Oid,
    },
    /// Answers any of the others.
    Response {
        /// `sysUpTime` of the master.
        uptime: u32,
        /// 0, or an error of SNMP (to 18) or of AgentX (from 256), see [`error`].
        error: u16,
        /// Which variable is to blame, from 1; 0 for none.
        index: u16,
        /// What was asked for.
        varbinds: Vec<VarBind>,
    },
}

/// A part of the tree that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Seconds until the master shall give up a request; 0 leaves it to the session.
    pub timeout: u8,
    /// The lowest of several wins; 127 is the default.
    pub priority: u8,
    /// Where it begins.
    pub subtree: Oid,
    /// Which number of `subtree` (from 1) runs up to which bound, if one does.
    pub range: Option<(u8, u32)>,
}

/// Where to look for a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRange {
    /// Behind this name, or from it on.
    pub start: Oid,
    /// Whether `start` itself will do.
    pub include: bool,
    /// Before this name; null is no bound.
    pub end: Oid,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarBind {
    /// Its name.
    pub name: Oid,
    /// Its value.
    pub value: Value,
}

impl VarBind {
    /// A variable.
    pub fn new(name: Oid, value: Value) -> Self {
        Self { name, value }
    }
}

/// Why a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Close {
    /// None of the others.
    Other = 1,
    /// Something could not be read.
    ParseError = 2,
    /// The other side broke the protocol.
    ProtocolError = 3,
    /// The other side was silent for too long.
    Timeouts = 4,
    /// The program ends.
    Shutdown = 5,
}

/// Errors that a response may carry.
pub mod error {
    /// None.
    pub const NO_ERROR: u16 = 0;
    /// Something went wrong with a variable.
    pub const GEN_ERR: u16 = 5;
    /// A change could not be done.
    pub const COMMIT_FAILED: u16 = 14;
    /// A change could not be taken back.
    pub const UNDO_FAILED: u16 = 15;
    /// The variable can only be read.
    pub const NOT_WRITABLE: u16 = 17;
    /// There is no such session.
    pub const NOT_OPEN: u16 = 257;
    /// Somebody has that region.
    pub const DUPLICATE_REGISTRATION: u16 = 263;
    /// The PDU could not be read.
    pub const PARSE_ERROR: u16 = 266;
    /// The PDU could be read and not be done.
    pub const PROCESSING_ERROR: u16 = 268;
}
