//! What stages release, and what of it is recorded.

use std::fs;

use serde_json::{Value, json};

use crate::{
    outcome::Run as _,
    project::{Project, field, stdout},
    runs::{objects, project, ran, results, run, stages, why},
};

/// What is recorded of a run in the bucket.
fn recorded(project: &Project, found: &Value) -> Value {
    let at = format!("bucket/runs/project/{}.json", found["run"].as_str().unwrap());
    serde_json::from_slice(&fs::read(project.beside(&at)).unwrap()).unwrap()
}

/// The releases of an app, and what is said of each.
fn releases(project: &Project, app: &str) -> Vec<Value> {
    project.json(&["list", "--json", app]).as_array().unwrap().clone()
}

#[test]
fn two_services_of_one_repository_are_two_releases_that_say_what_made_them() {
    let config = "pipelines:
  web: { execution: [[test, candidate]], stages: [{ name: test, build: test, run: true }, { name: candidate, build: production, publish: { package: { name: web } } }] }
  api: { variants: web/variants.yaml }
";
    let variants = "variants:
  test: { entrypoint: ['true'] }
  production: { build: [[sh, -c, 'echo built > extra']] }
";
    let rest = "[package.api]\ndescription = \"API\"\narch = \"all\"\nbuild = [\"sh\", \"-c\", \"env > seen\"]\n\
                contents = [{ src = \"seen\", dst = \"/usr/share/api/seen\" }, { src = \"extra\", dst = \"/usr/share/api/extra\" }]\n";
    let project = project(rest, config, variants);
    let (found, _) = ran(&project, &["-m", "both services"], 0);
    assert_eq!(results(&found), ["test passed", "candidate passed", "test passed", "production passed"]);
    assert_eq!(recorded(&project, &found), found);
    let commit = found["commit"].as_str().unwrap();
    for (app, pipeline, stage) in [("web", "web", "candidate"), ("api", "api", "production")] {
        let releases = releases(&project, app);
        assert_eq!(releases.len(), 1);
        let name = releases[0]["release"].as_str().unwrap();
        assert!(name.contains(commit) && name.starts_with(&format!("{app}/{app}:dev@build-1:")), "{name}");
        assert_eq!((&releases[0]["note"], &releases[0]["dirty"]), (&json!("both services"), &json!(false)));
        let made_by = &releases[0]["made_by"];
        assert_eq!((&made_by["pipeline"], &made_by["stage"]), (&json!(pipeline), &json!(stage)), "{releases:?}");
        assert_eq!(made_by["run"], json!(format!("project/{}", found["run"].as_str().unwrap())));
    }
    // What the stage built is in it; and its build saw nothing of who started the run.
    let mut debs = fs::read_dir(project.path("dist")).unwrap().map(|entry| entry.unwrap().path());
    let deb = debs.find(|path| path.display().to_string().contains("/api:")).unwrap();
    let unpacked = project.beside("unpacked");
    std::process::Command::new("dpkg-deb")
        .args(["-x", deb.to_str().unwrap(), unpacked.to_str().unwrap()])
        .assert()
        .success();
    assert_eq!(fs::read_to_string(unpacked.join("usr/share/api/extra")).unwrap(), "built\n");
    let seen = fs::read_to_string(unpacked.join("usr/share/api/seen")).unwrap();
    assert!(seen.contains("PUSH_STAGE=production") && !seen.contains("PUSH_BUCKET"), "{seen}");
    assert!(field(&deb, "Version").len() > 10);

    // A pipeline that is named runs alone.
    let (found, _) = ran(&project, &["-m", "again", "api"], 0);
    assert_eq!(results(&found), ["test passed", "production passed"]);
    assert_eq!((releases(&project, "web").len(), releases(&project, "api").len()), (1, 2));
}

#[test]
fn of_one_app_a_run_makes_one_release() {
    let config = "pipelines:
  web: { stages: [{ name: candidate, publish: { package: { name: web } } }] }
  also: { stages: [{ name: candidate, publish: { package: { name: web } }, exports: { x: '${.release}' } }, { name: see, variant: see }] }
";
    let project = project("", config, "variants: {}\n");
    project.write(".pipeline/also/variants.yaml", "variants: { see: { entrypoint: ['true'] } }\n");
    project.commit();
    let (found, _) = ran(&project, &["-m", "one"], 0);
    let made = |at: usize| found["pipelines"][at]["releases"][0]["release"].as_str().unwrap().to_owned();
    assert_eq!(made(0), made(1));
    assert_eq!(releases(&project, "web").len(), 1);
}

#[test]
fn what_a_stage_released_before_is_taken_by_the_next_run_of_the_commit() {
    let config = stages(
        "      - { name: candidate, publish: { package: { name: web } } }
      - { name: after, build: after, run: true }
",
    );
    let variants = "variants: { after: { entrypoint: [sh, -c, 'test -e /PLACE'] } }\n";
    let project = project("", &config, variants);
    let mark = project.beside("mark");
    project.write(".pipeline/web/variants.yaml", &variants.replace("/PLACE", &mark.display().to_string()));
    project.commit();
    let (failed, _) = ran(&project, &["-m", "one"], 1);
    let release = &failed["pipelines"][0]["releases"][0]["release"];
    fs::write(&mark, "").unwrap();
    let (passed, said) = ran(&project, &["-m", "one"], 0);
    assert_eq!(&passed["pipelines"][0]["releases"][0]["release"], release, "{said}");
    assert!(said.contains("is of an earlier run of this commit, with the same note: it is taken"), "{said}");
    // One that is said to be another is another.
    let (again, _) = ran(&project, &["-m", "two"], 0);
    assert_ne!(&again["pipelines"][0]["releases"][0]["release"], release);
    assert_eq!(releases(&project, "web").len(), 2);
}

#[test]
fn what_is_not_as_committed_is_not_released_unless_it_says_so() {
    let config = stages("      - { name: candidate, build: spoil, publish: { package: { name: web } } }\n");
    let project = project("", &config, "variants: { spoil: { build: [[sh, -c, 'echo changed >> web']] } }\n");
    let (found, _) = ran(&project, &["-m", "x"], 1);
    assert!(
        why(&found, "candidate").contains("not what was committed, uncommitted or untracked files: web"),
        "{found}"
    );
    assert_eq!(objects(&project, "debs/"), [] as [String; 0]);
    project.write("web", "uncommitted\n");
    ran(&project, &["-m", "x", "--dirty"], 0);
    assert_eq!(releases(&project, "web")[0]["dirty"], json!(true));
}

#[test]
fn without_a_bucket_what_needs_none_runs_and_what_needs_one_fails() {
    let config = stages(
        "      - { name: test, build: test, run: true }\n      - { name: candidate, publish: { package: { name: web } } }\n",
    );
    let project = project("", &config, "variants: { test: { entrypoint: ['true'] } }\n");
    let mut command = run(&project, &["--json", "-m", "x"]);
    let output = command.env_remove("PUSH_BUCKET").assert().code(1).get_output().clone();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["test passed", "candidate failed"]);
    assert!(why(&found, "candidate").contains("no bucket specified"), "{found}");
    // One that can't be written to.
    let mut command = run(&project, &["--json", "-m", "x"]);
    let output = command.env("PUSH_BUCKET", "file:///nowhere/at/all").assert().code(1).get_output().clone();
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(results(&found), ["test passed", "candidate failed"]);
    assert!(crate::runs::said(&output).contains("warning: the run is not recorded for now, and goes on"), "{output:?}");
}

#[test]
fn results_are_a_table_a_document_or_a_file_of_suites() {
    let config =
        stages("      - { name: lint, build: lint, run: true }\n      - { name: late, build: lint, run: true }\n");
    let project = project("", &config, "variants: { lint: { entrypoint: [sh, -c, 'exit 3', '<&\">'] } }\n");
    let junit = project.beside("junit.xml");
    let output = run(&project, &["--junit", junit.to_str().unwrap()]).assert().code(1).get_output().clone();
    let table = stdout(&output);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["STAGE", "RESULT", "TIME", "WHY"]);
    assert_eq!(lines[1][..2], ["web/lint", "failed"]);
    assert!(table.contains("`sh -c 'exit 3' '<&\">'` ended with exit status 3"), "{table}");
    assert_eq!(lines[2], ["web/late", "skipped", "-", "`lint`", "did", "not", "pass"]);
    let junit = fs::read_to_string(junit).unwrap();
    for expected in [
        "<testsuite name=\"web\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\"",
        "<failure message=\"`sh -c 'exit 3' '&lt;&amp;&quot;&gt;'` ended with exit status 3\"/>",
        "<testcase classname=\"web\" name=\"late\" time=\"0.000\"><skipped message=\"`lint` did not pass\"/></testcase>",
    ] {
        assert!(junit.contains(expected), "{junit}\nexpected: {expected}");
    }
}

#[test]
fn files_that_a_stage_publishes_are_kept_beside_its_release() {
    let config = stages(
        "      - { name: candidate, build: make, publish: { package: { name: web }, files: [out, extra] }, exports: { kept: '${.artifacts}' } }
      - { name: seen, build: see, run: { arguments: ['${candidate.kept}', '${candidate.release}'] } }
",
    );
    let variants = "variants:
  make: { build: [[sh, -c, 'mkdir out; echo A > out/a; echo B > out/b; echo X > extra']] }
  see: { entrypoint: [sh, -c, 'echo \"$1\" | tr \"\\n\" +; echo; echo \"$2\"', sh] }
";
    let project = project("", &config, variants);
    let (found, said) = ran(&project, &["-m", "x"], 0);
    let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
    assert!(said.contains(&format!("seen | out/a+out/b+extra+\nseen | {release}\n")), "{said}");
    let at = format!("artifacts/project/{}/web/candidate", found["run"].as_str().unwrap());
    assert_eq!(objects(&project, "artifacts/"), [format!("{at}/extra"), format!("{at}/out/a"), format!("{at}/out/b")]);
    assert_eq!(objects(&project, "debs/"), [format!("debs/{release}")]);
}

#[test]
fn the_same_commit_is_released_with_the_same_files_whichever_run_and_copy_it_is_from() {
    let config = stages("      - { name: candidate, build: make, publish: { package: { name: web } } }\n");
    let project = project("", &config, "variants: { make: { build: [[sh, -c, 'umask 077; touch -d @0 made']] } }\n");
    let packed = |note: &str| {
        let (found, _) = ran(&project, &["-m", note], 0);
        let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
        let members = crate::project::members(&project.beside("bucket/debs").join(release));
        members.into_iter().find(|(name, _)| name.starts_with("data.tar")).unwrap().1
    };
    let (one, two) = (packed("one"), packed("two"));
    assert!(one == two, "the files differ");
    let built = crate::project::members(&project.build());
    assert!(
        built.iter().any(|(name, content)| name.starts_with("data.tar") && *content == one),
        "as from the checkout"
    );
}

#[test]
fn a_channel_is_not_moved_to_what_is_not_committed() {
    let config = stages(
        "      - { name: candidate, publish: { package: { name: web } } }\n      - { name: ship, channel: [{ app: web }] }\n",
    );
    let project = project("", &config, "variants: {}\n");
    let rules = project.beside("rules");
    let channel = "{ Channels: [{ App: 'web', Repo: 'https://git.example/web', Servers: ['web-*'], Moves: 'told' }] }";
    fs::write(&rules, channel).unwrap();
    let dirty = |status: i32| {
        let mut command = run(&project, &["-m", "x", "--dirty"]);
        crate::runs::said(command.env("PUSH_CONFIG", &rules).assert().code(status).get_output())
    };
    project.write("web", "uncommitted\n");
    let refused = dirty(2);
    let expected = ".pipeline/config.yaml:5:33: the channel `prod` of `web` is not moved to a release with uncommitted changes: commit \
                    them, or leave `--dirty` out";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(objects(&project, ""), [] as [String; 0]);
    // Where there is nothing that is not committed, it changes nothing.
    project.commit();
    dirty(0);
    assert_eq!(objects(&project, "channels/").len(), 1);
}
