//! `POST /api/v1/holds` and `/api/v1/resume`: servers that somebody works on.

use axum::{
    Json,
    body::Bytes,
    extract::rejection::BytesRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bucket::{AppName, Hold, NameError, ServerName};
use fleet::{
    hold::{self, Changed, MAX, may_hold},
    plan::is_new,
};
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bad, problem, read_body};
use crate::web::view::View;

/// Most servers of one request.
const MAX_SERVERS: usize = 500;

/// Servers to put on hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldIn {
    /// Servers.
    servers: Vec<String>,
    /// App that is on hold; absent for all apps.
    #[serde(default)]
    app: Option<String>,
    /// How long, in seconds: 2 hours, unless it is said, and at most 30 days.
    #[serde(default = "usual")]
    seconds: u64,
    /// Reason, for everybody who would push there.
    #[serde(default)]
    reason: String,
}

fn usual() -> u64 {
    hold::USUAL.as_secs().unsigned_abs()
}

/// Servers whose holds end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeIn {
    /// Servers.
    servers: Vec<String>,
    /// App whose holds end; absent for all holds.
    #[serde(default)]
    app: Option<String>,
}

/// A hold.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HoldOut {
    /// App that is on hold; absent for all apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// Who set it.
    by: String,
    /// The reason.
    reason: String,
    /// When it was set.
    at: String,
    /// When it ends.
    until: String,
}

/// The holds of one server that were set, or that have ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HeldOut {
    /// Server.
    server: String,
    /// Holds.
    holds: Vec<HoldOut>,
    /// What failed after the write; the holds count all the same.
    warnings: Vec<String>,
}

impl HeldOut {
    fn of(server: &ServerName, changed: &Changed) -> Self {
        let warnings = changed.untold.iter().map(ToString::to_string).collect();
        Self { server: server.to_string(), holds: changed.holds.iter().map(HoldOut::from).collect(), warnings }
    }
}

impl From<&Hold> for HoldOut {
    fn from(hold: &Hold) -> Self {
        Self {
            app: hold.app.as_ref().map(ToString::to_string),
            by: hold.by.clone(),
            reason: hold.why.clone(),
            at: hold.at.to_string(),
            until: hold.until.to_string(),
        }
    }
}

pub(super) async fn hold(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let HoldIn { servers, app, seconds, reason } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let lasts = i64::try_from(seconds).map_or(SignedDuration::MAX, SignedDuration::from_secs);
    if !lasts.is_positive() || lasts > MAX {
        return bad(&format!("`seconds` must be from 1 to {}", MAX.as_secs()));
    }
    let (servers, app) = match targets(&view, &servers, app.as_deref()) {
        Ok(found) => found,
        Err(problem) => return *problem,
    };
    let bucket = view.web.refresher.bucket();
    let mut rows = Vec::new();
    for server in servers {
        match hold::hold(bucket, &view.who, &server, app.as_ref(), (lasts, reason.trim())).await {
            Ok(changed) => rows.push(HeldOut::of(&server, &changed)),
            Err(error) => return problem(StatusCode::CONFLICT, "Not everything is on hold", &format!("{error:#}")),
        }
    }
    answer(&view, rows).await
}

pub(super) async fn resume(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let ResumeIn { servers, app } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let (servers, app) = match targets(&view, &servers, app.as_deref()) {
        Ok(found) => found,
        Err(problem) => return *problem,
    };
    let mut rows = Vec::new();
    for server in servers {
        match hold::resume(view.web.refresher.bucket(), &server, app.as_ref()).await {
            Ok(changed) => rows.push(HeldOut::of(&server, &changed)),
            Err(error) => return problem(StatusCode::CONFLICT, "Not every hold has ended", &format!("{error:#}")),
        }
    }
    answer(&view, rows).await
}

/// The servers and the app, if they are known and the operator may.
fn targets(
    view: &View,
    servers: &[String],
    app: Option<&str>,
) -> Result<(Vec<ServerName>, Option<AppName>), Box<Response>> {
    let wrong = |error: NameError| Box::new(bad(&error.to_string()));
    let app: Option<AppName> = app.map(str::parse).transpose().map_err(wrong)?;
    if !(1..=MAX_SERVERS).contains(&servers.len()) {
        return Err(Box::new(bad(&format!("`servers` must have 1 to {MAX_SERVERS} elements"))));
    }
    let servers: Vec<ServerName> = servers.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    for name in &servers {
        let server = view.server(name);
        if is_new(&server) {
            let text = format!("no server `{name}` has a document or a report");
            return Err(Box::new(problem(StatusCode::NOT_FOUND, "Server not found", &text)));
        }
        may_hold(&view.policy, &view.who, &server, app.as_ref())
            .map_err(|error| Box::new(problem(StatusCode::FORBIDDEN, "Not allowed", &error.to_string())))?;
    }
    Ok((servers, app))
}

async fn answer(view: &View, rows: Vec<HeldOut>) -> Response {
    view.web.refresher.refresh_guards().await;
    Json(rows).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};

    use crate::web::testing::{body, release_of, send, server, web};

    #[tokio::test]
    async fn a_hold_is_shown_binds_and_is_ended() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        let post = async |who: &str, path: &str, text: String| send(&web, who, Method::POST, path, text).await.status();
        let hold = r#"{"servers": ["web-1"], "app": "web", "reason": "debugging"}"#;
        assert_eq!(post("viewer", "/api/v1/holds", hold.to_owned()).await, StatusCode::FORBIDDEN);
        let forever = r#"{"servers": ["web-1"], "seconds": 99999999}"#;
        assert_eq!(post("deployer", "/api/v1/holds", forever.to_owned()).await, StatusCode::BAD_REQUEST);
        let nobody = r#"{"servers": ["web-9"]}"#;
        assert_eq!(post("deployer", "/api/v1/holds", nobody.to_owned()).await, StatusCode::NOT_FOUND);
        assert_eq!(post("deployer", "/api/v1/holds", hold.to_owned()).await, StatusCode::OK);
        let shown = body(&web, "viewer", "/api/v1/servers/web-1").await;
        assert!(shown.contains(r#""by":"deployer","reason":"debugging""#), "{shown}");
        let plan = format!("/api/v1/plans?release={}&server=web-1", new.stem());
        let planned = body(&web, "admin", &plan).await;
        assert!(planned.contains("`web` is on hold on `web-1` by `deployer`"), "{planned}");
        let push = async |who: &str, held: bool| {
            let (from, to) = (old.stem(), new.stem());
            let row = format!(r#"{{"server": "web-1", "from": "{from}", "to": "{to}"}}"#);
            post(who, "/api/v1/pushes", format!(r#"{{"kind": "deploy", "held": {held}, "rows": [{row}]}}"#)).await
        };
        assert_eq!(
            (push("admin", true).await, push("deployer", false).await),
            (StatusCode::CONFLICT, StatusCode::CONFLICT)
        );
        assert_eq!(push("deployer", true).await, StatusCode::OK);
        assert_eq!(post("admin", "/api/v1/resume", nobody.replace('9', "1")).await, StatusCode::OK);
        assert!(body(&web, "viewer", "/api/v1/servers/web-1").await.contains(r#""holds":[]"#));
    }
}
