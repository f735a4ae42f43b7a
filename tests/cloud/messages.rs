//! Messages that begin a round of `push watch`: from a Pub/Sub that misbehaves to documents that are written.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bucket::{Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName, SourceFile};
use harness::{
    Programs, Repo, Target,
    gcs::{FakeGcs, Fault as StorageFault, Kind, Request},
    metadata::FakeMetadata,
    pubsub::{Call, FakePubSub, Fault, Verb},
};
use tempfile::TempDir;

use crate::push_command::facts;

pub(crate) const BUCKET: &str = "acme-push";

/// A bucket, a Pub/Sub and a repository, whose app `web` the server `web-1` follows.
pub(crate) struct World {
    pub(crate) gcs: FakeGcs,
    pub(crate) pubsub: FakePubSub,
    bucket: Bucket,
    pub(crate) repo: Repo,
    pub(crate) directory: TempDir,
    built: u32,
}

/// A watcher; it is killed with this.
pub(crate) struct Watching {
    child: Child,
    address: String,
    /// What it has said.
    said: Arc<Mutex<String>>,
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "waited a minute in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let (gcs, pubsub) = (FakeGcs::start(BUCKET), FakePubSub::start());
        let endpoint = Some(gcs.url.parse().expect("a URL"));
        let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
        let bucket = Bucket::open(&BucketUrl::Gcs(BUCKET.to_owned()), &options).await.expect("a bucket");
        let directory = TempDir::new().expect("a directory");
        let repo = Repo::new(&directory.path().join("repo")).expect("a repository");
        gcs.put(BUCKET, "server/web-1.json", "[\"web/\"]");
        let world = Self { gcs, pubsub, bucket, repo, directory, built: 0 };
        world.configure("");
        world
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.repo.directory().display())
    }

    /// Writes the policy file: the channel of `web`, and what else is said.
    pub(crate) fn configure(&self, more: &str) {
        let url = self.url();
        let rules = format!(r#"{{ Channels: [{{ App: "web", Repo: "{url}", Servers: ["web-*"] }}, {more}] }}"#);
        std::fs::write(self.directory.path().join("rules"), rules).expect("a file");
    }

    /// A commit, and a release of it.
    pub(crate) async fn release(&mut self) -> ReleaseName {
        self.built += 1;
        self.repo.write("version", &self.built.to_string()).expect("a file");
        self.repo.commit("next").expect("a commit");
        self.release_of("web").await
    }

    /// A release of an app, of the newest commit.
    pub(crate) async fn release_of(&self, app: &str) -> ReleaseName {
        let mut git = Command::new("git");
        let output = git.arg("-C").arg(self.repo.directory()).args(["rev-parse", "HEAD"]).output().expect("git runs");
        let commit = String::from_utf8(output.stdout).expect("a commit");
        let name = format!("{app}/{app}:dev@build-1:2026-11-20T19:05:{:02}Z:{}.deb", self.built, commit.trim());
        let name: ReleaseName = name.parse().expect("a release name");
        let deb = self.directory.path().join("deb");
        std::fs::write(&deb, "deb").expect("a file");
        let deb = SourceFile::read(&deb).expect("a package");
        self.bucket.upload_release(&name, &deb, &facts(), &|_| ()).await.expect("a release");
        name
    }

    /// Whether the first server of its app should have this release.
    async fn has(&self, release: &ReleaseName) -> bool {
        let path = format!("server/{}-1.json", release.app()).parse().expect("a path");
        let document = self.bucket.get(&path, 1000).await.expect("an answer").expect("a document");
        String::from_utf8_lossy(&document.content).contains(release.stem())
    }

    /// Waits until it should.
    pub(crate) async fn until_it_has(&self, release: &ReleaseName) {
        let begun = Instant::now();
        while !self.has(release).await {
            assert!(begun.elapsed() < Duration::from_mins(1), "waited a minute in vain for {release}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn announce(&self, app: &str) {
        self.pubsub.publish(format!("{{\"app\":\"{app}\"}}").as_bytes(), &[]);
    }

    /// How many rounds have begun to look: each lists the documents once.
    pub(crate) fn rounds(&self) -> usize {
        let is_look = |request: &&Request| request.kind == Kind::List && request.object == "server/";
        self.gcs.requests().iter().filter(is_look).count()
    }

    /// How often git was run.
    fn gits(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("gits")).unwrap_or_default().lines().count()
    }

    /// The calls of a verb so far.
    fn calls(&self, verb: Verb) -> Vec<Call> {
        self.pubsub.calls().into_iter().filter(|call| call.verb == verb).collect()
    }

    pub(crate) fn watch(&self, poll: &str) -> Watching {
        self.watch_with(poll, &[("PUBSUB_EMULATOR_HOST", self.pubsub.host())])
    }

    /// A watcher that has done its first round.
    pub(crate) fn watch_with(&self, poll: &str, environment: &[(&str, &str)]) -> Watching {
        let bin = self.directory.path().join("bin");
        std::fs::create_dir_all(&bin).expect("a directory");
        let counted = format!(
            "#!/bin/sh\necho >>'{}'\nPATH='{}' exec git \"$@\"\n",
            self.directory.path().join("gits").display(),
            std::env::var("PATH").expect("a path")
        );
        std::fs::write(bin.join("git"), counted).expect("a file");
        std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let mut watch = Command::new(Programs::get().expect("our programs").push());
        Target { url: format!("gs://{BUCKET}"), endpoint: Some(self.gcs.url.clone()) }.apply(&mut watch);
        watch.args(["watch", "--poll", poll, "--listen", "127.0.0.1:0", "--subscription", FakePubSub::SUBSCRIPTION]);
        watch.arg("--mirrors").arg(self.directory.path().join("mirrors"));
        watch.arg("--config").arg(self.directory.path().join("rules")).envs(environment.iter().copied());
        watch.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path")));
        let before = self.rounds();
        let mut child = watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("push");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://").and_then(|line| line.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        let said = Arc::new(Mutex::new(String::new()));
        let to = said.clone();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| to.lock().expect("a lock").extend([&line, "\n"]));
        });
        let watching = Watching { child, address, said };
        until("the first round", || self.rounds() > before);
        watching
    }
}

impl Watching {
    /// How many messages had this result.
    fn messages(&self, result: &str) -> usize {
        self.value(&format!("push_watch_messages_total{{result=\"{result}\"}}"))
    }

    /// What `/metrics` has of a series.
    pub(crate) fn value(&self, series: &str) -> usize {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let line = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}: {answer}")).parse().expect("a number")
    }

    fn has_said(&self, text: &str) -> bool {
        self.said.lock().expect("a lock").contains(text)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_message_has_documents_written_without_a_poll_and_is_acknowledged_after_that() {
    let mut world = World::new().await;
    let first = world.release().await;
    let watching = world.watch("1h");
    world.until_it_has(&first).await;
    let image = format!(r#"{{"image_name":"gcr.io/acme/web","tag":"7e0ff60","repo":"{}"}}"#, world.url());
    for form in ["app", "image", "object"] {
        let release = world.release().await;
        assert!(!world.has(&release).await);
        match form {
            "app" => world.announce("web"),
            "image" => world.pubsub.publish(image.as_bytes(), &[]),
            _ => {
                let object = format!("debs/{release}");
                let told = [("eventType", "OBJECT_FINALIZE"), ("bucketId", BUCKET), ("objectId", object.as_str())];
                world.pubsub.publish(b"", &told);
            }
        }
        world.until_it_has(&release).await;
        until("it is acknowledged", || world.pubsub.left() == 0);
        let written = world.gcs.requests();
        let is_write = |request: &&Request| request.kind == Kind::Insert && request.object == "server/web-1.json";
        let written = written.iter().rfind(is_write).expect("a write").at;
        assert!(world.calls(Verb::Acknowledge).last().expect("a call").at > written, "{form}");
    }
    assert_eq!((watching.messages("accepted"), world.rounds()), (3, 4));
}

#[tokio::test]
async fn a_thousand_messages_at_once_are_two_rounds_at_most() {
    let mut world = World::new().await;
    let watching = world.watch("1h");
    for fault in [None, Some(Fault::Twice)] {
        let (before, heard) = (world.rounds(), watching.messages("accepted"));
        if let Some(fault) = fault {
            world.pubsub.fail(Verb::Pull, fault);
        }
        let release = world.release().await;
        for _ in 0..1000 {
            world.announce("web");
        }
        world.until_it_has(&release).await;
        until("all are acknowledged", || world.pubsub.left() == 0);
        assert!((1..=2).contains(&(world.rounds() - before)), "{} rounds", world.rounds() - before);
        let heard = watching.messages("accepted") - heard;
        // Of the pull that waited already none is doubled.
        assert!(if fault.is_some() { heard > 1500 } else { heard == 1000 }, "{heard} messages");
    }
}

#[tokio::test]
async fn what_begins_no_round_is_acknowledged_and_counted_and_runs_no_git() {
    let mut world = World::new().await;
    let first = world.release().await;
    let watching = world.watch("1h");
    world.until_it_has(&first).await;
    world.pubsub.set_deadline(Duration::from_secs(2));
    let (rounds, gits) = (world.rounds(), world.gits());
    assert!(gits > 0, "git is counted");
    let url = world.url();
    let image = |tag: &str, repo: &str| format!(r#"{{"image_name":"web","tag":"{tag}","repo":"{repo}"}}"#);
    // Together they are longer than any answer that is read.
    for _ in 0..20 {
        world.pubsub.publish(&vec![b'x'; 1 << 20], &[]);
    }
    world.pubsub.publish_data("no base64!", [].into());
    for undecodable in ["", "hello", "{}", "[[[[", r#"{"app":"../x"}"#, r#"{"app":"--upload-pack=x"}"#] {
        world.pubsub.publish(undecodable.as_bytes(), &[]);
    }
    for foreign in [image("7e0ff60", "--upload-pack=x"), image("7e0ff60", "https://git.example/other.git")] {
        world.pubsub.publish(foreign.as_bytes(), &[]);
    }
    world.announce("db");
    for (of, object) in [("other", format!("debs/{first}")), (BUCKET, "status/web-1.json".to_owned())] {
        let told = [("eventType", "OBJECT_FINALIZE"), ("bucketId", of), ("objectId", object.as_str())];
        world.pubsub.publish(b"", &told);
    }
    world.pubsub.publish(image("7e0ff60_3", &url).as_bytes(), &[]);
    until("all are acknowledged", || world.pubsub.left() == 0);
    assert!(watching.messages("oversized") >= 20);
    assert!(watching.messages("undecodable") >= 7 && watching.messages("foreign") >= 5);
    assert_eq!((watching.messages("unmerged"), watching.messages("accepted")), (1, 0));
    assert_eq!((world.rounds(), world.gits()), (rounds, gits));
    // It lives.
    let release = world.release().await;
    world.announce("web");
    world.until_it_has(&release).await;
}

#[tokio::test]
async fn while_pub_sub_is_away_the_poll_does_everything() {
    let mut world = World::new().await;
    world.pubsub.fail(Verb::Pull, Fault::Status(403));
    let watching = world.watch("1s");
    until("it says so", || watching.has_said("status 403: as asked by the test"));
    for fault in [Fault::Status(503), Fault::Html(502), Fault::Slow(Duration::from_mins(10))] {
        world.pubsub.heal();
        world.pubsub.fail(Verb::Pull, fault);
        let release = world.release().await;
        world.announce("web");
        world.until_it_has(&release).await;
    }
    drop(watching);
    // Nobody listens there at all.
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("an address");
    let watching = world.watch_with("1s", &[("PUBSUB_EMULATOR_HOST", &gone.to_string())]);
    let release = world.release().await;
    world.until_it_has(&release).await;
    until("it says so", || watching.has_said("could not reach Pub/Sub"));
}

#[tokio::test]
async fn messages_whose_round_failed_come_again_later_each_time_and_others_do_not() {
    let mut world = World::new().await;
    let other = world.directory.path().join("other");
    world.configure(&format!(r#"{{ App: "api", Repo: "file://{}" }}"#, other.display()));
    let first = world.release().await;
    let _watching = world.watch("1h");
    world.until_it_has(&first).await;
    for app in ["web", "api"] {
        world.announce(app);
    }
    let pauses = || -> Vec<u64> {
        let seconds = |call: &Call| call.body["ackDeadlineSeconds"].as_u64().expect("a number");
        world.calls(Verb::Modify).iter().map(seconds).filter(|seconds| *seconds != 600).collect()
    };
    until("it comes again twice", || pauses().len() == 2);
    assert_eq!((pauses(), world.pubsub.left()), (vec![5, 10], 1), "web is done");
    // What was missing is there: the message does the rest, and no poll.
    Repo::new(&other).and_then(|repo| repo.commit("first")).expect("a repository");
    until("it is acknowledged", || world.pubsub.left() == 0);
}

#[tokio::test]
async fn one_delivery_that_has_expired_keeps_no_other_from_being_acknowledged() {
    let mut world = World::new().await;
    let first = world.release().await;
    let watching = world.watch("1h");
    world.until_it_has(&first).await;
    // A round that takes its time.
    world.gcs.fail_next(Kind::List, "server/", 1, StorageFault::Slow(Duration::from_secs(3)));
    let rounds = world.rounds();
    world.announce("web");
    until("its round has begun", || world.rounds() > rounds);
    world.pubsub.expire();
    until("it has come again", || watching.messages("accepted") == 2);
    world.announce("web");
    until("all are acknowledged", || world.pubsub.left() == 0);
    // Of three together one is refused, and with it all of them.
    world.pubsub.fail_next(Verb::Acknowledge, 1, Fault::Status(400));
    let before = world.calls(Verb::Acknowledge).len();
    for _ in 0..3 {
        world.announce("web");
    }
    until("all are acknowledged", || world.pubsub.left() == 0);
    let ids: Vec<usize> = world.calls(Verb::Acknowledge)[before..]
        .iter()
        .map(|call| call.body["ackIds"].as_array().expect("ids").len())
        .collect();
    assert_eq!(ids, [3, 1, 1, 1]);
}

#[tokio::test]
async fn tokens_are_those_of_the_storage_and_renewed_when_they_are_refused() {
    let (mut world, metadata) = (World::new().await, FakeMetadata::start().await);
    world.pubsub.fail_next(Verb::Pull, 1, Fault::Status(401));
    let (endpoint, host) = (format!("http://{}", world.pubsub.host()), metadata.host());
    let _watching = world.watch_with("1h", &[("PUSH_PUBSUB_ENDPOINT", &endpoint), ("GCE_METADATA_HOST", &host)]);
    let release = world.release().await;
    world.announce("web");
    world.until_it_has(&release).await;
    let bearers: Vec<_> = world.calls(Verb::Pull).into_iter().filter_map(|call| call.authorization).take(2).collect();
    assert_eq!(bearers, ["Bearer ya29.fake-1", "Bearer ya29.fake-2"]);
}

#[tokio::test]
async fn who_is_told_to_end_gives_back_the_messages_that_it_has() {
    let mut world = World::new().await;
    let first = world.release().await;
    let mut watching = world.watch("1h");
    world.until_it_has(&first).await;
    let release = world.release().await;
    // One is in its round, which takes long, and one waits for the next.
    world.gcs.fail_next(Kind::List, "server/", 1, StorageFault::Slow(Duration::from_mins(5)));
    let rounds = world.rounds();
    world.announce("web");
    until("its round has begun", || world.rounds() > rounds);
    world.announce("web");
    until("the other is kept, too", || world.calls(Verb::Modify).len() == 2 && watching.messages("accepted") == 2);
    let pid = rustix::process::Pid::from_child(&watching.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    until("it ends", || watching.child.try_wait().expect("it is ours").is_some());
    let given_back = |call: &Call| {
        let is_at_once = call.body["ackDeadlineSeconds"] == 0;
        if is_at_once { call.body["ackIds"].as_array().expect("ids").len() } else { 0 }
    };
    assert_eq!(world.calls(Verb::Modify).iter().map(given_back).sum::<usize>(), 2);
    // Another watcher has them at once, and not when they would have come again.
    let _next = world.watch("1h");
    until("they are acknowledged", || world.pubsub.left() == 0);
    world.until_it_has(&release).await;
}
