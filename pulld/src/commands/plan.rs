//! `pulld plan`: what a pull would do. Changes nothing.

use std::{fs::File, io::ErrorKind, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use bucket::{BucketUrl, Generation, ServerDocument, Timestamp};
use console::{Threads, ago, block_on, cut_lines, print, print_json, safe, warning};
use serde::Serialize;

use crate::{
    config::Settings,
    decide::{
        plan::{self, Decision, Situation, Step},
        report::PlanReport,
    },
    machine::{OWN_PACKAGE, PackageManager},
    state::{paths::Paths, pauses::Pauses, quarantine::Quarantine, remembered},
    store::bucket::Bucket,
};

/// Arguments of `pulld plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "While the bucket does not answer, the plan is for the document that the agent last read. The JSON has \
                  what keeps an app from its document as data: see `pulld why --help`.\n\nExit status: 0 nothing to do; 3 \
                  changes pending; 1 error"
)]
pub(crate) struct Arguments {
    /// Plan for the document that the agent last read, without asking the bucket
    #[arg(long)]
    offline: bool,

    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Most characters of one piece of evidence that are shown.
const MAX_EVIDENCE: usize = 3000;

/// The exit status for a plan that is not empty.
const CHANGES_PENDING: u8 = 3;

/// What is planned, and for which document.
struct Planned {
    decision: Decision,
    document: PlannedFor,
}

/// The document that is planned for.
#[derive(Serialize)]
struct PlannedFor {
    /// Its generation; `None` when there is no document.
    generation: Option<Generation>,
    /// The generation that the agent read before the document was gone, if it is.
    gone: Option<Generation>,
    /// When it was read.
    read: Timestamp,
    /// Why it is not the bucket's, but the one that the agent last read.
    offline: Option<String>,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let Planned { decision, document } = block_on(Threads::One, read(context, arguments.offline))?;
    let age = ago(Timestamp::now().duration_since(document.read));
    if let Some(generation) = document.gone {
        let as_of = document.offline.as_ref().map(|why| format!(", as the agent last saw {age}: {why}"));
        warning(format_args!(
            "the server document is gone, so that nothing is changed: generation {generation} was read before{}",
            as_of.unwrap_or_default()
        ));
    } else if let Some(why) = &document.offline {
        let generation =
            document.generation.map(|generation| format!(" (generation {generation})")).unwrap_or_default();
        warning(format_args!("planning for the server document as the agent last read it, {age}{generation}: {why}"));
    }
    if arguments.json {
        print_json(&Shown { document, steps: &decision.plan.steps, apps: &decision.report })?;
    } else {
        print(&show(&decision))?;
    }
    Ok(if decision.plan.steps.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES_PENDING) })
}

async fn read(context: &super::Context, offline: bool) -> Result<Planned> {
    ensure_readable(&context.paths)?;
    let loaded = context.load()?;
    loaded.warnings.iter().for_each(warning);
    let settings = loaded.settings;
    let url = settings
        .bucket
        .as_ref()
        .with_context(|| format!("no bucket specified: set `bucket` in `{}`", context.paths.config_file().display()))?;
    let kept = context.paths.document();
    let read = if offline { Err(anyhow!("as asked for by --offline")) } else { from_bucket(url, &settings).await };
    let (document, planned_for) = match read {
        Ok(found) => {
            let kept = remembered::recall(&kept, url, &settings.server).ok().flatten();
            let gone = kept.filter(|_| found.is_none()).map(|kept| kept.generation);
            let (generation, document) = found.unzip();
            (document, PlannedFor { generation, gone, read: Timestamp::now(), offline: None })
        }
        Err(error) => {
            let Some(kept) = remembered::recall(&kept, url, &settings.server)? else {
                return Err(error.context("could not read the server document, and the agent has kept none"));
            };
            let (offline, generation) = (Some(format!("{error:#}")), Some(kept.generation));
            match kept.gone {
                Some(read) => (None, PlannedFor { generation: None, gone: generation, read, offline }),
                None => (Some(kept.document), PlannedFor { generation, gone: None, read: kept.read, offline }),
            }
        }
    };
    for (entry, reason) in document.iter().flat_map(ServerDocument::bad_entries) {
        warning(format_args!("ignoring document entry {entry}: {reason}"));
    }
    let installed = context.machine().packages.packages(&[OWN_PACKAGE.to_owned()]).await?;
    let mut pauses = Pauses::load(&context.paths.pauses());
    pauses.end_those_over(document.as_ref(), Timestamp::now());
    let decision = plan::plan(&Situation {
        document: document.as_ref(),
        settled: false,
        installed: &installed,
        quarantine: &Quarantine::load(&context.paths.quarantine()),
        pauses: &pauses,
        allowed: &settings.allowed_apps,
        prune: settings.prune,
    });
    Ok(Planned { decision, document: planned_for })
}

async fn from_bucket(url: &BucketUrl, settings: &Settings) -> Result<Option<(Generation, ServerDocument)>> {
    let bucket = Bucket::open_marked(url, &settings.bucket_options).await?;
    Ok(bucket.server_document(&settings.server).await?)
}

/// Makes sure that what the agent goes by can be read: without it, a quarantined release would be planned.
fn ensure_readable(paths: &Paths) -> Result<()> {
    for path in [paths.quarantine(), paths.pauses()] {
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let path = path.display();
                return Err(error)
                    .with_context(|| format!("cannot plan without `{path}`, which says what is left alone"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The plan as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    /// What it is for.
    document: PlannedFor,
    /// The work, in order.
    steps: &'a [Step],
    /// How each app stands.
    apps: &'a PlanReport,
}

fn show(decision: &Decision) -> String {
    let mut lines: Vec<String> = decision.plan.steps.iter().map(show_step).collect();
    for (app, cause) in decision.report.apps().filter(|(_, cause)| !cause.is_plain()) {
        lines.push(format!("leave {app}: {}", safe(&cause.to_string())));
        for evidence in cause.evidence() {
            lines.extend(cut_lines(&evidence.to_string(), MAX_EVIDENCE).iter().map(|line| format!("  {line}")));
        }
        lines.push(format!("  to do: {}", cause.remedy(app)));
    }
    if decision.plan.steps.is_empty() {
        lines.push("nothing to do".to_owned());
    }
    lines.join("\n") + "\n"
}

fn show_step(step: &Step) -> String {
    match step {
        Step::Install { release, from: Some(from), .. } if from == release => format!("repair {}", release.stem()),
        Step::Install { release, from: Some(from), .. } => {
            format!("install {} in place of {}", release.stem(), from.stem())
        }
        Step::Install { release, from: None, .. } => format!("install {} for the first time", release.stem()),
        Step::Remove { package, release } => format!("remove {package} ({})", release.stem()),
    }
}
