//! A bucket on Google Cloud, opened with tokens of the metadata server, by the real `push` command.

use std::process::Output;

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName};
use harness::{
    Programs,
    gcs::{FakeGcs, Fault, Kind, Request},
    metadata::FakeMetadata,
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::push_command::facts;

const BUCKET: &str = "acme-push";
const RELEASE: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

async fn push(gcs: &FakeGcs, metadata: &FakeMetadata, arguments: &[&str]) -> Output {
    let home = TempDir::new().expect("a directory");
    Command::new(Programs::get().expect("our programs").push())
        .env_clear()
        .env("HOME", home.path())
        .env("PUSH_BUCKET", format!("gs://{BUCKET}"))
        .env("PUSH_GCS_ENDPOINT", &gcs.url)
        .env("GCE_METADATA_HOST", metadata.host())
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .expect("push runs")
}

/// Uploads a release without credentials.
async fn release(gcs: &FakeGcs) {
    let options = BucketOptions {
        endpoint: Some(gcs.url.parse().expect("a URL")),
        credentials: Credentials::Anonymous,
        ..BucketOptions::default()
    };
    let bucket = Bucket::open(&BucketUrl::Gcs(BUCKET.to_owned()), &options).await.expect("a bucket");
    let directory = TempDir::new().expect("a directory");
    let deb = directory.path().join("deb");
    std::fs::write(&deb, "deb").expect("a file");
    let name = ReleaseName::from_stem(RELEASE).expect("a release name");
    bucket.upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &facts(), &|_| ()).await.expect("a release");
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_token_of_the_metadata_server_opens_the_bucket() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    gcs.require_token("ya29.fake-1");
    let output = push(&gcs, &metadata, &["status"]).await;
    assert!(output.status.success(), "{}", said(&output));
    let seen = metadata.seen();
    let asked = seen.requests.iter().find(|request| request.path.ends_with("/token")).expect("a token was asked for");
    assert_eq!(asked.query["scopes"], "https://www.googleapis.com/auth/devstorage.read_write");
    assert_eq!(seen.tokens, 1, "a token is asked for once, not for each request");
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_made_again() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    gcs.require_token("ya29.fake-2");
    for arguments in [&["status"][..], &["status", "web-1"]] {
        let output = push(&gcs, &metadata, arguments).await;
        let said = said(&output);
        assert!(!said.contains("not allowed") && !said.contains("401"), "{arguments:?}: {said}");
        // The next command is a new process, which begins with the token after.
        gcs.require_token(&format!("ya29.fake-{}", metadata.seen().tokens + 2));
    }
    assert_eq!(metadata.seen().tokens, 4);
}

#[tokio::test]
async fn what_is_refused_with_a_fresh_token_too_is_not_asked_again() {
    let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
    gcs.require_token("another");
    let output = push(&gcs, &metadata, &["list", "web"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not allowed to list"), "{}", said(&output));
    // How many tokens that takes depends on which requests begin before another's token is renewed.
    let requests = gcs.requests();
    let same = |one: &Request, other: &Request| {
        (one.kind, &one.object, &one.query) == (other.kind, &other.object, &other.query)
    };
    let most = requests.iter().map(|one| requests.iter().filter(|other| same(one, other)).count()).max();
    assert_eq!(most, Some(2), "each request is made once with the token and once with a fresh one: {requests:#?}");
}

#[tokio::test]
async fn a_document_that_may_not_be_read_is_never_taken_for_absent() {
    for fault in [Fault::Status(403, None), Fault::Status(401, None), Fault::Html(403), Fault::Html(404)] {
        let (gcs, metadata) = (FakeGcs::start(BUCKET), FakeMetadata::start().await);
        release(&gcs).await;
        let before = gcs.count(Kind::Insert);
        gcs.fail(Kind::Get, "server/", fault.clone());
        gcs.fail(Kind::Head, "server/", fault.clone());
        let output = push(&gcs, &metadata, &["deploy", RELEASE, "web-1", "--force"]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {said}");
        assert!(said.contains("could not read the document of `web-1`"), "{fault:?}: {said}");
        assert_eq!(gcs.count(Kind::Insert), before, "{fault:?}: {said}");
    }
}
