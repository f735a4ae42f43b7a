//! What `push serve` asks of its bucket while nobody pushes: docs/google-cloud.md reckons with it.

use std::process::Stdio;

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName, ServerDocument, ServerName};
use harness::{
    Programs,
    gcs::{FakeGcs, Kind, Request},
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::push_command::facts;

#[tokio::test]
async fn a_quiet_round_of_the_web_app_is_ten_listings_and_a_look_for_a_halt() {
    let (gcs, home) = (FakeGcs::start("acme-push"), TempDir::new().expect("a directory"));
    let options = BucketOptions {
        endpoint: Some(gcs.url.parse().expect("a URL")),
        credentials: Credentials::Anonymous,
        ..BucketOptions::default()
    };
    let bucket = Bucket::open(&BucketUrl::Gcs("acme-push".to_owned()), &options).await.expect("a bucket");
    let name = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
    let name: ReleaseName = name.parse().expect("a release name");
    let deb = home.path().join("deb");
    std::fs::write(&deb, "deb").expect("a file");
    bucket.upload_release(&name, &bucket::SourceFile::read(&deb).unwrap(), &facts(), &|_| ()).await.expect("a release");
    let server: ServerName = "web-1".parse().expect("a server name");
    bucket.write_server_document(&server, &ServerDocument::default(), None).await.expect("a document");
    let before = gcs.requests().len();
    let mut command = Command::new(Programs::get().expect("our programs").push());
    command.env_clear().env("HOME", home.path()).env("PUSH_BUCKET", "gs://acme-push");
    command.env("PUSH_GCS_ENDPOINT", &gcs.url).env("PUSH_GCS_CREDENTIALS", "anonymous");
    command.args(["serve", "--listen", "127.0.0.1:0", "--refresh", "1s"]);
    let _serve = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().expect("push runs");
    let documents = |requests: &[Request]| requests.iter().filter(|request| request.object == "server/").count();
    gcs.until(|requests| documents(&requests[before..]) >= 6).await;
    let requests = gcs.requests().split_off(before);
    // A push is looked for in the history when a document is new, and once more in the round after.
    let pushed = requests.iter().rposition(|request| request.object.starts_with("history/")).expect("the start");
    let quiet = &requests[pushed + 1..];
    let count = |object: &str, delimiter: bool| {
        let asked = |request: &&Request| {
            request.kind == Kind::List
                && request.object == object
                && request.query.contains_key("delimiter") == delimiter
        };
        quiet.iter().filter(asked).count()
    };
    let halts = quiet.iter().filter(|request| request.kind == Kind::Get && request.object == "halt.json").count();
    let counts = [count("server/", false), count("status/", false), count("debs/", true), count("debs/", false)];
    let others =
        ["rejected/", "retired/", "holds/", "pushes/", "rollouts/", "channels/"].map(|object| count(object, false));
    let counts = [&counts[..], &others, &[halts]].concat();
    let rounds = counts[0];
    assert!(counts.iter().all(|count| *count >= 2 && count.abs_diff(rounds) <= 1), "{counts:?} in {quiet:#?}");
    assert_eq!(counts.iter().sum::<usize>(), quiet.len(), "{quiet:#?}");
}
