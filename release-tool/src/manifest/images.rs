//! `[images]`: the container images of a repository, and who may have the credential of their registry.

use anyhow::{Context, Result, anyhow, bail, ensure};
use bucket::{BucketOptions, NameError};
use console::{Keys, safe};
use registry::{Client, ClientOptions, Host, Logins, Repository, Rule, Writable};
use toml::Table;

use super::keys::{Place, known};

/// Most token servers.
const MAX_REALMS: usize = 100;

/// `[images]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    /// Where images go: a registry, and what their names are below there.
    pub(crate) registry: Option<String>,
    /// Which repositories of registries are this one's. Without it nothing is written to any.
    pub(crate) repository: Option<Rule>,
    /// Token servers on other hosts that may have a registry's credential.
    pub(crate) realms: Vec<Host>,
}

impl Images {
    pub(super) fn parse(table: Table) -> Result<Self> {
        let mut keys = Keys::new("[images]", table, &known(Place::Images))?;
        let registry = keys.text("registry")?;
        if let Some(registry) = &registry {
            check_registry("[images]", registry)?;
        }
        let repository = keys.text("repository")?.map(|rule| rule.parse()).transpose();
        let repository = repository.context("[images]: invalid `repository`")?;
        let listed = keys.texts("realms")?;
        if listed.len() > MAX_REALMS {
            bail!("[images]: `realms` has {} token servers, and {MAX_REALMS} are the most", listed.len());
        }
        let realm =
            |text: &String| text.parse().with_context(|| format!("[images]: invalid `realms`: `{}`", safe(text)));
        Ok(Self { registry, repository, realms: listed.iter().map(realm).collect::<Result<_>>()? })
    }

    /// Where the image of this name goes, if it may be written there.
    ///
    /// # Errors
    /// Which key says that it may not, or is missing.
    pub(crate) fn writable(&self, name: &str) -> Result<Writable> {
        let registry = self.registry.as_ref().context(
            "release.toml does not say where images go: set `registry` in `[images]`, as in registry = \"images.example/acme\"",
        )?;
        self.permit(registry, name)
    }

    /// Where the image of this name goes as long as it is one of a change, whose registry is `registry` of `[candidates]`, if it may
    /// be written there.
    ///
    /// # Errors
    /// As [`Images::writable`].
    pub(crate) fn candidate(&self, registry: Option<&str>, name: &str) -> Result<Writable> {
        let registry = registry.context(
            "release.toml does not say where images of changes go: set `registry` in `[candidates]`, as in \
             registry = \"ci.example/acme\"",
        )?;
        self.permit(registry, name)
    }

    fn permit(&self, registry: &str, name: &str) -> Result<Writable> {
        let repository = repository_of(registry, name)?;
        ensure!(
            self.repository.is_some(),
            "`{repository}` may not be written, because release.toml does not say which repositories may be: set `repository` in \
             `[images]`, as in repository = 'images\\.example/acme/.*'"
        );
        Ok(Rule::permit(self.repository.as_ref(), &repository)?)
    }

    /// A client of registries, with the credentials of whoever runs this.
    pub(crate) fn client(&self) -> Result<Client> {
        let lookup = |key: &str| std::env::var(key).ok();
        let google = BucketOptions::from_env(lookup)?.credentials;
        let logins = Logins::from_env(google, lookup);
        let options = ClientOptions { logins, realms: self.realms.clone(), ..ClientOptions::default() };
        Client::new(options).map_err(|reason| anyhow!(reason))
    }
}

/// Refuses what is no registry with a path below which images have their names.
pub(super) fn check_registry(at: &str, registry: &str) -> Result<()> {
    // As whatever lies there.
    let found = repository_of(registry, "x").map(drop).map_err(|error| anyhow!(error.reason));
    found.with_context(|| format!("{at}: invalid `registry`: `{}`", safe(registry)))
}

/// The repository of a name below what `registry` says.
fn repository_of(registry: &str, name: &str) -> Result<Repository, NameError> {
    format!("{}/{name}", registry.strip_suffix('/').unwrap_or(registry)).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Images, String> {
        Images::parse(text.parse().unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_repository_is_an_expression_and_realms_are_hosts() {
        let images = parsed("repository = 'images\\.example/acme/.*'\nrealms = [\"auth.example\"]").unwrap();
        let matches = |name: &str| images.repository.as_ref().unwrap().matches(&name.parse().unwrap());
        assert!(matches("images.example/acme/web") && !matches("images.example/other/web"));
        assert_eq!(images.realms, ["auth.example".parse().unwrap()]);
        assert_eq!(parsed("").unwrap(), Images::default());
        let writable = |text: &str, name: &str| {
            let found = parsed(text).unwrap().writable(name);
            found.map(|to| to.repository().to_string()).map_err(|error| format!("{error:#}"))
        };
        let both = "registry = 'images.example/acme/'\nrepository = '.*/acme/web'";
        assert_eq!(writable(both, "web").unwrap(), "images.example/acme/web");
        let refused = [
            writable("", "web"),
            writable("registry = 'images.example'", "web"),
            writable(both, "other"),
            writable(both, "../web"),
        ];
        let expected = ["set `registry`", "set `repository`", "does not match it", "invalid name of an image"];
        for (refused, expected) in refused.into_iter().zip(expected) {
            assert!(refused.as_ref().is_err_and(|refused| refused.contains(expected)), "{refused:?}");
        }
        for (text, expected) in [
            ("repository = '('", "[images]: invalid `repository`: invalid expression"),
            ("repository = ''", "[images]: invalid `repository`"),
            (
                "registry = 'https://images.example'",
                "[images]: invalid `registry`: `https://images.example`: leave out `https://`",
            ),
            ("registry = 'acme'", "[images]: invalid `registry`"),
            ("realms = [\"https://auth.example/token\"]", "[images]: invalid `realms`: `https://auth.example/token`"),
            (&format!("realms = [{}]", "\"a.example\",".repeat(101)), "`realms` has 101 token servers"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
