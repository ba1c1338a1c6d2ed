//! Spans of time that do not overlap, in order: unions, cuts and differences of them.

use crate::clinfo::incident::line::millis;

/// A set of moments, as spans from a moment to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(i64, i64)>);

impl Spans {
    /// The union of spans; one that ends before it begins is none.
    pub(super) fn of(spans: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut spans: Vec<(i64, i64)> = spans.into_iter().filter(|(from, to)| from < to).collect();
        spans.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match merged.last_mut().filter(|last| last.1 >= from) {
                Some(last) => last.1 = last.1.max(to),
                None => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// Adds a span.
    pub(super) fn add(&mut self, from: i64, to: i64) {
        *self = Self::of(self.0.iter().copied().chain([(from, to)]));
    }

    /// Adds all of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        *self = Self::of(self.0.iter().chain(&other.0).copied());
    }

    /// What lies between two moments.
    pub(super) fn within(&self, from: i64, to: i64) -> Self {
        let cut = self.0.iter().map(|span| (span.0.max(from), span.1.min(to)));
        Self(cut.filter(|(from, to)| from < to).collect())
    }

    /// What lies in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self(other.0.iter().flat_map(|(from, to)| self.within(*from, *to).0).collect())
    }

    /// What does not lie in the other.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (from, to) in &self.0 {
            let mut at = *from;
            for (hole, end) in other.within(*from, *to).0 {
                left.push((at, hole));
                at = end;
            }
            left.push((at, *to));
        }
        left.retain(|(from, to)| from < to);
        Self(left)
    }

    /// How long it is in all.
    pub(super) fn millis(&self) -> u64 {
        self.0.iter().map(|(from, to)| millis(*from, *to)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i64, i64)]) -> Spans {
        Spans::of(list.iter().copied())
    }

    #[test]
    fn sets_of_moments() {
        let set = spans(&[(5, 9), (1, 3), (2, 4), (7, 7), (9, 10)]);
        assert_eq!(set, spans(&[(1, 4), (5, 10)]));
        assert_eq!(set.within(3, 6), spans(&[(3, 4), (5, 6)]));
        assert_eq!(set.minus(&spans(&[(2, 6), (8, 20)])), spans(&[(1, 2), (6, 8)]));
        assert_eq!(set.and(&spans(&[(0, 2), (9, 20)])), spans(&[(1, 2), (9, 10)]));
        assert_eq!(spans(&[(0, 4_000), (9_000, 15_000)]).millis(), 10);
    }
}
