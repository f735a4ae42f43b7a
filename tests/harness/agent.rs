//! pulld as a package: for base images, and to be released like everything else.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bucket::ReleaseName;

use crate::{Image, Programs, Repo, Target, TempDir, programs::workspace};

/// What the package is made of, besides the program: its `release.toml` and what that names.
const SOURCES: [&str; 5] = ["packaging/pulld", "packaging/changelog", "packaging/copyright", "CHANGELOG.md", "systemd"];

/// Where the package's `release.toml` finds the program.
const PROGRAM: &str = "target/release/pulld";

/// When the agent of base images was built, by its name: before any that is released in a test.
const BAKED: &str = "2026-01-01T00:00:00Z";

/// A git repository from which pulld is released.
#[derive(Debug)]
pub struct AgentRepo {
    repo: Repo,
    /// `release.toml` reaches above its directory, so the repository isn't at the top.
    program: PathBuf,
}

impl AgentRepo {
    /// A copy of this workspace's packaging of pulld, with the program as the sources are now.
    pub fn new(directory: &Path) -> Result<Self> {
        Self::of(directory, &Programs::get()?.pulld())
    }

    /// The same with another build of the program.
    pub fn of(directory: &Path, built: &Path) -> Result<Self> {
        for source in SOURCES {
            copy_tree(&workspace().join(source), &directory.join(source))?;
        }
        let program = directory.join(PROGRAM);
        fs::create_dir_all(program.parent().context("the program is in a directory")?)?;
        // As a release build is: a third of the size, which is packed, uploaded, downloaded and installed in every test.
        let stripped = Command::new("strip").arg("-o").arg(&program).arg(built).output()?;
        ensure!(stripped.status.success(), "could not strip `pulld`: {stripped:?}");
        let repo = Repo::new(directory)?;
        repo.write(".gitignore", "/target/\ndist/\n")?;
        repo.commit("pulld as it is")?;
        Ok(Self { repo, program })
    }

    /// Releases pulld, as the program in the repository is.
    pub fn release(&self, bucket: &Target, note: &str) -> Result<ReleaseName> {
        self.repo.commit(note)?;
        self.packaging().release(bucket, note)
    }

    /// The program as it is released now.
    pub fn program(&self) -> Result<Vec<u8>> {
        Ok(fs::read(&self.program)?)
    }

    /// Puts a script, or any other file, in the place of the program.
    pub fn replace_program(&self, program: impl AsRef<[u8]>) -> Result<()> {
        fs::write(&self.program, program)?;
        Ok(fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755))?)
    }

    /// Writes a file beside `release.toml`, or another `release.toml`.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.packaging().directory().join(path), content)?)
    }

    /// Puts another file into the package.
    pub fn add(&self, name: &str, content: impl AsRef<[u8]>, installed: &str) -> Result<()> {
        self.write(name, content)?;
        let manifest = fs::read_to_string(self.packaging().directory().join("release.toml"))?;
        let entry = format!("contents = [\n  {{ src = \"{name}\", dst = \"{installed}\", mode = \"0755\" }},");
        self.write("release.toml", manifest.replacen("contents = [", &entry, 1))
    }

    /// Has dpkg remove another package in favour of this one.
    pub fn replaces(&self, package: &str) -> Result<()> {
        let manifest = fs::read_to_string(self.packaging().directory().join("release.toml"))?;
        let fields = format!("conflicts = [\"{package}\"]\nreplaces = [\"{package}\"]\nsection = ");
        self.write("release.toml", manifest.replacen("section = ", &fields, 1))
    }

    fn packaging(&self) -> Repo {
        self.repo.below(SOURCES[0])
    }
}

impl Image {
    /// A Debian with pulld installed and enabled, not configured yet.
    pub fn with_pulld() -> Result<Self> {
        let mut ingredients = DefaultHasher::new();
        hash_tree(&Programs::get()?.pulld(), &mut ingredients)?;
        for source in SOURCES {
            hash_tree(&workspace().join(source), &mut ingredients)?;
        }
        let directory = TempDir::new()?;
        Self::debian()?.with_package(&ingredients.finish(), || {
            let agent = AgentRepo::new(&directory.path().join("pulld"))?;
            agent.packaging().build("base image", BAKED, &directory.path().join("out"))
        })
    }
}

/// Puts everything below a path into a hash: names and contents, in order.
fn hash_tree(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.hash(hasher);
    if !path.is_dir() {
        fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?.hash(hasher);
        return Ok(());
    }
    for entry in sorted(path)? {
        hash_tree(&entry, hasher)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).with_context(|| format!("could not copy `{}`", from.display()));
    }
    fs::create_dir_all(to)?;
    for entry in sorted(from)? {
        let name = entry.file_name().context("an entry has a name")?;
        copy_tree(&entry, &to.join(name))?;
    }
    Ok(())
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("could not read `{}`", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
