//! Control groups that engines fill, as they may stand in a document.
//!
//! The guard kills all that is in one when the lease ends, so it must be of one resource alone, and never one in
//! which the machine itself lives. Whether this node's own daemon lives in it is for each node to see.

use super::super::Document;
use super::{Finding, key};
use crate::group::{GroupDef, ResourceDef, nested_slice};

/// The longest path that is taken: far more than any engine makes.
const LONGEST: usize = 255;

/// Those in which the machine lives, or everything that some manager started.
const OF_THE_MACHINE: [&str; 17] = [
    "init.scope",
    "system.slice",
    "user.slice",
    "machine.slice",
    "-.slice",
    "machine",
    "lxc",
    "lxc.payload",
    "docker",
    "libpod_parent",
    "garden",
    "buildkit",
    "kubepods",
    "kubepods.slice",
    "kubelet.slice",
    "containerd",
    "system.slice/containerd",
];

/// Whether it is a path of a control group that can be one resource's.
pub(super) fn path(key: &str, path: &str, found: &mut Vec<Finding>) {
    const EXAMPLE: &str = "Write the path below the mount point of cgroup2, as the engine is told it: \
        control_group = \"vedette-web.slice\" for docker run --cgroup-parent=vedette-web.slice.";
    let parts: Vec<&str> = path.split('/').collect();
    let odd = |c: char| c.is_whitespace() || c.is_control();
    let first = parts.first().copied().unwrap_or_default();
    let (what, advice) = if path.starts_with('/') {
        (format!("{path:?} is a whole path, and not one below cgroup2"), EXAMPLE.to_owned())
    } else if path.len() > LONGEST
        || path.contains(odd)
        || parts.iter().any(|part| part.is_empty() || [".", ".."].contains(part))
    {
        (format!("{path:?} is no path of a control group"), EXAMPLE.to_owned())
    } else if first == "vedette" || first == "vedette-reapers" {
        let advice = "Take it out: what the start program leaves behind lives in a control group of the \
            cluster's anyway. It is for what an engine runs somewhere else.";
        (format!("{path} is the cluster's own, where nothing else may be"), advice.to_owned())
    } else if OF_THE_MACHINE.contains(&path) || first == "init.scope" {
        let what =
            format!("with {path} the end of a lease would end the machine, or what is others'");
        (what, format!("Give the resource one of its own. {EXAMPLE}"))
    } else if let Some(unit) = parts.last().copied().filter(|last| last.ends_with(".service")) {
        let what = format!("{path} is that of a unit of systemd, which would start it again");
        let advice =
            format!("Make the unit the resource: kind = \"systemd\" and unit = \"{unit}\".");
        (what, advice)
    } else {
        return;
    };
    found.push(Finding::error(key, what, advice));
}

/// One that lies in another would end with it.
pub(super) fn shared(document: &Document, found: &mut Vec<Finding>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (group, resource, path) in all(document) {
        let overlaps =
            |(other, _): &&(&str, &str)| is_within(path, other) || is_within(other, path);
        if let Some((other, first)) = seen.iter().find(overlaps) {
            let what = match path == *other {
                true => format!("{path} is used by {first} and by {}", resource.name),
                false => format!(
                    "of {other} and {path} one is in the other, so {first} and {} would end together",
                    resource.name
                ),
            };
            let advice = "Give each a control group of its own, beside the other.";
            found.push(Finding::error(key(group, resource, "control_group"), what, advice));
        }
        seen.push((path, &resource.name));
    }
}

fn all(document: &Document) -> impl Iterator<Item = (&GroupDef, &ResourceDef, &str)> {
    let groups = document.definition.groups.iter();
    groups.flat_map(|group| {
        let resources = group.resources.iter();
        resources.filter_map(move |it| Some((group, it, it.kind.control_group()?)))
    })
}

/// At either of the places that the first may mean.
fn is_within(path: &str, other: &str) -> bool {
    let below = |path: &str| {
        path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(path) || nested_slice(path).is_some_and(|nested| below(&nested))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lies_in_those_before_its_dashes() {
        assert_eq!(nested_slice("a-b-c.slice").as_deref(), Some("a.slice/a-b.slice/a-b-c.slice"));
        for plain in ["web.slice", "x/a-b.slice", "a-b", "", "-.slice", "-", "ä-ö"] {
            assert_eq!(nested_slice(plain), None, "{plain}");
        }
        assert!(is_within("vedette-web.slice", "vedette.slice") && is_within("web/db", "web"));
        assert!(!is_within("web", "web/db") && !is_within("webs", "web"));
    }
}
