//! Trials: a rollout of random shape on a fleet where everything goes wrong that can, and what must never happen all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use anyhow::{Context, Result};
use bucket::{
    AppState, Budget, Generation, PushId, Rollout, RolloutRules, RolloutStage, ServerName, Timestamp, WaveRow,
};
use jiff::SignedDuration;

use super::{
    Chance,
    agent::{Fate, HEALTH_WINDOW, POLL},
    world::{SimulatedDriver, World, who},
};
use crate::{
    guard, hold,
    policy::Policy,
    rollout::{
        decide::{Decision, decide},
        drive::Step,
        next::Waiting,
        read::{Reader, names},
    },
    wish::{Share, Wish},
};

/// How long a trial goes on at most, by its own clock.
const LONGEST: SignedDuration = SignedDuration::from_hours(5);

/// From when on a server that says nothing is surely out, by its heartbeats.
const OVERDUE: SignedDuration = SignedDuration::from_mins(24);

/// From when on a server that was written and says nothing has surely failed.
const SILENT: SignedDuration = SignedDuration::from_secs(2 * POLL.as_secs() + HEALTH_WINDOW.as_secs() + 60);

/// What happened in trials, and what must not have.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) trials: usize,
    pub(super) servers: usize,
    pub(super) looks: usize,
    pub(super) written: usize,
    pub(super) restored: usize,
    pub(super) killed: usize,
    pub(super) happened: BTreeMap<&'static str, usize>,
    pub(super) ended: BTreeMap<String, usize>,
    pub(super) violations: Vec<String>,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.trials += other.trials;
        self.servers += other.servers;
        self.looks += other.looks;
        self.written += other.written;
        self.restored += other.restored;
        self.killed += other.killed;
        for (what, count) in other.happened {
            *self.happened.entry(what).or_default() += count;
        }
        for (stage, count) in other.ended {
            *self.ended.entry(stage).or_default() += count;
        }
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<(String, usize)>| {
            counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        };
        let happened = self.happened.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        let ended = self.ended.iter().map(|(stage, count)| (stage.clone(), *count)).collect();
        writeln!(f, "{} rollouts to {} servers; {} looks of drivers", self.trials, self.servers, self.looks)?;
        writeln!(
            f,
            "{} documents written, {} restored, drivers killed {} times",
            self.written, self.restored, self.killed
        )?;
        writeln!(f, "happened: {}", list(happened))?;
        writeln!(f, "ended: {}", list(ended))?;
        write!(f, "violations: {}", self.violations.len())
    }
}

/// One trial, and what is known of it without any driver.
struct Trial {
    seed: u64,
    world: World,
    chance: Chance,
    id: PushId,
    rules: RolloutRules,
    /// Whether the clocks of drivers are off, each by as much as an hour.
    clock_off: bool,
    /// The generation of each server's document, and when it was written.
    documents: BTreeMap<ServerName, (Generation, Timestamp)>,
    written: BTreeMap<ServerName, usize>,
    restored: BTreeMap<ServerName, usize>,
    taken: BTreeSet<ServerName>,
    held: BTreeMap<ServerName, Timestamp>,
    halted: bool,
    counts: Counts,
}

/// A document that a driver wrote.
struct Wrote {
    server: ServerName,
    generation: Generation,
    /// Whether to undo the rollout.
    is_undo: bool,
}

/// Plays the trial of a seed in an empty directory. With `ignores_stop_at`, its drivers do just that.
pub(super) async fn play(directory: &Path, seed: u64, ignores_stop_at: bool) -> Result<Counts> {
    let mut chance = Chance::new(seed.wrapping_mul(0x1000_0001).wrapping_add(7));
    let servers = servers(seed, &mut chance)?;
    let groups = "{ Groups: { a: { Servers: ['a-*'] }, b: { Servers: ['b-*'] } } }";
    let policy = Policy::parse("x", groups).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let mut world = World::new(directory, seed, &servers, policy).await?;
    // In a large fleet as few go wrong as in a small one: else it stops before much has happened.
    let rarer = (servers.len() as u64 / 40).max(1);
    let bad = (2 + chance.below(20)) * rarer;
    for server in &servers {
        if chance.once_in(bad) {
            let fate = Fate::ALL[usize::try_from(chance.below(Fate::ALL.len() as u64))?];
            world.change(server, |agent, _| agent.fate = fate)?;
        }
        if chance.once_in(30 * rarer) {
            world.change(server, |agent, now| agent.turn(false, now))?;
        }
        if chance.once_in(5 * rarer) {
            let hours = [-24 * 365, -1, 1, 24 * 365][usize::try_from(chance.below(4))?];
            world.change(server, |agent, _| agent.ahead = SignedDuration::from_hours(hours))?;
        }
    }
    let mut documents = BTreeMap::new();
    for server in &servers {
        let generation = world.agent(server).and_then(|agent| agent.last_said().0).context("it has not reported")?;
        documents.insert(server.clone(), (generation, world.now()));
    }
    // Those that are off may be overdue by now, or not yet.
    let passed = SignedDuration::from_mins(i64::try_from(chance.below(40))?);
    world.pass(world.now() + passed, |_, _, _| ()).await?;
    let rollout = world.begin(&wish(&mut chance, servers.len())?).await?;
    let clock_off = chance.once_in(5);
    let counts = Counts { trials: 1, servers: servers.len(), ..Counts::default() };
    let (id, rules) = (rollout.id, rollout.rules);
    let (written, restored, taken, held) = Default::default();
    let mut trial = Trial {
        seed,
        world,
        chance,
        id,
        rules,
        clock_off,
        documents,
        written,
        restored,
        taken,
        held,
        halted: false,
        counts,
    };
    Box::pin(trial.run(ignores_stop_at)).await?;
    Ok(trial.counts)
}

/// Most fleets are small; every tenth has forty servers, every hundredth two hundred, and every thousandth ten thousand.
fn servers(seed: u64, chance: &mut Chance) -> Result<Vec<ServerName>> {
    let count = match seed {
        seed if seed % 1000 == 0 => 10_000,
        seed if seed % 100 == 0 => 200,
        seed if seed % 10 == 0 => 40,
        _ => 2 + chance.below(12),
    };
    let group = |n: u64| match n % 4 {
        0 | 1 => "a",
        2 => "b",
        _ => "c",
    };
    (1..=count).map(|n| Ok(format!("{}-{n}", group(n)).parse()?)).collect()
}

fn wish(chance: &mut Chance, servers: usize) -> Result<Wish> {
    let pick = |chance: &mut Chance, bound: u64| usize::try_from(chance.below(bound)).unwrap_or(0);
    let waves = ["rest", "1,rest", "1,10%,rest", "25%,50%,rest", "2,2,rest"][pick(chance, 5)];
    let is_large = servers >= 1000;
    let one_by_one = if is_large { Share::Percent(10) } else { Share::Count(1) };
    let two_by_two = if is_large { Share::Percent(20) } else { Share::Count(2) };
    let shares = [None, Some(one_by_one), Some(two_by_two), Some(Share::Percent(30)), Some(Share::Percent(100))];
    Ok(Wish {
        waves: waves.parse()?,
        rules: RolloutRules {
            settle_seconds: 30 + chance.below(150),
            within_seconds: 1800,
            enough_percent: if chance.once_in(2) { 95 } else { 80 },
            stop_at: (1 + pick(chance, 3)) * (servers / 1000).max(1),
            pause_after: Vec::new(),
            undo_on_stop: chance.once_in(4),
        },
        max_down: shares[pick(chance, 5)],
    })
}

/// What a rollout waits for when its trial ends.
fn waits_for(waiting: &Waiting) -> &'static str {
    match waiting {
        Waiting::Halt => " while all pushes are halted",
        Waiting::Decision | Waiting::Verdict(_) => " and waiting for a person",
        Waiting::Reports(_) | Waiting::Settling(..) => " and waiting for reports",
        Waiting::Budget { .. } => " with as many servers out as may be",
        Waiting::Holds(..) => " and waiting for holds to end",
        Waiting::Nothing => "",
    }
}

impl Trial {
    async fn run(&mut self, ignores_stop_at: bool) -> Result<()> {
        let end = self.world.now() + LONGEST;
        let mut drivers = [self.driver(ignores_stop_at).await?, self.driver(ignores_stop_at).await?];
        let has_two = self.chance.once_in(2);
        let mut last = None;
        while self.world.now() < end {
            let rollout = self.rollout().await?;
            if rollout.stage.is_over() || (rollout.stage == RolloutStage::Stopped && self.chance.once_in(10)) {
                break;
            }
            for driver in &mut drivers {
                if self.chance.once_in(12) {
                    driver.machine().dies_after(i64::try_from(self.chance.below(8))?);
                }
            }
            let [one, other] = &mut drivers;
            // What a driver can't do is tried again, by it or by the next.
            let step = if has_two {
                tokio::join!(one.look(&self.id), other.look(&self.id)).0
            } else {
                one.look(&self.id).await
            };
            if let Ok(step) = step {
                last = Some(step);
            }
            self.counts.looks += 1 + usize::from(has_two);
            let mut wrote: Vec<Wrote> = Vec::new();
            for driver in &drivers {
                for (server, generation) in driver.machine().take_documents() {
                    if !self.is_closed(&server, generation).await? {
                        wrote.push(Wrote { server, generation, is_undo: driver.undoes });
                    }
                }
            }
            wrote.sort_by_key(|wrote| wrote.generation);
            self.judge(&rollout, &wrote);
            for driver in &mut drivers {
                if driver.machine().is_dead() {
                    self.counts.killed += 1;
                    *driver = self.driver(ignores_stop_at).await?;
                }
            }
            self.happen(&rollout).await?;
            let looks_after = SignedDuration::from_secs(2 + i64::try_from(self.chance.below(40))?);
            self.world.pass(self.world.now() + looks_after, |_, _, _| ()).await?;
        }
        let stage = self.rollout().await?.stage;
        let why = match (&stage, last) {
            (RolloutStage::Running | RolloutStage::Undoing, Some(Step::Waits(_, waiting))) => waits_for(&waiting),
            (RolloutStage::Running | RolloutStage::Undoing, _) => " and at work",
            _ => "",
        };
        *self.counts.ended.entry(format!("{}{why}", stage.as_str())).or_default() += 1;
        Ok(())
    }

    /// Whether a driver wrote a document as it was, so that no other writes it.
    async fn is_closed(&self, server: &ServerName, generation: Generation) -> Result<bool> {
        let (written, document) = self.world.bucket().server_document(server).await?.context("its document is gone")?;
        Ok(written == generation && document.metadata().said_since(written) < written)
    }

    async fn driver(&mut self, ignores_stop_at: bool) -> Result<SimulatedDriver> {
        let hours = if self.clock_off { [1, 0, -1][usize::try_from(self.chance.below(3))?] } else { 0 };
        let mut driver = self.world.driver("a driver", SignedDuration::from_hours(hours)).await?;
        driver.ignores_stop_at = ignores_stop_at;
        Ok(driver)
    }

    async fn rollout(&self) -> Result<Rollout> {
        Ok(self.world.bucket().rollout(&self.id).await?.context("the rollout is gone")?.1)
    }

    /// What people and machines do beside the rollout.
    async fn happen(&mut self, rollout: &Rollout) -> Result<()> {
        let servers: Vec<ServerName> = self.documents.keys().cloned().collect();
        let server = servers[usize::try_from(self.chance.below(servers.len() as u64))?].clone();
        let (bucket, now) = (self.world.bucket().clone(), self.world.now());
        let what = match self.chance.below(400) {
            0..3 if !self.taken.contains(&server) && !rollout.stage.is_over() => {
                let before = self.documents[&server].0;
                if self.world.push(&server).await.is_ok() {
                    let read = bucket.server_document(&server).await?.context("its document is gone")?;
                    assert!(read.0 > before, "a push changes the generation");
                    self.documents.insert(server.clone(), (read.0, now));
                    self.taken.insert(server);
                }
                "taken over"
            }
            10..16 => {
                let lasts = SignedDuration::from_mins(1 + i64::try_from(self.chance.below(40))?);
                hold::hold(&bucket, &who("ops"), &server, None, (lasts, "")).await?;
                self.held.insert(server, now + lasts);
                "held"
            }
            20..23 if !self.halted => {
                guard::begin_halt(&bucket, &who("ops"), "a trial").await?;
                self.halted = true;
                "halted"
            }
            30..60 if self.halted => {
                guard::lift_halt(&bucket).await?;
                self.halted = false;
                "lifted"
            }
            70..76 => {
                let is_on = self.world.agent(&server).is_some_and(super::agent::Agent::is_on);
                self.world.change(&server, |agent, now| agent.turn(!is_on, now))?;
                if is_on { "turned off" } else { "turned on" }
            }
            100..160 if rollout.stage == RolloutStage::Stopped => {
                let decision = [Decision::Undo, Decision::Continue, Decision::ContinueWith(Share::Percent(50))];
                let decision = decision[usize::try_from(self.chance.below(3))?];
                let mut reader = Reader::default();
                let read = reader.read(&bucket, &names(rollout)).await?;
                let _ = decide(&bucket, self.world.policy(), &self.id, decision, (&who("dev"), ""), read).await;
                if decision == Decision::Undo { "undone by a person" } else { "continued by a person" }
            }
            200..203 if !rollout.stage.is_over() => {
                let mut reader = Reader::default();
                let read = reader.read(&bucket, &names(rollout)).await?;
                let decision = Decision::ContinueWith(Share::Percent(100));
                let _ = decide(&bucket, self.world.policy(), &self.id, decision, (&who("dev"), ""), read).await;
                "allowed to have all out"
            }
            _ => return Ok(()),
        };
        *self.counts.happened.entry(what).or_default() += 1;
        Ok(())
    }

    /// What was written, in order, while the rollout was as it is in `rollout`, and agents had said what they have said.
    fn judge(&mut self, rollout: &Rollout, wrote: &[Wrote]) {
        if wrote.is_empty() {
            return;
        }
        let mut out: BTreeSet<ServerName> =
            self.documents.keys().filter(|server| self.is_out(server)).cloned().collect();
        let mut budgets: Vec<(&Budget, BTreeSet<&ServerName>, usize)> = Vec::new();
        for budget in &rollout.budgets {
            let down = budget.servers.iter().filter(|server| out.contains(*server)).count();
            budgets.push((budget, budget.servers.iter().collect(), down));
        }
        let mut found = Vec::new();
        let mut too_early = BTreeMap::new();
        if wrote.iter().any(|wrote| !wrote.is_undo) {
            found.extend(self.must_not_write(rollout));
            too_early = self.too_early(rollout);
        }
        for Wrote { server, is_undo, .. } in wrote {
            let is_undo = *is_undo;
            let count = if is_undo { &mut self.restored } else { &mut self.written };
            let count = count.entry(server.clone()).or_default();
            *count += 1;
            if *count > 1 {
                let what = if is_undo { "restored" } else { "written" };
                found.push(format!("`{server}` was {what} {count} times"));
            }
            if self.held.get(server).is_some_and(|until| *until > self.world.now()) {
                found.push(format!("`{server}` was written while it was held"));
            }
            found.extend(
                too_early.get(server).filter(|_| !is_undo).map(|why| format!("`{server}` was written while {why}")),
            );
            if self.taken.contains(server) {
                found.push(format!("`{server}` was written over somebody's push"));
            }
            // One whose machine is off can't be taken out, whether or not that shows yet.
            let is_on = self.world.agent(server).is_some_and(super::agent::Agent::is_on);
            let is_down = out.contains(server) || !is_on;
            let is_new = !out.contains(server);
            for (budget, _, down) in budgets.iter_mut().filter(|(_, servers, _)| servers.contains(server)) {
                if !is_down && *down >= budget.allowed {
                    found.push(format!(
                        "`{server}` was {} while {down} of {:?} were out, {} allowed",
                        if is_undo { "restored" } else { "written" },
                        budget.group,
                        budget.allowed
                    ));
                }
                *down += usize::from(is_new);
            }
            out.insert(server.clone());
        }
        for Wrote { server, generation, is_undo } in wrote {
            self.documents.insert(server.clone(), (*generation, self.world.now()));
            let total = if *is_undo { &mut self.counts.restored } else { &mut self.counts.written };
            *total += 1;
        }
        let at = self.world.now();
        self.counts.violations.extend(found.into_iter().map(|what| format!("seed {}, {at}: {what}", self.seed)));
    }

    /// Why nothing may be written now, whichever server it is.
    fn must_not_write(&self, rollout: &Rollout) -> Option<String> {
        if rollout.stage != RolloutStage::Running {
            return Some(format!("it was written while the rollout was {}", rollout.stage.as_str()));
        }
        if self.halted {
            return Some("it was written while all pushes were halted".to_owned());
        }
        let failed = rollout.counted().filter(|row| self.has_failed(row)).count();
        (failed >= self.rules.stop_at)
            .then(|| format!("it was written though {failed} had failed, and {} stop it", self.rules.stop_at))
    }

    /// Which servers may not be written yet, and why.
    fn too_early(&self, rollout: &Rollout) -> BTreeMap<ServerName, String> {
        let now = self.world.now();
        let mut waits = None;
        let mut too_early = BTreeMap::new();
        for (number, wave) in rollout.waves.iter().enumerate() {
            if let Some(why) = &waits {
                too_early.extend(wave.rows.iter().map(|row| (row.server.clone(), String::clone(why))));
                continue;
            }
            let is_held = |row: &&WaveRow| {
                !self.written.contains_key(&row.server) && self.held.get(&row.server).is_some_and(|until| *until > now)
            };
            let counts = |row: &&WaveRow| row.counts() && !self.taken.contains(&row.server) && !is_held(row);
            let rows: Vec<&WaveRow> = wave.rows.iter().filter(counts).collect();
            let good = rows.iter().filter(|row| self.is_good(&row.server)).count();
            let percent = usize::from(self.rules.enough_percent);
            let enough = if rows.len() <= 10 { rows.len() } else { (rows.len() * percent).div_ceil(100) };
            waits = (good < enough).then(|| format!("wave {} had {good} of {enough}", number + 1));
        }
        too_early
    }

    /// Whether the agent of a server said that the release settled there.
    fn is_good(&self, server: &ServerName) -> bool {
        let is_about = self.said(server).is_some_and(|(is_about, _)| is_about);
        is_about && self.world.agent(server).is_some_and(super::agent::Agent::has_settled)
    }

    /// Whether a server's last report is about its document, and how it is.
    fn said(&self, server: &ServerName) -> Option<(bool, AppState)> {
        let (generation, _, state) = self.world.agent(server)?.last_said();
        Some((generation >= Some(self.documents.get(server)?.0), state))
    }

    fn has_failed(&self, row: &WaveRow) -> bool {
        let server = &row.server;
        if !self.written.contains_key(server) || self.taken.contains(server) || self.restored.contains_key(server) {
            return false;
        }
        match self.said(server) {
            Some((true, state)) => !matches!(state, AppState::Converged | AppState::Pending),
            _ => self.is_quiet(server, SILENT),
        }
    }

    /// Whether nothing was heard of a server for so long, since its document was written.
    fn is_quiet(&self, server: &ServerName, longer_than: SignedDuration) -> bool {
        let heard = self.world.agent(server).and_then(super::agent::Agent::last_reported);
        let since = heard.max(self.documents.get(server).map(|(_, written)| *written));
        since.is_some_and(|since| self.world.now().duration_since(since) > longer_than)
    }

    fn is_out(&self, server: &ServerName) -> bool {
        let is_well = matches!(self.said(server), Some((true, AppState::Converged)));
        !is_well || self.is_quiet(server, OVERDUE)
    }
}
