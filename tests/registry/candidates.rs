//! Images of changes that are not merged yet: `release candidate --image`, `promote` and `sweep`, and what is in the registries then.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use bucket::{Bucket, BucketOptions, Change, Image};
use harness::{
    Programs, Repo, Target,
    registry::{Debian, FakeRegistry, RegistryOptions, RegistryServer, Request},
};
use registry::Manifest;
use serde_json::Value;

use crate::{
    publishing::{kill_after, text},
    world::{World, auth_file, tag, worlds},
};

/// A repository with changes, whose images go to the registry of a world: those of changes below `ci`, the others below `acme`.
pub(crate) struct Changes<'a> {
    world: &'a World,
    pub(crate) repo: Repo,
    /// How much was changed so far.
    done: Cell<u32>,
}

impl<'a> Changes<'a> {
    /// One whose candidates are in the same registry.
    pub(crate) fn new(world: &'a World) -> Result<Self> {
        let host = world.registry.host();
        let candidates = format!("registry = \"{host}/ci\"");
        Self::with(world, &candidates, &format!("registry = \"{host}/acme\"\nrepository = '.*/(ci|acme)/.*'"))
    }

    /// One with what release.toml says of candidates and images.
    pub(crate) fn with(world: &'a World, candidates: &str, images: &str) -> Result<Self> {
        let repo = Repo::new(&world.directory.path().join("changes"))?;
        let changes = Self { world, repo, done: Cell::new(0) };
        for bucket in ["production", "candidates"] {
            fs::create_dir_all(changes.path(bucket))?;
        }
        fs::write(changes.path("config.json"), "{}")?;
        let manifest = format!(
            "schema = 1\n[candidates]\nbucket = \"file://{}\"\n{candidates}\n[images]\n{images}\n[package.web]\n\
             description = \"Web\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"\n\
             contents = [{{ src = \"version\", dst = \"/srv/web\" }}]\n",
            changes.path("candidates").display()
        );
        changes.repo.write("release.toml", &manifest)?;
        changes.repo.write("version", "0")?;
        changes.repo.commit("first")?;
        Ok(changes)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.world.directory.path().join(name)
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("git").arg("-C").arg(self.repo.directory()).args(arguments).output()?;
        ensure!(output.status.success(), "git {arguments:?}: {}", text(&output));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn release(&self, arguments: &[&str]) -> Result<Command> {
        let mut release = Command::new(Programs::get()?.release());
        release.arg("-C").arg(self.repo.directory()).args(arguments);
        let url = format!("file://{}", self.path("production").display());
        Target { url, endpoint: None }.apply(&mut release);
        release.env("HOME", self.world.directory.path()).env("REGISTRY_AUTH_FILE", self.path("config.json"));
        release.env("TMPDIR", self.world.directory.path()).env("PUSH_TARGET", "main");
        release.env_remove("PUSH_BUILDSET").env("PUSH_USER", "dev").env("PUSH_HOST", "ci");
        Ok(release)
    }

    /// What a command gives that succeeds, and what it says.
    pub(crate) fn done(&self, arguments: &[&str]) -> Result<(Value, String)> {
        let output = self.release(&[arguments, &["--json"]].concat())?.output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", text(&output));
        Ok((serde_json::from_slice(&output.stdout)?, text(&output)))
    }

    /// What a command says that must fail with this status.
    pub(crate) fn refused(&self, arguments: &[&str], status: i32) -> Result<String> {
        let output = self.release(arguments)?.output()?;
        ensure!(output.status.code() == Some(status), "{arguments:?}: {}: {}", output.status, text(&output));
        Ok(text(&output))
    }

    /// A change of something new, which is checked out: its number.
    pub(crate) fn open(&self) -> Result<String> {
        let id = (12 + self.done.replace(self.done.get() + 1)).to_string();
        self.git(&["checkout", "--quiet", "-b", &format!("change-{id}"), "main"])?;
        self.patchset(&id)?;
        Ok(id)
    }

    /// The next patchset of a change that is checked out.
    pub(crate) fn patchset(&self, id: &str) -> Result<()> {
        self.repo.write("version", &format!("{id} {:?}", SystemTime::now()))?;
        self.repo.commit("work")?;
        self.done(&["change", "open", &change(id)]).map(drop)
    }

    /// Makes an image a candidate.
    pub(crate) fn candidate(&self, id: &str, image: &str, more: &[&str]) -> Result<(Value, String)> {
        let (given, said) = self.done(&[&["candidate", "--image", image, "--change", &change(id)], more].concat())?;
        Ok((given[0].clone(), said))
    }

    /// Merges a change that is checked out by one commit of its own, and says so: the commit.
    pub(crate) fn merge(&self, id: &str) -> Result<String> {
        self.git(&["checkout", "--quiet", "main"])?;
        self.git(&["merge", "--quiet", "--squash", &format!("change-{id}")])?;
        self.repo.commit("landed")?;
        self.done(&["change", "merged", &change(id)])?;
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn promote(&self, id: &str) -> Result<(Value, String)> {
        self.done(&["promote", "--change", &change(id)])
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<Bucket> {
        let url = format!("file://{}", self.path(name).display()).parse()?;
        Ok(Bucket::open(&url, &BucketOptions::default()).await?)
    }

    /// What is recorded of the image of a commit.
    pub(crate) async fn recorded(&self, commit: &str) -> Result<Option<Image>> {
        Ok(self.bucket("production").await?.image(&"web".parse()?, &commit.parse()?).await?)
    }

    pub(crate) async fn change(&self, id: &str) -> Result<Change> {
        let (_, change) =
            self.bucket("candidates").await?.change(&change(id).parse()?).await?.context("it is there")?;
        Ok(change)
    }

    /// What a tag names, of an image of production.
    pub(crate) async fn named(&self, of: &str) -> Result<Option<Manifest>> {
        Ok(self.world.client.by_tag(&self.world.repository("acme/web"), &tag(of)).await?)
    }

    /// The names of all files below a directory of a bucket, without what is beside them.
    pub(crate) fn below(&self, bucket: &str, directory: &str) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.path(bucket).join(directory), &mut found);
        found
    }

    /// That an image is that of a commit and has its tag, and that nothing is left of its candidate.
    async fn is_promoted(&self, id: &str, manifest: &Manifest, (of, commit): (&str, &str), moment: &str) -> Result<()> {
        for name in [of, commit] {
            assert_eq!(self.named(name).await?.as_ref(), Some(manifest), "{moment}: {name}");
            self.world.pulls("acme/web", name, manifest)?;
        }
        assert_eq!(self.named(&format!("change_{id}_{of}")).await?, None, "{moment}");
        let image = self.recorded(commit).await?.with_context(|| format!("{moment}: it is recorded"))?;
        assert_eq!((&image.digest, image.tag.as_str()), (manifest.digest().sha256(), commit), "{moment}");
        assert_eq!(image.landed.as_ref().map(ToString::to_string).as_deref(), Some(commit), "{moment}");
        let promoted = image.promoted.context("it says from what")?;
        assert_eq!((promoted.change.to_string(), promoted.tag.as_str()), (change(id), of), "{moment}");
        assert_eq!(self.below("production", "candidates"), Vec::<String>::new(), "{moment}");
        let change = self.change(id).await?;
        let landed = change.candidates.iter().filter(|known| known.gate).filter_map(|known| known.landed.as_ref());
        assert!(landed.map(ToString::to_string).eq([commit.to_owned()]), "{moment}: {change:?}");
        Ok(())
    }
}

pub(crate) fn change(id: &str) -> String {
    format!("web/{id}")
}

fn list(directory: &Path, found: &mut Vec<String>) {
    let entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() { list(&entry.path(), found) } else { found.push(name) }
    }
}

/// The requests by which bytes of blobs are sent.
pub(crate) fn uploads(requests: &[Request]) -> usize {
    let is_blob = |request: &&Request| request.path.contains("/blobs/") && matches!(&*request.method, "PUT" | "PATCH");
    requests.iter().filter(is_blob).count()
}

#[tokio::test]
async fn an_image_is_tried_gated_and_promoted_without_a_layer_being_sent_again() -> Result<()> {
    for world in worlds()? {
        for (is_index, of) in [(false, "1234_1"), (true, "1234_2")] {
            let changes = Changes::new(&world)?;
            let id = changes.open()?;
            let push = if is_index { World::push_index } else { World::push };
            let (manifest, image) = (push(&world, "ci/web", of, "new")?, format!("web:{of}"));
            let (built, _) = changes.candidate(&id, &image, &[])?;
            let place = format!("{}:{}_{of}", world.repository("ci/web"), built["build"].as_str().context("a text")?);
            assert_eq!(
                (&built["type"], &built["app"], &built["gate"]),
                (&"image".into(), &"web".into(), &false.into())
            );
            assert_eq!((built["image"].as_str(), built["tag"].as_str()), (Some(&*place), Some(of)));
            assert_eq!(built["sha256"], manifest.digest().sha256().as_str());
            world.pulls("ci/web", place.rsplit_once(':').context("a tag")?.1, &manifest)?;
            let (again, requests) = world.asked(async { changes.candidate(&id, &image, &[]) }).await?;
            assert_eq!(again?.0, built);
            assert!(requests.iter().all(|request| request.method == "GET"), "{requests:?}");
            assert_eq!(changes.named(of).await?, None, "production has nothing of it");

            let (gated, requests) = world.asked(async { changes.candidate(&id, &image, &["--gate"]) }).await?;
            let (gated, _) = gated?;
            assert_eq!(uploads(&requests), 0, "what the registry has is mounted: {requests:?}");
            assert_eq!(gated["image"], format!("{}:change_{id}_{of}", world.repository("acme/web")));
            assert_eq!(changes.candidate(&id, &image, &["--gate"])?.0, gated);
            assert_eq!(changes.named(&format!("change_{id}_{of}")).await?.as_ref(), Some(&manifest));
            let shown = changes.done(&["change", "show", &change(&id)])?.0;
            assert_eq!(shown["candidates"].as_array().map(Vec::len), Some(2));

            // Another change has the very same image.
            let other = changes.open()?;
            changes.candidate(&other, &format!("{image}@{}", manifest.digest()), &["--gate"])?;
            changes.git(&["checkout", "--quiet", &format!("change-{id}")])?;
            assert!(changes.refused(&["promote", "--change", &change(&id)], 1)?.contains("is not merged"));
            let commit = changes.merge(&id)?;
            let (promoted, requests) = world.asked(async { changes.promote(&id) }).await?;
            let (promoted, said) = promoted?;
            assert!(said.contains(&format!("warning: no try with exactly the image `{image}` has passed")), "{said}");
            assert!(requests.iter().all(|request| !request.path.contains("/blobs/")), "{requests:?}");
            assert_eq!(promoted[0]["image"], format!("{}:{of}", world.repository("acme/web")));
            assert_eq!((&promoted[0]["type"], &promoted[0]["landed"]), (&"image".into(), &Value::from(&*commit)));
            assert_eq!(changes.named(&format!("change_{other}_{of}")).await?.as_ref(), Some(&manifest));
            fs::remove_dir_all(changes.path("production/candidates/web").join(&other))?;
            changes.is_promoted(&id, &manifest, (of, &commit), "promoted").await?;
            world.registry.collect_garbage()?;
            changes.is_promoted(&id, &manifest, (of, &commit), "after the garbage was collected").await?;
            assert_eq!(changes.promote(&id)?.0, promoted);
            for directory in ["changes", "production", "candidates", &format!("ci-web-{of}")] {
                fs::remove_dir_all(changes.path(directory))?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_image_that_lies_on_this_machine_is_uploaded_once() -> Result<()> {
    let world = World::new(Debian::Twelve)?;
    let elsewhere = RegistryServer::start(Debian::Thirteen, RegistryOptions { password: true })?;
    let (here, there) = (world.registry.host(), elsewhere.host());
    let changes = Changes::with(
        &world,
        &format!("registry = \"{here}/ci\""),
        &format!("registry = \"{there}/acme\"\nrepository = '.*/(ci|acme)/.*'"),
    )?;
    let id = changes.open()?;
    let manifest = harness::registry::oci_index(&changes.path("built"), b"built here")?;
    let from = format!("oci:{}", changes.path("built").display());
    let gate = ["--from", &from, "--gate"];
    auth_file(world.directory.path(), &there, "deployer:wrong");
    let refused =
        changes.refused(&[&["candidate", "--image", "web:1", "--change", &change(&id)], &gate[..]].concat(), 1)?;
    assert!(refused.contains("not allowed to") && !refused.contains("wrong"), "{refused}");
    assert_eq!(changes.below("production", "candidates"), Vec::<String>::new());

    auth_file(world.directory.path(), &there, "deployer:correct-horse");
    let (gated, requests) = world.asked(async { changes.candidate(&id, "web:1", &gate) }).await?;
    let (gated, said) = gated?;
    assert_eq!(gated["image"], format!("{there}/acme/web:change_{id}_1"));
    assert_eq!(uploads(&requests), 0, "the refused command has uploaded it there: {requests:?}");
    assert!(!said.contains("correct-horse"), "{said}");
    let sent = uploads(&elsewhere.requests()?);
    assert_eq!(sent, 5, "three layers and two configurations");
    changes.candidate(&id, "web:1", &gate)?;
    assert_eq!(uploads(&elsewhere.requests()?), sent);
    assert_eq!(gated["sha256"], manifest.digest().sha256().as_str());

    // A blob that the registry of candidates has lost.
    let id = changes.open()?;
    let broken = world.push("ci/web", "2", "lost")?;
    changes.candidate(&id, "web:2", &[])?;
    let lost = broken.blobs()[0].digest.clone();
    let url = format!("http://{here}/v2/ci/web/blobs/{lost}");
    ensure!(reqwest::Client::new().delete(url).send().await?.status().is_success(), "the blob is deleted");
    let refused = changes.refused(&["candidate", "--image", "web:2", "--change", &change(&id), "--gate"], 1)?;
    assert!(refused.contains(&lost.to_string()), "{refused}");
    let recorded = changes.change(&id).await?;
    assert!(recorded.candidates.iter().all(|known| !known.gate), "{recorded:?}");
    Ok(())
}

#[tokio::test]
async fn wherever_a_gate_or_a_promotion_is_killed_the_same_command_ends_it() -> Result<()> {
    for world in worlds()? {
        let changes = Changes::new(&world)?;
        let (mut killed, mut all) = ([0, 0], [false, false]);
        for requests in 1.. {
            let (id, of) = (changes.open()?, format!("v{requests}"));
            let manifest = world.push("ci/web", &of, &of)?;
            let (image, named) = (format!("web:{of}"), change(&id));
            let mut run = async |at: usize, arguments: &[&str]| -> Result<()> {
                let mut command = changes.release(arguments)?;
                let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
                if kill_after(&world, &mut process, requests)? {
                    killed[at] += 1;
                } else {
                    all[at] = true;
                }
                changes.done(arguments).map(drop)
            };
            run(0, &["candidate", "--image", &image, "--change", &named, "--gate"]).await?;
            let commit = changes.merge(&id)?;
            run(1, &["promote", "--change", &named]).await?;
            changes.is_promoted(&id, &manifest, (&of, &commit), &format!("killed after {requests}")).await?;
            if all == [true, true] {
                break;
            }
        }
        assert!(killed.iter().all(|killed| *killed > 8), "{killed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tag_that_promotions_share_ends_at_what_landed_last() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let changes = Changes::new(&world)?;
    let mut landed = Vec::new();
    for content in ["first", "second"] {
        let id = changes.open()?;
        let manifest = world.push("ci/web", "latest", content)?;
        changes.candidate(&id, "web:latest", &["--gate"])?;
        landed.push((id.clone(), changes.merge(&id)?, manifest));
        fs::remove_dir_all(changes.path("ci-web-latest"))?;
    }
    changes.promote(&landed[1].0)?;
    // A checkout that doesn't know yet what landed after it moves the tag nowhere.
    changes.git(&["reset", "--quiet", "--hard", &landed[0].1])?;
    let refused = changes.refused(&["promote", "--change", &change(&landed[0].0)], 1)?;
    assert!(refused.contains("fetch it and run the command again"), "{refused}");
    assert_eq!(changes.named("latest").await?.as_ref(), Some(&landed[1].2));
    changes.git(&["reset", "--quiet", "--hard", &landed[1].1])?;
    changes.promote(&landed[0].0)?;
    assert_eq!(changes.named("latest").await?.as_ref(), Some(&landed[1].2));
    for (id, commit, manifest) in &landed {
        assert_eq!(changes.named(commit).await?.as_ref(), Some(manifest));
        assert_eq!(changes.named(&format!("change_{id}_latest")).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_promotion_takes_no_tag_that_another_image_has() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let changes = Changes::new(&world)?;
    let there = world.push("acme/web", "prod", "what runs")?;
    let id = changes.open()?;
    world.push("ci/web", "prod", "of a change")?;
    changes.candidate(&id, "web:prod", &["--gate"])?;
    let commit = changes.merge(&id)?;
    let (refused, requests) = world.asked(async { changes.refused(&["promote", "--change", &change(&id)], 1) }).await?;
    let refused = refused?;
    assert!(refused.contains("/web:prod` is another image already, which was not promoted with that tag"), "{refused}");
    assert!(requests.iter().all(|request| matches!(&*request.method, "GET" | "HEAD")), "{requests:?}");
    assert_eq!(changes.named("prod").await?.as_ref(), Some(&there));
    assert_eq!(changes.named(&commit).await?, None);
    Ok(())
}

#[tokio::test]
async fn one_project_sweeps_no_image_in_the_registry_of_another() -> Result<()> {
    let world = World::new(Debian::Twelve)?;
    let changes = Changes::new(&world)?;
    world.push("ci/web", "1", "first")?;
    let id = changes.open()?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    changes.done(&["change", "abandoned", &change(&id)])?;
    for (bucket, directory) in [("production", "candidates"), ("candidates", "builds")] {
        age(&changes.path(bucket).join(directory), SystemTime::now() - Duration::from_hours(48))?;
    }
    let path = changes.repo.directory().join("release.toml");
    let own = fs::read_to_string(&path)?;
    fs::write(
        &path,
        own.replace("/acme\"", "/other\"").replace("/ci\"", "/elsewhere\"").replace("(ci|acme)", "(elsewhere|other)"),
    )?;
    let (swept, requests) = world.asked(async { changes.done(&["sweep"]) }).await?;
    assert_eq!(swept?.0["deleted"].as_array().map(Vec::len), Some(0));
    assert_eq!(requests, []);
    fs::write(&path, own)?;
    assert_eq!(changes.done(&["sweep"])?.0["deleted"].as_array().map(Vec::len), Some(2));
    assert_eq!(changes.named(&format!("change_{id}_1")).await?, None);
    Ok(())
}

#[tokio::test]
async fn what_was_gated_again_replaces_what_was_before_and_what_was_not_merged_is_not_promoted() -> Result<()> {
    let world = World::new(Debian::Twelve)?;
    let changes = Changes::new(&world)?;
    let id = changes.open()?;
    world.push("ci/web", "1", "first")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    changes.patchset(&id)?;
    fs::remove_dir_all(changes.path("ci-web-1"))?;
    let second = world.push("ci/web", "1", "second")?;
    let (_, said) = changes.candidate(&id, "web:1", &["--gate"])?;
    assert!(said.contains(&format!("gated {}:change_{id}_1 as {}", world.repository("acme/web"), second.digest())));
    changes.git(&["checkout", "--quiet", "main"])?;
    changes.repo.write("version", "something else")?;
    changes.repo.commit("not what was tried")?;
    changes.done(&["change", "merged", &change(&id)])?;
    let (refused, requests) = world.asked(async { changes.refused(&["promote", "--change", &change(&id)], 1) }).await?;
    assert!(refused?.contains("what was merged is not what was tried"));
    assert!(requests.iter().all(|request| matches!(&*request.method, "GET" | "HEAD")), "{requests:?}");

    changes.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;

    // With the tree that was tried. Somebody has put something under the commit meanwhile.
    let commit = changes.merge(&id)?;
    world.push("acme/web", &commit, "somebody's")?;
    let refused = changes.refused(&["promote", "--change", &change(&id)], 1)?;
    assert!(refused.contains(&format!(":{commit}` is another image already")), "{refused}");
    assert_eq!(changes.recorded(&commit).await?, None);
    assert_eq!(changes.named("1").await?, None);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_a_candidate_is_refused_before_the_first_request() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let host = world.registry.host();
    let both =
        (format!("registry = \"{host}/ci\""), format!("registry = \"{host}/acme\"\nrepository = '.*/(ci|acme)/.*'"));
    let long = format!("web:{}", "x".repeat(118));
    for (candidates, images, image, status, expected) in [
        ("", &*both.1, "web:1", 1, "set `registry` in `[candidates]`"),
        (&*both.0, "", "web:1", 1, "set `repository` in `[images]`"),
        (&both.0, "repository = '.*/ci/.*'", "web:1", 1, "set `registry` in `[images]`"),
        (&both.0, &both.1.replace("(ci|acme)", "acme"), "web:1", 1, "does not match its whole name"),
        (&both.0, &both.1.replace("(ci|acme)", "ci"), "web:1", 1, "does not match its whole name"),
        (&both.0, &both.1, "web", 2, "it has no tag"),
        (&both.0, &both.1, "quay.example/acme/web:1", 2, "it is not right below"),
        (&both.0, &both.1, "Web:1", 1, "lower-case letters"),
        (&both.0, &both.1, &long, 2, "its tag has no room"),
        (&both.0, &both.1, "web:change_13_1", 1, "begins with `change_`, as those of changes that are not promoted do"),
        (&both.0, &both.1, "web:0123456789012345678901234567890123456789", 1, "is a commit, and not the one"),
    ] {
        let changes = Changes::with(&world, candidates, images)?;
        let id = changes.open()?;
        let arguments = ["candidate", "--image", image, "--change", &change(&id), "--gate"];
        let (refused, requests) = world.asked(async { changes.refused(&arguments, status) }).await?;
        let refused = refused?;
        assert!(refused.contains(expected), "{image}: {refused}");
        assert_eq!(requests, [], "{image}");
        fs::remove_dir_all(changes.repo.directory())?;
        fs::remove_dir_all(changes.path("candidates"))?;
    }
    let changes = Changes::new(&world)?;
    let id = changes.open()?;
    let missing = changes.refused(&["candidate", "--image", "web:none", "--change", &change(&id)], 1)?;
    assert!(missing.contains("there is no image") && missing.contains("push it there, or say by --from"), "{missing}");
    world.push("ci/web", "1", "an image")?;
    let other = format!("web:1@sha256:{}", "07".repeat(32));
    let refused = changes.refused(&["candidate", "--image", &other, "--change", &change(&id)], 1)?;
    assert!(refused.contains("there is no image"), "{refused}");
    changes.repo.write("version", "not committed")?;
    let dirty = changes.refused(&["candidate", "--image", "web:1", "--change", &change(&id)], 1)?;
    assert!(dirty.contains("version"), "{dirty}");
    let fake = FakeRegistry::start(|_| harness::registry::Answer::new(200, "<html>log in</html>"));
    fs::remove_dir_all(changes.repo.directory())?;
    fs::remove_dir_all(changes.path("candidates"))?;
    let portal = Changes::with(&world, &format!("registry = \"{}/ci\"", fake.host()), &both.1)?;
    let id = portal.open()?;
    let refused = portal.refused(&["candidate", "--image", "web:1", "--change", &change(&id)], 1)?;
    assert!(refused.contains("could not read") && !refused.contains("<html>"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_sweep_removes_the_tags_that_nobody_needs_and_no_others() -> Result<()> {
    for world in worlds()? {
        let changes = Changes::new(&world)?;
        let manifest = world.push("ci/web", "1", "first")?;
        let (kept, given_up) = (changes.open()?, changes.open()?);
        let mut built = Vec::new();
        for id in [&kept, &given_up] {
            changes.git(&["checkout", "--quiet", &format!("change-{id}")])?;
            changes.candidate(id, "web:1", &["--gate"])?;
            let change = changes.change(id).await?;
            built.push(change.candidates[0].image.clone().context("it has a tag")?);
        }
        let commit = "a".repeat(40);
        world.push("acme/web", &commit, "the image of a commit")?;
        changes.done(&["change", "abandoned", &change(&given_up)])?;
        let (swept, requests) = world.asked(async { changes.done(&["sweep"]) }).await?;
        assert_eq!(swept?.0["deleted"].as_array().map(Vec::len), Some(0), "all of it is too young");
        assert_eq!(requests, []);
        // Two days ago, in a directory.
        let before = SystemTime::now() - Duration::from_hours(48);
        for (bucket, directory) in [("production", "candidates"), ("candidates", "builds")] {
            age(&changes.path(bucket).join(directory), before)?;
        }
        let shown = changes.done(&["sweep", "--dry-run"])?.0;
        let swept = changes.done(&["sweep"])?.0;
        assert_eq!(shown["deleted"], swept["deleted"]);
        assert_eq!(swept["deleted"].as_array().map(Vec::len), Some(3), "{swept}");
        assert_eq!(changes.named(&format!("change_{given_up}_1")).await?, None);
        assert_eq!(changes.named(&format!("change_{kept}_1")).await?.as_ref(), Some(&manifest));
        for image in built {
            let gone = image.rsplit_once(':').context("a tag")?.1;
            assert_eq!(world.client.by_tag(&world.repository("ci/web"), &tag(gone)).await?, None);
        }
        // What builders push themselves is theirs, and so is what was published.
        world.pulls("ci/web", "1", &manifest)?;
        assert!(changes.named(&commit).await?.is_some());
        let gated = format!("1@{}.json", manifest.digest().sha256());
        assert_eq!(changes.below("production", "candidates"), [gated]);
        assert_eq!(changes.below("candidates", "builds"), Vec::<String>::new());
        assert_eq!(changes.done(&["sweep"])?.0["deleted"].as_array().map(Vec::len), Some(0));
    }
    Ok(())
}

/// Has all files below a directory be from then.
fn age(directory: &Path, then: SystemTime) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            age(&path, then)?;
        } else {
            fs::File::open(&path)?.set_modified(then)?;
        }
    }
    Ok(())
}
