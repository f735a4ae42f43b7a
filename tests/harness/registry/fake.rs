//! A registry, or a token server, that answers whatever a test wants, and remembers what it was asked.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, Response},
    serve::Listener,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::authority::Authority;
use crate::background::Background;

/// What it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// With the query.
    pub path: String,
    /// The credential that came with it.
    pub authorization: Option<String>,
    /// The media types that are taken.
    pub accept: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: Background,
}

impl Answer {
    /// One without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// With one header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl FakeRegistry {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let (asked, app) = routed(answer);
        let server = Background::start(|listener, _| async move {
            axum::serve(listener, app).await.unwrap_or_default();
        });
        Self { address: server.address(), asked, _server: server }
    }

    /// Starts one that speaks TLS, on a free port of `address`, with a certificate that `authority` has signed for it.
    ///
    /// # Errors
    /// When there can be no such certificate.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn over_tls(
        address: Ipv4Addr,
        authority: &Authority,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let acceptor = TlsAcceptor::from(authority.server(&address.to_string())?);
        let (asked, app) = routed(answer);
        let server = Background::start_at(address, |listener, _| async move {
            axum::serve(OverTls { listener, acceptor }, app).await.unwrap_or_default();
        });
        Ok(Self { address: server.address(), asked, _server: server })
    }

    /// Where it is, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Connections whose handshake succeeded.
struct OverTls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for OverTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, peer)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What serves such answers, and what it was asked.
fn routed(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Arc<Mutex<Vec<Asked>>>, Router) {
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let state: Shared = (asked.clone(), Arc::new(answer));
    (asked, Router::new().fallback(serve).with_state(state))
}

type Shared = (Arc<Mutex<Vec<Asked>>>, Arc<dyn Fn(&Asked) -> Answer + Send + Sync>);

async fn serve(State((asked, answer)): State<Shared>, request: Request<Body>) -> Response<Body> {
    let (request, body) = request.into_parts();
    // Who is answered before all of it came might not see the answer.
    let _ = to_bytes(body, usize::MAX).await;
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let one = Asked {
        method: request.method.to_string(),
        path: request.uri.to_string(),
        authorization: header("authorization"),
        accept: header("accept"),
    };
    let Answer { status, headers, body } = answer(&one);
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    let response = Response::builder().status(status);
    let response = headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
    response.body(Body::from(body)).expect("an answer of a test is one")
}
