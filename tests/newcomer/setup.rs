//! `tests/setup` says what is missing before it installs anything.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use harness::TempDir;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What the script uses of the system before it installs anything.
const TOOLS: [&str; 7] = ["sh", "dirname", "sed", "sort", "head", "id", "env"];

/// A place for the script, and the only programs on its PATH; `apt-get` leaves a note that it was called.
struct Place {
    directory: TempDir,
    source: PathBuf,
}

impl Place {
    fn new(name: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        let source = directory.path().join(name);
        fs::create_dir_all(source.join("tests"))?;
        fs::create_dir(directory.path().join("bin"))?;
        for file in ["tests/setup", "rust-toolchain.toml"] {
            fs::copy(Path::new(WORKSPACE).join(file), source.join(file)).with_context(|| file.to_owned())?;
        }
        let place = Self { directory, source };
        for tool in TOOLS {
            let path = ["/usr/bin", "/bin"].map(|bin| Path::new(bin).join(tool)).into_iter().find(|path| path.exists());
            symlink(path.with_context(|| format!("`{tool}` is on every Debian"))?, place.bin().join(tool))?;
        }
        place.program("apt-get", &format!("echo called >> '{}'", place.note().display()))?;
        Ok(place)
    }

    fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    fn note(&self) -> PathBuf {
        self.directory.path().join("apt-get was called")
    }

    fn program(&self, name: &str, script: &str) -> Result<()> {
        let path = self.bin().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    /// What it says; it must fail, and have installed nothing.
    fn refuses(&self, environment: &[(&str, &str)]) -> Result<String> {
        let mut command = Command::new(self.source.join("tests/setup"));
        command.env_clear().env("PATH", self.bin()).envs(environment.iter().copied());
        let output = command.output()?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!self.note().exists(), "nothing is installed before all is said");
        Ok(String::from_utf8(output.stderr)?)
    }
}

#[test]
fn debians_own_rust_is_said_to_be_too_old() -> Result<()> {
    let place = Place::new("push")?;
    place.program("cargo", "exit 101")?;
    place.program("rustc", "echo 'rustc 1.85.0 (4d91de4e4 2025-02-17) (built from a source tarball)'")?;
    let said = place.refuses(&[])?;
    assert!(said.contains("Rust 1.85.0 (") && said.contains("is too old: Push needs 1.95.0 or later"), "{said}");
    Ok(())
}

#[test]
fn rust_that_is_missing_is_said_with_where_it_may_be() -> Result<()> {
    let place = Place::new("push")?;
    let said = place.refuses(&[])?;
    assert!(said.contains("Rust is missing: install Rust as README.md says"), "{said}");
    // `sudo make`: the Rust of the user isn't on root's PATH.
    let said = place.refuses(&[("SUDO_USER", "dev")])?;
    assert!(said.contains("run make as `dev`, without sudo"), "{said}");
    // Installed just now, in this very shell.
    let home = place.directory.path().join("home");
    fs::create_dir_all(home.join(".cargo/bin"))?;
    symlink("/bin/sh", home.join(".cargo/bin/cargo"))?;
    let said = place.refuses(&[("HOME", home.to_str().context("a path of ours is UTF-8")?)])?;
    assert!(said.contains("run `. ~/.cargo/env`"), "{said}");
    Ok(())
}

#[test]
fn a_path_below_which_cargo_cannot_build_is_named() -> Result<()> {
    let place = Place::new("a:b/push")?;
    place.program("cargo", "exit 101")?;
    place.program("rustc", "echo 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'")?;
    let said = place.refuses(&[])?;
    assert!(said.contains("cargo cannot build below a path with a colon") && said.contains("a:b/push"), "{said}");
    Ok(())
}
