//! `/readyz`, for whatever watches the process. It needs no authentication and discloses nothing else.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};

use super::shared::Web;

/// `GET /readyz`: there is a snapshot of the bucket to show, perhaps an old one.
pub(crate) async fn ready(State(web): State<Arc<Web>>) -> (StatusCode, &'static str) {
    match web.refresher.snapshot().taken {
        Some(_) => (StatusCode::OK, "ready\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the bucket has not been read yet\n"),
    }
}
