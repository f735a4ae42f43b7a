//! A web app over a bucket in a directory, for tests: who asks, what is released, and what servers report.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
    response::Response,
};
use bucket::{Bucket, BucketOptions, BucketUrl, PushId, ReleaseMetadata, ReleaseName, RolloutRules};
use fleet::{
    identity::{Identity, Origin},
    poke::PokeSettings,
    policy::watched::Watched,
    rollout::{
        drive::begin,
        plan::{Subject, plan},
        waves::Candidate,
    },
    wish::Wish,
};
use tower::ServiceExt as _;

use super::{routes::router, shared::Web};

const RULES: &str = "{ Roles: [{ Role: 'viewer', Who: ['viewer'] }, { Role: 'deployer', Who: ['deployer'] }, \
                     { Role: 'admin', Who: ['admin'] }] }";

/// The web app, over a bucket in a directory that lives as long as what comes with it.
pub(crate) async fn web() -> (tempfile::TempDir, Arc<Web>) {
    web_with(false).await
}

/// The same, with a candidate bucket, and that bucket.
pub(crate) async fn web_with_candidates() -> (tempfile::TempDir, Arc<Web>, Bucket) {
    let (directory, web) = web_with(true).await;
    let url = BucketUrl::File(directory.path().join("candidates"));
    let candidates = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
    (directory, web, candidates)
}

async fn web_with(has_candidates: bool) -> (tempfile::TempDir, Arc<Web>) {
    let directory = tempfile::tempdir().unwrap();
    let (bucket, rules) = (directory.path().join("bucket"), directory.path().join("rules"));
    std::fs::create_dir(&bucket).unwrap();
    std::fs::write(&rules, RULES).unwrap();
    let url = BucketUrl::File(bucket);
    let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
    let policy = Watched::open(Some(rules)).unwrap();
    let mut candidates = None;
    if has_candidates {
        let place = directory.path().join("candidates");
        std::fs::create_dir(&place).unwrap();
        candidates = Some(Bucket::open(&BucketUrl::File(place), &BucketOptions::default()).await.unwrap());
    }
    (directory, Arc::new(Web::new(bucket, &url, candidates, PokeSettings::None, policy)))
}

/// Adds rules to those of the web app, from then on.
pub(crate) fn rules(directory: &std::path::Path, more: &str) {
    let (rules, new) = (directory.join("rules"), directory.join("new-rules"));
    std::fs::write(&new, format!("{{ {more}, {}", RULES.trim_start_matches('{'))).unwrap();
    std::fs::rename(new, rules).unwrap();
}

/// What `who` is answered; their name is their role.
pub(crate) async fn send(web: &Arc<Web>, who: &str, method: Method, path: &str, body: String) -> Response {
    let who = Identity { name: who.into(), origin: Origin::SignedIn };
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    router(web).oneshot(request.extension(who).body(Body::from(body)).unwrap()).await.unwrap()
}

/// Uploads a release of `web`.
pub(crate) async fn release(web: &Arc<Web>) -> ReleaseName {
    release_of(web, 7).await
}

/// Uploads the `n`th release of `web`, which is `n` bytes large and has a unit.
pub(crate) async fn release_of(web: &Arc<Web>, n: u8) -> ReleaseName {
    let name = format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb");
    let name: ReleaseName = name.parse().unwrap();
    let (_file, deb) = package(n);
    web.refresher.bucket().upload_release(&name, &deb, &facts(n), &|_| ()).await.unwrap();
    name
}

/// What the `n`th release says of itself.
pub(crate) fn facts(n: u8) -> ReleaseMetadata {
    ReleaseMetadata {
        dirty: false,
        note: format!("change {n}"),
        services: vec!["web.service".to_owned()],
        sha256: [0; 32].into(),
        size: n.into(),
        package: "web".parse().unwrap(),
        version: n.to_string(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: String::new(),
        made_by: None,
    }
}

/// A file of `n` bytes, which lives as long as what comes with it.
pub(crate) fn package(n: u8) -> (tempfile::NamedTempFile, bucket::SourceFile) {
    let deb = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(deb.path(), vec![0; n.into()]).unwrap();
    let source = bucket::SourceFile::read(deb.path()).unwrap();
    (deb, source)
}

/// The body of a page that is there.
pub(crate) async fn body(web: &Arc<Web>, who: &str, path: &str) -> String {
    let answer = send(web, who, Method::GET, path, String::new()).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Makes a server whose document names a release of `web`, if `desired`, and whose agent reports that as in `app`.
pub(crate) async fn server(web: &Arc<Web>, name: &str, desired: Option<&ReleaseName>, whole: &str, app: &str) {
    let (bucket, now) = (web.refresher.bucket(), bucket::Timestamp::now());
    let server = name.parse().unwrap();
    let mut generation = None;
    if let Some(release) = desired {
        let document = bucket::ServerDocument::parse(format!("[\"{release}\"]").as_bytes()).unwrap();
        generation = Some(bucket.write_server_document(&server, &document, None).await.unwrap());
    }
    let report = serde_json::json!({
        "server": name, "machine": name, "written": now, "state": whole, "summary": "",
        "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
        "document": { "generation": generation, "error": null },
        "apps": [{ "app": "web", "desired": desired, "installed": desired, "package": "web", "state": app, "since": now }],
    });
    let status = serde_json::from_value(report).unwrap();
    bucket.write_status(&status, None).await.unwrap();
    web.refresher.refresh_servers(&[server]).await;
}

/// Makes a server that has another app, and of which nothing was ever heard.
pub(crate) async fn server_without_web(web: &Arc<Web>, name: &str) {
    let document = format!("[\"api/api:dev@build-1:2026-11-20T19:05:07Z:{:040x}.deb\"]", 7);
    let document = bucket::ServerDocument::parse(document.as_bytes()).unwrap();
    web.refresher.bucket().write_server_document(&name.parse().unwrap(), &document, None).await.unwrap();
}

/// Lets the agent of a server report what it makes of its document: the app `web` is in that state.
pub(crate) async fn report(web: &Arc<Web>, name: &str, state: &str) {
    let (bucket, server) = (web.refresher.bucket(), name.parse().unwrap());
    let (generation, document) = bucket.server_document(&server).await.unwrap().unwrap();
    let (seen, status) = bucket.status(&server).await.unwrap().unwrap();
    let mut report = serde_json::to_value(&status).unwrap();
    let release = serde_json::json!(document.releases().next());
    report["document"]["generation"] = generation.0.into();
    (report["apps"][0]["desired"], report["apps"][0]["installed"]) = (release.clone(), release);
    report["apps"][0]["state"] = state.into();
    bucket.write_status(&serde_json::from_value(report).unwrap(), Some(seen)).await.unwrap();
}

/// Begins a rollout of a release to all servers, without a time to settle, and gives its ID.
pub(crate) async fn rollout(web: &Arc<Web>, release: &ReleaseName, waves: &str) -> PushId {
    let rules = RolloutRules {
        settle_seconds: 0,
        within_seconds: 1800,
        enough_percent: 95,
        stop_at: 1,
        pause_after: Vec::new(),
        undo_on_stop: false,
    };
    let wish = Wish { waves: waves.parse().unwrap(), rules, max_down: None };
    let who = Identity { name: "deployer".into(), origin: Origin::SignedIn };
    let (id, snapshot) = (PushId::random(), web.refresher.snapshot());
    let subject = Subject { id: &id, release, who: &who, why: "faster", held: false, channel: None };
    let fleet = snapshot.servers.values().map(|server| &**server);
    let candidates: Vec<Candidate> =
        fleet.clone().map(|server| Candidate { server, from: server.desired(release.app()) }).collect();
    let bucket = web.refresher.bucket();
    let rollout = plan(subject, &wish, &candidates, &fleet, &web.policy(), bucket.now()).unwrap();
    begin(bucket, &rollout).await.unwrap();
    web.refresher.refresh().await;
    id
}
