//! `release show`: what is in a package, built or published.

use std::fmt::Write as _;

use anyhow::Result;
use bucket::{MadeBy, Promoted, ReleaseName};
use clap::Args;
use console::{count, one_line, print, print_json, safe_lines, size};
use serde::Serialize;

use crate::{
    find::{Extent, Found, Wanted},
    inventory::{Inventory, show_inventory},
    options::{Options, wait_for},
};

const EXAMPLES: &str = "\
Examples:
  release show web                      the newest release of `web`
  release show web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433
  release show --files dist/web:*.deb   a built package, with every file
  release show --json web               for a script

Without --files only the beginning of a package is read, which has everything but
owners, modes and sizes of the files, directories and links.";

/// Arguments of `release show`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Show {
    /// Release, app (its newest release), or .deb file
    #[arg(value_name = "RELEASE|FILE")]
    package: String,
    /// Read the whole package, and show every file with owner, mode and size
    #[arg(long)]
    files: bool,
}

/// What is shown, for `--json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    release: Option<&'a ReleaseName>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<&'a ReleaseName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promoted: Option<&'a Promoted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<&'a MadeBy>,
    #[serde(flatten)]
    inventory: &'a Inventory,
}

impl Show {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let wanted = Wanted::parse(&self.package, &options.directory()?)?;
        let extent = if self.files { Extent::Whole } else { Extent::Head };
        let found = wait_for(async {
            let bucket = if wanted.is_in_bucket() { Some(options.find_bucket().await?) } else { None };
            wanted.find(bucket.as_ref(), extent).await
        })?;
        let inventory = found.inventory()?;
        if options.json {
            return print_json(&Shown {
                release: found.name.as_ref(),
                size: found.size,
                note: note(&found),
                adopted: adopted(&found),
                promoted: promoted(&found),
                made_by: made_by(&found),
                inventory: &inventory,
            });
        }
        print(&text(&found, &inventory))
    }
}

fn note(found: &Found) -> Option<&str> {
    found.release.as_ref()?.metadata.as_ref().ok().map(|facts| facts.note.as_str())
}

fn adopted(found: &Found) -> Option<&ReleaseName> {
    found.release.as_ref()?.adopted.as_ref()
}

fn promoted(found: &Found) -> Option<&Promoted> {
    found.release.as_ref()?.promoted.as_ref()
}

fn made_by(found: &Found) -> Option<&MadeBy> {
    found.release.as_ref()?.metadata.as_ref().ok()?.made_by.as_ref()
}

fn text(found: &Found, inventory: &Inventory) -> String {
    let files = count(inventory.count(), "file");
    let unpacked = if inventory.complete { format!(" with {}", size(inventory.bytes())) } else { String::new() };
    let mut text = format!("{}\n{}, {files}{unpacked}\n", one_line(&found.shown()), size(found.size));
    if let Some(note) = note(found) {
        let _ = writeln!(text, "note: {}", safe_lines(note).trim_end().replace('\n', "\n  "));
    }
    if let Some(original) = adopted(found) {
        let _ = writeln!(text, "adopted: {original}");
    }
    if let Some(promoted) = promoted(found) {
        let _ = writeln!(text, "{promoted}; landed as {}", promoted.landed);
    }
    if let Some(made_by) = made_by(found) {
        let _ = writeln!(text, "made by: {made_by}");
    }
    text + "\n" + &show_inventory(inventory)
}
