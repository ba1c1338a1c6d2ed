//! Which known word is nearest to an unknown one: the courtesy of a refused key.
//!
//! The measure is the number of letters to add, drop, change or swap with a neighbour. More than a
//! third of the word is no slip of a finger any more, and nothing is suggested.

/// The nearest of `known`, if one is near enough to have been meant: the word is its beginning, or
/// differs from it by a slip.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let begun = |candidate: &&&'a str| word.len() >= 3 && candidate.starts_with(word);
    if let Some(whole) = known.iter().find(begun) {
        return Some(whole);
    }
    let (distance, best) =
        known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    let most = 1 + word.chars().count() / 3;
    (distance <= most).then_some(best)
}

/// Optimal string alignment distance, row by row. Long words are cut: nobody meant them.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(40).collect();
    let to: Vec<char> = to.chars().take(40).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = above[column] + usize::from(letter != other);
            let mut least = changed.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["address", "beat_port", "name", "peer_port", "ping", "priority"];
        assert_eq!(nearest("adress", &known), Some("address"));
        assert_eq!(nearest("anme", &known), Some("name"));
        assert_eq!(nearest("beat-port", &known), Some("beat_port"));
        assert_eq!(nearest("prio", &known), Some("priority"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn distances_are_the_known_ones() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("x", "y", 1)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
