//! Reports to the cluster that wait: those of one instance are put together, so that a group of ten resources that
//! starts at once costs one entry of the log and not ten. None is lost, and a failure is told by itself, at once: what
//! comes after it may take minutes.

use crate::command::GroupCommand;
use crate::group::ResourceState;

/// Puts a later progress of the same instance into an earlier one; answers whether that is possible. It is not if a
/// failure would be told no more.
pub fn merge(first: &mut GroupCommand, later: &GroupCommand) -> bool {
    let GroupCommand::Progress { group, token, state, resources, .. } = first else { return false };
    match later {
        GroupCommand::Progress { group: g, token: t, state: new, resources: more, .. }
            if (&*group, &*token) == (g, t) =>
        {
            let fails = |name: &String| {
                resources.iter().any(|it| it.0 == *name && it.1 == ResourceState::Failed)
            };
            if more.iter().any(|(name, ..)| fails(name)) {
                return false;
            }
            *state = new.or(*state);
            for (name, state, detail) in more {
                resources.retain(|(known, ..)| known != name);
                resources.push((name.clone(), *state, detail.clone()));
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupState, ResourceState};
    use crate::id::NodeNumber;

    fn progress(state: Option<GroupState>, resources: &[(&str, ResourceState)]) -> GroupCommand {
        let resources =
            resources.iter().map(|(name, state)| ((*name).to_owned(), *state, String::new()));
        GroupCommand::Progress {
            group: "web".into(),
            node: NodeNumber(1),
            token: 4,
            state,
            resources: resources.collect(),
        }
    }

    /// What waits is told at once; the last word on each resource counts, and nothing overtakes the
    /// end of an instance.
    #[test]
    fn reports_are_put_together() {
        use ResourceState::{Online, Starting};
        let mut first = progress(Some(GroupState::Acquiring), &[("ip", Starting)]);
        assert!(merge(&mut first, &progress(None, &[("ip", Online), ("app", Starting)])));
        assert!(merge(&mut first, &progress(Some(GroupState::Online), &[("app", Online)])));
        assert_eq!(first, progress(Some(GroupState::Online), &[("ip", Online), ("app", Online)]));
        let released = GroupCommand::Released {
            group: "web".into(),
            node: NodeNumber(1),
            token: 4,
            why: String::new(),
            avoid: false,
        };
        assert!(!merge(&mut first, &released));
    }

    /// R7: a resource that fails is started again, which may take minutes: the failure is told before.
    #[test]
    fn a_failure_is_told_by_itself() {
        use ResourceState::{Failed, Online, Stopping};
        let mut first = progress(None, &[("ip", Online), ("app", Failed)]);
        assert!(!merge(&mut first, &progress(None, &[("app", Stopping)])));
        assert_eq!(first, progress(None, &[("ip", Online), ("app", Failed)]));
        assert!(merge(&mut first, &progress(None, &[("ip", Stopping)])));
    }
}
