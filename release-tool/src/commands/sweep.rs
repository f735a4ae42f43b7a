//! `release sweep`: deletes what is left of tries and is of no use any more.

use std::time::Duration;

use anyhow::{Result, ensure};
use bucket::Removal;
use clap::Args;
use console::{age, count, note, print_json, print_line, warning};
use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    buildset::{machine::Machine, make::tell_left},
    change::image::remove::Registries,
    options::{Options, wait_for},
    sweep::{
        decide::{Kind, limit},
        find::{AT_ONCE, Findings, Places, Swept, What, find},
    },
};

/// Most objects that are named because they stay and are no candidates.
const MOST_STRAYS: usize = 20;

/// Delete candidates, their tags of images, overlays and artifacts of runs that are of no use any more
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  release sweep --dry-run           show what would be deleted, and why
  release sweep --older-than 7d     leave what is younger than a week, unless its change has ended

Candidates and overlays of changes that were promoted or abandoned go, and all others that are older
than --older-than; a gated candidate of another change, what lies among candidates and is none, and
artifacts of runs only after 30 days; without a candidate bucket only those are looked at. Releases, what is recorded of changes and runs, and what is
younger than an hour are never deleted. Overlays are found on the machine on which they were made.")]
pub(crate) struct Sweep {
    /// Age from which candidates and overlays of other changes go, too
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = console::duration::parse)]
    older_than: Duration,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

impl Sweep {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let here = Machine::find()?;
        let older_than = SignedDuration::try_from(self.older_than)?;
        wait_for(async {
            let named = options.find_candidates()?;
            let candidates = if let Some(candidates) = &named {
                Some(candidates.open().await?)
            } else {
                note("no candidate bucket is specified: only artifacts of runs are looked at");
                None
            };
            let images = options.find_manifest()?.map(|manifest| manifest.images).unwrap_or_default();
            let registries = Registries::new(images, named);
            let places = Places { production: options.production().await?, candidates, registries };
            let Findings { swept, strays, seen, unread, failed } = find(&places, &here, older_than).await;
            for error in unread {
                warning(format_args!("{error:#}"));
            }
            tell_strays(&strays, limit(Kind::Stray, older_than));
            let mut failed: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
            failed.iter().for_each(warning);
            let deleted = stream::iter(&swept).map(async |Swept { what, why }| {
                let deleted = if self.dry_run { Ok(Removal::Gone) } else { what.delete(&places).await };
                (what.to_string(), why.to_string(), deleted)
            });
            let mut deleted = std::pin::pin!(deleted.buffered(AT_ONCE));
            let mut gone = Vec::new();
            while let Some((what, why, deleted)) = deleted.next().await {
                match deleted {
                    Ok(removed) => {
                        tell_left(&what, &removed);
                        if !options.json {
                            print_line(format_args!("{what}: {why}"))?;
                        }
                        gone.push(json!({ "what": what, "why": why }));
                    }
                    Err(error) => {
                        let told = format!("{error:#}");
                        warning(&told);
                        failed.push(told);
                    }
                }
            }
            let (verb, went) = (if self.dry_run { "would delete" } else { "deleted" }, gone.len());
            note(format_args!("{verb} {went} of {}", count(seen, "object")));
            if options.json {
                let strays: Vec<String> = strays.iter().map(What::to_string).collect();
                print_json(&json!({
                    "dry_run": self.dry_run, "seen": seen, "deleted": gone, "strays": strays, "failed": failed,
                }))?;
            }
            ensure!(failed.is_empty(), "{} failed, and will be tried again by the next sweep", failed.len());
            Ok(())
        })
    }
}

/// Names what lies among candidates, is none, and stays until it is so old.
fn tell_strays(strays: &[What], until: SignedDuration) {
    for stray in strays.iter().take(MOST_STRAYS) {
        note(format_args!("note: {stray} stays until it is {} old", age(until)));
    }
    if let Some(more) = strays.len().checked_sub(MOST_STRAYS).filter(|more| *more > 0) {
        note(format_args!("note: {} besides are no candidates either", count(more, "object")));
    }
}
