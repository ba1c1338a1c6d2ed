//! Every configuration in `testdata/config`, each with what is found in it.
//!
//! `name.toml` is the configuration, `name.expected` the findings as a person reads them (or what
//! holds, if nothing is wrong). `UPDATE_EXPECT=1` writes the expectations anew; read the diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vedette_core::config::{self, Checked, Config, Level};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config")
}

/// What holds, in words.
fn describe(config: &Config) -> String {
    let mut text = String::new();
    let number = config.number.map_or("any number".to_owned(), |number| format!("number {number}"));
    let settings = &config.settings;
    writeln!(text, "node {}, {number}, cluster {}", config.name, config.cluster).unwrap();
    writeln!(text, "seed {}, {} voters", settings.seed_count, settings.voters).unwrap();
    for (number, network) in &config.networks {
        writeln!(
            text,
            "network {number} {}: {} {} beat {} peer {} ping {:?}",
            network.name,
            network.address,
            network.priority,
            network.beat_port,
            network.peer_port,
            network.ping
        )
        .unwrap();
    }
    writeln!(text, "detection after {} ms", settings.timing.detect().as_millis()).unwrap();
    writeln!(text, "http {:?}", config.http).unwrap();
    writeln!(text, "snmp {}", config.snmp.as_ref().map_or("off".into(), ToString::to_string))
        .unwrap();
    writeln!(text, "alert {:?} mail {:?}", config.alert.user, config.alert.mail_to).unwrap();
    writeln!(text, "log {:?} {}", config.log.format, config.log.level).unwrap();
    writeln!(text, "state {}", config.state_dir.display()).unwrap();
    writeln!(text, "control {}", config.control.display()).unwrap();
    text
}

fn outcome(text: &str) -> String {
    match config::parse("vedette.toml", text, "host1") {
        Ok(Checked { config, warnings }) if warnings.0.is_empty() => describe(&config),
        Ok(Checked { config, warnings }) => format!("{warnings}\n----\n{}", describe(&config)),
        Err(findings) => format!("{findings}\n"),
    }
}

#[test]
fn every_configuration_has_the_expected_findings() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() > 20, "the configurations are in {}", folder().display());
    let mut wrong = Vec::new();
    for file in files {
        let found = outcome(&std::fs::read_to_string(&file).unwrap());
        let expectation = file.with_extension("expected");
        if update {
            std::fs::write(&expectation, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expectation).unwrap_or_default();
        if found != expected {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            wrong.push(format!("{name}:\n{found}---- expected\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 rewrites:\n{}", wrong.join("\n"));
}

/// A bad file is refused, a good one is not: the name says which it is.
#[test]
fn only_the_good_configurations_are_accepted() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let good = name.starts_with("good") || name.starts_with("warn");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(config::parse(&name, &text, "host1").is_ok(), good, "{name}");
    }
}

#[test]
fn the_name_of_the_host_is_checked_too() {
    let text = std::fs::read_to_string(folder().join("good_minimal.toml")).unwrap();
    let findings = config::parse("f", &text, "a host").unwrap_err();
    assert_eq!(findings.0[0].key, "node.name");
    assert_eq!(findings.0[0].level, Level::Error);
}

/// Pieces from which texts are made that are nearly configurations.
const PIECES: &[&str] = &[
    "[node]\n",
    "[[network]]\n",
    "[network]\n",
    "[timing]\n",
    "name",
    "address",
    "interval_ms",
    "number",
    " = ",
    "\"neta\"",
    "\"10.0.1.1\"",
    "\"::1\"",
    "-1",
    "9223372036854775807",
    "0x10",
    "1.5",
    "true",
    "[1, 2]",
    "{ a = 1 }",
    "\n",
    "#",
    "\"",
    "ä",
    "1979-05-27",
];

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = config::parse("f", &text, "n1");
    }

    #[test]
    fn no_text_that_is_nearly_right_makes_it_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)
    ) {
        let text = pieces.concat();
        if let Err(findings) = config::parse("f", &text, "n1") {
            prop_assert!(!findings.0.is_empty());
            for finding in findings.0 {
                prop_assert!(finding.line.unwrap_or(1) <= 1 + text.matches('\n').count());
                prop_assert!(finding.advice.ends_with(['.', '?']), "{}", finding.advice);
            }
        }
    }
}
