//! Running pipelines: what a repository says in `.pipeline/config.yaml`, done.
//!
//! - [`graph`] says which stage begins when, [`values`] what they give each other; both are pure
//! - [`stage`] does what one stage says ([`running`]) within its [`limits`], by [`command`]s whose [`output`] is shown and kept,
//!   in a copy of the commit ([`original`]), from which [`files`] are taken, for other stages or to be kept in the bucket
//!   ([`archive`]), and of which [`publish`] makes a release
//! - [`image`] makes an image of it, on its [`base`], or takes one that another builder made, and puts it into its registry
//! - [`deploy`] tries a release on a server, and [`channel`] moves channels to what was released, as whoever [`pushing`] says;
//!   what a change has built is tried in its [`overlay`]
//! - [`work`] is the directory of a run; all that it started is ended by [`processes`]
//! - [`record`] writes down how far it is, and [`report`] says in the end what became of each stage
//! - [`prepare`] reads and checks all of it before anything runs, a run of a change by what its [`target`] branch says
//!
//! *Whatever happens, nothing that a run started outlives it, and the developer's checkout is as it was.*

mod archive;
mod base;
mod channel;
mod command;
mod deploy;
pub(crate) mod files;
mod graph;
mod image;
mod limits;
mod original;
mod output;
mod overlay;
pub(crate) mod prepare;
mod publish;
mod pushing;
mod record;
pub(crate) mod report;
mod running;
mod stage;
pub(crate) mod target;
mod values;
pub(crate) mod work;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use bucket::{Bucket, Commit, Run, RunPlace, RunResult, StageResult, TopicName};
use console::{note, warning};
use futures_util::FutureExt as _;
use pipeline::{Action, Checked, Pipeline, Stage, Variant};
use rustix::process::Signal;
use tokio::{
    sync::{OnceCell, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    buildset::run::Signals,
    manifest::Manifest,
    options::Options,
    processes,
    run::{
        archive::Kept,
        deploy::Tried,
        graph::{Graph, StageId, State},
        image::Claimed,
        original::Original,
        publish::Published,
        record::Recorder,
        stage::Ended,
        target::OfChange,
        values::Values,
        work::Work,
    },
    source::Source,
};

/// How long a stage may take that builds no variant, beside how long its trial may.
const USUAL_TIME: Duration = Duration::from_mins(30);

/// How long a run that is to end before it has begun waits for what it was about to do.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// How long a run waits for what is recorded of its change, before it begins.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// How often at most a run tries something of a bucket: what doesn't need it goes on meanwhile.
pub(crate) const ATTEMPTS: usize = 3;

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// How many stages run at once.
    pub(crate) jobs: usize,
    /// Whether one that fails ends those that run.
    pub(crate) is_fail_fast: bool,
    /// Whether the copies stay.
    pub(crate) is_kept: bool,
}

/// What all stages of a run share.
pub(crate) struct Shared {
    /// What the files say.
    pub(crate) checked: Checked,
    /// The pipelines that run, by their places.
    pub(crate) chosen: Vec<usize>,
    /// What copies are made of.
    pub(crate) original: Original,
    /// Where the run works.
    pub(crate) work: PathBuf,
    /// Where what its stages say is kept.
    pub(crate) logs: PathBuf,
    /// Where packages go.
    pub(crate) out: PathBuf,
    /// The checkout, as it was when the run began.
    pub(crate) source: Source,
    /// The directory of `release.toml` in it.
    pub(crate) directory: PathBuf,
    /// Variables of all stages.
    pub(crate) environment: BTreeMap<String, String>,
    /// What the hidden first stage gives to all.
    pub(crate) setup: BTreeMap<&'static str, String>,
    /// Whether it took what is not committed.
    pub(crate) is_dirty: bool,
    /// Where it is recorded.
    pub(crate) place: RunPlace,
    /// The commit's `release.toml`.
    pub(crate) manifest: Manifest,
    /// What was said on the command line.
    pub(crate) options: Options,
    /// The bucket, once somebody needed it.
    pub(crate) bucket: OnceCell<Bucket>,
    /// The change that it is of, if it is of one.
    pub(crate) of_change: Option<OfChange>,
    /// How much of it is kept.
    pub(crate) kept: Mutex<Kept>,
    /// What it has released.
    pub(crate) published: Published,
    /// What of that, and of others, has passed its trial.
    pub(crate) tried: Tried,
    /// What it puts into registries.
    pub(crate) images: Claimed,
}

impl Shared {
    fn pipelines(&self) -> Vec<&Pipeline> {
        self.chosen.iter().map(|at| &self.checked.pipelines.pipelines[*at]).collect()
    }

    fn stage(&self, id: StageId) -> (&Pipeline, &Stage) {
        let pipeline = &self.checked.pipelines.pipelines[self.chosen[id.pipeline]];
        (pipeline, &pipeline.stages[id.stage])
    }

    /// What lines of a stage begin with.
    fn label(&self, id: StageId) -> String {
        let (pipeline, stage) = self.stage(id);
        if self.chosen.len() == 1 { stage.name.clone() } else { format!("{}/{}", pipeline.name, stage.name) }
    }

    /// Its place among all stages of the run.
    fn nth(&self, id: StageId) -> usize {
        self.pipelines().iter().take(id.pipeline).map(|pipeline| pipeline.stages.len()).sum::<usize>() + id.stage
    }

    /// Where all that a stage says is kept.
    fn log(&self, id: StageId) -> PathBuf {
        let (pipeline, stage) = self.stage(id);
        self.logs.join(&pipeline.name).join(format!("{}.log", stage.name))
    }

    fn variant(&self, pipeline: &Pipeline, stage: &Stage) -> Option<&Variant> {
        self.checked.variants.get(&pipeline.name)?.get(&stage.variant()?.variant)
    }

    /// How long a stage may take.
    fn time(&self, pipeline: &Pipeline, stage: &Stage) -> Duration {
        let waits = stage.actions.iter().map(|action| match action {
            Action::Deploy(deploy) => deploy.wait,
            _ => Duration::ZERO,
        });
        self.variant(pipeline, stage).map_or(USUAL_TIME, |variant| variant.time) + waits.sum::<Duration>()
    }

    /// What a stage has for itself.
    fn directory_of(&self, pipeline: &Pipeline, stage: &str) -> PathBuf {
        self.work.join("stages").join(&pipeline.name).join(stage)
    }

    /// Where a stage's copy of the commit is.
    fn copy_of(&self, pipeline: &Pipeline, stage: &str) -> PathBuf {
        self.directory_of(pipeline, stage).join("copy")
    }

    /// Where a pipeline's commands run, in a copy.
    fn directory_in(&self, copy: &Path, pipeline: &Pipeline) -> PathBuf {
        self.original.project(copy).join(&pipeline.directory)
    }

    /// The commit that it is of.
    fn commit(&self) -> &Commit {
        &self.source.commit
    }

    /// Whether it has a bucket at all.
    fn has_bucket(&self) -> bool {
        match &self.of_change {
            Some(of_change) => of_change.candidates.is_some(),
            None => self.options.has_bucket(&self.manifest),
        }
    }

    /// The bucket of the releases, or the candidate bucket in a run of a change, opened by whoever needs it first.
    async fn bucket(&self) -> Result<&Bucket> {
        let open = || match &self.of_change {
            // Boxed, as what a bucket does is deeper than the compiler looks by itself.
            Some(of_change) => of_change.bucket().boxed(),
            None => self.options.production_of(Some(&self.manifest)).boxed(),
        };
        self.bucket.get_or_try_init(open).await
    }

    /// Which version of its change it is of, as far as that is recorded.
    async fn patchset(&self) -> Option<u32> {
        let of_change = self.of_change.as_ref().filter(|_| self.has_bucket())?;
        let reading = async { self.bucket().await.ok()?.change(&of_change.id).await.ok()? };
        let (_, change) = timeout(RECORD_PATIENCE, reading.boxed()).await.ok()??;
        (change.commit == *self.commit()).then_some(change.patchset)
    }

    /// Where uploads are announced.
    fn announce(&self) -> Option<&TopicName> {
        self.options.announce(Some(&self.manifest))
    }
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Done {
    /// As it is recorded.
    pub(crate) run: Run,
    /// The signal that ended it.
    pub(crate) signal: Option<Signal>,
}

/// Runs pipelines to their end, and clears up, whatever happens. Orphans are [adopted](processes::adopt_orphans). `run` says what
/// is recorded of it at the beginning.
pub(crate) async fn run(shared: Shared, run: Run, way: Way, work: Work, signals: &mut Signals) -> Result<Done> {
    let shared = Arc::new(shared);
    let (stop, stopped) = watch::channel(false);
    let mut graph = Graph::of(&shared.pipelines());
    let mut values: Vec<Values> = vec![Values::default(); shared.chosen.len()];
    let run = Run { patchset: shared.patchset().await, ..run };
    let mut recorder = Recorder::begin(shared.clone(), run).await;
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let mut signal = None;
    loop {
        while let Some(id) = graph.begin(way.jobs) {
            recorder.change(|run, now| {
                let stage = record::stage(run, id);
                (stage.result, stage.began) = (StageResult::Running, Some(now));
            });
            tasks.spawn(stage::run(shared.clone(), id, values[id.pipeline].clone(), stopped.clone()));
        }
        if tasks.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                let Ok(ended) = ended else {
                    warning("a stage broke off, which is a fault of `release`: nothing else begins");
                    graph.stop();
                    continue;
                };
                graph.end(ended.id, ended.state);
                tell(&shared, &ended);
                recorder.change(|run, now| record::end(run, &ended, now));
                values[ended.id.pipeline].extend(ended.values);
                if ended.state == State::Failed && way.is_fail_fast {
                    stop.send_replace(true);
                }
            }
            got = signals.next(), if signal.is_none() => {
                note(format_args!("ending all that runs, by signal {}", got.as_raw()));
                signal = Some(got);
                graph.stop();
                stop.send_replace(true);
            }
        }
    }
    clear_up(work, way.is_kept).await;
    let result = match signal {
        Some(_) => RunResult::Interrupted,
        None if graph.has_passed() => RunResult::Passed,
        None => RunResult::Failed,
    };
    recorder.change(|run, now| record::finish(run, &graph, result, now));
    Ok(Done { run: recorder.end().await, signal })
}

/// Ends all that this process starts, until what starts it is done; what waits for files or a network is not waited for long.
pub(crate) async fn end_with(begun: impl Future) {
    let ending = async {
        loop {
            processes::end_all(processes::PATIENCE).await;
            sleep(processes::PAUSE).await;
        }
    };
    tokio::select! {
        _ = begun => {}
        _ = timeout(END_PATIENCE, ending) => {}
    }
}

/// Says how a stage ended, as it does.
fn tell(shared: &Shared, ended: &Ended) {
    let label = shared.label(ended.id);
    match &ended.why {
        None => note(format_args!("{label}: passed")),
        Some(why) => note(format_args!("{label}: {}: {}", ended.state.result().as_str(), console::one_line(why))),
    }
}

/// Ends all that is left running of a run, and removes where it worked.
async fn clear_up(work: Work, is_kept: bool) {
    if !processes::end_all(processes::PATIENCE).await {
        let left: Vec<String> = processes::descendants().iter().map(|process| process.id.to_string()).collect();
        warning(format_args!(
            "what the run started could not be ended, and goes on: see what it waits for with `ps -l -p {}`",
            left.join(",")
        ));
    }
    let path = work.path().display().to_string();
    let done = if is_kept { work.keep() } else { running::blocking(move || work.end()).await };
    match done {
        // What became of the run stays true.
        Err(error) => warning(format_args!("{error:#}")),
        Ok(()) if is_kept => note(format_args!("the copies are left in `{path}`: remove it when you are done")),
        Ok(()) => {}
    }
}
