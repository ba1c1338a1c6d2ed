//! The rules and recovery programs that Vedette has by itself: the very texts in `rules/`.
//!
//! A program is recognised by its file name, whatever folder the rules name it in, so that rules
//! written for another product run with these programs.

/// The built-in rules.
pub const RULES: &str = include_str!("../../rules/rules");

/// The built-in recovery programs, by file name.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("node_up.rp", include_str!("../../rules/node_up.rp")),
    ("node_down.rp", include_str!("../../rules/node_down.rp")),
    ("network_up.rp", include_str!("../../rules/network_up.rp")),
    ("network_down.rp", include_str!("../../rules/network_down.rp")),
    ("swap_adapter.rp", include_str!("../../rules/swap_adapter.rp")),
    ("join_standby.rp", include_str!("../../rules/join_standby.rp")),
    ("fail_standby.rp", include_str!("../../rules/fail_standby.rp")),
    ("reconfig_topology.rp", include_str!("../../rules/reconfig_topology.rp")),
    ("reconfig_resource.rp", include_str!("../../rules/reconfig_resource.rp")),
    ("group_move.rp", include_str!("../../rules/group_move.rp")),
];

/// Names of the rules of predefined events.
pub const EVENTS: &[&str] = &[
    "TE_JOIN_NODE",
    "TE_FAIL_NODE",
    "TE_JOIN_NETWORK",
    "TE_FAIL_NETWORK",
    "TE_SWAP_ADAPTER",
    "TE_JOIN_STANDBY",
    "TE_FAIL_STANDBY",
    "TE_DARE_TOPOLOGY",
    "TE_DARE_RESOURCE",
    "TE_GROUP_MOVE",
];

/// The text of the built-in program with the file name of that path.
pub fn program(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next()?;
    PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
