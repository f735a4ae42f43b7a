//! Which stage runs when, and what is refused before any does.

use std::{fs, os::unix::fs::symlink};

use crate::{
    outcome::Run as _,
    project::stdout,
    runs::{ensure_cleared, objects, project, ran, results, run, said, stages},
};

#[test]
fn stages_run_in_copies_of_the_commit_and_what_is_not_committed_stays_out() {
    let config = stages("      - { name: test, build: test, run: true }\n      - late\n");
    let variants = "variants:
  test: { build: [[sh, -c, 'cat web extra && touch built && pwd']], entrypoint: [sh, -c, 'ls built; git log --oneline'] }
  late: { entrypoint: [sh, -c, 'test ! -e built && git status --porcelain && git rev-parse --abbrev-ref HEAD'] }
";
    let project = project("", &config, variants);
    project.write("web", "changed\n");
    project.write("extra", "new\n");
    let (found, said) = ran(&project, &[], 1);
    assert_eq!(results(&found), ["test failed", "late skipped"]);
    assert!(said.contains("2 uncommitted changes left out of this run, which is of the commit"), "{said}");
    assert!(said.contains("test | echo web") && !said.contains("changed"), "{said}");
    assert!(said.contains("test | cat: extra: No such file or directory"), "{said}");

    let (found, said) = ran(&project, &["--dirty"], 0);
    assert_eq!(
        (results(&found), &found["dirty"]),
        (vec!["test passed".to_owned(), "late passed".to_owned()], &true.into())
    );
    for expected in [
        "test | changed",
        "test | new",
        "test | built",
        "test | $ sh -c 'ls built; git log --oneline'",
        "late |  M web",
        "late | main",
    ] {
        assert!(said.contains(expected), "{said}\nexpected: {expected}");
    }
    // The developer's own files are as they were.
    assert!(!project.path("built").exists());
    let status =
        std::process::Command::new("git").args(["status", "--porcelain"]).current_dir(project.path(".")).output();
    assert_eq!(stdout(&status.unwrap()), " M web\n?? extra\n");
    // All of what they said is kept.
    let log = project.path("dist/runs").join(found["run"].as_str().unwrap()).join("web/test.log");
    assert!(fs::read_to_string(log).unwrap().contains("changed\nnew\n"));
}

#[test]
fn two_pipelines_run_side_by_side_and_one_that_is_named_runs_alone() {
    let config = "pipelines:
  web: { stages: [{ name: wait, build: wait, run: true }] }
  api: { variants: web/variants.yaml, stages: [{ name: answer, build: answer, run: true }] }
";
    let project = project("", config, "variants: { wait: {}, answer: {} }\n");
    // Each ends only if the other runs at the same time.
    let (here, there) = (project.beside("here"), project.beside("there"));
    let script = |own: &std::path::Path, other: &std::path::Path| {
        format!("[sh, -c, 'touch {}; while [ ! -e {} ]; do sleep 0.01; done']", own.display(), other.display())
    };
    let variants = format!(
        "variants: {{ wait: {{ entrypoint: {}, time: 1m }}, answer: {{ entrypoint: {}, time: 1m }} }}\n",
        script(&here, &there),
        script(&there, &here)
    );
    project.write(".pipeline/web/variants.yaml", &variants);
    project.commit();
    let (found, said) = ran(&project, &["--jobs", "2"], 0);
    assert_eq!(results(&found), ["wait passed", "answer passed"]);
    assert!(said.contains("web/wait: passed") && said.contains("api/answer: passed"), "{said}");

    let (found, _) = ran(&project, &["api"], 0);
    assert_eq!(results(&found), ["answer passed"]);
    let refused = project.refused(&["run", "wbe", "api", "other"], 2);
    for expected in [
        "there is no pipeline `wbe`; did you mean `web`?; there are `web`, `api`",
        "there is no pipeline `other`; there are `web`, `api`",
    ] {
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn all_mistakes_are_said_before_anything_runs() {
    let config = stages(
        "      - { name: unit, build: tset, run: true }
      - { name: setup, build: test }
      - { name: candidate, bulid: production, publish: { package: { name: wbe } } }
      - { name: lint, build: test, run: { arguments: ['${unit.outptu}', '${ .x }'] } }
      - { name: staging, deploy: { release: '${candidate.release}', wait: soon } }
      - { name: ship, promote: true, channel: [{ app: web, channel: pr od }] }
",
    );
    let project = project("", &config, "variants: { test: { entrypoint: [touch, /nowhere/ran] } }\n");
    let output = run(&project, &["-m", "why"]).assert().code(2).get_output().clone();
    let mistakes = said(&output).lines().filter(|line| line.contains(".pipeline/config.yaml:")).count();
    assert!(mistakes >= 10, "{}", said(&output));
    assert_eq!(objects(&project, ""), [] as [String; 0]);
    ensure_cleared(&project);
}

#[test]
fn what_is_misused_is_refused_before_anything_runs() {
    let config = stages("      - { name: candidate, build: test, publish: { package: { name: web } } }\n");
    let project = project("", &config, "variants: { test: {} }\n");
    for (arguments, expected) in [
        (&["run"][..], "missing release note: `web` makes a release; add a note, as in -m \"fix the login\""),
        (
            &["run", "--allow", "build,run", "-m", "x"],
            "`publish` in `candidate` is not allowed here: `build`, `run` are",
        ),
        (&["run", "--allow", "bild"], "the actions are `build`, `run`, `copy`"),
        (&["run", "--jobs", "0"], "invalid value '0'"),
    ] {
        let refused = project.refused(arguments, 2);
        assert!(refused.contains(expected), "{arguments:?}: {refused}\nexpected: {expected}");
    }
    project.git(&["rm", "-rq", ".pipeline"]);
    project.commit();
    let refused = project.refused(&["run"], 2);
    assert!(refused.contains("there are no pipelines: no `.pipeline/config.yaml`"), "{refused}");
}

#[test]
fn a_run_goes_by_the_commit_and_says_when_the_checkout_says_something_else() {
    let config = stages("      - { name: test, build: test, run: true }\n");
    let project = project("", &config, "variants: { test: { entrypoint: ['true'] } }\n");
    project.write(".pipeline/web/variants.yaml", "variants: { test: { entrypoint: ['false'] } }\n");
    let (_, said) = ran(&project, &[], 0);
    assert!(said.contains("release.toml or .pipeline/ differs from what was committed"), "{said}");
    ran(&project, &["--dirty"], 1);
    // What lies in the checkout is what is shown of what would run.
    let shown = stdout(run(&project, &["--dry-run"]).assert().success().get_output());
    assert_eq!(
        shown,
        "web: in `.`, variants of `.pipeline/web/variants.yaml`\n  test\n    build: {\"variant\":\"test\"}\n    \
         run: {\"arguments\":[],\"env\":{},\"tail\":0}\n    \
         variant: {\"build\":[],\"entrypoint\":[\"false\"],\"env\":{},\"time\":\"30m\"}\n"
    );
    let shown = project.json(&["run", "--dry-run", "--json"]);
    assert_eq!(shown["pipelines"][0]["stages"][0]["actions"][0]["build"]["variant"], "test");
}

#[test]
fn repositories_in_the_repository_come_with_it_and_nothing_is_fetched() {
    let config = stages("      - { name: test, build: test, run: true }\n");
    let project = project("", &config, "variants: { test: { entrypoint: [cat, lib/code] } }\n");
    let library = crate::project::Project::bare();
    library.write("code", "the library\n");
    library.git(&["init", "-q", "-b", "main"]);
    library.commit();
    project.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        library.path(".").to_str().unwrap(),
        "lib",
    ]);
    project.commit();
    // It is gone where it came from.
    fs::remove_dir_all(library.beside("project")).unwrap();
    let (_, said) = ran(&project, &[], 0);
    assert!(said.contains("test | the library"), "{said}");
    project.git(&["submodule", "--quiet", "deinit", "-f", "lib"]);
    let (_, said) = ran(&project, &[], 1);
    assert!(said.contains("the submodule `lib` is not checked out, and is empty in each stage"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_refused_before_anything_runs_and_says_where() {
    const CONFIG: &str = ".pipeline/config.yaml";
    let project = project("", "pipelines: {}\n", "variants: {}\n");
    let refused = |expected: &str| {
        project.commit();
        for arguments in [&["run"][..], &["run", "--dry-run"]] {
            let output = run(&project, &arguments[1..]).assert().code(2).get_output().clone();
            ensure_cleared(&project);
            let said = said(&output);
            assert!(said.contains(&format!("{CONFIG}{expected}")) && said.contains("1 mistake in "), "{said}");
            assert!(!said.contains(":0:") && stdout(&output).is_empty(), "{said}");
        }
    };
    fs::write(project.path(CONFIG), b"pipelines:\n  w\xff: {}\n").unwrap();
    refused(":2:4: the file is not UTF-8");
    project.write(CONFIG, "pipelines: [\n");
    refused(":2:1: this is not YAML: ");
    project.write(CONFIG, &" ".repeat((256 << 10) + 1));
    refused(":1:1: the file has 262145 bytes, and 262144 is the most");
    fs::remove_file(project.path(CONFIG)).unwrap();
    symlink("/etc/passwd", project.path(CONFIG)).unwrap();
    refused(": the file is a link that leads out of the repository");
    fs::remove_file(project.path(CONFIG)).unwrap();
    symlink("nowhere.yaml", project.path(CONFIG)).unwrap();
    refused(": the file is missing");
    fs::remove_file(project.path(CONFIG)).unwrap();
    project.write(&format!("{CONFIG}/file"), "");
    refused(": the file is not a file");
    assert_eq!(objects(&project, ""), [] as [String; 0]);
}

#[test]
fn the_file_says_how_many_stages_run_at_once_and_the_command_wins() {
    let config = |concurrency: u32| {
        format!(
            "concurrency: {concurrency}\npipelines: {{ web: {{ execution: [[a], [b]], stages: [{{ name: a, build: test, run: true }}, {{ name: b, build: test, run: true }}] }} }}\n"
        )
    };
    let project = project("", &config(1), "variants: { test: { entrypoint: ['true'] } }\n");
    for arguments in [&[][..], &["--jobs", "1"]] {
        project.write(".pipeline/config.yaml", &config(if arguments.is_empty() { 1 } else { 2 }));
        project.commit();
        let (_, said) = ran(&project, arguments, 0);
        let (ends, begins) = (said.find("a: passed").unwrap(), said.find("b | $ ").unwrap());
        assert!(ends < begins, "{arguments:?}: {said}");
    }
    // Each ends only when the other has begun.
    let script = format!(
        "touch \"{0}/$PUSH_STAGE\"; while [ ! -e {0}/a ] || [ ! -e {0}/b ]; do sleep 0.01; done; true",
        project.beside("marks").display()
    );
    let variants = format!("variants: {{ test: {{ time: 1m, entrypoint: [sh, -c, '{script}'] }} }}\n");
    project.write(".pipeline/web/variants.yaml", &variants);
    for arguments in [&[][..], &["--jobs", "2"]] {
        fs::create_dir(project.beside("marks")).unwrap();
        project.write(".pipeline/config.yaml", &config(if arguments.is_empty() { 2 } else { 1 }));
        project.commit();
        let (found, _) = ran(&project, arguments, 0);
        assert_eq!(results(&found), ["a passed", "b passed"]);
        fs::remove_dir_all(project.beside("marks")).unwrap();
    }
}

#[test]
fn a_dry_run_shows_what_follows_what_with_every_default() {
    let config = stages(
        "      - { name: unit, variant: test }
      - { name: lint, build: test, run: { tail: 2 } }
      - { name: ship, publish: { package: { name: web } } }
",
    )
    .replace("stages:", "directory: etc\n    execution: [[unit, ship], [lint, ship]]\n    stages:");
    let project = project("", &config, "variants: { test: { entrypoint: ['true'] } }\n");
    let shown = stdout(run(&project, &["--dry-run"]).assert().success().get_output());
    let variant = "    variant: {\"build\":[],\"entrypoint\":[\"true\"],\"env\":{},\"time\":\"30m\"}\n";
    let expected = format!(
        "web: in `etc`, variants of `.pipeline/web/variants.yaml`
  unit
    build: {{\"variant\":\"test\"}}
    run: {{\"arguments\":[],\"env\":{{}},\"tail\":0}}
{variant}  lint
    build: {{\"variant\":\"test\"}}
    run: {{\"arguments\":[],\"env\":{{}},\"tail\":2}}
{variant}  ship, after `unit`, `lint`
    publish: {{\"note\":\"${{setup.note}}\",\"package\":\"web\"}}
"
    );
    assert_eq!(shown, expected);
    assert_eq!(objects(&project, ""), [] as [String; 0]);
}

#[test]
fn a_project_that_cannot_be_called_so_is_a_mistake_among_the_others() {
    let project = project("", &stages("      - { name: a, exports: { x: y } }\n"), "variants: {}\n");
    project.git(&["remote", "add", "origin", "https://git.example/acme/a shop.git"]);
    let expected =
        "release.toml: invalid project `a shop`: it has the character ` `: say what the project is called, as in";
    for (broken, count) in [(false, "1 mistake in"), (true, "2 mistakes in")] {
        if broken {
            project.write(".pipeline/config.yaml", &stages("      - { name: a, exports: { x: y }, colour: red }\n"));
            project.commit();
        }
        for arguments in [&["run"][..], &["run", "--dry-run"]] {
            let refused = project.refused(arguments, 2);
            assert!(refused.contains(expected) && refused.contains(count), "{refused}");
        }
        let checked = stdout(project.release(&["check"]).assert().code(1).get_output());
        assert!(checked.contains(&format!("error: {expected}")), "{checked}");
    }
}
