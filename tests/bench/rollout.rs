//! A rollout to many servers, on a directory: what is decided about each wave, and what is written of it.
//!
//! Agents and the clock are simulated; what decides and writes is what a driver does.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bucket::{Rollout, RolloutRules, ServerName};
use fleet::{
    poke::PokeSettings,
    policy::Policy,
    rollout::{
        drive::Driver,
        next::{Next, Surroundings, next},
        observe::observe,
        read::{Around, Reader},
    },
    simulation::world::World,
    wish::{Share, Wish},
};
use harness::TempDir;
use jiff::SignedDuration;

use crate::measure::median;

const SERVERS: usize = 2000;
const WAVES: usize = 10;
const DECIDED_TARGET_MS: f64 = 50.0;
const WRITTEN_TARGET_S: f64 = 5.0;
/// How much of the simulation's time passes between two looks.
const LOOK: SignedDuration = SignedDuration::from_secs(20);
/// The longest that a rollout may take, in looks.
const LOOKS: usize = 1000;
/// Files that are written at the same time, as a push does.
const AT_ONCE: usize = 16;

/// What became of one wave.
struct Measured {
    servers: usize,
    deciding: Duration,
    writing: Duration,
}

pub(crate) fn bench() -> Result<()> {
    println!("a rollout of {SERVERS} servers in {WAVES} waves, file://");
    let directory = TempDir::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (waves, rollout) = runtime.block_on(roll_out(directory.path()))?;
    ensure!(waves.len() == WAVES, "it was written in {} waves", waves.len());
    let servers = waves.iter().map(|wave| wave.servers).max().unwrap_or_default();
    let decided: Vec<f64> = waves.iter().map(|wave| wave.deciding.as_secs_f64() * 1000.0).collect();
    let written: Vec<f64> = waves.iter().map(|wave| wave.writing.as_secs_f64()).collect();
    let json = median((0..WAVES).map(|_| as_json(&rollout)).collect::<Result<_>>()?) * 1000.0;
    let bare = median((0..WAVES).map(|wave| bare(directory.path(), wave, servers)).collect::<Result<_>>()?);
    let line = |what: &str, unit: &str, figures: Vec<f64>, floor: f64, target: f64| {
        let most = figures.iter().copied().fold(0.0, f64::max);
        let over = if most > target { "  over the target" } else { "" };
        let middle = median(figures);
        println!(
            "  {what:<16} {middle:>7.2} {unit}, {most:.2} at most; floor {floor:.2}, {:>5.2} × that{over}",
            middle / floor
        );
    };
    println!(
        "  each wave of {servers} servers; the floor is its object read and written as JSON, and {} bare files",
        servers * 2
    );
    line("decided", "ms", decided, json, DECIDED_TARGET_MS);
    line("written", "s", written, bare, WRITTEN_TARGET_S);
    println!(
        "  targets          {DECIDED_TARGET_MS:.0} ms to decide about a wave, {WRITTEN_TARGET_S:.0} s to write it"
    );
    Ok(())
}

/// Rolls a release out, and takes the measure of each look that writes a wave.
async fn roll_out(directory: &Path) -> Result<(Vec<Measured>, Rollout)> {
    let servers: Vec<ServerName> = (1..=SERVERS).map(|n| format!("web-{n}").parse()).collect::<Result<_, _>>()?;
    let mut world = World::new(directory, 1, &servers, Policy::default()).await?;
    let rules = RolloutRules {
        settle_seconds: 30,
        within_seconds: 1800,
        enough_percent: 95,
        stop_at: 1,
        pause_after: Vec::new(),
        undo_on_stop: false,
    };
    let count = (SERVERS / WAVES).to_string();
    let waves = [count.as_str(); WAVES - 1].join(",") + ",rest";
    let wish = Wish { waves: waves.parse()?, rules, max_down: Some(Share::Percent(100)) };
    let id = world.begin(&wish).await?.id;
    let bucket = world.bucket().clone();
    let driver =
        Driver { name: "bench".to_owned(), policy: world.policy().clone(), poke: PokeSettings::None, stop: None };
    let (mut reader, mut waves) = (Reader::default(), Vec::new());
    for _ in 0..LOOKS {
        let (generation, rollout) = bucket.rollout(&id).await?.context("the rollout is gone")?;
        if rollout.stage.is_over() {
            return Ok((waves, rollout));
        }
        let Around { servers, held, halted } = reader.around(&bucket, &rollout).await?;
        let begun = Instant::now();
        let seen = observe(rollout.clone(), servers);
        let decided = next(&seen, Surroundings { servers, held: &held, halted, now: bucket.now() });
        let (took, begun) = (begun.elapsed(), Instant::now());
        driver.step(&bucket, (generation, rollout), servers, &held, halted).await?;
        if let Next::Write(names) = decided {
            waves.push(Measured { servers: names.len(), deciding: took, writing: begun.elapsed() });
        }
        let next_look = world.now() + LOOK;
        world.pass(next_look, |_, _, _| ()).await?;
    }
    anyhow::bail!("the rollout is not over after {LOOKS} looks")
}

/// How long a driver takes at least to read the object of a rollout and to write it, in seconds.
fn as_json(rollout: &Rollout) -> Result<f64> {
    let text = serde_json::to_vec(rollout)?;
    let begun = Instant::now();
    let read: Rollout = serde_json::from_slice(&text)?;
    let written = serde_json::to_vec(&read)?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(written == text, "a rollout is another after it was read");
    Ok(took)
}

/// How long the documents and history entries of so many servers take at least: files that are written, synced and renamed.
fn bare(directory: &Path, wave: usize, servers: usize) -> Result<f64> {
    let directory = directory.join(format!("bare-{wave}"));
    fs::create_dir(&directory)?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..AT_ONCE)
            .map(|writer| {
                let directory = &directory;
                scope.spawn(move || (writer..servers * 2).step_by(AT_ONCE).try_for_each(|n| write_bare(directory, n)))
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

fn write_bare(directory: &Path, n: usize) -> Result<()> {
    let (temporary, path) = (directory.join(format!(".{n}")), directory.join(n.to_string()));
    let mut file = File::create(&temporary)?;
    file.write_all(&[b'x'; 200])?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    Ok(File::open(directory)?.sync_all()?)
}
