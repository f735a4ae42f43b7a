//! How a plan is drawn: what changes, with a box to take each row out; what can't be; and, folded, what stays.

use bucket::{PushKind, Release, ServerName};
use console::{count, size};
use fleet::plan::{Objection, Proposal, Warning, is_new};
use maud::{Markup, html};

use super::{Part, Planned, Wanted, waves::in_waves};
use crate::{
    badge::Severity,
    web::{
        compare::compare_link,
        pages::apps::not_latest,
        parts::{badge, foreign, prose, release, release_or, server_link},
        targets::Targets,
        view::View,
    },
};

/// Units of a row that are named.
const UNITS: usize = 4;

/// The plan, and the form that carries it out.
pub(super) fn page(view: &View, wanted: &Wanted, targets: &Targets, planned: &[Planned], reason: &str) -> Markup {
    let of = |part: Part| planned.iter().filter(|planned| planned.part() == part).collect::<Vec<_>>();
    let (going, installing, held) = (of(Part::Change), of(Part::Install), of(Part::Held));
    let changing = going.len() + installing.len() + held.len();
    html! {
        h1 { (title(wanted)) (servers(targets, changing)) }
        @if let Wanted::Release(chosen) = wanted { (chosen_release(view, chosen)) }
        @if changing == 0 {
            (others(&of(Part::Impossible), &of(Part::Same)))
            p.lead { "No changes to push." }
            p { a.button href="/servers" { "Servers" } }
        } @else {
            form.push method="post" action="/push" {
                input type="hidden" name="kind" value=(wanted.kind());
                @if !going.is_empty() {
                    h2 { (changes(wanted, &going)) }
                    (table(view, &going, "target"))
                }
                @if !installing.is_empty() {
                    h2 { (wanted.app()) " is not installed there yet: " (count(installing.len(), "server")) }
                    (table(view, &installing, "install_target"))
                }
                @if !held.is_empty() {
                    h2 { "On hold by you: " (count(held.len(), "server")) }
                    (table(view, &held, "held_target"))
                }
                (others(&of(Part::Impossible), &of(Part::Same)))
                (confirmation(view, wanted, targets, (&going, &installing, &held), reason))
            }
        }
    }
}

fn title(wanted: &Wanted) -> Markup {
    html! {
        @match wanted {
            Wanted::Rollback(app) => { "Roll back " (app) " on " },
            Wanted::Retry(app) => { "Retry " (app) " on " },
            Wanted::Remove(app) => { "Remove " (app) " from " },
            Wanted::Release(release) => { "Push " (release.name.app()) " to " },
        }
    }
}

/// Which servers, or how many of them change.
fn servers(targets: &Targets, changing: usize) -> String {
    if changing == 0 || changing == targets.len() {
        return targets.summary();
    }
    format!("{changing} of {}", count(targets.len(), "server"))
}

/// How many rows change, how many of them restart something, and what that downloads in all.
fn changes(wanted: &Wanted, going: &[&Planned]) -> String {
    let downloads = going.iter().filter_map(|planned| planned.proposal.as_ref().ok()?.download);
    let bytes: u64 = downloads.fold(0, u64::saturating_add);
    let verb = match (wanted.kind(), going.len()) {
        (PushKind::Retry, 1) => " tries again",
        (PushKind::Retry, _) => " try again",
        (_, 1) => " changes",
        _ => " change",
    };
    let restarts = |planned: &&&Planned| planned.proposal.as_ref().is_ok_and(|proposal| !proposal.restarts.is_empty());
    let restarting = match going.iter().filter(restarts).count() {
        0 => String::new(),
        1 => ", 1 restarts units".to_owned(),
        more => format!(", {more} restart units"),
    };
    let changes = count(going.len(), "server") + verb + &restarting;
    if bytes == 0 { changes } else { format!("{changes}; {} are downloaded in all", size(bytes)) }
}

fn chosen_release(view: &View, chosen: &Release) -> Markup {
    let releases = view.snapshot.apps.get(chosen.name.app());
    html! {
        p.lead {
            (release(&chosen.name))
            @if let Ok(facts) = &chosen.metadata {
                @if facts.dirty { " " (badge(Severity::Notice, "±", "dirty")) }
                @if !facts.note.is_empty() { " — " span.note { (prose(&facts.note)) } }
            }
            @if let Some(releases) = releases { (not_latest(releases, &chosen.name)) }
        }
    }
}

/// Rows that can be taken out one by one; those that are ticked are sent as `field`.
pub(crate) fn table(view: &View, rows: &[&Planned], field: &str) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { span.hidden { "Include" } } th scope="col" { "Server" }
                    th scope="col" { "From → to" } th scope="col" { "Download" } th scope="col" { "Restarts" }
                    th scope="col" { "Notes" }
                }
            }
            tbody { @for planned in rows { (row(view, planned, field)) } }
        }
    }
}

fn row(view: &View, planned: &Planned, field: &str) -> Markup {
    let name = planned.server.as_str();
    html! {
        @if let (Ok(proposal), Some(target)) = (&planned.proposal, planned.target()) {
            tr {
                td.tick { input type="checkbox" name=(field) value=(target) checked[planned.is_meant()] aria-label={ "Include " (name) }; }
                th scope="row" data-label="Server" { (server_link(name)) }
                td.wide data-label="From → to" {
                    @if proposal.from != proposal.to { (release_or(proposal.from.as_ref(), "nothing")) " → " }
                    (release_or(proposal.to.as_ref(), "nothing"))
                    (compare_link(view, proposal.from.as_ref(), proposal.to.as_ref()))
                }
                td.size data-label="Download" {
                    @match proposal.download {
                        _ if proposal.to.is_none() => span.none { "nothing" },
                        Some(0) => span.none { "nothing: already there" },
                        Some(bytes) => (size(bytes)),
                        None => span.none { "unknown" },
                    }
                }
                td.wide data-label="Restarts" { (restarts(proposal)) }
                td.wide data-label="Notes" { (notes(planned, proposal)) }
            }
        }
    }
}

fn restarts(proposal: &Proposal) -> Markup {
    let units = proposal.restarts.as_slice();
    html! {
        @if units.is_empty() { span.none { "none" } }
        @for (n, unit) in units.iter().take(UNITS).enumerate() {
            @if n > 0 { ", " } span.unit { (foreign(unit, 100)) }
        }
        @if units.len() > UNITS { " and " (count(units.len() - UNITS, "more unit")) }
    }
}

fn notes(planned: &Planned, proposal: &Proposal) -> Markup {
    let objection = proposal.objection.iter().map(Objection::to_string);
    let texts: Vec<String> =
        planned.held.iter().cloned().chain(objection).chain(proposal.warnings.iter().map(Warning::to_string)).collect();
    html! {
        @if !texts.is_empty() {
            ul.warnings { @for text in texts { li { span.symbol aria-hidden="true" { "▲" } " " (prose(&text)) } } }
        }
    }
}

/// What isn't written: why some can't be, and, folded, where there is nothing to do.
pub(crate) fn others(impossible: &[&Planned], same: &[&Planned]) -> Markup {
    html! {
        @if !impossible.is_empty() {
            h2 { "Left out: " (count(impossible.len(), "server")) }
            table.rows {
                thead { tr { th scope="col" { "Server" } th scope="col" { "Reason" } } }
                tbody {
                    @for planned in impossible {
                        tr {
                            th scope="row" data-label="Server" { (server_link(planned.server.as_str())) }
                            td.wide data-label="Reason" { (why_not(planned)) }
                        }
                    }
                }
            }
        }
        @if !same.is_empty() {
            details {
                summary { "No change: " (count(same.len(), "server")) }
                ul.chips { @for planned in same { li { (server_link(planned.server.as_str())) } } }
            }
        }
    }
}

fn why_not(planned: &Planned) -> Markup {
    html! {
        @match (&planned.proposal, &planned.refusal) {
            (Err(error), _) => { (badge(Severity::Bad, "✗", "not possible")) p.reason { (prose(error)) } },
            (Ok(_), Some(refusal)) => { (badge(Severity::Bad, "⊘", "not allowed")) p.reason { (prose(refusal)) } },
            (Ok(_), None) => {}
        }
    }
}

/// What has to be said before it is done, and the button.
fn confirmation(
    view: &View,
    wanted: &Wanted,
    targets: &Targets,
    (going, installing, held): (&[&Planned], &[&Planned], &[&Planned]),
    reason: &str,
) -> Markup {
    let needs_reason =
        going.iter().chain(installing).chain(held).any(|planned| view.policy.requires_reason(&planned.server));
    let (verb, preposition) = match wanted.kind() {
        PushKind::Rollback => ("Roll back", " on "),
        PushKind::Retry => ("Retry", " on "),
        PushKind::Remove => ("Remove", " from "),
        _ => ("Push", " to "),
    };
    html! {
        label for="reason" { "Reason" @if !needs_reason { " (optional)" } }
        input #reason type="text" name="reason" value=(reason) maxlength="500" autocomplete="off" required[needs_reason]
            aria-describedby="reason-help";
        p #reason-help.help {
            "Recorded in the history."
            @if needs_reason { " A group of these servers requires a reason for every push." }
        }
        @let new: Vec<&str> = going.iter().map(|planned| &planned.server).filter(|name| is_new(&view.server(name)))
            .map(ServerName::as_str).collect();
        @if !new.is_empty() {
            p.confirm {
                input #new_servers type="checkbox" name="new_servers" value="yes" required;
                " " label for="new_servers" {
                    @if let [one] = new.as_slice() {
                        code { (one) } " does not exist yet. Create a new server with this name."
                    } @else {
                        (new.join(", ")) " do not exist yet. Create new servers with these names."
                    }
                }
            }
        }
        @if !installing.is_empty() {
            @let all = installing.len();
            p.confirm {
                input #install type="checkbox" name="install" value="yes" required[going.is_empty() && held.is_empty()];
                " " label for="install" {
                    (if going.is_empty() { "Install on " } else { "Also install on " }) (count(all, "server"))
                    " that " (if all == 1 { "does" } else { "do" })
                    " not have " code { (wanted.app()) } " yet."
                }
            }
        }
        @if !held.is_empty() { (held_box(held, going.is_empty() && installing.is_empty())) }
        @let first = [going, installing, held].into_iter().find(|rows| !rows.is_empty()).unwrap_or_default();
        @if let Wanted::Release(_) = wanted {
            @let others = going.len() + installing.len() + held.len() - first.len();
            (in_waves(view, wanted.app(), first, others))
        }
        div.actions {
            @let named = first.len();
            button.primary type="submit" {
                (verb) " " (wanted.app()) (preposition)
                // Without JavaScript nobody counts the boxes that are ticked.
                span data-ticked { @if named == 1 { "1 server" } @else { "the selected servers" } }
            }
            " "
            // Not the first button of the form, which Return in a box presses.
            @if let Wanted::Release(_) = wanted { button type="submit" formaction="/plan/waves" { "Show waves" } " " }
            a.button href=(back(wanted, targets)) { "Cancel" }
        }
    }
}

/// The box by which an operator pushes to servers that they have put on hold themselves.
pub(crate) fn held_box(held: &[&Planned], are_all: bool) -> Markup {
    html! {
        p.confirm {
            input #held type="checkbox" name="held" value="yes" required[are_all];
            " " label for="held" {
                (if are_all { "Push to " } else { "Also push to " }) (count(held.len(), "server")) " that you have put on hold."
            }
        }
    }
}

fn back(wanted: &Wanted, targets: &Targets) -> String {
    match targets.names().next() {
        Some(name) if targets.len() == 1 => format!("/servers/{name}"),
        _ => format!("/apps/{}", wanted.app()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode, header};
    use futures_util::StreamExt as _;

    use crate::web::{
        form::intents,
        params::Params,
        routes::MAX_BODY,
        testing::{body, release_of, send, server, web},
    };

    /// The values of the boxes of a form that are ticked.
    fn ticked(page: &str) -> Vec<String> {
        let boxes = page.split("<input type=\"checkbox\" name=\"target\" value=\"").skip(1);
        boxes.filter_map(|rest| rest.split_once("\" checked")).map(|(value, _)| value.to_owned()).collect()
    }

    #[tokio::test]
    async fn rows_can_be_taken_out_and_say_what_they_do() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        server(&web, "web-2", Some(&old), "failed", "quarantined").await;
        server(&web, "web-3", Some(&new), "converged", "converged").await;
        let page = body(&web, "deployer", &format!("/plan?release={}&q=app:web", new.stem())).await;
        let start = page.find("<h1>").unwrap();
        assert!(page[start..].starts_with("<h1>Push web to 2 of 3 servers</h1>"), "{}", &page[start..start + 200]);
        assert!(page.contains("<h2>2 servers change, 2 restart units; 18 B are downloaded in all</h2>"), "{page}");
        assert!(page.contains("9 B</td>") && page.contains("<bdi>web.service</bdi>"), "{page}");
        // What stays is folded, and below what changes.
        let (folded, row) = (page.find("<summary>No change: 1 server</summary>"), page.find("value=\"web-2 "));
        assert!(folded.unwrap() > row.unwrap());
        let rows = ticked(&page);
        assert_eq!(rows, [1, 2].map(|n| format!("web-{n} {} {}", old.stem(), new.stem())));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("kind", "deploy"), ("target", &*rows[1])])
            .finish();
        let answer = send(&web, "deployer", Method::POST, "/push", form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert!(answer.headers()[header::LOCATION].to_str().unwrap().starts_with("/pushes/"));
        let desired = async |name: &str| {
            let (_, document) = web.refresher.bucket().server_document(&name.parse().unwrap()).await.unwrap().unwrap();
            document.release_of(&"web".parse().unwrap()).cloned()
        };
        assert_eq!((desired("web-1").await, desired("web-2").await), (Some(old.clone()), Some(new)));
        // Whoever goes on to what did not stay up there is told.
        let page = body(&web, "deployer", &format!("/plan?release={}&server=web-2", old.stem())).await;
        assert!(page.contains("this release was rolled back on this server"), "{page}");
    }

    #[tokio::test]
    async fn a_plan_is_carried_out_in_waves_if_the_form_says_so() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2", "web-3"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let page = body(&web, "deployer", &format!("/plan?release={}&q=app:web", new.stem())).await;
        assert!(page.contains("<details class=\"waves\"><summary>In waves</summary>"), "{page}");
        assert!(!body(&web, "deployer", "/plan?retry=web&server=web-1").await.contains("In waves"));
        let form = |waves: &str| {
            let rows = ticked(&page);
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("kind", "deploy").extend_pairs(rows.iter().map(|row| ("target", row)));
            form.extend_pairs([("waves", waves), ("settle", ""), ("stop_at", "2"), ("undo_on_stop", "yes")]).finish()
        };
        let post = async |form: String| send(&web, "deployer", Method::POST, "/push", form).await;
        assert_eq!(post(form("rest,1")).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(post(form("1")).await.status(), StatusCode::CONFLICT);
        let answer = post(form("1,rest")).await;
        let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let shown = body(&web, "deployer", &place).await;
        for expected in
            ["It stops when 2 servers have failed", "it then restores what ran before", "Writing web-1", "rest"]
        {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        // Nothing is written but what is carried on from now on, and nobody's older plan.
        let (_, document) = web.refresher.bucket().server_document(&"web-1".parse().unwrap()).await.unwrap().unwrap();
        assert!(document.releases().eq([&old]));
        server(&web, "web-9", Some(&new), "converged", "converged").await;
        let stale = form("1,rest").replace("web-1+", "web-9+");
        assert_eq!(post(stale).await.status(), StatusCode::CONFLICT);
    }

    #[tokio::test]
    async fn what_failed_is_tried_again_from_where_it_is_seen() {
        let (_directory, web) = web().await;
        let release = release_of(&web, 7).await;
        server(&web, "web-1", Some(&release), "failed", "quarantined").await;
        server(&web, "web-2", Some(&release), "converged", "converged").await;
        server(&web, "web-3", Some(&release), "degraded", "degraded").await;
        server(&web, "web-4", Some(&release), "failed", "refused").await;
        web.refresher.refresh().await;
        let retry = "href=\"/plan?retry=web&amp;server=";
        for (name, offered) in [("web-1", true), ("web-2", false), ("web-3", true), ("web-4", false)] {
            assert_eq!(body(&web, "deployer", &format!("/servers/{name}")).await.contains(retry), offered, "{name}");
            assert!(!body(&web, "viewer", &format!("/servers/{name}")).await.contains(retry), "{name}");
        }
        let app = body(&web, "deployer", "/apps/web").await;
        assert_eq!(app.matches(retry).count(), 2, "{app}");
        assert!(app.contains("href=\"/plan?retry=web&amp;q=app%3Aweb+state%3Afailed\""), "{app}");

        // Of those that were found, only what can be tried again is in the plan by itself.
        let page = body(&web, "deployer", "/plan?retry=web&q=app:web").await;
        assert!(page.contains("<h1>Retry web on 4 servers</h1>") && page.contains("same release, retried"), "{page}");
        assert_eq!(ticked(&page), [1, 3].map(|n| format!("web-{n} {0} {0}", release.stem())));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("kind", "retry"), ("target", &*ticked(&page)[0])])
            .finish();
        assert_eq!(send(&web, "deployer", Method::POST, "/push", form).await.status(), StatusCode::SEE_OTHER);
        let retries = async |name: &str| {
            let (_, document) = web.refresher.bucket().server_document(&name.parse().unwrap()).await.unwrap().unwrap();
            assert!(document.releases().eq([&release]));
            document.metadata().retries().len()
        };
        assert_eq!((retries("web-1").await, retries("web-3").await), (1, 0));
        let again =
            |server: &str| format!(r#"{{"app": "web", "servers": ["{server}"], "reason": "there is room now"}}"#);
        let answer = send(&web, "deployer", Method::POST, "/api/v1/retry", again("web-3")).await;
        assert_eq!((answer.status(), retries("web-3").await), (StatusCode::OK, 1));
        let answer = send(&web, "deployer", Method::POST, "/api/v1/retry", again("web-9")).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
    }

    #[tokio::test]
    async fn an_app_is_taken_off_a_server_from_its_page() {
        let (_directory, web) = web().await;
        let release = release_of(&web, 7).await;
        server(&web, "web-1", Some(&release), "converged", "converged").await;
        let path = "/plan?remove=web&server=web-1";
        assert!(body(&web, "deployer", "/servers/web-1").await.contains(&path.replace('&', "&amp;")));
        assert!(!body(&web, "viewer", "/servers/web-1").await.contains("remove=web"));
        let page = body(&web, "deployer", path).await;
        assert!(page.contains("<h1>Remove web from web-1</h1>") && page.contains("stays installed"), "{page}");
        assert_eq!(ticked(&page), [format!("web-1 {} -", release.stem())]);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("kind", "remove"), ("target", &*ticked(&page)[0])])
            .finish();
        assert_eq!(send(&web, "deployer", Method::POST, "/push", form).await.status(), StatusCode::SEE_OTHER);
        let (_, document) = web.refresher.bucket().server_document(&"web-1".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(document.releases().count(), 0);
    }

    #[tokio::test]
    async fn a_plan_for_two_thousand_servers_is_whole_and_can_be_sent() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        let bucket = web.refresher.bucket();
        let document = bucket::ServerDocument::parse(format!("[\"{old}\"]").as_bytes()).unwrap();
        let write = async |n: usize| {
            let name = format!("web-{n:04}").parse().unwrap();
            bucket.write_server_document(&name, &document, None).await.unwrap();
        };
        futures_util::stream::iter(0..2000).map(write).buffer_unordered(32).collect::<Vec<()>>().await;
        web.refresher.refresh().await;
        let page = body(&web, "deployer", &format!("/plan?release={}&q=app:web", new.stem())).await;
        assert_eq!(ticked(&page).len(), 2000);
        let form = ticked(&page).iter().fold(String::from("kind=deploy"), |form, row| {
            let row: String = url::form_urlencoded::byte_serialize(row.as_bytes()).collect();
            form + "&target=" + &row
        });
        assert!(form.len() < MAX_BODY);
        assert_eq!(intents(&Params::parse(form.as_bytes())).unwrap().len(), 2000);
    }
}
