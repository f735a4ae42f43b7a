//! What a package that isn't built yet will have, as far as its sources are there.

use std::fs::File;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Inventory, Item, ItemKind, md5_of, units_of};
use crate::{
    deb::scripts::scripts,
    manifest::{Content, Id, Owner, Package, Recipe, Unit},
    pack::{control_fields, plan_units},
    tree::{Entry, Kind, Tree, UNITS, Walk},
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
    /// What a package that is built here will have, and what of it is not there yet.
    pub(crate) fn of_recipe(
        walk: &Walk,
        package: &Package,
        recipe: &Recipe,
        version: &str,
        maintainer: &str,
    ) -> Result<(Self, Vec<Missing>)> {
        let mut missing = Vec::new();
        let mut there = recipe.clone();
        there
            .contents
            .retain(|content| missing_source(walk, recipe, content).map(|found| missing.push(found)).is_none());
        let mut units = package.units.clone();
        units.retain(|unit| {
            let Some((file, Err(error))) = unit.file.as_ref().map(|file| (file, walk.file(file))) else { return true };
            let path = format!("/{UNITS}/{}", unit.name);
            missing.push(Missing { source: file.display().to_string(), path, reason: error.to_string() });
            false
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
        for (path, entry) in tree.iter() {
            inventory.files.insert(path.to_owned(), planned_item(walk, entry)?);
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

/// Whether a source can't be laid out by itself.
fn missing_source(walk: &Walk, recipe: &Recipe, content: &Content) -> Option<Missing> {
    let Content::Copy { src, dst, .. } = content else { return None };
    let alone = Recipe { contents: vec![content.clone()], ..recipe.clone() };
    let error = Tree::lay_out(walk, &alone, &[]).err()?;
    let path = format!("/{}{}", dst.path, if dst.is_directory && !dst.path.is_empty() { "/" } else { "" });
    Some(Missing { source: src.clone(), path, reason: error.root_cause().to_string() })
}

fn planned_item(walk: &Walk, entry: &Entry) -> Result<Item> {
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
            let outside = walk.outside(source).is_some();
            Item { size: Some(*size), md5: Some(md5), conffile: *conffile, outside, ..item }
        }
    })
}
