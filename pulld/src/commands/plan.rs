//! `pulld plan`: what a pull would do. Changes nothing.

use std::{fs::File, io::ErrorKind, process::ExitCode};

use anyhow::{Context, Result};
use console::{Threads, block_on, cut_lines, print, print_json, safe, warning};
use serde::Serialize;

use crate::{
    decide::{
        plan::{self, Decision, Situation, Step},
        report::PlanReport,
    },
    machine::{OWN_PACKAGE, PackageManager},
    state::{paths::Paths, pauses::Pauses, quarantine::Quarantine},
    store::bucket::Bucket,
};

/// Arguments of `pulld plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 nothing to do; 3 changes pending; 1 error")]
pub(crate) struct Arguments {
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Most characters of one piece of evidence that are shown.
const MAX_EVIDENCE: usize = 3000;

/// The exit status for a plan that is not empty.
const CHANGES_PENDING: u8 = 3;

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let decision = block_on(Threads::One, read(context))?;
    if arguments.json {
        print_json(&Shown { steps: &decision.plan.steps, apps: &decision.report })?;
    } else {
        print(&show(&decision))?;
    }
    Ok(if decision.plan.steps.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES_PENDING) })
}

async fn read(context: &super::Context) -> Result<Decision> {
    ensure_readable(&context.paths)?;
    let loaded = context.load()?;
    loaded.warnings.iter().for_each(warning);
    let settings = loaded.settings;
    let url = settings
        .bucket
        .with_context(|| format!("no bucket specified: set `bucket` in `{}`", context.paths.config_file().display()))?;
    let bucket = Bucket::open_marked(&url, &settings.bucket_options).await?;
    let document = bucket.server_document(&settings.server).await?;
    for (entry, reason) in document.iter().flat_map(|(_, document)| document.bad_entries()) {
        warning(format_args!("ignoring document entry {entry}: {reason}"));
    }
    let installed = context.machine().packages.packages(&[OWN_PACKAGE.to_owned()]).await?;
    Ok(plan::plan(&Situation {
        document: document.as_ref().map(|(_, document)| document),
        settled: false,
        installed: &installed,
        quarantine: &Quarantine::load(&context.paths.quarantine()),
        pauses: &Pauses::load(&context.paths.pauses()),
        allowed: &settings.allowed_apps,
        prune: settings.prune,
    }))
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
        lines.push(format!("  to do: {}", cause.remedy()));
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
