//! The registry of a buildset: skopeo pushes to it and pulls through it, with a real registry behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Output, base64,
    registry::{Debian, PASSWORD, RegistryOptions, RegistryServer, Serving, Tools, USER, oci_image, oci_index},
};
use registry::{Digest, Manifest};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::trying::World;

/// A buildset whose images are served, and the registry of production.
struct Try {
    world: World,
    upstream: RegistryServer,
    tools: Tools,
    overlay: PathBuf,
}

impl Try {
    async fn new(of: Debian, password: bool) -> Self {
        let world = World::over_directories().await;
        world.released("web");
        world.opened("web/12", &[]);
        let overlay = world.path("try");
        world.done(&["buildset", "start", "--change", "web/12", "--app", "web", "--out", &shown(&overlay)]);
        let upstream = RegistryServer::start(of, RegistryOptions { password }).expect("a registry");
        Self { world, upstream, tools: Tools::get().expect("skopeo"), overlay }
    }

    fn file(&self, name: &str) -> String {
        shown(&self.overlay.join("registry").join(name))
    }

    /// The credentials for production's registry, as `docker login` writes them.
    fn login(&self) -> PathBuf {
        let file = self.world.path("login.json");
        let auth = base64(format!("{USER}:{PASSWORD}").as_bytes());
        fs::write(&file, json!({ "auths": { self.upstream.host(): { "auth": auth } } }).to_string()).expect("a file");
        file
    }

    fn command(&self, more: &[&str]) -> Command {
        let arguments = ["registry", &shown(&self.overlay), "--from", &self.upstream.host()];
        let mut serve = self.world.release(&[&arguments, more].concat());
        serve.env_remove("REGISTRY_AUTH_FILE").env("HOME", self.world.path("home"));
        serve
    }

    fn serve(&self, more: &[&str]) -> Serving {
        Serving::start(self.command(more)).expect("it says where it is")
    }

    /// An image in a directory.
    fn build(&self, content: &str, is_index: bool) -> (PathBuf, Manifest) {
        let directory = self.world.path(&format!("oci-{content}"));
        let make = if is_index { oci_index } else { oci_image };
        let manifest = make(&directory, content.as_bytes()).expect("an image");
        (directory, manifest)
    }

    /// Pushes an image to production's registry.
    fn release(&self, content: &str, is_index: bool, tag: &str) -> Manifest {
        let (directory, manifest) = self.build(content, is_index);
        self.tools.push(&directory, &format!("{}/acme/web:{tag}", self.upstream.host())).expect("it is pushed");
        manifest
    }

    /// Pushes an image to the registry of the buildset, with the password of this file.
    fn push(&self, to: &str, directory: &Path, auth_file: &str) -> Output {
        let (from, to) = (format!("oci:{}", directory.display()), format!("docker://{to}"));
        let cert_dir = self.certificates();
        self.skopeo(&["copy", "--all", "--dest-cert-dir", &cert_dir, "--dest-authfile", auth_file, &from, &to])
    }

    /// Pulls an image; the bytes of its manifest.
    fn pull(&self, from: &str, more: &[&str]) -> Result<Vec<u8>, String> {
        let into = tempfile::tempdir().expect("a directory");
        let (from, to) = (format!("docker://{from}"), format!("dir:{}", into.path().display()));
        let cert_dir = self.certificates();
        let output = self.skopeo(&[&["copy", "--all", "--src-cert-dir", &cert_dir], more, &[&from, &to]].concat());
        if !output.success() {
            return Err(output.to_string());
        }
        Ok(fs::read(into.path().join("manifest.json")).expect("a manifest"))
    }

    /// Where skopeo finds what to trust.
    fn certificates(&self) -> String {
        let directory = self.world.path("certificates");
        fs::create_dir_all(&directory).expect("a directory");
        fs::copy(self.file("ca.pem"), directory.join("ca.crt")).expect("its authority");
        shown(&directory)
    }

    fn skopeo(&self, arguments: &[&str]) -> Output {
        self.tools.skopeo(arguments).expect("skopeo runs")
    }

    /// Nothing but reading was asked of production's registry since the images were released.
    fn assert_only_read(&self, since: usize) {
        let requests = self.upstream.requests().expect("its log").split_off(since);
        let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
        assert!(!requests.is_empty() && requests.iter().all(|request| is_read(&request.method)), "{requests:?}");
    }

    fn asked(&self) -> usize {
        self.upstream.requests().expect("its log").len()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A client that trusts the registry of a buildset.
fn client(authority: &str) -> Client {
    // Somebody may have installed one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority =
        reqwest::Certificate::from_pem(&fs::read(authority).expect("its authority")).expect("a certificate");
    Client::builder().tls_certs_only([authority]).build().expect("a client")
}

/// The password of the registry of a buildset.
fn password(auth_file: &str, address: &str) -> String {
    let file: Value = serde_json::from_slice(&fs::read(auth_file).expect("a file")).expect("JSON");
    file["auths"][address]["auth"].as_str().expect("a password").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_and_productions_image_are_pulled_and_production_is_only_read() {
    for of in Debian::ALL {
        let it = Try::new(of, false).await;
        let released = it.release("released", true, "prod");
        let asked = it.asked();
        let serving = it.serve(&[]);
        let web = format!("{}/acme/web", serving.address);
        let auth_file = it.file("auth.json");

        // Without the password nothing is pushed, and neither is with another.
        let (candidate_at, candidate) = it.build("candidate", true);
        let wrong = it.world.path("wrong.json");
        let guess = json!({ "auths": { &serving.address: { "auth": base64(b"push:guess") } } });
        fs::write(&wrong, guess.to_string()).expect("a file");
        let nobody = it.world.path("nobody.json");
        fs::write(&nobody, "{}").expect("a file");
        for without in [&wrong, &nobody] {
            let output = it.push(&format!("{web}:1234_a"), &candidate_at, &shown(without));
            let said = output.to_string();
            let is_named = said.contains("authentication required") || said.contains("unauthorized");
            assert!(!output.success() && is_named, "{output}");
        }
        let own = it.pull(&format!("{web}:1234_a"), &["--src-no-creds"]);
        assert!(own.as_ref().is_err_and(|said| said.contains("1234_a")), "{own:?}");

        it.push(&format!("{web}:1234_a"), &candidate_at, &auth_file).ok().expect("it is pushed");
        // Whoever pulls needs nothing: of its own, by tag and by digest, and of production's.
        for (reference, expected) in [
            (format!("{web}:1234_a"), &candidate),
            (format!("{web}@{}", candidate.digest()), &candidate),
            (format!("{web}:prod"), &released),
            (format!("{web}@{}", released.digest()), &released),
            (format!("{}/{}/acme/web:prod", serving.address, it.upstream.host().replace(':', "_")), &released),
        ] {
            let pulled = it.pull(&reference, &["--src-no-creds"]).expect("it is pulled");
            assert!(pulled == expected.bytes()[..], "{reference}");
        }
        let inspected = it.skopeo(&["list-tags", "--cert-dir", &it.certificates(), &format!("docker://{web}")]);
        let tags = inspected.ok().expect("its tags");
        assert!(tags.contains("1234_a") && tags.contains("prod"), "{tags}");

        // Its own image wins under the same name, and production still has the other.
        it.push(&format!("{web}:prod"), &candidate_at, &auth_file).ok().expect("it is pushed");
        assert!(it.pull(&format!("{web}:prod"), &[]).expect("it is pulled") == candidate.bytes()[..]);
        it.assert_only_read(asked);

        // It is an ordinary image layout.
        let name = format!("{}:{}/acme/web:1234_a", it.file("images"), it.upstream.host());
        let raw = it.skopeo(&["inspect", "--raw", &format!("oci:{name}")]).ok().expect("it is read");
        assert_eq!(raw.trim_end().as_bytes(), &candidate.bytes()[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_through_with_a_credential_needs_the_password_too() {
    let it = Try::new(Debian::Thirteen, true).await;
    let released = it.release("released", false, "prod");
    let mut serve = it.command(&[]);
    serve.env("REGISTRY_AUTH_FILE", it.login());
    let serving = Serving::start(serve).expect("it says where it is");
    let web = format!("{}/acme/web:prod", serving.address);
    let refused = it.pull(&web, &["--src-no-creds"]).unwrap_err();
    assert!(refused.contains("needs the password of this one") || refused.contains("unauthorized"), "{refused}");
    let auth_file = it.file("auth.json");
    let pulled = it.pull(&web, &["--src-authfile", &auth_file]).expect("it is pulled");
    assert!(pulled == released.bytes()[..]);
    // By no other way either: a blob, by its digest alone, or with the token that everybody gets.
    let client = client(&it.file("ca.pem"));
    let base = format!("https://{}", serving.address);
    let token = client.get(format!("{base}/token")).send().await.expect("an answer");
    let token: Value = token.json().await.expect("a token");
    let digest = &released.blobs()[0].digest;
    for path in [format!("acme/web/blobs/{digest}"), format!("acme/web/manifests/{}", released.digest())] {
        for method in [Method::GET, Method::HEAD] {
            let request = client.request(method, format!("{base}/v2/{path}"));
            let request = request.bearer_auth(token["token"].as_str().expect("a token"));
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&auth_file).expect("a file").permissions());
    assert_eq!(mode & 0o077, 0, "the password is for its owner alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_does_not_fit_is_refused_and_nothing_of_it_is_there() {
    let it = Try::new(Debian::Thirteen, false).await;
    let serving = it.serve(&[]);
    let (client, base) = (client(&it.file("ca.pem")), format!("https://{}", serving.address));
    let basic = format!("Basic {}", password(&it.file("auth.json"), &serving.address));
    let ask = async |method: Method, path: String, body: &'static str| {
        let request = client.request(method, format!("{base}{path}")).header("authorization", &basic);
        let request = request.header("content-type", "application/vnd.oci.image.manifest.v1+json");
        request.body(body).send().await.expect("an answer")
    };
    let [claimed, sent] = ["claimed", "sent"].map(|text| Digest::of(text.as_bytes()));
    let upload = ask(Method::POST, "/v2/acme/web/blobs/uploads/".to_owned(), "").await;
    assert_eq!(upload.status(), StatusCode::ACCEPTED);
    let place = upload.headers()["location"].to_str().expect("a place").to_owned();
    let wrong = ask(Method::PUT, format!("{place}?digest={claimed}"), "sent").await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let said = wrong.text().await.expect("its words");
    assert!(said.contains("DIGEST_INVALID") && said.contains(&sent.to_string()), "{said}");
    for digest in [&claimed, &sent] {
        let there = ask(Method::HEAD, format!("/v2/acme/web/blobs/{digest}"), "").await;
        assert_eq!(there.status(), StatusCode::NOT_FOUND);
    }
    let manifest = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    for (reference, code) in [
        (claimed.to_string(), "DIGEST_INVALID"),
        ("prod".to_owned(), "MANIFEST_BLOB_UNKNOWN"),
        ("-x".to_owned(), "TAG_INVALID"),
    ] {
        let answer = ask(Method::PUT, format!("/v2/acme/web/manifests/{reference}"), manifest).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{reference}");
        let said = answer.text().await.expect("its words");
        assert!(said.contains(code), "{reference}: {said}");
    }
    let deleted = ask(Method::DELETE, "/v2/acme/web/manifests/prod".to_owned(), "").await;
    assert_eq!(deleted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_killed_is_started_again_and_ends_with_its_buildset() {
    let it = Try::new(Debian::Twelve, false).await;
    let (built, candidate) = it.build("candidate", false);
    let mut serving = it.serve(&[]);
    it.push(&format!("{}/acme/web:1234_a", serving.address), &built, &it.file("auth.json")).ok().expect("it is pushed");
    // Somebody is in the middle of an upload.
    let basic = format!("Basic {}", password(&it.file("auth.json"), &serving.address));
    let begin = client(&it.file("ca.pem")).post(format!("https://{}/v2/acme/web/blobs/uploads/", serving.address));
    assert_eq!(begin.header("authorization", basic).send().await.expect("an answer").status(), StatusCode::ACCEPTED);
    // Two at a time would each have a password of its own in the one file.
    let second = it.command(&[]).output().expect("release runs");
    assert!(String::from_utf8_lossy(&second.stderr).contains("are served already"), "{second:?}");
    serving.process.kill().expect("it is killed");
    serving.process.wait().expect("it ends");

    let mut again = it.serve(&[]);
    let pulled = it.pull(&format!("{}/acme/web:1234_a", again.address), &["--src-no-creds"]).expect("it is pulled");
    assert!(pulled == candidate.bytes()[..]);
    assert_eq!(fs::read_dir(it.file("uploads")).expect("a directory").count(), 0, "what was under way is gone");
    it.world.done(&["buildset", "stop", &shown(&it.overlay)]);
    assert!(again.process.wait().expect("it ends").success());
    assert!(!it.overlay.exists());
}

/// Waits until a file is there.
fn until_there(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{} does not come", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_an_overlay_has_its_registry_and_a_configured_client_finds_it_first() {
    let it = Try::new(Debian::Thirteen, false).await;
    let released = it.release("released", false, "prod");
    let asked = it.asked();
    let [told, end] = ["told", "end"].map(|name| it.world.path(name));
    let script = "env > \"$0.new\"; mv \"$0.new\" \"$0\"; read -r x < \"$1\"";
    assert!(Command::new("mkfifo").arg(&end).status().expect("mkfifo runs").success());
    let run = ["buildset", "run", "--change", "web/12", "--app", "web", "--from", &it.upstream.host()];
    let configure = ["--configure", "podman", "--configure", "docker", "--", "sh", "-c", script];
    let mut run = it.world.release(&[&run[..], &configure, &[&shown(&told), &shown(&end)]].concat());
    run.stderr(Stdio::piped());
    let child = run.spawn().expect("release runs");
    until_there(&told);
    let environment = fs::read_to_string(&told).expect("a file");
    let variable = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not set: {environment}")).to_owned()
    };
    let (address, authority) = (variable("PUSH_REGISTRY"), variable("PUSH_REGISTRY_CA"));
    let overlay = PathBuf::from(variable("PUSH_BUCKET").trim_start_matches("file://"));
    assert!(Path::new(&authority).starts_with(&overlay));
    let configured = overlay.join("registry/configure/podman");
    let auth_file = variable("PUSH_REGISTRY_AUTH_FILE");
    let certificates = shown(&configured.join(format!("certs.d/{address}")));

    // By the name of production's image skopeo finds the one of the overlay, and without that production's.
    let (built, candidate) = it.build("candidate", false);
    let conf = shown(&configured.join("registries.conf"));
    let pull = |tag: &str| {
        let into = tempfile::tempdir().expect("a directory");
        let from = format!("docker://{}/acme/web:{tag}", it.upstream.host());
        let to = format!("dir:{}", into.path().display());
        let output = it.skopeo(&[
            "--registries-conf",
            &conf,
            "copy",
            "--src-cert-dir",
            &certificates,
            "--src-no-creds",
            &from,
            &to,
        ]);
        output.ok().expect("it is pulled");
        fs::read(into.path().join("manifest.json")).expect("a manifest")
    };
    assert!(pull("prod") == released.bytes()[..]);
    let (from, to) = (format!("oci:{}", built.display()), format!("docker://{address}/acme/web:prod"));
    let push = ["copy", "--dest-cert-dir", &certificates, "--dest-authfile", &auth_file, &from, &to];
    it.skopeo(&push).ok().expect("it is pushed");
    assert!(pull("prod") == candidate.bytes()[..]);
    it.assert_only_read(asked);

    fs::write(&end, "\n").expect("the command ends");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("CONTAINERS_REGISTRIES_CONF="), "{said}");
    assert!(said.contains("DOCKER_CONFIG=") && !overlay.exists(), "{said}");
    assert!(std::net::TcpStream::connect(&address).is_err(), "the registry ends with the buildset");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_took_half_of_is_no_blob_and_goes_in_once_there_is_room() {
    let it = Try::new(Debian::Thirteen, false).await;
    let disk = it.overlay.join("registry");
    fs::create_dir_all(&disk).expect("a directory");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&disk).status();
    assert!(mounted.expect("mount runs").success());
    let _disk = Unmounted(disk.clone());
    let serving = it.serve(&[]);
    let (client, base) = (client(&it.file("ca.pem")), format!("https://{}", serving.address));
    let basic = format!("Basic {}", password(&it.file("auth.json"), &serving.address));
    let ask = async |method: Method, path: &str, body: Vec<u8>| {
        let request = client.request(method, format!("{base}{path}")).header("authorization", &basic);
        request.body(body).send().await.expect("an answer")
    };
    let begin = async || {
        let upload = ask(Method::POST, "/v2/acme/web/blobs/uploads/", Vec::new()).await;
        assert_eq!(upload.status(), StatusCode::ACCEPTED);
        upload.headers()["location"].to_str().expect("a place").to_owned()
    };
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; 3 << 20]).expect("a file");
    let blob = vec![7; 2 << 20];
    let digest = Digest::of(&blob);
    let place = begin().await;
    let full = ask(Method::PATCH, &place, blob.clone()).await;
    assert_eq!(full.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let said = full.text().await.expect("its words");
    assert!(said.contains("No space left"), "{said}");

    // Nobody could say how much of it was written: it isn't gone on with.
    fs::remove_file(&filler).expect("it is removed");
    let gone_on = ask(Method::PUT, &format!("{place}?digest={digest}"), blob.clone()).await;
    assert_eq!(gone_on.status(), StatusCode::NOT_FOUND);
    let place = begin().await;
    let put = ask(Method::PUT, &format!("{place}?digest={digest}"), blob.clone()).await;
    assert_eq!(put.status(), StatusCode::CREATED);
    let read = ask(Method::GET, &format!("/v2/acme/web/blobs/{digest}"), Vec::new()).await;
    assert!(read.bytes().await.expect("its bytes") == blob);
}

/// A file system that goes with the test.
struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_kept_though_somebody_asks_how_far_it_is_meanwhile() {
    let it = Try::new(Debian::Thirteen, false).await;
    let serving = it.serve(&[]);
    let (client, base) = (client(&it.file("ca.pem")), format!("https://{}", serving.address));
    let basic = format!("Basic {}", password(&it.file("auth.json"), &serving.address));
    let ask = |method: Method, path: &str| {
        client.request(method, format!("{base}{path}")).header("authorization", basic.clone())
    };
    let upload = ask(Method::POST, "/v2/acme/web/blobs/uploads/").send().await.expect("an answer");
    let place = upload.headers()["location"].to_str().expect("a place").to_owned();
    let digest = Digest::of(b"onetwo");
    let (parts, coming) = tokio::sync::mpsc::channel::<Result<&str, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::unfold(coming, async |mut coming| {
        let part = coming.recv().await?;
        Some((part, coming))
    }));
    let put = tokio::spawn(ask(Method::PUT, &format!("{place}?digest={digest}")).body(body).send());
    parts.send(Ok("one")).await.expect("it is sent");
    let asked = tokio::spawn(ask(Method::GET, &place).send());
    parts.send(Ok("two")).await.expect("it is sent");
    drop(parts);
    assert_eq!(put.await.expect("it ends").expect("an answer").status(), StatusCode::CREATED);
    let asked = asked.await.expect("it ends").expect("an answer").status();
    assert!([StatusCode::NO_CONTENT, StatusCode::NOT_FOUND].contains(&asked), "{asked}");
    let there = ask(Method::HEAD, &format!("/v2/acme/web/blobs/{digest}")).send().await.expect("an answer");
    assert_eq!(there.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_other_machines_reach_it_where_it_listens_and_names_mean_what_they_meant() {
    let it = Try::new(Debian::Thirteen, false).await;
    let (built, candidate) = it.build("candidate", false);
    let serving = it.serve(&["--listen", "127.0.0.2:0"]);
    assert!(serving.address.starts_with("127.0.0.2:"), "{}", serving.address);
    let web = |serving: &Serving| format!("{}/acme/web:1234_a", serving.address);
    it.push(&web(&serving), &built, &it.file("auth.json")).ok().expect("it is pushed");
    assert!(it.pull(&web(&serving), &["--src-no-creds"]).expect("it is pulled") == candidate.bytes()[..]);
    let port = serving.address.rsplit(':').next().expect("a port").to_owned();
    assert!(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err(), "it listens there alone");
    drop(serving);

    // Under another registry's name its image would not be found, and that of production be taken for it.
    let another = it.world.release(&["registry", &shown(&it.overlay), "--from", "other.example"]).output();
    let another = another.expect("release runs");
    let said = String::from_utf8_lossy(&another.stderr);
    assert!(!another.status.success() && said.contains(&format!("--from {}`", it.upstream.host())), "{said}");
    let more = it.serve(&["--from", "other.example"]);
    assert!(it.pull(&web(&more), &["--src-no-creds"]).expect("it is pulled") == candidate.bytes()[..]);
}
