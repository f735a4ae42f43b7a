//! The part of a plan that says how it goes out: in the waves that the policy asks for, in others, or all at once.

use std::{collections::BTreeSet, time::Duration};

use bucket::{AppName, ServerName};
use console::{count, duration::show};
use fleet::{
    policy::{Reason, Refusal, Way},
    rollout::plan::Division,
    wish::{Said, usual},
};
use maud::{Markup, html};

use super::Planned;
use crate::web::{
    parts::{foreign, prose, server_link},
    view::View,
    waves::divided,
};

/// Most servers of a wave that are named.
const NAMED: usize = 12;

/// How a deploy of an app to these servers goes out, and the boxes that say otherwise. They are folded away until that is wanted
/// or the policy asks for waves. So many `others` are written too if somebody ticks the box that they need.
pub(super) fn in_waves(view: &View, app: &AppName, going: &[&Planned], others: usize) -> Markup {
    let meant = going.iter().filter(|planned| planned.is_meant());
    let servers: Vec<&ServerName> = meant.map(|planned| &planned.server).collect();
    let way = view.policy.way(&view.who, app, &servers, Reason::NotAskedYet, &Said::default());
    let usual = Wanted::of(&way);
    let settings = [
        ("settle", "Must stay converged for", usual.settle.as_str()),
        ("stop_at", "Stop when so many servers fail", &usual.stop_at),
        ("enough", "Enough of a large wave", &format!("{}%", usual::ENOUGH)),
        ("within", "Stop when a wave takes longer than", &show(usual::WITHIN)),
        ("max_down", "Out of a group at a time, at most", "25%"),
        ("pause_after", "Wait for a verdict after waves", ""),
    ];
    html! {
        details.waves open[!matches!(way, Ok(Way::AtOnce { .. }))] {
            summary { "In waves" }
            p.help {
                "A wave is written when enough servers of the one before have reported that they run the release, and have stayed so. "
                "It stops by itself when servers fail."
            }
            (asked(view, app, &servers.into_iter().collect(), &way))
            @if others > 0 && matches!(way, Ok(Way::Waves { .. })) {
                p.help {
                    (count(others, "more server")) " if a box above is ticked: " strong { "Show waves" } " divides what is ticked."
                }
            }
            label for="waves" { "Waves" }
            input #waves type="text" name="waves" placeholder=(usual.waves) autocomplete="off" spellcheck="false" aria-describedby="waves-help";
            p #waves-help.help {
                "Numbers, shares, servers (" code { "web-1+web-2" } "), filters (" code { "group:canary" } "), and " code { "rest" } ". "
                @match &way {
                    Ok(Way::AtOnce { .. }) => "If it is empty, all servers are written at once.",
                    _ => { code { "all" } " writes all servers at once, which takes the role " code { "admin" } " and a reason." }
                }
            }
            div.fields {
                @for (name, text, usual) in settings {
                    div {
                        label for=(name) { (text) }
                        input id=(name) type="text" name=(name) placeholder=(usual) autocomplete="off";
                    }
                }
            }
            p.confirm {
                input #undo_on_stop type="checkbox" name="undo_on_stop" value="yes";
                " " label for="undo_on_stop" { "Undo what was written when it stops by itself" }
            }
        }
    }
}

/// What happens where a box is left empty.
struct Wanted {
    waves: String,
    settle: String,
    stop_at: String,
}

impl Wanted {
    fn of(way: &Result<Way, Refusal>) -> Self {
        let (waves, settle, stop_at) = match way {
            Ok(Way::Waves { wish, .. }) => {
                let settle = Duration::from_secs(wish.rules.settle_seconds);
                (wish.waves.to_string(), settle, wish.rules.stop_at)
            }
            _ => ("1,10%,rest".to_owned(), usual::SETTLE, usual::STOP_AT),
        };
        Self { waves, settle: show(settle), stop_at: stop_at.to_string() }
    }
}

/// What the policy asks for, and how the servers are divided then.
fn asked(view: &View, app: &AppName, servers: &BTreeSet<&ServerName>, way: &Result<Way, Refusal>) -> Markup {
    html! {
        @match way {
            Ok(Way::Waves { wish, asked_for: Some(why) }) => {
                p.banner.notice { (prose(why)) ": " code { (wish.waves) } ". It goes out so unless you say other waves here." }
                @match divided(view, app, servers, wish) {
                    Ok(division) => (table(&division)),
                    Err(error) => p.banner.bad { (prose(&error.to_string())) },
                }
            }
            Ok(_) => {}
            Err(error) => p.banner.notice { (prose(&error.to_string())) },
        }
    }
}

/// How servers are divided, which don't report, and which are out already.
pub(crate) fn table(division: &Division) -> Markup {
    let silent: Vec<&ServerName> = division.silent().collect();
    html! {
        table.rows {
            thead { tr { th scope="col" { "Wave" } th scope="col" { "Count" } th scope="col" { "Servers" } } }
            tbody {
                @for (at, wave) in division.waves.iter().enumerate() {
                    tr {
                        th scope="row" data-label="Wave" { (at + 1) " " span.tag { (foreign(&wave.what, 60)) } }
                        td data-label="Count" { (wave.rows.len()) }
                        td.wide data-label="Servers" { (named(&wave.rows.iter().map(|row| &row.server).collect::<Vec<_>>())) }
                    }
                }
            }
        }
        ul.facts {
            @if !silent.is_empty() {
                li { (count(silent.len(), "server")) " not reporting, in the last wave and counted for nothing: " (named(&silent)) }
            }
            @for (budget, out) in division.budgets() {
                li {
                    @match &budget.group { Some(group) => { "Group " (foreign(group, 60)) }, None => "Servers in no group" }
                    ": at most " (budget.allowed) " of " (budget.servers.len()) " out at a time"
                    @if !out.is_empty() { ", " (out.len()) " out already: " (named(&out)) }
                    @if out.len() >= budget.allowed && out.len() < budget.servers.len() {
                        ". Others wait until fewer are: allow more to be out, or see to these first"
                    }
                    "."
                }
            }
        }
    }
}

fn named(servers: &[&ServerName]) -> Markup {
    html! {
        @for (n, server) in servers.iter().take(NAMED).enumerate() { @if n > 0 { ", " } (server_link(server.as_str())) }
        @if servers.len() > NAMED { " and " (servers.len() - NAMED) " more" }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode, header};
    use serde_json::json;

    use crate::web::testing::{body, release_of, rules, send, server, server_without_web, web};

    #[tokio::test]
    async fn a_plan_says_the_waves_that_are_asked_for_and_goes_out_in_them() {
        let (directory, web) = web().await;
        rules(directory.path(), "Groups: { prod: { Servers: ['web-*'], Waves: '1,rest', StopAt: 2 } }");
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2", "db-1"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let plan = async |q: &str| body(&web, "deployer", &format!("/plan?release={}&{q}", new.stem())).await;
        let page = plan("q=app:web").await;
        for expected in ["<details class=\"waves\" open>", "asks for these waves for group", "<code>1,rest</code>"] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(page.contains("name=\"stop_at\" placeholder=\"2\"") && page.contains("<code>all</code>"), "{page}");
        // Of a server that must be confirmed first it is the same: nobody has to show them to see that.
        server_without_web(&web, "web-9").await;
        web.refresher.refresh().await;
        let page = plan("server=web-9").await;
        assert!(page.contains("asks for these waves for group") && page.contains("href=\"/servers/web-9\""), "{page}");
        assert!(plan("q=app:web&server=web-9").await.contains("1 more server if a box above is ticked"));
        let page = plan("server=db-1").await;
        assert!(
            page.contains("<details class=\"waves\"><summary>") && page.contains("all servers are written at once")
        );
        let form = |who: &str, pairs: &[(&str, &str)]| {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            let targets = ["web-1", "web-2"].map(|name| format!("{name} {} {}", old.stem(), new.stem()));
            form.append_pair("kind", "deploy").extend_pairs(targets.iter().map(|target| ("target", target)));
            (who.to_owned(), form.extend_pairs(pairs).finish())
        };
        let post = async |(who, form): (String, String)| send(&web, &who, Method::POST, "/push", form).await;
        let desired = async |name: &str| {
            let (_, document) = web.refresher.bucket().server_document(&name.parse().unwrap()).await.unwrap().unwrap();
            document.releases().next().cloned()
        };
        assert!(plan("q=app:web").await.contains("at most 1 of 2 out at a time"));
        // What is shown before it is sent is what is then written down, and the form comes back as it was.
        let shown = async |pairs: &[(&str, &str)]| {
            let answer = send(&web, "deployer", Method::POST, "/plan/waves", form("deployer", pairs).1).await;
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let page = shown(&[("waves", "web-2,rest"), ("reason", "to \"see\"")]).await;
        let (first, second) =
            (page.find("<span class=\"tag\"><bdi>web-2</bdi>").unwrap(), page.find("<bdi>rest</bdi>").unwrap());
        assert!(
            page[first..second].contains("href=\"/servers/web-2\"") && !page[first..second].contains("/servers/web-1")
        );
        assert!(page.contains("name=\"waves\" value=\"web-2,rest\"") && page.contains("to &quot;see&quot;"), "{page}");
        assert!(shown(&[("waves", "web-1")]).await.contains("leave out 1 of the servers"));
        assert_eq!(desired("web-1").await, Some(old.clone()));
        // Only an admin sets them aside, and says why.
        for (who, pairs) in
            [("deployer", vec![("waves", "all"), ("reason", "down")]), ("admin", vec![("waves", "all")])]
        {
            assert_eq!(post(form(who, &pairs)).await.status(), StatusCode::FORBIDDEN, "{who}");
        }
        let answer = post(form("deployer", &[])).await;
        let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let page = body(&web, "viewer", &place).await;
        assert!(page.contains("wave 1 of 2") && page.contains("It stops when 2 servers"), "{page}");
        assert_eq!(desired("web-2").await, Some(old.clone()));
        let stop =
            send(&web, "deployer", Method::POST, &format!("{place}/rollout"), "decision=abandon".to_owned()).await;
        assert_eq!(stop.status(), StatusCode::SEE_OTHER);
        let answer = post(form("admin", &[("waves", "all"), ("reason", "the site is down")])).await;
        let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!(desired("web-2").await, Some(new.clone()));
        for path in [place.as_str(), "/history", "/history?server=web-2"] {
            let page = body(&web, "viewer", path).await;
            assert!(page.contains("all at once"), "{path}: {page}");
        }
        // A program gets the same.
        let row = json!({ "server": "web-1", "from": new.stem(), "to": old.stem() });
        let push = |more: serde_json::Value| {
            let mut push = json!({ "kind": "deploy", "rows": [row.clone()] });
            push.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            push.to_string()
        };
        let post = async |body: String| send(&web, "deployer", Method::POST, "/api/v1/pushes", body).await.status();
        assert_eq!(post(push(json!({ "waves": "all", "reason": "why" }))).await, StatusCode::FORBIDDEN);
        assert_eq!(post(push(json!({}))).await, StatusCode::ACCEPTED);
    }
}
