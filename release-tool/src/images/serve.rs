//! Running the registry of a buildset: over TLS, until it is dropped.
//!
//! All of it is in the directory `registry` of the overlay and goes with that: `images`, an image layout; `ca.pem`, by which its
//! certificate is trusted; `auth.json`, with the password, for its owner alone.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{Router, serve::Listener};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use registry::{Client, Host};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    answer::{Registry, answer},
    caller::{Secrets, USER},
    certificate,
    configure::{self, Tool},
    layout::Layout,
    name::Upstreams,
    through::Through,
    uploads::Uploads,
};
use crate::{
    builder::Builder,
    shared_files::{open_to_lock, write_private, write_public},
};

/// Connections that are greeted at the same time.
const MAX_GREETED: usize = 100;

/// The longest that a greeting may take.
const GREETING: Duration = Duration::from_secs(10);

/// A registry that runs; it ends when dropped.
pub(crate) struct Served {
    /// Where it is, as references have it.
    pub(crate) address: String,
    /// What its images and its files are in.
    directory: PathBuf,
    /// Its authority, in PEM.
    authority: String,
    /// The password as it is sent.
    auth: String,
    upstreams: Upstreams,
    tasks: [JoinHandle<()>; 2],
    /// Nobody else serves these images meanwhile.
    _lock: File,
}

/// How a registry is to be.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The registries that are read through.
    pub(crate) from: Vec<Host>,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// What reads those for whoever has the password.
    pub(crate) owner: Client,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Served {
    /// Starts one for the images of an overlay.
    pub(crate) async fn start(overlay: &Path, wanted: Wanted) -> Result<Self> {
        let Wanted { from, listen, owner } = wanted;
        let upstreams = Upstreams::new(from)?;
        let directory = overlay.join("registry");
        fs::create_dir_all(&directory).with_context(|| format!("could not make `{}`", directory.display()))?;
        let lock = open_to_lock(&directory.join("lock")).context("could not make the lock of the registry")?;
        let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        locked.with_context(|| format!("the images of `{}` are served already: end that first", overlay.display()))?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("could not listen on `{listen}`"))?;
        let listening = listener.local_addr()?;
        let host = match listening.ip() {
            ip if ip.is_unspecified() => Builder::find(|key| std::env::var(key).ok())?.host,
            ip => ip.to_string(),
        };
        let address = match (host.contains(':'), listening.port()) {
            (true, port) => format!("[{host}]:{port}"),
            (false, port) => format!("{host}:{port}"),
        };
        let names = [host.as_str(), "localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let certificate = certificate::make(&names)?;
        let secrets = Secrets::random()?;
        write_public(&directory.join("ca.pem"), &certificate.authority)?;
        let auth = STANDARD.encode(format!("{USER}:{}", secrets.password));
        let login = json!({ "auths": { &address: { "auth": &auth } } });
        write_private(&directory.join("auth.json"), &login.to_string())?;
        let registry = Registry {
            layout: Layout::open(&directory.join("images"))?,
            uploads: Uploads::new(&directory.join("uploads"))?,
            upstreams: upstreams.clone(),
            through: Through::new(owner)?,
            secrets,
        };
        let (greeted, connections) = mpsc::channel(MAX_GREETED);
        let greet = tokio::spawn(greet(listener, TlsAcceptor::from(certificate.server), greeted));
        let app = Router::new().fallback(answer).with_state(Arc::new(registry));
        let serve = tokio::spawn(async move {
            axum::serve(Greeted { connections, listening }, app).await.unwrap_or_default();
        });
        let authority = certificate.authority;
        Ok(Self { address, directory, authority, auth, upstreams, tasks: [greet, serve], _lock: lock })
    }

    /// Writes the configuration of a client; how it is used.
    pub(crate) fn configure(&self, tool: Tool) -> Result<String> {
        let registry = configure::Registry {
            address: &self.address,
            authority: &self.authority,
            auth_file: &self.directory.join("auth.json"),
            auth: &self.auth,
            upstreams: self.upstreams.all(),
        };
        tool.write(&registry, &self.directory.join("configure").join(tool.name()))
    }

    /// What a command is told of it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        let path = |name: &str| self.directory.join(name).display().to_string();
        [
            ("PUSH_REGISTRY", self.address.clone()),
            ("PUSH_REGISTRY_CA", path("ca.pem")),
            ("PUSH_REGISTRY_AUTH_FILE", path("auth.json")),
        ]
    }
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// Takes connections and greets them side by side: one that says nothing keeps no other waiting.
async fn greet(listener: TcpListener, acceptor: TlsAcceptor, greeted: mpsc::Sender<Connection>) {
    let free = Arc::new(Semaphore::new(MAX_GREETED));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let Ok((connection, from)) = listener.accept().await else {
            // Out of descriptors, mostly: they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, greeted) = (acceptor.clone(), greeted.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Ok(Ok(connection)) = timeout(GREETING, acceptor.accept(connection)).await {
                let _ = greeted.send((connection, from)).await;
            }
        });
    }
}

/// Connections that were greeted.
struct Greeted {
    connections: mpsc::Receiver<Connection>,
    listening: SocketAddr,
}

impl Listener for Greeted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.listening)
    }
}
