//! The hash chain of the history: where it ends, whether it is whole, and whether all nodes have the same.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use serde::{Deserialize, Serialize};

use crate::history::{Head, Verification};

/// An event and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadDoc {
    /// The hash, in hexadecimal.
    pub hash: String,
    /// The event's number.
    pub seq: u64,
}

impl From<Head> for HeadDoc {
    fn from(head: Head) -> Self {
        Self { hash: head.hash.to_string(), seq: head.seq }
    }
}

/// The first event that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDoc {
    /// Its number.
    pub seq: u64,
    /// The fault.
    pub what: String,
}

/// Result of a check of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedDoc {
    /// The first event that does not fit.
    pub first_bad: Option<FaultDoc>,
    /// The last good event.
    pub head: HeadDoc,
    /// Whether the chain is whole.
    pub ok: bool,
    /// Number of good events.
    pub rows: u64,
    /// Triggers against changes that are not in the database any more; only of one that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguarded: Option<Vec<String>>,
}

impl VerifiedDoc {
    /// The result for a file that no daemon uses.
    pub fn of_file(verification: &Verification) -> Self {
        let fault = verification.fault.as_ref();
        Self {
            first_bad: fault.map(|fault| FaultDoc { seq: fault.seq, what: fault.detail.clone() }),
            head: verification.head.into(),
            ok: verification.intact(),
            rows: verification.checked,
            unguarded: None,
        }
    }

    /// The result for the history in use.
    pub fn new(verification: &Verification) -> Self {
        Self { unguarded: Some(verification.unguarded.clone()), ..Self::of_file(verification) }
    }
}

/// The histories of all nodes at the last event that each has in common with the answering one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedDoc {
    /// The hash of the last event of the answering node.
    pub hash: String,
    /// Each node.
    pub nodes: Vec<ComparedNodeDoc>,
    /// The last event of the answering node.
    pub seq: u64,
}

/// The history of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedNodeDoc {
    /// Whether it is the same so far.
    pub equal: bool,
    /// Reason why that is not known.
    pub error: Option<String>,
    /// Its hash at the last common event.
    pub hash_at_common: Option<String>,
    /// The node.
    pub node: String,
    /// Its last event.
    pub seq: Option<u64>,
}

#[cfg(test)]
mod tests {
    use vedette_core::id::Hash;

    use super::*;
    use crate::history::{Fault, FaultKind};

    /// The very text that scripts have been given.
    #[test]
    fn a_check_is_told_as_ever() {
        let head = Head { seq: 16, hash: Hash::default() };
        let (kind, detail) = (FaultKind::ChangedContent, "it was changed".to_owned());
        let fault = Some(Fault { seq: 17, kind, detail });
        let verification = Verification { checked: 16, head, fault, unguarded: vec!["t".into()] };
        let zeros = "0".repeat(64);
        let file = format!(
            r#"{{"first_bad":{{"seq":17,"what":"it was changed"}},"head":{{"hash":"{zeros}","seq":16}},"ok":false,"rows":16"#
        );
        let told = |document: &VerifiedDoc| serde_json::to_string(document).expect("JSON");
        assert_eq!(told(&VerifiedDoc::of_file(&verification)), format!("{file}}}"));
        assert_eq!(
            told(&VerifiedDoc::new(&verification)),
            format!(r#"{file},"unguarded":["t"]}}"#)
        );
        let whole = Verification { fault: None, ..verification };
        assert!(told(&VerifiedDoc::of_file(&whole)).starts_with(r#"{"first_bad":null,"#));
    }
}
