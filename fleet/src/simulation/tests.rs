//! The simulation itself: in how many trials something happens that must not. `make simulate` tries a thousand seeds.

use bucket::{Push, PushKind, Rollout, RolloutRules, RolloutStage, ServerName};
use jiff::SignedDuration;

use super::{
    trial::{Counts, play},
    world::{World, who},
};
use crate::{
    operation::{Intent, JustRead, Operator, carry_wave, find},
    poke::PokeSettings,
    policy::Policy,
    push::{Seen, read},
    rollout::{
        decide::{Decision, decide},
        drive::{Step, push_of},
        read::{Reader, names},
    },
    wish::{Share, Wish},
};

fn seeds(usual: u64) -> u64 {
    std::env::var("SIMULATE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

async fn all(seeds: impl Iterator<Item = u64>, ignores_stop_at: bool) -> Counts {
    let mut counts = Counts::default();
    let mut running = tokio::task::JoinSet::new();
    let one = |running: &mut tokio::task::JoinSet<Counts>, seed: u64| {
        running.spawn(async move {
            let directory = tempfile::tempdir().unwrap();
            Box::pin(play(directory.path(), seed, ignores_stop_at))
                .await
                .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"))
        });
    };
    for seed in seeds {
        one(&mut running, seed);
        if running.len() >= 4
            && let Some(done) = running.join_next().await
        {
            counts.add(done.unwrap());
        }
    }
    while let Some(done) = running.join_next().await {
        counts.add(done.unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_server_is_written_that_must_not_be() {
    let seeds = seeds(12);
    let counts = all(1..=seeds, false).await;
    println!("{counts}");
    assert!(counts.violations.is_empty(), "{}", counts.violations.join("\n"));
    assert!(counts.written > counts.trials && counts.killed > 0, "too little happened: {counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_ignores_stop_at_is_found_out() {
    let counts = all(1..=12, true).await;
    let found = counts.violations.iter().filter(|violation| violation.contains("had failed, and")).count();
    assert!(found > 0, "{counts}");
}

/// A fleet of two servers, and a rollout to both at once.
async fn world(directory: &std::path::Path, max_down: Share) -> (World, Rollout) {
    let servers = ["web-1", "web-2"].map(|name| name.parse().unwrap());
    let world = World::new(directory, 1, &servers, Policy::default()).await.unwrap();
    let rules = RolloutRules {
        settle_seconds: 60,
        within_seconds: 1800,
        enough_percent: 95,
        stop_at: 1,
        pause_after: Vec::new(),
        undo_on_stop: false,
    };
    let wish = Wish { waves: "rest".parse().unwrap(), rules, max_down: Some(max_down) };
    let rollout = world.begin(&wish).await.unwrap();
    (world, rollout)
}

#[tokio::test]
async fn a_driver_whose_clock_is_an_hour_off_keeps_to_the_budget() {
    for hours in [1, -1] {
        let directory = tempfile::tempdir().unwrap();
        let (world, rollout) = world(directory.path(), Share::Count(1)).await;
        let mut driver = world.driver("a driver", SignedDuration::from_hours(hours)).await.unwrap();
        assert!(matches!(driver.look(&rollout.id).await.unwrap(), Step::Moved(_)));
        let Step::Waits(rollout, waiting) = driver.look(&rollout.id).await.unwrap() else { panic!("it goes on") };
        let wrote = driver.machine().take_documents().len();
        assert_eq!((wrote, rollout.stage), (1, RolloutStage::Running), "a clock {hours} h ahead: {waiting}");
    }
}

/// Writes a server of a rollout over its document as it was noted, however late that is; gives whether it was written.
async fn write_late(world: &World, rollout: &Rollout, server: &ServerName, noted: &Seen) -> bool {
    let (app, to) = (rollout.app.clone(), Some(rollout.release.clone()));
    let from = rollout.row(server).unwrap().from.clone();
    let intent = Intent { server: server.clone(), app, from, to, kind: PushKind::Deploy };
    let operator = Operator {
        who: who("dev"),
        reason: String::new(),
        policy: world.policy().clone(),
        poke: PokeSettings::None,
        held: false,
        without_waves: false,
        channel: None,
    };
    let release = find(world.bucket(), &rollout.release).await.unwrap();
    let intents = vec![(intent, JustRead { release: Some(release), seen: noted.clone() })];
    carry_wave(world.bucket(), &operator, (push_of(rollout), None), intents, || true).await[0].is_pushed()
}

#[tokio::test]
async fn an_undo_leaves_nothing_that_a_slow_driver_writes_before_it_or_after_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (world, rollout) = world(directory.path(), Share::Percent(100)).await;
    let (bucket, [first, second]) =
        (world.bucket(), ["web-1", "web-2"].map(|name| name.parse::<ServerName>().unwrap()));
    let [noted_first, noted_second] = [read(bucket, &first).await.unwrap(), read(bucket, &second).await.unwrap()];
    // It notes both servers, and is slow from then on.
    let mut slow = world.driver("a slow driver", SignedDuration::ZERO).await.unwrap();
    slow.machine().dies_after(1);
    let _ = slow.look(&rollout.id).await;
    let mut reader = Reader::default();
    let servers = reader.read(bucket, &names(&rollout)).await.unwrap();
    decide(bucket, world.policy(), &rollout.id, Decision::Undo, (&who("dev"), ""), servers).await.unwrap();
    assert!(write_late(&world, &rollout, &first, &noted_first).await, "nobody has carried the undo on yet");
    let mut driver = world.driver("a driver", SignedDuration::ZERO).await.unwrap();
    for _ in 0..10 {
        driver.look(&rollout.id).await.unwrap();
    }
    let (_, ended) = bucket.rollout(&rollout.id).await.unwrap().unwrap();
    assert_eq!(ended.stage, RolloutStage::Undone, "{ended:?}");
    assert!(!write_late(&world, &rollout, &second, &noted_second).await, "it was written after the undo had ended");
    for (server, writes) in [(&first, 2), (&second, 0)] {
        let (_, document) = bucket.server_document(server).await.unwrap().unwrap();
        assert_eq!(document.release_of(&rollout.app), rollout.row(server).unwrap().from.as_ref(), "{server}");
        // To its agent and its history, one that was never written is as it was.
        let pushes = bucket.newest_history(server, 10).await.unwrap();
        let pushes = pushes.iter().filter(|entry| entry.who == "dev").count();
        assert_eq!(pushes, writes, "{server}");
    }
    let (written, document) = bucket.server_document(&second).await.unwrap().unwrap();
    assert_eq!(Some(document.metadata().said_since(written)), noted_second.generation);
}

#[tokio::test]
async fn what_a_newer_program_wrote_into_a_rollout_stays_there() {
    let directory = tempfile::tempdir().unwrap();
    let (world, begun) = world(directory.path(), Share::Percent(100)).await;
    let (generation, mut rollout) = world.bucket().rollout(&begun.id).await.unwrap().unwrap();
    rollout.other.insert("later".to_owned(), 1.into());
    rollout.waves[0].rows[1].other.insert("ticket".to_owned(), 2.into());
    world.bucket().write_rollout(&rollout, Some(generation)).await.unwrap();
    let mut driver = world.driver("a driver", SignedDuration::ZERO).await.unwrap();
    driver.look(&begun.id).await.unwrap();
    let (_, after) = world.bucket().rollout(&begun.id).await.unwrap().unwrap();
    let row = &after.waves[0].rows[1];
    assert_eq!((&after.other["later"], &row.other["ticket"]), (&1.into(), &2.into()));
    assert!(row.noted.is_some() && after.driven.is_some(), "it was written over: {after:?}");
}

#[tokio::test]
async fn what_the_push_of_an_undo_does_not_have_is_left_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let (world, rollout) = world(directory.path(), Share::Percent(100)).await;
    let mut driver = world.driver("a driver", SignedDuration::ZERO).await.unwrap();
    driver.look(&rollout.id).await.unwrap();
    let (bucket, mut reader) = (world.bucket(), Reader::default());
    let servers = reader.read(bucket, &names(&rollout)).await.unwrap();
    let undo = decide(bucket, world.policy(), &rollout.id, Decision::Undo, (&who("dev"), ""), servers).await.unwrap();
    // As a program recorded it that had seen only one of them as written.
    let undo = undo.undo.unwrap();
    let mut push = Push { id: undo.id, time: undo.began, kind: PushKind::Undo, ..push_of(&rollout) };
    push.rows.truncate(1);
    for row in &mut push.rows {
        std::mem::swap(&mut row.from, &mut row.to);
    }
    bucket.create_push(&push).await.unwrap();
    for _ in 0..10 {
        driver.look(&rollout.id).await.unwrap();
    }
    let (_, ended) = bucket.rollout(&rollout.id).await.unwrap().unwrap();
    let left: Vec<Option<&str>> = ended.rows().map(|row| row.left.as_deref()).collect();
    assert_eq!(
        (ended.stage.clone(), left),
        (
            RolloutStage::Undone,
            vec![None, Some("it could not be undone: the push that undoes the rollout does not have it")]
        )
    );
}
