//! `release plan`, `release show` and `release diff`: what is, will be and changes in a package.

use std::fs;

use crate::{
    outcome::Run as _,
    project::{Project, stdout, tool},
};

const RECIPE: &str = r#"
depends = ["nginx"]
build = ["sh", "-c", "mkdir -p out; echo built > out/made"]
contents = [
  { src = "web", dst = "/usr/bin/web", mode = "0755" },
  { src = "etc/web.conf", dst = "/etc/web.conf" },
  { src = "out/**", dst = "/usr/share/web/" },
  { link = "/usr/share/web/link", to = "made" },
  { dir = "/var/lib/web", owner = "www-data", mode = "0750" },
]
scripts = { postinst = "echo one" }
[[package.web.unit]]
file = "web.service"
"#;

fn project() -> Project {
    let project = Project::new(RECIPE);
    project.write(".gitignore", "/out\n");
    project.commit();
    project
}

fn text(project: &Project, arguments: &[&str]) -> String {
    stdout(project.release(arguments).assert().success().get_output())
}

#[test]
fn a_plan_needs_neither_build_nor_bucket() {
    let project = project();
    let mut command = project.release(&["plan"]);
    let shown = stdout(command.env_remove("PUSH_BUCKET").assert().success().get_output());
    for expected in [
        "  Package: web",
        "  Depends: nginx",
        "  web.service  restart",
        "  postinst  ",
        "  0755  root:root ",
        "  /usr/bin/web\n",
        "/etc/web.conf  conffile",
        "0750  www-data:root ",
        "/usr/share/web/link -> made",
        "made by the build, sh -c mkdir -p out; echo built > out/made\n  out/** -> /usr/share/web/\n",
        "not compared with the bucket: no bucket specified",
        "nothing to compare with: there is no release yet",
    ] {
        assert!(shown.contains(expected), "{expected:?} is missing in\n{shown}");
    }
    assert!(!project.path("out").exists() && !project.path("dist").exists(), "a plan builds nothing");
}

#[test]
fn a_plan_says_what_changes() {
    let project = project();
    project.release(&["-m", "first"]).assert().success();
    let same = text(&project, &["plan"]);
    assert!(same.contains(", in the output directory\n  no differences\n"), "{same}");
    project.write("web", "#!/bin/sh\necho longer than before\n");
    project.write(
        "release.toml",
        &fs::read_to_string(project.path("release.toml")).unwrap().replace("echo one", "echo two"),
    );
    let changed = text(&project, &["plan", "web"]);
    for expected in ["~/usr/bin/web  size 19 B -> ", "content\n", "-echo one", "+echo two"] {
        assert!(changed.contains(expected), "{expected:?} is missing in\n{changed}");
    }
    // From the bucket only the MD5 sums are known.
    fs::remove_dir_all(project.path("dist")).unwrap();
    let changed = text(&project, &["plan"]);
    assert!(changed.contains(", in the bucket\n") && changed.contains("~/usr/bin/web  content\n"), "{changed}");
    let planned = project.json(&["plan", "--json"]);
    assert_eq!(planned[0]["inventory"]["files"]["usr/bin/web"]["owner"], "root:root");
    assert_eq!(planned[0]["against"]["place"], "in the bucket");
    assert_eq!(planned[0]["against"]["difference"]["files"][0]["name"], "usr/bin/web");
    let mut command = project.release(&["plan", "--bucket", "file:///nowhere"]);
    let shown = stdout(command.assert().success().get_output());
    assert!(shown.contains("not compared with the bucket: "), "{shown}");
}

#[test]
fn a_prebuilt_package_is_planned_as_it_is() {
    let project = project();
    let deb = project.build();
    fs::copy(deb, project.path("third.deb")).unwrap();
    project.write("release.toml", "schema = 1\n[package.third]\ndeb = \"third.deb\"\n[[package.third.unit]]\nname = \"x.service\"\n[package.other]\ndeb = \"absent.deb\"\n");
    let planned = project.json(&["plan", "--json"]);
    assert_eq!(planned[0]["missing"][0]["source"], "absent.deb");
    assert_eq!(planned[1]["inventory"]["units"], serde_json::json!({ "x.service": "restart" }));
    assert_eq!(planned[1]["inventory"]["fields"]["Push-Note"], serde_json::Value::Null);
    assert_eq!(planned[1]["inventory"]["files"]["usr/bin/web"]["mode"], "0755");
}

#[test]
fn a_release_is_shown_by_its_name_its_app_and_its_file() {
    let project = project();
    let release = text(&project, &["-m", "first\nand more"]);
    let release = release.trim();
    let stem = release.strip_prefix("web/").unwrap().strip_suffix(".deb").unwrap();
    let file = format!("dist/{stem}.deb");
    let head = text(&project, &["show", "web"]);
    for expected in [
        release,
        "note: first\n  and more\n",
        "Depends: nginx",
        "web.service  restart",
        "  /usr/bin/web\n",
        "/etc/web.conf  conffile",
    ] {
        assert!(head.contains(expected), "{expected:?} is missing in\n{head}");
    }
    assert!(!head.contains("www-data"), "{head}");
    assert_eq!(text(&project, &["show", release]), head);
    assert_eq!(text(&project, &["show", stem]), head);
    for name in ["web", &file] {
        let whole = text(&project, &["show", "--files", name]);
        for expected in
            ["0750  www-data:root ", "/var/lib/web/\n", "/usr/share/web/link -> made", "0755  root:root ", "19 B "]
        {
            assert!(whole.contains(expected), "{expected:?} is missing in\n{whole}");
        }
    }
    let json = project.json(&["show", "--json", "--files", "web"]);
    assert_eq!((&json["release"], &json["note"]), (&release.into(), &"first\nand more".into()));
    let sum = tool("md5sum", &[project.path("web").to_str().unwrap()]);
    assert_eq!(json["files"]["usr/bin/web"]["md5"].as_str(), sum.split_whitespace().next());
    let said = project.refused(&["show", "no/such thing"], 2);
    assert!(said.contains("neither a file, a release nor an app") && said.contains("release list APP"), "{said}");
    assert!(project.refused(&["show", "api"], 1).contains("no releases of `api`"));
    fs::write(project.path("broken.deb"), "!<arch>\n").unwrap();
    assert!(project.refused(&["show", "broken.deb"], 1).contains("not a .deb"));
}

#[test]
fn a_diff_has_files_fields_scripts_units_and_notes() {
    let project = project();
    let first = text(&project, &["-m", "first"]);
    let rest = RECIPE
        .replace("nginx", "apache2")
        .replace("echo one", "echo two")
        .replace("mode = \"0755\"", "mode = \"0700\"");
    project.write("release.toml", &format!("{}{rest}restart = \"reload\"\n", crate::project::HEAD));
    project.write("etc/web.conf", "port = 8080\n");
    project.commit();
    for (second, note) in [("03", "second"), ("04", "third")] {
        project.release(&["-m", note, "--time", &format!("2026-11-20T19:05:{second}Z")]).assert().success();
    }
    let head = text(&project, &["diff", first.trim(), "web"]);
    for expected in [
        "-Depends: nginx\n  +Depends: apache2\n",
        "-web.service  restart\n  +web.service  reload\n",
        "-echo one",
        "+echo two",
        "notes\n",
        "  second\n",
        "  third\n",
    ] {
        assert!(head.contains(expected), "{expected:?} is missing in\n{head}");
    }
    assert!(!head.contains("  first\n") && !head.contains("web.conf"), "{head}");
    let whole = text(&project, &["diff", "--files", first.trim(), "web"]);
    for expected in ["~/usr/bin/web  mode 0755 -> 0700\n", "~/etc/web.conf  size 10 B -> 12 B, content\n"] {
        assert!(whole.contains(expected), "{expected:?} is missing in\n{whole}");
    }
    let json = project.json(&["diff", "--json", first.trim(), "web"]);
    assert_eq!(json["notes"].as_array().unwrap().len(), 2);
    assert_eq!(json["fields"][0]["to"], "apache2");
    assert!(text(&project, &["diff", "web", "web"]).contains("no differences"));
}

#[test]
fn only_the_head_is_read_unless_all_files_are_asked_for() {
    let project = project();
    project.write("large", &"a line of text\n".repeat(100_000));
    project.write(
        "release.toml",
        &format!("{}contents = [{{ src = \"large\", dst = \"/srv/large\" }}]\n", crate::project::HEAD),
    );
    project.commit();
    let release = text(&project, &["-m", "why"]);
    // A byte of the files rots, at rest: its time stays, so it is the same generation.
    let object = project.beside("bucket/debs").join(release.trim());
    let mut content = fs::read(&object).unwrap();
    let time = fs::metadata(&object).unwrap().modified().unwrap();
    let last = content.len() - 20;
    content[last] ^= 1;
    fs::write(&object, content).unwrap();
    fs::File::options().append(true).open(&object).unwrap().set_modified(time).unwrap();
    assert!(text(&project, &["show", "web"]).contains("  /srv/large\n"), "the head is whole");
    assert!(text(&project, &["diff", "web", "web"]).contains("no differences"));
    let said = project.refused(&["show", "--files", "web"], 1);
    assert!(said.contains("SHA-256 mismatch: expected "), "{said}");
}
