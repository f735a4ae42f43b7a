//! Addresses elsewhere that pages link to, made from templates of the policy file.

use std::fmt::Write as _;

use bucket::{ChangeId, ServerName};
use console::quoted;
use thiserror::Error;

/// Templates of addresses; what stands for a placeholder is percent-encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    pub(super) change: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) compare: Option<String>,
    pub(super) logs: Option<String>,
    pub(super) monitoring: Option<String>,
}

/// A template that can't be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum TemplateError {
    #[error("must be an address that begins with `https://` or `http://`")]
    Scheme,
    #[error("invalid placeholder; valid ones: {}", quoted(.0))]
    Placeholder(Vec<String>),
    #[error("invalid address: {0}")]
    Address(#[from] url::ParseError),
}

/// The keys of the file, and the placeholders that each may have.
pub(super) const KEYS: [(&str, &[&str]); 5] = [
    ("Change", &["project", "change"]),
    ("Commit", &["repo", "commit"]),
    ("Compare", &["repo", "from", "to"]),
    ("Logs", &["server"]),
    ("Monitoring", &["server"]),
];

impl Links {
    /// Where a change that was proposed for merging is shown.
    pub fn change(&self, change: &ChangeId) -> Option<String> {
        fill(self.change.as_deref()?, &[("project", change.project()), ("change", change.change())])
    }

    /// Where a commit of a repository is shown.
    pub fn commit(&self, repo: &str, commit: &str) -> Option<String> {
        fill(self.commit.as_deref()?, &[("repo", &path_of(repo)?), ("commit", commit)])
    }

    /// Where the difference between two commits of a repository is shown.
    pub fn compare(&self, repo: &str, from: &str, to: &str) -> Option<String> {
        fill(self.compare.as_deref()?, &[("repo", &path_of(repo)?), ("from", from), ("to", to)])
    }

    /// Where a server's logs are.
    pub fn logs(&self, server: &ServerName) -> Option<String> {
        fill(self.logs.as_deref()?, &[("server", server.as_str())])
    }

    /// Where a server's monitoring is.
    pub fn monitoring(&self, server: &ServerName) -> Option<String> {
        fill(self.monitoring.as_deref()?, &[("server", server.as_str())])
    }
}

/// Checks a template.
pub(super) fn check(template: &str, placeholders: &[&str]) -> Result<(), TemplateError> {
    if !template.starts_with("https://") && !template.starts_with("http://") {
        return Err(TemplateError::Scheme);
    }
    let filler: Vec<(&str, &str)> = placeholders.iter().map(|name| (*name, "x")).collect();
    let unknown = || TemplateError::Placeholder(placeholders.iter().map(|name| format!("{{{name}}}")).collect());
    url::Url::parse(&fill(template, &filler).ok_or_else(unknown)?)?;
    Ok(())
}

/// A template with its placeholders filled; `None` when it has one that isn't given.
fn fill(template: &str, values: &[(&str, &str)]) -> Option<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let (_, value) = values.iter().find(|(known, _)| *known == name)?;
        filled.push_str(before);
        encode(value, &mut filled);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Percent-encodes all but what is unreserved (RFC 3986, section 2.3) and the slashes of a path.
fn encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// `acme/web` of `https://git.example/acme/web.git` or `git@git.example:acme/web.git`.
fn path_of(repo: &str) -> Option<String> {
    let path = match repo.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => repo.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let goes_up = path.split('/').any(|segment| segment == ".." || segment == "." || segment.is_empty());
    (!goes_up).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_encoded() {
        let links = Links { commit: Some("https://git.example/{repo}/commit/{commit}?x".into()), ..Links::default() };
        for (repo, want) in [
            ("https://git.example/acme/web.git", Some("https://git.example/acme/web/commit/7e0f?x")),
            ("git@git.example:acme/web.git", Some("https://git.example/acme/web/commit/7e0f?x")),
            ("https://git.example/a?\"><b", Some("https://git.example/a%3F%22%3E%3Cb/commit/7e0f?x")),
            ("https://git.example/../../evil", None),
            ("", None),
        ] {
            assert_eq!(links.commit(repo, "7e0f").as_deref(), want, "{repo}");
        }
        assert_eq!(links.logs(&"web-1".parse().unwrap()), None);
        let change = "acme.web/12".parse().unwrap();
        assert_eq!(links.change(&change), None);
        let links = Links { change: Some("https://git.example/{project}/pull/{change}".into()), ..links };
        assert_eq!(links.change(&change).as_deref(), Some("https://git.example/acme.web/pull/12"));
    }

    #[test]
    fn a_template_is_an_address_with_known_placeholders() {
        assert_eq!(check("https://logs.example/{server}", &["server"]), Ok(()));
        for bad in ["javascript:alert(1)", "https://x/{what}", "https://x/{server", "https://", "//x/{server}"] {
            assert!(check(bad, &["server"]).is_err(), "{bad}");
        }
    }
}
