//! Two servers, or two sets of servers, side by side: for the page and for the API.

use std::sync::Arc;

use bucket::{ReleaseName, ServerName};
use fleet::{
    compare::{Compared, compare},
    filter::Filter,
    server::Server,
};

use super::view::View;

/// The servers that a text means: the one of that name, or all that it matches as a filter.
///
/// # Errors
/// Why there are none, as a sentence without a full stop.
pub(crate) fn side(view: &View, text: &str) -> Result<Vec<Arc<Server>>, String> {
    let named = text.parse::<ServerName>().ok();
    if let Some(server) = named.and_then(|name| view.snapshot.servers.get(&name)) {
        return Ok(vec![server.clone()]);
    }
    let filter = Filter::parse(text).map_err(|error| error.to_string())?;
    let servers = view.snapshot.servers.values();
    let found: Vec<Arc<Server>> =
        servers.clone().filter(|server| filter.matches(server, &view.policy, view.now)).cloned().collect();
    if found.is_empty() {
        let hint = filter.unmatched(&servers.map(|server| &**server), &view.policy);
        return Err(hint.unwrap_or_else(|| format!("no server matches `{text}`")));
    }
    Ok(found)
}

/// What both should run, app by app.
pub(crate) fn compared(view: &View, left: &[Arc<Server>], right: &[Arc<Server>]) -> Vec<Compared> {
    let newer = |release: &ReleaseName| {
        view.snapshot.apps.get(release.app()).map_or(0, |releases| releases.newer_than(release))
    };
    compare(left.iter().map(|server| &**server), right.iter().map(|server| &**server), newer)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::web::testing::{body, release_of, send, server, web};

    #[tokio::test]
    async fn two_servers_and_two_sets_are_compared_with_the_notes_between() {
        let (_directory, web) = web().await;
        let releases = [release_of(&web, 3).await, release_of(&web, 5).await, release_of(&web, 9).await];
        server(&web, "web-1", Some(&releases[2]), "converged", "converged").await;
        server(&web, "web-2", Some(&releases[0]), "converged", "converged").await;
        server(&web, "db-1", None, "converged", "orphan").await;
        web.refresher.refresh().await;
        let page = body(&web, "viewer", "/compare?left=web-1&right=web-2").await;
        assert!(page.contains("web-1 is ahead") && page.contains("1 app of 1 differs"), "{page}");
        assert!(page.contains("change 5") && page.contains("change 9") && !page.contains("change 3"), "{page}");
        for (left, right, relation, notes) in [
            ("web-1", "web-2", "ahead", 2),
            ("web-2", "web-1", "behind", 2),
            ("web-1", "db-1", "only-left", 0),
            ("app:web+-db", "web-1", "behind", 2),
            ("web-1", "web-1", "same", 0),
        ] {
            let path = format!("/api/v1/compare?left={left}&right={right}");
            let compared: Value = serde_json::from_str(&body(&web, "viewer", &path).await).unwrap();
            let app = &compared["apps"][0];
            assert_eq!((&app["app"], &app["relation"]), (&"web".into(), &relation.into()), "{compared}");
            assert_eq!(app["notes"].as_array().unwrap().len(), notes, "{compared}");
        }
        assert!(body(&web, "viewer", "/servers/web-1").await.contains("href=\"/compare?left=web-1\""));
        assert!(body(&web, "viewer", "/servers?q=web").await.contains("href=\"/compare?left=web\""));
        assert!(body(&web, "viewer", "/compare?left=web-1&right=wbe-2").await.contains("did you mean <code>web-"));
        let answer = send(&web, "viewer", axum::http::Method::GET, "/api/v1/compare?left=web-1", String::new()).await;
        assert_eq!(answer.status(), axum::http::StatusCode::BAD_REQUEST);
    }
}
