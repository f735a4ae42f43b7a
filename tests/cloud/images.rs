//! Channels of images: a real registry, whose tag `push watch` moves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use harness::{
    Programs, Target,
    gcs::FakeGcs,
    registry::{Debian, PASSWORD, RegistryOptions, RegistryServer, Tools, USER, oci_image, oci_index},
};
use registry::{Client, ClientOptions, Digest, Logins, Repository};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::watching::git;

/// [`USER`] and [`PASSWORD`] as `docker login` writes them: in base64.
const LOGIN: &str = "ZGVwbG95ZXI6Y29ycmVjdC1ob3JzZQ==";

/// A registry that wants a password, a repository of git, and a bucket.
struct World {
    registry: RegistryServer,
    tools: Tools,
    client: Client,
    target: Target,
    elsewhere: TempDir,
    _gcs: FakeGcs,
}

impl World {
    fn new(of: Debian) -> Self {
        let registry = RegistryServer::start(of, RegistryOptions { password: true }).expect("a registry");
        let (gcs, elsewhere) = (FakeGcs::start("acme"), tempfile::tempdir().expect("a directory"));
        let auth = elsewhere.path().join("config.json");
        let login = json!({ "auths": { registry.host(): { "auth": LOGIN } } });
        fs::write(&auth, login.to_string()).expect("a file");
        let logins = Logins { file: Some(auth), google: None };
        let client = Client::new(ClientOptions { logins, ..ClientOptions::default() }).expect("a client");
        let repo = elsewhere.path().join("repo");
        fs::create_dir(&repo).expect("a directory");
        git(&repo, &["init", "--quiet", "--initial-branch", "main"]);
        let target = Target { url: "gs://acme".to_owned(), endpoint: Some(gcs.url.clone()) };
        Self { registry, tools: Tools::get().expect("skopeo"), client, target, elsewhere, _gcs: gcs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.elsewhere.path().join(name)
    }

    fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// Lands a commit.
    fn commit(&self, message: &str) -> String {
        git(&self.repo(), &["commit", "--quiet", "--allow-empty", "--message", message]);
        git(&self.repo(), &["rev-parse", "HEAD"])
    }

    fn name(&self, image: &str) -> Repository {
        format!("{}/acme/{image}", self.registry.host()).parse().expect("a name")
    }

    /// An image in a directory, of one platform or of two.
    fn build(&self, content: &str, is_index: bool) -> PathBuf {
        let directory = self.path(&format!("oci-{content}"));
        fs::create_dir_all(&directory).expect("a directory");
        let make = if is_index { oci_index } else { oci_image };
        make(&directory, content.as_bytes()).expect("an image");
        directory
    }

    /// Pushes an image as builders do. The digest is that of what then is in the registry: layers are compressed on the way.
    async fn publish(&self, built: &Path, image: &str, tag: &str) -> Option<Digest> {
        self.tools.push(built, &format!("{}:{tag}", self.name(image))).expect("it is pushed");
        self.digest(image, tag).await
    }

    async fn digest(&self, image: &str, tag: &str) -> Option<Digest> {
        self.client.digest(&self.name(image), &tag.parse().expect("a tag")).await.expect("the registry answers")
    }

    /// Channels of images: of which app each is, and what else is said of it.
    fn configure(&self, channels: &[(&str, &str)]) {
        let entry = |(app, more): &(&str, &str)| {
            let (repo, name) = (self.repo(), self.name(app));
            format!("{{ App: '{app}', Repo: 'file://{}', Image: '{name}', {more} }}", repo.display())
        };
        let channels: Vec<String> = channels.iter().map(entry).collect();
        fs::write(self.path("rules"), format!("{{ Channels: [{}] }}", channels.join(", "))).expect("a file");
    }

    fn push(&self, arguments: &[&str]) -> Output {
        let mut push = Command::new(Programs::get().expect("our programs").push());
        push.args(arguments).arg("--config").arg(self.path("rules"));
        push.env("XDG_CACHE_HOME", self.path("cache")).env("REGISTRY_AUTH_FILE", self.path("config.json"));
        self.target.apply(&mut push);
        let output = push.output().expect("push runs");
        let said = text(&output);
        assert!(!said.contains(PASSWORD) && !said.contains(LOGIN), "{said}");
        output
    }

    /// What is said where all goes well.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.push(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    fn round(&self) -> String {
        self.ok(&["watch", "--once"])
    }

    /// What is said where something fails.
    fn failing_round(&self) -> String {
        let output = self.push(&["watch", "--once"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    }

    fn shown(&self, app: &str) -> Value {
        let output = self.push(&["channel", "show", app, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }
}

fn text(output: &Output) -> String {
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
    assert!(
        world.shown("web")["seen"]["problem"].as_str().unwrap().contains("somebody put another image under the tag")
    );
    world.publish(&builds[2], "web", &commits[2]).await;
    world.round();
    assert_eq!(world.digest("web", "prod").await, three);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_from_one_channel_to_the_next_once_its_tag_has_been_there() {
    let world = World::new(Debian::Thirteen);
    let commit = world.commit("one");
    let built = world.build("one", false);
    world.configure(&[("web", "Channel: 'beta', Tag: 'beta'"), ("web", "Tag: 'prod', From: 'beta'")]);
    let one = world.publish(&built, "web", &commit).await;
    world.round();
    let now = |tag: &'static str| world.digest("web", tag);
    assert_eq!((now("beta").await, now("prod").await), (one.clone(), None));
    world.round();
    assert_eq!(now("prod").await, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_or_is_away_keeps_no_other_channel_from_anything() {
    let world = World::new(Debian::Twelve);
    let commit = world.commit("one");
    let built = world.build("one", false);
    let one = world.publish(&built, "web", &commit).await;
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
