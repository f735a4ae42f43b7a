//! `release sweep`: what is of no use any more goes, and nothing else, by the bucket's clock.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bucket::{ArtifactPlace, Buildset, CandidatePlace, Change, ChangeState, ReleaseName, Run, RunPlace, SourceFile};
use futures_util::TryStreamExt as _;
use harness::gcs::{FakeGcs, Fault, Kind};
use jiff::SignedDuration;
use serde_json::{Value, json};

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
            None => [&self.world.production_directory(), &self.world.ci()].into_iter().for_each(|of| age(of, of, more)),
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

/// Makes all objects of a bucket below a directory older, with what is said of them, which is kept by that time.
fn age(bucket: &Path, directory: &Path, by: Duration) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            age(bucket, &path, by);
        } else {
            let file = fs::File::options().write(true).open(&path).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            file.set_modified(before - by).unwrap();
            let said = bucket.join(".push/meta").join(path.strip_prefix(bucket).unwrap());
            let at = |time: SystemTime| said.join(time.duration_since(UNIX_EPOCH).unwrap().as_micros().to_string());
            if at(before).exists() {
                fs::rename(at(before), at(before - by)).unwrap();
            }
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
    let swept = aging.sweep(&[]);
    let what = swept["deleted"][1]["what"].as_str().unwrap();
    assert!(what.starts_with("the overlay /") && what.ends_with("/here"), "{swept}");
    assert!(!here.exists() && there.exists(), "the other machine's is its own business");
    let left: Vec<_> = aging.world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
    aging.at(31 * 24);
    aging.sweep(&[]);
    let left: Vec<_> = aging.world.candidates.buildsets().try_collect().await.unwrap();
    assert_eq!(left, [], "after a month nobody waits for that machine");
}

async fn what_lies_among_candidates_and_is_none_is_named_and_goes_after_a_month(world: World) {
    let released = world.released("web");
    world.opened("web/1", &[]);
    let paths = ["builds/notes.txt", "builds/web/1/k3v9/web/web.deb", "candidates/web/1/web/later.oci"];
    let buckets = [&world.candidates, &world.candidates, &world.production];
    for (bucket, path) in buckets.into_iter().zip(paths) {
        bucket.create(&path.parse().unwrap(), "?".into(), &<_>::default()).await.unwrap();
    }
    let shown = paths.map(|path| format!("{path} (no candidate)"));
    let mut aging = Aging::new(world);
    let left = async |aging: &Aging| {
        let built: Vec<_> = aging.world.candidates.built_objects().try_collect().await.unwrap();
        let gated: Vec<_> = aging.world.production.gated_objects().try_collect().await.unwrap();
        built.into_iter().chain(gated).map(|info| info.path.to_string()).collect::<Vec<_>>()
    };
    aging.at(30 * 24 - 1);
    let kept = aging.sweep(&[]);
    assert_eq!((&kept["strays"], &kept["deleted"]), (&json!(shown), &json!([])), "{kept}");
    let said = aging.world.done(&["sweep"]).stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("note: builds/notes.txt (no candidate) stays until it is 30 d old"), "{said}");
    // One is replaced, and young again.
    let again = paths[0].parse().unwrap();
    let seen = aging.world.candidates.head(&again).await.unwrap().unwrap().generation;
    aging.world.candidates.replace(&again, "!".into(), &<_>::default(), seen).await.unwrap();
    aging.at(30 * 24 + 1);
    let planned = aging.sweep(&["--dry-run"]);
    assert_eq!(left(&aging).await, paths);
    let swept = aging.sweep(&[]);
    assert_eq!(swept["deleted"], planned["deleted"]);
    let gone: Vec<_> = swept["deleted"].as_array().unwrap().iter().map(|gone| gone["what"].as_str().unwrap()).collect();
    assert_eq!((gone, &swept["strays"]), (vec![shown[1].as_str(), &shown[2]], &json!([shown[0]])), "{swept}");
    assert_eq!(left(&aging).await, [paths[0]]);
    let requests = aging.world.gcs.iter().flat_map(FakeGcs::requests);
    let mut deletes = requests.filter(|request| request.kind == Kind::Delete);
    assert!(deletes.all(|request| request.query.contains_key("ifGenerationMatch")));
    assert!(aging.world.candidates.change(&"web/1".parse().unwrap()).await.unwrap().is_some(), "a change stays");
    assert!(aging.world.production.release(&released).await.unwrap().is_some());
}

#[tokio::test]
async fn over_directories_what_is_no_candidate_goes_after_a_month() {
    what_lies_among_candidates_and_is_none_is_named_and_goes_after_a_month(World::over_directories().await).await;
}

#[tokio::test]
async fn over_google_what_is_no_candidate_goes_after_a_month() {
    what_lies_among_candidates_and_is_none_is_named_and_goes_after_a_month(World::over_google().await).await;
}

async fn artifacts_of_runs_go_after_a_month_and_their_records_stay(world: World) {
    let file = world.path("report.xml");
    fs::write(&file, "all well").unwrap();
    let file = SourceFile::read(&file).unwrap();
    for (bucket, project) in [(&world.candidates, "web"), (&world.production, "acme")] {
        let run: Run = serde_json::from_value(json!({
            "schema": 1, "project": project, "run": "20261126T233000Z-k3v9", "commit": "a".repeat(40), "dirty": false,
            "by": "dev@ci", "host": "ci", "began": "2026-11-26T23:30:00Z", "result": "passed", "pipelines": [],
        }))
        .unwrap();
        bucket.begin_run(&run).await.unwrap();
        let place = ArtifactPlace {
            run: run.place().unwrap(),
            pipeline: "web".parse().unwrap(),
            stage: "unit".parse().unwrap(),
            path: ".cache/report.xml".parse().unwrap(),
        };
        bucket.upload_artifact(&place, &file, &|_| ()).await.unwrap();
    }
    world.production.create(&"artifacts/notes.txt".parse().unwrap(), "?".into(), &<_>::default()).await.unwrap();
    let mut aging = Aging::new(world);
    aging.at(30 * 24 - 1);
    assert_eq!(aging.sweep(&["--older-than", "1h"])["deleted"], json!([]));
    aging.at(30 * 24 + 1);
    assert_eq!(aging.sweep(&["--older-than", "60d"])["deleted"], json!([]));
    let planned = aging.sweep(&["--dry-run"]);
    let swept = aging.sweep(&[]);
    assert_eq!(swept["deleted"], planned["deleted"]);
    let gone: Vec<_> = swept["deleted"].as_array().unwrap().iter().map(|gone| gone["what"].as_str().unwrap()).collect();
    let of = |project: &str| format!("artifacts/{project}/20261126T233000Z-k3v9/web/unit/%2Ecache/report.xml");
    assert_eq!(gone, [of("web"), of("acme"), "artifacts/notes.txt".to_owned()]);
    for (bucket, project) in [(&aging.world.candidates, "web"), (&aging.world.production, "acme")] {
        let place = RunPlace::new(project, "20261126T233000Z-k3v9".parse().unwrap()).unwrap();
        let left: Vec<_> = bucket.artifacts(&place).try_collect().await.unwrap();
        assert_eq!((left, bucket.run(&place).await.unwrap().is_some()), (Vec::new(), true), "{project}");
    }
    let requests = aging.world.gcs.iter().flat_map(FakeGcs::requests);
    let mut deletes = requests.filter(|request| request.kind == Kind::Delete);
    assert!(deletes.all(|request| request.query.contains_key("ifGenerationMatch")));
}

#[tokio::test]
async fn over_directories_artifacts_go_after_a_month() {
    artifacts_of_runs_go_after_a_month_and_their_records_stay(World::over_directories().await).await;
}

#[tokio::test]
async fn over_google_artifacts_go_after_a_month() {
    artifacts_of_runs_go_after_a_month_and_their_records_stay(World::over_google().await).await;
}

#[tokio::test]
async fn where_there_is_no_candidate_bucket_artifacts_go_all_the_same_and_nothing_else() {
    let world = World::over_google().await;
    let manifest = fs::read_to_string(world.repo.directory().join("release.toml")).unwrap();
    let (before, rest) = manifest.split_once("[candidates]").unwrap();
    let (_, packages) = rest.split_once("[package.").unwrap();
    world.repo.write("release.toml", &format!("{before}[package.{packages}")).unwrap();
    let gcs = world.gcs.as_ref().unwrap();
    for (bucket, path) in [("acme-push", "artifacts/a"), ("acme-push", "candidates/a"), ("acme-ci", "artifacts/b")] {
        gcs.put(bucket, path, "?");
    }
    gcs.set_clock_ahead(SignedDuration::from_hours(30 * 24 + 1));
    let output = world.done(&["sweep"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "artifacts/a: 30 d old\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("only artifacts of runs are looked at") && said.contains("deleted 1 of 1 object"), "{said}");
    assert!(gcs.requests().iter().all(|request| request.bucket != "acme-ci" || request.kind != Kind::Delete));
}

#[tokio::test]
async fn of_many_objects_that_are_no_candidates_some_are_named() {
    let world = World::over_google().await;
    for number in 0..22 {
        world.gcs.as_ref().unwrap().put("acme-ci", &format!("builds/{number:02}"), "?");
    }
    let said = world.done(&["sweep"]).stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(said.matches(" (no candidate) stays until it is 30 d old").count(), 20, "{said}");
    assert!(said.contains("note: 2 objects besides are no candidates either"), "{said}");
    assert_eq!(world.json(&["sweep"])["strays"].as_array().unwrap().len(), 22);
}

/// A world with one overlay, whose record is a day old, and that record.
async fn with_overlay(out: &str) -> (Aging, Buildset) {
    let world = World::over_directories().await;
    world.released("lib");
    world.opened("web/2", &[]);
    world.candidate("web/2", "web", false);
    world.done(&["buildset", "start", "--change", "web/2", "--out", world.path(out).to_str().unwrap()]);
    let left: Vec<_> = world.candidates.buildsets().try_collect().await.unwrap();
    let (_, record) = world.candidates.buildset(&left[0].id).await.unwrap().unwrap();
    (Aging::new(world), record)
}

/// The buildsets that are recorded.
async fn recorded(aging: &Aging) -> Vec<String> {
    let left: Vec<_> = aging.world.candidates.buildsets().try_collect().await.unwrap();
    left.iter().map(|summary| summary.id.to_string()).collect()
}

#[tokio::test]
async fn what_is_no_overlay_of_the_record_stays_and_the_record_goes() {
    let (mut aging, real) = with_overlay("real").await;
    let (empty, theirs) = (aging.world.path("empty"), aging.world.path("theirs"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("file"), "precious").unwrap();
    let real_directory = real.directory.clone();
    let directories = [("a", empty.to_str().unwrap()), ("b", theirs.to_str().unwrap()), ("c", &real_directory)];
    for (id, directory) in directories {
        let forged = Buildset { buildset: id.parse().unwrap(), directory: directory.to_owned(), ..real.clone() };
        aging.world.candidates.record_buildset(&forged).await.unwrap();
    }
    aging.at(25);
    // The real one began again an hour ago, in a directory that somebody else's record names.
    aging.world.candidates.delete_buildset(&real.buildset, generation(&aging, &real).await).await.unwrap();
    aging.world.candidates.record_buildset(&real).await.unwrap();
    let output = aging.world.done(&["sweep"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("stays as it is: it has no file `push-overlay`").count(), 2, "{said}");
    assert_eq!(said.matches(&format!("it belongs to the buildset `{}` by now", real.buildset)).count(), 1, "{said}");
    assert!(empty.exists() && theirs.join("file").exists() && Path::new(&real_directory).join("debs").exists());
    assert_eq!(recorded(&aging).await, [real.buildset.as_str()]);
}

async fn generation(aging: &Aging, of: &Buildset) -> bucket::Generation {
    aging.world.candidates.buildset(&of.buildset).await.unwrap().unwrap().0
}

#[tokio::test]
async fn another_machine_of_the_same_name_keeps_its_overlays() {
    let (mut aging, real) = with_overlay("there").await;
    let cloned = Buildset { machine: Some("another".to_owned()), ..real.clone() };
    aging.world.candidates.delete_buildset(&real.buildset, generation(&aging, &real).await).await.unwrap();
    aging.world.candidates.record_buildset(&cloned).await.unwrap();
    aging.at(25);
    aging.sweep(&[]);
    assert_eq!(recorded(&aging).await, [real.buildset.as_str()]);
    assert!(aging.world.path("there/debs").exists(), "also where both see it on one share");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_and_goes_after_a_month() {
    let (mut aging, real) = with_overlay("here").await;
    let path = "buildsets/unreadable.json".parse().unwrap();
    aging.world.candidates.create(&path, "{".into(), &<_>::default()).await.unwrap();
    aging.at(25);
    let output = aging.world.done(&["sweep"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("warning: could not read the buildset `unreadable`"), "{said}");
    assert!(said.contains("deleted 2 of 3 objects"), "the overlay {} and what was built: {said}", real.directory);
    assert_eq!(recorded(&aging).await, ["unreadable"]);
    aging.at(31 * 24);
    let swept = aging.sweep(&[]);
    assert_eq!(swept["deleted"][0]["what"], "the unreadable record of the buildset unreadable");
    assert_eq!(recorded(&aging).await, [] as [&str; 0]);
}

#[tokio::test]
async fn whoever_may_only_try_makes_nothing_go_that_is_gated() {
    let world = World::over_directories().await;
    let released = world.released("web");
    for (id, app) in [("web/1", "web"), ("lib/2", "lib"), ("cron/3", "cron")] {
        world.opened(id, &[]);
        world.candidate(id, app, true);
    }
    let forge = async |id: &str, by: &dyn Fn(&mut Change)| {
        let id = id.parse().unwrap();
        let (generation, mut change) = world.change(&id).await;
        by(&mut change);
        world.candidates.write_change(&id, &change, Some(generation)).await.unwrap();
    };
    forge("lib/2", &|change| change.state = ChangeState::Abandoned).await;
    // As if what is released were all that the change has.
    let facts = world.production.release(&released).await.unwrap().unwrap();
    forge("web/1", &|change| {
        change.state = ChangeState::Merged;
        change.candidates[0].release = released.clone();
        change.candidates[0].size = facts.size;
        change.candidates[0].sha256 = facts.metadata.clone().unwrap().sha256;
    })
    .await;
    // And a release of its name, but with other bytes.
    let gated: Vec<_> = world.production.gated_candidates().try_collect().await.unwrap();
    let cron = gated.iter().find(|candidate| candidate.place.release().app().as_str() == "cron").unwrap();
    let mut other = cron.metadata.clone().unwrap().release;
    other.sha256 = [7; 32].into();
    let to = format!("debs/{}", cron.place.release()).parse().unwrap();
    let metadata = other.to_metadata(cron.place.release());
    world.production.create(&to, "other".into(), &metadata).await.unwrap();
    forge("cron/3", &|change| change.state = ChangeState::Merged).await;

    let mut aging = Aging::new(world);
    let all = ["cron/3 cron gated", "lib/2 lib gated", "web/1 web gated"];
    aging.at(2);
    aging.sweep(&[]);
    assert_eq!(aging.left().await, all);
    aging.at(25);
    let swept = aging.sweep(&[]);
    assert_eq!(swept["deleted"][0]["why"], "its change was abandoned");
    assert_eq!(aging.left().await, ["cron/3 cron gated", "web/1 web gated"]);
}
