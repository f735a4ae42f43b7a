//! What holds for a run of a change that is not merged yet: what the branch says that it is to be merged into. What the change
//! itself says of that gives no right.

use std::path::Path;

use anyhow::{Context as _, Result};
use bucket::{Bucket, ChangeId, Commit};
use console::warning;
use fleet::policy::Pattern;
use registry::Writable;

use crate::{
    change::{record::by, target::said},
    manifest::{Candidates, Images, Manifest},
    run::{ATTEMPTS, overlay::Trials, running::blocking},
    source::Source,
};

/// What may be in a run of a change: the rest is for what is merged.
const ALLOWED: [&str; 6] = ["build", "run", "copy", "publish", "deploy", "exports"];
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
    /// Where images go, and which may be written.
    pub(super) images: Images,
    /// Where it may be tried.
    pub(super) trials: Trials,
}

impl OfChange {
    /// Opens the candidate bucket.
    pub(super) async fn bucket(&self) -> Result<Bucket> {
        let none = "no candidate bucket: the branch that the change is to be merged into has no `[candidates] bucket` in release.toml";
        self.candidates.as_ref().context(none)?.open_within(Some(ATTEMPTS)).await
    }

    /// Where the image of this name goes, if it may be written there.
    pub(super) fn writable(&self, name: &str) -> Result<Writable> {
        let candidates = self.candidates.as_ref();
        self.images.candidate(candidates.and_then(|candidates| candidates.registry.as_deref()), name)
    }
}

/// What a run of a change goes by.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The `release.toml` of the branch that it is to be merged into, if that can be read.
    pub(super) manifest: Option<Manifest>,
    /// What is allowed.
    pub(super) allowed: &'static [&'static str],
    /// The change.
    pub(super) of_change: OfChange,
}

/// Reads what the target branch says, in a run of a change: the branch that is named, or what `origin` has as its own. Looks also
/// for the buildset that this runs in.
pub(crate) async fn rules(
    (source, directory): (&Source, &Path),
    change: Option<ChangeId>,
    target: Option<String>,
) -> Result<Option<Rules>> {
    let Some(id) = change else { return Ok(None) };
    let (said, tree) = {
        let (source, directory, branch) = (source.clone(), directory.to_owned(), target);
        blocking(move || Ok((said(&source, &directory, branch), source.tree()?))).await?
    };
    let (manifest, branch) = match said {
        Ok((manifest, branch)) => (Some(manifest), branch),
        Err(error) => {
            warning(format_args!(
                "nothing is released, kept or recorded by this run, since what the target branch says could not be read: {error:#}"
            ));
            (None, String::new())
        }
    };
    let candidates = manifest.as_ref().and_then(|manifest| manifest.candidates.clone());
    let images = manifest.as_ref().map(|manifest| manifest.images.clone()).unwrap_or_default();
    let servers: Vec<Pattern> = manifest.as_ref().map(|manifest| manifest.pipeline.servers.clone()).unwrap_or_default();
    let allowed: &[&str] = if manifest.is_some() { &ALLOWED } else { &WITHOUT_RULES };
    let trials = Trials::find(&id, candidates.as_ref(), (servers, branch)).await;
    Ok(Some(Rules { manifest, allowed, of_change: OfChange { id, tree, by: by()?, candidates, images, trials } }))
}
