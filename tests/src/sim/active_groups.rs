//! What machines do for groups: runners, executors, and what is really active.
//!
//! [`ActiveGroups::on`] is the physical truth: a group is in it from the moment its resources are started
//! until they are off, whatever anybody knows or says. Its service addresses answer only while the
//! kernel's gate lets them pass ([`super::enforcers`]). [`World::check_owners`] looks at nothing else.
//!
//! Scripts take a while, some fail, and every process may be stopped or killed in the middle.

use std::collections::BTreeMap;

use vedette_core::command::{Command, GroupCommand, ManagerCommand, Proposal};
use vedette_core::event::CommandOutcome;
use vedette_core::group::Policy;
use vedette_core::holding::executor::{Input, Now, Op, Verb};
use vedette_core::id::{CommandId, Session};
use vedette_core::runner::Output;
use vedette_core::work::Task;

use super::Bug;
use super::conduct::ended;
use super::world::{Event, MS, World, index_of};

/// The command of the events of the site.
pub(super) const SITE: &str = "site_command";
/// Between two looks of a script that waits.
const LOOK: u64 = 15 * MS;

/// What is on a machine, besides processes of the cluster manager.
#[derive(Debug, Default)]
pub(super) struct ActiveGroups {
    /// Groups that are active, whatever is known of them, with the token they were started for.
    pub(super) on: BTreeMap<String, u64>,
    /// Whether somebody will look when the lease ends.
    pub(super) watched: bool,
    /// A machine whose scripts fail.
    pub(super) clumsy: bool,
}

impl ActiveGroups {
    /// Nothing is on any more.
    pub(super) fn clear(&mut self) {
        self.on.clear();
    }
}

/// What an agent is doing for the manager.
#[derive(Debug, Default)]
pub(super) struct TaskList {
    /// Tasks that were begun.
    jobs: BTreeMap<u64, Job>,
    /// With which proposal something was last said of the manager.
    present: Option<CommandId>,
}

#[derive(Clone, Debug)]
struct Job {
    task: Task,
    steps: Vec<Step>,
    began: u64,
    /// Requests of the step that is being done and have no answer yet.
    asked: Option<Vec<u64>>,
    failed: bool,
    /// Everything was done and said; it stays until the state has no such task any more.
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// In a story: scripts that take their time.
    Script,
    /// A command of the site that may hang.
    SiteHangs,
    /// Of several groups at once, as the event scripts do; of the same group in that order.
    Ask(Vec<(String, Verb)>),
    CleanUp(String, u64),
    Say,
}

impl World {
    /// Something of a group is about to be started: from now on it counts for active.
    pub(super) fn turn_on(&mut self, node: usize, group: &str, token: u64) {
        let machine = &mut self.machines[node];
        if machine.works.on.insert(group.to_owned(), token) == Some(token) {
            return;
        }
        machine.kernel.left.remove(group);
        machine.kernel.held_anew(group);
        self.note(|| format!("n{}: {group} is on (token {token})", node + 1));
        self.check_owners();
    }

    pub(super) fn turn_off(&mut self, node: usize, group: &str) {
        let machine = &mut self.machines[node];
        machine.kernel.left.remove(group);
        if machine.works.on.remove(group).is_some() {
            self.note(|| format!("n{}: {group} is off", node + 1));
        }
    }

    /// One owner: looked at whenever something was turned on or let through again.
    pub(super) fn check_owners(&mut self) {
        let now = self.now;
        let exclusive: Vec<String> = self
            .reference
            .definition
            .groups
            .iter()
            .filter(|group| group.policy != Policy::Concurrent)
            .map(|group| group.name.clone())
            .collect();
        for group in exclusive {
            let owners: Vec<usize> = (0..self.machines.len())
                .filter(|node| {
                    let on = self.machines[*node].works.on.contains_key(&group);
                    on && self.passes(*node, &group)
                })
                .collect();
            if let [first, second, ..] = owners[..] {
                let what = format!("{group} is active on n{} and n{}", first + 1, second + 1);
                self.checks.fail(now, what);
            }
        }
    }

    /// What in this state is this node's work, and is its manager known as it is?
    pub(super) fn look_for_work(&mut self, node: usize) {
        self.show(node);
        let clock = self.machines[node].clock(self.now);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let (seen, guard) = {
            let desk = agent.hand.executor.desk();
            (desk.seen().clone(), desk.presentable(clock))
        };
        let now = Now { at: clock, lease: agent.heard.lasts(clock) };
        let mut out = Vec::new();
        agent.runner.look(now, &seen, guard.as_ref(), &mut out);
        for output in out {
            match output {
                Output::Begin { id, task } => self.begin_job(node, id, task),
                Output::GiveUp { id } => self.give_up_job(node, id),
                Output::Present(present) => {
                    let said = self.say(node, Command::Manager(*present));
                    if let Some(agent) = self.machines[node].agent.as_mut() {
                        agent.desk.present = Some(said);
                    }
                }
            }
        }
    }

    /// What an agent said was decided: that may have been of its manager.
    pub(super) fn presented(&mut self, node: usize, id: CommandId) {
        let clock = self.machines[node].clock(self.now);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.desk.present == Some(id) {
            agent.runner.presented(clock);
        }
    }

    fn begin_job(&mut self, node: usize, job: u64, task: Task) {
        let steps = self.steps_of(node, &task);
        let (began, asked, failed, done) = (self.now, None, false, false);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        agent.desk.jobs.insert(job, Job { task, steps, began, asked, failed, done });
        let session = agent.session.0;
        let after = self.rng.range(1, 20) * MS;
        self.schedule(after, Event::Work { node, session, job });
    }

    fn give_up_job(&mut self, node: usize, job: u64) {
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let job = agent.desk.jobs.remove(&job);
        for ask in job.and_then(|job| job.asked).unwrap_or_default() {
            self.act(node, Input::Forgotten { ask });
        }
    }

    fn steps_of(&self, node: usize, task: &Task) -> Vec<Step> {
        let machine = &self.machines[node];
        let mut steps = Vec::new();
        match task {
            Task::Run { event, commands, .. } if !commands.is_empty() => {
                if self.conduct.in_detail {
                    steps.push(Step::Script);
                }
                let completes = commands.iter().all(|(_, line)| line.contains("complete"));
                let running = machine.state.manager.begun().find(|it| it.event.id == *event);
                if let Some(running) = running
                    && !completes
                    && !self.misbehaves(node, commands)
                {
                    let me = machine.number;
                    if commands.iter().any(|(_, line)| line == SITE) {
                        steps.push(Step::SiteHangs);
                    }
                    let (releases, acquires) = commands_do(commands);
                    let ask = |group: &str, verb| (group.to_owned(), verb);
                    let released = running.plan.releases(me).filter(|_| releases);
                    let acquired = running.plan.acquires(me).filter(|_| acquires);
                    let asks = (released.map(|group| ask(group, Verb::Release)))
                        .chain(acquired.map(|group| ask(group, Verb::Acquire)));
                    steps.push(Step::Ask(asks.collect()));
                }
            }
            Task::CleanUp { group, token } => steps.push(Step::CleanUp(group.clone(), *token)),
            _ => {}
        }
        steps.push(Step::Say);
        steps
    }

    /// Does the next step of a job.
    pub(super) fn work(&mut self, node: usize, session: u64, id: u64) {
        let Some(agent) = self.machines[node].agent.as_ref() else { return };
        if agent.session != Session(session) {
            return;
        }
        let Some(job) = agent.desk.jobs.get(&id).filter(|job| !job.done).cloned() else { return };
        let Some(step) = job.steps.first().cloned() else { return };
        let finished = match step {
            Step::Script => {
                let Task::Run { commands, .. } = &job.task else { return };
                (!self.hangs(node, commands, job.began)).then_some(false)
            }
            Step::SiteHangs => (!self.machines[node].kernel.mood.site_hangs).then_some(false),
            Step::Ask(asks) => {
                let op = |(group, verb)| (group, Op::Perform(verb));
                self.wait_for(node, id, asks.into_iter().map(op).collect())
            }
            Step::CleanUp(group, token) => {
                self.wait_for(node, id, vec![(group, Op::CleanUp { token })])
            }
            Step::Say => {
                self.answer(node, &job);
                Some(false)
            }
        };
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let Some(job) = agent.desk.jobs.get_mut(&id) else { return };
        let mut after = LOOK;
        if let Some(failed) = finished {
            job.failed |= failed;
            job.asked = None;
            job.steps.remove(0);
            job.done = job.steps.is_empty();
            after = self.rng.range(2, 60) * MS;
        }
        self.schedule(after, Event::Work { node, session, job: id });
    }

    /// Asks the executor, and looks whether it has answered for all of them: whether one failed.
    fn wait_for(&mut self, node: usize, id: u64, asks: Vec<(String, Op)>) -> Option<bool> {
        let job = |world: &Self| world.machines[node].agent.as_ref()?.desk.jobs.get(&id).cloned();
        if job(self)?.asked.is_none() {
            let nothing = asks.is_empty();
            let asked =
                asks.into_iter().map(|(group, op)| self.ask_for(node, &group, op)).collect();
            self.machines[node].agent.as_mut()?.desk.jobs.get_mut(&id)?.asked = Some(asked);
            return nothing.then_some(false);
        }
        let agent = self.machines[node].agent.as_mut()?;
        let job = agent.desk.jobs.get_mut(&id)?;
        let asked = job.asked.as_mut()?;
        asked.retain(|ask| match agent.hand.answer(*ask) {
            Some(said) => {
                job.failed |= said.is_err_and(|stop| stop.exit != 0);
                false
            }
            None => true,
        });
        asked.is_empty().then_some(false)
    }

    pub(super) fn holds_lease(&self, node: usize) -> bool {
        self.machines[node].has_lease(self.now) || self.bug == Some(Bug::LeaseIgnored)
    }

    /// Says something until it is in the log.
    pub(super) fn say(&mut self, node: usize, command: Command) -> CommandId {
        let proposal: Proposal = self.proposal(node, "agent", command);
        let id = proposal.id;
        let now = self.now;
        if let Some(agent) = self.machines[node].agent.as_mut() {
            agent.unsaid.insert(id, (now, proposal));
        }
        self.say_unsaid(node);
        id
    }

    /// The answer that makes a task disappear.
    fn answer(&mut self, node: usize, job: &Job) {
        let me = self.machines[node].number;
        let command = match &job.task {
            Task::Approve { event } => {
                Command::Manager(ManagerCommand::Approve { event: *event, node: me })
            }
            Task::Run { event, phase, attempt, commands } => {
                let outcomes = self.outcomes(node, *event, commands, job);
                Command::Manager(ManagerCommand::Ran {
                    event: *event,
                    phase: *phase,
                    attempt: *attempt,
                    node: me,
                    outcomes,
                })
            }
            Task::CleanUp { .. } => return,
            // Its guard starts it again, and that one says that it is there.
            Task::Renew => return self.kill_agent(node),
            Task::Verify { proposal } => {
                Command::Config(vedette_core::command::ConfigCommand::Verified {
                    proposal: *proposal,
                    node: me,
                    findings: self.conduct.findings.get(&node).cloned().unwrap_or_default(),
                    warnings: Vec::new(),
                })
            }
            Task::Fence { node: whom, attempt } => {
                let fails = self.conduct.fences_fail;
                if !fails {
                    self.power_off(index_of(*whom));
                }
                Command::Group(GroupCommand::Fenced {
                    node: *whom,
                    by: me,
                    attempt: *attempt,
                    outcome: ended(Some(i32::from(fails))),
                })
            }
        };
        self.say(node, command);
    }

    fn outcomes(
        &mut self,
        node: usize,
        event: u64,
        commands: &[(usize, String)],
        job: &Job,
    ) -> Vec<CommandOutcome> {
        let clumsy = self.machines[node].works.clumsy;
        let each = commands.iter();
        each.map(|(index, command)| {
            let expected = self.expected(node, event, *index);
            if self.conduct.in_detail {
                return self.told_outcome(node, (*index, command), expected, job.failed);
            }
            let fails = job.failed || (clumsy && self.rng.percent(20));
            let expected = expected.is_none_or(|status| status == i32::from(fails));
            CommandOutcome {
                index: *index,
                command: command.clone(),
                expected,
                runs: 1,
                outcome: ended(Some(i32::from(fails))),
            }
        })
        .collect()
    }

    /// The status with which a command of an event is to end, if that is said.
    fn expected(&self, node: usize, event: u64, index: usize) -> Option<i32> {
        let mut begun = self.machines[node].state.manager.begun();
        let running = begun.find(|running| running.event.id == event)?;
        running.program.phases.get(running.phase)?.get(index)?.expected
    }

    /// What an agent looks after ten times a second: its manager is known, what is off is said.
    pub(super) fn look_after_groups(&mut self, node: usize) {
        if !self.machines[node].serves() {
            return;
        }
        self.do_duties(node);
        self.look_for_work(node);
    }

    /// Something of a group ends by itself; its monitor sees that soon.
    pub(super) fn resource_fails(&mut self, node: usize) {
        let lives = &mut self.machines[node].kernel.lives;
        let Some(key) = lives.keys().next().cloned() else { return };
        lives.remove(&key);
    }
}

/// Whether the scripts among these commands release, acquire, or both.
fn commands_do(commands: &[(usize, String)]) -> (bool, bool) {
    let any = |word: &str| commands.iter().any(|(_, line)| line.contains(word));
    let (releases, acquires) = (any("release"), any("acquire"));
    if releases || acquires { (releases, acquires) } else { (true, true) }
}
