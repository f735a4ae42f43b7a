//! A bucket of Google Cloud Storage.
//!
//! Content goes through Google's own client, everything else through three REST requests (`rest.rs`). What both have
//! in common is here or in `attempt.rs`: each attempt has a time limit, what may be done twice is tried a few times,
//! `Retry-After` is honoured, a refused token is renewed. Google's client is told to try once only, except within the
//! upload of a file, which it resumes as `upload.rs` says.
//!
//! Every write states a generation, so it may be tried again after its answer was lost. The second try is then refused
//! (412) because of our own first: each write leaves a mark in the object's metadata, by which `write.rs` recognises it.

mod attempt;
mod machine;
mod rest;
mod tokens;
mod upload;
mod write;

pub use machine::{Firmware, PRODUCT_NAME, firmware};
pub use tokens::{NoToken, Tokens};

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::{
    client::Storage,
    model_ext::{ObjectHighlights, ReadRange},
    read_object::ReadObjectResponse,
    read_resume_policy::NeverResume,
};
use url::Url;

use self::{
    attempt::{Failure, chain, patiently, within},
    rest::{Found, Listed, Rest},
    write::Write,
};
use crate::{
    BucketOptions, Download, Error, Fetched, Generation, Metadata, ObjectInfo, ObjectPath, Page, PageToken,
    object::DownloadSource,
};

const GOOGLE: &str = "https://storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
const USER_AGENT: &str = concat!("push/", env!("CARGO_PKG_VERSION"));

/// The metadata key with the mark of the write that made an object's generation. Callers never see it.
const WRITE: &str = "push-write";

/// How often a download goes on after a cut without having got a byte in between.
const RESUMES: u32 = 5;

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GcsBucket {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    /// As the client wants it: `projects/_/buckets/NAME`.
    resource: String,
    storage: Storage,
    rest: Rest,
    tokens: Tokens,
    timeout: Duration,
}

impl Inner {
    /// Makes attempts as [`patiently`] does; when the token is refused, once more with a fresh one.
    async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let renewals = self.tokens.renewals();
        match patiently(self.timeout, &attempt).await {
            Err(failure) if failure.status == Some(401) && self.tokens.renew(renewals) => {
                tracing::info!(reason = failure.reason, "the access token is refused: a fresh one is asked for");
                patiently(self.timeout, attempt).await
            }
            done => done,
        }
    }
}

/// An object's content on its way.
#[derive(Debug)]
pub(crate) struct GcsDownload {
    bucket: GcsBucket,
    path: ObjectPath,
    generation: Generation,
    size: u64,
    offset: u64,
    /// `None` after a cut.
    body: Option<ReadObjectResponse>,
    /// Cuts since the last byte.
    cuts: u32,
}

impl GcsBucket {
    pub(crate) async fn open(name: &str, options: &BucketOptions) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { url: format!("gs://{name}"), reason };
        let google = || Url::parse(GOOGLE).expect("a constant URL is a URL");
        let endpoint = options.endpoint.clone().unwrap_or_else(google);
        let tokens = Tokens::load(&options.credentials, SCOPE).map_err(unusable)?;
        let storage = Storage::builder()
            .with_endpoint(endpoint.as_str().trim_end_matches('/'))
            .with_credentials(google_cloud_auth::credentials::Credentials::from(tokens.clone()))
            .with_retry_policy(NeverRetry)
            .with_read_resume_policy(NeverResume)
            // Unused, and the default opens one per processor.
            .with_grpc_subchannel_count(1)
            .build()
            .await
            .map_err(|e| unusable(chain(&e)))?;
        let inner = Inner {
            name: name.to_owned(),
            resource: format!("projects/_/buckets/{name}"),
            storage,
            rest: Rest::new(&endpoint, name, tokens.clone(), options.timeout),
            tokens,
            timeout: options.timeout,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Option<Generation>,
        limit: u64,
    ) -> Result<Fetched<Bytes>, Error> {
        let attempt = || self.fetch(path, seen, limit);
        match self.inner.patiently(attempt).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(size)) => Err(Error::TooLarge { object: path.to_string(), size, limit }),
            Err(failure) if failure.status == Some(304) => Ok(Fetched::Unchanged),
            Err(failure) if failure.is_absent() => Ok(Fetched::Absent),
            Err(failure) => Err(self.error(failure, "read", path)),
        }
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        Ok(self.find(path).await?.map(|found| found.info))
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<ObjectInfo>, Error> {
        let Listed { objects, next, .. } = self.page(prefix, None, after, limit).await?;
        Ok(Page { items: objects, next: next.map(|page| PageToken::next(after, page)) })
    }

    pub(crate) async fn list_directories(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        let Listed { prefixes, next, .. } = self.page(prefix, Some("/"), after, limit).await?;
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
        source: &Path,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        // Before sending what may be a gigabyte. The generation in the request is what protects the object.
        if self.head(path).await?.is_some() {
            return Err(Error::AlreadyExists { object: path.to_string() });
        }
        let write = Write::new(path, metadata, None);
        match write.send_file(&self.inner, source, progress).await {
            Ok(generation) => Ok(generation),
            Err(failure) => self.settle(&write, failure).await,
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

    pub(crate) async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Download>, Error> {
        let opened = self.inner.patiently(|| self.open_body(path, pinned, offset)).await;
        let (generation, size, body) = match opened {
            Ok(body) => {
                let object = body.object();
                let size = u64::try_from(object.size).unwrap_or_default();
                (Generation(object.generation), size, Some(body))
            }
            Err(failure) if failure.is_absent() && pinned.is_none() => return Ok(None),
            Err(failure) if failure.is_absent() => return Err(Error::Gone { object: path.to_string() }),
            // No byte from there on: right at the end, or beyond.
            Err(failure) if failure.status == Some(416) => match self.head(path).await? {
                Some(info) if pinned.is_some_and(|pinned| pinned != info.generation) => {
                    return Err(Error::Gone { object: path.to_string() });
                }
                Some(info) if info.size == offset => (info.generation, info.size, None),
                Some(_) => return Err(self.error(failure, "read", path)),
                None => return Ok(None),
            },
            Err(failure) => return Err(self.error(failure, "read", path)),
        };
        if offset > size {
            let reason = format!("byte {offset} was asked for, it has {size}");
            return Err(self.error(Failure::transient(reason), "read", path));
        }
        let (bucket, path) = (self.clone(), path.clone());
        let download = GcsDownload { bucket, path, generation, size, offset, body, cuts: 0 };
        Ok(Some(Download { generation, size, source: DownloadSource::Gcs(Box::new(download)) }))
    }

    pub(crate) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        match self.inner.patiently(|| self.inner.rest.delete(path, seen)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Conflict { object: path.to_string(), expected: seen }),
            Err(failure) => Err(self.error(failure, "delete", path)),
        }
    }

    /// One attempt at reading a document; the inner error is its size when that is over the limit.
    async fn fetch(
        &self,
        path: &ObjectPath,
        seen: Option<Generation>,
        limit: u64,
    ) -> Result<Result<Fetched<Bytes>, u64>, Failure> {
        let Inner { storage, resource, .. } = &*self.inner;
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
            return Err(Failure::transient(format!("{} bytes came, {size} were promised", content.len())));
        }
        Ok(Ok(Fetched::Found(Generation(object.generation), content.into())))
    }

    async fn open_body(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<ReadObjectResponse, Failure> {
        let Inner { storage, resource, .. } = &*self.inner;
        let mut request = storage.read_object(resource, path.as_str()).with_user_agent(USER_AGENT);
        if let Some(pinned) = pinned {
            request = request.set_generation(pinned.0);
        }
        if offset > 0 {
            request = request.set_read_range(ReadRange::offset(offset));
        }
        let body = Box::pin(request.send()).await?;
        let object = body.object();
        ensure_plain(&object)?;
        // Something in between may not know the parameter, and bytes of two generations must never be joined.
        if let Some(Generation(asked)) = pinned.filter(|pinned| pinned.0 != object.generation) {
            let reason = format!("generation {} came, {asked} was asked for", object.generation);
            return Err(Failure::transient(reason));
        }
        Ok(body)
    }

    async fn find(&self, path: &ObjectPath) -> Result<Option<Found>, Error> {
        let found = self.inner.patiently(|| self.inner.rest.head(path)).await;
        found.map_err(|failure| self.error(failure, "read", path))
    }

    async fn page(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Listed, Error> {
        let page = self.inner.patiently(|| self.inner.rest.list(prefix, delimiter, after, limit)).await;
        page.map_err(|failure| match failure.status {
            // A prefix is never absent: it is the bucket that is.
            Some(404) => attempt::no_bucket(&self.inner.name),
            _ => failure.into_error(&self.inner.name, "list", prefix),
        })
    }

    async fn write(&self, write: Write<'_>, content: Bytes) -> Result<Generation, Error> {
        let Inner { storage, resource, .. } = &*self.inner;
        match self.inner.patiently(|| write.send(storage, resource, &content)).await {
            Ok(generation) => Ok(generation),
            Err(failure) => self.settle(&write, failure).await,
        }
    }

    fn error(&self, failure: Failure, verb: &'static str, path: &ObjectPath) -> Error {
        failure.into_error(&self.inner.name, verb, path.as_str())
    }
}

/// Refuses an object that is stored encoded (`gsutil cp -Z`). Google unpacks it on the way, and then neither size nor
/// checksum are of the bytes that come.
fn ensure_plain(object: &ObjectHighlights) -> Result<(), Failure> {
    match object.content_encoding.as_str() {
        "" | "identity" => Ok(()),
        encoding => Err(Failure::malformed(format!(
            "it is stored with `Content-Encoding: {}`: upload it again as it is, without compression on the way",
            encoding.escape_debug()
        ))),
    }
}

impl GcsDownload {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let left = self.size - self.offset;
            let next = match &mut self.body {
                Some(body) => {
                    within(self.bucket.inner.timeout, async { body.next().await.transpose().map_err(Failure::from) })
                        .await
                }
                None if left == 0 => return Ok(None),
                None => Err(Failure::transient("cut off")),
            };
            let failure = match next {
                Ok(Some(chunk)) if chunk.len() as u64 > left => {
                    Failure::transient(format!("more than the promised {} bytes came", self.size))
                }
                Ok(Some(chunk)) => {
                    self.offset += chunk.len() as u64;
                    self.cuts = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) if left == 0 => {
                    self.body = None;
                    return Ok(None);
                }
                Ok(None) => Failure::transient(format!("{left} bytes are missing")),
                Err(failure) => failure,
            };
            self.resume(failure).await?;
        }
    }

    /// Goes on after a cut, on the same generation.
    async fn resume(&mut self, failure: Failure) -> Result<(), Error> {
        self.body = None;
        self.cuts += 1;
        // All bytes came, and still it failed: the checksum is wrong. More of the same wouldn't mend it.
        if self.cuts > RESUMES || self.offset == self.size {
            return Err(self.bucket.error(failure, "read", &self.path));
        }
        tracing::info!(path = %self.path, offset = self.offset, reason = failure.reason, "download goes on after a cut");
        let generation = self.generation;
        let opened =
            self.bucket.inner.patiently(|| self.bucket.open_body(&self.path, Some(generation), self.offset)).await;
        match opened {
            Ok(body) => {
                self.body = Some(body);
                Ok(())
            }
            Err(failure) if failure.is_absent() => Err(Error::Gone { object: self.path.to_string() }),
            Err(failure) => Err(self.bucket.error(failure, "read", &self.path)),
        }
    }
}
