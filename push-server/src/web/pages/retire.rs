//! Retiring a server: what that means, and the form that does it.

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{AppName, HistoryEntry, ReleaseName, ServerName};
use fleet::{
    operation::Operator,
    poke::PokeSettings,
    policy::{Reason, Refusal},
    retire::retire,
    server::Server,
};
use maud::{Markup, html};

use crate::web::{
    params::Params,
    parts::{app_link, prose, reason_input, release, server_link},
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
    if reason.len() > HistoryEntry::MAX_WHY {
        let text = format!("The reason must have at most {} bytes.", HistoryEntry::MAX_WHY);
        return view.problem(StatusCode::BAD_REQUEST, "Nothing was written", &text);
    }
    let operator = Operator {
        held: false,
        who: view.who.clone(),
        reason: reason.to_owned(),
        policy: view.policy.clone(),
        poke: PokeSettings::None,
    };
    let rows = retire(view.web.refresher.bucket(), &operator, vec![name.clone()]).await;
    view.web.refresher.refresh_server(&name).await;
    match rows.into_iter().find_map(|row| row.result.err()) {
        Some(why) => view.problem(StatusCode::CONFLICT, "Nothing was written", &why.to_string()),
        None => Redirect::to(&format!("/history?server={name}")).into_response(),
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
}
