//! Where a git repository is: the addresses that a channel may name, which `git fetch` is then given.
//!
//! Of what git would take (git-fetch(1), "GIT URLS") only what names a host or a directory plainly: git must not read
//! the same text differently, so each part has few characters, and the rest is refused.

use std::{fmt, str::FromStr};

use bucket::HttpProbe;

/// The variables that tell git of another repository than the directory it is given (`git rev-parse --local-env-vars`): whoever is
/// called by a hook has some of them, and means that directory all the same. What configures git is not among them.
pub const OF_ANOTHER_REPOSITORY: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The address of a git repository: `https://…`, `ssh://…`, `git@host:path` or `file:///…`, and `http://…` of this machine.
///
/// It holds no credentials, is one line of visible ASCII, and never looks like an option of a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoUrl(String);

/// Why a text isn't the address of a repository that can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepoUrlError {
    /// Nothing at all.
    #[error("this repository cannot be fetched: its address is empty; {EXAMPLE}")]
    Empty,
    /// More than [`RepoUrl::MAX`].
    #[error("this repository cannot be fetched: its address is longer than {} bytes; {EXAMPLE}", RepoUrl::MAX)]
    TooLong,
    /// Something that nobody sees, or that git and others read differently.
    #[error(
        "this repository cannot be fetched: its address has a space, a backslash, or a character that is not visible \
         ASCII; write such characters of a path as `%` and two hex digits (control characters are never allowed)"
    )]
    Characters,
    /// It begins with `-`, or a part that git passes on does.
    #[error(
        "this repository is not fetched: its address or a part of it begins with `-`, which a command could take for \
         an option; {EXAMPLE}"
    )]
    Option,
    /// A password or a token.
    #[error(
        "this repository is not fetched: its address contains credentials, which everybody who reads the file would \
         see; remove them, and give them to git by a credential helper (gitcredentials(7)), as the user that runs \
         `push watch`"
    )]
    Credentials,
    /// Neither of the transports that are used.
    #[error(
        "this repository is not fetched: its address is none of `https://…`, `ssh://…`, `git@HOST:PATH` and \
         `file:///DIRECTORY`; {EXAMPLE}"
    )]
    Transport,
    /// Unprotected, from another machine.
    #[error(
        "this repository is not fetched: with `http://`, anybody on the way could have any commit deployed; use \
         `https://` (`http://` is only for this machine: `localhost`, 127.0.0.0/8 and `[::1]`)"
    )]
    PlainHttp,
    /// No host, or none that can be one.
    #[error(
        "this repository cannot be fetched: the host in its address is missing or invalid; a host consists of \
         letters, digits, `.`, `-` and `_`, and may have a port; {EXAMPLE}"
    )]
    Host,
    /// A user name with other characters.
    #[error(
        "this repository cannot be fetched: the user in its address is empty or invalid; a user consists of letters, \
         digits, `.`, `-`, `_` and `+`"
    )]
    User,
    /// Nothing after the host, or no absolute path.
    #[error("this repository cannot be fetched: its address has no path after the host; {EXAMPLE}")]
    Path,
    /// A directory of another host.
    #[error("this repository cannot be fetched: write a local repository as `file:///` and its absolute path")]
    LocalPath,
    /// What a web address may have, and a repository's has not.
    #[error(
        "this repository is not fetched: its address has a `?` or `#`, which no repository needs and which may hold a \
         token; remove it with what follows"
    )]
    Query,
}

const EXAMPLE: &str = "write it as in `https://git.example/acme/web.git`";

impl RepoUrl {
    /// Longest address, in bytes.
    pub const MAX: usize = 2048;

    /// The address as text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `http://`, which is of this machine.
    pub fn is_plain_http(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl FromStr for RepoUrl {
    type Err = RepoUrlError;

    fn from_str(text: &str) -> Result<Self, RepoUrlError> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<(), RepoUrlError> {
    if text.is_empty() {
        return Err(RepoUrlError::Empty);
    }
    if text.len() > RepoUrl::MAX {
        return Err(RepoUrlError::TooLong);
    }
    if text.starts_with('-') {
        return Err(RepoUrlError::Option);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') || has_encoded_control(text) {
        return Err(RepoUrlError::Characters);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return check_scp_like(text) };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match scheme {
        "https" | "http" => {
            if authority.contains('@') {
                return Err(RepoUrlError::Credentials);
            }
            // The one rule of what is this machine.
            if scheme == "http" && format!("http://{authority}/").parse::<HttpProbe>().is_err() {
                return Err(RepoUrlError::PlainHttp);
            }
            if path.contains(['?', '#']) {
                return Err(RepoUrlError::Query);
            }
            check_host(authority)?;
        }
        "ssh" => {
            let host = match authority.split_once('@') {
                Some((user, host)) => check_user(user).map(|()| host)?,
                None => authority,
            };
            check_host(host)?;
        }
        "file" if authority.is_empty() => {}
        "file" => return Err(RepoUrlError::LocalPath),
        _ => return Err(RepoUrlError::Transport),
    }
    if path.starts_with('/') && path.len() > 1 { Ok(()) } else { Err(RepoUrlError::Path) }
}

/// `user@host:path`, as ssh and scp write it.
fn check_scp_like(text: &str) -> Result<(), RepoUrlError> {
    let Some((user, rest)) = text.split_once('@') else { return Err(RepoUrlError::Transport) };
    // git runs a helper of the name before `::`, and `ext::` any command (gitremote-helpers(7)).
    if user.contains('/') || user.contains("::") {
        return Err(RepoUrlError::Transport);
    }
    check_user(user)?;
    let host = if rest.starts_with('[') { rest.find(']').map(|end| end + 1) } else { rest.find(':') };
    let (host, path) = rest.split_at(host.unwrap_or(rest.len()));
    check_host(host)?;
    match path.strip_prefix(':') {
        Some(path) if path.starts_with('-') => Err(RepoUrlError::Option),
        Some(path) if !path.is_empty() => Ok(()),
        _ => Err(RepoUrlError::Path),
    }
}

fn check_user(user: &str) -> Result<(), RepoUrlError> {
    if user.starts_with('-') {
        return Err(RepoUrlError::Option);
    }
    if user.contains(':') {
        return Err(RepoUrlError::Credentials);
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    if user.is_empty() || !user.bytes().all(good) { Err(RepoUrlError::User) } else { Ok(()) }
}

/// A name or an address, and perhaps a port.
fn check_host(text: &str) -> Result<(), RepoUrlError> {
    if text.starts_with('-') {
        return Err(RepoUrlError::Option);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number != 0) && !port.starts_with('+');
    let consists_of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| consists_of(address, b":.")),
        None => consists_of(host, b".-_"),
    };
    if is_host && port.is_none_or(is_port) { Ok(()) } else { Err(RepoUrlError::Host) }
}

/// `%0a` and the like, which git decodes in a path.
fn has_encoded_control(text: &str) -> bool {
    let mut codes = text.split('%').skip(1).filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
    codes.any(|code| code.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_name_a_host_or_a_directory_are_taken() {
        for good in [
            "https://git.example/acme/web.git",
            "https://git.example:8443/acme/web",
            "https://[2001:db8::1]/web.git",
            "https://git.example/a%20b@c:d.git",
            "ssh://git@git.example:22/acme/web.git",
            "ssh://git.example/~acme/web.git",
            "git@git.example:acme/web.git",
            "git@git.example:/srv/a@b.git",
            "git@[::1]:web.git",
            "a-b.c+d@host:x",
            "file:///srv/git/web.git",
            "http://localhost:3000/web.git",
            "http://127.9.9.9/web.git",
            "http://[::1]:80/web.git",
        ] {
            let url: RepoUrl = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(url.to_string(), good);
        }
    }

    #[test]
    fn others_are_refused_each_for_its_reason() {
        use RepoUrlError::{
            Characters, Credentials, Empty, Host, LocalPath, Option, Path, PlainHttp, Query, TooLong, Transport, User,
        };
        let long = format!("https://git.example/{}", "x".repeat(RepoUrl::MAX));
        for (bad, why) in [
            ("", Empty),
            (&*long, TooLong),
            ("https://git.example/a b", Characters),
            ("https://git.example\\@evil.example/x", Characters),
            ("https://git.example/\u{202e}x", Characters),
            ("https://git.example/x\nhost=evil.example", Characters),
            ("https://git.example/x%0Ahost=evil.example", Characters),
            ("file:///srv/%00", Characters),
            ("file:///srv/%7f", Characters),
            ("--upload-pack=x", Option),
            ("-git@host:x", Option),
            ("ssh://-oProxyCommand=x/y", Option),
            ("ssh://-x@host/y", Option),
            ("ssh://git@-oProxyCommand=x/y", Option),
            ("git@-oProxyCommand=x:y", Option),
            ("git@host:-x", Option),
            ("https://user@git.example/web.git", Credentials),
            ("https://user:secret@git.example/web.git", Credentials),
            ("https://:secret@git.example/web.git", Credentials),
            ("http://user:secret@localhost/web.git", Credentials),
            ("ssh://git:secret@git.example/web.git", Credentials),
            ("git:secret@git.example:web.git", Credentials),
            ("https://git.example/web.git?private_token=secret", Query),
            ("https://git.example?x", Query),
            ("https://git.example/web.git#x", Query),
            ("http://git.example/web.git", PlainHttp),
            ("http://127.0.0.1.git.example/web.git", PlainHttp),
            ("http://localhost.git.example/web.git", PlainHttp),
            ("http://10.0.0.1/web.git", PlainHttp),
            ("http://[::ffff:127.0.0.1]/web.git", PlainHttp),
            ("http:///web.git", PlainHttp),
            ("https:///web.git", Host),
            ("https://git.example:0/web.git", Host),
            ("https://git.example:port/web.git", Host),
            ("https://git_é/web.git", Characters),
            ("https://git%2eexample/web.git", Host),
            ("ssh://[::1/web.git", Host),
            ("git@:web.git", Host),
            ("git@host/x:web.git", Host),
            ("@host:web.git", User),
            ("ssh://a$b@host/web.git", User),
            ("https://git.example", Path),
            ("https://git.example/", Path),
            ("ssh://git.example", Path),
            ("git@git.example", Path),
            ("git@git.example:", Path),
            ("file:///", Path),
            ("file://srv/web.git", LocalPath),
            ("file:/srv/web.git", Transport),
            ("/srv/web.git", Transport),
            ("../web.git", Transport),
            ("../a@b:c", Transport),
            ("git.example:web.git", Transport),
            ("git://git.example/web.git", Transport),
            ("ftp://git.example/web.git", Transport),
            ("HTTPS://git.example/web.git", Transport),
            ("ext::sh%20-c%20x", Transport),
            ("ext::x@host:y", Transport),
            ("ext::https://git.example/web.git", Transport),
            ("fd::3", Transport),
        ] {
            assert_eq!(bad.parse::<RepoUrl>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_repeated() {
        for text in ["https://u:secret@h/x", "git:secret@h:x", "https://h/x?secret", "secret"] {
            assert!(!text.parse::<RepoUrl>().unwrap_err().to_string().contains("secret"), "{text}");
        }
    }
}
