//! Looks for what runs here although this node does not have its group: asks its resources' monitors, as many at a time
//! as may run, when [`Sightings`] says so, and does what that makes of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use vedette_core::command::{AGENT, Command, GroupCommand, ManagerCommand};
use vedette_core::group::ResourceDef;
use vedette_core::holding::executor::{Found, Input, Op, Sighted, Sightings, strange};
use vedette_core::state::ClusterState;

use super::super::director_task::fresh_id;
use super::resource_ops::Look;
use super::{Shared, millis, now};

/// Between two looks at the time.
const EVERY: Duration = Duration::from_millis(500);

/// Monitors that run at a time, but for those that take long.
const AT_ONCE: usize = 4;

/// A look waits so long for a monitor. What it says later belongs to a later look.
const PATIENCE: Duration = Duration::from_secs(1);

/// Monitors that run, by group and resource; each says what it saw.
type Running = BTreeMap<(String, String), JoinHandle<Look>>;

/// Resources whose monitors gave no answer, and why; by group and resource.
type Silent = BTreeMap<(String, String), String>;

/// Looks again and again, as long as the process lives.
pub(super) async fn watch(shared: Arc<Shared>) {
    let (mut sightings, mut running) = (Sightings::default(), Running::new());
    let mut silent = Silent::new();
    let mut stopping: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let interval = millis(shared.state().definition.manager.probe_interval_ms);
        let takes_part = takes_part(&shared);
        if !takes_part {
            running.clear();
        }
        if !sightings.is_due(now(), takes_part, interval) {
            continue;
        }
        if sightings.is_first() {
            // The kernel keeps service addresses out before this node ever had one, too.
            shared.act(Input::Tell);
        }
        let found = look(&shared, (&mut running, &mut silent), sightings.before()).await;
        tell_silent(&shared, &silent).await;
        shared.look_at_stuck().await;
        shared.show_stuck();
        let state = shared.state();
        let sighted = sightings.take(now(), found, (shared.me, &state), shared.is_stuck());
        let Sighted { news, to_stop } = sighted;
        for (group, resources) in news {
            tell(&shared, group, resources).await;
        }
        stopping.retain(|_, task| !task.is_finished());
        for (group, resources) in to_stop {
            if shared.token_held(&group).is_none() && !stopping.contains_key(&group) {
                let asked = shared.ask(&group, Op::StopExtra { resources }, None).1;
                // The agent is ending.
                stopping.insert(group, tokio::spawn(async move { drop(asked.await) }));
            }
        }
    }
}

/// Whether this node is one that could own something, and knows what it owns.
fn takes_part(shared: &Shared) -> bool {
    let view = shared.publisher.views().borrow().clone();
    let joined = view.state.manager.members.get(&shared.me).is_some_and(|member| member.joined);
    joined && view.local.knows() && shared.has_quorum()
}

/// What runs of them. A group that this node got meanwhile is not strange any more. Of a resource whose monitor still
/// runs nothing new is known; the others do not wait for it.
async fn look(
    shared: &Arc<Shared>,
    (running, silent): (&mut Running, &mut Silent),
    before: &Found,
) -> Found {
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
        let key = (group.clone(), resource.clone());
        let known = || before.get(&group).is_some_and(|known| known.contains(&resource));
        let runs = match tokio::time::timeout_at(deadline, &mut asked).await {
            Ok(Ok(Look::Silent(why))) => {
                silent.insert(key, why);
                known()
            }
            Ok(said) => {
                silent.remove(&key);
                matches!(said, Ok(Look::Runs))
            }
            Err(_) => {
                running.insert(key, asked);
                known()
            }
        };
        if runs {
            found.entry(group).or_default().insert(resource);
        }
    }
    let state = shared.state();
    let still: BTreeSet<&String> = strange(&state, shared.me).map(|(name, _)| name).collect();
    found.retain(|group, _| still.contains(group));
    silent.retain(|(group, resource), _| {
        let def = state.definition.group(group);
        still.contains(group)
            && def.is_some_and(|def| def.resources.iter().any(|it| it.name == *resource))
    });
    found
}

async fn ask(
    shared: Arc<Shared>,
    state: Arc<ClusterState>,
    group: String,
    def: ResourceDef,
) -> Look {
    shared.ops.look(&group, &state, &def).await
}

/// With as few others as may run at a time; what takes long makes room for them.
async fn beside(permits: Arc<Semaphore>, asks: impl Future<Output = Look>) -> Look {
    tokio::pin!(asks);
    let permit = permits.acquire().await;
    if let Ok(said) = tokio::time::timeout(PATIENCE, &mut asks).await {
        return said;
    }
    drop(permit);
    asks.await
}

/// Tells the cluster of what nobody knows whether it runs here, and of what is known again, as far as that is news.
async fn tell_silent(shared: &Shared, silent: &Silent) {
    let state = shared.state();
    let known = state.manager.blind.get(&shared.me);
    let known: BTreeSet<&String> =
        known.into_iter().flat_map(BTreeMap::keys).filter(|it| ClusterState::is_look(it)).collect();
    let now: BTreeMap<String, &String> =
        silent.iter().map(|((_, resource), why)| (ClusterState::look_for(resource), why)).collect();
    let new = now.iter().filter(|(what, _)| !known.contains(what));
    let new = new.map(|(what, why)| (what.clone(), Some((*why).clone())));
    let over = known.iter().filter(|what| !now.contains_key(**what));
    for (what, why) in new.chain(over.map(|what| ((*what).clone(), None))) {
        let command = ManagerCommand::Blind { node: shared.me, what, why };
        let proposal = shared.proposer.proposal(fresh_id(), AGENT, Command::Manager(command));
        // Refused or undecided: it is seen again at the next look.
        if let Err(refusal) = shared.proposer.propose(proposal).await {
            tracing::debug!("what cannot be looked for here cannot be told: {refusal}");
        }
    }
}

async fn tell(shared: &Shared, group: String, resources: BTreeSet<String>) {
    let sighted = GroupCommand::Sighted { group, node: shared.me, resources };
    let proposal = shared.proposer.proposal(fresh_id(), AGENT, Command::Group(sighted));
    // Refused or undecided: it is seen again in a moment.
    if let Err(refusal) = shared.proposer.propose(proposal).await {
        tracing::warn!("what runs here besides cannot be told: {refusal}");
    }
}
