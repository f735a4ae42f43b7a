//! All routes, and who may use each: the router is built from this one table.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate as _},
    },
};

use fleet::policy::Role;

use super::{
    api, assets, channels, events, health, holds, metrics, pages, params::Params, route::Route, shared::Web, view::View,
};
use crate::monitoring;

/// Most bytes of a request's body: a form that names twenty thousand servers.
pub(crate) const MAX_BODY: usize = 8 << 20;

/// The table.
pub(crate) fn all() -> Vec<Route> {
    let read = |path, handler| Route { method: Method::GET, path, least: Role::Viewer, handler, doc: None };
    let open = |path, handler| Route { method: Method::GET, path, least: Role::Nobody, handler, doc: None };
    let write = |path, handler| Route { method: Method::POST, path, least: Role::Deployer, handler, doc: None };
    let admin = |path, handler| Route { method: Method::POST, path, least: Role::Admin, handler, doc: None };
    let mut routes = vec![
        open("/healthz", get(monitoring::alive)),
        open("/readyz", get(health::ready)),
        open("/assets/{name}", get(assets::get)),
        read("/metrics", get(metrics::get)),
        read("/", get(pages::overview::get)),
        read("/servers", get(pages::servers::get)),
        read("/servers/{server}", get(pages::server::get)),
        write("/servers/{server}/hold", post(holds::hold)),
        write("/servers/{server}/resume", post(holds::resume)),
        read("/servers/{server}/retire", get(pages::retire::get)),
        admin("/servers/{server}/retire", post(pages::retire::post)),
        read("/compare", get(pages::compare::get)),
        read("/apps", get(pages::apps::list)),
        read("/apps/{app}", get(pages::apps::get)),
        read("/channels", get(pages::channels::list)),
        read("/channels/{app}/{channel}", get(pages::channels::get)),
        write("/channels/{app}/{channel}", post(channels::post)),
        read("/changes", get(pages::changes::get)),
        read("/runs", get(pages::runs::projects)),
        read("/runs/{project}", get(pages::runs::list)),
        read("/runs/{project}/{run}", get(pages::run::get)),
        read("/runs/{project}/{run}/artifact", get(pages::run::artifact)),
        read("/releases/{release}", get(pages::release::get)),
        write("/releases/{release}/reject", post(pages::release::reject)),
        write("/releases/{release}/unreject", post(pages::release::unreject)),
        read("/halt", get(pages::halt::get)),
        admin("/halt", post(pages::halt::begin)),
        admin("/halt/lift", post(pages::halt::lift)),
        read("/history", get(pages::history::get)),
        read("/choose", get(pages::choose::get)),
        read("/plan", get(pages::plan::get)),
        write("/plan/waves", post(pages::push::preview)),
        write("/push", post(pages::push::post)),
        read("/pushes/{id}", get(pages::push::get)),
        read("/pushes/{id}/undo", get(pages::push::redo::undo)),
        write("/pushes/{id}/undo", post(pages::push::redo::post_undo)),
        read("/pushes/{id}/retry", get(pages::push::redo::retry)),
        write("/pushes/{id}/retry", post(pages::push::redo::post_retry)),
        write("/pushes/{id}/continue", post(pages::push::redo::carry_on)),
        write("/pushes/{id}/stop", post(pages::push::redo::stop)),
        write("/pushes/{id}/rollout", post(pages::push::redo::decide)),
        read("/events", get(events::get)),
    ];
    routes.extend(api::routes());
    routes.push(read("/api/v1/openapi.json", get(async || api::openapi::answer(&all()))));
    routes
}

/// The router.
pub(crate) fn router(web: &Arc<Web>) -> Router {
    // Files of any size are sent as they are, and their length is known.
    let compressed = DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream"));
    let mut router = Router::new();
    for route in all() {
        let guard = middleware::from_fn_with_state((web.clone(), route.least), allowed);
        router = router.route(route.path, route.handler.layer(guard));
    }
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_that_way)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CompressionLayer::new().gzip(true).compress_when(compressed))
        .layer(CatchPanicLayer::new())
        .with_state(web.clone())
}

/// Lets through who is enough for a route.
async fn allowed(State((web, least)): State<(Arc<Web>, Role)>, request: Request, next: Next) -> Response {
    let view = View::of(&web, &request);
    if least > view.policy.highest_role(&view.who) {
        let name = &view.who.name;
        let text = match least {
            Role::Admin => format!("`{name}` may not do that: it takes the role `admin`."),
            Role::Deployer => format!("`{name}` has read-only access."),
            Role::Viewer | Role::Nobody => format!("`{name}` has no role in the policy file."),
        };
        return refuse(&view, request.uri().path(), StatusCode::FORBIDDEN, "Not allowed", &text);
    }
    if !Params::parse(request.uri().query().unwrap_or_default().as_bytes()).has_page() {
        let text = "`page` must be a whole number, at least 1.";
        return refuse(&view, request.uri().path(), StatusCode::BAD_REQUEST, "Invalid page number", text);
    }
    next.run(request).await
}

async fn not_that_way(view: View, request: Request) -> Response {
    let text = format!("Nothing here is done by {}: the API's description says what is.", request.method());
    refuse(&view, request.uri().path(), StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", &text)
}

/// Where a page is that was asked for with a slash at its end, which people and tools add.
fn without_slash(request: &Request) -> Option<String> {
    let path = request.uri().path().strip_suffix('/')?;
    // What a browser might take for another host is no page.
    let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%:@".contains(&byte));
    let parts = path.strip_prefix('/')?.split('/');
    let is_page = request.method() == Method::GET && parts.into_iter().all(|part| !part.is_empty() && is_plain(part));
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    is_page.then(|| format!("{path}{query}"))
}

async fn nothing_here(view: View, request: Request) -> Response {
    if let Some(place) = without_slash(&request) {
        return Redirect::permanent(&place).into_response();
    }
    let text = "Check the spelling of the address; what it showed may have been removed.";
    refuse(&view, request.uri().path(), StatusCode::NOT_FOUND, "Page not found", text)
}

/// A problem, for a person or a program.
fn refuse(view: &View, path: &str, status: StatusCode, title: &str, text: &str) -> Response {
    if path.starts_with(api::PREFIX) { api::problem(status, title, text) } else { view.problem(status, title, text) }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::header};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use tower::ServiceExt;

    use super::*;
    use crate::web::testing::{release, send, server, web};
    use fleet::identity::{Identity, Origin};

    #[tokio::test]
    async fn every_route_asks_for_its_role() {
        let (_directory, web) = web().await;
        let roles =
            [("nobody", Role::Nobody), ("viewer", Role::Viewer), ("deployer", Role::Deployer), ("admin", Role::Admin)];
        for route in all() {
            let path: Vec<&str> =
                route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
            for (who, role) in roles {
                let answer = send(&web, who, route.method.clone(), &path.join("/"), String::new()).await;
                let refused = answer.status() == StatusCode::FORBIDDEN;
                assert_eq!(refused, role < route.least, "{who}: {} {}", route.method, route.path);
            }
            let changes = route.method != Method::GET;
            assert_eq!(changes, route.least >= Role::Deployer, "{} {} may change something", route.method, route.path);
            // A page's address says nothing of what a form would do.
            let other = if changes { Method::GET } else { Method::POST };
            if all().iter().any(|another| another.path == route.path && another.method == other) {
                continue;
            }
            let answer = send(&web, "admin", other, &path.join("/"), String::new()).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{}", route.path);
        }
    }

    #[tokio::test]
    async fn a_misspelt_server_is_not_made_and_none_is_pushed_to_twice() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let change = format!(r#"{{"server": "wbe-1", "to": "{}"}}"#, release.stem());
        let push = async |changes: &str, more: &str| {
            let body = format!(r#"{{"kind": "deploy", "rows": [{changes}]{more}}}"#);
            send(&web, "deployer", Method::POST, "/api/v1/pushes", body).await.status()
        };
        let server = "wbe-1".parse().unwrap();
        let document = async || web.refresher.bucket().server_document(&server).await.unwrap();
        assert_eq!(push(&change, "").await, StatusCode::CONFLICT);
        assert_eq!(push(&format!("{change}, {change}"), r#", "new_servers": true"#).await, StatusCode::BAD_REQUEST);
        assert_eq!(document().await, None);
        assert_eq!(push(&change, r#", "new_servers": true"#).await, StatusCode::OK);
        assert!(matches!(document().await, Some((_, written)) if written.releases().eq([&release])));
    }

    #[tokio::test]
    async fn an_app_comes_to_servers_without_it_only_if_that_is_said() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let server = "db-1".parse().unwrap();
        let other = format!("[\"{}\"]", release.as_str().replace("web", "db"));
        let other = bucket::ServerDocument::parse(other.as_bytes()).unwrap();
        web.refresher.bucket().write_server_document(&server, &other, None).await.unwrap();
        web.refresher.refresh_servers(std::slice::from_ref(&server)).await;
        let plan = format!("release={}&server=db-1", release.stem());
        let body = async |path: String| {
            let answer = send(&web, "deployer", Method::GET, &path, String::new()).await;
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert!(body(format!("/api/v1/plans?{plan}")).await.contains(r#""needs":"install""#));
        let page = body(format!("/plan?{plan}")).await;
        assert!(page.contains("Install on 1 server") && page.contains("does not have <code>web</code> yet"), "{page}");
        let push = async |more: &str| {
            let to = release.stem();
            let body = format!(r#"{{"kind": "deploy", "rows": [{{"server": "db-1", "to": "{to}"}}]{more}}}"#);
            send(&web, "deployer", Method::POST, "/api/v1/pushes", body).await.status()
        };
        let has_app = async || {
            let (_, document) = web.refresher.bucket().server_document(&server).await.unwrap().unwrap();
            document.releases().any(|named| *named == release)
        };
        assert_eq!((push("").await, has_app().await), (StatusCode::CONFLICT, false));
        assert_eq!((push(r#", "install": true"#).await, has_app().await), (StatusCode::OK, true));
    }

    #[tokio::test]
    async fn only_a_removal_takes_an_app_off_and_says_which() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let stem = release.stem();
        let push = async |kind: &str, more: &str, row: &str| {
            let body = format!(r#"{{"kind": "{kind}"{more}, "rows": [{{"server": "web-1"{row}}}]}}"#);
            let answer = send(&web, "deployer", Method::POST, "/api/v1/pushes", body).await;
            let status = answer.status();
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        };
        let server = "web-1".parse().unwrap();
        let document = async || {
            let (_, document) = web.refresher.bucket().server_document(&server).await.unwrap().unwrap();
            document.to_json()
        };
        // By the name that rows had before.
        let earlier =
            format!(r#"{{"kind": "deploy", "new_servers": true, "changes": [{{"server": "web-1", "to": "{stem}"}}]}}"#);
        let answer = send(&web, "deployer", Method::POST, "/api/v1/pushes", earlier).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let written = document().await;
        let (from, to) = (format!(r#", "from": "{stem}""#), format!(r#", "to": "{stem}""#));
        for (kind, row, why) in [
            ("deploy", format!(r#"{from}, "to": null"#), "only a push of kind `remove`"),
            ("rollback", from.clone(), "only a push of kind `remove`"),
            ("remove", format!("{from}{to}"), "must be null"),
            ("remove", r#", "to": null"#.to_owned(), "says which app"),
        ] {
            let (status, said) = push(kind, "", &row).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{kind} {row}: {said}");
            assert!(said.contains(why), "{kind} {row}: {said}");
        }
        assert_eq!(document().await, written);
        let answer = send(&web, "viewer", Method::GET, "/api/v1/plans?remove=web&server=web-1", String::new()).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let plan: Value = serde_json::from_slice(&bytes).unwrap();
        let row = &plan["rows"][0];
        assert_eq!((&plan["kind"], &row["from"], &row["to"]), (&json!("remove"), &json!(stem), &Value::Null));
        assert!(row["warnings"].to_string().contains("stays installed"), "{plan}");
        let (status, said) = push("remove", r#", "reason": "moved""#, &format!(r#"{from}, "to": null"#)).await;
        assert_eq!((status, document().await.as_ref()), (StatusCode::OK, b"[]\n".as_slice()), "{said}");
        let history = web.refresher.bucket().newest_history(&server, 1).await.unwrap();
        assert_eq!(
            (history[0].kind.as_str(), history[0].to.as_ref(), history[0].why.as_str()),
            ("remove", None, "moved")
        );
    }

    #[tokio::test]
    async fn a_push_is_listed_and_shown_after_the_process_that_wrote_it() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let change = |server: &str| format!(r#"{{"server": "{server}", "to": "{}"}}"#, release.stem());
        let body = format!(
            r#"{{"kind": "deploy", "new_servers": true, "reason": "first", "rows": [{}, {}]}}"#,
            change("web-1"),
            change("web-2")
        );
        let json = async |answer: Response| -> Value {
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let pushed = json(send(&web, "deployer", Method::POST, "/api/v1/pushes", body).await).await;
        let id = pushed["push"].as_str().unwrap_or_else(|| panic!("{pushed}"));
        let get = async |path: String| json(send(&web, "viewer", Method::GET, &path, String::new()).await).await;
        let listed = get("/api/v1/pushes?q=FIRST".to_owned()).await;
        assert_eq!((&listed["total"], &listed["items"][0]["id"]), (&1.into(), &id.into()), "{listed}");
        assert_eq!((&listed["items"][0]["servers"], &listed["items"][0]["unwritten"]), (&2.into(), &0.into()));
        assert_eq!(get("/api/v1/pushes?q=nobody".to_owned()).await["total"], 0);
        let shown = get(format!("/api/v1/pushes/{id}")).await;
        assert_eq!((&shown["stage"], &shown["summary"]), (&"over".into(), &"2 pending".into()), "{shown}");
        assert_eq!(shown["rows"][1]["server"], "web-2");
        let absent = send(&web, "viewer", Method::GET, "/api/v1/pushes/abc123", String::new()).await;
        assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn every_number_of_servers_is_that_of_the_rows_behind_its_link() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        for (name, desired, whole, app) in [
            ("web-1", Some(&release), "converged", "converged"),
            ("web-2", Some(&release), "failed", "converged"),
            ("web-3", Some(&release), "failed", "quarantined"),
            ("web-4", Some(&release), "converged", "orphan"),
            ("web-5", None, "converged", "orphan"),
            ("web-6", None, "drifted", "drifted"),
        ] {
            server(&web, name, desired, whole, app).await;
        }
        web.refresher.refresh().await;
        let body = async |path: &str| {
            let answer = send(&web, "viewer", Method::GET, path, String::new()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let mut seen = Vec::new();
        for page in ["/", "/apps", "/apps/web"] {
            let text = body(page).await;
            for link in text.split("href=\"/servers").skip(1) {
                let (address, rest) = link.split_once('"').unwrap();
                let shown = rest.split_once('>').unwrap().1.split("</a>").next().unwrap();
                let digits = |text: &str| -> String {
                    text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect()
                };
                // Not the links to one server, nor those of words alone.
                let (false, Ok(number)) = (address.starts_with('/'), digits(shown).parse::<u64>()) else { continue };
                let answer = body(&format!("/api/v1/servers{}", address.replace("&amp;", "&"))).await;
                let listed: Value = serde_json::from_str(&answer).unwrap();
                assert_eq!(listed["total"], number, "{page}: {address}");
                seen.push((address.to_owned(), number));
            }
        }
        for expected in [("", 6), ("?q=state%3Aconverged", 2), ("?q=state%3Afailed", 2), ("?q=app%3Aweb", 6)] {
            assert!(seen.contains(&(expected.0.to_owned(), expected.1)), "{expected:?}: {seen:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_push_is_a_problem_and_not_a_failure() {
        let (_directory, web) = web().await;
        for (path, body) in [
            ("/api/v1/pushes", ""),
            ("/api/v1/pushes", r#"{"kind": "deploy", "rows": []}"#),
            ("/api/v1/pushes", r#"{"kind": "deploy", "rows": [{"server": "../x", "to": "y"}]}"#),
            ("/push", "kind=deploy"),
            ("/push", "kind=deploy&target=a+b+c"),
        ] {
            let answer = send(&web, "deployer", Method::POST, path, body.to_owned()).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path} {body}");
        }
        for path in ["/servers?q=%00%ff", "/choose?server=%2e%2e"] {
            let status = send(&web, "viewer", Method::GET, path, String::new()).await.status();
            assert!(status.is_success() || status == StatusCode::BAD_REQUEST, "{path}: {status}");
        }
        for page in ["0", "abc", "-1", "1.5", "99999999999999999999"] {
            for path in ["/servers", "/history", "/api/v1/servers", "/api/v1/apps"] {
                let answer = send(&web, "viewer", Method::GET, &format!("{path}?page={page}"), String::new()).await;
                assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path} {page}");
            }
        }
        let long = format!("{{\"reason\": \"{}\"}}", "x".repeat(MAX_BODY));
        for (method, path, body, status) in [
            (Method::POST, "/api/v1/pushes", long, StatusCode::PAYLOAD_TOO_LARGE),
            (Method::DELETE, "/api/v1/servers", String::new(), StatusCode::METHOD_NOT_ALLOWED),
            (Method::GET, "/api/v1/servers?page=x", String::new(), StatusCode::BAD_REQUEST),
        ] {
            let answer = send(&web, "deployer", method, path, body).await;
            let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
            assert_eq!((answer.status(), kind), (status, "application/problem+json"), "{path}");
        }
        let answer = send(&web, "deployer", Method::DELETE, "/api/v1/servers", String::new()).await;
        assert_eq!(answer.headers()[header::ALLOW], "GET,HEAD");
        for path in ["/api/v1/nothing", "/api/v1/servers/nobody"] {
            let answer = send(&web, "viewer", Method::GET, path, String::new()).await;
            let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
            assert_eq!((answer.status(), kind), (StatusCode::NOT_FOUND, "application/problem+json"), "{path}");
        }
    }

    #[tokio::test]
    async fn a_push_is_done_when_its_answer_says_so_and_only_if_it_was_written() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let push = async |servers: &[&str], header: Option<(&str, &str)>| {
            let change = |server: &&str| format!(r#"{{"server": "{server}", "to": "{}"}}"#, release.stem());
            let changes: Vec<String> = servers.iter().map(change).collect();
            let body = format!(r#"{{"kind": "deploy", "new_servers": true, "changes": [{}]}}"#, changes.join(","));
            let who = Identity { name: "deployer".into(), origin: Origin::SignedIn };
            let request = Request::builder().method(Method::POST).uri("/api/v1/pushes").extension(who);
            let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            let answer = router(&web).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
            let status = answer.status();
            let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            assert!(answer.headers()[header::LOCATION].to_str().unwrap().starts_with("/api/v1/pushes/"));
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, kind, serde_json::from_slice::<Value>(&body).unwrap())
        };
        let (status, _, done) = push(&["web-1"], None).await;
        assert_eq!((status, &done["finished"]), (StatusCode::OK, &Value::Bool(true)));
        // Somebody who still sees nothing there: that is no longer so.
        let (status, kind, said) = push(&["web-1"], None).await;
        assert_eq!((status, &*kind), (StatusCode::CONFLICT, "application/problem+json"), "{said}");
        assert_eq!(said["title"], "Nothing was written");
        assert!(
            said["detail"].as_str().unwrap().starts_with("1 of 1 pushes were not written; that to `web-1`: "),
            "{said}"
        );
        assert_eq!(said["outcomes"][0]["result"], "refused");
        let (status, _, said) = push(&["web-1", "web-2"], None).await;
        assert_eq!((status, said["title"].as_str()), (StatusCode::CONFLICT, Some("Not everything was written")));
        assert_eq!(said["outcomes"][1]["result"], "written", "{said}");
        // Who doesn't wait is told so; a small push has ended by then all the same.
        let (status, ..) = push(&["web-3"], Some(("prefer", "handling=lenient, respond-async"))).await;
        assert!([StatusCode::OK, StatusCode::ACCEPTED].contains(&status), "{status}");
    }

    #[tokio::test]
    async fn a_slash_at_the_end_leads_to_the_page() {
        let (_directory, web) = web().await;
        for (path, place) in [
            ("/servers/", Some("/servers")),
            ("/servers/?q=app:web", Some("/servers?q=app:web")),
            ("/api/v1/servers/", Some("/api/v1/servers")),
            ("//evil.example/", None),
            ("/\\evil.example/", None),
            ("/x//", None),
        ] {
            let answer = send(&web, "viewer", Method::GET, path, String::new()).await;
            assert_eq!(answer.headers().get(header::LOCATION).map(|place| place.to_str().unwrap()), place, "{path}");
            assert_eq!(answer.status() == StatusCode::NOT_FOUND, place.is_none(), "{path}");
        }
    }

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_of_the_api_is_described() {
        let document = api::openapi::document(&all());
        let mut ids = BTreeSet::new();
        for route in all().iter().filter(|route| route.path.starts_with(api::PREFIX)) {
            let method = route.method.as_str().to_lowercase();
            let Some(described) = document["paths"].get(route.path).and_then(|path| path.get(method)) else {
                assert!(route.path.ends_with("/openapi.json"), "{}", route.path);
                continue;
            };
            assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{described}");
            let changes = route.method != Method::GET;
            // Looking needs no token; an empty requirement says that.
            let security = if changes { json!([{ "token": [] }]) } else { json!([{}, { "token": [] }]) };
            assert_eq!(described["security"], security, "{}", route.path);
            let answers: Vec<&String> = described["responses"].as_object().unwrap().keys().collect();
            let begins = ["/api/v1/pushes", "/api/v1/retry"].iter().any(|path| route.path.starts_with(path));
            let pushes = begins && !route.path.ends_with("/stop");
            let expected: &[&str] = match (changes, pushes) {
                (true, true) => &["200", "202", "403", "409", "default"],
                (true, false) => &["200", "403", "409", "default"],
                (false, _) => &["200", "default"],
            };
            assert_eq!(answers, expected, "{}", route.path);
            for parameter in described["parameters"].as_array().unwrap() {
                assert!(parameter["schema"]["type"].is_string() && parameter["description"].is_string(), "{parameter}");
            }
        }
        let plan = &document["paths"]["/api/v1/plans"]["get"]["parameters"];
        let server = plan.as_array().unwrap().iter().find(|parameter| parameter["name"] == "server").unwrap();
        assert_eq!((&server["schema"]["type"], &server["explode"]), (&json!("array"), &json!(true)));
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
    }
}
