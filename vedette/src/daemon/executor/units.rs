//! Which units of systemd belong to groups: those of the definition that this node could own, and those that it
//! still has.
//!
//! They are given to their groups ([`vedette_node::resource::systemd`]) as soon as the document says so, on
//! nodes that do not have the group as well: there too nothing but the cluster starts them from then on. One
//! that is no resource any more is the operator's again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::state::ClusterState;
use vedette_node::resource::systemd;

use super::Shared;

/// The pause after a systemd that did not take it.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps systemd in line with the definition.
pub(super) async fn follow(shared: Arc<Shared>) {
    let Some(root) = shared.ops.cgroup.clone() else { return };
    let mut views = shared.publisher.views();
    let mut kept = None;
    loop {
        let view = views.borrow_and_update().clone();
        let wanted = shared.units(&view.state);
        if view.local.knows() && kept.as_ref() != Some(&wanted) {
            if let Err(failure) = systemd::keep(&wanted, &root).await {
                tracing::warn!("{failure}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            kept = Some(wanted);
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Each with the control group of its group.
    fn units(&self, state: &ClusterState) -> BTreeMap<String, PathBuf> {
        let able = state.definition.groups.iter().filter(|group| group.nodes.contains(&self.me));
        let defined = able.map(|group| (group.name.clone(), group.resources.clone()));
        let held: Vec<(String, Vec<ResourceDef>)> = self.desk(|desk| {
            let held = desk.held().iter();
            held.map(|(name, held)| (name.clone(), held.resources.clone())).collect()
        });
        let mut units = BTreeMap::new();
        for (group, resources) in defined.chain(held) {
            let context = self.ops.context(&group, 0, state);
            let Some(place) = context.group_directory() else { continue };
            for resource in resources {
                if let ResourceKind::Systemd { unit } = resource.kind {
                    units.insert(unit, place.directory().to_owned());
                }
            }
        }
        units
    }
}
