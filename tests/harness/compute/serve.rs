//! The REST interface of the fake.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State as Shared},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::state::{Fault, Instance, State, Verb, lock};

type Api = Shared<Arc<Mutex<State>>>;

/// Serves until aborted.
pub(super) async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let zone = "/compute/v1/projects/acme-prod/zones/{zone}";
    let router = Router::new()
        .route("/compute/v1/projects/acme-prod/aggregated/instances", get(list))
        .route(&format!("{zone}/instances/{{name}}"), get(instance))
        .route(&format!("{zone}/instances/{{name}}/setMetadata"), post(set_metadata))
        .route(&format!("{zone}/operations/{{name}}/wait"), post(wait))
        .with_state(state);
    // It ends only by being aborted.
    let _ = axum::serve(listener, router).await;
}

/// Counts a request, and gives the fault it suffers or the answer that is due without one.
fn begin(state: &mut State, verb: Verb, headers: &HeaderMap) -> Result<Option<Fault>, Box<Response>> {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let refused = authorization.is_some() && authorization == state.refused_token;
    state.asked.push(verb);
    state.authorizations.push(authorization);
    if refused {
        return Err(Box::new(error(401, "authError", "Invalid Credentials")));
    }
    let Some(index) = state.rules.iter().position(|(rule, ..)| *rule == verb) else { return Ok(None) };
    let (_, fault, left) = &mut state.rules[index];
    let fault = *fault;
    *left -= 1;
    if *left == 0 {
        state.rules.remove(index);
    }
    match fault {
        Fault::Status(status, reason, retry_after) => {
            let mut response = error(status, reason, "as asked by the test\u{1b}[2J");
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            Err(Box::new(response))
        }
        Fault::Html => Err(Box::new(Html("<!DOCTYPE html><title>Sign in</title>").into_response())),
        other => Ok(Some(other)),
    }
}

async fn list(Shared(state): Api, Query(query): Query<BTreeMap<String, String>>, headers: HeaderMap) -> Response {
    let mut state = lock(&state);
    if let Err(response) = begin(&mut state, Verb::List, &headers) {
        return *response;
    }
    // `(name = "a") OR (name = "b")`: the names are what stands between quotes.
    let filter = query.get("filter").map(String::as_str).unwrap_or_default();
    let wanted: BTreeSet<&str> = filter.split('"').skip(1).step_by(2).collect();
    let start: usize = query.get("pageToken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let reachable = |zone: &String| !state.unreachable.contains(zone);
    let fitting = state.instances.iter().filter(|((zone, name), _)| reachable(zone) && wanted.contains(name.as_str()));
    let mut rest = fitting.skip(start);
    let mut items = serde_json::Map::new();
    for zone in state.instances.keys().map(|(zone, _)| zone).chain(&state.unreachable) {
        let code = if reachable(zone) { "NO_RESULTS_ON_PAGE" } else { "UNREACHABLE" };
        items.insert(format!("zones/{zone}"), json!({ "warning": { "code": code, "message": "…" } }));
    }
    for ((zone, name), instance) in rest.by_ref().take(state.page_size) {
        let scope = &mut items[&format!("zones/{zone}")];
        let mut instances = scope["instances"].as_array().cloned().unwrap_or_default();
        instances.push(document(zone, name, instance));
        *scope = json!({ "instances": instances });
    }
    let next = rest.next().map(|_| (start + state.page_size).to_string());
    let unreachables: Vec<String> = state.unreachable.iter().map(|zone| format!("zones/{zone}")).collect();
    Json(json!({
        "kind": "compute#instanceAggregatedList",
        "items": items,
        "nextPageToken": next,
        "unreachables": unreachables,
    }))
    .into_response()
}

async fn instance(Shared(state): Api, Path((zone, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let mut state = lock(&state);
    if let Err(response) = begin(&mut state, Verb::Get, &headers) {
        return *response;
    }
    match state.instances.get(&(zone.clone(), name.clone())) {
        Some(instance) => Json(document(&zone, &name, instance)).into_response(),
        None => error(404, "notFound", &format!("The resource 'zones/{zone}/instances/{name}' was not found")),
    }
}

async fn set_metadata(
    Shared(state): Api,
    Path((zone, name)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut state = lock(&state);
    let fault = match begin(&mut state, Verb::Set, &headers) {
        Ok(fault) => fault,
        Err(response) => return *response,
    };
    let Some(instance) = state.instances.get_mut(&(zone, name)) else {
        return error(404, "notFound", "The instance was not found");
    };
    if fault == Some(Fault::OtherWriter) {
        instance.fingerprint += 1;
        instance.items.push((format!("other-{}", instance.fingerprint), "theirs".to_owned()));
    }
    if body["fingerprint"] != fingerprint(instance) {
        return error(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.");
    }
    let operation = match fault {
        Some(Fault::OperationFails(code)) => (1, Some(code)),
        Some(Fault::OperationTakes(waits)) => (waits, None),
        _ => (0, None),
    };
    if operation.1.is_none() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = body["items"].as_array().into_iter().flatten();
        instance.items = items.map(|item| (text(&item["key"]), text(&item["value"]))).collect();
        instance.fingerprint += 1;
        if let Some(metadata) = &instance.mirror {
            instance.items.iter().for_each(|(key, value)| metadata.set(key, value));
        }
        state.writes += 1;
    }
    let name = format!("operation-{}", state.asked.len());
    state.operations.insert(name.clone(), operation);
    if fault == Some(Fault::AnswerLost) {
        return error(503, "backendError", "The answer was lost");
    }
    progress(&mut state, &name)
}

async fn wait(Shared(state): Api, Path((_zone, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let mut state = lock(&state);
    match begin(&mut state, Verb::Wait, &headers) {
        Ok(_) => progress(&mut state, &name),
        Err(response) => *response,
    }
}

/// An operation as it is, and one step nearer to its end.
fn progress(state: &mut State, name: &str) -> Response {
    let Some((waits, failure)) = state.operations.get_mut(name) else {
        return error(404, "notFound", "The operation was not found");
    };
    let mut operation = json!({ "kind": "compute#operation", "name": name, "status": "RUNNING" });
    if *waits == 0 {
        operation["status"] = "DONE".into();
        if let Some(code) = failure {
            operation["error"] = json!({ "errors": [{ "code": code, "message": "as asked by the test" }] });
        }
    }
    *waits = waits.saturating_sub(1);
    Json(operation).into_response()
}

fn document(zone: &str, name: &str, instance: &Instance) -> Value {
    let items: Vec<Value> = instance.items.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({
        "kind": "compute#instance",
        "name": name,
        "status": "RUNNING",
        "zone": format!("https://www.googleapis.com/compute/v1/projects/acme-prod/zones/{zone}"),
        "metadata": { "kind": "compute#metadata", "fingerprint": fingerprint(instance), "items": items },
    })
}

fn fingerprint(instance: &Instance) -> String {
    format!("fp{}=", instance.fingerprint)
}

fn error(status: u16, reason: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": message, "errors": [{ "reason": reason }] } });
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
}
