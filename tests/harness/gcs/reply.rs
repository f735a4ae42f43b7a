//! Answers in the form in which Google's storage gives them.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use super::store::Refusal;

/// A refusal in the JSON API's form.
pub(super) fn refuse(status: u16, message: &str) -> Response {
    let reason = match status {
        401 => "authError",
        403 => "forbidden",
        404 => "notFound",
        412 => "conditionNotMet",
        429 => "rateLimitExceeded",
        503 => "backendError",
        _ => "invalid",
    };
    let errors = json!([{ "message": message, "domain": "global", "reason": reason }]);
    let mut answer = json_answer(&json!({ "error": { "code": status, "message": message, "errors": errors } }));
    *answer.status_mut() = code(status);
    answer
}

/// A page of text or HTML.
pub(super) fn plain(status: u16, message: &str) -> Response {
    let body = if status == 304 { Body::empty() } else { Body::from(message.to_owned()) };
    let mut answer = Response::new(body);
    *answer.status_mut() = code(status);
    answer
}

/// 200 with a document.
pub(super) fn json_answer(value: &Value) -> Response {
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json; charset=UTF-8");
    answer.body(Body::from(value.to_string())).expect("JSON makes a response")
}

/// An answer without a body.
pub(super) fn empty(status: u16) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = code(status);
    answer
}

/// A status by its number.
pub(super) fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a fault's status is a status")
}

/// A header, if it is there and is text.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// What an upload's handler gives.
pub(super) type Answer = Result<Response, Refusal>;
