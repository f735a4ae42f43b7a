//! `release check`: our own lint, of `release.toml` and of built packages.
//!
//! Ours, because lintian of Debian 12 refuses every package with a zstd member.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bucket::Timestamp;
use clap::Args;
use console::{count, one_line, print_json, print_line};
use pipeline::{Action, Known, Problem};

use crate::{
    builder::Builder,
    checkout::{maintainer, whole_seconds},
    lint,
    lint::{Finding, Level},
    manifest::{FILE, Manifest},
    options::{CONFIG, Options, policy},
    pack::{BuildContext, parse_note},
    pipelines,
    run::{files::leads, prepare::project},
    source::{Source, tracked_links},
    tree::Walk,
};

const EXAMPLES: &str = "\
Examples:
  release check                         check release.toml, the files it names as far as they exist, and pipelines
  release check dist/*.deb              check built packages completely";

/// Arguments of `release check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// Built packages to check [default: check release.toml]
    #[arg(value_name = "DEB")]
    debs: Vec<PathBuf>,
}

impl Check {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let mut findings = Vec::new();
        if self.debs.is_empty() {
            let manifest = Manifest::read(&options.directory()?)?;
            let walk = Walk::new(manifest.directory.clone(), options.out(&manifest.directory));
            let maintainer = maintainer(&manifest.directory, &manifest.packages.iter().collect::<Vec<_>>());
            if let Err(error) = &maintainer {
                findings.push(Finding { level: Level::Error, of: FILE.to_owned(), text: error.to_string() });
            }
            let context = maintainer.and_then(|maintainer| context(&manifest, maintainer)).ok();
            for package in &manifest.packages {
                lint::package(&walk, package, context.as_ref(), &mut findings);
            }
            console::note(format_args!("checked {}", count(manifest.packages.len(), "package")));
            check_pipelines(&manifest, &mut findings);
        }
        for deb in &self.debs {
            lint::deb(&options.directory.join(deb), &mut findings);
        }
        if options.json {
            print_json(&findings)?;
        } else {
            for Finding { level, of, text } in &findings {
                let level = match level {
                    Level::Error => "error",
                    Level::Warning => "warning",
                    Level::Note => "note",
                };
                print_line(format_args!("{level}: {}: {}", one_line(of), one_line(text)))?;
            }
        }
        let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
        if errors > 0 {
            bail!("{} in {}", count(errors, "error"), count(findings.len(), "finding"));
        }
        Ok(())
    }
}

/// Checks `.pipeline/config.yaml` and its variants, if there is such a file.
fn check_pipelines(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let packages: Vec<&str> = manifest.packages.iter().map(|package| package.app.as_str()).collect();
    let policy = policy().unwrap_or_else(|error| {
        findings.push(Finding { level: Level::Error, of: CONFIG.to_owned(), text: format!("{error:#}") });
        None
    });
    // Where there is no repository, what the project is called turns out where there is one.
    let source = Source::of(&manifest.directory).ok();
    let named = source.as_ref().map(|source| project(&manifest.pipeline, None, source, &manifest.directory));
    let project = named.as_ref().and_then(|named| named.as_deref().ok());
    // Where there is no repository, the directory itself stands for it.
    let top = source.as_ref().map_or(&manifest.directory, |source| &source.top);
    let links = tracked_links(top).unwrap_or_default();
    let known = Known {
        project,
        packages: &packages,
        chosen: &[],
        allowed: &Action::ALL,
        require_trial: manifest.pipeline.require_trial,
        leads: &|path| Ok(leads(top, &manifest.directory, &links, path)),
        refused: &|action| {
            let unwritable = pipelines::unwritable(&manifest.images, project, action);
            [pipelines::refused(policy.as_ref(), action), unwritable].concat()
        },
    };
    let Some(read) = pipelines::read(&manifest.directory, &known) else { return };
    let found = |level: Level, problems: Vec<Problem>| {
        problems.into_iter().map(move |problem| Finding { level, of: problem.at(), text: problem.text })
    };
    let misnamed = named.and_then(Result::err).map(|text| Problem::of_file(FILE, text));
    findings.extend(found(Level::Error, misnamed.into_iter().collect()));
    match read {
        Ok(checked) => {
            console::note(format_args!("checked {}", count(checked.pipelines.pipelines.len(), "pipeline")));
            findings.extend(found(Level::Warning, checked.warnings));
        }
        Err(problems) => findings.extend(found(Level::Error, problems)),
    }
}

/// As if it were built now, with the shortest of notes.
fn context(manifest: &Manifest, maintainer: Option<String>) -> Result<BuildContext> {
    Ok(BuildContext {
        source: Source::of(&manifest.directory)?,
        dirty: true,
        maintainer,
        builder: Builder::find(|key| std::env::var(key).ok())?,
        time: whole_seconds(Timestamp::now())?,
        file_time: 0,
        note: parse_note("x")?,
    })
}
