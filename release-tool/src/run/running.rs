//! A stage that runs: what it has, and what it has given so far.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use bucket::{KeptArtifact, MadeBy, PublishedImage, ReleaseName};
use pipeline::{Pipeline, Stage, Template, Variant};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    processes,
    run::{
        Shared,
        command::Commands,
        files,
        graph::StageId,
        limits::{Limits, Unfinished},
        output::Output,
        values::Values,
    },
};

/// How long a stage that is to end waits for what it had begun with files and other programs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A release, or a candidate.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Its name; of a candidate, that of the release that it would be.
    pub(super) release: ReleaseName,
    /// Where it lies, if it is a candidate.
    pub(super) candidate: Option<String>,
}

/// A stage that runs.
pub(super) struct Running {
    /// What all stages have.
    pub(super) shared: Arc<Shared>,
    /// Its pipeline.
    pub(super) pipeline: Pipeline,
    /// What the file says of it.
    pub(super) stage: Stage,
    /// Its commands.
    pub(super) commands: Commands,
    /// What they say.
    pub(super) output: Output,
    /// What the stages before it gave, and what it gave so far.
    pub(super) values: Values,
    /// What it has released.
    pub(super) made: Option<Made>,
    /// The image that it has published.
    pub(super) image: Option<PublishedImage>,
    /// What of it is kept in the bucket.
    pub(super) artifacts: Vec<KeptArtifact>,
}

impl Running {
    /// One that has done nothing yet, and ends when its time is over or `stop` says so.
    pub(super) fn begin(
        shared: Arc<Shared>,
        id: StageId,
        mut values: Values,
        stop: watch::Receiver<bool>,
    ) -> Result<Self> {
        let (pipeline, stage) = shared.stage(id);
        let (pipeline, stage) = (pipeline.clone(), stage.clone());
        let directory = shared.directory_of(&pipeline, &stage.name);
        let home = directory.join("home");
        std::fs::create_dir_all(&home)
            .with_context(|| format!("could not create the directory `{}`", home.display()))?;
        let variant = shared.variant(&pipeline, &stage);
        let time = shared.time(&pipeline, &stage);
        let limits = Limits { deadline: Instant::now() + time, time, stop };
        let mut environment = shared.environment.clone();
        environment.extend([
            ("HOME".to_owned(), home.to_string_lossy().into_owned()),
            ("PUSH_PIPELINE".to_owned(), pipeline.name.clone()),
            ("PUSH_STAGE".to_owned(), stage.name.clone()),
        ]);
        environment.extend(variant.map(|variant| variant.env.clone()).unwrap_or_default());
        for (name, value) in &shared.setup {
            values.give("setup", name, value);
        }
        values.give("setup", "pipeline", &pipeline.name);
        values.give("setup", "stage", &stage.name);
        let output = Output::new(&shared.label(id), shared.nth(id), shared.log(id))?;
        let commands = Commands::new(directory, environment, limits)?;
        Ok(Self { pipeline, stage, commands, output, values, made: None, image: None, artifacts: Vec::new(), shared })
    }

    /// A text of the file with the values put into it.
    pub(super) fn fill(&self, template: &Template) -> String {
        self.values.fill(template, &self.stage.name)
    }

    /// Gives a value to the stages that follow.
    pub(super) fn give(&mut self, name: &str, value: &str) {
        if !self.values.give(&self.stage.name, name, value) {
            self.output.say(&format!("only the last 64 KiB of the value `{name}` are kept"));
        }
    }

    /// Where its copy of the commit is, once it is made.
    pub(super) fn copy(&self) -> PathBuf {
        self.shared.copy_of(&self.pipeline, &self.stage.name)
    }

    /// Where its commands run, which is in its copy, whatever links it has made.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        let copy = self.copy();
        files::inside_directory(&copy, &self.shared.directory_in(&copy, &self.pipeline))
    }

    /// The variant that it builds.
    pub(super) fn variant(&self) -> Result<Variant, Unfinished> {
        let variant = self.shared.variant(&self.pipeline, &self.stage).cloned();
        // It was checked before anything ran.
        variant.ok_or_else(|| Unfinished::Failed("its variant is not there".to_owned()))
    }

    /// What is said of what it releases.
    pub(super) fn made_by(&self) -> Result<MadeBy> {
        let (pipeline, stage) = (self.pipeline.name.parse()?, self.stage.name.parse()?);
        Ok(MadeBy { pipeline, stage, run: self.shared.place.clone() })
    }

    /// Does what waits for files and other programs, as long as the stage may; then what it has started is ended.
    pub(super) async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, Unfinished> {
        let mut working = pin!(blocking(work));
        let reached = tokio::select! {
            done = &mut working => return Ok(done?),
            reached = self.commands.limits.reached() => reached,
        };
        let directory = self.shared.directory_of(&self.pipeline, &self.stage.name);
        let ending = async {
            while processes::end(|| processes::of_stage(None, &directory)).await {
                sleep(processes::PAUSE).await;
            }
        };
        tokio::select! {
            _ = &mut working => {}
            // What waits for files alone is nothing that could be ended.
            _ = timeout(PATIENCE, ending) => {}
        }
        Err(reached)
    }

    /// Until when it may go on.
    pub(super) fn limits(&mut self) -> &mut Limits {
        &mut self.commands.limits
    }
}

/// Does what waits for files and other programs, where that keeps nobody else waiting.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|_| {
        anyhow!("this is a fault of `release`: a thread of it broke off; report it with what it printed before")
    })?
}
