//! Retiring a server: what that means, and the form that does it.

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{AppName, ReleaseName, ServerName};
use fleet::{
    policy::{Reason, Refusal},
    server::Server,
};
use maud::{Markup, html};

use crate::web::{
    params::Params,
    parts::{app_link, prose, reason_input, release, server_link},
    retirements,
    view::{Nav, View},
};

/// Whether the policy lets the operator retire a server.
fn judge(view: &View, server: &Server) -> Result<(), Refusal> {
    let apps: Vec<&AppName> = server.releases().map(ReleaseName::app).collect();
    view.policy.judge_retirement(&view.who, &server.name, &apps, Reason::NotAskedYet)
}

/// A link to the form, for whoever may use it.
pub(crate) fn retire_link(view: &View, server: &Server) -> Markup {
    html! { @if judge(view, server).is_ok() { a href={ "/servers/" (server.name) "/retire" } { "Retire" } } }
}

/// `GET /servers/{server}/retire`.
pub(crate) async fn get(view: View, Path(name): Path<String>) -> Response {
    let name: Option<ServerName> = name.parse().ok();
    let Some(server) = name.and_then(|name| view.snapshot.servers.get(&name).cloned()) else {
        return not_found(&view);
    };
    let content = html! {
        h1 { "Retire " (server.name) }
        p.lead { "For a server that is gone, or is no longer ours. Nothing on the server changes: what runs there keeps running." }
        p {
            "Its document is kept and then deleted, and so is its agent's report. If the agent still reports, the server is shown as \
             retired. An undo restores the document as it was."
        }
        @if server.releases().next().is_some() {
            h2 { "Its document names" }
            ul.units { @for named in server.releases() { li { (app_link(named.app().as_str())) " " (release(named)) } } }
        }
        @match judge(&view, &server) {
            Ok(()) => {
                form.push method="post" action={ "/servers/" (server.name) "/retire" } {
                    (reason_input("Recorded in the history."))
                    div.actions {
                        button.primary type="submit" { "Retire " (server.name) }
                        " "
                        a.button href={ "/servers/" (server.name) } { "Cancel" }
                    }
                }
            },
            Err(refusal) => { p { (prose(&refusal.to_string())) } p { (server_link(server.name.as_str())) } }
        }
    };
    view.page(&format!("Retire {}", server.name), Nav::Servers, &content)
}

fn not_found(view: &View) -> Response {
    let text = "No document and no report in the bucket has this name.";
    view.problem(StatusCode::NOT_FOUND, "Server not found", text)
}

/// `POST /servers/{server}/retire`.
pub(crate) async fn post(view: View, Path(name): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let form = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let Ok(name) = name.parse::<ServerName>() else { return not_found(&view) };
    let reason = form.get("reason").unwrap_or_default();
    match retirements::retire(&view, vec![name.clone()], reason, false).await {
        Ok(rows) => match retirements::failure(&rows, "retired") {
            Some((status, why)) => view.problem(status, "Nothing was written", &why),
            // Its push says how to undo it; what an earlier one had begun is finished under that one's ID.
            None => match rows.iter().find_map(|row| row.push.as_ref()) {
                Some(push) => Redirect::to(&format!("/pushes/{push}")).into_response(),
                None => Redirect::to(&format!("/history?server={name}")).into_response(),
            },
        },
        Err(error) => view.problem(StatusCode::BAD_REQUEST, "Nothing was written", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;
    use crate::web::testing::{body, release, send, server, web};

    #[tokio::test]
    async fn an_admin_retires_a_server_from_its_page() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        server(&web, "web-1", Some(&release), "converged", "converged").await;
        let link = "href=\"/servers/web-1/retire\"";
        assert!(body(&web, "admin", "/servers/web-1").await.contains(link));
        assert!(!body(&web, "deployer", "/servers/web-1").await.contains(link));
        assert!(!body(&web, "deployer", "/servers/web-1/retire").await.contains("<form"));
        let page = body(&web, "admin", "/servers/web-1/retire").await;
        assert!(page.contains("action=\"/servers/web-1/retire\"") && page.contains(release.stem()), "{page}");
        let post = async |who: &str| {
            send(&web, who, Method::POST, "/servers/web-1/retire", "reason=sold".to_owned()).await.status()
        };
        let name = "web-1".parse().unwrap();
        assert_eq!(post("deployer").await, StatusCode::FORBIDDEN);
        assert!(web.refresher.bucket().server_document(&name).await.unwrap().is_some());
        assert_eq!(post("admin").await, StatusCode::SEE_OTHER);
        assert!(web.refresher.bucket().server_document(&name).await.unwrap().is_none());
        let history = body(&web, "viewer", "/history?server=web-1").await;
        assert!(history.contains("retire") && history.contains("sold"), "{history}");
    }

    #[tokio::test]
    async fn a_retirement_is_undone_from_the_page_of_its_push_and_by_a_program() {
        let (_directory, web) = web().await;
        let release = release(&web).await;
        let names: Vec<ServerName> = ["web-1", "web-2"].map(|name| name.parse().unwrap()).into();
        let mut before = Vec::new();
        for name in &names {
            server(&web, name.as_str(), Some(&release), "converged", "converged").await;
            before.push(web.refresher.bucket().document_object(name).await.unwrap().unwrap().content);
        }
        let post = async |who: &str, path: &str, body: &str| {
            let answer = send(&web, who, Method::POST, path, body.to_owned()).await;
            let place = answer.headers().get("location").map(|place| place.to_str().unwrap().to_owned());
            (answer.status(), place)
        };
        let (_, place) = post("admin", "/servers/web-1/retire", "reason=sold").await;
        let push = place.unwrap();
        let page = body(&web, "admin", &push).await;
        assert!(page.contains("1 retired") && page.contains(&format!("href=\"{push}/undo\"")), "{page}");
        let undo = format!("{push}/undo");
        let plan = body(&web, "admin", &undo).await;
        assert!(plan.contains("Restore 1 server") && plan.contains("value=\"web-1\""), "{plan}");
        let wrong = post("admin", &undo, "server=web-2&reason=back").await;
        assert_eq!(wrong.0, StatusCode::CONFLICT, "it is of another push");
        assert_eq!(post("deployer", &undo, "server=web-1&reason=back").await.0, StatusCode::FORBIDDEN);
        assert_eq!(web.refresher.bucket().document_object(&names[0]).await.unwrap(), None);
        let (status, place) = post("admin", &undo, "server=web-1&reason=back").await;
        assert_eq!((status, place.is_some()), (StatusCode::SEE_OTHER, true));
        let restored = web.refresher.bucket().document_object(&names[0]).await.unwrap().unwrap();
        assert_eq!(restored.content, before[0]);
        let page = body(&web, "viewer", &place.unwrap()).await;
        assert!(page.contains(&format!("of push <a href=\"{push}\"")) && page.contains("back"), "{page}");
        assert!(body(&web, "admin", &undo).await.contains("none of its servers is retired"));
        assert!(!body(&web, "admin", &push).await.contains(&undo), "there is nothing left to undo");
        // By a program, both at once.
        let answer =
            send(&web, "admin", Method::POST, "/api/v1/retirements", r#"{"servers":["web-1","web-2"]}"#.into());
        let bytes = axum::body::to_bytes(answer.await.into_body(), 1 << 20).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let id = said["push"].as_str().unwrap();
        assert_eq!(post("admin", &format!("/api/v1/pushes/{id}/undo"), "{}").await.0, StatusCode::CONFLICT);
        let place = format!("/api/v1/retirements/{id}/undo");
        assert_eq!(post("deployer", &place, "{}").await.0, StatusCode::FORBIDDEN);
        assert_eq!(post("admin", &place, "{}").await.0, StatusCode::OK);
        for (name, before) in names.iter().zip(&before) {
            let restored = web.refresher.bucket().document_object(name).await.unwrap().unwrap();
            assert_eq!(restored.content, *before, "{name}");
        }
        assert_eq!(post("admin", &place, "{}").await.0, StatusCode::CONFLICT, "it is undone already");
    }
}
