//! Releases of the original system, from which ours took the names, the places and the first keys of the metadata.
//!
//! They have no SHA-256, neither beside them nor inside, so no agent of ours installs them. Each can be adopted: a release
//! of ours with the same files, under a name of its own, whose metadata names the original.

use futures_util::TryStreamExt as _;

use crate::{
    AppName, Bucket, Download, Error, Generation, Metadata, ObjectInfo, PageToken, ReleaseMetadata, ReleaseName,
    SourceFile, items, layout, release::ADOPTED,
};

/// A release of the original system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRelease {
    /// Its name, which has the form of ours.
    pub name: ReleaseName,
    /// The generation of the object.
    pub generation: Generation,
    /// Size of the object in bytes, by the bucket.
    pub size: u64,
    /// `dirty`: built with uncommitted changes, as it says of itself.
    pub dirty: bool,
    /// `note`: why it was built; empty when it doesn't say.
    pub note: String,
    /// `services`: the names of its systemd units, as they were written.
    pub services: Vec<String>,
    /// The release of ours that it was adopted as.
    pub adopted: Option<ReleaseName>,
}

impl OriginalRelease {
    /// An object of that place; `None` if it is one of ours, or isn't a release.
    fn at(info: &ObjectInfo) -> Option<Self> {
        let name = layout::release_at(&info.path)?;
        let text = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
        if info.metadata.contains_key("sha256") {
            return None;
        }
        Some(Self {
            name,
            generation: info.generation,
            size: info.size,
            dirty: text("dirty") == "true",
            note: text("note"),
            services: text("services").split_whitespace().map(str::to_owned).collect(),
            adopted: None,
        })
    }
}

impl Bucket {
    /// The releases of an app that the original system made, oldest first.
    pub async fn original_releases(&self, app: &AppName) -> Result<Vec<OriginalRelease>, Error> {
        let prefix = layout::releases_of(app);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        let (mut originals, mut adopted) = (Vec::new(), Vec::new());
        let mut objects = std::pin::pin!(items(page));
        while let Some(info) = objects.try_next().await? {
            originals.extend(OriginalRelease::at(&info));
            let original = info.metadata.get(ADOPTED).and_then(|name| name.parse::<ReleaseName>().ok());
            adopted.extend(original.zip(layout::release_at(&info.path)));
        }
        for original in &mut originals {
            let ours = adopted.iter().find(|(name, _)| *name == original.name);
            original.adopted = ours.map(|(_, ours)| ours.clone());
        }
        originals.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(originals)
    }

    /// Starts streaming a release of the original system.
    pub async fn download_original(&self, original: &OriginalRelease) -> Result<Option<Download>, Error> {
        self.download(&layout::release(&original.name), Some(original.generation), 0).await
    }

    /// Like [`Bucket::upload_release`], for a release that was made from an original one.
    pub async fn upload_adopted(
        &self,
        name: &ReleaseName,
        original: &ReleaseName,
        deb: &SourceFile,
        metadata: &ReleaseMetadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        let mut metadata: Metadata = metadata.to_metadata(name);
        metadata.insert(ADOPTED.to_owned(), original.to_string());
        self.create_from_file(&layout::release(name), deb, &metadata, progress).await
    }
}
