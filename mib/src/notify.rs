//! From records to notifications.
//!
//! A notification says everything a receiver needs without asking back: whose status, what it is
//! and was, why, how bad, and the sequence number by which repetitions and gaps are seen. Records
//! that no notification exists for are only in the event table.

mod local;

use vedette_core::group::GroupState;
use vedette_core::model::{
    AgentStatus, ClusterStatus, HostStatus, InterfaceStatus, NetworkStatus, Severity, Substate,
};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::view::View;

use crate::oid::Oid;
use crate::pdu::VarBind;
use crate::table::{Object, Syntax};
use crate::tables::{NAME, TEXT, cluster, group, interface, network, node, resource, watch};
use crate::value::Value;

pub use local::local_notification;

/// `snmpTrapOID.0`: which notification it is.
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];

/// Numbers of the notifications, below `vedetteNotifications`.
const NODE_STATUS_CHANGE: u32 = 1;
const AGENT_STATUS_CHANGE: u32 = 2;
const NETWORK_STATUS_CHANGE: u32 = 3;
const INTERFACE_STATUS_CHANGE: u32 = 4;
const CLUSTER_STATE_CHANGE: u32 = 5;
const CLUSTER_SUBSTATE_CHANGE: u32 = 6;
const SUBAGENT_UP: u32 = 7;
const GROUP_STATE_CHANGE: u32 = 8;
const RESOURCE_FAILED: u32 = 9;
const EVENT_FAILED: u32 = 10;
const EVENT_ENDED: u32 = 11;
const TAKEOVER_WAITS: u32 = 12;
const RULE_FIRED: u32 = 13;
const RULE_REARMED: u32 = 14;
const WATCH_FAILED: u32 = 15;
const WATCH_RESTORED: u32 = 16;
const GROUP_MULTIPLE_ACTIVE: u32 = 24;
const GROUP_SINGLE_ACTIVE: u32 = 25;
const GROUP_FLAPS: u32 = 26;
const GROUP_STEADY: u32 = 27;
const ADDRESS_CONFLICT: u32 = 28;

/// Where the objects are that only notifications carry.
const OBJECTS: &[u32] = &[1, 20];

const PREVIOUS_HOST_STATUS: u32 = 1;
const PREVIOUS_AGENT_STATUS: u32 = 2;
const PREVIOUS_NETWORK_STATUS: u32 = 3;
const PREVIOUS_INTERFACE_STATUS: u32 = 4;
const PREVIOUS_CLUSTER_STATE: u32 = 5;
const PREVIOUS_SUBSTATE: u32 = 6;
const CAUSE: u32 = 7;
const SEVERITY: u32 = 8;
const SEQUENCE: u32 = 9;
const REVISION: u32 = 10;
const TIME: u32 = 11;
const MESSAGE: u32 = 12;
const PREVIOUS_GROUP_STATE: u32 = 13;
const NODE_NAME: u32 = 14;
const EVENT: u32 = 15;
const INCIDENT: u32 = 16;
const VALUE: u32 = 17;
const PREVIOUS_VALUE: u32 = 18;
const CODE: u32 = 19;
const PHASE: u32 = 20;
const SUBJECT_KIND: u32 = 21;
const SUBJECT_NAME: u32 = 22;
const SINCE: u32 = 23;
const DURATION: u32 = 24;
const TIMES: u32 = 25;
const LOCAL_NUMBER: u32 = 26;
const EVENT_INDEX: u32 = 27;

/// The objects that only notifications carry, for the test that compares code and MIB.
pub fn notify_objects() -> Vec<Object> {
    [
        (PREVIOUS_HOST_STATUS, "vedettePreviousHostStatus", "VedetteHostStatusCode"),
        (PREVIOUS_AGENT_STATUS, "vedettePreviousAgentStatus", "VedetteAgentStatusCode"),
        (PREVIOUS_NETWORK_STATUS, "vedettePreviousNetworkStatus", "VedetteNetworkStatusCode"),
        (PREVIOUS_INTERFACE_STATUS, "vedettePreviousInterfaceStatus", "VedetteInterfaceStatusCode"),
        (PREVIOUS_CLUSTER_STATE, "vedettePreviousClusterState", "VedetteClusterStatusCode"),
        (PREVIOUS_SUBSTATE, "vedettePreviousSubstate", "VedetteSubstateCode"),
        (CAUSE, "vedetteNotifyCause", "VedetteText"),
        (SEVERITY, "vedetteNotifySeverity", "VedetteSeverityCode"),
        (SEQUENCE, "vedetteNotifySequence", "VedetteLogIndex"),
        (REVISION, "vedetteNotifyRevision", "VedetteLogIndex"),
        (TIME, "vedetteNotifyTime", "DateAndTime"),
        (MESSAGE, "vedetteNotifyMessage", "VedetteText"),
        (PREVIOUS_GROUP_STATE, "vedettePreviousGroupState", "VedetteGroupStateCode"),
        (NODE_NAME, "vedetteNotifyNodeName", "SnmpAdminString"),
        (EVENT, "vedetteNotifyEvent", "VedetteLogIndex"),
        (INCIDENT, "vedetteNotifyIncident", "VedetteLogIndex"),
        (VALUE, "vedetteNotifyValue", "VedetteText"),
        (PREVIOUS_VALUE, "vedettePreviousValue", "VedetteText"),
        (CODE, "vedetteNotifyCode", "VedetteRecordCode"),
        (PHASE, "vedetteNotifyPhase", "VedettePhaseCode"),
        (SUBJECT_KIND, "vedetteNotifySubjectKind", "VedetteSubjectCode"),
        (SUBJECT_NAME, "vedetteNotifySubjectName", "SnmpAdminString"),
        (SINCE, "vedetteNotifySince", "DateAndTime"),
        (DURATION, "vedetteNotifyDuration", "Unsigned32"),
        (TIMES, "vedetteNotifyTimes", "Unsigned32"),
        (LOCAL_NUMBER, "vedetteNotifyLocalNumber", "Unsigned32"),
        (EVENT_INDEX, "vedetteNotifyEventIndex", "Unsigned32"),
    ]
    .into_iter()
    .map(|(number, name, syntax)| Object {
        name,
        suffix: [OBJECTS, &[number]].concat(),
        syntax: Syntax(syntax),
    })
    .collect()
}

/// What changed, and how it is told.
struct Change {
    notification: u32,
    /// What names the object; the cluster needs nothing.
    named: Vec<(Vec<u32>, Value)>,
    /// What it is and was; something that merely happened has none.
    status: Option<Status>,
    /// Whether node, event and incident are told as well.
    step: bool,
}

/// A status and the one before.
struct Status {
    /// The object that has the new status.
    object: Vec<u32>,
    /// Which of [`OBJECTS`] has the status before.
    previous: u32,
    /// The number of a status; a name that is none becomes `unknown(1)`.
    code: fn(&str) -> Option<u32>,
}

/// The notification for a record, if there is one, as `view` names cluster and node. Codes of local
/// records have none: their own node told them when they happened ([`local_notification`]).
pub fn notification(record: &Record, view: &View) -> Option<Vec<VarBind>> {
    if let Some(varbinds) = local::afterwards(record, view) {
        return Some(varbinds);
    }
    let change = change(record).or_else(|| step(record, view)).or_else(|| edge(record, view))?;
    let mut varbinds = head(change.notification, view);
    varbinds.extend(change.named.iter().map(|(suffix, name)| bind(suffix, name.clone())));
    let notify = |number: u32, value| bind(&only_notified(number), value);
    if let Some(status) = &change.status {
        let code = |text: &str| Value::code((status.code)(text).unwrap_or(1));
        varbinds.push(bind(&status.object, code(&record.current)));
        varbinds.push(notify(status.previous, code(&record.previous)));
    }
    if change.step {
        varbinds.push(notify(NODE_NAME, Value::text(&place(record, view), NAME)));
        varbinds.push(notify(EVENT, Value::Counter64(record.event.unwrap_or(0))));
        varbinds.push(notify(INCIDENT, Value::Counter64(record.incident.unwrap_or(0))));
    }
    varbinds.push(notify(CAUSE, Value::text(&record.cause, TEXT)));
    varbinds.push(notify(SEVERITY, Value::code(record.severity.code())));
    varbinds.push(notify(SEQUENCE, Value::Counter64(record.seq)));
    varbinds.push(notify(REVISION, Value::Counter64(record.index)));
    varbinds.push(notify(TIME, Value::date(record.at)));
    varbinds.push(notify(MESSAGE, Value::text(&record.message, TEXT)));
    varbinds.push(local_name(view));
    Some(varbinds)
}

/// The node on which a step was done, or of which a watcher speaks.
fn place(record: &Record, view: &View) -> String {
    match (record.node, record.code, record.subject) {
        (Some(node), ..) => view.state.node_name(node),
        (None, Code::RuleFired | Code::RuleRearmed | Code::Monitor, Subject::Node(_)) => {
            record.subject_name.clone()
        }
        _ => String::new(),
    }
}

/// The notification that this agent is there.
pub fn subagent_up(view: &View) -> Vec<VarBind> {
    let mut varbinds = head(SUBAGENT_UP, view);
    varbinds.push(local_name(view));
    varbinds.push(bind(cluster::CLUSTER_REVISION, Value::Counter64(view.revision())));
    varbinds.push(bind(cluster::HISTORY_SEQUENCE, Value::Counter64(view.state.seq)));
    varbinds
}

/// Which notification it is, and of which cluster.
fn head(notification: u32, view: &View) -> Vec<VarBind> {
    let which = Value::ObjectId(Oid::in_module(&[0, notification]));
    let trap_oid = Oid::new(SNMP_TRAP_OID).unwrap_or_default();
    vec![
        VarBind::new(trap_oid, which),
        bind(cluster::CLUSTER_NAME, Value::text(&view.state.name, NAME)),
    ]
}

fn local_name(view: &View) -> VarBind {
    let name = view.state.node_name(view.local.node);
    bind(cluster::LOCAL_NODE_NAME, Value::text(&name, NAME))
}

fn bind(suffix: &[u32], value: Value) -> VarBind {
    VarBind::new(Oid::in_module(suffix), value)
}

/// The instance of an object that only notifications carry.
fn only_notified(number: u32) -> Vec<u32> {
    [OBJECTS, &[number, 0]].concat()
}

fn change(record: &Record) -> Option<Change> {
    let name = |longest| Value::text(&record.subject_name, longest);
    Some(match (record.code, record.subject) {
        (Code::NodeHost, Subject::Node(n)) => Change {
            notification: NODE_STATUS_CHANGE,
            named: vec![(cell(node::ENTRY, node::NODE_NAME, &[u32::from(n.0)]), name(NAME))],
            status: Some(Status {
                object: cell(node::ENTRY, node::HOST_STATUS, &[u32::from(n.0)]),
                previous: PREVIOUS_HOST_STATUS,
                code: |text| HostStatus::from_name(text).map(HostStatus::code),
            }),
            step: false,
        },
        (Code::NodeAgent, Subject::Node(n)) => Change {
            notification: AGENT_STATUS_CHANGE,
            named: vec![(cell(node::ENTRY, node::NODE_NAME, &[u32::from(n.0)]), name(NAME))],
            status: Some(Status {
                object: cell(node::ENTRY, node::AGENT_STATUS, &[u32::from(n.0)]),
                previous: PREVIOUS_AGENT_STATUS,
                code: |text| AgentStatus::from_name(text).map(AgentStatus::code),
            }),
            step: false,
        },
        (Code::Network, Subject::Network(n)) => Change {
            notification: NETWORK_STATUS_CHANGE,
            named: vec![(
                cell(network::ENTRY, network::NETWORK_NAME, &[u32::from(n.0)]),
                name(NAME),
            )],
            status: Some(Status {
                object: cell(network::ENTRY, network::STATUS, &[u32::from(n.0)]),
                previous: PREVIOUS_NETWORK_STATUS,
                code: |text| NetworkStatus::from_name(text).map(NetworkStatus::code),
            }),
            step: false,
        },
        (Code::Interface, Subject::Interface(n, on)) => {
            let at = |column| cell(interface::ENTRY, column, &[u32::from(n.0), u32::from(on.0)]);
            Change {
                notification: INTERFACE_STATUS_CHANGE,
                named: vec![(at(interface::INTERFACE_NAME), name(interface::LONGEST_NAME))],
                status: Some(Status {
                    object: at(interface::STATUS),
                    previous: PREVIOUS_INTERFACE_STATUS,
                    code: |text| InterfaceStatus::from_name(text).map(InterfaceStatus::code),
                }),
                step: false,
            }
        }
        (Code::ClusterState, _) => Change {
            notification: CLUSTER_STATE_CHANGE,
            named: Vec::new(),
            status: Some(Status {
                object: cluster::CLUSTER_STATE.to_vec(),
                previous: PREVIOUS_CLUSTER_STATE,
                code: |text| ClusterStatus::from_name(text).map(ClusterStatus::code),
            }),
            step: false,
        },
        (Code::ClusterSubstate, _) => Change {
            notification: CLUSTER_SUBSTATE_CHANGE,
            named: Vec::new(),
            status: Some(Status {
                object: cluster::CLUSTER_SUBSTATE.to_vec(),
                previous: PREVIOUS_SUBSTATE,
                code: |text| Substate::from_name(text).map(Substate::code),
            }),
            step: false,
        },
        _ => return None,
    })
}

/// A step of the cluster manager, or what befell a group.
fn step(record: &Record, view: &View) -> Option<Change> {
    let happened =
        |notification| Change { notification, named: Vec::new(), status: None, step: true };
    Some(match (record.code, record.subject) {
        (Code::Group, Subject::Group(number)) => {
            let at = |column| cell(group::ENTRY, column, &[u32::from(number)]);
            Change {
                notification: GROUP_STATE_CHANGE,
                named: vec![(at(group::GROUP_NAME), Value::text(&record.subject_name, NAME))],
                status: Some(Status {
                    object: at(group::STATE),
                    previous: PREVIOUS_GROUP_STATE,
                    code: |text| GroupState::from_name(text).map(GroupState::code),
                }),
                step: true,
            }
        }
        (Code::MultipleActive | Code::GroupFlapping, Subject::Group(number)) => {
            let name = cell(group::ENTRY, group::GROUP_NAME, &[u32::from(number)]);
            let which = match (record.code, record.severity) {
                (Code::GroupFlapping, Severity::Error) => GROUP_FLAPS,
                (Code::GroupFlapping, _) => GROUP_STEADY,
                (_, Severity::Error) => GROUP_MULTIPLE_ACTIVE,
                _ => GROUP_SINGLE_ACTIVE,
            };
            let named = vec![(name, Value::text(&record.subject_name, NAME))];
            Change { named, ..happened(which) }
        }
        (Code::ResourceFailed | Code::AddressConflict, Subject::Resource(group, number)) => {
            let node = record.node.unwrap_or(view.local.node);
            let index = resource::index(group, number, node);
            let name = Value::text(&record.subject_name, NAME);
            Change {
                named: vec![(cell(resource::ENTRY, resource::RESOURCE_NAME, &index), name)],
                ..happened(match record.code {
                    Code::AddressConflict => ADDRESS_CONFLICT,
                    _ => RESOURCE_FAILED,
                })
            }
        }
        (Code::EventFailed, _) => happened(EVENT_FAILED),
        (Code::EventEnded, _) => happened(EVENT_ENDED),
        (Code::TakeoverWaits, _) => happened(TAKEOVER_WAITS),
        _ => return None,
    })
}

/// What watchers of values found: a rule fired or is armed again, something cannot be watched or can
/// be again.
fn edge(record: &Record, view: &View) -> Option<Change> {
    let happened = |notification, named| Change { notification, named, status: None, step: true };
    Some(match (record.code, record.subject) {
        (Code::RuleFired | Code::RuleRearmed, _) => {
            let (rule, instance) = record.watched()?;
            let index = watch::fired_index(&view.state, rule, instance);
            let at = |column| cell(watch::FIRED, column, &index);
            let fired = record.code == Code::RuleFired;
            let named = vec![
                (at(watch::FIRED_RULE), Value::text(rule, TEXT)),
                (at(watch::FIRED_INSTANCE), Value::text(instance, TEXT)),
                (only_notified(VALUE), Value::text(&record.current, TEXT)),
                (only_notified(PREVIOUS_VALUE), Value::text(&record.previous, TEXT)),
            ];
            happened(if fired { RULE_FIRED } else { RULE_REARMED }, named)
        }
        (Code::Monitor, Subject::Node(node)) => {
            let what = record.trouble()?;
            let index = watch::blind_index(&view.state, node, what);
            let named = vec![(cell(watch::BLIND, watch::WHAT, &index), Value::text(what, TEXT))];
            let works = record.current == "works";
            happened(if works { WATCH_RESTORED } else { WATCH_FAILED }, named)
        }
        _ => return None,
    })
}

/// The name of an instance, below the root.
fn cell(entry: &[u32], column: u32, index: &[u32]) -> Vec<u32> {
    [entry, &[column], index].concat()
}
