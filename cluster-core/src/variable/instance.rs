//! Instance vectors: which copy of a resource a value belongs to, and which ones a rule is about
//! (spec H30).
//!
//! `NodeNum=5;ProgName=rwhod;UserName=root` is an instance. A pattern looks the same, with `*`
//! where every value will do; an element that it leaves out may have every value, too.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeNumber;

/// The longest vector, in bytes.
const LONGEST: usize = 1_024;

/// Why a vector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}. {advice}")]
pub struct VectorError {
    /// One sentence without its full stop.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl VectorError {
    fn new(what: impl Into<String>, advice: &str) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// A copy of a resource. No two elements have the same name; their order says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(BTreeMap<String, String>);

/// Instances of which every named element has that value, or any (`*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern(BTreeMap<String, Option<String>>);

impl Instance {
    /// Reads `NodeNum=5;ProgName=rwhod;UserName=root`.
    ///
    /// # Errors
    /// If it is malformed, or has `*` for a value.
    pub fn parse(text: &str) -> Result<Self, VectorError> {
        let elements = elements(text)?;
        if let Some((name, _)) = elements.iter().find(|(_, value)| value.as_str() == "*") {
            let what = format!("{name} of an instance is `*`, which is for patterns");
            return Err(VectorError::new(what, "Write a value."));
        }
        Ok(Self(elements))
    }

    /// An instance on a node, with further elements. What vectors cannot hold is left out of the
    /// values.
    pub fn on(node: NodeNumber, elements: &[(&str, &str)]) -> Self {
        let clean = |value: &str| -> String {
            let kept: String =
                value.chars().filter(|c| !c.is_control() && *c != ';').take(256).collect();
            match kept.trim() {
                "" | "*" => "-".into(),
                kept => kept.into(),
            }
        };
        let mut all = BTreeMap::from([("NodeNum".to_owned(), node.to_string())]);
        all.extend(elements.iter().map(|(name, value)| ((*name).to_owned(), clean(value))));
        Self(all)
    }

    /// The value of an element.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// This instance on a node: `NodeNum` is added where it is not there.
    ///
    /// # Errors
    /// If it is of another node.
    pub fn at(mut self, node: NodeNumber) -> Result<Self, VectorError> {
        match self.get("NodeNum") {
            Some(other) if other != node.to_string() => {
                let what = format!("NodeNum is {other}, but it is a value of node {node}");
                return Err(VectorError::new(what, "Leave NodeNum out; it is added."));
            }
            Some(_) => {}
            None => {
                self.0.insert("NodeNum".into(), node.to_string());
            }
        }
        Ok(self)
    }

    /// The node it belongs to: the element `NodeNum`.
    pub fn node(&self) -> Option<NodeNumber> {
        self.get("NodeNum")?.parse().ok().map(NodeNumber)
    }
}

impl Pattern {
    /// Reads `NodeNum=*;ProgName=rwhod;UserName=root`. An empty text matches every instance.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(text: &str) -> Result<Self, VectorError> {
        let wild = |value: String| (value != "*").then_some(value);
        Ok(Self(elements(text)?.into_iter().map(|(name, value)| (name, wild(value))).collect()))
    }

    /// Whether an instance is meant.
    pub fn matches(&self, instance: &Instance) -> bool {
        self.0.iter().all(|(name, wanted)| match wanted {
            None => true,
            Some(value) => instance.get(name) == Some(value.as_str()),
        })
    }

    /// The names of its elements.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value that an element has to have; none if every one will do.
    pub fn wanted(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }
}

fn elements(text: &str) -> Result<BTreeMap<String, String>, VectorError> {
    const FORM: &str = "Write name=value;name=value, such as NodeNum=*;ProgName=rwhod.";
    let mut elements = BTreeMap::new();
    let text = text.trim();
    if text.is_empty() {
        return Ok(elements);
    }
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(VectorError::new(
            format!("the instance vector is longer than {LONGEST} bytes or has control characters"),
            FORM,
        ));
    }
    for (place, element) in text.split(';').enumerate() {
        let Some((name, value)) = element.split_once('=') else {
            let what =
                format!("element {} of the instance vector, `{element}`, has no =", place + 1);
            return Err(VectorError::new(what, FORM));
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(VectorError::new(format!("`{name}` is no name of an element"), FORM));
        }
        if value.is_empty() {
            let what = format!("{name} has no value");
            return Err(VectorError::new(what, "Write a value, or * for every value."));
        }
        if elements.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(VectorError::new(format!("{name} is there twice"), "Remove one of both."));
        }
    }
    Ok(elements)
}

/// `NodeNum` first, then the others in the order of their names.
fn print<'a>(
    f: &mut fmt::Formatter<'_>,
    elements: impl Iterator<Item = (&'a String, &'a str)>,
) -> fmt::Result {
    let mut elements: Vec<_> = elements.collect();
    elements.sort_by_key(|(name, _)| (*name != "NodeNum", *name));
    for (place, (name, value)) in elements.into_iter().enumerate() {
        write!(f, "{}{name}={value}", if place > 0 { ";" } else { "" })?;
    }
    Ok(())
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0.iter().map(|(name, value)| (name, value.as_str())))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0.iter().map(|(name, value)| (name, value.as_deref().unwrap_or("*"))))
    }
}

impl TryFrom<String> for Instance {
    type Error = VectorError;

    fn try_from(text: String) -> Result<Self, VectorError> {
        Self::parse(&text)
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> Self {
        instance.to_string()
    }
}
