//! What is done about a push as a whole, from its page or by a program: undone, tried again where it failed, continued,
//! stopped. The core decides ([`fleet::proposed`], [`fleet::redo`]), from what the bucket says now.

use std::sync::Arc;

use axum::http::StatusCode;
use bucket::{PushId, PushKind, ServerName};
use fleet::{
    account::Account,
    proposed::{self, Proposed},
    redo,
};
use thiserror::Error;

use super::{
    accept::{NotAccepted, accept_rest},
    jobs::Job,
    shown::Shown,
    view::View,
};

/// What can be asked for that is another push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To restore what ran before it.
    Undo,
    /// To try it again where it failed.
    Retry,
}

impl Asked {
    /// What the other push is for.
    pub(crate) fn kind(self) -> PushKind {
        match self {
            Self::Undo => PushKind::Undo,
            Self::Retry => PushKind::Retry,
        }
    }
}

/// Why nothing is done about a push.
#[derive(Debug, Error)]
pub(crate) enum NotDone {
    /// There is none of that ID.
    #[error("no push has the ID `{0}`")]
    NotFound(String),
    /// It, or what decides what can be done about it, can't be read.
    #[error("{0}")]
    Unreadable(String),
    /// It can't be done.
    #[error("{0}")]
    Impossible(String),
    /// It wasn't begun.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
}

impl NotDone {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unreadable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Impossible(_) => StatusCode::CONFLICT,
            Self::NotAccepted(error) => error.status(),
        }
    }
}

/// A push by the ID in an address, as the bucket has it now.
pub(crate) async fn find(view: &View, id: &str) -> Result<(Shown, Account), NotDone> {
    let not_found = || NotDone::NotFound(id.to_owned());
    let unreadable = |error: String| NotDone::Unreadable(error);
    let parsed: PushId = id.parse().map_err(|_| not_found())?;
    let shown = Shown::find(view, &parsed).await.map_err(|error| unreadable(error.to_string()))?;
    let shown = shown.ok_or_else(not_found)?;
    let account = shown.account(view).await.map_err(|error| unreadable(format!("{error:#}")))?;
    Ok((shown, account))
}

/// What would be done about a push, on some of its servers or on all that it is about.
pub(crate) async fn propose(
    view: &View,
    account: &Account,
    asked: Asked,
    servers: &[ServerName],
) -> Result<Vec<Proposed>, NotDone> {
    let bucket = view.web.refresher.bucket();
    let proposed = match asked {
        Asked::Undo => proposed::undo(bucket, account, servers).await,
        Asked::Retry => proposed::retry(bucket, account).await,
    };
    let mut proposed = proposed.map_err(|error| NotDone::Impossible(format!("{error:#}")))?;
    proposed.retain(|proposed| servers.is_empty() || servers.contains(&proposed.server));
    Ok(proposed)
}

/// Writes what is left of a push that was cut off.
pub(crate) async fn carry_on(view: &View, id: &str, reason: &str) -> Result<Arc<Job>, NotDone> {
    let (_, account) = find(view, id).await?;
    Ok(accept_rest(view, reason, account).await?)
}

/// Ends a push; gives its ID and how many servers are left as they were.
pub(crate) async fn stop(view: &View, id: &str) -> Result<(PushId, usize), NotDone> {
    let (_, account) = find(view, id).await?;
    let stopped = redo::stop(view.web.refresher.bucket(), &account, &view.policy, &view.who).await;
    let left = stopped.map_err(|error| NotDone::Impossible(format!("{error:#}")))?;
    view.web.refresher.refresh_pushes().await;
    Ok((account.push.id, left))
}

#[cfg(test)]
mod tests {
    use axum::{
        http::{Method, header},
        response::Response,
    };
    use bucket::{HistoryEntry, Push, PushRow, ReleaseName, Timestamp};
    use fleet::guard;
    use serde_json::{Value, json};

    use crate::web::{
        shared::Web,
        testing::{body, release_of, send, server, web},
    };

    use super::*;

    async fn said(answer: Response) -> (StatusCode, Value) {
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(web: &Arc<Web>, path: &str, body: Value) -> (StatusCode, Value) {
        said(send(web, "deployer", Method::POST, path, body.to_string()).await).await
    }

    /// Pushes a release of `web` over another, and gives the ID.
    async fn push(web: &Arc<Web>, servers: &[&str], from: &ReleaseName, to: &ReleaseName) -> String {
        let change = |server: &&str| json!({ "server": server, "from": from.stem(), "to": to.stem() });
        let changes: Vec<Value> = servers.iter().map(change).collect();
        let (status, pushed) = post(web, "/api/v1/pushes", json!({ "kind": "deploy", "changes": changes })).await;
        assert_eq!(status, StatusCode::OK, "{pushed}");
        pushed["id"].as_str().unwrap().to_owned()
    }

    async fn desired(web: &Arc<Web>, server: &str) -> Option<ReleaseName> {
        let document = web.refresher.bucket().server_document(&server.parse().unwrap()).await.unwrap();
        document.and_then(|(_, document)| document.release_of(&"web".parse().unwrap()).cloned())
    }

    async fn last(web: &Arc<Web>, server: &str) -> HistoryEntry {
        web.refresher.bucket().newest_history(&server.parse().unwrap(), 1).await.unwrap().remove(0)
    }

    /// Three servers that have release 1.
    async fn three(web: &Arc<Web>) -> [ReleaseName; 3] {
        let releases = [release_of(web, 1).await, release_of(web, 2).await, release_of(web, 3).await];
        for name in ["web-1", "web-2", "web-3"] {
            server(web, name, Some(&releases[0]), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        releases
    }

    fn form(pairs: &[(&str, &str)]) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    #[tokio::test]
    async fn a_push_is_undone_on_all_and_what_was_seen_is_what_is_written() {
        let (_directory, web) = web().await;
        let [one, two, three] = three(&web).await;
        let id = push(&web, &["web-1", "web-2", "web-3"], &one, &two).await;
        assert!(body(&web, "deployer", &format!("/pushes/{id}")).await.contains("Undo on all"));
        assert!(!body(&web, "viewer", &format!("/pushes/{id}")).await.contains("Undo on all"));
        let place = format!("/pushes/{id}/undo");
        let page = body(&web, "deployer", &place).await;
        assert!(page.contains("Undo push of web on 3 servers"), "{page}");
        let target = |server: &str, to: &ReleaseName| format!("{server} {} {}", two.stem(), to.stem());
        let rows = ["web-1", "web-2", "web-3"].map(|server| target(server, &one));
        assert!(rows.iter().all(|row| page.contains(row)), "{page}");
        // Nobody chooses another release by this way, which halts and rejections leave open.
        let forged = form(&[("target", &target("web-1", &three))]);
        let answer = send(&web, "deployer", Method::POST, &place, forged).await;
        assert_eq!((answer.status(), desired(&web, "web-1").await), (StatusCode::CONFLICT, Some(two.clone())));
        let admin = fleet::identity::Identity { name: "admin".to_owned(), origin: fleet::identity::Origin::SignedIn };
        guard::begin_halt(web.refresher.bucket(), &admin, "the night").await.unwrap();
        let answer =
            send(&web, "deployer", Method::POST, &place, form(&[("target", &rows[0]), ("reason", "slow")])).await;
        let next = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!((answer.status(), desired(&web, "web-1").await), (StatusCode::SEE_OTHER, Some(one.clone())));
        let entry = last(&web, "web-1").await;
        assert_eq!((entry.kind, entry.why.as_str(), entry.from), (PushKind::Undo, "slow", Some(two.clone())));
        assert!(body(&web, "viewer", &next).await.contains(&format!("of push <a href=\"/pushes/{id}\"")));
        // What is done is not done again: the others are named, or nothing is.
        let path = format!("/api/v1/pushes/{id}/undo");
        let (status, said) = post(&web, &path, json!({})).await;
        assert_eq!((status, desired(&web, "web-2").await), (StatusCode::CONFLICT, Some(two.clone())), "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.starts_with("impossible on 1 of 3 servers, as on `web-1`: somebody has pushed"), "{detail}");
        let (status, said) = post(&web, &path, json!({ "servers": ["web-2", "web-3"] })).await;
        assert_eq!((status, desired(&web, "web-3").await), (StatusCode::OK, Some(one.clone())), "{said}");
        assert_eq!(post(&web, "/api/v1/pushes/abc123/undo", json!({})).await.0, StatusCode::NOT_FOUND);
        let (status, said) = post(&web, &format!("/api/v1/pushes/{id}/continue"), json!({})).await;
        assert_eq!(status, StatusCode::CONFLICT, "{said}");
    }

    #[tokio::test]
    async fn a_push_is_tried_again_only_where_it_failed() {
        let (_directory, web) = web().await;
        let [one, two, _] = three(&web).await;
        let id = push(&web, &["web-1", "web-2"], &one, &two).await;
        let path = format!("/api/v1/pushes/{id}/retry");
        assert_eq!(post(&web, &path, json!({})).await.0, StatusCode::CONFLICT);
        let bucket = web.refresher.bucket();
        let (generation, _) = bucket.server_document(&"web-2".parse().unwrap()).await.unwrap().unwrap();
        let (seen, status) = bucket.status(&"web-2".parse().unwrap()).await.unwrap().unwrap();
        let mut report = serde_json::to_value(&status).unwrap();
        report["document"]["generation"] = generation.0.into();
        report["apps"][0]["state"] = "quarantined".into();
        report["apps"][0]["desired"] = json!(two);
        bucket.write_status(&serde_json::from_value(report).unwrap(), Some(seen)).await.unwrap();
        web.refresher.refresh().await;
        let page = body(&web, "deployer", &format!("/pushes/{id}")).await;
        assert!(page.contains("Retry on the failed") && page.contains("1 rolled back"), "{page}");
        let target = format!("web-2 {0} {0}", two.stem());
        let plan = body(&web, "deployer", &format!("/pushes/{id}/retry")).await;
        assert!(plan.contains(&target) && !plan.contains("value=\"web-1 "), "{plan}");
        let (status, said) = post(&web, &path, json!({ "reason": "the disk was full" })).await;
        assert_eq!((status, said["outcomes"].as_array().unwrap().len()), (StatusCode::OK, 1), "{said}");
        let entry = last(&web, "web-2").await;
        assert_eq!((entry.kind, entry.to, entry.why.as_str()), (PushKind::Retry, Some(two), "the disk was full"));
    }

    #[tokio::test]
    async fn a_push_that_was_cut_off_is_continued_or_stopped() {
        let (_directory, web) = web().await;
        let [one, two, _] = three(&web).await;
        let cut_off = async |servers: &[&str]| {
            let row = |server: &&str| PushRow {
                server: server.parse().unwrap(),
                from: Some(one.clone()),
                to: Some(two.clone()),
            };
            let push = Push {
                id: PushId::random(),
                time: Timestamp::now() - jiff::SignedDuration::from_mins(9),
                app: "web".parse().ok(),
                kind: PushKind::Deploy,
                of: None,
                rollout: false,
                who: "dev@build-1".to_owned(),
                why: "before the night".to_owned(),
                rows: servers.iter().map(row).collect(),
                without_waves: false,
                channel: None,
            };
            web.refresher.bucket().create_push(&push).await.unwrap();
            push.id.to_string()
        };
        let (first, second) = (cut_off(&["web-1", "web-2"]).await, cut_off(&["web-3"]).await);
        web.refresher.refresh().await;
        for path in ["/", "/history"] {
            assert_eq!(body(&web, "viewer", path).await.matches("cut off").count(), 2, "{path}");
        }
        let page = body(&web, "deployer", &format!("/pushes/{first}")).await;
        assert!(page.contains("/continue\"") && page.contains("2 servers not written yet"), "{page}");
        let answer = send(&web, "deployer", Method::POST, &format!("/pushes/{first}/continue"), String::new()).await;
        assert_eq!(answer.headers()[header::LOCATION], format!("/pushes/{first}"), "{:?}", answer.status());
        let entry = last(&web, "web-2").await;
        assert_eq!((desired(&web, "web-1").await, entry.push), (Some(two), first.parse().ok()));
        assert_eq!((entry.who.as_str(), entry.why.as_str()), ("deployer", "before the night"));
        let page = body(&web, "deployer", &format!("/pushes/{first}")).await;
        assert!(page.contains("2 pushed") && !page.contains("/continue\""), "{page}");
        let answer = send(&web, "viewer", Method::POST, &format!("/pushes/{second}/stop"), String::new()).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        let (status, said) = post(&web, &format!("/api/v1/pushes/{second}/stop"), json!({})).await;
        assert_eq!((status, &said["unwritten"]), (StatusCode::OK, &1.into()), "{said}");
        let page = body(&web, "deployer", &format!("/pushes/{second}")).await;
        assert!(page.contains("not written: the push was stopped"), "{page}");
        assert_eq!(post(&web, &format!("/api/v1/pushes/{second}/stop"), json!({})).await.0, StatusCode::CONFLICT);
        assert_eq!(desired(&web, "web-3").await, Some(one));
    }
}
