//! `docker-archive:FILE`: the tar that `docker save`, podman, kaniko, bazel and nix write. It is read where it lies and never
//! unpacked: a layer is a part of the file, and is uploaded as it is.

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use console::safe;
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::{Blob, Image, configuration, configuration::Configuration, part::Part};
use crate::{Descriptor, Manifest, MediaType, names::unambiguous};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes of its `manifest.json`.
const MAX_MANIFEST: u64 = 1 << 20;
/// Most links that lead from one to the next.
const MAX_LINKS: usize = 4;
/// What of its `manifest.json` is understood.
const KEYS: [&str; 2] = ["Config", "Layers"];
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
    let find = |name: &str| parts.find(name).with_context(|| format!("there is no `{}` in it", safe(name)));
    let listed = find("manifest.json")?.read(MAX_MANIFEST)?;
    let wrong = "its `manifest.json` is not that of an archive";
    let entries: Vec<Entry> = serde_json::from_slice(&listed).context(wrong)?;
    unambiguous::ensure(&listed, &KEYS).context(wrong)?;
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

/// What is in an archive, by names.
#[derive(Default)]
struct Parts {
    files: BTreeMap<String, Part>,
    /// What links lead to: before its version 25, Docker wrote a layer that is there twice once, and a link to it.
    links: BTreeMap<String, String>,
}

impl Parts {
    /// A file, also through links.
    fn find(&self, name: &str) -> Option<&Part> {
        let mut name = name;
        for _ in 0..=MAX_LINKS {
            match self.links.get(name) {
                Some(to) => name = to,
                None => return self.files.get(name),
            }
        }
        None
    }
}

/// The files and links of an archive. Headers that say something of the next entry are passed over: names in such archives are
/// short, and what a layer is, its digest says.
fn parts(file: &Arc<File>) -> Result<Parts> {
    let mut parts = Parts::default();
    let mut archive = Archive::new(&**file);
    for (nth, entry) in archive.entries_with_seek()?.raw(true).enumerate() {
        let entry = entry.context("it is no tar; one that is compressed has to be unpacked first, by `gunzip`")?;
        let header = entry.header();
        if nth >= MAX_ENTRIES {
            bail!("it has more than {MAX_ENTRIES} entries");
        }
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let linked = || header.link_name_bytes().map(|to| String::from_utf8_lossy(&to).into_owned());
        let is_new = match header.entry_type() {
            EntryType::Regular => {
                let size = header.entry_size().context("an entry has no size")?;
                let part = Part::new(file.clone(), entry.raw_file_position(), size);
                parts.files.insert(name.clone(), part).is_none() && !parts.links.contains_key(&name)
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let from = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                let to = linked().and_then(|to| joined(if kind == EntryType::Symlink { from } else { "" }, &to));
                let to = to.with_context(|| format!("`{}` is a link that leads out of it", safe(&name)))?;
                parts.links.insert(name.clone(), to).is_none() && !parts.files.contains_key(&name)
            }
            _ => continue,
        };
        if !is_new {
            bail!("`{}` is in it twice", safe(&name));
        }
    }
    Ok(parts)
}

/// What a link in a directory leads to, unless that is outside.
fn joined(directory: &str, to: &str) -> Option<String> {
    if to.starts_with('/') {
        return None;
    }
    let mut path: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()?),
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}
