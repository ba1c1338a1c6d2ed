//! A service address that a machine outside the cluster answers for (findings R3, F11).
//!
//! The node that is about to take it tells what it heard, once for each acquisition, and does what the
//! address's [`OnConflict`] says; the node that has it asks again and again.

use crate::duplicate::Hardware;
use crate::group::{OnConflict, ResourceKind, ResourceState};
use crate::model::Severity;
use crate::record::Code;

use super::reports::Which;
use super::{ClusterState, Entry, RecordDraft};

impl ClusterState {
    /// Resource, hardware address and device, as the node of the instance heard them.
    pub(super) fn conflict(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        (resource, hardware, device): (&str, Hardware, &str),
    ) -> bool {
        let (name, node, _) = which;
        let known = self.instance_mut(which).and_then(|it| it.resources.get(resource));
        let known = known.map(|it| it.state == ResourceState::Online);
        let def = self.definition.group(name);
        let def = def.and_then(|def| def.resources.iter().find(|it| it.name == resource));
        let Some(ResourceKind::Address { address, on_conflict, .. }) = def.map(|def| &def.kind)
        else {
            return false;
        };
        let Some(online) = known else { return false };
        let place = self.node_name(node);
        let message = format!(
            "{hardware}, which is no member, answers for {address} of {resource} on {device} of {place}"
        );
        let (severity, cause) = match on_conflict {
            _ if online => (
                Severity::Error,
                "it is in service here: who asks for it gets one machine or the other",
            ),
            OnConflict::Fail => (Severity::Error, "it is not taken, as on_conflict says fail"),
            OnConflict::Take => {
                (Severity::Warning, "it is taken all the same, as on_conflict says take")
            }
        };
        let subject = self.resource_subject(name, resource);
        let happening = RecordDraft::new(Code::AddressConflict, severity, subject, message);
        let happening = happening.because(cause).alerting(true);
        let happening = self.in_event(entry, happening, Some(node), None);
        self.record(entry, happening);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, GroupCommand};
    use crate::fixture::Fixture;
    use crate::id::NodeNumber;
    use crate::record::Subject;

    const FOREIGN: Hardware = Hardware([2, 0, 0, 0, 0, 9]);

    fn heard(
        fixture: &mut Fixture,
        node: NodeNumber,
        token: u64,
    ) -> Vec<(Severity, String, String)> {
        let conflict = GroupCommand::Conflict {
            group: "web".into(),
            node,
            token,
            resource: "web_address".into(),
            hardware: FOREIGN,
            device: "eth1".into(),
        };
        let applied = fixture.apply(Command::Group(conflict));
        let of_it = applied.records.iter().filter(|it| it.code == Code::AddressConflict);
        of_it
            .map(|it| {
                assert!(it.alert && it.node == Some(node));
                assert!(matches!(it.subject, Subject::Resource(..)), "{:?}", it.subject);
                (it.severity, it.message.clone(), it.cause.clone())
            })
            .collect()
    }

    /// Another machine begins to answer for an address that is in service.
    #[test]
    fn f11_a_conflict_while_it_is_in_service_is_told() {
        let mut fixture = Fixture::with_groups();
        let (node, token) = instance(&fixture);
        let told = heard(&mut fixture, node, token);
        let cause = "it is in service here: who asks for it gets one machine or the other";
        assert_eq!((told[0].0, told[0].2.as_str()), (Severity::Error, cause));
    }

    /// As it is while it is being acquired.
    fn acquiring(fixture: &mut Fixture, node: NodeNumber) {
        let group = fixture.state.groups.get_mut("web").expect("it");
        let instance = group.instances.get_mut(&node).expect("it is there");
        instance.resources.get_mut("web_address").expect("it").state = ResourceState::Starting;
    }

    fn instance(fixture: &Fixture) -> (NodeNumber, u64) {
        let instances = &fixture.state.groups["web"].instances;
        let (node, instance) = instances.iter().next().expect("it is somewhere");
        (*node, instance.token)
    }

    #[test]
    fn a_conflict_is_told_with_what_is_done_about_it() {
        let mut fixture = Fixture::with_groups();
        let (node, token) = instance(&fixture);
        acquiring(&mut fixture, node);
        let place = fixture.state.node_name(node);
        let message = format!(
            "02:00:00:00:00:09, which is no member, answers for 10.91.0.100 of web_address on eth1 of {place}"
        );
        let cause = "it is not taken, as on_conflict says fail".to_owned();
        let told = heard(&mut fixture, node, token);
        assert_eq!(told, [(Severity::Error, message.clone(), cause)]);
        for resource in &mut fixture.state.definition.groups[0].resources {
            if let ResourceKind::Address { on_conflict, .. } = &mut resource.kind {
                *on_conflict = OnConflict::Take;
            }
        }
        let cause = "it is taken all the same, as on_conflict says take".to_owned();
        assert_eq!(heard(&mut fixture, node, token), [(Severity::Warning, message, cause)]);
    }

    #[test]
    fn what_is_over_is_not_told() {
        let mut fixture = Fixture::with_groups();
        let (node, token) = instance(&fixture);
        assert_eq!(heard(&mut fixture, node, token + 1), []);
        assert_eq!(heard(&mut fixture, NodeNumber(9), token), []);
    }
}
