//! Images that are not in a registry yet: made of a directory, or by another builder.
//!
//! - [`Image::make`] puts a [`Layer`] on a base, or on nothing; what is said of it is its [`Configuration`]
//! - [`Image::read`] takes what other builders made: a [`docker_archive`], or a [`layout`] of the OCI
//!
//! Nothing is unpacked, and no layer is ever in memory. The same content gives the same digest everywhere.

mod configuration;
mod docker_archive;
mod layer;
mod layout;
mod part;
mod summed;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};
use bucket::NameError;
use bytes::Bytes;
use configuration::MAX_LAYERS;
pub use configuration::{Configuration, Process};
pub use layer::Layer;
pub use part::{Part, PartReader};

use crate::{Content, Descriptor, Manifest, MediaType, Platform, Reference, Repository};

/// An image, with where its parts are.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its manifests in the order in which a registry takes them: those that an index lists, then the index. The last one is
    /// the image.
    pub manifests: Vec<Manifest>,
    /// Its configurations and layers, each once.
    pub blobs: Vec<Blob>,
}

/// A configuration or a layer.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is.
    pub descriptor: Descriptor,
    /// Where its bytes are.
    pub origin: Origin,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Here.
    Bytes(Bytes),
    /// In a file.
    Part(Part),
    /// In a registry.
    Repository(Repository),
}

/// An image that others are built on, as its registry has it.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where it is.
    pub repository: Repository,
    /// Its manifest, that of an image for one platform.
    pub manifest: Manifest,
    /// Its configuration.
    pub configuration: Configuration,
}

/// Where another builder put an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// `docker-archive:FILE`
    DockerArchive(PathBuf),
    /// `oci:DIRECTORY`
    Layout(PathBuf),
}

/// What an image is built on, as annotations have it (OCI image specification, "Annotations").
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

impl Image {
    /// One that has a layer more than its base, or than nothing. `created` is its time, as in `2026-11-26T23:30:00Z`.
    ///
    /// # Errors
    /// That the base is none on which something can be built, or that nobody could run the image.
    pub fn make(base: Option<&Base>, layer: Layer, process: &Process, created: &str) -> Result<Self> {
        let (mut layers, mut blobs, mut annotations) = (Vec::new(), Vec::new(), BTreeMap::new());
        if let Some(base) = base {
            for descriptor in base.layers()? {
                layers.push(descriptor.clone());
                blobs.push(Blob { descriptor, origin: Origin::Repository(base.repository.clone()) });
            }
            annotations.insert(BASE_NAME.to_owned(), base.repository.to_string());
            annotations.insert(BASE_DIGEST.to_owned(), base.manifest.digest().to_string());
        }
        let own = Descriptor::new(media_type(MediaType::LAYER_GZIP), layer.digest, layer.size);
        layers.push(own.clone());
        let part = Part::whole(layer.file, layer.size);
        blobs.push(Blob { descriptor: own, origin: Origin::Part(part) });
        if layers.len() > MAX_LAYERS {
            bail!("the base has {} layers, and with its own the image may have {MAX_LAYERS}", layers.len() - 1);
        }
        let below = match base {
            Some(base) => base.configuration.clone(),
            None => Configuration::of_nothing(&Platform::here()?),
        };
        let configuration = below.with_layer(process, created, &layer.diff_id);
        if !configuration.can_run() {
            bail!("nobody could run the image, because it doesn't say what: give its variant an `entrypoint`");
        }
        let config = Blob::of_bytes(MediaType::CONFIG, configuration.to_json());
        let manifest = Manifest::image(&config.descriptor, &layers, &annotations)?;
        blobs.push(config);
        Ok(Self { manifests: vec![manifest], blobs: each_once(blobs) })
    }

    /// One that another builder made. All of it is read once: what is not as it is said to be is refused.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(built: &Built) -> Result<Self> {
        let read = match built {
            Built::DockerArchive(file) => docker_archive::read(file),
            Built::Layout(directory) => layout::read(directory),
        };
        let mut image = read.with_context(|| format!("could not read the image `{built}`"))?;
        image.blobs = each_once(image.blobs);
        for manifest in &image.manifests {
            if let Content::Image { layers, .. } = manifest.content()
                && layers.len() > MAX_LAYERS
            {
                bail!("the image `{built}` has {} layers, and {MAX_LAYERS} are the most", layers.len());
            }
        }
        Ok(image)
    }

    /// The manifest that is the image.
    pub fn manifest(&self) -> &Manifest {
        self.manifests.last().expect("an image has a manifest")
    }
}

/// What an image says that it was built on, with the digest that this had; `None` if it says nothing of that, or nothing that
/// can be read.
pub fn base_of(manifest: &Manifest) -> Option<Reference> {
    let said = |key| manifest.annotations().get(key);
    let named: Reference = said(BASE_NAME)?.parse().ok()?;
    Some(Reference { digest: Some(said(BASE_DIGEST)?.parse().ok()?), ..named })
}

impl Base {
    /// Its layers, as a manifest of the OCI names them.
    fn layers(&self) -> Result<Vec<Descriptor>> {
        let Content::Image { layers, .. } = self.manifest.content() else { bail!("the base is not one image") };
        let (named, known) = (layers.len(), self.configuration.diff_ids().len());
        if named != known {
            bail!("the manifest of the base has {named} layers, and its configuration {known}");
        }
        layers.iter().map(oci_layer).collect()
    }
}

/// A layer as a manifest of the OCI names it: the bytes are the same.
fn oci_layer(layer: &Descriptor) -> Result<Descriptor> {
    let media_type = match layer.media_type.as_str() {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => media_type(MediaType::LAYER_GZIP),
        "application/vnd.docker.image.rootfs.diff.tar" => media_type(MediaType::LAYER),
        other if other.starts_with("application/vnd.oci.image.layer.v1.tar") => layer.media_type.clone(),
        other => bail!("the base has a layer that can't be passed on: it is `{other}`"),
    };
    Ok(Descriptor::new(media_type, layer.digest.clone(), layer.size))
}

impl Blob {
    fn of_bytes(kind: &str, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        Self { descriptor: Descriptor::of(media_type(kind), &bytes), origin: Origin::Bytes(bytes) }
    }

    /// One that is part of a file, which is summed.
    fn of_part(kind: &str, part: Part) -> Result<Self> {
        let (digest, size) = summed::read_to_end(part.reader())?;
        if size != part.size() {
            bail!("the file ends before it does");
        }
        Ok(Self { descriptor: Descriptor::new(media_type(kind), digest, size), origin: Origin::Part(part) })
    }
}

impl Platform {
    /// That of this machine, which programs that are built here run on.
    ///
    /// # Errors
    /// That it is not known how images call it.
    pub fn here() -> Result<Self> {
        Self::called(std::env::consts::ARCH, cfg!(target_endian = "little"))
    }

    /// That of an architecture as Rust calls it.
    fn called(architecture: &str, is_little: bool) -> Result<Self> {
        let (architecture, variant) = match (architecture, is_little) {
            ("x86_64", _) => ("amd64", None),
            ("x86", _) => ("386", None),
            ("aarch64", true) => ("arm64", None),
            // As Debian's armhf.
            ("arm", true) => ("arm", Some("v7")),
            ("powerpc64", true) => ("ppc64le", None),
            ("riscv64", _) => ("riscv64", None),
            ("s390x", _) => ("s390x", None),
            ("loongarch64", _) => ("loong64", None),
            (other, _) => bail!("it is not known how images call the architecture `{other}` of this machine"),
        };
        Ok(Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.map(str::to_owned) })
    }
}

fn each_once(blobs: Vec<Blob>) -> Vec<Blob> {
    let mut found: Vec<Blob> = Vec::new();
    for blob in blobs {
        if !found.iter().any(|other| other.descriptor.digest == blob.descriptor.digest) {
            found.push(blob);
        }
    }
    found
}

fn media_type(known: &str) -> MediaType {
    known.parse().expect("a media type that is known is one")
}

impl Built {
    /// The file or the directory.
    pub fn path(&self) -> &Path {
        let (Self::DockerArchive(path) | Self::Layout(path)) = self;
        path
    }

    /// The same kind of thing at another place.
    #[must_use]
    pub fn at(&self, path: PathBuf) -> Self {
        match self {
            Self::DockerArchive(_) => Self::DockerArchive(path),
            Self::Layout(_) => Self::Layout(path),
        }
    }
}

impl FromStr for Built {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(':') {
            Some(("docker-archive", path)) if !path.is_empty() => Ok(Self::DockerArchive(path.into())),
            Some(("oci", path)) if !path.is_empty() => Ok(Self::Layout(path.into())),
            _ => Err(NameError::new("image that was built", text, "write `docker-archive:FILE` or `oci:DIRECTORY`")),
        }
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerArchive(file) => write!(f, "docker-archive:{}", file.display()),
            Self::Layout(directory) => write!(f, "oci:{}", directory.display()),
        }
    }
}

#[cfg(test)]
mod tests;
