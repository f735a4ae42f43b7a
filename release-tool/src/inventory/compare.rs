//! What differs between two packages.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Inventory, Item, ItemKind};

/// What is different, in the order in which a person reads it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Control fields.
    pub(crate) fields: Vec<Change<String>>,
    /// Files, by path.
    pub(crate) files: Vec<Change<Item>>,
    /// Maintainer scripts, with their texts.
    pub(crate) scripts: Vec<Change<String>>,
    /// Units, with what the agent does with them.
    pub(crate) units: Vec<Change<String>>,
}

/// Something that one of the two has, or that both have differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change<T> {
    /// What it is called.
    pub(crate) name: String,
    /// In the first package; `None` if it has no such thing.
    pub(crate) from: Option<T>,
    /// In the second package.
    pub(crate) to: Option<T>,
}

/// Fields that say where a release comes from, and nothing about what it installs.
const ALWAYS: [&str; 5] = ["Version", "Push-Note", "Push-Dirty", "Push-Branch", "Push-Repo"];

impl Difference {
    /// From one package to another. What is known of one of them only is not compared.
    pub(crate) fn between(from: &Inventory, to: &Inventory) -> Self {
        let fields = |inventory: &Inventory| -> BTreeMap<String, String> {
            let fields = inventory.fields.iter().filter(|(name, _)| !ALWAYS.contains(&name.as_str()));
            fields.cloned().collect()
        };
        let both_complete = from.complete && to.complete;
        let files = |inventory: &Inventory| -> BTreeMap<String, Item> {
            // Of a package that was not read whole, nothing else is known.
            let comparable = |item: &Item| both_complete || item.kind == ItemKind::File;
            let files = inventory.files.iter().filter(|(_, item)| comparable(item));
            files.map(|(path, item)| (path.clone(), item.clone())).collect()
        };
        Self {
            fields: changes(&fields(from), &fields(to), |a, b| a != b),
            files: changes(&files(from), &files(to), |a, b| !a.differences(b).is_empty()),
            scripts: changes(&from.scripts, &to.scripts, |a, b| a != b),
            units: changes(&from.units, &to.units, |a, b| a != b),
        }
    }
}

impl Item {
    /// What both know and say differently: a word for it, and both values.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let kind = |item: &Self| Some(format!("{:?}", item.kind).to_lowercase());
        let flag = |item: &Self| Some(if item.conffile { "conffile" } else { "ordinary" }.to_owned());
        let known = [
            ("kind", kind(self), kind(other)),
            ("target", self.to.clone(), other.to.clone()),
            ("mode", self.mode.clone(), other.mode.clone()),
            ("owner", self.owner.clone(), other.owner.clone()),
            ("size", self.size.map(console::size), other.size.map(console::size)),
            ("content", self.md5.clone(), other.md5.clone()),
            ("conffile", flag(self), flag(other)),
        ];
        let both = known.into_iter().filter_map(|(what, a, b)| Some((what, a?, b?)));
        both.filter(|(_, a, b)| a != b).collect()
    }
}

fn changes<T: Clone>(
    from: &BTreeMap<String, T>,
    to: &BTreeMap<String, T>,
    differ: impl Fn(&T, &T) -> bool,
) -> Vec<Change<T>> {
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &String| {
        let (a, b) = (from.get(name), to.get(name));
        let same = a.zip(b).is_some_and(|(a, b)| !differ(a, b));
        (!same).then(|| Change { name: name.clone(), from: a.cloned(), to: b.cloned() })
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(size: u64, mode: &str, md5: Option<&str>) -> Item {
        Item { size: Some(size), mode: Some(mode.to_owned()), md5: md5.map(str::to_owned), ..Item::file() }
    }

    fn with(files: &[(&str, Item)], complete: bool) -> Inventory {
        let files = files.iter().map(|(path, item)| ((*path).to_owned(), item.clone())).collect();
        Inventory { files, complete, ..Inventory::default() }
    }

    #[test]
    fn what_is_new_gone_or_changed_is_found() {
        let from =
            with(&[("a", item(1, "0644", None)), ("b", item(1, "0644", None)), ("c", item(1, "0644", None))], true);
        let to =
            with(&[("b", item(1, "0644", None)), ("c", item(2, "0755", None)), ("d", item(1, "0644", None))], true);
        let found = Difference::between(&from, &to);
        let names: Vec<_> = found
            .files
            .iter()
            .map(|change| (change.name.as_str(), change.from.is_some(), change.to.is_some()))
            .collect();
        assert_eq!(names, [("a", true, false), ("c", true, true), ("d", false, true)]);
        assert_eq!(Difference::between(&from, &from), Difference::default());
        let words: Vec<_> =
            item(1, "0644", None).differences(&item(2048, "0755", None)).iter().map(|(what, ..)| *what).collect();
        assert_eq!(words, ["mode", "size"]);
    }

    #[test]
    fn what_only_one_of_them_knows_is_not_compared() {
        let directory = Item { kind: ItemKind::Directory, ..Item::file() };
        let whole = with(&[("a", item(7, "0640", Some("x"))), ("d", directory)], true);
        let head = with(&[("a", Item { md5: Some("x".to_owned()), ..Item::file() })], false);
        assert_eq!(Difference::between(&whole, &head), Difference::default());
        let other = with(&[("a", Item { md5: Some("y".to_owned()), ..Item::file() })], false);
        assert_eq!(Difference::between(&whole, &other).files.len(), 1);
    }

    #[test]
    fn a_version_is_no_difference() {
        let of = |version: &str, depends: &str| Inventory {
            fields: [("Version", version), ("Depends", depends)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Inventory::default()
        };
        assert_eq!(Difference::between(&of("1", "a"), &of("2", "a")), Difference::default());
        assert_eq!(Difference::between(&of("1", "a"), &of("2", "b")).fields[0].name, "Depends");
    }
}
