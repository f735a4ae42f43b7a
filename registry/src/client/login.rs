//! Users and passwords for registries: from the file that `docker login` writes, from the programs that it names, and for
//! Google's registries the access tokens that there are.

use std::{
    collections::BTreeMap,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bucket::{Credentials, Tokens};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::failure::Failure;
use crate::Host;

/// Most bytes of the file, and of what a program answers.
const MAX: u64 = 1 << 20;

/// The longest that a program may take: it may ask a person for a key.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where `docker login` writes, below the home of a user.
const USUAL: &str = ".docker/config.json";

/// What Google's registries are asked with.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where credentials are taken from.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// `config.json` as `docker login` writes it; without it nobody logs in.
    pub file: Option<PathBuf>,
    /// For Google's registries, when the file has nothing for them.
    pub google: Option<Credentials>,
}

/// A user and their password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// As the file has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    identitytoken: String,
}

/// As a program answers it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    username: String,
    secret: String,
}

/// What is called a token in place of a user.
const TOKEN_USER: &str = "<token>";

impl Logins {
    /// Those that the environment asks for, by `lookup` (normally [`std::env::var`]): the file `REGISTRY_AUTH_FILE`, else
    /// `~/.docker/config.json`; for Google's registries `google`.
    pub fn from_env(google: Credentials, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let file = set("REGISTRY_AUTH_FILE").or_else(|| Some(set("HOME")?.join(USUAL)));
        Self { file, google: Some(google) }
    }

    /// The one for a repository, or for a registry itself (`path` is empty); `None` if there is none.
    pub(super) async fn find(&self, host: &Host, path: &str) -> Result<Option<Login>, Failure> {
        if let Some(file) = &self.file {
            let shown = file.display();
            let wrong =
                |reason: String| Failure::credential(format!("the credentials in `{shown}` cannot be used: {reason}"));
            if let Some(config) = read(file).await.map_err(wrong)?
                && let Some(login) = config.find(host, path).await.map_err(wrong)?
            {
                return Ok(Some(login));
            }
        }
        match &self.google {
            Some(credentials) if *credentials != Credentials::Anonymous && is_googles(host) => {
                googles(credentials).await
            }
            _ => Ok(None),
        }
    }
}

async fn read(file: &Path) -> Result<Option<Config>, String> {
    let opened = match tokio::fs::File::open(file).await {
        // The usual one need not be there; one that was named must be.
        Err(error) if error.kind() == ErrorKind::NotFound && file.ends_with(USUAL) => return Ok(None),
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
    async fn find(&self, host: &Host, path: &str) -> Result<Option<Login>, String> {
        let helpers = self.cred_helpers.iter().filter_map(|(key, name)| Some((matched(key, host, path)?, name)));
        let helper = helpers.max_by_key(|(length, _)| *length).map(|(_, name)| name);
        if let Some(name) = helper.or(self.creds_store.as_ref())
            && let Some(login) = ask(name, host).await?
        {
            return Ok(Some(login));
        }
        let auths = self.auths.iter().filter_map(|(key, auth)| Some((matched(key, host, path)?, auth)));
        let Some((_, auth)) = auths.max_by_key(|(length, _)| *length) else { return Ok(None) };
        if !auth.identitytoken.is_empty() {
            return Err(identity_token(host));
        }
        if auth.auth.is_empty() {
            return Ok(None);
        }
        let decoded = STANDARD.decode(auth.auth.trim()).ok().and_then(|decoded| String::from_utf8(decoded).ok());
        let pair = decoded.as_deref().and_then(|decoded| decoded.split_once(':'));
        let (user, password) = pair.ok_or_else(|| format!("`auth` of `{host}` is not user and password in base64"))?;
        // Docker pads what it writes.
        Ok(Some(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

fn identity_token(host: &Host) -> String {
    format!("`{host}` has an identity token, which is not supported: log in with a password or an access token")
}

/// How much of the name of a repository a key of the file is about: the longest wins, by containers-auth.json(5). Docker writes
/// addresses, whose path is that of the API.
fn matched(key: &str, host: &Host, path: &str) -> Option<usize> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let bare = bare.map_or(key, |address| address.split('/').next().unwrap_or_default());
    let is_alias = host.as_str() == "docker.io" && bare == "index.docker.io";
    let rest = if is_alias { "" } else { bare.strip_prefix(host.as_str())? };
    let is_above = |part: &str| path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (rest.is_empty() || rest.strip_prefix('/').is_some_and(is_above)).then_some(bare.len())
}

/// Asks `docker-credential-NAME`, as Docker does: the registry's name in, JSON out. No shell, and nothing in an argument.
async fn ask(name: &str, host: &Host) -> Result<Option<Login>, String> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("`{}` is no name of a program", super::failure::shown(name)));
    }
    let program = format!("docker-credential-{name}");
    let server = if host.as_str() == "docker.io" { "https://index.docker.io/v1/" } else { host.as_str() };
    let talk = async {
        let mut command = Command::new(&program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("could not run `{program}`: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that doesn't read is free not to.
            let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(MAX + 1).read_to_end(&mut answer).await;
            read.map_err(|error| format!("could not read from `{program}`: {error}"))?;
        }
        if answer.len() as u64 > MAX {
            return Err(format!("`{program}` answered with more than {MAX} bytes"));
        }
        let status = child.wait().await.map_err(|error| format!("could not wait for `{program}`: {error}"))?;
        Ok((status, answer))
    };
    let timed_out = |_| Err(format!("`{program}` did not answer within {PATIENCE:?}"));
    let (status, answer) = tokio::time::timeout(PATIENCE, talk).await.unwrap_or_else(timed_out)?;
    if !status.success() {
        // How Docker's own programs say that they have none.
        if String::from_utf8_lossy(&answer).contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("`{program}` ended with {status}"));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answered { username, .. }) if username == TOKEN_USER => Err(identity_token(host)),
        Ok(Answered { username, secret }) => Ok(Some(Login { user: username, password: secret })),
        Err(_) => Err(format!("`{program}` did not answer with `Username` and `Secret`")),
    }
}

fn is_googles(host: &Host) -> bool {
    let host = host.as_str();
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

/// An access token in the form in which Google's registries take it.
async fn googles(credentials: &Credentials) -> Result<Option<Login>, Failure> {
    let tokens = Tokens::load(credentials, SCOPE).map_err(Failure::credential)?;
    let headers = tokens.headers().await.map_err(|no_token| {
        if no_token.transient { Failure::transient(no_token.reason) } else { Failure::credential(no_token.reason) }
    })?;
    let header = headers.get("authorization").and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    Ok(token.map(|token| Login { user: "oauth2accesstoken".to_owned(), password: token.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(matched(key, &host(of), path).is_some(), expected, "{key} {path}");
        }
        let longer = matched("images.example/acme", &host("images.example"), "acme/web");
        assert!(longer > matched("images.example", &host("images.example"), "acme/web"));
    }
}
