//! `release buildset`: an overlay of production with what a change, and those ahead of it, would alter, for the time of a try.

use std::{
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use bucket::{AppName, Bucket, Buildset as Begun, ChangeId, ServerName, Sha256, Try};
use clap::{Args, Subcommand};
use console::{note, print_json, print_line, warning};
use serde_json::{Value, json};

use super::registry::Serving;
use crate::{
    buildset::{
        choose::Artifact,
        machine::Machine,
        make::{Buckets, Decided, Wanted, end, existing, locate, make, new, releases, tell_left, url},
        production::Scope,
        run::{Ended, Signals, run},
        running::{running, variables},
    },
    change::{
        image::remove::Registries,
        record::{by, update},
        target::TargetBranch,
        update::tried,
    },
    images::take::taken,
    manifest::{Candidates, Manifest},
    options::{Options, wait_for},
    processes,
};

/// How long what the command of a try has left running may take to end: as long as a run of pipelines that takes its trial back.
const END_PATIENCE: Duration = Duration::from_mins(1);

/// Make an overlay of production with what a change would alter, and try it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  release buildset run --change web/12 --server web-1 -- ./test.sh     try what web-1 would have
  release buildset start --change web/12 --app web --out /srv/try      make the overlay
  release buildset stop /srv/try                                       remove it

The overlay has for each app the candidate of the change, else of the nearest change ahead of it,
else the release of production. It is an ordinary bucket: `push`, `push serve` and `pulld` use it.
Production is only read.")]
pub(crate) struct Buildset {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the overlay of a change, and print its bucket URL
    Start(Start),
    /// Make the overlay, run a command with `PUSH_BUCKET` and `PUSH_REGISTRY` set to it, and remove it, whatever happens
    Run(Run),
    /// Remove an overlay that `start` or `run --keep` left
    Stop {
        /// Directory of the overlay
        #[arg(value_name = "DIR")]
        overlay: PathBuf,
        #[command(flatten)]
        target: TargetBranch,
    },
}

#[derive(Debug, Args)]
struct Start {
    /// Change to try, as in web/12
    #[arg(long, value_name = "PROJECT/ID")]
    change: ChangeId,
    #[command(flatten)]
    target: TargetBranch,
    /// Take of production what this server should have, and its server document
    #[arg(long, conflicts_with = "app")]
    server: Option<ServerName>,
    /// Take these apps of production: what the channel `prod` points to, else the newest clean release [default: all apps]
    #[arg(long, value_name = "APP", num_args = 1..)]
    app: Vec<AppName>,
    /// Take production's release where a change ahead has no candidate of its last patchset
    #[arg(long)]
    missing_ok: bool,
    /// Directory for the overlay, absent or empty [default: a new one below the temporary directory]
    #[arg(id = "out", long = "out", value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    serving: Serving,
    /// Leave the overlay, and say where it is
    #[arg(long)]
    keep: bool,
    /// Command to run, with its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

impl Buildset {
    pub(crate) fn run(self, options: &Options) -> Result<ExitCode> {
        match self.verb {
            Verb::Start(start) => start.run(options),
            Verb::Run(run) => run.run(options),
            Verb::Stop { overlay, target } => {
                stop(options, &target, &options.directory.join(overlay)).map(|()| ExitCode::SUCCESS)
            }
        }
    }
}

impl Start {
    fn run(self, options: &Options) -> Result<ExitCode> {
        let rules = self.target.manifest(&options.directory()?)?;
        wait_for(async {
            let mut signals = Signals::listen()?;
            let named = options.candidates_of(Some(&rules))?;
            let candidates = named.open().await?;
            if let Some((overlay, running)) = running(&candidates, &self.change).await? {
                note(format_args!("note: this runs in the buildset `{}`, which is used again", running.buildset));
                return tell_existing(options, &overlay, &running).await.map(|()| ExitCode::SUCCESS);
            }
            let begun = tokio::select! {
                begun = self.begin(options, (&rules, named), candidates) => begun?,
                signal = signals.next() => return Ok(ExitCode::from(Ended::by(signal).status)),
            };
            let Begin { buildset, decided, buckets } = &begun;
            if let Some((overlay, there)) = existing(&buildset.directory).await?
                && there.change == self.change
            {
                if decided.is_in((&overlay, Path::new(&buildset.directory)), buckets).await? {
                    return tell_existing(options, &overlay, &there).await.map(|()| ExitCode::SUCCESS);
                }
                note(format_args!("note: the buildset `{}` has something else in it, and ends", there.buildset));
                finish(&buckets.candidates, &Begun { directory: buildset.directory.clone(), ..there }).await?;
            }
            match begun.make(&mut signals).await? {
                Ok(sums) => {
                    let images = decided.chosen.taken().into_iter().map(|image| json!(image));
                    let artifacts = decided.chosen.artifacts.iter().zip(&sums).map(described).chain(images).collect();
                    tell(options, buildset, &artifacts).map(|()| ExitCode::SUCCESS)
                }
                Err(ended) => Ok(ExitCode::from(ended.status)),
            }
        })
    }

    /// Decides all that is to be decided before anything is made.
    async fn begin(
        &self,
        options: &Options,
        (rules, named): (&Manifest, Candidates),
        candidates: Bucket,
    ) -> Result<Begin> {
        let registries = Registries::new(rules.images.clone(), Some(named));
        let buckets = Buckets { production: options.production_of(Some(rules)).await?, candidates, registries };
        let decided = self.decide(rules, &buckets).await?;
        Ok(Begin { buildset: self.place(options, &buckets)?, decided, buckets })
    }

    /// Decides what the overlay has, and says that.
    async fn decide(&self, rules: &Manifest, buckets: &Buckets) -> Result<Decided> {
        let scope = match (&self.server, self.app.as_slice()) {
            (Some(server), _) => Scope::Server(server.clone()),
            (None, []) => Scope::All,
            (None, apps) => Scope::Apps(apps.iter().cloned().collect()),
        };
        let (change, requires) = (self.change.clone(), rules.requires());
        let wanted = Wanted { change, scope, requires, missing_ok: self.missing_ok };
        let decided = wanted.decide(buckets).await?;
        for said in &decided.chosen.notes {
            note(format_args!("note: {said}"));
        }
        for artifact in &decided.chosen.artifacts {
            note(artifact);
        }
        for image in &decided.chosen.images {
            note(image);
        }
        Ok(decided)
    }

    /// A buildset that is about to begin, in its directory.
    fn place(&self, options: &Options, buckets: &Buckets) -> Result<Begun> {
        let directory = self.directory.as_ref().map(|directory| options.directory.join(directory));
        new(&self.change, Machine::find()?, directory, &buckets.candidates)
    }
}

/// A buildset that is about to begin.
struct Begin {
    buildset: Begun,
    decided: Decided,
    buckets: Buckets,
}

impl Begin {
    /// Makes the overlay. A signal ends that, and nothing is left.
    async fn make(&self, signals: &mut Signals) -> Result<Result<Vec<Sha256>, Ended>> {
        tokio::select! {
            made = make(&self.buckets, &self.decided, &self.buildset) => made.map(Ok),
            signal = signals.next() => {
                report(&finish(&self.buckets.candidates, &self.buildset).await);
                Ok(Err(Ended::by(signal)))
            }
        }
    }
}

impl Run {
    fn run(self, options: &Options) -> Result<ExitCode> {
        let Self { start, serving, keep, command } = &self;
        let rules = start.target.manifest(&options.directory()?)?;
        wait_for(async {
            let mut signals = Signals::listen()?;
            let named = options.candidates_of(Some(&rules))?;
            let candidates = named.open().await?;
            if let Some((_, running)) = running(&candidates, &start.change).await? {
                let ended = run(command, &variables(&running), &options.directory, &mut signals).await?;
                return Ok(ExitCode::from(ended.status));
            }
            let begun = tokio::select! {
                begun = start.begin(options, (&rules, named), candidates.clone()) => begun?,
                signal = signals.next() => return Ok(ExitCode::from(Ended::by(signal).status)),
            };
            let sums = match begun.make(&mut signals).await? {
                Ok(sums) => sums,
                Err(ended) => return Ok(ExitCode::from(ended.status)),
            };
            let buildset = begun.buildset;
            processes::adopt_orphans()?;
            let served = match rules.images.client() {
                Ok(client) => serving.start(client, Path::new(&buildset.directory)).await,
                Err(error) => Err(error),
            };
            let ended = match &served {
                Ok(served) => {
                    let variables: Vec<_> = variables(&buildset).into_iter().chain(served.variables()).collect();
                    run(command, &variables, &options.directory, &mut signals).await
                }
                Err(error) => Err(anyhow!("{error:#}")),
            };
            let is_over = *keep || processes::end_all(END_PATIENCE).await;
            drop(served);
            let sums = with_added(sums, &buildset).await;
            let removed = if !is_over {
                Err(still_used(&buildset))
            } else if *keep {
                note(format_args!(
                    "kept: {}; `release buildset stop '{}'` removes it",
                    url(&buildset),
                    buildset.directory
                ));
                Ok(())
            } else {
                finish(&candidates, &buildset).await
            };
            let ended = ended.inspect_err(|_| report(&removed))?;
            let recorded = record(&candidates, &buildset, sums, ended).await;
            if ended.status != 0 {
                report(&removed);
                report(&recorded);
                return Ok(ExitCode::from(ended.status));
            }
            removed.and(recorded).map(|()| ExitCode::SUCCESS)
        })
    }
}

/// That something uses an overlay which was to be removed.
fn still_used(buildset: &Begun) -> anyhow::Error {
    let left: Vec<String> = processes::descendants().iter().map(|process| process.id.to_string()).collect();
    anyhow!(
        "the overlay stays, because what the command started could not be ended: see what it waits for with `ps -l -p {}`, and then \
         remove it with `release buildset stop '{}'`",
        left.join(","),
        buildset.directory
    )
}

/// What was in an overlay, with what the try itself has put there.
async fn with_added(mut sums: Vec<Sha256>, buildset: &Begun) -> Vec<Sha256> {
    let there = async {
        match existing(&buildset.directory).await?.filter(|(_, there)| there.buildset == buildset.buildset) {
            Some((overlay, _)) => releases(&overlay).await,
            None => Ok(Vec::new()),
        }
    };
    let there = there.await.unwrap_or_else(|error| {
        warning(format_args!("what the try has put into the overlay is not recorded: {error:#}"));
        Vec::new()
    });
    for sum in there.into_iter().filter_map(|release| Some(release.metadata.ok()?.sha256)) {
        if !sums.contains(&sum) {
            sums.push(sum);
        }
    }
    sums
}

/// Ends a buildset, and says what is left of its overlay.
async fn finish(candidates: &Bucket, buildset: &Begun) -> Result<()> {
    end(candidates, buildset).await.map(|removed| tell_left(&buildset.directory, &removed))
}

/// Says what went wrong beside what is told by the exit status.
fn report(done: &Result<()>) {
    if let Err(error) = done {
        warning(format_args!("{error:#}"));
    }
}

/// Enters into the change how it was tried.
async fn record(candidates: &Bucket, buildset: &Begun, sha256: Vec<Sha256>, ended: Ended) -> Result<()> {
    let (by, id) = (by()?, &buildset.change);
    let change = update(candidates, id, async |before| {
        let gone = || anyhow!("nothing is known of `{id}` any more: the candidate bucket was emptied meanwhile");
        let (buildset, at) = (buildset.buildset.clone(), candidates.now());
        let this = Try { buildset, sha256: sha256.clone(), result: ended.result, at, other: <_>::default() };
        Ok(tried(before.ok_or_else(gone)?, this, &by))
    });
    change.await.map(drop).with_context(|| format!("could not record how `{id}` was tried"))
}

fn stop(options: &Options, target: &TargetBranch, directory: &Path) -> Result<()> {
    let rules = target.manifest(&options.directory()?)?;
    wait_for(async {
        let candidates = options.candidates_of(Some(&rules))?.open().await?;
        let directory = locate(directory)?;
        if let Some((_, mut buildset)) = existing(&directory).await? {
            // It may lie elsewhere on this machine than on that which made it.
            buildset.directory.clone_from(&directory);
            finish(&candidates, &buildset).await?;
            note(format_args!("removed {directory}"));
        } else {
            match fs::read_dir(&directory).map(|mut names| names.next().is_none()) {
                Err(error) if error.kind() == ErrorKind::NotFound => note(format_args!("{directory} is not there")),
                Ok(true) => note(format_args!("{directory} is empty: nothing of a try is left in it")),
                Ok(false) => bail!("`{directory}` is not removed, because it is no overlay"),
                Err(error) => return Err(error).with_context(|| format!("could not look into `{directory}`")),
            }
        }
        if options.json { print_json(&json!({ "directory": directory })) } else { Ok(()) }
    })
}

/// An artifact of an overlay, for `--json`.
fn described((artifact, sha256): (&Artifact, &Sha256)) -> Value {
    let mut shown = json!({ "release": artifact.release(), "sha256": sha256 });
    if let Artifact::Candidate(picked) = artifact {
        shown["change"] = json!(picked.place.change());
        shown["patchset"] = json!(picked.patchset);
    }
    shown
}

async fn tell_existing(options: &Options, overlay: &Bucket, buildset: &Begun) -> Result<()> {
    let shown = releases(overlay).await?.into_iter().map(|release| {
        let sha256 = release.metadata.map(|facts| facts.sha256).ok();
        json!({ "release": release.name, "sha256": sha256 })
    });
    let images = taken(Path::new(&buildset.directory))?.into_iter().map(|image| json!(image));
    tell(options, buildset, &shown.chain(images).collect())
}

fn tell(options: &Options, buildset: &Begun, artifacts: &Value) -> Result<()> {
    if !options.json {
        return print_line(url(buildset));
    }
    let Begun { buildset: id, change, directory, .. } = buildset;
    let bucket = url(buildset);
    print_json(&json!({
        "buildset": id, "change": change, "directory": directory, "bucket": bucket, "artifacts": artifacts,
    }))
}
