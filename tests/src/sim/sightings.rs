//! What an agent looks for by itself: what runs on its machine although it does not have its group. When it looks and
//! what it makes of that are the product's ([`Sightings`]).

use std::time::Duration;

use vedette_core::command::{Command, GroupCommand};
use vedette_core::holding::executor::{Found, Input, Op, Sightings, strange};

use super::Bug;
use super::kernel::{Key, Monitor};
use super::world::World;

impl World {
    /// In each round of an agent.
    pub(super) fn do_duties(&mut self, node: usize) {
        if !self.conduct.in_detail && self.bug != Some(Bug::NoSightings) {
            self.look_for_strays(node);
        }
    }

    /// Looks for what runs here of groups that this node does not have.
    fn look_for_strays(&mut self, node: usize) {
        let takes_part = self.takes_part(node);
        let machine = &self.machines[node];
        let (me, clock) = (machine.number, machine.clock(self.now));
        let interval = Duration::from_millis(machine.state.definition.manager.probe_interval_ms);
        let Some(sightings) = self.sightings(node) else { return };
        if !sightings.is_due(clock, takes_part, interval) {
            return;
        }
        if sightings.is_first() {
            self.act(node, Input::Tell);
        }
        let found = self.strays(node);
        self.see_what_is_off(node);
        let state = self.machines[node].shown_state();
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let stuck = !agent.hand.executor.desk().stuck().groups.is_empty();
        let sighted = agent.sightings.take(clock, found, (me, &state), stuck);
        for (group, resources) in sighted.news {
            self.counts.sighted += u64::from(!resources.is_empty());
            let sighted = GroupCommand::Sighted { group, node: me, resources };
            self.say(node, Command::Group(sighted));
        }
        for (group, resources) in sighted.to_stop {
            self.ask_for(node, &group, Op::StopExtra { resources });
        }
    }

    /// What could not be stopped, and is nobody's work any more, may be off.
    fn see_what_is_off(&mut self, node: usize) {
        let Some(agent) = self.machines[node].agent.as_ref() else { return };
        let (stuck, kernel) =
            (agent.hand.executor.desk().stuck_and_left(), &self.machines[node].kernel);
        let honest = kernel.mood.monitor == Monitor::Honest;
        let off: Vec<String> = stuck.into_iter().filter(|it| honest && !kernel.runs(it)).collect();
        for group in off {
            self.act(node, Input::SeenOff { group });
        }
    }

    fn sightings(&mut self, node: usize) -> Option<&mut Sightings> {
        self.machines[node].agent.as_mut().map(|agent| &mut agent.sightings)
    }

    /// Whether a node is one that could own something, and knows what it owns.
    fn takes_part(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let joined = machine.state.manager.members.get(&machine.number).is_some_and(|it| it.joined);
        joined && self.holds_lease(node) && self.led_in(node).is_some()
    }

    /// What monitors say of groups that this node could own and does not have.
    fn strays(&self, node: usize) -> Found {
        let machine = &self.machines[node];
        let (me, state) = (machine.number, &machine.state);
        let mut found = Found::new();
        let monitor = machine.kernel.mood.monitor;
        if matches!(monitor, Monitor::Hangs | Monitor::SaysOff) {
            return found;
        }
        for (group, resources) in strange(state, me) {
            // What is being started or let go of has a worker that knows of it.
            if machine.works.on.contains_key(group) {
                continue;
            }
            for resource in resources {
                let key: Key = (group.clone(), resource.name.clone());
                if monitor == Monitor::SaysOn || machine.kernel.lives.contains_key(&key) {
                    found.entry(key.0).or_default().insert(key.1);
                }
            }
        }
        found
    }
}
