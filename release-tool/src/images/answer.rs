//! What is answered to each request, by the distribution specification of the OCI.

use std::{collections::BTreeSet, fmt::Display, sync::Arc};

use anyhow::Result;
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{
            AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName, LOCATION, RANGE,
            WWW_AUTHENTICATE,
        },
        response::Builder,
    },
    response::Response,
};
use console::warning;
use futures_util::stream;
use registry::{Digest, Error, MAX_MANIFEST, Manifest, ManifestType, Tag};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::{
    caller::{Caller, Secrets},
    layout::Layout,
    name::{Name, Target, Upstreams},
    through::{Through, Wanted},
    uploads::{Refused, Upload, Uploads},
};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// All that a registry answers with.
pub(super) struct Registry {
    pub(super) layout: Layout,
    pub(super) uploads: Uploads,
    pub(super) upstreams: Upstreams,
    pub(super) through: Through,
    pub(super) secrets: Secrets,
}

/// An answer that is an error: its status, its code by the specification, and what is said.
struct Refusal(StatusCode, &'static str, String);

type Answer = Result<Response, Refusal>;

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", format!("{error:#}"))
    }
}

/// Answers a request.
pub(super) async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let refused = match registry.answered(request).await {
        Ok(response) => return response,
        Err(refused) => refused,
    };
    let Refusal(status, code, message) = refused;
    if status.is_server_error() {
        warning(format_args!("the registry could not answer: {message}"));
    }
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if status == StatusCode::UNAUTHORIZED {
        // Whoever asks reached it by this name.
        let host =
            host.filter(|host| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)));
        let realm = format!("Bearer realm=\"https://{}/token\",service=\"push\"", host.unwrap_or_default());
        response = response.header(WWW_AUTHENTICATE, realm);
    }
    let errors = json!({ "errors": [{ "code": code, "message": message }] });
    finished(response, Body::from(errors.to_string()))
}

impl Registry {
    async fn answered(&self, request: Request) -> Answer {
        let (parts, body) = request.into_parts();
        let sent = parts.headers.get(AUTHORIZATION).map(|sent| sent.to_str().unwrap_or_default());
        let caller = self.secrets.caller(sent);
        if caller == Caller::Wrong {
            return Err(unauthorized("the password or the token is wrong"));
        }
        let target = Target::read(parts.uri.path()).ok_or_else(|| not_found("there is nothing by this path"))?;
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let said = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let resolve = |path: &str| {
            let name = self.upstreams.resolve(path, said("ns"));
            name.ok_or_else(|| {
                refused("NAME_INVALID", format_args!("`{}` is no name of an image", path.escape_debug()))
            })
        };
        let is_read = [Method::GET, Method::HEAD].contains(&parts.method);
        let owner = || {
            let who = "pushing needs the password of this registry, which is in the file `auth.json` beside its images";
            if caller == Caller::Owner { Ok(()) } else { Err(unauthorized(who)) }
        };
        match target {
            Target::Api if caller == Caller::Nobody => Err(unauthorized("get a token first")),
            Target::Api if is_read => Ok(of_json(&json!({}))),
            Target::Token if parts.method == Method::GET => Ok(self.token(caller)),
            Target::Tags { path } if parts.method == Method::GET => self.tags(caller, path, &resolve(path)?).await,
            Target::Manifest { path, reference } if is_read => {
                let manifest = self.manifest(caller, &resolve(path)?, reference).await?;
                Ok(of_manifest(&manifest, parts.method == Method::HEAD))
            }
            Target::Blob { path, digest } if is_read => {
                self.blob(caller, &resolve(path)?, digest, parts.method == Method::HEAD).await
            }
            Target::Manifest { path, reference } if parts.method == Method::PUT => {
                owner()?;
                self.put_manifest(path, &resolve(path)?, reference, &parts.headers, body).await
            }
            Target::Uploads { path } if parts.method == Method::POST => {
                owner()?;
                resolve(path)?;
                self.begin(path, said("mount"))
            }
            Target::Upload { path, id } => {
                owner()?;
                resolve(path)?;
                self.upload(&parts.method, path, id, (&parts.headers, said("digest")), body).await
            }
            _ => Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this registry does not do that: what is in it goes with its buildset".to_owned(),
            )),
        }
    }

    /// A token: for the password one to do everything with, for everybody else one to read.
    fn token(&self, caller: Caller) -> Response {
        let token = if caller == Caller::Owner { &self.secrets.owner } else { &self.secrets.reader };
        of_json(&json!({ "token": token, "access_token": token, "expires_in": 3600 }))
    }

    async fn tags(&self, caller: Caller, path: &str, name: &Name) -> Answer {
        let own = self.layout.tags(&name.full)?;
        let elsewhere = match &name.through {
            Some(from) => self.through.tags(caller, from).await,
            None => Ok(Vec::new()),
        };
        let elsewhere = match elsewhere {
            Ok(tags) => tags,
            // Its own are known whatever the other registry says.
            Err(_) if !own.is_empty() => Vec::new(),
            Err(error) => return Err(elsewhere_failed(&error, caller)),
        };
        let tags: BTreeSet<Tag> = own.into_iter().chain(elsewhere).collect();
        if tags.is_empty() {
            return Err(Refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no image `{}`", name.full)));
        }
        Ok(of_json(&json!({ "name": path, "tags": tags })))
    }

    /// A manifest: its own, else that of the other registry.
    async fn manifest(&self, caller: Caller, name: &Name, reference: &str) -> Result<Manifest, Refusal> {
        let wanted = match (reference.parse(), reference.parse()) {
            (Ok(digest), _) => Wanted::Digest(digest),
            (Err(_), Ok(tag)) => Wanted::Tag(tag),
            (Err(_), Err(error)) => return Err(refused("TAG_INVALID", error)),
        };
        let own = match &wanted {
            Wanted::Digest(digest) => self.layout.by_digest(digest)?,
            Wanted::Tag(tag) => self.layout.by_tag(&name.full, tag)?,
        };
        let found = match (own, &name.through) {
            (None, Some(from)) => {
                let read = self.through.manifest(caller, from, &wanted).await;
                read.map_err(|error| elsewhere_failed(&error, caller))?
            }
            (own, _) => own,
        };
        let unknown = || format!("there is no `{reference}` of `{}`", name.full);
        found.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", unknown()))
    }

    async fn blob(&self, caller: Caller, name: &Name, digest: &str, is_head: bool) -> Answer {
        let digest: Digest = digest.parse().map_err(|error| refused("DIGEST_INVALID", error))?;
        let response = |size: u64| {
            let response = Response::builder().header(CONTENT_TYPE, "application/octet-stream");
            response.header(DIGEST, digest.to_string()).header(CONTENT_LENGTH, size)
        };
        if let Some((file, size)) = self.layout.blob(&digest)? {
            let body = if is_head { Body::empty() } else { of_file(file) };
            return Ok(finished(response(size), body));
        }
        let unknown = || Refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob `{digest}`"));
        // By this whoever pushes asks what to send: an image of the overlay is whole without any other registry. Readers ask for the
        // blob itself.
        let is_of_a_push = is_head && caller == Caller::Owner;
        let from = name.through.as_ref().filter(|_| !is_of_a_push).ok_or_else(unknown)?;
        let failed = |error: Error| elsewhere_failed(&error, caller);
        let size = self.through.size(caller, from, &digest).await.map_err(failed)?.ok_or_else(unknown)?;
        let body = if is_head {
            Body::empty()
        } else {
            self.through.blob(caller, from, &digest, size).await.map_err(failed)?
        };
        Ok(finished(response(size), body))
    }

    async fn put_manifest(&self, path: &str, name: &Name, reference: &str, headers: &HeaderMap, body: Body) -> Answer {
        let invalid = |reason: &dyn Display| refused("MANIFEST_INVALID", reason);
        let media_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let media_type: ManifestType = media_type.parse().map_err(|error| invalid(&error))?;
        let bytes = to_bytes(body, MAX_MANIFEST).await.map_err(|error| invalid(&error))?;
        let manifest = Manifest::read(media_type, bytes).map_err(|error| invalid(&error))?;
        let tag = match reference.parse::<Digest>() {
            Ok(digest) if digest == *manifest.digest() => None,
            Ok(digest) => {
                let found = manifest.digest();
                return Err(refused("DIGEST_INVALID", format_args!("it was put as `{digest}` and has `{found}`")));
            }
            Err(_) => Some(reference.parse::<Tag>().map_err(|error| refused("TAG_INVALID", error))?),
        };
        for blob in manifest.blobs().into_iter().filter(|blob| blob.urls.is_empty()) {
            let found = self.layout.blob(&blob.digest)?.map(|(_, size)| size);
            if found != Some(blob.size) {
                let said =
                    format_args!("`{}` of {} bytes is not in this registry: push it first", blob.digest, blob.size);
                return Err(refused("MANIFEST_BLOB_UNKNOWN", said));
            }
        }
        for child in manifest.children() {
            if self.layout.by_digest(&child.digest)?.is_none() {
                let said = format_args!("`{}`, which it lists, is not in this registry: push it first", child.digest);
                return Err(refused("MANIFEST_BLOB_UNKNOWN", said));
            }
        }
        self.layout.put(&name.full, tag.as_ref(), &manifest)?;
        let digest = manifest.digest();
        let response = created(&format!("/v2/{path}/manifests/{digest}")).header(DIGEST, digest.to_string());
        Ok(finished(response, Body::empty()))
    }

    /// Begins an upload, unless the blob is there: of whichever image it is, it is one of the overlay.
    fn begin(&self, path: &str, mount: Option<&str>) -> Answer {
        if let Some(digest) = mount.and_then(|digest| digest.parse::<Digest>().ok())
            && self.layout.blob(&digest)?.is_some()
        {
            let response = created(&format!("/v2/{path}/blobs/{digest}")).header(DIGEST, digest.to_string());
            return Ok(finished(response, Body::empty()));
        }
        let id = self.uploads.begin()?;
        Ok(finished(under_way(StatusCode::ACCEPTED, path, &id, 0), Body::empty()))
    }

    async fn upload(
        &self,
        method: &Method,
        path: &str,
        id: &str,
        (headers, digest): (&HeaderMap, Option<&str>),
        body: Body,
    ) -> Answer {
        let shared = self.uploads.find(id).ok_or_else(no_upload)?;
        let mut upload = shared.lock().await;
        let size = upload.as_ref().ok_or_else(no_upload)?.size;
        match *method {
            Method::GET => Ok(finished(under_way(StatusCode::NO_CONTENT, path, id, size), Body::empty())),
            Method::DELETE => {
                *upload = None;
                self.uploads.forget(id);
                Ok(finished(Response::builder().status(StatusCode::NO_CONTENT), Body::empty()))
            }
            Method::PATCH => {
                fits(headers, size)?;
                let size = self.append(&mut upload, id, body).await?;
                Ok(finished(under_way(StatusCode::ACCEPTED, path, id, size), Body::empty()))
            }
            Method::PUT => {
                fits(headers, size)?;
                let digest = digest.ok_or_else(|| refused("DIGEST_INVALID", "no digest is said"))?;
                let digest: Digest = digest.parse().map_err(|error| refused("DIGEST_INVALID", error))?;
                self.append(&mut upload, id, body).await?;
                let (file, found) = upload.take().ok_or_else(no_upload)?.finish();
                self.uploads.forget(id);
                if found != digest {
                    return Err(refused("DIGEST_INVALID", format_args!("what came has the digest `{found}`")));
                }
                self.layout.keep(file, &digest)?;
                let response = created(&format!("/v2/{path}/blobs/{digest}")).header(DIGEST, digest.to_string());
                Ok(finished(response, Body::empty()))
            }
            _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "an upload is not that".to_owned())),
        }
    }

    /// Takes what comes of a blob; how many bytes have come by then. What was cut off can be gone on with. After a fault of ours
    /// the upload is over: nobody could say where it ends.
    async fn append(&self, shared: &mut Option<Upload>, id: &str, body: Body) -> Result<u64, Refusal> {
        let upload = shared.as_mut().ok_or_else(no_upload)?;
        match upload.append(body).await {
            Ok(()) => Ok(upload.size),
            Err(Refused::Sender(error)) => Err(refused("BLOB_UPLOAD_INVALID", format_args!("{error:#}"))),
            Err(Refused::Own(error)) => {
                *shared = None;
                self.uploads.forget(id);
                Err(error.into())
            }
        }
    }
}

/// Whether what is sent goes on where `size` bytes have come.
fn fits(headers: &HeaderMap, size: u64) -> Result<(), Refusal> {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start: Option<u64> = range.and_then(|range| range.trim_start_matches("bytes ").split('-').next()?.parse().ok());
    match start {
        Some(start) if start != size => {
            let said = format!("{size} bytes have come, and this begins at {start}");
            Err(Refusal(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", said))
        }
        _ => Ok(()),
    }
}

fn refused(code: &'static str, reason: impl Display) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, code, reason.to_string())
}

fn not_found(reason: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "NOT_FOUND", reason.to_owned())
}

fn no_upload() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload".to_owned())
}

fn unauthorized(reason: &str) -> Refusal {
    Refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", reason.to_owned())
}

/// Why what is elsewhere could not be read. That a credential is needed there is said to whoever has not sent the password.
fn elsewhere_failed(error: &Error, caller: Caller) -> Refusal {
    match error {
        Error::Forbidden { .. } if caller != Caller::Owner => {
            unauthorized("its registry gives it to a credential alone, so it needs the password of this one")
        }
        Error::Forbidden { .. } => Refusal(StatusCode::FORBIDDEN, "DENIED", error.to_string()),
        _ => Refusal(StatusCode::BAD_GATEWAY, "UNKNOWN", error.to_string()),
    }
}

fn created(location: &str) -> Builder {
    Response::builder().status(StatusCode::CREATED).header(LOCATION, location)
}

/// How far an upload is.
fn under_way(status: StatusCode, path: &str, id: &str, size: u64) -> Builder {
    let response = Response::builder().status(status).header(LOCATION, format!("/v2/{path}/blobs/uploads/{id}"));
    response.header(RANGE, format!("0-{}", size.saturating_sub(1))).header("docker-upload-uuid", id)
}

fn of_json(value: &Value) -> Response {
    finished(Response::builder().header(CONTENT_TYPE, "application/json"), Body::from(value.to_string()))
}

fn of_manifest(manifest: &Manifest, is_head: bool) -> Response {
    let response = Response::builder().header(CONTENT_TYPE, manifest.media_type().as_str());
    let response =
        response.header(DIGEST, manifest.digest().to_string()).header(CONTENT_LENGTH, manifest.bytes().len());
    finished(response, if is_head { Body::empty() } else { Body::from(manifest.bytes().clone()) })
}

fn of_file(file: std::fs::File) -> Body {
    Body::from_stream(stream::try_unfold(tokio::fs::File::from_std(file), async |mut file| {
        let mut part = bytes::BytesMut::with_capacity(CHUNK);
        let length = file.read_buf(&mut part).await?;
        Ok::<_, std::io::Error>((length > 0).then(|| (part.freeze(), file)))
    }))
}

fn finished(response: Builder, body: Body) -> Response {
    let response = response.header("docker-distribution-api-version", "registry/2.0");
    response.body(body).expect("what is put together here is an answer")
}
