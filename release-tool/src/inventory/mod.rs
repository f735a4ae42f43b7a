//! What a package has: fields, files, scripts, units. Of a built one, or of one that is yet to be built.
//!
//! `plan`, `show` and `diff` are views of it. The control member alone names the files that have an MD5 sum, with that
//! sum, and the conffiles; owners, modes, sizes, directories and links are known of a package that was read whole.

mod compare;
mod lines;
mod planned;
mod text;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bucket::{OwnedUnit, ReleaseFields};
use md5::{Digest as _, Md5};
use serde::{Serialize, Serializer};
use tar::{Archive, Entry, EntryType};

use crate::deb::read::DebFile;

pub(crate) use compare::Difference;
pub(crate) use planned::Missing;
pub(crate) use text::{show_difference, show_inventory};

/// Maintainer scripts, and what dpkg reads like one.
const SCRIPTS: [&str; 6] = ["config", "postinst", "postrm", "preinst", "prerm", "triggers"];

/// Fields that `units` and a release's name say already.
const ELSEWHERE: [&str; 2] = [ReleaseFields::RELEASE, ReleaseFields::UNITS];

/// What a package has, as far as it is known.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Inventory {
    /// Control fields in their order.
    #[serde(serialize_with = "as_map")]
    pub(crate) fields: Vec<(String, String)>,
    /// The path of each file on the server, without the slash at the beginning, and what it is.
    pub(crate) files: BTreeMap<String, Item>,
    /// Whether `files` has everything, with owners, modes and sizes.
    pub(crate) complete: bool,
    /// Maintainer scripts by name.
    pub(crate) scripts: BTreeMap<String, String>,
    /// Units and what the agent does with each, as in `restart`.
    pub(crate) units: BTreeMap<String, String>,
}

/// A file, a directory or a link of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    /// What it is.
    pub(crate) kind: ItemKind,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Permission bits, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// Owner and group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Size of a file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// MD5 sum of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) md5: Option<String>,
    /// Whether an administrator's changes are kept.
    pub(crate) conffile: bool,
    /// Whether it comes from outside of the repository.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) outside: bool,
}

/// The type of an [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ItemKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else, as a device.
    Other,
}

impl Item {
    /// A file of which nothing else is known.
    fn file() -> Self {
        Self {
            kind: ItemKind::File,
            to: None,
            mode: None,
            owner: None,
            size: None,
            md5: None,
            conffile: false,
            outside: false,
        }
    }
}

impl Inventory {
    /// What the control member says.
    pub(crate) fn of_control(deb: &DebFile) -> Result<Self> {
        let fields =
            deb.control.iter().filter(|(name, _)| !ELSEWHERE.iter().any(|other| name.eq_ignore_ascii_case(other)));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let text = |name: &str| deb.files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let units = ReleaseFields::read(&deb.control)?.map(|fields| fields.units).unwrap_or_default();
        let scripts = SCRIPTS.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect();
        let mut inventory = Self { fields, scripts, units: units_of(&units), ..Self::default() };
        for line in text("md5sums").unwrap_or_default().lines() {
            if let Some((sum, path)) = line.split_once("  ") {
                inventory.files.entry(path.to_owned()).or_insert_with(Item::file).md5 = Some(sum.to_owned());
            }
        }
        for path in text("conffiles").unwrap_or_default().lines().filter_map(|line| line.strip_prefix('/')) {
            inventory.files.entry(path.to_owned()).or_insert_with(Item::file).conffile = true;
        }
        Ok(inventory)
    }

    /// The same and every file, read from the data member.
    pub(crate) fn of_whole(deb: &DebFile) -> Result<Self> {
        let mut inventory = Self::of_control(deb)?;
        let known = std::mem::take(&mut inventory.files);
        inventory.files = read_files(deb, &known).context("damaged data member")?;
        inventory.complete = true;
        Ok(inventory)
    }

    /// Sum of the sizes of the files, as far as they are known.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().filter_map(|item| item.size).sum()
    }

    /// How many regular files it has.
    pub(crate) fn count(&self) -> usize {
        self.files.values().filter(|item| item.kind == ItemKind::File).count()
    }
}

fn read_files(deb: &DebFile, known: &BTreeMap<String, Item>) -> Result<BTreeMap<String, Item>> {
    let mut files: BTreeMap<String, Item> = BTreeMap::new();
    for entry in Archive::new(deb.data()?).entries()? {
        let mut entry = entry?;
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        if path.is_empty() {
            continue;
        }
        let kind = entry.header().entry_type();
        let linked = entry.link_name_bytes().map(|to| String::from_utf8_lossy(&to).into_owned());
        let mut item = match (kind, &linked) {
            // Another name of a file that came before.
            (EntryType::Link, Some(to)) => files.get(&normal(to)).cloned().unwrap_or_else(Item::file),
            _ => read_item(&mut entry, linked)?,
        };
        item.conffile = known.get(&path).is_some_and(|known| known.conffile);
        files.insert(path, item);
    }
    Ok(files)
}

fn read_item(entry: &mut Entry<'_, impl std::io::Read>, to: Option<String>) -> Result<Item> {
    let header = entry.header();
    let name = |name: Option<&str>, number: u64| match name {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => number.to_string(),
    };
    let user = name(header.username().ok().flatten(), header.uid()?);
    let group = name(header.groupname().ok().flatten(), header.gid()?);
    let mode = Some(format!("{:04o}", header.mode()? & 0o7777));
    let kind = match header.entry_type() {
        kind if kind.is_file() => ItemKind::File,
        EntryType::Directory => ItemKind::Directory,
        EntryType::Symlink => ItemKind::Link,
        _ => ItemKind::Other,
    };
    let mut item = Item { kind, to, mode, owner: Some(format!("{user}:{group}")), ..Item::file() };
    if kind == ItemKind::File {
        item.size = Some(entry.size());
        item.md5 = Some(md5_of(entry)?);
    }
    Ok(item)
}

/// The MD5 sum of what is left to read.
fn md5_of(from: &mut impl std::io::Read) -> Result<String> {
    let (mut sum, mut buffer) = (Md5::new(), vec![0; 64 * 1024]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex::encode(sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}

/// A path of an archive as a path on the server, without the slash at the beginning.
fn normal(path: &str) -> String {
    path.trim_start_matches("./").trim_matches('/').to_owned()
}

fn units_of(units: &[OwnedUnit]) -> BTreeMap<String, String> {
    let pair = |unit: &OwnedUnit| {
        let text = unit.to_string();
        let (name, action) = text.split_once('=').unwrap_or((&text, ""));
        (name.to_owned(), action.to_owned())
    };
    units.iter().map(pair).collect()
}

fn as_map<S: Serializer>(fields: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}
