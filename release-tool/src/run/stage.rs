//! One stage: its actions, one after the other, in a copy of the commit of its own.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use bucket::{KeptArtifact, PublishedImage};
use pipeline::{Action, Copy, Export, Run};
use tokio::sync::watch;

use crate::run::{
    Shared, archive, channel,
    command::ensure_no_zero,
    deploy, files,
    graph::{StageId, State},
    image,
    limits::Unfinished,
    publish,
    running::{Made, Running},
    values::Values,
};

/// What became of a stage, and what it gave.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which one.
    pub(super) id: StageId,
    /// As what it ended.
    pub(super) state: State,
    /// Why, unless it passed.
    pub(super) why: Option<String>,
    /// Its values.
    pub(super) values: Values,
    /// What it released.
    pub(super) made: Option<Made>,
    /// The image that it published.
    pub(super) image: Option<PublishedImage>,
    /// What of it is kept in the bucket.
    pub(super) artifacts: Vec<KeptArtifact>,
}

/// Runs a stage to its end, which is before its time is over, or soon after `stop` says so.
pub(super) async fn run(shared: Arc<Shared>, id: StageId, before: Values, stop: watch::Receiver<bool>) -> Ended {
    let is_stopped = {
        let stop = stop.clone();
        move || *stop.borrow()
    };
    let (done, values, (made, image), artifacts) = match Running::begin(shared, id, before, stop) {
        Ok(mut running) => {
            let done = actions(&mut running).await;
            running.output.end();
            (done, running.values, (running.made, running.image), running.artifacts)
        }
        Err(error) => (Err(error.into()), Values::default(), (None, None), Vec::new()),
    };
    let (state, why) = match done {
        // What fails as it is ended has not failed.
        Err(Unfinished::Failed(_)) if is_stopped() => (State::Stopped, Some("it was stopped".to_owned())),
        Ok(()) => (State::Passed, None),
        Err(Unfinished::Failed(why)) => (State::Failed, Some(why)),
        Err(Unfinished::Stopped) => (State::Stopped, Some("it was stopped".to_owned())),
    };
    Ended { id, state, why, values, made, image, artifacts }
}

async fn actions(running: &mut Running) -> Result<(), Unfinished> {
    let actions = running.stage.actions.clone();
    if actions.iter().any(needs_copy) {
        make_copy(running).await?;
    }
    for action in &actions {
        match action {
            Action::Build(_) => build(running).await?,
            Action::Run(run) => run_entrypoint(running, run).await?,
            Action::Copy(copies) => copy(running, copies).await?,
            Action::Publish(publish) => {
                let made = publish::publish(running, publish).await?;
                running.give("release", &made.release.to_string());
                running.made = Some(made);
            }
            Action::Image(image) => image::image(running, image).await?,
            Action::Deploy(trial) => deploy::deploy(running, trial).await?,
            Action::Channel(moves) => channel::channel(running, moves).await?,
            Action::Exports(exports) => export(running, exports),
        }
    }
    Ok(())
}

fn needs_copy(action: &Action) -> bool {
    match action {
        Action::Build(_) | Action::Run(_) | Action::Copy(_) | Action::Publish(_) | Action::Image(_) => true,
        // What tests it may lie there.
        Action::Deploy(trial) => !trial.test.is_empty(),
        Action::Channel(_) | Action::Exports(_) => false,
    }
}

async fn make_copy(running: &mut Running) -> Result<(), Unfinished> {
    let (shared, to) = (running.shared.clone(), running.copy());
    running.blocking(move || shared.original.copy(&to).context("could not make a copy of the commit")).await
}

async fn build(running: &mut Running) -> Result<(), Unfinished> {
    let variant = running.variant()?;
    for command in &variant.build {
        let directory = running.directory()?;
        running.commands.run(command, &BTreeMap::new(), &directory, &mut running.output).await?;
    }
    let directory = running.directory()?;
    running.give("buildDirectory", &directory.to_string_lossy());
    Ok(())
}

async fn run_entrypoint(running: &mut Running, run: &Run) -> Result<(), Unfinished> {
    let (variant, directory) = (running.variant()?, running.directory()?);
    let arguments = run.arguments.iter().map(|argument| running.fill(argument));
    let command: Vec<String> = variant.entrypoint.iter().cloned().chain(arguments).collect();
    let variables: BTreeMap<String, String> =
        run.env.iter().map(|(name, value)| (name.clone(), running.fill(value))).collect();
    ensure_no_zero(command.iter().chain(variables.values()))?;
    running.commands.run(&command, &variables, &directory, &mut running.output).await?;
    let (said, known) = running.output.last_lines(run.tail);
    for known in known {
        running.output.say(known);
    }
    running.give("output", &said);
    Ok(())
}

async fn copy(running: &mut Running, copies: &[Copy]) -> Result<(), Unfinished> {
    for copy in copies {
        let shared = &running.shared;
        let (from, own) = (shared.copy_of(&running.pipeline, &copy.from), running.copy());
        let (from_directory, directory) =
            (shared.directory_in(&from, &running.pipeline), shared.directory_in(&own, &running.pipeline));
        let stays = copy.from == running.stage.name && copy.source == copy.destination;
        let Copy { source, destination, archive, .. } = copy.clone();
        let found = running
            .blocking(move || {
                let from_directory = files::inside_directory(&from, &from_directory)?;
                let directory = files::inside_directory(&own, &directory)?;
                let found = files::find(&from, &from_directory, &source, &destination)?;
                if !stays {
                    found.iter().try_for_each(|found| files::take(&own, &directory, found))?;
                }
                Ok(found)
            })
            .await?;
        if archive {
            archive::archive(running, &found).await?;
        }
    }
    let paths: Vec<&str> = running.artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
    running.give("artifacts", &paths.join("\n"));
    Ok(())
}

fn export(running: &mut Running, exports: &[Export]) {
    for export in exports {
        let value = running.fill(&export.value);
        running.give(&export.name, &value);
    }
}
