//! Watching what is held (spec H25): a look at every resource at its interval.
//!
//! What a look means is said by [`crate::tolerance`]: a failure may be tolerated, which is
//! shown and changes nothing. A resource that fails is restarted in place, with everything that was started
//! after it, as often as its definition allows; then its group is to move, and the cluster decides where to. In maintenance
//! what is seen is reported, and nothing is done about it. An instance that is left unmanaged is not
//! looked at.

use std::time::Duration;

use super::super::desk::Desk;
use super::super::sequence::{Either, Operating, Port, either};
use super::super::values::{Action, Done, Started};
use super::{UNASKED, Worker};
use crate::command::GroupCommand;
use crate::group::{GroupState, ResourceDef, ResourceState};
use crate::time::Instant;
use crate::tolerance::{self, Assessment};

/// How long a report may take to come back as state.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// One look at one resource.
pub(super) struct Look {
    token: u64,
    resource: ResourceDef,
    found: Done,
}

/// A resource that is looked at.
struct Watch {
    token: u64,
    resource: ResourceDef,
    /// When it was looked at last, or taken over.
    since: Instant,
    /// The one under way.
    asked: Option<Operating>,
}

/// Looks under way, and to come.
#[derive(Default)]
pub(super) struct Watching(Vec<Watch>);

impl Watching {
    /// Gives all of them up.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins those that are due; answers with one that is over.
    pub(super) fn next(&mut self, port: &Port, desk: &mut Desk, group: &str) -> Option<Look> {
        self.0.iter_mut().find_map(|watch| watch.next(port, desk, group))
    }
}

impl Watch {
    fn next(&mut self, port: &Port, desk: &mut Desk, group: &str) -> Option<Look> {
        let (token, resource) = (self.token, desk.timed(group, &self.resource));
        let interval = Duration::from_millis(resource.monitor_interval_ms);
        if let Some(asked) = &mut self.asked {
            let found = asked.take(desk)?;
            (self.asked, self.since) = (None, desk.now);
            // What is not there may have been let go of: that is no failure of the resource.
            if found.failed && desk.is_in_doubt(group) {
                desk.is_past(desk.now + interval);
                return None;
            }
            return Some(Look { token, resource: self.resource.clone(), found });
        }
        if interval.is_zero() || !desk.is_past(self.since + interval) {
            return None;
        }
        if is_watched(desk, group, token) {
            self.asked = Some(port.begin(desk, (group, token), Action::Monitor, &resource));
        } else {
            self.since = desk.now;
            desk.is_past(desk.now + interval);
        }
        None
    }
}

impl Worker {
    /// A look at everything that is held and watched, each after its interval.
    pub(super) fn looks(&self) -> Watching {
        let Some(held) = self.kept() else { return Watching::default() };
        let since = self.port.desk().now;
        let watch = |resource: &ResourceDef| Watch {
            token: held.token,
            resource: resource.clone(),
            since,
            asked: None,
        };
        Watching(held.resources.iter().map(watch).collect())
    }

    /// Takes what was seen; answers whether all looks are to begin anew.
    pub(super) async fn seen(&mut self, look: Look) -> bool {
        let Look { token, resource, found } = look;
        if self.is_lost() || self.letting.is_some() {
            // It may have been seen after it was let go of.
            return true;
        }
        let Some(held) = self.held.clone().filter(|held| held.token == token) else { return true };
        let look = match &found {
            Done { failed: false, .. } => tolerance::Look::Well,
            Done { late: true, .. } => tolerance::Look::Late,
            Done { .. } => tolerance::Look::Failed,
        };
        // What is tolerated, and how often it is restarted, is as it is configured now.
        let (resource, said) = (self.in_force(resource), found.said);
        let looks = self.looked.entry(resource.name.clone()).or_default();
        match looks.take(&resource, look) {
            // It may have left its control group meanwhile.
            Assessment::Well => self.tell_outside(&held).await,
            Assessment::Rising => {}
            Assessment::Recovered => self.works_again(token, &resource.name, &said),
            Assessment::Tolerated { count, limit } => {
                let name = &resource.name;
                self.note(false, format!("{name} is tolerated, {count} of {limit}: {said}"));
                self.report_tolerated(token, name, (count, limit), said);
            }
            Assessment::Failed => return self.failed(&held, &resource, said).await,
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
            self.report_resource(token, resource, ResourceState::Online, detail);
        } else {
            self.report_tolerated(token, resource, (0, 0), String::new());
        }
    }

    fn report_tolerated(&self, token: u64, name: &str, (count, limit): (u32, u32), why: String) {
        let resource = name.to_owned();
        self.report(|group, node| GroupCommand::Tolerated {
            group,
            node,
            token,
            resource,
            count,
            limit,
            why,
        });
    }

    async fn failed(&mut self, held: &Started, resource: &ResourceDef, why: String) -> bool {
        let (name, token) = (&resource.name, held.token);
        let news = self.failing.insert(name.clone());
        let (alone, count) = {
            let desk = self.port.desk();
            (desk.seen.state.is_left_alone(&self.group, desk.me), desk.fails(&self.group, name))
        };
        if alone {
            if news {
                self.report_resource(token, name, ResourceState::Failed, &why);
            }
            return false;
        }
        if count == 0 {
            // An operator cleared it: everything may be tried again.
            self.given_up.remove(name);
        }
        if self.given_up.contains(name) {
            return false;
        }
        self.note(false, format!("{name} failed: {why}"));
        self.report_resource(token, name, ResourceState::Failed, &why);
        let restarted = count < resource.restarts && self.restart(held, resource).await;
        if self.is_lost() {
            // Nothing of it is this node's any more; what failed is what the guard took away.
            return true;
        }
        if !restarted && self.port.desk().is_to_be_off(&self.group) {
            // An event is about to release it, or does already.
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
        let resource = name.clone();
        self.report(|group, node| GroupCommand::Failed {
            group,
            node,
            token,
            resource,
            why,
            restarted,
        });
        self.reported().await;
        self.known(name, count).await;
        true
    }

    /// Stops a resource and all that was started after it, and starts them again, unless the group is to be off.
    async fn restart(&self, held: &Started, resource: &ResourceDef) -> bool {
        let again = held.from(&resource.name);
        let stopped = either(self.lost(), self.stop(held, again, UNASKED)).await;
        if !matches!(stopped, Either::Second(Ok(()))) {
            return false;
        }
        let given_up = self.port.wait(|desk| {
            let lost = desk.lease.losses != self.losses;
            (lost || desk.is_to_be_off(&self.group)).then_some(())
        });
        let started = either(given_up, self.start(held, again, UNASKED)).await;
        matches!(started, Either::Second(Ok(())))
    }

    /// Waits until the state shows one failure more, so that it is not counted twice.
    async fn known(&self, resource: &str, before: u32) {
        let until = self.port.desk().now + KNOWN_WITHIN;
        let shown = self.port.wait(|desk| {
            let known = desk.fails(&self.group, resource) > before || desk.is_past(until);
            (known || desk.lease.losses != self.losses).then_some(())
        });
        shown.await;
    }
}

impl Desk {
    /// Whether a group is ordered off, or this node to stop, so that what is being started of it here is given up.
    pub(super) fn is_to_be_off(&self, group: &str) -> bool {
        self.why_off(group).is_some()
    }

    /// The order for which that is so.
    pub(super) fn why_off(&self, group: &str) -> Option<&'static str> {
        let state = &self.seen.state;
        let ordered = state.groups.get(group).is_some_and(|it| it.wanted_offline);
        let stops = state.is_giving_up(self.me).is_some();
        let why = match (ordered, stops) {
            (true, _) => "it shall be off",
            (_, true) => "this node is being stopped",
            _ => return None,
        };
        (self.seen.quorate && !self.is_left_as_it_is(group)).then_some(why)
    }

    /// How often a resource failed here, since somebody cleared it.
    fn fails(&self, group: &str, resource: &str) -> u32 {
        let group = self.seen.state.groups.get(group);
        let fails = group.map(|group| group.fails.as_slice()).unwrap_or_default();
        let found = fails.iter().find(|fail| fail.node == self.me && fail.resource == resource);
        found.map_or(0, |fail| fail.count)
    }
}

/// Only what is online here is looked at; not what is left to itself.
fn is_watched(desk: &Desk, group: &str, token: u64) -> bool {
    let instance = desk.instance(group);
    instance.is_some_and(|it| it.token == token && it.state == GroupState::Online)
}
