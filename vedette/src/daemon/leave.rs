//! Leaving in good order (spec A6, A19, H21): what runs here is handed over before the daemon ends.
//!
//! The end of a daemon is a stop with takeover: the cluster runs the event, this node releases, others
//! acquire. That takes as long as the resources take to stop, but not without end, and not at all where
//! nobody is there to decide it. A second request to end is a request to end now. A file remembers that
//! the stop was part of leaving, so that the node's manager starts again with its daemon; one that an
//! operator stopped stays stopped. What maintenance leaves running goes on without the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vedette_core::command::{AGENT, Command, ManagerCommand};
use vedette_core::group::{GroupState, Instance};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;
use vedette_core::trigger::StopMode;
use vedette_core::view::View;

use super::director_task::fresh_id;
use super::proposer::Proposer;
use super::publisher::Publisher;

/// The longest time for it, whatever the resources say.
const LONGEST: Duration = Duration::from_secs(60);

/// What the event around the stops may take.
const EVENT: Duration = Duration::from_secs(10);

/// Remembers that the manager was stopped by leaving.
const LEFT: &str = "left";

/// What leaving needs.
#[derive(Clone)]
pub(crate) struct Leaving {
    pub(crate) me: NodeNumber,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) state_dir: PathBuf,
}

impl Leaving {
    /// Has the node's groups handed over, and ends when that is done, or cannot be.
    pub(crate) async fn hand_over(&self) {
        let view = self.publisher.views().borrow().clone();
        if !view.local.quorate || !takes_part(&view.state, self.me) {
            return;
        }
        if let Err(error) = std::fs::write(self.state_dir.join(LEFT), "") {
            tracing::warn!(%error, "that this node left by itself cannot be remembered");
        }
        let limit = limit(&view.state, self.me);
        tracing::info!(limit_s = limit.as_secs(), "hands over what runs here before it ends");
        if timeout(limit, self.stop()).await.is_err() {
            tracing::error!("not everything was handed over in {} s", limit.as_secs());
        }
    }

    async fn stop(&self) {
        let stop = ManagerCommand::Stop { nodes: vec![self.me], how: StopMode::Takeover };
        let proposal = self.proposer.proposal(fresh_id(), AGENT, Command::Manager(stop));
        match self.proposer.propose(proposal).await {
            Ok(vedette_core::state::Outcome::Refused(refusal)) | Err(refusal) => {
                tracing::warn!(%refusal, "the node's groups are not handed over");
            }
            Ok(_) => {
                let mut views = self.publisher.views();
                let _ = views.wait_for(|view| self.is_over(view)).await;
            }
        }
    }

    /// Nothing is here any more, or nobody is left who could take it.
    fn is_over(&self, view: &View) -> bool {
        !view.local.quorate || (!takes_part(&view.state, self.me) && !has_any(&view.state, self.me))
    }
}

/// Starts the manager again if it was stopped by leaving. To be called when it is known to the state.
pub(crate) async fn start_again(state_dir: &Path, proposer: &Proposer, me: NodeNumber) {
    let left = state_dir.join(LEFT);
    if !left.exists() {
        return;
    }
    let start = ManagerCommand::Start { nodes: vec![me] };
    super::runner::insist(proposer, Command::Manager(start)).await;
    if let Err(error) = std::fs::remove_file(&left) {
        tracing::warn!(%error, "{} cannot be removed", left.display());
    }
}

fn takes_part(state: &ClusterState, me: NodeNumber) -> bool {
    state.manager.members.get(&me).is_some_and(|member| member.joined)
}

/// Whether something is here that its manager looks after.
fn has_any(state: &ClusterState, me: NodeNumber) -> bool {
    let managed = |it: &Instance| it.state != GroupState::Unmanaged;
    state.groups.values().any(|group| group.instances.get(&me).is_some_and(managed))
}

/// What the resources here may take to stop, and the event around it.
fn limit(state: &ClusterState, me: NodeNumber) -> Duration {
    let here = state.groups.iter().filter(|(_, group)| group.instances.contains_key(&me));
    let definitions = here.filter_map(|(name, _)| state.definition.group(name));
    // Groups are released side by side.
    let longest = definitions
        .map(|group| group.resources.iter().map(|it| it.stop_timeout_ms).sum::<u64>())
        .max()
        .unwrap_or(0);
    (Duration::from_millis(longest) + EVENT).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::Fixture;

    use super::*;

    /// A19: leaving takes no longer than the groups that are here may take, and never without end.
    #[test]
    fn a19_leaving_is_bounded() {
        let fixture = Fixture::with_groups();
        let owner = fixture.state.groups["web"].owner().unwrap();
        let with = limit(&fixture.state, owner);
        assert!(with > EVENT && with <= LONGEST, "{with:?}");
        assert_eq!(limit(&fixture.state, NodeNumber(99)), EVENT);
    }
}
