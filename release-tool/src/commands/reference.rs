//! `release reference`: the reference of release.toml, as it was when this program was built.

use anyhow::Result;
use console::print;

const PAGE: &str = include_str!("../../../docs/release-toml.md");

/// What its help shows.
pub(crate) const EXAMPLES: &str = "\
Examples:
  release reference | less
  release reference | grep restart";

/// Prints the page.
pub(crate) fn run() -> Result<()> {
    print(PAGE)
}
