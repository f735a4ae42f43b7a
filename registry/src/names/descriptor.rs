//! How one part of an image names another.

use std::{collections::BTreeMap, str::FromStr};

use bucket::{NameError, text_name};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::digest::Digest;

/// What kind of thing something is, as `application/vnd.oci.image.layer.v1.tar+gzip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(String);

text_name!(MediaType);

impl MediaType {
    /// The configuration of an OCI image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer that is a tar archive.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer that is a tar archive, compressed by gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    /// Whether it is a layer that is to be had from its maker alone.
    pub(crate) fn is_not_distributed(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.0.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl FromStr for MediaType {
    type Err = NameError;

    /// By RFC 6838, section 4.2: two names of at most 127 characters each.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_name = |name: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
            name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 127 && name.chars().all(inner)
        };
        if text.split_once('/').is_some_and(|(one, other)| is_name(one) && is_name(other)) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::new("media type", text, "write it as in `application/vnd.oci.image.layer.v1.tar+gzip`"))
    }
}

/// Most bytes of a part of an image: far above what any registry takes, and far below where sums would overflow.
const MAX_SIZE: u64 = 1 << 40;

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(from)?;
    if size > MAX_SIZE {
        return Err(D::Error::custom(format!("a part has {size} bytes, and at most {MAX_SIZE} are supported")));
    }
    Ok(size)
}

/// A part of an image: what it is, its digest and how long it is. What is unknown in it is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of thing it is.
    pub media_type: MediaType,
    /// The sum of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Of a manifest in an index: what it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What is said of it beside that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else it is, for layers that a registry may not keep. Nothing is ever fetched from there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// What names these bytes.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// One with neither platform nor annotations.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, platform: None, annotations: BTreeMap::new(), urls: Vec::new() }
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go calls it: `amd64`.
    pub architecture: String,
    /// As Go calls it: `linux`.
    pub os: String,
    /// Which of an architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}
