//! Programs of a release of Debian, whichever this machine is: fetched by apt from its mirror, kept below `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{cache, command, image};

/// Longest time that fetching may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Who signs Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches the packages `$3`… of the release `$1` into the directory `$2`, with lists of its own, and unpacks them.
const FETCH: &str = r#"
    suite=$1 directory=$2 mirror=$3 keyring=$4
    shift 4
    mkdir -p "$directory/apt/state/lists/partial" "$directory/apt/cache/archives/partial" "$directory/debs" "$directory/root"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suite" "$keyring" >"$directory/apt/own.sources"
    apt() {
        apt-get --quiet -o Dir::Etc::sourcelist="$directory/apt/own.sources" -o Dir::Etc::sourceparts=/dev/null \
            -o Dir::State="$directory/apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$directory/apt/cache" \
            -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" "$@"
    }
    apt update
    cd "$directory/debs"
    apt download "$@"
    for deb in *.deb; do dpkg-deb --extract "$deb" "$directory/root"; done
    rm -rf "$directory/apt" "$directory/debs"
"#;

/// A release of Debian with a registry that differs from the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Debian {
    /// Bookworm: docker-registry 2.8.2.
    Twelve,
    /// Trixie: docker-registry 2.8.3.
    Thirteen,
}

impl Debian {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Twelve, Self::Thirteen];

    fn suite(self) -> &'static str {
        match self {
            Self::Twelve => "bookworm",
            Self::Thirteen => "trixie",
        }
    }

    /// The version of its registry.
    pub fn registry(self) -> &'static str {
        match self {
            Self::Twelve => "2.8.2",
            Self::Thirteen => "2.8.3",
        }
    }

    /// A directory with these packages of it unpacked, and nothing that they need besides.
    ///
    /// # Errors
    /// When this machine isn't a Debian, or its mirror doesn't have them.
    pub(super) fn unpacked(self, packages: &[&str]) -> Result<PathBuf> {
        let suite = self.suite();
        let path = cache::root()?.join(format!("debs-{suite}-{}", packages.join("-")));
        image::make_once(&path, |partial| fetch(suite, packages, partial))
            .with_context(|| format!("could not get `{}` of Debian's `{suite}`", packages.join(" ")))?;
        Ok(path.join("root"))
    }
}

fn fetch(suite: &str, packages: &[&str], into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("could not make `{}`", into.display()))?;
    let mut fetch = Command::new("sh");
    fetch.args(["-euc", FETCH, "fetch", suite]).arg(into).args([mirror()?.as_str(), KEYRING]).args(packages);
    fetch.env("LC_ALL", "C.UTF-8");
    command::run(fetch, &format!("apt-get download {}", packages.join(" ")), b"", PATIENCE)?.ok().map(drop)
}

/// Where this machine has its own packages from: all releases are there.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Component: main",
        "Label: Debian",
    ]);
    let targets = command::run(targets, "apt-get indextargets", b"", PATIENCE)?.ok()?;
    let mirror = targets.lines().next().unwrap_or_default().to_owned();
    ensure!(!mirror.is_empty(), "apt knows no mirror of Debian: it is needed for registries; run `apt-get update`");
    Ok(mirror)
}
