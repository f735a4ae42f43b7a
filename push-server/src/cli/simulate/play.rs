//! Playing a story: each command, and what then happens, line by line.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bucket::{PushId, Rollout, RolloutStage, ServerName, Timestamp};
use fleet::{
    condition::app_label,
    guard, hold,
    policy::{Policy, Reason, Way},
    rollout::{
        decide::{Decision, decide},
        drive::Step,
        next::Waiting,
        observe::{observe, row_state},
        read::{Reader, names},
    },
    simulation::world::{SimulatedDriver, World, who},
};
use jiff::SignedDuration;

use super::story::{Command, Story};
use crate::cli::{
    rollout::in_words,
    waves::{WaveOptions, named},
};

/// How often the driver of a story looks.
const LOOK: SignedDuration = SignedDuration::from_secs(10);

/// For how long a story runs that nothing ends.
const LONGEST: Duration = Duration::from_hours(24);

/// Plays a story in an empty directory. `tell` gets each line of the transcript.
///
/// # Errors
/// The line that can't be played, and why.
pub(super) async fn play(story: &Story, directory: &Path, mut tell: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut setup = Setup::default();
    let mut stage: Option<Stage> = None;
    for (at, line) in story.lines.iter().enumerate() {
        let in_line = || format!("line {}: `{}`", at + 1, line.text);
        let Some(command) = &line.command else {
            tell(&line.text)?;
            continue;
        };
        tell(&format!("> {}", line.text))?;
        let is_setup = matches!(command, Command::Servers(_) | Command::Seed(_) | Command::Policy(_));
        match (&mut stage, is_setup) {
            (None, true) => setup.take(command),
            (Some(_), true) => bail!("{}: it must come before the first command that does something", in_line()),
            (_, false) => {
                let mut begun = match stage.take() {
                    Some(stage) => stage,
                    None => Stage::new(directory, &setup).await.with_context(in_line)?,
                };
                begun.play(command, &mut tell).await.with_context(in_line)?;
                stage = Some(begun);
            }
        }
    }
    Ok(())
}

/// What a story says of its fleet before something happens there.
#[derive(Debug, Default)]
struct Setup {
    seed: u64,
    servers: Vec<ServerName>,
    policy: Policy,
}

impl Setup {
    fn take(&mut self, command: &Command) {
        match command {
            Command::Servers(servers) => self.servers.clone_from(servers),
            Command::Seed(seed) => self.seed = *seed,
            Command::Policy(policy) => self.policy = Policy::clone(policy),
            _ => {}
        }
    }
}

/// The fleet of a story, and its rollout.
struct Stage {
    world: World,
    driver: SimulatedDriver,
    rollout: Option<PushId>,
    /// What the rollout waited for when that was told last.
    told: String,
}

impl Stage {
    async fn new(directory: &Path, setup: &Setup) -> Result<Self> {
        if setup.servers.is_empty() {
            bail!("there are no servers yet: begin with `servers 3`");
        }
        let world = World::new(directory, setup.seed, &setup.servers, setup.policy.clone()).await?;
        let driver = world.driver("push simulate", SignedDuration::ZERO).await?;
        Ok(Self { world, driver, rollout: None, told: String::new() })
    }

    async fn play(&mut self, command: &Command, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let bucket = self.world.bucket().clone();
        match command {
            Command::Agent(server, fate) => self.world.change(server, |agent, _| agent.fate = *fate),
            Command::Turn(server, is_on) => self.world.change(server, |agent, now| agent.turn(*is_on, now)),
            Command::Rollout(options) => self.begin(options, tell).await,
            Command::Run(time) => self.run(*time, tell).await,
            Command::Wait(time) => self.pass(self.world.now() + *time, tell).await,
            Command::Push(server) => self.world.push(server).await,
            Command::Hold(server, time) => {
                let lasts = SignedDuration::try_from(*time)?;
                hold::hold(&bucket, &who("ops"), server, None, (lasts, "a simulation")).await.map(drop)
            }
            Command::Resume(server) => hold::resume(&bucket, server, None).await.map(drop),
            Command::Halt(true) => guard::begin_halt(&bucket, &who("ops"), "a simulation").await,
            Command::Halt(false) => guard::lift_halt(&bucket).await.map(drop),
            Command::Decide(decision) => self.decide(*decision, tell).await,
            Command::Show => self.show(tell).await,
            Command::Servers(_) | Command::Seed(_) | Command::Policy(_) => Ok(()),
        }
    }

    async fn begin(&mut self, options: &WaveOptions, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let servers: Vec<&ServerName> = self.world.servers().collect();
        let (who, reason, app) = (who("dev"), Reason::Given("a simulation"), self.world.release().app());
        let Way::Waves { wish, .. } = self.world.policy().way(&who, app, &servers, reason, &options.said())? else {
            bail!("a rollout has waves: `rollout --waves 1,rest`, or a policy that asks for some")
        };
        let rollout = self.world.begin(&wish).await?;
        for (at, wave) in rollout.waves.iter().enumerate() {
            let servers: Vec<&ServerName> = wave.rows.iter().map(|row| &row.server).collect();
            tell(&format!("  wave {} ({}): {}", at + 1, wave.what, named(&servers)))?;
        }
        for budget in &rollout.budgets {
            let group = budget.group.as_ref().map_or("in no group".to_owned(), |group| format!("of group {group}"));
            tell(&format!("  {} of {} {group} may be out", budget.allowed, budget.servers.len()))?;
        }
        self.rollout = Some(rollout.id);
        Ok(())
    }

    fn id(&self) -> Result<PushId> {
        self.rollout.clone().context("there is no rollout yet: begin one with `rollout --waves 1,rest`")
    }

    /// Has the rollout driven until it is over, or waits for a person, or so long.
    async fn run(&mut self, time: Option<Duration>, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let (id, end) = (self.id()?, self.world.now() + time.unwrap_or(LONGEST));
        loop {
            if self.look(&id, tell).await? && time.is_none() {
                return Ok(());
            }
            let now = self.world.now();
            if now >= end {
                return Ok(());
            }
            self.pass(end.min(now + LOOK), tell).await?;
        }
    }

    /// Does what there is to do about the rollout now; whether nothing more happens without a person.
    async fn look(&mut self, id: &PushId, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<bool> {
        loop {
            let step = self.driver.look(id).await?;
            let wrote: BTreeSet<ServerName> =
                self.driver.machine().take_documents().into_iter().map(|(server, _)| server).collect();
            let now = clock(self.world.now());
            match step {
                Step::Moved(rollout) => {
                    if !wrote.is_empty() {
                        let mut servers: Vec<&ServerName> =
                            rollout.rows().map(|row| &row.server).filter(|server| wrote.contains(server)).collect();
                        let is_undone = rollout.stage == RolloutStage::Undoing;
                        if is_undone {
                            // The newest wave comes first.
                            servers.reverse();
                        }
                        let verb = if is_undone { "restored" } else { "wrote" };
                        tell(&format!("  {now} {verb} {}", named(&servers)))?;
                    }
                    self.told.clear();
                    if rollout.stage != RolloutStage::Running && wrote.is_empty() {
                        tell(&format!("  {now} {}", stage(&rollout)))?;
                        if rollout.stage != RolloutStage::Undoing {
                            return Ok(true);
                        }
                    }
                }
                Step::Waits(_, waiting) => {
                    let text = waiting.to_string();
                    if text != self.told {
                        tell(&format!("  {now} {text}"))?;
                        self.told = text;
                    }
                    let needs_person = |waiting: &Waiting| {
                        matches!(waiting, Waiting::Halt | Waiting::Decision | Waiting::Verdict(_) | Waiting::Nothing)
                    };
                    return Ok(needs_person(&waiting));
                }
                Step::Contended => return Ok(false),
            }
        }
    }

    async fn pass(&mut self, until: Timestamp, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut told = Ok(());
        let passed = self.world.pass(until, |at, server, agent| {
            let (_, _, state) = agent.last_said();
            let again = if agent.has_settled() && app_label(state) == "converged" { ", and stayed so" } else { "" };
            let line = format!("  {} {server}: {}{again}", clock(at), app_label(state));
            if told.is_ok() {
                told = tell(&line);
            }
        });
        passed.await?;
        told
    }

    async fn decide(&mut self, decision: Decision, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let (id, bucket) = (self.id()?, self.world.bucket());
        let (_, rollout) = bucket.rollout(&id).await?.context("the rollout is gone")?;
        let mut reader = Reader::default();
        let servers = reader.read(bucket, &names(&rollout)).await?;
        // That something can't be decided is part of the story.
        match decide(bucket, self.world.policy(), &id, decision, (&who("dev"), ""), servers).await {
            Ok(rollout) => tell(&format!("  {} {}", clock(self.world.now()), stage(&rollout))),
            Err(error) => tell(&format!("  error: {error:#}").replace(id.as_str(), "of the story")),
        }
    }

    async fn show(&self, tell: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let (id, bucket) = (self.id()?, self.world.bucket());
        let (_, rollout) = bucket.rollout(&id).await?.context("the rollout is gone")?;
        let mut reader = Reader::default();
        let servers = reader.read(bucket, &names(&rollout)).await?;
        let rollout = observe(rollout, servers);
        tell(&format!("  {}", stage(&rollout)))?;
        for (at, wave) in rollout.waves.iter().enumerate() {
            for row in &wave.rows {
                let state = row_state(&rollout, row, servers.get(&row.server), self.world.now());
                tell(&format!("  wave {}, {}: {}", at + 1, row.server, in_words(&state)))?;
            }
        }
        Ok(())
    }
}

/// How a rollout is, in a sentence.
fn stage(rollout: &Rollout) -> String {
    match (&rollout.stage, &rollout.stopped) {
        (RolloutStage::Stopped, Some(why)) => format!("the rollout has stopped: {why}"),
        (RolloutStage::Undoing, Some(why)) => format!("the rollout is being undone: {why}"),
        (RolloutStage::Undoing, None) => "the rollout is being undone".to_owned(),
        (stage, _) => format!("the rollout is {}", stage.as_str()),
    }
}

/// The time of the simulation's day.
fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%S").to_string()
}
