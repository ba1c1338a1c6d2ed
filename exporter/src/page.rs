//! The status page: one file, no other host, live through `/api/v1/watch`.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::ProblemDoc;

use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, Problem};

/// Everything the page needs is in it.
const PAGE: &str = include_str!("page/index.html");

/// Nothing from elsewhere, and nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The status page.
#[utoipa::path(get, path = "/", tag = "page",
    params(Wait),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn page(
    State(app): State<App>,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    wait.pass(&app.surface).await;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(([kind, policy], PAGE).into_response())
}
