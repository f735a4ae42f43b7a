//! The changes that are not merged yet: what was built from each, how it was tried, and what is ahead of it.

use axum::{http::StatusCode, response::Response};
use bucket::{ArtifactType, Change, ChangeId, RecordedCandidate, Try, TryResult};
use console::{count, size};
use maud::{Markup, html};

use crate::{
    badge::Severity,
    snapshot::{AheadNames, Changes, OpenChange},
    web::{
        params::Params,
        parts::{PAGE, ago, badge, foreign, page_of, pager, prose},
        view::{Nav, View},
    },
};

/// Candidates, tries and changes ahead that are shown of one change.
const CANDIDATES: usize = 20;
const TRIES: usize = 3;
const AHEAD: usize = 10;

/// `GET /changes`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    if !view.web.has_changes {
        let text = "This web app was not told where changes are that are not merged yet: `push serve --candidates URL` says so.";
        return view.problem(StatusCode::NOT_FOUND, "No candidate bucket", text);
    }
    let content = html! {
        h1 { "Changes" }
        div #changes data-live {
            @match &view.snapshot.changes {
                None => p.none { "The candidate bucket was not read yet." },
                Some(changes) if changes.open.is_empty() => {
                    div.empty {
                        h2 { "No open changes" }
                        p { code { "release change open PROJECT/ID" } " records what is proposed for merging." }
                    }
                },
                Some(changes) => (list(&view, changes, params.page())),
            }
        }
    };
    view.page("Changes", Nav::Changes, &content)
}

fn list(view: &View, changes: &Changes, page: usize) -> Markup {
    html! {
        p.summary { (count(changes.open.len() + changes.more, "open change")) }
        table.rows {
            thead {
                tr {
                    th scope="col" { "Change" } th scope="col" { "Patchset" } th scope="col" { "Candidates" }
                    th scope="col" { "Tries" } th scope="col" { "Ahead" }
                }
            }
            tbody { @for open in page_of(changes.open.iter(), page) { (row(view, open)) } }
        }
        (pager("/changes", &[], page, changes.open.len()))
        @if changes.more > 0 { p { "and " (count(changes.more, "change")) " that were recorded earlier" } }
        @if changes.open.len() > PAGE { p.note { "The change that was recorded last is first." } }
    }
}

fn row(view: &View, open: &OpenChange) -> Markup {
    html! {
        tr {
            th scope="row" data-label="Change" { (change_link(view, &open.id)) }
            @match (open.change.read.known(), open.change.read.error()) {
                (Some(change), _) => (known(view, open, change)),
                (None, error) => td.wide colspan="4" {
                    (badge(Severity::Bad, "✗", "unreadable")) p.reason { (prose(error.unwrap_or_default())) }
                },
            }
        }
    }
}

fn known(view: &View, open: &OpenChange, change: &Change) -> Markup {
    html! {
        td data-label="Patchset" {
            (change.patchset) ", " code { (change.commit.short()) } " for " code { (foreign(&change.branch, 60)) }
            p.facts { "recorded " (ago(change.updated, view.now)) " by " (foreign(&change.by, 80)) }
        }
        td.wide data-label="Candidates" { (candidates(change)) }
        td.wide data-label="Tries" { (tries(view, change)) }
        td.wide data-label="Ahead" {
            @match &open.ahead {
                Ok(ahead) => (ahead_of(view, ahead)),
                Err(problem) => { (badge(Severity::Bad, "✗", "problem")) p.reason { (prose(problem)) } },
            }
        }
    }
}

/// A change, with where it is shown elsewhere if the policy file says so.
pub(crate) fn change_link(view: &View, id: &ChangeId) -> Markup {
    html! {
        @match view.policy.links().change(id) {
            Some(href) => a rel="noreferrer" href=(href) { (id) },
            None => (id),
        }
    }
}

fn candidates(change: &Change) -> Markup {
    let of_patchset: Vec<&RecordedCandidate> =
        change.candidates.iter().rev().filter(|candidate| candidate.patchset == change.patchset).collect();
    html! {
        @if of_patchset.is_empty() { span.none { "none of this patchset" } }
        @for candidate in of_patchset.iter().take(CANDIDATES) {
            p {
                (candidate.app) " " code { (candidate.release.commit().short()) } " "
                span.facts { (size(candidate.size)) }
                @if candidate.artifact == ArtifactType::Image { " " span.tag { "image" } }
                @if let Some(image) = &candidate.image { " " code { (foreign(image, 200)) } }
                @if candidate.gate { " " span.tag { "gated" } }
            }
        }
        @if of_patchset.len() > CANDIDATES { p { "and " (of_patchset.len() - CANDIDATES) " more" } }
    }
}

fn tries(view: &View, change: &Change) -> Markup {
    let result = |tried: &Try| match tried.result {
        TryResult::Passed => badge(Severity::Good, "✓", "passed"),
        TryResult::Failed => badge(Severity::Bad, "✗", "failed"),
        TryResult::Interrupted => badge(Severity::Notice, "‖", "interrupted"),
    };
    html! {
        @if change.tries.is_empty() { span.none { "not tried" } }
        @for tried in change.tries.iter().rev().take(TRIES) {
            p { (result(tried)) " " (ago(tried.at, view.now)) " " span.facts { (count(tried.sha256.len(), "artifact")) } }
        }
        @if change.tries.len() > TRIES { p { "and " (change.tries.len() - TRIES) " before" } }
    }
}

fn ahead_of(view: &View, ahead: &AheadNames) -> Markup {
    html! {
        @if ahead == &AheadNames::default() { span.none { "nothing" } }
        @for id in ahead.open.iter().take(AHEAD) { p { (change_link(view, id)) } }
        @if ahead.open.len() > AHEAD { p { "and " (ahead.open.len() - AHEAD) " more" } }
        @for (id, state) in ahead.ended.iter().take(AHEAD) { p { (change_link(view, id)) " " span.tag { (state.as_str()) } } }
        @for id in ahead.unknown.iter().take(AHEAD) { p { (change_link(view, id)) " " span.tag { "unknown" } } }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use bucket::{Bucket, CandidateMetadata, CandidatePlace, ChangeState, ImagePlace};
    use serde_json::{Value, json};

    use super::*;
    use crate::web::testing::{body, facts, package, rules, send, web, web_with_candidates};

    /// Records a change, with what else is said of it.
    async fn record(bucket: &Bucket, id: &str, more: Value) {
        let id: ChangeId = id.parse().unwrap();
        let mut change = json!({
            "schema": 1, "project": id.project(), "change": id.change(), "patchset": 3, "commit": "a".repeat(40),
            "tree": "e".repeat(40), "branch": "main", "needs": [], "state": "open", "candidates": [], "tries": [],
            "updated": "2026-11-20T19:05:00Z", "by": "ci@build-1",
        });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let change: Change = serde_json::from_value(change).unwrap();
        bucket.write_change(&id, &change, None).await.unwrap();
    }

    /// Uploads what was built from a change, and gives what that change says of it.
    async fn build(bucket: &Bucket, id: &str, build: Option<&str>, patchset: u32) -> Value {
        let name = format!("lib/lib:dev@ci:2026-11-20T19:05:0{patchset}Z:{patchset:040x}.deb");
        let (change, release): (ChangeId, bucket::ReleaseName) = (id.parse().unwrap(), name.parse().unwrap());
        let place = match build {
            Some(build) => CandidatePlace::Built { change: change.clone(), build: build.parse().unwrap(), release },
            None => CandidatePlace::Gated { change: change.clone(), release },
        };
        let (tree, build) = ("e".repeat(40).parse().unwrap(), build.unwrap_or("k3v9").parse().unwrap());
        let metadata = CandidateMetadata { release: facts(9), change, patchset, tree, base: None, build };
        let (_file, deb) = package(9);
        bucket.upload_candidate(&place, &deb, &metadata, &|_| ()).await.unwrap();
        json!({
            "type": "deb", "app": "lib", "release": name, "sha256": "00".repeat(32), "size": 9, "path": place.path().as_str(),
            "build": metadata.build, "patchset": patchset, "gate": matches!(place, CandidatePlace::Gated { .. }),
            "at": "2026-11-20T19:06:00Z",
        })
    }

    /// Records an image that was built from a change.
    async fn record_image(bucket: &Bucket, id: &str, build: Option<&str>) {
        let (change, app, tag): (ChangeId, _, _) =
            (id.parse().unwrap(), "lib".parse().unwrap(), "1234".parse().unwrap());
        let digest: bucket::Sha256 = "07".repeat(32).parse().unwrap();
        let place = match build {
            Some(build) => ImagePlace::Built { change, build: build.parse().unwrap(), app, tag },
            None => ImagePlace::Gated { change, app, tag, digest: digest.clone() },
        };
        let image = serde_json::from_value(json!({
            "schema": 1, "app": "lib", "change": id, "patchset": 3, "commit": "a".repeat(40), "tree": "e".repeat(40),
            "build": build.unwrap_or("k3v9"), "name": "images.example/acme/lib", "tag": "1234",
            "digest": format!("sha256:{digest}"), "media_type": "x", "time": "2026-11-20T19:05:02Z", "who": "dev@x",
        }));
        bucket.record_image_candidate(&place, &image.unwrap(), None).await.unwrap();
    }

    #[tokio::test]
    async fn a_web_app_that_was_not_told_where_changes_are_has_no_page_of_them() {
        let (_directory, web) = web().await;
        let answer = send(&web, "viewer", Method::GET, "/changes", String::new()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert!(!body(&web, "viewer", "/").await.contains("href=\"/changes\""));
        assert!(!body(&web, "viewer", "/metrics").await.contains("push_candidates"));
    }

    #[tokio::test]
    async fn open_changes_are_shown_with_what_was_built_tried_and_is_ahead() {
        let (directory, web, candidates) = web_with_candidates().await;
        assert!(body(&web, "viewer", "/changes").await.contains("was not read yet"));
        let earlier = build(&candidates, "lib/11", Some("b1"), 2).await;
        let built = build(&candidates, "lib/11", Some("b2"), 3).await;
        let gated = build(web.refresher.bucket(), "lib/11", None, 3).await;
        build(&candidates, "lib/9", Some("b3"), 1).await;
        build(&candidates, "lib/404", Some("b4"), 1).await;
        record_image(&candidates, "lib/11", Some("b2")).await;
        record_image(web.refresher.bucket(), "lib/9", None).await;
        let tried = json!([
            { "buildset": "s1", "sha256": ["00".repeat(32)], "result": "failed", "at": "2026-11-20T19:07:00Z" },
            { "buildset": "s2", "sha256": ["00".repeat(32)], "result": "passed", "at": "2026-11-20T19:08:00Z" },
        ]);
        let mut image = built.clone();
        image["type"] = "image".into();
        image["image"] = "ci.example/acme/lib:b2_<b>1234".into();
        image["tag"] = "1234".into();
        image["path"] = "builds/lib/11/b2/lib/1234.json".into();
        record(&candidates, "lib/11", json!({ "candidates": [earlier, built, gated, image], "tries": tried })).await;
        record(&candidates, "lib/9", json!({ "state": ChangeState::Abandoned })).await;
        let needs = json!(["lib/11", "lib/9", "lib/7"]);
        record(&candidates, "web/12", json!({ "needs": needs, "branch": "<b>main", "by": "<i>x" })).await;
        record(&candidates, "web/13", json!({ "needs": ["web/14"] })).await;
        record(&candidates, "web/14", json!({ "needs": ["web/13"] })).await;
        std::fs::write(directory.path().join("candidates/changes/web/15.json"), "{").unwrap();
        web.refresher.refresh().await;
        rules(directory.path(), "Links: { Change: 'https://git.example/{project}/pull/{change}' }");

        assert!(body(&web, "viewer", "/").await.contains("href=\"/changes\""));
        let page = body(&web, "viewer", "/changes").await;
        let row = |id: &str| {
            let link = format!("href=\"https://git.example/{}\">{id}</a></th>", id.replacen('/', "/pull/", 1));
            let after = page.split_once(&link).unwrap_or_else(|| panic!("no {id} on {page}")).1;
            after.split_once("</tr>").unwrap().0.to_owned()
        };
        assert!(page.contains("5 open changes"), "{page}");
        let library = row("lib/11");
        assert_eq!(library.matches("<p>lib ").count(), 3, "those of the last patchset: {library}");
        assert!(library.contains("<code><bdi>ci.example/acme/lib:b2_&lt;b&gt;1234</bdi></code>"), "{library}");
        assert_eq!(library.matches("gated").count(), 1, "{library}");
        assert!(library.find("passed").unwrap() < library.find("failed").unwrap(), "{library}");
        assert!(library.contains("nothing"), "{library}");
        let app = row("web/12");
        assert!(app.contains("&lt;b&gt;main") && app.contains("&lt;i&gt;x") && !app.contains("<b>"), "{app}");
        assert!(app.contains("none of this patchset") && app.contains("not tried"), "{app}");
        let ahead = app.split_once("data-label=\"Ahead\"").unwrap().1;
        for (need, said) in [("lib/11", None), ("lib/9", Some("abandoned")), ("lib/7", Some("unknown"))] {
            let after = ahead.split_once(&format!(">{need}</a>")).unwrap_or_else(|| panic!("no {need}: {ahead}")).1;
            let told = after.split_once("</p>").unwrap().0;
            assert_eq!(told.contains("tag"), said.is_some(), "{need}: {ahead}");
            assert!(said.is_none_or(|said| told.contains(said)), "{need}: {ahead}");
        }
        assert!(row("web/13").contains("in a circle"), "{page}");
        assert!(row("web/15").contains("unreadable"), "{page}");

        let metrics = body(&web, "viewer", "/metrics").await;
        for expected in [
            "push_candidates{state=\"open\",gated=\"false\"} 3",
            "push_candidates{state=\"open\",gated=\"true\"} 1",
            "push_candidates{state=\"merged\",gated=\"false\"} 0",
            "push_candidates{state=\"abandoned\",gated=\"false\"} 1",
            "push_candidates{state=\"abandoned\",gated=\"true\"} 1",
            "push_candidates{state=\"unknown\",gated=\"false\"} 1",
            "push_candidates_bytes 45",
            "push_candidates_oldest_seconds ",
        ] {
            assert!(metrics.contains(expected), "no {expected} in {metrics}");
        }
    }
}
