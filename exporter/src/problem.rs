//! Problems: what goes wrong is answered as RFC 9457 says, with a stable `code`.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A problem: `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail} {advice}")]
pub struct Problem {
    /// A name for this kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:vedette:problem:unknown_node")]
    pub kind: Box<str>,
    /// The HTTP status in words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and why.
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// What to do.
    #[schema(value_type = String)]
    pub advice: Box<str>,
    /// A stable name, such as `unknown_node`.
    #[schema(value_type = String)]
    pub code: Box<str>,
}

impl Problem {
    /// A problem: one sentence of what and why, and one of what to do.
    pub fn new(
        status: StatusCode,
        code: &str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:vedette:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Problem").into(),
            status: status.as_u16(),
            detail: detail.into().into(),
            advice: advice.into().into(),
            code: code.into(),
        }
    }

    pub(crate) fn bad_parameter(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", detail, advice)
    }

    pub(crate) fn not_found(
        code: &str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail, advice)
    }

    pub(crate) fn unavailable(
        code: &str,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, advice)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

pub(crate) async fn unknown_route(uri: Uri) -> Problem {
    Problem::not_found(
        "unknown_route",
        format!("There is nothing at {}.", uri.path()),
        "GET /api/v1/openapi.json lists what there is.",
    )
}

pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!("{method} is not possible on {}: it is read-only.", uri.path()),
        "Use GET or HEAD.",
    )
}
