//! Problems as answers: the document of `vedette_collector::clinfo` with its status and headers, and what
//! axum itself would refuse in words of its own.

use std::error::Error;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::{Kind, sentence};
use vedette_core::refusal::Refusal;

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(ProblemDoc);

impl Problem {
    /// A problem: one sentence of what and why, and one of what to do.
    pub fn new(kind: Kind, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self(ProblemDoc::new(kind, detail, advice))
    }

    /// A fault that is not the client's.
    pub fn internal(error: impl ToString) -> Self {
        Self::new(Kind::Internal, sentence(error.to_string()), "See the daemon's log.")
    }

    /// A parameter whose value is not accepted: `wrong` goes on after it.
    pub fn bad_value(name: &str, value: &str, wrong: &str, advice: impl Into<String>) -> Self {
        Self::bad_parameter(format!("{name}={value:?} {wrong}."), advice)
    }

    pub(crate) fn bad_parameter(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Kind::BadParameter, detail, advice)
    }

    /// The document.
    pub const fn document(&self) -> &ProblemDoc {
        &self.0
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl From<PathRejection> for Problem {
    fn from(error: PathRejection) -> Self {
        Self::bad_parameter(
            format!("The path cannot be read: {}.", error.body_text()),
            "Write it in UTF-8, percent-encoded.",
        )
    }
}

impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        let (kind, advice) = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => (Kind::TooLarge, "Send less at once."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (Kind::NotJson, "Send the header Content-Type: application/json.")
            }
            StatusCode::UNPROCESSABLE_ENTITY => (Kind::BadBody, ONE_VERSION),
            status if status.is_server_error() => (Kind::Internal, "See the daemon's log."),
            _ => (Kind::MalformedBody, ONE_VERSION),
        };
        Self::new(kind, format!("The body cannot be read: {}.", innermost(&error)), advice)
    }
}

/// The advice about a body that another version might have understood.
const ONE_VERSION: &str = "Use the program and the daemon of one version: vedette --version.";

/// The error at the bottom of a chain: what stands above it speaks of the code.
fn innermost<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(document) = self;
        let status =
            StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A body in JSON; any other is a problem.
#[derive(Clone, Copy, Debug)]
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(body) = axum::Json::<T>::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// The part of the path that names what is meant. One that cannot be decoded names nothing that exists.
#[derive(Clone, Debug)]
pub struct InPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(name))
    }
}

pub(crate) async fn unknown_route(uri: Uri) -> Problem {
    Problem::new(
        Kind::UnknownRoute,
        format!("There is nothing at {}.", uri.path()),
        "GET /api/v1/openapi.json lists what there is.",
    )
}

/// The problem of a path that does not know the method.
pub async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Kind::WrongMethod,
        format!("{method} is not possible on {}.", uri.path()),
        "The header Allow names the methods that are.",
    )
}
