//! Kinds of requests: what a node may ask of another. Numbers are a contract between versions.

/// A message of the replicated log.
pub const RAFT: u16 = 1;
/// What a node observes, for the director.
pub const REPORT: u16 = 2;
/// A command to be proposed by the director.
pub const PROPOSE: u16 = 3;
/// The last record of the peer's history, with its hash.
pub const HISTORY_HEAD: u16 = 4;
/// Records of the peer's history.
pub const HISTORY_ROWS: u16 = 5;
/// A node asks to become a member; the only kind that needs no certificate.
pub const JOIN: u16 = 6;
/// The peer's state.
pub const STATE: u16 = 7;
/// The monotonic clock by which the peer stamps entries while it leads.
pub const CLOCK: u16 = 8;

/// Kinds from here on belong to the connection itself.
pub(crate) const RESERVED: u16 = 0x1000;
/// First message of each side.
pub(crate) const HELLO: u16 = 0x1000;
/// Are you there?
pub(crate) const PING: u16 = 0x1001;
/// The answer to the request with the same id.
pub(crate) const ANSWER: u16 = 0x1002;
/// The request with the same id was refused; with id 0, the connection is.
pub(crate) const REFUSED: u16 = 0x1003;
