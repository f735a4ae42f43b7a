//! What a request is about: which part of the API, and which image, here and where it may be read from.

use anyhow::{Result, bail};
use registry::{Host, Repository};

/// What a path of the API names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The API itself.
    Api,
    /// Where tokens are given.
    Token,
    /// A manifest, by tag or digest.
    Manifest { path: &'a str, reference: &'a str },
    /// A blob.
    Blob { path: &'a str, digest: &'a str },
    /// Where uploads begin.
    Uploads { path: &'a str },
    /// One that is on its way.
    Upload { path: &'a str, id: &'a str },
    /// The tags of a repository.
    Tags { path: &'a str },
}

impl<'a> Target<'a> {
    /// What a path names; `None` if that is nothing.
    pub(super) fn read(path: &'a str) -> Option<Self> {
        match path {
            "/v2" | "/v2/" => return Some(Self::Api),
            "/token" => return Some(Self::Token),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/")?;
        if let Some(path) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags { path });
        }
        if let Some(path) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Some(Self::Uploads { path });
        }
        let (above, last) = rest.rsplit_once('/')?;
        if let Some(path) = above.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload { path, id: last });
        }
        if let Some(path) = above.strip_suffix("/manifests") {
            return Some(Self::Manifest { path, reference: last });
        }
        above.strip_suffix("/blobs").map(|path| Self::Blob { path, digest: last })
    }
}

/// An image by what it is called here, and where it is read from if it isn't here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// As the layout has it: with its registry, if any is named.
    pub(super) full: String,
    /// In the registry that it is read through from.
    pub(super) through: Option<Repository>,
}

/// The registries that are read through, the first of them for names that say none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstreams(Vec<Host>);

impl Upstreams {
    /// Those that were named.
    ///
    /// # Errors
    /// When one can't be a part of a name.
    pub(crate) fn new(named: Vec<Host>) -> Result<Self> {
        if let Some(address) = named.iter().find(|host| host.as_str().starts_with('[')) {
            bail!("`{address}` cannot be read through: name it by a name or an IPv4 address");
        }
        Ok(Self(named))
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Host] {
        &self.0
    }

    /// What a name in a request means: by what containerd adds to a request (`ns`), else by how it begins.
    ///
    /// An image of a registry that isn't read through is never taken for one of another: containerd then asks that registry itself.
    pub(super) fn resolve(&self, path: &str, namespace: Option<&str>) -> Option<Name> {
        let named = |host: &Host, path: &str| {
            let repository: Repository = format!("{host}/{path}").parse().ok()?;
            let is_read = self.0.contains(host);
            Some(Name { full: repository.to_string(), through: is_read.then_some(repository) })
        };
        if let Some(namespace) = namespace {
            return named(&namespace.parse().ok()?, path);
        }
        let begun = path.split_once('/').and_then(|(first, rest)| {
            let host = self.0.iter().find(|host| prefix(host) == first)?;
            Some((host, rest))
        });
        match (begun, self.0.first()) {
            (Some((host, rest)), _) => named(host, rest),
            (None, Some(first)) => named(first, path),
            // Any registry will do to see whether it is a name.
            (None, None) => {
                let repository: Repository = format!("buildset.invalid/{path}").parse().ok()?;
                Some(Name { full: repository.path().to_owned(), through: None })
            }
        }
    }
}

/// How names of a registry begin here: a port is said after `_`, as no part of a name may have a colon.
pub(super) fn prefix(host: &Host) -> String {
    host.as_str().replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_part_of_the_api() {
        for (path, expected) in [
            ("/v2/", Some(Target::Api)),
            ("/token", Some(Target::Token)),
            ("/v2/acme/web/manifests/prod", Some(Target::Manifest { path: "acme/web", reference: "prod" })),
            ("/v2/a/manifests/manifests/x", Some(Target::Manifest { path: "a/manifests", reference: "x" })),
            ("/v2/acme/web/blobs/sha256:00", Some(Target::Blob { path: "acme/web", digest: "sha256:00" })),
            ("/v2/acme/web/blobs/uploads/", Some(Target::Uploads { path: "acme/web" })),
            ("/v2/acme/web/blobs/uploads/17", Some(Target::Upload { path: "acme/web", id: "17" })),
            ("/v2/acme/web/tags/list", Some(Target::Tags { path: "acme/web" })),
            ("/v1/acme/web/tags/list", None),
            ("/v2/acme/web", None),
            ("/", None),
        ] {
            assert_eq!(Target::read(path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_means_one_image_of_one_registry() {
        let hosts = ["images.example", "quay.example:5000"].map(|host| host.parse().unwrap());
        let upstreams = Upstreams::new(hosts.to_vec()).unwrap();
        let full = |path, namespace| upstreams.resolve(path, namespace).map(|name| name.full);
        for (path, namespace, expected) in [
            ("acme/web", None, Some("images.example/acme/web")),
            ("images.example/acme/web", None, Some("images.example/acme/web")),
            ("quay.example_5000/acme/web", None, Some("quay.example:5000/acme/web")),
            ("acme/web", Some("quay.example:5000"), Some("quay.example:5000/acme/web")),
            ("acme/web", Some("other.example"), Some("other.example/acme/web")),
            ("acme/web", Some("../x"), None),
            ("other.example/acme/web", None, Some("images.example/other.example/acme/web")),
            ("../web", None, None),
            ("", None, None),
        ] {
            assert_eq!(full(path, namespace).as_deref(), expected, "{path} {namespace:?}");
        }
        assert_eq!(upstreams.resolve("acme/web", Some("other.example")).unwrap().through, None);
        let alone = Upstreams::default().resolve("acme/web", None).unwrap();
        assert_eq!(alone, Name { full: "acme/web".to_owned(), through: None });
        assert_eq!(Upstreams::default().resolve("a b", None), None);
        assert!(Upstreams::new(vec!["[::1]:5000".parse().unwrap()]).is_err());
    }
}
