//! Accounts: what nodes lived through while they could not tell it ([`crate::local`]).
//!
//! A node repeats its account until it hears that it was taken. Entries are known by the journal and
//! their number, so each becomes one record, in order, however often it comes. What a journal had to
//! give up is counted here, where its numbers leave a gap.
//!
//! Such a record belongs to the incident that it explains: the one of its node, or that of the group it
//! is about, or one that began when nodes lost their quorum ([`QuorumLoss`]).

use crate::command::{Account, AccountEntry};
use crate::group::{Group, GroupState};
use crate::id::NodeNumber;
use crate::local::{LocalRecord, Phase};
use crate::model::{Accounted, HostStatus, Severity};
use crate::record::{Code, Subject, Told};
use crate::state::QuorumLoss;
use crate::time::WallTime;

use super::manager::orders::unknown_node;
use super::{ClusterState, Entry, RecordDraft, Refusal};

/// How long after the end of an outage a node may still account for its beginning.
const JUST_OVER_US: i64 = 60_000_000;

/// A clock of which a record and its age say that much apart was set in between, in milliseconds.
const SET_MS: u64 = 1_000;

impl ClusterState {
    /// A node accounts for its local records.
    pub(super) fn take_account(
        &mut self,
        entry: &mut Entry<'_>,
        account: &Account,
    ) -> Result<bool, Refusal> {
        let Some(node) = self.nodes.get(&account.node) else {
            return Err(unknown_node(account.node));
        };
        let late_ms = on_its_way(entry, account)?;
        let mut known = node.accounted;
        if known.journal != account.journal {
            known = Accounted { journal: account.journal, number: account.begins_after };
        }
        let before = known;
        for told in account.entries.iter().take(Account::MOST) {
            let number = told.record.number;
            if number <= known.number || !told.record.content.code.is_local() {
                continue;
            }
            let missing = number - known.number - 1;
            if missing > 0 {
                self.record_missing(entry, account.node, missing);
            }
            self.record_told(entry, account, told, late_ms);
            known.number = number;
        }
        if let Some(node) = self.nodes.get_mut(&account.node) {
            node.accounted = known;
        }
        Ok(before != known)
    }

    fn record_missing(&mut self, entry: &mut Entry<'_>, node: NodeNumber, missing: u64) {
        let message = format!("{missing} local records of {} are missing", self.node_name(node));
        let subject = Subject::Node(node);
        let happening =
            RecordDraft::new(Code::AccountIncomplete, Severity::Warning, subject, message)
                .because("its journal was full, or was lost, before it could account for them");
        self.record(entry, RecordDraft { node: Some(node), ..happening });
        self.doubt_ends(node);
    }

    fn record_told(
        &mut self,
        entry: &mut Entry<'_>,
        account: &Account,
        told: &AccountEntry,
        late_ms: u64,
    ) {
        let LocalRecord { number, stamp, content, .. } = &told.record;
        let node = account.node;
        let ago_ms = match told.age_ms {
            Some(age_ms) => age_ms.saturating_add(late_ms),
            None => by_wall(entry.proposal.at, told, account),
        };
        let elapsed_ms = self.timeline.elapsed_ms().saturating_sub(ago_ms).max(1);
        let incident = self.incident_of_told(entry, node, &told.record, elapsed_ms);
        let (previous, current) = match content.phase {
            Phase::Raised => ("", "raised"),
            Phase::Cleared => ("raised", "cleared"),
            Phase::Happened => ("", ""),
        };
        let happening =
            RecordDraft::new(content.code, content.severity, content.subject, &*content.message)
                .change(previous, current)
                .because(&*content.cause)
                .of_incident(incident);
        let clock_offset_ms = match told.age_ms {
            Some(_) => self.offset_then(entry, (stamp.at, elapsed_ms), account.clock_offset_ms),
            None => account.clock_offset_ms,
        };
        let afterwards = Told { number: *number, happened_at: stamp.at, clock_offset_ms };
        self.record(
            entry,
            RecordDraft {
                node: Some(node),
                duration_ms: content.duration_ms,
                elapsed_ms: Some(elapsed_ms),
                told: Some(afterwards),
                ..happening
            },
        );
        self.note_quorum(node, &told.record, elapsed_ms, incident);
        if content.code == Code::NodeStarted {
            self.host_began_anew(node, self.by_wall_clock(entry, elapsed_ms));
        }
        if content.code == Code::QuorumRegained && self.director == Some(node) {
            self.director_regained(entry, elapsed_ms, content.duration_ms.unwrap_or(0), incident);
        }
    }

    /// How far a node's clock was ahead when it wrote something down: as it says now, unless the clock was set
    /// since, which its age shows.
    fn offset_then(
        &self,
        entry: &Entry<'_>,
        (written, elapsed_ms): (WallTime, u64),
        now_ms: Option<i64>,
    ) -> Option<i64> {
        let then_ms = written.0.saturating_sub(self.by_wall_clock(entry, elapsed_ms).0) / 1_000;
        let differs = then_ms.saturating_sub(now_ms.unwrap_or(0)).unsigned_abs() >= SET_MS;
        if differs { Some(then_ms) } else { now_ms }
    }

    /// A node has started that nobody missed: what is known of it is so since then.
    fn host_began_anew(&mut self, node: NodeNumber, at: WallTime) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        if node.host == HostStatus::Up && node.host_since < at {
            node.host_since = at;
            node.host_cause = "it has started again".into();
            for interface in node.interfaces.values_mut().filter(|it| it.since < at) {
                interface.since = at;
            }
        }
    }

    /// The director itself was without a quorum until it took office: nobody had one meanwhile.
    fn director_regained(
        &mut self,
        entry: &mut Entry<'_>,
        until_ms: u64,
        lasted_ms: u64,
        incident: Option<u64>,
    ) {
        let Some(director) = self.director else { return };
        let known = self.quorum_loss.is_some_and(|loss| Some(loss.incident) == incident);
        let from_ms = until_ms.saturating_sub(lasted_ms);
        if known && self.tells_vacancy(director, from_ms, until_ms) {
            let cause = "its director itself had none until it took office";
            self.record_absence(entry, until_ms, (lasted_ms, false), incident, cause);
        }
    }

    /// The incident that a local record belongs to, if it tells of a failure that has one.
    fn incident_of_told(
        &mut self,
        entry: &Entry<'_>,
        node: NodeNumber,
        record: &LocalRecord,
        elapsed_ms: u64,
    ) -> Option<u64> {
        let content = &record.content;
        let own = self.nodes.get(&node).and_then(|node| node.incident);
        match (content.code, content.subject) {
            (Code::GroupReleased | Code::ReleaseFailed, Subject::Group(number)) => {
                let released = self.by_wall_clock(entry, elapsed_ms);
                let known = self.incident_of_outage(number, node, released);
                let known = known.or(own).or(self.loss_at(elapsed_ms));
                let known = known.or(self.incident_of_the_silent(elapsed_ms));
                let incident = known.unwrap_or(entry.index);
                self.outage_is_of(number, node, incident);
                Some(incident)
            }
            (Code::QuorumLost, _) => {
                let known = own.or(self.loss_at(elapsed_ms)).or(self.incident_of_groups(node));
                let known = known.or(self.incident_of_the_silent(elapsed_ms));
                let incident = known.unwrap_or(entry.index);
                self.begin_loss(incident, elapsed_ms);
                Some(incident)
            }
            (Code::QuorumRegained, _) => {
                let lost = elapsed_ms.saturating_sub(content.duration_ms.unwrap_or(0));
                own.or(self.loss_at(lost)).or(self.loss_at(elapsed_ms))
            }
            (Code::NodeStarted, _) => {
                let from_ms = elapsed_ms.saturating_sub(content.duration_ms.unwrap_or(0));
                let from = self.by_wall_clock(entry, from_ms);
                let ended = self
                    .incident_of_groups(node)
                    .or_else(|| self.incident_just_over(entry, node, from));
                let known = own.or(ended).or(self.loss_at(from_ms));
                self.begin_absence(entry, node, known, (from, from_ms, elapsed_ms))
            }
            _ => own,
        }
    }

    /// Whoever accounts for a loss has a quorum again: it is over by now, even if its end was never written
    /// down because the node was started anew meanwhile.
    fn begin_loss(&mut self, incident: u64, from_ms: u64) {
        let until_ms = self.timeline.elapsed_ms();
        match &mut self.quorum_loss {
            Some(loss) if loss.incident == incident => {
                loss.from_ms = loss.from_ms.min(from_ms);
                loss.until_ms = loss.until_ms.max(until_ms);
            }
            _ => self.quorum_loss = Some(QuorumLoss { incident, from_ms, until_ms }),
        }
    }

    /// A moment of the timeline on the director's clock of now.
    fn by_wall_clock(&self, entry: &Entry<'_>, elapsed_ms: u64) -> WallTime {
        let ago_ms = self.timeline.elapsed_ms().saturating_sub(elapsed_ms);
        let ago_us = i64::try_from(ago_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        WallTime(entry.proposal.at.0.saturating_sub(ago_us))
    }

    /// The incident in which the group went out of service when that node released it. If it has been in
    /// service since before, nobody has noticed yet.
    fn incident_of_outage(&self, number: u16, node: NodeNumber, released: WallTime) -> Option<u64> {
        let group = self.groups.values().find(|group| group.number == number)?;
        let later = group.since >= released;
        let had = later || group.last == Some(node) || group.instances.contains_key(&node);
        let noticed = later || group.state() != GroupState::Online;
        group.outage.filter(|_| had && noticed)
    }

    /// The incident of a group that had run on the node and is not ONLINE again.
    fn incident_of_groups(&self, node: NodeNumber) -> Option<u64> {
        let of_node = self.groups.values().filter(|group| group.last == Some(node));
        of_node.filter(|group| group.state() != GroupState::Online).find_map(|group| group.outage)
    }

    /// The incident of a group that was ONLINE again after that moment, and since so short a time that its
    /// node had no chance to account for it earlier.
    fn incident_just_over(
        &self,
        entry: &Entry<'_>,
        node: NodeNumber,
        from: WallTime,
    ) -> Option<u64> {
        let lately = |since: WallTime| {
            since >= from && entry.proposal.at.0.saturating_sub(since.0) < JUST_OVER_US
        };
        let of_node = self.groups.values().filter(|group| group.last == Some(node));
        of_node.filter(|group| lately(group.since)).find_map(|group| group.outage)
    }

    /// The incident of a node that was away: the one that is known, else one that begins here if the node
    /// took groups with it, which nobody had noticed.
    fn begin_absence(
        &mut self,
        entry: &Entry<'_>,
        node: NodeNumber,
        known: Option<u64>,
        (from, from_ms, until_ms): (WallTime, u64, u64),
    ) -> Option<u64> {
        let had = |group: &&Group| {
            let alone = group.instances.len() == 1 && group.instances.contains_key(&node);
            alone && group.state() == GroupState::Online && group.since < from
        };
        let lost: Vec<u16> = self.groups.values().filter(had).map(|group| group.number).collect();
        if lost.is_empty() {
            return known;
        }
        let incident = known.unwrap_or(entry.index);
        for number in lost {
            self.outage_is_of(number, node, incident);
        }
        if known.is_none() {
            // Others may have lost their quorum by it, and account for that later.
            self.quorum_loss = Some(QuorumLoss { incident, from_ms, until_ms });
        }
        Some(incident)
    }

    /// What befalls the group from now on, until it is ONLINE, is of that incident.
    fn outage_is_of(&mut self, number: u16, node: NodeNumber, incident: u64) {
        let group = self.groups.values_mut().find(|group| group.number == number);
        if let Some(group) = group.filter(|group| group.instances.contains_key(&node)) {
            group.lost.get_or_insert(incident);
            group.outage = Some(incident);
        }
    }
}

/// How long an account had been on its way when the leader appended it, by that leader's own clock. An
/// account that waited for this leader read the clock of another one, and is to be given anew.
fn on_its_way(entry: &Entry<'_>, account: &Account) -> Result<u64, Refusal> {
    match (account.read, entry.proposal.tick) {
        (Some(read), Some(now)) if read.run == now.run => {
            Ok(now.us.saturating_sub(read.us) / 1_000)
        }
        (Some(_), Some(_)) => Err(Refusal::new(
            "other_clock",
            "the ages of this account are by the clock of a leader that leads no more",
            "Nothing needs to be done; the node accounts again by the clock of this one.",
        )),
        _ => Ok(0),
    }
}

/// The age of a local record by wall clocks, where no monotonic clock can tell.
fn by_wall(at: WallTime, told: &AccountEntry, account: &Account) -> u64 {
    let ahead_us = account.clock_offset_ms.unwrap_or(0).saturating_mul(1_000);
    let happened = told.record.stamp.at.0.saturating_sub(ahead_us);
    u64::try_from(at.0.saturating_sub(happened) / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests;
