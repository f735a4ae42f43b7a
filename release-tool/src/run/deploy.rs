//! `deploy`: a release is tried on a server, and whatever came of it, what was there before is put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use bucket::{Bucket, PushId, ReleaseName, ServerName};
use console::safe;
use fleet::{
    operation::Operator,
    trial::{Ended, Trial, begin, end, outcome},
};
use futures_util::FutureExt as _;
use pipeline::Deploy;
use tokio::time::Instant;

use crate::run::{
    Shared, command::ensure_no_zero, limits::Unfinished, output::Output, pushing, running::Running, target::OfChange,
};

/// What has passed its trial in a run, each with its pipeline and stage.
#[derive(Debug, Default)]
pub(crate) struct Tried(Mutex<BTreeSet<(String, String, ReleaseName)>>);

impl Tried {
    fn add(&self, pipeline: &str, stage: &str, release: &ReleaseName) {
        let of_stage = (pipeline.to_owned(), stage.to_owned(), release.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(of_stage);
    }

    /// Whether a stage has tried a release, which passed.
    pub(super) fn has(&self, pipeline: &str, stage: &str, release: &ReleaseName) -> bool {
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.iter().any(|(of, by, what)| (of.as_str(), by.as_str(), what) == (pipeline, stage, release))
    }
}

/// Tries a release on a server.
pub(super) async fn deploy(running: &mut Running, deploy: &Deploy) -> Result<(), Unfinished> {
    let operator = pushing::operator(&running.pipeline.name, &running.stage.name)?;
    let server = running.fill(&deploy.server);
    let server: ServerName = server.parse().with_context(|| format!("`{}` is not a server", safe(&server)))?;
    let release = running.fill(&deploy.release);
    let release: ReleaseName = release.parse().with_context(|| format!("`{}` is not a release", safe(&release)))?;
    let test: Vec<String> = deploy.test.iter().map(|argument| running.fill(argument)).collect();
    ensure_no_zero(&test)?;
    let shared = running.shared.clone();
    let limits = running.limits();
    let bucket = limits.within(async { Ok(bucket_for(&shared, &server, &release).await?) }.boxed()).await?;
    let left = limits.deadline.saturating_duration_since(Instant::now());
    let trial = Trial { id: PushId::random(), server, release, wait: deploy.wait, test: left };
    let tried = try_out(running, &bucket, &operator, &trial, &test).await;
    let put_back = put_back(&mut running.output, &bucket, &operator, &trial).await;
    match (tried, put_back) {
        (Ok(()), Ok(())) => {
            shared.tried.add(&running.pipeline.name, &running.stage.name, &trial.release);
            Ok(())
        }
        (Ok(()), Err(error)) => Err(error.into()),
        (Err(Unfinished::Failed(why)), Err(error)) => Err(Unfinished::Failed(format!("{why}; {error:#}"))),
        (tried, _) => tried,
    }
}

/// The bucket that the agent of a server reads: that of the releases, or the overlay of a change, which then has the release.
async fn bucket_for(shared: &Shared, server: &ServerName, release: &ReleaseName) -> Result<Bucket> {
    let bucket = shared.bucket().await?;
    match &shared.of_change {
        None => Ok(bucket.clone()),
        Some(OfChange { id, trials, .. }) => {
            let made = shared.published.made(release.app().as_str()).await;
            trials.put(bucket, id, (server, release), made).await
        }
    }
}

/// Pushes the release, waits for the agent, and tests what runs then.
async fn try_out(
    running: &mut Running,
    bucket: &Bucket,
    operator: &Operator,
    trial: &Trial,
    test: &[String],
) -> Result<(), Unfinished> {
    let (stem, server) = (trial.release.stem(), &trial.server);
    let Running { commands, output, .. } = &mut *running;
    let generation = {
        let (output, is_given_up) = (Mutex::new(&mut *output), AtomicBool::new(false));
        let is_it = || is_given_up.load(Ordering::Relaxed);
        let mut beginning = pin!(begin(bucket, operator, trial, is_it, |text| say(&output, text)).boxed());
        tokio::select! {
            began = &mut beginning => began?,
            reached = commands.limits.reached() => {
                is_given_up.store(true, Ordering::Relaxed);
                // What it is writing now must be written, or not, before it is put back.
                let _ = beginning.await;
                return Err(reached);
            }
        }
    };
    output.say(&format!("pushed {stem} to {server}, generation {generation}"));
    let outcome = {
        let output = Mutex::new(&mut *output);
        let following = outcome(bucket, trial, generation, |text| say(&output, text));
        commands.limits.within(async { Ok(following.await) }.boxed()).await?
    };
    running.give("generation", &generation.to_string());
    if !outcome.is_ok() {
        return Err(Unfinished::Failed(format!("`{stem}` on `{server}`: {outcome}")));
    }
    if test.is_empty() {
        return Ok(());
    }
    let directory = running.directory()?;
    running.output.say(&format!("{server} runs it"));
    running.commands.run(test, &BTreeMap::new(), &directory, &mut running.output).await
}

/// Puts back what was there, and says what to know of that.
async fn put_back(output: &mut Output, bucket: &Bucket, operator: &Operator, trial: &Trial) -> Result<()> {
    let output = Mutex::new(output);
    let ended = end(bucket, operator, trial, |text| say(&output, text)).boxed().await;
    let ended = ended.inspect_err(|error| say(&output, &format!("{error:#}")))?;
    match ended {
        Ended::PutBack => say(&output, &format!("put back what {} had before", trial.server)),
        Ended::AsBefore => {}
        Ended::Theirs(theirs) => say(&output, &format!("warning: {theirs}")),
    }
    Ok(())
}

fn say(output: &Mutex<&mut Output>, text: &str) {
    output.lock().unwrap_or_else(PoisonError::into_inner).say(text);
}
