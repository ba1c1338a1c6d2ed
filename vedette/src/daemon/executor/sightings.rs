//! Looks for what runs here although this node does not have its group: started by hand, left behind by a
//! lease that was lost, never stopped (findings R2, R3; the field calls it a probe, and what it finds
//! "multiple active").
//!
//! Every resource of every group that this node could own is asked with its monitor: when the node takes
//! part again, which is at its start and after each loss of its lease, and at an interval. What two looks in
//! a row show is told into the log, and stopped unless the group's `multiple_active` says `block` or
//! somebody works on it (maintenance).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vedette_core::command::{AGENT, Command, GroupCommand};
use vedette_core::group::{MultipleActive, ResourceDef};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;

use super::super::office::fresh_id;
use super::{Executor, Op, Shared, millis};

/// Between two looks at the time.
const EVERY: Duration = Duration::from_millis(500);

/// The next look after one that found something, or expected to.
const AGAIN: Duration = Duration::from_secs(2);

/// Monitors that run at a time, but for those that take long.
const AT_ONCE: usize = 4;

/// A look waits so long for a monitor. What it says later belongs to a later look.
const PATIENCE: Duration = Duration::from_secs(1);

/// Monitors that run, by group and resource; each says whether its resource runs.
type Running = BTreeMap<(String, String), JoinHandle<bool>>;

/// Resources that run, by their groups.
type Found = BTreeMap<String, BTreeSet<String>>;

/// Looks again and again, as long as the process lives.
pub(super) async fn watch(executor: Executor) {
    let shared = executor.0.clone();
    // When it was looked last, and whether something is open since.
    let (mut looked, mut open): (Option<Instant>, bool) = (None, false);
    let (mut before, mut running) = (Found::new(), Running::new());
    let mut stopping: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let interval = shared.state().definition.manager.probe_interval_ms;
        if !takes_part(&shared) || interval == 0 {
            looked = None;
            before.clear();
            running.clear();
            continue;
        }
        // An interval that was changed holds at once.
        let pause = if open { AGAIN } else { millis(interval) };
        if looked.is_some_and(|looked| looked.elapsed() < pause) {
            continue;
        }
        if looked.is_none()
            && let Err(why) = shared.tell().await
        {
            // The kernel keeps service addresses out before this node ever had one, too; it is told with the next.
            tracing::debug!(why, "the guard is not told which service addresses there are");
        }
        let found = look(&shared, &mut running, &before).await;
        shared.look_at_stuck().await;
        shared.show_stuck();
        let state = shared.state();
        for (group, resources) in news(&before, &found, (shared.me, &state)) {
            tell(&shared, group, resources).await;
        }
        stopping.retain(|_, task| !task.is_finished());
        for (group, resources) in to_stop(&before, &found, (shared.me, &state)) {
            if shared.token_held(&group).is_none() && !stopping.contains_key(&group) {
                let (executor, name) = (executor.clone(), group.clone());
                let stop = async move { executor.stop_extra(name, resources).await };
                stopping.insert(group, tokio::spawn(stop));
            }
        }
        open = !found.is_empty() || is_any_known(&state, shared.me) || shared.is_stuck();
        looked = Some(Instant::now());
        before = found;
    }
}

/// Whether this node is one that could own something, and knows what it owns.
fn takes_part(shared: &Shared) -> bool {
    let view = shared.publisher.views().borrow().clone();
    let joined = view.state.manager.members.get(&shared.me).is_some_and(|member| member.joined);
    joined && view.local.knows() && shared.has_quorum()
}

fn is_any_known(state: &ClusterState, me: NodeNumber) -> bool {
    state.groups.values().any(|group| group.also.contains_key(&me))
}

/// Groups that this node could own and does not have.
fn strange(
    state: &ClusterState,
    me: NodeNumber,
) -> impl Iterator<Item = (&String, &[ResourceDef])> {
    let able = state.definition.groups.iter().filter(move |group| group.nodes.contains(&me));
    able.filter(move |def| {
        let group = state.groups.get(&def.name);
        group.is_some_and(|group| !group.instances.contains_key(&me))
    })
    .map(|def| (&def.name, def.resources.as_slice()))
}

/// What runs of them. A group that this node got meanwhile is not strange any more. Of a resource whose monitor still
/// runs nothing new is known; the others do not wait for it.
async fn look(shared: &Arc<Shared>, running: &mut Running, before: &Found) -> Found {
    let state = shared.state();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    for (group, resources) in strange(&state, shared.me) {
        for def in resources {
            running.entry((group.clone(), def.name.clone())).or_insert_with(|| {
                let ask = ask(shared.clone(), state.clone(), group.clone(), def.clone());
                tokio::spawn(beside(permits.clone(), ask))
            });
        }
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut found = Found::new();
    for ((group, resource), mut asked) in std::mem::take(running) {
        let runs = match tokio::time::timeout_at(deadline, &mut asked).await {
            Ok(said) => said.unwrap_or_default(),
            Err(_) => {
                running.insert((group.clone(), resource.clone()), asked);
                before.get(&group).is_some_and(|known| known.contains(&resource))
            }
        };
        if runs {
            found.entry(group).or_default().insert(resource);
        }
    }
    let state = shared.state();
    let still: BTreeSet<&String> = strange(&state, shared.me).map(|(name, _)| name).collect();
    found.retain(|group, _| still.contains(group));
    found
}

async fn ask(
    shared: Arc<Shared>,
    state: Arc<ClusterState>,
    group: String,
    def: ResourceDef,
) -> bool {
    shared.hands.runs(&group, &state, &def).await
}

/// With as few others as may run at a time; what takes long makes room for them.
async fn beside(permits: Arc<Semaphore>, asks: impl Future<Output = bool>) -> bool {
    tokio::pin!(asks);
    let permit = permits.acquire().await;
    if let Ok(said) = tokio::time::timeout(PATIENCE, &mut asks).await {
        return said;
    }
    drop(permit);
    asks.await
}

/// What two looks showed alike.
fn confirmed<'a>(
    before: &'a Found,
    found: &'a Found,
) -> impl Iterator<Item = (&'a String, &'a BTreeSet<String>)> {
    found.iter().filter(|(group, resources)| before.get(*group) == Some(*resources))
}

/// What the cluster does not know yet, and what it knows that is over.
fn news(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let known = |group: &str| state.groups.get(group).and_then(|it| it.also.get(&me));
    let new = confirmed(before, found)
        .filter(|(group, now)| known(group).is_none_or(|it| it.unproven || it.resources != **now))
        .map(|(group, now)| (group.clone(), now.clone()));
    let over = state
        .groups
        .iter()
        .filter(|(name, group)| group.also.contains_key(&me) && !found.contains_key(*name));
    new.chain(over.map(|(name, _)| (name.clone(), BTreeSet::new()))).collect()
}

/// What is to be stopped here.
fn to_stop(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let manager = &state.manager;
    let of_node = manager.members.get(&me).is_none_or(|member| member.maintenance);
    if manager.maintenance || of_node {
        return Found::new();
    }
    let free = |group: &str| {
        let known = state.groups.get(group);
        known.is_some_and(|it| !it.maintenance && !it.instances.contains_key(&me))
            && state.multiple_active(group) != MultipleActive::Block
    };
    let extra = confirmed(before, found).filter(|(group, _)| free(group));
    extra.map(|(group, resources)| (group.clone(), resources.clone())).collect()
}

async fn tell(shared: &Shared, group: String, resources: BTreeSet<String>) {
    let sighted = GroupCommand::Sighted { group, node: shared.me, resources };
    let proposal = shared.proposer.proposal(fresh_id(), AGENT, Command::Group(sighted));
    // Refused or undecided: it is seen again in a moment.
    if let Err(refusal) = shared.proposer.propose(proposal).await {
        tracing::warn!("what runs here besides cannot be told: {refusal}");
    }
}

impl Executor {
    /// Stops resources of a group that this node does not have.
    async fn stop_extra(&self, group: String, resources: BTreeSet<String>) {
        let (done, over) = tokio::sync::oneshot::channel();
        self.send(&group, Op::StopExtra { resources, done }).await;
        // The agent is ending.
        let _ = over.await;
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::Fixture;
    use vedette_core::group::Sighting;
    use vedette_core::time::WallTime;

    use super::*;

    const N3: NodeNumber = NodeNumber(3);

    fn found(group: &str) -> Found {
        Found::from([(group.to_owned(), BTreeSet::from(["db-server".to_owned()]))])
    }

    fn state() -> ClusterState {
        Fixture::with_groups().state
    }

    #[test]
    fn only_what_two_looks_show_is_told_and_stopped() {
        let (state, nothing, db) = (state(), Found::new(), found("db"));
        assert_eq!(news(&nothing, &db, (N3, &state)), nothing);
        assert_eq!(to_stop(&nothing, &db, (N3, &state)), nothing);
        assert_eq!(news(&db, &db, (N3, &state)), db);
        assert_eq!(to_stop(&db, &db, (N3, &state)), db);
        assert_eq!(news(&db, &nothing, (N3, &state)), nothing, "it was never told");
    }

    #[test]
    fn what_is_known_is_told_again_only_when_it_is_over() {
        let (mut state, nothing, db) = (state(), Found::new(), found("db"));
        let (resources, since) = (db["db"].clone(), WallTime::default());
        let group = state.groups.get_mut("db").expect("a group");
        group.also.insert(N3, Sighting { resources, since, unproven: false });
        assert_eq!(news(&db, &db, (N3, &state)), nothing);
        assert_eq!(to_stop(&db, &db, (N3, &state)), db, "it still runs");
        let over = Found::from([("db".to_owned(), BTreeSet::new())]);
        assert_eq!(news(&db, &nothing, (N3, &state)), over);
    }

    #[test]
    fn nothing_is_stopped_in_maintenance_or_where_an_operator_decides() {
        let (nothing, db) = (Found::new(), found("db"));
        let changes: [fn(&mut ClusterState); 4] = [
            |state| state.manager.maintenance = true,
            |state| state.manager.members.get_mut(&N3).expect("it").maintenance = true,
            |state| state.groups.get_mut("db").expect("it").maintenance = true,
            |state| state.definition.groups[1].multiple_active = MultipleActive::Block,
        ];
        for change in changes {
            let mut state = state();
            change(&mut state);
            assert_eq!(to_stop(&db, &db, (N3, &state)), nothing);
            assert_eq!(news(&db, &db, (N3, &state)), db, "it is told all the same");
        }
    }

    #[test]
    fn strange_is_what_a_node_could_own_and_does_not_have() {
        let state = state();
        let of = |node| strange(&state, node).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(of(NodeNumber(2)), ["web"], "it has db and batch");
        assert_eq!(of(NodeNumber(9)), [""; 0]);
    }
}
