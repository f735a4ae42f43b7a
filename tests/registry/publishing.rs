//! Images that pipelines publish: `release run` in a repository, and what is in the registry then.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bucket::{Bucket, BucketOptions, Image, Timestamp};
use harness::{
    Programs, Repo, Target, base64,
    pubsub::FakePubSub,
    registry::{Debian, Request},
};
use registry::{Content, Manifest, Reference};
use serde_json::{Value, json};

use crate::world::{World, tag, worlds};

/// Makes a root with a shell that greets, with the libraries that it needs.
const BUILD: &str = r#"set -e
mkdir -p out/bin out/srv out/tmp
cp -L /bin/sh out/bin/sh
for lib in $(ldd /bin/sh | grep -o '/[^ ]*'); do mkdir -p "out$(dirname "$lib")"; cp -L "$lib" "out$lib"; done
cp web out/srv/web
"#;

/// The longest that a run may take until something is seen of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A repository with pipelines, whose images go to the registry of a world, and a bucket.
pub(crate) struct Service<'a> {
    world: &'a World,
    pub(crate) repo: Repo,
    pub(crate) bucket: PathBuf,
}

impl<'a> Service<'a> {
    /// One whose pipeline has these stages, by variants and with `[images]` that are said.
    pub(crate) fn new(world: &'a World, images: &str, stages: &str, variants: &str) -> Result<Self> {
        let directory = world.directory.path();
        let (repo, bucket) = (Repo::new(&directory.join("service"))?, directory.join("bucket"));
        fs::create_dir_all(&bucket)?;
        let manifest = format!(
            "schema = 1\n[bucket]\nurl = \"file://{}\"\nannounce = \"{}\"\n[images]\n{images}\n[pipeline]\nproject = \"web\"\n\
             [package.web]\ndescription = \"Web\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n\
             contents = [{{ src = \"web\", dst = \"/srv/web\" }}]\n",
            bucket.display(),
            FakePubSub::TOPIC
        );
        repo.write("release.toml", &manifest)?;
        repo.write("web", "the world\n")?;
        repo.write("build.sh", BUILD)?;
        repo.write(".pipeline/config.yaml", &format!("pipelines:\n  web:\n    stages:\n{stages}"))?;
        repo.write(".pipeline/web/variants.yaml", &format!("variants:\n{variants}"))?;
        let service = Self { world, repo, bucket };
        service.git(&["remote", "add", "origin", "https://git.example/web.git"])?;
        service.repo.commit("a pipeline")?;
        Ok(service)
    }

    /// Where images go, in release.toml.
    pub(crate) fn images(world: &World) -> String {
        format!("registry = \"{}/acme\"\nrepository = '.*/acme/.*'", world.registry.host())
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("git").arg("-C").arg(self.repo.directory()).args(arguments).output()?;
        ensure!(output.status.success(), "git {arguments:?}: {}", text(&output));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn commit(&self) -> Result<String> {
        self.git(&["rev-parse", "HEAD"])
    }

    /// `release` in a checkout, by a shell with this umask.
    pub(crate) fn release(&self, checkout: &Path, umask: &str, arguments: &[&str]) -> Result<Command> {
        let mut release = Command::new("sh");
        let program = Programs::get()?.release();
        release.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(program).arg("-C").arg(checkout);
        release.args(arguments);
        Target { url: format!("file://{}", self.bucket.display()), endpoint: None }.apply(&mut release);
        release.env("HOME", self.world.directory.path()).env_remove("REGISTRY_AUTH_FILE").env_remove("PUSH_CONFIG");
        release.env("PUSH_USER", "dev").env("PUSH_HOST", "ci").env("TMPDIR", self.world.directory.path());
        Ok(release)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut run =
            self.release(self.repo.directory(), "022", &[&["--json", "run", "-m", "why"], arguments].concat())?;
        Ok(run.output()?)
    }

    /// What is recorded of a run that passed, and what it said.
    fn passed(&self, arguments: &[&str]) -> Result<(Value, String)> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{}", text(&output));
        Ok((serde_json::from_slice(&output.stdout)?, text(&output)))
    }

    fn refused(&self, arguments: &[&str], status: i32) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.code() == Some(status), "{}: {}", output.status, text(&output));
        Ok(text(&output))
    }

    /// What is recorded of the image of the commit.
    pub(crate) async fn recorded(&self, app: &str) -> Result<Option<Image>> {
        let url = format!("file://{}", self.bucket.display()).parse()?;
        let bucket = Bucket::open(&url, &BucketOptions::default()).await?;
        Ok(bucket.image(&app.parse()?, &self.commit()?.parse()?).await?)
    }

    /// The manifest under a tag.
    pub(crate) async fn image(&self, name: &str, of: &str) -> Result<Manifest> {
        let found = self.world.client.by_tag(&self.world.repository(&format!("acme/{name}")), &tag(of)).await?;
        found.with_context(|| format!("there is no image {name}:{of}"))
    }
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn layers(manifest: &Manifest) -> usize {
    match manifest.content() {
        Content::Image { layers, .. } => layers.len(),
        Content::Index(_) => 0,
    }
}

fn sends_layers(requests: &[Request]) -> bool {
    requests.iter().any(|request| request.method == "PUT" && request.path.contains("/blobs/"))
}

/// Unpacks an image with umoci, and runs it as a container's first process is run.
fn said_by(world: &World, image: &str) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let (layout, bundle) = (directory.path().join("layout"), directory.path().join("bundle"));
    let to = format!("oci:{}:it", layout.display());
    world.tools.skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{image}"), &to])?.ok()?;
    let (layout, shown) = (format!("{}:it", layout.display()), bundle.display().to_string());
    world.tools.umoci(&["unpack", "--rootless", "--image", &layout, &shown])?.ok()?;
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    let texts = |of: &Value| -> Vec<String> {
        of.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut run = Command::new("unshare");
    run.args(["--map-root-user", "chroot"]).arg(bundle.join("rootfs")).args(texts(&config["process"]["args"]));
    run.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    run.envs(texts(&config["process"]["env"]).iter().filter_map(|variable| variable.split_once('=')));
    let output = run.output()?;
    ensure!(output.status.success(), "{}: {}", output.status, text(&output));
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) const GREETING: &str = "  production: { build: [[sh, build.sh]], root: out, entrypoint: [/bin/sh, -c, 'read -r whom </srv/web; echo \"$GREETING, $whom\"'], \
                        env: { GREETING: hello }, user: '1000:1000', labels: { kind: greeting } }\n";

#[tokio::test]
async fn a_commit_is_the_same_image_on_every_machine_and_runs_its_entrypoint() -> Result<()> {
    for world in worlds()? {
        let stages = "      - { name: test, build: test, run: true }\n      - { name: ship, build: production, \
                      publish: { image: { tag: 'x-${setup.commit}' } }, exports: { it: '${.imageName}:${.imageTag}@${.imageDigest}' } }\n";
        let variants = format!("  test: {{ entrypoint: ['true'] }}\n{GREETING}");
        let service = Service::new(&world, &Service::images(&world), stages, &variants)?;
        service.git(&["tag", "v1"])?;
        let (run, said) = service.passed(&[])?;
        let name = format!("x-{}", service.commit()?);
        let first = service.image("web", &name).await?;
        let expected = format!("{}:{name}@{}", world.repository("acme/web"), first.digest());
        let published = &run["pipelines"][0]["images"][0];
        assert_eq!((&published["stage"], &published["tag"]), (&"ship".into(), &Value::from(name.as_str())), "{run}");
        assert_eq!(published["digest"], first.digest().to_string());
        assert!(
            said.contains(&format!("published {}:{name} as {}", world.repository("acme/web"), first.digest())),
            "{said}"
        );
        // The tag of git, and the time.
        assert_eq!(service.image("web", "v1").await?, first);
        let tags = world.client.tags(&world.repository("acme/web")).await?;
        assert!(tags.len() == 3 && tags.iter().any(|tag| tag.as_str().ends_with("Z-ship")), "{tags:?}");
        assert_eq!(said_by(&world, &expected.replace(&format!(":{name}"), ""))?, "hello, the world\n");

        // What the variant says of it, and the time of the commit.
        let at = format!("docker://{}:{name}", world.repository("acme/web"));
        let config = world.tools.skopeo(&["inspect", "--config", "--tls-verify=false", &at])?.ok()?;
        let config: Value = serde_json::from_str(&config)?;
        let of = &config["config"];
        assert_eq!((&of["User"], &of["Labels"]), (&"1000:1000".into(), &json!({ "kind": "greeting" })), "{config}");
        assert!(of["Env"].as_array().is_some_and(|env| env.contains(&"GREETING=hello".into())), "{config}");
        assert_eq!(of["Entrypoint"][0], "/bin/sh", "{config}");
        let created: Timestamp = config["created"].as_str().context("it has a time")?.parse()?;
        assert_eq!(created, service.git(&["show", "--no-patch", "--format=%cI"])?.parse()?);

        // Another machine: another directory, another umask, another time.
        let elsewhere = world.directory.path().join("some/where/else");
        service.git(&["clone", "--quiet", ".", &elsewhere.display().to_string()])?;
        let mut again = service.release(&elsewhere, "077", &["run", "-m", "again"])?;
        let (again, requests) = world.asked(async { again.output() }).await?;
        let again = again?;
        assert!(again.status.success(), "{}", text(&again));
        assert_eq!(service.image("web", &name).await?, first);
        assert!(!sends_layers(&requests), "{requests:?}");
        assert!(String::from_utf8_lossy(&again.stdout).contains(&expected), "{again:?}");
        // What was published under no commit is recorded as none.
        assert_eq!(service.recorded("web").await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn the_image_of_a_commit_is_recorded_once_and_taken_when_the_same_is_run_again() -> Result<()> {
    for world in worlds()? {
        // Nothing that is built here is the same twice.
        let variants =
            "  production: { build: [[sh, -c, 'mkdir out; date +%s%N >out/web']], root: out, entrypoint: [/web] }\n";
        let stages = "      - { name: ship, build: production, publish: { image: true } }\n";
        let service = Service::new(&world, &Service::images(&world), stages, variants)?;
        service.passed(&[])?;
        let commit = service.commit()?;
        let first = service.image("web", &commit).await?;
        let recorded = service.recorded("web").await?.context("it is recorded")?;
        assert_eq!((recorded.name, recorded.tag), (world.repository("acme/web").to_string(), commit.clone()));
        assert_eq!((recorded.digest, recorded.base), (first.digest().sha256().clone(), None));
        let (_, said) = service.passed(&[])?;
        assert!(
            said.contains(&format!("`{}:{commit}` is there already: it is taken", world.repository("acme/web"))),
            "{said}"
        );
        assert_eq!(service.image("web", &commit).await?, first);

        // Somebody puts another image there: nothing is written over, and that is said.
        world.push("acme/web", &commit, "another")?;
        let refused = service.refused(&[], 1)?;
        assert!(refused.contains("somebody put another image under"), "{refused}");

        // With what is not committed, no tag is that of a commit.
        service.repo.write("web", "changed\n")?;
        service.passed(&["--dirty"])?;
        let dirty = service.image("web", &format!("{commit}-dirty")).await?;
        assert_ne!(dirty.digest(), first.digest());
    }
    Ok(())
}

#[tokio::test]
async fn an_image_stands_on_its_base_whose_layers_are_mounted_or_copied_once() -> Result<()> {
    let elsewhere = World::new(Debian::Twelve)?;
    for world in worlds()? {
        for base_of in [&world, &elsewhere] {
            let base = base_of.push_index("acme/debian", "13", "the base")?;
            let named: Reference = format!("{}@{}", base_of.repository("acme/debian"), base.digest()).parse()?;
            let name = if base_of.registry.host() == world.registry.host() { "web-here" } else { "web-there" };
            let stages =
                format!("      - {{ name: ship, build: production, publish: {{ image: {{ name: {name} }} }} }}\n");
            let variants = format!(
                "  production: {{ base: '{named}', build: [[sh, -c, 'mkdir -p out/srv; cp web out/srv']], root: out, entrypoint: [/srv/web] }}\n"
            );
            let service = Service::new(&world, &Service::images(&world), &stages, &variants)?;
            let (passed, requests) = world.asked(async { service.passed(&[]) }).await?;
            passed?;
            let image = service.image(name, &service.commit()?).await?;
            assert_eq!(layers(&image), 3);
            assert_eq!(service.recorded(name).await?.context("it is recorded")?.base, Some(named.to_string()));
            let mounts =
                requests.iter().filter(|request| request.path.contains("mount=") && request.status == 201).count();
            let expected = if name == "web-here" { 2 } else { 0 };
            assert_eq!(mounts, expected, "{requests:?}");
            world.pulls(&format!("acme/{name}"), &service.commit()?, &image)?;
            fs::remove_dir_all(service.repo.directory())?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_another_builder_made_is_published_as_it_is() -> Result<()> {
    for world in worlds()? {
        let oci = world.directory.path().join("built");
        harness::registry::oci_image(&oci, b"built elsewhere")?;
        let archive = world.directory.path().join("built.tar");
        let (from, to) = (format!("oci:{}", oci.display()), format!("docker-archive:{}:web:1", archive.display()));
        world.tools.skopeo(&["copy", &from, &to])?.ok()?;
        let stages = "      - { name: archive, build: archive, publish: { image: { name: '${setup.project}/Archive', from: 'docker-archive:out/image.tar' } } }
      - { name: layout, build: layout, publish: { image: { name: web-layout, from: 'oci:image' } } }
      - { name: missing, build: archive, publish: { image: { name: web-missing, from: 'oci:image' } } }\n";
        let variants = format!(
            "  archive: {{ build: [[sh, -c, 'mkdir out; cp {} out/image.tar']] }}\n  layout: {{ build: [[cp, -r, '{}', image]] }}\n",
            archive.display(),
            oci.display()
        );
        let service = Service::new(&world, &Service::images(&world), stages, &variants)?;
        // Names of images are in lower case, whatever the project's is.
        let manifest = fs::read_to_string(service.repo.directory().join("release.toml"))?;
        service.repo.write("release.toml", &manifest.replace("project = \"web\"", "project = \"Web\""))?;
        service.repo.commit("another name")?;
        let refused = service.refused(&[], 1)?;
        assert!(refused.contains("missing: failed: could not find `image`"), "{refused}");
        let commit = service.commit()?;
        for name in ["web-archive", "web-layout"] {
            let image = service.image(name, &commit).await?;
            assert_eq!(layers(&image), 2);
            world.pulls(&format!("acme/{name}"), &commit, &image)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_package_and_an_image_of_one_service_are_published_and_told_of_after_all_tests() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let pubsub = FakePubSub::start();
    let stages = "      - { name: test, build: test, run: true }
      - { name: ship, build: production, publish: { package: { name: web }, image: true } }\n";
    let variants = |test: &str| format!("  test: {{ entrypoint: [{test}] }}\n{GREETING}");
    let service = Service::new(&world, &Service::images(&world), stages, &variants("'false'"))?;
    let (refused, requests) = world.asked(async { service.refused(&[], 1) }).await?;
    assert!(refused?.contains("test: failed"));
    assert_eq!(requests, [], "nothing is published before what comes before has passed");

    service.repo.write(".pipeline/web/variants.yaml", &format!("variants:\n{}", variants("'true'")))?;
    service.repo.commit("mended")?;
    let mut run = service.release(service.repo.directory(), "022", &["--json", "run", "-m", "why"])?;
    let output = run.env("PUBSUB_EMULATOR_HOST", pubsub.host()).output()?;
    assert!(output.status.success(), "{}", text(&output));
    let run: Value = serde_json::from_slice(&output.stdout)?;
    let web = &run["pipelines"][0];
    assert_eq!((web["releases"].as_array().map(Vec::len), web["images"].as_array().map(Vec::len)), (Some(1), Some(1)));
    let built = format!(
        r#"{{"image_name":"{}","tag":"{}","repo":"https://git.example/web.git"}}"#,
        world.repository("acme/web"),
        service.commit()?
    );
    assert_eq!(pubsub.published(), [base64(br#"{"app":"web"}"#), base64(built.as_bytes())]);
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_written_is_refused_before_the_first_request() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let host = world.registry.host();
    let both = Service::images(&world);
    let image = |image: &str| format!("      - {{ name: ship, build: production, publish: {{ image: {image} }} }}\n");
    let two = |first: &str, other: &str| {
        format!("{}      - {{ name: other, build: production, publish: {{ image: {other} }} }}\n", image(first))
    };
    for (images, stages, status, expected) in [
        (String::new(), image("true"), 2, "set `registry` in `[images]`"),
        (format!("registry = \"{host}/acme\""), image("true"), 2, "set `repository` in `[images]`"),
        (format!("registry = \"{host}/other\"\nrepository = '.*/acme/.*'"), image("true"), 2, "does not match it"),
        (both.clone(), image("{ name: other }"), 2, "it is neither that of the project, `web`, nor begins with `web-`"),
        (both.clone(), image("{ name: '${setup.branch}' }"), 1, "an image cannot be called `main`: it is neither"),
        (both.clone(), image("{ name: 'web-${setup.note}' }"), 1, "an image cannot be called `web-why not.`"),
        (
            both.clone(),
            image("{ tag: '${setup.tag}' }"),
            1,
            "the tag of the image is empty: `${setup.tag}` gave nothing",
        ),
        (both.clone(), image("{ tag: 'a ${setup.note}' }"), 1, "invalid tag `a why not.`"),
        (both.clone(), two("{ tag: x }", "{ tag: y, tags: [x] }"), 2, "`web:x` is published already, in line 4"),
        (both, two("{ tag: main }", "{ tag: y, tags: ['${setup.branch}'] }"), 1, "`web/ship` of this run already"),
    ] {
        let service = Service::new(&world, &images, &stages, GREETING)?;
        let mut run = service.release(service.repo.directory(), "022", &["run", "-m", "why not."])?;
        let before = world.registry.requests()?.len();
        let output = run.output()?;
        let said = text(&output);
        assert!(
            output.status.code() == Some(status) && said.contains(expected),
            "{expected}: {}: {said}",
            output.status
        );
        let requests = world.registry.requests()?.split_off(before);
        assert!(stages.contains("other,") || requests.is_empty(), "{requests:?}");
        if status == 2 {
            let mut check = service.release(service.repo.directory(), "022", &["check"])?;
            let checked = check.output()?;
            assert!(String::from_utf8_lossy(&checked.stdout).contains(expected), "{checked:?}");
        }
        fs::remove_dir_all(service.repo.directory())?;
    }
    Ok(())
}

/// Ends a run as soon as the registry has answered this many requests; `false` if it ended by itself before.
pub(crate) fn kill_after(world: &World, run: &mut Child, requests: usize) -> Result<bool> {
    let (before, began) = (world.registry.requests()?.len(), Instant::now());
    loop {
        if world.registry.requests()?.len() - before >= requests {
            run.kill()?;
        }
        if let Some(status) = run.try_wait()? {
            return Ok(status.signal().is_some());
        }
        ensure!(began.elapsed() < PATIENCE, "the run neither goes on nor ends");
        thread::yield_now();
    }
}

#[tokio::test]
async fn wherever_a_run_is_killed_the_next_one_publishes_what_is_left() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let stages = "      - { name: ship, build: production, publish: { image: { tags: ['last'] } } }\n";
    let variants = "  production: { build: [[sh, -c, 'mkdir out; cp web out; date +%s%N >out/time']], root: out, entrypoint: [/web] }\n";
    let service = Service::new(&world, &Service::images(&world), stages, variants)?;
    for requests in 1.. {
        service.repo.write("web", &requests.to_string())?;
        service.repo.commit("next")?;
        let mut run = service.release(service.repo.directory(), "022", &["run", "-m", "why"])?;
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let was_killed = kill_after(&world, &mut run, requests)?;
        if was_killed {
            service.passed(&[])?;
        }
        let image = service.image("web", &service.commit()?).await?;
        assert_eq!(service.image("web", "last").await?, image);
        let recorded = service.recorded("web").await?.context("it is recorded")?;
        assert_eq!(&recorded.digest, image.digest().sha256());
        world.pulls("acme/web", "last", &image)?;
        if !was_killed {
            ensure!(requests > 8, "a run was killed {requests} times");
            return Ok(());
        }
    }
    Ok(())
}

/// The most memory that a process has had, in kB, once it has ended well.
pub(crate) fn most_memory(mut run: Child) -> Result<u64> {
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(line) = line {
            most = most.max(line.trim().trim_end_matches(" kB").parse()?);
        }
        if let Some(status) = run.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(most);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn a_large_image_takes_little_memory() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let stages = "      - { name: ship, build: production, publish: { image: true } }\n";
    let mut most = Vec::new();
    for megabytes in [1, 80] {
        let variants = format!(
            "  production: {{ build: [[sh, -c, 'mkdir out; head -c {megabytes}M /dev/urandom >out/web']], root: out, entrypoint: [/web] }}\n"
        );
        let service = Service::new(&world, &Service::images(&world), stages, &variants)?;
        let mut run = service.release(service.repo.directory(), "022", &["run", "-m", "why"])?;
        most.push(most_memory(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)?);
        fs::remove_dir_all(service.repo.directory())?;
    }
    assert!(most[1] < most[0] + (32 << 10), "from {} kB to {} kB", most[0], most[1]);
    Ok(())
}
