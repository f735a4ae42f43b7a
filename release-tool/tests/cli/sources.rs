//! What a `src` takes: never git's own files, and nothing from outside of the repository unless that is said.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{
    outcome::Run as _,
    project::{HEAD, Project, stdout, tool},
};

/// The paths in a package, of files and links.
fn paths(deb: &Path) -> Vec<String> {
    let listing = tool("dpkg-deb", &["--contents", deb.to_str().unwrap()]);
    let lines = listing.lines().filter(|line| !line.starts_with('d'));
    lines.map(|line| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ")).collect()
}

fn write(project: &Project, contents: &str) {
    project.write("release.toml", &format!("{HEAD}contents = [{contents}]\n"));
}

#[test]
fn the_whole_project_is_taken_without_git_and_earlier_packages() {
    let project = Project::new("contents = [{ src = \".\", dst = \"/srv/web/\" }]\n");
    project.git(&["remote", "add", "origin", "https://dev:s3cret@git.example/web.git"]);
    // What a submodule has, and a repository in the repository.
    project.write("sub/.git", "gitdir: ../.git/modules/sub\n");
    project.write("sub/code", "x");
    project.write("other/.git/config", "[remote]\nurl = https://dev:s3cret@git.example/other.git\n");
    project.write("dist/notes", "x");
    project.build();
    let again = project.release(&["build", "-m", "why", "--time", "2026-11-20T19:05:03Z"]);
    let deb = stdout(&{ again }.assert().success().get_output().clone()).trim().to_owned();
    let expected = ["etc/web.conf", "release.toml", "sub/code", "web", "web.service"];
    assert_eq!(paths(deb.as_ref()), expected.map(|path| format!("./srv/web/{path}")));
}

#[test]
fn git_and_the_output_directory_are_taken_when_they_are_named() {
    let project = Project::new("");
    write(
        &project,
        "{ src = \".git/HEAD\", dst = \"/srv/a\" }, { src = \".git/refs/**\", dst = \"/srv/b/\" }, \
                     { src = \"*/.git/config\", dst = \"/srv/c/\" }, { src = \"dist\", dst = \"/srv/d\" }",
    );
    project.write("other/.git/config", "x");
    project.write("dist/index.html", "x");
    let found = paths(&project.build());
    assert_eq!(found, ["./srv/a", "./srv/b/heads/main", "./srv/c/other/.git/config", "./srv/d/index.html"]);
}

#[test]
fn what_lies_outside_of_the_repository_is_taken_only_if_that_is_said() {
    let project = Project::new("");
    fs::write(project.beside("secret"), "s3cret").unwrap();
    fs::create_dir(project.beside("tree")).unwrap();
    fs::write(project.beside("tree/file"), "x").unwrap();
    fs::write(project.beside("x.service"), "[Service]\nExecStart=/usr/bin/web\n").unwrap();
    symlink("../secret", project.path("link")).unwrap();
    symlink("../tree", project.path("linked")).unwrap();
    let absolute = project.beside("secret").canonicalize().unwrap();
    for src in ["../secret", absolute.to_str().unwrap(), "link", "linked/**", "linked/file", "../tree/*"] {
        write(&project, &format!("{{ src = \"{src}\", dst = \"/srv/\" }}"));
        for arguments in [&["build", "-m", "why"][..], &["check"]] {
            let output = project.release(arguments).assert().code(1).get_output().clone();
            let said = format!("{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("outside of the repository") && said.contains("add outside = true"), "{src}: {said}");
        }
        write(&project, &format!("{{ src = \"{src}\", dst = \"/srv/\", outside = true }}"));
        let said = stdout(project.release(&["check"]).assert().success().get_output());
        let shown = "note: [package.web]: [package.web] contents[0] takes `";
        assert!(said.starts_with(shown) && said.ends_with("` from outside of the repository\n"), "{src}: {said}");
    }
    assert_eq!(paths(&project.build()), ["./srv/file"]);

    let unit = "[[package.web.unit]]\nfile = \"../x.service\"\n";
    project.write("release.toml", &format!("{HEAD}{unit}"));
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("unit `x.service`: cannot use `file`") && said.contains("outside = true"), "{said}");
    project.write("release.toml", &format!("{HEAD}{unit}outside = true\n"));
    project.release(&["build", "-m", "why", "--out", "../out"]).assert().success();
}

#[test]
fn a_link_in_a_tree_is_shipped_and_one_that_is_named_in_the_repository_is_followed() {
    let project = Project::new("");
    fs::write(project.beside("secret"), "s3cret").unwrap();
    project.write("tree/file", "x");
    symlink("../../secret", project.path("tree/secret")).unwrap();
    symlink("/etc", project.path("tree/etc")).unwrap();
    symlink("web", project.path("current")).unwrap();
    write(&project, "{ src = \"tree\", dst = \"/srv/\" }, { src = \"current\", dst = \"/usr/bin/web\" }");
    let found = paths(&project.build());
    assert_eq!(found, ["./srv/etc -> /etc", "./srv/file", "./srv/secret -> ../../secret", "./usr/bin/web"]);
}
