//! `swap_adapter` on this node (spec H27): the standby adapter of a network takes over from the one in
//! use, with all service addresses that are held on it.
//!
//! It is the node's business and not a group's. An exchange is its own opposite, so one that was done
//! in an event is not done again in it, whoever asks how often.

use std::net::IpAddr;

use tokio::sync::mpsc;
use vedette_core::event::Running;
use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::id::NetworkNumber;
use vedette_core::state::ClusterState;

use super::{Said, Shared, Stop};

impl Shared {
    /// Exchanges the adapters of the network of that name, or of the networks of a group's
    /// addresses.
    pub(super) async fn swap(
        &self,
        name: &str,
        lines: &mpsc::Sender<String>,
    ) -> Result<Said, Stop> {
        let state = self.state();
        let mut swapped = self.swapped.lock().await;
        let mut said = Vec::new();
        for network in networks(&state, name) {
            let called = state.network_name(network);
            let event = self.event_of(&state, network);
            if event > 0 && swapped.get(&network) == Some(&event) {
                said.push(format!("{called} was swapped in this event already"));
                continue;
            }
            let held = self.addresses_on(network);
            match self.ops.swap(&state, network, held).await {
                Ok(detail) => {
                    let _ = lines.try_send(format!("{called}: {detail}"));
                    said.push(format!("{called} is swapped"));
                    swapped.insert(network, event);
                }
                Err(why) => return Err(Stop::failed(format!("{called}: {why}"))),
            }
        }
        Ok(if said.is_empty() { format!("{name} has no addresses") } else { said.join("; ") })
    }

    /// The event that swaps the adapter, which may go on aside; else the one in progress, or 0.
    fn event_of(&self, state: &ClusterState, network: NetworkNumber) -> u64 {
        let mine = |it: &&Running| it.event.trigger.adapter() == Some((self.me, network));
        let running = state.manager.begun().find(mine).or(state.manager.current.as_ref());
        running.map_or(0, |running| running.event.id)
    }

    fn addresses_on(&self, wanted: NetworkNumber) -> Vec<IpAddr> {
        let of = |resource: &ResourceDef| match resource.kind {
            ResourceKind::Address { address, network, .. } if network == wanted => Some(address),
            _ => None,
        };
        self.desk(|desk| {
            let resources = desk.held().values().flat_map(|held| &held.resources);
            resources.filter_map(of).collect()
        })
    }
}

fn networks(state: &ClusterState, name: &str) -> Vec<NetworkNumber> {
    let named = state.networks.iter().find(|(_, network)| network.name == name);
    if let Some((number, _)) = named {
        return vec![*number];
    }
    let resources = state.definition.group(name).map(|group| group.resources.as_slice());
    let mut networks: Vec<NetworkNumber> = resources
        .unwrap_or_default()
        .iter()
        .filter_map(|resource| match resource.kind {
            ResourceKind::Address { network, .. } => Some(network),
            _ => None,
        })
        .collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}
