//! What an image consists of. The exact bytes are its identity: they are kept as they came, and never written anew.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bucket::NameError;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{descriptor::Descriptor, digest::Digest, unambiguous};

/// Most bytes of a manifest: as the distribution specification recommends, and Docker's registry keeps to.
pub const MAX_MANIFEST: usize = 4 << 20;

/// Most layers of an image, and most manifests of an index.
const MAX_PARTS: usize = 1000;

/// The kinds of manifests that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestType {
    /// An image, by the OCI.
    OciImage,
    /// Images for several platforms, by the OCI.
    OciIndex,
    /// An image, by Docker (schema 2).
    DockerImage,
    /// Images for several platforms, by Docker.
    DockerList,
}

impl ManifestType {
    /// All of them: what a request for a manifest says that it takes. A registry answers 404 to one that leaves out the right one.
    pub const ALL: [Self; 4] = [Self::OciImage, Self::OciIndex, Self::DockerImage, Self::DockerList];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OciImage => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::DockerImage => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// Whether it lists other manifests.
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

impl FromStr for ManifestType {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| {
            NameError::new(
                "media type of a manifest",
                text,
                "it must be that of an image or an index of the OCI, or of an image (schema 2) or a list of Docker",
            )
        })
    }
}

impl fmt::Display for ManifestType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A manifest: what it is, its exact bytes, and what of them is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    media_type: ManifestType,
    bytes: Bytes,
    digest: Digest,
    content: Content,
    annotations: BTreeMap<String, String>,
}

/// What a manifest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The parts of an image.
    Image {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, the lowest first.
        layers: Vec<Descriptor>,
    },
    /// Other manifests, one for each platform.
    Index(Vec<Descriptor>),
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid manifest: {0}")]
pub struct NoManifest(String);

/// As it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads bytes that are said to be a manifest of this type.
    ///
    /// # Errors
    /// When they are longer than [`MAX_MANIFEST`], or not what they are said to be.
    pub fn read(media_type: ManifestType, bytes: impl Into<Bytes>) -> Result<Self, NoManifest> {
        let bytes = bytes.into();
        let wrong = |reason: String| Err(NoManifest(reason));
        if bytes.len() > MAX_MANIFEST {
            return wrong(format!("it has more than {MAX_MANIFEST} bytes"));
        }
        // What it is to one reader it must be to all of them: the bytes are passed on.
        if let Err(error) = unambiguous::ensure(&bytes, &unambiguous::OF_MANIFEST) {
            return wrong(format!("{error}"));
        }
        let written: Written = match serde_json::from_slice(&bytes) {
            Ok(written) => written,
            Err(error) => return wrong(format!("{error}")),
        };
        if written.schema_version != 2 {
            return wrong(format!("its schema is {}, and only 2 is supported", written.schema_version));
        }
        // A registry that tells another type than the bytes do would have readers disagree on what they are.
        if let Some(own) = written.media_type.filter(|own| own != media_type.as_str()) {
            let own: String = own.chars().take(100).flat_map(char::escape_debug).collect();
            return wrong(format!("it is served as `{media_type}` and says that it is `{own}`"));
        }
        let content = match (written.config, written.layers, written.manifests) {
            (Some(config), Some(layers), None) if !media_type.is_index() => Content::Image { config, layers },
            (None, None, Some(manifests)) if media_type.is_index() => Content::Index(manifests),
            _ if media_type.is_index() => return wrong("an index has `manifests` and nothing else".to_owned()),
            _ => return wrong("an image has `config` and `layers` and nothing else".to_owned()),
        };
        let parts = match &content {
            Content::Image { layers, .. } => layers,
            Content::Index(manifests) => manifests,
        };
        if parts.len() > MAX_PARTS {
            return wrong(format!("it lists {} parts, and at most {MAX_PARTS} are supported", parts.len()));
        }
        let digest = Digest::of(&bytes);
        Ok(Self { media_type, bytes, digest, content, annotations: written.annotations.unwrap_or_default() })
    }

    /// The manifest of an image that is made here, in the OCI's form. The same parts give the same bytes.
    ///
    /// # Errors
    /// When it has too many parts.
    pub fn image(
        config: &Descriptor,
        layers: &[Descriptor],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, NoManifest> {
        let media_type = ManifestType::OciImage;
        let mut written = json!({
            "schemaVersion": 2,
            "mediaType": media_type.as_str(),
            "config": config,
            "layers": layers,
        });
        if !annotations.is_empty() {
            written["annotations"] = json!(annotations);
        }
        Self::read(media_type, written.to_string())
    }

    /// The same image under another digest: it differs in one annotation.
    ///
    /// # Errors
    /// When there is no room for that.
    pub fn annotated(&self, key: &str, value: &str) -> Result<Self, NoManifest> {
        let mut written: Value = serde_json::from_slice(&self.bytes).map_err(|error| NoManifest(error.to_string()))?;
        let mut annotations = self.annotations.clone();
        annotations.insert(key.to_owned(), value.to_owned());
        written["annotations"] = json!(annotations);
        Self::read(self.media_type, written.to_string())
    }

    /// What it is.
    pub fn media_type(&self) -> ManifestType {
        self.media_type
    }

    /// Its exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Their sum.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it lists.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What is said of it beside that.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The blobs that it needs: configuration and layers, each once. An index needs none, but its manifests.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let Content::Image { config, layers } = &self.content else { return Vec::new() };
        let mut blobs: Vec<&Descriptor> = Vec::new();
        for blob in std::iter::once(config).chain(layers) {
            if !blobs.iter().any(|seen| seen.digest == blob.digest) {
                blobs.push(blob);
            }
        }
        blobs
    }

    /// The manifests that an index lists; of an image none.
    pub fn children(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { .. } => &[],
            Content::Index(manifests) => manifests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    fn image(rest: &str) -> String {
        format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[{CONFIG}]{rest}}}"#)
    }

    fn index(rest: &str) -> String {
        format!(r#"{{"schemaVersion":2,"manifests":[{CONFIG},{CONFIG}]{rest}}}"#)
    }

    #[test]
    fn bytes_are_kept_as_they_came() {
        let text = format!("  {}\n", image(r#", "newer": 1, "annotations":{"a":"b"}"#));
        let manifest = Manifest::read(ManifestType::DockerImage, text.clone()).unwrap();
        assert_eq!(manifest.bytes(), text.as_bytes());
        assert_eq!(manifest.digest(), &Digest::of(text.as_bytes()));
        assert_eq!(manifest.annotations(), &BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(manifest.blobs().len(), 1, "a blob that is named twice is needed once");
        assert!(manifest.children().is_empty());
        let listed = Manifest::read(ManifestType::OciIndex, index("")).unwrap();
        assert_eq!((listed.children().len(), listed.blobs().len()), (2, 0));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let many = format!("[{}]", [CONFIG; MAX_PARTS + 1].join(","));
        for (media_type, text, expected) in [
            (ManifestType::OciImage, "<html>".to_owned(), "expected value"),
            (ManifestType::OciImage, "[".repeat(60_000), "recursion limit exceeded"),
            (ManifestType::OciImage, image("").replace("Version\":2", "Version\":1"), "its schema is 1"),
            (ManifestType::OciImage, index(""), "an image has `config` and `layers`"),
            (ManifestType::OciIndex, image(""), "an index has `manifests`"),
            (ManifestType::OciImage, image(r#","manifests":[]"#), "an image has `config` and `layers`"),
            (ManifestType::OciImage, image(r#","mediaType":"text/html""#), "says that it is `text/html`"),
            (ManifestType::OciImage, image(r#","layers":[]"#), "it has the key `layers` twice"),
            (ManifestType::OciImage, image(r#","Layers":[]"#), "some readers take the key `Layers` for another"),
            (ManifestType::OciImage, image("").replace(r#""size":0"#, r#""size":0,"Size":7"#), "take the key `Size`"),
            (
                ManifestType::OciImage,
                image("").replace(r#""size":0"#, r#""size":1099511627777"#),
                "at most 1099511627776",
            ),
            (ManifestType::OciImage, image("").replace("e3b0", "../x"), "invalid digest"),
            (ManifestType::OciImage, image("").replace(r#""size":0"#, r#""size":-1"#), "invalid value"),
            (ManifestType::OciIndex, format!(r#"{{"schemaVersion":2,"manifests":{many}}}"#), "it lists 1001 parts"),
            (ManifestType::OciImage, " ".repeat(MAX_MANIFEST + 1), "it has more than 4194304 bytes"),
        ] {
            let error = Manifest::read(media_type, text.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:.80} gave: {error}");
        }
    }

    #[test]
    fn an_annotation_makes_another_digest_of_the_same_image() {
        for (media_type, text) in [(ManifestType::DockerImage, image("")), (ManifestType::OciIndex, index(""))] {
            let manifest = Manifest::read(media_type, text).unwrap();
            let one = manifest.annotated("dev.push.removed", "change_12_a").unwrap();
            let other = manifest.annotated("dev.push.removed", "change_13_a").unwrap();
            assert_eq!((one.media_type(), one.content()), (manifest.media_type(), manifest.content()));
            assert!(one.digest() != manifest.digest() && one.digest() != other.digest());
        }
    }

    #[test]
    fn the_same_parts_make_the_same_image() {
        let config: Descriptor = serde_json::from_str(CONFIG).unwrap();
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let make = || Manifest::image(&config, &[config.clone(), config.clone()], &annotations).unwrap();
        assert_eq!(make(), make());
        assert_eq!(make().annotations(), &annotations);
        assert_eq!(make().content(), &Content::Image { config: config.clone(), layers: vec![config.clone(), config] });
    }
}
