//! Uploads: the whole object in one request, or in pieces that can be taken up again.

use std::collections::BTreeMap;

use axum::{
    body::{Body, to_bytes},
    extract::Request as HttpRequest,
    http::{HeaderValue, header},
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

use super::{
    reply::{Answer, empty, json_answer, text},
    state::{Fault, Shared, lock},
    store::{Query, Refusal, Session},
};
use crate::base64::base64;

/// The longest body that is taken, in bytes.
const LIMIT: usize = 1 << 30;

/// Resumable uploads are kept in multiples of this, except at their end, as Google keeps them.
const QUANTUM: usize = 256 << 10;

/// What a request says of the object that it makes.
#[derive(Debug, Default)]
pub(super) struct Resource {
    name: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) content_type: Option<String>,
    crc32c: Option<String>,
}

impl Resource {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let json: Value = match json {
            [] => Value::Null,
            json => serde_json::from_slice(json).map_err(|e| (400, format!("Parse Error: {e}")))?,
        };
        let of = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let pairs = json.get("metadata").and_then(Value::as_object).into_iter().flatten();
        let metadata = pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        Ok(Self { name: of("name"), metadata, content_type: of("contentType"), crc32c: of("crc32c") })
    }
}

/// `uploadType=multipart`, or the beginning of `uploadType=resumable`.
pub(super) async fn insert(state: &Shared, bucket: &str, name: &str, query: &Query, request: HttpRequest) -> Answer {
    let kind = text(request.headers(), "content-type").unwrap_or_default();
    let media_type = text(request.headers(), "x-upload-content-type");
    let body = to_bytes(request.into_body(), LIMIT).await.map_err(|e| (400, e.to_string()))?;
    if query.get("uploadType").map(String::as_str) == Some("resumable") {
        let Resource { name: named, metadata, content_type, crc32c } = Resource::parse(&body)?;
        let name = named.filter(|_| name.is_empty()).unwrap_or_else(|| name.to_owned());
        let mut state = lock(state);
        state.store.may_put(bucket, &name, query)?;
        let id = format!("upload-{}", state.store.sessions.len() + 1);
        let address = state.address.clone();
        let url = format!("http://{address}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}");
        let content_type = content_type.or(media_type).unwrap_or_else(|| "application/octet-stream".to_owned());
        let session = Session {
            bucket: bucket.to_owned(),
            name,
            query: query.clone(),
            metadata,
            content_type,
            crc32c,
            content: Vec::new(),
            done: None,
        };
        state.store.sessions.insert(id, session);
        let mut answer = empty(200);
        answer.headers_mut().insert(header::LOCATION, HeaderValue::try_from(url).expect("a URL is a header's value"));
        return Ok(answer);
    }
    let boundary = kind.split("boundary=").nth(1).map(|text| text.trim_matches('"').to_owned());
    let boundary = boundary.ok_or_else(|| (400, "no multipart boundary".to_owned()))?;
    let parts = split(&body, &boundary).ok_or_else(|| (400, "malformed multipart body".to_owned()))?;
    let [(_, first), (media_headers, media), rest @ ..] = &parts[..] else {
        return Err((400, "a multipart upload has two parts or three".to_owned()));
    };
    let mut resource = Resource::parse(first)?;
    if let Some((_, trailer)) = rest.first() {
        resource.crc32c = Resource::parse(trailer)?.crc32c.or(resource.crc32c);
    }
    verify(media, resource.crc32c.as_deref())?;
    let name = resource.name.filter(|_| name.is_empty()).unwrap_or_else(|| name.to_owned());
    // The media part may lack a type of its own.
    let content_type = resource.content_type.or_else(|| part_type(media_headers));
    let content_type = content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    let stored = lock(state).store.put(bucket, &name, media.clone(), resource.metadata, content_type, query)?;
    Ok(json_answer(&stored.to_json(bucket, None)))
}

/// A piece of a resumable upload, or `bytes */*`: how far did it get? By a fault, only a part of it arrives or is kept.
pub(super) async fn chunk(state: &Shared, query: &Query, request: HttpRequest, fault: Option<&Fault>) -> Answer {
    let id = query.get("upload_id").cloned().unwrap_or_default();
    let range = text(request.headers(), "content-range").unwrap_or_default();
    let (begin, total) = parse_range(&range).ok_or_else(|| (400, format!("malformed Content-Range: {range}")))?;
    let cut = match fault {
        Some(Fault::Cut(after)) => usize::try_from(*after).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let (mut arrived, mut whole) = receive(request.into_body(), cut).await;
    if fault == Some(&Fault::Forget) {
        (arrived, whole) = (Vec::new(), false);
    }
    let mut state = lock(state);
    let session = state.store.sessions.get_mut(&id).ok_or_else(|| (404, "No such upload".to_owned()))?;
    if let Some(done) = &session.done {
        return Ok(json_answer(&done.to_json(&session.bucket, None)));
    }
    if let Some(begin) = begin {
        if begin > session.content.len() {
            return Err((503, format!("{} bytes are here, these begin at {begin}", session.content.len())));
        }
        session.content.truncate(begin);
        session.content.extend_from_slice(&arrived);
    }
    let complete = match total {
        Some(total) => session.content.len() == total,
        None => begin.is_some() && whole && range.ends_with("-*/*"),
    };
    if !complete {
        session.content.truncate(session.content.len() / QUANTUM * QUANTUM);
        let mut answer = empty(308);
        if let Some(last) = session.content.len().checked_sub(1) {
            let range = HeaderValue::try_from(format!("bytes=0-{last}")).expect("digits are a header's value");
            answer.headers_mut().insert(header::RANGE, range);
        }
        return Ok(answer);
    }
    verify(&session.content, session.crc32c.as_deref())?;
    let Session { bucket, name, query, metadata, content_type, .. } = session.clone();
    let content = Bytes::from(std::mem::take(&mut session.content));
    let stored = state.store.put(&bucket, &name, content, metadata, content_type, &query)?;
    let answer = json_answer(&stored.to_json(&bucket, None));
    if let Some(session) = state.store.sessions.get_mut(&id) {
        session.done = Some(stored);
    }
    Ok(answer)
}

/// What arrives of a body before it ends, breaks off or is cut, and whether it was all.
async fn receive(body: Body, cut: usize) -> (Vec<u8>, bool) {
    let mut arrived = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else { return (arrived, false) };
        arrived.extend_from_slice(&piece);
        if arrived.len() >= cut {
            arrived.truncate(cut);
            return (arrived, false);
        }
    }
    (arrived, true)
}

/// `bytes BEGIN-END/TOTAL`, `*` for what isn't known: where it begins, and the whole object's size.
fn parse_range(range: &str) -> Option<(Option<usize>, Option<usize>)> {
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let begin = match span.split_once('-') {
        Some((begin, _)) => Some(begin.parse().ok()?),
        // `bytes */0` is the whole of an empty object, any other `*` a question.
        None => (total == Some(0)).then_some(0),
    };
    Some((begin, total))
}

fn verify(content: &[u8], crc32c: Option<&str>) -> Result<(), Refusal> {
    let right = base64(&crc32c::crc32c(content).to_be_bytes());
    match crc32c {
        Some(said) if said != right => Err((400, format!("Provided CRC32C \"{said}\" doesn't match \"{right}\""))),
        _ => Ok(()),
    }
}

/// The parts of a multipart body: headers and content (RFC 2046 §5.1).
fn split(body: &Bytes, boundary: &str) -> Option<Vec<(String, Bytes)>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut at = find(body, &delimiter.as_bytes()[2..], 0)? + delimiter.len() - 2;
    let mut parts = Vec::new();
    while !body[at..].starts_with(b"--") {
        let headers = at + b"\r\n".len();
        // A part without headers begins with the empty line at once.
        let blank = find(body, b"\r\n\r\n", at)?;
        let content = blank + b"\r\n\r\n".len();
        let end = find(body, delimiter.as_bytes(), content)?;
        let headers = String::from_utf8_lossy(body.get(headers..blank).unwrap_or_default()).into_owned();
        parts.push((headers, body.slice(content..end)));
        at = end + delimiter.len();
    }
    Some(parts)
}

fn part_type(headers: &str) -> Option<String> {
    let line = headers.lines().find(|line| line.to_ascii_lowercase().starts_with("content-type:"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    body.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}
