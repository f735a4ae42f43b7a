//! The sum by which a registry knows a manifest or a blob.

use std::{fmt, str::FromStr};

use bucket::{NameError, Sha256};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// `sha256:` and 64 lower-case hex digits. Of the algorithms that there may be this is the one that registries use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Sha256);

const PREFIX: &str = "sha256:";

impl Digest {
    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(Sha256::from(<[u8; 32]>::from(sha2::Sha256::digest(bytes))))
    }

    /// The sum alone.
    pub fn sha256(&self) -> &Sha256 {
        &self.0
    }
}

impl From<Sha256> for Digest {
    fn from(sum: Sha256) -> Self {
        Self(sum)
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let sum = text.strip_prefix(PREFIX).and_then(|sum| sum.parse().ok());
        sum.map(Self).ok_or_else(|| NameError::new("digest", text, "it must be `sha256:` and 64 lower-case hex digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sums_are_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of(b"")));
        for bad in ["", "sha256:", &empty[7..], &empty.to_uppercase(), &format!("{empty}0"), "sha512:00", "sha256:../x"]
        {
            assert!(bad.parse::<Digest>().unwrap_err().to_string().contains("64 lower-case hex digits"), "{bad}");
        }
    }
}
