//! A registry with a client of ours, and the tools of others.

use std::path::Path;

use anyhow::{Context, Result};
use harness::{
    TempDir, base64,
    registry::{Debian, RegistryOptions, RegistryServer, Request, Tools, oci_image, oci_index},
};
use registry::{Client, ClientOptions, Manifest, Repository, Rule, Tag, Writable};

/// One registry of one version.
pub(crate) struct World {
    pub(crate) registry: RegistryServer,
    pub(crate) tools: Tools,
    pub(crate) client: Client,
    pub(crate) directory: TempDir,
}

/// One for each version of Debian's registry.
pub(crate) fn worlds() -> Result<Vec<World>> {
    Debian::ALL.into_iter().map(World::new).collect()
}

impl World {
    pub(crate) fn new(debian: Debian) -> Result<Self> {
        Self::of(RegistryServer::start(debian, RegistryOptions::default())?)
    }

    /// That of a registry which runs.
    pub(crate) fn of(registry: RegistryServer) -> Result<Self> {
        let client = Client::new(ClientOptions::default()).map_err(anyhow::Error::msg)?;
        Ok(Self { registry, tools: Tools::get()?, client, directory: TempDir::new()? })
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.registry.host()).parse().expect("a name of an image")
    }

    /// Pushes an image of two layers with skopeo.
    pub(crate) fn push(&self, path: &str, tag: &str, content: &str) -> Result<Manifest> {
        let oci = self.directory.path().join(format!("{}-{tag}", path.replace('/', "-")));
        let manifest = oci_image(&oci, content.as_bytes())?;
        self.tools.push(&oci, &format!("{}:{tag}", self.repository(path)))?;
        Ok(manifest)
    }

    /// Pushes an image for two platforms with skopeo.
    pub(crate) fn push_index(&self, path: &str, tag: &str, content: &str) -> Result<Manifest> {
        let oci = self.directory.path().join(format!("{}-{tag}", path.replace('/', "-")));
        let index = oci_index(&oci, content.as_bytes())?;
        self.tools.push(&oci, &format!("{}:{tag}", self.repository(path)))?;
        Ok(index)
    }

    /// Whether skopeo pulls all of an image, and with these bytes of its manifest.
    pub(crate) fn pulls(&self, path: &str, tag: &str, expected: &Manifest) -> Result<()> {
        let into = TempDir::new()?;
        self.tools.pull(&format!("{}:{tag}", self.repository(path)), into.path())?;
        let pulled = std::fs::read(into.path().join("manifest.json")).context("skopeo wrote no manifest")?;
        anyhow::ensure!(pulled == expected.bytes()[..], "skopeo pulled {}", String::from_utf8_lossy(&pulled));
        Ok(())
    }

    /// What the registry was asked by our client while something was done.
    pub(crate) async fn asked<T>(&self, work: impl Future<Output = T>) -> Result<(T, Vec<Request>)> {
        let before = self.registry.requests()?.len();
        let done = work.await;
        Ok((done, self.registry.requests()?.split_off(before)))
    }
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

/// A repository that may be written.
pub(crate) fn writable(repository: &Repository) -> Writable {
    let rule: Rule = r".*/acme/.*".parse().expect("an expression");
    Rule::permit(Some(&rule), repository).expect("it may be written")
}

/// The file that `docker login` would write, with this user and password for a registry.
pub(crate) fn auth_file(directory: &Path, host: &str, credential: &str) -> std::path::PathBuf {
    let file = directory.join("config.json");
    let auth = base64(credential.as_bytes());
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).expect("a file");
    file
}
