//! Holds of a server, as lists mark them, and as its page shows and sets them: somebody is on it, for two hours, in one click.

use axum::{
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::ServerName;
use fleet::{
    hold::{self, Changed, in_short, in_words, left_over, may_hold},
    server::Server,
};
use maud::{Markup, html};

use super::{
    parts::{badge, first_up, prose},
    view::{Nav, View},
};
use crate::badge::Severity;

/// That a server is on hold, wherever it is listed, and when that ends.
pub(crate) fn mark(view: &View, server: &ServerName) -> Markup {
    let held = view.snapshot.holds.get(server).and_then(|(_, holds)| in_short(holds, view.now));
    html! { @if let Some(held) = held { " " (badge(Severity::Notice, "‖", &held)) } }
}

/// The holds of a server that are in force, what a trial left over, and the forms by which an operator sets and ends holds.
pub(crate) fn section(view: &View, server: &Server) -> Markup {
    let unreadable = view.snapshot.holds.get(&server.name).and_then(|(_, holds)| holds.error());
    let holds: Vec<String> =
        view.snapshot.holds_of(&server.name, view.now).map(|hold| in_words(hold, view.now)).collect();
    let known = view.snapshot.holds.get(&server.name).map(|(_, holds)| holds);
    let left = known.map(|holds| left_over(holds, server, view.now)).unwrap_or_default();
    html! {
        @if let Some(error) = unreadable {
            p.banner.bad { "Nobody can push here: it cannot be read whether the server is on hold. " (prose(error)) }
        }
        @for hold in &holds { p.banner.notice { (prose(hold)) } }
        @for left in &left { p.banner.bad { (prose(left)) "." } }
        @if may_hold(&view.policy, &view.who, server, None).is_ok() {
            div.actions {
                form method="post" action={ "/servers/" (server.name) "/hold" } {
                    button type="submit" title="Nobody else pushes here for two hours" { "I am on it" }
                }
                @if !holds.is_empty() {
                    " "
                    form method="post" action={ "/servers/" (server.name) "/resume" } { button type="submit" { "Resume" } }
                }
            }
        }
    }
}

/// `POST /servers/{server}/hold`: nobody else pushes there for two hours.
pub(crate) async fn hold(view: View, Path(name): Path<String>) -> Response {
    change(&view, &name, true).await
}

/// `POST /servers/{server}/resume`: all holds there end.
pub(crate) async fn resume(view: View, Path(name): Path<String>) -> Response {
    change(&view, &name, false).await
}

async fn change(view: &View, name: &str, is_held: bool) -> Response {
    let name: Option<ServerName> = name.parse().ok();
    let Some(server) = name.and_then(|name| view.snapshot.servers.get(&name).cloned()) else {
        let text = "No document and no report in the bucket has this name.";
        return view.problem(StatusCode::NOT_FOUND, "Server not found", text);
    };
    if let Err(error) = may_hold(&view.policy, &view.who, &server, None) {
        return view.problem(StatusCode::FORBIDDEN, "Not allowed", &error.to_string());
    }
    let (bucket, name) = (view.web.refresher.bucket(), &server.name);
    let changed = if is_held {
        hold::hold(bucket, &view.who, name, None, (hold::USUAL, "")).await
    } else {
        hold::resume(bucket, name, None).await
    };
    view.web.refresher.refresh_guards().await;
    match changed {
        Ok(Changed { untold: Some(untold), .. }) => {
            let content = html! {
                h1 { @if is_held { "The server is on hold" } @else { "The holds have ended" } }
                p.banner.notice { (prose(&first_up(&untold.to_string()))) "." }
                p { a.button href={ "/servers/" (name) } { "Back to the server" } }
            };
            view.page(name.as_str(), Nav::Servers, &content)
        }
        Ok(Changed { untold: None, .. }) => Redirect::to(&format!("/servers/{name}")).into_response(),
        Err(error) => view.problem(StatusCode::CONFLICT, "Nothing was written", &format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::http::Method;
    use bucket::PushKind;
    use fleet::{
        identity::{Identity, Origin},
        operation::Operator,
        poke::PokeSettings,
        trial::Trial,
    };
    use serde_json::json;

    use super::*;
    use crate::web::testing::{body, release_of, report, send, server, web};

    #[tokio::test]
    async fn whoever_is_on_a_server_says_so_in_one_click_and_pushes_there_all_the_same() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        server(&web, "web-2", Some(&old), "converged", "converged").await;
        let post = async |who: &str, path: &str, form: &str| {
            send(&web, who, Method::POST, path, form.to_owned()).await.status()
        };
        assert!(!body(&web, "viewer", "/servers/web-1").await.contains("I am on it"));
        assert_eq!(post("viewer", "/servers/web-1/hold", "").await, StatusCode::FORBIDDEN);
        assert_eq!(post("deployer", "/servers/web-9/hold", "").await, StatusCode::NOT_FOUND);
        assert_eq!(post("deployer", "/servers/web-1/hold", "").await, StatusCode::SEE_OTHER);
        let page = body(&web, "viewer", "/servers/web-1").await;
        assert!(page.contains("on hold by deployer, expires in 2 h") && !page.contains("Resume"), "{page}");
        web.refresher.refresh().await;
        for path in ["/servers", "/servers?q=app:web", "/apps/web"] {
            let page = body(&web, "viewer", path).await;
            assert_eq!(page.matches("on hold, expires in 2 h").count(), 1, "{path}: {page}");
        }
        let plan = format!("/plan?release={}&q=app:web", new.stem());
        let of_other = body(&web, "admin", &plan).await;
        assert!(of_other.contains("Left out: 1 server") && !of_other.contains("name=\"held\""), "{of_other}");
        let own = body(&web, "deployer", &plan).await;
        assert!(own.contains("On hold by you: 1 server") && own.contains("Also push to 1 server"), "{own}");
        let target = format!("kind=deploy&held_target=web-1+{}+{}", old.stem(), new.stem());
        assert_eq!(post("deployer", "/push", &target).await, StatusCode::BAD_REQUEST);
        let answer = send(&web, "deployer", Method::POST, "/push", format!("{target}&held=yes")).await;
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        let desired = async || {
            let document = web.refresher.bucket().server_document(&"web-1".parse().unwrap()).await.unwrap();
            document.and_then(|(_, document)| document.releases().next().cloned())
        };
        assert_eq!(desired().await, Some(new.clone()));
        // What is undone or tried again asks the same.
        let undo = format!("{place}/undo");
        let (own, of_other) = (body(&web, "deployer", &undo).await, body(&web, "admin", &undo).await);
        assert!(
            own.contains("On hold by you: 1 server") && own.contains("Push to 1 server that you have put"),
            "{own}"
        );
        assert!(!of_other.contains("name=\"held\"") && of_other.contains("Nothing can be done"), "{of_other}");
        let target = format!("held_target=web-1+{}+{}", new.stem(), old.stem());
        assert_eq!(post("deployer", &undo, &target).await, StatusCode::BAD_REQUEST);
        let api = undo.replace("/pushes/", "/api/v1/pushes/");
        assert_eq!(post("deployer", &api, "{}").await, StatusCode::CONFLICT);
        assert_eq!(desired().await, Some(new.clone()));
        assert_eq!(post("deployer", &api, r#"{ "held": true }"#).await, StatusCode::OK);
        assert_eq!(desired().await, Some(old));
        assert!(body(&web, "deployer", "/servers/web-1").await.contains("Resume"));
        assert_eq!(post("admin", "/servers/web-1/resume", "").await, StatusCode::SEE_OTHER);
        assert!(!body(&web, "viewer", "/servers/web-1").await.contains("on hold"));
    }

    #[tokio::test]
    async fn who_set_a_hold_has_a_release_tried_again_there_if_they_say_so() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        let post = async |who: &str, path: &str, sent: &str| {
            send(&web, who, Method::POST, path, sent.to_owned()).await.status()
        };
        let push = format!("kind=deploy&target=web-1+{}+{}", old.stem(), new.stem());
        let answer = send(&web, "deployer", Method::POST, "/push", push).await;
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(post("deployer", "/servers/web-1/hold", "").await, StatusCode::SEE_OTHER);
        let fails = async || {
            report(&web, "web-1", "quarantined").await;
            web.refresher.refresh().await;
        };
        let retries = async || {
            let history = web.refresher.bucket().newest_history(&"web-1".parse().unwrap(), 10).await.unwrap();
            history.iter().filter(|entry| entry.kind == PushKind::Retry).count()
        };
        fails().await;
        // From the page of the push, and from that of the app: the box is theirs alone.
        let of_push = format!("{place}/retry");
        for plan in [of_push.as_str(), "/plan?retry=web&server=web-1"] {
            let own = body(&web, "deployer", plan).await;
            assert!(own.contains("On hold by you: 1 server") && own.contains("name=\"held_target\""), "{own}");
            let of_other = body(&web, "admin", plan).await;
            assert!(of_other.contains("is on hold on") && !of_other.contains("name=\"held\""), "{of_other}");
        }
        let target = format!("kind=retry&held_target=web-1+{0}+{0}", new.stem());
        let mut expected = 0;
        for path in [of_push.as_str(), "/push"] {
            fails().await;
            assert_eq!(post("deployer", path, &target).await, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(retries().await, expected, "{path}");
            assert_eq!(post("deployer", path, &format!("{target}&held=yes")).await, StatusCode::SEE_OTHER, "{path}");
            expected += 1;
            assert_eq!(retries().await, expected, "{path}");
        }
        // A program says so too, and it means its own operator's holds.
        let api = |held: bool| json!({ "app": "web", "servers": ["web-1"], "held": held }).to_string();
        let of_push_api = |held: bool| json!({ "held": held }).to_string();
        let of_push_path = of_push.replace("/pushes/", "/api/v1/pushes/");
        for (path, held, own) in
            [("/api/v1/retry", api(true), api(false)), (of_push_path.as_str(), of_push_api(true), of_push_api(false))]
        {
            fails().await;
            assert_eq!(post("deployer", path, &own).await, StatusCode::CONFLICT, "{path}");
            assert_eq!(post("admin", path, &held).await, StatusCode::CONFLICT, "{path}");
            assert_eq!(retries().await, expected, "{path}");
            assert_eq!(post("deployer", path, &held).await, StatusCode::OK, "{path}");
            expected += 1;
            assert_eq!(retries().await, expected, "{path}");
        }
    }

    #[tokio::test]
    async fn a_hold_is_marked_where_a_server_needs_attention_and_on_the_page_of_a_push() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "failed", "failed").await;
        }
        let targets = ["web-1", "web-2"].map(|name| format!("target={name}+{}+{}", old.stem(), new.stem())).join("&");
        let answer = send(&web, "deployer", Method::POST, "/push", format!("kind=deploy&{targets}")).await;
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        web.refresher.refresh().await;
        for (verb, marked) in [("hold", true), ("resume", false)] {
            let answer = send(&web, "deployer", Method::POST, &format!("/servers/web-1/{verb}"), String::new()).await;
            assert_eq!(answer.status(), StatusCode::SEE_OTHER);
            for path in ["/", place.as_str()] {
                let page = body(&web, "viewer", path).await;
                let row = |server: &str| {
                    let from = page.find(&format!("href=\"/servers/{server}\"")).unwrap();
                    page[from..from + page[from..].find("</tr>").unwrap()].contains("on hold, expires in 2 h")
                };
                assert_eq!((row("web-1"), row("web-2")), (marked, false), "{path}: {page}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_tried_is_said_and_so_is_what_a_trial_left_over() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        let bucket = web.refresher.bucket();
        let (trial, operator) = trial(&new);
        fleet::trial::begin(bucket, &operator, &trial, || false, |_| ()).await.unwrap();
        web.refresher.refresh().await;
        let page = body(&web, "viewer", "/servers/web-1").await;
        assert!(page.contains("is tried, and on hold by ci, expires in") && page.contains("stage staging"), "{page}");
        assert!(body(&web, "viewer", "/servers").await.contains("web on trial, expires in"));
        let history = body(&web, "viewer", "/history?server=web-1").await;
        assert!(history.contains("<bdi>trial</bdi>"), "{history}");

        // An operator ends its hold, or its time is over.
        hold::resume(bucket, &trial.server, None).await.unwrap();
        web.refresher.refresh().await;
        let page = body(&web, "viewer", "/servers/web-1").await;
        assert!(page.contains("is left over of a trial by ci") && page.contains("push undo"), "{page}");

        fleet::trial::end(bucket, &operator, &trial, |_| ()).await.unwrap();
        web.refresher.refresh().await;
        let page = body(&web, "viewer", "/servers/web-1").await;
        assert!(!page.contains("left over") && !page.contains("on hold"), "{page}");
        assert!(body(&web, "viewer", "/history?server=web-1").await.contains("<bdi>trial-end</bdi>"));
    }

    /// What `release run` tries on `web-1`.
    fn trial(release: &bucket::ReleaseName) -> (Trial, Operator) {
        let who = Identity { name: "ci".to_owned(), origin: Origin::Local };
        let operator = Operator {
            who,
            reason: "pipeline web, stage staging".to_owned(),
            policy: Arc::default(),
            poke: PokeSettings::None,
            held: false,
            without_waves: false,
            channel: None,
        };
        let (id, server) = (bucket::PushId::random(), "web-1".parse().unwrap());
        let (wait, test) = (Duration::ZERO, Duration::from_mins(1));
        (Trial { id, server, release: release.clone(), wait, test }, operator)
    }

    #[tokio::test]
    async fn that_the_agent_was_not_told_is_said() {
        let (directory, web) = web().await;
        let release = release_of(&web, 7).await;
        server(&web, "web-1", Some(&release), "converged", "converged").await;
        let document = directory.path().join("bucket/server/web-1.json");
        std::fs::write(&document, vec![b' '; 2 << 20]).unwrap();
        let answer = send(&web, "deployer", Method::POST, "/servers/web-1/hold", String::new()).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let page = String::from_utf8_lossy(&bytes);
        assert!(page.contains("The server is on hold") && page.contains("was not told, so"), "{page}");
        assert!(body(&web, "viewer", "/servers/web-1").await.contains("on hold by deployer"));
    }
}
