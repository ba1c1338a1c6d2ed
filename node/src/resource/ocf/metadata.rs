//! What an OCF agent says of itself, in XML, of which only tags and their attributes matter here.

use std::collections::{BTreeMap, BTreeSet};

/// Parameters and actions of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaData {
    /// Its parameters, and whether each has to be given.
    pub parameters: BTreeMap<String, bool>,
    /// Its actions.
    pub actions: BTreeSet<String>,
}

impl MetaData {
    /// Reads the output of the action `meta-data`. What is not understood is left out.
    pub fn parse(text: &str) -> Self {
        let mut described = Self::default();
        for tag in tags(text) {
            let (kind, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
            let attribute = |name: &str| {
                pairs(attributes).into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            let Some(name) = attribute("name") else { continue };
            match kind {
                "parameter" => {
                    let required =
                        attribute("required").is_some_and(|v| ["1", "true", "yes"].contains(&v));
                    described.parameters.insert(name.to_owned(), required);
                }
                "action" => {
                    described.actions.insert(name.to_owned());
                }
                _ => {}
            }
        }
        described
    }

    /// Names of the parameters.
    pub(super) fn words(&self) -> String {
        self.parameters.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What stands between `<` and `>`, without comments. A `>` within quotes does not end a tag.
fn tags(mut text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some((_, after)) = text.split_once('<') {
        if let Some(comment) = after.strip_prefix("!--") {
            text = comment.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let Some(end) = end_of_tag(after) else { break };
        found.push(&after[..end]);
        text = &after[end..];
    }
    found
}

fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

/// `key="value"`, in either kind of quotes.
fn pairs(mut text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    while let Some((key, after)) = text.split_once('=') {
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|letter| "\"'".contains(*letter)) else {
            break;
        };
        let Some((value, rest)) = after[1..].split_once(quote) else { break };
        found.push((key.trim(), value));
        text = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_actions_are_found() {
        let text = "<?xml version=\"1.0\"?><!-- <parameter name=\"no\"> -->\n\
            <parameter name='ip' unique=\"1\" required=\"1\">\n<content type=\"string\" default=\"a>b\"/>\
            </parameter><parameter name=\"nic\" required=\"0\"></parameter>\n\
            <actions><action name=\"start\"   timeout=\"20s\" /></actions>";
        let described = MetaData::parse(text);
        let parameters = BTreeMap::from([("ip".to_owned(), true), ("nic".to_owned(), false)]);
        assert_eq!(described.parameters, parameters);
        assert_eq!(described.actions, BTreeSet::from(["start".to_owned()]));
    }

    proptest::proptest! {
        #[test]
        fn random_text_never_panics(text in "[<>!='\" a-z\u{e9}-]{0,80}") {
            let _ = MetaData::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(names in proptest::collection::btree_map("[a-z_]{1,9}", proptest::bool::ANY, 0..6)) {
            let text: String = names
                .iter()
                .map(|(name, required)| {
                    format!("<parameter name=\"{name}\" required=\"{}\">\n", u8::from(*required))
                })
                .collect();
            proptest::prop_assert_eq!(MetaData::parse(&text).parameters, names);
        }
    }
}
