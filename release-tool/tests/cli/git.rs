//! git: what `release` takes from it, and what it keeps git from doing.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    process::Command,
};

use crate::{
    outcome::Run as _,
    project::{HEAD, Project, field, stdout},
};

const CONTENTS: &str = "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]\n";

/// A project whose `.git/config` has a program wherever git would run one; each makes the file `ran` beside the project.
fn hostile() -> Project {
    let project = Project::new(CONTENTS);
    let evil = project.beside("evil");
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\n", project.beside("ran").display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = project.beside("hooks");
    fs::create_dir(&hooks).unwrap();
    for hook in ["post-index-change", "fsmonitor-watchman", "pre-auto-gc", "reference-transaction"] {
        fs::copy(&evil, hooks.join(hook)).unwrap();
    }
    project.write(".gitattributes", "* filter=evil\n");
    project.commit();
    let (evil, hooks) = (evil.to_str().unwrap(), hooks.to_str().unwrap());
    for (key, value) in [
        ("core.fsmonitor", evil),
        ("core.hooksPath", hooks),
        ("core.pager", evil),
        ("core.sshCommand", evil),
        ("diff.external", evil),
        ("gpg.program", evil),
        ("log.showSignature", "true"),
        ("pager.log", "true"),
        ("pager.status", "true"),
        ("filter.evil.clean", evil),
        ("filter.evil.required", "true"),
        ("credential.helper", evil),
    ] {
        project.git(&["config", key, value]);
    }
    for command in ["rev-parse", "log", "status", "config", "var", "ls-files"] {
        project.git(&["config", &format!("alias.{command}"), &format!("!{evil}")]);
    }
    // git compares with the filter what has another time than the index has.
    let file = fs::File::options().append(true).open(project.path("web")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    project
}

#[test]
fn nothing_that_the_repository_names_is_run() {
    let project = hostile();
    // So is it, without our care.
    let mut git = Command::new("git");
    git.args(["status", "--porcelain"]).current_dir(project.path(".")).output().unwrap();
    assert!(fs::remove_file(project.beside("ran")).is_ok(), "the repository is harmless: it shows nothing");
    project.release(&["check"]).assert().success();
    project.release(&["build", "-m", "why"]).assert().success();
    project.release(&["plan"]).assert().success();
    fs::remove_file(project.path("release.toml")).unwrap();
    project.release(&["init"]).assert().success();
    let ran = fs::read_to_string(project.beside("ran")).unwrap_or_default();
    assert_eq!(ran, "", "git ran what `.git/config` names");
}

#[test]
fn changes_inside_of_a_submodule_are_dirt_and_its_filters_do_not_run() {
    let inner = hostile();
    let project = Project::new(CONTENTS);
    let source = inner.path(".").canonicalize().unwrap();
    project.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        source.to_str().unwrap(),
        "inner",
    ]);
    project.commit();
    let evil = inner.beside("evil");
    for (key, value) in [("filter.evil.clean", evil.to_str().unwrap()), ("core.fsmonitor", evil.to_str().unwrap())] {
        project.git(&["-C", "inner", "config", key, value]);
    }
    assert_eq!(field(&project.build(), "Push-Dirty"), "false");
    project.write("inner/web", "changed");
    let output = project
        .release(&["build", "-m", "why", "--time", "2026-11-20T19:05:03Z"])
        .assert()
        .success()
        .get_output()
        .clone();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("uncommitted or untracked files: inner/web"), "{said}");
    assert!(!inner.beside("ran").exists(), "git ran what the submodule's configuration names");
}

#[test]
fn a_repository_of_another_user_has_its_own_remedy() {
    let project = Project::new(CONTENTS);
    let mut command = project.release(&["build", "-m", "why"]);
    let output = command.env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1").assert().code(1).get_output().clone();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("git config --global --add safe.directory '") && !said.contains("git init"), "{said}");
}

#[test]
fn a_file_name_that_is_not_utf_8_is_dirt_and_no_obstacle() {
    let project = Project::new(CONTENTS);
    fs::write(project.path(".").join(OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    let output = project.release(&["build", "-m", "why"]).assert().success().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("untracked files: caf"), "{output:?}");
    assert_eq!(field(stdout(&output).trim().as_ref(), "Push-Dirty"), "true");
}

#[test]
fn the_maintainer_is_by_default_whom_git_knows() {
    let project = Project::new("");
    project.write("release.toml", &HEAD.replace("[defaults]\nmaintainer = \"Acme <ops@acme.example>\"\n", ""));
    project.commit();
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(
        said.contains("[package.web]: `maintainer` is missing") && said.contains("git config --global user.name"),
        "{said}"
    );
    let checked = project.release(&["check"]).assert().code(1).get_output().clone();
    assert!(stdout(&checked).contains("`maintainer` is missing"), "{checked:?}");
    project.git(&["config", "user.name", "Dev"]);
    project.git(&["config", "user.email", "dev@acme.example"]);
    let output = project.release(&["build", "-m", "why"]).assert().success().get_output().clone();
    assert_eq!(field(stdout(&output).trim().as_ref(), "Maintainer"), "Dev <dev@acme.example>");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("maintainer: Dev <dev@acme.example> (from git").count(), 1, "{said}");
    // Stated, it is neither asked for nor mentioned.
    let stated = Project::new("").release(&["build", "-m", "why"]).assert().success().get_output().clone();
    assert!(!String::from_utf8_lossy(&stated.stderr).contains("from git"), "{stated:?}");
}
