//! Runs this node's resource monitors, and makes user-defined events of what they see (spec H29 to
//! H33).
//!
//! What is needed follows from the rules in force and the configuration, and is worked out anew when
//! they change; a monitor whose need did not change is left alone. Each monitor is a task that looks
//! on an interval; one task here takes in what they see, shows it, and lets the core's watchers say
//! what it means.
//!
//! Invariants:
//!
//! - An edge is proposed until the state has it, and changes nothing when it is proposed again: what
//!   has fired stands in the state, not here.
//! - Nothing is proposed while this node has no quorum, has not joined, or is in maintenance; an edge
//!   that is still there afterwards is seen then.
//! - A monitor that hangs is told, and is never run a second time beside itself.

mod look;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vedette_collector::monitor::{Need, Sample, Taken, needs};
use vedette_core::command::{AGENT, Command, ManagerCommand};
use vedette_core::definition::MonitorDef;
use vedette_core::event::Manager;
use vedette_core::id::{NodeNumber, Session};
use vedette_core::local_view::MonitorView;
use vedette_core::rules::Rule;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::variable::Reading;
use vedette_core::view::View;
use vedette_core::watchers::{Observed, Watchers};
use vedette_node::transcript::Transcripts;

use super::director_task::fresh_id;
use super::proposer::{Proposer, wall_time};
use super::publisher::Publisher;

/// Looks that may wait to be taken in; a monitor whose look finds no room waits.
const QUEUE: usize = 64;

/// What the task needs.
pub(crate) struct MonitorDeps {
    pub(crate) me: NodeNumber,
    pub(crate) session: Session,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    /// Where monitors may keep what they know while the machine runs.
    pub(crate) folder: PathBuf,
    /// Where is kept what programs print.
    pub(crate) transcripts: Transcripts,
}

/// What a monitor saw.
struct Look {
    name: String,
    taken: Taken,
}

/// A monitor that runs.
struct Running {
    need: Need,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the needs follow from.
#[derive(Clone, Debug, Default, PartialEq)]
struct Basis {
    rules: u32,
    monitors: Vec<MonitorDef>,
}

struct Watch {
    deps: MonitorDeps,
    basis: Option<Basis>,
    rules: Vec<Rule>,
    running: BTreeMap<String, Running>,
    watchers: Watchers,
    /// What cannot be watched, by what it is called in the state.
    troubles: BTreeMap<String, String>,
    looks: mpsc::Sender<Look>,
}

/// Runs until the process ends.
pub(crate) async fn run(deps: MonitorDeps) {
    let mut views = deps.publisher.views();
    let (sender, mut looks) = mpsc::channel(QUEUE);
    let mut watch = Watch {
        deps,
        basis: None,
        rules: Vec::new(),
        running: BTreeMap::new(),
        watchers: Watchers::default(),
        troubles: BTreeMap::new(),
        looks: sender,
    };
    loop {
        let view = views.borrow_and_update().clone();
        watch.follow(&view);
        watch.tell(&view).await;
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            Some(look) = looks.recv() => watch.take(look).await,
        }
    }
}

impl Watch {
    /// Runs what the rules and the configuration need now. Not before the agent has caught up: the
    /// state is one of the past until then.
    fn follow(&mut self, view: &View) {
        let state = &view.state;
        let basis =
            Basis { rules: state.rules.active, monitors: state.definition.monitors.clone() };
        if view.local.stage != "running" || self.basis.as_ref() == Some(&basis) {
            return;
        }
        let rules = state.rules.rules();
        let found = needs(self.deps.me, &rules, &basis.monitors);
        self.basis = Some(basis);
        self.watchers.reload(&rules);
        let same = |need: &Need| found.monitors.contains(need);
        self.running.retain(|_, running| same(&running.need));
        self.forget_troubles(&rules);
        for (rule, variable) in &found.orphans {
            self.troubles.insert(rule_label(rule), format!("no monitor yields {variable}"));
        }
        for need in found.monitors {
            self.start(need);
        }
        self.show(|_| ());
        self.rules = rules;
    }

    /// Keeps what is known of monitors that go on and of rules that did not change.
    fn forget_troubles(&mut self, rules: &[Rule]) {
        let same = |rule: &&Rule| self.rules.contains(rule);
        let kept: Vec<String> = rules
            .iter()
            .filter(same)
            .map(|rule| format!("{} for ", rule_label(&rule.name)))
            .chain(self.running.keys().map(|name| monitor_label(name)))
            .collect();
        self.troubles.retain(|what, _| kept.iter().any(|kept| what.starts_with(kept.as_str())));
    }

    fn start(&mut self, need: Need) {
        if self.running.contains_key(&need.name) {
            return;
        }
        let monitor = look::Monitored {
            need: need.clone(),
            me: self.deps.me,
            name: self.deps.publisher.state().node_name(self.deps.me),
            folder: self.deps.folder.clone(),
            transcripts: self.deps.transcripts.clone(),
            looks: self.looks.clone(),
        };
        let task = tokio::spawn(monitor.run());
        self.running.insert(need.name.clone(), Running { need, task });
    }

    /// Changes what is shown, which is of the monitors that run and of no others.
    fn show(&self, change: impl FnOnce(&mut BTreeMap<String, MonitorView>)) {
        self.deps.publisher.update_local(|local| {
            let mut shown = (*local.monitors).clone();
            shown.retain(|name, _| self.running.contains_key(name));
            for (name, running) in &self.running {
                let interval = running.need.interval;
                let new =
                    || MonitorView { interval, at: None, failure: None, readings: Vec::new() };
                shown.entry(name.clone()).or_insert_with(new).interval = interval;
            }
            change(&mut shown);
            if *local.monitors != shown {
                local.monitors = Arc::new(shown);
            }
        });
    }

    /// Takes in what a monitor saw, if it is still one of those that run.
    async fn take(&mut self, look: Look) {
        let Look { name, taken: Taken { samples, failure, .. } } = look;
        if !self.running.contains_key(&name) {
            return;
        }
        let what = monitor_label(&name);
        match &failure {
            Some(why) => self.troubles.insert(what, why.clone()),
            None => self.troubles.remove(&what),
        };
        let at = wall_time();
        let reading =
            |Sample { variable, instance, value }| Reading { variable, instance, value, at };
        let readings: Vec<Reading> = samples.into_iter().map(reading).collect();
        self.show(|shown| {
            if let Some(view) = shown.get_mut(&name) {
                (view.at, view.failure, view.readings) = (Some(at), failure, readings.clone());
            }
        });
        for reading in &readings {
            self.observe(reading).await;
        }
    }

    async fn observe(&mut self, reading: &Reading) {
        let view = self.deps.publisher.views().borrow().clone();
        if !watches(&view, (self.deps.me, self.deps.session)) {
            return;
        }
        let instance = reading.instance.to_string();
        let fired = |rule: &str| view.state.manager.has_fired(rule, &instance);
        let Observed { fired, rearmed, complaints, settled } =
            self.watchers.observe(reading, fired);
        for one in fired {
            let (trigger, cause) = (one.trigger(), one.cause);
            self.propose(ManagerCommand::Queue { trigger, cause }).await;
        }
        for one in rearmed {
            let (rule, instance, value) = (one.rule, one.instance, one.value);
            self.propose(ManagerCommand::Rearm { rule, instance, value }).await;
        }
        for (rule, instance) in settled {
            self.troubles.remove(&format!("{} for {instance}", rule_label(&rule)));
        }
        for complaint in complaints {
            let what = format!("{} for {}", rule_label(&complaint.rule), complaint.instance);
            self.troubles.insert(what, complaint.what);
        }
    }

    /// Tells the cluster what cannot be watched, and what can be again, as far as it does not know.
    async fn tell(&self, view: &View) {
        let me = self.deps.me;
        if self.basis.is_none() || !view.local.quorate {
            return;
        }
        for (what, why) in differences(&view.state, me, &self.troubles) {
            self.propose(ManagerCommand::Blind { node: me, what, why }).await;
        }
    }

    async fn propose(&self, command: ManagerCommand) {
        let proposer = &self.deps.proposer;
        let proposal = proposer.proposal(fresh_id(), AGENT, Command::Manager(command));
        // What is refused or lost is seen again at the next look, if it is still so.
        match proposer.propose(proposal).await {
            Ok(Outcome::Refused(refusal)) | Err(refusal) => {
                tracing::debug!(%refusal, "what a monitor saw is not taken in yet");
            }
            Ok(_) => {}
        }
    }
}

/// Whether values of this node can become events now. A state from before this agent's start may
/// miss what has fired since.
fn watches(view: &View, (me, session): (NodeNumber, Session)) -> bool {
    let manager = &view.state.manager;
    let member = manager.members.get(&me).filter(|member| member.session == session);
    view.local.quorate
        && !manager.maintenance
        && member.is_some_and(|member| member.joined && !member.maintenance)
}

fn monitor_label(name: &str) -> String {
    format!("monitor {name}")
}

fn rule_label(rule: &str) -> String {
    format!("rule {rule}")
}

/// What the state does not know yet of what cannot be watched here.
fn differences(
    state: &ClusterState,
    me: NodeNumber,
    troubles: &BTreeMap<String, String>,
) -> Vec<(String, Option<String>)> {
    let known = state.manager.blind.get(&me);
    let knows = |what: &String| known.is_some_and(|known| known.contains_key(what));
    let room = Manager::MOST_BLIND.saturating_sub(known.map_or(0, BTreeMap::len));
    let new = troubles.iter().filter(|(what, _)| !knows(what)).take(room);
    // Looks for what should not run have their own teller.
    let own = known.into_iter().flatten().filter(|(what, _)| !ClusterState::is_look(what));
    let over = own.filter(|(what, _)| !troubles.contains_key(*what));
    new.map(|(what, why)| (what.clone(), Some(why.clone())))
        .chain(over.map(|(what, _)| (what.clone(), None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::Fixture;

    use super::*;

    /// H29: the cluster is told of what it does not know, and of nothing else.
    #[test]
    fn h29_only_differences_are_told() {
        let mut state = Fixture::settled(3).state;
        let me = NodeNumber(2);
        let trouble = |what: &str| (format!("monitor {what}"), "it hangs".to_owned());
        state.manager.blind.insert(me, BTreeMap::from([trouble("a"), trouble("b")]));
        state.manager.blind.insert(NodeNumber(1), BTreeMap::from([trouble("z")]));
        // The look for a resource has its own teller.
        let look = (ClusterState::look_for("web-app"), "it hangs".to_owned());
        state.manager.blind.entry(me).or_default().extend([look]);
        let now = BTreeMap::from([trouble("b"), trouble("c")]);
        assert_eq!(
            differences(&state, me, &now),
            [("monitor c".into(), Some("it hangs".into())), ("monitor a".into(), None)]
        );
    }
}
