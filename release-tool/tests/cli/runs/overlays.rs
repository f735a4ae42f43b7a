//! What a change has built, tried in the overlay of a buildset of it. `tests/scenarios/trying.rs` has a real agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use bucket::{Bucket, BucketOptions, BucketUrl, ServerName, Status, Timestamp};
use serde_json::{Value, json};

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
    runs::{changes::change_by, ensure_cleared, objects, results, run, said, stages, why},
};

const STAGES: &str = "      - { name: candidate, publish: { package: { name: web } } }
      - { name: staging, deploy: { server: stage-1, release: '${candidate.release}', wait: 30s } }
";

/// A change that is tried on `stage-1`, whose branch has these rules, and its buildset: its ID, and its directory.
fn tried(rules: &str) -> (Project, String, PathBuf) {
    let project = change_by(rules, &stages(STAGES));
    fs::create_dir_all(project.beside("bucket/server")).unwrap();
    fs::write(project.beside("bucket/server/stage-1.json"), "[\n  \"web/\"\n]\n").unwrap();
    let out = project.beside("overlay");
    let made = begun(&project, "acme/12", &out);
    (project, made["buildset"].as_str().unwrap().to_owned(), out)
}

/// What `buildset start` says of the one that it begins.
fn begun(project: &Project, change: &str, out: &Path) -> Value {
    let out = out.to_str().unwrap();
    project.json(&["buildset", "start", "--change", change, "--server", "stage-1", "--out", out, "--json"])
}

/// A run of the change, inside of a buildset.
fn inside(project: &Project, buildset: &str, more: &[&str]) -> Command {
    let mut command =
        run(project, &[&["--json", "-m", "try it", "--change", "acme/12", "--target", "main"], more].concat());
    command.env("PUSH_BUILDSET", buildset);
    command
}

fn server() -> ServerName {
    "stage-1".parse().unwrap()
}

/// An agent that reads an overlay, and always does what it says, as long as `stop` doesn't say anything.
fn agent(overlay: &Path, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bucket = Bucket::open(&BucketUrl::File(overlay.to_owned()), &BucketOptions::default()).await.unwrap();
        let (mut seen, mut reported, until) = (None, None, Instant::now() + Duration::from_mins(2));
        while !stop.load(Ordering::Relaxed) {
            assert!(Instant::now() < until, "the agent is not told to stop");
            if let Some((generation, document)) = bucket.server_document(&server()).await.unwrap()
                && seen != Some(generation)
            {
                let apps = document.releases().map(|release| {
                    // It installs only what it can read.
                    assert!(overlay.join("debs").join(release.as_str()).exists(), "{release}");
                    json!({ "app": release.app(), "desired": release, "installed": release, "package": release.app(),
                        "state": "converged", "since": Timestamp::now(), "reason": null })
                });
                let status = status(&json!({ "generation": generation, "error": null }), &apps.collect::<Vec<_>>());
                reported = Some(bucket.write_status(&status, reported).await.unwrap());
                seen = Some(generation);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

fn status(document: &Value, apps: &[Value]) -> Status {
    let now = Timestamp::now();
    serde_json::from_value(
        json!({ "server": server(), "machine": "m", "written": now, "state": "converged", "summary": "",
        "agent": { "version": "1", "started": now, "poll_seconds": 1 }, "document": document, "apps": apps }),
    )
    .unwrap()
}

#[test]
fn what_a_change_has_built_is_tried_in_its_overlay_which_is_then_as_before() {
    let (project, buildset, overlay) = tried("servers = [\"stage-*\"]");
    let document = overlay.join("server/stage-1.json");
    let (before, production) = (fs::read_to_string(&document).unwrap(), objects(&project, ""));
    let stop = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        let agent = scope.spawn(|| agent(&overlay, &stop));
        crate::runs::ends::wait_for("a report", || overlay.join("status/stage-1.json").exists());
        let output = inside(&project, &buildset, &[]).output().unwrap();
        stop.store(true, Ordering::Relaxed);
        agent.join().unwrap();
        output
    });
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    ensure_cleared(&project);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["candidate passed", "staging passed"]);
    assert_eq!(fs::read_to_string(&document).unwrap(), before);
    // It is a release there, and its history has what was tried.
    let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
    let candidate = found["pipelines"][0]["releases"][0]["candidate"].as_str().unwrap();
    assert_eq!(
        fs::read(overlay.join("debs").join(release)).unwrap(),
        fs::read(project.beside("ci").join(candidate)).unwrap()
    );
    let history = fs::read_dir(overlay.join("history/stage-1")).unwrap();
    let mut kinds: Vec<String> = history
        .map(|entry| serde_json::from_slice::<Value>(&fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["trial", "trial-end"]);
    // Production has seen nothing of it.
    assert_eq!(objects(&project, ""), production);

    // A report that is old is of an agent that reads something else by now. The candidate of the run before is taken again.
    let report = overlay.join("status/stage-1.json");
    let old = fs::read_to_string(&report).unwrap();
    let mut old: Value = serde_json::from_str(&old).unwrap();
    old["written"] = json!("2026-11-20T19:00:00Z");
    fs::write(&report, old.to_string()).unwrap();
    let output = inside(&project, &buildset, &[]).assert().code(1).get_output().clone();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let refused = why(&found, "staging");
    assert!(
        refused.contains("the agent of `stage-1` does not read the overlay any more: it last reported"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&document).unwrap(), before);
}

#[test]
fn where_nobody_reads_the_overlay_nothing_is_tried() {
    let (project, buildset, overlay) = tried("servers = [\"stage-*\"]");
    let output = inside(&project, &buildset, &[]).assert().code(1).get_output().clone();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let refused = why(&found, "staging");
    assert!(refused.contains("no agent of `stage-1` reads the overlay, as none has reported there"), "{refused}");
    assert!(refused.contains(&format!("bucket = \"file://{}\"", overlay.display())), "{refused}");
    assert!(!overlay.join("holds").exists() && !overlay.join("debs").exists());
}

#[test]
fn a_trial_outside_of_a_buildset_or_on_another_server_is_a_mistake_beside_all_others() {
    let (project, buildset, overlay) = tried("servers = [\"test-*\", \"ci\"]");
    let refused = |buildset: &str| {
        let output = inside(&project, buildset, &[]).assert().code(2).get_output().clone();
        said(&output)
    };
    let outside = ".pipeline/config.yaml:5:34: a change is tried on a server only inside of a buildset of it: `release buildset run \
                   --change acme/12 -- release run";
    // What the change says of servers itself gives it nothing.
    let elsewhere = ".pipeline/config.yaml:5:44: nothing of a change is tried on `stage-1`: `servers` in [pipeline] of the release.toml \
                     of `main` has `test-*`, `ci`";
    let found = refused("");
    assert!(found.contains(outside) && found.contains(elsewhere) && found.contains("2 mistakes in"), "{found}");
    let found = refused(&buildset);
    assert!(!found.contains(outside) && found.contains(elsewhere), "{found}");
    let found = refused("k3v9");
    assert!(found.contains("the buildset that this runs in is not known: the buildset `k3v9`"), "{found}");
    let shown = project.refused(&["run", "--dry-run", "--change", "acme/12", "--target", "main"], 2);
    assert!(shown.contains(outside), "{shown}");
    // With a mistake of another kind all are said at once.
    project.write(".pipeline/config.yaml", &stages(&STAGES.replace("name: web }", "name: wbe }")));
    project.commit();
    let found = refused("");
    assert!(found.contains("no package `wbe`") && found.contains("3 mistakes in"), "{found}");
    assert!(!overlay.join("holds").exists());
    // A buildset of another change is none of this one.
    project.json(&["change", "open", "acme/13", "--json"]);
    let other = begun(&project, "acme/13", &project.beside("other"));
    let found = refused(other["buildset"].as_str().unwrap());
    assert!(found.contains(outside), "{found}");
}

#[test]
fn a_branch_without_servers_lets_nothing_be_tried_and_a_server_that_is_a_value_is_checked_when_it_is_known() {
    let (project, buildset, _) = tried("");
    let output = inside(&project, &buildset, &[]).assert().code(2).get_output().clone();
    let none = "nothing of a change is tried on a server: the release.toml of `main` has no `servers` in [pipeline]";
    assert!(said(&output).contains(none), "{}", said(&output));

    let (project, buildset, overlay) = tried("servers = [\"test-*\"]");
    project.write(
        ".pipeline/config.yaml",
        &stages(&STAGES.replace("server: stage-1", "server: 'stage-${setup.project}'")),
    );
    project.commit();
    project.json(&["change", "open", "acme/12", "--json"]);
    let output = inside(&project, &buildset, &[]).assert().code(1).get_output().clone();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let refused = why(&found, "staging");
    assert!(refused.contains("nothing of a change is tried on `stage-acme`"), "{refused}");
    assert!(!overlay.join("holds").exists());
}

#[test]
fn a_run_whose_overlay_was_made_anew_meanwhile_leaves_that_alone() {
    let (project, buildset, overlay) = tried("servers = [\"stage-*\"]");
    let (testing, go) = (project.beside("testing"), project.beside("go"));
    let test = format!(
        "wait: 30s, test: [sh, -c, 'touch {}; while [ ! -e {} ]; do sleep 0.02; done']",
        testing.display(),
        go.display()
    );
    project.write(".pipeline/config.yaml", &stages(&STAGES.replace("wait: 30s", &test)));
    project.commit();
    project.json(&["change", "open", "acme/12", "--json"]);
    let stop = AtomicBool::new(false);
    let (output, anew) = thread::scope(|scope| {
        let agent = scope.spawn(|| agent(&overlay, &stop));
        crate::runs::ends::wait_for("a report", || overlay.join("status/stage-1.json").exists());
        let (mut first, mut second) = (inside(&project, &buildset, &[]), inside(&project, &buildset, &[]));
        let first = scope.spawn(move || first.output().unwrap());
        crate::runs::ends::wait_for("the test", || testing.exists());
        // Another one wants the server too, and waits for its turn.
        let waiting = project.beside("waiting");
        second.stderr(fs::File::create(&waiting).unwrap());
        let second = scope.spawn(move || second.output().unwrap());
        crate::runs::ends::wait_for("the second in turn", || {
            fs::read_to_string(&waiting).unwrap().contains("waits for its turn on stage-1")
        });
        stop.store(true, Ordering::Relaxed);
        agent.join().unwrap();
        project.release(&["buildset", "stop", overlay.to_str().unwrap()]).assert().success();
        begun(&project, "acme/12", &overlay);
        let anew = listing(&overlay);
        fs::write(&go, "").unwrap();
        first.join().unwrap();
        (second.join().unwrap(), anew)
    });
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    ensure_cleared(&project);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let refused = why(&found, "staging");
    assert!(refused.contains(&format!("it is not the overlay of the buildset `{buildset}` any more")), "{refused}");
    assert_eq!(listing(&overlay), anew);
}

/// All files of an overlay but what writers leave, each with what is in it.
fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if !path.ends_with(".push/lock") {
                let content = fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}
