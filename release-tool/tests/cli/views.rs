//! `release plan`, `release show` and `release diff`: what is, will be and changes in a package.

use std::{
    fs,
    process::{Command, Stdio},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

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
        "made by the build, sh -c mkdir -p out; echo built > out/made\n  out/** -> /usr/share/web/ (`",
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

#[test]
fn what_came_last_is_what_a_plan_is_against_and_no_builders_clock_decides() {
    let project = project();
    let built = |arguments: &[&str], second: &str| {
        let time = format!("2026-11-20T19:05:{second}Z");
        let mut command = project.release(arguments);
        stdout(command.args(["--time", &time]).assert().success().get_output())
    };
    let against = |name: &str, place: &str| {
        let planned = text(&project, &["plan", "web"]);
        assert!(planned.contains(&format!("against {name}, in the {place}\n")), "not {name}, {place}:\n{planned}");
    };
    let release = |deb: &str| format!("web/{}", deb.trim().rsplit('/').next().unwrap());
    // A clock that is ahead, and one that is right.
    let ahead = built(&["build", "-m", "ahead"], "09");
    against(&release(&ahead), "output directory");
    let later = built(&["build", "-m", "later"], "05");
    against(&release(&later), "output directory");
    let published = built(&["-m", "elsewhere", "--out", "../elsewhere"], "03");
    against(published.trim(), "bucket");
    // What was published is here as well: then all of it is compared.
    let published = built(&["-m", "here"], "01");
    against(published.trim(), "output directory");
    let last = built(&["build", "-m", "after it"], "00");
    against(&release(&last), "output directory");
}

#[test]
fn notes_between_two_releases_are_those_uploaded_between_them() {
    let project = project();
    let mut names = Vec::new();
    // The second builder's clock is ahead of all others.
    for (second, note) in [("01", "first"), ("09", "second"), ("02", "third"), ("03", "fourth")] {
        let time = format!("2026-11-20T19:05:{second}Z");
        names.push(text(&project, &["-m", note, "--time", &time]).trim().to_owned());
    }
    let notes = |from: &str, to: &str| {
        let json = project.json(&["diff", "--json", from, to]);
        let notes =
            json["notes"].as_array().unwrap().iter().map(|between| between["note"].as_str().unwrap().to_owned());
        notes.collect::<Vec<_>>()
    };
    assert_eq!(notes(&names[0], "web"), ["second", "third", "fourth"]);
    assert_eq!(notes(&names[3], &names[1]), ["third", "fourth"]);
    let file = |name: &str| format!("dist/{}", name.strip_prefix("web/").unwrap());
    assert_eq!(notes(&names[0], &file(&names[2])), ["second", "third"], "a file of what was uploaded");
    // What nobody uploaded comes where its file does.
    let built = text(&project, &["build", "-m", "fifth", "--time", "2026-11-20T19:05:00Z"]);
    assert_eq!(notes(&names[1], built.trim()), ["third", "fourth"]);
}

#[test]
fn what_no_build_makes_right_fails_a_plan_and_what_it_may_make_is_said_with_the_reason() {
    let project = project();
    fs::write(project.beside("secret"), "s3cret").unwrap();
    let manifest = |rest: &str| format!("{}build = [\"true\"]\n{rest}\n", crate::project::HEAD);
    let contents = |entry: &str| manifest(&format!("contents = [{{ {entry} }}]"));
    for (entry, expected) in [
        ("src = \"../secret\", dst = \"/srv/\"", "outside of the repository"),
        ("src = \"out/[\", dst = \"/srv/\"", "invalid glob `[`"),
        ("src = \"out/**\", dst = \"/srv/\", exclude = [\"[\"]", "invalid glob `[`"),
        ("src = \"out/*\", dst = \"/srv\"", "may match several files"),
        ("src = \"etc/**\", dst = \"/srv/\", mode = \"0755\"", "executable, which it is not in the project"),
        ("src = \"out/**\", dst = \"/srv/\", dir_mode = \"0640\"", "can be read and not entered"),
    ] {
        project.write("release.toml", &contents(entry));
        let said = project.refused(&["plan"], 1);
        assert!(said.contains(expected) && said.contains("[package.web]"), "{entry}\nsaid: {said}");
    }
    let unit = |file: &str| manifest(&format!("[[package.web.unit]]\nfile = \"{file}\""));
    fs::write(project.beside("x.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    project.write("release.toml", &unit("../x.service"));
    assert!(project.refused(&["plan"], 1).contains("outside of the repository"));

    let out = project.path(".").canonicalize().unwrap();
    for (manifest, expected) in [
        (contents("src = \"out/**\", dst = \"/srv/\""), format!("out/** -> /srv/ (`{}/out` not found)", out.display())),
        (
            contents("src = \"etc/*.js\", dst = \"/srv/\""),
            "etc/*.js -> /srv/ (`etc/*.js` matches no files in ".to_owned(),
        ),
        (
            unit("y.service"),
            format!("y.service -> /usr/lib/systemd/system/y.service (`{}/y.service` not", out.display()),
        ),
    ] {
        project.write("release.toml", &manifest);
        let planned = text(&project, &["plan"]);
        assert!(planned.contains(&format!("made by the build, true\n  {expected}")), "{expected}\n{planned}");
    }
}

#[test]
fn a_plan_marks_all_that_comes_from_outside_of_the_repository() {
    let project = project();
    fs::create_dir(project.beside("tree")).unwrap();
    fs::write(project.beside("tree/file"), "x").unwrap();
    fs::write(project.beside("x.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    std::os::unix::fs::symlink("file", project.beside("tree/link")).unwrap();
    let contents =
        "contents = [{ src = \"../tree\", dst = \"/srv/\", outside = true }, { src = \"web\", dst = \"/usr/bin/\" }]";
    let unit = "[[package.web.unit]]\nfile = \"../x.service\"\noutside = true\n";
    project.write("release.toml", &format!("{}{contents}\n{unit}", crate::project::HEAD));
    let planned = text(&project, &["plan"]);
    for path in ["/srv/file", "/srv/link -> file", "/usr/lib/systemd/system/x.service"] {
        assert!(planned.contains(&format!("{path}  from outside of the repository\n")), "{path}\n{planned}");
    }
    assert!(planned.contains("/usr/bin/web\n"), "{planned}");
}

/// Runs a command to its successful end; how many bytes it has read, from files and all else.
fn bytes_read(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(process), ended).unwrap();
    let counted = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    counted.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn little_is_read_of_a_large_release() {
    const LARGE: u64 = 32 << 20;
    let project = project();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    fs::write(project.path("large"), (0..LARGE).map(|_| random()).collect::<Vec<u8>>()).unwrap();
    let contents = "contents = [{ src = \"large\", dst = \"/srv/large\" }]\n";
    project.write("release.toml", &format!("{}{contents}", crate::project::HEAD));
    project.commit();
    project.release(&["-m", "why"]).assert().success();
    fs::remove_dir_all(project.path("dist")).unwrap();
    for (arguments, whole) in [(&["show", "web"][..], 1), (&["diff", "web", "web"], 2)] {
        let little = bytes_read(project.release(arguments));
        assert!(little < LARGE / 4, "{arguments:?} read {little} bytes");
        let all = bytes_read(project.release(&[arguments, &["--files"]].concat()));
        assert!(all > whole * LARGE, "{arguments:?} --files read {all} bytes");
    }
}
