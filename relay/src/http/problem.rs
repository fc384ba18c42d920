//! Errors as RFC 9457 has them, with a stable code and the request's id.

use std::fmt::Display;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{error, info};
use utoipa::ToSchema;
use wire::id::RequestId;

use crate::{control::Error, store::StoreError};

/// Why a request was not done.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<String>,
    /// For the log alone.
    inside: Option<String>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// A URN that ends in the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable name of the cause.
    code: String,
    /// What happened and what to do about it, for a person.
    detail: String,
    /// Each of several mistakes, in the order of the files; missing where there is one alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    /// Find the request in the relay's log by it.
    request_id: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            inside: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn timeout() -> Self {
        let detail = "the request was not done in time: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body has more than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    pub(super) fn too_many_failures() -> Self {
        let detail = "too many requests without a valid API token: try again in a moment";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", detail)
            .with_header(header::RETRY_AFTER, "1")
    }

    /// Somebody has asked more often than the probe answers.
    pub(super) fn limited() -> Self {
        let detail = "too much was asked of this relay's probe: try again in a minute";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
            .with_header(header::RETRY_AFTER, "60")
    }

    /// What was shown entitles to nothing.
    pub(super) fn unauthorized(code: &'static str, detail: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .with_header(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn internal(cause: &dyn Display) -> Self {
        let detail = "the relay failed: its log says more";
        let mut problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail);
        problem.inside = Some(cause.to_string());
        problem
    }

    fn with_header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Writes the answer, and the inside cause to the log, once.
    pub(super) fn into_answer(self, request_id: RequestId) -> Response {
        let code = self.code;
        match &self.inside {
            Some(cause) => error!(code, cause, "request failed"),
            None => info!(code, status = self.status.as_u16(), "request refused"),
        }
        let body = ProblemBody {
            kind: format!("urn:sternline:problem:{code}"),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            code: code.to_owned(),
            detail: self.detail,
            errors: self.errors,
            request_id: request_id.to_string(),
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.extend(self.headers);
        response
    }
}

/// Carries the problem to the frame around all handlers, which knows the request.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Unauthenticated => StatusCode::UNAUTHORIZED,
            Error::EnvironmentUnknown { .. }
            | Error::ExposureUnknown { .. }
            | Error::StackUnknown { .. }
            | Error::ReleaseUnknown { .. }
            | Error::VariableUnknown { .. }
            | Error::RegistryLoginUnknown { .. } => StatusCode::NOT_FOUND,
            Error::AgentNotEnrolled { .. }
            | Error::EnvironmentExists { .. }
            | Error::LimitReached { .. }
            | Error::ListenFailed { .. }
            | Error::ReleaseUnreadable { .. }
            | Error::NothingToGoBackTo { .. }
            | Error::KeyReused
            | Error::EnvironmentOffline { .. }
            | Error::AgentRefused { .. } => StatusCode::CONFLICT,
            Error::Unrenderable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Unsealed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Invalid { .. } => StatusCode::BAD_REQUEST,
            Error::Store(StoreError::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Store(StoreError::Full { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            Error::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Self::new(status, error.code(), error.to_string());
        problem.errors = error.details().to_vec();
        match error {
            Error::Store(cause) => problem.inside = Some(cause.to_string()),
            Error::Unauthenticated => {
                return problem.with_header(header::WWW_AUTHENTICATE, "Bearer");
            }
            _ => {}
        }
        problem
    }
}
