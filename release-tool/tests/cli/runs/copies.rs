//! Copies of the commit: what is in them, and that nothing outside of them is read, written or removed through them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
    runs::{ensure_cleared, objects, project, ran, results, run, said, stages, why},
};

const LOOK: &str = "variants: { look: { entrypoint: [sh, -c, 'cat d/f d2 2>&1; ls -l d; true'] } }\n";

/// A directory beside the project that nothing may write to, with one file.
fn victim(project: &Project) -> std::path::PathBuf {
    let victim = project.beside("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("f"), "theirs\n").unwrap();
    victim
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_not_committed_and_of_another_kind_replaces_what_was_and_goes_through_no_link() {
    let project = project("", &stages("      - { name: look, build: look, run: true }\n"), LOOK);
    let victim = victim(&project);
    symlink(&victim, project.path("d")).unwrap();
    project.write("d2/old", "");
    project.commit();
    fs::remove_file(project.path("d")).unwrap();
    project.write("d/f", "mine\n");
    fs::remove_dir_all(project.path("d2")).unwrap();
    project.write("d2", "a file\n");
    let (_, said) = ran(&project, &["--dirty"], 0);
    assert!(said.contains("look | mine\nlook | a file\n"), "{said}");
    assert_eq!(fs::read_to_string(victim.join("f")).unwrap(), "theirs\n");
}

#[test]
fn commands_run_in_a_directory_of_the_copy_whatever_links_there_are() {
    let config = |directory: &str| {
        format!("pipelines: {{ web: {{ directory: {directory}, stages: [{{ name: a, build: move, run: true }}] }} }}\n")
    };
    let variants = "variants: { move: { build: [[sh, -c, 'cd ..; rm -r sub; ln -s \"$OLDPWD/../../../../../victim\" sub']], entrypoint: [touch, written] } }\n";
    let project = project("", &config("sub"), variants);
    let victim = victim(&project);
    symlink(&victim, project.path("link")).unwrap();
    project.write("sub/x", "");
    project.commit();
    let absolute = format!("{}", victim.display());
    project.write(
        ".pipeline/web/variants.yaml",
        &format!("variants: {{ move: {{ build: [[sh, -c, 'cd ..; rm -r sub; ln -s {absolute} sub']], entrypoint: [touch, written] }} }}\n"),
    );
    project.commit();
    let (found, _) = ran(&project, &[], 1);
    assert_eq!(why(&found, "a"), "`sub` is a link that leads out of the stage's copy");
    symlink("sub", project.path("inner")).unwrap();
    for (directory, reason) in [
        ("link", "is a link that leads out of the repository"),
        ("none", "is no directory of the repository"),
        ("web", "is no directory of the repository"),
    ] {
        project.write(".pipeline/config.yaml", &config(directory));
        project.commit();
        let expected =
            format!(".pipeline/config.yaml:1:14: the directory `{directory}` of the pipeline `web` {reason}");
        for dry_run in [&[][..], &["--dry-run"]] {
            let refused = project.refused(&[&["run"], dry_run].concat(), 2);
            assert!(refused.contains(&expected) && refused.contains("1 mistake in"), "{refused}");
        }
        let checked = stdout(project.release(&["check"]).assert().code(1).get_output());
        assert!(checked.contains(reason), "{checked}");
    }
    project.write(".pipeline/config.yaml", &config("inner"));
    project.commit();
    project.json(&["run", "--dry-run", "--json"]);
    assert_eq!(names(&victim), ["f"]);
}

#[test]
fn files_come_to_no_place_outside_and_into_nothing_that_is_no_file() {
    let config = stages(
        "      - { name: out, copy: [{ source: web, destination: out/new/x }] }
      - { name: pipe, build: pipe, copy: [{ source: web, destination: p }] }
",
    )
    .replace("stages:", "execution: [[out], [pipe]]\n    stages:");
    let project = project("", &config, "variants: { pipe: { build: [[mkfifo, p]] } }\n");
    let victim = victim(&project);
    symlink(&victim, project.path("out")).unwrap();
    project.commit();
    // What is committed is a mistake of the check, with all others.
    for arguments in [&["run"][..], &["run", "--dry-run"]] {
        let refused = project.refused(arguments, 2);
        assert!(
            refused.contains("`destination` cannot be `out/new/x`: it is a link that leads out of the repository"),
            "{refused}"
        );
    }
    let checked = stdout(project.release(&["check"]).assert().code(1).get_output());
    assert!(checked.contains("`destination` cannot be `out/new/x`"), "{checked}");
    for source in ["out", "out/f", "o*", "'**/*'"] {
        let sourced = stages(&format!("      - {{ name: a, copy: [{{ source: {source}, destination: got }}] }}\n"));
        project.write(".pipeline/config.yaml", &sourced);
        project.commit();
        let refused = project.refused(&["run"], 2);
        assert!(refused.contains("it is a link that leads out of the repository"), "{source}: {refused}");
    }
    // One that a stage makes fails that stage.
    fs::remove_file(project.path("out")).unwrap();
    project.write(".pipeline/config.yaml", &config.replace("name: out, copy", "name: out, build: link, copy"));
    let link = format!("link: {{ build: [[ln, -s, '{}', out]] }}", victim.display());
    project
        .write(".pipeline/web/variants.yaml", &format!("variants: {{ pipe: {{ build: [[mkfifo, p]] }}, {link} }}\n"));
    project.commit();
    let (found, _) = ran(&project, &["--jobs", "2"], 1);
    assert_eq!(results(&found), ["out failed", "pipe failed"]);
    assert!(why(&found, "out").contains("`out` is a link that leads out"), "{found}");
    assert!(why(&found, "pipe").contains("something is there that is no file"), "{found}");
    assert_eq!(names(&victim), ["f"]);
}

#[test]
fn what_is_mounted_in_a_copy_is_unmounted_and_not_removed() {
    let project = project("", &stages("      - { name: a, build: mount }\n"), "variants: {}\n");
    let victim = victim(&project);
    let mount = format!(
        "variants: {{ mount: {{ build: [[sh, -c, 'mkdir m && mount --bind {} m && ls m']] }} }}\n",
        victim.display()
    );
    project.write(".pipeline/web/variants.yaml", &mount);
    project.commit();
    let (_, said) = ran(&project, &[], 0);
    assert!(said.contains("a | f\n"), "{said}");
    assert_eq!(names(&victim), ["f"]);
}

#[test]
fn a_run_that_a_hook_of_git_starts_leaves_its_repository_as_it_was() {
    let variants = "variants: { a: { build: [[git, log, -1, '--format=%s']] } }\n";
    let project = project("", &stages("      - { name: a, build: a }\n"), variants);
    project.git(&["remote", "add", "origin", "https://u:secret@git.example/web.git"]);
    let config = fs::read_to_string(project.path(".git/config")).unwrap();
    let hook = format!("#!/bin/sh\nexec {} run > /dev/null\n", env!("CARGO_BIN_EXE_release"));
    project.write(".git/hooks/pre-commit", &hook);
    fs::set_permissions(project.path(".git/hooks/pre-commit"), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = project.beside("tree");
    project.git(&["worktree", "add", "-q", tree.to_str().unwrap()]);
    fs::write(tree.join("new"), "").unwrap();
    let mut git = Command::new("git");
    for (key, value) in run(&project, &[]).get_envs() {
        match value {
            Some(value) => git.env(key, value),
            None => git.env_remove(key),
        };
    }
    git.arg("-C").arg(&tree).args([
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@acme.example",
        "commit",
        "-qam",
        "x",
        "--allow-empty",
    ]);
    let output = git.assert().success().get_output().clone();
    assert!(said(&output).contains("a: passed"), "{}", said(&output));
    ensure_cleared(&project);
    assert_eq!(fs::read_to_string(project.path(".git/config")).unwrap(), config);
    // One whose environment names the repository, as a hook's does.
    let output = run(&project, &[]).env("GIT_DIR", project.path(".git")).assert().success().get_output().clone();
    assert!(said(&output).contains("a | work"), "{}", said(&output));
    assert_eq!(fs::read_to_string(project.path(".git/config")).unwrap(), config);
}

#[test]
fn the_release_is_of_the_commit_of_the_run_whatever_its_build_does_with_git() {
    for spoil in [
        "git update-index --assume-unchanged web; echo evil > web",
        "echo evil > web; git -c user.name=x -c user.email=x@y commit -qam evil",
        "echo evil > web; git add web; rm -r .git/index",
    ] {
        let config = stages("      - { name: candidate, build: spoil, publish: { package: { name: web } } }\n");
        let variants = format!("variants: {{ spoil: {{ build: [[sh, -c, '{spoil}']] }} }}\n");
        let project = project("", &config, &variants);
        let (found, _) = ran(&project, &["-m", "x"], 1);
        let why = why(&found, "candidate");
        assert!(why.contains("not what was committed, uncommitted or untracked files: web"), "{spoil}: {why}");
        assert_eq!(objects(&project, "debs/"), [] as [String; 0]);
    }
}

#[test]
fn files_that_are_links_are_read_where_they_lead_and_never_without_end() {
    let config = stages("      - { name: a, build: a }\n");
    let project = project("", &config, "variants: { a: { build: [['true']] } }\n");
    fs::create_dir(project.path("ci")).unwrap();
    fs::rename(project.path(".pipeline/config.yaml"), project.path("ci/p.yaml")).unwrap();
    symlink("../ci/p.yaml", project.path(".pipeline/config.yaml")).unwrap();
    project.commit();
    let (found, _) = ran(&project, &[], 0);
    assert_eq!(results(&found), ["a passed"]);
    fs::remove_file(project.path("release.toml")).unwrap();
    symlink("/dev/zero", project.path("release.toml")).unwrap();
    project.commit();
    let refused = project.refused(&["run"], 2);
    assert!(
        refused.contains("`release.toml` is a link that leads out of the repository, by what the commit "),
        "{refused}"
    );
    fs::remove_file(project.path("release.toml")).unwrap();
    project.write("release.toml", "schema = 2\n");
    project.commit();
    let refused = project.refused(&["run"], 2);
    assert!(
        refused.contains("invalid `release.toml`, by what the commit ") && !refused.contains("push-run"),
        "{refused}"
    );
    assert!(stdout(&run(&project, &["--help"]).output().unwrap()).contains("--junit"));
}

#[test]
fn what_git_lfs_keeps_comes_from_the_checkout_and_from_nowhere_else() {
    let variants = "variants: { look: { build: [[sh, -c, 'head -c 60 big; echo; head -c 60 gone; echo']] } }\n";
    let project = project("", &stages("      - { name: look, build: look }\n"), variants);
    let settings = project.beside("lfs");
    let filter = "[filter \"lfs\"]\n clean = git-lfs clean -- %f\n smudge = git-lfs smudge -- %f\n process = git-lfs filter-process\n required = true\n";
    fs::write(&settings, filter).unwrap();
    project.git(&["config", "include.path", settings.to_str().unwrap()]);
    // Whoever asked there would hang: it takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!("http://{}/web.git", silent.local_addr().unwrap());
    project.git(&["remote", "add", "origin", &remote]);
    project
        .write(".gitattributes", "big filter=lfs diff=lfs merge=lfs -text\ngone filter=lfs diff=lfs merge=lfs -text\n");
    project.write("big", "what git-lfs keeps\n");
    project.write("gone", "what it has no more\n");
    project.commit();
    let kept =
        stdout(&Command::new("git-lfs").args(["ls-files", "--long"]).current_dir(project.path(".")).output().unwrap());
    let gone = kept.lines().find(|line| line.ends_with("gone")).unwrap().split(' ').next().unwrap();
    fs::remove_file(project.path(&format!(".git/lfs/objects/{}/{}/{gone}", &gone[..2], &gone[2..4]))).unwrap();
    // As in a checkout that never had it; else whoever looks for changes makes the object again.
    let pointer = Command::new("git").args(["cat-file", "blob", "HEAD:gone"]).current_dir(project.path(".")).output();
    project.write("gone", &stdout(&pointer.unwrap()));
    let output = run(&project, &[]).env("GIT_CONFIG_GLOBAL", &settings).assert().success().get_output().clone();
    let said = said(&output);
    assert!(said.contains("look | what git-lfs keeps\n"), "{said}");
    let missing =
        "warning: 1 file of the commit is kept by git-lfs and not here: each stage has pointers in their place";
    assert!(said.contains(missing), "{said}");
    assert!(
        said.contains("look | version https://git-lfs.github.com/spec/v1\n"),
        "a file that is not here is its pointer: {said}"
    );
    ensure_cleared(&project);
    // Where the checkout's configuration has it elsewhere, it is found there.
    for storage in [project.beside("storage").display().to_string(), "elsewhere".to_owned()] {
        let place = project.path(".git").join(&storage);
        fs::create_dir_all(&place).unwrap();
        let status = Command::new("cp").arg("-r").arg(project.path(".git/lfs/objects")).arg(&place).status();
        assert!(status.unwrap().success());
        project.git(&["config", "lfs.storage", &storage]);
        let usual = [project.path(".git/lfs/objects"), project.path(".git/lfs/away")];
        fs::rename(&usual[0], &usual[1]).unwrap();
        let output = run(&project, &[]).env("GIT_CONFIG_GLOBAL", &settings).assert().success().get_output().clone();
        fs::rename(&usual[1], &usual[0]).unwrap();
        let said = crate::runs::said(&output);
        assert!(said.contains("look | what git-lfs keeps\n"), "{storage}: {said}");
    }
}
