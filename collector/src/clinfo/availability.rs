//! Availability of groups: how much of each calendar month (UTC) they served, from the whole history.
//!
//! A [`Ledger`] is shown every record of the history and keeps the few kinds that matter. Its report
//! divides the time since a group was first on record into time in service, unplanned outage, planned
//! outage ([`super::incident::outages`]) and time of which nobody knows: before it was ONLINE for the
//! first time, while records are missing, while it was left running unwatched, and since the answering
//! node has known nothing new. What is not known is in neither side of a percentage.
//!
//! An outage counts in the month in which it began; its time counts where it was. All of it is measured
//! on the line of [`super::incident::line`], so a clock that is set makes no outage and hides none.

mod spans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::group::{GroupState, ResourceState};
use vedette_core::record::{Code, Record};
use vedette_core::time::WallTime;

use super::incident::OutageKind;
use super::incident::line::{Placed, millis, place, text};
use super::incident::outages::{Outage, outages};
use spans::Spans;

/// Availability of groups over a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AvailabilityReportDoc {
    /// Where the time begins.
    pub since: String,
    /// Where it ends.
    pub until: String,
    /// The groups by name, those too that are configured no more.
    pub groups: Vec<GroupAvailabilityDoc>,
}

/// Availability of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupAvailabilityDoc {
    /// The group.
    pub group: String,
    /// Whether it is still configured, as far as the records know.
    pub configured: bool,
    /// The whole time.
    pub total: PeriodDoc,
    /// Calendar months in UTC, as far as they lie in the time and the group was there.
    pub months: Vec<PeriodDoc>,
}

/// What became of a group in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeriodDoc {
    /// The month, such as `2026-11`; `null` for the whole time.
    pub month: Option<String>,
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// How long the group was there in it.
    pub window_ms: u64,
    /// How much of that nobody knows anything of.
    pub unknown_ms: u64,
    /// How long it was out of service though nobody wanted that.
    pub unplanned_ms: u64,
    /// How long it was out of service because somebody wanted that.
    pub planned_ms: u64,
    /// The beginning of an outage in it is not known: it was out of service at least so long.
    pub at_least: bool,
    /// How many outages began in it.
    pub outages: OutageCountsDoc,
    /// The longest unplanned one that began in it.
    pub longest_unplanned_ms: Option<u64>,
    /// The longest planned one that began in it.
    pub longest_planned_ms: Option<u64>,
    /// Time in service in percent of the time that is known, rounded down at six digits.
    #[schema(example = 99.998_731)]
    pub availability_percent: Option<f64>,
    /// The same, if what was planned counts as service.
    #[schema(example = 99.999_912)]
    pub availability_but_for_planned_percent: Option<f64>,
}

/// How many outages of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutageCountsDoc {
    /// Something failed, and another node took the group or is to take it.
    pub failovers: u64,
    /// An operator or a new configuration took it to another node.
    pub moves: u64,
    /// Its better place was there again.
    pub failbacks: u64,
    /// It came back where it was.
    pub restarts: u64,
    /// It was taken off on purpose.
    pub stops: u64,
    /// The records do not say.
    pub unknown: u64,
}

/// Which time a report is about, and what is known of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it begins; with the first record if not given.
    pub since: Option<WallTime>,
    /// Where it ends; now if not given, and never later.
    pub until: Option<WallTime>,
    /// Only this group.
    pub group: Option<String>,
    /// The present time.
    pub now: WallTime,
    /// Until when the records are complete: now, unless the answering node is cut off.
    pub known_until: WallTime,
}

/// What availability is reckoned from.
#[derive(Debug, Default)]
pub struct Ledger {
    records: Vec<Record>,
    /// The last record, whatever it was.
    last: Option<Record>,
    /// Numbers of the records on both sides of each gap; 0 for the beginning.
    gaps: Vec<(u64, u64)>,
}

impl Ledger {
    /// Takes the next record of the history.
    pub fn take(&mut self, record: &Record) {
        let before = self.last.as_ref().map_or(0, |last| last.seq);
        let is_gap = record.seq != before + 1;
        if is_gap {
            self.gaps.push((before, record.seq));
            if let Some(last) = self.last.take().filter(|last| !matters(last)) {
                self.records.push(last);
            }
        }
        if is_gap || before == 0 || matters(record) {
            self.records.push(record.clone());
        }
        self.last = Some(record.clone());
    }

    /// The report. `None` if a group is wanted that no record tells of.
    pub fn report(&self, wanted: &Wanted) -> Option<AvailabilityReportDoc> {
        let mut records: Vec<&Record> = self.records.iter().collect();
        records.extend(self.last.iter().filter(|last| !matters(last)));
        let placed = place(&records);
        let first = placed.first().map_or(wanted.now.0, |it| it.at);
        let until = wanted.until.map_or(wanted.now.0, |until| until.0.min(wanted.now.0));
        let since = wanted.since.map_or(first, |since| since.0.max(first)).min(until);
        let groups = Groups::read(&placed, &self.gaps, wanted);
        let asked = |name: &&String| wanted.group.as_ref().is_none_or(|group| group == *name);
        let groups: Vec<GroupAvailabilityDoc> = groups
            .0
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, group)| group.document(name, (since, until)))
            .collect();
        if groups.is_empty() && wanted.group.is_some() {
            return None;
        }
        Some(AvailabilityReportDoc { since: text(since), until: text(until), groups })
    }
}

/// Whether a record tells anything of availability.
fn matters(record: &Record) -> bool {
    match record.code {
        Code::Group
        | Code::ResourceFailed
        | Code::NodeHost
        | Code::NodeStarted
        | Code::GroupReleased
        | Code::EventQueued => true,
        // What a node lived through, and what it lost of that.
        Code::AccountIncomplete => true,
        _ if record.told.is_some() => true,
        Code::Resource => [ResourceState::Failed.name(), ResourceState::Online.name()]
            .contains(&record.current.as_str()),
        _ => false,
    }
}

/// What is known of the groups, by name.
struct Groups(BTreeMap<String, Life>);

/// What is known of one.
#[derive(Default)]
struct Life {
    /// When it was configured.
    there: Spans,
    unknown: Spans,
    outages: Vec<Outage>,
    configured: bool,
    known_until: i64,
}

impl Groups {
    fn read(placed: &[Placed<'_>], gaps: &[(u64, u64)], wanted: &Wanted) -> Self {
        let latest = placed.last().map_or(wanted.now.0, |it| it.at);
        let known_until = wanted.known_until.0.max(latest);
        let end = wanted.now.0.max(known_until);
        let of = |it: &&Placed<'_>| it.record.code == Code::Group;
        let names: BTreeSet<&String> =
            placed.iter().filter(of).map(|it| &it.record.subject_name).collect();
        let holes = holes(placed, gaps);
        let mut groups: BTreeMap<String, Life> = names
            .into_iter()
            .map(|name| {
                let own = placed.iter().filter(of).filter(|it| it.record.subject_name == *name);
                let mut life = Life::read(own, end);
                life.unknown.extend(&holes);
                life.unknown.add(known_until, end);
                life.known_until = known_until;
                (name.clone(), life)
            })
            .collect();
        for outage in outages(placed) {
            if let Some(life) = groups.get_mut(&outage.name) {
                life.outages.push(outage);
            }
        }
        Self(groups)
    }
}

/// The times of which records are missing.
fn holes(placed: &[Placed<'_>], gaps: &[(u64, u64)]) -> Spans {
    let at: BTreeMap<u64, i64> = placed.iter().map(|it| (it.record.seq, it.at)).collect();
    Spans::of(gaps.iter().filter_map(|(before, after)| Some((*at.get(before)?, *at.get(after)?))))
}

impl Life {
    /// From the group's own records, in order.
    fn read<'a>(records: impl Iterator<Item = &'a Placed<'a>>, end: i64) -> Self {
        let (mut life, mut there) = (Self::default(), None);
        // Until it is ONLINE for the first time, and while nobody watches it.
        let mut dark: Option<i64> = None;
        for it in records {
            let state = it.record.current.as_str();
            if there.is_none() {
                there = Some(it.at);
                let served = it.record.previous == GroupState::Online.name();
                dark = (!served).then_some(it.at);
            }
            let seen = if state == GroupState::Online.name() || it.record.is_removal() {
                true
            } else if state == GroupState::Unmanaged.name() {
                dark = dark.or(Some(it.at));
                false
            } else {
                it.record.previous == GroupState::Unmanaged.name()
                    && state != GroupState::Acquiring.name()
            };
            if let Some(from) = dark.take_if(|_| seen) {
                life.unknown.add(from, it.at);
            }
            if it.record.is_removal()
                && let Some(from) = there.take()
            {
                life.there.add(from, it.at);
            }
        }
        life.configured = there.is_some();
        if let Some(from) = there {
            life.there.add(from, end);
        }
        if let Some(from) = dark {
            life.unknown.add(from, end);
        }
        life
    }

    fn document(&self, name: &str, (since, until): (i64, i64)) -> GroupAvailabilityDoc {
        let months = months(since, until);
        let months = months.into_iter().map(|(month, from, to)| self.period(Some(month), from, to));
        GroupAvailabilityDoc {
            group: name.into(),
            configured: self.configured,
            total: self.period(None, since, until),
            months: months.filter(|period| period.window_ms > 0).collect(),
        }
    }

    fn period(&self, month: Option<String>, from: i64, to: i64) -> PeriodDoc {
        let there = self.there.within(from, to);
        let unknown = there.and(&self.unknown);
        let known = there.minus(&unknown);
        let out = |planned: bool| {
            let outages = self.outages.iter().filter(|outage| outage.planned() == planned);
            let spans = outages.map(|it| (it.began, it.ended.unwrap_or(i64::MAX)));
            known.and(&Spans::of(spans)).millis()
        };
        let (planned, unplanned) = (out(true), out(false));
        let begun: Vec<&Outage> =
            self.outages.iter().filter(|it| (from..to).contains(&it.began)).collect();
        let longest = |planned: bool| {
            let lengths = begun.iter().filter(|it| it.planned() == planned).map(|it| {
                let ended = it.ended.unwrap_or(self.known_until);
                millis(it.began, ended)
            });
            lengths.max()
        };
        let touches = |it: &Outage| it.began < to && it.ended.is_none_or(|ended| ended > from);
        PeriodDoc {
            month,
            from: text(from),
            to: text(to),
            window_ms: there.millis(),
            unknown_ms: unknown.millis(),
            unplanned_ms: unplanned,
            planned_ms: planned,
            at_least: self.outages.iter().any(|it| it.at_least.is_some() && touches(it)),
            outages: counts(&begun),
            longest_unplanned_ms: longest(false),
            longest_planned_ms: longest(true),
            availability_percent: percent(known.millis(), planned + unplanned),
            availability_but_for_planned_percent: percent(known.millis(), unplanned),
        }
    }
}

fn counts(outages: &[&Outage]) -> OutageCountsDoc {
    let mut counts = OutageCountsDoc::default();
    for outage in outages {
        let count = match outage.kind() {
            OutageKind::Failover => &mut counts.failovers,
            OutageKind::Move => &mut counts.moves,
            OutageKind::Failback => &mut counts.failbacks,
            OutageKind::Restart => &mut counts.restarts,
            OutageKind::Stop => &mut counts.stops,
            OutageKind::Unknown => &mut counts.unknown,
        };
        *count += 1;
    }
    counts
}

/// Time in service in percent, rounded down at six digits, so that an outage is never rounded away.
fn percent(known_ms: u64, out_ms: u64) -> Option<f64> {
    let served = u128::from(known_ms.saturating_sub(out_ms));
    let millionths = (served * 100_000_000).checked_div(u128::from(known_ms))?;
    Some(millionths as f64 / 1_000_000.0)
}

/// The calendar months in UTC from one moment to another, cut to these: name, beginning, end.
fn months(since: i64, until: i64) -> Vec<(String, i64, i64)> {
    let (mut year, mut month, ..) = WallTime(since).utc();
    let mut months = Vec::new();
    loop {
        let name = format!("{year:04}-{month:02}");
        let from = beginning(year, month);
        if from >= until {
            return months;
        }
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        months.push((name, from.max(since), beginning(year, month).min(until)));
    }
}

/// A moment as people write it, in UTC: `2026-11`, `2026-11-01`, `2026-11-01T12:00Z`,
/// `2026-11-01T12:00:00.000Z`.
pub fn moment(text: &str) -> Option<WallTime> {
    let (date, clock) = text.split_once('T').map_or((text, None), |(date, it)| (date, Some(it)));
    let number = |text: &str, digits: usize| -> Option<i64> {
        let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse().ok()).flatten()
    };
    let mut date = date.split('-');
    let (year, month) = (number(date.next()?, 4)?, number(date.next()?, 2)?);
    let day = date.next().map_or(Some(1), |day| number(day, 2))?;
    let month = u8::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    let mut at = beginning(year, month) + (day - 1) * 86_400_000_000;
    let (y, m, d, ..) = WallTime(at).utc();
    if date.next().is_some() || (y, m, i64::from(d)) != (year, month, day) {
        return None;
    }
    if let Some(clock) = clock {
        let mut parts = clock.strip_suffix('Z')?.splitn(3, ':');
        let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let (second, fraction) = parts
            .next()
            .map_or(("00", ""), |seconds| seconds.split_once('.').unwrap_or((seconds, "")));
        let second = number(second, 2)?;
        let micros = number(&format!("{fraction:0<6}"), 6)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        at += (hour * 3_600 + minute * 60 + second) * 1_000_000 + micros;
    }
    Some(WallTime(at))
}

/// When a month begins, in microseconds since 1970.
fn beginning(year: i64, month: u8) -> i64 {
    // Years that begin on 1 March, in eras of 400.
    let (year, month) =
        if month > 2 { (year, i64::from(month) - 3) } else { (year - 1, i64::from(month) + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5;
    (days - 719_468) * 86_400_000_000
}
