//! `VEDETTE-MIB` and the AgentX subagent that serves it.
//!
//! The text of the MIB is `VEDETTE-MIB.txt` beside this crate; a test holds it and the code
//! together, object by object. From the outside in:
//!
//! - [`subagent`] is a thread that keeps a connection to the master agent (net-snmp's `snmpd`).
//! - [`session`] is the protocol as a machine without sockets; [`codec`] and [`pdu`] are what it
//!   speaks (RFC 2741).
//! - [`answer`] finds variables in a [`snapshot`]: every variable of one view, in order. The tables
//!   of the MIB are written down one a file, as one visible array of columns each.
//! - [`notify`] makes notifications of records; they are sent from a [`cursor`] on disk, at least
//!   once.
//!
//! Nothing here decides anything about the cluster: every value is read from a
//! [`vedette_core::view::View`] or a [`vedette_core::record::Record`].

pub mod answer;
pub mod codec;
pub mod cursor;
pub mod notify;
pub mod oid;
mod outbox;
pub mod pdu;
pub mod session;
pub mod snapshot;
mod stamp;
pub mod subagent;
mod table;
mod tables;
pub mod value;

pub use cursor::{Cursor, FileCursor, Position};
pub use stamp::TimeBase;
pub use subagent::{Counters, Handle, Master, Poker, Subagent, SubagentConfig};
pub use table::{Object, Syntax};
pub use tables::objects;

/// The text of the MIB, as it is shipped.
pub const MIB_TEXT: &str = include_str!("../VEDETTE-MIB.txt");

/// The modules that the MIB imports, by the names of their files: net-snmp's tools need them to show
/// names, and Debian does not ship them.
pub const BASE_MODULES: [(&str, &str); 7] = [
    ("INET-ADDRESS-MIB", include_str!("../base/INET-ADDRESS-MIB")),
    ("NET-SNMP-MIB", include_str!("../base/NET-SNMP-MIB")),
    ("SNMP-FRAMEWORK-MIB", include_str!("../base/SNMP-FRAMEWORK-MIB")),
    ("SNMPv2-CONF", include_str!("../base/SNMPv2-CONF")),
    ("SNMPv2-MIB", include_str!("../base/SNMPv2-MIB")),
    ("SNMPv2-SMI", include_str!("../base/SNMPv2-SMI")),
    ("SNMPv2-TC", include_str!("../base/SNMPv2-TC")),
];
