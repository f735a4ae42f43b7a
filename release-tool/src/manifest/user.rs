//! The users of a package: `[[package.NAME.user]]`, and those that every Debian has.
//!
//! dpkg gives a file to the user that its tar names, if the server knows that user by then, and else to root. So a name
//! that nothing makes is an error here, and what makes it comes before the files do ([`crate::deb::scripts`]).

use anyhow::{Result, bail};
use console::{Keys, safe};
use toml::Table;

use super::{
    contents::{Content, Id},
    keys::{Place, known},
};

/// Users of every Debian, in the order of `/usr/share/base-passwd/passwd.master`.
const BASE_USERS: [&str; 18] = [
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
    "backup", "list", "irc", "_apt", "nobody",
];

/// Groups of every Debian, in the order of `/usr/share/base-passwd/group.master`.
const BASE_GROUPS: [&str; 38] = [
    "root", "daemon", "bin", "sys", "adm", "tty", "disk", "lp", "mail", "news", "uucp", "man", "proxy", "kmem",
    "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo", "audio", "dip", "www-data", "backup", "operator",
    "list", "irc", "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff", "games", "users", "nogroup",
];

/// `[[package.NAME.user]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    /// A system user that the package makes where it is missing.
    Made(Box<MadeUser>),
    /// A name that something else makes before this package comes: without it the installation ends.
    Existing {
        /// The user, the group, or both.
        name: String,
        /// What `contents` use the name for; as a user if they don't.
        as_user: bool,
        /// Whether `contents` use the name as a group.
        as_group: bool,
    },
}

/// A system user, as useradd(8) makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeUser {
    /// The user, and its group unless it has another.
    pub(crate) name: String,
    /// Its number; `None` leaves the choice to the server.
    pub(crate) uid: Option<u32>,
    /// The comment field of passwd(5).
    pub(crate) description: String,
    /// Its home, which is not made: `contents` may have it.
    pub(crate) home: String,
    /// Its shell.
    pub(crate) shell: String,
    /// Its group, made where it is missing.
    pub(crate) group: String,
    /// Other groups that it is in, made where they are missing.
    pub(crate) groups: Vec<String>,
}

impl User {
    fn name(&self) -> &str {
        match self {
            Self::Made(user) => &user.name,
            Self::Existing { name, .. } => name,
        }
    }

    fn parse(at: &str, table: Table) -> Result<Self> {
        let mut keys = Keys::new(at, table, &known(Place::User))?;
        let name = keys.required_text("name", "\"web\"")?;
        if keys.flag("existing")? == Some(true) {
            if let Some(key) = known(Place::User).into_iter().find(|key| keys.has(key)) {
                bail!("{at}: `{key}` has no effect on a user that something else makes (`existing`): remove the key");
            }
            return match Id::parse(&name)? {
                Id::Name(name) => Ok(Self::Existing { name, as_user: true, as_group: false }),
                Id::Number(_) => bail!("{at}: `name` is a number: a number needs no user, remove the entry"),
            };
        }
        let checked = |key: &str, name: String| {
            if is_portable(&name) {
                return Ok(name);
            }
            bail!(
                "{at}: invalid `{key}` `{}`: begin with a lower-case letter or `_`, and use at most 31 of a-z 0-9 _ -",
                safe(&name)
            )
        };
        let name = checked("name", name)?;
        if BASE_USERS.contains(&name.as_str()) {
            bail!("{at}: every Debian has the user `{name}`: remove the entry");
        }
        let uid = keys.number("uid", 1..=59_999)?.and_then(|uid| u32::try_from(uid).ok());
        let field = |keys: &mut Keys, key: &str, default: &str| -> Result<String> {
            let text = keys.text(key)?.unwrap_or_else(|| default.to_owned());
            if text.len() > 250 || text.contains(':') || text.chars().any(char::is_control) {
                bail!("{at}: `{key}` must have no colon and no control characters, and at most 250 bytes");
            }
            Ok(text)
        };
        let description = field(&mut keys, "description", "")?;
        let home = field(&mut keys, "home", "/nonexistent")?;
        let shell = field(&mut keys, "shell", "/usr/sbin/nologin")?;
        for (key, path) in [("home", &home), ("shell", &shell)] {
            if !path.starts_with('/') {
                bail!("{at}: `{key}` is `{}`, but must be an absolute path", safe(path));
            }
        }
        let group = match keys.text("group")? {
            Some(group) => checked("group", group)?,
            None => name.clone(),
        };
        let groups = keys.texts("groups")?.into_iter().map(|group| checked("groups", group)).collect::<Result<_>>()?;
        Ok(Self::Made(Box::new(MadeUser { name, uid, description, home, shell, group, groups })))
    }

    fn makes_user(&self, wanted: &str) -> bool {
        self.name() == wanted
    }

    fn makes_group(&self, wanted: &str) -> bool {
        match self {
            Self::Made(user) => user.group == wanted || user.groups.iter().any(|group| group == wanted),
            Self::Existing { name, .. } => name == wanted,
        }
    }
}

/// Whether the tools of every Debian accept it as the name of a new user or group.
fn is_portable(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    name.len() <= 31 && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(rest)
}

/// The users of a package, after which every owner that `contents` name is known.
pub(super) fn parse_all(package: &str, tables: Vec<Table>, contents: &[Content]) -> Result<Vec<User>> {
    let mut users: Vec<User> = Vec::new();
    for (i, table) in tables.into_iter().enumerate() {
        let at = format!("{package} user[{i}]");
        let user = User::parse(&at, table)?;
        if users.iter().any(|other| other.name() == user.name()) {
            bail!("{at}: duplicate user `{}`: merge the two entries", user.name());
        }
        users.push(user);
    }
    for (at, owner) in contents.iter().filter_map(Content::owner) {
        if let Id::Name(name) = &owner.user
            && !BASE_USERS.contains(&name.as_str())
            && !users.iter().any(|user| user.makes_user(name))
        {
            bail!("{}", nothing_makes(at, "owner", "user", name));
        }
        if let Id::Name(name) = &owner.group
            && !BASE_GROUPS.contains(&name.as_str())
            && !users.iter().any(|user| user.makes_group(name))
        {
            bail!("{}", nothing_makes(at, "group", "group", name));
        }
    }
    for user in &mut users {
        if let User::Existing { name, as_user, as_group } = user {
            let named = |id: &Id| matches!(id, Id::Name(used) if used == name);
            *as_group = contents.iter().filter_map(Content::owner).any(|(_, owner)| named(&owner.group));
            *as_user = !*as_group || contents.iter().filter_map(Content::owner).any(|(_, owner)| named(&owner.user));
        }
    }
    Ok(users)
}

fn nothing_makes(at: &str, key: &str, kind: &str, name: &str) -> String {
    format!(
        "{at}: `{key}` is `{name}`, but nothing makes that {kind}, and dpkg would leave the files to root: add \
         [[package.NAME.user]] with name = \"{name}\", and existing = true if another package makes it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_every_debian_are_those_of_base_passwd() {
        for (file, known) in [("passwd", &BASE_USERS[..]), ("group", &BASE_GROUPS[..])] {
            let path = format!("/usr/share/base-passwd/{file}.master");
            let text = std::fs::read_to_string(&path).unwrap();
            let names: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
            assert_eq!(names, known, "{path}");
        }
    }

    fn parse(users: &[&str], contents: &str) -> Result<Vec<User>> {
        let contents: Table = format!("contents = [{contents}]").parse()?;
        let contents = Keys::new("[p]", contents, &["contents"])?.tables("contents")?;
        let users = users.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        parse_all("[p]", users, &super::super::contents::parse_all("[p]", contents)?)
    }

    #[test]
    fn a_name_is_enough() {
        let users = parse(&["name = \"web\""], "{ dir = \"/srv/web\", owner = \"web\", group = \"web\" }").unwrap();
        let [User::Made(user)] = &users[..] else { panic!("{users:?}") };
        assert_eq!((user.uid, user.home.as_str(), user.shell.as_str()), (None, "/nonexistent", "/usr/sbin/nologin"));
        assert_eq!((user.group.as_str(), user.groups.len()), ("web", 0));
    }

    #[test]
    fn owners_of_every_debian_and_numbers_need_no_entry() {
        let contents = "{ dir = \"/a\", owner = \"www-data\", group = \"adm\" }, { dir = \"/b\", owner = \"900\" }";
        parse(&[], contents).unwrap();
    }

    #[test]
    fn what_another_package_makes_is_looked_for_as_it_is_used() {
        let existing = "name = \"ssl-cert\"\nexisting = true";
        let used = |contents: &str| match &parse(&[existing], contents).unwrap()[..] {
            [User::Existing { as_user, as_group, .. }] => (*as_user, *as_group),
            other => panic!("{other:?}"),
        };
        assert_eq!(used(""), (true, false));
        assert_eq!(used("{ dir = \"/a\", owner = \"ssl-cert\" }"), (true, false));
        assert_eq!(used("{ dir = \"/a\", group = \"ssl-cert\" }"), (false, true));
        assert_eq!(used("{ dir = \"/a\", owner = \"ssl-cert\", group = \"ssl-cert\" }"), (true, true));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let directory = "{ dir = \"/srv/web\", owner = \"web\", group = \"web\" }";
        for (users, contents, expected) in [
            (&[][..], directory, "[p] contents[0]: `owner` is `web`, but nothing makes that user"),
            (&["name = \"web\"\ngroup = \"www\""], directory, "`group` is `web`, but nothing makes that group"),
            (&["name = \"Web\""], "", "[p] user[0]: invalid `name` `Web`"),
            (&["name = \"www-data\""], "", "every Debian has the user `www-data`"),
            (&["name = \"web\"", "name = \"web\""], "", "[p] user[1]: duplicate user `web`"),
            (&["name = \"web\"\nuid = 0"], "", "must be a whole number from 1 to"),
            (&["name = \"web\"\nhome = \"srv\""], "", "must be an absolute path"),
            (&["name = \"web\"\ndescription = \"a:b\""], "", "`description` must have no colon"),
            (&["name = \"web\"\nshel = \"/bin/sh\""], "", "did you mean `shell`?"),
            (&["name = \"web\"\nexisting = true\nuid = 7"], "", "`uid` has no effect"),
            (&["name = \"7\"\nexisting = true"], "", "`name` is a number"),
        ] {
            let error = format!("{:#}", parse(users, contents).unwrap_err());
            assert!(error.contains(expected), "{users:?} {contents}\ngave: {error}\nexpected: {expected}");
        }
    }
}
