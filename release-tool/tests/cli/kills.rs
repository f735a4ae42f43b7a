//! `release build`, `release upload` and `release adopt`, killed or interrupted at several moments: nothing is left over,
//! and the next one succeeds.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use bucket::{Bucket, BucketOptions, ObjectPath};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    outcome::Run as _,
    project::{Project, stdout, tool},
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
fn kill_when(command: impl FnMut() -> Command, moment: impl Fn(u32) -> bool, undo: impl Fn()) {
    end_when(Signal::KILL, command, moment, undo);
}

/// The same with any signal that ends it.
fn end_when(signal: Signal, mut command: impl FnMut() -> Command, moment: impl Fn(u32) -> bool, undo: impl Fn()) {
    for _ in 0..TRIES {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_over = loop {
            if moment(child.id()) {
                break false;
            }
            if child.try_wait().unwrap().is_some() {
                break true;
            }
            thread::yield_now();
        };
        // Until it is waited for, nobody else can have its number.
        if !is_over {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        if child.wait().unwrap().signal() == Some(signal.as_raw()) {
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

#[test]
fn a_build_and_an_upload_that_are_interrupted_leave_nothing_behind() {
    let project = project();
    let (dist, bucket, temporary) = (project.path("dist"), project.beside("bucket"), project.beside("tmp"));
    let run = |arguments: &[&str]| {
        let mut command = project.release(arguments);
        command.env("TMPDIR", &temporary);
        command
    };
    let built = || files(&dist).into_iter().filter(|path| path.extension().is_some());
    // As Ctrl-C does.
    end_when(
        Signal::INT,
        || run(&["build", "-m", "why"]),
        |process| written(process, &dist).is_some_and(|written| written >= 1 << 20),
        || built().for_each(|deb| fs::remove_file(deb).unwrap()),
    );
    assert_eq!(files(&dist), [dist.join(".gitignore")]);
    let deb = project.build();
    let object = bucket.join("debs/web").join(deb.file_name().unwrap());
    end_when(
        Signal::INT,
        || run(&["upload", deb.to_str().unwrap()]),
        |process| written(process, &bucket).is_some_and(|written| written >= 1 << 20),
        || fs::remove_file(&object).unwrap(),
    );
    assert_eq!(files(&bucket).iter().filter(|path| path.metadata().unwrap().len() > 4096).count(), 0);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    run(&["upload", deb.to_str().unwrap()]).assert().success();
}

/// A package as the original system published it, in the project's bucket.
fn publish_original(project: &Project) {
    let tree = project.beside("tree");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = "Package: web\nVersion: 1.0\nArchitecture: all\nMaintainer: dev@example.org\nDescription: web\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::copy(project.path("large"), tree.join("large")).unwrap();
    let deb = project.beside("original.deb");
    tool("dpkg-deb", &["-Znone", "--root-owner-group", "--build", tree.to_str().unwrap(), deb.to_str().unwrap()]);
    let (user, hash, time) = ("dev@build-1", "560316aa6e053eb75a36efb621d0fd66d1ced433", "2016-03-01T10:00:00Z");
    let path: ObjectPath = format!("debs/web/web:{user}:{time}:{hash}.deb").parse().unwrap();
    let facts = [("appname", "web"), ("userid", user), ("hash", hash), ("datetime", time), ("dirty", "false")];
    let facts = facts.into_iter().chain([("note", "as it was"), ("services", "web.service")]);
    let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let url = format!("file://{}", project.beside("bucket").display()).parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
        bucket.create(&path, fs::read(&deb).unwrap().into(), &facts).await.unwrap();
    });
}

#[test]
fn an_adoption_that_is_killed_leaves_nothing_behind() {
    let project = project();
    let (bucket, temporary) = (project.beside("bucket"), project.beside("tmp"));
    publish_original(&project);
    let objects = || fs::read_dir(bucket.join("debs/web")).unwrap().map(|entry| entry.unwrap().path());
    let originals: Vec<PathBuf> = objects().collect();
    let adopt = || {
        let mut command = project.release(&["adopt", "--app", "web"]);
        command.env("TMPDIR", &temporary);
        command
    };
    let undo = || objects().filter(|path| !originals.contains(path)).for_each(|path| fs::remove_file(path).unwrap());
    let all = u64::try_from(BYTES).unwrap();
    // While the original is read, and while what was made of it is uploaded.
    for (directory, least) in [(&temporary, 1 << 20), (&bucket, 1 << 20), (&bucket, all / 4 * 3)] {
        kill_when(adopt, |process| written(process, directory).is_some_and(|written| written >= least), undo);
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "killed after {least} bytes");
        assert_eq!(objects().collect::<Vec<_>>(), originals, "killed after {least} bytes");
    }
    let adopted = stdout(adopt().assert().success().get_output());
    assert!(bucket.join("debs").join(adopted.trim()).is_file(), "{adopted}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
