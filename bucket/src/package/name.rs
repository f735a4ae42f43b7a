//! What a Debian package is called, and which machines it is for.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A Debian package's name (Debian Policy §5.6.1).
///
/// At least two of `a-z 0-9 + - .`, beginning with a letter or digit: it can't be taken for an option, a path or a
/// pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

text_name!(PackageName);

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        if name.len() < 2 || !name.bytes().all(good) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let reason = "it must have at least two of a-z 0-9 + - . and begin with a letter or a digit";
            return Err(NameError::new("package name", name, reason));
        }
        Ok(Self(name.to_owned()))
    }
}

/// The architecture that a binary package is built for (Debian Policy §5.6.8): `amd64`, `arm64`, …, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Architecture(String);

text_name!(Architecture);

impl Architecture {
    /// Longest architecture, in bytes.
    const MAX: usize = 60;

    /// Whether the package is for machines of every architecture.
    pub fn is_all(&self) -> bool {
        self.0 == "all"
    }
}

impl FromStr for Architecture {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let wrong = |reason| Err(NameError::new("Debian architecture", name, reason));
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name == "any" || name == "source" {
            return wrong("a built package has one such as `amd64`, or `all`");
        }
        if name.is_empty() || name.len() > Self::MAX || name.starts_with('-') || !name.bytes().all(good) {
            return wrong("it must have only a-z 0-9 - and begin with a letter or a digit, as in `amd64`");
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_follow_debian_policy() {
        for good in ["web", "g++", "0ad", "libfoo2.1", "a-"] {
            assert_eq!(good.parse::<PackageName>().unwrap().as_str(), good);
        }
        for bad in ["", "a", "-rf", "../x", "Web", "a_b", "a b", ".a", "wеb", "a\n"] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn architectures_are_those_of_built_packages() {
        assert!("all".parse::<Architecture>().unwrap().is_all());
        for good in ["amd64", "musl-linux-amd64", "kfreebsd-i386"] {
            assert!(!good.parse::<Architecture>().unwrap().is_all());
        }
        for bad in ["", "any", "source", "amd64 arm64", "AMD64", "-x", "a/b", "amd64\n"] {
            assert!(bad.parse::<Architecture>().is_err(), "{bad:?}");
        }
    }
}
