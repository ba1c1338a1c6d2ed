//! Names of systemd units, as they may stand in a document.
//!
//! Whether a unit exists on a node, restarts itself or starts at boot is for each node to see for itself
//! when it verifies the document; here is what can be said without a machine.

use super::Finding;

/// The longest name that systemd takes.
const LONGEST: usize = 255;

/// Programs that have a service manager start something, by their last name.
const MANAGERS: [&str; 4] = ["systemctl", "service", "invoke-rc.d", "systemd-run"];

/// Programs that have an engine start a container, by their last name.
const ENGINES: [&str; 10] = [
    "docker",
    "podman",
    "nerdctl",
    "ctr",
    "crictl",
    "lxc",
    "lxc-start",
    "machinectl",
    "docker-compose",
    "podman-compose",
];

/// Whether it is the name of a service that a group can have.
pub(super) fn name(key: &str, unit: &str, found: &mut Vec<Finding>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let bare = unit.strip_suffix(".service").filter(|bare| {
        !bare.is_empty()
            && unit.len() <= LONGEST
            && bare.chars().all(fits)
            && !bare.starts_with(['-', '.', '@'])
    });
    let (what, advice) = match bare {
        None => {
            let stem = unit.rsplit('/').next().and_then(|name| name.split('.').next());
            let stem = stem
                .filter(|stem| stem.starts_with(char::is_alphanumeric) && stem.chars().all(fits));
            let example = stem.unwrap_or("nginx");
            (
                format!("{unit:?} is no service of systemd"),
                format!("Write its whole name: unit = \"{example}.service\"."),
            )
        }
        Some(bare) if bare.ends_with('@') => (
            format!("{unit} is a template, of which nothing can be started"),
            format!("Name an instance of it: unit = \"{bare}1.service\"."),
        ),
        Some("vedette") => (
            format!("{unit} is Vedette itself, which cannot stop and start itself"),
            "Name another unit.".to_owned(),
        ),
        Some(_) => return,
    };
    found.push(Finding::error(key, what, advice));
}

/// A start program that only has a service manager, or an engine, start something leaves nothing in the control group
/// of its resource, or nothing but a client.
pub(super) fn asked_for(key: &str, start: &[String], found: &mut Vec<Finding>) {
    let words = start
        .iter()
        .flat_map(|argument| argument.split(|c: char| c.is_whitespace() || ";&|()".contains(c)));
    let asks = |word: &str| {
        let program = word.rsplit('/').next().unwrap_or_default();
        let old = ["/etc/init.d/", "/etc/rc.d/"].iter().any(|folder| word.starts_with(folder));
        if old {
            Some((word.to_owned(), "systemd"))
        } else if MANAGERS.contains(&program) {
            Some((program.to_owned(), "systemd"))
        } else {
            ENGINES.contains(&program).then(|| (program.to_owned(), "an engine"))
        }
    };
    // What a script does cannot be seen; of one that stands here every command can.
    let shell = start.first().is_some_and(|first| first.ends_with("sh"));
    let Some((asked, whom)) = words.take(if shell { usize::MAX } else { 1 }).find_map(asks) else {
        return;
    };
    let what = format!("{asked} has {whom} start it, where the end of the lease does not end it");
    let advice = match whom {
        "systemd" => "Make the unit the resource: kind = \"systemd\" and unit = \"NAME.service\".",
        _ => {
            "Tell the engine where (docker run --cgroup-parent=vedette-NAME.slice) and name that here: \
             control_group = \"vedette-NAME.slice\"; or name a release program."
        }
    };
    found.push(Finding::warning(key, what, advice));
}

/// Agents of engines leave nothing in the control group of their resource.
pub(super) fn engine_agent(key: &str, agent: &str, found: &mut Vec<Finding>) {
    if ENGINES.contains(&agent) || agent == "rkt" {
        let what =
            format!("{agent} has an engine start it, where the end of the lease does not end it");
        let advice = "Name a release program that ends it, such as release = [\"/usr/bin/docker\", \"kill\", \"NAME\"].";
        found.push(Finding::warning(key, what, advice));
    }
}
