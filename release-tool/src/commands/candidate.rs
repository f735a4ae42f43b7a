//! `release candidate`: packages of a change that is not merged yet, built and uploaded outside of the releases.

use anyhow::{Context as _, Result};
use bucket::{Bucket, BuildId, CandidateMetadata, Change, ChangeId, Commit, RecordedCandidate};
use clap::Args;
use console::{print_json, print_line};

use crate::{
    change::{
        candidates::{ensure_last, recorded},
        line::{base, target_branch},
        record::{by, read_known, update_at_once},
        target::TargetBranch,
        upload::Building,
    },
    checkout::{Checkout, Dirty},
    commands::build::BuildOptions,
    git::Git,
    manifest::Manifest,
    options::{Options, wait_for},
};

const EXAMPLES: &str = "\
Examples:
  release candidate -m \"try the new parser\" --change web/12          build all packages of the change and upload them
  release candidate -m \"try the new parser\" --change web/12 web      only the package web
  release candidate -m \"the new parser\" --change web/12 --gate       into the bucket of the releases, to be promoted after the merge

The commit that is checked out must be the last patchset of the change, with nothing changed or added.
The same command again builds nothing and prints the same names.";

/// Build packages of a change that is not merged yet, and upload them as candidates
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Candidate {
    #[command(flatten)]
    build: BuildOptions,
    /// Change, as in web/12
    #[arg(long, value_name = "PROJECT/ID")]
    change: ChangeId,
    #[command(flatten)]
    target: TargetBranch,
    /// Upload to the bucket of the releases, to be promoted once the change is merged
    #[arg(long)]
    gate: bool,
}

impl Candidate {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let (id, by) = (&self.change, by()?);
        let note = self.build.note()?;
        let directory = options.directory()?;
        let manifest = Manifest::read(&directory)?;
        // What is built is what the change says, and where it goes what its target branch says.
        let rules = self.target.manifest(&directory)?;
        let candidates = options.candidates_of(Some(&rules))?;
        let checkout = Checkout::of(options, &manifest, &self.build.packages)?;
        checkout.ensure_clean()?;
        let (commit, tree) = (&checkout.source.commit, checkout.source.tree()?);
        // Only what is promoted has to land.
        let base = self
            .gate
            .then(|| self.base(&manifest, self.target.named().or_else(|| candidates.branch.clone())))
            .transpose()?;
        let uploaded = wait_for(async {
            let record = candidates.open().await?;
            let target = if self.gate { options.production_of(Some(&rules)).await? } else { record.clone() };
            let change = read_known(&record, id).await?;
            if let Some(there) = self.there(&target, &change, &checkout, (&tree, &note.clone().into())).await? {
                return Ok(there);
            }
            ensure_last(id, &change, commit)?;
            let packages = self.build.build_in(&checkout, &manifest, Dirty::Refused)?;
            let build = Building {
                change: id,
                patchset: change.patchset,
                tree: tree.clone(),
                base: base.clone(),
                id: BuildId::random(),
                gate: self.gate,
                made_by: None,
            };
            let mut uploaded = Vec::new();
            for package in &packages {
                uploaded.push(build.upload(&target, &package.path, record.now()).await?);
            }
            update_at_once(&record, id, |before| {
                let before = before.with_context(|| format!("the record of `{id}` is gone"))?.clone();
                uploaded.iter().try_fold(before, |change, candidate| recorded(id, &change, candidate, commit, &by))
            })
            .await?;
            Ok(uploaded)
        })?;
        if options.json {
            return print_json(&uploaded);
        }
        uploaded.iter().try_for_each(|candidate| print_line(&candidate.release))
    }

    /// The newest commit of the target branch that is in what is built.
    fn base(&self, manifest: &Manifest, branch: Option<String>) -> Result<Commit> {
        let git = Git::at(&manifest.directory);
        let base = base(&git, &target_branch(&git, branch)?);
        base.with_context(|| format!("could not find out what `{}` is built on", self.change))
    }

    /// The candidates that the same command has made before, if all of them are there.
    async fn there(
        &self,
        target: &Bucket,
        change: &Change,
        checkout: &Checkout<'_>,
        (tree, note): (&Commit, &String),
    ) -> Result<Option<Vec<RecordedCandidate>>> {
        let mut found = Vec::new();
        for package in &checkout.packages {
            let is_same = |known: &&RecordedCandidate| {
                (&known.app, known.gate, known.patchset) == (&package.app, self.gate, change.patchset)
                    && known.release.commit() == &checkout.source.commit
                    && self.build.time.is_none_or(|time| known.release.time() == time)
            };
            let Some(known) = change.candidates.iter().rfind(is_same) else { return Ok(None) };
            let place = known.place(&self.change).map_err(anyhow::Error::msg)?;
            let unread = || format!("could not read the candidate `{}`", known.release.stem());
            let candidate = target.candidate(&place).await.with_context(unread)?;
            let facts = candidate.and_then(|candidate| candidate.metadata.ok());
            let is_it = |facts: &CandidateMetadata| {
                (&facts.release.sha256, &facts.release.note, &facts.tree) == (&known.sha256, note, tree)
                    && facts.patchset == change.patchset
            };
            if !facts.is_some_and(|facts| is_it(&facts)) {
                return Ok(None);
            }
            found.push(known.clone());
        }
        Ok(Some(found))
    }
}
