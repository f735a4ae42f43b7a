//! `release run`: does what a repository says in `.pipeline/config.yaml`.

use std::{
    fs::OpenOptions,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    thread::available_parallelism,
};

use anyhow::{Context as _, Result};
use bucket::{ChangeId, Run, RunResult};
use clap::Args;
use console::{Messages, UsageError, note, print, print_json};
use pipeline::{Action, Checked, Pipeline};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::{
    buildset::run::{Ended, Signals},
    change::target::TargetBranch,
    options::{Options, wait_for},
    processes::adopt_orphans,
    run::{
        self, Way,
        files::leads,
        prepare::{Asked, Files, Prepared, prepare},
        report,
        target::rules,
        work,
    },
    source::{Source, tracked_links},
};

const EXAMPLES: &str = "\
Examples:
  release run -m \"fix the login\"           run all pipelines of the commit that is checked out
  release run -m \"fix the login\" web       only the pipeline `web`
  release run --allow build,run            build and test, and release nothing
  release run -m \"try it\" --change web/12  a change that is not merged: packages become candidates
  release run --dry-run                    show what would run, with every default filled in

The files are those of the commit. Each stage has a copy of the commit of its own; uncommitted changes are left out.
Exit status: 0 all stages passed; 1 a stage failed; 2 the file is wrong or the command misused;
128 and the number of the signal that ended the run";

/// Run the pipelines that the repository describes in .pipeline/config.yaml
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct RunPipelines {
    /// Pipelines to run [default: all]
    #[arg(value_name = "PIPELINE")]
    pipelines: Vec<String>,
    /// Release note: what the releases of this run change, kept with them permanently
    #[arg(short = 'm', long, value_name = "NOTE")]
    note: Option<String>,
    /// Stages to run at once [default: `concurrency` of the file, else one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Actions that stages may have, as in build,run [default: all; with --change those that it may have]
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = action)]
    allow: Vec<&'static str>,
    /// Change that is not merged yet, as in web/12: packages become candidates of it, no channel moves, and a trial is in the
    /// overlay of a buildset of it
    #[arg(long, value_name = "PROJECT/ID", conflicts_with = "dirty")]
    change: Option<ChangeId>,
    #[command(flatten)]
    target: TargetBranch,
    /// Take uncommitted changes with it; what is released says so
    #[arg(long)]
    dirty: bool,
    /// End the stages that run as soon as one fails
    #[arg(long)]
    fail_fast: bool,
    /// Leave the copies of the commit, and say where they are
    #[arg(long)]
    keep: bool,
    /// Show what would run, by the files as they lie in the checkout, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the results to this file as XML, as test reports are: a suite for each pipeline, a case for each stage
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

fn action(text: &str) -> Result<&'static str, String> {
    let found = Action::ALL.into_iter().find(|action| *action == text);
    found.ok_or_else(|| format!("the actions are {}", console::quoted(&Action::ALL)))
}

impl RunPipelines {
    pub(crate) fn run(self, options: &Options) -> Result<ExitCode> {
        if self.target.is_said() && self.change.is_none() {
            return Err(UsageError::new("--target is of a change: name that by --change").into());
        }
        let options = &Options { attempts: Some(run::ATTEMPTS), ..options.clone() };
        if self.dry_run {
            return self.show(options).map(|()| ExitCode::SUCCESS);
        }
        if let Some(path) = &self.junit {
            // Nobody wants to wait for a run and learn then that its results can't be written.
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| UsageError::new(format!("`{}` cannot be written: {error}", path.display())))?;
        }
        // Whoever reads slowly, or not at all, keeps no stage from its end.
        let messages = Messages::begin();
        wait_for(async {
            // From here on, no signal ends this process before it has cleared up.
            let mut signals = Signals::listen()?;
            adopt_orphans()?;
            let mut preparing = pin!(async {
                let logs = options.directory().map(|directory| options.out(&directory).join("runs")).ok();
                work::clear_dead(logs.as_deref()).await;
                prepare(options, self.asked()).await
            });
            let prepared = tokio::select! {
                prepared = &mut preparing => prepared?,
                signal = signals.next() => {
                    // Nothing runs yet but what is asked of git, and what is read of buckets.
                    run::end_with(preparing).await;
                    return Ok(status_of(signal));
                }
            };
            let Prepared { shared, run, work } = prepared;
            let way = Way { jobs: self.jobs(&shared.checked), is_fail_fast: self.fail_fast, is_kept: self.keep };
            note(format_args!("run {}: what its stages say is kept in {}", run.run, shared.logs.display()));
            let done = run::run(shared, run, way, work, &mut signals).await?;
            drop(messages);
            let (json, junit, run) = (options.json, self.junit.clone(), done.run.clone());
            let telling = spawn_blocking(move || tell(&run, json, junit.as_deref()));
            tokio::select! {
                told = telling => told.context("the result was not told whole")??,
                // Nobody reads it.
                signal = signals.next() => return Ok(status_of(signal)),
            }
            Ok(match done.signal {
                Some(signal) => status_of(signal),
                None if done.run.result == RunResult::Passed => ExitCode::SUCCESS,
                None => ExitCode::FAILURE,
            })
        })
    }

    fn asked(&self) -> Asked {
        Asked {
            pipelines: self.pipelines.clone(),
            note: self.note.clone(),
            allowed: if self.allow.is_empty() { Action::ALL.to_vec() } else { self.allow.clone() },
            is_dirty: self.dirty,
            change: self.change.clone(),
            target: self.target.named(),
        }
    }

    fn jobs(&self, checked: &Checked) -> usize {
        let of_file = || checked.pipelines.concurrency.and_then(|jobs| usize::try_from(jobs).ok());
        let of_machine = || available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.map(NonZeroUsize::get).or_else(of_file).unwrap_or_else(of_machine)
    }

    /// Shows what would run.
    fn show(&self, options: &Options) -> Result<()> {
        let directory = options.directory()?;
        let (source, asked) = (Source::of(&directory)?, self.asked());
        let rules = wait_for(rules((&source, &directory), asked.change.clone(), asked.target.clone()))?;
        let links = tracked_links(&source.top)?;
        let leads = |path: &str| Ok(leads(&source.top, &directory, &links, path));
        let files = Files::read((&directory, "the checkout"), (&source, &directory), rules, (&asked, &leads))?;
        let (checked, pipelines) = (&files.checked, files.pipelines());
        if options.json {
            let concurrency = checked.pipelines.concurrency;
            return print_json(
                &json!({ "concurrency": concurrency, "pipelines": pipelines, "variants": checked.variants }),
            );
        }
        pipelines.iter().try_for_each(|pipeline| print(&shown(pipeline, checked)))
    }
}

fn status_of(signal: Signal) -> ExitCode {
    ExitCode::from(Ended::by(signal).status)
}

/// Tells what became of a run, in all ways that were asked for.
fn tell(run: &Run, json: bool, junit: Option<&Path>) -> Result<()> {
    if json {
        print_json(run)?;
    } else {
        report::show(run)?;
    }
    junit.map_or(Ok(()), |path| report::write_junit(run, path))
}

/// A pipeline for people, with every default filled in. Each value is JSON, which is YAML too.
fn shown(pipeline: &Pipeline, checked: &Checked) -> String {
    let Pipeline { name, directory, variants, stages, .. } = pipeline;
    let mut lines = vec![format!("{name}: in `{directory}`, variants of `.pipeline/{variants}`")];
    for (at, stage) in stages.iter().enumerate() {
        let after: Vec<&str> = pipeline.order.after(at).iter().map(|before| stages[*before].name.as_str()).collect();
        let after = if after.is_empty() { String::new() } else { format!(", after {}", console::quoted(&after)) };
        lines.push(format!("  {}{after}", stage.name));
        for action in &stage.actions {
            if let Value::Object(action) = json!(action) {
                lines.extend(action.iter().map(|(key, value)| format!("    {key}: {value}")));
            }
        }
        let variant = stage.variant().and_then(|build| checked.variants.get(name)?.get(&build.variant));
        lines.extend(variant.map(|variant| format!("    variant: {}", json!(variant))));
    }
    lines.into_iter().map(|line| console::safe(&line) + "\n").collect()
}
