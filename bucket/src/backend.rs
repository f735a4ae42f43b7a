//! One set of verbs over both backends.

use std::path::Path;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::{
    BucketOptions, BucketUrl, Download, Error, Fetched, FileBucket, GcsBucket, Generation, Metadata, NewBucket, Object,
    ObjectInfo, ObjectPath, Page, PageToken, SimulatedMachine, SourceFile,
};

/// Where everything is stored: `gs://` or `file://`.
///
/// The programs use the verbs on names and documents (`server_document`, `upload_release`, …), which are written
/// next to the types they are about. The verbs below are what both backends must do alike; the conformance suite
/// holds them to it.
#[derive(Debug, Clone)]
pub enum Bucket {
    /// Google Cloud Storage.
    Gcs(GcsBucket),
    /// A directory of this machine, or of a shared mount.
    File(FileBucket),
}

impl Bucket {
    /// Opens a bucket. Nothing is read yet: a bucket that can't be reached shows at the first verb.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the directory doesn't exist or the credentials can't be loaded.
    pub async fn open(url: &BucketUrl, options: &BucketOptions) -> Result<Self, Error> {
        match url {
            BucketUrl::Gcs(name) => Ok(Self::Gcs(GcsBucket::open(name, options).await?)),
            BucketUrl::File(directory) => Ok(Self::File(FileBucket::open(directory, false).await?)),
        }
    }

    /// Opens a bucket for those who neither begin one nor may take an empty mount point for one: while a directory isn't
    /// marked as a bucket ([`Bucket::mark`]), every verb on it is [`Error::Unavailable`], and nothing is written there.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub async fn open_marked(url: &BucketUrl, options: &BucketOptions) -> Result<Self, Error> {
        match url {
            BucketUrl::Gcs(_) => Self::open(url, options).await,
            BucketUrl::File(directory) => Ok(Self::File(FileBucket::open(directory, true).await?)),
        }
    }

    /// Opens a directory as a machine of a simulation sees it: what it writes there bears the time of its clock.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the directory doesn't exist, [`Error::Unavailable`] when it can't be written.
    pub async fn open_simulated(directory: &Path, machine: &SimulatedMachine) -> Result<Self, Error> {
        Ok(Self::File(FileBucket::open_simulated(directory, machine.clone()).await?))
    }

    /// The time by the bucket's clock, to the microsecond; as long as that is unknown, by this machine's. The clock of Google
    /// Cloud Storage is known from the first answer to a listing, or to a question about an object; that of a directory, which
    /// its file system has, from the first listing or write, for whoever may write there.
    pub fn now(&self) -> Timestamp {
        let now = match self {
            Self::Gcs(_) => Timestamp::now(),
            Self::File(bucket) => bucket.machine_time(),
        };
        let now = now.checked_add(self.clock_offset()).unwrap_or(now);
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// How far the bucket's clock is ahead of this machine's, as far as that is known.
    pub fn clock_offset(&self) -> SignedDuration {
        match self {
            Self::Gcs(bucket) => bucket.clock_offset(),
            Self::File(bucket) => bucket.clock_offset(),
        }
    }

    /// Marks the place as a bucket, before something is written there, and says so if it wasn't one before.
    ///
    /// A bucket of Google Cloud Storage needs no marker: that it is missing is another answer than that an object is.
    /// A directory with releases or server documents in it counts as marked.
    ///
    /// # Errors
    /// When the directory can't be read, or a marker can't be written in it.
    pub async fn mark(&self) -> Result<Option<NewBucket>, Error> {
        match self {
            Self::Gcs(_) => Ok(None),
            Self::File(bucket) => bucket.mark().await,
        }
    }

    /// Whether the place is marked as a bucket. Nothing is asked of Google Cloud Storage for that.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub async fn is_marked(&self) -> Result<bool, Error> {
        match self {
            Self::Gcs(_) => Ok(true),
            Self::File(bucket) => bucket.is_marked().await,
        }
    }

    /// An object with its content, if there is one. Content over `limit` bytes is [`Error::TooLarge`].
    pub async fn get(&self, path: &ObjectPath, limit: u64) -> Result<Option<Object>, Error> {
        match self {
            Self::Gcs(bucket) => bucket.get(path, limit).await,
            Self::File(bucket) => bucket.get(path, limit).await,
        }
    }

    /// An object's content, unless it is still the generation `seen`. Content over `limit` bytes is [`Error::TooLarge`].
    pub async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Generation,
        limit: u64,
    ) -> Result<Fetched<Object>, Error> {
        match self {
            Self::Gcs(bucket) => bucket.get_if_changed(path, seen, limit).await,
            Self::File(bucket) => bucket.get_if_changed(path, seen, limit).await,
        }
    }

    /// What is known of an object without reading it, if there is one.
    pub async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        match self {
            Self::Gcs(bucket) => bucket.head(path).await,
            Self::File(bucket) => bucket.head(path).await,
        }
    }

    /// One page of the objects whose path begins with `prefix`, in byte order; at most `limit` (1 to 1,000).
    pub async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: u32) -> Result<Page<ObjectInfo>, Error> {
        match self {
            Self::Gcs(bucket) => bucket.list(prefix, after, limit).await,
            Self::File(bucket) => bucket.list(prefix, after, limit).await,
        }
    }

    /// One page of the directories right below `prefix` (which ends in `/`), each as its last segment, in byte order.
    pub async fn list_directories(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        match self {
            Self::Gcs(bucket) => bucket.list_directories(prefix, after, limit).await,
            Self::File(bucket) => bucket.list_directories(prefix, after, limit).await,
        }
    }

    /// Writes an object that must not exist yet; [`Error::AlreadyExists`] otherwise.
    pub async fn create(&self, path: &ObjectPath, content: Bytes, metadata: &Metadata) -> Result<Generation, Error> {
        match self {
            Self::Gcs(bucket) => bucket.create(path, content, metadata).await,
            Self::File(bucket) => bucket.create(path, content, metadata).await,
        }
    }

    /// Like [`Bucket::create`], streaming from a file of any size. `progress` receives the bytes sent so far.
    /// [`Error::Unavailable`] if it changed since it was read, and then there is no object.
    pub async fn create_from_file(
        &self,
        path: &ObjectPath,
        source: &SourceFile,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        match self {
            Self::Gcs(bucket) => bucket.create_from_file(path, source, metadata, progress).await,
            Self::File(bucket) => bucket.create_from_file(path, source, metadata, progress).await,
        }
    }

    /// Overwrites the generation `seen` of an object; [`Error::Conflict`] if it is another one by now, or gone.
    pub async fn replace(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
        seen: Generation,
    ) -> Result<Generation, Error> {
        match self {
            Self::Gcs(bucket) => bucket.replace(path, content, metadata, seen).await,
            Self::File(bucket) => bucket.replace(path, content, metadata, seen).await,
        }
    }

    /// Writes an object of at most `limit` bytes: over the generation `seen`, or one that must not exist yet.
    pub(crate) async fn write_within(
        &self,
        limit: u64,
        path: &ObjectPath,
        content: impl Into<Bytes>,
        metadata: &Metadata,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let content = content.into();
        let size = content.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { object: path.to_string(), size, limit });
        }
        match seen {
            Some(seen) => self.replace(path, content, metadata, seen).await,
            None => self.create(path, content, metadata).await,
        }
    }

    /// Copies the generation `seen` of an object to a path where none must be yet, with other metadata, inside the storage: its
    /// content passes no program. [`Error::AlreadyExists`] for what is there already, [`Error::Gone`] when `from` is another
    /// generation by now, or none.
    pub async fn copy(
        &self,
        from: &ObjectPath,
        seen: Generation,
        to: &ObjectPath,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        match self {
            Self::Gcs(bucket) => bucket.copy(from, seen, to, metadata).await,
            Self::File(bucket) => bucket.copy(from, seen, to, metadata).await,
        }
    }

    /// Starts streaming an object's content from byte `offset`; `None` if there is no such object.
    /// With `pinned`, exactly that generation: [`Error::Gone`] if it is no longer there.
    pub async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Download>, Error> {
        match self {
            Self::Gcs(bucket) => Ok(bucket.download(path, pinned, offset).await?.map(Download::from)),
            Self::File(bucket) => Ok(bucket.download(path, pinned, offset).await?.map(Download::from)),
        }
    }

    /// Deletes the generation `seen` of an object; [`Error::Conflict`] if it is another one by now. Gone already is fine.
    pub async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        match self {
            Self::Gcs(bucket) => bucket.delete(path, seen).await,
            Self::File(bucket) => bucket.delete(path, seen).await,
        }
    }
}
