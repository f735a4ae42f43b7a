//! Whether and where to poke.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bucket::Credentials;
use reqwest::Url;

/// Google's own endpoint.
const ENDPOINT: &str = "https://compute.googleapis.com/";

/// Whether servers are poked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PokeSettings {
    /// Not at all: servers find their new documents when they poll. Right off Google Cloud.
    None,
    /// Through the Compute API.
    Compute(ComputeSettings),
}

/// What is needed to poke through the Compute API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeSettings {
    /// The project that the instances are in, by id.
    pub project: String,
    /// The zone they are in; `None` looks for them in all zones.
    pub zone: Option<String>,
    /// Base URL of the API.
    pub endpoint: Url,
    /// How to authenticate.
    pub credentials: Credentials,
    /// Time limit for finding instances, and again for poking each.
    pub timeout: Duration,
    /// The pause before the second attempt; it doubles.
    pub first_retry: Duration,
}

impl PokeSettings {
    /// What the environment asks for, by `lookup` (normally [`std::env::var`]); `project` is the command line's and wins:
    ///
    /// - `PUSH_GCE_PROJECT`: the project's id; without it, or with `none`, nothing is poked;
    /// - `PUSH_GCE_ZONE`: the zone of all servers, if names occur in several;
    /// - `PUSH_COMPUTE_ENDPOINT`: base URL of the API;
    /// - `PUSH_COMPUTE_CREDENTIALS`: `default`, `anonymous`, or the path of a service account's key file.
    ///
    /// # Errors
    /// When one of them can't be, or credentials would cross the network in the clear.
    pub fn from_env(project: Option<&str>, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let project = project.map(str::to_owned).or_else(|| set("PUSH_GCE_PROJECT"));
        let Some(project) = project.filter(|project| project != "none") else { return Ok(Self::None) };
        // A domain-scoped project's id is `example.com:name`.
        check_name("PUSH_GCE_PROJECT", &project, "-.:")?;
        let zone = set("PUSH_GCE_ZONE");
        if let Some(zone) = &zone {
            check_name("PUSH_GCE_ZONE", zone, "-")?;
        }
        let endpoint = set("PUSH_COMPUTE_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let Some(endpoint) = Url::parse(&endpoint).ok().filter(|url| url.has_host() && !url.cannot_be_a_base()) else {
            bail!("`PUSH_COMPUTE_ENDPOINT` is `{}`: must be a URL, for example `{ENDPOINT}`", endpoint.escape_debug());
        };
        let credentials = match set("PUSH_COMPUTE_CREDENTIALS") {
            Some(credentials) => credentials.parse().context("invalid `PUSH_COMPUTE_CREDENTIALS`")?,
            None => Credentials::ApplicationDefault,
        };
        let loopback = matches!(endpoint.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        if endpoint.scheme() != "https" && !loopback && credentials != Credentials::Anonymous {
            bail!("`PUSH_COMPUTE_ENDPOINT` is `{endpoint}`: credentials are only sent over https");
        }
        Ok(Self::Compute(ComputeSettings {
            project,
            zone,
            endpoint,
            credentials,
            timeout: Duration::from_secs(30),
            first_retry: Duration::from_millis(500),
        }))
    }
}

/// What becomes part of a URL's path is checked first.
fn check_name(key: &str, value: &str, also: &str) -> Result<()> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c);
    if value.len() > 100 || !value.chars().all(valid) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        bail!("`{key}` is `{}`: use lower-case letters, digits and any of `{also}`", value.escape_debug());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(project: Option<&str>, environment: &[(&str, &str)]) -> Result<PokeSettings> {
        PokeSettings::from_env(project, |key| {
            environment.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_poked_unless_a_project_is_named() {
        for (project, environment) in [
            (None, &[][..]),
            (Some("none"), &[("PUSH_GCE_PROJECT", "acme-prod")]),
            (None, &[("PUSH_GCE_PROJECT", "none")]),
            (None, &[("PUSH_GCE_PROJECT", "")]),
        ] {
            assert_eq!(read(project, environment).unwrap(), PokeSettings::None, "{project:?} {environment:?}");
        }
        for (project, environment) in
            [(Some("acme-prod"), &[("PUSH_GCE_PROJECT", "other")][..]), (None, &[("PUSH_GCE_PROJECT", "acme-prod")])]
        {
            let PokeSettings::Compute(settings) = read(project, environment).unwrap() else { panic!("{project:?}") };
            assert_eq!((settings.project.as_str(), settings.endpoint.as_str()), ("acme-prod", ENDPOINT));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for environment in [
            &[("PUSH_GCE_PROJECT", "../x")][..],
            &[("PUSH_GCE_PROJECT", "Acme")],
            &[("PUSH_GCE_PROJECT", "a"), ("PUSH_GCE_ZONE", "a/b")],
            &[("PUSH_GCE_PROJECT", "a"), ("PUSH_COMPUTE_ENDPOINT", "example")],
            &[("PUSH_GCE_PROJECT", "a"), ("PUSH_COMPUTE_ENDPOINT", "http://compute.example/")],
        ] {
            let error = read(None, environment).unwrap_err().to_string();
            assert!(error.contains("PUSH_"), "{environment:?}: {error}");
        }
    }
}
