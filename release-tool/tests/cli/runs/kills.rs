//! A run that is killed in the middle of an action, and the next one.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
    runs::{
        ends::{is_running, started_by, unique},
        ensure_cleared, objects, project, results, run, said, stages,
    },
};

/// What the first run does until it is killed, and the next one doesn't.
fn once(mark: &Path, sleep: &str) -> String {
    format!("if [ ! -e {0} ]; then touch {0}; (setsid sleep {sleep} &); exec sleep {sleep}; fi", mark.display())
}

/// A project with one pipeline in which each kind of action is, and the marks at which it waits in a build, a run and the build of
/// a package.
fn every_action(sleep: &str) -> Project {
    let config = "pipelines:
  web:
    stages:
      - { name: make, build: make, run: true, copy: [{ source: made, archive: true }], exports: { x: '${.output}' } }
      - { name: candidate, build: nothing, publish: { package: { name: web } } }
      - { name: ship, channel: [{ app: web }] }
";
    let project = project("", config, "variants: {}\n");
    let [building, running, packing] =
        ["building", "running", "packing"].map(|mark| once(&project.beside(mark), sleep));
    let variants = format!(
        "variants:
  make: {{ build: [[sh, -c, 'echo made > made; {building}']], entrypoint: [sh, -c, '{running}'] }}
  nothing: {{}}
"
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    let text = fs::read_to_string(project.path("release.toml")).unwrap();
    project.write("release.toml", &format!("{text}build = [\"sh\", \"-c\", \"{packing}\"]\n"));
    project.commit();
    project
}

#[test]
fn wherever_a_run_is_killed_the_next_one_clears_up_and_takes_what_was_released() {
    let sleep = unique();
    let project = every_action(&sleep);
    let rules = project.beside("rules");
    let channel = "{ Channels: [{ App: 'web', Repo: 'https://git.example/web', Servers: ['web-*'], Moves: 'told' }] }";
    fs::write(&rules, channel).unwrap();
    let bucket = project.beside("bucket");
    // In a build and a run, as soon as a file is kept, in the build of a package, as soon as it is released, or the channel moved.
    for moment in [
        project.beside("building"),
        project.beside("running"),
        bucket.join("artifacts"),
        project.beside("packing"),
        bucket.join("debs/web"),
        bucket.join("channels/web/prod.json"),
    ] {
        assert!(!moment.exists(), "{} is no moment any more", moment.display());
        let mut child = started_by(run(&project, &["-m", "x"]).env("PUSH_CONFIG", &rules), &moment);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let released = objects(&project, "debs/");
    let output =
        run(&project, &["--json", "-m", "x"]).env("PUSH_CONFIG", &rules).assert().success().get_output().clone();
    ensure_cleared(&project);
    assert!(!is_running(&sleep), "{}", said(&output));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["make passed", "candidate passed", "ship passed"]);
    assert_eq!(objects(&project, "debs/"), released, "{}", said(&output));
    assert_eq!(released.len(), 1);
    let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
    assert_eq!(released, [format!("debs/{release}")]);
}

#[test]
fn what_a_killed_run_left_is_found_where_another_temporary_directory_is() {
    let sleep = unique();
    let mark = |project: &Project| project.beside("running");
    let project = project("", &stages("      - { name: a, build: wait }\n"), "variants: {}\n");
    // Of what the command starts nothing is told by its home.
    let waits = once(&mark(&project), &sleep).replace("(setsid sleep", "(cd .; HOME=/ setsid sleep");
    project
        .write(".pipeline/web/variants.yaml", &format!("variants: {{ wait: {{ build: [[sh, -c, '{waits}']] }} }}\n"));
    project.commit();
    let other = project.beside("other");
    fs::create_dir(&other).unwrap();
    let mut child = started_by(run(&project, &[]).env("TMPDIR", &other), &mark(&project));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    let output = run(&project, &[]).assert().success().get_output().clone();
    assert!(said(&output).contains("a run was killed before it could clear up"), "{}", said(&output));
    ensure_cleared(&project);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    assert!(!is_running(&sleep), "{}", said(&output));
    let links =
        fs::read_dir(project.path("dist/runs")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_symlink());
    assert_eq!(links.count(), 0);
}
