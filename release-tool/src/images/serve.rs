//! Running the registry of a buildset: over TLS, until it is dropped.
//!
//! All of it is in the directory `registry` of the overlay and goes with that: `images`, an image layout; `ca.pem`, by which its
//! certificate is trusted; `auth.json`, with the password, for its owner alone; `from`, the registries that it reads through.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use connections::{Bodies, Service, most_open, serve};
use registry::{Client, Host};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

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
    shared_files::{open_to_lock, open_to_read, write_private, write_public},
};

/// Most bytes of the names of registries.
const MAX_NAMES: u64 = 64 << 10;

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
    task: JoinHandle<()>,
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
        self.task.abort();
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
        let layout = Layout::open(&directory.join("images"))?;
        keep_names(&directory.join("from"), &upstreams, &layout)?;
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
            layout,
            uploads: Uploads::new(&directory.join("uploads"))?,
            upstreams: upstreams.clone(),
            through: Through::new(owner)?,
            secrets,
        };
        let acceptor = TlsAcceptor::from(certificate.server);
        let router = Router::new().fallback(answer).with_state(Arc::new(registry));
        let service = Service { router, most: most_open(), bodies: Bodies::Long };
        let task = tokio::spawn(async move {
            // It ends when it is aborted, with all that is under way.
            let (_ending, ends) = watch::channel(false);
            serve(listener, service, |_| true, |stream| acceptor.accept(stream), ends).await;
        });
        let authority = certificate.authority;
        Ok(Self { address, directory, authority, auth, upstreams, task, _lock: lock })
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

/// Notes which registries are read through, the first for names that say none: what was pushed is called by that, and would be
/// another image by other names.
fn keep_names(file: &Path, upstreams: &Upstreams, layout: &Layout) -> Result<()> {
    let now: Vec<&str> = upstreams.all().iter().map(Host::as_str).collect();
    let mut text = String::new();
    match open_to_read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => {
            let read = opened.and_then(|opened| opened.take(MAX_NAMES).read_to_string(&mut text));
            read.with_context(|| format!("could not read `{}`", file.display()))?;
            let before: Vec<&str> = text.lines().collect();
            let is_same = before.first() == now.first() && before.iter().all(|host| now.contains(host));
            if !is_same && !layout.is_empty()? {
                let said: Vec<String> = before.iter().map(|host| format!("--from {host}")).collect();
                let with =
                    if said.is_empty() { "without `--from`".to_owned() } else { format!("with `{}`", said.join(" ")) };
                bail!(
                    "its images are called by the registries that it was started with before, and would not be found: start it {with}"
                );
            }
        }
    }
    write_public(file, &now.join("\n"))
}
