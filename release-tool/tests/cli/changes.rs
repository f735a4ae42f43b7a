//! `release change`, on a directory.

use std::{fs, process::Child};

use serde_json::Value;

use crate::{outcome::Run as _, project::Project};

/// A project with a candidate bucket.
pub(crate) fn project() -> Project {
    let project = Project::new("");
    let ci = project.beside("ci");
    fs::create_dir(&ci).unwrap();
    let text = fs::read_to_string(project.path("release.toml")).unwrap();
    let text =
        text.replacen("schema = 1\n", &format!("schema = 1\n[candidates]\nbucket = \"file://{}\"\n", ci.display()), 1);
    project.write("release.toml", &text);
    project.commit();
    project
}

fn change(project: &Project, arguments: &str) -> Value {
    let arguments: Vec<&str> = ["change", "--json"].into_iter().chain(arguments.split(' ')).collect();
    project.json(&arguments)
}

#[track_caller]
fn refused(project: &Project, arguments: &str, status: i32) -> String {
    let arguments: Vec<&str> = ["change"].into_iter().chain(arguments.split(' ')).collect();
    project.refused(&arguments, status)
}

fn object(project: &Project, id: &str) -> std::path::PathBuf {
    project.beside(&format!("ci/changes/{id}.json"))
}

#[test]
fn a_change_is_opened_updated_and_ended_and_the_same_again_writes_nothing() {
    let project = project();
    let first = change(&project, "open web/12");
    assert_eq!((&first["patchset"], &first["state"], &first["branch"]), (&1.into(), &"open".into(), &"main".into()));
    assert_eq!((&first["by"], first["needs"].as_array().unwrap().len()), (&"dev@build-1".into(), 0));
    let written = fs::metadata(object(&project, "web/12")).unwrap().modified().unwrap();
    assert_eq!(change(&project, "open web/12"), first);
    assert_eq!(fs::metadata(object(&project, "web/12")).unwrap().modified().unwrap(), written);

    project.commit();
    let second = change(&project, "open web/12 --branch stable");
    assert_eq!((&second["patchset"], &second["branch"]), (&2.into(), &"stable".into()));
    assert_ne!(second["commit"], first["commit"]);
    assert_eq!(second["tree"], first["tree"], "nothing was changed in it");
    let said = refused(&project, "open web/12 --patchset 1", 1);
    assert!(said.contains("`web/12` is at patchset 2: patchset 1 no longer counts"), "{said}");

    assert_eq!(change(&project, "merged web/12")["state"], "merged");
    assert_eq!(change(&project, "merged web/12")["state"], "merged");
    for again in ["open web/12", "abandoned web/12"] {
        let said = refused(&project, again, 1);
        assert!(said.contains("`web/12` was merged"), "{said}");
    }
    let listed = change(&project, "list web");
    assert_eq!(listed["changes"].as_array().unwrap().len(), 1);
    assert!(!project.beside("bucket/changes").exists(), "the bucket of the releases has nothing of it");
}

#[test]
fn what_is_ahead_is_shown_nearest_first_and_only_what_is_open() {
    let project = project();
    for open in ["lib/1", "lib/2 --needs lib/1", "lib/3 --needs lib/2", "web/9", "web/12 --needs lib/3 --needs lib/1"] {
        change(&project, &format!("open {open}"));
    }
    let ahead = |shown: &Value| -> Vec<(String, u64)> {
        let ahead = shown["ahead"].as_array().unwrap().iter();
        ahead.map(|one| (one["change"].as_str().unwrap().to_owned(), one["steps"].as_u64().unwrap())).collect()
    };
    let pair = |id: &str, steps| (id.to_owned(), steps);
    let shown = change(&project, "show web/12");
    assert_eq!(ahead(&shown), [pair("lib/3", 1), pair("lib/1", 1), pair("lib/2", 2)]);

    change(&project, "abandoned lib/2");
    change(&project, "merged lib/1");
    let shown = change(&project, "show lib/3");
    assert_eq!(ahead(&shown), []);
    assert_eq!(shown["ended"], serde_json::json!([{ "change": "lib/2", "state": "abandoned" }]));
    let text = project.release(&["change", "show", "lib/3"]).assert().success().get_output().clone();
    let said = String::from_utf8(text.stderr).unwrap();
    assert!(said.contains("note: `lib/2`, which is needed, is abandoned"), "{said}");
    // None given keeps them.
    project.commit();
    assert_eq!(change(&project, "open web/12")["needs"], serde_json::json!(["lib/3", "lib/1"]));
}

#[test]
fn what_is_needed_is_known_and_goes_in_no_circle() {
    let project = project();
    let said = refused(&project, "open web/12 --needs lib/11", 1);
    assert!(said.contains("nothing is known of `lib/11`"), "{said}");
    assert!(!object(&project, "web/12").exists());
    change(&project, "open web/12 --needs lib/11 --needs-unknown");
    assert_eq!(change(&project, "show web/12")["unknown"], serde_json::json!(["lib/11"]));
    let said = refused(&project, "open lib/11 --needs web/12", 1);
    assert!(said.contains("in a circle: `lib/11` → `web/12` → `lib/11`"), "{said}");
    assert!(!object(&project, "lib/11").exists());
    let said = refused(&project, "show web/1", 1);
    assert!(said.contains("nothing is known of the change `web/1`: did you mean `web/12`?"), "{said}");
}

#[test]
fn what_cannot_be_understood_is_never_written_over() {
    let project = project();
    change(&project, "open web/1");
    change(&project, "open web/12 --needs web/1");
    let good = fs::read_to_string(object(&project, "web/1")).unwrap();
    for bad in [
        "{",
        "[]",
        &good.replace("\"1\"", "\"2\""),
        &good.replacen("\"schema\": 1", "\"schema\": 2", 1),
        &good.replace("open", "maybe"),
    ] {
        fs::write(object(&project, "web/1"), bad).unwrap();
        for command in ["open web/1", "merged web/1", "show web/1", "show web/12", "list"] {
            let arguments: Vec<&str> = ["change"].into_iter().chain(command.split(' ')).collect();
            let output = project.release(&arguments).assert().code(1).get_output().clone();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("could not read the change `web/1`"), "{command}: {said}");
        }
        assert_eq!(fs::read_to_string(object(&project, "web/1")).unwrap(), bad);
    }
    // What a newer program wrote stays.
    fs::write(object(&project, "web/1"), good.replacen('{', "{\n  \"later\": [1.50],", 1)).unwrap();
    change(&project, "abandoned web/1");
    assert!(fs::read_to_string(object(&project, "web/1")).unwrap().contains("later"));
}

#[test]
fn processes_that_record_one_change_at_once_all_succeed() {
    let project = project();
    change(&project, "open web/12");
    // Each says another branch: one after the other writes over what it has read.
    let running: Vec<Child> = (1..=8)
        .map(|n| project.release(&["change", "open", "web/12", "--branch", &format!("b{n}")]).spawn().unwrap())
        .collect();
    for mut process in running {
        assert!(process.wait().unwrap().success());
    }
    let branch = change(&project, "show web/12")["branch"].as_str().unwrap().to_owned();
    assert!(branch.starts_with('b'), "{branch}");
}

#[test]
fn names_and_buckets_are_checked_before_anything_is_asked() {
    let project = project();
    for (bad, status) in [
        ("open web", 2),
        ("open ../x", 2),
        ("open web/1/2", 2),
        ("open web/12 --needs -x", 2),
        ("list ../x", 2),
        ("open web/12 --patchset 0", 2),
    ] {
        refused(&project, bad, status);
    }
    let said = refused(&project, "open web/12 --branch a..b", 2);
    assert!(said.contains("`a..b` is no name of a branch"), "{said}");
    let ci = format!("file://{}", project.beside("ci").display());
    let output = project.release(&["change", "open", "web/12", "--bucket", &ci]).assert().code(2).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("is the candidate bucket"));
    let said = Project::new("").refused(&["change", "open", "web/12"], 2);
    assert!(said.contains("[candidates] bucket = \"gs://acme-ci\""), "{said}");
}
