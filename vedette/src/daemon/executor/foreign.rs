//! Asks, for as long as this node has a service address, whether a machine outside the cluster answers for it, too
//! (findings R3, F11; RFC 5227, 2.4): what was free when it was taken may be somebody's an hour later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vedette_core::command::{AGENT, Command, GroupCommand};
use vedette_core::duplicate::Hardware;
use vedette_core::group::{GroupState, ResourceDef, ResourceKind};
use vedette_node::resource::duplicate::Conflict;

use super::super::director_task::fresh_id;
use super::{Shared, millis};

/// Between two looks at the time.
const EVERY: Duration = Duration::from_millis(500);

/// Asks again and again, as long as the process lives; each machine is told of once until it is silent.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut told: BTreeMap<(String, String), Hardware> = BTreeMap::new();
    let mut asked = Instant::now();
    loop {
        // An interval that was changed holds at once.
        tokio::time::sleep(EVERY).await;
        let interval = shared.state().definition.manager.probe_interval_ms;
        if interval == 0 || asked.elapsed() < millis(interval) {
            continue;
        }
        asked = Instant::now();
        let served = served(&shared);
        told.retain(|(group, resource), _| {
            served.iter().any(|(name, _, def)| name == group && def.name == *resource)
        });
        for (group, token, def) in served {
            let state = shared.state();
            let heard = shared.ops.answered_besides(&group, &state, &def).await;
            let key = (group.clone(), def.name.clone());
            let Some(conflict) = heard else {
                told.remove(&key);
                continue;
            };
            // It may have been given away while it was asked for.
            if shared.token_held(&group) == Some(token)
                && told.insert(key, conflict.hardware) != Some(conflict.hardware)
            {
                tell(&shared, group, (token, def.name), conflict).await;
            }
        }
    }
}

/// Addresses that this node has, each with its group and the token of that.
fn served(shared: &Shared) -> Vec<(String, u64, ResourceDef)> {
    let state = shared.state();
    let mut all = Vec::new();
    for def in state.definition.groups.iter().filter(|_| shared.has_quorum()) {
        let instance = shared.instance(&state, &def.name);
        let token = shared.token_held(&def.name);
        let online =
            instance.filter(|it| it.state == GroupState::Online && Some(it.token) == token);
        let addresses =
            def.resources.iter().filter(|it| matches!(it.kind, ResourceKind::Address { .. }));
        if let Some(instance) = online {
            all.extend(addresses.map(|it| (def.name.clone(), instance.token, it.clone())));
        }
    }
    all
}

async fn tell(
    shared: &Shared,
    group: String,
    (token, resource): (u64, String),
    conflict: Conflict,
) {
    let Conflict { hardware, device } = conflict;
    let node = shared.me;
    let told = GroupCommand::Conflict { group, node, token, resource, hardware, device };
    let proposal = shared.proposer.proposal(fresh_id(), AGENT, Command::Group(told));
    if let Err(refusal) = shared.proposer.propose(proposal).await {
        tracing::warn!("that an address is answered for elsewhere cannot be told: {refusal}");
    }
}
