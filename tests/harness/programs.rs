//! Our own programs, as the sources are now.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::command;

/// Longest time that building them may take, from nothing.
const BUILD: Duration = Duration::from_mins(20);

/// Set in the environment of tests for which all programs were built just now.
const BUILT: &str = "PUSH_PROGRAMS_BUILT";

/// The directory of the workspace's sources.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a directory of the workspace")
}

/// `pulld`, `release` and `push`.
#[derive(Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// The programs beside this one.
    ///
    /// For a test, which cargo runs from `deps/`, they are brought up to date first: cargo doesn't build the binaries
    /// of other members for it. That takes a fraction of a second when they are, which hundreds of tests need not spend
    /// each: `make test` builds them once and says so.
    pub fn get() -> Result<&'static Self> {
        static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
        let programs = PROGRAMS.get_or_init(|| Self::find().map_err(|error| format!("{error:#}")));
        programs.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn find() -> Result<Self> {
        let exe = env::current_exe()?;
        let directory = exe.parent().context("a program is in a directory")?;
        if !directory.ends_with("deps") {
            return Self::at(directory.to_owned());
        }
        let directory = directory.parent().context("`deps` is in a profile's directory")?;
        if env::var_os(BUILT).is_some() {
            return Self::at(directory.to_owned());
        }
        build(directory, &["--bins"]).context("could not build our programs")?;
        Self::at(directory.to_owned())
    }

    fn at(directory: PathBuf) -> Result<Self> {
        for name in ["pulld", "release", "push"] {
            if !directory.join(name).is_file() {
                bail!("`{name}` is not in `{}`: run `cargo build --workspace --bins`", directory.display());
            }
        }
        Ok(Self { directory })
    }

    /// The agent.
    pub fn pulld(&self) -> PathBuf {
        self.directory.join("pulld")
    }

    /// The agent with fail points, which stands still where a test says so; brought up to date like the others.
    pub fn pulld_with_fail_points(&self) -> Result<PathBuf> {
        let program = self.directory.join("pulld-fail-points");
        if env::var_os(BUILT).is_none() {
            let built = build(&self.directory, &["--bin", "pulld-fail-points", "--features", "pulld/fail-points"]);
            built.context("could not build `pulld-fail-points`")?;
        }
        if !program.is_file() {
            bail!("`{}` is missing: `make test` builds it", program.display());
        }
        Ok(program)
    }

    /// The developer's command.
    pub fn release(&self) -> PathBuf {
        self.directory.join("release")
    }

    /// The operator's command.
    pub fn push(&self) -> PathBuf {
        self.directory.join("push")
    }
}

/// Builds programs of the workspace into the directory where the others are.
fn build(directory: &Path, what: &[&str]) -> Result<()> {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    build.current_dir(workspace()).args(["build", "--quiet", "--profile", profile, "--target-dir"]);
    build.arg(directory.parent().context("a profile's directory is in the target directory")?);
    // All of the workspace, so that they share its artefacts: three members alone ask less of some dependencies.
    build.arg("--workspace").args(what);
    // Cargo tells a test's build apart by these, and would build everything anew.
    for (key, _) in env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("CARGO_PKG_")) {
        build.env_remove(key);
    }
    command::run(build, &format!("cargo build {}", what.join(" ")), b"", BUILD)?.ok().map(drop)
}
