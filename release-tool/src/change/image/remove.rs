//! The tag of an image of a change, once nobody needs it: it goes, and what is recorded of it after it.

use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use bucket::{Bucket, Generation, ImageCandidate, ImagePlace};
use registry::{Client, Digest, Repository, Tag, Writable};

use super::record::understood;
use crate::manifest::{Candidates, Images};

/// Where images of changes are, as release.toml says.
#[derive(Debug)]
pub(crate) struct Registries {
    /// Which registry production has, and what may be written.
    images: Images,
    /// Which registry candidates have.
    candidates: Option<Candidates>,
    /// What speaks to them, once somebody needed it.
    client: OnceLock<Client>,
}

impl Registries {
    /// Those that release.toml names.
    pub(crate) fn new(images: Images, candidates: Option<Candidates>) -> Self {
        Self { images, candidates, client: OnceLock::new() }
    }

    /// What speaks to them.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = self.images.client()?;
        Ok(self.client.get_or_init(|| made))
    }

    /// The repository that an image has in production.
    pub(crate) fn production(&self, place: &ImagePlace) -> Result<Repository> {
        Ok(self.images.writable(place.app().as_str())?.repository().clone())
    }

    /// The repository of an image of a change: by where it is recorded and what release.toml says, whatever the record says.
    pub(crate) fn writable(&self, place: &ImagePlace) -> Result<Writable> {
        let name = place.app().as_str();
        match place {
            ImagePlace::Built { .. } => {
                let candidates = self.candidates.as_ref();
                self.images.candidate(candidates.and_then(|candidates| candidates.registry.as_deref()), name)
            }
            ImagePlace::Gated { .. } => self.images.writable(name),
        }
    }
}

/// Removes the tag that an image has as a candidate, and then what is recorded of it, in this order: whoever is killed in between
/// does it again. The tags in `kept` name what they named.
pub(crate) async fn remove(
    registries: &Registries,
    (bucket, place, seen): (&Bucket, &ImagePlace, Generation),
    kept: &[(Tag, Digest)],
) -> Result<()> {
    // If nobody knows what its tag should name, that stays.
    if let Some((generation, image)) = understood(bucket, place).await? {
        ensure!(
            generation == seen,
            "`{}` was recorded anew by somebody else at the same time: run the command again",
            place.path()
        );
        let to = registries.writable(place)?;
        ensure!(lies_in(&image, to.repository()), "{}", elsewhere(&image, to.repository()));
        let digest = Digest::from(image.digest);
        registries.client()?.writer(&to).remove_tag(&place.temporary()?, &digest, kept).await?;
    }
    let deleted = bucket.delete_image_candidate(place, seen).await;
    deleted.with_context(|| format!("could not delete `{}`", place.path()))
}

/// Whether an image of a change is in the repository that release.toml says, by its record.
pub(crate) fn lies_in(image: &ImageCandidate, repository: &Repository) -> bool {
    image.name == repository.to_string()
}

/// That it is not, as a sentence.
pub(crate) fn elsewhere(image: &ImageCandidate, repository: &Repository) -> String {
    format!(
        "the candidate `{}:{}` lies in `{}`, and not in `{repository}`, as release.toml says: nothing was done",
        image.app,
        image.tag,
        console::cut(&image.name, 200)
    )
}
