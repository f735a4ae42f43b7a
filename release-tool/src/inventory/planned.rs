//! What a package that isn't built yet will have, as far as its sources are there.

use std::{collections::BTreeSet, fs::File};

use anyhow::{Context as _, Error, Result};
use serde::Serialize;

use super::{Inventory, Item, ItemKind, md5_of, units_of};
use crate::{
    deb::scripts::scripts,
    manifest::{Content, Id, Owner, Package, Recipe, Unit},
    pack::{control_fields, plan_units},
    tree::{Entry, Kind, NotThere, Tree, UNITS, Walk, sources},
};

/// Something that `release.toml` names and that isn't there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    /// As `release.toml` has it.
    pub(crate) source: String,
    /// Where it goes on the server.
    pub(crate) path: String,
    /// Why it can't be used now.
    pub(crate) reason: String,
}

impl Inventory {
    /// What a package that is built here will have, and what of it is not there yet. Any other mistake is one here too.
    pub(crate) fn of_recipe(
        walk: &Walk,
        package: &Package,
        recipe: &Recipe,
        version: &str,
        maintainer: &str,
    ) -> Result<(Self, Vec<Missing>)> {
        let mut missing = Vec::new();
        let mut there = Recipe { contents: Vec::new(), ..recipe.clone() };
        for content in &recipe.contents {
            match missing_source(walk, recipe, content)? {
                Some(found) => missing.push(found),
                None => there.contents.push(content.clone()),
            }
        }
        let mut units = package.units.clone();
        units.retain(|unit| {
            let Some((file, Err(error))) = unit.file.as_ref().map(|file| (file, walk.file(file))) else { return true };
            let (source, path) = (file.display().to_string(), format!("/{UNITS}/{}", unit.name));
            let found = Missing::of(&error, source, path);
            let is_there = found.is_none();
            missing.extend(found);
            is_there
        });
        let tree = Tree::lay_out(walk, &there, &units)?;
        let planned = plan_units(walk, &units)?;
        let control = control_fields(package, recipe, &tree, version, maintainer)?;
        let mut inventory = Self {
            fields: control.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            complete: true,
            scripts: scripts(&planned, recipe, &tree).into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            ..Self::default()
        };
        inventory.set_units(package);
        let outside = sources(package).filter(|source| walk.outside(source.path).is_some());
        let outside: BTreeSet<String> = outside.map(|source| source.at).collect();
        for (path, entry) in tree.iter() {
            let is_outside = entry.line().is_some_and(|line| outside.contains(line));
            inventory.files.insert(path.to_owned(), Item { outside: is_outside, ..planned_item(entry)? });
        }
        Ok((inventory, missing))
    }

    /// The units and the check that `release.toml` states.
    pub(crate) fn set_units(&mut self, package: &Package) {
        let owned: Vec<_> = package.units.iter().flat_map(Unit::owned).collect();
        self.units = units_of(&owned);
        if let Some(check) = &package.check {
            self.fields.push(("Push-Check".to_owned(), check.to_string()));
        }
    }
}

impl Missing {
    /// What an error says is not there; `None` if it is about anything else.
    pub(crate) fn of(error: &Error, source: String, path: String) -> Option<Self> {
        Some(Self { source, path, reason: error.downcast_ref::<NotThere>()?.to_string() })
    }
}

/// A source that is not there. Fails where it couldn't be laid out if it were.
fn missing_source(walk: &Walk, recipe: &Recipe, content: &Content) -> Result<Option<Missing>> {
    let Content::Copy { src, dst, .. } = content else { return Ok(None) };
    let alone = Recipe { contents: vec![content.clone()], ..recipe.clone() };
    let Err(error) = Tree::lay_out(walk, &alone, &[]) else { return Ok(None) };
    let path = format!("/{}{}", dst.path, if dst.is_directory && !dst.path.is_empty() { "/" } else { "" });
    Missing::of(&error, src.clone(), path).map_or(Err(error), |missing| Ok(Some(missing)))
}

fn planned_item(entry: &Entry) -> Result<Item> {
    let Owner { user, group } = &entry.owner;
    let name = |id: &Id| match id {
        Id::Name(name) => name.clone(),
        Id::Number(number) => number.to_string(),
    };
    let mode = Some(format!("{:04o}", entry.mode));
    let item = Item { mode, owner: Some(format!("{}:{}", name(user), name(group))), ..Item::file() };
    Ok(match &entry.kind {
        Kind::Directory => Item { kind: ItemKind::Directory, ..item },
        Kind::Link { to } => Item { kind: ItemKind::Link, to: Some(to.clone()), ..item },
        Kind::File { source, size, conffile, .. } => {
            let shown = source.display();
            let mut file = File::open(source).with_context(|| format!("could not open `{shown}`"))?;
            let md5 = md5_of(&mut file).with_context(|| format!("could not read `{shown}`"))?;
            Item { size: Some(*size), md5: Some(md5), conffile: *conffile, ..item }
        }
    })
}
