//! A bucket's name, the clients that reach it, and what every request has in common.

use std::time::Duration;

use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::{client::Storage, model_ext::ObjectHighlights, read_resume_policy::NeverResume};
use url::Url;

use super::{
    attempt::{Failure, no_bucket, patiently},
    cause::chain,
    rest::{Found, Listed, Rest},
    tokens::Tokens,
};
use crate::{BucketOptions, Error, ObjectPath, PageToken};

const GOOGLE: &str = "https://storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// The clients of one bucket.
#[derive(Debug)]
pub(super) struct Connection {
    name: String,
    /// As the client wants it: `projects/_/buckets/NAME`.
    pub(super) resource: String,
    pub(super) storage: Storage,
    pub(super) rest: Rest,
    pub(super) tokens: Tokens,
    pub(super) timeout: Duration,
    /// Attempts at one request, the first included.
    pub(super) attempts: usize,
}

impl Connection {
    pub(super) async fn open(name: &str, options: &BucketOptions) -> Result<Self, Error> {
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
        Ok(Self {
            name: name.to_owned(),
            resource: format!("projects/_/buckets/{name}"),
            storage,
            rest: Rest::new(&endpoint, name, tokens.clone(), options.timeout),
            tokens,
            timeout: options.timeout,
            attempts: options.attempts,
        })
    }

    /// Makes attempts as [`patiently`] does; when the token is refused, once more with a fresh one.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let renewals = self.tokens.renewals();
        let limits = (self.attempts, self.timeout);
        match patiently(limits, &attempt).await {
            Err(failure) if failure.status == Some(401) && self.tokens.renew(renewals) => {
                tracing::info!(reason = failure.reason, "access token refused, getting a new one");
                patiently(limits, attempt).await
            }
            done => done,
        }
    }

    /// An object without its content, if there is one.
    pub(super) async fn find(&self, path: &ObjectPath) -> Result<Option<Found>, Error> {
        let found = self.patiently(|| self.rest.head(path)).await;
        found.map_err(|failure| self.error(failure, "read", path))
    }

    /// One page of a listing.
    pub(super) async fn page(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Listed, Error> {
        let page = self.patiently(|| self.rest.list(prefix, delimiter, after, limit)).await;
        // A prefix is never absent: it is the bucket that is.
        page.map_err(|failure| {
            if failure.is_absent() { no_bucket(&self.name) } else { failure.into_error(&self.name, "list", prefix) }
        })
    }

    /// A failure as the caller of a verb sees it.
    pub(super) fn error(&self, failure: Failure, verb: &'static str, path: &ObjectPath) -> Error {
        failure.into_error(&self.name, verb, path.as_str())
    }
}

/// Refuses an object that is stored encoded (`gsutil cp -Z`). Google unpacks it on the way, and then neither size nor
/// checksum are of the bytes that come.
pub(super) fn ensure_plain(object: &ObjectHighlights) -> Result<(), Failure> {
    match object.content_encoding.as_str() {
        "" | "identity" => Ok(()),
        encoding => Err(Failure::malformed(format!(
            "object is stored with `Content-Encoding: {}`: upload it again without compression",
            encoding.escape_debug()
        ))),
    }
}
