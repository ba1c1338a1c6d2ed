//! What systemd says of a unit: `systemctl show`, whose output is made to be read by programs.

use std::collections::BTreeMap;

/// Properties that are asked for.
pub(super) const WANTED: &str = "--property=Id,LoadState,ActiveState,SubState,Result,UnitFileState,\
                                 ControlGroup,DropInPaths,ConditionResult,TriggeredBy,Type,\
                                 RemainAfterExit";

/// Answers of one unit; what systemd of an old release does not know is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties(BTreeMap<String, String>);

/// How a unit is, as far as its group has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Started.
    Active,
    /// Between two states.
    Changing,
    /// Stopped, or failed.
    Inactive,
}

impl Properties {
    /// Lines of `name=value`.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A property.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// How it is. An answer without a state is none.
    pub(super) fn activity(&self) -> Option<Activity> {
        match self.get("ActiveState") {
            "active" | "reloading" | "refreshing" => Some(Activity::Active),
            "inactive" | "failed" => Some(Activity::Inactive),
            "" => None,
            _ => Some(Activity::Changing),
        }
    }

    /// Its state in words: `failed (Result: signal)`.
    pub(super) fn words(&self) -> String {
        let (state, sub, result) =
            (self.get("ActiveState"), self.get("SubState"), self.get("Result"));
        let sub = if sub.is_empty() || sub == state { String::new() } else { format!(", {sub}") };
        match result {
            "" | "success" => format!("{state}{sub}"),
            result => format!("{state}{sub} (result {result})"),
        }
    }

    /// Why it can be started nowhere on this machine, and what would help.
    pub(super) fn unfit(&self, unit: &str) -> Option<(String, String)> {
        let said = match self.get("LoadState") {
            "not-found" => (
                format!("there is no unit {unit} on this node"),
                "Install it on every node of the group, or correct its name: systemctl list-unit-files."
                    .to_owned(),
            ),
            "masked" => (
                format!("{unit} is masked: systemd refuses to start it"),
                format!("Unmask it on this node: systemctl unmask {unit}."),
            ),
            "loaded" | "" => return self.unfit_loaded(unit),
            other => (
                format!("systemd cannot load {unit}: {other}"),
                format!("See what is wrong with it: systemctl status {unit}."),
            ),
        };
        Some(said)
    }

    fn unfit_loaded(&self, unit: &str) -> Option<(String, String)> {
        let id = self.get("Id");
        if !id.is_empty() && id != unit {
            let what = format!("{unit} is another name of {id}");
            return Some((what, format!("Name the unit itself: unit = \"{id}\".")));
        }
        if self.get("Type") == "oneshot" && self.get("RemainAfterExit") == "no" {
            let what = format!("{unit} is over as soon as it has started (Type=oneshot)");
            let advice = "Set RemainAfterExit=yes in it, or let it run a service that stays.";
            return Some((what, advice.to_owned()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart() {
        let of = |text: &str| Properties::parse(text).activity();
        assert_eq!(of("ActiveState=active\nSubState=exited"), Some(Activity::Active));
        assert_eq!(of("ActiveState=activating\nSubState=auto-restart"), Some(Activity::Changing));
        assert_eq!(of("ActiveState=deactivating"), Some(Activity::Changing));
        assert_eq!(of("ActiveState=failed"), Some(Activity::Inactive));
        assert_eq!(of("no answer"), None, "silence is no state");
        let failed = "ActiveState=failed\nSubState=failed\nResult=signal";
        assert_eq!(Properties::parse(failed).words(), "failed (result signal)");
        assert_eq!(
            Properties::parse("ActiveState=active\nSubState=running").words(),
            "active, running"
        );
    }

    #[test]
    fn what_cannot_be_a_resource_is_said_with_what_helps() {
        for (text, what, advice) in [
            ("LoadState=not-found", "no unit web.service", "systemctl list-unit-files"),
            ("LoadState=masked", "is masked", "systemctl unmask web.service"),
            ("LoadState=bad-setting", "cannot load web.service", "systemctl status web.service"),
            (
                "LoadState=loaded\nId=httpd.service",
                "another name of httpd",
                "unit = \"httpd.service\"",
            ),
            (
                "LoadState=loaded\nType=oneshot\nRemainAfterExit=no",
                "over as soon",
                "RemainAfterExit",
            ),
        ] {
            let (said, help) = Properties::parse(text).unfit("web.service").expect(text);
            assert!(said.contains(what) && help.contains(advice), "{said}: {help}");
        }
        let fits = "LoadState=loaded\nId=web.service\nType=notify\nRemainAfterExit=no";
        assert_eq!(Properties::parse(fits).unfit("web.service"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_it_says_never_panics(text in "\\PC{0,80}") {
            let said = Properties::parse(&text);
            let _ = (said.activity(), said.words(), said.unfit("web.service"));
        }
    }
}
