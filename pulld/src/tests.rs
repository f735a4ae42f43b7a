//! Whole cycles: a `file://` bucket in a temporary directory, the fake machine, and paused time.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use bucket::{
    AppState, Bucket, BucketUrl, Fetched, Generation, ReleaseMetadata, ReleaseName, ServerDocument, ServerName,
    ServerState, Status,
};
use futures_util::FutureExt;

use crate::{
    Agent, Machine, Paths, Rescue,
    agent::LoadSettings,
    apply::After,
    cache, config,
    control::Cycle,
    fake::{self, Behaviour, Deb, World, release},
    persist::failpoint,
    wake::Reason,
};

/// A server with a bucket, and agents that come and go.
struct Server {
    root: tempfile::TempDir,
    world: World,
    bucket: Bucket,
}

impl Server {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("bucket");
        std::fs::create_dir_all(&store).unwrap();
        let bucket = Bucket::open(&BucketUrl::File(store.clone()), &bucket::BucketOptions::default()).await.unwrap();
        let server = Self { root, world: World::default(), bucket };
        server.configure("");
        server
    }

    fn configure(&self, more: &str) {
        let url = BucketUrl::File(self.root.path().join("bucket"));
        self.put("etc/pulld/pulld.toml", &format!("bucket = \"{url}\"\nserver = \"web-1\"\n{more}\n"));
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn paths(&self) -> Paths {
        Paths::new(self.root.path())
    }

    fn agent(&self) -> Agent<World, World> {
        let machine = Machine { packages: self.world.clone(), services: self.world.clone(), inspect: fake::inspect };
        let paths = self.paths();
        let load: LoadSettings = Box::new(move || config::load(&paths, None, |_| None, "web-1"));
        Agent::new(self.paths(), machine, load, config::unconfigured("web-1"))
    }

    async fn upload(&self, release: &ReleaseName, behaviour: Behaviour) {
        self.upload_deb(&Deb::new(release, behaviour)).await;
    }

    async fn upload_deb(&self, deb: &Deb) {
        self.upload_as(&deb.release, deb, |sha256| sha256).await;
    }

    /// Uploads a `.deb` as that release, with a SHA-256 that may be wrong.
    async fn upload_as(&self, release: &ReleaseName, deb: &Deb, sha256: fn(String) -> String) {
        let file = self.root.path().join("new.deb");
        std::fs::write(&file, serde_json::to_vec(deb).unwrap()).unwrap();
        let metadata = ReleaseMetadata {
            dirty: false,
            note: "test".into(),
            services: vec![],
            sha256: sha256(cache::hash_file(&file).unwrap()),
            size: std::fs::metadata(&file).unwrap().len(),
            package: deb.package.clone(),
            version: "1".into(),
            architecture: "all".into(),
            repo: String::new(),
            branch: String::new(),
        };
        self.bucket.upload_release(release, &file, &metadata, &|_| {}).await.unwrap();
    }

    fn name() -> ServerName {
        "web-1".parse().unwrap()
    }

    async fn push(&self, releases: &[&ReleaseName]) -> Generation {
        let document = ServerDocument::parse(&serde_json::to_vec(releases).unwrap()).unwrap();
        let seen = match self.bucket.server_document(&Self::name(), None).await {
            Ok(Fetched::Found(generation, _)) => Some(generation),
            _ => None,
        };
        self.bucket.write_server_document(&Self::name(), &document, seen).await.unwrap()
    }

    async fn status(&self) -> Status {
        match self.bucket.status(&Self::name(), None).await.unwrap() {
            Fetched::Found(_, status) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    async fn state_of(&self, app: &str) -> AppState {
        self.status().await.apps.iter().find(|status| status.app == app).unwrap().state
    }
}

async fn pull(agent: &mut Agent<World, World>) -> Cycle {
    let (cycle, after) = agent.pull_cycle(&[Reason::Command].into()).await;
    assert_eq!(after, After::GoOn);
    cycle
}

async fn poll(agent: &mut Agent<World, World>) -> Cycle {
    agent.pull_cycle(&[Reason::Timer].into()).await.0
}

#[tokio::test(start_paused = true)]
async fn a_first_install_and_an_upgrade() {
    let server = Server::new().await;
    let (one, two) = (release("web", 1), release("web", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    let generation = server.push(&[&one]).await;
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(cycle.ok, "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    assert_eq!(server.world.active("web.service"), "active");
    let status = server.status().await;
    assert_eq!((status.state, status.document.generation), (ServerState::Converged, Some(generation)));
    server.push(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert_eq!(server.world.restarts(), ["web.service", "web.service"]);
    assert!(!server.paths().transaction().exists());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cycle_writes_nothing_to_the_bucket() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    let before = server.bucket.status(&Server::name(), None).await.unwrap();
    poll(&mut agent).await;
    poll(&mut agent).await;
    assert_eq!(server.bucket.status(&Server::name(), None).await.unwrap(), before);
    tokio::time::advance(Duration::from_mins(20)).await;
    poll(&mut agent).await;
    assert_ne!(server.bucket.status(&Server::name(), None).await.unwrap(), before, "a sign of life");
    assert_eq!(server.world.orders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_goes_back_and_is_not_retried_until_the_document_changes() {
    let server = Server::new().await;
    let (one, two) = (release("web", 1), release("web", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&one]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    server.push(&[&two]).await;
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert!(cycle.lines.iter().any(|line| line.contains("went back")), "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    assert_eq!(server.world.active("web.service"), "active");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let orders = server.world.orders().len();
    pull(&mut agent).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.world.orders().len(), orders, "not retried, not even by another agent");
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.orders().len(), orders + 2, "tried once more, and gone back once more");
}

#[tokio::test(start_paused = true)]
async fn a_broken_app_does_not_hold_the_others_back() {
    for broken in
        [Behaviour::Crashes, Behaviour::DoesNotStart, Behaviour::Refused, Behaviour::Breaks, Behaviour::CheckFails]
    {
        let server = Server::new().await;
        let (bad, good) = (release("bad", 1), release("good", 1));
        server.upload(&bad, broken).await;
        server.upload(&good, Behaviour::Good).await;
        server.push(&[&bad, &good]).await;
        let cycle = pull(&mut server.agent()).await;
        assert!(!cycle.ok, "{broken:?}");
        assert_eq!(server.world.installed("good"), Some((good, true)), "{broken:?}");
        assert_eq!(server.world.installed("bad"), None, "{broken:?}: a first install is undone by removing it");
        assert_eq!(server.state_of("good").await, AppState::Converged, "{broken:?}");
        assert_eq!(server.state_of("bad").await, AppState::Quarantined, "{broken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_dpkg_refuses_leaves_the_running_service_alone() {
    let server = Server::new().await;
    let (one, two) = (release("web", 1), release("web", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Refused).await;
    server.push(&[&one]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.world.restarts(), ["web.service"], "started once, at the first install");
}

#[tokio::test(start_paused = true)]
async fn a_held_lock_is_no_fault_of_the_release() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    server.world.hold_lock(true);
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert_eq!(server.state_of("web").await, AppState::Failed);
    server.world.hold_lock(false);
    poll(&mut agent).await;
    assert_eq!(server.world.installed("web"), None, "it waits for its time");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(poll(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((web, true)));
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_download_never_reaches_dpkg() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload_as(&web, &Deb::new(&web, Behaviour::Good), |_| "0".repeat(64)).await;
    server.push(&[&web]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok);
    assert!(cycle.lines[0].contains("corrupt") && cycle.lines[0].contains("sha256"), "{cycle:?}");
    assert_eq!(server.world.orders(), Vec::<Vec<String>>::new());
    let left: Vec<_> = std::fs::read_dir(server.paths().cache().join(web.stem())).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_package_that_is_not_the_release_it_is_named_never_reaches_dpkg() {
    let server = Server::new().await;
    let (web, other) = (release("web", 1), release("web", 2));
    server.upload_as(&web, &Deb::new(&other, Behaviour::Good), |sha256| sha256).await;
    server.push(&[&web]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(cycle.lines[0].contains("isn't that release"), "{cycle:?}");
    assert_eq!(server.world.orders().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn unmet_dependencies_keep_an_app_out_and_what_counts_on_it() {
    let server = Server::new().await;
    let (web, db, mail) = (release("web", 1), release("db", 1), release("mail", 1));
    server.upload_deb(&Deb { depends: vec!["db".into()], ..Deb::new(&web, Behaviour::Good) }).await;
    server.upload_deb(&Deb { depends: vec!["libnone".into()], ..Deb::new(&db, Behaviour::Good) }).await;
    server.upload(&mail, Behaviour::Good).await;
    server.push(&[&web, &db, &mail]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok);
    assert_eq!(server.world.orders().len(), 1);
    assert_eq!(server.world.installed("mail"), Some((mail, true)));
    assert_eq!((server.world.installed("web"), server.world.installed("db")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_document_changes_nothing() {
    let server = Server::new().await;
    server.configure("prune = true");
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    for malformed in ["", "{", "null", "{\"a\": 1}", "[\"x\"] trailing"] {
        let path: bucket::ObjectPath = "server/web-1.json".parse().unwrap();
        let seen = server.bucket.head(&path).await.unwrap().unwrap().generation;
        let content = malformed.as_bytes().to_vec().into();
        server.bucket.replace(&path, content, &BTreeMap::new(), seen).await.unwrap();
        let cycle = pull(&mut agent).await;
        assert!(!cycle.ok, "{malformed}");
        let cycle = pull(&mut server.agent()).await;
        assert!(!cycle.ok, "{malformed}: neither by an agent that never saw a good one");
    }
    assert_eq!((server.world.installed("web"), server.world.orders().len()), (Some((web, true)), 1));
    assert!(server.status().await.document.error.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_document_is_not_an_absent_one() {
    let server = Server::new().await;
    server.configure("prune = true");
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    // Root may read everything, so the whole share goes away.
    let (there, away) = (server.root.path().join("bucket"), server.root.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    for agent in [&mut agent, &mut server.agent()] {
        let cycle = pull(agent).await;
        assert!(!cycle.ok && cycle.summary.contains("bucket"), "{cycle:?}");
    }
    let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
    assert_eq!(local.state, ServerState::Failed);
    std::fs::rename(&away, &there).unwrap();
    assert!(pull(&mut agent).await.ok);
    assert_eq!((server.world.installed("web"), server.world.orders().len()), (Some((web, true)), 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_download_goes_on_where_it_ended() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let found = server.bucket.release(&web).await.unwrap().unwrap();
    let sha256 = found.metadata.unwrap().sha256;
    let whole = std::fs::read(server.root.path().join("new.deb")).unwrap();
    let cache = crate::Cache::new(server.paths().cache());
    for (cut, good) in [(&whole[..10], true), (&whole[..], true), (&b"other bytes"[..], false)] {
        std::fs::remove_dir_all(server.paths().cache()).ok();
        let part = cache.part(&web, &sha256, found.generation);
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(&part, cut).unwrap();
        let obtained = crate::download::obtain(&server.bucket, &cache, &web, &crate::Liveness::new()).await;
        assert_eq!(obtained.is_ok(), good, "{obtained:?}");
        assert!(!part.exists(), "a part becomes the file, or goes");
    }
    assert!(pull(&mut server.agent()).await.ok, "and what was corrupt is fetched anew");
}

#[tokio::test(start_paused = true)]
async fn another_writer_of_the_status_is_not_overwritten_blindly() {
    let server = Server::new().await;
    server.put("etc/machine-id", "0123456789abcdef0123456789abcdef");
    let mut agent = server.agent();
    pull(&mut agent).await;
    let ours = server.status().await;
    assert!(!ours.machine.contains("0123456789abcdef"), "machine-id(5): the id itself isn't told");
    let Fetched::Found(generation, _) = server.bucket.status(&Server::name(), None).await.unwrap() else { panic!() };
    let theirs = Status { machine: "another".into(), ..ours.clone() };
    server.bucket.write_status(&theirs, Some(generation)).await.unwrap();
    server.push(&[]).await;
    pull(&mut agent).await;
    assert_eq!(server.status().await.machine, ours.machine);
}

#[tokio::test(start_paused = true)]
async fn an_absent_or_empty_document_removes_nothing() {
    let server = Server::new().await;
    server.configure("prune = true");
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    let empty = server.push(&[]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Orphan);
    server.bucket.delete(&"server/web-1.json".parse().unwrap(), empty).await.unwrap();
    pull(&mut agent).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.world.installed("web"), Some((web, true)));
    assert_eq!(server.world.orders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pruning_removes_only_what_the_document_no_longer_names() {
    let server = Server::new().await;
    let (web, db) = (release("web", 1), release("db", 1));
    server.upload(&web, Behaviour::Good).await;
    server.upload(&db, Behaviour::Good).await;
    server.world.put_foreign("nginx");
    server.push(&[&web, &db]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    server.push(&[&db]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Orphan);
    server.configure("prune = true");
    assert!(pull(&mut agent).await.ok);
    assert_eq!((server.world.installed("web"), server.world.installed("db")), (None, Some((db, true))));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_not_allowed_is_refused() {
    let server = Server::new().await;
    server.configure("allowed_apps = [\"db*\"]");
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    assert!(!pull(&mut server.agent()).await.ok);
    assert_eq!(server.state_of("web").await, AppState::Refused);
    assert_eq!(server.world.orders().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn going_back_that_fails_too_is_degraded_and_a_newer_document_still_heals() {
    let server = Server::new().await;
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    server.upload(&one, Behaviour::Crashes).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.upload(&three, Behaviour::Good).await;
    server.world.put_foreign("web");
    server.push(&[&one]).await;
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert_eq!(server.state_of("web").await, AppState::Degraded, "there is no way back to a foreign package");
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Degraded, "the one before crashes too");
    assert_eq!(server.status().await.state, ServerState::Degraded);
    server.push(&[&three]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((three, true)));
}

#[tokio::test(start_paused = true)]
async fn a_broken_package_is_repaired_and_a_stopped_unit_is_reported_not_started() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    server.world.break_package("web");
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((web.clone(), true)));
    server.world.stop("web.service");
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Drifted);
    let two = release("web", 2);
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert_eq!(server.world.active("web.service"), "inactive");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_bucket_waits_and_picks_it_up() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    server.put("etc/pulld/pulld.toml", "");
    let mut agent = server.agent();
    let cycle = poll(&mut agent).await;
    assert!(!cycle.ok && cycle.summary.contains("no bucket is configured"), "{cycle:?}");
    server.configure("poll = \"nonsense\"");
    let cycle = poll(&mut server.agent()).await;
    assert!(cycle.summary.contains("`poll` is `nonsense`"), "an agent comes up with a wrong configuration: {cycle:?}");
    server.configure("");
    assert!(poll(&mut agent).await.ok);
    server.configure("poll = \"nonsense\"");
    assert!(poll(&mut agent).await.ok, "the last good configuration stays");
}

/// Runs an agent until its cycle ends or systemd ends its process.
async fn live(server: &Server) -> Option<After> {
    let mut agent = server.agent();
    let (killed, start) = (server.world.killed(), [Reason::Start].into());
    tokio::select! {
        biased;
        (_, after) = agent.pull_cycle(&start) => Some(after),
        () = killed.notified() => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_agent_updates_itself_last_and_the_new_one_finishes() {
    let server = Server::new().await;
    let (one, two, web) = (release("pulld", 1), release("pulld", 2), release("web", 1));
    for release in [&one, &two, &web] {
        server.upload(release, Behaviour::Good).await;
    }
    server.world.put_foreign("pulld");
    server.push(&[&one]).await;
    assert_eq!(live(&server).await, None, "a pulld put there by hand has no way back, and goes on");
    assert_eq!(live(&server).await, Some(After::GoOn));
    server.push(&[&two, &web]).await;
    assert_eq!(live(&server).await, None);
    let rescue = Rescue::new(server.paths().rescue());
    assert!(rescue.is_armed());
    assert_eq!(server.world.installed("web"), Some((web, true)), "everything else is done before");
    assert_eq!(live(&server).await, Some(After::GoOn));
    assert!(!rescue.is_armed());
    assert_eq!(server.world.installed("pulld"), Some((two, true)));
    assert_eq!(server.status().await.state, ServerState::Converged);
    assert_eq!(server.world.agent_restarts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rescued_agent_quarantines_the_release_that_did_not_start() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    assert_eq!(live(&server).await, None);
    // What pulld-rescue.service does when the new one doesn't come up.
    let rescue = server.paths().rescue();
    let order = crate::machine::Order {
        install: vec![rescue.join("pulld.deb")],
        remove: vec![],
        restart_agent: false,
        timeout: Duration::from_secs(1),
    };
    crate::machine::PackageManager::execute(&server.world, &order).await.unwrap();
    std::fs::write(rescue.join("rescued"), "it exited with 203").unwrap();
    assert_eq!(live(&server).await, Some(After::GoOn));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert!(!rescue.join("rescued").exists() && !rescue.join("armed").exists());
    let orders = server.world.orders().len();
    live(&server).await;
    assert_eq!(server.world.orders().len(), orders);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_package_breaks_goes_back() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Breaks).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    for _ in 0..4 {
        live(&server).await;
    }
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert!(!Rescue::new(server.paths().rescue()).is_armed());
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_that_cannot_go_by_its_configuration_goes_back() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    assert_eq!(live(&server).await, None);
    server.configure("poll = 5");
    assert_eq!(live(&server).await, None, "it has the one before put back");
    server.configure("");
    live(&server).await;
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert!(!Rescue::new(server.paths().rescue()).is_armed());
}

/// What happens to a server from one document to the next, told by what must be true in the end.
struct Story {
    before: Vec<(ReleaseName, Behaviour)>,
    after: Vec<(ReleaseName, Behaviour)>,
    end: Vec<(&'static str, Option<u8>)>,
}

fn stories() -> Vec<Story> {
    let at = |app: &str, minute: u8, behaviour| (release(app, minute), behaviour);
    vec![
        Story {
            before: vec![],
            after: vec![at("web", 1, Behaviour::Good), at("db", 1, Behaviour::Breaks)],
            end: vec![("web", Some(1)), ("db", None)],
        },
        Story {
            before: vec![at("web", 1, Behaviour::Good), at("db", 1, Behaviour::Good)],
            after: vec![at("web", 2, Behaviour::Crashes), at("db", 2, Behaviour::Good)],
            end: vec![("web", Some(1)), ("db", Some(2))],
        },
        Story {
            before: vec![at("pulld", 1, Behaviour::Good), at("web", 1, Behaviour::Good)],
            after: vec![at("pulld", 2, Behaviour::Good), at("web", 2, Behaviour::Refused)],
            end: vec![("pulld", Some(2)), ("web", Some(1))],
        },
        Story {
            before: vec![at("pulld", 1, Behaviour::Good)],
            after: vec![at("pulld", 2, Behaviour::Breaks)],
            end: vec![("pulld", Some(1))],
        },
    ]
}

impl Story {
    async fn begin(&self) -> Server {
        let server = Server::new().await;
        for (release, behaviour) in self.before.iter().chain(&self.after) {
            server.upload(release, *behaviour).await;
        }
        if !self.before.is_empty() {
            server.push(&self.before.iter().map(|(release, _)| release).collect::<Vec<_>>()).await;
            live(&server).await;
            live(&server).await;
        }
        server.push(&self.after.iter().map(|(release, _)| release).collect::<Vec<_>>()).await;
        server
    }

    /// Lets agents live until the story is over, at most so many, and sees that it ended well.
    async fn end(&self, server: &Server, told: &str) {
        for _ in 0..6 {
            live(server).await;
        }
        for (app, minute) in &self.end {
            let expected = minute.map(|minute| (release(app, minute), true));
            assert_eq!(server.world.installed(app), expected, "{app}, {told}");
            if expected.is_some() && *app != "pulld" {
                assert_eq!(server.world.active(&format!("{app}.service")), "active", "{app}, {told}");
            }
        }
        assert!(!server.paths().transaction().exists(), "{told}");
        assert!(!Rescue::new(server.paths().rescue()).is_armed(), "{told}");
        let orders = server.world.orders().len();
        live(server).await;
        assert_eq!(server.world.orders().len(), orders, "it ends, {told}");
        for app in server.status().await.apps {
            let good = app.installed.is_some() == server.world.installed(&app.app).is_some();
            assert!(good, "{}: nothing is called installed that isn't, {told}", app.app);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_at_any_durable_write_is_followed_by_one_that_converges() {
    for (number, story) in stories().iter().enumerate() {
        for point in 0.. {
            let server = story.begin().await;
            failpoint::die_after(Some(point));
            let lived = AssertUnwindSafe(live(&server)).catch_unwind().await;
            failpoint::die_after(None);
            let died = lived.is_err();
            story.end(&server, &format!("story {number} cut at {point}")).await;
            if !died {
                assert!(point > 8, "story {number} has only {point} points");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_kills_every_agent_ends() {
    for (number, story) in stories().iter().enumerate() {
        for point in [4, 8] {
            let server = story.begin().await;
            for _ in 0..40 {
                failpoint::die_after(Some(point));
                let _ = AssertUnwindSafe(live(&server)).catch_unwind().await;
            }
            failpoint::die_after(None);
            for _ in 0..3 {
                live(&server).await;
            }
            let told = format!("story {number}, every agent cut at {point}");
            assert!(!server.paths().transaction().exists(), "{told}");
            let orders = server.world.orders().len();
            live(&server).await;
            assert_eq!(server.world.orders().len(), orders, "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_torn_at_any_byte_is_survived() {
    let story = &stories()[1];
    let server = story.begin().await;
    failpoint::die_after(Some(12));
    let _ = AssertUnwindSafe(live(&server)).catch_unwind().await;
    failpoint::die_after(None);
    let path = server.paths().transaction();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(crate::transaction::Transaction::load(&path), None, "{length} bytes");
        assert!(!path.exists());
    }
    for garbage in ["null", "[]", "{\"schema\":99}", "\u{feff}{}"] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(crate::transaction::Transaction::load(&path), None, "{garbage}");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    for _ in 0..3 {
        live(&server).await;
    }
    assert_eq!(server.world.installed("db"), Some((release("db", 2), true)));
    assert!(server.world.installed("web").is_some_and(|(_, good)| good));
}
