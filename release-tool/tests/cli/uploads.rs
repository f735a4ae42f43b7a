//! `release -m`, `release upload` and `release list`, with a directory as the bucket.

use std::fs;

use crate::outcome::Run as _;

use crate::project::{Project, stdout, tool};

const CONTENTS: &str = "contents = [{ src = \"web\", dst = \"/usr/bin/web\", mode = \"0755\" }]
[[package.web.unit]]
file = \"web.service\"
";

#[test]
fn one_command_builds_and_uploads() {
    let project = Project::new(CONTENTS);
    let output = project.release(&["-m", "fix the login"]).assert().success().get_output().clone();
    let release = stdout(&output);
    assert!(
        release.starts_with("web/web:dev@build-1:2026-11-20T19:05:02Z:") && release.ends_with(".deb\n"),
        "{release}"
    );
    project.release(&["list"]).assert().success().stdout("web\n");
    project.release(&["list", "web", "--names"]).assert().success().stdout(release.clone());
    let json = project.json(&["list", "web", "--json"]);
    let deb = project.path("dist").join(release.trim().strip_prefix("web/").unwrap());
    let sum = tool("sha256sum", &[deb.to_str().unwrap()]);
    assert_eq!(json[0]["sha256"].as_str().unwrap(), sum.split_whitespace().next().unwrap());
    assert_eq!(json[0]["size"].as_u64().unwrap(), fs::metadata(&deb).unwrap().len());
    assert_eq!(json[0]["note"], "fix the login");
    assert_eq!(json[0]["dirty"], false);
    assert_eq!(json[0]["services"], serde_json::json!(["web.service"]));
    assert_eq!(json[0]["package"], "web");
}

#[test]
fn uploading_later_tells_the_same_facts() {
    let project = Project::new(CONTENTS);
    project.write("web", "dirty");
    let deb = project.build();
    let deb = deb.to_str().unwrap();
    let release = format!("web/{}\n", deb.rsplit('/').next().unwrap());
    project.release(&["upload", deb]).assert().success().stdout(release.clone());
    let json = project.json(&["list", "web", "--json"]);
    assert_eq!((&json[0]["dirty"], &json[0]["note"]), (&true.into(), &"why".into()));
    // Trying again after a lost answer does no harm.
    project.release(&["upload", deb]).assert().success().stdout(release);
}

#[test]
fn a_release_is_never_overwritten_in_the_bucket() {
    let project = Project::new(CONTENTS);
    project.release(&["-m", "first"]).assert().success();
    let said = project.refused(&["-m", "second", "--out", "../elsewhere"], 1);
    assert!(said.contains("releases are immutable"), "{said}");
    let json = project.json(&["list", "web", "--json"]);
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["note"], "first");
}

#[test]
fn what_was_uploaded_last_comes_first_and_lists_are_limited() {
    let project = Project::new(CONTENTS);
    for second in ["03", "01", "02"] {
        let time = format!("2026-11-20T19:05:{second}Z");
        project.release(&["-m", second, "--time", &time]).assert().success();
    }
    let names = project.release(&["list", "web", "--names", "--limit", "2"]).assert().success().get_output().clone();
    let names = stdout(&names);
    let seconds: Vec<&str> = names.lines().map(|name| &name[name.find("T19:05:").unwrap() + 7..][..2]).collect();
    assert_eq!(seconds, ["02", "01"]);
    let table = stdout(&project.release(&["list", "web"]).assert().success().get_output().clone());
    assert!(table.starts_with("AGE"), "{table}");
    assert_eq!(table.lines().count(), 4);
}

#[test]
fn packages_that_release_did_not_make_are_refused() {
    let project = Project::new(CONTENTS);
    let tree = project.beside("tree");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: B <b@c.example>\nDescription: Other\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    tool("dpkg-deb", &["--build", tree.to_str().unwrap(), project.path("other.deb").to_str().unwrap()]);
    let said = project.refused(&["upload", "other.deb"], 1);
    assert!(said.contains("deb = \"path/of/it.deb\""), "{said}");
    assert!(project.refused(&["upload", "web"], 1).contains("not a .deb"));
}

#[test]
fn the_bucket_comes_from_the_flag_then_the_environment_then_the_file() {
    let project = Project::new(&format!("{CONTENTS}[bucket]\nurl = \"file:///nowhere/in-the-file\"\n"));
    let mut command = project.release(&["list"]);
    let said = command.env_remove("PUSH_BUCKET").assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&said.stderr).contains("/nowhere/in-the-file"), "{said:?}");
    project.release(&["list"]).assert().success();
    let said = project.refused(&["list", "--bucket", "file:///nowhere/flag"], 1);
    assert!(said.contains("/nowhere/flag"), "{said}");
    assert!(project.refused(&["list", "--bucket", "http://x"], 2).contains("gs://BUCKET"));
    let none = Project::new(CONTENTS);
    none.release(&["-m", "why"]).env_remove("PUSH_BUCKET").assert().code(2);
    assert!(!none.path("dist").exists(), "nothing is built when there is nowhere to upload");
}

#[test]
fn what_could_not_be_uploaded_is_built_and_said_to_be() {
    let project = Project::new(CONTENTS);
    // Nobody can write below it, not even root.
    fs::write(project.beside("bucket/debs"), "").unwrap();
    let said = project.refused(&["-m", "why"], 1);
    let made = fs::read_dir(project.path("dist")).unwrap().map(|entry| entry.unwrap().path());
    let deb = made.into_iter().find(|path| path.extension().is_some_and(|of| of == "deb")).unwrap();
    assert!(said.contains("error: built, but could not upload everything: the packages are kept"), "{said}");
    let retry = format!("release upload '{}'", deb.display());
    assert!(said.contains(&retry), "{said}");
    fs::remove_file(project.beside("bucket/debs")).unwrap();
    project.release(&["upload", deb.to_str().unwrap()]).assert().success();
}

#[test]
fn what_has_no_room_beside_the_object_is_not_built() {
    let unit = |i: usize| format!("[[package.web.unit]]\nname = \"{i:03}-{}.service\"\n", "x".repeat(180));
    let project = Project::new(&(0..50).map(unit).collect::<String>());
    for (arguments, said) in [
        (&["build", "-m", "why"][..], project.refused(&["build", "-m", "why"], 1)),
        (&["check"], stdout(project.release(&["check"]).assert().code(1).get_output())),
    ] {
        let expected = "a bucket keeps at most 8192 bytes of facts beside a release, and these are ";
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(said.contains(": shorten the names of the units (9649 bytes)\n"), "{arguments:?}: {said}");
    }
    assert!(!project.path("dist").read_dir().unwrap().any(|entry| entry.unwrap().path().extension().is_some()));

    let project = Project::new(CONTENTS);
    let url = format!("https://git.example/{}", "x".repeat(9000));
    project.git(&["remote", "add", "origin", &url]);
    let said = project.refused(&["-m", "why"], 1);
    assert!(said.contains(&format!("shorten the URL of `origin` ({} bytes)", url.len())), "{said}");
}
