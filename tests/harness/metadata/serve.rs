//! The wire: requests in, answers and misbehaviour out.

use std::{collections::BTreeMap, io, pin::pin, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    state::{Fault, Received, State},
    tree,
};

const PREFIX: &str = "/computeMetadata/v1/";
const TOKEN: &str = "instance/service-accounts/default/token";
const PAGE: &str = "<!DOCTYPE html>\n<html lang=en>\n<title>Error</title>\n<p>Your client has issued an error.\n";

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// Serves until aborted; all connections end with it.
pub(super) async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        state.send_modify(|state| state.seen.connections += 1);
        connections.spawn(connection(stream, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, state: Arc<watch::Sender<State>>) {
    // A client that goes away isn't the server's trouble.
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = read(&mut stream).await {
        let mut fault = None;
        state.send_modify(|state| {
            state.seen.requests.push(request.clone());
            fault = take_fault(state, &request.path);
        });
        match respond(&mut stream, &state, &request, fault).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

fn take_fault(state: &mut State, path: &str) -> Option<Fault> {
    let index = state.rules.iter().position(|rule| path.starts_with(&rule.path))?;
    let rule = &mut state.rules[index];
    let fault = rule.fault.clone();
    if let Some(left) = &mut rule.left {
        *left -= 1;
        if *left == 0 {
            state.rules.remove(index);
        }
    }
    Some(fault)
}

/// One request's line and headers; metadata requests have no body. `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Received>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Ok(Some(Received { path: path.strip_prefix(PREFIX).unwrap_or(path).to_owned(), query, headers }))
}

/// Answers, and says whether the connection can be used again.
async fn respond(
    stream: &mut BufReader<TcpStream>,
    state: &watch::Sender<State>,
    request: &Received,
    fault: Option<Fault>,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::NeverAnswers) => return hang(stream, state, std::future::pending()).await.map(|()| false),
        Some(Fault::Reset) => {
            // With a linger of zero, closing sends RST instead of FIN (socket(7)).
            stream.get_ref().set_zero_linger()?;
            return Ok(false);
        }
        _ => {}
    }
    if fault != Some(Fault::DoesntWait) && request.headers.get("metadata-flavor").is_some_and(|it| it == "Google") {
        hang(stream, state, change(state, request)).await?;
    }
    let mut answer = answer(state, request);
    match &fault {
        Some(Fault::Status(status, retry_after)) => {
            answer = error(*status);
            answer.headers.extend(retry_after.map(|value| ("Retry-After", value.to_owned())));
        }
        Some(Fault::Html) => PAGE.clone_into(&mut answer.body),
        Some(Fault::NoFlavor) => answer.headers.retain(|(name, _)| *name != "Metadata-Flavor"),
        Some(Fault::ForgedFlavor) => "Goggle".clone_into(&mut answer.headers[0].1),
        Some(Fault::NoEtag) => answer.headers.retain(|(name, _)| *name != "ETag"),
        Some(Fault::Redirect(to)) => {
            answer = error(302);
            answer.headers.push(("Location", to.clone()));
        }
        _ => {}
    }
    let head = head(&answer, fault.as_ref());
    let stream = stream.get_mut();
    match fault {
        Some(Fault::Slow(pause)) => {
            for byte in head.bytes().chain(answer.body.bytes()) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
            Ok(true)
        }
        Some(Fault::Torn) => {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&answer.body.as_bytes()[..answer.body.len() / 2]).await?;
            stream.flush().await?;
            Ok(false)
        }
        Some(Fault::Endless) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(&[b' '; 8192]).await?;
            }
        }
        _ => {
            stream.write_all((head + &answer.body).as_bytes()).await?;
            Ok(true)
        }
    }
}

/// Waits for `what`, counted as hanging, but no longer than the client does.
async fn hang(
    stream: &mut BufReader<TcpStream>,
    state: &watch::Sender<State>,
    what: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut what = pin!(what);
    if futures_util::poll!(&mut what).is_ready() {
        return Ok(());
    }
    state.send_modify(|state| state.seen.hanging += 1);
    let gone = tokio::select! {
        () = &mut what => false,
        read = stream.fill_buf() => !read.is_ok_and(|bytes| !bytes.is_empty()),
    };
    state.send_modify(|state| state.seen.hanging -= 1);
    if gone { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

/// Waits as `wait_for_change`, `last_etag` and `timeout_sec` say. What isn't there is answered at once.
async fn change(state: &watch::Sender<State>, request: &Received) {
    let query = &request.query;
    if query.get("wait_for_change").is_none_or(|wait| wait != "true") {
        return;
    }
    let etag = |state: &State| tree::find(state, &request.path).map(|node| node.etag(state));
    let mut states = state.subscribe();
    let before = query.get("last_etag").cloned().or_else(|| etag(&states.borrow()));
    let changed = states.wait_for(|state| etag(state) != before);
    match query.get("timeout_sec").and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => drop(timeout(Duration::from_secs(seconds), changed).await),
        None => drop(changed.await),
    }
}

fn answer(state: &watch::Sender<State>, request: &Received) -> Answer {
    if request.headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google")
        || request.headers.contains_key("x-forwarded-for")
    {
        return error(403);
    }
    if request.path == TOKEN {
        return token(state);
    }
    let state = state.borrow();
    let Some(node) = tree::find(&state, &request.path) else { return error(404) };
    if matches!(node, tree::Node::Directory(..)) && !request.path.is_empty() && !request.path.ends_with('/') {
        let mut moved = error(301);
        moved.headers.push(("Location", format!("{PREFIX}{}/", request.path)));
        return moved;
    }
    let is = |key: &str, value: &str| request.query.get(key).is_some_and(|it| it.eq_ignore_ascii_case(value));
    let (content_type, body) = node.write(is("recursive", "true"), is("alt", "json"));
    let mut answer = Answer { status: 200, headers: flavor(content_type), body };
    answer.headers.push(("ETag", node.etag(&state)));
    answer
}

fn token(state: &watch::Sender<State>) -> Answer {
    let mut body = String::new();
    state.send_modify(|state| {
        state.seen.tokens += 1;
        body = json!({
            "access_token": format!("ya29.fake-{}", state.seen.tokens),
            "expires_in": state.token_lifetime.as_secs(),
            "token_type": "Bearer",
        })
        .to_string();
    });
    Answer { status: 200, headers: flavor("application/json"), body }
}

fn error(status: u16) -> Answer {
    Answer { status, headers: flavor("text/html; charset=UTF-8"), body: PAGE.to_owned() }
}

fn flavor(content_type: &'static str) -> Vec<(&'static str, String)> {
    vec![("Metadata-Flavor", "Google".to_owned()), ("Content-Type", content_type.to_owned())]
}

fn head(answer: &Answer, fault: Option<&Fault>) -> String {
    let mut head = format!("HTTP/1.1 {} -\r\nServer: Metadata Server for VM\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if fault != Some(&Fault::Endless) {
        head.extend(["Content-Length: ", &answer.body.len().to_string(), "\r\n"]);
    }
    head.push_str("\r\n");
    head
}
