//! What a process that listens answers to whatever watches it.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

/// `GET /healthz`: the process answers. It needs no authentication and discloses nothing else.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// The answer to `GET /metrics`, in `OpenMetrics` text.
pub(crate) fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "could not write the metrics\n").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
