//! The reference, `docs/release-toml.md`: for each table of `release.toml` it has the rows that the code gives.

use super::{Key, Place, keys, table::table};
use crate::manifest::Package;

const PAGE: &str = include_str!("../../../../docs/release-toml.md");

const HEAD: &str = "| key | what it says | default | example |\n|---|---|---|---|\n";

fn row(key: &Key) -> String {
    let Key { name, meaning, default, example, .. } = key;
    format!("| `{name}` | {meaning} | {default} | `{example}` |\n")
}

#[test]
fn the_reference_has_each_key_of_the_code() {
    let mut places: Vec<Place> = Vec::new();
    for place in table().map(|key| key.place) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    for place in &places {
        let table = keys(*place).fold(HEAD.to_owned(), |text, key| text + &row(key));
        assert!(
            PAGE.contains(&format!("\n{table}\n")),
            "docs/release-toml.md needs this table of {place:?}:\n\n{table}"
        );
    }
    assert_eq!(
        PAGE.matches(HEAD).count(),
        places.len(),
        "docs/release-toml.md has a table that the code does not have"
    );
}

#[test]
fn the_reference_has_valid_examples() {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let table: toml::Table = block.parse().unwrap_or_else(|error| panic!("{block}: {error}"));
        for (name, package) in table["package"].as_table().unwrap() {
            let mut keys = package.as_table().unwrap().clone();
            if !keys.contains_key("deb") {
                for (key, value) in [("description", "x"), ("maintainer", "A <a@example.org>"), ("arch", "all")] {
                    keys.entry(key).or_insert(value.into());
                }
            }
            Package::parse("[p]", name, keys, None).unwrap_or_else(|error| panic!("{block}: {error:#}"));
        }
    }
}
