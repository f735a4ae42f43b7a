//! A watcher that is killed at a write, and the one that is begun after it.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bucket::{
    Bucket, BucketOptions, BucketUrl, Credentials, HistoryEntry, ReleaseName, RolloutStage, ServerName, SourceFile,
    Timestamp, UnwrittenCause,
};
use futures_util::TryStreamExt as _;
use harness::{
    Programs, Target,
    gcs::{FakeGcs, Fault, Kind, Request},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use crate::push_command::facts;

/// Longest time until all is as it should be.
const PATIENCE: Duration = Duration::from_mins(1);

const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Waves in which a server counts as soon as its agent says that it runs the release.
const IN_WAVES: &str = "Waves: ['web-1', 'rest'], Settle: '0s', MaxDown: '100%'";

/// A bucket with servers that follow a channel, a repository with one commit, and its release.
pub(crate) struct World {
    pub(crate) gcs: FakeGcs,
    pub(crate) bucket: Bucket,
    target: Target,
    elsewhere: TempDir,
    pub(crate) release: ReleaseName,
    agents: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.agents.abort();
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Watcher(pub(crate) Child);

impl Watcher {
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    /// With a channel of these rules, besides those that say what it follows.
    pub(crate) async fn new(rules: &str) -> Self {
        let (gcs, elsewhere) = (FakeGcs::start("acme"), tempfile::tempdir().expect("a directory"));
        let endpoint = Some(gcs.url.parse().expect("a URL"));
        let options = BucketOptions { endpoint, credentials: Credentials::Anonymous, ..BucketOptions::default() };
        let bucket = Bucket::open(&BucketUrl::Gcs("acme".to_owned()), &options).await.expect("a bucket");
        let repo = elsewhere.path().join("repo");
        std::fs::create_dir(&repo).expect("a directory");
        git(&repo, &["init", "--quiet", "--initial-branch", "main"]);
        git(&repo, &["commit", "--quiet", "--allow-empty", "--message", "one"]);
        let release = upload(&bucket, elsewhere.path(), "web", 0).await;
        let channel = format!("App: 'web', Repo: 'file://{}', Servers: ['web-*'], {rules}", repo.display());
        let policy = format!("{{ Channels: [{{ {channel} }}] }}");
        std::fs::write(elsewhere.path().join("rules"), policy).expect("a file");
        for server in SERVERS {
            gcs.put("acme", &format!("server/{server}.json"), r#"["web/"]"#);
            report(&bucket, &server.parse().unwrap()).await;
        }
        let of_agents = bucket.clone();
        let agents = tokio::spawn(async move {
            loop {
                for server in SERVERS {
                    report(&of_agents, &server.parse().unwrap()).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        Self { gcs, bucket, target, elsewhere, release, agents }
    }

    /// One more commit, and its release.
    async fn land(&mut self, n: u8) {
        git(&self.elsewhere.path().join("repo"), &["commit", "--quiet", "--allow-empty", "--message", "another"]);
        self.release = upload(&self.bucket, self.elsewhere.path(), "web", n).await;
    }

    /// A channel of another app, and the release for the one server that follows it.
    pub(crate) async fn other_channel(&self) -> ReleaseName {
        let rules = self.elsewhere.path().join("rules");
        let policy = std::fs::read_to_string(&rules).expect("a file");
        let (repo, other) = (self.elsewhere.path().join("repo"), "App: 'api', Servers: ['api-1']");
        let other = format!("[{{ {other}, Repo: 'file://{}' }}, ", repo.display());
        std::fs::write(rules, policy.replacen('[', &other, 1)).expect("a file");
        self.gcs.put("acme", "server/api-1.json", r#"["api/"]"#);
        upload(&self.bucket, self.elsewhere.path(), "api", 0).await
    }

    /// One round, and its exit status.
    pub(crate) fn round(&self) -> Option<i32> {
        self.push(&["watch", "--once"]).0.wait().expect("it ends").code()
    }

    fn watcher(&self) -> Watcher {
        self.push(&["watch", "--poll", "1s"])
    }

    /// A `push` that watches, or drives what is there.
    pub(crate) fn push(&self, arguments: &[&str]) -> Watcher {
        let mut push = Command::new(Programs::get().expect("our programs").push());
        push.args(arguments).arg("--config").arg(self.elsewhere.path().join("rules"));
        push.env("XDG_CACHE_HOME", self.elsewhere.path().join("cache"));
        let said = File::options().create(true).append(true).open(self.said()).expect("a file");
        push.stdin(Stdio::null()).stdout(said.try_clone().expect("a file")).stderr(said);
        self.target.apply(&mut push);
        Watcher(push.spawn().expect("push runs"))
    }

    pub(crate) fn said(&self) -> PathBuf {
        self.elsewhere.path().join("said")
    }

    pub(crate) async fn named(&self, server: &str) -> Option<ReleaseName> {
        let read = self.bucket.server_document(&server.parse().unwrap()).await.expect("it can be read");
        read.and_then(|(_, document)| document.releases().next().cloned())
    }

    /// Waits until all servers have the release, and what brought it there is over.
    pub(crate) async fn until_converged(&self) {
        let converged = async {
            loop {
                let mut all_have = true;
                for server in SERVERS {
                    all_have &= self.named(server).await.as_ref() == Some(&self.release);
                }
                let stages = self.stages().await;
                if all_have && stages.iter().all(RolloutStage::is_over) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let converged = timeout(PATIENCE, converged).await;
        let said = std::fs::read_to_string(self.said()).expect("what the watchers said");
        assert!(converged.is_ok(), "not all have it in time: {said}");
    }

    async fn stages(&self) -> Vec<RolloutStage> {
        let listed: Vec<_> = self.bucket.rollouts().try_collect().await.expect("a listing");
        let mut stages = Vec::new();
        for summary in listed {
            stages.extend(self.bucket.rollout(&summary.id).await.expect("a rollout").map(|(_, rollout)| rollout.stage));
        }
        stages
    }

    /// What every server was written with, oldest first, and for which channel.
    async fn histories(&self) -> Vec<Vec<(Option<ReleaseName>, bool)>> {
        let mut histories = Vec::new();
        for server in SERVERS {
            let mut history: Vec<HistoryEntry> =
                self.bucket.history(&server.parse().unwrap()).try_collect().await.expect("a history");
            history.sort_by_key(|entry| entry.generation);
            let is_of_channel = |entry: &HistoryEntry| entry.channel.as_ref().is_some_and(|it| it.as_str() == "prod");
            histories.push(history.into_iter().map(|entry| (entry.to.clone(), is_of_channel(&entry))).collect());
        }
        histories
    }

    /// Each server was written once, for the channel, by a push that has an object.
    async fn is_recorded_once(&self) {
        let heads = self.bucket.newest_pushes(usize::MAX).await.expect("a listing");
        for server in SERVERS {
            let read = self.bucket.server_document(&server.parse().unwrap()).await.expect("it can be read");
            let told = read.expect("a document").1.metadata().pushes();
            let [push] = told.as_slice() else { panic!("{server}: {told:#?}") };
            assert_eq!((&push.from, &push.to), (&None, &Some(self.release.clone())), "{server} was written twice");
            assert_eq!(push.channel.as_ref().map(ToString::to_string).as_deref(), Some("prod"));
            assert!(heads.iter().any(|head| head.id == push.id), "{server}: {} has no object", push.id);
        }
    }
}

/// A release of the newest commit.
async fn upload(bucket: &Bucket, elsewhere: &Path, app: &str, n: u8) -> ReleaseName {
    let commit = git(&elsewhere.join("repo"), &["rev-parse", "HEAD"]);
    let name = format!("{app}/{app}:dev@build-1:2026-11-20T19:05:{n:02}Z:{commit}.deb");
    let name: ReleaseName = name.parse().expect("a release name");
    let deb = elsewhere.join("web.deb");
    std::fs::write(&deb, "deb").expect("a file");
    let deb = SourceFile::read(&deb).expect("a package");
    bucket.upload_release(&name, &deb, &facts(), &|_| ()).await.expect("a release");
    name
}

pub(crate) fn git(repo: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(repo).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "dev").env(format!("GIT_{who}_EMAIL"), "dev@example.org");
    }
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// What an agent says that runs what its document names. It may fail while a fault is on.
pub(crate) async fn report(bucket: &Bucket, server: &ServerName) {
    let Ok(Some((generation, document))) = bucket.server_document(server).await else { return };
    let Ok(seen) = bucket.status(server).await else { return };
    let (now, seen) = (Timestamp::now(), seen.map(|(seen, _)| seen));
    let apps: Vec<_> = document
        .releases()
        .map(|release| json!({ "app": "web", "desired": release, "installed": release, "state": "converged", "since": now }))
        .collect();
    let status = json!({
        "server": server, "machine": "m", "written": now, "state": "converged", "summary": "", "apps": apps,
        "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
        "document": { "generation": generation, "error": null },
    });
    let _ = bucket.write_status(&serde_json::from_value(status).expect("a status"), seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_killed_at_any_write_is_made_up_for_by_the_next_one() {
    // At each write the killed one has written everything before it; this write is done and it never learns that, or it isn't.
    for (rules, objects) in [
        ("", &["channels/web/prod", "pushes/", "server/web-2", "history/web-1/"][..]),
        (IN_WAVES, &["channels/web/prod", "rollouts/", "pushes/", "server/web-1", "server/web-3", "history/web-1/"]),
    ] {
        for object in objects {
            for fault in [Fault::NeverAnswer, Fault::KeepAnswer] {
                let world = World::new(rules).await;
                world.gcs.fail(Kind::Insert, object, fault.clone());
                let mut killed = world.watcher();
                let is_at_it = |request: &Request| request.kind == Kind::Insert && request.object.contains(object);
                world.gcs.until(|requests| requests.iter().any(is_at_it)).await;
                killed.kill();
                world.gcs.heal();
                assert!(!world.stages().await.contains(&RolloutStage::Done), "it was killed in the middle");
                let _next = world.watcher();
                world.until_converged().await;
                world.is_recorded_once().await;
                let rollouts = world.stages().await.len();
                assert_eq!(rollouts, usize::from(!rules.is_empty()), "{object} {fault:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_watchers_and_the_web_app_carry_on_one_rollout_of_each_release() {
    let mut world = World::new(IN_WAVES).await;
    let drivers =
        [world.watcher(), world.watcher(), world.push(&["serve", "--listen", "127.0.0.1:0", "--refresh", "1s"])];
    let mut landed = Vec::new();
    for n in 1..=4 {
        landed.push((Some(world.release.clone()), true));
        world.until_converged().await;
        if n < 4 {
            world.land(n).await;
        }
    }
    assert_eq!(world.histories().await, [landed.clone(), landed.clone(), landed.clone()], "each server once with each");
    assert_eq!(world.stages().await, vec![RolloutStage::Done; landed.len()]);
    assert_eq!(world.bucket.newest_pushes(usize::MAX).await.expect("a listing").len(), landed.len());
    // Whoever begins anew reads the last one of the channel, and none that was over before.
    drop(drivers);
    let before = world.gcs.requests().len();
    assert_eq!(world.round(), Some(0));
    let requests = world.gcs.requests().split_off(before);
    let is_read = |request: &&Request| request.kind == Kind::Get && request.object.starts_with("rollouts/");
    let read: BTreeSet<&str> = requests.iter().filter(is_read).map(|request| request.object.as_str()).collect();
    assert_eq!(read.len(), 1, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_ends_begins_the_next_round_at_once() {
    let mut world = World::new(&IN_WAVES.replace("'0s'", "'3s'")).await;
    let _watcher = world.push(&["watch", "--poll", "1h"]);
    let first = async {
        while world.named("web-1").await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, first).await.expect("the first wave is written");
    // Nothing tells the watcher of it.
    let one = world.release.clone();
    world.land(1).await;
    world.until_converged().await;
    let both = vec![(Some(one), true), (Some(world.release.clone()), true)];
    assert_eq!(world.histories().await, [both.clone(), both.clone(), both]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watcher_began_and_left_when_it_was_told_to_end_the_web_app_carries_on_for_the_channel() {
    let world = World::new(&format!("{IN_WAVES}, StopAt: 2").replace("'0s'", "'4s'")).await;
    let mut watcher = world.watcher();
    let settling = async {
        while world.named("web-1").await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, settling).await.expect("the first wave is written");
    let pid = rustix::process::Pid::from_child(&watcher.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let ended = tokio::task::spawn_blocking(move || watcher.0.wait()).await.expect("no panic").expect("it ends");
    assert!(ended.success(), "{ended}");
    assert_eq!((world.stages().await, world.named("web-2").await), (vec![RolloutStage::Running], None));
    let _web_app = world.push(&["serve", "--listen", "127.0.0.1:0", "--refresh", "1s"]);
    world.until_converged().await;
    let once = vec![(Some(world.release.clone()), true)];
    assert_eq!(world.histories().await, [once.clone(), once.clone(), once]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_told_to_end_ends_the_writes_that_it_has_begun_and_begins_no_other() {
    // All at once, and in one wave.
    for rules in ["", "MaxDown: '100%'"] {
        let world = World::new(rules).await;
        let more: Vec<String> = (10..60).map(|n| format!("web-{n}")).collect();
        for server in &more {
            world.gcs.put("acme", &format!("server/{server}.json"), r#"["web/"]"#);
            report(&world.bucket, &server.parse().unwrap()).await;
        }
        world.gcs.fail(Kind::Insert, "server/", Fault::Slow(Duration::from_secs(2)));
        let mut watcher = world.watcher();
        let is_write = |request: &Request| request.kind == Kind::Insert && request.object.starts_with("server/");
        world.gcs.until(|requests| requests.iter().any(is_write)).await;
        let pid = rustix::process::Pid::from_child(&watcher.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let ended = tokio::task::spawn_blocking(move || watcher.0.wait()).await.expect("no panic").expect("it ends");
        assert!(ended.success(), "{ended}");
        world.gcs.heal();
        let all: Vec<&str> = SERVERS.into_iter().chain(more.iter().map(String::as_str)).collect();
        let mut written = 0;
        for server in &all {
            written += usize::from(world.named(server).await.is_some());
        }
        assert!((1..all.len() / 2).contains(&written), "{rules}: {written} were written");
        let pushes = world.bucket.newest_pushes(usize::MAX).await.expect("a listing");
        let [push] = pushes.as_slice() else { panic!("{pushes:?}") };
        let end = world.bucket.push_end(push.time, &push.id).await.expect("it can be read");
        // The next one carries a rollout on. Another push says of the rest that it came to none of them, and they get a new one.
        let unwritten: Vec<_> = end.into_iter().flat_map(|end| end.rows).map(|row| row.cause).collect();
        let rest = if rules.is_empty() { all.len() - written } else { 0 };
        assert_eq!(unwritten, vec![UnwrittenCause::Stopped; rest], "{rules}");
        assert_eq!(world.round(), Some(0));
        for server in &all {
            assert_eq!(world.named(server).await.as_ref(), Some(&world.release), "{rules} {server}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_slower_than_another_leaves_no_push_of_conflicts() {
    let world = World::new("").await;
    // It has read the servers by then, which are behind.
    world.gcs.fail_next(Kind::Head, "debs/web/", 1, Fault::Slow(Duration::from_secs(10)));
    let before = world.gcs.requests().len();
    let mut slower = world.push(&["watch", "--once"]);
    let is_held = |request: &Request| request.kind == Kind::Head && request.object.contains("debs/web/");
    world.gcs.until(|requests| requests[before..].iter().any(is_held)).await;
    let mut faster = world.push(&["watch", "--once"]);
    assert!(faster.0.wait().expect("it ends").success());
    for server in SERVERS {
        assert_eq!(world.named(server).await.as_ref(), Some(&world.release), "{server}");
    }
    assert!(slower.0.try_wait().expect("it is ours").is_none(), "it is the slower one");
    assert!(slower.0.wait().expect("it ends").success());
    let pushes = world.bucket.newest_pushes(usize::MAX).await.expect("a listing");
    assert_eq!(pushes.len(), 1, "{pushes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_watchers_that_are_both_about_to_write_one_does_and_the_push_of_the_other_says_that_it_wrote_nothing() {
    let world = World::new("").await;
    // It has read the servers once more by then, and decided.
    world.gcs.fail_next(Kind::Insert, "pushes/", 1, Fault::Slow(Duration::from_secs(10)));
    let mut slower = world.push(&["watch", "--once"]);
    let is_held = |request: &Request| request.kind == Kind::Insert && request.object.starts_with("pushes/");
    world.gcs.until(|requests| requests.iter().any(is_held)).await;
    let mut faster = world.push(&["watch", "--once"]);
    assert!(faster.0.wait().expect("it ends").success());
    assert!(slower.0.try_wait().expect("it is ours").is_none(), "it is the slower one");
    assert!(slower.0.wait().expect("it ends").success(), "what the other did is as good");
    let once = vec![(Some(world.release.clone()), true)];
    assert_eq!(world.histories().await, [once.clone(), once.clone(), once]);
    let pushes = world.bucket.newest_pushes(usize::MAX).await.expect("a listing");
    let mut unwritten: Vec<_> = pushes.iter().map(|push| push.unwritten).collect();
    unwritten.sort_unstable();
    assert_eq!(unwritten, [Some(0), Some(SERVERS.len())]);
    let lost = pushes.iter().find(|push| push.unwritten != Some(0)).expect("that of the slower one");
    let end = world.bucket.push_end(lost.time, &lost.id).await.expect("it can be read").expect("it has ended");
    assert!(end.rows.iter().all(|row| row.cause == UnwrittenCause::Conflict), "{end:?}");
    let said = std::fs::read_to_string(world.said()).expect("what they said");
    assert_eq!(said.matches(": pushed").count(), SERVERS.len(), "who wrote nothing says nothing: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rounds_saw_and_that_a_watcher_lives_is_kept_in_a_bucket_of_google_and_written_when_it_differs() {
    let mut world = World::new("").await;
    let (app, channel) = ("web".parse().unwrap(), "prod".parse().unwrap());
    assert_eq!(world.round(), Some(0));
    let (_, state) = world.bucket.channel_state(&app, &channel).await.expect("it can be read").expect("it is there");
    assert_eq!((state.release.as_ref(), state.behind, state.followers), (Some(&world.release), Some(0), SERVERS.len()));
    let (host, _) = world.bucket.newest_watcher().await.expect("a listing").expect("there is one");
    assert_eq!(world.bucket.watcher(&host).await.expect("it can be read").expect("it is there").1.poll_seconds, 300);
    // What all run is noted; then there is nothing more to say.
    world.until_converged().await;
    let quiet = async {
        loop {
            let before = world.gcs.requests().len();
            assert_eq!(world.round(), Some(0));
            let ours = |request: &&Request| request.kind == Kind::Insert && !request.object.starts_with("status/");
            if world.gcs.requests().split_off(before).iter().filter(ours).count() == 0 {
                return;
            }
        }
    };
    timeout(PATIENCE, quiet).await.expect("a round that writes nothing");
    // That it cannot be written harms nothing, and is said.
    world.land(1).await;
    world.gcs.fail(Kind::Insert, "channel-state/", Fault::Status(403, None));
    std::fs::write(world.said(), "").expect("a file");
    assert_eq!(world.round(), Some(0));
    let said = std::fs::read_to_string(world.said()).expect("what it said");
    assert!(said.contains("could not record what this round saw of the channel `prod`"), "{said}");
    world.gcs.heal();
    assert_eq!(world.round(), Some(0));
    let (_, state) = world.bucket.channel_state(&app, &channel).await.expect("it can be read").expect("it is there");
    assert_eq!(state.release.as_ref(), Some(&world.release));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_ten_thousand_releases_all_pages_are_read_and_the_furthest_is_found() {
    let world = World::new("").await;
    let path = format!("debs/{}", world.release).parse().expect("a path");
    let metadata = world.bucket.head(&path).await.expect("an answer").expect("the release").metadata;
    // Before and after the one whose commit is on the branch.
    for n in 0..10_500 {
        let (minute, second, year) = (n / 60 % 60, n % 60, if n % 2 == 0 { 2025 } else { 2027 });
        let name =
            format!("debs/web/web:dev@build-1:{year}-01-{:02}T00:{minute:02}:{second:02}Z:{n:040x}.deb", n / 3600 + 1);
        world.gcs.put_with("acme", &name, "deb", metadata.clone());
    }
    assert_eq!(world.round(), Some(0));
    let is_page = |request: &&Request| request.kind == Kind::List && request.object == "debs/web/";
    assert_eq!(world.gcs.requests().iter().filter(is_page).count(), 11, "pages of 1000");
    for server in SERVERS {
        assert_eq!(world.named(server).await.as_ref(), Some(&world.release), "{server}");
    }
}
