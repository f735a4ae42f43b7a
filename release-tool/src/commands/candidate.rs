//! `release candidate`: packages of a change that is not merged yet, built and uploaded outside of the releases, and images of it.

use anyhow::{Context as _, Result};
use bucket::{
    ArtifactType, Bucket, BuildId, CandidateMetadata, Change, ChangeId, Commit, ImagePlace, RecordedCandidate,
};
use clap::Args;
use console::{print_json, print_line};
use registry::image::{Built, Image};

use crate::{
    change::{
        candidates::ensure_last,
        image::{gate::Gate, name::Named, record::OfChange},
        line::{base, target_branch},
        record::{by, read_known, tell},
        target::TargetBranch,
        upload::Building,
    },
    checkout::{Checkout, Dirty},
    commands::build::BuildOptions,
    git::Git,
    manifest::{Candidates, Manifest},
    options::{Options, wait_for},
};

const EXAMPLES: &str = "\
Examples:
  release candidate -m \"try the new parser\" --change web/12          build all packages of the change and upload them
  release candidate -m \"try the new parser\" --change web/12 web      only the package web
  release candidate -m \"the new parser\" --change web/12 --gate       into the bucket of the releases, to be promoted after the merge
  release candidate --image web:1234 --change web/12                   an image that lies in `[candidates] registry` of release.toml
  release candidate --image web:1234 --from oci:out --change web/12    and one that has to be uploaded there first
  release candidate --image web:1234 --change web/12 --gate            into production's registry, too, as web:change_12_1234

The commit that is checked out must be the last patchset of the change, with nothing changed or added.
The same command again builds nothing and prints the same names.";

/// Build packages of a change that is not merged yet, and upload them as candidates, or make an image of it one
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
    /// Upload to the bucket of the releases, or production's registry, to be promoted once the change is merged
    #[arg(long)]
    gate: bool,
    /// Image that was built of the change, and the tag that it is to have, as in web:1234; with @sha256:… what it has to be
    #[arg(long, value_name = "IMAGE:TAG", conflicts_with_all = ["packages", "note"])]
    image: Option<String>,
    /// Where the image is, if not in the registry of candidates: docker-archive:FILE or oci:DIRECTORY
    #[arg(long, value_name = "PLACE", requires = "image")]
    from: Option<Built>,
}

impl Candidate {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        if let Some(image) = &self.image {
            return self.image(options, image);
        }
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
        let base = self.base(&manifest, &candidates)?;
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
            tell(&record, id, &uploaded, (commit, &by)).await?;
            Ok(uploaded)
        })?;
        if options.json {
            return print_json(&uploaded);
        }
        uploaded.iter().try_for_each(|candidate| print_line(&candidate.release))
    }

    /// Makes an image a candidate.
    fn image(&self, options: &Options, image: &str) -> Result<()> {
        let (id, by) = (&self.change, by()?);
        let directory = options.directory()?;
        let manifest = Manifest::read(&directory)?;
        let rules = self.target.manifest(&directory)?;
        let candidates = options.candidates_of(Some(&rules))?;
        let named = Named::read(image, candidates.registry.as_deref().unwrap_or_default())?;
        let built_in = rules.images.candidate(candidates.registry.as_deref(), named.app.as_str())?;
        let gated_in = self.gate.then(|| rules.images.writable(named.app.as_str())).transpose()?;
        let checkout = Checkout::of(options, &manifest, &[])?;
        checkout.ensure_clean()?;
        let (commit, tree) = (&checkout.source.commit, checkout.source.tree()?);
        let base = self.base(&manifest, &candidates)?;
        let built = self.from.as_ref().map(|from| Image::read(&from.at(options.directory.join(from.path()))));
        let built = built.transpose()?;
        let client = rules.images.client()?;
        let made = wait_for(async {
            let record = candidates.open().await?;
            let change = &read_known(&record, id).await?;
            let of_change =
                OfChange { id, change, commit, tree: &tree, named: &named, by: &by, record: &record, client: &client };
            if self.gate {
                // Too long a tag is found out before anything is asked of a registry.
                ImagePlace::gated_tag(id, &named.tag)?;
            }
            let candidate = of_change.candidate(&built_in, built.as_ref(), None).await?;
            let Some((to, base)) = gated_in.as_ref().zip(base) else { return Ok(candidate.recorded) };
            let production = options.production_of(Some(&rules)).await?;
            let gate = Gate { production: &production, to, base };
            of_change.gate(built_in.repository(), &candidate, &gate).await
        })?;
        if options.json {
            return print_json(&[made]);
        }
        print_line(made.image.unwrap_or_default())
    }

    /// The newest commit of the target branch that is in what is built, which only what is gated has to have.
    fn base(&self, manifest: &Manifest, candidates: &Candidates) -> Result<Option<Commit>> {
        if !self.gate {
            return Ok(None);
        }
        let git = Git::at(&manifest.directory);
        let branch = self.target.named().or_else(|| candidates.branch.clone());
        let base = base(&git, &target_branch(&git, branch)?);
        base.map(Some).with_context(|| format!("could not find out what `{}` is built on", self.change))
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
                known.artifact == ArtifactType::Deb
                    && (&known.app, known.gate, known.patchset) == (&package.app, self.gate, change.patchset)
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
