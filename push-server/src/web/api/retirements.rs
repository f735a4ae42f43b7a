//! `POST /api/v1/retirements`: servers that are no more, or no longer ours.

use axum::{
    Json,
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bucket::{HistoryEntry, NameError, ServerName};
use fleet::{
    operation::{NotPushed, Operator},
    poke::PokeSettings,
    retire::{Retired, retire},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PROBLEM, bad, problem, read_body, types::Problem};
use crate::web::{jobs::MAX_SERVERS, view::View};

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
    /// `retired` or `refused`.
    result: &'static str,
    /// Why it was not retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What to know, as that its agent still reports.
    warnings: Vec<String>,
}

/// A problem with what was retired in spite of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NotAllRetired {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    retired: RetireOut,
}

pub(super) async fn post(view: View, body: Result<Bytes, BytesRejection>) -> Response {
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
    if reason.len() > HistoryEntry::MAX_WHY {
        return bad(&format!("the reason must have at most {} bytes", HistoryEntry::MAX_WHY));
    }
    let operator = Operator {
        who: view.who.clone(),
        reason: reason.trim().to_owned(),
        policy: view.policy.clone(),
        poke: PokeSettings::None,
        held,
    };
    let rows = retire(view.web.refresher.bucket(), &operator, names.clone()).await;
    view.web.refresher.refresh_servers(&names).await;
    let not_written: Vec<&NotPushed> = rows.iter().filter_map(|row| row.result.as_ref().err()).collect();
    let Some(why) = not_written.first() else { return Json(RetireOut::from(&rows)).into_response() };
    let is_forbidden = not_written.iter().all(|why| matches!(why, NotPushed::Refused(_)));
    let status = if is_forbidden { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT };
    let (count, all) = (not_written.len(), rows.len());
    let title = if count == all { "Nothing was written" } else { "Not everything was written" };
    let detail = format!("{count} of {all} servers were not retired: {why}");
    let problem = Problem { title: title.to_owned(), status: status.as_u16(), detail };
    let answer = NotAllRetired { problem, retired: RetireOut::from(&rows) };
    (status, [(header::CONTENT_TYPE, PROBLEM)], Json(answer)).into_response()
}

impl From<&Vec<Retired>> for RetireOut {
    fn from(rows: &Vec<Retired>) -> Self {
        let push = rows.iter().find_map(|row| row.push.as_ref()).map(ToString::to_string);
        let rows = rows.iter().map(|row| RetiredOut {
            server: row.server.to_string(),
            result: if row.result.is_ok() { "retired" } else { "refused" },
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
