//! What every answer carries, whatever it is about: revision, age and quorum; and the count of it.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use vedette_core::view::View;

use crate::App;

const REVISION: HeaderName = HeaderName::from_static("x-vedette-revision");
const STALE: HeaderName = HeaderName::from_static("x-vedette-stale-ms");
const TIME: HeaderName = HeaderName::from_static("x-vedette-time");
const QUORATE: HeaderName = HeaderName::from_static("x-vedette-quorate");
const VIEWPOINT: HeaderName = HeaderName::from_static("x-vedette-viewpoint");

/// Adds the headers that are not there yet, and counts the answer.
pub(crate) async fn describe(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    let route = route.as_deref().unwrap_or("unknown");
    app.surface.counters.answered(route, response.status().as_u16());
    let view = app.surface.source.view();
    let headers = response.headers_mut();
    if !headers.contains_key(REVISION) {
        of_view(headers, &view);
    }
    let stale = u64::try_from(app.surface.source.stale().as_millis()).unwrap_or(u64::MAX);
    headers.insert(STALE, HeaderValue::from(stale));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(time) = HeaderValue::from_str(&(app.surface.clock)().to_string()) {
        headers.insert(TIME, time);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The headers that must belong to the very view an answer was built from.
pub(crate) fn of_view(headers: &mut HeaderMap, view: &View) {
    headers.insert(REVISION, HeaderValue::from(view.revision()));
    headers.insert(VIEWPOINT, HeaderValue::from(view.viewpoint));
    let quorate = if view.local.knows() { "true" } else { "false" };
    headers.insert(QUORATE, HeaderValue::from_static(quorate));
}
