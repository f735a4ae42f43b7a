//! Credentials in the programs, and registries that misbehave: what `release` and `push watch` say, do and leave alone then.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result, ensure};
use harness::{
    Programs, Target, base64,
    pubsub::FakePubSub,
    registry::{Answer, Asked, Debian, FakeRegistry, PASSWORD, RegistryOptions, RegistryServer, USER},
};
use registry::Manifest;
use serde_json::json;

use crate::{
    publishing::{GREETING, Service, text},
    world::{World, auth_file},
};

pub(crate) const STAGES: &str = "      - { name: ship, build: production, publish: { image: true } }\n";

/// A password that is not the one.
const WRONG: &str = "battery-staple";

/// One round of `push watch` over the images of a service that are called so, by a channel of which more is said.
pub(crate) fn watch(service: &Service, image: &str, more: &str) -> Result<Command> {
    let directory = service.repo.directory().parent().context("it is in a directory")?;
    let rules = directory.join("rules");
    let repo = service.repo.directory().display();
    let channel = format!("{{ App: 'web', Repo: 'file://{repo}', Image: '{image}', Tag: 'prod'{more} }}");
    fs::write(&rules, format!("{{ Channels: [{channel}] }}"))?;
    let mut watch = Command::new(Programs::get()?.push());
    watch.args(["watch", "--once", "--config"]).arg(rules).env("XDG_CACHE_HOME", directory.join("cache"));
    Target { url: format!("file://{}", service.bucket.display()), endpoint: None }.apply(&mut watch);
    watch.env("HOME", directory).env_remove("REGISTRY_AUTH_FILE").env_remove("PUSH_REALMS");
    Ok(watch)
}

/// `release` in the repository of a service.
pub(crate) fn release(service: &Service, pubsub: &FakePubSub, arguments: &[&str]) -> Result<Command> {
    let mut release = service.release(service.repo.directory(), "022", arguments)?;
    release.env("PUBSUB_EMULATOR_HOST", pubsub.host());
    Ok(release)
}

/// All that a program printed.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), text(output))
}

/// The files below a directory in which one of these words is.
fn having(directory: &Path, words: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(having(&path, words)?);
            continue;
        }
        let content = fs::read(&path)?;
        let content = String::from_utf8_lossy(&content);
        if words.iter().any(|word| content.contains(word)) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[tokio::test]
async fn the_right_password_publishes_announces_and_moves_and_no_password_is_told_to_anybody() -> Result<()> {
    let world = World::of(RegistryServer::start(Debian::Thirteen, RegistryOptions { password: true })?)?;
    let (host, pubsub) = (world.registry.host(), FakePubSub::start());
    let service = Service::new(&world, &Service::images(&world), STAGES, GREETING)?;
    let image = format!("{}:{}", world.repository("acme/web"), service.commit()?);
    let login = world.directory.path().join("config.json");
    let secrets = [PASSWORD.to_owned(), WRONG.to_owned()]
        .into_iter()
        .flat_map(|password| [base64(format!("{USER}:{password}").as_bytes()), password])
        .collect::<Vec<_>>();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let all = || -> Result<[Output; 3]> {
        let run = release(&service, &pubsub, &["run", "-m", "why"])?;
        let announce = release(&service, &pubsub, &["announce", &image])?;
        let watch = watch(&service, &world.repository("acme/web").to_string(), "")?;
        let mut outputs = Vec::new();
        for mut command in [run, announce, watch] {
            // As talkative as they can be made.
            command.env("REGISTRY_AUTH_FILE", &login).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
            let output = command.output()?;
            let said = said(&output);
            assert!(!secrets.iter().any(|secret| said.contains(secret)), "{said}");
            outputs.push(output);
        }
        Ok(outputs.try_into().expect("three"))
    };
    for (credential, expected) in
        [(Some(format!("{USER}:{WRONG}")), "not allowed to"), (None, "there is no credential for `127.0.0.1:")]
    {
        match credential {
            Some(credential) => drop(auth_file(world.directory.path(), &host, &credential)),
            None => fs::write(&login, "{}")?,
        }
        let (refused, requests) = world.asked(async { all() }).await?;
        for output in refused? {
            let said = said(&output);
            assert!(output.status.code() == Some(1) && said.contains(expected), "{}: {said}", output.status);
        }
        assert!(requests.iter().all(|request| request.status == 401), "{requests:?}");
        assert!(!service.bucket.join("images").exists(), "nothing is recorded of what is not there");
        assert_eq!(pubsub.published(), Vec::<String>::new());
    }
    auth_file(world.directory.path(), &host, &format!("{USER}:{PASSWORD}"));
    for output in all()? {
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(pubsub.published().len(), 2, "by the run, and by who says so");
    let prod = format!("docker://{}:prod", world.repository("acme/web"));
    let credential = format!("{USER}:{PASSWORD}");
    let inspect = ["inspect", "--raw", "--tls-verify=false", "--creds", &credential];
    let moved = world.tools.skopeo(&[&inspect[..], &[&prod]].concat())?.ok()?;
    let published = world.tools.skopeo(&[&inspect[..], &[&format!("docker://{image}")]].concat())?.ok()?;
    assert_eq!(moved, published);
    assert_eq!(having(&service.bucket, &secrets)?, Vec::<String>::new());
    assert!(!world.registry.log()?.contains(WRONG));
    Ok(())
}

#[tokio::test]
async fn a_token_server_elsewhere_has_the_credential_only_where_it_is_named() -> Result<()> {
    let tokens = FakeRegistry::start(token_server);
    let registry = FakeRegistry::start(wanting_tokens(format!("http://{}/token", tokens.host())));
    let (world, pubsub) = (World::new(Debian::Thirteen)?, FakePubSub::start());
    let login = auth_file(world.directory.path(), &registry.host(), &format!("{USER}:{PASSWORD}"));
    let basic = format!("Basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes()));
    let image = format!("{}/acme/web", registry.host());
    let elsewhere = format!("the token server `{}` is another host and got no credential", tokens.host());
    for (realms, is_named) in [("", false), ("auth.example", false), (&*tokens.host(), true)] {
        let images = format!("registry = \"{}/acme\"\nrepository = '.*/acme/.*'\n", registry.host());
        let listed = if realms.is_empty() { String::new() } else { format!("realms = [\"{realms}\"]") };
        let service = Service::new(&world, &format!("{images}{listed}"), STAGES, GREETING)?;
        let run = release(&service, &pubsub, &["run", "-m", "why"])?;
        let announce = release(&service, &pubsub, &["announce", &format!("{image}:one")])?;
        let (mut by_option, mut by_variable) = (watch(&service, &image, "")?, watch(&service, &image, "")?);
        if !realms.is_empty() {
            by_option.args(["--realm", realms]);
            by_variable.env("PUSH_REALMS", realms);
        }
        // That registry lets nobody write.
        for (mut command, succeeds) in [(run, false), (announce, true), (by_option, true), (by_variable, true)] {
            let before = tokens.asked().len();
            let output = command.env("REGISTRY_AUTH_FILE", &login).output()?;
            let said = said(&output);
            assert_eq!(output.status.success(), is_named && succeeds, "{realms}: {said}");
            assert_eq!(said.contains(&elsewhere), !is_named, "{realms}: {said}");
            let sent = tokens.asked().split_off(before);
            let expected = is_named.then_some(&basic);
            assert!(!sent.is_empty() && sent.iter().all(|asked| asked.authorization.as_ref() == expected), "{sent:?}");
            assert!(!said.contains(PASSWORD) && !said.contains("the-token"), "{said}");
        }
        // The next one is another repository at the same place.
        fs::remove_dir_all(service.repo.directory())?;
        fs::remove_dir_all(world.directory.path().join("cache"))?;
    }
    assert!(registry.asked().iter().all(|asked| asked.authorization.as_ref() != Some(&basic)));
    assert_eq!(pubsub.published().len(), 1);
    Ok(())
}

/// A token server, which gives to whoever shows a credential what a registry takes.
pub(crate) fn token_server(asked: &Asked) -> Answer {
    match asked.authorization {
        Some(_) => Answer::new(200, r#"{"token":"the-token"}"#),
        None => Answer::new(200, r#"{"token":"nobody"}"#),
    }
}

/// A registry with one image, that takes such tokens of this server and lets nobody write.
pub(crate) fn wanting_tokens(realm: String) -> impl Fn(&Asked) -> Answer {
    let digest = format!("sha256:{}", "07".repeat(32));
    move |asked| match asked.authorization.as_deref() {
        Some("Bearer the-token") if asked.path.contains("/tags/") => Answer::new(200, r#"{"tags":[]}"#),
        Some("Bearer the-token") if asked.path.contains("/manifests/one") => {
            Answer::new(200, "").with("docker-content-digest", digest.clone())
        }
        Some("Bearer the-token") if ["GET", "HEAD"].contains(&&*asked.method) => refusal(404, "MANIFEST_UNKNOWN"),
        Some("Bearer the-token") => refusal(403, "DENIED"),
        _ => refusal(401, "UNAUTHORIZED").with("www-authenticate", format!("Bearer realm=\"{realm}\"")),
    }
}

fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output()?;
    ensure!(output.status.success(), "git {arguments:?}: {}", text(&output));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    Answer::new(status, json!({ "errors": [{ "code": code, "message": "no" }] }).to_string())
}

/// What is the matter with a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Password,
    Digest,
    Blob,
    Page,
    Tokens,
    Redirect,
}

/// With what is said of it.
const FAULTS: [(Fault, &str); 6] = [
    (Fault::Password, "not allowed to"),
    (Fault::Digest, "and the registry says `sha256:"),
    (Fault::Blob, "MANIFEST_BLOB_UNKNOWN"),
    (Fault::Page, "a web page came instead of an answer of a registry"),
    (Fault::Tokens, "is another host and got no credential"),
    (Fault::Redirect, "the registry leads to `10.0.0.1`, an address inside of a network"),
];

/// A registry with this image under the tag of every commit, if there is one, and with this fault.
fn faulty(fault: Fault, image: Option<Manifest>, tags: Arc<OnceLock<String>>, elsewhere: String) -> FakeRegistry {
    FakeRegistry::start(move |asked| {
        let is_manifest = asked.path.contains("/manifests/");
        let is_of_commit = asked.path.rsplit('/').next().is_some_and(|tag| tag.len() == 40);
        let challenge = |challenge: String| refusal(401, "UNAUTHORIZED").with("www-authenticate", challenge);
        match (fault, asked.authorization.as_deref()) {
            (Fault::Password, _) => return challenge("Basic realm=\"x\"".to_owned()),
            (Fault::Page, _) => return Answer::new(200, "<html>Log in</html>").with("content-type", "text/html"),
            (Fault::Tokens, None) => return challenge(format!("Bearer realm=\"http://{elsewhere}/token\"")),
            (Fault::Tokens, _) => return refusal(403, "DENIED"),
            (Fault::Redirect, _) if is_manifest => return Answer::new(307, "").with("location", "https://10.0.0.1/x"),
            _ => {}
        }
        match (asked.method.as_str(), &image) {
            ("GET", _) if asked.path.contains("/tags/") => {
                Answer::new(200, json!({ "tags": [tags.get()] }).to_string())
            }
            ("PUT", _) if is_manifest => refusal(404, "MANIFEST_BLOB_UNKNOWN"),
            ("GET" | "HEAD", Some(image)) if is_of_commit => {
                let other = format!("sha256:{}", "07".repeat(32));
                let digest = if fault == Fault::Digest { other } else { image.digest().to_string() };
                let answer = Answer::new(200, image.bytes().to_vec()).with("docker-content-digest", digest);
                answer.with("content-type", image.media_type().as_str())
            }
            ("POST", _) => Answer::new(202, "").with("location", asked.path.clone()),
            ("PUT", _) => Answer::new(201, ""),
            _ => refusal(404, "MANIFEST_UNKNOWN"),
        }
    })
}

/// The manifests that were put.
fn put(registry: &FakeRegistry) -> usize {
    registry.asked().iter().filter(|asked| asked.method == "PUT" && asked.path.contains("/manifests/")).count()
}

#[tokio::test]
async fn whatever_a_registry_does_nothing_moves_before_it_does_as_it_should() -> Result<()> {
    let (world, pubsub) = (World::new(Debian::Thirteen)?, FakePubSub::start());
    let image = world.push("acme/web", "one", "first")?;
    let tokens = FakeRegistry::start(|_| Answer::new(200, r#"{"token":"nobody"}"#));
    let configuration = harness::Repo::new(&world.directory.path().join("configuration"))?;
    let head = || git(configuration.directory(), &["rev-parse", "HEAD"]);
    git(configuration.directory(), &["config", "receive.denyCurrentBranch", "ignore"])?;
    for (fault, expected) in FAULTS {
        let commit = Arc::<OnceLock<String>>::default();
        // A run takes an image that is there: with one fault there is one, which isn't what it should be.
        let of_run = (fault == Fault::Digest).then(|| image.clone());
        let [watched, published] =
            [Some(image.clone()), of_run].map(|image| faulty(fault, image, commit.clone(), tokens.host()));
        let images = format!("registry = \"{}/acme\"\nrepository = '.*/acme/.*'", published.host());
        let service = Service::new(&world, &images, STAGES, GREETING)?;
        ensure!(commit.set(service.commit()?).is_ok(), "it is said once");

        // A watcher: neither its tag, nor its configuration, nor what it points to.
        let name = format!("{}/acme/web", watched.host());
        configuration.write("prod.yaml", &format!("image: {name}:none\n"))?;
        configuration.commit("begin")?;
        let before = head()?;
        let more = format!(
            ", Config: {{ Repo: 'file://{}', Branch: 'main', Files: ['prod.yaml'] }}",
            configuration.directory().display()
        );
        let login = auth_file(world.directory.path(), &watched.host(), &format!("{USER}:{PASSWORD}"));
        let output = watch(&service, &name, &more)?.env("REGISTRY_AUTH_FILE", &login).output()?;
        let told = said(&output);
        // One image that is none keeps no other from being moved to.
        let is_passed_over = fault == Fault::Digest;
        let status = i32::from(!is_passed_over);
        assert!(output.status.code() == Some(status) && told.contains(expected), "{fault:?}: {told}");
        let passed_over = format!("web prod: passed over `{name}:{}` cannot be used: its digest is", service.commit()?);
        assert_eq!(told.contains(&passed_over), is_passed_over, "{told}");
        assert_eq!(told.contains("; push the image of that commit again"), is_passed_over, "{told}");
        assert_eq!(put(&watched), usize::from(fault == Fault::Blob), "{fault:?}");
        assert_eq!(head()?, before, "{fault:?}");
        // Where the tag alone cannot follow, the document says what it should be, and the next round tries again.
        assert_eq!(service.bucket.join("channels/web/prod.json").exists(), fault == Fault::Blob, "{fault:?}");

        // A run: neither a manifest, nor a record of one, nor a message.
        fs::remove_dir_all(&service.bucket)?;
        fs::create_dir(&service.bucket)?;
        let login = auth_file(world.directory.path(), &published.host(), &format!("{USER}:{PASSWORD}"));
        let mut run = release(&service, &pubsub, &["run", "-m", "why"])?;
        let output = run.env("REGISTRY_AUTH_FILE", &login).output()?;
        let of_run = said(&output);
        assert!(output.status.code() == Some(1) && of_run.contains(expected), "{fault:?}: {of_run}");
        assert_eq!(put(&published), usize::from(fault == Fault::Blob), "{fault:?}");
        assert!(!service.bucket.join("images").exists(), "{fault:?}");
        let told = told + &of_run;
        assert!(!told.contains(PASSWORD) && !told.contains(&base64(format!("{USER}:{PASSWORD}").as_bytes())), "{told}");
        // The next one is another repository at the same place.
        fs::remove_dir_all(service.repo.directory())?;
        fs::remove_dir_all(world.directory.path().join("cache"))?;
    }
    assert!(tokens.asked().iter().all(|asked| asked.authorization.is_none()));
    assert_eq!(pubsub.published(), Vec::<String>::new());
    Ok(())
}
