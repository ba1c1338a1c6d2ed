//! How a table of the MIB is written down in code: one visible array of columns per table, each
//! with its number, name, syntax and the function that makes its value.
//!
//! Scalars are the columns of a table with the single row `.0`. From the columns and the rows a
//! [`Block`] is built: every instance, in the order of its name, ready to be found by halving.

use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;
use vedette_core::view::View;

use crate::stamp::TimeBase;
use crate::value::Value;

/// The syntax of an object, as the MIB spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax(pub &'static str);

impl Syntax {
    /// The type on the wire, if the syntax is one that this agent serves: every enumeration of ours
    /// ends in `Code`.
    pub fn wire(self) -> Option<u16> {
        Some(match self.0 {
            "SnmpAdminString"
            | "DateAndTime"
            | "InetAddress"
            | "VedetteText"
            | "VedetteMembershipText" => 4,
            "Integer32" | "TruthValue" | "InetAddressType" => 2,
            "Unsigned32" | "Gauge32" | "InetPortNumber" | "VedetteNumberOrZero" => 66,
            "TimeTicks" | "TimeStamp" => 67,
            "Counter64" | "VedetteLogIndex" => 70,
            name if name.starts_with("Vedette") && name.ends_with("Code") => 2,
            _ => return None,
        })
    }
}

/// Everything a value may be made from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) view: &'a View,
    pub(crate) base: &'a TimeBase,
}

impl Facts<'_> {
    /// Whether the answering node knows the present state of the cluster.
    pub(crate) fn knows(&self) -> bool {
        self.view.local.knows()
    }

    /// Whether the answering node knows how `node` is: of itself it always does.
    pub(crate) fn knows_of(&self, node: NodeNumber) -> bool {
        self.knows() || node == self.view.local.node
    }

    /// A value that `node` has to confirm.
    pub(crate) fn known_of(&self, node: NodeNumber, value: impl FnOnce() -> Value) -> Value {
        if self.knows_of(node) { value() } else { Value::NoSuchInstance }
    }

    /// The state that was known last, while the present one is not known.
    pub(crate) fn last_known(&self) -> Option<&ClusterState> {
        (!self.knows()).then(|| self.view.last_known().as_ref())
    }

    /// A value that others have to confirm: there is none while the answering node does not know.
    pub(crate) fn known(&self, value: impl FnOnce() -> Value) -> Value {
        if self.knows() { value() } else { Value::NoSuchInstance }
    }
}

/// What the rows of a table are made from.
pub(crate) trait Table {
    /// A row, as far as it is not just a key.
    type Row<'a>;
}

/// Makes the value of a column.
type Make<T> = for<'a> fn(&Facts<'a>, &<T as Table>::Row<'a>) -> Value;

/// A column of a table, or a scalar.
pub(crate) struct Column<T: Table> {
    number: u32,
    name: &'static str,
    syntax: Syntax,
    value: Make<T>,
}

/// Writes a column in one line.
pub(crate) const fn column<T: Table>(
    number: u32,
    name: &'static str,
    syntax: &'static str,
    value: Make<T>,
) -> Column<T> {
    Column { number, name, syntax: Syntax(syntax), value }
}

/// What is known of an object without its value: for the test that compares code and MIB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its descriptor.
    pub name: &'static str,
    /// Its name below [`crate::oid::ROOT`], without an instance.
    pub suffix: Vec<u32>,
    /// Its syntax.
    pub syntax: Syntax,
}

/// The objects of one table or group.
pub(crate) fn objects<T: Table>(entry: &[u32], columns: &[Column<T>]) -> Vec<Object> {
    columns
        .iter()
        .map(|column| Object {
            name: column.name,
            suffix: [entry, &[column.number]].concat(),
            syntax: column.syntax,
        })
        .collect()
}

/// The instances of one table in order. Names are kept in one array, without what all have in
/// common ([`crate::oid::ROOT`]).
#[derive(Debug, Default)]
pub(crate) struct Block {
    numbers: Vec<u32>,
    ends: Vec<u32>,
    values: Vec<Value>,
}

impl Block {
    /// Builds a table; `rows` are in the order of their indexes, no index twice. A cell whose value is
    /// [`Value::NoSuchInstance`] is left out.
    pub(crate) fn build<'a, T: Table>(
        facts: &Facts<'a>,
        entry: &[u32],
        columns: &[Column<T>],
        rows: &[(Vec<u32>, T::Row<'a>)],
    ) -> Self {
        debug_assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "rows out of order in {entry:?}");
        let cells = columns.len() * rows.len();
        let mut block = Self {
            numbers: Vec::with_capacity(cells * (entry.len() + 3)),
            ends: Vec::with_capacity(cells),
            values: Vec::with_capacity(cells),
        };
        for column in columns {
            for (index, row) in rows {
                let value = (column.value)(facts, row);
                // What is unknown is not there, rather than a value that somebody may believe.
                if value == Value::NoSuchInstance {
                    continue;
                }
                block.numbers.extend_from_slice(entry);
                block.numbers.push(column.number);
                block.numbers.extend_from_slice(index);
                block.ends.push(block.numbers.len() as u32);
                block.values.push(value);
            }
        }
        block
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    fn name(&self, place: usize) -> &[u32] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        &self.numbers[start..self.ends[place] as usize]
    }

    /// The place of the first name that is not less than `name`, and whether it is that name.
    fn search(&self, name: &[u32]) -> (usize, bool) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return (middle, true),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        (low, false)
    }

    pub(crate) fn get(&self, name: &[u32]) -> Option<&Value> {
        let (place, found) = self.search(name);
        found.then(|| &self.values[place])
    }

    /// The first instance behind `name`, or `name` itself if it may be.
    pub(crate) fn next(&self, name: &[u32], include: bool) -> Option<(&[u32], &Value)> {
        let (place, found) = self.search(name);
        let place = if found && !include { place + 1 } else { place };
        (place < self.len()).then(|| (self.name(place), &self.values[place]))
    }
}
