//! Fencing: a program that can cut a node off from power or disks, asked to do so.
//!
//! Agents of the `fence-agents` family read `key=value` lines on standard input and answer with
//! their exit status: 0 means that the node is certainly off (or was restarted). Nothing else does:
//! an agent that hangs, fails or is missing proves nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use vedette_core::definition::FenceDef;
use vedette_core::document::Finding;
use vedette_core::model::RunOutcome;

use crate::process::{self, PATH, Program};
use crate::transcript::Tape;

/// What the names of agents begin with.
const PREFIX: &str = "fence_";

/// What has that beginning and is no agent: a person answers, or a helper of the agents.
const NO_AGENTS: [&str; 2] = ["fence_ack_manual", "fence_kdump_send"];

/// Fences a node: calls its agent with the configured action. Only [`RunOutcome::succeeded`] is
/// evidence. All that it prints goes into the transcript, which is ended.
pub async fn fence(def: &FenceDef, node: &str, tape: Option<Tape>) -> RunOutcome {
    let mut outcome = call(def, node, &def.action, tape.clone()).await;
    if let Some(tape) = tape {
        outcome.transcript = tape.end(&outcome.summary()).await;
    }
    outcome
}

/// Asks the agent for another action, such as `status` or `monitor`, which cut nobody off.
pub async fn ask(def: &FenceDef, node: &str, action: &str) -> RunOutcome {
    call(def, node, action, None).await
}

async fn call(def: &FenceDef, node: &str, action: &str, tape: Option<Tape>) -> RunOutcome {
    match program(def, node, action) {
        Ok(program) => process::run(program.tape(tape)).await,
        Err(why) => process::not_started(why),
    }
}

fn program(def: &FenceDef, node: &str, action: &str) -> Result<Program, String> {
    let input = input(def, node, action)?;
    let time = Duration::from_millis(def.timeout_ms);
    let program = Program::new([def.agent.as_str()], time).environment([("LC_ALL", "C")]);
    program.dies_with_us().stdin(&input).map_err(|error| error.to_string())
}

/// The lines on standard input. A line end in a value would be another option.
fn input(def: &FenceDef, node: &str, action: &str) -> Result<String, String> {
    let fixed = [("action", action), ("nodename", node)];
    let options = def.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let options = options.filter(|(key, _)| fixed.iter().all(|(name, _)| name != key));
    let mut text = String::new();
    for (key, value) in options.chain(fixed) {
        let bad = |text: &str| text.contains(['\n', '\r', '\0']);
        if bad(key) || bad(value) || key.is_empty() || key.contains('=') {
            return Err(format!("the option {key:?} of {} cannot be passed on", def.agent));
        }
        text.push_str(&format!("{key}={value}\n"));
    }
    Ok(text)
}

/// The agents that are installed here.
pub fn agents() -> Vec<String> {
    let entries = PATH.split(':').filter_map(|directory| std::fs::read_dir(directory).ok());
    let names =
        entries.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let agents = names.filter(|name| name.starts_with(PREFIX) && !NO_AGENTS.contains(&&**name));
    agents.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What stands in the way of fencing `node`, without asking the agent.
pub fn verify(def: &FenceDef, node: &str) -> Vec<Finding> {
    let finding = |what: String, advice: &str| {
        let key = format!("fencing of {node}");
        Finding { line: None, key, what, advice: advice.into(), error: true }
    };
    let mut found = Vec::new();
    let there = match def.agent.contains('/') {
        true => Path::new(&def.agent).exists(),
        false => process::find_in(PATH, &def.agent).is_some(),
    };
    if !there {
        let what = format!("the fence agent {} is not here", def.agent);
        found.push(finding(what, "Install it on every node: apt-get install fence-agents."));
    }
    if !["off", "reboot"].contains(&def.action.as_str()) {
        let what = format!("`{}` cuts nobody off", def.action);
        found.push(finding(what, "Write off or reboot."));
    }
    if let Err(what) = input(def, node, &def.action) {
        found.push(finding(what, "Write it on one line."));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn def(options: BTreeMap<String, String>) -> FenceDef {
        FenceDef { agent: "fence_x".into(), options, action: "off".into(), timeout_ms: 1 }
    }

    proptest::proptest! {
        /// No value can smuggle in an option, least of all another action.
        #[test]
        fn there_is_one_action_and_it_is_ours(
            options in proptest::collection::btree_map("\\PC{0,8}|action|plug", "(\\PC|\n){0,8}", 0..5)
        ) {
            if let Ok(text) = input(&def(options), "n2", "off") {
                let actions = text.lines().filter(|line| line.starts_with("action="));
                proptest::prop_assert_eq!(actions.collect::<Vec<_>>(), ["action=off"]);
            }
        }
    }
}
