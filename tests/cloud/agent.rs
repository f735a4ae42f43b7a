//! The real `pulld`, on this machine but with an empty document, so that it changes nothing here: does a poke wake it?

use std::{process::Stdio, time::Duration};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName, ServerDocument, ServerName};
use harness::{
    Programs,
    gcs::{FakeGcs, Fault, Kind, Request},
    metadata::FakeMetadata,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::push_command::facts;

pub(crate) struct Agent {
    _child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Agent {
    /// Starts it with a poll so long that only a poke can wake it, unless `settings` say otherwise.
    pub(crate) fn start(root: &TempDir, bucket: &BucketUrl, settings: &str, environment: &[(&str, String)]) -> Self {
        let etc = root.path().join("etc/pulld");
        std::fs::create_dir_all(&etc).expect("a directory");
        let poll = if settings.contains("poll = ") { "" } else { "poll = \"7d\"" };
        let configuration = format!("bucket = \"{bucket}\"\nserver = \"web-1\"\n{poll}\n{settings}\n");
        std::fs::write(etc.join("pulld.toml"), configuration).expect("a file");
        let mut command = Command::new(Programs::get().expect("our programs").pulld());
        command.arg("--root").arg(root.path()).args(["run", "--log", "debug"]);
        command.env_remove("JOURNAL_STREAM").env_remove("GCE_METADATA_HOST").envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("pulld starts");
        let said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { _child: child, said }
    }

    /// Reads what it says up to a line with `part` in it.
    pub(crate) async fn until(&mut self, part: &str) -> String {
        let mut all = String::new();
        let reading = async {
            while let Some(line) = self.said.next_line().await.expect("a pipe") {
                all.push_str(&line);
                all.push('\n');
                if line.contains(part) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(Duration::from_mins(1), reading).await;
        assert_eq!(found, Ok(true), "pulld never said `{part}`:\n{all}");
        all
    }
}

async fn bucket(directory: &TempDir) -> (BucketUrl, Bucket) {
    let url = BucketUrl::File(directory.path().to_owned());
    let bucket = Bucket::open(&url, &BucketOptions::default()).await.expect("a bucket");
    (url, bucket)
}

#[tokio::test]
async fn a_poke_wakes_the_agent_to_read_its_document() {
    let (root, directory) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (url, bucket) = bucket(&directory).await;
    let metadata = FakeMetadata::start().await;
    let mut agent = Agent::start(&root, &url, "", &[("GCE_METADATA_HOST", metadata.host())]);
    agent.until("watching for pokes").await;
    metadata.until(|seen| seen.hanging == 1).await;
    let server: ServerName = "web-1".parse().expect("a server name");
    let document: ServerDocument = ServerDocument::default();
    bucket.write_server_document(&server, &document, None).await.expect("a document");
    metadata.set("pushrev", "web:1 a");
    agent.until("reasons={Poke}").await;
    // And again: it goes on watching.
    metadata.until(|seen| seen.hanging == 1).await;
    metadata.set("pushrev", "web:2 b");
    agent.until("reasons={Poke}").await;
}

#[tokio::test]
async fn the_metadata_server_is_never_asked_through_a_proxy() {
    let (root, directory) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (url, _bucket) = bucket(&directory).await;
    let (metadata, proxy) = (FakeMetadata::start().await, FakeMetadata::start().await);
    let mut environment = vec![("GCE_METADATA_HOST", metadata.host())];
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        environment.push((name, format!("http://{}", proxy.host())));
    }
    let mut agent = Agent::start(&root, &url, "", &environment);
    metadata.until(|seen| seen.hanging == 1).await;
    metadata.set("pushrev", "web:1 a");
    agent.until("reasons={Poke}").await;
    assert_eq!(proxy.seen().connections, 0);
}

#[tokio::test]
async fn where_there_are_no_pokes_that_is_said_and_nothing_is_asked() {
    let (root, directory) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (url, _bucket) = bucket(&directory).await;
    let metadata = FakeMetadata::start().await;
    let mut agent = Agent::start(&root, &url, "metadata = \"off\"", &[("GCE_METADATA_HOST", metadata.host())]);
    let said = agent.until("polling only").await;
    assert!(said.contains("`metadata` is `off`"), "{said}");
    assert_eq!(metadata.seen().connections, 0);
}

/// What docs/google-cloud.md reckons with.
#[tokio::test]
async fn an_agent_with_nothing_to_do_makes_one_request_for_each_poll() {
    let (root, gcs) = (TempDir::new().expect("a directory"), FakeGcs::start("acme-push"));
    gcs.put("acme-push", "server/web-1.json", "[]");
    let settings = "poll = \"1s\"\nmetadata = \"off\"\ngcs_credentials = \"anonymous\"";
    let settings = format!("{settings}\ngcs_endpoint = \"{}\"", gcs.url);
    let _agent = Agent::start(&root, &BucketUrl::Gcs("acme-push".to_owned()), &settings, &[]);
    let is_poll = |request: &Request| {
        (request.kind, request.object.as_str(), request.status) == (Kind::Get, "server/web-1.json", 304)
    };
    gcs.until(|requests| requests.iter().filter(|request| is_poll(request)).count() >= 4).await;
    let requests: Vec<Request> = gcs.requests().into_iter().filter(|request| request.status != 0).collect();
    // The start: its document, the report that was there, and a new one.
    let start: Vec<_> = requests[..3].iter().map(|request| (request.kind, request.object.as_str())).collect();
    let (document, report) = ("server/web-1.json", "status/web-1.json");
    assert_eq!(start, [(Kind::Get, document), (Kind::Get, report), (Kind::Insert, report)], "{requests:#?}");
    assert!(requests[3..].iter().all(is_poll), "{requests:#?}");
}

/// Of a large fleet, too: one request more than when the report is readable, and none that lists the others'.
#[tokio::test]
async fn a_malformed_report_costs_the_agent_one_request_more() {
    let (root, gcs) = (TempDir::new().expect("a directory"), FakeGcs::start("acme-push"));
    gcs.put("acme-push", "server/web-1.json", "[]");
    gcs.put("acme-push", "status/web-1.json", "{");
    for other in 0..1500 {
        gcs.put("acme-push", &format!("status/other-{other}.json"), "{}");
    }
    let settings = "poll = \"1s\"\nmetadata = \"off\"\ngcs_credentials = \"anonymous\"";
    let settings = format!("{settings}\ngcs_endpoint = \"{}\"", gcs.url);
    let _agent = Agent::start(&root, &BucketUrl::Gcs("acme-push".to_owned()), &settings, &[]);
    gcs.until(|requests| requests.iter().any(|request| request.kind == Kind::Insert && request.status == 200)).await;
    let requests: Vec<_> = gcs.requests().into_iter().map(|request| (request.kind, request.object)).collect();
    let report = "status/web-1.json";
    let expected =
        [(Kind::Get, "server/web-1.json"), (Kind::Get, report), (Kind::Head, report), (Kind::Insert, report)];
    assert_eq!(requests[..4], expected.map(|(kind, object)| (kind, object.to_owned())), "{requests:#?}");
}

#[tokio::test]
async fn a_bucket_in_trouble_is_not_sent_a_report_of_it() {
    let (root, gcs) = (TempDir::new().expect("a directory"), FakeGcs::start("acme-push"));
    gcs.put("acme-push", "server/web-1.json", "[]");
    gcs.fail(Kind::Get, "server/", Fault::Status(503, None));
    let settings = "poll = \"1s\"\nmetadata = \"off\"\ngcs_credentials = \"anonymous\"";
    let settings = format!("{settings}\ngcs_endpoint = \"{}\"", gcs.url);
    let _agent = Agent::start(&root, &BucketUrl::Gcs("acme-push".to_owned()), &settings, &[]);
    let reports =
        |requests: &[Request]| requests.iter().filter(|request| request.object.starts_with("status/")).count();
    // Five attempts a cycle: by the sixth, a whole cycle is over.
    gcs.until(|requests| requests.len() >= 6).await;
    assert_eq!(reports(&gcs.requests()), 0, "{:#?}", gcs.requests());
    gcs.heal();
    gcs.until(|requests| requests.iter().any(|request| request.kind == Kind::Insert)).await;
    assert_eq!(reports(&gcs.requests()), 2, "it is looked at and written");
}

/// How long each answer takes in the test below: far longer than all else that is done in between.
const TRIP: Duration = Duration::from_secs(1);

/// How many answers whoever sent these requests has waited for, one after the other.
fn round_trips(requests: &[Request]) -> usize {
    let mut last: Option<std::time::Instant> = None;
    let mut trips = 0;
    for request in requests {
        if last.is_none_or(|last| request.at.duration_since(last) >= TRIP) {
            (last, trips) = (Some(request.at), trips + 1);
        }
    }
    trips
}

/// Over a far link each costs its time; from the download on nothing of the bucket is waited for.
#[tokio::test]
async fn from_a_deploy_to_a_downloaded_release_it_is_six_round_trips_at_most() {
    let (root, home, gcs) = (TempDir::new().unwrap(), TempDir::new().unwrap(), FakeGcs::start("acme-push"));
    let options = BucketOptions {
        endpoint: Some(gcs.url.parse().expect("a URL")),
        credentials: Credentials::Anonymous,
        ..BucketOptions::default()
    };
    let url = BucketUrl::Gcs("acme-push".to_owned());
    let bucket = Bucket::open(&url, &options).await.expect("a bucket");
    let deb = home.path().join("deb");
    std::fs::write(&deb, "deb").expect("a file");
    let name = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
    let (name, source): (ReleaseName, _) = (name.parse().unwrap(), bucket::SourceFile::read(&deb).unwrap());
    // It has another sum than is said of it: nothing is installed on this machine.
    bucket.upload_release(&name, &source, &facts(), &|_| ()).await.expect("a release");
    gcs.put("acme-push", "server/web-1.json", "[]");
    let metadata = FakeMetadata::start().await;
    let settings = format!("gcs_credentials = \"anonymous\"\ngcs_endpoint = \"{}\"", gcs.url);
    let mut agent = Agent::start(&root, &url, &settings, &[("GCE_METADATA_HOST", metadata.host())]);
    agent.until("watching for pokes").await;
    metadata.until(|seen| seen.hanging == 1).await;
    gcs.until(|requests| requests.iter().any(|request| request.kind == Kind::Insert && request.status == 200)).await;

    for kind in [Kind::List, Kind::Get, Kind::Head, Kind::Insert] {
        gcs.fail(kind, "", Fault::Slow(TRIP));
    }
    let before = gcs.requests().len();
    let mut push = Command::new(Programs::get().expect("our programs").push());
    push.env_clear().env("HOME", home.path()).env("PUSH_BUCKET", url.to_string());
    push.env("PUSH_GCS_ENDPOINT", &gcs.url).env("PUSH_GCS_CREDENTIALS", "anonymous");
    push.args(["deploy", "web", "web-1"]).kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::null());
    let _push = push.spawn().expect("push runs");
    let is_written = |request: &Request| {
        (request.kind, request.object.as_str(), request.status) == (Kind::Insert, "server/web-1.json", 200)
    };
    gcs.until(|requests| requests[before..].iter().any(is_written)).await;
    metadata.set("pushrev", "web:1 a");
    let is_download = |request: &Request| {
        request.object.starts_with("debs/") && request.query.get("alt").is_some_and(|alt| alt == "media")
    };
    gcs.until(|requests| requests[before..].iter().any(is_download)).await;
    let requests = gcs.requests().split_off(before);
    let download = requests.iter().position(is_download).unwrap();
    let trips = round_trips(&requests[..=download]);
    println!("{trips} round trips");
    assert!(trips <= 6, "{trips} round trips: {:#?}", &requests[..=download]);
}
