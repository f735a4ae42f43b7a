//! What docs/pipelines.md shows, played; and what older descriptions mean.

use std::{fs, process::Command};

use serde_json::json;

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
    runs::{CONTENTS, ensure_cleared, objects, project, ran, results, run, said},
};

const PAGE: &str = include_str!("../../../../docs/pipelines.md");

/// The blocks of a section in this language, in order.
fn blocks(section: &str, language: &str) -> Vec<&'static str> {
    let (_, after) = PAGE.split_once(&format!("\n## {section}\n")).expect("the page has the section");
    let section = after.split("\n## ").next().unwrap_or_default();
    section.split(&format!("```{language}\n")).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn the_quick_start_does_what_the_page_says() {
    let project = Project::new(CONTENTS);
    fs::create_dir(project.beside("tmp")).unwrap();
    for file in blocks("Quick start", "yaml") {
        let (path, content) = file.strip_prefix("# ").unwrap().split_once('\n').unwrap();
        project.write(path, content);
    }
    project.git(&["config", "user.name", "Dev"]);
    project.git(&["config", "user.email", "dev@acme.example"]);
    let mut shell = Command::new("sh");
    for (key, value) in run(&project, &[]).get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_release")).parent().unwrap().display();
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap())).current_dir(project.path("."));
    let script = blocks("Quick start", "sh").concat();
    let output = shell.args(["-exc", &script]).assert().success().get_output().clone();
    ensure_cleared(&project);
    let printed = stdout(&output);
    for expected in ["web/test        passed", "web/production  passed", "web/web:dev@build-1:", "the first run"] {
        assert!(printed.contains(expected), "{printed}\nexpected: {expected}\n{}", said(&output));
    }
    assert_eq!(objects(&project, "debs/").len(), 1);
}

/// The third configuration of the discussion that pipelines come from, but for the chart and the image: the package and the server
/// that stand for them here.
const OLDER: &str = r#"pipelines:
  serviceOne:
    blubberfile: serviceOne/blubber.yaml # could be the default based on service name for the dir
    directory: src/serviceOne
    execution:                           # an "execution plan" (a directional graph of stages to run)
      - [unittests, mocha]               # set of stages to run in parallel
      - production                       # next stage to run if the previous ran successfully
    stages:                              # stage defintions
      - name: unittests
        variant: phpunit                 # defaults to the stage name but can be different
        publish:
          - type: files                  # publish select artifact files from the built/run image
            paths: ["foo/*", "bar"]      # copy files {foo/*,bar} from the image fs to ./artifacts/{foo/*,bar}
      - name: mocha                      # default (build/run "mocha" variant, no artifacts, etc.)
      - name: production
        publish:
          - type: package
            name: web
        deploy: true                     # al final, trigger production deployment (however)
  serviceTwo:
    directory: src/serviceTwo
"#;

#[test]
fn an_older_description_runs_as_it_stands() {
    let rest = "[package.serviceTwo]\ndeb = \"two.deb\"\n";
    let project = project(rest, OLDER, "variants: {}\n");
    project.write(
        "two/DEBIAN/control",
        "Package: service-two\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n",
    );
    crate::project::tool(
        "dpkg-deb",
        &["--build", project.path("two").to_str().unwrap(), project.path("two.deb").to_str().unwrap()],
    );
    let (one, other) = (project.beside("one"), project.beside("other"));
    // The two run side by side: each waits for the other.
    let wait = |own: &std::path::Path, other: &std::path::Path| {
        format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done", own.display(), other.display())
    };
    let variants = format!(
        "variants:
  phpunit: {{ entrypoint: [sh, -c, 'mkdir foo; echo 1 > foo/a; echo 2 > bar; {}'], time: 1m }}
  mocha: {{ entrypoint: [sh, -c, '{}'], time: 1m }}
",
        wait(&one, &other),
        wait(&other, &one)
    );
    project.write(".pipeline/serviceOne/blubber.yaml", &variants);
    project
        .write(".pipeline/serviceTwo/variants.yaml", "variants: { test: { entrypoint: ['true'] }, production: {} }\n");
    project.write("src/serviceOne/x", "");
    project.write("src/serviceTwo/x", "");
    project.commit();
    let rules = project.beside("rules");
    let channel = "{ Channels: [{ App: 'web', Repo: 'https://git.example/web', Servers: ['web-*'], Moves: 'told' }] }";
    fs::write(&rules, channel).unwrap();
    let head = Command::new("git").arg("-C").arg(project.path(".")).args(["rev-parse", "HEAD"]).output().unwrap();
    let state = json!({ "schema": 1, "app": "web", "channel": "prod", "at": "2026-11-20T20:00:00Z", "release": null,
        "later": [{ "commit": stdout(&head).trim(), "release": null }] });
    fs::create_dir_all(project.beside("bucket/channel-state/web")).unwrap();
    fs::write(project.beside("bucket/channel-state/web/prod.json"), state.to_string()).unwrap();
    let mut command = run(&project, &["--json", "-m", "as ever", "--jobs", "2", "serviceOne"]);
    let output = command.env("PUSH_CONFIG", &rules).assert().success().get_output().clone();
    ensure_cleared(&project);
    let found: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["unittests passed", "mocha passed", "production passed"]);
    let at = format!("artifacts/project/{}/serviceOne/unittests", found["run"].as_str().unwrap());
    assert_eq!(objects(&project, "artifacts/"), [format!("{at}/bar"), format!("{at}/foo/a")]);
    let moved = fs::read_to_string(project.beside("bucket/channels/web/prod.json")).unwrap();
    assert!(moved.contains(found["pipelines"][0]["releases"][0]["release"].as_str().unwrap()), "{moved}");

    // The other service says nothing but where it lies: it is tested, and then released under its own name.
    let (found, _) = ran(&project, &["-m", "the other", "serviceTwo"], 0);
    assert_eq!(results(&found), ["test passed", "production passed"]);
    let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
    assert!(release.starts_with("serviceTwo/serviceTwo:dev@build-1:"), "{release}");
}
