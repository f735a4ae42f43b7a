//! `release schema`: the JSON schema of release.toml, for editors.

use anyhow::Result;
use console::print_json;

use crate::manifest::keys::schema::schema;

/// What its help shows.
pub(crate) const EXAMPLES: &str = "\
Examples:
  release schema > release-toml.schema.json

Editors that know taplo, as VS Code with Even Better TOML, complete and check release.toml
by it if its first line is
  #:schema ./release-toml.schema.json
The package `release-tool` has it as /usr/share/doc/release-tool/release-toml.schema.json";

/// Prints the schema.
pub(crate) fn run() -> Result<()> {
    print_json(&schema())
}
