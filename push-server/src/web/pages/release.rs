//! One release: what is known of it, where it is, and whether it is rejected.

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{MadeBy, ReleaseName, ServerName};
use console::{count, size};
use maud::{Markup, html};

use crate::{
    badge::Severity,
    snapshot::Listed,
    web::{
        guards::{self, NotDecided, having, may_reject_it},
        pages::apps::not_latest,
        params::{Params, link},
        parts::{ago, app_link, badge, foreign, prose, reason_input, release_address},
        runs,
        view::{Nav, View},
    },
};

/// `GET /releases/{release}`.
pub(crate) async fn get(view: View, Path(stem): Path<String>) -> Response {
    let found = ReleaseName::from_stem(&stem).ok().filter(|name| {
        let listed = view.snapshot.apps.get(name.app()).is_some_and(|releases| releases.get(name).is_some());
        listed || view.snapshot.rejected.contains(name)
    });
    let Some(name) = found else {
        let text = "No release has this name. It may have been removed from the bucket.";
        return view.problem(StatusCode::NOT_FOUND, "Release not found", text);
    };
    let (rejected, made_by) = (rejection(&view, &name).await, made_by(&view, &name).await);
    let releases = view.snapshot.apps.get(name.app());
    let listed = releases.and_then(|releases| releases.get(&name));
    let content = html! {
        header.title {
            h1 { (app_link(name.app().as_str())) " " code { (name.commit().short()) } }
            @if listed.as_ref().is_some_and(|listed| listed.dirty) { (badge(Severity::Notice, "±", "dirty")) }
            @if rejected.is_some() { (badge(Severity::Bad, "⊘", "rejected")) }
        }
        @match &listed {
            Some(listed) => (facts(&view, listed)),
            None => p.lead { "This release is gone from the bucket." },
        }
        (made_by)
        @if let Some(releases) = releases { p.facts { (not_latest(releases, &name)) } }
        div #where data-live { (servers(&view, &name)) }
        (decision(&view, &name, rejected))
    };
    view.page(&format!("{} {}", name.app(), name.commit().short()), Nav::Apps, &content)
}

fn facts(view: &View, listed: &Listed) -> Markup {
    let name = &listed.name;
    html! {
        @if !listed.note.is_empty() { p.lead { (prose(listed.note)) } }
        p.facts {
            "Built by " (foreign(name.user(), 60)) " on " (foreign(name.host(), 60)) ", uploaded " (ago(listed.uploaded, view.now))
            " · " (size(listed.size))
            @if !listed.branch.is_empty() { " · branch " span.tag { (foreign(listed.branch, 60)) } }
            @if let Some(href) = view.policy.links().commit(listed.repo, listed.commit().as_str()) {
                " · " a rel="noreferrer" href=(href) { "commit" }
            }
        }
        @if let Some(promoted) = listed.promoted {
            p.facts {
                @let said = promoted.to_string();
                @match view.policy.links().change(&promoted.change) {
                    Some(href) => { "Promoted: " a rel="noreferrer" href=(href) { (said) } },
                    None => (said),
                }
                ", which landed as " code { (promoted.landed.short()) }
            }
        }
        p.facts { code { (name.stem()) } }
        @if let Some(reason) = listed.unusable { p.banner.bad { "Cannot be deployed: " (prose(reason)) } }
    }
}

/// Which stage of which run made it, if one did.
async fn made_by(view: &View, name: &ReleaseName) -> Markup {
    let read = view.web.refresher.bucket().release(name).await;
    let made_by = read.map(|release| release.and_then(|release| release.metadata.ok()?.made_by));
    html! {
        @match made_by {
            Ok(Some(MadeBy { pipeline, stage, run })) => p.facts {
                "Made by a " a href=(runs::address(&run)) { "run of " (run.project()) } ", pipeline " (pipeline) ", stage " (stage)
            },
            Ok(None) => {},
            Err(error) => p.facts { "Whether a run made it cannot be read: " (prose(&error.to_string())) },
        }
    }
}

fn servers(view: &View, name: &ReleaseName) -> Markup {
    let having = having(view, name).len();
    let filter = format!("app:{} release:{}", name.app(), name.stem());
    html! {
        p {
            @if having == 0 { "No server has it." }
            @else { "On " a href=(link("/servers", [("q", filter.as_str())])) { (count(having, "server")) } "." }
        }
    }
}

/// That it is rejected, by whom and why.
async fn rejection(view: &View, name: &ReleaseName) -> Option<Markup> {
    if !view.snapshot.rejected.contains(name) {
        return None;
    }
    let read = view.web.refresher.bucket().rejection(name).await;
    Some(html! {
        div.banner.bad {
            strong { "Nobody may push this release. " }
            @match read {
                Ok(Some((_, rejection))) => {
                    "Rejected by " (foreign(&rejection.by, 80)) ", " (ago(rejection.at, view.now)) "."
                    span.detail { (prose(&rejection.why)) }
                },
                Ok(None) => "It is no longer rejected since a moment ago.",
                Err(error) => span.detail { (prose(&error.to_string())) },
            }
        }
    })
}

/// The form by which it is rejected, or that is taken back.
fn decision(view: &View, name: &ReleaseName, rejected: Option<Markup>) -> Markup {
    let address = release_address(name);
    let may = may_reject_it(view, name);
    html! {
        @match (rejected, may) {
            (Some(rejected), Ok(())) => {
                (rejected)
                form.push method="post" action={ (address) "/unreject" } { button type="submit" { "Take back the rejection" } }
            },
            (Some(rejected), Err(error)) => { (rejected) p.facts { (prose(&error.to_string())) } },
            (None, Ok(())) => {
                section aria-labelledby="reject-title" {
                    h2 #reject-title { "Reject this release" }
                    p {
                        "Nobody deploys it, rolls back to it or retries it any more, and nothing chooses it. Servers that run it keep \
                         running it."
                    }
                    form.push method="post" action={ (address) "/reject" } {
                        (reason_input("Shown to everybody who would push it."))
                        div.actions { button.primary type="submit" { "Reject " (name.commit().short()) } }
                    }
                }
            },
            (None, Err(_)) => {}
        }
    }
}

/// `POST /releases/{release}/reject`.
pub(crate) async fn reject(view: View, Path(stem): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let form = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let name = match ReleaseName::from_stem(&stem) {
        Ok(name) => name,
        Err(error) => return view.problem(StatusCode::NOT_FOUND, "Release not found", &error.to_string()),
    };
    answer(&view, &name, guards::reject(&view, &name, form.get("reason").unwrap_or_default()).await)
}

/// `POST /releases/{release}/unreject`.
pub(crate) async fn unreject(view: View, Path(stem): Path<String>) -> Response {
    match ReleaseName::from_stem(&stem) {
        Ok(name) => answer(&view, &name, guards::unreject(&view, &name).await),
        Err(error) => view.problem(StatusCode::NOT_FOUND, "Release not found", &error.to_string()),
    }
}

fn answer(view: &View, name: &ReleaseName, decided: Result<Vec<ServerName>, NotDecided>) -> Response {
    match decided {
        Ok(_) => Redirect::to(&release_address(name)).into_response(),
        Err(error) => view.problem(error.status(), "Nothing was changed", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use bucket::{BuildId, CandidateMetadata, CandidatePlace, ReleaseMetadata};

    use crate::web::testing::{body, facts, package, rules, web};

    #[tokio::test]
    async fn what_a_release_was_promoted_from_is_on_its_page_with_the_commit_as_which_it_landed() {
        let (directory, web) = web().await;
        let links = r#"Links: { Commit: "https://git.example/{repo}/commit/{commit}",
            Change: "https://git.example/{project}/pull/{change}" }"#;
        rules(directory.path(), links);
        let (own, landed) = ("a".repeat(40), "b".repeat(40));
        let release: bucket::ReleaseName =
            format!("web/web:dev@build-1:2026-11-20T19:05:07Z:{own}.deb").parse().unwrap();
        let place = CandidatePlace::Gated { change: "web/12".parse().unwrap(), release: release.clone() };
        let (_file, deb) = package(7);
        let (repo, sha256) = ("https://git.example/acme/web.git".to_owned(), deb.sha256.clone());
        let about = ReleaseMetadata { repo, sha256, ..facts(7) };
        let (change, tree, build) = (place.change().clone(), "e".repeat(40).parse().unwrap(), BuildId::random());
        let about = CandidateMetadata { release: about, change, patchset: 3, tree, base: None, build };
        let bucket = web.refresher.bucket();
        bucket.upload_candidate(&place, &deb, &about, &|_| ()).await.unwrap();
        let candidate = bucket.candidate(&place).await.unwrap().unwrap();
        bucket.promote(&candidate, &about, &landed.parse().unwrap()).await.unwrap();
        web.refresher.refresh().await;
        let shown = body(&web, "viewer", &format!("/releases/{}", release.stem())).await;
        for expected in [
            "<a rel=\"noreferrer\" href=\"https://git.example/web/pull/12\">promoted from web/12, patchset 3</a>",
            &format!("https://git.example/acme/web/commit/{landed}"),
        ] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        assert!(!shown.contains(&format!("commit/{own}")), "{shown}");
    }
}
