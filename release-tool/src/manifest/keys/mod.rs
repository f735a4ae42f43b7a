//! Every key of `release.toml`, in one table: what the parser knows, the reference documents and the schema describes.
//!
//! The parser takes its known keys from here ([`known`]), so a key that isn't in [`table::table`] is refused as unknown. The page
//! `docs/release-toml.md` has the rows of this table, and `docs/release-toml.schema.json` is [`schema::schema`]: tests
//! compare both with the code. So a new key is added to the table, to the page, and to the schema by
//! `release schema > docs/release-toml.schema.json`.

#[cfg(test)]
mod page;
pub(crate) mod schema;
mod table;
#[cfg(test)]
mod validator;

/// A key, and what a person has to know to use it.
#[derive(Debug)]
pub(crate) struct Key {
    /// The table that it stands in.
    pub(crate) place: Place,
    /// As it is written.
    pub(crate) name: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
    /// What it says, in whole sentences.
    pub(crate) meaning: &'static str,
    /// What holds without it, as the reference shows it: a value in backquotes, or words.
    pub(crate) default: &'static str,
    /// How it is written, in TOML.
    pub(crate) example: &'static str,
}

/// The tables of `release.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the first table.
    Top,
    /// `[bucket]`
    Bucket,
    /// `[candidates]`
    Candidates,
    /// `[images]`
    Images,
    /// `[pipeline]`
    Pipeline,
    /// `[defaults]`
    Defaults,
    /// `[package.NAME]`, of every package.
    Package,
    /// `[package.NAME]`, of a package that is built here.
    Recipe,
    /// An entry of `contents` with `src`.
    Copy,
    /// An entry of `contents` with `link`.
    Link,
    /// An entry of `contents` with `dir`.
    Directory,
    /// `scripts`
    Scripts,
    /// `[[package.NAME.user]]`
    User,
    /// `[[package.NAME.unit]]`
    Unit,
    /// `check`, as a table.
    Check,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string that matches a regular expression.
    Matching(&'static str),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number within these limits.
    Number(i64, i64),
    /// An array of strings.
    Texts,
    /// A string, or an array of strings.
    Lines,
    /// A table.
    Table(Place),
    /// A table of tables, each with a name that a person chose.
    Named(&'static [Place]),
    /// An array of tables, each of one of these places.
    Tables(&'static [Place]),
    /// An array of strings, or a table.
    TextsOrTable(Place),
}

/// The keys that a table may have.
pub(crate) fn keys(place: Place) -> impl Iterator<Item = &'static Key> {
    table::table().filter(move |key| key.place == place)
}

/// The names of the keys that a table may have, for [`console::Keys::new`].
pub(super) fn known(place: Place) -> Vec<&'static str> {
    keys(place).map(|key| key.name).collect()
}

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use super::*;
    use crate::manifest::Manifest;

    /// Keys of which a table has only one.
    const EXCLUSIVE: [(Place, &[&str]); 2] =
        [(Place::Unit, &["file", "name"]), (Place::Check, &["http", "tcp", "command"])];

    fn table(text: &str) -> Table {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A file with this one table in its place, and beside it only what it needs.
    fn file(place: Place, own: Table) -> Table {
        let mut file = table("schema = 1");
        let mut package = table("description = \"x\"\nmaintainer = \"A <a@example.org>\"\narch = \"all\"");
        let mut with = table(match place {
            Place::Copy => "src = \"a\"\ndst = \"/a\"",
            Place::Link => "link = \"/a\"\nto = \"b\"",
            Place::Directory => "dir = \"/a\"",
            Place::User => "name = \"web\"",
            Place::Unit => "file = \"web@.service\"",
            Place::Check => "http = \"http://127.0.0.1/\"",
            Place::Bucket => "url = \"gs://acme\"",
            Place::Candidates => "bucket = \"gs://acme-ci\"",
            _ => "",
        });
        for (_, exclusive) in
            EXCLUSIVE.iter().filter(|(of, names)| *of == place && names.iter().any(|name| own.contains_key(*name)))
        {
            with.retain(|name, _| !exclusive.contains(&name));
        }
        with.extend(own);
        if place == Place::Package && with.contains_key("outside") {
            with.insert("deb".to_owned(), "x.deb".into());
        }
        let with = Value::Table(with);
        let key = match place {
            Place::Top => {
                file.insert(
                    "package".into(),
                    Value::Table([("web".to_owned(), Value::Table(package))].into_iter().collect()),
                );
                if let Value::Table(own) = with {
                    file.extend(own);
                }
                return file;
            }
            Place::Bucket | Place::Candidates | Place::Images | Place::Pipeline | Place::Defaults => {
                let name = match place {
                    Place::Bucket => "bucket",
                    Place::Candidates => "candidates",
                    Place::Images => "images",
                    Place::Pipeline => "pipeline",
                    _ => "defaults",
                };
                file.insert(name.to_owned(), with);
                None
            }
            Place::Package | Place::Recipe => {
                if let Value::Table(own) = with {
                    if own.contains_key("deb") {
                        package.clear();
                    }
                    package.extend(own);
                }
                None
            }
            Place::Copy | Place::Link | Place::Directory => Some(("contents", Value::Array(vec![with]))),
            Place::User => Some(("user", Value::Array(vec![with]))),
            Place::Unit => Some(("unit", Value::Array(vec![with]))),
            Place::Scripts => Some(("scripts", with)),
            Place::Check => Some(("check", with)),
        };
        package.extend(key.map(|(name, value)| (name.to_owned(), value)));
        let packages = [("web".to_owned(), Value::Table(package))].into_iter().collect();
        file.insert("package".into(), Value::Table(packages));
        file
    }

    fn parse(file: &Table) -> anyhow::Result<Manifest> {
        Manifest::parse("/project".as_ref(), &toml::to_string(file)?)
    }

    #[test]
    fn each_key_of_the_table_is_read() {
        for key in table::table() {
            // No key takes a date.
            let wrong = table(&format!("{} = 1979-05-27", key.name));
            let error = parse(&file(key.place, wrong)).expect_err(key.name);
            let expected = format!("`{}` is `1979-05-27`", key.name);
            assert!(format!("{error:#}").contains(&expected), "{:?} {}: {error:#}", key.place, key.name);
        }
    }

    #[test]
    fn each_example_is_valid() {
        for key in table::table() {
            let own = table(key.example);
            if key.example.starts_with('[') {
                assert!(matches!(key.kind, Kind::Table(_) | Kind::Tables(_) | Kind::Named(_)), "{}", key.example);
                continue;
            }
            assert_eq!(own.keys().collect::<Vec<_>>(), [key.name]);
            let file = file(key.place, own);
            parse(&file).unwrap_or_else(|error| panic!("{}: {error:#}", key.example));
            assert_eq!(validator::mistakes(&file), [""; 0], "{}", key.example);
        }
    }
}
