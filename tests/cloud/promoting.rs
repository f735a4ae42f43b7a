//! Candidates and promotion on Google's storage: what is sent, who may, and that whoever is killed finishes it.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use bucket::ReleaseName;
use harness::gcs::{Kind, Request, Right};
use serde_json::Value;

use crate::trying::World;

const PRODUCTION: &str = "acme-push";
const CANDIDATES: &str = "acme-ci";

const ALL: [Right; 3] = [Right::Read, Right::Create, Right::Delete];

const GATE: [&str; 7] = ["candidate", "-m", "gated", "web", "--change", "web/2", "--gate"];
const PROMOTE: [&str; 3] = ["promote", "--change", "web/2"];

/// A world with a change that was built to be promoted and is on the branch as it is: what its candidate is called.
async fn gated() -> (World, ReleaseName) {
    let world = World::over_google().await;
    world.opened("web/2", &[]);
    let gated = world.json(&GATE);
    world.done(&["change", "merged", "web/2"]);
    (world, gated[0]["release"].as_str().unwrap().parse().unwrap())
}

/// The requests to production since so many.
fn to_production(world: &World, since: usize) -> Vec<Request> {
    let mut requests = world.gcs.as_ref().unwrap().requests().split_off(since);
    requests.retain(|request| request.bucket == PRODUCTION);
    requests
}

fn requests(world: &World) -> usize {
    world.gcs.as_ref().unwrap().requests().len()
}

/// What is in production, by its name.
async fn names(world: &World) -> Vec<String> {
    world.all().await.into_iter().map(|info| info.path.to_string()).collect()
}

/// All is as it is to be after a promotion.
async fn is_promoted(world: &World, release: &ReleaseName, moment: &str) {
    assert_eq!(names(world).await, [format!("debs/{release}")], "{moment}");
    let promoted = world.production.release(release).await.unwrap().unwrap().promoted.expect("it was promoted");
    assert_eq!((promoted.change.to_string(), promoted.patchset), ("web/2".to_owned(), 1), "{moment}");
    let (_, change) = world.change(&"web/2".parse().unwrap()).await;
    assert_eq!(change.candidates[0].landed.as_ref(), Some(&promoted.landed), "{moment}");
}

#[tokio::test]
async fn an_ungated_candidate_sends_production_nothing_and_a_promotion_no_content() {
    let world = World::over_google().await;
    world.opened("web/2", &[]);
    let before = requests(&world);
    world.done(&["candidate", "-m", "to try", "--change", "web/2"]);
    assert_eq!(to_production(&world, before).len(), 0, "not even to read");
    let gated = world.json(&GATE);
    let release: ReleaseName = gated[0]["release"].as_str().unwrap().parse().unwrap();
    let written: BTreeSet<String> = world.writes().into_iter().map(|request| request.object).collect();
    assert_eq!(written, BTreeSet::from([format!("candidates/web/2/{release}")]));

    world.done(&["change", "merged", "web/2"]);
    let (before, sum) = (requests(&world), gated[0]["sha256"].clone());
    let promoted = world.json(&PROMOTE);
    assert_eq!((&promoted[0]["release"], &promoted[0]["sha256"]), (&gated[0]["release"], &sum));
    let mut sent = to_production(&world, before);
    assert_eq!(sent.remove(0).object, "push-overlay", "whether it is production at all");
    let kinds: Vec<Kind> = sent.iter().map(|request| request.kind).collect();
    assert_eq!(kinds, [Kind::Head, Kind::Head, Kind::Rewrite, Kind::Head, Kind::Delete]);
    let found = world.production.release(&release).await.unwrap().unwrap();
    assert_eq!(found.metadata.unwrap().sha256.to_string(), sum.as_str().unwrap());

    let before = requests(&world);
    assert_eq!(world.json(&PROMOTE), promoted);
    let again = world.gcs.as_ref().unwrap().requests().split_off(before);
    let is_read = |request: &Request| matches!(request.kind, Kind::Get | Kind::Head | Kind::List);
    assert!(again.iter().all(is_read), "{again:#?}");
}

#[tokio::test]
async fn whoever_is_killed_after_any_request_promotes_by_the_same_command() {
    let (world, release) = gated().await;
    let before = requests(&world);
    world.done(&PROMOTE);
    let all = requests(&world) - before;
    is_promoted(&world, &release, "nobody was killed").await;
    for answered in 0..all {
        let (world, release) = gated().await;
        let (gcs, before) = (world.gcs.as_ref().unwrap(), requests(&world));
        gcs.fall_silent_after(answered);
        let mut command = world.release(&PROMOTE);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // It was carried out, and nobody heard of it.
        let is_done = |request: &Request| request.status != 0;
        gcs.until(|requests| requests[before..].iter().filter(|request| is_done(request)).count() > answered).await;
        process.kill().unwrap();
        process.wait().unwrap();
        gcs.heal();
        world.done(&PROMOTE);
        is_promoted(&world, &release, &format!("killed after request {}", answered + 1)).await;
    }
    assert!(all >= 8, "only {all} requests");
}

/// A key of an account that signs its own tokens.
fn key(world: &World, account: &str) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud/fixtures/service-account.json");
    let mut key: Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    key["client_email"] = account.into();
    let path = world.path(account);
    std::fs::write(&path, key.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What an account's command says, and whether it succeeded.
fn by(world: &World, account: &str, arguments: &[&str]) -> (bool, String) {
    let output = world.release(arguments).env("PUSH_GCS_CREDENTIALS", key(world, account)).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn refused(world: &World, account: &str, arguments: &[&str], words: [&str; 2]) {
    let (succeeded, said) = by(world, account, arguments);
    assert!(!succeeded && words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
}

#[tokio::test]
async fn who_may_try_only_neither_gates_nor_promotes_and_is_told_which_right_is_missing() {
    let world = World::over_google().await;
    let gcs = world.gcs.as_ref().unwrap();
    for bucket in [PRODUCTION, CANDIDATES] {
        gcs.grant("anonymous", &ALL, bucket, "");
    }
    let (tries, gate, promote) = ("push-try@acme", "push-gate@acme", "push-promote@acme");
    for account in [tries, gate, promote] {
        gcs.grant(account, &ALL, CANDIDATES, "");
        gcs.grant(account, &[Right::Read], PRODUCTION, "");
    }
    gcs.grant(gate, &[Right::Create], PRODUCTION, "candidates/");
    gcs.grant(promote, &[Right::Create], PRODUCTION, "debs/");
    gcs.grant(promote, &ALL, PRODUCTION, "candidates/");

    let out = world.path("overlay");
    world.released("lib");
    world.opened("web/2", &[]);
    for arguments in [
        &["change", "open", "web/2"][..],
        &["candidate", "-m", "to try", "web", "--change", "web/2"],
        &["buildset", "start", "--change", "web/2", "--out", out.to_str().unwrap()],
        &["buildset", "stop", out.to_str().unwrap()],
        &["change", "show", "web/2"],
    ] {
        let (succeeded, said) = by(&world, tries, arguments);
        assert!(succeeded, "{arguments:?}: {said}");
    }
    let create = "push-try@acme does not have storage.objects.create access";
    refused(&world, tries, &GATE, [create, "not allowed to write `candidates/web/2/web/"]);
    let (succeeded, said) = by(&world, gate, &GATE);
    assert!(succeeded, "{said}");
    // Whoever may try may say of a change whatever they like.
    assert!(by(&world, tries, &["change", "merged", "web/2"]).0);
    let before = names(&world).await;
    refused(&world, tries, &PROMOTE, [create, "not allowed to write `debs/web/"]);
    refused(&world, gate, &PROMOTE, ["push-gate@acme does not have storage.objects.create access", "`debs/web/"]);
    assert_eq!(names(&world).await, before, "nothing was written");
    let (succeeded, said) = by(&world, promote, &PROMOTE);
    assert!(succeeded, "{said}");
    let left = names(&world).await;
    assert!(left.len() == 2 && left.iter().all(|name| name.starts_with("debs/")), "{left:?}");
}
