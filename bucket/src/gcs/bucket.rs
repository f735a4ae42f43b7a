//! The verbs of a bucket on Google Cloud Storage.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;

use super::{
    attempt::{Failure, USER_AGENT},
    connection::{Connection, ensure_plain},
    copy,
    download::GcsDownload,
    rest::{Listed, WRITE},
    write::Write,
};
use crate::{
    BucketOptions, Error, Fetched, Generation, Metadata, Object, ObjectInfo, ObjectPath, Page, PageToken, SourceFile,
};

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GcsBucket {
    connection: Arc<Connection>,
}

impl GcsBucket {
    pub(crate) async fn open(name: &str, options: &BucketOptions) -> Result<Self, Error> {
        Ok(Self { connection: Arc::new(Connection::open(name, options).await?) })
    }

    pub(crate) fn clock_offset(&self) -> SignedDuration {
        self.connection.rest.clock_offset()
    }

    pub(crate) async fn get(&self, path: &ObjectPath, limit: u64) -> Result<Option<Object>, Error> {
        match self.connection.patiently(|| self.fetch(path, None, limit)).await {
            Ok(found) => found.map(Some).map_err(|size| Error::TooLarge { object: path.to_string(), size, limit }),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(self.connection.error(failure, "read", path)),
        }
    }

    pub(crate) async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Generation,
        limit: u64,
    ) -> Result<Fetched<Object>, Error> {
        match self.connection.patiently(|| self.fetch(path, Some(seen), limit)).await {
            Ok(Ok(object)) => Ok(Fetched::Found(object.generation, object)),
            Ok(Err(size)) => Err(Error::TooLarge { object: path.to_string(), size, limit }),
            Err(failure) if failure.status == Some(304) => Ok(Fetched::Unchanged),
            Err(failure) if failure.is_absent() => Ok(Fetched::Absent),
            Err(failure) => Err(self.connection.error(failure, "read", path)),
        }
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        Ok(self.connection.find(path).await?.map(|found| found.info))
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<ObjectInfo>, Error> {
        let Listed { objects, next, .. } = self.connection.page(prefix, None, after, limit).await?;
        Ok(Page { items: objects, next: next.map(|page| PageToken::next(after, page)) })
    }

    pub(crate) async fn list_directories(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        let Listed { prefixes, next, .. } = self.connection.page(prefix, Some("/"), after, limit).await?;
        let segment = |path: &String| Some(path.strip_prefix(prefix)?.strip_suffix('/')?.to_owned());
        Ok(Page {
            items: prefixes.iter().filter_map(segment).collect(),
            next: next.map(|page| PageToken::next(after, page)),
        })
    }

    pub(crate) async fn create(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        self.write(Write::new(path, metadata, None), content).await
    }

    pub(crate) async fn create_from_file(
        &self,
        path: &ObjectPath,
        source: &SourceFile,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        // Before sending what may be a gigabyte. The generation in the request is what protects the object.
        if self.head(path).await?.is_some() {
            return Err(Error::AlreadyExists { object: path.to_string() });
        }
        let write = Write::new(path, metadata, None);
        match write.send_file(&self.connection, source, progress).await {
            Ok(generation) => Ok(generation),
            Err(failure) => write.settle(&self.connection, failure).await,
        }
    }

    pub(crate) async fn replace(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
        seen: Generation,
    ) -> Result<Generation, Error> {
        self.write(Write::new(path, metadata, Some(seen)), content).await
    }

    pub(crate) async fn copy(
        &self,
        from: &ObjectPath,
        seen: Generation,
        to: &ObjectPath,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        copy::copy(&self.connection, (from, seen), &Write::new(to, metadata, None)).await
    }

    pub(crate) async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<GcsDownload>, Error> {
        GcsDownload::begin(&self.connection, path, pinned, offset).await
    }

    pub(crate) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        match self.connection.patiently(|| self.connection.rest.delete(path, seen)).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.status == Some(412) => match self.head(path).await? {
                None => Ok(()),
                // The very generation that was to be deleted: the storage has another reason.
                Some(found) if found.generation == seen => Err(self.connection.error(failure, "delete", path)),
                Some(_) => Err(Error::Conflict { object: path.to_string(), expected: seen }),
            },
            Err(failure) => Err(self.connection.error(failure, "delete", path)),
        }
    }

    /// One attempt at reading a document; the inner error is its size when that is over the limit.
    async fn fetch(
        &self,
        path: &ObjectPath,
        seen: Option<Generation>,
        limit: u64,
    ) -> Result<Result<Object, u64>, Failure> {
        let Connection { storage, resource, .. } = &*self.connection;
        let mut request = storage.read_object(resource, path.as_str()).with_user_agent(USER_AGENT);
        if let Some(seen) = seen {
            request = request.set_if_generation_not_match(seen.0);
        }
        // The client's futures are tens of KiB: not to be carried inside every caller's.
        let mut body = Box::pin(request.send()).await?;
        let object = body.object();
        ensure_plain(&object)?;
        let size = u64::try_from(object.size).unwrap_or_default();
        if size > limit {
            return Ok(Err(size));
        }
        let mut content = Vec::new();
        while let Some(chunk) = body.next().await {
            content.extend_from_slice(&chunk?);
            if content.len() as u64 > size {
                break;
            }
        }
        if content.len() as u64 != size {
            return Err(Failure::transient(format!("received {} of {size} bytes", content.len())));
        }
        let metadata = object.metadata.into_iter().filter(|(key, _)| key != WRITE).collect();
        Ok(Ok(Object { generation: Generation(object.generation), content: content.into(), metadata }))
    }

    async fn write(&self, write: Write<'_>, content: Bytes) -> Result<Generation, Error> {
        let Connection { storage, resource, .. } = &*self.connection;
        match self.connection.patiently(|| write.send(storage, resource, &content)).await {
            Ok(generation) => Ok(generation),
            Err(failure) => write.settle(&self.connection, failure).await,
        }
    }
}
