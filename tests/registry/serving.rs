//! `release registry` over an overlay that was made of a change: what is pulled through it, by whom, and what never gets through.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use harness::registry::{
    Answer, Containerd, Debian, Docker, FakeRegistry, RegistryOptions, RegistryServer, Serving, oci_image,
};
use registry::{Descriptor, Manifest, MediaType};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::{
    candidates::{Changes, change},
    tls::{BEYOND, apart},
    world::{World, worlds},
};

/// A change with an image, in an overlay, and the registry of production.
pub(crate) struct Try<'a> {
    pub(crate) world: &'a World,
    pub(crate) changes: Changes<'a>,
    pub(crate) production: RegistryServer,
    /// The image of the change, `web:1234`.
    candidate: Manifest,
    /// That of production, `web:prod`.
    released: Manifest,
}

impl<'a> Try<'a> {
    pub(crate) fn new(world: &'a World, debian: Debian) -> Result<Self> {
        let production = RegistryServer::start(debian, RegistryOptions::default())?;
        let candidates = format!("registry = \"{}/ci\"", world.registry.host());
        let images = format!("registry = \"{}/acme\"\nrepository = '.*/(ci|acme)/.*'", production.host());
        let changes = Changes::with(world, &candidates, &images)?;
        let id = changes.open()?;
        let candidate = world.push_index("ci/web", "1234", "new")?;
        changes.candidate(&id, "web:1234", &[])?;
        let oci = changes.path("released");
        let released = oci_image(&oci, b"released")?;
        world.tools.push(&oci, &format!("{}/acme/web:prod", production.host()))?;
        changes.done(&["buildset", "start", "--change", &change(&id), "--out", &shown(&changes.path("overlay"))])?;
        Ok(Self { world, changes, production, candidate, released })
    }

    /// Serves the images of the overlay.
    pub(crate) fn serve(&self, more: &[&str]) -> Result<Serving> {
        let overlay = shown(&self.changes.path("overlay"));
        let mut serve = self.changes.release(&[&["registry", &overlay], more].concat())?;
        serve.env("HOME", self.changes.path("home"));
        Serving::start(serve)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        shown(&self.changes.path("overlay").join("registry").join(name))
    }

    /// Where skopeo finds what to trust.
    fn certificates(&self) -> Result<String> {
        let directory = self.changes.path("certificates");
        fs::create_dir_all(&directory)?;
        fs::copy(self.file("ca.pem"), directory.join("ca.crt"))?;
        Ok(shown(&directory))
    }

    /// Pulls an image with skopeo, as nobody in particular: the bytes of its manifest.
    fn pull(&self, image: &str) -> Result<Vec<u8>> {
        let into = tempfile::tempdir()?;
        let (from, to) = (format!("docker://{image}"), format!("dir:{}", into.path().display()));
        let pull = ["copy", "--all", "--src-no-creds", "--src-cert-dir", &self.certificates()?, &from, &to];
        self.world.tools.skopeo(&pull)?.ok()?;
        Ok(fs::read(into.path().join("manifest.json"))?)
    }

    /// What speaks to the registry, and trusts it as far as its file says.
    pub(crate) fn client(&self) -> Result<Client> {
        client(&self.changes.path("overlay"))
    }

    /// The password, as it is sent.
    pub(crate) fn password(&self, address: &str) -> Result<String> {
        password(&self.changes.path("overlay"), address)
    }
}

/// What speaks to the registry of an overlay, and trusts it as far as its file says.
pub(crate) fn client(overlay: &Path) -> Result<Client> {
    // Somebody may have installed one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(&fs::read(overlay.join("registry/ca.pem"))?)?;
    Ok(Client::builder().tls_certs_only([authority]).resolve("ci", (BEYOND, 0).into()).build()?)
}

/// The password for the registry of an overlay, as it is sent.
pub(crate) fn password(overlay: &Path, address: &str) -> Result<String> {
    let file: Value = serde_json::from_slice(&fs::read(overlay.join("registry/auth.json"))?)?;
    let auth = file["auths"][address]["auth"].as_str();
    Ok(format!("Basic {}", auth.context("it is said for whom the password is")?))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn skopeo_pulls_a_candidate_and_productions_image_and_production_is_only_read() -> Result<()> {
    // Each version is once that of production.
    for (world, debian) in worlds()?.iter().zip(Debian::ALL.into_iter().rev()) {
        let it = Try::new(world, debian)?;
        let before = it.production.requests()?.len();
        let serving = it.serve(&["--from", &it.production.host()])?;
        assert!(serving.address.starts_with("127.0.0.1:"), "{}", serving.address);
        let pulled = it.pull(&format!("{}/acme/web:1234", serving.address))?;
        assert!(pulled == it.candidate.bytes()[..], "{}", String::from_utf8_lossy(&pulled));
        let pulled = it.pull(&format!("{}/acme/web:prod", serving.address))?;
        assert!(pulled == it.released.bytes()[..], "{}", String::from_utf8_lossy(&pulled));
        let requests = it.production.requests()?.split_off(before);
        let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
        assert!(!requests.is_empty() && requests.iter().all(|request| is_read(&request.method)), "{requests:?}");
    }
    Ok(())
}

/// All that is below some directories, with when it was changed.
fn listing(directories: &[&Path]) -> Result<Vec<String>> {
    let mut listed = Vec::new();
    for directory in directories.iter().filter(|directory| directory.exists()) {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            listed.push(format!("{} {:?}", path.display(), fs::symlink_metadata(&path)?.modified()?));
            if path.is_dir() && !path.is_symlink() {
                listed.extend(listing(&[path.as_path()])?);
            }
        }
    }
    Ok(listed)
}

#[test]
fn containerd_and_docker_pull_by_what_is_written_for_them_and_the_machines_own_is_left_alone() -> Result<()> {
    apart(async || {
        let world = World::new(Debian::Thirteen)?;
        let it = Try::new(&world, Debian::Twelve)?;
        let (host, home) = (it.production.host(), it.changes.path("home"));
        fs::create_dir(&home)?;
        let machines = ["/etc/docker", "/etc/containers", "/etc/containerd", "/etc/buildkit"].map(Path::new);
        let own = [&machines[..], &[home.as_path()]].concat();
        let (before, asked) = (listing(&own)?, it.production.requests()?.len());

        // On all addresses it is known by the machine's name, which its certificate has as well.
        let everywhere = it.serve(&["--from", "docker.io", "--from", &host, "--listen", "0.0.0.0:0"])?;
        assert!(everywhere.address.starts_with("ci:"), "{}", everywhere.address);
        let (path, password) = (format!("https://{}/v2/", everywhere.address), it.password(&everywhere.address)?);
        let answer = it.client()?.get(path).header("authorization", password).send().await?;
        assert_eq!(answer.status(), StatusCode::OK);
        drop(everywhere);

        let beyond = format!("{BEYOND}:0");
        let listen = ["--from", "docker.io", "--from", &host, "--listen", &beyond];
        let configure = ["containerd", "docker", "podman", "buildkit"].map(|client| ["--configure", client]).concat();
        let serving = it.serve(&[&listen[..], &configure[..]].concat())?;
        let (address, (candidate, released)) = (&serving.address, (it.candidate.digest(), it.released.digest()));
        it.password(address)?;
        let configured = |name: &str| Path::new(&it.file("configure")).join(name);

        let (containerd, hosts) = (Containerd::start()?, configured("containerd").join("certs.d"));
        for (tag, expected) in [("1234", candidate), ("prod", released)] {
            // By the very name that production's image has.
            let image = format!("{host}/acme/web:{tag}");
            containerd.pull(&image, &hosts)?.ok()?;
            assert_eq!(containerd.digest(&image)?, expected.to_string());
        }
        let own_name = format!("{address}/{}/acme/web:1234", host.replace(':', "_"));
        let untrusted = containerd.pull(&own_name, &home)?;
        assert!(untrusted.to_string().contains("certificate signed by unknown authority"), "{untrusted}");
        containerd.pull(&own_name, &hosts)?.ok()?;

        // Docker's daemon has mirrors for Docker Hub alone: an image of that name is found here, too.
        let from = format!("oci:{}", it.changes.path("released").display());
        let (certificates, auth_file) = (it.certificates()?, it.file("auth.json"));
        let to = format!("docker://{address}/library/web:1");
        let push = ["copy", "--dest-cert-dir", &certificates, "--dest-authfile", &auth_file, &from, &to];
        world.tools.skopeo(&push)?.ok()?;
        let (configuration, docker) = (configured("docker"), Docker::start(&configured("docker"))?);
        let productions = own_name.replace(":1234", ":prod");
        for (image, expected) in [(own_name.as_str(), candidate), (productions.as_str(), released), ("web:1", released)]
        {
            docker.run(&configuration, &["pull", "--quiet", image])?.ok()?;
            let digests = ["image", "inspect", "--format", "{{ .RepoDigests }}", image];
            let digests = docker.run(&configuration, &digests)?.ok()?;
            assert!(digests.contains(&expected.to_string()), "{image}: {digests}");
        }

        assert_eq!(listing(&own)?, before);
        let requests = it.production.requests()?.split_off(asked);
        let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
        assert!(!requests.is_empty() && requests.iter().all(|request| is_read(&request.method)), "{requests:?}");
        Ok(())
    })
}

#[tokio::test]
async fn what_a_registry_gives_in_place_of_what_was_asked_for_gets_through_to_nobody() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let it = Try::new(&world, Debian::Thirteen)?;
    let wrong = vec![7; 1 << 20];
    let blob = Descriptor::of(MediaType::LAYER.parse()?, &vec![8; 1 << 20]);
    let (bytes, media_type) = (it.released.bytes().to_vec(), it.released.media_type().as_str());
    let fake = FakeRegistry::start(move |asked| match asked.path.split('/').nth(3) {
        Some("closed") => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
        Some("page") => Answer::new(200, "<html>Log in</html>").with("content-type", "text/html"),
        _ if asked.path.contains("/blobs/") => Answer::new(200, wrong.clone()),
        _ => Answer::new(200, bytes.clone()).with("content-type", media_type),
    });
    let serving = it.serve(&["--from", &fake.host()])?;
    let (client, password) = (it.client()?, it.password(&serving.address)?);
    let ask = |method: Method, path: &str, is_owner: bool| {
        let request = client.request(method, format!("https://{}/v2/acme/{path}", serving.address));
        if is_owner { request.header("authorization", &password) } else { request }
    };
    let other = registry::Digest::of(b"another");
    for is_owner in [true, false] {
        // What comes of the blob is not all of it, and its end is missed.
        let cut_off = ask(Method::GET, &format!("web/blobs/{}", blob.digest), is_owner).send().await?;
        assert!(cut_off.status() == StatusCode::OK && cut_off.bytes().await.is_err());
        for (path, expected) in [
            (format!("web/manifests/{other}"), "gave bytes with the digest"),
            ("page/manifests/prod".to_owned(), "a web page came instead of an answer of a registry"),
            ("page/tags/list".to_owned(), "a web page came instead of an answer of a registry"),
        ] {
            let answer = ask(Method::GET, &path, is_owner).send().await?;
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{path}");
            let said = answer.text().await?;
            assert!(said.contains(expected), "{path}: {said}");
        }
        let expected = if is_owner { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
        assert_eq!(ask(Method::GET, "closed/manifests/prod", is_owner).send().await?.status(), expected);
    }
    // Who pushes under a name of that registry pushes into the overlay, and nothing is sent there.
    let before = fake.asked().len();
    for name in ["web", "closed"] {
        let upload = ask(Method::POST, &format!("{name}/blobs/uploads/"), true).send().await?;
        let place = upload.headers()["location"].to_str()?.to_owned();
        let digest = registry::Digest::of(name.as_bytes());
        let put = client.put(format!("https://{}{place}?digest={digest}", serving.address)).body(name);
        assert_eq!(put.header("authorization", &password).send().await?.status(), StatusCode::CREATED);
    }
    let asked = fake.asked();
    let is_read = |method: &str| ["GET", "HEAD"].contains(&method);
    assert!(asked.iter().all(|asked| is_read(&asked.method)) && asked.len() == before, "{asked:?}");
    ensure!(asked.iter().all(|asked| asked.authorization.is_none()), "there is no credential for it");
    Ok(())
}
