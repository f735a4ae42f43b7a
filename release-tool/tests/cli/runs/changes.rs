//! Runs of changes that are not merged yet: what they may do is said by the branch that they are to be merged into.

use std::fs;

use serde_json::{Value, json};

use crate::{
    outcome::Run as _,
    project::{Project, stdout, tool},
    runs::{ensure_cleared, objects, project, ran, results, run, said, stages},
};

const VARIANTS: &str = "variants: { test: { entrypoint: [sh, -c, 'env'] } }\n";

/// A project on `main` with a candidate bucket and rules, and a branch of a change that is recorded, with these stages.
fn change(config: &str) -> Project {
    change_by("", config)
}

/// The same, with more rules below `[pipeline]`.
pub(super) fn change_by(more: &str, config: &str) -> Project {
    let project = project("", &stages("      - { name: a, build: test, run: true }\n"), VARIANTS);
    let ci = project.beside("ci");
    fs::create_dir(&ci).unwrap();
    let text = fs::read_to_string(project.path("release.toml")).unwrap();
    let rules = format!(
        "schema = 1\n[candidates]\nbucket = \"file://{}\"\n[pipeline]\nproject = \"acme\"\npass = [\"PASSED\"]\n{more}\n",
        ci.display()
    );
    project.write("release.toml", &text.replacen("schema = 1\n", &rules, 1));
    project.commit();
    project.git(&["checkout", "-qb", "topic"]);
    // What the change says of itself gives it nothing.
    let own = text.replacen(
        "schema = 1\n",
        &format!("schema = 1\n[candidates]\nbucket = \"file://{}\"\n[pipeline]\nproject = \"evil\"\npass = [\"PASSED\", \"SECRET\"]\nservers = [\"*\"]\n", project.beside("evil").display()),
        1,
    );
    project.write("release.toml", &own);
    project.write(".pipeline/config.yaml", config);
    project.commit();
    project.json(&["change", "open", "acme/12", "--json"]);
    project
}

fn ci(project: &Project) -> Vec<String> {
    let names = crate::candidates::names(project, "ci").into_iter();
    names.filter(|name| !name.starts_with("changes/")).collect()
}

#[test]
fn what_a_change_publishes_is_a_candidate_and_its_run_lies_beside_it() {
    let project = change(&stages(
        "      - { name: unit, build: test, run: { env: { OF: '${setup.change}' } }, copy: [{ source: web, archive: true }] }
      - { name: candidate, publish: { package: { name: web } } }
",
    ));
    let arguments = ["--json", "-m", "try it", "--change", "acme/12", "--target", "main"];
    let mut command = run(&project, &arguments);
    command.env("PASSED", "on").env("SECRET", "s3cret");
    let output = command.assert().success().get_output().clone();
    ensure_cleared(&project);
    let said = said(&output);
    assert!(said.contains("unit | PASSED=on") && !said.contains("s3cret"), "{said}");
    assert!(said.contains("unit | OF=acme/12\n"), "{said}");
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&found["change"], &found["project"]), (&json!("acme/12"), &json!("acme")));
    let run = found["run"].as_str().unwrap();
    let release = found["pipelines"][0]["releases"][0]["release"].as_str().unwrap();
    let shown = recorded(&project);
    let candidate = &shown["candidates"][0];
    assert_eq!(
        (&found["patchset"], &found["pipelines"][0]["releases"][0]["candidate"]),
        (&json!(1), &candidate["path"])
    );
    assert_eq!((&candidate["release"], &candidate["gate"]), (&json!(release), &json!(false)));
    let mut expected = [
        format!("artifacts/acme/{run}/web/unit/web"),
        candidate["path"].as_str().unwrap().to_owned(),
        format!("runs/acme/{run}.json"),
    ];
    expected.sort();
    assert_eq!(ci(&project), expected);
    // Of production nothing was written, nor where the change would have it.
    assert_eq!(objects(&project, ""), [] as [String; 0]);
    assert!(!project.beside("evil").exists());
    // The same again takes what is there.
    let again = run_again(&project, &arguments);
    assert_eq!(again["pipelines"][0]["releases"][0]["release"], json!(release));
    assert_eq!(recorded(&project)["candidates"].as_array().unwrap().len(), 1);
}

/// What is recorded of the change.
fn recorded(project: &Project) -> Value {
    serde_json::from_slice(&fs::read(project.beside("ci/changes/acme/12.json")).unwrap()).unwrap()
}

fn run_again(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(run(project, arguments).assert().success().get_output())).unwrap()
}

#[test]
fn a_change_moves_no_channel() {
    let project = change(&stages(
        "      - { name: candidate, build: test, publish: { package: { name: web } } }
      - { name: ship, channel: [{ app: web }] }
",
    ));
    let refused = project.refused(&["run", "-m", "x", "--change", "acme/12", "--target", "main"], 2);
    assert!(refused.contains("`channel` in `ship` is not allowed here: "), "{refused}");
    // Neither does asking for it help.
    project
        .refused(&["run", "-m", "x", "--change", "acme/12", "--target", "main", "--allow", "build,publish,channel"], 2);
    assert_eq!((ci(&project), objects(&project, "")), (vec![], vec![]));
}

#[test]
fn where_the_branch_says_nothing_only_what_needs_no_right_is_allowed() {
    let config = stages("      - { name: unit, build: test, run: true }\n");
    let project = change(&config);
    // The project is that of the change, whatever the repository is called.
    project.git(&["remote", "add", "origin", "https://git.example/other.git"]);
    let (found, said) = ran(&project, &["--change", "acme/12", "--target", "nowhere"], 0);
    assert_eq!((results(&found), &found["project"]), (vec!["unit passed".to_owned()], &json!("acme")));
    assert!(
        said.contains("since what the target branch says could not be read: there is no branch `nowhere`"),
        "{said}"
    );
    assert_eq!((ci(&project), objects(&project, "")), (vec![], vec![]));
    project
        .write(".pipeline/config.yaml", &stages("      - { name: candidate, publish: { package: { name: web } } }\n"));
    project.commit();
    let refused = project.refused(&["run", "-m", "x", "--change", "acme/12", "--target", "nowhere"], 2);
    assert!(refused.contains("`publish` in `candidate` is not allowed here"), "{refused}");
    let refused = project.refused(&["run", "-m", "x", "--change", "web/12", "--target", "main"], 2);
    assert!(refused.contains("`web/12` is no change of `acme`"), "{refused}");
    let refused = project.refused(&["run", "-m", "x", "--change", "acme/12", "--dirty"], 2);
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[test]
fn without_a_branch_of_origin_that_is_known_no_branch_here_is_taken_for_it() {
    let project = change(&stages("      - { name: unit, build: test, run: true }\n"));
    // What is checked out is called like the branch that it is to be merged into.
    project.git(&["branch", "-D", "main"]);
    project.git(&["checkout", "-qb", "main"]);
    let mut command = run(&project, &["--json", "--change", "acme/12"]);
    let output = command.env("SECRET", "s3cret").env_remove("PUSH_TARGET").assert().success().get_output().clone();
    let said = said(&output);
    assert!(said.contains("`origin` has no branch of its own here"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!((ci(&project), objects(&project, "")), (vec![], vec![]));
    assert!(!project.beside("evil").exists());
}

#[test]
fn what_a_change_says_of_buckets_counts_nowhere() {
    let project = change(&stages("      - { name: unit, build: test, run: true }\n"));
    let (evil, out) = (project.beside("evil"), project.beside("overlay"));
    fs::create_dir(&evil).unwrap();
    let commands: [&[&str]; 3] = [
        &["change", "open", "acme/12", "--json"],
        &["candidate", "-m", "try it", "--change", "acme/12", "--json"],
        &["buildset", "start", "--change", "acme/12", "--out", out.to_str().unwrap(), "--json"],
    ];
    for command in commands {
        // Nobody says which branch counts, or it has no such file: then nothing is done.
        let run = |target: Option<&str>| {
            let mut release = project.release(command);
            match target {
                Some(target) => release.env("PUSH_TARGET", target),
                None => release.env_remove("PUSH_TARGET"),
            };
            release
        };
        for (target, why) in
            [(None, "`origin` has no branch of its own here"), (Some("nowhere"), "there is no branch `nowhere`")]
        {
            let refused = said(run(target).assert().code(2).get_output());
            assert!(
                refused.contains("what the change says of itself does not count") && refused.contains(why),
                "{refused}"
            );
        }
        run(Some("main")).assert().success();
    }
    assert_eq!(fs::read_dir(evil).unwrap().count(), 0);
    // Nor where production is.
    let mut text = fs::read_to_string(project.path("release.toml")).unwrap();
    text = text.replacen(
        "schema = 1\n",
        &format!("schema = 1\n[bucket]\nurl = \"file://{}\"\n", project.beside("releases").display()),
        1,
    );
    project.write("release.toml", &text);
    project.commit();
    project.json(&["change", "open", "acme/12", "--json"]);
    let mut gated = project.release(&["candidate", "-m", "gated", "--change", "acme/12", "--gate", "--target", "main"]);
    let refused = said(gated.env_remove("PUSH_BUCKET").assert().code(2).get_output());
    assert!(refused.contains("no bucket specified"), "{refused}");
}

#[test]
fn what_somebody_put_in_the_place_of_the_file_of_the_branch_does_not_count() {
    let project = change(&stages("      - { name: unit, build: test, run: true }\n"));
    let blob = |of: &str| {
        tool("git", &["-C", project.path(".").to_str().unwrap(), "rev-parse", &format!("{of}:release.toml")])
    };
    project.git(&["replace", blob("main").trim(), blob("HEAD").trim()]);
    let mut command = run(&project, &["--json", "--change", "acme/12"]);
    let output = command.env("SECRET", "s3cret").assert().success().get_output().clone();
    let said = said(&output);
    assert!(!said.contains("s3cret"), "{said}");
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found["project"], json!("acme"));
    assert!(!project.beside("evil").exists());
}
