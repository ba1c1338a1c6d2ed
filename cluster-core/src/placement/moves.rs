//! From an occasion to what one group does: concerned or not, held back or not, and then its policy.

use std::collections::BTreeSet;

use crate::group::{Group, GroupDef, GroupState, Instance, Policy, ResourceDef, Until};
use crate::id::NodeNumber;
use crate::state::ClusterState;
use crate::trigger::StopMode;

use super::Occasion;
use super::back::later;
use super::choice::{Layout, best, network, rank};
use super::nodes::{Holder, Nodes};

/// What becomes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is not concerned, or is where it should be.
    Nothing,
    /// One might expect a move; there is none, and why.
    Stay(String),
    /// It is released, acquired, or both.
    Move { release: Vec<NodeNumber>, acquire: Vec<NodeNumber>, reason: String },
}

impl Decision {
    fn release(nodes: Vec<NodeNumber>, reason: String) -> Self {
        Self::Move { release: nodes, acquire: Vec::new(), reason }
    }

    fn acquire(node: NodeNumber, reason: String) -> Self {
        Self::Move { release: Vec::new(), acquire: vec![node], reason }
    }

    fn shift(from: NodeNumber, to: NodeNumber, reason: String) -> Self {
        Self::Move { release: vec![from], acquire: vec![to], reason }
    }
}

/// Decides one group after the other.
pub(super) struct Planner<'a> {
    state: &'a ClusterState,
    occasion: Occasion<'a>,
    nodes: Nodes<'a>,
    layout: Layout<'a>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(state: &'a ClusterState, occasion: Occasion<'a>) -> Self {
        Self { state, occasion, nodes: Nodes::new(state, occasion), layout: Layout::new(state) }
    }

    /// Groups that may be concerned: those that are on their way out, then the configured ones.
    pub(super) fn groups(&self) -> Vec<String> {
        let configured = &self.state.definition.groups;
        let going =
            self.state.groups.keys().filter(|name| self.state.definition.group(name).is_none());
        let all = going.cloned().chain(configured.iter().map(|def| def.name.clone()));
        match self.occasion {
            Occasion::Ordered(group) => all.filter(|name| name == group).collect(),
            _ => all.collect(),
        }
    }

    pub(super) fn decide(&mut self, name: &str) -> Decision {
        let none = Group::default();
        let run = self.state.groups.get(name).unwrap_or(&none);
        let decision = match self.state.definition.group(name) {
            Some(def) if !self.concerned(def, run) => Decision::Nothing,
            def => match (self.in_hand(name), def) {
                (Some(why), _) => Decision::Stay(why),
                (None, None) => self.without_definition(run),
                (None, Some(def)) => self.held_back(run).unwrap_or_else(|| match def.policy {
                    Policy::Concurrent => self.concurrent(def, run),
                    Policy::Cascading | Policy::Rotating => self.exclusive(def, run),
                }),
            },
        };
        self.remember(name, &decision);
        decision
    }

    /// Another event goes on aside and has the group in hand. Of a concurrent one every node has its own.
    fn in_hand(&self, name: &str) -> Option<String> {
        let def = self.state.definition.group(name);
        if def.is_some_and(|def| def.policy == Policy::Concurrent) {
            return None;
        }
        let running = self.state.manager.begun().find(|running| running.has_in_hand(name))?;
        Some(format!("{} has it in hand", self.state.event_label(&running.event)))
    }

    fn remember(&mut self, name: &str, decision: &Decision) {
        let Decision::Move { release, acquire, .. } = decision else { return };
        let exclusive =
            self.state.definition.group(name).is_some_and(|def| def.policy != Policy::Concurrent);
        match acquire.as_slice() {
            [to] if exclusive => self.layout.moved(name, *to),
            _ => self.layout.change(name, release, acquire),
        }
    }

    fn concerned(&self, def: &GroupDef, run: &Group) -> bool {
        match self.occasion {
            Occasion::Joins(node) => def.nodes.contains(&node) || run.instances.contains_key(&node),
            Occasion::Leaves(node, _) => run.instances.contains_key(&node),
            Occasion::Redefined(_) | Occasion::Ordered(_) | Occasion::Reconcile => true,
        }
    }

    /// What stands above every policy: blocks, maintenance, and what a stop asks for.
    fn held_back(&self, run: &Group) -> Option<Decision> {
        if let Some(blocked) = &run.blocked {
            return Some(Decision::Stay(format!("blocked: {}", blocked.why)));
        }
        let maintenance = self.nodes.maintenance(run);
        if let Occasion::Leaves(node, Some(how)) = self.occasion {
            return self.stop(run, node, how, maintenance);
        }
        maintenance.map(|why| Decision::Stay(format!("nothing is moved: {why}")))
    }

    /// A stopped node releases what it has, but for what maintenance leaves running there.
    fn stop(
        &self,
        run: &Group,
        node: NodeNumber,
        how: StopMode,
        maintenance: Option<String>,
    ) -> Option<Decision> {
        let name = self.nodes.name(node);
        if self.unmanaged_on(run, node) {
            return Some(Decision::Stay(format!("left running on {name} without its manager")));
        }
        match (how, maintenance) {
            (_, Some(why)) => Some(Decision::Stay(format!("{name} leaves it as it is: {why}"))),
            (StopMode::Graceful, None) => {
                let why = format!("{name} is stopped and takes it along");
                Some(Decision::release(vec![node], why))
            }
            (_, None) => None,
        }
    }

    fn unmanaged_on(&self, run: &Group, node: NodeNumber) -> bool {
        run.instances.get(&node).is_some_and(|instance| instance.state == GroupState::Unmanaged)
    }

    /// A group that is not configured any more is released wherever it is.
    fn without_definition(&self, run: &Group) -> Decision {
        let asked = matches!(
            self.occasion,
            Occasion::Redefined(_) | Occasion::Ordered(_) | Occasion::Reconcile
        );
        let left = self.releasable(run);
        if !asked
            || left.is_empty()
            || run.blocked.is_some()
            || self.nodes.maintenance(run).is_some()
        {
            return Decision::Nothing;
        }
        Decision::release(left, "it is not configured any more".into())
    }

    /// Nodes that have something of a group, are there, and are not about it already.
    fn releasable(&self, run: &Group) -> Vec<NodeNumber> {
        let reconcile = matches!(self.occasion, Occasion::Reconcile);
        let idle = |it: &Instance| !(it.is_left() || reconcile && in_motion(it.state));
        run.instances
            .iter()
            .filter(|(node, instance)| idle(instance) && self.nodes.holder(**node) == Holder::There)
            .map(|(node, _)| *node)
            .collect()
    }

    /// A group that an operator wants off.
    fn unwanted(&self, run: &Group) -> Decision {
        let left = self.releasable(run);
        let asked = !matches!(self.occasion, Occasion::Joins(_) | Occasion::Leaves(_, None));
        let leaves = match self.occasion {
            Occasion::Leaves(node, Some(_)) => vec![node],
            _ if asked => left,
            _ => Vec::new(),
        };
        let why = run.stopped_for.clone().unwrap_or_else(|| "an operator wants it off".into());
        if leaves.is_empty() { Decision::Stay(why) } else { Decision::release(leaves, why) }
    }

    fn exclusive(&self, def: &GroupDef, run: &Group) -> Decision {
        if run.wanted_offline {
            return self.unwanted(run);
        }
        if let Some(surplus) = self.surplus(def, run) {
            return surplus;
        }
        let Some((&owner, instance)) = run.instances.first_key_value() else {
            return self.place(def, run, None);
        };
        if instance.is_left() {
            return self.left_running(def, run, owner);
        }
        if let Some(why) = self.still_releasing(def, run, owner) {
            return Decision::Stay(why);
        }
        if let Occasion::Joins(node) = self.occasion
            && node == owner
        {
            return self.returned(def, run, owner);
        }
        if let Occasion::Leaves(node, stop) = self.occasion {
            return self.taken_over(def, run, node, stop);
        }
        match self.nodes.holder(owner) {
            Holder::LeftAlone(why) => Decision::Stay(why),
            Holder::Gone if matches!(self.occasion, Occasion::Reconcile) => Decision::Nothing,
            Holder::Gone => {
                self.place(def, run, Some(format!("{} is gone", self.nodes.name(owner))))
            }
            Holder::There
                if matches!(self.occasion, Occasion::Reconcile) && in_motion(instance.state) =>
            {
                Decision::Nothing
            }
            Holder::There if in_motion(instance.state) => self.again(
                def,
                run,
                owner,
                format!(
                    "an earlier event left it {} on {}",
                    instance.state,
                    self.nodes.name(owner)
                ),
            ),
            Holder::There => self.owned(def, run, owner),
        }
    }

    /// Groups that a node could not stop when its lease was over it stops again and again: no event waits for that, and none
    /// can hurry it.
    fn still_releasing(&self, def: &GroupDef, run: &Group, owner: NodeNumber) -> Option<String> {
        let name = self.nodes.name(owner);
        let leaves = matches!(self.occasion, Occasion::Leaves(..));
        let said = self.state.unreleased_on(&def.name, owner).filter(|_| !leaves);
        let known = run.unreleased.contains(&owner) && !leaves;
        said.map(|why| format!("{name} {why}"))
            .or_else(|| known.then(|| format!("{name} has not let go of it yet")))
    }

    /// A group that was concurrent and is not any more: all but one node let it go.
    fn surplus(&self, def: &GroupDef, run: &Group) -> Option<Decision> {
        let stops = matches!(self.occasion, Occasion::Leaves(..) | Occasion::Joins(_));
        if run.instances.len() < 2 || stops {
            return None;
        }
        let keep = def.nodes.iter().find(|node| run.instances.contains_key(node));
        let keep = keep.or(run.instances.keys().next()).copied();
        let others = self.releasable(run).into_iter().filter(|node| Some(*node) != keep).collect();
        Some(Decision::release(others, "it may be on one node only".into())).filter(
            |decision| !matches!(decision, Decision::Move { release, .. } if release.is_empty()),
        )
    }

    fn left_running(&self, def: &GroupDef, run: &Group, owner: NodeNumber) -> Decision {
        let name = self.nodes.name(owner);
        let back = matches!(self.occasion, Occasion::Joins(node) if node == owner);
        if back && self.nodes.may_have(def, run, owner) {
            return Decision::acquire(
                owner,
                format!("it was left running on {name}, which is back"),
            );
        }
        Decision::Stay(format!("left running on {name} without its manager"))
    }

    /// A node comes back while something of the group is still its own: it starts afresh there
    /// rather than being moved in the same breath.
    fn returned(&self, def: &GroupDef, run: &Group, owner: NodeNumber) -> Decision {
        let why = format!("{} was away while it had it", self.nodes.name(owner));
        if self.nodes.may_have(def, run, owner) {
            return Decision::shift(owner, owner, why);
        }
        self.again(def, run, owner, why)
    }

    /// Released where it is and placed anew.
    fn again(&self, def: &GroupDef, run: &Group, owner: NodeNumber, why: String) -> Decision {
        match best(&self.nodes, &self.layout, def, run) {
            Some((to, choice)) => Decision::shift(owner, to, format!("{why}; {choice}")),
            None => {
                let nobody = self.nodes.nobody(def, run);
                Decision::release(vec![owner], format!("{why}; no node can have it: {nobody}"))
            }
        }
    }

    fn taken_over(
        &self,
        def: &GroupDef,
        run: &Group,
        node: NodeNumber,
        stop: Option<StopMode>,
    ) -> Decision {
        let name = self.nodes.name(node);
        match stop {
            Some(_) => match self.about_to_be_better(def, run, None) {
                Some(why) => Decision::release(vec![node], format!("{name} is stopped; {why}")),
                None => self.again(def, run, node, format!("{name} is stopped")),
            },
            None => self.place(def, run, Some(format!("{name} failed"))),
        }
    }

    /// A group that nobody has, or whose node is gone.
    fn place(&self, def: &GroupDef, run: &Group, why: Option<String>) -> Decision {
        if let (Occasion::Joins(node), Policy::Rotating, true) =
            (self.occasion, def.policy, run.instances.is_empty())
        {
            return self.joiner_takes(def, run, node);
        }
        let choice = best(&self.nodes, &self.layout, def, run);
        let chosen = choice.as_ref().map(|(node, _)| *node);
        if let Some(why) = self.about_to_be_better(def, run, chosen) {
            return Decision::Stay(why);
        }
        let why = why.map(|why| format!("{why}; ")).unwrap_or_default();
        match choice {
            Some((node, choice)) => Decision::acquire(node, format!("{why}{choice}")),
            None => {
                Decision::Stay(format!("{why}no node can have it: {}", self.nodes.nobody(def, run)))
            }
        }
    }

    /// A node that joins takes one rotating group for each network.
    fn joiner_takes(&self, def: &GroupDef, run: &Group, node: NodeNumber) -> Decision {
        let name = self.nodes.name(node);
        if let Some(obstacle) = self.nodes.obstacle(def, run, node) {
            return Decision::Stay(format!("{name} {obstacle}"));
        }
        if let Some(rival) = self.layout.rival(def, node) {
            let of = network(def).map(|network| self.state.network_name(network));
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            let rival = &rival.name;
            return Decision::Stay(format!("{name} has a rotating group{of} already: {rival}"));
        }
        Decision::acquire(node, format!("{name} is free for it"))
    }

    /// A node for which it is worth waiting: its join waits in the queue, and it would get the group
    /// from `chosen` at once. A rotating group also waits for nodes that may be starting, because it
    /// never moves to them later.
    fn about_to_be_better(
        &self,
        def: &GroupDef,
        run: &Group,
        chosen: Option<NodeNumber>,
    ) -> Option<String> {
        let free = |node: &NodeNumber| {
            Some(*node) != chosen
                && !run.avoid.contains(node)
                && !self.nodes.in_maintenance(*node)
                && self.nodes.held_for(def, run).is_none_or(|held| held == *node)
        };
        let place = |node: NodeNumber| (run.preferred != Some(node), rank(def, node));
        let better = |node: &NodeNumber| match def.policy {
            Policy::Rotating => run.preferred == Some(*node) || chosen.is_none(),
            _ => chosen.is_none_or(|chosen| place(*node) < place(chosen)),
        };
        let coming = def.nodes.iter().filter(|node| free(node));
        let coming = coming.clone().find(|node| better(node) && self.nodes.is_coming(**node));
        if let Some(node) = coming {
            return Some(format!("{} is about to join and comes first", self.nodes.name(*node)));
        }
        if def.policy != Policy::Rotating || !matches!(self.occasion, Occasion::Reconcile) {
            return None;
        }
        let starting = def.nodes.iter().find(|n| free(n) && self.nodes.may_be_starting(**n))?;
        Some(format!("{} may be starting", self.nodes.name(*starting)))
    }

    /// A group that works on a node that is there: does it stay?
    fn owned(&self, def: &GroupDef, run: &Group, owner: NodeNumber) -> Decision {
        let name = self.nodes.name(owner);
        if let Occasion::Joins(node) = self.occasion {
            return self.goes_back(def, run, owner, node);
        }
        if !def.nodes.contains(&owner) {
            return self.again(def, run, owner, format!("{name} is not in its list"));
        }
        if run.avoid.contains(&owner) {
            return self.again(def, run, owner, format!("{name} is avoided after failures"));
        }
        if let Some(network) = self.nodes.cut_off(def, run, owner)
            && best(&self.nodes, &self.layout, def, run).is_some()
        {
            let why = format!("{name} is not reached over {network} any more");
            return self.again(def, run, owner, why);
        }
        if let Some((to, why)) = self.better_than(def, run, owner) {
            return Decision::shift(owner, to, why);
        }
        if self.resources_changed(def) {
            return Decision::shift(owner, owner, "its resources were changed".into());
        }
        match self.occasion {
            Occasion::Ordered(_) => Decision::Stay(format!("it is where it should be, on {name}")),
            _ => Decision::Nothing,
        }
    }

    /// The node to which a group goes although its own is there.
    fn better_than(
        &self,
        def: &GroupDef,
        run: &Group,
        owner: NodeNumber,
    ) -> Option<(NodeNumber, String)> {
        let able = |node: &NodeNumber| self.nodes.may_have(def, run, *node);
        // A rotating group that went on from where an operator put it stays where it is now.
        let ordered = matches!(self.occasion, Occasion::Ordered(_));
        let obeys = def.policy == Policy::Cascading || ordered;
        if let Some(node) = run.preferred.filter(|node| obeys && able(node)) {
            // The order is the reason of one move; of those that follow by themselves the wish is.
            let name = self.nodes.name(node);
            let why = if ordered {
                format!("an operator moved it to {name}")
            } else {
                format!("{name} is where an operator wants it")
            };
            return (node != owner).then_some((node, why));
        }
        if def.policy != Policy::Cascading || !def.fallback {
            return None;
        }
        let home = self.nodes.home(def).filter(|home| *home != owner && able(home))?;
        if later(self.state, def, home, false).is_some() {
            return None;
        }
        Some((home, format!("{} is there, its home", self.nodes.name(home))))
    }

    /// A cascading group goes back to the node that joins if that is its home: the first of its
    /// list, or where an operator moved it.
    fn goes_back(
        &self,
        def: &GroupDef,
        run: &Group,
        owner: NodeNumber,
        joiner: NodeNumber,
    ) -> Decision {
        let (name, to) = (self.nodes.name(owner), self.nodes.name(joiner));
        let home = self.nodes.home(def);
        if def.policy == Policy::Rotating {
            return Decision::Stay(format!("it rotates: it stays on {name}"));
        }
        // What was to last until home is back is over with this event.
        let over = run.preferred_until == Some(Until::Home) && home == Some(joiner);
        if run.preferred == Some(owner) && !over {
            return Decision::Stay(format!("{name} is where an operator wants it"));
        }
        let ordered = run.preferred == Some(joiner);
        if !ordered && home != Some(joiner) {
            return self.passed_over(def, owner, joiner);
        }
        if let Some(obstacle) = self.nodes.obstacle(def, run, joiner) {
            return Decision::Stay(format!("{to} {obstacle}"));
        }
        if !ordered && !def.fallback {
            return Decision::Stay(format!("it does not go back: it stays on {name}"));
        }
        if let Some(at) = later(self.state, def, joiner, true).filter(|_| !ordered) {
            return Decision::Stay(format!("it goes back to {to}, its home, at {at}"));
        }
        if let Some(why) = self.about_to_be_better(def, run, Some(joiner)) {
            return Decision::Stay(why);
        }
        let what = if ordered { "to which an operator moved it" } else { "its home" };
        Decision::shift(owner, joiner, format!("{to} is back, {what}"))
    }

    /// A node that joins, is not the home of a group, and yet stands before its owner in the list.
    fn passed_over(&self, def: &GroupDef, owner: NodeNumber, joiner: NodeNumber) -> Decision {
        if rank(def, joiner) > rank(def, owner) {
            return Decision::Nothing;
        }
        let home = self.nodes.home(def).map(|home| self.nodes.name(home)).unwrap_or_default();
        Decision::Stay(format!(
            "it stays on {} until its home {home} is back",
            self.nodes.name(owner)
        ))
    }

    fn resources_changed(&self, def: &GroupDef) -> bool {
        let Occasion::Redefined(Some(before)) = self.occasion else { return false };
        before.group(&def.name).is_some_and(|old| differ(&old.resources, &def.resources))
    }

    fn concurrent(&self, def: &GroupDef, run: &Group) -> Decision {
        if run.wanted_offline {
            return self.unwanted(run);
        }
        match self.occasion {
            Occasion::Leaves(node, stop) => self.one_less(def, run, node, stop),
            Occasion::Joins(node) => self.one_more(def, run, node),
            _ => self.everywhere(def, run),
        }
    }

    fn one_less(
        &self,
        def: &GroupDef,
        run: &Group,
        node: NodeNumber,
        stop: Option<StopMode>,
    ) -> Decision {
        let name = self.nodes.name(node);
        if stop.is_some() {
            return Decision::release(vec![node], format!("{name} is stopped"));
        }
        let on = |n: &NodeNumber| *n != node && run.instances.contains_key(n);
        let others: Vec<String> =
            def.nodes.iter().filter(|n| on(n)).map(|n| self.nodes.name(*n)).collect();
        Decision::Stay(match others.is_empty() {
            true => format!("{name} failed, and no other node has it"),
            false => format!("{name} failed; it goes on on {}", others.join(", ")),
        })
    }

    fn one_more(&self, def: &GroupDef, run: &Group, node: NodeNumber) -> Decision {
        let name = self.nodes.name(node);
        if let Some(obstacle) = self.nodes.obstacle(def, run, node) {
            return Decision::Stay(format!("{name} {obstacle}"));
        }
        match run.instances.get(&node) {
            None => Decision::acquire(node, format!("{name} joins")),
            Some(instance) if instance.is_left() => {
                Decision::acquire(node, format!("it was left running on {name}, which is back"))
            }
            Some(_) => Decision::shift(node, node, format!("{name} was away while it had it")),
        }
    }

    /// What is missing is acquired, what may not be there is released.
    fn everywhere(&self, def: &GroupDef, run: &Group) -> Decision {
        let may_stay = |node: &NodeNumber| def.nodes.contains(node) && !run.avoid.contains(node);
        let changed = self.resources_changed(def);
        let release: Vec<NodeNumber> =
            self.releasable(run).into_iter().filter(|n| changed || !may_stay(n)).collect();
        let leaving: BTreeSet<NodeNumber> = release.iter().copied().collect();
        let missing = |node: &NodeNumber| {
            (!run.instances.contains_key(node) || leaving.contains(node))
                && self.nodes.obstacle(def, run, *node).is_none()
        };
        let acquire: Vec<NodeNumber> = def.nodes.iter().copied().filter(missing).collect();
        let reason = match (release.is_empty(), acquire.is_empty()) {
            (true, true) => return self.nothing_to_add(def, run),
            (false, _) if changed => "its resources were changed".to_owned(),
            (false, _) => format!("{} may not have it", self.names(&release)),
            (true, false) => format!("{} can have it", self.names(&acquire)),
        };
        Decision::Move { release, acquire, reason }
    }

    fn nothing_to_add(&self, def: &GroupDef, run: &Group) -> Decision {
        match self.occasion {
            Occasion::Ordered(_) if run.instances.is_empty() => {
                Decision::Stay(format!("no node can have it: {}", self.nodes.nobody(def, run)))
            }
            Occasion::Ordered(_) => Decision::Stay("it is wherever it can be".into()),
            _ => Decision::Nothing,
        }
    }

    fn names(&self, nodes: &[NodeNumber]) -> String {
        let names: Vec<String> = nodes.iter().map(|node| self.nodes.name(*node)).collect();
        names.join(", ")
    }
}

fn in_motion(state: GroupState) -> bool {
    matches!(state, GroupState::Acquiring | GroupState::Releasing)
}

/// Whether resources are others than before. How often one looks at them, and how long one waits,
/// is no reason to disturb them.
fn differ(before: &[ResourceDef], after: &[ResourceDef]) -> bool {
    let what = |resource: &ResourceDef| (resource.name.clone(), resource.kind.clone());
    before.len() != after.len() || before.iter().zip(after).any(|(b, a)| what(b) != what(a))
}
