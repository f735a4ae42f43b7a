//! The tag of an image of a change, once nobody needs it: it goes, and what is recorded of it after it.

use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use bucket::{Bucket, Generation, ImagePlace};
use registry::{Client, Digest, Repository, Tag, Writable};

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
    let to = registries.writable(place)?;
    registries.client()?.writer(&to).remove_tag(&place.temporary()?, kept).await?;
    let deleted = bucket.delete_image_candidate(place, seen).await;
    deleted.with_context(|| format!("could not delete `{}`", place.path()))
}
