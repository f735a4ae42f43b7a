//! Overlays of production with what changes would alter, made and removed, over both kinds of buckets.

use std::{fs, path::Path, process::Command};

use bucket::{Bucket, BucketOptions, BucketUrl, Channel, Rejection, ReleaseName, ServerName};
use futures_util::TryStreamExt as _;
use harness::Programs;

use crate::trying::World;

/// Each story once for each kind of bucket.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod over_directories {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(crate::trying::World::over_directories().await).await;
                }
            )*
        }

        mod over_google {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(crate::trying::World::over_google().await).await;
                }
            )*
        }
    };
}

stories! {
    an_overlay_has_what_is_ahead_and_productions_rest,
    the_nearest_counts_and_what_was_abandoned_does_not,
    what_is_not_as_it_was_recorded_ends_the_try,
    of_production_counts_its_channel_else_the_newest_release_that_nothing_speaks_against,
}

/// An overlay, as whoever uses it opens it.
async fn opened(directory: &Path) -> Bucket {
    let url = BucketUrl::File(directory.to_owned());
    Bucket::open_marked(&url, &BucketOptions::default()).await.expect("a bucket")
}

/// What a server should have by an overlay.
async fn wanted(overlay: &Bucket, server: &str) -> Vec<ReleaseName> {
    let server: ServerName = server.parse().expect("a server");
    let (_, document) = overlay.server_document(&server).await.expect("an answer").expect("a document");
    document.releases().cloned().collect()
}

/// The releases in a bucket, in no order.
async fn releases(bucket: &Bucket, apps: &[&str]) -> Vec<bucket::Release> {
    let mut found = Vec::new();
    for app in apps {
        found.extend(bucket.releases(&app.parse().expect("an app")).try_collect::<Vec<_>>().await.expect("a listing"));
    }
    found
}

async fn an_overlay_has_what_is_ahead_and_productions_rest(world: World) {
    let (web, lib, cron) = (world.released("web"), world.released("lib"), world.released("cron"));
    world.document("web-1", &[web.as_str(), "api/", lib.as_str()]).await;
    world.opened("lib/1", &[]);
    let candidate = world.candidate("lib/1", "lib", false);
    world.opened("web/2", &["lib/1"]);
    let before = world.all().await;
    let asked = world.writes().len();

    let out = world.path("made/overlay");
    let arguments = ["buildset", "start", "--change", "web/2", "--server", "web-1", "--out", out.to_str().unwrap()];
    let made = world.json(&arguments);
    assert_eq!(made["directory"], out.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(made["bucket"], format!("file://{}", out.canonicalize().unwrap().display()));
    assert_eq!((&made["change"], &made["artifacts"][1]["change"]), (&"web/2".into(), &"lib/1".into()));
    let overlay = opened(&out).await;
    assert_eq!(wanted(&overlay, "web-1").await, [web.clone(), candidate.clone()]);
    let document = fs::read_to_string(out.join("server/web-1.json")).unwrap();
    assert!(document.contains("\"api/\""), "{document}");
    let there = releases(&overlay, &["cron", "lib", "web"]).await;
    let names: Vec<&ReleaseName> = there.iter().map(|release| &release.name).collect();
    assert_eq!(names, [&candidate, &web], "and nothing of cron, which the server does not have: {cron}");
    let facts = there[0].metadata.as_ref().unwrap();
    assert_eq!(facts, &world.only_candidate("lib/1").await.metadata.unwrap().release);
    let theirs = world.production.release(&web).await.unwrap().unwrap();
    assert_eq!(there[1].metadata, theirs.metadata);
    assert_eq!(made["artifacts"][0]["sha256"], theirs.metadata.unwrap().sha256.as_str());

    // The same again changes nothing.
    let written = fs::metadata(out.join("server/web-1.json")).unwrap().modified().unwrap();
    let again = world.json(&arguments);
    assert_eq!((&again["buildset"], &again["directory"]), (&made["buildset"], &made["directory"]));
    assert_eq!(fs::metadata(out.join("server/web-1.json")).unwrap().modified().unwrap(), written);
    // Other bytes under the same name are another overlay.
    let time = candidate.time().to_string();
    let dist = world.path("other-dist");
    let dist = dist.to_str().unwrap();
    let arguments_of = ["candidate", "-m", "another note", "lib", "--change", "lib/1", "--time", &time, "--out", dist];
    let checkout = |commit: &str| {
        let mut git = Command::new("git");
        git.arg("-C").arg(world.repo.directory()).args(["checkout", "--quiet", commit]);
        assert!(git.status().unwrap().success());
    };
    checkout("HEAD~1");
    world.done(&arguments_of);
    checkout("-");
    let anew = world.json(&arguments);
    assert_ne!(anew["buildset"], made["buildset"]);
    assert_eq!(anew["artifacts"][1]["release"], made["artifacts"][1]["release"]);
    assert_ne!(anew["artifacts"][1]["sha256"], made["artifacts"][1]["sha256"]);
    // It is a bucket as any other, and never taken for production.
    let url = made["bucket"].as_str().unwrap();
    let listed = world.done(&["list", "lib", "--names", "--bucket", url]).stdout;
    assert_eq!(String::from_utf8_lossy(&listed).trim(), candidate.as_str());
    let mut push = Command::new(Programs::get().unwrap().push());
    let pushed = push.args(["status", "web-1"]).env_clear().env("HOME", world.directory.path()).env("PUSH_BUCKET", url);
    let pushed = pushed.output().unwrap();
    let shown = String::from_utf8_lossy(&pushed.stdout).into_owned();
    assert!(pushed.status.success() && shown.contains(candidate.commit().short()), "{shown}{pushed:?}");
    let said = world.refused(&["buildset", "start", "--change", "web/2", "--bucket", url], 2);
    assert!(said.contains("the bucket is the overlay of the buildset") && said.contains("of `web/2`"), "{said}");
    // Another change does not get into its directory.
    world.opened("web/9", &[]);
    let said = world
        .refused(&["buildset", "start", "--change", "web/9", "--server", "web-1", "--out", out.to_str().unwrap()], 1);
    assert!(said.contains("there is something in this one"), "{said}");

    for said in ["removed ", "is not there"] {
        let stopped = world.done(&["buildset", "stop", out.to_str().unwrap()]);
        let stopped = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert!(stopped.contains(said), "{stopped}");
    }
    assert!(!out.exists());
    // What was cut off between its mark and its directory, and what was never there.
    fs::create_dir(&out).unwrap();
    let stopped = world.done(&["buildset", "stop", out.to_str().unwrap()]);
    let stopped = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(stopped.contains("is empty: nothing of a try is left in it"), "{stopped}");
    world.done(&["buildset", "stop", world.path("no/such/try").to_str().unwrap()]);
    assert!(!world.path("no").exists(), "who stops something makes nothing");
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left, []);
    assert_eq!(world.all().await, before, "production is as it was");
    assert_eq!(world.writes().len(), asked, "and nobody asked for anything else: {:#?}", world.writes());
}

async fn the_nearest_counts_and_what_was_abandoned_does_not(world: World) {
    let (lib, web) = (world.released("lib"), world.released("web"));
    let mut built = Vec::new();
    for (id, needs) in [("lib/1", &[][..]), ("lib/2", &["lib/1"]), ("lib/3", &["lib/2"]), ("lib/9", &[])] {
        world.opened(id, needs);
        built.push(world.candidate(id, "lib", false));
    }
    world.opened("web/4", &["lib/3"]);
    let start = |change: &str, more: &[&str]| {
        let out = world.path(&change.replace('/', "-"));
        let out = out.to_str().unwrap().to_owned();
        let mut arguments = vec!["buildset", "start", "--change", change, "--app", "web", "lib", "web", "--out", &out];
        arguments.extend(more);
        let output = world.done(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (Path::new(&out).to_owned(), said)
    };
    for (change, lib) in [("lib/3", &built[2]), ("web/4", &built[2]), ("lib/2", &built[1]), ("lib/1", &built[0])] {
        let (out, said) = start(change, &[]);
        assert!(said.contains(&format!("{} from {}", lib.stem(), change.replace("web/4", "lib/3"))), "{said}");
        let there = releases(&opened(&out).await, &["lib", "web"]).await;
        let names: Vec<&ReleaseName> = there.iter().map(|release| &release.name).collect();
        assert_eq!(names, [lib, &web], "{change}");
        world.done(&["buildset", "stop", out.to_str().unwrap()]);
    }
    // A new patchset without a candidate: what was tried of the one before counts no more.
    world.opened("lib/3", &[]);
    let said = world.refused(&["buildset", "start", "--change", "web/4", "--app", "lib"], 1);
    assert!(said.contains("`lib/3` has no candidate of its last patchset, 2"), "{said}");
    let (out, said) = start("web/4", &["--missing-ok"]);
    assert!(said.contains("`lib/3` has no candidate of its last patchset, 2: production's counts"), "{said}");
    let there = releases(&opened(&out).await, &["lib"]).await;
    assert_eq!(there[0].name, built[1], "the next one");
    world.done(&["buildset", "stop", out.to_str().unwrap()]);

    world.done(&["change", "abandoned", "lib/3"]);
    let (out, said) = start("web/4", &[]);
    assert!(said.contains("`lib/3`, which is needed, is abandoned: production's counts"), "{said}");
    let there = releases(&opened(&out).await, &["lib"]).await;
    assert_eq!(there.iter().map(|release| &release.name).collect::<Vec<_>>(), [&lib]);
    let said = world.refused(&["buildset", "start", "--change", "lib/3", "--app", "lib"], 1);
    assert!(said.contains("`lib/3` is abandoned, and only what is open is tried"), "{said}");
}

async fn what_is_not_as_it_was_recorded_ends_the_try(world: World) {
    world.released("web");
    world.opened("web/2", &[]);
    world.candidate("web/2", "web", false);
    let id = "web/2".parse().unwrap();
    let (mut generation, good) = world.change(&id).await;
    let out = world.path("overlay");
    let refused = || world.refused(&["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()], 1);
    for (what, expected) in [
        ("sha256", "not 0000000000000000000000000000000000000000000000000000000000000000 as was recorded"),
        ("size", "bytes, not 1 as was recorded"),
        ("path", "and would lie at `builds/web/2/"),
        ("app", "is recorded as one of `lib`"),
        ("release", "and would lie at"),
    ] {
        let mut bad = good.clone();
        let recorded = &mut bad.candidates[0];
        match what {
            "sha256" => recorded.sha256 = "0".repeat(64).parse().unwrap(),
            "size" => recorded.size = 1,
            "path" => recorded.path = recorded.path.replace("/2/", "/3/"),
            "app" => recorded.app = "lib".parse().unwrap(),
            _ => recorded.release = world.released("web"),
        }
        generation = world.candidates.write_change(&id, &bad, Some(generation)).await.unwrap();
        let said = refused();
        assert!(said.contains(expected), "{what}: {said}");
        assert!(!out.exists(), "{what}: nothing is left");
    }
    world.candidates.write_change(&id, &good, Some(generation)).await.unwrap();
    let candidate = world.only_candidate("web/2").await;
    world.candidates.delete_candidate(&candidate).await.unwrap();
    let said = refused();
    assert!(said.contains("the candidate is gone, by `release sweep` or with its bucket: build it again"), "{said}");

    // Other bytes of the same size, with the facts of the real ones.
    let path = candidate.place.path();
    let metadata = candidate.metadata.unwrap().to_metadata(candidate.place.release());
    let content = vec![0; usize::try_from(candidate.size).unwrap()];
    world.candidates.create(&path, content.into(), &metadata).await.unwrap();
    let said = refused();
    assert!(said.contains("its content has the SHA-256") && said.contains("as its metadata says"), "{said}");
    assert!(!out.exists());
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left, [], "a try that did not begin is no buildset");
}

async fn of_production_counts_its_channel_else_the_newest_release_that_nothing_speaks_against(world: World) {
    let (web, _, lib, later) =
        (world.released("web"), world.released("web"), world.released("lib"), world.released("lib"));
    let cron = world.released("cron");
    let mut channel =
        Channel::new(web.app().clone(), "prod".parse().unwrap(), "dev", "it was tried", world.production.now());
    channel.release = Some(web.clone());
    world.production.write_channel(&channel, None).await.unwrap();
    let (by, why, at) = ("dev".to_owned(), "it leaks".to_owned(), world.production.now());
    world.production.reject(&Rejection { schema: 1, release: later, by, why, at }).await.unwrap();
    world.opened("web/2", &[]);
    world.repo.write("version", "not committed").unwrap();
    world.done(&["-m", "dirty", "cron", "--time", "2026-11-20T20:00:00Z"]);

    let out = world.path("overlay");
    world.done(&["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()]);
    let there = releases(&opened(&out).await, &["cron", "lib", "web"]).await;
    assert_eq!(there.iter().map(|release| &release.name).collect::<Vec<_>>(), [&cron, &lib, &web]);
    world.done(&["buildset", "stop", out.to_str().unwrap()]);
    let said = world.refused(&["buildset", "start", "--change", "web/2", "--app", "lib", "nope"], 1);
    assert!(said.contains("production has no clean release of `nope`, and neither has a change"), "{said}");
    let said = world.refused(&["buildset", "start", "--change", "web/2", "--server", "web-1"], 1);
    assert!(said.contains("no server document `web-1` in the bucket"), "{said}");
}

#[tokio::test]
async fn of_the_changes_ahead_nothing_is_taken_where_nothing_is_required() {
    let world = World::over_directories().await;
    let lib = world.released("lib");
    world.opened("lib/1", &[]);
    let ahead = world.candidate("lib/1", "lib", false);
    world.opened("web/2", &["lib/1"]);
    let own = world.candidate("web/2", "web", false);
    let manifest = fs::read_to_string(world.repo.directory().join("release.toml")).unwrap();
    let with_none = manifest.replace("arch = \"all\"\n", "arch = \"all\"\nrequires = []\n");
    let out = world.path("overlay");
    for (manifest, expected) in [(&manifest, &ahead), (&with_none, &lib)] {
        world.repo.write("release.toml", manifest).unwrap();
        world.repo.commit("what is required").unwrap();
        world.done(&["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()]);
        let there = releases(&opened(&out).await, &["lib", "web"]).await;
        assert_eq!(there.iter().map(|release| &release.name).collect::<Vec<_>>(), [expected, &own]);
        world.done(&["buildset", "stop", out.to_str().unwrap()]);
    }
}
