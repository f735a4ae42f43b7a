//! `release build` and `release upload`, killed at several moments: nothing is left over, and the next one succeeds.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::{
    outcome::Run as _,
    project::{Project, stdout},
};

/// Enough that a build or an upload of it takes a while.
const BYTES: usize = 96 << 20;

/// How often a moment may be over before it is seen.
const TRIES: usize = 20;

const CONTENTS: &str = "contents = [{ src = \"large\", dst = \"/srv/large\" }]
scripts = { postinst = \"true\" }
[[package.web.unit]]
name = \"nginx.service\"
";

/// A project with a large file that no compression makes smaller, and an empty directory for what has no other place.
fn project() -> Project {
    let project = Project::new(CONTENTS);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = (0..BYTES / 8).flat_map(|_| random()).collect();
    fs::write(project.path("large"), bytes).unwrap();
    project.commit();
    fs::create_dir(project.beside("tmp")).unwrap();
    project
}

/// How far a process has written a file below `directory` that has no name.
fn written(process: u32, directory: &Path) -> Option<u64> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
    let unnamed = open.filter(|open| {
        let to = fs::read_link(open.path()).unwrap_or_default();
        to.starts_with(directory) && to.to_string_lossy().ends_with(" (deleted)")
    });
    let position = |open: fs::DirEntry| {
        let number = open.file_name().into_string().ok()?;
        let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
    };
    unnamed.filter_map(position).max()
}

/// Starts `command` and kills it as soon as the moment is there; again if it was over too soon, after `undo`.
fn kill_when(mut command: impl FnMut() -> Command, moment: impl Fn(u32) -> bool, undo: impl Fn()) {
    for _ in 0..TRIES {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !moment(child.id()) && child.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
        child.kill().unwrap();
        if child.wait().unwrap().signal() == Some(9) {
            return;
        }
        undo();
    }
    panic!("the moment was over {TRIES} times before it was seen");
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_build_that_is_killed_leaves_nothing_behind() {
    let project = project();
    let (dist, temporary) = (project.path("dist"), project.beside("tmp"));
    let build = || {
        let mut command = project.release(&["build", "-m", "why"]);
        command.env("TMPDIR", &temporary);
        command
    };
    let undo =
        || files(&dist).iter().filter(|path| path.extension().is_some()).for_each(|deb| fs::remove_file(deb).unwrap());
    // When its file is there, when some of it is written, when most of it is.
    for least in [0, 1 << 20, u64::try_from(BYTES / 4 * 3).unwrap()] {
        kill_when(build, |process| written(process, &dist).is_some_and(|written| written >= least), undo);
        assert_eq!(files(&dist), [dist.join(".gitignore")], "killed after {least} bytes");
        assert_eq!(files(&temporary), [] as [PathBuf; 0], "killed after {least} bytes");
    }
    let deb = PathBuf::from(stdout(build().assert().success().get_output()).trim());
    assert_eq!(files(&dist), [dist.join(".gitignore"), deb.clone()]);
    project.release(&["check", deb.to_str().unwrap()]).assert().success();
}

#[test]
fn an_upload_that_is_killed_leaves_nothing_behind() {
    let project = project();
    let (bucket, temporary) = (project.beside("bucket"), project.beside("tmp"));
    let deb = project.build();
    let upload = || {
        let mut command = project.release(&["upload", deb.to_str().unwrap()]);
        command.env("TMPDIR", &temporary);
        command
    };
    let object = bucket.join("debs/web").join(deb.file_name().unwrap());
    let undo = || fs::remove_file(&object).unwrap();
    for least in [0, 1 << 20, u64::try_from(BYTES / 4 * 3).unwrap()] {
        kill_when(upload, |process| written(process, &bucket).is_some_and(|written| written >= least), undo);
        let left: Vec<PathBuf> =
            files(&bucket).into_iter().filter(|path| path.metadata().unwrap().len() > 4096).collect();
        assert_eq!(left, [] as [PathBuf; 0], "killed after {least} bytes");
        assert_eq!(files(&temporary), [] as [PathBuf; 0], "killed after {least} bytes");
        project.release(&["list"]).assert().success().stdout("");
    }
    // What is there is whole, whatever came after it.
    kill_when(upload, |_| object.exists(), undo);
    assert!(fs::read(&object).unwrap() == fs::read(&deb).unwrap());
    upload().assert().success();
    let listed = project.json(&["list", "web", "--json"]);
    assert_eq!(listed[0]["size"].as_u64().unwrap(), fs::metadata(&deb).unwrap().len());
    assert_eq!(listed.as_array().unwrap().len(), 1);
}
