//! Incidents: what the history holds under one number, as a story with its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{
    AvailabilityReportDoc, IncidentDoc, IncidentSummaryDoc, Ledger, ProblemDoc, Wanted,
};
use vedette_core::group::GroupState;
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;
use vedette_core::view::View;

use crate::api::Answer;
use crate::events::{read_with, wait_durable};
use crate::query::{Asked, Limit};
use crate::wait::Wait;
use crate::{App, EventQuery, HistoryReader, HistoryUnavailable, InPath, Problem, meta};

/// How many incidents an answer holds if the request does not say, and at most.
const DEFAULT_LIMIT: u64 = 20;
const MOST: u64 = 100;

/// How many records of one incident are read: a failover of a large cluster has some hundreds.
const MOST_RECORDS: usize = 10_000;

/// How many records before and after an incident are looked at for what helps to tell it.
const CONTEXT: u64 = 512;

/// How many records are read at once.
const PAGE: usize = 4_096;

/// A page of incidents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct IncidentsDoc {
    /// The incidents, the latest first.
    pub(crate) incidents: Vec<IncidentSummaryDoc>,
    /// Ask for earlier ones with `before` so; `null` if there are none.
    pub(crate) next_before: Option<u64>,
}

crate::query! {
    /// Selection of incidents.
    pub(crate) struct IncidentsQuery {
        /// Only those with a smaller number
        before: u64,
        /// At most so many: 1 to 100, 20 if not given
        limit: Limit<MOST>,
    }
}

crate::query! {
    /// Availability of what, and when.
    pub(crate) struct ReportQuery {
        /// Not what was before: 2026-11, 2026-11-01, 2026-11-01T12:00:00Z; all if not given
        since: WallTime,
        /// Not what was after, written as `since`; now if not given
        until: WallTime,
        /// Only this group
        group: String,
    }
}

/// Incidents, the latest first.
#[utoipa::path(get, path = "/api/v1/incidents", tag = "events",
    params(IncidentsQuery, Wait),
    responses((status = 200, description = "The incidents", body = IncidentsDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 503, description = "The history cannot be read now", body = ProblemDoc)))]
pub(crate) async fn incidents(
    State(app): State<App>,
    Asked((query, wait)): Asked<(IncidentsQuery, Wait)>,
) -> Answer {
    let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| limit.0);
    let before = query.before.unwrap_or(u64::MAX);
    let view = wait_durable(&app.surface, &wait).await;
    let ids = read_with(&app.surface, move |history| history.incidents(before, limit as usize));
    let ids = ids.await?;
    let next_before = ids.last().copied().filter(|_| ids.len() as u64 == limit);
    let mut incidents = Vec::new();
    for id in ids {
        incidents.extend(story(&app, &view, id).await?.as_ref().map(IncidentSummaryDoc::new));
    }
    Ok(describe(Json(IncidentsDoc { incidents, next_before }).into_response(), &view))
}

/// One incident: cause, decisions, every step with its length, outages.
#[utoipa::path(get, path = "/api/v1/incidents/{incident}", tag = "events",
    params(("incident" = String, Path, description = "Its number, or `last`"),
           Wait),
    responses((status = 200, description = "The incident", body = IncidentDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such incident", body = ProblemDoc),
              (status = 503, description = "The history cannot be read now", body = ProblemDoc)))]
pub(crate) async fn incident(
    State(app): State<App>,
    InPath(wanted): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let view = wait_durable(&app.surface, &wait).await;
    let unknown = || {
        Problem::new(
            Kind::UnknownIncident,
            format!("There is no incident {wanted:?}."),
            "GET /api/v1/incidents lists the incidents; give a number, or last.",
        )
    };
    let id = match wanted.as_str() {
        "last" => {
            let latest = read_with(&app.surface, |history| history.incidents(u64::MAX, 1)).await?;
            latest.first().copied()
        }
        number => number.parse().ok(),
    };
    let story = story(&app, &view, id.ok_or_else(unknown)?).await?.ok_or_else(unknown)?;
    Ok(describe(Json(story).into_response(), &view))
}

/// Availability of groups, for each calendar month in UTC.
#[utoipa::path(get, path = "/api/v1/incidents/report", tag = "events",
    params(ReportQuery, Wait),
    responses((status = 200, description = "The report", body = AvailabilityReportDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No record tells of such a group", body = ProblemDoc),
              (status = 503, description = "The history cannot be read now", body = ProblemDoc)))]
pub(crate) async fn report(
    State(app): State<App>,
    Asked((query, wait)): Asked<(ReportQuery, Wait)>,
) -> Answer {
    let ReportQuery { since, until, group } = query;
    if let Some((begin, end)) = since.zip(until).filter(|(since, until)| since >= until) {
        return Err(Problem::bad_parameter(
            format!("The time ends before it begins: since={begin}, until={end}."),
            "Give an until that is later than since.",
        ));
    }
    let view = wait_durable(&app.surface, &wait).await;
    let now = (app.surface.clock)();
    let stale_us = i64::try_from(app.surface.source.stale().as_micros()).unwrap_or(i64::MAX);
    let known_until = WallTime(now.0.saturating_sub(stale_us));
    let wanted = Wanted { since, until, group: group.clone(), now, known_until };
    let report = read_with(&app.surface, move |history| {
        ledger(history).map(|ledger| ledger.report(&wanted))
    });
    let report = report.await?.ok_or_else(|| {
        Problem::new(
            Kind::UnknownGroup,
            format!("No record tells of a group {:?}.", group.unwrap_or_default()),
            "GET /api/v1/incidents/report shows all groups that there ever were.",
        )
    })?;
    Ok(describe(Json(report).into_response(), &view))
}

/// The whole history, page by page, for a report.
fn ledger(history: &dyn HistoryReader) -> Result<Ledger, HistoryUnavailable> {
    let (mut ledger, mut after) = (Ledger::default(), 0);
    loop {
        let page = history.events(&query(after, PAGE, None))?;
        let Some(last) = page.last() else { return Ok(ledger) };
        after = last.seq;
        page.iter().for_each(|record| ledger.take(record));
        if page.len() < PAGE {
            return Ok(ledger);
        }
    }
}

fn query(after: u64, limit: usize, code: Option<Code>) -> EventQuery {
    EventQuery { after, limit, severity: None, code }
}

async fn story(app: &App, view: &View, id: u64) -> Result<Option<IncidentDoc>, Problem> {
    let records = read_with(&app.surface, move |history| with_context(history, id)).await?;
    Ok(IncidentDoc::of(id, &records, |node| view.state.node_name(node)))
}

/// The records of an incident, all around it, and those after it that end what it began: outages are read
/// from everything that happened, so that each is of one incident.
fn with_context(
    history: &dyn HistoryReader,
    id: u64,
) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
    let own = history.incident(id, MOST_RECORDS)?;
    let (Some(first), Some(last)) = (own.first(), own.last()) else { return Ok(own) };
    let (first, last) = (first.seq, last.seq);
    let mut records = BTreeMap::from_iter(own.into_iter().map(|record| (record.seq, record)));
    let mut after = first.saturating_sub(CONTEXT);
    while after < last + CONTEXT && records.len() < MOST_RECORDS {
        let page =
            history.events(&query(after, PAGE.min(usize_of(last + CONTEXT - after)), None))?;
        let Some(end) = page.last().map(|record| record.seq) else { break };
        records.extend(page.into_iter().map(|record| (record.seq, record)));
        after = end;
    }
    let mut open: BTreeSet<Subject> = BTreeSet::new();
    let of_group = |record: &&Arc<Record>| record.code == Code::Group;
    for record in records.values().filter(|it| it.seq >= first).filter(of_group) {
        note(&mut open, record);
    }
    while !open.is_empty() {
        let page = history.events(&query(after, PAGE, Some(Code::Group)))?;
        let end = page.last().map(|record| record.seq).filter(|_| page.len() >= PAGE);
        let concerned = open.clone();
        let of_open = page.into_iter().filter(|record| concerned.contains(&record.subject));
        for record in of_open {
            note(&mut open, &record);
            records.insert(record.seq, record);
        }
        match end {
            Some(end) => after = end,
            None => break,
        }
    }
    Ok(records.into_values().collect())
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(PAGE)
}

/// Notes whether a group is out of service after a record of it.
fn note(open: &mut BTreeSet<Subject>, record: &Record) {
    if record.current == GroupState::Online.name() || record.is_removal() {
        open.remove(&record.subject);
    } else {
        open.insert(record.subject);
    }
}

fn describe(mut response: Response, view: &View) -> Response {
    meta::of_view(response.headers_mut(), view);
    response
}
