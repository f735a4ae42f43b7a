//! Channels of images: a real registry, whose tag `push watch` moves.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use harness::{
    Programs, Target,
    gcs::FakeGcs,
    registry::{Debian, PASSWORD, RegistryOptions, RegistryServer, Tap, Tools, USER, oci_image, oci_index},
};
use jiff::SignedDuration;
use registry::{Client, ClientOptions, Digest, Logins, Repository};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::watching::git;

/// [`USER`] and [`PASSWORD`] as `docker login` writes them: in base64.
const LOGIN: &str = "ZGVwbG95ZXI6Y29ycmVjdC1ob3JzZQ==";

/// A registry that wants a password, a repository of git, and a bucket.
pub(crate) struct World {
    registry: RegistryServer,
    tools: Tools,
    pub(crate) client: Client,
    target: Target,
    elsewhere: TempDir,
    pub(crate) gcs: FakeGcs,
}

impl World {
    pub(crate) fn new(of: Debian) -> Self {
        let registry = RegistryServer::start(of, RegistryOptions { password: true }).expect("a registry");
        let (gcs, elsewhere) = (FakeGcs::start("acme"), tempfile::tempdir().expect("a directory"));
        let auth = elsewhere.path().join("config.json");
        let login = json!({ "auths": { registry.host(): { "auth": LOGIN } } });
        fs::write(&auth, login.to_string()).expect("a file");
        let logins = Logins { file: Some(auth), ..Logins::default() };
        let client = Client::new(ClientOptions { logins, ..ClientOptions::default() }).expect("a client");
        let repo = elsewhere.path().join("repo");
        fs::create_dir(&repo).expect("a directory");
        git(&repo, &["init", "--quiet", "--initial-branch", "main"]);
        let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        Self { registry, tools: Tools::get().expect("skopeo"), client, target, elsewhere, gcs }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.elsewhere.path().join(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// Lands a commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        git(&self.repo(), &["commit", "--quiet", "--allow-empty", "--message", message]);
        git(&self.repo(), &["rev-parse", "HEAD"])
    }

    pub(crate) fn name(&self, image: &str) -> Repository {
        format!("{}/acme/{image}", self.registry.host()).parse().expect("a name")
    }

    /// An image in a directory, of one platform or of two.
    pub(crate) fn build(&self, content: &str, is_index: bool) -> PathBuf {
        let directory = self.path(&format!("oci-{content}"));
        fs::create_dir_all(&directory).expect("a directory");
        let make = if is_index { oci_index } else { oci_image };
        make(&directory, content.as_bytes()).expect("an image");
        directory
    }

    /// Pushes an image as builders do. The digest is that of what then is in the registry: layers are compressed on the way.
    pub(crate) async fn publish(&self, built: &Path, image: &str, tag: &str) -> Option<Digest> {
        self.tools.push(built, &format!("{}:{tag}", self.name(image))).expect("it is pushed");
        self.digest(image, tag).await
    }

    /// Lands a commit and publishes its image under it: the commit, and the image's digest.
    pub(crate) async fn land(&self, image: &str, message: &str) -> (String, Option<Digest>) {
        let commit = self.commit(message);
        let digest = self.publish(&self.build(message, false), image, &commit).await;
        (commit, digest)
    }

    pub(crate) async fn digest(&self, image: &str, tag: &str) -> Option<Digest> {
        self.client.digest(&self.name(image), &tag.parse().expect("a tag")).await.expect("the registry answers")
    }

    /// Channels of images: of which app each is, and what else is said of it.
    pub(crate) fn configure(&self, channels: &[(&str, &str)]) {
        let entry = |(app, more): &(&str, &str)| {
            let (repo, name) = (self.repo(), self.name(app));
            format!("{{ App: '{app}', Repo: 'file://{}', Image: '{name}', {more} }}", repo.display())
        };
        let channels: Vec<String> = channels.iter().map(entry).collect();
        fs::write(self.path("rules"), format!("{{ Channels: [{}] }}", channels.join(", "))).expect("a file");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut push = Command::new(Programs::get().expect("our programs").push());
        push.args(arguments).arg("--config").arg(self.path("rules"));
        push.env("XDG_CACHE_HOME", self.path("cache")).env("REGISTRY_AUTH_FILE", self.path("config.json"));
        self.target.apply(&mut push);
        push
    }

    pub(crate) fn push(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("push runs");
        let said = text(&output);
        assert!(!said.contains(PASSWORD) && !said.contains(LOGIN), "{said}");
        output
    }

    /// What is said where all goes well.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.push(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    pub(crate) fn round(&self) -> String {
        self.ok(&["watch", "--once"])
    }

    /// What is said where something fails.
    pub(crate) fn failing_round(&self) -> String {
        let output = self.push(&["watch", "--once"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    }

    pub(crate) fn shown(&self, app: &str) -> Value {
        let output = self.push(&["channel", "show", app, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_of_three_commits_in_whatever_order_end_at_the_last_and_no_layer_moves() {
    let world = World::new(Debian::Twelve);
    let commits = ["one", "two", "three"].map(|message| world.commit(message));
    git(&world.repo(), &["checkout", "--quiet", "-b", "side"]);
    let side = world.commit("side");
    git(&world.repo(), &["checkout", "--quiet", "main"]);
    let builds = [world.build("one", false), world.build("two", false), world.build("three", true)];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let apps: Vec<String> = (0..orders.len()).map(|order| format!("web-{order}")).collect();
    let channels: Vec<(&str, &str)> = apps.iter().map(|app| (app.as_str(), "Tag: 'prod'")).collect();
    world.configure(&channels);
    let (mut furthest, mut digests) = ([0; 6], [None, None, None]);
    for step in 0..3 {
        for (app, order) in apps.iter().zip(orders) {
            let build = &builds[order[step]];
            // Each is built twice; of an unmerged change there is a build, too.
            for tag in [commits[order[step]].as_str(), &commits[order[step]], "1234_2", &side] {
                digests[order[step]] = world.publish(build, app, tag).await;
            }
        }
        let before = world.registry.requests().expect("its log").len();
        world.round();
        let requests = world.registry.requests().expect("its log").split_off(before);
        let ours: Vec<_> = requests.iter().filter(|request| request.agent.starts_with("push/")).collect();
        assert!(!ours.is_empty() && ours.iter().all(|request| !request.path.contains("/blobs/")), "{ours:?}");
        for (at, (app, order)) in apps.iter().zip(orders).enumerate() {
            furthest[at] = if step == 0 { order[0] } else { furthest[at].max(order[step]) };
            let expected = &digests[furthest[at]];
            assert!(expected.is_some());
            assert_eq!(world.digest(app, "prod").await, *expected, "{app}, step {step}");
        }
    }
    for (app, order) in apps.iter().zip(orders) {
        let history = world.shown(app)["history"].clone();
        let moves: Vec<usize> = history
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|entry| {
                let release = entry["release"].as_str().unwrap();
                commits.iter().position(|commit| release.contains(commit)).expect("a commit of the branch")
            })
            .collect();
        assert!(moves.is_sorted_by(|one, next| one < next) && moves.last() == Some(&2), "{order:?}: {moves:?}");
    }
    // What the tag names is pulled as a whole, by somebody else.
    let pulled = world.path("pulled");
    let credential = format!("{USER}:{PASSWORD}");
    let (from, into) = (format!("docker://{}:prod", world.name("web-5")), format!("dir:{}", pulled.display()));
    let copied =
        world.tools.skopeo(&["copy", "--all", "--src-tls-verify=false", "--src-creds", &credential, &from, &into]);
    copied.expect("skopeo").ok().expect("it is pulled");
    // A quiet round writes nothing in the registry.
    let before = world.registry.requests().expect("its log").len();
    world.round();
    let requests = world.registry.requests().expect("its log").split_off(before);
    assert!(requests.iter().all(|request| ["GET", "HEAD"].contains(&request.method.as_str())), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_channel_decides_and_the_tag_is_brought_in_line_with_it() {
    let world = World::new(Debian::Thirteen);
    let commits = ["one", "two", "three"].map(|message| world.commit(message));
    let builds = ["one", "two", "three", "other"].map(|content| world.build(content, false));
    world.configure(&[("web", "Tag: 'prod'")]);
    let one = world.publish(&builds[0], "web", &commits[0]).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    let two = world.publish(&builds[1], "web", &commits[1]).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
    assert!(one.is_some() && one != two);
    let options = bucket::BucketOptions::from_env(|key| match key {
        "PUSH_GCS_ENDPOINT" => world.target.endpoint.clone(),
        "PUSH_GCS_CREDENTIALS" => Some("anonymous".to_owned()),
        _ => None,
    });
    let (url, options) = (world.target.url.parse().expect("a bucket"), options.expect("options"));
    let records = bucket::Bucket::open(&url, &options).await.expect("the bucket");
    let commit = commits[1].parse().expect("a commit");
    let record = records.image(&"web".parse().expect("an app"), &commit).await.expect("an answer").expect("a record");
    assert_eq!((record.landed.as_ref(), &record.commit), (Some(&commit), &commit));
    let shown = world.shown("web");
    assert_eq!(shown["image"], json!(format!("{}:prod", world.name("web"))));
    assert!(shown["release"].as_str().unwrap().contains(&commits[1]) && shown["seen"]["behind"] == 1, "{shown}");

    // Back, and it stays there, whatever lands.
    world.ok(&["channel", "rollback", "web", "-m", "slow"]);
    let said = world.round();
    assert!(said.contains("web prod: ") && said.contains(":prod is now its image"), "{said}");
    assert_eq!(world.digest("web", "prod").await, one);
    let three = world.publish(&builds[2], "web", &commits[2]).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, one, "it is frozen");
    // Whoever moves the tag by hand sees it go back.
    world.publish(&builds[3], "web", "prod").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    let second = &commits[1][..8];
    world.ok(&["channel", "set", &format!("web@{second}"), "-m", "as far as that"]);
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
    let unknown = world.push(&["channel", "set", "web@00000000", "-m", "x"]);
    assert!(
        text(&unknown).contains("no image of `web` is recorded of a commit that begins with `00000000`"),
        "{}",
        text(&unknown)
    );

    // Somebody puts another image under the tag of a commit that is recorded: nothing moves there, and that is said.
    let other = world.publish(&builds[3], "web", &commits[2]).await.expect("an image");
    world.ok(&["channel", "resume", "web", "-m", "on"]);
    let said = world.failing_round();
    let expected = format!("another image under the tag `{}` of `{}`, so nothing moves", commits[2], world.name("web"));
    assert!(said.contains(&expected) && said.contains(&other.to_string()) && said.contains("push reject"), "{said}");
    assert_eq!(world.digest("web", "prod").await, two);
    let problem = world.shown("web")["seen"]["problem"].as_str().expect("a problem").to_owned();
    assert!(
        problem.contains("somebody put another image under the tag") && problem.contains("push reject"),
        "{problem}"
    );
    world.publish(&builds[2], "web", &commits[2]).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, three);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_from_one_channel_to_the_next_once_its_tag_has_been_there() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Channel: 'beta', Tag: 'beta'"), ("web", "Tag: 'prod', From: 'beta'")]);
    let (_, one) = world.land("web", "one").await;
    world.round();
    let now = |tag: &'static str| world.digest("web", tag);
    assert_eq!((now("beta").await, now("prod").await), (one.clone(), None));
    world.round();
    assert_eq!(now("prod").await, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_on_once_its_tag_has_been_there_for_the_soak() {
    let world = World::new(Debian::Twelve);
    world.configure(&[("web", "Channel: 'beta', Tag: 'beta'"), ("web", "Tag: 'prod', From: 'beta', Soak: '1h'")]);
    let now = |tag: &'static str| world.digest("web", tag);
    let after = |minutes: i64| world.gcs.set_clock_ahead(SignedDuration::from_mins(minutes));
    let (_, one) = world.land("web", "one").await;
    world.round();
    world.round();
    assert_eq!((now("beta").await, now("prod").await), (one.clone(), None));
    let shown = text(&world.push(&["channel", "show", "web", "--channel", "prod"]));
    assert!(shown.contains("when it has run long enough on beta"), "{shown}");
    // What lands meanwhile has an hour of its own.
    after(59);
    let (_, two) = world.land("web", "two").await;
    world.round();
    world.round();
    assert_eq!((now("beta").await, now("prod").await), (two.clone(), None));
    after(61);
    world.round();
    assert_eq!((now("beta").await, now("prod").await), (two.clone(), one.clone()));
    after(118);
    world.round();
    assert_eq!(now("prod").await, one);
    after(121);
    world.round();
    assert_eq!(now("prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_built_again_after_its_round_moves_nothing_and_as_another_image_it_is_said() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Tag: 'prod'")]);
    let (commit, one) = world.land("web", "one").await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    // The same again, to the byte.
    assert_eq!(world.publish(&world.build("one", false), "web", &commit).await, one);
    let said = world.round();
    assert!(!said.contains("is now its image"), "{said}");
    let other = world.publish(&world.build("other", false), "web", &commit).await.expect("an image");
    let said = world.failing_round();
    assert!(said.contains("somebody put another image under the tag") && said.contains(&other.to_string()), "{said}");
    assert_eq!(world.digest("web", "prod").await, one);
    let history = world.shown("web")["history"].clone();
    assert_eq!(history.as_array().expect("a history").len(), 1, "{history}");
    // A commit that lands after it goes nowhere before that is settled.
    let (_, two) = world.land("web", "two").await;
    world.failing_round();
    assert_eq!(world.digest("web", "prod").await, one);
    world.publish(&world.build("one", false), "web", &commit).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_or_is_away_keeps_no_other_channel_from_anything() {
    let world = World::new(Debian::Twelve);
    let (_, one) = world.land("web", "one").await;
    world.configure(&[("web", "Tag: 'prod'")]);
    let rules = fs::read_to_string(world.path("rules")).expect("a file");
    let away = format!(
        "[{{ App: 'api', Repo: 'file://{}', Image: '127.0.0.1:1/api', Tag: 'prod' }}, ",
        world.repo().display()
    );
    fs::write(world.path("rules"), rules.replacen('[', &away, 1)).expect("a file");
    let said = world.failing_round();
    assert!(said.contains("api prod: error: could not list the tags of `127.0.0.1:1/api`"), "{said}");
    assert_eq!(world.digest("web", "prod").await, one);
    fs::write(world.path("rules"), rules).expect("a file");
    fs::write(world.path("config.json"), "{}").expect("a file");
    let said = world.failing_round();
    assert!(said.contains("not allowed to") && said.contains("REGISTRY_AUTH_FILE"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_is_waited_for_once_in_a_round() {
    let world = World::new(Debian::Thirteen);
    let (_, one) = world.land("web", "one").await;
    world.configure(&[("web", "Tag: 'prod'")]);
    let rules = fs::read_to_string(world.path("rules")).expect("a file");
    // It takes connections, and says nothing.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = hanging.local_addr().expect("its address");
    let entry = |app: &str| {
        format!("{{ App: '{app}', Repo: 'file://{}', Image: '{host}/{app}', Tag: 'prod' }}", world.repo().display())
    };
    let apps = ["a", "b", "c", "d", "e"];
    let away: Vec<String> = apps.iter().map(|app| entry(app)).collect();
    fs::write(world.path("rules"), rules.replacen('[', &format!("[{}, ", away.join(", ")), 1)).expect("a file");
    let begun = Instant::now();
    let said = world.failing_round();
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}: {said}", begun.elapsed());
    assert!(said.contains("a prod: error: could not list the tags of") && said.contains("timed out after"), "{said}");
    for app in &apps[1..] {
        let expected = format!("{app} prod: error: the registry `{host}` did not answer another channel in this round");
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(world.digest("web", "prod").await, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_watchers_of_one_tag_end_at_the_last_commit() {
    let world = World::new(Debian::Thirteen);
    world.configure(&[("web", "Tag: 'prod'")]);
    let mut last = None;
    for step in 0..4 {
        let commit = world.commit(&format!("{step}"));
        let built = world.build(&format!("{step}"), step % 2 == 1);
        last = world.publish(&built, "web", &commit).await;
        let watchers = [0, 1].map(|_| {
            let mut watch = world.command(&["watch", "--once"]);
            watch.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("push runs")
        });
        let said = watchers.map(|watcher| text(&watcher.wait_with_output().expect("it ends")));
        // Whichever was slower leaves the rest to the next round.
        assert_eq!(world.digest("web", "prod").await, last, "step {step}: {said:?}");
    }
    assert!(last.is_some());
    let history = world.shown("web")["history"].clone();
    assert_eq!(history.as_array().expect("a history").len(), 4, "each commit is moved to once: {history}");
    let said = world.round();
    assert!(!said.contains("is now its image"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_killed_between_document_and_tag_is_made_up_for() {
    let world = World::new(Debian::Twelve);
    let commits = ["one", "two"].map(|message| world.commit(message));
    let builds = ["one", "two"].map(|content| world.build(content, false));
    // The same registry by another address, where the watcher can be held.
    let tap = Tap::to(&world.registry).expect("a port");
    let login = json!({ "auths": { world.registry.host(): { "auth": LOGIN }, &tap.host: { "auth": LOGIN } } });
    fs::write(world.path("config.json"), login.to_string()).expect("a file");
    let one = world.publish(&builds[0], "web", &commits[0]).await;
    world.configure(&[("web", "Tag: 'prod'")]);
    let rules = fs::read_to_string(world.path("rules")).expect("a file");
    fs::write(world.path("rules"), rules.replace(&world.registry.host(), &tap.host)).expect("a file");
    world.round();
    assert_eq!(world.digest("web", "prod").await, one);
    let two = world.publish(&builds[1], "web", &commits[1]).await;

    tap.killed_as_it_sends("PUT /v2/", world.command(&["watch", "--once"])).expect("it moves the tag");
    assert_eq!(world.digest("web", "prod").await, one, "the tag has not moved");
    let pointed = world.shown("web")["release"].as_str().expect("a release").to_owned();
    assert!(pointed.contains(&commits[1]), "the document has: {pointed}");
    let said = world.round();
    assert!(said.contains(":prod is now its image"), "{said}");
    assert_eq!(world.digest("web", "prod").await, two);
    let history = world.shown("web")["history"].clone();
    assert_eq!(history.as_array().expect("a history").len(), 2, "the move is recorded once: {history}");
}
