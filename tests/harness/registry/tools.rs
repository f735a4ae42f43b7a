//! What others push and pull images with, and images to push.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use registry::{Descriptor, Digest, Manifest, ManifestType, MediaType, Platform};
use serde_json::json;

use super::packages::Debian;
use crate::{
    Output, TempDir, command,
    registry::{PASSWORD, USER},
};

/// Longest time for one command.
const PATIENCE: Duration = Duration::from_mins(1);

/// skopeo and umoci, with the libraries that they need.
#[derive(Debug)]
pub struct Tools {
    root: PathBuf,
    home: TempDir,
}

impl Tools {
    /// Those of Debian 12, whichever this machine is.
    ///
    /// # Errors
    /// When their packages can't be had: nothing is skipped.
    pub fn get() -> Result<Self> {
        let packages = ["skopeo", "umoci", "libgpgme11", "libassuan0", "libdevmapper1.02.1"];
        Ok(Self { root: Debian::Twelve.unpacked(&packages)?, home: TempDir::new()? })
    }

    /// Runs skopeo, for registries without TLS.
    ///
    /// # Errors
    /// When it can't be run; that it failed is in what is returned.
    pub fn skopeo(&self, arguments: &[&str]) -> Result<Output> {
        let mut skopeo = self.command("skopeo");
        skopeo.arg("--insecure-policy").args(arguments);
        command::run(skopeo, &format!("skopeo {}", arguments.join(" ")), b"", PATIENCE)
    }

    /// Runs umoci.
    ///
    /// # Errors
    /// When it can't be run; that it failed is in what is returned.
    pub fn umoci(&self, arguments: &[&str]) -> Result<Output> {
        let mut umoci = self.command("umoci");
        umoci.args(arguments);
        command::run(umoci, &format!("umoci {}", arguments.join(" ")), b"", PATIENCE)
    }

    /// Pushes all of an image that lies in a directory to a registry, logged in as [`USER`].
    ///
    /// # Errors
    /// When skopeo fails, with all that it printed.
    pub fn push(&self, oci: &Path, to: &str) -> Result<()> {
        let (from, to) = (format!("oci:{}", oci.display()), format!("docker://{to}"));
        let credential = format!("{USER}:{PASSWORD}");
        let arguments = ["copy", "--all", "--dest-tls-verify=false", "--dest-creds", &credential, &from, &to];
        self.skopeo(&arguments)?.ok().map(drop)
    }

    /// Pulls all of an image into a directory.
    ///
    /// # Errors
    /// When skopeo fails, with all that it printed.
    pub fn pull(&self, from: &str, into: &Path) -> Result<()> {
        let (from, into) = (format!("docker://{from}"), format!("dir:{}", into.display()));
        self.skopeo(&["copy", "--all", "--src-tls-verify=false", &from, &into])?.ok().map(drop)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.root.join("usr/bin").join(name));
        let libraries = ["usr/lib", "lib"].map(|directory| self.root.join(directory).join("x86_64-linux-gnu"));
        let libraries = libraries.map(|directory| directory.display().to_string()).join(":");
        command.env_clear().env("LD_LIBRARY_PATH", libraries).env("PATH", "/usr/bin:/bin");
        command.env("HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path()).env("TMPDIR", self.home.path());
        command
    }
}

/// Writes an image of two layers into an empty directory, in the OCI's layout. What differs is `content`.
///
/// # Errors
/// When the directory can't be written.
pub fn oci_image(directory: &Path, content: &[u8]) -> Result<Manifest> {
    let manifest = write_image(directory, content, "amd64")?;
    let descriptor = descriptor_of(&manifest)?;
    write_layout(directory, &descriptor)?;
    Ok(manifest)
}

/// Writes an image for two platforms into an empty directory, in the OCI's layout.
///
/// # Errors
/// When the directory can't be written.
pub fn oci_index(directory: &Path, content: &[u8]) -> Result<Manifest> {
    let manifests = ["amd64", "arm64"].map(|architecture| {
        let manifest = write_image(directory, &[content, architecture.as_bytes()].concat(), architecture)?;
        let platform = Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None };
        Ok(Descriptor { platform: Some(platform), ..descriptor_of(&manifest)? })
    });
    let manifests = manifests.into_iter().collect::<Result<Vec<_>>>()?;
    let media_type = ManifestType::OciIndex;
    let written = json!({ "schemaVersion": 2, "mediaType": media_type.as_str(), "manifests": manifests }).to_string();
    let index = Manifest::read(media_type, written)?;
    write_blob(directory, index.bytes())?;
    write_layout(directory, &descriptor_of(&index)?)?;
    Ok(index)
}

fn write_image(directory: &Path, content: &[u8], architecture: &str) -> Result<Manifest> {
    let layers = [b"the layer that all have", content].map(layer).into_iter().collect::<Result<Vec<_>>>()?;
    let diff_ids: Vec<Digest> = layers.iter().map(|(tar, _)| Digest::of(tar)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string();
    let config_digest = write_blob(directory, config.as_bytes())?;
    let config = Descriptor::new(MediaType::CONFIG.parse()?, config_digest, config.len() as u64);
    let describe = |(_, gzip): (Vec<u8>, Vec<u8>)| {
        let digest = write_blob(directory, &gzip)?;
        Ok(Descriptor::new(MediaType::LAYER_GZIP.parse()?, digest, gzip.len() as u64))
    };
    let layers = layers.into_iter().map(describe).collect::<Result<Vec<_>>>()?;
    let manifest = Manifest::image(&config, &layers, &std::collections::BTreeMap::new())?;
    write_blob(directory, manifest.bytes())?;
    Ok(manifest)
}

/// A tar archive with one file, and the same compressed: skopeo compresses what isn't, and that is another image.
fn layer(content: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let directory = TempDir::new()?;
    let path = |name: &str| directory.path().join(name);
    fs::write(path("content"), content)?;
    let script =
        "tar --create --mtime=@0 --owner=0 --group=0 --mode=0644 --file=layer content && gzip --keep --no-name layer";
    let mut make = Command::new("sh");
    make.args(["-euc", script]).current_dir(directory.path());
    command::run(make, script, b"", PATIENCE)?.ok()?;
    Ok((fs::read(path("layer"))?, fs::read(path("layer.gz"))?))
}

fn descriptor_of(manifest: &Manifest) -> Result<Descriptor> {
    let media_type = manifest.media_type().as_str().parse()?;
    Ok(Descriptor::new(media_type, manifest.digest().clone(), manifest.bytes().len() as u64))
}

fn write_blob(directory: &Path, content: &[u8]) -> Result<Digest> {
    let digest = Digest::of(content);
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::write(blobs.join(digest.sha256().as_str()), content)?;
    Ok(digest)
}

fn write_layout(directory: &Path, manifest: &Descriptor) -> Result<()> {
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(directory.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())?;
    Ok(())
}
