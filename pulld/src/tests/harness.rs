//! A server with a `file://` bucket in a temporary directory and the fake machine, and agents that come and go on it.

use std::path::PathBuf;

use bucket::{
    AppState, Bucket, BucketUrl, Generation, ReleaseMetadata, ReleaseName, ServerDocument, ServerName, Sha256, Status,
};

use crate::{
    agent::{Agent, LoadSettings, Machine},
    checker::{self, Record},
    config,
    machine::{
        door::Door,
        fake::{self, Behaviour, Deb, World},
    },
    service::{control::CycleReport, wake::Reason},
    state::{checksum, paths::Paths},
    transaction::executor::Next,
};

/// An agent on the fake machine.
pub(super) type FakeAgent = Agent<Door<World>, Door<World>>;

/// A server with a bucket, and agents that come and go.
pub(super) struct Server {
    pub(super) root: tempfile::TempDir,
    pub(super) world: World,
    pub(super) bucket: Bucket,
}

impl Server {
    pub(super) async fn new() -> Self {
        // In memory, where there is some: seven eighths of the time went into waiting for a disk that no test looks at.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = root.path().join("bucket");
        std::fs::create_dir_all(&store).unwrap();
        let bucket = Bucket::open(&BucketUrl::File(store.clone()), &bucket::BucketOptions::default()).await.unwrap();
        bucket.mark().await.unwrap();
        let server = Self { root, world: World::default(), bucket };
        server.configure("");
        server
    }

    /// A server that has these releases, all of them good, and its agent.
    pub(super) async fn running(releases: &[&ReleaseName]) -> (Self, FakeAgent) {
        let server = Self::new().await;
        for release in releases {
            server.upload(release, Behaviour::Good).await;
        }
        server.push(releases).await;
        let mut agent = server.agent();
        assert!(pull(&mut agent).await.ok);
        (server, agent)
    }

    pub(super) fn configure(&self, more: &str) {
        let url = BucketUrl::File(self.root.path().join("bucket"));
        self.put("etc/pulld/pulld.toml", &format!("bucket = \"{url}\"\nserver = \"web-1\"\n{more}\n"));
    }

    /// Makes its agents read the document of another server, or of another bucket beside the first.
    pub(super) fn configure_source(&self, server: &str, bucket: &str) {
        let url = BucketUrl::File(self.root.path().join(bucket));
        self.put("etc/pulld/pulld.toml", &format!("bucket = \"{url}\"\nserver = \"{server}\"\n"));
    }

    pub(super) fn put(&self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn paths(&self) -> Paths {
        Paths::new(self.root.path())
    }

    pub(super) fn agent(&self) -> FakeAgent {
        let machine =
            Machine { packages: Door(self.world.clone()), services: Door(self.world.clone()), inspect: fake::inspect };
        let paths = self.paths();
        let load: LoadSettings = Box::new(move || config::load(&paths, None, |_| None, "web-1"));
        Agent::new(self.paths(), machine, load, config::last_valid(&self.paths().settings(), "web-1"))
    }

    pub(super) async fn upload(&self, release: &ReleaseName, behaviour: Behaviour) {
        self.upload_deb(&Deb::new(release, behaviour)).await;
    }

    pub(super) async fn upload_deb(&self, deb: &Deb) {
        self.upload_as(&deb.release, deb, |sha256| sha256).await;
    }

    /// Uploads a `.deb` as that release, with a SHA-256 that may be wrong.
    pub(super) async fn upload_as(&self, release: &ReleaseName, deb: &Deb, sha256: fn(Sha256) -> Sha256) {
        let file = self.root.path().join("new.deb");
        std::fs::write(&file, serde_json::to_vec(deb).unwrap()).unwrap();
        let metadata = ReleaseMetadata {
            dirty: false,
            note: "test".into(),
            services: vec![],
            sha256: sha256(checksum::hash_file(&file).unwrap()),
            size: std::fs::metadata(&file).unwrap().len(),
            package: deb.package.parse().unwrap(),
            version: "1".into(),
            architecture: "all".parse().unwrap(),
            repo: String::new(),
            branch: String::new(),
            made_by: None,
        };
        self.bucket
            .upload_release(release, &bucket::SourceFile::read(&file).unwrap(), &metadata, &|_| {})
            .await
            .unwrap();
    }

    pub(super) fn name() -> ServerName {
        "web-1".parse().unwrap()
    }

    pub(super) async fn push(&self, releases: &[&ReleaseName]) -> Generation {
        let document = ServerDocument::parse(&serde_json::to_vec(releases).unwrap()).unwrap();
        let seen = match self.bucket.server_document(&Self::name()).await {
            Ok(Some((generation, _))) => Some(generation),
            _ => None,
        };
        self.bucket.write_server_document(&Self::name(), &document, seen).await.unwrap()
    }

    pub(super) async fn status(&self) -> Status {
        match self.bucket.status(&Self::name()).await.unwrap() {
            Some((_, status)) => status,
            None => panic!("no status"),
        }
    }

    /// Sees that every rule holds: of a server whose agent has nothing left to do.
    pub(super) async fn is_settled(&self, told: &str) {
        let (status, paths) = (self.status().await, self.paths());
        let document = self.bucket.server_document(&Self::name()).await.ok().flatten().map(|(_, document)| document);
        let read = |path: PathBuf| std::fs::read_to_string(path).ok();
        let (quarantine, pauses) = (read(paths.quarantine()), read(paths.pauses()));
        let record = Record::parse(read(paths.transaction()), quarantine.as_deref(), pauses.as_deref()).unwrap();
        let (dpkg, units) = self.world.facts();
        let violations = checker::check(document.as_ref(), &status, &dpkg, &units, &record);
        let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{told}:\n{}\n{status:#?}", violations.join("\n"));
    }

    /// The state of an app on a server whose agent has nothing left to do.
    pub(super) async fn state_of(&self, app: &str) -> AppState {
        self.is_settled(app).await;
        self.status().await.apps.iter().find(|status| status.app == app).unwrap().state
    }
}

pub(super) async fn pull(agent: &mut FakeAgent) -> CycleReport {
    let (cycle, next) = agent.pull_cycle(&[Reason::Command].into()).await;
    assert_eq!(next, Next::Continue);
    cycle
}

pub(super) async fn poll(agent: &mut FakeAgent) -> CycleReport {
    agent.pull_cycle(&[Reason::Timer].into()).await.0
}

/// Runs an agent until its cycle ends or systemd ends its process.
pub(super) async fn live(server: &Server) -> Option<Next> {
    let mut agent = server.agent();
    let (killed, start) = (server.world.killed(), [Reason::Start].into());
    tokio::select! {
        biased;
        (_, next) = agent.pull_cycle(&start) => Some(next),
        () = killed.notified() => None,
    }
}
