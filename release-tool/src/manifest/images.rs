//! `[images]`: the container images of a repository, and who may have the credential of their registry.

use anyhow::{Context, Result, anyhow, bail};
use bucket::BucketOptions;
use console::{Keys, safe};
use registry::{Client, ClientOptions, Host, Logins, Rule};
use toml::Table;

use super::keys::{Place, known};

/// Most token servers.
const MAX_REALMS: usize = 100;

/// `[images]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    /// Which repositories of registries are this one's. Without it nothing is written to any.
    pub(crate) repository: Option<Rule>,
    /// Token servers on other hosts that may have a registry's credential.
    pub(crate) realms: Vec<Host>,
}

impl Images {
    pub(super) fn parse(table: Table) -> Result<Self> {
        let mut keys = Keys::new("[images]", table, &known(Place::Images))?;
        let repository = keys.text("repository")?.map(|rule| rule.parse()).transpose();
        let repository = repository.context("[images]: invalid `repository`")?;
        let listed = keys.texts("realms")?;
        if listed.len() > MAX_REALMS {
            bail!("[images]: `realms` has {} token servers, and {MAX_REALMS} are the most", listed.len());
        }
        let realm =
            |text: &String| text.parse().with_context(|| format!("[images]: invalid `realms`: `{}`", safe(text)));
        Ok(Self { repository, realms: listed.iter().map(realm).collect::<Result<_>>()? })
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
        for (text, expected) in [
            ("repository = '('", "[images]: invalid `repository`: invalid expression"),
            ("repository = ''", "[images]: invalid `repository`"),
            ("realms = [\"https://auth.example/token\"]", "[images]: invalid `realms`: `https://auth.example/token`"),
            (&format!("realms = [{}]", "\"a.example\",".repeat(101)), "`realms` has 101 token servers"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
