//! Building a `.deb`: `release build` against dpkg-deb and against the floor, `tar | zstd -3`, on the same tree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::measure::{Run, median, peak, row, run, tree_size};

/// The least size of the tree, in bytes.
const SIZE: u64 = 320 << 20;
/// What may be missing from it: most files are smaller.
const NEARLY: u64 = 1 << 20;
/// How often each is run; dpkg-deb's xz, which takes a minute, once.
const ROUNDS: usize = 3;

pub(crate) fn bench(release: &Path, scratch: &Path) -> Result<()> {
    let project = scratch.join("build");
    let tree = project.join("tree");
    fs::create_dir_all(&tree)?;
    fill(&tree)?;
    let (bytes, files) = tree_size(&tree)?;
    println!("build a package of {} MB in {files} files", bytes >> 20);

    write_project(&project)?;
    fs::create_dir_all(project.join("classic/DEBIAN"))?;
    fs::write(
        project.join("classic/DEBIAN/control"),
        "Package: tree\nVersion: 1\nArchitecture: all\nMaintainer: Bench <bench@example.com>\nDescription: a tree\n",
    )?;
    fs::rename(&tree, project.join("classic/opt"))?;

    let out = project.join("out");
    let floor = || shell(&project, "tar -C classic/opt -cf - . | zstd -3 -T0 -q -f -o floor.tar.zst");
    let ours = || {
        let mut command = Command::new(release);
        command.arg("-C").arg(&project).args(["build", "--note", "bench", "--out"]).arg(&out);
        command
    };
    let dpkg =
        |compression: &str| shell(&project, &format!("dpkg-deb {compression} --root-owner-group -b classic dpkg.deb"));

    run(&mut floor())?;
    let (mut floors, mut builds, mut zstds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(run(&mut floor())?);
        let _ = fs::remove_dir_all(&out);
        builds.push(run(&mut ours())?);
        zstds.push(run(&mut dpkg("-Zzstd -z3"))?);
    }
    let deb = fs::read_dir(&out)?.next().context("release build wrote nothing")??;
    let zstd_size = fs::metadata(project.join("dpkg.deb"))?.len();
    let xz: Vec<Run> = vec![run(&mut dpkg("-Zxz"))?];
    let xz_size = fs::metadata(project.join("dpkg.deb"))?.len();

    let least = median(floors.iter().map(|run| run.wall.as_secs_f64()).collect());
    println!("{}", row("floor: tar | zstd -3 -T0", &floors, fs::metadata(project.join("floor.tar.zst"))?.len(), None));
    println!("{}{}", row("release build", &builds, deb.metadata()?.len(), Some(least)), peak(&builds));
    println!("{}", row("dpkg-deb -Zzstd -z3", &zstds, zstd_size, Some(least)));
    println!("{}", row("dpkg-deb -Zxz (its default)", &xz, xz_size, Some(least)));
    fs::remove_dir_all(&project)?;
    Ok(())
}

fn shell(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).current_dir(directory);
    command
}

/// Copies what any Debian has until the tree is large enough: programs, libraries, text, in their natural mix.
fn fill(tree: &Path) -> Result<()> {
    let sources = ["/usr/share", "/usr/lib", "/usr/include", "/usr/bin"].map(PathBuf::from);
    for round in 0..8 {
        for source in &sources {
            let mut left = SIZE.saturating_sub(tree_size(tree)?.0);
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

fn write_project(project: &Path) -> Result<()> {
    fs::write(project.join(".gitignore"), "*\n!release.toml\n!.gitignore\n")?;
    fs::write(
        project.join("release.toml"),
        r#"schema = 1
[defaults]
maintainer = "Bench <bench@example.com>"
[package.tree]
description = "A tree to build a package of"
arch = "all"
contents = [{ src = "classic/opt/**", dst = "/opt/" }]
"#,
    )?;
    for arguments in ["init -q", "add .", "-c user.name=Bench -c user.email=bench@example.com commit -qm tree"] {
        let status = Command::new("git").current_dir(project).args(arguments.split(' ')).status()?;
        ensure!(status.success(), "git {arguments} ended with {status}");
    }
    Ok(())
}
