//! `release build`: what it refuses, what it records, and that it builds the same twice.

use std::{fs, os::unix::fs::symlink};

use crate::outcome::Run as _;

use crate::project::{HEAD, Project, field, stdout};

const CONTENTS: &str = "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]\n";

#[test]
fn nothing_is_built_outside_git() {
    let project = Project::bare();
    project.write("release.toml", &format!("{}{CONTENTS}", crate::project::HEAD));
    project.write("web", "x");
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("is not in a git repository"), "{said}");
    project.git(&["init", "-q"]);
    let said = project.refused(&["build", "-m", "why"], 1);
    assert!(said.contains("no commits in the repository"), "{said}");
}

#[test]
fn nothing_is_built_without_a_note() {
    let project = Project::new(CONTENTS);
    assert!(project.refused(&["build"], 2).contains("missing release note"));
    assert!(project.refused(&["build", "-m", " \n"], 2).contains("empty release note"));
    assert!(project.refused(&["-m", ""], 2).contains("empty release note"));
    assert!(project.refused(&[], 2).contains("release --help"));
    assert!(!project.path("dist").exists(), "nothing was written");
}

#[test]
fn name_and_version_tell_who_when_and_what() {
    let project = Project::new(&format!("version = \"1:2.0\"\n{CONTENTS}"));
    project.git(&["remote", "add", "origin", "https://dev:s3cret@git.example/web.git"]);
    let deb = project.build();
    let stem = deb.file_stem().unwrap().to_str().unwrap().to_owned();
    let commit = stem.rsplit(':').next().unwrap();
    assert_eq!(stem, format!("web:dev@build-1:2026-11-20T19:05:02Z:{commit}"));
    assert_eq!(field(&deb, "Push-Release"), stem);
    assert_eq!(field(&deb, "Version"), format!("1:2.0+20261120190502.{}", &commit[..12]));
    assert_eq!(field(&deb, "Push-Dirty"), "false");
    assert_eq!(field(&deb, "Push-Repo"), "https://git.example/web.git");
    assert_eq!(field(&deb, "Push-Branch"), "main");
}

#[test]
fn two_builds_of_a_commit_are_the_same_bytes() {
    let contents = "contents = [{ src = \"tree/**\", dst = \"/usr/share/web/\" }, { src = \"etc/web.conf\", dst = \"/etc/web.conf\" }]
[[package.web.unit]]
file = \"web.service\"
";
    let project = Project::new(contents);
    for i in 0..50 {
        project.write(&format!("tree/{}/{i}", i % 7), &"some text ".repeat(i * 1000));
    }
    symlink("0/0", project.path("tree/link")).unwrap();
    project.commit();
    let first = project.build();
    // Another directory, another file time, another umask's modes.
    fs::write(project.path("tree/0/0"), "").unwrap();
    std::os::unix::fs::chown(project.path("tree/0/0"), None, None).unwrap();
    fs::set_permissions(project.path("tree/1/1"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let output = project.release(&["build", "-m", "why", "--out", "../again"]).assert().success().get_output().clone();
    let second = stdout(&output).trim().to_owned();
    assert_ne!(first.to_str().unwrap(), second);
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "the two packages differ");
}

/// What may differ between two machines and isn't in the name: directory, umask, number of cores, order and times of files.
#[test]
fn the_same_commit_gives_the_same_bytes_in_any_directory_with_any_umask_on_any_number_of_cores() {
    for compression in ["zstd", "xz"] {
        let contents = format!(
            "compression = \"{compression}\"\ncontents = [{{ src = \"tree/**\", dst = \"/usr/share/web/\" }}]\n"
        );
        let project = Project::new(&contents);
        for i in 0..300 {
            project.write(&format!("tree/{}/{i}", i % 7), &format!("{i} some text ").repeat(i * 5));
        }
        // More than one job of zstd, and than one block of xz.
        let large = if compression == "zstd" { 500_000 } else { 1_300_000 };
        project.write("tree/large", &"a text without end, ".repeat(large));
        project.git(&["remote", "add", "origin", "https://git.example/web.git"]);
        project.commit();
        let expected = fs::read(project.build()).unwrap();
        let cores = std::thread::available_parallelism().unwrap().get() - 1;
        for (place, umask, cores) in [("a", "022", "0".to_owned()), ("far/away", "077", format!("0-{cores}"))] {
            let copy = project.beside(place);
            let script = format!(
                "umask {umask} && git clone -q '{}' '{}' && cd '{}' && git remote set-url origin https://git.example/web.git && \
                 exec taskset -c {cores} \"$@\"",
                project.path(".").display(),
                copy.display(),
                copy.display(),
            );
            let release = project.release(&["build", "-m", "why"]);
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script, "sh"]).arg(release.get_program()).args(release.get_args());
            for (key, value) in release.get_envs() {
                match value {
                    Some(value) => command.env(key, value),
                    None => command.env_remove(key),
                };
            }
            let deb = stdout(command.assert().success().get_output()).trim().to_owned();
            assert!(fs::read(&deb).unwrap() == expected, "{compression}: {place}, umask {umask}, cores {cores}");
        }
    }
}

#[test]
fn dirt_is_recorded_wherever_it_comes_from() {
    let modified = Project::new(CONTENTS);
    modified.write("web", "changed");
    let untracked = Project::new(CONTENTS);
    untracked.write("new file", "x");
    let by_the_build = Project::new(&format!("build = [\"sh\", \"-c\", \"echo x > made\"]\n{CONTENTS}"));
    for (project, file) in [(modified, "web"), (untracked, "new file"), (by_the_build, "made")] {
        let output = project.release(&["build", "-m", "why"]).assert().success().get_output().clone();
        let deb = stdout(&output).trim().to_owned();
        assert_eq!(field(deb.as_ref(), "Push-Dirty"), "true", "{file}");
        assert_eq!(field(deb.as_ref(), "Version").rsplit('.').next(), Some("dirty"), "{file}");
        assert!(
            String::from_utf8_lossy(&output.stderr)
                .contains(&format!("warning: dirty build, uncommitted or untracked files: {file}")),
            "{output:?}"
        );
    }
}

#[test]
fn ignored_outputs_and_earlier_releases_are_not_dirt() {
    let project = Project::new(&format!("build = [\"sh\", \"-c\", \"mkdir -p out; echo x > out/x\"]\n{CONTENTS}"));
    project.write(".gitignore", "/out\n");
    project.commit();
    project.build();
    let again = project.release(&["build", "-m", "why", "--time", "2026-11-20T19:05:03Z"]);
    let deb = stdout(&{ again }.assert().success().get_output().clone()).trim().to_owned();
    assert_eq!(field(deb.as_ref(), "Push-Dirty"), "false");
}

#[test]
fn an_earlier_release_is_not_content_of_the_next() {
    let project = Project::new("contents = [{ src = \"dist/**\", dst = \"/usr/share/web/\" }]\n");
    project.write("dist/index.html", "hello");
    project.commit();
    project.build();
    let again = project.release(&["build", "-m", "why", "--time", "2026-11-20T19:05:03Z"]);
    let deb = stdout(&{ again }.assert().success().get_output().clone()).trim().to_owned();
    let listing = crate::project::tool("dpkg-deb", &["--contents", &deb]);
    assert!(listing.contains("index.html") && !listing.contains(".deb"), "{listing}");
}

#[test]
fn a_release_is_never_overwritten_on_disk() {
    let project = Project::new(CONTENTS);
    let deb = project.build();
    let before = fs::read(&deb).unwrap();
    let said = project.refused(&["build", "-m", "another"], 1);
    assert!(said.contains("never overwritten"), "{said}");
    assert_eq!(fs::read(&deb).unwrap(), before);
    let left: Vec<_> = fs::read_dir(project.path("dist")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.iter().filter(|path| !path.ends_with(".gitignore")).collect::<Vec<_>>(), [&deb]);
}

#[test]
fn builds_within_a_second_wait_for_the_next() {
    let project = Project::new(CONTENTS);
    let mut builds: Vec<_> =
        (0..3).map(|_| project.release(&["build", "-m", "why"]).env_remove("PUSH_TIME").spawn().unwrap()).collect();
    for build in &mut builds {
        assert!(build.wait().unwrap().success());
    }
    let made = fs::read_dir(project.path("dist")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(made.filter(|path| !path.ends_with(".gitignore")).count(), 3);
}

#[test]
fn a_failing_build_command_releases_nothing() {
    let project = Project::new(&format!("build = [\"sh\", \"-c\", \"echo talk; exit 3\"]\n{CONTENTS}"));
    let said = project.refused(&["-m", "why"], 1);
    assert!(said.contains("talk") && said.contains("exit status: 3"), "{said}");
    let left: Vec<_> = fs::read_dir(project.path("dist")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".gitignore"]);
    let project = Project::new(&format!("build = [\"no-such-program\"]\n{CONTENTS}"));
    assert!(project.refused(&["-m", "why"], 1).contains("could not run the build command `no-such-program`"));
}

#[test]
fn packages_are_chosen_by_name() {
    let second = "[package.worker]\ndescription = \"Worker\"\narch = \"all\"\n";
    let project = Project::new(&format!("{CONTENTS}{second}"));
    let said = project.refused(&["build", "-m", "why", "worke"], 2);
    assert!(said.contains("did you mean `worker`?"), "{said}");
    let one = project.release(&["build", "-m", "why", "worker"]).assert().success().get_output().clone();
    assert_eq!(stdout(&one).lines().count(), 1);
    let all = project.release(&["build", "-m", "why", "--json", "--time", "2026-11-20T19:05:03Z"]);
    let all = { all }.assert().success().get_output().clone();
    let all: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(all[1]["release"].as_str().unwrap().starts_with("worker/worker:dev@build-1:"));
}

#[test]
fn source_date_epoch_is_the_time_of_the_files() {
    let project = Project::new(CONTENTS);
    let mut command = project.release(&["build", "-m", "why"]);
    let output = command.env("SOURCE_DATE_EPOCH", "86400").assert().success().get_output().clone();
    let listing = crate::project::tool("dpkg-deb", &["--contents", stdout(&output).trim()]);
    assert!(listing.lines().all(|line| line.contains("1970-01-02 00:00")), "{listing}");
    let mut command = project.release(&["build", "-m", "why"]);
    command.env("SOURCE_DATE_EPOCH", "yesterday").assert().code(1);
}

#[test]
fn nothing_in_the_output_directory_makes_a_build_dirty() {
    let project = Project::new(CONTENTS);
    project.write("dist/committed", "x");
    project.commit();
    project.write("dist/committed", "changed");
    project.write("dist/untracked", "x");
    let deb = project.build();
    assert_eq!(field(&deb, "Push-Dirty"), "false");
    // Unless it is where the files come from.
    project.write("release.toml", &format!("{HEAD}contents = [{{ src = \"dist/**\", dst = \"/srv/\" }}]\n"));
    project.git(&["add", "release.toml"]);
    project.git(&["-c", "user.name=Dev", "-c", "user.email=dev@acme.example", "commit", "-q", "-m", "more"]);
    let again = project.release(&["build", "-m", "why", "--time", "2026-11-20T19:05:03Z"]);
    let deb = stdout(&{ again }.assert().success().get_output().clone()).trim().to_owned();
    assert_eq!(field(deb.as_ref(), "Push-Dirty"), "true");
    // Or where the project is.
    let all = Project::new(CONTENTS);
    all.write("untracked", "x");
    let output = all.release(&["build", "-m", "why", "--out", "."]).assert().success().get_output().clone();
    assert_eq!(field(stdout(&output).trim().as_ref(), "Push-Dirty"), "true");
    assert!(!all.path(".gitignore").exists());
}

#[test]
fn packages_are_not_committed_by_accident() {
    let project = Project::new(CONTENTS);
    project.build();
    project.commit();
    project.git(&["diff", "--exit-code", "HEAD^", "HEAD"]);
    // A directory that was there is somebody's own.
    let own = Project::new(CONTENTS);
    own.write("dist/notes", "x");
    own.build();
    assert!(!own.path("dist/.gitignore").exists());
    let elsewhere = Project::new(CONTENTS);
    elsewhere.release(&["build", "-m", "why", "--out", "../debs"]).assert().success();
    assert!(!elsewhere.beside("debs/.gitignore").exists());
}
