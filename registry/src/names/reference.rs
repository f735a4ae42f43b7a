//! What names an image, as people write it.

use std::{fmt, str::FromStr};

use bucket::NameError;
use serde::{Deserialize, Serialize};

use super::{digest::Digest, repository::Repository};
use crate::Tag;

/// `images.example/acme/web`, with `:TAG`, `@DIGEST`, both or neither. The registry is always said: nothing is looked for elsewhere.
///
/// With both, the digest says which manifest is meant, and the tag only what it was called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Where it is.
    pub repository: Repository,
    /// What it is called there.
    pub tag: Option<Tag>,
    /// What it is.
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: String| NameError::new("reference to an image", text, reason);
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // The colon of a registry's port comes before a slash.
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        let repository = repository.parse().map_err(|NameError { reason, .. }| wrong(reason))?;
        let tag = tag.map(str::parse).transpose();
        let tag = tag.map_err(|NameError { reason, .. }| wrong(format!("of its tag: {reason}")))?;
        let digest = digest.map(str::parse).transpose();
        let digest = digest.map_err(|NameError { reason, .. }| wrong(format!("of its digest: {reason}")))?;
        Ok(Self { repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUM: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Reference, NameError> {
        text.parse()
    }

    #[test]
    fn a_reference_says_registry_repository_tag_and_digest() {
        let whole = format!("images.example:5000/acme/web:prod@{SUM}");
        let reference = parse(&whole).unwrap();
        assert_eq!(reference.repository.host().as_str(), "images.example:5000");
        assert_eq!(reference.repository.host().name(), "images.example");
        assert_eq!(reference.repository.path(), "acme/web");
        assert_eq!(reference.tag.as_ref().unwrap().as_str(), "prod");
        assert_eq!(reference.digest.as_ref().unwrap().to_string(), SUM);
        assert_eq!(reference.to_string(), whole);
    }

    #[test]
    fn the_port_of_tls_is_taken_and_one_registry_has_one_name() {
        for (written, expected) in [
            ("images.example:443/web:1", "images.example/web:1"),
            ("[2001:db8::1]:443/web", "[2001:db8::1]/web"),
            ("registry:443/web", "registry:443/web"),
            ("127.0.0.1:443/web", "127.0.0.1:443/web"),
        ] {
            assert_eq!(parse(written).unwrap().to_string(), expected);
            assert_eq!(parse(expected).unwrap(), parse(written).unwrap());
        }
        assert!(parse("index.docker.io:443/library/debian").unwrap_err().to_string().contains("known as `docker.io`"));
    }

    #[test]
    fn what_the_grammar_allows_is_taken_and_comes_back() {
        let long_path = format!("images.example/{}", "a".repeat(240));
        let long_tag = format!("images.example/a:{}", "x".repeat(128));
        for good in [
            "images.example/web",
            "localhost/web",
            "registry:5000/web",
            "127.0.0.1:5000/a/b/c",
            "[::1]:5000/web:1",
            "[2001:db8::1]/web",
            "a-b.example/a.b/a_b/a__b/a---b:_x",
            "images.example/0/1:1234_2",
            &long_path,
            &long_tag,
            &format!("images.example/web@{SUM}"),
        ] {
            assert_eq!(parse(good).map(String::from).as_deref(), Ok(good));
        }
    }

    #[test]
    fn what_the_grammar_refuses_is_refused_with_what_to_write() {
        let long_path = format!("images.example/{}", "a".repeat(241));
        let long_tag = format!("images.example/a:{}", "x".repeat(129));
        for (bad, expected) in [
            ("", "it must be a registry and a path"),
            ("nginx:1", "it must be a registry and a path"),
            ("library/nginx", "begin with the registry, as in `images.example/acme/web`"),
            ("https://images.example/web", "leave out `https://`"),
            ("docker.io/debian", "`docker.io/library/debian`"),
            ("index.docker.io/library/debian", "it is known as `docker.io`"),
            ("Images.example/web", "write it in lower case"),
            ("images.example/Web", "lower-case letters and digits"),
            ("images.example/", "lower-case letters and digits"),
            ("images.example//web", "lower-case letters and digits"),
            ("images.example/../web", "lower-case letters and digits"),
            ("images.example/a..b", "lower-case letters and digits"),
            ("images.example/a___b", "lower-case letters and digits"),
            ("images.example/a._b", "lower-case letters and digits"),
            ("images.example/-a", "lower-case letters and digits"),
            ("images.example/a%2f", "lower-case letters and digits"),
            ("images.example/a?x=1", "lower-case letters and digits"),
            ("images.example/a b", "lower-case letters and digits"),
            ("images.example/\u{e9}", "lower-case letters and digits"),
            ("images.example:0/a", "its port must be a number"),
            ("images.example:080/a", "its port must be a number"),
            ("images.example:65536/a", "its port must be a number"),
            ("user@images.example/a", "it must be a registry and a path"),
            ("-images.example/a", "write it as in `images.example`"),
            ("images..example/a", "write it as in `images.example`"),
            ("[::1%lo]:1/a", "write it as in `images.example`"),
            ("127.1:5000/a", "write it as in `images.example`"),
            ("0x7f.0.0.1/a", "write it as in `images.example`"),
            ("[0:0::1]/a", "write it as in `images.example`"),
            ("[::g]/a", "write it as in `images.example`"),
            ("images.example/a:", "of its tag: it is empty"),
            ("images.example/a:-x", "of its tag: it must begin with"),
            ("images.example/a:.x", "of its tag: it must begin with"),
            ("images.example/a:x y", "of its tag: it has the character ` `"),
            ("images.example/a@sha256:12", "of its digest: it must be `sha256:`"),
            ("images.example/a@", "of its digest: it must be `sha256:`"),
            (&format!("images.example/a@{SUM}@{SUM}"), "of its digest: it must be `sha256:`"),
            (&long_path, "longer than 255"),
            (&long_tag, "longer than 128"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid reference to an image `") && error.contains(expected), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_comes_back_and_is_safe(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}|[ -~]{0,40}|\\PC{0,20}") {
            if let Ok(reference) = parse(&text) {
                prop_assert_eq!(parse(&reference.to_string()), Ok(reference.clone()));
                prop_assert!(reference.to_string() == text || text.contains(":443/"));
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('-'));
                prop_assert!(!reference.repository.path().split('/').any(|part| part.starts_with('.')));
            }
        }

        #[test]
        fn whatever_is_put_together_is_read_alike(
            host in "[a-z0-9]{1,8}\\.[a-z]{1,8}(:[1-9][0-9]{0,3})?",
            path in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}){0,2}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            of in proptest::option::of(any::<Vec<u8>>()),
        ) {
            let reference = Reference {
                repository: format!("{host}/{path}").parse().unwrap(),
                tag: tag.map(|tag| tag.parse().unwrap()),
                digest: of.map(|bytes| Digest::of(&bytes)),
            };
            prop_assert_eq!(parse(&reference.to_string()), Ok(reference));
        }
    }
}
