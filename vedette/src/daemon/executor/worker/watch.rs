//! Watching what is held (spec H25): a look at every resource at its interval.
//!
//! What a look means is the core's to say ([`vedette_core::tolerance`]): a failure may be tolerated, which is
//! shown and changes nothing. A resource that fails is restarted in place, with everything that was started
//! after it, as often as its definition allows; then its group is to move, and the cluster decides where to. In maintenance
//! what is seen is reported, and nothing is done about it. An instance that is left unmanaged is not
//! looked at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use vedette_core::group::{GroupState, ResourceDef, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;
use vedette_core::tolerance::{self, Verdict};

use super::super::hands::Trouble;
use super::super::{Held, millis};
use super::{Lines, Worker};

/// How long a report may take to come back as state.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// One look at one resource.
pub(super) struct Look {
    token: u64,
    resource: ResourceDef,
    /// What is to be said of it, or why it failed.
    found: Result<String, Trouble>,
}

/// Looks under way.
pub(super) type Watching = FuturesUnordered<BoxFuture<'static, Look>>;

impl Worker {
    /// A look at everything that is held and watched, the first of them at once.
    pub(super) fn looks(&self) -> Watching {
        let Some(held) = self.kept() else { return Watching::new() };
        let looks = held.resources.iter().filter_map(|it| self.look(held, it));
        looks.collect()
    }

    /// The next look, after one that was taken.
    pub(super) fn look_again(&self) -> Option<BoxFuture<'static, Look>> {
        let held = self.kept()?;
        let resource =
            held.resources.iter().find(|it| Some(&it.name) == self.seen_last.as_ref())?;
        self.look(held, resource)
    }

    fn look(&self, held: &Held, resource: &ResourceDef) -> Option<BoxFuture<'static, Look>> {
        if resource.monitor_interval_ms == 0 {
            return None;
        }
        let shared = self.shared.clone();
        let (group, token, resource) = (self.group.clone(), held.token, resource.clone());
        Some(Box::pin(async move {
            loop {
                tokio::time::sleep(millis(resource.monitor_interval_ms)).await;
                let state = shared.state();
                if !is_watched(&state, &group, shared.me, token) {
                    continue;
                }
                let context = super::super::hands::Context { group: group.clone(), token, state };
                let found = shared.hands.monitor(&context, &resource).await;
                if found.is_err() && shared.is_in_doubt(&group) {
                    // What is not there may have been let go of: that is no failure of the resource.
                    continue;
                }
                return Look { token, resource, found };
            }
        }))
    }

    /// Takes what was seen; answers whether all looks are to begin anew.
    pub(super) async fn seen(&mut self, look: Look) -> bool {
        let Look { token, resource, found } = look;
        self.seen_last = Some(resource.name.clone());
        if self.is_lost() || self.letting.is_some() {
            // It may have been seen after it was let go of.
            return true;
        }
        let Some(held) = self.held.clone().filter(|held| held.token == token) else { return true };
        let (look, said) = match found {
            Ok(detail) => (tolerance::Look::Well, detail),
            Err(Trouble { why, late: true }) => (tolerance::Look::Late, why),
            Err(Trouble { why, late: false }) => (tolerance::Look::Failed, why),
        };
        // What is tolerated, and how often it is restarted, is as it is configured now.
        let resource = self.in_force(resource);
        let looks = self.looked.entry(resource.name.clone()).or_default();
        match looks.take(&resource, look) {
            // It may have left its control group meanwhile.
            Verdict::Well => self.tell_outside(&held),
            Verdict::Rising => {}
            Verdict::Recovered => self.works_again(token, &resource.name, &said),
            Verdict::Tolerated { count, limit } => {
                let (group, name) = (&self.group, &resource.name);
                tracing::warn!(group, resource = name, "tolerated, {count} of {limit}: {said}");
                self.reporter.tolerated(token, name, (count, limit), said);
            }
            Verdict::Failed => return self.failed(&held, &resource, said).await,
        }
        false
    }

    /// A resource by the definition in force; if that has it no more, by the one that it was started by.
    fn in_force(&self, started: ResourceDef) -> ResourceDef {
        let defined = self.defined().unwrap_or_default();
        defined.into_iter().find(|it| it.name == started.name).unwrap_or(started)
    }

    fn works_again(&mut self, token: u64, resource: &str, detail: &str) {
        if self.failing.remove(resource) {
            self.given_up.remove(resource);
            self.reporter.resource(token, resource, ResourceState::Online, detail);
        } else {
            self.reporter.tolerated(token, resource, (0, 0), String::new());
        }
    }

    async fn failed(&mut self, held: &Held, resource: &ResourceDef, why: String) -> bool {
        let (state, name) = (self.shared.state(), &resource.name);
        let news = self.failing.insert(name.clone());
        if state.is_left_alone(&self.group, self.shared.me) {
            if news {
                self.reporter.resource(held.token, name, ResourceState::Failed, &why);
            }
            return false;
        }
        let count = fails(&state, &self.group, self.shared.me, name);
        if count == 0 {
            // An operator cleared it: everything may be tried again.
            self.given_up.remove(name);
        }
        if self.given_up.contains(name) {
            return false;
        }
        tracing::warn!(group = self.group, resource = name, "failed: {why}");
        self.reporter.resource(held.token, name, ResourceState::Failed, &why);
        let restarted = count < resource.restarts && self.restart(held, resource).await;
        if self.is_lost() {
            // Nothing of it is this node's any more; what failed is what the guard took away.
            return true;
        }
        if restarted {
            self.failing.remove(name);
            for again in held.from(name) {
                self.looked.remove(&again.name);
            }
        } else {
            self.given_up.insert(name.clone());
        }
        self.reporter.failed(held.token, name, why, restarted);
        self.reported().await;
        self.known(name, count).await;
        true
    }

    /// Stops a resource and all that was started after it, and starts them again.
    async fn restart(&self, held: &Held, resource: &ResourceDef) -> bool {
        let again = held.from(&resource.name);
        let lines = Lines(None);
        let work = async {
            self.stop(held, again, &lines).await?;
            self.start(held, again, &lines).await
        };
        tokio::select! {
            done = work => done.is_ok(),
            () = self.lost() => false,
        }
    }

    /// Waits until the state shows one failure more, so that it is not counted twice.
    async fn known(&self, resource: &str, before: u32) {
        let mut views = self.shared.publisher.views();
        let (group, me) = (&self.group, self.shared.me);
        let shown = views.wait_for(|view| fails(&view.state, group, me, resource) > before);
        tokio::select! {
            _ = tokio::time::timeout(KNOWN_WITHIN, shown) => {}
            () = self.lost() => {}
        }
    }
}

/// How often a resource failed here, since somebody cleared it.
fn fails(state: &ClusterState, group: &str, me: NodeNumber, resource: &str) -> u32 {
    let fails = state.groups.get(group).map(|group| group.fails.as_slice()).unwrap_or_default();
    let found = fails.iter().find(|fail| fail.node == me && fail.resource == resource);
    found.map_or(0, |fail| fail.count)
}

/// Only what is online here is looked at; not what is left to itself.
fn is_watched(state: &Arc<ClusterState>, group: &str, me: NodeNumber, token: u64) -> bool {
    let instance = state.groups.get(group).and_then(|group| group.instances.get(&me));
    instance.is_some_and(|it| it.token == token && it.state == GroupState::Online)
}
