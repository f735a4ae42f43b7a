//! The connections of a process that listens: who may connect, how many may be open, and how long each may take.
//!
//! Whoever connects may hold a request back half sent. So each part of a request has a time limit ([`slot`]), and there
//! are never more connections than leave the process descriptors for its own work: when a new one comes and there is no
//! room, the one is closed that has kept us waiting longest.

mod slot;
mod watched;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, warn};

pub use self::slot::Bodies;
use self::{
    slot::{Phase, Slot},
    watched::{Answer, Question, Stream},
};

/// Descriptors that are kept for the bucket, the policy file and the journal.
const OWN_DESCRIPTORS: usize = 128;
/// Most connections, however many descriptors there are: each may take [`MAX_HEAD`] of memory.
const MAX_OPEN: usize = 2000;
/// Most bytes of a request's first line and headers: the first line of a choice of many servers is long.
const MAX_HEAD: usize = 128 << 10;
/// Pause after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That there are too many is said this often.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// How many connections may be open, by the process's limit of open files.
pub fn most_open() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(MAX_OPEN, most_of)
}

/// At least half of the descriptors are for connections.
fn most_of(limit: usize) -> usize {
    limit.saturating_sub(OWN_DESCRIPTORS).max(limit / 2).clamp(1, MAX_OPEN)
}

/// What is answered, and within which bounds.
#[derive(Debug)]
pub struct Service {
    /// What answers.
    pub router: Router,
    /// Most connections that are open.
    pub most: usize,
    /// What is sent to it.
    pub bodies: Bodies,
}

/// Answers at `listener` until `ending` turns true and what was begun is answered. Peers that aren't `admitted` are
/// disconnected without an answer; what the others then say is what `greet` makes of their connection, within the time for
/// the head of a request.
pub async fn serve<S, F>(
    listener: TcpListener,
    Service { router, most, bodies }: Service,
    admitted: impl Fn(IpAddr) -> bool,
    greet: impl Fn(TcpStream) -> F,
    mut ending: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let open = Arc::new(Open { most, bodies, slots: Mutex::default() });
    let mut tasks = JoinSet::new();
    let mut warned: Option<Instant> = None;
    for number in 0.. {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener, &mut tasks) => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        if !admitted(peer.ip().to_canonical()) {
            continue;
        }
        let (place, is_crowded) = open.enter(number);
        if is_crowded && warned.is_none_or(|warned| warned.elapsed() > WARN_EVERY) {
            warned = Some(Instant::now());
            warn!(open = most, peer = %peer.ip(), "too many connections: closing those that have waited longest");
        }
        if let Some(place) = place {
            tasks.spawn(carry(greet(stream), peer, router.clone(), place, ending.clone()));
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// A connection as it is, without encryption.
pub fn plain(stream: TcpStream) -> Ready<io::Result<TcpStream>> {
    ready(Ok(stream))
}

/// The next connection. Meanwhile the tasks of those that have ended are forgotten.
async fn accept(listener: &TcpListener, tasks: &mut JoinSet<()>) -> (TcpStream, SocketAddr) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // One that was gone before it was accepted, or no descriptor is free.
                    debug!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Carries one connection to its end.
async fn carry<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    greeted: impl Future<Output = io::Result<S>>,
    peer: SocketAddr,
    router: Router,
    place: Place,
    mut ending: watch::Receiver<bool>,
) {
    let slot = place.slot.clone();
    let mut over = pin!(slot.over());
    let greeted = tokio::select! {
        greeted = greeted => greeted,
        () = &mut over => return,
        _ = ending.wait_for(|ending| *ending) => return,
    };
    let stream = match greeted {
        Ok(stream) => TokioIo::new(Stream::new(stream, slot.clone())),
        Err(error) => return debug!(%error, peer = %peer.ip(), "a connection could not be greeted"),
    };
    let of_request = slot.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        answer(request, peer, of_request.clone(), router.clone())
    });
    let mut connection = pin!(http1::Builder::new().max_buf_size(MAX_HEAD).serve_connection(stream, service));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, peer = %peer.ip(), "a connection ended early");
                }
                return;
            }
            () = &mut over => return,
            _ = ending.wait_for(|ending| *ending), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    slot: Arc<Slot>,
    router: Router,
) -> Result<Response<Answer>, Infallible> {
    let mut request = Question::of(request, &slot).map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = TowerToHyperService::new(router).call(request).await?;
    slot.enter(Phase::Sending);
    Ok(response.map(|body| Answer::new(body, slot)))
}

/// The connections that are open.
#[derive(Debug)]
struct Open {
    most: usize,
    bodies: Bodies,
    slots: Mutex<BTreeMap<u64, Arc<Slot>>>,
}

impl Open {
    /// A place for a new connection, and whether there was none: then that connection is closed that has kept us waiting
    /// longest. No place if all of them are being answered.
    fn enter(self: &Arc<Self>, number: u64) -> (Option<Place>, bool) {
        let mut slots = self.slots();
        let is_crowded = slots.len() >= self.most;
        if is_crowded {
            let waiting = slots.iter().filter_map(|(number, slot)| Some((slot.waiting_since()?, *number)));
            let Some((_, longest)) = waiting.min() else { return (None, true) };
            slots.remove(&longest).inspect(|slot| slot.close());
        }
        let slot = Arc::new(Slot::new(self.bodies));
        slots.insert(number, slot.clone());
        (Some(Place { open: self.clone(), number, slot }), is_crowded)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the places; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    number: u64,
    slot: Arc<Slot>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.slots().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half";
    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    struct App {
        address: SocketAddr,
        ending: watch::Sender<bool>,
        tasks: JoinSet<()>,
    }

    async fn start(most: usize, admitted: fn(IpAddr) -> bool) -> App {
        start_for(Bodies::Short, most, admitted).await
    }

    async fn start_for(bodies: Bodies, most: usize, admitted: fn(IpAddr) -> bool) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "ok")).route("/push", post(async |body: String| body));
        let ending = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Service { router, most, bodies }, admitted, plain, ending.subscribe()));
        App { address, ending, tasks }
    }

    async fn send(address: SocketAddr, text: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream
    }

    /// What is answered until the connection is closed.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // One that is closed with something unread is reset.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn half_sent_requests_keep_nobody_out() {
        let app = start(8, |_| true).await;
        let mut half = Vec::new();
        for _ in 0..40 {
            half.push(send(app.address, HALF).await);
            half.push(
                send(app.address, b"POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab").await,
            );
            let answer = rest(send(app.address, WHOLE).await).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
        }
        // The first were closed for the last.
        assert_eq!(rest(half.swap_remove(0)).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_sent_in_time_is_closed() {
        let app = start(8, |_| true).await;
        let body: &[u8] = b"POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab";
        for (sent, least) in [(&b""[..], 10), (HALF, 10), (body, 60)] {
            let begun = Instant::now();
            assert_eq!(rest(send(app.address, sent).await).await, "");
            let seconds = begun.elapsed().as_secs();
            assert!((least..least + 6).contains(&seconds), "{} after {seconds} s", String::from_utf8_lossy(sent));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_body_may_take_its_time_as_long_as_something_comes() {
        let app = start_for(Bodies::Long, 8, |_| true).await;
        let head = "POST /push HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
        let mut stream = send(app.address, head.as_bytes()).await;
        for byte in b"12345678" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(40)).await;
        }
        assert!(rest(stream).await.ends_with("12345678"));
        let begun = Instant::now();
        assert_eq!(rest(send(app.address, head.as_bytes()).await).await, "");
        assert!((60..66).contains(&begun.elapsed().as_secs()));
    }

    #[tokio::test]
    async fn whoever_sends_what_is_refused_sees_why_however_long_it_is() {
        let app = start(8, |_| true).await;
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 67108864\r\n\r\n";
        let mut stream = send(app.address, head.as_bytes()).await;
        for _ in 0..64 {
            stream.write_all(&vec![1; 1 << 20]).await.expect("it goes on being read");
        }
        assert!(rest(stream).await.starts_with("HTTP/1.1 405"));
        // What waits to be asked for its body is not asked.
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        let answer = rest(send(app.address, head.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_not_read_for_ever() {
        let app = start_for(Bodies::Long, 8, |_| true).await;
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108864\r\n\r\n";
        let mut stream = send(app.address, head.as_bytes()).await;
        let begun = Instant::now();
        while stream.write_all(b"1").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_peer_that_may_not_connect_gets_no_answer() {
        let app = start(8, |_| false).await;
        assert_eq!(rest(send(app.address, WHOLE).await).await, "");
    }

    #[tokio::test]
    async fn the_end_waits_for_a_request_that_was_begun() {
        let mut app = start(8, |_| true).await;
        let head = b"POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab";
        let mut begun = send(app.address, head).await;
        let idle = send(app.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        // Both were accepted before it ends, because this one is answered.
        assert!(rest(send(app.address, WHOLE).await).await.ends_with("ok"));
        app.ending.send_replace(true);
        assert!(rest(idle).await.ends_with("ok"));
        begun.write_all(b"cd").await.unwrap();
        assert!(rest(begun).await.ends_with("abcd"));
        assert!(app.tasks.join_next().await.unwrap().is_ok());
    }

    #[test]
    fn descriptors_are_left_for_the_bucket() {
        for (limit, most) in [(0, 1), (64, 32), (200, 100), (1024, 896), (1 << 20, MAX_OPEN)] {
            assert_eq!(most_of(limit), most, "{limit}");
        }
    }
}
