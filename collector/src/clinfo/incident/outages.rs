//! Outages: when a group served nobody, computed from what happened.
//!
//! An outage begins when clients could no longer be served, which is earlier than the record that says
//! so. The records that know when are the *signs*: a host that had been silent for so long when it was
//! called DOWN, a node's own account of what its guard released, a node that started and says when it
//! was last alive, a resource that failed. The earliest sign since the group was last ONLINE counts; if
//! there is none, or the node lost the records that could have been an earlier one, all that is known is
//! that the group was out of service *at least* since the record that says so. It ends with ONLINE, or
//! with the last record of a group that is configured no more.
//!
//! An outage belongs to one incident: that of the record by which the group left; if that has none (it was
//! released before anybody could say why), that of the sign that explains it; else that of the record that
//! ends it.
//!
//! Invariants: a group has one outage at a time; what an operator ordered begins when it is done, so it
//! needs no sign; that nodes of a concurrent group come and go is none, as long as others have it.

use std::collections::BTreeMap;

use vedette_core::group::{GroupState, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Severity};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::trigger::Motive;

use super::documents::OutageKind;
use super::line::Placed;

/// A group that served nobody for a time.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    /// What the group is called.
    pub(crate) name: String,
    /// The record that says so.
    pub(crate) seq: u64,
    /// Its incident; no other one tells of it.
    pub(crate) incident: Option<u64>,
    /// Whether that record is one of the group; else a resource failed and the group stayed ONLINE.
    pub(crate) left: bool,
    /// Where it had been.
    pub(crate) from: Option<NodeNumber>,
    /// Where it is in service again.
    pub(crate) to: Option<NodeNumber>,
    /// When clients lost it.
    pub(crate) began: i64,
    /// When that was a fact.
    pub(crate) noticed: i64,
    /// When it was over.
    pub(crate) ended: Option<i64>,
    /// When it was last known to serve, if nobody knows when it began.
    pub(crate) at_least: Option<Option<i64>>,
    /// The group's state, last of all.
    pub(crate) state: String,
    /// Nobody configures it any more.
    pub(crate) removed: bool,
    motive: Option<Motive>,
    failed: bool,
    /// Its node was shut down, and said so.
    farewell: bool,
    /// It was OFFLINE meanwhile.
    rested: bool,
}

impl Outage {
    /// What it was.
    pub(crate) fn kind(&self) -> OutageKind {
        let same = self.from.is_some() && self.from == self.to;
        let resting = self.rested && (self.ended.is_some() || self.state == OFFLINE);
        match self.motive {
            _ if self.failed && same => OutageKind::Restart,
            _ if self.failed => OutageKind::Failover,
            None => OutageKind::Unknown,
            Some(_) if self.removed || resting => OutageKind::Stop,
            Some(_) if same => OutageKind::Restart,
            Some(Motive::Return) => OutageKind::Failback,
            Some(_) => OutageKind::Move,
        }
    }

    /// Whether somebody wanted it.
    pub(crate) fn planned(&self) -> bool {
        if self.failed { self.farewell } else { self.motive.is_some_and(Motive::is_planned) }
    }
}

/// How long after a sign a group may leave without an incident and be meant by it.
const JUST_NOW_US: i64 = 120_000_000;

const ONLINE: &str = GroupState::Online.name();
const OFFLINE: &str = GroupState::Offline.name();

/// The outages that records tell of, in the order in which they are told.
pub(crate) fn outages(placed: &[Placed<'_>]) -> Vec<Outage> {
    let mut reader = Reader { known: RecordContext::of(placed), ..Reader::default() };
    for it in placed {
        match (it.record.code, it.record.subject) {
            (Code::Group, Subject::Group(group)) => reader.group(group, it),
            (Code::Resource | Code::ResourceFailed, Subject::Resource(group, resource)) => {
                reader.resource(group, resource, it);
            }
            _ => {}
        }
    }
    reader.finish()
}

/// Something that shows when clients lost what a node had.
#[derive(Clone, Copy, Debug)]
struct Sign {
    /// When they lost it.
    began: i64,
    /// When the record stands.
    fact: i64,
    /// Which group, if not all that the node had.
    group: Option<u16>,
    incident: Option<u64>,
}

/// What has to be known of all records before the groups can be read.
#[derive(Default)]
struct RecordContext {
    signs: BTreeMap<NodeNumber, Vec<Sign>>,
    motives: BTreeMap<u64, Motive>,
    /// Log entries in which a host went away, and whether it said that it would.
    away: BTreeMap<u64, bool>,
    /// From when to when the accounts of a node lack something.
    gaps: BTreeMap<NodeNumber, Vec<(i64, i64)>>,
}

impl RecordContext {
    fn of(placed: &[Placed<'_>]) -> Self {
        let mut known = Self::default();
        for it in placed {
            known.read(it);
            if let (Code::AccountIncomplete, Subject::Node(node)) =
                (it.record.code, it.record.subject)
            {
                known.gaps.entry(node).or_default().push(gap(placed, node, it));
            }
        }
        known
    }

    fn read(&mut self, it: &Placed<'_>) {
        let record = it.record;
        let lasted = record.duration_ms.unwrap_or(0);
        let sign = |group| Sign {
            began: it.before(lasted),
            fact: it.at,
            group,
            incident: record.incident,
        };
        match (record.code, record.subject) {
            (Code::NodeHost, Subject::Node(node)) if went_away(record) => {
                self.away.insert(record.index, record.severity == Severity::Notice);
                if record.duration_ms.is_some() {
                    self.signs.entry(node).or_default().push(sign(None));
                }
            }
            (Code::NodeStarted, Subject::Node(node)) => {
                let alive = Sign { fact: it.before(lasted), ..sign(None) };
                self.signs.entry(node).or_default().push(alive);
            }
            (Code::GroupReleased, Subject::Group(group)) => {
                let node = record.node.unwrap_or(record.origin);
                let released = Sign { fact: it.before(lasted), ..sign(Some(group)) };
                self.signs.entry(node).or_default().push(released);
            }
            (Code::EventQueued, _) => {
                let motive = Motive::from_name(&record.current);
                self.motives.extend(record.event.zip(motive));
            }
            _ => {}
        }
    }

    /// When clients lost a group that its node had, if a sign since `since` shows it, and of which incident
    /// that is. Where it is not known since when the node had it, only what is of the same incident counts,
    /// or what had just happened to a group of which nobody could say more.
    fn lost(
        &self,
        group: u16,
        node: NodeNumber,
        since: Option<i64>,
        gone: &Placed<'_>,
    ) -> Option<(i64, Option<u64>)> {
        let same = |sign: &Sign| match gone.record.incident {
            Some(_) => sign.incident == gone.record.incident,
            None => sign.fact >= gone.at.saturating_sub(JUST_NOW_US),
        };
        let fits = |sign: &&Sign| {
            sign.group.is_none_or(|own| own == group)
                && sign.fact <= gone.at
                && since.map_or_else(|| same(sign), |since| sign.fact > since)
        };
        let signs = || self.signs.get(&node).into_iter().flatten().filter(fits);
        let began = signs().map(|sign| sign.began.max(since.unwrap_or(i64::MIN))).min()?;
        Some((began, signs().find_map(|sign| sign.incident)))
    }

    /// Since when a node may have had an earlier sign than that of `began` and has lost it, if it may; not
    /// before `since`, when it had the group.
    fn doubt(&self, node: NodeNumber, since: Option<i64>, began: i64) -> Option<i64> {
        let since = since.unwrap_or(i64::MIN);
        let gaps = self.gaps.get(&node).into_iter().flatten();
        gaps.filter(|(from, to)| *from < began && *to > since)
            .map(|(from, _)| *from.max(&since))
            .min()
    }
}

/// From when to when the accounts of a node lack what a record says they lack: from the last one before it
/// to the first one behind it.
fn gap(placed: &[Placed<'_>], node: NodeNumber, lacking: &Placed<'_>) -> (i64, i64) {
    let seq = lacking.record.seq;
    let own =
        || placed.iter().filter(|it| it.record.told.is_some() && it.record.node == Some(node));
    let before = own().filter(|it| it.record.seq < seq).map(|it| it.at).max();
    let behind = own().filter(|it| it.record.seq > seq).map(|it| it.at).min();
    (before.unwrap_or(i64::MIN), behind.unwrap_or(lacking.at))
}

/// Whether a record says that a host went away.
pub(crate) fn went_away(record: &Record) -> bool {
    let away = [HostStatus::Down.name(), HostStatus::Disconnected.name()];
    record.code == Code::NodeHost && away.contains(&record.current.as_str())
}

/// A resource that failed while its group was in service.
#[derive(Clone, Copy, Debug)]
struct Failing {
    at: i64,
    seq: u64,
    incident: Option<u64>,
}

/// One group, while the records are read.
#[derive(Default)]
struct Group {
    name: String,
    /// In service: since which record, and on which node, if on one.
    serving: Option<(i64, Option<NodeNumber>)>,
    /// Left running, watched by nobody.
    unmanaged: bool,
    failing: BTreeMap<u16, Failing>,
    open: Option<Outage>,
}

#[derive(Default)]
struct Reader {
    known: RecordContext,
    groups: BTreeMap<u16, Group>,
    outages: Vec<Outage>,
}

impl Reader {
    fn group(&mut self, number: u16, it: &Placed<'_>) {
        let record = it.record;
        let group = self.groups.entry(number).or_default();
        group.name.clone_from(&record.subject_name);
        if record.is_removal() || record.current == ONLINE {
            self.outages.extend(group.open.take().map(|open| Outage {
                incident: open.incident.or(record.incident),
                to: record.node.filter(|_| !record.is_removal()),
                ended: Some(it.at),
                state: record.current.clone(),
                removed: record.is_removal(),
                ..open
            }));
            group.failing.clear();
            group.unmanaged = false;
            group.serving = (!record.is_removal()).then_some((it.at, record.node));
        } else if let Some(open) = &mut group.open {
            open.state.clone_from(&record.current);
            let lost = [GroupState::Unknown.name(), GroupState::Error.name()];
            open.failed |= lost.contains(&record.current.as_str());
            open.rested |= record.current == OFFLINE;
        } else if record.current == GroupState::Unmanaged.name() {
            group.unmanaged = true;
            group.failing.clear();
        } else if (group.serving.is_some() || record.previous == ONLINE)
            && !goes_on(&self.known, group, record)
        {
            let open = leave(&self.known, number, group, it);
            group.open = Some(open);
            (group.serving, group.unmanaged) = (None, false);
            group.failing.clear();
        }
    }

    fn resource(&mut self, number: u16, resource: u16, it: &Placed<'_>) {
        let record = it.record;
        let group = self.groups.entry(number).or_default();
        let here = group.serving.is_none_or(|(_, node)| node.is_some() && node == record.node);
        if group.open.is_some() || group.unmanaged || !here {
            return;
        }
        let works = record.current == ResourceState::Online.name() || record.is_restart();
        let failed =
            record.code == Code::ResourceFailed || record.current == ResourceState::Failed.name();
        if works {
            let first = group.failing.values().copied().min_by_key(|failing| failing.at);
            let last = group.failing.remove(&resource).is_some() && group.failing.is_empty();
            if let (true, Some(first), Some((_, node))) = (last, first, group.serving) {
                let ended = Some(it.at);
                self.outages.push(Outage { ended, to: node, ..in_place(group, node, first) });
            }
        } else if failed {
            let failing = Failing { at: it.at, seq: record.seq, incident: record.incident };
            group.failing.entry(resource).or_insert(failing);
        }
    }

    fn finish(mut self) -> Vec<Outage> {
        for group in self.groups.values_mut() {
            self.outages.extend(group.open.take());
            let first = group.failing.values().copied().min_by_key(|failing| failing.at);
            if let (Some(first), Some((_, node))) = (first, group.serving) {
                self.outages.push(in_place(group, node, first));
            }
        }
        self.outages.sort_by_key(|outage| (outage.noticed, outage.seq));
        self.outages
    }
}

/// Whether a group is in service though a record says that it is not ONLINE: what was left running is
/// managed again, or one node of several comes or goes.
fn goes_on(known: &RecordContext, group: &Group, record: &Record) -> bool {
    let managed_again = group.unmanaged && record.current == GroupState::Acquiring.name();
    let moving = [GroupState::Acquiring.name(), GroupState::Releasing.name()];
    let one_of_several = record.node.is_none()
        && (moving.contains(&record.current.as_str())
            || (record.current == GroupState::Unknown.name()
                && known.away.contains_key(&record.index)));
    managed_again || one_of_several
}

/// The outage that begins with a record of a group.
fn leave(known: &RecordContext, number: u16, group: &Group, it: &Placed<'_>) -> Outage {
    let record = it.record;
    let (since, node) = group.serving.unzip();
    let from = node.flatten().or(record.node);
    let ordered = record.current == GroupState::Releasing.name();
    let motive = record.event.filter(|_| ordered).and_then(|id| known.motives.get(&id).copied());
    let failing = group.failing.values().map(|failing| failing.at).min();
    let failed = !ordered || failing.is_some() || motive == Some(Motive::Failure);
    let sign = from.and_then(|node| known.lost(number, node, since, it));
    let (sign, explained) = sign.unzip();
    let began = failing.into_iter().chain(sign).min().filter(|_| failed);
    let doubt = began.and_then(|began| known.doubt(from?, since, began));
    let unknown = failed && began.is_none();
    Outage {
        name: group.name.clone(),
        seq: record.seq,
        incident: record.incident.or(explained.flatten()),
        left: true,
        from,
        to: None,
        began: began.unwrap_or(it.at),
        noticed: failing.unwrap_or(it.at),
        ended: None,
        at_least: doubt.map(known_since).or_else(|| unknown.then_some(since)),
        state: record.current.clone(),
        removed: false,
        motive,
        failed,
        farewell: failing.is_none() && known.away.get(&record.index) == Some(&true),
        rested: record.current == OFFLINE,
    }
}

/// The beginning of a doubt, where there is one.
fn known_since(from: i64) -> Option<i64> {
    (from > i64::MIN).then_some(from)
}

/// The outage of a group that stays ONLINE while a resource of it fails.
fn in_place(group: &Group, node: Option<NodeNumber>, first: Failing) -> Outage {
    Outage {
        name: group.name.clone(),
        seq: first.seq,
        incident: first.incident,
        left: false,
        from: node,
        to: None,
        began: first.at,
        noticed: first.at,
        ended: None,
        at_least: None,
        state: ONLINE.into(),
        removed: false,
        motive: None,
        failed: true,
        farewell: false,
        rested: false,
    }
}
