//! The web app's snapshot of a bucket: what it asks for, what it shows when something is wrong, and that it is never older
//! than what was written through it.

use std::{collections::BTreeMap, time::Duration};

use bucket::{
    AgentStatus, Bucket, BucketOptions, BucketUrl, Credentials, DocumentStatus, HistoryEntry, ObjectPath, PushKind,
    ReleaseMetadata, ReleaseName, ServerDocument, ServerName, ServerState, Status, Timestamp,
};
use fleet::server::Reading;
use harness::gcs::{FakeGcs, Fault, Kind, Request};
use push_server::snapshot::{FleetSnapshot, SnapshotRefresher};

pub(crate) struct World {
    pub(crate) gcs: FakeGcs,
    pub(crate) bucket: Bucket,
    pub(crate) refresher: SnapshotRefresher,
}

impl World {
    /// Three servers, two apps and a push, looked at until there is nothing new.
    pub(crate) async fn settled() -> Self {
        let world = Self::empty().await;
        for n in 1..=3 {
            world.choose(&format!("web-{n}"), 1).await;
            world.report(&format!("web-{n}")).await;
        }
        for (app, n) in [("web", 1), ("web", 2), ("api", 1)] {
            world.release(&name(app, "dev@build-1", n));
        }
        world.record("web-1", 1).await;
        for _ in 0..3 {
            world.refresher.refresh().await;
        }
        world
    }

    pub(crate) async fn empty() -> Self {
        let gcs = FakeGcs::start("fleet");
        let bucket = open(&gcs, "fleet").await;
        let refresher = SnapshotRefresher::new(bucket.clone());
        Self { gcs, bucket, refresher }
    }

    /// Writes a server's document, as a push does.
    async fn choose(&self, server: &str, n: u32) {
        let (generation, mut document) = match self.bucket.server_document(&server_name(server)).await.unwrap() {
            Some((generation, document)) => (Some(generation), document),
            None => (None, ServerDocument::default()),
        };
        document.set(name("web", "dev@build-1", n));
        self.bucket.write_server_document(&server_name(server), &document, generation).await.unwrap();
    }

    async fn report(&self, server: &str) {
        self.bucket.write_status(&status(server), None).await.unwrap();
    }

    async fn record(&self, server: &str, n: u32) {
        self.bucket.append_history(&history(server, n)).await.unwrap();
    }

    pub(crate) fn release(&self, name: &ReleaseName) {
        self.gcs.put_with("fleet", &format!("debs/{name}"), "deb", metadata().to_metadata(name));
    }

    pub(crate) async fn delete(&self, path: &str) {
        let path: ObjectPath = path.parse().unwrap();
        let found = self.bucket.head(&path).await.unwrap().expect("it is there");
        self.bucket.delete(&path, found.generation).await.unwrap();
    }

    /// The requests of one round.
    pub(crate) async fn round(&self) -> Vec<Request> {
        let before = self.gcs.requests().len();
        self.refresher.refresh().await;
        self.gcs.requests().split_off(before)
    }

    fn chosen(&self, server: &str) -> Option<ReleaseName> {
        let snapshot = self.refresher.snapshot();
        snapshot.servers.get(&server_name(server))?.desired(&"web".parse().unwrap()).cloned()
    }

    fn releases(&self, app: &str) -> Vec<ReleaseName> {
        let snapshot = self.refresher.snapshot();
        let releases = snapshot.apps.get(&app.parse().unwrap());
        releases.into_iter().flat_map(|releases| releases.newest().map(|listed| listed.name)).collect()
    }

    pub(crate) fn changes(&self) -> u64 {
        *self.refresher.changes().borrow()
    }
}

async fn open(gcs: &FakeGcs, bucket: &str) -> Bucket {
    let url: BucketUrl = format!("gs://{bucket}").parse().unwrap();
    let endpoint = Some(gcs.url.parse().unwrap());
    let (credentials, timeout) = (Credentials::Anonymous, Duration::from_secs(10));
    let options = BucketOptions { endpoint, credentials, timeout, ..BucketOptions::default() };
    Bucket::open(&url, &options).await.unwrap()
}

pub(crate) fn server_name(name: &str) -> ServerName {
    name.parse().unwrap()
}

pub(crate) fn name(app: &str, builder: &str, n: u32) -> ReleaseName {
    let time = time(n);
    format!("{app}/{app}:{builder}:{time}:{n:040x}.deb").parse().unwrap()
}

pub(crate) fn time(n: u32) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + i64::from(n)).unwrap()
}

fn metadata() -> ReleaseMetadata {
    ReleaseMetadata {
        dirty: false,
        note: "login fix".to_owned(),
        services: Vec::new(),
        sha256: [0; 32].into(),
        size: 3,
        package: "web".parse().unwrap(),
        version: "1".to_owned(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: "main".to_owned(),
        made_by: None,
    }
}

pub(crate) fn status(server: &str) -> Status {
    Status {
        server: server_name(server),
        machine: "abc".to_owned(),
        written: time(0),
        state: ServerState::Converged,
        summary: "all is well".to_owned(),
        agent: AgentStatus {
            version: "1".to_owned(),
            started: time(0),
            poll_seconds: 300,
            heartbeat_seconds: 900,
            next_poll: None,
            health_window_seconds: None,
        },
        document: DocumentStatus { generation: None, error: None, bad_entries: Vec::new(), bad_count: None },
        apps: Vec::new(),
        holds: Vec::new(),
        warnings: Vec::new(),
        events: Vec::new(),
        not_compared: Vec::new(),
    }
}

fn history(server: &str, n: u32) -> HistoryEntry {
    HistoryEntry {
        time: Timestamp::now(),
        id: format!("{n:016x}"),
        server: server_name(server),
        app: "web".parse().ok(),
        from: None,
        to: Some(name("web", "dev@build-1", n)),
        kind: PushKind::Deploy,
        who: "dev@build-1".to_owned(),
        why: String::new(),
        generation: bucket::Generation(1),
        push: None,
        without_waves: false,
        channel: None,
    }
}

/// What was asked for, in words.
pub(crate) fn asked(requests: &[Request]) -> Vec<String> {
    let mut asked: Vec<String> =
        requests.iter().map(|request| format!("{:?} {}", request.kind, request.object)).collect();
    asked.sort();
    asked
}

fn names(snapshot: &FleetSnapshot) -> Vec<&str> {
    snapshot.servers.keys().map(ServerName::as_str).collect()
}

/// What a round asks for when nothing has changed.
pub(crate) const QUIET: [&str; 11] = [
    "Get halt.json",
    "List channels/",
    "List debs/",
    "List debs/",
    "List holds/",
    "List pushes/",
    "List rejected/",
    "List retired/",
    "List rollouts/",
    "List server/",
    "List status/",
];

/// Without what every round asks for.
fn besides_quiet(asked: Vec<String>) -> Vec<String> {
    asked.into_iter().filter(|asked| !QUIET.contains(&asked.as_str())).collect()
}

#[tokio::test]
async fn a_quiet_round_lists_and_sees_whether_all_is_halted() {
    let world = World::settled().await;
    let changes = world.changes();
    for _ in 0..2 {
        let taken = world.refresher.snapshot().taken.unwrap();
        assert_eq!(asked(&world.round().await), QUIET);
        assert!(world.refresher.snapshot().taken.unwrap() > taken);
    }
    assert_eq!(world.changes(), changes, "nothing that is shown has changed");
    let snapshot = world.refresher.snapshot();
    assert_eq!((names(&snapshot), snapshot.pushes.len(), snapshot.apps.len()), (vec!["web-1", "web-2", "web-3"], 1, 2));
    let listed = snapshot.apps[&"web".parse().unwrap()].latest().unwrap();
    assert_eq!((listed.name.clone(), listed.note), (name("web", "dev@build-1", 2), "login fix"));
}

#[tokio::test]
async fn only_what_has_changed_is_read() {
    let world = World::settled().await;
    let (changes, before) = (world.changes(), world.refresher.snapshot());
    world.choose("web-2", 2).await;
    let entry = history("web-2", 2);
    world.bucket.append_history(&entry).await.unwrap();
    let round = asked(&world.round().await);
    // The listing tells what was pushed.
    assert_eq!(besides_quiet(round), ["Get server/web-2.json", "List history/web-2/"]);
    assert!(world.changes() > changes);
    assert_eq!(world.chosen("web-2"), Some(name("web", "dev@build-1", 2)));
    let snapshot = world.refresher.snapshot();
    assert_eq!(*snapshot.pushes[0], entry);
    let same = |server: &str| {
        std::sync::Arc::ptr_eq(&snapshot.servers[&server_name(server)], &before.servers[&server_name(server)])
    };
    assert_eq!((same("web-1"), same("web-2"), same("web-3")), (true, false, true));
}

#[tokio::test]
async fn a_push_that_is_recorded_after_its_document_was_seen_is_shown() {
    let world = World::settled().await;
    world.choose("web-3", 2).await;
    world.refresher.refresh().await;
    world.record("web-3", 2).await;
    world.refresher.refresh().await;
    assert_eq!(world.refresher.snapshot().pushes[0].server, server_name("web-3"));
    assert_eq!(asked(&world.round().await), QUIET);
}

#[tokio::test]
async fn an_unreadable_object_is_said_and_hides_nothing_else() {
    let world = World::settled().await;
    world.gcs.fail(Kind::Get, "server/web-2.json", Fault::Status(403, None));
    world.choose_blindly("web-2");
    world.gcs.put("fleet", "status/web-3.json", "{");
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert_eq!((snapshot.failure.as_deref(), snapshot.servers.len()), (None, 3));
    let [one, two, three] = ["web-1", "web-2", "web-3"].map(|server| snapshot.servers[&server_name(server)].clone());
    assert!(one.document().is_some() && one.errors().next().is_none());
    assert!(two.document.error().unwrap().contains("not allowed to read"), "{two:?}");
    assert!(two.document().is_none() && two.status().is_some());
    assert!(three.status.error().unwrap().contains("malformed") && three.document().is_some(), "{three:?}");

    // What may pass is tried again; what is malformed stays so until it is another generation.
    let changes = world.changes();
    assert_eq!(besides_quiet(asked(&world.round().await)), ["Get server/web-2.json", "List history/web-2/"]);
    assert_eq!(world.changes(), changes);
    world.gcs.heal();
    world.refresher.refresh().await;
    assert_eq!(world.chosen("web-2"), Some(name("web", "dev@build-1", 3)));
    assert!(besides_quiet(asked(&world.round().await)).iter().all(|asked| asked.starts_with("List ")));
}

#[tokio::test]
async fn what_one_agent_writes_is_bounded_and_is_about_its_own_server() {
    let world = World::settled().await;
    let mut large = serde_json::to_value(status("web-1")).unwrap();
    large["summary"] = "x".repeat(300 << 10).into();
    world.gcs.put("fleet", "status/web-1.json", large.to_string());
    world.gcs.put("fleet", "status/web-2.json", serde_json::to_vec(&status("web-3")).unwrap());
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    let error = |server: &str| snapshot.servers[&server_name(server)].status.error().map(str::to_owned);
    assert!(error("web-1").unwrap().contains("more than the 262144 allowed"), "{:?}", error("web-1"));
    assert!(error("web-2").unwrap().contains("another server, `web-3`"), "{:?}", error("web-2"));
    assert_eq!((snapshot.failure.as_deref(), error("web-3")), (None, None));
}

#[tokio::test]
async fn when_a_report_came_goes_by_the_bucket_and_not_by_the_clock_of_its_server() {
    let world = World::settled().await;
    // By its own clock each was written days ago.
    let reported = |server: &str| {
        let snapshot = world.refresher.snapshot();
        snapshot.servers[&server_name(server)].status().map(|status| status.written)
    };
    let hour = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    assert!(reported("web-1") > Some(hour) && status("web-1").written < hour, "{:?}", reported("web-1"));
    let before = reported("web-1");
    world.refresher.refresh_server(&server_name("web-1")).await;
    assert_eq!(reported("web-1"), before);
}

impl World {
    /// Writes a server's document without reading it.
    fn choose_blindly(&self, server: &str) {
        self.gcs.put("fleet", &format!("server/{server}.json"), format!("[\"{}\"]", name("web", "dev@build-1", 3)));
    }
}

#[tokio::test]
async fn failing_listings_keep_the_snapshot_and_say_so() {
    let world = World::settled().await;
    let before = world.refresher.snapshot();
    world.gcs.fail(Kind::List, "server/", Fault::Status(403, None));
    world.choose("web-1", 2).await;
    world.release(&name("web", "dev@build-1", 9));
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert!(
        snapshot.failure.as_ref().unwrap().contains("could not list the server documents"),
        "{:?}",
        snapshot.failure
    );
    assert_eq!((snapshot.taken, snapshot.servers.len()), (before.taken, 3));
    assert_eq!(world.chosen("web-1"), Some(name("web", "dev@build-1", 1)));
    // The other half goes on.
    assert_eq!(world.releases("web")[0], name("web", "dev@build-1", 9));
    world.gcs.heal();
    world.gcs.fail(Kind::List, "debs/", Fault::Status(403, None));
    world.refresher.refresh().await;
    assert_eq!(world.chosen("web-1"), Some(name("web", "dev@build-1", 2)));
    let snapshot = world.refresher.snapshot();
    assert!(snapshot.failure.as_ref().unwrap().contains("could not list the apps"), "{:?}", snapshot.failure);
    assert_eq!((snapshot.taken, snapshot.apps.len()), (before.taken, 2));
    world.gcs.heal();
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert!(snapshot.failure.is_none() && snapshot.taken > before.taken);
}

#[tokio::test]
async fn a_bucket_where_nothing_can_be_read_is_a_failure_and_not_a_fleet_of_unreadable_servers() {
    let world = World::empty().await;
    for n in 0..40 {
        world.gcs.put("fleet", &format!("server/web-{n}.json"), "[]");
    }
    world.gcs.fail(Kind::Get, "server/", Fault::Status(403, None));
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert!(snapshot.failure.as_ref().unwrap().contains("none of 32 servers could be read"), "{:?}", snapshot.failure);
    assert_eq!((snapshot.servers.len(), snapshot.taken), (0, None));
    world.gcs.heal();
    world.refresher.refresh().await;
    assert_eq!((world.refresher.snapshot().servers.len(), world.refresher.snapshot().failure.clone()), (40, None));
}

#[tokio::test]
async fn an_empty_bucket_is_no_failure_and_a_missing_one_is() {
    let world = World::empty().await;
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert_eq!((snapshot.failure.as_deref(), snapshot.servers.len(), snapshot.apps.len()), (None, 0, 0));
    assert!(snapshot.taken.is_some());
    assert_eq!(world.changes(), 1, "that it has been read is something to show");
    let missing = SnapshotRefresher::new(open(&world.gcs, "nowhere").await);
    missing.refresh().await;
    assert!(missing.snapshot().failure.as_ref().unwrap().contains("no such bucket"), "{:?}", missing.snapshot());
    assert_eq!(missing.snapshot().taken, None);
}

#[tokio::test]
async fn what_is_gone_from_the_bucket_goes_from_the_snapshot() {
    let world = World::settled().await;
    for path in ["server/web-1.json", "status/web-1.json", "status/web-2.json"] {
        world.delete(path).await;
    }
    world.delete(&format!("debs/{}", name("web", "dev@build-1", 2))).await;
    world.delete(&format!("debs/{}", name("api", "dev@build-1", 1))).await;
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert_eq!(names(&snapshot), ["web-2", "web-3"]);
    assert!(snapshot.servers[&server_name("web-2")].status == Reading::Absent);
    assert_eq!(world.releases("web"), [name("web", "dev@build-1", 1)]);
    assert_eq!(snapshot.apps.len(), 1);
    // Listed, and gone when it is read.
    world.gcs.fail_next(Kind::Get, "server/web-3.json", 1, Fault::Status(404, None));
    world.choose_blindly("web-3");
    world.refresher.refresh().await;
    let server = world.refresher.snapshot().servers[&server_name("web-3")].clone();
    assert_eq!(server.document, Reading::Absent);
    world.refresher.refresh().await;
    assert_eq!(world.chosen("web-3"), Some(name("web", "dev@build-1", 3)));
}

#[tokio::test]
async fn names_that_are_not_ours_are_passed_over() {
    let world = World::settled().await;
    let changes = world.changes();
    for path in [
        "server/..json",
        "server/.json",
        "server/-rf.json",
        "server/a b.json",
        "server/a/b.json",
        "server/a\u{202e}.json",
        "server/<script>.json",
        "server/web-1.json.bak",
        "status/../web-1.json",
        "status/\u{7}.json",
        "debs/",
        "debs/x",
        "debs/web/evil.deb",
        "debs/web/api:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb",
        "debs/-x/y.deb",
        "debs/hollow/nothing.deb",
        "history/web-1/zzz.json",
    ] {
        world.gcs.put("fleet", path, "[]");
    }
    world.refresher.refresh().await;
    let snapshot = world.refresher.snapshot();
    assert_eq!((snapshot.failure.as_deref(), names(&snapshot)), (None, vec!["web-1", "web-2", "web-3"]));
    assert_eq!((snapshot.apps.len(), world.releases("web").len(), world.changes()), (2, 2, changes));
    assert_eq!(asked(&world.round().await), QUIET, "an app with nothing of ours isn't read again and again");
}

#[tokio::test]
async fn a_round_that_began_earlier_does_not_undo_what_was_read_since() {
    let world = World::settled().await;
    world.gcs.fail_next(Kind::List, "status/", 1, Fault::Slow(Duration::from_millis(500)));
    let listed =
        || world.gcs.requests().iter().filter(|request| request.object == "server/" && request.status == 200).count();
    let before = listed();
    let (name, (), ()) = tokio::join!(
        async {
            while listed() == before {
                tokio::task::yield_now().await;
            }
            world.choose("web-1", 2).await;
            world.record("web-1", 2).await;
            world.refresher.refresh_server(&server_name("web-1")).await;
            assert_eq!(world.refresher.snapshot().pushes[0].to, Some(name("web", "dev@build-1", 2)));
            world.chosen("web-1")
        },
        world.refresher.refresh(),
        async {
            let mut changes = world.refresher.changes();
            changes.changed().await.unwrap();
        }
    );
    assert_eq!(name, Some(self::name("web", "dev@build-1", 2)), "a write is visible to its author at once");
    assert_eq!(world.chosen("web-1"), name, "and stays so");
    assert_eq!(world.refresher.snapshot().pushes.len(), 2);
    world.refresher.refresh().await;
    assert_eq!(world.chosen("web-1"), name);
    let changes = world.changes();
    world.refresher.refresh_server(&server_name("web-1")).await;
    assert_eq!(world.changes(), changes, "nothing was written in between");
}

#[tokio::test]
async fn the_servers_of_an_app_are_those_of_the_newest_snapshot() {
    let world = World::settled().await;
    let web = "web".parse().unwrap();
    let with = || -> Vec<String> {
        world.refresher.snapshot().servers_with(&web).map(|server| server.name.to_string()).collect()
    };
    assert_eq!(with(), ["web-1", "web-2", "web-3"]);
    world.choose("web-4", 1).await;
    world.refresher.refresh_server(&server_name("web-4")).await;
    assert_eq!(with(), ["web-1", "web-2", "web-3", "web-4"]);
    world.gcs.put("fleet", "server/web-2.json", "[]");
    world.refresher.refresh().await;
    assert_eq!(with(), ["web-1", "web-3", "web-4"]);
    assert_eq!(world.refresher.snapshot().servers_with(&"api".parse().unwrap()).count(), 0);
}

#[tokio::test]
async fn a_round_never_overlaps_a_round() {
    let world = World::settled().await;
    world.gcs.fail(Kind::List, "status/", Fault::Slow(Duration::from_millis(200)));
    let before = world.gcs.requests().len();
    tokio::join!(world.refresher.refresh(), world.refresher.refresh());
    let requests = world.gcs.requests().split_off(before);
    assert_eq!([asked(&requests[..QUIET.len()]), asked(&requests[QUIET.len()..])], [QUIET, QUIET]);
}

#[tokio::test]
async fn many_releases_cost_a_bounded_number_of_requests() {
    let world = World::empty().await;
    for n in 0..21_500 {
        let builder = if n % 2 == 0 { "dev@build-1" } else { "ops@build-2" };
        world.release(&name(["api", "web", "zip"][n as usize % 3], builder, n));
    }
    world.refresher.refresh().await;
    let counts = || ["api", "web", "zip"].map(|app| world.releases(app).len());
    assert_eq!(counts(), [7167, 7167, 7166]);

    // Who is at work shows in the next round, wherever the scan is.
    world.delete(&format!("debs/{}", name("api", "dev@build-1", 0))).await;
    world.delete(&format!("debs/{}", name("zip", "ops@build-2", 5))).await;
    for n in 30_000..30_100 {
        world.release(&name("web", "dev@build-1", n));
    }
    let round = world.round().await;
    assert!(round.len() <= 3 + 20 + 20, "{:?}", asked(&round));
    assert_eq!(world.releases("web")[0], name("web", "dev@build-1", 30_099));
    assert_eq!(world.releases("web").len(), 7267);
    // And a scan is over in two rounds: whatever is gone has gone from the snapshot, and nothing else.
    world.refresher.refresh().await;
    assert_eq!(counts(), [7166, 7267, 7165]);
    world.release(&name("api", "new@build-3", 40_000));
    world.release(&name("another", "new@build-3", 40_000));
    world.refresher.refresh().await;
    world.refresher.refresh().await;
    assert_eq!((world.releases("api").len(), world.releases("another").len()), (7167, 1));
    let changes = world.changes();
    for _ in 0..3 {
        let round = world.round().await;
        assert!(round.len() <= 3 + 20 + 20, "{:?}", asked(&round));
    }
    assert_eq!(world.changes(), changes);
}

#[tokio::test]
async fn an_app_that_can_not_be_listed_keeps_the_others_from_nothing() {
    let world = World::settled().await;
    world.release(&name("bad", "dev@build-1", 1));
    world.release(&name("web", "dev@build-1", 7));
    world.gcs.fail(Kind::List, "debs/bad/", Fault::Status(403, None));
    world.refresher.refresh().await;
    assert!(world.refresher.snapshot().failure.as_ref().unwrap().contains("debs/bad/"));
    assert_eq!(world.releases("web")[0], name("web", "dev@build-1", 7));
    world.gcs.heal();
    world.refresher.refresh().await;
    assert_eq!((world.refresher.snapshot().failure.clone(), world.releases("bad").len()), (None, 1));
}

#[tokio::test]
async fn a_new_process_sees_the_same() {
    let world = World::settled().await;
    let again = SnapshotRefresher::new(world.bucket.clone());
    again.refresh().await;
    let (old, new) = (world.refresher.snapshot(), again.snapshot());
    assert_eq!((&old.servers, &old.pushes), (&new.servers, &new.pushes));
    let releases = |snapshot: &FleetSnapshot| -> BTreeMap<String, Vec<ReleaseName>> {
        let apps = snapshot.apps.iter();
        apps.map(|(app, releases)| (app.to_string(), releases.newest().map(|listed| listed.name).collect())).collect()
    };
    assert_eq!(releases(&old), releases(&new));
}

#[tokio::test]
async fn a_directory_is_followed_too() {
    let scratch = tempfile::tempdir().unwrap();
    let url: BucketUrl = format!("file://{}", scratch.path().display()).parse().unwrap();
    let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
    let refresher = SnapshotRefresher::new(bucket.clone());
    let document = |n| {
        let mut document = ServerDocument::default();
        document.set(name("web", "dev@build-1", n));
        document
    };
    let web = server_name("web-1");
    let generation = bucket.write_server_document(&web, &document(1), None).await.unwrap();
    bucket.write_status(&status("web-2"), None).await.unwrap();
    let deb = scratch.path().join(".deb");
    std::fs::write(&deb, "deb").unwrap();
    bucket
        .upload_release(&name("web", "dev@build-1", 1), &bucket::SourceFile::read(&deb).unwrap(), &metadata(), &|_| {})
        .await
        .unwrap();
    bucket.append_history(&history("web-1", 1)).await.unwrap();
    refresher.refresh().await;
    let snapshot = refresher.snapshot();
    assert_eq!((snapshot.failure.as_deref(), names(&snapshot)), (None, vec!["web-1", "web-2"]));
    assert_eq!((snapshot.pushes.len(), snapshot.apps[&"web".parse().unwrap()].len()), (1, 1));
    let changes = *refresher.changes().borrow();
    refresher.refresh().await;
    assert_eq!(*refresher.changes().borrow(), changes);

    bucket.write_server_document(&web, &document(2), Some(generation)).await.unwrap();
    bucket
        .upload_release(&name("web", "dev@build-1", 2), &bucket::SourceFile::read(&deb).unwrap(), &metadata(), &|_| {})
        .await
        .unwrap();
    refresher.refresh().await;
    let snapshot = refresher.snapshot();
    assert_eq!(snapshot.servers[&web].document().unwrap(), &document(2));
    assert_eq!(snapshot.apps[&"web".parse().unwrap()].len(), 2);
    drop(scratch);
    refresher.refresh().await;
    assert!(refresher.snapshot().failure.is_some() && refresher.snapshot().servers.len() == 2);
}
