//! `POST /api/v1/retirements`: servers that are no more, or no longer ours; and the undo of that.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{Method, header},
    response::{IntoResponse, Response},
    routing,
};
use bucket::{NameError, ServerName};
use fleet::{policy::Role, retire::Retired};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    PROBLEM, bad, problem, read_body,
    redo::{not_done, optional},
    types::Problem,
};
use crate::web::{
    jobs::MAX_SERVERS,
    redo, retirements,
    route::{Doc, Route},
    view::View,
};

/// Servers to retire.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetireIn {
    /// Servers.
    servers: Vec<String>,
    /// Reason, for the history.
    #[serde(default)]
    reason: String,
    /// Whether servers may be retired that the operator has put on hold.
    #[serde(default)]
    held: bool,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RetireOut {
    /// The push that it is in the history; absent if nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    push: Option<String>,
    /// Each server.
    rows: Vec<RetiredOut>,
}

/// What became of one server.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RetiredOut {
    /// Server.
    server: String,
    /// `retired`, `restored` by an undo, or `refused`.
    result: &'static str,
    /// Why it was left as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What to know, as that its agent still reports.
    warnings: Vec<String>,
}

/// A problem with what was done in spite of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NotAllRetired {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    retired: RetireOut,
}

/// The undo of a retirement.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RestoreIn {
    /// Servers; without any, all that the push retired.
    servers: Vec<String>,
    /// Reason, for the history.
    reason: String,
}

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route {
            method: Method::POST,
            path: "/api/v1/retirements",
            least: Role::Admin,
            handler: routing::post(post),
            doc: Some(
                Doc::new::<RetireOut>(
                    "retire",
                    "Retire servers: each document is kept and deleted, and the report too; nothing on the server changes",
                    &[],
                )
                .takes::<RetireIn>()
                .or::<NotAllRetired>(403, "The policy forbids what was not retired", PROBLEM)
                .or::<NotAllRetired>(409, "Not all were retired; each result says why", PROBLEM),
            ),
        },
        Route {
            method: Method::POST,
            path: "/api/v1/retirements/{id}/undo",
            least: Role::Admin,
            handler: routing::post(undo),
            doc: Some(
                Doc::new::<RetireOut>(
                    "undoRetirement",
                    "Restore the documents of servers that a push of kind `retire` retired, as they were",
                    &[],
                )
                .takes::<RestoreIn>()
                .or::<NotAllRetired>(403, "The policy forbids what was not restored", PROBLEM)
                .or::<NotAllRetired>(409, "Not all were restored; each result says why", PROBLEM),
            ),
        },
    ]
}

async fn post(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let RetireIn { servers, reason, held } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let names: Result<Vec<ServerName>, NameError> = servers.iter().map(|name| name.parse()).collect();
    let mut names = match names {
        Ok(names) if (1..=MAX_SERVERS).contains(&names.len()) => names,
        Ok(_) => return bad(&format!("`servers` must have 1 to {MAX_SERVERS} elements")),
        Err(wrong) => return bad(&wrong.to_string()),
    };
    names.sort();
    names.dedup();
    match retirements::retire(&view, names, &reason, held).await {
        Ok(rows) => answer(&rows, "retired"),
        Err(error) => bad(&error.to_string()),
    }
}

async fn undo(view: View, Path(id): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let RestoreIn { servers, reason } = match optional(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let names: Vec<ServerName> = match servers.iter().map(|name| name.parse()).collect::<Result<_, NameError>>() {
        Ok(names) => names,
        Err(wrong) => return bad(&wrong.to_string()),
    };
    let restored = match redo::find(&view, &id).await {
        Ok((_, account)) => retirements::restore(&view, &account, &names, &reason).await,
        Err(error) => Err(error),
    };
    match restored {
        Ok(rows) => answer(&rows, "restored"),
        Err(error) => not_done(&error),
    }
}

/// What was done with servers, and what could not be.
fn answer(rows: &[Retired], done: &'static str) -> Response {
    let out = RetireOut::new(rows, done);
    let Some((status, detail)) = retirements::failure(rows, done) else { return Json(out).into_response() };
    let title =
        if rows.iter().all(|row| row.result.is_err()) { "Nothing was written" } else { "Not everything was written" };
    let problem = Problem { title: title.to_owned(), status: status.as_u16(), detail };
    let answer = NotAllRetired { problem, retired: out };
    (status, [(header::CONTENT_TYPE, PROBLEM)], Json(answer)).into_response()
}

impl RetireOut {
    fn new(rows: &[Retired], done: &'static str) -> Self {
        let push = rows.iter().find_map(|row| row.push.as_ref()).map(ToString::to_string);
        let rows = rows.iter().map(|row| RetiredOut {
            server: row.server.to_string(),
            result: if row.result.is_ok() { done } else { "refused" },
            error: row.result.as_ref().err().map(ToString::to_string),
            warnings: row.incomplete.iter().map(ToString::to_string).collect(),
        });
        Self { push, rows: rows.collect() }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use bucket::Generation;

    use crate::web::testing::{body, release, send, server, web};

    #[tokio::test]
    async fn an_admin_retires_a_server_whose_agent_is_then_shown_as_retired() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        server(&web, "web-1", Some(&release), "converged", "converged").await;
        let name = "web-1".parse().unwrap();
        let bucket = web.refresher.bucket();
        let retire = async |who: &str, servers: &str| {
            let text = format!(r#"{{"servers": [{servers}], "reason": "old"}}"#);
            send(&web, who, Method::POST, "/api/v1/retirements", text).await.status()
        };
        assert_eq!(retire("deployer", r#""web-1""#).await, StatusCode::FORBIDDEN);
        assert_eq!(retire("admin", "").await, StatusCode::BAD_REQUEST);
        assert!(bucket.server_document(&name).await.unwrap().is_some());
        let status = bucket.status(&name).await.unwrap().unwrap().1;
        assert_eq!(retire("admin", r#""web-1""#).await, StatusCode::OK);
        assert_eq!((bucket.server_document(&name).await.unwrap(), bucket.status(&name).await.unwrap()), (None, None));
        assert_eq!(retire("admin", r#""web-9""#).await, StatusCode::CONFLICT);
        // Its agent runs all the same.
        bucket.write_status(&status, None::<Generation>).await.unwrap();
        web.refresher.refresh().await;
        let shown = body(&web, "viewer", "/api/v1/servers?q=state:retired").await;
        assert!(shown.contains(r#""name":"web-1","state":"retired""#), "{shown}");
        let history = body(&web, "viewer", "/api/v1/history?server=web-1").await;
        assert!(history.contains(r#""app":null"#) && history.contains(r#""kind":"retire""#), "{history}");
        for page in ["/", "/history", "/servers", "/servers/web-1"] {
            body(&web, "viewer", page).await;
        }
    }
}
