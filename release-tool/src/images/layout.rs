//! Where an overlay has its images: one image layout of the OCI, which skopeo and others read and write too
//! (`oci:DIRECTORY:NAME`).
//!
//! Each image is an entry of `index.json` whose annotation `org.opencontainers.image.ref.name` is its whole name, as
//! `images.example/acme/web:1234_a`; what was put by its digest alone has that in the tag's place. A blob gets its name once it is
//! complete, and `index.json` is replaced as a whole: whoever is killed leaves a layout that can be used.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use registry::{Descriptor, Digest, MAX_MANIFEST, Manifest, ManifestType, Tag};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use crate::shared_files::open_to_read;

/// The annotation with the name of an image.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Most bytes of `index.json`.
const MAX_INDEX: u64 = 64 << 20;

/// How deep indices may list indices.
const MAX_DEPTH: usize = 8;

/// An image layout.
#[derive(Debug, Clone)]
pub(super) struct Layout(PathBuf);

/// `index.json`. What others wrote there stays as it is, also what is no entry for us.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Index {
    fn entries(&self) -> impl Iterator<Item = Descriptor> {
        self.manifests.iter().filter_map(|entry| Descriptor::deserialize(entry).ok())
    }
}

impl Layout {
    /// That in a directory, which is made if it isn't there.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let made = || {
            fs::create_dir_all(directory.join("blobs/sha256"))?;
            let marker = directory.join("oci-layout");
            if !marker.exists() {
                fs::write(marker, r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            anyhow::Ok(())
        };
        made().with_context(|| format!("could not make the image layout `{}`", directory.display()))?;
        Ok(Self(directory.to_owned()))
    }

    /// Whether it has no image.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(self.index()?.manifests.is_empty())
    }

    /// What a tag of an image names.
    pub(super) fn by_tag(&self, image: &str, tag: &Tag) -> Result<Option<Manifest>> {
        let name = format!("{image}:{tag}");
        let Some(entry) = self.index()?.entries().find(|entry| entry.annotations.get(NAME) == Some(&name)) else {
            return Ok(None);
        };
        // Another registry's image of this name must not come in its place.
        let lost = || format!("the manifest of `{name}` is lost from `{}`: push it again", self.0.display());
        self.manifest(&entry)?.with_context(lost).map(Some)
    }

    /// The manifest of a digest, of whichever image.
    pub(super) fn by_digest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let mut entries: Vec<Descriptor> = self.index()?.entries().collect();
        for _ in 0..MAX_DEPTH {
            if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest) {
                return self.manifest(entry);
            }
            let mut listed = Vec::new();
            for entry in entries.iter().filter(|entry| is_index(entry)) {
                listed.extend(self.manifest(entry)?.iter().flat_map(|index| index.children().to_vec()));
            }
            entries = listed;
        }
        Ok(None)
    }

    /// The tags of an image.
    pub(super) fn tags(&self, image: &str) -> Result<Vec<Tag>> {
        let tag = |entry: Descriptor| entry.annotations.get(NAME)?.strip_prefix(image)?.strip_prefix(':')?.parse().ok();
        Ok(self.index()?.entries().filter_map(tag).collect())
    }

    /// A blob, with its size.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let file = match open_to_read(&self.path(digest)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("could not open the blob `{digest}`"))?,
        };
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    /// Takes a complete file, whose digest was checked, for a blob.
    pub(super) fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        file.persist(self.path(digest)).map(drop).with_context(|| format!("could not keep the blob `{digest}`"))
    }

    /// Puts a manifest under a tag, whatever that named before, or under its digest alone.
    pub(super) fn put(&self, image: &str, tag: Option<&Tag>, manifest: &Manifest) -> Result<()> {
        let failed = || format!("could not put a manifest of `{image}`");
        // One at a time, whichever process it is.
        let lock = open_to_read(&self.0.join("oci-layout")).with_context(failed)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(failed)?;
        let digest = manifest.digest();
        let mut file = NamedTempFile::new_in(&self.0).with_context(failed)?;
        file.write_all(manifest.bytes()).with_context(failed)?;
        self.keep(file, digest)?;
        let name = tag.map_or_else(|| format!("{image}@{digest}"), |tag| format!("{image}:{tag}"));
        let media_type = manifest.media_type().as_str().parse()?;
        let mut entry = Descriptor::of(media_type, manifest.bytes());
        entry.annotations.insert(NAME.to_owned(), name.clone());
        let mut index = self.index()?;
        index.manifests.retain(|entry| entry["annotations"][NAME] != *name);
        index.manifests.push(serde_json::to_value(entry).with_context(failed)?);
        let mut file = NamedTempFile::new_in(&self.0).with_context(failed)?;
        serde_json::to_writer(&mut file, &index).with_context(failed)?;
        file.persist(self.0.join("index.json")).map(drop).with_context(failed)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.sha256().as_str())
    }

    fn index(&self) -> Result<Index> {
        let path = self.0.join("index.json");
        let unread = || format!("could not read `{}`", path.display());
        let file = match open_to_read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Index { schema_version: 2, manifests: Vec::new(), other: Map::new() });
            }
            file => file.with_context(unread)?,
        };
        let mut text = Vec::new();
        file.take(MAX_INDEX + 1).read_to_end(&mut text).with_context(unread)?;
        ensure!(text.len() as u64 <= MAX_INDEX, "`{}` has more than {MAX_INDEX} bytes", path.display());
        serde_json::from_slice(&text).with_context(unread)
    }

    /// A manifest that an entry names; `None` if its bytes are not there.
    fn manifest(&self, entry: &Descriptor) -> Result<Option<Manifest>> {
        let Some((file, _)) = self.blob(&entry.digest)? else { return Ok(None) };
        let unread = || format!("could not read the manifest `{}`", entry.digest);
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST as u64 + 1).read_to_end(&mut bytes).with_context(unread)?;
        let media_type: ManifestType = entry.media_type.as_str().parse().with_context(unread)?;
        let manifest = Manifest::read(media_type, bytes).with_context(unread)?;
        ensure!(*manifest.digest() == entry.digest, "{}: its bytes have another digest", unread());
        Ok(Some(manifest))
    }
}

fn is_index(entry: &Descriptor) -> bool {
    entry.media_type.as_str().parse::<ManifestType>().is_ok_and(ManifestType::is_index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn manifest(content: &str) -> Manifest {
        let config = Descriptor::of("application/vnd.oci.image.config.v1+json".parse().unwrap(), content.as_bytes());
        Manifest::image(&config, &[], &BTreeMap::new()).unwrap()
    }

    #[test]
    fn an_image_is_found_by_tag_and_digest_and_a_tag_moves() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let [one, other] = ["one", "other"].map(manifest);
        let tag: Tag = "prod".parse().unwrap();
        assert_eq!(layout.by_tag("acme/web", &tag).unwrap(), None);
        layout.put("acme/web", Some(&tag), &one).unwrap();
        layout.put("acme/web", None, &other).unwrap();
        assert_eq!(layout.by_tag("acme/web", &tag).unwrap().as_ref(), Some(&one));
        assert_eq!(layout.by_digest(other.digest()).unwrap().as_ref(), Some(&other));
        layout.put("acme/web", Some(&tag), &other).unwrap();
        assert_eq!(layout.by_tag("acme/web", &tag).unwrap().as_ref(), Some(&other));
        assert_eq!(layout.tags("acme/web").unwrap(), std::slice::from_ref(&tag));
        assert!(layout.tags("acme").unwrap().is_empty() && layout.by_tag("acme/we", &tag).unwrap().is_none());
        let again = Layout::open(directory.path()).unwrap();
        assert_eq!(again.by_tag("acme/web", &tag).unwrap(), Some(other));
    }

    #[test]
    fn what_an_index_lists_is_found_and_what_was_tampered_with_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let child = manifest("child");
        layout.put("acme/web", None, &child).unwrap();
        let listed = Descriptor::of(child.media_type().as_str().parse().unwrap(), child.bytes());
        let text = serde_json::json!({ "schemaVersion": 2, "manifests": [listed] }).to_string();
        let index = Manifest::read(ManifestType::OciIndex, text).unwrap();
        // As others write it: only the image itself is in `index.json`.
        std::fs::remove_file(directory.path().join("index.json")).unwrap();
        layout.put("acme/web", Some(&"prod".parse().unwrap()), &index).unwrap();
        assert_eq!(layout.by_digest(child.digest()).unwrap(), Some(child.clone()));
        std::fs::write(layout.path(child.digest()), index.bytes()).unwrap();
        assert!(layout.by_digest(child.digest()).is_err());
    }

    #[test]
    fn what_others_wrote_into_the_index_stays_and_hides_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let foreign = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{ "digest": "sha512:ab" }, 17],
        });
        std::fs::write(directory.path().join("index.json"), foreign.to_string()).unwrap();
        let image = manifest("image");
        let tag: Tag = "prod".parse().unwrap();
        layout.put("acme/web", Some(&tag), &image).unwrap();
        layout.put("acme/web", Some(&tag), &image).unwrap();
        assert_eq!(layout.by_tag("acme/web", &tag).unwrap().as_ref(), Some(&image));
        let text = std::fs::read(directory.path().join("index.json")).unwrap();
        let mut written: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(written["manifests"].as_array_mut().unwrap().pop().unwrap()["annotations"][NAME], "acme/web:prod");
        assert_eq!(written, foreign);
    }

    #[test]
    fn an_image_whose_manifest_is_lost_is_not_taken_for_absent() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let (image, tag): (_, Tag) = (manifest("image"), "prod".parse().unwrap());
        layout.put("acme/web", Some(&tag), &image).unwrap();
        std::fs::remove_file(layout.path(image.digest())).unwrap();
        let error = layout.by_tag("acme/web", &tag).unwrap_err().to_string();
        assert!(error.contains("acme/web:prod") && error.contains("push it again"), "{error}");
    }

    #[test]
    fn what_somebody_put_in_the_place_of_a_file_is_neither_served_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let secret = directory.path().join("config.json");
        std::fs::write(&secret, "secret").unwrap();
        let [link, pipe] = ["link", "pipe"].map(|content| layout.path(manifest(content).digest()));
        std::os::unix::fs::symlink(&secret, link).unwrap();
        let make_pipe = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        make_pipe(&pipe);
        for content in ["link", "pipe"] {
            assert!(layout.blob(manifest(content).digest()).is_err(), "{content}");
        }
        make_pipe(&directory.path().join("index.json"));
        assert!(layout.by_tag("acme/web", &"prod".parse().unwrap()).is_err());
    }
}
