//! Users and passwords for registries: from the file that `docker login` writes, from the programs that it names, and for
//! Google's registries the access tokens that there are.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bucket::{Credentials, NoToken, Tokens};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

pub(super) use super::program::{Answers, Login};
use super::{failure::Failure, program::identity_token};
use crate::Host;

/// Most bytes of the file.
const MAX: u64 = 1 << 20;

/// Where `docker login` writes, below the home of a user.
const USUAL: &str = ".docker/config.json";

/// What Google's registries are asked with.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where credentials are taken from.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// `config.json` as `docker login` writes it, which somebody named: it must be there.
    pub file: Option<PathBuf>,
    /// The same where it usually is: it need not be there, and counts if none is named.
    pub usual: Option<PathBuf>,
    /// For Google's registries, when the file has nothing for them.
    pub google: Option<Credentials>,
}

/// As the file has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Logins {
    /// Those that the environment asks for, by `lookup` (normally [`std::env::var`]): the file `REGISTRY_AUTH_FILE`, else
    /// `~/.docker/config.json`; for Google's registries `google`.
    pub fn from_env(google: Credentials, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = set("HOME").map(|home| home.join(USUAL));
        Self { file: set("REGISTRY_AUTH_FILE"), usual, google: Some(google) }
    }

    /// Makes sure that the file which somebody named can be read: without it nobody would be logged in, where they think they are.
    pub(super) fn ensure_readable(&self) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let readable = rustix::fs::access(file, rustix::fs::Access::READ_OK);
        readable.map_err(|error| {
            format!(
                "the credentials in `{}` cannot be read: {error}: log in there, or unset REGISTRY_AUTH_FILE",
                file.display()
            )
        })
    }

    /// The one for a repository, or for a registry itself (`path` is empty); why there is none, if there is none.
    pub(super) async fn find(
        &self,
        host: &Host,
        path: &str,
        answers: &Answers,
    ) -> Result<Result<Login, String>, Failure> {
        if let Some(file) = self.file.as_ref().or(self.usual.as_ref()) {
            let shown = file.display();
            let wrong =
                |reason: String| Failure::credential(format!("the credentials in `{shown}` cannot be used: {reason}"));
            if let Some(config) = read(file, self.file.is_none()).await.map_err(wrong)?
                && let Some(login) = config.find(host, path, answers).await.map_err(wrong)?
            {
                return Ok(Ok(login));
            }
        }
        let none = format!("there is no credential for `{host}`: log in, or set REGISTRY_AUTH_FILE");
        match &self.google {
            Some(credentials) if *credentials != Credentials::Anonymous && is_googles(host) => {
                match (googles(credentials).await, credentials) {
                    // Much of what is there can be read by everybody.
                    (Err(no_token), Credentials::ApplicationDefault) if !no_token.transient => {
                        Ok(Err(format!("{none}; {}", no_token.reason)))
                    }
                    (Err(no_token), _) if no_token.transient => Err(Failure::transient(no_token.reason)),
                    (Err(no_token), _) => Err(Failure::credential(no_token.reason)),
                    (Ok(login), _) => Ok(login.ok_or(none)),
                }
            }
            _ => Ok(Err(none)),
        }
    }
}

async fn read(file: &Path, may_be_absent: bool) -> Result<Option<Config>, String> {
    let opened = match tokio::fs::File::open(file).await {
        Err(error) if error.kind() == ErrorKind::NotFound && may_be_absent => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut text = Vec::new();
    opened.take(MAX + 1).read_to_end(&mut text).await.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX {
        return Err(format!("it has more than {MAX} bytes"));
    }
    // What a parser says of a file may have parts of the file in it.
    let parsed = serde_json::from_slice(&text);
    parsed
        .map(Some)
        .map_err(|error| format!("line {}, column {}: invalid JSON, or another form", error.line(), error.column()))
}

impl Config {
    async fn find(&self, host: &Host, path: &str, answers: &Answers) -> Result<Option<Login>, String> {
        let helpers = self.cred_helpers.iter().filter_map(|(key, name)| Some((matched(key, host, path)?, name)));
        let helper = helpers.max_by_key(|(length, _)| *length).map(|(_, name)| name);
        if let Some(name) = helper.or(self.creds_store.as_ref())
            && let Some(login) = answers.of(name, host).await?
        {
            return Ok(Some(login));
        }
        let auths = self.auths.iter().filter_map(|(key, auth)| Some((matched(key, host, path)?, auth)));
        let Some((_, auth)) = auths.max_by_key(|(length, _)| *length) else { return Ok(None) };
        if !auth.identitytoken.is_empty() {
            return Err(identity_token(host));
        }
        if auth.auth.is_empty() {
            // As podman and Kubernetes have it, too.
            let Entry { username, password, .. } = auth;
            let login = Login { user: username.clone(), password: password.clone() };
            return Ok((!username.is_empty()).then_some(login));
        }
        let decoded = STANDARD.decode(auth.auth.trim()).ok().and_then(|decoded| String::from_utf8(decoded).ok());
        let pair = decoded.as_deref().and_then(|decoded| decoded.split_once(':'));
        let (user, password) = pair.ok_or_else(|| format!("`auth` of `{host}` is not user and password in base64"))?;
        // Docker pads what it writes.
        Ok(Some(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

/// How much of the name of a repository a key of the file is about: the longest wins, by containers-auth.json(5). Docker writes
/// addresses and looks at their host alone.
fn matched(key: &str, host: &Host, path: &str) -> Option<usize> {
    let is_scheme = |scheme: &str| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    let (bare, is_address) = match key.split_once("://") {
        Some((scheme, bare)) if is_scheme(scheme) => (bare, true),
        _ => (key, false),
    };
    let (named, below) = bare.split_once('/').unwrap_or((bare, ""));
    let is_alias = host.as_str() == "docker.io"
        && ["index.docker.io", "registry-1.docker.io"].iter().any(|alias| named.eq_ignore_ascii_case(alias));
    let is_named = || named.to_ascii_lowercase().parse::<Host>().is_ok_and(|named| named == *host);
    if !is_alias && !is_named() {
        return None;
    }
    let below = below.trim_end_matches('/');
    // The path of an address, or of Docker's, is that of the API.
    if is_alias || is_address || matches!(below, "" | "v1" | "v2") {
        return Some(named.len());
    }
    let is_above = path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_above.then_some(named.len() + 1 + below.len())
}

fn is_googles(host: &Host) -> bool {
    let host = host.as_str();
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

/// An access token in the form in which Google's registries take it.
async fn googles(credentials: &Credentials) -> Result<Option<Login>, NoToken> {
    let tokens = Tokens::load(credentials, SCOPE).map_err(|reason| NoToken { reason, transient: false })?;
    let headers = tokens.headers().await?;
    let header = headers.get("authorization").and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    Ok(token.map(|token| Login { user: "oauth2accesstoken".to_owned(), password: token.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_googles_registries_get_googles_tokens() {
        for (host, expected) in [
            ("gcr.io", true),
            ("eu.gcr.io", true),
            ("europe-docker.pkg.dev", true),
            ("gcr.io.evil.example", false),
            ("evilgcr.io", false),
            ("pkg.dev.evil.example", false),
            ("evilpkg.dev", false),
            ("images.example", false),
        ] {
            assert_eq!(is_googles(&host.parse().unwrap()), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn a_key_file_that_somebody_named_is_not_done_without() {
        let missing = Credentials::ServiceAccountFile("/nonexistent/key.json".into());
        let logins = Logins { google: Some(missing), ..Logins::default() };
        let host: Host = "gcr.io".parse().unwrap();
        let failure = logins.find(&host, "acme/web", &Answers::default()).await.err().unwrap();
        assert!(failure.reason.contains("/nonexistent/key.json"), "{}", failure.reason);
        let elsewhere = logins.find(&"images.example".parse().unwrap(), "acme/web", &Answers::default()).await;
        assert!(elsewhere.unwrap().err().unwrap().contains("no credential for `images.example`"));
    }

    #[tokio::test]
    async fn what_others_write_is_read_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        std::fs::write(&file, r#"{"auths":{"images.example":{"username":"ann","password":"secret:1"}}}"#).unwrap();
        let logins = Logins { file: Some(file), ..Logins::default() };
        let login = logins.find(&"images.example".parse().unwrap(), "acme/web", &Answers::default()).await.unwrap();
        let login = login.ok().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("ann", "secret:1"));
    }

    #[test]
    fn the_longest_key_of_a_repository_wins() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        for (key, of, path, expected) in [
            ("images.example", "images.example", "acme/web", true),
            ("images.example/acme", "images.example", "acme/web", true),
            ("images.example/acme/web", "images.example", "acme/web", true),
            ("images.example/ac", "images.example", "acme/web", false),
            ("images.example/other", "images.example", "acme/web", false),
            ("images.example/acme", "images.example", "", false),
            ("images.example.org", "images.example", "acme/web", false),
            ("images.example:5000", "images.example", "acme/web", false),
            ("https://images.example/v2/", "images.example", "acme/web", true),
            ("https://index.docker.io/v1/", "docker.io", "library/debian", true),
            ("index.docker.io/v1/", "docker.io", "library/debian", true),
            ("HTTPS://Index.Docker.io/v1/", "docker.io", "library/debian", true),
            ("docker.io", "docker.io", "library/debian", true),
            ("images.example/", "images.example", "acme/web", true),
            ("images.example/v2/", "images.example", "acme/web", true),
            ("Images.Example", "images.example", "acme/web", true),
            ("https://IMAGES.example", "images.example", "acme/web", true),
            ("images.example:443", "images.example", "acme/web", true),
            ("images.example/acme/", "images.example", "acme/web", true),
            ("images.example/Acme", "images.example", "acme/web", false),
            ("https://index.docker.io.evil.example/v1/", "docker.io", "library/debian", false),
        ] {
            assert_eq!(matched(key, &host(of), path).is_some(), expected, "{key} {path}");
        }
        let longer = matched("images.example/acme", &host("images.example"), "acme/web");
        assert!(longer > matched("images.example", &host("images.example"), "acme/web"));
    }
}
