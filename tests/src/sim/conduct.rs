//! How scripts and resources behave in a story: which fail, where, how often.
//!
//! The simulation draws such things from its seed. A story says them, and has resources started and
//! stopped one by one, as the product's executor does, each with a word to the cluster. All of it is
//! the `Conduct` of a world; a world without a story has an empty one and is not changed by it.

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::event::CommandOutcome;
use vedette_core::model::RunOutcome;

use super::world::{MS, World};

/// How an event script behaves on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// It fails so many times; for ever if that is not said.
    Fails(Option<u32>),
    /// It does not end by itself.
    Hangs,
}

/// What a story says about scripts, resources and fence agents.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// Resources are started and stopped one by one, and each is told.
    pub(super) in_detail: bool,
    /// Event scripts that do not do what they should, by node and name.
    pub(super) scripts: BTreeMap<(usize, String), Script>,
    /// Resources that cannot be started on a node.
    pub(super) no_start: BTreeSet<(usize, String)>,
    /// Resources that cannot be stopped on a node.
    pub(super) no_stop: BTreeSet<(usize, String)>,
    /// What a node finds in a document that it verifies.
    pub(super) findings: BTreeMap<usize, Vec<String>>,
    /// Nothing stands behind a guard's release: no kernel gate, no watchdog.
    pub(super) unbacked: BTreeSet<usize>,
    /// Fence agents do not reach what they are to switch off.
    pub(super) fences_fail: bool,
}

impl World {
    /// Whether one of these commands hangs on a node, and its time is not up.
    pub(super) fn hangs(&self, node: usize, commands: &[(usize, String)], began: u64) -> bool {
        let limit = self.machines[node].state.definition.manager.command_timeout_ms * MS;
        self.now - began < limit && commands.iter().any(|(_, line)| self.is_stuck(node, line))
    }

    fn is_stuck(&self, node: usize, line: &str) -> bool {
        self.conduct.scripts.get(&(node, line.to_owned())) == Some(&Script::Hangs)
    }

    /// Whether one of these commands will not do its work on a node.
    pub(super) fn misbehaves(&self, node: usize, commands: &[(usize, String)]) -> bool {
        let retries = self.retries(node);
        commands.iter().any(|(_, line)| match self.conduct.scripts.get(&(node, line.clone())) {
            Some(Script::Fails(times)) => times.is_none_or(|times| times > retries),
            Some(Script::Hangs) => true,
            None => false,
        })
    }

    /// How often a command of the event in progress is tried again (spec H19).
    fn retries(&self, node: usize) -> u32 {
        let state = &self.machines[node].state;
        let name = state.manager.current.as_ref().map(|running| running.event.trigger.name());
        name.and_then(|name| state.definition.hooks.get(name)).map_or(0, |hooks| hooks.retries)
    }

    /// How a command ends that a story has something to say about.
    pub(super) fn told_outcome(
        &mut self,
        node: usize,
        (index, command): (usize, &str),
        expected: Option<i32>,
        stuck: bool,
    ) -> CommandOutcome {
        if stuck {
            let outcome =
                RunOutcome { output: "a group cannot be released".into(), ..ended(Some(2)) };
            let expected = expected.is_none_or(|wanted| wanted == 2);
            return CommandOutcome { index, command: command.into(), expected, runs: 1, outcome };
        }
        let retries = self.retries(node);
        let key = (node, command.to_owned());
        let (exit, runs) = match self.conduct.scripts.get_mut(&key) {
            None => (Some(0), 1),
            Some(Script::Hangs) => (None, 1),
            Some(Script::Fails(None)) => (Some(1), retries + 1),
            Some(Script::Fails(Some(times))) => {
                let failures = (*times).min(retries + 1);
                *times -= failures;
                if failures > retries { (Some(1), failures) } else { (Some(0), failures + 1) }
            }
        };
        if self.conduct.scripts.get(&key) == Some(&Script::Fails(Some(0))) {
            self.conduct.scripts.remove(&key);
        }
        let fine = exit.is_some() && expected.is_none_or(|wanted| exit == Some(wanted));
        let words = |_: &i32| format!("{command}: no such device\n");
        let output = exit.as_ref().filter(|status| **status != 0).map(words).unwrap_or_default();
        let outcome = RunOutcome { output, timed_out: exit.is_none(), ..ended(exit) };
        CommandOutcome { index, command: command.into(), expected: fine, runs, outcome }
    }

    /// The names of a group's resources, as its instance on a node knows them.
    pub(super) fn resources_of(&self, node: usize, group: &str) -> Vec<String> {
        let state = &self.machines[node].state;
        let retired = state.groups.get(group).and_then(|group| group.retired.as_ref());
        let definition = retired.or_else(|| state.definition.group(group));
        let each = definition.into_iter().flat_map(|group| &group.resources);
        each.map(|resource| resource.name.clone()).collect()
    }

    /// A resource ends by itself, and its monitor sees it.
    pub(super) fn resource_ends(&mut self, node: usize, resource: &str) -> Result<(), String> {
        let lives = &mut self.machines[node].kernel.lives;
        let before = lives.len();
        lives.retain(|(_, name), _| name != resource);
        (lives.len() < before).then_some(()).ok_or_else(|| format!("{resource} does not run there"))
    }
}

/// How a program ended.
pub(super) fn ended(exit: Option<i32>) -> RunOutcome {
    RunOutcome {
        exit,
        signal: None,
        timed_out: false,
        failure: None,
        output: String::new(),
        output_dropped: 0,
        duration_ms: 30,
        version: 0,
        transcript: None,
    }
}
