//! The releases of one app, newest first.

use bucket::{Release, ReleaseName};

/// The releases of one app, in order of their age.
#[derive(Debug, Clone, Default)]
pub struct AppReleases {
    releases: Vec<Release>,
}

/// One release, as lists show it.
#[derive(Debug, Clone)]
pub struct Listed<'a> {
    /// Its name.
    pub name: ReleaseName,
    /// Size of the object in bytes, by the bucket.
    pub size: u64,
    /// Whether it was built with uncommitted changes.
    pub dirty: bool,
    /// Why it was built.
    pub note: &'a str,
    /// URL of the repository's origin; empty when it has none.
    pub repo: &'a str,
    /// The branch it was built from; empty when none.
    pub branch: &'a str,
    /// Why nothing more is known of it, and it can't be deployed: its metadata is missing or unreadable.
    pub trouble: Option<&'a str>,
}

impl AppReleases {
    /// Of these releases, in any order.
    pub fn new(mut releases: Vec<Release>) -> Self {
        releases.sort_by(|a, b| b.name.cmp(&a.name));
        Self { releases }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.releases.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.releases.is_empty()
    }

    /// The releases, newest first.
    pub fn newest(&self) -> impl Iterator<Item = Listed<'_>> {
        self.releases.iter().map(listed)
    }

    /// The newest release that isn't dirty and can be deployed.
    pub fn latest(&self) -> Option<Listed<'_>> {
        self.newest().find(|release| !release.dirty && release.trouble.is_none())
    }

    /// One of them by name.
    pub fn get(&self, name: &ReleaseName) -> Option<Listed<'_>> {
        self.releases.iter().find(|release| release.name == *name).map(listed)
    }

    /// How many of them are newer than `name`, which need not be among them.
    pub fn newer_than(&self, name: &ReleaseName) -> usize {
        self.releases.partition_point(|release| release.name > *name)
    }
}

fn listed(release: &Release) -> Listed<'_> {
    let metadata = release.metadata.as_ref();
    let text = |get: fn(&bucket::ReleaseMetadata) -> &str| metadata.map(get).unwrap_or_default();
    Listed {
        name: release.name.clone(),
        size: release.size,
        dirty: metadata.is_ok_and(|metadata| metadata.dirty),
        note: text(|metadata| &metadata.note),
        repo: text(|metadata| &metadata.repo),
        branch: text(|metadata| &metadata.branch),
        trouble: metadata.err().map(String::as_str),
    }
}
