//! The requests that the official client has no REST for: list, look at, copy, delete.

use std::{sync::OnceLock, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    Method, Response,
    header::{DATE, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{
    attempt::{Failure, USER_AGENT, page},
    tokens::Tokens,
};
use crate::{Generation, Metadata, ObjectInfo, ObjectPath, PageToken, clock::ClockOffset};

/// The metadata key with the mark of the write that made an object's generation. Callers never see it.
pub(super) const WRITE: &str = "push-write";

/// Most bytes of an answer that are read: a page of 1,000 objects with 8 KiB of metadata each, as JSON.
const MAX_ANSWER: usize = 32 << 20;

/// What of an object is asked for.
const FIELDS: &str = "name,generation,size,updated,metadata";

/// Google's storage API, spoken by hand.
#[derive(Debug)]
pub(super) struct Rest {
    bucket: String,
    base: Url,
    tokens: Tokens,
    timeout: Duration,
    /// Made at the first request: an idle agent only ever polls, through the official client.
    client: OnceLock<reqwest::Client>,
    /// How far the server's clock is ahead.
    clock: ClockOffset,
}

/// An object as the API describes it.
#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    generation: String,
    /// Google always says it; its test server leaves out what is 0.
    #[serde(default = "zero")]
    size: String,
    updated: Timestamp,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    items: Vec<Resource>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

/// What is known of an object, and the mark of the write that made it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) info: ObjectInfo,
    pub(super) write: Option<String>,
}

/// The answer to a request for a copy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewrite {
    done: bool,
    #[serde(default = "zero")]
    object_size: String,
    #[serde(default = "zero")]
    total_bytes_rewritten: String,
    #[serde(rename = "rewriteToken")]
    token: Option<String>,
    resource: Option<Resource>,
}

/// How far a copy is.
#[derive(Debug)]
pub(super) enum Rewritten {
    /// It is there.
    Whole(Generation),
    /// So many bytes of it are, and by this token it goes on.
    Part { token: String, copied: u64 },
}

/// One page of a listing: objects, or prefixes of objects below a delimiter.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) objects: Vec<ObjectInfo>,
    pub(super) prefixes: Vec<String>,
    pub(super) next: Option<String>,
}

impl Rest {
    pub(super) fn new(endpoint: &Url, bucket: &str, tokens: Tokens, timeout: Duration) -> Self {
        let mut base = endpoint.clone();
        if let Ok(mut segments) = base.path_segments_mut() {
            segments.pop_if_empty().extend(["storage", "v1", "b", bucket, "o"]);
        }
        Self {
            bucket: bucket.to_owned(),
            base,
            tokens,
            timeout,
            client: OnceLock::new(),
            clock: ClockOffset::unknown(),
        }
    }

    /// What is known of an object; `None` if there is none.
    pub(super) async fn head(&self, path: &ObjectPath) -> Result<Option<Found>, Failure> {
        let mut url = self.object(path);
        url.query_pairs_mut().append_pair("fields", FIELDS);
        let answer = match self.send(Method::GET, url, None).await {
            Err(failure) if failure.is_absent() => return Ok(None),
            answer => answer?,
        };
        let resource: Resource = read(answer).await?;
        resource.found().map(Some).ok_or_else(|| Failure::transient("response describes no object"))
    }

    /// One page of what lies below `prefix`.
    pub(super) async fn list(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Listed, Failure> {
        let mut url = self.base.clone();
        // `startOffset` is inclusive. No character that a path may have sorts before a space, so this is right after it.
        let start = after.and_then(|after| after.start.as_deref()).map(|start| format!("{start} "));
        let fields = format!("nextPageToken,prefixes,items({FIELDS})");
        let limit = limit.clamp(1, 1000).to_string();
        url.query_pairs_mut()
            .append_pair("prefix", prefix)
            .append_pair("maxResults", &limit)
            .append_pair("fields", &fields)
            .extend_pairs(delimiter.map(|delimiter| ("delimiter", delimiter)))
            .extend_pairs(start.map(|start| ("startOffset", start)))
            .extend_pairs(after.and_then(|after| after.end.as_deref()).map(|end| ("endOffset", end)))
            .extend_pairs(after.and_then(|after| after.page.as_deref()).map(|page| ("pageToken", page)));
        let listing: Listing = read(self.send(Method::GET, url, None).await?).await?;
        // Names that aren't ours (a console's `debs/`) aren't objects of this system.
        let objects = listing.items.into_iter().filter_map(Resource::found).map(|found| found.info).collect();
        let next = listing.next_page_token.filter(|token| !token.is_empty());
        Ok(Listed { objects, prefixes: listing.prefixes, next })
    }

    /// Copies a generation of an object to where none is, with what is said of it, or goes on with that.
    pub(super) async fn rewrite(
        &self,
        (from, seen): (&ObjectPath, Generation),
        to: &ObjectPath,
        said: &Value,
        token: Option<&str>,
    ) -> Result<Rewritten, Failure> {
        let mut url = self.object(from);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(["rewriteTo", "b", &self.bucket, "o", to.as_str()]);
        }
        url.query_pairs_mut()
            .append_pair("ifGenerationMatch", "0")
            .append_pair("ifSourceGenerationMatch", &seen.to_string())
            .extend_pairs(token.map(|token| ("rewriteToken", token)));
        let answer: Rewrite = read(self.send(Method::POST, url, Some(said)).await?).await?;
        answer.understood()
    }

    /// Deletes a generation of an object. Gone already is fine.
    pub(super) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Failure> {
        let mut url = self.object(path);
        url.query_pairs_mut().append_pair("ifGenerationMatch", &seen.to_string());
        match self.send(Method::DELETE, url, None).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_absent() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn object(&self, path: &ObjectPath) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(path.as_str());
        }
        url
    }

    async fn send(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Response, Failure> {
        let headers = self.tokens.headers().await.map_err(Failure::credentials)?;
        let asked = Timestamp::now();
        let request = self.client()?.request(method, url).headers(headers);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await?;
        self.note_clock(&answer, asked);
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // The status says enough if the words can't be had.
        let body = bounded(answer, 64 << 10).await.unwrap_or_default();
        Err(Failure::answered(status.as_u16(), &body, after.as_deref()))
    }

    /// How far the server's clock is ahead of ours.
    pub(super) fn clock_offset(&self) -> SignedDuration {
        self.clock.get()
    }

    fn note_clock(&self, answer: &Response, asked: Timestamp) {
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        // A date has whole seconds, cut.
        self.clock.note(date.timestamp() + SignedDuration::from_millis(500), asked, Timestamp::now());
    }

    fn client(&self) -> Result<&reqwest::Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = http_client(self.timeout)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A client of Google's APIs.
pub(super) fn http_client(connect_timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
        .connect_timeout(connect_timeout)
        // The APIs never redirect; a portal does.
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

impl Resource {
    fn found(self) -> Option<Found> {
        let mut metadata = self.metadata;
        let write = metadata.remove(WRITE);
        let info = ObjectInfo {
            path: self.name.parse().ok()?,
            generation: Generation(self.generation.parse().ok()?),
            size: self.size.parse().ok()?,
            updated: self.updated,
            metadata,
        };
        Some(Found { info, write })
    }
}

impl Rewrite {
    /// What the answer says, if it says that the copy is whole or how to go on.
    fn understood(self) -> Result<Rewritten, Failure> {
        let none = || Failure::transient("response describes no copy");
        if !self.done {
            let (token, copied) = self.token.zip(self.total_bytes_rewritten.parse().ok()).ok_or_else(none)?;
            return Ok(Rewritten::Part { token, copied });
        }
        let copy = self.resource.ok_or_else(none)?;
        if copy.size != self.object_size {
            return Err(Failure::lasting(format!("{} of {} bytes were copied", copy.size, self.object_size)));
        }
        copy.generation.parse().map(|generation| Rewritten::Whole(Generation(generation))).map_err(|_| none())
    }
}

async fn read<T: serde::de::DeserializeOwned>(answer: Response) -> Result<T, Failure> {
    let body = bounded(answer, MAX_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|e| match page(&body) {
        Some(page) => Failure::transient(page),
        None => Failure::transient(format!("not a response of the storage API: {e}")),
    })
}

async fn bounded(mut answer: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::transient(format!("response has more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn zero() -> String {
    "0".to_owned()
}
