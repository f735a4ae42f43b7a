//! The `contents` of a package: which file goes where, as whom, with which mode.

use anyhow::{Context, Result, bail};
use toml::Table;

use console::{Keys, safe};

use super::{
    keys::{Place, known},
    mode::Mode,
};

/// One element of `contents`.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Files from the project: one, a tree, or what a glob matches.
    Copy {
        /// How a person finds it in the file.
        at: String,
        /// A path or a glob, relative to the manifest's directory.
        src: String,
        /// Path on the server: of the file, or of the directory it is copied into.
        dst: Target,
        /// Globs of files to leave out, relative to the base of `src` or to the project.
        exclude: Vec<String>,
        /// Whether `src` may lie outside of the repository.
        outside: bool,
        /// Mode of the files; `None` is 0755 for what is executable and 0644 for the rest.
        mode: Option<Mode>,
        /// Mode of the directories below `dst`; `None` is `mode` if that is symbolic, else 0755.
        dir_mode: Option<Mode>,
        /// Owner and group of the files, and of the directories below `dst`.
        owner: Owner,
        /// `None` is: below /etc.
        conffile: Option<bool>,
    },
    /// A symbolic link.
    Link {
        /// How a person finds it in the file.
        at: String,
        /// Path of the link on the server.
        link: Target,
        /// Target of the link, as written.
        to: String,
    },
    /// A directory, perhaps empty.
    Directory {
        /// How a person finds it in the file.
        at: String,
        /// Path of the directory on the server.
        directory: Target,
        /// Permission bits of the directory.
        mode: u32,
        /// Owner and group of the directory.
        owner: Owner,
    },
}

/// An absolute path on the server, checked: no `.`, `..`, empty segments or control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without the slash at the beginning.
    pub(crate) path: String,
    /// Written with a slash at the end: things go *into* it.
    pub(crate) is_directory: bool,
}

/// Owner and group of a file on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user that owns the file.
    pub(crate) user: Id,
    /// The group that owns the file.
    pub(crate) group: Id,
}

/// A user or a group, by name (looked up on the server while dpkg unpacks) or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// A name, which dpkg looks up on the server while it unpacks.
    Name(String),
    /// A numeric id.
    Number(u32),
}

impl Owner {
    /// root:root.
    pub(crate) fn root() -> Self {
        Self { user: Id::Name("root".to_owned()), group: Id::Name("root".to_owned()) }
    }
}

pub(super) fn parse_all(package: &str, tables: Vec<Table>) -> Result<Vec<Content>> {
    let parse = |(i, table)| Content::parse(format!("{package} contents[{i}]"), table);
    tables.into_iter().enumerate().map(parse).collect()
}

impl Content {
    /// To whom it gives files, and how a person finds the entry; none for a link.
    pub(crate) fn owner(&self) -> Option<(&str, &Owner)> {
        match self {
            Self::Copy { at, owner, .. } | Self::Directory { at, owner, .. } => Some((at, owner)),
            Self::Link { .. } => None,
        }
    }

    fn parse(at: String, table: Table) -> Result<Self> {
        let kinds = ["src", "link", "dir"].into_iter().filter(|kind| table.contains_key(*kind)).collect::<Vec<_>>();
        match kinds[..] {
            ["link"] => {
                let mut keys = Keys::new(&at, table, &known(Place::Link))?;
                let link = target(&mut keys, "link")?;
                let to = keys.required_text("to", "\"../sites-available/web\"")?;
                if to.is_empty() || to.len() > 4096 || to.chars().any(char::is_control) {
                    bail!("{at}: `to` must not be empty, longer than 4096 bytes, or contain control characters");
                }
                if link.is_directory {
                    bail!("{at}: `link` must not end in a slash: use the path of the link itself");
                }
                Ok(Self::Link { at, link, to })
            }
            ["dir"] => {
                let mut keys = Keys::new(&at, table, &known(Place::Directory))?;
                let directory = target(&mut keys, "dir")?;
                let mode = mode(&mut keys, "mode")?.map_or(0o755, |mode| mode.apply(0o755, true));
                let owner = owner(&mut keys)?;
                Ok(Self::Directory { at, directory, mode, owner })
            }
            // Without any of the three, `src` is what is probably missing: let that be the message.
            ["src"] | [] => {
                let mut keys = Keys::new(&at, table, &known(Place::Copy))?;
                let src = keys.required_text("src", "\"etc/web.conf\"")?;
                if src.is_empty() || src.chars().any(char::is_control) {
                    bail!("{at}: `src` must not be empty or contain control characters");
                }
                let dst = target(&mut keys, "dst")?;
                let exclude = keys.texts("exclude")?;
                let outside = keys.flag("outside")?.unwrap_or(false);
                let (dir_mode, mode) = (mode(&mut keys, "dir_mode")?, mode(&mut keys, "mode")?);
                let owner = owner(&mut keys)?;
                let conffile = keys.flag("conffile")?;
                Ok(Self::Copy { at, src, dst, exclude, outside, mode, dir_mode, owner, conffile })
            }
            _ => bail!("{at}: `src`, `link` and `dir` are mutually exclusive: use one entry for each"),
        }
    }
}

fn target(keys: &mut Keys, key: &str) -> Result<Target> {
    let text = keys.required_text(key, "\"/usr/share/web/file\"")?;
    Target::parse(&text).with_context(|| format!("{}: invalid `{key}`", keys.at()))
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let shown = safe(text);
        let Some(path) = text.strip_prefix('/') else {
            bail!("`{shown}` is not absolute: begin it with a slash");
        };
        let (path, is_directory) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        if path.len() > 4000 || path.chars().any(char::is_control) {
            bail!("`{shown}` is too long or contains control characters");
        }
        if text != "/" && path.split('/').any(|segment| ["", ".", ".."].contains(&segment)) {
            bail!("`{shown}` has an empty segment, `.` or `..`: use a normalized path");
        }
        if path.split('/').any(|segment| segment.len() > 255) {
            bail!("`{shown}` has a segment longer than 255 bytes");
        }
        Ok(Self { path: path.to_owned(), is_directory })
    }
}

fn mode(keys: &mut Keys, key: &str) -> Result<Option<Mode>> {
    let Some(text) = keys.text(key)? else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{}: invalid `{key}`", keys.at()))
}

fn owner(keys: &mut Keys) -> Result<Owner> {
    let mut id = |key: &str| -> Result<Id> {
        match keys.text(key)? {
            None => Ok(Id::Name("root".to_owned())),
            Some(text) => Id::parse(&text).with_context(|| format!("{}: invalid `{key}`", keys.at())),
        }
    };
    Ok(Owner { user: id("owner")?, group: id("group")? })
}

impl Id {
    /// Largest number that a tar header has room for.
    const MAX: u32 = 0o7_777_777;

    pub(super) fn parse(text: &str) -> Result<Self> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(number) if number <= Self::MAX => Ok(Self::Number(number)),
                _ => bail!("`{text}` is greater than {}, the maximum", Self::MAX),
            };
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !text.starts_with(first) || text.len() > 31 || !text.chars().all(good) {
            bail!("`{}` is neither a valid user or group name nor a number", safe(text));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_never_leave_their_place() {
        for bad in ["usr/x", "", "/a//b", "/a/../b", "/..", "/a/./b", "/a\nb", "//", "/a//"] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
        for (good, path, is_directory) in
            [("/usr/bin/x", "usr/bin/x", false), ("/usr/share/x/", "usr/share/x", true), ("/", "", true)]
        {
            assert_eq!(Target::parse(good).unwrap(), Target { path: path.into(), is_directory }, "{good}");
        }
    }

    #[test]
    fn owners_are_names_or_numbers() {
        assert_eq!(Id::parse("www-data").unwrap(), Id::Name("www-data".into()));
        assert_eq!(Id::parse("1000").unwrap(), Id::Number(1000));
        for bad in ["", "-x", "a b", "a:b", "9999999999", "1a", "$(id)"] {
            assert!(Id::parse(bad).is_err(), "{bad}");
        }
    }
}
