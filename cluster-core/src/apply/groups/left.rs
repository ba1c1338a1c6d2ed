//! Instances that are left running (spec H21): in maintenance, and after a forced stop.
//!
//! Such an instance is *uncovered*: its node's guard may leave it as it is when the lease ends, so the end of
//! one is no evidence of anything. That begins with the entry that orders it, before any guard knows, and it
//! is over when the node says that its guard covers the instance again. A word about an earlier time without
//! cover changes nothing: maintenance may have begun again since.

use crate::command::Scope;
use crate::group::GroupState;
use crate::id::NodeNumber;

use super::reports::Which;
use super::{ClusterState, Entry};

impl ClusterState {
    /// No lease ends anything in that scope from now on.
    pub(in crate::apply) fn uncover(&mut self, since: u64, scope: &Scope) {
        for (name, group) in &mut self.groups {
            for (node, instance) in &mut group.instances {
                let concerned = match scope {
                    Scope::Cluster => true,
                    Scope::Node(of) => of == node,
                    Scope::Group(of) => of == name,
                };
                if concerned {
                    instance.uncovered = Some(since);
                }
            }
        }
    }

    /// A guard covers an instance again.
    pub(super) fn covered(&mut self, which: Which<'_>, since: u64) -> bool {
        let (name, node, _) = which;
        let left_alone = self.is_left_alone(name, node);
        let Some(instance) = self.instance_mut(which) else { return false };
        if instance.uncovered != Some(since) || instance.is_left() || left_alone {
            return false;
        }
        instance.uncovered = None;
        true
    }

    /// Leaves what a node has of a group running, and nobody looks after it.
    pub(in crate::apply) fn leave_running(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: NodeNumber,
        why: &str,
    ) {
        self.leave(entry, (name, node), GroupState::Unmanaged, why);
    }

    /// Leaves what a node has of a group as it is until the node, which goes on looking after its groups, has
    /// looked at it: what works is taken up, and where nothing does the group is off there.
    pub(in crate::apply) fn leave_to_look_at(
        &mut self,
        entry: &mut Entry<'_>,
        (name, node): (&str, NodeNumber),
        why: &str,
    ) {
        self.leave(entry, (name, node), GroupState::Unknown, why);
    }

    fn leave(
        &mut self,
        entry: &mut Entry<'_>,
        (name, node): (&str, NodeNumber),
        to: GroupState,
        why: &str,
    ) {
        let (at, since) = (entry.proposal.at, entry.index);
        let group = self.groups.get_mut(name);
        let Some(instance) = group.and_then(|group| group.instances.get_mut(&node)) else { return };
        (instance.state, instance.since) = (to, at);
        instance.uncovered = Some(since);
        entry.causes.insert(name.to_owned(), why.to_owned());
    }

    /// Leaves running what maintenance keeps on a node whose manager has stopped.
    pub(in crate::apply) fn leave_maintained(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
        let why = format!("the manager of {} was stopped in maintenance", self.node_name(node));
        let mut kept: Vec<String> = self.groups.keys().cloned().collect();
        kept.retain(|name| self.is_left_alone(name, node));
        kept.iter().for_each(|name| self.leave_running(entry, name, node, &why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Change, Command, GroupCommand, ManagerCommand};
    use crate::fixture::Fixture;
    use crate::model::{AgentStatus, HostStatus};
    use crate::trigger::StopMode;

    use crate::takeover::{LetGo, Remains};

    const N1: NodeNumber = NodeNumber(1);

    fn maintain(fixture: &mut Fixture, scope: Scope, on: bool) {
        fixture.manage(ManagerCommand::Maintenance { scope, on });
    }

    fn web() -> Scope {
        Scope::Group("web".into())
    }

    fn host(fixture: &mut Fixture, to: HostStatus) {
        let cause = "as its peers see it".to_owned();
        let change = Change::Host { node: N1, to, planned: false, cause, silent_ms: None };
        fixture.apply(Command::Observe { changes: vec![change] });
    }

    fn returns(fixture: &mut Fixture) {
        host(fixture, HostStatus::Up);
        let (to, cause) = (AgentStatus::Running, "its guard says so".to_owned());
        fixture.apply(Command::Observe { changes: vec![Change::Agent { node: N1, to, cause }] });
    }

    fn cover(fixture: &mut Fixture, since: u64) {
        let token = fixture.state.groups["web"].instances[&N1].token;
        let group = "web".to_owned();
        fixture.group(GroupCommand::Covered { group, node: N1, token, since });
    }

    fn uncovered(fixture: &Fixture) -> Option<u64> {
        fixture.state.groups["web"].instances.get(&N1)?.uncovered
    }

    fn state(fixture: &Fixture) -> GroupState {
        fixture.state.groups["web"].state()
    }

    /// T8: what a forced stop left running on a node that goes silent is told to somebody, once.
    #[test]
    fn t8_what_is_left_on_a_node_that_goes_silent_is_told() {
        let mut fixture = Fixture::with_groups();
        fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Forced });
        fixture.run_events();
        let told = |fixture: &Fixture| {
            let waits =
                fixture.records.iter().filter(|it| it.code == crate::record::Code::TakeoverWaits);
            waits.map(|it| it.message.clone()).collect::<Vec<_>>()
        };
        assert_eq!(told(&fixture), Vec::<String>::new());
        host(&mut fixture, HostStatus::Down);
        fixture.lease_over(N1);
        fixture.run_events();
        assert_eq!(told(&fixture), ["takeover of batch, web from n1 has to wait"]);
        fixture.group(GroupCommand::ConfirmOff { node: N1 });
        fixture.run_events();
        assert_ne!(fixture.state.groups["web"].owner(), Some(N1));
    }

    #[test]
    fn r8_what_maintenance_leaves_alone_does_not_end_with_a_lease() {
        for scope in [Scope::Cluster, Scope::Node(N1), web()] {
            let mut fixture = Fixture::with_groups();
            maintain(&mut fixture, scope, true);
            host(&mut fixture, HostStatus::Down);
            fixture.lease_over(N1);
            let member = fixture.state.manager.members[&N1].epoch;
            let evidence = LetGo::Epoch { epoch: member + 1, remains: Remains::default() };
            fixture.group(GroupCommand::Evict { node: N1, evidence });
            assert_eq!(fixture.state.groups["web"].owner(), Some(N1));
            fixture.group(GroupCommand::ConfirmOff { node: N1 });
            assert_eq!(fixture.state.groups["web"].owner(), None, "an operator is certain");
        }
    }

    /// The word that a guard covers it may come late, when it does not any more.
    #[test]
    fn r8_only_the_word_about_this_maintenance_ends_it() {
        let mut fixture = Fixture::with_groups();
        maintain(&mut fixture, web(), true);
        let first = uncovered(&fixture).expect("maintenance began");
        cover(&mut fixture, first);
        assert_eq!(uncovered(&fixture), Some(first), "it lasts");
        maintain(&mut fixture, web(), false);
        maintain(&mut fixture, web(), true);
        maintain(&mut fixture, web(), false);
        cover(&mut fixture, first);
        let second = uncovered(&fixture).expect("nobody covers it again yet");
        assert!(second > first);
        cover(&mut fixture, second);
        assert_eq!(uncovered(&fixture), None);
        host(&mut fixture, HostStatus::Down);
        fixture.lease_over(N1);
        assert_ne!(fixture.state.groups["web"].owner(), Some(N1), "a lease covers it");
    }

    /// An upgrade by the book: nothing is released, and nothing is started twice.
    #[test]
    fn r8_a_stop_in_maintenance_leaves_running_and_a_start_takes_up() {
        for how in [StopMode::Graceful, StopMode::Takeover] {
            let mut fixture = Fixture::with_groups();
            let token = fixture.token("web", N1);
            maintain(&mut fixture, Scope::Cluster, true);
            fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how });
            fixture.run_events();
            assert_eq!(state(&fixture), GroupState::Unmanaged, "{how}");
            host(&mut fixture, HostStatus::Down);
            fixture.lease_over(N1);
            returns(&mut fixture);
            fixture.manage(ManagerCommand::Start { nodes: vec![N1] });
            fixture.run_events();
            assert_eq!(state(&fixture), GroupState::Online, "{how}");
            assert_eq!(fixture.token("web", N1), token, "nobody else had it");
            let since = uncovered(&fixture).expect("maintenance lasts");
            maintain(&mut fixture, Scope::Cluster, false);
            cover(&mut fixture, since);
            assert_eq!(uncovered(&fixture), None);
        }
    }

    /// It was cut off, or its daemon was killed: as soon as it is back it says what it still has.
    /// The machine lost power meanwhile: nothing is left to take up, and nothing is started before maintenance
    /// is over.
    #[test]
    fn r8_what_did_not_outlive_maintenance_is_off_until_it_is_over() {
        let mut fixture = Fixture::with_groups();
        maintain(&mut fixture, web(), true);
        host(&mut fixture, HostStatus::Down);
        fixture.run_events();
        returns(&mut fixture);
        let event = fixture.state.manager.queue.first().expect("it joins").id;
        fixture.manage(ManagerCommand::BeginVote { event });
        let voters = fixture.state.manager.current.as_ref().expect("a vote").participants.clone();
        for node in voters {
            fixture.manage(ManagerCommand::Approve { event, node });
        }
        assert_eq!(state(&fixture), GroupState::Acquiring, "to be looked at");
        fixture.release("web", N1);
        assert_eq!(state(&fixture), GroupState::Offline, "it is not given to the node again");
        fixture.run_events();
        assert_eq!(state(&fixture), GroupState::Offline);
        maintain(&mut fixture, web(), false);
        fixture.run_events();
        assert_eq!(state(&fixture), GroupState::Online);
        assert_eq!(fixture.state.groups["web"].owner(), Some(N1));
    }

    #[test]
    fn r8_a_node_that_comes_back_in_maintenance_has_what_it_had() {
        let mut fixture = Fixture::with_groups();
        maintain(&mut fixture, web(), true);
        host(&mut fixture, HostStatus::Down);
        assert_eq!(state(&fixture), GroupState::Unknown);
        let tasks = crate::work::tasks(&fixture.state, N1);
        let cleans = |task: &crate::work::Task| matches!(task, crate::work::Task::CleanUp { group, .. } if group == "web");
        assert!(!tasks.iter().any(cleans), "{tasks:?}");
        returns(&mut fixture);
        fixture.run_events();
        assert_eq!(state(&fixture), GroupState::Online);
        assert_eq!(fixture.state.groups["web"].owner(), Some(N1));
    }

    /// The event in progress goes by, and nobody's scripts do anything with groups.
    fn go_by(fixture: &mut Fixture) {
        use crate::work::{Task, tasks};
        while fixture.state.manager.current.is_some() {
            let nodes: Vec<NodeNumber> = fixture.state.nodes.keys().copied().collect();
            for node in nodes {
                for task in tasks(&fixture.state, node) {
                    match task {
                        Task::Run { event, phase, attempt, commands } => {
                            let succeed = |(index, line)| crate::fixture::succeeded(index, line);
                            let outcomes = commands.into_iter().map(succeed).collect();
                            let ran = ManagerCommand::Ran { event, phase, attempt, node, outcomes };
                            fixture.manage(ran);
                        }
                        Task::Approve { event } => {
                            fixture.manage(ManagerCommand::Approve { event, node });
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Seed 73831 of the simulation: what a dead guard's reaper had ended in part was not taken up in the event of
    /// its manager's start, and stayed UNMANAGED though its node takes part.
    #[test]
    fn what_its_event_did_not_take_up_is_looked_at_by_its_node() {
        let mut fixture = Fixture::with_groups();
        fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Forced });
        assert_eq!(state(&fixture), GroupState::Unmanaged);
        fixture.manage(ManagerCommand::Start { nodes: vec![N1] });
        fixture.begin_event();
        go_by(&mut fixture);
        let left = fixture.state.groups["web"].instances[&N1].clone();
        assert_eq!((left.state, left.is_left()), (GroupState::Unknown, true));
        cover(&mut fixture, left.uncovered.expect("no lease ends it"));
        assert!(uncovered(&fixture).is_some(), "nobody has looked at it yet");
        let (group, token) = ("web".to_owned(), left.token);
        let online = Some(GroupState::Online);
        let resources = Vec::new();
        fixture.group(GroupCommand::Progress { group, node: N1, token, state: online, resources });
        assert_eq!(state(&fixture), GroupState::Online);
    }

    /// Seed 81071 of the simulation: given to a node just before maintenance began, never started, and UNMANAGED
    /// for good.
    #[test]
    fn what_maintenance_kept_from_being_started_runs_nowhere() {
        let mut fixture = Fixture::with_groups();
        let n2 = NodeNumber(2);
        host(&mut fixture, HostStatus::Down);
        fixture.begin_event();
        fixture.lease_over(N1);
        assert_eq!(fixture.state.groups["web"].owner(), Some(n2));
        maintain(&mut fixture, Scope::Cluster, true);
        go_by(&mut fixture);
        assert_eq!(state(&fixture), GroupState::Releasing, "it is given back");
        fixture.run_events();
        assert_eq!(state(&fixture), GroupState::Offline);
        maintain(&mut fixture, Scope::Cluster, false);
        fixture.run_events();
        assert_eq!(state(&fixture), GroupState::Online);
    }
}
