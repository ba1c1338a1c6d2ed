//! Ports: named memberships with a generation, and the text `gabconfig -a` prints for them
//! (spec V7, V8).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::Port;
use vedette_core::view::View;

/// A port: `a` is communication, `h` the cluster manager, and each network has its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortDoc {
    /// Its name.
    pub name: String,
    /// Long name of its group.
    pub group: String,
    /// The revision at which its membership last changed.
    pub generation: u64,
    /// Whether its members are known. If not, at most the answering node is among them.
    #[serde(default)]
    pub known: bool,
    /// The names of its members.
    pub members: Vec<String>,
    /// Their numbers.
    pub numbers: Vec<u16>,
    /// The membership as `gabconfig -a` prints it.
    #[schema(example = "01        ; 2        01")]
    pub membership: String,
}

impl PortDoc {
    /// One port of a view.
    pub fn new(view: &View, name: &str, port: &Port) -> Self {
        Self {
            name: name.into(),
            group: port.group.clone(),
            generation: port.generation,
            known: view.local.knows(),
            members: port.members.iter().map(|node| view.state.node_name(*node)).collect(),
            numbers: port.members.iter().map(|node| node.0).collect(),
            membership: port.membership_text(),
        }
    }

    /// Every port: `a` and `h` first, then the networks'.
    pub fn all(view: &View) -> Vec<Self> {
        let ports = &view.state.ports;
        let ours = ["a", "h"].into_iter().filter_map(|name| ports.get_key_value(name));
        let networks = ports.iter().filter(|(name, _)| !matches!(name.as_str(), "a" | "h"));
        ours.chain(networks).map(|(name, port)| Self::new(view, name, port)).collect()
    }
}
