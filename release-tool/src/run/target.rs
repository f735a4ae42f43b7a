//! What holds for a run of a change that is not merged yet: what the branch says that it is to be merged into. What the change
//! itself says of that gives no right.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use bucket::{Bucket, ChangeId, Commit};
use console::warning;

use crate::{
    change::{
        line::{branch_of_origin, reference, target_branch},
        record::by,
    },
    git::{Git, text},
    manifest::{Candidates, FILE, Manifest},
    source::Source,
};

/// What may be in a run of a change: the rest is for what is merged.
pub(super) const ALLOWED: [&str; 5] = ["build", "run", "copy", "publish", "exports"];
/// What may be in one whose target branch says nothing that can be read: what needs no right.
const WITHOUT_RULES: [&str; 4] = ["build", "run", "copy", "exports"];

/// The change that a run is of.
#[derive(Debug)]
pub(crate) struct OfChange {
    /// The change.
    pub(super) id: ChangeId,
    /// The tree of what is built.
    pub(super) tree: Commit,
    /// Who runs it, as that is recorded.
    pub(super) by: String,
    /// Where candidates go, and the run is recorded; `None` if the target branch names no such bucket.
    pub(super) candidates: Option<Candidates>,
}

impl OfChange {
    /// Opens the candidate bucket.
    pub(super) async fn bucket(&self) -> Result<Bucket> {
        let none = "no candidate bucket: the branch that the change is to be merged into has no `[candidates] bucket` in release.toml";
        self.candidates.as_ref().context(none)?.open().await
    }
}

/// What a run of a change goes by.
#[derive(Debug)]
pub(super) struct Rules {
    /// The `release.toml` of the branch that it is to be merged into, if that can be read.
    pub(super) manifest: Option<Manifest>,
    /// What is allowed.
    pub(super) allowed: &'static [&'static str],
    /// The change.
    pub(super) of_change: OfChange,
}

/// Reads what the target branch says: the one that is named, or what `origin` has as its own.
pub(super) fn rules(source: &Source, directory: &Path, id: &ChangeId, branch: Option<String>) -> Result<Rules> {
    let git = Git::at(&source.top);
    let read = match named(&git, branch) {
        Ok(Some((reference, shown))) => manifest(&git, source, directory, (&reference, &shown)),
        Err(error) => Err(error),
        Ok(None) => Err(anyhow!(
            "`origin` has no branch of its own here: `git remote set-head origin --auto`, or --target BRANCH"
        )),
    };
    let manifest = match read {
        Ok(manifest) => Some(manifest),
        Err(error) => {
            warning(format_args!(
                "nothing is released, kept or recorded by this run, since what the target branch says could not be read: {error:#}"
            ));
            None
        }
    };
    let candidates = manifest.as_ref().and_then(|manifest| manifest.candidates.clone());
    let allowed: &[&str] = if manifest.is_some() { &ALLOWED } else { &WITHOUT_RULES };
    let of_change = OfChange { id: id.clone(), tree: source.tree()?, by: by()?, candidates };
    Ok(Rules { manifest, allowed, of_change })
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
    let arguments = ["cat-file", "blob", object.as_str()];
    let read = git.run(&arguments).and_then(|printed| text(&arguments, printed));
    let read = read.with_context(|| format!("could not read the `{FILE}` of `{shown}`"))?;
    Manifest::of_text(directory, &read).with_context(|| format!("invalid `{FILE}` of `{shown}`"))
}
