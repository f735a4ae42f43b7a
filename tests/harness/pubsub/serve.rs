//! The REST interface of the fake.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State as Extract},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    FakePubSub,
    state::{Call, Fault, Shared, Verb, lock},
};

/// How long a pull waits for a message; Google's waits 90 seconds.
const WAIT: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, state: Shared) {
    let app = Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(state);
    axum::serve(listener, app).await.expect("serving ends only with the runtime");
}

async fn answer(Extract(state): Extract<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let Some((name, verb)) = path.strip_prefix("/v1/").and_then(|path| path.rsplit_once(':')) else {
        return error(404, "Not Found");
    };
    let (verb, there) = match verb {
        "publish" => (Verb::Publish, FakePubSub::TOPIC),
        "pull" => (Verb::Pull, FakePubSub::SUBSCRIPTION),
        "acknowledge" => (Verb::Acknowledge, FakePubSub::SUBSCRIPTION),
        "modifyAckDeadline" => (Verb::Modify, FakePubSub::SUBSCRIPTION),
        _ => return error(404, "Not Found"),
    };
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return error(400, "Invalid JSON payload received.") };
    let fault = {
        let mut state = lock(&state);
        state.calls.push(Call { verb, body: body.clone(), at: Instant::now(), authorization });
        state.take_fault(verb)
    };
    match fault {
        Some(Fault::Status(status)) => return error(status, "as asked by the test\u{1b}[2J"),
        Some(Fault::Html(status)) => {
            let page = Html("<!DOCTYPE html><title>Sign in</title>");
            return (StatusCode::from_u16(status).expect("a status"), page).into_response();
        }
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Twice) | None => {}
    }
    if name != there {
        let id = name.rsplit('/').next().unwrap_or_default();
        return error(404, &format!("Resource not found (resource={id})."));
    }
    let ack_ids: Vec<String> = serde_json::from_value(body["ackIds"].clone()).unwrap_or_default();
    match verb {
        Verb::Publish => publish(&state, &body),
        Verb::Pull => pull(&state, &body, if fault == Some(Fault::Twice) { 2 } else { 1 }).await,
        Verb::Acknowledge | Verb::Modify if ack_ids.is_empty() => error(400, "You have passed no ack ids."),
        Verb::Acknowledge | Verb::Modify if !lock(&state).has(&ack_ids) => {
            error(400, "Some acknowledgement IDs in the request were out of date.")
        }
        Verb::Acknowledge => {
            lock(&state).acknowledge(&ack_ids);
            Json(json!({})).into_response()
        }
        Verb::Modify => match body["ackDeadlineSeconds"].as_u64() {
            Some(seconds @ 0..=600) => {
                lock(&state).modify(&ack_ids, Duration::from_secs(seconds));
                Json(json!({})).into_response()
            }
            _ => error(400, "The value for ack_deadline_seconds is out of range."),
        },
    }
}

fn publish(state: &Shared, body: &Value) -> Response {
    let Some(messages) = body["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        return error(400, "The value for message_count is too small.");
    };
    let mut state = lock(state);
    for message in messages {
        let attributes: BTreeMap<_, _> = serde_json::from_value(message["attributes"].clone()).unwrap_or_default();
        state.publish(message["data"].as_str().unwrap_or_default().to_owned(), attributes);
    }
    Json(json!({ "messageIds": (0..messages.len()).map(|id| id.to_string()).collect::<Vec<_>>() })).into_response()
}

async fn pull(state: &Shared, body: &Value, times: usize) -> Response {
    let most = body["maxMessages"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(0);
    if most == 0 {
        return error(400, "You have passed an invalid maxMessages.");
    }
    let begun = Instant::now();
    loop {
        let delivered = lock(state).deliver(most, times);
        if !delivered.is_empty() {
            return Json(json!({ "receivedMessages": delivered })).into_response();
        }
        if begun.elapsed() > WAIT {
            return Json(json!({})).into_response();
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn error(status: u16, message: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": message } });
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
}
