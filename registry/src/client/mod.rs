//! The requests that read a registry. What writes is in [`writer`].
//!
//! Each is bounded in size and time and tried a few times ([`failure`]); it carries what the registry wants to see ([`session`],
//! [`login`]), and goes where [`http`] and [`reach`] let it. Whatever is read by a digest has that digest.

mod blob;
mod challenge;
mod copy;
mod failure;
mod http;
mod login;
mod program;
mod reach;
mod secrets;
mod session;
mod upload;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, LINK},
};
use serde::Deserialize;
use tokio::time::Instant;

pub use self::{
    blob::Blob,
    login::Logins,
    upload::BlobSource,
    writer::{Writer, is_half_removed},
};

use self::{
    failure::{Failure, page, whole},
    http::{Http, expect},
    secrets::Secrets,
    session::{Scope, Session},
};
use crate::{
    Descriptor, Digest, Error, Host, MAX_MANIFEST, Manifest, ManifestType, Reference, Repository, Tag, Writable,
};

/// Most bytes of one page of tags.
const MAX_PAGE: usize = 4 << 20;

/// Most tags of a repository that are listed.
const MAX_TAGS: usize = 100_000;

/// The longest that a list of tags may take, in multiples of the time without an answer.
const LISTING: u32 = 10;

/// How many tags are asked for at once.
const PAGE: &str = "1000";

/// The digest of what was asked for, as a registry says it.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How registries are spoken to.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where credentials are from.
    pub logins: Logins,
    /// Token servers on other hosts that may have a registry's credential.
    pub realms: Vec<Host>,
    /// The longest a request may go without an answer, or a blob without a byte.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { logins: Logins::default(), realms: Vec::new(), timeout: Duration::from_secs(30) }
    }
}

/// A client of any number of registries.
#[derive(Debug)]
pub struct Client {
    http: Http,
    options: ClientOptions,
    /// What was sent, and is masked in whatever is said.
    secrets: Arc<Secrets>,
    sessions: Mutex<HashMap<Host, Arc<Session>>>,
}

/// One page of tags, as a registry writes it.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Client {
    /// One that has asked nothing yet.
    ///
    /// # Errors
    /// When there can be no TLS, as a sentence.
    pub fn new(options: ClientOptions) -> Result<Self, String> {
        Ok(Self { http: Http::new(options.timeout)?, options, secrets: Arc::default(), sessions: Mutex::default() })
    }

    /// Makes sure that there is a registry, and that it takes the credential if it wants one.
    pub async fn ping(&self, host: &Host) -> Result<(), Error> {
        let attempt = || async {
            let session = self.session(host)?;
            let url = session.url("")?;
            let answer = session.send(&self.http, &Scope::none(), |http| http.get(url.clone())).await?;
            let answer = expect(answer, StatusCode::OK).await?;
            match page(&whole(answer, MAX_PAGE).await?) {
                Some(page) => Err(Failure::lasting(page)),
                None => Ok(()),
            }
        };
        self.patiently(self.options.timeout, attempt).await.map_err(|failure| failure.into_error("reach", host))
    }

    /// What a reference names: by its digest if it has one, else by its tag; `None` if there is no such thing.
    ///
    /// # Errors
    /// When it has neither, or the registry doesn't say.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>, Error> {
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => self.by_digest(&reference.repository, digest).await,
            (None, Some(tag)) => self.by_tag(&reference.repository, tag).await,
            (None, None) => {
                let reason = "it has neither a tag nor a digest".to_owned();
                Err(Error::Malformed { what: reference.to_string(), reason })
            }
        }
    }

    /// What a tag names; `None` if there is no such tag.
    pub async fn by_tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Manifest>, Error> {
        let manifest = self.patiently(self.options.timeout, || self.get(repository, tag.as_str())).await;
        manifest.map_err(|failure| failure.into_error("read", &format_args!("{repository}:{tag}")))
    }

    /// The manifest of a digest; `None` if there is none.
    pub async fn by_digest(&self, repository: &Repository, digest: &Digest) -> Result<Option<Manifest>, Error> {
        let attempt = || async {
            let manifest = self.get(repository, &digest.to_string()).await?;
            match manifest {
                Some(other) if other.digest() != digest => {
                    Err(Failure::malformed(format!("the registry gave bytes with the digest `{}`", other.digest())))
                }
                manifest => Ok(manifest),
            }
        };
        let manifest = self.patiently(self.options.timeout, attempt).await;
        manifest.map_err(|failure| failure.into_error("read", &format_args!("{repository}@{digest}")))
    }

    /// The digest of what a tag names, as the registry says it; `None` if there is no such tag. One request without a body.
    pub async fn digest(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, Error> {
        let attempt = || async {
            let answer = self.manifest_request(Method::HEAD, repository, tag.as_str()).await?;
            let digest = header(answer.headers(), &DIGEST).and_then(|digest| digest.parse().ok());
            if answer.status() == StatusCode::OK && digest.is_some() {
                return Ok(digest);
            }
            // Without a body nobody can say that it is a registry that answers.
            let manifest = self.get(repository, tag.as_str()).await?;
            Ok(manifest.map(|manifest| manifest.digest().clone()))
        };
        let digest = self.patiently(self.options.timeout, attempt).await;
        digest.map_err(|failure| failure.into_error("read", &format_args!("{repository}:{tag}")))
    }

    /// All tags of a repository; of one that there isn't, none. What is no tag by the specification's grammar is left out.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, Error> {
        self.list(repository).await.map_err(|failure| failure.into_error("list the tags of", repository))
    }

    /// How many bytes a blob has; `None` if it isn't there.
    pub async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let size = self.patiently(self.options.timeout, || self.head_blob(repository, digest)).await;
        size.map_err(|failure| failure.into_error("look for", &format_args!("{repository}@{digest}")))
    }

    /// A blob, to be read part by part.
    pub async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Blob, Error> {
        let opened = self.patiently(self.options.timeout, || self.open_blob(repository, blob)).await;
        opened.map_err(|failure| failure.into_error("read", &format_args!("{repository}@{}", blob.digest)))
    }

    /// All bytes of a blob that has no more than [`MAX_MANIFEST`], as an image's configuration.
    pub async fn small_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Bytes, Error> {
        let what = || format!("{repository}@{}", blob.digest);
        if blob.size > MAX_MANIFEST as u64 {
            let reason = format!("it has {} bytes, and at most {MAX_MANIFEST} are read at once", blob.size);
            return Err(Error::Malformed { what: what(), reason });
        }
        let attempt = || async {
            let mut opened = self.open_blob(repository, blob).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = opened.next().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok(Bytes::from(bytes))
        };
        self.patiently(self.options.timeout, attempt).await.map_err(|failure| failure.into_error("read", &what()))
    }

    /// What writes a repository that may be written.
    pub fn writer<'a>(&'a self, to: &'a Writable) -> Writer<'a> {
        Writer::new(self, to)
    }

    /// Makes attempts at something; nothing of why one fails shows what was secret of it.
    async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        timeout: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        failure::patiently(timeout, || async { attempt().await.map_err(|failure| failure.masked(&self.secrets)) }).await
    }

    fn session(&self, host: &Host) -> Result<Arc<Session>, Failure> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(host) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::new(host, &self.options, self.secrets.clone())?);
        sessions.insert(host.clone(), session.clone());
        Ok(session)
    }

    /// One request for a manifest, with whatever comes of it.
    async fn manifest_request(&self, method: Method, repository: &Repository, name: &str) -> Result<Response, Failure> {
        let session = self.session(repository.host())?;
        let url = session.url(&format!("{}/manifests/{name}", repository.path()))?;
        let accepted = ManifestType::ALL.map(ManifestType::as_str).join(", ");
        let request = |http: &reqwest::Client| http.request(method.clone(), url.clone()).header(ACCEPT, &accepted);
        let answer = session.send(&self.http, &Scope::pull(repository.path()), request).await?;
        self.http.follow(&method, Some(&accepted), answer).await
    }

    async fn get(&self, repository: &Repository, name: &str) -> Result<Option<Manifest>, Failure> {
        let answer = self.manifest_request(Method::GET, repository, name).await?;
        let answer = match expect(answer, StatusCode::OK).await {
            Err(failure) if failure.is_absent() => return Ok(None),
            answer => answer?,
        };
        let media_type =
            header(answer.headers(), &CONTENT_TYPE).map(|value| value.split(';').next().unwrap_or("").trim());
        let media_type = media_type.map(str::to_owned).unwrap_or_default();
        let told: Option<Digest> = header(answer.headers(), &DIGEST).and_then(|digest| digest.parse().ok());
        let bytes = whole(answer, MAX_MANIFEST).await?;
        if let Some(page) = page(&bytes) {
            return Err(Failure::transient(page));
        }
        let media_type = media_type.parse::<ManifestType>().map_err(|error| Failure::malformed(error.to_string()))?;
        let manifest = Manifest::read(media_type, bytes).map_err(|error| Failure::malformed(error.to_string()))?;
        match told {
            Some(told) if told != *manifest.digest() => Err(Failure::malformed(format!(
                "its digest is `{}`, and the registry says `{told}`",
                manifest.digest()
            ))),
            _ => Ok(Some(manifest)),
        }
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>, Failure> {
        let session = self.session(repository.host())?;
        let mut url = session.url(&format!("{}/tags/list?n={PAGE}", repository.path()))?;
        let path = url.path().to_owned();
        let scope = Scope::pull(repository.path());
        let mut tags = Vec::new();
        let until = Instant::now() + self.options.timeout * LISTING;
        let mut is_first = true;
        let mut read = HashSet::from([url.clone()]);
        loop {
            let attempt = || async {
                let answer = session.send(&self.http, &scope, |http| http.get(url.clone())).await?;
                let answer = expect(answer, StatusCode::OK).await?;
                let next = header(answer.headers(), &LINK).and_then(next_page).map(str::to_owned);
                let body = whole(answer, MAX_PAGE).await?;
                let unread = |error| page(&body).unwrap_or_else(|| format!("not a list of tags: {error}"));
                let Tags { tags } = serde_json::from_slice(&body).map_err(|error| Failure::transient(unread(error)))?;
                Ok((tags.unwrap_or_default(), next))
            };
            let (found, next) = match self.patiently(self.options.timeout, attempt).await {
                Err(failure) if is_first && failure.is_absent() => return Ok(Vec::new()),
                page => page?,
            };
            is_first = false;
            tags.extend(found.iter().filter_map(|tag| tag.parse().ok()));
            let Some(next) = next else { return Ok(tags) };
            if tags.len() > MAX_TAGS {
                return Err(Failure::lasting(format!("it has more than {MAX_TAGS} tags")));
            }
            // It may be relative to what was asked for.
            let next = url.join(&next).map_err(|_| Failure::transient("the registry leads to no address"))?;
            let next = session.own(next.as_str())?;
            if next.path() != path {
                return Err(Failure::lasting("the registry continues its list with another one"));
            }
            if found.is_empty() || Instant::now() > until || !read.insert(next.clone()) {
                return Err(Failure::lasting("the registry's list of tags does not come to an end"));
            }
            url = next;
        }
    }

    async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Failure> {
        let answer = self.blob_request(Method::HEAD, repository, digest).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let is_page = header(answer.headers(), &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
                let length = header(answer.headers(), &CONTENT_LENGTH).and_then(|length| length.parse().ok());
                // What doesn't say it may be anything.
                Ok(length.filter(|_| !is_page))
            }
            _ => Err(Failure::answered(answer).await),
        }
    }

    async fn open_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Blob, Failure> {
        let answer = self.blob_request(Method::GET, repository, &blob.digest).await?;
        let answer = expect(answer, StatusCode::OK).await?;
        Blob::open(answer, blob, self.options.timeout)
    }

    async fn blob_request(
        &self,
        method: Method,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Response, Failure> {
        let session = self.session(repository.host())?;
        let url = session.url(&format!("{}/blobs/{digest}", repository.path()))?;
        let scope = Scope::pull(repository.path());
        let answer = session.send(&self.http, &scope, |http| http.request(method.clone(), url.clone())).await?;
        self.http.follow(&method, None, answer).await
    }
}

/// A header as text, if it is.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Where a list goes on (RFC 8288): `<…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.replace(['"', ' '], "").split(';').any(|parameter| parameter == "rel=next").then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_where_its_link_says() {
        for (link, expected) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (
                "<https://images.example/v2/a/tags/list?last=x>;rel=next",
                Some("https://images.example/v2/a/tags/list?last=x"),
            ),
            (r#"</x>; rel="prev""#, None),
            ("/x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }
}
