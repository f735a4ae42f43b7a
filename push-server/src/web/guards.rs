//! What operators decide for everybody: releases that nobody may push, and halts of all pushes. Pages and the API share it.
//!
//! Who may decide is judged by the servers as they were read last; what is decided is written at once.

use axum::http::StatusCode;
use bucket::{ReleaseName, ServerName};
use fleet::guard::{self, NotAllowed, may_halt, may_reject};
use thiserror::Error;

use super::view::View;

/// Why nothing was decided.
#[derive(Debug, Error)]
pub(crate) enum NotDecided {
    /// The policy forbids it.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// Which servers there are is not known.
    #[error("the bucket is unreadable at the moment: try again later")]
    Unreadable,
    /// It is decided already, or could not be written.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl NotDecided {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::CONFLICT,
        }
    }
}

/// Whether the operator may reject a release, and take that back.
pub(crate) fn may_reject_it(view: &View, release: &ReleaseName) -> Result<(), NotDecided> {
    if view.snapshot.failure.is_some() || view.snapshot.taken.is_none() {
        return Err(NotDecided::Unreadable);
    }
    let having = view.snapshot.servers_with(release.app()).map(|server| &server.name);
    Ok(may_reject(&view.policy, &view.who, release.app(), having)?)
}

/// Rejects a release, and gives the servers that have it all the same.
pub(crate) async fn reject(view: &View, release: &ReleaseName, reason: &str) -> Result<Vec<ServerName>, NotDecided> {
    may_reject_it(view, release)?;
    guard::reject(view.web.refresher.bucket(), &view.who, release, reason).await?;
    view.web.refresher.refresh_guards().await;
    Ok(having(view, release))
}

/// Takes back the rejection of a release.
pub(crate) async fn unreject(view: &View, release: &ReleaseName) -> Result<Vec<ServerName>, NotDecided> {
    may_reject_it(view, release)?;
    guard::unreject(view.web.refresher.bucket(), release).await?;
    view.web.refresher.refresh_guards().await;
    Ok(having(view, release))
}

/// The servers that should have a release, or do.
pub(crate) fn having(view: &View, release: &ReleaseName) -> Vec<ServerName> {
    let having = view.snapshot.servers_with(release.app()).filter(|server| server.has(release));
    having.map(|server| server.name.clone()).collect()
}

/// Halts all pushes.
pub(crate) async fn halt(view: &View, reason: &str) -> Result<(), NotDecided> {
    may_halt(&view.policy, &view.who)?;
    guard::begin_halt(view.web.refresher.bucket(), &view.who, reason).await?;
    view.web.refresher.refresh_guards().await;
    Ok(())
}

/// Lifts the halt, if there is one.
pub(crate) async fn lift(view: &View) -> Result<(), NotDecided> {
    may_halt(&view.policy, &view.who)?;
    guard::lift_halt(view.web.refresher.bucket()).await?;
    view.web.refresher.refresh_guards().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::web::testing::{body, release_of, send, server, web};

    #[tokio::test]
    async fn a_release_is_rejected_on_its_page_and_that_is_seen_wherever_it_is() {
        let (_directory, web) = web().await;
        let (old, bad) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&bad), "converged", "converged").await;
        server(&web, "web-2", Some(&old), "converged", "converged").await;
        web.refresher.refresh().await;
        let page = format!("/releases/{}", bad.stem());
        let post = async |who: &str, action: &str, form: &str| {
            send(&web, who, Method::POST, &format!("{page}/{action}"), form.to_owned()).await.status()
        };
        assert!(body(&web, "deployer", &page).await.contains(&format!("action=\"{page}/reject\"")));
        assert!(!body(&web, "viewer", &page).await.contains("<form"));
        assert_eq!(post("viewer", "reject", "reason=CVE").await, StatusCode::FORBIDDEN);
        assert_eq!(post("deployer", "reject", "reason=+").await, StatusCode::CONFLICT);
        assert_eq!(post("deployer", "unreject", "").await, StatusCode::CONFLICT);
        assert_eq!(post("deployer", "reject", "reason=CVE-1").await, StatusCode::SEE_OTHER);

        let shown = body(&web, "viewer", &page).await;
        assert!(shown.contains("Rejected by <bdi>deployer</bdi>") && shown.contains("CVE-1"), "{shown}");
        assert!(body(&web, "viewer", "/apps/web").await.contains("rejected, still on 1 server"));
        let plan = body(&web, "deployer", &format!("/plan?release={}&server=web-2", bad.stem())).await;
        assert!(plan.contains("not allowed") && plan.contains("is rejected"), "{plan}");
        assert!(!plan.contains("<form"), "{plan}");
        assert!(body(&web, "viewer", "/api/v1/apps/web/releases").await.contains(r#""rejected":true"#));

        assert_eq!(post("deployer", "unreject", "").await, StatusCode::SEE_OTHER);
        assert!(!body(&web, "viewer", &page).await.contains("Rejected by"));
        assert_eq!(post("deployer", "unreject", "").await, StatusCode::CONFLICT);
    }

    async fn call(web: &std::sync::Arc<crate::web::shared::Web>, who: &str, path: &str, sent: &str) -> (u16, Value) {
        let method = if sent.is_empty() && !path.ends_with("lift") { Method::GET } else { Method::POST };
        let answer = send(web, who, method, path, sent.to_owned()).await;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn programs_reject_releases_and_admins_alone_halt_pushes() {
        let (_directory, web) = web().await;
        let (old, bad) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&bad), "converged", "converged").await;
        web.refresher.refresh().await;
        let reject = format!("/api/v1/releases/{}/reject", bad.stem());
        assert_eq!(call(&web, "viewer", &reject, r#"{"reason": "CVE"}"#).await.0, 403);
        assert_eq!(call(&web, "deployer", &reject, r#"{"why": "CVE"}"#).await.0, 400);
        let (status, said) = call(&web, "deployer", &reject, r#"{"reason": "CVE"}"#).await;
        assert_eq!((status, said), (200, json!({ "release": bad.stem(), "rejected": true, "servers": ["web-1"] })));

        let halt = "/api/v1/halt";
        let (status, said) = call(&web, "deployer", halt, r#"{"reason": "migration"}"#).await;
        assert_eq!((status, said["title"].as_str()), (403, Some("Not allowed")));
        assert!(said["detail"].as_str().unwrap().contains("role `admin`"), "{said}");
        assert_eq!(call(&web, "viewer", halt, "").await, (200, json!({ "halted": false })));
        let (status, said) = call(&web, "admin", halt, r#"{"reason": "migration"}"#).await;
        assert_eq!((status, &said["by"], &said["reason"]), (200, &json!("admin"), &json!("migration")), "{said}");
        assert_eq!(call(&web, "admin", halt, r#"{"reason": "again"}"#).await.0, 409);
        let plan = body(&web, "deployer", &format!("/plan?release={}&server=web-1", old.stem())).await;
        assert!(plan.contains("halted all pushes") && !plan.contains("<form"), "{plan}");
        assert!(body(&web, "viewer", "/servers").await.contains("All pushes are halted."));
        assert_eq!(call(&web, "deployer", "/api/v1/halt/lift", "").await.0, 403);
        assert_eq!(call(&web, "admin", "/api/v1/halt/lift", "").await, (200, json!({ "halted": false })));
    }

    #[tokio::test]
    async fn an_admin_halts_on_a_page_and_lifts_that_there() {
        let (_directory, web) = web().await;
        web.refresher.refresh().await;
        assert!(!body(&web, "deployer", "/halt").await.contains("<form"));
        let post =
            async |path: &str, form: &str| send(&web, "admin", Method::POST, path, form.to_owned()).await.status();
        assert!(body(&web, "admin", "/halt").await.contains("action=\"/halt\""));
        assert_eq!(post("/halt", "reason=outage").await, StatusCode::SEE_OTHER);
        assert!(body(&web, "admin", "/halt").await.contains("action=\"/halt/lift\""));
        assert!(body(&web, "viewer", "/").await.contains("outage"));
        assert_eq!(post("/halt/lift", "").await, StatusCode::SEE_OTHER);
        assert!(!body(&web, "viewer", "/").await.contains("All pushes are halted."));
    }
}
