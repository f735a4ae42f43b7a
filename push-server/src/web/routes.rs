//! All routes, and who may use each: the router is built from this one table.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get, post},
};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

use super::{
    Web,
    api::{self, Doc},
    assets, events, health, metrics, pages,
    view::View,
};
use crate::policy::Role;

/// Most bytes of a request's body: a form that names twenty thousand servers.
const BODY: usize = 8 << 20;

/// One route.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// The least that somebody must be; what they may push where is judged for each push.
    pub(crate) least: Role,
    pub(crate) handler: MethodRouter<Arc<Web>>,
    /// What the API's description says of it.
    pub(crate) doc: Option<Doc>,
}

/// The table.
pub(crate) fn all() -> Vec<Route> {
    let read = |path, handler| Route { method: Method::GET, path, least: Role::Viewer, handler, doc: None };
    let open = |path, handler| Route { method: Method::GET, path, least: Role::Nobody, handler, doc: None };
    let write = |path, handler| Route { method: Method::POST, path, least: Role::Deployer, handler, doc: None };
    let mut routes = vec![
        open("/healthz", get(health::alive)),
        open("/readyz", get(health::ready)),
        open("/assets/{name}", get(assets::get)),
        read("/metrics", get(metrics::get)),
        read("/", get(pages::overview::get)),
        read("/servers", get(pages::servers::get)),
        read("/servers/{server}", get(pages::server::get)),
        read("/apps", get(pages::apps::list)),
        read("/apps/{app}", get(pages::apps::get)),
        read("/history", get(pages::history::get)),
        read("/choose", get(pages::choose::get)),
        read("/plan", get(pages::plan::get)),
        write("/push", post(pages::push::post)),
        read("/pushes/{id}", get(pages::push::get)),
        read("/events", get(events::get)),
    ];
    routes.extend(api::routes());
    routes
}

/// The router.
pub(crate) fn router(web: &Arc<Web>) -> Router {
    let mut router = Router::new();
    for route in all() {
        let guard = middleware::from_fn_with_state((web.clone(), route.least), allowed);
        router = router.route(route.path, route.handler.layer(guard));
    }
    router
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(CompressionLayer::new().gzip(true))
        .layer(CatchPanicLayer::new())
        .with_state(web.clone())
}

/// Lets through who is enough for a route.
async fn allowed(State((web, least)): State<(Arc<Web>, Role)>, request: Request, next: Next) -> Response {
    let view = View::of(&web, &request);
    if least > view.policy.highest_role(&view.who) {
        let text = if least == Role::Deployer {
            format!("`{}` may look, but not push.", view.who.name)
        } else {
            format!("`{}` has no role here; the policy file gives them.", view.who.name)
        };
        return refuse(&view, request.uri().path(), StatusCode::FORBIDDEN, "That isn't allowed", &text);
    }
    next.run(request).await
}

async fn nothing_here(view: View, request: Request) -> Response {
    let text = "Perhaps the address is misspelt, or what it showed is gone.";
    refuse(&view, request.uri().path(), StatusCode::NOT_FOUND, "There is no such page", text)
}

/// A problem, for a person or a program.
fn refuse(view: &View, path: &str, status: StatusCode, title: &str, text: &str) -> Response {
    if path.starts_with(api::PREFIX) { api::problem(status, title, text) } else { view.problem(status, title, text) }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bucket::{Bucket, BucketOptions, BucketUrl};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        identity::{Identity, Origin},
        policy::watched::Watched,
    };

    async fn web() -> (tempfile::TempDir, Arc<Web>) {
        let directory = tempfile::tempdir().unwrap();
        let url = BucketUrl::File(directory.path().to_owned());
        let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
        (directory, Arc::new(Web::new(bucket, &url, crate::poke::PokeSettings::None, Watched::open(None).unwrap())))
    }

    async fn status(web: &Arc<Web>, route: &Route, origin: Origin) -> StatusCode {
        let path =
            route.path.replace("{server}", "web-1").replace("{app}", "web").replace("{id}", "1").replace("{name}", "x");
        let who = Identity { name: "ana@acme.example".into(), origin };
        let request =
            Request::builder().method(route.method.clone()).uri(path).extension(who).body(Body::empty()).unwrap();
        router(web).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn every_route_asks_for_its_role() {
        let (_directory, web) = web().await;
        for route in all() {
            let (viewer, local) =
                (status(&web, &route, Origin::SignedIn).await, status(&web, &route, Origin::Local).await);
            let refused = route.least > Role::Viewer;
            assert_eq!(viewer == StatusCode::FORBIDDEN, refused, "{} {}: {viewer}", route.method, route.path);
            assert_ne!(local, StatusCode::FORBIDDEN, "{} {}", route.method, route.path);
            assert_eq!(refused, route.method != Method::GET, "{} {} changes something", route.method, route.path);
        }
    }
}
