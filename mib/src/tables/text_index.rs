//! `VedetteTextIndex`: numbers that stand for texts in an index.
//!
//! Names of rules and variables may have any length and instance vectors a thousand bytes, while a
//! name in SNMP has at most 128 numbers. A place in a list would fit, but rows would change their names
//! whenever another one comes or goes. So the number is made of the text itself, by SHA-256: it is the
//! same on every node and after every restart, and a manager can work it out.

use std::collections::BTreeMap;

use vedette_core::id::Hash;

/// The number of a text that no other text was given before.
pub(crate) fn number(text: &str) -> u32 {
    let Hash([a, b, c, d, ..]) = Hash::of(text.as_bytes());
    u32::from_be_bytes([a, b, c, d]).max(1)
}

/// Rows by the numbers of their texts. Where two would have the same number, the one whose text is
/// greater has the next that is free: that happens once in a million tables of a hundred rows.
pub(crate) fn numbered<R>(mut rows: Vec<(String, R)>) -> BTreeMap<u32, R> {
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut taken = BTreeMap::new();
    for (text, row) in rows {
        let mut free = number(&text);
        while taken.contains_key(&free) {
            free = free.checked_add(1).unwrap_or(1);
        }
        taken.insert(free, row);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number is what `printf %s programs | sha256sum` begins with: a contract.
    #[test]
    fn a_number_can_be_worked_out_elsewhere() {
        assert_eq!(number("programs"), PROGRAMS);
        assert_eq!(number(""), 0xe3b0_c442);
    }

    const PROGRAMS: u32 = 0xfdeb_ae30;

    /// Rows with the same text are still two rows.
    #[test]
    fn no_number_is_given_twice() {
        let rows = ["b", "a", "a"].map(|text| (text.to_owned(), text));
        let numbered = numbered(rows.to_vec());
        let (a, b) = (number("a"), number("b"));
        let mut expected = [(a, "a"), (a + 1, "a"), (b, "b")];
        expected.sort();
        assert_eq!(numbered.into_iter().collect::<Vec<_>>(), expected);
    }
}
