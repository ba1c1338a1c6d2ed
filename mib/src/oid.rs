//! Object identifiers: names in SNMP's tree, compared number by number.
//!
//! An [`Oid`] never has more than [`Oid::LONGEST`] numbers (RFC 2578), whoever made it; longer ones
//! are refused where they come in, so that nothing behind has to think of it.

use std::fmt;

/// The root of `VEDETTE-MIB`: `vedette`, in a private tree of net-snmp until a number of its own
/// is registered. The one place to change (with the last line of the MIB's `MODULE-IDENTITY`).
pub const ROOT: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7770];

/// An object identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// The most numbers an object identifier may have.
    pub const LONGEST: usize = 128;

    /// The null OID: no number at all.
    pub const fn null() -> Self {
        Self(Vec::new())
    }

    /// An OID of these numbers, if there are not too many.
    pub fn new(numbers: impl Into<Vec<u32>>) -> Option<Self> {
        let numbers = numbers.into();
        (numbers.len() <= Self::LONGEST).then_some(Self(numbers))
    }

    /// An object of this module, named by what follows [`ROOT`]; cut if it is too long.
    pub fn in_module(suffix: &[u32]) -> Self {
        let mut numbers = Vec::with_capacity(ROOT.len() + suffix.len());
        numbers.extend_from_slice(ROOT);
        numbers.extend_from_slice(suffix);
        numbers.truncate(Self::LONGEST);
        Self(numbers)
    }

    /// Its numbers.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    /// Whether it is the null OID.
    pub fn is_null(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in &self.0 {
            write!(f, ".{number}")?;
        }
        Ok(())
    }
}
