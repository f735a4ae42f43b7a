//! `release sweep`: what is of no use any more goes, and nothing else, by the bucket's clock.

use std::{fs, path::Path, process::Stdio, time::Duration};

use bucket::{CandidatePlace, ReleaseName};
use futures_util::TryStreamExt as _;
use harness::gcs::{Fault, Kind};
use jiff::SignedDuration;
use serde_json::Value;

use crate::trying::World;

const HOUR: Duration = Duration::from_hours(1);

/// A world in which time passes.
struct Aging {
    world: World,
    passed: Duration,
}

impl Aging {
    fn new(world: World) -> Self {
        Self { world, passed: Duration::ZERO }
    }

    /// Has time pass until so many hours are over: the fake's clock goes on, and of a directory all files become older.
    fn at(&mut self, hours: u32) {
        let more = (HOUR * hours).saturating_sub(self.passed);
        self.passed += more;
        match &self.world.gcs {
            Some(gcs) => gcs.set_clock_ahead(SignedDuration::try_from(self.passed).unwrap()),
            None => [&self.world.production_directory(), &self.world.ci()].into_iter().for_each(|of| age(of, more)),
        }
    }

    fn sweep(&self, more: &[&str]) -> Value {
        self.world.json(&[&["sweep"], more].concat())
    }

    /// The candidates that are left, as `change app`, in order, and whether each is gated.
    async fn left(&self) -> Vec<String> {
        let shown = |place: &CandidatePlace| {
            let gated = if matches!(place, CandidatePlace::Gated { .. }) { " gated" } else { "" };
            format!("{} {}{gated}", place.change(), place.release().app())
        };
        let built: Vec<_> = self.world.candidates.built_candidates().try_collect().await.unwrap();
        let gated: Vec<_> = self.world.production.gated_candidates().try_collect().await.unwrap();
        built.iter().chain(&gated).map(|candidate| shown(&candidate.place)).collect()
    }
}

/// Makes all objects of a directory older. What it keeps of them for itself has no age.
fn age(directory: &Path, by: Duration) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            age(&path, by);
        } else {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(file.metadata().unwrap().modified().unwrap() - by).unwrap();
        }
    }
}

/// Makes a release of a gated candidate, as a promotion that was killed before it could delete that.
async fn half_promoted(world: &World, id: &str, release: &ReleaseName) {
    let place = CandidatePlace::Gated { change: id.parse().unwrap(), release: release.clone() };
    let candidate = world.production.candidate(&place).await.unwrap().unwrap();
    let facts = candidate.metadata.unwrap().release.to_metadata(release);
    let to = format!("debs/{release}").parse().unwrap();
    world.production.copy(&place.path(), candidate.generation, &to, &facts).await.unwrap();
}

async fn what_is_of_no_use_goes_by_the_buckets_clock(world: World) {
    let kept = world.released("web");
    for (id, app, gate) in [
        ("web/1", "web", false),
        ("web/2", "web", false),
        ("lib/3", "lib", false),
        ("lib/4", "lib", true),
        ("cron/5", "cron", true),
        ("lib/6", "lib", true),
    ] {
        world.opened(id, &[]);
        let release = world.candidate(id, app, gate);
        match id {
            "cron/5" => {
                half_promoted(&world, id, &release).await;
                world.done(&["change", "merged", id]);
            }
            "lib/4" => drop(world.done(&["change", "merged", id])),
            "lib/3" => drop(world.done(&["change", "abandoned", id])),
            _ => {}
        }
    }
    let mut aging = Aging::new(world);
    let all = ["lib/3 lib", "web/1 web", "web/2 web", "cron/5 cron gated", "lib/4 lib gated", "lib/6 lib gated"];
    let none = aging.sweep(&["--older-than", "1s"]);
    assert_eq!((&none["deleted"], &none["seen"]), (&Value::Array(Vec::new()), &6.into()), "none is an hour old");
    assert_eq!(aging.left().await, all);

    aging.at(23);
    let planned = aging.sweep(&["--dry-run"]);
    assert_eq!(
        (aging.left().await, planned["deleted"].as_array().unwrap().len()),
        (all.map(str::to_owned).to_vec(), 2)
    );
    let swept = aging.sweep(&[]);
    assert_eq!(swept["deleted"], planned["deleted"]);
    let why: Vec<&str> =
        swept["deleted"].as_array().unwrap().iter().map(|gone| gone["why"].as_str().unwrap()).collect();
    assert_eq!(why, ["its change was abandoned", "its change was promoted"]);
    assert_eq!(aging.left().await, ["web/1 web", "web/2 web", "lib/4 lib gated", "lib/6 lib gated"]);
    // As time goes on, the youngest is another one.
    aging.world.opened("web/7", &[]);
    aging.world.candidate("web/7", "web", false);

    aging.at(25);
    assert_eq!(aging.sweep(&["--older-than", "7d"])["deleted"].as_array().unwrap().len(), 0);
    aging.sweep(&[]);
    assert_eq!(aging.left().await, ["web/7 web", "lib/4 lib gated", "lib/6 lib gated"], "one is two hours old");
    aging.at(73);
    aging.sweep(&[]);
    assert_eq!(
        aging.left().await,
        ["lib/4 lib gated", "lib/6 lib gated"],
        "a promotion that failed can be made up for"
    );
    aging.at(31 * 24);
    aging.sweep(&[]);
    assert_eq!(aging.left().await, [] as [&str; 0]);
    assert_eq!(aging.sweep(&[])["deleted"].as_array().unwrap().len(), 0, "the same again changes nothing");
    let released: Vec<_> = aging.world.production.releases(kept.app()).try_collect().await.unwrap();
    assert_eq!(released.len(), 1, "a release is never swept away");
}

#[tokio::test]
async fn over_directories_what_is_of_no_use_goes() {
    what_is_of_no_use_goes_by_the_buckets_clock(World::over_directories().await).await;
}

#[tokio::test]
async fn over_google_what_is_of_no_use_goes() {
    what_is_of_no_use_goes_by_the_buckets_clock(World::over_google().await).await;
}

#[tokio::test]
async fn what_cannot_be_deleted_is_told_and_keeps_nothing_else() {
    let world = World::over_google().await;
    for id in ["web/1", "web/2", "web/3"] {
        world.opened(id, &[]);
        world.candidate(id, "web", false);
    }
    world.opened("web/4", &[]);
    world.candidate("web/4", "web", true);
    let aging = {
        let mut aging = Aging::new(world);
        aging.at(25);
        aging
    };
    let gcs = aging.world.gcs.as_ref().unwrap();
    gcs.fail(Kind::Delete, "builds/web/2/", Fault::Status(403, None));
    gcs.fail(Kind::List, "candidates/", Fault::Status(403, None));
    let output = aging.world.release(&["sweep"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("warning: could not list the gated candidates: not allowed to list `candidates/`"), "{said}");
    assert!(said.contains("warning: could not delete builds/web/2/"), "{said}");
    assert!(said.contains("error: 2 failed, and will be tried again by the next sweep"), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.lines().filter(|line| line.ends_with(".deb: 25 h old")).count(), 2, "{printed}");
    gcs.heal();
    assert_eq!(aging.left().await, ["web/2 web", "web/4 web gated"]);
    let deletes = gcs.requests().into_iter().filter(|request| request.kind == Kind::Delete);
    assert!(
        deletes.clone().count() >= 3 && deletes.clone().all(|request| request.query.contains_key("ifGenerationMatch"))
    );
}

#[tokio::test]
async fn an_overlay_that_was_left_is_found_on_its_machine() {
    let world = World::over_directories().await;
    world.released("lib");
    world.opened("web/2", &[]);
    world.candidate("web/2", "web", false);
    let (here, there) = (world.path("here"), world.path("there"));
    for (out, host) in [(&here, "build-1"), (&there, "build-2")] {
        let arguments = ["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()];
        let mut start = world.release(&arguments);
        assert!(start.env("PUSH_HOST", host).stdout(Stdio::null()).status().unwrap().success());
    }
    let mut aging = Aging::new(world);
    aging.at(23);
    aging.sweep(&[]);
    assert!(here.exists() && there.exists());
    aging.at(25);
    // What a person has put there meanwhile is no overlay any more.
    let mark = fs::read(here.join("push-overlay")).unwrap();
    fs::remove_file(here.join("push-overlay")).unwrap();
    let said = aging.world.release(&["sweep"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("it is not removed, because it has no file `push-overlay`"), "{said}");
    assert!(here.join("debs").exists());
    fs::write(here.join("push-overlay"), mark).unwrap();
    let swept = aging.sweep(&[]);
    let what = swept["deleted"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("the overlay /") && what.ends_with("/here"), "{swept}");
    assert!(!here.exists() && there.exists(), "the other machine's is its own business");
    let left: Vec<_> = aging.world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
    aging.at(31 * 24);
    aging.sweep(&[]);
    let left: Vec<_> = aging.world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left, [], "after a month nobody waits for that machine");
}
