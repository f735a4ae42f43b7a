//! One run of pipelines: its graph, what it published, and the files that are kept of it. It is read from the bucket of the
//! releases or, if it is of a change, from that of the candidates.

use axum::{
    body::Body,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bucket::{
    Artifact, ArtifactPlace, Bucket, Download, Error, NameError, PipelineRun, PublishedImage, PublishedRelease, Run,
    RunPlace, StageRun, Timestamp,
};
use console::{count, duration, size};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use maud::{Markup, html};

use super::changes::change_link;
use crate::{
    badge::Severity,
    web::{
        params::{Params, link},
        parts::{ago, badge, foreign, prose, reason, release, release_address},
        runs::{RunState, address, last_told, of_stage},
        view::{Nav, View},
    },
};

/// Files that are shown of a run.
const ARTIFACTS: usize = 1000;
/// Stages that are named as those before one.
const NAMED: usize = 20;
/// Longest name of a file that is offered to a browser, in characters.
const FILE_NAME: usize = 150;

/// `GET /runs/{project}/{run}`.
pub(crate) async fn get(view: View, Path((project, run)): Path<(String, String)>) -> Response {
    let (place, bucket, run) = match find(&view, &project, &run).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let artifacts: Result<Vec<Artifact>, Error> = bucket.artifacts(&place).take(ARTIFACTS + 1).try_collect().await;
    let state = RunState::of(&run.result, last_told(&run), view.bucket_now());
    let shown = state.badge();
    let content = html! {
        header.title {
            h1 { a href={ "/runs/" (place.project()) } { (place.project()) } " " (place.run().time().strftime("%d %b %Y %H:%M:%S")) }
            (badge(shown.severity, shown.symbol, shown.text))
            @if run.dirty { (badge(Severity::Notice, "±", "dirty")) }
        }
        (facts(&view, &run, state))
        @for pipeline in &run.pipelines { (graph(&view, pipeline, state)) }
        @if run.pipelines_left_out > 0 { p { "and " (count(run.pipelines_left_out, "pipeline")) " more than its record has room for" } }
        section aria-labelledby="artifacts-title" {
            h2 #artifacts-title { "Artifacts" }
            (files(&place, &run, &artifacts))
        }
    };
    view.page(&format!("Run of {}", place.project()), Nav::Runs, &content)
}

/// The run that an address names, and the bucket that it is in.
async fn find(view: &View, project: &str, run: &str) -> Result<(RunPlace, Bucket, Run), Response> {
    let not_found = || {
        let text = "No run of this name is recorded. That of a change is in the candidate bucket, which `push serve --candidates URL` names.";
        view.problem(StatusCode::NOT_FOUND, "Run not found", text)
    };
    let place: Result<RunPlace, NameError> = run.parse().and_then(|run| RunPlace::new(project, run));
    let Ok(place) = place else { return Err(not_found()) };
    let refresher = &view.web.refresher;
    for bucket in [Some(refresher.bucket()), refresher.candidates()].into_iter().flatten() {
        match bucket.run(&place).await {
            Ok(Some((_, run))) => return Ok((place, bucket.clone(), run)),
            Ok(None) => {}
            Err(error) => return Err(view.problem(StatusCode::BAD_GATEWAY, "Run unreadable", &format!("{error}."))),
        }
    }
    Err(not_found())
}

fn facts(view: &View, run: &Run, state: RunState) -> Markup {
    html! {
        @if !run.note.is_empty() { p.lead { (prose(&run.note)) } }
        p.facts {
            "Commit " code { (run.commit) }
            @if !run.branch.is_empty() { " · branch " span.tag { (foreign(&run.branch, 60)) } }
            @if let Some(change) = &run.change {
                " · change " (change_link(view, change))
                @if let Some(patchset) = run.patchset { ", patchset " (patchset) }
            }
        }
        p.facts {
            "Started by " (foreign(&run.by, 80)) " on " (foreign(&run.host, 60)) ", " (ago(run.began, view.now))
            @if let Some(ended) = run.ended { " · took " (took(run.began, ended)) }
        }
        @if state == RunState::Died {
            p.banner.bad { "This run has not ended, and nothing was heard of it for more than three hours: its process was killed." }
        }
    }
}

fn took(began: Timestamp, ended: Timestamp) -> String {
    duration::show(ended.duration_since(began).unsigned_abs())
}

fn graph(view: &View, pipeline: &PipelineRun, run: RunState) -> Markup {
    let title = format!("pipeline-{}", pipeline.name);
    html! {
        section aria-labelledby=(title) {
            h2 id=(title) { "Pipeline " (pipeline.name) }
            @for published in &pipeline.releases { (published_release(view, published)) }
            @for image in &pipeline.images { (published_image(image)) }
            @if pipeline.images_left_out > 0 { p { "and " (count(pipeline.images_left_out, "image")) " more" } }
            @if pipeline.releases_left_out > 0 { p { "and " (count(pipeline.releases_left_out, "release")) " more" } }
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Stage" } th scope="col" { "After" } th scope="col" { "Result" } th scope="col" { "Time" }
                        th scope="col" { "Why" }
                    }
                }
                tbody { @for stage in &pipeline.stages { (row(view, stage, run)) } }
            }
            @if pipeline.stages_left_out > 0 { p { "and " (count(pipeline.stages_left_out, "stage")) " more" } }
        }
    }
}

fn row(view: &View, stage: &StageRun, run: RunState) -> Markup {
    let shown = of_stage(&stage.result, run);
    let after: Vec<&str> = stage.after.iter().take(NAMED).map(bucket::StageName::as_str).collect();
    html! {
        tr {
            th scope="row" data-label="Stage" { (stage.name) }
            td data-label="After" {
                @if after.is_empty() { span.none { "–" } } @else { (after.join(", ")) }
                @if stage.after.len() > NAMED { " and " (stage.after.len() - NAMED) " more" }
            }
            td data-label="Result" { (badge(shown.severity, shown.symbol, shown.text)) }
            td data-label="Time" {
                @match (stage.began, stage.ended) {
                    (Some(began), Some(ended)) => (took(began, ended)),
                    (Some(began), None) => { "began " (ago(began, view.now)) },
                    (None, _) => span.none { "–" },
                }
            }
            td.wide data-label="Why" { @if !stage.why.is_empty() { (reason(&stage.why)) } }
        }
    }
}

/// A release as a link to its page, if it is there; a candidate has none.
fn published_release(view: &View, published: &PublishedRelease) -> Markup {
    let name = &published.release;
    let is_listed = view.snapshot.apps.get(name.app()).is_some_and(|releases| releases.get(name).is_some());
    html! {
        p {
            "Stage " (published.stage) @if published.candidate.is_some() { " built the candidate " } @else { " published " }
            (name.app()) " "
            @if is_listed { a href=(release_address(name)) { (release(name)) } } @else { (release(name)) }
        }
    }
}

fn published_image(image: &PublishedImage) -> Markup {
    html! {
        p {
            "Stage " (image.stage) " published the image " code { (foreign(&image.name, 255)) ":" (foreign(&image.tag, 128)) }
        }
    }
}

fn files(place: &RunPlace, run: &Run, found: &Result<Vec<Artifact>, Error>) -> Markup {
    let recorded =
        run.pipelines.iter().any(|pipeline| !pipeline.artifacts.is_empty() || pipeline.artifacts_left_out > 0);
    let found = match found {
        Ok(found) => found,
        Err(error) => return html! { p.banner.bad { "The artifacts cannot be listed: " (prose(&error.to_string())) } },
    };
    html! {
        @if found.is_empty() {
            p.none { @if recorded { "They were deleted: " code { "release sweep" } " does so after a while." } @else { "None were kept." } }
        } @else {
            table.rows {
                thead { tr { th scope="col" { "File" } th scope="col" { "Stage" } th scope="col" { "Size" } th scope="col" { "SHA-256" } } }
                tbody {
                    @for Artifact { place: file, size: bytes, sha256, .. } in found.iter().take(ARTIFACTS) {
                        tr {
                            th scope="row" data-label="File" {
                                a href=(artifact_address(place, file)) download { (foreign(file.path.as_str(), 200)) }
                            }
                            td data-label="Stage" { (file.pipeline) " " (file.stage) }
                            td data-label="Size" { (size(*bytes)) }
                            td.wide data-label="SHA-256" { @if let Some(sha256) = sha256 { code { (sha256) } } }
                        }
                    }
                }
            }
            @if found.len() > ARTIFACTS { p { "and more" } }
        }
    }
}

fn artifact_address(run: &RunPlace, file: &ArtifactPlace) -> String {
    let ArtifactPlace { pipeline, stage, path, .. } = file;
    let pairs = [("pipeline", pipeline.as_str()), ("stage", stage.as_str()), ("path", path.as_str())];
    link(&format!("{}/artifact", address(run)), pairs)
}

/// `GET /runs/{project}/{run}/artifact`: a file for saving, never for showing: who wrote it is not trusted.
pub(crate) async fn artifact(view: View, Path((project, run)): Path<(String, String)>, params: Params) -> Response {
    let not_found = || {
        let text = "No such file is kept. `release sweep` deletes artifacts after a while.";
        view.problem(StatusCode::NOT_FOUND, "Artifact not found", text)
    };
    let Ok(file) = named(&project, &run, &params) else { return not_found() };
    let refresher = &view.web.refresher;
    for bucket in [Some(refresher.bucket()), refresher.candidates()].into_iter().flatten() {
        let opened = match bucket.artifact(&file).await {
            Ok(None) => continue,
            Ok(Some(found)) => bucket.download_artifact(&found).await,
            Err(error) => Err(error),
        };
        return match opened {
            Ok(Some(content)) => attachment(file.path.file_name(), content),
            Ok(None) => not_found(),
            Err(error) => view.problem(StatusCode::BAD_GATEWAY, "Artifact unreadable", &format!("{error}.")),
        };
    }
    not_found()
}

fn named(project: &str, run: &str, params: &Params) -> Result<ArtifactPlace, NameError> {
    // As it is: the name of a file may begin with a space.
    let get = |key| params.pairs().find_map(|(name, value)| (name == key).then_some(value)).unwrap_or_default();
    let run = RunPlace::new(project, run.parse()?)?;
    let (pipeline, stage, path) = (get("pipeline").parse()?, get("stage").parse()?, get("path").parse()?);
    Ok(ArtifactPlace { run, pipeline, stage, path })
}

fn attachment(name: &str, content: Download) -> Response {
    let bytes = content.size;
    let chunks = stream::try_unfold(content, async |mut content| {
        let chunk = content.chunk().await?;
        Ok::<_, Error>(chunk.map(|chunk| (chunk, content)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", safe_name(name))),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// The name of a file without anything that a header, a browser or a file system could take for something else.
fn safe_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.chars().take(FILE_NAME).map(safe).collect();
    name.strip_prefix('.').map_or_else(|| name.clone(), |rest| format!("_{rest}"))
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use bucket::{MadeBy, ReleaseMetadata, SourceFile};
    use serde_json::{Value, json};

    use super::*;
    use crate::web::testing::{body, facts, package, rules, send, web, web_with_candidates};

    /// Records a run, with what else is said of it.
    async fn record(bucket: &Bucket, id: &str, more: Value) -> RunPlace {
        let mut run = json!({
            "schema": 1, "project": "acme", "run": id, "commit": "a".repeat(40), "dirty": false, "by": "dev@ci", "host": "ci",
            "began": Timestamp::now(), "result": "running", "pipelines": [{ "name": "web", "stages": [
                { "name": "unit", "result": "passed", "began": "2026-11-20T19:05:02Z", "ended": "2026-11-20T19:06:12Z" },
                { "name": "ship", "after": ["unit"], "result": "waiting" },
            ] }],
        });
        run.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let run: Run = serde_json::from_value(run).unwrap();
        bucket.begin_run(&run).await.unwrap();
        run.place().unwrap()
    }

    async fn keep(bucket: &Bucket, run: &RunPlace, stage: &str, path: &str, content: &[u8]) -> ArtifactPlace {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let place = ArtifactPlace {
            run: run.clone(),
            pipeline: "web".parse().unwrap(),
            stage: stage.parse().unwrap(),
            path: path.parse().unwrap(),
        };
        bucket.upload_artifact(&place, &SourceFile::read(file.path()).unwrap(), &|_| ()).await.unwrap();
        place
    }

    fn row<'a>(page: &'a str, head: &str) -> &'a str {
        let found = page.split("<tr>").find(|row| row.contains(&format!(">{head}</th>")));
        found.unwrap_or_else(|| panic!("no {head}: {page}"))
    }

    #[tokio::test]
    async fn a_run_is_shown_as_its_graph_and_one_that_says_nothing_for_hours_has_died() {
        let (_directory, web) = web().await;
        let bucket = web.refresher.bucket();
        let hostile = json!([
            { "name": "unit", "result": "failed", "began": "2026-11-20T19:05:02Z", "ended": "2026-11-20T19:06:12Z", "why": "<b>no" },
            { "name": "lint", "result": "levitating" },
            { "name": "ship", "after": ["unit", "lint"], "result": "skipped" },
        ]);
        let more = json!({ "result": "failed", "note": "<b>why", "pipelines": [{ "name": "web", "stages": hostile }] });
        let failed = record(bucket, "20261120T190502Z-a", more).await;
        let dead = json!({ "began": "2026-11-20T19:05:02Z" });
        let dead = record(bucket, "20261120T190502Z-b", dead).await;
        let lives = record(bucket, "20261120T190502Z-c", json!({})).await;
        // Of one in which nothing happens for days it is heard all the same.
        let slow = json!({ "began": "2026-11-20T19:05:02Z", "told": Timestamp::now() });
        let slow = record(bucket, "20261120T190502Z-d", slow).await;
        assert!(!body(&web, "viewer", "/").await.contains("href=\"/runs\""));
        web.refresher.refresh().await;
        assert!(body(&web, "viewer", "/").await.contains("href=\"/runs\""));
        assert!(body(&web, "viewer", "/runs").await.contains("href=\"/runs/acme\""));
        let list = body(&web, "viewer", "/runs/acme").await;
        for place in [&failed, &dead, &lives] {
            assert!(list.contains(&format!("href=\"/runs/{place}\"")), "{place}: {list}");
        }

        let page = body(&web, "viewer", &address(&failed)).await;
        assert!(page.contains("&lt;b&gt;why") && !page.contains("<b>"), "{page}");
        let unit = row(&page, "unit");
        assert!(unit.contains("failed") && unit.contains("1m10s") && unit.contains("&lt;b&gt;no"), "{unit}");
        assert!(row(&page, "lint").contains("unknown"), "{page}");
        assert!(row(&page, "ship").contains("unit, lint") && row(&page, "ship").contains("skipped"), "{page}");
        let page = body(&web, "viewer", &address(&dead)).await;
        assert!(page.contains("its process was killed") && row(&page, "ship").contains("not begun"), "{page}");
        for place in [&lives, &slow] {
            let page = body(&web, "viewer", &address(place)).await;
            assert!(!page.contains("was killed") && row(&page, "ship").contains("waiting"), "{page}");
        }
        for absent in ["/runs/web", "/runs/acme/20261120T190502Z-x", "/runs/acme/x", "/runs/a%20b/20261120T190502Z-a"] {
            assert_eq!(send(&web, "viewer", Method::GET, absent, String::new()).await.status(), StatusCode::NOT_FOUND);
        }
    }

    #[tokio::test]
    async fn a_file_of_a_run_is_saved_and_never_shown() {
        let (_directory, web) = web().await;
        let bucket = web.refresher.bucket();
        let run = record(bucket, "20261120T190502Z-a", json!({})).await;
        let content: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for path in [" .x/<i>ü\".html", ".hidden"] {
            let file = keep(bucket, &run, "..", path, &content).await;
            let page = body(&web, "viewer", &address(&run)).await;
            let link = artifact_address(&run, &file);
            assert!(page.contains(&link.replace('&', "&amp;")), "{link}: {page}");
            assert!(!page.contains("<i>"), "{page}");
            let answer = send(&web, "viewer", Method::GET, &link, String::new()).await;
            let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(header(header::CONTENT_TYPE).as_deref(), Some("application/octet-stream"));
            assert_eq!(header(header::CONTENT_LENGTH).as_deref(), Some("300000"));
            let name = if path == ".hidden" { "_hidden" } else { "_i___.html" };
            assert_eq!(header(header::CONTENT_DISPOSITION), Some(format!("attachment; filename=\"{name}\"")));
            assert_eq!(axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap(), content);
        }
        for query in [
            "",
            "?pipeline=web&stage=unit&path=none",
            "?pipeline=web&stage=..&path=../x",
            "?pipeline=web&stage=a/b&path=x",
        ] {
            let answer =
                send(&web, "viewer", Method::GET, &format!("{}/artifact{query}", address(&run)), String::new()).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{query}");
        }
    }

    #[tokio::test]
    async fn a_run_of_a_change_is_found_beside_the_candidates() {
        let (directory, web, candidates) = web_with_candidates().await;
        rules(directory.path(), "Links: { Change: 'https://git.example/{project}/pull/{change}' }");
        let more = json!({ "change": "acme/12", "patchset": 3, "commit": "b".repeat(40), "result": "passed" });
        let run = record(&candidates, "20261120T190502Z-a", more).await;
        let file = keep(&candidates, &run, "unit", "report.xml", b"all well").await;
        record(web.refresher.bucket(), "20261120T190501Z-b", json!({})).await;
        web.refresher.refresh().await;
        for page in ["/runs/acme".to_owned(), address(&run)] {
            let page = body(&web, "viewer", &page).await;
            assert!(
                page.contains("href=\"https://git.example/acme/pull/12\"") && page.contains("patchset 3"),
                "{page}"
            );
        }
        assert_eq!(body(&web, "viewer", &artifact_address(&run, &file)).await, "all well");
        let listed: Value = serde_json::from_str(&body(&web, "viewer", "/api/v1/runs?project=acme").await).unwrap();
        let first = &listed["items"][0];
        assert_eq!(
            (&listed["total"], &first["run"], &first["change"]),
            (&2.into(), &"20261120T190502Z-a".into(), &"acme/12".into())
        );
        assert_eq!((&first["result"], &first["commit"]), (&"passed".into(), &"b".repeat(40).into()));
        assert_eq!(first["pipelines"], json!([{ "name": "web", "result": "interrupted" }]));
        let none: Value = serde_json::from_str(&body(&web, "viewer", "/api/v1/runs?project=web").await).unwrap();
        assert_eq!(none["total"], 0);
    }

    #[tokio::test]
    async fn a_release_leads_to_its_run_and_that_to_the_release() {
        let (_directory, web) = web().await;
        let bucket = web.refresher.bucket();
        let name = format!("web/web:dev@ci:2026-11-20T19:05:02Z:{}.deb", "a".repeat(40));
        let releases = json!([{ "stage": "ship", "release": name }]);
        let pipelines =
            json!([{ "name": "web", "stages": [{ "name": "ship", "result": "passed" }], "releases": releases }]);
        let run = record(bucket, "20261120T190502Z-a", json!({ "result": "passed", "pipelines": pipelines })).await;
        let name: bucket::ReleaseName = name.parse().unwrap();
        let made_by = MadeBy { pipeline: "web".parse().unwrap(), stage: "ship".parse().unwrap(), run: run.clone() };
        let (_file, deb) = package(7);
        let about = ReleaseMetadata { made_by: Some(made_by), ..facts(7) };
        bucket.upload_release(&name, &deb, &about, &|_| ()).await.unwrap();
        web.refresher.refresh().await;
        let page = body(&web, "viewer", &release_address(&name)).await;
        let said = format!("<a href=\"/runs/{run}\">run of acme</a>, pipeline web, stage ship");
        assert!(page.contains(&said), "{page}");
        let page = body(&web, "viewer", &address(&run)).await;
        assert!(page.contains(&format!("href=\"{}\"", release_address(&name))), "{page}");
        let other = crate::web::testing::release(&web).await;
        web.refresher.refresh().await;
        assert!(!body(&web, "viewer", &release_address(&other)).await.contains("run of"));
    }
}
