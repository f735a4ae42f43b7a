//! `docker-archive:FILE`: the tar that `docker save`, podman, kaniko, bazel and nix write. It is read where it lies and never
//! unpacked: a layer is a part of the file, and is uploaded as it is.

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use console::safe;
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::{Blob, Image, configuration, configuration::Configuration, part::Part};
use crate::{Descriptor, Manifest, MediaType};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes of its `manifest.json`.
const MAX_MANIFEST: u64 = 1 << 20;
/// How a gzip begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    layers: Vec<String>,
}

/// Reads an archive with one image, and sums its layers.
pub(super) fn read(path: &Path) -> Result<Image> {
    let file = Arc::new(File::open(path)?);
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    let parts = parts(&file)?;
    let find = |name: &str| parts.get(name).with_context(|| format!("there is no `{}` in it", safe(name)));
    let entries: Vec<Entry> = serde_json::from_slice(&find("manifest.json")?.read(MAX_MANIFEST)?)
        .context("its `manifest.json` is not that of an archive")?;
    let [entry] = &entries[..] else { bail!("it has {} images: save one", entries.len()) };
    let json = find(&entry.config)?.read(configuration::MAX_SIZE)?;
    let configuration = Configuration::read(&json)?;
    let ids = configuration.diff_ids();
    if ids.len() != entry.layers.len() {
        bail!("its configuration names {} layers, and its `manifest.json` {}", ids.len(), entry.layers.len());
    }
    let mut blobs = Vec::new();
    for (name, id) in entry.layers.iter().zip(ids) {
        let (part, name) = (find(name)?, safe(name));
        let is_compressed = part.begins_with(&GZIP)?;
        let kind = if is_compressed { MediaType::LAYER_GZIP } else { MediaType::LAYER };
        let layer = Blob::of_part(kind, part.clone()).with_context(|| format!("could not read the layer `{name}`"))?;
        let found = &layer.descriptor.digest;
        if !is_compressed && found != id {
            bail!("the layer `{name}` is {found}, and not {id} as the configuration says");
        }
        blobs.push(layer);
    }
    let layers: Vec<Descriptor> = blobs.iter().map(|layer| layer.descriptor.clone()).collect();
    let config = Blob::of_bytes(MediaType::CONFIG, json);
    let manifest = Manifest::image(&config.descriptor, &layers, &BTreeMap::new())?;
    blobs.push(config);
    Ok(Image { manifests: vec![manifest], blobs })
}

/// The regular files of an archive by their names. Headers that say something of the next entry are passed over: names in such
/// archives are short, and what a layer is, its digest says.
fn parts(file: &Arc<File>) -> Result<BTreeMap<String, Part>> {
    let mut parts = BTreeMap::new();
    let mut archive = Archive::new(&**file);
    for (nth, entry) in archive.entries_with_seek()?.raw(true).enumerate() {
        let entry = entry.context("it is no tar; one that is compressed has to be unpacked first, by `gunzip`")?;
        let header = entry.header();
        if nth >= MAX_ENTRIES {
            bail!("it has more than {MAX_ENTRIES} entries");
        }
        if header.entry_type() != EntryType::Regular {
            continue;
        }
        let size = header.entry_size().context("an entry has no size")?;
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let part = Part::new(file.clone(), entry.raw_file_position(), size);
        if parts.insert(name.clone(), part).is_some() {
            bail!("`{}` is in it twice", safe(&name));
        }
    }
    Ok(parts)
}
