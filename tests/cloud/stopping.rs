//! A push that another process is still at, stopped by its ID.

use std::{
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName, SourceFile};
use harness::{
    Programs, Target,
    gcs::{FakeGcs, Fault, Kind, Request},
};
use serde_json::Value;

use crate::push_command::facts;

/// More than are written within the time that a stop may take to be seen.
const SERVERS: usize = 240;

/// One second for every sixteen of them.
const WRITE: Duration = Duration::from_secs(1);

struct World {
    gcs: FakeGcs,
    target: Target,
    directory: tempfile::TempDir,
}

impl World {
    /// A bucket with a release of `web`, and slow to write documents.
    async fn new() -> Self {
        let gcs = FakeGcs::start("acme");
        let endpoint = Some(gcs.url.parse().expect("a URL"));
        let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
        let bucket = Bucket::open(&BucketUrl::Gcs("acme".to_owned()), &options).await.expect("a bucket");
        let name = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
        let name: ReleaseName = name.parse().expect("a release name");
        let directory = tempfile::tempdir().expect("a directory");
        let deb = directory.path().join("web.deb");
        std::fs::write(&deb, "deb").expect("a file");
        let deb = SourceFile::read(&deb).expect("a package");
        bucket.upload_release(&name, &deb, &facts(), &|_| ()).await.expect("a release");
        gcs.fail(Kind::Insert, "server/", Fault::Slow(WRITE));
        let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        Self { gcs, target, directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut push = Command::new(Programs::get().expect("our programs").push());
        push.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.target.apply(&mut push);
        push
    }

    fn push(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("push runs")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.push(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Begins to push to all servers; it goes on.
    fn begin(&self) -> Child {
        let servers: Vec<String> = (1..=SERVERS).map(|n| format!("web-{n}")).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        self.command(&[&["deploy", "web", "--force"][..], &servers].concat()).spawn().expect("push runs")
    }

    fn documents(&self) -> usize {
        self.gcs.requests().iter().filter(|request| is_written(request)).count()
    }
}

fn is_written(request: &Request) -> bool {
    request.kind == Kind::Insert && request.object.starts_with("server/") && request.status == 200
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_another_process_is_stopped_within_seconds_by_who_may() {
    let world = World::new().await;
    let running = world.begin();
    world.gcs.until(|requests| requests.iter().any(is_written)).await;
    let pushes = world.json(&["pushes"]);
    let id = pushes["pushes"][0]["id"].as_str().expect("the push that runs");

    // Who may push to some of its servers only, may not.
    let policy = world.directory.path().join("skiapush.conf");
    let some =
        "{ Groups: { some: { Servers: ['web-1'] } }, Roles: [{ Role: 'deployer', Who: ['*'], Groups: ['some'] }] }";
    std::fs::write(&policy, some).expect("a policy");
    let config = policy.display().to_string();
    let refused = world.push(&["stop", id, "--config", &config]);
    assert!(said(&refused).contains("which is left: somebody has to stop it who may"), "{}", said(&refused));
    assert!(!refused.status.success());

    let stopped = world.push(&["stop", id]);
    assert!(stopped.status.success() && said(&stopped).contains(" is stopped; "), "{}", said(&stopped));
    let at_stop = world.documents();
    let ended = running.wait_with_output().expect("push ends");
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("nothing was written: the push was stopped"), "{}", said(&ended));
    // It looks every five seconds, and what is under way is written.
    let (written, most) = (world.documents(), at_stop + 16 * 8);
    assert!(written <= most && written < SERVERS, "{at_stop} were written when it was stopped, {written} in the end");
    let shown = world.json(&["show", id]);
    let rows = shown["rows"].as_array().expect("rows");
    let unwritten = rows.iter().filter(|row| row["generation"].is_null()).count();
    assert_eq!((rows.len(), unwritten), (SERVERS, SERVERS - written), "each row says whether it was written");
    assert!(!shown.to_string().contains("cut off"), "{shown}");
}
