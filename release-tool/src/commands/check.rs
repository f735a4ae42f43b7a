//! `release check`: our own lint, of `release.toml` and of built packages.
//!
//! Ours, because lintian of Debian 12 refuses every package with a zstd member.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::{cli::Options, lint, manifest::Manifest, talk::plain, tree::Walk};

const EXAMPLES: &str = "\
Examples:
  release check                         release.toml, and the files it names as far as they are there
  release check dist/*.deb              built packages, every byte of them";

/// Arguments of `release check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// Built packages; without any, release.toml is looked at
    #[arg(value_name = "DEB")]
    debs: Vec<PathBuf>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// In which package or file.
    pub(crate) of: String,
    /// What, and what to do about it.
    pub(crate) text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It won't work.
    Error,
    /// It will probably surprise.
    Warning,
}

impl Check {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let mut findings = Vec::new();
        if self.debs.is_empty() {
            let manifest = Manifest::read(&options.directory()?)?;
            let walk = Walk { out: options.out(&manifest.directory), directory: manifest.directory.clone() };
            for package in &manifest.packages {
                lint::package(&walk, package, &mut findings);
            }
            eprintln!("checked {} packages", manifest.packages.len());
        }
        for deb in &self.debs {
            lint::deb(&options.directory.join(deb), &mut findings);
        }
        if options.json {
            println!("{}", serde_json::to_string_pretty(&findings)?);
        } else {
            for Finding { level, of, text } in &findings {
                let level = if *level == Level::Error { "error" } else { "warning" };
                println!("{level}: {}: {}", plain(of), plain(text));
            }
        }
        let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
        if errors > 0 {
            bail!("{errors} of {} findings are errors", findings.len());
        }
        Ok(())
    }
}
