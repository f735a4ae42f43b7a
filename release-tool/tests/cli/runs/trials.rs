//! Releases that a run tries on servers, and channels that it moves. No agent is there: `tests/scenarios/trials.rs` has one.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    outcome::Run as _,
    project::{Project, stdout, tool},
    runs::{
        ends::{started, wait_for},
        ensure_cleared, objects, project, ran, results, run, said, why,
    },
};

/// What the server's document says before.
const DOCUMENT: &str = "[\n  \"web\",\n  \"api/\"\n]\n";

/// A pipeline that releases `web`, and then does something with that.
fn releasing(then: &str) -> Project {
    let config = format!(
        "pipelines:\n  web:\n    stages:\n      - {{ name: candidate, publish: {{ package: {{ name: web }} }} }}\n      - {{ name: then, {then} }}\n"
    );
    let project = project("", &config, "variants: {}\n");
    fs::create_dir_all(project.beside("bucket/server")).unwrap();
    fs::write(project.beside("bucket/server/stage-1.json"), DOCUMENT).unwrap();
    project
}

fn policy(project: &Project, rules: &str) -> String {
    let file = project.beside("rules");
    fs::write(&file, rules).unwrap();
    file.display().to_string()
}

fn read(project: &Project, object: &str) -> Value {
    serde_json::from_slice(&fs::read(project.beside(&format!("bucket/{object}"))).unwrap()).unwrap()
}

/// What the pushes to the server were for, oldest first.
fn pushed(project: &Project) -> Vec<(String, String)> {
    let entries = objects(project, "history/stage-1/").into_iter().map(|path| read(project, &path));
    let mut entries: Vec<Value> = entries.collect();
    entries.sort_by_key(|entry| entry["generation"].as_u64());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(&entry["kind"]), text(&entry["why"]))).collect()
}

#[test]
fn whoever_ends_a_run_has_its_trial_taken_back() {
    let project = releasing("deploy: { server: stage-1, release: '${candidate.release}' }");
    let document = project.beside("bucket/server/stage-1.json");
    let child = started(&project, &["-m", "x", "--json"], &project.beside("bucket/holds/stage-1.json"));
    wait_for("what is tried", || fs::read_to_string(&document).unwrap().contains("\"web/web:dev@build-1:"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    ensure_cleared(&project);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["candidate passed", "then stopped"], "{}", said(&output));
    assert_eq!(fs::read_to_string(document).unwrap(), DOCUMENT);
    assert_eq!(read(&project, "holds/stage-1.json")["holds"], json!([]));
    let why = || "pipeline web, stage then".to_owned();
    assert_eq!(pushed(&project), [("trial".to_owned(), why()), ("trial-end".to_owned(), why())]);
}

#[test]
fn an_agent_that_says_nothing_within_the_time_fails_the_stage_and_what_was_there_is_put_back() {
    let project = releasing("deploy: { server: stage-1, release: '${candidate.release}', wait: 1s }");
    let (found, said) = ran(&project, &["-m", "x"], 1);
    let why = why(&found, "then");
    assert!(why.contains("timed out") && why.contains("(last: the agent has never reported)"), "{why}");
    assert!(said.contains("then | put back what stage-1 had before"), "{said}");
    assert_eq!(fs::read_to_string(project.beside("bucket/server/stage-1.json")).unwrap(), DOCUMENT);
}

#[test]
fn what_the_policy_refuses_is_not_tried() {
    let project = releasing("deploy: { server: stage-1, release: '${candidate.release}' }");
    let rules = policy(&project, "{ Servers: { 'stage-1': { AppNames: ['api'] } } }");
    let output = run(&project, &["-m", "x", "--json"]).env("PUSH_CONFIG", rules).assert().code(1).get_output().clone();
    let why = why(&serde_json::from_str(&stdout(&output)).unwrap(), "then");
    assert!(why.contains("does not allow `web` on `stage-1`"), "{why}");
    assert_eq!((objects(&project, "holds/").len(), objects(&project, "pushes/").len()), (0, 0));
}

#[test]
fn a_channel_is_moved_to_what_was_released_and_one_that_moves_by_itself_is_a_mistake() {
    let project = releasing("channel: [{ app: web }]");
    let rules = |moves: &str| {
        policy(
            &project,
            &format!("{{ Channels: [{{ App: 'web', Repo: 'https://git.example/web', Servers: ['web-*']{moves} }}] }}"),
        )
    };
    let newest = rules("");
    for verb in [&["run", "-m", "x"][..], &["run", "--dry-run"], &["check"]] {
        let status = if verb == ["check"] { 1 } else { 2 };
        let output = project.release(verb).env("PUSH_CONFIG", &newest).assert().code(status).get_output().clone();
        let said = said(&output) + &stdout(&output);
        let place = ".pipeline/config.yaml:5:";
        assert!(
            said.contains(place) && said.contains("the channel `prod` of `web` moves to every newer release"),
            "{said}"
        );
    }
    assert_eq!(objects(&project, "debs/"), [] as [String; 0]);

    let told = rules(", Moves: 'told'");
    let attempt = |status: i32| {
        let mut command = run(&project, &["-m", "x", "--json"]);
        let output = command.env("PUSH_CONFIG", &told).assert().code(status).get_output().clone();
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    // No watcher has seen yet that it landed: the checkout knows.
    let found = attempt(0);
    let channel = read(&project, "channels/web/prod.json");
    assert_eq!(channel["release"], found["pipelines"][0]["releases"][0]["release"], "{channel}");
    assert_eq!((&channel["frozen"], &channel["why"]), (&json!(null), &json!("pipeline web, stage then")));

    // What hasn't landed isn't on the line, also where `origin` has less of it than is here; what landed before is no step forward.
    project.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let first = tool("git", &["-C", project.path(".").to_str().unwrap(), "rev-parse", "HEAD"]);
    project.write("web", "later");
    project.commit();
    let refused = why(&attempt(1), "then");
    assert!(
        refused.contains("moves only forward on `origin/main`") && refused.contains("has not landed there"),
        "{refused}"
    );
    project.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let second = attempt(0)["pipelines"][0]["releases"][0]["release"].clone();
    assert_eq!(read(&project, "channels/web/prod.json")["release"], second);
    project.git(&["checkout", "-q", first.trim()]);
    let refused = why(&attempt(1), "then");
    assert!(refused.contains("its commit landed no later than that of the channel"), "{refused}");
    assert_eq!(read(&project, "channels/web/prod.json")["release"], second);
}

#[test]
fn what_other_pipelines_do_needs_to_be_allowed_when_they_run() {
    let project = releasing("channel: [{ app: web }]");
    let config = fs::read_to_string(project.path(".pipeline/config.yaml")).unwrap();
    project.write(
        ".pipeline/config.yaml",
        &format!("{config}  unit:\n    stages:\n      - {{ name: a, exports: {{ x: y }} }}\n"),
    );
    project.commit();
    let arguments = |pipeline| ["--allow", "exports", pipeline];
    ran(&project, &arguments("unit"), 0);
    let refused = project.refused(&[&["run", "-m", "x"], &arguments("web")[..]].concat(), 2);
    assert!(refused.contains("`publish` in `candidate` is not allowed here: `exports` are"), "{refused}");
    project.refused(&["run", "-m", "x", "--allow", "exports"], 2);
}
