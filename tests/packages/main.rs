//! The packages that `make debs` writes: under names that apt takes, with what Debian expects of a package.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{Programs, Repo, TempDir};

const PACKAGES: [(&str, &str); 3] = [("pulld", "pulld"), ("push-server", "push"), ("release-tool", "release")];

/// What `make debs` reads.
const SOURCES: [&str; 5] = ["docs", "Makefile", "packaging", "systemd", "CHANGELOG.md"];

/// What lintian of Debian 12 says of each package at most, in the order of the document that explains it.
const EXPLAINED: [&str; 3] = ["malformed-deb-archive", "unknown-field", "no-manual-page"];

/// A copy of the sources in which cargo has already built the programs: those of this test, without symbols.
struct Sources {
    directory: TempDir,
    repo: Repo,
}

impl Sources {
    fn new() -> Result<Self> {
        let directory = TempDir::new()?;
        let root = directory.path();
        for source in SOURCES {
            run(Command::new("cp").arg("-r").arg(workspace().join(source)).arg(root))?;
        }
        for nothing_to_do in ["tests/setup", "bin/cargo"] {
            let path = root.join(nothing_to_do);
            fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
            fs::write(&path, "#!/bin/sh\n")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        fs::create_dir_all(root.join("target/release"))?;
        let programs = Programs::get()?;
        for program in [programs.pulld(), programs.push(), programs.release()] {
            let to = root.join("target/release").join(program.file_name().context("a program has a name")?);
            run(Command::new("strip").arg("-o").arg(&to).arg(&program))?;
        }
        let repo = Repo::new(root)?;
        repo.write(".gitignore", "/target/\n/dist/\n")?;
        repo.commit("Push")?;
        Ok(Self { directory, repo })
    }

    /// Runs `make debs`.
    fn make(&self) -> Result<()> {
        let path = std::env::var("PATH")?;
        let mut make = Command::new("make");
        make.arg("debs").current_dir(self.directory.path()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        make.env("PATH", format!("{}:{path}", self.path("bin").display()));
        run(&mut make).map(drop)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn deb(&self, package: &str) -> PathBuf {
        self.path(&format!("dist/{package}.deb"))
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a directory of the workspace")
}

/// Runs a command that must succeed, and gives what it wrote to stdout.
fn run(command: &mut Command) -> Result<String> {
    let output = command.env("LC_ALL", "C.UTF-8").output().with_context(|| format!("could not run {command:?}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout.into_owned())
}

fn field(deb: &Path, name: &str) -> Result<String> {
    Ok(run(Command::new("dpkg-deb").arg("--field").arg(deb).arg(name))?.trim().to_owned())
}

/// The oldest glibc with which a program starts, as binutils sees it: `2.34`.
fn glibc(program: &Path) -> Result<String> {
    let symbols = run(Command::new("objdump").arg("-T").arg(program))?;
    let words = symbols.split(|c: char| !c.is_ascii_alphanumeric() && !"._".contains(c));
    let versions = words.filter_map(|word| word.strip_prefix("GLIBC_")).filter_map(|version| {
        let mut numbers = version.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let (major, minor) = versions.max().context("no symbol of glibc")?;
    Ok(format!("{major}.{minor}"))
}

#[test]
fn make_debs_writes_what_apt_and_lintian_take() -> Result<()> {
    let sources = Sources::new()?;
    sources.make()?;
    let root = sources.path("root");
    for (package, program) in PACKAGES {
        let deb = sources.deb(package);
        assert_eq!(field(&deb, "Package")?, package);
        // A path that begins with `./` and has no colons is a file to apt.
        let apt = run(Command::new("apt-get").args(["install", "--simulate", "--no-install-recommends"]).arg(&deb))?;
        assert!(apt.contains(&format!("Inst {package} ")), "{apt}");

        let libc = format!("libc6 (>= {})", glibc(&sources.path("target/release").join(program))?);
        let depends = field(&deb, "Depends")?;
        assert!(depends.split(", ").any(|relation| relation == libc), "{package}: {depends}");

        run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&root))?;
        let copyright = fs::read_to_string(root.join(format!("usr/share/doc/{package}/copyright")))?;
        assert!(copyright.contains("License: Apache-2.0"), "{copyright}");
        let changelog = root.join(format!("usr/share/doc/{package}/changelog.gz"));
        let text = run(Command::new("zcat").arg(&changelog))?;
        assert!(text.starts_with(&format!("{package} (")) && text.contains("\n  * "), "{text}");
    }
    // Whoever installs the command alone gets neither the web app nor the watcher started.
    let scripts = run(Command::new("dpkg-deb").arg("--info").arg(sources.deb("push-server")).arg("postinst"))?;
    assert!(!scripts.contains("deb-systemd-helper enable") && !scripts.contains("invoke start"), "{scripts}");
    for unit in ["push-server", "push-watcher"] {
        assert!(root.join(format!("usr/lib/systemd/system/{unit}.service")).is_file(), "{unit}");
        assert!(root.join(format!("etc/default/{unit}")).is_file(), "{unit}");
    }
    // The points at which tests kill the agent are named in what is only built for them.
    let program = fs::read(root.join("usr/bin/pulld"))?;
    for word in ["pulld-fail-points", "persist.write("] {
        let is_there = program.windows(word.len()).any(|bytes| bytes == word.as_bytes());
        assert!(!is_there, "the released pulld has fail points: it says `{word}`");
    }
    lintian(&sources)?;

    // Again, of other sources: the plain name is the new package.
    let plain = |package: &str| fs::read(sources.deb(package));
    let before = plain("pulld")?;
    let changelogs = |package: &str| fs::read(sources.path(&format!("target/packaging/{package}/changelog.gz")));
    let changelog = changelogs("pulld")?;
    fs::remove_dir_all(sources.path("target/packaging"))?;
    sources.repo.write("packaging/pulld/pulld.toml", "# other\n")?;
    sources.repo.commit("other")?;
    sources.make()?;
    assert_ne!(plain("pulld")?, before);
    assert_ne!(changelogs("pulld")?, changelog, "it has the time of the commit");
    for (package, _) in PACKAGES {
        let release = field(&sources.deb(package), "Push-Release")?;
        assert_eq!(plain(package)?, fs::read(sources.path(&format!("dist/{release}.deb")))?);
    }
    Ok(())
}

/// lintian has nothing to say but what the document explains.
fn lintian(sources: &Sources) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--tag-display-limit", "0"]).args(PACKAGES.map(|(package, _)| sources.deb(package)));
    let output =
        lintian.env("LC_ALL", "C.UTF-8").output().context("could not run lintian: `tests/setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // `W: pulld: no-manual-page [usr/bin/pulld]`
    let tags: Vec<&str> = said.lines().filter_map(|line| line.split(": ").nth(2)?.split(' ').next()).collect();
    assert!(!tags.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let more: Vec<_> = tags.iter().filter(|tag| !EXPLAINED.contains(tag)).collect();
    assert!(more.is_empty(), "{said}");
    let document = fs::read_to_string(workspace().join("docs/packages.md"))?;
    for tag in EXPLAINED {
        assert!(document.contains(&format!("| `{tag}` |")), "docs/packages.md doesn't explain {tag}");
    }
    Ok(())
}
