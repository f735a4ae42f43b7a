//! A repository with packages, production, and a candidate bucket, over both kinds of buckets.

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use bucket::{
    Bucket, BucketOptions, BucketUrl, Candidate, Change, ChangeId, Credentials, ObjectInfo, ReleaseName,
    ServerDocument, items,
};
use futures_util::TryStreamExt as _;
use harness::{
    Programs, Repo, Target,
    gcs::{FakeGcs, Kind, Request},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PRODUCTION: &str = "acme-push";
const CANDIDATES: &str = "acme-ci";

/// The app of each package of the repository.
const APPS: [&str; 3] = ["lib", "web", "cron"];

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) repo: Repo,
    pub(crate) gcs: Option<FakeGcs>,
    pub(crate) production: Bucket,
    pub(crate) candidates: Bucket,
    /// How often something was built: each at a time of its own.
    built: Cell<u32>,
}

impl World {
    pub(crate) async fn over_directories() -> Self {
        Self::new(None).await
    }

    pub(crate) async fn over_google() -> Self {
        let gcs = FakeGcs::start(PRODUCTION);
        gcs.make_bucket(CANDIDATES);
        Self::new(Some(gcs)).await
    }

    async fn new(gcs: Option<FakeGcs>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let repo = Repo::new(&directory.path().join("repo")).expect("a repository");
        let open = async |name: &str| {
            let url = url(&directory, gcs.as_ref(), name);
            if let BucketUrl::File(path) = &url {
                fs::create_dir(path).expect("a directory");
            }
            let endpoint = gcs.as_ref().map(|gcs| gcs.url.parse().expect("a URL"));
            let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
            let bucket = Bucket::open(&url, &options).await.expect("a bucket");
            bucket.mark().await.expect("a marked bucket");
            bucket
        };
        let (production, candidates) = (open(PRODUCTION).await, open(CANDIDATES).await);
        let ci = url(&directory, gcs.as_ref(), CANDIDATES);
        let package = |app| {
            format!(
                "[package.{app}]\ndescription = \"{app}\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n\
                 contents = [{{ src = \"version\", dst = \"/srv/{app}\" }}]\n"
            )
        };
        let manifest = format!("schema = 1\n[candidates]\nbucket = \"{ci}\"\n{}", APPS.map(package).concat());
        repo.write("release.toml", &manifest).expect("a file");
        let world = Self { directory, repo, gcs, production, candidates, built: Cell::new(0) };
        world.work();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory of the candidate bucket.
    pub(crate) fn ci(&self) -> PathBuf {
        self.path(CANDIDATES)
    }

    /// The directory of production.
    pub(crate) fn production_directory(&self) -> PathBuf {
        self.path(PRODUCTION)
    }

    /// A commit of something new.
    fn work(&self) {
        self.built.set(self.built.get() + 1);
        self.repo.write("version", &self.built.get().to_string()).expect("a file");
        self.repo.commit("work").expect("a commit");
    }

    fn time(&self) -> String {
        format!("2026-11-20T19:{:02}:{:02}Z", self.built.get() / 60, self.built.get() % 60)
    }

    /// `release` in the repository.
    pub(crate) fn release(&self, arguments: &[&str]) -> Command {
        let mut release = Command::new(Programs::get().expect("our programs").release());
        let url = url(&self.directory, self.gcs.as_ref(), PRODUCTION).to_string();
        Target { url, endpoint: self.gcs.as_ref().map(|gcs| gcs.url.clone()) }.apply(&mut release);
        release.env_remove("PUSH_BUILDSET").env("PUSH_HOST", "build-1").env("TMPDIR", self.directory.path());
        release.env("PUSH_TARGET", "main");
        release.arg("-C").arg(self.repo.directory()).args(arguments);
        release
    }

    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> Output {
        let output = self.release(arguments).output().expect("release runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What a command says that must fail with this status.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], status: i32) -> String {
        let output = self.release(arguments).output().expect("release runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "a failure has no result");
        said
    }

    /// Releases an app.
    pub(crate) fn released(&self, app: &str) -> ReleaseName {
        self.work();
        let output = self.done(&["-m", "release", app, "--time", &self.time()]);
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a release name")
    }

    /// Opens a change of something new, or its next patchset.
    #[track_caller]
    pub(crate) fn opened(&self, id: &str, needs: &[&str]) -> Value {
        self.work();
        let needs = needs.iter().flat_map(|need| ["--needs", need]);
        self.json(&["change", "open", id].into_iter().chain(needs).collect::<Vec<_>>())
    }

    /// Builds an app of the change that was opened last.
    #[track_caller]
    pub(crate) fn candidate(&self, id: &str, app: &str, gate: bool) -> ReleaseName {
        let time = self.time();
        let gate = gate.then_some("--gate");
        let arguments = ["candidate", "-m", "try", app, "--change", id, "--time", &time].into_iter().chain(gate);
        let output = self.done(&arguments.collect::<Vec<_>>());
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a release name")
    }

    pub(crate) async fn change(&self, id: &ChangeId) -> (bucket::Generation, Change) {
        self.candidates.change(id).await.expect("an answer").expect("a change")
    }

    /// The one candidate of a change.
    pub(crate) async fn only_candidate(&self, id: &str) -> Candidate {
        let id: ChangeId = id.parse().expect("a change");
        let (_, change) = self.change(&id).await;
        let place = change.candidates[0].place(&id).expect("a place");
        self.candidates.candidate(&place).await.expect("an answer").expect("a candidate")
    }

    /// Has a server document name these elements.
    pub(crate) async fn document(&self, server: &str, elements: &[&str]) {
        let document = ServerDocument::parse(json!(elements).to_string().as_bytes()).expect("a document");
        let server = server.parse().expect("a server");
        self.production.write_server_document(&server, &document, None).await.expect("a document");
    }

    /// Everything that is in production.
    pub(crate) async fn all(&self) -> Vec<ObjectInfo> {
        let page = async |after: Option<_>| self.production.list("", after.as_ref(), 1000).await;
        items(page).try_collect().await.expect("a listing")
    }

    /// The requests that would write something of production.
    pub(crate) fn writes(&self) -> Vec<Request> {
        let requests = self.gcs.as_ref().map(FakeGcs::requests).unwrap_or_default();
        let is_read = |kind| matches!(kind, Kind::Get | Kind::Head | Kind::List);
        requests.into_iter().filter(|request| request.bucket == PRODUCTION && !is_read(request.kind)).collect()
    }
}

fn url(directory: &TempDir, gcs: Option<&FakeGcs>, name: &str) -> BucketUrl {
    match gcs {
        Some(_) => BucketUrl::Gcs(name.to_owned()),
        None => BucketUrl::File(directory.path().join(name)),
    }
}
