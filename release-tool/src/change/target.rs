//! What the branch says that a change is to be merged into: its `release.toml` decides where candidates go, what production is and
//! what is required. What the change itself says of that gives no right.

use std::{env::var, path::Path};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use console::UsageError;

use crate::{
    change::line::{branch_of_origin, reference, target_branch},
    git::{Git, text},
    manifest::{FILE, Manifest},
    source::Source,
};

/// The variable that names the branch for all commands of a job.
pub(crate) const TARGET: &str = "PUSH_TARGET";

/// The option that names the branch.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetBranch {
    /// Branch that the change is to be merged into, whose release.toml counts [default: `PUSH_TARGET`, else that of `origin`]
    #[arg(long, value_name = "BRANCH")]
    target: Option<String>,
}

impl TargetBranch {
    /// Whether it is there.
    pub(crate) fn is_said(&self) -> bool {
        self.target.is_some()
    }

    /// The branch, if one is named.
    pub(crate) fn named(&self) -> Option<String> {
        self.target.clone().or_else(|| var(TARGET).ok().filter(|branch| !branch.is_empty()))
    }

    /// What it says of a project in a directory.
    ///
    /// # Errors
    /// Also that it is not known: then nothing is done for a change.
    pub(crate) fn manifest(&self, directory: &Path) -> Result<Manifest> {
        let said = Source::of(directory).and_then(|source| said(&source, directory, self.named()));
        said.map(|(manifest, _)| manifest).map_err(|error| {
            let text = format!(
                "what the branch says is not known that the change is to be merged into, and what the change says of itself does not \
                 count: {error:#}"
            );
            UsageError::new(text).into()
        })
    }
}

/// The `release.toml` of the target branch, the named one or what `origin` has as its own, and what people call that.
pub(crate) fn said(source: &Source, directory: &Path, branch: Option<String>) -> Result<(Manifest, String)> {
    let git = Git::at(&source.top);
    let (reference, shown) = named(&git, branch)?.ok_or_else(|| {
        anyhow!("`origin` has no branch of its own here: `git remote set-head origin --auto`, or --target BRANCH")
    })?;
    Ok((manifest(&git, source, directory, (&reference, &shown))?, shown))
}

/// Where the target branch is, and what people call it. Only one that is named may be a branch of this repository's own: what is
/// checked out may be called like any other.
fn named(git: &Git, branch: Option<String>) -> Result<Option<(String, String)>> {
    match branch {
        Some(branch) => reference(git, &target_branch(git, Some(branch))?).map(Some),
        None => {
            Ok(branch_of_origin(git)?
                .map(|branch| (format!("refs/remotes/origin/{branch}"), format!("origin/{branch}"))))
        }
    }
}

fn manifest(git: &Git, source: &Source, directory: &Path, (reference, shown): (&str, &str)) -> Result<Manifest> {
    let below = directory.strip_prefix(&source.top).unwrap_or(Path::new("")).join(FILE);
    let object = format!("{reference}:{}", below.display());
    // What somebody has put in the place of an object of the branch is not what the branch says.
    let arguments = ["--no-replace-objects", "cat-file", "blob", object.as_str()];
    let read = git.run(&arguments).and_then(|printed| text(&arguments, printed));
    let read = read.with_context(|| format!("could not read the `{FILE}` of `{shown}`"))?;
    Manifest::of_text(directory, &read).with_context(|| format!("invalid `{FILE}` of `{shown}`"))
}
