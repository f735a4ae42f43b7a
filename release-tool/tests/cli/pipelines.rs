//! `.pipeline/config.yaml`: all that is wrong with it is said before anything runs.

use std::os::unix::fs::symlink;

use crate::{outcome::Run as _, project::Project};

const CONFIG: &str = ".pipeline/config.yaml";
const VARIANTS: &str = ".pipeline/web/variants.yaml";

/// All that `release check` says, and its exit status.
fn checked(project: &Project, status: i32) -> String {
    let output = project.release(&["check"]).assert().code(status).get_output().clone();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn what_a_repository_says_of_its_pipelines_is_checked_with_it() {
    let project = Project::new("");
    project.write(CONFIG, "pipelines: { web: {} }\n");
    let said = checked(&project, 1);
    let missing = "error: .pipeline/config.yaml:1:14: `.pipeline/web/variants.yaml`, which says how the variants of `web` are \
                   built, is missing";
    assert!(said.contains(missing), "{said}");
    project.write(VARIANTS, "variants: { test: { entrypoint: ['true'] }, production: {} }\n");
    let said = checked(&project, 0);
    assert!(said.contains("checked 1 pipeline"), "{said}");
    // The third is wrong in another file.
    project.write(CONFIG, "pipelines:\n  web: { stages: [{ name: a, build: tset, run: true }] }\n  wbe: {}\n");
    project.write(".pipeline/wbe/variants.yaml", "variants: { test: { entrypoint: make test }, production: {} }\n");
    let said = checked(&project, 1);
    for expected in [
        "error: .pipeline/config.yaml:2:37: there is no variant `tset`; did you mean `test`?",
        "error: .pipeline/config.yaml:3:3: release.toml has no package `wbe`; did you mean `web`?",
        "error: .pipeline/wbe/variants.yaml:1:33: `entrypoint` is a list of arguments, never a line for a shell",
        "3 errors in ",
    ] {
        assert!(said.contains(expected), "{said}\nexpected: {expected}");
    }
}

#[test]
fn a_file_that_is_none_or_lies_elsewhere_is_not_read() {
    let project = Project::new("");
    std::fs::create_dir_all(project.path(CONFIG)).unwrap();
    assert!(checked(&project, 1).contains("error: .pipeline/config.yaml: the file is not a file"));
    std::fs::remove_dir(project.path(CONFIG)).unwrap();
    symlink("/etc/passwd", project.path(CONFIG)).unwrap();
    let said = checked(&project, 1);
    assert!(said.contains("the file is a link that leads out of the repository"), "{said}");
    std::fs::remove_file(project.path(CONFIG)).unwrap();
    project.write(CONFIG, &" ".repeat((256 << 10) + 1));
    let said = checked(&project, 1);
    assert!(
        said.contains("error: .pipeline/config.yaml:1:1: the file has 262145 bytes, and 262144 is the most"),
        "{said}"
    );
    // What matters is the content.
    project.write("elsewhere.yaml", "pipelines: { web: { stages: [{ name: a, copy: [x] }] } }\n");
    std::fs::remove_file(project.path(CONFIG)).unwrap();
    symlink("../elsewhere.yaml", project.path(CONFIG)).unwrap();
    assert!(checked(&project, 0).contains("checked 1 pipeline"));
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let project = Project::new("");
    let config = "pipelines:
  web:
    stages:
      - { name: candidate, publish: { package: { name: web } } }
      - { name: ship, channel: [{ app: web }] }
";
    project.write(CONFIG, config);
    let said = checked(&project, 0);
    for expected in [
        "warning: .pipeline/config.yaml:4:48: `web` is released and nothing before it runs anything: let a test come first",
        "warning: .pipeline/config.yaml:5:33: the channel `prod` of `web` is moved to what was tried on no server: let a `deploy`",
    ] {
        assert!(said.contains(expected), "{said}\nexpected: {expected}");
    }
    // An image on what may be another one tomorrow.
    project.write(CONFIG, "pipelines: { web: { stages: [{ name: a, build: production, run: true }] } }\n");
    project.write(VARIANTS, "variants:\n  production: { base: 'images.example/debian:13', entrypoint: [/web] }\n");
    let said = checked(&project, 0);
    let unpinned =
        "the base `images.example/debian:13` has no digest: the same commit gives another image once that tag is moved";
    assert!(said.contains(&format!("warning: {VARIANTS}:2:23: {unpinned}")), "{said}");
    let findings = project.json(&["check", "--json"]);
    let found = findings.as_array().unwrap().iter().find(|finding| finding["text"] == unpinned).unwrap();
    assert_eq!(found["level"], "warning", "{findings}");
    project.write(
        VARIANTS,
        &format!(
            "variants:\n  production: {{ base: 'images.example/debian:13@sha256:{}', entrypoint: [/web] }}\n",
            "0".repeat(64)
        ),
    );
    assert!(!checked(&project, 0).contains("has no digest"));
    project.write(CONFIG, config);

    let text = std::fs::read_to_string(project.path("release.toml")).unwrap();
    project.write("release.toml", &format!("{text}[pipeline]\nrequire_trial = true\n"));
    let said = checked(&project, 1);
    assert!(
        said.contains("error: .pipeline/config.yaml:5:33: the channel `prod` of `web` is moved to what was tried"),
        "{said}"
    );
}
