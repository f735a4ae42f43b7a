//! Channels, with the real command and a real repository.

mod commands;
mod counting;
mod deciding;
mod following;
mod going_on;
mod listening;
mod moving;
mod outlook;
mod quick_start;
mod seen;
mod waves;

use std::process::{Command, Output};

use bucket::{
    BucketUrl, BuildId, CandidateMetadata, CandidatePlace, ChangeId, ReleaseMetadata, ReleaseName, SourceFile,
};
use serde_json::{Value, json};

use super::{Fixture, ok};

/// A bucket with servers that follow channels, and the repository that their releases are built from.
pub(super) struct Channels {
    fixture: Fixture,
    elsewhere: tempfile::TempDir,
    /// So that releases differ in their time.
    built: u32,
}

impl Channels {
    /// With the channel `prod` of web on `main`, which `web-*` may follow, and what else is said.
    pub(super) async fn new(more: &str) -> Self {
        let (fixture, elsewhere) = (Fixture::new().await, tempfile::tempdir().unwrap());
        let channels = Self { fixture, elsewhere, built: 0 };
        channels.git("init --quiet --initial-branch main .");
        channels.configure(&format!(r#"[{{ App: "web", Repo: "REPO", Servers: ["web-*"] }}, {more}]"#), "");
        channels
    }

    /// The same with a commit for each message, and servers that follow at the release of the first, which is given too.
    async fn following<const N: usize>(servers: &[&str], messages: [&str; N]) -> (Self, [String; N], ReleaseName) {
        let mut channels = Self::new("").await;
        let commits = messages.map(|message| channels.commit(message));
        let first = channels.release(&commits[0]).await;
        for server in servers {
            channels.server(server, &first);
        }
        (channels, commits, first)
    }

    /// Writes the policy file; `REPO` stands for the repository.
    fn configure(&self, channels: &str, more: &str) {
        let repo = format!("file://{}", self.repo().display());
        let text = format!("{{ Channels: {}, {more} }}", channels.replace("REPO", &repo));
        std::fs::write(self.elsewhere.path().join("rules"), text).unwrap();
    }

    fn repo(&self) -> std::path::PathBuf {
        let repo = self.elsewhere.path().join("repo");
        std::fs::create_dir_all(&repo).unwrap();
        repo
    }

    fn git(&self, arguments: &str) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.repo()).args(arguments.split_whitespace());
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "dev").env(format!("GIT_{who}_EMAIL"), "dev@example.org");
        }
        let output = git.output().unwrap();
        assert!(output.status.success(), "git {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// One more commit on the branch that is checked out.
    fn commit(&self, message: &str) -> String {
        self.git(&format!("commit --quiet --allow-empty --message {message}"));
        self.git("rev-parse HEAD")
    }

    /// A release of a commit.
    async fn release(&mut self, commit: &str) -> ReleaseName {
        self.release_that(commit, false).await
    }

    async fn release_that(&mut self, commit: &str, dirty: bool) -> ReleaseName {
        let (name, deb, metadata) = self.build(commit, dirty);
        self.fixture.bucket.upload_release(&name, &deb, &metadata, &|_| ()).await.unwrap();
        name
    }

    /// A release that was built of one commit, and promoted when its change had landed as another.
    async fn promoted(&mut self, commit: &str, landed: &str) -> ReleaseName {
        let (release, deb, facts) = self.build(commit, false);
        let change: ChangeId = "web/12".parse().unwrap();
        let place = CandidatePlace::Gated { change: change.clone(), release: release.clone() };
        let (tree, build) = (commit.parse().unwrap(), BuildId::random());
        let facts = CandidateMetadata { release: facts, change, patchset: 3, tree, base: None, build };
        let bucket = &self.fixture.bucket;
        bucket.upload_candidate(&place, &deb, &facts, &|_| ()).await.unwrap();
        let candidate = bucket.candidate(&place).await.unwrap().unwrap();
        bucket.promote(&candidate, &facts, &landed.parse().unwrap()).await.unwrap();
        release
    }

    /// What a build of a commit makes.
    fn build(&mut self, commit: &str, dirty: bool) -> (ReleaseName, SourceFile, ReleaseMetadata) {
        self.built += 1;
        let (minute, second) = (self.built / 60, self.built % 60);
        let name: ReleaseName =
            format!("web/web:dev@build-1:2026-11-20T19:{minute:02}:{second:02}Z:{commit}.deb").parse().unwrap();
        let deb = self.elsewhere.path().join("deb");
        std::fs::write(&deb, "deb").unwrap();
        let deb = SourceFile::read(&deb).unwrap();
        let metadata = ReleaseMetadata {
            dirty,
            note: format!("built {}", self.built),
            services: vec!["web.service".to_owned()],
            sha256: deb.sha256.clone(),
            size: deb.size,
            package: "web".parse().unwrap(),
            version: format!("0+{}", self.built),
            architecture: "all".parse().unwrap(),
            repo: "https://elsewhere.example/other".to_owned(),
            branch: "other".to_owned(),
            made_by: None,
        };
        (name, deb, metadata)
    }

    fn command(&self, arguments: &str) -> Command {
        let url = BucketUrl::File(self.fixture.directory.path().to_owned());
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        command.env("PUSH_BUCKET", url.to_string()).env("PUSH_USER", "dev");
        command.env("PUSH_CONFIG", self.elsewhere.path().join("rules"));
        command.env("XDG_CACHE_HOME", self.elsewhere.path().join("cache")).args(arguments.split_whitespace());
        command
    }

    fn push(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &str) -> Value {
        let output = self.push(&format!("{arguments} --json"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// One round that succeeds.
    fn round(&self) -> String {
        ok(&self.push("watch --once"))
    }

    /// What a server's document names.
    fn document(&self, server: &str) -> Value {
        self.fixture.document(server)
    }

    /// A server with that release of the app.
    fn server(&self, server: &str, release: &ReleaseName) {
        ok(&self.push(&format!("deploy {release} {server} --force -m first")));
    }

    fn channel(&self) -> Value {
        let object = std::fs::read(self.fixture.path("channels/web/prod.json")).unwrap();
        serde_json::from_slice(&object).unwrap()
    }

    /// Every object of the bucket with its content, so that nothing was written where they are the same.
    fn objects(&self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut directories = vec![self.fixture.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                    continue;
                }
                if path.is_dir() {
                    directories.push(path);
                } else {
                    found.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }
}

/// The stem of a release, as what is printed has it.
fn stem(release: &ReleaseName) -> String {
    release.stem().to_owned()
}

/// What a document names that has one release.
fn only(release: &ReleaseName) -> Value {
    json!([release])
}
