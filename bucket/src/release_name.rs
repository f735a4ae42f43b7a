//! Release names: `{app}/{app}:{user}@{host}:{YYYY-MM-DDTHH:MM:SSZ}:{commit}.deb`.
//!
//! The time has colons of its own, so a name is never split on `:` but taken apart from both ends.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize, Serializer};

use crate::{AppName, NameError, name::check_word};

const KIND: &str = "release name";

/// Length of `YYYY-MM-DDTHH:MM:SSZ`.
const TIME_LENGTH: usize = 20;

/// The full git object name of the commit that a release was built from: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commit(String);

text_name!(Commit);

impl Commit {
    /// The first twelve digits, as in a package's version and on screens.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Commit {
    type Err = NameError;

    fn from_str(commit: &str) -> Result<Self, NameError> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if ![40, 64].contains(&commit.len()) || !commit.chars().all(hex) {
            return Err(NameError::new("commit", commit, "it must be 40 or 64 lower-case hex digits"));
        }
        Ok(Self(commit.to_owned()))
    }
}

/// What a release name is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReleaseParts {
    /// The app it is a release of.
    pub app: AppName,
    /// Login name of who built it; the characters of an app name.
    pub user: String,
    /// Host it was built on; the characters of an app name.
    pub host: String,
    /// When it was built, to the second.
    pub time: Timestamp,
    /// What it was built from.
    pub commit: Commit,
}

/// The unique name of one immutable release.
///
/// Shown and stored as `{app}/{app}:{user}@{host}:{time}:{commit}.deb`; [`ReleaseName::stem`] is the part between
/// the slash and `.deb`, which the package itself carries as `Push-Release:`.
/// Names are ordered by app, then time, then text, so that the newest release of an app sorts last. A clone shares what
/// it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ReleaseName(Arc<Parsed>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parsed {
    text: Box<str>,
    parts: ReleaseParts,
}

impl ReleaseName {
    /// Longest release name, in bytes: object names have room for 1,024 with the directory before it, and a file
    /// name in a `file://` bucket for 255.
    pub const MAX: usize = 340;

    /// Longest file name part (`{stem}.deb`), in bytes, less what a `file://` bucket adds for its side files.
    pub const MAX_FILE: usize = 230;

    /// Creates the name of a release.
    ///
    /// # Errors
    /// When `user` or `host` has a character that names may not have, the time has a fraction of a second or no
    /// four-digit year, or the whole is too long.
    pub fn new(parts: &ReleaseParts) -> Result<Self, NameError> {
        let ReleaseParts { app, user, host, time, commit } = parts;
        let time = time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ");
        let text = format!("{app}/{app}:{user}@{host}:{time}:{commit}.deb");
        let name: Self = text.parse()?;
        if name.0.parts != *parts {
            return Err(NameError::new(KIND, &text, "its time must be whole seconds"));
        }
        Ok(name)
    }

    /// Parses `{app}:{user}@{host}:{time}:{commit}`, as a package carries it in `Push-Release:`.
    pub fn from_stem(stem: &str) -> Result<Self, NameError> {
        let Some((app, _)) = stem.split_once(':') else {
            return Err(NameError::new(KIND, stem, "it has no `:` after the app"));
        };
        format!("{app}/{stem}.deb").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The name without directory and `.deb`.
    pub fn stem(&self) -> &str {
        &self.0.text[self.0.parts.app.as_str().len() + 1..self.0.text.len() - ".deb".len()]
    }

    /// The app it is a release of.
    pub fn app(&self) -> &AppName {
        &self.0.parts.app
    }

    /// Who built it.
    pub fn user(&self) -> &str {
        &self.0.parts.user
    }

    /// Where it was built.
    pub fn host(&self) -> &str {
        &self.0.parts.host
    }

    /// When it was built.
    pub fn time(&self) -> Timestamp {
        self.0.parts.time
    }

    /// What it was built from.
    pub fn commit(&self) -> &Commit {
        &self.0.parts.commit
    }
}

impl FromStr for ReleaseName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| NameError::new(KIND, text, reason);
        if text.len() > Self::MAX {
            return Err(wrong("it is too long"));
        }
        let (directory, file) = text.split_once('/').ok_or_else(|| wrong("it has no `/`"))?;
        let app: AppName = directory.parse().map_err(|e: NameError| wrong(&format!("before the `/`, {}", e.reason)))?;
        if file.len() > Self::MAX_FILE {
            return Err(wrong("it is too long"));
        }
        let stem = file.strip_suffix(".deb").ok_or_else(|| wrong("it must end in `.deb`"))?;
        let rest = stem
            .strip_prefix(app.as_str())
            .and_then(|rest| rest.strip_prefix(':'))
            .ok_or_else(|| wrong("after the `/` it must begin with the app and `:`"))?;
        let (rest, commit) = rest.rsplit_once(':').ok_or_else(|| wrong("it has no commit"))?;
        let commit: Commit =
            commit.parse().map_err(|e: NameError| wrong(&format!("its commit is invalid: {}", e.reason)))?;
        let (who, time) = rest
            .len()
            .checked_sub(TIME_LENGTH)
            .and_then(|at| rest.split_at_checked(at))
            .ok_or_else(|| wrong("it has no time"))?;
        let time = parse_time(time).ok_or_else(|| wrong("its time must have the form YYYY-MM-DDTHH:MM:SSZ"))?;
        let (user, host) = who
            .strip_suffix(':')
            .and_then(|who| who.split_once('@'))
            .ok_or_else(|| wrong("it has no `user@host:` before the time"))?;
        for (what, word) in [("user", user), ("host", host)] {
            check_word(what, word, Self::MAX).map_err(|e| wrong(&format!("its {what} is invalid: {}", e.reason)))?;
        }
        let (user, host) = (user.to_owned(), host.to_owned());
        Ok(Self(Arc::new(Parsed { text: text.into(), parts: ReleaseParts { app, user, host, time, commit } })))
    }
}

/// Release names of which each is in memory once, for whoever keeps what thousands of servers say: a fleet runs far fewer
/// releases than it has servers.
#[derive(Debug, Default)]
pub struct SharedNames(HashSet<ReleaseName>);

impl SharedNames {
    /// Makes a name share what an equal one was made from.
    pub fn share(&mut self, name: &mut ReleaseName) {
        match self.0.get(name) {
            Some(known) => name.clone_from(known),
            None => drop(self.0.insert(name.clone())),
        }
    }

    /// Forgets the names that nobody else has.
    pub fn trim(&mut self) {
        self.0.retain(|name| Arc::strong_count(&name.0) > 1);
    }
}

/// Parses exactly `YYYY-MM-DDTHH:MM:SSZ`: RFC 3339 allows more than a release name does.
fn parse_time(text: &str) -> Option<Timestamp> {
    let shape = |(i, b): (usize, u8)| match i {
        4 | 7 => b == b'-',
        10 => b == b'T',
        13 | 16 => b == b':',
        19 => b == b'Z',
        _ => b.is_ascii_digit(),
    };
    if text.len() != TIME_LENGTH || !text.bytes().enumerate().all(shape) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    // A leap second parses as the second before it: then the name wouldn't be its own time's.
    (time.to_string() == text).then_some(time)
}

impl Ord for ReleaseName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.app(), self.time(), self.as_str()).cmp(&(other.app(), other.time(), other.as_str()))
    }
}

impl PartialOrd for ReleaseName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<String> for ReleaseName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl Serialize for ReleaseName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
