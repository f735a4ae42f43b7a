//! Releases: immutable `.deb`s with the facts about them.

use std::{fmt, pin::pin};

use futures_util::{Stream, TryStreamExt, future::join, stream::TryChunksError};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    AppName, Architecture, Bucket, Commit, Download, Error, Generation, MadeBy, Metadata, ObjectInfo, PackageName,
    Page, PageToken, Promoted, ReleaseName, Sha256, SourceFile, items, layout,
    object::{fact, named_fact},
};

/// The metadata key of an adopted release that names its original.
pub(crate) const ADOPTED: &str = "adopted";

/// The facts about a release that lie beside it in the bucket, so that lists are drawn without downloading anything.
///
/// For people and for choosing only. A machine trusts what is inside the package and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseMetadata {
    /// `dirty`: built with uncommitted changes.
    pub dirty: bool,
    /// `note`: why it was built, in the words of who built it.
    pub note: String,
    /// `services`: the systemd units that it owns.
    pub services: Vec<String>,
    /// `sha256`: of the `.deb`.
    pub sha256: Sha256,
    /// `size`: of the `.deb`, in bytes.
    pub size: u64,
    /// `package`: the Debian package name inside.
    pub package: PackageName,
    /// `version`: the Debian version inside.
    pub version: String,
    /// `architecture`: the Debian architecture inside.
    pub architecture: Architecture,
    /// `repo`: URL of the repository's origin, without credentials; empty when it has none.
    pub repo: String,
    /// `branch`: the branch checked out; empty when none was.
    pub branch: String,
    /// `pipeline`, `stage`, `run`: which run made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
}

/// A release in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: ReleaseName,
    /// The generation of the object: there is only ever one.
    pub generation: Generation,
    /// Size of the object in bytes, by the bucket.
    pub size: u64,
    /// When it was uploaded, by the bucket's clock.
    pub uploaded: Timestamp,
    /// The release of the original system that it was made from, if it was ([`crate::OriginalRelease`]).
    pub adopted: Option<ReleaseName>,
    /// That it was a candidate, if it was.
    pub promoted: Option<Promoted>,
    /// What was said of it at the upload; `Err` with the reason when metadata is missing or unreadable.
    pub metadata: Result<ReleaseMetadata, String>,
}

impl ReleaseMetadata {
    /// Most bytes that the keys and values beside an object may have together (Cloud Storage, quotas and limits).
    pub const MAX: usize = 8 << 10;

    /// Whether it has room beside its object, so that an upload isn't the first to find out.
    ///
    /// # Errors
    /// Which of the facts are too long, the longest first, as a sentence for people.
    pub fn check_size(&self, name: &ReleaseName) -> Result<(), String> {
        Self::check_facts(&self.to_metadata(name))
    }

    /// The same of all that lies beside a release.
    pub(crate) fn check_facts(facts: &Metadata) -> Result<(), String> {
        let bytes: usize = facts.iter().map(|(key, value)| key.len() + value.len()).sum();
        let Some(too_many) = bytes.checked_sub(Self::MAX).filter(|too_many| *too_many > 0) else { return Ok(()) };
        let mut longest: Vec<_> = facts.iter().map(|(key, value)| (value.len(), key.as_str())).collect();
        longest.sort_unstable_by(|a, b| b.cmp(a));
        // As many as could be shortened by that much.
        let mut missing = too_many;
        let mut shown = Vec::new();
        for (length, key) in longest {
            let what = match key {
                "services" => "the names of the units",
                "note" => "the release note",
                "repo" => "the URL of `origin`",
                "branch" => "the name of the branch",
                other => other,
            };
            shown.push(format!("{what} ({length} bytes)"));
            missing = missing.saturating_sub(length);
            if missing == 0 {
                break;
            }
        }
        let max = Self::MAX;
        Err(format!(
            "a bucket keeps at most {max} bytes of facts beside a release, and these are {bytes}: shorten {}",
            shown.join(" and ")
        ))
    }

    /// As an object's metadata: the keys of the original system (`appname userid hash datetime dirty note services`)
    /// and `sha256 size package version architecture repo branch`, and those of [`MadeBy`].
    pub fn to_metadata(&self, name: &ReleaseName) -> Metadata {
        let text = [
            ("appname", name.app().to_string()),
            ("userid", format!("{}@{}", name.user(), name.host())),
            ("hash", name.commit().to_string()),
            ("datetime", name.time().to_string()),
            ("dirty", self.dirty.to_string()),
            ("note", self.note.clone()),
            ("services", self.services.join(" ")),
            ("sha256", self.sha256.to_string()),
            ("size", self.size.to_string()),
            ("package", self.package.to_string()),
            ("version", self.version.clone()),
            ("architecture", self.architecture.to_string()),
            ("repo", self.repo.clone()),
            ("branch", self.branch.clone()),
        ];
        let made_by = self.made_by.iter().flat_map(MadeBy::to_metadata);
        text.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(made_by).collect()
    }

    /// From an object's metadata.
    ///
    /// # Errors
    /// Which key is missing or wrong, or contradicts the release's name, as a sentence for people.
    pub fn from_metadata(name: &ReleaseName, metadata: &Metadata) -> Result<Self, String> {
        let get = |key| fact(metadata, key);
        let text = |key: &str| metadata.get(key).cloned().unwrap_or_default();
        if get("appname")? != name.app().as_str() {
            return Err("metadata `appname` is not the app of the release name".to_owned());
        }
        if get("hash")?.parse::<Commit>().ok().as_ref() != Some(name.commit()) {
            return Err("metadata `hash` is not the commit of the release name".to_owned());
        }
        Ok(Self {
            dirty: get("dirty")?.parse().map_err(|_| "metadata `dirty` is neither true nor false".to_owned())?,
            note: text("note"),
            services: text("services").split_whitespace().map(str::to_owned).collect(),
            sha256: named_fact(metadata, "sha256")?,
            size: get("size")?.parse().map_err(|_| "metadata `size` is not a number".to_owned())?,
            package: named_fact(metadata, "package")?,
            version: get("version")?.to_owned(),
            architecture: named_fact(metadata, "architecture")?,
            repo: text("repo"),
            branch: text("branch"),
            made_by: MadeBy::from_metadata(metadata),
        })
    }
}

impl Release {
    /// How much later than its upload a release may say that it was built: clocks differ a little.
    const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(10);

    /// Whether its name has a time long after its upload. The builder wrote that, and its clock, or whoever set it, is wrong.
    pub fn is_from_the_future(&self) -> bool {
        self.name.time().duration_since(self.uploaded) > Self::MAX_AHEAD
    }

    /// Why it is only ever chosen by name, although it is the newest; `None` when it may be chosen for being that.
    pub fn passed_over(&self) -> Option<PassedOver> {
        let metadata = self.metadata.as_ref();
        match metadata {
            Err(reason) => Some(PassedOver::Unusable(reason.clone())),
            Ok(metadata) if metadata.dirty => Some(PassedOver::Dirty),
            Ok(_) if self.is_from_the_future() => Some(PassedOver::FromTheFuture),
            Ok(_) if self.adopted.is_some() => Some(PassedOver::Adopted),
            Ok(_) => None,
        }
    }

    /// The commit that it counts as: the one as which its change landed, else the one that it was built from.
    pub fn commit(&self) -> &Commit {
        self.promoted.as_ref().map_or_else(|| self.name.commit(), |promoted| &promoted.landed)
    }

    /// A release that is no longer in the bucket, of which only the name is known.
    pub fn gone(name: ReleaseName) -> Self {
        let metadata = Err("it is no longer in the bucket".to_owned());
        let uploaded = Timestamp::UNIX_EPOCH;
        Self { name, generation: Generation(0), size: 0, uploaded, adopted: None, promoted: None, metadata }
    }

    /// Whether it is no longer in the bucket.
    pub fn is_gone(&self) -> bool {
        self.generation == Generation(0)
    }

    fn at(info: &ObjectInfo) -> Option<Self> {
        let name = layout::release_at(&info.path)?;
        let metadata = ReleaseMetadata::from_metadata(&name, &info.metadata);
        let adopted = info.metadata.get(ADOPTED).and_then(|original| original.parse().ok());
        let promoted = Promoted::from_metadata(&info.metadata);
        let ObjectInfo { generation, size, updated, .. } = *info;
        Some(Self { name, generation, size, uploaded: updated, adopted, promoted, metadata })
    }
}

/// Why a release is not chosen for being the newest of its app: a person has to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassedOver {
    /// Its metadata is missing or unreadable, and why.
    Unusable(String),
    /// It was built with uncommitted changes.
    Dirty,
    /// It says that it was built long after it was uploaded.
    FromTheFuture,
    /// It was made from a release of the original system, at another time than it was built.
    Adopted,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(reason) => write!(f, "cannot be deployed: {reason}"),
            Self::Dirty => f.write_str("dirty: built with uncommitted changes"),
            Self::FromTheFuture => {
                f.write_str("its name has a time after its upload: the clock of the machine that built it is wrong")
            }
            Self::Adopted => f.write_str("adopted from the original system"),
        }
    }
}

impl Bucket {
    /// A release and the facts about it, if it exists.
    pub async fn release(&self, name: &ReleaseName) -> Result<Option<Release>, Error> {
        Ok(self.head(&layout::release(name)).await?.as_ref().and_then(Release::at))
    }

    /// Uploads a release. Never overwrites one: [`Error::AlreadyExists`]. Nor does it publish other bytes than those that
    /// `deb` was read with: [`Error::Unavailable`].
    ///
    /// `progress` receives the bytes sent so far.
    pub async fn upload_release(
        &self,
        name: &ReleaseName,
        deb: &SourceFile,
        metadata: &ReleaseMetadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        self.create_from_file(&layout::release(name), deb, &metadata.to_metadata(name), progress).await
    }

    /// A release, the facts about it, and its content from the beginning: asked for side by side, which takes one round trip
    /// where [`Bucket::release`] and [`Bucket::download_release`] take two.
    pub async fn open_release(&self, name: &ReleaseName) -> Result<Option<(Release, Download)>, Error> {
        let path = layout::release(name);
        let (info, content) = join(Box::pin(self.head(&path)), Box::pin(self.download(&path, None, 0))).await;
        let Some(release) = info?.as_ref().and_then(Release::at) else { return Ok(None) };
        let content = match content? {
            Some(content) if content.generation == release.generation => Some(content),
            // It was deleted, or made, in between.
            _ => self.download_release(&release, 0).await?,
        };
        Ok(content.map(|content| (release, content)))
    }

    /// Starts streaming a release from byte `offset`; `None` if there is no such release.
    pub async fn download_release(&self, release: &Release, offset: u64) -> Result<Option<Download>, Error> {
        self.download(&layout::release(&release.name), Some(release.generation), offset).await
    }

    /// The releases of an app, in the byte order of their names (not of their times).
    /// Objects among them that aren't releases are passed over.
    pub fn releases(&self, app: &AppName) -> impl Stream<Item = Result<Release, Error>> {
        let prefix = layout::releases_of(app);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).try_filter_map(|info| async move { Ok(Release::at(&info)) })
    }

    /// The newest releases of an app, newest first, at most `limit`; the whole listing is read, page by page. What was
    /// uploaded last is the newest, by the bucket's clock: the time in a name is the builder's word.
    pub async fn newest_releases(&self, app: &AppName, limit: usize) -> Result<Vec<Release>, Error> {
        let mut newest: Vec<Release> = Vec::new();
        let mut releases = pin!(self.releases(app).try_chunks(1000));
        while let Some(some) = releases.try_next().await.map_err(|TryChunksError(_, error)| error)? {
            newest.extend(some);
            newest.sort_by(|a, b| (b.uploaded, &b.name).cmp(&(a.uploaded, &a.name)));
            newest.truncate(limit);
        }
        Ok(newest)
    }

    /// One page of the releases of all apps, app after app, in the byte order of their paths.
    pub async fn all_releases(&self, after: Option<&PageToken>) -> Result<Page<Release>, Error> {
        let page = self.list(layout::DEBS, after, 1000).await?;
        Ok(Page { items: page.items.iter().filter_map(Release::at).collect(), next: page.next })
    }

    /// At most `limit` of the releases of an app that sort after `name` by the bytes of their names: first the newer ones
    /// of the same builder. This finds what a builder has added for the price of one small page.
    pub async fn releases_after(&self, name: &ReleaseName, limit: u32) -> Result<Page<Release>, Error> {
        let after = PageToken::after(layout::release(name).as_str());
        let page = self.list(&layout::releases_of(name.app()), Some(&after), limit).await?;
        Ok(Page { items: page.items.iter().filter_map(Release::at).collect(), next: page.next })
    }

    /// The apps that have releases, in the byte order of their names.
    pub fn apps(&self) -> impl Stream<Item = Result<AppName, Error>> {
        let page = async |after: Option<PageToken>| self.list_directories(layout::DEBS, after.as_ref(), 1000).await;
        items(page).try_filter_map(|name| async move { Ok(name.parse().ok()) })
    }
}
