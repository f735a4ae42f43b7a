//! `release candidate`, on directories.

use std::{fs, path::PathBuf, process::Child};

use serde_json::Value;

use crate::{changes::project, outcome::Run as _, project::Project};

/// What is in a bucket, and when each of it was written; nothing of how the bucket is kept.
pub(crate) fn objects(project: &Project, bucket: &str) -> Vec<(String, std::time::SystemTime)> {
    fn below(directory: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(path, found) } else { found.push(path) }
        }
    }
    let top = project.beside(bucket);
    let mut found = Vec::new();
    below(top.clone(), &mut found);
    let named = found.into_iter().filter_map(|path| {
        let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
        (!name.starts_with(".push") && name != "push-bucket")
            .then(|| (name, path.metadata().unwrap().modified().unwrap()))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    named
}

pub(crate) fn names(project: &Project, bucket: &str) -> Vec<String> {
    objects(project, bucket).into_iter().map(|(name, _)| name).collect()
}

fn candidate(project: &Project, more: &[&str]) -> Value {
    project.json(&[&["candidate", "-m", "try it", "--change", "web/12", "--json"], more].concat())
}

#[track_caller]
fn refused(project: &Project, more: &[&str]) -> String {
    project.refused(&[&["candidate", "-m", "try it", "--change", "web/12"], more].concat(), 1)
}

#[test]
fn a_candidate_is_recorded_and_no_release_and_the_same_again_builds_nothing() {
    let project = project();
    project.json(&["change", "open", "web/12", "--json"]);
    let first = candidate(&project, &[]);
    let of = |value: &Value, key: &str| value[0][key].as_str().unwrap().to_owned();
    let (release, path) = (of(&first, "release"), of(&first, "path"));
    assert_eq!(path, format!("builds/web/12/{}/{release}", of(&first, "build")));
    assert_eq!(
        (&first[0]["patchset"], &first[0]["gate"], &first[0]["type"]),
        (&1.into(), &false.into(), &"deb".into())
    );
    assert_eq!(names(&project, "ci"), [path.clone(), "changes/web/12.json".to_owned()]);
    assert_eq!(names(&project, "bucket"), [] as [&str; 0]);
    project.release(&["list"]).assert().success().stdout("");
    let shown = project.json(&["change", "show", "web/12", "--json"]);
    assert_eq!(shown["candidates"], first);

    let before = objects(&project, "ci");
    assert_eq!(candidate(&project, &[]), first);
    project
        .release(&["candidate", "-m", "try it", "--change", "web/12", "web"])
        .assert()
        .success()
        .stdout(format!("{release}\n"));
    assert_eq!(objects(&project, "ci"), before);
    // What lies beside it is what it was built of.
    let facts = fs::read_dir(project.beside("ci/.push/meta").join(&path)).unwrap().next().unwrap().unwrap().path();
    let facts: Value = serde_json::from_slice(&fs::read(facts).unwrap()).unwrap();
    assert_eq!((&facts["change"], &facts["patchset"], &facts["tree"]), (&"web/12".into(), &"1".into(), &shown["tree"]));

    // Another note is another build, and so is one that is to be promoted.
    let second =
        project.json(&["candidate", "-m", "again", "--change", "web/12", "--json", "--time", "2026-11-20T19:05:03Z"]);
    assert_ne!(second[0]["build"], first[0]["build"]);
    let gate = ["--gate", "--time", "2026-11-20T19:05:04Z"];
    let gated = candidate(&project, &gate);
    assert_eq!(of(&gated, "path"), format!("candidates/web/12/{}", of(&gated, "release")));
    assert_eq!(names(&project, "bucket"), [of(&gated, "path")]);
    project.release(&["list"]).assert().success().stdout("");
    let before = objects(&project, "bucket");
    assert_eq!(candidate(&project, &gate), gated);
    assert_eq!(objects(&project, "bucket"), before);
}

#[test]
fn only_the_last_patchset_of_an_open_change_is_built_and_nothing_that_is_not_committed() {
    let project = project();
    project.json(&["change", "open", "web/12", "--json"]);
    project.write("web", "changed");
    project.write("new", "");
    let said = refused(&project, &[]);
    assert!(said.contains("not what was committed, uncommitted or untracked files: web, new: commit them"), "{said}");
    project.commit();
    let said = refused(&project, &[]);
    assert!(
        said.contains("`web/12` is at patchset 1, which is commit ") && said.contains("release change open web/12"),
        "{said}"
    );
    project.json(&["change", "open", "web/12", "--json"]);
    let said = project.refused(&["candidate", "-m", "x", "--change", "web/1"], 1);
    assert!(said.contains("nothing is known of the change `web/1`: did you mean `web/12`?"), "{said}");
    project.json(&["change", "abandoned", "web/12", "--json"]);
    let said = refused(&project, &[]);
    assert!(said.contains("`web/12` was abandoned"), "{said}");
    for bad in [
        &["candidate", "--change", "web/12"][..],
        &["candidate", "-m", "x"],
        &["candidate", "-m", "x", "--change", "web"],
    ] {
        project.refused(bad, 2);
    }
    assert_eq!(names(&project, "ci"), ["changes/web/12.json"], "nothing was uploaded");
}

#[test]
fn what_a_build_leaves_that_git_does_not_ignore_is_refused_before_anything_is_uploaded() {
    let project = project();
    let text = fs::read_to_string(project.path("release.toml")).unwrap();
    project.write("release.toml", &format!("{text}build = [\"sh\", \"-c\", \"date > left\"]\n"));
    project.commit();
    project.json(&["change", "open", "web/12", "--json"]);
    let said = refused(&project, &[]);
    assert!(said.contains("uncommitted or untracked files: left"), "{said}");
    assert_eq!(names(&project, "ci"), ["changes/web/12.json"]);
}

#[test]
fn builds_at_the_same_time_collide_nowhere_and_all_are_recorded() {
    let project = project();
    for change in ["web/12", "web/13"] {
        project.json(&["change", "open", change, "--json"]);
    }
    let running: Vec<Child> = (0..8)
        .map(|n| {
            let (note, change) = (format!("build {n}"), if n % 2 == 0 { "web/12" } else { "web/13" });
            let out = project.beside(&format!("out-{n}"));
            let arguments = ["candidate", "-m", &note, "--change", change, "--out", out.to_str().unwrap()];
            project.release(&arguments).spawn().unwrap()
        })
        .collect();
    for mut process in running {
        assert!(process.wait().unwrap().success());
    }
    for change in ["web/12", "web/13"] {
        let shown = project.json(&["change", "show", change, "--json"]);
        let paths: Vec<_> =
            shown["candidates"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
        assert_eq!(paths.len(), 4, "{paths:?}");
        for path in paths {
            assert!(project.beside("ci").join(path).is_file(), "{path}");
        }
    }
}

#[test]
fn nothing_is_gated_in_an_overlay_and_what_was_uploaded_and_not_recorded_is_found_again() {
    let project = project();
    project.json(&["change", "open", "web/12", "--json"]);
    let mark = r#"{"schema":1,"buildset":"b1","change":"web/12","host":"ci","directory":"/srv/try","since":"2026-11-20T19:05:00Z"}"#;
    fs::write(project.beside("bucket/push-overlay"), mark).unwrap();
    for command in [&["candidate", "-m", "x", "--change", "web/12", "--gate"][..], &["promote", "--change", "web/12"]] {
        let output = project.release(command).assert().get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("is the overlay of the buildset"), "{said}");
    }
    fs::remove_file(project.beside("bucket/push-overlay")).unwrap();
    let record = project.beside("ci/changes/web/12.json");
    let before = fs::read(&record).unwrap();
    let gated = candidate(&project, &["--gate"]);
    // As if it had been killed between the upload and the record.
    fs::write(&record, before).unwrap();
    fs::remove_dir_all(project.path("dist")).unwrap();
    let again = candidate(&project, &["--gate"]);
    assert_eq!((&again[0]["build"], &again[0]["path"]), (&gated[0]["build"], &gated[0]["path"]));
}
