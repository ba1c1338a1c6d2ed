//! What machines do for groups: runners, executors, and what is really active.
//!
//! [`Works::on`] is the physical truth: a group is in it from the moment its resources are started
//! until they are off, whatever anybody knows or says. Its service addresses answer only while the
//! kernel's gate lets them pass ([`super::enforcers`]). [`World::check_owners`] looks at nothing else.
//!
//! Scripts take a while, some fail, and every process may be stopped or killed in the middle.

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::command::{Command, GroupCommand, ManagerCommand, Proposal};
use vedette_core::event::{CommandOutcome, Member};
use vedette_core::group::{GroupState, Instance, Policy, ResourceState};
use vedette_core::id::{CommandId, Session};
use vedette_core::model::AgentStatus;
use vedette_core::takeover::Unreleased;
use vedette_core::work::{self, Task, Way};

use super::Bug;
use super::conduct::ended;
use super::world::{Event, MS, World, index_of};

/// How long an acquisition waits for its turn.
const TURN: u64 = 20_000 * MS;
/// How long a stop program may take.
const STOP_TIMEOUT: u64 = 1_000 * MS;
/// The command of the events of the site.
pub(super) const SITE: &str = "site_command";
/// Between two looks of an acquisition that waits.
const LOOK: u64 = 15 * MS;

/// What is on a machine, besides processes of the cluster manager.
#[derive(Debug, Default)]
pub(super) struct Works {
    /// Groups that are active, whatever is known of them, with the token they were started for.
    pub(super) on: BTreeMap<String, u64>,
    /// Whether somebody will look when the lease ends.
    pub(super) watched: bool,
    /// A machine whose scripts fail.
    pub(super) clumsy: bool,
}

impl Works {
    /// Nothing is on any more.
    pub(super) fn clear(&mut self) {
        self.on.clear();
    }
}

/// What an agent is doing for the manager.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Tasks that were begun.
    jobs: BTreeMap<u64, Job>,
    /// What was last said of the manager, and with which proposal.
    present: Option<CommandId>,
    /// Ends of instances that were said, by group and token.
    ended: BTreeSet<(String, u64)>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Job {
    task: Task,
    steps: Vec<Step>,
    began: u64,
    /// Since when a stop program runs that does not end.
    stopping: Option<u64>,
    failed: bool,
    /// Everything was done and said; it stays until the state has no such task any more.
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Release(String),
    Acquire(String),
    /// In a story: one resource, the end of an acquisition, and the scripts themselves.
    Start(String, String),
    GiveUp(String, String),
    Online(String),
    Stop(String, String),
    Script,
    /// A command of the site that may hang.
    SiteHangs,
    Say,
}

impl World {
    /// The guard takes the hold first, which it does in its present epoch and under a lease only; then it is on.
    fn turn_on(&mut self, node: usize, group: &str, token: u64) -> bool {
        if !self.order(node, Some(group)) {
            return false;
        }
        let machine = &mut self.machines[node];
        machine.works.on.insert(group.to_owned(), token);
        machine.kernel.left.remove(group);
        machine.kernel.held_anew(group);
        self.note(|| format!("n{}: {group} is on (token {token})", node + 1));
        self.check_owners();
        self.begin_lives(node, group, token);
        true
    }

    pub(super) fn turn_off(&mut self, node: usize, group: &str) {
        let machine = &mut self.machines[node];
        machine.kernel.left.remove(group);
        if machine.works.on.remove(group).is_some() {
            self.note(|| format!("n{}: {group} is off", node + 1));
            self.order(node, None);
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

    /// What in this state is this node's work? Begins what is new, forgets what is gone.
    pub(super) fn look_for_work(&mut self, node: usize) {
        let machine = &self.machines[node];
        let tasks = work::tasks(&machine.state, machine.number);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.status != AgentStatus::Running {
            return;
        }
        let session = agent.session.0;
        agent.desk.jobs.retain(|_, job| tasks.contains(&job.task));
        let known = |task: &Task| agent.desk.jobs.values().any(|job| job.task == *task);
        let new: Vec<Task> = tasks.iter().filter(|task| !known(task)).cloned().collect();
        for task in new {
            let steps = self.steps_of(node, &task);
            let began = self.now;
            let Some(agent) = self.machines[node].agent.as_mut() else { return };
            agent.desk.last += 1;
            let job = agent.desk.last;
            let (stopping, failed, done) = (None, false, false);
            agent.desk.jobs.insert(job, Job { task, steps, began, stopping, failed, done });
            let after = self.rng.range(1, 20) * MS;
            self.schedule(after, Event::Work { node, session, job });
        }
    }

    fn steps_of(&self, node: usize, task: &Task) -> Vec<Step> {
        let machine = &self.machines[node];
        let mut steps = Vec::new();
        match task {
            Task::Run { event, commands, .. } if !commands.is_empty() => {
                let completes = commands.iter().all(|(_, line)| line.contains("complete"));
                let running = machine.state.manager.begun().find(|it| it.event.id == *event);
                if let (Some(running), false) = (running, completes) {
                    let me = machine.number;
                    if commands.iter().any(|(_, line)| line == SITE) {
                        steps.push(Step::SiteHangs);
                    }
                    let (releases, acquires) = commands_do(commands);
                    if releases {
                        steps.extend(running.plan.releases(me).map(|g| Step::Release(g.into())));
                    }
                    if acquires {
                        steps.extend(running.plan.acquires(me).map(|g| Step::Acquire(g.into())));
                    }
                }
            }
            Task::CleanUp { group, .. } => steps.push(Step::Release(group.clone())),
            _ => {}
        }
        steps.push(Step::Say);
        if self.conduct.in_detail { self.steps_in_detail(node, task, steps) } else { steps }
    }

    /// Scripts that fail do nothing else; those that do not start and stop resources one by one.
    fn steps_in_detail(&self, node: usize, task: &Task, steps: Vec<Step>) -> Vec<Step> {
        let mut detailed = Vec::new();
        if let Task::Run { commands, .. } = task {
            detailed.push(Step::Script);
            if self.misbehaves(node, commands) {
                detailed.push(Step::Say);
                return detailed;
            }
        }
        for step in steps {
            let group = match &step {
                Step::Release(group) | Step::Acquire(group) => group.clone(),
                _ => String::new(),
            };
            let resources = self.resources_of(node, &group).into_iter();
            if let Step::Release(_) = step {
                let stops = resources.rev().map(|resource| Step::Stop(group.clone(), resource));
                detailed.extend(stops);
                detailed.push(step);
            } else if let Step::Acquire(_) = step {
                detailed.push(step);
                detailed.extend(resources.map(|resource| Step::Start(group.clone(), resource)));
                detailed.push(Step::Online(group));
            } else {
                detailed.push(step);
            }
        }
        detailed
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
            Step::Start(..) | Step::GiveUp(..) | Step::Stop(..) | Step::Online(_)
                if self.has_unsaid_groups(node) =>
            {
                None
            }
            Step::Start(group, resource) => {
                let stuck = !self.start_resource(node, &group, &resource);
                self.skip_if(node, id, stuck, &group);
                if stuck {
                    self.next_step(node, id, Step::GiveUp(group, resource));
                }
                Some(false)
            }
            Step::GiveUp(group, resource) => {
                self.give_up(node, &group, &resource);
                Some(false)
            }
            Step::Stop(group, resource) => {
                let stuck = !self.stop_resource(node, &group, &resource);
                self.skip_if(node, id, stuck, &group);
                Some(stuck)
            }
            Step::Online(group) => {
                if let Some(token) = self.token_in(node, &group, &[GroupState::Acquiring]) {
                    self.say_progress(node, &group, token, Some(GroupState::Online), Vec::new());
                }
                Some(false)
            }
            Step::Script => {
                let Task::Run { commands, .. } = &job.task else { return };
                (!self.hangs(node, commands, job.began)).then_some(false)
            }
            Step::Release(_) if self.conduct.in_detail && self.has_unsaid_groups(node) => None,
            Step::Release(group) => {
                let stopped = self.do_release(node, &group, job.stopping);
                let now = self.now;
                let agent = self.machines[node].agent.as_mut();
                if let Some(job) = agent.and_then(|agent| agent.desk.jobs.get_mut(&id)) {
                    job.stopping = stopped.is_none().then(|| job.stopping.unwrap_or(now));
                }
                stopped
            }
            Step::SiteHangs => (!self.machines[node].kernel.mood.site_hangs).then_some(false),
            Step::Acquire(group) => self.do_acquire(node, &group, job.began),
            // A script ends when what it did is in the log.
            Step::Say if self.has_unsaid_groups(node) => None,
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
            job.steps.remove(0);
            job.done = job.steps.is_empty();
            after = self.rng.range(2, 60) * MS;
        }
        self.schedule(after, Event::Work { node, session, job: id });
    }

    /// What is stuck with one resource does nothing more with its group.
    fn skip_if(&mut self, node: usize, job: u64, stuck: bool, group: &str) {
        let agent = self.machines[node].agent.as_mut().filter(|_| stuck);
        let Some(job) = agent.and_then(|agent| agent.desk.jobs.get_mut(&job)) else { return };
        let mut first = true;
        job.steps.retain(|step| {
            let of = match step {
                Step::Release(of) | Step::Acquire(of) | Step::Online(of) => of,
                Step::Start(of, _) | Step::GiveUp(of, _) | Step::Stop(of, _) => of,
                _ => return true,
            };
            // The step that is being done is taken out by whoever does it.
            std::mem::take(&mut first) || of != group
        });
    }

    fn next_step(&mut self, node: usize, job: u64, step: Step) {
        let agent = self.machines[node].agent.as_mut();
        if let Some(job) = agent.and_then(|agent| agent.desk.jobs.get_mut(&job)) {
            job.steps.insert(1, step);
        }
    }

    fn has_unsaid_groups(&self, node: usize) -> bool {
        let agent = self.machines[node].agent.as_ref();
        let mut unsaid = agent.into_iter().flat_map(|agent| agent.unsaid.values());
        unsaid.any(|(_, proposal)| matches!(proposal.command, Command::Group(_)))
    }

    /// Off, and said so; or seen not to be off, and said so. `None` while a stop program may still end.
    fn do_release(&mut self, node: usize, group: &str, began: Option<u64>) -> Option<bool> {
        let waits = began.is_none_or(|began| self.now - began < STOP_TIMEOUT);
        if self.stop_hangs(node, group) && waits {
            return None;
        }
        if let Some(resource) = self.stop_lives(node, group) {
            self.stuck_no_more(node, group);
            self.say_stuck(node, group, &resource);
            return Some(true);
        }
        self.turn_off(node, group);
        let machine = &self.machines[node];
        let me = machine.number;
        let instance = machine.state.groups.get(group).and_then(|g| g.instances.get(&me));
        if let Some(token) = instance.map(|instance| instance.token) {
            self.say_released(node, group, token, false);
        }
        Some(false)
    }

    /// On, as soon as the state allows it and the lease is held; `None` to look again.
    fn do_acquire(&mut self, node: usize, group: &str, began: u64) -> Option<bool> {
        let now = self.now;
        if self.machines[node].works.clumsy && self.rng.percent(50) {
            return self.fail_acquisition(node, group);
        }
        let machine = &self.machines[node];
        let me = machine.number;
        let instance = machine.state.groups.get(group).and_then(|g| g.instances.get(&me));
        let token = match instance {
            Some(i) if i.state == GroupState::Acquiring => i.token,
            Some(i) if i.state == GroupState::Online => return Some(false),
            _ if now - began > TURN => return Some(false),
            _ if !matches!(work::way(&machine.state, group, me), Way::Wait(_)) => {
                return Some(false);
            }
            _ => return None,
        };
        let known = machine.state.manager.members.get(&me);
        let epoch = self.epoch_heard(node);
        let fresh = known.is_some_and(|member| member.epoch == epoch)
            || self.bug == Some(Bug::EpochIgnored);
        let taken_up =
            instance.is_some_and(Instance::is_taken_up) && machine.state.is_left_alone(group, me);
        let guarded = self.machines[node].guard.as_ref().is_some_and(|guard| !guard.paused);
        if !fresh || !guarded || !self.holds_lease(node) {
            return if now - began > TURN { Some(false) } else { None };
        }
        if taken_up && !self.conduct.in_detail {
            self.look_over(node, group, token);
            return Some(false);
        }
        // What does not go away here is no reason to wait for ever.
        let agent = self.machines[node].agent.as_ref();
        if agent.is_some_and(|agent| agent.heard.stuck.contains_key(group)) {
            return Some(false);
        }
        if !self.turn_on(node, group, token) {
            return None;
        }
        if !self.conduct.in_detail {
            self.say_online(node, group, token);
        }
        Some(false)
    }

    fn fail_acquisition(&mut self, node: usize, group: &str) -> Option<bool> {
        let machine = &self.machines[node];
        let me = machine.number;
        let instance = machine.state.groups.get(group).and_then(|g| g.instances.get(&me))?;
        if instance.state != GroupState::Acquiring {
            return None;
        }
        let token = instance.token;
        if let Some(resource) = self.stop_lives(node, group) {
            self.say_stuck(node, group, &resource);
            return Some(true);
        }
        self.turn_off(node, group);
        self.say_released(node, group, token, true);
        Some(false)
    }

    pub(super) fn holds_lease(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let clock = machine.clock(self.now);
        let until = machine.guard.as_ref().and_then(|guard| guard.topology.lease_until());
        until.is_some_and(|until| clock < until) || self.bug == Some(Bug::LeaseIgnored)
    }

    fn say_released(&mut self, node: usize, group: &str, token: u64, avoid: bool) {
        let why = if avoid { "it could not be started" } else { "as planned" };
        self.say_over(node, group, token, why, avoid);
    }

    /// Nothing of a group is active any more.
    pub(super) fn say_over(
        &mut self,
        node: usize,
        group: &str,
        token: u64,
        why: &str,
        avoid: bool,
    ) {
        let (group, me, why) = (group.to_owned(), self.machines[node].number, why.to_owned());
        self.say(
            node,
            Command::Group(GroupCommand::Released { group, node: me, token, why, avoid }),
        );
    }

    pub(super) fn say_online(&mut self, node: usize, group: &str, token: u64) {
        let me = self.machines[node].number;
        let definition = self.machines[node].state.definition.group(group);
        let resources = definition.map(|group| {
            let each = group.resources.iter();
            each.map(|r| (r.name.clone(), ResourceState::Online, String::new())).collect()
        });
        self.say(
            node,
            Command::Group(GroupCommand::Progress {
                group: group.into(),
                node: me,
                token,
                state: Some(GroupState::Online),
                resources: resources.unwrap_or_default(),
            }),
        );
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
        self.say_present(node);
        self.say_ended(node);
        self.look_for_work(node);
    }

    fn say_present(&mut self, index: usize) {
        let machine = &self.machines[index];
        let Some(agent) = machine.agent.as_ref() else { return };
        if agent.status != AgentStatus::Running {
            return;
        }
        let Some(mut groups) = agent.duties.unreleased(self.now) else { return };
        if agent.heard.goes_on {
            return;
        }
        for (group, why) in &agent.heard.stuck {
            groups.entry(group.clone()).or_insert_with(|| why.clone());
        }
        let unreleased = Unreleased { guard: None, groups };
        let backing = self.backing_of(index);
        let (me, session) = (machine.number, agent.session);
        let known = machine.state.manager.members.get(&me);
        let epoch = agent.heard.epoch;
        let said = agent.desk.present.is_some_and(|id| agent.unsaid.contains_key(&id));
        let log = agent.log;
        let voters = machine.config.voters_since;
        let timing = Some(machine.config.timing);
        let now = (session, epoch, voters, timing, log);
        let same = |m: &Member| {
            (m.session, m.epoch, m.voters, m.timing, m.log) == now && m.unreleased == unreleased
        };
        if said || known.is_some_and(same) {
            return;
        }
        let (node, watchdog, reaper) = (me, None, None);
        let present = ManagerCommand::Present {
            node,
            session,
            backing,
            watchdog,
            reaper,
            unreleased,
            epoch,
            voters,
            timing,
            log,
        };
        let id = self.say(index, Command::Manager(present));
        if let Some(agent) = self.machines[index].agent.as_mut() {
            agent.desk.present = Some(id);
        }
    }

    /// Instances of this node that are not on, though the state believes so, have ended.
    fn say_ended(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(agent) = machine.agent.as_ref().filter(|agent| !agent.paused) else { return };
        if agent.status != AgentStatus::Running {
            return;
        }
        let me = machine.number;
        let ended: Vec<(String, u64)> = machine
            .state
            .groups
            .iter()
            .filter_map(|(name, group)| Some((name.clone(), group.instances.get(&me)?)))
            .filter(|(name, instance)| {
                instance.state != GroupState::Acquiring
                    && !instance.is_left()
                    && !machine.works.on.contains_key(name)
                    && !machine.kernel.runs(name)
            })
            .map(|(name, instance)| (name, instance.token))
            .filter(|key| !agent.desk.ended.contains(key))
            .collect();
        for (group, token) in ended {
            if let Some(agent) = self.machines[node].agent.as_mut() {
                agent.desk.ended.insert((group.clone(), token));
            }
            self.say_released(node, &group, token, false);
        }
    }

    /// Something of a group ends by itself; its monitor sees that soon.
    pub(super) fn resource_fails(&mut self, node: usize) {
        let Some(group) = self.machines[node].works.on.keys().next().cloned() else { return };
        let machine = &self.machines[node];
        let me = machine.number;
        let instance = machine.state.groups.get(&group).and_then(|g| g.instances.get(&me));
        let known = instance.filter(|i| i.state == GroupState::Online).map(|i| i.token);
        let resource = machine.state.definition.group(&group).and_then(|g| g.resources.first());
        let (Some(token), Some(resource)) = (known, resource.map(|r| r.name.clone())) else {
            return;
        };
        let restarted = self.rng.percent(50);
        if !machine.serves() {
            return;
        }
        let command = GroupCommand::Failed {
            group,
            node: me,
            token,
            resource,
            why: "it ended".into(),
            restarted,
        };
        self.say(node, Command::Group(command));
    }
}

/// Whether the scripts among these commands release, acquire, or both.
fn commands_do(commands: &[(usize, String)]) -> (bool, bool) {
    let any = |word: &str| commands.iter().any(|(_, line)| line.contains(word));
    let (releases, acquires) = (any("release"), any("acquire"));
    if releases || acquires { (releases, acquires) } else { (true, true) }
}
