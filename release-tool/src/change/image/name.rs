//! `--image IMAGE:TAG`: an image as people name it, below the registry of candidates.

use anyhow::{Context as _, Result, ensure};
use bucket::{AppName, BuildId, ImageTag};
use console::{UsageError, safe};
use registry::Digest;

/// Which image is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its name below the registry, which is the app.
    pub(crate) app: AppName,
    /// The tag that it is to have.
    pub(crate) tag: ImageTag,
    /// What it has to be, if that is said.
    pub(crate) digest: Option<Digest>,
}

impl Named {
    /// Reads `web:1234` or `ci.example/acme/web:1234`, each also with `@sha256:…`; `registry` is where images of changes are.
    pub(crate) fn read(text: &str, registry: &str) -> Result<Self> {
        let registry = registry.trim_end_matches('/');
        let own = text.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text);
        let read = || {
            let (named, digest) = match own.split_once('@') {
                Some((named, digest)) => (named, Some(digest.parse()?)),
                None => (own, None),
            };
            let (app, tag) = named.rsplit_once(':').context("it has no tag: write it as in web:1234")?;
            ensure!(
                !app.contains('/'),
                "it is not right below `{registry}`, which is `registry` of `[candidates]` in release.toml: write it as in web:1234"
            );
            let tag: ImageTag = tag.parse()?;
            format!("{}_{tag}", BuildId::random())
                .parse::<ImageTag>()
                .context("its tag has no room for that of a build")?;
            Ok(Self { app: app.parse()?, tag, digest })
        };
        read().map_err(|error: anyhow::Error| {
            UsageError::new(format!("the image `{}` cannot be a candidate: {error:#}", safe(text))).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_its_app_and_the_tag_that_it_is_to_have() {
        let sum = format!("sha256:{}", "07".repeat(32));
        let read = |text: &str| Named::read(text, "ci.example:5000/acme/").map_err(|error| error.to_string());
        let expected = Named { app: "web".parse().unwrap(), tag: "1234_2".parse().unwrap(), digest: None };
        for text in ["web:1234_2", "ci.example:5000/acme/web:1234_2"] {
            assert_eq!(read(text), Ok(expected.clone()), "{text}");
            let with_digest = Named { digest: Some(sum.parse().unwrap()), ..expected.clone() };
            assert_eq!(read(&format!("{text}@{sum}")), Ok(with_digest));
        }
        for (text, reason) in [
            ("web", "it has no tag"),
            ("ci.example:5000/acme/web", "it has no tag"),
            ("images.example/acme/web:1", "it is not right below `ci.example:5000/acme`"),
            ("tools/web:1", "it is not right below"),
            ("web:-1", "it must begin with a letter"),
            ("../web:1", "it is not right below"),
            (".:1", "invalid app name"),
            ("web:1@sha256:12", "invalid digest"),
            (&format!("web:{}", "x".repeat(120)), "its tag has no room for that of a build"),
            ("\u{1b}[2J", "it has no tag"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(reason) && !refused.contains('\u{1b}'), "{text}: {refused}");
        }
    }
}
