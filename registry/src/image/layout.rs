//! `oci:DIRECTORY`: an image layout of the OCI, as skopeo, umoci, buildah and ko write it, also with images for several
//! platforms.

use std::{fs::File, os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags, open, openat};
use serde::Deserialize;

use super::{Blob, Image, Origin, part::Part, summed};
use crate::{Descriptor, Digest, MAX_MANIFEST, Manifest, names::unambiguous};

/// How deep indices may list indices.
const MAX_DEPTH: usize = 4;
/// Most manifests of an image, and most of its blobs.
const MAX_MANIFESTS: usize = 100;
const MAX_BLOBS: usize = 10_000;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe that is there instead of a file keeps nobody waiting.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What `oci-layout` and `index.json` say that is of use here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// Reads a layout with one image, and sums all of it.
pub(super) fn read(path: &Path) -> Result<Image> {
    let root = open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let marker: Marker = serde_json::from_slice(&small(&root, "oci-layout")?).context("its `oci-layout` is none")?;
    if !marker.image_layout_version.starts_with("1.") {
        bail!("its layout has another version than 1");
    }
    let listed = small(&root, "index.json")?;
    let index: Index = serde_json::from_slice(&listed).context("its `index.json` is none")?;
    unambiguous::ensure(&listed, &unambiguous::OF_MANIFEST).context("its `index.json` can be read in two ways")?;
    let [image] = &index.manifests[..] else {
        bail!("it has {} images: write one, of several platforms if need be", index.manifests.len())
    };
    let blobs = openat(&root, "blobs", DIRECTORY, Mode::empty()).context("could not open `blobs`")?;
    let blobs = openat(&blobs, "sha256", DIRECTORY, Mode::empty()).context("could not open `blobs/sha256`")?;
    let mut reading = Reading { directory: blobs, image: Image { manifests: Vec::new(), blobs: Vec::new() } };
    reading.manifest(image, 0)?;
    Ok(reading.image)
}

struct Reading {
    /// Where the blobs are, by their sums.
    directory: OwnedFd,
    image: Image,
}

impl Reading {
    /// Reads a manifest, after those that it lists and the blobs that it names.
    fn manifest(&mut self, named: &Descriptor, depth: usize) -> Result<()> {
        if self.image.manifests.iter().any(|known| *known.digest() == named.digest) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            bail!("indices list each other more than {MAX_DEPTH} deep");
        }
        let failed = || format!("could not read the manifest {}", named.digest);
        let part = self.part(named).with_context(failed)?;
        let bytes = part.read(MAX_MANIFEST as u64).with_context(failed)?;
        let media_type = named.media_type.as_str().parse().with_context(failed)?;
        let manifest = Manifest::read(media_type, bytes).with_context(failed)?;
        ensure_is(named, manifest.digest())?;
        for child in manifest.children() {
            self.manifest(child, depth + 1)?;
        }
        for blob in manifest.blobs() {
            self.blob(blob).with_context(|| format!("could not read the blob {}", blob.digest))?;
        }
        self.image.manifests.push(manifest);
        if self.image.manifests.len() > MAX_MANIFESTS {
            bail!("it has more than {MAX_MANIFESTS} manifests");
        }
        Ok(())
    }

    fn blob(&mut self, named: &Descriptor) -> Result<()> {
        if self.image.blobs.iter().any(|known| known.descriptor.digest == named.digest) {
            return Ok(());
        }
        if self.image.blobs.len() >= MAX_BLOBS {
            bail!("there are more than {MAX_BLOBS} of them");
        }
        let part = self.part(named)?;
        let (digest, _) = summed::read_to_end(part.reader())?;
        ensure_is(named, &digest)?;
        self.image.blobs.push(Blob { descriptor: named.clone(), origin: Origin::Part(part) });
        Ok(())
    }

    fn part(&self, named: &Descriptor) -> Result<Part> {
        let file = file(&self.directory, named.digest.sha256().as_str())?;
        let size = file.metadata()?.len();
        if size != named.size {
            bail!("it has {size} bytes, and not {} as is said", named.size);
        }
        Ok(Part::whole(file, size))
    }
}

fn ensure_is(named: &Descriptor, found: &Digest) -> Result<()> {
    if named.digest != *found {
        bail!("what is called {} is {found}", named.digest);
    }
    Ok(())
}

fn small(directory: &OwnedFd, name: &str) -> Result<Vec<u8>> {
    let file = file(directory, name).with_context(|| format!("could not read `{name}`"))?;
    let size = file.metadata()?.len();
    Part::whole(file, size).read(MAX_MANIFEST as u64).with_context(|| format!("could not read `{name}`"))
}

/// A regular file in a directory; links are followed nowhere.
fn file(directory: &OwnedFd, name: &str) -> Result<File> {
    let file = File::from(openat(directory, name, FILE, Mode::empty())?);
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    Ok(file)
}
