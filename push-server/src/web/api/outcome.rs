//! How a push is answered: with a status by which `curl -f` and any other client knows whether all of it was written.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bucket::PushId;
use fleet::operation::{Intent, NotPushed};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    PREFIX, PROBLEM,
    types::{JobOut, Problem},
};
use crate::web::jobs::Job;

/// By which a client says that it doesn't wait (RFC 7240), and that it needn't have.
const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const NO_WAIT: &str = "respond-async";

/// A problem with what was written in spite of it, and why the rest wasn't.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NotAllWritten {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    push: JobOut,
}

/// The answer to whoever asked for a push, which has begun. It waits for the end unless the client doesn't.
pub(super) async fn answer(headers: &HeaderMap, job: &Job) -> Response {
    if !is_in_a_hurry(headers) {
        job.ended().await;
    }
    let place = [(header::LOCATION, format!("{PREFIX}v1/pushes/{}", job.id))];
    let push = JobOut::new(job);
    if !push.finished {
        return (StatusCode::ACCEPTED, place, [(APPLIED, HeaderValue::from_static(NO_WAIT))], Json(push))
            .into_response();
    }
    let Some((status, problem)) = problem(job) else {
        return (StatusCode::OK, place, Json(push)).into_response();
    };
    let kind = [(header::CONTENT_TYPE, PROBLEM)];
    (status, place, kind, Json(NotAllWritten { problem, push })).into_response()
}

/// The answer to whoever asked for a push in waves, which was recorded and is carried on from now on.
pub(super) fn begun(id: &PushId, intents: &[Intent]) -> Response {
    let place = [(header::LOCATION, format!("{PREFIX}v1/rollouts/{id}"))];
    (StatusCode::ACCEPTED, place, Json(JobOut::of_rollout(id, intents))).into_response()
}

fn is_in_a_hurry(headers: &HeaderMap) -> bool {
    let preferred = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    preferred.flat_map(|value| value.split(',')).any(|preference| preference.trim().eq_ignore_ascii_case(NO_WAIT))
}

/// What is wrong with a push that has ended, if not all of it was written.
fn problem(job: &Job) -> Option<(StatusCode, Problem)> {
    let progress = job.progress();
    let not_written: Vec<(usize, &NotPushed)> = progress
        .results
        .iter()
        .enumerate()
        .filter_map(|(place, result)| Some((place, result.as_ref()?.result.as_ref().err()?)))
        .collect();
    let (place, why) = not_written.first()?;
    let is_forbidden = not_written.iter().all(|(_, why)| matches!(why, NotPushed::Refused(_)));
    let status = if is_forbidden { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT };
    let (count, all) = (not_written.len(), job.intents.len());
    let title = if count == all { "Nothing was written" } else { "Not everything was written" };
    let server = &job.intents[*place].server;
    let detail = format!("{count} of {all} pushes were not written; that to `{server}`: {why}");
    Some((status, Problem { title: title.to_owned(), status: status.as_u16(), detail }))
}
