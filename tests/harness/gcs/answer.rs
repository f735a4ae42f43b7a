//! The wire: which request is which, answers and misbehaviour.

use std::{
    io,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request as HttpRequest, State as Extract},
    http::{Method, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::TcpListener;

use super::{
    address::{Copy, decode},
    reply::{empty, json_answer, plain, refuse, text},
    rewrite, rights,
    state::{Fault, Kind, Request, Shared, lock},
    store::{Query, Stored},
    upload,
};
use crate::base64::base64;

/// How much of a body is sent at a time, in bytes.
const PIECE: usize = 64 << 10;

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, state: Shared) {
    let app = Router::new().fallback(dated).with_state(state);
    axum::serve(listener, app).await.expect("serving ends only with the runtime");
}

/// The answer with the date of the fake's clock.
async fn dated(state: Extract<Shared>, request: HttpRequest) -> Response {
    let clock = state.0.clone();
    let mut answer = handle(state, request).await;
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&lock(&clock).store.now());
    answer.headers_mut().extend(date.ok().and_then(|date| Some((header::DATE, date.parse().ok()?))));
    answer
}

async fn handle(Extract(state): Extract<Shared>, request: HttpRequest) -> Response {
    let Some((kind, bucket, object, query)) = route(&request) else {
        return refuse(404, "Not Found");
    };
    let range = text(request.headers(), "range");
    let authorization = text(request.headers(), "authorization");
    let seen = Request {
        kind,
        bucket: bucket.clone(),
        object: object.clone(),
        query: query.clone(),
        range: range.clone(),
        authorization: authorization.clone(),
        at: Instant::now(),
        status: 0,
    };
    // An upload's question how far it got.
    let question = text(request.headers(), "content-range").is_some_and(|range| range.starts_with("bytes */"));
    let (index, fault, token) = {
        let mut state = lock(&state);
        let fault = state.take_fault(&seen, question);
        state.requests.push(seen);
        (state.requests.len() - 1, fault, state.token.clone())
    };
    match &fault {
        Some(Fault::Reset) => return broken(),
        Some(Fault::NeverAnswer) => std::future::pending().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let refused = match &fault {
        Some(Fault::Status(status, after)) => {
            let mut answer = refuse(*status, "a fault was asked for");
            answer.headers_mut().extend(after.map(|after| (header::RETRY_AFTER, after.into())));
            Some(answer)
        }
        Some(Fault::Html(status)) => {
            Some(plain(*status, "<!DOCTYPE html>\n<html lang=en>\n<title>Error</title>\n<p>Not what you asked for.\n"))
        }
        Some(Fault::Text(status, text)) => Some(plain(*status, text)),
        _ if token.is_some_and(|token| authorization != Some(format!("Bearer {token}"))) => {
            Some(refuse(401, "Invalid Credentials"))
        }
        _ => {
            let asked = (kind, bucket.as_str(), object.as_str(), &query);
            rights::refused(&state, asked, request.uri().path(), authorization.as_deref())
                .map(|(status, message)| refuse(status, &message))
        }
    };
    if let Some(answer) = refused {
        // Read to its end: else the connection is closed after the answer, and whoever uses it next finds it so.
        let mut body = request.into_body().into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
        note(&state, index, &answer);
        return answer;
    }
    let answer = match kind {
        Kind::Get => match lock(&state).store.get(&bucket, &object, &wanted(&query, fault.as_ref())) {
            Ok(object) => Ok(media(object, range.as_deref(), fault.as_ref())),
            Err(refusal) => Err(refusal),
        },
        Kind::Head => {
            let fields = query.get("fields").map(String::as_str);
            lock(&state).store.get(&bucket, &object, &query).map(|object| json_answer(&object.to_json(&bucket, fields)))
        }
        Kind::List => lock(&state).store.list(&bucket, &query).map(|page| json_answer(&page)),
        Kind::Rewrite => rewrite::rewrite(&state, &bucket, &query, request, fault.as_ref()).await,
        Kind::Delete => lock(&state).store.delete(&bucket, &object, &query).map(|()| empty(204)),
        Kind::Insert => upload::insert(&state, &bucket, &object, &query, request).await,
        Kind::Chunk => upload::chunk(&state, &query, request, fault.as_ref()).await,
    };
    let answer = answer.unwrap_or_else(|(status, message)| match kind {
        // Media requests are answered in plain text.
        Kind::Get => plain(status, &message),
        _ => refuse(status, &message),
    });
    note(&state, index, &answer);
    match fault {
        Some(Fault::LoseAnswer) => broken(),
        Some(Fault::KeepAnswer) => std::future::pending().await,
        Some(Fault::Cut(_)) if kind == Kind::Chunk => broken(),
        _ => answer,
    }
}

fn note(state: &Shared, index: usize, answer: &Response) {
    lock(state).requests[index].status = answer.status().as_u16();
}

/// What a request is for: kind, bucket, object or prefix, query.
fn route(request: &HttpRequest) -> Option<(Kind, String, String, Query)> {
    let query: Query =
        url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()).into_owned().collect();
    let path = request.uri().path();
    let upload = path.strip_prefix("/upload");
    let rest = upload.unwrap_or(path).strip_prefix("/storage/v1/b/")?;
    let (bucket, rest) = rest.split_once("/o")?;
    let bucket = decode(bucket)?;
    let of = |key: &str| query.get(key).cloned().unwrap_or_default();
    let (kind, object) = match (request.method(), upload.is_some(), rest.strip_prefix('/')) {
        (&Method::POST, true, None) => (Kind::Insert, of("name")),
        (&Method::POST, false, Some(copy)) => (Kind::Rewrite, Copy::parse(copy)?.to),
        (&Method::PUT, true, None) => (Kind::Chunk, of("name")),
        (&Method::GET, false, None) => (Kind::List, of("prefix")),
        (&Method::GET, false, Some(name)) if of("alt") == "media" => (Kind::Get, decode(name)?),
        (&Method::GET, false, Some(name)) => (Kind::Head, decode(name)?),
        (&Method::DELETE, false, Some(name)) => (Kind::Delete, decode(name)?),
        _ => return None,
    };
    Some((kind, bucket, object, query))
}

/// The query as the server takes it.
fn wanted(query: &Query, fault: Option<&Fault>) -> Query {
    let mut query = query.clone();
    if fault == Some(&Fault::IgnoreGeneration) {
        query.remove("generation");
    }
    query
}

/// The content of an object, or a range of it.
fn media(object: &Stored, range: Option<&str>, fault: Option<&Fault>) -> Response {
    let size = object.content.len();
    let asked = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let asked = asked.filter(|_| fault != Some(&Fault::IgnoreRange));
    let (start, end) = match asked {
        None => (0, size),
        Some((start, end)) => {
            let start = start.parse().unwrap_or(0);
            (start, end.parse::<usize>().map_or(size, |end| size.min(end + 1)))
        }
    };
    if asked.is_some() && start >= size {
        return plain(416, "The requested range cannot be satisfied.");
    }
    let mut content = object.content.slice(start..end);
    let mut shown = (start, end);
    match fault {
        Some(Fault::WrongBytes) => {
            let mut wrong = content.to_vec();
            wrong[0] ^= 1;
            content = wrong.into();
        }
        Some(Fault::Shorter(by)) => content.truncate(content.len().saturating_sub(*by)),
        Some(Fault::Longer(by)) => content = [&content[..], &vec![b'+'; *by]].concat().into(),
        Some(Fault::WrongRange) => {
            content.truncate(content.len() - 1);
            shown.0 += 1;
        }
        _ => {}
    }
    let mut answer = Response::builder()
        .status(if asked.is_some() { 206 } else { 200 })
        .header(header::CONTENT_LENGTH, content.len())
        .header(header::CONTENT_TYPE, &object.content_type)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, object.etag())
        .header("x-goog-generation", object.generation)
        .header("x-goog-metageneration", 1)
        .header("x-goog-storage-class", "STANDARD")
        .header("x-goog-stored-content-length", size);
    // Of what is stored, also when something else is sent.
    let crc32c = |crc32c: u32| format!("crc32c={}", base64(&crc32c.to_be_bytes()));
    answer = match fault {
        Some(Fault::Unpacked) => answer
            .header("x-goog-hash", crc32c(!object.crc32c))
            .header("x-goog-stored-content-encoding", "gzip")
            .header(header::WARNING, "214 UploadServer gunzipped"),
        Some(Fault::Packed) => answer
            .header("x-goog-hash", crc32c(object.crc32c))
            .header("x-goog-stored-content-encoding", "gzip")
            .header(header::CONTENT_ENCODING, "gzip"),
        _ => answer.header("x-goog-hash", crc32c(object.crc32c)).header("x-goog-stored-content-encoding", "identity"),
    };
    if asked.is_some() {
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", shown.0, shown.1 - 1));
    }
    for (key, value) in object.metadata().iter().filter(|(_, value)| value.bytes().all(|b| (0x20..0x7f).contains(&b))) {
        answer = answer.header(format!("x-goog-meta-{}", key.to_ascii_lowercase()), value);
    }
    answer.body(body(content, fault)).expect("a stored object makes a response")
}

/// A body in pieces, so that it can end early.
fn body(content: Bytes, fault: Option<&Fault>) -> Body {
    let (until, stall) = match fault {
        Some(Fault::Cut(after)) => (*after, false),
        Some(Fault::Stall(after)) => (*after, true),
        _ => return Body::from(content),
    };
    let until = usize::try_from(until).unwrap_or(usize::MAX).min(content.len());
    Body::from_stream(stream::unfold(0, move |at| {
        let content = content.clone();
        async move {
            if at < until {
                let end = until.min(at + PIECE);
                // What was sent must have left before the connection is closed, or it is lost with it.
                tokio::time::sleep(Duration::from_millis(1)).await;
                return Some((Ok(content.slice(at..end)), end));
            }
            if stall {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Err(io::Error::other("cut")), at))
        }
    }))
}

/// An answer that breaks off before it begins.
fn broken() -> Response {
    let nothing = stream::once(async { Err::<Bytes, _>(io::Error::other("broken")) });
    let mut answer = Response::new(Body::from_stream(nothing));
    answer.headers_mut().insert(header::CONTENT_LENGTH, 1.into());
    answer
}
