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

    // That the package is not built yet is no excuse.
    let build = "build = [\"true\"]\ncontents = [{ src = \"../secret\", dst = \"/srv/\" }]\n";
    project.write("release.toml", &format!("{HEAD}{build}"));
    let said = stdout(project.release(&["check"]).assert().code(1).get_output());
    assert!(said.starts_with("error: [package.web]: [package.web] contents[0]: `../secret` is `"), "{said}");

    project.write("release.toml", &format!("{HEAD}outside = true\n"));
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("[package.web]: `outside` has no effect without `deb`: move it"), "{said}");

    let unit = "[[package.web.unit]]\nfile = \"../x.service\"\n";
    project.write("release.toml", &format!("{HEAD}{unit}"));
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("unit `x.service`: cannot use `file`") && said.contains("outside = true"), "{said}");
    project.write("release.toml", &format!("{HEAD}{unit}outside = true\n"));
    project.release(&["build", "-m", "why", "--out", "../out"]).assert().success();
}

#[test]
fn a_prebuilt_package_from_outside_of_the_repository_is_taken_only_if_that_is_said() {
    let project = Project::new("contents = [{ src = \"web\", dst = \"/usr/bin/web\" }]\n");
    let deb = project.build();
    fs::copy(&deb, project.beside("other.deb")).unwrap();
    symlink("../other.deb", project.path("linked.deb")).unwrap();
    let absolute = project.beside("other.deb").canonicalize().unwrap();
    for (deb, second) in [("../other.deb", "03"), (absolute.to_str().unwrap(), "04"), ("linked.deb", "05")] {
        let prebuilt = format!("schema = 1\n[package.web]\ndeb = \"{deb}\"\n");
        project.write("release.toml", &prebuilt);
        for arguments in [&["build", "-m", "why"][..], &["check"], &["plan"]] {
            let output = project.release(arguments).assert().code(1).get_output().clone();
            let said = format!("{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
            let expected = format!("`{deb}` is `{}`, outside of the repository", absolute.display());
            assert!(said.contains(&expected) && said.contains("add outside = true"), "{deb}: {said}");
        }
        project.write("release.toml", &format!("{prebuilt}outside = true\n"));
        let said = stdout(project.release(&["check"]).assert().success().get_output());
        let noted =
            format!("note: [package.web]: `deb` takes `{}` from outside of the repository\n", absolute.display());
        assert_eq!(said, noted);
        let planned = stdout(project.release(&["plan"]).assert().success().get_output());
        assert!(planned.contains("from outside of the repository"), "{planned}");
        project.release(&["build", "-m", "why", "--time", &format!("2026-11-20T19:05:{second}Z")]).assert().success();
    }
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

#[test]
fn owners_and_modes_reach_directories_and_data_stays_data() {
    let project = Project::new("");
    project.write("tree/bin/run", "#!/bin/sh\n");
    fs::set_permissions(project.path("tree/bin/run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    project.write("tree/data/deep/file", "x");
    let second = ["03", "04", "05", "06"];
    for (i, (keys, expected)) in [
        ("", ["root 755 bin/", "root 755 bin/run", "root 755 data/", "root 644 data/deep/file"]),
        (
            ", owner = \"www-data\", mode = \"u=rwX,g=rX,o=\"",
            ["www-data 750 bin/", "www-data 750 bin/run", "www-data 750 data/", "www-data 640 data/deep/file"],
        ),
        (
            ", owner = \"www-data\", mode = \"0600\", dir_mode = \"0711\"",
            ["www-data 711 bin/", "www-data 600 bin/run", "www-data 711 data/", "www-data 600 data/deep/file"],
        ),
        (", mode = \"a+x\"", ["root 755 bin/", "root 755 bin/run", "root 755 data/", "root 755 data/deep/file"]),
    ]
    .into_iter()
    .enumerate()
    {
        write(&project, &format!("{{ src = \"tree/**\", dst = \"/srv/web/\"{keys} }}"));
        let time = format!("2026-11-20T19:05:{}Z", second[i]);
        let output = project.release(&["build", "-m", "why", "--time", &time]).assert().success().get_output().clone();
        let out = project.beside(&format!("root{i}"));
        let list = "dpkg-deb --fsys-tarfile \"$1\" | tar --list --verbose";
        let listing = tool("sh", &["-c", list, out.to_str().unwrap(), stdout(&output).trim()]);
        for line in expected {
            let [owner, mode, path]: [&str; 3] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let letters = letters(u32::from_str_radix(mode, 8).unwrap());
            let found = listing.lines().find(|line| line.ends_with(&format!(" ./srv/web/{path}"))).unwrap_or_default();
            assert!(found[1..].starts_with(&format!("{letters} {owner}/root ")), "{keys}: {line}\n{listing}");
        }
        let top = listing.lines().find(|line| line.ends_with(" ./srv/web/")).unwrap();
        assert!(top.starts_with("drwxr-xr-x root/root "), "{top}");
    }
    for (keys, expected) in [
        ("mode = \"0755\"", "tree/data/deep/file` executable, which it is not in the project: write mode = "),
        ("mode = \"u=rw,go=r\"", "`mode` makes directories that can be read and not entered (0644): write `X`"),
        ("dir_mode = \"0640\"", "`dir_mode` makes directories that can be read and not entered (0640)"),
        ("mode = \"rwx\"", "[package.web] contents[0]: invalid `mode`"),
    ] {
        write(&project, &format!("{{ src = \"tree/**\", dst = \"/srv/web/\", {keys} }}"));
        let said = project.refused(&["build", "-m", "why"], 1);
        assert!(said.contains(expected), "{keys}: {said}");
    }
    let twice = |owner: &str| format!("{{ src = \"tree/*/run\", dst = \"/srv/\", owner = \"{owner}\" }}");
    write(&project, &format!("{}, {}", twice("daemon"), twice("games").replace("run", "d*/file")));
    project.write("tree/bin/deep/file", "x");
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("has another owner or mode by [package.web] contents[0]"), "{said}");
}

/// As ls(1) writes permission bits.
fn letters(mode: u32) -> String {
    (0..9).map(|i| if mode & (0o400 >> i) == 0 { '-' } else { ['r', 'w', 'x'][i % 3] }).collect()
}
