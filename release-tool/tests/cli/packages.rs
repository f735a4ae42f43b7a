//! The packages: what dpkg thinks of them.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::outcome::Run as _;

use crate::project::{Project, field, members, stdout, tool};

const RICH: &str = r#"
depends = ["init-system-helpers (>= 1.18)"]
contents = [
  { src = "web", dst = "/usr/bin/", mode = "0755" },
  { src = "etc/web.conf", dst = "/etc/web/web.conf" },
  { src = "tree/**", dst = "/usr/share/web/", exclude = ["**/*.map"] },
  { link = "/etc/web/enabled", to = "web.conf" },
  { dir = "/var/lib/web", owner = "www-data", group = "33", mode = "0750" },
]
scripts = { preinst = "echo before" }
[[package.web.unit]]
file = "web.service"
[[package.web.unit]]
file = "web@.service"
[[package.web.unit]]
name = "nginx.service"
restart = "reload"
"#;

fn rich() -> Project {
    let project = Project::new(RICH);
    project.write("web@.service", "[Service]\nExecStart=/usr/bin/web %i\n");
    project.write("tree/a.js", "a");
    project.write("tree/a.js.map", "m");
    project.write(&format!("tree/{}/{}/deep", "x".repeat(80), "y".repeat(80)), "deep");
    project.commit();
    project
}

#[test]
fn dpkg_sees_what_was_meant() {
    let project = rich();
    let deb = project.build();
    let listing = tool("dpkg-deb", &["--contents", deb.to_str().unwrap()]);
    let short: Vec<String> = listing
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .filter(|line| !line.contains("xxxx"))
        .collect();
    let expected = [
        "drwxr-xr-x root/root ./",
        "drwxr-xr-x root/root ./etc/",
        "drwxr-xr-x root/root ./etc/web/",
        "lrwxrwxrwx root/root ./etc/web/enabled -> web.conf",
        "-rw-r--r-- root/root ./etc/web/web.conf",
        "drwxr-xr-x root/root ./usr/",
        "drwxr-xr-x root/root ./usr/bin/",
        "-rwxr-xr-x root/root ./usr/bin/web",
        "drwxr-xr-x root/root ./usr/lib/",
        "drwxr-xr-x root/root ./usr/lib/systemd/",
        "drwxr-xr-x root/root ./usr/lib/systemd/system/",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/web.service",
        "-rw-r--r-- root/root ./usr/lib/systemd/system/web@.service",
        "drwxr-xr-x root/root ./usr/share/",
        "drwxr-xr-x root/root ./usr/share/web/",
        "-rw-r--r-- root/root ./usr/share/web/a.js",
        "drwxr-xr-x root/root ./var/",
        "drwxr-xr-x root/root ./var/lib/",
        "drwxr-x--- www-data/33 ./var/lib/web/",
    ];
    assert_eq!(short, expected, "{listing}");
    let names: Vec<String> = members(&deb).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["debian-binary", "control.tar.zst", "data.tar.zst"]);
    assert_eq!(field(&deb, "Push-Units"), "web.service=restart web@.service=restart nginx.service=reload");
    assert_eq!(field(&deb, "Depends"), "init-system-helpers (>= 1.18)");
    assert_eq!(tool("dpkg-deb", &["--info", deb.to_str().unwrap(), "conffiles"]), "/etc/web/web.conf\n");
    project.release(&["check", deb.to_str().unwrap()]).assert().success().stdout("");
}

/// dpkg for a system of its own below a directory.
fn dpkg(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("dpkg");
    command.arg(format!("--root={}", root.display())).args(["--force-script-chrootless", "--force-depends"]);
    command.args(arguments).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[test]
fn an_installed_package_verifies_upgrades_and_goes() {
    let project = rich();
    let first = project.build();
    let second = project.release(&["build", "-m", "again", "--time", "2026-11-20T19:05:03Z"]);
    let second = stdout(&{ second }.assert().success().get_output().clone()).trim().to_owned();
    let root = project.beside("root");
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    for file in ["passwd", "group"] {
        fs::copy(format!("/etc/{file}"), root.join("etc").join(file)).unwrap();
    }

    dpkg(&root, &["-i", first.to_str().unwrap()]).assert().success();
    dpkg(&root, &["--verify", "web"]).assert().success().stdout("");
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/web.service");
    assert!(fs::symlink_metadata(&wanted).is_ok(), "the unit is enabled");
    fs::write(root.join("etc/web/web.conf"), "port = 8080\n").unwrap();

    dpkg(&root, &["--force-confdef", "--force-confold", "-i", &second]).assert().success();
    assert_eq!(fs::read_to_string(root.join("etc/web/web.conf")).unwrap(), "port = 8080\n");
    let query = tool(
        "dpkg-query",
        &[&format!("--root={}", root.display()), "-W", "-f", "${Package} ${Push-Release} ${Push-Note}\n"],
    );
    assert!(query.starts_with("web web:dev@build-1:2026-11-20T19:05:03Z:") && query.ends_with(" again\n"), "{query}");

    dpkg(&root, &["--remove", "web"]).assert().success();
    let masked = root.join("etc/systemd/system/web.service");
    assert_eq!(fs::read_link(&masked).unwrap(), Path::new("/dev/null"), "removed units are masked");
    dpkg(&root, &["--purge", "web"]).assert().success();
    assert!(fs::symlink_metadata(&masked).is_err() && fs::symlink_metadata(&wanted).is_err(), "purge forgets");
    assert!(!root.join("etc/web").exists());
}

#[test]
fn notes_and_descriptions_never_become_fields() {
    let project = Project::new("");
    let hostile = "schema = 1\n[package.web]\narch = \"all\"\nmaintainer = \"A <a@b.example>\"\n\
                   description = \"Web\\nEssential: yes\\n\\nPush-Check: /bin/evil\"\n";
    project.write("release.toml", hostile);
    project.commit();
    let note = "why\nEssential: yes\n\nPackage: evil\u{1b}[2J\r\u{202e}\\n";
    let output = project.release(&["-m", note]).assert().success().get_output().clone();
    let release = stdout(&output).trim().to_owned();
    let deb = project.path("dist").join(release.strip_prefix("web/").unwrap());
    let control = tool("dpkg-deb", &["--info", deb.to_str().unwrap(), "control"]);
    for absent in ["Essential:", "Push-Check:", "Package: evil"] {
        assert!(!control.lines().any(|line| line.starts_with(absent)), "{control}");
    }
    assert_eq!(field(&deb, "Package"), "web");
    assert_eq!(field(&deb, "Push-Note").lines().count(), 1);
    // The bucket has the note as it was meant, and the table shows it without obeying it.
    let json = project.release(&["list", "web", "--json"]).assert().success().get_output().clone();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json[0]["note"].as_str().unwrap(), note);
    let table = stdout(&project.release(&["list", "web"]).assert().success().get_output().clone());
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains(['\u{1b}', '\r', '\u{202e}']), "{table:?}");
}

#[test]
fn a_prebuilt_package_keeps_its_bytes() {
    for compression in ["gzip", "xz", "none"] {
        let project = Project::new("");
        let tree = project.beside("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/share/other")).unwrap();
        let control = "Package: other\nVersion: 1.0-1\nArchitecture: all\nMaintainer: B <b@c.example>\n\
                       Description: Other\n more\nPush-Note: old\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join("DEBIAN/postinst"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("DEBIAN/postinst"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(tree.join("usr/share/other/file"), "content").unwrap();
        let original = project.path("other.deb");
        let compress = format!("-Z{compression}");
        let paths = [tree.to_str().unwrap(), original.to_str().unwrap()];
        tool("dpkg-deb", &["--root-owner-group", "--uniform-compression", &compress, "--build", paths[0], paths[1]]);
        project.write(
            "release.toml",
            "schema = 1\n[package.vendor]\ndeb = \"other.deb\"\n[[package.vendor.unit]]\nname = \"other.service\"\n",
        );
        project.commit();
        let output = project.release(&["-m", "why"]).assert().success().get_output().clone();
        let release = stdout(&output).trim().to_owned();
        let deb = project.path("dist").join(release.strip_prefix("vendor/").unwrap());
        assert_eq!(members(&original)[2], members(&deb)[2], "{compression}: the data member");
        assert_eq!((field(&deb, "Package"), field(&deb, "Version")), ("other".into(), "1.0-1".into()));
        assert_eq!(
            (field(&deb, "Push-Note"), field(&deb, "Push-Units")),
            ("why".into(), "other.service=restart".into())
        );
        assert_eq!(field(&deb, "Description"), "Other\n more");
        assert_eq!(tool("dpkg-deb", &["--info", deb.to_str().unwrap(), "postinst"]), "#!/bin/sh\n");
        project.release(&["check", deb.to_str().unwrap()]).assert().success();
    }
}

#[test]
fn xz_is_for_older_servers() {
    let project = Project::new("compression = \"xz\"\ncontents = [{ src = \"web\", dst = \"/usr/bin/web\" }]\n");
    let deb = project.build();
    let names: Vec<String> = members(&deb).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.xz"]);
    let out = project.beside("out");
    tool("dpkg-deb", &["-x", deb.to_str().unwrap(), out.to_str().unwrap()]);
    assert_eq!(fs::read(out.join("usr/bin/web")).unwrap(), fs::read(project.path("web")).unwrap());
}

#[test]
fn damage_is_found_by_check() {
    let project = rich();
    let deb = project.build();
    let good = fs::read(&deb).unwrap();
    let bad = project.path("bad.deb");
    // One bit anywhere after the control member, and the file cut short.
    let mut flipped = good.clone();
    let at = good.len() - 60;
    flipped[at] ^= 1;
    for bytes in [&flipped[..], &good[..good.len() - 10], &good[..100], b"not a deb"] {
        fs::write(&bad, bytes).unwrap();
        project.release(&["check", "bad.deb"]).assert().code(1);
    }
}

#[test]
fn hard_links_stay_hard_links_and_verify() {
    let head = crate::project::HEAD;
    let project = Project::new("");
    project.write("tree/a/first", &"one file of several names ".repeat(20_000));
    for name in ["a/second", "b-third"] {
        fs::hard_link(project.path("tree/a/first"), project.path("tree").join(name)).unwrap();
    }
    let contents = "contents = [{ src = \"tree/**\", dst = \"/usr/share/web/\" }, \
                    { src = \"tree/a/*\", dst = \"/usr/lib/web/\", mode = \"0600\" }]\n";
    project.write("release.toml", &format!("{head}{contents}"));
    project.commit();
    let deb = project.build();
    let listing = tool("dpkg-deb", &["-c", deb.to_str().unwrap()]);
    let links = listing.lines().filter_map(|line| line.split_once(" link to ")).count();
    assert_eq!(links, 3, "{listing}");
    let sums = tool("dpkg-deb", &["--info", deb.to_str().unwrap(), "md5sums"]);
    assert_eq!(sums.lines().count(), 5, "a sum for each name: {sums}");
    let root = project.beside("root");
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    dpkg(&root, &["-i", deb.to_str().unwrap()]).assert().success();
    dpkg(&root, &["--verify", "web"]).assert().success().stdout("");
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(root.join("usr").join(path)).unwrap());
    assert_eq!(inode("share/web/a/first"), inode("share/web/a/second"));
    assert_eq!(inode("share/web/a/first"), inode("share/web/b-third"));
    assert_eq!(inode("lib/web/first"), inode("lib/web/second"));
    assert_ne!(inode("lib/web/first"), inode("share/web/a/first"), "another mode is another file");
    project.release(&["check", deb.to_str().unwrap()]).assert().success().stdout("");
}

/// The last bytes of a member are the checksum of its compressed stream, behind the end of the tar.
#[test]
fn a_wrong_checksum_at_the_very_end_is_found_by_check_and_never_released() {
    for compression in ["zstd", "xz"] {
        let contents = "contents = [{ src = \"web\", dst = \"/usr/bin/web\" }]\n";
        let project = Project::new(&format!("compression = \"{compression}\"\n{contents}"));
        let deb = project.build();
        project.release(&["check", deb.to_str().unwrap()]).assert().success();
        let good = fs::read(&deb).unwrap();
        let end = good.len() - (members(&deb)[2].1.len() % 2);
        // Of xz, the last four bytes are a magic and a size; before them is the checksum of the footer.
        let at = if compression == "zstd" { end - 1 } else { end - 12 };
        for bad in [[&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat(), followed(&good)] {
            fs::write(project.path("bad.deb"), &bad).unwrap();
            let found = project.release(&["check", "bad.deb"]).assert().code(1).get_output().clone();
            assert!(stdout(&found).contains("damaged data member"), "{compression}: {}", stdout(&found));
            let said = project.refused(&["upload", "bad.deb"], 1);
            assert!(said.contains("cannot be unpacked"), "{said}");
            project.write("release.toml", "schema = 1\n[package.vendor]\ndeb = \"bad.deb\"\n");
            let said = project.refused(&["build", "-m", "why"], 1);
            assert!(said.contains("cannot be unpacked"), "{said}");
        }
        project.release(&["list"]).assert().success().stdout("");
    }
}

/// A package whose last member goes on behind what it decompresses to.
fn followed(deb: &[u8]) -> Vec<u8> {
    let text = deb.windows(9).position(|bytes| bytes == b"data.tar.").unwrap();
    let size: usize = std::str::from_utf8(&deb[text + 48..text + 58]).unwrap().trim().parse().unwrap();
    let header = format!("{:<10}", size + 8);
    [&deb[..text + 48], header.as_bytes(), &deb[text + 58..text + 60 + size], b"followed"].concat()
}

#[test]
fn the_example_is_without_findings() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
    let project = Project::bare();
    tool("cp", &["-a", &format!("{}/.", example.display()), project.path(".").to_str().unwrap()]);
    project.git(&["init", "-q"]);
    project.commit();
    project.release(&["check"]).assert().success().stdout("");
    let deb = project.build();
    assert_eq!(field(&deb, "Push-Units"), "hello.service=restart hello-tidy.timer=restart hello-tidy.service=none");
    assert_eq!(field(&deb, "Push-Check"), "/usr/bin/hello --health");
    project.release(&["check", deb.to_str().unwrap()]).assert().success().stdout("");
    tool("perl", &["-c", project.path("hello").to_str().unwrap()]);
}

/// The highest resident size of a child, in KiB, as far as it was seen before the end.
fn peak(mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_grow_with_the_package() {
    let project = Project::new("contents = [{ src = \"/dev/null\", dst = \"/x\" }]\n");
    let measure = |name: &str, megabytes: u64| {
        let tree = project.beside(name);
        fs::create_dir(&tree).unwrap();
        for i in 0..4 {
            fs::File::create(tree.join(i.to_string())).unwrap().set_len(megabytes * 1024 * 1024 / 4).unwrap();
        }
        let contents = format!(
            "{}contents = [{{ src = \"../{name}/**\", dst = \"/srv/\", outside = true }}]\n",
            crate::project::HEAD
        );
        project.write("release.toml", &contents);
        let out = format!("../out-{name}");
        let mut command = project.release(&["build", "-m", "why", "--out", &out]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        peak(child)
    };
    // Both large enough that all of zstd's buffers are in use.
    let (small, large) = (measure("small", 96), measure("large", 288));
    assert!(large < small + 24 * 1024, "{large} KiB for three times as much as with {small} KiB");
}
