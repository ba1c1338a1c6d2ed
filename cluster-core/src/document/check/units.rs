//! Names of systemd units, as they may stand in a document.
//!
//! Whether a unit exists on a node, restarts itself or starts at boot is for each node to see for itself
//! when it verifies the document; here is what can be said without a machine.

use super::Finding;

/// The longest name that systemd takes.
const LONGEST: usize = 255;

/// Programs that have a service manager start something, by their last name.
const MANAGERS: [&str; 3] = ["systemctl", "service", "invoke-rc.d"];

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

/// A start program that only has a service manager start something leaves nothing in the control group of
/// its resource.
pub(super) fn asked_for(key: &str, start: &[String], found: &mut Vec<Finding>) {
    let program = start.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    if MANAGERS.contains(&program) {
        let what =
            format!("{program} has systemd start it, where the end of the lease does not end it");
        let advice = "Make the unit the resource: kind = \"systemd\" and unit = \"NAME.service\".";
        found.push(Finding::warning(key, what, advice));
    }
}
