//! Channels that move, go back and are killed in the middle, over both backends: a directory, and Google's storage.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bucket::{Bucket, BucketOptions, BucketUrl, Channel, Credentials, ReleaseName, SourceFile};
use harness::{Programs, Target, gcs::FakeGcs};
use tempfile::TempDir;

use crate::{push_command::facts, watching::git};

const SERVERS: [&str; 2] = ["web-1", "web-2"];

/// A bucket with a channel of `web`, two servers that follow it, and its repository.
struct World {
    /// Google's storage, unless the bucket is a directory.
    _gcs: Option<FakeGcs>,
    directory: TempDir,
    bucket: Bucket,
    target: Target,
    built: u8,
}

impl World {
    /// One on each backend.
    async fn on_both() -> [Self; 2] {
        let gcs = FakeGcs::start("acme");
        let elsewhere = TempDir::new().expect("a directory");
        let file = elsewhere.path().join("bucket");
        std::fs::create_dir(&file).expect("a directory");
        let google = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        let file = Target { url: BucketUrl::File(file).to_string(), endpoint: None };
        let directory = TempDir::new().expect("a directory");
        [Self::on(google, Some(gcs), directory).await, Self::on(file, None, elsewhere).await]
    }

    async fn on(target: Target, gcs: Option<FakeGcs>, directory: TempDir) -> Self {
        let endpoint = target.endpoint.as_ref().map(|url| url.parse().expect("a URL"));
        let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
        let bucket = Bucket::open(&target.url.parse().expect("a URL"), &options).await.expect("a bucket");
        bucket.mark().await.expect("a bucket");
        let world = Self { _gcs: gcs, directory, bucket, target, built: 0 };
        std::fs::create_dir(world.repo()).expect("a directory");
        git(&world.repo(), &["init", "--quiet", "--initial-branch", "main"]);
        let channel = format!("App: 'web', Repo: 'file://{}', Servers: ['web-*']", world.repo().display());
        std::fs::write(world.path("rules"), format!("{{ Channels: [{{ {channel} }}] }}")).expect("a file");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    fn commit(&self) -> String {
        git(&self.repo(), &["commit", "--quiet", "--allow-empty", "--message", "another"]);
        git(&self.repo(), &["rev-parse", "HEAD"])
    }

    async fn release(&mut self, commit: &str) -> ReleaseName {
        self.built += 1;
        let name = format!("web/web:dev@build-1:2026-11-20T19:05:{:02}Z:{commit}.deb", self.built);
        let name: ReleaseName = name.parse().expect("a release name");
        let deb = self.path("web.deb");
        std::fs::write(&deb, "deb").expect("a file");
        let deb = SourceFile::read(Path::new(&deb)).expect("a package");
        self.bucket.upload_release(&name, &deb, &facts(), &|_| ()).await.expect("a release");
        name
    }

    fn command(&self, arguments: &str) -> Command {
        let mut push = Command::new(Programs::get().expect("our programs").push());
        push.args(arguments.split_whitespace()).arg("--config").arg(self.path("rules"));
        self.target.apply(&mut push);
        push.env("XDG_CACHE_HOME", self.path("cache")).env("PUSH_USER", "dev");
        push
    }

    /// What a command that succeeds says.
    fn push(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().expect("push runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {arguments}: {said}", self.target.url);
        said
    }

    fn round(&self) -> String {
        self.push("watch --once")
    }

    async fn named(&self) -> [Option<ReleaseName>; 2] {
        let named = SERVERS.map(async |server| {
            let read = self.bucket.server_document(&server.parse().unwrap()).await.expect("it can be read");
            read.and_then(|(_, document)| document.releases().next().cloned())
        });
        let [one, other] = named;
        [one.await, other.await]
    }

    async fn channel(&self) -> Channel {
        let (app, channel) = ("web".parse().unwrap(), "prod".parse().unwrap());
        self.bucket.channel(&app, &channel).await.expect("it can be read").expect("it has moved").1
    }

    /// Both have a release.
    async fn all_have(&self, release: &ReleaseName) {
        assert_eq!(self.named().await, [Some(release.clone()), Some(release.clone())], "{}", self.target.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_whatever_order_builds_finish_a_channel_moves_forward() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for mut world in World::on_both().await {
            let commits = [world.commit(), world.commit(), world.commit()];
            let first = world.release(&commits[0]).await;
            world.push(&format!("deploy {first} web-1 web-2 --force -m first"));
            world.round();
            let (mut places, mut last) = (vec![0], first);
            for at in order.into_iter().chain(order) {
                let release = world.release(&commits[at]).await;
                let said = world.round();
                if places.last() < Some(&at) {
                    assert!(said.contains(&format!("moved to {}", release.stem())), "{order:?}: {said}");
                    places.push(at);
                    last = release;
                } else {
                    assert!(!said.contains("moved"), "{order:?}: {said}");
                }
                world.all_have(&last).await;
            }
            let Channel { release, history, .. } = world.channel().await;
            assert_eq!(release, Some(last));
            let moved: Vec<&str> = history.iter().rev().map(|entry| entry.release.commit().as_str()).collect();
            let forward: Vec<&str> = places.iter().map(|place| commits[*place].as_str()).collect();
            assert_eq!(moved, forward, "{order:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_rolls_back_stays_until_they_resume_it() {
    for mut world in World::on_both().await {
        let commits = [world.commit(), world.commit(), world.commit()];
        let one = world.release(&commits[0]).await;
        world.push(&format!("deploy {one} web-1 web-2 --force -m first"));
        world.round();
        let two = world.release(&commits[1]).await;
        world.round();
        let said = world.push("channel rollback web -m slow");
        assert!(said.contains(&format!("{} → {}", two.stem(), one.stem())) && said.contains("frozen: slow"), "{said}");
        // Going back is no halted push.
        world.push("halt -m migration");
        world.round();
        world.all_have(&one).await;
        world.push("halt --lift");
        let pushes = world.push("pushes --json");
        let pushes: serde_json::Value = serde_json::from_str(&pushes).expect("JSON");
        let (kind, why) = (&pushes["pushes"][0]["kind"], &pushes["pushes"][0]["why"]);
        assert_eq!((kind.as_str(), why.as_str()), (Some("rollback"), Some("channel prod: first")));
        let three = world.release(&commits[2]).await;
        let said = world.round();
        assert!(said.contains("stays, and would otherwise move to") && said.contains(three.stem()), "{said}");
        world.all_have(&one).await;
        world.push("channel resume web -m mended");
        // Forward again is a push like any other, though the channel was further once.
        world.push("halt -m migration");
        assert!(world.round().contains("halted all pushes"));
        world.all_have(&one).await;
        world.push("halt --lift");
        world.round();
        world.all_have(&three).await;
        // Who takes a server over has that one alone.
        world.push("rollback web web-1 -m slow");
        let four = world.commit();
        let four = world.release(&four).await;
        world.round();
        assert_eq!(world.named().await, [Some(one), Some(four)], "{}", world.target.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watcher_that_was_killed_after_it_moved_a_channel_left_undone_the_next_one_does() {
    for mut world in World::on_both().await {
        let commits = [world.commit(), world.commit()];
        let one = world.release(&commits[0]).await;
        world.push(&format!("deploy {one} web-1 web-2 --force -m first"));
        world.round();
        let two = world.release(&commits[1]).await;
        let mut watch = world.command("watch --poll 1h");
        let mut watcher = watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("push runs");
        let begun = Instant::now();
        while world.channel().await.release.as_ref() != Some(&two) {
            assert!(begun.elapsed() < Duration::from_mins(1), "it never moved: {}", world.target.url);
        }
        watcher.kill().expect("it is ours");
        watcher.wait().expect("it ends");
        world.round();
        world.all_have(&two).await;
        for server in SERVERS {
            let read = world.bucket.server_document(&server.parse().unwrap()).await.expect("it can be read");
            let told = read.expect("a document").1.metadata().pushes();
            assert_eq!((&told[0].from, &told[0].to), (&Some(one.clone()), &Some(two.clone())), "{server} once");
        }
        assert!(!world.round().contains("pushed"));
    }
}
