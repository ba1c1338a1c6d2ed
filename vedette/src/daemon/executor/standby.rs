//! Looks after this node's standby adapters (spec H13, H27): whether each could take over.
//!
//! A standby adapter carries no beats, so nobody else can see how it is; what there is to see is
//! whether its device is there, switched on, and has a link. A change is proposed as `fail_standby` or
//! `join_standby` once it has lasted for two detection times. That long because of `swap_adapter`: the
//! adapter that failed is the standby afterwards, and until the heartbeat is heard over the other one
//! a failed standby would make its groups move for nothing.
//!
//! A service address, though, is left on no adapter without a link as long as the other one of its network has
//! a link, whichever it got there by: its worker moves it, with or without the cluster; at once, unless a swap is
//! to be expected, which takes the node's own address along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vedette_core::command::{AGENT, Command, ManagerCommand};
use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::holding::executor::{Input, Op};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::state::ClusterState;
use vedette_core::trigger::Trigger;

use super::super::director_task::fresh_id;
use super::Shared;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// Detection times that a swap has to take an address along with the node's own.
const PATIENCE_FOR_A_SWAP: u32 = 4;

/// Groups with an address on an adapter without a link, since when.
type Lost = BTreeMap<String, Instant>;

/// Networks whose standby adapter is not what the cluster knows of it, since when.
type Wrong = BTreeMap<NetworkNumber, Instant>;

/// What is wrong with each standby adapter, if anything is.
type Found = BTreeMap<NetworkNumber, Option<String>>;

/// Looks again and again, as long as the process lives.
pub(super) async fn watch(shared: Arc<Shared>) {
    let (mut wrong, mut lost, mut dead) = (Wrong::new(), Lost::new(), Wrong::new());
    loop {
        tokio::time::sleep(EVERY).await;
        let state = shared.state();
        route_past(&shared, &state).await;
        let found = adrift(&shared, &state).await;
        let patience = state.settings.timing.detect() * PATIENCE_FOR_A_SWAP;
        for group in due(&mut lost, found, Instant::now(), patience) {
            if shared.desk(|desk| desk.begins_to_settle(&group)) {
                shared.act(Input::Ask { ask: 0, group, op: Op::Settle });
            }
        }
        let joined = state.manager.members.get(&shared.me).is_some_and(|member| member.joined);
        if !joined || !shared.has_quorum() {
            wrong.clear();
            dead.clear();
            continue;
        }
        for (network, device) in round_about(&shared, &state, &mut dead, patience).await {
            let node = shared.me;
            let trigger = Trigger::SwapAdapter { node, network };
            let cause =
                format!("{device} has no link, and what comes through comes over the other one");
            queue(&shared, network, trigger, cause).await;
        }
        let found = look(&shared, &state).await;
        let patience = state.settings.timing.detect() * 2;
        let (me, now) = (shared.me, Instant::now());
        for network in lasting(&mut wrong, &found, (me, &state), now, patience) {
            propose(&shared, network, found[&network].as_deref()).await;
        }
    }
}

/// Networks on which this node's own address has been on an adapter without a link for longer than others take to see
/// that its interface fails: beats find a way over the standby adapter, and nobody sees it. Each once in that time.
async fn round_about(
    shared: &Shared,
    state: &ClusterState,
    dead: &mut Wrong,
    patience: Duration,
) -> Vec<(NetworkNumber, String)> {
    let Some(own) = state.nodes.get(&shared.me) else { return Vec::new() };
    let (mut found, now) = (Vec::new(), Instant::now());
    let standbys = shared.ops.standbys(state);
    dead.retain(|network, _| standbys.contains_key(network));
    for (network, standby) in standbys {
        let Some(interface) = own.interfaces.get(&network) else { continue };
        let looked =
            vedette_node::resource::address::own_without_link(interface.address, standby).await;
        let Some(device) = looked.ok().flatten() else {
            dead.remove(&network);
            continue;
        };
        let since = dead.entry(network).or_insert(now);
        if now - *since >= patience {
            *since = now;
            found.push((network, device));
        }
    }
    found
}

/// Has nothing sent into a dead standby adapter.
async fn route_past(shared: &Shared, state: &ClusterState) {
    let Some(own) = state.nodes.get(&shared.me) else { return };
    let standbys = shared.ops.standbys(state).into_iter();
    let pair = |(network, standby)| Some((own.interfaces.get(&network)?.address, standby));
    let pairs: Vec<_> = standbys.filter_map(pair).collect();
    if !pairs.is_empty()
        && let Err(failure) = vedette_node::resource::address::route_past_standbys(pairs).await
    {
        tracing::debug!(%failure, "routes of standby adapters are as they were");
    }
}

/// Groups held here with an address on an adapter that has no link, where another one has, and whether a swap takes
/// all of those along. Not in maintenance, nor what is left to itself.
async fn adrift(shared: &Shared, state: &ClusterState) -> BTreeMap<String, bool> {
    let standbys = shared.ops.standbys(state);
    let is = |it: &ResourceDef| matches!(it.kind, ResourceKind::Address { network, .. } if standbys.contains_key(&network));
    let mut found = BTreeMap::new();
    let held = shared.desk(|desk| desk.ends_with_the_lease());
    let looked_after =
        |group: &String| !standbys.is_empty() && !state.is_left_alone(group, shared.me);
    for (group, held) in held.into_iter().filter(|(group, _)| looked_after(group)) {
        let addresses: Vec<ResourceDef> = held.resources.into_iter().filter(is).collect();
        if addresses.is_empty() {
            continue;
        }
        let lost = shared.ops.adrift(state, addresses).await;
        if !lost.is_empty() {
            found.insert(group, lost.iter().all(|(_, with_swap)| *with_swap));
        }
    }
    found
}

/// Those that are to be moved now: at once, but where a swap is expected only if none comes.
fn due(
    lost: &mut Lost,
    found: BTreeMap<String, bool>,
    now: Instant,
    patience: Duration,
) -> Vec<String> {
    lost.retain(|group, _| found.contains_key(group));
    let is_due = |(group, with_swap): (String, bool)| {
        let since = *lost.entry(group.clone()).or_insert(now);
        (!with_swap || now - since >= patience).then_some(group)
    };
    found.into_iter().filter_map(is_due).collect()
}

/// Why each of them would not do, if it would not.
async fn look(shared: &Shared, state: &ClusterState) -> Found {
    let mut found = Found::new();
    for (network, address) in shared.ops.standbys(state) {
        // What cannot be seen is no news.
        if let Ok(fault) = vedette_node::resource::address::standby_fault(address).await {
            found.insert(network, fault);
        }
    }
    found
}

/// Those that have been other than the cluster knows them for long enough.
fn lasting(
    wrong: &mut Wrong,
    found: &Found,
    (me, state): (NodeNumber, &ClusterState),
    now: Instant,
    patience: Duration,
) -> Vec<NetworkNumber> {
    let known = |network: NetworkNumber| state.manager.standby_fault(me, network).is_none();
    let works = |fault: &Option<String>| fault.is_none();
    wrong.retain(|network, _| found.get(network).is_some_and(|it| works(it) != known(*network)));
    let news = found.iter().filter(|(network, it)| works(it) != known(**network));
    let since = news.map(|(network, _)| (*network, *wrong.entry(*network).or_insert(now)));
    since.filter(|(_, since)| now - *since >= patience).map(|(network, _)| network).collect()
}

async fn propose(shared: &Shared, network: NetworkNumber, fault: Option<&str>) {
    let node = shared.me;
    let (trigger, cause) = match fault {
        None => (Trigger::JoinStandby { node, network }, "its device has a link"),
        Some(fault) => (Trigger::FailStandby { node, network }, fault),
    };
    queue(shared, network, trigger, cause.into()).await;
}

async fn queue(shared: &Shared, network: NetworkNumber, trigger: Trigger, cause: String) {
    let command = ManagerCommand::Queue { trigger, cause };
    let proposal = shared.proposer.proposal(fresh_id(), AGENT, Command::Manager(command));
    // Refused or undecided: it is seen again in a moment.
    if let Err(refusal) = shared.proposer.propose(proposal).await {
        tracing::warn!(%network, "a standby adapter: {refusal}");
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::event::StandbyFault;
    use vedette_core::fixture::Fixture;
    use vedette_core::time::WallTime;

    use super::*;

    /// What a swap would take along has time for that; everything else has none.
    #[test]
    fn an_address_waits_for_a_swap_and_for_nothing_else() {
        let (mut lost, began, patience) = (Lost::new(), Instant::now(), Duration::from_secs(4));
        let mut at = |seconds, found: &[(&str, bool)]| {
            let found = found.iter().map(|(group, swap)| ((*group).to_owned(), *swap)).collect();
            due(&mut lost, found, began + Duration::from_secs(seconds), patience)
        };
        assert_eq!(at(0, &[("db", false), ("web", true)]), ["db"]);
        assert_eq!(at(3, &[("web", true)]), [""; 0]);
        assert_eq!(at(4, &[("web", true)]), ["web"]);
        assert_eq!(at(5, &[]), [""; 0]);
        assert_eq!(at(6, &[("web", true)]), [""; 0], "another time");
    }

    /// A moment is no news, and what is known already is none.
    #[test]
    fn what_lasts_is_told_until_it_is_known() {
        let (me, neta, patience) = (NodeNumber(1), NetworkNumber(1), Duration::from_secs(2));
        let mut state = Fixture::settled(3).state;
        let fault = || Some("eth3 has no link".to_owned());
        let (fails, works) = (Found::from([(neta, fault())]), Found::from([(neta, None)]));
        let (mut wrong, mut now) = (Wrong::new(), Instant::now());
        let mut told = |state: &ClusterState, found, seconds| {
            now += Duration::from_secs(seconds);
            lasting(&mut wrong, found, (me, state), now, patience)
        };
        assert_eq!(told(&state, &fails, 0), []);
        assert_eq!(told(&state, &works, 1), []);
        assert_eq!(told(&state, &fails, 1), []);
        assert_eq!(told(&state, &fails, 2), [neta]);
        let fault = StandbyFault { since: WallTime::default(), cause: String::new() };
        state.manager.standbys_down.insert(me, BTreeMap::from([(neta, fault)]));
        assert_eq!(told(&state, &fails, 9), []);
        assert_eq!(told(&state, &works, 1), []);
        assert_eq!(told(&state, &works, 2), [neta]);
    }
}
