//! Why a request isn't let in, and how it is answered.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// Why a request isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It doesn't say who makes it, or not so that it can be trusted.
    Nobody(&'static str),
    /// It isn't meant for us, or not meant by who makes it.
    Forbidden(&'static str),
    /// Its body is of a type that is never read here.
    Type(&'static str),
    /// It can't be checked now.
    Unavailable(&'static str),
}

impl Refusal {
    pub(super) fn answer(self, path: &str) -> Response {
        let (status, text) = match self {
            Self::Nobody(text) => (StatusCode::UNAUTHORIZED, text),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, text),
            Self::Type(text) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, text),
            Self::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        };
        if !path.starts_with("/api/") {
            return (status, format!("{text}\n")).into_response();
        }
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": text});
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
    }
}
