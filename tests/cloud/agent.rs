//! The real `pulld`, on this machine but with an empty document, so that it changes nothing here: does a poke wake it?

use std::{process::Stdio, time::Duration};

use bucket::{Bucket, BucketOptions, BucketUrl, ServerDocument, ServerName};
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
