//! The event scripts as they run, and how their names are resolved.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use tempfile::TempDir;
use vedette_core::rules::{RuleStore, built_in, program};

use super::*;

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it; a file that was written a moment ago may still be held open by a child of another test.
fn output(command: &mut Command) -> Output {
    loop {
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
            outcome => return outcome.unwrap(),
        }
    }
}

/// A place with the scripts and a `vedette` that prints what it is asked; for `bad` it fails.
struct Place {
    dir: TempDir,
    scripts: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scripts = materialise(dir.path()).unwrap();
        let fake = "#!/bin/sh\necho \"did $*\"\n[ \"$5\" = bad ] && exit 3\nexit 0\n";
        write(&dir.path().join("vedette"), fake, 0o755);
        Self { dir, scripts }
    }

    fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(self.scripts.join(script));
        let variables = variables.iter().copied();
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LOCALNODENAME", "n1");
        command.env("VEDETTE", self.dir.path().join("vedette"));
        command.env("VEDETTE_CONTROL", "/the/socket").env("VEDETTE_EVENTS", &self.scripts);
        output(command.envs(variables))
    }

    /// What a script asked of `vedette`, in any order, and its status.
    fn asked(&self, script: &str, variables: &[(&str, &str)]) -> (BTreeSet<String>, Option<i32>) {
        let output = self.run(script, variables);
        assert_eq!(text(&output.stderr), "", "{script}");
        let printed = text(&output.stdout);
        let asked = printed.lines().filter_map(|line| line.strip_prefix("did "));
        let asked = asked.filter_map(|line| line.strip_prefix("--control /the/socket resource "));
        (asked.map(str::to_owned).collect(), output.status.code())
    }
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// H13, H24: each script releases and acquires what the plan gives to this node, and nothing else.
#[test]
fn scripts_do_what_the_plan_says() {
    let place = Place::new();
    let both = [("VEDETTE_RELEASE", "web"), ("VEDETTE_ACQUIRE", "db mail")];
    let released: &[&str] = &["release web"];
    let acquired: &[&str] = &["acquire db", "acquire mail"];
    let all: &[&str] = &["release web", "acquire db", "acquire mail"];
    for (script, location, wanted) in [
        ("node_up", "n2", all),
        ("node_up", "n1", all),
        ("node_up_complete", "n2", &[]),
        ("node_down", "n1", all),
        ("node_down", "n2", all),
        ("node_down_complete", "n2", &[]),
        ("network_up", "neta", all),
        ("network_up_complete", "neta", &[]),
        ("network_down", "neta", all),
        ("network_down_complete", "neta", &[]),
        ("swap_adapter", "n1", &["swap neta"]),
        ("swap_adapter_complete", "n1", &[]),
        ("join_standby", "n1", &[]),
        ("fail_standby", "n1", &[]),
        ("reconfig_topology", "all", all),
        ("reconfig_topology_complete", "all", &[]),
        ("reconfig_resource_release", "all", released),
        ("reconfig_resource_acquire", "all", acquired),
        ("reconfig_resource_complete", "all", &[]),
        ("group_release", "all", released),
        ("group_acquire", "all", acquired),
    ] {
        let mut variables = both.to_vec();
        variables.push(("EVLOCATION", location));
        if script == "swap_adapter" {
            variables.push(("VEDETTE_NETWORK", "neta"));
        }
        let found = place.asked(script, &variables);
        assert_eq!(found, (set(wanted), Some(0)), "{script} at {location}");
        // With nothing to do it succeeds, too.
        assert_eq!(place.asked(script, &[("EVLOCATION", location)]).1, Some(0), "{script}");
    }
}

/// H17, H18: the status is the worst of all groups, and the others are done all the same.
#[test]
fn the_status_is_the_worst_of_all() {
    let place = Place::new();
    let (asked, status) = place.asked("group_acquire", &[("VEDETTE_ACQUIRE", "web bad db")]);
    assert_eq!(asked, set(&["acquire web", "acquire bad", "acquire db"]));
    assert_eq!(status, Some(3));
    let output = place.run("group_acquire", &[("VEDETTE_ACQUIRE", "bad")]);
    assert!(text(&output.stdout).contains("acquire bad failed with status 3"));
}

/// H17: what a node has to release and to acquire anew it does in that order, and not if the first fails.
#[test]
fn a_group_is_released_before_it_is_acquired_anew() {
    let place = Place::new();
    let both = [("VEDETTE_RELEASE", "bad web"), ("VEDETTE_ACQUIRE", "db web bad")];
    let output = place.run("node_up", &both);
    let printed = text(&output.stdout);
    let done = |what: &str| printed.find(&format!("did --control /the/socket resource {what}"));
    assert!(done("release web") < done("acquire web"), "{printed}");
    assert!(done("acquire db").is_some() && done("release bad").is_some(), "{printed}");
    assert_eq!((done("acquire bad"), output.status.code()), (None, Some(3)), "{printed}");
}

/// H20: VERBOSE_LOGGING makes a script trace itself.
#[test]
fn scripts_trace_themselves() {
    let place = Place::new();
    let traced = place.run("node_down_complete", &[("VERBOSE_LOGGING", "high")]);
    assert!(text(&traced.stderr).contains("+ say"), "{}", text(&traced.stderr));
    assert_eq!(text(&place.run("node_down_complete", &[("VERBOSE_LOGGING", "low")]).stderr), "");
}

/// H13: each script says what it is for, and refuses what it does not know, doing nothing.
#[test]
fn scripts_explain_themselves() {
    let place = Place::new();
    for (name, _) in BUILT_IN {
        let run = |argument: &str| {
            output(Command::new(place.scripts.join(name)).arg(argument).env_clear())
        };
        let help = run("--help");
        assert!(help.status.success(), "{name}: {}", text(&help.stderr));
        assert!(text(&help.stdout).starts_with(&format!("Usage: {name}\n\n")), "{name}");
        assert!(text(&help.stdout).lines().all(|line| line.len() <= 100), "{name}");
        assert_eq!(run("--nonsense").status.code(), Some(64), "{name}");
    }
}

/// H13: no script has what a shell checker finds wrong.
#[test]
fn scripts_are_without_findings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    let mut names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    names.push(LIBRARY.0);
    let checked = Command::new("shellcheck").arg("-x").args(&names).current_dir(&folder).output();
    let output = checked.expect("shellcheck is there: apt-get install shellcheck");
    assert!(output.status.success(), "{}", text(&output.stdout));
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, names.len(), "every file of the folder is built in");
}

/// H13, H17: every command of every built-in recovery program is a built-in script.
#[test]
fn built_in_programs_name_built_in_scripts() {
    let place = Place::new();
    let mut used = BTreeSet::new();
    for (path, text) in built_in::PROGRAMS {
        let (program, _) = program::parse(path, text);
        for line in program.phases.iter().flatten() {
            let argv = resolve_in(Path::new("/nowhere"), &place.scripts, &line.command).unwrap();
            assert_eq!(argv, [place.scripts.join(&line.command).display().to_string()]);
            used.insert(line.command.clone());
        }
    }
    assert_eq!(used, BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect());
    assert_eq!(RuleStore::default().active, 0);
}

/// H13: a site's script goes before the built-in one; what cannot be run is said with advice.
#[test]
fn a_site_replaces_scripts() {
    let place = Place::new();
    let site = place.dir.path().join("site");
    std::fs::create_dir(&site).unwrap();
    let resolve = |line: &str| resolve_in(&site, &place.scripts, line);
    let own = site.join("node_up");
    write(&own, "#!/bin/sh\n", 0o755);
    assert_eq!(resolve("node_up").unwrap(), [own.display().to_string()]);
    assert_eq!(resolve("/bin/sh -c true").unwrap(), ["/bin/sh", "-c", "true"]);
    write(&own, "#!/bin/sh\n", 0o644);
    std::fs::create_dir(site.join("tell")).unwrap();
    for (line, what, advice) in [
        ("node_up", "is not executable", "chmod +x"),
        ("tell", "is no file", "Name a program"),
        ("node_upp", "there is no event script node_upp", "on every node"),
        ("functions", "neither the name of an event script", "rules check"),
        ("../node_up", "neither the name of an event script", "rules check"),
        ("/no/such/program now", "/no/such/program does not exist on this node", "on every node"),
        (" ", "the command is empty", "recovery program"),
    ] {
        let why = resolve(line).unwrap_err();
        assert!(why.what.contains(what) && why.advice.contains(advice), "{line}: {why}");
    }
}

/// H13: a recovery program can be checked on a host where no daemon ever ran.
#[test]
fn missing_commands_are_found_without_a_daemon() {
    assert_eq!(missing("node_up"), None);
    assert_eq!(missing("/bin/sh -c true"), None);
    assert!(missing("/no/such/program").unwrap().what.contains("does not exist"));
    assert!(missing("no_such_script").unwrap().what.contains("there is no event script"));
}

/// H13: what somebody changed among the built-in scripts is put right, and nothing else is touched.
#[test]
fn built_in_scripts_are_written_where_they_differ() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = |name: &str| place.scripts.join(name);
    let inode = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
    let before = inode("node_down");
    write(&path("node_up"), "changed", 0o755);
    std::fs::set_permissions(path("group_release"), PermissionsExt::from_mode(0o600)).unwrap();
    materialise(place.dir.path()).unwrap();
    for name in ["node_up", "group_release"] {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).unwrap();
        assert!(is_same(&path(name), text), "{name}");
    }
    assert_eq!(inode("node_down"), before);
}
