//! `release promote`, on directories and in real git repositories.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    candidates::{names, objects},
    changes::project,
    outcome::Run as _,
    project::Project,
};

/// More calls of one kind than a promotion makes.
const MOST_CALLS: usize = 50;

/// A change on a branch of its own, built to be promoted; what was recorded of its candidate.
fn gated(project: &Project) -> Value {
    project.git(&["checkout", "-q", "-b", "topic"]);
    project.write("web", "#!/bin/sh\necho changed\n");
    project.commit();
    project.json(&["change", "open", "web/12", "--json"]);
    let gated = project.json(&["candidate", "-m", "change it", "--change", "web/12", "--gate", "--json"]);
    project.git(&["checkout", "-q", "main"]);
    gated[0].clone()
}

fn commit(project: &Project, arguments: &[&str]) {
    let identity = ["-c", "user.name=Dev", "-c", "user.email=dev@acme.example"];
    project.git(&[&identity[..], arguments].concat());
}

fn merge(project: &Project) {
    commit(project, &["merge", "-q", "--no-ff", "--no-edit", "topic"]);
    project.json(&["change", "merged", "web/12", "--json"]);
}

fn head(project: &Project) -> String {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(project.path(".")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn refused(project: &Project, more: &[&str]) -> String {
    let before = objects(project, "bucket");
    let said = project.refused(&[&["promote", "--change", "web/12"], more].concat(), 1);
    assert_eq!(objects(project, "bucket"), before, "nothing is written: {said}");
    said
}

/// A promotion that must succeed: what it printed, and what it said.
fn promote(project: &Project, more: &[&str]) -> (Value, String) {
    let output = project.release(&[&["promote", "--change", "web/12", "--json"], more].concat()).assert().success();
    let output = output.get_output().clone();
    (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn however_a_change_was_merged_its_candidate_becomes_a_release_with_the_same_bytes() {
    let ways: [(&str, &[&[&str]]); 3] = [
        ("merge", &[&["merge", "-q", "--no-ff", "--no-edit", "topic"]]),
        ("squash", &[&["merge", "-q", "--squash", "topic"], &["commit", "-q", "-m", "squashed"]]),
        ("rebase", &[&["cherry-pick", "-x", "topic"]]),
    ];
    for (way, commands) in ways {
        let project = project();
        let gated = gated(&project);
        for command in commands {
            commit(&project, command);
        }
        let landed = head(&project);
        assert!(!gated["release"].as_str().unwrap().contains(&landed), "{way}: another commit");
        // What lands afterwards is of no concern.
        project.write("etc/web.conf", "port = 81\n");
        project.commit();
        project.json(&["change", "merged", "web/12", "--json"]);
        let bytes = fs::read(project.beside("bucket").join(gated["path"].as_str().unwrap())).unwrap();
        let (promoted, said) = promote(&project, &[]);
        let release = gated["release"].as_str().unwrap();
        assert_eq!(
            (&promoted[0]["release"], &promoted[0]["landed"]),
            (&release.into(), &landed.as_str().into()),
            "{way}"
        );
        assert!(said.contains("warning: no try with exactly the bytes of "), "{said}");
        assert_eq!(names(&project, "bucket"), [format!("debs/{release}")], "{way}: the candidate is gone");
        assert!(fs::read(project.beside("bucket/debs").join(release)).unwrap() == bytes);
        let listed = project.json(&["list", "web", "--json"]);
        assert_eq!((&listed[0]["sha256"], &listed[0]["note"]), (&gated["sha256"], &"change it".into()));
        assert_eq!(listed[0]["promoted"]["landed"], landed.as_str(), "{way}");
        let listed = project.release(&["list", "web"]).assert().success().get_output().stdout.clone();
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.trim_end().ends_with(" change it (promoted from web/12, patchset 1)"), "{listed}");
        let shown = project.json(&["change", "show", "web/12", "--json"]);
        assert_eq!(shown["candidates"][0]["landed"], landed.as_str());

        let before = [objects(&project, "bucket"), objects(&project, "ci")];
        assert_eq!(promote(&project, &["web"]).0, promoted);
        assert_eq!([objects(&project, "bucket"), objects(&project, "ci")], before, "{way}: nothing is written again");
    }
}

#[test]
fn what_was_merged_otherwise_or_not_at_all_is_not_promoted() {
    let project = project();
    gated(&project);
    let said = refused(&project, &[]);
    assert!(said.contains("`web/12` is not merged") && said.contains("release change merged web/12"), "{said}");
    // Something else came in between: the merge has what nobody tried.
    project.write("etc/web.conf", "port = 81\n");
    project.commit();
    merge(&project);
    let said = refused(&project, &[]);
    assert!(said.contains("what was merged is not what was tried: no commit of `main` since "), "{said}");
    assert!(said.contains("has its tree") && said.contains("build again"), "{said}");
    let said = refused(&project, &["--branch", "stable"]);
    assert!(said.contains("there is no branch `stable` in this repository"), "{said}");
    let said = refused(&project, &["lib"]);
    assert!(said.contains("`web/12` has no gated candidate of `lib`"), "{said}");
    // It is on that branch as it was tried: who runs the command says which branch counts.
    assert_eq!(promote(&project, &["--branch", "topic"]).0.as_array().unwrap().len(), 1);
}

#[test]
fn what_has_the_tree_of_an_earlier_commit_has_not_landed_for_that() {
    let project = project();
    project.write("web", "#!/bin/sh\necho worse\n");
    project.commit();
    // A change that takes the last commit back: the branch had its tree before.
    project.git(&["checkout", "-q", "-b", "topic"]);
    commit(&project, &["revert", "--no-edit", "HEAD"]);
    project.json(&["change", "open", "web/12", "--json"]);
    project.json(&["candidate", "-m", "back", "--change", "web/12", "--gate", "--json"]);
    project.git(&["checkout", "-q", "main"]);
    // Whoever may only try says that it was merged.
    forge(&project, |change| change["state"] = "merged".into());
    let said = refused(&project, &[]);
    assert!(said.contains("what was merged is not what was tried: no commit of `main` since "), "{said}");
    merge(&project);
    assert_eq!(promote(&project, &[]).0[0]["landed"], head(&project).as_str());
}

#[test]
fn what_was_changed_since_it_was_uploaded_is_not_promoted() {
    let project = project();
    let gated = gated(&project);
    merge(&project);
    let path = project.beside("bucket").join(gated["path"].as_str().unwrap());
    // Of the same size, and with the time that is its generation.
    let (bytes, time) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", bytes.len() as u64 / 2).unwrap();
    file.set_modified(time).unwrap();
    let said = refused(&project, &[]);
    assert!(said.contains("its content has the SHA-256 "), "{said}");
    assert!(path.is_file(), "it stays where it can be looked at");
}

#[test]
fn what_is_said_of_a_repository_has_no_credentials() {
    let project = project();
    gated(&project);
    merge(&project);
    let said = refused(&project, &["--repo", "https://dev:s3cret@127.0.0.1:1/web.git"]);
    assert!(said.contains("could not fetch") && !said.contains("s3cret"), "{said}");
}

#[test]
fn the_line_is_that_of_origin_or_of_the_repository_that_is_named() {
    let project = project();
    let gated = gated(&project);
    let origin = project.beside("origin.git");
    project.git(&["clone", "-q", "--bare", ".", origin.to_str().unwrap()]);
    project.git(&["remote", "add", "origin", origin.to_str().unwrap()]);
    project.git(&["fetch", "-q", "origin"]);
    merge(&project);
    let said = refused(&project, &[]);
    assert!(said.contains("of `origin/main`") && said.contains("`git fetch` gets it"), "{said}");
    let url = format!("file://{}", origin.display());
    let said = refused(&project, &["--repo", &url]);
    assert!(said.contains(&format!("of `main of {url}`")), "{said}");
    project.git(&["push", "-q", origin.to_str().unwrap(), "main"]);
    for bad in ["--repo=--upload-pack=touch x", "--repo="] {
        project.refused(&["promote", "--change", "web/12", bad], 2);
    }
    let said = refused(&project, &["--repo", "ext::sh -c touch% x"]);
    assert!(said.contains("could not fetch") && !project.path("x").exists(), "{said}");
    let (promoted, _) = promote(&project, &["--repo", &url]);
    assert_eq!(promoted[0]["release"], gated["release"]);
    assert_eq!(promoted[0]["landed"], head(&project).as_str());
}

#[test]
fn a_need_that_was_abandoned_and_bytes_that_were_not_tried_are_warnings() {
    let project = project();
    project.json(&["change", "open", "lib/11", "--json"]);
    gated(&project);
    project.git(&["checkout", "-q", "topic"]);
    project.json(&["change", "open", "web/12", "--needs", "lib/11", "--json"]);
    project.git(&["checkout", "-q", "main"]);
    project.json(&["change", "abandoned", "lib/11", "--json"]);
    merge(&project);
    let record = project.beside("ci/changes/web/12.json");
    let mut change: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let sum = change["candidates"][0]["sha256"].clone();
    change["tries"] =
        serde_json::json!([{ "buildset": "b1", "sha256": [sum], "result": "passed", "at": "2026-11-20T19:05:02Z" }]);
    fs::write(&record, change.to_string()).unwrap();
    let (_, said) = promote(&project, &[]);
    assert!(said.contains("warning: `lib/11`, which `web/12` needs, was abandoned"), "{said}");
    assert!(!said.contains("no try with exactly the bytes"), "{said}");
}

/// Something that is changed in the record of a change; of the branch, its commit.
type Forgery = fn(&mut Value, &str);

/// Changes something of what is recorded of the change, as whoever may write there can.
fn forge(project: &Project, forged: impl FnOnce(&mut Value)) {
    let record = project.beside("ci/changes/web/12.json");
    let mut change: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    forged(&mut change);
    fs::write(&record, change.to_string()).unwrap();
}

#[test]
fn what_a_change_says_promotes_nothing_that_git_and_the_candidate_do_not_bear_out() {
    let project = project();
    gated(&project);
    // Nothing was merged, and the record says that it was, as anything it likes.
    let main = head(&project);
    forge(&project, |change| change["state"] = "merged".into());
    let forgeries: [(&str, Forgery, &str); 9] = [
        ("nothing else", |_, _| {}, "what was merged is not what was tried"),
        ("tree", |change, _| change["tree"] = "a".repeat(40).into(), "what was merged is not what was tried"),
        ("commit", |change, main| change["commit"] = main.into(), "what was merged is not what was tried"),
        ("branch", |change, _| change["branch"] = "topic".into(), "what was merged is not what was tried"),
        ("patchset", |change, _| change["patchset"] = 2.into(), "`web/12` has no gated candidate of its last patchset"),
        (
            "sha256",
            |change, _| change["candidates"][0]["sha256"] = "07".repeat(32).into(),
            "as the change says: build again",
        ),
        ("size", |change, _| change["candidates"][0]["size"] = 7.into(), "not 7 as the change says"),
        ("app", |change, _| change["candidates"][0]["app"] = "db".into(), "is recorded as one of `db`"),
        (
            "path",
            |change, _| change["candidates"][0]["path"] = "debs/web/x.deb".into(),
            "is recorded at `debs/web/x.deb`",
        ),
    ];
    let record = project.beside("ci/changes/web/12.json");
    let before = fs::read(&record).unwrap();
    for (what, forged, expected) in forgeries {
        forge(&project, |change| forged(change, &main));
        let said = refused(&project, &[]);
        assert!(said.contains(expected), "{what}: {said}");
        fs::write(&record, &before).unwrap();
    }
    fs::write(&record, "{").unwrap();
    let said = refused(&project, &[]);
    assert!(said.contains("could not read the change `web/12`"), "{said}");
    assert_eq!(fs::read(&record).unwrap(), b"{", "it is never written over");
}

#[test]
fn a_candidate_that_is_not_what_lies_beside_it_is_not_promoted_and_a_release_is_never_overwritten() {
    let project = project();
    let gated = gated(&project);
    merge(&project);
    let object = project.beside("bucket").join(gated["path"].as_str().unwrap());
    let release = project.beside("bucket/debs").join(gated["release"].as_str().unwrap());
    let bytes = fs::read(&object).unwrap();
    fs::create_dir_all(release.parent().unwrap()).unwrap();
    fs::write(&release, "another").unwrap();
    let said = refused(&project, &[]);
    assert!(
        said.contains("already exists in the bucket with different content")
            && said.contains("nothing was overwritten"),
        "{said}"
    );
    fs::remove_file(&release).unwrap();
    // A file that is edited by hand is another generation, with nothing beside it.
    fs::write(&object, [&bytes[..], b"more"].concat()).unwrap();
    let said = refused(&project, &[]);
    assert!(said.contains("cannot be promoted: metadata has no"), "{said}");
    fs::remove_file(&object).unwrap();
    let said = refused(&project, &[]);
    assert!(said.contains("is gone, and there is no such release"), "{said}");
}

/// The command under strace(1).
fn traced(project: &Project, how: &[&str]) -> Command {
    let release = project.release(&["promote", "--change", "web/12"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(how);
    strace.arg(release.get_program()).args(release.get_args()).current_dir(project.path("."));
    strace.env_clear().envs(release.get_envs().filter_map(|(key, value)| Some((key, value?))));
    strace.env("PATH", std::env::var_os("PATH").unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
    strace
}

/// The command, killed before it makes its `nth` call of that name.
fn killed_before(project: &Project, call: &str, nth: usize) -> Command {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
    traced(project, &["-o", "/dev/null", "-e", &trace, "-e", &inject])
}

#[test]
fn a_candidate_in_a_directory_is_copied_by_the_system_and_what_is_summed_is_the_copy() {
    let project = project();
    let gated = gated(&project);
    merge(&project);
    let log = project.beside("calls");
    let calls = "trace=ioctl,copy_file_range,sendfile,read,pread64";
    traced(&project, &["-y", "-s", "0", "-e", calls, "-o", log.to_str().unwrap()]).assert().success();
    let candidate = format!("/bucket/{}>", gated["path"].as_str().unwrap());
    let log = fs::read_to_string(log).unwrap();
    let of_it: Vec<&str> = log.lines().filter(|line| line.contains(&candidate)).collect();
    assert!(of_it.iter().any(|call| call.contains("copy_file_range(")) || log.contains("FICLONE"), "{of_it:#?}");
    let is_read = |call: &&&str| call.contains(" read(") || call.contains(" pread64(");
    assert_eq!(of_it.iter().find(is_read), None, "somebody could change it after it was read");
}

#[test]
fn whoever_is_killed_at_any_write_of_it_promotes_by_the_same_command() {
    let project = project();
    let gated = gated(&project);
    merge(&project);
    let (kept, landed, release) =
        (project.beside("kept"), head(&project), gated["release"].as_str().unwrap().to_owned());
    let copy = |from: &PathBuf, to: &PathBuf| {
        let _ = fs::remove_dir_all(to);
        Command::new("cp").arg("-a").arg(from).arg(to).assert().success();
    };
    fs::create_dir(&kept).unwrap();
    let buckets = ["bucket", "ci"].map(|name| (project.beside(name), kept.join(name)));
    for (bucket, kept) in &buckets {
        copy(bucket, kept);
    }
    let mut killed = 0;
    for call in ["mkdirat", "linkat", "renameat", "unlinkat"] {
        for nth in 1.. {
            assert!(nth <= MOST_CALLS, "it calls {call} more than {MOST_CALLS} times");
            let status = killed_before(&project, call, nth).status().unwrap();
            let promoted = promote(&project, &[]).0;
            let moment = format!("killed before {call} number {nth}");
            assert_eq!(promoted[0]["landed"], landed.as_str(), "{moment}");
            assert_eq!(names(&project, "bucket"), [format!("debs/{release}")], "{moment}");
            let listed = project.json(&["list", "web", "--json"]);
            let facts = (&listed[0]["sha256"], &listed[0]["promoted"]["landed"]);
            assert_eq!(facts, (&gated["sha256"], &landed.as_str().into()), "{moment}");
            let shown = project.json(&["change", "show", "web/12", "--json"]);
            assert_eq!(shown["candidates"][0]["landed"], landed.as_str(), "{moment}");
            for (bucket, kept) in &buckets {
                copy(kept, bucket);
            }
            if status.success() {
                break;
            }
            assert!(status.signal() == Some(9) || status.code() == Some(137), "{moment}: {status}");
            killed += 1;
        }
    }
    assert!(killed >= 12, "it was killed only {killed} times");
}
