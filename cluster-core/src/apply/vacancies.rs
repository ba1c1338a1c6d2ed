//! Vacancies: from when to when no node had a quorum.
//!
//! Nobody can have that written down while it is so. Afterwards each voter accounts for its own part of
//! it: that it lost its quorum, or that it was started again and when it had last been alive. The office
//! that the next director took is the other end, so the record that says so needs nobody who lived
//! through all of it: every node may have been started anew meanwhile.
//!
//! What befell nodes in that time is noticed when the next director is there: a group turns out to be gone, a
//! node stays silent, another tells that it lost its quorum, in whatever order they come. All of that is
//! one incident.
//!
//! Invariants: a vacancy makes one record at most; none is made while a voter that is not known to be
//! away has said nothing, because that one may have kept its quorum; what all voters left in good order
//! was wanted, and is none.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::GroupState;
use crate::id::NodeNumber;
use crate::local::LocalRecord;
use crate::model::{HostStatus, Node, Severity};
use crate::record::{Code, Subject};
use crate::state::{End, Ending, FRESH_MS, QuorumLoss, Vacancy};

use super::{ClusterState, Entry, RecordDraft};

/// Accounts come when nodes can give them; directors that follow each other quickly make a few of these.
const MOST: usize = 4;

impl ClusterState {
    /// A director takes office: until now there may have been none.
    pub(super) fn begin_office(&mut self) {
        self.vacancies.push_back(Vacancy {
            from_ms: self.timeline.before_ms(),
            until_ms: self.timeline.elapsed_ms(),
            heard: BTreeMap::new(),
            away: None,
            ends: BTreeMap::new(),
            doubted: BTreeSet::new(),
            told: false,
        });
        if self.vacancies.len() > MOST {
            self.vacancies.pop_front();
        }
    }

    /// Marks that the agent of a node has spoken: what it says from the next entry on is about this office.
    pub(super) fn heard_in_office(&mut self, node: NodeNumber, index: u64) {
        if let Some(vacancy) = self.vacancies.back_mut() {
            vacancy.heard.entry(node).or_insert(index);
        }
    }

    /// Begins a loss of quorum that nobody has told of yet: some time after `from_ms` of the timeline.
    pub(super) fn begin_unseen_loss(&mut self, incident: u64, from_ms: u64) {
        let until_ms = self.timeline.elapsed_ms();
        self.quorum_loss = Some(QuorumLoss { incident, from_ms, until_ms });
    }

    /// The incident of groups that a node had, alone or beside others, and of which it says that it has let go,
    /// though nobody misses them.
    pub(super) fn incident_of_return(
        &mut self,
        entry: &Entry<'_>,
        node: NodeNumber,
    ) -> Option<u64> {
        let missed = self.nodes.get(&node)?.incident.is_some() || !self.loses_groups(node);
        (!missed).then(|| self.incident_of_let_go(entry.index, node))
    }

    /// The incident of what a node let go of by itself, as the entry at `index` says first: that of the loss of
    /// quorum that is just over, or else a new one. In its first word to a director it may be of the time
    /// before that one took office.
    pub(super) fn incident_of_let_go(&mut self, index: u64, node: NodeNumber) -> u64 {
        let now_ms = self.timeline.elapsed_ms();
        let Some(vacancy) = self.vacancies.back() else { return index };
        let first = vacancy.heard.get(&node).is_none_or(|heard| *heard == index);
        let before = first && now_ms.saturating_sub(vacancy.until_ms) < FRESH_MS;
        let since_ms = if before { vacancy.from_ms } else { vacancy.until_ms };
        let of_office = self.loss_at(vacancy.until_ms).or(vacancy.away).filter(|_| before);
        let silent =
            self.silence.filter(|it| now_ms.saturating_sub(it.noticed_ms) <= self.slack_ms());
        let known = self.loss_at(now_ms).or(of_office).or(silent.map(|it| it.incident));
        if known.is_none() {
            self.begin_unseen_loss(index, since_ms);
        }
        known.unwrap_or(index)
    }

    /// Whether a node had groups in service that nobody misses yet.
    fn loses_groups(&self, node: NodeNumber) -> bool {
        self.groups.values().any(|group| {
            let had = group.instances.get(&node).is_some_and(|it| it.state == GroupState::Online);
            had && group.lost.is_none()
        })
    }

    /// The incident of a node that turns out to be away, and was silent before the director took office, or
    /// had a quorum again: that of the loss which others have told of, if they have.
    pub(super) fn incident_of_silence(
        &mut self,
        index: u64,
        silent_ms: Option<u64>,
    ) -> Option<u64> {
        let now_ms = self.timeline.elapsed_ms();
        // Of one that this director has never heard, nobody says for how long.
        let since_ms = now_ms.saturating_sub(silent_ms.unwrap_or(u64::MAX));
        let until_ms = self.vacancies.back()?.until_ms;
        let loss = self.quorum_loss.filter(|loss| since_ms < loss.until_ms).map(|it| it.incident);
        let loss = loss.filter(|_| self.loss_at(now_ms).is_some() || since_ms < until_ms);
        if since_ms < until_ms {
            let loss = loss.filter(|_| self.loss_at(until_ms).is_some());
            self.vacancies.back_mut()?.away.get_or_insert(loss.unwrap_or(index));
        }
        loss
    }

    /// Takes from a local record until when, or since when, its node had a quorum.
    pub(super) fn note_quorum(
        &mut self,
        node: NodeNumber,
        record: &LocalRecord,
        elapsed_ms: u64,
        incident: Option<u64>,
    ) {
        let content = &record.content;
        let alive_ms = elapsed_ms.saturating_sub(content.duration_ms.unwrap_or(0));
        let (at_ms, how) = match content.code {
            Code::QuorumRegained => return self.note_regained(node, elapsed_ms),
            Code::QuorumLost => (elapsed_ms, Ending::Lost),
            Code::NodeStarted if content.severity == Severity::Notice => (alive_ms, Ending::Left),
            Code::NodeStarted | Code::AgentRestarted => (alive_ms, Ending::Died),
            _ => return,
        };
        let end = End { at_ms, incident, how, regained: false };
        for vacancy in self.vacancies.iter_mut().filter(|vacancy| at_ms < vacancy.until_ms) {
            // What befell a node that had no quorum any more ends nothing.
            let known = vacancy.ends.entry(node).or_insert(end);
            if known.regained {
                *known = end;
            }
        }
    }

    /// The account of a node lacks something.
    pub(super) fn doubt_ends(&mut self, node: NodeNumber) {
        for vacancy in self.vacancies.iter_mut().filter(|vacancy| !vacancy.told) {
            vacancy.doubted.insert(node);
        }
    }

    fn note_regained(&mut self, node: NodeNumber, since_ms: u64) {
        let slack_ms = self.slack_ms();
        for vacancy in &mut self.vacancies {
            if since_ms.saturating_add(slack_ms) < vacancy.until_ms {
                vacancy.ends.remove(&node);
            } else if let Some(end) = vacancy.ends.get_mut(&node) {
                end.regained = true;
            }
        }
    }

    /// Whether a loss of the director's own, which ended at `until_ms`, says by itself that nobody had a
    /// quorum, and is the first to say so.
    pub(super) fn tells_vacancy(&mut self, node: NodeNumber, from_ms: u64, until_ms: u64) -> bool {
        let latest_ms = until_ms.saturating_add(self.slack_ms());
        if self.vacancies.back().is_some_and(|vacancy| vacancy.until_ms > latest_ms) {
            return false; // Others led meanwhile.
        }
        let ended = |vacancy: &&mut Vacancy| vacancy.until_ms > from_ms;
        let Some(vacancy) = self.vacancies.iter_mut().rfind(ended) else { return true };
        // One that was started in the middle knows only the end of it.
        let whole = vacancy.ends.get(&node).is_none_or(|end| end.how == Ending::Lost);
        whole && !std::mem::replace(&mut vacancy.told, true)
    }

    /// Puts on record that nobody had a quorum, once those have accounted for it that could have had one.
    pub(super) fn settle_vacancies(&mut self, entry: &mut Entry<'_>) {
        let due: Vec<usize> = (0..self.vacancies.len())
            .filter(|place| self.is_accounted_for(&self.vacancies[*place]))
            .collect();
        for place in due {
            self.vacancies[place].told = true;
            let vacancy = self.vacancies[place].clone();
            self.record_vacancy(entry, &vacancy);
        }
    }

    fn is_accounted_for(&self, vacancy: &Vacancy) -> bool {
        let said = |node: &&Node| vacancy.ends.contains_key(&node.number);
        let away = |node: &Node| matches!(node.host, HostStatus::Down | HostStatus::Disconnected);
        let count = self.voters().filter(said).count();
        let wanted = vacancy.ends.values().all(|end| end.how == Ending::Left);
        !vacancy.told
            && !wanted
            && count * 2 > self.voters().count()
            && self.voters().all(|node| said(&node) || away(node))
    }

    fn record_vacancy(&mut self, entry: &mut Entry<'_>, vacancy: &Vacancy) {
        let Some((last, end)) = vacancy.ends.iter().max_by_key(|(_, end)| end.at_ms) else {
            return;
        };
        let incident = end.incident.or_else(|| self.loss_at(end.at_ms)).or_else(|| {
            let others = vacancy.ends.values().filter(|end| end.incident.is_some());
            others.max_by_key(|end| end.at_ms).and_then(|end| end.incident)
        });
        let how = match end.how {
            Ending::Lost => "lost its quorum last",
            Ending::Died => "was alive last",
            Ending::Left => "left last",
        };
        let last = (*last, self.node_name(*last));
        let mut cause = format!("{} {how}, and nobody led until a director took office", last.1);
        let doubted = vacancy.doubted.contains(&last.0);
        if doubted {
            cause.push_str("; it lost records of what it lived through before");
        }
        let lasted = (vacancy.until_ms - end.at_ms, doubted);
        let incident = Some(incident.unwrap_or(entry.index));
        self.record_absence(entry, vacancy.until_ms, lasted, incident, &cause);
    }

    /// Says that nobody had a quorum for `lasted_ms`, or at least so long, until a moment of the timeline.
    pub(super) fn record_absence(
        &mut self,
        entry: &mut Entry<'_>,
        until_ms: u64,
        (lasted_ms, at_least): (u64, bool),
        incident: Option<u64>,
        cause: &str,
    ) {
        if let Some(loss) = self.quorum_loss.as_mut().filter(|loss| Some(loss.incident) == incident)
        {
            loss.until_ms = loss.until_ms.max(until_ms);
        }
        let seconds = lasted_ms as f64 / 1_000.0;
        let least = if at_least { "at least " } else { "" };
        let message = format!("nobody had a quorum of {} for {least}{seconds:.1} s", self.name);
        let happening =
            RecordDraft::new(Code::QuorumAbsent, Severity::Error, Subject::Cluster, message)
                .because(cause)
                .of_incident(incident);
        self.record(
            entry,
            RecordDraft {
                duration_ms: Some(lasted_ms),
                elapsed_ms: Some(until_ms.max(1)),
                ..happening
            },
        );
    }
}
